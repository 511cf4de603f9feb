"""Diffusion and reaction–diffusion equations, by name."""

from __future__ import annotations

from typing import Any

from sdesim.boundaries import Periodic
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE

# Pearson, Science 261 (1993): types by (F, k), with D_u = 2·10⁻⁵ and D_v = 10⁻⁵ on a square of side 2.5
PEARSON = {
    "alpha": (0.010, 0.047),
    "beta": (0.026, 0.051),
    "gamma": (0.022, 0.051),
    "delta": (0.030, 0.055),
    "epsilon": (0.018, 0.055),
    "zeta": (0.022, 0.061),
    "eta": (0.034, 0.063),
    "theta": (0.030, 0.057),
    "iota": (0.046, 0.0594),
    "kappa": (0.050, 0.063),
    "lambda": (0.034, 0.065),
    "mu": (0.046, 0.065),
}


def periodic(grid: Grid) -> dict[str, Periodic]:
    """A box that repeats along every axis.

    >>> sorted(periodic(Grid(x=(0, 1, 4), y=(0, 1, 4))))
    ['x', 'y']
    """
    return {axis: Periodic() for axis in grid.axes}


def heat(grid: Grid, diffusivity: Any = 1.0, source: Any = None, boundary: Any = None, **options: Any) -> PDE:
    """Heat conduction ∂u/∂t = ∇·(D ∇u) + q (Fourier, Théorie analytique de la chaleur, 1822).

    >>> print(heat(Grid(x=(0, 1, 8)), diffusivity=0.5))
    ∂u/∂t = ∇·(0.5 ∇u)
    x: ∂u/∂n = 0 on both sides
    """
    reaction = None if source is None else {"u": source}
    return PDE(grid, diffusivity=diffusivity, reaction=reaction, boundary=boundary, **options)


def stochastic_heat(
    grid: Grid, diffusivity: Any = 1.0, amplitude: Any = 1.0, source: Any = None, boundary: Any = None, **options: Any
) -> PDE:
    """Heat conduction driven by space–time white noise, ∂u/∂t = ∇·(D ∇u) + q + σ Ẇ (Walsh, LNM 1180, 1986).

    >>> stochastic_heat(Grid(x=(0, 1, 8))).noise_kind
    'additive'
    """
    return heat(grid, diffusivity, source, boundary, noise=WhiteNoise(amplitude), **options)


def gray_scott(
    grid: Grid, pattern: str | None = None, F: Any = 0.037, k: Any = 0.06, Du: Any = 2e-5, Dv: Any = 1e-5,
    boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Autocatalysis U + 2V → 3V fed at rate F and removed at F + k (Gray & Scott 1984; Pearson, Science 261, 1993).

    `pattern` names one of Pearson's types (alpha … mu) and sets F and k; periodic unless `boundary` says otherwise.
    Raises ValueError for an unknown type.

    >>> model = gray_scott(Grid(x=(0, 2.5, 16), y=(0, 2.5, 16)), pattern="lambda")
    >>> model.parameters["F"], model.state
    (0.034, ('u', 'v'))
    """
    if pattern is not None:
        if pattern not in PEARSON:
            raise ValueError(f"pattern is one of Pearson's types {', '.join(PEARSON)}, got {pattern!r}")
        F, k = PEARSON[pattern]
    return PDE(
        grid,
        state=("u", "v"),
        diffusivity={"u": "Du", "v": "Dv"},
        reaction={"u": "F*(1 - u) - u*v**2", "v": "u*v**2 - (F + k)*v"},
        parameters={"F": F, "k": k, "Du": Du, "Dv": Dv},
        boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )


def fisher_kpp(grid: Grid, diffusivity: Any = 1.0, rate: Any = 1.0, boundary: Any = None, **options: Any) -> PDE:
    """Logistic growth that spreads, ∂u/∂t = D ∇²u + r u(1 − u) (Fisher, Ann. Eugen. 7, 1937).

    Fronts run at 2√(rD).

    >>> print(fisher_kpp(Grid(x=(0, 1, 8))).reaction["u"])
    rate*u*(1 - u)
    """
    return PDE(
        grid, diffusivity="D", reaction={"u": "rate*u*(1 - u)"}, parameters={"D": diffusivity, "rate": rate},
        boundary=boundary, **options,
    )  # fmt: skip


def allen_cahn(grid: Grid, width: Any = 0.02, boundary: Any = None, **options: Any) -> PDE:
    """Phase separation without conservation, ∂u/∂t = ε²∇²u + u − u³ (Allen & Cahn, Acta Metall. 27, 1979).

    Interfaces are tanh(x/√2ε), ε = `width`.

    >>> allen_cahn(Grid(x=(0, 1, 8))).is_linear
    False
    """
    return PDE(
        grid, diffusivity="width**2", reaction={"u": "u - u**3"}, parameters={"width": width}, boundary=boundary,
        **options,
    )  # fmt: skip


def brusselator(
    grid: Grid, A: Any = 4.5, B: Any = 7.5, Du: Any = 2.0, Dv: Any = 16.0, boundary: Any = None, **options: Any
) -> PDE:
    """Autocatalysis with Turing patterns, R_u = A − (B + 1)u + u²v, R_v = Bu − u²v (Prigogine & Lefever 1968).

    The uniform state (A, B/A) is unstable to patterns for B > (1 + A√(Du/Dv))².

    >>> brusselator(Grid(x=(0, 64, 16))).state
    ('u', 'v')
    """
    return PDE(
        grid,
        state=("u", "v"),
        diffusivity={"u": "Du", "v": "Dv"},
        reaction={"u": "A - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"},
        parameters={"A": A, "B": B, "Du": Du, "Dv": Dv},
        boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )
