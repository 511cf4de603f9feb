"""Stochastic samplers, as their papers write them. `noise(k)` gives the standard normals of draw k, shaped like x.

With D the estimate of the data, α, σ at t and α', σ' at the next time, ℓ = ln(α/σ), h = ℓ' − ℓ > 0, z ~ N(0, I):

    ancestral            x' ~ q(x'|x, x₀ = D): with ρ = α/α', q² = σ² − ρ²σ'²
                         x' = (ρσ'²/σ²)x + (α'q²/σ²)D + (qσ'/σ)z                          Ho et al. 2020, eq. 7
    euler_maruyama       x' = x + (t' − t)(f x − g² ∇log p) + g√(t − t') z                      Song et al. 2021, eq. 6
    churn                σ̂ = σ(1 + γ), x̂ = x + √(σ̂² − σ²) S z, then Heun from σ̂ to σ'   Karras et al. 2022, alg. 2
    sde_2m               x' = (σ'/σ)e^{−h}x + α'(1 − e^{−2h})D̃ + σ'√(1 − e^{−2h}) z, D̃ as in `flows.dpm_2m`
                                                                                          Lu et al. 2022b, appendix D
    predictor_corrector  an ancestral step, then Langevin's: x + ε∇log p + √(2ε)z, ε = 2(rσ)²
                                                                              after Song et al. 2021, algorithms 4 and 5

Song's ε = 2(r‖z‖/‖∇log p‖)² is this one where noise prevails. Near the data of a red spectrum the score is small in all
but the finest modes and the norm's step too long for those: their variance came out up to 46 % too large. It would also
couple the members of a batch.

Arguments as in `flows.py`. The noise is an argument: of member i it depends on (seed, i) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from surrogates.denoisers import Field
from surrogates.flows import estimate, log_ratio
from surrogates.processes import EDM, Process
from surrogates.samplers import heun

Noise = Callable[[int], Tensor]


def _posterior_step(data: Tensor, x: Tensor, process: Process, t: Tensor, after: Tensor, z: Tensor) -> Tensor:
    """A draw of q(x'|x, x₀ = data)."""
    square, next_square = process.sigma(t) ** 2, process.sigma(after) ** 2
    rho = process.alpha(t) / process.alpha(after)
    added = square - rho**2 * next_square
    mean = rho * next_square / square * x + process.alpha(after) * added / square * data
    return mean + torch.sqrt(added * next_square / square) * z


def ancestral(
    denoise: Field, x: Tensor, process: Process, times: Tensor, noise: Noise, *, final: bool = True
) -> Tensor:
    """DDPM's chain on the given times, of any process. Weak order 1; steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> known = lambda x, sigma: torch.full_like(x, 3.0)                                     # data that are all 3
    >>> float(ancestral(known, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.1, 9.0, 4), silent))
    3.0
    """
    for k, (t, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        x = _posterior_step(estimate(denoise, x, process, t), x, process, t, after, noise(k))
    return estimate(denoise, x, process, times[-1]) if final else x


def euler_maruyama(
    denoise: Field, x: Tensor, process: Process, times: Tensor, noise: Noise, *, final: bool = True
) -> Tensor:
    """The reverse SDE by Euler and Maruyama's rule. Weak order 1; steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> known = lambda x, sigma: torch.full_like(x, 3.0)
    >>> float(euler_maruyama(known, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.1, 9.0, 9), silent))
    3.0
    """
    for k, (t, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        square, step = process.squared_diffusion(t), after - t
        score = (process.alpha(t) * estimate(denoise, x, process, t) - x) / process.sigma(t) ** 2
        x = x + step * (process.drift(t) * x - square * score) + torch.sqrt(-step * square) * noise(k)
    return estimate(denoise, x, process, times[-1]) if final else x


def churn(
    denoise: Field,
    x: Tensor,
    process: Process,
    times: Tensor,
    noise: Noise,
    *,
    amount: float = 40.0,
    scale: float = 1.0,
    final: bool = True,
) -> Tensor:
    """EDM's stochastic sampler, on y = x/α: γ = min(amount/steps, √2 − 1), S = scale. 2·steps + 1 network calls.

    >>> from surrogates.processes import noise_levels
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> known = lambda x, sigma: torch.full_like(x, 3.0)
    >>> start, levels = torch.ones(1, 1, 1, dtype=torch.float64), noise_levels(0.1, 9.0, 4)
    >>> round(float(churn(known, start, EDM(), levels, silent)), 9)
    3.0
    """
    gamma = min(amount / (len(times) - 1), math.sqrt(2.0) - 1.0)
    levels = process.sigma(times) / process.alpha(times)
    y = x / process.alpha(times[0])
    for k, (s, after) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        raised = (1.0 + gamma) * s
        y = y + scale * torch.sqrt(raised**2 - s**2) * noise(k)
        y = heun(denoise, y, EDM(), torch.stack([raised, after]), final=False)
    return denoise(y, levels[-1]) if final else y * process.alpha(times[-1])


def sde_2m(denoise: Field, x: Tensor, process: Process, times: Tensor, noise: Noise, *, final: bool = True) -> Tensor:
    """SDE-DPM-Solver++(2M). steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> known = lambda x, sigma: torch.full_like(x, 3.0)
    >>> float(sde_2m(known, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.1, 9.0, 4), silent))
    3.0
    """
    before, last = None, torch.ones(())
    for k, (t, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        data, h = estimate(denoise, x, process, t), log_ratio(process, after) - log_ratio(process, t)
        extrapolated = data if before is None else data + (h / last) * 0.5 * (data - before)
        fresh = -torch.expm1(-2.0 * h)
        x = process.sigma(after) / process.sigma(t) * torch.exp(-h) * x + process.alpha(after) * fresh * extrapolated
        x = x + process.sigma(after) * torch.sqrt(fresh) * noise(k)
        before, last = data, h
    return estimate(denoise, x, process, times[-1]) if final else x


def predictor_corrector(
    denoise: Field,
    x: Tensor,
    process: Process,
    times: Tensor,
    noise: Noise,
    *,
    ratio: float = 0.16,
    final: bool = True,
) -> Tensor:
    """A predictor and one Langevin step with signal-to-noise ratio r = `ratio`. 2·steps + 1 network calls.

    Langevin's rule leaves a mode of variance v = α²λ + σ² with v/(1 − (rσ)²/v): +2.6 % at most for r = 0.16.

    >>> from surrogates.processes import EDM, noise_levels
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> known = lambda x, sigma: torch.full_like(x, 3.0)
    >>> start = torch.ones(1, 1, 1, dtype=torch.float64)
    >>> float(predictor_corrector(known, start, EDM(), noise_levels(0.1, 9.0, 4), silent))
    3.0
    """
    for k, (t, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        x = _posterior_step(estimate(denoise, x, process, t), x, process, t, after, noise(2 * k))
        score = (process.alpha(after) * estimate(denoise, x, process, after) - x) / process.sigma(after) ** 2
        size = 2.0 * (ratio * process.sigma(after)) ** 2
        x = x + size * score + torch.sqrt(2.0 * size) * noise(2 * k + 1)
    return estimate(denoise, x, process, times[-1]) if final else x
