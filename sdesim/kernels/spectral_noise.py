"""The fused kernel of noise in the cells of a grid: the normals of `sdesim.streams.field_normals`, bit for bit."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.kernels.llvm import Compiled, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.kernels.sde_fill import CHAIN
from sdesim.reals import DOUBLE
from sdesim.streams import Purpose, normals_of, seed_key, word_group


class NoiseKernel:
    """Fills fields with the normals of `sdesim.streams.field_normals`, bit for bit."""

    def __init__(self) -> None:
        self.compiled = Compiled(_noise_module())
        self.run = self.compiled.function("fill", *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 8)

    def __call__(self, out: NDArray[np.float64], seed: int, members: NDArray[np.int64], step: int, state: int,
                 purpose: Purpose = Purpose.STEP) -> None:
        """Fill `out` (members, *space), C-contiguous float64."""
        cells = out.shape[-1]
        rows = out.size // (out.shape[0] * cells)
        low, high = (int(word) for word in seed_key(seed))
        self.run(out.ctypes.data, members.ctypes.data, members.size, rows, cells, step, int(purpose) | state << 8,
                 low, high, (cells + 1) // 2)


@lru_cache(maxsize=1)
def noise_kernel() -> NoiseKernel:
    """The noise kernel; compiled once."""
    return NoiseKernel()


def _noise_module() -> ir.Module:
    """fill(out, members, count, rows, cells, step, purpose|state, key, key, half), with a row function of pairs."""
    module = ir.Module("noise")
    pair = pair_row(module)
    fn = ir.Function(module, ir.FunctionType(VOID, [F64_POINTER, I64_POINTER] + [I64] * 8), "fill")
    out, members, count, rows, cells, step, word, low, high, half = fn.args
    b = ir.IRBuilder(fn.append_basic_block())
    unused = b.alloca(F64)
    with loop(b, count, name="member") as k:
        member = b.load(b.gep(members, [k]))
        with loop(b, rows, name="row") as r:
            start = b.gep(out, [b.mul(b.add(b.mul(k, rows), r), cells)])
            first = b.mul(r, half)
            fixed, second = [member, step, word, low, high], b.sub(cells, half)
            b.call(pair, [start, b.gep(start, [half]), second, first, *fixed])
            # an odd row: its middle cell has no partner, and the second normal of its pair is not used
            b.call(pair, [b.gep(start, [second]), unused, b.sub(half, second), b.add(first, second), *fixed])
    b.ret_void()
    return module


def pair_row(module: ir.Module, name: str = "pair") -> ir.Function:
    """pair(first, second, n, base, member, step, word, low, high): n pairs from pair `base` on.

    As in `sde_fill` words come first, and then their normals, each as many vectors at once as there are registers.
    """
    fn = ir.Function(module, ir.FunctionType(VOID, [F64_POINTER, F64_POINTER] + [I64] * 7), name)
    fn.attributes.add("noinline")
    first, second, n, base, *places = fn.args
    for argument in (first, second):
        argument.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    member, step, word, low, high = (m.wrap(value) for value in places)
    rows = [(row, b.bitcast(row, I64_POINTER)) for row in (first, second)]
    with loop(b, n, name="word", hints=CHAIN[DOUBLE]) as i:
        found = word_group(m, (member, step, m.wrap(b.add(base, i)), word), (low, high))
        for value, (_, row) in zip(found, rows, strict=True):
            b.store(value.value, b.gep(row, [i]))
    with loop(b, n, name="normal", hints=CHAIN[DOUBLE]) as i:
        group = [m.wrap(b.load(b.gep(row, [i]))) for _, row in rows]
        for value, (row, _) in zip(normals_of(m, group), rows, strict=True):
            b.store(value.value, b.gep(row, [i]))
    b.ret_void()
    return fn
