"""The catalogue's equations on balls and spheres, each against a law that is known for it."""

import numpy as np
import pytest
from scipy.optimize import brentq

import sdesim as sim
from sdesim import equations


def test_a_ball_cools_as_carslaw_and_jaeger_say():
    Bi, D, R, t = 2.5, 0.7, 2.0, 0.6
    ds = sim.simulate(equations.cooling_ball(sim.RadialGrid(r=(0.0, R, 80)), D, biot=Bi, ambient=1.0), 3.0, [t])
    r, exact = ds.r.values, 0.0
    for k in range(30):
        beta = brentq(lambda b: b * np.cos(b) - (1 - Bi) * np.sin(b), k * np.pi + 1e-9, (k + 1) * np.pi - 1e-9)
        weight = 2 * Bi * (beta**2 + (Bi - 1) ** 2) / (beta**2 + Bi * (Bi - 1)) * np.sin(beta) / beta**2
        exact = exact + weight * R / r * np.sin(beta * r / R) * np.exp(-(beta**2) * D * t / R**2)
    assert np.abs(ds.u.values[0, -1] - (1.0 + 2.0 * exact)).max() < 3e-4
    assert ds.maximum_principle_u.item() < 1e-12


@pytest.mark.parametrize("tilt", [0.0, 90.0])
def test_a_bell_goes_round_the_sphere(tilt):
    # Williamson et al. 1992, case 1: after one turn it is back; over the poles, too, no mass and no sign is lost
    errors = []
    for n in (16, 32):
        grid = sim.SphereGrid(lat=n, lon=2 * n, radius=3.0)
        lat, lon = (np.radians(grid.mesh[name]) for name in ("lat", "lon"))
        distance = np.arccos(np.clip(np.cos(lat) * np.cos(lon - 1.5 * np.pi), -1.0, 1.0))
        start = np.where(distance < 1.2, 0.5 * (1.0 + np.cos(np.pi * distance / 1.2)), 0.0)
        ds = sim.simulate(equations.tracer_on_sphere(grid, period=2.0, tilt=tilt), start, [2.0])
        assert ds.attrs["method"] == ("ssprk3" if tilt else "exact")
        errors.append(np.abs(ds.c.values[0, -1] - start).max())
        assert ds.mass_residual_c.item() < 1e-12
        if tilt:
            assert ds.minimum_c.item() >= 0.0
            assert ds.maximum_c.item() <= start.max() * (1 + 1e-12)
    assert errors[1] < (0.2 if tilt else 0.01)
    assert np.log2(errors[0] / errors[1]) > 1.0
