"""SymPy expressions as graphs of our own: the tree is walked, never printed, parsed or evaluated.

SymPy is optional and is never imported here: only a caller who has it can hand over one of its expressions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from sdesim.expressions import (
    UNARY,
    Expr,
    binary,
    compare,
    const,
    function,
    logical,
    maximum,
    minimum,
    symbol,
    where,
)

_COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_CONSTANTS = {"Pi": math.pi, "Exp1": math.e}
_MANY: dict[str, Callable[..., Expr]] = {
    "Add": functools.partial(binary, "add"),
    "Mul": functools.partial(binary, "mul"),
    "Max": maximum,
    "Min": minimum,
    "And": functools.partial(logical, "and"),
    "Or": functools.partial(logical, "or"),
}


def from_sympy(node: Any, done: dict[Any, Expr] | None = None) -> Expr:
    """The graph of a SymPy expression; parts that are equal are read once.

    Raises ValueError for what has no form here, naming it.

    >>> import sympy
    >>> x, k = sympy.symbols("x k")
    >>> from_sympy(sympy.sin(k * x))
    sin(k*x)
    """
    done = {} if done is None else done
    if node not in done:
        try:
            done[node] = _read(node, done)
        except RecursionError:
            raise ValueError("nested too deeply; split it up") from None
    return done[node]


def _read(node: Any, done: dict[Any, Expr]) -> Expr:
    kind = type(node).__name__
    if node.is_Symbol:
        if not node.name.isidentifier():
            raise ValueError(f"the symbol {node.name!r} is not named like a variable")
        return symbol(node.name)
    if node.is_Rational or node.is_Float:
        return const(float(node))
    if kind in _CONSTANTS:
        return const(_CONSTANTS[kind])
    if kind == "Piecewise":
        return _piecewise(node, done)
    args = [from_sympy(a, done) for a in node.args]
    if kind in _MANY:
        return functools.reduce(_MANY[kind], args)
    if kind == "Pow":
        return binary("pow", *args)
    if kind == "Not":
        return logical("not", *args)
    if node.is_Relational:
        return compare(_COMPARE[node.rel_op], *args)
    if kind.lower() in UNARY and len(args) == 1:
        return function(kind.lower(), *args)
    raise ValueError(f"SymPy's {kind} has no form here; write it with + - * / **, comparisons, Piecewise, Max, Min and "
                     f"{', '.join(UNARY)}")  # fmt: skip


def _piecewise(node: Any, done: dict[Any, Expr]) -> Expr:
    *cases, (last, otherwise) = node.args
    if otherwise != True:  # noqa: E712  (SymPy's true is not Python's, but equals it)
        raise ValueError("a Piecewise needs a last case (value, True)")
    result = from_sympy(last, done)
    for value, condition in reversed(cases):
        result = where(from_sympy(condition, done), from_sympy(value, done), result)
    return result
