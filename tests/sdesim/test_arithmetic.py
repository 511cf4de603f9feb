"""Elementary functions: errors in ulp against exact values, IEEE's special values, and the same bits on every machine."""

import ctypes
import shutil

import mpmath
import numpy as np
import pytest
from llvmlite import ir
from scipy.special import ndtri

from sdesim import arithmetic, calculus, powers, streams
from sdesim.arithmetic import NUMPY
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.llvm import Compiled, loop
from sdesim.kernels.machines import F64_POINTER, I64, VOID, CMachine, LLVMMachine

RNG = np.random.default_rng(20260101)
SPECIAL = np.array([
    0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 5e-324, -5e-324, 1e-310,
    2.2250738585072014e-308, 1.7976931348623157e308, -1.7976931348623157e308, 709.78, 709.79, -708.5, -745.13, -745.2,
    710.4, -710.4, 711.0, 22.0, -22.0, 1e-8, 1e10, np.pi, np.pi / 2, np.nextafter(1, 0), np.nextafter(1, 2),
])  # fmt: skip


def spread(low, high, count):
    """Both signs, all magnitudes from e^low to e^high."""
    return np.exp(RNG.uniform(low, high, count)) * RNG.choice([-1.0, 1.0], count)


def ulp_errors(values, exact):
    """|value − exact| in units of the last place of the exact value."""
    return np.array([
        float(abs(mpmath.mpf(float(v)) - r) / mpmath.mpf(float(np.spacing(abs(float(r)))))) for v, r in zip(values, exact)
    ])  # fmt: skip


DOMAIN = {
    "exp": (np.concatenate([RNG.uniform(-708, 709.7, 5000), RNG.normal(size=4000), spread(-30, 0, 1000)]), 2),
    "log": (np.abs(np.concatenate([spread(-708, 709, 5000), 1 + spread(-12, -0.5, 5000) * 0.5])), 2),
    "sin": (np.concatenate([RNG.uniform(-1e5, 1e5, 4000), spread(-30, 2, 5000), np.arange(1, 1001) * np.pi]), 2),
    "cos": (np.concatenate([RNG.uniform(-1e5, 1e5, 4000), spread(-30, 2, 5000), np.arange(1, 1001) * np.pi / 2]), 2),
    "tan": (np.concatenate([RNG.uniform(-1e5, 1e5, 5000), spread(-30, 2, 5000)]), 3),
    "sinh": (np.concatenate([RNG.uniform(-710, 710, 5000), spread(-30, 3, 5000)]), 3),
    "cosh": (np.concatenate([RNG.uniform(-710, 710, 5000), spread(-30, 3, 5000)]), 3),
    "tanh": (np.concatenate([RNG.uniform(-25, 25, 5000), spread(-30, 3, 5000)]), 3),
}


@pytest.mark.parametrize("name", DOMAIN)
def test_errors_stay_within_the_bounds_that_are_claimed(name):
    x, bound = DOMAIN[name]
    assert x.size == 10_000
    with mpmath.workprec(140), np.errstate(all="ignore"):
        exact = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        errors = ulp_errors(arithmetic.FUNCTIONS[name](NUMPY, x), exact)
    assert errors.max() <= bound
    assert errors.max() > 0.3  # a correctly rounded value is up to half a unit off: the measure measures


def test_powers_stay_within_two_ulp_up_to_overflow():
    base = np.exp(RNG.uniform(-300, 300, 4000))
    base[2000:] = RNG.uniform(0.0, 3.0, 2000)
    exponent = RNG.uniform(-700, 700, 4000) / np.log(base)
    exponent[3000:] = RNG.normal(0, 5, 1000)
    with mpmath.workprec(140), np.errstate(all="ignore"):
        exact = [mpmath.power(float(x), float(y)) for x, y in zip(base, exponent)]
        keep = np.array([1e-300 < float(r) < 1e300 for r in exact])
        errors = ulp_errors(powers.power(NUMPY, base, exponent)[keep], [r for r, k in zip(exact, keep) if k])
    assert keep.sum() > 3000 and errors.max() <= 2


