"""What noise draws in a step, as a method meets it: the increments of the sources of every state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.kernels.field_memory import gains, stationary
from sdesim.methods.vector import ZERO, Vector
from sdesim.stencils import Stencil

Make = Callable[[list[Any]], Vector]


@dataclass
class Increments:
    """What a step draws: dW, for each state the increments of its sources in a cell, 0 for a state without noise."""

    dW: Vector


def by_state(stencil: Stencil, increments: Sequence[Any], make: Make = Vector) -> Vector:
    """The increments of all sources as a vector of the states, each a vector of its sources or 0."""
    rows = [[z for source, z in zip(stencil.sources, increments) if source.state == i]
            for i in range(len(stencil.right_side))]
    return make([make(row) if row else ZERO for row in rows])


def by_source(stencil: Stencil, dW: Vector) -> dict[str, Any]:
    """The increments by the names of their sources, from those by state."""
    rows = {i: iter(row) for i, row in enumerate(dW) if isinstance(row, Vector)}
    return {f"~{j}": next(rows[source.state]) for j, source in enumerate(stencil.sources)}


def increments(stencil: Stencil, make: Make, h: float, root: float, memory: tuple[float, ...], z: Sequence[Any],
               kept: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The increments of all sources from their normals, and the memories after the step from those before.

    Args:
        stencil: the discrete model.
        make: a vector of numbers that multiplies with the step's.
        h: the step.
        root: √(h/V), the standard deviation of an increment of white noise in a cell.
        memory: what is left to know of each noise with a memory before the step (`field_memory`).
        z: the normals by source.
        kept: the memories, one for each source that has one.
    """
    found: list[Any] = []
    after: list[Any] = []
    scale = stencil.noise_scale
    left = iter(memory or stationary(source.memory or 0.0 for source in stencil.memories))
    for source, normal in zip(stencil.sources, z):
        new = make([normal])
        if source.memory is None:
            found += new * root
            continue
        g, _ = gains(h, source.memory, next(left))
        past = make([kept[len(after)]])
        found += past * (g.past * scale) + new * (g.new * scale)
        after += past * g.fade + new * g.gain
    return found, after
