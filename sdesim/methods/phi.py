"""The φ functions of exponential methods as expressions, for real and for complex arguments.

    φ₀ = eᶻ,   φₙ = (φₙ₋₁ − 1/(n−1)!)/z = Σ zʲ/(j + n)!

The quotient cancels near z = 0, where the series is summed instead. A complex value is a `Pair` of real ones, so that
arrays, graph nodes and generated kernels compute it by the same real operations.
"""

from __future__ import annotations

from math import factorial
from typing import Any

from sdesim.expressions import Expr, const, function, symbol, where
from sdesim.methods.vector import ZERO, add, is_structural_zero, multiply, subtract

_TERMS = 18  # 1/19! < 2⁻⁵⁶: the remainder of the series for |z| < 1


class Pair:
    """A complex value re + i·im of two real ones; a part that is the structural zero takes part in no operation.

    >>> z = Pair(1.0, 2.0) * Pair(3.0, ZERO)
    >>> z.re, z.im
    (3.0, 6.0)
    """

    __slots__ = ("im", "re")
    __array_ufunc__ = None  # an array times a pair is the pair's business

    def __init__(self, re: Any, im: Any = ZERO) -> None:
        self.re, self.im = re, im

    def __add__(self, other: Any) -> Pair:
        if not isinstance(other, Pair):
            return Pair(add(self.re, other), self.im)
        return Pair(add(self.re, other.re), add(self.im, other.im))

    def __sub__(self, other: Any) -> Pair:
        if not isinstance(other, Pair):
            return Pair(subtract(self.re, other), self.im)
        return Pair(subtract(self.re, other.re), subtract(self.im, other.im))

    def __mul__(self, other: Any) -> Pair:
        if not isinstance(other, Pair):
            return Pair(multiply(self.re, other), multiply(self.im, other))
        re = subtract(multiply(self.re, other.re), multiply(self.im, other.im))
        return Pair(re, add(multiply(self.re, other.im), multiply(self.im, other.re)))

    __rmul__ = __mul__

    def __truediv__(self, other: Pair) -> Pair:
        size = other.re * other.re + other.im * other.im
        product = self * Pair(other.re, -other.im)
        return Pair(product.re / size, product.im / size)

    def __neg__(self) -> Pair:
        return Pair(-self.re, self.im if is_structural_zero(self.im) else -self.im)


REAL = symbol("z")
COMPLEX = Pair(symbol("re z"), symbol("im z"))


def _phi(order: int) -> Expr:
    """φ of the real symbol z."""
    if order == 0:
        return function("exp", REAL)
    series: Expr = const(1.0 / factorial(order + _TERMS - 1))
    for j in range(_TERMS - 2, -1, -1):
        series = series * REAL + 1.0 / factorial(order + j)
    return where(abs(REAL) < 1.0, series, (_phi(order - 1) - 1.0 / factorial(order - 1)) / REAL)


def _complex_phi(order: int) -> Pair:
    """φ of the complex symbol z, as the expressions of its two parts."""
    z = COMPLEX
    if order == 0:
        size = function("exp", z.re)
        return Pair(size * function("cos", z.im), size * function("sin", z.im))
    series = Pair(const(1.0 / factorial(order + _TERMS - 1)))
    for j in range(_TERMS - 2, -1, -1):
        series = series * z + const(1.0 / factorial(order + j))
    quotient = (_complex_phi(order - 1) - const(1.0 / factorial(order - 1))) / z
    near = z.re * z.re + z.im * z.im < 1.0
    return Pair(where(near, series.re, quotient.re), where(near, series.im, quotient.im))


PHI: tuple[Expr, ...] = tuple(_phi(order) for order in range(6))
COMPLEX_PHI: tuple[Pair, ...] = tuple(_complex_phi(order) for order in range(6))
SQRT: Expr = function("sqrt", REAL)
