"""Tridiagonal elimination as machine code: lanes of neighbouring lines, across rows or along transposed blocks of them.

Values are (members, outer, n, inner) with the elimination along n. Where inner > 1 lanes lie along it, in pieces of one
width of which the last overlaps; along the last axis `LANES` rows are transposed into a buffer (cell, lane) and back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, VOID

LANES, TILE, WIDTHS = 16, 8, (32, 8, 1)
FACTORS = ("p", "low", "high", "z", "corner", "share")
_NUMBERS = ("members", "outer", "n", "inner", "own", "wraps")


class _Function:
    """One function under construction: its arguments by name."""

    def __init__(self, module: ir.Module, name: str, pointers: Sequence[str]) -> None:
        kinds = [*[I64] * len(_NUMBERS), F64, *[F64_POINTER] * len(pointers)]
        fn = ir.Function(module, ir.FunctionType(VOID, kinds), name)
        for argument in fn.args[len(_NUMBERS) + 1 :]:
            argument.add_attribute("noalias")
        self.a = dict(zip((*_NUMBERS, "a", *pointers), fn.args, strict=True))
        self.b = ir.IRBuilder(fn.append_basic_block())

    def index(self, *terms: Any) -> Any:
        """Horner's rule: index(i) = i, index(i, n, j) = i·n + j, …"""
        total = terms[0]
        for size, place in zip(terms[1::2], terms[2::2]):
            total = self.b.add(self.b.mul(total, size), place)
        return total

    def load(self, name: str, place: Any, width: int = 1) -> Any:
        """A number, or `width` of them from a place on."""
        pointer = self.b.gep(self.a[name], [place])
        if width == 1:
            return self.b.load(pointer)
        return self.b.load(self.b.bitcast(pointer, ir.VectorType(F64, width).as_pointer()), align=8)

    def store(self, value: Any, name: str, place: Any) -> None:
        pointer = self.b.gep(self.a[name], [place])
        if isinstance(value.type, ir.VectorType):
            pointer = self.b.bitcast(pointer, value.type.as_pointer())
        self.b.store(value, pointer, align=8)

    def spread(self, value: Any, width: int) -> Any:
        """A number in all lanes."""
        if width == 1:
            return value
        kind = ir.VectorType(F64, width)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return self.b.shuffle_vector(first, ir.Constant(kind, ir.Undefined),
                                     ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width))

    def least(self, x: Any, y: Any) -> Any:
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def pieces(self, count: Any, width: int) -> Any:
        """How many vectors cover so many cells; `piece` tells where each begins, the last one overlapping."""
        return self.b.sdiv(self.b.add(count, integer(width - 1)), integer(width))

    def piece(self, k: Any, count: Any, width: int) -> Any:
        return self.least(self.b.mul(k, integer(width)), self.b.sub(count, integer(width)))


def _right(f: _Function, place: Any, width: int) -> Any:
    """y − a f."""
    y, was = f.load("y", place, width), f.load("f", place, width)
    return f.b.fsub(y, f.b.fmul(f.spread(f.a["a"], width), was))


def _carry(f: _Function, kind: Any, start: Any) -> Any:
    """A variable of the loop that follows, from `start` on."""
    with f.b.goto_entry_block():
        held = f.b.alloca(kind)
    f.b.store(start, held)
    return held


def _solve_lanes(f: _Function, width: int, place: Any, factor: Any, line: Any, right: Any, target: str) -> None:
    """Elimination of `width` lines: `place` and `factor` tell where row i of the values and of the factors lies."""
    b, n = f.b, f.a["n"]
    kind = ir.VectorType(F64, width) if width > 1 else F64
    held = _carry(f, kind, b.fmul(right(integer(0)), f.load("p", factor(integer(0)), width)))
    f.store(b.load(held), target, place(integer(0)))
    with loop(b, n, integer(1)) as i:
        k = factor(i)
        value = b.fsub(b.fmul(right(i), f.load("p", k, width)), b.fmul(f.load("low", k, width), b.load(held)))
        b.store(value, held)
        f.store(value, target, place(i))
    with loop(b, n, integer(1)) as j:
        i = b.sub(b.sub(n, integer(1)), j)
        own = f.load(target, place(i), width)
        value = b.fsub(own, b.fmul(f.load("high", factor(i), width), b.load(held)))
        b.store(value, held)
        f.store(value, target, place(i))
    with b.if_then(b.icmp_signed("!=", f.a["wraps"], integer(0))):
        end = f.load(target, place(b.sub(n, integer(1))), width)
        total = b.fadd(b.load(held), b.fmul(f.load("corner", line, width), end))
        b.store(b.fmul(total, f.load("share", line, width)), held)
        with loop(b, n) as i:
            taken = b.fmul(f.load("z", factor(i), width), b.load(held))
            f.store(b.fsub(f.load(target, place(i), width), taken), target, place(i))


