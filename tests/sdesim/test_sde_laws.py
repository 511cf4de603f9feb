"""Weak orders and stationary laws of every SDE method without sampling, and the laws of bridges and of Lévy areas.

For a linear model a step is a polynomial in the state and in its random numbers, so it maps the moments of degree at
most 2 linearly. Gauss–Hermite nodes in the normals and both signs give that map exactly: its powers are held against
the moment equations, its fixed point is the stationary law of the scheme.
"""

from functools import cache
from itertools import product

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy import linalg
from scipy.integrate import solve_ivp as integrate_ode

import sdesim as sim
from sdesim.calculus import evaluate
from sdesim.integrate import integrate
from sdesim.kernels.sde_trace import trace
from sdesim.methods import find, rows
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.langevin import is_langevin, recognise
from sdesim.methods.sde_implicit import _B0
from sdesim.methods.sde_levy import levy_areas, terms_for
from sdesim.methods.vector import Vector

EVERY = rows(("sde",))
POINTS = {1: [(0,), (1,), (-1,)], 2: [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1)]}


def monomials(x):
    """1, x_i, x_i x_j (i ≤ j) of states (state, ...)."""
    d = len(x)
    return np.array([np.ones_like(x[0]), *x, *(x[i] * x[j] for i in range(d) for j in range(i, d))])


def nodes(kind, method):
    """(values, weights) whose mean is exact for polynomials of degree 11 (normals), 7 or 3 (auxiliary ones), or signs.

    The variables of two and of three values are the Gauss–Hermite rules of as many nodes.
    """
    if kind == "b":
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    x, w = hermegauss({"z": method.points or 6, "a": 4, "e": 2}[kind])
    return x, w / w.sum()


def moment_map(model, method, h, t=0.0):
    """M with E monomials(X') = M monomials(X), of one step of h from t, or from each of an array of times."""
    draws = trace(model, method, frozenset()).draws
    grids = [nodes("e" if word >> 16 else kind, method) for kind, word in draws]  # a further normal appears squared at most
    values = np.array(list(product(*(g[0] for g in grids)))).T.reshape(len(draws), -1)
    weights = np.array([np.prod(w) for w in product(*(g[1] for g in grids))])
    known = dict(zip(draws, values, strict=True))
    bound, root, h = BoundSDE(model, method.calculus, {}), np.sqrt(h), np.float64(h)
    points = np.array(POINTS[len(model.states)], float)
    t = np.asarray(t, float)[..., None] + np.zeros(weights.size if np.ndim(t) else ())
    images = []
    for point in points:
        y = Vector(np.full(weights.size, v) for v in point)
        dW = Vector(known["z", c] * root for c in range(len(model.channels)))
        stepped = method.step(bound, t, y, h, Wiener(dW, root, lambda *draw: known.get(draw, np.nan)))
        images.append(monomials(np.array([np.broadcast_to(v, (*t.shape[:-1], weights.size)) for v in stepped])) @ weights)
    return np.moveaxis(np.array(images), (0, 1), (-1, -2)) @ np.linalg.inv(monomials(points.T))


def exact_moments(A, B, start, t):
    """Monomials at time t of dX = A(1, X) dt + Σ B_c(1, X) dW_c by the moment equations Ṗ = AP + PAᵀ + Σ B P Bᵀ.

    A and B may be functions of time.
    """
    d = len(start)
    eye, y = np.eye(d + 1), np.array([1.0, *start])

    def generator(s):
        lift = [np.vstack([np.zeros(d + 1), m(s) if callable(m) else m]) for m in (A, *B)]
        return np.kron(lift[0], eye) + np.kron(eye, lift[0]) + sum(np.kron(b, b) for b in lift[1:])

    if any(map(callable, (A, *B))):
        solved = integrate_ode(lambda s, p: generator(s) @ p, (0, t), np.kron(y, y), "DOP853", rtol=1e-13, atol=1e-15)
        P = solved.y[:, -1].reshape(d + 1, d + 1)
    else:
        P = (linalg.expm(generator(0.0) * t) @ np.kron(y, y)).reshape(d + 1, d + 1)
    return np.array([1.0, *P[0, 1:], *(P[i, j] for i in range(1, d + 1) for j in range(i, d + 1))])


