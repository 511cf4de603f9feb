"""xʸ for any real exponent, written once for every machine (see `sdesim.arithmetic`).

The logarithm is carried in two floats: an error of 2⁻⁵³ in ln x would be multiplied by y. Exact products come from
Dekker's splitting (Numer. Math. 18, 1971), since fused multiply–add is not assumed.
"""

from __future__ import annotations

import math

from sdesim.arithmetic import (
    LN2_HIGH,
    LN2_LOW,
    MAGIC,
    SIGN,
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


# 2/(2n + 5) for n = 9 … 0: the series of 2·artanh s beyond s³, to 2⁻⁵⁴ for s² ≤ 0.0295
_TAIL = tuple(2.0 / (2 * n + 5) for n in range(9, -1, -1))
_TWO_THIRDS = 0.6666666666666666, 3.700743415417188e-17


def _log_pair(m: Machine, x: Value) -> tuple[Value, Value]:
    """ln x = high + low to about 2⁻⁶⁴ relative, for a positive normal or subnormal x.

    ln(1 + f) = 2s + ⅔s³ + s⁵·Q(s²), s = f/(2 + f); s, ⅔s² and the sums are carried in two floats.
    """
    scaled, shift = normalised(m, x)
    k, f = log_parts(m, scaled)
    k = k + shift
    d = m.f64(2.0) + f
    s = f / d
    p, e = _product(m, s, d)
    s_low = (((f - p) - e) - s * (f - (d - m.f64(2.0)))) / d
    z, z_low = _product(m, s, s)
    z_low = z_low + m.f64(2.0) * s * s_low
    t, t_low = _product(m, z, m.f64(_TWO_THIRDS[0]))
    t_low = t_low + (z * m.f64(_TWO_THIRDS[1]) + z_low * m.f64(_TWO_THIRDS[0]))
    rest = z * z * horner(m, z, _TAIL)
    u = t + rest
    u_low = ((t - u) + rest) + t_low
    v, v_low = _product(m, s, u)
    v_low = v_low + (s * u_low + s_low * u)
    big, small = k * m.f64(LN2_HIGH), m.f64(2.0) * s
    sum_ = big + small
    high = sum_ + v
    low = ((big - sum_) + small) + ((sum_ - high) + v) + (v_low + m.f64(2.0) * s_low + k * m.f64(LN2_LOW))
    total = high + low
    return total, (high - total) + low


def power(m: Machine, x: Value, y: Value) -> Value:
    """xʸ by exp(y·ln|x|) with the logarithm in two floats; the signs and limits of IEEE pow.

    >>> import numpy as np
    >>> from sdesim.arithmetic import NUMPY
    >>> float(power(NUMPY, np.float64(-2.0), np.float64(3.0)))
    -8.0
    """
    a = m.abs(x)
    one, zero, inf, nan = m.f64(1.0), m.f64(0.0), m.f64(math.inf), m.f64(math.nan)
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
    large = m.abs(y) >= m.f64(4503599627370496.0)  # from 2⁵² on every float is an integer; taken as even
    odd = (m.bits(t) & m.u64(1)) != m.u64(0)
    fraction = m.select(a == zero, r, m.select(a == inf, r, nan))
    negative = m.select(large, r, m.select(whole, m.select(odd, -r, r), fraction))
    r = m.select((m.bits(x) & m.u64(SIGN)) != m.u64(0), negative, r)
    r = m.select(x != x, x, m.select(y != y, y, r))
    return m.select(y == zero, one, m.select(x == one, one, r))