def test_sine_and_cosine_of_large_arguments_lose_no_more_than_claimed():
    x = spread(np.log(1e5), np.log(9e14), 1000)
    for f, exact in ((arithmetic.sin, np.sin), (arithmetic.cos, np.cos)):
        assert (np.abs(f(NUMPY, x) - exact(x)) <= np.abs(x) * 2.0**-52 + 1e-15).all()
        with np.errstate(all="ignore"):
            assert np.isnan(f(NUMPY, np.array([1e15, 1e300, -1e300, np.inf]))).all()


def alike(ours, theirs):
    """Equal with the same sign of zero, both NaN, or within 3 ulp."""
    with np.errstate(all="ignore"):
        near = np.abs(ours - theirs) <= 3 * np.spacing(np.abs(theirs))
    return (near & (np.signbit(ours) == np.signbit(theirs))) | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))


@pytest.mark.parametrize("name", ["exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign"])
def test_special_values_are_those_of_numpy(name):
    x = SPECIAL[~((np.abs(SPECIAL) > 1e5) & np.isfinite(SPECIAL))] if name in ("sin", "cos", "tan") else SPECIAL
    with np.errstate(all="ignore"):
        ours, theirs = arithmetic.FUNCTIONS[name](NUMPY, x), getattr(np, name)(x)
    bad = ~alike(ours, theirs)
    assert not bad.any(), list(zip(x[bad], ours[bad], theirs[bad]))


@pytest.mark.parametrize("name", ["power", "min", "max"])
def test_special_values_of_two_arguments_are_those_of_numpy(name):
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))
    f, reference = {
        "power": (powers.power, np.power),
        "min": (arithmetic.minimum, np.minimum),
        "max": (arithmetic.maximum, np.maximum),
    }[name]
    with np.errstate(all="ignore"):
        ours, theirs = f(NUMPY, x, y), reference(x, y)
    bad = ~alike(ours, theirs) & ~((ours == 0) & (theirs == 0)) if name != "power" else ~alike(ours, theirs)
    assert not bad.any(), list(zip(x[bad], y[bad], ours[bad], theirs[bad]))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, 64, -1, -2, -5, 0.5, 1.5, -0.5, -2.5, 1 / 3, 2.2, 65, -65])
def test_constant_exponents_are_products_and_roots(exponent):
    x = np.abs(spread(-3, 3, 500))
    # n − 1 products round once each; the general power is within 2 ulp
    ours = calculus.power(NUMPY, x, exponent)
    np.testing.assert_allclose(ours, x ** np.float64(exponent), rtol=2.3e-16 * (abs(exponent) + 3))


EXPONENTS = (2.0, -3.0, 1.5, -0.5, 7 / 3)


def everything(m, x, y):
    """Every function on one machine, at (x, y), by name; their bits feed the random numbers."""
    low, shift = m.u64(0xFFFFFFFF), m.u64(32)
    a, b = m.bits(x), m.bits(y)
    counter, key = (a >> shift, a & low, b >> shift, b & low), (a & low, b & low)
    word, _ = streams.words(m, counter, key)
    first, second = streams.normal_pair(m, counter, key)
    results = {name: f(m, x) for name, f in arithmetic.FUNCTIONS.items() if name not in ("min", "max")}
    results |= {"min": arithmetic.minimum(m, x, y), "max": arithmetic.maximum(m, x, y), "power": powers.power(m, x, y)}
    results |= {f"power {e:.3g}": calculus.power(m, x, e) for e in EXPONENTS}
    results |= {"sqrt": m.sqrt(x), "abs": m.abs(x), "negative": -x, "quotient": x / y, "sum": x + y * x - y}
    results |= {"unit": streams.unit(m, word), "normal 0": first, "normal 1": second}
    results["quantile"] = streams.normal_quantile(m, streams.unit(m, word))
    results["choice"] = m.select(((x < y) & (y >= m.number(0.0))) | ~(x <= m.number(1.0)), m.number(-0.0), m.number(np.inf))
    results["comparisons"] = m.select(x == y, m.number(1.0), m.select((x != y) & (x > y), m.number(np.nan), -m.number(-0.0)))
    return results


