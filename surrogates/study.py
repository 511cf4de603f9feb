"""A study from data to verdict: split → fit → sample → baselines → scores → report.

The stages that every example shares. A study leaves four files in its folder: `model.surrogate`, `synthetic.nc`,
`scores.nc` (the scores of the surrogate, of fresh draws of the truth where there are any, and of the fitted Gaussian
field, along `source`) and `report.html`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sdesim import storage
from surrogates.alignment import samples
from surrogates.layouts import split_blocks
from surrogates.report import report
from surrogates.scores import compare
from surrogates.surrogate import Surrogate

Fresh = Callable[[Mapping[str, Any], int], xr.Dataset]


@dataclass(frozen=True)
class Outcome:
    """What a study found and where it lies: `files` from what a file holds to its path."""

    model: Surrogate
    synthetic: xr.Dataset
    scores: xr.Dataset
    files: dict[str, Path]


def split_members(ds: xr.Dataset, held: int) -> tuple[xr.Dataset, xr.Dataset]:
    """(training, held-out) by member: the last `held` of the members that came through (status 0), whole.

    Raises ValueError where that leaves fewer than two members on either side.

    >>> ds = xr.Dataset({"u": (("member", "x"), np.ones((10, 4)))}, {"member": np.arange(10)})
    >>> [part.sizes["member"] for part in split_members(ds, 3)]
    [7, 3]
    """
    sound = ds.isel(member=np.flatnonzero(ds["status"].to_numpy() == 0)) if "status" in ds else ds
    members = sound.sizes["member"]
    if not 2 <= held <= members - 2:
        raise ValueError(f"held-out members must number from 2 to {members - 2} of {members}, got {held}")
    return sound.isel(member=slice(0, members - held)), sound.isel(member=slice(members - held, None))


def split_times(
    ds: xr.Dataset, *, fraction: float = 0.25, blocks: int = 4, gap: int = 24
) -> tuple[xr.Dataset, xr.Dataset]:
    """(training, held-out) of a series by blocks of time: `gap` times beside every held-out block are in neither.

    Neighbours in time are nearly the same field; a random split would put the answer into the training set. Raises
    ValueError where too little is left to train on.

    >>> ds = xr.Dataset(coords={"time": np.arange(200)})
    >>> train, held = split_times(ds, gap=5)
    >>> train.sizes["time"], held.sizes["time"]
    (112, 48)
    """
    inside, outside = split_blocks(ds.sizes["time"], fraction=fraction, blocks=blocks, gap=gap)
    if len(inside) < 2 or len(outside) < 2:
        raise ValueError(
            f"wanted times on both sides of the split, got {len(inside)} for training and {len(outside)} held out of "
            f"{ds.sizes['time']}: take fewer blocks, a smaller fraction or a smaller gap"
        )
    return ds.isel(time=inside), ds.isel(time=outside)


def draw(
    model: Surrogate, members: int, condition: Mapping[str, Any], *, seed: int, law: str | None = None,
    words: str = "", progress: bool = True, block: int = 256, options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """`members` draws in blocks under a progress bar: the same fields as one call of `model.sample` with `options`.

    >>> u = xr.DataArray(np.random.default_rng(0).normal(size=(60, 16)), dims=("member", "x"))
    >>> model = Surrogate(["u"], network=False).fit(xr.Dataset({"u": u}))
    >>> bool(np.allclose(draw(model, 5, {}, seed=1, progress=False, block=2).u, model.sample(5, seed=1).u))
    True
    """
    from tqdm import tqdm

    columns = {name: np.broadcast_to(np.asarray(v, dtype=np.float64), members) for name, v in condition.items()}
    parts = []
    with tqdm(total=members, desc=words or "drawing synthetic members", unit="member", disable=not progress) as bar:
        for first in range(0, members, block):
            chosen = np.arange(first, min(first + block, members))
            own = {name: values[chosen] for name, values in columns.items()}
            parts.append(model.sample([int(i) for i in chosen], condition=own, seed=seed, law=law, **(options or {})))
            bar.update(len(chosen))
    return xr.concat(parts, "member", data_vars="minimal", coords="minimal", compat="override")


def run(
    surrogate: Surrogate,
    training: xr.Dataset,
    held: xr.Dataset,
    folder: str | Path,
    *,
    draws: int = 4,
    fit: Mapping[str, Any] | None = None, sampling: Mapping[str, Any] | None = None,
    fresh: Fresh | None = None, floors: int = 3,
    others: Mapping[str, xr.Dataset] | None = None,
    title: str = "Synthetic fields beside the truth",
    facts: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    block: int = 1, seed: int = 0, progress: bool = True,
) -> Outcome:
    """Fit on `training`, draw beside `held`, score, and write the four files into `folder`.

    Args:
        surrogate: an unfitted `Surrogate`; fit, sampling: options of its `fit` (steps, seconds, …) and `sample`.
        draws: synthetic fields for each held-out one; where the surrogate has conditions, with that member's own.
        fresh: fresh(conditions, seed) gives new draws of the truth: the floor, the mean over `floors` of them.
        others: more ensembles to show and score.
        title, facts, labels: words for the report. block: correlation time of a series, in samples.

    Raises:
        KeyError, TypeError, ValueError: as `Surrogate.fit` and `evaluate`.
    """
    model = surrogate.fit(training, seed=seed, progress=progress, **dict(fit or {}))
    condition = {name: np.tile(held[name].to_numpy(), draws) for name in surrogate.condition}
    count = draws * len(samples(held, surrogate.variables[0]))
    synthetic = draw(model, count, condition, seed=seed + 1, progress=progress, options=sampling)
    gaussian = draw(model, count, condition, seed=seed + 2, law="baseline", words="fitted Gaussian", progress=progress)
    truths = _fresh_ensembles(fresh, condition, floors, seed, progress)
    sources = {"surrogate": [synthetic], "fresh": truths, "gaussian": [gaussian]}
    sources = {name: group for name, group in sources.items() if group} | {k: [ds] for k, ds in (others or {}).items()}
    options: dict[str, Any] = {"condition": list(surrogate.condition), "block": block, "seed": seed}
    scores = compare(held, sources, training=training, variables=list(surrogate.variables), **options)
    scores.attrs |= {"verdict": str(model.verdict_), "served": model.verdict_.served}
    shown = {name: group[0] for name, group in sources.items() if name != "surrogate"}
    out = _made(folder)
    files = {
        "model": model.save(out / "model.surrogate"),
        "synthetic members": storage.save(synthetic, out / "synthetic.nc"),
        "scores": storage.save(scores, out / "scores.nc"),
        "report": report(
            held, synthetic, out / "report.html", baselines=shown, scores=scores, title=title, facts=facts,
            labels=labels, notes=[_sentence(str(model.verdict_))],
        ),
    }
    return Outcome(model, synthetic, scores, files)


def _fresh_ensembles(
    fresh: Fresh | None, condition: Mapping[str, Any], floors: int, seed: int, progress: bool
) -> Sequence[xr.Dataset]:
    from tqdm import tqdm

    if fresh is None:
        return []
    bar = tqdm(range(floors), desc="fresh solver members (the floor)", unit="ensemble", disable=not progress)
    return [fresh(condition, seed + 10 + i) for i in bar]


def _made(folder: str | Path) -> Path:
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
