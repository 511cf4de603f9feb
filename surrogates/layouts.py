"""The layout of a Dataset: which dimensions are samples, normalisation, conditions, boundaries, and the checks.

    x = (variable − mean) / std          one mean and one std per variable, over all samples and cells
    c ∈ [−1, 1]                          affine between the smallest and the largest training value, of the logarithm
                                         where the condition is positive and spreads over a decade or more
    a condition with the space dimensions is a field: normalised like a variable, and kept beside the scalars, flattened

Space dimensions are those named x, y, z, lat, latitude, lon, longitude, r, or whose coordinate has an `axis` X, Y, Z;
every other dimension of the variables (member, time, ...) is stacked into samples, the outermost first, so that
samples next to each other are neighbours in time. Validation takes whole contiguous blocks of the outermost
sample dimension, with a gap beside them when that is time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from surrogates.domains import find_boundary, find_wet
from surrogates.graphs import GraphModes, areas

SPACE_NAMES = frozenset({"x", "y", "z", "r", "lat", "latitude", "lon", "longitude"})
FEWEST = 20
_BLOCK = 2**24  # values read at once: a file may be larger than memory


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
    the synthetic Dataset keeps; boundary: one of modes.BOUNDARIES per axis; maps: conditions that are fields; wet:
    (*shape) where there are values, if not everywhere: tensors then are (n, channels, cells), those cells in order.
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
    maps: tuple[str, ...] = ()
    map_scales: tuple[Scale, ...] = ()
    wet: NDArray[np.bool_] | None = field(default=None, compare=False)

    @property
    def channels(self) -> int:
        """Number of variables."""
        return len(self.variables)

    @property
    def cells(self) -> int:
        """Number of cells that hold values."""
        return math.prod(self.shape) if self.wet is None else int(self.wet.sum())

    @property
    def domain(self) -> tuple[str, ...] | GraphModes:
        """What `covariance.basis_of` wants."""
        if self.wet is not None:
            return GraphModes.of(self.wet, self.boundary)
        if self.global_:
            return GraphModes.of_sphere(self.template[self.space[0]].values.astype(np.float64), self.shape[1])
        return self.boundary

    @property
    def global_(self) -> bool:
        """Whether the domain is a whole sphere without holes: tensors then are (n, channels, cells), rows outermost."""
        return self.wet is None and "pole" in self.boundary

    @property
    def root(self) -> NDArray[np.float64] | float:
        """√(area over the mean area) of every cell that holds values, (cells,): the weights of fields on a sphere."""
        if not self.global_:
            return 1.0
        rows = np.sqrt(areas(self.template[self.space[0]].values.astype(np.float64)))
        return np.repeat(rows, self.shape[1])

    def pack(self, values: Any) -> Any:
        """Of arrays or tensors (..., *shape) the cells that hold values: (..., cells); the same on a plain box."""
        if self.wet is None and not self.global_:
            return values
        flat = values.reshape(*values.shape[: values.ndim - len(self.shape)], -1)
        return flat if self.wet is None else flat[..., np.flatnonzero(self.wet)]

    def unpack(self, values: NDArray[Any], fill: float = math.nan) -> NDArray[Any]:
        """The inverse of `pack`, with `fill` in all other cells."""
        if self.wet is None:
            return values.reshape(*values.shape[:-1], *self.shape) if self.global_ else values
        out = np.full((*values.shape[:-1], *self.shape), fill, values.dtype)
        out[..., self.wet] = values
        return out


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


def sample_dimensions(ds: xr.Dataset, variable: str) -> tuple[str, ...]:
    """The dimensions of `variable` that are stacked into samples, in its order."""
    space = space_dimensions(ds, variable)
    return tuple(str(d) for d in ds[variable].dims if d not in space)


def outermost(ds: xr.Dataset, samples: Sequence[str]) -> str:
    """The first sample dimension longer than one: along it samples are split into blocks and shards."""
    return next((d for d in samples if ds.sizes[d] > 1), samples[0])


def _blocks(ds: xr.Dataset, name: str, samples: Sequence[str]) -> Iterator[NDArray[np.float64]]:
    """The values of a variable, a part of the outermost sample dimension at a time."""
    array = ds[name]
    along = [d for d in samples if d in array.dims and array.sizes[d] > 1][:1]
    if not along:
        yield array.values.astype(np.float64)
        return
    n = array.sizes[along[0]]
    step = max(1, _BLOCK * n // max(array.size, 1))
    for start in range(0, n, step):
        yield array.isel({along[0]: slice(start, start + step)}).values.astype(np.float64)


def scan(ds: xr.Dataset, name: str, samples: Sequence[str], wet: NDArray[np.bool_] | None = None,
         space: Sequence[str] = ()) -> Scale:  # fmt: skip
    """Mean and standard deviation over all samples and cells, or the `wet` ones (Chan et al. 1983, merging blocks).

    Raises ValueError for values that are not finite there, or are elsewhere.
    """
    bad, count, mean, square = 0, 0, 0.0, 0.0
    for block in _blocks(ds if wet is None else ds.transpose(..., *space), name, samples):
        if wet is not None:
            bad += int((~np.isnan(block[..., ~wet])).sum())
            block = block[..., wet]
        bad += int((~np.isfinite(block)).sum())
        if not bad:
            shift, total = float(block.mean()) - mean, count + block.size
            square += float(block.var()) * block.size + shift**2 * count * block.size / total
            mean, count = mean + shift * block.size / total, total
    if bad:
        where = "everywhere" if wet is None else "in the cells where its first sample is, and NaN in the others"
        raise ValueError(
            f"variable {name!r} must be finite {where}, got {bad} values that are not so; drop the samples that hold "
            f"them (for a simulated ensemble ds.isel(member=ds.status.values == 0)) or fill the gaps"
        )
    return Scale(mean, math.sqrt(square / count))


def check_axis(ds: xr.Dataset, axis: str) -> None:
    """A space coordinate must increase strictly; ValueError with the cure otherwise."""
    if axis not in ds.coords:
        return
    steps = np.diff(ds[axis].values)
    if steps.size and not (steps > 0).all():
        found = "descending" if (steps < 0).all() else "unsorted or repeated"
        raise ValueError(f"coordinate {axis!r} must increase strictly, got {found} values; use ds.sortby({axis!r})")


def condition_values(ds: xr.Dataset, name: str, samples: Sequence[str]) -> NDArray[np.float64]:
    """The condition of every sample, (n,), broadcast over the sample dimensions."""
    values = ds[name]
    extra = [d for d in values.dims if d not in samples]
    if extra:
        raise ValueError(
            f"condition {name!r} must be one number per sample or a whole field, got dimensions {values.dims}; "
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
    space, samples = space_dimensions(ds, variables[0]), sample_dimensions(ds, variables[0])
    count = math.prod(ds.sizes[d] for d in samples)
    if count < FEWEST:
        raise ValueError(f"a surrogate wants at least {FEWEST} samples, got {count} over {samples}; add some")
    kept = tuple(d for d in samples if ds.sizes[d] == 1 and d != "member")
    maps = tuple(name for name in condition if set(space) <= set(ds[name].dims))
    scalars = tuple(name for name in condition if name not in maps)
    conditions = [condition_scale(name, condition_values(ds, name, samples)) for name in scalars]
    wet = find_wet(ds, variables, samples, space)
    scales = [_varying(ds, name, samples, wet, space) for name in (*variables, *maps)]
    template = ds[list(variables)].isel({d: 0 for d in samples if d not in kept}, drop=True).copy(deep=True)
    template = template.drop_vars(maps, errors="ignore")
    template = template.assign_coords({name: ((), 0.0, ds[name].attrs) for name in condition})
    return Layout(
        tuple(variables), scalars, samples, kept, space, tuple(ds.sizes[d] for d in space),
        find_boundary(ds, space, boundary), tuple(scales[: len(variables)]), tuple(conditions), template,
        maps, tuple(scales[len(variables) :]), wet,
    )  # fmt: skip


def _varying(ds: xr.Dataset, name: str, samples: Sequence[str], wet: Any, space: Sequence[str]) -> Scale:
    """The scale of a field; ValueError for one that is the same everywhere."""
    scale = scan(ds, name, samples, wet, space)
    if scale.factor <= 1e-14 * abs(scale.offset):
        raise ValueError(f"variable {name!r} must vary, got {scale.offset:g} everywhere; leave it out")
    return scale


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
