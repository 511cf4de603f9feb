"""CUDA source of the field kernels: one thread per cell and pass, the member in blockIdx.y.

It is generated from the same `Kernel`s as the LLVM sweeps and computes the same bits. Buffers have no ghost cells
here: (buffer, member, cell). A load beyond an edge finds its ghost, A + B·u, when it happens; a cell draws its own pair
of normals. On a GPU the source is built by CuPy's `RawModule` with `--fmad=false`; on the host `host_<name><k>` is the
loop over threads of kernel k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdesim.calculus import evaluate, walk
from sdesim.kernels.cuda import PRELUDE
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_schedule import Kernel
from sdesim.kernels.field_static import edge_size, is_row, is_timed
from sdesim.kernels.machines import CMachine, CValue
from sdesim.stencils import Stencil
from sdesim.streams import Purpose, normal_pair

_TABLES = ("const double* const* statics, const i64* static_strides, const double* const* edges, "
           "const i64* edge_strides, const double* parameters, const double* numbers, double t, const i64* members, "
           "i64 step, u64 k0, u64 k1, u64* peaks, const double* sheets")
_TABLE_NAMES = ("statics, static_strides, edges, edge_strides, parameters, numbers, t, members, step, k0, k1, peaks, "
                "sheets")
RAISE = """\
DEVICE void raise_peak(u64* peak, double value) {
  const u64 size = as_bits(value) & 0x7fffffffffffffffull;
#ifdef __CUDACC__
  if (size > *(volatile u64*)peak) atomicMax(peak, size);
#else
  if (size > *peak) *peak = size;
#endif
}
"""
_PLACE = "i64 z, i64 y, i64 x"
_AXES = "zyx"


def cuda_source(stencil: Stencil, kernels: Sequence[Kernel], names: Names, name: str = "field") -> str:
    """The whole source of a stencil's kernels: `<name>0`, `<name>1`, …"""
    return PRELUDE + pair_function() + RAISE + cuda_body(stencil, kernels, names, name)


def pair_function() -> str:
    """normals(c0, c1, c2, c3, k0, k1, &first, &second): two normals at a counter."""
    m = CMachine()
    counter = [CValue(m, f"c{i}", "u64") for i in range(4)]
    first, second = normal_pair(m, counter, (CValue(m, "k0", "u64"), CValue(m, "k1", "u64")))
    return ("DEVICE void normals(u64 c0, u64 c1, u64 c2, u64 c3, u64 k0, u64 k1, double& first, double& second) {\n"
            + "".join(f"  {line}\n" for line in m.lines)
            + f"  first = {first.text};\n  second = {second.text};\n}}\n")


def cuda_body(stencil: Stencil, kernels: Sequence[Kernel], names: Names, name: str) -> str:
    """The source without what all sources share, so that several can stand in one file under different names."""
    writer = _Writer(stencil, names, name)
    parts = [writer.edge(*key) for key in writer.timed] + [writer.ghosted(s) for s in range(len(stencil.ghosts))]
    return "".join([*parts, *(writer.kernel(kernel, k) for k, kernel in enumerate(kernels))])


