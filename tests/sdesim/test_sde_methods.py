"""Every SDE method through the same harnesses: order without noise, strong order on a shared path, weak order and
stationary law by quadrature, and what is particular to implicit, stabilised and Langevin methods.

The strong harness drives all steps by one fine path: W, its integral and the next moment of each coarse step are
aggregated from the fine ones exactly, so a slope is measured on noise that really has the type tested. The weak
harness needs no sampling: for a linear model, a step maps polynomials of degree 2 to such polynomials, and its
expectation over Gauss–Hermite nodes and signs is exact.
"""

from functools import cache

import numpy as np
import pytest
from scipy import linalg

import sdesim as sim
from sdesim.integrate import integrate
from sdesim.methods import find, rows
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.langevin import is_langevin
from sdesim.methods.sde_rossler import TABLEAUS, AdditiveTableau, DiagonalTableau
from sdesim.methods.vector import Vector
from sdesim.streams import normals

EVERY = rows(("sde",))


def slope(steps, errors):
    """The slope of log₂ error against log₂ h."""
    return -np.polyfit(np.log2(steps), np.log2(errors), 1)[0]


# ---- order without noise


PENDULUM = sim.SDE({"x": "v", "v": "-sin(x) + 0.3*cos(t) - 0.2*v"})


@cache
def swung(name, n):
    """The pendulum after n steps to t = 2."""
    method = find(name, ("sde",))
    bound = BoundSDE(PENDULUM, method.calculus, {})
    y, h = Vector([np.float64(1.0), np.float64(0.5)]), np.float64(2.0 / n)
    for s in range(n):
        y = method.step(bound, s * h, y, h, Wiener(Vector(), np.sqrt(h)))
    return np.array([float(v) for v in y])


@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.name)
def test_order_without_noise(method):
    levels = np.array([16, 32, 64])
    found = slope(levels, [np.linalg.norm(swung(method.name, n) - swung("dri1", 1024)) for n in levels])
    assert abs(found - method.order) < 0.15


# ---- what a model leaves out

# a state that nothing moves, one that only drifts, one that only diffuses; processes that no other state feels
SPARSE = {
    "none": sim.SDE({"x": 0, "y": 2}),
    "additive": sim.SDE({"x": 0, "y": 2, "z": 0}, {"z": 3}),
    "scalar": sim.SDE({"x": 0, "y": 2, "z": 0}, {"z": "sin(z) + 2"}),
    "diagonal": sim.SDE({"x": 0, "y": 2, "z": 0, "u": "x"}, {"z": "sin(z) + 2", "u": 1}),
    "commutative": sim.SDE({"x": 0, "y": 2, "z": 0}, {"z": {"a": "z", "b": "2*z"}}),
    "general": sim.SDE({"x": 0, "y": 2, "z": 0, "u": "0"}, {"z": {"a": 1}, "u": {"b": "z"}}),
    "Langevin": sim.SDE({"x": "v", "v": 0, "y": "w", "w": "-w"}, {"w": 0.5}),
}


@pytest.mark.parametrize("method", [m for m in EVERY if m.name != "tamed_euler"], ids=lambda m: m.name)
def test_what_a_model_leaves_out_stays_as_it_is(method):
    served = [name for name, model in SPARSE.items() if method.refusal(model) is None]
    assert served
    for name in served:
        model, members = SPARSE[name], np.arange(20)
        assert model.noise_type == name or name == "Langevin"
        start = np.tile(np.linspace(0.5, 0.8, len(model.states))[:, None], 20)
        times = np.array([0.0, 0.25, 0.6])
        states = integrate(model, method, start, {}, times, 0.25, seed=5, members=members, backend="numpy").states
        assert np.isfinite(states).all()
        if name == "Langevin":
            assert np.allclose(states[:, 0].T, 0.5 + 0.6 * times, rtol=1e-14) and (states[:, 1] == 0.6).all()
            assert np.ptp(states[2, 2]) > 0.01 and np.ptp(states[2, 3]) > 0.1
            continue
        assert (states[:, 0] == 0.5).all()
        assert np.allclose(states[:, 1].T, start[1, 0] + 2 * times, rtol=1e-13)
        assert all(np.ptp(states[2, i]) > 0.1 for i in range(2, len(model.states)))


