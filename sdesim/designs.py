"""Designs: where in the unit cube each member of an ensemble stands.

    random   u_i = uniform(seed, member, name)                        members independent, any subset the same
    sobol    u_i = x_i ⊕ shift(seed, name),  i = the member number    quasi-random: error ~ 1/n for smooth means
    lhs      u_i = (π(i) + uniform) / n,  π a permutation             one member in each of n slices of every axis

The axis of a name is keyed by the name, so a further random parameter changes no other in `random` and `lhs`. A Sobol'
axis is its position in the given order. `lhs` alone depends on the total number of members.

The Sobol' sequence is in base 2 with 32 bits in Gray-code order (Antonov & Saleev 1979) and the direction numbers of
Joe & Kuo (2008), doi:10.1137/070709359, table new-joe-kuo-6; the digital shift keeps its net property and makes
every point uniform, so means over seeds are unbiased (L'Ecuyer & Lemieux 2002).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdesim.streams import Purpose, uniforms

DESIGNS = ("random", "lhs", "sobol")
_BITS = 32

# (degree s, coefficients a, initial numbers m₁ … m_s) of the axes after the first
_JOE_KUO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
    (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)),
    (5, 14, (1, 3, 5, 5, 31)),
    (6, 1, (1, 3, 3, 9, 7, 49)),
    (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)),
    (6, 19, (1, 1, 1, 15, 7, 5)),
    (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)),
    (7, 1, (1, 3, 7, 11, 23, 15, 103)),
    (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)
SOBOL_AXES = len(_JOE_KUO) + 1


def unit_points(
    names: Sequence[str],
    numbers: NDArray[np.int64],
    *,
    design: str,
    seed: int,
    purpose: Purpose = Purpose.PARAMETER,
    first_axis: int = 0,
) -> NDArray[np.float64]:
    """Return points in the open unit cube, shape (name, member), for these member numbers.

    For "lhs" the numbers must be 0 … n−1. `first_axis` is the Sobol' axis of the first name: two names on one axis
    would be functions of each other.

    Raises
    ------
    ValueError
        For an unknown design, more Sobol' axes than the table has, or "lhs" with a part of the members.

    >>> whole = unit_points(["k"], np.arange(8), design="sobol", seed=1)
    >>> bool(unit_points(["k"], np.array([5]), design="sobol", seed=1)[0, 0] == whole[0, 5])
    True
    """
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(DESIGNS)}; got {design!r}")
    keys = [_key(name) for name in names]
    if len(set(keys)) != len(keys):
        raise ValueError(f"two of the names {list(names)} share a random stream: rename one of them")
    if design == "random":
        rows = [uniforms(seed, numbers, key, purpose) for key in keys]
    elif design == "lhs":
        rows = [_latin(seed, numbers, key, purpose) for key in keys]
    else:
        wanted = first_axis + len(names)
        if wanted > SOBOL_AXES:
            raise ValueError(f"the sobol design has {SOBOL_AXES} axes, {wanted} are wanted: use lhs or random")
        shifts = [int(uniforms(seed, [0], key, purpose)[0] * 2.0**_BITS) for key in keys]
        rows = [
            np.asarray(((sobol_integers(axis, numbers) ^ np.uint64(shift)) + 0.5) / 2.0**_BITS, np.float64)
            for axis, shift in enumerate(shifts, start=first_axis)
        ]
    return np.stack(rows) if rows else np.empty((0, len(numbers)))


def sobol_integers(axis: int, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the points `index` of the unshifted Sobol' sequence on one axis, times 2³².

    >>> (sobol_integers(1, np.arange(4)) / 2**32).tolist()
    [0.0, 0.5, 0.25, 0.75]
    """
    gray = np.asarray(index, np.uint64)
    gray = gray ^ (gray >> np.uint64(1))
    point = np.zeros_like(gray)
    for bit, direction in enumerate(_directions(axis)):
        chosen = (gray >> np.uint64(bit)) & np.uint64(1)
        point ^= chosen * np.uint64(direction)
    return point


def _directions(axis: int) -> list[int]:
    """The direction numbers v_j = m_j · 2^(32−j), by the recurrence of the axis' primitive polynomial."""
    if axis == 0:
        return [1 << (_BITS - j) for j in range(1, _BITS + 1)]
    degree, coefficients, start = _JOE_KUO[axis - 1]
    m = list(start)
    for j in range(degree, _BITS):
        new = m[j - degree] ^ (m[j - degree] << degree)
        for k in range(1, degree):
            if (coefficients >> (degree - 1 - k)) & 1:
                new ^= m[j - k] << k
        m.append(new)
    return [value << (_BITS - j) for j, value in enumerate(m, start=1)]


def _latin(seed: int, numbers: NDArray[np.int64], key: int, purpose: Purpose) -> NDArray[np.float64]:
    count = len(numbers)
    if not np.array_equal(numbers, np.arange(count)):
        raise ValueError(
            "the lhs design depends on the whole ensemble: ask for members=<count>, or use design='sobol' or 'random', "
            "where a part of the members is the same as in the full ensemble"
        )
    order = np.argsort(uniforms(seed, numbers, key, purpose), kind="stable")
    return np.asarray((order + uniforms(seed, numbers, key ^ 0x80000000, purpose)) / count, np.float64)


def _key(name: str) -> int:
    """A 31-bit number for a name: the top bit tells a Latin square's jitter from its order."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
