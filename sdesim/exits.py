"""Survival curves of ensembles whose members leave their bounds."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.datasets import to_dataset

if TYPE_CHECKING:
    import xarray as xr


def survival(ds: xr.Dataset, times: Any = None, *, level: float = 0.95) -> xr.Dataset:
    """The share of an ensemble that is still within its bounds at each time, S(t) = P(exit time > t), with its error.

    Parameters
    ----------
    ds : from `simulate` with a model that has absorbing bounds; its states or its statistics.
    times : increasing, up to the last save time, until which every member was watched; None takes the save times, which
        statistics are limited to.
    level : that of the confidence interval, Wilson's score interval (J. Am. Stat. Assoc. 22, 1927; Brown, Cai &
        DasGupta, Stat. Sci. 16, 2001): nobody is lost from sight, so the number alive is binomial at each time.

    Returns a Dataset over time: `survival`, `lower` and `upper`, and `alive`, the number behind them. Members that did
    not stay finite are left out. Raises ValueError for a Dataset without times of exit, for times it does not know.

    >>> import sdesim as sim
    >>> walk = sim.SDE({"x": 0}, {"x": 1}, bounds={"x": sim.Absorbing(hi=1.0)})
    >>> ds = sim.simulate(walk, 0.0, [1.0, 4.0], members=1000, dt=0.5, seed=1)
    >>> curve = sim.survival(ds, [0.0, 1.0, 2.0])
    >>> float(curve.survival[0]), bool((curve.upper - curve.lower < 0.07).all())
    (1.0, True)
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is the confidence of the interval, between 0 and 1, got {level!r}")
    known = ds["time"].values if "time" in ds.coords else np.empty(0)
    at = known if times is None else np.atleast_1d(np.asarray(times, np.float64))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise ValueError(f"times is a list of increasing numbers, got {times!r:.80}")
    if at[-1] > known[-1]:
        raise ValueError(f"members were watched until {known[-1]:g}, the last save time; times goes to {at[-1]:g}")
    alive, count = _alive(ds, at, known)
    share, z = alive / count, NormalDist().inv_cdf(0.5 + level / 2.0)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    of, low, high = "share of members within their bounds", np.maximum(centre - half, 0), np.minimum(centre + half, 1)
    return to_dataset(
        {}, members=None, times=at, units={"time": ds["time"].attrs.get("units", "s")},
        variables={
            "survival": (("time",), share, {"long_name": of, "units": "1"}),
            "lower": (("time",), low, {"long_name": f"lower end for the {of}", "units": "1"}),
            "upper": (("time",), high, {"long_name": f"upper end for the {of}", "units": "1"}),
            "alive": (("time",), alive, {"long_name": "number of members within their bounds", "units": "1"}),
        },
        attributes={"title": "survival of the members", "members": int(count), "confidence_level": float(level)},
    )  # fmt: skip


def _alive(ds: xr.Dataset, at: NDArray[np.float64], known: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """(members alive at each time, members in all)."""
    if "exit_time" in ds:
        exits = ds["exit_time"].values
        exits = exits[ds["status"].values == 0] if "status" in ds else exits
        if exits.size == 0:
            raise ValueError("no member stayed finite: there is no survival curve; see `status`, and try a smaller dt")
        return exits.size - np.searchsorted(np.sort(exits), at, side="right"), exits.size
    if "exits" in ds:
        place = np.searchsorted(known, at)
        if not np.array_equal(known[np.minimum(place, len(known) - 1)], at):
            raise ValueError(f"statistics know the number of exits at the save times alone: {known}; choose among them")
        count = int(ds.attrs["members_finite"])
        return count - ds["exits"].values[place], count
    raise ValueError("this Dataset has no times of exit: simulate a model with bounds={...: sim.Absorbing(lo, hi)}")