def linear(A, B, expected, interpretation="ito"):
    """(model, A, B) of a linear system; each row of a matrix is (constant, coefficients of the states)."""
    names = ("x", "y")[: len(A)]

    def text(row):
        return " + ".join([repr(float(row[0])), *(f"{float(v)!r}*{s}" for v, s in zip(row[1:], names))])

    model = sim.SDE(
        {s: text(A[i]) for i, s in enumerate(names)},
        {s: {f"W{c}": text(b[i]) for c, b in enumerate(B) if np.any(b[i])} for i, s in enumerate(names)},
    )
    assert model.noise_type == expected
    return model, np.array(A, float), np.array(B, float)


DRIFT = [[0.3, -1.0, 0.5], [0.1, -0.4, -0.7]]
LINEAR = {
    "additive": linear(DRIFT, [[[0.5, 0, 0], [0.3, 0, 0]], [[0, 0, 0], [0.6, 0, 0]]], "additive"),
    "scalar": linear([[0.2, 0.9]], [[[0.1, 0.5]]], "scalar"),
    "diagonal": linear(DRIFT, [[[0.2, 0.6, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0.5]]], "diagonal"),
    "commutative": linear(DRIFT, [[[0, 0.3, 0], [0, 0, 0.3]], [[0, 0, -0.5], [0, 0.5, 0]]], "commutative"),
    "general": linear(DRIFT, [[[0.1, 0, 0.6], [0, 0, 0]], [[0, 0.2, 0], [0.2, 0.5, 0.3]]], "general"),
    "Langevin": (
        sim.SDE({"x": "v", "v": "0.2 - 1.5*x - 0.8*v"}, {"v": "0.7"}),
        np.array([[0, 0, 1.0], [0.2, -1.5, -0.8]]), np.array([[[0, 0, 0], [0.7, 0, 0]]]),
    ),
}  # fmt: skip
# beyond the general claim: with additive noise the trapezoidal rules, and what SRI methods are then, have weak order 2,
# as SRIW1 has where the noise is linear
_RULES = ("heun", "sosri", "sriw1", "sriw2")
CLAIMED = {("LINEAR", "additive", m): 2.0 for m in (*_RULES, "midpoint", "trapezoidal", "implicit_midpoint")}
CLAIMED |= {("LINEAR", "scalar", "sriw1"): 2.0, ("LINEAR", "diagonal", "sriw1"): 2.0}
CLAIMED |= {("MOVING", "additive", m): 2.0 for m in (*_RULES, "midpoint", "implicit_midpoint")}
CLAIMED |= {("PERIODIC", "constant", m): 2.0 for m in (*_RULES, "trapezoidal")}


def weak_slope(error, claimed):
    """The slope of log₂ |error(n)| against the step, h small enough to show h^{3/2} from h² if that is claimed."""
    levels = (4096, 8192, 16384) if claimed == 1.5 else (32, 64, 128)
    return -np.polyfit(np.log2(levels), np.log2([np.linalg.norm(error(n)) for n in levels]), 1)[0]


def weak_claim(kind, name, method):
    """The weak order claimed of a method on a problem of LINEAR, MOVING or PERIODIC."""
    return CLAIMED.get((kind, name, method.name), method.weak)


def check_order(kind, name, method, error):
    """The errors, vectors `error(n)` by the number of steps, fall as claimed."""
    claimed = weak_claim(kind, name, method)
    found = weak_slope(error, claimed)
    assert abs(found - claimed) < 0.15, f"{found:.3f}, claimed {claimed}"


WEAK_CASES = [(n, m) for n, (model, *_) in LINEAR.items() for m in EVERY
              if m.refusal(model) is None and m.name != "tamed_euler"  # its step is no polynomial
              and (n != "Langevin" or m.requires is is_langevin)]  # fmt: skip


