"""Arrays that a stencil needs before its first step: static coefficients, and the ghost conditions of its edges.

A static array has one ghost layer around the grid, shape (members | 1, n_z + 2, n_y + 2, n_x + 2); the value of the
low face of cell j stands at cell j. An array that varies along x alone has outer axes of length 1. It has one row per
member only if a parameter that it uses does.

A condition's A and B are flat arrays over the cells along its edge, the remaining axes in array order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate, free_symbols
from sdesim.coefficients import over_space
from sdesim.expressions import Expr
from sdesim.geometry import factor
from sdesim.stencil_terms import Static
from sdesim.stencils import Stencil

Array: TypeAlias = NDArray[np.float64]
Parameters: TypeAlias = Mapping[str, Any]


def static_arrays(stencil: Stencil, parameters: Parameters) -> dict[str, Array]:
    """Every static array of a stencil, for parameters that are numbers or arrays over members.

    Raises:
        ValueError: a coefficient that is not finite somewhere, or a diffusivity that is negative.
    """
    arrays = {}
    for name, static in stencil.statics.items():
        with np.errstate(all="ignore"):
            values = _MEANS.get(static.mean, _faces)(stencil, static, parameters)
        _check(static, values)
        arrays[name] = np.ascontiguousarray(_trim(stencil, static, values))
    return arrays


def _check(static: Static, values: Array) -> None:
    if not np.all(np.isfinite(values)):
        raise ValueError(f"the coefficient {static.expression!r} is not finite everywhere on the grid; "
                         "write it so that it is, for example with max(…) or where(…)")
    if static.mean == "harmonic" and np.any(values < 0.0):
        raise ValueError(f"the diffusivity {static.expression!r} is negative somewhere (least value "
                         f"{values.min() / static.scale:.3g}); diffusion needs D ≥ 0")


def is_row(stencil: Stencil, static: Static) -> bool:
    """Whether a static array varies along x alone, so that one row serves the whole grid."""
    grid = stencil.model.grid
    axes, names = grid.axes, free_symbols(static.expression)
    if static.mean in ("wet", "open") or static.factor and any(n > 1 for n in _factor(stencil, static).shape[:-1]):
        return False
    along_x = static.mean in ("cell", "metric") or static.axis == len(axes) - 1
    return along_x and not names & (set(axes[:-1]) | set(stencil.model.fields))


def _factor(stencil: Stencil, static: Static) -> Array:
    """The factor of a static array's axis, on cells or on faces."""
    grid, k = stencil.model.grid, static.axis
    return factor(grid, grid.axes[k], static.periodic[k], static.factor)


def _trim(stencil: Stencil, static: Static, values: Array) -> Array:
    outer = len(stencil.model.grid.axes) - 1
    return values[(slice(None), *[slice(1, 2)] * outer)] if is_row(stencil, static) else values


def _environment(stencil: Stencil, static: Static, parameters: Parameters, clamp: bool) -> dict[str, Any]:
    """Coordinates, coefficient fields and parameters on the cells and their ghosts, shaped (member, *space).

    A ghost beyond an edge has its own coordinate, or with `clamp` that of the nearest cell.
    """
    grid = stencil.model.grid
    n = len(grid.axes)
    env: dict[str, Any] = {name: over_space(value, n) for name, value in parameters.items()}
    for k, axis in enumerate(grid.axes):
        centres = grid.coordinates[axis]
        edges = grid.edges[axis]
        reach = (grid.spacing[axis],) * 2 if grid.is_even(axis) else (
            2.0 * (centres[0] - edges[0]), 2.0 * (edges[-1] - centres[-1]))
        low, high = (0.0, 0.0) if clamp else reach
        ghosts = (centres[-1], centres[0]) if static.periodic[k] else (centres[0] - low, centres[-1] + high)
        padded = np.concatenate([ghosts[:1], centres, ghosts[1:]])
        env[axis] = padded.reshape([1, *(-1 if j == k else 1 for j in range(n))])
    for name, values in stencil.model.fields.items():
        own = np.asarray(parameters.get(name, values), np.float64)
        env[name] = _pad(own if own.ndim > n else own[None], static.periodic)
    return env


