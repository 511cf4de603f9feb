"""States whose potential flows: enthalpy and temperature, solutes that stick; and the equations of media that use it."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import erf, erfc

import sdesim as sim
from sdesim import equations
from sdesim.stencil_integrate import stencil_run


def line(cells, length=1.0):
    return sim.Grid(x=(0.0, length, cells))


def held(B, K=3.5e-4, n=0.874, capacity=1e-3):
    """w(c) and c(w) of each isotherm, by SciPy's Brent for the latter."""
    isotherms = {"linear": lambda c: K * c, "freundlich": lambda c: K * c**n,
                 "langmuir": lambda c: K * c / (1 + K * c / capacity)}
    w = {name: (lambda c, s=s: c + B * s(c)) for name, s in isotherms.items()}
    c = {name: np.vectorize(lambda v, f=f: brentq(lambda c: f(c) - v, 0.0, v + 1.0, xtol=1e-15, rtol=1e-14)
                            if v > 0 else 0.0) for name, f in w.items()}
    return w, c


B = (1 - 0.29) / 0.29 * 2880.0


@pytest.mark.parametrize("isotherm", ["linear", "freundlich", "langmuir"])
def test_sorption_is_what_scipy_makes_of_the_same_cells(isotherm):
    """BDF on dc/dt = (D c_xx)/w′(c), the unconserved form, at rtol 1e-9: another state, another method, other code."""
    cells, D, capacity = 24, 5e-4, 1e-3
    w, _ = held(B, capacity=capacity)
    grid = line(cells)
    dx, x = 1 / cells, grid.coordinates["x"]
    rise = lambda c: (w[isotherm](c * (1 + 1e-6)) - w[isotherm](c * (1 - 1e-6))) / (2e-6 * c)

    def rate(t, c):
        padded = np.concatenate([[2.0 - c[0]], c, [c[-1]]])
        return D * np.diff(padded, 2) / dx**2 / rise(c)

    start = 0.2 + 0.1 * np.cos(np.pi * x)
    truth = solve_ivp(rate, (0.0, 300.0), start, method="BDF", rtol=1e-9, atol=1e-11).y[:, -1]
    ds = sim.simulate(equations.diffusion_sorption(grid, isotherm), {"w": w[isotherm](start)}, [300.0], dt=0.5)
    assert ds.attrs["method"] == "rkl2"
    np.testing.assert_allclose(ds.c.values[0, -1], truth, atol=2e-6)  # of the step: 1e-6
    assert ds.maximum_principle_c.item() == 0.0


def test_a_linear_isotherm_is_heat_conduction_at_a_retarded_rate():
    grid, R = line(64), 1 + B * 3.5e-4
    edges = {"x": (sim.Dirichlet(1.0), sim.Neumann(0.0))}
    heat = sim.simulate(equations.heat(grid, 5e-4 / R, boundary=edges), 0.1, [50.0, 400.0], dt=1.0, method="rkl2")
    ds = sim.simulate(equations.diffusion_sorption(grid, "linear"), 0.1 * R, [50.0, 400.0], dt=1.0, method="rkl2")
    np.testing.assert_allclose(ds.c.values, heat.u.values, rtol=1e-12)


@pytest.mark.parametrize("n", [0.3, 0.874, 2.0])
def test_freundlich_is_inverted_over_many_decades(n):
    model = equations.diffusion_sorption(line(400), exponent=n, K=0.1)
    c = np.logspace(-9, 5, 400)
    ds = sim.simulate(model, {"c": c}, [0.0])
    np.testing.assert_allclose(ds.c.values[0, 0], c, rtol=1e-11)
    np.testing.assert_allclose(ds.w.values[0, 0], c + B * 0.1 * c**n, rtol=1e-13)
    assert (sim.simulate(model, {"w": 0.0}, [0.0]).c.values == 0.0).all()


