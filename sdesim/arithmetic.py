"""Elementary functions written once, for every machine that computes with IEEE numbers.

A `Machine` offers real numbers of one format (float64 or float32, `sdesim.reals`) and unsigned words of the same width,
with + − × ÷ and comparisons, a select, a correctly rounded √, and the bit casts between the two. Everything else is
built here from those alone, in a fixed order and without fused multiply–add, so that NumPy arrays (`NUMPY`, `NUMPY32`),
LLVM values and CUDA C text give the same bits. All formulas are free of branches, so that a compiler vectorises them.

Reductions and polynomials follow fdlibm (Sun Microsystems, 1993: e_exp.c, e_log.c, k_sin.c, k_cos.c) and Cody & Waite
(1980): with k = round(x·log₂e), exp x = 2ᵏ·exp(x − k·ln 2), ln 2 held in two parts of which the first times k is
exact. Errors: at most 2 ulp for exp, log, power, sin and cos (|x| ≤ 10⁵ for sin and cos, 10⁴ in float32; beyond, an
absolute error of |x|·2⁻⁵² or |x|·2⁻²³, and NaN from 10¹⁵ or 4·10⁶ on, where no digit would be right), 3 ulp for tan,
tanh, sinh and cosh (4 in float32).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from sdesim.reals import DOUBLE, SINGLE, Format

# Values are arrays, LLVM values or C text: each machine checks its own, so they are Any here.
Value = Any


class Machine(Protocol):
    """What a kind of number must offer; its values overload + − × ÷, unary −, comparisons and (words) & | ^ << >>."""

    form: Format

    def number(self, value: float) -> Value:
        """A real constant."""

    def word(self, value: int) -> Value:
        """An unsigned constant as wide as a real number."""

    def u64(self, value: int) -> Value:
        """A uint64 constant."""

    def select(self, condition: Value, if_true: Value, if_false: Value) -> Value:
        """`if_true` where the condition holds, else `if_false`; both are computed."""

    def sqrt(self, x: Value) -> Value:
        """The correctly rounded square root."""

    def abs(self, x: Value) -> Value:
        """x with its sign bit cleared."""

    def bits(self, x: Value) -> Value:
        """The real x seen as a word."""

    def real(self, u: Value) -> Value:
        """The word u seen as a real number."""

    def low(self, u: Value) -> Value:
        """The low bits of a uint64 as a word."""

    def wide(self) -> Machine:
        """The machine of float64 that works in the same place."""

    def widen(self, x: Value) -> Value:
        """The real x as float64."""

    def narrow(self, x: Value) -> Value:
        """The float64 x rounded to this machine's format."""


class NumpyMachine:
    """Arrays and NumPy scalars: the reference that the generated kernels are held against."""

    def __init__(self, form: Format) -> None:
        self.form = form
        self._real, self._word = np.dtype(form.name).type, np.dtype(f"uint{form.bits}").type

    def number(self, value: float) -> Value:
        return self._real(value)

    def word(self, value: int) -> Value:
        return self._word(value)

    def u64(self, value: int) -> np.uint64:
        return np.uint64(value)

    def select(self, condition: Value, if_true: Value, if_false: Value) -> Value:
        return np.where(condition, if_true, if_false)[()]  # type: ignore[call-overload]

    def sqrt(self, x: Value) -> Value:
        return np.sqrt(x)

    def abs(self, x: Value) -> Value:
        return np.abs(x)

    def bits(self, x: Value) -> Value:
        return np.asarray(x, self._real).view(self._word)[()]

    def real(self, u: Value) -> Value:
        return np.asarray(u, self._word).view(self._real)[()]

    def low(self, u: Value) -> Value:
        return np.asarray(u).astype(self._word)[()]

    def wide(self) -> Machine:
        return NUMPY

    def widen(self, x: Value) -> Value:
        return np.asarray(x).astype(np.float64)[()]

    def narrow(self, x: Value) -> Value:
        return np.asarray(x).astype(self._real)[()]


