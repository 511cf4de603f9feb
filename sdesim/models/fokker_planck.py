"""The equation of an SDE's probability density (Fokker 1914; Planck 1917; Gardiner 2009, §5.2; Risken 1996, §4.7).

For the Itô equation dX = a dt + Σ_c g_c dW_c, with D = ½ Σ_c g_c g_cᵀ,

    ∂p/∂t = −Σ_i ∂_i(a_i p) + Σ_ij ∂_i∂_j(D_ij p) = ∇·(D ∇p) − ∇·(v p),     v_i = a_i − Σ_j ∂_j D_ij.

In conservative form the flux D∇p − vp leaves one cell and enters the next: probability is kept to round-off.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from sdesim.boundaries import Absorbing, Dirichlet, Neumann
from sdesim.calculus import differentiate, substitute
from sdesim.expressions import Expr, const, is_zero, symbol, where
from sdesim.grids import AXIS_NAMES, Grid
from sdesim.models.jumps import refuse_jumps
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE

_EDGE = 1e-9  # faces closer to the edge than this share of the squared length lie on it


def fokker_planck(sde: SDE, grid: Grid, *, name: str = "p", boundary: Mapping[str, Any] | None = None) -> PDE:
    """The PDE of the density of an SDE with one to three states, on a grid with as many axes.

    A state named like an axis of the grid (x, y, z) lies along it; the others take the remaining axes in order. `name`
    is the density's. No probability passes an edge, unless the SDE is absorbed there (the density is then 0) or
    `boundary` says otherwise, as `PDE` takes it: {"x": sim.Periodic()} for an angle. The drift is taken in Itô's sense,
    whatever the SDE's. Transport turns upwind, of first order, where |v|Δ/D exceeds 2 anywhere: keep the grid to where
    the density lives. `simulate` the PDE from an initial density, normalised over the grid.

    Raises TypeError for what is no SDE or Grid; ValueError for another number of axes, a parameter that is not one
    number, or bounds that are not the grid's ends.

    >>> import sdesim as sim
    >>> ou = sim.SDE({"x": "-k*x"}, {"x": "s*x"}, parameters={"k": 1.0, "s": 0.5})
    >>> equation = fokker_planck(ou, sim.Grid(x=(-4, 4, 64)), boundary={"x": sim.Periodic()})
    >>> equation.velocity["p"]["x"], equation.diffusivity["p"]["p"]
    (-k*x - 0.5*(s*(s*x) + s*x*s), 0.5*(s*x*(s*x)))
    """
    if isinstance(sde, SDE):
        refuse_jumps(sde, "fokker_planck")
    if not isinstance(sde, SDE) or not isinstance(grid, Grid):
        raise TypeError(f"fokker_planck takes an SDE and a Grid, got {type(sde).__name__} and {type(grid).__name__}")
    axis_of = _axes(sde, grid)
    for key, value in sde.parameters.items():
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ValueError(f"the density has one value of each parameter; {key} is {value!r:.60}: give a number")
    clashes = sorted({name, *axis_of.values()} & set(sde.parameters))
    if clashes or name in AXIS_NAMES:
        raise ValueError(f"'{(clashes or [name])[0]}' names a parameter and an axis or the density; rename one of them")
    D, v = _coefficients(sde)
    moved = {s: symbol(axis) for s, axis in axis_of.items()}
    edges, closed = _edges(sde, grid, axis_of, dict(boundary or {}))
    velocity = {axis_of[s]: substitute(term, moved) for s, term in v.items()}
    velocity = {axis: _closed(term, grid, axis, closed[axis]) for axis, term in velocity.items() if not is_zero(term)}
    states = sorted(sde.states, key=lambda s: AXIS_NAMES.index(axis_of[s]))
    tensor = [[substitute(D[i, j], moved) for j in states] for i in states]
    return PDE(grid, (name,), diffusivity=_diffusivity(tensor), velocity=velocity or None, boundary=edges,
               parameters=dict(sde.parameters), units=_units(sde, axis_of, name))  # fmt: skip


def _axes(sde: SDE, grid: Grid) -> dict[str, str]:
    """The axis of each state."""
    if len(sde.states) != grid.dimension:
        raise ValueError(f"the density of {len(sde.states)} states ({', '.join(sde.states)}) needs a grid with as many "
                         f"axes; this one has {', '.join(sorted(grid.axes))}")  # fmt: skip
    own = {s: s for s in sde.states if s in grid.axes}
    free = iter(axis for axis in AXIS_NAMES if axis in grid.axes and axis not in own)
    return {s: own.get(s) or next(free) for s in sde.states}


def _coefficients(sde: SDE) -> tuple[dict[tuple[str, str], Expr], dict[str, Expr]]:
    """(D, v) in the SDE's own names."""
    D = {}
    for i in sde.states:
        for j in sde.states:
            total = const(0.0)
            for c in sde.channels:
                if (i, c) in sde.noise and (j, c) in sde.noise:
                    total = total + sde.noise[i, c] * sde.noise[j, c]
            D[i, j] = 0.5 * total
    v = {}
    for i, a in sde.drift_in("ito").items():
        v[i] = a
        for j in sde.states:
            slope = differentiate(D[i, j], j)
            v[i] = v[i] if is_zero(slope) else v[i] - slope
    return D, v


