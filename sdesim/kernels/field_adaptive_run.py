"""Runs the CPU kernel of fields whose steps follow their error: tables of programs, blocks of members over threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from sdesim.kernels.field_adaptive import DONE, REALS, WANTED, WORDS, Advance, build
from sdesim.kernels.field_driver import encode, entry, machine_code
from sdesim.kernels.field_free import Task
from sdesim.kernels.field_layout import Layout, aligned
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_pairs import TRACED, Pairs, Program
from sdesim.kernels.field_run import BLOCK, BLOCK_VALUES, arrays_of, parameter_rows, table_of
from sdesim.kernels.field_schedule import PEAKS
from sdesim.kernels.llvm import Compiled
from sdesim.streams import seed_key

_TABLES = ("rungs", "reaches", "costs", "sizes", "factors", "scales")


class _Programs:
    """Tables of the programs that are there, which the kernel reads: the beginning, then the rungs."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, rungs = pairs, pairs.embedded.rungs
        self.kernels, self.buffers = list(pairs.kernels), pairs.buffers
        self.rungs, self.factors, self.scales, self.sizes = (np.zeros(len(rungs) + 1, np.int64) for _ in range(4))
        self.reaches, self.costs = np.array([r[0] for r in rungs]), np.array([r[1] for r in rungs], np.int64)
        self.keep: list[Any] = []
        self.most_numbers = 64 + 16 * int(self.costs[-1])
        self._put(0, pairs.beginning)
        for k in range(min(TRACED, len(rungs))):
            self._put(k + 1, pairs.rung(k))

    def add(self, rung: int) -> None:
        """Put a rung in the tables."""
        program = self.pairs.rung(rung)
        assert len(program.factors) <= self.most_numbers
        self._put(rung + 1, program)

    def _put(self, k: int, program: Program) -> None:
        code = encode(program.schedule, self.kernels, self.buffers)
        arrays = program.factors, program.scaled.astype(np.float64), code
        self.keep += arrays
        self.sizes[k] = len(program.factors)
        self.factors[k], self.scales[k], self.rungs[k] = (a.ctypes.data for a in arrays)


class Kernels:
    """The members of a task by the CPU kernel."""

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.seed, self.programs = task, seed, _Programs(task.pairs)
        self.layout = Layout(task.stencil.model.grid.shape)
        self.names = Names.of(task.stencil, tuple(task.parameters))
        self.rows = parameter_rows(self.names, task.parameters, len(task.members))

    @cached_property
    def code(self) -> Compiled:
        """The machine code."""
        return machine_code(build(self.task.pairs, self.names))

    def block(self, first: int, last: int) -> None:
        """Integrate members first … last − 1 (places, not numbers)."""
        task = self.task
        own = {name: value[first:last] if np.ndim(value) else value for name, value in task.parameters.items()}
        statics, edges = arrays_of(task.stencil, self.layout, self.names, own, float(task.times[0]))
        tables = {name: table_of(arrays, first) for name, arrays in (("statics", statics), ("edges", edges))}
        low, high = seed_key(self.seed)
        values: dict[str, Any] = {
            "intervals": len(task.times) - 1, "stride": len(task.members), "initial": task.initial, "out": task.out,
            "members": task.members, "parameters": self.rows, "k0": int(low), "k1": int(high),
            "statics": tables["statics"][0], "static_strides": tables["statics"][1], "edges": tables["edges"][0],
            "edge_strides": tables["edges"][1], "buffers": aligned(self.programs.buffers * self.layout.size),
            "noise": aligned(len(task.initial) * self.layout.row_size), "times": task.times,
            "scratch": np.zeros(self.programs.most_numbers), "peaks": np.zeros(PEAKS, np.int64),
            **{name: getattr(self.programs, name) for name in _TABLES},
        }  # fmt: skip
        for m in range(first, last):
            self._member(m, values)

    def _member(self, m: int, values: dict[str, Any]) -> None:
        task, run = self.task, entry(self.code)
        reals, words = np.zeros(len(REALS)), np.zeros(len(WORDS), np.int64)
        state = {"real": task.bounds[0, m], "imaginary": task.bounds[1, m], "dt": task.dt, "factor": task.edges[m]}
        for name, value in state.items():
            reals[REALS.index(name)] = value
        values = {**values, "member": m, "reals": reals, "words": words,
                  "roles": np.arange(self.programs.buffers, dtype=np.int64)}  # fmt: skip
        arguments = np.array([v.ctypes.data if isinstance(v, np.ndarray) else v
                              for v in (values[name] for name in Advance.arguments)], np.int64)
        word = {name: k for k, name in enumerate(WORDS)}
        while True:
            run(arguments.ctypes.data)
            if words[word["code"]] != WANTED:
                break
            self.programs.add(int(words[word["rung"]]))
            words[word["code"]] = DONE
        task.counts[:, m] = [words[word[name]] for name in ("accepted", "rejected", "evaluations")]
        if words[word["code"]] != DONE:
            task.left(m, int(words[word["interval"]]))


def run(task: Task, threads: int) -> None:
    """Integrate all members by the CPU kernel."""
    kernels, count = Kernels(task), len(task.members)
    _ = kernels.code  # compiled once, before the threads want it
    room = BLOCK_VALUES // (kernels.layout.cells * max(1, len(task.stencil.statics)))
    size = max(1, min(BLOCK, room, -(-count // max(1, threads))))
    blocks = [(k, min(k + size, count)) for k in range(0, count, size)]
    if threads <= 1 or len(blocks) == 1:
        for first, last in blocks:
            kernels.block(first, last)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(kernels.block, *block) for block in blocks]:
                future.result()
