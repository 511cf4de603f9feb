"""Methods for finite-dimensional SDEs dX = f(t, X) dt + Σ_c g_c(t, X) dW_c.

Each function is the lines of its paper: `m` is the model with its parameters (m.f drift, m.noise Σ_c g_c·w_c), `t` the
time, `y` the state, `h` the step and `w.dW` the Wiener increments. It runs on arrays and is traced for the kernels.
"""

from __future__ import annotations

from typing import Any

from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import Vector


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


METHODS = (
    Method(
        "euler_maruyama",
        euler_maruyama,
        "sde",
        "Maruyama 1955; Kloeden & Platen 1992, §10.2",
        noise=NOISE_TYPES,
        calculus="ito",
        strong=0.5,
        weak=1.0,
        details="strong order 1 for additive noise",
    ),
    Method(
        "milstein",
        milstein,
        "sde",
        "Milstein 1974; Kloeden & Platen 1992, §10.3",
        noise=("none", "additive", "scalar", "diagonal", "commutative"),
        calculus="ito",
        strong=1.0,
        weak=1.0,
        details="derivatives of the noise are taken on the expressions",
    ),
    Method(
        "heun",
        heun,
        "sde",
        "Rümelin 1982, doi:10.1137/0719041; Kloeden & Platen 1992, §11.1",
        noise=NOISE_TYPES,
        calculus="stratonovich",
        strong=1.0,
        weak=1.0,
        details="strong order ½ for noise that does not commute; order 2 without noise",
    ),
)
