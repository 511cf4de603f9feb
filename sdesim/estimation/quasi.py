"""Plain Monte Carlo and randomised quasi-Monte Carlo at one step size.

Quasi-Monte Carlo takes Sobol' points with random digital shifts (L'Ecuyer & Lemieux 2002): every shift gives an
unbiased mean, and the spread of the means over the shifts is the standard error. A Brownian bridge puts the path's
large movements on the first, best spread coordinates (Moskowitz & Caflisch 1996; Glasserman 2003, §5.5).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.estimation.coupled import copies_of
from sdesim.estimation.multilevel import SPLIT, finest_steps
from sdesim.estimation.problem import Problem, stream_seed
from sdesim.estimation.result import Estimate, Level
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.statistics import Running
from sdesim.streams import Purpose, inverse_normal, uniforms

_SHIFTS = 32
_BITS = 32
_FIRST_POINTS = 64
_MOST_AXES = 21201  # of Joe & Kuo's table
_SAMPLE_STREAM = 2**17


def plain(problem: Problem, rmse: float, coarsest: int, antithetic: bool) -> Estimate:
    """Monte Carlo with the step that a pilot finds fine enough."""
    steps, bias, pilot, spent = finest_steps(problem, rmse, coarsest, antithetic)
    copies, running = copies_of(False, antithetic, False), Running()
    wanted = pilot[0].samples
    while running.count < wanted:
        first = running.count
        running.add(problem.sample(copies, steps, first, wanted - first, _SAMPLE_STREAM), axis=0)
        found = running.results()
        wanted = math.ceil(float(found["variance"]) / ((1.0 - SPLIT) * rmse**2))
    mean, variance = float(found["mean"]), float(found["variance"])
    level = Level(steps, running.count, mean, variance, steps * len(copies))
    error = math.sqrt(variance / running.count)
    return Estimate(mean, error, bias, spent + level.samples * level.cost, "mc", problem.scheme.name, (*pilot, level))


def quasi(problem: Problem, rmse: float, coarsest: int, antithetic: bool) -> Estimate:
    """Randomised quasi-Monte Carlo: points are doubled until the shifts agree.

    Raises ValueError for more coordinates than the Sobol' table has, or random parameters or initial states.
    """
    steps, bias, pilot, spent = finest_steps(problem, rmse, coarsest, antithetic)
    axes = max(1, steps * len(problem.model.channels))
    if axes > _MOST_AXES:
        raise ValueError(f"{axes} Sobol' coordinates are wanted ({steps} steps), there are {_MOST_AXES}: "
                         "use method='mlmc', or a larger rmse")  # fmt: skip
    signs = (1.0, -1.0) if antithetic else (1.0,)
    sums, count, wanted = np.zeros(_SHIFTS), 0, _FIRST_POINTS
    while True:
        sums += _shifted_sums(problem, steps, signs, count, wanted)
        count = wanted
        means = sums / count
        error = float(means.std(ddof=1)) / math.sqrt(_SHIFTS)
        enough = count * _SHIFTS >= pilot[0].samples  # to meet what is rare
        if enough and error**2 <= (1.0 - SPLIT) * rmse**2:
            break
        if count >= 2 ** (_BITS - 1):
            raise ValueError("2³¹ points do not reach this rmse; ask for a larger one")
        wanted = 2 * count
    level = Level(steps, count * _SHIFTS, float(means.mean()), error**2 * count * _SHIFTS, steps * len(signs))
    cost = spent + level.samples * level.cost
    return Estimate(level.mean, error, bias, cost, "rqmc", problem.scheme.name, (*pilot, level))


def brownian_bridge(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Increments over unit steps from as many normals, along the first axis: the end first, then midpoints by halving.

    >>> A = brownian_bridge(np.eye(5))
    >>> bool(np.allclose(A @ A.T, np.eye(5)))
    True
    """
    steps = len(z)
    path = np.zeros((steps + 1, *z.shape[1:]))
    path[steps] = math.sqrt(steps) * z[0]
    spans, row = deque([(0, steps)]), 1
    while spans:
        a, b = spans.popleft()
        if b - a < 2:
            continue
        middle = (a + b) // 2
        left, right = (b - middle) / (b - a), (middle - a) / (b - a)
        path[middle] = left * path[a] + right * path[b] + math.sqrt(left * (middle - a)) * z[row]
        row += 1
        spans += [(a, middle), (middle, b)]
    return np.diff(path, axis=0)


def _shifted_sums(
    problem: Problem, steps: int, signs: tuple[float, ...], begin: int, end: int
) -> NDArray[np.float64]:
    """Σ P over the Sobol' points begin … end−1 for each shift, in blocks that fit in memory."""
    from scipy.stats import qmc

    m, sums = len(problem.model.channels), np.zeros(_SHIFTS)
    axes, scale = max(1, steps * m), 2.0**_BITS
    sobol = qmc.Sobol(axes, scramble=False, bits=_BITS)
    if begin:
        sobol.fast_forward(begin)
    seed, block = stream_seed(problem.seed, _SAMPLE_STREAM + 1), max(1, 2**21 // (axes * _SHIFTS))
    shifts = (uniforms(seed, np.arange(_SHIFTS)[:, None], np.arange(axes), Purpose.SAMPLE) * scale).astype(np.uint64)
    for first in range(begin, end, block):
        points = np.rint(sobol.random(min(block, end - first)) * scale).astype(np.uint64)
        # one axis at a time, over shifts and points: rows that fit in a cache
        rows = [inverse_normal(((points[:, k] ^ shifts[:, k, None]).ravel() + 0.5) / scale) for k in range(steps * m)]
        z = np.array(rows).reshape(steps, m, len(points) * _SHIFTS)
        dW = brownian_bridge(z) * math.sqrt(problem.time / steps)
        for sign in signs:
            sums += _walk(problem, sign * dW).reshape(_SHIFTS, -1).sum(axis=1) / len(signs)
    return sums


def _walk(problem: Problem, dW: NDArray[np.float64]) -> NDArray[np.float64]:
    """P at the end of the paths with these increments (step, process, member), by the scheme's own lines."""
    steps, _, count = dW.shape
    initial, parameters = problem.start(np.arange(count), problem.seed)
    own = BoundSDE(problem.model, problem.scheme.calculus or "ito", parameters)
    y, h = Vector(initial), np.float64(problem.time / steps)
    with np.errstate(all="ignore"):
        for s in range(steps):
            stepped = problem.scheme.step(own, s * h, y, h, Wiener(Vector(dW[s])))
            y = Vector(np.broadcast_to(0.0 if is_structural_zero(v) else v, count) for v in stepped)
    return problem.value(np.stack(y), parameters)


def check_fixed(problem: Problem, given: Any) -> None:
    """Raise ValueError where the start or a parameter is random: its coordinates are not among the Sobol' points."""
    values = {**problem.model.parameters, **problem.parameters, **(given if isinstance(given, dict) else {"": given})}
    for name, value in values.items():
        if hasattr(value, "ppf"):
            raise ValueError(f"rqmc takes fixed parameters and initial values; {name or 'the initial value'} is a "
                             "distribution: use method='mlmc'")  # fmt: skip