class _Writer:
    """Writes the functions of one stencil."""

    def __init__(self, stencil: Stencil, names: Names, name: str) -> None:
        self.stencil, self.names, self.name = stencil, names, name
        self.shape = stencil.model.grid.shape
        self.axes = _AXES[3 - len(self.shape) :]
        self.cells = stencil.model.grid.size
        self.timed = [(s, k, side) for s, axes in enumerate(stencil.ghosts) for k, pair in enumerate(axes)
                      for side in (0, 1) if pair is not None and is_timed(pair[side])]

    def flat(self, axes: Sequence[int], place: dict[int, str] | None = None) -> str:
        """C text of the flat index over some axes; `place` replaces the index of an axis."""
        text = "0"
        for k in axes:
            index = (place or {}).get(k, self.axes[k])
            text = index if text == "0" else f"({text})*{self.shape[k]} + {index}"
        return text

    def scalars(self, nodes: Sequence[Any], m: CMachine, time: str) -> dict[Any, CValue]:
        """Parameters, the method's numbers and the time."""
        env = {}
        for symbol in dict.fromkeys(n.value for n in walk(nodes) if n.op == "symbol"):
            if symbol == "t":
                env[symbol] = m.wrap(time)
            elif symbol.startswith("#"):
                env[symbol] = m.wrap(f"numbers[{symbol[1:]}]")
            elif symbol in self.names.parameters:
                env[symbol] = m.wrap(f"p[{self.names.parameters.index(symbol)}]")
        return env

    def edge(self, state: int, axis: int, side: int) -> str:
        """edge(statics, p, i, t, &A, &B): a condition that changes with time."""
        m, pair = CMachine(), self.stencil.ghosts[state][axis]
        assert pair is not None
        env = self.scalars(pair[side], m, "t")
        for k, coordinate in self.names.coordinates:
            if k == axis:
                env[coordinate] = m.wrap(f"statics[{self.names.coordinate(k, coordinate)}][i]")
        A, B = evaluate(pair[side], env, m)
        return (f"DEVICE void {self.name}_edge_{state}_{axis}_{side}(const double* const* statics, const double* p, "
                "i64 i, double t, double& A, double& B) {\n" + "".join(f"  {line}\n" for line in m.lines)
                + f"  A = {A.text};\n  B = {B.text};\n}}\n")

    def ghosted(self, state: int) -> str:
        """at(u, …, z, y, x): the value of a state, its ghost beyond an edge."""
        wraps = [k for k, pair in enumerate(self.stencil.ghosts[state]) if pair is None]
        lines = [f"if ({a} < 0) {a} += {n}; else if ({a} >= {n}) {a} -= {n};"
                 for a, n in ((self.axes[k], self.shape[k]) for k in wraps)]
        for k in range(len(self.shape)):
            if k not in wraps:
                lines += [self._ghost(state, k, 0), self._ghost(state, k, 1)]
        lines.append(f"return u[{self.flat(range(len(self.shape)))}];")
        return (f"DEVICE double {self.name}_at_{state}(const double* u, const double* const* statics, "
                "const double* const* edges, const i64* edge_strides, const double* p, i64 member, double t, "
                f"{_PLACE}) {{\n" + "".join(f"  {line}\n" for line in lines) + "}\n")

    def _ghost(self, state: int, axis: int, side: int) -> str:
        a, n = self.axes[axis], self.shape[axis]
        edge = (state * len(self.shape) + axis) * 2 + side
        others = [k for k in range(len(self.shape)) if k != axis]
        inner = self.flat(range(len(self.shape)), {axis: str(0 if side == 0 else n - 1)})
        if (state, axis, side) in self.timed:
            find = (f"double A, B; {self.name}_edge_{state}_{axis}_{side}(statics, p, {self.flat(others)}, t, A, B);")
        else:
            find = (f"const double* e = edges[{edge}] + edge_strides[{edge}]*member + {self.flat(others)}; "
                    f"const double A = e[0], B = e[{edge_size(self.stencil, axis)}];")
        beyond = f"{a} < 0" if side == 0 else f"{a} >= {n}"
        return f"if ({beyond}) {{ {find} return A + B*u[{inner}]; }}"

    def kernel(self, kernel: Kernel, index: int) -> str:
        """One kernel and its loop over threads on the host."""
        count = kernel.slots + len(kernel.outputs)
        arguments = "double* buffers, i64 n, " + "".join(f"i64 b{k}, " for k in range(count)) + _TABLES
        passed = "buffers, n, " + "".join(f"b{k}, " for k in range(count)) + _TABLE_NAMES
        m = CMachine()
        lines = self._place() + [f"const double* u{k} = buffers + (b{k}*n + member)*{self.cells};"
                                 for k in range(kernel.slots)]
        lines += [f"double* o{k} = buffers + (b{kernel.slots + k}*n + member)*{self.cells};"
                  for k in range(len(kernel.outputs))]
        env = self.scalars(kernel.graphs, m, "t")
        lines += self._stage_times(kernel) + self._draws(kernel)
        env |= {n.value: m.let("double", self._load(kernel, *n.value)) for n in walk(kernel.graphs) if n.op == "load"}
        results = evaluate(kernel.graphs, env, m)
        stores = [f"o{k}[i] = {value.text};" for k, value in enumerate(results[: len(kernel.outputs)])]
        stores += [f"raise_peak(peaks + {number}, {value.text});"
                   for (number, _), value in zip(kernel.peaks, results[len(kernel.outputs) :])]
        body = "".join(f"  {line}\n" for line in [*lines, *m.lines, *stores])
        return f"""KERNEL {self.name}{index}({arguments}) {{
{body}}}
#ifndef __CUDACC__
extern "C" void host_{self.name}{index}({arguments}) {{
  blockDim.x = 1; threadIdx.x = 0;
  for (i64 m = 0; m < n; m++)
    for (i64 i = 0; i < {self.cells}; i++) {{
      blockIdx.y = (unsigned)m; blockIdx.x = (unsigned)i; {self.name}{index}({passed});
    }}
}}
#endif
"""

    def _place(self) -> list[str]:
        """The thread's member and cell."""
        lines = ["const i64 i = blockIdx.x*(i64)blockDim.x + threadIdx.x, member = blockIdx.y;",
                 f"if (i >= {self.cells}) return;",
                 f"const double* p = parameters + member*{max(1, len(self.names.parameters))};"]
        rest = "i"
        for k in range(len(self.shape) - 1, -1, -1):
            lines.append(f"const i64 {self.axes[k]} = ({rest})%{self.shape[k]};")
            rest = f"({rest})/{self.shape[k]}"
        return lines + [f"const i64 {a} = 0;" for a in _AXES if a not in self.axes]

    def _stage_times(self, kernel: Kernel) -> list[str]:
        """The time at which the ghosts of each slot are wanted."""
        lines = []
        for slot, _, time in kernel.ghosts:
            m = CMachine(f"w{slot}_")
            (value,) = evaluate([time], self.scalars([time], m, "t"), m)
            lines += [*m.lines, f"const double t{slot} = {value.text};"]
        return lines

    def _draws(self, kernel: Kernel) -> list[str]:
        """The cell's normal of each source: drawn, or that of the step's sheet."""
        half = (self.shape[-1] + 1) // 2
        row = self.flat(range(len(self.shape) - 1))
        lines = []
        for j in sorted({int(n.value[0][1:]) for n in walk(kernel.outputs)
                         if n.op == "load" and n.value[0].startswith("~")}):
            if j in self.stencil.sheets:
                at = f"({self.stencil.sheets.index(j)}*n + member)*{self.cells} + i"
                lines.append(f"const double noise{j} = sheets[{at}];")
                continue
            word = int(Purpose.STEP) | self.stencil.sources[j].number << 8
            pair = f"(u64)(({row})*{half} + (x < {half} ? x : x - {half}))"
            counter = f"(u64)members[member], (u64)step, {pair}, {word}ull, k0, k1"
            lines += [f"double first{j}, second{j};", f"normals({counter}, first{j}, second{j});",
                      f"const double noise{j} = x < {half} ? first{j} : second{j};"]
        return lines

    def _load(self, kernel: Kernel, array: str, offset: tuple[int, ...]) -> str:
        """C text of a load."""
        place = {k: f"{self.axes[k]} + ({o})" if o else self.axes[k] for k, o in enumerate(offset)}
        if array.startswith("~"):
            return f"noise{array[1:]}"
        if array.startswith("@"):
            if not any(offset):
                return f"u{array[1:]}[i]"
            states = {slot: state for slot, state, _ in kernel.ghosts}
            slot = int(array[1:])
            where = ", ".join(place[self.axes.index(a)] if a in self.axes else "0" for a in _AXES)
            return (f"{self.name}_at_{states[slot]}(u{slot}, statics, edges, edge_strides, p, member, t{slot}, "
                    f"{where})")
        k = self.names.static(array)
        base = f"statics[{k}][static_strides[{k}]*member + "
        if is_row(self.stencil, self.stencil.statics[array]):
            return f"{base}{place[len(self.shape) - 1]} + 1]"
        text = "0"
        for axis, n in enumerate(self.shape):
            text = f"({text})*{n + 2} + {place[axis]} + 1"
        return f"{base}{text}]"
