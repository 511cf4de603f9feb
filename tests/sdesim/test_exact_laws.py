"""Exact samplers: the whole law at any interval, not only its moments; refused for models that are not of their kind."""

import numpy as np
import pytest
from scipy import linalg, special, stats

import sdesim as sim
from sdesim.methods.exact import linear_law, recognise, semidefinite_root

N = 20_000


def sample(model, initial, times=(0.0, 2.0), **options):
    return sim.simulate(model, initial, times, members=N, method="exact", **{"seed": 1, **options})


def agrees(values, law):
    """Kolmogorov–Smirnov: wrong once in a thousand if the law is right; the seeds are fixed."""
    assert stats.kstest(values, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("t", [0.01, 1.0, 40.0])
def test_ornstein_uhlenbeck(t):
    ds = sample(sim.equations.ornstein_uhlenbeck(theta=0.7, mu=0.4, sigma=1.3), {"x": 3.0}, [t])
    mean, variance = 0.4 + 2.6 * np.exp(-0.7 * t), 1.3**2 / 1.4 * (1 - np.exp(-1.4 * t))
    agrees(ds.x.values[:, 0], stats.norm(mean, np.sqrt(variance)))
    assert ds.attrs["method"] == "exact" and "dt" not in ds.attrs


def test_joint_law_over_times_and_states_of_a_linear_system():
    # damped oscillator with noise in the velocity alone: Q is singular as h → 0, and states correlate
    model = sim.SDE({"x": "v", "v": "-4*x - 0.3*v + 1"}, {"v": "0.8"})
    ds = sample(model, {"x": 1.0, "v": 0.0}, [0.3, 1.7])
    A, b, BB = np.array([[0, 1], [-4, -0.3]]), np.array([0.0, 1.0]), np.diag([0, 0.64])
    stationary = linalg.solve_continuous_lyapunov(A, -BB)
    fixed = -np.linalg.solve(A, b)
    mean = [fixed + linalg.expm(A * t) @ (np.array([1.0, 0.0]) - fixed) for t in (0.3, 1.7)]
    cov = [stationary - linalg.expm(A * t) @ stationary @ linalg.expm(A * t).T for t in (0.3, 1.7)]
    across = linalg.expm(A * 1.4) @ cov[0]
    whole = np.block([[cov[0], across.T], [across, cov[1]]])
    data = np.concatenate([np.stack([ds.x.values[:, t], ds.v.values[:, t]]) for t in (0, 1)])
    z = np.linalg.solve(np.linalg.cholesky(whole), data - np.concatenate(mean)[:, None])
    assert np.abs(z.mean(axis=1)).max() < 4 / np.sqrt(N)
    assert (np.abs(np.cov(z) - np.eye(4)) < 5 * np.sqrt((1 + np.eye(4)) / N)).all()
    for row in z:
        agrees(row, stats.norm())


def test_brownian_motion_and_its_integral():
    h = 1e-3  # Q spans eleven orders of magnitude
    _, _, Q = linear_law(np.array([[0.0, 1.0], [0.0, 0.0]]), np.zeros(2), np.diag([0.0, 1.0]), h)
    np.testing.assert_allclose(Q, [[h**3 / 3, h**2 / 2], [h**2 / 2, h]], rtol=1e-12)
    L = semidefinite_root(Q)
    np.testing.assert_allclose(L @ L.T, Q, rtol=1e-12)


@pytest.mark.parametrize("h", [1e-6, 1.0, 1e3])
def test_linear_law_of_a_stiff_system_against_lyapunov(h):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(4, 4))
    A = V @ np.diag([-1e3, -10.0, -1.0, -0.1]) @ np.linalg.inv(V)
    BB, b = np.eye(4), np.ones(4)
    F, shift, Q = linear_law(A, b, BB, h)
    S = linalg.solve_continuous_lyapunov(A, -BB)
    E = linalg.expm(A * h)
    np.testing.assert_allclose(F, E, atol=1e-9)
    assert shift == pytest.approx(np.linalg.solve(A, (E - np.eye(4)) @ b), rel=1e-7, abs=1e-12)
    np.testing.assert_allclose(Q, S - E @ S @ E.T, rtol=1e-6, atol=1e-9 * np.abs(S).max())


