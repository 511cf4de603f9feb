"""Gershgorin's sums of a cell as graphs: bounds on the eigenvalues that a kernel can follow as state and time change.

The same sums as in `field_bounds`, which evaluates them once on whole arrays: Σ |∂f/∂u| over the values that a cell's
right-hand side loads.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from sdesim.calculus import differentiate, substitute, walk
from sdesim.expressions import Expr, const, is_zero, load, symbol
from sdesim.kernels.field_bounds import LIMITED, UPWIND
from sdesim.kernels.field_schedule import rewrite_loads
from sdesim.stencils import Stencil


def row_sums(stencil: Stencil) -> list[tuple[Expr, Expr]]:
    """(diffusion and reaction, transport) of each state; none where they are the same at every state and time.

    Fields without slopes stand for derived ones, as in `field_bounds.spectra`. A model with potentials, whose steepness
    is bounded for all states, has none.

    >>> from sdesim import Grid, PDE
    >>> from sdesim.stencils import discretise
    >>> row_sums(discretise(PDE(Grid(x=(0, 1, 8)), diffusivity=1.0, reaction="-3*u")))
    []
    """
    upwind, rows = UPWIND.get(stencil.advection), []
    for state, terms in enumerate(zip(*stencil.terms.values())):
        diffusion, transport, reaction = (slope_sum(stencil, term) for term in terms)
        if state in stencil.extra:
            diffusion = diffusion + stencil.extra[state] * LIMITED
        real = diffusion + reaction if upwind is None else (diffusion + reaction) + transport * upwind
        rows.append((_flat(real), _flat(transport if upwind is None else transport * 0.5)))
    names = {n.value if n.op == "symbol" else n.value[0] for row in rows for n in walk(row)
             if n.op in ("symbol", "load")}
    return rows if names & {"t", *stencil.model.state} and not stencil.potentials else []


def slope_sum(stencil: Stencil, term: Expr) -> Expr:
    """Σ |∂term/∂u| over the state values that the term loads."""
    states = set(stencil.model.state)
    loads = dict.fromkeys(n.value for n in walk([term]) if n.op == "load" and n.value[0] in states)
    names = {value: f"load {k}" for k, value in enumerate(loads)}
    named = rewrite_loads(term, {value: symbol(name) for value, name in names.items()})
    slopes = [differentiate(named, name) for name in names.values()]
    back = {name: load(*value) for value, name in names.items()}
    return reduce(add, (abs(substitute(slope, back)) for slope in slopes if not is_zero(slope)), const(0.0))


def _flat(node: Expr) -> Expr:
    """The graph with 0 for the loads of derived fields."""
    derived = [n.value for n in walk([node]) if n.op == "load" and n.value[0].startswith("^")]
    return rewrite_loads(node, dict.fromkeys(derived, const(0.0)))
