"""Finite volumes where cells are not equal: order in space, conservation, steady profiles, noise, equal bits."""

import math
import shutil

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.curved import RadialGrid, SphereGrid
from sdesim.fields import WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.field_bounds import spectra
from sdesim.kernels.field_cuda import cuda_body, pair_function
from sdesim.kernels.field_device import host_launch, run_ensemble
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.field import FIELD_METHODS
from sdesim.methods.vector import Vector
from sdesim.models.pde import PDE
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise


def rate(model, *u, t=0.0, advection="central"):
    """du/dt of the reference."""
    stencil = discretise(model, advection)
    statics = {name: values[0] for name, values in static_arrays(stencil, model.parameters).items()}
    return list(Reference(stencil, dict(model.parameters), statics).f(t, Vector(list(u))))


def run(model, u, times, method="rk4", dt=None, **options):
    states, status, _ = stencil_run(model, method, u, None, times, dt, members=[0], **options)
    assert not status.any()
    return states[-1, :, 0]


def stretched(n, lo=0.0, hi=1.0, strength=0.6):
    """Edges that crowd smoothly towards the low end."""
    s = np.linspace(0.0, 1.0, n + 1)
    return lo + (hi - lo) * (s - strength * np.sin(np.pi * s) / np.pi)


# --- stretched axes


def test_edges_equally_far_apart_are_the_uniform_axis_itself():
    assert Grid(x=np.linspace(0.0, 1.0, 65)) == Grid(x=(0.0, 1.0, 64))
    grid = Grid(x=stretched(8), y=(0.0, 1.0, 4))
    assert grid != Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 4))
    assert Grid.from_dict(grid.to_dict()) == grid
    assert hash(Grid.from_dict(grid.to_dict())) == hash(grid)
    assert grid.volumes.sum() == pytest.approx(1.0, rel=1e-14)
    assert np.array_equal(grid.coarsen({"x": 2}).edges["x"], grid.edges["x"][::2])
    with pytest.raises(ValueError, match="not equal"):
        _ = grid.cell_volume


@pytest.mark.parametrize("edges, message", [
    (np.array([0.0, 1.0]), "at least two cells"), (np.array([0.0, 2.0, 1.0]), "rise"),
    (np.array([0.0, np.nan, 1.0]), "rise"), ([0.0, 1.0, 1.0, 2.0], "rise"),
])
def test_edges_that_are_none(edges, message):
    with pytest.raises(ValueError, match=message):
        Grid(x=edges)


# u = e^{−t} sin(x + 1) solves u_t = ((1 + x²/2) u_x)_x + R with the R below; D′ = x
_SOURCE = "exp(-t)*(-sin(x+1) - x*cos(x+1) + (1+x**2/2)*sin(x+1))"
_SIDES = {
    "dirichlet": (Dirichlet("exp(-t)*sin(1)"), Dirichlet("exp(-t)*sin(2)")),
    "neumann": (Neumann("-exp(-t)*cos(1)"), Neumann("exp(-t)*cos(2)")),
    "robin": (Robin(2.0, 1.0, "exp(-t)*(2*sin(1) - cos(1))"), Robin(1.0, 0.5, "exp(-t)*(sin(2) + cos(2)/2)")),
}


