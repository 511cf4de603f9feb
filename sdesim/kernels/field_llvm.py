"""Fused CPU kernels for fields: the sweeps.

Each `Kernel` of a schedule becomes two functions. `row` computes one row of cells: every neighbouring row is its own
`noalias` argument and all values are computed before the first is stored, so LLVM vectorises the loop over x. `sweep`
visits the rows (`field_sweep`).
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate, walk
from sdesim.kernels.field_layout import Layout
from sdesim.kernels.field_names import SWEEP, SWEEP_TYPES, TABLE, Names, rows_of, scalars
from sdesim.kernels.field_schedule import Kernel
from sdesim.kernels.field_static import edge_size, is_timed
from sdesim.kernels.field_sweep import Sweep
from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, VOID, LLVMMachine
from sdesim.kernels.spectral_noise import pair_row
from sdesim.stencils import Stencil


def function(module: ir.Module, name: str, arguments: list[Any], rows: int) -> tuple[Any, ir.IRBuilder]:
    """A new void function whose first `rows` arguments are rows that do not overlap."""
    fn = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    fn.attributes.add("noinline")
    fn.linkage = "internal"
    for a in fn.args[:rows]:
        a.add_attribute("noalias")
    return fn, ir.IRBuilder(fn.append_basic_block())


class _Peaks:
    """The largest sizes of a row's values, as integers: the bits of numbers without sign are in the numbers' order.

    So the order of the cells does not matter, to LLVM's vectoriser neither, and what is no number is the largest.
    """

    def __init__(self, b: ir.IRBuilder, memory: Any, kernel: Kernel) -> None:
        self.b, self.memory, self.numbers = b, memory, [number for number, _ in kernel.peaks]
        memory.add_attribute("noalias")
        self.places = {number: b.alloca(I64) for number in self.numbers}
        for number, place in self.places.items():
            b.store(b.load(b.gep(memory, [integer(number)])), place)

    def raise_to(self, values: list[Any]) -> None:
        """No less than |value|."""
        b = self.b
        for number, value in zip(self.numbers, values, strict=True):
            size, place = b.and_(b.bitcast(value, I64), integer(0x7FFFFFFFFFFFFFFF)), self.places[number]
            before = b.load(place)
            b.store(b.select(b.icmp_signed(">", size, before), size, before), place)

    def store(self) -> None:
        for number, place in self.places.items():
            self.b.store(self.b.load(place), self.b.gep(self.memory, [integer(number)]))


class Sweeps:
    """Emits the functions of a stencil's kernels into a module."""

    def __init__(self, module: ir.Module, stencil: Stencil, layout: Layout, names: Names) -> None:
        self.module, self.stencil, self.layout, self.names = module, stencil, layout, names
        self.corners = stencil.has_corners
        self.noise = pair_row(module, "noise") if stencil.noise else None
        self.ghost = self._ghost()
        self.timed = {key: self._timed_edge(*key) for key in self._edges() if self._is_timed(*key)}

    def _edges(self) -> list[tuple[int, int, int]]:
        return list(product(range(len(self.stencil.ghosts)), range(len(self.layout.shape)), (0, 1)))

    def _is_timed(self, state: int, axis: int, side: int) -> bool:
        pair = self.stencil.ghosts[state][axis]
        return pair is not None and is_timed(pair[side])

    def _ghost(self) -> Any:
        """ghost(out, in, A, B): a ghost row, A + B·u."""
        fn, b = function(self.module, "ghost", [F64_POINTER] * 4, rows=4)
        out, source, A, B = fn.args
        with loop(b, integer(self.layout.nx)) as i:
            a, c, u = (b.load(b.gep(row, [i])) for row in (A, B, source))
            b.store(b.fadd(a, b.fmul(c, u)), b.gep(out, [i]))
        b.ret_void()
        return fn

    def _timed_edge(self, state: int, axis: int, side: int) -> Any:
        """edge(out, coordinates, parameters, t): A and B along an edge at a time."""
        size = edge_size(self.stencil, axis)
        fn, b = function(self.module, f"edge_{state}_{axis}_{side}", [F64_POINTER, TABLE, F64_POINTER, F64], rows=1)
        out, table, parameters, t = fn.args
        m = LLVMMachine(b)
        pair = self.stencil.ghosts[state][axis]
        assert pair is not None  # periodic edges have no condition
        env = scalars(pair[side], self.names, m, parameters, None, t)
        coordinates = {name: b.load(b.gep(table, [integer(self.names.coordinate(k, name))]))
                       for k, name in self.names.coordinates if k == axis}
        with loop(b, integer(size)) as i:
            here = {name: m.wrap(b.load(b.gep(row, [i]))) for name, row in coordinates.items()}
            for k, value in enumerate(evaluate(pair[side], {**env, **here}, m)):
                b.store(value.value, b.gep(out, [b.add(i, integer(k * size))]))
        b.ret_void()
        return fn

    def row(self, kernel: Kernel, name: str) -> Any:
        """row(read rows…, written rows…, parameters, numbers, t[, peaks]): the kernel on one row."""
        rows = rows_of(kernel)
        written = [k for k, slot in enumerate(kernel.in_place) if slot < 0]
        measured = [I64_POINTER] if kernel.peaks else []
        fn, b = function(self.module, name, [F64_POINTER] * (len(rows) + len(written) + 2) + [F64, *measured], rows=0)
        arguments = list(fn.args)
        peaks = _Peaks(b, arguments.pop(), kernel) if kernel.peaks else None
        reads, (parameters, numbers, t) = arguments[: len(rows)], arguments[-3:]
        replaced = {f"@{slot}" for slot in kernel.in_place}
        for pointer, (array, _) in zip(reads, rows, strict=True):
            if array not in replaced:
                pointer.add_attribute("noalias")
        for pointer in arguments[len(rows) : -1]:
            pointer.add_attribute("noalias")
        outs = dict(zip(written, arguments[len(rows) : -3], strict=True))
        here = {array: pointer for pointer, (array, offset) in zip(reads, rows, strict=True) if not any(offset)}
        outs |= {k: here[f"@{slot}"] for k, slot in enumerate(kernel.in_place) if slot >= 0}
        m = LLVMMachine(b)
        env: dict[Any, Any] = scalars(kernel.graphs, self.names, m, parameters, numbers, t)
        loads = dict.fromkeys(n.value for n in walk(kernel.graphs) if n.op == "load")
        with loop(b, integer(self.layout.nx)) as i:
            for array, offset in loads:
                pointer = reads[rows.index((array, offset[:-1]))]
                index = b.add(i, integer(offset[-1])) if offset[-1] else i
                env[array, offset] = m.wrap(b.load(b.gep(pointer, [index])))
            values = evaluate(kernel.graphs, env, m)
            for k, value in enumerate(values[: len(kernel.outputs)]):
                b.store(value.value, b.gep(outs[k], [i]))
            if peaks is not None:
                peaks.raise_to([value.value for value in values[len(kernel.outputs) :]])
        if peaks is not None:
            peaks.store()
        b.ret_void()
        return fn

    def sweep(self, kernel: Kernel, index: int) -> Any:
        """sweep(…): the kernel on all rows, ghosts filled just in time."""
        row = self.row(kernel, f"row{index}")
        fn, b = function(self.module, f"sweep{index}", list(SWEEP_TYPES), rows=0)
        Sweep(self, kernel, row, b, dict(zip(SWEEP, fn.args, strict=True))).emit()
        return fn
