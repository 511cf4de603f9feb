"""Fields that cannot be: said before any work, with what was wanted, what came and the cure; blow-ups stay their own."""

import numpy as np
import pytest
import xarray as xr

import sdesim as sim
from sdesim.models.units import parse

LINE, PLANE = sim.Grid(x=(0.0, 1.0, 8)), sim.Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 6))
LOOP = {"x": sim.Periodic(), "y": sim.Periodic()}
TENSOR = {"diffusivity": [["a", "b"], ["b", "a"]], "parameters": {"a": 1.0, "b": 0.5}, "boundary": LOOP}
SI = {"u": "K", "x": "m", "time": "s"}


def plain(**more):
    return sim.PDE(LINE, **{"diffusivity": 1.0, **more})


BUILT = {
    "tensor": (lambda: sim.PDE(PLANE, diffusivity=[[1, 2], [2, 1]]), "lowest eigenvalue is -1: make it larger"),
    "field": (lambda: plain(diffusivity=np.linspace(-0.1, 1, 8)), "must not be negative; got -0.1 somewhere"),
    "log": (lambda: plain(diffusivity="log(x - 0.5)"), "must be finite; got nan somewhere.*max"),
    "mask of nothing": (lambda: sim.Grid(x=(0, 1, 8), mask=np.zeros(8, bool)), "leaves out no cell.*~mask"),
    "mask of all": (lambda: sim.Grid(x=(0, 1, 8), mask=np.ones(8, bool)), "leaves out every cell.*~mask"),
    "edge of no mask": (lambda: plain(boundary={"mask": sim.Dirichlet(1.0)}), "give the grid a mask first"),
    "one cell": (lambda: sim.Grid(x=(0, 1, 1)), "at least two cells; got 1: leave the axis out"),
    "unit of nothing": (lambda: plain(units={"q": "K"}), "names 'q', which is none of u, x, time"),
    "unit of D": (lambda: plain(diffusivity="D", parameters={"D": 1.0}, units={**SI, "D": "m s-1"}),
                  "the diffusivity of u is in m s-1, and its equation wants m2 s-1.*convert"),
    "unit of the axes": (lambda: sim.PDE(PLANE, diffusivity="D", parameters={"D": 1.0},
                                         units={"D": "m2/s", "y": "km"}), "is in m2 s-1, and its equation wants km2 s-1"),
    "unit of the speed": (lambda: plain(velocity={"x": "v"}, parameters={"v": 1.0}, units={**SI, "v": "km h-1"}),
                          "the velocity of u along x is in h-1 km, and its equation wants m s-1"),
    "unit of a rate": (lambda: plain(reaction="q - k*u", parameters={"k": 1.0, "q": 1.0},
                                     units={**SI, "k": "s-1", "q": "K"}), "adds or compares K and K s-1"),
    "unit of an edge": (lambda: plain(boundary={"x": sim.Neumann("g")}, parameters={"g": 1.0},
                                      units={**SI, "g": "K"}), "the edge of u along x is in K.*wants K m-1"),
    "unit in exp": (lambda: plain(reaction="q*exp(-u)", parameters={"q": 1.0}, units={**SI, "q": "K s-1"}),
                    "takes exp of something in K"),
}


@pytest.mark.parametrize("fault", BUILT)
def test_what_a_model_cannot_be(fault):
    build, message = BUILT[fault]
    with pytest.raises((ValueError, KeyError), match=message):
        build()


RUN = {
    "tensor of a member": (lambda: sim.simulate(sim.PDE(PLANE, **TENSOR), 0.0, [1.0], members=2,
                                                parameters={"b": [0.5, 2.0]}), "must not be negative; member 1 has -1"),
    "D of a member": (lambda: sim.simulate(plain(diffusivity="D*(1 + x)", parameters={"D": 1.0}), 0.0, [1.0], members=2,
                                           parameters={"D": [1.0, -1.0]}), "must not be negative.*-1.93"),
    "D of the state": (lambda: sim.simulate(plain(diffusivity="1 - u"), "3*x", [0.1]), "least value is -1.81.*t = 0"),
    "D of the time": (lambda: sim.simulate(plain(diffusivity="0.5 - t"), "x", [1.0]), "least value is -0.25 at t = 0.75"),
    "shape": (lambda: sim.simulate(sim.PDE(PLANE, diffusivity=1.0), np.zeros((8, 6)), [1.0]),
              r"grid's shape \(6, 8\).*got \(8, 6\)"),
    "unit of the start": (lambda: sim.simulate(plain(units=SI), xr.DataArray(np.ones(8), dims="x", attrs={
        "units": "degC"}), [1.0]), "initial u is in degC, and the model has u in K: convert"),
    "source": (lambda: sim.steady(plain(reaction=1.0)), "no steady state.*make them balance, or hold a value"),
}


@pytest.mark.parametrize("fault", RUN)
def test_what_a_run_cannot_do(fault):
    run, message = RUN[fault]
    with pytest.raises(ValueError, match=message):
        run()


def test_units_that_agree_or_say_nothing_pass():
    # ones that are not written carry units
    plain(diffusivity="u**2", velocity={"x": "sin(x)"}, reaction="u - u**3 + exp(-x)", units=SI)
    heat = {**SI, "k": "W m-1 K-1", "C": "J/m3/K", "q": "W m-3"}
    plain(diffusivity="k/C", reaction="q/C", parameters={"k": 1.0, "C": 1.0, "q": 1.0}, units=heat,
          velocity={"x": "0.1*x"}, boundary={"x": sim.Robin(1.0, 2.0, 3.0)})
    sim.equations.stefan(LINE, units={"h": "J m-3", "T": "K", "kl": "W m-1 K-1", "ks": "W m-1 K-1", "Cl": "J m-3 K-1",
                                      "Cs": "J m-3 K-1", "latent": "J m-3", "melting": "K", "wall": "K"})
    with pytest.raises(ValueError, match="the diffusivity of h is in .*wants kg m s-3 K-1|wants K-1 kg m s-3"):
        sim.equations.stefan(LINE, units={"h": "J m-3", "T": "K", "kl": "m2 s-1", "ks": "m2 s-1"})
    assert parse("10^3 m2") is None
    assert parse("days") == parse("d")


@pytest.mark.parametrize("options", [{}, {"method": "rkl2"}, {"method": "ssprk3"}, {"method": "ars232", "dt": 0.01}],
                         ids=lambda options: options.get("method", "chosen"))
def test_a_member_that_blows_up_is_flagged_and_alone(options):
    """du/dt = a u²: 1/(1 − at) is infinite at t = 1/a = 0.2, at a save; it takes no more than its share of time."""
    model = plain(diffusivity=0.1, reaction="a*u**2", parameters={"a": 1.0})
    times = [0.0, 0.1, 0.2, 0.3]
    ds = sim.simulate(model, 1.0, times, members=3, parameters={"a": [0.0, 0.1, 5.0]}, **options)
    assert ds.status.values.tolist() == [0, 0, 1]
    assert ds.last_good_time.values[:2].tolist() == [0.3, 0.3]
    np.testing.assert_allclose(ds.u.values[2, 1], 2.0, rtol=0.05)
    assert np.isfinite(ds.u.values).all()
    alone = sim.simulate(model, 1.0, times, members=[1], parameters={"a": 0.1}, **options)
    assert np.array_equal(alone.u.values[0], ds.u.values[1])
