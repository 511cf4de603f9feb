"""The loops of multigrid and conjugate gradients as machine code, each one pass over memory.

A pass does several things to every row, each behind the one before: while the first reaches row r, the second works on
row r − lag, for all that it needs of its neighbours is there. So three sweeps of a smoother and the residual after
them read memory once:

    down       u = w₀D⁻¹b, two sweeps u ← u + w(D⁻¹(b + Σ) − u), and r = b + Σ − Du, its sums over joined cells
    up         u ← u + what the coarse grid adds, then three sweeps
    direction  p ← z + βp, then q = Dp − Σ, and p·q
    advance    x ← x + αp, r ← r − αq, and r·r

with Σ the faces times the neighbours' values. Rows lie along the last axis and are counted through the others. A face
at an edge is zero, so that what its neighbour's place holds does not count; a periodic axis has `HALO` cells of its
far side at either end, of which every sweep spoils one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID

HALO = 3
_SUM = ("reassoc", "nsz")  # a sum over cells may be taken in lanes

# arguments: kind and names; I64 numbers and tables, F64 numbers and arrays
_ROWS = ("R", "W", "lag")
_GRID = ("first", "cells")  # the interior of a row
SIGNATURES: dict[str, tuple[tuple[Any, tuple[str, ...]], ...]] = {
    "down": ((I64, (*_ROWS, *_GRID, "joined")), (F64, ("w0", "w1", "w2")),
             (F64_POINTER, ("u", "v", "b", "inverse", "diagonal", "spare", "coarse")),
             (I64_POINTER, ("parent", "begins"))),
    "up": ((I64, _ROWS), (F64, ("w0", "w1", "w2")), (F64_POINTER, ("u", "v", "b", "inverse", "coarse")),
           (I64_POINTER, ("row_parent", "cell_parent"))),
    "direction": ((I64, (*_ROWS, *_GRID)), (F64, ("beta",)), (F64_POINTER, ("p", "q", "z", "diagonal", "result")),
                  (I64_POINTER, ("inside",))),
    "advance": ((I64, (*_ROWS, *_GRID)), (F64, ("alpha",)), (F64_POINTER, ("x", "r", "p", "q", "result")),
                (I64_POINTER, ("inside",))),
    "product": ((I64, (*_ROWS, *_GRID)), (F64_POINTER, ("a", "b", "result")), (I64_POINTER, ("inside",))),
}  # fmt: skip


class _Kernel:
    """One function under construction: its arguments by name, and the row operations that it calls."""

    def __init__(self, module: ir.Module, name: str, axes: int, rows: dict[str, Any]) -> None:
        groups = (*SIGNATURES[name], (I64, tuple(f"s{k}" for k in range(axes))),
                  (F64_POINTER, tuple(f"f{k}" for k in range(axes))))
        kinds = [kind for kind, names in groups for _ in names]
        fn = ir.Function(module, ir.FunctionType(VOID, kinds), name)
        self.a = dict(zip((n for _, names in groups for n in names), fn.args, strict=True))
        self.b, self.axes, self.rows = ir.IRBuilder(fn.append_basic_block()), axes, rows

    def at(self, array: str, row: Any) -> Any:
        """The address of a row's first cell."""
        return self.b.gep(self.a[array], [self.b.mul(row, self.a["W"])])

    @contextmanager
    def wave(self, depth: int) -> Iterator[Any]:
        """Loop over rows and `depth` lags beyond them."""
        beyond = self.b.add(self.a["R"], self.b.mul(self.a["lag"], integer(depth)))
        with loop(self.b, beyond, name="row") as r:
            yield r

    @contextmanager
    def level(self, r: Any, depth: int) -> Iterator[Any]:
        """What is done `depth` lags behind row r, if that is a row."""
        b = self.b
        row = b.sub(r, b.mul(self.a["lag"], integer(depth)))
        there = b.and_(b.icmp_signed(">=", row, integer(0)), b.icmp_signed("<", row, self.a["R"]))
        with b.if_then(there):
            yield row

    def combine(self, name: str, row: Any, w: str, out: str, x: str, y: str) -> None:
        """A row operation cell by cell."""
        self.b.call(self.rows[name], [self.a["W"], self.a[w], *(self.at(array, row) for array in (out, x, y))])

    def smooth(self, row: Any, w: str, out: str, u: str) -> None:
        self.star("smooth", row, out, u, "b", "inverse", self.a[w])

    def star(self, name: str, row: Any, out: str, u: str, given: str, scale: str, w: Any = None) -> None:
        """A row operation that reads the neighbours of u; `out` "spare" is one row for all."""
        b, a = self.b, self.a
        target = a["spare"] if out == "spare" else self.at(out, row)
        arrays = [target, self.at(u, row), self.at(given, row), self.at(scale, row)]
        faces = [self.at(f"f{k}", row) for k in range(self.axes)]
        strides = [a[f"s{k}"] for k in range(self.axes)]
        b.call(self.rows[name], [a["W"], w or ir.Constant(F64, 0.0), *strides, *arrays, *faces])

    def inside(self, row: Any) -> Any:
        """Whether the row is of the grid itself."""
        return self.b.icmp_signed("!=", self.b.load(self.b.gep(self.a["inside"], [row])), integer(0))

    def add_product(self, row: Any, x: str, y: str) -> None:
        """Add the sum of x·y over the row's own cells to the result."""
        b = self.b
        with b.if_then(self.inside(row)):
            pointers = [b.gep(self.at(name, row), [self.a["first"]]) for name in (x, y)]
            b.call(self.rows["dot"], [self.a["cells"], *pointers, self.a["result"]])


