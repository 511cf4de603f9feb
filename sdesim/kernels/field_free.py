"""Runs of fields whose steps follow their error: each member for itself, by steps of its own.

`follow` is the loop, on whatever tries a step: NumPy (`Plain`), the passes on a GPU, or strips of a large grid. The CPU
kernel has the same loop inside (`field_adaptive`); both take it from the lines of `methods.field_control`, and so take
the same steps. Saves are met exactly, the last two steps before one being equal rather than one of them short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdesim.coefficients import of_member
from sdesim.kernels.field_bounds import ghost_factor
from sdesim.kernels.field_pairs import Pairs
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.field import SPARE, FieldMethod, Spectrum, embedded_of
from sdesim.methods.field_control import (
    GROWTH,
    STEP_LIMIT,
    FieldControl,
    Floats,
    first_step,
    following,
    is_stuck,
    longest,
    refused_factor,
    smaller,
    tried,
)
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.stencils import Stencil

Array = NDArray[np.float64]


@dataclass
class Task:
    """What every member of a run shares, and what the run leaves.

    Attributes:
        method: its name.
        pairs: the programs.
        parameters: numbers or arrays over all members.
        bounds: (2, members) on the real and the imaginary eigenvalues; where they move, they are found on the way.
        edges: (members,) by what the edges' conditions multiply the bounds that are found.
        initial: (states, members, *space).
        times: the start and the saves.
        dt: the longest step.
        out: (intervals, states, members, *space), filled by the run.
        counts: (3, members) steps, rejected ones, right-hand sides, filled by the run.
        status: (members,) 0, or 2 where no step is small enough.
    """

    method: str
    pairs: Pairs
    parameters: Mapping[str, Any]
    bounds: Array
    edges: Array
    initial: Array
    times: Array
    dt: float
    members: NDArray[np.int64]
    out: Array

    def __post_init__(self) -> None:
        count = len(self.members)
        self.stencil = self.pairs.stencil
        self.counts, self.status = np.zeros((3, count), np.int64), np.zeros(count, np.int8)

    def left(self, m: int, interval: int) -> None:
        """Member m has no step that is small enough: from this interval's end on there is nothing of it."""
        self.status[m] = STEP_LIMIT
        self.out[interval:, :, m] = np.nan


    @property
    def notes(self) -> dict[str, Any]:
        """What is to be said of the run, and of each member."""
        notes: dict[str, Any] = {"method": self.method, "discretisation": "finite volumes, second order"}
        if self.stencil.advection != "none":
            notes["advection"] = self.stencil.advection
        return notes | dict(zip(("steps", "rejected_steps", "right_sides"), self.counts, strict=True))


def task(stencil: Stencil, method: FieldMethod, parameters: Mapping[str, Any], bounds: Sequence[Spectrum],
         looked: Sequence[float], initial: Array, times: Array, dt: float | None, members: NDArray[np.int64],
         control: FieldControl) -> Task:
    """The run of a method with an estimate of its error.

    Args:
        stencil, method, parameters, initial, times, members: as of `stencil_integrate.stencil_run`.
        bounds: of each member at the start.
        looked: times at which the conditions of the edges are looked at.
        dt: the longest step; None is a tenth of the span.
        control: the tolerances.

    Raises ValueError for a method without such an estimate.
    """
    edges = ghost_factor(stencil, parameters, looked) * np.ones(len(members))
    rates = np.array([[b.diffusion + b.reaction for b in bounds], [b.advection for b in bounds]])
    most = dt if dt is not None else 0.1 * float(times[-1] - times[0]) or 1.0
    out = np.empty((len(times) - 1, *initial.shape))
    pairs = Pairs(stencil, embedded_of(method), control)
    return Task(method.name, pairs, parameters, rates, edges, initial, times, most, members, out)


def reference(task: Task, threads: int) -> None:
    """Integrate all members by the methods' own lines."""
    with np.errstate(all="ignore"):
        for m in range(len(task.members)):
            follow(task, m, Plain(task, m))


