"""Exact transitions in their three forms: NumPy reference, generated kernel, CUDA source built for the host. And the
gamma variates that they draw."""

import shutil

import numpy as np
import pytest
from scipy import stats

import sdesim as sim
from sdesim import integrate_exact
from sdesim.arithmetic import NUMPY
from sdesim.gamma import _excess, gamma
from sdesim.kernels.exact_cuda import host_entries, run_on_host
from sdesim.kernels.exact_layout import shape_of
from sdesim.methods import find
from sdesim.methods.bounded import ALIVE
from sdesim.streams import seed_key

MEMBERS = 5 + 3 * np.arange(1100)
TIMES = np.array([0.0, 0.3, 0.6, 1.5])
SEED = 2**40 + 9
EXACT = find("exact", ("law",))
EACH = np.linspace(0.5, 1.5, len(MEMBERS))
OU = sim.SDE({"x": "k*(1 - x)"}, {"x": "0.7"}, parameters={"k": 1.0})
PAIR = sim.SDE({"x": "v", "v": "-4*x - k*v + 1"}, {"v": "0.8"}, parameters={"k": 0.3})
CIR = sim.equations.cox_ingersoll_ross(1.0, 0.5, 0.8)
PRICES = sim.SDE({"s": "k*s", "r": "-0.2*r"}, {"s": {"a": "0.3*s"}, "r": {"a": "0.2*r", "b": "0.4*r"}}, parameters={"k": 0.1})


def within(bound, mu="k", sigma="0.8"):
    return sim.SDE({"x": mu}, {"x": sigma}, parameters={"k": 0.4}, bounds={"x": bound})


CASES = {  # model, starts, what differs between members
    "linear": (PAIR, (1.0, 0.0), {}),
    "linear, each its own": (PAIR, (1.0, 0.0), {"k": 0.3 * EACH}),
    "linear without noise": (sim.SDE({"x": "-k*x + 1"}, parameters={"k": 1.0}), (2.0,), {"k": EACH}),
    "geometric": (PRICES, (2.0, 1.0), {"k": 0.1 * EACH}),
    "driven": (sim.SDE({"x": "sin(t) - k*x"}, {"x": "1 + t"}, parameters={"k": 1.0}), (1.0,), {"k": EACH}),
    "driven geometric": (sim.SDE({"x": "0.1*x", "y": "t*y"}, {"x": {"a": "0.3*x", "b": "t*x"}, "y": {"b": "y"}}), (2.0, -1.0), {}),
    "bridge": (sim.SDE({"x": "(b - x)/(1.5 - t)"}, {"x": "0.7"}, parameters={"b": 3.0}), (1.0,), {"b": 3.0 * EACH}),
    "square root, d above 1": (CIR, (0.7,), {"theta": 0.5 * EACH}),
    "square root, d about 1": (CIR, (0.7,), {"theta": 0.16 * EACH}),
    "square root with no way back": (sim.SDE({"x": 0}, {"x": "sqrt(x)"}), (1.0,), {}),
    "above a mirror": (within(sim.Reflecting(lo=0.0)), (0.2,), {"k": 0.4 - EACH}),
    "below a mirror": (within(sim.Reflecting(hi=0.5)), (0.2,), {}),
    "between mirrors": (within(sim.Reflecting(-0.4, 0.6), "0", "k"), (0.2,), {"k": EACH}),
    "absorbed above": (within(sim.Absorbing(hi=1.0)), (0.2,), {"k": 0.4 * EACH}),
    "absorbed, geometric": (within(sim.Absorbing(lo=0.9), "k*x", "0.5*x"), (1.2,), {}),
}  # fmt: skip


def case(name):
    model, starts, own = CASES[name]
    absorbs = any(isinstance(b, sim.Absorbing) for b in model.bounds.values())
    start = np.repeat(np.array([*starts, ALIVE] if absorbs else starts)[:, None], len(MEMBERS), 1)
    return model, start, {**model.parameters, **own}


