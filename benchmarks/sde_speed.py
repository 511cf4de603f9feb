"""SDE ensembles side by side: this library as a user gets it, and its peers, on the same work in one process.

    pip install -e .[benchmarks]
    python benchmarks/sde_speed.py            # minutes on an idle machine; writes results/sde_speed.md and .json
    python benchmarks/sde_speed.py --quick    # a look at whether everything runs; writes nothing

Same scheme (Euler–Maruyama, or an order-1.5 scheme), same model, float64, same number of steps; each may take the
number of paths at a time that suits it best, and the best of several runs counts. A peer that is not installed is left
out with a line; `sde_peers.py` has one small function for each. NumPy, C and the row "1 thread" run on one core; the
others take the cores they want.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from sde_kernels import normal_time
from sde_peers import (
    ADDITIVE,
    PROBLEMS,
    H,
    Problem,
    Work,
    diffrax_unsafe,
    hand_c,
    jax_scan,
    ours,
    torchsde_sdeint,
    vectorised_numpy,
)

import sdesim as sim

RESULTS = Path(__file__).parent / "results"


@contextmanager
def one_core() -> Iterator[None]:
    """This thread, and those it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def best(work: Work, repeats: int = 3) -> float:
    """The shortest of several runs in seconds; a first one, which compiles, is left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times[1:])


# name, how to make the work, paths at a time that it may choose from, packages whose versions are told, one core
PEERS: dict[str, tuple[Callable[[Problem, int, int], Work], tuple[int, ...], tuple[str, ...], bool]] = {
    "sdesim, 1 thread": (ours, (2**16,), ("sdesim", "llvmlite"), True),
    "sdesim": (ours, (2**17,), ("sdesim",), False),
    "hand-written C, 1 thread": (hand_c, (2**15,), (), True),
    "NumPy, 1 thread": (vectorised_numpy, (2**12, 2**14), ("numpy",), True),
    "JAX scan": (jax_scan, (2**12, 2**14), ("jax",), False),
    "diffrax": (diffrax_unsafe, (2**12, 2**14), ("diffrax",), False),
    "torchsde": (torchsde_sdeint, (2**12, 2**14), ("torchsde", "torch"), False),
}
HIGHER: dict[str, tuple[Callable[[Problem, int, int], Work], tuple[int, ...]]] = {
    "sdesim sra1": (lambda p, n, s: ours(p, n, s, "sra1"), (2**16,)),
    "sdesim shark": (lambda p, n, s: ours(p, n, s, "shark"), (2**16,)),
    "diffrax SRA1": (lambda p, n, s: diffrax_unsafe(p, n, s, "SRA1"), (2**12,)),
    "diffrax ShARK": (lambda p, n, s: diffrax_unsafe(p, n, s, "ShARK"), (2**12,)),
    "torchsde srk": (lambda p, n, s: torchsde_sdeint(p, n, s, "srk"), (2**12,)),
}


def timed(make: Callable[[Problem, int, int], Work], p: Problem, sizes: tuple[int, ...], steps: int) -> float | None:
    """ns per path and step at the size that suits best; None with a line where the peer is not there."""
    found = []
    for paths in sizes:
        try:
            found.append(best(make(p, paths, steps)) / (paths * steps) * 1e9)
        except ImportError as error:
            print(f"  left out: {error}")
            return None
    return min(found)


def race(steps: int, shrink: int) -> dict[str, dict[str, float]]:
    """ns per path and step: problem -> peer -> number."""
    table: dict[str, dict[str, float]] = {}
    for p in PROBLEMS:
        for name, (make, sizes, _, single) in PEERS.items():
            sizes = tuple(max(512, n // shrink) for n in sizes)
            if single:
                with one_core():
                    found = timed(make, p, sizes, steps)
            else:
                found = timed(make, p, sizes, steps)
            if found is not None:
                table.setdefault(p.name, {})[name] = found
                print(f"{p.name:16}{name:28}{found:10.2f} ns")
    for p in ADDITIVE:
        for name, (make, sizes) in HIGHER.items():
            found = timed(make, p, tuple(max(512, n // shrink) for n in sizes), steps)
            if found is not None:
                table.setdefault(f"{p.name}, order 1.5", {})[name] = found
                print(f"{p.name + ', order 1.5':28}{name:16}{found:10.2f} ns")
    return table


def statistics(members: int, steps: int) -> dict[str, float]:
    """Seconds for OU with nothing but the last states kept, and with statistics at 1, 10 and 100 save times.

    The medians of runs by turns, as the speed of a machine drifts.
    """
    model, start = PROBLEMS[0].model, {"x": 0.5}

    def run(saves: int, save: str) -> Work:
        times = np.linspace(0.0, steps * H, saves + 1)[1:]
        return lambda: sim.simulate(model, start, times, members=members, dt=H, method="euler_maruyama", save=save)

    works = {"nothing kept": run(1, "states")}
    works |= {f"statistics at {n} times": run(n, "statistics") for n in (1, 10, 100)}
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(6):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn:  # the first one compiles
                found[name].append(time.perf_counter() - began)
    return {name: float(np.median(seconds)) for name, seconds in found.items()}


def million(members: int, steps: int) -> dict[str, float]:
    """A million paths of a thousand steps with statistics at 100 times: seconds, and the growth of memory in MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    sim.simulate(PROBLEMS[0].model, {"x": 0.5}, np.linspace(0.0, steps * H, 101)[1:], members=members, dt=H,
                 method="euler_maruyama", save="statistics")  # fmt: skip
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"members": members, "steps": steps, "seconds": seconds, "MB": grown}


