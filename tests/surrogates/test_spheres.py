"""Fields on a whole sphere: harmonics, weights, padding across the poles, and a model from fit to file."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import special, stats

import sdesim as sim
import surrogates as sur
from surrogates.covariance import choose, fit_gaussian
from surrogates.graphs import GraphModes, areas
from surrogates.layouts import make_layout
from surrogates.networks.padding import pad

F64 = torch.float64


def globe(rows=10, columns=20, members=160, seed=0):
    """An isotropic Gaussian field with C_l = 1/(1 + l)³ on Gaussian rows, and its spectrum."""
    grid = sim.SphereGrid(lat=rows, lon=columns)
    lat = grid.coordinates["lat"]
    modes = GraphModes.of_sphere(lat, columns)
    m, n = len(modes.eigenvalues), rows * columns
    degree = modes.shells()[:m].double()
    amplitude = torch.full((n,), 0.02, dtype=F64)  # waves that harmonics do not resolve
    amplitude[:m] = (1.0 + degree) ** -1.5
    z = torch.randn(members, 1, n, dtype=F64, generator=torch.Generator().manual_seed(seed)) * amplitude
    weighted = modes.synthesise(z)[:, 0].reshape(members, rows, columns).numpy()
    values = weighted / np.sqrt(areas(lat))[:, None] * math.sqrt(n / (4 * math.pi))
    coords = {"lat": lat, "lon": 360.0 / columns * np.arange(columns)}
    return xr.Dataset({"u": (("member", "lat", "lon"), values)}, coords), modes


@pytest.mark.parametrize("rows", [8, 9])
def test_harmonics_on_gaussian_rows_are_scipy_s(rows):
    columns, lat = 16, np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(rows)[0]))
    modes = GraphModes.of_sphere(lat, columns)
    colatitude, turn = np.deg2rad(90.0 - lat)[:, None], 2 * np.pi * np.arange(columns) / columns
    degree = math.isqrt(len(modes.eigenvalues)) - 1
    assert degree == min(rows - 1, 7)
    # Gauss's weights are not the areas between midpoints; where both are near, so are the vectors
    root = np.sqrt(areas(lat))[:, None]
    for l in range(degree):
        for m in range(-l, l + 1):
            y = special.sph_harm_y(l, abs(m), colatitude, turn)
            wave = root * (y.real if m >= 0 else y.imag)
            found = modes.vectors[:, l * l + l + m].numpy()
            cosine = abs(found @ wave.ravel()) / np.linalg.norm(wave)
            assert cosine > 0.995, (l, m, cosine)
    np.testing.assert_allclose(modes.vectors.T @ modes.vectors, np.eye(modes.vectors.shape[1]), atol=1e-12)
    np.testing.assert_array_equal(modes.shells()[: (degree + 1) ** 2], np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1))


def test_a_fit_on_a_sphere_is_isotropic_and_finds_the_spectrum():
    ds, modes = globe()
    layout = make_layout(ds, ["u"], [], None)
    assert layout.boundary == ("pole", "periodic") and layout.cells == 200
    x = torch.from_numpy(ds.u.values.reshape(160, 1, -1) * layout.root) / layout.scales[0].factor
    choice = choose(x, None, layout.domain)
    assert choice.smoothing == 0.9 and choice.shrinkage == 1.0  # one number for each degree
    law = fit_gaussian(x, None, layout.domain, choice)
    shells = modes.shells()
    found = torch.tensor([law.variance()[0, 0][shells == l].mean() for l in range(8)])
    true = (1.0 + torch.arange(8.0)) ** -3 * 200 / (4 * math.pi) / layout.scales[0].factor ** 2
    sampling = torch.sqrt(2.0 / (160 * (2 * torch.arange(8.0) + 1)))
    assert ((found / true - 1.0).abs() < 4 * sampling + 0.02).all()
    # the variance of the field itself is the same in every row
    spread = law.spread()[0].reshape(10, 20) / torch.from_numpy(layout.root.reshape(10, 20))
    assert float(spread.std() / spread.mean()) < 0.03


def test_likelihoods_are_those_of_the_unweighted_field():
    ds, _ = globe()
    model = sur.Surrogate(["u"], network=False).fit(ds, seed=0)
    layout, law = model.fitted_.layout, model.gaussian_
    root = law.sample(torch.eye(200, dtype=F64)[:, None])[:, 0] - law.mean()[0, 0]
    scale = layout.scales[0].factor / layout.root
    covariance = np.outer(scale, scale) * (root.T @ root).numpy()
    mean = law.mean()[0, 0].numpy() * scale + layout.scales[0].offset
    dense = stats.multivariate_normal(mean, covariance, allow_singular=True)
    part = ds.isel(member=slice(0, 3))
    assert np.linalg.cond(covariance) < 1e12
    np.testing.assert_allclose(model.log_likelihood(part), dense.logpdf(part.u.values.reshape(3, -1)), rtol=1e-6)


def test_padding_crosses_the_pole_half_a_turn_further():
    x = torch.arange(24.0, dtype=F64).reshape(1, 1, 4, 6)
    y = pad(x, 2, ("pole", "periodic"))[0, 0]
    grid = x[0, 0].numpy()
    for i in range(-2, 6):
        for j in range(-2, 8):
            over = i < 0 or i > 3
            row, column = (-1 - i if i < 0 else 7 - i if i > 3 else i), (j + 3 * over) % 6
            assert y[i + 2, j + 2] == grid[row, column]


@pytest.mark.parametrize("activate", [False, True])
def test_its_adjoint_is_exact(activate):
    x = torch.randn(2, 3, 5, 6, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: pad(v, 1, ("pole", "periodic"), activate=activate), x)


def test_a_network_commutes_with_a_quarter_turn_of_the_globe():
    net = sur.networks.UNet(2, 1, features=3, boundary=("pole", "periodic"), widths=(8, 12)).double()
    torch.nn.init.normal_(net.head.convolution.weight)
    x, f = torch.randn(1, 2, 8, 16, dtype=F64), torch.randn(1, 3, dtype=F64)
    torch.testing.assert_close(net(x, f).roll(4, 3), net(x.roll(4, 3), f))


def test_a_model_of_the_globe_from_fit_to_file(tmp_path):
    ds, _ = globe(8, 16, 80)
    model = sur.Surrogate(["u"]).fit(ds, seed=0, steps=10, batch=8)
    for law in ("network", "gaussian"):
        made = model.sample(4, seed=3, law=law, steps=3)
        assert made.u.dims == ds.u.dims and np.isfinite(made.u).all()
    again = sur.load(model.save(tmp_path / "globe.surrogate"))
    xr.testing.assert_identical(again.sample(2, seed=1, law="network"), model.sample(2, seed=1, law="network"))
    drawn = model.sample(600, seed=5, law="gaussian").u.values
    ratio = drawn.std(axis=(0, 2)) / ds.u.values.std(axis=(0, 2))
    assert (np.abs(ratio - 1.0) < 0.2).all()


def test_where_a_globe_ends():
    ds, _ = globe(8, 16, 30)
    assert make_layout(ds.isel(lat=slice(1, None)), ["u"], [], None).boundary == ("reflect", "periodic")
    assert make_layout(ds, ["u"], [], {"lat": "reflect"}).boundary == ("reflect", "periodic")
    with pytest.raises(ValueError, match="from pole to pole"):
        make_layout(ds.isel(lat=slice(2, None)), ["u"], [], {"lat": "pole"})
    with pytest.raises(ValueError, match="a bridge wants a box"):
        sur.Bridge(["u"]).fit(ds, ds)
