"""Drawing from a fitted model: conditions and noise of every member, then the law that serves.

The noise of member i is a function of (seed, purpose, i, cell) alone (`sdesim.streams`), so that a member is the same
field in any batch, selection or order.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sdesim import streams
from surrogates import data, diffusions, flows, samplers
from surrogates.corruption import Modal, corruption_tensors
from surrogates.denoisers import Field
from surrogates.fitting import Fitted
from surrogates.gaussian import Gaussian
from surrogates.guidance import LinearObservation, guided, matheron
from surrogates.noising import FIELD_PROCESSES, process
from surrogates.one_step import LEVEL, consistency_levels, generate
from surrogates.processes import Process, noise_levels

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
OFF_THE_PATH = ("adaptive", "churn")  # they visit levels that no time of a process of fields has


@dataclass(frozen=True)
class Draw:
    """How to draw: the law (one of LAWS), the sampler and its steps (None: its default), process, seed, observation."""

    law: str
    sampler: str | None
    steps: int | None
    process: str
    seed: int
    observation: LinearObservation | None = None


def check_path(fitted: Fitted, how: Draw) -> str:
    """The sampler; ValueError where the network is not for the noise of the process, or the sampler leaves its path."""
    if fitted.way is not None and how.law == "network":
        return [check_path(model, served(model, how)) for model in fitted.way.models().values()][-1]
    objective, law, sampler, steps, process = fitted.objective, how.law, how.sampler, how.steps, how.process
    if law == "network" and objective != "denoising":
        if sampler not in (None, objective):
            raise ValueError(
                f"a network trained for {objective} wants sampler={objective!r}, got {sampler!r}; leave sampler= out, "
                f"or draw with a model whose network is a denoiser"
            )
        if (steps or 1) < 1 or (objective == "energy" and (steps or 1) > 1):
            raise ValueError(f"a network trained for {objective} wants steps=1, got {steps}; leave steps= out")
        return objective
    sampler = sampler or "exponential"
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler= wants one of {list(SAMPLERS)}, got {sampler!r}; choose one of these")
    kind = corruption_tensors(fitted.corruption)[1]["kind"]
    if law == "network" and kind != (process if process in FIELD_PROCESSES else "white"):
        raise ValueError(f"process={process!r} wants a network trained for it, got one for {kind} noise; fit again")
    if law == "network" and kind != "white" and sampler in OFF_THE_PATH:
        allowed = [name for name in SAMPLERS if name not in OFF_THE_PATH]
        raise ValueError(f"process={process!r} wants a sampler among {allowed}, got {sampler!r}; choose one")
    return sampler


def condition_columns(
    fitted: Fitted, numbers: NDArray[np.int64], condition: Mapping[str, Any] | None, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Physical values of every condition for every member: as given, the others from the training values.

    Raises KeyError for an unknown name, ValueError for a wrong length or values outside the condition's domain.
    """
    layout, table, given = fitted.layout, fitted.conditions, dict(condition or {})
    unknown = sorted(set(given) - {*layout.condition, *layout.maps})
    if unknown:
        raise KeyError(f"condition= wants {[*layout.condition, *layout.maps]}, got {unknown}; use the fitted names")
    columns = {name: _map_values(fitted, name, given.get(name), len(numbers)) for name in layout.maps}
    if not layout.condition:
        return columns
    u = np.asarray(streams.uniforms(seed, numbers, 0, streams.Purpose.PARAMETER)).reshape(-1)
    rows = np.minimum((u * len(table)).astype(np.int64), len(table) - 1)
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


def _map_values(fitted: Fitted, name: str, given: Any, members: int) -> NDArray[np.float64]:
    """A condition that is a field, physical, (members, *space); KeyError if it was not given."""
    layout = fitted.layout
    if given is None:
        raise KeyError(f"condition {name!r} is a field and must be given, got none; pass condition={{{name!r}: array}}")
    if isinstance(given, xr.DataArray):
        given = given.transpose(..., *layout.space)
    values = np.asarray(given, np.float64)
    shapes = (layout.shape, (members, *layout.shape))
    if values.shape not in shapes or not np.isfinite(layout.pack(values)).all():
        raise ValueError(
            f"condition {name!r} wants finite values of shape {layout.shape} or {(members, *layout.shape)}, got "
            f"shape {values.shape}; interpolate to the model's grid and fill gaps"
        )
    return np.broadcast_to(values, (members, *layout.shape)).copy()


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
    return torch.from_numpy(layout.pack(np.stack(fields, axis=1)))


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


def need_denoiser(fitted: Fitted, what: str) -> None:
    """ValueError where the network, if there is one, is not a denoiser, which `what` needs."""
    if fitted.way is not None:
        raise ValueError(
            f"{what} wants a network in the space of the fields, got one by way of {fitted.way.kind}; "
            f"fit without it"
        )
    if fitted.denoiser is None and what == "distill":
        raise ValueError("distill wants a trained network, got the Gaussian alone, which draws without one; fit it")
    if fitted.objective != "denoising":
        raise ValueError(
            f"{what} wants a network that denoises, got one trained for {fitted.objective}, which knows fields and no "
            f"densities; use the model that was distilled, or fit with objective='denoising'"
        )


def served(fitted: Fitted, how: Draw) -> Draw:
    """The same for a model on the way: by the law that serves there."""
    return replace(how, law=fitted.verdict.served)


