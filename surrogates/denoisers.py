"""Denoisers: a network dressed so that it has little left to do.

    D(x; σ, c) = skip(x) + c_out(σ) F(inputs; features)

    plain    skip = x σ_d²/(σ² + σ_d²),        c_out = σ σ_d/√(σ² + σ_d²),            inputs = x/√(σ² + σ_d²)
             (Karras et al. 2022, table 1)
    wiener   skip = μ + W(x − μ),  W = λ/(λ + r²),  c_out² = mean_k λr²/(λ + r²),
             inputs = [α(x − μ)/√mean_k α²(λ + r²), (I − W)(x − μ)/r]                  (fields have unit variance)

with r the noise of each mode and α the signal left at level σ: r = σ, α = 1 unless the noise is coloured
(`corruption.py`); then c_out is taken mode by mode, and the loss in that noise's own measure |D − x₀|²_σ.
With the Wiener skip F = 0 is the exact answer for Gaussian data and the network learns only what is not Gaussian.
Features carry log σ, the scalar conditions, and the mean and logarithmic amplitude of every input channel: the
posterior mean of a field whose overall amplitude varies depends on it, and convolutions see it poorly. Conditions
c (n, p + f·cells) hold p scalars, then f fields, which become channels of the input.

Loss  E w(σ) ‖D − x₀‖²/d  with log σ uniform on the noise range:
    posterior   w = 1/mean_k λr²/(λ + r²): every noise level counts by how well a Gaussian can do there
    karras      w = (σ² + σ_d²)/(σσ_d)²

Held-out measure, in nats per dimension (Guo et al. 2005; Kong et al. 2023, eq. 9): with the error
E(σ) = E‖D − x₀‖²/d, the gain of one denoiser over another is ½ ∫ (E_other − E) d(1/σ²) = ∫ (E_other − E) σ⁻² d ln σ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from surrogates.corruption import Corruption, White
from surrogates.gaussian import Gaussian, level_like

Skip = Literal["wiener", "plain"]
SKIPS: tuple[Skip, ...] = ("wiener", "plain")
WEIGHTS = ("posterior", "karras")
NOISES = ("spectrum", "edm")
EDM_RANGE = (0.004, 160.0)  # Karras' 0.002…80, for data of standard deviation ½, at unit variance
_HARMONICS = 4


class Denoise(Protocol):
    """E[x₀ | x₀ + σε = x, c] for fields (n, channels, *space), σ a number or (n,), c (n, conditions) or None."""

    def __call__(self, x: Tensor, sigma: Tensor | float, c: Tensor | None = None) -> Tensor: ...


Field = Callable[[Tensor, Tensor], Tensor]  # denoise(x, σ) with the conditions bound, σ a scalar tensor


def input_channels(skip: Skip, channels: int, static: int) -> int:
    """How many channels a network behind this skip receives: noisy views, the mean if used, fields that are given."""
    return (3 * channels if skip == "wiener" else channels) + static


def feature_count(skip: Skip, channels: int, conditions: int) -> int:
    """The length of the feature vector."""
    return 1 + 2 * _HARMONICS + conditions + 2 * channels * (2 if skip == "wiener" else 1)


def coordinate_channels(shape: tuple[int, ...], boundary: tuple[str, ...]) -> Tensor:
    """Where a cell lies, (channels, *space): sine and cosine along periodic axes, −1…1 along the others.

    >>> coordinate_channels((4, 3), ("periodic", "reflect")).shape
    torch.Size([3, 4, 3])
    """
    channels: list[Tensor] = []
    for axis, (n, kind) in enumerate(zip(shape, boundary, strict=True)):
        u = (torch.arange(n) + 0.5) / n
        lines = [torch.sin(2 * math.pi * u), torch.cos(2 * math.pi * u)] if kind == "periodic" else [2 * u - 1]
        where = [-1 if a == axis else 1 for a in range(len(shape))]
        channels += [line.reshape(where).expand(shape) for line in lines]
    return torch.stack(channels)


class Denoiser(nn.Module):
    """A network behind a skip connection; see the module's mathematics.

    Parameters
    ----------
    network
        called as network(inputs (n, k, *space), features (n, m)); k, m from `input_channels`, `feature_count`.
    gaussian
        the fitted Gaussian of the normalised data.
    skip
        "wiener" or "plain".
    noise_range
        (σ_min, σ_max), which scale the noise feature.
    static
        (channels, *space) fixed inputs: coordinates, land masks; None for a homogeneous domain.
    corruption
        the noise it is for, over the modes of `gaussian`; coloured noise wants the Wiener skip.
    bf16
        run the network in bfloat16 where the device supports it; the rest stays in the dtype of x.
    transported
        whether the network sees, in the place of the scaled field, the field that the Gaussian's flow makes of it,
        U √(λ/(λ + r²)) Uᵀ(x − μ): of unit variance at every level, and red where the data are. One network call from
        noise to data needs what a denoiser at high noise does not: the data's own modes among all others.
    """

    def __init__(
        self,
        network: nn.Module,
        gaussian: Gaussian,
        skip: Skip,
        noise_range: tuple[float, float],
        static: Tensor | None = None,
        *,
        corruption: Corruption | None = None,
        bf16: bool = False,
        transported: bool = False,
    ):
        super().__init__()
        if skip not in SKIPS:
            raise ValueError(f"skip= wants one of {list(SKIPS)}, got {skip!r}; choose one of these")
        self.corruption: Corruption = corruption or White()
        if skip == "plain" and not isinstance(self.corruption, White):
            raise ValueError("skip='plain' wants white noise, got noise with a spectrum; use skip='wiener'")
        self.network, self.gaussian, self.skip, self.noise_range, self.bf16 = network, gaussian, skip, noise_range, bf16
        self.static, self.transported = static, transported

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Denoiser:
        """What `to` and its like do to the parameters, done to the fixed arrays as well."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        like = fn(torch.zeros((), dtype=self.gaussian.mean_terms.dtype))
        self.gaussian, self.corruption = self.gaussian.to(like), self.corruption.to(like)
        self.static = None if self.static is None else self.static.to(like)
        return self

    def forward(self, x: Tensor, sigma: Tensor | float, c: Tensor | None = None) -> Tensor:
        """D(x; σ, c): x (n, channels, *space), c (n, conditions) or None; σ a number, (n,), or the r of each mode."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        sigma = (self.corruption.nominal(sigma) if sigma.ndim > 1 else sigma).reshape(-1)  # one row where all share it
        base, scale, views = self._wiener(x, sigma, c) if self.skip == "wiener" else self._plain(x, sigma)
        inputs, features = self._network_inputs(views, sigma, c)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.network(inputs, features).to(x.dtype)
        modes = self.gaussian.modes
        white = isinstance(self.corruption, White)
        estimate: Tensor = base + (scale * out if white else modes.synthesise(scale * modes.analyse(out)))
        return estimate

    def exact(self, x: Tensor, sigma: Tensor, c: Tensor | None = None) -> Tensor:
        """The Gaussian's own answer at level σ (n,)."""
        return self.gaussian.denoise(x, self.corruption.levels(sigma), c)

    def floor(self, sigma: Tensor, c: Tensor | None = None) -> Tensor:
        """The Gaussian's expected |D − x|²_σ at level σ (n,): (n,), or (1,) where nothing depends on c."""
        if isinstance(self.corruption, White):
            return self.gaussian.floor(sigma, c)
        posterior = self.gaussian.posterior_variance(self.corruption.levels(sigma), c)
        return (self.corruption.weights(sigma) * posterior).flatten(1).mean(1)

    def _wiener(self, x: Tensor, sigma: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor, list[Tensor]]:
        level, signal = (level_like(f(sigma), x) for f in (self.corruption.levels, self.corruption.signal))
        mean, variance = self.gaussian.mean(c), self.gaussian.variance(c)
        modes, centred = self.gaussian.modes, x - mean
        noisy, total = modes.analyse(centred), variance + level**2
        missing, posterior = noisy * (level**2 / total), variance * level**2 / total
        residual = modes.synthesise(missing)
        if isinstance(self.corruption, White):
            scale = level_like(posterior.flatten(1).mean(1).sqrt(), x)
            views = [centred / (level**2 + 1.0).sqrt(), residual / level]
        else:
            scale = posterior.sqrt()
            size = level_like((signal**2 * total).flatten(1).mean(1).sqrt(), x)
            views = [modes.synthesise(signal * noisy) / size, modes.synthesise(missing / level)]
        if self.transported:
            views[0] = modes.synthesise(noisy * (variance / total).sqrt())
        return x - residual, scale, [*views, mean.expand_as(x)]

    def _plain(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        level = level_like(sigma, x)
        total = (level**2 + 1.0).sqrt()
        return x / total**2, level / total, [x / total]

    def _network_inputs(self, views: list[Tensor], sigma: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        low, high = (math.log(s) for s in self.noise_range)
        u = (2.0 * torch.log(sigma) - low - high) / (high - low)
        angles = math.pi * u[:, None] * torch.arange(1, _HARMONICS + 1, device=u.device) / 2
        columns = [u[:, None], torch.sin(angles), torch.cos(angles)]
        for view in views[:2]:
            flat = view.flatten(2)
            columns += [flat.mean(2), 0.5 * torch.log(flat.square().mean(2) + 1e-6)]
        n = len(views[0])
        if self.static is not None:
            views = [*views, self.static.to(views[0]).expand(n, *self.static.shape)]
        if c is not None:
            c, count = c.to(u), self.gaussian.conditions
            columns.insert(3, c[:, :count])
            views = [*views, c[:, count:].reshape(len(c), -1, *views[0].shape[2:])]
        return torch.cat(views, dim=1), torch.cat([column.expand(n, -1) for column in columns], dim=1)


def noise_levels_at(u: Tensor, noise_range: tuple[float, float], *, law: str = "spectrum") -> Tensor:
    """Training noise levels at the points u ∈ (0, 1) of their distribution function, shaped like u.

    law "spectrum": log σ uniform over the range; "edm": ln σ ~ N(−1.2 + ln 2, 1.2²), Karras' law (table 1), which is
    for data of standard deviation ½, carried over to unit variance.

    >>> noise_levels_at(torch.tensor([0.0, 0.5, 1.0]), (0.25, 4.0)).tolist()
    [0.25, 1.0, 4.0]
    """
    if law == "edm":
        return torch.exp(math.log(2.0) - 1.2 + 1.2 * torch.special.ndtri(u.clamp(1e-6, 1.0 - 1e-6)))
    low, high = (math.log(s) for s in noise_range)
    return torch.exp(low + u * (high - low))


def loss_weight(weight: str, denoiser: Denoiser, sigma: Tensor, c: Tensor | None) -> Tensor:
    """w(σ), (n,); ValueError for an unknown name."""
    if weight == "posterior":
        return 1.0 / denoiser.floor(sigma, c)
    if weight == "karras":
        return (sigma**2 + 1.0) / sigma**2
    raise ValueError(f"weight= wants one of {list(WEIGHTS)}, got {weight!r}; choose one of these")


def denoising_errors(
    denoise: Denoise | Callable[..., Tensor],
    x: Tensor,
    c: Tensor | None,
    levels: Tensor,
    noise: Tensor,
    batch: int = 256,
    corruption: Corruption | None = None,
) -> Tensor:
    """|D(y; σ, c) − x|² for every level and sample, y = x + U r ε: (levels, n); ‖D − x‖²/d for white noise.

    noise (levels, n, channels, *space) is given, so that two denoisers are compared on the same noisy fields.
    """
    corruption = corruption or White()
    rows = []
    with torch.no_grad():
        for sigma, epsilon in zip(levels, noise, strict=True):
            parts = []
            for start in range(0, len(x), batch):
                part = slice(start, start + batch)
                clean = x[part]
                level = sigma.expand(len(clean))
                noisy = corruption.add(clean, level, epsilon[part])
                estimate = denoise(noisy, level, None if c is None else c[part])
                parts.append(corruption.square(estimate - clean, level))
            rows.append(torch.cat(parts))
    return torch.stack(rows)


def nats(errors: Tensor, reference: Tensor, levels: Tensor) -> Tensor:
    """∫ (E_reference − E) σ⁻² d ln σ by the trapezoid over log-uniform levels: the gain per sample, (n,).

    >>> levels = torch.tensor([1.0, math.e])
    >>> nats(torch.zeros(2, 1), torch.tensor([[1.0], [math.e**2]]), levels).tolist()
    [1.0]
    """
    gain = (reference - errors) / levels[:, None] ** 2
    return torch.trapezoid(gain, torch.log(levels), dim=0)
