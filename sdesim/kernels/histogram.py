"""Counts of numbers in bins by a positional population count: no memory is incremented number by number.

A number in bin j of a window of 64 bins is the 64-bit word 2ʲ. Words are added without carries between bits: full
adders of words keep plane p, whose bit j is bit p of the count of bin j so far (a Harley–Seal tree; Muła, Kurz &
Lemire, Comput. J. 61, 2018, doi:10.1093/comjnl/bxx046). Eight lanes are counted apart for 512 numbers, then summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I32, I64, I64_POINTER, VOID

WINDOW = 64
_LANES, _VECTORS = 8, 8
_ONCE = _LANES * _VECTORS  # numbers that a pass of the tree takes
_CHUNK = 512  # numbers that planes hold: at most 64 in a lane
_PLANES = 7
_ZERO = 0x4330000000000000  # the bits of 2⁵²
_WORDS, _NUMBERS = (ir.VectorType(t, _LANES) for t in (I64, F64))
_COUNTS = ir.VectorType(ir.IntType(16), WINDOW)


def _full(b: ir.IRBuilder, x: Any, y: Any, z: Any) -> tuple[Any, Any]:
    """(sum, carry) of three bits in every place."""
    both = b.xor(x, y)
    return b.xor(both, z), b.or_(b.and_(both, z), b.and_(b.not_(both), x))


def _spread(kind: ir.VectorType, value: int | float) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def _splat(b: ir.IRBuilder, kind: ir.VectorType, value: Any) -> Any:
    first = b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return b.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _accumulate(b: ir.IRBuilder, planes: Sequence[Any], words: Sequence[Any]) -> None:
    """Add eight words to the planes, by a tree of adders: one carry of weight 8 is left, and ripples on."""
    held = [b.load(p) for p in planes]
    fours = []
    for half in (words[:4], words[4:]):
        held[0], low = _full(b, held[0], *half[:2])
        held[0], high = _full(b, held[0], *half[2:])
        held[1], four = _full(b, held[1], low, high)
        fours.append(four)
    held[2], carry = _full(b, held[2], *fours)
    for p in range(3, _PLANES):
        held[p], carry = b.xor(held[p], carry), b.and_(held[p], carry)
    for slot, value in zip(planes, held, strict=True):
        b.store(value, slot)


def _of_lanes(b: ir.IRBuilder, planes: Sequence[Any]) -> list[Any]:
    """The planes of the sum over all lanes, one more for each halving."""
    held, lanes = list(planes), _LANES
    while lanes > 1:
        lanes //= 2
        parts = [ir.Constant(ir.VectorType(I32, lanes), list(range(k, k + lanes))) for k in (0, lanes)]
        carry = _spread(ir.VectorType(I64, lanes), 0)
        total = []
        for plane in held:
            low, high = (b.shuffle_vector(plane, plane, part) for part in parts)
            bit, carry = _full(b, low, high, carry)
            total.append(bit)
        held = [*total, carry]
    return [b.extract_element(plane, ir.Constant(I32, 0)) for plane in held]


def _flush(b: ir.IRBuilder, planes: Sequence[Any], target: Any) -> None:
    """Add the counts of the planes to the 64 counts at `target`, and clear the planes."""
    total = _spread(_COUNTS, 0)
    for p, plane in enumerate(_of_lanes(b, [b.load(slot) for slot in planes])):
        mask = b.bitcast(plane, ir.VectorType(ir.IntType(1), WINDOW))
        total = b.add(total, b.select(mask, _spread(_COUNTS, 1 << p), _spread(_COUNTS, 0)))
    where = b.bitcast(target, ir.VectorType(I64, WINDOW).as_pointer())
    b.store(b.add(b.load(where, align=8), b.zext(total, ir.VectorType(I64, WINDOW))), where, align=8)
    for slot in planes:
        b.store(_spread(_WORDS, 0), slot)


def _chunk(b: ir.IRBuilder, floor: Any, x: Any, passes: Any, scale: Any, begin: Any, planes: Sequence[Any]) -> None:
    """Put `passes` times 64 numbers from x into the planes of the window of bins that starts at `begin`."""
    # a bin's number, added to 2⁵², is the last bits of the sum
    factor, start = _splat(b, _NUMBERS, scale), _splat(b, _NUMBERS, b.fsub(begin, ir.Constant(F64, 2.0**52)))
    with loop(b, passes) as i:
        words = []
        for v in range(_VECTORS):
            at = b.gep(x, [b.add(b.mul(i, integer(_ONCE)), integer(v * _LANES))])
            values = b.load(b.bitcast(at, _NUMBERS.as_pointer()), align=8)
            whole = b.fsub(b.call(floor, [b.fmul(values, factor)]), start)
            place = b.sub(b.bitcast(whole, _WORDS), _spread(_WORDS, _ZERO))
            inside = b.icmp_unsigned("<", place, _spread(_WORDS, WINDOW))
            words.append(b.select(inside, b.shl(_spread(_WORDS, 1), place), _spread(_WORDS, 0)))
        _accumulate(b, planes, words)


def count_function(module: ir.Module) -> ir.Function:
    """count(x, rows, stride, n, found, step, scale, first, counts, bins): counts[r, ⌊x·scale[r]⌋ − first[r]] += 1.

    For the n numbers x of each row; found[r·step + 2] and [… + 3] are the least and the largest of them.
    """
    types = [F64_POINTER, I64, I64, I64, F64_POINTER, I64, F64_POINTER, F64_POINTER, I64_POINTER, I64]
    fn = ir.Function(module, ir.FunctionType(VOID, types), "count")
    fn.attributes.add("noinline")
    for k in (0, 4, 6, 7, 8):
        fn.args[k].add_attribute("noalias")
    x, rows, stride, n, found, step, scale, first, counts, bins = fn.args
    entry = ir.IRBuilder(fn.append_basic_block("entry"))  # holds the stack slots alone
    planes = [entry.alloca(_WORDS) for _ in range(_PLANES)]
    b = ir.IRBuilder(fn.append_basic_block("body"))
    entry.branch(b.block)
    floor = {t: ir.Function(module, ir.FunctionType(t, [t]), f"llvm.floor.{name}")
             for t, name in ((F64, "f64"), (_NUMBERS, f"v{_LANES}f64"))}  # fmt: skip
    for slot in planes:
        b.store(_spread(_WORDS, 0), slot)
    # rows that are not whole windows are counted number by number
    fits = b.icmp_signed("==", b.and_(bins, integer(WINDOW - 1)), integer(0))
    whole = b.select(fits, b.and_(n, integer(-_ONCE)), integer(0))
    with loop(b, rows, name="row") as r:
        row, factor, begin = b.gep(x, [b.mul(r, stride)]), b.load(b.gep(scale, [r])), b.load(b.gep(first, [r]))
        own = b.gep(counts, [b.mul(r, bins)])

        def cell(value: Any, factor: Any = factor, begin: Any = begin) -> Any:
            return b.fptosi(b.fsub(b.call(floor[F64], [b.fmul(value, factor)]), begin), I64)

        least, most = (cell(b.load(b.gep(found, [b.add(b.mul(r, step), integer(k))]))) for k in (2, 3))
        near = b.icmp_signed("<", b.sub(most, least), integer(WINDOW))  # one window holds them all
        last = b.sub(bins, integer(WINDOW))
        lowest = b.select(near, b.select(b.icmp_signed("<", least, last), least, last), integer(0))
        windows = b.select(near, integer(1), b.sdiv(bins, integer(WINDOW)))
        with loop(b, b.select(b.icmp_signed(">", whole, integer(0)), windows, integer(0)), name="window") as k:
            start = b.add(lowest, b.mul(k, integer(WINDOW)))
            of_window = b.fadd(begin, b.sitofp(start, F64))
            with loop(b, whole, name="chunk", step=_CHUNK) as c:
                left = b.sub(whole, c)
                here = b.select(b.icmp_signed("<", left, integer(_CHUNK)), left, integer(_CHUNK))
                passes = b.sdiv(here, integer(_ONCE))
                _chunk(b, floor[_NUMBERS], b.gep(row, [c]), passes, factor, of_window, planes)
                _flush(b, planes, b.gep(own, [start]))
        with loop(b, n, whole) as i:
            slot = b.gep(own, [cell(b.load(b.gep(row, [i])))])
            b.store(b.add(b.load(slot), integer(1)), slot)
    b.ret_void()
    return fn
