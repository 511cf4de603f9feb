"""Absorption and reflection within a step: laws of first passage and of reflected motion, at steps that are not small."""

import shutil

import numpy as np
import pytest
from scipy import integrate, special, stats

import sdesim as sim
from sdesim import integrate as engine
from sdesim.integrate import save_plan
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.methods.bounded import ALIVE, bounded

N = 8000


def drifted(bound, mu=0.5, sigma=1.0):
    return sim.SDE({"x": "mu"}, {"x": "s"}, parameters={"mu": mu, "s": sigma}, bounds={"x": bound})


def run(model, initial, times, **options):
    return sim.simulate(model, initial, times, **{"members": N, "seed": 2, **options})


@pytest.mark.parametrize("dt", [0.5, 0.05])
@pytest.mark.parametrize("side", [1, -1])
def test_first_passage_is_inverse_gaussian_at_any_step(side, dt):
    # exact for constant coefficients: mean a/μ, variance aσ²/μ³
    bound = sim.Absorbing(hi=1.0) if side > 0 else sim.Absorbing(lo=-1.0)
    ds = run(drifted(bound, mu=0.5 * side), {"x": 0.0}, [2.0, 40.0], dt=dt)
    exits = ds.exit_time.values
    left = exits[~np.isnan(exits)]
    law = stats.invgauss(mu=2.0, scale=1.0)
    assert np.isnan(exits).mean() == pytest.approx(law.sf(40.0), abs=4 * np.sqrt(law.sf(40.0) / N) + 1e-9)
    assert stats.kstest(left, lambda t: law.cdf(t) / law.cdf(40.0)).pvalue > 1e-3
    gone = exits[:, None] <= ds.time.values
    assert (ds.x.values[gone] == side).all() and (side * ds.x.values[~gone] < 1).all()
    assert ds.exit_time.attrs["units"] == "s" and not ds.status.any()


def test_survivors_have_the_law_of_the_images():
    # P(X_t ∈ dx, alive) = (φ(x) − e^{2μa/σ²} φ(x − 2a)) dx, φ the free density
    ds = run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, [1.0], dt=0.25)
    alive = ds.x.values[np.isnan(ds.exit_time.values), 0]
    def share(x):
        return special.ndtr(x - 0.5) - np.exp(1.0) * special.ndtr(x - 2.5)
    assert alive.size / N == pytest.approx(share(1.0), abs=4 * 0.5 / np.sqrt(N))
    assert stats.kstest(alive, lambda x: share(x) / share(1.0)).pvalue > 1e-3


def test_survival_is_that_of_the_fokker_planck_equation():
    model = sim.SDE({"x": "-x"}, {"x": "0.8"}, bounds={"x": sim.Absorbing(-1.2, 0.9)})
    times = [0.5, 1.0, 2.0]
    grid = sim.Grid(x=(-1.2, 0.9, 210))
    p = sim.simulate(sim.fokker_planck(model, grid), "exp(-x**2/0.02)/sqrt(0.02*pi)", times).p.values[0].sum(axis=1) * 0.01
    exits = run(model, {"x": stats.norm(0, 0.1)}, times, dt=0.02).exit_time.values
    alive = [np.mean(np.isnan(exits) | (exits > t)) for t in times]
    assert alive == pytest.approx(p, abs=4 * 0.5 / np.sqrt(N))


def test_exit_from_an_interval():
    # from x in (−1, 1): out at the top with (1 + x)/2, after (1 − x²)/σ² on average
    ds = run(drifted(sim.Absorbing(-1.0, 1.0), mu=0.0), {"x": 0.3}, [30.0], dt=0.05)
    x, exits = ds.x.values[:, 0], ds.exit_time.values
    assert (np.abs(x) == 1.0).all()
    assert np.mean(x > 0) == pytest.approx(0.65, abs=4 * np.sqrt(0.65 * 0.35 / N))
    assert exits.mean() == pytest.approx(0.91, abs=4 * exits.std() / np.sqrt(N))


def test_mean_exit_of_a_nonlinear_process_has_no_shift_of_order_root_h():
    # geometric Brownian motion x = e^y out of (½, 2): y has drift μ − σ²/2, from 0 within ±ln 2
    model = sim.SDE({"x": "0.3*x"}, {"x": "0.6*x"}, bounds={"x": sim.Absorbing(0.5, 2.0)})
    drift, var, b = 0.3 - 0.18, 0.36, np.log(2.0)
    exact = b / drift * np.tanh(drift * b / var)
    exits = run(model, {"x": 1.0}, [60.0], dt=0.05).exit_time.values
    shift = 2 * 0.58 * 0.6 * np.sqrt(0.05) * b / var  # what checks at the steps alone would add
    assert shift > 0.2 * exact
    assert exits.mean() == pytest.approx(exact, abs=4 * exits.std() / np.sqrt(N) + 0.02)