def _pad(values: Array, periodic: tuple[bool, ...]) -> Array:
    """Values (members, *space) with those beyond the edges: of the far side, or of the nearest cell."""
    for k, wraps in enumerate(periodic, start=1):
        width = [(int(j == k),) * 2 for j in range(values.ndim)]
        values = np.pad(values, width, mode="wrap" if wraps else "edge")
    return values


def _cells(stencil: Stencil, static: Static, parameters: Parameters) -> Array:
    """Values at cell centres and ghost centres; at a ghost where the expression is not finite, the nearest cell's."""
    shape = tuple(n + 2 for n in stencil.model.grid.shape)
    values, nearest = (_evaluated(static, _environment(stencil, static, parameters, clamp), shape)
                       for clamp in (False, True))
    values = np.where(np.isfinite(values), values, nearest)
    if stencil.model.grid.mask is not None:  # what stands in cells that are left out is not read
        values = np.where(np.isfinite(values) | (_wet(stencil, static) > 0.5), values, 0.0)
    return values * static.scale


def _wet(stencil: Stencil, static: Static, parameters: Parameters | None = None) -> Array:
    """1 in the cells of the field, as far as the ghosts beyond the grid's edges; else 0."""
    return _pad(stencil.model.grid.wet.astype(np.float64)[None], static.periodic)


def _open(stencil: Stencil, static: Static, parameters: Parameters | None = None) -> Array:
    """1 on the low faces along an axis between two cells of the field, 0 on those of a cell that is left out."""
    wet, k = _wet(stencil, static), static.axis
    low, high = _slices(k, wet.ndim - 1, 0, -1), _slices(k, wet.ndim - 1, 1, None)
    both = np.zeros_like(wet)
    both[high] = wet[low] * wet[high]
    return both


