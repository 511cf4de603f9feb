"""How the functions of a field kernel call each other: types, arguments, and where they find arrays and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdesim.calculus import walk
from sdesim.kernels.field_schedule import Kernel
from sdesim.kernels.field_static import edge_coordinates
from sdesim.kernels.llvm import integer
from sdesim.kernels.machines import F64, F64_POINTER, I64, I64_POINTER, LLVMMachine
from sdesim.stencils import Stencil

TABLE = F64_POINTER.as_pointer()
SWEEP = ("slots", "statics", "edges", "parameters", "numbers", "t", "noise", "member", "step", "k0", "k1", "peaks")
SWEEP_TYPES = (TABLE, TABLE, TABLE, F64_POINTER, F64_POINTER, F64, F64_POINTER, I64, I64, I64, I64, I64_POINTER)


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
        numbers = tuple(name for name in parameters if name not in stencil.model.fields)
        return cls(numbers, tuple(stencil.statics), tuple((k, name) for k in axes
                                                             for name in edge_coordinates(stencil, k)))

    def static(self, name: str) -> int:
        """Place of a static array in the table."""
        return self.statics.index(name)

    def coordinate(self, axis: int, name: str) -> int:
        """Place of a coordinate along the edges of an axis in the table, after the static arrays."""
        return len(self.statics) + self.coordinates.index((axis, name))


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
    return list(dict.fromkeys((n.value[0], n.value[1][:-1]) for n in walk(kernel.graphs) if n.op == "load"))
