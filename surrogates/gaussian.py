"""The Gaussian model of a field: the first-class baseline, and the exact part of every sampler.

    x | c ~ N(μ(c), U Λ(c) Uᵀ),   μ(c) = Σ_j φ_j(c) M_j,   log λ_k(c) = Σ_j φ_j(c) B_jk

U: orthonormal modes (`modes.py`), φ: Legendre polynomials of the conditions c ∈ [−1, 1]^p, φ₀ = 1. With no
conditions, or degree 0, it is the plain Gaussian field N(μ, Σ). Everything below is exact for it:

    denoiser             D(x; σ, c) = μ + U W Uᵀ (x − μ),   W = λ/(λ + σ²)                   (Wiener's filter)
    denoising error      E‖D − x₀‖²/d = mean_k λσ²/(λ + σ²)                                  (the Bayes floor)
    likelihood           −½ Σ_k [ln 2πλ_k + z_k²/λ_k],   z = Uᵀ(x − μ)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogates.graphs import GraphModes
from surrogates.modes import DenseModes, Modes, SpectralModes


def features(c: Tensor | None, count: int, degree: int, like: Tensor) -> Tensor:
    """Products of Legendre polynomials of the conditions up to a total degree: (n, terms), or (1, 1) without them.

    Conditions are held inside [−1, 1], the range seen in training: a polynomial says nothing beyond it.

    >>> features(torch.tensor([[0.5]]), 1, 2, torch.zeros(()))
    tensor([[ 1.0000,  0.5000, -0.1250]])
    """
    if degree == 0 or count == 0 or c is None:
        return torch.ones(1, 1, dtype=like.dtype, device=like.device)
    c = c[:, :count].to(like).clamp(-1.0, 1.0)
    powers = [torch.ones_like(c), c]
    for n in range(1, degree):
        powers.append(((2 * n + 1) * c * powers[n] - n * powers[n - 1]) / (n + 1))
    columns = []
    for exponents in itertools.product(range(degree + 1), repeat=count):
        if sum(exponents) <= degree:
            term = torch.ones_like(c[:, 0])
            for axis, power in enumerate(exponents):
                term = term * powers[power][:, axis]
            columns.append((sum(exponents), term))
    columns.sort(key=lambda column: column[0])
    return torch.stack([term for _, term in columns], dim=1)


def level_like(sigma: Tensor | float, x: Tensor) -> Tensor:
    """A noise level, scalar, one per member or one per mode, shaped to multiply fields x (n, channels, *space)."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return sigma if sigma.ndim in (0, x.ndim) else sigma.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian law over fields (channels, *space), its mean and spectrum regressed on scalar conditions.

    modes               U
    mean_terms          M_j, (terms, channels, *space)
    log_variance_terms  B_jk, (terms, channels, *space), in the order of the modes' coefficients
    conditions          how many scalar conditions; degrees: of the mean's and the spectrum's polynomials

    >>> gaussian = Gaussian.of_spectrum(SpectralModes((8,), ("periodic",)), torch.full((1, 8), 4.0))
    >>> round(float(gaussian.denoise(torch.full((1, 1, 8), 5.0), 1.0)[0, 0, 0]), 5)          # W = 4/(4 + 1)
    4.0
    """

    modes: Modes
    mean_terms: Tensor
    log_variance_terms: Tensor
    conditions: int = 0
    mean_degree: int = 0
    variance_degree: int = 0

    @classmethod
    def of_spectrum(cls, modes: Modes, variance: Tensor, mean: Tensor | None = None) -> Gaussian:
        """N(mean, U diag(variance) Uᵀ); variance and mean (channels, *space), mean 0 when left out."""
        mean = torch.zeros_like(variance) if mean is None else mean
        return cls(modes, mean[None], variance.log()[None])

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, *space)."""
        return tuple(self.mean_terms.shape[1:])

    @property
    def dimensions(self) -> int:
        """channels × cells."""
        return math.prod(self.shape)

    def to(self, like: Tensor) -> Gaussian:
        """The same law with the dtype and device of `like`."""
        return replace(
            self,
            modes=self.modes.to(like),
            mean_terms=self.mean_terms.to(like),
            log_variance_terms=self.log_variance_terms.to(like),
        )

    def mean(self, c: Tensor | None = None) -> Tensor:
        """μ(c): (n, channels, *space), n = 1 where nothing depends on c."""
        phi = features(c, self.conditions, self.mean_degree, self.mean_terms)
        return torch.einsum("nj,j...->n...", phi, self.mean_terms)

    def variance(self, c: Tensor | None = None) -> Tensor:
        """λ(c): (n, channels, *space), the variance of each mode."""
        phi = features(c, self.conditions, self.variance_degree, self.log_variance_terms)
        return torch.einsum("nj,j...->n...", phi, self.log_variance_terms).exp()

    def denoise(self, x: Tensor, sigma: Tensor | float, c: Tensor | None = None) -> Tensor:
        """E[x₀ | x₀ + σε = x, c], exactly; x (n, channels, *space), σ a number or (n,)."""
        mean, variance = self.mean(c), self.variance(c)
        weight = variance / (variance + level_like(sigma, x) ** 2)
        return mean + self.modes.synthesise(weight * self.modes.analyse(x - mean))

    def posterior_variance(self, sigma: Tensor | float, c: Tensor | None = None) -> Tensor:
        """λσ²/(λ + σ²) per mode: (n, channels, *space)."""
        variance = self.variance(c)
        square = level_like(sigma, variance) ** 2
        return variance * square / (variance + square)

    def floor(self, sigma: Tensor | float, c: Tensor | None = None) -> Tensor:
        """The Bayes floor, mean over modes of λσ²/(λ + σ²): (n,). Below it on held-out Gaussian data means a leak."""
        return self.posterior_variance(sigma, c).flatten(1).mean(1)

    def sample(self, noise: Tensor, c: Tensor | None = None) -> Tensor:
        """μ(c) + U √λ ε for standard normal ε (n, channels, *space)."""
        return self.mean(c) + self.modes.synthesise(self.variance(c).sqrt() * noise)

    def log_likelihood(self, x: Tensor, c: Tensor | None = None, sigma: float = 0.0) -> Tensor:
        """ln N(x; μ(c), Σ(c) + σ²I) in nats, (n,)."""
        variance = self.variance(c) + sigma**2
        z = self.modes.analyse(x - self.mean(c))
        return -0.5 * (torch.log(2.0 * math.pi * variance) + z * z / variance).flatten(1).sum(1)

    def spread(self) -> Tensor:
        """The pointwise standard deviation at the centre of the conditions' range: (channels, *space)."""
        centre = torch.zeros(1, max(self.conditions, 1)).to(self.mean_terms)
        variance = self.variance(centre)
        if isinstance(self.modes, DenseModes):
            return (self.modes.vectors**2 @ variance.flatten()).reshape(self.shape).sqrt()
        if isinstance(self.modes, GraphModes):
            return self.modes.pointwise(variance[0]).sqrt()
        # Spectral modes spread their variance evenly up to the edge effect of the cosines: the mean is what counts.
        return variance.flatten(2).mean(2).sqrt().reshape(-1, *[1] * (len(self.shape) - 1)).expand(self.shape)

    def noise_range(self, c: Tensor | None = None) -> tuple[float, float]:
        """(σ_min, σ_max) from the spectrum: σ_max = 10 √λ_max; σ_min a tenth of the smallest amplitude among the
        modes that hold 99.9 % of the variance, within [1e-3, 0.05] of the mode-averaged standard deviation.

        c (n, conditions): the conditions to cover; the largest and the typical spectrum over them are used.
        """
        spectrum = self.variance(c)
        highest = 10.0 * math.sqrt(float(spectrum.max()))
        ordered = spectrum.flatten(1).mean(0).sort(descending=True).values
        held = ordered.cumsum(0) / ordered.sum()
        index = min(int((held < 0.999).sum()), len(ordered) - 1)
        scale = math.sqrt(float(ordered.mean()))
        return min(max(0.1 * math.sqrt(float(ordered[index])), 1e-3 * scale), 0.05 * scale), highest


