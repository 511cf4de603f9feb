"""Samplers: from noise to data along the probability flow. Each is one pure function of a denoiser.

heun          dx/dt = f x − ½g² (αD − x)/σ²  for any process, the trapezoidal rule of Heun on the given times; the last
              step to t = 0 is D itself (Karras et al. 2022, algorithm 1 without churn). Order 2. On a Gaussian with
              its exact denoiser, started from N(0, σ_M²):  var/λ = [σ_M²/(λ+σ_M²)]·[λ/(λ+σ_m²)].

exponential   for α = 1, mode by mode in the basis U of the Gaussian N(μ, UΛUᵀ), with s(σ) = √(λ + σ²), W = λ/s²,
              G = D − μ − W(x − μ),  θ = atan(σ/√λ):

                  d/dσ [z/s] = −G/(σ s),    dθ/dσ = √λ/s²,    so with g = G s/(σ√λ)
                  z(σ') = (s'/s) z + s' ∫_{θ'}^{θ} g dθ

              G = 0 for the Gaussian itself, so that any number of steps is exact and only what is not Gaussian is
              discretised: predicted with the slope of g over the step behind (no farther than that step was long) and
              corrected with the mean of both ends, order 2. The value found at the predicted end serves the next step
              too, so that a step is one call.

balanced      The levels for it. What excess kurtosis adds to the Gaussian's estimate is, to first order in it
              (Edgeworth's series of the noised data), E|G|² ∝ Σ_k λW³(1 − W)², and a rule of order 2 errs alike in
              all steps whose density over ln σ goes as |G|^{1/3}. A tenth of the highest density is kept everywhere.

`denoise(x, sigma)` takes fields (n, channels, *space) and a scalar tensor σ; conditions are bound beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from surrogates.denoisers import Field
from surrogates.gaussian import Gaussian, level_like
from surrogates.processes import Process, noise_levels


def heun(denoise: Field, x: Tensor, process: Process, times: Tensor, *, final: bool = True) -> Tensor:
    """From x at times[0] to times[-1], and with `final` one denoising to the data: 2·steps + 1 network calls.

    x (n, channels, *space) at its process's scale α x₀ + σ ε; times (steps + 1,), decreasing.

    >>> from surrogates.processes import EDM, noise_levels
    >>> wiener = lambda x, sigma: x / (1 + sigma**2)                     # data N(0, 1): x ∝ √(1 + σ²), then W
    >>> x = heun(wiener, torch.ones(1, 1, 1, dtype=torch.float64), EDM(), noise_levels(0.01, 10.0, 200))
    >>> abs(float(x) - (1 + 0.01**2) ** -0.5 / (1 + 10.0**2) ** 0.5) < 1e-4
    True
    """

    def slope(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = process.alpha(t), process.sigma(t)
        score = (alpha * denoise(x / alpha, sigma / alpha) - x) / sigma**2
        return process.drift(t) * x - 0.5 * process.squared_diffusion(t) * score

    for t, after in zip(times[:-1], times[1:], strict=True):
        h = after - t
        first = slope(x, t)
        x = x + 0.5 * h * (first + slope(x + h * first, after))
    if final:
        alpha = process.alpha(times[-1])
        x = denoise(x / alpha, process.sigma(times[-1]) / alpha)
    return x


def exponential(denoise: Field, x: Tensor, gaussian: Gaussian, levels: Tensor, c: Tensor | None = None) -> Tensor:
    """From x at levels[0] through `levels` and on to σ = 0; exact in any number of steps for the Gaussian itself.

    x (n, channels, *space); levels (steps + 1,), decreasing and positive; c the conditions of the Gaussian. Levels
    (steps + 1, 1, channels or 1, *space) hold one value per mode (noise with a spectrum): all is mode by mode.
    Network calls: steps + 1.

    >>> from surrogates.modes import SpectralModes
    >>> law = Gaussian.of_spectrum(SpectralModes((4,), ("periodic",)), torch.full((1, 4), 3.0, dtype=torch.float64))
    >>> start = torch.full((1, 1, 4), 2.0, dtype=torch.float64)
    >>> exponential(law.denoise, start, law, torch.tensor([1.0], dtype=torch.float64))[0, 0, 0] # 2 √(3/(3+1))
    tensor(1.7321, dtype=torch.float64)
    """
    mean, variance, modes = gaussian.mean(c), gaussian.variance(c), gaussian.modes
    root = variance.sqrt()
    z = modes.analyse(x - mean)
    g, slope, behind = excess(denoise, z, gaussian, levels[0], c), torch.zeros_like(z), torch.zeros_like(root)
    ends = torch.cat([levels[1:], torch.zeros_like(levels[:1])])
    for sigma, after in zip(levels, ends, strict=True):
        size = (variance + after**2).sqrt()
        carried = size / (variance + sigma**2).sqrt() * z
        angle = torch.atan(root * (sigma - after) / (variance + sigma * after))  # θ − θ' without cancellation
        if not bool((after > 0.0).all()):
            z = carried + size * angle * g
            break
        predicted = carried + size * angle * (g + 0.5 * torch.minimum(angle, behind) * slope)
        ahead = excess(denoise, predicted, gaussian, after, c)
        z = carried + size * angle * 0.5 * (g + ahead)
        slope, behind, g = (ahead - g) / angle, angle, ahead
    return mean + modes.synthesise(z)


def excess(denoise: Field, z: Tensor, gaussian: Gaussian, sigma: Tensor, c: Tensor | None = None) -> Tensor:
    """g = G s/(σ√λ) for coefficients z about the mean; σ a number, or shaped to multiply fields."""
    mean, variance, modes = gaussian.mean(c), gaussian.variance(c), gaussian.modes
    square = variance + sigma**2
    estimate = modes.analyse(denoise(mean + modes.synthesise(z), sigma) - mean)
    return (estimate - variance / square * z) * square.sqrt() / (sigma * variance.sqrt())


def advance(z: Tensor, g: Tensor, variance: Tensor, sigma: Tensor, after: Tensor) -> Tensor:
    """z(σ') = (s'/s) z + s' (θ − θ') g: one step with one value of g."""
    start, stop = (variance + sigma**2).sqrt(), (variance + after**2).sqrt()
    angle = torch.atan(variance.sqrt() * (sigma - after) / (variance + sigma * after))
    return stop / start * z + stop * angle * g


def balanced(
    gaussian: Gaussian, noise_range: tuple[float, float], steps: int, levels: Callable[[Tensor], Tensor] = lambda s: s
) -> Tensor:
    """`steps` + 1 noise levels from σ_max to σ_min for `exponential`, dense where data leave their Gaussian.

    `levels` gives the noise of each mode at a level, where it is coloured. The levels depend on no condition, so that a
    member does not depend on its batch: the spectrum is that at the centre of the conditions' range. Float64.

    >>> from surrogates.modes import SpectralModes
    >>> law = Gaussian.of_spectrum(SpectralModes((4,), ("periodic",)), torch.ones(1, 4))
    >>> [round(float(s), 2) for s in balanced(law, (0.01, 100.0), 4)]                    # half of the steps near √λ = 1
    [100.0, 1.96, 0.73, 0.25, 0.01]
    """
    centre = torch.zeros(1, max(gaussian.conditions, 1)).to(gaussian.mean_terms)
    variance = gaussian.variance(centre).double()
    edges = noise_levels(*noise_range, 100)
    r = level_like(levels((edges[:-1] * edges[1:]).sqrt()), variance)
    W = variance / (variance + r**2)
    weights = (variance * W * W * W * (1.0 - W) ** 2).flatten(1).sum(1) ** (1.0 / 6.0)
    sums = torch.cumsum(torch.maximum(weights, 0.1 * weights.max()), 0)
    reached = np.concatenate([[0.0], (sums / sums[-1]).numpy()])
    found = np.exp(np.interp(np.linspace(0.0, 1.0, steps + 1), reached, edges.log().numpy()))
    return torch.from_numpy(found)


def start(gaussian: Gaussian, noise: Tensor, level: Tensor | float, c: Tensor | None = None) -> Tensor:
    """The noised data's own law as far as it is Gaussian, N(μ, U(Λ + σ²)Uᵀ), from standard normals `noise`."""
    return gaussian.mean(c) + gaussian.modes.synthesise((gaussian.variance(c) + level**2).sqrt() * noise)
