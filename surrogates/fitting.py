"""From a Dataset to a fitted model: the Gaussian first, then a network that must beat it on held-out denoising.

1  check, normalise, split into training, selection and verdict samples by whole blocks
2  the Gaussian by cross-validation on the training samples; beside it the plain Gaussian field, without conditions,
   as the baseline of every report
3  a short pilot for each skip connection; the better by held-out denoising (selection samples) goes on
4  the long run, keeping the best averaged weights (selection samples)
   (a process of fields has the Wiener skip alone, and no pilots)
5  the verdict on samples that nothing was chosen by: the network serves if its gain over the Gaussian is above
   two standard errors, else the Gaussian does
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from surrogates.building import (
    NetworkOption,
    bf16_pays,
    build_denoiser,
    is_ours,
    lay_noise,
    network_config,
)
from surrogates.checkpoints import Ledger
from surrogates.corruption import Corruption
from surrogates.covariance import Choice, choose, fit_gaussian
from surrogates.denoisers import EDM_RANGE, NOISES, SKIPS, Denoiser, coordinate_channels
from surrogates.gaussian import Gaussian
from surrogates.journals import Journal
from surrogates.layouts import Layout, condition_values
from surrogates.noising import FIELD_PROCESSES, process
from surrogates.one_step import Skill, energy_loss
from surrogates.parallel import Ranks
from surrogates.serving import Verdict
from surrogates.sources import Mapped, Samples, Source
from surrogates.splitting import some, split
from surrogates.training import Budget, Judge, Loss, Settings, denoising_loss, held_out, train

PILOT = 0.08
OBJECTIVES = ("denoising", "energy", "consistency")


@dataclass
class Fitted:
    """What `fit` learned; `baseline` is the Gaussian field without conditions, `conditions` the training values."""

    layout: Layout
    gaussian: Gaussian
    baseline: Gaussian
    choice: Choice
    noise_range: tuple[float, float]
    corruption: Corruption
    static: Tensor | None
    conditions: NDArray[np.float64]
    denoiser: Denoiser | None
    network: dict[str, Any] | None
    verdict: Verdict
    journal: Journal
    objective: str = "denoising"
    way: Way | None = None

    @property
    def trained(self) -> bool:
        """Whether there is a network, in the space of the fields or in another."""
        return self.denoiser is not None or self.way is not None


class Way(Protocol):
    """How a network in another space draws fields: through latents, or from coarse to fine."""

    kind: str

    def draw(self, numbers: NDArray[np.int64], c: Tensor | None, how: Any) -> tuple[Tensor, int]:
        """As `drawing.draw`: normalised fields of these members, float64, and their network calls."""

    def models(self) -> Mapping[str, Fitted]:
        """The models that it leads through, the one with the most network calls last."""


class Planned(Protocol):
    """A way that is yet to be learned."""

    def learn(self, fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> Way:
        """Train what it needs; the journal and the verdict of `fitted` are written here."""


@dataclass(frozen=True)
class Material:
    """What is learned from: training samples (`held`: those in memory, on the CPU), and those to choose and judge by.

    fixed: static variables (k, *space) or None; table: physical scalar conditions; gap: samples that part folds.
    """

    layout: Layout
    held: Samples
    source: Source
    selection: Samples
    verdict: Samples
    fixed: Tensor | None
    table: NDArray[np.float64]
    gap: int

    def mapped(self, layout: Layout, to: Callable[[Samples, Tensor], Samples], fixed: Tensor | None) -> Material:
        """The same samples in another space, those of the source when they are taken."""
        held, selection, verdict = (
            to(samples, torch.arange(len(samples[0]))) for samples in (self.held, self.selection, self.verdict)
        )
        source = Mapped(self.source, to)
        return replace(self, layout=layout, held=held, source=source, selection=selection, verdict=verdict, fixed=fixed)


@dataclass(frozen=True)
class Keep:
    """Where training is written down: the ledger of checkpoints, the processes, the journal."""

    ledger: Ledger | None
    ranks: Ranks
    journal: Journal


@dataclass(frozen=True)
class Plan:
    """What `fit` was asked to do; memory: bytes of training fields beyond which they are streamed from their file."""

    network: NetworkOption
    process: str
    skip: str
    static: tuple[str, ...]
    coordinates: bool | None
    budget: Budget
    settings: Settings
    validation: float
    seed: int
    device: torch.device
    checkpoint: Path | None = None
    memory: float = 4e9
    workers: int = 0
    objective: str = "denoising"

    @property
    def prefix(self) -> str:
        """Of the names of pilots: none where there is one training alone."""
        return "" if self.settings.label == Settings.label else f"{self.settings.label}: "

    def __post_init__(self) -> None:
        fields = self.process in FIELD_PROCESSES
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective= wants one of {list(OBJECTIVES)}, got {self.objective!r}; choose one of these")
        if self.objective == "energy" and (fields or self.skip == "plain"):
            raise ValueError("objective='energy' follows no process and no plain skip; leave process= and skip= out")
        if not fields:
            process(self.process)
        if is_ours(self.network):
            network_config(self.network, (1,))
        if fields and self.skip == "plain":
            raise ValueError(f"process={self.process!r} wants skip='wiener', got 'plain'; leave skip= out")
        if self.skip not in (*SKIPS, "auto"):
            raise ValueError(f"skip= wants one of {[*SKIPS, 'auto']}, got {self.skip!r}; choose one of these")
        if self.settings.noise not in NOISES:
            raise ValueError(f"noise= wants one of {list(NOISES)}, got {self.settings.noise!r}; choose one of these")
        alone = fields or self.objective == "energy"
        if isinstance(self.network, nn.Module) and self.skip == "auto" and not alone:
            raise ValueError("a ready-made network= wants a fixed skip=, got 'auto'; choose 'wiener' or 'plain'")


def fit(ds: xr.Dataset, layout: Layout, plan: Plan, way: Planned | None = None) -> Fitted:
    """Carry out the five steps, in the space of the fields or on a way through others; networks live on plan.device."""
    parts = split(ds, layout, plan.validation, plan.memory)
    held, fixed = parts.held(), _fixed(ds, layout, plan.static)
    columns = [condition_values(ds, name, layout.samples) for name in layout.condition]
    table = np.stack(columns, axis=1) if columns else np.zeros((len(held[0]), 0))
    fitted = fit_gaussians(held, layout, plan, fixed, table, parts.gap)
    if plan.network is False:
        return fitted
    with parts.source(held, plan.device, plan.seed, plan.workers) as source:
        ranks, ledger = Ranks.join(), None
        if plan.checkpoint is not None:
            purpose = _purpose(fitted, plan, held[0]) | ({} if way is None else {"way": repr(way)})
            ledger = Ledger.open(plan.checkpoint, purpose, writes=ranks.first)
        keep = Keep(ledger, ranks, Journal(plan.settings.log if ranks.first else None))
        selection, verdict = parts.selection(plan.device), parts.verdict(plan.device)
        material = Material(layout, held, source, selection, verdict, fixed, table, parts.gap)
        if way is None:
            train_network(fitted, material, plan, keep)
        else:
            fitted.journal, fitted.way = keep.journal, way.learn(fitted, material, plan, keep)
    return fitted


def fit_gaussians(
    held: Samples, layout: Layout, plan: Plan, fixed: Tensor | None, table: NDArray[np.float64], gap: int
) -> Fitted:
    """Step 2 on the training samples that are held."""
    x, c = held
    scalars = len(layout.condition)
    xt, ct = x.double(), c[:, :scalars].double() if c is not None and scalars else None

    domain = layout.domain

    def chosen(conditions: Tensor | None) -> Choice:
        best = choose(xt, conditions, domain, gap=gap)
        # the heat equation is diagonal in spectral modes, where the empirical covariance is not
        return replace(best, shrinkage=1.0) if plan.process == "heat" else best

    choice = chosen(ct)
    gaussian = fit_gaussian(xt, ct, domain, choice)
    baseline = gaussian if ct is None else fit_gaussian(xt, None, domain, chosen(None))
    return with_gaussian(gaussian, baseline, choice, layout, plan, ct, fixed, table)


def with_gaussian(
    gaussian: Gaussian, baseline: Gaussian, choice: Choice, layout: Layout, plan: Plan, c: Tensor | None,
    fixed: Tensor | None, table: NDArray[np.float64],
) -> Fitted:  # fmt: skip
    """A model of these Gaussians, without a network; c: the scalar conditions of the training samples."""
    levels = EDM_RANGE if plan.settings.noise == "edm" else gaussian.noise_range(c)
    corruption, levels = lay_noise(plan.process, gaussian, layout, c, levels)
    return Fitted(
        layout, gaussian, baseline, choice, levels, corruption, _static_channels(fixed, layout, choice, plan), table,
        None, None, Verdict("gaussian", math.nan, math.nan), Journal(),
    )  # fmt: skip


def _purpose(fitted: Fitted, plan: Plan, x: Tensor) -> dict[str, Any]:
    """What a checkpoint must agree with: the data, the options and the budget."""
    options = asdict(plan.settings)
    for name in ("log", "progress", "saving", "piece"):  # these change no result
        del options[name]
    own = network_config(plan.network, fitted.layout.shape) if is_ours(plan.network) else "the caller's own"
    return {
        **options, **asdict(plan.budget), "seed": plan.seed, "process": plan.process, "skip": plan.skip, "network": own,
        "objective": plan.objective,
        "variables": fitted.layout.variables, "conditions": (*fitted.layout.condition, *fitted.layout.maps),
        "data": hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16], "noise_range": fitted.noise_range,
    }  # fmt: skip


def train_network(fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> None:
    """Steps 3 to 5, in place on `fitted`."""
    source, selection = material.source, material.selection
    settings = replace(plan.settings, shift=follows_shifts(fitted), batch=min(plan.settings.batch, len(source)))
    fitted.objective, energy = plan.objective, plan.objective == "energy"
    alone = energy or plan.process in FIELD_PROCESSES
    names = ("wiener",) if alone else SKIPS if plan.skip == "auto" else (plan.skip,)
    fitted.journal = keep.journal
    loss: Loss = energy_loss if energy else denoising_loss
    run = partial(train, ledger=keep.ledger, ranks=keep.ranks, journal=fitted.journal, loss=loss)
    candidates: list[tuple[float, Denoiser]] = []
    checks: Judge | None = None
    for skip in names:
        torch.manual_seed(plan.seed)
        denoiser = build_denoiser(fitted, skip, plan.network, bf16=bf16_pays(plan.device))  # type: ignore[arg-type]
        denoiser.to(plan.device)
        if checks is None:
            chosen = some(selection, 64)
            checks = Skill.of(*chosen, plan.seed) if energy else held_out(denoiser, *chosen, plan.seed, levels=8)
        gain = 0.0
        if len(names) > 1:
            number = settings.run - len(SKIPS) + SKIPS.index(skip)
            pilot = replace(settings, label=f"{plan.prefix}pilot, {skip} skip", checks=1, run=number)
            run(denoiser, source, plan.budget.part(PILOT), seed=plan.seed, held=checks, settings=pilot)
            gain = fitted.journal.of_run(number)[-1]["gain"]
        candidates.append((gain, denoiser))
    _, denoiser = max(candidates, key=lambda candidate: candidate[0])
    remaining = plan.budget.part(1.0 - PILOT * len(names)) if len(names) > 1 else plan.budget
    run(denoiser, source, remaining, seed=plan.seed + 1, held=checks, settings=settings)
    fitted.denoiser = denoiser
    fitted.network = network_config(plan.network, fitted.layout.shape) if is_ours(plan.network) else None
    judged = some(material.verdict, 256)
    final = Skill.of(*judged, plan.seed + 1, members=8) if energy else held_out(denoiser, *judged, plan.seed + 1)
    fitted.verdict = Verdict.of(final.gain(denoiser), "energy" if energy else "denoising")


def follows_shifts(fitted: Fitted) -> bool:
    """Whether fields rolled along the axes have the same law: the domain is periodic and homogeneous."""
    fixed = fitted.static is not None or fitted.layout.maps or fitted.layout.wet is not None
    return not fixed and all(kind == "periodic" for kind in fitted.layout.boundary)


def _fixed(ds: xr.Dataset, layout: Layout, names: Sequence[str]) -> Tensor | None:
    """The static variables, standardised: (k, *space), float32; ValueError for what is none."""
    channels = []
    for name in names:
        if name not in ds.variables or set(ds[name].dims) != set(layout.space):
            found = ds[name].dims if name in ds.variables else "no such variable"
            raise ValueError(f"static {name!r} must have exactly the dimensions {layout.space}, got {found}")
        values = torch.from_numpy(layout.pack(ds[name].transpose(*layout.space).values.astype(np.float32)))
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"static {name!r} must be finite, got NaN or infinity; fill it first")
        channels.append((values - values.mean()) / values.std().clamp(min=1e-6))
    return torch.stack(channels) if channels else None


def _static_channels(fixed: Tensor | None, layout: Layout, choice: Choice, plan: Plan) -> Tensor | None:
    """Coordinates unless the domain is homogeneous, and the static variables: (channels, *space)."""
    homogeneous = choice.homogeneous_mean and choice.shrinkage == 1.0
    coordinates = plan.coordinates if plan.coordinates is not None else not homogeneous
    channels = [layout.pack(coordinate_channels(layout.shape, layout.boundary))] if coordinates else []
    channels += [fixed] if fixed is not None else []
    return torch.cat(channels).to(plan.device) if channels else None
