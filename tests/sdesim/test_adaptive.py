"""Steps that follow an error estimate: the path stays a Brownian path, the limit the equation, the bits a member's own."""

import shutil

import numpy as np
import pytest

import sdesim as sim
from sdesim import integrate_adaptive as engine
from sdesim.arithmetic import NUMPY
from sdesim.integrate import integrate
from sdesim.integrate_adaptive import STEP_LIMIT, integrate_adaptive, save_points
from sdesim.kernels import sde_tree as tree
from sdesim.kernels.sde_adaptive_cuda import adaptive_on_host, launch
from sdesim.kernels.sde_lanes import LANES
from sdesim.kernels.sde_trace import trace
from sdesim.kernels.sde_tree import joined, split, word
from sdesim.methods import find, rows
from sdesim.methods.adaptive import adapts, control, refusal
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.vector import Vector
from sdesim.streams import seed_key

SEED = 2**40 + 3
MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, 17, 18, 19, 20])
# at the start, inside the first root step (at its middle too), at root steps' ends, close together, past the last end
TIMES = 0.3 + 0.25 * np.array([0.0, 0.2, 0.5, 0.5001, 0.9, 1.0, 2.0, 2.75, 3.0, 4.1, 4.1000001, 5.0, 5.3])


def method(name):
    return find(name, ("sde",))


def run(model, name, tol, *, members=MEMBERS, times=TIMES, start=None, parameters=None, dt=0.25, seed=SEED, **options):
    start = np.ones((len(model.states), len(members))) if start is None else start
    values = dict(model.parameters) if parameters is None else parameters
    how = control(model, method(name), 0.0, (tol,) * len(model.states))
    return integrate_adaptive(model, method(name), start, values, times, dt, how, seed=seed, members=members, **options)


def wiener(members, times, processes=1, dt=0.25, seed=SEED):
    """The path (process, time, member)."""
    return sim.brownian(seed, members, times, processes=processes, dt=dt, adaptive=True).transpose(
        "process", "time", "member"
    ).values  # fmt: skip


# the path


def test_halves_of_a_node_have_their_law_and_make_up_the_whole():
    n = 200_000
    node = np.random.default_rng(0).standard_normal((2, n))
    counter = [np.arange(n, dtype=np.uint64), np.uint64(7), np.uint64(5), np.uint64(word(2))]
    halves = split(NUMPY, tuple(node), counter, seed_key(3))
    covariance = np.cov(np.array(halves))
    # standard error of a variance √(2/n) = 0.0032, of a covariance 0.0022
    assert np.abs(covariance - np.eye(4)).max() < 4.5 * np.sqrt(2 / n)
    start, half = (np.zeros(n), np.zeros(n)), np.float64(0.5)
    together = joined(NUMPY, joined(NUMPY, start, halves[:2], half), halves[2:], half)
    for pieces, whole in zip(together, joined(NUMPY, start, tuple(node), np.float64(1.0))):
        assert np.allclose(pieces, whole, rtol=0, atol=1e-14)


def test_the_path_at_any_times_is_brownian():
    times = np.array([0.1, 0.3, 1 / 3, 0.5, 0.50001, 0.8, 1.37])
    n = 40_000
    W = wiener(np.arange(n), times, dt=0.5)[0]
    law = np.minimum.outer(times, times)
    error = np.sqrt((law**2 + np.outer(times, times)) / n)  # of an entry of the sample covariance
    assert (np.abs(W @ W.T / n - law) < 4.5 * error).all()
    steps = np.diff(W, axis=0, prepend=0.0) / np.sqrt(np.diff(times, prepend=0.0))[:, None]
    fourth = (steps**4).mean(axis=1)
    assert np.abs(fourth - 3.0).max() < 4.5 * np.sqrt(96 / n)


def test_the_path_is_that_of_fixed_steps_on_their_grid_and_of_any_other_times():
    members, times = np.array([3, 2**32 - 1]), np.array([0.0, 0.1, 0.25, 0.4, 0.5, 1.75])
    W = sim.brownian(SEED, members, times, processes=2, dt=0.25, adaptive=True)
    fixed = sim.brownian(SEED, members, times[[2, 4, 5]], processes=2, dt=0.25)
    assert np.allclose(W[..., [2, 4, 5]], fixed, rtol=0, atol=1e-14)
    assert np.array_equal(sim.brownian(SEED, members, [0.4], processes=2, dt=0.25, adaptive=True)[..., 0], W[..., 3])
    assert len(np.unique(W[..., 1:])) == 20  # every member and process its own


