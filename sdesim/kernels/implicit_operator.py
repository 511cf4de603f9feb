"""The part of a stencil that a method takes implicitly, as coefficients: L u + b(t), or a Jacobian.

A row of L is the set of derivatives of a cell's right-hand side by the values that it loads, which the expressions give
exactly. A load beyond an edge is a ghost A + B·u of the cell itself: c·B joins the diagonal and c·A the source b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import differentiate, evaluate, free_symbols, walk
from sdesim.coefficients import over_space
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.kernels.field_schedule import rewrite_loads
from sdesim.kernels.field_static import ghost_values, is_timed, static_arrays
from sdesim.stencils import Stencil

Array: TypeAlias = NDArray[np.float64]
Load: TypeAlias = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Split:
    """A stencil's right-hand side as a part that is taken implicitly and the rest; `terms` are those of the former."""

    stencil: Stencil
    implicit: tuple[Expr, ...]
    explicit: tuple[Expr, ...]
    terms: tuple[str, ...]

    @property
    def is_affine(self) -> bool:
        """Whether the implicit part is affine in the states."""
        return all(is_affine(self.stencil, node) for node in self.implicit)

    @property
    def is_moving(self) -> bool:
        """Whether its coefficients, or those of an edge, change with time."""
        edges = [pair[1] for axes in self.stencil.ghosts for sides in axes if sides is not None for pair in sides]
        rows = [slope for node in self.implicit for slope in slopes(self.stencil, node)[0].values()]
        return "t" in free_symbols(*edges, *rows)


def split(stencil: Stencil, method: str) -> Split:
    """What a method takes implicitly: "ars232" and "ark436" the diffusion, "backward_euler" all that is affine too.

    The others take all terms, affine or not.

    Raises:
        ValueError: a term that has slopes of its own in passes of their own, where it would be implicit.
    """
    whole = method in ("crank_nicolson", "tr_bdf2")
    used: list[str] = []
    implicit = [const(0.0) for _ in stencil.right_side]
    explicit = [const(0.0) for _ in stencil.right_side]
    for name, sign in (("diffusion", 1.0), ("transport", -1.0), ("reaction", 1.0)):
        parts = stencil.terms[name]
        wanted = name == "diffusion" or whole or method == "backward_euler" and all(
            is_affine(stencil, part) for part in parts)
        if wanted and any(is_derived(stencil, part) for part in parts):
            raise ValueError(f"{method} takes the {name} implicitly, and here its fluxes need fields derived from the "
                             f"states, which have no Jacobian; {_CURES[name]}")
        target = implicit if wanted else explicit
        if wanted and not all(is_zero(part) for part in parts):
            used.append(name)
        for k, part in enumerate(parts):
            target[k] = target[k] + part * sign if not is_zero(part) else target[k]
    return Split(stencil, tuple(implicit), tuple(explicit), tuple(used))


_CURES = {
    "diffusion": 'use "rkl2", "ssprk3" or "rk4"',
    "transport": 'take advection="central" or "upwind", or "ars232" or "ark436", which take it explicitly',
    "reaction": 'use "ars232" or "ark436", which take it explicitly, or "rkl2"',
}


def is_derived(stencil: Stencil, node: Expr) -> bool:
    """Whether a graph loads fields derived from the states other than potentials, which are functions of a cell."""
    return any(n.op == "load" and n.value[0].startswith("^") and n.value[0] not in stencil.potentials
               for n in walk([node]))


def field_loads(stencil: Stencil, node: Expr) -> list[Load]:
    """The values of states and of their potentials that a graph loads."""
    fields = {*stencil.model.state, *stencil.potentials}
    return list(dict.fromkeys(n.value for n in walk([node]) if n.op == "load" and n.value[0] in fields))


@lru_cache(maxsize=64)
def slopes(stencil: Stencil, node: Expr) -> tuple[dict[Load, Expr], Expr]:
    """∂node/∂u for every field value u that it loads (the zero ones left out), and its value where all are zero."""
    loads = field_loads(stencil, node)
    names = {load: f"load {k}" for k, load in enumerate(loads)}
    named = rewrite_loads(node, {load: symbol(name) for load, name in names.items()})
    result = {load: differentiate(named, name) for load, name in names.items()}
    rest = rewrite_loads(node, {load: const(0.0) for load in loads})
    return {load: slope for load, slope in result.items() if not is_zero(slope)}, rest


@lru_cache(maxsize=256)
def is_affine(stencil: Stencil, node: Expr) -> bool:
    """Whether a graph is affine in the states."""
    if any(name.startswith("^") for name, _ in field_loads(stencil, node)) or is_derived(stencil, node):
        return False
    parts, _ = slopes(stencil, node)
    return not any(name.startswith("load ") for p in parts.values() for name in free_symbols(p))


