"""Datasets and files: CF on disk, the same bits back, the old file safe whatever happens to the new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import sdesim as sim
from sdesim import datasets, storage


def ensemble(members: int = 3, dtype: str = "float64", time_unit: str = "s") -> xr.Dataset:
    """A small field ensemble with everything that a run may carry."""
    rng = np.random.default_rng(0)
    shape = (members, 4, 5, 6)
    return datasets.to_dataset(
        {"u": rng.normal(size=shape).astype(dtype)},
        members=np.arange(members) + 40,
        times=[0.0, 0.1, 0.25, 1 / 3],
        space={"y": np.linspace(0.1, 0.9, 5), "x": np.linspace(-1, 1, 6)},
        parameters={"D": np.exp(rng.normal(size=members)), "k": 0.3},
        status=np.arange(members) % 2,
        variables={"exit_time": (("member",), np.full(members, np.nan), {"units": "s", "long_name": "exit time"})},
        units={"u": "K", "D": "m2 s-1", "time": time_unit},
        attributes={"seed": 7, "equation": "∂u/∂t = ∇·(D ∇u)"},
    )


@pytest.mark.parametrize("compress", [False, True])
def test_another_reader_sees_the_same_values(tmp_path: Path, compress: bool) -> None:
    path = storage.save(ensemble(), tmp_path / "run.nc", compress=compress)
    with xr.open_dataset(path, engine="h5netcdf", decode_times=False, decode_timedelta=False) as raw:
        for name in ("u", "status", "time", "D", "exit_time"):
            np.testing.assert_array_equal(raw[name], ensemble()[name])


def cf_report(paths: list[Path]) -> list[str]:
    """What the CF checker has to say about these files, line by line; one line for each clean file."""
    checker = [str(Path(sys.executable).with_name("compliance-checker")), "--test=cf:1.11", "--criteria=strict"]
    done = subprocess.run([*checker, *map(str, paths)], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith(("* ", "All tests passed"))]


def assert_clean(paths: list[Path]) -> None:
    assert cf_report(paths) == ["All tests passed!"] * len(paths)


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype, unit", [("float64", "s"), ("float32", "d"), ("float64", "1")])
def test_a_file_gives_back_the_same_dataset(tmp_path: Path, ending: str, compress: bool, dtype: str, unit: str) -> None:
    ds = ensemble(dtype=dtype, time_unit=unit)
    path = storage.save(ds, tmp_path / f"run{ending}", compress=compress)
    with storage.open(path) as back:
        assert back.identical(ds)  # values bit for bit, names, order and attributes
        assert back.time.dtype == np.float64
        assert back.time.attrs["units"] == unit
        assert back.u.dtype == np.dtype(dtype)
        assert back.member.dtype == np.int32
        assert back.status.attrs["flag_values"].dtype == np.int8
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_member_numbers_above_31_bits_survive(tmp_path: Path) -> None:
    ds = datasets.to_dataset({"x": np.zeros((2, 1))}, members=[3, 2**32 - 1], times=[0.0])
    with storage.open(storage.save(ds, tmp_path / "x.nc")) as back:
        assert back.member.values.tolist() == [3, 2**32 - 1]


def test_time_on_disk_is_cf_and_coordinates_have_no_fill_value(tmp_path: Path) -> None:
    path = storage.save(ensemble(), tmp_path / "run.nc")
    with xr.open_dataset(path, decode_times=False) as raw:
        assert raw.time.attrs["units"] == "seconds since 2000-01-01 00:00:00"
        assert all("_FillValue" not in raw[name].encoding for name in raw.coords)
    with xr.open_dataset(path, decode_timedelta=False) as decoded:  # any CF reader sees dates
        assert decoded.time.values[1] == np.datetime64("2000-01-01T00:00:00.100")


def test_files_are_clean_under_the_cf_checker(tmp_path: Path) -> None:
    y, x, about = np.arange(3.0), np.arange(4.0), ("source", "references", "comment", "institution")
    clean = {
        "line": ({"x": x}, {"x": "km"}),
        "plane": ({"y": y, "x": x}, {}),
        "globe": ({"lat": np.linspace(60, -60, 3), "lon": x}, {"u": "K"}),
        "path": ({}, {"time": "d", "D": "m2 s-1"}),
    }
    # CF knows no axis without length or angle, so it cannot see that these dimensions are in its order
    noted = {"ball": ({"r": x}, {}), "dimensionless": ({"z": y, "x": x}, {"x": "1", "z": "1"})}
    for name, (axes, units) in (clean | noted).items():
        ds = datasets.to_dataset(
            {"u": np.zeros((2, 3, *(len(values) for values in axes.values())))},
            members=[0, 1], times=[0.0, 1.0, 2.0], space=axes, parameters={"D": np.array([1.0, 2.0]), "k": 1.0},
            status=[0, 1], units=units, attributes=dict.fromkeys(about, "a test"),
        )  # fmt: skip
        storage.save(ds, tmp_path / f"{name}.nc")
    assert_clean([tmp_path / f"{name}.nc" for name in clean])
    notes = cf_report([tmp_path / f"{name}.nc" for name in noted])
    assert all("recommended order T, Z, Y, X" in note for note in notes)


@pytest.mark.parametrize("what", ["states", "statistics"])
def test_what_simulate_returns_is_clean_on_disk(tmp_path: Path, what: str) -> None:
    grid = sim.Grid(x=(0.0, 1.0, 8), y=(0.0, 1.0, 6))
    units = {"u": "K", "D": "m2 s-1"}
    heat = sim.PDE(grid, diffusivity="D", noise=sim.WhiteNoise(0.1), parameters={"D": 0.01}, units=units)
    ornstein = sim.SDE({"x": "-k*x"}, {"x": 1}, parameters={"k": 1.0})
    for name, model, initial in (("heat", heat, {"u": 1.0}), ("ou", ornstein, {"x": 0.5})):
        spread = {next(iter(model.parameters)): stats.uniform(0.01, 0.02)}
        ds = sim.simulate(model, initial, [0.0, 0.5], members=3, parameters=spread, seed=1, save=what)
        sim.save(ds, tmp_path / f"{name}.nc")
    assert_clean(sorted(tmp_path.glob("*.nc")))


def test_dates_stay_dates_and_latitude_keeps_its_order(tmp_path: Path) -> None:
    hours = np.datetime64("2019-03-01", "ns") + np.arange(5) * np.timedelta64(1, "h")
    latitude = ("lat", np.linspace(58.0, 50.0, 9), datasets.axis_attributes("lat"))
    ds = xr.Dataset({"t2m": (("time", "lat"), np.ones((5, 9), "f4"))}, {"time": hours, "lat": latitude})
    for ending in (".nc", ".zarr"):
        with storage.open(storage.save(ds, tmp_path / f"t{ending}")) as back:
            assert back.time.dtype.kind == "M"
            assert back.lat.values[0] == 58.0
            xr.testing.assert_identical(back.load(), ds)


def test_chunks_open_as_dask_arrays(tmp_path: Path) -> None:
    ds = ensemble(members=4)
    with storage.open(storage.save(ds, tmp_path / "run.nc"), chunks={"member": 2}) as back:
        assert back.u.chunks is not None
        assert back.u.chunks[0] == (2, 2)
        assert float(back.u.sum()) == pytest.approx(float(ds.u.sum()), rel=1e-12)


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_a_failing_write_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = storage.save(ensemble(), tmp_path / f"run{ending}")
    bad = ensemble().assign(wrong=("member", np.array([{}, {}, {}], dtype=object)))
    with pytest.raises((TypeError, ValueError, NotImplementedError, AttributeError)):
        storage.save(bad, path)
    with storage.open(path) as back:
        assert back.identical(ensemble())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_without_an_exchange_of_folders_two_renames_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.save(ensemble(members=2), tmp_path / "run.zarr")
    monkeypatch.setattr(storage, "_exchange", lambda a, b: False)
    storage.save(ensemble(), path)
    with storage.open(path) as back:
        assert back.identical(ensemble())
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not storage._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_missing_extras_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = storage.save(ensemble(), tmp_path / "run.nc")
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'sdesim\[dask\]'"):
        storage.open(path, chunks={"member": 1})
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'sdesim\[zarr\]'"):
        storage.save(ensemble(), tmp_path / "run.zarr")


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_a_file_can_be_saved_onto_itself(tmp_path: Path, ending: str) -> None:
    path = storage.save(ensemble(), tmp_path / f"run{ending}")
    with storage.open(path) as lazy:
        storage.save(lazy.assign(v=lazy.u * 2), path)
    with storage.open(path) as back:
        np.testing.assert_array_equal(back.v, 2 * ensemble().u)


@pytest.mark.parametrize("ending", [".nc", ".zarr"])
def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = storage.save(ensemble(), tmp_path / f"run{ending}")
    script = f"""
        import numpy as np
        from sdesim import datasets, storage
        u = np.random.default_rng(0).normal(size=(60, 10, 100, 100))
        ds = datasets.to_dataset({{"u": u}}, members=np.arange(60), times=np.arange(10.0),
                                 space={{"y": np.arange(100.0), "x": np.arange(100.0)}})
        while True:
            storage.save(ds, {str(tmp_path / "other")!r} + {ending!r}, compress=True)
            storage.save(ds, {str(path)!r}, compress=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        deadline = time.monotonic() + 60
        began = False
        while not began and time.monotonic() < deadline:
            assert child.poll() is None
            began = any(tmp_path.glob(".run-*"))  # one look decides: the write may end before a second one
        assert began, "the write never began"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with storage.open(path) as back:
        assert back.identical(ensemble())


def test_unknown_endings_and_targets_are_refused_before_work(tmp_path: Path) -> None:
    ds = ensemble()
    with pytest.raises(ValueError, match=r"wanted \.nc .* or \.zarr"):
        storage.save(ds, tmp_path / "run.hdf")
    with pytest.raises(FileNotFoundError, match="does not exist: make it"):
        storage.save(ds, tmp_path / "missing" / "run.nc")
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "diary.txt").write_text("precious")
    with pytest.raises(IsADirectoryError, match="not replaced"):
        storage.save(ds, tmp_path / "notes.zarr")
    assert (tmp_path / "notes.zarr" / "diary.txt").read_text() == "precious"
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(IsADirectoryError, match="a folder"):
        storage.save(ds, tmp_path / "folder.nc")
    with pytest.raises(TypeError, match=r"wants an xarray\.Dataset, got DataArray"):
        storage.save(ds.u, tmp_path / "run.nc")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'flag' of the Dataset is a bool"):
        storage.save(ds.assign_attrs(flag=True), tmp_path / "run.nc")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.nc", "notes.zarr"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        storage.save(ensemble(), tmp_path / "run.nc")