def _solve_across(module: ir.Module, width: int) -> None:
    f = _Function(module, "solve_across", (*FACTORS, "buffer", "y", "f", "x"))
    a, b = f.a, f.b
    pieces = f.pieces(a["inner"], width)
    with loop(b, a["members"], name="m") as m, loop(b, a["outer"], name="o") as o, loop(b, pieces, name="piece") as k:
        s = f.piece(k, a["inner"], width)
        own = b.mul(m, a["own"])

        def place(i: Any) -> Any:
            return f.index(m, a["outer"], o, a["n"], i, a["inner"], s)

        def factor(i: Any) -> Any:
            return f.index(own, a["outer"], o, a["n"], i, a["inner"], s)

        line = f.index(own, a["outer"], o, a["inner"], s)
        _solve_lanes(f, width, place, factor, line, lambda i: _right(f, place(i), width), "x")
    b.ret_void()


def _solve_along(module: ir.Module) -> None:
    f = _Function(module, "solve_along", (*FACTORS, "buffer", "y", "f", "x"))
    a, b, lanes = f.a, f.b, integer(LANES)
    blocks = f.pieces(a["outer"], LANES)
    with loop(b, a["members"], name="m") as m, loop(b, blocks, name="block") as k:
        first = b.mul(k, lanes)
        factors_at = f.index(b.mul(m, a["own"]), blocks, k)

        def row(r: int, m: Any = m, first: Any = first) -> Any:
            inside = f.least(b.add(first, integer(r)), b.sub(a["outer"], integer(1)))
            return b.mul(f.index(m, a["outer"], inside), a["n"])

        rows = [row(r) for r in range(LANES)]
        _transpose(f, rows, lambda place, width: _right(f, place, width), into=True)
        _solve_lanes(f, LANES, lambda i: b.mul(i, lanes), lambda i: b.mul(f.index(factors_at, a["n"], i), lanes),
                     b.mul(factors_at, lanes), lambda i: f.load("buffer", b.mul(i, lanes), LANES), "buffer")
        _transpose(f, rows, lambda place, width: f.load("buffer", place, width), into=False)
    b.ret_void()


def _transpose(f: _Function, rows: Sequence[Any], read: Any, into: bool) -> None:
    """Rows (row, cell) into the buffer (cell, lane), or the buffer into the rows of x."""
    b, n = f.b, f.a["n"]
    with b.if_else(b.icmp_signed(">=", n, integer(TILE))) as (tiles, cells):
        with tiles, loop(b, f.pieces(n, TILE), name="tile") as k:
            j = f.piece(k, n, TILE)
            spots = [b.mul(b.add(j, integer(c)), integer(LANES)) for c in range(TILE)]
            for low in range(0, LANES, TILE):
                lines = [b.add(rows[low + r], j) for r in range(TILE)]
                lane = [b.add(spot, integer(low)) for spot in spots]
                source, target = (lines, lane) if into else (lane, lines)
                values = _turned(b, [read(place, TILE) for place in source])
                for value, place in zip(values, target):
                    f.store(value, "buffer" if into else "x", place)
        with cells, loop(b, n, name="cell") as j:
            for r, start in enumerate(rows):
                line, lane = b.add(start, j), b.add(b.mul(j, integer(LANES)), integer(r))
                f.store(read(line if into else lane, 1), *(("buffer", lane) if into else ("x", line)))


