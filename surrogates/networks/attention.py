"""Attention between the cells of a coarse grid, whose positions know the boundary.

Queries and keys are rotated by angles of position (Su et al. 2021), so that a score depends on the separation alone:
2π m u along a periodic axis, u ∈ [0, 1), m = 1, 2, …, which is periodic too, and π m u along an axis with walls. There
the place itself matters as well, and enters as cos(π m u) (`walls`). Queries and keys are normalised (Dehghani et al.
2023), values are not: the amplitude of a field goes through.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

WAVES = 4


@lru_cache(maxsize=32)
def angles(shape: tuple[int, ...], boundary: tuple[str, ...], pairs: int) -> Tensor:
    """Angles of rotation (cells, pairs), the axes in turn; frequencies beyond the grid's own are left out (zero).

    >>> angles((4,), ("periodic",), 2)[:, 0].div(math.pi).tolist()
    [0.0, 0.5, 1.0, 1.5]
    """
    columns = []
    for p in range(pairs):
        axis, m = p % len(shape), 1 + p // len(shape)
        n = shape[axis]
        u = torch.arange(n) / n if boundary[axis] == "periodic" else 0.5 * (torch.arange(n) + 0.5) / n
        line = 2.0 * math.pi * m * u * (2 * m <= n or n == 1)
        columns.append(line.reshape([-1 if a == axis else 1 for a in range(len(shape))]).expand(shape).flatten())
    return torch.stack(columns, dim=1)


@lru_cache(maxsize=32)
def walls(shape: tuple[int, ...], boundary: tuple[str, ...]) -> Tensor:
    """cos(π m u), m = 1 … WAVES, for every axis with walls: (cells, WAVES × such axes).

    >>> walls((4, 2), ("periodic", "reflect")).shape
    torch.Size([8, 4])
    """
    columns = []
    for axis, (n, kind) in enumerate(zip(shape, boundary, strict=True)):
        u = (torch.arange(n) + 0.5) / n
        for m in range(1, WAVES + 1) if kind != "periodic" else ():
            line = torch.cos(math.pi * m * u).reshape([-1 if a == axis else 1 for a in range(len(shape))])
            columns.append(line.expand(shape).flatten())
    return torch.stack(columns, dim=1) if columns else torch.zeros(math.prod(shape), 0)


def _rotate(x: Tensor, by: Tensor) -> Tensor:
    """Pairs (first half, second half) of x (n, heads, cells, size) turned by angles (cells, size/2)."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = torch.cos(by).to(x), torch.sin(by).to(x)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """h ← h + P softmax(q·k) v for tokens (n, cells, width) of a grid; keys and values from `context` if there is one.

    >>> layer = Attention(8, 2, ("periodic",))
    >>> h = torch.randn(3, 6, 8)
    >>> bool(torch.equal(layer(h, (6,)), h))                                        # P starts at zero
    True
    """

    def __init__(self, width: int, heads: int, boundary: tuple[str, ...]):
        super().__init__()
        if width % (2 * heads):
            raise ValueError(f"attention wants a width divisible by 2 × {heads} heads, got {width}; change one of them")
        self.heads, self.boundary = heads, boundary
        self.query, self.pair = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor, shape: tuple[int, ...], context: Tensor | None = None) -> Tensor:
        """Tokens of a grid of this shape; the context's tokens lie on a grid of the same shape."""
        source = h if context is None else context
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(h), *self.pair(source).chunk(2, dim=-1))
        )
        turn = angles(shape, self.boundary, q.shape[-1] // 2).to(h.device)
        q, k = (_rotate(functional.normalize(part, dim=-1), turn) for part in (q, k))
        scale = math.log(2.0 + math.prod(shape)) * 4.0  # unit vectors: the scores must be able to choose one of many
        mixed = functional.scaled_dot_product_attention(q, k, v.to(q), scale=scale)
        out: Tensor = h + self.out(mixed.transpose(1, 2).flatten(2))
        return out