def _diffusivity(tensor: list[list[Expr]]) -> Any:
    """One expression where the tensor is isotropic, else the tensor in x-y-z order."""
    n = len(tensor)
    if all(tensor[k][k] is tensor[0][0] for k in range(n)) and all(
        is_zero(tensor[i][j]) for i in range(n) for j in range(n) if i != j
    ):
        return tensor[0][0]
    return tensor


def _edges(
    sde: SDE, grid: Grid, axis_of: Mapping[str, str], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[bool, bool]]]:
    """(what holds at each edge, whether its low and its high side let nothing pass)."""
    unknown = sorted(set(given) - set(grid.axes))
    if unknown:
        raise ValueError(f"boundary names the axis {unknown[0]}; the grid has {', '.join(sorted(grid.axes))}")
    edges: dict[str, Any] = dict(given)
    closed = {axis: (axis not in given, axis not in given) for axis in grid.axes}
    for s, axis in axis_of.items():
        bound, (lo, hi, _) = sde.bounds.get(s), grid.axis(axis)
        if axis in given:
            continue
        ends = () if bound is None else ((bound.lo, lo), (bound.hi, hi))
        for wanted, end in ends:
            if wanted is not None and abs(wanted - end) > _EDGE * (hi - lo):
                raise ValueError(f"{s} is bounded at {wanted:g}, so the grid must end there along {axis}; it runs from "
                                 f"{lo:g} to {hi:g}")  # fmt: skip
        absorbed = [isinstance(bound, Absorbing) and end is not None for end in (getattr(bound, "lo", None),
                                                                                  getattr(bound, "hi", None))]
        edges[axis] = tuple(Dirichlet(0.0) if out else Neumann(0.0) for out in absorbed)
        closed[axis] = (not absorbed[0], not absorbed[1])
    return edges, closed


def _closed(v: Expr, grid: Grid, axis: str, sides: tuple[bool, bool]) -> Expr:
    """The velocity, zero on the faces at closed edges: with ∂p/∂n = 0 there, no flux passes them at all."""
    lo, hi, _ = grid.axis(axis)
    tiny = _EDGE * (hi - lo)
    x = symbol(axis)
    for closed, inside in zip(sides, (x > lo + tiny, x < hi - tiny), strict=True):
        v = where(inside, v, 0.0) if closed else v
    return v


def _units(sde: SDE, axis_of: Mapping[str, str], name: str) -> dict[str, str]:
    units = {axis_of.get(key, key): unit for key, unit in sde.units.items()}
    lengths = [units[axis] for axis in axis_of.values() if axis in units]
    if len(lengths) == len(axis_of):
        units[name] = " ".join(f"({unit})-1" for unit in lengths)
    return units
