"""The fused kernel of noise in the cells of a grid: the normals of `sdesim.streams.field_normals`, bit for bit."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.streams import Purpose, normal_pair, seed_key


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
    pair = _pair_row(module)
    fn = ir.Function(module, ir.FunctionType(VOID, [F64_POINTER, I64_POINTER] + [I64] * 8), "fill")
    out, members, count, rows, cells, step, word, low, high, half = fn.args
    b = ir.IRBuilder(fn.append_basic_block())
    unused = b.alloca(F64)
    with loop(b, count, name="member") as k:
        member = b.load(b.gep(members, [k]))
        with loop(b, rows, name="row") as r:
            start = b.gep(out, [b.mul(b.add(b.mul(k, rows), r), cells)])
            first = b.mul(r, half)
            fixed = [member, step, first, word, low, high]
            b.call(pair, [start, b.gep(start, [half]), b.sub(cells, half), integer(0), *fixed])
            # an odd row: its middle cell has no partner, and the second normal of its pair is not used
            b.call(pair, [b.gep(start, [b.sub(cells, half)]), unused, b.sub(b.add(half, half), cells),
                          b.sub(cells, half), *fixed])
    b.ret_void()
    return module


def _pair_row(module: ir.Module) -> ir.Function:
    """pair(first, second, n, offset, member, step, base, word, low, high): n pairs from pair base + offset on."""
    fn = ir.Function(module, ir.FunctionType(VOID, [F64_POINTER, F64_POINTER] + [I64] * 8), "pair")
    fn.attributes.add("noinline")
    first, second, n, offset, *words = fn.args
    for argument in (first, second):
        argument.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    member, step, base, word, low, high = words
    with loop(b, n, name="pair") as i:
        index = b.add(b.add(base, offset), i)
        counter = [m.wrap(x) for x in (member, step, index, word)]
        z = normal_pair(m, counter, (m.wrap(low), m.wrap(high)))
        b.store(z[0].value, b.gep(first, [i]))
        b.store(z[1].value, b.gep(second, [i]))
    b.ret_void()
    return fn
