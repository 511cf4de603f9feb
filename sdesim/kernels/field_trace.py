"""From a method and a stencil to passes over memory.

Running a method on graph nodes instead of arrays records what it does. The graph is cut into *passes* wherever the
right-hand side wants a value at its neighbours, for such a value must be complete before anyone reads it; all that lies
between two cuts is one sweep over the cells. Values wanted in a later pass are stored in the pass that computes them;
a buffer is free again after its value's last use, and is overwritten in place where that use is at the cell itself.

Passes that do the same on other buffers and numbers share one `Kernel`: the method's numbers (which depend on h) are
runtime scalars, never part of the kernel, so that the stages of RKL2 are one kernel however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.calculus import rebuild, walk
from sdesim.expressions import Expr, is_zero, load, symbol
from sdesim.kernels.field_increments import Increments, by_source, by_state, increments
from sdesim.kernels.field_schedule import Kernel, Pass, Schedule, allocate, buffers_read, rewrite, walk_until
from sdesim.methods.vector import ZERO, Vector
from sdesim.stencils import Stencil


class Lifted(Vector):
    """A vector of graph nodes, in which each number of the method becomes a runtime scalar of the kernel."""

    def __init__(self, nodes: Iterable[Any], lift: Callable[[float], Expr]) -> None:
        super().__init__(nodes)
        self.lift = lift

    def __add__(self, other: Any) -> Lifted:
        return Lifted(super().__add__(other), self.lift)

    def __sub__(self, other: Any) -> Lifted:
        return Lifted(super().__sub__(other), self.lift)

    def __mul__(self, other: Any) -> Lifted:
        factor = other if isinstance(other, Vector | Expr) else self.lift(other)
        return Lifted(super().__mul__(factor), self.lift)

    __rmul__ = __mul__


class StageTime:
    """t plus a number that depends on h: the time of a stage, in a trace."""

    def __init__(self, node: Expr, lift: Callable[[float], Expr]) -> None:
        self.node, self.lift = node, lift

    def __add__(self, more: float) -> StageTime:
        return StageTime(self.node + self.lift(more), self.lift)

    __radd__ = __add__


@dataclass(frozen=True)
class Multiple:
    """A number times the step h, in a trace that does not know h; `Multiple(1.0)` is h itself.

    >>> 0.25 * Multiple(1.0)
    Multiple(factor=0.25)
    """

    factor: float

    def __rmul__(self, number: float) -> Multiple:
        if self.factor != 1.0:
            raise TypeError("a pair's numbers are one number times h, a*(b*h) rounds otherwise: write (a*b)*h")
        return Multiple(float(number))


def trace(stencil: Stencil, step: Callable[..., Any], h: float, root: float, memory: tuple[float, ...] = (),
          **options: Any) -> Schedule:
    """The passes of one step of size h.

    Args:
        stencil: the discrete model.
        step: the method.
        h: the step.
        root: √(h/V), the standard deviation of an increment of white noise in a cell.
        memory: what is left to know of each noise with a memory before the step (`field_memory`).
        options: further arguments of the method.
    """
    tracer = Tracer(stencil)
    states = len(stencil.right_side)
    y = Lifted([load(f"@{i}", tracer.origin) for i in range(states)], tracer.lift)
    z = [load(f"~{j}", tracer.origin) for j in range(len(stencil.sources))]
    kept = [load(f"@{states + k}", tracer.origin) for k in range(len(stencil.memories))]
    drawn, kept = increments(stencil, tracer.make, h, root, memory, z, kept)
    tracer.remember([dW for source, dW in zip(stencil.sources, drawn) if source.memory is not None], kept)
    w = Increments(by_state(stencil, drawn, tracer.make))
    ends = step(tracer, StageTime(symbol("t"), tracer.lift), y, h, w, **options)
    names = [tracer.keep(node, f"@end{i}") for i, node in enumerate(ends)]
    return tracer.finish(names + [f"@end{states + k}" for k in range(len(kept))])


def numbers(stencil: Stencil, step: Callable[..., Any], h: float, root: float, memory: tuple[float, ...] = (),
            **options: Any) -> tuple[Any, ...]:
    """The method's numbers for a step h, in the order of `trace`, without tracing anew."""
    recorder = _Recorder(stencil)
    blank = Lifted([_Blank()] * len(stencil.right_side), recorder.lift)
    blanks = [_Blank()] * len(stencil.sources)
    drawn, _ = increments(stencil, recorder.make, h, root, memory, blanks, blanks)
    w = Increments(by_state(stencil, drawn, recorder.make))
    step(recorder, StageTime(symbol("t"), recorder.lift), blank, h, w, **options)
    return tuple(recorder.numbers)


