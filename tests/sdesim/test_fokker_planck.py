"""The density's equation against known laws: transient and stationary, in every calculus, with edges that hold or absorb."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import sdesim as sim

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fokker_planck.py"


def evolve(sde, grid, initial, times, **options):
    """The density at each time, and the total probability as a share of that at the start."""
    ds = sim.simulate(sim.fokker_planck(sde, grid, **options), initial, [0.0, *times])
    p = ds.p.values[0]
    total = p.reshape(1 + len(times), -1).sum(axis=1)
    assert total[0] * grid.cell_volume == pytest.approx(1, abs=1e-3)
    return p[1:], total[1:] / total[0]


def gaussian(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_ornstein_uhlenbeck_is_gaussian_at_every_time_and_the_error_is_of_second_order():
    model = sim.SDE({"q": "-k*q"}, {"q": "s"}, parameters={"k": 1.0, "s": 0.8})
    times, errors = [0.5, 1.0, 8.0], []
    for cells in (64, 128):
        grid = sim.Grid(x=(-3, 3, cells))
        p, total = evolve(model, grid, "exp(-(x - 1)**2/(2*0.04))/sqrt(2*pi*0.04)", times)
        exact = [gaussian(grid.coordinates["x"], np.exp(-t), 0.04 * np.exp(-2 * t) + 0.32 * (1 - np.exp(-2 * t)))
                 for t in times]
        errors.append(np.abs(p - exact).max(axis=1))
        assert np.abs(total - 1).max() < 1e-12
    assert errors[1].max() < 2e-3
    assert (np.log2(errors[0] / errors[1]) > 1.85).all()


@pytest.mark.parametrize("interpretation, power", [("ito", 1.0), ("stratonovich", 0.5), ("hanggi-klimontovich", 0.0)])
def test_stationary_density_of_a_periodic_diffusivity(interpretation, power):
    # ∝ 1/D (Itô), 1/√D (Stratonovich), constant (Hänggi–Klimontovich)
    model = sim.SDE({"x": 0}, {"x": "sqrt(2*(1 + 0.6*sin(x)))"}, interpretation=interpretation)
    grid = sim.Grid(x=(0, 2 * np.pi, 128))
    p, total = evolve(model, grid, "(1 + 0.9*cos(x))/(2*pi)", [30.0], boundary={"x": sim.Periodic()})
    exact = (1 + 0.6 * np.sin(grid.coordinates["x"])) ** -power
    exact /= exact.sum() * grid.cell_volume
    assert np.abs(p[0] - exact).max() < 5e-4
    assert total[0] == pytest.approx(1, abs=1e-12)


def test_double_well():
    # stationary ∝ exp(−2V/σ²), V = x⁴/4 − x²/2
    grid = sim.Grid(x=(-2.5, 2.5, 200))
    p, total = evolve(sim.equations.double_well(sigma=0.9), grid, "exp(-(x - 1)**2/0.1)/sqrt(0.1*pi)", [60.0])
    x = grid.coordinates["x"]
    exact = np.exp(-2 * (x**4 / 4 - x**2 / 2) / 0.81)
    assert np.abs(p[0] - exact / (exact.sum() * grid.cell_volume)).max() < 2e-3
    assert total[0] == pytest.approx(1, abs=1e-12)


def test_two_states_with_unequal_noise():
    # independent Ornstein–Uhlenbeck processes: the product of their laws; v takes the axis that x leaves
    model = sim.SDE({"v": "-2*v", "x": "-x"}, {"v": "1", "x": "0.7"})
    grid = sim.Grid(x=(-3, 3, 72), y=(-3, 3, 72))
    p, total = evolve(model, grid, "exp(-(x**2 + y**2)/0.4)/(0.4*pi)", [0.4])
    parts = [0.2 * np.exp(-2 * k * 0.4) + s**2 / (2 * k) * (1 - np.exp(-2 * k * 0.4)) for k, s in ((1, 0.7), (2, 1.0))]
    exact = gaussian(grid.mesh["x"], 0, parts[0]) * gaussian(grid.mesh["y"], 0, parts[1])
    assert np.abs(p[0] - exact).max() < 0.01 * exact.max()
    assert total[0] == pytest.approx(1, abs=1e-12)


def test_three_states():
    model = sim.SDE({s: f"-{s}" for s in "xyz"}, dict.fromkeys("xyz", "1"))
    grid = sim.Grid(**dict.fromkeys("xyz", (-3, 3, 24)))
    p, total = evolve(model, grid, "exp(-(x**2 + y**2 + z**2))/pi**1.5", [0.5])  # its own stationary law
    exact = np.exp(-sum(c**2 for c in grid.mesh.values())) / np.pi**1.5
    assert np.abs(p[0] - exact).max() < 0.03 * exact.max()
    assert total[0] == pytest.approx(1, abs=1e-12)


def test_noise_in_one_state_alone():
    # underdamped motion in a harmonic well: limited transport is of second order, less at the one extreme
    model = sim.equations.langevin(force="-x", gamma=1.0, kT=0.5)
    errors = []
    for cells in (30, 60):
        grid = sim.Grid(x=(-4, 4, cells), y=(-4, 4, cells))
        p, total = evolve(model, grid, "exp(-((x - 1)**2 + y**2)/0.2)/(0.2*pi)", [20.0])
        exact = gaussian(grid.mesh["x"], 0, 0.5) * gaussian(grid.mesh["y"], 0, 0.5)
        errors.append(np.abs(p[0] - exact).max())
        assert total[0] == pytest.approx(1, abs=1e-12)
    assert 2.8 < errors[0] / errors[1] < 5


def test_correlated_noise_where_edges_are_periodic():
    # constant D with cross terms: a Gaussian of covariance 2Dt, far from the edges
    model = sim.SDE({"x": 0, "y": 0}, {"x": {"a": 1.0}, "y": {"a": 0.6, "b": 0.8}})
    grid = sim.Grid(x=(-6, 6, 96), y=(-6, 6, 96))
    edges = {"x": sim.Periodic(), "y": sim.Periodic()}
    p, _ = evolve(model, grid, "exp(-(x**2 + y**2)/0.5)/(0.5*pi)", [1.0], boundary=edges)
    x, y = np.broadcast_arrays(grid.mesh["x"], grid.mesh["y"])
    exact = stats.multivariate_normal([0, 0], [[1.25, 0.6], [0.6, 1.25]]).pdf(np.stack([x, y], axis=-1))
    assert np.abs(p[0] - exact).max() < 0.01 * exact.max()


def test_reflected_drift_piles_up_at_the_wall():
    model = sim.SDE({"x": "-1"}, {"x": "1"}, bounds={"x": sim.Reflecting(0, 4)})
    grid = sim.Grid(x=(0, 4, 128))
    p, total = evolve(model, grid, "1/4", [30.0])
    assert np.abs(p[0] - 2 * np.exp(-2 * grid.coordinates["x"]) / (1 - np.exp(-8))).max() < 2e-3
    assert total[0] == pytest.approx(1, abs=1e-12)


def test_absorbed_probability_is_that_of_first_passage():
    # drifted Brownian motion from 0 to 2: inverse Gaussian with mean 2, over the start's own small spread
    model = sim.SDE({"x": "1"}, {"x": "1"}, bounds={"x": sim.Absorbing(None, 2)})
    times = [1.0, 2.0, 4.0]
    _, total = evolve(model, sim.Grid(x=(-8, 2, 400)), "exp(-x**2/0.02)/sqrt(0.02*pi)", times)
    starts = 0.1 * stats.norm.ppf((np.arange(400) + 0.5) / 400)
    passage = [np.mean(stats.invgauss.cdf(t, mu=1 / (2 - starts), scale=(2 - starts) ** 2)) for t in times]
    assert np.abs(1 - total - passage).max() < 2e-3


def test_time_in_the_coefficients():
    # dx = cos t dt + √(1 + 2t) dW: mean sin t, variance s₀² + t + t²
    grid = sim.Grid(x=(-9, 10, 256))
    p, _ = evolve(sim.SDE({"x": "cos(t)"}, {"x": "sqrt(1 + 2*t)"}), grid, "exp(-x**2/0.5)/sqrt(0.5*pi)", [1.5])
    assert np.abs(p[0] - gaussian(grid.coordinates["x"], np.sin(1.5), 4.0)).max() < 1e-4


def test_the_example_agrees_within_sampling_error(tmp_path):
    spec = importlib.util.spec_from_file_location("fokker_planck_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    x, counts, expected = example.solve(40_000, cells_per_bin=6, dt=0.01, seed=3)
    tests = example.chi_squared(counts, expected)
    assert all(freedom > 15 and p > 1e-3 for _, freedom, p in tests)
    assert example.chi_squared(counts[:, ::-1], expected)[0][2] < 1e-9  # the test can fail: mirrored counts do
    assert example.picture(tmp_path / "fp.png", x, counts, expected, tests).stat().st_size > 20_000


GRID = sim.Grid(x=(-1, 1, 8))


@pytest.mark.parametrize("model, grid, error, message", [
    (sim.SDE({"x": 0, "y": 0}), GRID, ValueError, "as many axes"),
    (sim.SDE({"x": "k"}, parameters={"k": stats.norm(0, 1)}), GRID, ValueError, "one value of each parameter"),
    (sim.SDE({"q": "x"}, {"q": 1}, parameters={"x": 1.0}), GRID, ValueError, "rename"),
    (sim.SDE({"q": "p"}, {"q": 1}, parameters={"p": 1.0}), GRID, ValueError, "rename"),
    (sim.SDE({"x": 0}, {"x": 1}, bounds={"x": sim.Reflecting(0, 1)}), GRID, ValueError, "must end there"),
    (sim.SDE({"x": 0}), "grid", TypeError, "takes an SDE and a Grid"),
])  # fmt: skip
def test_what_has_no_such_equation_is_said(model, grid, error, message):
    with pytest.raises(error, match=message):
        sim.fokker_planck(model, grid)


def test_another_name_for_the_density():
    equation = sim.fokker_planck(sim.SDE({"q": "-p*q"}, {"q": 1}, parameters={"p": 1.0}), GRID, name="rho")
    assert equation.state == ("rho",)


def test_noise_correlated_in_a_way_that_depends_on_the_state_has_its_moments():
    # Ẏ and Ẋ are linear in the first two moments, which close: d⟨x²⟩ = −2⟨x²⟩ + ¼(1 + ⟨y²⟩) and so on
    model = sim.SDE({"x": "-x", "y": "0.2 - 0.5*y"},
                    {"x": {"a": "0.5*sqrt(1 + y**2)"}, "y": {"a": "0.3*y", "b": "0.4"}})
    truth = np.array([0.36787945, 0.46065307, 0.15923998, 0.15466143])
    errors = []
    for n in (40, 80):
        grid = sim.Grid(x=(-3.2, 3.2, n), y=(-2.4, 3.2, n))
        start = "exp(-(x - 1)**2/0.18 - (y - 0.5)**2/0.18)/(pi*0.18)"
        p = sim.simulate(sim.fokker_planck(model, grid), start, [0.0, 1.0]).p[0, -1] * grid.cell_volume
        assert abs(float(p.sum()) - 1.0) < 1e-10
        means = [float((p * p[axis]).sum()) for axis in "xy"]
        spreads = [float((p * (p[axis] - mean) ** 2).sum()) for axis, mean in zip("xy", means)]
        errors.append(np.abs(np.array([*means, *spreads]) - truth))
    assert (errors[1] < [0.002, 0.001, 0.0025, 0.0015]).all()
    assert (errors[1][2:] < 0.4 * errors[0][2:]).all()
