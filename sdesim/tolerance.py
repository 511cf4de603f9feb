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
from sdesim.models.sde import SDE

_ATOL = 1e-3  # atol if only rtol is given, over rtol


def adaptive_choice(
    model: Any, name: str | None, dt: float | None, clock: NDArray[np.float64], rtol: float | None, atol: Any
) -> Choice:
    """The method for a model and the control of its steps; dt is the longest step.

    Raises ValueError for what `choose` refuses, for a method that would not converge, saying which do, and for
    tolerances that are none.

    >>> geometric = SDE({"x": "x"}, {"x": "x"})
    >>> adaptive_choice(geometric, None, None, np.array([0.0, 1.0]), 1e-3, None).method.name
    'milstein'
    """
    if not isinstance(model, SDE):
        raise ValueError("rtol and atol choose the steps of an SDE; for a field give dt, or leave it to the method")
    numbers = tolerances(model.states, rtol, atol)
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
