"""What a parameter may hold in a run: one number, one for each member (members,), or a field each (members, *space)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdesim.orthogonal import Orthogonal


def over_space(value: Any, axes: int) -> Any:
    """A parameter's values shaped to broadcast against fields (members, *space) of so many axes.

    >>> [over_space(v, 2).shape for v in (1.0, [1.0, 2.0], np.ones((2, 4, 5)))]
    [(), (2, 1, 1), (2, 4, 5)]
    """
    array = np.asarray(value, np.float64)
    return array.reshape(-1, *(1,) * axes) if array.ndim == 1 else array if array.ndim else np.float64(array)


def of_member(values: Mapping[str, Any], m: int) -> dict[str, Any]:
    """The parameters of the member at place m: numbers, and fields (1, *space).

    >>> own = of_member({"k": np.array([1.0, 2.0]), "D": 3.0, "a": np.ones((2, 4))}, 1)
    >>> own["k"], own["D"], own["a"].shape
    (2.0, 3.0, (1, 4))
    """
    return {name: v[m : m + 1] if np.ndim(v) > 1 else float(v[m]) if np.ndim(v) else v for name, v in values.items()}


def on_grid(grid: Orthogonal, fields: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates, coefficient fields and parameters as arrays that broadcast against (member, *space).

    >>> from sdesim.grids import Grid
    >>> {name: np.shape(v) for name, v in on_grid(Grid(x=(0, 1, 4)), {"D": np.ones(4)}, {"k": [1.0, 2.0]}).items()}
    {'x': (4,), 'D': (1, 4), 'k': (2, 1)}
    """
    return {**grid.mesh, **{name: field[None] for name, field in fields.items()},
            **{name: over_space(np.atleast_1d(v), grid.dimension) for name, v in values.items()}}