def numbers_of_pair(stencil: Stencil, pair: Callable[..., Any], **options: Any) -> list[float | Multiple]:
    """The numbers of a pair (`methods.field.Embedded`) for any step h, in the order of its trace."""
    recorder = _Recorder(stencil)
    pair(recorder, StageTime(symbol("t"), recorder.lift), recorder.blank, recorder.blank, Multiple(1.0), **options)
    return recorder.numbers


class _Blank:
    """A value of no interest."""

    def __add__(self, other: Any) -> _Blank:
        return self

    __sub__ = __mul__ = __neg__ = __add__


class _Recorder:
    """Stands for the model while only a method's numbers are wanted."""

    def __init__(self, stencil: Stencil) -> None:
        self.numbers: list[float | Multiple] = []
        self.blank = Lifted([_Blank()] * len(stencil.right_side), self.lift)

    def lift(self, number: float | Multiple) -> Expr:
        self.numbers.append(number if isinstance(number, Multiple) else float(number))
        return symbol("#")

    def make(self, nodes: list[Any]) -> Lifted:
        return Lifted(nodes, self.lift)

    def f(self, t: StageTime, y: Vector) -> Vector:
        return self.blank

    def noise(self, t: StageTime, y: Vector, dW: Vector) -> Vector:
        return self.blank


