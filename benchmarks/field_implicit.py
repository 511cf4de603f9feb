"""Speed of the implicit methods of fields.

    python benchmarks/field_implicit.py

Three tables, D scaled to a largest value of 1, the side of the square 1, float64, one member:

solves      (I − a∇·D∇) x = b on n × n cells, a = 0.01, b white, to a residual of 1e-8, where D is smooth: milliseconds
            and iterations of conjugate gradients with multigrid, by contrast; set-up (coarse grids) is told apart
jumps       the same where D jumps from cell to cell, by 10⁴ or 10⁶: of two values, or log-uniform. Algebraic multigrid,
            beside pyamg's Ruge–Stüben with conjugate gradients where that is installed
directions  nanoseconds per cell and step of alternating directions, beside Crank–Nicolson by conjugate gradients (both
            with smooth D of contrast 10³) and, of a constant D, the exact propagator
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import sdesim as sim
from sdesim.kernels.implicit_directions import Directional, directions
from sdesim.kernels.implicit_model import Model
from sdesim.kernels.implicit_operator import Operator, split
from sdesim.kernels.implicit_solvers import Solver
from sdesim.kernels.implicit_sparse import matrix
from sdesim.methods.field_implicit import IMPLICIT_METHODS
from sdesim.stencils import discretise


def least(call: Callable[[], Any], times: int = 3) -> float:
    """Seconds of the quickest of some calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def smooth(n: int, contrast: float) -> np.ndarray:
    """A smooth D."""
    x = (np.arange(n) + 0.5) / n
    D = contrast ** (0.5 * np.sin(2 * np.pi * x)[:, None] * np.cos(2 * np.pi * x))
    return D / D.max()


def jumping(n: int, contrast: float, law: str) -> np.ndarray:
    """A D that differs from cell to cell."""
    z = np.random.default_rng(3).random((n, n))
    return np.where(z < 0.5, 1.0, 1.0 / contrast) if law == "two values" else contrast**-z


def square(n: int, D: Any, **more: Any) -> sim.PDE:
    """∂u/∂t = ∇·(D ∇u) on the unit square."""
    return sim.PDE(sim.Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n)), diffusivity=D, **more)


def solves(n: int, D: np.ndarray, label: str) -> Operator:
    """One line of the first two tables."""
    operator = Operator(split(discretise(square(n, D, boundary={"x": sim.Dirichlet(0.0)})), "tr_bdf2"), {})
    b = np.random.default_rng(0).standard_normal((1, 1, n, n))
    solver = Solver(operator, 0.01)

    def solve() -> None:
        solver.solve(b, np.zeros_like(b), np.array([1e-8]))

    first = least(solve, 1)
    again = least(solve)
    solver.iterations = solver.parts[0].iterations = 0
    solve()
    print(f"{n:5}²  {label:24} {solver.names[0]:32} {solver.iterations:3} iterations  {again * 1e3:8.1f} ms  "
          f"(first {first * 1e3:.1f} ms)")
    return operator


def peer(operator: Operator, n: int) -> None:
    """The same by pyamg."""
    import pyamg

    A, b = matrix(operator.member(0), operator.shape, 1, 0.01), np.random.default_rng(0).standard_normal(n * n)
    start = time.perf_counter()
    levels = pyamg.ruge_stuben_solver(A)
    first = time.perf_counter() - start
    residuals: list[float] = []
    again = least(lambda: levels.solve(b, tol=1e-8, accel="cg", residuals=residuals), 1)
    print(f"{'':32}pyamg: Ruge–Stüben               {len(residuals) - 1:3} iterations  {again * 1e3:8.1f} ms  "
          f"(set-up {first * 1e3:.1f} ms)")


def steps(n: int) -> None:
    """One line of the third table."""
    x = (np.arange(n) + 0.5) / n
    u = np.exp(-50 * ((x[:, None] - 0.5) ** 2 + (x - 0.3) ** 2))[None, None]
    stencil, h, found = discretise(square(n, smooth(n, 1e3))), 1e-4, {}
    for name in ("douglas", "craig_sneyd", "hundsdorfer_verwer", "crank_nicolson"):
        method = IMPLICIT_METHODS[name]
        m = Model(split(stencil, name), {}, 2.0) if name == "crank_nicolson" else (
            Directional(directions(stencil, name), {}, 2.0))
        m.guess, y = u, u

        def step(m: Any = m, method: Any = method) -> None:
            nonlocal y
            before, y = y, method.step(m, 0.0, y, h, None, False)
            m.after(before, y)

        step()
        found[name] = least(step, 6)
    model, times = square(n, 1.0), [h * k for k in range(1, 12)]
    u0 = u[0, 0]
    one, many = (least(lambda t=t: sim.simulate(model, u0, t, method="exact")) for t in (times[:1], times))
    found["exact"] = (many - one) / 10
    print(f"{n:5}²  " + "  ".join(f"{name} {seconds / n**2 * 1e9:.1f}" for name, seconds in found.items()))


def main() -> None:
    """Print the tables."""
    for contrast in (1e3, 1e6):
        for n in (128, 256, 512, 1024):
            solves(n, smooth(n, contrast), f"contrast {contrast:.0e}")
    for contrast in (1e4, 1e6):
        for law in ("two values", "log-uniform"):
            for n in (128, 256, 512, 1024):
                operator = solves(n, jumping(n, contrast, law), f"{law}, {contrast:.0e}")
                if importlib.util.find_spec("pyamg"):
                    peer(operator, n)
    for n in (256, 512, 1024):
        steps(n)


if __name__ == "__main__":
    main()
