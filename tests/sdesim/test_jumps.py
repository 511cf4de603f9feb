"""Jumps: their laws, their weak order beside drift and noise, equal bits on every machine, and clear refusals."""

import shutil

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import expm

import sdesim as sim
from sdesim.calculus import evaluate
from sdesim.config import call
from sdesim.integrate import integrate, save_plan
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_llvm import BLOCK
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.models.jumps import LAWS, mark_formula
from sdesim.provenance import dumps, loads

ALL = ("sde", "jump", "leap")
MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, 17, 18, 19, 20])
TIMES = 0.3 + 0.07 * np.array([0.0, 0.2, 0.5, 0.9, 1.0, 3.0, 3.0001, 4.75, 5.0, 8.0, 8.3, 8.9999, 11.0, 11.25])
DT, SEED = 0.07, 2**40 + 3

MODELS = {
    "price": sim.SDE(
        {"S": "r*S"}, {"S": "v*S"}, jumps={"S": sim.Jump("rate", "S*(exp(m + d*z) - 1)")},
        parameters={"rate": 9.0, "r": 0.05, "v": 0.2, "m": -0.1, "d": 0.15},
    ),
    "shared": sim.SDE(
        {"x": "-x", "y": "sin(t) - y"}, {"x": {"a": "0.4", "b": "0.2*y"}, "y": {"a": "0.3*x", "b": "c"}},
        jumps={
            "y": sim.Jump("5 + t", stats.norm(0.1, 0.2)),
            "both": sim.Jump("4 + 4*tanh(x)**2", {"x": "0.1*z - u*t", "y": "0.2*w*x"}, marks={"w": stats.expon()}),
            "down": sim.Jump("20*max(y, 0)", {"y": -0.3}, nonnegative=True),
        },
        parameters={"c": 0.5},
    ),
    "counts": sim.SDE(
        {"A": 0, "B": 0}, parameters={"k": 3.0},
        jumps={"f": sim.Jump("k*A", {"A": -1, "B": 1}), "b": sim.Jump("B", {"A": 1, "B": -1})},
    ),
}  # fmt: skip
CASES = [("euler_maruyama", "price"), ("milstein", "price"), ("sri2", "shared"), ("heun", "shared"), ("ssa", "counts")]


def run(method, name, backend, *, members=MEMBERS, times=TIMES, cut=slice(None), bare=False, **options):
    model, count = MODELS[name], len(members)
    model = sim.SDE.from_dict({**model.to_dict(), "jumps": {}}) if bare else model
    values = dict(model.parameters)
    first = next(iter(values))
    values[first] = (values[first] * np.linspace(0.5, 1.5, count))[cut]
    start = np.random.default_rng(3).uniform(0.4, 1.6, (len(model.states), count))[:, cut]
    start = np.round(10 * start) if name == "counts" else start
    return integrate(
        model, find(method, ALL), start, values, times, DT, seed=SEED, members=members[cut], backend=backend, **options
    ).states


@pytest.fixture(scope="module")
def references():
    return {case: run(*case, "numpy") for case in CASES}


@pytest.mark.parametrize("method, name", CASES)
def test_the_kernel_gives_the_bits_of_the_reference(method, name, references):
    reference = references[method, name]
    bare = run("heun" if method == "ssa" else method, name, "kernel", bare=True)
    assert np.isfinite(reference).all() and (np.abs(reference - bare) > 0.01).any(axis=(0, 1)).all()  # all have jumped
    assert np.array_equal(run(method, name, "kernel"), reference)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    traces = [trace(MODELS[n], find(m, ALL), frozenset(list(MODELS[n].parameters)[:1])) for m, n in CASES]
    plan = save_plan(TIMES, DT)
    for case, tr, entry in zip(CASES, traces, host_entries(*traces)):
        values = dict(MODELS[case[1]].parameters)
        first = next(iter(values))
        values[first] = values[first] * np.linspace(0.5, 1.5, len(MEMBERS))
        common = {"t0": TIMES[0], "h": DT, "due": plan.due, "bridge": plan.bridge, "seed": SEED, "members": MEMBERS}
        assert np.array_equal(run_on_host(entry, tr, references[case][0], values, **common), references[case]), case


