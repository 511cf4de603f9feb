"""Fluxes that look at the field: transport that takes its values upwind, and limited fluxes of a diffusivity tensor.

Transport. From the cells on both sides of a face come the values u⁻ and u⁺ there, and with the speed v the flux is
max(v, 0) u⁻ + min(v, 0) u⁺. Where v depends on u itself the flux is f(u) = v(u) u, and Rusanov's (1961)

    F = ½ (f(u⁻) + f(u⁺)) − ½ max(|f′(u⁻)|, |f′(u⁺)|) (u⁺ − u⁻)

moves shocks at their speed and opens rarefactions. With a = u_i − u_{i−1}, b = u_{i+1} − u_i the value at the face is

    upwind     u_i                            order 1
    limited    u_i + ½ σ,  σ = 2ab/(a + b)    order 2; σ = 0 where a b ≤ 0 (van Leer 1974): makes no new extremes
    weno       WENO5-Z of five cells          order 5 in one dimension (Borges et al. 2008)

A tensor (Sharma & Hammett 2007, the limited asymmetric scheme). The flux along k that the slope along l drives is
D_kl L(s, s′), with s, s′ the slopes of the cells on both sides of the face, each L of those at its own two faces. L is
van Leer's mean too, so that at an extreme s = 0, and what is left there only levels it: the maximum principle. The
central scheme has arithmetic means, order 2, and none.

Slopes and the like are *derived* fields: computed in a pass of their own and then read at the neighbours, as the states
are, so that no more than one ghost cell is ever needed. Beyond an edge they vanish for transport (the edge's own value
enters there); for a tensor the mean of a slope and its ghost is the slope of the edge's value: 0 where a flux is given,
so that the condition is one on the flux.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin, ghost_expressions, robin
from sdesim.calculus import differentiate, free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, load, maximum, minimum, symbol, where
from sdesim.geometry import edge_spacing

if TYPE_CHECKING:
    from sdesim.models.pde import PDE
    from sdesim.stencil_terms import Offset, Terms

Ghosts: TypeAlias = "tuple[tuple[Expr, Expr], tuple[Expr, Expr]]"
Tensor: TypeAlias = "Mapping[tuple[int, int], Expr]"
FLOWING = "flowing"
"""In place of the axis along which a derived field is a slope: it is what flows of a state (its potential)."""


def van_leer(a: Expr, b: Expr) -> Expr:
    """2ab/(a + b) where a and b have one sign, else 0."""
    product = a * b
    return where(product > 0.0, 2.0 * product / (a + b), 0.0)


def weno5(u: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
    """The value at the high face of the middle one of five cells from their means (Borges et al. 2008, eqs. 25, 28)."""
    a, b, c, d, e = u
    parts = [(2.0 * a - 7.0 * b + 11.0 * c) * (1 / 6), (5.0 * c - b + 2.0 * d) * (1 / 6),
             (2.0 * c + 5.0 * d - e) * (1 / 6)]
    bends = [(a - 2.0 * b + c, a - 4.0 * b + 3.0 * c), (b - 2.0 * c + d, b - d),
             (c - 2.0 * d + e, 3.0 * c - 4.0 * d + e)]
    beta = [p * p * (13 / 12) + q * q * 0.25 for p, q in bends]
    tau = maximum(beta[0] - beta[2], beta[2] - beta[0])
    ratios = [tau / (part + 1e-40) for part in beta]
    weights = [(r * r + 1.0) * ideal for r, ideal in zip(ratios, (0.1, 0.6, 0.3))]
    total = weights[0] + weights[1] + weights[2]
    return (weights[0] * parts[0] + weights[1] * parts[1] + weights[2] * parts[2]) / total


def transport(t: Terms, state: str, v: Expr, axis: int) -> Expr:
    """∂(v u) along one axis, its values taken upwind."""
    fluxes = [t.carried(state, axis, face, _flux(t, state, v, axis, face)) for face in (t.here, t.unit[axis])]
    return t._shared(state, axis, fluxes[1] - fluxes[0])


def _flux(t: Terms, state: str, v: Expr, axis: int, face: Offset) -> Expr:
    """The flux through the low face of the cell at `face`, times what it counts for there."""
    left, right = _values(t, state, axis, face)
    flowing = t.model.flowing(state)
    if flowing not in free_symbols(v):
        speed = t.speed(state, v, axis, face)
        return maximum(speed, 0.0) * left + minimum(speed, 0.0) * right
    flux = v * symbol(flowing)
    slope = differentiate(flux, flowing)
    f, steep = [], []
    for u in (left, right):
        f.append(_at_face(t, state, substitute(flux, {flowing: u}), axis, face))
        pace = _at_face(t, state, substitute(slope, {flowing: u}), axis, face)
        steep.append(maximum(pace, -pace))
    return (f[0] + f[1]) * 0.5 - maximum(steep[0], steep[1]) * 0.5 * (right - left)


def _at_face(t: Terms, state: str, node: Expr, axis: int, face: Offset) -> Expr:
    """An expression at a face, times what it counts for: the mean over both cells if it varies but by u there."""
    if free_symbols(node) & (t.moving | t.spatial):
        return t._mean(state, node, axis, face, 1.0 / t.spacing[axis], "passage")
    return node * (1.0 / t.spacing[axis]) if t.even[axis] else node * t._factor(state, "passage", axis, face)


def _values(t: Terms, state: str, axis: int, face: Offset) -> tuple[Expr, Expr]:
    """u⁻ and u⁺ at the low face of the cell at `face`."""
    cells = tuple(f - s for f, s in zip(face, t.unit[axis])), face
    left, right = (t.value(state, cell) for cell in cells)
    if t.advection == "weno":
        ahead, behind = _weno_steps(t, state, axis)
        low, high = load(ahead, cells[0]), load(behind, cells[1])
    elif t.advection == "limited":
        slope = _slope(t, state, axis)
        low, high = load(slope, cells[0]) * 0.5, load(slope, cells[1]) * -0.5
    else:
        low = high = const(0.0)
    if t.advection == "limited" and not t.even[axis]:
        low, high = _uneven(t, state, axis, face, left, right)
    before, beyond = _walls(t, state, axis, face)
    step = right - left
    return left + low + before * step, right + high - beyond * step


def _uneven(t: Terms, state: str, axis: int, face: Offset, left: Expr, right: Expr) -> tuple[Expr, Expr]:
    """What limited slopes add up to from the centres on both sides to a face, no more than to the other centre."""
    slope, step = _slope(t, state, axis), right - left
    reach = t._factor(state, "distance", axis, face)
    blend = t._factor(state, "blend", axis, face)
    cell = tuple(f - s for f, s in zip(face, t.unit[axis]))
    low, high = load(slope, cell) * (reach * blend), load(slope, face) * (reach * (1.0 - blend))
    most, least = maximum(step, 0.0), minimum(step, 0.0)
    return maximum(minimum(low, most), least), -maximum(minimum(high, most), least)


def _differences(t: Terms, state: str, axis: int) -> tuple[Expr, Expr]:
    """u_c − u_low and u_high − u_c, over the distance where that varies."""
    low, high = t._steps(state, axis)
    if t.even[axis]:
        return low, high
    return (low / t._factor(state, "distance", axis, t.here), high / t._factor(state, "distance", axis, t.unit[axis]))


def _slope(t: Terms, state: str, axis: int) -> str:
    return t.derive(state, van_leer(*_differences(t, state, axis)), 0.0)


def _weno_steps(t: Terms, state: str, axis: int) -> tuple[str, str]:
    """From a cell's mean to its values at the high and the low face; the cells two away by second differences."""
    if not t.even[axis] or t.model.grid.mask is not None:
        raise ValueError(f'advection="weno" needs equal cells along {t.axes[axis]}, all of them in the field; '
                         'take "limited"')
    low, high = t._steps(state, axis)
    bend = t.derive(state, high - low, 0.0)
    unit = t.unit[axis]
    back: Offset = tuple(-s for s in unit)
    left, here, right = (t.value(state, offset) for offset in (back, t.here, unit))
    u = (load(bend, back) + 2.0 * left - here, left, here, right, load(bend, unit) + 2.0 * right - here)
    return t.derive(state, weno5(u) - here, 0.0), t.derive(state, weno5((u[4], u[3], u[2], u[1], u[0])) - here, 0.0)


