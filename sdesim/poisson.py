"""The Poisson variate as a function of one uniform number: the inverse of its distribution function, without a branch.

N(u; μ) is the smallest n with F(n) ≥ u, F(n) = Σ_{k≤n} e^{−μ}μᵏ/k!. It grows with u and with μ, so that two means on
one u are coupled, and points that are not random (Sobol') serve as well (Giles, ACM Trans. Math. Softw. 42, 2016,
Algorithm 955, doi:10.1145/2699466).

  μ < 16   N counts the terms k = 0 … 60 with F(k) < u
  μ ≥ 16   N = ⌈x⌉, x the real root of Q(x + 1, μ) = Φ(w), w = Φ⁻¹(u), Q the upper incomplete gamma function. In powers
           of 1/μ at a fixed s = w/√μ (Temme, Math. Comp. 58, 1992, doi:10.1090/S0025-5718-1992-1122079-8)

               x = μ r(s) + c₀(s) + c₁(s)/μ + c₂(s)/μ²,   ½s² = 1 − r + r ln r,   r = 1 + s + s²/6 − s³/72 + s⁴/270 − …,

           with the polynomials fitted to roots found to 1e-13

The χ² divergence Σ(p̃ − p)²/p of the law from the Poisson law is below 1e-13 at every mean, so that 10¹² draws do not
tell them apart; a count of probability above 1e-6 has it to 3e-5, one above 1e-12 to 1e-3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.arithmetic import NUMPY, Machine, Value, exp, horner
from sdesim.streams import normal_quantile

_SMALL = 16.0
_TERMS = 61  # beyond them is less than 2⁻⁵³ of probability at a mean of 16
# highest power of s first, down to s⁴, s⁰, s⁰, s⁰: leading coefficients 1/270, −2/3 and −8/405 as in the series
_R = (
    6.0420391495409e-06, -2.3096592361899e-05, -1.1419281665922e-05, 1.1818735645686e-04,
    -4.4059342520058e-06, -3.0766291190822e-04, 1.1862179980236e-04, 3.2013084077276e-04,
    -1.5165461280126e-04, -2.0289193328350e-04, 2.4642779580271e-04, -2.5938591964797e-04,
    5.3064816867591e-04, -1.3258062603606e-03, 3.7052499364823e-03, -1.0 / 72.0, 1.0 / 6.0, 1.0,
)  # fmt: skip
_C0 = (
    -8.3216124376943e-04, 1.6032157901386e-03, 1.7730129507457e-03, -4.0198864681970e-03,
    -5.7168309960607e-04, 2.1871936191358e-03, 3.2326469925337e-04, -1.1100344936189e-03,
    1.7608113664222e-03, -3.5599921431527e-03, 8.6367710182750e-03, -2.7777934188745e-02,
    -6.6666666231510e-01,
)  # fmt: skip
_C1 = (
    -7.3201768718003e-03, 1.3718597564489e-02, 1.3153292308369e-03, -5.7657327528125e-03,
    -7.8996912762205e-03, 1.0791396471620e-02, -1.2731749247539e-02, 1.7302645464989e-02,
    -1.9754464685423e-02,
)  # fmt: skip
_C2 = (
    2.0613290533381e-03, 7.3667657133944e-03, -1.5644467591072e-03, 1.8969120479246e-04,
    -5.0364757433309e-04,
)  # fmt: skip
_LOWEST = -1.36  # where N is 0 in any case: the polynomials end there


def floor(m: Machine, x: Value) -> Value:
    """The largest whole number not above x, for |x| < 2⁵¹; beyond, x itself.

    >>> float(floor(NUMPY, np.float64(-1.5)))
    -2.0
    """
    near = (x + m.number(m.form.magic)) - m.number(m.form.magic)
    whole = m.select(near > x, near - m.number(1.0), near)
    return m.select(m.abs(x) < m.number(2.0**51), whole, x)


def poisson_quantile(m: Machine, mean: Value, u: Value) -> Value:
    """N(u; mean) as a float, for u in (0, 1) and a mean from 0 to 10¹⁵; NaN for a mean below 0 or not finite.

    >>> poisson_quantile(NUMPY, np.array([2.0, 2.0, 300.0]), np.array([0.1, 0.99, 0.5])).tolist()
    [0.0, 6.0, 300.0]
    """
    small, zero, one = mean < m.number(_SMALL), m.number(0.0), m.number(1.0)
    count = m.select(small, _by_terms(m, m.select(small, mean, one), u), _by_expansion(m, mean, u))
    fit = m.select(mean >= zero, one, zero) * (mean - mean + one)  # NaN for an infinite mean
    return m.select(fit == one, count, m.number(math.nan))


def _by_terms(m: Machine, mean: Value, u: Value) -> Value:
    zero, one = m.number(0.0), m.number(1.0)
    term = exp(m, -mean)
    total, count = term, m.select(term < u, one, zero)
    for k in range(1, _TERMS):
        term = term * (mean * m.number(1.0 / k))
        total = total + term
        count = count + m.select(total < u, one, zero)
    return count


def _by_expansion(m: Machine, mean: Value, u: Value) -> Value:
    w = normal_quantile(m, u)
    s = w / m.sqrt(mean)
    s = m.select(s < m.number(_LOWEST), m.number(_LOWEST), s)
    inverse = m.number(1.0) / mean
    correction = horner(m, s, _C0) + (horner(m, s, _C1) + horner(m, s, _C2) * inverse) * inverse
    x = mean + (mean * s * horner(m, s, _R) + correction)
    count = -floor(m, -x)
    return m.select(count > m.number(0.0), count, m.number(0.0))


def poisson(mean: ArrayLike, u: ArrayLike) -> NDArray[np.float64]:
    """Poisson counts of the given means from uniform numbers in (0, 1), monotone in both.

    Raises ValueError for a number outside (0, 1) or a mean that is negative or not finite.

    >>> poisson([0.0, 3.0, 1e9], 0.5).tolist()
    [0.0, 3.0, 1000000000.0]
    """
    means, points = np.asarray(mean, np.float64), np.asarray(u, np.float64)
    if not np.all((points > 0.0) & (points < 1.0)):
        raise ValueError(f"points strictly between 0 and 1 are wanted, got {points.min():g} to {points.max():g}")
    if not np.all((means >= 0.0) & np.isfinite(means)):
        raise ValueError(f"a mean is a finite number of at least 0, got {means[~(means >= 0) | ~np.isfinite(means)]}")
    with np.errstate(all="ignore"):
        return np.asarray(poisson_quantile(NUMPY, means, points), np.float64)