def test_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = storage.save(ensemble(), tmp_path / "run.nc")
    whole = path.read_bytes()
    for keep in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match="truncated|not a NetCDF file"):
            storage.open(path)
    path.write_text("PK not a netcdf")
    with pytest.raises(ValueError, match="not a NetCDF file"):
        storage.open(path)
    with pytest.raises(FileNotFoundError, match="nothing lies at"):
        storage.open(tmp_path / "nowhere.nc")
    store = storage.save(ensemble(), tmp_path / "run.zarr")
    (store / "u" / "zarr.json").write_text('{"shape": [3,')
    with pytest.raises(ValueError, match="truncated, damaged"):
        storage.open(store)
    (store / "zarr.json").unlink()
    with pytest.raises(ValueError, match="no Zarr group"):
        storage.open(store)


def test_shapes_that_contradict_the_coordinates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'x' must have shape \(2, 1\) over \(member, time\), it has \(1, 2\)"):
        datasets.to_dataset({"x": np.zeros((1, 2))}, members=[0, 1], times=[0.0])
    with pytest.raises(ValueError, match="strictly increasing"):
        datasets.to_dataset({"x": np.zeros((1, 2))}, members=[0], times=[1.0, 1.0])
    with pytest.raises(ValueError, match="parameter 'x' has the name of a variable"):
        datasets.to_dataset({"x": np.zeros((1, 1))}, members=[0], times=[0.0], parameters={"x": 1.0})
    with pytest.raises(ValueError, match=r"names the dimensions \['cell'\]"):
        datasets.to_dataset({}, members=[0], times=[0.0], variables={"m": (("cell",), [1.0], {})})