def _walls(t: Terms, state: str, axis: int, face: Offset) -> tuple[Expr, Expr]:
    """½ on the low and on the high edge of the grid, where the value at the edge is the mean of cell and ghost."""
    sides, found = t.model.boundary[state][t.axes[axis]], []
    lo, hi, _ = t.model.grid.axis(t.axes[axis])
    x, near = symbol(t.axes[axis]), 1e-9 * (hi - lo)
    for side, at in zip(sides, (x < lo + near, x > hi - near)):
        plain = isinstance(side, Periodic) or isinstance(side, Neumann) and is_zero(robin(side)[2])
        found.append(const(0.0) if plain else load(t._static(state, where(at, 0.5, 0.0), "point", axis, 1.0), face))
    return found[0], found[1]


def cross_flux(t: Terms, state: str, driver: str, D: Tensor, pair: tuple[int, int], limited: bool) -> Expr:
    """∂_k(D_kl ∂_l u_driver) of one state, D by pairs of axes in array order."""
    k, l = pair
    mean = van_leer if limited else _arithmetic
    name = t.derive(driver, mean(*_gradients(t, state, driver, D, l, mean)), -1.0, t.axes[l])
    fluxes = []
    for face in (t.here, t.unit[k]):
        cell = tuple(f - s for f, s in zip(face, t.unit[k]))
        between = t.carried(driver, k, face, mean(load(name, cell), load(name, face)))
        fluxes.append(t.coefficient(state, D[pair], k, face) * between)
    return t._shared(state, k, fluxes[1] - fluxes[0])


