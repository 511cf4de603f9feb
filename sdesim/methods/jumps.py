"""Methods for models with jumps alone or above all: every event in turn, or the events of a step in one leap.

Every other method takes jumps too: `kernels.sde_jumps` composes its step with the jumps' exact law.
"""

from __future__ import annotations

from typing import Any

from sdesim.methods.method import Method
from sdesim.methods.vector import Vector
from sdesim.models.sde import SDE


def events(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Nothing happens between events: the states change by jumps alone."""
    return y


def only_jumps(model: SDE) -> None:
    """Raise ValueError unless the model changes by jumps alone."""
    if not model.jumps or model.noise or any(f.op != "const" or f.value for f in model.drift.values()):
        raise ValueError("it serves models that change by jumps alone, without drift and noise; any other method takes "
                         "jumps beside them")  # fmt: skip


METHODS = (
    Method("ssa", events, "jump", "Gillespie 1977, doi:10.1021/j100540a008", ("none",), None, None, None, None,
           "every event in turn: exact in law at any dt where rates do not depend on the time", only_jumps),
)  # fmt: skip
