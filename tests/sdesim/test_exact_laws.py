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
    assert np.abs(np.cov(z) - np.eye(4)).max() < 5 / np.sqrt(N)
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


@pytest.mark.parametrize("model, initial", [
    (sim.equations.ornstein_uhlenbeck(), {"x": stats.norm(0, 1)}), (sim.equations.geometric_brownian_motion(), {"x": 1.0}),
    (sim.equations.cox_ingersoll_ross(0.5, 0.02, 0.6), {"x": 0.3}),
])  # fmt: skip
def test_a_member_is_itself_alone_in_any_blocking_and_again(model, initial, monkeypatch):
    options = {"times": [0.5, 1.0, 4.0], "method": "exact", "seed": 6}
    whole = sim.simulate(model, initial, members=3000, **options)
    monkeypatch.setattr("sdesim.simulation._GROUP_BYTES", 1)
    assert sim.simulate(model, initial, members=3000, **options).x.equals(whole.x)
    assert sim.simulate(model, initial, members=[17, 2900], **options).x.equals(whole.x.isel(member=[17, 2900]))
    assert sim.rerun(whole, members=[17]).x.equals(whole.x.isel(member=[17]))


@pytest.mark.parametrize("model", [
    sim.equations.double_well(), sim.SDE({"x": "-t*x"}, {"x": 1}), sim.SDE({"x": "-x"}, {"x": "sqrt(1 + t)"}),
    sim.SDE({"x": "x*(1 - x)"}, {"x": "x"}), sim.SDE({"x": "-x", "y": "x"}, {"x": "x", "y": "y"}), sim.equations.kubo(),
    sim.SDE({"x": "1 + x"}, {"x": "x"}), sim.SDE({"x": "-x"}, {"x": "1"}, bounds={"x": sim.Reflecting(lo=0.0)}),
    sim.SDE({"x": "1"}, {"x": "1"}, bounds={"x": sim.Absorbing(lo=0.0)}),
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
