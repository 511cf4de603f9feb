"""Measured orders of every SDE method, as a table: `python benchmarks/sde_orders.py > benchmarks/sde_orders.md`.

The numbers are those that tests/sdesim/test_sde_methods.py and test_sde_laws.py assert on.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any


def harness(name: str) -> Any:
    """A test file as a module."""
    path = Path(__file__).resolve().parents[1] / "tests" / "sdesim" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def strong_cell(method: Any, strong: Any) -> str:
    """Slopes with their standard errors."""
    parts = []
    for noise, m in strong.STRONG_CASES:
        if m is method:
            found, error = strong.measure_strong(noise, method)
            parts.append(f"{noise} {found:.2f} ± {error:.2f} ({strong.strong_claim(method, noise):g})")
    return "<br>".join(parts)


def weak_cell(method: Any, weak: Any, kind: str) -> str:
    """Slopes on one of the harness's three families of problems."""
    cases, error_of = {
        "LINEAR": (weak.WEAK_CASES, weak.moment_error),
        "MOVING": (weak.MOVING_CASES, weak.moving_error),
        "PERIODIC": (weak.PERIODIC_CASES, weak.periodic_error),
    }[kind]
    parts = []
    for name, m in cases:
        if m is method:
            claim = weak.weak_claim(kind, name, method)
            found = weak.weak_slope(lambda n, name=name: error_of(name, method, n), claim)
            parts.append(f"{name} {found:.2f} ({claim:g})")
    return "<br>".join(parts)


def without_noise(method: Any, strong: Any) -> str:
    """The slope for the pendulum."""
    levels = strong.np.array([16, 32, 64])
    errors = [strong.np.linalg.norm(strong.swung(method.name, n) - strong.swung("dri1", 1024)) for n in levels]
    return f"{strong.slope(levels, errors):.2f} ({method.order:g})"


def main() -> None:
    """Print the table."""
    strong, weak = harness("test_sde_methods"), harness("test_sde_laws")
    print("# Orders of the SDE methods, measured\n")
    print("The slope of log₂ error against log₂ h and, in brackets, the claim. `python benchmarks/sde_orders.py`")
    print("prints the table, and the tests hold every entry to within 0.15.\n")
    print(f"- strong: E|error| at time 1 on {strong.MEMBERS} shared paths, with the standard error of the slope;")
    print("  nonlinear coefficients that change in time; for additive noise Euler is Milstein, of order 1")
    print("- weak, moments: all first, second and cross moments of linear systems by exact quadrature, no sampling")
    print("- weak, moving: the same with coefficients that change in time")
    print("- weak, nonlinear: E[cos X + sin 2X] on a circle by exact quadrature, constant and multiplicative noise")
    print("- an order of 1.5 in the weak sense is measured with 4,096 to 16,384 steps, where it shows itself\n")
    print("| method | without noise | strong | weak, moments | weak, moving | weak, nonlinear | source |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for method in strong.EVERY:
        kinds = [weak_cell(method, weak, kind) for kind in ("LINEAR", "MOVING", "PERIODIC")]
        cells = (method.name, without_noise(method, strong), strong_cell(method, strong), *kinds, method.source)
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
