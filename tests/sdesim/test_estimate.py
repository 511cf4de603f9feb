"""Expected values against closed forms: the error stated is the error made, and levels decay as their theory says."""

import numpy as np
import pytest
from scipy import stats

import sdesim as sim
from sdesim.estimation.coupled import TRUNCATED_MILSTEIN, Copy, copies_of, couple
from sdesim.estimation.estimate import SCHEMES
from sdesim.estimation.multilevel import Ladder, allocation, believed, bias_left
from sdesim.estimation.problem import Problem, functional_of, stream_seed
from sdesim.estimation.quasi import brownian_bridge
from sdesim.estimation.result import Level
from sdesim.integrate import integrate
from sdesim.methods import find
from sdesim.streams import normals

CALL = "exp(-0.05)*max(x - 100, 0)"
BLACK_SCHOLES = 10.450583572185565
GBM = sim.equations.geometric_brownian_motion(0.05, 0.2)
AREA = sim.SDE({"x": 0, "y": 0}, {"x": {"a": 1}, "y": {"b": "x"}})  # Clark & Cameron: noise that does not commute


def problem(model, initial, functional, scheme, *, time=1.0, seed=0):
    method = TRUNCATED_MILSTEIN if scheme == TRUNCATED_MILSTEIN.name else find(scheme, ("sde",))
    return Problem(model, initial, time, functional_of(functional, model), {}, method, seed, "kernel")


@pytest.mark.parametrize("scheme", ["euler_maruyama", "milstein", "heun"])
def test_the_coarse_path_is_driven_by_the_sum_of_the_fine_increments(scheme):
    # against the two paths built apart, from increments summed by hand
    model, members, steps = sim.SDE({"x": "-x**3"}, {"x": "0.3*x"}), np.arange(5), 4
    whole, method = couple(model, find(scheme, ("sde",)), copies_of(True, True, False))
    found = integrate(whole, method, np.ones((4, 5)), {}, np.array([0.0, 1.0]), 1 / steps, seed=3, members=members)
    z = np.array([[normals(3, members, s, c) for c in (0, 1)] for s in range(steps)]) * np.sqrt(1 / (2 * steps))
    fine, coarse = z.reshape(2 * steps, 5), z.sum(axis=1)
    for row, increments, sign in [(0, fine, 1), (1, fine, -1), (2, coarse, 1), (3, coarse, -1)]:
        assert found.states[-1, row] == pytest.approx(driven(model, scheme, sign * increments), rel=1e-12)


def driven(model, scheme, increments):
    from sdesim.methods.bound import BoundSDE, Wiener
    from sdesim.methods.vector import Vector

    method = find(scheme, ("sde",))
    m, y, h = BoundSDE(model, method.calculus, {}), Vector([np.ones(increments.shape[1])]), 1 / len(increments)
    for s, dW in enumerate(increments):
        y = method.step(m, s * h, y, h, Wiener(Vector([dW])))
    return y[0]


def decay(p, swapped=False, levels=6, samples=20_000):
    """Slopes of log₂ variance and their standard error over levels 2 …, each from its own samples."""
    ladder = Ladder(p, 1, False, swapped)
    spread = []
    for level in range(levels + 1):
        ladder.add(level, samples)
    found = ladder.levels()
    for level in range(2, levels + 1):
        values = p.sample(copies_of(True, False, swapped), 2 ** (level - 1), 0, samples, 100 + level)
        kurtosis = stats.kurtosis(values, fisher=False)
        spread.append(np.sqrt((kurtosis - 1) / samples) / np.log(2))
    x = np.arange(2, levels + 1) - (levels + 2) / 2
    y = np.log2([v.variance for v in found[2:]])
    return x @ y / (x @ x), np.sqrt(np.sum((x * spread) ** 2)) / (x @ x)


@pytest.mark.parametrize("scheme, claimed", [("euler_maruyama", -1.0), ("milstein", -2.0), ("heun", -2.0)])
def test_variance_of_the_levels(scheme, claimed):
    # a smooth functional of geometric Brownian motion: strong order ½ and 1
    slope, error = decay(problem(GBM, {"x": 1.0}, "x**2", scheme))
    assert error < 0.05
    assert abs(slope - claimed) < 0.15 + 2 * error, f"{slope:.3f} ± {error:.3f}, claimed {claimed}"


