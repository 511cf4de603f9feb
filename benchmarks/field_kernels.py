"""Speed of the fused field kernels: nanoseconds per cell and stage, the best of five runs.

    python benchmarks/field_kernels.py

Compilation is left out; every row says how many members of which grid it steps, and on how many threads. Grids past the
cache, and single members on several threads, run as strips through many steps at once (`sdesim.kernels.field_tiles`);
the last rows but those of noise compare with whole passes. Those give times per cell and step of 16 members of 256²,
beside what normals, arrays and transforms cost by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import sdesim as sim
from sdesim.kernels.field_noise import Colour
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_run import Job, run
from sdesim.kernels.spectral_noise import noise_kernel
from sdesim.methods.field import FIELD_METHODS
from sdesim.stencils import discretise


def nanoseconds(model: sim.PDE, method: str, steps: int, members: int = 1, threads: int = 1,
                strips: bool = True) -> float:
    """Time per cell and stage, the best of five."""
    seconds, passes = run_time(model, method, steps, members, threads, strips)
    return seconds / (steps * passes * members * model.grid.size) * 1e9


def run_time(model: sim.PDE, method: str, steps: int, members: int, threads: int = 1, strips: bool = True,
             runs: int = 6) -> tuple[float, int]:
    """Seconds of a run, the best of all but the first, and the passes of a step."""
    stencil = discretise(model)
    options = (("s", 9),) if method == "rkl2" else ()
    programs = Programs(stencil, FIELD_METHODS[method])
    plan = [[Steps(0.0, 1e-8, steps, options)]] * members
    u = np.random.default_rng(0).random((len(model.state), members, *model.grid.shape))
    programs.number(plan[0][0])
    job = Job(stencil, model.parameters, plan, programs, u, np.arange(members), 0, np.empty((1, *u.shape)))
    times = []
    for k in range(runs):
        start = time.perf_counter()
        if strips:
            run(job, threads)
        else:
            job.block(0, members)
        if k:  # the first run compiles
            times.append(time.perf_counter() - start)
    (schedule,) = programs.schedules.values()
    return min(times), len(schedule.passes)


def noises(n: int = 256, members: int = 16) -> None:
    """What kinds of noise cost: measured, and by their parts."""
    grid = square(n)
    sides = {"x": sim.Periodic(), "y": sim.Periodic()}
    heat = {"diffusivity": "k", "parameters": {"k": 1.0}, "boundary": sides}
    z = best(lambda: noise_kernel()(np.empty((1, n, n)), 0, np.array([1]), 0, 0)) / grid.size * 1e9
    model = sim.PDE(grid, noise=sim.ColouredNoise(0.1, 0.1), **heat)
    make = Colour(model, discretise(model).sources[0])
    sheets: np.ndarray = np.random.default_rng(0).standard_normal((1, n, n))
    memory: dict[str, np.ndarray] = {}
    transform = best(lambda: make(sheets, memory)) / sheets.size * 1e9
    plain = run_time(sim.PDE(grid, **heat), "euler", 50, members, runs=3)[0] / (50 * members * grid.size) * 1e9
    print(f"noise, {members} of {n}² on one thread: a normal {z:.2f} ns, a sheet's transforms {transform:.2f} ns")
    print(f"  none              {plain:5.2f} ns")
    kinds = {  # normals, passes over an array beside those of the plain step, transforms
        "white": (sim.WhiteNoise(0.1), 1, 0, 0), "with a memory": (sim.WhiteNoise(0.1, correlation_time=0.1), 1, 2, 0),
        "conserved": (sim.ConservedNoise(0.1), 2, 4, 0), "both": (sim.ConservedNoise(0.1, 0.1), 2, 8, 0),
        "of the density": (sim.ConservedNoise("0.1*sqrt(max(u, 0))"), 2, 5, 0),
        "coloured": (sim.ColouredNoise(0.1, 0.1), 1, 3, 1),
    }
    for name, (noise, normals, arrays, transforms) in kinds.items():
        steps = 4 if transforms else 20
        seconds, _ = run_time(sim.PDE(grid, noise=noise, **heat), "euler_maruyama", steps, members, runs=3)
        parts = plain * (1 + arrays / 2) + normals * z + transforms * transform
        print(f"  {name:16}  {seconds / (steps * members * grid.size) * 1e9:5.2f} ns, by its parts {parts:5.2f} ns")


def best(call: Callable[[], object]) -> float:
    """Seconds of a call, the best of twenty."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def square(n: int) -> sim.Grid:
    """A unit square of n × n cells."""
    return sim.Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n))


def main() -> None:
    """Print the table."""
    heat = {"diffusivity": "k", "parameters": {"k": 1.0}}
    gray_scott = {"state": ("u", "v"), "diffusivity": {"u": 0.16, "v": 0.08},
                  "reaction": {"u": "-u*v**2 + F*(1 - u)", "v": "u*v**2 - (F + k)*v"},
                  "parameters": {"F": 0.04, "k": 0.06}}
    rows = [
        ("heat", sim.PDE(square(512), **heat), "euler", 200, 1, 1),
        ("heat", sim.PDE(square(128), **heat), "euler", 400, 8, 1),
        ("heat", sim.PDE(square(128), **heat), "euler", 400, 8, 2),
        ("heat", sim.PDE(square(128), **heat), "rkl2", 50, 8, 1),
        ("heat", sim.PDE(square(128), **heat), "ssprk3", 100, 8, 1),
        ("Gray-Scott", sim.PDE(square(256), **gray_scott), "euler", 200, 1, 1),
        ("D(x)", sim.PDE(square(256), diffusivity="1 + x*y"), "euler", 200, 1, 1),
        ("D(u)", sim.PDE(square(256), diffusivity="2*u"), "euler", 200, 1, 1),
        ("stochastic heat", sim.PDE(square(256), noise=sim.WhiteNoise(0.1), **heat), "euler_maruyama", 100, 1, 1),
        ("heat 3-D", sim.PDE(sim.Grid(x=(0, 1, 64), y=(0, 1, 64), z=(0, 1, 64)), **heat), "euler", 100, 1, 1),
    ]
    for name, model, method, steps, members, threads in rows:
        value = nanoseconds(model, method, steps, members, threads)
        grid = "×".join(map(str, model.grid.shape))
        print(f"{name:16} {method:15} {members:3} of {grid:9} {threads} threads  {value:6.3f} ns")
    for n, steps in ((512, 256), (1024, 64), (2048, 32)):
        model = sim.PDE(square(n), **heat)
        ways = ((1, False), (1, True), (2, True))
        values = [nanoseconds(model, "euler", steps, threads=t, strips=s) for t, s in ways]
        print(f"heat euler {n}²: whole passes {values[0]:.3f}, one thread {values[1]:.3f}, two {values[2]:.3f} ns")
    noises()


if __name__ == "__main__":
    main()