class Stepper(Protocol):
    """One member's state, and what tries steps on it. Peaks are (error, real, imaginary)."""

    def begin(self, t: float) -> tuple[float, float, float]:
        """The slope of the initial state; its peaks."""

    def attempt(self, t: float, h: float, rung: int) -> tuple[float, float, float]:
        """A step that may be undone; its peaks."""

    def accept(self) -> None:
        """The step is taken."""

    def save(self, interval: int) -> None:
        """The state is that at the end of an interval."""


def follow(task: Task, m: int, stepper: Stepper) -> None:
    """Integrate member m from save to save."""
    machine, pair = Floats(), task.pairs.embedded
    times, (real, imaginary), factor = task.times.tolist(), task.bounds[:, m].tolist(), float(task.edges[m])
    t, before, growth, interval, moving = times[0], 1.0, GROWTH, 0, task.pairs.moving
    _, found, across = stepper.begin(t)
    real, imaginary = (found * factor, across * factor) if moving else (real, imaginary)
    task.counts[2, m] += 1
    h = first_step(machine, real, imaginary, task.dt)
    while interval < len(times) - 1:
        end = times[interval + 1]
        most = longest(machine, pair, task.dt, real, imaginary)
        tries, last = tried(machine, smaller(machine, h, most), end - t)
        if not last and is_stuck(machine, tries, end - times[0]):
            return task.left(m, interval)
        reached = tries * real * SPARE
        rung = next((k for k, (reach, _, _) in enumerate(pair.rungs) if not reach < reached), len(pair.rungs) - 1)
        error, found, across = stepper.attempt(t, tries, rung)
        task.counts[2, m] += pair.rungs[rung][1]
        if not error <= 1.0:
            h, growth = tries * refused_factor(machine, pair.power, error), 1.0
            task.counts[1, m] += 1
            continue
        h, before = following(machine, pair.power, tries, h, growth, error, before)
        growth, t = GROWTH, end if last else t + tries
        stepper.accept()
        task.counts[0, m] += 1
        real, imaginary = (found * factor, across * factor) if moving else (real, imaginary)
        if last:
            stepper.save(interval)
            interval += 1
    return None


class Plain:
    """The reference: the pair's own lines on NumPy arrays."""

    def __init__(self, task: Task, m: int) -> None:
        own = of_member(task.parameters, m)
        statics = {name: values[0] for name, values in static_arrays(task.stencil, own).items()}
        self.task, self.m, self.pairs = task, m, task.pairs
        self.reference = Reference(task.stencil, own, statics)
        self.y, self.control = Vector(list(task.initial[:, m])), task.pairs.control

    def begin(self, t: float) -> tuple[float, float, float]:
        self.f = self.reference.f(t, self.y)
        return 0.0, *self._sums(t, self.y)

    def attempt(self, t: float, h: float, rung: int) -> tuple[float, float, float]:
        pair = self.pairs.embedded
        self.next = u, _, error = pair.pair(self.reference, t, self.y, self.f, h, **pair.rungs[rung][2])
        ratios = [e / (atol + self.control.rtol * np.maximum(np.abs(a), np.abs(b)))
                  for a, b, e, atol in zip(self.y, u, error, self.control.atol, strict=True)
                  if not is_structural_zero(e)]  # fmt: skip
        return peak(ratios), *self._sums(t + h, u)

    def accept(self) -> None:
        self.y, self.f, _ = self.next

    def save(self, interval: int) -> None:
        self.task.out[interval, :, self.m] = list(self.y)

    def _sums(self, t: float, y: Vector) -> tuple[float, float]:
        real, imaginary = (self.reference.around([node for number, node in self.pairs.sums if number == k], t, y)
                           for k in (1, 2))
        return peak(real), peak(imaginary)


def peak(values: list[Any]) -> float:
    """The largest size of arrays' values; what is no number is the largest."""
    sizes = [np.max(np.asarray(np.abs(v), np.float64).view(np.int64)) for v in values]
    return float(np.max(np.array(sizes)).view(np.float64)) if sizes else 0.0