class Operator:
    """L and b for some members, with the coefficients of the time t.

    Of equations that are not affine, L is the Jacobian where the states are `around`, and there is no b.

    Attributes:
        entries: coefficient of the state j at an offset in the equation of the state i, by (i, j, offset): arrays
            (members | 1, *space), zero where the offset leaves the grid; ghosts are in the diagonal.
        walls: for each state and axis what its two edges add to −diagonal, arrays (members | 1, *space).
        t: the time that coefficients are of.
        weights: volumes of the cells over their mean, (1, *space), which make a diffusion symmetric; None where equal.
        measure: volumes of the field's cells over their sum; None where all cells are equal and none is left out.
    """

    def __init__(self, parts: Split, parameters: Mapping[str, Any], around: Mapping[Load, Array] | None = None,
                 t: float = 0.0, fixed: Mapping[Any, Any] | None = None) -> None:
        self.stencil, self.parameters, self.t = parts.stencil, dict(parameters), t
        self.shape = self.stencil.model.grid.shape
        self.states = self.stencil.model.state
        grid = self.stencil.model.grid
        self.weights: Array | None = None if grid.is_box else (grid.volumes / grid.volumes.mean())[None]
        inside = grid.volumes * grid.wet
        self.measure: Array | None = None if grid.is_box and grid.mask is None else inside / inside.sum()
        self.fixed = environment(self.stencil, parameters) if fixed is None else fixed
        self.entries: dict[tuple[int, int, tuple[int, ...]], Array] = {}
        self.walls: dict[tuple[int, int], Array] = {}
        self.edges: list[tuple[int, int, int, int, Array]] = []
        self.rests: list[Expr] = []
        for i, node in enumerate(parts.implicit):
            known = {**self.fixed, "t": np.float64(t)}
            found, rest = slopes(self.stencil, node)
            self.rests.append(rest)
            for (name, offset), slope in found.items():
                values = self._evaluated(slope, self._known(known, node, around))
                if name not in self.stencil.potentials:
                    self._add(i, self.states.index(name), offset, values)
                    continue
                own, place = self.stencil.potentials[name].state, int(name[1:])
                (rise,) = slopes(self.stencil, self.stencil.derived[place])[0].values()
                rises = self._evaluated(rise, self._known(known, self.stencil.derived[place], around))
                self._add(i, self.states.index(own), offset, values, rises, len(self.states) + place)
        edges = [side for axes in self.stencil.ghosts for pair in axes if pair for side in pair]
        self.timed = any(is_timed(side) for side in edges) or "t" in free_symbols(*self.rests)
        self._source: Array | None = None

    def _known(self, env: Mapping[Any, Any], node: Expr, around: Mapping[Load, Array] | None) -> dict[Any, Any]:
        """With the values of a graph's loads, by the names that `slopes` gives them."""
        loads = {} if around is None else {
            f"load {k}": around[load] for k, load in enumerate(field_loads(self.stencil, node))}
        return {**env, **loads}

    def _evaluated(self, node: Expr, known: Mapping[Any, Any]) -> Array:
        values = np.asarray(evaluate((node,), known)[0], np.float64)
        lead = values.shape[0] if values.ndim > len(self.shape) else 1
        return np.array(np.broadcast_to(values, (lead, *self.shape)))

    def _add(self, i: int, j: int, offset: tuple[int, ...], values: Array, rises: Array | None = None,
             field: int | None = None) -> None:
        """One coefficient; where it reads a ghost it joins the diagonal and the source.

        Of a potential, `field` by its number among states and derived fields, with the slope `rises` of its state.
        """
        here, field = (0,) * len(self.shape), j if field is None else field
        for axis, step in enumerate(offset):
            if step and self.stencil.ghosts[field][axis] is not None:
                side = int(step > 0)
                at = _at(self.shape, axis, side)
                _, B = self.edge(field, axis, side, self.t)
                c = values[at].copy()
                own = c if rises is None else c * rises[at]
                self._join(i, j, here, _on_edge((len(own), *self.shape), at, own * B))
                if i == j:
                    known = self.walls.get((i, axis), np.zeros((1, *self.shape)))
                    self.walls[i, axis] = known + _on_edge((len(own), *self.shape), at, own * (1.0 - B))
                self.edges.append((i, j, axis, side, c))
                values[at] = 0.0
        if rises is not None:
            values = values * np.roll(rises, tuple(-o for o in offset), tuple(range(1, rises.ndim)))
        self._join(i, j, offset, values)

    def _join(self, i: int, j: int, offset: tuple[int, ...], values: Array) -> None:
        known = self.entries.get((i, j, offset))
        self.entries[i, j, offset] = values if known is None else known + values

    def edge(self, state: int, axis: int, side: int, t: float) -> tuple[Array, Array]:
        """A and B of an edge, shaped (members | 1, *space) with length 1 along the axis left out."""
        shape = tuple(n for k, n in enumerate(self.shape) if k != axis)
        values = ghost_values(self.stencil, state, axis, side, self.parameters, t)
        A, B = (values[:, k].reshape(-1, *shape) for k in (0, 1))
        return A, B

    @cached_property
    def is_still(self) -> bool:
        """Whether b is zero at all times."""
        return not self.timed and not self.source(0.0).any()

    def source(self, t: float) -> Array:
        """b(t): (states, members | 1, *space)."""
        if self._source is not None and not self.timed:
            return self._source
        values = evaluate(self.rests, {**self.fixed, "t": np.float64(t)})
        parts: list[Array] = [np.asarray(v, np.float64) for v in values]
        total = [np.array(np.broadcast_to(p, (p.shape[0] if p.ndim > len(self.shape) else 1, *self.shape)))
                 for p in parts]
        for i, j, axis, side, c in self.edges:
            at = _at(self.shape, axis, side)
            added = c * self.edge(j, axis, side, t)[0]
            total[i] = total[i] + _on_edge((added.shape[0], *self.shape), at, added)
        members = max(p.shape[0] for p in total)
        self._source = np.stack([np.broadcast_to(p, (members, *self.shape)) for p in total])
        return self._source

    def apply(self, u: Array) -> Array:
        """L u for u (states, members, *space)."""
        out = np.zeros(u.shape)
        axes = tuple(range(1, u.ndim - 1))
        for (i, j, offset), c in self.entries.items():
            out[i] += c * (np.roll(u[j], tuple(-o for o in offset), axes) if any(offset) else u[j])
        return out

    @property
    def coupled(self) -> bool:
        """Whether a state's equation holds another state."""
        return any(i != j for i, j, _ in self.entries)

    def member(self, m: int) -> dict[tuple[int, int, tuple[int, ...]], Array]:
        """The coefficients of one member, arrays over the grid."""
        return {key: c[m if len(c) > 1 else 0] for key, c in self.entries.items()}

    @cached_property
    def conserved(self) -> list[int]:
        """States whose integral nothing changes: the volumes times the columns of their rows of L sum to zero.

        Columns that cancel to a part in 10¹² of their largest entry count as zero.
        """
        weights = self.weights if self.weights is not None else np.ones((1, *self.shape))
        axes, kept = tuple(range(1, weights.ndim)), []
        for i in range(len(self.states)):
            sums: dict[int, Array] = {}
            largest = 0.0
            for (k, j, offset), c in self.entries.items():
                if k == i:
                    moved = np.roll(c * weights, offset, axes)
                    sums[j] = sums.get(j, np.zeros(1)) + moved
                    largest = max(largest, float(np.abs(moved).max()))
            if all(float(np.abs(total).max()) <= 1e-12 * largest for total in sums.values()):
                kept.append(i)
        return kept

    def mean(self, values: Array) -> Array:
        """Means (…, 1, …) over the field's cells by their volumes, of arrays (…, *space)."""
        axes = tuple(range(-len(self.shape), 0))
        if self.measure is None:
            return np.asarray(values.mean(axes, keepdims=True))
        return np.asarray((values * self.measure).sum(axes, keepdims=True))

    @property
    def alike(self) -> bool:
        """Whether all members share the coefficients."""
        return all(len(c) == 1 for c in self.entries.values())


