"""The noise on request is the noise that drives; what `check` says is so, and it finds a method that lies."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import sdesim as sim
from sdesim import checking
from sdesim.checking import check
from sdesim.kernels.sde_jumps import jump_trace
from sdesim.methods import find, rows

GBM = sim.equations.geometric_brownian_motion(0.1, 0.4)


def test_steps_taken_by_hand_with_the_path_are_those_of_simulate():
    times = np.arange(9) / 8
    W = sim.brownian(5, [3, 70], times, processes=GBM, dt=0.125)
    assert list(W.process.values) == list(GBM.channels)
    x = np.ones(2)
    for dW in np.diff(W.values[0].T, axis=0):
        x = x + 0.1 * x * 0.125 + 0.4 * x * dW
    ds = sim.simulate(GBM, {"x": 1.0}, [1.0], members=[3, 70], method="euler_maruyama", dt=0.125, seed=5)
    assert ds.x.values[:, 0] == pytest.approx(x, rel=1e-13)


def test_paths_between_steps_are_those_that_simulate_saves():
    W = sim.brownian(5, 10, [0.3, 0.31, 0.9], dt=0.25)
    walk = sim.simulate(sim.SDE({"x": 0}, {"x": 2.0}), {"x": 1.0}, [0.3, 0.31, 0.9], members=10, dt=0.25, seed=5)
    assert walk.x.values == pytest.approx(1.0 + 2.0 * W.values[0], rel=1e-12)


def test_law_of_the_paths():
    # Cov(W_s, W_t) = min(s, t), on the grid and off it; processes are independent
    times, n = np.array([0.2, 0.5, 0.55, 1.0]), 20_000
    W = sim.brownian(1, n, times, processes=["a", "b"], dt=0.25)
    found = np.cov(W.values.transpose(0, 2, 1).reshape(8, n))
    exact = np.kron(np.eye(2), np.minimum.outer(times, times))
    assert np.abs(found - exact).max() < 5 / np.sqrt(n)
    assert stats.kstest(W.values[1, :, 2] / np.sqrt(0.55), "norm").pvalue > 1e-3


def test_a_member_s_path_is_its_own():
    whole = sim.brownian(9, 50, [0.1, 1.0], processes=3, dt=0.1)
    part = sim.brownian(9, [7, 31], [1.0], processes=3, dt=0.1)
    assert (part.values == whole.sel(member=[7, 31], time=[1.0]).values).all()


@pytest.mark.parametrize("options, message", [
    ({"processes": 0}, "one at least"), ({"processes": ["a", "a"]}, "name of its own"), ({"dt": 0.0}, "dt is"),
    ({"seed": -1}, "seed"), ({"times": [1.0, 0.5]}, "increasing"),
])  # fmt: skip
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        sim.brownian(options.pop("seed", 0), 2, options.pop("times", [1.0]), **options)


GENERAL = sim.SDE({"x": "-x", "y": "0"}, {"x": {"a": "1 + y**2/4"}, "y": {"b": "0.5*x"}})
COMMUTES = sim.SDE({"x": "-x", "y": "-y"}, {"x": {"a": "0.3*x", "b": "0.1*x"}, "y": {"a": "0.2*y", "b": "0.4*y"}})
MODELS = [
    (GBM, "scalar"), (GENERAL, "general"), (COMMUTES, "commutative"), (sim.equations.kubo(), "scalar"),
    (sim.equations.lorenz63(), "additive"), (sim.equations.cox_ingersoll_ross(), "scalar"),
    (sim.SDE({"x": "-x"}, {"x": "0.7*x"}, interpretation="hanggi-klimontovich"), "scalar"),
    (sim.SDE({"x": "-x", "y": "x"}, {"x": "sin(x)", "y": "y**2"}, interpretation="stratonovich"), "diagonal"),
]  # fmt: skip


@pytest.mark.parametrize("model, noise", MODELS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("method", ["euler_maruyama", "milstein", "heun"])
def test_sound_models_are_confirmed(model, noise, method):
    found = check(model, method)
    assert found.noise_type == noise
    assert found.allowed == (noise in find(method, ("sde",)).noise)
    assert found.ok == found.allowed
    assert (found.commutator > 1e-3) == (noise == "general")
    if found.allowed:
        assert found.drift_error < 5
        assert found.told_apart > 20 or noise == "additive"  # the test can tell: the other calculus is far away
    assert method in str(found) and noise in str(found)


def test_a_method_run_in_the_wrong_calculus_is_found(monkeypatch):
    lying = dataclasses.replace(find("heun", ("sde",)), name="lying", calculus="ito")
    monkeypatch.setattr(checking, "find", lambda name, kinds: lying)
    found = check(GBM, "lying")
    assert found.drift_error > 20
    assert not found.ok


def test_a_wrong_derivative_is_found(monkeypatch):
    monkeypatch.setattr(sim.SDE, "derived", lambda self, along, state, channel: 2.0 * self.noise[state, channel])
    assert not check(GBM, "euler_maruyama").ok


def test_the_choice_of_simulate_is_checked_by_default_and_a_refusal_names_others():
    assert check(GENERAL).ok
    found = check(GENERAL, "milstein")
    assert not found.allowed and "euler_maruyama" in str(found)


def test_every_method_for_scalar_noise_has_the_calculus_that_it_claims():
    for method in rows(("sde",)):
        if "scalar" in method.noise:
            assert check(GBM, method.name).drift_error < 5, method.name


def test_a_method_for_another_structure_is_not_allowed():
    found = check(sim.equations.lorenz63(), "baoab")
    assert not found.allowed and not found.ok and "baoab" not in found.advice


JUMPS = sim.SDE(
    {"S": "r*S", "y": "0"}, {"S": "v*S"}, parameters={"rate": 9.0, "r": 0.05, "v": 0.2},
    jumps={"S": sim.Jump("rate", "S*(exp(0.15*z - 0.1) - 1)"), "y": sim.Jump("3*S", {"y": stats.expon(scale=0.5), "S": "y*u"})},
)  # fmt: skip


@pytest.mark.parametrize("method", [None, "heun"])
def test_jumps_are_reported_and_confirmed(method):
    found = check(JUMPS, method, initial={"S": 2.0, "y": 1.0})
    assert found.ok and found.jump_error < 5 and "agree with rates and sizes" in str(found)
    first, second = found.jumps
    assert (first.name, first.rate, second.rate) == ("S", 9.0, 6.0)
    m, d = -0.1, 0.15  # a lognormal's moments, those of an exponential and of a uniform number
    mean = 2.0 * (np.exp(m + d * d / 2) - 1)
    square = 4.0 * (np.exp(2 * m + 2 * d * d) - 2 * np.exp(m + d * d / 2) + 1)
    assert first.size["S"] == pytest.approx((mean, square), rel=0.01)
    assert second.size["y"] == pytest.approx((0.5, 0.5), rel=0.01)
    assert second.size["S"] == pytest.approx((0.5, 1 / 3), rel=0.01)
    assert "S at the rate 9; size of S: mean -0.1" in str(found)


def test_jumps_of_counts_are_confirmed_for_each_method_that_serves():
    model = sim.equations.reactions("2A <-> B", rate=(0.02, 1.0))
    for method in ("ssa", "heun", "tau_leaping", "trapezoidal_leaping"):
        found = check(model, method, initial={"A": 60, "B": 3})
        assert found.ok and found.jump_error < 5 and [j.rate for j in found.jumps] == [pytest.approx(35.4), 3.0]
    refused = check(JUMPS, "tau_leaping")
    assert not refused.ok and "heun" in refused.advice and "ssa" not in refused.advice


@pytest.mark.parametrize("wrong", ["rate", "size"])
def test_jumps_that_are_not_the_model_s_are_found(monkeypatch, wrong):
    def half(*model):
        found = jump_trace(*model)
        halved = tuple(0.5 * rate for rate in found.rates), tuple(tuple((i, 0.8 * s) for i, s in k) for k in found.sizes)
        return dataclasses.replace(found, **({"rates": halved[0]} if wrong == "rate" else {"sizes": halved[1]}))

    monkeypatch.setattr("sdesim.kernels.sde_trace.jump_trace", half)
    assert check(JUMPS).jump_error > 5 and not check(JUMPS).ok and "DISAGREE with rates" in str(check(JUMPS))


def test_random_parameters_and_bad_calls():
    model = sim.SDE({"x": "-k*x"}, {"x": "0.2*x"}, parameters={"k": stats.uniform(0, 1)})
    assert check(model, initial={"x": 3.0}).ok
    with pytest.raises(ValueError, match="no state"):
        check(model, initial={"q": 3.0})
    with pytest.raises(ValueError, match="too few points"):
        check(sim.SDE({"x": "log(x)"}, {"x": "x"}), initial={"x": -5.0})
    with pytest.raises(TypeError, match="takes an SDE"):
        check("model")
