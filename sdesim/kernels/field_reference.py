"""The NumPy reference of the stencil kernels: the same methods and right-hand sides on whole arrays.

It runs member by member and step by step, for clarity and as the truth that the generated kernels must equal bit by
bit. A member that is not finite at a save time is marked and its states from then on are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.calculus import evaluate, walk
from sdesim.expressions import Expr, is_zero
from sdesim.kernels.field_increments import Increments, by_source, by_state
from sdesim.kernels.field_static import ghost_values, is_timed
from sdesim.methods.vector import ZERO, Vector
from sdesim.stencils import Stencil
from sdesim.streams import Purpose, field_normals

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sheet:
    """The Brownian sheet of a run, seen with half the step or on cells of twice the width.

    With z the normals of a step and η others of the same step, its two halves have the increments
    √(h/2)·(z ± η)/√2, whose sum is √h·z; a coarse cell has the mean of its cells' increments.

    Attributes:
        halves: whether two steps of the run make up one of the sheet.
        cells: how many of the sheet's cells lie along each axis in one of the run's.
    """

    halves: bool = False
    cells: int = 1

    def normals(self, seed: int, members: ArrayLike, number: int, state: int, shape: tuple[int, ...],
                purpose: Purpose = Purpose.STEP, colour: Callable[[Array], Array] | None = None) -> Array:
        """Standard normals (members, *shape) of one step of the run; with a `colour`, what it makes of the sheet's."""
        fine = tuple(n * self.cells for n in shape)
        step, second = divmod(number, 2) if self.halves else (number, 0)
        z = field_normals(seed, members, step, state, fine, purpose)
        if self.halves:
            other = field_normals(seed, members, step, state, fine, Purpose.BRIDGE)
            z = (z - other if second else z + other) * sqrt(0.5)
        z = z if colour is None else colour(z)
        return z if self.cells == 1 else restrict(z, self.cells, len(shape)) * self.cells ** (0.5 * len(shape))


def restrict(field: Array, cells: int, axes: int) -> Array:
    """Means over blocks of `cells` along each of the last `axes` axes.

    >>> restrict(np.array([[1.0, 3.0, 5.0, 9.0]]), 2, 1)
    array([[2., 7.]])
    """
    for axis in range(field.ndim - axes, field.ndim):
        parts = field.reshape(*field.shape[:axis], -1, cells, *field.shape[axis + 1 :])
        field = parts.mean(axis=axis + 1)
    return field


