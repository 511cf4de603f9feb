"""Geometric multigrid for A = S − Σ faces (a symmetric M-matrix of a finite-volume grid), inside conjugate gradients.

Transfer is piecewise constant: restriction sums the residuals of the cells that join, exactly the transpose of
prolongation, for else conjugate gradients stall. Along an axis that is coarsened a coarse face is *half* the sum of its
fine ones (cell centres are twice as far apart, which Galerkin's product with this transfer overlooks). An axis is
coarsened where it couples strongly, so that a stretched grid keeps the point smoother sound. The smoother is that of
Chebyshev of degree 3 on D⁻¹A over [0.3, 2], its factors in reverse order after the correction: the cycle is symmetric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.implicit_sweeps import Padded, entries

Array: TypeAlias = NDArray[np.float64]
DEGREE, LOWEST, COARSEST, MOST_ITERATIONS = 3, 0.3, 64, 60
_K = (2 * np.arange(DEGREE) + 1) * np.pi / (2 * DEGREE)
WEIGHTS = tuple((1.0 / ((2 + LOWEST) / 2 + (2 - LOWEST) / 2 * np.cos(_K))).tolist())


class Multigrid:
    """One level, and the coarser ones below it.

    Args:
        faces: for each axis the coefficient of the low face of every cell; that of the first cells is zero, or the
            face to the last cells where the axis is periodic.
        mass: row sums of A without the walls (1, less what a reaction adds).
        walls: for each axis what its edges add to the diagonal.
    """

    def __init__(self, faces: Sequence[Array], mass: Array, walls: Sequence[Array]) -> None:
        self.faces, self.shape = list(faces), mass.shape
        self.mass, self.walls = mass, list(walls)
        self.wraps = [bool(np.any(np.take(f, 0, axis))) for axis, f in enumerate(faces)]
        self.diagonal: Array = mass + sum(walls)
        for axis, f in enumerate(faces):
            self.diagonal = self.diagonal + f + self._high(f, axis)
        self.inverse_diagonal = 1.0 / self.diagonal
        self.axes = self._strong()
        self.inner = [Padded(self.shape, self._open(f, axis)) for axis, f in enumerate(self.faces)]
        self.scales = [Padded(self.shape, d) for d in (self.diagonal, self.inverse_diagonal)]
        self.given, *self.spare = (Padded(self.shape) for _ in range(4))
        self.strides = [int(np.prod(self.shape[k + 1 :])) for k in range(len(self.shape))]
        self.smooth, self.product = entries(len(self.shape))

    def _high(self, f: Array, axis: int) -> Array:
        """The high faces of every cell; those of the last cells are the first's (zero where not periodic)."""
        return np.roll(f, -1, axis)

    def _strong(self) -> tuple[int, ...]:
        means = [float(f.mean()) if n > 2 else 0.0 for f, n in zip(self.faces, self.shape)]
        return tuple(k for k, mean in enumerate(means) if mean > 0.25 * max(means))

    @cached_property
    def coarse(self) -> Multigrid | None:
        """The next level; None where this is small enough to be inverted."""
        if int(np.prod(self.shape)) <= COARSEST or not self.axes:
            return None
        faces, walls = [], []
        for axis, (f, wall) in enumerate(zip(self.faces, self.walls)):
            across = tuple(k for k in self.axes if k != axis)
            half = axis in self.axes
            chosen = f[(slice(None),) * axis + (slice(None, None, 2),)] if half else f
            faces.append(join(chosen, across) * (0.5 if half else 1.0))
            strong = half and bool(wall.sum() * np.count_nonzero(f) > f.sum() * np.count_nonzero(wall))
            walls.append(join(wall, self.axes) * (0.5 if strong else 1.0))
        return Multigrid(faces, join(self.mass, self.axes), walls)

    @cached_property
    def factor(self) -> Array:
        """The inverse of the coarsest level's matrix."""
        size = int(np.prod(self.shape))
        unit = np.eye(size).reshape(size, *self.shape)
        return np.linalg.inv(np.stack([self.apply(e).ravel() for e in unit], axis=1))

    def _open(self, f: Array, axis: int) -> Array:
        """The faces without those to the far side, which `_wrap` adds."""
        f = f.copy()
        f[(slice(None),) * axis + (0,)] = 0.0
        return f

    def apply(self, u: Array) -> Array:
        """A u."""
        x, out = self.spare[:2]
        x.values[...] = u
        self._pass(self.product, 0.0, out, x, self.given, self.scales[0])
        for at, f, far in self._wrap(x.values):
            out.values[at] -= f * far
        return out.values.copy()

    def _pass(self, kernel: Any, w: float, out: Padded, u: Padded, b: Padded, scale: Padded) -> None:
        kernel(self.mass.size, w, *self.strides, out.address, u.address, b.address, scale.address,
               *(f.address for f in self.inner))

    def _wrap(self, u: Array) -> Iterator[tuple[tuple[slice, ...], Array, Array]]:
        """Cells at periodic edges, the face to the far side and the value there."""
        for axis, f in enumerate(self.faces):
            if self.wraps[axis]:
                first, last = ((slice(None),) * axis + (side,) for side in (slice(0, 1), slice(-1, None)))
                yield first, f[first], u[last]
                yield last, f[first], u[first]

    def cycle(self, b: Array) -> Array:
        """One V-cycle for A x = b from zero: the preconditioner."""
        if self.coarse is None:
            if int(np.prod(self.shape)) <= 4 * COARSEST:
                return np.asarray(self.factor @ b.ravel()).reshape(b.shape)
            return b * self.inverse_diagonal
        self.given.values[...] = b
        u, out = self.spare[0], self.spare[2]
        np.multiply(b, self.inverse_diagonal * WEIGHTS[0], out=u.values)
        for w in WEIGHTS[1:]:
            u, out = self._smooth(w, out, u), u
        correction = self.coarse.cycle(join(b - self.apply(u.values), self.axes))
        state = u.values + spread(correction, self.axes, self.shape)
        u, out = self.spare[0], self.spare[2]
        u.values[...] = state
        for w in reversed(WEIGHTS):
            u, out = self._smooth(w, out, u), u
        return u.values.copy()

    def _smooth(self, w: float, out: Padded, u: Padded) -> Padded:
        """u + w D⁻¹ (b − A u) into `out`."""
        self._pass(self.smooth, w, out, u, self.given, self.scales[1])
        for at, f, far in self._wrap(u.values):
            out.values[at] += w * self.inverse_diagonal[at] * f * far
        return out