@pytest.mark.parametrize("velocity", [None, {"x": "0.02*cos(2*pi*y)", "y": "0.03*sin(2*pi*x)"}])
@pytest.mark.parametrize("method", ["euler", "ssprk3", "rkl2"])
def test_what_is_held_and_dissolved_is_conserved(method, velocity):
    grid = sim.Grid(x=(0.0, 1.0, 24), y=(0.0, 1.0, 16))
    loop = {"x": sim.Periodic(), "y": sim.Periodic()} if velocity else {"x": sim.Neumann(0.0)}
    model = equations.diffusion_sorption(grid, diffusivity=2e-3, velocity=velocity, boundary=loop)
    ds = sim.simulate(model, {"c": "where((x - 0.5)**2 + (y - 0.5)**2 < 0.05, 1, 0)"}, [1.0, 20.0], method=method)
    assert ds.status.item() == 0
    assert ds.mass_residual_w.item() < 1e-14 * 100
    assert ds.maximum_principle_c.item() < (1e-12 if method != "rkl2" else 0.02)
    assert np.ptp(ds.c.values[0, -1]) < 0.9  # it did spread


def neumann(St, cold=0.0, alpha=1.0, k=1.0):
    """λ of the front 2λ√(α_l t); `cold` = (T_m − T_i)/(T_w − T_m), alpha = α_l/α_s, k = k_s/k_l (C&J §11.2)."""
    r = np.sqrt(alpha)
    return brentq(lambda s: np.exp(-s * s) / erf(s) - k * r * cold * np.exp(-s * s * alpha) / erfc(s * r)
                  - s * np.sqrt(np.pi) / St, 1e-3, 5.0)


def melted(cells, St=1.0, cold=0.0, kappa=1.0, heat=1.0, length=2.0):
    """Mean error of the temperature, and the largest one of the front in cells, of a melting half-space."""
    model = equations.stefan(line(cells, length), latent=1.0 / St, solid_conductivity=kappa, solid_capacity=heat)
    ds = sim.simulate(model, -cold * heat, np.linspace(0.04, 0.07, 25))
    alpha = heat / kappa
    s, x, t = neumann(St, cold, alpha, kappa), ds.x.values, ds.time.values[:, None]
    front = 2 * s * np.sqrt(t)
    T = np.where(x < front, 1 - erf(x / np.sqrt(4 * t)) / erf(s),
                 -cold * (1 - erfc(x / np.sqrt(4 * t / alpha)) / erfc(s * np.sqrt(alpha))))
    molten = np.clip(ds.h.values[0] * St, 0, 1).sum(axis=1, keepdims=True) * length / cells
    return np.abs(ds.T.values[0] - T).mean() * length, np.abs(molten - front).max() / (length / cells)


@pytest.mark.parametrize("case", [{}, {"St": 0.2}, {"cold": 0.5}, {"St": 2.0, "cold": 1.0, "kappa": 2.0, "heat": 0.8}])
def test_stefans_front_is_neumanns(case):
    """Order one: a cell melts as a whole, and the profile waits for it; over many moments that averages out."""
    errors = []
    for cells in (50, 100, 200):
        error, off = melted(cells, **case)
        assert off < 0.5
        errors.append(error)
    assert np.log2(errors[0] / errors[2]) / 2 > 0.8
    assert errors[2] < 0.006


def test_enthalpy_is_conserved_while_ice_melts_in_the_plane():
    grid = sim.Grid(x=(0.0, 1.0, 20), y=(0.0, 1.0, 24))
    model = equations.stefan(grid, boundary={"x": sim.Neumann(0.0)}, solid_conductivity=3.0)
    ds = sim.simulate(model, "where(x + y < 0.8, 4, -0.5)", [0.02, 0.2], method="ssprk3")
    assert ds.mass_residual_h.item() < 1e-13
    assert ds.maximum_principle_T.item() == 0.0
    mushy = (ds.h.values > 0) & (ds.h.values < 1)
    assert mushy.any()
    assert (ds.T.values[mushy] == 0.0).all()


