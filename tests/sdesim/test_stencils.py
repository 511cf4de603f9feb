"""The finite-volume right-hand side: order in space, conservation, exact fluxes, eigenvalues."""

import math

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.calculus import evaluate
from sdesim.curved import RadialGrid
from sdesim.fields import ConservedNoise, WhiteNoise
from sdesim.grids import Grid
from sdesim.kernels.field_bounds import check_diffusivity, peclet, spectra
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
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


def beta(n):
    """Root of β tan β = n in (0, π/2): the slowest mode between an insulated end and ∂u/∂x = −n u."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        mid = (low + high) / 2
        low, high = (low, mid) if mid * math.tan(mid) > n else (mid, high)
    return low


EIGENMODES = {
    "periodic": (Periodic(), lambda x: np.sin(2 * np.pi * x), (2 * np.pi) ** 2),
    "dirichlet": (Dirichlet(0.0), lambda x: np.sin(np.pi * x), np.pi**2),
    "no flux": (Neumann(0.0), lambda x: np.cos(np.pi * x), np.pi**2),
    "robin": ((Neumann(0.0), Robin(3.0, 1.0, 0.0)), lambda x: np.cos(beta(3.0) * x), beta(3.0) ** 2),
}


@pytest.mark.parametrize("kind", EIGENMODES)
def test_eigenmodes_decay_with_an_error_of_second_order_in_space(kind):
    condition, mode, eigenvalue = EIGENMODES[kind]
    t, errors = 0.5 / eigenvalue, []
    for n in (12, 24, 48):
        grid = Grid(x=(0.0, 1.0, n))
        u0 = mode(grid.coordinates["x"])
        model = PDE(grid, diffusivity=1.0, boundary={"x": condition})
        errors.append(np.abs(run(model, u0[None, None], [0.0, t])[0] - u0 * math.exp(-eigenvalue * t)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(orders - 2.0) < 0.15), orders


# u = e^{−t} sin(x + 1) solves u_t = ((1 + x²/2) u_x)_x + R with the R below; D′ = x
_SOURCE = "exp(-t)*(-sin(x+1) - x*cos(x+1) + (1+x**2/2)*sin(x+1))"
_SIDES = {
    "dirichlet": (Dirichlet("exp(-t)*sin(1)"), Dirichlet("exp(-t)*sin(2)")),
    "neumann": (Neumann("-exp(-t)*cos(1)"), Neumann("exp(-t)*cos(2)")),
    "robin": (Robin(2.0, 1.0, "exp(-t)*(2*sin(1) - cos(1))"), Robin(1.0, 0.5, "exp(-t)*(sin(2) + cos(2)/2)")),
}


@pytest.mark.parametrize("kind", _SIDES)
@pytest.mark.parametrize("D", ["1 + x**2/2", "1 + x**2/2 + 0*t*u"])
def test_manufactured_solution_with_boundary_values_in_time(kind, D):
    errors = []
    for n in (10, 20, 40):
        grid = Grid(x=(0.0, 1.0, n))
        x = grid.coordinates["x"]
        model = PDE(grid, diffusivity=D, reaction=_SOURCE, boundary={"x": _SIDES[kind]})
        u = run(model, np.sin(x + 1)[None, None], [0.0, 0.3])[0]
        errors.append(np.abs(u - math.exp(-0.3) * np.sin(x + 1)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.8), (errors, orders)


def test_boundary_values_that_vary_along_the_edge():
    # u = x² − y² is harmonic, and the five-point Laplacian is exact on quadratics
    grid = Grid(x=(0.0, 1.0, 12), y=(0.0, 2.0, 9))
    edges = {"x": (Neumann(0.0), Neumann(2.0)), "y": (Dirichlet("x**2"), Dirichlet("x**2 - 4"))}
    u = (grid.mesh["x"] ** 2 - grid.mesh["y"] ** 2)
    (du,) = rate(PDE(grid, diffusivity=0.7, boundary=edges), u)
    # a ghost at distance h beyond u_edge = x² − 4 is off by the curvature: h²/4 of u″ = −2 in the rows at the edge
    assert np.abs(du[1:-1]).max() < 1e-10
    h = grid.spacing["y"]
    assert np.allclose(du[[0, -1]] * h * h / 0.7, h * h * 0.5, atol=1e-10)


def test_harmonic_means_carry_the_exact_flux_through_a_jump():
    # steady flux through two layers in series: 1/(½/1 + ½/100), the temperature linear in each layer
    grid = Grid(x=(0.0, 1.0, 20))
    x = grid.coordinates["x"]
    model = PDE(grid, diffusivity="where(x < 0.5, 1, 100)", boundary={"x": (Dirichlet(0.0), Dirichlet(1.0))})
    flux = 1.0 / (0.5 / 1.0 + 0.5 / 100.0)
    u = np.where(x < 0.5, flux * x, 1.0 - flux * (1.0 - x) / 100.0)
    (du,) = rate(model, u)
    assert np.abs(du).max() < 1e-9 * flux / grid.spacing["x"] ** 2


CONSERVATIVE = {
    "constant": {"diffusivity": 0.3},
    "space": {"diffusivity": "1 + sin(3*x)*cos(2*y)"},
    "array": {"diffusivity": np.exp(np.random.default_rng(0).standard_normal((11, 14)))},
    "state": {"diffusivity": "0.1 + u**2"},
    "time": {"diffusivity": "(1 + x)*(2 + cos(t))"},
}


@pytest.mark.parametrize("method", ["euler", "ssprk3", "rk4", "rkl2"])
@pytest.mark.parametrize("name", CONSERVATIVE)
@pytest.mark.parametrize("edge", [Periodic(), Neumann(0.0)])
def test_closed_systems_keep_their_mass_to_round_off(method, name, edge):
    grid = Grid(x=(0.0, 1.0, 14), y=(0.0, 1.0, 11))
    u = np.random.default_rng(1).random((1, 1, 11, 14))
    model = PDE(grid, boundary={"x": edge, "y": edge}, **CONSERVATIVE[name])
    end = run(model, u, [0.0, 0.02], method, backend="numpy")
    assert abs(end.sum() - u.sum()) < 1e-13 * u.size * 10


@pytest.mark.parametrize("advection", ["central", "upwind"])
@pytest.mark.parametrize("speed", [1.3, "sin(2*pi*x)", "u/2"])
def test_transport_conserves_and_converges(advection, speed):
    # du/dt = −(v u)_x at a smooth u against the exact derivative: order 2 central, 1 upwind
    def exact(x, u, du):
        if speed == "u/2":
            return -u * du
        v = 1.3 if speed == 1.3 else np.sin(2 * np.pi * x)
        dv = 0.0 if speed == 1.3 else 2 * np.pi * np.cos(2 * np.pi * x)
        return -(v * du + dv * u)

    errors = []
    for n in (32, 64, 128):
        grid = Grid(x=(0.0, 1.0, n))
        x = grid.coordinates["x"]
        u, du = 2.0 + np.sin(2 * np.pi * x), 2 * np.pi * np.cos(2 * np.pi * x)
        model = PDE(grid, diffusivity=0.0, velocity={"x": speed}, boundary={"x": Periodic()})
        (r,) = rate(model, u, advection=advection)
        assert abs(r.sum()) < 1e-10 * np.abs(r).sum()
        errors.append(np.abs(r - exact(x, u, du)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(orders - (2.0 if advection == "central" else 1.0)) < 0.2), orders


def test_eigenvalues_of_the_finite_volume_laplacian():
    # (4/Δ²) sin²(kΔ/2) along each axis, for every Fourier mode of a periodic grid
    grid = Grid(x=(0.0, 2.0, 6), y=(0.0, 1.0, 8))
    model = PDE(grid, diffusivity=0.5, boundary={"x": Periodic(), "y": Periodic()})
    for p, q in ((1, 0), (2, 3), (3, 4)):
        kx, ky = 2 * np.pi * p / 2.0, 2 * np.pi * q
        mode = np.cos(kx * grid.mesh["x"] + ky * grid.mesh["y"])
        (r,) = rate(model, mode)
        eigenvalue = sum(4 / h**2 * math.sin(k * h / 2) ** 2
                         for k, h in ((kx, grid.spacing["x"]), (ky, grid.spacing["y"])))
        assert np.allclose(r, -0.5 * eigenvalue * mode, atol=1e-10)


def test_a_constant_tensor_has_the_eigenvalues_of_its_plane_waves():
    # −(kᵀDk) as the grid refines; the mixed derivative is centred: order 2
    D = [[1.0, 0.4], [0.4, 0.5]]
    k = 2 * np.pi * np.array([1.0, 2.0])
    errors = []
    for n in (32, 64):
        grid = Grid(x=(0.0, 1.0, n), y=(0.0, 1.0, n))
        wave = np.cos(k[0] * grid.mesh["x"] + k[1] * grid.mesh["y"])
        model = PDE(grid, diffusivity=D, boundary={"x": Periodic(), "y": Periodic()})
        errors.append(np.abs(rate(model, wave)[0] + (k @ np.array(D) @ k) * wave).max())
    assert abs(math.log2(errors[0] / errors[1]) - 2.0) < 0.1


def test_cross_diffusion_and_slopes_in_reactions():
    grid = Grid(x=(0.0, 1.0, 64))
    x = grid.coordinates["x"]
    u, v = np.sin(2 * np.pi * x), np.cos(2 * np.pi * x)
    model = PDE(grid, state=("u", "v"), boundary={"x": Periodic()}, reaction={"v": "ddx(u)**2"},
                diffusivity={"u": {"u": 0.1, "v": 0.3}, "v": 0.0})
    du, dv = rate(model, u, v)
    # second differences of sin and cos are exact up to the factor sin²(kh/2)/(kh/2)²
    h, k = 1 / 64, 2 * np.pi
    factor = (math.sin(k * h / 2) / (k * h / 2)) ** 2 * k * k
    assert np.allclose(du, -factor * (0.1 * u + 0.3 * v), atol=1e-10)
    assert np.allclose(dv, (math.sin(k * h) / h * np.cos(k * x)) ** 2, atol=1e-10)


def test_static_parts_are_hoisted_and_the_rest_is_not():
    grid = Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8))
    model = PDE(grid, diffusivity="1 + x*y", reaction="exp(-x**2)*k - cos(t)*u", parameters={"k": 2.0})
    stencil = discretise(model)
    assert {static.mean for static in stencil.statics.values()} == {"harmonic", "cell"}
    # the reaction's exp(−x²)·k is one array, a row along x
    (cell,) = [name for name, s in stencil.statics.items() if s.mean == "cell"]
    row = static_arrays(stencil, {"k": np.array([1.0, 3.0])})[cell]
    assert row.shape == (2, 1, 10)
    assert np.allclose(row[1, 0, 1:-1], 3 * np.exp(-grid.coordinates["x"] ** 2), rtol=1e-15)


def test_gershgorin_bounds_the_spectrum_of_the_dense_matrix():
    grid = Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 5))
    edges = {"x": (Robin(1.0, 0.3, 0.0), Neumann(0.0)), "y": (Dirichlet(0.0), Neumann(0.0))}
    for D in (0.7, "0.1 + x*y", "where(x < 0.4, 1, 0.01)"):
        model = PDE(grid, diffusivity=D, boundary=edges)
        columns = [rate(model, unit.reshape(5, 7))[0].ravel() for unit in np.eye(35)]
        largest = np.abs(np.linalg.eigvals(np.array(columns).T)).max()
        (bound,) = spectra(discretise(model), {}, np.ones((1, 1, 5, 7)), [0.0])
        assert largest <= bound.diffusion <= 2.0 * largest
    (bound,) = spectra(discretise(PDE(grid, diffusivity=0.7)), {}, np.ones((1, 1, 5, 7)), [0.0])
    assert bound.diffusion == pytest.approx(4 * 0.7 * (49 + 25))


def test_cell_peclet_number():
    model = PDE(Grid(x=(0.0, 1.0, 10)), diffusivity=0.02, velocity={"x": -0.5}, boundary={"x": Periodic()})
    assert peclet(discretise(model), {}, np.zeros((1, 1, 10)), 0.0) == pytest.approx(0.5 * 0.1 / 0.02)
    _, _, notes = stencil_run(model, "ssprk3", np.zeros((1, 1, 10)), None, [0.0, 0.1], members=[0])
    assert notes["advection"] == "limited"


def test_what_a_stencil_cannot_do_is_refused_by_name():
    grid = Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 8))
    with pytest.raises(ValueError, match="advection is one of central, upwind, limited, weno"):
        discretise(PDE(grid, diffusivity=1.0), "downwind")
    with pytest.raises(ValueError, match="a given flux"):
        discretise(PDE(RadialGrid(r=(0.0, 1.0, 8)), diffusivity=1.0, noise=ConservedNoise(1.0), boundary={
            "r": Robin(1.0, 1.0, 0.0)}))
    with pytest.raises(ValueError, match="derivatives"):
        discretise(PDE(grid, diffusivity=1.0, noise=WhiteNoise("ddx(u)")))
    with pytest.raises(ValueError, match="not finite"):
        static_arrays(discretise(PDE(grid, diffusivity=1.0, reaction="u*(1/(x - 0.0625))")), {})
    with pytest.raises(ValueError, match="must not be negative"):
        check_diffusivity(discretise(PDE(grid, diffusivity="k", parameters={"k": 1.0})), {"k": np.array([1.0, -0.1])},
                          np.zeros((1, 2, 8, 8)), [0.0])
    with pytest.raises(ValueError, match="negative somewhere"):
        static_arrays(discretise(PDE(grid, diffusivity="k + x", parameters={"k": 1.0})), {"k": -0.5})


def test_right_side_is_one_expression_of_neighbouring_cells():
    stencil = discretise(PDE(Grid(x=(0.0, 3.0, 3)), diffusivity="k", reaction="-u", parameters={"k": 1.0}))
    env = {"k": 2.0, ("u", (-1,)): 1.0, ("u", (0,)): 4.0, ("u", (1,)): 9.0}
    assert evaluate(stencil.right_side, env) == [2.0 * (1.0 - 8.0 + 9.0) - 4.0]