def join(values: Array, axes: Sequence[int]) -> Array:
    """Sums over pairs of cells along the axes; a last odd cell stays alone.

    >>> join(np.arange(5.0), (0,))
    array([1., 5., 4.])
    """
    for axis in axes:
        lead, n = (slice(None),) * axis, values.shape[axis]
        total = values[(*lead, slice(0, None, 2))].copy()
        total[(*lead, slice(0, n // 2))] += values[(*lead, slice(1, None, 2))]
        values = total
    return values


def spread(values: Array, axes: Sequence[int], shape: Sequence[int]) -> Array:
    """Every coarse value to the cells that it joined: the transpose of `join`.

    >>> spread(np.array([1.0, 2.0]), (0,), (3,))
    array([1., 1., 2.])
    """
    for axis in axes:
        values = np.repeat(values, 2, axis)[(slice(None),) * axis + (slice(0, shape[axis]),)]
    return values


def conjugate_gradients(grid: Multigrid, b: Array, guess: Array, tolerance: float) -> tuple[Array, int]:
    """x with |b − A x| ≤ tolerance·|b|, and the iterations; −1 for those where they stall."""
    if not np.all(np.isfinite(b)):
        return b.copy(), 0  # a member that blew up: its caller marks it
    x = guess.copy()
    r = b - grid.apply(x)
    aim = tolerance * float(np.linalg.norm(b))
    z = grid.cycle(r)
    p, rho = z, float(np.vdot(r, z))
    for k in range(MOST_ITERATIONS):
        if float(np.linalg.norm(r)) <= aim:
            return x, k
        q = grid.apply(p)
        alpha = rho / float(np.vdot(p, q))
        x += alpha * p
        r -= alpha * q
        z = grid.cycle(r)
        rho, before = float(np.vdot(r, z)), rho
        if not np.isfinite(rho) or rho < 0.0:
            break
        p = z + (rho / before) * p
    return (x, MOST_ITERATIONS) if float(np.linalg.norm(r)) <= aim else (x, -1)
