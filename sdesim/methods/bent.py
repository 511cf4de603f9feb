"""A diffusivity D(u) of a state's own value, split for the modes: D(0) goes with them, the rest is a flux."""

from __future__ import annotations

from sdesim.calculus import free_symbols, substitute
from sdesim.expressions import Expr, const, where
from sdesim.models.pde import PDE, Diffusivity


def bent(model: PDE, name: str) -> Expr | None:
    """The diffusivity of a state if it is one expression of that state's own value and parameters, else None.

    >>> from sdesim.grids import Grid
    >>> bent(PDE(Grid(x=(0, 1, 8)), diffusivity="1 + u**2"), "u")
    1 + u**2
    """
    term = model.diffusivity.get(name, {}).get(name)
    if isinstance(term, Expr) and name in free_symbols(term) <= {name, *model.parameters}:
        return term
    return None


def at_rest(model: PDE, name: str) -> Diffusivity:
    """D of one state, taken at u = 0 where it is bent.

    >>> from sdesim.grids import Grid
    >>> at_rest(PDE(Grid(x=(0, 1, 8)), diffusivity="1 + u"), "u")
    1
    """
    term: Diffusivity = model.diffusivity.get(name, {}).get(name, const(0.0))
    moving = bent(model, name)
    return term if moving is None else substitute(moving, {name: 0.0})


def fastest_growth(model: PDE, name: str) -> Expr:
    """The largest −Dk² − κk⁴ of a state with a scalar diffusivity: D²/4κ where D < 0, else 0.

    >>> from sdesim.calculus import evaluate
    >>> from sdesim.grids import Grid
    >>> model = PDE(Grid(x=(0, 1, 8)), diffusivity=-2.0, hyperdiffusivity=0.5)
    >>> float(evaluate([fastest_growth(model, "u")], {})[0])
    2.0
    """
    D = at_rest(model, name)
    if not isinstance(D, Expr):
        return const(0.0)
    return where(D < 0.0, D * D / (4.0 * model.hyperdiffusivity[name]), 0.0)
