"""Algebraic multigrid by aggregation, for sparse matrices whose entries jump from cell to cell, of any grid.

The unknowns of a coarse level are groups of fine ones that strong couplings tie together, found in two rounds of
pairing; prolongation is constant on a group and the coarse matrix PᵀAP (Notay, Electron. Trans. Numer. Anal. 37, 2010;
Napov & Notay 2012, doi:10.1137/100818509). The coupling of i and j counts as −a_ij (1/a_ii + 1/a_jj)/2: what matters is
how firmly the less connected of the two is held. One that is held by its own diagonal needs no coarse unknown, and one
that a single coupling holds joins its neighbour's pair. On every coarse level two steps of the generalised conjugate
residual method make up for transfers that are only constant (the K-cycle, doi:10.1002/nla.542), so that iterations
hardly depend on the number of levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
_PAIR, _JOIN, _OWN, _ROUNDS = 0.125, 0.7, 5.0 / 3.0, 8
_COARSEST, _LEVELS, _KEPT, MOST = 64, 30, 8, 100
_DEGREE, _LOWEST = 4, 0.2
_K = (2 * np.arange(_DEGREE) + 1) * np.pi / (2 * _DEGREE)
_CHEBYSHEV = tuple((1.0 / ((2 + _LOWEST) / 2 + (2 - _LOWEST) / 2 * np.cos(_K))).tolist())
_JACOBI = (0.9,) * _DEGREE  # eigenvalues of D⁻¹A off the real axis: within the circle about 1, where this contracts


class Aggregation:
    """The levels of one matrix.

    Args:
        matrix: sparse, SciPy's CSR, with a positive diagonal.
        symmetric: whether it is; the smoother is Chebyshev's then.
    """

    def __init__(self, matrix: Any, symmetric: bool) -> None:
        self.levels: list[_Level] = []
        while True:
            level = _Level(matrix, _CHEBYSHEV if symmetric else _JACOBI)
            self.levels.append(level)
            if matrix.shape[0] <= _COARSEST or len(self.levels) == _LEVELS:
                level.inverse = np.linalg.inv(matrix.toarray()) if matrix.shape[0] <= 16 * _COARSEST else None
                return
            matrix = level.coarsen()

    def solve(self, b: Array, guess: Array, tolerance: float) -> tuple[Array, int]:
        """x with |b − A x| ≤ tolerance·|b| by generalised conjugate residuals, and the iterations; −1 if they stall."""
        A, x, p, q = self.levels[0].matrix, guess.copy(), list[Array](), list[Array]()
        r = b - A @ x
        aim = tolerance * np.sqrt(_dot(b, b))
        for k in range(MOST + 1):
            if not np.sqrt(_dot(r, r)) > aim:
                return x, k
            z = self._cycle(0, r)
            w = A @ z
            for pj, qj in zip(p, q):
                part = _dot(w, qj)
                w -= part * qj
                z -= part * pj
            size = np.sqrt(_dot(w, w))
            if not np.isfinite(size) or size == 0.0:
                break
            p, q = [*p[1 - _KEPT :], z / size], [*q[1 - _KEPT :], w / size]
            step = _dot(r, q[-1])
            x += step * p[-1]
            r -= step * q[-1]
        return x, -1

    def _cycle(self, k: int, b: Array) -> Array:
        """A symmetric V of smoothing and correction from level k, corrected by two steps of the level below."""
        level = self.levels[k]
        if level.prolongation is None:
            return b * level.steps[0] if level.inverse is None else np.asarray(level.inverse @ b)
        x = b * level.steps[0]
        for step in level.steps[1:]:
            x += level.residual(b, x) * step
        x += level.prolongation @ self._twice(k + 1, level.restriction @ level.residual(b, x))
        for step in reversed(level.steps):
            x += level.residual(b, x) * step
        return x

    def _twice(self, k: int, b: Array) -> Array:
        """At most two steps of generalised conjugate residuals on a level (Notay & Vassilevski 2008)."""
        level = self.levels[k]
        c = self._cycle(k, b)
        if level.prolongation is None or not c.size:
            return c
        v = level.matrix @ c
        size = _dot(v, v)
        if not size > 0.0:
            return c
        first = _dot(v, b) / size
        r = b - first * v
        if _dot(r, r) <= 0.0625 * _dot(b, b):
            return first * c
        d = self._cycle(k, r)
        w = level.matrix @ d
        shared = _dot(w, v) / size
        w -= shared * v
        second = _dot(w, r) / max(_dot(w, w), 1e-300)
        return (first - second * shared) * c + second * d


class _Level:
    """A matrix, what smooths it, and the way to the next level."""

    def __init__(self, matrix: Any, weights: Sequence[float]) -> None:
        self.matrix = matrix
        # at most 2 are the eigenvalues of D⁻¹A with D ≥ ½ Σ |a_ij|
        scale = np.maximum(matrix.diagonal(), 0.5 * np.asarray(abs(matrix).sum(axis=1)).ravel())
        self.steps: list[Array] = [w / scale for w in weights]
        self.prolongation: Any = None
        self.restriction: Any = None
        self.inverse: Array | None = None

    def residual(self, b: Array, x: Array) -> Array:
        """b − A x."""
        r: Array = self.matrix @ x
        return np.subtract(b, r, out=r)

    def coarsen(self) -> Any:
        """The matrix of the next level: two rounds of pairs."""
        P = _constant(*groups(self.matrix, _OWN))
        A = (P.T @ self.matrix @ P).tocsr()
        Q = _constant(*groups(A, None))
        self.prolongation = (P @ Q).tocsr()
        self.restriction = self.prolongation.T.tocsr()
        return (Q.T @ A @ Q).tocsr()


def groups(matrix: Any, own: float | None) -> tuple[NDArray[np.int64], int]:
    """For each unknown its group, −1 for none, and how many groups there are.

    Neighbours pair that prefer each other; ties are broken by a number that belongs to the pair. `own`: how many times
    its couplings the diagonal of an unknown is that needs no group; None: all have one.

    >>> from scipy import sparse
    >>> A = sparse.csr_matrix(np.array([[2.0, -2, 0, 0], [-2, 2.1, -0.1, 0], [0, -0.1, 1.1, -1], [0, 0, -1, 1]]))
    >>> groups(A, 5.0)[0].tolist()
    [0, 0, 1, 1]
    """
    size = matrix.shape[0]
    both = ((matrix + matrix.T) * 0.5).tocsr()
    row = np.repeat(np.arange(size), np.diff(both.indptr))
    col, coupling, diagonal = both.indices.astype(np.int64), -both.data, both.diagonal()
    kept = (row != col) & (coupling > 0.0)
    row, col, coupling = row[kept], col[kept], coupling[kept]
    alone = np.zeros(size, bool) if own is None else (
        diagonal > own * np.bincount(row, weights=coupling, minlength=size))
    key = 0.5 * coupling * (1.0 / diagonal[row] + 1.0 / diagonal[col])
    kept = ~alone[row] & ~alone[col] & (key >= _PAIR)
    row, col, share = row[kept], col[kept], (coupling / diagonal[row])[kept]
    key = key[kept] * (1.0 + 0.01 * _lot(row, col))
    group, count = np.full(size, -1, np.int64), 0
    some: Any = slice(None)
    for _ in range(_ROUNDS):
        choice = _preferred(row[some], col[some], key[some], size)
        first = np.flatnonzero((choice >= 0) & (choice[choice] == np.arange(size)) & (choice > np.arange(size)))
        if not first.size:
            break
        group[first] = group[choice[first]] = count + np.arange(first.size)
        count += first.size
        some = np.flatnonzero((group[row] < 0) & (group[col] < 0))
    some = (group[row] < 0) & (group[col] >= 0) & (share >= _JOIN)
    choice = _preferred(row[some], col[some], key[some], size)
    joins = np.flatnonzero(choice >= 0)
    group[joins] = group[choice[joins]]
    rest = np.flatnonzero((group < 0) & ~alone)
    group[rest] = count + np.arange(rest.size)
    return _in_order(group), count + rest.size


def _in_order(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups numbered by their first members, so that neighbours in the grid are neighbours in memory."""
    kept = np.flatnonzero(group >= 0)
    _, first, own = np.unique(group[kept], return_index=True, return_inverse=True)
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(first.size)
    group[kept] = rank[own]
    return group


