"""A file makes its own data again, bit for bit: whole, in part, by any design, from any kind of input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import sdesim as sim

GRID = sim.Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 6))
WAVE = xr.DataArray(np.sin(np.arange(48.0)).reshape(6, 8), dims=("y", "x"))
RUNS: dict[str, tuple[Any, ...]] = {
    "distribution": (sim.SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1.0, "s": stats.uniform(0.5, 1.0)}),
                     {"x": stats.norm(1.0, 0.5)}, {"k": stats.lognorm(0.3)}),
    "arrays": (sim.SDE({"x": "-k*x"}, {"x": 1}, parameters={"k": np.linspace(1, 2, 6)}),
               {"x": np.linspace(-1, 1, 6)}, {}),
    "functions": (sim.SDE({"x": lambda x, k: np.tanh(k * x) - x}, {"x": "0.1"}, parameters={"k": 0.7}),
                  {"x": lambda k: np.exp(-k)}, {"k": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}),
    "general noise": (sim.SDE({"x": "-x", "y": "x"}, {"x": {"a": "y", "b": 1}, "y": {"a": "0.1*x"}}),
                      {"x": 1.0, "y": "pi/4"}, {}),
    "random field": (sim.PDE(GRID, diffusivity="D", noise=sim.WhiteNoise(0.1), parameters={"D": 0.01}),
                     {"u": sim.GaussianField("cos(pi*x)", 0.5, 0.2, 1.5)}, {"D": stats.lognorm(0.3, scale=0.01)}),
    "given field": (sim.PDE(GRID, diffusivity=np.linspace(0.01, 0.02, 48).reshape(6, 8)), {"u": WAVE}, {}),
    "field by member": (sim.PDE(GRID, diffusivity=0.01), {"u": np.random.default_rng(0).normal(size=(6, 6, 8))}, {}),
}  # fmt: skip


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
@pytest.mark.parametrize("what", RUNS)
def test_a_file_makes_itself_again(tmp_path: Path, what: str, ending: str) -> None:
    model, initial, parameters = RUNS[what]
    dt = 0.02 if isinstance(model, sim.SDE) else None
    ds = sim.simulate(model, initial, [0.0, 0.1, 0.3], members=6, parameters=parameters, dt=dt, seed=2**63 + 5)
    path = sim.save(ds, tmp_path / f"run{ending}")
    again = sim.rerun(path)
    reason = {"method_reason": ""}  # a rerun asks for the method that the first run chose
    xr.testing.assert_identical(again.assign_attrs(reason), ds.assign_attrs(reason))
    part = sim.rerun(path, members=[4, 1])
    xr.testing.assert_equal(part, ds.isel(member=[4, 1]))


@pytest.mark.parametrize("design", ["random", "sobol", "lhs"])
def test_a_member_of_any_design_can_be_replayed(design: str) -> None:
    model, initial, parameters = RUNS["distribution"]
    ds = sim.simulate(model, initial, [0.0, 0.5], members=7, parameters=parameters, design=design, dt=0.05, seed=3)
    xr.testing.assert_equal(sim.rerun(ds, members=[5]), ds.isel(member=[5]))


def test_a_file_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    model, initial, _ = RUNS["arrays"]
    ds = sim.simulate(model, initial, [0.0, 0.5], members=6, dt=0.05)
    text = ds.attrs["sdesim_provenance"]
    for bad in (text[:-20], text.replace("-k*x", "__import__('os')"), text.replace('"SDE"', '"subprocess.run"')):
        assert bad != text
        path = sim.save(ds.assign_attrs(sdesim_provenance=bad), tmp_path / "bad.nc")
        with pytest.raises(ValueError):
            sim.rerun(path)
    with pytest.raises(ValueError, match="no attribute 'sdesim_provenance'"):
        sim.rerun(xr.Dataset())


def test_a_window_of_one_member_saved_more_finely() -> None:
    model = sim.SDE({"x": "-x"}, {"x": "0.3 + 0.1*x"}, bounds={"x": sim.Absorbing(hi=4.0)})
    for start in (0.0, -1.0):
        ds = sim.simulate(model, {"x": 1.0}, start + np.array([0.5, 1.0, 2.0]), members=9, seed=5)
        fine = start + np.array([0.9, 1.0, 1.0371, 1.5, 2.0])
        part = sim.rerun(ds, members=[7], times=fine)
        assert part.sizes["member"] == 1 and part.time.values.tolist() == fine.tolist()
        for t in start + np.array([1.0, 2.0]):
            assert part.x.sel(time=t).item() == ds.x.sel(member=7, time=t).item()
        again = sim.rerun(part, times=[start + 1.0371])
        assert again.x.item() == part.x.sel(time=start + 1.0371).item()
    with pytest.raises(ValueError, match="starts at -0.5"):
        sim.rerun(ds, times=[-0.7, 1.0])
    with pytest.raises(ValueError, match="increasing"):
        sim.rerun(ds, times=[1.0, 0.5])


@pytest.mark.parametrize("model, method", [
    (sim.SDE({"x": "-x"}, {"x": "0.3"}), "exact"), (sim.PDE(GRID, diffusivity=0.01, noise=sim.WhiteNoise(0.1)), None),
])  # fmt: skip
def test_noise_from_save_to_save_has_windows_of_its_own_times(model: Any, method: str | None) -> None:
    ds = sim.simulate(model, 1.0, [0.1, 0.25, 0.3, 0.7], members=3, seed=5, method=method)
    part = sim.rerun(ds, members=[1], times=[0.25, 0.3])
    name = "x" if method else "u"
    xr.testing.assert_equal(part[name], ds[name].isel(member=[1], time=[1, 2]))
    with pytest.raises(ValueError, match="choose times among its own"):
        sim.rerun(ds, times=[0.2, 0.3])


def test_what_a_surrogate_drew_is_not_run_again(tmp_path: Path) -> None:
    ds = sim.simulate(*RUNS["arrays"][:2], [0.0, 0.5], members=6, dt=0.05).assign_attrs(synthetic='{"calls": 18}')
    path = sim.save(ds, tmp_path / "drawn.nc")
    for source in (ds, path):
        with pytest.raises(ValueError, match="drawn by a surrogate"):
            sim.rerun(source)
