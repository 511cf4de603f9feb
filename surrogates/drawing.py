"""Drawing from a fitted model: conditions and noise of every member, then the law that serves.

The noise of member i is a function of (seed, purpose, i, cell) alone (`sdesim.streams`), so that a member is the same
field in any batch, selection or order.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdesim import streams
from surrogates import diffusions, flows, samplers
from surrogates.denoisers import Field
from surrogates.fitting import Fitted
from surrogates.gaussian import Gaussian
from surrogates.guidance import LinearObservation, guided, matheron
from surrogates.likelihood import log_likelihood
from surrogates.processes import noise_levels, process

LAWS = ("network", "gaussian", "baseline")

# Along the path of a process: function, whether it draws noise, ρ of its grid of levels, its default steps.
WALKS: Mapping[str, tuple[Callable[..., Tensor], bool, float, int]] = MappingProxyType(
    {
        "heun": (samplers.heun, False, 7.0, 18),
        "euler": (flows.euler, False, 7.0, 36),
        "ddim": (flows.ddim, False, 7.0, 36),
        "dpm_2m": (flows.dpm_2m, False, math.inf, 18),
        "unipc": (flows.unipc, False, math.inf, 18),
        "adaptive": (flows.adaptive, False, math.inf, 1),
        "ancestral": (diffusions.ancestral, True, math.inf, 100),
        "euler_maruyama": (diffusions.euler_maruyama, True, math.inf, 100),
        "churn": (diffusions.churn, True, 7.0, 50),
        "sde_2m": (diffusions.sde_2m, True, math.inf, 36),
        "predictor_corrector": (diffusions.predictor_corrector, True, math.inf, 50),
    }
)
SAMPLERS = ("exponential", *WALKS)


@dataclass(frozen=True)
class Draw:
    """How to draw: the law (one of LAWS), the sampler and its steps (None: its default), process, seed, observation."""

    law: str
    sampler: str
    steps: int | None
    process: str
    seed: int
    observation: LinearObservation | None = None


def condition_columns(
    fitted: Fitted, numbers: NDArray[np.int64], condition: Mapping[str, Any] | None, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Physical values of every condition for every member: as given, the others from the training values.

    Raises KeyError for an unknown name, ValueError for a wrong length or values outside the condition's domain.
    """
    layout, table, given = fitted.layout, fitted.conditions, dict(condition or {})
    unknown = sorted(set(given) - set(layout.condition))
    if unknown:
        raise KeyError(f"condition= wants {list(layout.condition)}, got {unknown}; use the fitted names")
    if not layout.condition:
        return {}
    u = np.asarray(streams.uniforms(seed, numbers, 0, streams.Purpose.PARAMETER)).reshape(-1)
    rows = np.minimum((u * len(table)).astype(np.int64), len(table) - 1)
    columns = {}
    for k, (name, scale) in enumerate(zip(layout.condition, layout.condition_scales, strict=True)):
        values = np.asarray(given.get(name, table[rows, k]), np.float64).reshape(-1)
        if values.size not in (1, len(numbers)):
            raise ValueError(
                f"condition {name!r} wants one value or {len(numbers)}, got {values.size}; make them agree"
            )
        if not np.isfinite(values).all() or (scale.logarithm and (values <= 0).any()):
            wanted = "finite and positive" if scale.logarithm else "finite"
            raise ValueError(f"condition {name!r} must be {wanted}, got {values[:5]}; correct these values")
        beyond = float(np.abs(scale.forward(values)).max())
        if beyond > 1.02:
            low, high = scale.backward(np.array([-1.0, 1.0]))
            warnings.warn(
                f"condition {name!r} was learned between {low:.4g} and {high:.4g}, got values outside: the model "
                f"extrapolates there; train on a wider range",
                stacklevel=3,
            )
        columns[name] = np.broadcast_to(values, len(numbers)).copy()
    return columns


class Counted:
    """A denoiser that counts its calls."""

    def __init__(self, denoise: Field):
        self.denoise, self.calls = denoise, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoiser's own answer."""
        self.calls += 1
        return self.denoise(x, sigma)


def member_noise(
    fitted: Fitted, numbers: NDArray[np.int64], seed: int, purpose: streams.Purpose, step: int = 0
) -> Tensor:
    """Standard normals (n, channels, *space), float64, of (seed, purpose, member, step) alone."""
    layout = fitted.layout
    fields = [streams.field_normals(seed, numbers, step, k, layout.shape, purpose) for k in range(layout.channels)]
    return torch.from_numpy(np.stack(fields, axis=1))


