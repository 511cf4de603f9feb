"""Samplers on Gaussian fields with the exact denoiser: laws, orders, and a planted error that must be caught.

A sampler that is linear in x sends the start N(0, v₀) of a mode to variance v₀ a², a its factor on a unit coefficient:
propagating one field of all-equal coefficients gives every mode's variance without Monte Carlo.
"""

from __future__ import annotations

import math

import pytest
import torch

from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.noising import PROCESSES, process
from surrogates.processes import EDM, noise_levels
from surrogates.samplers import balanced, exponential, heun, start

torch.set_num_threads(1)
F64 = torch.float64
LOW, HIGH = 0.02, 60.0
MODES = SpectralModes((8, 6), ("periodic", "reflect"))


def law() -> Gaussian:
    spectrum = 30.0 * (1.0 + 20.0 * MODES.radius()) ** -3.0
    return Gaussian.of_spectrum(MODES, (0.5 * (spectrum + MODES.mirror(spectrum)))[None])


def truth(gaussian: Gaussian) -> torch.Tensor:
    """var/λ = [σ_M²/(λ+σ_M²)]·[λ/(λ+σ_m²)] from the start N(0, σ_M²)."""
    v = gaussian.variance()[0]
    return HIGH**2 / (v + HIGH**2) * v / (v + LOW**2)


def unit_start() -> torch.Tensor:
    return MODES.synthesise(torch.full((1, 1, 8, 6), HIGH, dtype=F64))


def heun_ratio(name: str, steps: int, *, factor: float = 1.0) -> torch.Tensor:
    """var/λ of Heun's sampler; `factor` ≠ 1 plants an error in the σ that the denoiser is told."""
    gaussian, path = law(), process(name)
    times = path.time_of_level(noise_levels(LOW, HIGH, steps))
    x = unit_start() * path.alpha(times[0])
    end = heun(lambda y, s: gaussian.denoise(y, factor * s), x, path, times)
    return MODES.analyse(end)[0] ** 2 / gaussian.variance()[0]


def exponential_ratio(steps: int, *, reference: float = 1.0, factor: float = 1.0) -> torch.Tensor:
    """var/λ of the exponential integrator, started from the exact law at σ_M; its Gaussian has λ·reference."""
    gaussian = law()
    other = Gaussian.of_spectrum(MODES, gaussian.variance()[0] * reference)
    x = start(gaussian, MODES.analyse(unit_start()) * 0 + 1.0, HIGH)
    levels = noise_levels(LOW, HIGH, steps)
    end = exponential(lambda y, s: gaussian.denoise(y, factor * s), x, other, levels)
    return MODES.analyse(end)[0] ** 2 / gaussian.variance()[0]


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_heun_has_the_variance_of_theory_in_every_mode(name):
    # second order: 400 steps of log σ over 8 e-folds leave (8/400)² · O(1); VE walks ln σ itself, where x bends more,
    # and a chain's rate jumps at integers, between which its steps fall
    bound = {"ve": 1e-3, "chain": 2.5e-3}.get(name, 2e-4)
    assert torch.allclose(heun_ratio(name, 400), truth(law()), rtol=bound)


