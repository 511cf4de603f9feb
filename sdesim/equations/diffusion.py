"""Heat and mass that spread, drift and stick: linear diffusion, porous media, plumes and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdesim.boundaries import Dirichlet, Neumann
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE


def heat(grid: Grid, diffusivity: Any = 1.0, source: Any = None, boundary: Any = None, **options: Any) -> PDE:
    """Heat conduction ∂u/∂t = ∇·(D ∇u) + q (Fourier, Théorie analytique de la chaleur, 1822).

    >>> print(heat(Grid(x=(0, 1, 8)), diffusivity=0.5))
    ∂u/∂t = ∇·(0.5 ∇u)
    x: ∂u/∂n = 0 on both sides
    """
    reaction = None if source is None else {"u": source}
    return PDE(grid, diffusivity=diffusivity, reaction=reaction, boundary=boundary, **options)


def layered_heat(
    grid: Grid, diffusivities: Sequence[float] = (1.0, 0.1), interfaces: Sequence[float] = (0.5,),
    boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Heat conduction in layers along x, each with its own diffusivity D1, D2, … (Carslaw & Jaeger 1959, §3.2).

    The flux is continuous where layers meet; it is exact on the grid where interfaces lie on faces of cells. Two
    half-spaces at T1 and T2 meet at (√D1·T1 + √D2·T2)/(√D1 + √D2).
    Raises ValueError unless there is one interface fewer than layers, rising.

    >>> print(layered_heat(Grid(x=(0, 1, 8))).diffusivity["u"]["u"])
    where(x < 0.5, D1, D2)
    """
    if len(interfaces) + 1 != len(diffusivities) or list(interfaces) != sorted(set(interfaces)):
        raise ValueError(f"{len(diffusivities)} layers have {len(diffusivities) - 1} rising interfaces between them; "
                         f"got {tuple(interfaces)}")
    names = [f"D{k + 1}" for k in range(len(diffusivities))]
    expression = names[-1]
    for name, place in reversed(list(zip(names[:-1], interfaces, strict=True))):
        expression = f"where(x < {float(place)!r}, {name}, {expression})"
    return PDE(grid, diffusivity=expression, parameters=dict(zip(names, diffusivities)), boundary=boundary, **options)


def stochastic_heat(
    grid: Grid, diffusivity: Any = 1.0, amplitude: Any = 1.0, source: Any = None, boundary: Any = None, **options: Any
) -> PDE:
    """Heat conduction driven by space–time white noise, ∂u/∂t = ∇·(D ∇u) + q + σ Ẇ (Walsh, LNM 1180, 1986).

    >>> stochastic_heat(Grid(x=(0, 1, 8))).noise_kind
    'additive'
    """
    return heat(grid, diffusivity, source, boundary, noise=WhiteNoise(amplitude), **options)


def porous_medium(grid: Grid, m: Any = 2.0, diffusivity: Any = 1.0, boundary: Any = None, **options: Any) -> PDE:
    """Gas in a porous medium, ∂u/∂t = D ∇²uᵐ = ∇·(D m u^{m−1} ∇u) (Vázquez, The Porous Medium Equation, 2007).

    Its front moves at a finite speed. A point source spreads as Barenblatt's profile (1952): in d dimensions
    u = τ^{−α} (C − β (m−1)/(2m) r² τ^{−2β})₊^{1/(m−1)} with τ = Dt, β = 1/(d(m−1) + 2), α = dβ.

    >>> print(porous_medium(Grid(x=(-1, 1, 8))).diffusivity["u"]["u"])
    D*m*max(u, 0)**(m - 1)
    """
    return PDE(
        grid, diffusivity="D*m*max(u, 0)**(m - 1)", parameters={"m": m, "D": diffusivity}, boundary=boundary, **options
    )


def plume(
    grid: Grid, velocity: Any = None, diffusivity: Any = 0.01, decay: Any = 0.0, source: Any = None,
    boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """A tracer carried by a flow, ∂c/∂t = ∇·(D ∇c) − ∇·(v c) − λc + q (Taylor 1921; Csanady 1973).

    `velocity` is as in `PDE`, a unit wind along x if None. A puff of mass M released at a point stays Gaussian:
    c = M e^{−λt} Π_a exp(−(x_a − v_a t)²/(4D_a t))/√(4πD_a t). `source` is an expression of the coordinates and t.

    >>> print(plume(Grid(x=(0, 1, 8))))
    ∂c/∂t = ∇·(0.01 ∇c) - ∇·((1) c) - decay*c
    decay = 0
    x: ∂u/∂n = 0 on both sides
    """
    reaction = "-decay*c" if source is None else f"-decay*c + ({source})"
    return PDE(
        grid, state=("c",), diffusivity=diffusivity, velocity={"x": 1.0} if velocity is None else velocity,
        reaction=reaction, parameters={"decay": decay}, boundary=boundary, **options,
    )  # fmt: skip


def ogata_banks(
    grid: Grid, velocity: Any = 1.0, diffusivity: Any = 0.1, retardation: Any = 1.0, decay: Any = 0.0,
    inlet: Any = 1.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """A solute in a column, R ∂c/∂t = D ∂²c/∂x² − v ∂c/∂x − Rλc, held at `inlet` where x is lowest.

    In a long column that starts empty, without decay,
    c = ½ c₀ [erfc((Rx − vt)/2√(DRt)) + e^{vx/D} erfc((Rx + vt)/2√(DRt))] (Ogata & Banks, USGS 411-A, 1961).

    >>> print(ogata_banks(Grid(x=(0, 1, 8))).velocity["c"]["x"])
    v/R
    """
    edges = {"x": (Dirichlet("inlet"), Neumann(0.0))} if boundary is None else boundary
    return PDE(
        grid, state=("c",), diffusivity="D/R", velocity={"x": "v/R"}, reaction="-decay*c", boundary=edges,
        parameters={"v": velocity, "D": diffusivity, "R": retardation, "decay": decay, "inlet": inlet}, **options,
    )  # fmt: skip
