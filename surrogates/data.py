"""Dataset ⇄ tensors: which dimensions are samples, normalisation, conditions, static channels, and the checks.

    x = (variable − mean) / std          one mean and one std per variable, over all samples and cells
    c ∈ [−1, 1]                          affine between the smallest and the largest training value, of the logarithm
                                         where the condition is positive and spreads over a decade or more

Space dimensions are those named x, y, z, lat, latitude, lon, longitude, r, or whose coordinate has an `axis` X, Y, Z;
every other dimension of the variables (member, time, ...) is stacked into samples, the outermost first, so that
samples next to each other are neighbours in time. Validation takes whole contiguous blocks of the outermost
sample dimension, with a gap beside them when that is time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

SPACE_NAMES = frozenset({"x", "y", "z", "r", "lat", "latitude", "lon", "longitude"})
FEWEST = 20


@dataclass(frozen=True)
class Scale:
    """One affine map between a physical quantity and the network's numbers: v = (q − offset)/factor, q = log value."""

    offset: float
    factor: float
    logarithm: bool = False

    def forward(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to normalised."""
        return ((np.log(value) if self.logarithm else value) - self.offset) / self.factor

    def backward(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Normalised to physical."""
        physical = value * self.factor + self.offset
        return np.exp(physical) if self.logarithm else physical


@dataclass(frozen=True)
class Layout:
    """Everything that leads from a Dataset to tensors and back.

    space: dimension names in array order; shape: their lengths; kept: sample dimensions of length one, which
    the synthetic Dataset keeps; boundary: one of modes.BOUNDARIES per axis.
    """

    variables: tuple[str, ...]
    condition: tuple[str, ...]
    samples: tuple[str, ...]
    kept: tuple[str, ...]
    space: tuple[str, ...]
    shape: tuple[int, ...]
    boundary: tuple[str, ...]
    scales: tuple[Scale, ...]
    condition_scales: tuple[Scale, ...]
    template: xr.Dataset = field(compare=False)

    @property
    def channels(self) -> int:
        """Number of variables."""
        return len(self.variables)


def space_dimensions(ds: xr.Dataset, variable: str) -> tuple[str, ...]:
    """The dimensions of `variable` that are space, in its order."""

    def is_space(name: str) -> bool:
        axis = ds[name].attrs.get("axis") if name in ds.coords else None
        return name in SPACE_NAMES or axis in ("X", "Y", "Z")

    return tuple(str(d) for d in ds[variable].dims if is_space(str(d)))


def check_dataset(ds: Any, variables: Sequence[str], condition: Sequence[str]) -> None:
    """Raise TypeError, KeyError or ValueError for whatever would make training wrong, with the cure."""
    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"a surrogate wants an xarray.Dataset, got {type(ds).__name__}; sdesim.open(path) reads a file")
    for name in variables:
        if name not in ds.data_vars:
            raise KeyError(
                f"variable {name!r} was wanted, the Dataset has {sorted(map(str, ds.data_vars))}; "
                f"name one of these in variables="
            )
        if not np.issubdtype(ds[name].dtype, np.floating):
            raise TypeError(
                f"variable {name!r} must be real, got dtype {ds[name].dtype}; use ds[{name!r}].astype(float)"
            )
    for name in condition:
        if name not in ds.variables:
            raise KeyError(
                f"condition {name!r} was wanted, the Dataset has the coordinates {sorted(map(str, ds.coords))}; "
                f"attach it with ds.assign_coords({name}=('member', values))"
            )
    space = space_dimensions(ds, variables[0])
    if not space:
        raise ValueError(
            f"variable {variables[0]!r} wants a space dimension (x, y, z, lat, lon, r, or a coordinate with axis X, Y "
            f"or Z), got dimensions {ds[variables[0]].dims}; rename one with ds.rename"
        )
    for name in variables[1:]:
        if set(ds[name].dims) != set(ds[variables[0]].dims):
            raise ValueError(
                f"variables must share their dimensions: {variables[0]!r} has {ds[variables[0]].dims}, "
                f"{name!r} has {ds[name].dims}; train one surrogate for each group, or broadcast with xr.broadcast"
            )
    for axis in space:
        check_axis(ds, axis)
    for name in variables:
        bad = int((~np.isfinite(ds[name].values)).sum())
        if bad:
            raise ValueError(
                f"variable {name!r} must be finite everywhere, got {bad} NaN or infinite values; drop the samples "
                f"that hold them (for a simulated ensemble ds.isel(member=ds.status.values == 0)) or fill the gaps"
            )


