"""Values ⇄ plain JSON data, without losing a bit and without trusting a byte.

JSON's own values stay as they are; anything else is an object with a "type":

    {"type": "array", "dtype": "<f8", "shape": [3], "data": "<base64 of zlib of the bytes, C order>"}
    {"type": "distribution", "name": "lognorm", "args": [0.5], "kwds": {"scale": 0.1}}     a frozen scipy.stats one
    {"type": "SDE", "fields": {...}}            a description of ours, by its to_dict() or its fields

Text in a file is untrusted. Decoding builds nothing but the types of the tables below: it never evaluates, imports by
a name from the text, or unpickles, and it checks the declared size of an array before it inflates one.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUMERIC = "biufcMm"
_INFLATION = 1100  # zlib shrinks by at most 1032:1 (zlib.net/zlib_tech.html): more is a lie about the shape
_DESCRIPTIONS = {
    "SDE": "sdesim.models.sde",
    "Jump": "sdesim.models.jumps",
    "PDE": "sdesim.models.pde",
    "Grid": "sdesim.grids",
    "RadialGrid": "sdesim.curved",
    "SphereGrid": "sdesim.curved",
    "GaussianField": "sdesim.fields",
    "WhiteNoise": "sdesim.fields",
    "ColouredNoise": "sdesim.fields",
    "ConservedNoise": "sdesim.fields",
    "Reflecting": "sdesim.boundaries",
    "Absorbing": "sdesim.boundaries",
}


class ProvenanceError(ValueError):
    """A value without a JSON form, or a text that cannot be read or trusted.

    >>> encode(lambda t: t, "initial.x")
    Traceback (most recent call last):
    ...
    sdesim.codec.ProvenanceError: initial.x: a builtins.function has no JSON form; give a number, text, an array, ...
    """


def encode(value: Any, where: str = "value") -> Any:
    """Return `value` as plain JSON data; `where` names it in errors.

    >>> encode((1, None))
    {'type': 'tuple', 'items': [1, None]}
    """
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, (np.bool_, np.number)) and not isinstance(value, np.float64):
        return {**_encode_array(np.asarray(value), where), "type": "scalar"}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"type": "float", "value": repr(float(value))}
    if isinstance(value, Mapping):
        return _encode_mapping(value, where)
    if isinstance(value, list):
        return [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"type": "tuple", "items": [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, range):
        return {"type": "range", "start": value.start, "stop": value.stop, "step": value.step}
    if isinstance(value, np.ndarray):
        return _encode_array(value, where)
    return _encode_object(value, where)


def decode(data: Any, where: str = "value") -> Any:
    """Return the value that `encode` turned into `data`.

    >>> decode({"type": "float", "value": "inf"})
    inf
    """
    if isinstance(data, list):
        return [decode(item, f"{where}[{i}]") for i, item in enumerate(data)]
    if not isinstance(data, dict):
        return data
    tag = data.get("type")
    if tag is None:
        return {key: decode(item, f"{where}.{key}") for key, item in data.items()}
    if not isinstance(tag, str):
        raise ProvenanceError(f"{where}: a type is a name, got {tag!r}")
    known = tag in _DECODERS or tag in _DESCRIPTIONS
    if not known:
        names = ", ".join([*_DECODERS, *_DESCRIPTIONS])
        raise ProvenanceError(f"{where}: unknown type {tag!r}; this version reads {names}")
    fields = {key: item for key, item in data.items() if key != "type"}
    try:
        return _DECODERS[tag](fields, where) if tag in _DECODERS else _describe(tag, fields, where)
    except ProvenanceError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError, binascii.Error, zlib.error) as error:
        raise ProvenanceError(f"{where}: no valid {tag}: {error}") from error


def _encode_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise ProvenanceError(f"{where}: the key {key!r} must be text, it is a {type(key).__name__}")
    items = {key: encode(item, f"{where}.{key}") for key, item in value.items()}
    return {"type": "mapping", "items": items} if "type" in items else items


def _encode_array(array: NDArray[Any], where: str) -> dict[str, Any]:
    if array.dtype.kind not in _NUMERIC + "U":
        raise ProvenanceError(f"{where}: an array of {array.dtype} has no JSON form; wanted numbers, text or dates")
    raw = zlib.compress(np.ascontiguousarray(array).tobytes(), 6)
    data = base64.b64encode(raw).decode("ascii")
    return {"type": "array", "dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def _encode_object(value: Any, where: str) -> dict[str, Any]:
    kind = type(value)
    if _DESCRIPTIONS.get(kind.__name__) is not None and isinstance(value, _class(kind.__name__)):
        fields = value.to_dict() if hasattr(value, "to_dict") else _fields(value)
        return {"type": kind.__name__, "fields": encode(fields, where)}
    if kind.__module__.startswith("xarray.") and kind.__name__ == "DataArray":
        return _encode_dataarray(value, where)
    if kind.__module__.startswith("scipy.stats") and hasattr(value, "dist"):
        return _encode_distribution(value, where)
    if kind.__module__ == "sdesim.expressions":
        from sdesim.printing import to_text

        return {"type": "expression", "text": to_text(value)}
    raise ProvenanceError(
        f"{where}: a {kind.__module__}.{kind.__name__} has no JSON form; give a number, text, an array, a DataArray, "
        "a frozen scipy.stats distribution, or a model, grid or field of sdesim"
    )


def _encode_distribution(value: Any, where: str) -> dict[str, Any]:
    name = value.dist.name
    if type(_distribution_family(name, where)) is not type(value.dist):
        raise ProvenanceError(f"{where}: the distribution {name!r} is not one of scipy.stats and cannot be made again")
    return {
        "type": "distribution",
        "name": name,
        "args": [encode(item, f"{where}.args") for item in value.args],
        "kwds": encode(value.kwds, f"{where}.kwds"),
    }


def _encode_dataarray(value: Any, where: str) -> dict[str, Any]:
    def part(name: Any, variable: Any) -> dict[str, Any]:
        return {
            "dims": [str(dim) for dim in variable.dims],
            "values": _encode_array(np.asarray(variable.values), f"{where}.{name}"),
            "attrs": _encode_mapping(variable.attrs, f"{where}.{name}.attrs"),
        }

    coords = {str(name): part(name, coord.variable) for name, coord in value.coords.items()}
    return {
        "type": "dataarray",
        "name": None if value.name is None else str(value.name),
        **part(value.name, value.variable),
        "coords": {"type": "mapping", "items": coords},
    }


def _decode_array(fields: dict[str, Any], where: str) -> NDArray[Any]:
    dtype = np.dtype(_text(fields["dtype"]))
    if dtype.kind not in _NUMERIC + "U" or dtype.itemsize == 0:
        raise ProvenanceError(f"{where}: an array of {dtype} is not allowed; wanted numbers, text or dates")
    shape = tuple(_whole(n) for n in fields["shape"])
    size = math.prod(shape) * dtype.itemsize
    packed = base64.b64decode(_text(fields["data"]), validate=True)
    if min(shape, default=0) < 0 or size > _INFLATION * len(packed):
        raise ProvenanceError(f"{where}: {len(packed)} packed bytes cannot hold an array of shape {shape}")
    inflater = zlib.decompressobj()
    raw = inflater.decompress(packed, size + 1)
    if len(raw) != size or not inflater.eof:
        raise ProvenanceError(f"{where}: the data do not fill shape {shape} of {dtype}: the text is damaged")
    return np.frombuffer(raw, dtype).reshape(shape).copy()


def _decode_distribution(fields: dict[str, Any], where: str) -> Any:
    family = _distribution_family(_text(fields["name"]), where)
    args, kwds = decode(fields["args"], where), decode(fields["kwds"], where)
    return family(*args, **kwds)


def _decode_dataarray(fields: dict[str, Any], where: str) -> Any:
    import xarray as xr

    def part(data: Any, at: str) -> Any:
        dims = [_text(dim) for dim in data["dims"]]
        return xr.Variable(dims, _decode_array(data["values"], at), decode(data["attrs"], at))

    coords = {name: part(data, f"{where}.{name}") for name, data in fields["coords"]["items"].items()}
    variable = part(fields, where)
    return xr.DataArray(variable, coords, name=None if fields["name"] is None else _text(fields["name"]))


def _decode_expression(fields: dict[str, Any], where: str) -> Any:
    from sdesim.parsing import parse

    return parse(_text(fields["text"]), names=None, what=where)


def _distribution_family(name: str, where: str) -> Any:
    from scipy import stats

    family = getattr(stats, name, None) if name.isidentifier() and not name.startswith("_") else None
    if not isinstance(family, (stats.rv_continuous, stats.rv_discrete)):
        raise ProvenanceError(f"{where}: {name!r} is no distribution of scipy.stats")
    return family


def _class(name: str) -> Any:
    try:
        return getattr(import_module(_DESCRIPTIONS[name]), name)
    except (ImportError, AttributeError) as error:
        raise ProvenanceError(f"this version of sdesim has no {name}") from error


def _describe(tag: str, fields: dict[str, Any], where: str) -> Any:
    cls, values = _class(tag), decode(fields["fields"], where)
    return cls.from_dict(values) if hasattr(cls, "from_dict") else cls(**values)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted text, got {type(value).__name__}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"wanted a whole number, got {value!r}")
    return value


def _decode_float(fields: dict[str, Any], where: str) -> float:
    if fields["value"] not in ("inf", "-inf", "nan"):
        raise ProvenanceError(f"{where}: wanted inf, -inf or nan, got {fields['value']!r}")
    return float(fields["value"])


_DECODERS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "mapping": lambda fields, where: {key: decode(item, f"{where}.{key}") for key, item in fields["items"].items()},
    "tuple": lambda fields, where: tuple(decode(item, where) for item in fields["items"]),
    "range": lambda fields, where: range(*(_whole(fields[key]) for key in ("start", "stop", "step"))),
    "float": _decode_float,
    "array": _decode_array,
    "scalar": lambda fields, where: _decode_array(fields, where)[()],
    "distribution": _decode_distribution,
    "dataarray": _decode_dataarray,
    "expression": _decode_expression,
}
