"""Cells that are left out: walls are edges, the field beside them is that of the smaller grid, nothing leaks."""

import shutil

import numpy as np
import pytest
import xarray as xr

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run

RNG = np.random.default_rng(0)
CONDITIONS = {"no flux": Neumann(), "dirichlet": Dirichlet("1 + y*t"), "robin": Robin(1.0, 0.3, "sin(t)*x"),
              "flux": Neumann(0.7)}
COEFFICIENTS = {"constant": 0.3, "space": "1 + x*y", "state": "0.1 + u**2", "array": 1.0 + RNG.random((10, 12))}
START = RNG.random((1, 1, 10, 12))


def run(model, u, method="rkl2", dt=1e-3, backend="kernel", **more):
    states, status, notes = stencil_run(model, method, u, None, [0.0, 0.05], dt, members=np.arange(u.shape[1]),
                                        backend=backend, **more)
    assert not status.any()
    return states[-1]


def with_strip(values, width=4, fill=np.nan):
    return np.concatenate([values, np.full((*values.shape[:-1], width), fill)], axis=-1)


STRIP = with_strip(np.zeros((10, 12)), fill=1.0) == 1.0


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("name, method", [("constant", "rkl2"), ("space", "rkl2"), ("state", "rkl2"), ("array", "rkl2"),
                                          ("constant", "tr_bdf2"), ("array", "tr_bdf2")])
def test_a_strip_left_out_is_the_smaller_grid(kind, name, method):
    D, condition = COEFFICIENTS[name], CONDITIONS[kind]
    wide = with_strip(D) if isinstance(D, np.ndarray) else D
    terms = {"reaction": "-u + 0.1*ddx(u) - 0.2*ddy(u)"}
    edge = condition if kind != "robin" else Robin(1.0, 0.3, "sin(t)")  # an edge at x = 1 cannot name x
    small = PDE(Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 10)), diffusivity=D, boundary={"x": (Neumann(), edge)}, **terms)
    large = PDE(Grid(x=(0.0, 16 / 12, 16), y=(0.0, 1.0, 10), mask=STRIP), diffusivity=wide,
                boundary={"mask": condition}, **terms)
    plain, masked = run(small, START, method), run(large, with_strip(START, fill=0.5), method)[..., :12]
    if method == "rkl2" and kind != "robin":
        assert np.array_equal(plain, masked)
    assert np.abs(plain - masked).max() < 1e-13


@pytest.mark.parametrize("kind", CONDITIONS)
def test_a_strip_left_out_of_a_stretched_grid_is_the_smaller_grid(kind):
    edges = np.arange(17) / 12 + 0.03 * np.sin(np.arange(17) / 2.4)
    condition = CONDITIONS[kind] if kind != "robin" else Robin(1.0, 0.3, "sin(t)")
    small = PDE(Grid(x=edges[:13], y=(0.0, 1.0, 10)), diffusivity="1 + y", boundary={"x": (Neumann(), condition)})
    large = PDE(Grid(x=edges, y=(0.0, 1.0, 10), mask=STRIP), diffusivity="1 + y", boundary={"mask": condition})
    assert np.abs(run(small, START) - run(large, with_strip(START, fill=0.5))[..., :12]).max() < 1e-12


def obstacle(n=20):
    x = (np.arange(n) + 0.5) / n
    return (x[:, None] - 0.4) ** 2 + (x - 0.5) ** 2 < 0.04


CLOSED = {
    "constant": {"diffusivity": 0.3},
    "space": {"diffusivity": "1 + sin(3*x)*cos(2*y)"},
    "state": {"diffusivity": "0.1 + u**2"},
    "flow": {"diffusivity": 0.05, "velocity": {"x": 1.0, "y": "sin(2*pi*x)"}},
    "flow of the state": {"diffusivity": 0.05, "velocity": {"x": "u"}},
}


@pytest.mark.parametrize("method, name", [
    ("rkl2", "constant"), ("crank_nicolson", "constant"), ("ars232", "space"), ("rkl2", "state"), ("ssprk3", "flow"),
    ("ars232", "flow"), ("ssprk3", "flow of the state"),
])
def test_an_obstacle_keeps_all_mass(method, name):
    mask = obstacle()
    grid = Grid(x=(0.0, 1.0, 20), y=(0.0, 1.0, 20), mask=mask)
    u = np.where(mask, 7.0, np.random.default_rng(1).random((20, 20)))[None, None]
    model = PDE(grid, boundary={"x": Periodic()}, **CLOSED[name])
    if name.startswith("flow"):
        model = PDE(grid, boundary={"x": Periodic(), "y": Periodic()}, **CLOSED[name])
    end = run(model, u, method, None)
    assert abs((end - u)[..., ~mask].sum()) < 1e-12 * u[..., ~mask].sum()
    assert np.abs(end - u)[..., ~mask].max() > 1e-2
    other = np.where(mask, -3.0, u)  # what stands in the obstacle is nobody's business
    ends = [run(model, start, method, 2.5e-4 if method == "ssprk3" else 1e-3)[..., ~mask] for start in (other, u)]
    # conjugate gradients stop by a norm over all cells
    assert np.array_equal(*ends) if method in ("rkl2", "ssprk3") else np.allclose(*ends, rtol=1e-5)


