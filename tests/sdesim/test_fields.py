"""Gaussian fields and noise: their variances and covariances, mesh independence, and that a member is its own."""

import math

import numpy as np
import pytest
from scipy import special

from sdesim.fields import (
    ColouredNoise,
    GaussianField,
    WhiteNoise,
    noise_from_dict,
    noise_to_dict,
    normalising_variance,
    restrict,
    spectral_density,
    variance,
    white_noise,
)
from sdesim.grids import Grid
from sdesim.parsing import parse
from sdesim.spectral import KINDS, Transform
from sdesim.streams import Purpose


def matern(r, length, nu):
    """ρ(r) = 2^{1−ν}/Γ(ν) (√(2ν) r/ℓ)^ν K_ν(√(2ν) r/ℓ)."""
    s = np.sqrt(2 * nu) * np.maximum(r, 1e-12) / length
    return 2 ** (1 - nu) / special.gamma(nu) * s**nu * special.kv(nu, s)


@pytest.mark.parametrize("nu", [None, 0.7, 2.5])
@pytest.mark.parametrize("dimension", [1, 2])
def test_spectral_density_is_the_transform_of_the_correlation(nu, dimension):
    """On a periodic box ≫ ℓ, Σ S(k) e^{ikr}/V is the correlation function."""
    length, n = 0.35, 256
    grid = Grid(**dict.fromkeys("xy"[:dimension], (0.0, 8.0, n)))
    transform = Transform(grid, ("periodic",) * dimension)
    spike = np.zeros(grid.shape)
    spike[(0,) * dimension] = 1.0
    rho = transform.inverse(transform.forward(spike) * spectral_density(transform, length, nu)) / grid.cell_volume
    line = rho[(0,) * (dimension - 1)][:40]
    r = np.arange(40) * grid.spacing["x"]
    expected = np.exp(-0.5 * (r / length) ** 2) if nu is None else matern(r, length, nu)
    # what the grid cuts off of a Matérn spectrum falls as (kℓ/√2ν)^{−2ν}
    tolerance = 1e-10 if nu is None else 3 * (np.pi / grid.spacing["x"] * length / math.sqrt(2 * nu)) ** (-2 * nu)
    np.testing.assert_allclose(line, expected, atol=tolerance)


@pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS])
def test_variance_of_every_cell(kinds):
    """Σ_k S_k φ_k(x)², against the diagonal of the full covariance matrix."""
    grid = Grid(x=(0, 1, 5), y=(0, 2, 4))
    transform = Transform(grid, kinds)
    density = spectral_density(transform, {"x": 0.2, "y": 0.5}, 1.5)
    basis = np.eye(grid.size).reshape(-1, *grid.shape)
    root = transform.inverse(transform.forward(basis) * np.sqrt(density)).reshape(grid.size, grid.size)
    np.testing.assert_allclose(variance(transform, density).ravel(), np.sum(root**2, axis=0), rtol=1e-12)
    full = np.broadcast_to(normalising_variance(transform, density), grid.shape)
    if not any("dirichlet" in kind for kind in kinds):
        np.testing.assert_allclose(full.ravel(), np.sum(root**2, axis=0), rtol=1e-12)


@pytest.mark.parametrize("kinds", [("periodic", "neumann"), ("neumann", "neumann"), ("periodic", "periodic")])
def test_standard_deviation_in_every_cell(kinds):
    """std is exact in law in every cell, walls included: 6 standard errors of a sample variance, √(2/M)."""
    grid, members = Grid(x=(0, 1, 12), y=(0, 1, 10)), 4000
    u = GaussianField(mean=1.0, std="2 + x", length=0.3).sample(grid, seed=5, members=range(members), kinds=kinds)
    std = 2.0 + grid.mesh["x"] + 0.0 * grid.mesh["y"]
    error = 6 * math.sqrt(2 / members)
    np.testing.assert_allclose(u.var(axis=0) / std**2, 1.0, atol=error)
    np.testing.assert_allclose((u.mean(axis=0) - 1.0) / std, 0.0, atol=6 / math.sqrt(members))