def test_other_states_stop_where_they_are():
    model = sim.SDE({"x": 1.0, "y": 2.0}, {"x": 0.5}, bounds={"x": sim.Absorbing(hi=1.0)})
    ds = run(model, {"x": 0.0, "y": 0.0}, [20.0], dt=0.1, members=500)
    assert ds.y.values[:, 0] == pytest.approx(2.0 * ds.exit_time.values, rel=1e-9)
    still = sim.SDE({"x": 1.0}, bounds={"x": sim.Absorbing(hi=1.0)})
    assert run(still, {"x": 0.0}, [2.0], dt=0.3, members=1).exit_time.values == pytest.approx(1.0)


@pytest.mark.parametrize("dt", [1.3, 0.1])
def test_reflected_brownian_motion_with_drift_at_any_step(dt):
    # Harrison 1985: P(X_t ≤ z) = Φ((z − x − μt)/σ√t) − e^{2μz/σ²} Φ((−z − x − μt)/σ√t)
    root = 1.1 * np.sqrt(1.3)
    def cdf(z):
        return special.ndtr((z - 0.4 + 0.78) / root) - np.exp(-1.2 * z / 1.21) * special.ndtr((-z - 0.4 + 0.78) / root)
    ds = run(drifted(sim.Reflecting(lo=0.0), -0.6, 1.1), {"x": 0.4}, [1.3], dt=dt)
    assert stats.kstest(ds.x.values[:, 0], cdf).pvalue > 1e-3
    mirrored = run(drifted(sim.Reflecting(hi=2.0), 0.6, 1.1), {"x": 1.6}, [1.3], dt=dt, seed=5)
    assert stats.kstest(2.0 - mirrored.x.values[:, 0], cdf).pvalue > 1e-3
    assert "exit_time" not in ds


def test_stationary_law_between_mirrors():
    # ∝ e^{−x²/σ²·…} on [−½, 1] for dx = −x dt + σ dW: a cut Gaussian of variance σ²/2
    model = sim.SDE({"x": "-x"}, {"x": 0.7}, bounds={"x": sim.Reflecting(-0.5, 1.0)})
    x = run(model, {"x": 0.0}, [8.0], dt=0.02).x.values[:, 0]
    s = 0.7 / np.sqrt(2)
    assert x.min() >= -0.5 and x.max() <= 1.0
    assert stats.kstest(x, stats.truncnorm(-0.5 / s, 1.0 / s, scale=s).cdf).pvalue > 1e-3


@pytest.mark.parametrize("model, initial", [
    (sim.SDE({"x": "-x + y", "y": "-y"}, {"x": {"a": "0.5*x"}, "y": {"a": 0.3, "b": 0.4}},
             bounds={"x": sim.Absorbing(0.2, 1.5), "y": sim.Reflecting(-0.5, 0.5)}), {"x": 1.0, "y": 0.0}),
    (drifted(sim.Reflecting(0.0, 1.0)), {"x": 0.5}),
])  # fmt: skip
@pytest.mark.parametrize("method", ["euler_maruyama", "heun"])
def test_kernel_reference_blocking_and_replay_give_the_same_bits(model, initial, method):
    options = {"times": [0.13, 1.0, 2.0], "dt": 0.05, "method": method, "members": 700}
    whole = run(model, initial, **options)
    assert run(model, initial, device="reference", **options).equals(whole)
    assert run(model, initial, **{**options, "members": [3, 650]}).equals(whole.isel(member=[3, 650]))
    assert sim.rerun(whole, members=[650]).equals(whole.isel(member=[650]))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_bounds_in_the_cuda_source_built_for_the_host_have_the_bits_of_the_kernel():
    cases = [
        (sim.SDE({"x": "-x + y", "y": "-y"}, {"x": {"a": "0.5*x"}, "y": {"a": 0.3, "b": 0.4}},
                 bounds={"x": sim.Absorbing(0.2, 1.5), "y": sim.Reflecting(-0.5, 0.5)}), [[1.0], [0.0]], "heun"),
        (drifted(sim.Reflecting(0.0, 1.0)), [[0.5]], "milstein"), (drifted(sim.Absorbing(hi=1.0)), [[0.5]], "euler_maruyama"),
    ]  # fmt: skip
    times, members = np.array([0.0, 0.13, 1.0, 2.0]), np.arange(3, 103)
    plan = save_plan(times, 0.05)
    whole = [bounded(model, find(method, ("sde",))) for model, _, method in cases]
    traces = [trace(model, method, frozenset()) for model, method in whole]
    for (model, start, _), (kept, method), tr, entry in zip(cases, whole, traces, host_entries(*traces)):
        first = np.vstack([np.repeat(start, len(members), axis=1), np.full(len(members), ALIVE)])
        how = {"seed": 5, "members": members}
        on_host = run_on_host(entry, tr, first, model.parameters, t0=0.0, h=0.05, due=plan.due, bridge=plan.bridge, **how)
        states = engine.integrate(kept, method, first, model.parameters, times, 0.05, **how).states
        assert np.array_equal(on_host, states) and len(np.unique(states[-1, 0])) > 1


