"""Quality against network calls at equal training time: our default, plain EDM as published, and azula.

    python benchmarks/quality.py WORK [--weather era5.nc] [--budget 90] [--seeds 3] [--calibrate]

gray_scott    homogeneous, strongly non-Gaussian: Pearson patterns made by this library, 32²
era5          not homogeneous, red: hourly 2 m temperature, split by blocks of time (left out without --weather)

ours          `Surrogate` as it stands, only its training budget given; its default sampler
edm           Karras et al. 2022 as published, with our network and training loop: plain skip, their weight,
              ln σ ~ N(−1.2, 1.2²), σ from 0.002 to 80 for data of standard deviation ½, Heun on ρ = 7. Their 18
              steps, of which the last goes to σ = 0 by Euler's rule, are 35 calls
azula         its U-Net at our number of parameters, KarrasDenoiser, VP schedule, the rate of its documentation (1e-3),
              our warm-up, decay, clipping and averages; its multistep sampler of order 2 (xEAB) and its DDIM

Equal time is counted in steps, so that a busy machine does not matter: --calibrate measures, on an idle one, the
seconds before and for each step of every contender, held-out checks included, and keeps them in WORK; then every
contender gets as many steps as --budget seconds are good for. Everything made is kept in WORK, and a run goes on where
one was broken off.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from network_peers import AzulaTraining, azula_unet, parameters
from quality_tables import page
from safetensors.torch import load_file, save_file
from skips import Case, era5, gray_scott, scores_of
from torch import Tensor

import sdesim as sim
import surrogates as sur
from surrogates.denoisers import coordinate_channels
from surrogates.networks import UNet

BATCH, DRAWS = 64, 256
CALLS = (4, 5, 7, 9, 13, 17, 25, 35)
EDM: dict[str, Any] = {"skip": "plain", "noise": "edm"}


@dataclass(frozen=True)
class Contender:
    """fit(case, steps, seed) trains and returns what `keep` writes and `draw` reads; samplers by name."""

    fit: Callable[[Case, int, int], Any]
    keep: Callable[[Any, Path], object]
    back: Callable[[Case, Path], Any]
    draw: Callable[[Any, Case, str, int, int], xr.Dataset]
    samplers: dict[str, tuple[int, ...]]


def surrogate(options: dict[str, Any], fitting: dict[str, Any]) -> Callable[[Case, int, int], sur.Surrogate]:
    def fit(case: Case, steps: int, seed: int) -> sur.Surrogate:
        model = sur.Surrogate(list(case.variables), **options)
        return model.fit(case.training, seed=seed, steps=steps, batch=BATCH, **fitting)

    return fit


def draw_surrogate(model: sur.Surrogate, case: Case, sampler: str, calls: int, seed: int) -> xr.Dataset:
    steps = (calls - 1) // 2 if sampler == "heun" else calls - 1
    ds = model.sample(DRAWS, seed=seed, law="network", sampler=sampler, steps=steps)
    assert json.loads(ds.attrs["synthetic"])["network_calls"] == calls, (ds.attrs["synthetic"], calls)
    return ds


def field(case: Case) -> xr.DataArray:
    """The training fields with one sample dimension in front."""
    array = case.training[case.variables[0]]
    kept = [d for d in ("member", "time") if d in array.dims]
    return array.stack(sample=kept).transpose("sample", ...)


def normalised(case: Case) -> tuple[Tensor, float, float]:
    values = field(case).values.astype(np.float32)
    mean, scale = float(values.mean()), float(values.std())
    return torch.from_numpy((values - mean) / scale)[:, None], mean, scale


def azula_network(case: Case, shape: tuple[int, ...]) -> tuple[torch.nn.Module, Tensor | None]:
    """A U-Net of our size with our resolutions; coordinates where the domain is not homogeneous, as ours has them."""
    homogeneous = case.name == "gray_scott"
    axes = ("periodic" if homogeneous else "reflect",) * len(shape)
    given = None if homogeneous else coordinate_channels(shape, axes)
    options = UNet.options(shape)
    ours = parameters(UNet(3, 1, features=13, boundary=axes, **options))
    levels = len(options["widths"])
    maps = 0 if given is None else len(given)
    network = azula_unet(tuple(range(1, levels + 1)), (1,) * levels, ours, periodic=homogeneous, maps=maps)
    return network, given


def fit_azula(case: Case, steps: int, seed: int) -> torch.nn.Module:
    x, _, _ = normalised(case)
    torch.manual_seed(seed)
    network, given = azula_network(case, tuple(x.shape[2:]))
    training = AzulaTraining(network, x, given=given, batch=BATCH, seed=seed, shift=case.name == "gray_scott")
    for step in range(steps):
        training.step(step / steps)
    return training.finish()


def azula_back(case: Case, path: Path) -> torch.nn.Module:
    network, _ = azula_network(case, tuple(field(case).shape[1:]))
    network.load_state_dict(load_file(path))
    return network


def draw_azula(network: torch.nn.Module, case: Case, name: str, calls: int, seed: int) -> xr.Dataset:
    from azula import sample
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule

    x, mean, scale = normalised(case)
    _, given = azula_network(case, tuple(x.shape[2:]))
    denoiser = KarrasDenoiser(network.eval(), VPSchedule())
    kind = {"xEAB": sample.xEABSampler, "DDIM": sample.DDIMSampler}[name]
    walk = kind(denoiser, steps=calls, silent=True)
    torch.manual_seed(seed)
    parts = []
    for _ in range(2):
        start = walk.init((DRAWS // 2, *x.shape[1:]))
        kept = {} if given is None else {"cond": given.expand(len(start), *given.shape)}
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(walk(start, **kept).float())
    one = field(case)[0].drop_vars(["sample", "member", "time"], errors="ignore")
    values = torch.cat(parts)[:, 0].numpy() * scale + mean
    array = xr.DataArray(values, {"member": np.arange(DRAWS)} | dict(one.coords), ("member", *one.dims))
    return xr.Dataset({case.variables[0]: array})


CONTENDERS = {
    "ours": Contender(surrogate({}, {}), lambda m, p: m.save(p), lambda c, p: sur.load(p), draw_surrogate,
                      {"exponential": CALLS}),
    "edm": Contender(surrogate(EDM, {"weight": "karras"}), lambda m, p: m.save(p), lambda c, p: sur.load(p),
                     draw_surrogate, {"heun": tuple(c for c in CALLS if c % 2)}),
    "azula": Contender(fit_azula, lambda m, p: save_file(m.state_dict(), p), azula_back, draw_azula,
                       {"xEAB": CALLS, "DDIM": (9, 17, 35)}),
}  # fmt: skip


def calibrate(case: Case, contender: Contender) -> list[float]:
    """[seconds before the first step, seconds for each step], from runs of two lengths."""
    times = []
    for steps in (8, 8, 48):  # the first run is a warm-up
        start = time.perf_counter()
        contender.fit(case, steps, 0)
        times.append(time.perf_counter() - start)
    each = (times[2] - times[1]) / 40
    return [times[1] - 8 * each, each]


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """A JSON value made once."""
    if not path.exists():
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Data sets, made or read once; fresh members of Gray–Scott are kept as well."""
    path = arguments.work / "gray_scott.nc"
    if not path.exists():
        made = gray_scott(arguments.members)
        sim.save(xr.concat([made.training, made.held], "member"), path)
        for seed in range(arguments.seeds):
            sim.save(made.fresh(seed + 100), arguments.work / f"fresh-{seed}.nc")  # type: ignore[misc]
    ds = sim.open(path).load()
    first = arguments.members - arguments.members // 8
    training, held = ds.isel(member=slice(0, first)), ds.isel(member=slice(first, None))
    fresh = lambda seed: sim.open(arguments.work / f"fresh-{seed - 100}.nc").load()
    found = [Case("gray_scott", training, held, ("v",), (), fresh)]
    return found + ([] if arguments.weather is None else [era5(arguments.weather)])


