"""Spectra of fields whose spectra are known."""

import numpy as np
import pytest

from surrogates import spectra


@pytest.mark.parametrize("periodic", [(True, True), (False, False), (True, False)])
def test_parseval(periodic):
    u = np.random.default_rng(0).normal(size=(3, 8, 10))
    power = spectra.mode_power(u, periodic)
    np.testing.assert_allclose(power.sum(axis=(1, 2)), (u**2).mean(axis=(1, 2)), rtol=1e-12)


@pytest.mark.parametrize("shape, spacing, periodic", [
    ((32, 32), (1 / 32, 1 / 32), (True, True)), ((33, 49), (0.25, 0.25), (False, False)),
    ((16, 64), (0.5, 0.25), (True, False)), ((40,), (2.0,), (False,)), ((8, 8, 8), (1.0, 1.0, 1.0), (True,) * 3),
])  # fmt: skip
def test_every_mode_has_one_band_and_the_edges_hold_it(shape, spacing, periodic):
    bands = spectra.make_bands(shape, spacing, periodic)
    axes = spectra.wavenumbers(shape, spacing, periodic)
    k = np.sqrt(sum(np.meshgrid(*(a**2 for a in axes), indexing="ij")))
    assert (bands.edges[bands.index] <= k).all()
    assert (k < bands.edges[bands.index + 1]).all()
    assert (np.diff(bands.edges) > 0).all()
    resolved = bands.index < bands.resolved.sum()
    assert (resolved == (k <= min(0.5 / np.asarray(spacing)) * (1 + 1e-9))).all()


def test_a_wave_falls_in_the_band_of_its_wavenumber():
    x = (np.arange(64) + 0.5) / 64
    bands = spectra.make_bands((64,), (1 / 64,), (True,))
    for j in (1, 5, 20):
        power = spectra.band_power(
            spectra.mode_power(np.sin(2 * np.pi * j * x)[None], (True,)), bands.index, bands.resolved.size
        )[0]
        home = np.searchsorted(bands.edges, j) - 1
        assert power[home] == pytest.approx(0.5)
        assert power.sum() == pytest.approx(0.5)
    cosine = spectra.mode_power(np.cos(np.pi * 3 * x)[None], (False,))[0]
    assert cosine[3] == pytest.approx(0.5)


def test_axis_spectra_tell_the_direction_of_a_wave():
    x = (np.arange(32) + 0.5) / 32
    u = np.broadcast_to(np.sin(2 * np.pi * 6 * x), (1, 32, 32))  # varies along the last axis
    bands = spectra.make_bands((32, 32), (1 / 32, 1 / 32), (True, True))
    power = spectra.mode_power(u, (True, True))
    along_y, along_x = (spectra.axis_power(power, bands, i)[0] for i in (0, 1))
    assert along_y[0] == pytest.approx(0.5)
    assert along_x[np.searchsorted(bands.edges, 6.0) - 1] == pytest.approx(0.5)


def test_band_power_of_a_random_field_of_known_spectrum():
    rng, k = np.random.default_rng(1), np.abs(np.fft.fftfreq(64) * 64)
    gain = 1 / (1 + k**2)
    u = np.fft.ifft(np.fft.fft(rng.normal(size=(4000, 64))) * gain).real
    bands = spectra.make_bands((64,), (1.0,), (True,))
    each = spectra.band_power(spectra.mode_power(u, (True,)), bands.index, bands.resolved.size)
    exact = np.array([(gain[bands.index == b] ** 2).sum() / 64 for b in range(bands.resolved.size)])
    error = each.std(axis=0) / np.sqrt(4000)
    inside = exact > 0
    assert (np.abs(each.mean(axis=0) - exact)[inside] < 4 * error[inside]).all()


def test_bootstrap_band_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        low, high = spectra.bootstrap_mean(rng.chisquare(4, size=(120, 1)), 200, seed=trial)
        hits += bool(low[0] <= 4.0 <= high[0])
    # 95 % nominal; the percentile bootstrap of 120 skewed values is about a percent short: 4 binomial errors of 1.3 %
    assert 0.89 <= hits / 300 <= 0.995


def test_blocks_widen_the_band_of_a_correlated_series():
    rng, x = np.random.default_rng(3), np.zeros((2000, 1))
    for i in range(1, 2000):
        x[i] = 0.95 * x[i - 1] + rng.normal()
    width = [float(np.diff(spectra.bootstrap_mean(x, 300, block=b), axis=0)[0, 0]) for b in (1, 100)]
    # the mean's true standard error is √((1 + ρ)/(1 − ρ)) = 6.2 times the independent one
    assert 3.5 < width[1] / width[0] < 9


def test_periodicity_is_seen_in_the_fields_themselves():
    rng, k = np.random.default_rng(4), np.abs(np.fft.fftfreq(64) * 64)
    ring = np.fft.ifft(np.fft.fft(rng.normal(size=(50, 64))) / (1 + k**2)).real
    assert spectra.is_periodic(ring, 0)
    assert not spectra.is_periodic(ring[:, :40], 0)
