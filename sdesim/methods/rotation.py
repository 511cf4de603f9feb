"""Solid-body rotation of a sphere: the flow that spherical harmonics follow without mixing, Y_lm ↦ Y_lm e^{−imΩt}."""

from __future__ import annotations

import numpy as np

from sdesim.calculus import evaluate, free_symbols, substitute
from sdesim.curved import SphereGrid
from sdesim.expressions import Expr
from sdesim.models.pde import PDE


def rotation(model: PDE, state: str) -> Expr | None:
    """Ω of a velocity Ω R cos(lat) along lon alone, an expression of the parameters; None for any other flow.

    >>> grid = SphereGrid(lat=6, lon=12, radius=2.0)
    >>> turning = PDE(grid, diffusivity=1.0, velocity={"lon": "U*cos(pi*lat/180)"}, parameters={"U": 3.0})
    >>> float(evaluate((rotation(turning, "u"),), {"U": 3.0})[0])
    1.5
    """
    flow, grid = model.velocity.get(state, {}), model.grid
    if not isinstance(grid, SphereGrid) or set(flow) != {"lon"}:
        return None
    speed = flow["lon"]
    if not free_symbols(speed) <= {"lat", *model.parameters}:
        return None
    equator = substitute(speed, {"lat": 0.0})
    lat = grid.coordinates["lat"]
    draws = np.random.default_rng(20260101)
    for _ in range(3):  # at the model's own parameters and at others
        known = {name: value * draws.uniform(0.5, 1.5) for name, value in model.parameters.items()}
        with np.errstate(all="ignore"):
            found, at_equator = evaluate((speed, equator), {**known, "lat": lat})
        if not np.allclose(found, at_equator * np.cos(np.radians(lat)), rtol=1e-12, atol=1e-12 * abs(at_equator)):
            return None
    return equator * (1.0 / grid.radius)
