"""Runs the implicit methods: groups of members with the same steps, their solvers, the loop over steps and saves.

Iterative solves end where their error is a hundredth of the step's own: with a relative change δ over the last step, a
method of order p errs by about δ^{p+1}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import is_zero
from sdesim.kernels.field_noise import Drive
from sdesim.kernels.field_plan import Steps
from sdesim.kernels.field_reference import Sheet
from sdesim.kernels.implicit_directions import Directional, Directions
from sdesim.kernels.implicit_model import TIGHT, Model
from sdesim.kernels.implicit_operator import Split
from sdesim.methods.field import FieldMethod

Array: TypeAlias = NDArray[np.float64]
STARTING = 2  # steps that a method may take in its own careful way


def run(parts: Split, method: FieldMethod, parameters: Mapping[str, Any], plans: Sequence[Sequence[Steps]],
        initial: Array, members: NDArray[np.int64], seed: int, threads: int, out: Array,
        sheet: Sheet | None = None) -> tuple[NDArray[np.int8], dict[str, str | float | int]]:
    """Integrate all members into `out` (intervals, states, members, *space); their status and notes on the solvers."""
    # Newton's method ends, and holds its Jacobian, member by member
    groups = _groups(plans, max(1, -(-len(members) // max(1, threads))) if parts.is_affine else 1)
    status = np.zeros(len(members), np.int8)

    def one(places: NDArray[np.int64]) -> Model:
        own = {name: v[places] if np.ndim(v) else v for name, v in parameters.items()}
        order = method.order or 1.0
        model = Directional(parts, own, order) if isinstance(parts, Directions) else Model(parts, own, order)
        with np.errstate(all="ignore"):
            saved = _integrate(model, method, initial[:, places], plans[int(places[0])], members[places], seed,
                               sheet or Sheet())
        out[:, :, places] = saved
        return model

    with ThreadPoolExecutor(max(1, threads)) as pool:
        models = list(pool.map(one, groups))
    for m in range(len(members)):
        bad = ~np.isfinite(out[:, :, m]).all(axis=tuple(range(1, out.ndim - 1)))
        if bad.any():
            status[m] = 1
            out[int(np.argmax(bad)) :, :, m] = np.nan
    return status, _notes(parts, models)


def _groups(plans: Sequence[Sequence[Steps]], most: int) -> list[NDArray[np.int64]]:
    """Places of members that take the same steps, at most so many together."""
    found: dict[Any, list[int]] = {}
    for m, p in enumerate(plans):
        found.setdefault(tuple(p), []).append(m)
    return [np.array(places[k : k + most]) for places in found.values() for k in range(0, len(places), most)]


def _integrate(model: Model, method: FieldMethod, initial: Array, plan: Sequence[Steps], members: NDArray[np.int64],
               seed: int, sheet: Sheet) -> Array:
    y, number, stencil = initial.astype(np.float64), 0, model.stencil
    saved, draw = np.empty((len(plan), *y.shape)), Drive(stencil, seed, members, sheet, fused=True)
    if isinstance(model, Directional):
        for start, h in {steps.h: (steps.start, steps.h) for steps in plan}.values():
            model.check(method.name, method.step, start, h, y.shape)
    model.guess, model.tolerance = y, np.full(len(members), TIGHT)
    for i, steps in enumerate(plan):
        for k in range(steps.count):
            dW = draw(number, steps.h) if stencil.noise else None
            before = y
            y = method.step(model, steps.start + k * steps.h, y, steps.h, dW, number < STARTING)
            if not np.isfinite(y).any():
                saved[i:] = np.nan
                return saved
            model.after(before, y)
            number += 1
        saved[i] = y
    return saved


def _notes(parts: Split, models: Sequence[Model]) -> dict[str, str | float | int]:
    notes: dict[str, str | float | int] = {
        "implicit": ", ".join(parts.terms) or "nothing",
        "solver": ", ".join(dict.fromkeys(name for model in models for name in model.names)),
    }
    most = {"iterations_most": max((model.iterations for model in models), default=0),
            "newton_most": max((model.newton for model in models), default=0)}
    notes |= {what: count for what, count in most.items() if count}
    explicit = [name for name, part in zip(parts.stencil.model.state, parts.explicit) if not is_zero(part)]
    if explicit:
        notes["explicit"] = "the rest of " + ", ".join(explicit)
    return notes
