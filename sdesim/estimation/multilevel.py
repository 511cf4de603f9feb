"""Multilevel Monte Carlo (Giles, Oper. Res. 56, 2008; Acta Numerica 24, 2015, doi:10.1017/S096249291500001X).

    E[P] ≈ E[P_0] + Σ_ℓ E[P_ℓ − P_ℓ₋₁],   P_ℓ with h_ℓ = T/(N_0 2^ℓ), fine and coarse on one Wiener path.

With V_ℓ the variance and C_ℓ the cost of one sample of level ℓ, the cheapest allocation for a variance of
(1 − ϑ)ε² is n_ℓ = √(V_ℓ/C_ℓ) Σ_k √(V_k C_k) / ((1 − ϑ)ε²); levels are added until the estimated bias is below √ϑ ε.
A variance says nothing of events that no sample met. One of size R and probability 1/n, missed by n samples, moves the
mean by R/n: so n_ℓ ≥ R_ℓ/(√ϑ ε) too, R_ℓ the range of the samples, or of the level before where they are all equal,
and what the level before foretells is part of the variance (`believed`).
The bias left after level L of a scheme of weak order α is |E[P_L − P_L₋₁]|/(2^α − 1), the largest of the last levels'
extrapolations (Giles 2015, §3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sdesim.estimation.coupled import Copy, copies_of
from sdesim.estimation.problem import Problem
from sdesim.estimation.result import Estimate, Level
from sdesim.statistics import Running

SPLIT = 0.25  # ϑ: the bias' share of the mean square error
_FIRST = 1024  # samples of a new level, to learn its variance
_BASE = 2**14  # of the coarsest, where they are cheap, to meet what is rare
_PILOT = 512
_RARE = 2**18  # of a pilot that met nothing but one value, at most
_DEEPEST = 24  # refinements beyond the coarsest level
_PILOT_STREAM = 2**16  # streams from here on are pilots, so that no choice depends on the sample it serves


@dataclass
class Ladder:
    """The levels sampled so far: `add` draws more members of one; the statistics merge."""

    problem: Problem
    coarsest: int
    antithetic: bool
    swapped: bool
    stream: int = 0
    span: float = 0.0
    running: list[Running] = field(default_factory=list)

    def cost(self, level: int) -> int:
        """Scheme steps of one sample."""
        copies = copies_of(level > 0, self.antithetic, self.swapped)
        return (self.coarsest << max(0, level - 1)) * sum(copy.steps for copy in copies)

    def add(self, level: int, count: int) -> None:
        """Draw `count` more samples of a level."""
        while len(self.running) <= level:
            self.running.append(Running())
        if count == 0:
            return
        copies = copies_of(level > 0, self.antithetic, self.swapped)
        steps, seen = self.coarsest * 2 ** max(0, level - 1), self.running[level].count
        self.running[level].add(self.problem.sample(copies, steps, seen, count, self.stream + level), axis=0)

    def levels(self) -> tuple[Level, ...]:
        """What was found at each level."""
        found = [(r.count, r.results()) for r in self.running]
        return tuple(Level(self.coarsest * 2**i, n, float(s["mean"]), float(s["variance"]), self.cost(i))
                     for i, (n, s) in enumerate(found))  # fmt: skip

    def spans(self) -> list[float]:
        """The range of the samples of each level."""
        return [float(r.high - r.low) for r in self.running]

    def begin(self, level: int, rmse: float) -> None:
        """Draw the first samples of a level: enough to learn its variance, and to miss no event that matters."""
        self.add(level, _FIRST if level else _BASE)
        span = next((s for s in reversed(self.spans()) if s > 0.0), self.span)
        self.add(level, max(0, int(np.ceil(span / (np.sqrt(SPLIT) * rmse))) - self.running[level].count))

    def spent(self) -> int:
        """Scheme steps taken."""
        return sum(level.samples * level.cost for level in self.levels())


def _pilot(problem: Problem, copies: tuple[Copy, ...], steps: int) -> NDArray[np.float64]:
    """A few samples of the quantity itself; many where what is rare has not been met by few."""
    count, found = _PILOT, problem.sample(copies, steps, 0, _PILOT, _PILOT_STREAM + 1)
    while count < _RARE and not np.ptp(found) > 0.0:
        count *= 8
        found = problem.sample(copies, steps, 0, count, _PILOT_STREAM + 1)
    return found


def coarsest_steps(problem: Problem, antithetic: bool, swapped: bool) -> int:
    """The fewest steps, a power of two, whose refinement has at most half the variance of the quantity itself.

    Below that a level costs more than it saves (Giles 2015, §2.3); unstable and infinite paths are coarser still.
    """
    plain, refined = (copies_of(r, antithetic, swapped) for r in (False, True))
    for power in range(_DEEPEST):
        try:
            fine = _pilot(problem, plain, 2 ** (power + 1))
            difference = problem.sample(refined, 2**power, 0, len(fine), _PILOT_STREAM + 1)
        except ValueError as error:
            if "stay finite" in str(error):
                continue
            raise
        if difference.var() <= 0.5 * fine.var() or fine.var() <= 1e-20 * float(np.mean(fine)) ** 2:
            return 1 << power
    raise ValueError(f"no number of steps up to 2^{_DEEPEST} keeps the paths finite; try another scheme")


def bias_left(means: NDArray[np.float64], alpha: float) -> float:
    """The bias estimated from the means of the last three refinements, each extrapolated to the last.

    >>> bias_left(np.array([1.0, 0.08, 0.02]), 1.0)
    0.04
    """
    last = np.abs(means[1:][-3:][::-1])
    return float(np.max(last / 2.0 ** (alpha * np.arange(len(last))), initial=0.0) / (2.0**alpha - 1.0))


def believed(
    levels: tuple[Level, ...], spans: list[float], beta: float, pilot: tuple[float, float]
) -> NDArray[np.float64]:
    """The variance of each level, from its samples and from what the one before foretells.

    Differences of a functional that jumps are mostly 0, and of size R where fine and coarse path fall on two sides: the
    variance is R² times the rate of such events, and a sample knows as much of it as it met events. To these is added
    one that the level before foretells, V⁻ = V_{ℓ−1}/2^{β/2} (a functional that jumps halves β), and for the coarsest
    the pilot, by its range and variance: the mean of a Gamma law is updated, as in Collier et al. 2015 (BIT 55,
    doi:10.1007/s10543-014-0511-3, §4), to V = (R² + Σ(Y − Ȳ)²)/(R²/V⁻ + n). Where differences are small and many, R²/V⁻
    is nothing against n.

    >>> few = (Level(1, 10_000, 0.5, 0.25, 1), Level(2, 1000, 0.0, 0.0, 3))
    >>> believed(few, [1.0, 0.0], 1.0, (1.0, 0.25)).round(6).tolist()
    [0.25, 0.000992]
    """
    v: list[float] = []
    size, foretold = pilot
    for i, level in enumerate(levels):
        size = spans[i] or size
        foretold = v[-1] / (2.0 if i == 1 else 2.0 ** (beta / 2)) if v else foretold
        known = size**2 + level.variance * level.samples
        v.append(known / (size**2 / foretold + level.samples) if foretold > 0.0 else level.variance)
    return np.array(v)


def allocation(levels: tuple[Level, ...], variances: NDArray[np.float64], variance: float) -> NDArray[np.int64]:
    """Samples of each level that give the sum of their means this variance at the least cost."""
    v = variances
    c = np.array([level.cost for level in levels], float)
    return np.asarray(np.ceil(np.sqrt(v / c) * np.sum(np.sqrt(v * c)) / variance), np.int64)


def multilevel(problem: Problem, rmse: float, coarsest: int, antithetic: bool, swapped: bool) -> Estimate:
    """Levels and samples are added until variance and bias are within the mean square error asked for."""
    pilot = _pilot(problem, copies_of(False, antithetic, swapped), 2 * coarsest)
    seen = float(np.ptp(pilot)), float(pilot.var())
    ladder = Ladder(problem, coarsest, antithetic, swapped, span=seen[0])
    alpha = problem.scheme.weak or 1.0
    beta = 2.0 if swapped or (problem.scheme.strong or 0.5) >= 1.0 else 1.0
    for level in range(3):
        ladder.begin(level, rmse)
    while True:
        levels = ladder.levels()
        variances = believed(levels, ladder.spans(), beta, seen)
        wanted = allocation(levels, variances, (1.0 - SPLIT) * rmse**2)
        more = wanted - np.array([level.samples for level in levels])
        if np.any(more > 0.01 * wanted):
            for level, count in enumerate(more):
                ladder.add(level, max(0, int(count)))
            continue
        bias = bias_left(np.array([level.mean for level in levels]), alpha)
        if bias <= np.sqrt(SPLIT) * rmse:
            break
        if len(levels) > _DEEPEST:
            raise ValueError(f"a bias of {bias:.2g} remains after {_DEEPEST} refinements; ask for a larger rmse")
        ladder.begin(len(levels), rmse)
    value = float(sum(level.mean for level in levels))
    error = float(np.sqrt(sum(v / level.samples for v, level in zip(variances, levels, strict=True))))
    return Estimate(value, error, bias, ladder.spent(), "mlmc", problem.scheme.name, levels)


def finest_steps(
    problem: Problem, rmse: float, coarsest: int, antithetic: bool
) -> tuple[int, float, tuple[Level, ...], int]:
    """For one level alone: its steps, the bias it leaves, the pilot's levels and their cost.

    Refinements that may be fine enough are sampled until their standard error is a quarter of the bias allowed.
    """
    ladder = Ladder(problem, coarsest, antithetic, False, stream=_PILOT_STREAM + 2)
    alpha, allowed = problem.scheme.weak or 1.0, np.sqrt(SPLIT) * rmse
    ladder.begin(0, rmse)
    for level in range(1, _DEEPEST):
        ladder.begin(level, rmse)
        found = ladder.levels()[level]
        near = abs(found.mean) <= allowed * (2.0**alpha - 1.0) + 3.0 * np.sqrt(found.variance / found.samples)
        ladder.add(level, max(0, int(np.ceil(16.0 * found.variance / allowed**2)) - found.samples) if near else 0)
        levels = ladder.levels()
        bias = bias_left(np.array([v.mean for v in levels]), alpha)
        if level >= 2 and bias <= allowed:
            return levels[-1].steps, bias, levels, ladder.spent()
    raise ValueError(f"a bias of {bias:.2g} remains after {_DEEPEST} refinements; ask for a larger rmse")
