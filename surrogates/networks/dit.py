"""A transformer on patches with adaptive normalisation (DiT; Peebles & Xie 2023), for 1 to 3 axes of any length.

    tokens = patches · P (+ walls);   block:  h ← h + g₁ attention(n(h)),  h ← h + g₂ MLP(n(h)),
    n(h) = (1 + a) LayerNorm(h) + b,  a, b, g from the features, zero at the start (adaLN-zero)

Along periodic axes only separations are known to it (`attention.py`), so that it commutes with shifts by a patch.
A length that is no multiple of the patch is filled up by the boundary and cut again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.networks.attention import WAVES, Attention, walls
from surrogates.networks.unet import CONVOLUTIONS


def fill(x: Tensor, patch: int, boundary: tuple[str, ...]) -> Tensor:
    """Fields with every axis continued by its boundary to a multiple of the patch.

    >>> fill(torch.tensor([[[1.0, 2.0, 3.0]]]), 2, ("periodic",)).flatten().tolist()
    [1.0, 2.0, 3.0, 1.0]
    """
    for axis, kind in enumerate(boundary, start=2):
        extra = -x.shape[axis] % patch
        if extra:
            n = x.shape[axis]
            more = x.narrow(axis, 0, extra) if kind == "periodic" else x.narrow(axis, n - extra, extra).flip(axis)
            x = torch.cat([x, more], dim=axis)
    return x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, embedding: int, boundary: tuple[str, ...]):
        super().__init__()
        self.attention = Attention(width, heads, boundary)
        nn.init.xavier_uniform_(self.attention.out.weight)  # its gate starts at zero instead
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(embedding, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, e: Tensor, shape: tuple[int, ...]) -> Tensor:
        a1, b1, g1, a2, b2, g2 = self.modulation(e)[:, None].chunk(6, dim=-1)
        inner = functional.layer_norm(h, h.shape[-1:]) * (1.0 + a1) + b1
        h = h + g1 * (self.attention(inner, shape) - inner)
        inner = functional.layer_norm(h, h.shape[-1:]) * (1.0 + a2) + b2
        out: Tensor = h + g2 * self.narrow(functional.gelu(self.wide(inner)))
        return out


class DiT(nn.Module):
    """Call signature network(inputs (n, inputs, *space), features (n, features)), as `UNet`.

    Parameters
    ----------
    patch, width, depth, heads
        cells of a patch along each axis; length of a token; blocks; heads of the attention.

    >>> net = DiT(2, 1, features=3, boundary=("reflect", "periodic"), patch=4, width=16, depth=2, heads=2)
    >>> net(torch.randn(5, 2, 10, 16), torch.randn(5, 3)).shape
    torch.Size([5, 1, 10, 16])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        features: int,
        boundary: tuple[str, ...],
        patch: int = 4,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        embedding: int = 96,
    ):
        super().__init__()
        if not 1 <= len(boundary) <= 3:
            raise ValueError(f"a transformer wants 1 to 3 space axes, got {len(boundary)}; pass another network=")
        self.boundary, self.patch, self.outputs = boundary, patch, outputs
        self.embed = nn.Sequential(
            nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = CONVOLUTIONS[len(boundary)](inputs, width, patch, stride=patch)
        self.place = nn.Linear(max(1, WAVES * sum(kind != "periodic" for kind in boundary)), width, bias=False)
        self.blocks = nn.ModuleList(_Block(width, heads, embedding, boundary) for _ in range(depth))
        self.modulation = nn.Linear(embedding, 2 * width)
        self.head = nn.Linear(width, outputs * patch ** len(boundary))
        for layer in (self.modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @staticmethod
    def options(shape: tuple[int, ...]) -> dict[str, Any]:
        """Patches that leave at least eight tokens along the longest axis, of 2 to 4 cells."""
        return {"patch": max(1, min(4, max(shape) // 8)), "width": 96, "depth": 4, "heads": 4, "embedding": 96}

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """F(inputs; features): (n, outputs, *space)."""
        space, e = inputs.shape[2:], self.embed(features)
        h: Tensor = self.stem(fill(inputs, self.patch, self.boundary))
        shape = tuple(h.shape[2:])
        h = h.flatten(2).transpose(1, 2)
        where = walls(shape, self.boundary).to(h)
        if where.shape[1]:
            h = h + self.place(where)
        for block in self.blocks:
            h = block(h, e, shape)
        a, b = self.modulation(e)[:, None].chunk(2, dim=-1)
        h = self.head(functional.layer_norm(h, h.shape[-1:]) * (1.0 + a) + b)
        d = len(shape)
        h = h.reshape(len(h), *shape, self.outputs, *[self.patch] * d)
        order = [0, d + 1, *(axis for k in range(d) for axis in (1 + k, d + 2 + k))]
        h = h.permute(order).reshape(len(h), self.outputs, *(n * self.patch for n in shape))
        for axis, n in enumerate(space, start=2):
            h = h.narrow(axis, 0, n)
        return h