class Tracer:
    """Stands for the model while a method runs on graph nodes."""

    def __init__(self, stencil: Stencil) -> None:
        self.stencil = stencil
        self.origin = (0,) * len(stencil.model.grid.axes)
        self.numbers: list[Any] = []
        self.stores: list[list[tuple[Expr, str]]] = [[]]
        self.stored: dict[Expr, tuple[int, str]] = {}
        self.born: dict[Expr, int] = {}
        self.moving: set[Expr] = set()
        self.ghost_time: dict[str, tuple[int, Expr]] = {}
        self.last: tuple[StageTime, Mapping[str, str]]

    def lift(self, number: float | Multiple) -> Expr:
        """A number of the method as a runtime scalar. Each is its own, for equal ones may differ at another h."""
        self.numbers.append(number if isinstance(number, Multiple) else float(number))
        return symbol(f"#{len(self.numbers) - 1}")

    def make(self, nodes: list[Any]) -> Lifted:
        return Lifted(nodes, self.lift)

    def _record(self, values: Vector) -> None:
        """Note in which pass new nodes were born, and which of them change as the fields do."""
        for node in values:
            if isinstance(node, Expr):
                for part in walk_until(node, self.born.__contains__):
                    if part not in self.born:
                        self.born[part] = len(self.stores) - 1
                        leaf = part.op == "load" and not part.value[0].startswith("%")
                        if leaf or any(arg in self.moving for arg in part.args):
                            self.moving.add(part)

    def f(self, t: StageTime, y: Vector) -> Vector:
        """du/dt at y: begins a new pass unless y already lies in memory."""
        self._record(y)
        renamed = self._placed(y)
        self.last = t, renamed
        for k, node in enumerate(self.stencil.derived):
            (value,) = self._around([node], t, renamed)
            self._record(Vector([value]))
            renamed[f"^{k}"] = self.keep(value, f"@{len(y) + k}.{len(self.stores)}")
        rates = self._around(self.stencil.right_side, t, renamed)
        out = Lifted([ZERO if is_zero(node) else node for node in rates], self.lift)
        self._record(out)
        return out

    def around_last(self, node: Expr) -> Expr:
        """A graph of the states around a cell, where the right-hand side was evaluated last."""
        t, renamed = self.last
        return self._around([node], t, renamed)[0]

    def _placed(self, y: Vector) -> dict[str, str]:
        """Where in memory the states at y lie, by their names."""
        return {name: node.value[0] if node.op == "load" and node.value[0].startswith("@") else
                self.keep(node, f"@{state}.{len(self.stores)}")
                for state, (name, node) in enumerate(zip(self.stencil.model.state, y))}

    def _around(self, nodes: Sequence[Expr], t: StageTime, renamed: Mapping[str, str],
                here: Mapping[str, Expr] | None = None) -> list[Expr]:
        """Graphs of the fields around a cell, in a new pass if any of these is still being stored."""
        read = {n.value[0] for n in walk(nodes) if n.op == "load"}
        if any(self.stored_now(name) for field, name in renamed.items() if field in read):
            self.stores.append([])
        for field, name in renamed.items():
            edges = self.stencil.edges_of(field), t.node
            if field in read and self.ghost_time.setdefault(name, edges) != edges:
                raise ValueError("a method may evaluate the right-hand side of one stage at one time only")
        return [rewrite(node, {"t": t.node}, renamed, here) for node in nodes]

    def noise(self, t: StageTime, y: Vector, dW: Vector) -> Vector:
        """What noise adds with the states at y and the increments dW."""
        self._record(y)
        stencil = self.stencil
        here = {**dict(zip(stencil.model.state, y)), **by_source(stencil, dW)}
        renamed = self._placed(y) if stencil.fluxes else {}
        for k, node in enumerate(stencil.fluxes):
            (flux,) = self._around([node], t, renamed, here)
            self._record(Vector([flux]))
            renamed[f"!{k}"] = self.keep(flux, f"@!{k}.{len(self.stores)}")
        found = dict(zip(stencil.noise, self._around(list(stencil.noise.values()), t, renamed, here)))
        return Lifted([found.get(state, ZERO) for state in range(len(y))], self.lift)

    def remember(self, increments: list[Expr], kept: list[Expr]) -> None:
        """What noise with a memory makes of its normals belongs to the first pass, where these are drawn."""
        self._record(Vector([*increments, *kept]))
        for k, node in enumerate(kept):
            self.keep(node, f"@end{len(self.stencil.right_side) + k}")

    def keep(self, node: Any, name: str) -> str:
        """Store a value in the pass under way."""
        known = self.stored.get(node)
        if known is not None and not name.startswith("@end"):
            return known[1]
        self.stores[-1].append((node, name))
        self.stored.setdefault(node, (len(self.stores) - 1, name))
        return name

    def stored_now(self, name: str) -> bool:
        return any(name == other for _, other in self.stores[-1])

    def finish(self, ends: list[str], carried: int = 0, peaks: Sequence[tuple[int, Expr]] = ()) -> Schedule:
        """Materialise what later passes need, share buffers, and name everything by its place.

        Args:
            ends: names of the values that the step ends with.
            carried: how many values it starts with; where given, these stay as they are, for the step may be undone.
            peaks: of the last pass.
        """
        bodies: list[list[tuple[Expr, str]]] = [[] for _ in self.stores]
        measured = [(number, self._cut(node, len(self.stores) - 1)) for number, node in peaks]
        for p in range(len(self.stores) - 1, -1, -1):
            for node, name in self.stores[p]:
                bodies[p].append((self._cut(node, p), name))
        inputs = [buffers_read([node for node, _ in body]) for body in bodies]
        inputs[-1] = buffers_read([*(node for node, _ in bodies[-1]), *(node for _, node in measured)])
        kept = {*ends, *(f"@{k}" for k in range(carried))}
        roles = allocate(bodies, inputs, carried or len(ends), kept)
        last = len(bodies) - 1
        passes = tuple(self._pass(body, roles, measured if p == last else []) for p, body in enumerate(bodies))
        return Schedule(passes, 1 + max(roles.values()), tuple(roles[name] for name in ends), tuple(self.numbers))

    def _cut(self, node: Expr, p: int) -> Expr:
        """The graph that pass p computes for a node: what was born before is loaded from memory."""
        done: dict[Expr, Expr] = {}
        for n in walk_until(node, lambda part: self._in_memory(part, p)):
            if self._in_memory(n, p):
                done[n] = load(self._materialise(n), self.origin)
            else:
                done[n] = rebuild(n, tuple(done[a] for a in n.args)) if n.args else n
        return done[node]

    def _in_memory(self, node: Expr, p: int) -> bool:
        return bool(node.args) and self.born.get(node, p) < p and node in self.moving

    def _materialise(self, node: Expr) -> str:
        if node not in self.stored:
            birth = self.born[node]
            name = f"@kept{len(self.stored)}"
            self.stored[node] = (birth, name)
            self.stores[birth].insert(0, (node, name))
        return self.stored[node][1]

    def _pass(self, body: list[tuple[Expr, str]], roles: Mapping[str, int], peaks: list[tuple[int, Expr]]) -> Pass:
        nodes = [*(node for node, _ in body), *(node for _, node in peaks)]
        read = list(buffers_read(nodes))
        slots = {name: f"@{k}" for k, name in enumerate(read)}
        shifted = {n.value[0] for n in walk(nodes) if n.op == "load" and any(n.value[1])}
        times = [(name, *self.ghost_time[name]) for name in read if name in shifted]
        order = [n.value for n in walk([*nodes, *(time for _, _, time in times)])
                 if n.op == "symbol" and n.value.startswith("#")]
        local = {name: symbol(f"#{k}") for k, name in enumerate(order)}
        in_place = {roles[name]: k for k, name in enumerate(read)}
        kernel = Kernel(
            outputs=tuple(rewrite(node, local, slots) for node, _ in body),
            in_place=tuple(in_place.get(roles[name], -1) for _, name in body),
            ghosts=tuple((read.index(name), state, rewrite(time, local, {})) for name, state, time in times),
            slots=len(read),
            peaks=tuple((number, rewrite(node, local, slots)) for number, node in peaks),
        )
        return Pass(kernel, tuple(roles[name] for name in read), tuple(roles[name] for _, name in body),
                    tuple(int(name[1:]) for name in order))