def _preferred(row: NDArray[np.int64], col: NDArray[np.int64], key: Array, size: int) -> NDArray[np.int64]:
    """For each row (in order) the column of its largest key, −1 for a row without any."""
    choice = np.full(size, -1, np.int64)
    if row.size:
        starts = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        best = np.zeros(size)
        best[row[starts]] = np.maximum.reduceat(key, starts)
        chosen = key == best[row]
        choice[row[chosen]] = col[chosen]
    return choice


def _lot(row: NDArray[np.int64], col: NDArray[np.int64]) -> Array:
    """A number in [0, 1) for each pair, the same both ways."""
    low, high = (pick(row, col).astype(np.uint64) for pick in (np.minimum, np.maximum))
    mixed = (low * np.uint64(0x9E3779B97F4A7C15)) ^ (high * np.uint64(0xC2B2AE3D27D4EB4F))
    return (mixed >> np.uint64(40)).astype(np.float64) * 2.0**-24


def _constant(group: NDArray[np.int64], count: int) -> Any:
    """Prolongation that is 1 on each group."""
    from scipy import sparse

    kept = np.flatnonzero(group >= 0)
    return sparse.csr_matrix((np.ones(kept.size), (kept, group[kept])), shape=(group.size, count))


def _dot(x: Array, y: Array) -> float:
    """x·y, in an order that no number of threads changes."""
    return float(np.einsum("i,i->", x, y))
