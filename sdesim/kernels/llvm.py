"""From LLVM IR to a function that runs: loops as context managers, optimisation and machine code in this process.

Compiling takes tens of milliseconds, so nothing is cached on disk: a later process, or many at once, start as quickly
as the first and share nothing.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from sdesim.kernels.machines import I32, I64

_LOCK = threading.Lock()  # LLVM's pass managers share the global context


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


@cache
def host_has(feature: str) -> bool:
    """Whether this processor has a feature by LLVM's name, such as "avx512f"."""
    return bool(llvm.get_host_cpu_features().get(feature, False))


def integer(value: int) -> ir.Constant:
    """An i64 constant.

    >>> print(integer(3))
    i64 3
    """
    return ir.Constant(I64, value)


@contextmanager
def loop(
    builder: ir.IRBuilder, stop: Any, start: Any = None, name: str = "i", hints: Mapping[str, int] | None = None,
    step: int = 1,
) -> Iterator[Any]:  # fmt: skip
    """Emit `for i in range(start, stop, step)`; the body is what is built inside the `with`, which yields i.

    `hints` go to LLVM's vectoriser: "vectorize.width" (numbers in a vector) and "interleave.count" (vectors at once).

    >>> f = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [I64]), "f")
    >>> b = ir.IRBuilder(f.append_basic_block())
    >>> with loop(b, f.args[0]) as i:
    ...     _ = b.add(i, i)
    >>> _ = b.ret_void()
    """
    before = builder.block
    head, body, after = (builder.append_basic_block(name + part) for part in ("_head", "_body", "_end"))
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(I64)
    counter.add_incoming(integer(0) if start is None else start, before)
    builder.cbranch(builder.icmp_signed("<", counter, stop), body, after)
    builder.position_at_end(body)
    yield counter
    counter.add_incoming(builder.add(counter, integer(step)), builder.block)
    back = builder.branch(head)
    if hints:
        module = builder.module
        told = [[ir.MetaDataString(module, f"llvm.loop.{key}"), ir.Constant(I32, n)] for key, n in hints.items()]
        node = module.add_metadata([module.add_metadata(hint) for hint in told])
        node.operands = (node, *node.operands[-len(told) :])  # a loop's metadata begins with itself
        back.set_metadata("llvm.loop", node)
    builder.position_at_end(after)


def at(builder: ir.IRBuilder, pointer: Any, *indices: Any) -> Any:
    """The address `pointer + index` (one index: an element of a flat array)."""
    return builder.gep(pointer, list(indices))


class Compiled:
    """Machine code of one module; keeps the engine alive for as long as its functions are used.

    Raises RuntimeError (from LLVM) for IR that does not verify, before any of it runs.
    """

    def __init__(self, module: ir.Module) -> None:
        _initialise()
        with _LOCK:
            self.source = str(module)
            # vectors as wide as there are: LLVM holds some processors with 512 bits to 256
            features = f"{llvm.get_host_cpu_features().flatten()},-prefer-256-bit"
            # the engine takes ownership of its target machine, so each has its own
            machine = llvm.Target.from_default_triple().create_target_machine(
                cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True
            )
            parsed = llvm.parse_assembly(self.source)
            parsed.verify()
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization, options.slp_vectorization = True, False
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(parsed, builder)
            self.optimised = parsed
            self.machine = machine
            self.engine = llvm.create_mcjit_compiler(parsed, machine)
            self.engine.finalize_object()

    def function(self, name: str, *arguments: Any) -> Any:
        """A callable for the void function `name` with ctypes argument types; it releases the GIL."""
        return ctypes.CFUNCTYPE(None, *arguments)(self.engine.get_function_address(name))