def steps_for(case: Case, name: str, arguments: argparse.Namespace) -> int:
    before, each = kept(
        arguments.work / f"pace-{case.name}-{name}.json", lambda: calibrate(case, CONTENDERS[name])
    )
    return int((arguments.budget - before) / each)


def run(case: Case, name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train unless that was done, then draw and score whatever is not in the record."""
    contender, label = CONTENDERS[name], f"{case.name}-{name}-{seed}"
    path, scores = arguments.work / f"{label}.model", arguments.work / f"{label}.json"
    steps = steps_for(case, name, arguments)
    if not path.exists():
        contender.keep(contender.fit(case, steps, seed), path)
    record = json.loads(scores.read_text()) if scores.exists() else {"steps": steps}
    model = None
    for sampler, calls in ((s, c) for s, several in contender.samplers.items() for c in several):
        if f"{sampler}/{calls}" in record:
            continue
        model = contender.back(case, path) if model is None else model
        ds = contender.draw(model, case, sampler, calls, seed + 1)
        record[f"{sampler}/{calls}"] = scores_of(case, ds, seed)
        scores.write_text(json.dumps(record))
        print(label, sampler, calls, record[f"{sampler}/{calls}"], flush=True)


def floors(case: Case, seeds: int, work: Path) -> None:
    """Fresh solver members, or held-out days against the training ones, and the Gaussian field, scored alike."""
    def made() -> dict[str, list[dict[str, float]]]:
        gaussian = sur.Surrogate(list(case.variables), network=False).fit(case.training)
        rows = {"gaussian": [scores_of(case, gaussian.sample(DRAWS, seed=s), s) for s in range(seeds)]}
        if case.fresh is not None:
            rows["fresh"] = [scores_of(case, case.fresh(s + 100), s) for s in range(seeds)]
        else:
            rows["training"] = [scores_of(case, case.training, s) for s in range(seeds)]
        return rows

    kept(work / f"{case.name}-floors.json", made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="where models and scores are kept between runs")
    parser.add_argument("--weather", type=Path, help="an ERA5 file of 2 m temperature")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of training on two idle cores")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds, for runs side by side")
    parser.add_argument("--members", type=int, default=2048)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), help="contenders to run")
    parser.add_argument("--cases", nargs="*", default=["gray_scott", "era5"], help="data sets to run")
    parser.add_argument("--calibrate", action="store_true", help="measure the pace on an idle machine and stop")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    found = [case for case in cases(arguments) if case.name in arguments.cases]
    if arguments.calibrate:
        for case in found:
            print(case.name, {name: steps_for(case, name, arguments) for name in arguments.only})
        return
    for case in found:
        floors(case, arguments.seeds, arguments.work)
    for seed in range(arguments.first, arguments.seeds):
        for case in found:
            for name in arguments.only:
                run(case, name, seed, arguments)
        names = [case.name for case in found]
        page(arguments.work, arguments.out, names, list(CONTENDERS), arguments.seeds, arguments.budget)


if __name__ == "__main__":
    main()
