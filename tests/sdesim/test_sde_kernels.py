"""The fused kernels and the CUDA source give the bits of the methods' own lines on NumPy arrays, in any cut."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import sdesim as sim
from sdesim.integrate import integrate, save_plan
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_llvm import BLOCK
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find, rows
from sdesim.methods.langevin import is_langevin

MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, 17, 18, 19, 20])
# on the grid, off it, several within one step, in the last step before an odd and an even one, and the start itself
TIMES = 0.3 + 0.07 * np.array([0.0, 0.2, 0.5, 0.9, 1.0, 3.0, 3.0001, 4.75, 5.0, 8.0, 8.3, 8.9999, 11.0, 11.25])
DT, SEED = 0.07, 2**40 + 3


def model(drift, noise, expected, interpretation="ito", **parameters):
    sde = sim.SDE(drift, noise, parameters=parameters, interpretation=interpretation)
    assert sde.noise_type == expected
    return sde


MODELS = {
    "no noise": model({"x": "v", "v": "-sin(x) - 0.1*v"}, {}, "none"),
    "constant": model({"x": 0, "y": 1, "z": "0.0*x"}, {"y": 2}, "additive"),
    "additive": model({"x": "-k*x + sin(3*t)"}, {"x": "s*exp(-t)"}, "additive", k=2.0, s=0.5),
    "shared additive": model(
        {"x": "y", "y": "x - x**3 - g*y"}, {"x": {"a": 0.1, "b": "s"}, "y": {"b": 0.3}}, "additive", g=0.5, s=0.2
    ),
    "scalar": model({"x": "m*x", "y": "-y"}, {"x": {"W": "b*x"}, "y": {"W": "0.3*cos(y)"}}, "scalar", m=0.1, b=0.4),
    "diagonal": model(
        {"x": "y - x", "y": "x*(2 - y)"}, {"x": "0.3*sqrt(1 + x**2)", "y": "q*tanh(y) + 0.1"}, "diagonal", q=0.3
    ),
    "commutative": model(
        {"x": "-x", "y": "-y + x"},
        {s: {"a": f"0.2*{s}", "b": f"0.3*{s}", "c": f"r*{s}"} for s in "xy"},
        "commutative",
        r=0.1,
    ),
    "general": model(
        {"x": "-x", "y": "-y"}, {"x": {"a": "0.4", "b": "0.2*y"}, "y": {"a": "0.3*x*x", "b": "c"}}, "general", c=0.5
    ),
    "functions": model(
        {"x": "where(x > 1, exp(-x), log(2 + x**2)) - min(x, 2)**3 + abs(x)**1.3", "y": "max(sin(x*t), y)*sign(x)/cosh(y)"},
        {"x": "0.2*x**2.5/(1 + x**4)", "y": "where(y < 0 or y > p and not t < 0.4, 0.1*sinh(y), tan(0.1*y)**3)"},
        "diagonal",
        p=0.7,
    ),
    "powers": model({"x": "p**x - x**p + 2**(1/3)*x"}, {"x": "0.1*abs(x)**p"}, "scalar", p=1.4),
    "Langevin": model(
        {"v": "sin(x) - x - (g + 0.1)*v", "x": "v", "y": "w", "w": "-x*y - 0.3*w"},
        {"v": "s", "w": {"a": 0.4, "b": 0.1}}, "additive", g=0.5, s=0.3,
    ),
    "frictionless": model({"x": "v", "v": "-x**3"}, {"v": "0.2"}, "additive"),
    "Stratonovich": model({"x": "-x"}, {"x": "0.3 + 0.4*sin(x)"}, "scalar", "stratonovich"),
    "Hänggi–Klimontovich": model(
        {"x": "-x", "y": "x"}, {"x": {"a": "0.2*y", "b": "0.3"}, "y": {"b": "0.4*x"}}, "general", "hanggi-klimontovich"
    ),
}  # fmt: skip
# every model by the first three methods; every other method on one model of each type of noise, and one that is only
# another tableau or number of stages on a single one
OF_EACH_TYPE = ("shared additive", "scalar", "diagonal", "commutative", "general")
LANGEVIN = ("no noise", "Langevin", "frictionless")
CHOSEN = dict.fromkeys(("euler_maruyama", "milstein", "heun"), tuple(MODELS))
CHOSEN |= dict.fromkeys((m.name for m in rows(("sde",)) if m.requires is is_langevin), LANGEVIN)
CHOSEN |= dict.fromkeys(("sra1", "sra2", "sosra", "sriw2", "sosri", "skrock10", "skrock20"), ("shared additive",))
CHOSEN |= dict.fromkeys(("siea", "weak_euler", "platen_discrete"), ("diagonal",))
CHOSEN |= dict.fromkeys(("smea",), ("scalar", "diagonal"))
CHOSEN |= dict.fromkeys(("srs2", "dri1_discrete", "w2ito1_discrete"), ("general",))
CASES = [
    (method.name, name)
    for method in rows(("sde",))
    for name in CHOSEN.get(method.name, OF_EACH_TYPE)
    if method.refusal(MODELS[name]) is None
]


def parameters(sde, count, varying):
    """Every parameter one number for all, or (the first one) a number of its own for each member."""
    values = dict(sde.parameters)
    for name in list(values)[: 1 if varying else 0]:
        values[name] = values[name] * np.linspace(0.5, 1.5, count)
    return values


def run(method, name, backend, *, members=MEMBERS, times=TIMES, varying=True, cut=slice(None), **options):
    sde = MODELS[name]
    start = np.random.default_rng(3).uniform(0.4, 1.6, (len(sde.states), len(members)))[:, cut]
    values = {k: v[cut] if np.ndim(v) else v for k, v in parameters(sde, len(members), varying).items()}
    return integrate(
        sde, find(method, ("sde",)), start, values, times, DT, seed=SEED, members=members[cut], backend=backend, **options
    )


@pytest.fixture(scope="module")
def references():
    return {case: run(*case, "numpy").states for case in CASES}


def test_the_cases_cover_every_method_and_every_noise_type():
    assert {m for m, _ in CASES} == {m.name for m in rows(("sde",))}
    assert {MODELS[n].noise_type for _, n in CASES} == {"none", "additive", "scalar", "diagonal", "commutative", "general"}


@pytest.mark.parametrize("method, name", CASES)
def test_the_kernel_gives_the_bits_of_the_reference(method, name, references):
    reference = references[method, name]
    assert np.isfinite(reference).all()
    assert np.ptp(reference, axis=0).max() > 0.01  # something moved
    assert np.array_equal(run(method, name, "kernel").states, reference)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    traces = []
    for method, name in CASES:
        varying = frozenset(list(MODELS[name].parameters)[:1])
        traces.append(trace(MODELS[name], find(method, ("sde",)), varying))
    plan = save_plan(TIMES, DT)
    for (method, name), tr, entry in zip(CASES, traces, host_entries(*traces)):
        start = np.random.default_rng(3).uniform(0.4, 1.6, (len(MODELS[name].states), len(MEMBERS)))
        values = parameters(MODELS[name], len(MEMBERS), True)
        common = {"t0": TIMES[0], "h": DT, "due": plan.due, "bridge": plan.bridge, "seed": SEED, "members": MEMBERS}
        assert np.array_equal(run_on_host(entry, tr, start, values, **common), references[method, name]), (method, name)


@pytest.mark.gpu
@pytest.mark.parametrize("method, name", CASES)
def test_the_gpu_gives_the_bits_of_the_reference(method, name, references):
    assert np.array_equal(run(method, name, "cuda").states, references[method, name])


def test_one_number_for_all_gives_the_bits_of_the_same_number_for_each():
    for method, name in (("milstein", "scalar"), ("heun", "general"), ("euler_maruyama", "powers")):
        uniform = run(method, name, "kernel", varying=False).states
        sde, count = MODELS[name], len(MEMBERS)
        start = np.random.default_rng(3).uniform(0.4, 1.6, (len(sde.states), count))
        each = {k: np.full(count, v) for k, v in sde.parameters.items()}
        spread = integrate(sde, find(method, ("sde",)), start, each, TIMES, DT, seed=SEED, members=MEMBERS).states
        assert np.array_equal(uniform, spread)


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 76])
@pytest.mark.parametrize("method, name", [("milstein", "commutative"), ("heun", "general")])
def test_bits_do_not_depend_on_the_cut_the_order_or_the_threads(method, name, count):
    members = 3 + np.arange(count)
    times = TIMES[[0, 2, 4, 9, 11]]
    whole = run(method, name, "kernel", members=members, times=times).states
    for start in {0, 7, BLOCK - 3, count - 5} & set(range(count)):
        cut = slice(start, start + 7)
        assert np.array_equal(run(method, name, "kernel", members=members, times=times, cut=cut).states, whole[..., cut])
    order = np.random.default_rng(0).permutation(count)
    assert np.array_equal(
        run(method, name, "kernel", members=members, times=times, cut=order).states, whole[..., order]
    )
    assert np.array_equal(run(method, name, "kernel", members=members, times=times, threads=2).states, whole)
    assert np.unique(whole[-1, 0]).size == count  # every member has its own path


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_a_save_between_steps_leaves_the_path_alone(backend):
    on_grid = TIMES[[0, 4, 5, 8, 9, 12]]
    few = run("heun", "diagonal", backend, times=on_grid).states
    many = run("heun", "diagonal", backend).states
    assert np.array_equal(many[[0, 4, 5, 8, 9, 12]], few)


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
@pytest.mark.parametrize("method", ["euler_maruyama", "milstein", "heun"])
def test_a_member_that_blows_up_is_marked_and_its_neighbours_keep_their_bits(method, backend):
    sde = sim.SDE({"x": "x**3 - x"}, {"x": "0.1*x"})
    start = np.full((1, 40), 0.5)
    start[0, [3, 17, 39]] = 50.0, -80.0, 1e200
    times = np.array([0.0, 0.05, 1.0])
    result = integrate(
        sde, find(method, ("sde",)), start, {}, times, 0.01, seed=1, members=np.arange(40), backend=backend
    )
    assert np.flatnonzero(result.status).tolist() == [3, 17, 39]
    calm = np.flatnonzero(result.status == 0)
    alone = integrate(sde, find(method, ("sde",)), start[:, calm], {}, times, 0.01, seed=1, members=calm, backend=backend)
    assert np.array_equal(result.states[..., calm], alone.states) and not alone.status.any()


def test_a_million_steps_from_the_start_a_save_on_the_grid_is_still_on_it():
    plan = save_plan(np.array([0.0, 0.1, 1e7, 1e7 + 0.1, 123456789.3]), 0.1)
    assert plan.due.tolist() == [0, 1, 10**8, 10**8 + 1, 1234567893]
    assert not plan.bridge.any()


def test_more_saves_in_one_step_than_there_are_numbers_for_are_refused():
    with pytest.raises(ValueError, match="choose a smaller dt"):
        save_plan(np.linspace(0.0, 1.0, 70_000), 2.0)


def test_kernels_run_from_several_threads_and_processes_at_once():
    code = (
        "import numpy as np, sdesim as sim; from concurrent.futures import ThreadPoolExecutor as P\n"
        "m = [sim.SDE({'x': f'-{k}*x'}, {'x': 'sin(x) + 1'}) for k in range(1, 4)]\n"
        "f = lambda k: float(sim.simulate(m[k], {'x': 1.0}, [1.0], dt=0.1, members=600, seed=2).x.sum())\n"
        "with P(6) as p: a = list(p.map(f, [0, 1, 2] * 3))\n"
        "assert a[:3] == a[3:6] == a[6:]; print(a[:3])\n"
    )
    command = [sys.executable, "-c", code]
    first, second = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    a, b = first.communicate()[0], second.communicate()[0]
    assert first.returncode == second.returncode == 0 and a == b and a.startswith("[")
