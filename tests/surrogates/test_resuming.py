"""A run is a function of its seed: killed and begun again, in pieces, or shared between processes, it is the same run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file

import surrogates as sur
from surrogates import checkpoints
from surrogates.archives import read_archive
from surrogates.averages import flatten
from surrogates.checkpoints import CheckpointError, Ledger
from surrogates.denoisers import Denoiser, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.parallel import Ranks
from surrogates.sources import InMemory
from surrogates.tensor_streams import normals
from surrogates.training import Budget, Settings, held_out, train

torch.set_num_threads(1)
BOUNDARY = ("periodic",)
LAW = Gaussian.of_spectrum(SpectralModes((8,), BOUNDARY), torch.linspace(2.0, 0.1, 8)[None])
DATA = normals(0, torch.arange(90), 0, (1, 8))


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    count = feature_count("wiener", 1, 0)
    net = UNet(input_channels("wiener", 1, 0), 1, features=count, boundary=BOUNDARY, widths=(4, 6), embedding=8)
    return Denoiser(net, LAW, "wiener", (0.05, 15.0))


def run(budget: int = 12, **options) -> tuple[torch.Tensor, list[dict[str, float]]]:
    model, extra = denoiser(), {name: options.pop(name) for name in ("ledger", "ranks") if name in options}
    held = held_out(model, DATA[80:], None, 0, levels=2)
    settings = Settings(**{"batch": 16, "checks": 4} | options)
    journal = train(model, InMemory(DATA[:80], None, 3), Budget(steps=budget), held=held, settings=settings, **extra)
    return flatten(list(model.network.parameters())), journal.rows


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("stop", [1, 6])
def test_a_run_stopped_after_any_step_goes_on_bit_for_bit(tmp_path, monkeypatch, stop):
    """The ledger is written at every step; the process dies while it writes the one after `stop`."""
    whole, rows = run()
    path, written = tmp_path / "run.ckpt", checkpoints.write_archive

    def dying(target, parts):
        dying.count += 1
        if dying.count > stop:
            raise KeyboardInterrupt
        return written(target, parts)

    dying.count = 0
    monkeypatch.setattr(checkpoints, "write_archive", dying)
    with pytest.raises(KeyboardInterrupt):
        run(saving=0.0, ledger=Ledger.open(path, {}))
    monkeypatch.setattr(checkpoints, "write_archive", written)
    ledger = Ledger.open(path, {})
    assert ledger.runs["training"][0]["numbers"]["step"] == stop
    again, more = run(ledger=ledger)
    assert torch.equal(again, whole)
    assert timeless(more) == timeless(rows)
    finished, last = run(ledger=Ledger.open(path, {}))  # nothing is left to do, and the same comes back
    assert torch.equal(finished, whole)
    assert timeless(last) == timeless(rows)


KILLED = """
    import sys, torch, time
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    import test_resuming as t
    from surrogates import training
    ahead = training._Run.step
    def slow(*args):
        time.sleep(0.03)
        ahead(*args)
    training._Run.step = slow
    t.surrogate().fit(t.ensemble(), **t.FIT, checkpoint=sys.argv[2])
