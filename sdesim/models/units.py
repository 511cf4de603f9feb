"""Do the units that a field equation states agree? Looked at where all that enters is known, before any work.

A unit is a product of powers, "m2 s-1", "W m-1 K-1", "mol/l". A number in an expression may carry any unit, so that a
term with numbers as factors says nothing; names without a unit say nothing either. Only terms are looked at that hold a
parameter or a coefficient field whose unit is stated: in u − u³ the ones that are not written carry units. What an
equation wants has lengths in m and times in s unless the units say otherwise, as in the Dataset. Prefixes are not
resolved: km and m disagree, for the numbers do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

from sdesim.boundaries import Dirichlet, Neumann, robin
from sdesim.calculus import constant_value, free_symbols, walk
from sdesim.expressions import Expr, is_zero

Unit: TypeAlias = "Mapping[str, Fraction]"
Known: TypeAlias = "Mapping[str, Unit | None]"
_SAME = {"sec": "s", "second": "s", "seconds": "s", "minute": "min", "minutes": "min", "hour": "h", "hours": "h",
         "hr": "h", "day": "d", "days": "d", "year": "a", "years": "a", "yr": "a", "metre": "m", "meter": "m",
         "kelvin": "K"}
_MADE = {"Hz": "s-1", "N": "kg m s-2", "Pa": "kg m-1 s-2", "J": "kg m2 s-2", "W": "kg m2 s-3"}
_ALIKE = ("add", "sub", "min", "max")
_PURE = ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh")
_TOKEN = re.compile(r"([A-Za-zµ°%]+)(?:\^|\*\*)?([+-]?\d+)?")


def parse(text: str) -> Unit | None:
    """The powers of a unit's parts; None where the text is no product of powers.

    >>> parse("W m-1 K-1") == parse("kg*m/s^3/K"), parse("days since 2000")
    (True, None)
    """
    powers: dict[str, Fraction] = {}
    for k, part in enumerate(text.split("/")):
        for token in re.split(r"[\s.·]+|(?<!\*)\*(?!\*)", part.strip()):
            found = _TOKEN.fullmatch(token)
            if token in ("", "1"):
                continue
            if found is None:
                return None
            name, power = _SAME.get(found[1], found[1]), Fraction(int(found[2] or 1)) * (-1 if k else 1)
            made = parse(_MADE[name]) if name in _MADE else {name: Fraction(1)}
            for base, inner in (made or {}).items():
                powers[base] = powers.get(base, Fraction(0)) + inner * power
    return {base: power for base, power in powers.items() if power}


def show(unit: Unit) -> str:
    """A unit as text.

    >>> show({"m": Fraction(2), "s": Fraction(-1)})
    'm2 s-1'
    """
    return " ".join(base if power == 1 else f"{base}{power}" for base, power in sorted(unit.items())) or "1"


def product(*factors: tuple[Unit | None, int | Fraction]) -> Unit | None:
    """Units to their powers, multiplied; None where one is not known."""
    powers: dict[str, Fraction] = {}
    for unit, power in factors:
        if unit is None:
            return None
        for base, inner in unit.items():
            powers[base] = powers.get(base, Fraction(0)) + inner * power
    return {base: power for base, power in powers.items() if power}


def unit_of(node: Expr, known: Known, what: str) -> Unit | None:
    """The unit of an expression, None where it is not known; ValueError where it adds unlike quantities."""
    found: dict[Expr, Unit | None] = {}
    for n in walk([node]):
        parts = [found[a] for a in n.args]
        if n.op in _ALIKE or n.op == "where":
            sides = [p for p in (parts[1:] if n.op == "where" else parts) if p is not None]
            if any(side != sides[0] for side in sides):
                raise ValueError(f"{what} adds or compares {' and '.join(show(side) for side in sides)}: convert what "
                                 "it is made of, or state other units")
            found[n] = sides[0] if sides else None
        elif n.op in ("mul", "div"):
            found[n] = product((parts[0], 1), (parts[1], 1 if n.op == "mul" else -1))
        elif n.op == "pow":
            power = constant_value(n.args[1])
            found[n] = None if power is None else product((parts[0], Fraction(power).limit_denominator(64)))
        elif n.op == "sqrt":
            found[n] = product((parts[0], Fraction(1, 2)))
        elif n.op in _PURE and parts[0]:
            raise ValueError(f"{what} takes {n.op} of something in {show(parts[0])}, which has a value for pure "
                             "numbers only: divide by a scale, or state other units")
        else:
            found[n] = parts[0] if n.op in ("neg", "abs") else known.get(n.value) if n.op == "symbol" else None
    return found[node]


class Stated(NamedTuple):
    """The units that a model states, and the names of its parameters and coefficient fields."""

    units: Mapping[str, str]
    given: frozenset[str]


def check(grid: Any, state: tuple[str, ...], pieces: Mapping[str, Any], units: Mapping[str, str]) -> None:
    """Compare every term of a model with what its equation wants.

    Args:
        grid: the model's.
        state: its states.
        pieces: its parts in their normal form, by the names of `PDE`.
        units: what it states, by the names of states, potentials, parameters, coefficient fields, axes, "time".

    Raises:
        ValueError: a name that is nothing of the model, or a term in other units than its equation is.
    """
    names = [*state, *(term.name for term in pieces["potential"].values()), *pieces["parameters"], *pieces["fields"],
             *grid.axes, "time", *(() if grid.is_box else ("radius",))]
    unknown = [name for name in units if name not in names]
    if unknown:
        raise ValueError(f"units names {unknown[0]!r}, which is none of {', '.join(names)}")
    angles = {"lat": "radius", "lon": "radius"}
    lengths = {axis: parse(units.get(angles.get(axis, axis), "m")) for axis in grid.axes}
    time = parse(units.get("time", "s"))
    known: dict[str, Unit | None] = {name: parse(unit) for name, unit in units.items() if name != "time"}
    known |= {"t": time} if "time" in units else {}
    stated = Stated(units, frozenset((*pieces["parameters"], *pieces["fields"])))
    flows = {name: known.get(pieces["potential"][name].name if name in pieces["potential"] else name) for name in state}
    for name in state:
        rate = product((known.get(name), 1), (time, -1))
        _compare(pieces["reaction"].get(name), rate, known, f"the reaction of {name}", stated)
        for axis, term in pieces["velocity"].get(name, {}).items():
            carried = product((known.get(name), 1), (flows[name], -1)) if name in pieces["potential"] else {}
            wanted = product((lengths[axis], 1), (time, -1), (carried, 1))
            _compare(term, wanted, known, f"the velocity of {name} along {axis}", stated)
        for driver, term in pieces["diffusivity"].get(name, {}).items():
            per = {} if driver == name and name not in pieces["potential"] else product(
                (known.get(name), 1), (flows[driver], -1))
            for (a, b), part in _parts(term, tuple(reversed(grid.axes))):
                wanted = product((lengths[a], 1), (lengths[b], 1), (time, -1), (per, 1))
                _compare(part, wanted, known, f"the diffusivity of {name}", stated)
        for axis, sides in pieces["boundary"][name].items():
            for side in (s for s in sides if isinstance(s, Dirichlet | Neumann) and axis in lengths):
                steep = {} if isinstance(side, Dirichlet) else lengths[axis]
                value = robin(side)[2]
                if not is_zero(value):
                    _compare(value, product((flows[name], 1), (steep, -1)), known, f"the edge of {name} along {axis}",
                             stated)


def _parts(term: Any, axes: tuple[str, ...]) -> list[tuple[tuple[str, str], Expr]]:
    """The entries of a diffusivity by pairs of axes."""
    if isinstance(term, Expr):
        return [((axis, axis), term) for axis in axes]
    return [((a, b), part) for a, row in zip(axes, term, strict=True) for b, part in zip(axes, row, strict=True)]


def _compare(term: Expr | None, wanted: Unit | None, known: Known, what: str, stated: Stated) -> None:
    used = set() if term is None else free_symbols(term)
    if term is None or not used & stated.given & stated.units.keys():
        return
    found = unit_of(term, known, what)
    if found is not None and wanted is not None and found != wanted:
        words = ", ".join(f"{name} in {unit}" for name, unit in stated.units.items())
        raise ValueError(f"units disagree: {what} is in {show(found)}, and its equation wants {show(wanted)} ({words};"
                         " lengths in m and times in s unless stated): convert the values, or state other units")
