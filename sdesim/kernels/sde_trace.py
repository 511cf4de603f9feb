"""A method traced over an SDE: one step as a graph, the common source of the LLVM and the CUDA kernel.

The graph's symbols: "y:i" state i, "p:name" a parameter, "t:", "h:", "s:" for the time, the step and its square root,
and the step's random numbers: "z:c" the standard normal of Wiener process c, "a:w" an auxiliary normal, "b:w" a
random sign and "u:w" a uniform number, w the word that stands for the channel in the counter. No user's name contains
a colon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sdesim.calculus import free_symbols
from sdesim.expressions import Expr, const, symbol
from sdesim.kernels.sde_counts import levels
from sdesim.kernels.sde_jumps import JumpTrace, jump_trace
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.models.sde import SDE


@dataclass(frozen=True)
class SDETrace:
    """One step X ↦ X': an expression for each state, in the symbols above.

    `varying` are the parameters that differ between members; the others are one number for all. `jumps` are the
    model's, None where it has none or the method takes them itself. `walls` are the states that bounds make of a step
    from "y:i" to "e:i", where that is apart from the step. With a `hazard` the last state says when the next event
    comes (`kernels.sde_hazard`).
    """

    step: tuple[Expr, ...]
    channels: int
    parameters: tuple[str, ...]
    varying: tuple[str, ...]
    jumps: JumpTrace | None = None
    walls: tuple[Expr, ...] = ()
    hazard: bool = False

    @property
    def dimension(self) -> int:
        """How many states there are."""
        return len(self.step)

    @cached_property
    def draws(self) -> tuple[tuple[str, int], ...]:
        """The random numbers of a step as (kind, word): every process's normal first, then what else is used."""
        used = {name for name in free_symbols(*self.step) if name[:2] in ("a:", "b:", "u:")}
        further = sorted((name[0], int(name[2:])) for name in used)
        return (*(("z", c) for c in range(self.channels)), *further)

    @cached_property
    def joint(self) -> tuple[int, ...]:
        """For each process the row among `draws` of its auxiliary normal, −1 if unused; empty if none is used."""
        rows = {draw: i for i, draw in enumerate(self.draws)}
        found = tuple(rows.get(("a", c), -1) for c in range(self.channels))
        return found if max(found, default=-1) >= 0 else ()

    @cached_property
    def counts(self) -> list[list[Expr]]:
        """The Poisson counts of a step, see `sde_counts.levels`."""
        return levels(self.step)

    @cached_property
    def chances(self) -> tuple[int, ...]:
        """The words of the normals that `walls` uses, in order."""
        return tuple(sorted(int(name[2:]) for name in free_symbols(*self.walls) if name[:2] == "a:"))

    @property
    def followed(self) -> int:
        """How many of the states an error estimate looks at: all but the time of exit."""
        return self.dimension - bool(self.walls)

    @property
    def cut(self) -> bool:
        """Whether steps are cut at the events of jumps, see `kernels.sde_segments`."""
        return self.jumps is not None and bool(self.jumps.landing)

    @property
    def names(self) -> list[str]:
        """The symbols of `draws`."""
        return [f"{kind}:{word}" for kind, word in self.draws]


def varying_names(parameters: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that are arrays over the members.

    >>> sorted(varying_names({"k": 1.0, "s": [0.1, 0.2]}))
    ['s']
    """
    return frozenset(name for name, value in parameters.items() if np.ndim(value))


def trace(model: SDE, method: Method, varying: frozenset[str], hazard: bool = False) -> SDETrace:
    """Run the method's own lines on symbols.

    >>> from sdesim.methods import find
    >>> ou = SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1, "s": 1})
    >>> trace(ou, find("euler_maruyama", ("sde",)), frozenset()).step
    (y:0 + -p:k*y:0*h: + p:s*(z:0*s:),)
    """
    names = tuple(model.parameters)
    m = BoundSDE(model, method.calculus or "ito", {n: symbol(f"p:{n}") for n in names})
    y = Vector(symbol(f"y:{i}") for i in range(m.dimension))
    dW = Vector(symbol(f"z:{c}") * symbol("s:") for c in range(len(m.channels)))
    w = Wiener(dW, symbol("s:"), lambda kind, word: symbol(f"{kind}:{word}"))
    step = method.step(m, symbol("t:"), y, symbol("h:"), w)
    nodes = tuple(const(0.0) if is_structural_zero(e) else e for e in step)
    jumps = jump_trace(model, method.landing) if model.jumps and method.kind != "leap" else None
    walls: tuple[Expr, ...] = ()
    if method.push is not None:
        ends = Vector(symbol(f"e:{i}") for i in range(m.dimension))
        walls = tuple(method.push(m, symbol("t:"), y, ends, symbol("h:"), lambda kind, word: symbol(f"{kind}:{word}")))
    return SDETrace(nodes, len(m.channels), names, tuple(n for n in names if n in varying), jumps, walls,
                    hazard and jumps is not None)  # fmt: skip