def _gradients(t: Terms, state: str, driver: str, D: Tensor, l: int, mean: Callable[[Expr, Expr], Expr]) -> list[Expr]:
    """∂_l u at the low and at the high face of a cell.

    At an edge that gives the flux D_ll w, w the slope towards the ghost, ∂_l u is w − Σ_m (D_lm/D_ll) ∂_m u.
    """
    found, edges, x = [], t.model.grid.edges[t.axes[l]], symbol(t.axes[l])
    sides = t.model.boundary[driver][t.axes[l]]
    for side, at, slope in zip(sides, (x < float(edges[1]), x > float(edges[-2])), _slopes(t, driver, l)):
        for (a, m), entry in D.items() if isinstance(side, Neumann | Robin) else ():
            if a == l and m != l:
                ratio = t.at(state, where(at, entry / maximum(D[l, l], 1e-300), 0.0), t.here)
                slope = slope - ratio * mean(*_slopes(t, driver, m))
        found.append(slope)
    return found


def _slopes(t: Terms, state: str, axis: int) -> list[Expr]:
    """∂u at the low and at the high face of a cell."""
    return [d * (1.0 / t.spacing[axis]) if t.even[axis] else d for d in _differences(t, state, axis)]


def _arithmetic(a: Expr, b: Expr) -> Expr:
    return (a + b) * 0.5


def edge_ghosts(model: PDE, state: str, axis: str) -> Ghosts | None:
    """A and B of the low and of the high ghost, by which the edges of a state along one axis hold; None where periodic.
    """
    low, high = model.boundary[state][axis]
    if isinstance(low, Periodic):
        return None
    first, last = edge_spacing(model.grid, axis)
    return ghost_expressions(low, first), ghost_expressions(high, last)


def derived_ghosts(t: Terms, state: str, B: float, along: str) -> tuple[Ghosts | None, ...]:
    """The ghosts A + B·s of a derived field on every axis: A is twice the slope of an edge's value, 0 without one.

    What flows of a state has those that the state's edges say.
    """
    if along == FLOWING:
        return tuple(edge_ghosts(t.model, state, axis) for axis in t.axes)
    result: list[Ghosts | None] = []
    for axis in t.axes:
        sides = t.model.boundary[state][axis]
        if isinstance(sides[0], Periodic):
            result.append(None)
            continue
        values = [robin(side)[2] if isinstance(side, Dirichlet) and along not in ("", axis) else const(0.0)
                  for side in sides]
        low, high = (2.0 * differentiate(value, along) if along else const(0.0) for value in values)
        result.append(((low, const(B)), (high, const(B))))
    return tuple(result)
