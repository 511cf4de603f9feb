"""Calculus on expression graphs: substitution, derivatives, and evaluation on any machine.

`evaluate` walks a graph in written order and applies each operation on the values of a `Machine`
(`sdesim.arithmetic`). On NumPy arrays that gives the reference; on LLVM values or on C text the same walk *is* the code
generator. Powers are lowered here, once for all machines: a constant integer or half-integer exponent becomes
products and one square root (square and multiply, in the same order everywhere).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sdesim import arithmetic, poisson, powers
from sdesim.arithmetic import Machine
from sdesim.expressions import (
    COMPARISONS,
    Expr,
    Operand,
    as_node,
    binary,
    const,
    function,
    is_zero,
    make,
    symbol,
    where,
)


def walk(roots: Iterable[Expr], known: Container[Any] = ()) -> list[Expr]:
    """Every node below the roots, operands before the operations that use them, each once; not below `known` nodes.

    The order is that of writing: depth first, left to right, without recursion.
    """
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if node not in known:
                stack.extend((arg, False) for arg in reversed(node.args) if arg not in seen)
    return order


def free_symbols(*nodes: Expr) -> frozenset[str]:
    """The names of the symbols in the expressions.

    >>> sorted(free_symbols(symbol("x") * symbol("k")))
    ['k', 'x']
    """
    return frozenset(node.value for node in walk(nodes) if node.op == "symbol")


def rebuild(node: Expr, args: tuple[Expr, ...]) -> Expr:
    """The node's operation on other operands, simplified as if written anew."""
    if node.op in ("add", "sub", "mul", "div", "pow"):
        return binary(node.op, *args)
    return -args[0] if node.op == "neg" else make(node.op, *args, value=node.value)


def substitute(node: Expr, replacements: Mapping[str, Operand]) -> Expr:
    """The expression with symbols replaced by other expressions or numbers.

    >>> substitute(symbol("x") ** 2, {"x": symbol("y") + 1})
    (y + 1)**2
    """
    done: dict[Expr, Expr] = {}
    for n in walk([node]):
        if n.op == "symbol" and n.value in replacements:
            done[n] = as_node(replacements[n.value])
        else:
            done[n] = rebuild(n, tuple(done[a] for a in n.args)) if n.args else n
    return done[node]


def constant_value(node: Expr) -> float | None:
    """The number a symbol-free arithmetic expression stands for, as in the exponent 2/3; None if it has symbols."""
    if node.op == "const":
        return float(node.value)
    if node.op not in ("add", "sub", "mul", "div", "neg"):
        return None
    values = [constant_value(a) for a in node.args]
    if any(v is None for v in values):
        return None
    a, *rest = (v for v in values if v is not None)
    if node.op == "neg":
        return -a
    b = rest[0]
    if node.op == "div":
        return a / b if b else math.nan
    return a + b if node.op == "add" else a - b if node.op == "sub" else a * b


def _call(name: str, value: Expr) -> Expr:
    return function(name, value)


# d f(a)/da for each function of one variable
_SLOPES: dict[str, Any] = {
    "sqrt": lambda f, a: 0.5 / f,
    "exp": lambda f, a: f,
    "log": lambda f, a: 1.0 / a,
    "sin": lambda f, a: _call("cos", a),
    "cos": lambda f, a: -_call("sin", a),
    "tan": lambda f, a: 1.0 + f**2,
    "sinh": lambda f, a: _call("cosh", a),
    "cosh": lambda f, a: _call("sinh", a),
    "tanh": lambda f, a: 1.0 - f**2,
    "abs": lambda f, a: _call("sign", a),
    "sign": lambda f, a: const(0.0),
}


def _chain(outer: Expr, inner: Expr) -> Expr:
    """The product of two slopes; nought where the inner one is, even if the outer is infinite as in √max(x, 0)."""
    if is_zero(inner):
        return const(0.0)
    if inner.op == "where":
        c, a, b = inner.args
        return where(c, _chain(outer, a), _chain(outer, b))
    return outer * inner


def _slope(node: Expr, d: Mapping[Expr, Expr]) -> Expr:
    """The derivative of one node, given those of its operands."""
    if node.op in _SLOPES:
        (a,) = node.args
        return _chain(_SLOPES[node.op](node, a), d[a])
    if node.op == "neg":
        return -d[node.args[0]]
    if node.op == "where":
        c, a, b = node.args
        return const(0.0) if is_zero(d[a]) and is_zero(d[b]) else where(c, d[a], d[b])
    if len(node.args) != 2 or node.op in COMPARISONS or node.op in ("and", "or"):
        return const(0.0)
    a, b = node.args
    if node.op in ("min", "max"):
        if is_zero(d[a]) and is_zero(d[b]):
            return const(0.0)
        return where(a < b if node.op == "min" else a > b, d[a], d[b])
    if node.op in ("add", "sub"):
        return d[a] + d[b] if node.op == "add" else d[a] - d[b]
    if node.op == "mul":
        return d[a] * b + a * d[b]
    if node.op == "div":
        return d[a] / b if is_zero(d[b]) else (d[a] - node * d[b]) / b
    return _power_slope(node, d)


