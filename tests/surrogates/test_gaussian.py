"""The Gaussian model against dense linear algebra and against the law that made the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogates.covariance import Choice, choose, fit_gaussian, fit_log_variance, folds
from surrogates.gaussian import Gaussian, features, gaussian_from_tensors, gaussian_tensors
from surrogates.modes import DenseModes, SpectralModes

torch.set_num_threads(1)
F64 = torch.float64
BOUNDARIES = [("periodic", "periodic"), ("reflect", "reflect"), ("periodic", "reflect"), ("dirichlet", "periodic")]


def red_spectrum(modes: SpectralModes) -> torch.Tensor:
    return (1.0 + 30.0 * modes.radius()) ** -3.0 * 40.0


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_modes_are_orthonormal_and_invert(boundary):
    modes = SpectralModes((6, 5), boundary)
    basis = modes.analyse(torch.eye(30, dtype=F64).reshape(30, 1, 6, 5)).flatten(1)
    assert torch.allclose(basis @ basis.T, torch.eye(30, dtype=F64), atol=1e-12)
    x = torch.randn(3, 2, 6, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(modes.synthesise(modes.analyse(x)), x, atol=1e-12)


def test_modes_diagonalise_their_laplacian():
    """Eigenvectors of the finite-volume Laplacian: −(2 sin(θ/2))² with θ = 2πk/n, πk/n, π(k+1)/n."""
    n = 8
    difference = -2.0 * torch.eye(n, dtype=F64) + torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1)
    corners = {"periodic": None, "reflect": 1.0, "dirichlet": -1.0}
    k = torch.arange(n, dtype=F64)
    angle = {"periodic": 2 * math.pi * k / n, "reflect": math.pi * k / n, "dirichlet": math.pi * (k + 1) / n}
    for boundary, corner in corners.items():
        matrix = difference.clone()
        if corner is None:
            matrix[0, -1] = matrix[-1, 0] = 1.0
        else:  # the ghost cell is ± the edge cell
            matrix[0, 0] += corner
            matrix[-1, -1] += corner
        rows = SpectralModes((n,), (boundary,)).analyse(matrix.reshape(n, 1, n)).flatten(1)
        back = SpectralModes((n,), (boundary,)).analyse(rows.T.reshape(n, 1, n)).flatten(1)
        assert torch.allclose(back, torch.diag(-((2 * torch.sin(angle[boundary] / 2)) ** 2)), atol=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_denoiser_and_likelihood_against_dense_linear_algebra(boundary):
    modes = SpectralModes((6, 5), boundary)
    variance = red_spectrum(modes)
    variance = 0.5 * (variance + modes.mirror(variance))[None]
    mean = torch.randn(1, 6, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
    law = Gaussian.of_spectrum(modes, variance, mean)
    u = modes.synthesise(torch.eye(30, dtype=F64).reshape(30, 1, 6, 5)).flatten(1).T
    sigma = u @ torch.diag(variance.flatten()) @ u.T
    x = torch.randn(4, 1, 6, 5, dtype=F64, generator=torch.Generator().manual_seed(2)) * 2
    level = torch.tensor([0.1, 0.5, 2.0, 30.0], dtype=F64)
    for i in range(4):
        gain = sigma @ torch.linalg.inv(sigma + level[i] ** 2 * torch.eye(30, dtype=F64))
        want = mean.flatten() + gain @ (x[i] - mean).flatten()
        assert torch.allclose(law.denoise(x, level)[i].flatten(), want, atol=1e-10)
        posterior = sigma - gain @ sigma
        assert math.isclose(float(law.floor(level)[i]), float(posterior.trace()) / 30, rel_tol=1e-10)
    dense = torch.distributions.MultivariateNormal(mean.flatten(), sigma)
    assert torch.allclose(law.log_likelihood(x), dense.log_prob(x.flatten(1)), atol=1e-9)


def test_conditions_recover_mean_and_spectrum():
    """Data with known μ(c), λ(c): the fit's held-out likelihood is that of the truth to the estimation error.

    p parameters of a mode estimated from n samples cost p/(2n) nats per dimension: 7/(2·600) = 0.006.
    """
    modes = SpectralModes((12, 12), ("periodic", "reflect"))
    generator = torch.Generator().manual_seed(0)
    c = torch.rand(900, 1, generator=generator, dtype=F64) * 2 - 1
    where = torch.randn(1, 1, 12, 12, generator=generator, dtype=F64)
    base = red_spectrum(modes)[None, None]
    variance = base * torch.exp(-c[:, :, None, None] * 8 * modes.radius())
    mean = (0.5 + c)[..., None, None] * where
    noise = torch.randn(900, 1, 12, 12, generator=generator, dtype=F64)
    x = mean + modes.synthesise(variance.sqrt() * noise)
    choice = choose(x[:600], c[:600], modes.boundary)
    assert choice.mean_degree >= 1
    assert choice.variance_degree >= 1
    law = fit_gaussian(x[:600], c[:600], modes.boundary, choice)
    z = modes.analyse(x - mean)[600:]
    truth = (-0.5 * (torch.log(2 * math.pi * variance[600:]) + z**2 / variance[600:])).flatten(1).mean()
    fitted = law.log_likelihood(x[600:], c[600:]).mean() / 144
    plain = fit_gaussian(x[:600], None, modes.boundary, choose(x[:600], None, modes.boundary))
    assert 0 < float(truth - fitted) < 0.012
    assert float(fitted - plain.log_likelihood(x[600:]).mean() / 144) > 0.1


def test_gamma_regression_is_a_maximum_of_the_likelihood():
    generator = torch.Generator().manual_seed(3)
    c = torch.rand(400, 1, generator=generator, dtype=F64) * 2 - 1
    energy = torch.exp(2 * c)[..., None] * torch.randn(400, 1, 5, generator=generator, dtype=F64) ** 2
    terms = fit_log_variance(energy, c, 1)
    phi = features(c, 1, 1, energy)
    score = phi.T @ (energy.flatten(1) * torch.exp(-phi @ terms.flatten(1)) - 1.0)
    assert float(score.abs().max()) < 1e-2
    # the standard error of a slope is √(2/Σφ²) = √(2·3/400) = 0.12
    assert torch.allclose(terms[1], torch.tensor(2.0, dtype=F64), atol=4 * 0.12)


def test_shrinkage_is_between_the_extremes_and_beats_both():
    """An inhomogeneous field, fewer samples than cells: neither raw EOFs nor the spectrum alone is best."""
    rng = np.random.default_rng(0)
    s = np.linspace(0, 1, 40)
    truth = np.exp(-np.abs(s[:, None] - s[None]) / 0.3) * (0.3 + 2 * s)[:, None] * (0.3 + 2 * s)[None]
    x = torch.from_numpy(rng.multivariate_normal(np.zeros(40), truth, size=260))[:, None]
    train, held = x[:60], x[60:]
    choice = choose(train, None, ("reflect",))
    assert 0.0 < choice.shrinkage < 1.0

    def score(rho: float) -> float:
        candidate = Choice(smoothing=choice.smoothing, shrinkage=rho)
        return float(fit_gaussian(train, None, ("reflect",), candidate).log_likelihood(held).mean()) / 40

    best = score(choice.shrinkage)
    assert best > score(1.0) + 0.02
    assert best > score(0.005) + 0.02
    assert max(score(rho) for rho in (0.05, 0.1, 0.2, 0.35, 0.5)) - best < 0.05


def test_shrunk_covariance_is_the_stated_mixture():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(50, 1, 12, generator=generator, dtype=F64) @ torch.randn(12, 12, generator=generator, dtype=F64)
    choice = Choice(shrinkage=0.3)
    shrunk, target = (fit_gaussian(x, None, ("reflect",), c) for c in (choice, Choice()))

    def covariance(law: Gaussian) -> torch.Tensor:
        u = law.modes.synthesise(torch.eye(12, dtype=F64).reshape(12, 1, 12)).flatten(1).T
        return u @ torch.diag(law.variance().flatten()) @ u.T

    centred = (x - x.mean(0)).flatten(1)
    want = 0.7 * centred.T @ centred / 50 + 0.3 * covariance(target)
    assert isinstance(shrunk.modes, DenseModes)
    assert torch.allclose(covariance(shrunk), want, atol=1e-8)


def test_two_variables_share_their_cross_spectrum():
    generator = torch.Generator().manual_seed(5)
    modes = SpectralModes((10, 10), ("periodic", "periodic"))
    z = torch.randn(800, 1, 10, 10, generator=generator, dtype=F64)
    a = modes.synthesise(red_spectrum(modes).sqrt() * z)
    b = 0.8 * a + 0.2 * torch.randn(800, 1, 10, 10, generator=generator, dtype=F64)
    x = torch.cat([a, b], 1)
    law = fit_gaussian(x, None, modes.boundary, Choice())
    draws = law.sample(torch.randn(4000, 2, 10, 10, generator=generator, dtype=F64))
    correlation = np.corrcoef(draws[:, 0].flatten(), draws[:, 1].flatten())[0, 1]
    wanted = np.corrcoef(a.flatten(), b.flatten())[0, 1]
    assert abs(correlation - wanted) < 0.01


def test_float32_tensors_survive_the_file_form():
    law = fit_gaussian(torch.randn(30, 2, 8, dtype=F64), None, ("periodic",), Choice())
    again = gaussian_from_tensors(*gaussian_tensors(law))
    x = torch.randn(3, 2, 8, dtype=F64)
    assert torch.equal(again.log_likelihood(x), law.log_likelihood(x))


def test_folds_keep_their_distance():
    for train, held in folds(50, 4, gap=3):
        assert int((train[:, None] - held[None]).abs().min()) == 4