def test_a_field_vanishes_at_a_zero_value_edge():
    grid = Grid(x=(0, 1, 200))
    u = GaussianField(length=0.2).sample(grid, seed=0, members=range(200), kinds=("dirichlet",))
    assert np.std(u[:, 0]) < 0.05 * np.std(u)
    assert np.mean(u**2) == pytest.approx(1.0, rel=6 * math.sqrt(2 / 200))


def test_a_member_is_its_own():
    """Bits depend on (seed, member, state) alone."""
    grid = Grid(x=(0, 1, 9), y=(0, 1, 7))
    spec = GaussianField(std="s", length=0.2, smoothness=1.5)
    s = np.linspace(1.0, 2.0, 64)
    whole = spec.sample(grid, seed=3, members=range(64), parameters={"s": s})
    assert np.array_equal(spec.sample(grid, seed=3, members=[41], parameters={"s": s[41:42]})[0], whole[41])
    assert np.array_equal(spec.sample(grid, seed=3, members=range(7, 20), parameters={"s": s[7:20]}), whole[7:20])
    for other in (spec.sample(grid, seed=4, members=[41], parameters={"s": 1.0}),
                  spec.sample(grid, seed=3, members=[41], parameters={"s": 1.0}, state=1),
                  spec.sample(grid, seed=3, members=[41], parameters={"s": 1.0}, purpose=Purpose.PARAMETER)):
        assert abs(np.corrcoef(other.ravel(), whole[41].ravel())[0, 1]) < 0.9


def test_the_coarse_sheet_is_the_cell_mean_of_the_fine_one():
    """Bit for bit as a sum, nested without a difference, and with the variance 1/|cell| of the coarse grid."""
    coarse, fine = Grid(x=(0, 2, 6), y=(0, 1, 4)), Grid(x=(0, 2, 24), y=(0, 1, 16))
    seen = white_noise(coarse, 7, [3, 5], 2, refine=4)
    sheet = white_noise(fine, 7, [3, 5], 2)
    assert np.array_equal(seen, restrict(sheet, 4, 2))
    assert np.array_equal(restrict(restrict(sheet, 2, 2), 2, 2), seen)
    total = np.zeros((2, 4, 6))
    for j in range(4):
        for i in range(4):
            total += sheet[:, j::4, i::4]
    np.testing.assert_allclose(seen, total / 16, rtol=1e-12, atol=1e-13)
    many = white_noise(coarse, 7, range(3000), 0, refine=2)
    error = 6 * math.sqrt(2 / many.size)
    assert np.mean(many**2) * coarse.cell_volume == pytest.approx(1.0, abs=error)
    with pytest.raises(ValueError, match="must divide"):
        restrict(sheet, 3, 2)


@pytest.mark.parametrize("make, message", [
    (lambda: GaussianField(length=0.0), "positive number"),
    (lambda: GaussianField(length={"x": -1.0}), "positive number"),
    (lambda: ColouredNoise(1.0, 0.1, -2.0), "smoothness"),
    (lambda: GaussianField(std=-1.0).sample(Grid(x=(0, 1, 4)), seed=0, members=[0]), "must not be negative"),
    (lambda: GaussianField(mean="q").sample(Grid(x=(0, 1, 4)), seed=0, members=[0]), "unknown name 'q'"),
    (lambda: GaussianField(mean=np.zeros(3)).sample(Grid(x=(0, 1, 4)), seed=0, members=[0]), "shape"),
    (lambda: GaussianField(length={"x": 1.0}).sample(Grid(x=(0, 1, 4), y=(0, 1, 4)), seed=0, members=[0]), "length"),
])
def test_what_is_no_field(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("noise", [WhiteNoise(parse("2*k")), ColouredNoise(parse("u"), {"x": 0.1}, 1.5)])
def test_noise_description_round_trip(noise):
    again = noise_from_dict(noise_to_dict(noise))
    assert parse(again.amplitude) is noise.amplitude
    assert {**again.__dict__, "amplitude": None} == {**noise.__dict__, "amplitude": None}