def check_axis(ds: xr.Dataset, axis: str) -> None:
    """A space coordinate must increase strictly; ValueError with the cure otherwise."""
    if axis not in ds.coords:
        return
    steps = np.diff(ds[axis].values)
    if steps.size and not (steps > 0).all():
        found = "descending" if (steps < 0).all() else "unsorted or repeated"
        raise ValueError(f"coordinate {axis!r} must increase strictly, got {found} values; use ds.sortby({axis!r})")


def find_boundary(ds: xr.Dataset, space: Sequence[str], given: Mapping[str, str] | str | None) -> tuple[str, ...]:
    """The boundary of each axis: as given, else the attribute `boundary_<axis>`, else a full circle of longitude is
    periodic, else "reflect"."""
    from surrogates.modes import BOUNDARIES

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
        kinds.append(kind if kind in BOUNDARIES else "reflect")
    return tuple(kinds)


def condition_values(ds: xr.Dataset, name: str, samples: Sequence[str]) -> NDArray[np.float64]:
    """The condition of every sample, (n,), broadcast over the sample dimensions."""
    values = ds[name]
    extra = [d for d in values.dims if d not in samples]
    if extra:
        raise ValueError(
            f"condition {name!r} must be one number per sample, got dimensions {values.dims}; "
            f"reduce {extra} first, or pass a field that never changes as static="
        )
    if np.issubdtype(values.dtype, np.datetime64):
        raise ValueError(f"condition {name!r} is a date; derive a number first, e.g. ds.{name}.dt.hour")
    sizes = {d: ds.sizes[d] for d in samples}
    full = values.broadcast_like(xr.DataArray(np.zeros(tuple(sizes.values())), dims=list(sizes))).transpose(*samples)
    array = np.asarray(full.values, np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError(f"condition {name!r} must be finite, got NaN or infinity; drop those samples")
    return array


def condition_scale(name: str, values: NDArray[np.float64]) -> Scale:
    """Map the training range to [−1, 1]; logarithmic where positive and spread over a decade or more."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        raise ValueError(f"condition {name!r} must vary between samples, got {low:g} everywhere; leave it out")
    logarithm = low > 0.0 and high / low >= 10.0
    if logarithm:
        low, high = math.log(low), math.log(high)
    return Scale((low + high) / 2, (high - low) / 2, logarithm)


def make_layout(
    ds: xr.Dataset, variables: Sequence[str], condition: Sequence[str], boundary: Mapping[str, str] | str | None
) -> Layout:
    """Check the Dataset and describe it; raises what `check_dataset` raises, and ValueError for too few samples."""
    check_dataset(ds, variables, condition)
    first = ds[variables[0]]
    space = space_dimensions(ds, variables[0])
    samples = tuple(str(d) for d in first.dims if d not in space)
    count = math.prod(ds.sizes[d] for d in samples)
    if count < FEWEST:
        raise ValueError(f"a surrogate wants at least {FEWEST} samples, got {count} over {samples}; add some")
    kept = tuple(d for d in samples if ds.sizes[d] == 1 and d != "member")
    scales = []
    for name in variables:
        values = ds[name].values.astype(np.float64)
        std = float(values.std())
        if std == 0.0:
            raise ValueError(f"variable {name!r} must vary, got {float(values.flat[0]):g} everywhere; leave it out")
        scales.append(Scale(float(values.mean()), std))
    conditions = [condition_scale(name, condition_values(ds, name, samples)) for name in condition]
    template = ds[list(variables)].isel({d: 0 for d in samples if d not in kept}, drop=True).copy(deep=True)
    template = template.assign_coords({name: ((), 0.0, ds[name].attrs) for name in condition})
    return Layout(
        tuple(variables), tuple(condition), samples, kept, space, tuple(ds.sizes[d] for d in space),
        find_boundary(ds, space, boundary), tuple(scales), tuple(conditions), template,
    )  # fmt: skip


def fields_to_tensor(ds: xr.Dataset, layout: Layout) -> Tensor:
    """The variables as normalised fields (n, channels, *space), float32; ValueError for another grid."""
    for axis, n in zip(layout.space, layout.shape, strict=True):
        known, here = (d[axis].values if axis in d.coords else None for d in (layout.template, ds))
        same = ds.sizes[axis] == n and (known is None or here is None or np.allclose(known, here))
        if not same:
            raise ValueError(f"the model's grid was wanted along {axis!r} ({n} cells), got another; interpolate first")
    arrays = []
    for name, scale in zip(layout.variables, layout.scales, strict=True):
        values = ds[name].transpose(*layout.samples, *layout.space).values.astype(np.float64)
        arrays.append(scale.forward(values.reshape(-1, *layout.shape)))
    return torch.from_numpy(np.stack(arrays, axis=1).astype(np.float32))


def conditions_to_tensor(columns: Sequence[NDArray[np.float64]], layout: Layout) -> Tensor | None:
    """Physical conditions, one (n,) array each, to (n, conditions) in [−1, 1], float32; None without conditions."""
    if not layout.condition:
        return None
    scaled = [scale.forward(values) for scale, values in zip(layout.condition_scales, columns, strict=True)]
    return torch.from_numpy(np.stack(scaled, axis=1).astype(np.float32))


def tensor_to_dataset(
    x: Tensor, columns: Mapping[str, NDArray[np.float64]], layout: Layout, numbers: NDArray[Any]
) -> xr.Dataset:
    """Normalised fields (members, channels, *space) to a Dataset with the training data's coordinates, attributes."""
    members = len(x)
    kept = list(layout.kept)
    out = layout.template.drop_vars([*layout.variables, *layout.condition], errors="ignore")
    data: dict[str, Any] = {}
    for channel, (name, scale) in enumerate(zip(layout.variables, layout.scales, strict=True)):
        source = layout.template[name]
        values = scale.backward(x[:, channel].double().cpu().numpy()).astype(source.dtype)
        shape = (members, *[1] * len(kept), *layout.shape)
        data[name] = (("member", *kept, *layout.space), values.reshape(shape), source.attrs)
    member = ("member", numbers.astype(np.int32), {"standard_name": "realization", "units": "1"})
    coords: dict[str, Any] = {"member": member}
    for name, values in columns.items():
        coords[name] = ("member", np.asarray(values, np.float64), layout.template[name].attrs)
    result = out.assign(data).assign_coords(coords)
    return result.assign_attrs(layout.template.attrs)


def split_blocks(groups: int, *, fraction: float, blocks: int, gap: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training, validation) indices of the outermost sample dimension.

    Validation is `blocks` contiguous runs spread evenly, `fraction` in all; `gap` indices beside a run are in neither.

    >>> train, held = split_blocks(100, fraction=0.2, blocks=2, gap=3)
    >>> len(held), len(train), int(abs(train[:, None] - held[None, :]).min())
    (20, 68, 4)
    """
    length = max(1, round(groups * fraction / blocks))
    starts = [round((i + 0.5) * groups / blocks - length / 2) for i in range(blocks)]
    role = np.zeros(groups, np.int8)
    for start in starts:
        role[max(0, start - gap) : start + length + gap] = 2
    for start in starts:
        role[start : start + length] = 1
    return np.flatnonzero(role == 0), np.flatnonzero(role == 1)
