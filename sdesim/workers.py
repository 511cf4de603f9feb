"""Where groups of members are computed: here, one after the other on all threads, or on the workers of a Dask cluster.

A group depends on its members' numbers alone, so it gives the same bits wherever it runs, and again if a worker dies.
Results come back in the order of the groups; a bounded number is under way, and each future is released as it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

Result = tuple[Any, ...]


class Divisible(Protocol):
    """Work on members that can be cut: a `Run` of `simulate`."""

    def group(self, positions: slice, threads: int) -> Result:
        """The result for the members at these positions."""

    def part(self, positions: slice) -> Divisible:
        """The work on these members alone, with nothing of the others."""


def check_client(client: Any) -> None:
    """Raise TypeError unless this is a `dask.distributed.Client`."""
    if not (hasattr(client, "submit") and hasattr(client, "scheduler_info")):
        raise TypeError(f"client is a dask.distributed.Client, got {type(client).__name__}; make a Client(cluster)")


def results(work: Divisible, parts: Sequence[slice], threads: int, client: Any = None) -> Iterator[Result]:
    """The result of every part, in order."""
    if client is None:
        for positions in parts:
            yield work.group(positions, threads)
        return
    waiting, pending = deque(parts), deque[Any]()
    ahead = 2 * max(1, sum(worker["nthreads"] for worker in client.scheduler_info()["workers"].values()))
    try:
        for _ in parts:
            while waiting and len(pending) < ahead:
                pending.append(client.submit(_whole, work.part(waiting.popleft()), pure=False, retries=3))
            future = pending.popleft()
            result: Result = future.result()
            future.release()
            yield result
    finally:
        for future in pending:
            future.cancel()


def _whole(work: Divisible) -> Result:
    return work.group(slice(None), 1)
