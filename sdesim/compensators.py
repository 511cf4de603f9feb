"""What the jumps of a model add on average, from its rates and sizes, held against what a method's step adds.

From a point x the jumps of a short time h add, up to terms of order h²,

    E[Δx_i] = h Σ_j λ_j E[s_ij] ,   E[Δx_i²] = h Σ_j λ_j E[s_ij²]

(the compensator of the jump measure, Cont & Tankov 2004, prop. 2.16). The sizes' means are taken over marks that SciPy
draws; Δx is what a step with jumps adds to one without, of the same Wiener path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.integrate import integrate
from sdesim.methods import find
from sdesim.methods.method import Method
from sdesim.models.sde import SDE
from sdesim.streams import seed_key

_SAMPLES = 200_000  # of the marks
_MEMBERS = 200_000  # of the run
_EVENTS = 0.01  # expected in the step: what the second event does is half this share of the whole


@dataclass(frozen=True)
class JumpMoments:
    """A jump at one point: its rate, and for each state that it moves the mean and the mean square of its size."""

    name: str
    rate: float
    size: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        sizes = ", ".join(f"{s}: mean {a:.4g}, root mean square {b**0.5:.4g}" for s, (a, b) in self.size.items())
        return f"{self.name} at the rate {self.rate:.4g}; size of {sizes}"


def smooth_part(model: SDE) -> SDE:
    """The model without its jumps.

    >>> import sdesim as sim
    >>> smooth_part(sim.SDE({"x": "-x"}, jumps={"x": sim.Jump(1, 1)}))
    dx = (-x) dt   [Itô]
    """
    return SDE.from_dict({**model.to_dict(), "jumps": {}})


def jump_moments(
    model: SDE, point: NDArray[np.float64], parameters: Mapping[str, Any], seed: int = 0
) -> tuple[list[JumpMoments], NDArray[np.float64], NDArray[np.float64]]:
    """The jumps at a point, Σ_j λ_j E[s_ij] and Σ_j λ_j E[s_ij²] as (moment, state), and their standard errors.

    >>> import sdesim as sim
    >>> model = sim.SDE({"x": 0}, jumps={"x": sim.Jump("2*x", -0.5)})
    >>> jump_moments(model, np.array([3.0]), {})[1].ravel().tolist()
    [-3.0, 1.5]
    """
    env = {**parameters, "t": 0.0, **dict(zip(model.states, point, strict=True))}
    draws = np.random.default_rng([20260101, *map(int, seed_key(seed))])
    total, variance, found = np.zeros((2, len(point))), np.zeros((2, len(point))), []
    for name, jump in model.jumps.items():
        rate = float(evaluate([jump.rate], env)[0])
        marks = {mark: _drawn(law, draws) for mark, law in jump.marks.items()}
        values = evaluate(list(jump.size.values()), env | marks)
        sizes = {s: np.broadcast_to(v, _SAMPLES if marks else 1) for s, v in zip(jump.size, values, strict=True)}
        if jump.nonnegative:
            fits = np.all([env[s] + size >= 0.0 for s, size in sizes.items()], axis=0)
            sizes = {s: np.where(fits, size, 0.0) for s, size in sizes.items()}
        for s, size in sizes.items():
            for k, power in enumerate((size, size * size)):
                total[k, model.states.index(s)] += rate * power.mean()
                variance[k, model.states.index(s)] += rate**2 * power.var() / power.size
        found.append(JumpMoments(name, rate, {s: (float(v.mean()), float((v * v).mean())) for s, v in sizes.items()}))
    return found, total, np.sqrt(variance)


def _drawn(law: Any, draws: np.random.Generator) -> NDArray[np.float64]:
    if isinstance(law, str):
        return draws.standard_normal(_SAMPLES) if law == "normal" else draws.random(_SAMPLES)
    return np.asarray(law.rvs(_SAMPLES, random_state=draws), np.float64)


def jump_error(
    model: SDE, method: Method, point: NDArray[np.float64], parameters: Mapping[str, Any], seed: int
) -> float:
    """The largest gap between the moments of what a step's jumps add and those above, in standard errors.

    >>> import sdesim as sim
    >>> from sdesim.methods import find
    >>> model = sim.SDE({"x": "-x"}, {"x": 0.3}, jumps={"x": sim.Jump(2.0, "0.1 + 0.4*z")})
    >>> jump_error(model, find("heun", ("sde",)), np.array([1.0]), {}, seed=1) < 5
    True
    """
    jumps, expected, spread = jump_moments(model, point, parameters, seed)
    rate = sum(jump.rate for jump in jumps)
    if not rate > 0.0 or not np.isfinite(rate):
        return 0.0
    h, times = _EVENTS / rate, np.array([0.0, _EVENTS / rate])
    start, bare = np.repeat(point[:, None], _MEMBERS, axis=1), smooth_part(model)
    without = method if method.kind == "sde" else find("euler_maruyama", ("sde",))
    ends, members = [], np.arange(_MEMBERS)
    for kind, way in ((model, method), (bare, without)):
        found = integrate(kind, way.at(kind, h), start, parameters, times, h, seed=seed, members=members)
        ends.append(found.states[-1])
    added = ends[0] - ends[1]
    worst = 0.0
    for k, power in enumerate((added, added * added)):
        gap, error = power.mean(axis=1) / h - expected[k], power.std(axis=1, ddof=1) / (h * np.sqrt(_MEMBERS))
        # to a second event, and to drift and noise before the first
        floor = 2.0 * _EVENTS * np.abs(expected[k]) + 64 * np.finfo(float).eps * np.abs(point) / h
        sigma = np.sqrt(error**2 + spread[k] ** 2 + floor**2)
        worst = max(worst, float(np.max(np.abs(gap) / np.where(sigma > 0.0, sigma, np.inf), initial=0.0)))
    return worst
