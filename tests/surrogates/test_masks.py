"""Domains with holes: graph modes, the Gaussian on wet cells, and a model of masked fields from fit to file."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import sdesim as sim
import surrogates as sur
from surrogates import graphs
from surrogates.covariance import Choice, choose, fit_gaussian
from surrogates.gaussian import Gaussian
from surrogates.graphs import GraphModes, laplacian
from surrogates.networks import OnGrid

F64 = torch.float64
ENDS = {
    "periodic": lambda n: 2 - 2 * np.cos(2 * np.pi * np.arange(n) / n),
    "reflect": lambda n: 2 - 2 * np.cos(np.pi * np.arange(n) / n),
    "dirichlet": lambda n: 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / n),
}


def basin(ny=9, nx=10):
    """An L: a box without one corner, and an island in it."""
    wet = np.ones((ny, nx), bool)
    wet[:4, 6:], wet[6, 3] = False, False
    return wet


def red(modes, channels=1):
    return (3.0 / (0.2 + modes.eigenvalues)).expand(channels, -1).clone()


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
def test_without_holes_the_eigenvalues_are_those_of_the_box(first, second):
    ny, nx = 5, 6
    found = np.linalg.eigvalsh(laplacian(np.ones((ny, nx), bool), (first, second)).toarray())
    np.testing.assert_allclose(found, np.sort(np.add.outer(ENDS[first](ny), ENDS[second](nx)).ravel()), atol=1e-12)


def test_holes_take_no_flux_and_the_constant_stays():
    wet = basin()
    matrix = laplacian(wet, ("reflect", "reflect")).toarray()
    assert np.abs(matrix.sum(axis=1)).max() < 1e-14 and np.array_equal(matrix, matrix.T)
    assert np.sum(np.linalg.eigvalsh(matrix) < 1e-12) == 1  # one basin
    split = np.ones((3, 5), bool)
    split[:, 2] = False
    assert np.sum(np.linalg.eigvalsh(laplacian(split, ("reflect", "reflect")).toarray()) < 1e-12) == 2


@pytest.mark.parametrize("channels", [1, 2])
def test_a_completed_basis_is_orthonormal_and_flat(channels, monkeypatch):
    monkeypatch.setattr(graphs, "WHOLE", 20)
    monkeypatch.setattr(graphs, "LOWEST", 12)
    modes = GraphModes.of(basin(), ("reflect", "periodic"))
    n = modes.space[0]
    columns = modes.synthesise(torch.eye(n, dtype=F64)[:, None])[:, 0].T
    torch.testing.assert_close(columns.T @ columns, torch.eye(n, dtype=F64))
    exact = np.linalg.eigvalsh(laplacian(basin(), ("reflect", "periodic")).toarray())
    np.testing.assert_allclose(modes.eigenvalues, exact[:12], atol=1e-10)
    # whatever completes it: the law that is flat there has the covariance V Λ Vᵀ + τ (I − V Vᵀ)
    variance = torch.cat([red(modes)[0], torch.full((n - 12,), 0.3, dtype=F64)]).expand(channels, -1).clone()
    law = Gaussian.of_spectrum(modes, variance)
    v = modes.vectors
    expected = v @ torch.diag(variance[0, :12]) @ v.T + 0.3 * (torch.eye(n, dtype=F64) - v @ v.T)
    torch.testing.assert_close(law.spread()[0] ** 2, expected.diagonal())
    unit = torch.eye(n, dtype=F64)[:, None].expand(-1, channels, -1)
    root = law.sample(unit)[:, 0]
    torch.testing.assert_close(root.T @ root, expected)
    assert sorted(set(modes.shells()[12:].tolist())) == [modes.shells()[11].item() + 1]


def test_likelihood_and_denoiser_on_wet_cells_are_those_of_the_dense_normal():
    modes = GraphModes.of(basin(), ("reflect", "reflect"))
    n = modes.space[0]
    law = Gaussian.of_spectrum(modes, red(modes), torch.linspace(-1, 1, n, dtype=F64)[None])
    v = modes.vectors.numpy()
    covariance = v @ np.diag(red(modes)[0]) @ v.T
    x = law.sample(torch.randn(4, 1, n, dtype=F64, generator=torch.Generator().manual_seed(0)))
    dense = stats.multivariate_normal(law.mean()[0, 0].numpy(), covariance)
    np.testing.assert_allclose(law.log_likelihood(x), dense.logpdf(x[:, 0].numpy()), rtol=1e-10)
    gain = covariance @ np.linalg.inv(covariance + 0.49 * np.eye(n))
    mean = law.mean()[0, 0].numpy()
    np.testing.assert_allclose(law.denoise(x, 0.7)[:, 0], mean + (x[:, 0].numpy() - mean) @ gain.T, rtol=1e-9)


def test_a_fit_finds_the_spectrum_and_what_variables_share():
    modes = GraphModes.of(basin(12, 12), ("reflect", "reflect"))
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(600, 2, modes.space[0], dtype=F64, generator=generator) * red(modes).sqrt()
    z[:, 1] = 0.8 * z[:, 0] + 0.6 * z[:, 1]  # a correlation of 0.8 in every mode
    x = modes.synthesise(z)
    choice = choose(x, None, modes)
    assert choice.smoothing > 0.0 and choice.shrinkage == 1.0 and not choice.homogeneous_mean  # it is diagonal there
    law = fit_gaussian(x, None, modes, choice)
    unit = torch.eye(modes.space[0], dtype=F64)
    pushed = law.sample(torch.cat([torch.stack([unit, 0 * unit], 1), torch.stack([0 * unit, unit], 1)])).flatten(1)
    pushed = pushed - law.mean().flatten(1)
    covariance = pushed.T @ pushed
    n = modes.space[0]
    truth = (modes.vectors * red(modes)[0]) @ modes.vectors.T
    for part, expected in ((covariance[:n, :n], truth), (covariance[:n, n:], 0.8 * truth)):
        error = (part - expected).norm() / expected.norm()
        assert error < 0.1  # √(2/600) = 0.06 in the gravest mode, which is a shell of its own and holds the most
    raw = (x[:, 0] - x[:, 0].mean(0)).T @ (x[:, 0] - x[:, 0].mean(0)) / len(x)
    assert (raw - truth).norm() / truth.norm() > 2 * (covariance[:n, :n] - truth).norm() / truth.norm()


def ocean(members=240, seed=4):
    """A stochastic heat equation with damping on a basin with holes, long after its start."""
    wet = basin(12, 12)
    grid = sim.Grid(x=(0.0, 12.0, 12), y=(0.0, 12.0, 12), mask=~wet)
    heat = sim.PDE(grid, diffusivity=1.0, reaction="-0.2*u", noise={"u": sim.WhiteNoise(1.0)})
    return sim.simulate(heat, 0.0, [12.0], members=members, dt=0.02, seed=seed).isel(time=0)[["u"]], wet


def test_the_solver_s_masked_ensemble_has_its_stationary_spectrum():
    # du = (Δ − a)u dt + dW on unit cells: λ_k = 1/(2(μ_k + a)), and by Euler's step 1/(2q − q²h), q = μ_k + a
    ds, wet = ocean()
    modes = GraphModes.of(wet, ("reflect", "reflect"))
    x = torch.from_numpy(ds.u.values[:, wet])[:, None]
    q = modes.eigenvalues + 0.2
    ratio = (modes.analyse(x) ** 2).mean(0)[0] * (2 * q)
    assert abs(float(ratio.mean()) - 1.0) < 5 * math.sqrt(2 / x.numel()) + 0.04  # the step's own bias is below 4 %
    law = fit_gaussian(x, None, modes, Choice(smoothing=0.9))
    low = q < 1.0
    assert float(((law.variance()[0, 0] * 2 * q)[low] - 1.0).abs().mean()) < 0.12


def test_a_model_of_masked_fields_from_fit_to_file(tmp_path):
    ds, wet = ocean()
    model = sur.Surrogate(["u"]).fit(ds, seed=0, steps=30, batch=16)
    assert model.gaussian_.shape == (1, wet.sum())
    assert [p.isfinite().all() for p in model.fitted_.denoiser.parameters()]
    for law in ("network", "gaussian"):
        made = model.sample(6, seed=3, law=law, steps=4)
        assert made.u.dims == ds.u.dims and np.isnan(made.u.values[:, ~wet]).all()
        assert np.isfinite(made.u.values[:, wet]).all()
    part = model.sample([4], seed=3, law="network", steps=4)
    np.testing.assert_allclose(part.u, model.sample(6, seed=3, law="network", steps=4).u[4:5], rtol=1e-4, atol=1e-5)
    again = sur.load(model.save(tmp_path / "basin.surrogate"))
    for law in ("network", "gaussian"):
        xr.testing.assert_identical(again.sample(3, seed=1, law=law), model.sample(3, seed=1, law=law))
    np.testing.assert_allclose(again.log_likelihood(ds.isel(member=[0, 1]), law="gaussian"),
                               model.log_likelihood(ds.isel(member=[0, 1]), law="gaussian"))  # fmt: skip


def test_the_network_sees_the_wet_cells_in_their_places_alone():
    wet = torch.from_numpy(basin())

    class Plain(torch.nn.Conv2d):
        def forward(self, inputs, features):
            return super().forward(inputs)

    where = OnGrid(Plain(2, 1, 3, padding=1, bias=False).double(), wet)
    x = torch.randn(2, 1, int(wet.sum()), dtype=F64)
    grid = torch.zeros(2, 2, *wet.shape, dtype=F64)
    grid[:, :1, wet], grid[:, 1] = x, wet.double()
    torch.testing.assert_close(where(x, x), where.network(grid, x)[..., wet])


def test_observations_of_masked_fields_give_the_exact_posterior():
    ds, wet = ocean(120)
    model = sur.Surrogate(["u"], network=False).fit(ds, seed=0)
    law, scale = model.gaussian_, model.fitted_.layout.scales[0]
    seen = xr.DataArray([1.5, -0.5], dims="p", coords={"x": ("p", [0.5, 11.5]), "y": ("p", [0.5, 11.5])}, name="u")
    posterior = model.given(sur.Observation(seen, std=0.3)).sample(400, seed=2).u.values[:, wet]
    n = int(wet.sum())
    root = law.sample(torch.eye(n, dtype=F64)[:, None])[:, 0] - law.mean()[0, 0]
    covariance, mean = (root.T @ root).numpy() * scale.factor**2, law.mean()[0, 0].numpy() * scale.factor + scale.offset
    A = np.zeros((2, n))
    A[0, 0], A[1, n - 1] = 1.0, 1.0
    gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T + 0.09 * np.eye(2))
    expected = mean + gain @ (seen.values - A @ mean)
    spread = np.sqrt(np.diag(covariance - gain @ A @ covariance))
    assert np.abs((posterior.mean(0) - expected) / (spread / 20)).max() < 4.5
    with pytest.raises(ValueError, match="cells with values, got 1 others"):
        model.given(sur.Observation(xr.DataArray([1.0], dims="p", coords={"x": ("p", [8.0]), "y": ("p", [0.5])}, name="u"), 0.1))


def test_a_mask_that_changes_or_differs_is_refused():
    ds, wet = ocean(60)
    broken = ds.copy(deep=True)
    broken["u"][5, 0, 0] = np.nan
    with pytest.raises(ValueError, match="got 1 values that are not so"):
        sur.Surrogate(["u"], network=False).fit(broken)
    filled = ds.copy(deep=True)
    filled["u"][7] = filled.u[7].fillna(0.0)
    with pytest.raises(ValueError, match=f"got {int((~wet).sum())} values that are not so"):
        sur.Surrogate(["u"], network=False).fit(filled)
    other = ds.assign(v=ds.u.where(ds.x > 1.0))
    with pytest.raises(ValueError, match="NaN in the same cells"):
        sur.Surrogate(["u", "v"], network=False).fit(other)
    with pytest.raises(ValueError, match="process='heat' wants a box without holes"):
        sur.Surrogate(["u"], process="heat").fit(ds, steps=1)
