"""Schrödinger bridges: the most likely way, for particles of dX = σ dW, from a law of fields at t = 0 to one at t = 1.

Between Gaussians N(m₀, A) and N(m₁, B) it is known (Janati et al. 2020, theorem 1; Bunne et al. 2023, theorem 3):

    C = Cov[x₀, x₁] = ½ (A^{½} D A^{−½} − σ² I),   D = (4 A^{½} B A^{½} + σ⁴ I)^{½}
    x_t = (1 − t) x₀ + t x₁ + σ √(t(1 − t)) ε,     Σ_t = (1 − t)² A + t² B + t(1 − t)(C + Cᵀ + σ² I)

one small matrix over the channels for each spectral mode. A mode keeps its phase where √(ab) is far above σ², and is
drawn anew where it is far below: the correlation of both ends is √(1 + s²) − s, s = σ²/2√(ab).

For other laws a network adds what is missing to the Gaussian's expectations E₁ = E[x₁ | x_t], E₀ = E[x₀ | x_t], which
are all that is needed: dX = (E₁ − x)/(1 − t) dt + σ dW forwards, (E₀ − x)/t backwards. It is trained on pairs (x₀, x₁)
joined by Brownian bridges: first on pairs of an entropic optimal transport within batches ([SF]²M, Tong et al. 2024,
algorithm 1), then, in rounds, on pairs that the last network makes of one end (DSBM-IMF, Shi et al. 2023, algorithm 1),
which converge to the bridge whatever the first pairs were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surrogates.gaussian import Gaussian, level_like
from surrogates.modes import SpectralModes

Noise = Callable[[int], Tensor]
_HARMONICS = 4


def _root(matrix: Tensor, power: float = 0.5) -> Tensor:
    """A power of symmetric positive matrices (..., m, m)."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0.0).pow(power)[..., None, :]) @ vectors.mT
    return root


def coupling(a: Tensor, b: Tensor, sigma: float) -> Tensor:
    """C = Cov[x₀, x₁] of the bridge between N(·, a) and N(·, b), matrices (..., m, m).

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> round(float(coupling(one, one, 1.0)), 6)                                       # √(1 + ¼) − ½
    0.618034
    """
    unit = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    root, inverse = _root(a), _root(a, -0.5)
    return 0.5 * (root @ _root(4.0 * root @ b @ root + sigma**4 * unit) @ inverse - sigma**2 * unit)


def covariances(law: Gaussian) -> Tensor:
    """The covariance over channels of every plain spectral mode: (cells, channels, channels), float64."""
    assert isinstance(law.modes, SpectralModes), "a bridge is mode by mode in spectral modes"
    variance = law.variance()[0].double().flatten(1).T
    if law.modes.rotation is None:
        return torch.diag_embed(variance)
    rotation = law.modes.rotation.double().flatten(2).permute(2, 0, 1)
    return rotation.mT @ torch.diag_embed(variance) @ rotation


