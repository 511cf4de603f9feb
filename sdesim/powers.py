"""xʸ for any real exponent, written once for every machine (see `sdesim.arithmetic`).

The logarithm is carried in two floats: an error of 2⁻⁵³ in ln x would be multiplied by y. Exact products come from
Dekker's splitting (Numer. Math. 18, 1971) as fdlibm uses it (Sun Microsystems 1993, e_pow.c); no fused multiply–add.
"""

from __future__ import annotations

import math

from sdesim.arithmetic import (
    Machine,
    Value,
    estrin,
    exp,
    log_parts,
    normalised,
)


def _head(m: Machine, x: Value) -> Value:
    """x without its last 32 bits: products of two such numbers are exact (Dekker 1971)."""
    return m.real(m.bits(x) & m.u64(0xFFFFFFFF00000000))


# (3/2s)·ln(1 + f) = 3 + s² + s⁴·(3/5 + 3/7 s² + 3/9 s⁴ + …): the last factor, Chebyshev fit to 2⁻⁵⁸
_SERIES = (
    0.1758457654214663,
    0.17559372811383578,
    0.20002206357338018,
    0.23076892456343187,
    0.27272727502971605,
    0.3333333333248435,
    0.4285714285714405,
    0.6,
)
_TWO_THIRDS = 0.6666666666666666
_TWO_THIRDS_HEAD, _TWO_THIRDS_REST = 0.6666665077209473, 1.5894571940104166e-07


def _log_pair(m: Machine, x: Value) -> tuple[Value, Value]:
    """ln x = head + rest to about 2⁻⁶⁴ relative, for a positive normal or subnormal x; the head has 21 bits.

    ln(1 + f) = ⅔ s (3 + s² + …) with s = f/(2 + f); every factor is split in a head and a rest as in fdlibm's e_pow.c.
    """
    scaled, shift = normalised(m, x)
    k, f = log_parts(m, scaled)
    k = k + shift
    three, d = m.number(3.0), m.number(2.0) + f
    inverse = m.number(1.0) / d
    s = f * inverse
    s_head, d_head = _head(m, s), _head(m, d)
    s_rest = ((f - s_head * d_head) - s_head * (f - (d_head - m.number(2.0)))) * inverse
    z, z_head = s * s, s_head * s_head
    r = z * z * estrin(m, z, _SERIES) + s_rest * (s_head + s)
    t_head = _head(m, three + z_head + r)
    t_rest = r - ((t_head - three) - z_head)
    u, v = s_head * t_head, s_rest * t_head + t_rest * s
    p_head = _head(m, u + v)
    p_rest = v - (p_head - u)
    big, y = k * m.number(m.form.ln2[0]), m.number(_TWO_THIRDS_HEAD) * p_head
    rest = m.number(_TWO_THIRDS_REST) * p_head + p_rest * m.number(_TWO_THIRDS) + k * m.number(m.form.ln2[1])
    head = _head(m, (y + rest) + big)
    return head, rest - ((head - big) - y)


def power(m: Machine, x: Value, y: Value) -> Value:
    """xʸ by exp(y·ln|x|) with the logarithm in two floats; the signs and limits of IEEE pow.

    >>> import numpy as np
    >>> from sdesim.arithmetic import NUMPY
    >>> float(power(NUMPY, np.float64(-2.0), np.float64(3.0)))
    -8.0
    """
    a = m.abs(x)
    one, zero, inf, nan = m.number(1.0), m.number(0.0), m.number(math.inf), m.number(math.nan)
    high, low = _log_pair(m, m.select(a == zero, one, m.select(a == inf, one, a)))
    bounded = m.select(y > m.number(1e300), m.number(1e300), m.select(y < m.number(-1e300), m.number(-1e300), y))
    y_head = _head(m, bounded)
    big, small = y_head * high, (bounded - y_head) * high + bounded * low
    p = big + small
    e = m.select(m.abs(p) < m.number(800.0), small - (p - big), zero)
    grown = exp(m, p)
    r = m.select(grown < inf, grown + grown * e, grown)
    limit = m.select(y > zero, one, m.select(y < zero, m.number(-1.0), zero))  # exponent's sign, for x = 0 and ∞
    at_zero = m.select(limit > zero, zero, inf)
    r = m.select(a == zero, at_zero, m.select(a == inf, m.select(limit > zero, inf, zero), r))
    t = y + m.number(m.form.magic)
    whole = (t - m.number(m.form.magic)) == y
    large = m.abs(y) >= m.number(4503599627370496.0)  # from 2⁵² on every float is an integer; taken as even
    odd = (m.bits(t) & m.u64(1)) != m.u64(0)
    fraction = m.select(a == zero, r, m.select(a == inf, r, nan))
    negative = m.select(large, r, m.select(whole, m.select(odd, -r, r), fraction))
    r = m.select((m.bits(x) & m.word(m.form.sign)) != m.u64(0), negative, r)
    r = m.select(x != x, x, m.select(y != y, m.select(x == one, one, y), r))
    return m.select(y == zero, one, r)