def gaussian_tensors(gaussian: Gaussian) -> tuple[dict[str, Tensor], dict[str, object]]:
    """What a model file keeps: arrays, and a JSON-able description."""
    tensors = {"mean_terms": gaussian.mean_terms, "log_variance_terms": gaussian.log_variance_terms}
    tensors |= {f"modes.{name}": value for name, value in gaussian.modes.tensors().items()}
    config: dict[str, object] = {
        "conditions": gaussian.conditions,
        "mean_degree": gaussian.mean_degree,
        "variance_degree": gaussian.variance_degree,
        "boundary": list(gaussian.modes.boundary) if isinstance(gaussian.modes, SpectralModes) else None,
        "graph": isinstance(gaussian.modes, GraphModes),
        "sphere": isinstance(gaussian.modes, GraphModes) and gaussian.modes.sphere,
    }
    return tensors, config


def gaussian_from_tensors(tensors: dict[str, Tensor], config: dict[str, object]) -> Gaussian:
    """The inverse of `gaussian_tensors`."""
    boundary, space = config["boundary"], tuple(tensors["mean_terms"].shape[2:])
    modes: Modes
    if config.get("graph"):
        arrays = (tensors["modes.vectors"], tensors["modes.eigenvalues"], tensors.get("modes.rotation"))
        modes = GraphModes(*arrays, sphere=bool(config.get("sphere")))
    elif boundary is None:
        modes = DenseModes(tensors["modes.vectors"])
    else:
        assert isinstance(boundary, list)
        modes = SpectralModes(space, tuple(boundary), tensors.get("modes.rotation"))
    numbers = {name: int(str(config[name])) for name in ("conditions", "mean_degree", "variance_degree")}
    return Gaussian(modes, tensors["mean_terms"], tensors["log_variance_terms"], **numbers)