@dataclass(frozen=True)
class GaussianBridge:
    """The bridge between two Gaussians of fields; a, b, c (cells, channels, channels), means (channels, *space).

    >>> modes = SpectralModes((4,), ("periodic",))
    >>> law = Gaussian.of_spectrum(modes, torch.ones(1, 4, dtype=torch.float64))
    >>> ends = GaussianBridge.between(law, law, sigma=1.0).expect(torch.ones(1, 1, 4).double(), torch.tensor([0.0]))
    >>> ends[1].flatten().round(decimals=6).tolist()                                                # C/A of x₀ = 1
    [0.618034, 0.618034, 0.618034, 0.618034]
    """

    modes: SpectralModes
    means: tuple[Tensor, Tensor]
    a: Tensor
    b: Tensor
    c: Tensor
    sigma: float

    @classmethod
    def between(cls, start: Gaussian, end: Gaussian, sigma: float) -> GaussianBridge:
        """From the laws at t = 0 and 1, both in spectral modes of one grid."""
        a, b = covariances(start), covariances(end)
        assert isinstance(end.modes, SpectralModes)
        modes = SpectralModes(end.modes.space, end.modes.boundary)
        means = start.mean()[0].double(), end.mean()[0].double()
        return cls(modes, means, a, b, coupling(a, b, sigma), sigma)

    def to(self, like: Tensor) -> GaussianBridge:
        """The same with the dtype and device of `like`."""
        means = self.means[0].to(like), self.means[1].to(like)
        return GaussianBridge(self.modes, means, self.a.to(like), self.b.to(like), self.c.to(like), self.sigma)

    def covariance(self, t: Tensor) -> Tensor:
        """Σ_t, (n, cells, channels, channels) for t (n,)."""
        t = t.reshape(-1, 1, 1, 1)
        unit = torch.eye(self.a.shape[-1]).to(self.a)
        mixed = self.c + self.c.mT + self.sigma**2 * unit
        return (1 - t) ** 2 * self.a + t**2 * self.b + t * (1 - t) * mixed

    def mean(self, t: Tensor) -> Tensor:
        """(1 − t) m₀ + t m₁, (n, channels, *space)."""
        t = level_like(t, self.means[0][None])
        return (1 - t) * self.means[0] + t * self.means[1]

    def gains(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Cov[x₀, x_t] Σ_t⁻¹ and Cov[x₁, x_t] Σ_t⁻¹, each (n, cells, channels, channels)."""
        s = t.reshape(-1, 1, 1, 1)
        total = self.covariance(t)
        first, last = (1 - s) * self.a + s * self.c, (1 - s) * self.c.mT + s * self.b
        return torch.linalg.solve(total, first, left=False), torch.linalg.solve(total, last, left=False)

    def expect(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x₀ | x_t = x] and E[x₁ | x_t = x] of fields x (n, channels, *space) at times t (n,)."""
        z = self.modes.analyse(x - self.mean(t)).flatten(2).transpose(1, 2)[..., None]
        ends = []
        for gain, mean in zip(self.gains(t), self.means, strict=True):
            coefficients = (gain @ z)[..., 0].transpose(1, 2).reshape(x.shape)
            ends.append(mean + self.modes.synthesise(coefficients))
        return ends[0], ends[1]

    def posterior(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Cov[x₀ | x_t] and Cov[x₁ | x_t], each (n, cells, channels, channels)."""
        s = t.reshape(-1, 1, 1, 1)
        cross = (1 - s) * self.a + s * self.c, (1 - s) * self.c.mT + s * self.b
        first, last = (
            prior - gain @ both.mT for prior, both, gain in zip((self.a, self.b), cross, self.gains(t), strict=True)
        )
        return first, last

    def spread(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ of the mean posterior variance of x₀ and of x₁ given x_t, each (n,)."""
        first, last = (
            v.diagonal(dim1=-2, dim2=-1).flatten(1).mean(1).clamp(min=1e-12).sqrt() for v in self.posterior(t)
        )
        return first, last


class BridgeNetwork(nn.Module):
    """E₀, E₁ = the Gaussian's own + its posterior spread × the network's outputs; the network as in `denoisers.py`.

    Inputs: (x − m_t)/√tr Σ_t and the Gaussian's two expectations; outputs: 2 × channels.
    """

    def __init__(self, network: nn.Module, gaussian: GaussianBridge):
        super().__init__()
        self.network, self.gaussian = network, gaussian

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x₀ | x_t = x], E[x₁ | x_t = x] for x (n, channels, *space), t (n,)."""
        first, last = self.gaussian.expect(x, t)
        size = self.gaussian.covariance(t).diagonal(dim1=-2, dim2=-1).flatten(1).mean(1).sqrt()
        views = [(x - self.gaussian.mean(t)) / level_like(size, x), first, last]
        angles = math.pi * t[:, None] * torch.arange(1, _HARMONICS + 1, device=t.device)
        flat = views[0].flatten(2)
        amplitude = 0.5 * torch.log(flat.square().mean(2) + 1e-6)
        features = torch.cat([t[:, None], torch.sin(angles), torch.cos(angles), flat.mean(2), amplitude], dim=1)
        out = self.network(torch.cat(views, dim=1), features).to(x.dtype)
        scales = (level_like(s, x) for s in self.gaussian.spread(t))
        a, b = (end + s * part for end, s, part in zip((first, last), scales, out.chunk(2, dim=1), strict=True))
        return a, b


def feature_count(channels: int) -> int:
    """The length of the features that a `BridgeNetwork` gives its network.

    >>> feature_count(1)
    11
    """
    return 1 + 2 * _HARMONICS + 2 * channels


def between(x0: Tensor, x1: Tensor, t: Tensor, sigma: float, noise: Tensor) -> Tensor:
    """A point of the Brownian bridge: (1 − t) x₀ + t x₁ + σ √(t(1 − t)) ε."""
    s = level_like(t, x0)
    return (1 - s) * x0 + s * x1 + sigma * torch.sqrt(s * (1 - s)) * noise


def walk(
    expect: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    bridge: GaussianBridge,
    times: Tensor,
    noise: Noise,
) -> Tensor:
    """Along the bridge from times[0] to times[-1], forwards or backwards; `steps` calls of expect(x, t).

    Given x_t, the end is E plus a deviation of covariance V, and between both runs a Brownian bridge. A step h of the
    time τ that is left has the mean x + (h/τ)(E − x) and the covariance (h/τ)² V + σ² h(τ − h)/τ; V is the Gaussian's.
    Exact in any number of steps between Gaussians, else of weak order 1. noise(k): standard normals, in modes.

    >>> modes = SpectralModes((1,), ("reflect",))
    >>> law = Gaussian.of_spectrum(modes, torch.ones(1, 1, dtype=torch.float64))
    >>> bridge = GaussianBridge.between(law, law, 1.0)
    >>> known = lambda x, t: (torch.zeros_like(x), torch.full_like(x, 3.0))
    >>> silent = lambda k: torch.zeros(1, 1, 1, dtype=torch.float64)
    >>> float(walk(known, silent(0), bridge, torch.linspace(0, 1, 4, dtype=torch.float64), silent))
    3.0
    """
    forwards = bool(times[-1] > times[0])
    unit = torch.eye(bridge.a.shape[-1]).to(bridge.a)
    for k, (t, after) in enumerate(zip(times[:-1], times[1:], strict=True)):
        end = expect(x, t.expand(len(x)))[1 if forwards else 0]
        left, h = (1.0 - t, after - t) if forwards else (t, t - after)
        shaken = bridge.posterior(t[None])[1 if forwards else 0][0] * (h / left) ** 2
        root = _root(shaken + bridge.sigma**2 * h * (left - h).clamp(min=0.0) / left * unit)
        fresh = (root @ noise(k).flatten(2).transpose(1, 2)[..., None])[..., 0].transpose(1, 2).reshape(x.shape)
        x = x + h / left * (end - x) + bridge.modes.synthesise(fresh)
    return x


def pair(x0: Tensor, x1: Tensor, sigma: float, u: Tensor, rounds: int = 100) -> Tensor:
    """For every row of x0 the number of its partner in x1, drawn with u (n,) from the entropic transport between both.

    Sinkhorn's iteration with cost ‖x₀ − x₁‖²/2σ², in logarithms; the rounds end early once it stands.

    >>> x = torch.tensor([[0.0], [5.0]])
    >>> pair(x, x.flip(0), 1.0, torch.tensor([0.5, 0.5])).tolist()
    [1, 0]
    """
    a, b = x0.flatten(1).double(), x1.flatten(1).double()
    kernel = -torch.cdist(a, b).square() / (2.0 * sigma**2)
    g = torch.zeros(len(b), dtype=torch.float64, device=a.device)
    for _ in range(rounds):
        f = -torch.logsumexp(kernel + g, dim=1)
        change = -torch.logsumexp(kernel + f[:, None], dim=0) - g
        g = g + change
        if float(change.abs().max()) < 1e-5:
            break
    shares = torch.softmax(kernel + g, dim=1).cumsum(1)
    return torch.searchsorted(shares, u.double()[:, None].to(a.device) * shares[:, -1:])[:, 0].clamp(max=len(b) - 1)
