"""A score model in the space of an autoencoder: trained first, it halves every axis a few times (Rombach et al. 2022).

    x → z = E(x) (`networks/autoencoder.py`) → one Gaussian and one network for z, as for any fields → x = D(z)

The Gaussian of the fields themselves stays: it is the baseline, and the verdict compares what is decoded with it, by
the energy score of held-out fields. What the autoencoder loses no sampler brings back: the reconstruction error is told
by wave number, and as the noise level σ at which Wiener's filter knows the fields as well,
mean_k λσ²/(λ + σ²) = E|x − D(E(x))|²/d.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from surrogates.appraising import appraise, drawn
from surrogates.drawing import draw, served
from surrogates.fitting import Fitted, Keep, Material, Plan, fit_gaussians, train_network
from surrogates.gaussian import Gaussian
from surrogates.layouts import Layout, Scale
from surrogates.modes import SpectralModes
from surrogates.networks.autoencoder import KINDS, Autoencoder
from surrogates.serving import Verdict
from surrogates.sources import Samples, Source
from surrogates.splitting import some
from surrogates.tensor_streams import Use, normals, uniforms
from surrogates.training import Settings, batch_at, train

_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class Latent:
    """What autoencoder to train before the score model; `Surrogate.fit(..., latent=Latent())`.

    factor     by how much each axis is shortened: 2, 4, 8, …; it must divide the number of cells
    channels   of the latent fields
    kind       "kl": Gaussian posterior, its divergence from N(0, 1) weighed by `weight`; "vq": a codebook of `codes`
    widths     channels of the network at each resolution; None for 32, 64, …
    share      of the training's budget that the autoencoder takes

    >>> Latent(factor=2, kind="vq").codes
    256
    """

    factor: int = 4
    channels: int = 4
    kind: str = "kl"
    codes: int = 256
    weight: float = 1e-4
    widths: tuple[int, ...] | None = None
    share: float = 0.4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind= wants one of {list(KINDS)}, got {self.kind!r}; choose one of these")
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise ValueError(f"factor= wants a power of two ≥ 2, got {self.factor}; choose 2, 4 or 8")
        if self.widths is not None and len(self.widths) != self.halvings + 1:
            raise ValueError(f"widths= wants {self.halvings + 1} numbers for factor={self.factor}, got {self.widths}")
        if min(self.channels, self.codes) < 1 or not 0.0 < self.share < 1.0:
            raise ValueError("channels= and codes= want numbers ≥ 1, and share= one between 0 and 1; correct them")

    @property
    def halvings(self) -> int:
        """log₂ factor."""
        return self.factor.bit_length() - 1

    def check(self, layout: Layout) -> None:
        """ValueError for a grid that the factor does not divide."""
        if any(n % self.factor or n // self.factor < 2 for n in layout.shape):
            raise ValueError(
                f"latent factor={self.factor} wants axes that are multiples of it, at least twice, got {layout.shape} "
                f"cells; choose another factor, or cut the fields"
            )

    def build(self, layout: Layout) -> Autoencoder:
        """A fresh autoencoder for these fields."""
        widths = self.widths or tuple(32 * 2 ** min(k, 1) for k in range(self.halvings + 1))
        return Autoencoder(
            layout.channels, self.channels, boundary=layout.boundary, widths=widths, kind=self.kind, codes=self.codes
        )

    def learn(self, fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> LatentWay:
        """The autoencoder, then the model of its latents; the verdict on what is decoded."""
        coder = _trained(self, fitted, material, plan, keep)
        held = some(material.held, 2048)[0]
        z = torch.cat([coder.encode(part.to(plan.device)).detach() for part in torch.split(held, 256)])
        axes = (0, *range(2, z.ndim))
        way = LatentWay(self, coder, z.mean(axes), z.std(axes).clamp(min=1e-6), fitted)
        layout, fixed = way.layout, material.fixed
        inside = material.mapped(layout, way.encoded, None if fixed is None else way.coarse(fixed[None])[0])
        part = replace(plan, budget=plan.budget.part(1.0 - self.share), seed=plan.seed + 7)
        if fitted.static is None:  # what is homogeneous stays so: the autoencoder is the same everywhere
            part = replace(part, coordinates=False)
        way.model = fit_gaussians(inside.held, layout, part, inside.fixed, inside.table, inside.gap)
        train_network(way.model, inside, part, keep)
        way.reconstruction = reconstruction(way, fitted.gaussian, material.selection)
        _warn(way.reconstruction)
        laws = {name: partial(drawn, replace(fitted, way=way), plan, name) for name in ("network", "gaussian")}
        gain, beside = appraise(laws, some(material.verdict, 64), material.layout)
        fitted.verdict = Verdict.of(gain, "energy", beside)
        return way


class LatentWay:
    """Fields by way of latents: z = (E(x) − mean)/std, its model, and D.

    `reconstruction` holds what `Surrogate.reconstruction_` tells.
    """

    kind = "latents"

    def __init__(self, options: Latent, coder: Autoencoder, mean: Tensor, std: Tensor, fitted: Fitted):
        self.options, self.coder, self.mean, self.std = options, coder, mean, std
        self.layout = _latent_layout(options, fitted.layout)
        self.maps, self.shape = len(fitted.layout.maps), fitted.layout.shape
        self.model: Fitted = fitted  # until its own is learned
        self.reconstruction: dict[str, Any] = {}

    def models(self) -> Mapping[str, Fitted]:
        """The model of the latents."""
        return {"latent": self.model}

    def draw(self, numbers: NDArray[np.int64], c: Tensor | None, how: Any) -> tuple[Tensor, int]:
        """Latents of the law that serves among them, decoded."""
        z, calls = draw(self.model, numbers, self.conditions(c), served(self.model, how))
        return self.decode(z).double().cpu(), calls

    def encode(self, x: Tensor) -> Tensor:
        """Fields to latents of unit variance."""
        with torch.no_grad():
            z: Tensor = (self.coder.encode(x.to(self.mean)) - _along(self.mean, x)) / _along(self.std, x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """The inverse, as far as there is one; float32."""
        with torch.no_grad():
            z = z.to(self.mean)
            x: Tensor = self.coder.decode(z * _along(self.std, z) + _along(self.mean, z))
        return x

    def encoded(self, samples: Samples, _: Tensor) -> Samples:
        """Samples in the latent space, where they were."""
        x, c = samples
        return self.encode(x).to(x.device), self.conditions(c)

    def conditions(self, c: Tensor | None) -> Tensor | None:
        """Those that are fields by their cell means on the latent grid."""
        if c is None or not self.maps:
            return c
        scalars = c.shape[1] - self.maps * math.prod(self.shape)
        fields = self.coarse(c[:, scalars:].reshape(len(c), self.maps, *self.shape))
        return torch.cat([c[:, :scalars], fields.flatten(1)], dim=1)

    def coarse(self, fields: Tensor) -> Tensor:
        """Means of factor^d cells."""
        pooled: Tensor = _POOL[len(self.shape)](fields, self.options.factor)
        return pooled

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a model file keeps beside the models: arrays, and a JSON-able description."""
        tensors = {"mean": self.mean, "std": self.std} | {f"coder.{k}": v for k, v in self.coder.state_dict().items()}
        return tensors, {"options": asdict(self.options), "reconstruction": self.reconstruction}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any], fitted: Fitted, models: Mapping[str, Fitted]
    ) -> LatentWay:
        """The inverse of `tensors`."""
        given = dict(config["options"])
        given["widths"] = None if given["widths"] is None else tuple(given["widths"])
        options = Latent(**given)
        coder = options.build(fitted.layout)
        coder.load_state_dict({k.removeprefix("coder."): v for k, v in tensors.items() if k.startswith("coder.")})
        way = cls(options, coder.eval(), tensors["mean"], tensors["std"], fitted)
        way.model, way.reconstruction = models["latent"], dict(config["reconstruction"])
        return way