@pytest.mark.parametrize("kind, D", [*((kind, "1 + x**2/2") for kind in _SIDES), ("robin", "1 + x**2/2 + 0*t*u")])
def test_manufactured_solution_on_a_stretched_axis_is_of_second_order(kind, D):
    errors = []
    for n in (12, 24, 48):
        grid = Grid(x=stretched(n))
        x = grid.coordinates["x"]
        model = PDE(grid, diffusivity=D, reaction=_SOURCE, boundary={"x": _SIDES[kind]})
        u = run(model, np.sin(x + 1)[None, None], [0.0, 0.3])[0]
        errors.append(np.abs(u - math.exp(-0.3) * np.sin(x + 1)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.8), (errors, orders)


def test_a_periodic_stretched_axis_is_of_second_order():
    errors = []
    for n in (16, 32, 64):
        s = np.linspace(0.0, 1.0, n + 1)
        grid = Grid(x=s - 0.1 * np.sin(2 * np.pi * s))
        x = grid.coordinates["x"]
        model = PDE(grid, diffusivity=0.1, velocity={"x": 1.0}, boundary={"x": Periodic()})
        u = run(model, np.sin(2 * np.pi * x)[None, None], [0.0, 0.25], advection="central")[0]
        exact = math.exp(-0.1 * 4 * np.pi**2 * 0.25) * np.sin(2 * np.pi * (x - 0.25))
        errors.append(np.abs(u - exact).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.8), (errors, orders)


def test_a_steady_profile_through_layers_is_exact_on_any_cells():
    # piecewise linear between two held ends; faces lie on the jump at ½, cells are as they come
    edges = np.sort(np.r_[0.0, 0.5, 1.0, np.random.default_rng(3).random(17)])
    grid = Grid(x=edges)
    x = grid.coordinates["x"]
    flux = 1.0 / (0.5 / 1.0 + 0.5 / 100.0)
    u = np.where(x < 0.5, flux * x, 1.0 - flux * (1.0 - x) / 100.0)
    model = PDE(grid, diffusivity="where(x < 0.5, 1, 100)", boundary={"x": (Dirichlet(0.0), Dirichlet(1.0))})
    scale = 100.0 / np.diff(edges).min() ** 2
    assert np.abs(rate(model, u)[0]).max() < 1e-12 * scale
    assert np.abs(rate(model, u + 0.01 * x)[0]).max() > 1e-3


def test_slopes_in_a_reaction_are_exact_for_parabolas():
    grid = Grid(x=stretched(9), y=np.array([0.0, 0.3, 0.4, 1.0]))
    u = np.broadcast_to(grid.mesh["x"] ** 2 + 3.0 * grid.mesh["y"], grid.shape)
    (du,) = rate(PDE(grid, diffusivity=0.0, reaction="ddx(u) + ddy(u)"), u)
    inner = (2.0 * grid.mesh["x"] + 3.0 + 0.0 * u)[1:-1, 1:-1]
    assert np.allclose(du[1:-1, 1:-1], inner, rtol=1e-13)


CONSERVATIVE = {
    "constant": {"diffusivity": 0.3},
    "space": {"diffusivity": "1 + sin(3*x)*cos(2*y)"},
    "array": {"diffusivity": np.exp(np.random.default_rng(0).standard_normal((11, 14)))},
    "state": {"diffusivity": "0.1 + u**2"},
    "flow": {"diffusivity": 0.1, "velocity": {"x": "sin(2*pi*x)*cos(y)", "y": "u/2"}},
}


@pytest.mark.parametrize("method, name", [
    ("rkl2", "constant"), ("tr_bdf2", "constant"), ("rkl2", "space"), ("ars232", "array"), ("rkl2", "state"),
    ("ssprk3", "flow"), ("ars232", "flow"),
])
def test_what_leaves_a_cell_enters_the_next_whatever_their_sizes(method, name):
    grid = Grid(x=stretched(14), y=stretched(11, 0.0, 2.0, 0.8))
    u = np.random.default_rng(1).random((1, 1, 11, 14))
    model = PDE(grid, boundary={"x": Periodic(), "y": Periodic()}, **CONSERVATIVE[name])
    end = run(model, u, [0.0, 0.02], method)
    assert abs((grid.volumes * (end - u[:, 0])).sum()) < 2e-13 * grid.volumes.sum()
    assert np.abs(end - u[:, 0]).max() > 1e-3


# --- the radius alone


@pytest.mark.parametrize("geometry, root", [("sphere", np.pi), ("cylinder", 2.404825557695773)])
def test_the_slowest_mode_of_a_ball_and_of_a_disk(geometry, root):
    # sin(πr)/r decays with π², J₀(j₀ r) with j₀²
    from scipy.special import j0

    t, errors = 0.05, []
    for n in (16, 32, 64):
        grid = RadialGrid(r=(0.0, 1.0, n), geometry=geometry)
        r = grid.coordinates["r"]
        u0 = np.sin(np.pi * r) / r if geometry == "sphere" else j0(root * r)
        model = PDE(grid, diffusivity=1.0, boundary={"r": Dirichlet(0.0)})
        errors.append(np.abs(run(model, u0[None, None], [0.0, t])[0] - u0 * math.exp(-(root**2) * t)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(orders - 2.0) < 0.1), orders


@pytest.mark.parametrize("geometry", ["sphere", "cylinder"])
def test_steady_conduction_through_a_shell(geometry):
    # A + B/r in a sphere, A + B ln r in a cylinder, between r = 1 and 3 held at 1 and 0; smoothly stretched shells
    errors = []
    for n in (10, 20, 40):
        grid = RadialGrid(r=stretched(n, 1.0, 3.0), geometry=geometry)
        model = PDE(grid, diffusivity=1.0, boundary={"r": (Dirichlet(1.0), Dirichlet(0.0))})
        r = grid.coordinates["r"]
        exact = (3.0 / r - 1.0) / 2.0 if geometry == "sphere" else 1.0 - np.log(r) / math.log(3.0)
        end = run(model, exact[None, None], [0.0, 20.0], "tr_bdf2")[0]
        errors.append(np.abs(end - exact).max())
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.9), errors


def test_a_uniform_source_in_a_ball_with_a_cooled_surface():
    # steady: −u′ R² = q R³/3 at the surface, u = q (R² − r²)/6 + qR/(3h); a parabola, met to second order
    q, h, errors = 2.0, 3.0, []
    for n in (8, 16, 32):
        grid = RadialGrid(r=(0.0, 1.0, n))
        model = PDE(grid, diffusivity=1.0, reaction=f"{q}", boundary={"r": Robin(h, 1.0, 0.0)})
        r = grid.coordinates["r"]
        exact = q * (1.0 - r * r) / 6.0 + q / (3.0 * h)
        errors.append(np.abs(run(model, exact[None, None], [0.0, 10.0], "tr_bdf2")[0] - exact).max())
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.8), errors