@pytest.mark.gpu
@pytest.mark.parametrize("method, name", CASES)
def test_the_gpu_gives_the_bits_of_the_reference(method, name, references):
    assert np.array_equal(run(method, name, "cuda"), references[method, name])


@pytest.mark.parametrize("method, name", CASES)
def test_bits_do_not_depend_on_the_cut_the_order_the_threads_or_the_save_times(method, name):
    members = 3 + np.arange(BLOCK + 40)
    whole = run(method, name, "kernel", members=members)
    for cut in (slice(7, 14), slice(BLOCK - 3, BLOCK + 4), np.random.default_rng(0).permutation(len(members))):
        assert np.array_equal(run(method, name, "kernel", members=members, cut=cut), whole[..., cut])
    assert np.array_equal(run(method, name, "kernel", members=members, threads=2), whole)
    for few in ([0, 4, 5, 8, 12], [0, 5, 8, 9]):  # on the grid, so that no bridge is drawn
        assert np.array_equal(run(method, name, "kernel", members=members, times=TIMES[few]), whole[few])


def test_a_compound_poisson_process_has_its_characteristic_function():
    rate, law, n = 3.0, stats.expon(scale=0.5), 100_000
    model = sim.SDE({"x": 0.2}, {"x": 0.3}, jumps={"x": sim.Jump(rate, law)})
    # saves on the grid, between steps, two in one step: one law, whatever the step
    ds = sim.simulate(model, {"x": 0.0}, [0.1, 0.25, 0.7, 2.0], members=n, dt=0.5, seed=4, method="euler_maruyama")
    for t in ds.time.values:
        x = ds.x.sel(time=t).values
        for k in (0.5, 1.5, 4.0):
            exact = np.exp(t * (0.2j * k - 0.5 * (0.3 * k) ** 2 + rate * (1 / (1 - 0.5j * k) - 1)))
            found = np.mean(np.exp(1j * k * x))
            assert abs(found - exact) < 4 * np.sqrt((1 - abs(exact) ** 2) / n)
    step = ds.x.values[:, 1] - ds.x.values[:, 0]  # two saves within one step: independent increments
    assert abs(np.corrcoef(step, ds.x.values[:, 0])[0, 1]) < 4 / np.sqrt(n)
    exact = 0.15 * (0.3**2 + rate * 0.5)
    assert abs(step.var() - exact) < 4 * np.sqrt((stats.moment(step, 4) - exact**2) / n)


def merton_price(S, K, r, v, rate, m, d, T):
    """Merton's series: Black–Scholes prices given the number of jumps (J. Financ. Econ. 3, 1976, eq. 16)."""
    mean = np.exp(m + d * d / 2) - 1
    n = np.arange(60)
    variance = v * v + n * d * d / T
    drift = r - rate * mean + n * (m + d * d / 2) / T
    d1 = (np.log(S / K) + (drift + variance / 2) * T) / np.sqrt(variance * T)
    forward = S * np.exp((drift - r) * T) * stats.norm.cdf(d1) - K * np.exp(-r * T) * stats.norm.cdf(
        d1 - np.sqrt(variance * T)
    )
    return float(np.sum(stats.poisson.pmf(n, rate * T) * forward))


