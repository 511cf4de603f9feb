"""xʸ for any real exponent, written once for every machine (see `sdesim.arithmetic`).

The logarithm is carried in two floats: an error of 2⁻⁵³ in ln x would be multiplied by y. Exact products come from
Dekker's splitting (Numer. Math. 18, 1971), since fused multiply–add is not assumed.
"""

from __future__ import annotations

import math

from sdesim.arithmetic import (
    LN2_HIGH,
    LN2_LOW,
    LOG,
    MAGIC,
    Machine,
    Value,
    exp,
    horner,
    log_parts,
    normalised,
)


def _split(m: Machine, x: Value) -> tuple[Value, Value]:
    """x = high + low with 26 bits each (Dekker 1971): products of such halves are exact."""
    high = m.real(m.bits(x) & m.u64(0xFFFFFFFFF8000000))
    return high, x - high


def _product(m: Machine, x: Value, y: Value) -> tuple[Value, Value]:
    """x·y = p + e exactly, without fused multiply–add."""
    p = x * y
    (xh, xl), (yh, yl) = _split(m, x), _split(m, y)
    return p, ((xh * yh - p) + xh * yl + xl * yh) + xl * yl


def _log_pair(m: Machine, x: Value) -> tuple[Value, Value]:
    """ln x = high + low to about 2⁻⁶⁰ relative, for a positive normal or subnormal x."""
    scaled, shift = normalised(m, x)
    k, f = log_parts(m, scaled)
    k = k + shift
    d = m.f64(2.0) + f
    s = f / d
    p, e = _product(m, s, d)
    s_low = (((f - p) - e) - s * (f - (d - m.f64(2.0)))) / d
    z = s * s
    # ln(1 + f) = 2s + s·R(z) with s = f/(2 + f); R is of order z, so its rounding does not show
    tail = s * (horner(m, z, LOG) * z) + m.f64(2.0) * s_low + k * m.f64(LN2_LOW)
    big, small = k * m.f64(LN2_HIGH), m.f64(2.0) * s
    high = big + small
    low = ((big - high) + small) + tail
    total = high + low
    return total, (high - total) + low


def power(m: Machine, x: Value, y: Value) -> Value:
    """xʸ by exp(y·ln|x|) with the logarithm in two floats; the sign and limits of IEEE pow.

    >>> import numpy as np
    >>> from sdesim.arithmetic import NUMPY
    >>> float(power(NUMPY, np.float64(-2.0), np.float64(3.0)))
    -8.0
    """
    a = m.abs(x)
    one, zero, inf = m.f64(1.0), m.f64(0.0), m.f64(math.inf)
    high, low = _log_pair(m, m.select(a == zero, one, m.select(a == inf, one, a)))
    bounded = m.select(y > m.f64(1e300), m.f64(1e300), m.select(y < m.f64(-1e300), m.f64(-1e300), y))
    p, e = _product(m, bounded, high)
    e = m.select(m.abs(p) < m.f64(800.0), e + bounded * low, zero)
    grown = exp(m, p)
    r = m.select(grown < inf, grown + grown * e, grown)
    limit = m.select(y > zero, one, m.select(y < zero, m.f64(-1.0), zero))  # exponent's sign, for x = 0 and ∞
    at_zero = m.select(limit > zero, zero, inf)
    r = m.select(a == zero, at_zero, m.select(a == inf, m.select(limit > zero, inf, zero), r))
    t = y + m.f64(MAGIC)
    whole = (t - m.f64(MAGIC)) == y
    large = m.abs(y) >= m.f64(4503599627370496.0)  # every float beyond 2⁵² is an integer; taken as even
    odd = (m.bits(t) & m.u64(1)) != m.u64(0)
    negative = m.select(large, r, m.select(whole, m.select(odd, -r, r), m.f64(math.nan)))
    r = m.select(x < zero, negative, r)
    r = m.select(x != x, x, m.select(y != y, y, r))
    return m.select(limit == zero, m.select(y == zero, one, r), r)
