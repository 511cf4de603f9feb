"""What a run tells of its own errors, member by member: when it was last good, what it kept, where its values lay.

    last_good_time          the last save (or the start) at which all values of the member were finite
    mass_residual_u         max over saves of |∫u − ∫u₀ − what the equation brings in| / ∫|u₀|, where that is known:
                            no noise, a source free of the states and of t, edges that are periodic or of a known flux
    minimum_u, maximum_u    over all saves and cells; of a state's potential, too
    maximum_principle_u     how far these leave the range of the initial and the boundary data, where theory bounds
                            them so: ∂u/∂t = ∇·(D∇u) − ∇·(v u) with D ≥ 0 of any form and ∇·v = 0, or v = v(u, t);
                            where a state has a potential, of that

What is not known is left out. (A velocity that is free of divergence may not be so on the grid, and a scheme of higher
order may overshoot: these are what the last line shows.) The maximum principle: Evans, Partial Differential Equations,
§7.1.4; for v(u) it is that of scalar conservation laws (Kružkov 1970).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.boundaries import NO_FLUX, Condition, Dirichlet, Neumann, Periodic, robin
from sdesim.calculus import differentiate, evaluate, free_symbols
from sdesim.coefficients import on_grid
from sdesim.expressions import Expr, const, is_zero
from sdesim.fields import ConservedNoise
from sdesim.models.pde import PDE
from sdesim.walls import MASK

Array: TypeAlias = NDArray[np.float64]
_LOOKS = 257  # times at which boundary data that change with time are looked at, besides the saves


def settle(states: Array, status: NDArray[np.int8], clock: Array) -> Array:
    """Give members that are not finite at some save their last good state from there on; the times of those states.

    Args:
        states: (times, states, members, *space), changed in place; finite at the first time.
        status: (members,), 0 where a member is finite throughout.
        clock: the times.

    >>> states = np.array([[[1.0, 1.0]], [[2.0, 3.0]], [[4.0, np.inf]]])
    >>> settle(states, np.array([0, 1], np.int8), np.array([0.0, 0.5, 1.0])), states[:, 0, 1]
    (array([1. , 0.5]), array([1., 3., 3.]))
    """
    last = np.full(len(status), clock[-1])
    for m in np.flatnonzero(status):
        finite = np.isfinite(states[:, :, m]).reshape(len(clock), -1).all(axis=1)
        first_bad = max(1, int(np.argmin(finite))) if not finite.all() else len(clock)
        states[first_bad:, :, m] = states[first_bad - 1, :, m]
        last[m] = clock[first_bad - 1]
    return last


def certificates(model: PDE, states: Array, clock: Array, parameters: Mapping[str, Any]) -> dict[str, Array]:
    """Every certificate that the model allows: name -> one number for each member.

    Args:
        model: the PDE.
        states: (times, states, members, *space), finite, the first at the start.
        clock: the times.
        parameters: numbers, or arrays (members,).

    >>> from sdesim.grids import Grid
    >>> u = np.array([[0.0, 1.0, 0.0, 0.0], [0.25, 0.5, 0.25, 0.0]]).reshape(2, 1, 1, 4)
    >>> found = certificates(PDE(Grid(x=(0, 4, 4)), diffusivity=1.0), u, np.array([0.0, 1.0]), {})
    >>> {name: float(values[0]) for name, values in found.items()}
    {'minimum_u': 0.0, 'maximum_u': 1.0, 'mass_residual_u': 0.0, 'maximum_principle_u': 0.0}
    """
    known = _environment(model, parameters)
    found: dict[str, Array] = {}
    for i, name in enumerate(model.state):
        u, flowing = _rows(model, states[:, i]), model.flowing(name)
        low, high = u.min(axis=(0, 2)), u.max(axis=(0, 2))
        found |= {f"minimum_{name}": low, f"maximum_{name}": high}
        rate = _income(model, name, known)
        if rate is not None:
            found[f"mass_residual_{name}"] = _residual(model, u, clock, rate)
        if name in model.potential:
            u = _rows(model, model.potential[name].values(states[:, i], known) * np.ones_like(states[:, i]))
            low, high = u.min(axis=(0, 2)), u.max(axis=(0, 2))
            found |= {f"minimum_{flowing}": low, f"maximum_{flowing}": high}
        data = _range(model, name, known, clock)
        if data is not None:
            floor, ceiling = np.minimum(u[0].min(axis=1), data[0]), np.maximum(u[0].max(axis=1), data[1])
            found[f"maximum_principle_{flowing}"] = np.maximum(0.0, np.maximum(floor - low, high - ceiling))
    return found


def _rows(model: PDE, u: Array) -> Array:
    """(times, members, cells) of the field: one row for each member, so that its sums are its own."""
    rows = u.reshape(*u.shape[:2], -1)
    return rows if model.grid.mask is None else rows[..., model.grid.wet.ravel()]


def describe(name: str, units: Mapping[str, str]) -> dict[str, str]:
    """Attributes of the variable that holds a certificate.

    >>> describe("minimum_u", {"u": "K"})
    {'long_name': 'least value of u over the saves and cells', 'units': 'K'}
    """
    if name == "last_good_time":
        return {"long_name": "last save, or the start, at which the member was finite; later saves hold that state",
                "units": units.get("time", "s")}
    if name in _COUNTS:
        return {"long_name": _COUNTS[name], "units": "1"}
    for kind, (meaning, relative) in _MEANINGS.items():
        if name.startswith(f"{kind}_"):
            state = name.removeprefix(f"{kind}_")
            return {"long_name": meaning.format(state, state), "units": "1" if relative else units.get(state, "1")}
    raise KeyError(f"there is no certificate {name!r}")


_COUNTS = {
    "steps": "steps taken to the last save (of an SDE each as two halves)",
    "right_sides": "right-hand sides evaluated to the last save",
    "rejected_steps": "steps tried and found too long for the tolerance",
}
_MEANINGS = {
    "mass_residual": ("largest change of ∫{} that the equation does not explain, over ∫|{}| at the start", True),
    "maximum_principle": ("how far {} leaves the range of its initial and boundary values", False),
    "minimum": ("least value of {} over the saves and cells", False),
    "maximum": ("largest value of {} over the saves and cells", False),
    "time_error": ("error of {} from the step, root mean square over the cells, largest over the saves", False),
    "space_error": ("error of {} from the cells, root mean square over them, largest over the saves", False),
}


def _environment(model: PDE, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Coordinates, coefficient fields and parameters, shaped (members, *space)."""
    return on_grid(model.grid, model.fields, {**model.parameters, **parameters})


