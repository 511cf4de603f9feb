"""Stabilised explicit steps and pairs: steps from a slope that is known, and their distance to a lower order.

Each is a pure function (m, t, y, f0, h, …) with f0 = m.f(t, y) at hand. A pair returns the state after h, the slope
there, from which the next step begins, and the error of the formula of one order less: the step goes on with the better
one (local extrapolation), so that with an error below the tolerance in every step the error at the end is proportional
to it. A stabilised step has s stages, each one right-hand side, and is stable for eigenvalues in [−reach(s)/h, 0].

Every number of a step is one number times h, in this order, and so the same in a kernel that knows h when it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def rkl1(m: Any, t: Any, y: Any, f0: Any, h: Any, s: int) -> Any:
    """Runge–Kutta–Legendre, first order, s ≥ 1 stages (Meyer, Balsara & Aslam 2014, eqs. 6–9).

    Its stability polynomial P_s(1 + w₁hλ) is bounded by 1 for hρ ≤ s² + s. On the heat equation every stage is a convex
    combination of cells (their section 2.3), so that a step makes no new extremes.
    """
    w1 = 2 / (s * s + s)
    before, u = y, y + f0 * (w1 * h)
    for j in range(2, s + 1):
        f = m.f(t + (j * j - j) / (s * s + s) * h, u)
        before, u = u, u * ((2 * j - 1) / j) + before * ((1 - j) / j) + f * ((2 * j - 1) / j * w1 * h)
    return u


def rkl2(m: Any, t: Any, y: Any, f0: Any, h: Any, s: int) -> Any:
    """Runge–Kutta–Legendre, second order, s ≥ 2 stages (Meyer, Balsara & Aslam 2014, eqs. 10–17).

    Its stability polynomial 1 − b_s + b_s P_s(1 + w₁hλ) is bounded by 1 for hρ ≤ (s² + s − 2)/2.
    """
    w1 = 4 / (s * s + s - 2)
    b = [1 / 3, 1 / 3] + [(j * j + j - 2) / (2 * j * (j + 1)) for j in range(2, s + 1)]
    c = [0.0, w1 * b[1]] + [(j * j + j - 2) / (s * s + s - 2) for j in range(2, s + 1)]
    before, u = y, y + f0 * (b[1] * w1 * h)
    for j in range(2, s + 1):
        mu = (2 * j - 1) / j * b[j] / b[j - 1]
        nu = -(j - 1) / j * b[j] / b[j - 2]
        gamma = mu * w1
        a = 1 - b[j - 1]
        f = m.f(t + c[j - 1] * h, u)
        before, u = u, u * mu + before * nu + y * (1 - mu - nu) + f * (gamma * h) + f0 * (-a * gamma * h)
    return u


def rkl2_reach(s: int) -> float:
    """hρ up to which s stages of RKL2 are stable.

    >>> rkl2_reach(9)
    44.0
    """
    return (s * s + s - 2) / 2


def chebyshev(s: int) -> tuple[float, list[float], list[float], list[float]]:
    """w₀ = 1 + ε/s² with the damping ε = 2/13, and T_j, T_j', T_j'' there for j = 0 … s.

    >>> w0, T, dT, d2T = chebyshev(2)
    >>> abs(T[2] - (2*w0*w0 - 1)) < 1e-15, abs(dT[2] - 4*w0) < 1e-15, d2T
    (True, True, [0.0, 0.0, 4.0])
    """
    w0 = 1 + 2 / (13 * s * s)
    T, d, d2 = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, s + 1):
        T.append(2 * w0 * T[-1] - T[-2])
        d2.append(4 * d[-1] + 2 * w0 * d2[-1] - d2[-2])
        d.append(2 * T[-2] + 2 * w0 * d[-1] - d[-2])
    return w0, T, d, d2


def rkc(m: Any, t: Any, y: Any, f0: Any, h: Any, s: int) -> Any:
    """Runge–Kutta–Chebyshev, second order, s ≥ 2 stages (Sommeijer, Shampine & Verwer 1998, eqs. 2.2–2.6).

    Its stability polynomial 1 − b_s T_s(w₀) + b_s T_s(w₀ + w₁hλ) stays below 1 − ε/3 inside its reach.
    """
    w0, T, d, d2 = chebyshev(s)
    w1 = d[s] / d2[s]
    b = [d2[2] / d[2] ** 2] * 2 + [d2[j] / d[j] ** 2 for j in range(2, s + 1)]
    c = [0.0, w1 * d2[2] / d[2] / d[2]] + [w1 * d2[j] / d[j] for j in range(2, s + 1)]
    before, u = y, y + f0 * (b[1] * w1 * h)
    for j in range(2, s + 1):
        mu = 2 * b[j] * w0 / b[j - 1]
        nu = -b[j] / b[j - 2]
        gamma = 2 * b[j] * w1 / b[j - 1]
        a = 1 - b[j - 1] * T[j - 1]
        f = m.f(t + c[j - 1] * h, u)
        before, u = u, u * mu + before * nu + y * (1 - mu - nu) + f * (gamma * h) + f0 * (-a * gamma * h)
    return u


def rkc_reach(s: int) -> float:
    """hρ up to which s stages of RKC are stable, where w₀ + w₁z = −1: about 0.653 (s² − 1) (eq. 2.7).

    >>> [round(rkc_reach(s) / (s * s - 1), 3) for s in (2, 5, 50)]
    [0.654, 0.654, 0.653]
    """
    w0, _, d, d2 = chebyshev(s)
    return (w0 + 1) * d2[s] / d[s]


_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0)
_E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _sum(slopes: list[Any], weights: tuple[float, ...], h: Any) -> Any:
    first, *rest = [k * (a * h) for k, a in zip(slopes, weights, strict=True) if a]
    for term in rest:
        first = first + term
    return first


def _dormand_prince(m: Any, t: Any, y: Any, f0: Any, h: Any) -> tuple[Any, list[Any]]:
    slopes = [f0]
    for row, c in zip(_A[:-1], _C, strict=True):
        slopes.append(m.f(t + c * h, y + _sum(slopes, row, h)))
    return y + _sum(slopes, _A[-1], h), slopes


def rk45(m: Any, t: Any, y: Any, f0: Any, h: Any) -> Any:
    """The fifth order of Dormand & Prince 1980 (RK5(4)7M), six right-hand sides."""
    return _dormand_prince(m, t, y, f0, h)[0]


def rk45_pair(m: Any, t: Any, y: Any, f0: Any, h: Any) -> tuple[Any, Any, Any]:
    """RK5(4)7M: the error is that of its fourth order; the seventh slope is the first of the next step."""
    u, slopes = _dormand_prince(m, t, y, f0, h)
    f1 = m.f(t + h, u)
    return u, f1, _sum([*slopes, f1], _E, h)


def beside_backward_euler(step: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any]]:
    """The pair of a step of order 2 and the formula u₀ + h f(u₁), of order 1: their distance is h²u''/2 + O(h³).

    Both slopes are there without a further right-hand side. What a long step has not damped counts with its |hλ|.
    """

    def pair(m: Any, t: Any, y: Any, f0: Any, h: Any, **options: int) -> tuple[Any, Any, Any]:
        u = step(m, t, y, f0, h, **options)
        f1 = m.f(t + h, u)
        return u, f1, (u - y) - f1 * h

    return pair


def fixed(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a step of a given size, (m, t, y, h, w, …)."""

    def alone(m: Any, t: Any, y: Any, h: Any, w: Any, **options: int) -> Any:
        return step(m, t, y, m.f(t, y), h, **options)

    alone.__doc__ = step.__doc__
    return alone


def _ladder(first: int, last: int, by: int) -> tuple[int, ...]:
    """Numbers of stages: every one (or every odd one) to about 20, then 10 % more each time.

    >>> _ladder(3, 40, 2)
    (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 39)
    """
    stages = [first]
    while (s := stages[-1]) < last:
        stages.append(s + by * max(1, math.floor(0.1 * s / by + 0.5)))
    return tuple(n for n in stages if n <= last)


RKL2_STAGES = _ladder(3, 255, 2)
RKC_STAGES = _ladder(2, 255, 1)
