"""Where training samples come from: memory, or files larger than memory.

Sample number i of a run (0, 1, 2, … over all its batches) is in epoch i // n at position i % n; the order of an epoch
is a function of (seed, epoch), and every sample is seen once in it. A source gives the samples of any numbers, so
that resuming, accumulating and sharing a batch need nothing but numbers.

Streaming: the shards (contiguous runs of samples, as they lie in the file) are shuffled, `window` of them at a time
are read, and the samples of a window are shuffled. The window in use and the one that is being read ahead are held.
Shards are read by one thread, or by `workers` processes, started by "spawn" because Zarr's threads do not survive
a fork.
"""

from __future__ import annotations

import multiprocessing
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.tensor_streams import Use, order

Samples = tuple[Tensor, Tensor | None]
Arrays = tuple[NDArray[Any], NDArray[Any] | None]


class Source(Protocol):
    """Training samples by their number in the run."""

    def __len__(self) -> int:
        """Samples in an epoch."""

    def take(self, numbers: Tensor) -> Samples:
        """Fields (k, channels, *space) and conditions (k, conditions), or None, of these sample numbers."""


class InMemory:
    """Fields x (n, channels, *space) and conditions c (n, conditions) or None, in the order of `seed`.

    >>> source = InMemory(torch.arange(3.0)[:, None, None], None, seed=1)
    >>> sorted(source.take(torch.arange(3, 6))[0].flatten().tolist())
    [0.0, 1.0, 2.0]
    """

    def __init__(self, x: Tensor, c: Tensor | None, seed: int):
        self.x, self.c, self.seed = x, c, seed

    def __len__(self) -> int:
        return len(self.x)

    def take(self, numbers: Tensor) -> Samples:
        """The samples at these numbers, increasing."""
        epochs, places = numbers // len(self), numbers % len(self)
        parts = [order(self.seed, len(self), e)[places[epochs == e]] for e in sorted({*epochs.tolist()})]
        index = torch.cat(parts).to(self.x.device)
        return self.x[index], None if self.c is None else self.c[index]


@dataclass(frozen=True)
class Mapped:
    """The samples of another source, mapped with their numbers when they are taken.

    >>> twice = Mapped(InMemory(torch.ones(3, 1, 1), None, seed=1), lambda samples, _: (2.0 * samples[0], samples[1]))
    >>> twice.take(torch.arange(2))[0].flatten().tolist()
    [2.0, 2.0]
    """

    source: Source
    to: Callable[[Samples, Tensor], Samples]

    def __len__(self) -> int:
        return len(self.source)

    def take(self, numbers: Tensor) -> Samples:
        """The samples at these numbers, increasing."""
        return self.to(self.source.take(numbers), numbers)


class Stream:
    """Samples of shards that are read when their window comes; close() ends the readers.

    Parameters
    ----------
    read
        shard number → (fields, conditions or None) as arrays; with `workers` it goes to other processes, so that it
        must be a function of a module or an object with `__call__` that opens its files there.
    sizes
        how many samples each shard holds.
    window
        shards shuffled together: two windows are held in memory.

    >>> shards = [np.full((2, 1, 1), k, np.float32) for k in range(3)]
    >>> with Stream(lambda k: (shards[k], None), [2, 2, 2], seed=0, window=2) as stream:
    ...     sorted(stream.take(torch.arange(6))[0].flatten().tolist())
    [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    """

    def __init__(
        self, read: Callable[[int], Arrays], sizes: Sequence[int], seed: int, *, window: int = 4, workers: int = 0
    ):
        self.sizes, self.seed, self.window, self._read = list(sizes), seed, window, read
        self._loaded: dict[tuple[int, int], list[Future[Arrays]] | Samples] = {}
        spawn = multiprocessing.get_context("spawn")
        self._readers: Executor = ProcessPoolExecutor(workers, spawn) if workers else ThreadPoolExecutor(1)

    def __len__(self) -> int:
        return sum(self.sizes)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the readers and forget what was read."""
        self._readers.shutdown(cancel_futures=True)
        self._loaded.clear()

    def take(self, numbers: Tensor) -> Samples:
        """The samples at these numbers, increasing; reads the windows they lie in and the one after."""
        rows = []
        for number in numbers.tolist():
            epoch, position = divmod(number, len(self))
            ends = self._ends(epoch)
            group = bisect_right(ends, position)
            size = ends[group] - (ends[group - 1] if group else 0)
            inside = order(self.seed, size, epoch * len(ends) + group, Use.WINDOW)[position - ends[group] + size]
            x, c = self._window(epoch, group)
            rows.append((x[inside], None if c is None else c[inside]))
        fields, conditions = zip(*rows, strict=True)
        return torch.stack(fields), None if conditions[0] is None else torch.stack(conditions)

    def _shards(self, epoch: int, group: int) -> list[int]:
        shuffled: list[int] = order(self.seed, len(self.sizes), epoch).tolist()
        return shuffled[group * self.window : (group + 1) * self.window]

    def _ends(self, epoch: int) -> list[int]:
        """Where each window of an epoch ends."""
        groups = range(-(-len(self.sizes) // self.window))
        return list(accumulate(sum(self.sizes[k] for k in self._shards(epoch, g)) for g in groups))

    def _request(self, epoch: int, group: int) -> None:
        if (epoch, group) not in self._loaded:
            self._loaded[epoch, group] = [self._readers.submit(self._read, k) for k in self._shards(epoch, group)]

    def _window(self, epoch: int, group: int) -> Samples:
        key, last = (epoch, group), -(-len(self.sizes) // self.window) - 1
        found = self._loaded.get(key)
        if found is None or isinstance(found, list):
            for other in [other for other in self._loaded if other != key]:
                del self._loaded[other]
            self._request(epoch, group)
            parts = [future.result() for future in self._loaded[key]]  # type: ignore[union-attr]
            x = torch.from_numpy(np.concatenate([fields for fields, _ in parts]))
            given = [c for _, c in parts if c is not None]
            found = (x, torch.from_numpy(np.concatenate(given)) if given else None)
            self._loaded[key] = found
            self._request(*((epoch, group + 1) if group < last else (epoch + 1, 0)))
        return found
