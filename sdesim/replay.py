"""Make a dataset again from what it says of itself: the whole ensemble, or any of its members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdesim import provenance, storage
from sdesim.ensemble import member_numbers
from sdesim.initial import over_members
from sdesim.simulation import simulate

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
    ds = storage.open(source) if isinstance(source, (str, Path)) else source
    call = provenance.call_of(ds)
    model, initial, times = (call.pop(key) for key in ("model", "initial", "times"))
    if members is not None:
        numbers = member_numbers(members)
        if call["design"] == "lhs":  # a Latin square is a property of the whole ensemble: keep its own points
            drawn = {name: ds[name].values for name in model.parameters if name in ds.coords}
            whole = {name: over_members(np.asarray(v, float), ds["member"].values) for name, v in drawn.items()}
            call["parameters"] = {**call["parameters"], **whole}
            call["design"] = "random"
        call["members"] = numbers
    return simulate(model, initial, times, **{**call, **changes})
