"""Exact samplers of one state with a bound, over an interval of any length h.

  reflected   dX = μ dt + σ dW in [lo, ∞) or (−∞, hi]: with Y = μh + σW and the path's minimum M given Y,
              M = ½(Y − √(Y² − 2σ²h ln u)), X_h = X + Y + max(0, lo − X − M) (Skorokhod 1961); in [lo, hi] for μ = 0 by
              folding the line
  absorbed    dX = μ dt + σ dW, or the same of log X, until it meets one end: given the free path's two ends, it has met
              the bound with the probability of the Brownian bridge, at a time whose law is inverse Gaussian. These are
              the formulas of `bounded`, for which nothing is frozen here: first passage is inverse Gaussian, and who
              is left has the law of the images (Borodin & Salminen 2002, part II, §2.1)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdesim.arithmetic import Machine, Value, exp, log, maximum, minimum
from sdesim.methods.bounded import ALIVE, formula
from sdesim.methods.exact_draws import Array, Draws, Transition, values_of
from sdesim.models.sde import SDE
from sdesim.poisson import floor


@dataclass(frozen=True)
class Mirror:
    """Brownian motion above a mirror, or below it where `high`; the coefficients are μh, σ√h and the bound."""

    high: bool

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        (x,), (drift, root, end), zero = y, c, m.number(0.0)
        free = drift + root * draws.normal(0)
        away, Y = (end - x, -free) if self.high else (x - end, free)  # below: the mirror image
        lowest = m.number(0.5) * (Y - m.sqrt(Y * Y + m.number(2.0) * root * root * draws.exponential(0)))
        # round-off must not leave the bound behind
        after = maximum(m, zero, away + Y + maximum(m, zero, -away - lowest))
        return [end - after if self.high else end + after]


@dataclass(frozen=True)
class Mirrors:
    """Brownian motion without drift between two mirrors; the coefficients are σ√h and the two bounds."""

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        (x,), (root, lo, hi), width = y, c, c[2] - c[1]
        line, period = x + root * draws.normal(0) - lo, m.number(2.0) * width
        inside = width - m.abs(line - period * floor(m, line / period) - width)
        return [minimum(m, hi, lo + maximum(m, m.number(0.0), inside))]


@dataclass(frozen=True)
class Absorbed:
    """(X, time of exit) of Brownian motion, or of its exponential, with one absorbing end.

    The coefficients are μh, σ√h, the bound, the same for the Brownian motion, the time and h.
    """

    high: bool
    exponential: bool

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        (x, left), (drift, root, wall, level, t, h) = y, c
        start = log(m, x) if self.exponential else x
        end = start + drift + root * draws.normal(0)
        a, b = (level - start, level - end) if self.high else (start - level, end - level)
        unit = {"a": a, "v": root * root, "h": m.number(1.0)}  # of the interval
        crossed = formula("crossed", m, b=b, E=draws.exponential(0), **unit) > m.number(0.0)
        mean = formula("mean", m, a=a, b=b)
        r = formula("r", m, q=formula("q", m, mean=mean, z2=draws.normal(1), **unit))
        radius = m.sqrt(m.number(2.0) * draws.exponential(1))
        s = formula("s", m, mean=mean, r=r, z3=radius, z4=m.number(0.0))
        gone = left > m.number(ALIVE / 2)
        place = m.select(crossed, wall, exp(m, end) if self.exponential else end)
        time = m.select(crossed, t + h * formula("fraction", m, a=a, s=s), left)
        return [m.select(gone, x, place), m.select(gone, left, time)]


def reflected(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    """The transition of Brownian motion between mirrors."""
    mu, sigma = values_of([law["mu"], law["sigma"]], p)
    lo, hi = law["lo"], law["hi"]
    drift, root = mu * h, sigma * np.sqrt(h)
    if lo is not None and hi is not None:
        return Transition(Mirrors(), [root, np.asarray(lo), np.asarray(hi)])
    return Transition(Mirror(hi is not None), [drift, root, np.asarray(lo if hi is None else hi)])


def absorbed(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    """The transition of (X, time of exit) of Brownian or geometric Brownian motion with one absorbing end."""
    mu, sigma = values_of([law["mu"], law["sigma"]], p)
    wall = law["lo"] if law["hi"] is None else law["hi"]
    if law["log"] and np.any(y[0] <= 0.0):
        raise ValueError(f"exact: an absorbed geometric Brownian motion is positive, got the state {np.min(y[0]):g}")
    level = np.log(wall) if law["log"] else wall
    numbers = [np.asarray(v, np.float64) for v in (wall, level, p["t"], h)]
    return Transition(Absorbed(law["hi"] is not None, law["log"]), [mu * h, sigma * np.sqrt(h), *numbers])
