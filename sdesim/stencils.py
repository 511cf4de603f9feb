"""The finite-volume right-hand side of a field equation, written once, as expressions of neighbouring cells.

On cells of width Δ the mean of u over a cell changes by the fluxes through its faces,

    du_c/dt = Σ_axes (F_high − F_low)/Δ + R,      F = D_f ∂u − v_f u_f,      ∂u = (u_right − u_left)/Δ at a face.

The diffusivity of a face D_f is the harmonic mean of its two cells where D is a given function of space (the flux is
then exact through a jump of D that lies on a face), and the arithmetic mean where D depends on the state or the time
(a harmonic mean would freeze the front of a porous medium). Transport is central, u_f = ½(u_left + u_right), or upwind.
Every flux leaves one cell and enters the next, so that Σ u changes by boundary fluxes and reactions alone.

Expressions that depend on space but not on the state or the time are *static*: they are named here, computed once as
arrays, and loaded by the right-hand side like a field. A cell beyond the edge is a ghost, g = A + B·u
(`sdesim.boundaries`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

from sdesim import boundaries
from sdesim.calculus import free_symbols, rebuild, substitute, walk
from sdesim.expressions import COMPARISONS, LOGICAL, Expr, const, is_zero, load, maximum, minimum, symbol
from sdesim.fields import ColouredNoise
from sdesim.models.pde import PDE

Offset: TypeAlias = tuple[int, ...]
_BOOLEAN = frozenset(COMPARISONS) | frozenset(LOGICAL)


@dataclass(frozen=True)
class Static:
    """An array computed before the first step from coordinates, coefficient fields and parameters.

    `mean` says where its values stand: "cell" at cell centres (ghost cells included); "harmonic" on the low face of
    each cell along `axis` (an index in array order) as the mean of two cells; "point" there as the expression's own
    value. `scale` multiplies them. `periodic` tells for each axis whether the values continue at the far side.
    """

    expression: Expr
    mean: str
    axis: int
    scale: float
    periodic: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Stencil:
    """The discrete model: what `discretise` makes of a PDE.

    Attributes:
        model: the PDE.
        right_side: du/dt of each state at a cell: loads of states and static arrays around it, parameters and t.
        terms: its parts by state, "diffusion" − "transport" + "reaction".
        noise: amplitude at a cell for each state that has noise, by the state's number.
        statics: the static arrays by their names (which start with "%").
        ghosts: for each state and axis the (A, B) of the low and of the high ghost, or None where periodic.
        advection: "central", "upwind", or "none" without transport.
    """

    model: PDE
    right_side: tuple[Expr, ...]
    terms: dict[str, tuple[Expr, ...]]
    noise: dict[int, Expr]
    statics: dict[str, Static]
    ghosts: tuple[tuple[tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None, ...], ...]
    advection: str

    @property
    def noise_scale(self) -> float:
        """√(1/V) of the cell volume V: white noise of a cell is its mean over the cell."""
        return 1.0 / sqrt(self.model.grid.cell_volume)

    @property
    def has_corners(self) -> bool:
        """Whether a load reaches across two axes at once, as mixed derivatives do."""
        return any(n.op == "load" and sum(map(abs, n.value[1])) > 1 for n in walk(self.right_side))


def discretise(model: PDE, advection: str = "central") -> Stencil:
    """The finite-volume right-hand side of a model on its grid.

    Args:
        model: the PDE.
        advection: "central" (second order; wiggles where the cell Péclet number |v|Δ/D exceeds 2) or "upwind".

    Raises:
        ValueError: an unknown `advection`; a noise amplitude that uses derivatives; a mixed second derivative (tensor)
            next to an edge that is not periodic.
            A hyperdiffusivity, which needs a spectral method.
        TypeError: noise that is coloured in space, which needs a spectral method.

    >>> from sdesim.grids import Grid
    >>> stencil = discretise(PDE(Grid(x=(0.0, 4.0, 4)), diffusivity="k", parameters={"k": 1.0}))
    >>> from sdesim.calculus import evaluate
    >>> evaluate(stencil.right_side, {"k": 2.0, ("u", (-1,)): 1.0, ("u", (0,)): 1.0, ("u", (1,)): 3.0})
    [4.0]
    """
    if advection not in ("central", "upwind"):
        raise ValueError(f'advection is "central" or "upwind"; got {advection!r}')
    if model.hyperdiffusivity:
        raise ValueError("finite-volume methods have no fourth-order term, and there is a hyperdiffusivity of "
                         f"{', '.join(model.hyperdiffusivity)}: use exact, etdrk4 or exponential_euler")
    for state, term in model.noise.items():
        if isinstance(term, ColouredNoise):
            raise TypeError(f"noise of {state} is coloured in space, but finite-volume methods draw white noise cell "
                            "by cell; use a spectral method (exact, etdrk4), or WhiteNoise")
        slopes = sorted(free_symbols(term.amplitude) & model.variable_names - set(model.state))
        if slopes:
            raise ValueError(f"the noise amplitude of {state} uses {', '.join(slopes)}; it may depend on the states, "
                             "t, the coordinates and the parameters, but not on derivatives")
    builder = _Builder(model, advection)
    terms = {name: tuple(term(state) for state in model.state) for name, term in (
        ("diffusion", builder.diffusion), ("transport", builder.transport), ("reaction", builder.reaction))}
    right_side = tuple(d - v + r for d, v, r in zip(*terms.values()))
    noise = {model.state.index(state): builder.at(state, term.amplitude, builder.here)
             for state, term in model.noise.items() if not is_zero(term.amplitude)}
    used = {n.value[0] for n in walk([*right_side, *noise.values()]) if n.op == "load"}
    return Stencil(
        model=model,
        right_side=right_side,
        terms=terms,
        noise=noise,
        statics={name: static for static, name in builder.names.items() if name in used},
        ghosts=tuple(tuple(_ghosts(model, state, axis) for axis in model.grid.axes) for state in model.state),
        advection=advection if model.velocity else "none",
    )


def _ghosts(model: PDE, state: str, axis: str) -> tuple[tuple[Expr, Expr], tuple[Expr, Expr]] | None:
    low, high = model.boundary[state][axis]
    if isinstance(low, boundaries.Periodic):
        return None
    spacing = model.grid.spacing[axis]
    return boundaries.ghost_expressions(low, spacing), boundaries.ghost_expressions(high, spacing)


class _Builder:
    """Writes the terms of one model as loads around a cell, and names the static arrays that they need."""

    def __init__(self, model: PDE, advection: str) -> None:
        self.model, self.advection = model, advection
        self.axes = model.grid.axes
        self.spacing = [model.grid.spacing[axis] for axis in self.axes]
        self.here: Offset = (0,) * len(self.axes)
        self.unit = [tuple(int(k == axis) for k in range(len(self.axes))) for axis in range(len(self.axes))]
        self.moving = model.variable_names | {"t"}
        self.spatial = frozenset(self.axes) | frozenset(model.fields)
        self.names: dict[Static, str] = {}

    def diffusion(self, state: str) -> Expr:
        """∇·(Σ_j D_j ∇u_j), summed over axes and driving states."""
        total = const(0.0)
        drivers = self.model.diffusivity.get(state, {})
        for axis in range(len(self.axes)):
            for driver, term in drivers.items():
                entry = term if isinstance(term, Expr) else self._entry(term, axis, axis)
                if not is_zero(entry):
                    total = total + self._diffusion(state, driver, entry, axis)
        for driver, term in drivers.items():
            if not isinstance(term, Expr):
                total = total + self._mixed(state, driver, term)
        return total

    def transport(self, state: str) -> Expr:
        """∇·(v u), summed over axes."""
        total = const(0.0)
        speeds = self.model.velocity.get(state, {}) if self.model.velocity else {}
        for axis, name in enumerate(self.axes):
            if name in speeds and not is_zero(speeds[name]):
                total = total + self._transport(state, speeds[name], axis)
        return total

    def reaction(self, state: str) -> Expr:
        """The reaction at a cell."""
        reaction = self.model.reaction.get(state)
        return const(0.0) if reaction is None else self.at(state, reaction, self.here)

    def _diffusion(self, state: str, driver: str, D: Expr, axis: int) -> Expr:
        """∂(D ∂u) along one axis."""
        left, right = self._steps(driver, axis)
        scale = 1.0 / self.spacing[axis] ** 2
        if not self._depends(D, self.spatial | self.model.variable_names):
            return (D * scale) * (right - left)
        low, high = self.here, self.unit[axis]
        if self._depends(D, self.moving):
            face = [(self.at(state, D, a) + self.at(state, D, b)) * (0.5 * scale)
                    for a, b in ((_minus(high), low), (low, high))]
            return face[1] * right - face[0] * left
        mean = "harmonic" if state == driver else "arithmetic"
        name = self._static(state, D, mean, axis, scale)
        return load(name, high) * right - load(name, low) * left

    def _steps(self, state: str, axis: int) -> tuple[Expr, Expr]:
        """Differences u_c − u_low and u_high − u_c."""
        high = self.unit[axis]
        u = load(state, self.here)
        return u - load(state, _minus(high)), load(state, high) - u

    def _transport(self, state: str, v: Expr, axis: int) -> Expr:
        """∂(v u) along one axis."""
        high = self.unit[axis]
        low, scale = _minus(high), 1.0 / self.spacing[axis]
        cells = [load(state, offset) for offset in (low, self.here, high)]
        if not self._depends(v, self.spatial | self.model.variable_names):
            speeds = [v * scale, v * scale]
        elif not self._depends(v, self.moving):
            name = self._static(state, v, "point", axis, scale)
            speeds = [load(name, self.here), load(name, high)]
        else:
            around = [self.at(state, v, offset) for offset in (low, self.here, high)]
            if self.advection == "central":
                return (around[2] * cells[2] - around[0] * cells[0]) * (0.5 * scale)
            speeds = [(around[0] + around[1]) * (0.5 * scale), (around[1] + around[2]) * (0.5 * scale)]
        fluxes = [self._face_flux(c, cells[k], cells[k + 1]) for k, c in enumerate(speeds)]
        return fluxes[1] - fluxes[0]

    def _face_flux(self, v: Expr, left: Expr, right: Expr) -> Expr:
        if self.advection == "central":
            return v * ((left + right) * 0.5)
        return maximum(v, 0.0) * left + minimum(v, 0.0) * right

    def _mixed(self, state: str, driver: str, tensor: tuple[tuple[Expr, ...], ...]) -> Expr:
        """Σ over pairs of axes of (D_kl + D_lk) ∂²u/∂x_k∂x_l of a constant tensor, by the four corner cells."""
        total = const(0.0)
        for k in range(len(self.axes)):
            for l in range(k):
                both = self._entry(tensor, k, l) + self._entry(tensor, l, k)
                if is_zero(both):
                    continue
                self._refuse_edges(state, driver, (k, l))
                u = {(a, b): load(driver, tuple(a * p + b * q for p, q in zip(self.unit[k], self.unit[l])))
                     for a in (-1, 1) for b in (-1, 1)}
                scale = 0.25 / (self.spacing[k] * self.spacing[l])
                total = total + (both * scale) * ((u[1, 1] - u[1, -1]) - (u[-1, 1] - u[-1, -1]))
        return total

    def _refuse_edges(self, state: str, driver: str, pair: tuple[int, int]) -> None:
        for axis in (self.axes[k] for k in pair):
            if not all(isinstance(self.model.boundary[s][axis][0], boundaries.Periodic) for s in (state, driver)):
                raise ValueError(f"the diffusivity tensor of {state} couples the axes {self.axes[pair[0]]} and "
                                 f"{self.axes[pair[1]]}, which needs periodic edges along both, but {axis} is not "
                                 "periodic; make it Periodic(), or align the axes with the tensor")

    def _entry(self, tensor: tuple[tuple[Expr, ...], ...], k: int, l: int) -> Expr:
        """Entry of a tensor in x-y-z order for two axes in array order."""
        last = len(self.axes) - 1
        return tensor[last - k][last - l]

    def at(self, state: str, expression: Expr, offset: Offset) -> Expr:
        """A cell's value of an expression, `offset` cells away; its static parts become static arrays."""
        lowered = self._hoist(state, expression)
        return substitute(lowered, {**self._values(offset), **self._static_loads(offset)})

    def _values(self, offset: Offset) -> dict[str, Expr]:
        values = {s: load(s, offset) for s in self.model.state}
        for k, axis in enumerate(self.axes):
            ahead, behind = (_plus(offset, self.unit[k]), _plus(offset, _minus(self.unit[k])))
            for s in self.model.state:
                values[f"dd{axis}({s})"] = (load(s, ahead) - load(s, behind)) * (0.5 / self.spacing[k])
        return values

    def _static_loads(self, offset: Offset) -> dict[str, Expr]:
        return {name: load(name, offset) for name in self.names.values()}

    def _hoist(self, state: str, expression: Expr) -> Expr:
        """The expression with its largest static parts replaced by the symbols of static arrays."""
        moving: dict[Expr, bool] = {}
        spatial: dict[Expr, bool] = {}
        lowered: dict[Expr, Expr] = {}
        for n in walk([expression]):
            moving[n] = n.op == "symbol" and n.value in self.moving or any(moving[a] for a in n.args)
            spatial[n] = n.op == "symbol" and n.value in self.spatial or any(spatial[a] for a in n.args)
            if spatial[n] and not moving[n] and n.op not in _BOOLEAN:
                lowered[n] = symbol(self._static(state, n, "cell", 0, 1.0))
            else:
                lowered[n] = rebuild(n, tuple(lowered[a] for a in n.args)) if n.args else n
        return lowered[expression]

    def _static(self, state: str, expression: Expr, mean: str, axis: int, scale: float) -> str:
        periodic = tuple(isinstance(self.model.boundary[state][name][0], boundaries.Periodic) for name in self.axes)
        static = Static(expression, mean, axis, scale, periodic)
        return self.names.setdefault(static, f"%{len(self.names)}")

    def _depends(self, expression: Expr, names: frozenset[str]) -> bool:
        return any(n.op == "symbol" and n.value in names for n in walk([expression]))


def _minus(offset: Offset) -> Offset:
    return tuple(-o for o in offset)


def _plus(a: Offset, b: Offset) -> Offset:
    return tuple(p + q for p, q in zip(a, b))
