"""float32: the same bits on every machine, noise of the right law, rounding no worse than the format's, a clock that holds."""

import ctypes
import math
import shutil

import mpmath
import numpy as np
import pytest
from llvmlite import ir
from scipy import stats

import sdesim as sim
from sdesim import arithmetic, powers, streams
from sdesim.arithmetic import NUMPY32
from sdesim.integrate import integrate, save_plan
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.llvm import Compiled, loop
from sdesim.kernels.machines import F32, I64, VOID, CMachine, LLVMMachine
from sdesim.kernels.sde_device import host_entries, run_on_host
from sdesim.kernels.sde_llvm import BLOCK
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find, rows
from sdesim.reals import SINGLE

MEMBERS = np.array([0, 1, 5, 4, 1000, 2**31, 2**32 - 1, 17, 18, 19, 20])
# on the grid, off it, several within one step, in each of the four steps of a counter
TIMES = 0.3 + 0.07 * np.array([0.0, 0.2, 0.5, 0.9, 1.0, 2.5, 3.0001, 4.75, 5.0, 7.3, 8.0, 11.0, 11.25])
DT, SEED = 0.07, 2**40 + 3
needs_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
MODELS = {
    "shared additive": sim.SDE(
        {"x": "y", "y": "x - x**3 - g*y"}, {"x": {"a": 0.1, "b": "s"}, "y": {"b": 0.3}}, parameters={"g": 0.5, "s": 0.2}
    ),
    "diagonal": sim.SDE(
        {"x": "y - x + sin(3*t)", "y": "x*(2 - y)"}, {"x": "0.3*sqrt(1 + x**2)", "y": "q*tanh(y) + 0.1"},
        parameters={"q": 0.3},
    ),
    "general": sim.SDE(
        {"x": "-x", "y": "exp(-y)"}, {"x": {"a": "0.4", "b": "0.2*y"}, "y": {"a": "0.3*x*x", "b": "c"}},
        parameters={"c": 0.5},
    ),
    "powers": sim.SDE({"x": "p**x - x**p + 2**(1/3)*x"}, {"x": "0.1*abs(x)**p"}, parameters={"p": 1.4}),
    "Langevin": sim.SDE(
        {"v": "sin(x) - x - (g + 0.1)*v", "x": "v", "y": "w", "w": "-x*y - 0.3*w"},
        {"v": "s", "w": {"a": 0.4, "b": 0.1}}, parameters={"g": 0.5, "s": 0.3},
    ),
}  # fmt: skip
# every method on the first model that it takes; the first methods on all
EVERYWHERE = ("euler_maruyama", "milstein", "heun", "baoab")
CASES = []
for method in rows(("sde",)):
    taken = [name for name, model in MODELS.items() if method.refusal(model) is None]
    CASES += [(method.name, name) for name in (taken if method.name in EVERYWHERE else taken[:1])]


def parameters(sde, count, cut=slice(None)):
    """The first parameter a number of its own for each member, the others one for all."""
    values = dict(sde.parameters)
    for name in list(values)[:1]:
        values[name] = (values[name] * np.linspace(0.5, 1.5, count))[cut]
    return values


def initial(name, count):
    return np.random.default_rng(3).uniform(0.4, 1.6, (len(MODELS[name].states), count)).astype(np.float32)


def run(method, name, backend, *, members=MEMBERS, times=TIMES, cut=slice(None), **options):
    sde = MODELS[name]
    values = parameters(sde, len(members), cut)
    return integrate(
        sde, find(method, ("sde",)), initial(name, len(members))[:, cut], values, times, DT, seed=SEED,
        members=members[cut], backend=backend, **options,
    ).states  # fmt: skip


@pytest.fixture(scope="module")
def references():
    return {case: run(*case, "numpy") for case in CASES}


def test_every_method_is_tried():
    assert {m for m, _ in CASES} == {m.name for m in rows(("sde",))}


