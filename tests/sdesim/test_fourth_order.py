"""The fourth-order term −κ∇⁴u: exact decay, growth rates, conservation, energy, and what refuses it."""

import numpy as np
import pytest

import sdesim as sim

LOOP = {"x": sim.Periodic()}



@pytest.mark.parametrize("edges", [{"x": sim.Periodic(), "y": sim.Periodic()}, None], ids=["periodic", "no flux"])
@pytest.mark.parametrize("method", ["exact", "etdrk4"])
def test_a_mode_decays_at_its_eigenvalue(edges, method):
    """cos kx cos ly is an eigenfunction of both boxes: rate D(k² + l²) + κ(k² + l²)²."""
    grid = sim.Grid(x=(0.0, 2 * np.pi, 16), y=(0.0, 2 * np.pi, 12))
    model = sim.PDE(grid, diffusivity=-0.3, hyperdiffusivity="kappa", parameters={"kappa": 0.1}, boundary=edges)
    ds = sim.simulate(model, "cos(x)*cos(2*y)", [0.5, 3.0], method=method, dt=0.5 if method == "exact" else 0.05)
    rate = 5 * 0.3 - 25 * 0.1
    start = np.cos(grid.coordinates["y"][:, None] * 2) * np.cos(grid.coordinates["x"])
    for i, t in enumerate([0.5, 3.0]):
        # its growth c = D²/4κ = 0.2 is in N, of which ETDRK4 misses (ch)⁴ct/120 with λh for ch in part
        np.testing.assert_allclose(ds.u.values[0, i], start * np.exp(rate * t), atol=1e-13,
                                   rtol=1e-12 if method == "exact" else 1e-7)


def test_each_member_has_its_own_coefficient():
    model = sim.PDE(sim.Grid(x=(0.0, 2 * np.pi, 16)), diffusivity=0.0, hyperdiffusivity="kappa",
                    parameters={"kappa": 0.1}, boundary=LOOP)
    kappa = np.array([0.05, 0.2, 0.4])
    ds = sim.simulate(model, "cos(2*x)", [1.0], members=3, parameters={"kappa": kappa})
    ratio = ds.u.values[:, -1] / np.cos(2 * model.grid.coordinates["x"])
    np.testing.assert_allclose(ratio, np.exp(-16 * kappa)[:, None] * np.ones(16), rtol=1e-12)
    with pytest.raises(ValueError, match="member 1 has -0.2"):
        sim.simulate(model, "cos(2*x)", [1.0], members=2, parameters={"kappa": [0.1, -0.2]})


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_cahn_hilliard_waves_grow_at_the_linear_rate(mean, device):
    """k²(1 − 3ū²) − γk⁴ (Cahn 1961), the flux (3u² − 1)∇u divided between λ and N."""
    gamma = 0.1
    model = sim.PDE(sim.Grid(x=(0.0, 2 * np.pi, 32)), diffusivity="3*u**2 - 1", hyperdiffusivity=gamma, boundary=LOOP,
                    parameters={"mean": mean})
    x = model.grid.coordinates["x"]
    for k in (1, 2, 3):
        ds = sim.simulate(model, mean + 1e-6 * np.cos(k * x), [0.5], dt=0.01, device=device)
        size = 2 * np.mean((ds.u.values[0, -1] - mean) * np.cos(k * x)) / 1e-6
        assert np.log(size) / 0.5 == pytest.approx(k**2 * (1 - 3 * mean**2) - gamma * k**4, abs=1e-7)


def test_a_bent_diffusivity_keeps_order_four_in_time():
    """The flux of D(u) is an explicit part of ETDRK4: halving the step divides the error by 2⁴."""
    model = sim.PDE(sim.Grid(x=(0.0, 2 * np.pi, 12)), diffusivity="3*u**2 - 1", hyperdiffusivity=0.3, boundary=LOOP)
    end = {dt: sim.simulate(model, "0.3*cos(x) + 0.1*sin(2*x)", [0.4], dt=dt).u.values[0, -1]
           for dt in (0.01, 0.005, 0.0025, 0.0003125)}
    error = [np.abs(end[dt] - end[0.0003125]).max() for dt in (0.01, 0.005, 0.0025)]
    np.testing.assert_allclose(np.log2([error[0] / error[1], error[1] / error[2]]), 4.0, atol=0.45)


def test_it_needs_a_spectral_method_and_a_positive_constant():
    grid = sim.Grid(x=(0.0, 1.0, 8))
    model = sim.PDE(grid, diffusivity=1.0, hyperdiffusivity=0.1)
    with pytest.raises(ValueError, match="no fourth-order term.*use exact, etdrk4"):
        sim.simulate(model, 1.0, [1.0], method="rkl2")
    with pytest.raises(ValueError, match="periodic axes only"):  # a flux D(u)∇u is a transport
        sim.simulate(sim.PDE(grid, diffusivity="u**2", hyperdiffusivity=0.1), 1.0, [1.0], method="etdrk4", dt=0.1)
    with pytest.raises(ValueError, match="must not be negative"):
        sim.PDE(grid, diffusivity=1.0, hyperdiffusivity=-0.1)
    with pytest.raises(ValueError, match="is constant.*depends on x"):
        sim.PDE(grid, diffusivity=1.0, hyperdiffusivity="x")
    with pytest.raises(ValueError, match="must not be negative"):
        sim.PDE(grid, diffusivity=-1.0)  # ill-posed without it


def test_it_is_part_of_the_description():
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, 8)), diffusivity=-1.0, hyperdiffusivity="k4", parameters={"k4": 0.5})
    assert sim.PDE.from_dict(model.to_dict()) == model
    assert "- (k4) ∇⁴u" in str(model) and r"\nabla^4 u" in model.to_latex()
    assert model != sim.PDE(model.grid, diffusivity=-1.0, hyperdiffusivity="2*k4", parameters={"k4": 0.5})
    ds = sim.simulate(model, "cos(pi*x)", [0.001])
    np.testing.assert_array_equal(sim.rerun(ds).u, ds.u)


def test_growing_modes_stay_bounded_for_long():
    """Rounding in the redundant half of the spectrum would grow as e^t, unseen, and be 10²⁷ at t = 100."""
    grid = sim.Grid(x=(0.0, 6 * np.pi, 16), y=(0.0, 6 * np.pi, 16))
    start = 0.05 * sim.GaussianField(std=1.0, length=1.0).sample(grid, seed=1, members=range(1))[0]
    ds = sim.simulate(sim.equations.swift_hohenberg(grid), start, [150.0], dt=0.25)
    assert 0.5 < np.abs(ds.u.values).max() < 1.0  # rolls of amplitude 2√(r/3) = 0.63