def moment_error(name, method, n):
    """The errors of all first and second moments at time 1 by n steps."""
    model, A, B = LINEAR[name]
    start = np.array([1.0, -0.5])[: len(model.states)]
    ends = np.linalg.matrix_power(moment_map(model, method, 1 / n), n) @ monomials(start)
    return ends - exact_moments(A, B, start, 1.0)


@pytest.mark.parametrize("name, method", WEAK_CASES, ids=lambda v: getattr(v, "name", v))
def test_weak_order_of_all_second_moments(name, method):
    check_order("LINEAR", name, method, lambda n: moment_error(name, method, n))


# coefficients that change in time, at rates of their own: (model, A(t), B_c(t))
MOVING = {
    "additive": (
        sim.SDE({"x": "cos(2*t) - y", "y": "-(1 + t)*x"}, {"x": {"a": "1 + sin(3*t)", "b": "0.3"}, "y": {"b": "exp(-t)"}}),
        lambda t: np.array([[np.cos(2 * t), 0, -1], [0, -1 - t, 0]]),
        [lambda t: np.array([[1 + np.sin(3 * t), 0, 0], [0, 0, 0]]), lambda t: np.array([[0.3, 0, 0], [np.exp(-t), 0, 0]])],
    ),
    "diagonal": (
        sim.SDE({"x": "cos(2*t) - y", "y": "-(1 + t)*x"}, {"x": "(0.3 + t)*x", "y": "0.5*cos(3*t) - 0.4*y"}),
        lambda t: np.array([[np.cos(2 * t), 0, -1], [0, -1 - t, 0]]),
        [lambda t: np.array([[0, 0.3 + t, 0], [0, 0, 0]]), lambda t: np.array([[0, 0, 0], [0.5 * np.cos(3 * t), 0, -0.4]])],
    ),
    "general": (
        sim.SDE({"x": "cos(2*t) - y", "y": "-(1 + t)*x"},
                {"x": {"a": "(0.3 + t)*y", "b": "0.5"}, "y": {"a": "0.5", "b": "0.7*cos(2*t)*x + 0.5*y"}}),
        lambda t: np.array([[np.cos(2 * t), 0, -1], [0, -1 - t, 0]]),
        [lambda t: np.array([[0, 0, 0.3 + t], [0.5, 0, 0]]), lambda t: np.array([[0.5, 0, 0], [0, 0.7 * np.cos(2 * t), 0.5]])],
    ),
}  # fmt: skip
MOVING_CASES = [(n, m) for n, m in WEAK_CASES if n in MOVING and weak_claim("MOVING", n, m) != 1.5
                and m.refined is None]  # those of order 1½ on shared paths, those by Lévy areas with fixed coefficients


def moving_error(name, method, n):
    """The errors of all first and second moments at time 1 by n steps, the coefficients moving."""
    ends = monomials(np.array([1.0, -0.5]))
    for one in moment_map(MOVING[name][0], method, 1 / n, np.arange(n) / n):
        ends = one @ ends
    return ends - moving_exact(name)


@cache
def moving_exact(name):
    return exact_moments(*MOVING[name][1:], [1.0, -0.5], 1.0)


@pytest.mark.parametrize("name, method", MOVING_CASES, ids=lambda v: getattr(v, "name", v))
def test_weak_order_with_coefficients_that_change_in_time(name, method):
    assert MOVING[name][0].noise_type == name
    check_order("MOVING", name, method, lambda n: moving_error(name, method, n))


# nonlinear in the state: the expectation of a 2π-periodic function, by 49 waves
PERIODIC = {"multiplicative": "0.5 + 0.3*cos(x)", "constant": "0.5"}
PERIODIC = {name: sim.SDE({"x": "0.4 - sin(x)"}, {"x": g}) for name, g in PERIODIC.items()}
PERIODIC_CASES = [(n, m) for n, model in PERIODIC.items() for m in EVERY if m.refusal(model) is None]
WAVES, CIRCLE = np.arange(-24, 25), 2 * np.pi * np.arange(49) / 49
TO_WAVES = np.linalg.inv(np.exp(1j * np.outer(CIRCLE, WAVES)))
SEEN = np.cos(CIRCLE) + np.sin(2 * CIRCLE)


