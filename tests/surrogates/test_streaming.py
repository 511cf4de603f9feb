"""Data larger than memory: every sample once per epoch, never more than two windows held, the same whoever reads."""

from __future__ import annotations

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr

import sdesim as sim
import surrogates as sur
from surrogates import data, layouts
from surrogates.sources import InMemory, Stream

torch.set_num_threads(1)
SIZES = [5, 5, 3, 5, 2, 5, 5]
TOTAL = sum(SIZES)
STARTS = np.concatenate([[0], np.cumsum(SIZES)])


def shard(k: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(STARTS[k], STARTS[k + 1], dtype=np.float32)
    return x[:, None, None].copy(), 2 * x[:, None]


def batches(source, size: int, count: int, first: int = 0) -> np.ndarray:
    parts = [source.take(torch.arange(first + size * i, first + size * (i + 1)))[0] for i in range(count)]
    return torch.cat(parts).flatten().numpy()


@pytest.mark.parametrize("window", [1, 3, 100])
def test_every_sample_once_per_epoch_in_another_order_each(window):
    with Stream(shard, SIZES, seed=4, window=window) as stream:
        x, c = stream.take(torch.arange(3 * TOTAL))
    assert torch.equal(c, 2 * x[:, 0])
    epochs = x.reshape(3, TOTAL).numpy().astype(int)
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL))
    assert all((a != b).any() for a, b in pairwise(epochs))
    memory = InMemory(torch.arange(float(TOTAL))[:, None, None], None, 4).take(torch.arange(3 * TOTAL))[0]
    assert all(sorted(epoch) == list(range(TOTAL)) for epoch in memory.reshape(3, TOTAL).numpy().astype(int))


def test_shards_are_mixed_within_a_window():
    with Stream(shard, SIZES, seed=1, window=len(SIZES)) as stream:
        order = batches(stream, TOTAL, 1)
    jumps = np.abs(np.diff(order))
    assert (jumps == 1).sum() < 5  # 7 expected of 29 if the shards came one after another, shuffled inside
    assert np.corrcoef(order, np.arange(TOTAL))[0, 1] < 0.5


def test_batches_begun_anywhere_and_shared_are_those_of_one_reader():
    with Stream(shard, SIZES, seed=2, window=2) as stream:
        whole = batches(stream, 8, 10)
    with Stream(shard, SIZES, seed=2, window=2) as stream:
        assert np.array_equal(batches(stream, 8, 4, first=48), whole[48:])  # a resumed run
    shares = []
    for rank in range(2):
        with Stream(shard, SIZES, seed=2, window=2) as stream:
            numbers = [torch.arange(8 * i + rank, 8 * (i + 1), 2) for i in range(10)]
            shares.append(torch.stack([stream.take(n)[0].flatten() for n in numbers]))
    assert np.array_equal(torch.stack(shares, dim=-1).flatten().numpy(), whole)


def test_memory_holds_two_windows_at_most():
    alive: set[int] = set()
    reads: list[int] = []
    most = 0

    def read(k: int):
        x, c = np.zeros((5, 1, 1), np.float32), None
        token = len(reads)
        reads.append(k)
        alive.add(token)
        weakref.finalize(x, alive.discard, token)
        return x, c

    with Stream(read, [5] * 40, seed=0, window=3) as stream:
        for i in range(50):
            stream.take(torch.arange(8 * i, 8 * (i + 1)))
            rows = sum(len(entry[0]) if isinstance(entry, tuple) else 0 for entry in stream._loaded.values())
            most = max(most, len(alive) + rows // 5)
    assert most <= 6
    assert len(reads) <= 86  # two epochs of 40, and what was read ahead: no shard twice in an epoch


def zarr_file(path) -> xr.Dataset:
    rng = np.random.default_rng(0)
    u = rng.normal(size=(240, 16)).cumsum(1).astype("f4") + rng.normal(size=(240, 1)).astype("f4")
    ds = xr.Dataset(
        {"u": (("member", "x"), u)},
        {"x": np.arange(16.0), "k": ("member", rng.uniform(size=240))},
        {"boundary_x": "periodic"},
    )
    ds.to_zarr(path, encoding={"u": {"chunks": (8, 16)}}, zarr_format=3, consolidated=False)
    return ds


@pytest.fixture
def opened(tmp_path):
    memory = zarr_file(tmp_path / "u.zarr")
    with sim.open(tmp_path / "u.zarr") as ds:
        yield memory, ds


OPTIONS = {"widths": [4, 6], "depth": 1, "embedding": 8}


def test_a_surrogate_learns_from_a_file_without_ever_holding_it(opened, monkeypatch):
    memory, ds = opened
    reads: list[int] = []
    inner = data.read_samples

    def counted(source, layout, groups):
        reads.append(len(groups))
        return inner(source, layout, groups)

    monkeypatch.setattr(data, "read_samples", counted)
    monkeypatch.setattr(layouts, "_BLOCK", 16 * 20)
    model = sur.Surrogate(["u"], ["k"], network=OPTIONS, skip="wiener", device="cpu")
    model.fit(ds, seed=0, steps=30, batch=16, memory=64 * 16 * 4)  # room for 64 of some 200 samples
    assert reads[0] == 64  # the Gaussian's share
    assert max(reads[1:]) <= 20  # shards of the file's own 8, and the held-out blocks
    assert sum(reads) > 2 * 200  # 480 samples are two epochs and more
    assert not ds.u._in_memory
    whole = layouts.scan(memory, "u", ("member",))
    assert model.fitted_.layout.scales[0].offset == pytest.approx(
        float(memory.u.values.astype(float).mean()), abs=1e-12
    )
    assert whole.factor == pytest.approx(float(memory.u.values.astype(float).std()), rel=1e-12)
    assert model.sample(3, law="network").u.shape == (3, 16)


def test_readers_in_processes_of_their_own(opened):
    """Started by spawn; the same run as with a thread, bit for bit."""
    _, ds = opened
    weights = []
    for workers in (0, 1):
        model = sur.Surrogate(["u"], network=OPTIONS, skip="wiener", device="cpu")
        model.fit(ds, seed=0, steps=4, batch=16, memory=64 * 16 * 4, workers=workers)
        weights.append(torch.cat([p.flatten() for p in model.fitted_.denoiser.parameters()]))
    assert torch.equal(*weights)