def test_an_option_on_a_price_that_jumps_costs_what_merton_says():
    n, p = 100_000, {"r": 0.05, "v": 0.2, "rate": 1.2, "m": -0.15, "d": 0.25}
    log_price = sim.SDE(
        {"x": "r - v**2/2 - rate*(exp(m + d**2/2) - 1)"}, {"x": "v"}, jumps={"x": sim.Jump("rate", "m + d*z")}, parameters=p
    )
    ds = sim.simulate(log_price, {"x": np.log(100.0)}, [1.0], members=n, dt=0.25, seed=8, method="euler_maruyama")
    x = ds.x.values[:, 0]
    for strike in (80.0, 100.0, 130.0):
        pay = np.exp(-0.05) * np.maximum(np.exp(x) - strike, 0)
        assert abs(pay.mean() - merton_price(100.0, strike, T=1.0, **p)) < 4 * pay.std() / np.sqrt(n)
    k = np.arange(30)  # the whole distribution: a mixture of normals
    drift = p["r"] - p["v"] ** 2 / 2 - p["rate"] * (np.exp(p["m"] + p["d"] ** 2 / 2) - 1)
    means, widths = np.log(100) + drift + k * p["m"], np.sqrt(p["v"] ** 2 + k * p["d"] ** 2)
    law = lambda v: stats.norm.cdf(v[:, None], means, widths) @ stats.poisson.pmf(k, p["rate"])
    assert stats.kstest(x, law).pvalue > 1e-3


def test_weak_order_is_that_of_the_method_up_to_two():
    # dx = a x dt + b x dW + c dN at the rate p + q x: with m_k = E x^k,
    # m₁' = (a + cq) m₁ + cp,  m₂' = (2a + b² + 2cq) m₂ + (2cp + c²q) m₁ + c²p
    a, b, c, p, q, x0, n = -2.0, 0.3, 0.5, 2.0, 1.0, 20.0, 300_000
    model = sim.SDE({"x": f"{a}*x"}, {"x": f"{b}*x"}, jumps={"x": sim.Jump(f"{p} + {q}*x", c)})
    A = [[0, 0, 0], [c * p, a + c * q, 0], [c * c * p, 2 * c * p + c * c * q, 2 * a + b * b + 2 * c * q]]
    exact = (expm(np.array(A)) @ [1.0, x0, x0**2])[1:]
    for method, order in (("euler_maruyama", 1.0), ("siea", 2.0)):
        errors, spread = np.empty((2, 2)), np.empty((2, 2))
        for i, steps in enumerate((6, 12)):
            ds = sim.simulate(model, {"x": x0}, [1.0], members=n, dt=1.0 / steps, seed=6, method=method)
            x = ds.x.values[:, 0]
            powers = np.array([x, x * x])
            errors[i], spread[i] = powers.mean(axis=1) - exact, powers.std(axis=1) / np.sqrt(n)
        found = np.log2(errors[0] / errors[1])
        uncertain = np.hypot(*(spread / errors)) / np.log(2)
        assert (np.abs(found - order) < 0.15 + 2 * uncertain).all() and (uncertain < 0.12).all(), (method, found)


def test_jumps_alone_are_exact_at_any_step():
    # A <-> B from N in A: binomial with p = (1 + 2e^{−3t})/3 for the rates 2 A and B
    n, total = 50_000, 40
    model = sim.SDE({"A": 0, "B": 0}, jumps={"f": sim.Jump("2*A", {"A": -1, "B": 1}), "b": sim.Jump("B", {"A": 1, "B": -1})})
    for dt in (0.3, 2.0):
        ds = sim.simulate(model, {"A": total, "B": 0}, [0.1, 0.5, 1.03], members=n, dt=dt, seed=3)
        assert ds.attrs["method"] == "ssa" and np.ptp((ds.A + ds.B).values) == 0.0
        for t in ds.time.values:
            law = stats.binom.pmf(np.arange(total + 1), total, (1 + 2 * np.exp(-3 * t)) / 3)
            found = np.bincount(ds.A.sel(time=t).values.astype(int), minlength=total + 1)
            seen = law * n > 5
            chi2 = np.sum((found - n * law)[seen] ** 2 / (n * law[seen]))
            assert stats.chi2.sf(chi2, seen.sum() - 1) > 1e-3


