"""The generated field kernels equal the NumPy reference bit by bit: LLVM and CUDA C, in any cut of the members."""

import math
import shutil

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.field_cuda import cuda_body, cuda_source, pair_function
from sdesim.kernels.field_device import Arrays, host_launch, run_ensemble, run_group
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_run import Job, run
from sdesim.methods.field import FIELD_METHODS
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

GRIDS = {1: Grid(x=(0.0, 1.7, 17)), 2: Grid(x=(0.0, 1.7, 17), y=(0.0, 1.3, 13)),
         3: Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 6), z=(0.0, 1.0, 5))}
EDGES = {
    "periodic": lambda axes: {a: Periodic() for a in axes},
    "no flux": lambda axes: None,
    "dirichlet": lambda axes: {a: (Dirichlet(0.3), Dirichlet("k + t")) for a in axes},
    "neumann": lambda axes: {a: (Neumann(0.3), Neumann("sin(t)")) for a in axes},
    "robin": lambda axes: {a: (Robin(1, 2, 0.3), Robin(2, "k", 0.1)) for a in axes},
    "along x": lambda axes: {"x": Periodic(), "y": (Dirichlet("x*t"), Robin(1, 0.5, "x"))},
    "along y": lambda axes: {"y": Periodic(), "x": (Dirichlet("y*t"), Robin(1, 0.5, "y"))},
}
PARAMETERS = {"k": 0.3, "F": 0.04}
OVERRIDES = {"k": np.array([0.1, 0.2, 0.3])}
ARRAYS = {d: np.exp(np.random.default_rng(d).standard_normal(grid.shape)) for d, grid in GRIDS.items()}


def model(name, dimension, edges):
    grid = GRIDS[dimension]
    two = ("u", "v")
    terms = {
        "heat": {"diffusivity": "k"},
        "D(x)": {"diffusivity": "k*(1 + x**2)", "reaction": "sin(3*x)*k - u*x"},
        "D array": {"diffusivity": "K*k", "noise": WhiteNoise("0.1*x + t")},
        "D(u)": {"diffusivity": "2*u**2*k"},
        "D(x, t)": {"diffusivity": "k*(1 + x*x*sin(t)**2)"},
        "Gray-Scott": {"state": two, "diffusivity": {"u": "k", "v": "k/2"},
                       "reaction": {"u": "-u*v**2 + F*(1 - u)", "v": "u*v**2 - (F + 0.06)*v + 0.01*ddx(u)**2"},
                       "noise": {"v": WhiteNoise("0.1*u")}},
        "cross": {"state": two, "diffusivity": {"u": {"u": "k", "v": "0.1*x*k"}, "v": {"v": "k*(1 + u*x)"}}},
        "transport": {"diffusivity": "k", "velocity": {"x": "1 + k"}},
        "v(x)": {"diffusivity": "k", "velocity": {"x": "sin(x)"}},
        "Burgers": {"diffusivity": "k", "velocity": {"x": "u/2"}},
        "functions": {"diffusivity": "k", "reaction": "where(u > 0.5, exp(-u), tanh(u)) + abs(u)**1.3 - max(u, k)"},
        "limited": {"diffusivity": "k", "velocity": {"x": "sin(x) + t - u"}, "advection": "limited"},
        "weno": {"diffusivity": "k", "velocity": {"x": "sin(x) - 0.5"}, "advection": "weno"},
        "ring": {"diffusivity": [["k + u*u", "0.2*k*x"], ["0.2*k*x", "k + x*x"]]},
        "tensor": {"diffusivity": (0.3 * np.eye(dimension) + 0.05).tolist()},
    }[name]
    values = dict(PARAMETERS, K=ARRAYS[dimension]) if name == "D array" else PARAMETERS
    return PDE(grid, boundary=EDGES[edges](grid.axes), parameters=values, **terms)


MODELS = ("heat", "D(x)", "D array", "D(u)", "D(x, t)", "Gray-Scott", "cross", "transport", "v(x)", "Burgers",
          "functions")