def _volumes(model: PDE) -> Any:
    """Volumes of the cells: one number, or an array over the grid."""
    alike = model.grid.is_box and model.grid.mask is None
    return model.grid.cell_volume if alike else model.grid.volumes[model.grid.wet]


def _integral(values: Any, model: PDE) -> Array:
    """∫ over the grid of values (members | 1, *space) or of one number."""
    full = np.asarray(values) * np.ones((1, *model.grid.shape))
    total: Array = (full[..., model.grid.wet] * _volumes(model)).sum(axis=1)
    return total


def _residual(model: PDE, u: Array, clock: Array, rate: Array) -> Array:
    """Largest |∫u − ∫u₀ − rate·(t − t₀)| over the saves, relative to ∫|u₀| or the income, whichever is larger."""
    volume = np.ravel(_volumes(model))
    mass, start = (((u * volume).sum(axis=2), (np.abs(u[0]) * volume).sum(axis=1)) if volume.size > 1 else
                   (u.sum(axis=2) * volume[0], np.abs(u[0]).sum(axis=1) * volume[0]))
    income = np.multiply.outer(clock - clock[0], rate)
    size = np.maximum(start, np.abs(income).max(axis=0))
    error: Array = np.abs(mass - mass[0] - income).max(axis=0)
    return error / np.where(size > 0.0, size, 1.0)


def _income(model: PDE, name: str, known: Mapping[str, Any]) -> Array | None:
    """d/dt ∫u as the equation has it, one number for each member (or for all); None where it is not known so."""
    noisy = name in model.noise and not isinstance(model.noise[name], ConservedNoise)
    if noisy or name in model.hyperdiffusivity and not _is_closed(model, name):
        return None
    reaction = model.reaction.get(name, const(0.0))
    if free_symbols(reaction) & (model.variable_names | {"t"}):
        return None
    total = _integral(evaluate([reaction], known)[0], model)
    if any(not isinstance(model.boundary[driver].get(MASK, (NO_FLUX,))[0], Neumann) or not is_zero(
            robin(model.boundary[driver].get(MASK, (NO_FLUX,))[0])[2]) for driver in model.diffusivity.get(name, {})):
        return None
    for k, axis in enumerate(model.grid.axes):
        for side, condition in enumerate(model.boundary[name][axis]):
            flux = _inflow(model, name, axis, k, side, condition, known)
            if flux is None:
                return None
            total = total + flux
    return total


def _is_closed(model: PDE, name: str) -> bool:
    return all(isinstance(side, Periodic) or isinstance(side, Neumann) and is_zero(robin(side)[2])
               for pair in model.boundary[name].values() for side in pair)


