"""The surface of a sphere: harmonics and finite volumes against Y_lm, rotation, noise, equal bits, what is refused."""

import math

import numpy as np
import pytest
from scipy.special import lpmv

import sdesim as sim
from sdesim.fields import ColouredNoise, GaussianField, WhiteNoise
from sdesim.spherical import SphereTransform


def harmonic(grid, l, m):
    """Y_lm of the grid's centres, its largest value 1."""
    lat, lon = (np.radians(grid.mesh[name]) for name in ("lat", "lon"))
    u = lpmv(m, l, np.sin(lat)) * np.cos(m * lon)
    return u / np.abs(u).max()


def globe(n, **more):
    return sim.SphereGrid(lat=n, lon=2 * n, **more)


def last(ds):
    assert not ds.status.any()
    return ds.u.values[0, -1]


# --- spherical harmonics


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("l, m", [(0, 0), (1, 1), (2, 0), (5, 3), (23, 17)])
def test_harmonics_decay_to_rounding(l, m, device):
    grid = globe(24, radius=2.0)
    u, D = harmonic(grid, l, m), 0.7
    t = 2.0 / (l * (l + 1) + 1.0)
    ds = sim.simulate(sim.PDE(grid, diffusivity="D", parameters={"D": D}), u, [t], device=device)
    assert ds.attrs["method"] == "exact"
    factor = math.exp(-l * (l + 1) * D * t / 4.0)
    assert np.abs(last(ds) - factor * u).max() < 1e-13 * factor


def test_the_transform_is_orthonormal_with_the_areas_of_the_cells():
    for rows, columns in ((5, 8), (12, 25), (64, 128)):
        transform = SphereTransform(sim.SphereGrid(lat=rows, lon=columns, radius=3.0))
        u = transform.inverse(transform.forward(np.random.default_rng(0).random((2, rows, columns))))
        modes = transform.forward(u)
        assert np.abs(transform.inverse(modes) - u).max() < 1e-11
        energy = (transform.grid.volumes * u * u).sum(axis=(1, 2))
        assert np.allclose((transform.weights * modes**2).sum(axis=(1, 2)), energy, rtol=1e-13)
        # any product of two harmonics is summed exactly, so that l = 0 is the cells' mean
        assert np.allclose(modes[:, 0, 0], (transform.grid.volumes * u).sum(axis=(1, 2)) / (3.0 * math.sqrt(4 * np.pi)))


def test_a_linear_reaction_and_a_source_are_exact_too():
    grid = globe(12)
    u, q = harmonic(grid, 3, 2), harmonic(grid, 2, 1)
    model = sim.PDE(grid, diffusivity=0.5, reaction="q - 0.3*u", parameters={"q": q})
    a, b = 0.5 * 12 + 0.3, 0.5 * 6 + 0.3
    exact = math.exp(-a * 0.4) * u + (1 - math.exp(-b * 0.4)) / b * q
    assert np.abs(last(sim.simulate(model, u, [0.4])) - exact).max() < 1e-13


def test_a_tracer_in_solid_body_rotation_comes_back_and_loses_nothing():
    grid = globe(24, radius=2.0)
    blob = np.exp(-(((grid.mesh["lat"] - 20) / 25) ** 2) - ((grid.mesh["lon"] - 180) / 40) ** 2)
    still = sim.PDE(grid, diffusivity=0.01)
    turning = sim.PDE(grid, diffusivity=0.01, velocity={"lon": "U*cos(pi*lat/180)"}, parameters={"U": 4 * np.pi})
    ds, rest = (sim.simulate(model, blob, [0.25, 1.0]) for model in (turning, still))
    assert ds.attrs["method"] == "exact"
    assert np.abs(ds.u.values - np.stack([np.roll(rest.u.values[:, 0], 12, axis=-1), rest.u.values[:, 1]], 1)).max() < 1e-13
    assert ds.mass_residual_u.item() < 1e-15
    again = sim.simulate(turning, blob, [0.25, 1.0], device="reference")
    assert np.array_equal(again.u, ds.u)


