"""Speed of the fused field kernels: nanoseconds per cell and stage, the best of five runs.

    python benchmarks/field_kernels.py

Compilation is left out; every row says how many members of which grid it steps, and on how many threads. Grids past the
cache, and single members on several threads, run as strips through many steps at once (`sdesim.kernels.field_tiles`);
the last rows compare with whole passes.
"""

from __future__ import annotations

import time

import numpy as np

import sdesim as sim
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_run import Job, run
from sdesim.methods.field import FIELD_METHODS
from sdesim.stencils import discretise


def nanoseconds(model: sim.PDE, method: str, steps: int, members: int = 1, threads: int = 1,
                strips: bool = True) -> float:
    """Time per cell and stage, the best of five."""
    stencil = discretise(model)
    options = (("s", 9),) if method == "rkl2" else ()
    programs = Programs(stencil, FIELD_METHODS[method])
    plan = [[Steps(0.0, 1e-8, steps, options)]] * members
    u = np.random.default_rng(0).random((len(model.state), members, *model.grid.shape))
    programs.number(plan[0][0])
    job = Job(stencil, model.parameters, plan, programs, u, np.arange(members), 0, np.empty((1, *u.shape)))
    times = []
    for k in range(6):
        start = time.perf_counter()
        if strips:
            run(job, threads)
        else:
            job.block(0, members)
        if k:  # the first run compiles
            times.append(time.perf_counter() - start)
    (schedule,) = programs.schedules.values()
    return min(times) / (steps * len(schedule.passes) * members * model.grid.size) * 1e9


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


if __name__ == "__main__":
    main()
