"""Runs a large grid as strips: several threads inside one member, and many steps in one visit of memory.

The grid is cut along its first axis, one strip for each thread. Every strip has its own buffers with a halo of L
planes, L the number of levels (passes of consecutive steps) of one sweep (`field_strip`). Before each sweep the strips
copy their neighbours' planes into their halos; then they run apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.coefficients import of_member
from sdesim.kernels.field_layout import Layout, aligned
from sdesim.kernels.field_schedule import PEAKS
from sdesim.kernels.field_static import edge_coordinates, ghost_values, is_row, is_timed, static_arrays
from sdesim.kernels.field_strip import ARGUMENTS, entry
from sdesim.streams import seed_key

if TYPE_CHECKING:
    from sdesim.kernels.field_run import Job
    from sdesim.stencils import Stencil

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
CACHE, MOST_LEVELS = 1 << 20, 16
"""Bytes that the planes under way may fill, and the most levels of a sweep of more than one step."""
LARGE, DIVISIBLE = 1 << 23, 1 << 17
"""Bytes of buffers from which a sweep pays on one thread; cells from which two threads pay on one grid: handing a sweep
of 16 levels over takes as long as 2^19 cells and steps."""
_AWAY = -9  # no plane has this number


def can_be_cut(stencil: Stencil) -> bool:
    """Whether strips can sweep through several passes of a stencil by themselves."""
    pairs = [pair for axes in stencil.ghosts for pair in axes if pair is not None]
    mixed = len({axes[0] is None for axes in stencil.ghosts}) > 1
    timed = any(is_timed(side) for pair in pairs for side in pair)
    return not (len(stencil.model.grid.shape) == 1 or stencil.sheets or mixed or stencil.has_corners or timed)


def sweep_levels(job: Job, threads: int) -> int:
    """Levels of a sweep that suit a run; 0 where whole passes, member by member, are better or alone possible."""
    stencil, layout = job.stencil, job.layout
    if not can_be_cut(stencil):
        return 0
    alone = len(job.members) < threads and layout.cells >= DIVISIBLE
    arrays = job.buffers + sum(not is_row(stencil, s) for s in stencil.statics.values())
    if not alone and 8 * layout.size * arrays < LARGE:
        return 0
    passes = max(len(schedule.passes) for _, schedule in job.programs.entries)
    fitting = min(MOST_LEVELS, CACHE // (8 * layout.strides[0] * arrays))
    levels = passes * max(1, fitting // passes)
    halves = layout.shape[0] // (threads if alone else 1)
    return levels if 2 * levels <= halves else 0


def run_strips(job: Job, levels: int, threads: int) -> NDArray[np.int8]:
    """Integrate all members into `job.out`, each as strips, and return their status."""
    strip = entry(job.strips)
    count = len(job.members)
    inside = threads if count < threads else 1
    if inside == 1:
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(Member(job, m, levels, 1).integrate, strip, _serial) for m in range(count)]:
                future.result()
    else:
        with ThreadPoolExecutor(inside) as pool:
            for m in range(count):
                Member(job, m, levels, inside).integrate(strip, lambda call, items: list(pool.map(call, items)))
    return job.status.astype(np.int8)


def _serial(call: Callable[[Any], Any], items: Any) -> list[Any]:
    return [call(item) for item in items]


class Member:
    """One member's strips. Made by the thread that asks for it; its arrays come with `integrate`."""

    def __init__(self, job: Job, m: int, levels: int, strips: int) -> None:
        self.job, self.m, self.halo = job, m, levels
        self.wraps = job.stencil.ghosts[0][0] is None
        cuts = np.linspace(0, job.layout.shape[0], strips + 1).round().astype(int)
        self.spans = list(zip(cuts[:-1].tolist(), cuts[1:].tolist()))

    def integrate(self, strip: Any, each: Callable[..., Any]) -> None:
        """All steps and saves of the member."""
        job, m = self.job, self.m
        own = of_member(job.parameters, m)
        strips = [Strip(self, low, high, own) for low, high in self.spans]
        for s in strips:
            s.load(job.initial[:, m])
        roles = np.arange(job.buffers)
        number = 0
        for i, start in enumerate(job.starts[m]):
            program, left, done = int(job.which[m, i]), int(job.counts[m, i]), 0
            h, schedule = job.programs.entries[program]
            while left:
                steps = min(left, max(1, self.halo // len(schedule.passes)))
                sweep = _Sweep(job, program, done, steps, roles)
                sweep.time([float(start) + (done + k) * h for k in range(steps)], number)
                self._exchange(strips, roles)
                each(lambda s, sweep=sweep: s.sweep(strip, sweep), strips)
                roles, number, done, left = sweep.roles, number + steps, done + steps, left - steps
            if (save := int(job.saves[m, i])) < 0:
                continue
            out = job.out[save, :, m]
            for s in strips:
                s.save(out, roles)
            if not np.isfinite(out).all():
                job.status[m] = 1
                job.out[save:, :, m] = np.nan
                return

    def _exchange(self, strips: list[Strip], roles: Integers) -> None:
        """The halos of every strip from the planes of its neighbours."""
        L = self.halo
        for state in range(self.job.carried):
            planes = [s.planes(int(roles[state])) for s in strips]
            for k in range(len(strips)):
                if self.wraps or k > 0:
                    planes[k][:L] = planes[k - 1][-2 * L : -L]
                if self.wraps or k < len(strips) - 1:
                    planes[k][-L:] = planes[(k + 1) % len(strips)][L : 2 * L]


class _Sweep:
    """The levels of some steps of a program, their buffers named by number."""

    def __init__(self, job: Job, program: int, done: int, steps: int, roles: Integers) -> None:
        _, schedule = job.programs.entries[program]
        rest = [k for k in range(job.buffers) if k not in schedule.final]
        final = np.array([*schedule.final, *rest], np.int64)
        kernels, numbers = job.programs.kernels, job.numbers[program]
        self.width = max(len(p.inputs) + len(p.outputs) for p in schedule.passes)
        self.passes, self.steps = len(schedule.passes), steps
        self.kernels = np.array([kernels.index(p.kernel) for p in schedule.passes] * steps, np.int64)
        at = np.cumsum([0, *(len(p.numbers) for p in schedule.passes[:-1])])
        rows = np.minimum(done + np.arange(steps), len(numbers) - 1) * numbers.shape[1]
        self.numbers = (numbers.ctypes.data + 8 * np.add.outer(rows, at)).ravel().astype(np.int64)
        self.slots = np.zeros((steps * self.passes, self.width), np.int64)
        for k in range(steps):
            for l, p in enumerate(schedule.passes):
                used = [*p.inputs, *p.outputs]
                self.slots[k * self.passes + l, : len(used)] = roles[used]
            roles = roles[final]
        self.roles = roles
        self.times, self.counts = np.empty(0), np.empty(0, np.int64)

    def time(self, starts: list[float], number: int) -> None:
        """The time at the start of each step, and the number of the first."""
        self.times = np.repeat(np.array(starts), self.passes)
        self.counts = np.repeat(number + np.arange(self.steps), self.passes)


class Strip:
    """Planes low … high − 1 of the grid with their halos, and everything that `strip` is given."""

    def __init__(self, member: Any, low: int, high: int, own: Mapping[str, Any]) -> None:
        job, L = member.job, member.halo
        self.low, self.high, self.halo, self.job = low, high, L, job
        n, inner = job.layout.shape[0], job.layout.shape[1:]
        self.height, self.inner = high - low + 2 * L, inner
        self.layout = Layout((self.height, *inner))
        self.memory = aligned(job.buffers * self.layout.size)
        self.inside = (member.wraps or low > 0, member.wraps or high < n)
        places = np.arange(low - L, high + L)
        self.keep: list[Array] = []
        padded = np.arange(low - L, high + L + 2)  # in arrays with a ghost plane at either end
        self.statics = self._statics(own, (padded - 1) % n + 1 if member.wraps else np.clip(padded, 0, n + 1))
        self.edges = self._edges(own, places % n if member.wraps else np.clip(places, 0, n - 1))
        self.noise, self.peaks = aligned(job.room), np.zeros(PEAKS, np.int64)
        k0, k1 = seed_key(job.seed)
        self.fixed = {
            "begin": 0, "statics": self.statics.ctypes.data, "edges": self.edges.ctypes.data,
            "parameters": job.table[member.m].ctypes.data, "noise": self.noise.ctypes.data,
            "member": int(job.members[member.m]), "k0": int(k0), "k1": int(k1),
            "peaks": self.peaks.ctypes.data,
            "first": _AWAY if self.inside[0] else L, "last": _AWAY if self.inside[1] else self.height - L - 1,
            "shift": low - L + n * (1 + L // n),
        }  # fmt: skip

    def _statics(self, own: Mapping[str, Any], places: Integers) -> Integers:
        job = self.job
        for name, values in static_arrays(job.stencil, own).items():
            if is_row(job.stencil, job.stencil.statics[name]):
                self.keep.append(job.layout.place(values))
                continue
            self.keep.append(self.layout.place(values[:, places]))
        self.keep += [edge_coordinates(job.stencil, k)[name] for k, name in job.names.coordinates]
        return np.array([*(a.ctypes.data for a in self.keep), 0], np.int64)

    def _edges(self, own: Mapping[str, Any], places: Integers) -> Integers:
        addresses = []
        for s, axes in enumerate(self.job.stencil.ghosts):
            for k in range(len(axes)):
                for side in (0, 1):
                    pair = ghost_values(self.job.stencil, s, k, side, own, float(self.job.starts[0, 0]))[0]
                    if k:
                        pair = pair.reshape(2, self.job.layout.shape[0], -1)[:, places]
                    pair = np.ascontiguousarray(pair.reshape(2, -1))
                    self.keep.append(pair)
                    addresses += [pair[0].ctypes.data, pair[1].ctypes.data]
        return np.array(addresses, np.int64)

    def planes(self, buffer: int) -> Array:
        """The planes of a buffer, halos included, each as a row of numbers."""
        size = self.layout.strides[0]
        start = buffer * self.layout.size + size
        return self.memory[start : start + self.height * size].reshape(self.height, size)

    def _cells(self, buffer: int) -> Array:
        """The strip's own cells in a buffer."""
        L, outer = self.halo, (*(n + 2 for n in self.inner[:-1]), self.layout.pitch)
        padded = self.planes(buffer)[L : self.height - L].reshape(-1, *outer)
        first = self.layout.first - sum(self.layout.strides)
        return padded[(slice(None), *(slice(1, -1) for _ in self.inner[:-1]),
                       slice(first, first + self.layout.nx))]

    def load(self, initial: Array) -> None:
        """The initial state (states, *space) into the first buffers."""
        for k, u in enumerate(initial):
            self._cells(k)[...] = u[self.low : self.high]

    def save(self, out: Array, roles: Integers) -> None:
        """The strip's part of the state into `out`."""
        for k in range(len(out)):
            out[k, self.low : self.high] = self._cells(int(roles[k]))

    def sweep(self, strip: Any, sweep: Any) -> None:
        """Run all levels of a sweep on this strip."""
        levels = len(sweep.kernels)
        rest = levels - 1 - np.arange(levels)
        L, end = self.halo, self.height - self.halo
        lows = L - rest if self.inside[0] else np.full(levels, L)
        highs = end + rest if self.inside[1] else np.full(levels, end)
        slots = self.memory.ctypes.data + 8 * self.layout.size * sweep.slots
        values = {
            **self.fixed, "end": int(highs[0]) + levels, "levels": levels, "width": sweep.width,
            "kernels": sweep.kernels.ctypes.data, "slots": slots.ctypes.data, "numbers": sweep.numbers.ctypes.data,
            "times": sweep.times.ctypes.data, "steps": sweep.counts.ctypes.data, "lows": lows.ctypes.data,
            "highs": highs.ctypes.data,
        }  # fmt: skip
        arguments = np.array([values[name] for name in ARGUMENTS], np.int64)
        strip(arguments.ctypes.data)