@pytest.mark.parametrize("method, name", CASES)
def test_the_kernel_gives_the_bits_of_the_reference(method, name, references):
    reference = references[method, name]
    assert reference.dtype == np.float32 and np.isfinite(reference).all()
    assert np.ptp(reference, axis=0).max() > 0.01  # something moved
    assert np.array_equal(run(method, name, "kernel"), reference)


@needs_compiler
def test_the_cuda_source_built_for_the_host_gives_the_bits_of_the_reference(references):
    traces = [trace(MODELS[n], find(m, ("sde",)), frozenset(list(MODELS[n].parameters)[:1])) for m, n in CASES]
    plan = save_plan(TIMES, DT)
    common = {"t0": TIMES[0], "h": DT, "due": plan.due, "bridge": plan.bridge, "seed": SEED, "members": MEMBERS}
    for (method, name), tr, entry in zip(CASES, traces, host_entries(*traces, form=SINGLE)):
        values = parameters(MODELS[name], len(MEMBERS))
        states = run_on_host(entry, tr, initial(name, len(MEMBERS)), values, **common)
        assert np.array_equal(states, references[method, name]), (method, name)


@pytest.mark.gpu
@pytest.mark.parametrize("method, name", CASES)
def test_the_gpu_gives_the_bits_of_the_reference(method, name, references):
    assert np.array_equal(run(method, name, "cuda"), references[method, name])


def test_bits_do_not_depend_on_the_cut_or_the_threads():
    members, times = 3 + np.arange(BLOCK + 76), TIMES[[0, 2, 4, 8, 11]]
    whole = run("sra1", "shared additive", "kernel", members=members, times=times)
    for cut in (slice(0, 7), slice(BLOCK - 3, BLOCK + 4), np.random.default_rng(0).permutation(len(members))):
        part = run("sra1", "shared additive", "kernel", members=members, times=times, cut=cut)
        assert np.array_equal(part, whole[..., cut])
    assert np.array_equal(run("sra1", "shared additive", "kernel", members=members, times=times, threads=2), whole)
    assert np.unique(whole[-1, 0]).size > 0.99 * len(members)


# the noise

N = 200_000


@pytest.fixture(scope="module")
def sample():
    return np.concatenate([streams.normals(5, np.arange(N), s, c, m=NUMPY32) for s, c in ((0, 0), (1, 0), (2, 1), (7, 0))])


def test_normals_are_normal(sample):
    assert sample.dtype == np.float32
    z = sample.astype(np.float64)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    for k, exact in enumerate((0, 1, 0, 3, 0, 15), start=1):
        variance = math.prod(range(1, 2 * k, 2)) - exact**2  # E z²ᵏ − (E zᵏ)²
        assert abs(np.mean(z**k) - exact) < 4 * math.sqrt(variance / z.size), k
    for level in (2.0, 3.0, 4.0, 4.5):
        expected = 2 * z.size * stats.norm.sf(level)
        assert abs((np.abs(z) > level).sum() - expected) < 4 * math.sqrt(expected), level


def test_normals_are_normal_out_to_six_sigma():
    # given that the first 19 bits of the radius' word are zeros R > √(38 ln 2) = 5.13, so |z| > x has 2·sf(x)·2¹⁹
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 2**k, 400_000, dtype=np.uint32) for k in (13, 32))
    far = np.concatenate(streams.box_muller(NUMPY32, a, b)).astype(np.float64)
    for level in (5.2, 5.5, 6.0):
        for tail in ((far > level).sum(), (far < -level).sum()):
            expected = far.size * stats.norm.sf(level) * 2.0**19
            assert abs(tail - expected) < 4 * math.sqrt(expected), level
    most = streams.box_muller(NUMPY32, np.uint32(0), np.uint32(0))
    np.testing.assert_allclose(math.hypot(*map(float, most)), math.sqrt(2 * 33 * math.log(2)), rtol=1e-6)


def test_the_pair_is_that_of_box_and_muller_to_round_off():
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 2**32, N, dtype=np.uint32) for _ in range(2))
    first, second = (z.astype(np.float64) for z in streams.box_muller(NUMPY32, a, b))
    u = ((a + 0.5) * 2.0**-32).astype(np.float32).astype(np.float64)
    radius = np.sqrt(-2 * np.log(u))
    np.testing.assert_allclose(np.hypot(first, second), radius, rtol=2.0**-21)
    turn = ((b & 0x7FFFFF) + 0.5) * 2.0**-23 - 0.5
    c, s = np.cos(np.pi / 2 * turn) * np.where(b >> 31, -1, 1), np.sin(np.pi / 2 * turn)
    swap = (b >> 30) & 1 == 1
    np.testing.assert_allclose(first, np.where(swap, s, c) * radius, rtol=2.0**-20, atol=1e-12)
    np.testing.assert_allclose(second, np.where(swap, c, s) * radius, rtol=2.0**-20, atol=1e-12)


def test_steps_channels_and_members_are_independent():
    draws = [streams.normals(6, np.arange(N), s, m=NUMPY32) for s in (*range(6), 2**20)]
    draws += [streams.normals(6, np.arange(N) + lag, 0, c, m=NUMPY32) for lag, c in ((0, 1), (1, 0), (2**31, 0))]
    draws += [streams.normals(6, np.arange(N), 0)]
    both = np.array(draws, np.float64)  # the last row is float64's
    for transformed in (both, both**2, np.abs(both)):
        apart = np.abs(np.corrcoef(transformed) - np.eye(len(both)))
        assert apart.max() < 5 / math.sqrt(N)


def test_the_layout_is_the_one_that_is_told():
    seed, member, step, channel = 2**40 + 9, 77, 12, 3
    counter = [np.uint64(v) for v in (member, step >> 2, channel, streams.Purpose.STEP | 128)]
    words = streams.philox(arithmetic.NUMPY, counter, streams.seed_key(seed))
    a, b, c, d = (np.uint32(w) for w in words)
    pairs = [*streams.box_muller(NUMPY32, a, b), *streams.box_muller(NUMPY32, c, d)]
    assert pairs == [streams.normals(seed, [member], step + k, channel, m=NUMPY32)[0] for k in range(4)]
    assert {float(v) for v in streams.signs(seed, range(50), step, m=NUMPY32)} == {-1.0, 1.0}


# rounding and the clock


def test_rounding_is_that_of_the_format_on_one_path():
    # float64 steps on the very numbers of float32: apart by half a unit a step, as a random walk, damped by the drift
    steps, h = 1000, 1.0 / 1024
    sde = sim.SDE({"x": "-2*x"}, {"x": "0.5"})
    members = np.arange(2000)
    start = np.full((1, members.size), 1.0, np.float32)
    euler = find("euler_maruyama", ("sde",))
    x32 = integrate(sde, euler, start, {}, np.array([0.0, steps * h]), h, seed=4, members=members).states[-1, 0]
    x = np.ones(members.size)
    for s in range(steps):
        x = x - 2 * x * h + 0.5 * math.sqrt(h) * streams.normals(4, members, s, m=NUMPY32).astype(np.float64)
    error = np.sqrt(np.mean((x32 - x) ** 2))
    assert 1e-9 < error < 2.0**-24 * math.sqrt(steps) and np.abs(x32 - x).max() < 6 * 2.0**-24 * math.sqrt(steps)


