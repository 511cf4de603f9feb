"""Conditioning on observations: the posterior is kriging where the law is Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import surrogates as sur

torch.set_num_threads(1)
OPTIONS = {"widths": [8, 12], "depth": 1, "embedding": 32}


def ensemble(n: int = 160, seed: int = 0) -> xr.Dataset:
    """Periodic 8 × 8 fields; the condition scales the variance and the mean, so they are Gaussian given it."""
    rng = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8), indexing="ij"))
    kappa = np.exp(rng.uniform(np.log(0.1), np.log(3.0), n))
    amplitude = (1 + 20 * k) ** -1.5 * 8 * np.exp(-kappa[:, None, None] * k)
    u = np.fft.ifft2(amplitude * np.fft.fft2(rng.normal(size=(n, 8, 8)))).real + 280 + kappa[:, None, None]
    x = ("x", (np.arange(8) + 0.5) / 8, {"units": "m", "axis": "X"})
    return xr.Dataset(
        {"u": (("member", "y", "x"), u, {"units": "K", "long_name": "temperature"})},
        {"x": x, "y": ("y", x[1]), "kappa": ("member", kappa, {"units": "m2 s-1"}), "time": 5.0},
        {"title": "rings", "boundary_x": "periodic", "boundary_y": "periodic"},
    )


@pytest.fixture(scope="module")
def model() -> sur.Surrogate:
    return sur.Surrogate(["u"], ["kappa"], network=OPTIONS).fit(ensemble(), seed=0, steps=40, batch=16)


def kriging(model: sur.Surrogate, cells: list[tuple[int, int]], values: list[float], std: float):
    """Mean and covariance of the posterior by dense linear algebra, from the Gaussian's own moments."""
    law, scale = model.gaussian_, model.fitted_.layout.scales[0]
    c = torch.zeros(1, 1, dtype=torch.float64)
    u = law.modes.synthesise(torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)).flatten(1).T
    sigma = (u @ torch.diag(law.variance(c).flatten()) @ u.T).numpy() * scale.factor**2
    mean = law.mean(c).flatten().numpy() * scale.factor + scale.offset
    rows = [8 * y + x for y, x in cells]
    gain = sigma[:, rows] @ np.linalg.inv(sigma[np.ix_(rows, rows)] + std**2 * np.eye(len(rows)))
    return mean + gain @ (np.array(values) - mean[rows]), sigma - gain @ sigma[rows]


@pytest.mark.parametrize("law", ["gaussian", "network"])
def test_given_is_kriging(model, law):
    """400 draws: means within 5 standard errors, standard deviations within 5/√(2·400) of themselves.

    The network has barely left the Gaussian here (zero-started, 40 steps): its guided draws have the same law to 10 %.
    """
    ds, cells, values, std = ensemble(), [(2, 3), (5, 6)], [282.0, 279.0], 0.2
    seen = xr.DataArray(
        values, dims="p", name="u", coords={"y": ("p", ds.y.values[[2, 5]]), "x": ("p", ds.x.values[[3, 6]])}
    )
    middle = float(model.fitted_.layout.condition_scales[0].backward(np.zeros(1))[0])
    draws = model.given(sur.Observation(seen, std)).sample(400, {"kappa": middle}, seed=7, law=law).u.values.reshape(400, 64)
    mean, covariance = kriging(model, cells, values, std)
    deviation = np.sqrt(np.diag(covariance))
    slack = 0.0 if law == "gaussian" else 0.12
    assert (np.abs(draws.mean(0) - mean) < 5 * deviation / 20 + slack * deviation).all()
    assert (np.abs(draws.std(0) / deviation - 1) < 5 / math.sqrt(800) + slack).all()
    # far from what the prior says: the test would notice a posterior that ignores the data, or collapses
    assert deviation[8 * 2 + 3] < 0.25
    assert deviation.max() > 2.5 * deviation.min()


def test_an_operator_and_a_masked_field_are_observations_too(model):
    ds = ensemble()
    total = sur.Observation([280.9], 0.05, operator=lambda field: field.mean())
    middle = float(model.fitted_.layout.condition_scales[0].backward(np.zeros(1))[0])
    draws = model.given(total).sample(50, {"kappa": middle}, law="gaussian").u
    assert np.allclose(draws.mean(("x", "y")), 280.9, atol=0.25)
    part = ds.u.isel(member=0).where(ds.x < 0.3)
    draws = model.given(sur.Observation(part, 0.01)).sample(4, {"kappa": middle}, law="gaussian").u
    assert float(abs((draws - part).isel(x=slice(0, 2))).max()) < 0.06


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda ds: sur.Observation([1.0], 0.1), TypeError, "wants a DataArray"),
        (lambda ds: sur.Observation(ds.u[0].rename("w"), 0.1), KeyError, "got 'w'"),
        (lambda ds: sur.Observation(ds.u[0].drop_vars("x"), 0.1), KeyError, "coordinate 'x'"),
        (lambda ds: sur.Observation(ds.u[0].assign_coords(x=ds.x + 9), 0.1), ValueError, "inside x"),
        (lambda ds: sur.Observation(ds.u[0], 0.0), ValueError, "std > 0"),
        (lambda ds: sur.Observation([1.0], 0.1, operator=lambda f: (f**2).mean()), ValueError, "affine"),
        (lambda ds: sur.Observation([1.0, 2.0], 0.1, operator=lambda f: f.mean()), ValueError, "gives 1 numbers"),
    ],
)
def test_bad_observations(model, make, error, message):
    with pytest.raises(error, match=message):
        model.given(make(ensemble()))


