"""Elementary functions written once, for every machine that computes with IEEE numbers.

A `Machine` offers float64 and uint64 values with + − × ÷ and comparisons, a select, a correctly rounded √, and the
bit casts between the two. Everything else is built here from those alone, in a fixed order and without fused
multiply–add, so that NumPy arrays (`NUMPY`), LLVM values and CUDA C text give the same bits. All formulas are free of
branches, so that a compiler vectorises them.

Reductions and polynomials follow fdlibm (Sun Microsystems, 1993: e_exp.c, e_log.c, k_sin.c, k_cos.c) and Cody & Waite
(1980): with k = round(x·log₂e), exp x = 2ᵏ·exp(x − k·ln 2), ln 2 held in two parts of which the first times k is
exact. Errors: at most 2 ulp for exp, log, power, sin and cos (|x| ≤ 10⁵ for sin and cos; beyond, an absolute error of
|x|·2⁻⁵², and NaN from 10¹⁵ on, where no digit would be right), 3 ulp for tan, tanh, sinh and cosh.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

# Values are arrays, LLVM values or C text: each machine checks its own, so they are Any here.
Value = Any


class Machine(Protocol):
    """What a kind of number must offer; its values overload + − × ÷, unary −, comparisons and (uint64) & | ^ << >>."""

    def f64(self, value: float) -> Value:
        """A float64 constant."""

    def u64(self, value: int) -> Value:
        """A uint64 constant."""

    def select(self, condition: Value, if_true: Value, if_false: Value) -> Value:
        """`if_true` where the condition holds, else `if_false`; both are computed."""

    def sqrt(self, x: Value) -> Value:
        """The correctly rounded square root."""

    def abs(self, x: Value) -> Value:
        """x with its sign bit cleared."""

    def bits(self, x: Value) -> Value:
        """The float64 x seen as uint64."""

    def real(self, u: Value) -> Value:
        """The uint64 u seen as float64."""


class NumpyMachine:
    """Arrays and NumPy scalars: the reference that the generated kernels are held against."""

    def f64(self, value: float) -> np.float64:
        return np.float64(value)

    def u64(self, value: int) -> np.uint64:
        return np.uint64(value)

    def select(self, condition: Value, if_true: Value, if_false: Value) -> Value:
        return np.where(condition, if_true, if_false)[()]  # type: ignore[call-overload]

    def sqrt(self, x: Value) -> Value:
        return np.sqrt(x)

    def abs(self, x: Value) -> Value:
        return np.abs(x)

    def bits(self, x: Value) -> Value:
        return np.asarray(x, np.float64).view(np.uint64)[()]

    def real(self, u: Value) -> Value:
        return np.asarray(u, np.uint64).view(np.float64)[()]


NUMPY = NumpyMachine()

MAGIC = 6755399441055744.0  # 1.5·2⁵²: adding it rounds to an integer, held in the low bits of the sum
MAGIC_BITS = 0x4338000000000000
_ONE_BITS = 0x3FF0000000000000
_SQRT_HALF_BITS = 0x3FE6A09E00000000
SIGN = 0x8000000000000000
_MANTISSA = 0x000FFFFFFFFFFFFF
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
# exp: 1/n! for n = 13 … 2 (remainder below 2⁻⁵⁷ on |r| ≤ ln2/2); log, sin, cos: fdlibm's minimax coefficients
_EXP = tuple(1.0 / math.factorial(n) for n in range(13, 1, -1))
LOG = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
SIN = (
    1.58969099521155010221e-10,
    -2.50507602534068634195e-08,
    2.75573137070700676789e-06,
    -1.98412698298579493134e-04,
    8.33333333332248946124e-03,
    -1.66666666666666324348e-01,
)
COS = (
    -1.13596475577881948265e-11,
    2.08757232129817482790e-09,
    -2.75573143513906633035e-07,
    2.48015872894767294178e-05,
    -1.38888888888741095749e-03,
    4.16666666666666019037e-02,
)


def horner(m: Machine, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial with the given coefficients, highest power first, by Horner's rule.

    >>> float(horner(NUMPY, np.float64(2.0), (1.0, 0.0, 3.0)))
    7.0
    """
    total = m.f64(coefficients[0])
    for c in coefficients[1:]:
        total = total * x + m.f64(c)
    return total


