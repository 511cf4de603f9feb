"""Every SDE of the catalogue is simulated, and a law that is known for it holds."""

import inspect

import numpy as np
import pytest
from scipy import stats

import sdesim as sim
from sdesim import equations
from sdesim.equations import ordinary

NAMES = [name for name, value in vars(ordinary).items() if inspect.isfunction(value) and not name.startswith("_")]


def run(model, initial, times, **options):
    return sim.simulate(model, initial, times, **{"members": 400, "seed": 1, **options})


@pytest.mark.parametrize("name", NAMES)
def test_each_is_public_documented_and_runs(name):
    function = getattr(equations, name)
    assert name in equations.__all__ and ">>>" in function.__doc__ and "(" in function.__doc__
    model = function()
    start = dict.fromkeys(model.states, 1000.0) if name == "epidemic" else dict.fromkeys(model.states, 0.1)
    ds = run(model, start, [0.0, 0.1], members=8, dt=0.001)
    assert not ds.status.any()
    assert all(np.isfinite(ds[s]).all() for s in model.states)
    assert sim.SDE.from_dict(model.to_dict()).to_dict() == model.to_dict()


def test_lorenz_96_keeps_its_energy_but_for_damping():
    ds = run(equations.lorenz96(6, F=0.0, q=0.0), {f"x{i}": np.sin(i) + 1 for i in range(6)}, [0.0, 1.0], members=1, dt=0.001)
    energy = sum(ds[f"x{i}"].values[0] ** 2 for i in range(6))
    assert energy[1] / energy[0] == pytest.approx(np.exp(-2.0), rel=1e-5)
    with pytest.raises(ValueError, match="n ≥ 4"):
        equations.lorenz96(3)


def test_van_der_pol_has_the_amplitude_two():
    ds = run(equations.van_der_pol(mu=0.1, sigma=0.0), {"x": 0.5, "v": 0.0}, np.linspace(100, 120, 400), members=1, dt=0.01)
    assert np.abs(ds.x.values).max() == pytest.approx(2.0, abs=0.01)


def test_a_neuron_rests_without_noise_and_fires_with_it():
    def peak(sigma):
        model = equations.excitable_neuron(sigma=sigma)
        ds = run(model, {"v": -1.05, "w": -1.05 + 1.05**3 / 3}, np.linspace(0.05, 20, 400), members=20, dt=0.001)
        return ds.v.values.max(axis=1)

    assert np.abs(peak(0.0) + 1.05).max() < 1e-6
    assert (peak(0.3) > 1.5).mean() > 0.9


def test_the_brusselator_fluctuates_as_the_linear_noise_approximation_says():
    # A = 1, B = 1.2: J = [[0.2, 1], [−1.2, −1]]; C solves JC + CJᵀ + D/Ω = 0
    from scipy.linalg import solve_continuous_lyapunov

    ds = run(equations.brusselator_in_a_cell(1.0, 1.2, 1e5), {"x": 1.0, "y": 1.2}, [40.0], members=3000, dt=0.02)
    J = np.array([[0.2, 1.0], [-1.2, -1.0]])
    D = np.array([[1 + 1.2 + 1.2 + 1, -1.2 - 1.2], [-1.2 - 1.2, 1.2 + 1.2]])
    exact = solve_continuous_lyapunov(J, -D) / 1e5
    found = np.cov(ds.x.values[:, 0], ds.y.values[:, 0])
    assert found == pytest.approx(exact, rel=0.15)  # standard error √(2/3000) = 2.6 %, and the step


def test_an_epidemic_loses_nobody_and_ends_at_its_final_size():
    ds = run(equations.epidemic(0.3, 0.1, 1e6), {"S": 999_000.0, "I": 1000.0, "R": 0.0}, [0.0, 50.0, 400.0], dt=0.1)
    total = sum(ds[s] for s in "SIR").values
    assert np.abs(total - 1e6).max() < 1e-5
    left = ds.S.values[:, -1].mean() / 1e6  # s = s₀ exp(−R₀(1 − s)) (Kermack & McKendrick)
    assert left == pytest.approx(0.999 * np.exp(-3 * (1 - left)), rel=0.02)


def test_heston_grows_at_its_rate_and_its_variance_reverts():
    ds = run(equations.heston(), {"S": 100.0, "v": 0.09}, [1.0], members=20_000, dt=0.01)
    S, v = ds.S.values[:, 0], ds.v.values[:, 0]
    assert abs(S.mean() - 100 * np.exp(0.05)) < 4 * S.std() / np.sqrt(20_000)
    assert abs(v.mean() - (0.04 + 0.05 * np.exp(-2))) < 4 * v.std() / np.sqrt(20_000) + 1e-3
    assert np.corrcoef(np.log(S), v)[0, 1] < -0.3


def test_kramers_law_of_escape():
    # E/kT = 4, γ = 8 ≫ ω: the number in the right well decays at twice the rate, to the formula's own 10 to 20 %
    E, gamma, kT = 1.0, 8.0, 0.25
    ds = run(equations.kramers(E, gamma, kT), {"x": 1.0, "v": stats.norm(0, 0.5)}, [20.0, 220.0], members=2000, dt=0.05)
    right = 2 * (ds.x.values > 0).mean(axis=0) - 1
    rate = np.log(right[0] / right[1]) / 200 / 2
    friction = np.sqrt(gamma**2 / 4 + 4 * E) - gamma / 2  # Kramers' own prefactor for any friction above the turnover
    exact = friction / np.sqrt(4 * E) * np.sqrt(8 * E) / (2 * np.pi) * np.exp(-E / kT)
    assert rate == pytest.approx(exact, rel=0.25)
    v = ds.v.values[:, 1]
    assert v.var() == pytest.approx(kT, rel=0.15)


def test_a_tracer_that_is_well_mixed_stays_so():
    law = stats.uniform(0, 2 * np.pi)
    for kind in ("hanggi-klimontovich", "ito"):
        model = sim.SDE.from_dict({**equations.tracer(contrast=0.9, U=0.3).to_dict(), "interpretation": kind})
        ds = run(model, {"x": law, "y": law}, [20.0], members=8000, dt=0.02)
        x, y = ds.x.values[:, 0], ds.y.values[:, 0]
        mixed = np.mean(np.sin(x) * np.cos(y))  # nought for a uniform law; variance ¼
        assert (abs(mixed) < 4 * 0.5 / np.sqrt(8000)) == (kind != "ito")
