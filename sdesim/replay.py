"""Make a dataset again from what it says of itself: the whole ensemble, or any of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdesim import provenance, storage
from sdesim.ensemble import draw, member_numbers
from sdesim.initial import over_members
from sdesim.simulation import simulate
from sdesim.streams import Purpose

if TYPE_CHECKING:
    import xarray as xr


def rerun(
    source: str | Path | xr.Dataset, *, members: int | Sequence[int] | range | None = None, **changes: Any
) -> xr.Dataset:
    """The same ensemble from a file's (or Dataset's) own provenance, bit for bit.

    `members` asks for other members of the same ensemble: a single outlier can be replayed, or more be added.
    `changes` replace arguments of `simulate`, such as times=, dt= or device=. Raises ProvenanceError for a file that
    does not say how it was made, or says it in a way that cannot be trusted.

    >>> import sdesim as sim
    >>> ds = sim.simulate(sim.SDE({"x": "-x"}, {"x": "1"}), {"x": 0.0}, [0, 1], members=8, seed=3)
    >>> bool(sim.rerun(ds, members=[5]).x.equals(ds.x.isel(member=[5])))
    True
    """
    if isinstance(source, (str, Path)):
        with storage.open(source) as ds:
            call = provenance.call_of(ds)
    else:
        call = provenance.call_of(source)
    if members is not None:
        numbers = member_numbers(members)
        if call["design"] == "lhs":
            parameters = {**call["model"].parameters, **call["parameters"]}
            call["parameters"] |= _own_points(call, parameters, "", Purpose.PARAMETER)
            call["initial"] |= _own_points(call, call["initial"], "initial ", Purpose.INITIAL)
            call["design"] = "random"
        call["members"] = numbers
    return simulate(**{**call, **changes})


def _own_points(call: Mapping[str, Any], values: Mapping[str, Any], prefix: str, purpose: Purpose) -> dict[str, Any]:
    """What a Latin hypercube gave each member: a property of the whole ensemble, so that is drawn again."""
    whole = member_numbers(call["members"])
    laws = {prefix + name: value for name, value in values.items() if hasattr(value, "ppf")}
    drawn = draw(laws, whole, design="lhs", seed=call["seed"], purpose=purpose)
    return {name.removeprefix(prefix): over_members(np.asarray(v, float), whole) for name, v in drawn.items()}
