"""From a model whose network denoises to one that draws with a single network call (`one_step.py`)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sdesim import streams
from surrogates import samplers
from surrogates.averages import flatten
from surrogates.checkpoints import Ledger
from surrogates.drawing import Draw, draw_all, member_noise
from surrogates.energy import energy_score
from surrogates.fitting import Fitted, Plan, follows_shifts
from surrogates.gaussian import level_like
from surrogates.journals import Journal
from surrogates.layouts import Layout
from surrogates.modes import SpectralModes
from surrogates.one_step import Distance, consistency_loss
from surrogates.parallel import Ranks
from surrogates.serving import Verdict
from surrogates.sources import Samples
from surrogates.splitting import some, split
from surrogates.training import train

MEMBERS = 4  # draws for each held-out field
SHARE = 0.01  # of the variance that a shell of wave numbers holds whose error is told

Law = Callable[[NDArray[np.int64], Tensor | None], Tensor]  # normalised fields of member numbers and conditions


def distil(teacher: Fitted, ds: xr.Dataset, plan: Plan) -> Fitted:
    """The consistency model of a fitted model's flow, trained on the samples of `ds` that are not held out."""
    assert teacher.denoiser is not None, "checked by the caller"
    parts = split(ds, teacher.layout, plan.validation, plan.memory)
    held = parts.held()
    denoiser = copy.deepcopy(teacher.denoiser)
    denoiser.transported = True
    student = replace(teacher, denoiser=denoiser, objective="consistency", journal=Journal())
    ranks, ledger = Ranks.join(), None
    if plan.checkpoint is not None:
        ledger = Ledger.open(plan.checkpoint, _purpose(teacher, plan, held), writes=ranks.first)
    with parts.source(held, plan.device, plan.seed, plan.workers) as source:
        settings = replace(plan.settings, shift=follows_shifts(teacher), batch=min(plan.settings.batch, len(source)))
        train(
            denoiser, source, plan.budget, seed=plan.seed, held=_distance(teacher, parts.selection(plan.device), plan),
            settings=settings, ledger=ledger, ranks=ranks, journal=student.journal,
            loss=partial(consistency_loss, teacher=teacher.denoiser),
        )  # fmt: skip
    laws = {"network": student, "teacher": teacher}
    drawn: dict[str, Law] = {name: partial(_drawn, fitted, plan, "network") for name, fitted in laws.items()}
    drawn["gaussian"] = partial(_drawn, teacher, plan, "gaussian")
    gain, beside = appraise(drawn, some(parts.verdict(plan.device), 64), teacher.layout)
    student.verdict = Verdict.of(gain, "energy", beside)
    return student


def _drawn(fitted: Fitted, plan: Plan, law: str, numbers: NDArray[np.int64], c: Tensor | None) -> Tensor:
    return draw_all(fitted, numbers, None if c is None else c.cpu(), Draw(law, None, None, plan.process, plan.seed))[0]


def _purpose(teacher: Fitted, plan: Plan, held: Samples) -> dict[str, Any]:
    """What a checkpoint must agree with: the data, the teacher, the options and the budget."""
    assert teacher.denoiser is not None
    weights = flatten(list(teacher.denoiser.network.parameters())).cpu()
    numbers = {"seed": plan.seed, "batch": plan.settings.batch, "learning_rate": plan.settings.learning_rate}
    hashes = {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest()[:16]
        for name, value in {"data": held[0], "teacher": weights}.items()
    }
    return {"objective": plan.objective, **numbers, **asdict(plan.budget), **hashes}


def _distance(teacher: Fitted, selection: Samples, plan: Plan) -> Distance:
    """The teacher's fields from 64 starts of their own, under the conditions of selection samples."""
    denoiser, (x, c), numbers = teacher.denoiser, some(selection, 64), np.arange(min(64, len(selection[0])))
    assert denoiser is not None
    sigma = torch.full((len(x),), teacher.noise_range[1]).to(x)
    noise = member_noise(teacher, numbers, plan.seed, streams.Purpose.SAMPLE).to(x)
    levels = level_like(denoiser.corruption.levels(sigma), x)
    return Distance(
        samplers.start(denoiser.gaussian, noise, levels, c),
        sigma,
        c,
        _drawn(teacher, plan, "network", numbers, c).to(x),
    )


def appraise(laws: Mapping[str, Law], held: Samples, layout: Layout) -> tuple[Tensor, dict[str, float]]:
    """(gain of "network" over "gaussian" for every held-out sample, gains and errors of spectra of all laws).

    The gain is what is taken off the Gaussian's fair energy score of patches, from MEMBERS draws under each sample's
    conditions and of the same noise for all laws. The error of a spectrum is the largest in any shell of wave numbers
    with SHARE of the variance: |S/S_held − 1|.
    """
    truth, c = held
    numbers = np.arange(MEMBERS * len(truth))
    repeated = None if c is None else c.repeat(MEMBERS, 1)
    scores, beside = {}, {}
    for name, law in laws.items():
        made = law(numbers, repeated).to(truth)
        scores[name] = energy_score(made.reshape(MEMBERS, *truth.shape), truth)
        beside[f"{name} spectrum"] = spectrum_error(made, truth, layout.boundary)
    plain = scores["gaussian"]
    gains = {name: (plain - score) / plain.mean() for name, score in scores.items() if name != "gaussian"}
    return gains["network"], beside | {name: float(g.mean()) for name, g in gains.items() if name != "network"}


def spectrum_error(made: Tensor, truth: Tensor, boundary: tuple[str, ...]) -> float:
    """The largest |S/S_truth − 1| over shells of wave numbers with SHARE of the truth's variance.

    >>> u = torch.randn(8, 1, 16)
    >>> round(spectrum_error(2.0 * u, u, ("periodic",)), 6)
    3.0
    """
    modes = SpectralModes(tuple(truth.shape[2:]), boundary)
    shell = (modes.radius() * 2 * min(modes.space)).round().long().flatten()
    mean, sums = truth.mean(0), []
    for x in (made, truth):
        power = modes.analyse((x - mean).double()).square().mean((0, 1)).flatten().cpu()
        sums.append(torch.zeros(int(shell.max()) + 1, dtype=power.dtype).index_add_(0, shell, power))
    kept = sums[1] >= SHARE * sums[1].sum()
    return float((sums[0][kept] / sums[1][kept] - 1.0).abs().max())