def bind(fitted: Fitted, x: Tensor, c: Tensor | None) -> tuple[Field, Tensor, Tensor | None]:
    """The network's denoiser with its conditions bound, and x, c in its dtype on its device."""
    denoiser = fitted.denoiser
    assert denoiser is not None, "only models with a network are bound"
    parameter = next(denoiser.parameters())
    held = None if c is None else c.to(parameter)

    def denoise(y: Tensor, sigma: Tensor) -> Tensor:
        estimate: Tensor = denoiser(y, sigma, held)
        return estimate

    return denoise, x.to(parameter), held


def draw(fitted: Fitted, numbers: NDArray[np.int64], c: Tensor | None, how: Draw) -> tuple[Tensor, int]:
    """Normalised fields (n, channels, *space), float64, of the given members under conditions c in [−1, 1].

    With them the number of network calls that each member took part in.
    """
    noise = member_noise(fitted, numbers, how.seed, streams.Purpose.SAMPLE)
    gaussian = fitted.baseline if how.law == "baseline" else fitted.gaussian
    c64 = None if c is None else c.double()
    seen = how.observation
    base = gaussian.sample(noise, c64) if seen is None else _posterior(gaussian, seen, numbers, noise, how.seed, c64)
    if how.law != "network":
        return base, 0
    lowest, highest = fitted.noise_range
    if seen is None:
        x = samplers.start(gaussian, noise, highest, c64)
    else:
        x = base + highest * member_noise(fitted, numbers, how.seed, streams.Purpose.BRIDGE)
    denoise, x, c = bind(fitted, x, c)
    gaussian = gaussian.to(x)
    if seen is not None:
        denoise = guided(denoise, gaussian, seen.to(x), c)
    counted = Counted(denoise)
    with torch.no_grad():
        if how.sampler == "exponential":
            steps = how.steps or (9 if seen is None else 18)
            levels = noise_levels(lowest, highest, steps).to(x)
            end = samplers.exponential(counted, x, gaussian, levels, c)
        else:
            end = _walk(counted, fitted, numbers, x, how)
    return end.double().cpu(), counted.calls


def _walk(denoise: Field, fitted: Fitted, numbers: NDArray[np.int64], x: Tensor, how: Draw) -> Tensor:
    """From x at the highest noise level to the data, along the path of the process by one of WALKS."""
    sampler, stochastic, rho, steps = WALKS[how.sampler]
    path = process(how.process)
    times = path.time_of_level(noise_levels(*fitted.noise_range, how.steps or steps, rho=rho)).to(x)

    def noise(k: int) -> Tensor:
        return member_noise(fitted, numbers, how.seed, streams.Purpose.SAMPLE, k + 1).to(x)

    return sampler(denoise, x * path.alpha(times[0]), path, times, *((noise,) if stochastic else ()))


def log_density(
    fitted: Fitted, x: Tensor, c: Tensor | None, law: str, *, steps: int, probes: int | None, seed: int
) -> Tensor:
    """ln p(x | c) in nats of the data's units, (n,), float64, under one of LAWS; x, c normalised.

    The volume of the normalisation, Σ ln factor over all cells, is taken off. Options as in `Surrogate.log_likelihood`.
    """
    gaussian = fitted.baseline if law == "baseline" else fitted.gaussian
    if law == "network":
        denoise, x, c = bind(fitted, x, c)
        levels = noise_levels(*fitted.noise_range, steps).flip(0).to(x)
        probes = probes or (None if gaussian.dimensions <= 256 else 4)
        value = log_likelihood(denoise, x, gaussian.to(x), levels, c, probes=probes, seed=seed)[0].double().cpu()
    else:
        value = gaussian.log_likelihood(x.double(), None if c is None else c.double())
    factors = sum(math.log(scale.factor) for scale in fitted.layout.scales)
    return value - factors * gaussian.dimensions / fitted.layout.channels


def _posterior(
    gaussian: Gaussian, seen: LinearObservation, numbers: NDArray[np.int64], noise: Tensor, seed: int, c: Tensor | None
) -> Tensor:
    """Draws of the Gaussian posterior; the errors of the observations have noise of their own."""
    index = np.arange(len(seen.values))
    errors = streams.normals(seed, numbers[:, None], 0, index[None, :], streams.Purpose.AUXILIARY)
    return matheron(gaussian, seen, noise, torch.from_numpy(errors), c)
