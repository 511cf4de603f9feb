"""Which sides of a grid are edges, where a condition holds: not the centre of a ball, not a pole, not a full circle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sdesim.boundaries import NO_FLUX, Neumann, Periodic
from sdesim.expressions import is_zero
from sdesim.orthogonal import Orthogonal
from sdesim.parsing import as_expr

MASK = "mask"
"""Where in a model's boundary the condition on the faces of masked cells stands."""


def places(grid: Orthogonal) -> tuple[str, ...]:
    """What a boundary may name: the axes, and the mask where there is one."""
    return (*grid.axes, *(() if grid.mask is None else (MASK,)))


def of_grid(grid: Orthogonal, boundary: Any, states: Collection[str]) -> Any:
    """The boundary that a user gave, completed by what the grid itself says.

    Raises:
        ValueError: a condition where there is no edge; two conditions for the mask.

    >>> from sdesim.curved import RadialGrid
    >>> of_grid(RadialGrid(r=(0.0, 1.0, 8)), {"r": Periodic()}, ("u",))
    Traceback (most recent call last):
    ...
    ValueError: boundary along r: there is no edge at its low side, so it cannot be periodic; give one condition, ...
    """
    given = {} if boundary is None else boundary
    if not isinstance(given, Mapping):
        return given
    own = {key: _completed(grid, value) for key, value in given.items() if key in states and isinstance(value, Mapping)}
    return {**{name: Periodic() for name in grid.axes if grid.wraps(name)}, **_completed(grid, given), **own}


def _completed(grid: Orthogonal, given: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(given)
    for name in grid.axes:
        value = given.get(name)
        if value is None:
            continue
        both = tuple(value) if isinstance(value, tuple | list) else (value,)
        if grid.wraps(name) and not all(isinstance(side, Periodic) for side in both):
            raise ValueError(f"boundary along {name}: it goes all the way round and is periodic; leave it out")
        result[name] = _open(grid, name, value)
    if isinstance(given.get(MASK), tuple | list | Periodic):
        raise ValueError(f"boundary of the mask: wanted one condition for all of its faces; got {given[MASK]!r}")
    return result


def _open(grid: Orthogonal, name: str, value: Any) -> Any:
    """The conditions along an axis, those of ends that are no edges replaced by no flux."""
    shut = grid.closed(name)
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if not any(shut) or len(pair) != 2:
        return value
    side = "both sides" if all(shut) else f"its {('low', 'high')[shut.index(True)]} side"
    if any(isinstance(condition, Periodic) for condition in pair):
        raise ValueError(f"boundary along {name}: there is no edge at {side}, so it cannot be periodic; give one "
                         "condition, or none")
    told = isinstance(value, tuple | list) or all(shut)
    if told and any(no and not _is_no_flux(condition) for no, condition in zip(shut, pair)):
        raise ValueError(f"boundary along {name}: there is no edge at {side}, and no condition can hold there; give "
                         "the other side's alone")
    low, high = (NO_FLUX if no else condition for no, condition in zip(shut, pair))
    return low, high


def _is_no_flux(condition: Any) -> bool:
    return condition is None or isinstance(condition, Neumann) and is_zero(as_expr(condition.value, names=None))
