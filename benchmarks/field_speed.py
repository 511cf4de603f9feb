"""Fields against peers, side by side in one run: `python benchmarks/field_speed.py [--quick]`.

Heat and Gray–Scott by explicit Euler against py-pde, the exact propagator and Gray–Scott by exponential methods, with
every library of transforms that is installed, against exponax, an implicit step against pyamg, RKL2 against Euler by
right-hand sides, and how the cost of a cell and step holds from 64² to 2048² and from 1 to 1,000 members. A peer that
is not installed (`pip install 'sdesim[benchmarks]'`) is left out with a line.
The table goes to benchmarks/results/field_speed.md and .json, with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import sdesim as sim
from sdesim import fourier
from sdesim.integrate_field import integrate
from sdesim.methods import find
from sdesim.methods.field import Spectrum, rkl2_stages

THREADS = os.cpu_count() or 1
os.environ.setdefault("NUMBA_NUM_THREADS", str(THREADS))
Row = dict[str, Any]


def best(run: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of some runs, after one that compiles."""
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def ours(model: sim.PDE, method: str, u: Any, times: Any, dt: float | None, threads: int = THREADS) -> Any:
    """States at the save times, straight from the engine."""
    kind = ("stencil", "implicit", "spectral")
    return integrate(model, find(method, kind), u, {}, np.asarray(times, float), dt, seed=0,
                     members=np.arange(u.shape[1]), threads=threads).states


def square(n: int, side: float = 1.0) -> sim.Grid:
    """n × n cells."""
    return sim.Grid(x=(0.0, side, n), y=(0.0, side, n))


def wraps() -> dict[str, Any]:
    """Periodic edges."""
    return {"x": sim.Periodic(), "y": sim.Periodic()}


def noise(n: int, states: int = 1, members: int = 1) -> Any:
    """Random fields (states, members, n, n)."""
    return np.random.default_rng(0).random((states, members, n, n))


# --- explicit steps against py-pde


