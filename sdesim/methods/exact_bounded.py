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

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdesim.methods.bounded import ALIVE, formula
from sdesim.methods.exact_draws import Array, Draws, values_of
from sdesim.models.sde import SDE


def reflected(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Any:
    """The sampler of Brownian motion between mirrors."""
    mu, sigma = values_of([law["mu"], law["sigma"]], p)
    lo, hi = law["lo"], law["hi"]

    def sample(x: Array, draws: Draws) -> Array:
        Y = mu * h + sigma * np.sqrt(h) * draws.normal(0)
        if lo is not None and hi is not None:
            width = hi - lo
            return np.asarray(lo + width - np.abs(np.mod(x + Y - lo, 2.0 * width) - width))
        side, end, Y = (1.0, lo, Y) if lo is not None else (-1.0, hi, -Y)  # below hi: the mirror image
        lowest = 0.5 * (Y - np.sqrt(Y * Y - 2.0 * sigma**2 * h * np.log(draws.uniform(0))))
        away = side * (x - end)
        return np.asarray(end + side * (away + Y + np.maximum(0.0, -away - lowest)))

    return sample


def absorbed(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Any:
    """The sampler of (X, time of exit) of Brownian or geometric Brownian motion with one absorbing end."""
    mu, sigma = values_of([law["mu"], law["sigma"]], p)
    high, t = law["hi"] is not None, p["t"]
    wall = law["hi"] if high else law["lo"]
    to, back = (np.log, np.exp) if law["log"] else (np.asarray, np.asarray)
    if law["log"] and np.any(y[0] <= 0.0):
        raise ValueError(f"exact: an absorbed geometric Brownian motion is positive, got the state {np.min(y[0]):g}")

    def sample(x: Array, draws: Draws) -> Array:
        start, left, v = to(x[0]), x[1], sigma**2
        end = start + mu * h + sigma * np.sqrt(h) * draws.normal(0)
        a, b = (to(wall) - start, to(wall) - end) if high else (start - to(wall), end - to(wall))
        crossed = formula("crossed", a=a, b=b, v=v, h=h, E=-np.log(draws.uniform(0)))
        mean = formula("mean", a=a, b=b)
        r = formula("r", q=formula("q", mean=mean, a=a, v=v, h=h, z2=draws.normal(1)))
        s = formula("s", mean=mean, r=r, z3=np.sqrt(-2.0 * np.log(draws.uniform(1))), z4=0.0)
        gone, met = left > ALIVE / 2, crossed > 0
        place = np.where(gone, x[0], np.where(met, wall, back(end)))
        return np.stack([place, np.where(~gone & met, t + h * formula("fraction", a=a, s=s), left)])

    return sample
