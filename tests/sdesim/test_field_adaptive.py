"""Fields whose steps follow their error: orders, stability, tolerances, equal bits on every machine and in any company."""

import shutil

import numpy as np
import pytest
from scipy.integrate import RK45, solve_ivp

import sdesim as sim
from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.grids import Grid
from sdesim.kernels import field_device_free, field_free, field_free_strips
from sdesim.kernels.cuda import compile_for_host
from sdesim.kernels.field_cuda import cuda_source
from sdesim.kernels.field_device import host_launch
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_pairs import Pairs
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods import field_stabilised
from sdesim.methods.field import FIELD_METHODS
from sdesim.methods.field_control import FieldControl
from sdesim.methods.field_stabilised import RKC_STAGES, RKL2_STAGES, rkc, rkc_reach, rkl2_reach
from sdesim.methods.vector import Vector
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

PAIRS = ("rk45", "rkl2", "rkc")
LINE = Grid(x=(0.0, 1.0, 24))
EDGES = {
    "periodic": Periodic(),
    "dirichlet": (Dirichlet("cos(t)*sin(0.3)"), Dirichlet("cos(t)*sin(2.3)")),
    "neumann": (Neumann("-2*cos(t)*cos(0.3)"), Neumann("2*cos(t)*cos(2.3)")),
    "robin": (Robin(1.0, 0.5, "cos(t)*(sin(0.3) - cos(0.3))"), Robin(2.0, 1.0, "cos(t)*(2*sin(2.3) + 2*cos(2.3))")),
}


def manufactured(edge, grid=LINE):
    """u = cos(t) g(x) under ∂u/∂t = ∂(D ∂u) + source, D = 1 + x(1−x)/2."""
    a, b = ("2*pi", "0") if edge == "periodic" else ("2", "0.3")
    g, g1, g2 = f"sin({a}*x + {b})", f"({a})*cos({a}*x + {b})", f"(-({a})**2*sin({a}*x + {b}))"
    source = f"-sin(t)*{g} - cos(t)*((0.5 - x)*{g1} + (1 + 0.5*x*(1 - x))*{g2})"
    model = PDE(grid, diffusivity="1 + 0.5*x*(1 - x)", reaction=source, boundary={"x": EDGES[edge]})
    x = grid.coordinates["x"]
    return model, np.sin((2 * np.pi if edge == "periodic" else 2) * x + float(b))[None, None]


def truth(model, u, times, parameters=None, method="DOP853", rtol=1e-12):
    """The discrete model's solution by SciPy: what is left is the error in time."""
    stencil, shape = discretise(model), u.shape
    own = {**model.parameters, **(parameters or {})}
    reference = Reference(stencil, own, {name: v[0] for name, v in static_arrays(stencil, own).items()})

    def rate(t, y):
        return np.concatenate([np.ravel(f * np.ones(shape[1:])) for f in reference.f(t, Vector(y.reshape(shape)))])

    run = solve_ivp(rate, (times[0], times[-1]), u.ravel(), method=method, t_eval=times, rtol=rtol, atol=0.1 * rtol)
    return run.y.T.reshape(len(times), *shape)


def solve(model, method, u, times, dt=None, parameters=None, **more):
    u = np.asarray(u, float)
    return stencil_run(model, method, u, parameters, times, dt, members=np.arange(u.shape[1]), **more)


@pytest.mark.parametrize("edge", list(EDGES))
def test_orders_in_time_at_every_kind_of_edge(edge):
    # the same number of stages in each; RK45 from its limit on, where also the stiff modes' errors fall, faster than h⁵
    model, u = manufactured(edge)
    exact = truth(model, u[:, 0], [0.0, 0.03])[-1]
    for method, counts in (("rk45", (27, 39)), ("rkc", (96, 192)), ("rkl2", (48, 96))):
        errors = [np.abs(solve(model, method, u, [0.0, 0.03], 0.03 / n)[0][-1, :, 0] - exact).max() for n in counts]
        order = np.log(errors[0] / errors[1]) / np.log(counts[1] / counts[0])
        assert order > 4.8 if method == "rk45" else abs(order - 2.0) < 0.2, (method, order)