# ---- the tableaus


def full(rows_, n):
    return np.array([[*row, *(0.0,) * (n - len(row))] for row in rows_])


@pytest.mark.parametrize("name", TABLEAUS)
def test_tableaus_satisfy_roesslers_order_conditions(name):
    # Rößler 2010, theorems 5.1 (SRI) and 6.1 (SRA)
    T = TABLEAUS[name]
    n = len(T.alpha)
    A0, B0 = full(T.A0, n), full(T.B0, n)
    a, c0, c1, b1, b2, e = np.array(T.alpha), np.array(T.c0), np.array(T.c1), np.array(T.beta1), np.array(T.beta2), np.ones(n)
    zero = [a @ e - 1, b1 @ e - 1, b2 @ e, a @ (B0 @ e) - 1, a @ (A0 @ e) - 1 / 2, a @ (B0 @ e) ** 2 - 3 / 2]
    zero += list(A0 @ e - c0)
    if isinstance(T, AdditiveTableau):
        zero += [b1 @ c1 - 1, b2 @ c1 + 1]
    else:
        assert isinstance(T, DiagonalTableau)
        A1, B1 = full(T.A1, n), full(T.B1, n)
        b3, b4, B1e = np.array(T.beta3), np.array(T.beta4), B1 @ e
        zero += list(A1 @ e - c1)
        zero += [b3 @ e, b4 @ e, b1 @ B1e, b2 @ B1e - 1, b3 @ B1e, b4 @ B1e]
        zero += [b1 @ (A1 @ e) - 1, b2 @ (A1 @ e), b3 @ (A1 @ e) + 1, b4 @ (A1 @ e)]
        zero += [b1 @ B1e**2 - 1, b2 @ B1e**2, b3 @ B1e**2 + 1, b4 @ B1e**2 - 2]
        zero += [b1 @ (B1 @ B1e), b2 @ (B1 @ B1e), b3 @ (B1 @ B1e), b4 @ (B1 @ B1e) - 1]
        zero += [b1 @ (A1 @ (B0 @ e)) / 2 + b3 @ (A1 @ (B0 @ e)) / 3]
    assert np.abs(zero).max() < 1e-12


# ---- strong order on a shared path

FINE, MEMBERS = 1024, 600
STRONG = {  # rational functions: NumPy's reference is slow at sines
    "additive": sim.SDE(
        {"x": "y/2", "y": "4/(1 + 2*x**2) - 1"}, {"x": {"a": "1 - t/2", "b": "0.7"}, "y": {"b": "0.8"}},
    ),
    "scalar": sim.SDE(
        {"x": "y/(1 + y**2) - x/4", "y": "0.3/(1 + x**2)"},
        {"x": {"W": "0.9/(1 + (y - t)**2)"}, "y": {"W": "0.9*x"}},
    ),
    "diagonal": sim.SDE(
        {"x": "y/(1 + y**2)", "y": "0.3*y/(1 + x**2)"}, {"x": "0.6*sqrt(1 + x**2)", "y": "0.6*(y - t)/(1 + y**2/4)"},
    ),
    "commutative": sim.SDE(  # combinations of two fields that commute
        {"x": "y/2 - x**3/5", "y": "(1 - t)/2 - x/(1 + x**2)"},
        {"x": {"a": "0.4*sqrt(1 + x**2)", "b": "-0.3*sqrt(1 + x**2)"},
         "y": {"a": "0.5*(2*y - t)/(1 + y**2/2)", "b": "0.6*(2*y - t)/(1 + y**2/2)"}},
    ),
    "general": sim.SDE(
        {"x": "y/(1 + y**2)", "y": "t - x/3"},
        {"x": {"a": "0.8", "b": "0.7/(1 + (y - t)**2)"}, "y": {"a": "1.2*(x + t)/(1 + x**2)", "b": "0.5*x"}},
    ),
    "Langevin": sim.SDE({"x": "v", "v": "2*(x + t**2)/(1 + x**2) - x - 0.8*v"}, {"v": {"a": "0.9", "b": "0.5"}}),
}  # fmt: skip
REFERENCE = {"additive": "sra3", "scalar": "sosri", "diagonal": "sosri", "commutative": "slowrk", "general": "milstein_levy",
             "Langevin": "quicsort"}  # fmt: skip