def _row_function(module: ir.Module, name: str, kinds: Sequence[Any]) -> tuple[Any, ir.IRBuilder]:
    fn = ir.Function(module, ir.FunctionType(VOID, list(kinds)), name)
    fn.attributes.add("noinline")
    for argument in fn.args:
        if argument.type == F64_POINTER:
            argument.add_attribute("noalias")
    return fn, ir.IRBuilder(fn.append_basic_block())


def _star(module: ir.Module, name: str, axes: int) -> Any:
    """smooth: out = u + w(scale·(given + Σ) − u); residual: given + Σ − scale·u; apply: scale·u − Σ."""
    fn, b = _row_function(module, name, [I64, F64, *[I64] * axes, *[F64_POINTER] * (4 + axes)])
    n, w, *rest = fn.args
    strides, (out, u, given, scale, *faces) = rest[:axes], rest[axes:]
    with loop(b, n) as i:
        def at(pointer: Any, index: Any = i) -> Any:
            return b.load(b.gep(pointer, [index]))

        total = ir.Constant(F64, 0.0) if name == "apply" else at(given)
        for f, s in zip(faces, strides):
            total = b.fadd(total, b.fmul(at(f), at(u, b.sub(i, s))))
            total = b.fadd(total, b.fmul(at(f, b.add(i, s)), at(u, b.add(i, s))))
        here = at(u)
        value = {
            "smooth": lambda: b.fadd(here, b.fmul(w, b.fsub(b.fmul(at(scale), total), here))),
            "residual": lambda: b.fsub(total, b.fmul(at(scale), here)),
            "apply": lambda: b.fsub(b.fmul(at(scale), here), total),
        }[name]()
        b.store(value, b.gep(out, [i]))
    b.ret_void()
    return fn


def _dot(module: ir.Module) -> Any:
    """dot(n, x, y, result): result += Σ x y."""
    fn, b = _row_function(module, "dot", [I64, *[F64_POINTER] * 3])
    n, x, y, result = fn.args
    total = b.alloca(F64)
    b.store(ir.Constant(F64, 0.0), total)
    with loop(b, n) as i:
        term = b.fmul(*(b.load(b.gep(p, [i])) for p in (x, y)))
        b.store(b.fadd(b.load(total), term, flags=_SUM), total)
    b.store(b.fadd(b.load(result), b.load(total)), result)
    b.ret_void()
    return fn


def _combine(module: ir.Module, name: str) -> Any:
    """start: out = w x y; mix: out ← x + w·out; gain, loss: out ← out ± w x."""
    fn, b = _row_function(module, name, [I64, F64, *[F64_POINTER] * 3])
    n, w, out, x, y = fn.args
    with loop(b, n) as i:
        target = b.gep(out, [i])
        first = b.load(b.gep(x, [i]))
        value = {
            "start": lambda: b.fmul(b.fmul(w, first), b.load(b.gep(y, [i]))),
            "mix": lambda: b.fadd(first, b.fmul(w, b.load(target))),
            "gain": lambda: b.fadd(b.load(target), b.fmul(w, first)),
            "loss": lambda: b.fsub(b.load(target), b.fmul(w, first)),
        }[name]()
        b.store(value, target)
    b.ret_void()
    return fn


def _join(module: ir.Module) -> Any:
    """join(cells, joined, adds, fine, coarse): coarse (+)= sums of pairs of a row's cells, or the cells."""
    fn, b = _row_function(module, "join", [I64, I64, I64, *[F64_POINTER] * 2])
    n, joined, adds, fine, coarse = fn.args
    b.store(ir.Constant(F64, 0.0), b.gep(fine, [n]))  # the partner of a last odd cell

    def add(target: Any, value: Any) -> None:
        old = b.select(b.icmp_signed("!=", adds, integer(0)), b.load(target), ir.Constant(F64, 0.0))
        b.store(b.fadd(value, old), target)

    with b.if_else(b.icmp_signed("!=", joined, integer(0))) as (pairs, single):
        with pairs, loop(b, b.lshr(b.add(n, integer(1)), integer(1)), name="pair") as j:
            k = b.shl(j, integer(1))
            total = b.fadd(b.load(b.gep(fine, [k])), b.load(b.gep(fine, [b.add(k, integer(1))])))
            add(b.gep(coarse, [j]), total)
        with single, loop(b, n, name="cell") as j:
            add(b.gep(coarse, [j]), b.load(b.gep(fine, [j])))
    b.ret_void()
    return fn


