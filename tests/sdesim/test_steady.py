"""Steady states against exact profiles, on every kind of edge, grid and solver; what has none is refused."""

import numpy as np
import pytest

import sdesim as sim
from sdesim import steady


def profile_error(n):
    # −(k u')' = q on (0, 1), k = 1 + x, u(0) = 0, k u'(1) = 0: u = −x q + 2 q ln(1 + x)
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, n)), diffusivity="1 + x", reaction="q", parameters={"q": 3.0},
                    boundary={"x": (sim.Dirichlet(0.0), sim.Neumann(0.0))})
    ds = steady(model)
    x = ds.x.values
    assert ds.status.item() == 0 and ds.u.dims == ("member", "x")
    return np.abs(ds.u[0] - 3.0 * (2.0 * np.log1p(x) - x)).max()


def test_a_profile_is_approached_with_order_two():
    errors = [profile_error(n) for n in (20, 40, 80)]
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.05)


def test_darcy_flow_through_a_layered_medium_has_the_harmonic_mean_conductivity():
    grid = sim.Grid(x=(0.0, 1.0, 64), y=(0.0, 1.0, 48))
    x = grid.coordinates["x"]
    k = np.where((x * 8).astype(int) % 2, 1.0, 1e-4) * np.ones((48, 1))
    model = sim.PDE(grid, diffusivity=k, boundary={"x": (sim.Dirichlet(1.0), sim.Dirichlet(0.0))})
    u = steady(model).u[0].values
    flux = -k[0, 0] * (u[:, 0] - 1.0) / (x[0] - 0.0)
    assert np.allclose(flux, 2.0 / (1.0 + 1e4), rtol=1e-9)  # layers in series


@pytest.mark.parametrize("edges", [{"x": sim.Periodic(), "y": (sim.Robin(2.0, 0.3, 1.0), sim.Dirichlet(0.5))}, {}])
def test_a_smooth_solution_in_the_plane(edges):
    errors = []
    for n in (24, 48):
        grid = sim.Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n))
        g = "sin(6.283185307179586*x)*cos(3.141592653589793*y)"
        D = "(2 + cos(6.283185307179586*x))"
        # R makes g steady: −∇·(D∇g) = 2π² sin(2πx)…: by hand for D(x): D g_xx + D' g_x + D g_yy
        pi = np.pi
        source = (f"{D}*{5 * pi**2}*{g} + {4 * pi**2}*sin(6.283185307179586*x)*cos(6.283185307179586*x)"
                  "*cos(3.141592653589793*y)")
        y0, y1 = "sin(6.283185307179586*x)", "-sin(6.283185307179586*x)"
        boundary = {"x": sim.Periodic(), "y": (sim.Robin(2.0, 0.3, f"2*{y0}"), sim.Dirichlet(y1))} if edges else {
            "x": sim.Periodic()}
        model = sim.PDE(grid, diffusivity=D, reaction=source, boundary=boundary)
        ds = steady(model)
        assert ds.status.item() == 0
        X, Y = np.meshgrid(grid.coordinates["x"], grid.coordinates["y"])
        errors.append(np.abs(ds.u[0].values - np.sin(2 * pi * X) * np.cos(pi * Y)).max())
        if not edges:  # nothing fixes the mean: that of the start, 0, is kept
            assert abs(float(ds.u.mean())) < 1e-12
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_nonlinear_front_and_the_branch_that_the_start_leads_to():
    grid = sim.Grid(x=(-5.0, 5.0, 400))
    model = sim.PDE(grid, diffusivity=0.5, reaction="u - u**3",
                    boundary={"x": (sim.Dirichlet(-1.0), sim.Dirichlet(1.0))})
    ds = steady(model, "x/5")
    assert ds.status.item() == 0
    assert np.abs(ds.u[0] - np.tanh(ds.x)).max() < 2e-4  # √(2D) = 1; the walls at ±5 are 1e-4 away
    free = sim.PDE(grid, diffusivity=0.5, reaction="u - u**3")
    for start, end in ((0.3, 1.0), (-0.3, -1.0)):
        assert np.allclose(steady(free, start).u, end, atol=1e-9)


def test_a_diffusivity_of_the_state_and_transport():
    # (u u')' = 0 from 1 to 2: u² is linear
    grid = sim.Grid(x=(0.0, 1.0, 100))
    model = sim.PDE(grid, diffusivity="u", boundary={"x": (sim.Dirichlet(1.0), sim.Dirichlet(2.0))})
    ds = steady(model, "1 + x")
    assert np.abs(ds.u[0] - np.sqrt(1.0 + 3.0 * ds.x)).max() < 1e-4
    # v u' = D u'': (e^{vx/D} − 1)/(e^{v/D} − 1), upwind of order one
    carried = sim.PDE(grid, diffusivity=0.2, velocity={"x": 1.0},
                      boundary={"x": (sim.Dirichlet(0.0), sim.Dirichlet(1.0))})
    truth = np.expm1(ds.x / 0.2) / np.expm1(1 / 0.2)
    assert np.abs(steady(carried).u[0] - truth).max() < 0.01


def test_members_have_parameters_of_their_own():
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, 16), y=(0.0, 1.0, 16)), diffusivity="k*(1 + x*y)", reaction=1.0,
                    parameters={"k": 1.0}, boundary={"x": sim.Dirichlet(0.0)})
    ds = steady(model, members=3, parameters={"k": [1.0, 2.0, 4.0]})
    assert np.allclose(ds.u[0], 4.0 * ds.u[2], rtol=1e-8)
    assert np.array_equal(ds.k, [1.0, 2.0, 4.0])
    assert "multigrid" in ds.solver


def test_what_has_no_steady_state_is_refused():
    grid = sim.Grid(x=(0.0, 1.0, 8))
    with pytest.raises(ValueError, match="no steady state.*mean 1"):
        steady(sim.PDE(grid, diffusivity=1.0, reaction=1.0))
    with pytest.raises(ValueError, match="no steady state"):
        steady(sim.PDE(grid, diffusivity=1.0, boundary={"x": (sim.Neumann(1.0), sim.Neumann(-0.5))}))
    with pytest.raises(ValueError, match="change with time"):
        steady(sim.PDE(grid, diffusivity=1.0, boundary={"x": (sim.Dirichlet("t"), sim.Neumann())}))
    with pytest.raises(ValueError, match="distribution"):
        steady(sim.PDE(grid, diffusivity=1.0, noise=sim.WhiteNoise(1.0)))
    with pytest.raises(TypeError, match="PDE"):
        steady(sim.SDE({"x": "-x"}))
    ds = steady(sim.PDE(grid, diffusivity=1.0, reaction="1 + u**2"))  # grows without end
    assert ds.status.item() == 1
