"""What is particular to implicit, stabilised, Langevin, tamed and discrete methods: stability, refusals, bounded steps."""

import numpy as np
import pytest
from numpy.polynomial import Chebyshev

import sdesim as sim
from sdesim.integrate import integrate
from sdesim.methods import find, rows
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.sde_implicit import eliminate
from sdesim.methods.sde_stabilised import DAMPING
from sdesim.methods.sde_weak import of_values
from sdesim.methods.vector import Vector
from sdesim.streams import normals

# ---- implicit methods


def test_elimination_solves_and_keeps_structural_zeros():
    A, b = [[4.0, 1.0, 0], [2.0, 5.0, 1.0], [0, 1.0, 3.0]], Vector([1.0, 2.0, 3.0])
    assert np.allclose(eliminate(A, b), np.linalg.solve(np.array(A), np.array(b)), rtol=1e-14)
    assert eliminate([[2.0, 0], [0, 4.0]], Vector([0, 8.0])) == [0, 2.0]


STIFF = sim.SDE({"x": "-100*(x**3 - cos(t))", "y": "50*(x - y) - y**3"}, {"x": "0.2", "y": "0.1*y"})


@pytest.mark.parametrize("method", ["implicit_euler", "implicit_milstein", "trapezoidal", "sdirk_sra"])
def test_a_stiff_nonlinear_step_is_solved(method):
    members = np.arange(200)
    start, times = np.full((2, 200), 0.9), np.array([0.0, 2.0])
    model = STIFF if method != "sdirk_sra" else sim.SDE({"x": STIFF.drift["x"], "y": STIFF.drift["y"]}, {"x": 0.2, "y": 0.1})
    result = integrate(model, find(method, ("sde",)), start, {}, times, 0.1, seed=1, members=members)
    assert not result.status.any()
    assert np.abs(result.states[1, 0] ** 3 - np.cos(2.0)).max() < 0.5
    explicit = integrate(STIFF, find("euler_maruyama", ("sde",)), start, {}, times, 0.1, seed=1, members=members)
    assert explicit.status.all()


def test_an_implicit_step_satisfies_its_equation():
    bound, h = BoundSDE(STIFF, "ito", {}), np.float64(0.05)
    y = Vector(np.random.default_rng(0).uniform(-2, 2, (2, 100)))
    dW = Vector(np.random.default_rng(1).normal(0, np.sqrt(h), (2, 100)))
    new = find("implicit_euler", ("sde",)).step(bound, np.float64(0.3), y, h, Wiener(dW))
    residual = np.array(new - y - bound.f(0.3 + h, new) * h - bound.noise(0.3, y, dW))
    solved = np.isfinite(residual).all(axis=0)
    assert solved.sum() > 90 and np.abs(residual[:, solved]).max() < 1e-9


def test_a_step_that_newton_does_not_solve_is_marked():
    # z + h z² = b has no real solution for b < −1/4h: no method may return one
    model = sim.SDE({"x": "-x**2"}, {})
    start = np.array([[1.0, -3.0]])
    result = integrate(
        model, find("implicit_euler", ("sde",)), start, {}, np.array([0.0, 0.5]), 0.5, seed=0, members=np.arange(2)
    )
    assert result.status.tolist() == [0, 1]


STRONGLY = {  # drift with rates of hundreds of a step of 0.1, from which starts
    "cubic, from afar": ("-1000*(x**3 - cos(t))", 10.0),
    "quintic": ("-1000*(x**5 - cos(t))", 0.2),
    "flat place": ("-1000*x**3", 0.0),
    "exponential": ("-100*(exp(x) - 1)", 6.0),
    "kink": ("-1000*x*abs(x)", 3.0),
}


@pytest.mark.parametrize("name", STRONGLY)
def test_strongly_stiff_steps_are_solved_from_where_newtons_own_would_not_arrive(name):
    # noise and starts of every sign; residuals to round-off magnified by the rate
    drift, reach = STRONGLY[name]
    bound, h, starts = BoundSDE(sim.SDE({"x": drift}, {"x": 1}), "ito", {}), np.float64(0.1), np.linspace(-1, 1, 1001)
    dW = Vector(np.random.default_rng(7).normal(0, np.sqrt(h), (1, 1001)))
    y = Vector([starts * reach + (name == "quintic")])
    (new,) = find("implicit_euler", ("sde",)).step(bound, np.float64(0.3), y, h, Wiener(dW, np.sqrt(h)))
    assert np.isfinite(new).all()
    (residual,) = Vector([new]) - y - bound.f(0.3 + h, Vector([new])) * h - dW
    assert np.abs(residual).max() < 1e-9


SATURATING = sim.SDE({"x": "-1000*tanh(3*x)"}, {"x": 0.1})


