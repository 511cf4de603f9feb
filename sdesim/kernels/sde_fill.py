"""Rows of random numbers for a block of members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import host_has, loop
from sdesim.kernels.machines import I64, I64_POINTER, REAL, VOID, LLVMMachine
from sdesim.reals import DOUBLE, SINGLE, Format
from sdesim.streams import word_group

_ONCE = {"interleave.count": 4 if host_has("avx512f") else 2}
CHAIN = {DOUBLE: _ONCE, SINGLE: {**_ONCE, "vectorize.width": 16}}
"""Several vectors at once, as there are registers, where the loop is one chain of operations that wait for each other;
LLVM would measure float32's vectors by the 64-bit words beside it."""


def rows_function(module: ir.Module, name: str, arguments: list[Any], rows: int) -> tuple[Any, ir.IRBuilder]:
    """An internal function whose first `rows` arguments are distinct rows."""
    fn = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    fn.attributes.add("noinline")
    for a in fn.args[:rows]:
        a.add_attribute("noalias")
    return fn, ir.IRBuilder(fn.append_basic_block())


def fill_function(module: ir.Module, name: str, transform: Callable[..., Any], form: Format = DOUBLE) -> Any:
    """fill(rows…, members, n, c1, c2, purpose, k0, k1): the random numbers of a counter for each member.

    The words are put into the rows first, and transformed there by a second loop: a processor sees some hundred
    operations ahead, and so more than one of these chains, but not more than one of both in turn.
    """
    count, word = form.draws, ir.IntType(form.bits)
    types = [*[REAL[form].as_pointer()] * count, I64_POINTER, *[I64] * 6]
    fn, b = rows_function(module, name, types, rows=count + 1)
    rows, (members, n, *places) = fn.args[:count], fn.args[count:]
    words = [b.bitcast(row, word.as_pointer()) for row in rows]
    m = LLVMMachine(b, form)
    c1, c2, c3, k0, k1 = (m.wrap(w) for w in places)
    with loop(b, n, hints=CHAIN[form]) as i:
        counter = [m.wrap(b.load(b.gep(members, [i]))), c1, c2, c3]
        for value, row in zip(word_group(m, counter, (k0, k1)), words, strict=True):
            b.store(value.value, b.gep(row, [i]))
    with loop(b, n, hints=CHAIN[form]) as i:
        group = [m.wrap(b.load(b.gep(row, [i]))) for row in words]
        for value, row in zip(transform(m, group), rows, strict=True):
            b.store(value.value, b.gep(row, [i]))
    b.ret_void()
    return fn
