"""The front door on every grid: Datasets, units, files, provenance, statistics, certificates, what is chosen."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import sdesim as sim
from sdesim import config

DISK = (np.arange(12) - 5.5) ** 2 + (np.arange(12)[:, None] - 5.5) ** 2 < 6.0
GRIDS = {
    "stretched": sim.Grid(x=np.array([0.0, 0.1, 0.3, 0.6, 1.0]), y=(0.0, 1.0, 5)),
    "ball": sim.RadialGrid(r=(0.0, 1.0, 8)),
    "cylinder": sim.RadialGrid(r=(0.2, 1.0, 6), z=(0.0, 1.0, 4), geometry="cylinder"),
    "sphere": sim.SphereGrid(lat=6, lon=10, radius=2.0),
    "band": sim.SphereGrid(lat=(-30.0, 60.0, 6), lon=(0.0, 90.0, 5)),
    "mask": sim.Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 12), mask=DISK),
    "sea": sim.SphereGrid(lat=12, lon=12, mask=DISK),
}


@pytest.mark.parametrize("kind", GRIDS)
def test_save_open_and_rerun_on_every_grid(kind, tmp_path):
    grid = GRIDS[kind]
    model = sim.PDE(grid, diffusivity="D*(1 + 0.1*u**2)", noise=sim.WhiteNoise(0.01), parameters={"D": 0.01})
    field = xr.DataArray(np.random.default_rng(0).random(grid.shape), dims=grid.axes)
    ds = sim.simulate(model, field, [0.0, 0.01], members=3, seed=1, dt=1e-4)
    assert not ds.status.any()
    assert ds.u.dims == ("member", "time", *grid.axes)
    wet = np.ones(grid.shape, bool) if grid.mask is None else ~grid.mask
    assert np.array_equal(np.isfinite(ds.u.values), np.broadcast_to(wet, ds.u.shape))
    sim.save(ds, tmp_path / "a.nc")
    again = sim.open(tmp_path / "a.nc")
    assert np.array_equal(again.u, ds.u, equal_nan=True)
    one = sim.rerun(tmp_path / "a.nc", members=[2])
    assert np.array_equal(one.u[0], ds.u.sel(member=2), equal_nan=True)
    if not grid.is_box:
        name = next(name for name in ds.coords if str(name).startswith("cell_"))
        assert np.array_equal(ds[name], grid.volumes)
        assert np.array_equal(again[name], grid.volumes)


def test_names_and_units_follow_cf():
    globe = sim.simulate(sim.PDE(GRIDS["sphere"], diffusivity=1.0, units={"radius": "km"}), 1.0, [0.0])
    assert globe.lat.attrs["standard_name"] == "latitude"
    assert (globe.lat.attrs["units"], globe.lon.attrs["units"]) == ("degrees_north", "degrees_east")
    assert globe.cell_area.attrs == {"long_name": "area of the cells", "units": "km2", "standard_name": "cell_area"}
    assert globe.u.attrs["cell_measures"] == "area: cell_area"
    assert float(globe.cell_area.sum()) == pytest.approx(16 * np.pi, rel=1e-13)
    ball = sim.simulate(sim.PDE(GRIDS["ball"], diffusivity=1.0, units={"r": "mm"}), 1.0, [0.0])
    assert (ball.r.attrs["units"], ball.cell_volume.attrs["units"]) == ("mm", "mm3")


def test_cf_checker_finds_nothing(tmp_path):
    for name in ("sea", "stretched"):
        ds = sim.simulate(sim.PDE(GRIDS[name], diffusivity=0.1), 1.0, [0.0, 1.0])
        sim.save(ds, tmp_path / f"{name}.nc")
    checker = [str(Path(sys.executable).with_name("compliance-checker")), "--test=cf:1.11", "--criteria=strict"]
    done = subprocess.run([*checker, *map(str, tmp_path.iterdir())], capture_output=True, text=True, check=False)
    assert done.stdout.count("All tests passed!") == 2, done.stdout


def test_statistics_leave_masked_cells_out():
    model = sim.PDE(GRIDS["mask"], diffusivity=0.01, noise=sim.WhiteNoise(0.05))
    states = sim.simulate(model, 1.0, [0.1], members=8, seed=2)
    kept = sim.simulate(model, 1.0, [0.1], members=8, seed=2, save="statistics")
    assert np.allclose(kept.u_mean, states.u.mean("member", skipna=False), equal_nan=True, rtol=1e-12)
    assert np.isnan(kept.u_variance.values[..., DISK]).all()
    assert int(kept.u_histogram.sum()) == 8 * int((~DISK).sum())


def test_certificates_see_the_field_alone():
    model = sim.PDE(GRIDS["mask"], diffusivity=0.1, boundary={"mask": sim.Dirichlet(3.0)})
    start = np.where(DISK, np.nan, 1.0)
    ds = sim.simulate(model, start, [0.0, 0.05])
    assert ds.minimum_u.item() == 1.0
    assert 1.0 < ds.maximum_u.item() < 3.0
    assert ds.maximum_principle_u.item() == 0.0
    assert "mass_residual_u" not in ds
    closed = sim.simulate(sim.PDE(GRIDS["mask"], diffusivity=0.1), "x", [0.0, 0.05])
    assert closed.mass_residual_u.item() < 1e-14
    ball = sim.PDE(GRIDS["ball"], diffusivity=1.0, reaction="r", boundary={"r": sim.Neumann(2.0)})
    assert sim.simulate(ball, "r**2", [0.0, 0.3]).mass_residual_u.item() < 1e-13


def test_initial_fields_where_no_field_is():
    model = sim.PDE(GRIDS["mask"], diffusivity=0.1)
    with pytest.raises(ValueError, match="finite"):
        sim.simulate(model, np.where(DISK, 1.0, np.nan), [0.1])
    ds = sim.simulate(model, sim.GaussianField(std=0.1, length=0.2), [0.0], members=2, seed=4)
    box = sim.simulate(sim.PDE(sim.Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 12)), diffusivity=0.1),
                       sim.GaussianField(std=0.1, length=0.2), [0.0], members=2, seed=4)
    assert np.array_equal(ds.u.values[..., ~DISK], box.u.values[..., ~DISK])
    for grid in (GRIDS["ball"], GRIDS["mask"]):
        with pytest.raises(ValueError, match="finite-volume"):
            sim.simulate(sim.PDE(grid, diffusivity=0.1), 1.0, [0.1], method="exact")


def test_what_is_chosen_and_why():
    def chosen(grid, **terms):
        ds = sim.simulate(sim.PDE(grid, **terms), 1.0, [0.01])
        return ds.attrs["method"], ds.attrs["method_reason"]

    assert chosen(GRIDS["mask"], diffusivity=1.0)[0] == "rkl2"
    assert chosen(GRIDS["ball"], diffusivity=1.0)[0] == "rkl2"
    method, reason = chosen(GRIDS["sea"], diffusivity=1.0)
    assert (method, "meridians" in reason) == ("tr_bdf2", True)
    assert chosen(GRIDS["band"], diffusivity=1.0, reaction="u*(1 - u)")[0] == "ars232"
    assert chosen(GRIDS["sphere"], diffusivity="2 + cos(pi*lat/180)", noise=sim.WhiteNoise(0.1))[0] == "crank_nicolson"
    assert chosen(GRIDS["sphere"], diffusivity="1 + 0.01*u", noise=sim.WhiteNoise(0.1))[0] == "euler_maruyama"


def test_grids_of_a_configuration():
    def grid(**table):
        return config.model({"kind": "pde", "grid": table, "diffusivity": 1.0}).grid

    assert grid(r=[0.0, 1.0, 8], geometry="sphere") == GRIDS["ball"]
    assert grid(lat=6, lon=10, radius=2.0) == GRIDS["sphere"]
    assert grid(x=[0.0, 0.1, 0.3, 0.6, 1.0], y=[0.0, 1.0, 5]) == GRIDS["stretched"]
    assert grid(x=[0.0, 1.0, 12], y=[0.0, 1.0, 12], mask=DISK.tolist()) == GRIDS["mask"]
    with pytest.raises(config.ConfigError, match="unknown entry 'spin'"):
        grid(lat=6, lon=10, spin=1.0)


def test_steady_states_know_the_mask_and_the_volumes():
    held = sim.PDE(GRIDS["mask"], diffusivity=1.0, boundary={"x": sim.Dirichlet(2.0), "mask": sim.Dirichlet(2.0)})
    ds = sim.steady(held, 0.0)
    assert np.isnan(ds.u.values[..., DISK]).all()
    assert np.allclose(ds.u.values[..., ~DISK], 2.0, rtol=1e-9)
    # nothing holds the mean, which stays: ∇²u = −sin φ on a sphere of radius 2 is met by u = 2 sin φ
    globe = sim.PDE(sim.SphereGrid(lat=16, lon=8, radius=2.0), diffusivity=1.0, reaction="sin(pi*lat/180)")
    found = sim.steady(globe, 3.0)
    assert np.abs(found.u - 3.0 - 2.0 * np.sin(np.radians(found.lat))).max() < 0.02