def test_a_rate_that_is_none_and_a_step_with_too_many_events_mark_the_member():
    fine = sim.SDE({"x": 0}, jumps={"x": sim.Jump("2 - x", 1)})
    ds = sim.simulate(fine, {"x": 0.0}, [50.0], members=20)
    assert not ds.status.any() and bool((ds.x == 2).all())
    negative = sim.SDE({"x": 0}, jumps={"x": sim.Jump("2.5 - x", 1)})
    assert sim.simulate(negative, {"x": 0.0}, [50.0], members=20).status.all()
    often = sim.SDE({"x": 0}, jumps={"x": sim.Jump("rate", 1)}, parameters={"rate": [1.0, 1e9, 2.0]})
    ds = sim.simulate(often, {"x": 0.0}, [1.0], members=3, dt=1.0)
    assert ds.status.values.tolist() == [0, 1, 0]


def test_events_that_would_leave_less_than_nothing_do_not_happen():
    model = sim.SDE({"x": 0}, jumps={"x": sim.Jump(50.0, -2, nonnegative=True)})
    for method in ("ssa", "heun", "tau_leaping"):
        ds = sim.simulate(model, {"x": 7.0}, [0.01, 3.0], members=50, dt=0.5, method=method)
        assert bool((ds.x.isel(time=1) == 1).all()) and float(ds.x.min()) >= 0


def test_a_model_with_jumps_prints_and_comes_back_from_text_and_from_a_file(tmp_path):
    model = MODELS["shared"]
    assert str(model).splitlines()[2:] == [
        "N_y: rate 5 + t; size_y ~ norm(0.1, 0.2)", "N_both: rate 4 + 4*tanh(x)**2; z ~ normal; u ~ uniform; w ~ expon()",
        "N_down: rate 20*max(y, 0); states stay at least 0",
    ]  # fmt: skip
    assert "(size_y) dN_y + (0.2*w*x) dN_both + (-0.3) dN_down" in str(model)
    assert r"\mathrm{d}N_{both}" in model.to_latex() and r"\mathrm{E}[\mathrm{d}N_{down}]" in model.to_latex()
    assert sim.SDE.from_dict(model.to_dict()).to_dict() == model.to_dict()
    assert str(loads(dumps({"m": model}))["m"]) == str(model)
    ds = sim.simulate(model, {"x": 1.0, "y": 0.5}, [0.5, 1.0], members=12, dt=0.05, seed=5, method="sri2")
    sim.save(ds, tmp_path / "run.nc")
    again = sim.rerun(tmp_path / "run.nc", members=[7])
    assert again.x.equals(ds.x.sel(member=[7])) and again.y.equals(ds.y.sel(member=[7]))


def test_a_configuration_describes_jumps():
    jumps = {
        "x": {"rate": "k", "size": {"norm": {"loc": 0.1, "scale": 0.2}}},
        "both": {"rate": 2, "size": {"x": "w", "y": -1}, "marks": {"w": {"expon": {"scale": 0.5}}}, "nonnegative": True},
    }
    model = {"kind": "sde", "drift": {"x": "-x", "y": 0}, "parameters": {"k": 1.0}, "jumps": jumps}
    found = call({"model": model, "initial": {"x": 0, "y": 3}, "run": {"times": [0, 1]}})["model"]
    expected = sim.SDE(
        {"x": "-x", "y": 0}, parameters={"k": 1.0},
        jumps={"x": sim.Jump("k", stats.norm(loc=0.1, scale=0.2)),
               "both": sim.Jump(2, {"x": "w", "y": -1}, marks={"w": stats.expon(scale=0.5)}, nonnegative=True)},
    )  # fmt: skip
    assert str(found) == str(expected)


def refused(message, **options):
    with pytest.raises((ValueError, TypeError), match=message):
        sim.SDE(**{"drift": {"x": "-x", "y": 0}, "parameters": {"k": 1}, **options})


