"""Large fields whose steps follow their error: each member as strips, as `field_tiles` cuts those of fixed steps.

A step is swept in parts of L passes, before each of which the strips copy their neighbours' planes of every buffer. The
peaks of a strip include those of its halo, where the values are its neighbour's own: their largest is the grid's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.coefficients import of_member
from sdesim.kernels.field_free import Task, follow
from sdesim.kernels.field_layout import Layout
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_pairs import Program
from sdesim.kernels.field_run import parameter_rows
from sdesim.kernels.field_schedule import Pass
from sdesim.kernels.field_static import is_row
from sdesim.kernels.field_strip import compile_strip, entry
from sdesim.kernels.field_tiles import CACHE, DIVISIBLE, LARGE, MOST_LEVELS, Strip, can_be_cut

Integers = NDArray[np.int64]
_FEWEST_LEVELS = 4


def levels_of(task: Task, threads: int) -> int:
    """Passes of a sweep that suit a run; 0 where members one by one are better, or alone possible."""
    stencil, layout = task.stencil, Layout(task.stencil.model.grid.shape)
    if not can_be_cut(stencil):
        return 0
    alone = len(task.members) < threads and layout.cells >= DIVISIBLE
    arrays = task.pairs.buffers + sum(not is_row(stencil, s) for s in stencil.statics.values())
    if not alone and 8 * layout.size * arrays < LARGE:
        return 0
    levels = max(_FEWEST_LEVELS, min(MOST_LEVELS, CACHE // (8 * layout.strides[0] * arrays)))
    return levels if 2 * levels <= layout.shape[0] // (threads if alone else 1) else 0


@dataclass
class _Shared:
    """What `Strip` asks of a run."""

    task: Task

    def __post_init__(self) -> None:
        task = self.task
        self.stencil, self.members, self.seed, self.room = task.stencil, task.members, 0, 1
        self.layout, self.buffers = Layout(task.stencil.model.grid.shape), task.pairs.buffers
        self.names = Names.of(task.stencil, tuple(task.parameters))
        self.table = parameter_rows(self.names, task.parameters, len(task.members))
        self.starts = task.times[None, :1]


@dataclass
class _Sweep:
    """Some passes of a program as the strips run them."""

    kernels: Integers
    numbers: Integers
    slots: Integers
    times: NDArray[np.float64]
    counts: Integers

    @property
    def width(self) -> int:
        """Buffers that a pass names at most."""
        return int(self.slots.shape[1])


class Strips:
    """One member as strips: what tries its steps."""

    def __init__(self, shared: _Shared, m: int, levels: int, strips: int, strip: Any,
                 each: Callable[..., Any]) -> None:
        self.job, self.m, self.halo, self.strip, self.each = shared, m, levels, strip, each
        task = shared.task
        self.task, self.wraps = task, task.stencil.ghosts[0][0] is None
        own = of_member(task.parameters, m)
        cuts = np.linspace(0, shared.layout.shape[0], strips + 1).round().astype(int).tolist()
        self.strips = [Strip(self, low, high, own) for low, high in zip(cuts[:-1], cuts[1:])]
        self.roles = np.arange(shared.buffers)
        for s in self.strips:
            s.load(task.initial[:, m])

    def begin(self, t: float) -> tuple[float, float, float]:
        self.tried = self.task.pairs.beginning
        peaks = self._run(self.tried, t, 0.0)
        self.accept()
        return peaks

    def attempt(self, t: float, h: float, rung: int) -> tuple[float, float, float]:
        self.tried = self.task.pairs.rung(rung)
        return self._run(self.tried, t, h)

    def accept(self) -> None:
        final = self.tried.schedule.final
        rest = [k for k in range(len(self.roles)) if k not in final]
        self.roles = self.roles[[*final, *rest]]

    def save(self, interval: int) -> None:
        for s in self.strips:
            s.save(self.task.out[interval, :, self.m], self.roles)

    def _run(self, program: Program, t: float, h: float) -> tuple[float, float, float]:
        numbers, passes = program.numbers(h), program.schedule.passes
        places = numbers.ctypes.data + 8 * np.cumsum([0, *(len(p.numbers) for p in passes[:-1])])
        for s in self.strips:
            s.peaks[:] = 0
        for first in range(0, len(passes), self.halo):
            part = slice(first, first + self.halo)
            sweep = self._sweep(passes[part], places[part].astype(np.int64), t)
            self._exchange()
            self.each(lambda s, sweep=sweep: s.sweep(self.strip, sweep), self.strips)
        error, real, imaginary = np.max([s.peaks for s in self.strips], axis=0).view(np.float64).tolist()
        return error, real, imaginary

    def _sweep(self, passes: Sequence[Pass], numbers: Integers, t: float) -> _Sweep:
        kernels = self.task.pairs.kernels
        slots = np.zeros((len(passes), max(len(p.inputs) + len(p.outputs) for p in passes)), np.int64)
        for k, p in enumerate(passes):
            used = [*p.inputs, *p.outputs]
            slots[k, : len(used)] = self.roles[used]
        return _Sweep(np.array([kernels.index(p.kernel) for p in passes], np.int64), numbers, slots,
                      np.full(len(passes), t), np.zeros(len(passes), np.int64))

    def _exchange(self) -> None:
        """The halos of every strip and buffer from the planes of its neighbours."""
        L, strips = self.halo, self.strips
        for buffer in range(len(self.roles)):
            planes = [s.planes(buffer) for s in strips]
            for k in range(len(strips)):
                if self.wraps or k > 0:
                    planes[k][:L] = planes[k - 1][-2 * L : -L]
                if self.wraps or k < len(strips) - 1:
                    planes[k][-L:] = planes[(k + 1) % len(strips)][L : 2 * L]


def run_as_strips(task: Task, levels: int, threads: int) -> None:
    """Integrate all members, each as strips."""
    shared, count = _Shared(task), len(task.members)
    strip = entry(compile_strip(task.stencil, shared.names, task.pairs.kernels))
    inside = threads if count < threads else 1

    def one(m: int, each: Callable[..., Any]) -> None:
        follow(task, m, Strips(shared, m, levels, inside, strip, each))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        if inside == 1:
            list(pool.map(lambda m: one(m, lambda call, items: [call(item) for item in items]), range(count)))
        else:
            for m in range(count):
                one(m, lambda call, items: list(pool.map(call, items)))
