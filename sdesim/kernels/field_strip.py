"""Fused CPU kernels for fields: a sweep through many steps at once, for a strip of a large grid.

The passes of several steps are *levels*. Level l works on plane i − l of the first axis while i runs through the strip:
its neighbours i − l ± 1 are complete at level l − 1, and still in the cache. A strip has a halo of as many planes as
there are levels, in which each level computes one plane less than the one before; so strips need each other only
between two sweeps. The rows are computed by the same functions as in `field_llvm`: the bits are the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sdesim.kernels.field_driver import machine_code
from sdesim.kernels.field_layout import Layout
from sdesim.kernels.field_llvm import Sweeps, function
from sdesim.kernels.field_names import SWEEP, SWEEP_TYPES, TABLE, Names
from sdesim.kernels.field_schedule import Kernel
from sdesim.kernels.field_sweep import Sweep
from sdesim.kernels.llvm import Compiled, integer, loop
from sdesim.kernels.machines import F64_POINTER, I64, I64_POINTER, VOID
from sdesim.stencils import Stencil

ARGUMENTS = (
    "begin", "end", "levels", "kernels", "slots", "numbers", "times", "steps", "lows", "highs", "width", "statics",
    "edges", "parameters", "noise", "member", "k0", "k1", "first", "last", "shift", "peaks",
)
"""What `strip` is given: planes [lows[l], highs[l]) for each level l; the planes that lie at the grid's edges (or −9);
the number in the grid of the strip's plane 0, kept positive."""
_POINTERS = {
    "kernels": I64_POINTER, "slots": TABLE, "numbers": TABLE, "times": F64_POINTER, "steps": I64_POINTER,
    "lows": I64_POINTER, "highs": I64_POINTER, "statics": TABLE, "edges": TABLE, "parameters": F64_POINTER,
    "noise": F64_POINTER, "peaks": I64_POINTER,
}
_PLANE = (*SWEEP, "row", "first", "last", "shift")


class Plane(Sweep):
    """Emits one kernel on one plane of a strip: a row in two dimensions."""

    def emit(self) -> None:
        b, row, outer = self.b, self.a["row"], self.layout.outer
        inner = {k: (0, n) for k, n in enumerate(outer) if k}
        for slot, state, _ in self.kernel.ghosts:
            for side, edge in enumerate(("first", "last")):
                if not self._wraps(state, 0):
                    with b.if_then(b.icmp_signed("==", row, self.a[edge])), self._loops(inner) as place:
                        self._ghost_row(slot, state, 0, side, place, last=row)
            for axis in range(1, len(outer)):
                with self._loops({k: span for k, span in inner.items() if k != axis}) as place:
                    for side in (0, 1):
                        self._ghost_row(slot, state, axis, side, {**place, 0: row})
        with self._loops(inner) as place:
            place = {**place, 0: row}
            for slot, state, _ in self.kernel.ghosts:
                self._ghost_cells(slot, state, place)
            self._compute(place)
        b.ret_void()

    def _edge(self, state: int, axis: int, side: int) -> tuple[Any, Any]:
        k = 2 * ((state * len(self.layout.shape) + axis) * 2 + side)
        return self._entry("edges", k), self._entry("edges", k + 1)

    def _number(self, place: dict[int, Any]) -> Any:
        row = self.b.srem(self.b.add(place[0], self.a["shift"]), integer(self.layout.shape[0]))
        return super()._number({**place, 0: row})


def compile_strip(stencil: Stencil, names: Names, kernels: Sequence[Kernel]) -> Compiled:
    """Machine code with the function `strip`."""
    module = ir.Module()
    sweeps = Sweeps(module, stencil, Layout(stencil.model.grid.shape), names)
    planes = []
    for k, kernel in enumerate(kernels):
        fn, b = function(module, f"plane{k}", [*SWEEP_TYPES, *[I64] * 4], rows=0)
        Plane(sweeps, kernel, sweeps.row(kernel, f"row{k}"), b, dict(zip(_PLANE, fn.args, strict=True))).emit()
        planes.append(fn)
    _emit_strip(module, planes)
    return machine_code(module)


def entry(code: Compiled) -> Any:
    """`strip` as a callable on the address of its arguments, valid for as long as `code` is kept."""
    return code.function("strip", ctypes.c_void_p)


def _emit_strip(module: ir.Module, planes: Sequence[Any]) -> None:
    fn = ir.Function(module, ir.FunctionType(VOID, [I64_POINTER]), "strip")
    b = ir.IRBuilder(fn.append_basic_block())
    a: dict[str, Any] = {}
    for k, name in enumerate(ARGUMENTS):
        value = b.load(b.gep(fn.args[0], [integer(k)]))
        a[name] = b.inttoptr(value, _POINTERS[name]) if name in _POINTERS else value

    def item(name: str, index: Any) -> Any:
        return b.load(b.gep(a[name], [index]))

    with loop(b, a["end"], a["begin"], name="plane") as i, loop(b, a["levels"], name="level") as l:
        row = b.sub(i, l)
        inside = b.and_(b.icmp_signed(">=", row, item("lows", l)), b.icmp_signed("<", row, item("highs", l)))
        with b.if_then(inside):
            arguments = [b.gep(a["slots"], [b.mul(l, a["width"])]), a["statics"], a["edges"], a["parameters"],
                         item("numbers", l), item("times", l), a["noise"], a["member"], item("steps", l), a["k0"],
                         a["k1"], a["peaks"], row, a["first"], a["last"], a["shift"]]
            after = b.append_basic_block("done")
            switch = b.switch(item("kernels", l), after)
            for k, plane in enumerate(planes):
                block = b.append_basic_block(f"kernel{k}")
                switch.add_case(integer(k), block)
                b.position_at_end(block)
                b.call(plane, arguments)
                b.branch(after)
            b.position_at_end(after)
    b.ret_void()