def test_two_rooms_without_a_door_do_not_know_of_each_other():
    mask = np.zeros((8, 12), bool)
    mask[:, 6] = True
    u = np.random.default_rng(2).random((1, 1, 8, 12))
    end = run(PDE(Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 8), mask=mask), diffusivity=1.0), u, dt=None)
    for room in (slice(0, 6), slice(7, 12)):
        assert end[..., room].sum() == pytest.approx(u[..., room].sum(), rel=1e-13)


@pytest.mark.parametrize("terms", [
    {"diffusivity": "1 + x*y", "reaction": "u*(1 - u) + ddx(u)/(x - 0.475)", "boundary": {"mask": Robin("1 + x", 0.2, "t*y")}},
    {"diffusivity": "K*(0.1 + u)", "velocity": {"x": "y"}, "noise": WhiteNoise("0.1*u"), "boundary": {"mask": Dirichlet("t")},
     "parameters": {"K": np.where(obstacle(), np.nan, 0.3)}},
])
def test_kernel_equals_reference_and_cuda_source(terms):
    from sdesim.kernels.cuda import compile_for_host
    from sdesim.kernels.field_cuda import cuda_source
    from sdesim.kernels.field_device import host_launch, run_ensemble
    from sdesim.kernels.field_names import Names
    from sdesim.kernels.field_plan import Programs, Steps
    from sdesim.methods.field import FIELD_METHODS
    from sdesim.stencils import discretise

    mask = obstacle()
    mask[:, 9:11] = True  # where the reaction is not finite
    model = PDE(Grid(x=(0.0, 1.0, 20), y=(0.0, 1.0, 20), mask=mask), **terms)
    method = "euler_maruyama" if model.noise else "ssprk3"
    u, members = np.random.default_rng(3).random((1, 2, 20, 20)), np.array([4, 1])
    arguments = (model, method, u, None, [0.0, 4e-4], 2e-4)
    fused, status, _ = stencil_run(*arguments, members=members, seed=3, advection="upwind")
    plain, _, _ = stencil_run(*arguments, members=members, seed=3, advection="upwind", backend="numpy")
    assert not status.any()
    assert np.array_equal(fused.view(np.uint64), plain.view(np.uint64))
    if shutil.which("g++") is None:
        return
    stencil = discretise(model, "upwind")
    programs, names = Programs(stencil, FIELD_METHODS[method]), Names.of(stencil, ())
    plans = [[Steps(0.0, 2e-4, 2, ())]] * 2
    programs.number(plans[0][0])
    out, library = np.empty((1, *u.shape)), compile_for_host(cuda_source(stencil, programs.kernels, names))
    run_ensemble(host_launch(library), programs, names, {}, plans, u, members, 3, out)
    assert np.array_equal(out[0].view(np.uint64), fused[-1].view(np.uint64))


def test_a_mask_as_a_dataarray_and_what_is_none():
    grid = {"x": (0.0, 1.0, 20), "y": (0.0, 1.0, 20)}
    x = (np.arange(20) + 0.5) / 20
    mask = xr.DataArray(obstacle(), dims=("y", "x"), coords={"x": x, "y": x})
    assert Grid(**grid, mask=mask.T) == Grid(**grid, mask=obstacle())
    assert Grid(**grid, mask=mask) != Grid(**grid)
    assert Grid.from_dict(Grid(**grid, mask=mask).to_dict()) == Grid(**grid, mask=mask)
    with pytest.raises(ValueError, match="no cell"):
        Grid(**grid, mask=mask & False)
    with pytest.raises(ValueError, match="every cell"):
        Grid(**grid, mask=mask | True)
    with pytest.raises(TypeError, match="boolean"):
        Grid(**grid, mask=mask.astype(float))
    with pytest.raises(ValueError, match="shape"):
        Grid(**grid, mask=obstacle(10))
    with pytest.raises(ValueError, match="centres"):
        Grid(**grid, mask=mask.assign_coords(x=mask.x + 1.0))
    with pytest.raises(KeyError, match="mask"):
        PDE(Grid(**grid), diffusivity=1.0, boundary={"mask": Dirichlet(0.0)})
    with pytest.raises(ValueError, match="one condition"):
        PDE(Grid(**grid, mask=mask), diffusivity=1.0, boundary={"mask": (Neumann(), Neumann())})
