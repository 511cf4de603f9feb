"""Every process through the front door: Gaussian fields come back mode by mode, and their likelihood is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

import surrogates as sur
from surrogates.corruption import Modal
from surrogates.denoisers import Denoiser, denoising_errors, nats
from surrogates.drawing import OFF_THE_PATH, SAMPLERS, WALKS
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.noising import Coloured
from surrogates.processes import EDM, noise_levels
from tests.surrogates.amplification import FLOWS
from tests.surrogates.amplification import Path as AlongPath

torch.set_num_threads(1)
PROCESSES = ("heat", "coloured", "chain", "edm")
SHAPE = (6, 8)


class Nothing(torch.nn.Module):
    """F = 0: behind the Wiener skip the denoiser is the fitted Gaussian's own, exactly."""

    def __init__(self, inputs, outputs, *, features, boundary):
        super().__init__()
        self.outputs, self.scale = outputs, torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, features):
        return self.scale * inputs[:, : self.outputs]


def ensemble(n: int = 300, boundary: tuple[str, str] = ("periodic", "reflect")) -> xr.Dataset:
    modes = SpectralModes(SHAPE, boundary)
    spectrum = 30.0 * (1.0 + 8.0 * modes.radius()) ** -3.0
    noise = torch.randn(n, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = Gaussian.of_spectrum(modes, spectrum[None]).sample(noise)[:, 0].numpy() + 3.0
    attrs = {"boundary_y": boundary[0], "boundary_x": boundary[1]}
    return xr.Dataset({"u": (("member", "y", "x"), u)}, {"x": np.arange(8) * 0.5, "y": np.arange(6.0)}, attrs)


def fitted(process: str, **options) -> sur.Surrogate:
    model = sur.Surrogate(["u"], process=process, network=Nothing, skip="wiener", device="cpu", **options)
    model.fit(ensemble(), seed=0, steps=1, learning_rate=1e-30)
    denoiser = model.fitted_.denoiser.double()
    denoiser.gaussian, denoiser.corruption = model.gaussian_, model.fitted_.corruption
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, sur.Surrogate]:
    return {process: fitted(process) for process in PROCESSES}


def coefficients(model: sur.Surrogate, ds: xr.Dataset) -> torch.Tensor:
    law, scale = model.gaussian_, model.fitted_.layout.scales[0]
    return law.modes.analyse(torch.from_numpy(scale.forward(ds.u.values))[:, None] - law.mean())


def end_levels(model: sur.Surrogate) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = (torch.tensor(s, dtype=torch.float64) for s in model.noise_range_)
    return model.fitted_.corruption.levels(low), model.fitted_.corruption.levels(high)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_exponential_integrator_is_exact(models, process):
    """Started from N(μ, λ + r_M²), three steps return √λ ε: the Gaussian's own draw from the same noise, 2σ does not."""
    model = models[process]
    exact = model.sample(3, seed=5, law="gaussian").u
    drawn = model.sample(3, seed=5, law="network", steps=3).u
    assert float(abs(drawn - exact).max()) < 1e-9 * float(exact.std())


@pytest.mark.parametrize("process", ["heat", "coloured"])
@pytest.mark.parametrize("sampler", ["heun", "ddim", "dpm_2m", "unipc"])
def test_deterministic_samplers_reproduce_every_mode(models, process, sampler):
    """√(λ + r_M²) ε becomes what the sampler's formula makes of a mode, to round-off; four times λ is caught. What that
    lacks of the flow, √(λ + r_m²) ε and the last denoising by λ/(λ + r_m²), falls by the method's order."""
    model = models[process]
    low, high = end_levels(model)
    variance, path = model.gaussian_.variance(), model.fitted_.corruption.path
    unit = coefficients(model, model.sample(2, seed=5, law="gaussian")) / variance.sqrt()
    truth = variance / (variance + low**2).sqrt() * unit

    def predicted(steps: int) -> torch.Tensor:
        times = path.time_of_level(noise_levels(*model.noise_range_, steps, rho=WALKS[sampler][2]))
        x = (unit * (variance + high**2).sqrt() * path.alpha(times[0])).reshape(2, -1).numpy()
        found = FLOWS[sampler](AlongPath.of(path, times), variance.numpy().reshape(-1), x)
        return torch.from_numpy(found).reshape(unit.shape)

    def drawn() -> torch.Tensor:
        return coefficients(model, model.sample(2, seed=5, law="network", sampler=sampler, steps=60))

    def worst(found: torch.Tensor, want: torch.Tensor) -> float:
        return float(((found - want) / variance.sqrt()).abs().max())

    assert worst(drawn(), predicted(60)) < 1e-9
    order = {"ddim": 1, "unipc": 3}.get(sampler, 2)
    coarse, fine = worst(predicted(240), truth), worst(predicted(480), truth)
    assert abs(math.log2(coarse / fine) - order) < 0.3
    assert fine < (0.02 if order == 1 else 1.5e-3)  # Heun on ρ = 7 has the longest steps of ln σ
    model.fitted_.denoiser.gaussian = Gaussian.of_spectrum(
        model.gaussian_.modes, 4.0 * variance[0], model.gaussian_.mean()[0]
    )
    wrong = drawn()
    model.fitted_.denoiser.gaussian = model.gaussian_
    assert worst(wrong, predicted(60)) > 0.1


