"""From what a user writes in `PDE(...)` to its normal form: every coefficient an `Expr`, every array a named field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim import arithmetic, boundaries, walls
from sdesim.calculus import evaluate, free_symbols
from sdesim.expressions import Expr, const, is_zero
from sdesim.fields import GaussianField, Noise
from sdesim.grids import AXIS_NAMES
from sdesim.models import units as of_units
from sdesim.models.potential import Potential
from sdesim.orthogonal import Orthogonal
from sdesim.parsing import DERIVATIVES, RESERVED, as_expr
from sdesim.printing import to_text
from sdesim.wellformed import check_name


def normalise(model: Any) -> dict[str, Any]:
    """The normal form of every argument of `PDE`, by attribute name. Raises what `PDE` documents."""
    if not isinstance(model.grid, Orthogonal):
        raise TypeError("a PDE lives on a Grid, RadialGrid or SphereGrid, for example Grid(x=(0.0, 1.0, 64)); got "
                        f"{model.grid!r}")
    state = _states(model.state)
    parameters, fields, random = _parameters(model.parameters, model.grid)
    _check_names(state, {**parameters, **fields}, model.grid.axes)
    reader = _Reader(model.grid, state, frozenset(parameters), fields)
    potential = _potential(model.potential, reader)
    reader = replace(reader, potentials={name: term.name for name, term in potential.items()})
    result: dict[str, Any] = {
        "potential": potential,
        "state": state,
        "parameters": parameters,
        "diffusivity": _diffusivity(model.diffusivity, reader),
        "velocity": _velocity(model.velocity, reader),
        "reaction": _reaction(model.reaction, reader),
        "hyperdiffusivity": _hyperdiffusivity(model.hyperdiffusivity, reader, parameters),
        "noise": _noise(model.noise, reader),
        "boundary": boundaries.normalise(walls.of_grid(model.grid, model.boundary, state), walls.places(model.grid),
                                         state, parameters),
        "units": _units(model.units),
        "fields": fields,
        "random": random,
    }
    for name in potential.keys() & result["hyperdiffusivity"].keys():
        raise ValueError(f"{name} has a potential, which finite volumes take, and a hyperdiffusivity, which spectral "
                         "methods take: no method takes both, leave one out")
    forward = {name: row for name, row in result["diffusivity"].items() if name not in result["hyperdiffusivity"]}
    _check_diffusivity(forward, reader, parameters)
    if result["units"]:
        of_units.check(model.grid, state, result, result["units"])
    return result


@dataclass(frozen=True)
class _Reader:
    """Turns one entry into an `Expr`; an array is added to `fields` under the name of its place."""

    grid: Orthogonal
    state: tuple[str, ...]
    parameters: frozenset[str]
    fields: dict[str, NDArray[np.float64]]
    potentials: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any, place: str, *, states: bool = True) -> Expr:
        if isinstance(value, np.ndarray) and value.ndim or hasattr(value, "dims"):
            return self._array(value, place)
        fields = (*self.state, *self.potentials.values()) if states else ()
        names = {*self.parameters, *self.fields, *self.grid.axes, "t", *fields}
        node = as_expr(value, names=names, what=place, derivatives=fields)
        for name, other in self.potentials.items():
            if any(used.endswith(f"({name})") for used in free_symbols(node)):
                raise ValueError(f"{place}: the edges say what they say of {other}, so that {name} has no slope there; "
                                 f"write the derivative of {other}")
        missing = [name for name in DERIVATIVES if name[2:] not in self.grid.axes
                   and any(used.startswith(f"{name}(") for used in free_symbols(node))]
        if missing:
            raise ValueError(f"{place}: {missing[0]} is a derivative along an axis that the grid lacks; its axes are "
                             f"{', '.join(self.grid.axes)}")
        return node

    def _array(self, value: Any, place: str) -> Expr:
        if hasattr(value, "dims") and set(value.dims) != set(self.grid.axes):
            raise ValueError(f"{place}: a DataArray has the dimensions of the grid, {', '.join(self.grid.axes)}; got "
                             f"{', '.join(map(str, value.dims))}: select or average the others first")
        array = np.array(value.transpose(*self.grid.axes) if hasattr(value, "dims") else value, dtype=float)
        if array.shape != self.grid.shape:
            raise ValueError(f"{place}: an array has the grid's shape {self.grid.shape}, axes "
                             f"({', '.join(self.grid.axes)}); got {array.shape}")
        if self.grid.mask is not None:  # what is given where cells are left out is not read
            array[self.grid.mask] = np.mean(array[self.grid.wet])
        if not np.all(np.isfinite(array)):
            raise ValueError(f"{place}: the array has {np.sum(~np.isfinite(array))} values that are not finite; "
                             "fill or mask them first")
        name = place.replace(" of ", "_").replace(" ", "_")
        array.flags.writeable = False
        self.fields[name] = array
        return as_expr(name, names={name}, what=place)


def _states(state: Any) -> tuple[str, ...]:
    names = (state,) if isinstance(state, str) else tuple(state)
    if not names:
        raise ValueError('a PDE has at least one state, for example state=("u",); got none')
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a state is named like a variable (letters, digits, _); got {name!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"every state has its own name; got {names}")
    return names


def _parameters(given: Any, grid: Orthogonal
                ) -> tuple[dict[str, float], dict[str, NDArray[np.float64]], dict[str, GaussianField]]:
    numbers: dict[str, float] = {}
    fields: dict[str, NDArray[np.float64]] = {}
    random: dict[str, GaussianField] = {}
    for name, value in dict(given or {}).items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a parameter is named like a variable (letters, digits, _); got {name!r}")
        if isinstance(value, Real) and not isinstance(value, bool) or isinstance(value, np.ndarray) and not value.ndim:
            numbers[name] = float(value)
        elif isinstance(value, GaussianField):
            random[name] = value
        else:
            _Reader(grid, (), frozenset(), fields)._array(value, name)
    for name, law in random.items():
        _Reader(grid, (), frozenset(), fields)._array(law.mean_on(grid, numbers), name)
    return numbers, fields, random


def _check_names(state: Sequence[str], parameters: Mapping[str, Any], axes: Sequence[str]) -> None:
    for name in (*state, *parameters):
        kind = "state" if name in state else "parameter"
        check_name(name, kind)
        taken = ("a coordinate" if name in (*AXIS_NAMES, *axes) else "the time" if name == "t" else
                 "a function or constant" if name in RESERVED else
                 "a state" if kind == "parameter" and name in state else
                 "a parameter" if kind == "state" and name in parameters else None)
        if taken:
            raise ValueError(f"the {kind} {name!r} has the name of {taken}; choose another name")


def _per_state(value: Any, reader: _Reader, what: str) -> dict[str, Any]:
    """{state: entry}: a mapping as it is, a bare entry for the only state."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        unknown = [str(name) for name in value if name not in reader.state]
        if unknown:
            raise KeyError(f"{what} names the states {', '.join(unknown)}; the states are {', '.join(reader.state)}")
        return dict(value)
    if len(reader.state) > 1:
        raise TypeError(f'with several states {what} is a mapping such as {{"{reader.state[0]}": ...}}; got {value!r}')
    return {reader.state[0]: value}


