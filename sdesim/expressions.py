"""Symbolic expressions: an immutable, hash-consed graph of elementary operations.

A model's equations, a method's step and a kernel's body are all graphs of `Expr`. Building one never reorders a sum
or a product, so that evaluating a graph in written order gives the same bits on every machine (NumPy, LLVM, CUDA).
Equal graphs are the same object: hash-consing is the only common-subexpression elimination.

Only identities that hold for every finite number are applied while building: 0 + x = x, 1·x = x, 0·x = 0, −(−x) = x.
A zero found by them is *structural*: `is_zero` tells it from a number that happens to be zero at run time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, TypeAlias
from weakref import WeakValueDictionary

import numpy as np

Number: TypeAlias = int | float | np.floating[Any] | np.integer[Any]
Operand: TypeAlias = "Expr | Number"

COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
LOGICAL = ("and", "or", "not")
UNARY = ("sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "abs", "sign")
BOOLEAN = frozenset(COMPARISONS) | frozenset(LOGICAL)
_TABLE: WeakValueDictionary[tuple[Any, ...], Expr] = WeakValueDictionary()
_LOCK = threading.Lock()
_SYMBOLIC_EQUALITY: ContextVar[bool] = ContextVar("symbolic equality", default=False)


class Expr:
    """One node of a symbolic graph.

    `op` names the operation, `args` are its operands, `value` is the number of a "const", the name of a "symbol" or
    the (name, offset) of a "load". Arithmetic, comparisons and NumPy functions on an `Expr` build new nodes.

    >>> x = symbol("x")
    >>> (x - x**3).op, (x + 1) is (x + 1)
    ('sub', True)
    """

    __slots__ = ("__weakref__", "args", "op", "value")
    op: str
    args: tuple[Expr, ...]
    value: Any

    def __add__(self, other: Operand) -> Expr:
        return binary("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return binary("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return binary("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return binary("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return binary("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return binary("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return binary("div", other, self)

    def __pow__(self, other: Operand) -> Expr:
        return binary("pow", self, other)

    def __rpow__(self, other: Operand) -> Expr:
        return binary("pow", other, self)

    def __neg__(self) -> Expr:
        if self.op == "neg":
            return self.args[0]
        return const(-self.value) if self.op == "const" else make("neg", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return function("abs", self)

    def __lt__(self, other: Operand) -> Expr:
        return compare("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return compare("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return compare("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return compare("ge", self, other)

    # a user's function means the condition by ==; everywhere else == is identity, so that graphs can be keys
    def __eq__(self, other: object) -> Any:
        return compare("eq", self, other) if _SYMBOLIC_EQUALITY.get() else self is other  # type: ignore[arg-type]

    def __ne__(self, other: object) -> Any:
        return compare("ne", self, other) if _SYMBOLIC_EQUALITY.get() else self is not other  # type: ignore[arg-type]

    __hash__ = object.__hash__

    def __and__(self, other: Expr) -> Expr:
        return logical("and", self, other)

    def __or__(self, other: Expr) -> Expr:
        return logical("or", self, other)

    def __invert__(self) -> Expr:
        return logical("not", self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a symbolic value has no truth value, so `if`, `and`, `or`, `not` and chained comparisons cannot "
            "branch on it; write where(condition, value_if_true, value_if_false) instead"
        )

    def __float__(self) -> NoReturn:
        raise TypeError("a symbolic value is not a number; use NumPy's functions (np.sin, ...) on it, not math's")

    __int__ = __index__ = __complex__ = __float__

    def __iter__(self) -> NoReturn:
        raise TypeError("a symbolic value stands for one number and cannot be iterated over or indexed")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        rule = _UFUNCS.get(ufunc.__name__)
        if rule is None or method != "__call__" or options:
            known = ", ".join(sorted(_UFUNCS))
            raise TypeError(f"np.{ufunc.__name__} has no symbolic form here; the functions that have one: {known}")
        return rule(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rules: dict[str, Any] = {"where": where, "clip": _clip}
        rule = rules.get(func.__name__)
        if rule is None:
            raise TypeError(f"np.{func.__name__} has no symbolic form here; np.where and np.clip have one")
        return rule(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(make, value=self.value), (self.op, *self.args)

    def __repr__(self) -> str:
        from sdesim.printing import to_text

        return to_text(self)


@contextmanager
def symbolic_equality() -> Iterator[None]:
    """While a user's function is traced: == and != build conditions, as < does.

    >>> with symbolic_equality():
    ...     symbol("x") == 0
    x == 0
    """
    token = _SYMBOLIC_EQUALITY.set(True)
    try:
        yield
    finally:
        _SYMBOLIC_EQUALITY.reset(token)


def make(op: str, *args: Expr, value: Any = None) -> Expr:
    """The one node (op, args, value), made if it does not exist yet; no simplification."""
    key = (op, args, value.hex() if op == "const" else value)
    with _LOCK:
        node = _TABLE.get(key)
        if node is None:
            node = object.__new__(Expr)
            node.op, node.args, node.value = op, args, value
            _TABLE[key] = node
        return node


def const(value: Number) -> Expr:
    """A number in the graph, as float64.

    >>> const(2).value
    2.0
    """
    return make("const", value=float(value))


def symbol(name: str) -> Expr:
    """A named quantity: a state, a parameter, a coordinate, the time.

    >>> symbol("x") is symbol("x")
    True
    """
    return make("symbol", value=name)


def load(name: str, offset: tuple[int, ...]) -> Expr:
    """The value of the field `name` at the cell `offset` away (one integer per axis, in array order).

    >>> load("u", (0, 1)).value
    ('u', (0, 1))
    """
    return make("load", value=(name, tuple(int(o) for o in offset)))


def as_node(value: Operand) -> Expr:
    """An `Expr` as it is, a real number as a constant; anything else is a TypeError.

    >>> as_node(3).op
    'const'
    """
    if isinstance(value, Expr):
        return value
    if isinstance(value, (int, float, np.floating, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return const(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "fiu":
        return const(float(value))
    raise TypeError(f"wanted a symbolic expression or a real number, got {value!r} ({type(value).__name__})")


def _numeric(value: Operand) -> Expr:
    node = as_node(value)
    if node.op in BOOLEAN:
        raise TypeError(f"the comparison {node!r} is used as a number; write where({node!r}, 1, 0)")
    return node


def is_zero(node: Expr) -> bool:
    """Whether the node is the constant 0: a structural zero.

    >>> is_zero(0 * symbol("x")), is_zero(symbol("x") - symbol("x"))
    (True, False)
    """
    return node.op == "const" and node.value == 0.0


def _is_one(node: Expr) -> bool:
    return node.op == "const" and node.value == 1.0


def binary(op: str, left: Any, right: Any) -> Expr:
    """The operation add, sub, mul, div or pow on two operands, simplified by the identities above."""
    if isinstance(left, np.ndarray) and left.ndim or isinstance(right, np.ndarray) and right.ndim:
        raise TypeError("an expression cannot hold an array; name the array as a parameter or a coefficient field")
    a, b = _numeric(left), _numeric(right)
    if op == "add" and is_zero(a) or op == "mul" and _is_one(a):
        return b
    if op in ("add", "sub") and is_zero(b) or op in ("mul", "div", "pow") and _is_one(b):
        return a
    if op == "sub" and is_zero(a):
        return -b
    if op == "mul" and (is_zero(a) or is_zero(b)) or op == "div" and is_zero(a) and not is_zero(b):
        return const(0.0)
    if op == "pow" and is_zero(b):
        return const(1.0)
    return make(op, a, b)


def function(name: str, *values: Operand) -> Expr:
    """Apply one of the functions sqrt exp log sin cos tan sinh cosh tanh abs sign (one argument), min max (two).

    >>> function("sin", symbol("x"))
    sin(x)
    """
    return make(name, *(_numeric(v) for v in values))


def minimum(first: Operand, second: Operand, *more: Operand) -> Expr:
    """The smallest of the values; NaN if one of them is NaN."""
    node = function("min", first, second)
    return minimum(node, *more) if more else node


def maximum(first: Operand, second: Operand, *more: Operand) -> Expr:
    """The largest of two or more values; NaN if one of them is NaN."""
    node = function("max", first, second)
    return maximum(node, *more) if more else node


def compare(op: str, left: Operand, right: Operand) -> Expr:
    """A comparison, one of lt le gt ge eq ne: the condition of a `where`."""
    return make(op, _numeric(left), _numeric(right))


def logical(op: str, *conditions: Expr) -> Expr:
    """Conditions joined by "and" or "or", or one negated by "not"."""
    for condition in conditions:
        if not isinstance(condition, Expr) or condition.op not in BOOLEAN:
            raise TypeError(f"'{op}' joins comparisons such as x > 0, got {condition!r}")
    return make(op, *conditions)


def where(condition: Expr, if_true: Operand, if_false: Operand) -> Expr:
    """`if_true` where the condition holds, else `if_false`.

    >>> where(symbol("x") > 0, 1, -1)
    where(x > 0, 1, -1)
    """
    if not isinstance(condition, Expr) or condition.op not in BOOLEAN:
        raise TypeError(f"where wants a comparison such as x > 0 as its condition, got {condition!r}")
    return make("where", condition, _numeric(if_true), _numeric(if_false))


def _clip(value: Operand, lowest: Operand | None = None, highest: Operand | None = None) -> Expr:
    node = as_node(value)
    node = node if lowest is None else maximum(node, lowest)
    return node if highest is None else minimum(node, highest)


_UFUNCS: dict[str, Any] = {
    "negative": lambda a: -a,
    "positive": lambda a: a,
    "square": lambda a: a**2,
    "reciprocal": lambda a: 1.0 / a,
    "absolute": abs,
    "fabs": abs,
    "minimum": minimum,
    "maximum": maximum,
}
for _name in ("sqrt", "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign"):
    _UFUNCS[_name] = partial(function, _name)
for _name, _op in (
    ("add", "add"),
    ("subtract", "sub"),
    ("multiply", "mul"),
    ("divide", "div"),
    ("power", "pow"),
):
    _UFUNCS[_name] = partial(binary, _op)
for _name, _op in zip(
    ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"), COMPARISONS, strict=True
):
    _UFUNCS[_name] = partial(compare, _op)
for _name in LOGICAL:
    _UFUNCS[f"logical_{_name}"] = partial(logical, _name)
