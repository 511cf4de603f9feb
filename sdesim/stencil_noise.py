"""Noise in a discrete right-hand side: what a step adds, as expressions of the increments of independent sources.

A source has one number for each cell and step, its increment I: √(h/V) z of noise white in time with z standard normal
(√h z where cells differ), the integral over the step of noise with a memory (`sdesim.kernels.field_noise`). With the
amplitude a a step adds

    in the cells, white in time     a I                                          (Itô)
    conserved                       s Σ_axes (p_high F_high − p_low F_low),      F = a(u_f) ξ_f
    either, with a memory           g(u) I + ½ g′(u)[g(u) I] I                   (ordinary calculus)

with g I for what the first two lines add, of all states together. The last is Taylor's: a path with a memory is smooth,
so that its iterated integrals are I_i I_j/2 + areas of mean zero, and the step is right for any h/τ: in the limit τ → 0
it is that of Milstein for Stratonovich's integral.

Conserved noise (Donev, Vanden-Eijnden, Garcia & Bell, Comm. Appl. Math. Comp. Sci. 5, 149, 2010) goes through the
faces: what leaves one cell enters the next. The amplitude is that of the mean u_f of both cells. With the area A of a
face and the distance d between the centres on both its sides, ξ_f is the mean of white noise over the volume A d, so
that the discrete divergence stays minus the adjoint of the gradient: for du = ∇·D∇u + ∇·(√(2Dρ) ξ) the stationary
variance is ρ/V in every cell, and nothing is correlated, on any grid. Nothing goes through an edge of a given flux; at
one that holds a value the cell is d/2 away, so that ξ_f is √2 times as strong, and u_f is the mean of both. Then
particles that walk alone, a = √(2Du), are those of Poisson's law between reservoirs of any densities too: the variance
is u(x)/V, and nothing is correlated.

A flux is a field of its own, "!k": it stands on the low faces of the cells and is read at the next cell; so is g I
where g′ wants it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.boundaries import Dirichlet, Neumann, Periodic
from sdesim.calculus import differentiate, free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, load, symbol, where
from sdesim.fields import ColouredNoise, ConservedNoise
from sdesim.models.pde import PDE
from sdesim.stencil_terms import Offset, Terms
from sdesim.walls import MASK


@dataclass(frozen=True)
class Source:
    """One number for each cell and step.

    Attributes:
        state: number of the state whose noise it is.
        channel: 0 for what falls into the cells; from 1 on the low faces along each axis, then the high edges.
        memory: correlation time; None for noise white in time.
        colour: the noise whose correlation in space it has; None where cells are independent.
    """

    state: int
    channel: int = 0
    memory: float | None = None
    colour: ColouredNoise | None = None

    @property
    def number(self) -> int:
        """Which of the fields of normals of a step it takes; the states' numbers are far from 2¹⁶."""
        return self.state + (self.channel << 16)


