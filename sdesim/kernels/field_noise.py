"""Increments of noise on cells that no kernel draws by itself: coloured in space or in time, or conserved.

With z independent standard normals in the cells (on the low faces for conserved noise) the increment of a step h is

    white         √(h/V) z
    coloured      √(h/V) T⁻¹ √S T z,      T the transform of the state's edges, S the density of `sdesim.fields`
    in time τ     the same with I for √h z: the integral over the step of η,  dη = −η/τ dt + dW/τ,  stationary.

η and I are normal given η at the start of the step: with a = e^{−h/τ} and independent normals ξ, ζ

    η ← a η + √((1 − a²)/2τ) ξ,      I = τ(1 − a) η + √(τ(1 − a)³/2(1 + a)) ξ + √(h − 2τ tanh(h/2τ)) ζ

(the process and its integral are jointly normal: Gillespie, Phys. Rev. E 54, 2084, 1996), so that η has its law for
any h, and white noise is the limit τ → 0. On coarser cells of one sheet the increment is the mean of the finer cells'
(not of conserved noise, whose law would not be kept).
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.fields import ColouredNoise, ConservedNoise, spectral_density
from sdesim.grids import Grid
from sdesim.kernels.field_reference import Sheet, wiener_root
from sdesim.models.pde import PDE
from sdesim.spectral import Transform, kinds_of
from sdesim.stencils import Stencil
from sdesim.streams import Purpose

Array: TypeAlias = NDArray[np.float64]


class Drive:
    """The noise of some members, called step after step.

    Args:
        stencil: the discrete model.
        seed: of the ensemble.
        members: their numbers.
        sheet: where the noise comes from, if not from the steps and cells themselves.
    """

    def __init__(self, stencil: Stencil, seed: int, members: ArrayLike, sheet: Sheet | None = None) -> None:
        self.stencil, self.seed, self.members, self.sheet = stencil, seed, members, sheet or Sheet()
        model = stencil.model
        self.terms = {k: model.noise[model.state[k]] for k in stencil.noise}
        self.colours = {k: _colour(model, k, self.sheet.cells) for k, term in self.terms.items()
                        if isinstance(term, ColouredNoise)}
        self.memory: dict[int, Array] = {}

    def __call__(self, number: int, h: float) -> dict[int, Array]:
        """dW of step `number` by state: (members, *space); of conserved noise (axes, members, *space), by low face."""
        root = wiener_root(self.stencil, h)
        return {k: self._remembering(k, term.correlation_time, number, h) if term.correlation_time is not None else
                self._normals(k, number) * root for k, term in self.terms.items()}

    def _normals(self, state: int, number: int, purpose: Purpose = Purpose.STEP) -> Array:
        shape, colour = self.stencil.model.grid.shape, self.colours.get(state)
        if not isinstance(self.terms[state], ConservedNoise):
            return self.sheet.normals(self.seed, self.members, number, state, shape, purpose, colour)
        axes = range(len(shape))  # the states' words are far from 2¹⁶
        return np.stack([self.sheet.normals(self.seed, self.members, number, state + ((k + 1) << 16), shape, purpose)
                         for k in axes])

    def _remembering(self, state: int, tau: float, number: int, h: float) -> Array:
        """∫η dt over the step, per √V."""
        if state not in self.memory:
            self.memory[state] = self._normals(state, 0, Purpose.AUXILIARY) / math.sqrt(2.0 * tau)
        eta = self.memory[state]
        x = h / tau
        a, b = math.exp(-x), -math.expm1(-x)
        xi, zeta = self._normals(state, number), self._normals(state, number + 1, Purpose.AUXILIARY)
        self.memory[state] = a * eta + math.sqrt(b * (1.0 + a) / (2.0 * tau)) * xi
        rest = tau * (x - 2.0 * math.tanh(0.5 * x) if x > 0.05 else x**3 / 12.0 * (1.0 - x * x / 10.0))
        integral = tau * b * eta + math.sqrt(0.5 * tau * b**3 / (1.0 + a)) * xi + math.sqrt(rest) * zeta
        return integral * self.stencil.noise_scale


def _colour(model: PDE, state: int, cells: int) -> Any:
    """z ↦ T⁻¹ √S T z on the grid, or on one of so many times the cells along each axis."""
    name, grid = model.state[state], model.grid
    if cells > 1:
        grid = Grid(**{axis: (*grid.axis(axis)[:2], grid.axis(axis)[2] * cells) for axis in grid.axes})
    transform = Transform(grid, kinds_of(model, name))
    term: Any = model.noise[name]
    root = np.sqrt(spectral_density(transform, term.length, term.smoothness))
    return lambda z: transform.inverse(transform.white(z) * root)