def test_parameters_that_vary_by_member_and_no_noise():
    k = np.linspace(0.1, 3.0, 50)
    ds = sim.simulate(sim.SDE({"x": "-k*x + 1"}, parameters={"k": 1.0}), {"x": 2.0}, [0.5, 4.0], members=50,
                      parameters={"k": k}, method="exact")
    for i, t in enumerate([0.5, 4.0]):
        assert ds.x.values[:, i] == pytest.approx(1 / k + (2 - 1 / k) * np.exp(-k * t), rel=1e-12)


def test_geometric_brownian_motions_share_their_noise():
    model = sim.SDE({"s": "0.1*s", "r": "-0.2*r"}, {"s": {"a": "0.3*s"}, "r": {"a": "0.2*r", "b": "0.4*r"}})
    ds = sample(model, {"s": 2.0, "r": 1.0}, [1.5])
    logs = np.log(np.stack([ds.s.values[:, 0] / 2.0, ds.r.values[:, 0]]))
    agrees(logs[0], stats.norm((0.1 - 0.045) * 1.5, 0.3 * np.sqrt(1.5)))
    agrees(logs[1], stats.norm((-0.2 - 0.1) * 1.5, np.sqrt(0.2 * 1.5)))
    assert np.corrcoef(logs)[0, 1] == pytest.approx(0.06 / (0.3 * np.sqrt(0.2)), abs=4 / np.sqrt(N))


def test_the_calculus_of_the_equation_is_heeded():
    ds = sample(sim.SDE({"x": 0}, {"x": "0.5*x"}, interpretation="stratonovich"), {"x": 1.0}, [1.0])
    agrees(np.log(ds.x.values[:, 0]), stats.norm(0.0, 0.5))


@pytest.mark.parametrize("kappa, theta, sigma", [(1.0, 1.0, 0.5), (2.0, 0.3, 1.5), (0.5, 0.02, 0.6)])
@pytest.mark.parametrize("t", [0.05, 3.0])
def test_cox_ingersoll_ross(kappa, theta, sigma, t):
    # d = 16, 1.07 and 0.11: above 1 by a normal and a χ², below by a Poisson number of them
    ds = sample(sim.equations.cox_ingersoll_ross(kappa, theta, sigma), {"x": 0.7}, [t])
    c = sigma**2 * (1 - np.exp(-kappa * t)) / (4 * kappa)
    law = stats.ncx2(4 * kappa * theta / sigma**2, 0.7 * np.exp(-kappa * t) / c, scale=c)
    agrees(ds.x.values[:, 0], law)


def test_squared_bessel_process():
    # |W|² of three dimensions, and its mean over two intervals: x₀ + 3t
    ds = sample(sim.SDE({"x": 3.0}, {"x": "2*sqrt(x)"}), {"x": 0.5}, [0.4, 1.0])
    agrees(ds.x.values[:, 1], stats.ncx2(3, 0.5))
    assert abs(ds.x.values[:, 1].mean() - 3.5) < 4 * np.sqrt(8) / np.sqrt(N)


def test_a_process_that_reaches_nought_stays_there():
    # Feller's diffusion dx = σ√x dW: P(x_t = 0) = exp(−2x₀/σ²t)
    ds = sample(sim.SDE({"x": 0}, {"x": "sqrt(x)"}), {"x": 1.0}, [1.0, 2.0])
    dead = ds.x.values == 0.0
    assert abs(dead[:, 0].mean() - np.exp(-2)) < 4 * np.sqrt(np.exp(-2) / N)
    assert dead[dead[:, 0], 1].all()
    assert abs(ds.x.values[:, 1].mean() - 1.0) < 4 * np.sqrt(2 / N)


def test_reflected_brownian_motion():
    ds = sample(sim.SDE({"x": 0}, {"x": 0.8}, bounds={"x": sim.Reflecting(lo=0.0)}), {"x": 0.5}, [1.0])
    scale = 0.8
    agrees(ds.x.values[:, 0], stats.foldnorm(0.5 / scale, scale=scale))


@pytest.mark.parametrize("steps", [1, 7])
def test_reflected_brownian_motion_with_drift_whatever_the_intervals(steps):
    # Harrison 1985: P(X_t ≤ z | x) = Φ((z − x − μt)/σ√t) − e^{2μz/σ²} Φ((−z − x − μt)/σ√t)
    model = sim.SDE({"x": -0.6}, {"x": 1.1}, bounds={"x": sim.Reflecting(lo=0.0)})
    ds = sample(model, {"x": 0.4}, np.linspace(0, 1.3, steps + 1))
    values, root = ds.x.values[:, -1], 1.1 * np.sqrt(1.3)
    def cdf(z):
        return special.ndtr((z - 0.4 + 0.78) / root) - np.exp(-1.2 * z / 1.21) * special.ndtr((-z - 0.4 + 0.78) / root)
    assert stats.kstest(values, cdf).pvalue > 1e-3
    mirrored = sim.SDE({"x": 0.6}, {"x": 1.1}, bounds={"x": sim.Reflecting(hi=2.0)})
    other = sample(mirrored, {"x": 1.6}, np.linspace(0, 1.3, steps + 1), seed=9).x.values[:, -1]
    assert stats.kstest(2.0 - other, cdf).pvalue > 1e-3


