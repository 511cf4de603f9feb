"""Methods for finite-dimensional SDEs dX = f(t, X) dt + Σ_c g_c(t, X) dW_c.

Each function is the lines of its paper: `m` is the model with its parameters (m.f drift, m.noise Σ_c g_c·w_c), `t` the
time, `y` the state, `h` the step and `w.dW` the Wiener increments. It runs on arrays and is traced for the kernels.
L^c = g_c·∇ is the derivative along the noise of process c.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import ZERO, Vector, add, multiply


def euler_maruyama(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h + g ΔW (Kloeden & Platen 1992, eq. 10.2.4)."""
    return y + m.f(t, y) * h + m.noise(t, y, w.dW)


def milstein(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h + g ΔW + ½ Σ_{c,k} L^c g_k (ΔW_c ΔW_k − δ_ck h), L^c = g_c·∇ (Kloeden & Platen 1992, eq. 10.3.16)."""
    return y + m.f(t, y) * h + m.noise(t, y, w.dW) + m.milstein(t, y, w.dW, h) * 0.5


def heun(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Euler predictor, trapezoidal drift and noise (Rümelin 1982; Kloeden & Platen 1992, eq. 11.1.8 with η = ½)."""
    f, g = m.f(t, y), m.noise(t, y, w.dW)
    z = y + f * h + g
    return y + (f + m.f(t + h, z)) * (h * 0.5) + (g + m.noise(t + h, z, w.dW)) * 0.5


def euler_heun(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Euler for the drift, Heun for the noise: X + f h + ½ (g(X) + g(X + g ΔW)) ΔW (Kloeden & Platen 1992, §10.3)."""
    g = m.noise(t, y, w.dW)
    return y + m.f(t, y) * h + (g + m.noise(t + h, y + g, w.dW)) * 0.5


def tamed_euler(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h/(1 + h|f|) + g ΔW (Hutzenthaler, Jentzen & Kloeden 2012, eq. 4): the drift moves X by less than 1."""
    f = m.f(t, y)
    square: Any = ZERO
    for value in f:
        square = add(square, multiply(value, value))
    return y + (f * h / (h * np.sqrt(square) + 1.0) if square is not ZERO else f) + m.noise(t, y, w.dW)


def milstein_stratonovich(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h + g∘ΔW + ½ Σ_{c,k} L^c g_k ΔW_c ΔW_k (Kloeden & Platen 1992, eq. 10.3.21)."""
    return y + m.f(t, y) * h + m.noise(t, y, w.dW) + m.milstein(t, y, w.dW, ZERO) * 0.5


def milstein_free(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Milstein with L^c g_k ≈ (g_k(X + √h g_c) − g_k(X))/√h (Kloeden & Platen 1992, eq. 11.1.3)."""
    f, g = m.f(t, y), m.g(t, y)
    total = y + f * h + m.dot(g, w.dW)
    for c in range(len(w.dW)):
        felt = m.felt(c)
        if not felt:
            continue
        shifted = m.g(t, y + m.column(g, c) * w.root)
        for i, k in felt:
            factor = w.dW[c] * w.dW[k] - h if c == k else w.dW[c] * w.dW[k]
            total[i] = total[i] + (shifted[i, k] - g[i, k]) * factor * 0.5 / w.root
    return total


def midpoint(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Drift and noise at the middle of an Euler step (Stratonovich; the one-step analogue of Runge's method).

    z = X + ½(f h + g ΔW), X' = X + f(t + h/2, z) h + g(t + h/2, z) ΔW (Milstein & Tretyakov 2021, §2.2.1).
    """
    half = h * 0.5
    z = y + m.f(t, y) * half + m.noise(t, y, w.dW) * 0.5
    return y + m.f(t + half, z) * h + m.noise(t + half, z, w.dW)


_COMMUTING = ("none", "additive", "scalar", "diagonal", "commutative")
_KP = "Kloeden & Platen 1992"

METHODS = (
    Method("euler_maruyama", euler_maruyama, "sde", f"Maruyama 1955; {_KP}, §10.2", NOISE_TYPES, "ito",
           1.0, 0.5, 1.0, "strong order 1 for additive noise"),
    Method("milstein", milstein, "sde", f"Milstein 1974; {_KP}, §10.3", _COMMUTING, "ito", 1.0, 1.0, 1.0,
           "derivatives of the noise are taken on the expressions"),
    Method("heun", heun, "sde", f"Rümelin 1982, doi:10.1137/0719041; {_KP}, §11.1", NOISE_TYPES, "stratonovich",
           2.0, 1.0, 1.0, "strong order ½ for noise that does not commute; order 2 without noise"),
    Method("euler_heun", euler_heun, "sde", f"{_KP}, eq. 11.1.10", NOISE_TYPES, "stratonovich", 1.0, 1.0, 1.0,
           "strong order ½ for noise that does not commute; one evaluation of the drift"),
    Method("tamed_euler", tamed_euler, "sde", "Hutzenthaler, Jentzen & Kloeden 2012, doi:10.1214/11-AAP803",
           NOISE_TYPES, "ito", 1.0, 0.5, 1.0, "bounded moments for a one-sided Lipschitz drift such as −x³"),
    Method("milstein_stratonovich", milstein_stratonovich, "sde", f"{_KP}, eq. 10.3.21", _COMMUTING, "stratonovich",
           1.0, 1.0, 1.0, "derivatives of the noise are taken on the expressions"),
    Method("milstein_free", milstein_free, "sde", f"{_KP}, §11.1", _COMMUTING, "ito", 1.0, 1.0, 1.0,
           "differences in place of derivatives"),
    Method("midpoint", midpoint, "sde", "Milstein & Tretyakov 2021, doi:10.1007/978-3-030-82040-4", NOISE_TYPES,
           "stratonovich", 2.0, 1.0, 1.0, "strong order ½ for noise that does not commute; order 2 without noise"),
)  # fmt: skip
