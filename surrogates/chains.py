"""Noise for categories: every site forgets what it holds, alone and at a time of its own (Austin et al. 2021, D3PM).

With α = 1 − t, t from 0 to 1, and π what a site holds when it has forgotten,

    q(x_t | x_0) = α_t δ(x_t, x_0) + (1 − α_t) π(x_t)
    q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0)/q(x_t | x_0),        q(x_t | x_s) the same with α_t/α_s

    absorbing   π is one more category: the site is hidden
    uniform     π is uniform over the categories

A denoiser gives p(x_0 | x_t) site by site; the step back draws x_s from Σ q(x_s | x_t, x_0) p(x_0 | x_t). A path of T
levels bounds the likelihood (their eq. 1): −ln p(x_0) ≤ Σ_i E KL(q(x_s | x_t, x_0) ‖ p(x_s | x_t)), without a rest
because α = 0 at t = 1. For "absorbing" a term is the cross-entropy at the hidden sites over i (Sahoo et al. 2024,
arXiv:2406.07524, eq. 10): the bound is exact where the denoiser is and sites are shown one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("absorbing", "uniform")


@dataclass(frozen=True)
class Chain:
    """The noise of `categories` categories; ValueError for an unknown kind or fewer than two.

    >>> chain = Chain("absorbing", 2)
    >>> chain.noised(torch.tensor([[0, 1, 1]]), torch.tensor([0.5]), torch.tensor([[0.9, 0.2, 0.7]])).tolist()
    [[2, 1, 2]]
    """

    kind: str
    categories: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"chain= wants one of {list(KINDS)}, got {self.kind!r}; choose one of these")
        if self.categories < 2:
            raise ValueError(f"a chain wants at least two categories, got {self.categories}; nothing is to be learned")

    @property
    def states(self) -> int:
        """What a site may hold on the way: the categories, and hidden."""
        return self.categories + (self.kind == "absorbing")

    def forgotten(self, u: Tensor) -> Tensor:
        """x_1 from uniform numbers, of their shape."""
        if self.kind == "absorbing":
            return torch.full_like(u, self.categories, dtype=torch.long)
        return (u * self.categories).long().clamp(max=self.categories - 1)

    def noised(self, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """x_t from x₀ (n, *space), times (n,) and uniform numbers (n, *space)."""
        alpha = _like(1.0 - t, u)
        rest = ((u - alpha) / (1.0 - alpha).clamp(min=1e-12)).clamp(0.0, 1.0)
        return torch.where(u < alpha, x, self.forgotten(rest))

    def one_hot(self, x: Tensor) -> Tensor:
        """(n, *space) to (n, states, *space), float32."""
        return torch.movedim(torch.nn.functional.one_hot(x, self.states), -1, 1).float()

    def back(self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """p(x_s | x_t): (n, states, *space), from x_t (n, *space), p(x₀ | x_t) (n, categories, *space), times (n,)."""
        here = self.one_hot(x).to(clean)
        later, sooner = _like(1.0 - t, clean), _like(1.0 - s, clean)
        rate = later / sooner
        pi = torch.zeros(self.states).to(clean)
        pi[-1 if self.kind == "absorbing" else slice(None)] = 1.0 if self.kind == "absorbing" else 1.0 / self.categories
        pi = pi.reshape(1, -1, *[1] * (clean.ndim - 2))
        reached = (pi * here).sum(1, keepdim=True)  # π at the state that is there
        whence = later * here[:, : self.categories] + (1.0 - later) * reached  # q(x_t | x₀)
        ratio = torch.where(whence > 0.0, clean / whence.clamp(min=1e-30), 0.0)
        extra = self.states - self.categories
        padded = torch.cat([ratio, ratio.new_zeros(len(ratio), extra, *ratio.shape[2:])], dim=1)
        found = (rate * here + (1.0 - rate) * reached) * (
            sooner * padded + (1.0 - sooner) * pi * ratio.sum(1, keepdim=True)
        )
        return found / found.sum(1, keepdim=True).clamp(min=1e-30)

    def divergence(self, clean: Tensor, x: Tensor, denoised: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x₀) ‖ p(x_s | x_t)), over all sites, (n,); x₀, x_t (n, *space), the rest as in `back`."""
        exact = self.back(x, self.one_hot(clean)[:, : self.categories].to(denoised), t, s)
        guess = self.back(x, denoised, t, s)
        terms = torch.where(exact > 0.0, exact * (exact.clamp(min=1e-30).log() - guess.clamp(min=1e-30).log()), 0.0)
        return terms.flatten(1).sum(1)


def pick(probability: Tensor, u: Tensor) -> Tensor:
    """The states (n, *space) that uniform numbers choose from probabilities (n, states, *space).

    >>> pick(torch.tensor([[[0.2], [0.8]]]), torch.tensor([[0.3]])).tolist()
    [[1]]
    """
    total = probability.cumsum(1)
    return (u[:, None] * total[:, -1:] >= total).sum(1).clamp(max=probability.shape[1] - 1)


def _like(t: Tensor, x: Tensor) -> Tensor:
    return t.to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))
