"""Jumps within bounds: ruin, first passage with overshoot, killing, folding; the path and the bits of steps that events cut."""

import shutil

import numpy as np
import pytest
from scipy import optimize, stats

import sdesim as sim
from sdesim.integrate import integrate, save_plan
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_llvm import BLOCK
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find
from sdesim.methods.bounded import ALIVE, bounded

N = 40_000


def run(model, initial, times, **options):
    return sim.simulate(model, initial, times, **{"members": N, "seed": 2, **options})


@pytest.mark.parametrize("dt", [7.0, 1.1])
def test_ruin_is_that_of_cramer_and_lundberg_at_any_step(dt):
    # premiums c, claims of mean μ at the rate λ: ψ(u) = (λμ/c) exp(−(1/μ − λ/c) u), the deficit exponential of mean μ
    c, rate, mu, u = 1.6, 1.0, 1.0, 2.0
    model = sim.SDE({"x": c}, jumps={"x": sim.Jump(rate, f"{mu}*log(u)")}, bounds={"x": sim.Absorbing(lo=0.0)})
    ds = run(model, {"x": u}, [100.0], dt=dt)
    left = ds.exit_time.notnull().values
    psi = rate * mu / c * np.exp(-(1 / mu - rate / c) * u)
    assert left.mean() == pytest.approx(psi, abs=4 * np.sqrt(psi * (1 - psi) / N))
    assert stats.kstest(-ds.x.values[left, 0], stats.expon(scale=mu).cdf).pvalue > 1e-3
    assert (ds.x.values[~left, 0] > 0).all() and not ds.status.any()


def test_the_time_of_ruin_is_that_of_a_simulation_event_by_event():
    c, rate, u, T = 1.2, 1.0, 1.0, 8.0
    model = sim.SDE({"x": c}, jumps={"x": sim.Jump(rate, "-0.8*w", marks={"w": stats.expon()})}, bounds={"x": sim.Absorbing(lo=0.0)})
    found = run(model, {"x": u}, [3.0, T], dt=1.0).exit_time.values
    draws = np.random.default_rng(5)
    times = np.cumsum(draws.exponential(1 / rate, (N, 40)), axis=1)
    ruined = u + c * times - np.cumsum(0.8 * draws.exponential(size=(N, 40)), axis=1) < 0
    first = np.where(ruined.any(axis=1), times[np.arange(N), ruined.argmax(axis=1)], np.inf)
    share = np.mean(first <= T)
    assert np.mean(~np.isnan(found)) == pytest.approx(share, abs=4 * np.sqrt(2 * share * (1 - share) / N))
    assert stats.ks_2samp(found[~np.isnan(found)], first[first <= T]).pvalue > 1e-3


@pytest.mark.parametrize("method", ["milstein", "sra1"])
def test_first_passage_of_kou_s_process_has_its_laplace_transform(method):
    # Kou & Wang, Adv. Appl. Probab. 35, 2003, theorem 3.1: with β₁ < η₁ < β₂ the positive roots of G(β) = α,
    # E e^{−ατ} = (η₁−β₁)/η₁ · β₂/(β₂−β₁) e^{−bβ₁} + (β₂−η₁)/η₁ · β₁/(β₂−β₁) e^{−bβ₂}
    mu, sigma, rate, p, up, down, b = 0.1, 0.3, 3.0, 0.4, 4.0, 5.0, 0.6
    model = sim.SDE(
        {"x": mu}, {"x": sigma}, bounds={"x": sim.Absorbing(hi=b)},
        jumps={"x": sim.Jump(rate, f"where(u < {p}, -log(u/{p})/{up}, log((1 - u)/{1 - p})/{down})")},
    )  # fmt: skip
    ds = run(model, {"x": 0.0}, [12.0], dt=0.8, method=method)
    tau, x = np.nan_to_num(ds.exit_time.values, nan=np.inf), ds.x.values[:, 0]
    G = lambda v, alpha: mu * v + sigma**2 * v * v / 2 + rate * (p * up / (up - v) + (1 - p) * down / (down + v) - 1) - alpha
    for alpha in (1.0, 4.0):
        low = optimize.brentq(G, 1e-9, up - 1e-9, args=(alpha,))
        high = optimize.brentq(G, up + 1e-9, 200.0, args=(alpha,))
        exact = (up - low) / up * high / (high - low) * np.exp(-b * low) + (high - up) / up * low / (high - low) * np.exp(-b * high)
        value = np.exp(-alpha * tau)
        assert value.mean() == pytest.approx(exact, abs=4 * value.std() / np.sqrt(N) + np.exp(-alpha * 12.0))
    over = x[np.isfinite(tau)] - b
    assert (over >= 0).all() and 0.2 < np.mean(over > 0) < 0.8  # some creep over the bound, others jump
    assert stats.kstest(over[over > 0], stats.expon(scale=1 / up).cdf).pvalue > 1e-3


