"""The noise: every random number is a function of where it stands, f(seed, purpose, member, step, channel).

Counter-based generation (Philox 4×32-10; Salmon, Moraes, Dror & Shaw, SC'11, doi:10.1145/2063384.2063405): a
128-bit counter says where, the 64-bit seed is the key, and ten rounds of multiplication and exclusive-or give
128 random bits. Nothing has a state, so member 7 is the same bits alone or among a million, in any order.

  SDE steps   counter (member, step ≫ 1, channel, purpose): even steps take the pair's first normal, odd the second
  fields      counter (member, step, pair, purpose | state ≪ 8): in a row of n cells, cell x < ⌈n/2⌉ takes the first
              normal of pair row·⌈n/2⌉ + x, and cell x + ⌈n/2⌉ the second

Both normals of a Box–Muller pair (Box & Muller 1958) belong to one member. The functions that take a machine `m` are
written once for NumPy, LLVM and CUDA (see `sdesim.arithmetic`), so the generated kernels draw the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim.arithmetic import COS, NUMPY, SIN, Machine, Value, horner, log_normal_range


class Purpose(IntEnum):
    """What a random number is for: the counter's last word, so that no two uses share a number."""

    STEP = 0
    AUXILIARY = 1
    INITIAL = 2
    PARAMETER = 3
    BRIDGE = 4
    SAMPLE = 5
    TRAINING = 6


_LOW = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ONE = 0x3FF0000000000000


def philox(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, ...]:
    """Philox 4×32-10: four 32-bit words from a counter of four and a key of two, each held in a uint64.

    >>> zero = np.uint64(0)
    >>> [hex(int(w)) for w in philox(NUMPY, [zero] * 4, [zero] * 2)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    low, shift = m.u64(_LOW), m.u64(32)
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = m.u64(_MULTIPLIERS[0]) * c0, m.u64(_MULTIPLIERS[1]) * c2
        c0, c1, c2, c3 = ((p1 >> shift) ^ c1 ^ k0) & low, p1 & low, ((p0 >> shift) ^ c3 ^ k1) & low, p0 & low
        k0, k1 = (k0 + m.u64(_WEYL[0])) & low, (k1 + m.u64(_WEYL[1])) & low
    return c0, c1, c2, c3


def words(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """Two random 64-bit words at a counter."""
    c0, c1, c2, c3 = philox(m, counter, key)
    return (c0 << m.u64(32)) | c1, (c2 << m.u64(32)) | c3


def box_muller(m: Machine, a: Value, b: Value) -> tuple[Value, Value]:
    """Two independent normals from two 64-bit words: radius √(−2 ln u), angle from b.

    u = 2 − [1, 2) lies on a grid of 2⁻⁵² in (0, 1], so |z| ≤ 8.49. The angle is v·π/2 with v in [−½, ½); two further
    bits of b pick the quadrant by swapping the pair and flipping the sign of the cosine.
    """
    one = m.u64(_ONE)
    u = m.f64(2.0) - m.real((a >> m.u64(12)) | one)
    radius = m.sqrt(m.f64(-2.0) * log_normal_range(m, u))
    x = (m.real((b & m.u64(0x000FFFFFFFFFFFFF)) | one) - m.f64(1.5)) * m.f64(math.pi / 2)
    z = x * x
    s = (x + x * z * horner(m, z, SIN)) * radius
    c = horner(m, z, (*COS, -0.5, 1.0)) * radius
    c = m.real(m.bits(c) ^ (b & m.u64(0x8000000000000000)))
    swap = (b & m.u64(0x4000000000000000)) != m.u64(0)
    return m.select(swap, s, c), m.select(swap, c, s)


def normal_pair(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """The two standard normals at a counter."""
    return box_muller(m, *words(m, counter, key))


def unit(m: Machine, word: Value) -> Value:
    """A uniform number in (0, 1) from a 64-bit word: the midpoints of 2⁵² equal cells, symmetric about ½."""
    return (m.real((word >> m.u64(12)) | m.u64(_ONE)) - m.f64(1.0)) + m.f64(2.0**-53)


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


def normals(
    seed: int, members: ArrayLike, step: int, channel: ArrayLike = 0, purpose: Purpose = Purpose.STEP
) -> NDArray[np.float64]:
    """Standard normals of an SDE step, one for each member (broadcast against `channel`).

    >>> both = normals(7, [0, 1], step=3)
    >>> bool(normals(7, [1], step=3)[0] == both[1])
    True
    """
    pair = normal_pair(NUMPY, _counter(members, int(step) >> 1, channel, purpose), seed_key(seed))
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