def _inflow(model: PDE, name: str, axis: str, k: int, side: int, condition: Condition,
            known: Mapping[str, Any]) -> Array | None:
    """What enters through one edge per time; None where that is not known beforehand."""
    if isinstance(condition, Periodic) or model.grid.closed(axis)[side]:
        return np.zeros(1)
    speed = model.velocity.get(name, {}).get(axis, const(0.0))
    at_edge = _edge_environment(model, axis, k, side, known)
    if free_symbols(speed) - set(at_edge) or np.any(np.asarray(evaluate([speed], at_edge)[0]) != 0.0):
        return None
    total = np.zeros(1)
    for driver, term in model.diffusivity.get(name, {}).items():
        other = model.boundary[driver][axis][side]
        if not isinstance(other, Neumann):
            return None
        slope = robin(other)[2]
        if is_zero(slope):
            continue
        x = len(model.grid.axes) - 1 - k
        D = term if isinstance(term, Expr) else term[x][x]
        if free_symbols(D, slope) - set(at_edge):
            return None
        values = np.asarray(np.multiply(*evaluate([D, slope], at_edge)))
        faces = values * model.grid.edge_areas(axis, side)[None]
        total = total + faces.reshape(len(faces), -1).sum(axis=1)
    return total


def _edge_environment(model: PDE, axis: str, k: int, side: int, known: Mapping[str, Any]) -> dict[str, Any]:
    """`known` on the faces of one edge: its own coordinate there, fields from the nearest cells."""
    lo, hi = model.grid.axis(axis)[:2]
    env = {name: np.take(value, [-side], axis=k + 1) if name in model.fields else value
           for name, value in known.items()}
    return {**env, axis: np.full((1,) * model.grid.dimension, (lo, hi)[side])}


def _range(model: PDE, name: str, known: Mapping[str, Any], clock: Array) -> tuple[Array, Array] | None:
    """Least and largest boundary value by member, ±∞ without any; None where no maximum principle holds."""
    if name in model.noise or name in model.reaction or name in model.hyperdiffusivity:
        return None
    if set(model.diffusivity.get(name, {})) - {name} or not _keeps_constants(model, name, known):
        return None
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    edges = [(condition, _edge_environment(model, axis, k, side, known)) for k, axis in enumerate(model.grid.axes)
             for side, condition in enumerate(model.boundary[name][axis])]
    for condition, at_edge in [*edges, *((side, known) for side in model.boundary[name].get(MASK, ()))]:
        values = _edge_values(condition, at_edge, clock)
        if values is None:
            return None
        flat = values.reshape(len(values), -1)
        low, high = np.fmin(low, flat.min(axis=1)), np.fmax(high, flat.max(axis=1))
    return low, high


def _keeps_constants(model: PDE, name: str, known: Mapping[str, Any]) -> bool:
    """Whether transport leaves a constant field as it is: a velocity of the states and time alone, or ∇·v = 0."""
    speeds = model.velocity.get(name, {})
    moving = {model.flowing(name), "t", *model.parameters}
    if speeds and (model.grid.mask is not None or {"r", "lat"} & set(speeds)):
        return False  # walls stop the flow, and areas vary along these axes
    if all(free_symbols(v) <= moving for v in speeds.values()):
        return True
    if any(free_symbols(v) & (model.variable_names | {"t", *model.fields}) for v in speeds.values()):
        return False
    slopes = [differentiate(v, axis) for axis, v in speeds.items()]
    values = evaluate(slopes, known)
    size = max(float(np.max(np.abs(v))) for v in values)
    return bool(np.all(np.abs(reduce(np.add, values)) <= 1e-12 * size))


def _edge_values(condition: Condition, at_edge: Mapping[str, Any], clock: Array) -> Array | None:
    """The values that one edge holds the field to or draws it to, (members | 1, …); None where it lets flux in."""
    none = np.array([np.nan])
    match condition:
        case Periodic():
            return none
        case Neumann():
            return none if is_zero(robin(condition)[2]) else None
    a, b, c = robin(condition)
    times: list[float] = [float(clock[0])]
    if "t" in free_symbols(a, b, c):
        times = sorted({*clock.tolist(), *np.linspace(clock[0], clock[-1], _LOOKS).tolist()})
    looks = []
    for t in times:
        A, B, C = (np.asarray(v) for v in evaluate([a, b, c], {**at_edge, "t": np.float64(t)}))
        if not isinstance(condition, Dirichlet) and not (np.all(A > 0.0) and np.all(B >= 0.0)):
            return None
        looks.append(np.asarray(C / A))
    full = np.broadcast_arrays(*[v if v.ndim else v.reshape(1) for v in looks])
    return np.concatenate([v.reshape(len(v), -1) for v in full], axis=1)

