"""Fused CPU kernels for fields: the sweeps.

Each `Kernel` of a schedule becomes two functions. `row` computes one row of cells: every neighbouring row is its own
`noalias` argument and all values are computed before the first is stored, so LLVM vectorises the loop over x. `sweep`
visits the rows: it fills the ghost rows of the outer axes before, and the ghost cells and the noise of a row just before
the row is computed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

from llvmlite import ir

from sdesim.calculus import evaluate, walk
from sdesim.kernels.field_layout import LEFT, Layout
from sdesim.kernels.field_static import edge_coordinates, edge_size, is_row, is_timed
from sdesim.kernels.field_trace import Kernel
from sdesim.kernels.llvm import integer, loop
from sdesim.kernels.machines import F64, F64_POINTER, I64, VOID, LLVMMachine
from sdesim.stencils import Stencil
from sdesim.streams import Purpose, normal_pair

TABLE = F64_POINTER.as_pointer()
SWEEP = ("slots", "statics", "edges", "parameters", "numbers", "t", "noise", "member", "step", "k0", "k1")
SWEEP_TYPES = (TABLE, TABLE, TABLE, F64_POINTER, F64_POINTER, F64, F64_POINTER, I64, I64, I64, I64)


@dataclass(frozen=True)
class Names:
    """Where the kernels find things: parameters in a member's row, static arrays and edge coordinates in a table."""

    parameters: tuple[str, ...]
    statics: tuple[str, ...]
    coordinates: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, stencil: Stencil, parameters: tuple[str, ...]) -> Names:
        """The names of a stencil's model."""
        axes = range(len(stencil.model.grid.axes))
        return cls(parameters, tuple(stencil.statics), tuple((k, name) for k in axes
                                                             for name in edge_coordinates(stencil, k)))

    def static(self, name: str) -> int:
        """Place of a static array in the table."""
        return self.statics.index(name)

    def coordinate(self, axis: int, name: str) -> int:
        """Place of a coordinate along the edges of an axis in the table, after the static arrays."""
        return len(self.statics) + self.coordinates.index((axis, name))


def function(module: ir.Module, name: str, arguments: list[Any], rows: int) -> tuple[Any, ir.IRBuilder]:
    """A new void function whose first `rows` arguments are rows that do not overlap."""
    fn = ir.Function(module, ir.FunctionType(VOID, arguments), name)
    fn.attributes.add("noinline")
    fn.linkage = "internal"
    for a in fn.args[:rows]:
        a.add_attribute("noalias")
    return fn, ir.IRBuilder(fn.append_basic_block())


def scalars(nodes: Any, names: Names, m: LLVMMachine, parameters: Any, numbers: Any, t: Any) -> dict[Any, Any]:
    """Values of the symbols in the graphs: parameters, the method's numbers and the time."""
    b, env = m.builder, {}
    for name in dict.fromkeys(n.value for n in walk(nodes) if n.op == "symbol"):
        if name == "t":
            env[name] = m.wrap(t)
        elif name.startswith("#"):
            env[name] = m.wrap(b.load(b.gep(numbers, [integer(int(name[1:]))])))
        elif name in names.parameters:
            env[name] = m.wrap(b.load(b.gep(parameters, [integer(names.parameters.index(name))])))
    return env


def rows_of(kernel: Kernel) -> list[tuple[str, tuple[int, ...]]]:
    """The rows that a kernel reads: (array, offset along the outer axes), in order of use."""
    return list(dict.fromkeys((n.value[0], n.value[1][:-1]) for n in walk(kernel.outputs) if n.op == "load"))


class Sweeps:
    """Emits the functions of a stencil's kernels into a module."""

    def __init__(self, module: ir.Module, stencil: Stencil, layout: Layout, names: Names) -> None:
        self.module, self.stencil, self.layout, self.names = module, stencil, layout, names
        self.corners = stencil.has_corners
        self.noise = self._noise() if stencil.noise else None
        self.ghost = self._ghost()
        self.timed = {key: self._timed_edge(*key) for key in self._edges() if self._is_timed(*key)}

    def _edges(self) -> list[tuple[int, int, int]]:
        return list(product(range(len(self.stencil.ghosts)), range(len(self.layout.shape)), (0, 1)))

    def _is_timed(self, state: int, axis: int, side: int) -> bool:
        pair = self.stencil.ghosts[state][axis]
        return pair is not None and is_timed(pair[side])

    def _noise(self) -> Any:
        """noise(first, second, member, step, pair, word, k0, k1): the normals of a row, half by half."""
        fn, b = function(self.module, "noise", [F64_POINTER] * 2 + [I64] * 6, rows=2)
        first, second, member, step, pair, word, k0, k1 = fn.args
        m = LLVMMachine(b)
        with loop(b, integer((self.layout.nx + 1) // 2)) as i:
            counter = [m.wrap(v) for v in (member, step, b.add(pair, i), word)]
            z = normal_pair(m, counter, (m.wrap(k0), m.wrap(k1)))
            b.store(z[0].value, b.gep(first, [i]))
            b.store(z[1].value, b.gep(second, [i]))
        b.ret_void()
        return fn

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
        """row(read rows…, written rows…, parameters, numbers, t): the kernel on one row."""
        rows = rows_of(kernel)
        written = [k for k, slot in enumerate(kernel.in_place) if slot < 0]
        fn, b = function(self.module, name, [F64_POINTER] * (len(rows) + len(written) + 2) + [F64], rows=0)
        reads, (parameters, numbers, t) = fn.args[: len(rows)], fn.args[-3:]
        replaced = {f"@{slot}" for slot in kernel.in_place}
        for pointer, (array, _) in zip(reads, rows, strict=True):
            if array not in replaced:
                pointer.add_attribute("noalias")
        for pointer in fn.args[len(rows) : -1]:
            pointer.add_attribute("noalias")
        outs = dict(zip(written, fn.args[len(rows) : -3], strict=True))
        here = {array: pointer for pointer, (array, offset) in zip(reads, rows, strict=True) if not any(offset)}
        outs |= {k: here[f"@{slot}"] for k, slot in enumerate(kernel.in_place) if slot >= 0}
        m = LLVMMachine(b)
        env: dict[Any, Any] = scalars(kernel.outputs, self.names, m, parameters, numbers, t)
        loads = dict.fromkeys(n.value for n in walk(kernel.outputs) if n.op == "load")
        with loop(b, integer(self.layout.nx)) as i:
            for array, offset in loads:
                pointer = reads[rows.index((array, offset[:-1]))]
                index = b.add(i, integer(offset[-1])) if offset[-1] else i
                env[array, offset] = m.wrap(b.load(b.gep(pointer, [index])))
            for k, value in enumerate(evaluate(kernel.outputs, env, m)):
                b.store(value.value, b.gep(outs[k], [i]))
        b.ret_void()
        return fn

    def sweep(self, kernel: Kernel, index: int) -> Any:
        """sweep(…): the kernel on all rows, ghosts filled just in time."""
        row = self.row(kernel, f"row{index}")
        fn, b = function(self.module, f"sweep{index}", list(SWEEP_TYPES), rows=0)
        _Sweep(self, kernel, row, b, dict(zip(SWEEP, fn.args, strict=True))).emit()
        return fn


class _Sweep:
    """Emits one sweep."""

    def __init__(self, owner: Sweeps, kernel: Kernel, row: Any, b: ir.IRBuilder, a: dict[str, Any]) -> None:
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
        b, n, base = self.b, self.layout.shape[axis], self.bases[slot]
        wraps = self._wraps(state, axis)
        reach = 1 if self.owner.corners and wraps else 0
        ranges = {k: (-reach if k < axis else 0, m + (reach if k < axis else 0))
                  for k, m in enumerate(self.layout.outer) if k != axis}
        with self._loops(ranges) as place:
            for side, (ghost, inner, far) in enumerate(((-1, 0, n - 1), (n, n - 1, 0))):
                out = self._address(base, {**place, axis: integer(ghost)})
                source = self._address(base, {**place, axis: integer(far if wraps else inner)})
                if wraps:
                    with loop(b, integer(self.layout.nx)) as i:
                        b.store(b.load(b.gep(source, [i])), b.gep(out, [i]))
                    continue
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
        for state in sorted({int(array[1:]) for array, _ in rows if array.startswith("~")}):
            self._draw(state, place)
        arguments = [self._row(array, offset, place) for array, offset in rows]
        arguments += [self._address(self.bases[self.kernel.slots + k], place)
                      for k, slot in enumerate(self.kernel.in_place) if slot < 0]
        self.b.call(self.row, [*arguments, self.a["parameters"], self.a["numbers"], self.a["t"]])

    def _noise_row(self, state: int) -> Any:
        return self.b.gep(self.a["noise"], [integer(state * self.layout.row_size)])

    def _draw(self, state: int, place: dict[int, Any]) -> None:
        b, half = self.b, (self.layout.nx + 1) // 2
        first = self._noise_row(state)
        pair = b.mul(self._flat(place, list(range(len(self.layout.outer)))), integer(half))
        word = integer(int(Purpose.STEP) | state << 8)
        b.call(self.owner.noise, [first, b.gep(first, [integer(half)]), self.a["member"], self.a["step"], pair, word,
                                  self.a["k0"], self.a["k1"]])

    def _row(self, array: str, offset: tuple[int, ...], place: dict[int, Any]) -> Any:
        """The row of an array that a kernel reads at an offset."""
        if array.startswith("~"):
            return self._noise_row(int(array[1:]))
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