def periodic_map(model, method, h):
    """u ↦ E u(X') for 2π-periodic u given by its values on CIRCLE (trigonometric interpolation, quadrature)."""
    draws = trace(model, method, frozenset()).draws
    grids = [nodes("b", method) if kind == "b" else hermegauss((method.points or 14) if kind == "z" else 10)
             for kind, _ in draws]  # fmt: skip
    values = np.array(list(product(*(g[0] for g in grids)))).T.reshape(len(draws), -1)
    weights = np.array([np.prod(w) for w in product(*(g[1] / g[1].sum() for g in grids))])
    known = {draw: np.tile(v, CIRCLE.size) for draw, v in zip(draws, values)}
    root = np.sqrt(h)
    w = Wiener(Vector([known["z", 0] * root]), root, lambda *draw: known[draw])
    bound = BoundSDE(model, method.calculus, {})
    (ends,) = method.step(bound, np.float64(0.0), Vector([np.repeat(CIRCLE, weights.size)]), np.float64(h), w)
    waves = np.exp(1j * WAVES * ends.reshape(CIRCLE.size, -1, 1))
    return np.einsum("jqk,q->jk", waves, weights) @ TO_WAVES


@cache
def periodic_exact(name):
    """E[cos X + sin 2X] at time 1 from every start on CIRCLE: u_t = f u' + ½ g² u'', to round-off."""
    d = np.exp(1j * np.outer(CIRCLE, WAVES)) @ (1j * WAVES[:, None] * TO_WAVES)
    f, (g,) = 0.4 - np.sin(CIRCLE), evaluate(list(PERIODIC[name].noise.values()), {"x": CIRCLE})
    return linalg.expm(f[:, None] * d + 0.5 * np.reshape(g, (-1, 1)) ** 2 * (d @ d)) @ SEEN


def periodic_error(name, method, n):
    """The error of E[cos X + sin 2X] at time 1 by n steps."""
    return (np.linalg.matrix_power(periodic_map(PERIODIC[name], method, 1 / n), n) @ SEEN - periodic_exact(name)).real


@pytest.mark.parametrize("name, method", PERIODIC_CASES, ids=lambda v: getattr(v, "name", v))
def test_weak_order_for_a_nonlinear_equation(name, method):
    check_order("PERIODIC", name, method, lambda n: periodic_error(name, method, n))


# dx = √(2D(x)) dW on the circle: the density is ∝ 1/D read as Itô, 1/√D as Stratonovich, constant as Hänggi–Klimontovich
POWERS = {"ito": 1.0, "stratonovich": 0.5, "hanggi-klimontovich": 0.0}


@pytest.mark.parametrize("method", [m for n, m in PERIODIC_CASES if n == "multiplicative"], ids=lambda m: m.name)
def test_each_calculus_has_its_own_stationary_density_by_every_method(method):
    x = 2 * np.pi * np.arange(4096) / 4096
    exact = {name: np.average(np.sin(x), weights=(1 + np.sin(x) / 2) ** -p) for name, p in POWERS.items()}
    for name in POWERS:
        model = sim.SDE({"x": 0}, {"x": "sqrt(2*(1 + sin(x)/2))"}, interpretation=name)
        errors = []
        for h in (1 / 64, 1 / 256):
            values, vectors = np.linalg.eig(periodic_map(model, method, h).T)
            kept = vectors[:, np.argmin(np.abs(values - 1))]
            errors.append(abs((kept @ np.sin(CIRCLE) / kept.sum()).real - exact[name]))
        assert errors[1] < 0.01 and errors[1] < 0.3 * errors[0] + 1e-9, (name, errors)  # a fourth for order 1


