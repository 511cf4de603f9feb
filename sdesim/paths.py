"""The noise itself: the Wiener paths that drive an ensemble, from the seed and the members' numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdesim.models.sde import SDE
from sdesim.simulation import simulate

if TYPE_CHECKING:
    import xarray as xr


def brownian(
    seed: int,
    members: int | Sequence[int] | range,
    times: Any,
    *,
    processes: int | Sequence[str] | SDE = 1,
    dt: float | None = None,
    adaptive: bool = False,
    dtype: str = "float64",
) -> xr.DataArray:
    """The Wiener paths W(t), W = 0 at the start, as an array (process, member, time).

    Parameters
    ----------
    seed, members, times : as for `simulate`; a member's path does not depend on which others are asked for.
    processes : how many, their names, or the SDE whose Wiener processes they are, in the order of `model.channels`.
    dt : the step of the run whose noise it is: with the same seed and dt these are the paths that `simulate` takes.
        None is what `simulate` would choose for these times.
    dtype : that of the run; float32 has numbers of its own.
    adaptive : the path of runs with rtol or atol, whose longest step is dt: known at all times, whatever was asked for.

    At times on the grid of steps the path is that of every method, with fixed steps or not; between them it follows the
    Brownian bridge, drawn as methods with fixed steps do that need no integral of W, or down the tree of halves. Raises
    what `simulate` raises for a bad seed, member, time or step, and ValueError for processes without own names.

    >>> import sdesim as sim
    >>> W = sim.brownian(7, members=[0, 41], times=[0.0, 0.5, 1.0], dt=0.25)
    >>> W.dims, float(W.sel(member=41, time=0.0).item())
    (('process', 'member', 'time'), 0.0)
    >>> bool((sim.brownian(7, [41], [1.0], dt=0.25) == W.sel(member=[41], time=[1.0])).all())
    True
    """
    import xarray as xr

    names = _names(processes)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"each Wiener process needs a name of its own, and there must be one at least; got {names}")
    states = [f"w{i}" for i in range(len(names))]
    path = SDE(dict.fromkeys(states, 0.0), {s: {s: 1.0} for s in states})
    ds = simulate(path, dict.fromkeys(states, 0.0), times, members=members, method="euler_maruyama", dt=dt, seed=seed,
                  dtype=dtype, atol=1.0 if adaptive else None)  # fmt: skip
    values = np.stack([ds[s].values for s in states])
    coords = {"process": names, "member": ds["member"], "time": ds["time"]}
    about = {"long_name": "Wiener process", "seed": str(seed), "dt": ds.attrs["dt"]}
    return xr.DataArray(values, coords, ("process", "member", "time"), "W", about)


def _names(processes: Any) -> list[str]:
    if isinstance(processes, SDE):
        return list(processes.channels)
    if isinstance(processes, (int, np.integer)) and not isinstance(processes, bool):
        return [f"W{i}" for i in range(int(processes))]
    if isinstance(processes, str):
        return [processes]
    return [str(name) for name in processes]
