"""Fields that are correlated in space on unequal cells: modes of the finite volumes, covariances, mesh independence."""

import numpy as np
import pytest

import sdesim as sim
from sdesim.eigenmodes import CellTransform, transform_of
from sdesim.fields import normalising_variance, spectral_density
from sdesim.kernels.field_noise import Colour
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.vector import Vector
from sdesim.stencils import discretise

RISING = np.cumsum(np.r_[0.0, 1.0 + 0.3 * np.sin(np.arange(9))])
GRIDS = {
    "stretched": (sim.Grid(x=RISING, y=(0, 1, 4)), ("dirichlet", "periodic")),
    "cylinder": (sim.RadialGrid(r=(0, 1, 6), geometry="cylinder", z=(0, 1, 5)), ("dirichlet-neumann", "neumann")),
    "ball": (sim.RadialGrid(r=(0, 1, 9)), ("neumann",)),
    "globe": (sim.SphereGrid(lat=(-90, 90, 6), lon=8), ("neumann", "periodic")),
    "region": (sim.SphereGrid(lat=(10, 50, 5), lon=(0, 60, 6), radius=2.0), ("neumann-dirichlet", "neumann")),
}
SIDES = {"dirichlet": (sim.Dirichlet(0.0),) * 2, "neumann": (sim.Neumann(0.0),) * 2, "periodic": sim.Periodic(),
         "dirichlet-neumann": (sim.Dirichlet(0.0), sim.Neumann(0.0)),
         "neumann-dirichlet": (sim.Neumann(0.0), sim.Dirichlet(0.0))}


@pytest.mark.parametrize("name", GRIDS)
def test_the_modes_are_those_of_the_finite_volumes(name):
    grid, kinds = GRIDS[name]
    open_axes = [axis for axis in grid.axes if not grid.wraps(axis) and not any(grid.closed(axis))]
    boundary = {axis: SIDES[kind] for axis, kind in zip(grid.axes, kinds) if axis in open_axes}
    stencil = discretise(sim.PDE(grid, diffusivity=1.0, boundary=boundary))
    reference = Reference(stencil, {}, {key: values[0] for key, values in static_arrays(stencil, {}).items()})
    u, modes = np.random.default_rng(1).random((2, *grid.shape)), CellTransform(grid, kinds)
    assert np.abs(modes.inverse(modes.forward(u)) - u).max() < 1e-13
    assert np.isclose((modes.forward(u) ** 2).sum(), (grid.volumes * u**2).sum())
    rate = sum(k**2 for k in modes.wavenumbers.values())
    slope = np.stack([reference.f(0.0, Vector([one]))[0] for one in u])
    assert np.abs(modes.forward(slope) + rate * modes.forward(u)).max() < 1e-12 * rate.max()


def covariance(grid, length, smoothness, boundary=None):
    """Of the increments of unit noise in the cells, over the step, by the columns of the map from its normals."""
    model = sim.PDE(grid, diffusivity=1.0, noise=sim.ColouredNoise(1.0, length, smoothness), boundary=boundary)
    stencil = discretise(model)
    made = Colour(model, stencil.sources[0])(np.eye(grid.size).reshape(grid.size, *grid.shape)).reshape(grid.size, -1)
    root = 1.0 / np.sqrt(np.broadcast_to(grid.volumes, grid.shape).ravel())
    return root[:, None] * (made.T @ made) * root


LAWS = {None: lambda r: np.exp(-0.5 * r * r), 0.5: lambda r: np.exp(-r),
        1.5: lambda r: (1 + 3**0.5 * r) * np.exp(-(3**0.5) * r),
        2.5: lambda r: (1 + 5**0.5 * r + 5 / 3 * r * r) * np.exp(-(5**0.5) * r)}


def stretched(n):
    s = np.linspace(0.0, 1.0, n + 1)
    return s + 0.06 * np.sin(2 * np.pi * s)  # cells from 0.6 to 1.4 of the mean


@pytest.mark.parametrize("smoothness", LAWS)
def test_the_covariance_on_stretched_cells_converges_to_the_analytic_one(smoothness):
    # the waves' eigenvalues and the cells' means err by Δ²; a Matérn spectrum loses Δ^{2ν} beyond the shortest wave
    length, errors = 0.08, []
    for n in (64, 128):
        grid = sim.Grid(x=stretched(n))
        x = grid.coordinates["x"]
        apart = np.abs(x[:, None] - x)
        exact = LAWS[smoothness](np.minimum(apart, 1.0 - apart) / length)
        errors.append(np.abs(covariance(grid, length, smoothness, {"x": sim.Periodic()}) - exact).max())
    assert errors[1] < (0.07 if smoothness == 0.5 else 8e-3)
    assert errors[0] / errors[1] > (1.8 if smoothness == 0.5 else 3.4)