def draw_dataset(
    fitted: Fitted, numbers: NDArray[np.int64], condition: Mapping[str, Any] | None, how: Draw, batch: int
) -> xr.Dataset:
    """The members of these numbers as a Dataset; raises what `Surrogate.sample` raises."""
    how = replace(how, sampler=check_path(fitted, how))
    columns = condition_columns(fitted, numbers, condition, how.seed)
    c = data.conditions_to_tensor([columns[name] for name in fitted.layout.condition], fitted.layout)
    c = data.with_maps(c, columns, fitted.layout)
    fields, calls = draw_all(fitted, numbers, c, how, batch)
    result = data.tensor_to_dataset(fields, columns, fitted.layout, numbers)
    note: dict[str, Any] = {"model": "surrogates.Surrogate", "law": how.law, "seed": how.seed, "process": how.process}
    return result.assign_attrs(synthetic=json.dumps(note | {"sampler": how.sampler, "network_calls": calls}))


def draw_all(
    fitted: Fitted, numbers: NDArray[np.int64], c: Tensor | None, how: Draw, batch: int = 128
) -> tuple[Tensor, int]:
    """As `draw`, `batch` members at a time; the calls are those of the slowest."""
    parts, calls = [], 0
    for first in range(0, len(numbers), batch):
        part = slice(first, first + batch)
        fields, count = draw(fitted, numbers[part], None if c is None else c[part], how)
        parts.append(fields)
        calls = max(calls, count)
    return torch.cat(parts), calls


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
    if fitted.way is not None:
        return fitted.way.draw(numbers, c, how)
    if fitted.objective != "denoising":
        return _in_one_step(fitted, numbers, noise, c, how)
    highest = torch.tensor(fitted.noise_range[1], dtype=torch.float64)
    if seen is None:
        x = samplers.start(gaussian, noise, fitted.corruption.levels(highest), c64)
    else:
        fresh = member_noise(fitted, numbers, how.seed, streams.Purpose.BRIDGE)
        x = fitted.corruption.add(base, highest, fresh)
    denoise, x, c = bind(fitted, x, c)
    gaussian = gaussian.to(x)
    if seen is not None:
        denoise = guided(denoise, gaussian, seen.to(x), c)
    counted = Counted(denoise)
    # an outer context, though off, keeps the network's weights in bfloat16 from call to call
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        if how.sampler in (None, "exponential"):
            steps, at = how.steps or (12 if seen is None else 24), fitted.corruption.levels
            levels = [at(s) for s in samplers.balanced(fitted.gaussian, fitted.noise_range, steps, at)]
            end = samplers.exponential(counted, x, gaussian, torch.stack(levels).to(x), c)
        elif isinstance(fitted.corruption, Modal):
            mean, modes = gaussian.mean(c), gaussian.modes

            def in_modes(z: Tensor, levels: Tensor) -> Tensor:
                return modes.analyse(counted(mean + modes.synthesise(z), levels) - mean)

            z = _walk(in_modes, fitted, fitted.corruption.to(x).path, numbers, modes.analyse(x - mean), how)
            end = mean + modes.synthesise(z)
        else:
            end = _walk(counted, fitted, process(how.process), numbers, x, how)
    return end.double().cpu(), counted.calls


def _in_one_step(
    fitted: Fitted, numbers: NDArray[np.int64], noise: Tensor, c: Tensor | None, how: Draw
) -> tuple[Tensor, int]:
    """As `draw`, by a network that goes from noise to data in one call, or in a few with fresh noise between them."""
    denoiser = fitted.denoiser
    assert denoiser is not None, "only models with a network are walked"
    levels = torch.tensor([LEVEL])
    if fitted.objective == "consistency":
        levels = consistency_levels(fitted.noise_range, how.steps or 1)
    like = next(denoiser.parameters())
    first = fitted.corruption.levels(levels[0].double())
    x = samplers.start(fitted.gaussian, noise, first, None if c is None else c.double())

    def fresh(k: int) -> Tensor:
        return member_noise(fitted, numbers, how.seed, streams.Purpose.SAMPLE, k).to(like)

    end = generate(denoiser, x.to(like), levels.to(like), None if c is None else c.to(like), fresh)
    return end.double().cpu(), len(levels)


def _walk(denoise: Field, fitted: Fitted, path: Process, numbers: NDArray[np.int64], x: Tensor, how: Draw) -> Tensor:
    """From x at the highest noise level to the data, along the path of the process by one of WALKS."""
    assert how.sampler is not None, "the integrator of the Gaussian is not walked here"
    sampler, stochastic, rho, steps = WALKS[how.sampler]
    times = path.time_of_level(noise_levels(*fitted.noise_range, how.steps or steps, rho=rho)).to(x)

    def noise(k: int) -> Tensor:
        return member_noise(fitted, numbers, how.seed, streams.Purpose.SAMPLE, k + 1).to(x)

    return sampler(denoise, x * path.alpha(times[0]), path, times, *((noise,) if stochastic else ()))


def _posterior(
    gaussian: Gaussian, seen: LinearObservation, numbers: NDArray[np.int64], noise: Tensor, seed: int, c: Tensor | None
) -> Tensor:
    """Draws of the Gaussian posterior; the errors of the observations have noise of their own."""
    index = np.arange(len(seen.values))
    errors = streams.normals(seed, numbers[:, None], 0, index[None, :], streams.Purpose.AUXILIARY)
    return matheron(gaussian, seen, noise, torch.from_numpy(errors), c)
