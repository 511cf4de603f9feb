"""The training loop: averages, budgets, repeatability, the Bayes floor, and a network that learns what is there."""

from __future__ import annotations

import math

import pytest
import torch

from surrogates.averages import Averages, applied, exponent
from surrogates.denoisers import (
    Denoiser,
    denoising_errors,
    feature_count,
    input_channels,
    loss_weight,
    nats,
    noise_levels_at,
)
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.sources import InMemory
from surrogates.tensor_streams import Use, uniforms
from surrogates.training import Budget, Settings, held_out, rate, train

torch.set_num_threads(1)
BOUNDARY = ("periodic",)
MODES = SpectralModes((16,), BOUNDARY)


def red() -> Gaussian:
    variance = 8.0 * (1.0 + 12.0 * MODES.radius()) ** -2.0
    return Gaussian.of_spectrum(MODES, variance[None].float())


def denoiser(law: Gaussian, skip: str, *, seed: int = 0, widths: tuple[int, ...] = (16, 24)) -> Denoiser:
    torch.manual_seed(seed)
    net = UNet(input_channels(skip, 1, 0), 1, features=feature_count(skip, 1, 0), boundary=BOUNDARY, widths=widths)
    return Denoiser(net, law, skip, (0.05, 30.0))


def draws(law: Gaussian, n: int, seed: int) -> torch.Tensor:
    return law.sample(torch.randn(n, 1, 16, generator=torch.Generator().manual_seed(seed)))


def test_the_bayes_floor_is_approached_and_never_passed():
    """Plain skip, so that the network itself has to find Wiener's filter; held-out error against Σ λσ²/(λ+σ²)/d."""
    law = red()
    model = denoiser(law, "plain")
    train(model, InMemory(draws(law, 4000, 1), None, 0), Budget(steps=500), settings=Settings(batch=64))
    fresh = draws(law, 1500, 2)
    levels = torch.tensor([0.1, 0.5, 2.0, 8.0])
    noise = torch.randn(4, *fresh.shape, generator=torch.Generator().manual_seed(3))
    errors = denoising_errors(model, fresh, None, levels, noise)
    floor = torch.stack([law.floor(level)[0] for level in levels])
    mean, deviation = errors.mean(1), errors.std(1) / math.sqrt(len(fresh))
    assert bool((mean > floor - 4 * deviation).all()), (mean / floor, deviation / floor)
    assert bool((mean < 1.12 * floor).all()), mean / floor
    plain = denoising_errors(denoiser(law, "plain"), fresh, None, levels, noise).mean(1)
    assert bool((plain > 1.2 * floor).any())  # the untrained network is far from it: there was something to learn
    # the Gaussian's own denoiser stands on the floor; told 2σ it does not (the measure can see a planted error)
    exact = denoising_errors(law.denoise, fresh, None, levels, noise)
    assert bool(((exact.mean(1) - floor).abs() < 4 * exact.std(1) / math.sqrt(len(fresh))).all())
    wrong = denoising_errors(lambda x, s, c=None: law.denoise(x, 2 * s), fresh, None, levels, noise).mean(1)
    assert bool((wrong > 1.05 * floor).all())


def test_the_network_beats_the_gaussian_where_the_data_are_not_gaussian():
    """Fields ±pattern + small noise: a Gaussian cannot know the sign's certainty, a network can."""
    law = red()
    generator = torch.Generator().manual_seed(0)
    pattern = torch.sin(2 * math.pi * torch.arange(16) / 16)
    sign = torch.randint(2, (1200, 1, 1), generator=generator) * 2.0 - 1.0
    x = sign * pattern + 0.1 * torch.randn(1200, 1, 16, generator=generator)
    z = MODES.analyse(x)
    power = (z[:800] ** 2).mean(0)
    law = Gaussian.of_spectrum(MODES, 0.5 * (power + MODES.mirror(power)))
    model = denoiser(law, "wiener")
    held = held_out(model, x[800:], None, seed=5)
    assert abs(float(held.gain(model).mean())) < 1e-5  # F = 0 is the Gaussian
    history = train(model, InMemory(x[:800], None, 0), Budget(steps=300), held=held)
    gain = held.gain(model)
    assert float(gain.mean()) > 10 * float(gain.std()) / math.sqrt(400)
    assert history.rows[-1]["step"] == 300


def walk(layer: torch.nn.Module, steps: int):
    """Weights that drift and shake, as a training's do."""
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        with torch.no_grad():
            for p in layer.parameters():
                p += 0.1 * torch.randn(p.shape, generator=generator) + 1.0 / (1.0 + step)
        yield step


def test_averages_are_the_power_functions_integral():
    """Weights constant between steps: ∫ p(τ) θ(τ) dτ = Σ θ_i (iᵞ⁺¹ − (i − 1)ᵞ⁺¹)/tᵞ⁺¹ (Karras et al. 2024, eq. 118)."""
    layer = torch.nn.Linear(3, 2)
    averages, path = Averages(layer), []
    for step in walk(layer, 40):
        averages.update(layer, step)
        path.append(layer.weight.detach().double().clone())
    for width, weights in zip((0.05, 0.10), averages.weights, strict=True):
        ends = (torch.arange(41, dtype=torch.float64) / 40) ** (exponent(width) + 1)
        exact = sum(w * theta for w, theta in zip(ends.diff(), path, strict=True))
        assert torch.allclose(weights[0].double(), exact, atol=1e-6)
    now = layer.weight.detach().clone()
    with applied(layer, averages.weights[0]):
        assert torch.equal(layer.weight, averages.weights[0][0])
    assert torch.equal(layer.weight, now)


