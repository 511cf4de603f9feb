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

from dataclasses import dataclass, field
from functools import reduce
from math import sqrt
from operator import add
from typing import Any

from sdesim import boundaries
from sdesim.calculus import free_symbols, walk
from sdesim.expressions import Expr, is_zero
from sdesim.fields import ColouredNoise, ConservedNoise, WhiteNoise
from sdesim.geometry import edge_spacing
from sdesim.models.pde import ADVECTION, PDE
from sdesim.stencil_limited import derived_ghosts
from sdesim.stencil_mask import MaskedTerms
from sdesim.stencil_terms import Static, Terms


@dataclass(frozen=True, eq=False)
class Stencil:
    """The discrete model: what `discretise` makes of a PDE.

    Attributes:
        model: the PDE.
        right_side: du/dt of each state at a cell: loads of states and static arrays around it, parameters and t.
        terms: its parts by state, "diffusion" − "transport" + "reaction".
        noise: amplitude at a cell for each state that has noise, by the state's number.
        statics: the static arrays by their names (which start with "%").
        ghosts: for each state (then derived field) and axis the (A, B) of the low and of the high ghost, or None where
            periodic.
        advection: "central", "upwind", "limited", "weno", or "none" without transport.
        derived: fields "^0", "^1", … that the right-hand side loads besides the states, each an expression of loads of
            states, static arrays and derived fields before it. Their ghosts follow those of the states.
        extra: by the state's number a bound on what limited fluxes add to the size of its eigenvalues.
    """

    model: PDE
    right_side: tuple[Expr, ...]
    terms: dict[str, tuple[Expr, ...]]
    noise: dict[int, Expr]
    statics: dict[str, Static]
    ghosts: tuple[tuple[tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None, ...], ...]
    advection: str
    derived: tuple[Expr, ...] = ()
    extra: dict[int, Expr] = field(default_factory=dict)

    @property
    def noise_scale(self) -> float:
        """√(1/V) of the cell volume V, by which white noise is its mean over a cell; 1 where each cell has its own."""
        return 1.0 / sqrt(self.model.grid.cell_volume) if self.model.grid.is_box else 1.0

    @property
    def draws_in_cells(self) -> bool:
        """Whether all noise is white in space and time: each cell draws its own."""
        terms = [self.model.noise[self.model.state[k]] for k in self.noise]
        return all(isinstance(term, WhiteNoise) and term.correlation_time is None for term in terms)

    def is_conserved(self, state: int) -> bool:
        """Whether a state's noise is the divergence of a flux."""
        return isinstance(self.model.noise[self.model.state[state]], ConservedNoise)

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
            A hyperdiffusivity, which needs a spectral method. Noise that is coloured in space on a grid of cells that
            are not equal; conserved noise there, with a mask, or with an edge that holds a value.

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
        _check_noise(model, state, term)
        slopes = sorted(free_symbols(term.amplitude) & model.variable_names - set(model.state))
        if slopes:
            raise ValueError(f"the noise amplitude of {state} uses {', '.join(slopes)}; it may depend on the states, "
                             "t, the coordinates and the parameters, but not on derivatives")
    builder = (Terms if model.grid.mask is None else MaskedTerms)(model, advection)
    parts = {name: tuple(term(state) for state in model.state) for name, term in (
        ("diffusion", builder.diffusion), ("transport", builder.transport), ("reaction", builder.reaction))}
    right_side = tuple(builder.inside(state, d - v + r) for state, d, v, r in zip(model.state, *parts.values()))
    terms = {name: tuple(map(builder.inside, model.state, row)) for name, row in parts.items()}
    noise = {model.state.index(state): term.amplitude if isinstance(term, ConservedNoise) else
             builder.inside(state, builder.noise(state, term.amplitude))
             for state, term in model.noise.items() if not is_zero(term.amplitude)}
    used = {n.value[0] for n in walk([*right_side, *noise.values(), *(key[0] for key in builder.derived)])
            if n.op == "load"}
    ghosts = [tuple(_ghosts(model, state, axis) for axis in model.grid.axes) for state in model.state]
    ghosts += [derived_ghosts(builder, *key[1:]) for key in builder.derived]
    return Stencil(
        model=model,
        right_side=right_side,
        terms=terms,
        noise=noise,
        statics={name: static for static, name in builder.names.items() if name in used},
        ghosts=tuple(ghosts),
        advection=advection if model.velocity else "none",
        derived=tuple(key[0] for key in builder.derived),
        extra={model.state.index(state): reduce(add, parts) for state, parts in builder.extra.items()},
    )


def _check_noise(model: PDE, state: str, term: Any) -> None:
    """Refuse noise that finite volumes do not know on this grid or at these edges."""
    if isinstance(term, ColouredNoise) and not model.grid.is_box:
        raise ValueError(f"noise of {state} is coloured in space, which finite volumes know on grids of equal cells; "
                         "use a spectral method (exact, exponential_euler), or WhiteNoise")
    if not isinstance(term, ConservedNoise):
        return
    if not model.grid.is_box or model.grid.mask is not None:
        raise ValueError(f"the conserved noise of {state} needs a grid of equal cells without a mask; got "
                         f"{model.grid!r}")
    free = boundaries.Periodic | boundaries.Neumann
    held = [axis for axis, sides in model.boundary[state].items() if not all(isinstance(side, free) for side in sides)]
    if held:
        raise ValueError(f"the conserved noise of {state} needs edges that are periodic or of a given flux (Neumann); "
                         f"along {held[0]} the value is held, where fluctuations come and go through the edge")


def _ghosts(model: PDE, state: str, axis: str) -> tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None:
    low, high = model.boundary[state][axis]
    if isinstance(low, boundaries.Periodic):
        return None
    first, last = edge_spacing(model.grid, axis)
    return boundaries.ghost_expressions(low, first), boundaries.ghost_expressions(high, last)
