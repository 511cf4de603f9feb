"""Two ensembles of one variable side by side: samples in rows, space in order, draws beside the member they forecast.

The dimensions member, time and draw count samples, all others are space. If both ensembles carry the same
parameters on `member`, and every reference member finds K ≥ 2 synthetic members of exactly its parameters,
they are paired: K draws for each held-out member.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from surrogates import spectra

Array = NDArray[np.float64]

SAMPLE_DIMS = ("draw", "member", "time")


@dataclass(frozen=True)
class Ensembles:
    """Two ensembles of one variable as arrays (samples, *space); `draws` (K, N, *space) where conditions pair."""

    reference: Array
    synthetic: Array
    draws: Array | None
    space: tuple[str, ...]
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]


def samples(ds: xr.Dataset, name: str, space: Sequence[str] | None = None) -> Array:
    """One variable as float64 (samples, *space): member and time flattened, the axes of space in the order asked.

    >>> samples(xr.Dataset({"u": (("x", "member"), np.ones((3, 2)))}), "u").shape
    (2, 3)
    """
    if name not in ds:
        raise KeyError(f"wanted variable {name!r}, the dataset holds {sorted(map(str, ds.data_vars))}")
    field = ds[name]
    axes = tuple(space) if space is not None else space_dims(field)
    if set(axes) != set(space_dims(field)):
        raise ValueError(f"{name!r}: wanted the space dimensions {axes}, got {space_dims(field)}: interpolate first")
    order = [d for d in SAMPLE_DIMS if d in field.dims]
    values = field.transpose(*order, *axes).to_numpy().astype(np.float64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{name!r}: wanted finite values, {bad} are not: drop members whose status is not 0")
    return np.asarray(values.reshape(-1, *(field.sizes[d] for d in axes)))


def space_dims(field: xr.DataArray) -> tuple[str, ...]:
    """The dimensions that are not samples, in the field's order.

    >>> space_dims(xr.DataArray(np.ones((2, 3)), dims=("member", "x")))
    ('x',)
    """
    return tuple(str(d) for d in field.dims if d not in SAMPLE_DIMS)


def shared_variables(reference: xr.Dataset, synthetic: xr.Dataset) -> list[str]:
    """Names of the variables with a space dimension that both hold, in the reference's order.

    >>> ds = xr.Dataset({"u": (("member", "x"), np.ones((2, 3))), "status": ("member", [0, 0])})
    >>> shared_variables(ds, ds)
    ['u']
    """
    names = [str(n) for n in reference.data_vars if n in synthetic and space_dims(reference[n])]
    if not names:
        got = f"{sorted(map(str, reference.data_vars))} and {sorted(map(str, synthetic.data_vars))}"
        raise KeyError(f"wanted a field variable that both ensembles hold, got {got}")
    return names


def _spacing(ds: xr.Dataset, dim: str) -> float:
    if dim not in ds.coords or ds.sizes[dim] < 2:
        return 1.0
    return float(abs(np.diff(ds[dim].to_numpy().astype(float)).mean()))


def align(
    reference: xr.Dataset,
    synthetic: xr.Dataset,
    name: str,
    pairs: NDArray[np.int64] | None,
    periodic: Mapping[str, bool] | None,
) -> Ensembles:
    """Both ensembles of variable `name` in one order of axes, checked against each other.

    `pairs` is the result of `pairing`; `periodic` says for each space dimension whether it wraps, None lets
    the reference decide (`spectra.is_periodic`). Raises ValueError where grids differ or samples are too
    few.

    >>> ds = xr.Dataset({"u": (("member", "x"), np.random.default_rng(0).normal(size=(9, 8)))})
    >>> align(ds, ds, "u", None, {"x": True}).periodic
    (True,)
    """
    truth = samples(reference, name)
    space = space_dims(reference[name])
    made = samples(synthetic, name, space)
    if truth.shape[1:] != made.shape[1:]:
        raise ValueError(f"{name!r}: the grids differ, {truth.shape[1:]} and {made.shape[1:]}: interpolate first")
    if len(truth) < 2 or len(made) < 2:
        raise ValueError(f"{name!r}: wanted 2 or more samples in both, got {len(truth)} and {len(made)}")
    draws = None
    if pairs is not None:
        # member is the slowest sample dimension, so (member, time) rows regroup as blocks
        blocks = made.reshape(synthetic.sizes["member"], -1, *made.shape[1:])
        draws = blocks[pairs].reshape(len(pairs), len(truth), *made.shape[1:])
    wraps = tuple(
        bool(periodic[d]) if periodic is not None and d in periodic else spectra.is_periodic(truth, i)
        for i, d in enumerate(space)
    )
    return Ensembles(truth, made, draws, space, tuple(_spacing(reference, d) for d in space), wraps)


def pairing(
    reference: xr.Dataset, synthetic: xr.Dataset, condition: Sequence[str] | None, *, strict: bool = True
) -> NDArray[np.int64] | None:
    """Synthetic members of each reference member's parameters, (K, N), or None where there are none to pair.

    `condition` names the parameters; None takes every real-valued coordinate of `member` that both have,
    and an empty sequence pairs nothing. Raises ValueError where named parameters do not pair, unless `strict` is false.

    >>> truth = xr.Dataset(coords={"member": [0, 1], "D": ("member", [0.1, 0.2])})
    >>> drawn = xr.Dataset(coords={"member": range(4), "D": ("member", [0.1, 0.2, 0.1, 0.2])})
    >>> pairing(truth, drawn, None).tolist()
    [[0, 1], [2, 3]]
    """
    names = list(condition) if condition is not None else shared_parameters(reference, [synthetic])
    if not names or "member" not in reference.dims or "member" not in synthetic.dims:
        return None
    wanted = np.stack([reference[n].to_numpy().astype(np.float64) for n in names], axis=1)
    offered = np.stack([synthetic[n].to_numpy().astype(np.float64) for n in names], axis=1)
    found: dict[bytes, list[int]] = {}
    for i, row in enumerate(offered):
        found.setdefault(row.tobytes(), []).append(i)
    rows = [found.get(row.tobytes(), []) for row in wanted]
    counts = {len(r) for r in rows}
    if len(counts) == 1 and 2 <= min(counts) < synthetic.sizes["member"]:
        return np.asarray(rows, dtype=np.int64).T
    if condition is not None and strict:
        raise ValueError(
            f"wanted the same number (2 or more) of synthetic members for each reference member's {names}, "
            f"got {sorted(counts)}: sample with the reference's own values, or pass condition=()"
        )
    return None


def shared_parameters(reference: xr.Dataset, others: Iterable[xr.Dataset]) -> list[str]:
    """Names of the real-valued coordinates of `member` that the reference and all others have: what can pair them.

    >>> one = xr.Dataset(coords={"D": ("member", [0.1, 0.2]), "x0": ("member", [1.0, 2.0])})
    >>> shared_parameters(one, [one, one.drop_vars("x0")])
    ['D']
    """
    own = [str(n) for n, c in reference.coords.items() if c.dims == ("member",) and c.dtype.kind == "f"]
    return [n for n in own if all(n in ds.coords and ds[n].dims == ("member",) for ds in others)]
