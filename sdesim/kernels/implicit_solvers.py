"""Solves (I − aL) x = r for the implicit methods: which solver serves which operator.

    one axis                                tridiagonal elimination (LAPACK); a periodic axis by Sherman–Morrison
    constant coefficients, u or flux given  diagonal in the modes of the grid: FFT, DCT, DST
    the same but for one axis               modes along the others, elimination along it (`implicit_lines`)
    symmetric                               conjugate gradients with multigrid, to a tolerance
    any other, where those stall, planes    conjugate residuals with algebraic multigrid; sparse LU where they stall
      of cells that are long and thin         too, for few cells, and for states that drive each other

Every solver makes the same bits of a member whatever members it shares the call with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.implicit_lines import Lines, lines
from sdesim.kernels.implicit_multigrid import Multigrid, conjugate_gradients
from sdesim.kernels.implicit_operator import Operator
from sdesim.kernels.implicit_sparse import Algebraic, Part, Sparse, factorise
from sdesim.spectral import Transform, kind_of

Array: TypeAlias = NDArray[np.float64]
Coefficients: TypeAlias = Mapping[tuple[int, ...], Array]


_LOPSIDED = 100.0
_FEW = {2: 10_000, 3: 2_000}  # cells for which sparse LU is quicker, by the number of axes


class Solver:
    """(I − aL)⁻¹ for one member group, state by state or all states at once.

    `names` tells by state what solves it, `iterations` the most that conjugate gradients took.
    """

    def __init__(self, operator: Operator, a: float) -> None:
        self.operator, self.a, self.iterations = operator, a, 0
        self.parts: list[Part | Lines] = []
        if operator.coupled:
            self.names = ["sparse LU of all states"]
            return
        self.names = []
        for i in range(len(operator.states)):
            part = _part(operator, i, a)
            self.parts.append(part)
            self.names.append(part.name)

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        """x for r (states, members, *space); `tolerance` (members,): of the residual against r, for iterations."""
        if self.operator.coupled:
            return self._coupled(r)
        x = np.stack([part.solve(r[i], guess[i], tolerance) for i, part in enumerate(self.parts)])
        self.iterations = max([self.iterations, *(part.iterations for part in self.parts)])
        self.names = [part.name for part in self.parts]
        return x

    def _coupled(self, r: Array) -> Array:
        if not hasattr(self, "_factors"):
            groups = range(1 if self.operator.alike else r.shape[1])
            self._factors = [factorise(self.operator.member(m), self.operator.shape, len(r), self.a) for m in groups]
        x = np.empty_like(r)
        for m in range(r.shape[1]):
            lu = self._factors[m % len(self._factors)]
            x[:, m] = lu.solve(np.ascontiguousarray(r[:, m]).ravel()).reshape(x[:, m].shape)
        return x


def _part(operator: Operator, i: int, a: float) -> Part | Lines:
    own = {offset: c for (k, _, offset), c in operator.entries.items() if k == i}
    if len(operator.shape) == 1:
        return _Tridiagonal(own, a, operator.stencil.ghosts[i][0] is None)
    modes = _eigenvalues(operator, i, own)
    if modes is not None:
        return _Modes(*modes, a)
    by_lines = lines(operator, i, own, a)
    if by_lines is not None:
        return by_lines
    near, symmetric = all(sum(map(abs, offset)) <= 1 for offset in own), is_symmetric(own, operator.weights)
    if near and symmetric and not _is_lopsided(operator, own, a):
        return _Iterative(operator, i, own, a)
    if int(np.prod(operator.shape)) <= _FEW[len(operator.shape)]:
        return Sparse(own, operator.shape, a)
    return Algebraic(operator, own, a, symmetric)


def _is_lopsided(operator: Operator, own: Coefficients, a: float) -> bool:
    """Whether uneven cells of a plane couple so much more along one axis that point smoothing cannot do."""
    if operator.weights is None or len(operator.shape) != 2:
        return False
    by_axis = [sum((a * np.abs(c) for offset, c in own.items() if offset[k]), np.zeros(1)) for k in range(2)]
    weak, strong = np.minimum(*by_axis), np.maximum(*by_axis)
    return bool(np.any(strong > _LOPSIDED * (1.0 + weak)))


def is_symmetric(own: Coefficients, weights: Array | None = None) -> bool:
    """Whether the coefficient from a cell to its neighbour is the one back, to rounding; each times its weight."""
    for offset, c in own.items():
        if sum(offset) > 0:
            back = own.get(tuple(-o for o in offset))
            if back is None:
                return False
            if weights is not None:
                c, back = c * weights, back * weights
            steps, axes = tuple(-o for o in offset), tuple(range(1, c.ndim))
            if not np.allclose(c, np.roll(back, steps, axes), rtol=1e-12, atol=1e-14 * float(np.abs(c).max())):
                return False
    return True


class _Tridiagonal(Part):
    name = "tridiagonal"

    def __init__(self, own: Coefficients, a: float, wraps: bool) -> None:
        from scipy.linalg import lapack

        zero = np.zeros_like(next(iter(own.values()))) if own else np.zeros((1, 1))
        low, here, high = (own.get((k,), zero) for k in (-1, 0, 1))
        members = max(len(c) for c in (low, here, high))
        n = here.shape[-1]
        low, here, high = (np.broadcast_to(c, (members, c.shape[-1])) for c in (low, here, high))
        self.solve_one, self.factors, self.wrap = lapack.dgttrs, [], []
        for m in range(members):
            d, l, u = 1.0 - a * here[m], -a * low[m], -a * high[m]
            corner = (float(l[0]), float(u[-1])) if wraps and n > 2 else (0.0, 0.0)
            if any(corner):  # A = T + p qᵀ, p = (−d₀, 0 …, u_n), q = (1, 0 …, −l₀/d₀)
                d = d.copy()
                g = -d[0]
                d[0] -= g
                d[-1] -= corner[0] * corner[1] / g
            *factor, _ = lapack.dgttrf(l[1:].copy(), d.copy(), u[:-1].copy())
            self.factors.append(factor)
            if any(corner):
                p = np.zeros(n)
                p[0], p[-1] = g, corner[1]
                z = self._back(m, p[:, None])[:, 0]
                self.wrap.append((corner[0] / g, z, 1.0 + z[0] + corner[0] / g * z[-1]))

    def _back(self, m: int, r: Array) -> Array:
        x, _ = self.solve_one(*self.factors[m], np.asfortranarray(r))
        return np.asarray(x)

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        groups = [r] if len(self.factors) == 1 else [r[m : m + 1] for m in range(len(r))]
        parts = []
        for m, part in enumerate(groups):
            x = self._back(m, part.T)
            if self.wrap:
                q, z, s = self.wrap[m]
                x = x - z[:, None] * ((x[0] + q * x[-1]) / s)
            parts.append(x.T)
        return np.ascontiguousarray(np.concatenate(parts))


def _eigenvalues(operator: Operator, i: int, own: Coefficients) -> tuple[Transform, Array] | None:
    """The transform that diagonalises a state's equation and the eigenvalues of L, or None."""
    model = operator.stencil.model
    kinds = [kind_of(*model.boundary[operator.states[i]][axis]) for axis in model.grid.axes]
    if not model.grid.is_box or model.grid.mask is not None:
        return None
    if any(kind is None for kind in kinds) or any(sum(map(abs, offset)) > 1 for offset in own):
        return None
    axes = len(kinds)
    transform = Transform(model.grid, tuple(kind for kind in kinds if kind is not None))
    rate = sum(own.values(), np.zeros((1, *operator.shape)))
    rate = rate + sum((wall for (k, _), wall in operator.walls.items() if k == i), np.zeros(1))
    largest = max((float(np.abs(c).max()) for c in own.values()), default=0.0)
    first = rate[(slice(None), *(slice(0, 1),) * axes)]
    if np.any(np.abs(rate - first) > 1e-12 * largest):
        return None
    eigenvalues: Array = first
    for axis, name in enumerate(model.grid.axes):
        pair = [own.get(tuple(side * int(k == axis) for k in range(axes))) for side in (-1, 1)]
        if pair[0] is None and pair[1] is None:
            continue
        d = _constant(pair, axis, kinds[axis] == "periodic")
        if d is None:
            return None
        eigenvalues = eigenvalues - d * model.grid.spacing[name] ** 2 * transform.laplacian("finite-volume")[name]
    return transform, eigenvalues


