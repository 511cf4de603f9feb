"""Implicit methods where the diffusivity depends on the state or the time, and where a stiff reaction is implicit."""

import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import erf

from sdesim import equations
from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.implicit_model import Model
from sdesim.kernels.implicit_operator import split
from sdesim.methods.field_implicit import IMPLICIT_METHODS
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

UNSPLIT = ("backward_euler", "crank_nicolson", "tr_bdf2", "ars232", "ark436")


def solve(model, method, u, times, dt, **more):
    return stencil_run(model, method, np.asarray(u, float), None, times, dt, members=np.arange(np.shape(u)[1]), **more)


def orders(errors):
    return np.log2(np.divide(errors[:-1], errors[1:]))


# --- D(u)


def barenblatt(x, t):
    """Of u_t = (u²)_xx (Barenblatt 1952; Vázquez 2007, section 4.4): α = β = 1/3, k = 1/12, front at √12 t^{1/3}."""
    return t ** (-1 / 3) * np.maximum(1.0 - x**2 / (12.0 * t ** (2 / 3)), 0.0)


@pytest.mark.parametrize("method", ["tr_bdf2", "crank_nicolson"])
def test_a_porous_medium_spreads_as_barenblatt_says_and_keeps_its_mass(method):
    errors = []
    for n in (50, 100, 200):
        grid = Grid(x=(-8.0, 8.0, n))
        x = grid.coordinates["x"]
        start = barenblatt(x, 1.0)[None, None]
        states, status, notes = solve(PDE(grid, diffusivity="2*u"), method, start, [1.0, 3.0], 8.0 / n)
        u = states[-1, 0, 0]
        errors.append(np.abs(u - barenblatt(x, 3.0)).mean() * 16)
        assert status[0] == 0
        assert notes["newton_most"] <= 16
        assert abs(u.mean() - start.mean()) < 1e-14
        assert u.min() > -1e-14
        front = np.abs(x[u > 1e-3]).max()  # the front is at √12·3^{1/3} = 4.996
        assert abs(front - np.sqrt(12.0) * 3 ** (1 / 3)) < 1.5 * 16 / n
    assert np.all(orders(errors) > 1.4), errors  # a kink moves over the cells: order 3/2 to 2 in L1


@pytest.mark.parametrize("method", UNSPLIT)
def test_order_in_time_with_a_diffusivity_of_the_state(method):
    # u = cos(t) g(x) on the cells is no solution of theirs, so the truth is SciPy's of the same cells
    grid = Grid(x=(0.0, 1.0, 20))
    model = PDE(grid, diffusivity="1 + u**2", boundary={"x": (Dirichlet("1 + 0.2*sin(3*t)"), Neumann(0.0))})
    u = 1.0 + 0.5 * np.sin(np.pi * grid.coordinates["x"] / 2)

    def rate(t, v):
        v = np.concatenate([[2 * (1 + 0.2 * np.sin(3 * t)) - v[0]], v, [v[-1]]])
        D = 1 + v**2
        return np.diff(0.5 * (D[1:] + D[:-1]) * np.diff(v)) * 400

    truth = solve_ivp(rate, (0.0, 1.0), u, "Radau", rtol=1e-11, atol=1e-12).y[:, -1]
    errors = [np.abs(solve(model, method, u[None, None], [0.0, 1.0], 1.0 / n)[0][-1, 0, 0] - truth).max()
              for n in (20, 40, 80)]
    least = min(IMPLICIT_METHODS[method].order, 2.0)  # an edge that moves in time costs ARK4 two of its orders
    assert np.all(orders(errors) > least - 0.15), errors


@pytest.mark.parametrize("edge", [Periodic(), Neumann()], ids=["periodic", "no flux"])
def test_two_axes_keep_the_total_and_are_symmetric(edge):
    grid = Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 12))
    model = PDE(grid, diffusivity="0.1 + u**2", boundary={"x": edge, "y": edge})
    u = np.random.default_rng(0).random((12, 12))
    start = (u + u.T)[None, None]
    states = solve(model, "tr_bdf2", start, [0.0, 0.01, 0.2], 0.01)[0]
    assert np.abs(states.mean(axis=(-2, -1)) - start.mean()).max() < 1e-14
    assert np.allclose(states[-1, 0, 0], states[-1, 0, 0].T, atol=1e-9)


def test_the_jacobian_is_the_derivative_of_the_right_hand_side():
    model = PDE(Grid(x=(0.0, 1.0, 5), y=(0.0, 2.0, 4)), state=("u", "v"),
                diffusivity={"u": "1 + t + u*v", "v": "1 + v**2"}, reaction={"u": "u*v - u**3", "v": "exp(-u)"},
                boundary={"x": (Dirichlet("t"), Robin("1 + t", 1.0, 0.5)), "y": Periodic()})
    m = Model(split(discretise(model), "tr_bdf2"), {}, 2.0)
    rng = np.random.default_rng(1)
    y, dy, e = rng.random((2, 1, 4, 5)), rng.standard_normal((2, 1, 4, 5)), 1e-6
    slope = (m.L(0.3, y + e * dy) - m.L(0.3, y - e * dy)) / (2 * e)
    assert np.allclose(m.jacobian(0.3, y).apply(dy), slope, rtol=1e-7, atol=1e-6)