@pytest.mark.parametrize("name", ["euler_maruyama", "sra1"])
def test_every_tolerance_sees_the_same_path(name):
    # w is the path itself; the oscillator beside it makes the steps small, and at every tolerance others
    model = sim.SDE({"w": 0, "x": "v", "v": "-900*x - 3*v"}, {"w": {"W": 1}, "v": {"W": 5, "U": 3}})
    W = wiener(MEMBERS, TIMES - TIMES[0], processes=2)[0]
    steps = []
    for tol in (1.0, 0.1, 0.01):
        result = run(model, name, tol, start=np.zeros((3, len(MEMBERS))))
        assert np.abs(result.states[:, 0] - W).max() < 1e-13
        steps.append(result.steps[0].mean())
    assert steps[0] > 30 and steps[1] > 1.5 * steps[0] and steps[2] > 1.5 * steps[1]


# the limit

ADDITIVE = sim.SDE({"x": "b/sqrt(1 + t) - x/(2*(1 + t))"}, {"x": "a*b/sqrt(1 + t)"}, parameters={"a": 0.5, "b": 2.0})
GBM = sim.SDE({"x": "1.5*x"}, {"x": "x"})
CUBIC = sim.SDE({"x": "-x*(1 - x**2)/4"}, {"x": "(1 - x**2)/2"})
TOCINO = sim.SDE({"x": "x**(1/3)/3 + 6*x**(2/3)"}, {"x": "x**(2/3)"})
LINEAR = sim.SDE({s: f"0.3*{s}" for s in "xy"}, {s: {"a": f"0.6*{s}", "b": f"0.8*{s}"} for s in "xy"})
EXACT = {
    "additive": (ADDITIVE, 1, lambda t, W: (1.0 + 2.0 * (t + 0.5 * W[0])) / np.sqrt(1.0 + t)),
    "geometric": (GBM, 1, lambda t, W: np.exp(t + W[0])),
    "cubic": (CUBIC, 1, lambda t, W: (1.5 * np.exp(W[0]) - 0.5) / (1.5 * np.exp(W[0]) + 0.5)),
    "Tocino": (TOCINO, 1, lambda t, W: (2.0 * t + 1.0 + W[0] / 3.0) ** 3),
    "commuting": (LINEAR, 2, lambda t, W: np.exp(-0.2 * t + 0.6 * W[0] + 0.8 * W[1])),
}
CASES = [
    ("additive", "euler_maruyama"), ("additive", "sra1"), ("additive", "shark"), ("geometric", "milstein"),
    ("geometric", "sosri"), ("geometric", "heun"), ("cubic", "milstein_free"), ("cubic", "sriw1"), ("Tocino", "sriw2"),
    ("Tocino", "milstein"), ("commuting", "slowrk"), ("commuting", "milstein"),
]  # fmt: skip


@pytest.mark.parametrize("problem, name", CASES)
def test_the_error_is_proportional_to_the_tolerance(problem, name):
    model, processes, exact = EXACT[problem]
    members, times = np.arange(1500), np.array([0.0, 0.6, 1.0])
    W = wiener(members, times, processes, dt=1.0)
    start = np.full((len(model.states), len(members)), 0.5 if problem == "cubic" else 1.0)
    tolerances = np.array([3e-2, 1e-2, 3e-3])  # smaller where root steps would do
    tolerances *= (0.1 if method(name).strong == 1.5 else 1.0) * (1.0 if problem in ("geometric", "Tocino") else 0.1)
    errors = []
    for tol in tolerances:
        result = run(model, name, tol, members=members, times=times, start=start, dt=1.0)
        assert not result.status.any()
        errors.append(np.sqrt(np.mean((result.states[1:, 0] - exact(times[1:, None], W[:, 1:])) ** 2, axis=1)))
    assert (errors < 8.0 * tolerances[:, None]).all()
    slopes = np.log(np.divide(errors[0], errors[-1])) / np.log(tolerances[0] / tolerances[-1])
    assert (slopes > 0.75).all() and (slopes < 1.2).all(), slopes


def test_a_step_that_is_right_by_chance_is_not_believed():
    # the two results of a first step far too long agree within tol with a chance of about tol: without further looks
    # these members' errors make the root mean square go like √tol
    members, times = np.arange(20_000), np.array([0.0, 1.0])
    W = wiener(members, times, dt=1.0)[0, 1]
    result = run(TOCINO, "sriw2", 3e-3, members=members, times=times, dt=1.0, start=np.ones((1, 20_000)))
    error = np.abs(result.states[1, 0] - EXACT["Tocino"][2](1.0, W[None]))
    assert error.max() < 20.0 * np.sqrt(np.mean(error**2)) and np.sqrt(np.mean(error**2)) < 2.0 * np.median(error)