def _power_slope(node: Expr, d: Mapping[Expr, Expr]) -> Expr:
    a, b = node.args
    if is_zero(d[b]):
        c = constant_value(b)
        lower = a ** (b - 1 if c is None else c - 1)
        return _chain((b if c is None else c) * lower, d[a])
    growth = _call("log", a) * d[b]
    return node * (growth if is_zero(d[a]) else growth + b * d[a] / a)


def differentiate(node: Expr, name: str) -> Expr:
    """The partial derivative ∂node/∂name; `where`, `min`, `max`, `abs` and `sign` are differentiated piecewise.

    >>> from sdesim.parsing import parse
    >>> differentiate(parse("sin(x) * k"), "x")
    cos(x)*k
    """
    target = symbol(name)
    slopes: dict[Expr, Expr] = {}
    for n in walk([node]):
        slopes[n] = const(1.0) if n is target else _slope(n, slopes) if n.args else const(0.0)
    return slopes[node]


def power(machine: Machine, base: Any, exponent: float) -> Any:
    """base**exponent for a constant exponent: products and √ for half-integers up to 64, else exp(exponent·log base).

    >>> float(power(arithmetic.NUMPY, 2.0, -3))
    0.125
    """
    doubled = 2.0 * exponent
    if not (doubled.is_integer() and abs(exponent) <= 64):
        return powers.power(machine, base, machine.number(exponent))
    if exponent < 0:
        return machine.number(1.0) / power(machine, base, -exponent)
    whole = math.floor(exponent)
    product: Any = machine.sqrt(base) if whole != exponent else None
    square, n = base, whole
    while n:
        if n & 1:
            product = square if product is None else product * square
        n >>= 1
        square = square * square if n else square
    return machine.number(1.0) if product is None else product


_BINARY: dict[str, Any] = {
    "add": lambda m, a, b: a + b,
    "sub": lambda m, a, b: a - b,
    "mul": lambda m, a, b: a * b,
    "div": lambda m, a, b: a / b,
    "neg": lambda m, a: -a,
    "lt": lambda m, a, b: a < b,
    "le": lambda m, a, b: a <= b,
    "gt": lambda m, a, b: a > b,
    "ge": lambda m, a, b: a >= b,
    "eq": lambda m, a, b: a == b,
    "ne": lambda m, a, b: a != b,
    "and": lambda m, a, b: a & b,
    "or": lambda m, a, b: a | b,
    "not": lambda m, a: ~a,
    "where": lambda m, c, a, b: m.select(c, a, b),
    "sqrt": lambda m, a: m.sqrt(a),
    "abs": lambda m, a: m.abs(a),
    # what methods use and equations cannot say
    "floor": poisson.floor,
    "poisson": poisson.poisson_quantile,
}


def apply(machine: Machine, node: Expr, values: Sequence[Any]) -> Any:
    """The value of one operation from those of its operands."""
    if node.op == "pow":
        exponent = constant_value(node.args[1])
        return powers.power(machine, *values) if exponent is None else power(machine, values[0], exponent)
    rule = _BINARY.get(node.op) or arithmetic.FUNCTIONS[node.op]
    return rule(machine, *values)


def evaluate(nodes: Sequence[Expr], env: Mapping[Any, Any], machine: Machine = arithmetic.NUMPY) -> list[Any]:
    """The values of the expressions, with symbols and loads looked up in `env`, on a machine's kind of number.

    Shared nodes are evaluated once; `env` may hold values of whole nodes too, under the node itself. On
    `sdesim.arithmetic.NUMPY` the values are arrays or floats.

    >>> from sdesim.parsing import parse
    >>> evaluate([parse("x**2 + 1")], {"x": 3.0})
    [np.float64(10.0)]
    """
    values: dict[Expr, Any] = {}
    with np.errstate(all="ignore"):  # overflow and NaN are results here: a diverging member is marked, not warned about
        for n in walk(nodes, env):
            if n in env:
                values[n] = env[n]
            elif n.op in ("symbol", "load"):
                if n.value not in env:
                    raise KeyError(f"no value for {n.value!r}; values are given for {sorted(map(str, env))}")
                values[n] = env[n.value]
            elif n.op == "const":
                values[n] = machine.number(n.value)
            else:
                values[n] = apply(machine, n, [values[a] for a in n.args])
    return [values[n] for n in nodes]
