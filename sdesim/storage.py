"""Datasets on disk: NetCDF-4 (one file) and Zarr v3 (a folder), written whole or not at all.

A save goes to a hidden sibling first and takes the target's name when it is complete, so an error, a full disk or a
kill leaves the old data untouched. A Zarr store is a folder: where the system cannot exchange two folders in one step
(Linux can), two renames do it.

CF wants dates on a `time` axis; a model has only seconds. On disk model time is "seconds since 2000-01-01" with the
attribute `model_time_units` beside it, which `open` turns back into floats in the model's own unit. Times that are
real dates (datetime64) stay dates, both ways.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdesim.datasets import check_attributes

if TYPE_CHECKING:
    import xarray as xr

EPOCH = "2000-01-01 00:00:00"
_CLOCKS = {"ms": "milliseconds", "min": "minutes", "minutes": "minutes", "h": "hours", "hours": "hours",
           "d": "days", "day": "days", "days": "days"}  # fmt: skip
_CALENDAR = {"calendar": "standard", "units_metadata": "leap_seconds: none"}
_MARK = "model_time_units"


def save(ds: xr.Dataset, path: str | os.PathLike[str], *, compress: bool = False) -> Path:
    """Write `ds` to `path`, `.nc` (NetCDF-4) or `.zarr` (Zarr v3) by its ending, and return the path.

    An existing file is replaced only when the new one is complete. Compression is lossless and off by default: fields
    of floats shrink by 10–25 % and cost thirty times the writing time.

    Raises
    ------
    ValueError
        For an unknown ending, or an attribute that files cannot hold.
    TypeError
        If `ds` is not an xarray.Dataset.
    FileNotFoundError, IsADirectoryError, PermissionError
        If the target's folder is missing or cannot be written.
    ImportError
        For `.zarr` without the zarr package.

    >>> import tempfile
    >>> from sdesim.datasets import to_dataset
    >>> ds = to_dataset({"x": [[1.0, 0.5]]}, members=[0], times=[0.0, 1.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(save(ds, folder + "/decay.nc")) as back:
    ...         float(back.x[0, 1])
    0.5
    """
    import xarray as xr

    if not isinstance(ds, xr.Dataset):
        raise TypeError(f"save wants an xarray.Dataset, got {type(ds).__name__}: use .to_dataset(name=...) first")
    target, kind = check_target(path)
    for name in ("", *ds.variables):
        attrs = ds.attrs if name == "" else ds[name].attrs
        check_attributes(attrs, "the Dataset" if name == "" else repr(name))
    encoded, encoding = _encode(ds)
    with _replacing(target) as temporary:
        if kind == "zarr":
            _write_zarr(encoded, temporary, encoding, compress)
        else:
            options = {"zlib": True, "complevel": 1, "shuffle": True} if compress else {"zlib": False}
            for name in encoded.data_vars:
                if encoded[name].dtype.kind in "biufc":
                    encoding.setdefault(name, {}).update(options)
            encoded.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
    return target


def open(path: str | os.PathLike[str], *, chunks: Mapping[str, int] | None = None) -> xr.Dataset:
    """Open a file that `save` wrote, or any other CF NetCDF or Zarr, by its ending.

    Values are read when they are first used; `chunks={"member": n}` opens them as Dask arrays instead. Close the
    Dataset, or use `with`, when the file must be free. Coordinates keep the order of the file: a descending latitude
    stays descending.

    Raises
    ------
    FileNotFoundError
        If nothing lies at `path`.
    ValueError
        For an unknown ending, or a file that is truncated or of another format.
    ImportError
        For `.zarr` without the zarr package, or `chunks` without dask.

    >>> open("nowhere.nc")
    Traceback (most recent call last):
    ...
    FileNotFoundError: nothing lies at nowhere.nc
    """
    import xarray as xr

    source = Path(path)
    kind = _kind(source)
    if not source.exists():
        raise FileNotFoundError(f"nothing lies at {source}")
    _check_signature(source, kind)
    if chunks is not None and find_spec("dask") is None:
        raise ImportError("opening in chunks needs dask: pip install 'sdesim[dask]', or leave out chunks")
    engine: Any = {"engine": "zarr", "consolidated": False} if kind == "zarr" else {"engine": "netcdf4"}
    try:
        ds = xr.open_dataset(
            source, decode_times=False, decode_timedelta=False, chunks=dict(chunks) if chunks is not None else None,
            **engine,
        )  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{source} cannot be read as {kind}: it is truncated, damaged or something else ({error}); copy it again "
            "from where it was made, or make it again"
        ) from error
    return _decode(ds)


def _kind(path: Path) -> str:
    kinds = {".nc": "NetCDF", ".nc4": "NetCDF", ".zarr": "zarr"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name!r} ends in {path.suffix or 'nothing'!r}: wanted .nc (NetCDF-4) or .zarr (Zarr)")
    if kind == "zarr":
        try:
            import zarr  # noqa: F401
        except ImportError as error:
            raise ImportError("a .zarr store needs the zarr package: pip install 'sdesim[zarr]', or use .nc") from error
    return kind


def check_target(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Raise what `save` would raise for this path, before any work; return it and "netcdf" or "zarr".

    >>> check_target("run.txt")
    Traceback (most recent call last):
    ...
    ValueError: 'run.txt' ends in '.txt': wanted .nc (NetCDF-4) or .zarr (Zarr)
    """
    target = Path(path)
    kind = _kind(target)
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist: make it first, or choose another path")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"the folder {folder} cannot be written: choose another path")
    if target.exists() and target.is_dir() != (kind == "zarr"):
        what = "a folder" if target.is_dir() else "a file"
        raise IsADirectoryError(f"{target} is {what}, which a {kind} target cannot replace: choose another path")
    if kind == "zarr" and target.is_dir() and any(target.iterdir()) and not _is_zarr(target):
        raise IsADirectoryError(f"{target} is a folder of something else: it is not replaced; choose another path")
    return target, kind


def _is_zarr(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in ("zarr.json", ".zgroup"))


def _check_signature(source: Path, kind: str) -> None:
    if kind == "zarr":
        if not source.is_dir() or not _is_zarr(source):
            raise ValueError(f"{source} is no Zarr group: it has no zarr.json; is it another format, or half copied?")
        return
    if source.is_dir():
        raise ValueError(f"{source} is a folder, not a NetCDF file: a Zarr store must be named .zarr")
    with source.open("rb") as stream:
        start = stream.read(8)
    if start[:4] != b"\x89HDF" and start[:3] != b"CDF":
        raise ValueError(
            f"{source} is not a NetCDF file: it begins with {start!r}; wanted a NetCDF-4 (HDF5) or NetCDF-3 file"
        )


def _write_zarr(ds: xr.Dataset, folder: Path, encoding: dict[Any, dict[str, Any]], compress: bool) -> None:
    from zarr.codecs import BloscCodec

    for name in ds.data_vars:
        codecs = (BloscCodec(cname="lz4", shuffle="bitshuffle"),) if compress else None
        encoding.setdefault(name, {})["compressors"] = codecs
    ds.to_zarr(folder, mode="w", zarr_format=3, consolidated=False, encoding=encoding)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside `target`; on success flush it and rename it onto `target`, on failure remove it."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}"
    temporary = target.with_name(f".{target.stem}-{token}.partial{target.suffix}")
    try:
        yield temporary
        if temporary.is_dir():
            if target.exists() and not _exchange(temporary, target):
                old = target.with_name(f".{target.stem}-{token}.old{target.suffix}")
                target.rename(old)
                temporary.rename(target)
                shutil.rmtree(old)
            elif not target.exists():
                temporary.rename(target)
        else:
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange the names of two folders in one step; False where the system or the disk cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of renameat2(2)
    return int(renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange)) == 0


def _encode(ds: xr.Dataset) -> tuple[xr.Dataset, dict[Any, dict[str, Any]]]:
    """Return the Dataset as it lies on disk, and its encoding: CF time, no fill values on coordinates."""
    ds = ds.drop_encoding()
    if "time" in ds.coords and ds["time"].dtype.kind in "iuf":
        unit = str(ds["time"].attrs.get("units", "s"))
        if " since " not in unit:
            clock = f"{_CLOCKS.get(unit, 'seconds')} since {EPOCH}"
            attrs = {**ds["time"].attrs, "units": clock, **_CALENDAR, _MARK: unit}
            ds = ds.assign_coords(time=(ds["time"].dims, ds["time"].values, attrs))
    return ds, {name: {"_FillValue": None} for name in ds.coords}


def _decode(ds: xr.Dataset) -> xr.Dataset:
    """Undo `_encode`: model time to plain floats, dates to datetime64, flags to the type of their variable."""
    import xarray as xr

    if "time" in ds.variables and _MARK in ds["time"].attrs:
        attrs = dict(ds["time"].attrs)
        unit = attrs.pop(_MARK)
        ds["time"].attrs = {name: value for name, value in attrs.items() if name not in _CALENDAR} | {"units": unit}
    elif any(re.search(r"\bsince\b", str(v.attrs.get("units", ""))) for v in ds.variables.values()):
        ds = xr.decode_cf(ds, decode_timedelta=False)
    for variable in ds.variables.values():
        if "flag_values" in variable.attrs:  # Zarr keeps attributes as JSON, which forgets the type CF asks for
            variable.attrs["flag_values"] = np.atleast_1d(np.asarray(variable.attrs["flag_values"], variable.dtype))
    return ds
