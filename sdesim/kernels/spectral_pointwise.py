"""Fused kernels for passes without neighbours: every output value depends on the inputs at its own place.

An array is (members, cells), or (1, cells) when all members share it; a scalar (a parameter, t or h) is one number per
member. The kernel of a pass loops over members and calls a row function whose arrays are separate `noalias` arguments,
so that LLVM vectorises it and lifts out of the row what does not change along it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.expressions import Expr
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.kernels.spectral_trace import symbols_of

_POINTERS = F64_POINTER.as_pointer()


@dataclass(frozen=True)
class Body:
    """What a kernel computes: `outputs` from the symbols `arrays` (one value per place) and `scalars` (per member).

    `stride` is the distance of two places in memory: 2 where one part, re or im, of interleaved modes is meant.
    """

    outputs: tuple[Expr, ...]
    arrays: tuple[str, ...]
    scalars: tuple[str, ...]
    stride: int = 1


def body(outputs: Mapping[str, Expr], scalars: Sequence[str], stride: int = 1) -> Body:
    """The body of a pass: every name that is not a scalar is an array.

    >>> from sdesim.parsing import parse
    >>> body({"v": parse("a*u + b")}, ["a", "h"]).arrays
    ('b', 'u')
    """
    names = symbols_of(outputs)
    return Body(tuple(outputs.values()), tuple(n for n in names if n not in scalars),
                tuple(n for n in names if n in scalars), stride)


class PointwiseKernel:
    """Machine code for one body."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.compiled = Compiled(_module(body))
        pointer = ctypes.c_void_p
        self.run = self.compiled.function("run", ctypes.c_int64, ctypes.c_int64, *[pointer] * 4)

    def __call__(self, out: Sequence[NDArray[Any]], arrays: Sequence[NDArray[Any]], scalars: NDArray[Any]) -> None:
        """Compute into `out`.

        Args:
            out: one float64 array (members, …) for each output, none of them an input.
            arrays: one (members, …) or (1, …) for each of `body.arrays`. The places of a member lie `body.stride`
                apart.
            scalars: (len(body.scalars), members), C-contiguous float64.
        """
        members = out[0].shape[0]
        cells = out[0].size // members
        strides = member_strides([*out, *arrays])
        outputs = np.array([a.ctypes.data for a in out], dtype=np.uintp)
        inputs = np.array([a.ctypes.data for a in arrays], dtype=np.uintp)
        self.run(members, cells, outputs.ctypes.data, inputs.ctypes.data, strides.ctypes.data, scalars.ctypes.data)


def member_strides(arrays: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Distance from one member to the next in each array, in numbers; 0 where all share one."""
    return np.array([a.strides[0] // 8 if a.shape[0] > 1 else 0 for a in arrays], dtype=np.int64)


@lru_cache(maxsize=256)
def kernel(body: Body) -> PointwiseKernel:
    """The kernel of a body; kept for the next call."""
    return PointwiseKernel(body)


def _module(body: Body) -> ir.Module:
    module = ir.Module("pointwise")
    row = _row(module, body)
    fn = ir.Function(module, ir.FunctionType(VOID, [I64, I64, _POINTERS, _POINTERS, I64_POINTER, F64_POINTER]), "run")
    members, cells, outputs, inputs, strides, scalars = fn.args
    b = ir.IRBuilder(fn.append_basic_block())

    def pick(pointer: Any, k: int) -> Any:
        return b.load(b.gep(pointer, [integer(k)]))

    starts = [pick(outputs, k) for k in range(len(body.outputs))]
    starts += [pick(inputs, k) for k in range(len(body.arrays))]
    steps = [pick(strides, k) for k in range(len(starts))]
    with loop(b, members, name="member") as member:
        rows = [b.gep(start, [b.mul(member, step)]) for start, step in zip(starts, steps)]
        numbers = [b.load(b.gep(scalars, [b.add(b.mul(integer(k), members), member)]))
                   for k in range(len(body.scalars))]
        b.call(row, [*rows, cells, *numbers])
    b.ret_void()
    return module


def _row(module: ir.Module, body: Body) -> ir.Function:
    """row(outputs…, arrays…, cells, scalars…): all places of one member."""
    pointers = len(body.outputs) + len(body.arrays)
    kinds = [F64_POINTER] * pointers + [I64] + [F64] * len(body.scalars)
    fn = ir.Function(module, ir.FunctionType(VOID, kinds), "row")
    fn.attributes.add("noinline")
    for argument in fn.args[:pointers]:
        argument.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    outputs, arrays = fn.args[: len(body.outputs)], fn.args[len(body.outputs) : pointers]
    env: dict[Any, Any] = {name: m.wrap(x) for name, x in zip(body.scalars, fn.args[pointers + 1 :])}
    with loop(b, fn.args[pointers], name="cell") as i:
        place = b.mul(i, integer(body.stride)) if body.stride > 1 else i
        here = env | {name: m.wrap(b.load(b.gep(row, [place]))) for name, row in zip(body.arrays, arrays)}
        values = evaluate(body.outputs, here, m)
        for value, row in zip(values, outputs):
            b.store(value.value, b.gep(row, [place]))
    b.ret_void()
    return fn
