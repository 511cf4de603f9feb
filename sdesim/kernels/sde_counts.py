"""Poisson counts in a traced step: one function for all of them, where each written out would make the step too long.

A quantile is some 400 operations. In LLVM the counts of a step are rows, filled by one vectorised function before the
loop over members that uses them: level by level, since the mean of a count may depend on counts before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate, walk
from sdesim.expressions import Expr
from sdesim.kernels.llvm import loop
from sdesim.kernels.machines import F64_POINTER, I64, VOID, CMachine, CValue, LLVMMachine
from sdesim.poisson import poisson_quantile


def levels(roots: Sequence[Expr]) -> list[list[Expr]]:
    """The counts below the roots: those whose means need none of them, those that need only the former, and so on.

    >>> from sdesim.expressions import function, symbol
    >>> first = function("poisson", symbol("a"), symbol("u:0"))
    >>> second = function("poisson", first + 1, symbol("u:1"))
    >>> [len(level) for level in levels([first + second])]
    [1, 1]
    """
    depth: dict[Expr, int] = {}
    found: list[list[Expr]] = []
    for node in walk(roots):
        depth[node] = max((depth[a] for a in node.args), default=0)
        if node.op == "poisson":
            found += [[]] if depth[node] == len(found) else []
            found[depth[node]].append(node)
            depth[node] += 1
    return found


def llvm_count(module: ir.Module) -> Any:
    """count(means, u, n): each mean of a row becomes the Poisson quantile of it at u."""
    fn = ir.Function(module, ir.FunctionType(VOID, [F64_POINTER, F64_POINTER, I64]), "count")
    fn.attributes.add("noinline")
    means, u, n = fn.args
    means.add_attribute("noalias")
    u.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    with loop(b, n, hints={"interleave.count": 2}) as i:  # long chains of operations: two vectors at once
        place = b.gep(means, [i])
        b.store(poisson_quantile(m, m.wrap(b.load(place)), m.wrap(b.load(b.gep(u, [i])))).value, place)
    b.ret_void()
    return fn


def llvm_counts(
    module: ir.Module, m: LLVMMachine, found: list[list[Expr]], rows: Mapping[Expr, Any], u_row: Callable[[str], Any],
    n: Any, local: Callable[[Any, Mapping[Expr, Any]], dict[Any, Any]],
) -> None:  # fmt: skip
    """Fill the row of every count; `local(i, rows)` are the values at member i, with counts that are known by then."""
    b = m.builder
    known: dict[Expr, Any] = {}
    count = llvm_count(module) if found else None
    for level in found:
        with loop(b, n) as i:
            for node, mean in zip(level, evaluate([c.args[0] for c in level], local(i, known), m), strict=True):
                b.store(mean.value, b.gep(rows[node], [i]))
        for node in level:
            b.call(count, [rows[node], u_row(node.args[1].value), n])
            known[node] = rows[node]


def c_count() -> str:
    """count(mean, u), the Poisson quantile."""
    m = CMachine()
    value = poisson_quantile(m, CValue(m, "mean", "double"), CValue(m, "u", "double"))
    lines = "".join(f"  {line}\n" for line in m.lines)
    return f"DEVICE double count(double mean, double u) {{\n{lines}  return {value.text};\n}}\n"


def c_counts(m: CMachine, found: list[list[Expr]], env: Mapping[Any, CValue]) -> dict[Any, CValue]:
    """`env` and the values of all counts."""
    values = dict(env)
    for level in found:
        means = evaluate([c.args[0] for c in level], values, m)
        for node, mean in zip(level, means, strict=True):
            values[node] = m.let("double", f"count({mean.text}, {values[node.args[1].value].text})")
    return values
