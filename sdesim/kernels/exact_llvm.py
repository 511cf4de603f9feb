"""The CPU kernel of a transition: its rule in one loop over members, which LLVM vectorises unless it draws gammas."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.gamma import TRIES, gamma_try
from sdesim.kernels.exact_layout import Shape, shape_of, tables
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.methods.exact_draws import Draws, Transition
from sdesim.streams import seed_key


def _gamma_function(module: ir.Module) -> Any:
    """gamma(shape, member, transition, k0, k1): tries until one is accepted."""
    fn = ir.Function(module, ir.FunctionType(F64, [F64, I64, I64, I64, I64]), "gamma")
    entry, body, end = (fn.append_basic_block(name) for name in ("entry", "try", "end"))
    ir.IRBuilder(entry).branch(body)
    b = ir.IRBuilder(body)
    k = b.phi(I64)
    m = LLVMMachine(b)
    shape, member, step, k0, k1 = (m.wrap(a) for a in fn.args)
    value, accepted = gamma_try(m, shape, member, step, m.wrap(k), (k0, k1))
    following = b.add(k, integer(1))
    k.add_incoming(integer(0), entry)
    k.add_incoming(following, b.block)
    b.cbranch(b.or_(accepted.value, b.icmp_unsigned("==", following, integer(TRIES))), end, body)
    ir.IRBuilder(end).ret(value.value)
    return fn


def _law_function(module: ir.Module, shape: Shape) -> Any:
    """law(states…, states after…, varying coefficients…, members, n, transition, uniform coefficients, k0, k1)."""
    d, rows = shape.states, 2 * shape.states + sum(shape.varying)
    types = [*[F64_POINTER] * rows, I64_POINTER, I64, I64, F64_POINTER, I64, I64]
    fn = ir.Function(module, ir.FunctionType(VOID, types), "law")
    fn.attributes.add("noinline")
    for a in fn.args[: rows + 1]:
        a.add_attribute("noalias")
    b = ir.IRBuilder(fn.append_basic_block())
    m = LLVMMachine(b)
    members, n, step, uniform, k0, k1 = fn.args[rows:]
    fixed = [None if own else b.load(b.gep(uniform, [integer(k)])) for k, own in enumerate(shape.varying)]
    gammas: list[Any] = []

    with loop(b, n) as i:
        member = b.load(b.gep(members, [i]))

        def gamma(a: Any) -> Any:
            if not gammas:
                gammas.append(_gamma_function(module))
            return m.wrap(b.call(gammas[0], [a.value, member, step, k0, k1]))

        varying = iter(fn.args[2 * d : rows])
        y = [m.wrap(b.load(b.gep(row, [i]))) for row in fn.args[:d]]
        c = [m.wrap(b.load(b.gep(next(varying), [i])) if own is None else own) for own in fixed]
        draws = Draws(m, m.wrap(member), m.wrap(step), (m.wrap(k0), m.wrap(k1)), gamma)
        values = shape.rule(m, y, c, draws)
        for value, row in zip(values, fn.args[d : 2 * d], strict=True):
            b.store(value.value, b.gep(row, [i]))
    b.ret_void()
    return fn


class LawKernel:
    """The compiled kernel of transitions of one shape.

    run(members, n, transition, x, out, uniform, varying, stride, k0, k1): rows of x, out and varying lie `stride`
    numbers apart.
    """

    def __init__(self, shape: Shape) -> None:
        module = ir.Module()
        law = _law_function(module, shape)
        types = [I64_POINTER, I64, I64, *[F64_POINTER] * 4, I64, I64, I64]
        fn = ir.Function(module, ir.FunctionType(VOID, types), "run")
        b = ir.IRBuilder(fn.append_basic_block())
        members, n, step, x, out, uniform, varying, stride, k0, k1 = fn.args
        counts = (x, shape.states), (out, shape.states), (varying, sum(shape.varying))
        rows = [b.gep(base, [b.mul(integer(r), stride)]) for base, count in counts for r in range(count)]
        b.call(law, [*rows, members, n, step, uniform, k0, k1])
        b.ret_void()
        self.code = Compiled(module)
        own = {I64: ctypes.c_int64}
        self.run = self.code.function("run", *(own.get(t, ctypes.c_void_p) for t in types))


@lru_cache(maxsize=64)
def _kernel(shape: Shape) -> LawKernel:
    return LawKernel(shape)


def advance(
    law: Transition, j: int, x: NDArray[np.float64], seed: int, members: NDArray[np.int64], out: NDArray[np.float64]
) -> Callable[[slice], None]:
    """What puts the states after transition j of the members at some positions into `out`."""
    kernel, (uniform, varying) = _kernel(shape_of(law, len(x))), tables(law, len(members))
    k0, k1 = (int(k) for k in seed_key(seed))

    def run(own: slice) -> None:
        first, before, after, rows = (a.ctypes.data + 8 * own.start for a in (members, x, out, varying))
        kernel.run(first, own.stop - own.start, j, before, after, uniform.ctypes.data, rows, len(members), k0, k1)

    return run
