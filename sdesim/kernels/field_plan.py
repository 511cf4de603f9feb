"""Which steps each member takes: equal steps inside every save interval, and the programs that they run.

A member's steps depend on its own parameters and initial state alone, so that it takes the same ones in any block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdesim.kernels.field_memory import settling, stationary
from sdesim.kernels.field_reference import wiener_root
from sdesim.kernels.field_schedule import Kernel, Schedule
from sdesim.kernels.field_trace import numbers, trace
from sdesim.methods.field import FieldMethod, Spectrum
from sdesim.stencils import Stencil

_GROWTH = 1.2  # of the steps at a rough start
_MOST_STEPS, _FEWEST_STEPS, _FEWEST_IMPLICIT = 2**32, 50, 200


@dataclass(frozen=True)
class Steps:
    """One save interval of one member: `count` steps of size h from `start`, with the method's options.

    An interval may be in parts, of which the last alone is `saved`.
    `memory` is what is left to know of noise with a memory (`field_memory`) before the first step; that at the start of
    a run if empty.
    """

    start: float
    h: float
    count: int
    options: tuple[tuple[str, int], ...]
    memory: tuple[float, ...] = ()
    saved: bool = True


def ceiling(method: FieldMethod, spectrum: Spectrum, times: Sequence[float]) -> float:
    """The longest step that a method chooses for a member.

    At least 50 steps over all (implicit methods 200), for what the spectrum does not show: sources and boundary values
    that change with time.
    """
    fewest = _FEWEST_IMPLICIT if method.kind == "implicit" else _FEWEST_STEPS
    return min(method.choose(spectrum), (times[-1] - times[0]) / fewest)


def plan(method: FieldMethod, spectrum: Spectrum, times: Sequence[float], dt: float | None,
         cuts: int = 1, first: float | None = None) -> list[Steps]:
    """The steps of one member, none longer than dt or (None) what the method chooses; each cut into `cuts`.

    With a `first` step the steps begin with it and grow by a fifth each time until they are as long.

    Raises:
        ValueError: a step beyond the method's stability limit.
    """
    longest = ceiling(method, spectrum, times) if dt is None else float(dt)
    steps: list[Steps] = []
    growing = longest if first is None else min(first, longest)

    def add(start: float, h: float, count: int, saved: bool) -> None:
        h = h / cuts
        if dt is not None:
            _check(method, spectrum, h, dt)
        steps.append(Steps(start, h, count * cuts, tuple(method.options(h, spectrum).items()), saved=saved))

    for start, end in zip(times[:-1], times[1:]):
        t = float(start)
        while growing < longest and t + 1.5 * growing < end:
            add(t, growing, 1, saved=False)
            t, growing = t + growing, min(longest, growing * _GROWTH)
        count = max(1, math.ceil((end - t) / growing - 1e-9))
        add(t, (end - t) / count, count, saved=True)
    if sum(s.count for s in steps) >= _MOST_STEPS:
        raise ValueError(f"steps of {longest:.3g} over the times {times[0]:g} … {times[-1]:g} are more than 2³², "
                         "beyond which the noise repeats; take a larger dt, a coarser grid, or a shorter time")
    return steps


def remembering(stencil: Stencil, plans: Sequence[Sequence[Steps]]) -> list[list[Steps]]:
    """The plans with what each save interval begins with of noise with a memory."""
    taus = [source.memory for source in stencil.memories if source.memory is not None]
    if not taus:
        return [list(steps) for steps in plans]
    result = []
    for steps in plans:
        memory, own = stationary(taus), []
        for part in steps:
            own.append(replace(part, memory=memory))
            found = settling(part.h, taus, memory)
            memory = found[min(part.count, len(found) - 1)]
        result.append(own)
    return result


def _check(method: FieldMethod, spectrum: Spectrum, h: float, dt: float) -> None:
    """Refuse a step that diffusion and transport make unstable (a reaction may change as it goes)."""
    limit = method.limit(Spectrum(spectrum.diffusion, spectrum.advection, 0.0, spectrum.drift))
    if h > limit * (1.0 + 1e-9):
        raise ValueError(
            f"dt = {dt:g} (steps of {h:.6g}) is beyond the stability limit of {method.name} for this model and grid, "
            f"{limit:.6g}; take dt ≤ {limit:.4g}, leave dt=None to choose it, or use method \"rkl2\" (any diffusive "
            "step) or, for constant coefficients, the spectral methods \"exact\" and \"etdrk4\"")


@dataclass
class Programs:
    """The distinct programs of an ensemble: schedules by the method's options, numbers by these and the step.

    `rows` are the numbers of the first steps of each entry, the last those of all others; more than one where noise
    has a memory.
    """

    stencil: Stencil
    method: FieldMethod
    schedules: dict[tuple[tuple[str, int], ...], Schedule] = field(default_factory=dict)
    index: dict[Any, int] = field(default_factory=dict)
    entries: list[tuple[float, Schedule]] = field(default_factory=list)
    rows: list[list[tuple[float, ...]]] = field(default_factory=list)

    def number(self, steps: Steps) -> int:
        """The program of some steps, made when first met."""
        key = steps.h, steps.options, steps.memory
        if key not in self.index:
            given = self.stencil, self.method.step, steps.h, wiener_root(self.stencil, steps.h)
            options: dict[str, Any] = dict(steps.options)
            shape = self.schedules.get(steps.options)
            if shape is None:
                shape = self.schedules[steps.options] = trace(*given, steps.memory, **options)
            taus = [source.memory for source in self.stencil.memories if source.memory is not None]
            rows = [numbers(*given, memory, **options)
                    for memory in settling(steps.h, taus, steps.memory or stationary(taus))]
            self.index[key] = len(self.entries)
            self.entries.append((steps.h, Schedule(shape.passes, shape.buffers, shape.final, rows[0])))
            self.rows.append(rows)
        return self.index[key]

    @property
    def kernels(self) -> list[Kernel]:
        """The distinct kernels of all programs, in order of first use."""
        return list(dict.fromkeys(p.kernel for schedule in self.schedules.values() for p in schedule.passes))

    @property
    def buffers(self) -> int:
        """Buffers that the largest program needs."""
        return max(schedule.buffers for schedule in self.schedules.values())


def options_of(steps: Steps) -> dict[str, Any]:
    """The method's options as keyword arguments."""
    return dict(steps.options)
