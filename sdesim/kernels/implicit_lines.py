"""Solves (I − aL) x = r where one axis alone is uneven: modes along the others, elimination along it.

Where the coefficients along an axis are the same all along it and its cells are equal, the eigenvectors of that part of
L are the waves of its edges (`sdesim.spectral`), whatever the coefficients do along another axis j. Then every mode has
a tridiagonal system of its own along j, and all of them are one long one: the elimination of rows that are decoupled.
So is the surface of a sphere solved, waves in longitude and elimination from pole to pole, in any latitude as exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.grids import Grid
from sdesim.kernels.implicit_operator import Operator
from sdesim.spectral import Transform, kind_of

Array: TypeAlias = NDArray[np.float64]
Coefficients: TypeAlias = Mapping[tuple[int, ...], Array]


class Lines:
    """The solver of one state.

    Args:
        transform: of the even axes; a grid without the uneven one.
        axis: the uneven axis.
        bands: coefficients to the low cell, of the cell itself and to the high cell along it, (members | 1, modes, n).
        a: of I − aL.
    """

    name, iterations = "modes and elimination", 0

    def __init__(self, transform: Transform, axis: int, bands: tuple[Array, Array, Array], a: float) -> None:
        from scipy.linalg import lapack

        self.transform, self.axis, self.back = transform, axis, lapack.dgttrs
        low, here, high = (np.broadcast_to(band, np.broadcast_shapes(*(b.shape for b in bands))) for band in bands)
        self.factors = []
        for m in range(len(low)):
            l, u = -a * low[m], -a * high[m]
            l[:, 0] = u[:, -1] = 0.0
            *factor, _ = lapack.dgttrf(l.ravel()[1:].copy(), (1.0 - a * here[m]).ravel(), u.ravel()[:-1].copy())
            self.factors.append(factor)

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        """x for r (members, *space)."""
        x = np.empty_like(r)
        for m in range(len(r)):  # one by one: libraries may round a batch in another way
            modes = self.transform.forward(np.moveaxis(r[m], self.axis, 0))
            shape = modes.shape
            flat = np.ascontiguousarray(modes.reshape(shape[0], -1).T)
            done, _ = self.back(*self.factors[m % len(self.factors)], flat.ravel())
            modes = np.ascontiguousarray(np.reshape(done, flat.shape).T).reshape(shape)
            x[m] = np.moveaxis(self.transform.inverse(modes), 0, self.axis)
        return x


def lines(operator: Operator, i: int, own: Coefficients, a: float) -> Lines | None:
    """The solver of one state by modes and elimination; None where its coefficients vary along two axes."""
    grid = operator.stencil.model.grid
    if grid.dimension < 2 or any(sum(map(abs, offset)) > 1 for offset in own):
        return None
    for axis in range(grid.dimension):
        even = all(grid.is_even(name) for k, name in enumerate(grid.axes) if k != axis)
        found = _along(operator, i, own, axis) if even and operator.stencil.ghosts[i][axis] is not None else None
        if found is not None:
            return Lines(found[0], axis, found[1], a)
    return None


def _along(operator: Operator, i: int, own: Coefficients, axis: int) -> tuple[Transform, tuple[Any, Any, Any]] | None:
    """The transform of the other axes, and the bands along this one."""
    model = operator.stencil.model
    others = [k for k in range(model.grid.dimension) if k != axis]
    kinds = [kind_of(*model.boundary[operator.states[i]][model.grid.axes[k]]) for k in others]
    if any(kind is None for kind in kinds):
        return None
    zero = np.zeros((1, *operator.shape))
    here = (0,) * len(operator.shape)
    pairs = {k: [own.get((*here[:k], side, *here[k + 1 :]), zero) for side in (-1, 1)] for k in (*others, axis)}
    walls = [wall for (state, _), wall in operator.walls.items() if state == i]
    scale = _largest(sum((np.abs(c) for c in own.values()), zero), axis)
    slopes = []
    for k, kind in zip(others, kinds):
        spans = [slice(None)] * 2 if kind == "periodic" else [slice(1, None), slice(None, -1)]
        inside = [_line(c[(slice(None),) * (k + 1) + (span,)], axis, scale) for c, span in zip(pairs[k], spans)]
        if inside[0] is None or inside[1] is None or np.any(np.abs(inside[0] - inside[1]) > 1e-12 * scale):
            return None
        slopes.append(inside[0])
    low, high, wall = (_line(c, axis, scale) for c in (*pairs[axis], sum(
        (wall for (state, k), wall in operator.walls.items() if state == i and k == axis), zero)))
    growth = _line(sum(own.values(), zero) + sum(walls, zero), axis, scale)
    if low is None or high is None or wall is None or growth is None:
        return None
    growth = np.where(np.abs(growth) <= 1e-14 * scale, 0.0, growth)  # what is left of differences: nothing grows
    names = ("z", "y", "x")[-len(others) :]
    waves = Grid(**{name: (0.0, float(operator.shape[k]), operator.shape[k]) for name, k in zip(names, others)})
    transform = Transform(waves, tuple(kind for kind in kinds if kind is not None))
    diagonal = (growth - low - high - wall)[:, None, :]
    for name, slope in zip(names, slopes):
        diagonal = diagonal - transform.laplacian("finite-volume")[name].reshape(1, -1, 1) * slope[:, None, :]
    modes = diagonal.shape[1]
    return transform, (np.repeat(low[:, None], modes, 1), diagonal, np.repeat(high[:, None], modes, 1))


def _moved(values: Array, axis: int) -> Array:
    """Values (members | 1, *space) as (members | 1, other cells, cells along the axis)."""
    moved = np.moveaxis(values, axis + 1, -1)
    return moved.reshape(len(moved), -1, moved.shape[-1])


def _largest(values: Array, axis: int) -> Array:
    return np.asarray(_moved(values, axis).max(axis=1))


def _line(values: Array, axis: int, scale: Array) -> Array | None:
    """Values (members | 1, n) along one axis of an array that varies along no other; None where it does."""
    flat = _moved(values, axis)
    same = bool(np.all(np.abs(flat - flat[:, :1]) <= 1e-12 * scale[:, None]))
    return np.array(flat[:, 0]) if same else None