def test_brownian_motion_between_two_mirrors():
    ds = sample(sim.SDE({"x": 0}, {"x": 1.0}, bounds={"x": sim.Reflecting(-1.0, 2.0)}), {"x": 1.5}, [0.2, 50.0])
    images = [2 * 3 * k + s * 2.5 for k in range(-4, 5) for s in (1, -1)]  # of x − lo = 2.5 over a width of 3
    def cdf(z):
        return sum(special.ndtr((z + 1 - m) / np.sqrt(0.2)) - special.ndtr(-m / np.sqrt(0.2)) for m in images)
    assert stats.kstest(ds.x.values[:, 0], cdf).pvalue > 1e-3
    agrees(ds.x.values[:, 1], stats.uniform(-1.0, 3.0))


def test_time_dependent_ornstein_uhlenbeck_over_one_interval_and_many():
    # dX = (sin t − X/(1 + t)) dt + √t dW: X_t (1 + t) = X_0 + ∫(1 + s) sin s ds + ∫(1 + s)√s dW
    model = sim.SDE({"x": "sin(t) - x/(1 + t)"}, {"x": "sqrt(t)"})
    t = 3.0
    mean = (2.0 + np.sin(t) - (1 + t) * np.cos(t) + 1.0) / (1 + t)
    variance = (t**2 / 2 + 2 * t**3 / 3 + t**4 / 4) / (1 + t) ** 2
    for times in ([t], [0.2, 0.7, 1.9, t]):
        agrees(sample(model, {"x": 2.0}, times).x.values[:, -1], stats.norm(mean, np.sqrt(variance)))


def test_a_driven_linear_system_has_the_moments_of_its_equation():
    # constant coefficients with the time written in: the law of the matrix exponential, to the accuracy claimed
    from sdesim.methods.exact_driven import _moments

    hidden = sim.SDE({"x": "v", "v": "-4*x - 0.3*v + where(t < 9, 1, t)"}, {"v": "where(t < 9, 0.8, t)"})
    A, b, BB = np.array([[0, 1], [-4, -0.3]]), np.array([0.0, 1.0]), np.diag([0, 0.64])
    assert recognise(hidden).form == "driven"
    for h in (1e-3, 2.5):
        found = _moments(hidden, recognise(hidden).coefficients, {"t": 0.4}, h)
        for mine, exact in zip(found, linear_law(A, b, BB, h)):
            np.testing.assert_allclose(mine, exact, rtol=1e-8, atol=1e-10 * np.abs(exact).max())


def test_a_gain_that_differs_by_member():
    model = sim.SDE({"x": "-k*t*x"}, {"x": "s"}, parameters={"k": [0.0, 2.0, 2.0], "s": 0.0})
    ds = sim.simulate(model, {"x": 1.0}, [1.0, 2.0], members=3, method="exact")
    np.testing.assert_allclose(ds.x, np.exp(-0.5 * np.outer([0, 2, 2], [1, 4])), rtol=1e-9)


def test_geometric_brownian_motions_with_volatilities_of_the_time():
    # covariance of the logarithms: ∫ Σ_c b_ic b_jc dt
    model = sim.SDE({"x": "0.1*x", "y": "t*y"}, {"x": {"a": "0.3*x", "b": "0.2*t*x"}, "y": {"b": "0.5*exp(-t)*y"}})
    ds = sample(model, {"x": 2.0, "y": -1.0}, [0.6, 1.5])
    t = 1.5
    variances = 0.09 * t + 0.04 * t**3 / 3, 0.25 * (1 - np.exp(-2 * t)) / 2
    across = 0.1 * (1 - np.exp(-t) * (1 + t))
    means = np.log(2.0) + 0.1 * t - variances[0] / 2, t**2 / 2 - variances[1] / 2
    logs = np.log(ds.x.values[:, 1]), np.log(-ds.y.values[:, 1])
    for log, mean, variance in zip(logs, means, variances):
        agrees(log, stats.norm(mean, np.sqrt(variance)))
    scale = np.sqrt(variances[0] * variances[1])
    assert np.cov(*logs)[0, 1] == pytest.approx(across, abs=5 * scale / np.sqrt(N))


