"""Exponential methods: their orders, exact solutions, invariants and stationary laws."""

import math

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Periodic
from sdesim.calculus import evaluate
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.integrate_field import integrate
from sdesim.methods import find
from sdesim.methods.phi import COMPLEX_PHI, PHI
from sdesim.models.pde import PDE

LINE = Grid(x=(0.0, 1.0, 32))
WAVE, HALF_WAVE = np.cos(2 * np.pi * LINE.coordinates["x"]), np.sin(np.pi * LINE.coordinates["x"])


def solve(model, start, time, dt, method="etdrk4", members=1, seed=0, parameters=None):
    fields = np.broadcast_to(np.asarray(start, float)[:, None], (len(model.state), members, *model.grid.shape)).copy()
    return integrate(model, find(method, ("spectral",)), fields, parameters or {}, np.array([0.0, time]), dt, seed=seed,
                     members=np.arange(members)).states[-1]


def reference_phi(order, z):
    """φₙ(z) = ∫₀¹ e^{(1−s)z} s^{n−1}/(n−1)! ds by Gauss–Legendre, with pieces for a steep exponential."""
    if order == 0:
        return np.exp(z)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    edges = np.concatenate([[0.0], np.geomspace(1e-8, 1.0, 60)])  # s' = 1 − s, fine where e^{s'z} is steep
    total = 0.0
    for lo, hi in zip(edges[:-1], edges[1:]):
        s = lo + (hi - lo) * (nodes + 1) / 2
        total += (hi - lo) / 2 * np.sum(weights * np.exp(s * z) * (1 - s) ** (order - 1)) / math.factorial(order - 1)
    return total


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_phi_functions(order):
    """To 1e-13 from the steepest decay to growth, through the seam at |z| = 1 and the limit at 0."""
    points = np.array([-1e6, -700.0, -40.0, -3.0, -1.0 - 1e-12, -1.0, -0.999, -1e-3, -1e-9, 0.0, 1e-5, 0.999, 1.0, 4.0])
    with np.errstate(all="ignore"):
        values = evaluate([PHI[order]], {"z": points})[0]
    np.testing.assert_allclose(values, [reference_phi(order, z) for z in points], rtol=1e-13, atol=1e-300)
    assert values[9] == 1 / math.factorial(order)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_complex_phi_functions(order):
    points = np.array([-50 + 3j, -2 + 40j, 1j, 0.6 - 0.7j, -0.8 + 0.7j, 1e-6j, 0j, -1e-3 - 1e-4j, 2 + 3j])
    with np.errstate(all="ignore"):
        re, im = evaluate([COMPLEX_PHI[order].re, COMPLEX_PHI[order].im], {"re z": points.real, "im z": points.imag})
    np.testing.assert_allclose(re + 1j * im, [reference_phi(order, z) for z in points], rtol=2e-13)


@pytest.mark.parametrize("name, model, start", [
    ("Allen–Cahn, no flux", PDE(LINE, diffusivity=0.05, reaction="4*(u - u**3)"), [0.5 + 0.4 * WAVE]),
    ("Gray–Scott-like, periodic", PDE(LINE, ("u", "v"), diffusivity={"u": 0.02, "v": 0.01}, boundary={"x": Periodic()},
                                      reaction={"u": "-4*u*v**2 + 0.4*(1 - u)", "v": "4*u*v**2 - v"}),
     [0.8 + 0.1 * WAVE, 0.6 - 0.2 * WAVE]),
    ("driven in time, zero value", PDE(LINE, diffusivity=0.05, boundary={"x": Dirichlet(0)},
                                       reaction="sin(6*t)*sin(pi*x) - 3*u**3"), [HALF_WAVE]),
    ("Burgers in a wind", PDE(LINE, diffusivity=0.05, velocity={"x": "1 + u/2"}, boundary={"x": Periodic()}),
     [0.5 * WAVE]),
])
def test_etdrk4_has_order_four(name, model, start):
    """An error C h⁴(1 + c h) has slopes that are 4 but for a part that halves with the step; the reference errs by
    (1/8)⁴ of the finest of them."""
    best = solve(model, start, 1.0, 1.0 / 1024)
    errors = [np.max(np.abs(solve(model, start, 1.0, 1.0 / n) - best)) for n in (16, 32, 64, 128)]
    slopes = -np.diff(np.log2(errors))
    assert abs(slopes[-1] - 4.0) < 0.1, (name, slopes)
    assert 2 * slopes[-1] - slopes[-2] == pytest.approx(4.0, abs=0.05), (name, slopes)