def stationary(model, method, h):
    """The moments that a step leaves as they are."""
    M = moment_map(model, method, h)
    values, vectors = np.linalg.eig(M)
    fixed = vectors[:, np.argmin(np.abs(values - 1))].real
    assert np.sort(np.abs(values))[-2] < 1  # stable
    return fixed / fixed[0]


@pytest.mark.parametrize("method, theta", [("euler_maruyama", 0.0), ("trapezoidal", 0.5), ("implicit_euler", 1.0),
                                           ("theta(0.2)", 0.2), ("theta(0.7)", 0.7)])  # fmt: skip
@pytest.mark.parametrize("h", [0.1, 0.9])
def test_the_stationary_variance_of_the_theta_method(method, theta, h):
    k, s = 1.3, 0.8
    _, mean, second = stationary(sim.SDE({"x": f"{k}*(0.5 - x)"}, {"x": s}), find(method, ("sde",)), h)
    assert np.isclose(mean, 0.5, rtol=1e-12)
    assert np.isclose(second - mean**2, s**2 / (2 * k + (2 * theta - 1) * k**2 * h), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("h", [0.1, 1.0, 1.9])
def test_baoab_samples_the_positions_of_an_oscillator_exactly(gamma, h):
    # Leimkuhler & Matthews 2013: with unit mass, frequency and temperature, Var x = 1 and Var v = 1 − h²/4 for h < 2
    model = sim.SDE({"x": "v", "v": "-x - g*v"}, {"v": "sqrt(2*g)"}, parameters={"g": gamma})
    bound = sim.SDE({"x": "v", "v": f"-x - {gamma}*v"}, {"v": f"sqrt(2*{gamma})"})
    assert recognise(model).force == recognise(bound).force
    _, x, v, xx, xv, vv = stationary(bound, find("baoab", ("sde",)), h)
    assert np.allclose([x, v, xx, xv, vv], [0, 0, 1, 0, 1 - h**2 / 4], atol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.3, 50.0])
@pytest.mark.parametrize("h", [0.1, 1.0, 10.0])
def test_ubu_is_exact_without_force(gamma, h):
    model = sim.SDE({"x": "v", "v": f"-{gamma}*v"}, {"v": 0.7})
    start, A, B = [0.3, 0.5], np.array([[0, 0, 1.0], [0, 0, -gamma]]), np.array([[[0, 0, 0], [0.7, 0, 0]]])
    found = moment_map(model, find("ubu", ("sde",)), h) @ monomials(np.array(start))
    assert np.allclose(found, exact_moments(A, B, start, h), rtol=1e-12, atol=1e-14)


# ---- saves between steps for methods that know the integral of the path


@pytest.mark.parametrize("backend", ["kernel", "numpy"])
def test_saves_between_steps_have_the_joint_law_of_the_path_and_its_integral(backend):
    # dX = dW, dY = X dt: SRA1 gives (W, ∫W) itself, on the grid and, with the bridge of the pair, off it
    model = sim.SDE({"x": 0, "y": "x"}, {"x": 1})
    times = np.array([0.0, 0.3, 0.35, 0.9, 1.0, 1.5, 2.0, 2.999])
    count = 40_000
    result = integrate(
        model, find("sra1", ("sde",)), np.zeros((2, count)), {}, times, 1.0, seed=4, members=np.arange(count), backend=backend
    ).states[1:]
    t = times[1:]
    s, u = np.minimum.outer(t, t), np.maximum.outer(t, t)
    W_area = np.where(t[:, None] <= t, t[:, None] * (t - t[:, None] / 2), t**2 / 2)  # Cov(W_row, ∫_0^column W)
    exact = np.block([[s, W_area], [W_area.T, s**2 * (3 * u - s) / 6]])
    sample = np.concatenate([result[:, 0], result[:, 1]])
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    spread = np.sqrt((scale**2 + exact**2) / count)
    assert (np.abs(sample @ sample.T / count - exact) < 4.5 * spread).all()


