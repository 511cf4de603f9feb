"""Fused CPU kernels for fields: the loops over members, save intervals, steps and passes, in one function.

A step is read from a *program*: a schedule encoded as integers, [passes, final buffers…, then for each pass the kernel,
where its numbers begin, the count of its buffers and the buffers]. So the number of stages, the step and the buffers'
roles are data, and members with different ones share the machine code. After a step the buffers are renamed, not
copied. A member that is not finite at a save is marked and left; its states from then on are NaN.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.kernels.field_layout import Layout
from sdesim.kernels.field_llvm import Sweeps
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_noise import sheet_count
from sdesim.kernels.field_schedule import Kernel, Schedule
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID
from sdesim.stencils import Stencil

ARGUMENTS = (
    "first", "last", "members", "intervals", "stride", "initial", "out", "status", "counts", "programs", "starts",
    "saves", "steps", "schedules", "numbers", "rows", "widths", "parameters", "statics", "static_strides", "edges",
    "edge_strides", "buffers", "noise", "k0", "k1", "sheets",
)
"""What `run` is given, as one array of 64-bit integers and addresses; `sheets` that of a function of (place of the
member, step), which brings the coloured noise of the steps from there on."""
_POINTERS = {
    "members": I64_POINTER, "initial": F64_POINTER, "out": F64_POINTER, "status": I64_POINTER, "counts": I64_POINTER,
    "programs": I64_POINTER, "starts": F64_POINTER, "saves": I64_POINTER, "steps": F64_POINTER,
    "schedules": I64_POINTER, "numbers": I64_POINTER, "rows": I64_POINTER, "widths": I64_POINTER,
    "parameters": F64_POINTER,
    "statics": I64_POINTER, "static_strides": I64_POINTER,
    "edges": I64_POINTER, "edge_strides": I64_POINTER, "buffers": F64_POINTER, "noise": F64_POINTER,
}


def encode(schedule: Schedule, kernels: Sequence[Kernel], buffers: int) -> NDArray[np.int64]:
    """A schedule as the integers that `run` reads."""
    rest = [k for k in range(buffers) if k not in schedule.final]
    code, at = [len(schedule.passes), *schedule.final, *rest], 0
    for p in schedule.passes:
        code += [kernels.index(p.kernel), at, len(p.inputs) + len(p.outputs), *p.inputs, *p.outputs]
        at += len(p.numbers)
    return np.array(code, np.int64)


def numbers_in_order(schedule: Schedule, rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The method's numbers, pass by pass, as the kernels read them: a row for each of the first steps.

    The last holds from there on.
    """
    return np.array([[row[k] for p in schedule.passes for k in p.numbers] or [0.0] for row in rows])


def build(stencil: Stencil, names: Names, kernels: Sequence[Kernel], buffers: int) -> ir.Module:
    """The module of a stencil's kernels with its `run`."""
    module = ir.Module()
    layout = Layout(stencil.model.grid.shape)
    sweeps = Sweeps(module, stencil, layout, names)
    functions = [sweeps.sweep(kernel, k) for k, kernel in enumerate(kernels)]
    slots = most_slots(kernels)
    Run(module, stencil, layout, names, functions, buffers, slots).emit()
    return module


def most_slots(kernels: Sequence[Kernel]) -> int:
    """The most buffers that a pass names."""
    return max(kernel.slots + len(kernel.outputs) for kernel in kernels)


@lru_cache(maxsize=32)
def _machine_code(source: str) -> Compiled:
    return Compiled(_Source(source))


class _Source:
    """IR text that is already complete: what `Compiled` asks of a module is its text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def machine_code(module: ir.Module) -> Compiled:
    """The module's machine code; the same module is compiled once in a process."""
    return _machine_code(str(module))


def entry(code: Compiled) -> Any:
    """`run` as a callable on the address of its arguments, valid for as long as `code` is kept."""
    return code.function("run", ctypes.c_void_p)