class Noises:
    """Writes the noise of one model as loads of sources "~j", fields "!k" and what is around a cell.

    Attributes:
        sources: in the order of their numbers j.
        fields: graphs of the fluxes at the low face of a cell, and of first increments that other cells want, by k.
        ghosts: the edges of each field.
        terms: what a step adds to each state that has noise.
    """

    def __init__(self, terms: Terms) -> None:
        self.write, self.model = terms, terms.model
        self.sources: list[Source] = []
        self.fields: list[Expr] = []
        self.ghosts: list[tuple[Any, ...]] = []
        potentials = {term.name: term.of_state for term in self.model.potential.values()}
        self.amplitudes = {state: substitute(term.amplitude, potentials) for state, term in self.model.noise.items()
                           if not is_zero(term.amplitude)}
        self.drawn = {state: self._drawn(state) for state in self.amplitudes}
        self.first = {state: self._added(state, [(a, None)]) for state, a in self.amplitudes.items()}
        self.stored: dict[str, Expr] = {}
        self.terms = {self.model.state.index(state): term + self._second(state) for state, term in self.first.items()}

    def _conserved(self, state: str) -> bool:
        return isinstance(self.model.noise[state], ConservedNoise)

    def _drawn(self, state: str) -> list[Expr]:
        """New sources' increments at a cell: one in the cell, or one for each axis and then for each high edge."""
        term, axes = self.model.noise[state], self.write.axes
        colour = term if isinstance(term, ColouredNoise) else None
        held = [isinstance(self.model.boundary[state][axis][1], Dirichlet) for axis in axes]
        channels = [0] if not self._conserved(state) else [*range(1, len(axes) + 1), *(
            len(axes) + k + 1 for k, high in enumerate(held) if high)]
        first = len(self.sources)
        self.sources += [Source(self.model.state.index(state), channel, term.correlation_time, colour)
                         for channel in channels]
        found = iter(load(f"~{j}", self.write.here) for j in range(first, len(self.sources)))
        if not self._conserved(state):
            return [next(found)]
        low = [next(found) for _ in axes]
        return low + [next(found) if high else const(0.0) for high in held]

    def _second(self, state: str) -> Expr:
        """½ Σ_j ∂a/∂u_j applied to the first increments of all states whose noise has a memory."""
        parts: list[tuple[Expr, str | None]] = []
        if self.model.noise[state].correlation_time is not None:
            for other in self.amplitudes:
                slope = differentiate(self.amplitudes[state], other) * 0.5
                if self.model.noise[other].correlation_time is not None and not is_zero(slope):
                    parts.append((slope, other))
        return self._added(state, parts) if parts else const(0.0)

    def _added(self, state: str, parts: Sequence[tuple[Expr, str | None]]) -> Expr:
        """What noise of the sum of amplitudes adds, each times the first increment of a state if one is named."""
        w = self.write
        if self._conserved(state):
            return w.inside(state, self._divergence(state, parts))
        (z,), total = self.drawn[state], const(0.0)
        for amplitude, other in parts:
            increment = z if other is None else self.first[other] * z
            total = total + w.inside(state, w.noise(state, amplitude)) * increment
        return total

    def _field(self, node: Expr, ghosts: tuple[Any, ...]) -> str:
        self.fields.append(node)
        self.ghosts.append(ghosts)
        return f"!{len(self.fields) - 1}"

    def _increment(self, state: str, offset: Offset) -> Expr:
        """The first increment of a state beside a cell: of a value that is held none."""
        if state not in self.stored:
            self.stored[state] = load(self._field(self.first[state], tuple(
                None if isinstance(low, Periodic) else (_STILL[isinstance(low, Dirichlet)],
                                                        _STILL[isinstance(high, Dirichlet)])
                for low, high in (self.model.boundary[state][axis] for axis in self.write.axes))), self.write.here)
        return load(self.stored[state].value[0], offset)

    def _divergence(self, state: str, parts: Sequence[tuple[Expr, str | None]]) -> Expr:
        """Of the fluxes."""
        w, total, axes = self.write, const(0.0), len(self.write.axes)
        for axis in range(axes):
            flux = self._flux(state, axis, parts, last=False)
            flow = self._field(flux, tuple(None if isinstance(self.model.boundary[state][other][0], Periodic) else
                                           NOTHING for other in w.axes))
            high = load(flow, w.unit[axis])
            if not is_zero(self.drawn[state][axes + axis]):  # a face that is low to no cell
                high = high + self._flux(state, axis, parts, last=True)
            difference = high - load(flow, w.here)
            share = const(1.0 / w.spacing[axis]) if w.even[axis] else w._factor(state, "share", axis, w.here)
            total = total + difference * share
        return total

    def _flux(self, state: str, axis: int, parts: Sequence[tuple[Expr, str | None]], last: bool) -> Expr:
        """a(u_f) ξ_f at the low face of a cell, or of the `last` edge; exactly 0 where nothing goes, whatever a is."""
        w, total = self.write, const(0.0)
        face, weight = w.unit[axis] if last else w.here, self._open(state, axis, last)
        below = tuple(f - s for f, s in zip(face, w.unit[axis]))
        for amplitude, other in parts:
            lowered = w._hoist(state, amplitude, "point", axis)
            used = free_symbols(lowered)
            means = {name: self._mean(name, axis, (load(name, below), load(name, face)), last)
                     for name in self.model.state if name in used}
            known = {name: load(name, face) for name in w.names.values() if name in used}
            value = substitute(lowered, {**means, **known})
            if other is not None:
                sides = self._increment(other, below), self._increment(other, face)
                value = value * self._mean(other, axis, sides, last)
            total = total + value
        flux = total * self.drawn[state][axis + len(w.axes) * last]
        through = flux if weight.op == "const" else where(weight > 0.0, flux * weight, 0.0)
        return w.carried(state, axis, face, through)

    def _mean(self, name: str, axis: int, sides: tuple[Expr, Expr], last: bool) -> Expr:
        """A state at a face: of both cells, and of an edge that holds a value the mean of that and the cell."""
        w, (low, _) = self.write, self.model.boundary[name][self.write.axes[axis]]
        mean = (sides[0] + sides[1]) * 0.5
        if last:  # what is not at the edge weighs nothing
            return (mean + sides[0]) * 0.5
        if not isinstance(low, Dirichlet):
            return mean
        lo, hi, _ = self.model.grid.axis(w.axes[axis])
        edge = where(symbol(w.axes[axis]) < lo + 1e-9 * (hi - lo), 0.5, 0.0)
        return mean + (sides[1] - mean) * load(w._static(name, edge, "point", axis, 1.0), w.here)

    def _open(self, state: str, axis: int, last: bool) -> Expr:
        """What noise weighs on a face, over √h (of equal cells √(h/V)): that of the low faces, or of the last edge."""
        w, grid, name = self.write, self.model.grid, self.write.axes[axis]
        face = w.unit[axis] if last else w.here
        factor = "" if grid.is_box else "spread"
        low, high = self.model.boundary[state][name]
        if isinstance(low, Periodic):
            weights = const(1.0)
        else:
            lo, hi, _ = grid.axis(name)
            near, x = 1e-9 * (hi - lo), symbol(name)
            edge, first, inside = (_EDGE[type(high)], 0.0, 0.0) if last else (0.0, _EDGE[type(low)], 1.0)
            weights = where(x > hi - near, edge, where(x < lo + near, first, inside))
        if grid.is_box and weights.op == "const":
            return weights
        return load(w._static(state, weights, "point", axis, 1.0, factor), face)


