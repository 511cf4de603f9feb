"""What happens at the edge of a grid, and of an SDE's state space.

Every condition on a field is of one kind, a·u + b·∂u/∂n = c with n the outward normal (Robin); periodic edges aside.
On a grid of spacing h the edge lies half-way between the last cell centre u and a ghost cell g beyond it. With
u_edge = (u + g)/2 and ∂u/∂n = (g − u)/h the condition reads

    a (u + g)/2 + b (g − u)/h = c    ⇒    g = A + B·u,   A = c/d,   B = (b/h − a/2)/d,   d = a/2 + b/h.

A periodic edge has A = 0, B = 1 and reads the cell on the far side.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from sdesim import arithmetic
from sdesim.calculus import evaluate
from sdesim.expressions import Expr, as_node, is_zero
from sdesim.parsing import as_expr
from sdesim.printing import to_text

Value: TypeAlias = Any
"""A number, an expression as text, callable or SymPy of t, the parameters and the other coordinates, or an Expr."""


@dataclass(frozen=True)
class Periodic:
    """The field continues at the other end of the axis. Both ends of an axis are periodic, or neither.

    >>> Periodic()
    Periodic()
    """


@dataclass(frozen=True)
class Dirichlet:
    """A given value at the edge: u = value.

    Args:
        value: number, or expression of t, the parameters and the other coordinates.

    >>> Dirichlet("sin(y)")
    Dirichlet(value='sin(y)')
    """

    value: Value = 0.0


@dataclass(frozen=True)
class Neumann:
    """A given outward normal derivative at the edge: ∂u/∂n = value. Zero (the default) lets nothing through.

    Args:
        value: number, or expression of t, the parameters and the other coordinates.

    >>> Neumann()
    Neumann(value=0.0)
    """

    value: Value = 0.0


@dataclass(frozen=True)
class Robin:
    """a·u + b·∂u/∂n = c at the edge, n the outward normal; a and b must not both be zero.

    Args:
        a, b, c: numbers, or expressions of t, the parameters and the other coordinates.

    >>> Robin(a=1.0, b=0.5)  # cooling: −∂u/∂n = 2u
    Robin(a=1.0, b=0.5, c=0.0)
    """

    a: Value
    b: Value
    c: Value = 0.0


@dataclass(frozen=True)
class Reflecting:
    """An SDE's component is reflected back into [lo, hi]; None leaves an end open.

    Raises:
        ValueError: both ends open, or lo ≥ hi.

    >>> Reflecting(lo=0.0)
    Reflecting(lo=0.0, hi=None)
    """

    lo: float | None = None
    hi: float | None = None

    def __post_init__(self) -> None:
        _check_interval(self, self.lo, self.hi)


@dataclass(frozen=True)
class Absorbing:
    """An SDE's path stops where its component first leaves (lo, hi); None leaves an end open.

    Raises:
        ValueError: both ends open, or lo ≥ hi.

    >>> Absorbing(hi=1.0)
    Absorbing(lo=None, hi=1.0)
    """

    lo: float | None = None
    hi: float | None = None

    def __post_init__(self) -> None:
        _check_interval(self, self.lo, self.hi)


Condition: TypeAlias = Periodic | Dirichlet | Neumann | Robin
Sides: TypeAlias = tuple[Condition, Condition]
Boundary: TypeAlias = Mapping[str, Mapping[str, Sides]]
"""Conditions by state, then axis: (low side, high side), their values held as `Expr`."""

NO_FLUX = Neumann(as_node(0.0))


def robin(condition: Condition) -> tuple[Expr, Expr, Expr]:
    """(a, b, c) of a·u + b·∂u/∂n = c for a normalised condition that is not periodic.

    >>> robin(Dirichlet(as_node(2.0)))
    (1, 0, 2)
    """
    match condition:
        case Dirichlet(value):
            return as_node(1.0), as_node(0.0), as_node(value)
        case Neumann(value):
            return as_node(0.0), as_node(1.0), as_node(value)
        case Robin(a, b, c):
            return as_node(a), as_node(b), as_node(c)
    raise TypeError("a periodic edge is no Robin condition: it reads the far side of the axis")


def ghost_expressions(condition: Condition, spacing: float | Expr) -> tuple[Expr, Expr]:
    """A and B of ghost = A + B·u as expressions of t, the parameters and the other coordinates.

    >>> ghost_expressions(Dirichlet(as_node(3.0)), 0.1), ghost_expressions(Periodic(), 0.1)
    ((6, -1), (0, 1))
    """
    if isinstance(condition, Periodic):
        return as_node(0.0), as_node(1.0)
    if isinstance(condition, Dirichlet):
        return _fold(2.0 * as_node(condition.value)), as_node(-1.0)
    if isinstance(condition, Neumann):
        return _fold(as_node(condition.value) * spacing), as_node(1.0)
    a, b, c = robin(condition)
    half, slope = _fold(a / 2.0), _fold(b / spacing)
    d = _fold(half + slope)
    if is_zero(d):
        raise _no_ghost(condition, spacing)
    return _fold(c / d), _fold((slope - half) / d)


def ghost_coefficients(condition: Condition, spacing: float, values: Mapping[Any, Any]) -> tuple[Any, Any]:
    """A and B of ghost = A + B·u as numbers or arrays.

    Args:
        condition: a normalised condition, its values `Expr`.
        spacing: width of the cells along the edge's normal.
        values: what the expressions may name: parameters, t, and the other coordinates as arrays that broadcast.

    Raises:
        ValueError: a Robin condition that fixes nothing (a/2 + b/h = 0) or values that are not finite.

    >>> tuple(map(float, ghost_coefficients(Neumann(as_node(2.0)), 0.5, {})))
    (1.0, 1.0)
    """
    A, B = evaluate(ghost_expressions(condition, spacing), values, arithmetic.NUMPY)
    if isinstance(condition, Robin):
        a, b = evaluate((as_node(condition.a), as_node(condition.b)), values, arithmetic.NUMPY)
        if np.any(np.asarray(a / 2.0 + b / spacing) == 0.0):
            raise _no_ghost(condition, spacing)
    if not (np.all(np.isfinite(A)) and np.all(np.isfinite(B))):
        raise ValueError(f"the values of {describe(condition)} must be finite along the whole edge; got A={A}, B={B}")
    return A, B


def normalise(boundary: Any, axes: Collection[str], states: Collection[str], names: Collection[str]) -> Boundary:
    """Both sides of every axis for every state, from what a user writes as ``boundary=``.

    Args:
        boundary: None (no flux everywhere), ``{"x": condition | (low, high)}`` for all states, or
            ``{"u": {"x": ...}}`` for each state. Axes and states that are left out have no flux.
        axes: the grid's axes.
        states: the model's states.
        names: parameters that the values may use, besides t and the coordinates of the other axes.

    Raises:
        KeyError: an axis or a state that does not exist.
        TypeError: something that is no boundary condition.
        ValueError: one end of an axis periodic and the other not; a Robin condition with a = b = 0.

    >>> normalise({"x": (Dirichlet(1), Neumann())}, ("x",), ("u",), ())["u"]["x"]
    (Dirichlet(value=1), Neumann(value=0))
    """
    boundary = {} if boundary is None else boundary
    if not isinstance(boundary, Mapping):
        raise TypeError(f'boundary is a mapping such as {{"x": Periodic()}}; got {type(boundary).__name__}')
    per_state = {key for key in boundary if key in states}
    unknown = [str(key) for key in boundary if key not in states and key not in axes]
    if unknown:
        cure = "; give the grid a mask first" if "mask" in unknown else ""
        raise KeyError(f"boundary has the entries {', '.join(unknown)}; the axes are {', '.join(sorted(axes))} "
                       f"and the states {', '.join(states)}{cure}")
    shared = {key: value for key, value in boundary.items() if key not in per_state}
    result: dict[str, dict[str, Sides]] = {}
    for state in states:
        own = boundary.get(state, {})
        wrong = [str(axis) for axis in own if axis not in axes]
        if wrong:
            raise KeyError(f"boundary of {state}: no axis {', '.join(wrong)}; there are {', '.join(sorted(axes))}")
        merged = {**shared, **own}
        result[state] = {axis: _sides(merged.get(axis), state, axis, axes, names) for axis in axes}
    return result


def describe(condition: Condition) -> str:
    """One condition as a line of text.

    >>> describe(Robin(as_node(1.0), as_node(2.0), as_node(0.0)))
    '1·u + 2·∂u/∂n = 0'
    """
    if isinstance(condition, Periodic):
        return "periodic"
    a, b, c = (to_text(part) for part in robin(condition))
    match condition:
        case Dirichlet():
            return f"u = {c}"
        case Neumann():
            return f"∂u/∂n = {c}"
    return f"{a}·u + {b}·∂u/∂n = {c}"


def to_dict(condition: Condition) -> dict[str, Any]:
    """Plain data for one condition: its kind and its values as text."""
    values = {name: to_text(as_node(getattr(condition, name))) for name in condition.__dataclass_fields__}
    return {"kind": type(condition).__name__.lower(), **values}


def from_dict(data: Mapping[str, Any]) -> Condition:
    """The condition that `to_dict` described, its values as text.

    >>> from_dict(to_dict(Dirichlet(as_node(2.0))))
    Dirichlet(value='2')
    """
    kinds: dict[str, type[Condition]] = {"periodic": Periodic, "dirichlet": Dirichlet, "neumann": Neumann,
                                         "robin": Robin}
    if data.get("kind") not in kinds:
        raise ValueError(f"a boundary condition has one of the kinds {', '.join(kinds)}; got {data.get('kind')!r}")
    return kinds[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})


def _sides(given: Any, state: str, axis: str, axes: Collection[str], names: Collection[str]) -> Sides:
    if given is None:
        return NO_FLUX, NO_FLUX
    pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
    where = f"boundary of {state} along {axis}"
    if len(pair) != 2 or not all(isinstance(side, Periodic | Dirichlet | Neumann | Robin) for side in pair):
        raise TypeError(f"{where}: wanted Periodic(), Dirichlet(value), Neumann(derivative), Robin(a, b, c) or a pair "
                        f"(low side, high side) of them; got {given!r}")
    if isinstance(pair[0], Periodic) != isinstance(pair[1], Periodic):
        raise ValueError(f"{where} contradicts its opposite: the low side is {pair[0]!r}, the high side {pair[1]!r}; "
                         "make both Periodic(), or neither")
    allowed = {*names, "t", *axes} - {axis, "mask"}
    low, high = (_with_expressions(side, allowed, where) for side in pair)
    return low, high


def _with_expressions(condition: Condition, allowed: Collection[str], where: str) -> Condition:
    fields = condition.__dataclass_fields__
    values = {name: as_expr(getattr(condition, name), names=allowed, what=where) for name in fields}
    if isinstance(condition, Robin) and is_zero(values["a"]) and is_zero(values["b"]):
        raise ValueError(f"{where}: Robin(a, b, c) with a = b = 0 says nothing about u; give one of them a value")
    return type(condition)(**values)


def _fold(node: Expr) -> Expr:
    """The number that an operation on numbers gives, so that constant coefficients are seen to be constant."""
    if node.args and all(arg.op == "const" for arg in node.args):
        return as_node(float(evaluate((node,), {}, arithmetic.NUMPY)[0]))
    return node


def _no_ghost(condition: Condition, spacing: float | Expr) -> ValueError:
    return ValueError(f"{describe(condition)}: a/2 + b/h vanishes on cells of width h = {spacing!r}, so the condition "
                      "cannot be met there; change the sign of a or b (n points outward) or the number of cells")


def _check_interval(bound: Reflecting | Absorbing, lo: float | None, hi: float | None) -> None:
    name = type(bound).__name__
    if lo is None and hi is None:
        raise ValueError(f"{name}(lo, hi) needs at least one end; got none")
    for end in (lo, hi):
        if end is not None and (isinstance(end, bool) or not isinstance(end, Real) or not math.isfinite(end)):
            raise ValueError(f"{name}(lo, hi) takes numbers, and None for an open end; got ({lo!r}, {hi!r})")
    if lo is not None and hi is not None and not lo < hi:
        raise ValueError(f"{name}(lo, hi) needs lo < hi; got ({lo}, {hi})")
