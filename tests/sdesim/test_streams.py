"""The noise: published vectors, uniform and normal in law to the far tails, independent wherever it is drawn.

Seeds are fixed, so each test passes or fails for ever. Bounds are 4 standard errors, or 5 where hundreds of statistics
are looked at together (false alarm: 6e-5 for one of 100 at 5 standard errors).
"""

import math

import numpy as np
import pytest
from scipy import stats

from sdesim.arithmetic import NUMPY
from sdesim.streams import (
    Purpose,
    box_muller,
    field_normals,
    inverse_normal,
    normal_pair,
    normals,
    philox,
    seed_key,
    uniforms,
    unit,
    words,
)

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter, key, result
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
N = 200_000
MEMBERS = np.arange(N)


def hexadecimal(text):
    return [np.uint64(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize("counter, key, result", VECTORS)
def test_philox_gives_the_published_vectors(counter, key, result):
    assert list(philox(NUMPY, hexadecimal(counter), hexadecimal(key))) == hexadecimal(result)


def test_the_counter_and_key_are_what_the_layout_says():
    seed, member, step, channel = 2**40 + 9, 77, 12, 3
    counter = [np.uint64(v) for v in (member, step >> 1, channel, Purpose.AUXILIARY)]
    pair = normal_pair(NUMPY, counter, (np.uint64(seed % 2**32), np.uint64(seed >> 32)))
    drawn = [normals(seed, [member], s, channel, Purpose.AUXILIARY)[0] for s in (step, step + 1)]
    assert drawn == list(pair)


@pytest.fixture(scope="module")
def sample():
    """A million normals: members × (steps, channels)."""
    return np.concatenate([normals(5, MEMBERS, step, channel) for step, channel in ((0, 0), (1, 0), (6, 0), (6, 1), (7, 2))])


def test_normals_are_normal(sample):
    n = sample.size
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    moments = [np.mean(sample**k) for k in range(1, 7)]
    for k, (found, exact) in enumerate(zip(moments, (0, 1, 0, 3, 0, 15)), start=1):
        variance = math.prod(range(1, 2 * k, 2)) - exact**2  # E z²ᵏ − (E zᵏ)²
        assert abs(found - exact) < 4 * math.sqrt(variance / n), k
    for level in (1.0, 2.0, 3.0, 4.0, 4.5):
        expected = 2 * n * stats.norm.sf(level)
        assert abs((np.abs(sample) > level).sum() - expected) < 4 * math.sqrt(expected), level


def test_normals_are_normal_out_to_six_and_seven_sigma():
    # draws given that the radius is beyond √(52 ln 2) = 6.004: the first 26 bits of the radius' word are ones, so
    # |z| > x ≥ 6.004 has probability 2·sf(x)·2²⁶
    counter = [np.arange(400_000, dtype=np.uint64), *(np.uint64(v) for v in (1, 2, 3))]
    a, b = words(NUMPY, counter, seed_key(8))
    far = np.concatenate(box_muller(NUMPY, a | np.uint64(0xFFFFFFC000000000), b))
    assert far.max() > 7.2 and far.min() < -7.2
    for level in (6.01, 6.2, 6.5, 7.0):
        for tail in ((far > level).sum(), (far < -level).sum()):
            expected = far.size * stats.norm.sf(level) * 2.0**26
            assert abs(tail - expected) < 4 * math.sqrt(expected), level
    beyond = -2 * np.log(2.0) * 26 + np.sum(np.reshape(far, (2, -1)) ** 2, axis=0)
    assert stats.kstest(beyond, "expon", args=(0, 2)).pvalue > 1e-3  # R² is exponential of mean 2, without memory


def test_the_pair_of_box_and_muller_is_exact_and_independent():
    counter = [MEMBERS.astype(np.uint64), *(np.uint64(v) for v in (4, 0, 0))]
    a, b = words(NUMPY, counter, seed_key(3))
    first, second = box_muller(NUMPY, a, b)
    u = 2.0 - ((a >> np.uint64(12)) | np.uint64(0x3FF0000000000000)).view(np.float64)
    np.testing.assert_allclose(np.hypot(first, second), np.sqrt(-2 * np.log(u)), rtol=1e-14)
    assert stats.kstest(np.arctan2(second, first) / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    se = 1 / math.sqrt(N)
    assert abs(np.mean(first * second)) < 4 * se
    assert abs(np.mean((first**2 - 1) * (second**2 - 1))) < 4 * 2 * se  # each factor has variance 2


def test_the_largest_normal_and_the_smallest_uniform():
    ones, zero = np.uint64(2**64 - 1), np.uint64(0)
    z = np.array(box_muller(NUMPY, ones, zero))
    np.testing.assert_allclose(np.hypot(*z), math.sqrt(2 * 52 * math.log(2)), rtol=1e-15)  # u = 2⁻⁵²
    assert list(np.abs(box_muller(NUMPY, zero, zero))) == [0.0, 0.0]  # u = 1
    assert unit(NUMPY, zero) == 2.0**-53 and unit(NUMPY, ones) == 1 - 2.0**-53
    assert np.isfinite(inverse_normal([unit(NUMPY, zero), unit(NUMPY, ones)])).all()


def test_uniforms_are_uniform():
    u = uniforms(4, MEMBERS)
    assert u.min() > 0 and u.max() < 1
    counts = np.bincount((u * 1000).astype(int), minlength=1000)
    assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-6
    pairs = np.bincount((u[:-1] * 30).astype(int) * 30 + (u[1:] * 30).astype(int), minlength=900)  # neighbours
    assert 1e-3 < stats.chisquare(pairs).pvalue < 1 - 1e-6
    assert stats.kstest(inverse_normal(u), "norm").pvalue > 1e-3


def test_every_bit_is_a_fair_coin_and_flips_with_every_bit_of_the_counter():
    counter = [MEMBERS.astype(np.uint64), *(np.uint64(v) for v in (0, 0, 0))]
    base = np.array(philox(NUMPY, counter, seed_key(1)))

    def ones(values):
        return np.array([((values >> np.uint64(k)) & np.uint64(1)).mean() for k in range(32)])

    bound = 5 * 0.5 / math.sqrt(N)
    for word in base:
        assert np.abs(ones(word) - 0.5).max() < bound
    for position, bit in ((0, 20), (1, 0), (1, 31), (2, 0), (3, 3)):
        changed = list(counter)
        changed[position] = changed[position] ^ np.uint64(1 << bit)
        for before, after in zip(base, philox(NUMPY, changed, seed_key(1))):
            assert np.abs(ones(before ^ after) - 0.5).max() < bound


def test_members_steps_channels_purposes_and_seeds_are_independent():
    draws = {("step", s): normals(6, MEMBERS, s) for s in (0, 1, 2, 3, 2**20)}
    draws |= {("channel", c): normals(6, MEMBERS, 0, c) for c in (1, 2, 65535)}
    draws |= {("purpose", p): normals(6, MEMBERS, 0, 0, p) for p in Purpose if p != Purpose.STEP}
    draws |= {("seed", s): normals(s, MEMBERS, 0) for s in (7, 6 + 2**32)}
    draws |= {("member", lag): normals(6, MEMBERS + lag, 0) for lag in (1, 2, 513, 2**31)}
    draws |= {("field", state): field_normals(6, MEMBERS[:2000], 0, state, (10, 10)).ravel() for state in (0, 1)}
    rows = np.array(list(draws.values()))
    for transformed in (rows, rows**2, np.abs(rows), rows**3):
        apart = np.abs(np.corrcoef(transformed) - np.eye(len(rows)))
        worst = np.unravel_index(apart.argmax(), apart.shape)
        assert apart.max() < 5 / math.sqrt(N), [list(draws)[i] for i in worst]


def test_a_member_is_the_same_alone_or_in_any_company():
    whole = normals(9, np.arange(1000), 5, 1)
    assert normals(9, [41], 5, 1)[0] == whole[41]
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(normals(9, order, 5, 1), whole[order])
    field = field_normals(9, [3, 41], 2, 1, (4, 7))
    assert np.array_equal(field_normals(9, [41], 2, 1, (4, 7))[0], field[1])


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (8,), (3, 5), (3, 6), (2, 3, 5), (2, 2, 4)])
def test_field_noise_is_laid_out_as_pairs_within_rows(shape):
    seed, member, step, state = 2**33 + 1, 12, 9, 2
    field = field_normals(seed, [member], step, state, shape, Purpose.SAMPLE)[0].reshape(-1, shape[-1])
    half = (shape[-1] + 1) // 2
    for row in range(field.shape[0]):
        for x in range(shape[-1]):
            pair = row * half + x % half if x >= half else row * half + x
            counter = [np.uint64(v) for v in (member, step, pair, int(Purpose.SAMPLE) | state << 8)]
            assert field[row, x] == normal_pair(NUMPY, counter, seed_key(seed))[int(x >= half)]
    assert np.unique(field).size == field.size


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "7", True, None])
def test_a_seed_is_a_whole_number_of_64_bits(seed):
    with pytest.raises(ValueError, match="a seed is an integer from 0 to"):
        normals(seed, [0], 0)


@pytest.mark.parametrize("call", [
    lambda: normals(0, [-1], 0), lambda: normals(0, [2**32], 0), lambda: normals(0, [0.5], 0),
    lambda: normals(0, [0], 2**33), lambda: normals(0, [0], 0, 2**32), lambda: normals(0, [0], -2),
])  # fmt: skip
def test_what_does_not_fit_the_counter_is_refused(call):
    with pytest.raises(ValueError, match="integers from 0 to"):
        call()


def test_a_field_with_too_many_cells_is_refused():
    with pytest.raises(ValueError, match="at most 2³² pairs"):
        field_normals(0, [0], 0, 0, (2**17, 2**17))