def test_a_ball_has_no_edge_at_its_centre():
    grid = RadialGrid(r=(0.0, 1.0, 8))
    both = PDE(grid, diffusivity=1.0, boundary={"r": Dirichlet(1.0)})
    assert PDE(grid, diffusivity=1.0, boundary={"r": (Neumann(0.0), Dirichlet(1.0))}) == both
    with pytest.raises(ValueError, match="no edge"):
        PDE(grid, diffusivity=1.0, boundary={"r": (Dirichlet(0.0), Dirichlet(1.0))})
    with pytest.raises(ValueError, match="no edge"):
        PDE(grid, diffusivity=1.0, boundary={"r": Periodic()})
    u = np.ones((1, 8))
    assert np.array_equal(rate(both, u[0])[0], np.zeros(8))


def test_a_cylinder_with_its_axis():
    # J₀(j r) cos πz decays with j² + π² between insulated ends
    from scipy.special import j0

    j, errors = 2.404825557695773, []
    for n in (8, 16, 32):
        grid = RadialGrid(r=(0.0, 1.0, n), z=(0.0, 1.0, n), geometry="cylinder")
        u0 = np.broadcast_to(j0(j * grid.mesh["r"]) * np.cos(np.pi * grid.mesh["z"]), grid.shape)
        model = PDE(grid, diffusivity=1.0, boundary={"r": Dirichlet(0.0)})
        errors.append(np.abs(run(model, u0[None, None], [0.0, 0.02])[0] - u0 * math.exp(-(j**2 + np.pi**2) * 0.02)).max())
    assert np.all(np.abs(np.log2(np.divide(errors[:-1], errors[1:])) - 2.0) < 0.1), errors
    assert grid.volumes.sum() == pytest.approx(np.pi, rel=1e-13)


# --- noise, bounds, bits


