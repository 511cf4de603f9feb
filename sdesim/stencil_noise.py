"""Noise in a discrete right-hand side: what a step adds, as expressions of the increments of independent sources.

A source has one number for each cell and step, its increment I: √(h/V) z of noise white in time with z standard normal
(√h z where cells differ), the integral over the step of noise with a memory (`sdesim.kernels.field_noise`). With the
amplitude a a step adds

    in the cells, white in time     a I                                          (Itô)
    in the cells, with a memory     a I + ½ Σ_j a_j ∂a/∂u_j I_j I                (ordinary calculus)
    conserved                       s Σ_axes (p_high F_high − p_low F_low),      F = a(u_f) ξ_f

The second line is Taylor's: a path with a memory is smooth, so that its iterated integrals are I_j I/2 + areas of mean
zero, and the step is right for any h/τ: in the limit τ → 0 it is that of Milstein for Stratonovich's integral.

Conserved noise (Donev, Vanden-Eijnden, Garcia & Bell, Comm. Appl. Math. Comp. Sci. 5, 149, 2010) goes through the
faces: what leaves one cell enters the next. The amplitude is that of the mean u_f of both cells. With the area A of a
face and the distance d between the centres on both its sides, ξ_f is the mean of white noise over the volume A d, so
that the discrete divergence stays minus the adjoint of the gradient: for du = ∇·D∇u + ∇·(√(2Dρ) ξ) the stationary
variance is ρ/V in every cell, and nothing is correlated, on any grid. Nothing goes through an edge of a given flux; at
one that holds a value the cell is d/2 away, so that ξ_f is √2 times as strong, and u_f is the mean of both. Then
particles that walk alone, a = √(2Du), are those of Poisson's law between reservoirs of any densities too: the variance
is u(x)/V, and nothing is correlated.

A flux is a field of its own, "!k": it stands on the low faces of the cells and is read at the next cell.
"""

from __future__ import annotations

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
    """Writes the noise of one model as loads of sources "~j", fluxes "!k" and what is around a cell.

    Attributes:
        sources: in the order of their numbers j.
        fluxes: graphs of the fluxes by k, at the low face of a cell.
        owners: the number of each flux's state.
        terms: what a step adds to each state that has noise.
    """

    def __init__(self, terms: Terms) -> None:
        self.write, self.model = terms, terms.model
        self.sources: list[Source] = []
        self.fluxes: list[Expr] = []
        self.owners: list[int] = []
        potentials = {term.name: term.of_state for term in self.model.potential.values()}
        self.amplitudes = {state: substitute(term.amplitude, potentials) for state, term in self.model.noise.items()
                           if not is_zero(term.amplitude)}
        self.cells = {state: self._source(state, 0) for state in self.amplitudes if not self._conserved(state)}
        self.terms = {self.model.state.index(state): self._flows(state) if self._conserved(state) else
                      self._falls(state) for state in self.amplitudes}

    def _conserved(self, state: str) -> bool:
        return isinstance(self.model.noise[state], ConservedNoise)

    def _source(self, state: str, channel: int) -> Expr:
        """A new source's increment at a cell."""
        term = self.model.noise[state]
        colour = term if isinstance(term, ColouredNoise) else None
        self.sources.append(Source(self.model.state.index(state), channel, term.correlation_time, colour))
        return load(f"~{len(self.sources) - 1}", self.write.here)

    def _falls(self, state: str) -> Expr:
        """What falls into a cell."""
        w, amplitude, z = self.write, self.amplitudes[state], self.cells[state]
        total = w.inside(state, w.noise(state, amplitude)) * z
        if self.model.noise[state].correlation_time is None:
            return total
        for other, increment in self.cells.items():
            slope = differentiate(amplitude, other) * self.amplitudes[other] * 0.5
            if self.model.noise[other].correlation_time is not None and not is_zero(slope):
                # the second 1/√V of unequal cells
                root = increment if w.model.grid.is_box else increment * w._factor(state, "root", 0, w.here)
                total = total + w.inside(state, w.noise(state, slope)) * (root * z)
        return total

    def _flows(self, state: str) -> Expr:
        """The divergence of the fluxes."""
        w, total = self.write, const(0.0)
        for axis in range(len(w.axes)):
            flux = self._flux(state, axis, self._source(state, axis + 1), last=False)
            self.fluxes.append(flux)
            self.owners.append(self.model.state.index(state))
            name = f"!{len(self.fluxes) - 1}"
            high = load(name, w.unit[axis])
            if isinstance(self.model.boundary[state][w.axes[axis]][1], Dirichlet):  # a face that is low to no cell
                edge = self._source(state, len(w.axes) + axis + 1)
                high = high + self._flux(state, axis, edge, last=True)
            difference = high - load(name, w.here)
            share = const(1.0 / w.spacing[axis]) if w.even[axis] else w._factor(state, "share", axis, w.here)
            total = total + difference * share
        return w.inside(state, total)

    def _flux(self, state: str, axis: int, z: Expr, last: bool) -> Expr:
        """a(u_f) ξ_f at the low face of a cell, or of the `last` edge; exactly 0 where nothing goes, whatever a is."""
        w = self.write
        face, weight = w.unit[axis] if last else w.here, self._open(state, axis, last)
        lowered = w._hoist(state, self.amplitudes[state], "point", axis)
        used = free_symbols(lowered)
        below = tuple(f - s for f, s in zip(face, w.unit[axis]))
        means = {name: self._mean(name, axis, below, face, last) for name in self.model.state if name in used}
        known = {name: load(name, face) for name in w.names.values() if name in used}
        flux = substitute(lowered, {**means, **known}) * z
        through = flux if weight.op == "const" else where(weight > 0.0, flux * weight, 0.0)
        return w.carried(state, axis, face, through)

    def _mean(self, name: str, axis: int, below: Offset, face: Offset, last: bool) -> Expr:
        """u_f of a state: of both cells, and of an edge that holds a value the mean of that and the cell."""
        w, (low, _) = self.write, self.model.boundary[name][self.write.axes[axis]]
        mean = (load(name, below) + load(name, face)) * 0.5
        if last:  # what is not at the edge weighs nothing
            return (mean + load(name, below)) * 0.5
        if not isinstance(low, Dirichlet):
            return mean
        lo, hi, _ = self.model.grid.axis(w.axes[axis])
        edge = where(symbol(w.axes[axis]) < lo + 1e-9 * (hi - lo), 0.5, 0.0)
        return mean + (load(name, face) - mean) * load(w._static(name, edge, "point", axis, 1.0), face)

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