def test_steps_chosen_by_their_own_increment_bias_euler_but_not_milstein(monkeypatch):
    # dx = x dW: mean 1, x = exp(W − t/2). Euler leaves out ½ x (ΔW² − h), whose mean is zero until steps are chosen
    members, times = np.arange(20_000), np.array([0.0, 1.0])
    model, W = sim.SDE({"x": 0}, {"x": "x"}), wiener(np.arange(20_000), np.array([0.0, 1.0]))[0, 1]
    truth = np.exp(W - 0.5)
    fixed = integrate(model, method("euler_maruyama"), np.ones((1, 20_000)), {}, times, 0.05, seed=SEED, members=members)
    assert abs(fixed.states[1].mean() - 1.0) < 4.0 * truth.std() / np.sqrt(20_000)
    good = run(model, "milstein", 0.01, members=members, times=times).states[1, 0]
    error = truth.std() / np.sqrt(20_000)
    assert abs(good.mean() - 1.0) < 4.0 * error and abs(np.mean(good - truth)) < 0.01
    assert np.sqrt(np.mean((good - truth) ** 2)) < 0.06
    assert abs(good.var() / truth.var() - 1.0) < 0.05
    with pytest.raises(ValueError, match="would bias it.*milstein, heun.*or leave them out and give dt"):
        sim.simulate(model, {"x": 1.0}, [1.0], method="euler_maruyama", rtol=1e-2)
    # accept what is below the tolerance, go on with what the last error says: what a plain controller does
    monkeypatch.setattr(tree, "MEMORY", 0.0)
    monkeypatch.setattr(engine, "ALLOWED", 1.0)
    monkeypatch.setattr(engine, "DOUBT", 0)
    some, mean, rms = slice(0, 1500), [], []
    for tol in (0.2, 0.1):
        naive = run(model, "euler_maruyama", tol, members=members[some], times=times, backend="numpy").states[1, 0]
        mean.append(naive.mean() - truth[some].mean())
        rms.append(np.sqrt(np.mean((naive - truth[some]) ** 2)))
    assert min(mean) > 4.0 * rms[0] / np.sqrt(1500) and mean[1] > mean[0] > 0.08  # no smaller tolerance helps
    assert min(rms) > 0.25


def test_general_noise_keeps_the_law_of_the_levy_area():
    # y = ∫ x ∘ dU with x = W, z = ∫ W dU − ∫ U dW: mean 0, E y² = t²/2, E z² = t², E y z = t²/2
    model = sim.SDE(
        {"x": 0, "u": 0, "y": 0, "z": 0},
        {"x": {"W": 1}, "u": {"U": 1}, "y": {"U": "x"}, "z": {"U": "x", "W": "-u"}}, interpretation="stratonovich",
    )  # fmt: skip
    assert model.noise_type == "general"
    n = 20_000
    result = run(model, "heun", 0.04, members=np.arange(n), times=np.array([0.0, 1.0]), start=np.zeros((4, n)), dt=0.5)
    assert result.steps[1].max() > 8 and result.steps[0].std() > 10  # steps follow the path
    _, _, y, z = result.states[1]
    for value, truth in ((y, 0.0), (z, 0.0), (y * y, 0.5), (z * z, 1.0), (y * z, 0.5)):
        # the area within steps is left out: of E z² the sum of h², less than the longest step
        assert abs(value.mean() - truth) < 4.0 * value.std() / np.sqrt(n) + 0.02


def test_a_stiff_burst_at_a_loose_tolerance_where_fixed_steps_fail():
    # dx = −x³ dt·10 + 2 dW: fixed steps of 0.1 explode, no step is needed in the calm; ∝ exp(−5x⁴/4) in the end
    model = sim.SDE({"x": "-10*x**3"}, {"x": 2})
    n, times = 20_000, np.array([0.0, 1.0, 2.0])
    start = np.full((1, n), 3.0)
    fixed = integrate(model, method("sra1"), start, {}, times, 0.1, seed=SEED, members=np.arange(n))
    assert fixed.status.mean() > 0.9
    result = run(model, "sra1", 0.03, members=np.arange(n), times=times, start=start, dt=0.1)
    grid = np.linspace(-4, 4, 4001)
    density = np.exp(-1.25 * grid**4)
    for power in (2, 4):
        value, truth = result.states[2, 0] ** power, np.sum(grid**power * density) / np.sum(density)
        assert abs(value.mean() - truth) < 4.0 * value.std() / np.sqrt(n)
    assert not result.status.any() and abs(result.states[2].mean()) < 4.0 * result.states[2].std() / np.sqrt(n)


