"""`save="statistics"` for SDEs: an ensemble reduced while it is integrated, in memory that its size does not enter.

Members are taken in shares; what is made for each member (its number, initial value, parameters) is made for one share
at a time, and its states live for one block of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sdesim.ensemble import member_numbers
from sdesim.initial import is_list
from sdesim.kernels.moments import Context
from sdesim.methods.bounded import ALIVE, bounded
from sdesim.models.sde import SDE
from sdesim.runs import Run
from sdesim.statistics import EnsembleStatistics
from sdesim.workers import results

SHARE = 2**20  # members that are made at a time
_GROUP_BYTES = 2**26


class Kept:
    """The statistics of some members, and how many were left out because they did not stay finite."""

    def __init__(self, run: Run) -> None:
        self.skip, self.lost = run.skip, 0
        self.statistics = EnsembleStatistics(run.names, len(run.clock) - run.skip, ALIVE / 2 if run.absorbs else None)

    def add(self, states: NDArray[np.float64]) -> None:
        """Add the states (time, state, member) of some members."""
        self.lost += self.statistics.add(states[self.skip :])

    def context(self, stride: int) -> Context | None:
        """What compiled code needs to add rows of `stride` numbers; None if states must come by `add`."""
        return self.statistics.context(self.skip, stride)

    def taken(self, context: Context, back: NDArray[np.float64] | None = None) -> None:
        """What compiled code has added with a context, but for states (time, …) that it counted and then refused."""
        self.statistics.taken(context, None if back is None else back[self.skip :])

    def merge(self, other: Kept) -> None:
        """Take in the members of another one."""
        self.lost += other.lost
        self.statistics.merge(other.statistics)


@dataclass(frozen=True)
class Reduction:
    """The members of a run, reduced: work that can be cut and sent to workers."""

    run: Run

    def group(self, positions: slice, threads: int) -> tuple[Kept]:
        """The statistics of the members at these positions."""
        kept = Kept(self.run)
        for part in self._fused(positions, threads) if self.fused else self._of_states(positions, threads):
            kept.merge(part)
        return (kept,)

    def part(self, positions: slice) -> Reduction:
        """The work on these members alone."""
        return Reduction(self.run.part(positions))

    @property
    def fused(self) -> bool:
        """Whether the states are reduced in the threads that make them, by the kernels with fixed steps."""
        choice = self.run.choice
        return self.run.device == "cpu" and choice.method.kind == "sde" and choice.control is None

    def _fused(self, positions: slice, threads: int) -> Iterator[Kept]:
        from sdesim.integrate import fold

        run = self.run
        model, method, numbers = cast("SDE", run.model), run.choice.method, run.numbers[positions]
        own = {n: v[positions] if np.ndim(v) else v for n, v in run.parameters.items()}
        start = np.ascontiguousarray(run.initial[:, positions], run.arithmetic)
        if model.bounds:
            model, method = bounded(model, method)
            start = np.vstack([start, np.full(len(numbers), ALIVE)])
        return fold(model, method, start, own, run.clock, run.choice.dt or 1.0, seed=run.seed, members=numbers,
                    threads=threads, begin=lambda: Kept(run))  # fmt: skip

    def _of_states(self, positions: slice, threads: int) -> Iterator[Kept]:
        """By way of the states, for some members at a time."""
        count = len(self.run.numbers[positions])
        size = max(512 * threads, _GROUP_BYTES // (8 * len(self.run.clock) * len(self.run.names)))
        for begin in range(0, count, size):
            part = self.run.part(slice(*positions.indices(len(self.run.numbers)))).part(slice(begin, begin + size))
            states, status, *_ = part.group(slice(None), threads)
            kept = Kept(self.run)
            kept.add(states[:, :, status == 0])
            kept.lost += int(np.count_nonzero(status))
            yield kept


def reduced(run: Run, threads: int, client: Any, size: int) -> Iterator[tuple[int, Kept]]:
    """(how many members, their statistics) for every `size` members of a run, in order."""
    count = len(run.numbers)
    parts = [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]
    for part, (kept,) in zip(parts, results(Reduction(run), parts, threads, client), strict=True):
        yield part.stop - part.start, kept


def shares(members: Any, given: Mapping[str, Any], design: str) -> Sequence[Any]:
    """The members in shares, each of which can be prepared alone; a count or a range is not written out.

    What is `given` as a list, or drawn as a Latin hypercube, belongs to the ensemble as a whole.

    >>> [len(share) for share in shares(2_200_000, {"k": 1.0}, "random")]
    [1048576, 1048576, 102848]
    """
    whole = design == "lhs" or any(
        is_list(v) or (getattr(v, "dims", ()) and "member" not in v.coords) for v in given.values()
    )
    if isinstance(members, (int, np.integer)) and not isinstance(members, bool) and members > SHARE:
        member_numbers([0, int(members) - 1])  # within limits
        members = range(int(members))
    if whole or not isinstance(members, range) or len(members) <= SHARE:
        return [members]
    member_numbers([members[0], members[-1]])
    return [members[begin : begin + SHARE] for begin in range(0, len(members), SHARE)]
