"""Transport that takes its values upwind, and limited fluxes of a tensor: orders, shocks, no new extremes, mass."""

import numpy as np
import pytest

import sdesim as sim
from sdesim.stencils import discretise

ROUND = {"x": sim.Periodic()}


def carried(scheme, n, method, start, T=1.0, dt=None, grid=None, **more):
    grid = grid or sim.Grid(x=(0.0, 1.0, n))
    model = sim.PDE(grid, **{"diffusivity": 0.0, "velocity": {"x": 1.0}, "boundary": ROUND, "advection": scheme, **more})
    return sim.simulate(model, start(grid), [0.0, T], method=method, dt=dt)


def smooth(grid):
    """Means over the cells of 1 + ½ sin 2πx."""
    edges = grid.edges["x"]
    return np.diff(edges - np.cos(2 * np.pi * edges) / (4 * np.pi)) / np.diff(edges)


def pulse(grid):
    return np.where(abs(grid.coordinates["x"] - 0.45) < 0.2, 1.0, 0.0)


@pytest.mark.parametrize("scheme, method, order", [("upwind", "ssprk3", 1), ("limited", "ssprk3", 2),
                                                   ("limited", "rkl2", 2), ("weno", "rk4", 5)])
def test_order_of_a_wave_once_around(scheme, method, order):
    errors = []
    for n in (32, 64, 128):
        dt = 0.25 / n ** 1.25 if scheme == "weno" else None  # so that order 4 in time does not show
        ds = carried(scheme, n, method, smooth, dt=dt)
        assert ds.mass_residual_u < 1e-13
        errors.append(float(abs(ds.u[0, 1] - ds.u[0, 0]).mean()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.22)


@pytest.mark.parametrize("method", ["euler", "ssprk3", "rkl2"])
@pytest.mark.parametrize("kind", ["even", "stretched", "refined to and fro"])
def test_a_square_pulse_makes_no_new_extremes(method, kind):
    widths = {"even": np.ones(96), "stretched": np.geomspace(1, 8, 96),
              "refined to and fro": np.tile([1.0, 2.0, 3.0, 2.0], 24)}[kind]
    edges = np.concatenate([[0.0], np.cumsum(widths)]) / widths.sum()
    grid = sim.Grid(x=(0.0, 1.0, 96)) if kind == "even" else sim.Grid(x=edges)
    ds = carried("limited", 96, method, pulse, T=0.5, grid=grid)
    assert ds.maximum_principle_u < 1e-14 and ds.mass_residual_u < 1e-13
    variation = [float(abs(np.diff(ds.u[0, j], append=ds.u[0, j, 0])).sum()) for j in (0, 1)]
    assert variation[1] <= variation[0] * (1 + 1e-13)
    sharper = carried("upwind", 96, method, pulse, T=0.5, grid=grid)
    moved = pulse(sim.Grid(x=(0.0, 1.0, 960))).reshape(-1)
    at = np.interp((grid.coordinates["x"] - 0.5) % 1.0, (np.arange(960) + 0.5) / 960, moved)
    assert abs(ds.u[0, 1] - at).mean() < 0.45 * abs(sharper.u[0, 1] - at).mean()


@pytest.mark.parametrize("scheme", ["upwind", "limited", "weno"])
def test_burgers_shock_moves_at_its_speed_and_its_fan_opens(scheme):
    """u = 1, 0 or −1: the jump from 1 to 0 moves at ½, and from −1 to 1 a fan u = x/t opens through the speed 0."""
    n, t = 200, 0.5
    grid = sim.Grid(x=(-1.0, 1.0, n))
    model = sim.PDE(grid, diffusivity=0.0, velocity={"x": "u/2"}, advection=scheme)
    x = grid.coordinates["x"]
    ds = sim.simulate(model, "where(x < 0, 1, 0)", [0.0, t], method="ssprk3")
    end = ds.u.values[0, 1]
    assert abs(end.sum() * 2 / n - (1.0 + t / 2)) < 1e-12, "what enters at the left, ½ a unit of time, is all there is"
    assert end.min() > -1e-3 and end.max() < 1 + 1e-3
    assert x[np.argmin(abs(end - 0.5))] == pytest.approx(t / 2, abs=2 / n)
    assert ((end > 0.02) & (end < 0.98)).sum() <= {"upwind": 6}.get(scheme, 4)
    fan = sim.simulate(model, "where(x < 0, -1, 1)", [0.0, t], method="ssprk3").u.values[0, 1]
    error = abs(fan - np.clip(x / t, -1, 1)).mean()
    assert error < {"upwind": 0.025}.get(scheme, 0.006)


@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_what_enters_at_an_edge_has_the_value_of_the_edge(speed):
    side = (sim.Dirichlet(1.0), sim.Neumann()) if speed > 0 else (sim.Neumann(), sim.Dirichlet(1.0))
    ds = carried("limited", 80, "ssprk3", lambda grid: np.zeros(80), T=0.5, velocity={"x": speed}, boundary={"x": side})
    assert ds.maximum_principle_u < 1e-14
    u = ds.u.values[0, 1][:: int(speed)]
    assert u[:22] == pytest.approx(1.0, abs=1e-6) and u[52:] == pytest.approx(0.0, abs=1e-6)
    assert u.sum() / 80 == pytest.approx(0.5, abs=1e-12)


def test_explicit_transport_beside_implicit_diffusion():
    """Advection–diffusion of a wave: e^{−k²Dt} sin k(x − t), order 2."""
    errors, k = [], 2 * np.pi
    for n in (32, 64):
        ds = carried("limited", n, "ars232", smooth, T=0.5, dt=0.2 / n, diffusivity=0.02)
        x = ds.x.values
        law = 1 + 0.5 * np.sin(k * (x - 0.5)) * np.exp(-k * k * 0.01) * np.sinc(1 / n)
        errors.append(float(abs(ds.u[0, 1] - law).mean()))
    assert np.log2(errors[0] / errors[1]) > 1.75


RING = [["y**2/(x**2 + y**2 + 1e-9)", "-x*y/(x**2 + y**2 + 1e-9)"],
        ["-x*y/(x**2 + y**2 + 1e-9)", "x**2/(x**2 + y**2 + 1e-9)"]]


def ring(n, **more):
    """Sharma & Hammett 2007, section 4.2: heat spreads along circles alone, from a sector of a ring at 12 among 10."""
    grid = sim.Grid(x=(-1.0, 1.0, n), y=(-1.0, 1.0, n))
    X, Y = np.meshgrid(grid.coordinates["x"], grid.coordinates["y"])
    r, angle = np.hypot(X, Y), np.pi - abs(np.arctan2(Y, X))
    start = np.where((r > 0.5) & (r < 0.7) & (angle < np.pi / 12), 12.0, 10.0)
    return sim.PDE(grid, diffusivity=RING, **more), start, r


@pytest.mark.parametrize("method", [None, "ssprk3", "euler"])
def test_heat_on_a_ring_keeps_to_the_maximum_principle(method):
    model, start, r = ring(50)
    ds = sim.simulate(model, start, [0.0, 0.02, 0.2], method=method)
    assert ds.minimum_u >= 10 - 1e-12 and ds.maximum_u <= 12 + 1e-12 and ds.maximum_principle_u < 1e-12
    assert ds.mass_residual_u < 1e-13
    far = ds.u.values[0, 2][40, 25]  # a quarter of the ring away it is warm by now
    assert far > 10.05
    plain = sim.simulate(ring(50, cross_flux="central")[0], start, [0.0, 0.02], method=method)
    assert plain.maximum_principle_u > 1e-2, "central fluxes cool below 10"


WALLS = {
    "periodic": ("sin(2*pi*x)*cos(2*pi*y)", "0.6 + 0.3*sin(2*pi*x) + 0.2*cos(2*pi*y)"),
    "dirichlet": ("sin(2*x)*cos(y) + x*y", "x + y*y"),
    "neumann": ("sin(2*x)*cos(y) + x*y", "x + y*y"),
}


@pytest.mark.parametrize("edges", WALLS)
@pytest.mark.parametrize("cross, least", [("central", 1.75), ("limited", 1.65)])
def test_order_of_a_rotating_tensor_up_to_the_walls(edges, cross, least):
    """∂u/∂t = ∇·(D∇u) + s with D = R diag(1, 0.1) Rᵀ and s such that e^{−t} φ(x, y) solves it. A given flux at an
    edge is n·D∇u, as D_nn times what Neumann says."""
    import sympy

    x, y, t = sympy.symbols("x y t")
    phi, angle = (sympy.sympify(text) for text in WALLS[edges])
    u, R = sympy.exp(-t) * phi, sympy.rot_axis3(-angle)[:2, :2]
    D = R * sympy.diag(1, sympy.Rational(1, 10)) * R.T
    flux = D * sympy.Matrix([u.diff(x), u.diff(y)])
    source = u.diff(t) - flux[0].diff(x) - flux[1].diff(y)
    ends = {"dirichlet": lambda i, sign: sim.Dirichlet(str(u)),
            "neumann": lambda i, sign: sim.Neumann(str(sign * flux[i] / D[i, i]))}
    sides = {name: sim.Periodic() if edges == "periodic" else tuple(
        type(c)(str(sympy.sympify(c.value).subs({name: at}))) for c, at in ((ends[edges](i, -1), 0), (ends[edges](i, 1), 1)))
        for i, name in enumerate("xy")}
    law = sympy.lambdify((x, y, t), u)
    errors = []
    for n in (16, 32):
        grid = sim.Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n))
        model = sim.PDE(grid, diffusivity=[[str(e) for e in D.row(i)] for i in (0, 1)], reaction=str(source),
                        boundary=sides, cross_flux=cross)
        mesh = grid.mesh["x"], grid.mesh["y"]
        ds = sim.simulate(model, law(*mesh, 0.0), [0.0, 0.05], method="rkl2", dt=0.05 / n)
        errors.append(float(np.sqrt(np.mean((ds.u.values[0, 1] - law(*mesh, 0.05)) ** 2))))
    assert np.log2(errors[0] / errors[1]) > least


