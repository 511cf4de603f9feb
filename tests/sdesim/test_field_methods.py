"""The methods for fields: orders in time, stability, stages, and exact solutions."""

import math

import numpy as np
import pytest

import sdesim as sim
from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin, ghost_coefficients
from sdesim.expressions import as_node
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.methods.field import FIELD_METHODS, Spectrum, rkl2_stages
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run

rkl2 = FIELD_METHODS["rkl2"].step


class Scalar:
    """dy/dt = λy (or a given function), as a method sees it."""

    def __init__(self, rate):
        self.rate = rate

    def f(self, t, y):
        return self.rate(t, y)


@pytest.mark.parametrize("name", ["euler", "ssprk3", "rk4"])
def test_order_in_time(name):
    method = FIELD_METHODS[name]
    model = Scalar(lambda t, y: y * math.cos(t) - y * y)  # a Bernoulli equation, checked against a tiny step
    errors = []
    for n in (10, 20, 40, 4000):
        y, h = 0.5, 2.0 / n
        for k in range(n):
            y = method.step(model, k * h, y, h, None)
        errors.append(y)
    errors = np.abs(np.array(errors[:3]) - errors[3])
    orders = np.log2(errors[:-1] / errors[1:])
    assert np.all(np.abs(orders - method.order) < 0.35), orders


@pytest.mark.parametrize("s", [2, 3, 5, 9, 15])
def test_rkl2_has_order_two_with_any_number_of_stages(s):
    # y' = λ(t) y with λ = −1 − cos t: exact exp(−t − sin t); the explicit time tests the stage times c_j
    model = Scalar(lambda t, y: -(1 + math.cos(t)) * y)
    errors = []
    for n in (8, 16, 32, 64):
        y, h = 1.0, 2.0 / n
        for k in range(n):
            y = rkl2(model, k * h, y, h, None, s=s)
        errors.append(abs(y - math.exp(-2.0 - math.sin(2.0))))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert abs(orders[-1] - 2.0) < 0.15, orders


@pytest.mark.parametrize("s", [1, 3, 6, 15])
def test_rkl1_has_order_one_and_is_legendre_s_polynomial(s):
    step = FIELD_METHODS["rkl1"].step
    model, errors = Scalar(lambda t, y: -(1 + math.cos(t)) * y), []
    for n in (32, 64, 128):
        y, h = 1.0, 2.0 / n
        for k in range(n):
            y = step(model, k * h, y, h, None, s=s)
        errors.append(abs(y - math.exp(-2.0 - math.sin(2.0))))
    assert np.all(np.abs(np.log2(np.divide(errors[:-1], errors[1:])) - 1.0) < 0.15), errors
    z = np.linspace(-(s * s + s), 0.0, 50)
    found = [step(Scalar(lambda t, y, v=v: v * y), 0.0, 1.0, 1.0, None, s=s) for v in z]
    np.testing.assert_allclose(found, np.polynomial.legendre.Legendre.basis(s)(1 + 2 * z / (s * s + s)), atol=1e-12)


def test_rkl1_makes_no_new_extremes_from_a_jump():
    grid = sim.Grid(x=(0.0, 1.0, 64))
    heat = sim.PDE(grid, diffusivity=1.0, boundary={"x": (sim.Dirichlet(0.0), sim.Dirichlet(1.0))})
    start = (grid.coordinates["x"] > 0.3).astype(float)
    for dt in (0.001, 0.004, 0.02):
        found = sim.simulate(heat, start, [dt, 3 * dt], method="rkl1", dt=dt).u
        assert found.min() >= -1e-15 and found.max() <= 1 + 1e-15


@pytest.mark.parametrize("s", [2, 3, 4, 5, 8, 9, 20, 21])
def test_rkl2_is_stable_up_to_its_limit(s):
    def factor(z):
        return abs(rkl2(Scalar(lambda t, y: z * y), 0.0, 1.0, 1.0, None, s=s))

    reach = (s * s + s - 2) / 2
    assert max(factor(z) for z in np.linspace(-reach, 0, 400)) <= 1.0 + 1e-12
    # P_s(−1) = (−1)^s: an even number of stages is at its limit there, an odd one damps the stiffest mode
    assert factor(-reach) == pytest.approx(1.0 if s % 2 == 0 else abs(1 - (s * s + s - 2) / (s * (s + 1))), abs=1e-10)
    if s % 2 == 0:
        assert factor(-1.1 * reach) > 1.0


