"""A small U-Net for fields on 1-, 2- or 3-D grids of any size, odd ones included.

    h₀ = stem(inputs);  down: residual blocks, stride-2 convolution;  up: nearest-neighbour, 1×1, concatenate
    block:  h ← h + conv₂( silu( a(e)·conv₁(silu(h)) + b(e) ) ),     e = MLP(features)                        (FiLM)

No normalisation layer: one would hide the sample's amplitude, which the posterior mean depends on, and costs half
of the time on a CPU. The last convolution starts at zero, so training starts from the denoiser's skip alone; the second
convolution of each block starts small, which keeps the depth harmless at high learning rates. Every 3×3 convolution
pads by the boundary of the domain. Attention at the coarsest resolution (`attention.py`) is an option, over the field
itself or over given fields, which then have an encoder of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.networks.attention import Attention
from surrogates.networks.padding import pad

_HEADS = 4
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class BoundaryConv(nn.Module):
    """A 3-wide convolution on a padded field."""

    def __init__(self, inputs: int, outputs: int, boundary: tuple[str, ...], *, stride: int = 1, gain: float = 1.0):
        super().__init__()
        self.boundary = boundary
        self.convolution = CONVOLUTIONS[len(boundary)](inputs, outputs, 3, stride=stride)
        with torch.no_grad():
            self.convolution.weight *= gain
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *, activate: bool = False) -> Tensor:
        """Of x, or of silu(x)."""
        out: Tensor = self.convolution(pad(x, 1, self.boundary, activate=activate))
        return out


class ResidualBlock(nn.Module):
    """h ← s(h) + conv₂(silu(a·conv₁(silu(h)) + b)), with a, b from the embedding e."""

    def __init__(self, inputs: int, outputs: int, embedding: int, boundary: tuple[str, ...]):
        super().__init__()
        self.first = BoundaryConv(inputs, outputs, boundary)
        self.second = BoundaryConv(outputs, outputs, boundary, gain=0.3)
        self.film = nn.Linear(embedding, 2 * outputs)
        nn.init.normal_(self.film.weight, std=0.5 * embedding**-0.5)
        nn.init.zeros_(self.film.bias)
        self.skip = nn.Identity() if inputs == outputs else CONVOLUTIONS[len(boundary)](inputs, outputs, 1)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e).reshape(len(e), -1, *[1] * (h.ndim - 2)).chunk(2, dim=1)
        inner = torch.addcmul(shift, self.first(h, activate=True), 1.0 + scale)
        out: Tensor = self.skip(h) + self.second(inner, activate=True)
        return out


class UNet(nn.Module):
    """The default backbone; call signature network(inputs (n, inputs, *space), features (n, features)).

    Parameters
    ----------
    inputs, outputs, features
        Channels in and out; length of the feature vector (noise level, conditions, amplitudes).
    boundary
        One of modes.BOUNDARIES per axis; its length is the number of axes, 1 to 3.
    widths
        Channels of each resolution; every further entry halves the resolution.
    depth
        Residual blocks at the coarsest resolution (the finer ones have one on each side).
    attention
        Whether the coarsest cells attend to one another.
    attend, context
        Whether the last `context` input channels, given fields, are attended to (True) or stacked with the others.

    >>> net = UNet(2, 1, features=3, boundary=("reflect", "reflect"), widths=(8, 16))
    >>> net(torch.randn(5, 2, 33, 49), torch.randn(5, 3)).shape
    torch.Size([5, 1, 33, 49])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        features: int,
        boundary: tuple[str, ...],
        widths: Sequence[int] = (32, 64, 96),
        depth: int = 2,
        embedding: int = 128,
        attention: bool = False,
        attend: bool = False,
        context: int = 0,
    ):
        super().__init__()
        if not 1 <= len(boundary) <= 3:
            raise ValueError(f"a U-Net wants 1 to 3 space axes, got {len(boundary)}; pass another network=")
        convolution = CONVOLUTIONS[len(boundary)]
        first, second = nn.Linear(features, embedding), nn.Linear(embedding, embedding)
        self.embed = nn.Sequential(first, nn.SiLU(), second, nn.SiLU())
        self.context = context if attend else 0
        self.stem = BoundaryConv(inputs - self.context, widths[0], boundary)
        self.down = nn.ModuleList(ResidualBlock(w, w, embedding, boundary) for w in widths[:-1])
        self.shrink = nn.ModuleList(BoundaryConv(a, b, boundary, stride=2) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], embedding, boundary) for _ in range(depth))
        self.grow = nn.ModuleList(convolution(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(ResidualBlock(2 * w, w, embedding, boundary) for w in widths[:-1])
        self.head = BoundaryConv(widths[0], outputs, boundary, gain=0.0)
        self.attention = Attention(widths[-1], _HEADS, boundary) if attention else None
        self.encoder, self.cross = None, None
        if self.context:
            steps = [BoundaryConv(self.context, widths[0], boundary)]
            steps += [BoundaryConv(a, b, boundary, stride=2) for a, b in pairwise(widths)]
            self.encoder = nn.Sequential(*(layer for step in steps for layer in (step, nn.SiLU())))
            self.cross = Attention(widths[-1], _HEADS, boundary)

    @staticmethod
    def options(shape: tuple[int, ...]) -> dict[str, Any]:
        """As many resolutions as leave about eight cells on the shortest axis."""
        levels = max(1, min(4, int(math.log2(max(min(shape), 1))) - 2))
        widths = [24, 48, 72, 96] if levels == 4 else [32, 64, 96][:levels]  # below a million parameters in 2-D
        return {"widths": widths, "depth": 2, "embedding": 128}

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """F(inputs; features): (n, outputs, *space)."""
        e = self.embed(features)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        given = None
        if self.encoder is not None:
            given = self.encoder(inputs[:, -self.context :]).flatten(2).transpose(1, 2)
            inputs = inputs[:, : -self.context]
        h = self.stem(inputs)
        kept = []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            h = block(h, e)
            kept.append(h)
            h = shrink(h)
        for block in self.middle:
            h = block(h, e)
        h = h if self.attention is None and self.cross is None else self._mix(h, given)
        for block, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            fine = kept.pop()
            coarse = functional.interpolate(grow(h), size=fine.shape[2:], mode="nearest")
            h = block(torch.cat([coarse, fine], dim=1), e)
        out: Tensor = self.head(h, activate=True)
        return out

    def _mix(self, h: Tensor, given: Tensor | None) -> Tensor:
        """Attention over the coarsest cells, and over the tokens of given fields."""
        shape = tuple(h.shape[2:])
        tokens = h.flatten(2).transpose(1, 2)
        if self.attention is not None:
            tokens = self.attention(tokens, shape)
        if self.cross is not None:
            tokens = self.cross(tokens, shape, given)
        return tokens.transpose(1, 2).reshape(h.shape)
