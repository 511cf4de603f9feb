"""Diffusion and transport where cells are not boxes: balls, cylinders, the surface of a sphere."""

from __future__ import annotations

import math
from typing import Any

from sdesim.boundaries import Robin
from sdesim.curved import RadialGrid, SphereGrid
from sdesim.models.pde import PDE


def cooling_ball(
    grid: RadialGrid, diffusivity: Any = 1.0, biot: Any = 1.0, ambient: Any = 0.0, **options: Any
) -> PDE:  # fmt: skip
    """Heat in a ball or a cylinder of radius R that cools at its surface, −∂u/∂r = (Bi/R)(u − ambient).

    In a ball that starts at 1 with surroundings at 0, with β cot β = 1 − Bi (Carslaw & Jaeger 1959, §9.4),
    u = Σ 2Bi (β² + (Bi − 1)²)/(β² + Bi(Bi − 1)) · sin β/β² · (R/r) sin(βr/R) e^{−β²Dt/R²}.

    >>> print(cooling_ball(RadialGrid(r=(0, 1, 8)), biot=0.5))
    ∂u/∂t = ∇·(D ∇u)
    D = 1, biot = 0.5, ambient = 0
    r: ∂u/∂n = 0 at the low side, biot·u + 1·∂u/∂n = biot*ambient at the high side
    """
    R = grid.axis("r")[1]
    edge = Robin("biot", R, "biot*ambient")
    return PDE(
        grid, diffusivity="D", boundary={"r": edge}, parameters={"D": diffusivity, "biot": biot, "ambient": ambient},
        **options,
    )  # fmt: skip


def tracer_on_sphere(
    grid: SphereGrid, period: float = 1.0, tilt: float = 0.0, diffusivity: Any = 0.0, **options: Any
) -> PDE:  # fmt: skip
    """A tracer on a sphere that turns as a solid body, ∂c/∂t = ∇·(D ∇c) − ∇·(v c).

    With U = 2πR/period and the axis tilted by α degrees from that of the poles, v = U (cos φ cos α + sin φ cos λ sin α)
    along longitude and −U sin λ sin α along latitude (Williamson et al., J. Comput. Phys. 102, 1992, test case 1).
    After a period the flow has brought every value back. Without tilt the harmonics follow it to rounding; with one,
    finite volumes do with limited slopes, unless `advection` says otherwise.

    >>> print(tracer_on_sphere(SphereGrid(lat=4, lon=8), period=2.0).velocity["c"]["lon"])
    U*cos(pi*lat/180)
    """
    U = 2.0 * math.pi * grid.radius / period
    flow = {"lon": "U*cos(pi*lat/180)"}
    parameters: dict[str, Any] = {"U": U, "D": diffusivity}
    if tilt:
        parameters["alpha"] = math.radians(tilt)
        flow = {
            "lon": "U*(cos(pi*lat/180)*cos(alpha) + sin(pi*lat/180)*cos(pi*lon/180)*sin(alpha))",
            "lat": "-U*sin(pi*lon/180)*sin(alpha)",
        }
        options = {"advection": "limited", **options}
    return PDE(grid, state=("c",), diffusivity="D", velocity=flow, parameters=parameters, **options)
