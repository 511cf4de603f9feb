"""Steps of many stages from those of few: two more stages run the same passes once more, on the same buffers.

Tracing a step takes time in proportion to its stages. From the traced steps of s and s + 2 stages follow the passes of
s + 4, s + 6, …: what the longer has in its middle comes again, its numbers further on in the list; the numbers
themselves are the method's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sdesim.kernels.field_schedule import Pass, Schedule


def prolonged(short: Schedule, longer: Schedule, times: int, numbers: Sequence[Any]) -> Schedule | None:
    """The schedule of a step with `times` times as many stages more than the longer has; None where no pattern shows.

    Args:
        short, longer: schedules of two steps.
        times: how often the passes by which they differ are to come, 1 in the longer.
        numbers: the method's for the step that is wanted.
    """
    added, more = len(longer.passes) - len(short.passes), len(longer.numbers) - len(short.numbers)
    first = next((k for k, (a, b) in enumerate(zip(short.passes, longer.passes)) if a != b), len(short.passes))
    middle, end = longer.passes[first : first + added], short.passes[first:]
    whole = (*short.passes[:first], *middle, *(_shifted(p, more) for p in end))
    if whole != longer.passes or (short.final, short.buffers) != (longer.final, longer.buffers):
        return None
    if len(numbers) != len(short.numbers) + times * more:
        return None
    repeated = [_shifted(p, k * more) for k in range(times) for p in middle]
    passes = (*short.passes[:first], *repeated, *(_shifted(p, times * more) for p in end))
    return replace(short, passes=passes, numbers=tuple(numbers))


def _shifted(one: Pass, by: int) -> Pass:
    return replace(one, numbers=tuple(k + by for k in one.numbers))
