"""The model file: one zip of JSON and safetensors. Nothing in it is ever executed.

    config.json          "format": "surrogates-model", "version", and everything that is not an array
    weights.safetensors  every array: network, Gaussian part, static channels, training conditions
    training.csv         the log of the training

A file is written beside its target and renamed when it is complete. Reading checks, in this order: that it is a zip,
that its members and their sizes are as declared, the format, the version. Whatever fails raises ModelFileError.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

FORMAT, VERSION = "surrogates-model", 1
LARGEST = 8 * 2**30  # bytes a member may unpack to: a hostile zip must not fill the memory


class ModelFileError(ValueError):
    """The file is not a complete surrogate model; the message says what it is instead and what to do.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".surrogate") as foreign:
    ...     read_model(foreign.name)
    Traceback (most recent call last):
    ...
    surrogates.files.ModelFileError: ... is truncated or not a surrogate model file ...
    """


def write_model(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    log: Sequence[Mapping[str, float]],
) -> Path:
    """Write a model file whole or not at all; returns its path. FileNotFoundError if the folder is missing."""
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} must exist to save {target.name}; create it first")
    text = json.dumps({"format": FORMAT, "version": VERSION, **config}, ensure_ascii=False, allow_nan=False, indent=1)
    rows = io.StringIO()
    if log:
        writer = csv.DictWriter(rows, list(log[0]))
        writer.writeheader()
        writer.writerows(log)
    arrays = save_tensors({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as stream:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr("config.json", text)
                archive.writestr("training.csv", rows.getvalue())
                archive.writestr("weights.safetensors", arrays)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, float]]]:
    """(config, tensors, training log) of a model file; ModelFileError or FileNotFoundError for anything else."""
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"a model file was wanted at {source}, there is none; write one with model.save(path)")
    cure = "save the model again with model.save(path), or copy the whole file"
    try:
        with zipfile.ZipFile(source) as archive:
            parts = {name: _member(archive, name) for name in ("config.json", "weights.safetensors", "training.csv")}
    except KeyError as error:
        raise ModelFileError(f"{source} is a zip but not a surrogate model ({error.args[0]}); {cure}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ModelFileError(f"{source} is truncated or not a surrogate model file ({error}); {cure}") from None
    try:
        config = json.loads(parts["config.json"].decode("utf-8"))
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise ModelFileError(f"{source} must say format {FORMAT!r} in its config.json, got something else; {cure}")
        if config.get("version") != VERSION:
            raise ModelFileError(
                f"{source} has model version {config.get('version')!r}, this library reads {VERSION}; "
                f"load it with the library that wrote it, or train again"
            )
        tensors = load_tensors(parts["weights.safetensors"])
        rows = csv.DictReader(io.StringIO(parts["training.csv"].decode("utf-8")))
        log = [{k: float(v) for k, v in row.items()} for row in rows]
    except (SafetensorError, UnicodeDecodeError, json.JSONDecodeError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{source} is damaged: {error}; {cure}") from None
    return config, tensors, log


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member; KeyError if absent, BadZipFile if its checksum fails or its size is beyond reason."""
    if archive.getinfo(name).file_size > LARGEST:
        raise zipfile.BadZipFile(f"{name} unpacks to more than {LARGEST} bytes")
    return archive.read(name)


def template_to_json(ds: xr.Dataset) -> dict[str, Any]:
    """Coordinates with their values, variables without theirs, and all attributes, as JSON; dates keep their dtype."""

    def attrs(owner: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(k): v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in owner.items()}

    def one(array: xr.DataArray, values: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"dims": list(array.dims), "dtype": array.dtype.str, "attrs": attrs(array.attrs)}
        if values:
            plain = array.values.astype("int64") if array.dtype.kind in "mM" else array.values
            flat = plain.ravel().tolist()
            entry["values"] = [repr(v) for v in flat] if plain.dtype.kind == "f" else flat
            entry["shape"] = list(plain.shape)
        return entry

    return {
        "coords": {str(k): one(v, True) for k, v in ds.coords.items()},
        "variables": {str(k): one(v, False) for k, v in ds.data_vars.items()},
        "sizes": {str(k): int(n) for k, n in ds.sizes.items()},
        "attrs": attrs(ds.attrs),
    }


def template_from_json(entry: Mapping[str, Any]) -> xr.Dataset:
    """The inverse of `template_to_json`; the variables come back as zeros."""

    def values(item: Mapping[str, Any]) -> Any:
        dtype = np.dtype(item["dtype"])
        if dtype.hasobject:
            raise ModelFileError(f"a coordinate of dtype {dtype} was found, plain numbers, text or dates were wanted")
        raw = np.array([float(v) for v in item["values"]] if dtype.kind == "f" else item["values"])
        raw = raw.astype("int64") if dtype.kind in "mM" else raw
        return raw.astype(dtype).reshape(item["shape"])

    coords = {name: (item["dims"], values(item), item["attrs"]) for name, item in entry["coords"].items()}
    sizes = entry["sizes"]
    data = {
        name: (item["dims"], np.zeros([sizes[d] for d in item["dims"]], item["dtype"]), item["attrs"])
        for name, item in entry["variables"].items()
    }
    return xr.Dataset(data, coords, entry["attrs"])