def test_dormand_and_princes_tableau_is_scipys():
    ours = np.zeros((6, 6))
    for i, row in enumerate(field_stabilised._A):
        ours[i, : len(row)] = row
    np.testing.assert_allclose(ours[:5, :5], RK45.A[1:], rtol=1e-15)
    np.testing.assert_allclose(field_stabilised._A[-1], RK45.B, rtol=1e-15)
    np.testing.assert_allclose(field_stabilised._C[:4], RK45.C[1:5], rtol=1e-15)
    np.testing.assert_allclose(field_stabilised._E, -np.array(RK45.E), rtol=1e-13)


def test_orders_of_the_methods_where_nothing_is_stiff():
    # a nonlinear reaction without diffusion, its rate changing with time: order 5 shows
    model = PDE(LINE, diffusivity=0.0, reaction="u*cos(t) - u*u")
    u = (0.3 + LINE.coordinates["x"])[None, None]
    exact = truth(model, u[:, 0], [0.0, 2.0])[-1]
    for method, counts in (("rk45", (24, 48, 96)), ("rkc", (64, 128, 256)), ("rkl2", (64, 128, 256))):
        errors = [np.abs(solve(model, method, u, [0.0, 2.0], 2.0 / n)[0][-1, :, 0] - exact).max() for n in counts]
        orders = np.log2(np.divide(errors[:-1], errors[1:]))
        assert abs(orders[-1] - FIELD_METHODS[method].order) < 0.3, (method, orders)


class Linear:
    def __init__(self, z):
        self.z = z

    def f(self, t, y):
        return y * self.z


@pytest.mark.parametrize("s", [2, 3, 5, 9, 15])
def test_rkc_has_order_two_with_any_number_of_stages(s):
    # y' = −(1 + cos t) y: exact exp(−t − sin t); the explicit time tests the stage times c_j
    class Model:
        def f(self, t, y):
            return -(1.0 + np.cos(t)) * y

    errors = []
    for n in (32, 64):
        y = 1.0
        for k in range(n):
            y = FIELD_METHODS["rkc"].step(Model(), k * 2.0 / n, y, 2.0 / n, None, s=s)
        errors.append(abs(y - np.exp(-2.0 - np.sin(2.0))))
    assert abs(np.log2(errors[0] / errors[1]) - 2.0) < 0.2


@pytest.mark.parametrize("s", [2, 3, 4, 9, 50, 254])
def test_rkc_is_stable_and_damped_within_its_reach(s):
    reach = rkc_reach(s)
    z = np.linspace(-reach, 0.0, 20001)
    factor = np.abs(rkc(Linear(z), 0.0, np.ones_like(z), z, 1.0, s))
    assert factor.max() <= 1.0 + 1e-12
    assert factor[z < -2.0 - 0.1 * reach].max(initial=0.0) < 1.0 - 2 / 39 + 0.01  # 1 − ε/3, ε = 2/13
    beyond = np.linspace(1.0, 1.6, 400) * reach
    assert np.abs(rkc(Linear(-beyond), 0.0, np.ones_like(beyond), -beyond, 1.0, s)).max() > 1.0
    assert reach == pytest.approx(0.6534 * (s * s - 1), rel=0.03)  # ⅔ (s² − 1)(1 − 2ε/15): eq. 2.7


def test_stages_are_chosen_within_reach():
    for stages, reach, odd in ((RKL2_STAGES, rkl2_reach, True), (RKC_STAGES, rkc_reach, False)):
        assert all(a < b <= max(a + 2, 1.13 * a + 1) for a, b in zip(stages[:-1], stages[1:]))
        assert all(s % 2 for s in stages) or not odd
        assert all(reach(a) < reach(b) for a, b in zip(stages[:-1], stages[1:]))