def test_the_jacobian_of_a_potential_is_that_of_its_state():
    model = PDE(Grid(x=(0.0, 1.0, 5), y=(0.0, 2.0, 4)), state=("w",), diffusivity="1 + x", reaction="-w**3",
                potential={"w": {"c": "w**2 + w"}}, boundary={"x": (Dirichlet("1 + t"), Neumann(0.3)), "y": Periodic()})
    m = Model(split(discretise(model), "tr_bdf2"), {}, 2.0)
    rng = np.random.default_rng(1)
    y, dy, e = rng.random((1, 1, 4, 5)), rng.standard_normal((1, 1, 4, 5)), 1e-6
    slope = (m.L(0.3, y + e * dy) - m.L(0.3, y - e * dy)) / (2 * e)
    assert np.allclose(m.jacobian(0.3, y).apply(dy), slope, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("method", ["tr_bdf2", "backward_euler"])
def test_ice_melts_at_long_steps_as_neumann_says(method):
    # one phase, Stefan number 1: the front is at 2λ√t with √π λ e^{λ²} erf λ = 1 (Neumann 1860s; Carslaw & Jaeger 11.2)
    lam = brentq(lambda v: np.sqrt(np.pi) * v * np.exp(v * v) * erf(v) - 1.0, 0.1, 2.0)
    grid = Grid(x=(0.0, 2.0, 100))
    x = grid.coordinates["x"]

    def enthalpy(t):
        return np.where(x < 2 * lam * np.sqrt(t), 2.0 - erf(x / (2 * np.sqrt(t))) / erf(lam), 0.0)

    states, status, notes = solve(equations.stefan(grid), method, enthalpy(0.1)[None, None], [0.1, 1.0], 0.009)
    assert status[0] == 0
    assert np.abs(states[-1, 0, 0] - enthalpy(1.0)).mean() * 2 < 0.005
    molten = np.clip(states[-1, 0, 0], 0.0, 1.0).sum() * 0.02
    assert abs(molten - 2 * lam) < 0.02  # a cell


# --- D(t)


@pytest.mark.parametrize("method", UNSPLIT)
def test_a_diffusivity_of_time_is_a_change_of_clock(method):
    # u_t = D(t) L u is u_τ = L u with τ = ∫ D: a mode of the cells decays by exp(−λ τ)
    n = 40
    grid = Grid(x=(0.0, 1.0, n))
    model = PDE(grid, diffusivity="1 + 0.9*sin(20*t)")
    x, tau = grid.coordinates["x"], 0.3 + 0.9 * (1 - np.cos(6.0)) / 20
    exact = 1 + 0.5 * np.cos(np.pi * x) * np.exp(-((2 * n * np.sin(np.pi / (2 * n))) ** 2) * tau)
    start = (1 + 0.5 * np.cos(np.pi * x))[None, None]
    errors = [np.abs(solve(model, method, start, [0.0, 0.3], 0.3 / k)[0][-1, 0, 0] - exact).max() for k in (40, 80, 160)]
    assert orders(errors)[-1] > IMPLICIT_METHODS[method].order - 0.15, errors


def test_a_robin_edge_whose_coefficients_move():
    grid = Grid(x=(0.0, 1.0, 16))
    model = PDE(grid, diffusivity="1 + x", boundary={"x": (Neumann(0.0), Robin("1 + sin(9*t)", 1.0, "cos(t)"))})
    x, h = grid.coordinates["x"], 1 / 16

    def rate(t, v):
        d = (1 + np.sin(9 * t)) / 2 + 1 / h
        ghost = np.cos(t) / d + (1 / h - (1 + np.sin(9 * t)) / 2) / d * v[-1]
        D = 1 / (1 + np.array([0, *x]) + 1 + np.array([*x, 0])) * 2 * (1 + np.array([0, *x])) * (1 + np.array([*x, 0]))
        D[0], D[-1] = 1.0, 2.0
        return np.diff(D * np.diff(np.concatenate([[v[0]], v, [ghost]]))) / h**2

    truth = solve_ivp(rate, (0.0, 1.0), np.cos(x), "Radau", rtol=1e-11, atol=1e-12).y[:, -1]
    errors = [np.abs(solve(model, "tr_bdf2", np.cos(x)[None, None], [0.0, 1.0], 1.0 / n)[0][-1, 0, 0] - truth).max()
              for n in (40, 80, 160)]
    assert np.all(orders(errors) > 1.8), errors


# --- stiff reactions


def test_robertsons_kinetics_with_diffusion_as_by_radau():
    # Robertson 1966: rates 0.04, 3e7 and 1e4; its eigenvalues are some −2e3 after the start
    n = 6
    model = PDE(Grid(x=(0.0, 1.0, n)), state=("a", "b", "c"), diffusivity={"a": 0.01, "b": 0.02, "c": 0.03}, reaction={
        "a": "-0.04*a + 1e4*b*c", "b": "0.04*a - 1e4*b*c - 3e7*b**2", "c": "3e7*b**2"})
    x = model.grid.coordinates["x"]
    start = np.stack([1 - 0.3 * x, 0 * x, 0.3 * x])

    def rate(t, y):
        a, b, c = y = y.reshape(3, n)
        p = np.pad(y, [(0, 0), (1, 1)], mode="edge")
        spread = np.array([[0.01], [0.02], [0.03]]) * np.diff(p, 2) * n**2
        return (spread + [-0.04 * a + 1e4 * b * c, 0.04 * a - 1e4 * b * c - 3e7 * b**2, 3e7 * b**2]).ravel()

    def radau(y, end):
        return solve_ivp(rate, (0.0, end), y.ravel(), "Radau", rtol=1e-10, atol=1e-14).y[:, -1].reshape(3, n)

    after = radau(start, 0.1)  # the first layer is over: b follows the others
    for y, order, most in ((start, 0.9, 2e-3), (after, 1.8, 5e-5)):
        truth, errors = radau(y, 4.0), []
        for steps in (20, 40):
            states, status, notes = solve(model, "tr_bdf2", y[:, None], [0.0, 4.0], 4.0 / steps)
            errors.append(np.abs(states[-1, :, 0] / truth - 1).max())
            assert status[0] == 0
            assert np.abs(states[-1].sum(axis=0).mean() - 1.0) < 1e-9  # a + b + c
        assert errors[-1] < most, errors
        assert np.all(orders(errors) > order), errors  # across the layer, which no step resolves, order 1


@pytest.mark.parametrize("method", ["tr_bdf2", "crank_nicolson"])
def test_fisher_with_an_implicit_reaction_is_of_order_two(method):
    grid = Grid(x=(0.0, 10.0, 40))
    model = PDE(grid, diffusivity=1.0, reaction="u*(1 - u)")
    u = np.exp(-((grid.coordinates["x"] - 5.0) ** 2))[None, None]
    truth = solve(model, "ark436", u, [0.0, 2.0], 0.01)[0][-1]
    errors = [np.abs(solve(model, method, u, [0.0, 2.0], 2.0 / n)[0][-1] - truth).max() for n in (20, 40, 80)]
    assert np.all(orders(errors) > 1.85), errors


def test_members_of_a_nonlinear_model_are_the_same_bits_in_any_blocks():
    model = PDE(Grid(x=(0.0, 1.0, 12)), diffusivity="k + u**2", parameters={"k": 1.0})
    u, k = np.random.default_rng(0).random((1, 4, 12)), np.array([1.0, 2.0, 3.0, 4.0])
    whole = stencil_run(model, "tr_bdf2", u, {"k": k}, [0.0, 0.1], 0.02, members=np.arange(4), threads=2)[0]
    part = stencil_run(model, "tr_bdf2", u[:, 2:3], {"k": k[2:3]}, [0.0, 0.1], 0.02, members=[2])[0]
    assert np.array_equal(whole[:, :, 2:3], part)


def test_a_member_for_which_newton_fails_is_marked_alone():
    # u' = k u² blows up at t = 1/k: no step across that has a solution
    model = PDE(Grid(x=(0.0, 1.0, 6)), diffusivity=1.0, reaction="k*u**2", parameters={"k": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        states, status, _ = stencil_run(model, "tr_bdf2", np.ones((1, 2, 6)), {"k": np.array([3.0, 0.1])}, [0.0, 1.0],
                                        0.1, members=[0, 1])
    assert list(status) == [1, 0]
    assert states[-1, 0, 1] == pytest.approx(1 / 0.9, rel=1e-3)


# --- what is refused


@pytest.mark.parametrize(("method", "change", "message"), [
    ("tr_bdf2", {"diffusivity": [["2 + x", "0.5"], ["0.5", "1 + y"]]}, "fields derived"),
    ("tr_bdf2", {"velocity": {"x": "sin(y)"}, "advection": "limited"}, 'advection="central"'),
    ("tr_bdf2", {"noise": WhiteNoise(0.1)}, "noise"),
])
def test_what_an_implicit_method_cannot_do_is_said_before(method, change, message):
    model = PDE(Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8)), **{"diffusivity": 1.0, **change})
    with pytest.raises(ValueError, match=message):
        solve(model, method, np.zeros((1, 1, 8, 8)), [0.0, 1.0], 0.1)


def test_no_implicit_method_runs_on_the_cpu_where_a_gpu_was_asked_for():
    model = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity="1 + x")
    with pytest.raises(ValueError, match=r"tr_bdf2 has no CUDA source.*rkl2"):
        solve(model, "tr_bdf2", np.zeros((1, 1, 8)), [0.0, 1.0], 0.1, backend="cuda")
