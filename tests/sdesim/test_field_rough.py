"""Fields that begin with jumps: no new extremes with the steps that RKL2 chooses, and smooth fields as they were."""

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet
from sdesim.grids import Grid
from sdesim.kernels import field_tiles
from sdesim.kernels.field_plan import ceiling, plan
from sdesim.methods.field import FIELD_METHODS, Spectrum
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run

LINE = Grid(x=(0.0, 1.0, 64))
X = LINE.coordinates["x"]
SQUARE = Grid(x=(0.0, 1.0, 16), y=(0.0, 1.0, 16))
COLD = {"x": Dirichlet(0.0)}
DATA = {
    "a wall that is hot at once": (0.0 * X, {"x": (Dirichlet(1.0), Dirichlet(0.0))}),
    "a step": ((X < 0.5) * 1.0, COLD),
    "a step by a cold wall": ((X > 0.9) * 1.0, COLD),
    "a hot cell by a cold wall": ((np.arange(64) == 62) * 1.0, COLD),
    "hot and cold in turn": ((np.arange(64) % 2) * 1.0, COLD),
    "random": (np.random.default_rng(2).random(64), COLD),
}


def run(model, u, times, dt=None, **more):
    return stencil_run(model, "rkl2", np.asarray(u, float), None, times, dt, members=np.arange(np.shape(u)[1]), **more)


@pytest.mark.parametrize("name", list(DATA))
@pytest.mark.parametrize("diffusivity", [1.0, "1 + 5*x", "where(x < 0.5, 0.05, 1)"])
@pytest.mark.parametrize("end", [0.1, 1.0])
def test_a_jump_makes_no_new_extremes(name, diffusivity, end):
    u, edges = DATA[name]
    model = PDE(LINE, diffusivity=diffusivity, boundary=edges)
    for times in ([0.0, end], [*np.linspace(0.0, 0.1 * end, 20), end]):
        states = run(model, u[None, None], times)[0]
        assert states.min() > -1e-12
        assert states.max() < 1.0 + 1e-12


def test_nor_does_it_on_a_square():
    model = PDE(SQUARE, diffusivity=1.0, boundary={"x": Dirichlet(0.0), "y": Dirichlet(0.0)})
    hot = np.zeros((5, 16, 16))
    hot[0, 1, 1] = hot[1, 0, 0] = hot[2, 14, 7] = 1.0
    hot[3] = np.indices((16, 16)).sum(axis=0) % 2
    hot[4, 12:, 12:] = 1.0
    states = run(model, hot[None], [0.0, 0.002, 0.01, 0.5])[0]
    assert states.min() > -1e-12
    assert states.max() < 1.0 + 1e-12


def test_the_long_step_alone_would():
    u, edges = DATA["a hot cell by a cold wall"]
    model = PDE(LINE, diffusivity=1.0, boundary=edges)
    method, spectrum = FIELD_METHODS["rkl2"], Spectrum(4.0 * 64**2)
    long = ceiling(method, spectrum, [0.0, 1.0])
    assert run(model, u[None, None], [0.0, long, 1.0], long)[0].min() < -1e-2


def test_steps_grow_to_what_they_would_be():
    method, spectrum, times = FIELD_METHODS["rkl2"], Spectrum(4.0 * 64**2), [0.0, 1e-3, 0.5]
    whole, cut = plan(method, spectrum, times, None), plan(method, spectrum, times, None, cuts=2, first=1e-5)
    steps = plan(method, spectrum, times, None, first=1e-5)
    assert [s.saved for s in steps].count(True) == len(whole) == 2
    assert steps[0].h == 1e-5
    ends = [s.start + s.count * s.h for s in steps]
    np.testing.assert_allclose([s.start for s in steps[1:]], ends[:-1], rtol=1e-12)
    np.testing.assert_allclose([end for s, end in zip(steps, ends) if s.saved], times[1:], rtol=1e-12)
    longest = np.maximum.accumulate([s.h for s in steps])
    assert np.all(longest[1:] <= 1.2 * longest[:-1] * (1 + 1e-12))
    assert steps[-1].h == pytest.approx(whole[-1].h, rel=0.05)
    assert [(s.start, s.count) for s in cut] == [(s.start, 2 * s.count) for s in steps]


def test_smooth_fields_take_the_steps_that_they_took():
    model = PDE(LINE, diffusivity=1.0, boundary=COLD)
    steps = sum(s.count for s in plan(FIELD_METHODS["rkl2"], Spectrum(4.0 * 64**2), [0.0, 0.1], None))
    assert run(model, np.sin(np.pi * X)[None, None], [0.0, 0.1])[2]["steps"] == steps
    assert run(model, DATA["a step"][0][None, None], [0.0, 0.1])[2]["steps"] > steps


def test_a_rough_start_has_the_same_bits_everywhere(monkeypatch):
    monkeypatch.setattr(field_tiles, "DIVISIBLE", 1)
    grid = Grid(x=(0.0, 1.0, 64), y=(0.0, 1.0, 64))
    model = PDE(grid, diffusivity="1 + x", boundary=COLD)
    rng = np.random.default_rng(0)
    smooth = np.sin(np.pi * grid.coordinates["x"]) * np.ones((64, 1))
    u = np.stack([rng.random((64, 64)), smooth, 0.5 * smooth + (rng.random((64, 64)) < 0.01)])[None]
    times = [0.0, 1e-4, 1e-3, 0.02]
    whole, _, notes = run(model, u, times)
    assert notes["steps"] > run(model, u[:, 1:2], times)[2]["steps"]
    for m in range(3):
        for more in ({"backend": "numpy"}, {"threads": 2}):  # on two threads one member is cut into strips
            alone = run(model, u[:, m : m + 1], times, **more)[0]
            assert np.array_equal(alone[:, :, 0].view(np.uint64), whole[:, :, m].view(np.uint64)), (m, more)