@pytest.mark.parametrize("process", ["heat", "coloured"])
@pytest.mark.parametrize("sampler", ["sde_2m"])
def test_stochastic_samplers_reproduce_every_mode(models, process, sampler):
    """Variance per mode of 1,000 members within 4.5 standard errors and the sampler's own 4 %."""
    model, n = models[process], 1000
    low, _ = end_levels(model)
    variance = model.gaussian_.variance()
    want = variance * variance / (variance + low**2)
    drawn = coefficients(model, model.sample(n, seed=6, law="network", sampler=sampler, steps=40, batch=n))
    ratio = drawn.square().mean(0) / want
    assert float((ratio - 1).abs().max()) < 4.5 * math.sqrt(2 / n) + 0.04


@pytest.mark.parametrize("process", PROCESSES)
def test_likelihood_is_the_gaussians(models, process):
    """−½ Σ [ln 2π(λ + r_m²) + z²/(λ + r_m²)] to 1e-7 nats per dimension, in any number of steps (the data come in
    as float32)."""
    model = models[process]
    ds = ensemble(4)
    low, _ = end_levels(model)
    total, z = model.gaussian_.variance() + low**2, coefficients(model, ds)
    want = -0.5 * (torch.log(2 * math.pi * total) + z * z / total).flatten(1).sum(1)
    want -= 48 * math.log(model.fitted_.layout.scales[0].factor)
    got = model.log_likelihood(ds, law="network", steps=3)
    assert float((torch.from_numpy(got.values) - want).abs().max()) / 48 < 1e-7


@pytest.mark.parametrize("process", ["heat", "coloured"])
def test_likelihood_of_a_denoiser_that_is_not_the_reference(models, process):
    """The same law told about another Gaussian's reference: it comes out all the same."""
    model = models[process]
    ds, law = ensemble(3), model.gaussian_
    low, _ = end_levels(model)
    other = Gaussian.of_spectrum(law.modes, 1.5 * law.variance()[0], law.mean()[0] + 0.1)
    total, z = law.variance() + low**2, coefficients(model, ds)
    want = -0.5 * (torch.log(2 * math.pi * total) + z * z / total).flatten(1).sum(1)
    want -= 48 * math.log(model.fitted_.layout.scales[0].factor)
    model.fitted_.gaussian = other
    got = model.log_likelihood(ds, law="network", steps=16)
    model.fitted_.gaussian = law
    # at r_M = 10 √λ the other reference's 50 % are still worth ½·0.5/101 = 0.0025 nats per dimension, twice over
    assert float((torch.from_numpy(got.values) - want).abs().max()) / 48 < 6e-3


