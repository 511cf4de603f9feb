"""The gamma variate of any shape by rejection, tries told apart by their counters, on every machine.

For a shape a ≥ 1 a try takes a normal x and accepts d v, v = (1 + δ)³, δ = x/√(9d), d = a − ⅓, if 1 + δ > 0 and

    E > −(½x² + d − d v + d ln v) = 3d r(δ),   r(δ) = δ − δ²/2 + δ³/3 − ln(1 + δ) = δ⁴/4 − δ⁵/5 + …,

E exponential (Marsaglia & Tsang, ACM Trans. Math. Softw. 26, 2000, doi:10.1145/358407.358414). r is summed by its
series where the difference would cancel, so that the law is right to round-off at any shape. 95 % of tries are
accepted at a = 1 and more above, so that all `TRIES` fail with probability 10⁻⁸³. A shape below 1 takes the variate of
a + 1 times U^{1/a}; that of shape 0 is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY, Machine, Value, exp, horner, log, log_normal_range
from sdesim.streams import Purpose, normal_pair, unit, words

TRIES = 64
_NEAR = 0.0625  # below, 13 terms of the series leave out less than 2⁻⁵³ of r
_SERIES = tuple((-1.0) ** j / (j + 4) for j in reversed(range(13)))


def _excess(m: Machine, delta: Value) -> Value:
    """r(δ), for δ > −1; NaN below."""
    square = delta * delta
    far = (delta - m.number(0.5) * square) + (m.number(1.0 / 3.0) * square * delta - log(m, m.number(1.0) + delta))
    return m.select(m.abs(delta) < m.number(_NEAR), square * square * horner(m, delta, _SERIES), far)


def gamma_try(
    m: Machine, shape: Value, member: Value, step: Value, k: Value, key: Sequence[Value]
) -> tuple[Value, Value]:
    """(the variate that try k proposes, whether it is accepted).

    >>> word, key = np.uint64, (np.uint64(0), np.uint64(0))
    >>> value, accepted = gamma_try(NUMPY, np.float64(2.0), word(3), word(0), word(0), key)
    >>> bool(value > 0.0 and accepted)
    True
    """
    one, third = m.number(1.0), m.number(1.0 / 3.0)
    x, _ = normal_pair(m, [member, step, k, m.u64(Purpose.LAW | 2 << 8)], key)
    a, b = words(m, [member, step, k, m.u64(Purpose.LAW | 3 << 8)], key)
    low = shape < one
    d = m.select(low, shape + one, shape) - third
    delta = x * (third / m.sqrt(d))
    w, bound = one + delta, m.number(3.0) * d * _excess(m, delta)
    accepted = (w > m.number(0.0)) & (-log_normal_range(m, unit(m, a)) > bound)
    root = exp(m, log_normal_range(m, unit(m, b)) / shape)
    return d * (w * w * w) * m.select(low, root, one), accepted


def gamma(shape: Any, members: NDArray[np.uint64], step: Any, key: Sequence[Any]) -> NDArray[np.float64]:
    """A gamma variate of scale 1 for each member, in a transition of this number; NaN for a shape that is NaN.

    >>> members, key = np.arange(4, dtype=np.uint64), (np.uint64(0), np.uint64(0))
    >>> gamma([0.0, 0.5, 1.0, 1e9], members, np.uint64(0), key).round(-7).tolist()
    [0.0, 0.0, 0.0, 1000000000.0]
    """
    shapes = np.broadcast_to(np.asarray(shape, np.float64), members.shape)
    result, active = np.empty(members.shape), np.arange(len(members))
    with np.errstate(all="ignore"):
        for k in range(TRIES):
            value, accepted = gamma_try(NUMPY, shapes[active], members[active], step, np.uint64(k), key)
            result[active] = value
            active = active[~accepted]
            if not active.size:
                break
    return result