UNEVEN = {
    "stretched": PDE(Grid(x=stretched(9), y=(0.0, 1.0, 4), z=stretched(5)), diffusivity="0.01*(1 + x*z)",
                     velocity={"x": "y", "z": "u/2"}, reaction="ddx(u) - ddz(u)", noise=WhiteNoise("0.1*u"),
                     boundary={"x": (Robin(1.0, "0.3 + z", "t"), Dirichlet(1.0)), "z": Periodic()}),
    "ball": PDE(RadialGrid(r=stretched(12)), diffusivity="0.1 + u**2", velocity={"r": "r*(1 - r)"},
                boundary={"r": Robin(1.0, 0.5, "1 + t")}),
    "sphere": PDE(SphereGrid(lat=6, lon=9), diffusivity="0.1*(1.1 + cos(pi*lon/180))", noise=WhiteNoise(0.2),
                  velocity={"lon": "cos(pi*lat/180)", "lat": "0.1*u"}),
    "band": PDE(SphereGrid(lat=(10.0, 60.0, 6), lon=stretched(7, 0.0, 80.0)), diffusivity=0.01,
                boundary={"lon": (Robin(1.0, 0.3, "lat/90"), Neumann("t")), "lat": Dirichlet("lon/90")}),
}


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_kernel_equals_reference_and_cuda_source_on_uneven_cells():
    source, jobs = PRELUDE + pair_function(), []
    members = np.array([4, 1])
    for name, model in UNEVEN.items():
        method = "euler_maruyama" if model.noise else "ssprk3"
        u = np.random.default_rng(6).random((1, 2, *model.grid.shape))
        arguments = (model, method, u, None, [0.0, 2e-4], 1e-4)
        fused, plain = (stencil_run(*arguments, members=members, seed=3, advection="upwind", backend=backend)[0]
                        for backend in ("kernel", "numpy"))
        assert np.isfinite(fused).all(), name
        assert np.array_equal(fused.view(np.uint64), plain.view(np.uint64)), name
        stencil = discretise(model, "upwind")
        programs, names = Programs(stencil, FIELD_METHODS[method]), Names.of(stencil, ())
        plans = [[Steps(0.0, 1e-4, 2, ())]] * 2
        programs.number(plans[0][0])
        source += cuda_body(stencil, programs.kernels, names, f"{name}_")
        jobs.append((name, programs, names, plans, u, fused))
    library = compile_for_host(source)
    for name, programs, names, plans, u, fused in jobs:
        out = np.empty((1, *u.shape))
        run_ensemble(host_launch(library, f"{name}_"), programs, names, {}, plans, u, members, 3, out)
        assert np.array_equal(out[0].view(np.uint64), fused[-1].view(np.uint64)), name


def test_white_noise_of_a_cell_has_the_variance_of_its_volume():
    # no diffusion: Var = σ² t/V in every cell, whatever its size
    grid = Grid(x=stretched(12, 0.0, 1.0, 0.8))
    model = PDE(grid, diffusivity=0.0, noise=WhiteNoise(0.5))
    states, _, _ = stencil_run(model, "euler_maruyama", np.zeros((1, 4000, 12)), None, [0.0, 0.25], 0.125,
                               members=range(4000), seed=2)
    ratio = states[-1, 0].var(axis=0) * grid.volumes / (0.25 * 0.25)
    assert np.abs(ratio - 1.0).max() < 4.5 * math.sqrt(2.0 / 4000)


@pytest.mark.parametrize("model", [
    PDE(Grid(x=stretched(7), y=stretched(5)), diffusivity="0.1 + x*y", boundary={"x": (Robin(1.0, 0.3), Neumann())}),
    PDE(RadialGrid(r=(0.0, 1.0, 12)), diffusivity=0.7, boundary={"r": Dirichlet(0.0)}),
])
def test_gershgorin_bounds_the_spectrum_where_cells_differ(model):
    n, shape = model.grid.size, model.grid.shape
    columns = [rate(model, unit.reshape(shape))[0].ravel() for unit in np.eye(n)]
    largest = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
    (bound,) = spectra(discretise(model), {}, np.ones((1, 1, *shape)), [0.0])
    assert largest <= bound.diffusion * (1 + 1e-12) <= 2.5 * largest


@pytest.mark.parametrize("strength, solver", [(0.0, "modes"), (0.5, "multigrid conjugate gradients"), (0.97, "sparse LU")])
def test_implicit_solvers_agree_however_thin_the_cells(strength, solver):
    # D = 1 + xy couples the axes, so that no modes are left where cells are uneven; against steps of RKL2
    n = 24
    grid = Grid(x=stretched(n, strength=strength), y=stretched(n, strength=strength))
    D = 1.0 if strength == 0.0 else "1 + x*y"
    model = PDE(grid, diffusivity=D, boundary={"x": (Dirichlet(1.0), Neumann()), "y": Neumann()})
    u = np.random.default_rng(7).random((1, 1, n, n))
    states, _, notes = stencil_run(model, "tr_bdf2", u, None, [0.0, 0.1], 1e-3, members=[0])
    assert notes["solver"] == solver
    explicit, _, _ = stencil_run(model, "rkl2", u, None, [0.0, 0.1], 5e-4, members=[0])
    assert np.abs(states[-1] - explicit[-1]).max() < 2e-5