def test_contradictions_are_refused_with_the_cure():
    refused("moves 'q', but the states are x, y", jumps={"q": sim.Jump(1, 1)})
    refused("unknown name 'q'", jumps={"x": sim.Jump("q", 1)})
    refused("unknown name 'q'", jumps={"x": sim.Jump("k", "q*z")})
    refused("unknown name 'z'", jumps={"x": sim.Jump("z", 1)})  # a rate has no marks
    refused(r"is a sim.Jump\(rate, size\), got 3", jumps={"x": 3})
    refused("jumps is a mapping", jumps=sim.Jump(1, 1))
    refused("gamma: write the size as a function of u", jumps={"x": sim.Jump(1, stats.gamma(2.0))})
    refused("one finite number for each", jumps={"x": sim.Jump(1, stats.norm([0, 1], 1))})
    refused("'y' of the jump 'x' is a state", jumps={"x": sim.Jump(1, "y", marks={"y": "normal"})})
    refused("cannot name a mark", jumps={"x": sim.Jump(1, 1, marks={"exp": "normal"})})


def test_what_takes_no_jumps_says_so():
    model = sim.SDE({"x": "-x"}, {"x": 1}, jumps={"x": sim.Jump(1, "z")})
    start, grid = {"x": 0.0}, sim.Grid(x=(-3.0, 3.0, 20))
    for work in (
        lambda: sim.simulate(model, start, [1.0], method="exact"),
        lambda: sim.estimate(model, start, 1.0, "x", rmse=0.1), lambda: sim.fokker_planck(model, grid),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="takes no jumps, and the model has the jump x"):
            work()
    walled = sim.SDE({"x": 0}, bounds={"x": sim.Reflecting(-9, 9)}, jumps=model.jumps)
    for method in ("ssa", "tau_leaping"):
        with pytest.raises(ValueError, match="use euler_maruyama or milstein|sizes of their own"):
            sim.simulate(walled, start, [1.0], method=method)
    with pytest.raises(ValueError, match="does not serve additive noise"):
        sim.simulate(model, start, [1.0], method="ssa")
    with pytest.raises(ValueError, match="jumps alone"):
        sim.simulate(sim.SDE({"x": "-x"}, jumps=model.jumps), start, [1.0], method="ssa")
    with pytest.raises(ValueError, match="sizes of their own"):
        sim.simulate(model, start, [1.0], method="tau_leaping")


def test_the_laws_of_marks_are_those_of_scipy():
    shapes = {"lognorm": {"s": 0.4}, "pareto": {"b": 2.5}, "lomax": {"c": 1.5}, "weibull_min": {"c": 1.7}, "triang": {"c": 0.3}}
    u = np.linspace(0.01, 0.99, 99)
    for name in LAWS:
        law = stats.bernoulli(0.3, 2) if name == "bernoulli" else getattr(stats, name)(**shapes.get(name, {}), loc=-0.5, scale=2.0)
        base, formula = mark_formula(law)
        values = np.sort(evaluate([formula], {base: stats.norm.ppf(u) if base == "z" else u})[0])
        if name == "bernoulli":
            assert values.mean() == pytest.approx(law.mean(), abs=0.01)
        elif name == "halfnorm":
            assert law.cdf(values[1::2]) == pytest.approx(np.linspace(0.02, 0.98, 49), abs=1e-9)
        else:
            assert values == pytest.approx(law.ppf(u), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rate", ["-1", "x - 2", "log(x - 2)"])
def test_a_rate_that_no_member_can_start_with_is_said_before_any_work(rate):
    model = sim.SDE({"x": 0}, jumps={"x": sim.Jump(rate, 1)})
    with pytest.raises(ValueError, match="rate of the jump x is not a finite number at least 0"):
        sim.simulate(model, {"x": 1.0}, [1.0], members=3)
    found = sim.simulate(model, {"x": [1.0, 4.0]}, [1e-9], members=2) if "x" in rate else None
    assert found is None or found.status.values.tolist() == [1, 0]  # one that can start is enough
