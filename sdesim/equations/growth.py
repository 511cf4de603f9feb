"""Waves that steepen and surfaces that grow: Burgers, Edwards–Wilkinson, Kardar–Parisi–Zhang, Kuramoto–Sivashinsky."""

from __future__ import annotations

from typing import Any

from sdesim.equations.edges import periodic, squared_slope
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE


def burgers(grid: Grid, viscosity: Any = 0.01, boundary: Any = None, **options: Any) -> PDE:
    """Steepening against viscosity, ∂u/∂t + ∂(u²/2)/∂x = ν ∇²u (Burgers, Adv. Appl. Mech. 1, 1948).

    Periodic unless `boundary` says otherwise. u = −2ν ∂ₓφ/φ for any solution φ of the heat equation (Cole 1951; Hopf
    1950); a shock from c + a to c − a is c − a tanh(a(x − ct)/2ν).

    >>> print(burgers(Grid(x=(0, 1, 8))).velocity["u"]["x"])
    u/2
    """
    return PDE(
        grid, diffusivity="nu", velocity={"x": "u/2"}, parameters={"nu": viscosity},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip


def edwards_wilkinson(
    grid: Grid, tension: Any = 1.0, amplitude: Any = 1.0, boundary: Any = None, **options: Any
) -> PDE:
    """A surface smoothed by its tension and roughened by what falls on it, ∂h/∂t = ν ∇²h + σ Ẇ.

    From a flat start each mode has the variance σ²(1 − e^{−2νk²t})/(2νk²) (Edwards & Wilkinson, Proc. R. Soc. A 381,
    1982). Periodic unless `boundary` says otherwise.

    >>> edwards_wilkinson(Grid(x=(0, 1, 8))).is_linear
    True
    """
    return PDE(
        grid, state=("h",), diffusivity="nu", noise=WhiteNoise("sigma"),
        parameters={"nu": tension, "sigma": amplitude}, boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )  # fmt: skip


def kpz(
    grid: Grid, tension: Any = 1.0, slope: Any = 1.0, amplitude: Any = 1.0, boundary: Any = None, **options: Any
) -> PDE:
    """A surface that grows along its normal, ∂h/∂t = ν ∇²h + ½λ|∇h|² + σ Ẇ (Kardar, Parisi & Zhang, PRL 56, 1986).

    e^{λh/2ν} solves the heat equation with multiplicative noise (Cole–Hopf). In one dimension the stationary law of
    the slopes is that of `edwards_wilkinson`; the mean height's drift depends on the grid. Periodic unless `boundary`
    says otherwise; λ = `slope`. With amplitude 0 there is no noise term.

    >>> print(kpz(Grid(x=(0, 1, 8))).reaction["h"])
    lam/2*ddx(h)**2
    """
    return PDE(
        grid, state=("h",), diffusivity="nu", reaction=f"lam/2*({squared_slope(grid, 'h')})",
        noise=None if amplitude == 0.0 else WhiteNoise("sigma"),
        parameters={"nu": tension, "lam": slope, "sigma": amplitude},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip


def kuramoto_sivashinsky(grid: Grid, boundary: Any = None, **options: Any) -> PDE:
    """Flame fronts and falling films in chaos (Kuramoto & Tsuzuki 1976; Sivashinsky 1977).

    Along one axis the slope's form ∂u/∂t + ∂(u²/2)/∂x = −∂²u/∂x² − ∂⁴u/∂x⁴, which conserves ∫u; along more the height's
    ∂u/∂t = −∇²u − ∇⁴u − ½|∇u|². Waves grow at k² − k⁴. Periodic unless `boundary` says otherwise.

    >>> print(kuramoto_sivashinsky(Grid(x=(0, 22, 64))))
    ∂u/∂t = ∇·(-1 ∇u) - ∇·((u/2) u) - (1) ∇⁴u
    x: periodic
    """
    form: dict[str, Any] = {"velocity": {grid.axes[0]: "u/2"}}
    if grid.dimension > 1:
        form = {"reaction": f"-({squared_slope(grid, 'u')})/2"}
    return PDE(
        grid, diffusivity=-1.0, hyperdiffusivity=1.0, boundary=periodic(grid) if boundary is None else boundary,
        **form, **options,
    )  # fmt: skip
