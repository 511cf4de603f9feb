"""Initial states: whatever a user may give a state at the start, turned into arrays over the members.

Distributions, Gaussian fields and expressions are functions of (seed, member) and of the member's parameters, so a
part of the ensemble starts exactly as it does in the whole. Each function also returns the *record*: the same
initial state in a form that provenance keeps and that any subset of members can be made from.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.coefficients import on_grid, over_space
from sdesim.ensemble import distributions, draw, per_member
from sdesim.expressions import Expr
from sdesim.fields import GaussianField
from sdesim.models.jumps import counted
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.models.units import parse
from sdesim.parsing import as_expr
from sdesim.spectral import Kind, kind_of
from sdesim.streams import Purpose

if TYPE_CHECKING:
    import xarray as xr

Parameters = Mapping[str, "float | NDArray[np.float64]"]


def _by_state(initial: Any, states: tuple[str, ...]) -> dict[str, Any]:
    """{state: value}, from a mapping or, where there is one state, from the value itself."""
    if not isinstance(initial, Mapping):
        if len(states) != 1:
            raise ValueError(f'initial is a mapping {{"{states[0]}": ..., ...}} of the states {", ".join(states)}; '
                             f"got one {type(initial).__name__} for {len(states)} states")  # fmt: skip
        return {states[0]: initial}
    unknown, missing = [s for s in initial if s not in states], [s for s in states if s not in initial]
    if unknown or missing:
        what = f"'{unknown[0]}' is no state" if unknown else f"'{missing[0]}' has no initial value"
        raise ValueError(f"initial: {what}; give one value for each of the states {', '.join(states)}")
    return {s: initial[s] for s in states}


def _is_expression(value: Any) -> bool:
    return isinstance(value, (str, Expr)) or (callable(value) and not hasattr(value, "ppf")) or (
        type(value).__module__.startswith("sympy"))  # fmt: skip


def is_list(value: Any) -> bool:
    """Whether the value is a plain list or array, whose entries stand for the members in the order asked for.

    >>> is_list([1.0, 2.0]), is_list(1.0)
    (True, False)
    """
    return isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) > 0


def over_members(values: NDArray[Any], numbers: NDArray[np.int64], dims: tuple[str, ...] = ()) -> xr.DataArray:
    """An array over the members as a DataArray that knows their numbers, so that any subset can be taken later.

    >>> over_members(np.array([1.0, 2.0]), np.array([4, 7])).sel(member=7).item()
    2.0
    """
    import xarray as xr

    return xr.DataArray(values, dims=("member", *dims), coords={"member": numbers})


def sde_initial(
    model: SDE, initial: Any, numbers: NDArray[np.int64], parameters: Parameters, *, design: str, seed: int,
    first_axis: int = 0,
) -> tuple[NDArray[np.float64], dict[str, Any]]:  # fmt: skip
    """Initial values (state, member) of an SDE, and their record.

    A value is a number, an expression of the parameters, a frozen distribution, an array over members or a DataArray.
    Raises ValueError for a missing or unknown state, a wrong length, or a value outside the model's bounds.
    """
    given = _by_state(initial, model.states)
    record: dict[str, Any] = {}
    axes = _axes(given, first_axis)
    rows = np.empty((len(given), len(numbers)))
    for i, (state, value) in enumerate(given.items()):
        what = f"initial {state}"
        if _is_expression(value):
            node = as_expr(value, list(parameters), what)
            rows[i], record[state] = evaluate([node], dict(parameters))[0], node
        else:
            rows[i] = draw({what: value}, numbers, design=design, seed=seed, purpose=Purpose.INITIAL,
                           first_axis=axes.get(state, 0))[what]  # fmt: skip
            record[state] = over_members(rows[i], numbers) if is_list(value) else value
        if not np.isfinite(rows[i]).all():
            raise ValueError(f"{what} must be finite; member {numbers[~np.isfinite(rows[i])][0]} gets {rows[i].min()}")
        _check_bounds(model, state, rows[i])
        _check_count(model, state, rows[i], numbers)
    return rows, record


def _axes(given: Mapping[str, Any], first_axis: int) -> dict[str, int]:
    """The Sobol' axis of each state that starts from a distribution, after those of the parameters."""
    plain = {s: v for s, v in given.items() if not _is_expression(v) and not isinstance(v, GaussianField)}
    return {state: first_axis + k for k, state in enumerate(distributions(plain))}


def _check_bounds(model: SDE, state: str, row: NDArray[np.float64]) -> None:
    bound = model.bounds.get(state)
    if bound is None:
        return
    low = -np.inf if bound.lo is None else bound.lo
    high = np.inf if bound.hi is None else bound.hi
    if (row < low).any() or (row > high).any():
        raise ValueError(
            f"initial {state} must lie within its bounds [{low}, {high}]; it ranges over [{row.min()}, {row.max()}]"
        )


