"""Fused reductions over the members of a block: moments, products and histogram counts while its states are in cache.

Sums run in 32 interleaved partial sums that are added in a fixed order, so that the bits are those of any machine with
any width of vectors.

  moments(x, rows, stride, n, found, flag)      found[r] = (mean, Σ(x − mean)², minimum, maximum) of each row of n
      numbers; the flag is raised where a mean is not finite
  products(x, times, apart, states, stride, n, found, crossed)   sums of products of deviations of each pair of states
  merge(times, states, n, count, found, crossed, kept, C)        Chan, Golub & LeVeque's update of the moments `kept`
      of `count` members, and of the sums of products C, by those of n more
  count, fold      see `kernels.histogram` and `kernels.folding`
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.kernels.folding import MOMENTS, PLACES, fold_function
from sdesim.kernels.histogram import count_function
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I32, I64, I64_POINTER, VOID, LLVMMachine

_WIDTH, _UNROLL = 8, 4
_LANES = ir.VectorType(F64, _WIDTH)
_STRIDE = _WIDTH * _UNROLL


class _Reduction:
    """Folds over the n numbers of a row: `fold` is given (running value, numbers at i) as vectors, then as scalars."""

    def __init__(self, b: ir.IRBuilder, n: Any) -> None:
        self.b, self.n = b, n
        self.whole = b.and_(n, integer(-_STRIDE))

    def __call__(self, rows: list[Any], starts: list[Any], fold: Callable[..., list[Any]],
                 join: list[Callable[[Any, Any], Any]]) -> list[Any]:  # fmt: skip
        b = self.b
        with b.goto_entry_block():
            held = [[b.alloca(_LANES) for _ in starts] for _ in range(_UNROLL)]
            rest = [b.alloca(F64) for _ in starts]
        for lanes in held:
            for slot, start in zip(lanes, starts, strict=True):
                b.store(splat(b, start), slot)
        with loop(b, b.sdiv(self.whole, integer(_STRIDE))) as i:
            for u, lanes in enumerate(held):
                at = b.add(b.mul(i, integer(_STRIDE)), integer(u * _WIDTH))
                values = [b.load(b.bitcast(b.gep(row, [at]), _LANES.as_pointer()), align=8) for row in rows]
                for slot, value in zip(lanes, fold([b.load(s) for s in lanes], values, splat), strict=True):
                    b.store(value, slot)
        for k, slot in enumerate(rest):
            total = b.load(held[0][k])
            for lanes in held[1:]:
                total = join[k](total, b.load(lanes[k]))
            width = _WIDTH
            while width > 1:
                width //= 2
                halves = [ir.Constant(ir.VectorType(I32, width), list(range(i, i + width))) for i in (0, width)]
                total = join[k](*(b.shuffle_vector(total, total, half) for half in halves))
            b.store(b.extract_element(total, ir.Constant(I32, 0)), slot)
        with loop(b, self.n, self.whole) as i:
            values = [b.load(b.gep(row, [i])) for row in rows]
            for slot, value in zip(rest, fold([b.load(s) for s in rest], values, lambda _, v: v), strict=True):
                b.store(value, slot)
        return [b.load(slot) for slot in rest]


def splat(b: ir.IRBuilder, value: Any) -> Any:
    """A vector whose lanes all hold the value."""
    first = b.insert_element(ir.Constant(_LANES, ir.Undefined), value, ir.Constant(I32, 0))
    return b.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, _WIDTH), [0] * _WIDTH))


@contextmanager
def _function(module: ir.Module, name: str, arguments: str) -> Iterator[tuple[ir.IRBuilder, list[Any]]]:
    """A void function; `arguments` has a letter for each: f a double, i an i64, F and I pointers to them."""
    types = {"f": F64, "i": I64, "F": F64_POINTER, "I": I64_POINTER}
    fn = ir.Function(module, ir.FunctionType(VOID, [types[c] for c in arguments]), name)
    for a, c in zip(fn.args, arguments, strict=True):
        if c.isupper():
            a.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block("entry"))
    body = fn.append_basic_block("body")  # the entry holds the stack slots alone
    b.position_at_end(body)
    yield b, list(fn.args)
    b.ret_void()
    ir.IRBuilder(fn.blocks[0]).branch(body)


def _smaller(b: ir.IRBuilder, sign: str) -> Callable[[Any, Any], Any]:
    return lambda held, value: b.select(b.fcmp_ordered(sign, value, held), value, held)



def _moments(module: ir.Module) -> ir.Function:
    with _function(module, "moments", "FiiiFI") as (b, (x, rows, stride, n, found, flag)):
        reduce, size = _Reduction(b, n), b.sitofp(n, F64)
        low, high = _smaller(b, "<"), _smaller(b, ">")
        with loop(b, rows, name="row") as r:
            row, out = b.gep(x, [b.mul(r, stride)]), b.gep(found, [b.mul(r, integer(MOMENTS))])
            zero, head = ir.Constant(F64, 0.0), b.load(row)
            total, smallest, largest = reduce(
                [row], [zero, head, head],
                lambda held, v, _: [b.fadd(held[0], v[0]), low(held[1], v[0]), high(held[2], v[0])],
                [b.fadd, low, high])  # fmt: skip
            mean = b.fdiv(total, size)

            def squares(held: Any, v: Any, spread: Any, mean: Any = mean) -> list[Any]:
                off = b.fsub(v[0], spread(b, mean))
                return [b.fadd(held[0], b.fmul(off, off))]

            (square,) = reduce([row], [zero], squares, [b.fadd])
            for k, value in enumerate((mean, square, smallest, largest)):
                b.store(value, b.gep(out, [integer(k)]))
            infinite = b.fcmp_unordered("!=", b.fsub(mean, mean), zero)
            b.store(b.or_(b.load(flag), b.zext(infinite, I64)), flag)
    return b.function


def _pair(b: ir.IRBuilder, states: Any, i: Any, j: Any) -> Any:
    """The place of the pair i < j in the order of rows of the upper triangle."""
    skipped = b.sdiv(b.mul(i, b.sub(b.sub(b.mul(states, integer(2)), i), integer(1))), integer(2))
    return b.add(skipped, b.sub(b.sub(j, i), integer(1)))


def _pairs(b: ir.IRBuilder, states: Any) -> Any:
    return b.sdiv(b.mul(states, b.sub(states, integer(1))), integer(2))


def _moment(b: ir.IRBuilder, base: Any, row: Any, k: int) -> Any:
    return b.gep(base, [b.add(b.mul(row, integer(MOMENTS)), integer(k))])


def _products(module: ir.Module) -> ir.Function:
    with _function(module, "products", "FiiiiiFF") as (b, (x, times, apart, states, stride, n, found, crossed)):
        reduce = _Reduction(b, n)
        with loop(b, times, name="time") as t:
            first, block = b.mul(t, states), b.gep(x, [b.mul(t, apart)])
            with loop(b, states, name="left") as i, loop(b, states, b.add(i, integer(1)), name="right") as j:
                means = [b.load(_moment(b, found, b.add(first, row), 0)) for row in (i, j)]

                def product(held: Any, v: Any, spread: Any, means: Any = means) -> list[Any]:
                    a, c = (b.fsub(value, spread(b, mean)) for value, mean in zip(v, means, strict=True))
                    return [b.fadd(held[0], b.fmul(a, c))]

                rows = [b.gep(block, [b.mul(row, stride)]) for row in (i, j)]
                (total,) = reduce(rows, [ir.Constant(F64, 0.0)], product, [b.fadd])
                place = b.add(b.mul(t, _pairs(b, states)), _pair(b, states, i, j))
                b.store(total, b.gep(crossed, [place]))
    return b.function


def _merge(module: ir.Module) -> ir.Function:
    with _function(module, "merge", "iiiiFFFF") as (b, (times, states, n, count, found, crossed, kept, C)):
        m = LLVMMachine(b)
        size, before = m.wrap(b.sitofp(n, F64)), m.wrap(b.sitofp(count, F64))
        share = size / (before + size)
        weight = before * share

        def step(row: Any) -> Any:
            """How far the block's mean is from the one kept."""
            return m.wrap(b.load(_moment(b, found, row, 0))) - m.wrap(b.load(_moment(b, kept, row, 0)))

        with loop(b, times, name="time") as t:
            first = b.mul(t, states)
            with loop(b, states, name="left") as i, loop(b, states, b.add(i, integer(1)), name="right") as j:
                place = b.add(b.mul(t, _pairs(b, states)), _pair(b, states, i, j))
                slot, total = b.gep(C, [place]), m.wrap(b.load(b.gep(crossed, [place])))
                value = m.wrap(b.load(slot)) + total + step(b.add(first, i)) * weight * step(b.add(first, j))
                b.store(value.value, slot)
            with loop(b, states, name="state") as i:
                row = b.add(first, i)
                delta = step(row)
                mean, square, low, high = (m.wrap(b.load(_moment(b, kept, row, k))) for k in range(MOMENTS))
                new = [m.wrap(b.load(_moment(b, found, row, k))) for k in range(MOMENTS)]
                values = (mean + delta * share, square + new[1] + delta * weight * delta,
                          m.select(new[2] < low, new[2], low), m.select(new[3] > high, new[3], high))  # fmt: skip
                for k, value in enumerate(values):
                    b.store(value.value, _moment(b, kept, row, k))
    return b.function


