"""Deterministic samplers along the probability flow, as their papers write them; see `samplers.py` for Heun's.

With D the estimate of the data, α, σ at t and α', σ' at the next time, ℓ = ln(α/σ), h = ℓ' − ℓ:

    euler      x' = x + (t' − t)·[f x − ½g²(αD − x)/σ²]                                       Song et al. 2021, eq. 13
    ddim       x' = α'D + (σ'/σ)(x − αD)                                          Song, Meng & Ermon 2021, eq. 12, η = 0
    dpm_2m     x' = (σ'/σ)x − α'(e^{−h} − 1)D̃,  D̃ = D + (D − D₋)/2r,  r = h₋/h            Lu et al. 2022b, algorithm 2
    unipc      x' = (σ'/σ)x + α' ∫₀^h e^{u−h} P(u) du, P the polynomial through the estimates at hand: first through
               D₋, D (predict), then through D₋, D, D(x') (correct); that call serves the next step too.
               Zhao et al. 2023, eqs. 5–9, their linear system solved in full, whereby B(h) cancels: order 3
    adaptive   d(x/α)/d ln s = x/α − D, s = σ/α, by Bogacki & Shampine's pair 3(2), every member with its own steps

All take x at times[0] at its process's scale, times (steps + 1,) decreasing, and end, with `final`, in D itself.
α, σ may hold one value per mode where x are coefficients of modes (all but `adaptive`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from surrogates.denoisers import Field
from surrogates.gaussian import level_like
from surrogates.processes import Process


def estimate(denoise: Field, x: Tensor, process: Process, t: Tensor) -> Tensor:
    """D: the data expected from x = αx₀ + σε at time t."""
    alpha = process.alpha(t)
    return denoise(x / alpha, process.sigma(t) / alpha)


def slope(denoise: Field, x: Tensor, process: Process, t: Tensor) -> Tensor:
    """dx/dt of the probability flow: f x − ½g² (αD − x)/σ²."""
    score = (process.alpha(t) * estimate(denoise, x, process, t) - x) / process.sigma(t) ** 2
    return process.drift(t) * x - 0.5 * process.squared_diffusion(t) * score


def euler(denoise: Field, x: Tensor, process: Process, times: Tensor, *, final: bool = True) -> Tensor:
    """Euler's rule on the given times. Order 1; steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma**2)                     # data N(0, 1): x ∝ √(1 + σ²), then W
    >>> x = euler(wiener, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.01, 10.0, 2000))
    >>> abs(float(x) * 101**0.5 - 1) < 1e-2
    True
    """
    for t, after in zip(times[:-1], times[1:], strict=True):
        x = x + (after - t) * slope(denoise, x, process, t)
    return estimate(denoise, x, process, times[-1]) if final else x


def ddim(denoise: Field, x: Tensor, process: Process, times: Tensor, *, final: bool = True) -> Tensor:
    """DDIM: the noise found at t is kept, the data found at t are kept. Order 1; steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma**2)
    >>> x = ddim(wiener, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.01, 10.0, 2000))
    >>> abs(float(x) * 101**0.5 - 1) < 1e-2
    True
    """
    for t, after in zip(times[:-1], times[1:], strict=True):
        data = estimate(denoise, x, process, t)
        x = process.alpha(after) * data + process.sigma(after) / process.sigma(t) * (x - process.alpha(t) * data)
    return estimate(denoise, x, process, times[-1]) if final else x


def log_ratio(process: Process, t: Tensor) -> Tensor:
    """ℓ = ln(α/σ)."""
    return torch.log(process.alpha(t) / process.sigma(t))


def dpm_2m(denoise: Field, x: Tensor, process: Process, times: Tensor, *, final: bool = True) -> Tensor:
    """DPM-Solver++(2M). Order 2; steps + 1 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma**2)
    >>> x = dpm_2m(wiener, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.01, 10.0, 200))
    >>> abs(float(x) * 101**0.5 - 1) < 1e-3
    True
    """
    before, last = None, torch.ones(())
    for t, after in zip(times[:-1], times[1:], strict=True):
        data, h = estimate(denoise, x, process, t), log_ratio(process, after) - log_ratio(process, t)
        extrapolated = data if before is None else data + (h / last) * 0.5 * (data - before)
        x = process.sigma(after) / process.sigma(t) * x - process.alpha(after) * torch.expm1(-h) * extrapolated
        before, last = data, h
    return estimate(denoise, x, process, times[-1]) if final else x


def exponential_weights(h: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """w of ∫₀^h e^{u−h} P(u) du = Σ w_j P(h r_j) for polynomials through the nodes r_j, up to three.

    >>> zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    >>> [round(float(w), 6) for w in exponential_weights(one, [zero, one])]                    # 1 − 2/e, 1/e
    [0.264241, 0.367879]
    """
    moments = [-torch.expm1(-h)]  # M_k = h ∫₀¹ e^{h(θ−1)} θᵏ dθ = 1 − (k/h) M_{k−1}
    for k in range(1, len(nodes)):
        moments.append(1.0 - k / h * moments[-1])
    weights = []
    for j, node in enumerate(nodes):
        others = nodes[:j] + nodes[j + 1 :]
        coefficients = [torch.ones_like(h)]  # of Π (θ − r_i), ascending
        scale = torch.ones_like(h)
        for other in others:
            shifted = [torch.zeros_like(h), *coefficients]
            kept = [-other * a for a in coefficients] + [torch.zeros_like(h)]
            coefficients = [a + b for a, b in zip(shifted, kept, strict=True)]
            scale = scale * (node - other)
        parts = [a * m for a, m in zip(coefficients, moments, strict=True)]
        weights.append(torch.stack(parts).sum(0) / scale)
    return weights


def _weighted(weights: list[Tensor], values: list[Tensor]) -> Tensor:
    return torch.stack([w * value for w, value in zip(weights, values, strict=True)]).sum(0)


def unipc(denoise: Field, x: Tensor, process: Process, times: Tensor, *, final: bool = True) -> Tensor:
    """UniPC of two kept estimates, predictor and corrector. Order 3; steps + 2 network calls.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma**2)
    >>> x = unipc(wiener, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.01, 10.0, 100))
    >>> abs(float(x) * 101**0.5 - 1) < 1e-3
    True
    """
    found, last = [estimate(denoise, x, process, times[0])], torch.ones(())
    for t, after in zip(times[:-1], times[1:], strict=True):
        h = log_ratio(process, after) - log_ratio(process, t)
        nodes = [torch.zeros_like(h), -last / h][: len(found)]
        carried, alpha = process.sigma(after) / process.sigma(t) * x, process.alpha(after)
        predicted = carried + alpha * _weighted(exponential_weights(h, nodes), found)
        ahead = estimate(denoise, predicted, process, after)
        nodes.append(torch.ones_like(h))
        x = carried + alpha * _weighted(exponential_weights(h, nodes), [*found, ahead])
        found, last = [ahead, found[0]], h
    return estimate(denoise, x, process, times[-1]) if final else x


def adaptive(
    denoise: Field, x: Tensor, process: Process, times: Tensor, *, tolerance: float = 1e-3, final: bool = True
) -> Tensor:
    """From times[0] to times[-1] with steps of its own choice: 3 network calls for each, 2 more for both ends.

    `tolerance` bounds the error of a step, relative to √(mean x² of the member): absolute parts would depend on units.
    Every member steps by itself, so that it does not depend on who shares its batch; the denoiser takes σ (n,). The
    network is called until the slowest member has come home.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma[:, None, None] ** 2)
    >>> start, ends = torch.ones(1, 1, 1, dtype=torch.float64), noise_levels(0.01, 10.0, 1)
    >>> x = adaptive(wiener, start, EDM(), ends, tolerance=1e-5)
    >>> abs(float(x) * 101**0.5 - 1) < 1e-3
    True
    """
    n, ends = len(x), -log_ratio(process, torch.stack([times[0], times[-1]]).double()).to(x.device)
    y, u = x / process.alpha(times[0]), ends[0].repeat(n)
    h = (ends[1] - ends[0]).repeat(n) / 16.0

    def rate(y: Tensor, u: Tensor) -> Tensor:
        return y - denoise(y, torch.exp(u).to(y.dtype))

    first = rate(y, u)
    while bool((u > ends[1]).any()):
        h = torch.maximum(h, ends[1] - u)  # h < 0: not beyond the end, and 0 for who has arrived
        step = level_like(h, y)
        second = rate(y + 0.5 * step * first, u + 0.5 * h)
        third = rate(y + 0.75 * step * second, u + 0.75 * h)
        there = y + step * (2.0 * first + 3.0 * second + 4.0 * third) / 9.0
        last = rate(there, u + h)
        error = step * (-5.0 * first + 6.0 * second + 8.0 * third - 9.0 * last) / 72.0
        size = torch.maximum(y.flatten(1).square().mean(1), there.flatten(1).square().mean(1)).sqrt()
        ratio = error.flatten(1).square().mean(1).sqrt() / (tolerance * size) + 1e-12
        accept = ratio <= 1.0
        taken = level_like(accept, y) > 0
        y, first = torch.where(taken, there, y), torch.where(taken, last, first)
        arrived = accept & (u + h <= ends[1])
        u = torch.where(arrived, ends[1], torch.where(accept, u + h, u))
        h = torch.where(u > ends[1], h * (0.9 * ratio ** (-1.0 / 3.0)).clamp(0.2, 5.0).to(h), h)
    return denoise(y, torch.exp(u).to(y.dtype)) if final else y * process.alpha(times[-1])