def estrin(m: Machine, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The same polynomial by Estrin's scheme: neighbours are joined by x, those pairs by x², …

    A few more products than Horner's rule, in a chain of operations that wait for each other of logarithmic length.

    >>> float(estrin(NUMPY, np.float64(2.0), (1.0, 0.0, 3.0)))
    7.0
    """
    terms = [m.f64(c) for c in reversed(coefficients)]
    while len(terms) > 1:
        pairs = [low + x * high for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
        x = x * x
    return terms[0]


def _exp_parts(m: Machine, x: Value) -> tuple[Value, Value]:
    """(k in the low bits, expm1(r)) with x = k·ln 2 + r, |r| ≤ ½ ln 2."""
    t = x * m.f64(1.4426950408889634) + m.f64(MAGIC)
    k = t - m.f64(MAGIC)
    r = (x - k * m.f64(LN2_HIGH)) - k * m.f64(LN2_LOW)
    return m.bits(t), estrin(m, r, _EXP) * (r * r) + r


def exp(m: Machine, x: Value) -> Value:
    """eˣ.

    >>> float(exp(NUMPY, np.float64(0.0)))
    1.0
    """
    clipped = m.select(x > m.f64(709.79), m.f64(709.79), m.select(x < m.f64(-745.2), m.f64(-745.2), x))
    t, em = _exp_parts(m, clipped)
    k = t - m.u64(MAGIC_BITS)
    # 2ᵏ in two factors, so that neither over- nor underflows before the product does
    half = m.bits(clipped * m.f64(0.7213475204444817) + m.f64(MAGIC)) - m.u64(MAGIC_BITS)
    y = (m.f64(1.0) + em) * _power_of_two(m, half) * _power_of_two(m, k - half)
    return m.select(x != x, x, m.select(x > m.f64(709.782712893384), m.f64(math.inf), y))


def _power_of_two(m: Machine, k: Value) -> Value:
    return m.real((k + m.u64(1023)) << m.u64(52))


def expm1(m: Machine, x: Value) -> Value:
    """eˣ − 1 for −700 ≤ x ≤ 700, accurate near 0."""
    t, em = _exp_parts(m, x)
    scale = _power_of_two(m, t - m.u64(MAGIC_BITS))
    return scale * em + (scale - m.f64(1.0))


def log_parts(m: Machine, x: Value) -> tuple[Value, Value]:
    """(k as a float, f) with x = 2ᵏ·(1 + f), √½ < 1 + f < √2, for a normal positive x."""
    t = m.bits(x) + m.u64(_ONE_BITS - _SQRT_HALF_BITS)
    k = m.real((t >> m.u64(52)) | m.u64(0x4330000000000000)) - m.f64(4503599627370496.0 + 1023.0)
    return k, m.real((t & m.u64(_MANTISSA)) + m.u64(_SQRT_HALF_BITS)) - m.f64(1.0)


def log_normal_range(m: Machine, x: Value) -> Value:
    """The natural logarithm of a normal, positive, finite x: what the noise needs, without special cases."""
    k, f = log_parts(m, x)
    s = f / (m.f64(2.0) + f)
    z = s * s
    half_square = m.f64(0.5) * f * f
    tail = s * (half_square + horner(m, z, LOG) * z) + k * m.f64(LN2_LOW)
    return k * m.f64(LN2_HIGH) - ((half_square - tail) - f)


def normalised(m: Machine, x: Value) -> tuple[Value, Value]:
    """(x, 0), or (2⁵⁴·x, −54) for a subnormal x."""
    tiny = x < m.f64(2.2250738585072014e-308)
    scaled = m.select(tiny, x * m.f64(18014398509481984.0), x)
    return scaled, m.select(tiny, m.f64(-54.0), m.f64(0.0))


def log(m: Machine, x: Value) -> Value:
    """ln x: −∞ at 0, NaN below.

    >>> float(log(NUMPY, np.float64(1.0)))
    0.0
    """
    scaled, shift = normalised(m, x)
    # the correction for subnormals is exact enough: 54·ln 2 is added to numbers below −708
    y = log_normal_range(m, scaled) + shift * m.f64(math.log(2.0))
    y = m.select(x == m.f64(0.0), m.f64(-math.inf), m.select(x < m.f64(0.0), m.f64(math.nan), y))
    return m.select(x < m.f64(math.inf), y, x)


def sin_core(m: Machine, x: Value, z: Value) -> Value:
    """sin x for |x| ≤ π/4, z = x²."""
    return x + x * z * horner(m, z, SIN)


def cos_core(m: Machine, z: Value) -> Value:
    """cos √z for √z ≤ π/4."""
    half = m.f64(0.5) * z
    w = m.f64(1.0) - half
    return w + (((m.f64(1.0) - w) - half) + z * z * horner(m, z, COS))


def _sin_shifted(m: Machine, x: Value, quarter: int) -> Value:
    """sin(x + quarter·π/2)."""
    t = x * m.f64(0.6366197723675814) + m.f64(MAGIC)
    k = t - m.f64(MAGIC)
    n = m.bits(t) + m.u64(quarter)
    r = ((x - k * m.f64(_HALF_PI[0])) - k * m.f64(_HALF_PI[1])) - k * m.f64(_HALF_PI[2])
    z = r * r
    y = m.select((n & m.u64(1)) != m.u64(0), cos_core(m, z), sin_core(m, r, z))
    y = m.real(m.bits(y) ^ ((n & m.u64(2)) << m.u64(62)))
    return m.select(m.abs(x) < m.f64(1e15), y, m.f64(math.nan))


def sin(m: Machine, x: Value) -> Value:
    """sin x, x in radians."""
    return _sin_shifted(m, x, 0)


def cos(m: Machine, x: Value) -> Value:
    """cos x, x in radians."""
    return _sin_shifted(m, x, 1)


def tan(m: Machine, x: Value) -> Value:
    """tan x, x in radians."""
    return sin(m, x) / cos(m, x)


def tanh(m: Machine, x: Value) -> Value:
    """tanh x = −e/(2 + e), e = expm1(−2|x|), with the sign of x."""
    a = m.abs(x)
    e = expm1(m, m.f64(-2.0) * m.select(a > m.f64(22.0), m.f64(22.0), a))
    y = -e / (m.f64(2.0) + e)
    return m.select(x != x, x, with_sign(m, m.abs(y), x))


def with_sign(m: Machine, magnitude: Value, x: Value) -> Value:
    """A non-negative magnitude given the sign of x."""
    return m.real(m.bits(magnitude) | (m.bits(x) & m.u64(SIGN)))


def sinh(m: Machine, x: Value) -> Value:
    """sinh x = ½(e + e/(e + 1)), e = expm1|x|."""
    a = m.abs(x)
    e = expm1(m, m.select(a > m.f64(22.0), m.f64(22.0), a))
    small = m.f64(0.5) * (e + e / (e + m.f64(1.0)))
    root = exp(m, m.f64(0.5) * a)
    y = m.select(a > m.f64(22.0), m.f64(0.5) * root * root, small)
    return m.select(x != x, x, with_sign(m, y, x))


def cosh(m: Machine, x: Value) -> Value:
    """cosh x = ½(e^{|x|} + e^{−|x|})."""
    a = m.abs(x)
    root = exp(m, m.f64(0.5) * a)
    e = root * root
    return m.select(a > m.f64(22.0), m.f64(0.5) * root * root, m.f64(0.5) * (e + m.f64(1.0) / e))


def sign(m: Machine, x: Value) -> Value:
    """−1, 0 or 1; NaN for NaN."""
    return m.select(x > m.f64(0.0), m.f64(1.0), m.select(x < m.f64(0.0), m.f64(-1.0), x))


def minimum(m: Machine, a: Value, b: Value) -> Value:
    """The smaller of two, NaN if either is."""
    return m.select(a != a, a, m.select(a < b, a, b))


def maximum(m: Machine, a: Value, b: Value) -> Value:
    """The larger of two, NaN if either is."""
    return m.select(a != a, a, m.select(a > b, a, b))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "exp": exp,
    "log": log,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "sinh": sinh,
    "cosh": cosh,
    "tanh": tanh,
    "sign": sign,
    "min": minimum,
    "max": maximum,
}