@pytest.mark.parametrize("method", ["implicit_euler", "implicit_milstein", "trapezoidal", "sdirk_sra"])
def test_a_drift_that_saturates_is_solved_from_where_it_is_flat(method):
    # its slope at 1 is 30 of 3000 at 0: Newton's own steps go to and fro, each beyond the last
    starts = np.concatenate([np.linspace(-5, 5, 301), [-30.0, 30.0]])
    members, times = np.arange(len(starts)), np.array([0.0, 0.01, 0.1, 1.0])
    for h in (0.01, 0.02) if method == "trapezoidal" else (0.01, 0.05, 0.1):  # flung about by its explicit half
        result = integrate(SATURATING, find(method, ("sde",)), starts[None], {}, times, h, seed=1, members=members)
        assert not result.status.any(), h
    if method == "implicit_euler":  # x' + 1000 h tanh(3x') = b, by bisection
        noise = 0.1 * np.sqrt(0.1) * normals(1, members, 0)
        low, high = np.full_like(starts, -200.0), np.full_like(starts, 200.0)
        for _ in range(80):
            middle = (low + high) / 2
            above = middle + 100 * np.tanh(3 * middle) > starts + noise
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        first = integrate(SATURATING, find(method, ("sde",)), starts[None], {}, np.array([0.0, 0.1]), 0.1, seed=1, members=members)
        assert first.states[1, 0] == pytest.approx(middle, abs=1e-12)


def lorenz96(n, rate):
    """A ring of n states with a strong cubic damping, its noise in every second one."""
    states = [f"x{i}" for i in range(n)]
    drift = {s: f"(x{(i + 1) % n} - x{(i - 2) % n})*x{(i - 1) % n} - {rate}*{s}**3 + 8" for i, s in enumerate(states)}
    return sim.SDE(drift, dict.fromkeys(states[::2], "0.5"))


@pytest.mark.parametrize("method", ["implicit_euler", "sdirk_sra"])
def test_eight_states_are_solved_together(method):
    model, step = lorenz96(8, 200), find(method, ("sde",)).step
    y = Vector(np.random.default_rng(3).uniform(-2, 2, (8, 200)))
    draws = np.random.default_rng(4).normal(size=(2, 4, 200))
    h, bound = np.float64(0.05), BoundSDE(model, "ito", {})
    w = Wiener(Vector(draws[0] * np.sqrt(h)), np.sqrt(h), lambda kind, word: draws[1, word])
    new = step(bound, np.float64(0.0), y, h, w)
    assert np.isfinite(np.array(new)).all()
    if method == "implicit_euler":
        residual = np.array(new - y - bound.f(h, new) * h - bound.noise(0.0, y, w.dW))
        assert np.abs(residual).max() < 1e-9


@pytest.mark.parametrize("pivot", [1e-7, 1e-12])
def test_a_linear_system_that_elimination_loses_is_refined_or_marked(pivot):
    # 1 − γ f' = [[pivot, 1], [1, 1]]: without pivoting x loses as many digits as the pivot has zeros
    pivot = 1 - (1 - pivot)
    model, members = sim.SDE({"x": f"{1 - pivot!r}*x - y", "y": "-x"}, {}), np.arange(50)
    start, times = np.random.default_rng(1).uniform(-1, 1, (2, 50)), np.array([0.0, 1.0])
    result = integrate(model, find("implicit_euler", ("sde",)), start, {}, times, 1.0, seed=0, members=members)
    solved = result.status == 0
    assert solved.all() or pivot < 1e-10
    exact = np.linalg.solve([[pivot, 1], [1, 1]], start)
    assert np.allclose(result.states[1][:, solved], exact[:, solved], rtol=1e-12)


def test_implicit_methods_say_how_many_states_they_serve():
    states = [f"x{i}" for i in range(9)]
    model = sim.SDE({s: f"-{s}" for s in states}, {"x0": 1})
    with pytest.raises(ValueError, match="at most 8 states.*skrock10"):
        sim.simulate(model, dict.fromkeys(states, 0.0), [1.0], method="implicit_euler")


