"""Every network through the front door: 1-D to 3-D, saved and loaded, and given fields that decide the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import surrogates as sur

torch.set_num_threads(1)
SMALL = {
    "unet": {"kind": "unet", "widths": [8, 16], "depth": 1, "embedding": 32, "attention": True},
    "dit": {"kind": "dit", "patch": 2, "width": 32, "depth": 2, "heads": 2, "embedding": 32},
    "fno": {"kind": "fno", "width": 12, "depth": 2, "embedding": 32},
}


def gaussian_fields(shape: tuple[int, ...], n: int = 300) -> xr.Dataset:
    rng = np.random.default_rng(0)
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(m) * m for m in shape), indexing="ij")))
    axes = tuple(range(1, 1 + len(shape)))
    u = np.fft.ifftn(np.fft.fftn(rng.normal(size=(n, *shape)), axes=axes) * 3 / (1 + k), axes=axes).real
    names = ("z", "y", "x")[-len(shape) :]
    return xr.Dataset({"u": (("member", *names), u)}, attrs={f"boundary_{a}": "periodic" for a in names})


def spectrum_error(ds: xr.Dataset, draws: xr.Dataset) -> float:
    """RMS over wave numbers of ln(power of the draws / power of the data)."""
    shape = ds.u.shape[1:]
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(m) * m for m in shape), indexing="ij"))).round()
    axes = tuple(range(1, 1 + len(shape)))
    power = [(abs(np.fft.fftn(d.u.values, axes=axes)) ** 2).mean(0) for d in (ds, draws)]
    waves = range(1, 1 + min(shape) // 2)
    logs = [np.log(power[1][k == wave].mean() / power[0][k == wave].mean()) for wave in waves]
    return float(np.sqrt(np.mean(np.square(logs))))


@pytest.mark.parametrize(("kind", "shape"), [("unet", (16,)), ("dit", (16,)), ("fno", (16,)), ("unet", (6, 6, 6))])
def test_a_gaussian_field_gets_its_spectrum(kind, shape, tmp_path):
    """Plain skip: the network itself must find Wiener's filter. Monte Carlo alone is an RMS of √(2/150 + 2/300)/√2."""
    ds = gaussian_fields(shape)
    options = SMALL[kind] | ({"modes": [8]} if kind == "fno" else {})
    errors = []
    for steps, rate in ((1, 1e-30), (150 if len(shape) == 1 else 50, 4e-3)):
        model = sur.Surrogate(["u"], network=options, skip="plain", device="cpu")
        model.fit(ds, seed=0, steps=steps, batch=16 if len(shape) == 3 else 32, learning_rate=rate)
        draws = model.sample(150 if len(shape) == 1 else 40, seed=1, law="network", steps=9)
        errors.append(spectrum_error(ds, draws))
    assert errors[1] < (0.25 if kind != "dit" else 0.45)  # a transformer learns more slowly
    assert errors[1] < 0.5 * errors[0]
    again = sur.load(model.save(tmp_path / "m.surrogate"), device="cpu")
    assert np.array_equal(draws.u, again.sample(len(draws.u), seed=1, law="network", steps=9).u)


def driven(n: int = 240) -> xr.Dataset:
    """u = q shifted by three cells, plus noise: the given field decides, the Gaussian does not see it."""
    rng = np.random.default_rng(0)
    q = np.fft.ifft(np.fft.fft(rng.normal(size=(n, 16))) * 3 / (1 + np.abs(np.fft.fftfreq(16) * 16))).real
    u = np.roll(q, 3, axis=1) + 0.2 * rng.normal(size=(n, 16))
    data = {"u": (("member", "x"), u, {"units": "K"}), "q": (("member", "x"), 5 + q, {"units": "W"})}
    return xr.Dataset(data, {"x": np.arange(16.0)}, {"boundary_x": "periodic"})


@pytest.mark.parametrize(
    "options", [SMALL["fno"] | {"modes": [8]}, SMALL["unet"] | {"attend": True, "attention": False}]
)
def test_a_condition_may_be_a_field(options, tmp_path):
    """The draws' mean is the given field's shift, and their spread the noise's: by concatenation and by attention."""
    ds = driven()
    model = sur.Surrogate(["u"], ["q"], network=options, skip="wiener", device="cpu")
    model.fit(ds, seed=0, steps=150, batch=32, learning_rate=6e-3)
    assert model.verdict_.served == "network"
    given = driven(242).isel(member=241)
    draws = model.sample(40, {"q": given.q}, seed=1)
    error = float(((draws.u.mean("member") - np.roll(given.q.values - 5, 3)) ** 2).mean() ** 0.5)
    assert error < 0.5 * float(given.q.std())
    assert draws.q.dims == ("member", "x")
    again = sur.load(model.save(tmp_path / "m.surrogate"), device="cpu")
    assert np.array_equal(again.sample(40, {"q": given.q}, seed=1).u, draws.u)
    ll = model.log_likelihood(ds.isel(member=slice(0, 2)), law="network", steps=6)
    assert float(ll.mean()) > float(model.log_likelihood(ds.isel(member=slice(0, 2)), law="gaussian").mean())
    with pytest.raises(KeyError, match=r"is a field and must be given"):
        model.sample(2)
    with pytest.raises(ValueError, match=r"wants finite values of shape \(16,\) or \(2, 16\), got shape \(3, 16\)"):
        model.sample(2, {"q": np.zeros((3, 16))})