@pytest.mark.parametrize("scheme, claimed", [("euler_maruyama", -1.0), ("milstein", -2.0)])
def test_variance_of_the_levels_for_a_european_call(scheme, claimed):
    # Giles 2008: a kink on a set of small measure does not spoil the order
    slope, error = decay(problem(GBM, {"x": 100.0}, CALL, scheme), samples=40_000)
    assert abs(slope - claimed) < 0.15 + 3 * error, f"{slope:.3f} ± {error:.3f}, claimed {claimed}"


def test_swapped_twins_restore_order_two_without_levy_areas():
    p = problem(AREA, {"x": 0.0, "y": 0.0}, "cos(y)", TRUNCATED_MILSTEIN.name)
    with_twins, error = decay(p, swapped=True)
    without, other = decay(p, swapped=False)
    assert abs(with_twins + 2) < 0.15 + 2 * error, f"{with_twins:.3f} ± {error:.3f}"
    assert abs(without + 1) < 0.15 + 2 * other, f"{without:.3f} ± {other:.3f}"


@pytest.mark.parametrize("options, rmse", [
    ({}, 0.06), ({"scheme": "euler_maruyama"}, 0.08), ({"antithetic": True}, 0.06),
    ({"control": ("x", 100 * np.exp(0.05))}, 0.03), ({"method": "mc"}, 0.15), ({"method": "rqmc", "steps": 1}, 0.1),
])  # fmt: skip
def test_the_stated_rmse_is_met_for_a_european_call(options, rmse):
    found = [sim.estimate(GBM, {"x": 100.0}, 1.0, CALL, rmse=rmse, seed=s, **options) for s in range(30)]
    errors = np.array([f.value for f in found]) - BLACK_SCHOLES
    assert all(f.error <= 1.001 * rmse for f in found)
    # were the mean square error exactly rmse², the sum of 30 squares would exceed this once in 1000
    assert np.sum(errors**2) <= rmse**2 * stats.chi2(30).ppf(0.999)
    # and the estimate does not claim more than it has: the spread is that of its standard error
    ratio = np.array([(f.value - np.mean([g.value for g in found])) / f.standard_error for f in found])
    assert stats.chi2(29).ppf(0.0005) < np.sum(ratio**2) < stats.chi2(29).ppf(0.9995)


@pytest.mark.parametrize("functional, exact", [
    ("x", 0.5 + 0.5 * np.exp(-1)), ("(x - mu)**2", 0.25 * np.exp(-2) + 0.32 * (1 - np.exp(-2))),
])  # fmt: skip
def test_moments_of_ornstein_uhlenbeck(functional, exact):
    model = sim.equations.ornstein_uhlenbeck(theta=1.0, mu=0.5, sigma=0.8)
    found = [sim.estimate(model, {"x": 1.0}, 1.0, functional, rmse=0.01, seed=s) for s in range(10)]
    assert np.sum((np.array([f.value for f in found]) - exact) ** 2) < 1e-4 * stats.chi2(10).ppf(0.999)


def test_a_second_moment_with_levy_areas():
    # y = ∫ W dW', E y² = t²/2; the scheme is chosen for noise that does not commute
    found = sim.estimate(AREA, {"x": 0.0, "y": 0.0}, 1.0, "y**2", rmse=0.01, seed=5)
    assert found.scheme == TRUNCATED_MILSTEIN.name
    assert abs(found.value - 0.5) < 0.03


def test_random_parameters_and_starts_are_averaged_over():
    # E over k ~ U(0, 1) and x₀ ~ N(2, 1) of x₀ e^{−k}
    model = sim.SDE({"x": "-k*x"}, {"x": "0.1"}, parameters={"k": 0.0})
    found = sim.estimate(model, {"x": stats.norm(2, 1)}, 1.0, "x", rmse=0.01, parameters={"k": stats.uniform(0, 1)})
    assert abs(found.value - 2 * (1 - np.exp(-1))) < 0.03


def test_multilevel_costs_less_than_one_level_and_control_and_antithetic_variates_save():
    def cost(**options):
        return sim.estimate(GBM, {"x": 100.0}, 1.0, CALL, rmse=0.02, seed=1, **options).cost

    plain = cost()
    assert cost(method="mc") > 10 * plain
    assert cost(antithetic=True) < plain
    assert cost(control=("x", 100 * np.exp(0.05))) < plain
    # O(ε⁻²): half the error for about four times the cost
    assert sim.estimate(GBM, {"x": 100.0}, 1.0, CALL, rmse=0.01, seed=1).cost < 5 * plain