def _along(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(1, -1, *[1] * (x.ndim - 2))


def _latent_layout(options: Latent, layout: Layout) -> Layout:
    """That of the latent fields, which have no units, names or coordinates."""
    names = tuple(f"latent_{k}" for k in range(options.channels))
    shape = tuple(n // options.factor for n in layout.shape)
    return replace(
        layout, variables=names, shape=shape, kept=(), scales=(Scale(0.0, 1.0),) * len(names), template=xr.Dataset()
    )


@dataclass
class _Coder:
    """What the training loop trains."""

    network: nn.Module


def _trained(options: Latent, fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> Autoencoder:
    torch.manual_seed(plan.seed)
    coder = options.build(material.layout).to(plan.device)
    if coder.codes is not None:
        first = some(material.held, 256)[0].to(plan.device)
        at = torch.arange(options.codes, device=plan.device)
        coder.start_codes(coder.encode(first), uniforms(plan.seed, at, 0, Use.PAIR))
    shift = fitted.static is None and not fitted.layout.maps and set(fitted.layout.boundary) == {"periodic"}
    settings = replace(
        plan.settings, label="autoencoder", run=plan.settings.run + 1, shift=shift,
        batch=min(plan.settings.batch, len(material.source)),
    )  # fmt: skip
    train(
        _Coder(coder), material.source, plan.budget.part(options.share), seed=plan.seed, settings=settings,
        held=_Reconstruction(some(material.selection, 64)[0]), ledger=keep.ledger, ranks=keep.ranks,
        journal=keep.journal, loss=partial(coder_loss, options=options),
    )  # fmt: skip
    return coder


def coder_loss(
    coder: Any, source: Source, step: int, places: Tensor, seed: int, settings: Settings, *, options: Latent
) -> Tensor:
    """(Σ error and regulariser, Σ mean square) over some places of a step's batch."""
    x, _, at = batch_at(coder, source, step, places, seed, settings)
    shape = (options.channels, *(n // options.factor for n in x.shape[2:]))
    error, extra = coder.network.losses(x, normals(seed, at, step, shape).to(x))
    weight = options.weight if options.kind == "kl" else 1.0
    return torch.stack([(error + weight * extra).sum(), x.square().flatten(1).mean(1).sum()])


@dataclass(frozen=True)
class _Reconstruction:
    """Judges an autoencoder by the part of the mean square of held-out fields that comes back."""

    x: Tensor

    def gain(self, coder: Any) -> Tensor:
        """1 − |x − D(E(x))|²/mean|x|²: (n,)."""
        with torch.no_grad():
            found = coder.network.decode(coder.network.encode(self.x))
        gain: Tensor = 1.0 - (found - self.x).square().flatten(1).mean(1) / self.x.square().mean()
        return gain


def reconstruction(way: LatentWay, gaussian: Gaussian, held: Samples) -> dict[str, Any]:
    """Errors in units of the variance: in all, by shells of wave number, and the noise level that is worth as much."""
    x = some(held, 256)[0]
    modes = SpectralModes(tuple(x.shape[2:]), way.layout.boundary)
    shell = (modes.radius() * 2 * min(modes.space)).round().long().flatten()
    count = int(shell.max()) + 1
    sums = []
    for field in (x - way.decode(way.encode(x)).to(x), x - x.mean(0)):
        power = modes.analyse(field.double()).square().mean((0, 1)).flatten().cpu()
        sums.append(torch.zeros(count, dtype=power.dtype).index_add_(0, shell, power))
    kept = sums[1] > 0
    wavenumber = torch.arange(count)[kept] / (2 * min(modes.space))
    total = float(sums[0].sum()) / math.prod(modes.space)
    low, high = math.log(1e-6), math.log(1e3)
    for _ in range(60):
        middle = 0.5 * (low + high)
        known = float(gaussian.floor(math.exp(middle)).mean()) < total
        low, high = (middle, high) if known else (low, middle)
    floor = float(gaussian.floor(gaussian.noise_range()[0]).mean())
    return {
        "error": total, "level": math.exp(low), "floor": floor, "wavenumber": wavenumber.tolist(),
        "by_wavenumber": (sums[0][kept] / sums[1][kept]).tolist(),
    }  # fmt: skip


def _warn(found: Mapping[str, Any]) -> None:
    if found["error"] > found["floor"]:
        warnings.warn(
            f"the autoencoder loses {found['error']:.3g} of the fields' variance, more than noise of the lowest level "
            f"hides ({found['floor']:.3g}): as much as noise of {found['level']:.2g} standard deviations; where that "
            f"matters use a smaller factor, more channels or a longer training",
            stacklevel=5,
        )


def reconstruction_error(fitted: Fitted) -> xr.DataArray | None:
    """E|x − D(E(x))|² over E|x|² of held-out fields, by wave number in cycles per cell."""
    if not isinstance(fitted.way, LatentWay):
        return None
    found = fitted.way.reconstruction
    attrs = {
        "long_name": "reconstruction error, fraction of the variance at this wave number", "units": "1",
        "total": found["error"], "equivalent_noise_level": found["level"], "gaussian_floor": found["floor"],
    }  # fmt: skip
    wavenumber = ("wavenumber", found["wavenumber"], {"long_name": "cycles per cell", "units": "1"})
    values = found["by_wavenumber"]
    return xr.DataArray(values, {"wavenumber": wavenumber}, ["wavenumber"], "reconstruction_error", attrs)