def test_exponential_euler_has_order_one():
    model = PDE(LINE, diffusivity=0.05, reaction="4*(u - u**3)")
    start = [0.5 + 0.4 * WAVE]
    best = solve(model, start, 1.0, 1.0 / 256)
    errors = [np.max(np.abs(solve(model, start, 1.0, 1.0 / n, "exponential_euler") - best)) for n in (64, 128, 256)]
    np.testing.assert_allclose(np.diff(np.log2(errors)), -1.0, atol=0.1)


def test_burgers_and_kpz_by_cole_and_hopf():
    """φ_t = Dφ_xx carries both: u = −2Dφ_x/φ solves u_t = Du_xx − (u²/2)_x, and g = 2D ln φ solves g_t = Dg_xx + g_x²/2."""
    D, k, x = 0.05, 2 * np.pi, LINE.coordinates["x"]
    a = lambda t: 0.6 * np.exp(-D * k**2 * t)
    phi = lambda t: 1 + a(t) * np.cos(k * x)
    u = lambda t: 2 * D * k * a(t) * np.sin(k * x) / phi(t)
    burgers = PDE(LINE, diffusivity=D, velocity={"x": "u/2"}, boundary={"x": Periodic()})
    np.testing.assert_allclose(solve(burgers, [u(0.0)], 0.5, 0.01)[0, 0], u(0.5), atol=1e-8)
    kpz = PDE(LINE, diffusivity=D, reaction="ddx(u)**2/2", boundary={"x": Periodic()})
    np.testing.assert_allclose(solve(kpz, [2 * D * np.log(phi(0.0))], 0.5, 0.01)[0, 0], 2 * D * np.log(phi(0.5)), atol=1e-8)


def test_a_field_of_velocity_keeps_mass():
    """∂c/∂t = DΔc − ∇·(v(x, y) c): the integral stays to round-off."""
    grid = Grid(x=(0, 1, 24), y=(0, 1, 20))
    model = PDE(grid, diffusivity=0.01, velocity={"x": "sin(2*pi*y)", "y": "cos(2*pi*x)*(1 + x*(1 - x))"},
                boundary={"x": Periodic(), "y": Periodic()})
    start = 1 + 0.3 * np.cos(2 * np.pi * grid.mesh["x"]) * np.sin(2 * np.pi * grid.mesh["y"])
    end = solve(model, [start], 1.0, 0.02)
    assert np.sum(end) == pytest.approx(np.sum(start), rel=1e-13)
    assert np.max(np.abs(end - start)) > 0.05


def test_fisher_wave():
    """u_t = u_xx + u(1 − u) has the front (1 + e^{(x − 5t/√6)/√6})⁻²; the box ends where it is flat."""
    grid = Grid(x=(-60.0, 80.0, 560))
    model = PDE(grid, diffusivity=1.0, reaction="u*(1 - u)")
    front = lambda t: (1 + np.exp((grid.coordinates["x"] - 5 * t / math.sqrt(6)) / math.sqrt(6))) ** -2.0
    np.testing.assert_allclose(solve(model, [front(0.0)], 4.0, 0.05)[0, 0], front(4.0), atol=2e-6)


