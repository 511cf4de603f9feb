"""Distances against closed forms: each law below has a known answer."""

import math

import numpy as np
import pytest

from surrogates import distances


def gaussian_field(rng, samples, cells=32, slope=1.5):
    """White noise filtered by (1 + k²)^-slope on a periodic square, unit variance."""
    k = np.fft.fftfreq(cells) * cells
    gain = (1.0 + k[:, None] ** 2 + k**2) ** (-slope)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(samples, cells, cells))) * gain).real
    return field / field.std()


def test_crps_of_a_standard_normal_forecast_has_its_closed_form():
    pool = np.random.default_rng(0).normal(size=(40_000, 1))
    y = np.array([[-2.0], [0.0], [0.7]])
    pdf = np.exp(-(y**2) / 2) / math.sqrt(2 * math.pi)
    cdf = 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    exact = y * (2 * cdf - 1) + 2 * pdf - 1 / math.sqrt(math.pi)
    # E|X − y| has standard error below 1.3/√M, the spread term a smaller one: four of them
    np.testing.assert_allclose(distances.pool_crps(pool, y), exact, atol=4 * 1.3 / math.sqrt(40_000))


@pytest.mark.parametrize("K", [2, 3, 8])
def test_fair_crps_does_not_depend_on_the_number_of_draws(K):
    rng = np.random.default_rng(1)
    score = distances.fair_crps(rng.normal(size=(K, 60_000)), rng.normal(size=60_000))
    assert abs(score.mean() - 1 / math.sqrt(math.pi)) < 4 * score.std() / math.sqrt(score.size)


@pytest.mark.parametrize("n", [1, 5, 64])
def test_energy_score_of_gaussian_vectors_has_its_closed_form(n):
    rng = np.random.default_rng(2)
    score = distances.fair_energy_score(rng.normal(size=(3, 20_000, n)), rng.normal(size=(20_000, n)))
    exact = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(n)  # E|X − X'|/2, |u|² = Σu²/n
    assert abs(score.mean() - exact) < 4 * score.std() / math.sqrt(score.size)


def test_pool_scores_equal_the_double_sums_of_their_definition():
    rng = np.random.default_rng(3)
    pool, truth = rng.normal(size=(7, 4)), rng.normal(size=(5, 4))
    norm = lambda a: np.sqrt((a**2).mean(-1))
    pairs = norm(pool[:, None] - pool[None]).sum() / (7 * 6)
    energy = norm(pool[:, None] - truth[None]).mean(0) - pairs / 2
    crps = np.abs(pool[:, None] - truth[None]).mean(0) - np.abs(pool[:, None] - pool[None]).sum((0, 1)) / 84
    np.testing.assert_allclose(distances.pool_energy_score(pool, truth), energy, rtol=1e-7)
    np.testing.assert_allclose(distances.pool_crps(pool, truth), crps, rtol=1e-12)
    paired = np.repeat(pool[:, None], 5, axis=1)
    np.testing.assert_allclose(distances.fair_energy_score(paired, truth), energy, rtol=1e-7)
    np.testing.assert_allclose(distances.fair_crps(paired, truth), crps, rtol=1e-12)


def test_energy_score_is_proper_the_true_law_scores_best():
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(4000, 8))
    score = lambda scale, shift: distances.fair_energy_score(
        shift + scale * rng.normal(size=(4, 4000, 8)), truth
    ).mean()
    assert score(1.0, 0.0) < min(score(0.7, 0.0), score(1.4, 0.0), score(1.0, 0.4))


def test_quantile_distance_is_the_shift_and_the_scale():
    normal = np.random.default_rng(5).normal(size=400_000)
    assert distances.quantile_distance(normal, normal + 0.3) == pytest.approx(0.3 / normal.std(), rel=1e-9)
    # W₁(N(0,1), N(0,a²)) = |a − 1| E|Z|; the midpoint rule on 2,000 levels leaves out tails of mass 1/2,000
    assert distances.quantile_distance(normal, 1.5 * normal) == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.01)


def test_patch_wasserstein_of_a_scaled_and_of_a_shifted_gaussian():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 2000, 12, 12))
    # scaling by s: W₂ = |s − 1| for every direction. Shift δ: E(δ Σθ)² = δ²; 48 directions leave √(2/48)/2 = 10 %
    assert distances.patch_wasserstein(a, 1.3 * b) == pytest.approx(0.3, abs=0.02)
    assert distances.patch_wasserstein(a, b + 0.4) == pytest.approx(0.4, rel=0.3)


def test_patches_tell_a_pattern_from_a_gaussian_field_of_the_same_spectrum():
    rng = np.random.default_rng(7)
    a, b = (np.tanh(4 * gaussian_field(rng, 128)) for _ in range(2))
    spectrum = np.sqrt((np.abs(np.fft.fft2(b)) ** 2).mean(0)) / 32
    twin = np.fft.ifft2(np.fft.fft2(rng.normal(size=b.shape)) * spectrum).real
    floor = distances.patch_wasserstein(a, b)
    assert distances.patch_wasserstein(a, twin) > 4 * floor
    # one number for the whole field does not: its energy score is within a few percent of the truth's own
    whole = [distances.pool_energy_score(c, a).mean() for c in (b, twin)]
    assert abs(whole[1] / whole[0] - 1) < 0.05


def test_permutation_null_of_the_patch_distance():
    rng = np.random.default_rng(8)
    a, b = (gaussian_field(rng, 48, cells=16) for _ in range(2))

    def rank(x, y, times=39):
        pool = np.concatenate([x, y])
        measure = lambda order: distances.patch_wasserstein(pool[order[:48]], pool[order[48:]], patches=2048)
        return sum(measure(rng.permutation(96)) >= measure(np.arange(96)) for _ in range(times)) / times

    assert 0.025 <= rank(a, b) <= 0.975  # the same law: the observed distance is one of its permutations
    assert rank(a, 1.6 * b) == 0.0


def test_nearest_finds_the_copy_and_its_runner_up():
    rng = np.random.default_rng(9)
    training = rng.normal(size=(50, 6))
    first, second = distances.nearest(training[10:12] + 1e-6, training)
    brute = np.sort(np.sqrt(((training[10:12, None] - training) ** 2).mean(-1)), axis=1)
    assert (first < 1e-5).all()
    np.testing.assert_allclose(second, brute[:, 1], rtol=1e-4)


@pytest.mark.parametrize("score", [distances.fair_crps, distances.fair_energy_score, distances.pool_crps])
def test_one_draw_is_refused(score):
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        score(np.zeros((1, 3)), np.zeros(3))
