"""`sim.estimate`: an expected value to a stated root mean square error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sdesim.estimation.bounds import absorbing, check_ends
from sdesim.estimation.coupled import TRUNCATED_MILSTEIN, copies_of
from sdesim.estimation.multilevel import coarsest_steps, multilevel
from sdesim.estimation.problem import Functional, Problem, functional_of
from sdesim.estimation.quasi import check_fixed, plain, quasi
from sdesim.estimation.result import Estimate
from sdesim.methods import find
from sdesim.methods.bounded import check_bounds
from sdesim.methods.method import Method
from sdesim.models.jumps import refuse_jumps
from sdesim.models.sde import SDE
from sdesim.streams import seed_key

METHODS = ("mlmc", "mc", "rqmc")
SCHEMES = ("euler_maruyama", "milstein", "heun", TRUNCATED_MILSTEIN.name)
_BACKENDS = {"cpu": "kernel", "cuda": "cuda", "reference": "numpy"}
_CONTROL_STREAM = 2**18
_CONTROL_SAMPLES = 4096


def estimate(
    model: SDE,
    initial: Any,
    time: float,
    functional: Any,
    *,
    rmse: float,
    method: str = "mlmc",
    scheme: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    antithetic: bool = False,
    control: tuple[Any, float] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Estimate:
    """The mean of a functional of the state at `time`, with its error; sampling stops when the rmse is met.

    Parameters
    ----------
    model, initial, parameters : as for `simulate`; distributions are averaged over.
    time : the end; the start is 0.
    functional : text of the states, parameters and t, such as "max(x - 100, 0)", or a function of arrays. With bounds
        that absorb, a member that has left is at its bound, and `alive` is 1 for the others: "alive*max(x - 100, 0)".
    rmse : the root mean square error to reach: √(standard error² + bias²).
    method : "mlmc" (multilevel Monte Carlo), "mc" (one level), "rqmc" (Sobol' points, Brownian bridge, 32 shifts).
    scheme : "euler_maruyama", "milstein", "heun", or "milstein_without_areas", whose levels are coupled with swapped
        twins; None takes the last for noise that does not commute, else Milstein's.
    antithetic : average each path with that of −W.
    control : (a functional, its known mean): P − β(C − E C) is averaged, β from a pilot.
    steps : of the coarsest level; None finds it.

    Raises ValueError or TypeError before any work for what cannot be done; ValueError too if paths do not stay
    finite. Source: Giles, Acta Numerica 24, 2015.

    >>> import sdesim as sim
    >>> found = sim.estimate(sim.SDE({"x": "-x"}, {"x": "0.5"}), 1.0, 1.0, "x", rmse=0.01, seed=1)
    >>> abs(found.value - 0.3679) < 0.04, found.error <= 0.01
    (True, True)
    """
    problem = _problem(model, initial, time, functional, parameters or {}, scheme, seed, device)
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, got {method!r}")
    number = isinstance(rmse, (int, float, np.number)) and not isinstance(rmse, bool)
    if not (number and math.isfinite(rmse) and rmse > 0):
        raise ValueError(f"rmse is a positive number, got {rmse!r}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1):
        raise ValueError(f"steps is a whole number of at least 1, got {steps!r}")
    if method == "rqmc":
        if model.bounds:
            raise ValueError("rqmc takes SDEs without bounds; use method='mlmc' or 'mc'")
        check_fixed(problem, initial)
    if control is not None:
        problem = _with_control(problem, *_control(control, model), int(steps or 16))
    swapped = problem.scheme is TRUNCATED_MILSTEIN and method == "mlmc"
    coarsest = int(steps) if steps is not None else coarsest_steps(problem, antithetic, swapped)
    if method == "mlmc":
        return multilevel(problem, float(rmse), coarsest, antithetic, swapped)
    return (plain if method == "mc" else quasi)(problem, float(rmse), coarsest, antithetic)


def _problem(
    model: SDE, initial: Any, time: float, functional: Any, parameters: Mapping[str, Any], scheme: str | None,
    seed: int, device: str,
) -> Problem:  # fmt: skip
    if not isinstance(model, SDE):
        raise TypeError(f"model is an SDE, got {type(model).__name__}")
    check_ends(model)
    if "alive" in {*model.states, *model.parameters} and absorbing(model):
        raise ValueError("with bounds that absorb, alive is 1 for members inside and 0 for others; rename yours")
    refuse_jumps(model, "estimate")
    if not (isinstance(time, (int, float, np.number)) and math.isfinite(time) and time > 0):
        raise ValueError(f"time is a positive number, got {time!r}")
    if device not in _BACKENDS:
        raise ValueError(f"device is one of {', '.join(_BACKENDS)}, got {device!r}")
    unknown = sorted(set(parameters) - set(model.parameters))
    if unknown:
        known = ", ".join(model.parameters) or "none"
        raise ValueError(f"'{unknown[0]}' is no parameter of this model; its parameters are {known}")
    for name, value in {**model.parameters, **parameters, **(initial if isinstance(initial, dict) else {})}.items():
        if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value):
            raise ValueError(f"{name} is a list over members, but the number of samples is not known beforehand: give "
                             "a number or a distribution")  # fmt: skip
    seed_key(seed)
    found = _scheme(model, scheme)
    if model.bounds:
        check_bounds(model, found)
    problem = Problem(model, initial, float(time), functional_of(functional, model), parameters,
                      found, int(seed), _BACKENDS[device])  # fmt: skip
    problem.value(*problem.start(np.arange(2), problem.seed))  # the start and the functional are sound
    if model.bounds:
        _check_absorbed(problem)
    return problem


def _check_absorbed(problem: Problem) -> None:
    """Raise ValueError where the functional asks for states at the time of exit, which nothing follows."""
    left = absorbing(problem.model)
    if left is None or len(problem.model.states) == 1:
        return
    states, parameters = problem.start(np.arange(2), problem.seed)
    d = len(problem.model.states)
    states[d] = 0.0
    moved = states.copy()
    moved[:d] += 0.1 + 0.1 * np.abs(states[:d])
    if not np.array_equal(problem.value(states, parameters), problem.value(moved, parameters)):
        others = ", ".join(s for s in problem.model.states if s != left[0])
        raise ValueError(f"where {left[0]} has left its bounds, the functional depends on {others} at that time, which "
                         "is not followed: make it a constant there, such as alive*(...)")  # fmt: skip


def _scheme(model: SDE, name: str | None) -> Method:
    if name is None:
        name = TRUNCATED_MILSTEIN.name if model.noise_type == "general" else "milstein"
    if name not in SCHEMES:
        raise ValueError(f"scheme is one of {', '.join(SCHEMES)}, got {name!r}")
    found = TRUNCATED_MILSTEIN if name == TRUNCATED_MILSTEIN.name else find(name, ("sde",))
    if model.noise_type not in found.noise:
        raise ValueError(f"{name} does not serve {model.noise_type} noise, which this model has; use euler_maruyama or "
                         f"{TRUNCATED_MILSTEIN.name}")  # fmt: skip
    return found


def _control(control: Any, model: SDE) -> tuple[Functional, float]:
    if not (isinstance(control, tuple) and len(control) == 2 and isinstance(control[1], (int, float, np.number))):
        raise ValueError(f"control is a pair (functional, its known mean), got {control!r:.80}")
    return functional_of(control[0], model, "control"), float(control[1])


def _with_control(problem: Problem, control: Functional, mean: float, steps: int) -> Problem:
    """β = cov(P, C)/var(C) from a pilot of its own, so that the estimate stays unbiased."""
    def both(env: Mapping[str, Any]) -> Any:
        pairs.append((problem.functional(env), control(env)))
        return pairs[-1][0]

    pairs: list[tuple[Any, Any]] = []
    pilot = Problem(problem.model, problem.initial, problem.time, both, problem.parameters, problem.scheme,
                    problem.seed, problem.backend)  # fmt: skip
    pilot.sample(copies_of(False, False, False), steps, 0, _CONTROL_SAMPLES, _CONTROL_STREAM)
    p, c = pairs[-1]
    spread = float(np.var(c))
    weight = float(np.mean((p - np.mean(p)) * (c - np.mean(c)))) / spread if spread > 0.0 else 0.0
    return problem.controlled(control, mean, weight)
