"""What each member says of its own errors: mass, extremes, status and the last good state, in every engine."""

import numpy as np
import pytest

import sdesim as sim
from sdesim.datasets import PROVENANCE

LINE = sim.Grid(x=(0.0, 1.0, 32))
BOX = sim.Grid(x=(0.0, 1.0, 12), y=(0.0, 2.0, 10))
BLOWS_UP = {
    "stencil kernel": {"method": "rk4", "dt": 0.005},
    "stencil reference": {"method": "rk4", "dt": 0.005, "device": "reference"},
    "stencil, own steps": {"method": "rkl2"},
    "implicit": {"method": "ars232", "dt": 0.01},
    "spectral kernel": {"method": "etdrk4", "dt": 0.01},
    "spectral reference": {"method": "etdrk4", "dt": 0.01, "device": "reference"},
    "spectral, own steps": {"method": "etdrk4"},
}


def held(ds, bad, name):
    """The flagged member keeps what was good and holds it."""
    assert ds.status.values.tolist() == [int(m == bad) for m in range(ds.sizes["member"])]
    assert np.isfinite(ds[name]).all()
    own, last = ds[name].isel(member=bad), float(ds.last_good_time[bad])
    good = [float(t) for t in ds.time if t <= last]
    assert 0 < len(good) < ds.sizes["time"]
    for t in ds.time.values[len(good):]:
        np.testing.assert_array_equal(own.sel(time=t), own.sel(time=good[-1]))
    moved = own.sel(time=good).values
    assert all(not np.array_equal(a, b) for a, b in zip(moved[:-1], moved[1:])), "good saves are not the same"
    assert (np.delete(ds.last_good_time.values, bad) == ds.time.values[-1]).all()


@pytest.mark.parametrize("engine", BLOWS_UP)
def test_a_field_that_blows_up_holds_its_last_good_state(engine):
    model = sim.PDE(LINE, diffusivity=0.1, reaction="r*u**2", parameters={"r": 1.0})
    options = {"members": 3, "parameters": {"r": np.array([0.1, 1.0, 0.2])}, **BLOWS_UP[engine]}
    times = [0.0, 0.4, 0.8, 1.2, 2.0]  # u' = r u²: the second member is infinite at t = 1
    ds = sim.simulate(model, "1 + 0.1*cos(pi*x)", times, **options)
    held(ds, 1, "u")
    assert 0.4 <= ds.last_good_time[1] < 1.2
    alone = sim.simulate(model, "1 + 0.1*cos(pi*x)", times, **{**options, "members": [0, 2],
                         "parameters": {"r": np.array([0.1, 0.2])}})
    assert alone.u.equals(ds.u.isel(member=[0, 2]))
    moments = sim.simulate(model, "1 + 0.1*cos(pi*x)", times, save="statistics", **options)
    np.testing.assert_allclose(moments.u_mean, alone.u.mean("member"), rtol=1e-12)
    assert moments.last_good_time.equals(ds.last_good_time) and moments.maximum_u.equals(ds.maximum_u)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_path_that_blows_up_holds_its_last_good_state(device):
    sde = sim.SDE({"x": "x**2"}, {"x": "0.01"})
    ds = sim.simulate(sde, {"x": [0.1, 1.0, 0.2]}, [0.2, 0.6, 1.5, 3.0], members=3, dt=0.01, device=device)
    held(ds, 1, "x")
    only_late = sim.simulate(sde, {"x": [0.1, 1.0, 0.2]}, [3.0], members=3, dt=0.01, device=device)
    assert only_late.last_good_time[1] == 0.0 and only_late.x[1, 0] == 1.0, "the initial state, where no save was good"


CLOSED = {
    "heat, exact": ({"diffusivity": 1.0}, {}),
    "D(x), rkl2": ({"diffusivity": "1 + x"}, {}),
    "D(u), ssprk3": ({"diffusivity": "u"}, {"method": "ssprk3"}),
    "implicit": ({"diffusivity": "1 + x*y"}, {"method": "crank_nicolson", "dt": 0.01}),
    "source": ({"diffusivity": "1 + x", "reaction": "exp(-x)*y - 0.3"}, {}),
    "flux": ({"diffusivity": "k*(1 + x)", "parameters": {"k": 2.0},
              "boundary": {"x": (sim.Neumann("y"), sim.Neumann(-0.5)), "y": sim.Neumann(0.25)}}, {}),
    "flow": ({"diffusivity": 0.1, "velocity": {"y": "cos(x)"}, "boundary": {"y": sim.Periodic()}}, {}),
    "flow that ends at walls": ({"diffusivity": 0.1, "velocity": {"x": "x*(1 - x)"}}, {}),
    "fourth order": ({"diffusivity": "3*u**2 - 1", "hyperdiffusivity": 0.05,
                      "boundary": {"x": sim.Periodic(), "y": sim.Periodic()}}, {"method": "etdrk4", "dt": 1e-3}),
}