def test_a_power_is_the_porous_medium():
    """∂u/∂t = ∇²u² by its potential is Barenblatt's profile; the front of the other form has the same law."""
    beta, grid = 1 / 3, sim.Grid(x=(-4.0, 4.0, 200))
    law = lambda x, t: t**-beta * np.maximum(1 - beta / 4 * x**2 * t ** (-2 * beta), 0)
    x = grid.coordinates["x"]
    model = sim.PDE(grid, diffusivity=1.0, potential={"u": {"p": "max(u, 0)**m"}}, parameters={"m": 2.0})
    ds = sim.simulate(model, law(x, 0.2), [0.5])
    assert np.abs(ds.u.values[0, -1] - law(x, 0.7)).mean() * 8 < 0.01
    assert ds.mass_residual_u.item() < 1e-13


MODELS = {
    "flux": {"diffusivity": "1 + 0.1*T + x", "velocity": {"x": "3*y", "y": 1.0}, "reaction": "-0.1*T*h + ddx(T)"},
    "limited": {"diffusivity": 0.2, "velocity": {"x": "3*T"}, "advection": "limited"},
    "weno": {"diffusivity": 0.2, "velocity": {"x": 3.0}, "advection": "weno"},
    "tensor": {"diffusivity": [["1 + x", 0.3], [0.3, 1.0]]},
    "noise": {"diffusivity": 0.5, "noise": sim.WhiteNoise("0.1*T")},
}


@pytest.mark.parametrize("kind", MODELS)
def test_kernels_are_the_reference_bit_for_bit(kind):
    mask = np.zeros((13, 21), bool)
    mask[4:7, 5:9] = kind == "flux"
    grid = sim.Grid(x=(0.0, 1.0, 21), y=(0.0, 1.0, 13), mask=mask if kind == "flux" else None)
    edges = {"x": (sim.Dirichlet("1 + t"), sim.Robin(1.0, 0.5, 0.2)), "y": sim.Periodic()}
    model = sim.PDE(grid, state=("h",), potential={"h": {"T": "min(h, 0) + max(h - L, 0)"}}, parameters={"L": 0.5},
                    boundary=edges, **MODELS[kind])
    start = np.random.default_rng(1).normal(0.5, 1.0, (1, 3, 13, 21))
    method = "euler_maruyama" if model.noise else "ssprk3"
    runs = [stencil_run(model, method, start, {"L": np.array([0.1, 0.5, 2.0])}, [0.0, 2e-3], dt=1e-4, members=[0, 1, 4],
                        backend=backend)[0] for backend in ("kernel", "numpy")]
    assert np.isfinite(runs[0]).all()
    assert np.array_equal(runs[0], runs[1])


def test_a_description_makes_the_model_and_the_run_again(tmp_path):
    model = equations.diffusion_sorption(line(12))
    again = sim.PDE.from_dict(model.to_dict())
    assert again == model
    assert again != equations.diffusion_sorption(line(12), "linear")
    ds = sim.simulate(model, {"c": "exp(-x)"}, [1.0, 2.0], members=3, parameters={"D": [1e-4, 5e-4, 1e-3]})
    sim.save(ds, tmp_path / "run.nc")
    one = sim.rerun(tmp_path / "run.nc", members=[2])
    for name in "wc":
        assert np.array_equal(one[name].values[0], ds[name].values[2])


@pytest.mark.parametrize("potential, fault", [
    ({"w": {"c": "2*k"}}, "an expression of w, or one of c that is w"),
    ({"w": {"c": "w + c"}}, "an expression of w, or one of c that is w"),
    ({"w": {"k": "w"}}, "name 'k' of something else"),
    ({"w": {"x": "w"}}, "has the name of a coordinate"),
    ({"w": "w**2"}, 'is {"name": expression}'),
])
def test_a_potential_that_makes_no_sense(potential, fault):
    with pytest.raises((ValueError, TypeError), match=fault):
        sim.PDE(line(8), state="w", diffusivity=1.0, potential=potential, parameters={"k": 1.0})


