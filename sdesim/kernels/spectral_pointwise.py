"""Fused kernels for passes without neighbours: every output value depends on the inputs at its own place.

An array is (members, places), or (1, places) when all members share it; interleaved modes have two values at a place,
named with the endings ".re" and ".im". A scalar (a parameter, t or h) is one number per member. The kernel of a pass
loops over members and calls a row function whose arrays are separate `noalias` arguments, so that LLVM vectorises it
and lifts out of the row what does not change along it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.expressions import Expr
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.kernels.spectral_trace import base, symbols_of

_POINTERS = F64_POINTER.as_pointer()
Launch: TypeAlias = Callable[[int, range, Sequence[int], NDArray[np.int64], NDArray[np.float64]], None]
"""(members, places, addresses, strides, scalars): run a pass; see `PointwiseKernel.__call__`."""


@dataclass(frozen=True)
class Body:
    """What a kernel computes: at every place the values of `outputs`, by name, from arrays and from `scalars`."""

    outputs: tuple[tuple[str, Expr], ...]
    scalars: tuple[str, ...]

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Names of the values that a place reads."""
        return tuple(n for n in symbols_of(dict(self.outputs)) if n not in self.scalars)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """Names of the arrays written."""
        return tuple(dict.fromkeys(base(name) for name, _ in self.outputs))

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the arrays read."""
        return tuple(dict.fromkeys(base(name) for name in self.symbols))


def body(outputs: Mapping[str, Expr], scalars: Sequence[str]) -> Body:
    """The body of a pass: every name that is not a scalar is an array.

    >>> from sdesim.parsing import parse
    >>> body({"v": parse("a*u + b")}, ["a", "h"]).sources
    ('b', 'u')
    """
    return Body(tuple(outputs.items()), tuple(n for n in symbols_of(outputs) if n in scalars))


def lane(name: str) -> tuple[int, int]:
    """How many values an array has at a place, and which of them the name means.

    >>> lane("@u0.im"), lane("@c1")
    ((2, 1), (1, 0))
    """
    return (2, int(name.endswith(".im"))) if base(name) != name else (1, 0)


class PointwiseKernel:
    """Machine code for one body."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.compiled = Compiled(_module(body))
        pointer = ctypes.c_void_p
        self.run = self.compiled.function("run", *[ctypes.c_int64] * 3, *[pointer] * 3)

    def __call__(self, members: int, places: range, addresses: Sequence[int], strides: NDArray[np.int64],
                 scalars: NDArray[np.float64]) -> None:
        """Compute.

        Args:
            members: how many.
            places: which places of each member.
            addresses: of the arrays `body.targets` and `body.sources`, no target among the sources.
            strides: from one member to the next in each, in numbers; 0 where all share one.
            scalars: (len(body.scalars), members), C-contiguous float64.
        """
        where = (ctypes.c_void_p * len(addresses))(*addresses)
        self.run(members, places.start, len(places), where, strides.ctypes.data, scalars.ctypes.data)


@lru_cache(maxsize=256)
def kernel(body: Body) -> PointwiseKernel:
    """The kernel of a body; kept for the next call."""
    return PointwiseKernel(body)


def _module(body: Body) -> ir.Module:
    module = ir.Module("pointwise")
    row = _row(module, body)
    fn = ir.Function(module, ir.FunctionType(VOID, [I64, I64, I64, _POINTERS, I64_POINTER, F64_POINTER]), "run")
    members, first, places, arrays, strides, scalars = fn.args
    b = ir.IRBuilder(fn.append_basic_block())
    names = [*body.targets, *body.sources]
    wide = {base(name) for name in (*body.symbols, *(n for n, _ in body.outputs)) if lane(name)[0] == 2}

    def pick(pointer: Any, k: int) -> Any:
        return b.load(b.gep(pointer, [integer(k)]))

    starts = [b.gep(pick(arrays, k), [b.mul(first, integer(2)) if name in wide else first])
              for k, name in enumerate(names)]
    steps = [pick(strides, k) for k in range(len(names))]
    with loop(b, members, name="member") as member:
        rows = [b.gep(start, [b.mul(member, step)]) for start, step in zip(starts, steps)]
        numbers = [b.load(b.gep(scalars, [b.add(b.mul(integer(k), members), member)]))
                   for k in range(len(body.scalars))]
        b.call(row, [*rows, places, *numbers])
    b.ret_void()
    return module


def _row(module: ir.Module, body: Body) -> ir.Function:
    """row(targets…, sources…, places, scalars…): all places of one member."""
    names = [*body.targets, *body.sources]
    kinds = [F64_POINTER] * len(names) + [I64] + [F64] * len(body.scalars)
    fn = ir.Function(module, ir.FunctionType(VOID, kinds), "row")
    fn.attributes.add("noinline")
    for argument in fn.args[: len(names)]:
        argument.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    targets, sources = (dict(zip(some, args)) for some, args in (
        (body.targets, fn.args), (body.sources, fn.args[len(body.targets) :])))
    env: dict[Any, Any] = {name: m.wrap(x) for name, x in zip(body.scalars, fn.args[len(names) + 1 :])}
    with loop(b, fn.args[len(names)], name="place") as i:

        def at(rows: Mapping[str, Any], name: str) -> Any:
            width, which = lane(name)
            place = i if width == 1 else b.add(b.mul(i, integer(2)), integer(which))
            return b.gep(rows[base(name)], [place])

        here = env | {name: m.wrap(b.load(at(sources, name))) for name in body.symbols}
        values = evaluate([value for _, value in body.outputs], here, m)
        for (name, _), value in zip(body.outputs, values):
            b.store(value.value, at(targets, name))
    b.ret_void()
    return fn