class Reference:
    """The model as a method sees it, for one member: `f` and `noise` on arrays of the grid's shape.

    Args:
        stencil: the discrete model.
        parameters: this member's parameters, numbers.
        statics: this member's static arrays, one ghost layer around the grid (`static_arrays` without its first axis).
    """

    def __init__(self, stencil: Stencil, parameters: Mapping[str, float], statics: Mapping[str, Array]) -> None:
        self.stencil, self.parameters, self.statics = stencil, dict(parameters), statics
        self.loads = {nodes: sorted({n.value for n in walk(nodes) if n.op == "load"})
                      for nodes in (stencil.right_side, tuple(stencil.noise.values()),
                                    *((node,) for node in (*stencil.derived, *stencil.fluxes)))}
        self.edges: dict[tuple[int, int, int], Array] = {}

    def f(self, t: float, y: Vector) -> Vector:
        """du/dt: one array per state, `ZERO` for a state that does not change."""
        padded = {name: self._padded(k, u, t) for k, (name, u) in enumerate(zip(self.stencil.model.state, y))}
        for k, node in enumerate(self.stencil.derived):
            (field,) = self._around((node,), t, padded)
            padded[f"^{k}"] = self._padded(len(y) + k, field, t)
        rates = self._around(self.stencil.right_side, t, padded)
        return Vector([ZERO if is_zero(node) else rate for node, rate in zip(self.stencil.right_side, rates)])

    def around(self, nodes: Sequence[Expr], t: float, y: Vector) -> list[Any]:
        """Graphs of the states around every cell."""
        padded = {name: self._padded(k, u, t) for k, (name, u) in enumerate(zip(self.stencil.model.state, y))}
        return self._around(tuple(nodes), t, padded)

    def _around(self, nodes: tuple[Expr, ...], t: float, padded: Mapping[str, Array]) -> list[Any]:
        """Graphs of the fields around every cell."""
        if nodes not in self.loads:
            self.loads[nodes] = sorted({n.value for n in walk(nodes) if n.op == "load"})
        env: dict[Any, Any] = {**self.parameters, "t": np.float64(t)}
        for name, offset in self.loads[nodes]:
            env[name, offset] = _view(padded[name] if name in padded else self.statics[name], offset)
        return evaluate(nodes, env)

    def noise(self, t: float, y: Vector, dW: Vector) -> Vector:
        """What noise adds with the states at y and the increments dW, `ZERO` for a state without noise."""
        stencil = self.stencil
        padded = {name: self._padded(k, u, t) for k, (name, u) in enumerate(zip(stencil.model.state, y))}
        padded |= {name: np.pad(values, 1) for name, values in by_source(stencil, dW).items()}
        for k, node in enumerate(stencil.fluxes):
            (field,) = self._around((node,), t, padded)
            padded[f"!{k}"] = self._padded(stencil.edges_of(f"!{k}"), field, t)
        found = dict(zip(stencil.noise, self._around(tuple(stencil.noise.values()), t, padded)))
        return Vector([found.get(state, ZERO) for state in range(len(y))])

    def _padded(self, state: int, u: Array, t: float) -> Array:
        """The state with its ghost layer, filled axis by axis."""
        p = np.zeros(tuple(n + 2 for n in u.shape))
        p[(slice(1, -1),) * u.ndim] = u
        for axis in range(u.ndim):
            wraps = self.stencil.ghosts[state][axis] is None
            for side, (ghost, inner, far) in enumerate(((0, 1, -2), (-1, -2, 1))):
                if wraps:
                    p[_slab(u.ndim, axis, ghost, slice(None))] = p[_slab(u.ndim, axis, far, slice(None))]
                    continue
                A, B = self._edge(state, axis, side, t)
                source = p[_slab(u.ndim, axis, inner, slice(1, -1))]
                p[_slab(u.ndim, axis, ghost, slice(1, -1))] = A.reshape(source.shape) + B.reshape(
                    source.shape) * source
        return p

    def _edge(self, state: int, axis: int, side: int, t: float) -> Array:
        pair = self.stencil.ghosts[state][axis]
        key = state, axis, side
        if key not in self.edges or pair is not None and is_timed(pair[side]):
            values: Array = ghost_values(self.stencil, state, axis, side, self.parameters, t)[0]
            self.edges[key] = values
        return self.edges[key]


def _slab(axes: int, axis: int, index: int, others: slice) -> tuple[int | slice, ...]:
    return tuple(index if k == axis else others for k in range(axes))


def _view(padded: Array, offset: tuple[int, ...]) -> Array:
    """The padded array seen `offset` cells away from each cell; an axis of length 1 is the same everywhere."""
    return padded[tuple(slice(None) if n == 1 else slice(1 + o, n - 1 + o) for n, o in zip(padded.shape, offset))]


def run_member(reference: Reference, step: Callable[..., Vector], initial: Array, plan: Any,
               draw: Callable[[int, float], Mapping[int, Array]]) -> tuple[Array, bool]:
    """Integrate one member.

    Args:
        reference: the member's model.
        step: a method of `sdesim.methods.field`.
        initial: (states, *space).
        plan: for each save interval its start, its step h, the number of steps, and the method's options.
        draw: (number of the step, h) → the increments by source, (1, *space).

    Returns:
        The states at the end of each interval, (intervals, states, *space), and whether all of them are finite.
    """
    y = Vector(list(initial.astype(np.float64)))
    saved = np.full((len(plan), *initial.shape), np.nan)
    count = 0
    with np.errstate(all="ignore"):
        for i, (start, h, steps, options) in enumerate(plan):
            for s in range(steps):
                drawn = [values[0] for values in draw(count, h).values()]
                w = Increments(by_state(reference.stencil, drawn))
                y = step(reference, start + s * h, y, h, w, **options)
                count += 1
            if not all(np.all(np.isfinite(u)) for u in y):
                return saved, False
            saved[i] = list(y)
    return saved, True


def wiener_root(stencil: Stencil, h: float) -> float:
    """√(h/V): the standard deviation of a step's increment of white noise in a cell of volume V."""
    return float(np.sqrt(h)) * stencil.noise_scale