@pytest.mark.parametrize("method", PAIRS)
def test_each_right_hand_side_is_one_pass_and_all_stages_share_kernels(method):
    embedded = FIELD_METHODS[method].embedded
    square = Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8))
    for model, states in ((PDE(square, diffusivity="1 + u"), 1), (sim.equations.gray_scott(square), 2)):
        pairs = Pairs(discretise(model), embedded, FieldControl(1e-3, (1e-6,) * states))
        known = len(pairs.kernels)
        for k, (_, evaluations, _) in enumerate(embedded.rungs[:12]):
            schedule = pairs.rung(k).schedule
            assert len(schedule.passes) == evaluations + 1  # the first stage, from the slope at hand, reads no neighbour
            looks = [any(any(n) for _, n in loads(p)) for p in schedule.passes]
            assert looks == [False] + [True] * evaluations
            assert not set(schedule.final) & set(range(2 * states))  # a step that is refused is undone
        assert len(pairs.kernels) == known


@pytest.mark.parametrize("name", ["D(u)", "Gray-Scott", "without slope", "limited"])
def test_steps_of_many_stages_are_those_of_their_trace(name):
    for method, rungs in (("rkl2", (6, 9)), ("rkc", (6, 7, 12))):
        embedded = FIELD_METHODS[method].embedded
        pairs = Pairs(discretise(BITS[name]), embedded, FieldControl(1e-3, (1e-4,) * 3))
        for k in rungs:
            traced, made = pairs._trace(embedded.rungs[k][2]), pairs._longer(k)
            if made is None:  # buffers of derived fields take more turns to come round
                assert name == "limited"
                continue
            assert made.schedule == traced.schedule
            assert np.array_equal(made.factors, traced.factors)
            assert np.array_equal(made.scaled, traced.scaled)


def loads(one):
    from sdesim.calculus import walk

    return [n.value for n in walk(one.kernel.graphs) if n.op == "load" and n.value[0].startswith("@")]


SMOOTH = {
    "heat": (manufactured("dirichlet")[0], manufactured("dirichlet")[1], 1.0),
    "porous medium": (PDE(LINE, diffusivity="0.1 + u", boundary={"x": Neumann(0.0)}),
                      np.exp(-8.0 * (LINE.coordinates["x"] - 0.3) ** 2)[None, None], 0.3),
    "Fisher": (PDE(LINE, diffusivity=0.02, reaction="10*u*(1 - u)"),
               np.exp(-60.0 * LINE.coordinates["x"] ** 2)[None, None], 0.6),
    "Burgers": (PDE(LINE, diffusivity=0.05, velocity={"x": "u/2"}, boundary={"x": Periodic()}, advection="central"),
                np.sin(2 * np.pi * LINE.coordinates["x"])[None, None], 0.4),
}


@pytest.mark.parametrize("name", list(SMOOTH))
def test_the_error_is_proportional_to_the_tolerance(name):
    # over three decades it stays the same part of it: the pair errs with h^q, and so does the solution
    model, u, end = SMOOTH[name]
    times = [0.0, 0.4 * end, end]
    exact = truth(model, u[:, 0], times, method="Radau", rtol=1e-9)
    for method in ("rkl2", "rkc"):
        parts = []
        for tolerance in (1e-2, 1e-3, 1e-4, 1e-5):
            control = FieldControl(tolerance, (0.1 * tolerance,))
            states, status, notes = solve(model, method, u, times, control=control)
            assert not status.any()
            assert notes["rejected_steps"][0] <= 0.05 * notes["steps"][0] + 2
            parts.append(np.max(np.abs(states[:, :, 0] - exact) / (tolerance * (0.1 + np.abs(exact)))))
        assert min(parts) > 0.005, (method, parts)
        assert max(parts) < min(3.5 * min(parts), 2.0), (method, parts)


def test_dormand_and_princes_error_follows_the_tolerance():
    # where stability does not shorten the steps
    model = PDE(LINE, diffusivity=1e-4, reaction="4*u*(1 - u)*(1 + 0.5*sin(5*t))")
    u = (0.01 + 0.1 * LINE.coordinates["x"])[None, None]
    exact, parts, work = truth(model, u[:, 0], [0.0, 2.0]), [], []
    for tolerance in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        states, _, notes = solve(model, "rk45", u, [0.0, 2.0], control=FieldControl(tolerance, (0.1 * tolerance,)))
        parts.append(np.max(np.abs(states[:, :, 0] - exact) / (tolerance * (0.1 + np.abs(exact)))))
        work.append(int(notes["right_sides"][0]))
    assert 0.01 < min(parts) < max(parts) < 0.5, parts
    assert all(a < b < 2.2 * a for a, b in zip(work[:-1], work[1:])), work  # 10^{1/5} = 1.6


