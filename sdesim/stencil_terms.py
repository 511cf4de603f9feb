"""The terms of a discrete right-hand side: fluxes through the faces of a cell, as expressions of the cells around it.

See `sdesim.stencils` for the equations and `sdesim.geometry` for what a face lets through where cells are not equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from sdesim import boundaries
from sdesim.calculus import free_symbols, rebuild, substitute, walk
from sdesim.expressions import COMPARISONS, LOGICAL, Expr, const, is_zero, load, maximum, symbol
from sdesim.grids import Grid
from sdesim.models.pde import PDE
from sdesim.stencil_limited import FLOWING, cross_flux, transport

Offset: TypeAlias = tuple[int, ...]
_BOOLEAN = frozenset(COMPARISONS) | frozenset(LOGICAL)


@dataclass(frozen=True)
class Static:
    """An array computed before the first step from coordinates, coefficient fields and parameters.

    `mean` says where its values stand: "cell" at cell centres (ghost cells included); "harmonic" on the low face of
    each cell along `axis` (an index in array order) as the mean of two cells; "point" there as the expression's own
    value; "metric" as its factor alone; "wet" 1 in the cells of the field, "open" on the faces between them, else 0.
    `scale` multiplies them, and so does a factor of the axis' `metric` (`sdesim.geometry`) if one is named. `periodic`
    tells for each axis whether the values continue at the far side.
    """

    expression: Expr
    mean: str
    axis: int
    scale: float
    periodic: tuple[bool, ...]
    factor: str = ""


class Terms:
    """Writes the terms of one model as loads around a cell, and names the static arrays that they need."""

    def __init__(self, model: PDE, advection: str) -> None:
        self.model, self.advection = model, advection
        self.axes = model.grid.axes
        self.even = [model.grid.is_plain(axis) for axis in self.axes]
        self.spacing = [model.grid.spacing[axis] if even else 1.0 for axis, even in zip(self.axes, self.even)]
        self.here: Offset = (0,) * len(self.axes)
        self.unit = [tuple(int(k == axis) for k in range(len(self.axes))) for axis in range(len(self.axes))]
        self.moving = model.variable_names | {"t"}
        self.spatial = frozenset(self.axes) | frozenset(model.fields)
        self.names: dict[Static, str] = {}
        self.derived: dict[tuple[Expr, str, float, str], str] = {}
        self.extra: dict[str, list[Expr]] = {}
        self.flows = {name: self.derive(name, self.at(name, term.of_state, self.here), 1.0, FLOWING)
                      for name, term in model.potential.items()}

    def diffusion(self, state: str) -> Expr:
        """∇·(Σ_j D_j ∇u_j), summed over axes and driving states."""
        total = const(0.0)
        drivers = self.model.diffusivity.get(state, {})
        for axis in range(len(self.axes)):
            for driver, term in drivers.items():
                entry = term if isinstance(term, Expr) else self._entry(term, axis, axis)
                if not is_zero(entry):
                    mean = "harmonic" if state == driver and term is entry else "arithmetic"
                    total = total + self._diffusion(state, driver, entry, axis, mean)
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

    def value(self, state: str, offset: Offset) -> Expr:
        """What flows of a state, `offset` cells away."""
        return load(self.flows.get(state, state), offset)

    def known(self, name: str, offset: Offset) -> Expr:
        """A static array of cells, `offset` cells away."""
        return load(name, offset)

    def carried(self, state: str, axis: int, face: Offset, flux: Expr) -> Expr:
        """A flux of transport through the low face of the cell at `face`."""
        return flux

    def inside(self, state: str, term: Expr) -> Expr:
        """A term in the cells where the field lives."""
        return term

    def noise(self, state: str, amplitude: Expr) -> Expr:
        """The noise amplitude at a cell, over √V where cells differ."""
        potentials = {term.name: term.of_state for term in self.model.potential.values()}
        here = self.at(state, substitute(amplitude, potentials), self.here)
        return here if self.model.grid.is_box else here * self._factor(state, "root", 0, self.here)

    def _diffusion(self, state: str, driver: str, D: Expr, axis: int, mean: str) -> Expr:
        """∂(D ∂u) along one axis."""
        left, right = self._steps(driver, axis)
        even, scale = self.even[axis], 1.0 / self.spacing[axis] ** 2
        low, high = self.here, self.unit[axis]
        if not self._depends(D, self.spatial | self.model.variable_names):
            if even:
                return (D * scale) * (right - left)
            g = [self._factor(state, "conductance", axis, offset) for offset in (low, high)]
            return self._shared(state, axis, D * (g[1] * right - g[0] * left))
        if self._depends(D, self.moving):
            face = [self._mean(state, D, axis, offset, scale, "conductance") for offset in (low, high)]
            return self._shared(state, axis, face[1] * right - face[0] * left)
        name = self._static(state, D, mean, axis, scale, "" if even else "conductance")
        return self._shared(state, axis, load(name, high) * right - load(name, low) * left)

    def _mean(self, state: str, node: Expr, axis: int, face: Offset, scale: float, factor: str) -> Expr:
        """Mean over the cells on both sides of the low face of the cell at `face`, times a factor of the axis."""
        low, high = self.at(state, node, _plus(face, _minus(self.unit[axis]))), self.at(state, node, face)
        if self.even[axis]:
            return (low + high) * (0.5 * scale)
        return self._between(state, low, high, axis, face) * self._factor(state, factor, axis, face)

    def _between(self, state: str, low: Expr, high: Expr, axis: int, face: Offset) -> Expr:
        """The value at a face by linear interpolation."""
        if self.even[axis]:
            return (low + high) * 0.5
        return low + (high - low) * self._factor(state, "blend", axis, face)

    def _shared(self, state: str, axis: int, flux: Expr) -> Expr:
        """A sum of fluxes over the cell's volume."""
        return flux if self.even[axis] else flux * self._factor(state, "share", axis, self.here)

    def _factor(self, state: str, factor: str, axis: int, offset: Offset) -> Expr:
        """A factor of an uneven axis at a cell, or at its low face."""
        return load(self._static(state, const(1.0), "metric", axis, 1.0, factor), offset)

    def _steps(self, state: str, axis: int) -> tuple[Expr, Expr]:
        """Differences u_c − u_low and u_high − u_c."""
        high = self.unit[axis]
        u = self.value(state, self.here)
        return u - self.value(state, _minus(high)), self.value(state, high) - u

    def _transport(self, state: str, v: Expr, axis: int) -> Expr:
        """∂(v u) along one axis."""
        if self.advection != "central":
            return transport(self, state, v, axis)
        high = self.unit[axis]
        low, scale = _minus(high), 1.0 / self.spacing[axis]
        cells = [self.value(state, offset) for offset in (low, self.here, high)]
        alike = self.even[axis] and self.model.grid.mask is None
        if alike and self._depends(v, self.spatial | self.model.variable_names) and self._depends(v, self.moving):
            before, after = self.at(state, v, low), self.at(state, v, high)
            return (after * cells[2] - before * cells[0]) * (0.5 * scale)
        fluxes = [self.carried(state, axis, face, self.speed(state, v, axis, face)
                               * self._between(state, cells[k], cells[k + 1], axis, face))
                  for k, face in enumerate((self.here, high))]
        return self._shared(state, axis, fluxes[1] - fluxes[0])

    def speed(self, state: str, v: Expr, axis: int, face: Offset) -> Expr:
        """The velocity at the low face of the cell at `face`, times what a flux counts for there."""
        scale = 1.0 / self.spacing[axis]
        if not self._depends(v, self.spatial | self.model.variable_names):
            return v * scale if self.even[axis] else v * self._factor(state, "passage", axis, face)
        if not self._depends(v, self.moving):
            return load(self._static(state, v, "point", axis, scale, "" if self.even[axis] else "passage"), face)
        return self._mean(state, v, axis, face, scale, "passage")

    def coefficient(self, state: str, D: Expr, axis: int, face: Offset) -> Expr:
        """A tensor's entry at the low face of the cell at `face`, times what a flux counts for there."""
        if self._depends(D, self.spatial) and not self._depends(D, self.moving):
            factor = "" if self.even[axis] else "passage"
            return load(self._static(state, D, "arithmetic", axis, 1.0 / self.spacing[axis], factor), face)
        return self.speed(state, D, axis, face)

    def derive(self, state: str, node: Expr, B: float, along: str = "") -> str:
        """The name of a field derived from a state; its ghosts are those of `stencil_limited.derived_ghosts`."""
        return self.derived.setdefault((self.inside(state, node), state, B, along), f"^{len(self.derived)}")

    def _mixed(self, state: str, driver: str, tensor: tuple[tuple[Expr, ...], ...]) -> Expr:
        """What a tensor's entries D_kl, k ≠ l, add: Σ ∂_k(D_kl ∂_l u), summed over pairs of axes."""
        axes = range(len(self.axes))
        entries = {(k, l): self._entry(tensor, k, l) for k in axes for l in axes}
        parts = {(k, l): D for (k, l), D in entries.items() if k != l and not is_zero(D)}
        if not parts:
            return const(0.0)
        if not isinstance(self.model.grid, Grid):
            raise ValueError(f"the diffusivity tensor of {state} couples axes, which needs a Grid of x, y and z; align "
                             "the axes with the tensor")
        constant = not any(self._depends(D, self.spatial | self.moving) for D in parts.values())
        scheme = self.model.cross_flux or ("central" if constant else "limited")
        if constant and scheme == "central" and self._rolls(state, driver):
            return self._corners(driver, parts)
        total = const(0.0)
        for (k, l), D in parts.items():
            total = total + cross_flux(self, state, driver, entries, (k, l), scheme == "limited")
            reach = const(self.spacing[l]) if self.even[l] else self._factor(driver, "distance", l, self.here)
            size = self.coefficient(state, D, k, self.here) / reach
            self.extra.setdefault(state, []).append(maximum(size, -size))
        return total

    def _rolls(self, state: str, driver: str) -> bool:
        """Whether all cells are alike, so that a state is continued around all corners."""
        return self.model.grid.is_box and self.model.grid.mask is None and all(
            isinstance(self.model.boundary[s][axis][0], boundaries.Periodic) for s in (state, driver)
            for axis in self.axes)

    def _corners(self, driver: str, parts: Mapping[tuple[int, int], Expr]) -> Expr:
        """Σ over pairs of axes of (D_kl + D_lk) ∂²u/∂x_k∂x_l by the four corner cells: central fluxes of constants."""
        total = const(0.0)
        for k in range(len(self.axes)):
            for l in range(k):
                both = parts.get((k, l), const(0.0)) + parts.get((l, k), const(0.0))
                if is_zero(both):
                    continue
                u = {(a, b): self.value(driver, tuple(a * p + b * q for p, q in zip(self.unit[k], self.unit[l])))
                     for a in (-1, 1) for b in (-1, 1)}
                scale = 0.25 / (self.spacing[k] * self.spacing[l])
                total = total + (both * scale) * ((u[1, 1] - u[1, -1]) - (u[-1, 1] - u[-1, -1]))
        return total

    def _entry(self, tensor: tuple[tuple[Expr, ...], ...], k: int, l: int) -> Expr:
        """Entry of a tensor in x-y-z order for two axes in array order."""
        last = len(self.axes) - 1
        return tensor[last - k][last - l]

    def at(self, state: str, expression: Expr, offset: Offset) -> Expr:
        """A cell's value of an expression, `offset` cells away; its static parts become static arrays."""
        lowered = self._hoist(state, expression)
        used = free_symbols(lowered)
        return substitute(lowered, {**self._values(offset, used), **{
            name: self.known(name, offset) for name in self.names.values() if name in used}})

    def _values(self, offset: Offset, used: frozenset[str]) -> dict[str, Expr]:
        names = {self.model.flowing(s): s for s in self.model.state}
        values = {name: self.value(s, offset) for name, s in names.items() if name in used}
        values |= {s: load(s, offset) for s in self.model.potential if s in used}
        for k, axis in enumerate(self.axes):
            ahead, behind = (_plus(offset, self.unit[k]), _plus(offset, _minus(self.unit[k])))
            for name, s in ((name, s) for name, s in names.items() if f"dd{axis}({name})" in used):
                if self.even[k]:
                    slope = (self.value(s, ahead) - self.value(s, behind)) * (0.5 / self.spacing[k])
                else:
                    before, after = (self._factor(s, f"slope_{side}", k, offset) for side in ("low", "high"))
                    here = self.value(s, offset)
                    slope = before * (here - self.value(s, behind)) + after * (self.value(s, ahead) - here)
                values[f"dd{axis}({name})"] = slope
        return values

    def _hoist(self, state: str, expression: Expr, mean: str = "cell", axis: int = 0) -> Expr:
        """The expression with its largest static parts replaced by the symbols of static arrays."""
        moving: dict[Expr, bool] = {}
        spatial: dict[Expr, bool] = {}
        lowered: dict[Expr, Expr] = {}
        for n in walk([expression]):
            moving[n] = n.op in ("load", "symbol") and (n.op == "load" or n.value in self.moving) or any(
                moving[a] for a in n.args)
            spatial[n] = n.op == "symbol" and n.value in self.spatial or any(spatial[a] for a in n.args)
            if spatial[n] and not moving[n] and n.op not in _BOOLEAN:
                lowered[n] = symbol(self._static(state, n, mean, axis, 1.0))
            else:
                lowered[n] = rebuild(n, tuple(lowered[a] for a in n.args)) if n.args else n
        return lowered[expression]

    def _static(self, state: str, expression: Expr, mean: str, axis: int, scale: float, factor: str = "") -> str:
        periodic = tuple(isinstance(self.model.boundary[state][name][0], boundaries.Periodic) for name in self.axes)
        static = Static(expression, mean, axis, scale, periodic, factor)
        return self.names.setdefault(static, f"%{len(self.names)}")

    def _depends(self, expression: Expr, names: frozenset[str]) -> bool:
        return any(n.op == "symbol" and n.value in names for n in walk([expression]))


def _minus(offset: Offset) -> Offset:
    return tuple(-o for o in offset)


def _plus(a: Offset, b: Offset) -> Offset:
    return tuple(p + q for p, q in zip(a, b))
