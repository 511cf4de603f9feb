"""What all grids have in common: axes at right angles, each cut into cells.

An axis (lo, hi, n) is cut into n cells of width Δ = (hi − lo)/n with centres lo + (i + ½)Δ, i = 0 … n−1; an array of
n + 1 rising edges cuts it into cells of those ends, centred between them. A value of a field is the mean over its cell.
Arrays have the order (…, z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import Expr, const

Array: TypeAlias = NDArray[np.float64]


class Edges(tuple[float, ...]):
    """Ends of cells that are not equally wide, rising."""

    __slots__ = ()


Axis: TypeAlias = tuple[float, float, int]
Cut: TypeAlias = "Axis | Edges"


class Orthogonal:
    """What all grids have in common: axes at right angles, each cut into cells, and cells that are left out.

    A kind of grid says which `axes` it has, in array order, and how each is cut.
    """

    mask: NDArray[np.bool_] | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in array order."""
        raise NotImplementedError

    def cut(self, name: str) -> Cut:
        """How one axis is cut: (lo, hi, cells), or the edges of its cells; KeyError when the grid does not have it."""
        if name not in self.axes:
            raise KeyError(f"this grid has the axes {', '.join(sorted(self.axes))}; got {name!r}")
        value: Cut = getattr(self, name)
        return value

    def axis(self, name: str) -> Axis:
        """(lo, hi, cells) of one axis; KeyError when the grid does not have it."""
        cut = self.cut(name)
        return (cut[0], cut[-1], len(cut) - 1) if isinstance(cut, Edges) else cut

    def is_plain(self, name: str) -> bool:
        """Whether faces, distances and volumes are the same all along an axis, and across it."""
        return False

    def is_even(self, name: str) -> bool:
        """Whether all cells along an axis are equally wide."""
        return not isinstance(self.cut(name), Edges)

    @property
    def is_box(self) -> bool:
        """Whether the cells are equal boxes, so that the Laplacian's eigenfunctions are products of waves."""
        return False

    @property
    def dimension(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis, in array order."""
        return tuple(self.axis(name)[2] for name in self.axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def lengths(self) -> dict[str, float]:
        """hi − lo of each axis, in array order."""
        return {name: self.axis(name)[1] - self.axis(name)[0] for name in self.axes}

    @property
    def spacing(self) -> dict[str, float]:
        """Width of the cells along each axis whose cells are equal, in array order."""
        return {name: length / self.axis(name)[2] for name, length in self.lengths.items() if self.is_even(name)}

    @property
    def edges(self) -> dict[str, Array]:
        """Ends of the cells along each axis, one-dimensional, one more than there are cells; in array order."""
        spacing = self.spacing
        return {name: np.array(self.cut(name), np.float64) if name not in spacing else
                self.axis(name)[0] + np.arange(self.axis(name)[2] + 1, dtype=np.float64) * spacing[name]
                for name in self.axes}

    @property
    def coordinates(self) -> dict[str, Array]:
        """Cell centres of each axis, one-dimensional, in array order."""
        edges, spacing = self.edges, self.spacing
        return {name: 0.5 * (edges[name][1:] + edges[name][:-1]) if name not in spacing else
                self.axis(name)[0] + (np.arange(self.axis(name)[2], dtype=np.float64) + 0.5) * spacing[name]
                for name in self.axes}

    @property
    def mesh(self) -> dict[str, Array]:
        """Cell centres of each axis, shaped to broadcast against a field: x is (1, 1, n), y is (1, n, 1), …

        >>> from sdesim.grids import Grid
        >>> {name: centres.shape for name, centres in Grid(x=(0, 1, 4), y=(0, 1, 2)).mesh.items()}
        {'y': (2, 1), 'x': (1, 4)}
        """
        return {name: self.along(name, centres) for name, centres in self.coordinates.items()}

    def along(self, name: str, values: Array) -> Array:
        """Values along one axis, shaped to broadcast against a field."""
        return values.reshape([-1 if axis == name else 1 for axis in self.axes])

    @property
    def volumes(self) -> Array:
        """Length, area or volume of every cell, in the grid's shape."""
        raise NotImplementedError

    @property
    def measure(self) -> int:
        """Which power of a length `volumes` are."""
        return self.dimension

    def scale(self, name: str) -> Expr:
        """Length of a unit of a coordinate, an expression of the other coordinates (Lamé's coefficient)."""
        return const(1.0)

    def passage(self, name: str) -> Array:
        """Areas of the faces across an axis, one more than cells, but for a factor that is constant along it."""
        raise NotImplementedError

    def share(self, name: str) -> Array:
        """One over the volumes of the cells, but for the factor that `passage` leaves out."""
        raise NotImplementedError

    def edge_areas(self, name: str, side: int) -> Array:
        """Areas of the faces at the low (0) or high (1) end of an axis; length 1 along it."""
        k, end = self.axes.index(name), [-side]
        cells = np.take(np.broadcast_to(self.volumes * self.share(name), self.shape), end, axis=k)
        return np.asarray(cells * np.take(self.passage(name), end, axis=k))

    def closed(self, name: str) -> tuple[bool, bool]:
        """Which ends of an axis are no edge: a pole, the centre of a ball."""
        return False, False

    def mirrors(self, name: str) -> bool:
        """Whether a field continues beyond a closed end as its own mirror image, as in r; across a pole it does not."""
        return True

    def wraps(self, name: str) -> bool:
        """Whether an axis goes round, so that it is periodic by itself."""
        return False

    @property
    def cell_volume(self) -> float:
        """Length, area or volume of one cell; ValueError where the cells are not equal."""
        if not self.is_box:
            raise ValueError("the cells of this grid are not equal: use grid.volumes, an array")
        return math.prod(self.spacing.values())

    @property
    def wet(self) -> NDArray[np.bool_]:
        """Where the field lives: True in the cells that the mask does not leave out."""
        return np.ones(self.shape, bool) if self.mask is None else ~self.mask

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` builds the same grid; a mask stays an array."""
        raise NotImplementedError

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return tuple((k, v.tobytes() if isinstance(v, np.ndarray) else repr(v)) for k, v in self.to_dict().items())

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Orthogonal) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def _show(self, name: str) -> str:
        cut = self.cut(name)
        return f"{name}={len(cut) - 1} cells from {cut[0]} to {cut[-1]}" if isinstance(cut, Edges) else f"{name}={cut}"

    def __repr__(self) -> str:
        shown = [self._show(name) for name in reversed(self.axes)]
        if self.mask is not None:
            shown.append(f"mask of {int(self.mask.sum())} cells")
        return f"{type(self).__name__}({', '.join(shown)})"


def cuts_to_dict(grid: Orthogonal) -> dict[str, Any]:
    """How each axis is cut, as plain data."""
    cuts = {name: grid.cut(name) for name in reversed(grid.axes)}
    return {name: {"edges": list(cut)} if isinstance(cut, Edges) else list(cut) for name, cut in cuts.items()}


def cuts_from_dict(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a grid from its description."""
    given = {name: value for name, value in data.items() if name != "kind"}
    return {name: np.asarray(value["edges"], float) if isinstance(value, Mapping) else
            tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def as_cut(name: str, value: Any) -> Cut:
    """(lo, hi, cells) or the edges of unequal cells; edges equally far apart become (lo, hi, cells)."""
    array = isinstance(value, np.ndarray)
    if array or isinstance(value, tuple | list) and len(value) > 3:
        return _edges(name, np.asarray(value))
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise TypeError(f"axis {name} is (lo, hi, cells), for example (0.0, 1.0, 64), or a rising array of the ends of "
                        f"its cells; got {value!r}")
    lo, hi, cells = value
    for end in (lo, hi):
        if not isinstance(end, Real) or isinstance(end, bool):
            raise TypeError(f"the ends of axis {name} are numbers; got {end!r}")
    if not isinstance(cells, Integral) or isinstance(cells, bool):
        raise TypeError(f"axis {name} has a whole number of cells; got {cells!r}: write it as an int, or give the ends "
                        "of unequal cells as a NumPy array")
    _check_cells(name, int(cells))
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise ValueError(f"the ends of axis {name} must be finite; got ({lo}, {hi})")
    if not lo < hi:
        raise ValueError(f"axis {name} runs from lo to hi with lo < hi; got ({lo}, {hi}): swap or move its ends")
    return float(lo), float(hi), int(cells)


def _edges(name: str, value: NDArray[Any]) -> Cut:
    if value.ndim != 1 or value.dtype.kind not in "iuf":
        raise TypeError(f"the edges of axis {name} are a one-dimensional array of numbers; got the shape {value.shape} "
                        f"of {value.dtype}")
    edges = value.astype(np.float64)
    _check_cells(name, edges.size - 1)
    widths = np.diff(edges)
    if not np.all(np.isfinite(edges)) or not np.all(widths > 0.0):
        raise ValueError(f"the edges of axis {name} are finite and rise; got {edges}: sort them, drop repeats")
    if np.ptp(widths) <= 1e-12 * max(abs(edges[0]), abs(edges[-1]), edges[-1] - edges[0]):
        return float(edges[0]), float(edges[-1]), edges.size - 1
    return Edges(edges.tolist())


def _check_cells(name: str, cells: int) -> None:
    if cells < 2:
        raise ValueError(f"axis {name} needs at least two cells; got {cells}: leave the axis out instead")


def as_mask(grid: Orthogonal, value: Any) -> NDArray[np.bool_] | None:
    """The cells that are left out, a read-only array of the grid's shape, from an array or a DataArray."""
    if value is None:
        return None
    if hasattr(value, "dims"):
        if set(value.dims) != set(grid.axes):
            raise ValueError(f"a mask has the dimensions of the grid, {', '.join(grid.axes)}; got "
                             f"{', '.join(map(str, value.dims))}")
        value = value.transpose(*grid.axes)
        for name, centres in grid.coordinates.items():
            if name in value.coords and not (value[name].size == centres.size and
                                             np.allclose(value[name], centres, rtol=1e-6, atol=1e-9)):
                raise ValueError(f"the mask's coordinate {name} is not that of the grid's cell centres, from "
                                 f"{centres[0]:g} to {centres[-1]:g}: select the nearest with .sel({name}=…)")
    mask = np.array(value)
    if mask.dtype != np.bool_:
        raise TypeError(f"a mask is boolean, True in the cells that are left out; got {mask.dtype}: compare the values "
                        "with something, for example depth <= 0")
    if mask.shape != grid.shape:
        raise ValueError(f"a mask has the grid's shape {grid.shape}, axes ({', '.join(grid.axes)}); got {mask.shape}")
    if mask.all() or not mask.any():
        found = "every cell" if mask.all() else "no cell"
        raise ValueError(f"the mask leaves out {found}: it is True in the cells that are left out; turn it round with "
                         "~mask, or give no mask")
    mask.flags.writeable = False
    return mask