def _potential(value: Any, reader: _Reader) -> dict[str, Potential]:
    """The potential of each state that has one."""
    result: dict[str, Potential] = {}
    for state, given in _per_state(value, reader, "potential").items():
        if not isinstance(given, Mapping) or len(given) != 1:
            raise TypeError(f'the potential of {state} is {{"name": expression}}, of {state} or of its own name; got '
                            f"{given!r}")
        ((name, expression),) = given.items()
        _check_names((), {name: None}, reader.grid.axes)
        taken = {*reader.state, *reader.parameters, *reader.fields, *(term.name for term in result.values())}
        if name in taken:
            raise ValueError(f"the potential of {state} has the name {name!r} of something else; choose another name")
        names = {*reader.parameters, *reader.fields, *reader.grid.axes, state, name}
        node = as_expr(expression, names=names, what=f"potential {name} of {state}")
        if len({state, name} & free_symbols(node)) != 1:
            raise ValueError(f"potential {name} of {state}: wanted an expression of {state}, or one of {name} that is "
                             f"{state}; got {to_text(node)}")
        result[state] = Potential(state, name, node)
    return result


def _diffusivity(value: Any, reader: _Reader) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    given = value if isinstance(value, Mapping) else dict.fromkeys(reader.state, value)
    for target, entry in _per_state(given, reader, "diffusivity").items():
        row = _per_state(entry, reader, f"diffusivity of {target}") if isinstance(entry, Mapping) else {target: entry}
        place = f"diffusivity of {target}"
        terms = {source: _term(term, reader, place if source == target else f"{place} {source}")
                 for source, term in row.items()}
        result[target] = {source: term for source, term in terms.items()
                          if not (isinstance(term, Expr) and is_zero(term))}
    return result


def _term(value: Any, reader: _Reader, place: str) -> Any:
    square = (reader.grid.dimension,) * 2
    nested = isinstance(value, list | tuple) or isinstance(value, np.ndarray) and value.ndim == 2 \
        and value.shape == square and value.shape != reader.grid.shape
    if not nested:
        return reader.read(value, place)
    rows = [list(row) if isinstance(row, list | tuple | np.ndarray) else [row] for row in value]
    if [len(row) for row in rows] != [square[0]] * square[0]:
        raise ValueError(f"{place}: a tensor on this grid is {square[0]} × {square[0]}, in x-y-z order; got rows of "
                         f"{[len(row) for row in rows]}")
    return tuple(tuple(reader.read(entry, place) for entry in row) for row in rows)


