"""Runs the fused CPU kernel of a stencil: its arrays, its arguments, blocks of members over a thread pool."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.field_driver import ARGUMENTS, build, encode, entry, machine_code, numbers_in_order
from sdesim.kernels.field_layout import Layout, aligned
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_noise import SHEET_VALUES, Sheets, sheet_count
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_static import edge_coordinates, ghost_values, static_arrays
from sdesim.kernels.field_strip import compile_strip
from sdesim.kernels.field_tiles import run_strips, sweep_levels
from sdesim.kernels.llvm import Compiled
from sdesim.stencils import Stencil
from sdesim.streams import seed_key

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
BLOCK, BLOCK_VALUES = 64, 1 << 23
"""Most members of a task, and most numbers in coefficient arrays that differ by member."""


@dataclass
class Job:
    """What every block of a run shares.

    `parameters` are numbers or arrays over all members; `out` receives the states after each interval, a contiguous
    array (intervals, states, members, *space).
    """

    stencil: Stencil
    parameters: Mapping[str, Any]
    plans: Sequence[Sequence[Steps]]
    programs: Programs
    initial: Array
    members: Integers
    seed: int
    out: Array

    def __post_init__(self) -> None:
        self.layout = Layout(self.stencil.model.grid.shape)
        self.names = Names.of(self.stencil, tuple(self.parameters))
        count = len(self.members)
        parts = max(map(len, self.plans))
        self.which, self.counts, self.saves = (np.zeros((count, parts), np.int64) for _ in range(3))
        self.starts = np.zeros((count, parts))
        for m, steps in enumerate(self.plans):  # a shorter plan ends with parts of no steps
            n = len(steps)
            self.which[m, :n], self.counts[m, :n] = [self.programs.number(s) for s in steps], [s.count for s in steps]
            self.starts[m, :n], saved = [s.start for s in steps], np.array([s.saved for s in steps])
            self.saves[m] = -1
            self.saves[m, :n] = np.where(saved, np.cumsum(saved) - 1, -1)
        kernels, self.buffers = self.programs.kernels, self.programs.buffers
        self.steps = np.array([h for h, _ in self.programs.entries])
        codes = {id(s): encode(s, kernels, self.buffers) for s in self.programs.schedules.values()}
        shapes = {s.passes: codes[id(s)] for s in self.programs.schedules.values()}
        self.codes = [shapes[schedule.passes] for _, schedule in self.programs.entries]
        self.numbers = [numbers_in_order(schedule, rows) for (_, schedule), rows in zip(
            self.programs.entries, self.programs.rows)]
        self.table = parameter_rows(self.names, self.parameters, count)
        self.status = np.zeros(count, np.int64)
        self.carried = len(self.initial) + len(self.stencil.memories)
        self.room = self.layout.noise_size(len(self.stencil.sources), len(self.stencil.sheets),
                                           sheet_count(self.stencil))

    @cached_property
    def code(self) -> Compiled:
        """The machine code of the loops over members, saves, steps and passes."""
        return machine_code(build(self.stencil, self.names, self.programs.kernels, self.buffers))

    @cached_property
    def strips(self) -> Compiled:
        """The machine code that sweeps through many steps at once."""
        return compile_strip(self.stencil, self.names, self.programs.kernels)

    def block(self, first: int, last: int) -> None:
        """Integrate members first … last − 1 (places, not numbers)."""
        own = {name: value[first:last] if np.ndim(value) else value for name, value in self.parameters.items()}
        statics, edges = arrays_of(self.stencil, self.layout, self.names, own, self.starts[0, 0])
        keep: list[Any] = []
        noise = aligned(self.room)
        bring = _Bring(self, noise, last) if self.stencil.sheets else None
        arguments = self._arguments(first, last, statics, edges, noise, keep)
        if bring is not None:
            arguments[ARGUMENTS.index("sheets")] = bring.address
        entry(self.code)(arguments.ctypes.data)
        if bring is not None and bring.error is not None:
            raise bring.error

    def _arguments(self, first: int, last: int, statics: list[Array], edges: list[Array], noise: Array,
                   keep: list[Any]) -> Integers:
        """The arguments of `run`; `keep` holds the arrays whose addresses they contain."""
        low, high = seed_key(self.seed)
        tables = {name: table_of(arrays, first) for name, arrays in (("statics", statics), ("edges", edges))}
        values: dict[str, Any] = {
            "first": first, "last": last, "intervals": self.starts.shape[1], "stride": len(self.members),
            "k0": int(low), "k1": int(high), "members": self.members, "initial": self.initial, "out": self.out,
            "status": self.status, "counts": self.counts, "programs": self.which, "starts": self.starts,
            "saves": self.saves,
            "steps": self.steps, "schedules": addresses(self.codes), "numbers": addresses(self.numbers),
            "parameters": self.table, "statics": tables["statics"][0], "static_strides": tables["statics"][1],
            "edges": tables["edges"][0], "edge_strides": tables["edges"][1],
            "buffers": aligned(self.buffers * self.layout.size),
            "noise": noise, "sheets": 0, "rows": np.array([len(rows) for rows in self.numbers], np.int64),
            "widths": np.array([rows.shape[1] for rows in self.numbers], np.int64),
        }
        keep += [statics, edges, *values.values()]
        return np.array([v.ctypes.data if isinstance(v, np.ndarray) else v for v in (values[n] for n in ARGUMENTS)],
                        np.int64)


class _Bring:
    """Brings the sheets of coloured noise of a block of members into the kernel's noise, when it calls for them.

    Members follow in turn. Where all steps of a member lie in one block of sheets, so do those of members after it.
    """

    def __init__(self, job: Job, noise: Array, last: int) -> None:
        self.job, self.sheets, self.last = job, Sheets(job.stencil, job.seed), last
        self.target = noise[len(job.stencil.sources) * job.layout.row_size :].reshape(
            len(job.stencil.sheets), self.sheets.count, *job.layout.shape)
        self.totals = job.counts.sum(axis=1)
        self.first, self.block = 0, np.empty((0, 0, 0))
        self.error: BaseException | None = None
        self.callback = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(self.bring)
        self.address = ctypes.cast(self.callback, ctypes.c_void_p).value or 0

    def bring(self, m: int, step: int) -> None:
        """The sheets of the steps from `step` on; an error is kept, for none passes through machine code."""
        try:
            count, total = self.sheets.count, int(self.totals[m])
            steps = min(count, total - step)
            if total > count:
                self.first, self.block = m, self.sheets(self.job.members[m : m + 1], step, steps)
            elif not self.first <= m < self.first + self.block.shape[2]:
                end = min(self.last, m + max(1, SHEET_VALUES // (total * self.job.layout.cells)))
                most = min(count, int(self.totals[m:end].max()))
                self.first, self.block = m, self.sheets(self.job.members[m:end], 0, most)
            self.target[:, :steps] = self.block[:, :steps, m - self.first]
        except BaseException as error:
            self.error = error
            self.target[...] = np.nan


def addresses(arrays: Sequence[NDArray[Any]]) -> Integers:
    """Where arrays begin in memory."""
    return np.array([a.ctypes.data for a in arrays], np.int64)


def parameter_rows(names: Names, parameters: Mapping[str, Any], count: int) -> Array:
    """The parameters of each member, a row for each."""
    table = np.zeros((count, max(1, len(names.parameters))))
    for k, name in enumerate(names.parameters):
        table[:, k] = parameters[name]
    return table


def arrays_of(stencil: Stencil, layout: Layout, names: Names, parameters: Mapping[str, Any],
              t: float) -> tuple[list[Array], list[Array]]:
    """Static arrays (then coordinates along edges) and edge conditions as the kernels read them."""
    statics = [layout.place(values) for values in static_arrays(stencil, parameters).values()]
    statics += [edge_coordinates(stencil, k)[name][None] for k, name in names.coordinates]
    edges = [ghost_values(stencil, s, k, side, parameters, t)
             for s, axes in enumerate(stencil.ghosts) for k in range(len(axes)) for side in (0, 1)]
    return statics, [np.ascontiguousarray(e.reshape(len(e), -1)) for e in edges]


def table_of(arrays: Sequence[Array], first: int) -> tuple[Integers, Integers]:
    """Addresses and strides from which member m finds its own array at address + m·stride, or a shared one."""
    strides = [a.shape[1] if len(a) > 1 else 0 for a in arrays]
    starts = [a.ctypes.data - 8 * first * stride for a, stride in zip(arrays, strides)]
    return np.array([*starts, 0], np.int64), np.array([*strides, 0], np.int64)


def run(job: Job, threads: int) -> NDArray[np.int8]:
    """Integrate all members into `job.out`, and return their status."""
    count = len(job.members)
    levels = sweep_levels(job, threads)
    if levels:
        return run_strips(job, levels, threads)
    _ = job.code  # compiled once, before the threads want it
    room = BLOCK_VALUES // (job.layout.cells * max(1, len(job.stencil.statics)))
    size = max(1, min(BLOCK, room, -(-count // max(1, threads))))
    blocks = [(k, min(k + size, count)) for k in range(0, count, size)]
    if threads <= 1 or len(blocks) == 1:
        for first, last in blocks:
            job.block(first, last)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(job.block, *block) for block in blocks]:
                future.result()
    return job.status.astype(np.int8)