@cache
def fine_path(seed=12):
    """(ΔW, ∫W, ∫sW over each fine step, each from its start) over [0, 1] and Lévy areas, independent here.

    Arrays (step, process, member). An area of variance h²/4 given to each fine step makes those of coarse steps.
    """
    z, a, k, levy = np.random.default_rng(seed).normal(size=(4, FINE, 2, MEMBERS)) * np.sqrt(1 / FINE)
    h = 1 / FINE
    area = 0.5 * h * (z + a / np.sqrt(3))
    return z, area, h / 2 * area + z * h**2 / 12 - h**2 * k / np.sqrt(720), levy * np.sqrt(h) / 2


@cache
def coarse_path(n, seed=12):
    """(ΔW, ΔZ, K·√720, Lévy areas) of n steps, aggregated."""
    m, h = FINE // n, 1 / n
    w, area, moment, levy = (v.reshape(n, m, 2, MEMBERS) for v in fine_path(seed))
    start = np.cumsum(w, axis=1) - w
    s = (np.arange(m) / FINE)[None, :, None, None]
    W, A = w.sum(axis=1), (start / FINE + area).sum(axis=1)
    B = (start * (s / FINE + 0.5 / FINE**2) + s * area + moment).sum(axis=1)
    K = (h / 2 * A - B + W * h**2 / 12) / h**2
    turned = (start[:, :, 0] * w[:, :, 1] - start[:, :, 1] * w[:, :, 0]) / 2 + levy[:, :, 0]  # Chen's relation
    return W, np.sqrt(3) * (2 * A / h - W), K * np.sqrt(720), turned.sum(axis=1)


def along(model, method, n, seed=12):
    W, Z, K, areas = coarse_path(n, seed)
    h, draws = np.float64(1 / n), np.random.default_rng(n)
    flips, further = draws.choice([-1.0, 1.0], size=W.shape), draws.normal(0, np.sqrt(h), size=W.shape)
    rest = np.pi**2 / 6 - 1  # of a series that ends after one term: here the whole area is its rest
    G = np.stack([areas, 0 * areas], axis=1) / (h / (2 * np.pi) * np.sqrt(2 * rest))
    y = Vector(np.full(MEMBERS, v) for v in (0.5, 0.9))
    bound, channels = BoundSDE(model, method.calculus, {}), len(model.channels)
    for s in range(n):
        def draw(kind, word, s=s):
            c, k = word & 0xFFFF, word >> 16
            if method.refined is not None:  # by Lévy areas
                return G[s, c] if k == 1 else np.zeros(MEMBERS)
            return flips[s, c] if kind == "b" else (Z, K, further)[k][s, c] / np.sqrt(h)

        y = method.step(bound, s * h, y, h, Wiener(Vector(W[s, :channels]), np.sqrt(h), draw))
    return np.array(list(y))


@cache
def strong_truth(name, seed=12):
    return along(STRONG[name], find(REFERENCE[name], ("sde",)), FINE, seed)


def test_the_aggregated_path_has_the_law_of_a_path():
    for n in (1, 8):
        W, Z, K, areas = coarse_path(n)
        values = np.sqrt(n) * np.array([W.ravel(), Z.ravel(), K.ravel()])
        assert np.abs(np.cov(values) - np.eye(3)).max() < 5 * np.sqrt(2 / values.shape[1])
        assert abs(areas.var() * 4 * n**2 - 1) < 5 * np.sqrt(4 / areas.size)  # kurtosis 5