# --- equal bits


SQUARE = Grid(x=(0.0, 1.0, 13), y=(0.0, 1.3, 9))
MIXED = {"x": (Dirichlet("sin(3*t) + y"), Robin(1, 2, 0.3)), "y": Periodic()}
BITS = {
    "D(u)": PDE(SQUARE, diffusivity="k*(0.2 + u*u)", boundary=MIXED, parameters={"k": 1.0}),
    "Gray-Scott": PDE(SQUARE, state=("u", "v"), diffusivity={"u": "k/50", "v": 0.01}, parameters={"k": 1.0},
                      reaction={"u": "-u*v*v + 0.04*(1 - u)", "v": "u*v*v - 0.1*v"}),
    "limited": PDE(SQUARE, diffusivity=0.002, velocity={"x": "u/2", "y": "sin(x) + t"}, parameters={"k": 1.0},
                   boundary=MIXED, advection="limited", reaction="k - u"),
    "without slope": PDE(SQUARE, state=("u", "w", "c"), diffusivity={"u": "k"}, parameters={"k": 1.0},
                         reaction={"u": "-w*u", "w": "u - w"}),
    "a box": PDE(Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 6), z=(0.0, 1.0, 5)), diffusivity="k*(1 + x*u**2)",
                 parameters={"k": 1.0}),
    "a pulse": PDE(LINE, diffusivity="k*0.001", reaction="2000*exp(-((t - 0.006)*1e4)**2)*u", parameters={"k": 1.0}),
    "a line": PDE(LINE, diffusivity="k*(1 + t)", boundary={"x": Dirichlet("cos(t)")}, parameters={"k": 1.0}),
}
K = np.array([0.5, 1.0, 2.0])


def start(model, members=3):
    return np.random.default_rng(3).random((len(model.state), members, *model.grid.shape))


def run(model, method, u, places, backend="kernel", **more):
    control = FieldControl(1e-3, (1e-4,) * len(model.state))
    states, status, notes = stencil_run(model, method, u[:, places], {"k": K[places]}, [0.0, 0.004, 0.01],
                                        members=np.arange(3)[places], backend=backend, control=control, **more)
    assert not status.any()
    return states.view(np.uint64), np.stack([notes[n] for n in ("steps", "rejected_steps", "right_sides")])


@pytest.mark.parametrize("name", list(BITS))
def test_reference_and_kernel_take_the_same_steps_and_have_the_same_bits(name):
    model = BITS[name]
    for method in PAIRS:
        ours, counts = run(model, method, start(model), slice(0, 2))
        plain, expected = run(model, method, start(model), slice(0, 2), backend="numpy")
        assert np.array_equal(counts, expected), (method, counts, expected)
        assert np.array_equal(ours, plain), method
        assert counts[0].min() > 2
        assert counts[1].min() > 1 or name != "a pulse"  # refused steps, and those after them


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["D(u)", "without slope", "limited"])
def test_the_cuda_source_on_the_host_takes_the_same_steps(name, monkeypatch):
    def on_host(task):
        names = Names.of(task.stencil, tuple(task.parameters))
        launch = host_launch(compile_for_host(cuda_source(task.stencil, task.pairs.kernels, names)))
        for m in range(len(task.members)):
            field_free.follow(task, m, field_device_free.OnDevice(task, m, launch, names, np))

    monkeypatch.setattr(field_device_free, "run_on_device", on_host)
    model = BITS[name]
    ours, counts = run(model, "rkc", start(model), slice(0, 2), backend="cuda")
    kernel, expected = run(model, "rkc", start(model), slice(0, 2))
    assert np.array_equal(counts, expected)
    assert np.array_equal(ours, kernel)


@pytest.mark.parametrize("name", ["D(u)", "a line"])
def test_a_member_takes_its_own_steps_in_any_company(name):
    model = BITS[name]
    u = start(model)
    whole, counts = run(model, "rkc", u, slice(None), threads=2)
    assert len(set(counts[0].tolist())) > 1
    for m in range(3):
        alone, own = run(model, "rkc", u, slice(m, m + 1))
        assert np.array_equal(alone[:, :, 0], whole[:, :, m])
        assert np.array_equal(own[:, 0], counts[:, m])


