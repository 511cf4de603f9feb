"""Edges held at a value or a flux: u = w + ℓ, where ℓ meets the conditions and w meets them with zero.

Along one axis of length L, s from its low end, with values a, b or outward derivatives g, k at the low and high end:

    value, value    ℓ = a + (b − a) s/L             flux, value    ℓ = b + g (L − s)
    value, flux     ℓ = a + k s                     flux, flux     ℓ = −g s + (g + k) s²/(2L),   ℓ″ = (g + k)/L

These hold at the cells too: the finite-volume operator with its ghost cells gives ℓ″ of them exactly.
"""

from __future__ import annotations

from sdesim.boundaries import Dirichlet, Neumann, Periodic, describe, robin
from sdesim.calculus import free_symbols
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.models.pde import PDE


def lift(model: PDE, state: str) -> tuple[Expr, dict[str, Expr]]:
    """ℓ of one state, and ℓ″ by axis where it is not zero.

    Raises:
        ValueError: a value or flux that varies along the edge or in time; one along an axis while another axis holds
            the field at a value, so that no such ℓ meets both.

    >>> from sdesim.grids import Grid
    >>> lift(PDE(Grid(x=(0, 2, 8)), diffusivity=1.0, boundary={"x": (Dirichlet(1), Dirichlet(3))}), "u")
    (1 + (3 - 1)*(x/2), {})
    """
    total, curvature = const(0.0), {}
    sides = model.boundary[state]
    for axis, (low, high) in sides.items():
        if isinstance(low, Periodic) or isinstance(high, Periodic):
            continue
        (first, last) = (robin(side)[2] for side in (low, high))
        if is_zero(first) and is_zero(last):
            continue
        for side, value in ((low, first), (high, last)):
            varying = sorted(free_symbols(value) - frozenset(model.parameters))
            if varying:
                raise ValueError(f"a spectral method needs edges that do not vary; {describe(side)} along {axis} "
                                 f"depends on {', '.join(varying)}: choose a finite-volume method (rkl2, ssprk3, …)")
        held = [other for other in sides if other != axis
                and any(not isinstance(side, Periodic | Neumann) for side in sides[other])]
        if held:
            raise ValueError(f"a spectral method cannot hold {state} at a value or flux along {axis} and at a value "
                             f"along {held[0]} too: choose a finite-volume method (rkl2, ssprk3, …)")
        lo, hi, _ = model.grid.axis(axis)
        piece, bend = _along(low, high, first, last, symbol(axis) - lo, hi - lo)
        total = total + piece
        if not is_zero(bend):
            curvature[axis] = bend
    return total, curvature


def _along(low: object, high: object, first: Expr, last: Expr, s: Expr, length: float) -> tuple[Expr, Expr]:
    """ℓ and ℓ″ along one axis."""
    flat = const(0.0)
    match low, high:
        case Dirichlet(), Dirichlet():
            return first + (last - first) * (s / length), flat
        case Dirichlet(), Neumann():
            return first + last * s, flat
        case Neumann(), Dirichlet():
            return last + first * (length - s), flat
    bend = (first + last) / length
    return bend * 0.5 * (s * s) - first * s, bend