def test_the_implicit_midpoint_keeps_quadratic_invariants():
    # |z| of Kubo's oscillator; the spin of length 1 in a noisy field, dm = m × (b dt + (0.5, 0.3, −0.4)∘dW); energy ½|u|²
    # of a nonlinear rotation: to round-off at any step, where Heun's method drifts
    models = {
        "Kubo": (sim.equations.kubo(omega=2.0, sigma=0.6), [0.6, 0.8]),
        "spin": (sim.SDE({"x": "y - z", "y": "-x", "z": "x"},
                         {"x": {"W": "-0.4*y - 0.3*z"}, "y": {"W": "0.5*z + 0.4*x"}, "z": {"W": "0.3*x - 0.5*y"}},
                         interpretation="stratonovich"), [0.6, 0.0, 0.8]),
        "nonlinear": (sim.SDE({"x": "y*(1 + x*y)", "y": "-x*(1 + x*y)"}, {"x": {"a": "-y*sin(x)"}, "y": {"a": "x*sin(x)"}},
                              interpretation="stratonovich"), [0.6, 0.8]),
    }  # fmt: skip
    for name, (model, start) in models.items():
        lost = []
        for method in ("implicit_midpoint", "heun"):
            initial, times = np.repeat(np.reshape(start, (-1, 1)), 200, axis=1), np.array([0.0, 10.0])
            result = integrate(model, find(method, ("sde",)), initial, model.parameters, times, 0.1, seed=1,
                               members=np.arange(200))  # fmt: skip
            assert not result.status.any()
            lost.append(np.abs(np.linalg.norm(result.states[1], axis=0) - 1).max())
        assert lost[0] < 1e-12 and lost[1] > 1e-3, name


def test_the_implicit_midpoint_cuts_its_increments():
    # dX = 2X∘dW: X' = X (1 + ΔW)/(1 − ΔW) has a pole at ΔW = 1, 10 and 100 √h away, cut at 5 and 6.07
    model, z = sim.SDE({"x": 0}, {"x": "2*x"}, interpretation="stratonovich"), np.linspace(-12, 12, 49)
    bound, step = BoundSDE(model, "stratonovich", {}), find("implicit_midpoint", ("sde",)).step
    for h, limit in ((1e-2, 5.0), (1e-4, np.sqrt(16 * np.log(10)))):
        (x,) = step(bound, 0.0, Vector([np.ones(49)]), h, Wiener(Vector([z * np.sqrt(h)]), np.sqrt(h)))
        q = np.clip(z, -limit, limit) * np.sqrt(h)
        assert np.allclose(x, (1 + q) / (1 - q), rtol=1e-12)


# ---- stabilised methods


@pytest.mark.parametrize("name, what", [("theta(1.2)", "θ from 0"), ("theta()", "θ from 0"), ("skrock(1)", "2 to 100"),
                                        ("skrock(4.5)", "2 to 100"), ("heun(2)", "no method")])  # fmt: skip
def test_a_family_of_methods_says_what_it_takes(name, what):
    with pytest.raises(ValueError, match=what):
        sim.simulate(STIFF, {"x": 1.0, "y": 1.0}, [1.0], dt=0.1, method=name)


@pytest.mark.parametrize("name, same", [("theta(1)", "implicit_euler"), ("theta(0.5)", "trapezoidal"), ("skrock(10)", "skrock10")])
def test_a_member_of_a_family_is_the_method_of_that_number(name, same):
    one, other = (sim.simulate(STIFF, {"x": 1.0, "y": 1.0}, [0.1], dt=0.01, members=5, method=m) for m in (name, same))
    assert one.attrs["method"] == name and np.array_equal(one.x, other.x) and np.array_equal(sim.rerun(one).x, one.x)


@pytest.mark.parametrize("s", [5, 8, 10, 20])
def test_skrock_has_the_stability_function_of_its_paper(s):
    # Abdulle, Almuslimani & Vilmart 2018, eq. 3.6: X' = A(p) X + B(p) q ξ X for dX = λX dt + μX dW, p = λh, q = μ√h
    step = find(f"skrock({s})", ("sde",)).step
    w0 = 1 + DAMPING / s**2
    T = Chebyshev.basis(s)
    w1 = T(w0) / T.deriv()(w0)
    for p in (-0.3, -7.0, -1.9 * s**2):
        for q in (0.0, 0.8):
            bound = BoundSDE(sim.SDE({"x": f"{p!r}*x"}, {"x": f"{q!r}*x"}) if q else sim.SDE({"x": f"{p!r}*x"}), "ito", {})
            (found,) = step(bound, 0.0, Vector([np.float64(1.0)]), 1.0, Wiener(Vector([0.6][: bool(q)])))
            second_kind = T.deriv()(w0 + w1 * p) / T.deriv()(w0)  # U_{s−1} = T_s'/s
            exact = T(w0 + w1 * p) / T(w0) + second_kind * (1 + w1 * p / 2) * q * 0.6
            assert np.isclose(found, exact, rtol=1e-9, atol=1e-9)


def test_skrock_is_stable_where_it_says():
    model = sim.SDE({"x": "-k*(x - cos(t))"}, {"x": "0.5"}, parameters={"k": 0.0})
    for s in (5, 10, 20):
        limit = (2 - 4 * DAMPING / 3) * s**2
        for reach, stable in ((0.98, True), (1.1, False)):
            x = integrate(
                model, find(f"skrock{s}", ("sde",)), np.zeros((1, 50)), {"k": reach * limit / 0.1}, np.array([0.0, 20.0]),
                0.1, seed=3, members=np.arange(50),
            ).states[1]  # fmt: skip
            assert (np.abs(x).max() < 5) == stable, (s, reach)