def environment(stencil: Stencil, parameters: Mapping[str, Any]) -> dict[Any, Any]:
    """Parameters shaped (members, 1, …), and views of the static arrays for every load of the right-hand side."""
    axes = len(stencil.model.grid.axes)
    env: dict[Any, Any] = {name: over_space(v, axes) for name, v in parameters.items()}
    arrays = static_arrays(stencil, parameters)
    for node in walk([*stencil.right_side, *stencil.noise.values(), *stencil.fluxes, *stencil.derived]):
        if node.op == "load" and node.value[0] in arrays:
            env[node.value] = view(arrays[node.value[0]], node.value[1])
    return env


def view(padded: Array, offset: Sequence[int]) -> Array:
    """Arrays (members, *padded) seen `offset` cells away; an axis of length 1 is the same everywhere."""
    inner = (slice(None) if n == 1 else slice(1 + o, n - 1 + o) for n, o in zip(padded.shape[1:], offset))
    return padded[(slice(None), *inner)]


def _at(shape: tuple[int, ...], axis: int, side: int) -> tuple[Any, ...]:
    return (slice(None), *(-side if k == axis else slice(None) for k in range(len(shape))))


def _on_edge(shape: tuple[int, ...], at: tuple[Any, ...], values: Array) -> Array:
    out = np.zeros((max(shape[0], values.shape[0]), *shape[1:]))
    out[at] = values
    return out