@pytest.mark.parametrize("reach", [0.1, 3.0, 50.0, 1e4])
def test_the_fewest_odd_number_of_stages_is_taken(reach):
    s = rkl2_stages(1.0, Spectrum(diffusion=reach))
    assert s % 2 == 1
    assert 1.05 * reach <= (s * s + s - 2) / 2
    assert s == 3 or 1.05 * reach > ((s - 2) ** 2 + (s - 2) - 2) / 2


def test_rkl2_order_on_a_stiff_field():
    # smooth start, steps far beyond the explicit limit; the finite-volume mode decays by its own eigenvalue
    n, t = 128, 0.1
    grid = Grid(x=(0.0, 1.0, n))
    u = np.cos(np.pi * grid.coordinates["x"])
    eigenvalue = 4 * n * n * math.sin(np.pi / (2 * n)) ** 2
    model = PDE(grid, diffusivity=1.0)
    errors = []
    for steps in (4, 8, 16):
        states, _, notes = stencil_run(model, "rkl2", u[None, None], None, [0.0, t], t / steps, members=[0])
        assert t / steps > 10 * 0.5 / n**2
        errors.append(np.abs(states[-1, 0, 0] - u * math.exp(-eigenvalue * t)).max())
        assert notes["stages"] == rkl2_stages(t / steps, Spectrum(4.0 * n * n))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(orders - 2.0) < 0.2), orders