"""
FIT = {"seed": 1, "steps": 40, "batch": 16}


def ensemble() -> xr.Dataset:
    u = np.random.default_rng(0).normal(size=(90, 8)).cumsum(1)
    return xr.Dataset({"u": (("member", "x"), u)}, attrs={"boundary_x": "periodic"})


def surrogate() -> sur.Surrogate:
    return sur.Surrogate(["u"], network={"widths": [4, 6], "depth": 1, "embedding": 8}, device="cpu")


def test_kill_minus_nine_in_the_middle_of_the_long_run(tmp_path):
    path = tmp_path / "run.ckpt"
    script = textwrap.dedent(KILLED)
    child = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent), str(path)])
    deadline, seen = time.monotonic() + 60, {}
    while "training" not in seen or seen["training"]["numbers"]["step"] < 12:
        assert child.poll() is None, "the child ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if path.exists():
            seen = runs_of(path)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not seen["training"]["finished"]
    again = surrogate().fit(ensemble(), **FIT, checkpoint=path)
    whole = surrogate().fit(ensemble(), **FIT)
    assert np.array_equal(again.sample(3, seed=0, law="network").u, whole.sample(3, seed=0, law="network").u)
    assert timeless(again.history_) == timeless(whole.history_)
    assert str(again.verdict_) == str(whole.verdict_)


def runs_of(path: Path) -> dict:
    parts = read_archive(path, ["ledger.json"], kind="checkpoint", cure="")
    return json.loads(parts["ledger.json"])["runs"]


def test_a_checkpoint_of_another_run_or_another_file_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    surrogate().fit(ensemble(), seed=1, steps=20, batch=16, checkpoint=path)
    for change, message in (
        ({"seed": 2}, r"seed = 1, got seed = 2; delete it"),
        ({"learning_rate": 1e-3}, r"learning_rate = 0\.003, got learning_rate = 0\.001"),
        ({"steps": 30}, r"steps = 20, got steps = 30"),
    ):
        with pytest.raises(CheckpointError, match=message):
            surrogate().fit(ensemble(), **{"seed": 1, "steps": 20, "batch": 16} | change, checkpoint=path)
    with pytest.raises(CheckpointError, match=r"data = "):
        surrogate().fit(ensemble() * 2 + ensemble().u[0], seed=1, steps=20, batch=16, checkpoint=path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint", whole[:600] + b"\0" + whole[601:]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"delete it to start afresh"):
            surrogate().fit(ensemble(), seed=1, steps=20, batch=16, checkpoint=path)
    with pytest.raises(FileNotFoundError, match=r"folder .* must exist"):
        surrogate().fit(ensemble(), seed=1, steps=20, batch=16, checkpoint=tmp_path / "nowhere" / "run.ckpt")


@pytest.mark.parametrize("piece", [5, 1])
def test_a_batch_in_pieces_makes_the_same_steps_to_round_off(piece):
    whole, _ = run()
    pieces, _ = run(piece=piece)
    scale = float((whole - flatten(list(denoiser().network.parameters()))).abs().max())
    assert float((pieces - whole).abs().max()) < 1e-3 * scale


def test_a_run_without_gain_stops_early():
    """A learning rate of nearly nothing: the held-out gain stays at the network's start, and patience ends the run."""
    _, rows = run(budget=400, checks=100, patience=3, learning_rate=1e-30, weight_decay=0.0)
    assert rows[-1]["step"] < 40
    _, rows = run(budget=40, checks=10, learning_rate=1e-30, weight_decay=0.0)
    assert rows[-1]["step"] == 40
    with pytest.raises(ValueError, match=r"patience= wants a whole number ≥ 1, got 0"):
        Settings(patience=0)


RANK = """
    import sys, torch
    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    import test_resuming as t
    t.share(t.Path(sys.argv[2]))
"""


def share(folder: Path) -> torch.Tensor:
    ranks = Ranks.join()
    try:
        weights, _ = run(ranks=ranks, log=folder / f"log{ranks.rank}.csv")
    finally:
        torch.distributed.destroy_process_group()
    save_file({"w": weights}, folder / f"rank{ranks.rank}.safetensors")
    return weights


def test_two_processes_make_the_steps_of_one(tmp_path, monkeypatch):
    """gloo on this machine, as torchrun sets it up: equal weights in both, equal to one process to round-off."""
    whole, _ = run()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", textwrap.dedent(RANK), str(Path(__file__).parent), str(tmp_path)]
    child = subprocess.Popen(arguments, env=os.environ | shared | {"RANK": "1", "LOCAL_RANK": "1"})
    for name, value in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    first = share(tmp_path)
    assert child.wait(timeout=120) == 0
    assert torch.equal(first, load_file(tmp_path / "rank1.safetensors")["w"])
    scale = float((whole - flatten(list(denoiser().network.parameters()))).abs().max())
    assert float((first - whole).abs().max()) < 1e-3 * scale
    assert (tmp_path / "log0.csv").exists()
    assert not (tmp_path / "log1.csv").exists()
