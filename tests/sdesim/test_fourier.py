"""Transforms by each library: what SciPy computes, into memory that is there, in any company and on any threads."""

import importlib.util

import numpy as np
import pytest
from scipy import fft

import sdesim as sim
from sdesim import fourier

SHAPES = [(3, 21, 130), (1, 128, 64), (2, 5, 6, 7)]


@pytest.fixture(params=fourier.LIBRARIES, autouse=True)
def library(request, monkeypatch):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    monkeypatch.setenv("SDESIM_FFT", request.param)
    fourier.library.cache_clear()
    yield request.param
    fourier.library.cache_clear()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [[-1], [-2], [-2, -1]])
def test_waves_are_those_of_scipy(shape, axes):
    u = np.random.default_rng(0).standard_normal(shape)
    modes = fft.rfftn(u, axes=axes, norm="ortho")
    out, scratch, field = np.empty_like(modes), np.empty_like(modes), np.empty_like(u)
    assert fourier.waves(u, len(shape) - 1, axes, out) is out
    np.testing.assert_allclose(out, modes, rtol=0, atol=1e-13)
    kept = out.copy()
    fourier.field_of(out, len(shape) - 1, axes, shape[axes[-1]], field, scratch)
    np.testing.assert_allclose(field, u, rtol=0, atol=1e-13)
    assert np.array_equal(out, kept)


@pytest.mark.parametrize("name", ["dct", "dst"])
@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("axis", [-1, -2])
def test_cosines_and_sines_are_those_of_scipy(name, number, axis):
    u = np.random.default_rng(0).standard_normal((3, 12, 9))
    expected = getattr(fft, name)(u, type=number, axis=axis, norm="ortho")
    np.testing.assert_allclose(fourier.real(u, 2, name, number, axis), expected, rtol=0, atol=1e-13)
    assert fourier.real(u, 2, name, number, axis, u) is u
    np.testing.assert_allclose(u, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_field_has_its_bits_in_any_company_and_on_any_threads(shape):
    u = np.random.default_rng(0).standard_normal(shape)
    d = len(shape) - 1

    def all_of(u):
        modes = fourier.waves(u, d, [-2, -1])
        return modes, fourier.field_of(modes, d, [-2, -1], shape[-1]), fourier.real(u, d, "dct", 2, -2)

    whole = all_of(u)
    for k in range(shape[0]):
        assert all(np.array_equal(a[0], b[k]) for a, b in zip(all_of(u[k : k + 1].copy()), whole))
    for threads in (2, 3):
        with fourier.shared(threads):
            assert all(np.array_equal(a, b) for a, b in zip(all_of(u), whole))


def test_a_file_says_whose_transforms(library):
    ds = sim.simulate(sim.equations.heat(sim.Grid(x=(0, 1, 8)), diffusivity=1.0), {"u": 1.0}, [0.0, 0.1])
    assert ds.attrs["fft"].split()[0] == library


def test_an_unknown_library_is_refused(monkeypatch):
    monkeypatch.setenv("SDESIM_FFT", "quick")
    fourier.library.cache_clear()
    with pytest.raises(ValueError, match="SDESIM_FFT is numpy or ducc0; got 'quick'"):
        fourier.library()