@pytest.mark.parametrize("process", ["heat", "coloured"])
def test_held_out_nats_are_the_divergence_for_any_noise(models, process):
    """∫ over levels of the weighted error gain is ½(a − 1 − ln a) per mode for variances off by a factor a."""
    model, factor = models[process], 2.5
    law, noise = model.gaussian_, model.fitted_.corruption
    levels = torch.logspace(-4, 3 if process == "coloured" else 0, 1200, dtype=torch.float64)
    if process == "heat":
        levels = levels * model.noise_range_[1]
    r = torch.stack([noise.levels(s) for s in levels])
    rho = torch.stack([noise.rates(s) for s in levels]).expand_as(r)
    variance = law.variance()
    told = factor * variance

    def error(v):
        w = v / (v + r**2)
        return levels[:, None] ** 2 * (rho / r**2 * ((1 - w) ** 2 * variance + w**2 * r**2)).flatten(1).mean(1)[:, None]

    gain = float(nats(error(variance), error(told), levels))
    exact = 0.5 * (1 / factor - 1 + math.log(factor))
    assert gain == pytest.approx(exact, rel=0.02)  # the heat's range ends where the coarsest mode still has 1/100
    # and what `denoising_errors` measures is that integrand
    at = levels[::300]
    z = torch.randn(4000, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    eps = torch.randn(len(at), *z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = denoising_errors(
        lambda y, s, c: law.denoise(y, noise.levels(s)), law.sample(z), None, at, eps, batch=4000, corruption=noise
    )
    assert torch.allclose(found.mean(1), error(variance)[::300, 0], rtol=0.02)


def test_coloured_noise_on_a_white_spectrum_is_white_noise():
    """The same denoiser, loss and inputs: the general formulas fall back on the known ones."""
    modes = SpectralModes((8,), ("periodic",))
    law = Gaussian.of_spectrum(modes, torch.ones(1, 8))
    torch.manual_seed(0)
    net = UNet(3, 1, features=13, boundary=("periodic",), widths=(4, 6), embedding=8)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    white = Denoiser(net, law, "wiener", (0.05, 10.0))
    flat = Denoiser(net, law, "wiener", (0.05, 10.0), corruption=Modal(Coloured(EDM(), torch.ones(1, 1, 8)), modes))
    x, sigma = torch.randn(5, 1, 8), torch.tensor([0.1, 0.3, 1.0, 3.0, 9.0])
    assert torch.allclose(white(x, sigma), flat(x, sigma), atol=1e-5)
    assert torch.allclose(white.floor(sigma), flat.floor(sigma))


@pytest.mark.parametrize("process", ["heat", "coloured"])
def test_a_network_learns_through_such_noise_and_its_file_holds_it(process, tmp_path):
    """exp of a red Gaussian field: skew, which no Gaussian is. White noise gains 0.46 ± 0.07 nats by the same steps."""
    rng = np.random.default_rng(0)
    red = 2.0 * np.exp(-np.abs(np.fft.fftfreq(16) * 16) / 3)
    u = np.exp(np.fft.ifft(np.fft.fft(rng.normal(size=(600, 16))) * red).real)
    ds = xr.Dataset({"u": (("member", "x"), u)}, attrs={"boundary_x": "periodic"})
    options = {"widths": [12, 24], "depth": 1, "embedding": 32}
    model = sur.Surrogate(["u"], process=process, network=options, device="cpu")
    model.fit(ds, steps=100, batch=32, learning_rate=6e-3)
    assert model.verdict_.gain > 0.2
    draws = {law: model.sample(200, seed=1, law=law).u.values for law in ("network", "gaussian")}
    skewness = {law: float((((x - x.mean()) / x.std()) ** 3).mean()) for law, x in draws.items()}
    assert skewness["network"] > 0.8 > 5 * abs(skewness["gaussian"])
    again = sur.load(model.save(tmp_path / "m.surrogate"), device="cpu")
    assert np.array_equal(again.sample(3, seed=2, law="network").u, model.sample(3, seed=2, law="network").u)
    assert again.process == process


def test_what_does_not_go_together_is_refused(models):
    model = models["heat"]
    with pytest.raises(ValueError, match=r"wants a sampler among \['exponential'.*got 'churn'"):
        model.sample(2, law="network", sampler="churn")
    model.process = "edm"
    with pytest.raises(ValueError, match=r"process='edm' wants a network trained for it, got one for heat noise"):
        model.sample(2, law="network")
    model.process = "heat"
    with pytest.raises(ValueError, match=r"process='coloured' wants skip='wiener'"):
        sur.Surrogate(["u"], process="coloured", skip="plain").fit(ensemble())
    with pytest.raises(ValueError, match=r"chain.*heat.*got 'ddpm'"):
        sur.Surrogate(["u"], process="ddpm").fit(ensemble())
    assert {*OFF_THE_PATH} < {*SAMPLERS} == {"exponential", *WALKS}
