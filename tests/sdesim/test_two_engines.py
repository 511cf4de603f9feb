"""The spectral and the finite-volume engine, written apart, solve the same equations."""

import math

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.integrate_field import integrate
from sdesim.methods import find
from sdesim.models.pde import PDE

PLANE = Grid(x=(0.0, 1.0, 18), y=(0.0, 1.5, 14))
SIDES = {
    "no flux": {}, "periodic": {"x": Periodic(), "y": Periodic()}, "zero value": {"x": Dirichlet(), "y": Dirichlet()},
    "mixed": {"x": (Dirichlet(), Neumann()), "y": (Neumann(), Dirichlet())}, "channel": {"x": Periodic()},
    "held": {"x": (Dirichlet(1), Dirichlet(-0.5))}, "held and heated": {"x": (Dirichlet(1), Neumann(0.5))},
    "heated and held": {"y": (Neumann(2), Dirichlet(1)), "x": Periodic()},
    "heated all round": {"x": (Neumann(1), Neumann(0.3)), "y": (Neumann(-1), Neumann(2))},
}


def solve(model, method, start, time, dt, members=1, seed=0):
    fields = np.broadcast_to(start, (len(model.state), members, *model.grid.shape)).copy()
    return integrate(model, find(method, ("spectral", "stencil")), fields, {}, np.array([0.0, time]), dt, seed=seed,
                     members=np.arange(members)).states[-1]


@pytest.mark.parametrize("name", list(SIDES))
def test_same_operator_on_the_grid(name):
    """exact_fv and RK4 have the same cells, ghosts and eigenvalues: what differs is RK4's (λh)⁴."""
    model = PDE(PLANE, diffusivity=[[0.1, 0.0], [0.0, 0.25]], reaction="sin(3*x) - u", boundary=SIDES[name])
    start = np.random.default_rng(0).random(PLANE.shape)
    spectral, stencil = solve(model, "exact_fv", start, 0.2, None), solve(model, "rk4", start, 0.2, 5e-4)
    np.testing.assert_allclose(stencil, spectral, atol=1e-6 * np.max(np.abs(spectral)))


@pytest.mark.parametrize("wind", [0.0, 0.4])
def test_both_meet_as_the_grid_is_refined(wind):
    """Finite volumes approach the spectral solution with the square of the cell (cell Péclet numbers stay below 2)."""
    gaps = []
    for cells in (16, 32, 64):
        grid = Grid(x=(0.0, 1.0, cells))
        model = PDE(grid, ("u", "v"), diffusivity={"u": 0.03, "v": 0.02}, boundary={"x": Periodic()},
                    velocity={"x": wind} if wind else None, reaction={"u": "u - u**3 - v", "v": "u - v"})
        wave = np.sin(2 * np.pi * grid.coordinates["x"])
        start = np.stack([wave, 0.5 * wave**2])[:, None]
        gaps.append(np.max(np.abs(solve(model, "etdrk4", start, 0.5, 0.02) - solve(model, "rk4", start, 0.5, 2e-3))))
    # a pointwise reaction of cell means differs by the same order
    np.testing.assert_allclose(np.log2(np.array(gaps[:-1]) / gaps[1:]), 2.0, atol=0.25)


def test_the_same_noise_drives_both():
    """The two engines draw the same sheet: without diffusion their paths agree, step by step."""
    model = PDE(PLANE, diffusivity=0.0, reaction="-u", noise=WhiteNoise(0.3))
    a = solve(model, "exponential_euler", 1.0, 0.4, 0.1, members=3, seed=5)
    b = solve(model, "euler_maruyama", 1.0, 0.4, 0.1, members=3, seed=5)
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_one_law_for_both():
    """The variance of Euler–Maruyama's cells is the exact one within its own bias z = λhD/2 and 6 standard errors."""
    grid, members, h = Grid(x=(0.0, 1.0, 8)), 3000, 5e-4
    model = PDE(grid, diffusivity=0.5, noise=WhiteNoise(0.4), boundary={"x": Dirichlet()})
    a = np.var(solve(model, "exact_fv", 0.0, 0.3, None, members, seed=1)[0], axis=0)
    b = np.var(solve(model, "euler_maruyama", 0.0, 0.3, h, members, seed=2)[0], axis=0)
    bias = 0.5 * h * 4 / grid.spacing["x"] ** 2 / 2
    np.testing.assert_allclose(b / a, 1.0, atol=bias + 6 * math.sqrt(4 / members))
