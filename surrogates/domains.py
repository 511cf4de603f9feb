"""The domain of a Dataset's fields: how its axes end, and which cells hold values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from surrogates.modes import BOUNDARIES


def find_boundary(ds: xr.Dataset, space: Sequence[str], given: Mapping[str, str] | str | None) -> tuple[str, ...]:
    """The boundary of each axis: as given, else the attribute `boundary_<axis>`, else a full circle of longitude is
    periodic, and latitudes before it that reach from pole to pole end in "pole", else "reflect".

    Raises KeyError or ValueError for axes or kinds that there are not.
    """
    table = dict.fromkeys(space, given) if isinstance(given, str) else dict(given or {})
    unknown = sorted(set(table) - set(space))
    if unknown:
        raise KeyError(f"boundary= wants the axes {list(space)}, got {unknown}; use these names")
    kinds = []
    for axis in space:
        kind = table.get(axis) or str(ds.attrs.get(f"boundary_{axis}", "")).lower()
        if not kind and axis in ("lon", "longitude") and axis in ds.coords and ds.sizes[axis] > 2:
            values = ds[axis].values.astype(float)
            turn = values[-1] - values[0] + (values[1] - values[0])
            kind = "periodic" if abs(turn - 360.0) < 1e-3 * 360.0 else ""
        if table.get(axis) and kind not in BOUNDARIES:
            raise ValueError(f"boundary of {axis!r} wants one of {list(BOUNDARIES)}, got {kind!r}; choose one of these")
        kinds.append(kind if kind in BOUNDARIES else "")
    if kinds[0] in ("", "pole") and list(kinds[1:]) == ["periodic"] and _reaches_poles(ds, *space):
        kinds[0] = "pole"
    elif "pole" in kinds:
        raise ValueError(f"boundary 'pole' wants latitudes from pole to pole, then a full circle of an even number of "
                         f"longitudes, got {list(space)} with {kinds}; leave boundary= out")  # fmt: skip
    return tuple(kind or "reflect" for kind in kinds)


def _reaches_poles(ds: xr.Dataset, lat: str, lon: str) -> bool:
    """Whether rows at these latitudes cover a sphere, and columns have others half a turn away."""
    if lat not in ("lat", "latitude") or lat not in ds.coords or ds.sizes[lat] < 3 or ds.sizes[lon] % 2:
        return False
    values = ds[lat].values.astype(float)
    ends = 90.0 - np.abs(values[[0, -1]])
    return bool(values[0] < 0 < values[-1] and (ends < np.diff(values)[[0, -1]] * 1.01).all() and (ends >= -1e-6).all())


def find_wet(ds: xr.Dataset, names: Sequence[str], samples: Sequence[str], space: Sequence[str]) -> Any:
    """Where the first sample of every variable holds a number, (*space), or None for everywhere.

    Raises ValueError where variables differ, or fewer than two cells hold one.
    """
    found = {}
    for name in names:
        first = ds[name].isel({d: 0 for d in samples if d in ds[name].dims}).transpose(*space)
        found[name] = np.isfinite(first.values)
    wet = found[names[0]]
    for name, own in found.items():
        if (own != wet).any():
            raise ValueError(
                f"variables must have their NaN in the same cells, {name!r} and {names[0]!r} differ in "
                f"{int((own != wet).sum())}; mask all by one, or train one surrogate for each"
            )
    if wet.all():
        return None
    if wet.sum() < 2:
        raise ValueError(f"variable {names[0]!r} wants at least two cells with values, got {int(wet.sum())}; check it")
    return wet
