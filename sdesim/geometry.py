"""The one mechanism of finite volumes on every grid: what a face lets through, shared out over a cell's volume.

On axes at right angles the mean of u over a cell changes, along one axis, by

    du_c/dt = s [g_high D_high (u_right − u_c) − g_low D_low (u_c − u_left) − p_high v_high u_high + p_low v_low u_low]

with the areas p of its faces, g = p/d over the distances d between centres, and s one over its volume (p and 1/s but
for a common factor that is constant along the axis):

                                p               1/s                         d
    box, x                      1               Δx                          Δx
    cylinder, r                 r               (r_high² − r_low²)/2        Δr
    ball, r                     r²              (r_high³ − r_low³)/3        Δr
    sphere of radius R, lat     cos φ           R (sin φ_high − sin φ_low)  R Δφ
    sphere of radius R, lon     1               R Δλ (Δ sin φ)/Δφ           R cos φ Δλ

At r = 0 and at the poles p = 0, so that nothing is to be said there. What leaves a cell enters the next: Σ V u changes
by what crosses the edges alone. Where all cells are equal these are the constants 1/Δ² and 1/Δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sdesim.calculus import evaluate
from sdesim.expressions import Expr
from sdesim.orthogonal import Array, Orthogonal


@dataclass(frozen=True, eq=False)
class Metric:
    """The factors of one axis, arrays that broadcast against the grid; along the axis, faces are one more than cells.

    Attributes:
        conductance: g of the faces.
        passage: p of the faces.
        share: s of the cells.
        blend: weight of the high cell in a face's value, by linear interpolation.
        slope_low, slope_high: weights of u_c − u_left and u_right − u_c in ∂u at a cell, exact for parabolas.
        distance: d of the faces.
        reach_low, reach_high: distances from a cell's centre to its low and high face.
    """

    conductance: Array
    passage: Array
    share: Array
    blend: Array
    slope_low: Array
    slope_high: Array
    distance: Array
    reach_low: Array
    reach_high: Array


@lru_cache(maxsize=64)
def metric(grid: Orthogonal, name: str, periodic: bool) -> Metric | None:
    """The factors of one axis; None where they are constants.

    >>> from sdesim.grids import Grid
    >>> metric(Grid(x=(0.0, 1.0, 4)), "x", False) is None
    True
    >>> metric(Grid(x=np.array([0.0, 1.0, 3.0, 4.0])), "x", False).conductance.round(3)
    array([1.   , 0.667, 0.667, 1.   ])
    """
    if grid.is_plain(name):
        return None
    k = grid.axes.index(name)
    (scale,) = evaluate((grid.scale(name),), grid.mesh)
    low, high = _halves(grid, name, periodic)
    distance = grid.along(name, low + high) * scale
    passage = grid.passage(name)
    before, after = (np.take(distance, np.arange(n, distance.shape[k] - 1 + n), axis=k) for n in (0, 1))
    slope_low, slope_high = after / (before * (before + after)), before / (after * (before + after))
    shut_low, shut_high = (False, False) if grid.mirrors(name) else grid.closed(name)
    first, last = ((slice(None),) * k + (slice(*s),) for s in ((0, 1), (-1, None)))
    if shut_low:
        slope_low[first], slope_high[first] = 0.0, 1.0 / after[first]
    if shut_high:
        slope_low[last], slope_high[last] = 1.0 / before[last], 0.0
    reaches = (grid.along(name, half) * scale for half in (high[:-1], low[1:]))
    return Metric(passage / distance, passage, grid.share(name), grid.along(name, low / (low + high)), slope_low,
                  slope_high, distance, *reaches)


def _halves(grid: Orthogonal, name: str, periodic: bool) -> tuple[Array, Array]:
    """From each face to the centre below and above it; beyond an edge the cell is mirrored, or the far one."""
    edges, centres = grid.edges[name], grid.coordinates[name]
    above, below = centres - edges[:-1], edges[1:] - centres
    first, last = (below[-1], above[0]) if periodic else (above[0], below[-1])
    return np.concatenate([[first], below]), np.concatenate([above, [last]])


def edge_spacing(grid: Orthogonal, name: str) -> tuple[Expr | float, Expr | float]:
    """Distances from the first and the last centres along an axis to their mirror images beyond the edges.

    >>> from sdesim.grids import Grid
    >>> edge_spacing(Grid(x=np.array([0.0, 1.0, 3.0, 6.0])), "x")
    (1.0, 3.0)
    """
    if grid.is_plain(name):
        return (grid.spacing[name],) * 2
    edges, centres = grid.edges[name], grid.coordinates[name]
    spans = float(2.0 * (centres[0] - edges[0])), float(2.0 * (edges[-1] - centres[-1]))
    scale = grid.scale(name)
    if scale.op == "const":
        return float(scale.value) * spans[0], float(scale.value) * spans[1]
    return scale * spans[0], scale * spans[1]


def factor(grid: Orthogonal, name: str, periodic: bool, which: str) -> Array:
    """One of the factors of an axis by its name; "root" is 1/√V of every cell, the same for all axes; or `_spread`.

    >>> from sdesim.grids import Grid
    >>> factor(Grid(x=np.array([0.0, 1.0, 5.0])), "x", False, "root")
    array([1. , 0.5])
    """
    if which == "root":
        return np.asarray(1.0 / np.sqrt(grid.volumes))
    if which == "spread":
        return _spread(grid, name, periodic)
    found = metric(grid, name, periodic)
    assert found is not None  # asked for of uneven axes only
    return np.asarray(getattr(found, which))


def _spread(grid: Orthogonal, name: str, periodic: bool) -> Array:
    """√(g/c) of the faces, c = V s: with the area A = p c of a face, s A ξ = s √(g/c) √h z for the mean ξ over A d."""
    found = metric(grid, name, periodic)
    plain = grid.along(name, np.ones(grid.axis(name)[2] + 1))
    conductance = plain / grid.spacing[name] if found is None else found.conductance
    share = 1.0 / grid.spacing[name] if found is None else found.share
    common = np.take(grid.volumes * share, [0], axis=grid.axes.index(name))
    return np.asarray(np.sqrt(conductance / common))
