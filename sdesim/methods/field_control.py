"""How the steps of a pair follow its error: lines of arithmetic for every machine, from + − × ÷ √ alone.

With E = error/tolerance, E ≤ 1 where a step is accepted, and E ∝ h^q, the next step is

    h ← h · 0.8 · E⁻³ᵘ · E₋₁ᵘ,   u = 1/8 for q = 2, 1/16 for q = 5,

a proportional–integral control (Gustafsson, Lundh & Söderlind 1988, doi:10.1007/BF01934091; Söderlind 2003,
doi:10.1145/641876.641877) whose powers are repeated square roots, so that reference, kernel and device take the same
steps to the last bit. A step that is refused is tried again with h·0.8·E⁻⁴ᵘ, and the one after it does not grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sdesim.methods.field import SPARE, Embedded

GROWTH, SHRINKAGE, SAFETY, LEAST = 5.0, 0.1, 0.8, 1e-6
_FINEST = 2.0**-46  # the shortest step, as a part of the time from the start to the next save
STEP_LIMIT = 2
"""Status of a member that no step is small enough for."""
TINY = 1e-300


@dataclass(frozen=True)
class FieldControl:
    """Tolerances of a field: the error of a step is at most atol + rtol·|u|, in every cell of every state.

    >>> FieldControl(1e-3, (1e-6,)).tightened(0.1)
    FieldControl(rtol=0.0001, atol=(1e-07,))
    """

    rtol: float
    atol: tuple[float, ...]

    def tightened(self, factor: float) -> FieldControl:
        """The tolerances times a factor."""
        return FieldControl(self.rtol * factor, tuple(a * factor for a in self.atol))


class Floats:
    """Python's floats as a machine: as many of its operations as the control needs."""

    @staticmethod
    def number(value: float) -> float:
        return value

    @staticmethod
    def sqrt(x: float) -> float:
        return math.sqrt(x)

    @staticmethod
    def select(condition: bool, if_true: float, if_false: float) -> float:
        return if_true if condition else if_false


def larger(m: Any, a: Any, b: Any) -> Any:
    """The larger of two numbers; b if a is none."""
    return m.select(a > b, a, b)


def smaller(m: Any, a: Any, b: Any) -> Any:
    """The smaller of two numbers; b if a is none."""
    return m.select(a < b, a, b)


def longest(m: Any, pair: Embedded, dt: Any, real: Any, imaginary: Any) -> Any:
    """The longest step: dt, or what the bounds on the eigenvalues and the largest number of stages allow."""
    along, across = pair.limits
    rate = larger(m, real * m.number(1.0 / along), imaginary * m.number(1.0 / across))
    rate = larger(m, real * m.number(SPARE / pair.rungs[-1][0]), rate)
    return smaller(m, m.number(1.0) / larger(m, rate, m.number(TINY)), dt)


def tried(m: Any, h: Any, left: Any) -> tuple[Any, Any]:
    """(the step to try, whether it ends at the save that is `left` ahead): two halves rather than a rest."""
    last = h * m.number(1.0 + 1e-9) >= left
    halved = smaller(m, h, left * m.number(0.5))
    h = m.select(h < left * m.number(0.5), h, halved)
    return m.select(last, left, h), last


def following(m: Any, power: int, h: Any, wanted: Any, most: Any, error: Any, before: Any) -> tuple[Any, Any]:
    """(the step after an accepted one, the error to remember).

    `wanted` is the step before a save or a bound shortened it to h, `most` by what it may grow.
    """
    error = larger(m, error, m.number(LEAST))
    root, previous = _root(m, power, m.number(1.0) / error), _root(m, power, before)
    factor = ((root * root) * root) * previous * m.number(SAFETY)
    after = h * larger(m, smaller(m, factor, most), m.number(1.0 / GROWTH))
    return larger(m, after, m.select(h < wanted, wanted, after)), error


def refused_factor(m: Any, power: int, error: Any) -> Any:
    """By what a step that is refused is shortened; by a tenth where its error is no number."""
    root = _root(m, power, m.number(1.0) / larger(m, error, m.number(1.0)))
    fourth = (root * root) * (root * root)
    return larger(m, fourth * m.number(SAFETY), m.number(SHRINKAGE))


def is_stuck(m: Any, h: Any, way: Any) -> Any:
    """Whether a step is too short to be told from none, `way` the time from the start of the run to the next save."""
    return h < way * m.number(_FINEST)


def _root(m: Any, power: int, x: Any) -> Any:
    """xᵘ."""
    for _ in range(3 if power < 4 else 4):
        x = m.sqrt(x)
    return x


def first_step(m: Any, real: Any, imaginary: Any, dt: Any) -> Any:
    """The first step: what forward Euler could take; a hundredth of the longest where nothing limits that."""
    rate = larger(m, real, imaginary)
    h = m.select(rate > m.number(TINY), m.number(1.0) / larger(m, rate, m.number(TINY)), dt * m.number(0.01))
    return smaller(m, h, dt)