def test_quasi_monte_carlo_beats_the_square_root_law():
    # the same standard error as n = 32·points independent samples would be √(V/n) ≈ 14.7/√n
    found = sim.estimate(GBM, {"x": 100.0}, 1.0, CALL, rmse=0.05, method="rqmc", seed=2)
    sample = found.levels[-1]
    assert found.standard_error < 0.3 * 14.7 / np.sqrt(sample.samples)


def test_functionals_by_text_by_name_and_by_mapping_agree():
    ways = ["max(x - 1, 0)", lambda x: np.maximum(x - 1, 0), lambda states: np.maximum(states["x"] - 1, 0)]
    values = {sim.estimate(GBM, {"x": 1.0}, 1.0, way, rmse=0.02, seed=4).value for way in ways}
    assert len(values) == 1


def test_the_bits_do_not_depend_on_the_backend():
    found = [sim.estimate(GBM, {"x": 1.0}, 1.0, "x", rmse=0.01, seed=4, device=d).value for d in ("cpu", "reference")]
    assert found[0] == found[1]


def test_streams_of_one_seed_differ():
    assert len({stream_seed(s, k) for s in range(20) for k in range(20)}) == 400


@pytest.mark.parametrize("steps", [1, 2, 7, 64])
def test_a_brownian_bridge_is_an_orthogonal_change_of_normals(steps):
    A = brownian_bridge(np.eye(steps))
    assert np.allclose(A @ A.T, np.eye(steps), atol=1e-12)
    assert np.allclose(A.sum(axis=0), np.eye(steps)[0] * np.sqrt(steps), atol=1e-12)  # the first normal is the end


def test_allocation_is_lagrange_s():
    levels = (Level(1, 10, 0, 4.0, 1), Level(2, 10, 0, 0.25, 4))
    n = allocation(levels, np.array([4.0, 0.25]), 0.01)
    assert sum(v.variance / k for v, k in zip(levels, n)) <= 0.01
    assert n[0] / n[1] == pytest.approx(np.sqrt((4.0 / 1) / (0.25 / 4)), rel=0.01)


def test_bias_of_a_geometric_series_is_its_tail():
    means = np.array([9.0, *(0.3 * 0.5 ** np.arange(1, 6))])
    assert bias_left(means, 1.0) == pytest.approx(0.3 * sum(0.5**k for k in range(6, 60)))


