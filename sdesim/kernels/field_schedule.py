"""A step as a schedule: passes over memory, the kernels that they run, the buffers that they use.

Names in a kernel's graph: "@n" a buffer, "%n" a static array, "~n" a normal of source n, "#n" a number of the
method, "t" the time at the start of the step; parameters keep their names.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from sdesim.calculus import rebuild, walk
from sdesim.expressions import Expr, load

PEAKS = 3
"""Numbers of peaks: the error over the tolerance, the eigenvalues of diffusion and reaction, those of transport."""


@dataclass(frozen=True)
class Kernel:
    """What one sweep over the cells does.

    Attributes:
        outputs: the values that it stores: graphs of loads ("@slot" | "%static" | "~source", offset), numbers "#k",
            parameters and "t".
        in_place: for each output the slot that it overwrites, or −1.
        ghosts: (slot, state, time) of each slot that is read at its neighbours: its ghost cells are filled before
            with the conditions of that state at that time.
        slots: number of input buffers.
        peaks: (number, graph) of values whose largest size over all cells is wanted, the largest of those of a number.
    """

    outputs: tuple[Expr, ...]
    in_place: tuple[int, ...]
    ghosts: tuple[tuple[int, int, Expr], ...]
    slots: int
    peaks: tuple[tuple[int, Expr], ...] = ()

    @property
    def graphs(self) -> list[Expr]:
        """All that is computed in a cell."""
        return [*self.outputs, *(node for _, node in self.peaks)]


@dataclass(frozen=True)
class Pass:
    """One sweep: a kernel, the buffers of its slots and outputs, and which of the method's numbers are its #0, #1, …"""

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """A step as passes. State i, and after the states each memory of noise, starts in buffer i and ends in buffer
    `final[i]`; `numbers` are the method's for one h."""

    passes: tuple[Pass, ...]
    buffers: int
    final: tuple[int, ...]
    numbers: tuple[float, ...]


def rewrite(node: Expr, symbols: Mapping[str, Expr], loads: Mapping[str, str],
            values: Mapping[str, Expr] | None = None) -> Expr:
    """The graph with symbols replaced by nodes, loads renamed, and loads at the cell itself replaced by `values`."""
    done: dict[Expr, Expr] = {}
    for n in walk([node]):
        if n.op == "symbol":
            done[n] = symbols.get(n.value, n)
        elif n.op == "load":
            name, offset = n.value
            here = values is not None and name in values and not any(offset)
            done[n] = values[name] if here and values else load(loads.get(name, name), offset)
        else:
            done[n] = rebuild(n, tuple(done[a] for a in n.args)) if n.args else n
    return done[node]


def rewrite_loads(node: Expr, replacements: Mapping[tuple[str, tuple[int, ...]], Expr]) -> Expr:
    """The graph with loads replaced by other nodes."""
    done: dict[Expr, Expr] = {}
    for n in walk([node]):
        if n.op == "load":
            done[n] = replacements.get(n.value, n)
        else:
            done[n] = rebuild(n, tuple(done[a] for a in n.args)) if n.args else n
    return done[node]


def walk_until(root: Expr, stop: Callable[[Expr], bool]) -> list[Expr]:
    """Nodes below the root in order of computation, not descending below those where `stop` holds."""
    order: list[Expr] = []
    seen: set[Expr] = set()
    stack = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if not stop(node):
                stack.extend((arg, False) for arg in reversed(node.args) if arg not in seen)
    return order


def buffers_read(nodes: list[Expr]) -> dict[str, bool]:
    """Buffers that the graphs load, in order of use, and whether they are read at a neighbour."""
    read: dict[str, bool] = {}
    for n in walk(nodes):
        if n.op == "load" and n.value[0].startswith("@"):
            name, offset = n.value
            read[name] = read.get(name, False) or any(offset)
    return read


def allocate(bodies: list[list[tuple[Expr, str]]], inputs: list[dict[str, bool]], states: int,
             kept: Container[str] = ()) -> dict[str, int]:
    """A buffer for each value: its own, a free one, or that of a value last read here at the cell itself.

    The first `states` buffers are full at the beginning; values that are `kept` stay to the end.
    """
    last: dict[str, int] = {}
    for p, read in enumerate(inputs):
        last.update(dict.fromkeys(read, p))
    roles = {f"@{i}": i for i in range(states)}
    live, free, count = list(roles), [], states
    for p, body in enumerate(bodies):
        for name in [name for name in live if last.get(name, -1) < p and name not in kept]:
            live.remove(name)
            free.append(roles[name])
        replaceable = [name for name in live if last.get(name) == p and not inputs[p][name] and name not in kept]
        replaceable = replaceable[-len(body) :]  # the newest, so that the last stage is the kernel of the others
        for _, name in body:
            if replaceable:
                old = replaceable.pop(0)
                live.remove(old)
                roles[name] = roles[old]
            elif free:
                roles[name] = free.pop()
            else:
                roles[name], count = count, count + 1
            live.append(name)
    return roles
