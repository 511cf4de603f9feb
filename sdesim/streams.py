"""The noise: every random number is a function of where it stands, f(seed, purpose, member, step, channel).

Counter-based generation (Philox 4×32-10; Salmon, Moraes, Dror & Shaw, SC'11, doi:10.1145/2063384.2063405): a
128-bit counter says where, the 64-bit seed is the key, and ten rounds of multiplication and exclusive-or give
128 random bits. Nothing has a state, so member 7 is the same bits alone or among a million, in any order.

  SDE steps   counter (member, step ≫ 1, channel, purpose): even steps take the pair's first normal, odd the second;
              in float32 (member, step ≫ 2, channel, purpose | 128), two pairs of 32 bits a number for four steps
  fields      counter (member, step, pair, purpose | state ≪ 8): in a row of n cells, cell x < ⌈n/2⌉ takes the first
              normal of pair row·⌈n/2⌉ + x, and cell x + ⌈n/2⌉ the second
  auxiliary   channel = k ≪ 16 | c for the (k+1)-th further normal of Wiener process c in the same step
  jumps       counter (member, step, k, purpose | i ≪ 8): event k of a step; a count, as a normal: (…, channel, purpose)
  tree        counter (member, step, node, purpose | c ≪ 8): what halves a node of process c, see `kernels.sde_tree`
  walls       counter (member, step, node, purpose | k ≪ 8): number k of what meets bounds in a node of the tree
  exact laws  counter (member, transition, k, purpose | kind ≪ 8), see `methods.exact_draws`

Both normals of a Box–Muller pair (Box & Muller 1958) belong to one member. `normal_quantile`, the inverse of the
normal distribution function, stands beside it for points that are not random (Sobol'), where being monotone matters.
The functions that take a machine `m` are written once for NumPy, LLVM and CUDA (see `sdesim.arithmetic`), so the
generated kernels draw the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.arithmetic import NUMPY, Machine, Value, estrin, horner, log_normal_range, log_parts
from sdesim.reals import DOUBLE


class Purpose(IntEnum):
    """What a random number is for: the counter's last word, so that no two uses share a number."""

    STEP = 0
    AUXILIARY = 1
    INITIAL = 2
    PARAMETER = 3
    BRIDGE = 4
    SAMPLE = 5
    TRAINING = 6
    SIGN = 7
    TREE = 8
    JUMP = 9
    COUNT = 10
    COEFFICIENT = 11
    LAW = 12
    WALL = 13


_LOW = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ONE = 0x3FF0000000000000
_SINGLE = 0x80  # the purposes of float32, so that it shares no number with float64


