"""Solves (I − aL) x = r as a sparse matrix: its factors, or conjugate residuals with algebraic multigrid."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.implicit_aggregation import Aggregation
from sdesim.kernels.implicit_operator import Operator

Array: TypeAlias = NDArray[np.float64]
Coefficients: TypeAlias = Mapping[tuple[int, ...], Array]


def factorise(entries: Mapping[tuple[int, int, tuple[int, ...]], Array], shape: tuple[int, ...], states: int,
              a: float) -> Any:
    """Sparse LU of I − aL for one member, the states one after the other."""
    from scipy.sparse import linalg

    return linalg.splu(matrix(entries, shape, states, a).tocsc())


def matrix(entries: Mapping[tuple[int, int, tuple[int, ...]], Array], shape: tuple[int, ...], states: int,
           a: float) -> Any:
    """I − aL for one member, the states one after the other: SciPy's CSR."""
    from scipy import sparse

    size = int(np.prod(shape))
    cells = np.arange(size).reshape(shape)
    rows, columns, values = [np.arange(states * size)], [np.arange(states * size)], [np.ones(states * size)]
    for (i, j, offset), c in entries.items():
        kept = c != 0.0
        rows.append(i * size + cells[kept])
        columns.append(j * size + np.roll(cells, tuple(-o for o in offset), tuple(range(len(shape))))[kept])
        values.append(-a * c[kept])
    places = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), places), shape=(states * size,) * 2)


class Part:
    """One state's solver."""

    name, iterations = "", 0

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        raise NotImplementedError


class Sparse(Part):
    """Factors of each member's matrix."""

    name = "sparse LU"

    def __init__(self, own: Coefficients, shape: tuple[int, ...], a: float) -> None:
        members = max(len(c) for c in own.values())
        self.factors = [factorise({(0, 0, offset): c[m if len(c) > 1 else 0] for offset, c in own.items()}, shape, 1, a)
                        for m in range(members)]

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        return np.stack([self.factors[m % len(self.factors)].solve(r[m].ravel()).reshape(r[m].shape)
                         for m in range(len(r))])


class Algebraic(Part):
    """Conjugate residuals with algebraic multigrid; a member where they stall goes to sparse LU."""

    name = "algebraic multigrid"

    def __init__(self, operator: Operator, own: Coefficients, a: float, symmetric: bool) -> None:
        self.own, self.shape, self.a, self.symmetric = own, operator.shape, a, symmetric
        self.members = max(len(c) for c in own.values())
        self.weights = np.ones(1) if operator.weights is None else operator.weights[0].ravel()
        self.grids: dict[int, Aggregation] = {}
        self.direct: dict[int, Any] = {}

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        return np.stack([self.solve_one(m % self.members, r[m], guess[m], float(tolerance[m])) for m in range(len(r))])

    def solve_one(self, k: int, r: Array, guess: Array, tolerance: float) -> Array:
        """x of one member, with the coefficients of the k-th."""
        own = {(0, 0, offset): c[k if len(c) > 1 else 0] for offset, c in self.own.items()}
        if not np.all(np.isfinite(r)):
            return r.copy()  # a member that blew up: its caller marks it
        if k not in self.direct:
            if k not in self.grids:
                A = matrix(own, self.shape, 1, self.a)
                self.grids[k] = Aggregation(A.multiply(self.weights[:, None]).tocsr(), self.symmetric)
            x, count = self.grids[k].solve(r.ravel() * self.weights, guess.ravel(), tolerance)
            self.iterations = max(self.iterations, count)
            if count >= 0:
                return x.reshape(r.shape)
            warnings.warn("algebraic multigrid stalls on this diffusivity; the run goes on with a sparse LU, slower "
                          "and exact", RuntimeWarning, stacklevel=2)
            self.direct[k], self.name = factorise(own, self.shape, 1, self.a), "sparse LU"
        return np.asarray(self.direct[k].solve(r.ravel())).reshape(r.shape)
