"""Sampling: network calls and time of each sampler at the default network, and what stands around the network.

    python benchmarks/sampling_speed.py            # minutes on an idle machine; writes results/sampling_speed.md, .json
    python benchmarks/sampling_speed.py --quick    # a look at whether everything runs; writes nothing

A surrogate with the default network, trained for two steps, on red Gaussian fields over periodic squares. `around` is
Surrogate.sample, from (seed, member) to a Dataset, over the bare calls of its network on inputs of the same shapes, as
many as it made. Both take turns, and the shortest time of each counts: what interrupts a run only adds to it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from training_speed import processor

import surrogates as sur
from surrogates.drawing import SAMPLERS, WALKS

RESULTS = Path(__file__).parent / "results"
Row = dict[str, float | str]


def fitted(side: int, skip: str) -> sur.Surrogate:
    rng = np.random.default_rng(0)
    wave = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    white = np.fft.fft2(rng.normal(size=(64, side, side)))
    u = np.fft.ifft2(white * (1.0 + wave) ** -1.5).real
    axis = np.arange(side) / side
    ds = xr.Dataset({"u": (("member", "y", "x"), u)}, {"y": axis, "x": axis})
    return sur.Surrogate(["u"], skip=skip, boundary="periodic", device="cpu").fit(ds, steps=2, batch=8)


def shortest(works: list[Callable[[], object]], seconds: float) -> list[float]:
    """The shortest time of each, over rounds in which all take their turn."""
    best, end = [np.inf] * len(works), time.perf_counter() + seconds
    for round in range(1000):
        for k, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[k] = min(best[k], time.perf_counter() - start)
        if time.perf_counter() > end and round > 1:
            break
    return best


def measured(model: sur.Surrogate, members: int, sampler: str, seconds: float, steps: int | None) -> Row:
    """Calls, seconds a member, and the share of what stands around the network."""
    denoiser = model.fitted_.denoiser  # type: ignore[union-attr]
    network, shapes = denoiser.network, []
    hook = network.register_forward_pre_hook(lambda _, given: shapes.append([g.shape for g in given]))

    def sample() -> xr.Dataset:
        return model.sample(members, law="network", sampler=sampler, steps=steps)

    calls = json.loads(sample().attrs["synthetic"])["network_calls"]
    hook.remove()
    given = [torch.randn(shape) for shape in shapes[0]]

    def bare() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=denoiser.bf16):
            for _ in shapes:
                network(*given)

    whole, alone = shortest([sample, bare], seconds)
    return {"calls": calls, "seconds": whole / members, "around": whole / alone - 1.0}


def page(record: dict[str, dict[str, Row]]) -> str:
    lines = ["# Sampling", "", f"{processor()}; torch {torch.__version__}, {torch.get_num_threads()} threads.", "",
             "Made by `python benchmarks/sampling_speed.py`.", ""]  # fmt: skip
    for title, rows in record.items():
        lines += [f"## {title}", "", "| | network calls a member | ms a member | around the network |"]
        lines += ["| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {name} | {row['calls']} | {row['seconds'] * 1e3:.1f} | {row['around']:+.1%} |"
            for name, row in rows.items()
        ]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each row")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--sides", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--skips", nargs="*", default=["wiener", "plain"])
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS))
    arguments = parser.parse_args()
    path = RESULTS / "sampling_speed.json"
    record = json.loads(path.read_text()) if path.exists() and not arguments.quick else {}
    for side in arguments.sides:
        for skip in arguments.skips:
            model = fitted(side, skip)
            rows = record.setdefault(f"{side} × {side} cells, {arguments.members} members at once, {skip} skip", {})
            for sampler in arguments.samplers:
                # the share of what stands around does not depend on the number of steps: few are timed, all are counted
                full = WALKS[sampler][3] if sampler in WALKS else None
                few = None if full is None or sampler == "adaptive" else min(full, 8)
                row = measured(model, arguments.members, sampler, 0.0 if arguments.quick else arguments.seconds, few)
                if few is not None and full != few:
                    each = (row["calls"] - 1) / few  # type: ignore[operator]
                    calls = round(each * full + 1)  # type: ignore[operator]
                    row |= {"seconds": row["seconds"] * calls / row["calls"], "calls": calls}  # type: ignore[operator]
                rows[sampler] = row
            if arguments.quick:
                print(page(record))
                continue
            path.write_text(json.dumps(record, indent=1) + "\n")
            path.with_suffix(".md").write_text(page(record))


if __name__ == "__main__":
    main()