class Reductions:
    """The compiled functions, as in the head of this file."""

    def __init__(self) -> None:
        module = ir.Module()
        makers = {"moments": _moments, "products": _products, "merge": _merge, "count": count_function}
        fold_function(module, {name: make(module) for name, make in makers.items()})
        self.code = Compiled(module)
        pointer, whole = ctypes.c_void_p, ctypes.c_int64
        self.moments = self.code.function("moments", pointer, *[whole] * 3, *[pointer] * 2)
        self.products = self.code.function("products", pointer, *[whole] * 5, *[pointer] * 2)
        self.merge = self.code.function("merge", *[whole] * 4, *[pointer] * 4)
        self.count = self.code.function("count", pointer, *[whole] * 3, pointer, whole, *[pointer] * 3, whole)
        self.fold = self.code.engine.get_function_address("fold")


@dataclass(frozen=True)
class Context:
    """What `fold` is given, by the places of `kernels.folding`, and the arrays that they are addresses of."""

    places: NDArray[np.int64]
    arrays: tuple[NDArray[Any], ...]
    code: Reductions

    @property
    def fold(self) -> int:
        """The function's address, good as long as its code is held."""
        return int(self.code.fold)

    @property
    def count(self) -> int:
        """How many members have been folded in."""
        return int(self.places[PLACES.index("count")])


def context(arrays: Mapping[str, NDArray[Any]], **numbers: int) -> Context:
    """The context of arrays and numbers by the names of their places."""
    values = numbers | {name: array.ctypes.data for name, array in arrays.items()}
    places = np.array([values[name] for name in PLACES], np.int64)
    return Context(places, tuple(arrays.values()), reductions())


@cache
def reductions() -> Reductions:
    """Compiled once, when first wanted."""
    return Reductions()
