"""Bounds met by steps that follow an error estimate: laws of exit and of reflection, and equal bits on every machine."""

import shutil

import numpy as np
import pytest
from scipy import special, stats

import sdesim as sim
from sdesim.integrate_adaptive import integrate_adaptive, save_points
from sdesim.kernels.sde_adaptive_cuda import adaptive_on_host, launch
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.methods.adaptive import control
from sdesim.methods.bounded import ALIVE, bounded

N = 20_000


def run(model, initial, times, **options):
    return sim.simulate(model, initial, times, **{"members": N, "seed": 2, "rtol": 1e-2, **options})


@pytest.mark.parametrize("side", [1, -1])
def test_first_passage_is_inverse_gaussian_and_saves_between_see_the_survivors(side):
    # drift ½: mean a/μ = 2, variance aσ²/μ³; P(X_t ∈ dx, alive) = (φ(x) − e^{2μa/σ²} φ(x − 2a)) dx
    bound = sim.Absorbing(hi=1.0) if side > 0 else sim.Absorbing(lo=-1.0)
    ds = run(sim.SDE({"x": 0.5 * side}, {"x": 1}, bounds={"x": bound}), {"x": 0.0}, [0.7, 40.0], dt=0.5)
    exits, law = ds.exit_time.values, stats.invgauss(mu=2.0, scale=1.0)
    left = exits[~np.isnan(exits)]
    assert np.isnan(exits).mean() == pytest.approx(law.sf(40.0), abs=4 * np.sqrt(law.sf(40.0) / N) + 1e-9)
    assert stats.kstest(left, lambda t: law.cdf(t) / law.cdf(40.0)).pvalue > 1e-3
    alive = side * ds.x.values[ds.x.values[:, 0] != side, 0]
    share = lambda x: special.ndtr((x - 0.35) / 0.7**0.5) - np.e * special.ndtr((x - 2.35) / 0.7**0.5)
    assert alive.size / N == pytest.approx(share(1.0), abs=4 * 0.5 / np.sqrt(N))
    assert stats.kstest(alive, lambda x: share(x) / share(1.0)).pvalue > 1e-3


def test_mean_exit_of_a_nonlinear_process_is_met_as_the_tolerance_falls():
    # geometric Brownian motion out of (½, 2)
    model = sim.SDE({"x": "0.3*x"}, {"x": "0.6*x"}, bounds={"x": sim.Absorbing(0.5, 2.0)})
    drift, var, b = 0.3 - 0.18, 0.36, np.log(2.0)
    exact, steps, errors = b / drift * np.tanh(drift * b / var), [], []
    for tol in (3e-1, 2e-3):
        ds = run(model, {"x": 1.0}, [40.0], dt=1.0, rtol=tol)
        steps.append(float(ds.steps.mean()))
        errors.append(abs(ds.exit_time.values.mean() - exact))
        noise = 4 * ds.exit_time.values.std() / np.sqrt(N)
    assert errors[1] < noise < errors[0] and steps[1] > 2 * steps[0]


def test_reflection_has_the_law_of_harrison_and_a_stationary_one_between_mirrors():
    root = 1.1 * np.sqrt(1.3)
    cdf = lambda z: special.ndtr((z - 0.4 + 0.78) / root) - np.exp(-1.2 * z / 1.21) * special.ndtr((-z - 0.4 + 0.78) / root)
    x = run(sim.SDE({"x": -0.6}, {"x": 1.1}, bounds={"x": sim.Reflecting(lo=0.0)}), {"x": 0.4}, [1.0, 1.3], dt=1.0).x.values
    assert stats.kstest(x[:, 1], cdf).pvalue > 1e-3
    model = sim.SDE({"x": "-x"}, {"x": 0.7}, bounds={"x": sim.Reflecting(-0.5, 1.0)})
    x = run(model, {"x": 0.0}, [4.0], dt=0.1, rtol=3e-3, members=6000).x.values[:, 0]
    s = 0.7 / np.sqrt(2)
    assert x.min() >= -0.5 and x.max() <= 1.0
    assert stats.kstest(x, stats.truncnorm(-0.5 / s, 1.0 / s, scale=s).cdf).pvalue > 1e-3