def _velocity(value: Any, reader: _Reader) -> dict[str, dict[str, Expr]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f'velocity is a mapping such as {{"x": 1.0}}; got {value!r}')
    by_axis = {key: entry for key, entry in value.items() if key in (*AXIS_NAMES, *reader.grid.axes)}
    by_state = _per_state({key: entry for key, entry in value.items() if key not in by_axis}, reader, "velocity")
    result: dict[str, dict[str, Expr]] = {}
    for name in reader.state:
        row = {**by_axis, **by_state.get(name, {})}
        unknown = [str(axis) for axis in row if axis not in reader.grid.axes]
        if unknown:
            raise KeyError(f"velocity along {', '.join(unknown)}: the grid has the axes {', '.join(reader.grid.axes)}")
        own = name in by_state
        terms = {axis: reader.read(entry, f"velocity of {name} {axis}" if own else f"velocity of {axis}")
                 for axis, entry in row.items()}
        terms = {axis: term for axis, term in terms.items() if not is_zero(term)}
        if terms:
            result[name] = terms
    return result


def _reaction(value: Any, reader: _Reader) -> dict[str, Expr]:
    terms = {name: reader.read(entry, f"reaction of {name}")
             for name, entry in _per_state(value, reader, "reaction").items()}
    return {name: term for name, term in terms.items() if not is_zero(term)}


def _hyperdiffusivity(value: Any, reader: _Reader, parameters: Mapping[str, float]) -> dict[str, Expr]:
    if value is None:
        return {}
    given = value if isinstance(value, Mapping) else dict.fromkeys(reader.state, value)
    terms = {}
    for name, entry in _per_state(given, reader, "hyperdiffusivity").items():
        node = reader.read(entry, f"hyperdiffusivity of {name}")
        varying = sorted(free_symbols(node) - reader.parameters)
        if varying:
            raise ValueError(f"the hyperdiffusivity of {name} is constant (numbers and parameters); it depends on "
                             f"{', '.join(varying)}")
        size = float(evaluate((node,), dict(parameters), arithmetic.NUMPY)[0])
        if not size >= 0.0:
            raise ValueError(f"the hyperdiffusivity of {name} must not be negative, as it enters as −κ∇⁴{name}; got "
                             f"{size:g}")
        if not is_zero(node):
            terms[name] = node
    return terms


def _noise(value: Any, reader: _Reader) -> dict[str, Any]:
    result = {}
    for name, term in _per_state(value, reader, "noise").items():
        if not isinstance(term, Noise):
            raise TypeError(f"noise of {name}: wanted WhiteNoise(amplitude), ColouredNoise(amplitude, length, "
                            f"smoothness) or ConservedNoise(amplitude); got {term!r}")
        result[name] = replace(term, amplitude=reader.read(term.amplitude, f"noise of {name}"))
    return result


def _units(value: Any) -> dict[str, str]:
    units = dict(value or {})
    for name, unit in units.items():
        if not isinstance(unit, str):
            raise TypeError(f'units are strings such as {{"u": "K"}}; {name!r} has {unit!r}')
    return units


def _check_diffusivity(terms: Mapping[str, Mapping[str, Any]], reader: _Reader,
                       parameters: Mapping[str, float]) -> None:
    """Refuse a diffusivity that is negative, or a tensor that is negative in some direction, wherever it is known."""
    known: dict[Any, Any] = {**parameters, **reader.fields, **reader.grid.mesh}
    for name, row in terms.items():
        term = row.get(name, const(0.0))
        parts = (term,) if isinstance(term, Expr) else tuple(part for line in term for part in line)
        if not frozenset().union(*(free_symbols(part) for part in parts)) <= frozenset(known):
            continue
        with np.errstate(all="ignore"):
            values = np.stack(np.broadcast_arrays(*evaluate(parts, known, arithmetic.NUMPY)))
        if reader.grid.mask is not None and values[0].ndim:
            values = np.broadcast_to(values, (len(parts), *reader.grid.shape))[:, reader.grid.wet]
        if isinstance(term, Expr):
            lowest = float(np.min(values))
            if not np.isfinite(lowest):
                raise ValueError(f"the diffusivity of {name} must be finite; got {lowest:g} somewhere on the grid: "
                                 "write it so that it is, for example with max(…) or where(…)")
            if not lowest >= 0.0:
                raise ValueError(f"the diffusivity of {name} must not be negative; got {lowest:g}"
                                 + ("" if values.size == 1 else " somewhere on the grid")
                                 + ": a negative one makes the equation ill-posed")
        else:
            matrices = np.moveaxis(values, 0, -1).reshape(-1, len(term), len(term))
            lowest = float(np.min(np.linalg.eigvalsh(matrices + np.swapaxes(matrices, 1, 2)))) / 2.0
            if not lowest >= -1e-12 * float(np.max(np.abs(matrices))):  # 0: diffusion along some directions only
                raise ValueError(f"the diffusivity tensor of {name} must not be negative in any direction; its lowest "
                                 f"eigenvalue is {lowest:g}: make it larger along the axes, or smaller across")
