"""Speed of the implicit solves: milliseconds and iterations to a residual of 1e-8, by grid and contrast of D.

    python benchmarks/field_implicit.py

(I − a∇·D∇) x = b on n × n cells, a·max(D) = 0.01 of the side squared, b white; set-up (coarse grids) is told apart.
A diffusivity that jumps from cell to cell by 10⁴ is what multigrid leaves to sparse LU.
"""

from __future__ import annotations

import time

import numpy as np

import sdesim as sim
from sdesim.kernels.implicit_operator import Operator, split
from sdesim.kernels.implicit_solvers import Solver
from sdesim.stencils import discretise


def row(n: int, contrast: float) -> None:
    """One line of the table."""
    x = (np.arange(n) + 0.5) / n
    D = contrast ** (0.5 * np.sin(2 * np.pi * x)[:, None] * np.cos(2 * np.pi * x))
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n)), diffusivity=D / D.max(),
                    boundary={"x": sim.Dirichlet(0.0)})
    operator = Operator(split(discretise(model), "tr_bdf2"), {})
    b = np.random.default_rng(0).standard_normal((1, 1, n, n))
    start = time.perf_counter()
    solver = Solver(operator, 0.01)
    solver.solve(b, np.zeros_like(b), np.array([1e-8]))
    first = time.perf_counter() - start
    times = []
    for _ in range(3):
        start = time.perf_counter()
        solver.solve(b, np.zeros_like(b), np.array([1e-8]))
        times.append(time.perf_counter() - start)
    print(f"{n:5}²  contrast {contrast:8.0e}  {solver.iterations:3} iterations  {min(times) * 1e3:8.1f} ms  "
          f"(first {first * 1e3:.1f} ms)")


def main() -> None:
    """Print the table."""
    for contrast in (1e3, 1e6):
        for n in (128, 256, 512, 1024):
            row(n, contrast)


if __name__ == "__main__":
    main()
