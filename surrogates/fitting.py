"""From a Dataset to a fitted model: the Gaussian first, then a network that must beat it on held-out denoising.

1  check, normalise, split into training, selection and verdict samples by whole blocks
2  the Gaussian by cross-validation on the training samples; beside it the plain Gaussian field, without conditions,
   as the baseline of every report
3  a short pilot for each skip connection; the better by held-out denoising (selection samples) goes on
4  the long run, keeping the best averaged weights (selection samples)
5  the verdict on samples that nothing was chosen by: the network serves if its gain over the Gaussian is above
   two standard errors, else the Gaussian does
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from surrogates import data
from surrogates.covariance import Choice, choose, fit_gaussian
from surrogates.data import Layout
from surrogates.denoisers import EDM_RANGE, SKIPS, Denoiser, Skip, coordinate_channels, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.networks import UNet
from surrogates.training import Budget, HeldOut, Settings, held_out, train

NetworkOption = nn.Module | Callable[..., nn.Module] | Mapping[str, Any] | bool | None
VALIDATION_BLOCKS = 4
PILOT = 0.08


@dataclass(frozen=True)
class Verdict:
    """Which law serves and why: the network's held-out gain over the Gaussian, nats per dimension, and its error.

    >>> print(Verdict("gaussian", -0.01, 0.004))
    the Gaussian serves: on held-out denoising the network's gain over it is -0.0100 ± 0.0040 nats per dimension
    """

    served: str
    gain: float
    error: float

    def __str__(self) -> str:
        name = "network" if self.served == "network" else "Gaussian"
        if math.isnan(self.gain):
            return f"the {name} serves: no network was trained"
        tail = "over the Gaussian" if self.served == "network" else "over it"
        owner = "its" if self.served == "network" else "the network's"
        return (
            f"the {name} serves: on held-out denoising {owner} gain {tail} is "
            f"{self.gain:+.4f} ± {self.error:.4f} nats per dimension"
        )


@dataclass
class Fitted:
    """What `fit` learned; `baseline` is the Gaussian field without conditions, `conditions` the training values."""

    layout: Layout
    gaussian: Gaussian
    baseline: Gaussian
    choice: Choice
    noise_range: tuple[float, float]
    static: Tensor | None
    conditions: NDArray[np.float64]
    denoiser: Denoiser | None
    network: dict[str, Any] | None
    verdict: Verdict
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Plan:
    """What `fit` was asked to do."""

    network: NetworkOption
    skip: str
    static: tuple[str, ...]
    coordinates: bool | None
    budget: Budget
    settings: Settings
    validation: float
    seed: int
    device: torch.device


def network_config(shape: Sequence[int], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The U-Net's options for a grid: as many resolutions as leave about eight cells on the shortest axis.

    >>> network_config((32, 32), None)
    {'widths': [32, 64, 96], 'depth': 2, 'embedding': 128}
    """
    levels = max(1, min(4, int(math.log2(max(min(shape), 1))) - 2))
    return {"widths": [32, 64, 96, 128][:levels], "depth": 2, "embedding": 128} | dict(given or {})


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 convolutions run in hardware on this device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported is not None else False


def build_denoiser(fitted: Fitted, skip: Skip, network: NetworkOption, *, bf16: bool = False) -> Denoiser:
    """A denoiser with a fresh network (or the module given) for this skip connection, in float32."""
    layout, static = fitted.layout, fitted.static
    like = torch.zeros((), dtype=torch.float32, device=None if static is None else static.device)
    inputs = input_channels(skip, layout.channels, 0 if static is None else len(static))
    count = feature_count(skip, layout.channels, len(layout.condition))
    if isinstance(network, nn.Module):
        module = network
    elif callable(network) and not isinstance(network, Mapping):
        module = network(inputs, layout.channels, features=count, boundary=layout.boundary)
    else:
        options = network_config(layout.shape, network if isinstance(network, Mapping) else None)
        module = UNet(inputs, layout.channels, features=count, boundary=layout.boundary, **options)
    return Denoiser(module, fitted.gaussian.to(like), skip, fitted.noise_range, static, bf16=bf16)


def fit(ds: xr.Dataset, layout: Layout, plan: Plan) -> Fitted:
    """Carry out the five steps; x and everything trained on it live on plan.device."""
    x = data.fields_to_tensor(ds, layout)
    columns = [data.condition_values(ds, name, layout.samples) for name in layout.condition]
    c = data.conditions_to_tensor(columns, layout)
    training, selection, verdict, gap = _split(ds, layout, plan.validation)
    xt, ct = x[training].double(), None if c is None else c[training].double()
    choice = choose(xt, ct, layout.boundary, gap=gap)
    gaussian = fit_gaussian(xt, ct, layout.boundary, choice)
    levels = EDM_RANGE if plan.settings.noise == "edm" else gaussian.noise_range(ct)
    baseline = gaussian
    if ct is not None:
        baseline = fit_gaussian(xt, None, layout.boundary, choose(xt, None, layout.boundary, gap=gap))
    fitted = Fitted(
        layout, gaussian, baseline, choice, levels, _static_channels(ds, layout, choice, plan),
        np.stack(columns, axis=1) if columns else np.zeros((len(x), 0)), None, None,
        Verdict("gaussian", math.nan, math.nan), [],
    )  # fmt: skip
    if plan.network is False:
        return fitted
    x, c = x.to(plan.device), None if c is None else c.to(plan.device)

    def part(index: Tensor) -> tuple[Tensor, Tensor | None]:
        return x[index], None if c is None else c[index]

    _train_network(fitted, plan, part(training), part(selection), part(verdict), homogeneous=fitted.static is None)
    return fitted