def test_the_l_stable_method_forgets_a_stiff_state_and_damps_its_noise():
    # λh → −∞: X' = g (ΔW − b₂ I₍₁₀₎/h) whatever X was, of variance g² h (1 − b₂ + b₂²/3)
    model = sim.SDE({"x": "-1e9*x"}, {"x": 0.5})
    M = moment_map(model, find("sdirk_sra", ("sde",)), 0.2)
    assert np.abs(M[1:, 1:]).max() < 1e-6
    assert np.isclose(M[2, 0], 0.25 * 0.2 * (1 - _B0[1] + _B0[1] ** 2 / 3), rtol=1e-6)


# ---- Lévy areas


def test_levy_areas_have_the_law_given_the_increments():
    # E[A² | W] = h²/12 + h(W₁² + W₂²)/12, exact for any number of terms; E exp(iλA) = 1/cosh(λh/2) (Lévy 1951)
    count, h = 200_000, 0.3
    draws = np.random.default_rng(8)
    for n in (1, 3):
        w = Wiener(Vector(draws.normal(size=(2, count)) * np.sqrt(h)), np.sqrt(h), lambda *_: draws.normal(size=count))
        (A,) = levy_areas(w, h, n).values()
        given = h**2 / 12 + h * (w.dW[0] ** 2 + w.dW[1] ** 2) / 12
        ratio = A**2 / given
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(count)
        assert abs(np.corrcoef(ratio, given)[0, 1]) < 4 / np.sqrt(count) + (0.01 if n == 1 else 0.005)
        for frequency in (2.0, 6.0, 10.0):
            wave = np.cos(frequency * A)
            error = abs(wave.mean() - 1 / np.cosh(frequency * h / 2))
            assert error < 4 * wave.std() / np.sqrt(count) + 0.004 / n**2


def test_the_series_of_a_levy_area_is_that_of_the_path():
    # X and Y from the Fourier coefficients of a path: the area misses what its remainder says, on that very path
    count, m, h = 4000, 256, 0.5
    steps = np.random.default_rng(3).normal(0, np.sqrt(h / m), (2, m, count))
    W = np.cumsum(steps, axis=1)
    before, (end, s) = W - steps, (W[:, -1], (np.arange(m) + 0.5) / m)
    area = ((before[0] * steps[1] - before[1] * steps[0]) / 2).sum(axis=0)
    bridge = before + steps / 2 - s[:, None] * end[:, None]
    waves = {}
    for r in (1, 2, 3):
        for part, f in enumerate((np.cos, np.sin)):  # sets: 1 the rest, 2 μ, then X and Y of each term
            waves[2 + 2 * r - 1 + part] = np.einsum("cmi,m->ci", bridge, f(2 * np.pi * r * s)) * 2 / m * np.pi * r / np.sqrt(h / 2)
    mu = np.zeros((2, count))
    w = Wiener(Vector(end), np.sqrt(h), lambda kind, word: waves.get(word >> 16, mu)[word & 0xFFFF])
    for n in (1, 2, 3):
        (found,) = levy_areas(w, h, n).values()
        psi = np.pi**2 / 6 - sum(1 / r**2 for r in range(1, n + 1))
        square = (found - area) ** 2
        left = (h / (2 * np.pi)) ** 2 * (2 * psi + 2 * psi * 2)  # of X Y, and of X w with E w² = 1 for two processes
        assert abs(square.mean() / left - 1) < 0.1


def test_smaller_steps_take_more_terms():
    model = LINEAR["general"][0]
    method = find("milstein_levy", ("sde",))
    counts = [len(trace(model, method.at(model, h), frozenset()).draws) for h in (1e-1, 1e-3, 1e-5)]
    assert counts == [2 + 1 + 2 + 4 * n for n in (1, 5, 42)]
    assert [terms_for(model, h) for h in (1e-1, 1e-3, 1e-5)] == [1, 5, 42]
    with pytest.raises(ValueError, match="smaller units"):
        sim.simulate(model, {"x": 0.0, "y": 0.0}, [1e-8], dt=1e-9, method="milstein_levy")
