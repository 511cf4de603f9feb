"""A denoiser of categories beside independent sites, the bound on its likelihood, and what it is trained and judged by.

What the Gaussian is to fields of numbers, independent sites are here: their frequencies, each shrunk towards that of
all sites by pseudo-counts that held-out blocks choose. The network's logits are added to theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surrogates.chains import Chain
from surrogates.covariance import folds
from surrogates.sources import Source
from surrogates.tensor_streams import Use, uniforms, unit_fields
from surrogates.training import Settings, batch_at

LEVELS = 64  # of the path that training and the bound use
COUNTS = (0.5, 5.0, 50.0, 500.0, math.inf)  # pseudo-counts
_HARMONICS = 4


class CategoricalDenoiser(nn.Module):
    """p(x₀ | x_t): the baseline's logits (categories, *space) and the network's.

    The network is called with one channel for each state (and where a cell lies), and features: the time, conditions,
    and the share of every state.
    """

    def __init__(self, network: nn.Module, chain: Chain, logits: Tensor, static: Tensor | None):
        super().__init__()
        self.network, self.chain = network, chain
        self.register_buffer("logits", logits.float(), persistent=False)
        self.register_buffer("static", static, persistent=False)

    @staticmethod
    def sizes(chain: Chain, static: Tensor | None, conditions: int) -> tuple[int, int]:
        """(input channels, features) of the network."""
        return chain.states + (0 if static is None else len(static)), 1 + 2 * _HARMONICS + conditions + chain.states

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """x_t (n, *space) of categories, times (n,), conditions (n, p) or None to (n, categories, *space)."""
        views = self.chain.one_hot(x)
        angles = math.pi * t.float()[:, None] * torch.arange(1, _HARMONICS + 1, device=x.device)
        columns = [2.0 * t.float()[:, None] - 1.0, angles.sin(), angles.cos(), *([] if c is None else [c])]
        columns.append(views.flatten(2).mean(2))
        if isinstance(self.static, Tensor):
            views = torch.cat([views, self.static.expand(len(x), *self.static.shape)], dim=1)
        out: Tensor = self.logits + self.network(views, torch.cat(columns, dim=1))
        return out.softmax(1)


def bound(denoiser: Any, x: Tensor, c: Tensor | None, places: Tensor, seed: int, step: int, of: int) -> Tensor:
    """One unbiased estimate of the bound on −ln p(x | c), (n,), nats: a level of the path drawn for each place.

    Levels of the places 0 … of − 1 are stratified; x (n, *space).
    """
    chain: Chain = denoiser.chain
    u = (places + uniforms(seed, places, step, Use.LEVEL)) / of
    level = (u * LEVELS).long().clamp(max=LEVELS - 1) + 1
    t, s = level / LEVELS, (level - 1) / LEVELS
    noisy = chain.noised(x, t, unit_fields(seed, places, step, x.shape[1:]).to(x.device))
    return LEVELS * chain.divergence(x, noisy, denoiser(noisy, t.to(x.device), c), t, s)


def categorical_loss(
    denoiser: CategoricalDenoiser, source: Source, step: int, places: Tensor, seed: int, settings: Settings
) -> Tensor:
    """(sum of the bounds, sum of −ln p of independent sites) over some places of a step's batch, per site."""
    clean, c, at = batch_at(denoiser, source, step, places, seed, settings)
    x = clean[:, 0].long()
    estimate = bound(denoiser, x, c, at, seed, step, settings.batch)
    return torch.stack([estimate.sum(), independent(denoiser.logits, x).sum()]) / x[0].numel()


def independent(logits: Tensor | nn.Module, x: Tensor) -> Tensor:
    """−ln p(x) of independent sites with these logits (categories, *space): (n,), nats."""
    assert isinstance(logits, Tensor)
    chosen = logits.log_softmax(0).expand(len(x), *logits.shape).gather(1, x[:, None])
    return -chosen.flatten(1).sum(1)


@dataclass(frozen=True)
class Bound:
    """The gain in nats per site over independent sites, of each held-out sample, by `repeats` fixed levels."""

    x: Tensor
    c: Tensor | None
    seed: int
    repeats: int = 8

    def gain(self, denoiser: CategoricalDenoiser) -> Tensor:
        n, of = len(self.x), len(self.x) * self.repeats
        total = torch.zeros(n, device=self.x.device)
        with torch.no_grad():
            for k in range(self.repeats):
                # repeat k takes every repeats-th level, so that each sample sees the whole path
                own = torch.arange(n, device=self.x.device)
                at = own * self.repeats + (k + own) % self.repeats
                total += bound(denoiser, self.x, self.c, at, self.seed, k, of) / self.repeats
        return (independent(denoiser.logits, self.x) - total) / self.x[0].numel()


def frequencies(x: Tensor, categories: int) -> Tensor:
    """The logits (categories, *space) of independent sites, fitted to x (n, *space) as the module says."""

    def fitted(part: Tensor, count: float) -> Tensor:
        sites = torch.stack([(part == k).double().mean(0) for k in range(categories)])
        everywhere = (sites.flatten(1).mean(1) + 1e-6).reshape(-1, *[1] * (x.ndim - 1))
        everywhere = (everywhere / everywhere.sum()).expand_as(sites)
        mixed = everywhere if math.isinf(count) else (len(part) * sites + count * everywhere) / (len(part) + count)
        return mixed.log()

    scores = dict.fromkeys(COUNTS, 0.0)
    for train_, held in folds(len(x), 4):
        for count in COUNTS:
            scores[count] += float(independent(fitted(x[train_], count), x[held]).sum())
    return fitted(x, min(scores, key=lambda count: scores[count]))
