"""Wiener skip, plain skip and plain EDM defaults at equal training time, on three kinds of data, three seeds each.

    python benchmarks/skips.py --weather era5.nc [--seconds 60] [--seeds 3] [--out benchmarks/results]

heat          homogeneous, conditionally near-Gaussian: the demo's stochastic heat equation
gray_scott    homogeneous, strongly non-Gaussian: Pearson patterns
era5          not homogeneous, red: hourly 2 m temperature, split by blocks of time (left out without --weather)

Each variant trains the same U-Net (that of the demo) for the same wall time on the same samples and draws as many
fields as are held out. The variants:

wiener        D = μ + W(x − μ) + c_out F, posterior-variance weight, σ log-uniform over the data's range,
              exponential sampler
plain         EDM's skip with everything else as above
edm           Karras et al. 2022 as published: plain skip, their weight, ln σ ~ N(−1.2, 1.2²), σ from 0.002 to 80 for
              data of standard deviation ½, 18 Heun steps with ρ = 7 (begun from N(μ, λ + σ²), one step more at the end)

The table gives mean ± standard deviation over the seeds; `gain` is held-out denoising in nats per dimension over the
fitted Gaussian, positive where the network is better. The scores of the Gaussian field and, where there is a solver,
of fresh solver members (the floor) stand beside them.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import surrogates as sur
from surrogates import demo
from surrogates.study import draw, split_members, split_times

SCORES = ("spectrum_error", "patch_wasserstein", "pixel_qq", "gradient_qq", "energy_score")


@dataclass(frozen=True)
class Case:
    """Training and held-out data, and fresh draws of the truth for the held-out conditions, if there is a solver."""

    name: str
    training: xr.Dataset
    held: xr.Dataset
    variables: tuple[str, ...]
    condition: tuple[str, ...] = ()
    fresh: Callable[[int], xr.Dataset] | None = None
    block: int = 1


def heat(members: int) -> Case:
    ds = demo.ensemble(members, 0, progress=False)
    training, held = split_members(ds, members // 8)
    return Case("heat", training, held, ("u",), ("diffusivity",),
                lambda seed: demo.ensemble(held.sizes["member"], seed, diffusivity=held.diffusivity.values,
                                           progress=False))  # fmt: skip


def gray_scott(members: int) -> Case:
    import runpy

    reaction = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "reaction.py"))
    ds = reaction["ensemble"](members, 0, progress=False)
    training, held = split_members(ds, members // 8)
    return Case("gray_scott", training, held, ("v",), (),
                lambda seed: reaction["ensemble"](held.sizes["member"], seed + 1000, progress=False))  # fmt: skip


def era5(path: Path) -> Case:
    from sdesim import storage

    ds = storage.open(path)
    name = next(str(n) for n in ds.data_vars if "time" in ds[n].dims)
    latitude = next(d for d in ds[name].dims if str(d).startswith("lat"))
    training, held = split_times(ds[[name]].sortby(latitude).load())
    return Case("era5", training, held, (name,), block=24)


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "wiener": ({"skip": "wiener"}, {}),
    "plain": ({"skip": "plain"}, {}),
    "edm": ({"skip": "plain", "noise": "edm"}, {"weight": "karras"}),
}


def scores_of(case: Case, ds: xr.Dataset, seed: int) -> dict[str, float]:
    result = sur.evaluate(
        case.held, ds, variables=list(case.variables), condition=[], training=case.training, block=case.block, seed=seed
    )
    share = result.variance_share.values
    error = np.abs(result.spectrum_ratio.values - 1.0)
    row = {"spectrum_error": float(np.max(error[share >= 1e-3]))}
    return row | {name: float(result[name].mean()) for name in SCORES if name in result}


def trained(case: Case, variant: str, seconds: float, seed: int) -> dict[str, float]:
    """Train one variant with one seed; its scores, its gain and how many steps the time was good for."""
    options, fitting = VARIANTS[variant]
    model = sur.Surrogate(list(case.variables), list(case.condition), network=demo.NETWORK, **options)
    began = time.perf_counter()
    model.fit(case.training, seed=seed, seconds=seconds, **fitting)
    spent = time.perf_counter() - began
    count = int(np.prod([case.held.sizes[d] for d in ("member", "time") if d in case.held.dims]))
    condition: Mapping[str, Any] = {name: case.held[name].values for name in case.condition}
    how: dict[str, Any] = {"sampler": "heun", "steps": 18} if variant == "edm" else {}
    ds = draw(model, count, condition, seed=seed + 1, law="network", progress=False, options=how)
    return scores_of(case, ds, seed) | {
        "gain": model.verdict_.gain, "steps": model.history_[-1]["step"], "fit_seconds": spent,
    }  # fmt: skip


def baselines(case: Case, seeds: int) -> Iterator[tuple[str, dict[str, float]]]:
    """The Gaussian field and fresh solver members, scored as the networks are."""
    model = sur.Surrogate(list(case.variables), list(case.condition), network=False).fit(case.training)
    count = int(np.prod([case.held.sizes[d] for d in ("member", "time") if d in case.held.dims]))
    condition = {name: case.held[name].values for name in case.condition}
    for seed in range(seeds):
        yield (
            "gaussian",
            scores_of(case, draw(model, count, condition, seed=seed, law="baseline", progress=False), seed),
        )
        if case.fresh is not None:
            yield "fresh", scores_of(case, case.fresh(seed + 100), seed)


def table(case: str, rows: dict[str, list[dict[str, float]]]) -> str:
    names = ["gain", *SCORES, "steps"]
    lines = [f"### {case}", "", "| variant | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for variant, runs in rows.items():
        cells = []
        for name in names:
            values = np.array([r[name] for r in runs if name in r])
            cells.append(
                "–" if values.size == 0 else f"{values.mean():.3g} ± {values.std(ddof=min(1, values.size - 1)):.1g}"
            )
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weather", type=Path, help="an ERA5 file of 2 m temperature")
    parser.add_argument("--seconds", type=float, default=60.0, help="training time of each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--members", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    cases = [lambda: heat(arguments.members), lambda: gray_scott(arguments.members)]
    if arguments.weather is not None:
        cases.append(lambda: era5(arguments.weather))
    arguments.out.mkdir(exist_ok=True)
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    page = [f"# Skip connections at {arguments.seconds:g} s of training, {arguments.seeds} seeds\n\n{machine}\n"]
    record: dict[str, Any] = {}
    for make in cases:
        case = make()
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in range(arguments.seeds):
            for variant in VARIANTS:
                rows.setdefault(variant, []).append(trained(case, variant, arguments.seconds, seed))
                print(case.name, seed, variant, rows[variant][-1], flush=True)
        for name, row in baselines(case, arguments.seeds):
            rows.setdefault(name, []).append(row)
        record[case.name] = rows
        page.append(table(case.name, rows))
        print(page[-1], flush=True)
        (arguments.out / "skips.md").write_text("\n".join(page))
        (arguments.out / "skips.json").write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