def test_stationary_noise_has_its_variance_for_every_degree():
    # Ornstein–Uhlenbeck in every mode: σ²/(2(λ_l + k)) each, from white noise of σ per √area
    grid = globe(10, radius=1.5)
    model = sim.PDE(grid, diffusivity=0.8, reaction="-0.5*u", noise=WhiteNoise(0.6))
    ds = sim.simulate(model, 0.0, [40.0], members=600, seed=3)
    assert ds.attrs["method"] == "exact"
    transform = SphereTransform(grid)
    power = transform.forward(ds.u.values[:, 0]) ** 2
    present = transform.order <= transform.degree
    for l in range(10):
        chosen = present & (transform.degree == l)
        count = 600 * (2 * l + 1)
        mean = (transform.weights * power)[:, chosen].sum() / count
        exact = 0.36 / (2 * (0.8 * l * (l + 1) / 2.25 + 0.5))
        assert abs(mean / exact - 1.0) < 4.5 * math.sqrt(2.0 / count), l


@pytest.mark.parametrize("smoothness", [None, 1.5])
def test_random_fields_are_the_same_everywhere(smoothness):
    grid = globe(12)
    u = GaussianField(mean=2.0, std=0.5, length=0.6, smoothness=smoothness).sample(grid, seed=1, members=range(1500))
    assert np.abs(u.std(axis=0) / 0.5 - 1.0).max() < 5.5 / math.sqrt(2 * 1500)
    # the correlation depends on the distance: the same along a parallel and along a meridian
    c = np.corrcoef(u.reshape(1500, -1).T).reshape(12, 24, 12, 24)
    lat, lon = (np.radians(grid.coordinates[name]) for name in ("lat", "lon"))
    along = math.acos(np.sin(lat[6]) ** 2 + np.cos(lat[6]) ** 2 * math.cos(lon[2] - lon[0]))
    measured = [c[6, :, 6, :][np.arange(24), (np.arange(24) + 2) % 24].mean(),
                np.interp(along, lat[6:] - lat[6], c[6, :, 6:, :][np.arange(24), :, np.arange(24)].mean(axis=0))]
    assert abs(measured[0] - measured[1]) < 0.05
    assert 0.3 < measured[0] < 0.95


def test_coloured_noise_and_patterns():
    grid = globe(10)
    growth = sim.simulate(sim.PDE(grid, diffusivity=0.0, noise=ColouredNoise(0.3, 0.7)), 0.0, [2.0], members=800, seed=5)
    assert np.abs(growth.u.values[:, 0].var(axis=0) / 0.18 - 1.0).max() < 5.0 * math.sqrt(2 / 800)
    # ∂u/∂t = D∇²u + u − u³ by exponential Runge–Kutta and by finite volumes in time steps as fine
    model = sim.PDE(globe(24), diffusivity=0.05, reaction="u - u**3")
    u = 0.3 * harmonic(model.grid, 2, 1)
    etd, volumes = (sim.simulate(model, u, [1.0], dt=0.02, method=method) for method in (None, "ars232"))
    assert (etd.attrs["method"], volumes.attrs["method"]) == ("etdrk4", "ars232")
    assert np.abs(last(etd) - last(volumes)).max() < 0.01 * np.abs(last(etd)).max()


# --- finite volumes


@pytest.mark.parametrize("rows", ["gaussian", "equal"])
@pytest.mark.parametrize("l, m", [(1, 1), (2, 0), (3, 1), (5, 3)])
def test_finite_volumes_are_of_second_order_up_to_the_poles(l, m, rows):
    errors = []
    for n in (12, 24, 48):
        grid = sim.SphereGrid(lat=n if rows == "gaussian" else (-90.0, 90.0, n), lon=2 * n, radius=2.0)
        u = harmonic(grid, l, m)
        u = u if rows == "gaussian" else u / np.abs(harmonic(sim.SphereGrid(lat=200, lon=8), l, 0)).max()
        t = 1.2 / (l * (l + 1))
        end = last(sim.simulate(sim.PDE(grid, diffusivity=1.0), u, [t], method="tr_bdf2", dt=t / 40))
        errors.append(np.abs(end - math.exp(-0.3) * u).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(orders > 1.85), (errors, orders)


def test_uneven_rows_of_a_band_and_its_edges():
    # sin φ between its own values at two parallels, D(φ) = 1/cos² φ makes φ ↦ ∫ dφ cos φ steady: u = sin φ
    errors = []
    for n in (16, 32, 64):
        lat = np.linspace(-20.0, 70.0, n + 1) + 4.0 * np.sin(np.linspace(0.0, np.pi, n + 1))
        grid = sim.SphereGrid(lat=lat, lon=(0.0, 90.0, 5))
        ends = [math.sin(math.radians(v)) for v in (-20.0, 70.0)]
        model = sim.PDE(grid, diffusivity="1/cos(pi*lat/180)**2",
                        boundary={"lat": (sim.Dirichlet(ends[0]), sim.Dirichlet(ends[1]))})
        u = np.broadcast_to(np.sin(np.radians(grid.mesh["lat"])), grid.shape)
        errors.append(np.abs(last(sim.simulate(model, u, [5.0])) - u).max())
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.8), errors