@pytest.mark.parametrize("edge", [Periodic(), Dirichlet(0.3)])
def test_a_large_grid_in_strips_has_the_same_bits(edge, monkeypatch):
    monkeypatch.setattr(field_free_strips, "DIVISIBLE", 1)
    cut = []
    monkeypatch.setattr(field_free_strips.Strips, "save", lambda self, k, save=field_free_strips.Strips.save:
                        (save(self, k), cut.append(len(self.strips))))
    grid = Grid(x=(0.0, 1.0, 64), y=(0.0, 1.0, 70))
    model = PDE(grid, diffusivity="1 + u", boundary={"x": Neumann(0.1) if edge != Periodic() else edge, "y": edge})
    u = np.cos(4 * np.pi * grid.mesh["x"]) ** 2 * np.cos(2 * np.pi * grid.mesh["y"]) ** 2
    arguments = (model, "rkc", u[None, None], [0.0, 1e-4, 2e-3])
    control = FieldControl(1e-2, (1e-2,))
    whole, _, counts = solve(*arguments, control=control)
    strips, _, others = solve(*arguments, control=control, threads=2)
    assert np.array_equal(whole.view(np.uint64), strips.view(np.uint64))
    assert counts["right_sides"] == others["right_sides"]
    assert cut == [2, 2]


def test_more_stages_than_were_foreseen_are_traced_on_the_way():
    # a smooth field on fine cells: the longest steps want fifty stages and more
    grid = Grid(x=(0.0, 1.0, 120))
    u = np.cos(np.pi * grid.coordinates["x"])[None, None]
    rate = 4 * 120**2 * np.sin(np.pi / 240) ** 2
    for method in ("rkl2", "rkc"):
        states, _, notes = solve(PDE(grid, diffusivity=1.0), method, u, [0.0, 0.2], control=FieldControl(1e-2, (1e-3,)))
        assert notes["right_sides"][0] > 15 * notes["steps"][0]
        assert np.abs(states[-1, 0, 0] - np.exp(-rate * 0.2) * u[0, 0]).max() < 2e-3


# --- members that fail, and what is refused


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_a_member_that_no_step_is_small_enough_for_is_marked(backend):
    # u' = r u² from 1 is infinite at 1/r; the other member is as it is alone
    model = PDE(Grid(x=(0.0, 1.0, 5)), diffusivity=1.0, reaction="r*u**2", parameters={"r": 1.0})
    u, control = np.ones((1, 2, 5)), FieldControl(1e-4, (1e-6,))
    states, status, notes = stencil_run(model, "rk45", u, {"r": np.array([1.0, 0.1])}, [0.0, 0.5, 2.0, 3.0],
                                        members=[0, 1], control=control, backend=backend)
    assert status.tolist() == [2, 0]
    assert np.isfinite(states[:2]).all()
    assert np.isnan(states[2:, :, 0]).all()
    np.testing.assert_allclose(states[:, 0, 1, 0], 1.0 / (1.0 - 0.1 * np.array([0.0, 0.5, 2.0, 3.0])), rtol=1e-4)
    ds = sim.simulate(model, 1.0, [0.5, 2.0], rtol=1e-4, parameters={"r": 1.0}, method="rkc")
    assert ds.status.item() == 2
    assert ds.last_good_time.item() == 0.5
    assert ds.u.isel(time=1).equals(ds.u.isel(time=0).assign_coords(time=2.0)) or np.isfinite(ds.u).all()


