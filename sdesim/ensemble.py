"""Ensembles: which members, and what each of them is given.

A member is a number from 0 to 2³² − 1. What it is given — parameters, initial values, noise — depends on
(seed, member) alone, never on who else is in the ensemble, on the blocks or on the threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.designs import unit_points
from sdesim.streams import Purpose

_LIMIT = 2**32


def member_numbers(members: int | Iterable[int]) -> NDArray[np.int64]:
    """Return the numbers of the members asked for: a count n means 0 … n−1, a range or list means these.

    Raises
    ------
    TypeError
        For anything but whole numbers.
    ValueError
        For none, for one twice, or for a number outside 0 … 2³² − 1.

    >>> member_numbers(3), member_numbers([41])
    (array([0, 1, 2]), array([41]))
    """
    if isinstance(members, (int, np.integer)) and not isinstance(members, bool):
        if not 1 <= members <= _LIMIT:
            raise ValueError(f"members must be from 1 to 2³²; got {members}")
        return np.arange(int(members), dtype=np.int64)
    if isinstance(members, (str, bool, float)) or not isinstance(members, Iterable):
        raise TypeError(f"members must be a count, a range or a list of member numbers; got {members!r}")
    if isinstance(members, range) and members and all(0 <= end < _LIMIT for end in (members[0], members[-1])):
        return np.arange(members.start, members.stop, members.step, dtype=np.int64)
    array = np.asarray(members if isinstance(members, np.ndarray) else list(members))
    if array.size == 0:
        raise ValueError("members is empty: ask for at least one")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"member numbers must be a 1-d list of whole numbers; got {array.dtype} of shape {array.shape}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= _LIMIT:
        raise ValueError(f"member numbers run from 0 to 2³² − 1; got {low if low < 0 else high}")
    numbers, counts = np.unique(array, return_counts=True)
    if np.any(counts > 1):
        raise ValueError(f"member {int(numbers[counts > 1][0])} is asked for twice: name each member once")
    return array.astype(np.int64)


def draw(
    values: Mapping[str, Any],
    numbers: NDArray[np.int64],
    *,
    design: str = "random",
    seed: int = 0,
    purpose: Purpose = Purpose.PARAMETER,
    first_axis: int = 0,
) -> dict[str, float | NDArray[np.float64]]:
    """Turn what the user gave each name into a number, or an array with one value per member.

    Parameters
    ----------
    values
        name -> number | frozen scipy.stats distribution | array over the members | DataArray with a `member`
        dimension (by member number, if it has that coordinate).
    numbers
        the members, as from `member_numbers`.
    design
        how distributions are sampled: "random", "sobol" or "lhs" (see `sdesim.designs`).
    first_axis
        the Sobol' axis of the first distribution; those before it are taken by others.

    Raises
    ------
    ValueError
        For an array of the wrong length, values that are not finite, an unknown design.
    TypeError
        For anything else than the above.

    >>> from scipy import stats
    >>> k = draw({"k": stats.uniform(1, 2)}, member_numbers(64), seed=3)["k"]
    >>> bool(draw({"k": stats.uniform(1, 2)}, member_numbers([41]), seed=3)["k"][0] == k[41])
    True
    """
    laws = distributions(values)
    points = unit_points(laws, numbers, design=design, seed=seed, purpose=purpose, first_axis=first_axis)
    drawn: dict[str, float | NDArray[np.float64]] = {}
    for name, value in values.items():
        if name in laws:
            drawn[name] = _quantiles(name, value, points[laws.index(name)])
        else:
            drawn[name] = per_member(name, value, numbers)
    return drawn


def distributions(values: Mapping[str, Any]) -> list[str]:
    """Return the names whose values are frozen distributions, in order.

    >>> from scipy import stats
    >>> distributions({"k": 1.0, "s": stats.norm(0, 1)})
    ['s']
    """
    return [name for name, value in values.items() if _is_law(name, value)]


def per_member(name: str, value: Any, numbers: NDArray[np.int64]) -> float | NDArray[np.float64]:
    """Return `value` as a float, or as an array of one float for each member.

    Raises ValueError for a wrong length or a value that is not finite, TypeError for what is no number.

    >>> per_member("k", [1, 2], np.array([0, 1]))
    array([1., 2.])
    >>> per_member("k", [1, 2, 3], np.array([0, 1]))
    Traceback (most recent call last):
    ...
    ValueError: 'k' must have one value for each of the 2 members; got 3 values: give 2, or one number for all
    """
    if hasattr(value, "dims"):
        value = _by_number(name, value, numbers)
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"{name!r} must be a number, a frozen scipy.stats distribution or an array over the members; "
            f"got {value!r:.80}"
        )
    if array.ndim > 1:
        raise ValueError(f"{name!r} must be a number or 1-d over the members; got shape {array.shape}")
    if array.ndim == 1 and array.size != len(numbers):
        raise ValueError(
            f"{name!r} must have one value for each of the {len(numbers)} members; got {array.size} values: "
            f"give {len(numbers)}, or one number for all"
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name!r} must be finite; got {array[~np.isfinite(array)][0] if array.ndim else array}")
    return float(array) if array.ndim == 0 else array.astype(np.float64)


def available_threads() -> int:
    """Return the number of processors that this process may use.

    >>> available_threads() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_law(name: str, value: Any) -> bool:
    if hasattr(value, "ppf") and hasattr(value, "dist"):
        return True
    if hasattr(value, "ppf") or hasattr(value, "icdf") or hasattr(value, "rvs"):
        raise TypeError(
            f"{name!r} is {type(value).__name__}, not a frozen distribution of one number; freeze it with its "
            "arguments, e.g. scipy.stats.norm(0.0, 1.0)"
        )
    return False


def _quantiles(name: str, law: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.ndim(law.ppf(0.5)) != 0:
        raise ValueError(f"the distribution of {name!r} has arrays as arguments: give numbers")
    values = np.asarray(law.ppf(points), np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"the distribution of {name!r} gives values that are not finite: check its arguments")
    return values


def _by_number(name: str, value: Any, numbers: NDArray[np.int64]) -> Any:
    if tuple(value.dims) not in ((), ("member",)):
        raise ValueError(f"{name!r} must have the dimension 'member' alone; got {tuple(value.dims)}")
    if "member" not in value.coords:
        return value.values
    missing = np.setdiff1d(numbers, value["member"].values)
    if missing.size:
        raise ValueError(
            f"{name!r} has no value for member {int(missing[0])} ({missing.size} of {len(numbers)} are missing): "
            "give it for every member asked for"
        )
    return value.sel(member=numbers).values
