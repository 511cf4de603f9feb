"""Likelihood by the probability flow, with the Gaussian part done exactly.

Along dx/dσ = (x − D)/σ the density obeys d ln p/dσ = −∇·(dx/dσ) (Chen et al. 2018), so

    ln p_{σ_m}(x_m) = ln p_{σ_M}(x_M) + ∫_{σ_m}^{σ_M} (d − tr ∂D/∂x)/σ dσ

With D = μ + W(x − μ) + G the Gaussian part integrates to ½ Σ_k ln[(λ+σ_M²)/(λ+σ_m²)], which leaves
−∫ tr(∂G/∂x) d ln σ for the trapezoid; x follows the exponential integrator (`samplers.py`), and p_{σ_M} is
N(μ_M, U(Λ + σ_M²)Uᵀ), its mean read off the denoiser, μ_M = μ + (I − W)⁻¹G; its error is of order λ/σ_M².
For a Gaussian with its exact denoiser every step count gives −½ Σ [ln 2π(λ+σ_m²) + z²/(λ+σ_m²)].

Noise with one level r_k per mode (`corruption.py`) takes r_k for σ in all of this and Σ_k ρ_k ∂G_k/∂z_k d ln s for the
trace, ρ = d ln r/d ln s.

The trace is exact (one backward pass per dimension) or Hutchinson's vᵀ(∂G/∂x)v with random signs v, the same v along
the whole path, so that the estimate is unbiased and its spread over several v is its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates.corruption import Corruption, White
from surrogates.denoisers import Field
from surrogates.flows import slope
from surrogates.gaussian import Gaussian
from surrogates.modes import Modes
from surrogates.processes import Process

Trace = Callable[[Tensor, Tensor], Tensor]


def exact_trace(x: Tensor, out: Tensor) -> Tensor:
    """tr ∂out/∂x for each member, (n,): one backward pass per dimension; out depends on x by autograd."""
    flat = out.flatten(1)
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for j in range(flat.shape[1]):
        row = torch.autograd.grad(flat[:, j].sum(), x, retain_graph=True)[0]
        total += row.flatten(1)[:, j]
    return total


def hutchinson(signs: Tensor) -> Trace:
    """vᵀ (∂out/∂x) v for fixed random signs v of the shape of x."""

    def trace(x: Tensor, out: Tensor) -> Tensor:
        row = torch.autograd.grad((out * signs).sum(), x, retain_graph=True)[0]
        return (row * signs).flatten(1).sum(1)

    return trace


@dataclass(frozen=True)
class _Excess:
    """What a denoiser adds to the Gaussian: g = G s/(σ√λ) and tr ∂G/∂x at coefficients z about the mean."""

    denoise: Field
    modes: Modes
    mean: Tensor
    variance: Tensor
    trace: Trace
    corruption: Corruption

    def __call__(self, z: Tensor, level: Tensor, *, traced: bool = True) -> tuple[Tensor, Tensor]:
        sigma = self.corruption.levels(level)
        square = self.variance + sigma**2
        weights = self.variance / square
        x = (self.mean + self.modes.synthesise(z)).detach().requires_grad_(traced)
        with torch.set_grad_enabled(traced):
            estimate = self.denoise(x, sigma)
            # G as a whole goes through the trace, so that Hutchinson's noise in its Gaussian part cancels.
            excess = estimate - self.mean - self.modes.synthesise(weights * self.modes.analyse(x - self.mean))
            slope = self.trace(x, self._paced(excess, level)).detach() if traced else z.new_zeros(len(z))
        return self.modes.analyse(excess.detach()) * square.sqrt() / (sigma * self.variance.sqrt()), slope

    def _paced(self, excess: Tensor, level: Tensor) -> Tensor:
        """U ρ Uᵀ G: the modes at the pace of their own noise."""
        rates = self.corruption.rates(level)
        return self.modes.synthesise(rates * self.modes.analyse(excess)) if rates.ndim else excess


def flow_log_density(
    denoise: Field,
    x: Tensor,
    gaussian: Gaussian,
    levels: Tensor,
    c: Tensor | None = None,
    *,
    trace: Trace = exact_trace,
    corruption: Corruption | None = None,
) -> Tensor:
    """ln p_{σ_m}(x) in nats, (n,), by the flow from levels[0] = σ_m up to levels[-1] = σ_M.

    x (n, channels, *space); levels (steps + 1,), increasing and positive; denoise(x, r) with conditions bound; the
    corruption is White unless given.

    >>> from surrogates.modes import SpectralModes
    >>> law = Gaussian.of_spectrum(SpectralModes((4,), ("reflect",)), torch.full((1, 4), 2.0, dtype=torch.float64))
    >>> x = torch.ones(1, 1, 4, dtype=torch.float64)
    >>> levels = torch.tensor([0.01, 10.0], dtype=torch.float64)
    >>> abs(float(flow_log_density(law.denoise, x, law, levels) - law.log_likelihood(x, sigma=0.01))) < 1e-9
    True
    """
    mean, variance, modes = gaussian.mean(c), gaussian.variance(c), gaussian.modes
    root = variance.sqrt()
    noise = (corruption or White()).to(x)
    part = _Excess(denoise, modes, mean, variance, trace, noise)
    z = modes.analyse(x - mean)
    g, slope = part(z, levels[0])
    integral = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for level, following in zip(levels[:-1], levels[1:], strict=True):
        sigma, after = noise.levels(level), noise.levels(following)
        start, stop = (variance + sigma**2).sqrt(), (variance + after**2).sqrt()
        angle = torch.atan(root * (sigma - after) / (variance + sigma * after))
        ahead, _ = part(stop / start * z + stop * angle * g, following, traced=False)
        z = stop / start * z + stop * angle * 0.5 * (g + ahead)
        g, next_slope = part(z, following)
        integral = integral + 0.5 * (slope + next_slope) * torch.log(following / level)
        slope = next_slope
    highest, lowest = noise.levels(levels[-1]), noise.levels(levels[0])
    top, bottom = variance + highest**2, variance + lowest**2
    z = z - g * root * top.sqrt() / highest  # (I − W)⁻¹G = G s²/σ²
    final = -0.5 * (torch.log(2.0 * math.pi * top) + z * z / top).flatten(1).sum(1)
    return final + 0.5 * torch.log(top / bottom).flatten(1).sum(1) - integral


def log_likelihood(
    denoise: Field,
    x: Tensor,
    gaussian: Gaussian,
    levels: Tensor,
    c: Tensor | None = None,
    *,
    probes: int | None = None,
    seed: int = 0,
    corruption: Corruption | None = None,
) -> tuple[Tensor, Tensor]:
    """(ln p, its standard error), each (n,): the exact trace for probes=None, else the mean over Hutchinson probes.

    >>> from surrogates.modes import SpectralModes
    >>> law = Gaussian.of_spectrum(SpectralModes((4,), ("reflect",)), torch.full((1, 4), 2.0, dtype=torch.float64))
    >>> levels = torch.tensor([0.01, 10.0], dtype=torch.float64)
    >>> value, error = log_likelihood(law.denoise, torch.ones(1, 1, 4).double(), law, levels, probes=2)
    >>> float(error) < 1e-9
    True
    """
    if probes is None:
        value = flow_log_density(denoise, x, gaussian, levels, c, corruption=corruption)
        return value, torch.zeros_like(value)
    if probes < 2:
        raise ValueError(f"probes= wants at least 2, so that an error can be stated, got {probes}")
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(probes):
        signs = (2.0 * torch.randint(2, x.shape, generator=generator) - 1.0).to(x)
        trace = hutchinson(signs)
        values.append(flow_log_density(denoise, x, gaussian, levels, c, trace=trace, corruption=corruption))
    stacked = torch.stack(values)
    return stacked.mean(0), stacked.std(0) / math.sqrt(probes)


def path_log_density(
    denoise: Field,
    x: Tensor,
    process: Process,
    times: Tensor,
    top: Callable[[Tensor], Tensor],
    *,
    trace: Trace = exact_trace,
) -> tuple[Tensor, Tensor]:
    """(x at times[-1], ln p at times[0]), by Runge and Kutta's rule of order 4 along the flow of any process.

    x (n, channels, *space) at its process's scale; times increasing; top(x) is ln p at times[-1]. No Gaussian is used:
    d ln p/dt = −∇·(dx/dt) (Chen et al. 2018). 4·steps calls, each with its trace.

    >>> from surrogates.processes import VP, noise_levels
    >>> times = VP().time_of_level(noise_levels(0.1, 10.0, 20)).flip(0)
    >>> normal = lambda x: -0.5 * (math.log(2 * math.pi) + x * x).flatten(1).sum(1)           # VP keeps N(0, 1)
    >>> x = torch.ones(1, 1, 1, dtype=torch.float64)
    >>> value = path_log_density(lambda y, s: y / (1 + s**2), x, VP(), times, normal)[1]
    >>> bool(torch.allclose(value, normal(x)))
    True
    """

    def rates(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = slope(denoise, x, process, t)
            return out.detach(), trace(x, out).detach()

    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for t, after in zip(times[:-1], times[1:], strict=True):
        h = after - t
        a, da = rates(x, t)
        b, db = rates(x + 0.5 * h * a, t + 0.5 * h)
        c, dc = rates(x + 0.5 * h * b, t + 0.5 * h)
        d, dd = rates(x + h * c, after)
        x, total = x + h / 6 * (a + 2 * b + 2 * c + d), total + h / 6 * (da + 2 * db + 2 * dc + dd)
    return x, top(x) + total