def _evaluated(static: Static, env: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    (values,) = evaluate((static.expression,), env)
    values = np.asarray(values)
    members = values.shape[0] if values.ndim > len(shape) else 1
    return np.array(np.broadcast_to(values, (members, *shape)))


def _faces(stencil: Stencil, static: Static, parameters: Parameters) -> Array:
    """Values on the low faces along one axis: the mean of two cells, or ("point", edges) the value there."""
    grid, k = stencil.model.grid, static.axis
    env = _environment(stencil, static, parameters, clamp=True)
    faces = grid.edges[grid.axes[k]]
    if static.periodic[k] and static.mean == "point":
        faces[-1] = faces[0]
    low, high = _slices(k, grid.dimension, 0, -1), _slices(k, grid.dimension, 1, None)
    on_faces = {**env, grid.axes[k]: faces.reshape([1, *(-1 if j == k else 1 for j in range(grid.dimension))])}
    wet = _wet(stencil, static) > 0.5 if grid.mask is not None else None
    for name in stencil.model.fields:
        on_faces[name] = (env[name][low] + env[name][high]) * 0.5
        if wet is not None:  # a wall has the coefficient of its cell
            only = np.where(wet[low], env[name][low], env[name][high])
            on_faces[name] = np.where(wet[low] == wet[high], on_faces[name], only)
    shape = tuple(m + (1 if j == k else 2) for j, m in enumerate(grid.shape))
    values = _evaluated(static, on_faces, shape)
    cells = _evaluated(static, env, tuple(m + 2 for m in grid.shape))
    a, b = cells[low], cells[high]
    even = grid.is_even(grid.axes[k])
    blend = 0.5 if even else factor(grid, grid.axes[k], static.periodic[k], "blend")
    mean = _harmonic(a, b, blend) if static.mean == "harmonic" else (a + b) * 0.5 if even else a + (b - a) * blend
    inside = slice(None) if static.periodic[k] else slice(1, -1)
    inner = (slice(None), *(inside if j == k else slice(None) for j in range(grid.dimension)))
    if static.mean != "point":
        walls = np.zeros(mean.shape, bool) if wet is None else wet[low] != wet[high]
        values[inner] = np.where(walls, values, mean)[inner]
    values = np.where(np.isfinite(values), values, mean)
    if wet is not None:
        values = np.where(wet[low] | wet[high], values, 0.0)
    padded = np.zeros((values.shape[0], *(m + 2 for m in grid.shape)))
    if static.factor:
        values = values * _beside(_factor(stencil, static), k)
    padded[high] = values * static.scale
    return padded


def _metric(stencil: Stencil, static: Static, parameters: Parameters) -> Array:
    """A factor of an axis, on cells or on their low faces."""
    grid, k, values = stencil.model.grid, static.axis, _factor(stencil, static)
    on_faces = values.shape[k] == grid.shape[k] + 1
    values = _beside(values, k) if on_faces else np.pad(values, [(int(n > 1),) * 2 for n in values.shape], mode="edge")
    padded = np.zeros((1, *(n + 2 for n in grid.shape)))
    padded[_slices(k, grid.dimension, int(on_faces), None)] = values
    return padded


def _beside(values: Array, axis: int) -> Array:
    """Values on the faces across an axis, with those of the cells beyond the edges of the other axes."""
    return np.pad(values, [(int(n > 1 and j != axis),) * 2 for j, n in enumerate(values.shape)], mode="edge")


def _harmonic(a: Array, b: Array, share: float | Array) -> Array:
    """1/(θ/a + (1 − θ)/b), θ the share of a in the way, 0 where both vanish; a negative value passes, to be seen."""
    total = a + b if isinstance(share, float) else (b * share + a * (1.0 - share)) * 2.0
    mean = a * b * 2.0 / np.where(total == 0.0, 1.0, total)
    return np.where((a < 0.0) | (b < 0.0), np.minimum(a, b), mean)


def _slices(axis: int, axes: int, start: int | None, stop: int | None) -> tuple[slice, ...]:
    return (slice(None), *(slice(start, stop) if j == axis else slice(None) for j in range(axes)))


_MEANS = {"cell": _cells, "metric": _metric, "wet": _wet, "open": _open}


def edge_coordinates(stencil: Stencil, axis: int) -> dict[str, Array]:
    """Coordinates of the cells along the edges of one axis, flat: the order of a condition's A and B."""
    grid = stencil.model.grid
    others = [name for k, name in enumerate(grid.axes) if k != axis]
    mesh = np.meshgrid(*(grid.coordinates[name] for name in others), indexing="ij")
    return {name: np.ascontiguousarray(values.ravel()) for name, values in zip(others, mesh)}


def edge_size(stencil: Stencil, axis: int) -> int:
    """Number of cells along an edge of one axis."""
    return math.prod(n for k, n in enumerate(stencil.model.grid.shape) if k != axis)


def is_timed(pair: tuple[Expr, Expr]) -> bool:
    """Whether a ghost condition changes with time."""
    return "t" in free_symbols(*pair)


def ghost_values(stencil: Stencil, state: int, axis: int, side: int, parameters: Parameters, t: float) -> Array:
    """A and B of one edge: an array (members | 1, 2, cells along the edge)."""
    pair = stencil.ghosts[state][axis]
    size = edge_size(stencil, axis)
    if pair is None:
        return np.tile(np.array([[0.0], [1.0]]), (1, 1, size))
    env = {**edge_coordinates(stencil, axis), **{name: over_space(v, 1) for name, v in parameters.items()},
           "t": np.float64(t)}
    with np.errstate(all="ignore"):
        values = [np.asarray(v) for v in evaluate(pair[side], env)]
    members = max((v.shape[0] for v in values if v.ndim == 2), default=1)
    A, B = (np.broadcast_to(v, (members, size)) for v in values)
    if not (np.all(np.isfinite(A)) and np.all(np.isfinite(B))):
        fields = (*stencil.model.state, *(term.name for term in stencil.potentials.values()))
        name, where = (*fields, "a slope")[min(state, len(fields))], stencil.model.grid.axes[axis]
        raise ValueError(f"the {('low', 'high')[side]} boundary of {name} along {where} is not finite at t = {t:g}: "
                         "its values must be, and for Robin a/2 + b/h must not vanish")
    return np.stack([A, B], axis=1)