def test_what_a_potential_cannot_do_is_said_before_the_run():
    def model(expression, **more):
        return sim.PDE(line(8), state="w", diffusivity=1.0, potential={"w": {"c": expression}}, **more)

    with pytest.raises(ValueError, match="c = w - w\\*\\*2 must rise"):
        sim.simulate(model("w - w**2"), 1.0, [0.1])
    with pytest.raises(ValueError, match="takes no value such as 2, which is that of an edge"):
        sim.simulate(model("tanh(w)", boundary={"x": sim.Dirichlet(2.0)}), 0.0, [0.1])
    with pytest.raises(ValueError, match="is not found from w by Newton's method"):
        sim.simulate(model("c + 1000*c/(c + 1e-6)"), {"c": "x"}, [0.1])
    with pytest.raises(ValueError, match="write the derivative of c"):
        model("w**3", reaction="ddx(w)")
    for method in ("exact", "etdrk4", "tr_bdf2", "ars232"):
        with pytest.raises(ValueError, match=f"{method} steps what flows.*use .*rkl2"):
            sim.simulate(model("2*w"), 1.0, [0.1], method=method, dt=0.1)
    with pytest.raises(ValueError, match="make c the state"):
        sim.steady(model("2*w"))
    with pytest.raises(ValueError, match="no method takes both"):
        model("2*w", hyperdiffusivity=1.0)


def test_steps_follow_the_steepest_potential_between_start_and_edges():
    """From w = 0, where c = w² is flat, towards c = 4 at the edge, where dc/dw = 4: explicit Euler's bound is Δx²/8."""
    model = sim.PDE(line(10), state="w", diffusivity=1.0, potential={"w": {"c": "max(w, 0)**2"}},
                    boundary={"x": (sim.Dirichlet(4.0), sim.Neumann(0.0))})
    ds = sim.simulate(model, 0.0, [0.1], method="euler")
    assert ds.attrs["stability_limit"] == pytest.approx(0.01 / (2 * 4.0) , rel=1e-3)
    assert ds.maximum_principle_c.item() == 0.0
    with pytest.raises(ValueError, match="stability limit"):
        sim.simulate(model, 0.0, [0.1], method="euler", dt=0.002)


# ---- Darcy

def test_flow_in_series_has_the_harmonic_mean_on_a_line():
    ds = sim.steady(equations.darcy(line(64), sim.GaussianField(std=1.5, length=0.05)), members=3, seed=2)
    K = np.exp(ds.a.values)
    flux = 2 * 64 * K[:, 0] * (1.0 - ds.p.values[:, 0])
    np.testing.assert_allclose(flux, 1 / (1 / K).mean(axis=1), rtol=1e-8)


def test_lognormal_ground_conducts_like_its_geometric_mean_in_the_plane():
    """Matheron 1967: exactly e^{E a} in two dimensions; arithmetic and harmonic means are e^{±½} away."""
    grid = sim.Grid(x=(0.0, 1.0, 64), y=(0.0, 1.0, 64))
    ds = sim.steady(equations.darcy(grid, sim.GaussianField(std=1.0, length=0.03),
                                    boundary={"x": (sim.Dirichlet(1.0), sim.Dirichlet(0.0)), "y": sim.Periodic()}),
                    members=12, seed=5)
    assert not ds.status.any()
    flux = (2 * 64 * np.exp(ds.a) * (1.0 - ds.p)).isel(x=0).mean("y").values
    own = np.log(flux) - ds.a.mean(("x", "y")).values
    assert abs(own.mean()) < 4 * own.std() / np.sqrt(12) + 0.03  # cells of half a correlation length
