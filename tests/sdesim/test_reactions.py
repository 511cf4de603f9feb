"""Reaction networks: exact master equations, laws that are known, orders of the leaps, equal bits, clear errors."""

import inspect
import shutil

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import sdesim as sim
from sdesim import equations
from sdesim.config import call
from sdesim.equations import kinetics
from sdesim.integrate import integrate, save_plan
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find, rows

LEAPS = tuple(m.name for m in rows(("leap",)))
DIMER = equations.reactions("2A <-> B", rate=(0.02, 1.0))


def dimer_law(total, k, c, t):
    """P(A = total − 2b at t), b = 0 … total/2, from A = total: the master equation of 2A ⇌ B."""
    b = np.arange(total // 2 + 1)
    a = total - 2 * b
    up, down = k * a * (a - 1) / 2, c * b
    Q = np.diag(up[:-1], 1) + np.diag(down[1:], -1) - np.diag(up + down)
    return a, expm(Q * t)[0]


def agrees(counts, values, law):
    """Whether counts follow the law by χ², cells of fewer than five left out."""
    n = counts.size
    found = np.array([(counts == v).sum() for v in values])
    seen = law * n > 5
    return stats.chi2.sf(np.sum((found - n * law)[seen] ** 2 / (n * law[seen])), seen.sum() - 1) > 1e-3


def test_a_dimer_follows_its_master_equation_event_by_event():
    ds = sim.simulate(DIMER, {"A": 60, "B": 0}, [0.2, 1.0], members=40_000, dt=0.5, seed=2)
    assert np.ptp((ds.A + 2 * ds.B).values) == 0.0
    for t in (0.2, 1.0):
        assert agrees(ds.A.sel(time=t).values, *dimer_law(60, 0.02, 1.0, t))


def test_fine_leaps_follow_it_too_and_coarse_ones_do_not():
    law = dimer_law(60, 0.02, 1.0, 1.0)
    def ends(dt, method):
        return sim.simulate(DIMER, {"A": 60, "B": 0}, [1.0], members=40_000, dt=dt, seed=2, method=method).A.values[:, 0]

    assert agrees(ends(1 / 30, "trapezoidal_leaping"), *law)
    assert not agrees(ends(1 / 4, "tau_leaping"), *law)


@pytest.mark.parametrize("method, order", [("tau_leaping", 1.0), ("trapezoidal_leaping", 2.0)])
def test_leaps_have_their_weak_order(method, order):
    assert find(method, ("leap",)).weak == order
    # death and immigration: Poisson of mean λ(1 − e^{−t}) and a binomial of x₀ and e^{−t}
    x0, birth, n = 10_000, 1000.0, 200_000
    p = np.exp(-1.0)
    mean, variance = birth * (1 - p) + x0 * p, birth * (1 - p) + x0 * p * (1 - p)
    exact, errors, spread = np.array([mean, variance + mean**2]), np.empty((2, 2)), np.empty((2, 2))
    for i, steps in enumerate((6, 12)):
        x = sim.simulate(equations.birth_death(birth), {"X": x0}, [1.0], members=n, dt=1 / steps, method=method, seed=5)
        powers = np.array([x.X.values[:, 0], x.X.values[:, 0] ** 2])
        errors[i], spread[i] = powers.mean(axis=1) - exact, powers.std(axis=1) / np.sqrt(n)
    found, uncertain = np.log2(errors[0] / errors[1]), np.hypot(*(spread / errors)) / np.log(2)
    assert (np.abs(found - order) < 0.15 + 2 * uncertain).all() and (uncertain < 0.1).all(), found


@pytest.mark.parametrize("method", ["ssa", "tau_leaping", "trapezoidal_leaping"])
def test_births_and_deaths_settle_to_the_poisson_law(method):
    n, dt = 20_000, 0.01 if method == "tau_leaping" else 0.05
    x = sim.simulate(equations.birth_death(8.0), {"X": 0}, [2.0, 9.0], members=n, dt=dt, method=method, seed=1).X.values
    early, late = 8 * (1 - np.exp(-2.0)), 8 * (1 - np.exp(-9.0))
    assert agrees(x[:, 0], np.arange(40), stats.poisson.pmf(np.arange(40), early))
    assert agrees(x[:, 1], np.arange(40), stats.poisson.pmf(np.arange(40), late))


def test_a_leap_has_the_stationary_variance_of_its_scheme():
    # X' = X + P(λh) − P(μhX) and the mean λ/μ: variance (λ/μ)/(1 − μh/2)
    n, h = 40_000, 0.2
    x = sim.simulate(equations.birth_death(400.0), {"X": 400}, [12.0], members=n, dt=h, method="tau_leaping", seed=1).X
    assert abs(x.values.var() / (400 / (1 - h / 2)) - 1) < 4 * np.sqrt(2 / n)


@pytest.mark.parametrize("method", LEAPS)
def test_a_leap_leaves_no_count_below_nothing_and_loses_no_mass(method):
    ds = sim.simulate(DIMER, {"A": 7, "B": 1}, np.linspace(0, 20, 8), members=500, dt=2.0, method=method, seed=1)
    assert float(min(ds.A.min(), ds.B.min())) >= 0.0 and np.ptp((ds.A + 2 * ds.B).values) == 0.0
    assert float((ds.A % 1).max()) == 0.0 and ds.A.isel(time=-1).values.std() > 0.5
    pure = equations.reactions("A -> B", rate=3.0)
    ds = sim.simulate(pure, {"A": 20, "B": 0}, [0.1, 0.35, 30.0], members=500, dt=0.5, method=method, seed=1)
    assert float(ds.A.min()) >= 0.0 and bool((ds.B.isel(time=-1) == 20).all())
    if method == "tau_leaping":  # a later save within a step has seen no fewer events
        assert bool((ds.A.isel(time=1) <= ds.A.isel(time=0)).all())


def test_a_save_between_leaps_has_the_law_of_a_shorter_leap():
    pure, n = equations.reactions("0 -> A", rate=9.0), 50_000
    x = sim.simulate(pure, {"A": 0}, [0.1, 0.75, 1.0], members=n, dt=0.5, method="tau_leaping", seed=3).A.values
    for i, t in enumerate((0.1, 0.75, 1.0)):
        assert agrees(x[:, i], np.arange(40), stats.poisson.pmf(np.arange(40), 9 * t))


NETWORK = {"text": ["A + B <-> C", "2C -> 3A + D", "0 -> B", "D => 0"],
           "rate": [("k", 0.5), 0.2, "1 + t", "D*(2 + sin(t))"], "parameters": {"k": 0.3}, "volume": 2.0}  # fmt: skip
CASES = [(method, "jumps") for method in ("ssa", "heun", *LEAPS)] + [("euler_maruyama", "langevin"), ("sra3", "rate")]
TIMES, DT, MEMBERS = np.array([0.0, 0.07, 0.2, 0.5, 1.03]), 0.1, np.array([0, 3, 2**32 - 1, 17, 18])


def run(method, kind, backend):
    model, start = equations.reactions(**NETWORK, kind=kind), np.full((4, len(MEMBERS)), 6.0)
    options = {"seed": 9, "members": MEMBERS, "backend": backend}
    values = {"k": np.linspace(0.2, 0.4, len(MEMBERS))}
    return integrate(model, find(method, ("sde", "jump", "leap")), start, values, TIMES, DT, **options).states


@pytest.fixture(scope="module")
def references():
    return {case: run(*case, "numpy") for case in CASES}


@pytest.mark.parametrize("method, kind", CASES)
def test_the_kernel_gives_the_bits_of_the_reference(method, kind, references):
    reference = references[method, kind]
    assert np.isfinite(reference).all() and (np.ptp(reference, axis=0) > 0).any(axis=0).all()
    assert np.array_equal(run(method, kind, "kernel"), reference)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    traces = [trace(equations.reactions(**NETWORK, kind=kind), find(method, ("sde", "jump", "leap")), frozenset("k"))
              for method, kind in CASES]
    plan, values = save_plan(TIMES, DT), {"k": np.linspace(0.2, 0.4, len(MEMBERS))}
    for case, tr, entry in zip(CASES, traces, host_entries(*traces)):
        common = {"t0": 0.0, "h": DT, "due": plan.due, "bridge": plan.bridge, "seed": 9, "members": MEMBERS}
        assert np.array_equal(run_on_host(entry, tr, references[case][0], values, **common), references[case]), case


def test_the_langevin_equation_of_a_linear_network_has_the_first_two_moments_of_the_counts():
    # 0 -> A <-> B -> 0: m' = Jm + b, C' = JC + CJᵀ + Σ_j ν_j ν_jᵀ a_j(m), for the counts and for the Langevin equation
    nu = np.array([[1, 0], [-1, 1], [1, -1], [0, -1]]).T
    rates = lambda m: np.array([200.0, 2 * m[0], m[1], m[1]])
    texts, k = ["0 -> A", "A <-> B", "B -> 0"], [200.0, (2.0, 1.0), 1.0]
    J = nu @ np.array([[0, 0], [2, 0], [0, 1], [0, 1]])

    def slope(t, y):
        m, C = y[:2], y[2:].reshape(2, 2)
        return np.concatenate([nu @ rates(m), (J @ C + C @ J.T + nu @ np.diag(rates(m)) @ nu.T).ravel()])

    exact = solve_ivp(slope, (0, 1), [300.0, 50.0, 0, 0, 0, 0], rtol=1e-9, atol=1e-9).y[:, -1]
    n = 40_000
    for kind, method, dt in (("langevin", "w2ito1", 0.025), ("jumps", "ssa", 1.0)):
        model = equations.reactions(texts, rate=k, kind=kind)
        ds = sim.simulate(model, {"A": 300.0, "B": 50.0}, [1.0], members=n, dt=dt, method=method, seed=4)
        x = np.array([ds.A.values[:, 0], ds.B.values[:, 0]])
        C = exact[2:].reshape(2, 2)
        step = 0.01 * np.sqrt(np.diag(C)) if kind == "langevin" else 0.0  # w2ito1's own error at this dt
        assert (np.abs(x.mean(axis=1) - exact[:2]) < 4 * np.sqrt(np.diag(C) / n) + step).all()
        assert np.cov(x) == pytest.approx(C, rel=0.05)
    calm = sim.simulate(equations.reactions(texts, rate=k, kind="rate"), {"A": 300.0, "B": 50.0}, [1.0], dt=0.01)
    assert [calm.A.item(), calm.B.item()] == pytest.approx(exact[:2], rel=1e-6)


def test_propensities_count_combinations_and_scale_with_the_volume():
    rates = {"rate": ["k", 2, 6], "volume": "V", "parameters": {"k": 1, "V": 4}}
    texts = ["2A + B -> C", "0 -> A", "3A -> 0"]
    found = {kind: equations.reactions(texts, **rates, kind=kind) for kind in ("jumps", "rate", "langevin")}
    text = [str(j.rate) for j in found["jumps"].jumps.values()]
    assert text == ["k*A*(A - 1)*B/2/V**2", "2*V", "6*A*(A - 1)*(A - 2)/6/V**2"]
    assert str(found["rate"].drift["C"]) == "k*A**2*B/2/V**2"
    assert str(found["langevin"].drift["C"]) == "k*max(A, 0)*max(A - 1, 0)*max(B, 0)/2/V**2"
    assert found["langevin"].channels == ("r1", "r2", "r3") and found["langevin"].noise_type == "general"


def test_the_langevin_equation_comes_through_nothing_unharmed():
    ds = sim.simulate(equations.reactions("A -> 0", rate=1.0, kind="langevin"), {"A": 30.0}, [1.0, 30.0], members=500, dt=0.02)
    assert ds.attrs["method"] == "milstein" and not ds.status.any()  # √ has no slope at 0, and is asked for it there
    assert np.abs(ds.A.values[:, 1]).max() < 0.1


def refused(message, text, rate, **options):
    with pytest.raises(ValueError, match=message):
        equations.reactions(text, rate=rate, **options)


def test_what_cannot_be_read_is_refused_with_the_cure():
    refused("'B C' is no species with a whole number", "A + B C -> D", 1)
    refused("2.5A", "2.5A -> B", 1)
    refused("'' is no species", "A + -> B", 1)
    refused("'0B' is no species", "A -> 0B", 1)
    refused("no species", "__import__('os') -> B", 1)
    refused("has 2 arrows", "A -> B -> C", 1)
    refused("has 0 arrows", "A + B", 1)
    refused("changes nothing", "A + B -> B + A", 1)
    refused("more than 10 molecules", "20A -> B", 1)
    refused("never below 0, got -1", "A -> B", -1)
    refused("is a pair", "A <-> B", 1)
    refused("goes one way", "A -> B", (1, 2))
    refused("2 rates for 1 reactions", ["A -> B"], [1, 2])
    refused("1 rates for 2 reactions", ["A -> B", "B -> 0"], 1)
    refused("unknown name 'q'", "A -> B", "q")
    refused("above 0, got 0", "A -> B", 1, volume=0)
    refused("both a species and a parameter", "A -> B", 1, parameters={"A": 1})
    refused("cannot name a species", "t -> B", 1)
    refused("kind is one of", "A -> B", 1, kind="cme")
    assert equations.reactions("∅ -> A", rate=1).to_dict() == equations.reactions(" 0 → 1 * A", rate=1).to_dict()
    with pytest.raises(ValueError, match="jumps alone"):
        sim.simulate(sim.SDE({"x": 1}, jumps={"x": sim.Jump(1, 1)}), {"x": 0}, [1.0], method="midpoint_leaping")
    with pytest.raises(ValueError, match="must not depend on states"):
        sim.simulate(sim.SDE({"x": 0}, jumps={"x": sim.Jump(1, "x")}), {"x": 0}, [1.0], method="trapezoidal_leaping")


def test_a_configuration_names_a_network():
    model = {"equation": "reactions", "text": ["A -> B", "B <-> 0"], "rate": ["k", [1, 2]], "parameters": {"k": 0.1}}
    found = call({"model": model, "initial": {"A": 9, "B": 0}, "run": {"times": [0, 1]}})["model"]
    assert str(found) == str(equations.reactions(["A -> B", "B <-> 0"], rate=["k", (1, 2)], parameters={"k": 0.1}))


NAMES = [n for n, v in vars(kinetics).items() if inspect.isfunction(v) and v.__module__ == kinetics.__name__]


@pytest.mark.parametrize("name", NAMES)
def test_each_of_the_catalogue_is_public_documented_and_runs(name):
    function = getattr(equations, name)
    assert name in equations.__all__ and ">>>" in function.__doc__ and "(" in function.__doc__
    kinds = [{"kind": k} for k in ("jumps", "langevin", "rate")] if name != "merton" else [{}]
    for kind in kinds:
        model = function(**kind)
        ds = sim.simulate(model, dict.fromkeys(model.states, 100.0), [0.0, 0.1], members=8, dt=0.001)
        assert not ds.status.any() and all(np.isfinite(ds[s]).all() for s in model.states)
        assert sim.SDE.from_dict(model.to_dict()).to_dict() == model.to_dict()


def test_a_price_that_jumps_grows_at_its_rate():
    n = 50_000
    S = sim.simulate(equations.merton(), {"S": 100.0}, [1.0], members=n, dt=0.05, seed=3).S.values[:, 0]
    exact = 100 * np.exp(0.05 + np.exp(-0.1 + 0.15**2 / 2) - 1)
    assert abs(S.mean() - exact) < 4 * S.std() / np.sqrt(n) + 0.02  # Milstein's weak error at this step


def test_an_enzyme_keeps_its_sums_and_makes_what_the_rate_equation_says():
    start = {"S": 301, "E": 120, "SE": 0, "P": 0}
    ds = sim.simulate(equations.michaelis_menten(), start, [10.0, 50.0], members=400, dt=0.5, seed=2, method="trapezoidal_leaping")
    assert np.ptp((ds.S + ds.SE + ds.P).values) == np.ptp((ds.E + ds.SE).values) == 0.0
    calm = sim.simulate(equations.michaelis_menten(kind="rate"), start, [10.0, 50.0], dt=0.01)
    assert ds.P.mean("member").values == pytest.approx(calm.P.values[0], rel=0.02)


def test_predators_and_prey_stay_near_rest_and_schlogls_model_has_two_states():
    ds = sim.simulate(equations.predator_prey(), {"X": 1000, "Y": 1000}, [0.05], members=400, dt=0.005, method="tau_leaping")
    for s in "XY":  # at rest m' = 0 and the variance of X grows as 2·10·1000·t at first
        assert abs(ds[s].values.mean() - 1000) < 5 * ds[s].values.std() / 20
        assert ds[s].values.var() == pytest.approx(1000, rel=0.3)
    x = sim.simulate(equations.schlogl(), {"X": 250}, [10.0], members=600, dt=0.1, method="midpoint_leaping").X.values
    assert 0.4 < (x < 250).mean() < 0.6 and abs(x[x < 250].mean() - 87) < 6 and abs(x[x > 250].mean() - 557) < 12


@pytest.mark.parametrize("method", ["ssa", "heun", *LEAPS])
def test_counts_start_from_whole_numbers(method):
    common = {"members": 3, "dt": 0.1, "method": method}
    for start, got in (({"A": 2.5, "B": 0}, "2.5"), ({"A": 3, "B": -1}, "-1"), ({"A": stats.norm(10, 1), "B": 0}, "")):
        with pytest.raises(ValueError, match=f"counts things: it starts from a whole number of at least 0.*gets {got}"):
            sim.simulate(DIMER, start, [1.0], **common)
    assert not sim.simulate(DIMER, {"A": stats.poisson(10), "B": 0.0}, [0.2], **common).status.any()


def test_what_is_no_count_starts_anywhere():
    start = {"A": 2.5, "B": 0.5}
    for kind in ("langevin", "rate"):
        assert not sim.simulate(equations.reactions("2A <-> B", rate=(0.02, 1.0), kind=kind), start, [0.1], dt=0.1).status.any()
    ticks = sim.SDE({"p": 0}, jumps={"up": sim.Jump(3, {"p": 1}), "down": sim.Jump(3, {"p": -1})})  # no count: it may fall below 0
    assert sim.simulate(ticks, {"p": 0.5}, [1.0]).p.item() % 1 == 0.5