def test_through_the_front_door():
    grid = Grid(x=(0.0, 1.0, 16))
    model = PDE(grid, diffusivity="0.1 + k*u", boundary={"x": Dirichlet(1.0)}, parameters={"k": 1.0})
    ds = sim.simulate(model, "exp(-4*x)", [0.01, 0.1], parameters={"k": K}, members=3, rtol=1e-4, atol=1e-5)
    assert ds.attrs["method"] == "rkc"
    assert "changes with the state" in ds.attrs["method_reason"]
    assert {"steps", "rejected_steps", "right_sides"} <= set(ds.data_vars)
    assert (ds.right_sides > ds.steps).all()
    again = sim.rerun(ds, members=[1])
    assert again.u.equals(ds.u.isel(member=[1]))
    assert sim.simulate(model, "exp(-4*x)", [0.01, 0.1], parameters={"k": K}, members=3, rtol=1e-4, atol=1e-5,
                        chunks={"member": 2}, device="reference").u.equals(ds.u)  # fmt: skip
    for m in range(3):
        exact = truth(model, np.exp(-4 * grid.coordinates["x"])[None], [0.0, 0.01, 0.1], {"k": K[m]}, "Radau", 1e-9)
        error = np.abs(ds.u.values[m] - exact[1:, 0]) / (1e-5 + 1e-4 * exact[1:, 0])
        assert error.max() < 1.0
    checked = sim.simulate(model, "exp(-4*x)", [0.01, 0.1], rtol=1e-4, atol=1e-5, certify=True)
    actual = np.sqrt(np.mean((checked.u.values[0] - truth(model, np.exp(-4 * grid.coordinates["x"])[None],
                                                           [0.0, 0.01, 0.1], method="Radau", rtol=1e-9)[1:, 0]) ** 2, axis=1)).max()
    assert checked.time_error_u.item() == pytest.approx(actual, rel=0.3)


def test_which_method_is_chosen_and_why():
    def chosen(model, **more):
        ds = sim.simulate(model, 0.5, [0.0, 1.0], **more)
        return ds.attrs["method"], ds.attrs["method_reason"]

    fine = PDE(Grid(x=(0.0, 1.0, 100)), diffusivity="1 + x", reaction="u*(1 - u)")
    coarse = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity="0.01*(1 + x)", reaction="u*(1 - u)")
    plain = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity=1.0)
    assert chosen(fine, rtol=1e-3)[0] == "rkc"
    assert "stiff" in chosen(fine, rtol=1e-3)[1]
    name, reason = chosen(coarse, rtol=1e-3)
    assert (name, "not stiff" in reason) == ("rk45", True)
    name, reason = chosen(plain, rtol=1e-3)
    assert (name, "no error in time" in reason) == ("exact", True)
    assert sim.methods().loc[["rk45", "rkl2", "rkc", "euler"], "adaptive"].tolist() == ["none", "none", "none", ""]


def test_what_is_refused():
    model = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity="1 + x")
    noisy = PDE(Grid(x=(0.0, 1.0, 8)), diffusivity=1.0, noise=sim.WhiteNoise(0.1))
    for what, arguments in (("independent of it", {"model": noisy}), ("use one of rk45, rkl2, rkc", {"method": "euler"}),
                            ("rtol is a number from 0 to 1", {"rtol": 2.0}), ("atol is needed", {"rtol": 0.0}),
                            ("one for each of the states u", {"atol": {"v": 1.0}}), ("dt is a positive", {"dt": -1.0})):
        call = {"model": model, "initial": 0.0, "times": [0.0, 1.0], "rtol": 1e-3} | arguments
        with pytest.raises(ValueError, match=what):
            sim.simulate(**call)


def test_fewer_right_hand_sides_than_euler_at_equal_error():
    # a stiff diffusion at 128 cells with a front that is met by short steps at first
    grid = Grid(x=(0.0, 1.0, 128))
    model = PDE(grid, diffusivity="1 + 0.5*x", boundary={"x": (Dirichlet(0.0), Dirichlet(2.0))})
    u, times = np.ones((1, 1, 128)), [0.0, 0.05]
    exact = truth(model, u[:, 0], times, method="Radau", rtol=1e-9)[-1, 0]
    euler, _, notes = solve(model, "euler", u, times)
    error = np.abs(euler[-1, 0, 0] - exact).max()
    for method in ("rkl2", "rkc"):
        states, _, ours = solve(model, method, u, times, control=FieldControl(0.0, (20 * error,)))
        assert np.abs(states[-1, 0, 0] - exact).max() < error, method
        assert notes["steps"] > 3 * ours["right_sides"][0], (notes["steps"], ours)


# --- references by SciPy