BY_TURNS = ("euler", "ssprk3", "rk4", "rkl2", "rkl1", "rkc", "rk45")
CASES = [(2, edges, name) for edges in EDGES for name in MODELS]
CASES += [(1, edges, name) for edges in list(EDGES)[:5] for name in ("heat", "D array", "Gray-Scott", "v(x)")]
CASES += [(3, edges, name) for edges in list(EDGES)[:5] for name in ("D(x)", "Gray-Scott", "Burgers")]
CASES += [(2, "periodic", "tensor"), (3, "periodic", "tensor"), (3, "dirichlet", "limited")]
CASES += [(2, edges, name) for edges in ("periodic", "along x", "along y") for name in ("limited", "weno", "ring")]


def method_of(pde, turn):
    return "euler_maruyama" if pde.noise else BY_TURNS[turn % len(BY_TURNS)]


def initial(pde, members=3):
    return np.random.default_rng(5).random((len(pde.state), members, *pde.grid.shape))


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_kernel_equals_reference(case):
    (dimension, edges, name), turn = case, CASES.index(case)
    pde = model(name, dimension, edges)
    arguments = (pde, method_of(pde, turn), initial(pde), OVERRIDES, [0.0, 0.01, 0.03], None)
    fused, status, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3)
    plain, _, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3, backend="numpy")
    assert not status.any()
    assert np.isfinite(fused).all()
    assert np.array_equal(fused.view(np.uint64), plain.view(np.uint64))


def test_every_method_shares_kernels_between_equal_stages():
    stencil = discretise(model("heat", 2, "robin"))
    counts = {}
    for name, method in FIELD_METHODS.items():
        programs = Programs(stencil, method)
        programs.number(Steps(0.0, 1e-3, 1, (("s", 15),) if method.stages else ()))
        (schedule,) = programs.schedules.values()
        counts[name] = len(schedule.passes), len(programs.kernels), programs.buffers
    # RKL2: first stage, second (its y_{j−2} is y itself), all others; y, f(y) and two stages in memory
    assert counts["rkl2"] == (15, 3, 4)
    assert counts["rkl1"][0] == 15 and counts["rkl1"][2] == 2
    assert counts["euler"] == (1, 1, 2)
    assert counts["ssprk3"][0] == 3
    assert counts["rk4"][0] == 4


def test_numbers_of_another_step_run_the_same_kernel():
    pde = model("heat", 1, "no flux")
    programs = Programs(discretise(pde), FIELD_METHODS["rkl2"])
    for h in (1e-3, 2e-3):
        programs.number(Steps(0.0, h, 1, (("s", 5),)))
    assert len(programs.schedules) == 1
    assert len(programs.entries) == 2
    assert programs.entries[0][1].numbers != programs.entries[1][1].numbers


