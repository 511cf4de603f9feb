"""Large grids as strips: many steps in one visit of memory, several threads in one member, the same bits."""

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.field_plan import Programs, plan
from sdesim.kernels.field_run import Job, run
from sdesim.kernels.field_tiles import run_strips, sweep_levels
from sdesim.methods.field import FIELD_METHODS, Spectrum
from sdesim.models.pde import PDE
from sdesim.stencils import discretise

FLAT = Grid(x=(0.0, 1.0, 13), y=(0.0, 2.0, 50))
SOLID = Grid(x=(0.0, 1.0, 7), y=(0.0, 2.0, 6), z=(0.0, 1.0, 40))
WRAPPED = {"x": Periodic(), "y": Periodic()}
WALLS = {"x": (Dirichlet(1.0), Robin(1.0, 2.0, "y")), "y": (Dirichlet("sin(3*x)"), Robin(1.0, 0.5, "x"))}
PAIR = {"state": ("u", "v"), "diffusivity": {"u": "1 + x*y", "v": 0.3},
        "reaction": {"u": "-u*v + sin(t)", "v": "u*v*y*k"}, "parameters": {"k": 1.0}}


def job(model, method, members=1, times=(0.0, 1.3e-3, 2e-3), dt=1e-4, parameters=None):
    u = np.random.default_rng(0).random((len(model.state), members, *model.grid.shape))
    stencil, method = discretise(model), FIELD_METHODS[method]
    plans = [plan(method, Spectrum(4e3), times, dt)] * members
    out = np.empty((len(times) - 1, *u.shape))
    values = {**model.parameters, **(parameters or {})}
    return Job(stencil, values, plans, Programs(stencil, method), u, np.arange(3, 3 + members), 7, out)


def assert_same_bits(model, method, levels, threads, **more):
    plain, swept = job(model, method, **more), job(model, method, **more)
    run(plain, 1)
    passes = max(len(schedule.passes) for _, schedule in swept.programs.entries)
    run_strips(swept, passes * max(1, levels // passes), threads)
    assert np.all(np.isfinite(plain.out))
    assert np.array_equal(plain.out, swept.out)


@pytest.mark.parametrize("boundary", [WRAPPED, WALLS], ids=["periodic", "walls"])
@pytest.mark.parametrize("method", ["euler", "ssprk3", "rk4", "rkl2"])
def test_strips_give_the_bits_of_whole_passes(method, boundary):
    for threads, levels in ((1, 9), (2, 9), (3, 1)):
        assert_same_bits(PDE(FLAT, boundary=boundary, **PAIR), method, levels, threads)


@pytest.mark.parametrize("boundary", [WRAPPED, WALLS], ids=["periodic", "walls"])
def test_noise_and_transport_in_the_halos(boundary):
    model = PDE(FLAT, diffusivity="u + y", velocity={"x": "y", "y": 1.0}, noise=WhiteNoise("0.1*(1 + u*x)"),
                boundary=boundary)
    assert_same_bits(model, "euler_maruyama", 6, 2)


@pytest.mark.parametrize("boundary", [WRAPPED, WALLS], ids=["periodic", "walls"])
@pytest.mark.parametrize("method", ["ssprk3", "rkl2"])
def test_fields_derived_from_others_in_the_halos(method, boundary):
    model = PDE(FLAT, diffusivity=[["1 + x", 0.2], [0.2, "1 + y"]], velocity={"x": "y", "y": "u"}, boundary=boundary,
                advection="limited")
    for threads, levels in ((1, 9), (2, 12)):
        assert_same_bits(model, method, levels, threads)


@pytest.mark.parametrize("side", [Periodic(), (Dirichlet(1.0), Neumann(0.2))], ids=["periodic", "walls"])
def test_three_dimensions_and_a_parameter_of_each_member(side):
    model = PDE(SOLID, diffusivity="k + x*y*z", noise=WhiteNoise(0.1), parameters={"k": 1.0},
                boundary={"z": side, "y": (Dirichlet("x*z"), Neumann(1.0))})
    for threads in (1, 4):
        assert_same_bits(model, "euler_maruyama", 5, threads, members=2, parameters={"k": np.array([1.0, 2.0])})


def test_a_member_that_blows_up_is_marked_and_leaves_its_neighbours():
    model = PDE(FLAT, diffusivity=1.0, reaction="k*u**3", parameters={"k": 0.0})
    swept = job(model, "euler", members=2, parameters={"k": np.array([1e9, 0.0])})
    status = run_strips(swept, 4, 1)
    assert list(status) == [1, 0]
    assert np.all(np.isnan(swept.out[:, :, 0]))
    assert np.all(np.isfinite(swept.out[:, :, 1]))


def test_when_a_grid_is_cut():
    def levels(model, threads, members=1):
        return sweep_levels(job(model, "euler", members), threads)

    def square(n):
        return Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n))

    assert levels(PDE(square(256), diffusivity=1e-9), 2) == 0  # too little work for two threads
    assert levels(PDE(square(256), diffusivity=1e-9), 1) == 0  # in the cache: whole passes
    assert levels(PDE(square(512), diffusivity=1e-9), 2) > 1  # fewer members than threads
    assert levels(PDE(square(512), diffusivity=1e-9), 2, members=2) == 0  # a thread for each member
    assert levels(PDE(square(800), diffusivity=1e-9), 1) > 1  # past the cache
    assert levels(PDE(square(512), diffusivity=1e-9, boundary={"x": Dirichlet("t")}), 2) == 0  # edges change in time
    assert levels(PDE(Grid(x=(0.0, 1.0, 10**6)), diffusivity=1e-12), 2) == 0  # nothing to cut
