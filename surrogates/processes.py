"""Forward processes: how data turn into noise, as a linear SDE.

    x_t = α(t) x₀ + σ(t) ε,   ε ~ N(0, I)
    dx = f(t) x dt + g(t) dW,   f = α'/α,   g² = dσ²/dt − 2 f σ²           (Song et al. 2021, eqs. 5 and 29)
    probability flow:  dx/dt = f x − ½ g² ∇log p_t(x),   ∇log p_t(x) = (α D − x)/σ²

Every process with a scalar α is the variance-exploding one seen through a scaling: y = x_t/α has noise level
s = σ/α, and the denoiser D(y; s) = E[x₀ | y] belongs to the data, not to the process. So networks are trained
once, on s, and a process decides only the path that a sampler walks.

To add a process: a frozen dataclass with `alpha`, `sigma`, `drift`, `squared_diffusion`, `time_of_level`, and
one row in noising.PROCESSES. All five take and give tensors and may return one value per mode (a field's own heat
equation as the noising SDE).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Process(Protocol):
    """A linear noising SDE; t is a tensor of any shape."""

    def alpha(self, t: Tensor) -> Tensor:
        """The factor on the data."""

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise."""

    def drift(self, t: Tensor) -> Tensor:
        """f(t) of dx = f x dt + g dW."""

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """g(t)² of dx = f x dt + g dW."""

    def time_of_level(self, level: Tensor) -> Tensor:
        """The time at which σ/α equals `level`."""