def down_and_out(S=100.0, K=100.0, B=90.0, r=0.05, sigma=0.25, T=1.0):
    """(model, E[e^{−rT} (S − K)⁺; S > B until T]) (Reiner & Rubinstein 1991, K ≥ B)."""
    def call(s):
        d = (np.log(s / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
        return s * stats.norm.cdf(d) - K * np.exp(-r * T) * stats.norm.cdf(d - sigma * np.sqrt(T))

    model = sim.SDE({"x": "r*x"}, {"x": "s*x"}, parameters={"r": r, "s": sigma}, bounds={"x": sim.Absorbing(lo=B)})
    return model, call(S) - (B / S) ** (2 * r / sigma**2 - 1) * call(B**2 / S)


@pytest.mark.parametrize("method", ["mlmc", "mc"])
@pytest.mark.parametrize("scheme", ["milstein", "euler_maruyama"])
def test_a_barrier_option_is_worth_what_the_closed_form_says(scheme, method):
    model, exact = down_and_out()
    found = sim.estimate(model, 100.0, 1.0, "alive*exp(-r*t)*max(x - 100, 0)", rmse=0.05, scheme=scheme, method=method, seed=3)
    assert abs(found.value - exact) < 4 * found.error and found.error <= 0.05
    assert 2.0 < 0.58 * 0.25 * 100 * 0.25  # a check at 16 steps alone would move the barrier by that much


def test_levels_of_a_barrier_option_decay_as_theory_says():
    # Milstein with the conditional probability of having crossed: variance h^{3/2} (Giles 2008)
    model, _ = down_and_out()
    p = problem(model, 100.0, "alive*max(x - 100, 0)", "milstein")
    ladder = Ladder(p, 16, False, False)
    for level in range(6):
        ladder.add(level, 20_000)
    variances = np.log2([level.variance for level in ladder.levels()][2:])
    slope = np.polyfit(np.arange(len(variances)), variances, 1)[0]
    assert -2.0 < slope < -1.15


@pytest.mark.parametrize("bound, functional", [
    (sim.Absorbing(hi=1.5), "alive"), (sim.Absorbing(lo=0.5), "(2 - alive)*x**2"), (sim.Reflecting(lo=0.4), "x"),
    (sim.Reflecting(hi=1.3), "x**2"),
])  # fmt: skip
def test_the_coarse_paths_of_a_level_have_the_law_of_the_fine_ones_below(bound, functional):
    # what makes the sum of the levels telescope: two pieces with their middle drawn, or one, in the same mean
    model = sim.SDE({"x": "-x"}, {"x": "0.6*x"}, bounds={"x": bound})
    p = problem(model, 1.0, functional, "milstein")
    coarse = p.sample((Copy(2, 0.0), Copy(1, 1.0)), 2, 0, 40_000, 1)
    alone = p.sample((Copy(1, 1.0),), 2, 0, 40_000, 2)
    assert abs(coarse.mean() - alone.mean()) < 4 * np.sqrt((coarse.var() + alone.var()) / 40_000)


def test_bounds_of_general_noise_and_of_reflection_agree_with_simulate():
    heston = sim.SDE({"x": "0.05*x", "v": "0.2 - v"}, {"x": {"a": "sqrt(abs(v))*x"}, "v": {"a": "-0.1*v", "b": "0.3*v"}},
                     bounds={"x": sim.Absorbing(hi=1.4)})  # fmt: skip
    found = sim.estimate(heston, {"x": 1.0, "v": 0.2}, 1.0, "alive", rmse=0.01, seed=2)
    alive = np.isnan(sim.simulate(heston, {"x": 1.0, "v": 0.2}, [1.0], members=20_000, dt=0.01, seed=1).exit_time.values)
    assert found.scheme == TRUNCATED_MILSTEIN.name
    assert abs(found.value - alive.mean()) < 4 * np.hypot(found.error, np.sqrt(0.25 / 20_000))
    mirror = sim.SDE({"x": "-0.5"}, {"x": 1}, bounds={"x": sim.Reflecting(lo=0.0)})
    exact = sim.simulate(mirror, 0.4, [1.0], members=40_000, method="exact", seed=4).x.values
    found = sim.estimate(mirror, 0.4, 1.0, "x", rmse=0.01, seed=1)
    assert abs(found.value - exact.mean()) < 4 * np.hypot(found.error, exact.std() / 200)


@pytest.mark.parametrize("bounds, options, message", [
    ({"x": sim.Absorbing(0.0, 2.0)}, {}, "one end"), ({"x": sim.Reflecting(0.0, 2.0)}, {}, "one end"),
    ({"x": sim.Absorbing(lo=0.0), "y": sim.Reflecting(lo=0.0)}, {}, "bounds of one state"),
    ({"x": sim.Absorbing(lo=0.0)}, {"functional": "y"}, "depends on y, z at that time"),
    ({"x": sim.Absorbing(lo=0.0)}, {"functional": "alive", "method": "rqmc"}, "rqmc takes SDEs without bounds"),
    ({"z": sim.Reflecting(lo=0.0)}, {}, "no noise of its own"),
])  # fmt: skip
def test_bounds_that_estimate_cannot_keep_are_said(bounds, options, message):
    model = sim.SDE({"x": "-x", "y": 1, "z": "-z"}, {"x": 0.5, "y": 0.1}, bounds=bounds)
    with pytest.raises(ValueError, match=message):
        sim.estimate(model, {"x": 1.0, "y": 1.0, "z": 1.0}, 1.0, **{"functional": "x", "rmse": 0.1, **options})


@pytest.mark.parametrize("change, message", [
    ({"rmse": 0.0}, "rmse is a positive"), ({"rmse": np.nan}, "rmse is a positive"), ({"method": "magic"}, "mlmc, mc"),
    ({"scheme": "rk4"}, "scheme is one of"), ({"time": -1.0}, "time is a positive"), ({"functional": "q"}, "unknown name"),
    ({"functional": "log(x - 1)"}, "not finite"), ({"initial": {"x": [1.0, 2.0]}}, "list over members"),
    ({"parameters": {"q": 1.0}}, "no parameter"), ({"steps": 0}, "steps"), ({"seed": -1}, "seed"),
    ({"control": "x"}, "pair"), ({"method": "rqmc", "initial": {"x": stats.norm(1, 1)}}, "distribution"),
    ({"functional": lambda x: x[:1]}, "one number for each"), ({"rmse": True}, "rmse is a positive"),
    ({"functional": lambda x: 1j * x}, "real numbers"), ({"device": "tpu"}, "device"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(change, message):
    call = {"model": GBM, "initial": {"x": 1.0}, "time": 1.0, "functional": "x", "rmse": 0.1} | change
    with pytest.raises((ValueError, TypeError), match=message):
        sim.estimate(call.pop("model"), call.pop("initial"), call.pop("time"), call.pop("functional"), **call)


def test_noise_that_a_scheme_does_not_allow_is_refused():
    assert "milstein" in SCHEMES
    with pytest.raises(ValueError, match="does not serve general"):
        sim.estimate(AREA, {"x": 0.0, "y": 0.0}, 1.0, "y", rmse=0.1, scheme="milstein")


def test_paths_that_blow_up_are_said():
    with pytest.raises(ValueError, match="finite"):
        sim.estimate(sim.SDE({"x": "x**3"}, {"x": "1"}), {"x": 2.0}, 5.0, "x", rmse=0.1, steps=64)


@pytest.mark.parametrize("method", ["mlmc", "mc", "rqmc"])
def test_what_few_paths_meet_is_within_the_error_stated(method):
    # P(S > 200) = 4.5e-4: among a thousand paths there may be none, whose variance says that nothing is uncertain
    wanted = stats.norm.sf((np.log(2.0) - 0.03) / 0.2)
    found = [sim.estimate(GBM, 100.0, 1.0, "where(x > 200, 1, 0)", rmse=1e-4, method=method, seed=s) for s in range(6)]
    assert all(f.error <= 1e-4 for f in found)
    assert np.sqrt(np.mean([(f.value - wanted) ** 2 for f in found])) < 2e-4


@pytest.mark.parametrize("scheme", ["euler_maruyama", "milstein"])
def test_the_error_stated_of_a_rare_event_is_that_of_its_estimates(scheme):
    # P(S > 190) = 1.1e-3: most runs have a level without an event, whose own variance is 0
    wanted, rmse, seeds = stats.norm.sf((np.log(1.9) - 0.03) / 0.2), 1e-4, 30
    found = [sim.estimate(GBM, 100.0, 1.0, "where(x > 190, 1, 0)", rmse=rmse, scheme=scheme, seed=s) for s in range(seeds)]
    assert np.mean([any(level.variance == 0.0 for level in f.levels) for f in found]) > 0.3
    error, stated = np.array([f.value - wanted for f in found]), np.array([f.standard_error for f in found])
    # the spread of 30 estimates is known to 13 %; without what the levels before foretell it is 7 times the one stated
    assert error.std(ddof=1) < 1.4 * np.sqrt(np.mean(stated**2))
    assert np.sqrt(np.mean(error**2)) < 1.5 * rmse and np.abs(error).max() < 4 * rmse


def test_what_a_level_has_seen_little_of_is_foretold_by_the_one_before():
    few, many = Level(2, 1000, 0.0, 0.0, 3), Level(2, 10**6, 0.0, 1e-4, 3)
    first, pilot = Level(1, 10**6, 0.001, 0.001, 1), (1.0, 0.001)
    assert believed((first, few), [1.0, 0.0], 1.0, pilot)[1] == pytest.approx(1 / (1 / 5e-4 + 1000), rel=2e-3)
    assert believed((first, many), [1.0, 1.0], 1.0, pilot)[1] == pytest.approx(1e-4, rel=0.02)  # what was seen counts
    unseen = Level(1, 1000, 0.0, 0.0, 1)  # the coarsest level: the pilot knows
    assert believed((unseen,), [0.0], 1.0, pilot)[0] == pytest.approx(1 / (1 / 1e-3 + 1000))
    assert believed((unseen,), [0.0], 1.0, (0.0, 0.0))[0] == 0.0  # a constant


def test_of_a_constant_nothing_is_missed():
    found = sim.estimate(GBM, 100.0, 1.0, "2 + 0*x", rmse=1e-9)
    assert (found.value, found.error) == (2.0, 0.0)
