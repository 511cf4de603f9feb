"""Likelihood by the probability flow against −½ Σ [ln 2π(λ+σ_m²) + z²/(λ+σ_m²)]."""

from __future__ import annotations

import math

import pytest
import torch

from surrogates.gaussian import Gaussian
from surrogates.likelihood import exact_trace, hutchinson, log_likelihood, path_log_density
from surrogates.modes import SpectralModes
from surrogates.noising import PROCESSES
from surrogates.processes import noise_levels

torch.set_num_threads(1)
F64 = torch.float64
MODES = SpectralModes((4, 5), ("periodic", "reflect"))
LOW, HIGH = 0.05, 300.0


def laws() -> tuple[Gaussian, Gaussian]:
    """The data's law, and a reference with other variances and another mean for the integrator to lean on."""
    spectrum = 4.0 * (1.0 + 8.0 * MODES.radius()) ** -2.0
    spectrum = (0.5 * (spectrum + MODES.mirror(spectrum)))[None]
    mean = torch.linspace(-1, 1, 20, dtype=F64).reshape(1, 4, 5)
    return Gaussian.of_spectrum(MODES, spectrum, mean), Gaussian.of_spectrum(MODES, 1.5 * spectrum, 0.5 * mean)


def samples(law: Gaussian) -> torch.Tensor:
    return law.sample(torch.randn(6, 1, 4, 5, dtype=F64, generator=torch.Generator().manual_seed(0)))


def test_exact_trace_and_exact_denoiser_in_any_number_of_steps():
    law, _ = laws()
    x = samples(law)
    for steps in (1, 7):
        value, error = log_likelihood(law.denoise, x, law, noise_levels(LOW, HIGH, steps).flip(0))
        assert float((value - law.log_likelihood(x, sigma=LOW)).abs().max()) / 20 < 1e-9
        assert float(error.max()) == 0.0


def test_converges_to_the_law_from_a_wrong_reference():
    """The reference errs by a factor 1.5: what the integrator discretises is real, and 1e-5 nats per dimension is met."""
    law, reference = laws()
    x, want = samples(law), law.log_likelihood(samples(law), sigma=LOW)

    def error(steps: int, denoise=law.denoise) -> float:
        value, _ = log_likelihood(denoise, x, reference, noise_levels(LOW, HIGH, steps).flip(0))
        return float((value - want).abs().max()) / 20

    coarse, fine = error(100), error(200)
    assert 3.0 < coarse / fine < 5.0  # order 2
    # left over: the law at σ_M is taken from the reference, an error of order (Δλ/σ_M²)
    assert error(800) < 1e-5
    # a planted factor of two in σ is far outside
    assert error(200, lambda y, s: law.denoise(y, 2 * s)) > 0.05


def test_hutchinson_is_unbiased_and_knows_its_error():
    law, reference = laws()
    x, want = samples(law), law.log_likelihood(samples(law), sigma=LOW)
    levels = noise_levels(LOW, HIGH, 60).flip(0)
    value, error = log_likelihood(law.denoise, x, reference, levels, probes=12, seed=3)
    # the two laws share their modes, but v'(U diag U')v still varies over random signs
    assert float(error.max()) > 1e-4
    assert bool(((value - want).abs() < 4.5 * error + 0.02).all())


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_through_every_process_to_1e_5_nats_per_dimension(name):
    """The flow of the process itself, no Gaussian inside: the law at t_m is N(0, α²λ + σ²) in each mode; 2σ is caught."""
    path, variance = PROCESSES[name], torch.tensor([3.0, 0.7, 0.2], dtype=F64)
    times = path.time_of_level(noise_levels(0.1, 20.0, 150)).flip(0)

    def law(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        total = path.alpha(t) ** 2 * variance + path.sigma(t) ** 2
        return -0.5 * (torch.log(2 * math.pi * total) + x * x / total).flatten(1).sum(1)

    def error(factor: float) -> float:
        def denoise(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            return variance / (variance + (factor * s) ** 2) * y

        x = torch.tensor([[[0.9, -1.0, 0.3]]], dtype=F64) * path.alpha(times[0])
        value = path_log_density(denoise, x, path, times, lambda x: law(x, times[-1]))[1]
        return float((value - law(x, times[0])).abs().max()) / 3

    assert error(1.0) < 1e-5
    assert error(2.0) > 0.05


def test_hutchinsons_variance():
    """vᵀAv over random signs: mean tr A, variance Σ_{i<j} (a_ij + a_ji)²  (Avron & Toledo 2011), 4,000 probes."""
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(6, 6, dtype=F64, generator=generator)
    signs = 2.0 * torch.randint(2, (4000, 1, 6), generator=generator).double() - 1.0
    x = torch.zeros(4000, 1, 6, dtype=F64, requires_grad=True)
    found = hutchinson(signs)(x, x @ matrix.T)
    both = torch.triu(matrix + matrix.T, diagonal=1)
    variance = float((both**2).sum())
    one = torch.zeros(1, 1, 6, dtype=F64, requires_grad=True)
    assert float(exact_trace(one, one @ matrix.T)) == pytest.approx(float(matrix.trace()))
    assert abs(float(found.mean() - matrix.trace())) < 4.5 * math.sqrt(variance / 4000)
    # the estimate's kurtosis is below 15 (a chaos of order two), which bounds the error of its variance
    assert float(found.var()) == pytest.approx(variance, rel=4.5 * math.sqrt(14 / 4000))
