"""Fused CPU kernels for fields: one sweep over the rows, as LLVM IR.

The ghost rows of the outer axes are filled before the sweep; the ghost cells and the noise of a row just before the row
is computed, while it is in the cache. Where a load reaches across two axes, the ghost cells of all rows come first.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate
from sdesim.kernels.field_layout import LEFT
from sdesim.kernels.field_names import rows_of, scalars
from sdesim.kernels.field_noise import sheet_count
from sdesim.kernels.field_schedule import Kernel
from sdesim.kernels.field_static import edge_size, is_row
from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import LLVMMachine
from sdesim.streams import Purpose


class Sweep:
    """Emits one sweep."""

    def __init__(self, owner: Any, kernel: Kernel, row: Any, b: ir.IRBuilder, a: dict[str, Any]) -> None:
        self.owner, self.kernel, self.row, self.b, self.a = owner, kernel, row, b, a
        self.layout, self.stencil = owner.layout, owner.stencil
        self.bases = [self._entry("slots", k) for k in range(kernel.slots + len(kernel.outputs))]

    def _entry(self, table: str, k: int) -> Any:
        return self.b.load(self.b.gep(self.a[table], [integer(k)]))

    def emit(self) -> None:
        b, outer = self.b, self.layout.outer
        for slot, state, time in self.kernel.ghosts:
            self._refresh(state, time)
            for axis in range(len(outer)):
                self._ghost_rows(slot, state, axis)
            if self.owner.corners and self._wraps(state, len(outer)):
                with self._loops({k: (-1, n + 1) for k, n in enumerate(outer)}) as place:
                    self._ghost_cells(slot, state, place)
        with self._loops({k: (0, n) for k, n in enumerate(outer)}) as place:
            for slot, state, _ in self.kernel.ghosts:
                if not (self.owner.corners and self._wraps(state, len(outer))):
                    self._ghost_cells(slot, state, place)
            self._compute(place)
        b.ret_void()

    def _wraps(self, state: int, axis: int) -> bool:
        return self.stencil.ghosts[state][axis] is None

    def _loops(self, ranges: dict[int, tuple[int, int]]) -> Any:
        """Nested loops over outer axes; yields the indices by axis."""
        stack = ExitStack()
        place = {axis: stack.enter_context(loop(self.b, integer(stop), integer(start), f"axis{axis}"))
                 for axis, (start, stop) in ranges.items()}
        return _Entered(stack, place)

    def _address(self, base: Any, place: dict[int, Any], offset: tuple[int, ...] = ()) -> Any:
        """First cell of the row at the given outer indices of the buffer at `base`."""
        b, at = self.b, integer(self.layout.first)
        for axis, stride in enumerate(self.layout.strides):
            index = b.add(place[axis], integer(offset[axis])) if offset and offset[axis] else place[axis]
            at = b.add(at, b.mul(index, integer(stride)))
        return b.gep(base, [at])

    def _flat(self, place: dict[int, Any], axes: list[int]) -> Any:
        """Flat index over some outer axes."""
        total = integer(0)
        for axis in axes:
            total = self.b.add(self.b.mul(total, integer(self.layout.shape[axis])), place[axis])
        return total

    def _edge(self, state: int, axis: int, side: int) -> tuple[Any, Any]:
        """Pointers to A and B of an edge."""
        A = self._entry("edges", (state * len(self.layout.shape) + axis) * 2 + side)
        return A, self.b.gep(A, [integer(edge_size(self.stencil, axis))])

    def _refresh(self, state: int, time: Any) -> None:
        """Recompute the conditions that change with time, at the time of the stage."""
        b, m = self.b, LLVMMachine(self.b)
        for (s, axis, side), fill in self.owner.timed.items():
            if s == state:
                env = scalars([time], self.owner.names, m, self.a["parameters"], self.a["numbers"], self.a["t"])
                (t,) = evaluate([time], env, m)
                b.call(fill, [self._edge(s, axis, side)[0], self.a["statics"], self.a["parameters"], t.value])

    def _ghost_rows(self, slot: int, state: int, axis: int) -> None:
        """Ghost rows on both sides of an outer axis."""
        reach = 1 if self.owner.corners and self._wraps(state, axis) else 0
        ranges = {k: (-reach if k < axis else 0, m + (reach if k < axis else 0))
                  for k, m in enumerate(self.layout.outer) if k != axis}
        with self._loops(ranges) as place:
            for side in (0, 1):
                self._ghost_row(slot, state, axis, side, place)

    def _ghost_row(self, slot: int, state: int, axis: int, side: int, place: dict[int, Any],
                   last: Any = None) -> None:
        """The ghost row beyond one side of an outer axis; `last` is the axis' last cell where it is not the grid's."""
        b, n, base = self.b, self.layout.shape[axis], self.bases[slot]
        wraps = self._wraps(state, axis)
        if last is None:
            ghost, inner, far = (integer(k) for k in ((-1, 0, n - 1), (n, n - 1, 0))[side])
        else:
            ghost, inner, far = b.add(last, integer(2 * side - 1)), last, last
        out = self._address(base, {**place, axis: ghost})
        source = self._address(base, {**place, axis: far if wraps else inner})
        if wraps:
            with loop(b, integer(self.layout.nx)) as i:
                b.store(b.load(b.gep(source, [i])), b.gep(out, [i]))
            return
        others = [k for k in range(len(self.layout.outer)) if k != axis]
        at = b.mul(self._flat(place, others), integer(self.layout.nx))
        A, B = (b.gep(p, [at]) for p in self._edge(state, axis, side))
        b.call(self.owner.ghost, [out, source, A, B])

    def _ghost_cells(self, slot: int, state: int, place: dict[int, Any]) -> None:
        """The two ghost cells of a row."""
        b, nx, x = self.b, self.layout.nx, len(self.layout.outer)
        row = self._address(self.bases[slot], place)
        wraps = self._wraps(state, x)
        for side, (ghost, inner, far) in enumerate(((-1, 0, nx - 1), (nx, nx - 1, 0))):
            value = b.load(b.gep(row, [integer(far if wraps else inner)]))
            if not wraps:
                at = self._flat(place, list(range(x)))
                a, c = (b.load(b.gep(p, [at])) for p in self._edge(state, x, side))
                value = b.fadd(a, b.fmul(c, value))
            b.store(value, b.gep(row, [integer(ghost)]))

    def _compute(self, place: dict[int, Any]) -> None:
        rows = rows_of(self.kernel)
        for source in sorted({int(array[1:]) for array, _ in rows if array.startswith("~")}):
            if self.stencil.sources[source].colour is None:
                self._draw(source, place)
        arguments = [self._row(array, offset, place) for array, offset in rows]
        arguments += [self._address(self.bases[self.kernel.slots + k], place)
                      for k, slot in enumerate(self.kernel.in_place) if slot < 0]
        measured = [self.a["peaks"]] if self.kernel.peaks else []
        self.b.call(self.row, [*arguments, self.a["parameters"], self.a["numbers"], self.a["t"], *measured])

    def _number(self, place: dict[int, Any]) -> Any:
        """The number of a row in the grid, by which its noise is drawn."""
        return self._flat(place, list(range(len(self.layout.outer))))

    def _noise_row(self, source: int, place: dict[int, Any]) -> Any:
        """The normals of a row: drawn, or those of a sheet of the step."""
        b, sheets, size = self.b, self.stencil.sheets, self.layout.row_size
        if source not in sheets:
            return b.gep(self.a["noise"], [integer(source * size)])
        count, cells = sheet_count(self.stencil), self.layout.cells
        step = b.add(integer(sheets.index(source) * count), b.urem(self.a["step"], integer(count)))
        at = b.add(b.mul(step, integer(cells)), b.mul(self._number(place), integer(self.layout.nx)))
        return b.gep(self.a["noise"], [b.add(at, integer(len(self.stencil.sources) * size))])

    def _draw(self, source: int, place: dict[int, Any]) -> None:
        b, half = self.b, (self.layout.nx + 1) // 2
        first = self._noise_row(source, place)
        pair = b.mul(self._number(place), integer(half))
        word = integer(int(Purpose.STEP) | self.stencil.sources[source].number << 8)
        b.call(self.owner.noise, [first, b.gep(first, [integer(half)]), integer(half), pair, self.a["member"],
                                  self.a["step"], word, self.a["k0"], self.a["k1"]])

    def _row(self, array: str, offset: tuple[int, ...], place: dict[int, Any]) -> Any:
        """The row of an array that a kernel reads at an offset."""
        if array.startswith("~"):
            return self._noise_row(int(array[1:]), place)
        if array.startswith("@"):
            return self._address(self.bases[int(array[1:])], place, offset)
        base = self._entry("statics", self.owner.names.static(array))
        if is_row(self.stencil, self.stencil.statics[array]):
            return self.b.gep(base, [integer(LEFT)])
        return self._address(base, place, offset)


class _Entered:
    """A stack of loops as one context, which yields the loops' indices."""

    def __init__(self, stack: ExitStack, place: dict[int, Any]) -> None:
        self.stack, self.place = stack, place

    def __enter__(self) -> dict[int, Any]:
        return self.place

    def __exit__(self, *exception: Any) -> None:
        self.stack.close()