NOTHING = ((const(0.0), const(0.0)),) * 2
"""The ghosts of a flux beyond edges: none."""
_STILL = {True: (const(0.0), const(-1.0)), False: (const(0.0), const(1.0))}
"""The ghosts of an increment: with a value that is held there is none."""
_EDGE: dict[Any, float] = {Neumann: 0.0, Dirichlet: 2.0**0.5}


def check(model: PDE, state: str, term: Any) -> None:
    """Refuse noise that finite volumes do not know at these edges.

    Raises:
        ValueError: conserved noise with an edge that does not say a value or a flux, or a mask that holds a value; an
            amplitude of derivatives.
    """
    known = {*model.state, *(potential.name for potential in model.potential.values())}
    slopes = sorted(free_symbols(term.amplitude) & model.variable_names - known)
    if slopes:
        raise ValueError(f"the noise amplitude of {state} uses {', '.join(slopes)}; it may depend on the states, "
                         "t, the coordinates and the parameters, but not on derivatives")
    if not isinstance(term, ConservedNoise):
        return
    for axis, sides in model.boundary[state].items():
        served = Neumann if axis == MASK else Periodic | Neumann | Dirichlet
        if not all(isinstance(side, served) for side in sides):
            raise ValueError(f"the conserved noise of {state} needs edges that are periodic, of a given flux (Neumann) "
                             f"or value (Dirichlet), and a mask of a given flux; got another along {axis}: use "
                             "WhiteNoise, or another condition")