# ---- Langevin equations, tamed Euler


@pytest.mark.parametrize("drift, noise, why", [
    ({"x": "-x"}, {"x": 1}, "pairs"), ({"x": "v", "v": "-x - x*v"}, {"v": 1}, "constant γ"),
    ({"x": "v", "v": "-x - v**2"}, {"v": 1}, "constant γ"), ({"x": "v", "v": "-x - v"}, {"x": 1}, "velocities alone"),
    ({"x": "v", "v": "-v", "y": "w", "w": "v - w"}, {"v": 1}, "constant γ"), ({"x": "v", "v": "-v"}, {"v": "t"}, "constant"),
])  # fmt: skip
def test_a_model_that_is_no_langevin_equation_is_refused_with_the_reason(drift, noise, why):
    model = sim.SDE(drift, noise)
    with pytest.raises(ValueError, match=why):
        sim.simulate(model, dict.fromkeys(drift, 0.0), [1.0], method="baoab")


def test_tamed_euler_stays_where_euler_blows_up():
    # Hutzenthaler, Jentzen & Kloeden 2011: Euler's moments diverge for a cubic drift; the tamed ones stay bounded
    model, members = sim.SDE({"x": "-x**3"}, {"x": "2"}), np.arange(2000)
    ends = {}
    for method in ("euler_maruyama", "tamed_euler"):
        start, times = np.full((1, 2000), 6.0), np.array([0.0, 2.0])
        ends[method] = integrate(model, find(method, ("sde",)), start, {}, times, 0.1, seed=1, members=members)
    assert ends["euler_maruyama"].status.all() and not ends["tamed_euler"].status.any()
    assert np.abs(ends["tamed_euler"].states[1]).max() < 6


# ---- increments of two and three values


@pytest.mark.parametrize("points, order", [(2, 3), (3, 5)])
def test_discrete_increments_have_the_moments_of_normal_ones(points, order):
    h, z = 0.04, normals(5, np.arange(200_000), 3)
    (W,) = of_values(points, Vector([z * np.sqrt(h)]), np.sqrt(h))
    assert np.unique(W).size == points
    assert (np.sign(W) == np.sign(z))[W != 0].all()  # of the same path
    for k in range(1, order + 1):
        exact = h ** (k / 2) * np.prod(np.arange(k - 1, 0, -2)) if k % 2 == 0 else 0.0
        assert abs((W**k).mean() - exact) < 4.5 * (W**k).std() / np.sqrt(W.size) + 1e-15
    assert np.allclose(W**2, h, rtol=1e-15) if points == 2 else abs((W == 0).mean() - 2 / 3) < 4.5 * np.sqrt(2 / 9 / W.size)


@pytest.mark.parametrize("method", [m for m in rows(("sde",)) if m.points], ids=lambda m: m.name)
def test_discrete_methods_move_by_bounded_steps_and_refuse_what_lies_between_them(method):
    model = sim.SDE({"x": 0}, {"x": 1})
    ds = sim.simulate(model, {"x": 0.0}, [0.0, 0.25, 0.5], dt=0.25, members=500, method=method.name)
    reach = 0.5 if method.points == 2 else np.sqrt(0.75)
    steps = np.diff(ds.x.values, axis=ds.x.get_axis_num("time"))
    assert np.allclose(np.unique(np.abs(steps).round(12)), [reach] if method.points == 2 else [0, reach])
    with pytest.raises(ValueError, match="grid of steps.*multiples of dt"):
        sim.simulate(model, {"x": 0.0}, [0.0, 0.3], dt=0.25, method=method.name)
    with pytest.raises(ValueError, match="bound"):
        sim.simulate(sim.SDE({"x": 0}, {"x": 1}, bounds={"x": sim.Reflecting(0, None)}), {"x": 1.0}, [1.0], dt=0.25,
                     method=method.name)  # fmt: skip


@pytest.mark.parametrize("method", ["milstein", "milstein_free", "implicit_milstein", "milstein_stratonovich", None])
@pytest.mark.parametrize("noise", ["s*sqrt(max(x, 0))", "s*max(x, 0)**0.5"])
def test_a_noise_that_ends_at_a_root_of_nought_is_stepped_past_it(method, noise):
    model = sim.SDE({"x": "k*(th - x)"}, {"x": noise}, parameters={"k": 1.0, "th": 0.02, "s": 0.6})
    ds = sim.simulate(model, {"x": 0.02}, [5.0], members=2000, dt=0.01, method=method, seed=1)
    assert not ds.status.any()
    assert float(ds.x.min()) < 0.001
    spread = float(ds.x.std()) / 2000**0.5
    assert abs(float(ds.x.mean()) - 0.02) < 4.0 * spread + 0.005  # a Feller ratio of 0.1: the bias of h = 0.01 is seen