SMALL = Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 10))
REFERENCES = {
    "heat": (PDE(SMALL, diffusivity="1 + x", boundary={"x": Dirichlet("cos(t)")}), "cos(pi*x)", 0.1),
    "Gray-Scott": (sim.equations.gray_scott(Grid(x=(0.0, 0.2, 12), y=(0.0, 0.2, 10))),
                   {"u": "1 - 0.5*exp(-500*((x - 0.1)**2 + (y - 0.1)**2))", "v": "0.25*exp(-500*((x - 0.1)**2))"}, 20.0),
    "porous medium": (PDE(Grid(x=(-4.0, 4.0, 50)), diffusivity="2*u"), "max(1 - x**2/12, 0)", 1.0),
    "Burgers": (PDE(Grid(x=(0.0, 1.0, 40)), diffusivity=0.03, velocity={"x": "u/2"}, boundary={"x": Periodic()}),
                "sin(2*pi*x)", 0.3),
    "a tensor": (PDE(SMALL, diffusivity=[["1 + x", "0.5"], ["0.5", "1"]]), "cos(pi*x)*cos(2*pi*y)", 0.05),
    "a sphere": (PDE(sim.SphereGrid(lat=8, lon=12), diffusivity="1 + 0.3*sin(lat*pi/180)"), "sin(lat*pi/180)", 0.1),
}


@pytest.mark.parametrize("name", list(REFERENCES))
@pytest.mark.filterwarnings("ignore::sdesim.AccuracyWarning")
def test_references_by_scipy_agree_with_ours_to_the_tolerance(name):
    model, initial, end = REFERENCES[name]
    def solution(method, rtol):
        ds = sim.simulate(model, initial, [0.5 * end, end], method=method, rtol=rtol, atol=0.1 * rtol)
        return np.stack([ds[state].values for state in model.state]), ds

    bdf, ds = solution("bdf", 1e-7)
    assert "scipy.integrate.BDF" in ds.attrs["solver"]
    assert "reference" in ds.attrs["solver"]
    assert "rejected_steps" not in ds
    radau, rkc = solution("radau", 1e-7)[0], solution("rkc", 1e-4)[0]
    assert np.abs(bdf - radau).max() < 2e-6
    assert np.abs(bdf - rkc).max() < 1e-4
    assert np.abs(bdf[:, 0, 1] - bdf[:, 0, 0]).max() > 1e-3  # something happens


@pytest.mark.parametrize("name", ["heat", "Gray-Scott", "porous medium", "a tensor", "limited"])
def test_scipy_is_told_every_entry_of_the_jacobian(name):
    from sdesim.kernels.field_scipy import pattern

    model = BITS[name] if name in BITS and name != "Gray-Scott" else REFERENCES[name][0]
    stencil = discretise(model)
    statics = {key: v[0] for key, v in static_arrays(stencil, model.parameters).items()}
    reference, shape = Reference(stencil, model.parameters, statics), (len(model.state), *model.grid.shape)
    u = np.random.default_rng(1).random(shape)

    def rate(y):
        return np.ravel([np.zeros(shape[1:]) + f for f in reference.f(0.3, Vector(y.reshape(shape)))])

    base, known = rate(u.ravel()), pattern(stencil).toarray()
    for j in range(u.size):
        moved = u.ravel().copy()
        moved[j] += 1e-3
        assert not np.any((rate(moved) != base) & ~known[:, j]), j
    assert known.mean() < 0.6


def test_a_reference_without_tolerances_and_one_that_fails():
    ds = sim.simulate(REFERENCES["porous medium"][0], "max(1 - x**2/12, 0)", [0.1], method="bdf", members=2)
    assert ds.u.isel(member=0).equals(ds.u.isel(member=1).assign_coords(member=0))
    assert sim.rerun(ds, members=[1]).u.equals(ds.u.isel(member=[1]))
    burst = PDE(Grid(x=(0.0, 1.0, 5)), diffusivity=1.0, reaction="u**2")
    ds = sim.simulate(burst, 1.0, [0.5, 2.0], method="bdf")
    assert ds.status.item() == 2
    assert ds.last_good_time.item() == 0.5
    with pytest.raises(ValueError, match="bdf has no CUDA source"):
        sim.simulate(burst, 1.0, [0.5], method="bdf", device="cuda")
