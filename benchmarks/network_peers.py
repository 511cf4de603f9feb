"""The networks of others at the size of ours, each behind one call, and a training loop for azula's denoiser.

azula's U-Net                        layer norm over channels; scale, shift and gate from the noise level
denoising-diffusion-pytorch's U-Net  RMS norm; linear attention at every resolution, full attention at the coarsest

`sized` finds the width at which a network has the wanted number of parameters. A peer that is not installed is left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surrogates.averages import Averages, assign
from surrogates.denoisers import feature_count, input_channels
from surrogates.networks import UNet
from surrogates.training import rate

Call = Callable[[Tensor], Tensor]  # a field (n, 1, *space), the noise level of each member made up inside


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def sized(make: Callable[[int], nn.Module], wanted: int, widths: Iterator[int]) -> nn.Module:
    """The network whose number of parameters is nearest to `wanted`; ValueError where none comes within a tenth."""
    with torch.device("meta"):
        width = min(widths, key=lambda w: abs(parameters(make(w)) - wanted))
    network = make(width)
    if abs(parameters(network) / wanted - 1.0) > 0.1:
        raise ValueError(f"wanted {wanted} parameters within a tenth, nearest are {parameters(network)}")
    return network


class Levelled(nn.Module):
    """azula's U-Net with the noise level encoded as its documentation does: (x, log σ/α) → field."""

    def __init__(self, network: nn.Module, features: int):
        super().__init__()
        from azula.nn.layers import SineEncoding

        self.network = network
        self.level = nn.Sequential(SineEncoding(features), nn.Linear(features, features), nn.SiLU())

    def forward(self, x: Tensor, t: Tensor, **given: Any) -> Tensor:
        out: Tensor = self.network(x, self.level(t).expand(len(x), -1), **given)
        return out


def azula_unet(
    multiples: tuple[int, ...], blocks: tuple[int, ...], wanted: int, *, periodic: bool = True, maps: int = 0
) -> nn.Module:
    """Channels `multiples` × c, c chosen by the number of parameters; `maps` channels are given beside the field."""
    from azula.nn.unet import UNet as Theirs

    def make(c: int) -> nn.Module:
        widths = tuple(m * c for m in multiples)
        return Levelled(
            Theirs(1, 1, maps, hid_channels=widths, hid_blocks=blocks, mod_features=128, periodic=periodic), 128
        )

    return sized(make, wanted, iter(range(4, 65)))


def denoising_diffusion_unet(multiples: tuple[int, ...], wanted: int) -> nn.Module:
    from denoising_diffusion_pytorch import Unet

    # its width must be even: the size of an attention head, 32 by default, closes the gaps between widths
    options = [(width, head) for width in range(4, 65, 2) for head in (32, 40, 24)]

    def make(k: int) -> nn.Module:
        width, head = options[k]
        return Unet(width, dim_mults=multiples, channels=1, attn_dim_head=head)

    return sized(make, wanted, iter(range(len(options))))


@dataclass(frozen=True)
class Contender:
    name: str
    network: nn.Module
    call: Call


def contenders(side: int, batch: int) -> list[Contender]:
    """Ours at its defaults for side × side cells behind the Wiener skip, and those of the peers that are installed."""
    shape, axes = (side, side), ("periodic", "periodic")
    inputs, count = input_channels("wiener", 1, 0), feature_count("wiener", 1, 0)
    options = UNet.options(shape)
    ours = UNet(inputs, 1, features=count, boundary=axes, **options)
    features, size, levels = torch.randn(batch, count), parameters(ours), len(options["widths"])
    found = [Contender("surrogates", ours, lambda x: ours(x.expand(-1, inputs, -1, -1), features))]
    time = torch.rand(batch)
    halving = tuple(2**k for k in range(levels))
    makers: dict[str, Callable[[], nn.Module]] = {
        "azula, our resolutions": lambda: azula_unet(tuple(range(1, levels + 1)), (1,) * levels, size),
        "azula, its proportions": lambda: azula_unet((1, 2, 4), (3, 3, 3), size),
        "denoising-diffusion-pytorch, our resolutions": lambda: denoising_diffusion_unet(halving[:3], size),
        "denoising-diffusion-pytorch, its proportions": lambda: denoising_diffusion_unet((1, 2, 4, 8), size),
    }
    for name, make in makers.items():
        try:
            network = make()
        except ImportError as missing:
            print(f"left out: {name} ({missing})")
            continue
        found.append(Contender(name, network, lambda x, network=network: network(x, time)))
    return found


class AzulaTraining:
    """azula's KarrasDenoiser on its VP schedule and its own loss, t uniform; all else of the loop as in ours.

    x (n, 1, *space) normalised fields, given (maps, *space) or None; `shift` rolls the fields at random.
    """

    def __init__(self, network: nn.Module, x: Tensor, *, given: Tensor | None, batch: int, seed: int, shift: bool):
        from azula.denoise import KarrasDenoiser
        from azula.noise import VPSchedule

        torch.manual_seed(seed)
        self.denoiser = KarrasDenoiser(network, VPSchedule())
        self.x, self.given, self.batch, self.seed, self.shift = x, given, batch, seed, shift
        self.optimiser = torch.optim.AdamW(network.parameters(), 1e-3, (0.9, 0.99), weight_decay=1e-2, fused=True)
        self.averages, self.steps = Averages(network), 0

    def step(self, progress: float) -> None:
        now, network = self.steps, self.denoiser.backbone
        for group in self.optimiser.param_groups:
            group["lr"] = 1e-3 * rate(max(progress, 1e-3))
        x = self.x[torch.randint(len(self.x), (self.batch,))]
        if self.shift:
            x = x.roll([int(torch.randint(n, ())) for n in x.shape[2:]], list(range(2, x.ndim)))
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.denoiser.loss(x, torch.rand(self.batch), **self.conditions(self.batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
        self.optimiser.step()
        self.averages.update(network, now)
        self.steps += 1

    def conditions(self, n: int) -> dict[str, Tensor]:
        return {} if self.given is None else {"cond": self.given.expand(n, *self.given.shape)}

    def finish(self) -> nn.Module:
        """The network with its averaged weights."""
        assign(self.denoiser.backbone, self.averages.weights[-1])
        return self.denoiser.backbone
