"""The main job, end to end: simulate an ensemble, learn it, draw synthetic fields, compare.

    ∂u/∂t = D ∇²u + q s(x − x₀, y − y₀) + σ Ẇ,   periodic on the unit square,
    s(x, y) = exp[(cos 2πx + cos 2πy − 2)/(2πw)²],   u(t=0) a Gaussian field of length ℓ.

D is log-uniform over a factor of 30, and the source stands at a place (x₀, y₀) of its own in every member. Given D the
field is a Gaussian field plus a hot spot somewhere: not Gaussian, and the surrogate is told D but not the place, which
it has to draw. Over all members the mixture of diffusivities makes the tails heavier than Gaussian too.

The held-out members are the last of the ensemble. Synthetic members are drawn with the diffusivities of the held-out
ones, and so are the fresh solver members that set the floor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xarray as xr

import sdesim as sim
from surrogates.study import Outcome, split_members
from surrogates.study import run as run_study
from surrogates.surrogate import Surrogate

SOURCE = "q*exp((cos(2*pi*(x - x0)) + cos(2*pi*(y - y0)) - 2)/(2*pi*w)**2)"
TIME, DIFFUSIVITY = 1.0, (3e-4, 1e-2)
NETWORK = {"widths": [32, 64], "depth": 1, "embedding": 64}


def equation(cells: int = 24) -> sim.PDE:
    """The stochastic heat equation above on cells × cells.

    >>> print(equation(8).noise_kind)
    additive
    """
    return sim.PDE(
        sim.Grid(x=(0.0, 1.0, cells), y=(0.0, 1.0, cells)),
        diffusivity="diffusivity",
        reaction={"u": SOURCE},
        noise={"u": sim.WhiteNoise("sigma")},
        parameters={"diffusivity": 1e-3, "q": 2.5, "w": 0.07, "x0": 0.5, "y0": 0.5, "sigma": 0.04},
        boundary={"x": sim.Periodic(), "y": sim.Periodic()},
        units={"u": "K", "x": "m", "y": "m", "time": "s"},
    )


def ensemble(
    members: int, seed: int, *, cells: int = 24, diffusivity: Any = None, progress: bool | None = None
) -> xr.Dataset:
    """Members of the ensemble at the final time; `diffusivity` given by member, else log-uniform.

    >>> ensemble(3, seed=0, cells=8, progress=False).u.dims
    ('member', 'time', 'y', 'x')
    """
    from scipy import stats

    parameters = {
        "diffusivity": stats.loguniform(*DIFFUSIVITY) if diffusivity is None else diffusivity,
        "x0": stats.uniform(),
        "y0": stats.uniform(),
    }
    return sim.simulate(
        equation(cells), {"u": sim.GaussianField(std=1.0, length=0.035)}, [TIME], members=members,
        parameters=parameters, seed=seed, dtype="float32", progress=progress,
    )


@contextmanager
def fastest_threads() -> Iterator[int]:
    """Within the block PyTorch uses all cores or one, whichever convolves a small batch sooner just now.

    Threads that wait for each other on shared cores can be several times slower than one that waits for nobody.

    >>> with fastest_threads() as threads:
    ...     threads >= 1
    True
    """
    before = torch.get_num_threads()
    speed = {}
    x, layer = torch.zeros(32, 32, 24, 24), torch.nn.Conv2d(32, 32, 3, padding=1)
    for threads in {1, before}:
        torch.set_num_threads(threads)
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < 0.4:
            layer(x).sum().backward()
            calls += 1
        speed[threads] = calls
    best = max(speed, key=lambda threads: speed[threads])
    torch.set_num_threads(best)
    try:
        yield best
    finally:
        torch.set_num_threads(before)


def run(
    out: str | Path, *, members: int = 4096, held: int = 512, draws: int = 4, cells: int = 24,
    fit: Mapping[str, Any] | None = None, seed: int = 0, progress: bool = True,
) -> Outcome:
    """Carry out the demo and say where each file lies.

    `held` of the `members` are held out and `draws` synthetic members drawn for each; `fit` is what `Surrogate.fit`
    takes, by default the time that leaves the whole within three minutes on two cores.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    ds = ensemble(members, seed, cells=cells, progress=progress)
    path = sim.save(ds, folder / "ensemble.nc")
    training, held_out = split_members(ds, held)
    with fastest_threads():
        outcome = run_study(
            Surrogate(["u"], ["diffusivity"], network=NETWORK, skip="wiener"),
            training,
            held_out,
            folder,
            draws=draws,
            fit={"seconds": 110.0, "learning_rate": 3e-3} if fit is None else fit,
            sampling={"steps": 18},
            fresh=lambda given, s: ensemble(len(given["diffusivity"]), s, cells=cells, progress=False, **given),
            title="Stochastic heat equation: synthetic fields beside the truth",
            facts=_facts(ds, training, held_out, draws),
            seed=seed,
            progress=progress,
        )
    files = {"ensemble": path, "held-out members": sim.save(held_out, folder / "held_out.nc")} | outcome.files
    for what, where in files.items():
        print(f"{what:18s} {where}")
    return outcome


def _facts(ds: xr.Dataset, training: xr.Dataset, held: xr.Dataset, draws: int) -> dict[str, str]:
    return {
        "equation": str(ds.attrs["equations"]),
        "solver": f"{ds.attrs['method']}: {ds.attrs['method_reason']}",
        "diffusivity": f"{float(ds.diffusivity.min()):.2g} to {float(ds.diffusivity.max()):.2g}, log-uniform, known",
        "place of the source": "uniform over the square, not told to the surrogate",
        "members": f"{training.sizes['member']} for training, {held.sizes['member']} held out",
        "synthetic members": f"{draws} for each held-out one, with its diffusivity",
    }
