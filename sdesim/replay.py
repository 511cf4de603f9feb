"""Make a dataset again from what it says of itself: the whole ensemble, or any of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim import provenance, storage
from sdesim.codec import ProvenanceError
from sdesim.ensemble import draw, member_numbers
from sdesim.initial import over_members
from sdesim.models.sde import SDE
from sdesim.simulation import simulate
from sdesim.streams import Purpose

if TYPE_CHECKING:
    import xarray as xr


def rerun(
    source: str | Path | xr.Dataset, *, members: int | Sequence[int] | range | None = None, **changes: Any
) -> xr.Dataset:
    """The same ensemble from a file's (or Dataset's) own provenance, bit for bit.

    `members` asks for other members of the same ensemble: a single outlier can be replayed, or more be added.
    `changes` replace arguments of `simulate`, such as dt= or device=. With times= a window is replayed, saved more
    finely or coarsely: the bits are the same at times that both have, for an SDE's path does not depend on when it is
    looked at. Of several times within one step only the first has them: the others follow the bridge from the one
    before. A noisy field, and what is sampled exactly, is a path from save to save: its window is of its own times.

    Raises ProvenanceError for a file that does not say how it was made, or says it in a way that cannot be trusted, and
    for one that a surrogate drew; ValueError for times that the ensemble does not have.

    >>> import sdesim as sim
    >>> ds = sim.simulate(sim.SDE({"x": "-x"}, {"x": "1"}), {"x": 0.0}, [0, 1], members=8, seed=3)
    >>> bool(sim.rerun(ds, members=[5]).x.equals(ds.x.isel(member=[5])))
    True
    """
    if isinstance(source, (str, Path)):
        with storage.open(source) as ds:
            call = _call_of(ds)
    else:
        call = _call_of(source)
    if members is not None:
        numbers = member_numbers(members)
        if call["design"] == "lhs":
            parameters = {**call["model"].parameters, **call["parameters"]}
            call["parameters"] |= _own_points(call, parameters, "", Purpose.PARAMETER)
            call["initial"] |= _own_points(call, call["initial"], "initial ", Purpose.INITIAL)
            call["design"] = "random"
        call["members"] = numbers
    if "times" in changes:
        clock, kept = _window(call, changes.pop("times"))
        ds = simulate(**{**call, "times": clock, **changes, "store": None})
        ds = ds.isel(time=kept)
        if changes.get("store") is not None:
            storage.save(ds, changes["store"])
        return ds
    return simulate(**{**call, **changes})


def _call_of(ds: xr.Dataset) -> dict[str, Any]:
    if "synthetic" in ds.attrs:
        raise ProvenanceError(
            "this Dataset was drawn by a surrogate (attribute 'synthetic'), and its provenance is that of the ensemble "
            "the surrogate was trained on: load the surrogate and sample again, or rerun the training ensemble's file"
        )
    return provenance.call_of(ds)


def _window(call: Mapping[str, Any], times: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The save times of a run that starts where the ensemble's did, and which of them are asked for."""
    wanted, own = np.atleast_1d(np.asarray(times, np.float64)), np.asarray(call["times"], np.float64)
    start = min(0.0, own[0])
    if wanted.ndim != 1 or wanted.size == 0 or not np.isfinite(wanted).all() or (np.diff(wanted) <= 0).any():
        raise ValueError(f"times is a list of increasing numbers, got {times!r:.80}")
    if wanted[0] < start:
        raise ValueError(f"the ensemble starts at {start:g}; a window that begins at {wanted[0]:g} is none of it")
    model, exact = call["model"], str(call["method"]) == "exact"
    if exact if isinstance(model, SDE) else model.noise:  # what is drawn depends on the times before
        if not np.isin(wanted, own).all():
            raise ValueError(f"the noise of this ensemble goes from save to save: choose times among its own, {own}")
        clock = own[own <= wanted[-1]]
    else:
        clock = wanted if min(0.0, wanted[0]) == start else np.concatenate([[start], wanted])
    return clock, np.flatnonzero(np.isin(clock, wanted))


def _own_points(call: Mapping[str, Any], values: Mapping[str, Any], prefix: str, purpose: Purpose) -> dict[str, Any]:
    """What a Latin hypercube gave each member: a property of the whole ensemble, so that is drawn again."""
    whole = member_numbers(call["members"])
    laws = {prefix + name: value for name, value in values.items() if hasattr(value, "ppf")}
    drawn = draw(laws, whole, design="lhs", seed=call["seed"], purpose=purpose)
    return {name.removeprefix(prefix): over_members(np.asarray(v, float), whole) for name, v in drawn.items()}