def run(name, backend, cut=slice(None), threads=1):
    model, start, parameters = case(name)
    own = {n: v[cut] if np.ndim(v) else v for n, v in parameters.items()}
    return integrate_exact.sample(model, EXACT, start[:, cut], own, TIMES, seed=SEED, members=MEMBERS[cut],
                                  backend=backend, threads=threads)


@pytest.fixture(scope="module")
def references():
    return {name: run(name, "numpy") for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_gives_the_bits_of_the_reference_in_any_cut(name, references):
    reference = references[name]
    assert np.isfinite(reference).all() and np.ptp(reference[-1, 0]) > 0.1
    assert np.array_equal(run(name, "kernel", threads=2), reference)
    for cut in (slice(3, 8), slice(510, 515), np.array([900, 2, 77])):
        assert np.array_equal(run(name, "kernel", cut), reference[..., cut])


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    laws = {}
    for name, states in references.items():
        model, _, parameters = case(name)
        laws[name] = list(integrate_exact._laws(model, EXACT, parameters, states, TIMES))
    entries = host_entries(*(shape_of(own[0], len(references[name][0])) for name, own in laws.items()))
    for entry, (name, own) in zip(entries, laws.items(), strict=True):
        for j, law in enumerate(own):
            after = run_on_host(entry, law, j, references[name][j], SEED, MEMBERS)
            assert np.array_equal(after, references[name][j + 1]), (name, j)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_the_gpu_gives_the_bits_of_the_reference(name, references):
    assert np.array_equal(run(name, "cuda"), references[name])


def test_simulate_gives_the_same_on_either_device():
    runs = [sim.simulate(CIR, 0.7, [0.5, 2.0], members=50, method="exact", device=d) for d in ("cpu", "reference")]
    assert np.array_equal(runs[0].x, runs[1].x)


def test_members_with_equal_numbers_have_the_bits_of_one_number_for_all(references):
    model, start, _ = case("linear")
    own = {"k": np.full(len(MEMBERS), 0.3)}
    each = integrate_exact.sample(model, EXACT, start, own, TIMES, seed=SEED, members=MEMBERS)
    assert np.array_equal(each, references["linear"])


@pytest.mark.parametrize("shape", [0.03, 0.4, 1.0, 1.7, 40.0, 1e7])
def test_gamma_variates_have_their_law(shape):
    members, n = np.arange(50_000, dtype=np.uint64), 50_000
    values = gamma(shape, members, np.uint64(4), seed_key(1))
    assert stats.kstest(values, stats.gamma(shape).cdf).pvalue > 1e-3
    assert abs(values.mean() - shape) < 4 * np.sqrt(shape / n)
    other = gamma(shape, members, np.uint64(5), seed_key(1))
    assert abs(stats.spearmanr(values, other)[0]) < 4 / np.sqrt(n)
    some = np.array([7, 40_000])
    assert np.array_equal(gamma(np.full(2, shape), members[some], np.uint64(4), seed_key(1)), values[some])


@pytest.mark.parametrize("shape", [1.0, 2.5, 60.0])
def test_proposals_are_accepted_as_the_density_wants(shape):
    """φ(x) e^{−3d r(δ)} is the gamma density of d(1 + δ)³ times d(1 + δ)³/dx, up to a factor."""
    d = shape - 1 / 3
    delta = np.concatenate([np.linspace(-0.9, 2.0, 301), [-0.0626, -0.0624, 0.0624, 0.0626]])
    x, v = delta * np.sqrt(9 * d), (1 + delta) ** 3
    proposed = -0.5 * x * x - 3 * d * _excess(NUMPY, delta)
    wanted = (shape - 1) * np.log(v) - d * v + 2 * np.log1p(delta)
    assert np.ptp(proposed - wanted) < 1e-13 * np.abs(wanted).max() + 1e-13
