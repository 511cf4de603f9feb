"""The state vector that a field method computes with: one value for each state.

In the reference the values are arrays; in a trace they are graph nodes, and `lift` turns each number of the method
into a runtime scalar of the kernel. The integer 0 stands for a value that is zero by structure (the noise of a state
without noise) and is never added, so that both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Vector:
    """Values of all states under + and −, products with numbers and, value by value, with another vector.

    >>> list(Vector([1.0, 2.0]) * 3.0 + Vector([0, 1.0]))
    [3.0, 7.0]
    """

    __slots__ = ("lift", "values")

    def __init__(self, values: Iterable[Any], lift: Callable[[float], Any] = float) -> None:
        self.values, self.lift = list(values), lift

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __add__(self, other: Vector) -> Vector:
        return Vector([_add(a, b) for a, b in zip(self, other)], self.lift)

    def __sub__(self, other: Vector) -> Vector:
        return Vector([a if _absent(b) else -b if _absent(a) else a - b for a, b in zip(self, other)], self.lift)

    def __mul__(self, other: float | Vector) -> Vector:
        if isinstance(other, Vector):
            return Vector([0 if _absent(a) or _absent(b) else a * b for a, b in zip(self, other)], self.lift)
        factor = self.lift(other)
        return Vector([0 if _absent(a) else a * factor for a in self], self.lift)

    __rmul__ = __mul__


def _absent(value: Any) -> bool:
    return type(value) is int and value == 0


def _add(a: Any, b: Any) -> Any:
    return b if _absent(a) else a if _absent(b) else a + b
