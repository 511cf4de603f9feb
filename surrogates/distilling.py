"""From a model whose network denoises to one that draws with a single network call (`one_step.py`)."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from sdesim import streams
from surrogates import samplers
from surrogates.appraising import Law, appraise, drawn
from surrogates.averages import flatten
from surrogates.checkpoints import Ledger
from surrogates.drawing import member_noise
from surrogates.fitting import Fitted, Plan, follows_shifts
from surrogates.gaussian import level_like
from surrogates.journals import Journal
from surrogates.one_step import Distance, consistency_loss
from surrogates.parallel import Ranks
from surrogates.serving import Verdict
from surrogates.sources import Samples
from surrogates.splitting import some, split
from surrogates.training import train


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
    laws: dict[str, Law] = {
        "network": partial(drawn, student, plan, "network"), "teacher": partial(drawn, teacher, plan, "network"),
        "gaussian": partial(drawn, teacher, plan, "gaussian"),
    }  # fmt: skip
    gain, beside = appraise(laws, some(parts.verdict(plan.device), 64), teacher.layout)
    student.verdict = Verdict.of(gain, "energy", beside)
    return student


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
        drawn(teacher, plan, "network", numbers, c).to(x),
    )