def test_the_law_of_a_long_run_is_kept():
    # 40 relaxation times in 40,000 steps: the stationary law of Euler–Maruyama, variance s²/(2k − k²h)
    h, members = 1e-3, 4000
    ou = sim.SDE({"x": "1 - x"}, {"x": "0.5"})
    ds = sim.simulate(ou, {"x": 0.0}, [20.0, 40.0], members=members, dt=h, method="euler_maruyama", seed=1,
                      dtype="float32")  # fmt: skip
    x, variance = ds.x.values.astype(np.float64).ravel(), 0.25 / (2.0 - h)
    assert ds.x.dtype == np.float32
    assert abs(x.mean() - 1.0) < 4 * math.sqrt(variance / x.size)
    assert abs(x.var() / variance - 1.0) < 4 * math.sqrt(2 / x.size)
    assert stats.kstest((x - 1.0) / math.sqrt(variance), "norm").pvalue > 1e-3


def test_the_clock_is_right_after_sixteen_million_steps():
    h, steps = 2.0**-10, 2**24 + 64
    forced = sim.SDE({"x": "cos(t) - x"})
    times = np.array([0.0, steps * h])
    euler = find("euler_maruyama", ("sde",))
    x = integrate(forced, euler, np.zeros((1, 1), np.float32), {}, times, h, seed=0, members=np.array([0])).states
    # t ≈ 16384 itself is rounded to 2⁻¹⁰, the step has an error of order h; a clock summed in float32 would stand still
    assert abs(x[-1, 0, 0] - (math.cos(times[-1]) + math.sin(times[-1])) / 2) < 2e-3


def test_bounds_and_exact_sampling_stay_in_float64():
    ou = sim.SDE({"x": "-x"}, {"x": "1"}, bounds={"x": sim.Absorbing(lo=-1)})
    options = {"members": 50, "seed": 1, "dt": 0.01}
    whole, stored = (sim.simulate(ou, {"x": 0.0}, [1.0], dtype=d, **options) for d in ("float64", "float32"))
    assert np.array_equal(stored.x.values, whole.x.values.astype(np.float32))


def test_the_noise_on_request_is_that_of_the_run():
    W = sim.brownian(3, range(5), [0.0, 0.5, 0.7], dt=0.125, dtype="float32")
    x = sim.simulate(sim.SDE({"x": "0"}, {"x": "1"}), {"x": 0.0}, [0.0, 0.5, 0.7], members=5, seed=3, dt=0.125,
                     dtype="float32", method="euler_maruyama")  # fmt: skip
    assert np.array_equal(W.values[0], x.x.values)


# elementary functions

RNG = np.random.default_rng(7)
WIDE = np.concatenate([np.exp(RNG.uniform(-80, 80, 3000)) * RNG.choice([-1, 1], 3000), RNG.normal(0, 3, 3000),
                       [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-45, -1e-45, 3e38, 88.8, -103.9, 0.5]]).astype(
    np.float32)  # fmt: skip
DOMAIN = {
    "exp": (RNG.uniform(-87, 88.7, 5000), 2),
    "log": (np.exp(RNG.uniform(-103, 88, 5000)), 2),
    "sin": (np.concatenate([RNG.uniform(-1e4, 1e4, 3000), np.arange(1, 1001) * np.pi, RNG.normal(0, 2, 1000)]), 2),
    "cos": (np.concatenate([RNG.uniform(-1e4, 1e4, 3000), np.arange(1, 1001) * np.pi / 2, RNG.normal(0, 2, 1000)]), 2),
    "tan": (RNG.uniform(-1e4, 1e4, 5000), 3),
    "sinh": (RNG.uniform(-88, 88, 5000), 4),
    "cosh": (RNG.uniform(-88, 88, 5000), 4),
    "tanh": (np.concatenate([RNG.uniform(-12, 12, 2500), RNG.normal(0, 0.01, 2500)]), 3),
}


