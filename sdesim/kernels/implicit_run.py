"""Runs the implicit methods: groups of members with the same steps, their solvers, the loop over steps and saves.

Iterative solves end where their error is a hundredth of the step's own: with a relative change δ over the last step, a
method of order p errs by about δ^{p+1}. Where nothing leaves the grid the cells' mean is kept to rounding: the mean of
x is that of r for every exact solve, so the difference is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate, walk
from sdesim.expressions import Expr, is_zero
from sdesim.kernels.field_conserved import conserved
from sdesim.kernels.field_noise import Drive
from sdesim.kernels.field_plan import Steps
from sdesim.kernels.field_reference import Sheet
from sdesim.kernels.implicit_operator import Operator, Split, environment, view
from sdesim.kernels.implicit_solvers import Solver, is_symmetric
from sdesim.methods.field import FieldMethod

Array: TypeAlias = NDArray[np.float64]
STARTING = 2  # steps that a method may take in its own careful way
_TIGHT, _LOOSE, _KEPT = 1e-12, 1e-6, 4


class Model:
    """The discrete model of some members as an implicit method sees it: f, L, solve and noise on whole arrays."""

    def __init__(self, parts: Split, parameters: Mapping[str, Any], order: float) -> None:
        self.stencil, self.parts, self.parameters, self.order = parts.stencil, parts, dict(parameters), order
        self.operator = Operator(parts, parameters)
        self.fixed = environment(self.stencil, parameters)
        self.solvers: dict[float, Solver] = {}
        fields = {*self.operator.states, *(f"^{k}" for k in range(len(self.stencil.derived)))}
        self.reads = {nodes: [n.value for n in walk(nodes) if n.op == "load" and n.value[0] in fields]
                      for nodes in (parts.explicit, *((node,) for node in self.stencil.derived))}
        self.loads = self.reads[parts.explicit]
        self.still = all(is_zero(node) for node in parts.explicit)
        self.tolerance, self.guess = np.array([_TIGHT]), np.empty(0)
        self.kept = self._closed()

    def _closed(self) -> bool:
        """Whether the columns of L sum to zero: what leaves a cell enters another."""
        own = self.operator
        if own.coupled or self.parts.terms != ("diffusion",) or any(np.any(wall) for wall in own.walls.values()):
            return False
        return all(is_symmetric({o: c for (k, _, o), c in own.entries.items() if k == i}, own.weights)
                   for i in range(len(own.states)))

    def f(self, t: float, y: Array) -> Array:
        """The explicit part of du/dt at y (states, members, *space)."""
        if self.still:
            return np.zeros((1,) * y.ndim)
        fields = dict(zip(self.operator.states, y))
        padded: dict[str, Array] = {}
        for k, node in enumerate(self.stencil.derived):
            fields[f"^{k}"] = self._around((node,), t, fields, padded)[0]
        return np.stack(self._around(self.parts.explicit, t, fields, padded))

    def _around(self, nodes: tuple[Expr, ...], t: float, fields: Mapping[str, Array],
                padded: dict[str, Array]) -> list[Array]:
        """Graphs of the fields around every cell; those with a ghost layer are kept in `padded`."""
        env = {**self.fixed, "t": np.float64(t)}
        for name, offset in self.reads[nodes]:
            if not any(offset):
                env[name, offset] = fields[name]
                continue
            if name not in padded:
                padded[name] = self._padded(list(fields).index(name), fields[name], t)
            env[name, offset] = view(padded[name], offset)
        shape = next(iter(fields.values())).shape
        return [np.array(np.broadcast_to(value, shape)) for value in evaluate(nodes, env)]

    def _padded(self, state: int, u: Array, t: float) -> Array:
        """A state with a ghost layer, filled axis by axis."""
        axes = u.ndim - 1
        p = np.pad(u, [(0, 0), *[(1, 1)] * axes], mode="wrap")
        inner = (slice(1, -1),) * axes
        for axis in range(axes):
            if self.stencil.ghosts[state][axis] is None:
                continue
            for side, (ghost, cell) in enumerate(((0, 1), (-1, -2))):
                A, B = self.operator.edge(state, axis, side, t)
                at: list[tuple[Any, ...]] = [(slice(None), *inner[:axis], k, *inner[axis + 1 :]) for k in (ghost, cell)]
                p[at[0]] = A + B * p[at[1]]
        return p

    def L(self, t: float, y: Array) -> Array:
        """The implicit part L y + b(t)."""
        return self.operator.apply(y) + self.operator.source(t)

    def solve(self, t: float, a: float, r: Array) -> Array:
        """x = r + a (L x + b(t))."""
        if a not in self.solvers:
            while len(self.solvers) >= _KEPT:  # the step changes between saves: keep the latest
                del self.solvers[next(iter(self.solvers))]
            self.solvers[a] = Solver(self.operator, a)
        full = r + a * self.operator.source(t)
        x = self.solvers[a].solve(full, self.guess, self.tolerance)
        if self.kept:
            axes, measure = tuple(range(2, x.ndim)), self.operator.measure
            lost = full.mean(axes, keepdims=True) - x.mean(axes, keepdims=True) if measure is None else (
                ((full - x) * measure).sum(axes, keepdims=True))
            x += lost
        self.guess = x
        return x

    def noise(self, t: float, y: Array, dW: Mapping[int, Array] | None) -> Array:
        """The noise amplitude at y times dW; zero without noise."""
        if dW is None:
            return np.zeros((1,) * y.ndim)
        here = (0,) * (y.ndim - 2)
        env = {**self.fixed, "t": np.float64(t), **{(n, here): u for n, u in zip(self.operator.states, y)}}
        out = np.zeros_like(y)
        for state, amplitude in self.stencil.noise.items():
            if self.stencil.is_conserved(state):
                out[state] = conserved(self.stencil.model, state, amplitude, t, self.parameters, y, dW[state])
            else:
                out[state] = evaluate((amplitude,), env)[0] * dW[state]
        return out

    def after(self, before: Array, now: Array) -> None:
        """Tie the tolerance of iterations to the error of a step that changes a member as the last one did."""
        axes = (0, *range(2, now.ndim))
        change, size = (np.sqrt(np.sum(v * v, axis=axes)) for v in (now - before, now))
        aim = 0.01 * (change / np.maximum(size, 1e-300)) ** (self.order + 1.0)
        self.tolerance = np.clip(np.where(np.isfinite(aim), aim, _LOOSE), _TIGHT, _LOOSE)


def run(parts: Split, method: FieldMethod, parameters: Mapping[str, Any], plans: Sequence[Sequence[Steps]],
        initial: Array, members: NDArray[np.int64], seed: int, threads: int, out: Array,
        sheet: Sheet | None = None) -> tuple[NDArray[np.int8], dict[str, str | float | int]]:
    """Integrate all members into `out` (intervals, states, members, *space); their status and notes on the solvers."""
    groups = _groups(plans, max(1, -(-len(members) // max(1, threads))))
    status = np.zeros(len(members), np.int8)

    def one(places: NDArray[np.int64]) -> Model:
        own = {name: v[places] if np.ndim(v) else v for name, v in parameters.items()}
        model = Model(parts, own, method.order or 1.0)
        with np.errstate(all="ignore"):
            saved = _integrate(model, method, initial[:, places], plans[int(places[0])], members[places], seed,
                               sheet or Sheet())
        out[:, :, places] = saved
        return model

    with ThreadPoolExecutor(max(1, threads)) as pool:
        models = list(pool.map(one, groups))
    for m in range(len(members)):
        bad = ~np.isfinite(out[:, :, m]).all(axis=tuple(range(1, out.ndim - 1)))
        if bad.any():
            status[m] = 1
            out[int(np.argmax(bad)) :, :, m] = np.nan
    return status, _notes(parts, models)


def _groups(plans: Sequence[Sequence[Steps]], most: int) -> list[NDArray[np.int64]]:
    """Places of members that take the same steps, at most so many together."""
    found: dict[Any, list[int]] = {}
    for m, p in enumerate(plans):
        found.setdefault(tuple(p), []).append(m)
    return [np.array(places[k : k + most]) for places in found.values() for k in range(0, len(places), most)]


def _integrate(model: Model, method: FieldMethod, initial: Array, plan: Sequence[Steps], members: NDArray[np.int64],
               seed: int, sheet: Sheet) -> Array:
    y, number, stencil = initial.astype(np.float64), 0, model.stencil
    saved, draw = np.empty((len(plan), *y.shape)), Drive(stencil, seed, members, sheet)
    model.guess, model.tolerance = y, np.full(len(members), _TIGHT)
    for i, steps in enumerate(plan):
        for k in range(steps.count):
            dW = draw(number, steps.h) if stencil.noise else None
            before = y
            y = method.step(model, steps.start + k * steps.h, y, steps.h, dW, number < STARTING)
            if not np.isfinite(y).any():
                saved[i:] = np.nan
                return saved
            model.after(before, y)
            number += 1
        saved[i] = y
    return saved


def _notes(parts: Split, models: Sequence[Model]) -> dict[str, str | float | int]:
    solvers = [solver for model in models for solver in model.solvers.values()]
    notes: dict[str, str | float | int] = {
        "implicit": ", ".join(parts.terms) or "nothing",
        "solver": ", ".join(dict.fromkeys(name for solver in solvers for name in solver.names)),
    }
    iterations = max((solver.iterations for solver in solvers), default=0)
    if iterations:
        notes["iterations_most"] = iterations
    explicit = [name for name, part in zip(parts.stencil.model.state, parts.explicit) if not is_zero(part)]
    if explicit:
        notes["explicit"] = "the rest of " + ", ".join(explicit)
    return notes


