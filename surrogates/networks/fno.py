"""A network of spectral convolutions (FNO; Li et al. 2021) beside local ones, for 1 to 3 axes of any length.

    block:  h ← h + P silu( a·(K h + L h) + b ),   K h = F⁻¹[ R_k · F[h]_k , |k_i| < modes ],   a, b from the features

L is a 3-wide convolution padded by the boundary. On a periodic axis F is Fourier's transform and the network commutes
with every shift; an axis with walls is continued by its mirror image first, whose transform is the cosine's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.networks.unet import CONVOLUTIONS, BoundaryConv


class SpectralConv(nn.Module):
    """K: one complex matrix per wave number below `modes` (at most half of each axis's own), in float32.

    >>> SpectralConv(2, (3, 3), ("periodic", "reflect"))(torch.randn(4, 2, 8, 9)).shape
    torch.Size([4, 2, 8, 9])
    """

    def __init__(self, width: int, modes: tuple[int, ...], boundary: tuple[str, ...]):
        super().__init__()
        self.boundary, self.modes = boundary, modes
        kept = [*(2 * m - 1 for m in modes[:-1]), modes[-1]]
        self.weight = nn.Parameter(torch.randn(width, width, *kept, 2) * (0.5 / width) ** 0.5)

    def forward(self, h: Tensor) -> Tensor:
        """K h, fields in and out."""
        space, axes = h.shape[2:], tuple(range(2, h.ndim))
        with torch.autocast(h.device.type, enabled=False):
            x: Tensor = h.float()
            for axis, kind in enumerate(self.boundary, start=2):
                x = x if kind == "periodic" else torch.cat([x, x.flip(axis)], dim=axis)
            spectrum = torch.fft.rfftn(x, dim=axes, norm="ortho")
            weight = torch.view_as_complex(self.weight)
            rows = []
            for axis, most in zip(axes, self.modes, strict=True):
                n, last = spectrum.shape[axis], axis == axes[-1]
                m = min(most, n if last else (n + 1) // 2)
                k = torch.arange(0 if last else 1 - m, m, device=h.device)
                weight = weight.narrow(axis, 0 if last else most - m, len(k))
                rows.append(k % n)
            where: tuple[slice | Tensor, ...] = (slice(None), slice(None), *torch.meshgrid(*rows, indexing="ij"))
            out = torch.zeros_like(spectrum)
            out[where] = torch.einsum("ni...,io...->no...", spectrum[where], weight)
            x = torch.fft.irfftn(out, s=x.shape[2:], dim=axes, norm="ortho")
        for axis, n in zip(axes, space, strict=True):
            x = x.narrow(axis, 0, n)
        return x


class _Block(nn.Module):
    def __init__(self, width: int, modes: tuple[int, ...], embedding: int, boundary: tuple[str, ...]):
        super().__init__()
        self.spectral = SpectralConv(width, modes, boundary)
        self.local = BoundaryConv(width, width, boundary)
        self.film = nn.Linear(embedding, 2 * width)
        nn.init.normal_(self.film.weight, std=0.5 * embedding**-0.5)
        nn.init.zeros_(self.film.bias)
        self.out = CONVOLUTIONS[len(boundary)](width, width, 1)
        with torch.no_grad():
            self.out.weight *= 0.3

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift = self.film(e).reshape(len(e), -1, *[1] * (h.ndim - 2)).chunk(2, dim=1)
        inner = torch.addcmul(shift, self.spectral(h) + self.local(h), 1.0 + scale)
        out: Tensor = h + self.out(functional.silu(inner))
        return out


class FNO(nn.Module):
    """Call signature network(inputs (n, inputs, *space), features (n, features)), as `UNet`.

    Parameters
    ----------
    width, depth
        channels; blocks.
    modes
        wave numbers of each axis that are mixed globally: 0 … modes − 1, of both signs.

    >>> net = FNO(2, 1, features=3, boundary=("periodic", "periodic"), width=4, modes=(3, 3), depth=2)
    >>> net(torch.randn(5, 2, 9, 16), torch.randn(5, 3)).shape
    torch.Size([5, 1, 9, 16])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        features: int,
        boundary: tuple[str, ...],
        width: int = 24,
        modes: tuple[int, ...] = (8, 8),
        depth: int = 4,
        embedding: int = 96,
    ):
        super().__init__()
        if not 1 <= len(boundary) <= 3 or len(modes) != len(boundary):
            raise ValueError(f"a spectral network wants 1 to 3 axes and modes for each, got {boundary} and {modes}")
        self.embed = nn.Sequential(
            nn.Linear(features, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        self.stem = BoundaryConv(inputs, width, boundary)
        self.blocks = nn.ModuleList(_Block(width, tuple(modes), embedding, boundary) for _ in range(depth))
        self.head = BoundaryConv(width, outputs, boundary, gain=0.0)

    @staticmethod
    def options(shape: tuple[int, ...]) -> dict[str, Any]:
        """As many wave numbers as keep the parameters between a quarter of a million and one million."""
        width, most = {1: (48, 16), 2: (24, 8), 3: (20, 4)}.get(len(shape), (24, 8))
        modes = [max(1, min(most, n // 2)) for n in shape]
        return {"width": width, "modes": modes, "depth": 4, "embedding": 96}

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """F(inputs; features): (n, outputs, *space)."""
        e, h = self.embed(features), self.stem(inputs)
        for block in self.blocks:
            h = block(h, e)
        out: Tensor = self.head(functional.silu(h))
        return out