def _check_count(model: SDE, state: str, row: NDArray[np.float64], numbers: NDArray[np.int64]) -> None:
    """Raise ValueError for a count that does not start from a whole number."""
    if state not in counted(model):
        return
    wrong = (row < 0.0) | (row != np.rint(row))
    if wrong.any():
        raise ValueError(
            f"initial {state} counts things: it starts from a whole number of at least 0, and member "
            f"{numbers[wrong][0]} gets {row[wrong][0]:g}; round it, or take kind='langevin' or 'rate' of the network"
        )


def pde_initial(
    model: PDE, initial: Any, numbers: NDArray[np.int64], parameters: Parameters, *, design: str, seed: int,
    first_axis: int = 0,
) -> tuple[NDArray[np.float64], dict[str, Any]]:  # fmt: skip
    """Initial fields (state, member, *grid.shape) of a PDE, and their record.

    A value is a number, an expression of coordinates and parameters, a frozen distribution (one number for the whole
    field), a GaussianField, an array over the grid or over (member, grid), or a DataArray. A state that its potential
    gives may be stated by that: {"c": value}. Raises ValueError for a
    missing or unknown state, a wrong shape, or values that are not finite.
    """
    contents = {term.name: term for term in model.potential.values() if term.is_content}
    keys = {contents[key].state: key for key in initial if key in contents} if isinstance(initial, Mapping) else {}
    if keys:
        initial = {contents[key].state if key in contents else key: value for key, value in initial.items()}
    given = _by_state(initial, tuple(model.state))
    fields = np.empty((len(given), len(numbers), *model.grid.shape))
    record: dict[str, Any] = {}
    axes = _axes(given, first_axis)
    for i, (state, value) in enumerate(given.items()):
        if isinstance(value, GaussianField):
            kinds = tuple(kind_of(*model.boundary[state][axis]) or "neumann" for axis in model.grid.axes)
            fields[i] = value.sample(model.grid, seed=seed, members=numbers, kinds=kinds, state=i,
                                     parameters=parameters)
            record[keys.get(state, state)] = value
        else:
            how = {"design": design, "seed": seed, "first_axis": axes.get(state, 0)}
            key = keys.get(state, state)
            fields[i], record[key] = _field(model, f"initial {key}", value, numbers, parameters, how)
        if state in keys:
            known = on_grid(model.grid, model.fields, {**model.parameters, **parameters})
            fields[i] = evaluate([model.potential[state].expression], {**known, keys[state]: fields[i]})[0]
        if not np.isfinite(fields[i][..., model.grid.wet]).all():
            raise ValueError(f"initial {state} must be finite everywhere; it has {np.isnan(fields[i]).sum()} NaN")
        if model.grid.mask is not None:  # where no field is, a value that no arithmetic minds
            fields[i][..., model.grid.mask] = fields[i][..., model.grid.wet].mean(axis=-1, keepdims=True)
    return fields, record


def coefficient_fields(
    model: PDE, given: Mapping[str, Any], numbers: NDArray[np.int64], parameters: Parameters, seed: int
) -> tuple[PDE, dict[str, NDArray[np.float64]], dict[str, Any]]:
    """Coefficients that are fields: the model in which they are, those of each member (member, *grid.shape), a record.

    A value of `given` is a GaussianField, a number or expression of coordinates and parameters, an array over the grid
    or over (member, grid), or a DataArray; names are the model's parameters and coefficient fields. A random field is a
    function of (seed, name, member). Raises ValueError or TypeError as `pde_initial` does.
    """
    fields, record = dict(model.fields), dict[str, Any]()
    laws = {name: law for name, law in model.random.items() if name not in given}
    values: dict[str, NDArray[np.float64]] = {}
    for name, value in {**model.random, **given}.items():
        if isinstance(value, GaussianField):
            values[name], laws[name] = _random_field(model, name, value, numbers, parameters, seed), value
        else:
            array, value = _given_field(model, name, value, numbers, parameters)
            if array.ndim == model.grid.dimension:
                fields[name] = array
            else:  # a mean of all members given, not of those asked for: what is chosen by it is the same for any
                everyone = value.transpose("member", ...).values
                values[name], laws[name] = array, GaussianField(mean=np.mean(everyone, axis=0, dtype=float), std=0.0)
        record |= {name: value} if name in given else {}
    for name, array in values.items():
        if not np.isfinite(array[..., model.grid.wet]).all():
            raise ValueError(f"parameter {name} must be finite everywhere on the grid; fill or mask it first")
        if model.grid.mask is not None:
            array[..., model.grid.mask] = array[..., model.grid.wet].mean(axis=-1, keepdims=True)
    if given:
        left = {name: v for name, v in model.parameters.items() if name not in given}
        model = PDE.from_dict({**model.to_dict(), "parameters": left, "fields": fields,
                               "random": {name: vars(law) for name, law in laws.items()}})
    return model, values, record


