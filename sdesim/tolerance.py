"""A method whose steps follow an error estimate: what `rtol` and `atol` of a call mean, and which methods may."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.choice import Choice, choose
from sdesim.methods import rows
from sdesim.methods.adaptive import control, refusal
from sdesim.methods.field import embedded_of
from sdesim.methods.field_control import FieldControl
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE

_EVENTS = 1e-3  # error allowed in the expected number of events, if rtol is not given
_ATOL = 1e-3  # atol if only rtol is given, over rtol


def adaptive_choice(
    model: Any, name: str | None, dt: float | None, clock: NDArray[np.float64], rtol: float | None, atol: Any,
    initial: NDArray[np.float64], parameters: Mapping[str, Any],
) -> Choice:
    """The method for a model and the control of its steps; dt is the longest step.

    Raises ValueError for what `choose` refuses, for a method that would not converge, saying which do, and for
    tolerances that are none.

    >>> geometric = SDE({"x": "x"}, {"x": "x"})
    >>> adaptive_choice(geometric, None, None, np.array([0.0, 1.0]), 1e-3, None, np.ones((1, 1)), {}).method.name
    'milstein'
    """
    if not isinstance(model, SDE):
        return _for_field(model, name, dt, clock, FieldControl(*tolerances(tuple(model.state), rtol, atol)), initial,
                          parameters)  # fmt: skip
    taken = sorted({"steps", "rejected_steps"} & {*model.states, *model.parameters})
    if taken:
        raise ValueError(f"with rtol or atol '{taken[0]}' is a variable of the Dataset; rename it in the model")
    numbers = tolerances(model.states, rtol, atol)
    if model.jumps:  # how many events were to be expected is one more state
        numbers = numbers[0], (*numbers[1], numbers[0] or _EVENTS)
    gaps = np.diff(clock)
    step = dt if dt is not None else float(gaps.min()) if gaps.size else 1.0
    if name is None and model.noise_type == "general":
        name = "heun"
    choice = choose(model, name, step if name != "exact" else dt, clock, np.empty(0), {})
    if (why := refusal(choice.method, model)) is not None:
        able = [m.name for m in rows(("sde",)) if m.refusal(model) is None and refusal(m, model) is None]
        cure = f"use one of {', '.join(able)}, or" if able else "for this model"
        raise ValueError(f"{choice.method.name} cannot choose its steps by rtol and atol: {why}; {cure} leave them out "
                         "and give dt")  # fmt: skip
    largest = "the shortest interval between save times" if dt is None else "dt"
    reason = f"{choice.reason}; steps are {largest} over powers of 2, by the difference of one step from two halves"
    return replace(choice, control=control(model, choice.method, *numbers), reason=reason)


def _for_field(
    model: PDE, name: str | None, dt: float | None, clock: NDArray[np.float64], control: FieldControl,
    initial: NDArray[np.float64], parameters: Mapping[str, Any],
) -> Choice:  # fmt: skip
    if model.noise:
        raise ValueError("rtol and atol choose the steps of a field without noise: a step that is taken or refused "
                         "after a look at its noise is no longer independent of it, which biases the law; give dt "
                         "(and certify=True for an estimate of its error)")  # fmt: skip
    if name is None:
        choice = choose(model, None, dt, clock, initial, parameters)
        if choice.method.name.startswith("exact"):
            return replace(choice, reason=f"{choice.reason}: no error in time, whatever the tolerance")
        name, why = _by_stiffness(model, control, clock)
    else:
        why = "asked for"
    longest = dt if dt is not None else float(clock[-1] - clock[0]) or 1.0
    choice = choose(model, name, longest, clock, initial, parameters)
    if choice.method.kind != "reference":
        embedded_of(choice.method)
    most = "a tenth of the span" if dt is None else f"{dt:g}"
    reason = f"{why}; each member's steps by the estimate of their error, none longer than {most}"
    return replace(choice, dt=dt, steps=None, control=control, reason=reason)


def _by_stiffness(model: PDE, control: FieldControl, clock: NDArray[np.float64]) -> tuple[str, str]:
    """Dormand & Prince's order 5 or a stabilised order 2, by the model's own parameters: the same for every member.

    To be stable over a time T the first needs 6 ρT/3.3 right-hand sides, ρ the largest rate of diffusion; in N steps
    the second has √(1.53 ρT N), and N ≈ 10/√tolerance.
    """
    from sdesim.stencil_integrate import stiffness

    rate = stiffness(model, float(clock[0]))
    if rate is None:
        return "rkc", "a diffusivity that changes with the state or is a member's own: stabilised explicit, order 2"
    tolerance = control.rtol or min(1e-3, *control.atol)
    turns, steps = rate * float(clock[-1] - clock[0]), 10.0 / math.sqrt(tolerance)
    single, stabilised = 6.0 * turns / 3.3, math.sqrt(1.53 * turns * steps)
    if single <= stabilised:
        return "rk45", f"not stiff (stability takes {single:.2g} right-hand sides): order 5"
    return "rkc", f"stiff (order 5 would take {single:.2g} right-hand sides to be stable): stabilised, order 2"


def tolerances(states: tuple[str, ...], rtol: Any, atol: Any) -> tuple[float, tuple[float, ...]]:
    """(rtol, atol of each state). Raises ValueError for what is no tolerance.

    >>> tolerances(("x", "v"), 0.01, {"x": 1e-3, "v": 0.1})
    (0.01, (0.001, 0.1))
    """
    relative = _number(0.0 if rtol is None else rtol, "rtol", smallest=-math.inf)
    if not 0.0 <= relative < 1.0:
        raise ValueError(f"rtol is a number from 0 to 1, got {rtol!r}")
    if atol is None:
        if relative == 0.0:
            raise ValueError("without rtol an atol is needed: the error allowed, in the units of the states")
        atol = _ATOL * relative
    if isinstance(atol, Mapping):
        if set(atol) != set(states):
            raise ValueError(f"atol is a number, or one for each of the states {', '.join(states)}; got {sorted(atol)}")
        return relative, tuple(_number(atol[s], f"atol of {s}") for s in states)
    return relative, (_number(atol, "atol"),) * len(states)


def _number(value: Any, what: str, smallest: float = 0.0) -> float:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value > smallest):
        raise ValueError(f"{what} is a positive number, got {value!r}")
    return float(value)