CUDA = [(2, "along x", "Gray-Scott"), (2, "along y", "D(x, t)"), (2, "robin", "D array"), (2, "neumann", "v(x)"),
        (3, "dirichlet", "D(x)"), (3, "periodic", "tensor"), (1, "dirichlet", "functions"), (1, "robin", "cross"),
        (2, "along y", "limited"), (1, "periodic", "weno"), (2, "along x", "ring")]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_cuda_source_compiled_for_the_host_gives_the_same_bits():
    jobs, source = [], PRELUDE + pair_function()
    for turn, case in enumerate(CUDA):
        pde = model(case[2], *case[:2])
        stencil, method = discretise(pde), FIELD_METHODS[method_of(pde, turn)]
        programs, values = Programs(stencil, method), {**pde.parameters, **OVERRIDES}
        options = [(("s", s),) if method.stages else () for s in (5, 3)]
        plan = [Steps(0.0, 1e-3, 2, options[0]), Steps(2e-3, 2e-3, 3, options[1])]
        for steps in plan:
            programs.number(steps)
        names = Names.of(stencil, tuple(values))
        source += cuda_body(stencil, programs.kernels, names, f"case{turn}_")
        jobs.append((case, stencil, programs, values, names, plan, initial(pde)))
    library, members = compile_for_host(source), np.array([4, 1, 7])
    for turn, (case, stencil, programs, values, names, plan, u) in enumerate(jobs):
        arrays = Arrays(stencil, names, values, members, 0.0)
        cuda = run_group(host_launch(library, f"case{turn}_"), programs, arrays, plan, u, seed=3)
        fused = np.empty((2, *u.shape))
        run(Job(stencil, values, [plan] * 3, programs, u, members, 3, fused), threads=1)
        assert np.array_equal(cuda.view(np.uint64), fused.view(np.uint64)), case


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["Gray-Scott", "D(x, t)"])
def test_cuda_kernels_on_a_device_give_the_same_bits(name):
    pytest.importorskip("cupy")
    pde = model(name, 2, "along x")
    arguments = (pde, method_of(pde, 3), initial(pde), OVERRIDES, [0.0, 0.01, 0.03], None)
    device, _, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3, backend="cuda")
    fused, _, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3)
    assert np.array_equal(device.view(np.uint64), fused.view(np.uint64))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_launcher_groups_members_and_marks_those_that_blow_up():
    pde = PDE(Grid(x=(0.0, 1.0, 9)), diffusivity="k", reaction="r*u**2", parameters={"k": 0.01, "r": 1.0})
    values = {"k": np.array([0.01, 0.02, 0.01, 0.02]), "r": np.array([0.1, 0.1, 1.0, 0.2])}
    u, members, stencil = np.ones((1, 4, 9)), np.arange(4), discretise(pde)
    programs, names = Programs(stencil, FIELD_METHODS["rk4"]), Names.of(stencil, ("k", "r"))
    plans = [[Steps(0.0, h, round(0.5 / h), ()), Steps(0.5, h, round(2.5 / h), ())] for h in (0.05, 0.025, 0.05, 0.05)]
    for steps in {s for plan in plans for s in plan}:
        programs.number(steps)
    library = compile_for_host(cuda_source(stencil, programs.kernels, names))
    out, fused = np.empty((2, 1, 4, 9)), np.empty((2, 1, 4, 9))
    status = run_ensemble(host_launch(library), programs, names, values, plans, u, members, 0, out)
    assert run(Job(stencil, values, plans, programs, u, members, 0, fused), threads=1).tolist() == [0, 0, 1, 0]
    assert status.tolist() == [0, 0, 1, 0]
    assert np.isnan(out[1, 0, 2]).all()
    assert np.array_equal(out, fused, equal_nan=True)


def test_the_source_names_every_kernel():
    stencil = discretise(model("heat", 2, "no flux"))
    programs = Programs(stencil, FIELD_METHODS["rkl2"])
    programs.number(Steps(0.0, 1e-3, 1, (("s", 5),)))
    source = cuda_source(stencil, programs.kernels, Names.of(stencil, ("k", "F")))
    assert [f"KERNEL field{k}(" in source for k in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("name, method", [("D array", "euler_maruyama"), ("D(x)", "rkl2"),
                                          ("Gray-Scott", "euler_maruyama")])
def test_any_cut_of_the_members_gives_the_same_bits(name, method):
    pde = model(name, 2, "dirichlet")
    u, k = initial(pde, 10), np.linspace(0.1, 0.4, 10)
    arguments = {"times": [0.0, 0.01, 0.02], "seed": 11}
    whole = stencil_run(pde, method, u, {"k": k}, members=range(10), **arguments)[0]
    for threads, size in ((1, 3), (2, 10), (3, 7)):
        for first in range(0, 10, size):
            part = slice(first, first + size)
            members = np.arange(10)[part]
            own = stencil_run(pde, method, u[:, part], {"k": k[part]}, members=members, threads=threads, **arguments)[0]
            assert np.array_equal(own.view(np.uint64), whole[:, :, part].view(np.uint64))


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_a_member_that_blows_up_is_marked_and_its_neighbours_are_untouched(backend):
    grid = Grid(x=(0.0, 1.0, 9))
    pde = PDE(grid, diffusivity=0.01, reaction="r*u**2", parameters={"r": 1.0})
    u = np.ones((1, 3, 9))
    times, rate = [0.0, 0.5, 4.0, 5.0], np.array([0.1, 1.0, 0.1])  # u′ = u² from 1 diverges at t = 1
    states, status, _ = stencil_run(pde, "rk4", u, {"r": rate}, times, 0.01, members=[0, 1, 2], backend=backend)
    assert status.tolist() == [0, 1, 0]
    assert np.isfinite(states[:2]).all()
    assert np.isnan(states[2:, :, 1]).all()
    alone, _, _ = stencil_run(pde, "rk4", u[:, :1], {"r": 0.1}, times, 0.01, members=[0], backend=backend)
    assert np.array_equal(states[:, :, 0], alone[:, :, 0])
    assert np.array_equal(states[:, :, 2], alone[:, :, 0])


def test_noise_is_the_same_wherever_saves_lie():
    # four steps in one save interval or in four: the step counter runs on
    pde = PDE(GRIDS[2], diffusivity=0.01, noise=WhiteNoise(0.5))
    arguments = (pde, "euler_maruyama", initial(pde, 1), None)
    one = stencil_run(*arguments, [0.0, 0.5], 0.125, members=[3])[0]
    four = stencil_run(*arguments, [0.0, 0.125, 0.25, 0.375, 0.5], 0.125, members=[3])[0]
    assert np.array_equal(one[-1], four[-1])


def test_input_that_is_wrong_is_refused_before_any_step():
    pde = PDE(GRIDS[1], diffusivity="k", parameters={"k": 0.1})
    noisy = PDE(GRIDS[1], diffusivity=0.1, noise=WhiteNoise("u"))
    u = np.zeros((1, 2, 17))

    def attempt(what, model=pde, method="euler", initial=u, parameters=None, times=(0.0, 1.0), dt=None, **more):
        with pytest.raises(ValueError, match=what):
            stencil_run(model, method, initial, parameters, times, dt, members=[0, 1], **more)

    attempt("no stencil method 'leapfrog'; there are euler", method="leapfrog")
    attempt("multiplicative noise.*euler_maruyama", model=noisy)
    attempt(r"\(1, 2, 17\); got \(1, 1, 17\)", initial=u[:, :1])
    attempt("finite", initial=u + np.nan)
    attempt("rising", times=(0.0, 1.0, 1.0))
    attempt("positive step", dt=-1.0)
    attempt("one value per member", parameters={"k": np.ones(3)})
    attempt("got kappa", parameters={"kappa": 1.0})
    attempt("backend is one of kernel, cuda, numpy", backend="gpu")
    attempt("must not be negative", parameters={"k": -1.0})
    attempt("must not be negative", model=PDE(GRIDS[1], diffusivity="u - 0.1"))
    attempt(r"beyond the stability limit of euler.*0\.05.*rkl2", dt=0.06)
    attempt("not finite", model=PDE(GRIDS[1], diffusivity="1/u"))


def test_the_stability_limit_is_where_the_checkerboard_begins_to_grow():
    pde = PDE(Grid(x=(0.0, 1.0, 16)), diffusivity=1.0, boundary={"x": Periodic()})
    u = np.tile([1.0, -1.0], 8)[None, None]
    limit = 1.0 / (2.0 * 16**2)  # Δ²/2D
    end = stencil_run(pde, "euler", u, None, [0.0, 200 * limit], limit, members=[0])[0][-1]
    assert np.abs(end) == pytest.approx(1.0, abs=1e-10)
    with pytest.raises(ValueError, match="stability limit"):
        stencil_run(pde, "euler", u, None, [0.0, 200 * limit], 1.01 * limit, members=[0])


def test_euler_with_central_transport_is_limited_by_the_drift():
    # the modes of v u_x − D u_xx grow unless h ≤ 2D/v², however fine the grid (on the coarse one Δ²/2D is a hundred times larger)
    D, v = 0.01, 1.0
    pde = PDE(Grid(x=(0.0, 1.0, 64)), diffusivity=D, velocity={"x": v}, boundary={"x": Periodic()})
    u = np.sin(2 * np.pi * pde.grid.coordinates["x"])[None, None]
    arguments = {"members": [0], "advection": "central"}
    limit = 2 * D / v**2
    coarse = PDE(Grid(x=(0.0, 1.0, 5)), diffusivity=D, velocity={"x": v}, boundary={"x": Periodic()})
    with pytest.raises(ValueError, match=f"beyond the stability limit of euler.*{limit:g}"):
        stencil_run(coarse, "euler", u[..., ::13], None, [0.0, 1.0], 1.05 * limit, **arguments)
    states, _, _ = stencil_run(pde, "ssprk3", u, None, [0.0, 1.0], None, **arguments)
    assert np.abs(states[-1, 0, 0] - math.exp(-4 * np.pi**2 * D) * u[0, 0]).max() < 0.01