def draws() -> dict[str, float]:
    """ns for a normal: the kernels' own fill of a block in the cache, and NumPy's generators."""
    found, block = {}, np.empty(2**12)
    with one_core():
        found["sdesim"] = normal_time("float64")
        for bits in ("SFC64", "PCG64", "Philox"):
            rng = np.random.Generator(getattr(np.random, bits)(1))
            found[f"NumPy {bits}"] = best(lambda rng=rng: [rng.standard_normal(out=block) for _ in range(100)]) / (
                100 * block.size) * 1e9  # fmt: skip
    return found


def machine() -> dict[str, Any]:
    """The machine in words."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    versions = {"Python": platform.python_version()}
    for name in dict.fromkeys(package for *_, packages, _ in PEERS.values() for package in packages):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "versions": versions}


def _summary(race: dict[str, dict[str, float]]) -> list[str]:
    """ns of ours on one thread and on all, their ratio, our speed as a fraction of C's, how much slower peers are.

    NumPy, on one core, is held against one thread; the others, on all cores, against all.
    """
    one, every, c = "sdesim, 1 thread", "sdesim", "hand-written C, 1 thread"
    peers = {"NumPy, 1 thread": one, "JAX scan": every, "diffrax": every, "torchsde": every}
    lines = ["| | ns, 1 thread | ns, all | all over 1 | of C | " + " | ".join(f"{p} ×" for p in peers) + " |",
             "| --- |" + " ---: |" * (4 + len(peers))]  # fmt: skip

    def ratio(row: dict[str, float], a: str, b: str) -> str:
        return f"{row[a] / row[b]:.2f}" if a in row and b in row else "–"

    for problem, row in race.items():
        if one in row:
            cells = [f"{row[one]:.2f}", f"{row[every]:.2f}", ratio(row, one, every), ratio(row, c, one)]
            lines.append(f"| {problem} | " + " | ".join([*cells, *(ratio(row, p, b) for p, b in peers.items())]) + " |")
    higher = {name: None for row in race.values() if one not in row for name in row}
    lines += ["", "| ns | " + " | ".join(higher) + " |", "| --- |" + " ---: |" * len(higher)]
    for problem, row in race.items():
        if one not in row:
            cells = [f"{row[name]:.1f}" if name in row else "–" for name in higher]
            lines.append(f"| {problem} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def report(found: dict[str, Any]) -> str:
    """The results as Markdown tables."""
    place = found["machine"]
    words = f"{place['cores']} cores of {place['cpu']}; " + ", ".join(f"{k} {v}" for k, v in place["versions"].items())
    lines = ["# Speed of SDE ensembles", "", f"{words}. float64, {found['steps']} steps, best of three runs.", "",
             "Made by `python benchmarks/sde_speed.py`.", "",
             "## ns per path and step; × tells how many times slower than ours", ""]  # fmt: skip
    lines += _summary(found["race"])
    kept = found["statistics"]
    lines += ["## Statistics of a million paths", "", "| OU | s | more than nothing |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {value:.3f} | {100 * (value / kept['nothing kept'] - 1):+.1f} % |" for name, value in
              kept.items()]  # fmt: skip
    big = found["million"]
    size = f"{big['members']:,} paths of {big['steps']} steps"
    cost = f"{size} with statistics at 100 times: {big['seconds']:.2f} s, {big['MB']:.0f} MB more memory."
    lines += ["", cost, "", "## Normals", "", "| | ns |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.2f} |" for name, value in found["normals"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run everything, print it and write it down."""
    parser = argparse.ArgumentParser(description="SDE ensembles beside their peers")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing is written")
    quick = parser.parse_args().quick
    steps, shrink = (100, 16) if quick else (1000, 1)
    found: dict[str, Any] = {"machine": machine(), "steps": steps, "normals": draws()}
    found["statistics"] = statistics(1_000_000 // shrink, steps)
    found["million"] = million(10**6 // shrink, steps)
    found["race"] = race(steps, shrink)
    text = report(found)
    print("\n" + text)
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "sde_speed.md").write_text(text)
        (RESULTS / "sde_speed.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
