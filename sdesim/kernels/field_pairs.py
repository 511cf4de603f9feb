"""From a pair (a step with an estimate of its error) and a stencil to passes over memory.

A step begins with the state and its slope in memory, and must leave both as they are, for it may be undone. Its last
pass evaluates the slope at the new state: there the error is at hand, and so are the eigenvalue bounds from which the
next step finds its number of stages. Three *peaks* are the largest over the cells of

    0: |error|/(atol + rtol·max(|u₀|, |u₁|))        over the states
    1: Σ_j |∂f_i/∂u_j| of diffusion and reaction     a bound on the real eigenvalues (Gershgorin)
    2: the same of transport                         a bound on the imaginary ones

with no pass of their own. Where neither state nor time enters them, 1 and 2 are left out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import Expr, is_zero, load, maximum, symbol
from sdesim.kernels.field_longer import prolonged
from sdesim.kernels.field_rows import row_sums
from sdesim.kernels.field_schedule import Kernel, Schedule
from sdesim.kernels.field_trace import Lifted, Multiple, StageTime, Tracer, numbers_of_pair
from sdesim.methods.field import Embedded
from sdesim.methods.field_control import FieldControl
from sdesim.methods.vector import ZERO, Vector, is_structural_zero
from sdesim.stencils import Stencil

TRACED = 6
"""How many of the first rungs are traced."""


@dataclass(frozen=True, eq=False)
class Program:
    """A schedule whose numbers are `factors`, times h where `scaled`, in the order in which the kernels read them."""

    schedule: Schedule
    factors: NDArray[np.float64]
    scaled: NDArray[np.bool_]

    @classmethod
    def of(cls, schedule: Schedule) -> Program:
        """The program of a traced schedule."""
        numbers: list[Any] = [schedule.numbers[k] for p in schedule.passes for k in p.numbers] or [0.0]
        factors = [n.factor if isinstance(n, Multiple) else n for n in numbers]
        return cls(schedule, np.array(factors, float), np.array([isinstance(n, Multiple) for n in numbers]))

    def numbers(self, h: float) -> NDArray[np.float64]:
        """The numbers for a step of h."""
        return np.multiply(self.factors, h, out=self.factors.copy(), where=self.scaled)


def rated(stencil: Stencil) -> list[int]:
    """The states that change by the right-hand side: each has a slope, which lies behind the states."""
    return [k for k, node in enumerate(stencil.right_side) if not is_zero(node)]


@dataclass(eq=False)
class Pairs:
    """The programs of a pair on a stencil: `beginning` finds slope and bounds, `rung(k)` is a step.

    The first rungs are traced at once and show every kernel; the others follow from them when first met.
    """

    stencil: Stencil
    embedded: Embedded
    control: FieldControl
    kernels: list[Kernel] = field(default_factory=list)
    _rungs: dict[int, Program] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _settled: bool = False

    def __post_init__(self) -> None:
        sums = row_sums(self.stencil)
        self.sums = [(k + 1, node) for row in sums for k, node in enumerate(row) if not is_zero(node)]
        for k in range(min(TRACED, len(self.embedded.rungs))):
            self.rung(k)
        self._learn(self.beginning)
        self._settled = True

    @property
    def moving(self) -> bool:
        """Whether the bounds change with the state or the time."""
        return bool(self.sums)

    @cached_property
    def beginning(self) -> Program:
        """The slope of the first state, and its bounds."""
        tracer, y, _ = self._start(slopes=False)
        slopes = tracer.f(StageTime(symbol("t"), tracer.lift), y)
        ends = self._ends(tracer, y, slopes)
        return Program.of(tracer.finish(ends, len(self.stencil.right_side), self._sums(tracer)))

    def rung(self, k: int) -> Program:
        """A step with the k-th number of stages."""
        with self._lock:
            if k not in self._rungs:
                self._rungs[k] = self._learn(self._longer(k) or self._trace(self.embedded.rungs[k][2]))
        return self._rungs[k]

    def _longer(self, k: int) -> Program | None:
        """The step of a rung from two of few stages, if they show how it goes on."""
        if k < TRACED:
            return None
        s, pair = self.embedded.rungs[k][2]["s"], self.embedded.pair
        traced = {self.embedded.rungs[j][2]["s"]: self._rungs[j].schedule for j in range(TRACED)}
        for few in sorted(traced, reverse=True):
            if few + 2 in traced and (s - few) % 2 == 0:
                own = len(numbers_of_pair(self.stencil, pair, s=few))
                numbers = [*numbers_of_pair(self.stencil, pair, s=s), *traced[few].numbers[own:]]
                found = prolonged(traced[few], traced[few + 2], (s - few) // 2, numbers)
                return None if found is None else Program.of(found)
        return None

    @property
    def buffers(self) -> int:
        """Buffers that the largest program needs."""
        return max(p.schedule.buffers for p in [self.beginning, *list(self._rungs.values())])

    def _learn(self, program: Program) -> Program:
        new = [k for k in dict.fromkeys(p.kernel for p in program.schedule.passes) if k not in self.kernels]
        if self._settled and (new or program.schedule.buffers > self.buffers):
            raise AssertionError("a step of more stages runs other kernels, or wants more buffers, than shorter ones")
        self.kernels += new
        return program

    def _start(self, slopes: bool) -> tuple[Tracer, Lifted, Lifted]:
        tracer, origin = Tracer(self.stencil), (0,) * len(self.stencil.model.grid.axes)
        states = len(self.stencil.right_side)
        place = {state: states + k for k, state in enumerate(rated(self.stencil))}
        y = Lifted([load(f"@{i}", origin) for i in range(states)], tracer.lift)
        f = [load(f"@{place[i]}", origin) if slopes and i in place else ZERO for i in range(states)]
        return tracer, y, Lifted(f, tracer.lift)

    def _trace(self, options: dict[str, int]) -> Program:
        tracer, y, f0 = self._start(slopes=True)
        t, h = StageTime(symbol("t"), tracer.lift), Multiple(1.0)
        u, f1, error = self.embedded.pair(tracer, t, y, f0, h, **options)
        ends = self._ends(tracer, u, f1)
        peaks = [(0, ratio) for ratio in self._ratios(y, u, error, tracer.lift)]
        peaks += self._sums(tracer)
        return Program.of(tracer.finish(ends, len(y) + len(rated(self.stencil)), peaks))

    def _ends(self, tracer: Tracer, y: Vector, slopes: Vector) -> list[str]:
        """Names of the states and slopes that a program ends with."""
        names = [node.value[0] if node.op == "load" else tracer.keep(node, f"@{k}.end") for k, node in enumerate(y)]
        return names + [tracer.keep(slopes[k], f"@end{k}") for k in rated(self.stencil)]

    def _ratios(self, y: Vector, u: Vector, error: Vector, lift: Callable[[float], Expr]) -> list[Expr]:
        """error/(atol + rtol·max(|u₀|, |u₁|)) of every state that may err."""
        pairs = [(state, before, after, e) for state, (before, after, e) in enumerate(zip(y, u, error, strict=True))
                 if not is_structural_zero(e)]
        return [e / (lift(self.control.atol[state]) + lift(self.control.rtol) * maximum(abs(before), abs(after)))
                for state, before, after, e in pairs]

    def _sums(self, tracer: Tracer) -> list[tuple[int, Expr]]:
        """The bounds where the last slope is evaluated."""
        return [(number, tracer.around_last(node)) for number, node in self.sums]