def test_slab_between_cold_walls():
    errors = []
    for n in (25, 51, 101):
        grid = Grid(x=(0.0, 1.0, n))
        model = PDE(grid, diffusivity=1.0, boundary={"x": Dirichlet(0.0)})
        states, _, _ = stencil_run(model, "rk4", np.ones((1, 1, n)), None, [0.0, 0.1], members=[0])
        errors.append(abs(states[-1, 0, 0, n // 2] - 0.4744874604))
    assert errors[-1] < 1e-4
    assert math.log(errors[0] / errors[-1]) / math.log(101 / 25) == pytest.approx(2.0, abs=0.2)


def test_convection_from_a_half_space():
    # ∂u/∂n = 1 − u at x = 0, u₀ = 0: the surface is at 1 − e·erfc(1) after unit time
    grid = Grid(x=(0.0, 10.0, 200))
    edge = Robin(1.0, 1.0, 1.0)
    model = PDE(grid, diffusivity=1.0, boundary={"x": (edge, Neumann(0.0))})
    states, _, _ = stencil_run(model, "rkl2", np.zeros((1, 1, 200)), None, [0.0, 1.0], 0.01, members=[0])
    A, B = ghost_coefficients(Robin(*map(as_node, (1.0, 1.0, 1.0))), 0.05, {})
    first = states[-1, 0, 0, 0]
    assert (first + A + B * first) / 2 == pytest.approx(0.5724164238, abs=2e-4)


def test_barenblatt_front():
    # u_t = (2u u_x)_x: u = t^{−1/3} (C − x²/(12 t^{2/3}))₊; the front is a kink, so the error is of first order
    def exact(x, t):
        return t ** (-1 / 3) * np.maximum(1.0 - x**2 / (12 * t ** (2 / 3)), 0.0)

    errors = []
    for n in (50, 100, 200):
        grid = Grid(x=(-8.0, 8.0, n))
        x = grid.coordinates["x"]
        states, _, _ = stencil_run(PDE(grid, diffusivity="2*u"), "ssprk3", exact(x, 1.0)[None, None], None,
                                   [1.0, 4.0], members=[0])
        errors.append(np.abs(states[-1, 0, 0] - exact(x, 4.0)).mean())
        edge = np.abs(x[states[-1, 0, 0] > 1e-3]).max()
        assert abs(edge - math.sqrt(12.0) * 4 ** (1 / 3)) < 2 * grid.spacing["x"]
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.0), errors


def test_stationary_variance_of_the_stochastic_heat_equation_with_its_time_step_bias():
    # per mode: variance σ²/(2λ)·1/(1 − λh/2), λ = 4/Δ² sin²(nπ/2N); the eigenvectors of Dirichlet cells are sines
    n, members, sigma, h = 12, 400, 1.0, 0.3 / (4 * 12**2) * 2
    grid = Grid(x=(0.0, 1.0, n))
    model = PDE(grid, diffusivity=1.0, boundary={"x": Dirichlet(0.0)}, noise=WhiteNoise(sigma))
    times = [0.0, *(0.4 + 0.1 * np.arange(40))]
    states, _, _ = stencil_run(model, "euler_maruyama", np.zeros((1, members, n)), None, times, h,
                               members=np.arange(members), seed=5)
    k = np.arange(1, n + 1)
    modes = np.sin(np.pi * np.outer(k, np.arange(n) + 0.5) / n)
    modes /= np.sqrt((modes**2).sum(axis=1))[:, None]
    step = 0.4 / math.ceil(0.4 / h - 1e-9)
    rate = 4 * n * n * np.sin(np.pi * k / (2 * n)) ** 2
    # the steps of 0.1 differ from those of 0.4 by less than 1 %, which the statistical bound covers
    expected = sigma**2 * n / (2 * rate) / (1 - rate * step / 2)
    variance = ((states[1:, 0] @ modes.T) ** 2).mean(axis=(0, 1))
    # the slowest mode has λ = π², so that states 0.1 apart are correlated by e^{−1}: at least 40/2.2 independent ones
    error = expected * math.sqrt(2.0 / (members * 40 / 2.2))
    assert np.all(np.abs(variance - expected) < 4.5 * error + 0.01 * expected), variance / expected


def test_white_noise_without_diffusion_has_the_variance_of_cell_means():
    # Var = σ²t/(Δx Δy) in every cell, free of the step
    grid = Grid(x=(0.0, 1.0, 9), y=(0.0, 3.0, 8))
    model = PDE(grid, diffusivity=0.0, noise=WhiteNoise(0.7))
    states, _, _ = stencil_run(model, "euler_maruyama", np.zeros((1, 500, 8, 9)), None, [0.0, 0.5], 0.1,
                               members=np.arange(500))
    truth = 0.7**2 * 0.5 / grid.cell_volume
    assert states[-1].var() == pytest.approx(truth, rel=4 * math.sqrt(2 / (500 * 72)))


def test_rkl2_needs_fewer_right_hand_sides_than_euler_at_equal_error():
    n, t = 96, 0.05
    grid = Grid(x=(0.0, 1.0, n))
    u = np.sin(2 * np.pi * grid.coordinates["x"])
    model = PDE(grid, diffusivity=1.0, boundary={"x": Periodic()})
    decay = math.exp(-4 * n * n * math.sin(np.pi / n) ** 2 * t)

    def error(method, dt):
        states, _, notes = stencil_run(model, method, u[None, None], None, [0.0, t], dt, members=[0])
        return np.abs(states[-1, 0, 0] - decay * u).max(), notes["steps"] * notes.get("stages", 1)

    slow, many = error("euler", 0.5 / n**2)
    fast, few = error("rkl2", t / 16)
    assert fast < slow
    assert many > 3 * few  # the gain grows like √n


@pytest.mark.parametrize("method, share", [("euler", 1.6), ("ssprk3", 1e-3), ("rk4", 1e-3), ("rkl2", 1.0)])
def test_the_error_of_the_step_that_is_chosen_against_that_of_the_grid(method, share):
    # no-flux cosine on 32 cells; Euler at half its limit, λh = 1 for the stiffest mode, has z/2 against z/3 in space
    n, t = 32, 0.1
    grid = Grid(x=(0.0, 1.0, n))
    u = np.cos(np.pi * grid.coordinates["x"])
    states, _, notes = stencil_run(PDE(grid, diffusivity=1.0), method, u[None, None], None, [0.0, t], members=[0])
    discrete = math.exp(-4 * n * n * math.sin(np.pi / (2 * n)) ** 2 * t)
    in_space = abs(discrete - math.exp(-np.pi**2 * t))
    assert np.abs(states[-1, 0, 0] - discrete * u).max() < share * in_space
    assert notes["dt_chosen"] != "given"