def test_a_rate_that_depends_on_the_state_kills_as_cameron_and_martin_say():
    # an event takes a Brownian motion far out at the rate k x²: P(τ > T) = E exp(−k ∫ W²) = cosh(√(2k) T)^{−½}
    k = 2.0
    model = sim.SDE({"x": 0}, {"x": 1}, jumps={"x": sim.Jump(f"{k}*x*x", -1e3)}, bounds={"x": sim.Absorbing(lo=-50.0)})
    errors = []
    for dt in (0.2, 0.05):
        tau = run(model, {"x": 0.0}, [1.5], dt=dt).exit_time.values
        errors.append(np.mean(np.isnan(tau)) - np.cosh(np.sqrt(2 * k) * 1.5) ** -0.5)
    noise = np.sqrt(0.25 / N)
    assert abs(errors[0]) > 6 * noise and abs(errors[1]) < abs(errors[0]) / 4 + 4 * noise  # order 1
    times = np.linspace(0.1, 1.5, 15)
    alive = [np.mean(np.isnan(tau) | (tau > t)) for t in times]
    assert alive == pytest.approx(np.cosh(np.sqrt(2 * k) * times) ** -0.5, abs=abs(errors[1]) + 5 * noise)


@pytest.mark.parametrize("bound, dt", [(sim.Reflecting(lo=-0.5), 0.7), (sim.Reflecting(hi=1.5), 0.7), (sim.Reflecting(-0.5, 1.5), 0.02)])
def test_symmetric_jumps_between_mirrors_are_those_of_the_line_folded(bound, dt):
    # the process on the line, folded: E cos ω(x − end) = cos ω(x₀ − end) e^{Tψ(ω)}; between two ends ω = πk/length
    sigma, rate, scale, x0, T = 0.6, 2.0, 1.3, 0.3, 1.4
    model = sim.SDE({"x": 0}, {"x": sigma}, jumps={"x": sim.Jump(rate, stats.laplace(scale=scale))}, bounds={"x": bound})
    x = run(model, {"x": x0}, [T], dt=dt).x.values[:, 0]
    end = bound.hi if bound.lo is None else bound.lo
    for w in (np.pi / 2, np.pi, 3 * np.pi / 2):
        exact = np.cos(w * (x0 - end)) * np.exp(T * (-0.5 * (sigma * w) ** 2 + rate * (1 / (1 + (scale * w) ** 2) - 1)))
        value = np.cos(w * (x - end))
        assert value.mean() == pytest.approx(exact, abs=4 * value.std() / np.sqrt(N) + 1e-3 * (dt < 0.1))
    assert (bound.lo is None or x.min() >= bound.lo) and (bound.hi is None or x.max() <= bound.hi)


def test_a_dam_is_empty_for_the_share_of_time_that_its_inflow_leaves():
    # inflow of mean 1/2 at the rate 1 against a release of 1: empty with probability 1 − ½, else exponential
    model = sim.SDE({"x": -1.0}, jumps={"x": sim.Jump(1.0, stats.expon(scale=0.5))}, bounds={"x": sim.Reflecting(lo=0.0)})
    x = run(model, {"x": 0.0}, [40.0], dt=2.5).x.values[:, 0]
    assert np.mean(x == 0.0) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(N))
    assert stats.kstest(x[x > 0], stats.expon(scale=1.0).cdf).pvalue > 1e-3


def test_steps_that_are_cut_follow_the_path_of_whole_steps():
    # the third state jumps, the others must see W and ∫W of the uncut steps
    drift, noise, far = {"w": 0, "x": "w", "n": 0}, {"w": 1}, {"w": sim.Absorbing(-99.0, 99.0)}
    times = [0.5, 1.0, 3.0]
    ds = run(sim.SDE(drift, noise, jumps={"n": sim.Jump(6.0, 1)}, bounds=far), dict.fromkeys(drift, 0.0), times, dt=0.5,
             members=200, method="sra1")  # fmt: skip
    plain = run(sim.SDE(drift, noise), dict.fromkeys(drift, 0.0), times, dt=0.5, members=200, method="sra1")
    assert ds.n.values.mean(axis=0) == pytest.approx(6.0 * np.array(times), abs=4 * np.sqrt(18 / 200))
    assert ds.w.values == pytest.approx(plain.w.values, abs=1e-12) and ds.x.values == pytest.approx(plain.x.values, abs=1e-12)


MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, 17, 18, 19, 20])
TIMES = 0.3 + 0.07 * np.array([0.0, 0.2, 0.9, 1.0, 3.0001, 5.0, 8.3, 11.25])
DT, SEED = 0.07, 2**40 + 3
MODELS = {
    "risk": sim.SDE({"x": "c"}, parameters={"c": 2.5}, jumps={"x": sim.Jump(9.0, "0.3*log(u)")}, bounds={"x": sim.Absorbing(lo=0.0)}),
    "two": sim.SDE(
        {"x": "-x", "y": "sin(t) - y"}, {"x": {"a": "0.4", "b": "0.2*y"}, "y": {"a": "0.3*x", "b": "c"}}, parameters={"c": 0.5},
        bounds={"x": sim.Reflecting(-0.5, 1.2), "y": sim.Absorbing(-1.0, 1.5)},
        jumps={"y": sim.Jump("5 + t", stats.norm(0.1, 0.2)),
               "both": sim.Jump("4 + 4*tanh(x)**2", {"x": "2*z - u*t", "y": "0.2*w*x"}, marks={"w": stats.expon()})},
    ),
    "up": sim.SDE({"x": "c"}, {"x": 0.4}, parameters={"c": 0.1}, jumps={"x": sim.Jump(6.0, stats.laplace(scale=0.2))},
                  bounds={"x": sim.Absorbing(hi=1.4)}),
}  # fmt: skip
CASES = [("milstein", "risk"), ("euler_maruyama", "two"), ("sri2", "two"), ("sra1", "up")]


def setting(method, name, cut=slice(None), members=MEMBERS):
    whole, bounded_method = bounded(MODELS[name], find(method, ("sde",)))
    start = np.random.default_rng(3).uniform(0.4, 1.1, (len(MODELS[name].states), len(members)))
    start = np.vstack([start, np.full(len(members), ALIVE)])[:, cut]
    return whole, bounded_method, start, {"c": (MODELS[name].parameters["c"] * np.linspace(0.5, 1.5, len(members)))[cut]}


def states(case, backend="kernel", times=TIMES, cut=slice(None), members=MEMBERS, **options):
    whole, method, start, values = setting(*case, cut, members)
    how = {"seed": SEED, "members": members[cut], "backend": backend, **options}
    return integrate(whole, method, start, values, times, DT, **how).states


@pytest.fixture(scope="module")
def references():
    return {case: states(case, "numpy") for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_gives_the_bits_of_the_reference(case, references):
    assert np.isfinite(references[case]).all() and 0 < np.mean(references[case][-1, -1] > 0) < 1  # some leave
    assert np.array_equal(states(case), references[case])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    traces = [trace(*setting(*case)[:2], frozenset("c")) for case in CASES]
    plan = save_plan(TIMES, DT)
    common = {"t0": TIMES[0], "h": DT, "due": plan.due, "bridge": plan.bridge, "seed": SEED, "members": MEMBERS}
    for case, tr, entry in zip(CASES, traces, host_entries(*traces)):
        assert np.array_equal(run_on_host(entry, tr, *setting(*case)[2:], **common), references[case]), case


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_the_gpu_gives_the_bits_of_the_reference(case, references):
    assert np.array_equal(states(case, "cuda"), references[case])


@pytest.mark.parametrize("case", CASES[:2])
def test_bits_do_not_depend_on_the_cut_the_threads_or_the_save_times(case):
    members = 3 + np.arange(BLOCK + 40)
    whole = states(case, members=members)
    for cut in (slice(7, 14), slice(BLOCK - 3, BLOCK + 4)):
        assert np.array_equal(states(case, members=members, cut=cut), whole[..., cut])
    assert np.array_equal(states(case, members=members, threads=2), whole)
    few = [0, 3, 5]  # on the grid
    assert np.array_equal(states(case, members=members, times=TIMES[few]), whole[few])


def test_a_run_is_replayed_and_reduced():
    ds = run(MODELS["up"], {"x": 0.5}, [0.5, 2.0], dt=0.1, members=700)
    assert "cut at the events" in ds.attrs["method_reason"] and 0 < ds.exit_time.notnull().sum() < 700
    assert sim.rerun(ds, members=[650]).equals(ds.isel(member=[650]))
    kept = run(MODELS["up"], {"x": 0.5}, [0.5, 2.0], dt=0.1, members=700, save="statistics")
    assert kept.exits.values.tolist() == [int((ds.exit_time <= t).sum()) for t in (0.5, 2.0)]
    lost = sim.SDE({"x": 0}, jumps={"x": sim.Jump("1 - x", 2)}, bounds={"x": sim.Absorbing(lo=-1.0)})
    assert run(lost, {"x": 0.0}, [50.0], dt=1.0, members=20).status.all()  # the rate turns negative