def test_the_variance_in_two_dimensions_does_not_depend_on_the_mesh():
    sides, errors = {"x": sim.Periodic(), "y": sim.Periodic()}, []
    for n in (12, 24):
        grid = sim.Grid(x=stretched(n), y=(0.0, 1.0, n))
        C = covariance(grid, {"x": 0.2, "y": 0.25}, 2.5, sides)
        errors.append(np.abs(C.diagonal() - 1.0).max())
    assert errors[1] < 0.05
    assert errors[0] / errors[1] > 2.5


@pytest.mark.parametrize("grid", [sim.SphereGrid(lat=(-90, 90, 18), lon=36), sim.SphereGrid(lat=18, lon=36)],
                         ids=["equal rows", "Gaussian rows"])
def test_noise_on_a_sphere_has_unit_variance_and_the_same_covariance_by_both_transforms(grid):
    C = covariance(grid, 0.5, 2.5).reshape(18, 36, 18, 36)
    variance = np.array([C[i, 0, i, 0] for i in range(18)])
    weights = grid.volumes[:, 0] / grid.volumes[:, 0].sum()
    assert abs((variance * weights).sum() - 1.0) < 1e-12
    assert np.abs(variance - 1.0).max() < 0.12  # the modes of 18 rows are those of the stencil
    middle = np.abs(grid.coordinates["lat"]).argmin()
    apart = np.radians(grid.coordinates["lon"] - grid.coordinates["lon"][0])[:10]
    chord = np.arccos(np.cos(apart) * np.cos(np.radians(grid.coordinates["lat"][middle])) ** 2 + np.sin(
        np.radians(grid.coordinates["lat"][middle])) ** 2)
    assert np.abs(C[middle, 0, middle, :10] / C[middle, 0, middle, 0] - LAWS[2.5](chord / 0.5)).max() < 0.04


def test_the_transform_has_the_same_bits_in_any_batch():
    for grid, kinds in GRIDS.values():
        modes, z = CellTransform(grid, kinds), np.random.default_rng(2).standard_normal((9, *grid.shape))
        for way in (modes.white, modes.inverse):
            assert np.array_equal(way(z), np.concatenate([way(z[:4]), way(z[4:5]), way(z[5:])]))


@pytest.mark.parametrize("name", GRIDS)
def test_a_gaussian_field_has_its_deviation_in_every_cell_of_any_grid(name):
    grid, kinds = GRIDS[name]
    modes = transform_of(grid, kinds)
    density = spectral_density(modes, 0.4, 1.5)
    unit = np.eye(grid.size).reshape(grid.size, *grid.shape)
    made = modes.inverse(modes.white(unit) * np.sqrt(density)).reshape(grid.size, *grid.shape)
    variance = (made**2).sum(axis=0)
    held = tuple(k for k, kind in enumerate(kinds) if "dirichlet" in kind)
    ratio = variance / normalising_variance(modes, density)
    assert np.allclose(ratio.mean(axis=held) if held else ratio, 1.0, rtol=1e-12)
    field = sim.GaussianField(std=2.0, length=0.4, smoothness=1.5)
    whole = field.sample(grid, seed=3, members=range(400), kinds=kinds)
    assert abs(whole.var() / 4.0 - 1.0) < 0.5
    assert np.array_equal(field.sample(grid, seed=3, members=[7], kinds=kinds)[0], whole[7])


def test_coloured_noise_drives_a_ball_as_its_modes_say():
    # without diffusion the variance grows as σ² t times that of the sheet
    grid, noise = sim.RadialGrid(r=(0.0, 1.0, 12)), sim.ColouredNoise(0.3, 0.5)
    model = sim.PDE(grid, diffusivity=0.0, noise=noise)
    ds = sim.simulate(model, sim.GaussianField(std=0.0, length=0.3), [2.0], members=2000, dt=0.1,
                      method="euler_maruyama", seed=5)
    exact = 0.09 * 2.0 * covariance(grid, 0.5, None).diagonal()
    assert np.abs(ds.u.values[:, 0].var(axis=0) / exact - 1.0).max() < 5 * np.sqrt(2 / 2000)