@pytest.mark.parametrize("name", ["milstein", "milstein_free", "heun", "slowrk"])
def test_strong_order_on_ten_processes(name):
    # Rößler 2010, §7: d = 4, m = 10, commutative: X = exp((A − ½ Σ B²) t + B ΣW) X₀; the noise three times his
    A = np.full((4, 4), 1 / 20) + np.diag(np.full(4, -3 / 2 - 1 / 20))
    B = 3 * (np.full((4, 4), 1 / 100) + np.diag(np.full(4, 1 / 5 - 1 / 100)))
    states = "pqrs"

    def text(M, i):
        return " + ".join(f"{float(M[i, j])!r}*{s}" for j, s in enumerate(states))

    model = sim.SDE(
        {s: text(A, i) for i, s in enumerate(states)},
        {s: {f"W{c}": text(B, i) for c in range(10)} for i, s in enumerate(states)},
    )
    assert model.noise_type == "commutative"
    method, members = find(name, ("sde",)), np.arange(500)
    levels, errors = np.array([32, 64, 128]), []
    for n in levels:
        result = integrate(model, method, np.ones((4, 500)), {}, np.array([0.0, 1.0]), 1 / n, seed=int(n), members=members)
        W = sum(normals(int(n), members, s, c) for s in range(n) for c in range(10)) / np.sqrt(n)
        exact = (linalg.expm((A - 5 * B @ B) + B * W[:, None, None]) @ np.ones(4)).T
        errors.append(np.linalg.norm(result.states[1] - exact, axis=0).mean())
    found = slope(levels, errors)
    assert found > method.strong - 0.15, f"{found:.3f}"
    assert found < method.strong + 0.15 or name == "slowrk"  # drift and noise commute: its terms of order 3/2 vanish


def strong_claim(method, name):
    if name == "additive":
        return max(1.0, method.strong)  # Euler–Maruyama is Milstein
    if name == "general" and method.refined is None:
        return 0.5  # the areas are not known
    return method.strong


def measure_strong(name, method, seed=12):
    """(slope of the mean error at time 1 against the step, its standard error over the paths)."""
    levels = np.array([8, 16, 32, 64]) if method.strong > 1 else np.array([16, 32, 64, 128])
    distances = np.array([along(STRONG[name], method, n, seed) - strong_truth(name, seed) for n in levels])
    distances = np.linalg.norm(distances, axis=1)
    means = distances.mean(axis=1)
    x = np.log2(levels) - np.log2(levels).mean()
    each = (x / np.sum(x**2)) @ (distances / means[:, None]) / np.log(2)  # a path's part in the slope
    return slope(levels, means), each.std() / np.sqrt(MEMBERS)


STRONG_CASES = [(n, m) for n in STRONG for m in EVERY if m.refusal(STRONG[n]) is None and m.strong
                and (n != "Langevin" or m.requires is is_langevin)
                and (n == "scalar" or m.name not in ("skrock10", "skrock20"))]  # fmt: skip


def check_strong(name, method, seed=12):
    (found, standard_error), claimed = measure_strong(name, method, seed), strong_claim(method, name)
    assert standard_error < 0.05
    assert abs(found - claimed) < 0.15, f"{found:.3f} ± {standard_error:.3f}, claimed {claimed}"


@pytest.mark.parametrize("name, method", STRONG_CASES, ids=lambda v: getattr(v, "name", v))
def test_strong_order(name, method):
    assert STRONG[name].noise_type == ("additive" if name == "Langevin" else name)
    check_strong(name, method)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("method", [m for m in EVERY if m.refined], ids=lambda m: m.name)
def test_strong_order_by_levy_areas_on_other_paths(method, seed):
    check_strong("general", method, seed)