def test_what_is_taken_by_default():
    grid = sim.Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8))
    around = {"x": sim.Periodic(), "y": sim.Periodic()}
    tensor = [[1.0, 0.2], [0.2, 1.0]]
    assert not discretise(sim.PDE(grid, diffusivity=tensor, boundary=around)).derived, "corners, where all is constant"
    assert len(discretise(sim.PDE(grid, diffusivity=tensor)).derived) == 2
    model = sim.PDE(grid, diffusivity=1.0, velocity={"x": 1.0}, advection="weno", boundary=around)
    assert sim.PDE.from_dict(model.to_dict()) == model != sim.PDE(grid, diffusivity=1.0, velocity={"x": 1.0},
                                                                  boundary=around)
    ds = sim.simulate(model, 1.0, [0.1])
    assert ds.attrs["method"] == "rkl2" and ds.attrs["advection"] == "weno", "a scheme of finite volumes was asked for"
    for wrong in ({"advection": "downwind"}, {"cross_flux": "some"}):
        with pytest.raises(ValueError, match="is one of central"):
            sim.PDE(grid, diffusivity=1.0, **wrong)
    with pytest.raises(ValueError, match="equal cells"):
        discretise(sim.PDE(sim.Grid(x=np.array([0.0, 1.0, 3.0])), diffusivity=1.0, velocity={"x": 1.0}), "weno")