def test_who_has_left_takes_no_further_small_steps_and_stays():
    model = sim.SDE({"x": 1.0, "y": "-3000*y"}, {"x": 0.3}, bounds={"x": sim.Absorbing(hi=1.0)})
    ds = run(model, {"x": 0.0, "y": 1.0}, [1.0, 200.0], dt=0.5, members=100, rtol=1e-2)
    early = sim.simulate(model, {"x": 0.0, "y": 1.0}, [3.0], dt=0.5, members=100, rtol=1e-2, seed=2)
    assert (ds.exit_time < 6).all() and (ds.steps <= early.steps + 20_000 * (ds.exit_time > 2.5) + 450).all()
    assert (ds.x.values[:, 1] == 1.0).all() and sim.rerun(ds, members=[7]).equals(ds.isel(member=[7]))
    kept = run(model, {"x": 0.0, "y": 1.0}, [1.0, 200.0], dt=0.5, members=100, rtol=1e-2, save="statistics")
    assert kept.exits.values.tolist() == [int((ds.exit_time <= t).sum()) for t in (1.0, 200.0)]


SEED = 2**40 + 3
MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, *range(17, 57)])
TIMES = 0.3 + 0.25 * np.array([0.0, 0.2, 0.5, 0.5001, 1.0, 2.75, 4.1, 4.1000001, 5.0, 5.3])
MODELS = {
    "additive": (sim.SDE({"x": "-c*x"}, {"x": 0.6}, parameters={"c": 1.0}, bounds={"x": sim.Absorbing(-0.3, 1.4)}), "sra1", 1e-3),
    "geometric": (sim.SDE({"x": "c*x"}, {"x": "0.6*x"}, parameters={"c": 0.3}, bounds={"x": sim.Absorbing(lo=0.4)}), "milstein", 1e-2),
    "two": (sim.SDE({"x": "-x + sin(9*t)", "y": "-c*y"}, {"x": {"a": "0.4 + 0.1*x"}, "y": {"a": "0.3", "b": "0.4"}},
                    parameters={"c": 0.5}, bounds={"x": sim.Reflecting(0.2, 1.3), "y": sim.Absorbing(lo=0.0)}), "heun", 1e-2),
}  # fmt: skip


def setting(name):
    model, way, tol = MODELS[name]
    start = np.random.default_rng(3).uniform(0.5, 1.2, (len(model.states), len(MEMBERS)))
    how = control(model, find(way, ("sde",)), 0.0, (tol,) * len(start))
    values = {"c": model.parameters["c"] * np.linspace(0.5, 1.5, len(MEMBERS))}
    return bounded(model, find(way, ("sde",)), apart=True), np.vstack([start, np.full(len(MEMBERS), ALIVE)]), values, how


def states(name, backend, cut=slice(None)):
    (model, method), start, values, how = setting(name)
    return integrate_adaptive(model, method, start[:, cut], {"c": values["c"][cut]}, TIMES, 0.25, how, seed=SEED,
                              members=MEMBERS[cut], backend=backend)  # fmt: skip


@pytest.fixture(scope="module")
def references():
    return {name: states(name, "numpy") for name in MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_the_kernel_gives_the_bits_of_the_reference_in_any_cut(name, references):
    reference = references[name]
    assert 0.05 < np.mean(reference.states[-1, -1] > 0) < 0.9 and reference.steps.min(axis=1).sum() > 5
    for cut in (slice(None), slice(5, 12)):
        found = states(name, "kernel", cut)
        assert np.array_equal(found.states, reference.states[..., cut]) and np.array_equal(found.steps, reference.steps[:, cut])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    settings = {name: setting(name) for name in MODELS}
    traces = [trace(*parts[0], frozenset("c")) for parts in settings.values()]
    saves = save_points(TIMES, 0.25)
    for (name, (_, start, values, how)), tr, call in zip(settings.items(), traces, adaptive_on_host(*traces)):
        out = np.full((len(TIMES), *start.shape), np.nan)
        out[: saves.first] = start
        _, steps = launch(call, tr, start, values, how.numbers, (saves.root, saves.part, saves.first), TIMES[0], 0.25, SEED,
                          MEMBERS, out)  # fmt: skip
        assert np.array_equal(out, references[name].states) and np.array_equal(steps, references[name].steps), name


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_the_gpu_gives_the_bits_of_the_reference(name, references):
    assert np.array_equal(states(name, "cuda").states, references[name].states)