def _spread(module: ir.Module) -> Any:
    """spread(n, u, coarse, parent): u[i] += coarse[parent[i]]."""
    fn, b = _row_function(module, "spread", [I64, F64_POINTER, F64_POINTER, I64_POINTER])
    n, u, coarse, parent = fn.args
    with loop(b, n) as i:
        target = b.gep(u, [i])
        b.store(b.fadd(b.load(target), b.load(b.gep(coarse, [b.load(b.gep(parent, [i]))]))), target)
    b.ret_void()
    return fn


def _down(k: _Kernel) -> None:
    b, a = k.b, k.a
    with k.wave(3) as r:
        with k.level(r, 0) as row:
            k.combine("start", row, "w0", "u", "b", "inverse")
        with k.level(r, 1) as row:
            k.smooth(row, "w1", "v", "u")
        with k.level(r, 2) as row:
            k.smooth(row, "w2", "u", "v")  # over rows that nothing reads any more
        with k.level(r, 3) as row:
            parent = b.load(b.gep(a["parent"], [row]))
            with b.if_then(b.icmp_signed(">=", parent, integer(0))):
                k.star("residual", row, "spare", "u", "b", "diagonal")
                fine, coarse = b.gep(a["spare"], [a["first"]]), b.gep(a["coarse"], [parent])
                adds = b.sub(integer(1), b.load(b.gep(a["begins"], [row])))
                b.call(k.rows["join"], [a["cells"], a["joined"], adds, fine, coarse])


def _up(k: _Kernel) -> None:
    b, a = k.b, k.a
    with k.wave(3) as r:
        with k.level(r, 0) as row:
            coarse = b.gep(a["coarse"], [b.load(b.gep(a["row_parent"], [row]))])
            b.call(k.rows["spread"], [a["W"], k.at("u", row), coarse, a["cell_parent"]])
        for depth, w, out, u in ((1, "w2", "v", "u"), (2, "w1", "u", "v"), (3, "w0", "v", "u")):
            with k.level(r, depth) as row:
                k.smooth(row, w, out, u)


def _direction(k: _Kernel) -> None:
    b, a = k.b, k.a
    b.store(ir.Constant(F64, 0.0), a["result"])
    with k.wave(1) as r:
        with k.level(r, 0) as row:
            k.combine("mix", row, "beta", "p", "z", "diagonal")
        with k.level(r, 1) as row:
            k.star("apply", row, "q", "p", "z", "diagonal")
            k.add_product(row, "p", "q")


def _advance(k: _Kernel) -> None:
    b, a = k.b, k.a
    b.store(ir.Constant(F64, 0.0), a["result"])
    with k.wave(0) as row:
        k.combine("gain", row, "alpha", "x", "p", "q")
        k.combine("loss", row, "alpha", "r", "q", "p")
        with b.if_then(k.inside(row)):
            own = b.gep(k.at("r", row), [a["first"]])
            b.call(k.rows["dot"], [a["cells"], own, own, a["result"]])


def _product(k: _Kernel) -> None:
    k.b.store(ir.Constant(F64, 0.0), k.a["result"])
    with k.wave(0) as row:
        k.add_product(row, "a", "b")


_BODIES = {"down": _down, "up": _up, "direction": _direction, "advance": _advance, "product": _product}


@lru_cache(maxsize=4)
def compiled(axes: int) -> Compiled:
    """The five passes for grids of two or three axes."""
    module = ir.Module()
    rows = {name: _star(module, name, axes) for name in ("smooth", "residual", "apply")}
    rows |= {name: _combine(module, name) for name in ("start", "mix", "gain", "loss")}
    rows |= {"dot": _dot(module), "join": _join(module), "spread": _spread(module)}
    for name, body in _BODIES.items():
        kernel = _Kernel(module, name, axes, rows)
        body(kernel)
        kernel.b.ret_void()
    return Compiled(module)


def entries(axes: int) -> dict[str, Any]:
    """The passes as callables on numbers and addresses, in the order of `SIGNATURES`, strides and faces last."""
    plain, code = {I64: ctypes.c_int64, F64: ctypes.c_double}, compiled(axes)
    result: dict[str, Any] = {"code": code}  # its holder keeps it: threads that compile at once may each have their own
    for name in _BODIES:
        groups = (*SIGNATURES[name], (I64, ("",) * axes), (F64_POINTER, ("",) * axes))
        kinds = [plain.get(kind, ctypes.c_void_p) for kind, names in groups for _ in names]
        result[name] = code.function(name, *kinds)
    return result
