"""What the exact samplers share: the random numbers of a transition, coefficients as numbers, roots of covariances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.expressions import Expr

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one transition: `normal(k)` and `uniform(k)`, one for each member, k = 0, 1, …"""

    normal: Callable[[int], Array]
    uniform: Callable[[int], Array]


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