def _constant(pair: list[Array | None], axis: int, wraps: bool) -> Array | None:
    """The one value (members, 1, …) of the coefficients to both neighbours along an axis, or None."""
    low, high = pair
    if low is None or high is None or low.shape[axis + 1] < 2:
        return None
    spans = (slice(None), slice(None)) if wraps else (slice(1, None), slice(None, -1))
    inside = [c[(slice(None),) * (axis + 1) + (span,)] for c, span in zip((low, high), spans)]
    d = inside[0][(slice(None), *(slice(0, 1),) * (low.ndim - 1))]
    return d if all(np.all(c == d) for c in inside) else None


class _Modes(Part):
    name = "modes"

    def __init__(self, transform: Transform, eigenvalues: Array, a: float) -> None:
        self.transform, self.factor = transform, 1.0 / (1.0 - a * eigenvalues)

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        x = np.empty_like(r)
        for m in range(len(r)):  # one by one: libraries may round a batch in another way
            modes = self.transform.forward(r[m]) * self.factor[m if len(self.factor) > 1 else 0]
            x[m] = self.transform.inverse(modes)
        return x


class _Iterative(Part):
    """Conjugate gradients with multigrid; where they stall, algebraic multigrid for the rest of the run.

    Where cells differ every equation is taken times its cell's volume, which makes the matrix symmetric.
    """

    name = "multigrid conjugate gradients"

    def __init__(self, operator: Operator, i: int, own: Coefficients, a: float) -> None:
        self.own, self.shape, self.a, self.weights = own, operator.shape, a, operator.weights
        self.algebraic = Algebraic(operator, own, a, True)
        self.stalled: set[int] = set()
        members = max(len(c) for c in own.values())
        walls = {axis: wall for (k, axis), wall in operator.walls.items() if k == i}
        self.grids = [self._grid(walls, m) for m in range(members)]

    def _grid(self, walls: Mapping[int, Array], m: int) -> Multigrid:
        def of(c: Array) -> Array:
            own: Array = c[m if len(c) > 1 else 0]
            return own

        axes = len(self.shape)
        weight: Any = 1.0 if self.weights is None else self.weights[0]
        faces, total = [], np.ones(self.shape)
        for axis in range(axes):
            low = self.own.get(tuple(-int(k == axis) for k in range(axes)))
            faces.append(self.a * of(low) if low is not None else np.zeros(self.shape))
        for c in self.own.values():
            total = total - self.a * of(c)
        edges = [self.a * np.broadcast_to(of(walls[k]), self.shape) if k in walls else np.zeros(self.shape)
                 for k in range(axes)]
        return Multigrid([weight * f for f in faces], weight * (total - sum(edges)), [weight * e for e in edges])

    def solve(self, r: Array, guess: Array, tolerance: Array) -> Array:
        x = np.empty_like(r)
        for m in range(len(r)):
            k = m % len(self.grids)
            if k not in self.stalled:
                b = r[m] if self.weights is None else r[m] * self.weights[0]
                x[m], count = conjugate_gradients(self.grids[k], b, guess[m], float(tolerance[m]))
                self.iterations = max(self.iterations, count)
                if count >= 0:
                    continue
                self.stalled.add(k)
            x[m] = self.algebraic.solve_one(k, r[m], guess[m], float(tolerance[m]))
            self.name, self.iterations = self.algebraic.name, max(self.iterations, self.algebraic.iterations)
        return x