@pytest.mark.parametrize("terms", [
    {"diffusivity": "1 + 0.5*sin(pi*lon/180)"}, {"diffusivity": "0.1 + u**2"},
    {"diffusivity": 0.1, "velocity": {"lon": "cos(pi*lat/180)", "lat": "0.3*sin(pi*lon/180)"}},
])
def test_all_that_moves_on_a_sphere_keeps_its_mass(terms):
    grid = globe(12)
    ds = sim.simulate(sim.PDE(grid, **terms), np.random.default_rng(0).random(grid.shape), [0.1])
    start = np.random.default_rng(0).random(grid.shape)
    assert abs((grid.volumes * (last(ds) - start)).sum()) < 1e-12 * (grid.volumes * start).sum()
    assert np.abs(last(ds) - start).max() > 0.1


def test_kernel_equals_reference_on_a_sphere_with_land():
    from sdesim.stencil_integrate import stencil_run

    land = np.random.default_rng(4).random((8, 12)) < 0.2
    for grid in (globe(8), sim.SphereGrid(lat=8, lon=12, mask=land)):
        model = sim.PDE(grid, diffusivity="0.1 + 0.1*u", velocity={"lon": "cos(pi*lat/180)", "lat": "u"},
                        reaction="ddlat(u) - 0.1*ddlon(u)", noise=WhiteNoise("0.1*lat/90"))
        u = np.random.default_rng(5).random((1, 2, *grid.shape))
        runs = [stencil_run(model, "euler_maruyama", u, None, [0.0, 1e-3], 1e-4, members=[3, 8], backend=backend)[0]
                for backend in ("kernel", "numpy")]
        assert np.isfinite(runs[0]).all()
        assert np.array_equal(runs[0].view(np.uint64), runs[1].view(np.uint64))


def test_slopes_on_a_sphere_are_per_length():
    from sdesim.stencil_integrate import stencil_run

    grid = globe(48, radius=2.0)
    lat, lon = (np.radians(grid.mesh[name]) for name in ("lat", "lon"))
    u = np.cos(lat) * np.cos(lon) + np.sin(lat)
    for slope, exact in (("ddlat(u)", (np.cos(lat) - np.sin(lat) * np.cos(lon)) / 2.0),
                         ("ddlon(u)", -np.sin(lon) / 2.0 + 0.0 * lat)):
        model = sim.PDE(grid, diffusivity=0.0, reaction=slope)
        end = stencil_run(model, "euler", u[None, None], None, [0.0, 1e-3], 1e-3, members=[0])[0][-1, 0, 0]
        error = np.abs((end - u) / 1e-3 - exact)
        assert error[1:-1].max() < 2e-3
        assert error.max() < 0.03  # one-sided in the rows at the poles


def test_what_a_sphere_refuses():
    with pytest.raises(ValueError, match="at most 360"):
        sim.SphereGrid(lat=8, lon=(0.0, 400.0, 10))
    with pytest.raises(ValueError, match="within -90"):
        sim.SphereGrid(lat=(-100.0, 90.0, 10), lon=8)
    with pytest.raises(ValueError, match="at least two cells"):
        sim.SphereGrid(lat=1, lon=8)
    with pytest.raises(ValueError, match="positive"):
        sim.SphereGrid(lat=8, lon=8, radius=-1.0)
    with pytest.raises(ValueError, match="no edge at both sides"):
        sim.PDE(globe(6), diffusivity=1.0, boundary={"lat": sim.Dirichlet(0.0)})
    with pytest.raises(ValueError, match="all the way round"):
        sim.PDE(globe(6), diffusivity=1.0, boundary={"lon": sim.Neumann(0.0)})
    model = sim.PDE(sim.SphereGrid(lat=(-90.0, 90.0, 6), lon=12), diffusivity=1.0)
    with pytest.raises(ValueError, match="Gaussian rows"):
        sim.simulate(model, 1.0, [0.1], method="exact")
    with pytest.raises(ValueError, match="solid-body rotation alone"):
        sim.simulate(sim.PDE(globe(6), diffusivity=1.0, velocity={"lon": 1.0}), 1.0, [0.1], method="exact")
    with pytest.raises(ValueError, match="tensor"):
        sim.simulate(sim.PDE(globe(6), diffusivity=[[1.0, 0.0], [0.0, 2.0]]), 1.0, [0.1], method="exact")
