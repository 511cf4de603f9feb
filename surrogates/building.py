"""Putting a denoiser together: which network for which grid, and which noise for which process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sdesim.grids import Grid
from surrogates.corruption import Corruption, Modal, White
from surrogates.denoisers import Denoiser, Skip, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.layouts import Layout
from surrogates.modes import SpectralModes
from surrogates.networks import NETWORKS, OnGrid
from surrogates.noising import Coloured, heat
from surrogates.processes import EDM

if TYPE_CHECKING:
    from surrogates.fitting import Fitted

NetworkOption = nn.Module | Callable[..., nn.Module] | Mapping[str, Any] | str | bool | None
FADED = 1e-3  # what is left of the finest mode when the heat equation's noising ends
_LOWEST, _HIGHEST = 0.02, 10.0  # levels of noise coloured like the data, relative to every mode


def network_config(option: NetworkOption, shape: Sequence[int]) -> dict[str, Any]:
    """The options of a network of ours for a grid, by its name or a mapping of options: {"kind": ..., ...}.

    Raises ValueError for an unknown name.

    >>> network_config(None, (32, 32))
    {'kind': 'unet', 'widths': [32, 64, 96], 'depth': 2, 'embedding': 128}
    """
    given = {"kind": option} if isinstance(option, str) else dict(option) if isinstance(option, Mapping) else {}
    kind = given.pop("kind", "unet")
    if kind not in NETWORKS:
        raise ValueError(f"network= wants one of {sorted(NETWORKS)}, a module or False, got {kind!r}; choose one")
    defaults: dict[str, Any] = NETWORKS[kind].options(tuple(shape))
    return {"kind": kind} | defaults | given


def is_ours(option: NetworkOption) -> bool:
    """Whether the option names a network of this library, which a model file can build again."""
    return option is None or option is True or isinstance(option, str | Mapping)


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 convolutions run in hardware on this device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported is not None else False


def build_network(network: NetworkOption, inputs: int, outputs: int, layout: Layout, *, features: int) -> nn.Module:
    """A fresh network of this option for a grid, or the module given; behind `OnGrid` where the grid has holes."""
    if layout.wet is not None or layout.global_:
        wet = np.ones(layout.shape, bool) if layout.wet is None else layout.wet
        inner = _network_of_box(network, inputs + 1, outputs, layout, features=features)
        return OnGrid(inner, torch.from_numpy(wet))
    return _network_of_box(network, inputs, outputs, layout, features=features)


def _network_of_box(network: NetworkOption, inputs: int, outputs: int, layout: Layout, *, features: int) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    if callable(network) and not is_ours(network):
        return network(inputs, outputs, features=features, boundary=layout.boundary)
    options = network_config(network, layout.shape)
    context = {"context": len(layout.maps)} if options.get("attend") else {}
    kind = NETWORKS[options.pop("kind")]
    module: nn.Module = kind(inputs, outputs, features=features, boundary=layout.boundary, **options, **context)
    return module


def build_denoiser(fitted: Fitted, skip: Skip, network: NetworkOption, *, bf16: bool = False) -> Denoiser:
    """A denoiser with a fresh network (or the module given) for this skip connection, in float32 on the CPU."""
    layout, static = fitted.layout, fitted.static
    fixed, maps = 0 if static is None else len(static), len(layout.maps)
    inputs = input_channels(skip, layout.channels, fixed + maps)
    count = feature_count(skip, layout.channels, len(layout.condition))
    module = build_network(network, inputs, layout.channels, layout, features=count)
    like = torch.zeros((), dtype=torch.float32)
    return Denoiser(
        module, fitted.gaussian.to(like), skip, fitted.noise_range, static, bf16=bf16,
        corruption=fitted.corruption.to(like), transported=fitted.objective != "denoising",
    )  # fmt: skip


def lay_noise(
    process: str, gaussian: Gaussian, layout: Layout, c: Tensor | None, white: tuple[float, float]
) -> tuple[Corruption, tuple[float, float]]:
    """The noise of a process over the modes of the data, and its range of levels; `white` is the range of white noise.

    heat       κ such that FADED is left of the finest mode at t = 1, g such that the mean's noise is then σ_max
    coloured   amplitude √λ̄, λ̄ the spectrum averaged over the conditions: every mode fades alike
    """
    if process == "coloured":
        spectrum = gaussian.variance(c)
        amplitude = spectrum.mean(0, keepdim=True).sqrt()
        ratio = (spectrum.sqrt() / amplitude).flatten()
        levels = _LOWEST * min(1.0, float(ratio.min())), _HIGHEST * max(1.0, float(ratio.max()))
        return Modal(Coloured(EDM(), amplitude), gaussian.modes), levels
    if process != "heat":
        return White(), white
    if not isinstance(gaussian.modes, SpectralModes):
        raise ValueError("process='heat' wants a box without holes, got another domain; use process='coloured'")
    unit = heat(_grid(layout), tuple(_KINDS[kind] for kind in layout.boundary), 1.0, 1.0)  # type: ignore[misc]
    laplacian = unit.laplacian[None, None].to(gaussian.mean_terms)
    diffusivity = math.log(1.0 / FADED) / float(laplacian.max())
    path = type(unit)(laplacian, diffusivity, white[1])
    return Modal(path, gaussian.modes), white


_KINDS = {"periodic": "periodic", "reflect": "neumann", "dirichlet": "dirichlet"}


def _grid(layout: Layout) -> Grid:
    """The box of the data, in its own units where coordinates are evenly spaced, else in cells."""
    lengths = []
    for axis, n in zip(layout.space, layout.shape, strict=True):
        steps = np.diff(layout.template[axis].values.astype(float)) if axis in layout.template.coords else np.ones(1)
        even = len(steps) > 0 and np.allclose(steps, steps[0], rtol=1e-3)
        lengths.append((0.0, float(n * (steps[0] if even else 1.0)), n))
    return Grid(**dict(zip(("z", "y", "x")[-len(lengths) :], lengths, strict=True)))