@pytest.mark.parametrize("drift", ["(b - x)/(T - t)", "b/(T - t) - x/(T - t)"])
def test_brownian_bridge_to_its_very_end(drift):
    # mean 1 + (b − 1) t/T, covariance σ² s (T − t)/T of the times s < t
    model = sim.SDE({"x": drift}, {"x": "s"}, parameters={"b": 3.0, "T": 2.0, "s": 0.7})
    assert recognise(model).form == "bridge"
    x = sample(model, {"x": 1.0}, [0.5, 1.6, 2.0]).x.values
    agrees(x[:, 0], stats.norm(1.5, 0.7 * np.sqrt(0.5 * 1.5 / 2)))
    agrees(x[:, 1], stats.norm(2.6, 0.7 * np.sqrt(1.6 * 0.4 / 2)))
    assert np.cov(x[:, 0], x[:, 1])[0, 1] == pytest.approx(0.49 * 0.5 * 0.4 / 2, abs=5 * 0.49 * 0.35 / np.sqrt(N))
    assert (x[:, 2] == 3.0).all()
    with pytest.raises(ValueError, match="ends at 2"):
        sample(model, {"x": 1.0}, [1.0, 2.5])


@pytest.mark.parametrize("times", [[1.0, 40.0], [0.3, 0.31, 1.0, 7.0, 40.0]])
@pytest.mark.parametrize("side", [1, -1])
def test_absorbed_brownian_motion_leaves_and_survives_by_its_law(side, times):
    # first passage inverse Gaussian, mean a/μ = 2, variance aσ²/μ³ = 8; survivors (φ(x) − e^{2μa/σ²} φ(x − 2a)) dx
    bound = sim.Absorbing(hi=1.0) if side > 0 else sim.Absorbing(lo=-1.0)
    ds = sample(sim.SDE({"x": 0.5 * side}, {"x": 1.0}, bounds={"x": bound}), {"x": 0.0}, times)
    exits, law = ds.exit_time.values, stats.invgauss(mu=2.0, scale=1.0)
    assert stats.kstest(exits[~np.isnan(exits)], lambda t: law.cdf(t) / law.cdf(40.0)).pvalue > 1e-3
    assert np.isnan(exits).mean() == pytest.approx(law.sf(40.0), abs=4 * np.sqrt(law.sf(40.0) / N) + 1e-9)
    at = ds.x.sel(time=1.0).values
    gone = exits <= 1.0
    assert (at[gone] == side).all()
    share = lambda x: special.ndtr(x - 0.5) - np.exp(1.0) * special.ndtr(x - 2.5)  # noqa: E731
    assert stats.kstest(side * at[~gone], lambda x: share(x) / share(1.0)).pvalue > 1e-3
    curve = sim.survival(ds, [0.5, 1.0, 5.0], level=0.999)
    assert ((curve.lower < law.sf(curve.time)) & (law.sf(curve.time) < curve.upper)).all()


