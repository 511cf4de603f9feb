"""Stabilised explicit methods: many stages, whose region of stability along the negative real axis grows as s².

With Chebyshev polynomials T_s of the first kind, ω₀ = 1 + η/s², ω₁ = T_s(ω₀)/T_s'(ω₀) and damping η = 0.05, a step is
stable (also in mean square, as far as the equation itself is) for h·ρ ≤ (2 − 4η/3) s², ρ the fastest rate of the drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from numpy.polynomial import Chebyshev

from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import ZERO, Vector

DAMPING = 0.05


def skrock(s: int) -> Callable[..., Vector]:
    """SK-ROCK with s stages (Abdulle, Almuslimani & Vilmart 2018, doi:10.1137/17M1145859, eq. 3.1), Q = Σ g_c ΔW_c:

    K₁ = X + μ₁ h f(X + ν₁ Q) + κ₁ Q,   μ₁ = ω₁/ω₀, ν₁ = sω₁/2, κ₁ = sω₁/ω₀
    K_i = μ_i h f(K_{i−1}) + ν_i K_{i−1} + κ_i K_{i−2}
    μ_i = 2ω₁ T_{i−1}(ω₀)/T_i(ω₀),   ν_i = 2ω₀ T_{i−1}(ω₀)/T_i(ω₀),   κ_i = −T_{i−2}(ω₀)/T_i(ω₀)
    """
    w0 = 1.0 + DAMPING / s**2
    T = [float(Chebyshev.basis(i)(w0)) for i in range(s + 1)]
    w1 = T[s] / float(Chebyshev.basis(s).deriv()(w0))
    # times of the stages: those of the same recursion on dt/dt = 1
    c = [0.0, w1 / w0]
    for i in range(2, s + 1):
        c.append((2 * w1 * T[i - 1] + 2 * w0 * T[i - 1] * c[i - 1] - T[i - 2] * c[i - 2]) / T[i])

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        # in differences from X, which ν_i + κ_i = 1 allows: a state that nothing moves stays as it is
        Q = m.noise(t, y, w.dW)
        before, D = Vector([ZERO] * len(y)), m.f(t, y + Q * (s * w1 / 2)) * (h * (w1 / w0)) + Q * (s * w1 / w0)
        for i in range(2, s + 1):
            mu, nu, kappa = 2 * w1 * T[i - 1] / T[i], 2 * w0 * T[i - 1] / T[i], -T[i - 2] / T[i]
            before, D = D, m.f(t + h * c[i - 1], y + D) * (h * mu) + D * nu + before * kappa
        return y + D

    return step


@lru_cache
def skrock_of(number: str) -> Method:
    """SK-ROCK with stages of one's choice, "skrock(8)"; ValueError for other than 2 to 100.

    >>> skrock_of("8").details[-3:]
    '124'
    """
    s = int(number) if number.isdecimal() else 0
    if not 2 <= s <= 100:
        raise ValueError(f"skrock(s) takes 2 to 100 stages, as in skrock(8); got {number!r}")
    return Method(f"skrock({s})", skrock(s), "sde", _SOURCE, NOISE_TYPES, "ito", 1.0, 0.5, 1.0, _reach(s))


def _reach(s: int) -> str:
    return f"stiff drifts with real negative rates ρ: stable for h·ρ ≤ {(2 - 4 * DAMPING / 3) * s * s:.0f}"


_SOURCE = "Abdulle, Almuslimani & Vilmart 2018, doi:10.1137/17M1145859"
METHODS = tuple(
    replace(skrock_of(str(s)), name=f"skrock{s}", details=f"{_reach(s)}; skrock(8) has 8 stages") for s in (5, 10, 20)
)
FAMILIES = {"skrock": skrock_of}