def test_allen_cahn_front():
    """tanh(x/√2ε) stands still under ε²Δu + u − u³."""
    grid = Grid(x=(-8.0, 8.0, 256))
    model = PDE(grid, diffusivity=0.25, reaction="u - u**3")
    front = np.tanh(grid.coordinates["x"] / (math.sqrt(2) * 0.5))
    # the mirror images of no-flux walls pull with e^{−√2·16/ε}: nothing; what is left is the time step's
    np.testing.assert_allclose(solve(model, [front], 5.0, 0.1)[0, 0], front, atol=1e-6)


def test_mixed_box_follows_its_ordinary_equation():
    """Flat fields with member-wise parameters: the logistic equation for each member."""
    model = PDE(Grid(x=(0, 1, 4), y=(0, 1, 4)), diffusivity=1.0, reaction="r*u*(1 - u)", parameters={"r": 1.0})
    r = np.array([0.5, 1.0, 3.0])
    u = solve(model, np.full((1, 4, 4), 0.1), 2.0, 0.01, members=3, parameters={"r": r})[0]
    expected = 1 / (1 + 9 * np.exp(-2 * r))
    np.testing.assert_allclose(u, np.broadcast_to(expected[:, None, None], u.shape), rtol=1e-8)


def test_reaction_that_moves_mass_keeps_it():
    """u → v at a rate u v²: the integral of u + v stays, to round-off."""
    model = PDE(LINE, ("u", "v"), diffusivity={"u": 0.02, "v": 0.01}, reaction={"u": "-u*v**2", "v": "u*v**2"})
    start = np.array([1.0 + 0.3 * WAVE, 0.5 - 0.2 * WAVE])
    end = solve(model, start, 2.0, 0.02)
    assert np.sum(end) == pytest.approx(np.sum(start), rel=1e-13)
    assert abs(np.sum(end[0]) - np.sum(start[0])) > 1.0


def test_stationary_law_of_exponential_euler():
    """du = (DΔu − k u) dt + σ dW with −k u held over the step: the scheme's own variance, mode by mode.

    û' = (e^z − k h φ₁(z)) û + σ √(h φ₁(2z)/Δx) ε ⇒ variance q²hφ₁(2z)/(1 − (e^z − khφ₁(z))²)."""
    D, k, sigma, h, members = 0.01, 1.0, 0.5, 0.25, 4000
    grid = Grid(x=(0.0, 1.0, 8))
    model = PDE(grid, diffusivity=D, reaction="-k*u", noise=WhiteNoise(sigma), parameters={"k": k})
    u = solve(model, np.zeros((1, 8)), 20.0, h, "exponential_euler", members=members, seed=3)[0]
    from scipy.fft import dct

    modes = dct(u, type=2, norm="ortho", axis=-1)
    z = -D * (np.arange(8) * np.pi) ** 2 * h
    phi = lambda x: np.where(x == 0, 1.0, np.expm1(x) / np.where(x == 0, 1.0, x))
    growth = np.exp(z) - k * h * phi(z)
    law = sigma**2 * 8 * h * phi(2 * z) / (1 - growth**2)
    np.testing.assert_allclose(np.var(modes, axis=0), law, rtol=6 * math.sqrt(2 / members))
    assert law[0] == pytest.approx(sigma**2 * 8 / (2 * k - k**2 * h), rel=1e-12)  # Euler's, where nothing diffuses


@pytest.mark.parametrize("model, message", [
    (PDE(LINE, diffusivity=1.0, noise=WhiteNoise(1.0)), "takes no noise"),
    (PDE(LINE, diffusivity="1 + u"), "constant diffusivity"),
    (PDE(LINE, diffusivity=1.0, reaction="ddx(u)**2"), "derivatives"),
    (PDE(LINE, diffusivity=1.0, velocity={"x": 1.0}), "transport"),
])
def test_what_etdrk4_refuses(model, message):
    with pytest.raises(ValueError, match=message):
        solve(model, np.zeros((1, 32)), 0.1, 0.1)