SAMPLES = (
    sim.SDE({"x": "v", "v": "-x - v"}), sim.SDE({"x": "v", "v": "-x - v"}, {"v": "1 + t"}),
    sim.SDE({"x": "v", "v": "-sin(x) - v"}, {"v": "0.5"}), sim.SDE({"x": "t - x"}, {"x": "sin(x) + t"}),
    sim.SDE({"x": "-x*y", "y": "x"}, {"x": "x*x", "y": "cos(y)"}),
    sim.SDE({"x": "-x", "y": "-y"}, {s: {"a": f"0.2*{s}", "b": f"0.7*{s}"} for s in "xy"}),
    sim.SDE({"x": "1 - x", "y": "-y"}, {"x": {"a": "sin(x) + y", "b": "0.2*y"}, "y": {"a": "0.3*x*x", "b": "x"}}),
)  # fmt: skip


@pytest.mark.parametrize("name", [m.name for m in rows(("sde",)) if adapts(m)])
def test_a_method_that_may_choose_its_steps_leaves_out_no_term_of_order_h(name):
    """On every path X + f h + Σ g ΔW + ½ Σ L^c g_k ΔW_c ΔW_k up to h^{3/2}, in the Stratonovich calculus."""
    tried = 0
    for model in SAMPLES:
        if method(name).refusal(model) is not None or refusal(method(name), model) is not None:
            continue
        tried += 1
        own, S = BoundSDE(model, method(name).calculus or "ito", {}), BoundSDE(model, "stratonovich", {})
        left = []
        for h in (1e-4, 1e-6):
            draw = np.random.default_rng(1)
            y = Vector(draw.uniform(0.5, 1.5, (len(model.states), 50)))
            z, a = draw.standard_normal((2, len(model.channels), 50))
            W = Vector(z * np.sqrt(h))
            stepped = method(name).at(model, h).step(own, 0.3, y, h, Wiener(W, np.sqrt(h), lambda kind, c, a=a: a[c]))
            both = S.milstein_general(0.3, y, lambda c, k, W=W: W[c] * W[k] * 0.5)
            taylor = y + S.f(0.3, y) * h + S.noise(0.3, y, W) + both
            left.append(max(np.abs(np.asarray(p) - q).max() for p, q in zip(stepped, taylor)))
        assert left[1] < max(2e-3 * left[0], 1e-14), (str(model), left)
    assert tried


# the bits

MODELS = {
    "no noise": sim.SDE({"x": "v", "v": "-sin(x) - 9*x*t"}, {}),
    "additive": sim.SDE({"x": "-k*x + sin(3*t)", "y": "x"}, {"x": {"W": "s*exp(-t)", "U": "0.2"}},
                        parameters={"k": 2.0, "s": 0.5}),
    "scalar": sim.SDE({"x": "m*x", "y": "-y"}, {"x": {"W": "b*x"}, "y": {"W": "0.3*cos(y)"}},
                      parameters={"m": 0.1, "b": 0.9}),
    "diagonal": sim.SDE({"x": "y - x", "y": "x*(2 - y)"}, {"x": "0.3*sqrt(1 + x**2)", "y": "q*tanh(y) + 0.1"},
                        parameters={"q": 0.3}),
    "general": sim.SDE({"x": "-x", "y": "-c*y"}, {"x": {"a": "0.4", "b": "0.2*y"}, "y": {"a": "0.3*x*x", "b": "c"}},
                       parameters={"c": 0.5}),
    "explosive": sim.SDE({"x": "x**3 - k*x"}, {"x": "0.1"}, parameters={"k": 2.0}),
}  # fmt: skip
PARITY = [
    ("no noise", "heun", 1e-3), ("additive", "sra1", 1e-3), ("additive", "euler_maruyama", 1e-2),
    ("scalar", "sosri", 3e-3), ("diagonal", "milstein", 1e-2), ("diagonal", "implicit_milstein", 1e-2),
    ("general", "heun", 6e-3), ("general", "midpoint", 6e-3), ("explosive", "shark", 30.0),
]  # fmt: skip


