"""The steps that exponential methods choose by themselves: accurate where transport and D(u) depend on the field."""

import numpy as np
import pytest

import sdesim as sim
from sdesim.methods import find
from sdesim.own_steps import fitting

AROUND = {"x": sim.Periodic(), "y": sim.Periodic()}
CASES = {
    "Burgers": (sim.equations.burgers(sim.Grid(x=(0.0, 2 * np.pi, 64)), 0.1), "1 + sin(x)", [0.5, 2.0], 8e-3, 1e-5),
    "Kuramoto-Sivashinsky": (sim.equations.kuramoto_sivashinsky(sim.Grid(x=(0.0, 32 * np.pi, 128))),
                             "cos(x/16)*(1 + sin(x/16))", [20.0], 0.03, 2e-5),
    "Cahn-Hilliard": (sim.PDE(sim.Grid(x=(0.0, 64.0, 64)), diffusivity="3*u**2 - 1", hyperdiffusivity=1.0,
                              boundary={"x": sim.Periodic()}), "0.1*cos(pi*x/4)*(1 + 0.3*sin(pi*x/32))",
                      [10.0, 20.0], 8e-3, 3e-3),
    "a flow given": (sim.PDE(sim.Grid(x=(0.0, 2 * np.pi, 32), y=(0.0, 2 * np.pi, 32)), diffusivity=0.02, boundary=AROUND,
                             velocity={"x": "sin(y)", "y": "2*cos(x)"}), "sin(x)*cos(y)", [1.0], 2e-3, 1e-5),
    "a slope in the reaction": (sim.PDE(sim.Grid(x=(0.0, 2 * np.pi, 32)), diffusivity=0.5, reaction="ddx(u)**2",
                                        boundary={"x": sim.Periodic()}), "cos(x)", [1.0], 4e-3, 1e-5),
}


@pytest.mark.parametrize("name", CASES)
def test_the_default_step_is_accurate(name):
    model, start, times, dt, tolerance = CASES[name]
    ours = sim.simulate(model, start, times, method="etdrk4").u.values
    fine = sim.simulate(model, start, times, method="etdrk4", dt=dt).u.values
    assert np.abs(fine).max() > 0.05
    assert np.abs(ours - fine).max() < tolerance * np.abs(fine).max()


def test_a_state_that_grows_is_followed_with_shorter_steps():
    """Small waves of ∇·((3u² − 1)∇u) − ∇⁴u ask for long steps, the phases that they grow into for short ones; each
    member for itself."""
    model, start, *_ = CASES["Cahn-Hilliard"]
    method, x = find("etdrk4", ("spectral",)), model.grid.coordinates["x"]
    small, grown = (a * np.cos(np.pi * x / 8)[None, None] for a in (0.01, 1.0))
    assert fitting(model, method, grown, {}, 0.0, 30.0)[0] < 0.3 * fitting(model, method, small, {}, 0.0, 30.0)[0]
    both = sim.simulate(model, start, [10.0, 20.0], method="etdrk4", members=3)
    one = sim.simulate(model, start, [10.0, 20.0], method="etdrk4", members=[1])
    assert one.u.equals(both.u.isel(member=[1]))


def test_rates_are_members_own():
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, 32)), diffusivity=0.01, velocity={"x": "c*u"}, parameters={"c": 1.0},
                    boundary={"x": sim.Periodic()})
    u = np.ones((1, 3, 32)) * np.array([1.0, 1.0, 10.0])[:, None]
    steps = fitting(model, find("etdrk4", ("spectral",)), u, {"c": np.array([1.0, 5.0, 1.0])}, 0.0, 1.0)
    assert steps[0] > steps[1] > steps[2]
    # h max_k (2 c u k)/(1 + D k² h) = ¼ at the chosen step, or within a factor of two above it
    k = np.linspace(2 * np.pi, 32 * np.pi, 4000)
    for h, speed in zip(steps, (2.0, 10.0, 20.0)):
        measure = [(s * (1 + (speed * k / (1 + 0.01 * k * k * s)).max())) for s in (h, 2 * h)]
        assert measure[0] <= 0.2501 < measure[1] * 1.01
