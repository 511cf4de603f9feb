"""Alternating directions: a right-hand side as a sum of parts, each along one axis and solved line by line.

    du/dt = F_0 + F_1 + … + F_k,    F_j(t, u) = A_j u + b_j(t): diffusion and transport along axis j

F_0 is what lies along no axis: mixed derivatives, reactions that are not affine in their own state. Sources and affine
reactions are in F_1. Boundary values are in the b_j, at the time that each F_j is taken at.

A stage of a scheme with stabilising corrections is no approximation of u(t + h) but of u(t + h) less what the later
stages put right, w_j = u − a Σ_{i>j} (F_i(t + h) − F_i(t)). Given the boundary values of u itself it has a layer at
edges whose values change in time, and the scheme loses order there. So stage j has the boundary values of w_j
(Fairweather & Mitchell 1967; Hundsdorfer & Verwer 2003, section IV.3.2): those of u, less what the F_i, which lie along
the edge, make of them. An edge of a given slope is left as it is: there the layer is weak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import free_symbols
from sdesim.expressions import Expr, const, is_zero
from sdesim.kernels.implicit_model import Model
from sdesim.kernels.implicit_operator import Operator, Split, is_affine, slopes
from sdesim.kernels.implicit_thomas import Line
from sdesim.stencil_mask import MaskedTerms
from sdesim.stencil_terms import Offset, Static, Terms
from sdesim.stencils import Stencil

Array: TypeAlias = NDArray[np.float64]
_PROBES = 24  # steps that look for a mode that grows


@dataclass(frozen=True)
class Directions(Split):
    """A right-hand side by axes; the implicit part is their sum. `mixed`: the fluxes in what lies along none."""

    along: tuple[Split, ...] = ()
    mixed: tuple[Expr, ...] = ()

    @property
    def flows(self) -> bool:
        """Whether what lies along no axis is fluxes alone."""
        return self.explicit == self.mixed


def directions(stencil: Stencil, method: str) -> Directions:
    """The parts of a right-hand side for a method of alternating directions.

    Raises:
        ValueError: a diffusion along an axis that is not affine, or reads other states; for "douglas", anything that
            lies along no axis.
    """
    names, zero = stencil.model.state, const(0.0)
    rows = [[zero for _ in names] for _ in stencil.model.grid.axes]
    rest = _parts(stencil, None, "diffusion")
    mixed, used = tuple(rest), ["diffusion"]
    for name, sign in (("diffusion", 1.0), ("transport", -1.0)):
        parts = [_parts(stencil, k, name) for k in range(len(rows))]
        fits = all(_lies_along(stencil, i, k, part) for k, row in enumerate(parts) for i, part in enumerate(row))
        if not fits and name == "diffusion":
            raise ValueError(f"{method} solves along the axes in turn, each state alone, with a diffusivity that does "
                             'not depend on the states; use "tr_bdf2", "rkl2" or "ssprk3"')
        for k, row in enumerate(parts):
            for i, part in enumerate(row):
                if not is_zero(part):
                    target = rows[k] if fits else rest
                    target[i] = target[i] + part * sign
                    used += [name] * fits
    for i, part in enumerate(stencil.terms["reaction"]):
        fits = _lies_along(stencil, i, None, part)
        target = rows[0] if fits else rest
        target[i] = target[i] + part
        used += ["reaction"] * (fits and not is_zero(part))
    if method == "douglas" and not all(is_zero(part) for part in rest):
        raise ValueError("douglas is of order 1 with mixed derivatives, or with reactions that are not affine in their "
                         'own state; use "craig_sneyd", "modified_craig_sneyd" or "hundsdorfer_verwer"')
    nothing = tuple(zero for _ in names)
    along = tuple(Split(stencil, tuple(row), nothing, ()) for row in rows)
    total = tuple(sum(parts[1:], parts[0]) for parts in zip(*rows))
    return Directions(stencil, total, tuple(rest), tuple(dict.fromkeys(used)), along, mixed)


def _lies_along(stencil: Stencil, state: int, axis: int | None, node: Expr) -> bool:
    """Whether a graph is affine in its own state, at the cell and at its neighbours along an axis (None: at none)."""
    return is_affine(stencil, node) and all(
        name == stencil.model.state[state] and all(not o or k == axis and abs(o) == 1 for k, o in enumerate(offset))
        for name, offset in slopes(stencil, node)[0])


def _parts(stencil: Stencil, axis: int | None, name: str) -> list[Expr]:
    """One term of each state along one axis; of the diffusion (None) what mixes axes."""
    base = Terms if stencil.model.grid.mask is None else MaskedTerms

    class Chosen(base):  # type: ignore[misc, valid-type]
        """The terms of one axis."""

        def _diffusion(self, state: str, driver: str, D: Expr, k: int, mean: str) -> Expr:
            return super()._diffusion(state, driver, D, k, mean) if k == axis else const(0.0)

        def _transport(self, state: str, v: Expr, k: int) -> Expr:
            return super()._transport(state, v, k) if k == axis else const(0.0)

        def _mixed(self, state: str, driver: str, tensor: Any) -> Expr:
            return super()._mixed(state, driver, tensor) if axis is None else const(0.0)

    builder = Chosen(stencil.model, "central" if stencil.advection == "none" else stencil.advection)
    builder.names = _Named({static: known for known, static in stencil.statics.items()})
    return [builder.inside(state, getattr(builder, name)(state)) for state in stencil.model.state]


class _Named(dict[Static, str]):
    """Names of static arrays as a stencil gave them; an array that only its bounds read gets one that nobody loads."""

    def setdefault(self, static: Static, name: str = "") -> str:
        return super().setdefault(static, f"%only bounds {len(self)}")


class Directional(Model):
    """The discrete model of some members, by directions."""

    parts: Directions

    def __init__(self, parts: Directions, parameters: Mapping[str, Any], order: float) -> None:
        super().__init__(parts, parameters, order)
        self.axes = [Axis(k, split, self) for k, split in enumerate(parts.along)]
        self.names = {"lines along " + ", ".join(parts.stencil.model.grid.axes): None}

    def check(self, name: str, step: Callable[..., Array], t: float, h: float, shape: tuple[int, ...]) -> None:
        """Raise ValueError for a step that lets a mode grow.

        Two directions are stable whatever the coefficients, and three where the A_j commute; with others, or with
        mixed derivatives, power iteration of the step finds its fastest mode.
        """
        if all(is_zero(part) for part in self.parts.mixed) and (len(self.axes) < 3 or self._commutes(t)):
            return
        model = self if self.parts.flows else Directional(
            replace(self.parts, explicit=self.parts.mixed), self.parameters, self.order)
        model.guess = np.zeros(shape)
        still = step(model, t, np.zeros(shape), h, None, False)
        z, factors = np.random.default_rng(0).standard_normal(shape), list[float]()
        for _ in range(_PROBES):
            size = float(np.linalg.norm(z))
            z = step(model, t, z / size, h, None, False) - still
            factors.append(float(np.linalg.norm(z)))
        grows = float(np.exp(np.mean(np.log(factors[-_PROBES // 3 :])))) if np.isfinite(factors).all() else np.inf
        sums = [np.sum([sum(line.bands, np.zeros(1)).max() for line in lines]) for lines in zip(
            *(axis.lines(t)[1] for axis in self.axes))]
        if not grows <= 1.02 * np.exp(h * max(0.0, *sums)):
            raise ValueError(f"{name} is unstable with this diffusivity at steps of {h:.4g}: a mode grows {grows:.3g} "
                             'times in each; use "tr_bdf2" or "crank_nicolson", or a shorter dt')

    def _commutes(self, t: float) -> bool:
        """Whether what is along an axis changes along no other."""
        return all(np.all(band == np.moveaxis(band, k + 1, -1)[:, *[slice(0, 1)] * (band.ndim - 2)].reshape(
            len(band), *(-1 if j == k else 1 for j in range(band.ndim - 1))))
            for k, axis in enumerate(self.axes) for line in axis.lines(t)[1] for band in line.bands)

    def parts_at(self, t: float, y: Array) -> list[Array]:
        """F_0, F_1, … at y."""
        return [self.f(t, y), *(axis.at(t, y) for axis in self.axes)]

    def ahead(self, y: Array, parts: list[Array], h: float) -> Array:
        """y + h Σ_j F_j."""
        out = parts[1] * h if len(parts) == 2 else parts[1] + parts[2]
        if len(parts) > 2:
            for part in parts[3:]:
                out += part
            out *= h
        if not self.still:
            out += parts[0] * h
        out += y
        return out

    def stabilise(self, start: float, end: float, a: float, y: Array, parts: list[Array]) -> Array:
        """Direction by direction the y_j with y_j = y_{j−1} + a (F_j(end, y_j) − F_j), F_j = parts[j] of `start`."""
        for j, axis in enumerate(self.axes):
            y = axis.solve(start, end, a, y, parts[j + 1], self.axes[j + 1 :])
        return y


    def settle(self, s: float, t: float, h: float, y: Array, new: Array) -> Array:
        """`new` with the means of y and of h/2 times the sources at s and t, where nothing leaves the grid.

        Every scheme here keeps them but for rounding, which stiff parts magnify.
        """
        if not self.parts.flows:
            return new
        before, after = ([axis.lines(time)[0] for axis in self.axes] for time in (s, t))
        kept = [i for i in range(len(y)) if all(i in operator.conserved for operator in before)]
        mean = before[0].mean
        sources = [operator.source(time) for operators, time in ((before, s), (after, t)) for operator in operators
                   if not operator.is_still]
        for i in kept:
            new[i] += mean(y[i]) + sum((mean(source[i]) for source in sources), np.zeros(1)) * (h / 2) - mean(new[i])
        return new


class Axis:
    """F_j: the lines of every state along one axis, with the coefficients of the time last asked for."""

    def __init__(self, axis: int, split: Split, model: Directional) -> None:
        self.axis, self.split, self.model, self.moving = axis, split, model, split.is_moving
        self.kept: dict[float, tuple[Operator, list[Line]]] = {}

    def lines(self, t: float) -> tuple[Operator, list[Line]]:
        """A_j and b_j, and A_j as lines by state."""
        key = t if self.moving else 0.0
        if key not in self.kept:
            while len(self.kept) >= 2:
                del self.kept[next(iter(self.kept))]
            operator = Operator(self.split, self.model.parameters, None, key, self.model.fixed)
            self.kept[key] = operator, [self._line(operator, i) for i in range(len(operator.states))]
        return self.kept[key]

    def _line(self, operator: Operator, i: int) -> Line:
        zero = np.zeros((1, *operator.shape))
        bands = [operator.entries.get((i, i, self._unit(step)), zero) for step in (-1, 0, 1)]
        return Line(bands, self.axis, operator.stencil.ghosts[i][self.axis] is None)

    def _unit(self, step: int) -> Offset:
        return tuple(step * int(k == self.axis) for k in range(len(self.model.parts.along)))

    def at(self, t: float, y: Array) -> Array:
        """F_j(t, y)."""
        operator, lines = self.lines(t)
        out = np.empty(y.shape)
        for line, u, v in zip(lines, np.ascontiguousarray(y), out):
            line.apply(u, v)
        if not operator.is_still:
            out += operator.source(t)
        return out

    def solve(self, start: float, end: float, a: float, y: Array, was: Array, later: list[Axis]) -> Array:
        """x = y + a (F_j(end, x) − was), with the boundary values that the directions after this one leave to it."""
        operator, lines = self.lines(end)
        f = was
        if not operator.is_still:
            source = operator.source(end)
            f = was - (source - a * self._left(start, end, later) if end != start else source)
        out = np.empty(y.shape)
        for line, *values in zip(lines, np.ascontiguousarray(y), np.ascontiguousarray(f), out):
            line.solve(a, *values)
        return out

    def _left(self, start: float, end: float, later: list[Axis]) -> Array:
        """Σ_{i>j} F_i(end) − F_i(start) of the boundary values of this axis, as it enters b_j."""
        operator = self.lines(end)[0]
        total = np.zeros((len(operator.states), 1, *operator.shape))
        for i, _, axis, side, c in operator.edges:
            if not later or not self._holds(i, side):
                continue
            change: Any = 0.0
            for t, sign in ((start, -1.0), (end, 1.0)):
                for other in later:
                    change = change + sign * other.along_edge(t, i, self, side)
            edge = np.zeros((max(len(c), len(change)), *operator.shape))
            edge[(slice(None), *(-side if k == axis else slice(None) for k in range(len(operator.shape))))] = c * change
            grown = np.zeros((len(total), max(total.shape[1], len(edge)), *operator.shape)) + total
            grown[i] += edge
            total = grown
        return total

    def _holds(self, state: int, side: int) -> bool:
        """Whether an edge holds a value that changes in time; of a slope the F_i across the edge leave more."""
        pair = self.model.stencil.ghosts[state][self.axis]
        return pair is not None and "t" in free_symbols(pair[side][0]) and pair[side][1] != const(1.0)

    def along_edge(self, t: float, state: int, edge: Axis, side: int) -> Array:
        """A_j of this axis, taken along an edge of another, of the A of that edge's ghosts (members | 1, …)."""
        operator, lines = self.lines(t)
        A, B = edge.lines(t)[0].edge(state, edge.axis, side, t)
        across = edge.axis + 1
        along = self.axis + 1 - (self.axis > edge.axis)
        low, here, high = (_at_face(band, across, side) for band in lines[state].bands)
        total = here * A + low * np.roll(A, 1, along) + high * np.roll(A, -1, along)
        for i, _, _, end, c in operator.edges:
            if i != state:
                continue
            place = edge.axis + 1 - (edge.axis > self.axis)  # of the edge's axis along this axis's own edges
            own = operator.edge(state, self.axis, end, t)[0]
            beyond, inside = _beyond(own, place, side), np.take(own, -side, place)
            corner = np.take(B, -end, along)
            added = _at_face(c, place, side) * (beyond - corner * inside)
            at: tuple[Any, ...] = (*[slice(None)] * along, -end)
            grown = np.zeros((max(len(total), len(added)), *total.shape[1:])) + total
            grown[at] += added
            total = grown
        return total


def _at_face(values: Array, axis: int, side: int) -> Array:
    """Values of cells at the edge beyond the first or last of them, by the line through two."""
    n = values.shape[axis]
    near, far = (np.take(values, (n - 1 - k) if side else k, axis) for k in (0, min(1, n - 1)))
    return np.asarray(1.5 * near - 0.5 * far)


def _beyond(values: Array, axis: int, side: int) -> Array:
    """Values at the ghosts' place, by the parabola through three cells."""
    n = values.shape[axis]
    a, b, c = (np.take(values, (n - 1 - k) if side else k, axis) for k in (0, min(1, n - 1), min(2, n - 1)))
    return np.asarray(3.0 * a - 3.0 * b + c)