def _turned(b: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """The transpose of as many vectors as each has lanes: at each of log₂ stages, halves of pairs change places."""
    size, step = len(rows), 1
    while step < size:
        after = list(rows)
        for i in range(size):
            if not i & step:
                for place, half in ((i, 0), (i + step, step)):
                    mask = [(k & ~step | half) if not k & step else (k & ~step | half) + size for k in range(size)]
                    after[place] = b.shuffle_vector(rows[i], rows[i + step],
                                                    ir.Constant(ir.VectorType(ir.IntType(32), size), mask))
        rows, step = after, 2 * step
    return rows


def _apply_across(module: ir.Module, width: int) -> None:
    f = _Function(module, "apply_across", ("low", "here", "high", "y", "x"))
    a, b, n = f.a, f.b, f.a["n"]
    with loop(b, a["members"], name="m") as m, loop(b, a["outer"], name="o") as o, loop(b, n, name="row") as i:
        before, after = _neighbours(f, i)
        with loop(b, f.pieces(a["inner"], width), name="piece") as k:
            s = f.piece(k, a["inner"], width)
            places = [f.index(m, a["outer"], o, n, row, a["inner"], s) for row in (i, before, after)]
            _store_sum(f, places, f.index(b.mul(m, a["own"]), a["outer"], o, n, i, a["inner"], s), width)
    b.ret_void()


def _apply_along(module: ir.Module) -> None:
    f = _Function(module, "apply_along", ("low", "here", "high", "y", "x"))
    a, b, n = f.a, f.b, f.a["n"]
    inside = b.sub(n, integer(2))
    with loop(b, a["members"], name="m") as m, loop(b, a["outer"], name="o") as o:
        start, own = (b.mul(f.index(lead, a["outer"], o), n) for lead in (m, b.mul(m, a["own"])))

        def one(j: Any, start: Any = start, own: Any = own) -> None:
            before, after = _neighbours(f, j)
            _store_sum(f, [b.add(start, k) for k in (j, before, after)], b.add(own, j), 1)

        with b.if_else(b.icmp_signed(">=", inside, integer(TILE))) as (tiles, cells):
            with tiles:
                with loop(b, f.pieces(inside, TILE), name="tile") as k:
                    j = b.add(f.piece(k, inside, TILE), integer(1))
                    places = [b.add(start, b.add(j, integer(step))) for step in (0, -1, 1)]
                    _store_sum(f, places, b.add(own, j), TILE)
                one(integer(0))
                one(b.sub(n, integer(1)))
            with cells, loop(b, n, name="cell") as j:
                one(j)
    b.ret_void()


def _neighbours(f: _Function, i: Any) -> tuple[Any, Any]:
    """The rows before and after row i; beyond the ends those of the far side."""
    b, n, one = f.b, f.a["n"], integer(1)
    before = b.select(b.icmp_signed("==", i, integer(0)), b.sub(n, one), b.sub(i, one))
    after = b.select(b.icmp_signed("==", i, b.sub(n, one)), integer(0), b.add(i, one))
    return before, after


def _store_sum(f: _Function, places: Sequence[Any], own: Any, width: int) -> None:
    """(here·y + low·y_before) + high·y_after."""
    here, low, high = (f.b.fmul(f.load(name, own, width), f.load("y", place, width))
                       for name, place in zip(("here", "low", "high"), places))
    f.store(f.b.fadd(f.b.fadd(here, low), high), "x", places[0])


@lru_cache(maxsize=8)
def _compiled(width: int) -> Compiled:
    module = ir.Module()
    _solve_across(module, width)
    _apply_across(module, width)
    if width == 1:
        _solve_along(module)
        _apply_along(module)
    return Compiled(module)


def entries(width: int) -> dict[str, Any]:
    """The functions for lanes of one width; width 1 has those along the last axis too."""
    code = _compiled(width)
    names = {"solve_across": 10, "apply_across": 5} | ({"solve_along": 10, "apply_along": 5} if width == 1 else {})
    numbers = [ctypes.c_int64] * len(_NUMBERS)
    found: dict[str, Any] = {"code": code}
    for name, pointers in names.items():
        found[name] = code.function(name, *numbers, ctypes.c_double, *[ctypes.c_void_p] * pointers)
    return found