Samples = tuple[Tensor, Tensor | None]


def _train_network(
    fitted: Fitted, plan: Plan, training: Samples, selection: Samples, verdict: Samples, *, homogeneous: bool
) -> None:
    """Steps 3 to 5, in place on `fitted`."""
    shift = homogeneous and all(kind == "periodic" for kind in fitted.layout.boundary)
    settings = replace(plan.settings, shift=shift, batch=min(plan.settings.batch, len(training[0])))
    names = SKIPS if plan.skip == "auto" else (plan.skip,)
    budget = plan.budget
    candidates: list[tuple[float, Denoiser]] = []
    checks: HeldOut | None = None
    for skip in names:
        torch.manual_seed(plan.seed)
        denoiser = build_denoiser(fitted, skip, plan.network, bf16=bf16_pays(plan.device))  # type: ignore[arg-type]
        denoiser.to(plan.device)
        checks = checks or held_out(denoiser, *_some(selection, 64), plan.seed, levels=8)
        gain = 0.0
        if len(names) > 1:
            pilot = replace(settings, label=f"pilot, {skip} skip", checks=1)
            history = train(denoiser, *training, budget.part(PILOT), seed=plan.seed, held=checks, settings=pilot)
            gain = history.rows[-1]["gain"]
            fitted.history += [{"run": float(SKIPS.index(skip)), **row} for row in history.rows]
        candidates.append((gain, denoiser))
    _, denoiser = max(candidates, key=lambda candidate: candidate[0])
    remaining = budget.part(1.0 - PILOT * len(names)) if len(names) > 1 else budget
    history = train(denoiser, *training, remaining, seed=plan.seed + 1, held=checks, settings=settings)
    fitted.history += [{"run": 2.0, **row} for row in history.rows]
    fitted.denoiser = denoiser
    custom = isinstance(plan.network, nn.Module) or callable(plan.network)
    fitted.network = None if custom else network_config(fitted.layout.shape, plan.network)  # type: ignore[arg-type]
    fitted.verdict = judge(denoiser, *_some(verdict, 256), seed=plan.seed)


def judge(denoiser: Denoiser, x: Tensor, c: Tensor | None, *, seed: int) -> Verdict:
    """The network's gain on samples that nothing was chosen by; its error from the means of contiguous blocks."""
    gain = held_out(denoiser, x, c, seed + 1).gain(denoiser)
    blocks = torch.stack([block.mean() for block in gain.chunk(min(8, len(gain)))])
    error = float(blocks.std() / math.sqrt(len(blocks)))
    mean = float(gain.mean())
    return Verdict("network" if mean > 2.0 * error else "gaussian", mean, error)


def _some(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spread and in their order."""
    x, c = samples
    index = torch.linspace(0, len(x) - 1, min(count, len(x))).round().long().to(x.device)
    return x[index], None if c is None else c[index]


def _split(ds: xr.Dataset, layout: Layout, fraction: float) -> tuple[Tensor, Tensor, Tensor, int]:
    """Sample indices for training, selection and verdict, and the gap (in samples) for cross-validation."""
    outer = next((d for d in layout.samples if ds.sizes[d] > 1), layout.samples[0])
    groups = ds.sizes[outer]
    stride = math.prod(ds.sizes[d] for d in layout.samples) // groups
    gap = 0 if outer == "member" else max(1, round(0.02 * groups))
    if groups < 2 * VALIDATION_BLOCKS:
        raise ValueError(f"dimension {outer!r} wants at least {2 * VALIDATION_BLOCKS} entries to split, got {groups}")
    train_groups, held_groups = data.split_blocks(groups, fraction=fraction, blocks=VALIDATION_BLOCKS, gap=gap)
    pieces = np.array_split(held_groups, VALIDATION_BLOCKS)

    def expand(index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy((index[:, None] * stride + np.arange(stride)).reshape(-1))

    chosen, judged = np.concatenate(pieces[0::2]), np.concatenate(pieces[1::2])
    return expand(train_groups), expand(chosen), expand(judged), gap * stride


def _static_channels(ds: xr.Dataset, layout: Layout, choice: Choice, plan: Plan) -> Tensor | None:
    """Coordinates unless the domain is homogeneous, and the static variables, standardised: (channels, *space)."""
    homogeneous = choice.homogeneous_mean and choice.shrinkage == 1.0
    coordinates = plan.coordinates if plan.coordinates is not None else not homogeneous
    channels = [coordinate_channels(layout.shape, layout.boundary)] if coordinates else []
    for name in plan.static:
        if name not in ds.variables or set(ds[name].dims) != set(layout.space):
            found = ds[name].dims if name in ds.variables else "no such variable"
            raise ValueError(f"static {name!r} must have exactly the dimensions {layout.space}, got {found}")
        values = torch.from_numpy(ds[name].transpose(*layout.space).values.astype(np.float32))
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"static {name!r} must be finite, got NaN or infinity; fill it first")
        channels.append(((values - values.mean()) / values.std().clamp(min=1e-6))[None])
    return torch.cat(channels).to(plan.device) if channels else None