def test_an_average_of_any_width_is_found_afterwards():
    """Sixteen snapshots of two widths against averages followed directly, in units of the distance to the nearest."""
    layer = torch.nn.Linear(8, 8)
    bound = {0.035: 0.06, 0.07: 0.02, 0.085: 0.02, 0.15: 0.03}
    averages, direct = Averages(layer), Averages(layer, widths=tuple(bound))
    for step in walk(layer, 400):
        averages.update(layer, step)
        direct.update(layer, step)
        if (step + 1) % 25 == 0:
            averages.keep(step + 1)
    for width, weights in zip(bound, direct.weights, strict=True):
        apart = min(float((weights[0] - w[0]).norm()) for w in averages.weights)
        error = float((averages.reconstruct(width)[0] - weights[0]).norm())
        assert error < bound[width] * apart, (width, error, apart)
    assert torch.allclose(averages.reconstruct(0.05)[0], averages.weights[0][0], atol=1e-4)
    with pytest.raises(ValueError, match=r"between 0 and 0\.2887, got 0\.3"):
        exponent(0.3)


def test_a_seed_repeats_the_run_and_another_does_not():
    law = red()
    x = draws(law, 200, 0)
    ends = []
    for seed in (1, 1, 2):
        model = denoiser(law, "wiener")
        train(model, InMemory(x, None, seed), Budget(steps=5), seed=seed, settings=Settings(batch=16))
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_log_is_a_growing_csv_file(tmp_path):
    law = red()
    model = denoiser(law, "wiener")
    x = draws(law, 64, 0)
    settings = Settings(batch=16, log=tmp_path / "log.csv", checks=2)
    history = train(model, InMemory(x, None, 0), Budget(steps=6), held=held_out(model, x, None, 0, levels=2), settings=settings)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "run,step,seconds,loss,floor,gain,width"
    assert len(lines) == 1 + len(history.rows) >= 3


def test_schedule_and_budget():
    assert rate(0.0) == 0.0
    assert rate(1.0) == pytest.approx(0.0, abs=1e-12)
    assert rate(0.05) == pytest.approx(1.0, abs=0.01)
    assert Budget(steps=10).progress(5, 99.0) == 0.5
    assert Budget(steps=10, seconds=4.0).progress(1, 3.0) == 0.75
    assert Budget(seconds=8.0).part(0.25).seconds == 2.0
    with pytest.raises(ValueError, match=r"wants steps= or seconds=, got neither"):
        Budget()


def levels(n: int, law: str, noise_range: tuple[float, float]) -> torch.Tensor:
    at = torch.arange(n)
    return torch.log(noise_levels_at((at + uniforms(0, at, 3, Use.LEVEL)) / n, noise_range, law=law))


def test_noise_levels_are_log_uniform_and_stratified():
    u = (levels(1000, "spectrum", (0.01, 100.0)) - math.log(0.01)) / math.log(1e4) * 1000
    assert bool((u.floor() == torch.arange(1000)).all())
    assert float((u - u.floor()).std()) == pytest.approx(12**-0.5, abs=0.02)


def test_karras_noise_levels_have_their_moments():
    """ln σ ~ N(−1.2 + ln 2, 1.2²): stratified, so the moments are far closer than Monte Carlo's 1.2/√n."""
    log_sigma = levels(4000, "edm", (0.004, 160.0))
    assert float(log_sigma.mean()) == pytest.approx(math.log(2) - 1.2, abs=2e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=5e-3)


def test_loss_weights():
    law = red()
    model = denoiser(law, "wiener")
    sigma = torch.tensor([0.1, 3.0])
    assert torch.allclose(loss_weight("posterior", model, sigma, None) * law.floor(sigma), torch.ones(2))
    assert torch.allclose(loss_weight("karras", model, sigma, None), (sigma**2 + 1) / sigma**2)
    with pytest.raises(ValueError, match=r"posterior.*karras.*got 'snr'"):
        loss_weight("snr", model, sigma, None)


def test_nats_are_the_likelihood_gain_of_the_better_gaussian():
    """∫(E_q − E_p) d(1/σ²)/2 over all σ is KL(p‖q) per dimension when q's denoiser is used on p's data.

    For N(0, a) data and the denoiser of N(0, b): KL = ½(a/b − 1 − ln a/b) (Verdú 2010, mismatched estimation).
    """
    a, b = 1.0, 2.5
    levels = torch.logspace(-3, 3, 4000, dtype=torch.float64)
    s2 = levels**2
    w = b / (b + s2)
    mismatched = (1 - w) ** 2 * a + w**2 * s2
    exact = a * s2 / (a + s2)
    gain = nats(exact[:, None], mismatched[:, None], levels)
    assert float(gain) == pytest.approx(0.5 * (a / b - 1 - math.log(a / b)), rel=1e-4)


def test_a_diverging_loss_is_an_error_not_a_model():
    law = red()
    model = denoiser(law, "wiener")
    with pytest.raises(FloatingPointError, match=r"must stay finite.*lower the learning rate"):
        train(model, InMemory(draws(law, 32, 0) * math.inf, None, 0), Budget(steps=3), settings=Settings(batch=8))
