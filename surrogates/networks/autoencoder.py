"""An autoencoder of fields, regularised by a divergence or by a codebook; its convolutions know the boundary.

    kl    q(z|x) = N(m(x), s²(x)),  loss |x − D(z)|² + β KL(q ‖ N(0, 1))           Kingma & Welling 2014, appendix B
    vq    D sees the code nearest to z, gradients pass through it unchanged, and
          loss |x − D(e)|² + |sg z − e|² + γ|z − sg e|²                     van den Oord et al. 2017, eq. 3, γ = ¼

The space of a latent model is that of m, and of z before its code is looked up: the decoder looks it up (Rombach et al.
2022, §4.1). Codes are parameters like the others: the averages of the weights that a training keeps are theirs too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from surrogates.networks.unet import CONVOLUTIONS, BoundaryConv

KINDS = ("kl", "vq")


class _Block(nn.Module):
    """h ← h + conv₂(silu(conv₁(silu(h))))."""

    def __init__(self, width: int, boundary: tuple[str, ...]):
        super().__init__()
        self.first, self.second = BoundaryConv(width, width, boundary), BoundaryConv(width, width, boundary, gain=0.3)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.second(self.first(h, activate=True), activate=True)
        return out


class Autoencoder(nn.Module):
    """Fields (n, fields, *space) ⇄ latents (n, channels, *space/2^k), k = len(widths) − 1.

    Parameters
    ----------
    fields, channels
        Variables of the fields; channels of the latents.
    boundary
        One of modes.BOUNDARIES per axis.
    widths
        Channels of each resolution, from the finest; every further one halves it.
    kind, codes
        "kl", or "vq" with so many codes.

    >>> net = Autoencoder(1, 4, boundary=("periodic", "reflect"), widths=(8, 12), kind="vq", codes=16)
    >>> z = net.encode(torch.randn(2, 1, 8, 12))
    >>> z.shape, net.decode(z).shape
    (torch.Size([2, 4, 4, 6]), torch.Size([2, 1, 8, 12]))
    """

    def __init__(
        self,
        fields: int,
        channels: int,
        *,
        boundary: tuple[str, ...],
        widths: Sequence[int],
        kind: str,
        codes: int = 256,
    ):
        super().__init__()
        self.kind, self.channels = kind, channels
        convolution, wide = CONVOLUTIONS[len(boundary)], widths[-1]
        down: list[nn.Module] = [BoundaryConv(fields, widths[0], boundary)]
        up: list[nn.Module] = [BoundaryConv(channels, wide, boundary), _Block(wide, boundary)]
        for fine, coarse in pairwise(widths):
            down += [_Block(fine, boundary), BoundaryConv(fine, coarse, boundary, stride=2)]
        for coarse, fine in pairwise(reversed(widths)):
            up += [convolution(coarse, fine, 1), nn.Upsample(scale_factor=2), _Block(fine, boundary)]
        outputs = 2 * channels if kind == "kl" else channels
        self.down = nn.Sequential(*down, _Block(wide, boundary), BoundaryConv(wide, outputs, boundary))
        self.up = nn.Sequential(*up, BoundaryConv(widths[0], fields, boundary))
        self.codes = nn.Parameter(torch.randn(codes, channels)) if kind == "vq" else None

    def encode(self, x: Tensor) -> Tensor:
        """The latents of fields: m, or z."""
        z: Tensor = self.down(x)[:, : self.channels]
        return z

    def decode(self, z: Tensor) -> Tensor:
        """The fields of latents."""
        x: Tensor = self.up(z if self.codes is None else self.look_up(z))
        return x

    def look_up(self, z: Tensor) -> Tensor:
        """The nearest code of every cell: the shape of z."""
        assert self.codes is not None, "only an autoencoder with codes is asked"
        cells = z.movedim(1, -1)
        nearest = torch.cdist(cells.reshape(-1, self.channels).float(), self.codes.float()).argmin(1)
        return functional.embedding(nearest, self.codes).reshape(cells.shape).movedim(-1, 1).to(z)

    def losses(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(|x − D|²/d, regulariser) of every field, (n,) each; noise: standard normals shaped like the latents."""
        if self.codes is None:
            mean, log_variance = self.down(x).chunk(2, dim=1)
            log_variance = log_variance.clamp(-20.0, 10.0)
            z = mean + (0.5 * log_variance).exp() * noise
            extra = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).flatten(1).sum(1) / x[0].numel()
            return (x - self.up(z)).square().flatten(1).mean(1), extra
        z = self.encode(x)
        code = self.look_up(z)
        seen = z + (code - z).detach()
        apart = (z.detach() - code).square() + 0.25 * (z - code.detach()).square()
        return (x - self.up(seen)).square().flatten(1).mean(1), apart.flatten(1).mean(1)

    def start_codes(self, z: Tensor, places: Tensor) -> None:
        """Codes begin as latents of the data: at these places (codes,) ∈ [0, 1) among the cells of z."""
        assert self.codes is not None, "only an autoencoder with codes is asked"
        cells = z.movedim(1, -1).reshape(-1, self.channels)
        with torch.no_grad():
            self.codes.copy_(cells[(places * len(cells)).long()])
