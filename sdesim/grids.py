"""Where a field lives: a box cut into cells.

An axis (lo, hi, n) is cut into n cells of width Δ = (hi − lo)/n with centres lo + (i + ½)Δ, i = 0 … n−1; an array of
n + 1 rising edges cuts it into cells of those ends, centred between them. A value of a field is the mean over its cell.
Arrays have the order (…, z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.orthogonal import Array, Cut, Orthogonal, as_cut, as_mask, cuts_from_dict, cuts_to_dict

AXIS_NAMES = ("x", "y", "z")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Grid(Orthogonal):
    """A box of cells in one to three dimensions.

    Args:
        x, y, z: ``(lo, hi, cells)`` for each axis that the grid has, cells an integer ≥ 2; or, for cells that are not
            equally wide, a rising array of their ends (a list or tuple of three is always ``(lo, hi, cells)``).
        mask: cells that are left out (an obstacle, land): a boolean array or DataArray over the grid, True in them.
            Their faces are edges of the field, where a model's boundary condition "mask" holds; no flux by default.

    Raises:
        TypeError: an axis of another form, cells that are no integer, an unknown axis name, a mask that is not boolean.
        ValueError: fewer than two cells, ends that are not finite, ``lo >= hi``, edges that do not rise, no axis at
            all, a mask of another shape, or one that leaves out no cell or every cell.

    >>> grid = Grid(x=(0.0, 1.0, 4), y=(0.0, 2.0, 2))
    >>> grid.axes, grid.shape, grid.cell_volume
    (('y', 'x'), (2, 4), 0.25)
    >>> grid.coordinates["x"]
    array([0.125, 0.375, 0.625, 0.875])
    >>> Grid(x=np.geomspace(1.0, 16.0, 5)).coordinates["x"]
    array([ 1.5,  3. ,  6. , 12. ])
    """

    x: Cut | None
    y: Cut | None
    z: Cut | None
    mask: NDArray[np.bool_] | None

    def __init__(self, x: Any = None, y: Any = None, z: Any = None, *, mask: Any = None, **unknown: Any) -> None:
        if unknown:
            raise TypeError(f"a Grid has the axes x, y and z; got {', '.join(sorted(unknown))}: rename the axis")
        given = {"x": x, "y": y, "z": z}
        if all(value is None for value in given.values()):
            raise ValueError("a Grid needs at least one axis, for example Grid(x=(0.0, 1.0, 64)); got none")
        for name, value in given.items():
            object.__setattr__(self, name, None if value is None else as_cut(name, value))
        object.__setattr__(self, "mask", as_mask(self, mask))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in array order: a subset of ("z", "y", "x")."""
        return tuple(name for name in reversed(AXIS_NAMES) if getattr(self, name) is not None)

    @property
    def is_box(self) -> bool:
        """Whether the cells are equal boxes."""
        return all(self.is_even(name) for name in self.axes)

    def is_plain(self, name: str) -> bool:
        """Whether all cells along an axis are equally wide."""
        return self.is_even(name)

    def passage(self, name: str) -> Array:
        """Areas of the faces across an axis, but for a factor that is constant along it: ones."""
        return self.along(name, np.ones(self.axis(name)[2] + 1))

    def share(self, name: str) -> Array:
        """1/Δ of the cells along an axis."""
        return self.along(name, 1.0 / np.diff(self.edges[name]))

    @property
    def volumes(self) -> Array:
        """Length, area or volume of every cell, in the grid's shape."""
        total = np.ones(self.shape)
        for name, edges in self.edges.items():
            total = total * (self.spacing[name] if self.is_even(name) else self.along(name, np.diff(edges)))
        return total

    def coarsen(self, factor: int | Mapping[str, int]) -> Grid:
        """The grid whose cells are ``factor`` times as wide (one number, or one for each axis).

        A coarse cell is left out where all of its cells are.

        Raises:
            ValueError: a factor that does not divide the cells of its axis, or leaves fewer than two.

        >>> Grid(x=(0, 1, 8)).coarsen(2)
        Grid(x=(0.0, 1.0, 4))
        """
        coarse: dict[str, Any] = {}
        mask = self.mask
        for k, name in enumerate(self.axes):
            lo, hi, cells = self.axis(name)
            ratio = factor.get(name, 1) if isinstance(factor, Mapping) else factor
            if ratio < 1 or cells % ratio:
                raise ValueError(f"the factor along {name} must divide its {cells} cells; got {ratio}")
            coarse[name] = (lo, hi, cells // ratio) if self.is_even(name) else self.edges[name][::ratio]
            if mask is not None:
                mask = np.asarray(mask.reshape(*mask.shape[:k], -1, ratio, *mask.shape[k + 1 :]).all(axis=k + 1))
        return Grid(**coarse, mask=mask if mask is not None and mask.any() else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` builds the same grid; a mask stays an array."""
        return {"kind": "grid", **cuts_to_dict(self), **({} if self.mask is None else {"mask": self.mask})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Grid:
        """The grid that `to_dict` described.

        >>> grid = Grid(x=(0, 1, 4))
        >>> Grid.from_dict(grid.to_dict()) == grid
        True
        """
        if data.get("kind") != "grid":
            raise ValueError(f"a grid's description has kind 'grid'; got {data.get('kind')!r}")
        return cls(**cuts_from_dict(data))
