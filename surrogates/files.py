"""The model file: one zip of JSON and safetensors. Nothing in it is ever executed.

    config.json          "format": "surrogates-model", "version", and everything that is not an array
    weights.safetensors  every array: network, Gaussian part, static channels, training conditions
    training.csv         the log of the training

Reading checks, in this order: that it is a whole archive (`archives.py`), the format, the version. Whatever fails
raises ModelFileError.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from surrogates.archives import (
    ArchiveError,
    pack_tensors,
    read_archive,
    unpack_json,
    unpack_tensors,
    write_archive,
)

FORMAT, VERSION = "surrogates-model", 1
_PARTS = ("config.json", "training.csv", "weights.safetensors")


class ModelFileError(ArchiveError):
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
    text = json.dumps({"format": FORMAT, "version": VERSION, **config}, ensure_ascii=False, allow_nan=False, indent=1)
    rows = io.StringIO()
    if log:
        writer = csv.DictWriter(rows, list(dict.fromkeys(name for row in log for name in row)))
        writer.writeheader()
        writer.writerows(log)
    return write_archive(path, dict(zip(_PARTS, (text, rows.getvalue(), pack_tensors(tensors)), strict=True)))


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, float]]]:
    """(config, tensors, training log) of a model file; ModelFileError or FileNotFoundError for anything else."""
    cure = "save the model again with model.save(path), or copy the whole file"
    parts = read_archive(path, _PARTS, kind="surrogate model file", cure=cure, error=ModelFileError)
    try:
        config = unpack_json(parts["config.json"])
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise ModelFileError(f"{path} must say format {FORMAT!r} in its config.json, got something else; {cure}")
        if config.get("version") != VERSION:
            raise ModelFileError(
                f"{path} has model version {config.get('version')!r}, this library reads {VERSION}; "
                f"load it with the library that wrote it, or train again"
            )
        rows = csv.DictReader(io.StringIO(parts["training.csv"].decode("utf-8")))
        log = [{k: float(v) for k, v in row.items() if v} for row in rows]
        return config, unpack_tensors(parts["weights.safetensors"]), log
    except ModelFileError:
        raise
    except (ValueError, TypeError) as failure:
        raise ModelFileError(f"{path} is damaged: {failure}; {cure}") from None


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