NUMPY, NUMPY32 = NumpyMachine(DOUBLE), NumpyMachine(SINGLE)


def horner(m: Machine, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial with the given coefficients, highest power first, by Horner's rule.

    >>> float(horner(NUMPY, np.float64(2.0), (1.0, 0.0, 3.0)))
    7.0
    """
    total = m.number(coefficients[0])
    for c in coefficients[1:]:
        total = total * x + m.number(c)
    return total


def estrin(m: Machine, x: Value, coefficients: tuple[float, ...]) -> Value:
    """The same polynomial by Estrin's scheme: neighbours are joined by x, those pairs by x², …

    A few more products than Horner's rule, in a chain of operations that wait for each other of logarithmic length.

    >>> float(estrin(NUMPY, np.float64(2.0), (1.0, 0.0, 3.0)))
    7.0
    """
    terms = [m.number(c) for c in reversed(coefficients)]
    while len(terms) > 1:
        pairs = [low + x * high for low, high in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
        x = x * x
    return terms[0]


def _exp_parts(m: Machine, x: Value) -> tuple[Value, Value]:
    """(k + twice the exponent's bias in the low bits, expm1(r)) with x = k·ln 2 + r, |r| ≤ ½ ln 2."""
    shifted = m.number(m.form.magic + 2.0 * m.form.bias)
    t = x * m.number(1.0 / math.log(2.0)) + shifted
    k = t - shifted
    r = (x - k * m.number(m.form.ln2[0])) - k * m.number(m.form.ln2[1])
    return m.bits(t), estrin(m, r, m.form.exp) * (r * r) + r


def exp(m: Machine, x: Value, rest: Value | None = None) -> Value:
    """eˣ, or e^(x + rest) with a rest below the precision of x.

    >>> float(exp(NUMPY, np.float64(0.0)))
    1.0
    """
    low, high = (m.number(v) for v in m.form.exp_range)
    clipped = m.select(high < x, high, m.select(low > x, low, x))
    t, em = _exp_parts(m, clipped)
    if rest is not None:
        em = em + rest * (m.number(1.0) + em)
    # 2ᵏ in two factors, so that neither over- nor underflows before the product does
    half, place = t >> m.word(1), m.word(m.form.mantissa)
    return (m.number(1.0) + em) * m.real(half << place) * m.real((t - half) << place)


def expm1(m: Machine, x: Value) -> Value:
    """eˣ − 1 where 2ᵏ is a normal number (|x| ≤ 700, 87 in float32), accurate near 0."""
    t, em = _exp_parts(m, x)
    scale = m.real((t - m.word(m.form.bias)) << m.word(m.form.mantissa))
    return scale * em + (scale - m.number(1.0))


def log_parts(m: Machine, x: Value) -> tuple[Value, Value]:
    """(k as a real number, f) with x = 2ᵏ·(1 + f), √½ < 1 + f < √2, for a normal positive x."""
    form, place = m.form, m.word(m.form.mantissa)
    root = _ROOT_HALF[form.bits]
    t = m.bits(x) + m.word(form.one - root)
    whole = 2.0**form.mantissa  # an integer in its low bits becomes one in the number
    k = m.real((t >> place) | m.word((form.bias + form.mantissa) << form.mantissa)) - m.number(whole + form.bias)
    return k, m.real((t & m.word(form.fraction)) + m.word(root)) - m.number(1.0)


_ROOT_HALF = {64: 0x3FE6A09E00000000, 32: 0x3F3504F0}  # √½ without its last bits


def log_normal_range(m: Machine, x: Value) -> Value:
    """The natural logarithm of a normal, positive, finite x, without special cases."""
    k, f = log_parts(m, x)
    s = f / (m.number(2.0) + f)
    z = s * s
    half_square = m.number(0.5) * f * f
    tail = s * (half_square + horner(m, z, m.form.log) * z) + k * m.number(m.form.ln2[1])
    return k * m.number(m.form.ln2[0]) - ((half_square - tail) - f)


def normalised(m: Machine, x: Value) -> tuple[Value, Value]:
    """(x, 0), or (2ⁿ·x, −n) for a subnormal x."""
    tiny, shift = x < m.number(m.form.tiny), m.form.mantissa + 2
    scaled = m.select(tiny, x * m.number(2.0**shift), x)
    return scaled, m.select(tiny, m.number(-float(shift)), m.number(0.0))


def log(m: Machine, x: Value) -> Value:
    """ln x: −∞ at 0, NaN below.

    >>> float(log(NUMPY, np.float64(1.0)))
    0.0
    """
    scaled, shift = normalised(m, x)
    # the correction for subnormals is exact enough: it is added to numbers of a larger size
    y = log_normal_range(m, scaled) + shift * m.number(math.log(2.0))
    zero, inf = m.number(0.0), m.number(math.inf)
    y = m.select(x == zero, -inf, m.select(x < zero, m.number(math.nan), y))
    return m.select(x < inf, y, x)


def sin_core(m: Machine, x: Value, z: Value) -> Value:
    """sin x for |x| ≤ π/4, z = x²."""
    return x + x * z * horner(m, z, m.form.sin)


def cos_core(m: Machine, z: Value) -> Value:
    """cos √z for √z ≤ π/4."""
    one, half = m.number(1.0), m.number(0.5) * z
    w = one - half
    return w + (((one - w) - half) + z * z * horner(m, z, m.form.cos))


def _sin_shifted(m: Machine, x: Value, quarter: int) -> Value:
    """sin(x + quarter·π/2)."""
    magic = m.number(m.form.magic)
    t = x * m.number(2.0 / math.pi) + magic
    k = t - magic
    n = m.bits(t) + m.word(quarter)
    r = x
    for part in m.form.half_pi:
        r = r - k * m.number(part)
    z = r * r
    y = m.select((n & m.word(1)) != m.word(0), cos_core(m, z), sin_core(m, r, z))
    y = m.real(m.bits(y) ^ ((n & m.word(2)) << m.word(m.form.bits - 2)))
    return m.select(m.abs(x) < m.number(m.form.angles), y, m.number(math.nan))


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
    a, limit = m.abs(x), m.number(m.form.saturated)
    e = expm1(m, m.number(-2.0) * m.select(a > limit, limit, a))
    y = -e / (m.number(2.0) + e)
    return m.select(x != x, x, with_sign(m, m.abs(y), x))


def with_sign(m: Machine, magnitude: Value, x: Value) -> Value:
    """A non-negative magnitude given the sign of x."""
    return m.real(m.bits(magnitude) | (m.bits(x) & m.word(m.form.sign)))


def sinh(m: Machine, x: Value) -> Value:
    """sinh x = ½(e + e/(e + 1)), e = expm1|x|."""
    a, half, limit = m.abs(x), m.number(0.5), m.number(m.form.saturated)
    e = expm1(m, m.select(a > limit, limit, a))
    small = half * (e + e / (e + m.number(1.0)))
    root = exp(m, half * a)
    y = m.select(a > limit, half * root * root, small)
    return m.select(x != x, x, with_sign(m, y, x))


def cosh(m: Machine, x: Value) -> Value:
    """cosh x = ½(e^{|x|} + e^{−|x|})."""
    a, half, one = m.abs(x), m.number(0.5), m.number(1.0)
    root = exp(m, half * a)
    e = root * root
    return m.select(a > m.number(m.form.saturated), half * root * root, half * (e + one / e))


def sign(m: Machine, x: Value) -> Value:
    """−1, 0 or 1; NaN for NaN."""
    zero = m.number(0.0)
    return m.select(x > zero, m.number(1.0), m.select(x < zero, m.number(-1.0), x))


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
