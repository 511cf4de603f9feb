"""What is known of a time-stepping method: its step and, as data beside it, orders, noise types and source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# from the most special to the most general: a method for one type serves every type before it
NOISE_TYPES = ("none", "additive", "scalar", "diagonal", "commutative", "general")


@dataclass(frozen=True)
class Method:
    """One time-stepping method.

    `step` is the pure function of its paper. `kind` is "sde" (finite-dimensional), "stencil" (fields, finite volumes)
    or "spectral" (fields, modal space). `calculus` is the stochastic calculus whose solution it converges to, None if
    it takes no noise. Orders are those of the source; `strong` and `weak` are None where they do not apply.

    >>> from sdesim.methods import table
    >>> table()["milstein"].strong
    1.0
    """

    name: str
    step: Callable[..., Any]
    kind: str
    source: str
    noise: tuple[str, ...] = ("none",)
    calculus: str | None = None
    order: float | None = None
    strong: float | None = None
    weak: float | None = None
    details: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.noise) - {*NOISE_TYPES, "multiplicative"}
        if unknown:
            raise ValueError(f"{self.name}: noise types are among {NOISE_TYPES}, got {sorted(unknown)}")
