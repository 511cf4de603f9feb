"""Tridiagonal systems along one axis of a grid, many lines at once: Thomas's elimination in the lanes of vectors.

    x = r + a L x,    L with the bands l, d, u along the axis,

    p_0 = 1/(1 − a d_0),  p_i = 1/((1 − a d_i) + a l_i γ_{i−1}),  γ_i = −a u_i p_i,        once for all steps
    y_i = r_i p_i − λ_i y_{i−1},  λ_i = −a l_i p_i,      x_n = y_n,  x_i = y_i − γ_i x_{i+1}

A periodic axis adds a corner at either end, A = T + v qᵀ with v = (g, 0 … 0, −a u_n), q = (1, 0 … 0, −a l_0/g), and
x = y − z (q·y)/(1 + q·z), T z = v (Sherman & Morrison 1950). Lanes are neighbouring lines. Along the last axis, where
those lie a row apart, blocks of rows are transposed into a buffer and back, and factors are kept in that order.
`Line` runs machine code; its `reference` has the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.field_layout import aligned
from sdesim.kernels.implicit_thomas_code import FACTORS, LANES, WIDTHS, entries

Array: TypeAlias = NDArray[np.float64]


def factors(bands: Sequence[Array], a: float, wraps: bool) -> dict[str, Array]:
    """p, λ, γ (n, …) of I − aL with the bands l, d, u (n, …), and where it wraps z, q's last entry and 1/(1 + q·z)."""
    l, d, u = -a * bands[0], 1.0 - a * bands[1], -a * bands[2]
    n = len(d)
    corners = wraps and n > 2
    if wraps and n == 1:
        d = d + (l + u)
    elif wraps and n == 2:
        l, u = l.copy(), u.copy()
        u[0] += l[0]
        l[1] += u[1]
    g = -d[0]
    if corners:
        d = d.copy()
        d[-1] -= l[0] * u[-1] / g
        d[0] -= g
    p, low, high = np.empty_like(d), np.zeros_like(d), np.zeros_like(d)
    p[0] = 1.0 / d[0]
    for i in range(1, n):
        high[i - 1] = u[i - 1] * p[i - 1]
        p[i] = 1.0 / (d[i] - l[i] * high[i - 1])
        low[i] = l[i] * p[i]
    found = {"p": p, "low": low, "high": high}
    if corners:
        v = np.zeros_like(d)
        v[0], v[-1] = g, u[-1]
        z = eliminate(found, v)
        z[np.abs(z) < 1e-200] = 0.0  # it decays away from the ends, and subnormal numbers are slow
        corner = l[0] / g
        found |= {"z": z, "corner": corner[None], "share": (1.0 / (1.0 + (z[0] + corner * z[-1])))[None]}
    return found


def eliminate(found: dict[str, Array], r: Array) -> Array:
    """x of (I − aL) x = r, both (n, …): the reference of the kernels."""
    x = np.empty(np.broadcast_shapes(r.shape, found["p"].shape))
    x[0] = r[0] * found["p"][0]
    for i in range(1, len(x)):
        x[i] = r[i] * found["p"][i] - found["low"][i] * x[i - 1]
    for i in range(len(x) - 2, -1, -1):
        x[i] = x[i] - found["high"][i] * x[i + 1]
    if "z" in found:
        x = x - found["z"] * ((x[0] + found["corner"][0] * x[-1]) * found["share"][0])
    return x


class Line:
    """L along one axis of arrays (members, *space), and what solves x = r + a L x.

    Args:
        bands: coefficients of the low neighbour, of the cell and of the high neighbour, (members | 1, *space); zero
            beyond the ends, or those of the far side where the axis is periodic.
        axis: of the space.
        wraps: whether it is periodic.
    """

    def __init__(self, bands: Sequence[Array], axis: int, wraps: bool) -> None:
        lead = max(len(band) for band in bands)
        self.shape = bands[1].shape[1:]
        self.bands = [np.ascontiguousarray(np.broadcast_to(band, (lead, *self.shape))) for band in bands]
        self.axis, self.wraps, self.last = axis, wraps, axis == len(self.shape) - 1
        outer, inner = (int(np.prod(part)) for part in (self.shape[:axis], self.shape[axis + 1 :]))
        self.sizes = (outer, self.shape[axis], inner)
        self.code = entries(1 if self.last else next(w for w in WIDTHS if w <= inner))
        self.kept: dict[float, tuple[dict[str, Array], list[Array]]] = {}
        self.buffer = aligned(self.shape[axis] * LANES)

    def apply(self, y: Array, out: Array) -> Array:
        """L y into `out`."""
        self._call("apply_along" if self.last else "apply_across", [*self.bands, y, out], y, int(self.wraps))
        return out

    def solve(self, a: float, y: Array, f: Array, out: Array) -> Array:
        """x = (y − a f) + a L x into `out`."""
        if a not in self.kept:
            while len(self.kept) >= 4:
                del self.kept[next(iter(self.kept))]
            self.kept[a] = self._factors(a)
        found, ordered = self.kept[a]
        self._call("solve_along" if self.last else "solve_across", [*ordered, self.buffer, y, f, out], y,
                   int("z" in found), a)
        return out

    def reference_apply(self, y: Array) -> Array:
        """L y by NumPy, the same bits."""
        low, here, high = self.bands
        axis = self.axis + 1
        return here * y + low * np.roll(y, 1, axis) + high * np.roll(y, -1, axis)

    def reference_solve(self, a: float, y: Array, f: Array) -> Array:
        """As `solve`, by NumPy, the same bits."""
        axis = self.axis + 1
        found = factors([np.moveaxis(band, axis, 0) for band in self.bands], a, self.wraps)
        return np.ascontiguousarray(np.moveaxis(eliminate(found, np.moveaxis(y - a * f, axis, 0)), 0, axis))

    def _factors(self, a: float) -> tuple[dict[str, Array], list[Array]]:
        outer, n, inner = self.sizes
        views = [band.reshape(-1, outer, n, inner) for band in self.bands]
        found = factors([np.ascontiguousarray(np.moveaxis(view, 2, 0)) for view in views], a, self.wraps)
        none = np.zeros(1)
        order = self._blocks if self.last else lambda values: np.ascontiguousarray(np.moveaxis(values, 0, 2))
        return found, [order(found[name]) if name in found else none for name in FACTORS]

    def _blocks(self, values: Array) -> Array:
        """Factors (n, members, rows, 1) as (members, blocks of rows, n, lanes); a last block repeats the last row."""
        n, lead, rows = values.shape[:3]
        places = np.minimum(np.arange(-(-rows // LANES) * LANES), rows - 1)
        return np.ascontiguousarray(np.moveaxis(
            values[:, :, places, 0].reshape(n, lead, -1, LANES), 0, 2))

    def _call(self, name: str, arrays: Sequence[Array], y: Array, wraps: int, a: float = 0.0) -> None:
        own = int(len(self.bands[0]) > 1)
        self.code[name](len(y), *self.sizes, own, wraps, a, *(v.ctypes.data for v in arrays))