def test_statistics_count_the_exits():
    options = {"times": [1.0, 3.0, 40.0], "dt": 0.25}
    ds = run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, save="statistics", **options)
    states = run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, **options)
    gone = states.exit_time.values[:, None] <= states.time.values
    assert ds.exits.values.tolist() == gone.sum(axis=0).tolist() and ds.exits.dtype.kind == "i"
    np.testing.assert_allclose(ds.x_mean, states.x.mean("member"), rtol=1e-12)


@pytest.mark.parametrize("saved", ["states", "statistics"])
def test_survival_curve_is_that_of_the_inverse_gaussian_law(saved):
    # drifted Brownian motion to a = 1 with μ = ½, σ = 1: mean a/μ = 2, variance aσ²/μ³ = 8
    times = [0.5, 1.0, 2.0, 5.0, 12.0]
    law = stats.invgauss(mu=2.0, scale=1.0)
    assert (law.mean(), law.var()) == pytest.approx((2.0, 8.0))
    covered = []
    for seed in range(12):
        ds = run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, times, dt=0.5, seed=seed, members=1000, save=saved)
        curve = sim.survival(ds, level=0.9)
        covered += ((curve.lower <= law.sf(times)) & (law.sf(times) <= curve.upper)).values.tolist()
        assert (curve.survival == curve.alive / 1000).all() and (curve.alive.diff("time") < 0).all()
    # 60 intervals, of which those of a run are alike: between 75 and 100 % hold
    assert np.mean(covered) > 0.75
    wide, narrow = sim.survival(ds, level=0.999), sim.survival(ds, level=0.5)
    assert (wide.lower < narrow.lower).all() and (narrow.upper < wide.upper).all()


def test_survival_between_the_save_times_and_at_its_ends(tmp_path):
    ds = run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, [4.0], dt=0.25, members=500)
    fine = np.linspace(0.0, 4.0, 50)
    curve = sim.survival(ds, fine)
    exits = ds.exit_time.values
    exact = [np.sum(np.isnan(exits) | (exits > t)) for t in fine]
    assert curve.alive.values.tolist() == exact and curve.survival[0] == 1.0 and curve.upper[0] == 1.0
    assert curve.lower[0] == pytest.approx(1 / (1 + 1.959964**2 / 500), rel=1e-6)  # Wilson's at p = 1
    sim.save(curve, tmp_path / "curve.nc")
    everyone = sim.survival(run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, [500.0], dt=1.0, members=100))
    assert everyone.survival[-1] == 0.0 and everyone.lower[-1] == 0.0 < everyone.upper[-1] < 0.05
    for bad, message in (([1.0, 5.0], "until 4"), ([2.0, 1.0], "increasing"), ([], "increasing")):
        with pytest.raises(ValueError, match=message):
            sim.survival(ds, bad)
    with pytest.raises(ValueError, match="Absorbing"):
        sim.survival(run(drifted(sim.Reflecting(hi=1.0)), {"x": 0.0}, [1.0], dt=0.1, members=3))
    with pytest.raises(ValueError, match="at the save times alone"):
        sim.survival(run(drifted(sim.Absorbing(hi=1.0)), {"x": 0.0}, [1.0], dt=0.1, members=3, save="statistics"), [0.5])


@pytest.mark.parametrize("model, method, message", [
    (sim.SDE({"x": "v", "v": "-v"}, {"v": 1}, bounds={"x": sim.Reflecting(lo=0.0)}), None, "no noise of its own"),
    (sim.SDE({"x": "v", "v": "-v"}, {"v": 1}, bounds={"x": sim.Absorbing(lo=0.0)}), "baoab", "structure"),
    (drifted(sim.Absorbing(lo=2.0)), None, "within its bounds"),
])  # fmt: skip
def test_bounds_that_cannot_be_kept_are_said(model, method, message):
    with pytest.raises(ValueError, match=message):
        run(model, dict.fromkeys(model.states, 0.5), [1.0], method=method)


def test_mean_first_passage_of_ornstein_uhlenbeck():
    # T(x) = (2/σ²) ∫_x^a e^{y²/σ²} ∫_{−∞}^y e^{−z²/σ²} dz dy  (Siegert 1951)
    sigma, a = 0.8, 0.9
    inner = lambda y: np.exp(y**2 / sigma**2) * sigma * np.sqrt(np.pi) / 2 * (1 + special.erf(y / sigma))  # noqa: E731
    exact = 2 / sigma**2 * integrate.quad(inner, 0.0, a)[0]
    model = sim.SDE({"x": "-x"}, {"x": sigma}, bounds={"x": sim.Absorbing(hi=a)})
    exits = run(model, {"x": 0.0}, [60.0], dt=0.05).exit_time.values
    assert not np.isnan(exits).any()
    assert exits.mean() == pytest.approx(exact, abs=4 * exits.std() / np.sqrt(N) + 0.02 * exact)