@pytest.mark.parametrize("name", sorted({*PROCESSES} - {"chain"}))  # a chain's rate jumps at integers: no order there
def test_heun_is_of_second_order(name):
    errors = [float((heun_ratio(name, n) - truth(law())).abs().max()) for n in (100, 200, 400)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(1.8 < order < 2.3 for order in orders), orders


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_exponential_is_exact_for_its_gaussian_in_any_number_of_steps(steps):
    assert torch.allclose(exponential_ratio(steps), torch.ones(1, 8, 6, dtype=F64), rtol=1e-10)


def test_exponential_converges_for_another_gaussian():
    """With a reference spectrum three times too large only the discretised part remains, of order 2."""
    # The last step to σ = 0 has one call: keep its error out by comparing with a much finer grid of the same ends.
    fine = exponential_ratio(2400, reference=3.0)
    errors = [float((exponential_ratio(n, reference=3.0) - fine).abs().max()) for n in (50, 100, 200)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(1.75 < found < 2.45 for found in orders), orders
    # the last step's own error is of order σ_m²/λ
    assert bool(((fine - 1.0).abs() < LOW**2 / law().variance()[0]).all())


def test_a_factor_of_two_in_sigma_is_caught():
    """Mutation: the same assertions fail when the denoiser is told 2σ, or ½σ."""
    for factor in (0.5, 2.0):
        assert not torch.allclose(exponential_ratio(9, factor=factor), torch.ones(1, 8, 6, dtype=F64), rtol=0.2)
        for name in PROCESSES:
            assert not torch.allclose(heun_ratio(name, 400, factor=factor), truth(law()), rtol=0.2)


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_processes_are_the_sdes_they_claim(name):
    """α' = f α and (σ²)' = 2 f σ² + g², by central differences; the level's inverse is exact."""
    path = process(name)
    t = torch.linspace(0.05, 0.95, 19, dtype=F64)
    h = 1e-5
    alpha_slope = (path.alpha(t + h) - path.alpha(t - h)) / (2 * h)
    square_slope = (path.sigma(t + h) ** 2 - path.sigma(t - h) ** 2) / (2 * h)
    assert torch.allclose(alpha_slope, path.drift(t) * path.alpha(t), atol=1e-7)
    assert torch.allclose(square_slope, 2 * path.drift(t) * path.sigma(t) ** 2 + path.squared_diffusion(t), atol=1e-6)
    level = torch.logspace(-3, 2, 11, dtype=F64)
    times = path.time_of_level(level)
    assert torch.allclose(path.sigma(times) / path.alpha(times), level, rtol=1e-9)


def test_unknown_process_says_what_exists():
    with pytest.raises(ValueError, match=r"edm.*vp.*got 'ddpm'"):
        process("ddpm")


def two_hills(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """E[x₀ | y] for an equal mixture of two Gaussian fields, ±4 in one mode and variance λ around it, exactly."""
    inner, centre = law().variance()[0], torch.zeros(1, 8, 6, dtype=F64)
    centre[0, 2, 1] = 4.0
    z = MODES.analyse(y)
    odds = torch.sigmoid(2.0 * (z * centre / (inner + s**2)).flatten(1).sum(1)).reshape(-1, 1, 1, 1)
    middle = (2.0 * odds - 1.0) * centre
    return MODES.synthesise(middle + inner / (inner + s**2) * (z - middle))


def test_balanced_levels_where_the_data_leave_their_gaussian():
    """Two hills, their own Gaussian as reference: 13 calls on balanced levels err less than 13 on equal steps of ln σ,
    and less than half as much as Heun's 35 on Karras' grid; the calls are counted."""
    inner = law().variance()[0].clone()
    inner[0, 2, 1] += 16.0
    gaussian, calls = Gaussian.of_spectrum(MODES, inner), 0
    noise = torch.randn(200, 1, 8, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
    x = start(gaussian, noise, HIGH)

    def denoise(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return two_hills(y, s)

    fine = exponential(two_hills, x, gaussian, noise_levels(LOW, HIGH, 2000))

    def error(end: torch.Tensor) -> float:
        return float((end - fine).square().mean().sqrt() / fine.std())

    balanced_levels = balanced(gaussian, (LOW, HIGH), 12)
    assert balanced_levels[0] == pytest.approx(HIGH) and balanced_levels[-1] == pytest.approx(LOW)
    found = error(exponential(denoise, x, gaussian, balanced_levels))
    assert calls == 13
    assert found < 0.95 * error(exponential(two_hills, x, gaussian, noise_levels(LOW, HIGH, 12)))
    assert found < 0.5 * error(heun(two_hills, x, EDM(), noise_levels(LOW, HIGH, 17, rho=7.0)))