@pytest.mark.parametrize("name", DOMAIN)
def test_errors_stay_within_the_bounds_that_are_claimed(name):
    x, bound = DOMAIN[name][0].astype(np.float32), DOMAIN[name][1]
    with np.errstate(all="ignore"):
        values = arithmetic.FUNCTIONS[name](NUMPY32, x)
    with mpmath.workprec(80):
        exact = np.array([float(getattr(mpmath, name)(mpmath.mpf(float(v)))) for v in x])
    errors = np.abs(values - exact) / np.spacing(np.abs(exact).astype(np.float32))
    assert values.dtype == np.float32 and 0.3 < errors.max() <= bound


def test_powers_are_rounded_once():
    base = np.exp(RNG.uniform(-60, 60, 5000)).astype(np.float32)
    exponent = (RNG.uniform(-85, 85, 5000) / np.log(base)).astype(np.float32)
    exact = base.astype(np.float64) ** exponent
    with np.errstate(all="ignore"):
        values = powers.power(NUMPY32, base, exponent)
    assert (np.abs(values - exact) / np.spacing(exact.astype(np.float32))).max() < 0.501


def everything(m, x, y):
    """Every function on one machine, by name."""
    results = {name: f(m, x) for name, f in arithmetic.FUNCTIONS.items() if name not in ("min", "max")}
    results |= {"min": arithmetic.minimum(m, x, y), "max": arithmetic.maximum(m, x, y), "power": powers.power(m, x, y)}
    results |= {"sqrt": m.sqrt(x), "abs": m.abs(x), "negative": -x, "quotient": x / y, "sum": x + y * x - y}
    results |= dict(zip(("normal 0", "normal 1"), streams.box_muller(m, m.bits(x), m.bits(y)), strict=True))
    return results


@pytest.fixture(scope="module")
def on_numpy():
    x, y = RNG.permutation(WIDE), RNG.permutation(WIDE)
    with np.errstate(all="ignore"):
        return x, y, {name: np.broadcast_to(v, x.shape) for name, v in everything(NUMPY32, x, y).items()}


def same_bits(function, on_numpy):
    x, y, theirs = on_numpy
    out = np.empty((len(theirs), x.size), np.float32)
    function(ctypes.c_longlong(x.size), *(ctypes.c_void_p(a.ctypes.data) for a in (x, y, out)))
    for ours, (name, other) in zip(out, theirs.items(), strict=True):
        bad = (ours.view(np.uint32) != np.ascontiguousarray(other).view(np.uint32)) & ~(np.isnan(ours) & np.isnan(other))
        assert not bad.any(), (name, list(zip(x[bad], y[bad], ours[bad], other[bad]))[:5])


def test_llvm_gives_the_bits_of_numpy(on_numpy):
    module = ir.Module()
    fn = ir.Function(module, ir.FunctionType(VOID, [I64, *[F32.as_pointer()] * 3]), "everything")
    n, x, y, out = fn.args
    builder = ir.IRBuilder(fn.append_basic_block())
    machine = LLVMMachine(builder, SINGLE)
    with loop(builder, n) as i:
        values = everything(machine, *(machine.wrap(builder.load(builder.gep(a, [i]))) for a in (x, y)))
        for row, value in enumerate(values.values()):
            place = builder.add(builder.mul(ir.Constant(I64, row), n), i)
            builder.store(value.value, builder.gep(out, [place]))
    builder.ret_void()
    code = Compiled(module)
    same_bits(code.function("everything", ctypes.c_longlong, *[ctypes.c_void_p] * 3), on_numpy)


@needs_compiler
def test_c_gives_the_bits_of_numpy(on_numpy):
    machine = CMachine(form=SINGLE)
    values = everything(machine, machine.wrap("x[i]"), machine.wrap("y[i]"))
    lines = [*machine.lines, *(f"out[{row}*n + i] = {v.text};" for row, v in enumerate(values.values()))]
    source = PRELUDE + 'extern "C" void everything(i64 n, const float* x, const float* y, float* out) {\n'
    source += "for (i64 i = 0; i < n; i++) {\n" + "\n".join(lines) + "\n}}\n"
    same_bits(compile_for_host(source).everything, on_numpy)
