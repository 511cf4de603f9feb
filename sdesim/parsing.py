"""Equations from text, plain functions or SymPy, all turned into the same symbolic graph.

Text is untrusted: it is parsed by Python's own grammar into a syntax tree, and the tree is walked against a whitelist.
Nothing is ever evaluated. Length and depth are bounded, so a hostile file costs no time.
"""

from __future__ import annotations

import ast
import inspect
import math
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from sdesim.calculus import free_symbols
from sdesim.expressions import (
    UNARY,
    Expr,
    as_node,
    binary,
    compare,
    const,
    function,
    logical,
    maximum,
    minimum,
    symbol,
    symbolic_equality,
    where,
)
from sdesim.sympy_input import from_sympy
from sdesim.wellformed import MAX_DEPTH, MAX_LENGTH, MAX_NODES, objection

if TYPE_CHECKING:
    import sympy

CONSTANTS = {"pi": math.pi, "e": math.e}
DERIVATIVES = ("ddx", "ddy", "ddz", "ddr", "ddlat", "ddlon")
_ONE_ARGUMENT = frozenset(UNARY)
FUNCTION_NAMES = _ONE_ARGUMENT | {"min", "max", "where"}
RESERVED = FUNCTION_NAMES | frozenset(CONSTANTS) | frozenset(DERIVATIVES)
_BINARY = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow"}
_COMPARE = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne"}


class EquationError(ValueError):
    """An equation that cannot be read: the message quotes it, says what was wanted, and gives the cure."""