@pytest.mark.parametrize("case", CLOSED)
def test_mass_is_what_the_equation_brings_in(case):
    pieces, options = CLOSED[case]
    ds = sim.simulate(sim.PDE(BOX, **pieces), "1 + 0.3*cos(3*x)*sin(2*y)", [0.0, 0.05, 0.2], members=2, **options)
    assert (ds.mass_residual_u < 2e-13).all() and ds.mass_residual_u.attrs["units"] == "1"
    assert ds.mass_residual_u.dims == ("member",)


def test_a_leak_is_seen():
    """The residual is the relative change of mass: shown on states that lose a thousandth of it."""
    from sdesim.certificates import certificates

    u = np.ones((2, 1, 2, 32))
    u[1, 0, 1] *= 0.999
    found = certificates(sim.PDE(LINE, diffusivity=1.0), u, np.array([0.0, 1.0]), {})
    np.testing.assert_allclose(found["mass_residual_u"], [0.0, 1e-3], rtol=1e-9)


OPEN = {
    "reaction": {"reaction": "-u"},
    "source in time": {"reaction": "t"},
    "held": {"boundary": {"x": sim.Dirichlet(1.0)}},
    "outflow": {"velocity": {"x": 1.0}},
    "flux of D(u)": {"diffusivity": "u", "boundary": {"x": sim.Neumann(1.0)}},
    "noise": {"noise": sim.WhiteNoise(0.1)},
}


@pytest.mark.parametrize("case", OPEN)
def test_an_open_budget_has_no_residual(case):
    ds = sim.simulate(sim.PDE(LINE, **{"diffusivity": 1.0, **OPEN[case]}), 1.0, [0.0, 0.01])
    assert "mass_residual_u" not in ds and "minimum_u" in ds


BOUNDED = {
    "heat": ({"diffusivity": 1.0}, (0.7, 1.3)),
    "held": ({"diffusivity": "1 + x", "boundary": {"x": (sim.Dirichlet("2 + sin(9*t)"), sim.Neumann())}}, (0.7, 3.0)),
    "cooled": ({"diffusivity": 1.0, "boundary": {"x": (sim.Robin(2.0, 1.0, -1.0), sim.Neumann())}}, (-0.5, 1.3)),
    "porous": ({"diffusivity": "u**2"}, (0.7, 1.3)),
    "flow": ({"diffusivity": 0.1, "velocity": {"x": "sin(y)"}, "boundary": {"x": sim.Periodic()}}, (0.7, 1.3)),
}


@pytest.mark.parametrize("case", BOUNDED)
def test_extremes_keep_to_the_maximum_principle(case):
    pieces, (low, high) = BOUNDED[case]
    ds = sim.simulate(sim.PDE(BOX, **pieces, units={"u": "K"}), "1 + 0.3*sin(9*x + y)", [0.0, 0.05, 0.5])
    assert ds.maximum_principle_u[0] <= 1e-13 and ds.maximum_principle_u.attrs["units"] == "K"
    assert ds.minimum_u[0] == ds.u.min() and ds.maximum_u[0] == ds.u.max()
    assert low - 1e-9 <= ds.minimum_u[0] and ds.maximum_u[0] <= high + 1e-9


def test_an_overshoot_is_measured():
    """Central transport of a step without diffusion wiggles: what leaves [0, 1] is what the certificate says."""
    model = sim.PDE(LINE, diffusivity=1e-5, velocity={"x": 1.0}, boundary={"x": sim.Periodic()})
    ds = sim.simulate(model, "where(abs(x - 0.5) < 0.2, 1, 0)", [0.0, 0.1], method="exact")
    beyond = max(float(ds.u.max()) - 1.0, -float(ds.u.min()))
    assert beyond > 0.05 and ds.maximum_principle_u[0] == pytest.approx(beyond)


@pytest.mark.parametrize("pieces", [
    {"reaction": "u"}, {"velocity": {"x": "x"}}, {"boundary": {"x": sim.Neumann(1.0)}}, {"noise": sim.WhiteNoise(0.1)},
    {"boundary": {"x": (sim.Robin(-1.0, 1.0, 0.0), sim.Neumann())}},
])
def test_no_bound_where_theory_has_none(pieces):
    ds = sim.simulate(sim.PDE(LINE, diffusivity=1.0, **pieces), 1.0, [0.0, 0.01])
    assert "maximum_principle_u" not in ds


