"""What will be inaccurate is said before the run, with the number and the cure; what will not be is left in peace."""

import warnings

import numpy as np
import pytest

import sdesim as sim

LINE, AROUND = sim.Grid(x=(0.0, 1.0, 50)), {"x": sim.Periodic()}
TOLD = {
    "central transport": ({"diffusivity": 0.001, "velocity": {"x": 1.0}, "advection": "central"}, "sin(2*pi*x)",
                          {"method": "ssprk3"}, r"cell Péclet number \|v\|Δ/D is 20: .* cells of 0.1 times the width"),
    "central transport of a member": ({"diffusivity": "D", "velocity": {"x": 1.0}, "parameters": {"D": 1.0}},
                                      "sin(2*pi*x)", {"method": "ssprk3", "members": 3, "parameters": {
                                          "D": np.array([1.0, 0.004, 1.0])}}, "Δ/D is 5: "),
    "a front of modes": ({"diffusivity": 0.001, "velocity": {"x": "u/2"}}, "sin(2*pi*x)", {"method": "etdrk4"},
                         r"Péclet number \|v\|Δ/D of 20: its fronts will be narrower"),
    "an interface": ({"diffusivity": 1e-4, "reaction": "u - u**3"}, "sin(2*pi*x)", {"method": "rkl2"},
                     "interfaces about 0.04 wide, and cells are 0.02: .* no wider than 0.01"),
    "phases": ({"diffusivity": "3*u**2 - 1", "hyperdiffusivity": 1e-4}, "0.1*sin(2*pi*x)", {"dt": 1e-4},
               "interfaces about 0.04 wide"),
    "a fast reaction": ({"diffusivity": 0.01, "reaction": "-300*u + u*u"}, 1.0, {"method": "etdrk4", "dt": 0.01},
                        "a step of 0.01 is 2.98 times the fastest time .* dt ≤ 0.00067"),
    "noise": ({"diffusivity": 0.01, "noise": sim.ColouredNoise(1.0, 0.03, 1.0)}, 0.0, {},
              "correlation length 0.03, and cells are 0.02"),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_is_told(case):
    pieces, start, options, message = TOLD[case]
    model = sim.PDE(LINE, boundary=AROUND, **pieces)
    with pytest.warns(sim.AccuracyWarning, match=message):
        sim.simulate(model, start, [0.0, 0.01], **options)


FINE = {
    "limited": ({"diffusivity": 0.001, "velocity": {"x": 1.0}}, {"method": "ssprk3"}),
    "a wide interface": ({"diffusivity": 1e-3, "reaction": "u - u**3"}, {}),
    "a fast linear decay": ({"diffusivity": 1e-4, "reaction": "-9*u"}, {"method": "rkl2"}),
    "a front that modes resolve": ({"diffusivity": 0.01, "velocity": {"x": "u/2"}}, {"method": "etdrk4"}),
    "smooth noise": ({"diffusivity": 0.01, "noise": sim.ColouredNoise(1.0, 0.1, 1.0)}, {}),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_left_in_peace(case):
    pieces, options = FINE[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sim.simulate(sim.PDE(LINE, boundary=AROUND, **pieces), "sin(2*pi*x)", [0.0, 0.01], **options)


@pytest.mark.parametrize("store", [None, "run.nc"])
def test_a_step_too_long_for_one_member_is_refused_before_any_work(store, tmp_path, monkeypatch):
    model = sim.PDE(LINE, diffusivity="k", parameters={"k": 1.0})
    monkeypatch.setattr("sdesim.runs.Run.group", lambda *a: pytest.fail("work was done"))
    with pytest.raises(ValueError, match="beyond the stability limit of euler"):
        sim.simulate(model, 1.0, [0.0, 0.1], members=9, parameters={"k": np.append(np.full(8, 0.1), 1.0)}, method="euler",
                     dt=3e-4, chunks={"member": 2}, store=store and tmp_path / store)
