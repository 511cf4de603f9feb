"""Phases and their order: two wells with and without conservation, with noise, and with a wavelength of their own."""

from __future__ import annotations

from typing import Any

from sdesim.equations.edges import periodic
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE


def allen_cahn(grid: Grid, width: Any = 0.02, boundary: Any = None, **options: Any) -> PDE:
    """Phase separation without conservation, ∂u/∂t = ε²∇²u + u − u³ (Allen & Cahn, Acta Metall. 27, 1979).

    Interfaces are tanh(x/√2ε), ε = `width`; a circle shrinks as R² = R₀² − 2ε²t.

    >>> allen_cahn(Grid(x=(0, 1, 8))).is_linear
    False
    """
    return PDE(
        grid, diffusivity="width**2", reaction={"u": "u - u**3"}, parameters={"width": width}, boundary=boundary,
        **options,
    )  # fmt: skip


def cahn_hilliard(grid: Grid, gamma: Any = 1.0, mobility: Any = 1.0, boundary: Any = None, **options: Any) -> PDE:
    """Phase separation that conserves ∫u, ∂u/∂t = M ∇²(u³ − u − γ∇²u) (Cahn & Hilliard, J. Chem. Phys. 28, 1958).

    Periodic unless `boundary` says otherwise. Waves on a mean ū grow at M(k²(1 − 3ū²) − γk⁴); the energy
    ∫ ¼(1 − u²)² + ½γ|∇u|² never rises; interfaces are tanh(x/√(2γ)); domains coarsen as t^{1/3}.

    >>> print(cahn_hilliard(Grid(x=(0, 1, 8))))
    ∂u/∂t = ∇·(M*(3*u**2 - 1) ∇u) - (M*gamma) ∇⁴u
    gamma = 1, M = 1
    x: periodic
    """
    return PDE(
        grid, diffusivity="M*(3*u**2 - 1)", hyperdiffusivity="M*gamma", parameters={"gamma": gamma, "M": mobility},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip


def swift_hohenberg(
    grid: Grid, r: Any = 0.3, g: Any = 0.0, wavenumber: Any = 1.0, boundary: Any = None, **options: Any
) -> PDE:
    """Convection rolls, ∂u/∂t = ru − (q² + ∇²)²u + gu² − u³ (Swift & Hohenberg, Phys. Rev. A 15, 1977).

    Periodic unless `boundary` says otherwise. Waves grow at r − (q² − k²)²; g makes hexagons of the rolls.

    >>> print(swift_hohenberg(Grid(x=(0, 1, 8))).reaction["u"])
    (r - q**4)*u + g*u**2 - u**3
    """
    return PDE(
        grid, diffusivity="-2*q**2", hyperdiffusivity=1.0, reaction="(r - q**4)*u + g*u**2 - u**3",
        parameters={"r": r, "g": g, "q": wavenumber}, boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )  # fmt: skip


def phi4(
    grid: Grid, r: Any = 1.0, g: Any = 1.0, diffusivity: Any = 1.0, amplitude: Any = 1.0, boundary: Any = None,
    **options: Any,
) -> PDE:  # fmt: skip
    """The Φ⁴ field, model A of dynamics near a critical point, ∂φ/∂t = D ∇²φ + rφ − gφ³ + σ Ẇ.

    Its stationary law is exp(−(2/σ²) ∫ ½D|∇φ|² − ½rφ² + ¼gφ⁴) (Hohenberg & Halperin, Rev. Mod. Phys. 49, 1977). In
    two dimensions and more it needs renormalisation: its statistics depend on the grid (Hairer 2014). Periodic unless
    `boundary` says otherwise.

    >>> phi4(Grid(x=(0, 1, 8))).noise_kind
    'additive'
    """
    return PDE(
        grid, state=("phi",), diffusivity="D", reaction="r*phi - g*phi**3", noise=WhiteNoise("sigma"),
        parameters={"D": diffusivity, "r": r, "g": g, "sigma": amplitude},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip
