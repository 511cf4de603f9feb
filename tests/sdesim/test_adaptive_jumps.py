"""Jumps beside steps that follow an error estimate: laws, the path, equal bits on every machine, and refusals."""

import shutil

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm

import sdesim as sim
from sdesim.integrate_adaptive import integrate_adaptive, save_points
from sdesim.kernels.sde_adaptive_cuda import adaptive_on_host, launch
from sdesim.kernels.sde_hazard import first_events, with_hazard
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.methods.adaptive import control

N = 20_000


def run(model, initial, times, **options):
    return sim.simulate(model, initial, times, **{"members": N, "seed": 2, "rtol": 1e-2, **options})


def test_a_compound_poisson_process_has_its_characteristic_function_at_any_time():
    rate, model = 3.0, sim.SDE({"x": 0.2}, {"x": 0.3}, jumps={"x": sim.Jump(3.0, stats.expon(scale=0.5))})
    ds = run(model, {"x": 0.0}, [0.1, 0.25, 2.0], dt=0.5)
    for t in ds.time.values:
        for k in (0.5, 1.5, 4.0):
            exact = np.exp(t * (0.2j * k - 0.5 * (0.3 * k) ** 2 + rate * (1 / (1 - 0.5j * k) - 1)))
            found = np.mean(np.exp(1j * k * ds.x.sel(time=t).values))
            assert abs(found - exact) < 4 * np.sqrt((1 - abs(exact) ** 2) / N)
    step = ds.x.values[:, 1] - ds.x.values[:, 0]  # two saves within one root step: independent increments
    assert abs(np.corrcoef(step, ds.x.values[:, 0])[0, 1]) < 4 / np.sqrt(N)


def test_moments_of_a_rate_that_depends_on_the_state_are_met_as_the_tolerance_falls():
    # dx = a x dt + b x dW + c dN at the rate p + q x: linear equations for the moments
    a, b, c, p, q, x0 = -2.0, 0.3, 0.5, 2.0, 1.0, 3.0
    model = sim.SDE({"x": f"{a}*x"}, {"x": f"{b}*x"}, jumps={"x": sim.Jump(f"{p} + {q}*x", c)})
    A = np.array([[0, 0, 0], [c * p, a + c * q, 0], [c * c * p, 2 * c * p + c * c * q, 2 * a + b * b + 2 * c * q]])
    for tol, allowed in ((3e-2, 0.03), (2e-3, 0.002)):
        ds = run(model, {"x": x0}, [0.37, 1.0], dt=1.0, rtol=tol)
        for t in (0.37, 1.0):
            exact, x = (expm(A * t) @ [1.0, x0, x0**2])[1:], ds.x.sel(time=t).values
            for k, power in enumerate((x, x * x)):
                assert abs(power.mean() - exact[k]) < 4 * power.std() / np.sqrt(N) + allowed * exact[k], (tol, t, k)


def test_events_come_when_the_integral_of_their_rate_says():
    # none at the rate k W² with probability E exp(−k ∫ W²) = cosh(√(2k) T)^{−½} (Cameron & Martin)
    model = sim.SDE({"x": 0, "n": 0, "m": 0}, {"x": 1}, jumps={"n": sim.Jump("2*x*x", 1), "m": sim.Jump(5.0, 1)})
    times = [0.3, 0.77, 1.5]
    ds = run(model, {"x": 0.0, "n": 0.0, "m": 0.0}, times, dt=0.5, rtol=3e-3)
    none = np.cosh(2.0 * np.array(times)) ** -0.5
    assert np.mean(ds.n.values == 0, axis=0) == pytest.approx(none, abs=4 * 0.5 / np.sqrt(N))
    for j, t in enumerate(times):  # as many of the other kind as there should be, whatever the first does
        law = stats.poisson.pmf(np.arange(25), 5 * t)
        found = np.bincount(ds.m.values[:, j].astype(int), minlength=25)[:25]
        seen = law * N > 5
        assert stats.chi2.sf(np.sum((found - N * law)[seen] ** 2 / (N * law[seen])), seen.sum() - 1) > 1e-3


def test_the_path_is_that_of_a_run_without_jumps():
    drift, noise, times = {"w": 0, "x": "w", "n": 0}, {"w": 1}, [0.5, 0.8, 3.0]
    ds = run(sim.SDE(drift, noise, jumps={"n": sim.Jump(6.0, 1)}), dict.fromkeys(drift, 0.0), times, dt=0.5, members=100, method="sra1")
    W = sim.brownian(2, 100, times, dt=0.5, adaptive=True).values[0]
    assert ds.w.values == pytest.approx(W, abs=1e-12) and 14 < ds.n.values[:, 2].mean() < 22


SEED = 2**40 + 3
MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, *range(17, 37)])
TIMES = 0.3 + 0.25 * np.array([0.0, 0.2, 0.5, 0.5001, 1.0, 2.75, 4.1, 4.1000001, 5.0, 5.3])
MODELS = {
    "price": (sim.SDE({"S": "c*S"}, {"S": "0.2*S"}, parameters={"c": 0.05},
                      jumps={"S": sim.Jump(3.0, "S*(exp(0.15*z - 0.1) - 1)")}), "milstein", 1e-2),
    "two": (sim.SDE({"x": "-x", "y": "sin(9*t) - y"}, {"x": {"a": 0.4}, "y": {"a": 0.3, "b": "c"}}, parameters={"c": 0.5},
                    jumps={"y": sim.Jump("1 + t", stats.norm(0.1, 0.2)),
                           "both": sim.Jump("2 + 2*tanh(x)**2", {"x": "0.9*z - u*t", "y": "0.2*w*x"}, marks={"w": stats.expon()})}),
            "sra1", 1e-2),
}  # fmt: skip


def setting(name):
    model, way, tol = MODELS[name]
    start = np.random.default_rng(3).uniform(0.5, 1.2, (len(model.states), len(MEMBERS)))
    how = control(model, find(way, ("sde",)), 0.0, (*(tol,) * len(start), 1e-3))
    values = {"c": model.parameters["c"] * np.linspace(0.5, 1.5, len(MEMBERS))}
    return with_hazard(model), find(way, ("sde",)), np.vstack([start, first_events(SEED, MEMBERS)]), values, how


def states(name, backend, cut=slice(None)):
    model, method, start, values, how = setting(name)
    return integrate_adaptive(model, method, start[:, cut], {"c": values["c"][cut]}, TIMES, 0.25, how, seed=SEED,
                              members=MEMBERS[cut], backend=backend)  # fmt: skip


@pytest.fixture(scope="module")
def references():
    return {name: states(name, "numpy") for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_the_kernel_gives_the_bits_of_the_reference_in_any_cut(name, references):
    reference = references[name]
    assert not reference.status.any() and (reference.steps[1] > 20).sum() > 20  # most have an event
    for cut in (slice(None), slice(5, 12)):
        found = states(name, "kernel", cut)
        assert np.array_equal(found.states, reference.states[..., cut]) and np.array_equal(found.steps, reference.steps[:, cut])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    settings = {name: setting(name) for name in MODELS}
    traces = [trace(parts[0], parts[1], frozenset("c"), hazard=True) for parts in settings.values()]
    saves = save_points(TIMES, 0.25)
    for (name, (*_, start, values, how)), tr, call in zip(settings.items(), traces, adaptive_on_host(*traces)):
        out = np.full((len(TIMES), *start.shape), np.nan)
        out[: saves.first] = start
        _, steps = launch(call, tr, start, values, how.numbers, (saves.root, saves.part, saves.first), TIMES[0], 0.25, SEED,
                          MEMBERS, out)  # fmt: skip
        assert np.array_equal(out, references[name].states) and np.array_equal(steps, references[name].steps), name


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_the_gpu_gives_the_bits_of_the_reference(name, references):
    assert np.array_equal(states(name, "cuda").states, references[name].states)


def test_a_run_is_replayed_and_what_cannot_be_is_said():
    ds = run(MODELS["price"][0], {"S": 1.0}, [0.5, 2.0], dt=0.5, members=300)
    assert list(ds.data_vars)[0] == "S" and "hazard" not in ds and sim.rerun(ds, members=[250]).equals(ds.isel(member=[250]))
    kept = run(MODELS["price"][0], {"S": 1.0}, [0.5, 2.0], dt=0.5, members=300, save="statistics")
    assert kept.S_mean.values == pytest.approx(ds.S.mean("member").values, rel=1e-12)
    negative = sim.SDE({"x": 0}, {"x": 0.1}, jumps={"x": sim.Jump("1 - x", 2)})
    assert run(negative, {"x": 0.0}, [20.0], dt=1.0, members=20).status.all()
    walled = sim.SDE({"x": 0}, {"x": 0.1}, jumps={"x": sim.Jump(1, 2)}, bounds={"x": sim.Absorbing(hi=3.0)})
    with pytest.raises(ValueError, match="up to the events' own times.*give dt"):
        run(walled, {"x": 0.0}, [1.0])