@dataclass(frozen=True)
class EDM:
    """Variance exploding with time as noise level: α = 1, σ = t (Karras et al. 2022, table 1).

    >>> float(EDM().sigma(torch.tensor(3.0)))
    3.0
    """

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def drift(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """2 t."""
        return 2.0 * t

    def time_of_level(self, level: Tensor) -> Tensor:
        """t = σ."""
        return level


@dataclass(frozen=True)
class VP:
    """Variance preserving, β(t) = β₀ + (β₁ − β₀) t: α = exp(−½ ∫β), σ² = 1 − α² (Song et al. 2021, eq. 32).

    >>> vp = VP()
    >>> t = vp.time_of_level(torch.tensor(2.0, dtype=torch.float64))
    >>> round(float(vp.sigma(t) / vp.alpha(t)), 9)
    2.0
    """

    beta_0: float = 0.1
    beta_1: float = 20.0

    def _integral(self, t: Tensor) -> Tensor:
        return self.beta_0 * t + 0.5 * (self.beta_1 - self.beta_0) * t * t

    def alpha(self, t: Tensor) -> Tensor:
        """exp(−½ ∫₀ᵗ β)."""
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        """√(1 − α²)."""
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def drift(self, t: Tensor) -> Tensor:
        """−β/2."""
        return -0.5 * self.squared_diffusion(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """β(t)."""
        return self.beta_0 + (self.beta_1 - self.beta_0) * t

    def time_of_level(self, level: Tensor) -> Tensor:
        """Solves exp(∫β) − 1 = level² for t; t may pass 1 when the level is large, and α, σ stay exact there."""
        target = torch.log1p(level * level)
        slope = self.beta_1 - self.beta_0
        # The root of ½ slope t² + β₀ t − target, in the form that keeps its digits at small levels.
        return 2.0 * target / (self.beta_0 + torch.sqrt(self.beta_0**2 + 2.0 * slope * target))


@dataclass(frozen=True)
class SubVP(VP):
    """Sub-VP: α as VP's, σ = 1 − α² (Song et al. 2021, eq. 29).

    >>> float(SubVP().sigma(torch.tensor(9.0)))
    1.0
    """

    def sigma(self, t: Tensor) -> Tensor:
        """1 − exp(−∫β)."""
        return -torch.expm1(-self._integral(t))

    def drift(self, t: Tensor) -> Tensor:
        """−β/2."""
        return -0.5 * VP.squared_diffusion(self, t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """β(1 − exp(−2∫β))."""
        return VP.squared_diffusion(self, t) * -torch.expm1(-2.0 * self._integral(t))

    def time_of_level(self, level: Tensor) -> Tensor:
        """1/α − α = level: ∫β = 2 asinh(level/2), which VP reaches where its level is √(exp(∫β) − 1)."""
        return VP.time_of_level(self, torch.sqrt(torch.expm1(2.0 * torch.asinh(0.5 * level))))


@dataclass(frozen=True)
class Cosine:
    """α = cos(πt/2), σ = sin(πt/2) (Nichol & Dhariwal 2021 without offset).

    >>> round(float(Cosine().time_of_level(torch.tensor(1.0))), 6)
    0.5
    """

    def alpha(self, t: Tensor) -> Tensor:
        """cos(πt/2)."""
        return torch.cos(0.5 * math.pi * t)

    def sigma(self, t: Tensor) -> Tensor:
        """sin(πt/2)."""
        return torch.sin(0.5 * math.pi * t)

    def drift(self, t: Tensor) -> Tensor:
        """−(π/2) tan(πt/2)."""
        return -0.5 * math.pi * torch.tan(0.5 * math.pi * t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """π tan(πt/2)."""
        return math.pi * torch.tan(0.5 * math.pi * t)

    def time_of_level(self, level: Tensor) -> Tensor:
        """(2/π) atan(level)."""
        return 2.0 / math.pi * torch.atan(level)


@dataclass(frozen=True)
class Flow:
    """Flow matching's straight path, α = 1 − t, σ = t (Lipman et al. 2023, eq. 22; Liu et al. 2023).

    >>> float(Flow().time_of_level(torch.tensor(3.0)))
    0.75
    """

    def alpha(self, t: Tensor) -> Tensor:
        """1 − t."""
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def drift(self, t: Tensor) -> Tensor:
        """−1/(1 − t)."""
        return -1.0 / (1.0 - t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """2t/(1 − t)."""
        return 2.0 * t / (1.0 - t)

    def time_of_level(self, level: Tensor) -> Tensor:
        """level/(1 + level)."""
        return level / (1.0 + level)


@dataclass(frozen=True)
class VE:
    """Variance exploding, σ = σ₀(σ₁/σ₀)ᵗ (Song et al. 2021, eq. 30): data with noise σ₀ at t = 0.

    >>> float(VE(0.01, 100.0).sigma(torch.tensor(0.5)))
    1.0
    """

    lowest: float = 0.01
    highest: float = 50.0

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """σ₀(σ₁/σ₀)ᵗ."""
        return self.lowest * (self.highest / self.lowest) ** t

    def drift(self, t: Tensor) -> Tensor:
        """0."""
        return torch.zeros_like(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """2σ² ln(σ₁/σ₀)."""
        return 2.0 * math.log(self.highest / self.lowest) * self.sigma(t) ** 2

    def time_of_level(self, level: Tensor) -> Tensor:
        """ln(level/σ₀)/ln(σ₁/σ₀); outside [0, 1] beyond [σ₀, σ₁], and α, σ stay exact there."""
        return torch.log(level / self.lowest) / math.log(self.highest / self.lowest)


def noise_levels(
    lowest: float, highest: float, steps: int, *, rho: float = math.inf, dtype: torch.dtype = torch.float64
) -> Tensor:
    """`steps` + 1 noise levels from `highest` down to `lowest`.

    ρ = 7 is Karras' grid (2022, eq. 5): equal steps of σ^{1/ρ}; ρ = ∞ (the default) takes equal steps of log σ,
    as fits a spectrum whose variances spread over decades. Shape (steps + 1,).

    >>> [round(float(s), 6) for s in noise_levels(0.01, 100.0, 4)]
    [100.0, 10.0, 1.0, 0.1, 0.01]
    """
    if not (0.0 < lowest < highest and steps >= 1):
        raise ValueError(f"noise levels want 0 < lowest < highest and steps ≥ 1, got {lowest}, {highest}, {steps}")
    u = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    if math.isinf(rho):
        levels = torch.exp(math.log(highest) + u * (math.log(lowest) - math.log(highest)))
    else:
        levels = (highest ** (1 / rho) + u * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho
    return levels.to(dtype)
