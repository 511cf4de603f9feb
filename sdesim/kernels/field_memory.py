"""Noise with a memory: the integrals over the steps of a stationary Ornstein–Uhlenbeck process, one normal for each.

With dη = −η/τ dt + dW/τ, a = e^{−h/τ}, b = 1 − a, the process and its integral I over a step are jointly normal given η
at its start (Gillespie, Phys. Rev. E 54, 2084, 1996):

    η′ = a η + q,  I = τ b η + r,      ⟨q²⟩ = b(1 + a)/2τ,   ⟨q r⟩ = b²/2,   ⟨r²⟩ = h − 2τ tanh(h/2τ) + τ b³/2(1 + a).

The state of a cell meets the integrals alone, so that their law is all that is wanted. Given those of all steps before
let η be normal with mean m and variance P. Kalman's recursion (the innovations form; Anderson & Moore, Optimal
Filtering, 1979, §9.2) then draws the next one from one normal z:

    I = τ b m + √S z,   m ← a m + (X/√S) z,   P ← a² P + ⟨q²⟩ − X²/S,      S = τ² b² P + ⟨r²⟩,  X = a τ b P + ⟨q r⟩.

From m = 0, P = 1/2τ the integrals have the law of the stationary process from the first step on, for any steps, also
those that change. P is one number for all cells, and settles within some twenty steps of one size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SETTLED = 1e-15


class Gains(NamedTuple):
    """The numbers of a step: I = past·m + new·z, m ← fade·m + gain·z."""

    past: float
    new: float
    fade: float
    gain: float


def stationary(taus: Iterable[float]) -> tuple[float, ...]:
    """P before the first step, for noises with these correlation times.

    >>> stationary([0.5])
    (1.0,)
    """
    return tuple(0.5 / tau for tau in taus)


def gains(h: float, tau: float, P: float) -> tuple[Gains, float]:
    """The numbers of a step of size h, and P after it: P itself once it has settled.

    >>> first, _ = gains(1e6, 1e-3, 500.0)  # white noise: the variance of the integral is h
    >>> round(first.new**2 / 1e6, 6), first.fade
    (1.0, 0.0)
    """
    x = h / tau
    a, b = math.exp(-x), -math.expm1(-x)
    q, c = b * (1.0 + a) / (2.0 * tau), 0.5 * b * b
    bent = x - 2.0 * math.tanh(0.5 * x) if x > 0.05 else x**3 / 12.0 * (1.0 - x * x / 10.0)
    past = tau * b
    S = past * past * P + tau * (bent + 0.5 * b**3 / (1.0 + a))
    X = a * past * P + c
    after = a * a * P + q - X * X / S
    return Gains(past, math.sqrt(S), a, X / math.sqrt(S)), P if abs(after - P) <= _SETTLED / tau else after


def settling(h: float, taus: Sequence[float], before: tuple[float, ...]) -> list[tuple[float, ...]]:
    """P of each noise before the first, second, … step of size h, up to the one from which on it stays.

    >>> len(settling(0.1, [1.0], stationary([1.0]))) < 30, settling(0.1, [], ())
    (True, [()])
    """
    found = [before]
    while (after := tuple(gains(h, tau, P)[1] for tau, P in zip(taus, found[-1]))) != found[-1]:
        found.append(after)
    return found