def _given_field(model: PDE, name: str, value: Any, numbers: NDArray[np.int64], parameters: Parameters
                 ) -> tuple[NDArray[np.float64], Any]:
    """A coefficient over (member, *space), or over the grid where all members share it; what provenance keeps."""
    what, grid = f"parameter {name}", model.grid
    if hasattr(value, "ppf"):
        raise TypeError(f"{what} is a coefficient field: give a number, an expression, an array, a DataArray or a "
                        f"GaussianField; got {value!r:.80}")
    found, kept = _field(model, what, value, numbers, parameters, {"design": "random", "seed": 0})
    array = np.array(np.broadcast_to(found, np.broadcast_shapes(np.shape(found), grid.shape)))
    if "member" in getattr(kept, "dims", ()):
        return array, kept
    if array.ndim > grid.dimension and len(array) > 1:  # an expression of what members have of their own
        return array, over_members(array, numbers, grid.axes)
    return array.reshape(grid.shape), kept


def is_field(model: PDE, name: str, value: Any) -> bool:
    """Whether what a parameter is given is a field over the grid, not a number for each member."""
    dims = set(getattr(value, "dims", ())) - {"member"}
    known = name in model.fields or isinstance(value, GaussianField)
    return known or bool(dims) or is_list(value) and np.ndim(value) > 1


def _random_field(model: PDE, name: str, law: GaussianField, numbers: NDArray[np.int64], parameters: Parameters,
                  seed: int) -> NDArray[np.float64]:
    """A coefficient's fields; periodic where all states are, else with zero slope at the edges."""
    edges = {axis: {kind_of(*model.boundary[state][axis]) for state in model.state} for axis in model.grid.axes}
    kinds: tuple[Kind, ...] = tuple("periodic" if found == {"periodic"} else "neumann" for found in edges.values())
    return law.sample(model.grid, seed=seed, members=numbers, kinds=kinds, parameters=parameters,
                      state=zlib.crc32(name.encode()) & 0xFFFFFF, purpose=Purpose.COEFFICIENT)


def _spread(values: Any, model: PDE) -> NDArray[np.float64]:
    """Numbers over members as arrays that broadcast against (member, *grid.shape)."""
    return np.asarray(over_space(np.atleast_1d(values), model.grid.dimension))


def _field(
    model: PDE, what: str, value: Any, numbers: NDArray[np.int64], parameters: Parameters, how: Mapping[str, Any],
) -> tuple[Any, Any]:  # fmt: skip
    grid = model.grid
    if _is_expression(value):
        node = as_expr(value, [*grid.axes, *parameters], what)
        env = {**grid.mesh, **{name: _spread(v, model) for name, v in parameters.items()}}
        return evaluate([node], env)[0], node
    if hasattr(value, "dims") and set(value.dims) - {"member"}:
        array = _from_dataarray(model, what, value, numbers)
        return array, value
    if is_list(value):
        array = np.asarray(value, np.float64)
        if array.shape == grid.shape:
            return array, array
        if array.shape == (len(numbers), *grid.shape):
            return array, over_members(array, numbers, grid.axes)
        if array.ndim > 1 or array.size != len(numbers):
            raise ValueError(f"{what} must have the grid's shape {grid.shape}, or {(len(numbers), *grid.shape)} with "
                             f"one field for each member; got {array.shape}")  # fmt: skip
        return _spread(per_member(what, array, numbers), model), over_members(array, numbers)
    return _spread(draw({what: value}, numbers, purpose=Purpose.INITIAL, **how)[what], model), value


def _from_dataarray(model: PDE, what: str, value: Any, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    dims = model.grid.axes
    unknown = [d for d in value.dims if d not in (*dims, "member")]
    missing = [d for d in dims if d not in value.dims]
    if unknown or missing:
        raise ValueError(f"{what} must have the dimensions {dims}, and may have 'member'; got {tuple(value.dims)}")
    for axis in dims:
        centres = model.grid.coordinates[axis]
        if axis in value.coords and not (
            value.sizes[axis] == len(centres) and np.allclose(value[axis], centres, rtol=1e-6, atol=1e-9)
        ):
            raise ValueError(
                f"{what}: its coordinate {axis} does not match the grid's {len(centres)} cell centres from "
                f"{centres[0]:g} to {centres[-1]:g}; interpolate it with .interp({axis}=...)"
            )
    name = what.split()[-1]
    stated, own = model.units.get(name), value.attrs.get("units")
    if stated is not None and isinstance(own, str) and None not in (pair := (parse(stated), parse(own))) and \
            pair[0] != pair[1]:
        raise ValueError(f"{what} is in {own}, and the model has {name} in {stated}: convert the values and say so in "
                         'their attribute "units"')
    if "member" in value.dims and "member" in value.coords:
        missing_members = np.setdiff1d(numbers, value["member"].values)
        if missing_members.size:
            raise ValueError(
                f"{what} has no field for member {missing_members[0]}; give one for every member asked for"
            )
        value = value.sel(member=numbers)
    return np.asarray(value.transpose(*(("member",) if "member" in value.dims else ()), *dims).values, np.float64)