def setting(name):
    """(initial values, parameters, the first of which is a number of its own for each member)."""
    model, count = MODELS[name], len(MEMBERS)
    start = np.random.default_rng(3).uniform(0.4, 1.6, (len(model.states), count))
    values = {k: v * np.linspace(0.5, 1.5, count) if i == 0 else v for i, (k, v) in enumerate(model.parameters.items())}
    return start, values


@pytest.fixture(scope="module")
def references():
    return {case: of_case(*case, "numpy") for case in PARITY}


def of_case(name, way, tol, backend, **options):
    start, values = setting(name)
    return run(MODELS[name], way, tol, start=start, parameters=values, backend=backend, **options)


def same(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in ((a.states, b.states), (a.status, b.status), (a.steps, b.steps)))


@pytest.mark.parametrize("case", PARITY)
def test_the_kernel_gives_the_bits_of_the_reference(case, references):
    assert references[case].steps[0].max() > 20 and references[case].steps[1].max() > 2
    assert (references[case].status.max() == STEP_LIMIT) == (case[0] == "explosive")
    assert same(of_case(*case, "kernel"), references[case])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    settings = [setting(name) for name, _, _ in PARITY]
    traces = [trace(MODELS[name], method(way), frozenset(list(values)[:1]))
              for (name, way, _), (_, values) in zip(PARITY, settings)]  # fmt: skip
    saves = save_points(TIMES, 0.25)
    for case, tr, (start, values), call in zip(PARITY, traces, settings, adaptive_on_host(*traces)):
        how = control(MODELS[case[0]], method(case[1]), 0.0, (case[2],) * len(start))
        out = np.full((len(TIMES), *start.shape), np.nan)
        out[: saves.first] = start
        stuck, steps = launch(call, tr, start, values, how.numbers, (saves.root, saves.part, saves.first), TIMES[0],
                              0.25, SEED, MEMBERS, out)  # fmt: skip
        reference = references[case]
        assert np.array_equal(out, reference.states, equal_nan=True), case
        assert np.array_equal(steps, reference.steps) and np.array_equal(stuck == 1, reference.status == STEP_LIMIT)


@pytest.mark.gpu
@pytest.mark.parametrize("case", PARITY)
def test_the_gpu_gives_the_bits_of_the_reference(case, references):
    assert same(of_case(*case, "cuda"), references[case])


def test_bits_do_not_depend_on_the_cut_the_order_or_the_threads(monkeypatch):
    count = 2 * LANES + 76
    members, model = 3 + np.arange(count), MODELS["scalar"]
    own = {"m": np.linspace(-0.5, 0.5, count), "b": 0.9}
    times = TIMES[[0, 2, 4, 9, 12]]

    def part(cut, **options):
        start = np.random.default_rng(1).uniform(0.4, 1.6, (2, count))[:, cut]
        return run(model, "milstein", 1e-2, members=members[cut], start=start, times=times,
                   parameters={"m": own["m"][cut], "b": 0.9}, **options)  # fmt: skip

    whole = part(slice(None))
    order = np.random.default_rng(0).permutation(count)
    assert np.array_equal(part(order).states, whole.states[..., order])
    for cut in (slice(0, 7), slice(LANES - 3, LANES + 4), slice(count - 1, count)):
        assert np.array_equal(part(cut).states, whole.states[..., cut])
        assert np.array_equal(part(cut).steps, whole.steps[:, cut])
    assert np.array_equal(part(slice(None), threads=2).states, whole.states)
    monkeypatch.setattr(engine, "_BLOCK", 100)
    assert np.array_equal(part(slice(None), threads=2).states, whole.states)
    assert np.unique(whole.states[-1, 0]).size == count


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_a_path_does_not_depend_on_when_it_is_looked_at(backend):
    many = of_case("scalar", "sosri", 3e-3, backend)
    few = of_case("scalar", "sosri", 3e-3, backend, times=TIMES[[0, 3, 8, 12]])
    assert np.array_equal(few.states, many.states[[0, 3, 8, 12]])
    shorter = of_case("scalar", "sosri", 3e-3, backend, times=TIMES[:7])
    assert np.array_equal(shorter.states, many.states[:7])


