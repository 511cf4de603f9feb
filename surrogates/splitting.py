"""The samples of a Dataset in their parts, by whole blocks: training, selection, verdict; in memory or streamed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from surrogates import data
from surrogates.layouts import Layout, outermost, split_blocks
from surrogates.sources import InMemory, Samples, Source, Stream

VALIDATION_BLOCKS = 4
_JUDGED = 1024  # entries of a large file that are selected, or judged, by


@dataclass(frozen=True)
class Parts:
    """Entries of the outermost sample dimension, `stride` samples in each; `gap` samples part the folds.

    `room`: how many entries of training fields may be held; more are streamed from their file, where they lie in
    chunks.
    """

    ds: xr.Dataset
    layout: Layout
    training: NDArray[np.int64]
    chosen: NDArray[np.int64]
    judged: NDArray[np.int64]
    stride: int
    gap: int
    room: int

    @property
    def whole(self) -> bool:
        """Whether all training samples are held."""
        return len(self.training) <= self.room

    def held(self) -> Samples:
        """The training samples, or as many as there is room for, evenly spread; on the CPU."""
        return data.read_samples(self.ds, self.layout, _spread(self.training, self.room))

    def selection(self, device: torch.device) -> Samples:
        """Samples that averages and options are chosen by."""
        return on(data.read_samples(self.ds, self.layout, self.chosen), device)

    def verdict(self, device: torch.device) -> Samples:
        """Samples that nothing was chosen by."""
        return on(data.read_samples(self.ds, self.layout, self.judged), device)

    @contextlib.contextmanager
    def source(self, held: Samples, device: torch.device, seed: int, workers: int) -> Iterator[Source]:
        """The training samples in the order of `seed`: those that are held, or all from their file."""
        if self.whole:
            yield InMemory(*on(held, device), seed)
            return
        with self._stream(seed, workers) as stream:
            yield stream

    def _stream(self, seed: int, workers: int) -> Stream:
        """Shards of the file's own chunks, windows of a quarter of the memory."""
        layout, first = self.layout, self.ds[self.layout.variables[0]]
        chunks = first.encoding.get("shards") or first.encoding.get("chunks")
        axis = first.dims.index(outermost(self.ds, layout.samples))
        length = max(1, min(int(chunks[axis]) if chunks else self.room // 32, max(1, self.room // 8)))
        edges = np.flatnonzero(np.diff(self.training // length)) + 1
        bounds = tuple(np.split(self.training, edges))
        shards = _Shards(self.ds[[*layout.variables, *layout.condition, *layout.maps]], layout, bounds)
        window = max(1, self.room // (4 * length))
        return Stream(shards, [len(b) * self.stride for b in bounds], seed, window=window, workers=workers)


def split(ds: xr.Dataset, layout: Layout, fraction: float, memory: float) -> Parts:
    """Hold out `fraction` of the samples, half for selection and half for the verdict; `memory` in bytes.

    The same Dataset and fraction give the same parts. Raises ValueError for too few entries.

    >>> from surrogates.layouts import make_layout
    >>> ds = xr.Dataset({"u": (("member", "x"), np.random.default_rng(0).normal(size=(60, 8)))})
    >>> parts = split(ds, make_layout(ds, ["u"], [], None), 0.2, 1e9)
    >>> len(parts.training), len(parts.chosen), len(parts.judged), parts.whole
    (48, 6, 6, True)
    """
    outer = outermost(ds, layout.samples)
    groups = ds.sizes[outer]
    stride = math.prod(ds.sizes[d] for d in layout.samples) // groups
    gap = 0 if outer == "member" else max(1, round(0.02 * groups))
    if groups < 2 * VALIDATION_BLOCKS:
        raise ValueError(f"dimension {outer!r} wants at least {2 * VALIDATION_BLOCKS} entries to split, got {groups}")
    training, held = split_blocks(groups, fraction=fraction, blocks=VALIDATION_BLOCKS, gap=gap)
    pieces = np.array_split(held, VALIDATION_BLOCKS)
    chosen, judged = np.concatenate(pieces[0::2]), np.concatenate(pieces[1::2])
    room = max(1, int(memory / (4 * layout.channels * layout.cells * stride)))
    return Parts(ds, layout, training, _spread(chosen, _JUDGED), _spread(judged, _JUDGED), stride, gap * stride, room)


def some(samples: Samples, count: int) -> Samples:
    """At most `count` samples, evenly spread and in their order.

    >>> some((torch.arange(5.0), None), 3)[0].tolist()
    [0.0, 2.0, 4.0]
    """
    x, c = samples
    index = torch.linspace(0, len(x) - 1, min(count, len(x))).round().long().to(x.device)
    return x[index], None if c is None else c[index]


def on(samples: Samples, device: torch.device) -> Samples:
    """The same samples on a device."""
    x, c = samples
    return x.to(device), None if c is None else c.to(device)


def _spread(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of them, evenly spread and in their order."""
    return index[np.linspace(0, len(index) - 1, min(count, len(index))).round().astype(np.int64)]


@dataclass(frozen=True)
class _Shards:
    """Reads shard k, the entries bounds[k] of the outermost sample dimension, of a Dataset that is read lazily."""

    ds: xr.Dataset
    layout: Layout
    bounds: tuple[NDArray[np.int64], ...]

    def __call__(self, k: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
        x, c = data.read_samples(self.ds, self.layout, self.bounds[k])
        return x.numpy(), None if c is None else c.numpy()
