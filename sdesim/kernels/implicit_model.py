"""The discrete model of some members as an implicit method sees it: f, L, solve and noise on whole arrays.

Where the implicit part is affine in the states, `solve` is one linear solve. Else it is Newton's method with the exact
Jacobian J of the discrete fluxes and reactions, held (and its factors) while it contracts well:

    (I − aJ) δ = r + a F(t, x) − x,   x ← x + δ        until the error, δ times what the last step contracted, is small.

Where nothing leaves the grid the cells' mean is kept to rounding: the columns of J sum to zero then, so that the mean
of an exact solution is known beforehand, and the difference is taken out.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate, walk
from sdesim.expressions import Expr, is_zero
from sdesim.kernels.implicit_operator import Operator, Split, environment, view
from sdesim.kernels.implicit_solvers import Solver

Array: TypeAlias = NDArray[np.float64]
TIGHT, _LOOSE, _KEPT = 1e-12, 1e-6, 4
_MOST_NEWTON, _SLOW, _LINEAR, _SMALL = 40, 0.1, 1e-3, 1e-8
_HALVINGS, _NEAR = 6, 1e-3


class Model:
    """The discrete model of some members.

    Args:
        parts: what is implicit, and what explicit.
        parameters: numbers, or arrays over the members.
        order: of the method.

    Attributes:
        tolerance: relative, of iterative solves, (members,).
        guess: the last solution.
        names: what solved so far.
        iterations: the most that a linear solve took; `newton`: that Newton's method took.
    """

    def __init__(self, parts: Split, parameters: Mapping[str, Any], order: float) -> None:
        self.stencil, self.parts, self.parameters, self.order = parts.stencil, parts, dict(parameters), order
        self.states = parts.stencil.model.state
        self.fixed = environment(self.stencil, parameters)
        self.moving, self.bent = parts.is_moving, not parts.is_affine
        self.operators: dict[float, Operator] = {}
        self.solvers: dict[tuple[float, float], Solver] = {}
        self.reads = {nodes: [n.value for n in walk(nodes) if n.op == "load" and not n.value[0].startswith("%")]
                      for nodes in (parts.explicit, parts.implicit, tuple(self.stencil.noise.values()),
                                    *((node,) for node in (*self.stencil.derived, *self.stencil.fluxes)))}
        self.here = [(name, (0,) * len(parts.stencil.model.grid.axes)) for name in self.states]
        self.still = all(is_zero(node) for node in parts.explicit)
        self.tolerance: Array = np.array([TIGHT])
        self.guess: Array = np.empty(0)
        self.names: dict[str, None] = {}
        self.iterations, self.newton = 0, 0
        self.slope: Array = np.empty(0)
        self.now = np.nan
        self.kept: list[int] | None = None

    def operator(self, t: float) -> Operator:
        """L and b of the time t; of an implicit part that is not affine the edges alone count."""
        key = t if self.moving else 0.0
        if key not in self.operators:
            _make_room(self.operators)
            loads = (*self.reads[self.parts.implicit], *self.here)
            around = {load: np.zeros(1) for load in loads} if self.bent else None
            self.operators[key] = Operator(self.parts, self.parameters, around, key, self.fixed)
        return self.operators[key]

    def jacobian(self, t: float, y: Array) -> Operator:
        """∂F/∂y of the implicit part at y."""
        fields, padded = self._fields(self.parts.implicit, t, y)
        loads = (*self.reads[self.parts.implicit], *self.here)
        return Operator(self.parts, self.parameters, {
            load: self._seen(load, t, fields, padded) for load in loads}, t, self.fixed)

    def f(self, t: float, y: Array) -> Array:
        """The explicit part of du/dt at y (states, members, *space)."""
        return np.zeros((1,) * y.ndim) if self.still else self._right_side(self.parts.explicit, t, y)

    def L(self, t: float, y: Array) -> Array:
        """The implicit part: L y + b(t), or F(t, y); what the last solve implies where y and t are its own.

        So stiff parts do not magnify the error that Newton's method has left.
        """
        if self.bent:
            return self.slope if y is self.guess and t == self.now else self._right_side(self.parts.implicit, t, y)
        return self.operator(t).apply(y) + self.operator(t).source(t)

    def _right_side(self, nodes: tuple[Expr, ...], t: float, y: Array) -> Array:
        fields, padded = self._fields(nodes, t, y)
        return np.stack(self._around(nodes, t, fields, padded))

    def _fields(self, nodes: tuple[Expr, ...], t: float, y: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """The states, and the derived fields where some graphs load any; and room for those with a ghost layer."""
        fields, padded = dict(zip(self.states, y)), dict[str, Array]()
        if any(name.startswith("^") for name, _ in self.reads[nodes]):
            for k, node in enumerate(self.stencil.derived):
                fields[f"^{k}"] = self._around((node,), t, fields, padded)[0]
        return fields, padded

    def _around(self, nodes: tuple[Expr, ...], t: float, fields: Mapping[str, Array],
                padded: dict[str, Array]) -> list[Array]:
        """Graphs of the fields around every cell; those with a ghost layer are kept in `padded`."""
        env = {**self.fixed, "t": np.float64(t)}
        env |= {load: self._seen(load, t, fields, padded) for load in self.reads[nodes]}
        shape = next(iter(fields.values())).shape
        return [np.array(np.broadcast_to(value, shape)) for value in evaluate(nodes, env)]

    def _seen(self, load: tuple[str, tuple[int, ...]], t: float, fields: Mapping[str, Array],
              padded: dict[str, Array]) -> Array:
        """A field seen some cells away."""
        name, offset = load
        if not any(offset):
            return fields[name]
        if name not in padded:
            padded[name] = self._padded(self.stencil.edges_of(name), fields[name], t)
        return view(padded[name], offset)

    def _padded(self, state: int, u: Array, t: float) -> Array:
        """A state with a ghost layer, filled axis by axis."""
        axes = u.ndim - 1
        p = np.pad(u, [(0, 0), *[(1, 1)] * axes], mode="wrap")
        inner = (slice(1, -1),) * axes
        for axis in range(axes):
            if self.stencil.ghosts[state][axis] is None:
                continue
            for side, (ghost, cell) in enumerate(((0, 1), (-1, -2))):
                A, B = self.operator(t).edge(state, axis, side, t)
                at: list[tuple[Any, ...]] = [(slice(None), *inner[:axis], k, *inner[axis + 1 :]) for k in (ghost, cell)]
                p[at[0]] = A + B * p[at[1]]
        return p

    def solve(self, t: float, a: float, r: Array) -> Array:
        """x = r + a (L x + b(t)), or x = r + a F(t, x)."""
        if not self.bent:
            self.guess = self._linear(t, a, r)
            return self.guess
        self.guess, self.now = self._newton(t, a, r), t
        self.slope = (self.guess - r) * (1.0 / a)
        return self.guess

    def _linear(self, t: float, a: float, r: Array) -> Array:
        operator = self.operator(t)
        key = (operator.t, a)
        if key not in self.solvers:
            _make_room(self.solvers)  # the step changes between saves: keep the latest
            self.solvers[key] = Solver(operator, a)
        full = r + a * operator.source(t)
        x = self._solved(self.solvers[key], full, self.guess, self.tolerance)
        return self._keep(operator, x, full)

    def _newton(self, t: float, a: float, r: Array) -> Array:
        x, part, rate = self.guess, 0.0, 1.0
        if self.kept is None:  # at x a slope may vanish by chance
            self.kept = self.jacobian(t, x + np.random.default_rng(0).random(x.shape)).conserved
        ahead = r + a * self._right_side(self.parts.implicit, t, x)
        for k in range(_MOST_NEWTON):
            key = (0.0, a)
            if key not in self.solvers or (rate if k > 1 else part) > _SLOW:
                _make_room(self.solvers)
                self.solvers[key] = Solver(self.jacobian(t, x), a)
            solver = self.solvers[key]
            change = self._solved(solver, ahead - x, np.zeros_like(x), np.full(x.shape[1], _LINEAR))
            left = _part(ahead - x, x)
            for _ in range(_HALVINGS):  # at a kink, as where ice melts, whole steps may go to and fro
                nearer = self._keep(solver.operator, x + change, ahead)
                ahead = r + a * self._right_side(self.parts.implicit, t, nearer)
                if _part(change, x) < _NEAR or _part(ahead - nearer, nearer) < left:
                    break
                change *= 0.5
            x = nearer
            last, part = part, _part(change, x)
            if not np.isfinite(part):
                break
            rate = part / last if k else 1.0
            self.newton = max(self.newton, k + 1)
            if part * min(1.0, rate / max(1.0 - rate, 1e-3)) <= float(self.tolerance[0]):
                return x
        if np.isfinite(x).all():
            warnings.warn(f"Newton's method does not converge at t = {t:g}, and the member is given up: take a smaller "
                          "dt", RuntimeWarning, stacklevel=2)
        return np.full_like(x, np.nan)

    def _solved(self, solver: Solver, r: Array, guess: Array, tolerance: Array) -> Array:
        x = solver.solve(r, guess, tolerance)
        self.iterations = max(self.iterations, solver.iterations)
        self.names |= dict.fromkeys(solver.names)
        return x

    def _keep(self, operator: Operator, x: Array, full: Array) -> Array:
        """x with the means that it is known to have."""
        for i in operator.conserved if self.kept is None else self.kept:
            x[i] += operator.mean(full[i]) - operator.mean(x[i])
        return x

    def noise(self, t: float, y: Array, dW: Mapping[int, Array] | None) -> Array:
        """What noise adds with the states at y and the increments dW by source; zero without noise."""
        if dW is None:
            return np.zeros((1,) * y.ndim)
        fields = {**dict(zip(self.states, y)), **{f"~{j}": values for j, values in dW.items()}}
        padded = dict[str, Array]()
        for k, node in enumerate(self.stencil.fluxes):
            fields[f"!{k}"] = self._around((node,), t, fields, padded)[0]
        out = np.zeros_like(y)
        out[list(self.stencil.noise)] = self._around(tuple(self.stencil.noise.values()), t, fields, padded)
        return out

    def after(self, before: Array, now: Array) -> None:
        """Tie the tolerance of iterations to the error of a step that changes a member as the last one did."""
        axes = (0, *range(2, now.ndim))
        change, size = (np.sqrt(np.sum(v * v, axis=axes)) for v in (now - before, now))
        aim = 0.01 * (change / np.maximum(size, 1e-300)) ** (self.order + 1.0)
        self.tolerance = np.clip(np.where(np.isfinite(aim), aim, _LOOSE), TIGHT, _LOOSE)


def _part(change: Array, x: Array) -> float:
    """The largest change of a state as a part of its size, or of a small part of the largest state's."""
    axes = tuple(range(1, x.ndim))
    size = np.sqrt(np.sum(x**2, axis=axes))
    return float(np.max(np.sqrt(np.sum(change**2, axis=axes)) / np.maximum(size, _SMALL * size.max() + 1e-300)))


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