@pytest.mark.parametrize("way", ["milstein", "sosri"])
def test_states_between_steps_are_as_good_as_at_their_ends(way):
    # the last save of TIMES lies inside a step; x is a function of W
    members, times = np.arange(2000), np.linspace(0.0, 1.0, 14)
    W = wiener(members, times, dt=1.0)[0]
    result = run(GBM, way, 0.01, members=members, times=times, start=np.ones((1, 2000)), dt=1.0)
    error = np.sqrt(np.mean((result.states[:, 0] / np.exp(times[:, None] + W) - 1.0) ** 2, axis=1))
    assert error[1:].max() < 0.03 and error[-2] < 1.5 * error[-1]


def test_a_member_that_blows_up_is_marked_and_ends(references):
    members, start = np.arange(40), np.full((1, 40), 0.5)
    start[0, [3, 17, 39]] = 5.0, -8.0, 1e200
    model = sim.SDE({"x": "x**3 - 4*x"}, {"x": "0.1*x"})
    result = run(model, "milstein", 1e-2, members=members, start=start, times=np.array([0.0, 0.01, 1.0]))
    assert np.flatnonzero(result.status == STEP_LIMIT).tolist() == [3, 17, 39] and not (result.status == 1).any()
    assert np.isnan(result.states[2, 0, [3, 17, 39]]).all() and result.steps.max() < 50_000
    calm = np.flatnonzero(result.status == 0)
    alone = run(model, "milstein", 1e-2, members=calm, start=start[:, calm], times=np.array([0.0, 0.01, 1.0]))
    assert np.array_equal(alone.states, result.states[..., calm])


# the front door


def test_simulate_records_the_tolerances_and_rerun_gives_the_bits():
    ds = sim.simulate(MODELS["scalar"], {"x": 1.0, "y": 0.5}, TIMES[1:], members=600, rtol=1e-2, atol={"x": 1e-3, "y": 1e-4},
                      dt=0.25, seed=4)  # fmt: skip
    assert ds.attrs["method"] == "milstein" and "powers of 2" in ds.attrs["method_reason"]
    assert ds.steps.min() >= 6 and ds.rejected_steps.sum() > 0 and not ds.status.any()
    assert "step_limit" in ds.status.attrs["flag_meanings"]
    assert sim.rerun(ds).equals(ds)
    one = sim.rerun(ds, members=[77], device="reference")
    assert one.x.equals(ds.x.isel(member=[77])) and one.steps.equals(ds.steps.isel(member=[77]))
    assert sim.rerun(ds, chunks={"member": 100}).equals(ds)
    kept = sim.rerun(ds, save="statistics")
    assert np.allclose(kept.x_mean, ds.x.mean("member"), rtol=1e-13)


def test_workers_of_a_cluster_give_the_same_bits():
    distributed = pytest.importorskip("distributed")
    common = {"members": 50, "rtol": 1e-2, "dt": 0.25, "seed": 4}
    here = sim.simulate(MODELS["diagonal"], {"x": 1.0, "y": 0.5}, [0.5, 1.1], **common)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        there = sim.simulate(MODELS["diagonal"], {"x": 1.0, "y": 0.5}, [0.5, 1.1], client=client, chunks={"member": 20},
                             **common)  # fmt: skip
    assert there.equals(here)


@pytest.mark.parametrize(
    "model, options, message",
    [
        (MODELS["scalar"], {"method": "tamed_euler"}, "would bias it"),
        (MODELS["general"], {"method": "milstein_levy"}, "would bias it.*use one of heun"),
        (MODELS["diagonal"], {"method": "milstein_levy"}, "more than ΔW and ∫W"),
        (sim.SDE({"x": "v", "v": "-x"}, {"v": 1}), {"method": "quicsort"}, "more than ΔW and ∫W"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"method": "exact"}, "takes no steps of a size"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"rtol": -0.1}, "rtol is a number from 0 to 1"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"rtol": float("nan")}, "rtol is a positive number"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"rtol": 0.0}, "an atol is needed"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"atol": 0.0}, "atol is a positive number"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"atol": {"y": 0.1}}, "one for each of the states x"),
        (sim.SDE({"x": "-x"}, {"x": 1}), {"atol": "small"}, "atol is a positive number"),
    ],
)  # fmt: skip
def test_what_cannot_follow_a_tolerance_is_refused(model, options, message):
    options = {"rtol": 1e-2} | options
    with pytest.raises(ValueError, match=message):
        sim.simulate(model, dict.fromkeys(model.states, 1.0), [1.0], **options)


def test_a_model_without_a_value_at_the_start_is_asked_for_no_value_there():
    bridge = sim.SDE({"x": "k*x/t"}, {"x": "t/(k - 1)"}, parameters={"k": 1.0})
    assert refusal(method("sra1"), bridge) is None


