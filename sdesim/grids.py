"""Where a field lives: a box cut into equal cells.

An axis (lo, hi, n) is cut into n cells of width Δ = (hi − lo)/n with centres lo + (i + ½)Δ, i = 0 … n−1.
A value of a field is the mean over its cell. Arrays have the order (…, z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXIS_NAMES = ("x", "y", "z")
Axis = tuple[float, float, int]


@dataclass(frozen=True, init=False, repr=False)
class Grid:
    """A box of equal cells in one to three dimensions.

    Args:
        x, y, z: ``(lo, hi, cells)`` for each axis that the grid has; cells is an integer ≥ 2.

    Raises:
        TypeError: an axis that is not ``(lo, hi, cells)``, cells that are no integer, an unknown axis name.
        ValueError: fewer than two cells, ends that are not finite, ``lo >= hi``, no axis at all.

    >>> grid = Grid(x=(0.0, 1.0, 4), y=(0.0, 2.0, 2))
    >>> grid.axes, grid.shape, grid.cell_volume
    (('y', 'x'), (2, 4), 0.25)
    >>> grid.coordinates["x"]
    array([0.125, 0.375, 0.625, 0.875])
    """

    x: Axis | None
    y: Axis | None
    z: Axis | None

    def __init__(self, x: Any = None, y: Any = None, z: Any = None, **unknown: Any) -> None:
        if unknown:
            raise TypeError(f"a Grid has the axes x, y and z; got {', '.join(sorted(unknown))}: rename the axis")
        given = {"x": x, "y": y, "z": z}
        if all(value is None for value in given.values()):
            raise ValueError("a Grid needs at least one axis, for example Grid(x=(0.0, 1.0, 64)); got none")
        for name, value in given.items():
            object.__setattr__(self, name, None if value is None else _axis(name, value))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in array order: a subset of ("z", "y", "x")."""
        return tuple(name for name in reversed(AXIS_NAMES) if getattr(self, name) is not None)

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
        """Width of the cells along each axis, in array order."""
        return {name: length / self.axis(name)[2] for name, length in self.lengths.items()}

    @property
    def cell_volume(self) -> float:
        """Length, area or volume of one cell."""
        return math.prod(self.spacing.values())

    @property
    def coordinates(self) -> dict[str, NDArray[np.float64]]:
        """Cell centres of each axis, one-dimensional, in array order."""
        return {name: self.axis(name)[0] + (np.arange(self.axis(name)[2], dtype=np.float64) + 0.5) * width
                for name, width in self.spacing.items()}

    @property
    def mesh(self) -> dict[str, NDArray[np.float64]]:
        """Cell centres of each axis, shaped to broadcast against a field: x is (1, 1, n), y is (1, n, 1), …

        >>> {name: centres.shape for name, centres in Grid(x=(0, 1, 4), y=(0, 1, 2)).mesh.items()}
        {'y': (2, 1), 'x': (1, 4)}
        """
        shapes = np.eye(self.dimension, dtype=bool)
        return {name: centres.reshape(np.where(along, centres.size, 1))
                for along, (name, centres) in zip(shapes, self.coordinates.items(), strict=True)}

    def axis(self, name: str) -> Axis:
        """(lo, hi, cells) of one axis; KeyError when the grid does not have it."""
        value: Axis | None = getattr(self, name) if name in AXIS_NAMES else None
        if value is None:
            raise KeyError(f"this grid has the axes {', '.join(sorted(self.axes))}; got {name!r}")
        return value

    def coarsen(self, factor: int | Mapping[str, int]) -> Grid:
        """The grid whose cells are ``factor`` times as wide (one number, or one for each axis).

        Raises:
            ValueError: a factor that does not divide the cells of its axis, or leaves fewer than two.

        >>> Grid(x=(0, 1, 8)).coarsen(2)
        Grid(x=(0.0, 1.0, 4))
        """
        coarse: dict[str, Axis] = {}
        for name in self.axes:
            lo, hi, cells = self.axis(name)
            ratio = factor.get(name, 1) if isinstance(factor, Mapping) else factor
            if ratio < 1 or cells % ratio:
                raise ValueError(f"the factor along {name} must divide its {cells} cells; got {ratio}")
            coarse[name] = (lo, hi, cells // ratio)
        return Grid(**coarse)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` builds the same grid."""
        return {"kind": "grid", **{name: list(self.axis(name)) for name in reversed(self.axes)}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Grid:
        """The grid that `to_dict` described.

        >>> grid = Grid(x=(0, 1, 4))
        >>> Grid.from_dict(grid.to_dict()) == grid
        True
        """
        if data.get("kind") != "grid":
            raise ValueError(f"a grid's description has kind 'grid'; got {data.get('kind')!r}")
        return cls(**{name: tuple(value) for name, value in data.items() if name != "kind"})

    def __repr__(self) -> str:
        return f"Grid({', '.join(f'{name}={self.axis(name)}' for name in reversed(self.axes))})"


def _axis(name: str, value: Any) -> Axis:
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise TypeError(f"axis {name} is (lo, hi, cells), for example (0.0, 1.0, 64); got {value!r}")
    lo, hi, cells = value
    for end in (lo, hi):
        if not isinstance(end, Real) or isinstance(end, bool):
            raise TypeError(f"the ends of axis {name} are numbers; got {end!r}")
    if not isinstance(cells, Integral) or isinstance(cells, bool):
        raise TypeError(f"axis {name} has a whole number of cells; got {cells!r}: write it as an int")
    if cells < 2:
        raise ValueError(f"axis {name} needs at least two cells; got {cells}: leave the axis out instead")
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise ValueError(f"the ends of axis {name} must be finite; got ({lo}, {hi})")
    if not lo < hi:
        raise ValueError(f"axis {name} runs from lo to hi with lo < hi; got ({lo}, {hi}): swap or move its ends")
    return float(lo), float(hi), int(cells)
