"""The two loops of multigrid as machine code: A u, and a smoothing step, each one pass over memory.

Arrays are flat with room for a largest stride of zeros at either end. The face of a cell at an edge is zero, so that
what its neighbour's place holds does not count, and one flat loop serves one, two or three dimensions.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.kernels.field_layout import aligned
from sdesim.kernels.llvm import Compiled, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, VOID


@lru_cache(maxsize=4)
def compiled(axes: int) -> Compiled:
    """smooth(n, w, strides…, out, u, b, scale, faces…) and product(n, w, strides…, out, u, b, scale, faces…).

    smooth: out = u + w (scale·(b + Σ) − u); product: out = scale·u − Σ, with Σ the faces times the neighbours' values.
    """
    module = ir.Module()
    for name in ("smooth", "product"):
        _emit(module, name, axes)
    return Compiled(module)


def _emit(module: ir.Module, name: str, axes: int) -> None:
    fn = ir.Function(module, ir.FunctionType(VOID, [I64, F64, *[I64] * axes, *[F64_POINTER] * (4 + axes)]), name)
    n, w, *rest = fn.args
    strides, (out, u, r, scale, *faces) = rest[:axes], rest[axes:]
    for pointer in rest[axes:]:
        pointer.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())

    def at(pointer: Any, index: Any) -> Any:
        return b.load(b.gep(pointer, [index]))

    with loop(b, n) as i:
        total = at(r, i) if name == "smooth" else ir.Constant(F64, 0.0)
        for f, s in zip(faces, strides):
            low, high = b.sub(i, s), b.add(i, s)
            total = b.fadd(total, b.fmul(at(f, i), at(u, low)))
            total = b.fadd(total, b.fmul(at(f, high), at(u, high)))
        here = at(u, i)
        if name == "smooth":
            value = b.fadd(here, b.fmul(w, b.fsub(b.fmul(at(scale, i), total), here)))
        else:
            value = b.fsub(b.fmul(at(scale, i), here), total)
        b.store(value, b.gep(out, [i]))
    b.ret_void()


def entries(axes: int) -> tuple[Any, Any]:
    """(smooth, product) as callables on numbers and addresses."""
    kinds = [ctypes.c_int64, ctypes.c_double, *[ctypes.c_int64] * axes, *[ctypes.c_void_p] * (4 + axes)]
    code = compiled(axes)
    smooth, product = code.function("smooth", *kinds), code.function("product", *kinds)
    smooth.code = product.code = code  # threads that ask at once each compile, and the cache keeps only one
    return smooth, product


class Padded:
    """A grid's values with zeros around them in memory: `values` is the view, `address` that of its first cell."""

    def __init__(self, shape: tuple[int, ...], values: NDArray[np.float64] | None = None) -> None:
        size = int(np.prod(shape))
        room = max(8, -(-size // shape[0] // 8) * 8)
        self.memory = aligned(size + 2 * room)
        self.values = self.memory[room : room + size].reshape(shape)
        self.address = self.values.ctypes.data
        if values is not None:
            self.values[...] = values
