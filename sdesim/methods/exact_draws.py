"""What the exact samplers share: a transition as a rule and its coefficients, the random numbers it draws, roots of
covariances.

A rule is written once for NumPy, LLVM and C (`sdesim.arithmetic`); its coefficients, one for all members or one for
each, are worked out in NumPy before. Transition j of a member draws from the counters (member, j, k, LAW | kind ≪ 8):
normals 2k and 2k + 1 (kind 0), uniform numbers 2k and 2k + 1 (kind 1), try k of a gamma variate (kinds 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import Machine, Value, exp, log_normal_range
from sdesim.calculus import evaluate
from sdesim.expressions import Expr
from sdesim.streams import Purpose, normal_pair, unit_pair

Array: TypeAlias = NDArray[np.float64]


class Draws:
    """The random numbers of one transition on a machine; `gamma` is the machine's way to a variate of a shape."""

    def __init__(
        self, m: Machine, member: Value, transition: Value, key: Sequence[Value], gamma: Callable[[Value], Value]
    ) -> None:
        self.m, self.place, self.key, self.gamma = m, (member, transition), key, gamma
        self._pairs: dict[tuple[int, int], tuple[Value, Value]] = {}

    def normal(self, k: int) -> Value:
        """Standard normal k."""
        return self._pair(normal_pair, 0, k >> 1)[k & 1]

    def uniform(self, k: int) -> Value:
        """Uniform number k of (0, 1)."""
        return self._pair(unit_pair, 1, k >> 1)[k & 1]

    def exponential(self, k: int) -> Value:
        """−ln of uniform number k."""
        return -log_normal_range(self.m, self.uniform(k))

    def _pair(self, group: Callable[..., tuple[Value, Value]], kind: int, k: int) -> tuple[Value, Value]:
        if (kind, k) not in self._pairs:
            counter = [*self.place, self.m.u64(k), self.m.u64(Purpose.LAW | kind << 8)]
            self._pairs[kind, k] = group(self.m, counter, self.key)
        return self._pairs[kind, k]


class Rule(Protocol):
    """States, coefficients and random numbers ↦ the states after a transition; equal rules are equal kernels."""

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]: ...


class Transition(NamedTuple):
    """A rule and its coefficients: numbers, or arrays over the members."""

    rule: Rule
    coefficients: list[Array]


@dataclass(frozen=True)
class Affine:
    """X_h = F X + s + L z, with the coefficients F by rows, s, and L at its `places` (state, normal)."""

    dimension: int
    places: tuple[tuple[int, int], ...]

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        d = self.dimension
        rows = (c[i * d : i * d + d] for i in range(d))
        sums = [total([F * x for F, x in zip(row, y, strict=True)]) for row in rows]
        moved = [a + b for a, b in zip(sums, c[d * d : d * d + d], strict=True)]
        return spread(moved, self.places, c[d * d + d :], draws)


@dataclass(frozen=True)
class Growth:
    """X_h = X exp(s + L z), with the coefficients s, and L at its `places` (state, normal)."""

    dimension: int
    places: tuple[tuple[int, int], ...]

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        exponents = spread(c[: self.dimension], self.places, c[self.dimension :], draws)
        return [x * exp(m, e) for x, e in zip(y, exponents, strict=True)]


def total(values: Sequence[Value]) -> Value:
    """The sum, from the left."""
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def spread(
    start: Sequence[Value], places: Sequence[tuple[int, int]], weights: Sequence[Value], draws: Draws
) -> list[Value]:
    """s + L z."""
    result = list(start)
    for (i, k), weight in zip(places, weights, strict=True):
        result[i] = result[i] + weight * draws.normal(k)
    return result


def lower(d: int) -> tuple[tuple[int, int], ...]:
    """The places of a Cholesky factor.

    >>> lower(2)
    ((0, 0), (1, 0), (1, 1))
    """
    return tuple((i, k) for i in range(d) for k in range(i + 1))


def entries(matrix: Array, places: Sequence[tuple[int, int]]) -> list[Array]:
    """The entries of matrices (…, d, m) at places."""
    return [np.asarray(matrix[..., i, k]) for i, k in places]


def affine(F: Array, shift: Array, L: Array | None) -> Transition:
    """The transition X_h = F X + s + L z, for matrices (…, d, d) with L a Cholesky factor, None for no noise."""
    d = shift.shape[-1]
    places = () if L is None else lower(d)
    matrix = entries(F, [(i, k) for i in range(d) for k in range(d)])
    weights = [] if L is None else entries(L, places)
    return Transition(Affine(d, places), [*matrix, *(np.asarray(shift[..., i]) for i in range(d)), *weights])


def values_of(nodes: Sequence[Expr], parameters: Mapping[str, Any]) -> list[Any]:
    """Expressions of the parameters as arrays."""
    return [np.asarray(v, np.float64) for v in evaluate(list(nodes), parameters)]


def semidefinite_root(Q: Array) -> Array:
    """The Cholesky factor of matrices (…, d, d) that may be singular: a pivot lost in round-off is nought.

    >>> semidefinite_root(np.array([[4.0, 2.0], [2.0, 1.0]]))
    array([[2., 0.],
           [1., 0.]])
    """
    d = Q.shape[-1]
    L = np.zeros_like(Q)
    for j in range(d):
        pivot = Q[..., j, j] - (L[..., j, :j] ** 2).sum(axis=-1)
        lost = pivot <= 64 * d * np.finfo(float).eps * Q[..., j, j]
        root = np.sqrt(np.where(lost, 1.0, pivot))
        for i in range(j, d):
            rest = Q[..., i, j] - (L[..., i, :j] * L[..., j, :j]).sum(axis=-1)
            L[..., i, j] = np.where(lost, 0.0, rest / root)
    return L