def _is_finite_number(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
    except OverflowError:
        return False


class _Reader:
    """Walks one syntax tree; `names` are the symbols it may use (None: any)."""

    def __init__(self, text: str, names: Collection[str] | None, what: str, derivatives: Collection[str]) -> None:
        self.text, self.names, self.what, self.derivatives = text, names, what, derivatives
        self.nodes = 0

    def fail(self, reason: str) -> EquationError:
        shown = self.text if len(self.text) <= 200 else self.text[:200] + "…"
        return EquationError(f"{self.what} '{shown}': {reason}" if shown else f"{self.what}: {reason}")

    def read(self, tree: ast.AST, depth: int = 0) -> Expr:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise self.fail(f"nested deeper than {MAX_DEPTH} or longer than {MAX_NODES} operations; split it up")
        rule = _RULES.get(type(tree))
        if rule is None:
            raise self.fail(
                f"a {type(tree).__name__} is not arithmetic; use numbers, names, + - * / **, comparisons and "
                f"the functions {', '.join(sorted(FUNCTION_NAMES))}"
            )
        try:
            return rule(self, tree, depth + 1)
        except TypeError as error:
            raise self.fail(str(error)) from None

    def number(self, tree: ast.Constant, depth: int) -> Expr:
        if not _is_finite_number(tree.value):
            raise self.fail(f"{tree.value!r} is not a finite real number")
        return const(float(tree.value))  # type: ignore[arg-type]

    def name(self, tree: ast.Name, depth: int) -> Expr:
        if tree.id in CONSTANTS and (self.names is None or tree.id not in self.names):
            return const(CONSTANTS[tree.id])
        if self.names is not None and tree.id not in self.names:
            known = ", ".join(sorted(self.names)) or "none"
            cure = "; write it with an argument" if tree.id in FUNCTION_NAMES else "; is it a parameter to be given?"
            raise self.fail(f"unknown name '{tree.id}'; the names known here are {known}{cure}")
        return symbol(tree.id)

    def unary(self, tree: ast.UnaryOp, depth: int) -> Expr:
        operand = self.read(tree.operand, depth)
        if isinstance(tree.op, ast.Not):
            return logical("not", operand)
        if isinstance(tree.op, ast.USub):
            return -as_node(operand)
        if isinstance(tree.op, ast.UAdd):
            return operand
        raise self.fail("the operator ~ is not arithmetic; use 'not' for conditions")

    def operation(self, tree: ast.BinOp, depth: int) -> Expr:
        op = _BINARY.get(type(tree.op))
        if op is None:
            hint = "; powers are written **" if isinstance(tree.op, ast.BitXor) else ""
            raise self.fail(f"the operator {type(tree.op).__name__} is not arithmetic{hint}")
        return binary(op, self.read(tree.left, depth), self.read(tree.right, depth))

    def comparison(self, tree: ast.Compare, depth: int) -> Expr:
        values = [self.read(t, depth) for t in (tree.left, *tree.comparators)]
        parts = []
        for sign, a, b in zip(tree.ops, values, values[1:], strict=False):
            if type(sign) not in _COMPARE:
                raise self.fail(f"the comparison {type(sign).__name__} is not one of < <= > >= == !=")
            parts.append(compare(_COMPARE[type(sign)], a, b))
        joined = parts[0]
        for part in parts[1:]:
            joined = logical("and", joined, part)
        return joined

    def boolean(self, tree: ast.BoolOp, depth: int) -> Expr:
        op = "and" if isinstance(tree.op, ast.And) else "or"
        joined, *rest = (self.read(t, depth) for t in tree.values)
        for part in rest:
            joined = logical(op, joined, part)
        return joined

    def choice(self, tree: ast.IfExp, depth: int) -> Expr:
        return where(*(self.read(t, depth) for t in (tree.test, tree.body, tree.orelse)))

    def call(self, tree: ast.Call, depth: int) -> Expr:
        name = tree.func.id if isinstance(tree.func, ast.Name) else None
        if name is None or tree.keywords:
            raise self.fail(f"only plain calls of {', '.join(sorted(FUNCTION_NAMES))} are known")
        if name in DERIVATIVES and self.derivatives:
            return self.derivative(name, tree)
        if name not in FUNCTION_NAMES:
            raise self.fail(f"unknown function '{name}'; the functions are {', '.join(sorted(FUNCTION_NAMES))}")
        values = [self.read(a, depth) for a in tree.args]
        wanted = 1 if name in _ONE_ARGUMENT else 3 if name == "where" else 2
        if len(values) != wanted and not (name in ("min", "max") and len(values) > 2):
            raise self.fail(f"{name} takes {wanted} argument{'s' * (wanted > 1)}, got {len(values)}")
        if name == "where":
            return where(*values)
        if name in ("min", "max"):
            return minimum(*values) if name == "min" else maximum(*values)
        return function(name, *values)

    def derivative(self, name: str, tree: ast.Call) -> Expr:
        argument = tree.args[0] if len(tree.args) == 1 else None
        if not isinstance(argument, ast.Name) or argument.id not in self.derivatives:
            raise self.fail(f"{name} takes the name of one state, of {', '.join(self.derivatives)}")
        return symbol(f"{name}({argument.id})")


_RULES: dict[type, Callable[[_Reader, Any, int], Expr]] = {
    ast.Constant: _Reader.number,
    ast.Name: _Reader.name,
    ast.UnaryOp: _Reader.unary,
    ast.BinOp: _Reader.operation,
    ast.Compare: _Reader.comparison,
    ast.BoolOp: _Reader.boolean,
    ast.IfExp: _Reader.choice,
    ast.Call: _Reader.call,
}


def parse(
    text: str,
    *,
    names: Collection[str] | None = None,
    what: str = "expression",
    derivatives: Collection[str] = (),
) -> Expr:
    """Read one equation from text.

    `names` are the symbols allowed (None: any), `what` names the equation in errors, and `derivatives` are the states
    whose first derivatives ddx(u), ddy(u), … may appear. Raises EquationError.

    >>> parse("x - x**3", names=["x"])
    x - x**3
    >>> parse("k*z", names=["x", "k"], what="drift of x")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    sdesim.parsing.EquationError: drift of x 'k*z': unknown name 'z'; the names known here are k, x; ...
    """
    reader = _Reader(text, names, what, derivatives)
    if len(text) > MAX_LENGTH:
        raise reader.fail(f"{len(text)} characters; at most {MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise reader.fail(f"not an arithmetic expression ({getattr(error, 'msg', None) or error})") from None
    return reader.read(tree)


def as_expr(
    value: str | float | Expr | Callable[..., Any] | sympy.Expr,
    names: Collection[str] | None = None,
    what: str = "expression",
    derivatives: Collection[str] = (),
) -> Expr:
    """An equation given as text, a number, a function of the names it uses, a SymPy expression, or an `Expr`.

    >>> import numpy as np
    >>> as_expr(lambda x, k: np.sin(k * x), names=["x", "k"])
    sin(k*x)
    """
    node = _read(value, names, what, derivatives)
    wrong = objection(node)
    if wrong:
        raise _Reader(value if isinstance(value, str) else "", names, what, derivatives).fail(wrong)
    _check_names(node, names, what, derivatives)
    return node


def _read(value: Any, names: Collection[str] | None, what: str, derivatives: Collection[str]) -> Expr:
    if isinstance(value, str):
        return parse(value, names=names, what=what, derivatives=derivatives)
    sympy_module = sys.modules.get("sympy")
    if sympy_module is not None and isinstance(value, sympy_module.Basic):
        try:
            return from_sympy(value)
        except (ValueError, TypeError) as error:
            raise EquationError(f"{what}: {error}") from None
    if callable(value) and not isinstance(value, Expr):
        value = _traced(value, names, what)
    try:
        return as_node(value)
    except TypeError as error:
        raise EquationError(f"{what}: {error}") from None


def _check_names(node: Expr, names: Collection[str] | None, what: str, derivatives: Collection[str]) -> None:
    known = {f"{d}({s})" for d in DERIVATIVES for s in derivatives} | set(names or ())
    unknown = sorted(free_symbols(node) - known) if names is not None else []
    if unknown:
        raise EquationError(f"{what} '{node!r}': unknown name '{unknown[0]}'; the names known here are "
                            f"{', '.join(sorted(known)) or 'none'}")  # fmt: skip


def _traced(fn: Callable[..., Any], names: Collection[str] | None, what: str) -> Any:
    """Call a plain function with symbols named like its parameters; a default stands for a name unknown here."""
    try:
        arguments = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        raise EquationError(f"{what}: the parameter names of {fn!r} cannot be read; wrap it in a lambda") from None
    wanted = [a for a in arguments if names is None or a.name in names or a.default is a.empty]
    unknown = [a.name for a in wanted if names is not None and a.name not in names]
    if unknown:
        known = ", ".join(sorted(names or ()))
        raise EquationError(f"{what}: the function asks for '{unknown[0]}'; the names known here are {known}")
    by_place = [symbol(a.name) for a in wanted if a.kind is a.POSITIONAL_ONLY]
    by_name = {a.name: symbol(a.name) for a in wanted if a.kind is not a.POSITIONAL_ONLY}
    try:
        with symbolic_equality():
            return fn(*by_place, **by_name)
    except Exception as error:  # whatever a user's function raises on symbols
        raise EquationError(f"{what}: the function cannot be traced: {error}") from error
