"""Strong error against cost: steps that follow a tolerance beside fixed steps, on the same Wiener paths.

A run with fixed steps of dt and one with tolerances and longest step dt have the same path, so the error of either is
its distance from a run of a tolerance ten times smaller. Times are of one core, compilation not counted.

    python benchmarks/sde_adaptive.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import sdesim as sim
from sdesim.integrate import integrate
from sdesim.integrate_adaptive import integrate_adaptive
from sdesim.methods import find
from sdesim.methods.adaptive import control

MEMBERS = np.arange(256)
PROBLEMS: dict[str, tuple[Any, str, float, list[float], list[float], list[int], list[float]]] = {
    # model, method, span, start, size of each state (atol = size·rtol), numbers of fixed steps, tolerances
    "3/2 volatility with bursts, dv = 2v(1 − v) dt + 2v^{3/2} dW": (
        sim.SDE({"v": "2*v*(1 - v)"}, {"v": "2*v*sqrt(v)"}), "milstein", 8.0, [1.0], [0.1],
        [256, 1024, 4096], [0.3, 0.1]),
    "Van der Pol, μ = 30": (
        sim.SDE({"x": "v", "v": "30*(1 - x**2)*v - x"}, {"v": "0.5"}), "shark", 8.0, [0.5, 0.0], [1.0, 30.0],
        [512, 1024, 2048], [1.0, 0.1]),
    "quartic well from afar, dx = −x³ dt + dW, x₀ = 100": (
        sim.SDE({"x": "-x**3"}, {"x": "1"}), "sra1", 8.0, [100.0], [1.0],
        [16384, 65536], [1e-1, 1e-2]),
}  # fmt: skip


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """(result, seconds), the shortest of three."""
    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begin)
    return result, best


def row(kind: str, states: Any, exact: Any, steps: float, seconds: float) -> str:
    """A line of the table: root mean square error of the first state at the end, over all members that are finite."""
    off = np.abs(states[-1, 0] - exact[-1, 0])
    lost = 1.0 - np.isfinite(off).mean()
    error = "–" if lost == 1.0 else f"{np.sqrt(np.nanmean(off[np.isfinite(off)] ** 2)):.1e}"
    return f"| {kind} | {steps:.0f} | {error} | {100 * lost:.0f} % | {seconds / len(MEMBERS) * 1e6:.1f} |"


def compare(title: str) -> None:
    """Print the table of one problem."""
    model, name, span, first, sizes, counts, tolerances = PROBLEMS[title]
    method, times, start = find(name, ("sde",)), np.array([0.0, span]), np.outer(first, np.ones(len(MEMBERS)))

    def adaptive(tol: float, dt: float) -> Any:
        how = control(model, method, tol, tuple(tol * size for size in sizes))
        return integrate_adaptive(model, method, start, {}, times, dt, how, seed=1, members=MEMBERS)

    print(f"\n{title}, {name}\n\n| steps | steps of a member | error at the end | lost | µs a member |")
    print("|---|---|---|---|---|")
    for count in counts:
        dt = span / count
        fixed, seconds = timed(lambda: integrate(model, method, start, {}, times, dt, seed=1, members=MEMBERS))  # noqa: B023
        truth = adaptive(min(tolerances) / 10, dt)
        print(row(f"{count} fixed", fixed.states, truth.states, count, seconds))
    dt = span / 16
    truth = adaptive(min(tolerances) / 10, dt)
    for tol in tolerances:
        result, seconds = timed(lambda: adaptive(tol, dt))  # noqa: B023
        print(row(f"tolerance {tol:g}", result.states, truth.states, 2 * result.steps[0].mean(), seconds))


if __name__ == "__main__":
    for problem in PROBLEMS:
        compare(problem)