class Run:
    """Emits `run(arguments)`."""

    arguments: tuple[str, ...] = ARGUMENTS
    pointers: Mapping[str, Any] = _POINTERS

    def __init__(self, module: ir.Module, stencil: Stencil, layout: Layout, names: Names, sweeps: list[Any],
                 buffers: int, slots: int) -> None:
        self.module, self.layout, self.names, self.sweeps = module, layout, names, sweeps
        self.states, self.edges = len(stencil.right_side), len(stencil.ghosts) * len(layout.shape) * 2
        self.memories, self.sheets = len(stencil.memories), sheet_count(stencil)
        self.count_statics = len(names.statics) + len(names.coordinates)
        self.buffers, self.slots = buffers, slots
        self.load_state, self.save_state, self.spoil = self._load_state(), self._save_state(), self._spoil()
        self.forget = self._forget()
        fn = ir.Function(module, ir.FunctionType(VOID, [I64_POINTER]), "run")
        self.b = ir.IRBuilder(fn.append_basic_block())
        self.a = {name: self._argument(fn.args[0], k) for k, name in enumerate(self.arguments)}
        self.table, self.other, self.slot_table, self.static_table, self.edge_table = (
            self.b.alloca(F64_POINTER, integer(max(1, n)))
            for n in (buffers, buffers, slots, self.count_statics, self.edges))
        self.count, self.alive, self.cursor = (self.b.alloca(I64) for _ in range(3))

    def _argument(self, pointer: Any, k: int) -> Any:
        value = self.b.load(self.b.gep(pointer, [integer(k)]))
        kind = self.pointers.get(self.arguments[k])
        return value if kind is None else self.b.inttoptr(value, kind)

    def _item(self, array: str, index: Any) -> Any:
        return self.b.load(self.b.gep(self.a[array], [index]))

    def _rows(self, b: ir.IRBuilder, field: Any, flat: Any, copy: Any) -> None:
        """Calls `copy(cell of the buffer, cell of the flat array)` inside loops over all cells."""
        outer, strides = self.layout.outer, self.layout.strides
        with loop(b, integer(math.prod(outer)), name="row") as r:
            at, rest = integer(self.layout.first), r
            for axis in range(len(outer) - 1, -1, -1):
                index = b.srem(rest, integer(outer[axis])) if axis else rest
                at = b.add(at, b.mul(index, integer(strides[axis])))
                rest = b.sdiv(rest, integer(outer[axis])) if axis else rest
            row, cells = b.gep(field, [at]), b.gep(flat, [b.mul(r, integer(self.layout.nx))])
            with loop(b, integer(self.layout.nx), name="x") as i:
                copy(b.gep(row, [i]), b.gep(cells, [i]))

    def _helper(self, name: str, arguments: list[Any], result: Any = VOID) -> tuple[Any, ir.IRBuilder]:
        fn = ir.Function(self.module, ir.FunctionType(result, arguments), name)
        fn.linkage = "internal"
        fn.attributes.add("noinline")
        for a in fn.args:
            a.add_attribute("noalias")
        return fn, ir.IRBuilder(fn.append_basic_block())

    def _load_state(self) -> Any:
        """load_state(buffer, array): a flat array into the cells of a buffer."""
        fn, b = self._helper("load_state", [F64_POINTER] * 2)
        self._rows(b, fn.args[0], fn.args[1], lambda cell, value: b.store(b.load(value), cell))
        b.ret_void()
        return fn

    def _save_state(self) -> Any:
        """save_state(buffer, array): the cells of a buffer into a flat array; 1 if all are finite."""
        fn, b = self._helper("save_state", [F64_POINTER] * 2, I64)
        bad, exponent = b.alloca(I64), integer(0x7FF0000000000000)
        b.store(integer(0), bad)

        def copy(cell: Any, target: Any) -> None:
            value = b.load(cell)
            b.store(value, target)
            broken = b.icmp_unsigned("==", b.and_(b.bitcast(value, I64), exponent), exponent)
            b.store(b.or_(b.load(bad), b.zext(broken, I64)), bad)

        self._rows(b, fn.args[0], fn.args[1], copy)
        b.ret(b.xor(b.load(bad), integer(1)))
        return fn

    def _forget(self) -> Any:
        """forget(buffer): zero in all of a buffer."""
        fn, b = self._helper("forget", [F64_POINTER])
        with loop(b, integer(self.layout.size)) as i:
            b.store(ir.Constant(F64, 0.0), b.gep(fn.args[0], [i]))
        b.ret_void()
        return fn

    def _spoil(self) -> Any:
        """spoil(array): NaN in every cell of a flat array."""
        fn, b = self._helper("spoil", [F64_POINTER])
        with loop(b, integer(self.layout.cells)) as i:
            b.store(ir.Constant(F64, math.nan), b.gep(fn.args[0], [i]))
        b.ret_void()
        return fn

    def emit(self) -> None:
        b, a = self.b, self.a
        with loop(b, a["last"], a["first"], name="member") as m:
            self._begin(m)
            with loop(b, a["intervals"], name="save") as i:
                save = self._item("saves", b.add(b.mul(m, a["intervals"]), i))
                with b.if_then(b.icmp_signed("!=", b.load(self.alive), integer(0))):
                    self._interval(m, i)
                with b.if_then(b.icmp_signed(">=", save, integer(0))):
                    with b.if_then(b.icmp_signed("!=", b.load(self.alive), integer(0))):
                        self._save(m, save)
                    with b.if_then(b.icmp_signed("==", b.load(self.alive), integer(0))):
                        for state in range(self.states):
                            b.call(self.spoil, [self._saved(m, save, state)])
            b.store(b.xor(b.load(self.alive), integer(1)), b.gep(a["status"], [m]))
        b.ret_void()

    def _tables(self, m: Any) -> None:
        """Where a member's own arrays are."""
        b = self.b
        for table, array, stride, n in ((self.static_table, "statics", "static_strides", self.count_statics),
                                        (self.edge_table, "edges", "edge_strides", self.edges)):
            with loop(b, integer(n)) as k:
                start = b.inttoptr(self._item(array, k), F64_POINTER)
                b.store(b.gep(start, [b.mul(self._item(stride, k), m)]), b.gep(table, [k]))

    def _begin(self, m: Any) -> None:
        """A member's own arrays, and its initial state in the first buffers."""
        b, a = self.b, self.a
        self._tables(m)
        for k in range(self.buffers):
            b.store(b.gep(a["buffers"], [integer(k * self.layout.size)]), b.gep(self.table, [integer(k)]))
        for state in range(self.states):
            at = b.mul(b.add(b.mul(integer(state), a["stride"]), m), integer(self.layout.cells))
            b.call(self.load_state, [b.load(b.gep(self.table, [integer(state)])), b.gep(a["initial"], [at])])
        for k in range(self.memories):
            b.call(self.forget, [b.load(b.gep(self.table, [integer(self.states + k)]))])
        b.store(integer(0), self.count)
        b.store(integer(1), self.alive)

    def _interval(self, m: Any, i: Any) -> None:
        """The steps of one part of a save interval."""
        b, a = self.b, self.a
        index = b.add(b.mul(m, a["intervals"]), i)
        program, start = self._item("programs", index), self._item("starts", index)
        h = self._item("steps", program)
        schedule = b.inttoptr(self._item("schedules", program), I64_POINTER)
        numbers = b.inttoptr(self._item("numbers", program), F64_POINTER)
        last, width = b.sub(self._item("rows", program), integer(1)), self._item("widths", program)
        with loop(b, self._item("counts", index), name="step") as s:
            t = b.fadd(start, b.fmul(b.sitofp(s, F64), h))
            row = b.mul(b.select(b.icmp_signed("<", s, last), s, last), width)
            if self.sheets:
                self._bring_sheets(m)
            b.store(integer(1 + self.buffers), self.cursor)
            with loop(b, b.load(schedule), name="pass"):
                self._pass(m, schedule, b.gep(numbers, [row]), t)
            self._rename(schedule)
            b.store(b.add(b.load(self.count), integer(1)), self.count)

    def _bring_sheets(self, m: Any) -> None:
        """Call for the next block of sheets."""
        b, step = self.b, self.b.load(self.count)
        kind = ir.FunctionType(VOID, [I64, I64]).as_pointer()
        with b.if_then(b.icmp_signed("==", b.urem(step, integer(self.sheets)), integer(0))):
            b.call(b.inttoptr(self.a["sheets"], kind), [m, step])

    def _pass(self, m: Any, schedule: Any, numbers: Any, t: Any) -> None:
        """Gather the buffers of a pass and call its sweep."""
        b, a, at = self.b, self.a, self.b.load(self.cursor)
        kernel, offset, n = (b.load(b.gep(schedule, [b.add(at, integer(k))])) for k in range(3))
        with loop(b, n, name="slot") as k:
            role = b.load(b.gep(schedule, [b.add(b.add(at, integer(3)), k)]))
            b.store(b.load(b.gep(self.table, [role])), b.gep(self.slot_table, [k]))
        b.store(b.add(at, b.add(n, integer(3))), self.cursor)
        parameters = b.gep(a["parameters"], [b.mul(m, integer(len(self.names.parameters)))])
        arguments = [self.slot_table, self.static_table, self.edge_table, parameters, b.gep(numbers, [offset]), t,
                     a["noise"], self._item("members", m), b.load(self.count), a["k0"], a["k1"], self._peaks()]
        after = b.append_basic_block("swept")
        switch = b.switch(kernel, after)
        for k, sweep in enumerate(self.sweeps):
            block = b.append_basic_block(f"kernel{k}")
            switch.add_case(integer(k), block)
            b.position_at_end(block)
            b.call(sweep, arguments)
            b.branch(after)
        b.position_at_end(after)

    def _peaks(self) -> Any:
        """Where peaks go: the kernels of fixed steps have none."""
        return ir.Constant(I64_POINTER, None)

    def _rename(self, schedule: Any) -> None:
        """Buffer k of the next step is the one that the schedule's list names."""
        b = self.b
        with loop(b, integer(self.buffers)) as k:
            role = b.load(b.gep(schedule, [b.add(k, integer(1))]))
            b.store(b.load(b.gep(self.table, [role])), b.gep(self.other, [k]))
        with loop(b, integer(self.buffers)) as k:
            b.store(b.load(b.gep(self.other, [k])), b.gep(self.table, [k]))

    def _saved(self, m: Any, i: Any, state: int) -> Any:
        b = self.b
        index = b.add(b.mul(i, integer(self.states)), integer(state))
        index = b.add(b.mul(index, self.a["stride"]), m)
        return b.gep(self.a["out"], [b.mul(index, integer(self.layout.cells))])

    def _save(self, m: Any, i: Any) -> None:
        b = self.b
        for state in range(self.states):
            buffer = b.load(b.gep(self.table, [integer(state)]))
            fine = b.call(self.save_state, [buffer, self._saved(m, i, state)])
            b.store(b.and_(b.load(self.alive), fine), self.alive)

