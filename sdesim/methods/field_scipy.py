"""SciPy's implicit solvers as methods for fields without noise: references, made by others, to hold results against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.methods.field import FieldMethod, Spectrum
from sdesim.methods.field_control import FieldControl


def default_control(states: Sequence[str]) -> FieldControl:
    """The tolerances of a reference where none are given.

    >>> default_control(["u"])
    FieldControl(rtol=1e-06, atol=(1e-09,))
    """
    return FieldControl(1e-6, (1e-9,) * len(states))


def elsewhere(*arguments: Any, **options: Any) -> Any:
    """The step of a method whose steps are SciPy's own."""
    raise TypeError("SciPy's solvers take their steps themselves: see sdesim.kernels.field_scipy")


def free(spectrum: Spectrum) -> float:
    """No step is unstable, nor given."""
    return math.inf


@dataclass(frozen=True, kw_only=True)
class SciPyMethod(FieldMethod):
    """A solver of scipy.integrate by its name there."""

    solver: str
    step: Callable[..., Any] = elsewhere
    kind: str = "reference"
    limit: Callable[[Spectrum], float] = free
    choose: Callable[[Spectrum], float] = free


METHODS = (
    SciPyMethod(
        name="bdf", solver="BDF", order=5.0, details="orders 1 to 5, by SciPy; a reference",
        source="Shampine & Reichelt 1997, doi:10.1137/S1064827594276424; scipy.integrate.BDF",
    ),
    SciPyMethod(
        name="radau", solver="Radau", order=5.0, details="Radau IIA of order 5, by SciPy; a reference",
        source="Hairer & Wanner 1996, doi:10.1007/978-3-642-05221-7; scipy.integrate.Radau",
    ),
)  # fmt: skip
SCIPY_METHODS: dict[str, SciPyMethod] = {method.name: method for method in METHODS}