def test_certificates_do_not_depend_on_the_block():
    model = sim.PDE(BOX, diffusivity="k*(1 + x)", parameters={"k": 1.0})
    options = {"members": 5, "parameters": {"k": np.linspace(0.5, 2.0, 5)}}
    whole = sim.simulate(model, sim.GaussianField(1.0, 0.3), [0.0, 0.1], **options)
    part = sim.rerun(whole, members=[3])
    for name in ("mass_residual_u", "minimum_u", "maximum_u", "maximum_principle_u", "last_good_time"):
        assert part[name].equals(whole[name].isel(member=[3])), name


@pytest.mark.parametrize("method, dt, tolerance", [
    ("rkl2", 0.002, 0.2), ("ssprk3", 2e-4, 0.05), ("crank_nicolson", 0.004, 0.1), ("backward_euler", 0.002, 0.1),
    ("exact", None, 0.05), ("etdrk4", 0.02, 0.2),
])
def test_richardson_finds_the_error_of_the_step_and_of_the_cells(method, dt, tolerance):
    """∂u/∂t = u_xx + 3u keeps cos 2πx up to a factor. The error in space is that of the eigenvalue, (k⁴Δ²/12)·t·u to
    leading order; that in time is against the same grid's own exponential (RKL2's constant changes with its stages)."""
    n, t = 32, 0.04
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, n)), diffusivity=1.0, reaction="3*u")
    ds = sim.simulate(model, "cos(2*pi*x)", [0.0, t / 2, t], method=method, dt=dt, members=2, certify=True)
    start, k = ds.u.values[0, 0], 2 * np.pi
    discrete = {"exact": k, "etdrk4": k}.get(method, 2 * n * np.sin(k / (2 * n)))
    law = [start * np.exp((3 - discrete**2) * s) for s in (0.0, t / 2, t)]
    step = max(np.sqrt(np.mean((ds.u.values[0, j] - law[j]) ** 2)) for j in range(3))
    cells = max(np.sqrt(np.mean((law[j] - start * np.exp((3 - k * k) * s)) ** 2)) for j, s in enumerate((0, t / 2, t)))
    np.testing.assert_allclose(ds.time_error_u, step, rtol=tolerance, atol=1e-14)
    np.testing.assert_allclose(ds.space_error_u, cells, rtol=0.05, atol=1e-3 * step + 1e-14)
    assert sim.rerun(ds, members=[1]).time_error_u.equals(ds.time_error_u.isel(member=[1]))


@pytest.mark.parametrize("method, options", [
    ("euler_maruyama", {}), ("crank_nicolson", {"dt": 0.01}), ("exact_fv", {}), ("exponential_euler", {"dt": 0.01}),
])
def test_the_runs_that_certify_share_the_noise(method, options):
    """Without drift a field is the integral of its noise: the halves of a step, and the cells of a wide cell, sum to
    what the run itself drew, and nothing is left to err by."""
    model = sim.PDE(BOX, diffusivity=0.0, noise=sim.WhiteNoise(0.7))
    ds = sim.simulate(model, 1.0, [0.0, 0.1], members=2, method=method, certify=True, seed=3, **options)
    assert ds.u.isel(time=1).std() > 0.1
    assert (ds.space_error_u < 1e-13).all() and ("time_error_u" in ds) == (method != "exponential_euler")
    assert method == "exponential_euler" or (ds.time_error_u < 1e-13).all()


def test_certify_knows_its_limits():
    odd = sim.simulate(sim.PDE(sim.Grid(x=(0.0, 1.0, 9)), diffusivity=1.0), 1.0, [0.1], certify=True)
    assert "space_error_u" not in odd and "time_error_u" in odd
    with pytest.raises(ValueError, match="errors of a field"):
        sim.simulate(sim.SDE({"x": "-x"}), {"x": 1.0}, [1.0], certify=True)


def test_what_the_engine_chose_is_said():
    model = sim.PDE(BOX, diffusivity="1 + x", velocity={"x": "40*x*(1 - x)"})
    ds = sim.simulate(model, 1.0, [0.0, 0.02], members=3, method="ars232", dt=0.001, chunks={"member": 2})
    assert ds.attrs["implicit"] == "diffusion" and ds.attrs["steps"] == 20
    assert ds.attrs["advection"] and ds.attrs["solver"] and ds.attrs["discretisation"].startswith("finite volumes")
    one = sim.simulate(model, 1.0, [0.0, 0.02], members=3, method="ars232", dt=0.001)
    assert {k: v for k, v in one.attrs.items() if k != PROVENANCE} == {
        k: v for k, v in ds.attrs.items() if k != PROVENANCE}
