"""Fields whose steps follow their error, on a GPU: member after member, a launch for each pass, three peaks read back.

Members have steps and stages of their own, so that no two of them share a launch: it suits fields of many cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sdesim.kernels.field_device import Arrays, Launch, device_launch
from sdesim.kernels.field_free import Task, follow
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_pairs import Program
from sdesim.streams import seed_key


class OnDevice:
    """One member's buffers on a device (or, for the tests, on the host), and the launches that try a step."""

    def __init__(self, task: Task, m: int, launch: Launch, names: Names, xp: Any) -> None:
        own = {name: np.asarray(v)[m : m + 1] if np.ndim(v) else v for name, v in task.parameters.items()}
        self.task, self.m, self.launch = task, m, launch
        self.arrays = Arrays(task.stencil, names, own, task.members[m : m + 1], float(task.times[0]), xp)
        self.buffers = xp.zeros((task.pairs.buffers, 1, *task.initial.shape[2:]))
        self.buffers[: len(task.initial), 0] = xp.asarray(task.initial[:, m])
        self.roles, self.xp = list(range(task.pairs.buffers)), xp

    def _run(self, program: Program, t: float, h: float) -> tuple[float, float, float]:
        numbers, at = self.xp.asarray(program.numbers(h)), 0
        self.arrays.peaks[:] = 0
        for p in program.schedule.passes:
            places = [np.int64(self.roles[k]) for k in (*p.inputs, *p.outputs)]
            tail = self.arrays.tail(numbers[at:], t, 0, seed_key(0))
            self.launch(self.task.pairs.kernels.index(p.kernel), 1, [self.buffers, np.int64(1), *places, *tail])
            at += len(p.numbers)
        peaks = self.arrays.peaks if isinstance(self.arrays.peaks, np.ndarray) else self.arrays.peaks.get()
        error, real, imaginary = peaks.view(np.float64).tolist()
        return error, real, imaginary

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
        self.roles = [self.roles[k] for k in (*final, *rest)]

    def save(self, interval: int) -> None:
        for state in range(len(self.task.initial)):
            values = self.buffers[self.roles[state], 0]
            self.task.out[interval, state, self.m] = values if isinstance(values, np.ndarray) else values.get()


def run_on_device(task: Task) -> None:
    """Integrate all members on the current CUDA device."""
    names = Names.of(task.stencil, tuple(task.parameters))
    launch, xp = device_launch(task.stencil, task.pairs, names)
    for m in range(len(task.members)):
        follow(task, m, OnDevice(task, m, launch, names, xp))
