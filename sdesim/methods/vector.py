"""State vectors for methods written as mathematics: a list of components that adds, subtracts and scales.

A component is an array (the reference), a symbolic expression (the trace), or the structural zero `ZERO`, which
takes part in no operation: a drift that is absent costs nothing and cannot change a bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ZERO = 0
"""The structural zero: the integer 0 itself; a computed 0.0 is a number like any other."""


def is_structural_zero(value: Any) -> bool:
    """Whether the value is the structural zero, not a number that happens to vanish."""
    return type(value) is int and value == 0


def add(a: Any, b: Any) -> Any:
    """a + b, a structural zero left out."""
    return b if is_structural_zero(a) else a if is_structural_zero(b) else a + b


def subtract(a: Any, b: Any) -> Any:
    """a − b, a structural zero left out."""
    return a if is_structural_zero(b) else -b if is_structural_zero(a) else a - b


def multiply(a: Any, b: Any) -> Any:
    """a·b, structurally zero if one of them is."""
    return ZERO if is_structural_zero(a) or is_structural_zero(b) else a * b


class Vector(list[Any]):
    """Components of a state; + and − between vectors, * and / by a scalar or component by component.

    >>> Vector([1.0, 2.0]) + Vector([0.5, ZERO]) * 2.0
    [2.0, 2.0]
    """

    def _pairs(self, other: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(other, Vector) and len(other) != len(self):
            raise ValueError(f"vectors of {len(self)} and {len(other)} components do not combine")
        return zip(self, other if isinstance(other, Vector) else [other] * len(self), strict=True)

    def __add__(self, other: Any) -> Vector:
        return Vector(add(a, b) for a, b in self._pairs(other))

    def __sub__(self, other: Any) -> Vector:
        return Vector(subtract(a, b) for a, b in self._pairs(other))

    def __mul__(self, other: Any) -> Vector:
        return Vector(multiply(a, b) for a, b in self._pairs(other))

    def __rmul__(self, other: Any) -> Vector:
        return Vector(multiply(b, a) for a, b in self._pairs(other))

    def __truediv__(self, other: Any) -> Vector:
        return Vector(a if is_structural_zero(a) else a / b for a, b in self._pairs(other))

    def __neg__(self) -> Vector:
        return Vector(a if is_structural_zero(a) else -a for a in self)