def words(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """Two random 64-bit words at a counter of four and a key of two 32-bit words, each held in a uint64.

    The high halves of c0 … c3 are left as they come: a product takes the low half only, and the last round, whose
    result is c0·2³² + c1 and c2·2³² + c3, shifts them out.
    """
    low, shift = m.u64(_LOW), m.u64(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(9):
        p0, p1 = m.u64(_MULTIPLIERS[0]) * (c0 & low), m.u64(_MULTIPLIERS[1]) * (c2 & low)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1, (p0 >> shift) ^ c3 ^ k1, p0
        k0, k1 = k0 + m.u64(_WEYL[0]), k1 + m.u64(_WEYL[1])
    p0, p1 = m.u64(_MULTIPLIERS[0]) * (c0 & low), m.u64(_MULTIPLIERS[1]) * (c2 & low)
    return p1 ^ ((c1 ^ k0) << shift), p0 ^ ((c3 ^ k1) << shift)


def philox(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, ...]:
    """Philox 4×32-10: four 32-bit words from a counter of four and a key of two, each held in a uint64.

    >>> zero = np.uint64(0)
    >>> [hex(int(w)) for w in philox(NUMPY, [zero] * 4, [zero] * 2)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    first, second = words(m, counter, key)
    low, shift = m.u64(_LOW), m.u64(32)
    return (first >> shift) & low, first & low, (second >> shift) & low, second & low


def _open_unit(m: Machine, a: Value) -> Value:
    """A uniform number in (0, 1]: on a grid of 2⁻⁵², or all 32 bits of the word and half a cell, from 2⁻³³ on."""
    one = m.word(m.form.one)
    if m.form is DOUBLE:
        return m.number(2.0) - m.real((a >> m.word(12)) | one)
    high = m.real((a >> m.word(9)) | one) - m.number(1.0)
    return high + (m.real((a & m.word(0x1FF)) | one) - m.number(1.0 - 2.0**-24)) * m.number(2.0**-9)


def box_muller(m: Machine, a: Value, b: Value) -> tuple[Value, Value]:
    """Two independent normals from two words of the machine's width: radius √(−2 ln u), angle from b.

    u lies in (0, 1] with |z| ≤ 8.49, or 6.77 in float32. With u = 2ᵏ(1 + f) and s = f/(2 + f) the logarithm is
    k ln 2 + ln((1 + s)/(1 − s)). The angle is v·π/2 with v in [−½, ½); two further bits of b pick the quadrant by
    swapping the pair and flipping the sign of the cosine. Errors: 2⁻⁵⁰ relative, or 2⁻²¹.
    """
    form = m.form
    k, f = log_parts(m, _open_unit(m, a))
    s = f / (m.number(2.0) + f)
    radius = m.sqrt(s * estrin(m, s * s, form.radius) - k * m.number(2.0 * math.log(2.0)))
    v = m.real((b & m.word(form.fraction)) | m.word(form.one)) - m.number(1.5)
    if form is not DOUBLE:
        v = v + m.number(2.0**-24)  # to the middle of its cell: the mean is 0 to 10⁻¹⁵, not to 10⁻⁷
    z = v * v
    s = v * radius * estrin(m, z, form.turn_sin)
    c = radius * estrin(m, z, form.turn_cos)
    c = m.real(m.bits(c) ^ (b & m.word(form.sign)))
    swap = (b & m.word(form.sign >> 1)) != m.word(0)
    return m.select(swap, s, c), m.select(swap, c, s)


def word_group(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, ...]:
    """The random words at a counter, of the machine's width: two, or in float32 four at a counter of its own."""
    if m.form is DOUBLE:
        return words(m, counter, key)
    *place, purpose = counter
    pair = words(m, [*place, purpose | m.u64(_SINGLE)], key)
    return tuple(m.low(half) for word in pair for half in (word >> m.u64(32), word))


def normals_of(m: Machine, group: Sequence[Value]) -> tuple[Value, ...]:
    """As many standard normals as words."""
    return tuple(z for k in range(0, len(group), 2) for z in box_muller(m, group[k], group[k + 1]))


def signs_of(m: Machine, group: Sequence[Value]) -> tuple[Value, ...]:
    """As many fair signs ±1 as words: the top bit of each becomes the sign bit of 1."""
    return tuple(m.real((w & m.word(m.form.sign)) | m.word(m.form.one)) for w in group)


def units_of(m: Machine, group: Sequence[Value]) -> tuple[Value, ...]:
    """As many uniform numbers in (0, 1) as 64-bit words."""
    return tuple(unit(m, w) for w in group)


def normal_pair(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """The two standard normals at a counter, in float64."""
    return box_muller(m, *words(m, counter, key))


def normal_group(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, ...]:
    """The standard normals at a counter: two, or two pairs of two in float32."""
    return normals_of(m, word_group(m, counter, key))


def sign_group(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, ...]:
    """As many independent fair signs ±1 at a counter."""
    return signs_of(m, word_group(m, counter, key))


def unit_pair(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """Two independent uniform numbers of (0, 1) at a counter."""
    a, b = words(m, counter, key)
    return unit(m, a), unit(m, b)


# Wichura's PPND16: numerators and denominators, highest power first, of Φ⁻¹ near ½, in the tails, and far out
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def normal_quantile(m: Machine, u: Value) -> Value:
    """Φ⁻¹(u) for a normal float u in (0, 1): AS241, PPND16 (Wichura, Appl. Stat. 37, 1988, doi:10.2307/2347330).

    Rational functions of ¼·0.85² − (u − ½)² near the centre and of √(−ln min(u, 1 − u)) in the tails, without a branch.
    """
    q = u - m.number(0.5)
    r = m.number(0.180625) - q * q
    root = m.sqrt(-log_normal_range(m, m.select(q < m.number(0.0), u, m.number(1.0) - u)))
    near, far = root - m.number(1.6), root - m.number(5.0)
    inner, beyond = r >= m.number(0.0), root > m.number(5.0)
    parts = []
    for centre, tail, end in zip(_CENTRE, _NEAR, _FAR, strict=True):
        outer = m.select(beyond, horner(m, far, end), horner(m, near, tail))
        parts.append(m.select(inner, horner(m, r, centre), outer))
    ratio = parts[0] / parts[1]
    return m.select(inner, q * ratio, m.select(q < m.number(0.0), -ratio, ratio))


def unit(m: Machine, word: Value) -> Value:
    """A uniform number in (0, 1) from a 64-bit word: the midpoints of 2⁵² equal cells, symmetric about ½."""
    return (m.real((word >> m.u64(12)) | m.u64(_ONE)) - m.number(1.0)) + m.number(2.0**-53)


def seed_key(seed: int) -> tuple[np.uint64, np.uint64]:
    """The Philox key of a seed, an integer in [0, 2⁶⁴).

    >>> seed_key(2**32 + 5)
    (np.uint64(5), np.uint64(1))
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"a seed is an integer from 0 to 2⁶⁴ − 1, got {seed!r}")
    return np.uint64(int(seed) & _LOW), np.uint64(int(seed) >> 32)


def _word(values: ArrayLike, what: str) -> NDArray[np.uint64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.size and (int(array.min()) < 0 or int(array.max()) > _LOW):
        raise ValueError(f"{what} numbers are integers from 0 to 2³² − 1, got {values!r}")
    return array.astype(np.uint64)


def _counter(members: ArrayLike, second: ArrayLike, third: ArrayLike, fourth: int) -> list[Any]:
    return [_word(members, "member"), _word(second, "step"), _word(third, "channel"), np.uint64(fourth)]


def _of_step(
    group: Any, m: Machine, seed: int, members: ArrayLike, step: int, channel: ArrayLike, purpose: Purpose
) -> NDArray[Any]:
    count = m.form.draws
    values = group(m, _counter(members, int(step) // count, channel, purpose), seed_key(seed))
    return np.asarray(values[int(step) % count], m.form.name)


def normals(
    seed: int, members: ArrayLike, step: int, channel: ArrayLike = 0, purpose: Purpose = Purpose.STEP,
    m: Machine = NUMPY,
) -> NDArray[Any]:
    """Standard normals of an SDE step, one for each member (broadcast against `channel`), in the format of `m`.

    >>> both = normals(7, [0, 1], step=3)
    >>> bool(normals(7, [1], step=3)[0] == both[1])
    True
    """
    return _of_step(normal_group, m, seed, members, step, channel, purpose)


def signs(seed: int, members: ArrayLike, step: int, channel: ArrayLike = 0, m: Machine = NUMPY) -> NDArray[Any]:
    """Fair random signs ±1 of an SDE step, one for each member (broadcast against `channel`), in the format of `m`.

    >>> set(signs(7, range(20), step=3).tolist()) == {-1.0, 1.0}
    True
    """
    return _of_step(sign_group, m, seed, members, step, channel, Purpose.SIGN)


def step_uniforms(seed: int, members: ArrayLike, step: int, channel: ArrayLike = 0) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1) of an SDE step, one for each member (broadcast against `channel`).

    >>> bool(0 < step_uniforms(7, [9], step=3)[0] < 1)
    True
    """
    pair = unit_pair(NUMPY, _counter(members, int(step) >> 1, channel, Purpose.COUNT), seed_key(seed))
    return np.asarray(pair[int(step) & 1], np.float64)


def field_normals(
    seed: int,
    members: ArrayLike,
    step: int,
    state: int,
    shape: Sequence[int],
    purpose: Purpose = Purpose.STEP,
) -> NDArray[np.float64]:
    """Standard normals on a grid of the given shape for each member: an array (member, *shape).

    Raises ValueError for a grid of more than 2³² pairs.

    >>> field_normals(0, [4, 5], step=0, state=0, shape=(3, 5)).shape
    (2, 3, 5)
    """
    index = np.atleast_1d(np.asarray(members))
    n = int(shape[-1])
    rows, half = math.prod(int(s) for s in shape[:-1]), (n + 1) // 2
    if rows * half > _LOW:
        raise ValueError(f"a field of at most 2³² pairs of cells was wanted, got the shape {tuple(shape)}")
    pairs = np.arange(rows * half, dtype=np.uint64).reshape(rows, half)
    counter = _counter(index[:, None, None], step, pairs, int(purpose) | state << 8)
    first, second = normal_pair(NUMPY, counter, seed_key(seed))
    return np.concatenate([first, second[..., : n - half]], axis=-1).reshape(len(index), *shape)


def uniforms(
    seed: int, members: ArrayLike, index: ArrayLike = 0, purpose: Purpose = Purpose.PARAMETER
) -> NDArray[np.float64]:
    """Uniform numbers in (0, 1), one for each member (broadcast against `index`).

    >>> bool(0 < uniforms(1, [9])[0] < 1)
    True
    """
    first, _ = words(NUMPY, _counter(members, 0, index, purpose), seed_key(seed))
    return np.asarray(unit(NUMPY, first), np.float64)


def inverse_normal(u: ArrayLike) -> NDArray[np.float64]:
    """Standard normals from points of the open unit interval, monotone: what quasi-Monte Carlo needs.

    Raises ValueError for a point outside (0, 1).

    >>> inverse_normal([0.5, 0.975]).round(4).tolist()
    [0.0, 1.96]
    """
    points = np.asarray(u, np.float64)
    if not np.all((points >= np.finfo(np.float64).tiny) & (points < 1.0)):
        raise ValueError(f"points strictly between 0 and 1 are wanted, got {points.min():g} to {points.max():g}")
    return np.asarray(normal_quantile(NUMPY, points), np.float64)
