"""Measured orders of every SDE method, as a table: `python benchmarks/sde_orders.py > benchmarks/sde_orders.md`.

The numbers are those that tests/sdesim/test_sde_methods.py and test_sde_laws.py assert on: strong orders on a shared
fine path, with the standard error of the slope; weak orders of all first and second moments without sampling.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

NOISES = ("additive", "scalar", "diagonal", "commutative", "general", "Langevin")


def harness(name: str) -> Any:
    """A test file as a module."""
    path = Path(__file__).resolve().parents[1] / "tests" / "sdesim" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(method: Any, strong: Any, weak: Any) -> str:
    """One line of the table."""
    measured_strong, measured_weak = [], []
    for noise in NOISES:
        if (noise, method) in strong.STRONG_CASES:
            found, error = strong.measure_strong(noise, method)
            claim = strong.strong_claim(method, noise)
            measured_strong.append(f"{noise} {found:.2f} ± {error:.2f} ({claim:g})")
        if (noise, method) in weak.WEAK_CASES:
            def error_of(n: int, noise: str = noise) -> Any:
                return weak.moment_error(noise, method, n)

            claim = weak.CLAIMED.get((noise, method.name), method.weak)
            levels = (512, 1024, 2048) if claim == 1.5 else (16, 32, 64)
            measured_weak.append(f"{noise} {weak.weak_slope(error_of, levels):.2f} ({claim:g})")
    cells = (method.name, f"{method.order:g}", "<br>".join(measured_strong), "<br>".join(measured_weak), method.source)
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    strong, weak = harness("test_sde_methods"), harness("test_sde_laws")
    print("# Orders of the SDE methods, measured\n")
    print("By type of noise: the slope, its standard error where there is sampling, in brackets the order claimed.")
    print("SOSRI's weak error changes its sign at these steps for scalar noise; its test fits the expansion in h^½.\n")
    print("| method | order without noise | strong | weak, first and second moments | source |")
    print("| --- | --- | --- | --- | --- |")
    for method in strong.EVERY:
        print(row(method, strong, weak))


if __name__ == "__main__":
    main()
