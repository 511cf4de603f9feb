"""Edges that many equations of the catalogue share."""

from __future__ import annotations

from sdesim.boundaries import Periodic
from sdesim.grids import Grid


def periodic(grid: Grid) -> dict[str, Periodic]:
    """A box that repeats along every axis.

    >>> sorted(periodic(Grid(x=(0, 1, 4), y=(0, 1, 4))))
    ['x', 'y']
    """
    return {axis: Periodic() for axis in grid.axes}


def squared_slope(grid: Grid, state: str) -> str:
    """|∇state|² as text, over the axes that the grid has.

    >>> squared_slope(Grid(x=(0, 1, 4), y=(0, 1, 4)), "h")
    'ddx(h)**2 + ddy(h)**2'
    """
    return " + ".join(f"dd{axis}({state})**2" for axis in reversed(grid.axes))
