"""The finite-volume right-hand side of a field equation, written once, as expressions of neighbouring cells.

On cells of width Δ the mean of u over a cell changes by the fluxes through its faces,

    du_c/dt = Σ_axes (F_high − F_low)/Δ + R,      F = D_f ∂u − v_f u_f,      ∂u = (u_right − u_left)/Δ at a face.

The diffusivity of a face D_f is the harmonic mean of its two cells where D is a given function of space (the flux is
then exact through a jump of D that lies on a face), and the arithmetic mean where D depends on the state or the time
(a harmonic mean would freeze the front of a porous medium). Transport is central, u_f = ½(u_left + u_right), or takes
u_f upwind, and a diffusivity tensor may have limited fluxes: see `sdesim.stencil_limited`.
Every flux leaves one cell and enters the next, so that Σ u changes by boundary fluxes and reactions alone.

Expressions that depend on space but not on the state or the time are *static*: they are named here, computed once as
arrays, and loaded by the right-hand side like a field. A cell beyond the edge is a ghost, g = A + B·u
(`sdesim.boundaries`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import sqrt
from operator import add

from sdesim.calculus import walk
from sdesim.expressions import Expr, const
from sdesim.models.pde import ADVECTION, PDE
from sdesim.models.potential import Potential
from sdesim.stencil_limited import derived_ghosts, edge_ghosts
from sdesim.stencil_mask import MaskedTerms
from sdesim.stencil_noise import Noises, Source, check
from sdesim.stencil_terms import Static, Terms


@dataclass(frozen=True, eq=False)
class Stencil:
    """The discrete model: what `discretise` makes of a PDE.

    Attributes:
        model: the PDE.
        right_side: du/dt of each state at a cell: loads of states and static arrays around it, parameters and t.
        terms: its parts by state, "diffusion" − "transport" + "reaction".
        noise: what a step adds to each state that has noise, by the state's number: loads of the increments "~j" of
            its sources, of fluxes "!k", and of what stands at a cell (`sdesim.stencil_noise`).
        sources: where the increments come from.
        fluxes: fields that noise loads: what goes through the low faces of the cells, and first increments.
        statics: the static arrays by their names (which start with "%").
        ghosts: for each state (then derived field, then flux) and axis the (A, B) of the low and of the high ghost, or
            None where periodic.
        advection: "central", "upwind", "limited", "weno", or "none" without transport.
        derived: fields "^0", "^1", … that the right-hand side loads besides the states, each an expression of loads of
            states, static arrays and derived fields before it. Their ghosts follow those of the states.
        potentials: which derived fields are the potentials of states, by name.
        extra: by the state's number a bound on what limited fluxes add to the size of its eigenvalues.
    """

    model: PDE
    right_side: tuple[Expr, ...]
    terms: dict[str, tuple[Expr, ...]]
    noise: dict[int, Expr]
    sources: tuple[Source, ...]
    fluxes: tuple[Expr, ...]
    statics: dict[str, Static]
    ghosts: tuple[tuple[tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None, ...], ...]
    advection: str
    derived: tuple[Expr, ...] = ()
    potentials: Mapping[str, Potential] = field(default_factory=dict)
    extra: dict[int, Expr] = field(default_factory=dict)

    @property
    def noise_scale(self) -> float:
        """√(1/V) of the cell volume V, by which white noise is its mean over a cell; 1 where each cell has its own."""
        return 1.0 / sqrt(self.model.grid.cell_volume) if self.model.grid.is_box else 1.0

    @property
    def memories(self) -> tuple[Source, ...]:
        """The sources with a memory, each of which has a field beside the states."""
        return tuple(source for source in self.sources if source.memory is not None)

    @property
    def sheets(self) -> tuple[int, ...]:
        """Numbers of the sources that are correlated in space."""
        return tuple(j for j, source in enumerate(self.sources) if source.colour is not None)

    def edges_of(self, name: str) -> int:
        """Where in `ghosts` the edges of a state, a derived field or a flux stand."""
        if name in self.model.state:
            return self.model.state.index(name)
        return len(self.right_side) + int(name[1:]) + (len(self.derived) if name[0] == "!" else 0)

    @property
    def has_corners(self) -> bool:
        """Whether a load reaches across two axes at once, as mixed derivatives do."""
        return any(n.op == "load" and sum(map(abs, n.value[1])) > 1 for n in walk([*self.right_side, *self.derived]))


def discretise(model: PDE, advection: str | None = None) -> Stencil:
    """The finite-volume right-hand side of a model on its grid.

    Args:
        model: the PDE.
        advection: in place of the model's own: "central" (the default; second order; wiggles where the cell Péclet
            number |v|Δ/D exceeds 2), "upwind", "limited" or "weno" (`sdesim.stencil_limited`).

    Raises:
        ValueError: an unknown `advection`; a noise amplitude that uses derivatives; a tensor that couples axes on a
            grid that is no `Grid`; "weno" on cells that are not equal.
            A hyperdiffusivity, which needs a spectral method. Conserved noise with a Robin edge, or a mask that holds a
            value.

    >>> from sdesim.grids import Grid
    >>> stencil = discretise(PDE(Grid(x=(0.0, 4.0, 4)), diffusivity="k", parameters={"k": 1.0}))
    >>> from sdesim.calculus import evaluate
    >>> evaluate(stencil.right_side, {"k": 2.0, ("u", (-1,)): 1.0, ("u", (0,)): 1.0, ("u", (1,)): 3.0})
    [4.0]
    """
    advection = advection or model.advection or "central"
    if advection not in ADVECTION:
        raise ValueError(f"advection is one of {', '.join(ADVECTION)}; got {advection!r}")
    if model.hyperdiffusivity:
        raise ValueError("finite-volume methods have no fourth-order term, and there is a hyperdiffusivity of "
                         f"{', '.join(model.hyperdiffusivity)}: use exact, etdrk4 or exponential_euler")
    for state, term in model.noise.items():
        check(model, state, term)
    builder = (Terms if model.grid.mask is None else MaskedTerms)(model, advection)
    parts = {name: tuple(term(state) for state in model.state) for name, term in (
        ("diffusion", builder.diffusion), ("transport", builder.transport), ("reaction", builder.reaction))}
    right_side = tuple(builder.inside(state, d - v + r) for state, d, v, r in zip(model.state, *parts.values()))
    terms = {name: tuple(map(builder.inside, model.state, row)) for name, row in parts.items()}
    noises = Noises(builder)
    used = {n.value[0] for n in walk([*right_side, *noises.terms.values(), *noises.fields,
                                      *(key[0] for key in builder.derived)]) if n.op == "load"}
    ghosts = [tuple(_ghosts(model, state, axis) for axis in model.grid.axes) for state in model.state]
    ghosts += [derived_ghosts(builder, *key[1:]) for key in builder.derived]
    ghosts += noises.ghosts
    return Stencil(
        model=model,
        right_side=right_side,
        terms=terms,
        noise=noises.terms,
        sources=tuple(noises.sources),
        fluxes=tuple(noises.fields),
        statics={name: static for static, name in builder.names.items() if name in used},
        ghosts=tuple(ghosts),
        advection=advection if model.velocity else "none",
        derived=tuple(key[0] for key in builder.derived),
        potentials={name: model.potential[state] for state, name in builder.flows.items()},
        extra={model.state.index(state): reduce(add, parts) for state, parts in builder.extra.items()},
    )


def _ghosts(model: PDE, state: str, axis: str) -> tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None:
    pair = edge_ghosts(model, state, axis)
    if pair is None or state not in model.potential:
        return pair
    level = const(0.0), const(1.0)  # the edge says what its potential is there, and nothing of the state itself
    return level, level
