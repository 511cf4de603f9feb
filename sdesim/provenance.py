"""How a dataset was made, as one JSON text in the dataset itself that makes it again.

A *call* is everything that `simulate` was given: model, initial state, times, parameters, seed, method... It is kept
in the attribute `sdesim_provenance` as

    {"sdesim": "<version>", "format": 1, "call": {...}}

with the values written by `sdesim.codec`, which never loses a bit and never trusts what it reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sdesim.codec import ProvenanceError, decode, encode
from sdesim.datasets import PROVENANCE, version

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1


def dumps(call: Mapping[str, Any]) -> str:
    """Return the JSON text of a call: name -> value.

    Values may be numbers, text, None, lists, tuples, mappings with text keys, ranges, NumPy arrays and scalars, xarray
    DataArrays, frozen scipy.stats distributions, expressions, and the library's own models, grids and fields.

    Raises
    ------
    ProvenanceError
        Naming the entry that has no JSON form (a function, a generator, an unknown object).

    >>> import numpy as np
    >>> loads(dumps({"seed": 7, "members": range(4), "times": np.array([0.0, 0.5])}))
    {'seed': 7, 'members': range(0, 4), 'times': array([0. , 0.5])}
    """
    record = {"sdesim": version(), "format": FORMAT, "call": encode(dict(call), "call")}
    return json.dumps(record, allow_nan=False, ensure_ascii=False, separators=(", ", ": "))


def loads(text: str) -> dict[str, Any]:
    """Return the call that `dumps` wrote: the same names, types and bits.

    Raises
    ------
    ProvenanceError
        If the text is no such record, or asks for anything outside the format.

    >>> loads('{"call": {}}')
    Traceback (most recent call last):
    ...
    sdesim.codec.ProvenanceError: provenance: wanted the keys sdesim, format and call, got ['call']
    """
    try:
        record = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        if not isinstance(record, dict) or set(record) != {"sdesim", "format", "call"}:
            keys = sorted(record) if isinstance(record, dict) else type(record).__name__
            raise ProvenanceError(f"provenance: wanted the keys sdesim, format and call, got {keys}")
        if record["format"] != FORMAT:
            raise ProvenanceError(
                f"provenance: format {record['format']!r} (written by sdesim {record['sdesim']!r}) is not {FORMAT}, "
                "the one that this version reads: use a version of sdesim that knows it"
            )
        call = decode(record["call"], "call")
    except (json.JSONDecodeError, UnicodeError) as error:
        raise ProvenanceError(f"provenance: not JSON: {error}") from error
    except RecursionError as error:
        raise ProvenanceError("provenance: nested too deeply") from error
    if not isinstance(call, dict):
        raise ProvenanceError(f"provenance: the call must be an object, got {type(call).__name__}")
    return call


def call_of(ds: xr.Dataset) -> dict[str, Any]:
    """Return the call that made `ds`, from its own attributes.

    Raises
    ------
    ProvenanceError
        If the Dataset has none, or a damaged one.

    >>> from sdesim.datasets import to_dataset
    >>> ds = to_dataset({}, members=[0], times=[0.0], attributes={"sdesim_provenance": dumps({"seed": 1})})
    >>> call_of(ds)
    {'seed': 1}
    """
    text = ds.attrs.get(PROVENANCE)
    if not isinstance(text, str):
        raise ProvenanceError(
            f"this Dataset has no attribute {PROVENANCE!r}: it was not made by sdesim.simulate, or lost its attributes "
            "on the way (xarray drops them in arithmetic unless keep_attrs=True)"
        )
    return loads(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ProvenanceError("provenance: a name stands twice in one object")
    return result


def _no_constant(text: str) -> Any:
    raise ProvenanceError(f"provenance: {text} is not JSON")