def heat(n: int, steps: int) -> list[Row]:
    """The five-point heat equation by Euler."""
    model, u, h = sim.PDE(square(n, n), diffusivity=1.0, boundary=wraps()), noise(n), 0.1
    rows = []
    for threads in dict.fromkeys((1, THREADS)):
        seconds = best(lambda k=threads: ours(model, "euler", u, [0.0, h * steps], h, k))
        rows.append({"case": f"heat {n}², Euler", "who": f"sdesim, {threads} thread(s)",
                     "ns": seconds / steps / n**2 * 1e9})
    try:
        import pde
    except ImportError:
        return rows
    grid = pde.CartesianGrid([[0, n], [0, n]], [n, n], periodic=True)
    state = pde.ScalarField(grid, u[0, 0])
    few = max(16, 2**25 // n**2)

    def whole(count: int) -> float:
        start = time.perf_counter()
        pde.DiffusionPDE(1.0).solve(state, t_range=count * h, dt=h, solver="euler", tracker=None)
        return time.perf_counter() - start

    compiling = whole(2)
    compiled = (min(whole(2 + 3 * few) for _ in range(2)) - min(whole(2 + few) for _ in range(2))) / (2 * few)
    rows.append({"case": f"heat {n}², Euler", "who": "py-pde, without compiling", "ns": compiled / n**2 * 1e9})
    rows.append({"case": f"heat {n}², Euler", "who": f"py-pde, {steps} steps with compiling",
                 "ns": (compiling + steps * compiled) / steps / n**2 * 1e9})
    return rows


GRAY_SCOTT = {
    "state": ("u", "v"), "diffusivity": {"u": 0.16, "v": 0.08},
    "reaction": {"u": "-u*v**2 + 0.04*(1 - u)", "v": "u*v**2 - 0.1*v"},
}  # fmt: skip


def spots(n: int) -> Any:
    """A square of v in the middle, with a little noise."""
    u = np.stack([np.ones((1, n, n)), np.zeros((1, n, n))])
    middle = (0, slice(3 * n // 8, 5 * n // 8), slice(3 * n // 8, 5 * n // 8))
    u[(0, *middle)], u[(1, *middle)] = 0.5, 0.25
    return u + 0.01 * np.random.default_rng(1).random(u.shape)


def gray_scott(n: int, steps: int) -> list[Row]:
    """Gray–Scott by Euler, whole runs with what each library compiles left out."""
    model, u = sim.PDE(square(n, n), boundary=wraps(), **GRAY_SCOTT), spots(n)
    name = f"Gray–Scott {n}², Euler"
    rows = [{"case": name, "who": f"sdesim, {THREADS} thread(s)",
             "ns": best(lambda: ours(model, "euler", u, [0.0, steps], 1.0)) / steps / n**2 * 1e9}]
    try:
        import pde
    except ImportError:
        return rows
    grid = pde.CartesianGrid([[0, n], [0, n]], [n, n], periodic=True)
    fields = pde.FieldCollection([pde.ScalarField(grid, w[0]) for w in u])
    equations = pde.PDE({"u": "0.16*laplace(u) - u*v**2 + 0.04*(1 - u)", "v": "0.08*laplace(v) + u*v**2 - 0.1*v"})

    def whole(count: int) -> float:
        start = time.perf_counter()
        equations.solve(fields, t_range=count, dt=1.0, solver="euler", tracker=None)
        return time.perf_counter() - start

    whole(2)
    few = max(10, steps // 5)
    rows.append({"case": name, "who": "py-pde, without compiling",
                 "ns": (min(whole(2 + 2 * few) for _ in range(3)) - min(whole(2 + few) for _ in range(3)))
                 / few / n**2 * 1e9})  # fmt: skip
    return rows


# --- spectral steps against exponax

COUNTS = {"etdrk4": (25, 50, 100, 200, 400), "etdab4": (100, 150, 200, 400, 800), "etdab5": (110, 130, 160, 200, 320)}



def by_library(run: Callable[[], Row]) -> list[Row]:
    """One row for each library of transforms that is installed."""
    rows, kept = [], os.environ.get("SDESIM_FFT")
    for name in fourier.LIBRARIES:
        os.environ["SDESIM_FFT"] = name
        fourier.library.cache_clear()
        try:
            who = f"sdesim, {fourier.version()}"
        except ModuleNotFoundError:
            continue
        row = run()
        rows.append({**row, "who": f"{who}, {row['who']}" if "who" in row else who})
    os.environ.pop("SDESIM_FFT")
    os.environ |= {} if kept is None else {"SDESIM_FFT": kept}
    fourier.library.cache_clear()
    return rows


def exact(n: int, saves: int) -> list[Row]:
    """The exact propagator, every step saved, as a rollout gives it."""
    model, u = sim.PDE(square(n), diffusivity=1e-3, boundary=wraps()), noise(n)
    times = np.linspace(0.0, 1.0, saves + 1)
    name = f"exact propagator {n}², each of {saves} steps saved"
    rows = by_library(lambda: {"case": name, "ms": best(lambda: ours(model, "exact", u, times, None)) / saves * 1e3})
    try:
        import equinox
        import exponax
        import jax
    except ImportError:
        return rows
    jax.config.update("jax_enable_x64", True)
    stepper = exponax.stepper.Diffusion(2, 1.0, n, 1.0 / saves, diffusivity=1e-3)
    rollout = equinox.filter_jit(exponax.rollout(stepper, saves, include_init=True))
    start = jax.numpy.asarray(u[0])
    rows.append({"case": name, "who": "exponax", "ms": best(lambda: rollout(start).block_until_ready()) / saves * 1e3})
    return rows


SIDE, END = 28.0, 200.0


def hump(n: int) -> Any:
    """A smooth start, (states, 1, n, n)."""
    s = 2 * np.pi * np.arange(n) / n
    g = np.exp(1.5 * (np.cos(s - np.pi)[:, None] + np.cos(s - np.pi) - 2)) * (
        1 + 0.3 * np.sin(2 * s)[:, None] * np.cos(s))
    return np.stack([1 - 0.5 * g, 0.25 * g])[:, None]


def spectral(n: int, counts: Mapping[str, tuple[int, ...]], goals: tuple[float, ...]) -> list[Row]:
    """Gray–Scott on a smooth start: seconds to reach an error, both libraries against one fine solution.

    exponax sets the upper half of the spectrum to zero wherever it multiplies; at 128² this changes the solution by
    2e-9, less than the smallest goal. Seconds between two numbers of steps go by a power of the error.
    """
    model, u = sim.PDE(square(n, SIDE), boundary=wraps(), **GRAY_SCOTT), hump(n)
    fine = ours(model, "etdab5", u, [0.0, END], END / 3200)[-1, :, 0]

    def measured(run: Callable[[int], Any], steps: tuple[int, ...]) -> Row:
        errors = [float(np.sqrt(np.mean((np.asarray(run(count)) - fine) ** 2))) for count in steps]
        seconds = [best(lambda count=count: run(count)) for count in steps]
        return {"steps": steps, "errors": errors, "seconds": seconds}

    found = []
    for method in ("etdrk4", "etdab4", "etdab5"):
        def run(count: int, method: str = method) -> Any:
            return ours(model, method, u, [0.0, END], END / count)[-1, :, 0]

        found += by_library(lambda m=method, run=run: {"who": m, **measured(run, counts[m])})
    found += exponax_spectral(n, u, measured, counts["etdrk4"])
    return [row for goal in goals for row in at_error(f"Gray–Scott {n}² to t = {END:g}, error {goal:g}", found, goal)]


def exponax_spectral(n: int, u: Any, measured: Callable[..., Row], steps: tuple[int, ...]) -> list[Row]:
    """exponax's ETDRK2 and ETDRK4 of Gray and Scott's equations, compiled before the clock starts."""
    try:
        import equinox
        import exponax
        import jax
    except ImportError:
        return []
    jax.config.update("jax_enable_x64", True)
    start = jax.numpy.asarray(u[:, 0])
    rows = []
    for order in (2, 4):
        compiled = {}
        for count in steps:
            stepper = exponax.stepper.reaction.GrayScott(
                2, SIDE, n, END / count, diffusivity_1=0.16, diffusivity_2=0.08, feed_rate=0.04, kill_rate=0.06,
                order=order)
            compiled[count] = equinox.filter_jit(exponax.repeat(stepper, count))
        row = measured(lambda count, compiled=compiled: compiled[count](start).block_until_ready(), steps)
        rows.append({"who": f"exponax, ETDRK{order}", **row})
    return rows


def at_error(case: str, found: list[Row], goal: float) -> list[Row]:
    """Seconds of each at one error, the fastest of ours first; one that does not reach it, at its smallest error."""
    rows = []
    for row in found:
        order = np.argsort(row["errors"])
        errors, seconds = np.log(np.array(row["errors"])[order]), np.log(np.array(row["seconds"])[order])
        reached = errors[0] <= np.log(goal)
        short = {} if reached else {"error": float(min(row["errors"]))}
        s = float(np.exp(np.interp(np.log(goal), errors, seconds)))
        rows.append({"case": case, "who": row["who"], "s": s} | short)
    return sorted(rows, key=lambda row: (not row["who"].startswith("sdesim"), row["s"]))


# --- an implicit step against pyamg


def diffusivity(n: int, kind: str, contrast: float) -> Any:
    """A lognormal field of a tenth of the side in length, or a value of its own for each cell; max/min = contrast."""
    if kind == "lognormal":
        z = sim.GaussianField(length=0.1).sample(square(n), seed=0, members=[0])[0]
    else:
        z = np.random.default_rng(0).integers(0, 2, (n, n)).astype(float)
    return contrast ** ((z - z.max()) / np.ptp(z))


def implicit(n: int, kind: str, contrast: float) -> list[Row]:
    """One solve of (I − a∇·D∇) x = b to a residual of 1e-8, set-up and solve apart."""
    from sdesim.kernels.implicit_operator import Operator, split
    from sdesim.kernels.implicit_solvers import Solver
    from sdesim.stencils import discretise

    model = sim.PDE(square(n), diffusivity=diffusivity(n, kind, contrast), boundary={"x": sim.Dirichlet(0.0)})
    operator = Operator(split(discretise(model), "tr_bdf2"), {})
    b, a = np.random.default_rng(0).standard_normal((1, 1, n, n)), 0.01
    start = time.perf_counter()
    solver = Solver(operator, a)
    solver.solve(b, np.zeros_like(b), np.array([1e-8]))
    setup = time.perf_counter() - start
    seconds = best(lambda: solver.solve(b, np.zeros_like(b), np.array([1e-8])))
    name = f"implicit step {n}², {kind} D, contrast {contrast:.0e}"
    rows = [{"case": name, "who": f"sdesim ({solver.names[0]})", "ms": seconds * 1e3, "first_ms": setup * 1e3,
             "iterations": solver.iterations}]
    try:
        import pyamg
    except ImportError:
        return rows
    from scipy import sparse

    cells = np.arange(n * n).reshape(n, n)
    parts = [sparse.identity(n * n, format="csr")]
    for (_, _, offset), c in operator.entries.items():
        to = np.roll(cells, tuple(-o for o in offset), (0, 1)).ravel()
        parts.append(sparse.csr_matrix((-a * c[0].ravel(), (cells.ravel(), to)), shape=(n * n, n * n)))
    matrix = sum(parts).tocsr()
    matrix.eliminate_zeros()
    for make in (pyamg.ruge_stuben_solver, pyamg.smoothed_aggregation_solver):
        start = time.perf_counter()
        levels = make(matrix)
        setup = time.perf_counter() - start
        counts: list[float] = []
        seconds = best(lambda levels=levels, counts=counts: levels.solve(
            b.ravel(), tol=1e-8, accel="cg", maxiter=200, callback=lambda _: counts.append(1.0)), 2)
        rows.append({"case": name, "who": f"pyamg {make.__name__.removesuffix('_solver')}", "ms": seconds * 1e3,
                     "first_ms": (setup + seconds) * 1e3, "iterations": len(counts) // 3})
    return rows


# --- work at equal error, and cost against size


def stabilised(n: int) -> list[Row]:
    """Right-hand sides that Euler and RKL2 need on a stiff diffusion for the error of Euler at its stable step."""
    model = sim.PDE(square(n), diffusivity=1.0, boundary={"x": sim.Dirichlet(0.0), "y": sim.Dirichlet(0.0)})
    x = (np.arange(n) + 0.5) / n
    u = np.sin(np.pi * x)[:, None] * np.sin(np.pi * x)[None, None, None]
    rate = 8.0 * n**2 * np.sin(np.pi / (2 * n)) ** 2  # the mode's own, on this grid
    end, h = 0.002, 0.9 * 2.0 / (8.0 * n**2)
    truth = u * np.exp(-rate * end)
    rows: list[Row] = []
    for method in ("euler", "rkl2"):
        steps = int(np.ceil(end / h)) if method == "euler" else 1
        while True:
            dt = end / steps
            error = float(np.abs(ours(model, method, u, [0.0, end], dt)[-1] - truth).max())
            stages = 1 if method == "euler" else rkl2_stages(dt, Spectrum(diffusion=8.0 * n**2))
            if method == "euler" or error <= rows[0]["error"]:
                break
            steps *= 2
        rows.append({"case": f"stiff heat {n}², t = {end}", "who": method, "rhs": steps * stages, "error": error})
    return rows


def flat(sizes: tuple[int, ...], members: tuple[int, ...]) -> list[Row]:
    """Nanoseconds a cell and step of explicit heat for grids and for ensembles of 64²."""
    rows = []
    for n in sizes:
        model, u = sim.PDE(square(n, n), diffusivity=1.0), noise(n)
        steps = max(16, 2**27 // n**2)
        seconds = best(lambda m=model, u=u, s=steps: ours(m, "euler", u, [0.0, 0.1 * s], 0.1))
        rows.append({"case": "one member, by size", "who": f"{n}²", "ns": seconds / steps / n**2 * 1e9})
    for count in members:
        model, u = sim.PDE(square(64, 64), diffusivity=1.0), noise(64, 1, count)
        steps = max(64, 2**27 // (4096 * count))
        seconds = best(lambda m=model, u=u, s=steps: ours(m, "euler", u, [0.0, 0.1 * s], 0.1))
        rows.append({"case": "64², by members", "who": f"{count} member(s)",
                     "ns": seconds / steps / count / 4096 * 1e9})
    model, u = sim.PDE(square(128, 128), diffusivity=1.0), noise(128, 1, 64)
    seconds = best(lambda: ours(model, "euler", u, [0.0, 50.0], 0.1))
    return [*rows, {"case": "128², 64 members", "who": "sdesim", "ns": seconds / 500 / 64 / 128**2 * 1e9}]


def machine() -> str:
    """Processor, cores, and the versions that matter."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
                 platform.processor())
    versions = []
    for name in ("sdesim", "numpy", "scipy", "llvmlite", "py-pde", "exponax", "jax", "pyamg", "ducc0"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {', '.join(versions)}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def table(rows: list[Row]) -> str:
    """Markdown: a row for each measurement, the ratio to ours in the same case."""
    lines = ["| case | who | measured | ratio to the first |", "| --- | --- | --- | --- |"]
    first: dict[str, Row] = {}
    for row in rows:
        lead = first.setdefault(row["case"], row)
        kind = next(k for k in ("ns", "ms", "s", "rhs") if k in row)
        unit = {"ns": "ns per cell and step", "ms": "ms", "s": "s", "rhs": "right-hand sides"}[kind]
        more = [f"error {row['error']:.1e}"] if "error" in row else []
        if "first_ms" in row:
            more.append(f"first with set-up {row['first_ms']:.0f} ms, {row['iterations']} iterations")
        lines.append(f"| {row['case']} | {row['who']} | {row[kind]:.3g} {unit}{'; ' * bool(more)}{', '.join(more)} | "
                     f"{row[kind] / lead[kind]:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    quick = parser.parse_args().quick
    plan: list[tuple[Callable[..., list[Row]], tuple[Any, ...]]]
    if quick:
        few = dict.fromkeys(COUNTS, (100, 200))
        plan = [(heat, (64, 32)), (gray_scott, (64, 50)), (exact, (64, 4)), (spectral, (32, few, (1e-4,))),
                (implicit, (64, "lognormal", 1e3)), (stabilised, (64,)), (flat, ((64, 128), (1, 4)))]
    else:
        plan = [*((heat, (n, s)) for n, s in ((512, 256), (1024, 128), (2048, 64))), (gray_scott, (256, 1000)),
                (exact, (512, 20)), (exact, (1024, 10)), (spectral, (128, COUNTS, (1e-4, 1e-6, 1e-8))),
                *((implicit, (512, "lognormal", c)) for c in (1e3, 1e6)), (implicit, (512, "cell by cell", 1e4)),
                *((implicit, (n, "lognormal", 1e6)) for n in (128, 256, 1024)),
                (stabilised, (512,)), (flat, ((64, 128, 256, 512, 1024, 2048), (1, 10, 100, 1000)))]
    rows: list[Row] = []
    for run, arguments in plan:
        found = run(*arguments)
        rows += found
        print(table(found), flush=True)
    if not quick:
        results = Path(__file__).parent / "results"
        text = f"# Fields against peers\n\n{machine()}. One run, `python benchmarks/field_speed.py`.\n\n{table(rows)}\n"
        (results / "field_speed.md").write_text(text)
        (results / "field_speed.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
