"""Training samples a second: our U-Net and those of azula and denoising-diffusion-pytorch, equal in parameters.

    pip install -e .[benchmarks]
    python benchmarks/training_speed.py            # minutes on an idle machine; writes results/training_speed.md, .json
    python benchmarks/training_speed.py --quick    # a look at whether everything runs; writes nothing

Forward, backward and optimiser (fused AdamW, for all alike) in bfloat16 autocast, eager, in one process. The contenders
take turns step by step, so that a machine that slows down slows all, and the median of their steps counts. The number
of parameters is ours within a tenth (`network_peers.py`). The peak of memory is that of a process which does five steps
of one contender, less what it held before the first. The second table is the loop as a user runs it: noise, loss,
clipping and averages of the weights included.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from network_peers import AzulaTraining, Contender, azula_unet, contenders, parameters
from torch.nn import functional

from surrogates.denoisers import Denoiser, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.sources import InMemory
from surrogates.training import Budget, Settings, train

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
CASES = ((32, 16), (32, 32), (64, 16), (64, 32))  # cells a side, batch
PACKAGES = ("azula", "denoising-diffusion-pytorch", "torch")


def stepper(contender: Contender, side: int, batch: int) -> Callable[[], None]:
    """One training step on given noise."""
    optimiser = torch.optim.AdamW(contender.network.parameters(), 1e-4, fused=True)
    x, target = torch.randn(2, batch, 1, side, side)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            out = contender.call(x)
        functional.mse_loss(out.float(), target).backward()
        optimiser.step()

    return step


def turns(steps: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """The median time of each, in seconds, over rounds in which all take their turn."""
    for step in steps.values():
        step(), step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(several) for name, several in times.items()}


def peak(name: str, side: int, batch: int) -> float:
    """Megabytes of a process of its own."""
    command = [sys.executable, __file__, "--peak", name, str(side), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure_peak(name: str, side: int, batch: int) -> None:
    found = next(c for c in contenders(side, batch) if c.name == name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = stepper(found, side, batch)
    for _ in range(5):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def loops(side: int, batch: int, rounds: int, *, short: int = 8, long: int = 32) -> dict[str, float]:
    """Seconds a step of whole loops, ours and one around azula's loss: a long run less a short one, in turns."""
    shape, axes = (side, side), ("periodic", "periodic")
    data = torch.randn(512, 1, *shape)
    law = Gaussian.of_spectrum(SpectralModes(shape, axes), 0.1 + torch.rand(1, *shape))
    size = input_channels("wiener", 1, 0), feature_count("wiener", 1, 0)
    net = UNet(size[0], 1, features=size[1], boundary=axes, **UNet.options(shape))
    denoiser = Denoiser(net, law, "wiener", (0.01, 30.0), bf16=True)
    source, settings = InMemory(data, None, 0), Settings(batch=batch, shift=True)
    work: dict[str, Callable[[int], object]] = {
        "surrogates": lambda n: train(denoiser, source, Budget(steps=n), settings=settings)
    }
    try:
        levels = len(UNet.options(shape)["widths"])
        theirs = azula_unet(tuple(range(1, levels + 1)), (1,) * levels, parameters(net))
        loop = AzulaTraining(theirs, data, given=None, batch=batch, seed=0, shift=True)
        work["azula, our resolutions"] = lambda n: [loop.step(0.5) for _ in range(n)]
    except ImportError as missing:
        print(f"left out: azula ({missing})")
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, task in work.items():
            marks = [time.perf_counter()]
            for n in (short, long):
                task(n)
                marks.append(time.perf_counter())
            times[name].append((marks[2] - 2 * marks[1] + marks[0]) / (long - short))
    return {name: statistics.median(several[1:]) for name, several in times.items()}


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()


def page(record: dict[str, list[Row]], threads: int) -> str:
    lines = ["# Training samples a second", "", f"{processor()}; {versions()}; {threads} threads, bfloat16, eager.",
             "", "Made by `python benchmarks/training_speed.py`.", ""]  # fmt: skip
    head = "| | parameters | samples/s | ours over it | peak, MB |\n| --- | ---: | ---: | ---: | ---: |"
    for title, rows in record.items():
        lines += [f"## {title}", "", head]
        for row in rows:
            memory = f"{row['peak']:.0f}" if "peak" in row else "–"
            lines.append(
                f"| {row['name']} | {row['parameters']:,} | {row['samples']:.0f} | {row['ratio']:.2f} | {memory} |"
            )
        lines.append("")
    return "\n".join(lines)


def network_rows(side: int, batch: int, seconds: float) -> list[Row]:
    found = contenders(side, batch)
    times = turns({c.name: stepper(c, side, batch) for c in found}, seconds)
    own = times["surrogates"]
    return [{"name": c.name, "parameters": parameters(c.network), "samples": batch / times[c.name],
             "ratio": times[c.name] / own} for c in found]  # fmt: skip


def loop_rows(side: int, batch: int, rounds: int, known: list[Row]) -> list[Row]:
    times, sizes = loops(side, batch, rounds), {row["name"]: row["parameters"] for row in known}
    own = times["surrogates"]
    return [{"name": name, "parameters": sizes[name], "samples": batch / s, "ratio": s / own}
            for name, s in times.items()]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=40.0, help="for each size and batch")
    parser.add_argument("--case", type=int, nargs="*", default=list(range(len(CASES))), help="of the cases, which")
    parser.add_argument("--parts", nargs="*", default=["network", "loop", "peak"], help="of what is measured, what")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "SIDE", "BATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    if arguments.peak:
        measure_peak(arguments.peak[0], *map(int, arguments.peak[1:]))
        return
    path = RESULTS / "training_speed.json"
    record = json.loads(path.read_text()) if path.exists() and not arguments.quick else {}
    for side, batch in [CASES[k] for k in arguments.case]:
        network, loop = (f"{side} × {side} cells, batch {batch}: the {what}" for what in ("network", "loop"))
        if "network" in arguments.parts:
            old = {row["name"]: row["peak"] for row in record.get(network, []) if "peak" in row}
            record[network] = network_rows(side, batch, 3.0 if arguments.quick else arguments.seconds)
            for row in record[network]:
                row |= {"peak": old[row["name"]]} if row["name"] in old else {}
        if "loop" in arguments.parts:
            record[loop] = loop_rows(side, batch, 1 if arguments.quick else 3, record[network])
        if "peak" in arguments.parts and not arguments.quick:
            for row in record[network]:
                row["peak"] = peak(str(row["name"]), side, batch)
        text = page(record, torch.get_num_threads())
        if arguments.quick:
            print(text)
            continue
        path.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