NAMES = tuple(everything(NUMPY, np.array([0.5]), np.array([0.3])))


def arguments():
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL, SPECIAL))
    wide = [spread(-40, 40, 3000), RNG.normal(0, 3, 3000), RNG.integers(0, 2**64, 2000, dtype=np.uint64).view(float)]
    more = [RNG.permutation(np.concatenate(wide)) for _ in range(2)]
    return np.concatenate([x, more[0]]), np.concatenate([y, more[1]])


@pytest.fixture(scope="module")
def on_numpy():
    x, y = arguments()
    with np.errstate(all="ignore"):
        return x, y, {name: np.broadcast_to(v, x.shape) for name, v in everything(NUMPY, x, y).items()}


def by_rows(function, x, y):
    out = np.empty((len(NAMES), x.size))
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    function(ctypes.c_longlong(x.size), *(ctypes.c_void_p(a.ctypes.data) for a in (x, y, out)))
    return dict(zip(NAMES, out))


@pytest.fixture(scope="module")
def on_llvm(on_numpy):
    module = ir.Module()
    fn = ir.Function(module, ir.FunctionType(VOID, [I64, *[F64_POINTER] * 3]), "everything")
    for a in fn.args[1:]:
        a.add_attribute("noalias")
    n, x, y, out = fn.args
    builder = ir.IRBuilder(fn.append_basic_block())
    machine = LLVMMachine(builder)
    with loop(builder, n) as i:
        values = everything(machine, *(machine.wrap(builder.load(builder.gep(a, [i]))) for a in (x, y)))
        for row, value in enumerate(values.values()):
            place = builder.add(builder.mul(ir.Constant(I64, row), n), i)
            builder.store(value.value, builder.gep(out, [place]))
    builder.ret_void()
    code = Compiled(module)
    return by_rows(code.function("everything", ctypes.c_longlong, *[ctypes.c_void_p] * 3), *on_numpy[:2])


@pytest.fixture(scope="module")
def on_c(on_numpy):
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    machine = CMachine()
    values = everything(machine, machine.wrap("x[i]"), machine.wrap("y[i]"))
    lines = [*machine.lines, *(f"out[{row}*n + i] = {v.text};" for row, v in enumerate(values.values()))]
    source = PRELUDE + 'extern "C" void everything(i64 n, const double* x, const double* y, double* out) {\n'
    source += "for (i64 i = 0; i < n; i++) {\n" + "\n".join(lines) + "\n}}\n"
    return by_rows(compile_for_host(source).everything, *on_numpy[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("machine", ["on_llvm", "on_c"])
def test_every_machine_gives_the_bits_of_numpy(machine, name, on_numpy, request):
    ours, theirs = request.getfixturevalue(machine)[name], on_numpy[2][name]
    # which NaN a processor makes is not part of the contract; that it is one, is
    bad = (ours.view(np.uint64) != np.ascontiguousarray(theirs).view(np.uint64)) & ~(np.isnan(ours) & np.isnan(theirs))
    assert not bad.any(), list(zip(on_numpy[0][bad], on_numpy[1][bad], ours[bad], theirs[bad]))[:5]


def test_the_quantile_is_accurate_and_monotone():
    u = np.concatenate([RNG.random(10_000), np.exp(-RNG.uniform(0, 700, 5000)), 1 - np.exp(-RNG.uniform(1, 36, 2000))])
    # both have errors of at most 1e-15/2 relative to the exact value
    np.testing.assert_allclose(streams.inverse_normal(u), ndtri(u), rtol=1.2e-15, atol=1e-16)
    for centre in (2.0**-31, 0.075, 0.5, 0.925, np.exp(-25.0), 1 - np.exp(-25.0) - 1e-9):  # where the formulas meet, too
        # points as close as a Sobol' sequence of 32 bits has them
        grid = centre + (np.arange(1, 2000) - 1000 * (centre > 1e-6)) * 2.0**-32 * (1.0 if centre < 0.9999 else 1e-3)
        assert (np.diff(streams.inverse_normal(grid)) > 0).all()
    for wrong in (0.0, 1.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            streams.inverse_normal([0.5, wrong])
