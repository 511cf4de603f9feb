"""xʸ for any real exponent, written once for every machine (see `sdesim.arithmetic`).

An error of 2⁻⁵³ in ln x would be multiplied by y, so float64 carries the logarithm in two floats, and float32 takes its
powers through float64. Exact products come from Dekker's splitting (Numer. Math. 18, 1971); no fused multiply–add.
"""

from __future__ import annotations

import math

from sdesim.arithmetic import (
    Machine,
    Value,
    estrin,
    exp,
    log_normal_range,
    log_parts,
    normalised,
)
from sdesim.reals import DOUBLE

# ln((1 + s)/(1 − s)) = 2s + (11/16)s³ + s³·W(s²): Chebyshev fit of W to 2⁻⁵⁹
_SERIES = (
    0.13088034850927555, 0.13268638369266825, 0.15386244737621665, 0.18181795547521137, 0.22222222392581045,
    0.28571428570799784, 0.40000000000000885, -0.020833333333333336,
)  # fmt: skip


def _head(m: Machine, x: Value, kept: int) -> Value:
    """x without all but `kept` bits behind the leading one: products of such heads are exact (Dekker 1971)."""
    return m.real(m.bits(x) & m.word(0xFFFFFFFFFFFFFFFF ^ ((1 << (52 - kept)) - 1)))


def _log_pair(m: Machine, x: Value) -> tuple[Value, Value]:
    """ln x = head + rest to about 2⁻⁶³ relative, for a positive float64; the head has 21 bits.

    With s = f/(2 + f) = h + l, h of 16 bits: 2h and (11/16)h³ are exact, and what is left is less than 2⁻¹¹ of them,
    so that plain products serve: 2l + (11/16)(s³ − h³) + s³W(s²), s³ − h³ = l(s² + sh + h²).
    """
    scaled, shift = normalised(m, x)
    k, f = log_parts(m, scaled)
    k, part = k + shift, m.number(11.0 / 16.0)
    inverse = m.number(1.0) / (m.number(2.0) + f)
    s = f * inverse
    h, f_head = _head(m, s, 15), _head(m, f, 20)
    twice = h + h
    low = (((f - twice) - h * f_head) - h * (f - f_head)) * inverse
    square, z = h * h, s * s
    cube = part * (square * h)
    tail = low * (m.number(2.0) + part * (s * (s + h) + square)) + s * z * estrin(m, z, _SERIES)
    tail = tail + k * m.number(m.form.ln2[1])
    big = k * m.number(m.form.ln2[0])
    head = _head(m, big + (twice + (cube + tail)), 20)
    return head, (((big - head) + twice) + cube) + tail


def _power_of_positive(m: Machine, x: Value, y: Value) -> Value:
    """xʸ for x > 0 in any range, whatever for others."""
    most = m.number(2.0**66)  # from there on the result is 0, 1 or ∞ for any x
    bounded = m.select(y > most, most, m.select(y < -most, -most, y))
    if m.form is not DOUBLE:
        wide = m.wide()
        log = log_normal_range(wide, m.widen(x))  # a subnormal of the narrow format is a normal number of the wide one
        return m.narrow(exp(wide, m.widen(bounded) * log))
    high, low = _log_pair(m, x)
    y_head = _head(m, bounded, 20)
    big, small = y_head * high, (bounded - y_head) * high + bounded * low
    p = big + small
    return exp(m, p, m.select(m.abs(p) < m.number(800.0), small - (p - big), m.number(0.0)))


def power(m: Machine, x: Value, y: Value) -> Value:
    """xʸ by exp(y·ln|x|); the signs and limits of IEEE pow.

    >>> import numpy as np
    >>> from sdesim.arithmetic import NUMPY
    >>> float(power(NUMPY, np.float64(-2.0), np.float64(3.0)))
    -8.0
    """
    a = m.abs(x)
    one, zero, inf, nan = (m.number(v) for v in (1.0, 0.0, math.inf, math.nan))
    limit = m.select(y > zero, one, m.select(y < zero, -one, zero))  # exponent's sign, for x = 0 and ∞
    at_zero, at_inf = m.select(limit > zero, zero, inf), m.select(limit > zero, inf, zero)
    r = m.select(a == zero, at_zero, m.select(a == inf, at_inf, _power_of_positive(m, a, y)))
    magic = m.number(m.form.magic)
    t = y + magic
    whole = (t - magic) == y
    large = m.abs(y) >= m.number(2.0**m.form.mantissa)  # from there on every float is an integer; taken as even
    odd = (m.bits(t) & m.word(1)) != m.word(0)
    fraction = m.select(a == zero, r, m.select(a == inf, r, nan))
    negative = m.select(large, r, m.select(whole, m.select(odd, -r, r), fraction))
    r = m.select((m.bits(x) & m.word(m.form.sign)) != m.word(0), negative, r)
    r = m.select(x != x, x, m.select(y != y, m.select(x == one, one, y), r))
    return m.select(y == zero, one, r)
