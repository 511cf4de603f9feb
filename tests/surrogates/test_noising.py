"""Processes with arguments and of fields: the SDEs they claim, the same data from each, the solver's own ensemble."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import sdesim as sim
from surrogates import diffusions, flows
from surrogates.modes import SpectralModes
from surrogates.noising import PROCESSES, Chain, Coloured, General, Heat, heat
from surrogates.parametrisations import KINDS, denoiser_of, from_data, to_data
from surrogates.processes import EDM, VP, noise_levels

torch.set_num_threads(1)
F64 = torch.float64
GRID = sim.Grid(x=(0.0, 1.0, 8))
VARIANCE = 4.0 * (1.0 + torch.arange(8, dtype=F64)) ** -2.0
FIELD = {
    "heat": heat(GRID, ("neumann",), 0.01, 10.0),
    "coloured": Coloured(EDM(), VARIANCE.sqrt()),
    "coloured vp": Coloured(VP(), VARIANCE.sqrt()),
}
SCALAR = {"chain": Chain.linear(), "general": General(lambda t: torch.exp(-t), lambda t: torch.sinh(t), 12.0)}


@pytest.mark.parametrize("name", [*FIELD, *SCALAR])
def test_the_sde_is_the_one_claimed(name):
    """α' = fα and (σ²)' = 2fσ² + g² by central differences; away from the integers, where a chain's rate jumps."""
    path = (FIELD | SCALAR)[name]
    for t in torch.tensor([0.3, 0.77, 1.4], dtype=F64):
        h = 1e-5
        alpha_slope = (path.alpha(t + h) - path.alpha(t - h)) / (2 * h)
        square_slope = (path.sigma(t + h) ** 2 - path.sigma(t - h) ** 2) / (2 * h)
        want = 2 * path.drift(t) * path.sigma(t) ** 2 + path.squared_diffusion(t)
        assert torch.allclose(alpha_slope, path.drift(t) * path.alpha(t), atol=1e-7)
        assert torch.allclose(square_slope, want.expand_as(square_slope), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", SCALAR)
def test_levels_invert(name):
    levels = torch.logspace(-1, 1, 9, dtype=F64)
    times = SCALAR[name].time_of_level(levels)
    assert torch.allclose(SCALAR[name].sigma(times) / SCALAR[name].alpha(times), levels, rtol=1e-9)


def modal_denoiser(factor: float = 1.0):
    return lambda y, s: VARIANCE / (VARIANCE + (factor * s) ** 2) * y


@pytest.mark.parametrize("name", [*FIELD, *SCALAR])
@pytest.mark.parametrize("sampler", [flows.ddim, flows.dpm_2m, flows.unipc, flows.euler])
def test_the_same_data_through_every_process(name, sampler):
    """From the exact law of x at t_M every process returns λ·λ/(λ + s_m²) in each mode; 2σ is caught.

    Δ = ln(3000)/400 = 0.02: DDIM lacks Δ/2 = 1 % (`test_amplification.py`), second order leaves a few Δ³ of 400 steps,
    third less; Euler's rule is even in the process's own time, not in ln σ.
    """
    path = (FIELD | SCALAR)[name]
    times = path.time_of_level(noise_levels(0.01, 30.0, 400))
    top = path.alpha(times[0]) ** 2 * VARIANCE + path.sigma(times[0]) ** 2
    level = path.sigma(times[-1]) / path.alpha(times[-1])
    want = VARIANCE**2 / (VARIANCE + level**2)
    start = top.sqrt().expand(1, 1, 8)
    end = sampler(modal_denoiser(), start, path, times)[0, 0] ** 2
    bound = {flows.ddim: 0.011, flows.euler: 0.08, flows.dpm_2m: 1e-4, flows.unipc: 1e-5}[sampler]
    assert torch.allclose(end, want, rtol=bound)
    assert not torch.allclose(sampler(modal_denoiser(2.0), start, path, times)[0, 0] ** 2, want, rtol=0.2)


def test_ancestral_on_a_chain_is_ddpm():
    """Ho et al. 2020, eqs. 6 and 7: mean √ᾱ'β/(1−ᾱ)·x₀ + √α(1−ᾱ')/(1−ᾱ)·x_t, variance (1−ᾱ')/(1−ᾱ)·β."""
    chain, i = Chain.linear(), 400
    betas = np.array(chain.betas)
    bar = np.cumprod(1 - betas)
    now, before, beta = bar[i - 1], bar[i - 2], betas[i - 1]
    times = torch.tensor([i, i - 1], dtype=F64)
    x, z, data = (torch.full((1, 1, 1), value, dtype=F64) for value in (0.7, 1.3, -0.4))
    got = diffusions.ancestral(lambda y, s: data, x, chain, times, lambda k: z, final=False)
    mean = math.sqrt(before) * beta / (1 - now) * -0.4 + math.sqrt(1 - beta) * (1 - before) / (1 - now) * 0.7
    assert float(got) == pytest.approx(mean + math.sqrt((1 - before) / (1 - now) * beta) * 1.3, rel=1e-10)


@pytest.mark.parametrize("kind", ["neumann", "periodic"])
def test_heat_as_noise_is_the_solvers_own_ensemble(kind):
    """600 members of du = κ∇²u dt + s dW: mean a·x₀ and variance v per mode, within 4.5 standard errors."""
    grid, kappa, amplitude, t, n = sim.Grid(x=(0.0, 1.0, 16)), 0.02, 0.3, 0.5, 600
    start = 1.0 + np.cos(2 * np.pi * grid.coordinates["x"])
    boundary = {"x": sim.Periodic()} if kind == "periodic" else None
    model = sim.PDE(grid, diffusivity=kappa, noise={"u": sim.WhiteNoise(amplitude)}, boundary=boundary)
    ds = sim.simulate(model, {"u": start}, [0.0, t], members=n, method="exact", seed=3)
    modes = SpectralModes((16,), ("reflect" if kind == "neumann" else "periodic",))
    z = modes.analyse(torch.from_numpy(ds.u.values[:, -1:].copy()))[:, 0]
    path = heat(grid, (kind,), kappa, amplitude / math.sqrt(grid.cell_volume))
    at = torch.tensor(t, dtype=F64)
    mean = path.alpha(at) * modes.analyse(torch.from_numpy(start)[None, None])[0, 0]
    sigma = path.sigma(at)
    assert bool(((z.mean(0) - mean).abs() < 4.5 * sigma / math.sqrt(n)).all())
    assert bool(((z.var(0) / sigma**2 - 1).abs() < 4.5 * math.sqrt(2 / n)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_parametrisations_invert_and_stand_for_one_denoiser(kind):
    x, data = torch.randn(2, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    for path in PROCESSES.values():
        t = path.time_of_level(torch.tensor(1.7, dtype=F64))
        alpha, sigma = path.alpha(t), path.sigma(t)
        assert torch.allclose(to_data(kind, from_data(kind, data, x, alpha, sigma), x, alpha, sigma), data)

        def predict(x, t, path=path):
            alpha, sigma = path.alpha(t), path.sigma(t)
            return from_data(kind, alpha * x / (alpha**2 + sigma**2), x, alpha, sigma)  # data N(0, 1)

        s = torch.tensor(1.7, dtype=F64)
        assert torch.allclose(denoiser_of(predict, kind, path)(x, s), x / (1 + s**2))


def test_an_unknown_parametrisation_says_what_exists():
    one = torch.ones(())
    with pytest.raises(ValueError, match=r"noise.*velocity.*got 'x0'"):
        to_data("x0", one, one, one, one)
    assert isinstance(FIELD["heat"], Heat)