def test_absorbed_geometric_brownian_motion_is_a_down_and_out_option():
    # E[e^{−rT} (S − K)⁺; S > B until T] for K ≥ B (Reiner & Rubinstein 1991)
    S, K, B, r, sigma, T = 100.0, 100.0, 90.0, 0.05, 0.25, 1.0
    model = sim.SDE({"x": "r*x"}, {"x": "s*x"}, parameters={"r": r, "s": sigma}, bounds={"x": sim.Absorbing(lo=B)})
    ds = sample(model, {"x": S}, [0.4, T])
    alive = np.isnan(ds.exit_time.values)
    paid = np.exp(-r * T) * np.where(alive, np.maximum(ds.x.values[:, 1] - K, 0.0), 0.0)

    def call(s):
        d = (np.log(s / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
        return s * special.ndtr(d) - K * np.exp(-r * T) * special.ndtr(d - sigma * np.sqrt(T))

    exact = call(S) - (B / S) ** (2 * r / sigma**2 - 1) * call(B**2 / S)
    assert paid.mean() == pytest.approx(exact, abs=4 * paid.std() / np.sqrt(N))
    assert (ds.x.values[~alive, 1] == B).all()
    kept = sample(model, {"x": S}, [0.4, T], save="statistics")
    assert kept.exits.values.tolist() == [int((ds.exit_time <= t).sum()) for t in (0.4, T)]


@pytest.mark.parametrize("model, initial", [
    (sim.equations.ornstein_uhlenbeck(), {"x": stats.norm(0, 1)}), (sim.equations.geometric_brownian_motion(), {"x": 1.0}),
    (sim.equations.cox_ingersoll_ross(0.5, 0.02, 0.6), {"x": 0.3}), (sim.SDE({"x": "-t*x"}, {"x": "t"}), {"x": 1.0}),
    (sim.SDE({"x": "(2 - x)/(4 - t)"}, {"x": 1}), {"x": 1.0}),
    (sim.SDE({"x": 1}, {"x": 1}, bounds={"x": sim.Absorbing(hi=2.0)}), {"x": 1.0}),
])  # fmt: skip
def test_a_member_is_itself_alone_in_any_blocking_and_again(model, initial, monkeypatch):
    options = {"times": [0.5, 1.0, 4.0], "method": "exact", "seed": 6}
    whole = sim.simulate(model, initial, members=3000, **options)
    monkeypatch.setattr("sdesim.simulation._GROUP_BYTES", 1)
    assert sim.simulate(model, initial, members=3000, **options).x.equals(whole.x)
    assert sim.simulate(model, initial, members=[17, 2900], **options).x.equals(whole.x.isel(member=[17, 2900]))
    assert sim.rerun(whole, members=[17]).x.equals(whole.x.isel(member=[17]))


@pytest.mark.parametrize("model", [
    sim.equations.double_well(), sim.SDE({"x": "-x"}, {"x": "1"}, bounds={"x": sim.Absorbing(lo=0.0)}),
    sim.SDE({"x": "x*(1 - x)"}, {"x": "x"}), sim.SDE({"x": "-x", "y": "x"}, {"x": "x", "y": "y"}), sim.equations.kubo(),
    sim.SDE({"x": "1 + x"}, {"x": "x"}), sim.SDE({"x": "-x"}, {"x": "1"}, bounds={"x": sim.Reflecting(lo=0.0)}),
    sim.SDE({"x": "1"}, {"x": "1"}, bounds={"x": sim.Absorbing(0.0, 1.0)}), sim.SDE({"x": "t*x"}, {"x": "sqrt(x)"}),
    sim.SDE({"x": "-x/(1 - t)"}, {"x": "x**2"}), sim.SDE({"x": "x"}, {"x": "x"}, bounds={"x": sim.Absorbing(-1.0)}),
    sim.SDE({"x": "1"}, {"x": "1"}, bounds={"x": sim.Reflecting(0.0, 1.0)}),
], ids=str)  # fmt: skip
def test_models_of_another_kind_are_refused(model):
    with pytest.raises(ValueError, match="no exact law is known"):
        sim.simulate(model, dict.fromkeys(model.states, 0.5), [1.0], method="exact")


def test_what_lies_outside_a_law_s_domain_is_refused():
    cir = sim.equations.cox_ingersoll_ross()
    for initial, parameters in (({"x": -0.1}, {}), ({"x": 1.0}, {"theta": -1.0}), ({"x": 1.0}, {"sigma": 0.0})):
        with pytest.raises(ValueError, match="square-root process"):
            sim.simulate(cir, initial, [1.0], method="exact", parameters=parameters)
    with pytest.raises(ValueError, match="takes no step"):
        sim.simulate(cir, {"x": 1.0}, [1.0], method="exact", dt=0.1)


def test_forms_are_found_however_they_are_written():
    assert recognise(sim.SDE({"x": lambda x: 3 * (1 - x) + x}, {"x": "0.2*sqrt(4*x)"})).form == "square root"
    assert recognise(sim.SDE({"x": "x/2 + (x + x)*k"}, {"x": "x/k"}, parameters={"k": 2.0})).form == "geometric"
    assert recognise(sim.SDE({"x": "y - x", "y": "a"}, {"x": {"W": 1}, "y": {"W": "a"}}, parameters={"a": 1.0})).form == "linear"


def test_bounds_are_kept_in_the_provenance():
    model = sim.SDE({"x": 0}, {"x": 1.0}, bounds={"x": sim.Reflecting(-1.0, 2.0)})
    ds = sim.simulate(model, {"x": 0.0}, [1.0, 2.0], members=5, method="exact", seed=2)
    assert sim.rerun(ds, members=[3]).x.equals(ds.x.isel(member=[3]))
