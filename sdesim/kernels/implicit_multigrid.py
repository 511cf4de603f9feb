"""Geometric multigrid for A = S − Σ faces (a symmetric M-matrix of a finite-volume grid), inside conjugate gradients.

Transfer is piecewise constant: restriction sums the residuals of the cells that join, exactly the transpose of
prolongation, for else conjugate gradients stall. Along an axis that is coarsened a coarse face is *half* the sum of its
fine ones (cell centres are twice as far apart, which Galerkin's product with this transfer overlooks). An axis is
coarsened where it couples strongly, so that a stretched grid keeps the point smoother sound. The smoother is that of
Chebyshev of degree 3 on D⁻¹A over [0.3, 2], its factors in reverse order after the correction: the cycle is symmetric.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.field_layout import aligned
from sdesim.kernels.implicit_sweeps import HALO, entries

Array: TypeAlias = NDArray[np.float64]
DEGREE, LOWEST, COARSEST, MOST_ITERATIONS = 3, 0.3, 64, 60
_K = (2 * np.arange(DEGREE) + 1) * np.pi / (2 * DEGREE)
WEIGHTS = tuple((1.0 / ((2 + LOWEST) / 2 + (2 - LOWEST) / 2 * np.cos(_K))).tolist())


class Frame:
    """How a grid lies in memory: `HALO` cells of the far side at either end of a periodic axis, none at the others.

    Rows are along the last axis. `interior` are the slices of the grid itself, `inside` tells its rows, and `image` the
    cell of the grid that each cell of memory stands for, axis by axis.
    """

    def __init__(self, shape: tuple[int, ...], wraps: Sequence[bool]) -> None:
        self.shape, self.halos = shape, tuple(HALO * w for w in wraps)
        self.padded = tuple(n + 2 * h for n, h in zip(shape, self.halos))
        self.interior = tuple(slice(h, h + n) for n, h in zip(shape, self.halos))
        self.strides = tuple(int(np.prod(self.padded[k + 1 :])) for k in range(len(shape)))
        self.image = [(np.arange(p) - h) % n for p, n, h in zip(self.padded, shape, self.halos)]
        rows = np.zeros(self.padded[:-1], np.int64)
        rows[self.interior[:-1]] = 1
        self.inside = rows.ravel()
        self.numbers = (rows.size, self.padded[-1], rows.size // self.padded[0])
        self.row = (self.halos[-1], shape[-1])

    def offsets(self, other: Frame, axes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every row, and every cell of a row, where in `other` the cell is that it joins: the sum is the place."""
        place = [(i // 2 if k in axes else i) + other.halos[k] for k, i in enumerate(self.image)]
        steps = [p * s for p, s in zip(place, other.strides)]
        rows = np.zeros(1, np.int64)
        for along in steps[:-1]:
            rows = (rows[:, None] + along).ravel()
        return rows, steps[-1].astype(np.int64)

    def array(self) -> Padded:
        """Zeros in this frame."""
        return Padded(self)


class Padded:
    """A grid's values in their frame: `values` is the view of the grid itself, `address` that of the whole."""

    def __init__(self, frame: Frame) -> None:
        size, room = int(np.prod(frame.padded)), -(-frame.strides[0] // 8) * 8 + 8
        self.frame, self.memory = frame, aligned(size + 2 * room)
        self.whole = self.memory[room : room + size].reshape(frame.padded)
        self.values, self.address = self.whole[frame.interior], self.whole.ctypes.data

    def fill(self, values: Any) -> Padded:
        """Take these values of the grid, and theirs at the far side beyond periodic edges."""
        self.values[...] = values
        return self.wrap()

    def wrap(self) -> Padded:
        """Copy what lies at the far side beyond each periodic edge."""
        for axis, h in enumerate(self.frame.halos):
            if h:
                along, n = np.moveaxis(self.whole, axis, 0), self.frame.shape[axis]
                for k in range(h):
                    along[h - 1 - k] = along[h + (-1 - k) % n]
                    along[h + n + k] = along[h + k % n]
        return self


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
        self.diagonal: Array = mass + sum(walls)
        for axis, f in enumerate(faces):
            self.diagonal = self.diagonal + f + np.roll(f, -1, axis)
        self.axes = self._strong()
        self.frame = Frame(self.shape, [bool(np.any(np.take(f, 0, axis))) for axis, f in enumerate(faces)])
        scales = (1.0 / self.diagonal, self.diagonal, *self.faces)
        self.inverse, self.scale, *self.inner = (self.frame.array().fill(values) for values in scales)
        self.given, self.spare, self.result = (self.frame.array() for _ in range(3))
        self.passes = entries(len(self.shape))

    @cached_property
    def work(self) -> tuple[Padded, ...]:
        """Arrays of conjugate gradients: x, r, p, q."""
        return tuple(self.frame.array() for _ in range(4))

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

    def apply(self, u: Array) -> Array:
        """A u."""
        p, q = self.frame.array(), self.frame.array()
        self.direction(0.0, p, q, self.frame.array().fill(u))
        return q.values

    def _call(self, name: str, *arguments: Any) -> None:
        grid = (*self.frame.strides, *(f.address for f in self.inner))
        self.passes[name](*self.frame.numbers, *(a.address if isinstance(a, Padded) else a.ctypes.data
                                                 if isinstance(a, np.ndarray) else a for a in arguments), *grid)

    def direction(self, beta: float, p: Padded, q: Padded, z: Padded) -> float:
        """p ← z + βp and q = A p; p·q."""
        out = np.zeros(1)
        self._call("direction", *self.frame.row, beta, p, q, z, self.scale, out, self.frame.inside)
        return float(out[0])

    def advance(self, alpha: float, x: Padded, r: Padded, p: Padded, q: Padded) -> float:
        """x ← x + αp and r ← r − αq; r·r."""
        out = np.zeros(1)
        self._call("advance", *self.frame.row, alpha, x, r, p, q, out, self.frame.inside)
        return float(out[0])

    def product(self, a: Padded, b: Padded) -> float:
        """a·b."""
        out = np.zeros(1)
        self._call("product", *self.frame.row, a, b, out, self.frame.inside)
        return float(out[0])

    @cached_property
    def transfer(self) -> tuple[Any, ...]:
        """Tables of the transfer to the coarse level: see `down` and `up` in `implicit_sweeps`."""
        coarse = self.coarse
        if coarse is None:
            raise ValueError("the coarsest level has no transfer")
        rows, cells = self.frame.offsets(coarse.frame, self.axes)
        own = np.where(self.frame.inside != 0, rows + coarse.frame.halos[-1], -1)
        kept = np.flatnonzero(own >= 0)
        begins = np.zeros(own.size, np.int64)
        begins[kept[np.unique(own[kept], return_index=True)[1]]] = 1
        buffer = aligned(self.frame.padded[-1] + 8)
        return int(len(self.shape) - 1 in self.axes), buffer, own, begins, rows, cells

    def cycle(self, b: Padded) -> Padded:
        """One V-cycle for A x = b from zero: the preconditioner. `b` is wrapped; so is the result."""
        if self.coarse is None:
            small = int(np.prod(self.shape)) <= 4 * COARSEST
            values = (self.factor @ b.values.ravel()).reshape(self.shape) if small else b.values * self.inverse.values
            return self.result.fill(values)
        joined, buffer, own, begins, rows, cells = self.transfer
        target = self.coarse.given
        self._call("down", *self.frame.row, joined, *WEIGHTS, self.spare, self.result, b, self.inverse, self.scale,
                   buffer, target, own, begins)
        self.spare.wrap()
        correction = self.coarse.cycle(target.wrap())
        self._call("up", *WEIGHTS, self.spare, self.result, b, self.inverse, correction, rows, cells)
        return self.result.wrap()


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


def conjugate_gradients(grid: Multigrid, b: Array, guess: Array, tolerance: float) -> tuple[Array, int]:
    """x with |b − A x| ≤ tolerance·|b|, and the iterations; −1 for those where they stall."""
    if not np.all(np.isfinite(b)):
        return b.copy(), 0  # a member that blew up: its caller marks it
    x, r, p, q = grid.work
    x.fill(guess)
    r.fill(b - grid.apply(guess))
    aim = (tolerance * float(np.linalg.norm(b))) ** 2
    residual, rho, beta = grid.product(r, r), 0.0, 0.0
    p.memory[...] = 0.0
    for k in range(MOST_ITERATIONS):
        if residual <= aim:
            return x.values.copy(), k
        z = grid.cycle(r.wrap())
        rho, before = grid.product(r, z), rho
        if not np.isfinite(rho) or rho < 0.0:
            break
        beta = rho / before if k else 0.0
        curvature = grid.direction(beta, p, q, z)
        residual = grid.advance(rho / curvature, x, r, p, q)
    return (x.values.copy(), MOST_ITERATIONS) if residual <= aim else (x.values.copy(), -1)
