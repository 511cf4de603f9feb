"""Arrays ⇄ `xarray.Dataset` with CF names: the one form in which ensembles leave and enter the library.

    dims      a subset of ("member", "time", "z", "y", "x"), in this order (or the grid's own: r, lat, lon)
    member    int32, standard_name "realization": the member *numbers*, which with the seed fix every random draw
    time      float64, in the model's time unit (seconds unless told otherwise), since the start of the model's clock
    status    int8 on member: 0 ok, 1 non_finite, 2 step_limit (no step small enough for the tolerance)
    a parameter that varies by member   a coordinate on `member`;   a fixed one   the attribute `parameter_<name>`
    sdesim_provenance                   one JSON string with everything that is needed to make the data again

Attributes are strings and numbers only, so that every file format can hold them. Source: the CF conventions 1.11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"
STATUS = ("ok", "non_finite", "step_limit")
PROVENANCE = "sdesim_provenance"

_LENGTHS = frozenset({"m", "km", "cm", "mm", "um", "µm", "μm", "nm", "meter", "metre", "meters", "metres"})
_AXES: dict[str, dict[str, str]] = {
    "x": {"axis": "X", "standard_name": "projection_x_coordinate", "long_name": "x coordinate"},
    "y": {"axis": "Y", "standard_name": "projection_y_coordinate", "long_name": "y coordinate"},
    "z": {"axis": "Z", "positive": "up", "long_name": "z coordinate"},
    "r": {"long_name": "radial distance"},
    "lat": {"axis": "Y", "standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"},
    "lon": {"axis": "X", "standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"},
}


def to_dataset(
    states: Mapping[str, ArrayLike],
    *,
    members: ArrayLike | None,
    times: ArrayLike,
    space: Mapping[str, ArrayLike] | None = None,
    parameters: Mapping[str, ArrayLike] | None = None,
    status: ArrayLike | None = None,
    variables: Mapping[str, tuple[Sequence[str], ArrayLike, Mapping[str, Any]]] | None = None,
    units: Mapping[str, str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    flags: Sequence[str] = STATUS,
) -> xr.Dataset:
    """Build the Dataset of an ensemble from plain arrays.

    Parameters
    ----------
    states
        name -> array of shape (member, time, *space).
    members, times
        member numbers, shape (member,), or None; save times, shape (time,), strictly increasing.
    space
        axis name -> cell centres, in the order of the arrays' dimensions, e.g. {"y": ..., "x": ...}.
    parameters
        name -> number (becomes the attribute `parameter_<name>`), array of shape (member,) (becomes a coordinate), or
        of shape (member, *space) (becomes a variable).
    status
        integers of shape (member,), whose meanings are `flags`; left out if None.
    variables
        further variables: name -> (dims, array, attributes), e.g. statistics over the members.
    units
        {"u": "K", "x": "m", "time": "s", ...}; states default to "1", lengths to "m", time to "s".
    attributes
        global attributes: strings and numbers.

    Raises
    ------
    ValueError
        If a shape contradicts the coordinates, a name is used twice, or an attribute is no string or number.

    >>> ds = to_dataset({"x": [[1.0, 0.5]]}, members=[41], times=[0.0, 1.0], parameters={"k": 0.7})
    >>> dict(ds.sizes), ds.attrs["parameter_k"], ds.time.units
    ({'member': 1, 'time': 2}, 0.7, 's')
    """
    import xarray as xr

    units = dict(units or {})
    coordinates = _coordinates(members, times, space or {}, units)
    sizes = {name: len(values) for name, (_, values, _) in coordinates.items()}
    dims = tuple(sizes)
    data: dict[str, Any] = {
        name: (dims, _shaped(name, values, dims, sizes), {"units": units.get(name, "1"), "long_name": name})
        for name, values in states.items()
    }
    for name, (own, values, attrs) in (variables or {}).items():
        if name in data:
            raise ValueError(f"the state {name!r} has the name of another variable of the Dataset: rename it")
        data[name] = (tuple(own), _shaped(name, values, own, sizes), dict(attrs))
    if status is not None:
        data["status"] = ("member", _shaped("status", status, ("member",), sizes).astype(np.int8), _flags(flags))
    constants: dict[str, float] = {}
    for name, value in (parameters or {}).items():
        if name in data or name in coordinates:
            raise ValueError(f"the parameter {name!r} has the name of a variable or dimension: rename it")
        about = {"units": units.get(name, "1"), "long_name": f"parameter {name}"}
        if np.ndim(value) == 0:
            constants[f"parameter_{name}"] = float(np.asarray(value))
        elif np.ndim(value) > 1:
            own = ("member", *(dim for dim in dims if dim not in ("member", "time")))
            data[name] = (own, _shaped(name, value, own, sizes), about)
        else:
            array = _shaped(name, value, ("member",), sizes)
            coordinates[name] = ("member", array, about)
    made = {"title": f"ensemble of {', '.join(states) or ', '.join(data)}", "history": f"made by sdesim {version()}"}
    attrs = {"Conventions": CONVENTIONS, **made, **constants, **(attributes or {})}
    check_attributes(attrs, "the Dataset")

    def variables_of(entries: Mapping[str, Any]) -> dict[str, xr.Variable]:
        # fast path: xarray would import dask.array (¼ s) to see that plain arrays are not dask's
        return {name: xr.Variable(dims, array, notes, fastpath=True) for name, (dims, array, notes) in entries.items()}

    return xr.Dataset(variables_of(data), variables_of(coordinates), attrs)


def member_coordinate(numbers: ArrayLike) -> tuple[str, NDArray[Any], dict[str, str]]:
    """Return the CF coordinate variable of these member numbers, as (dimension, values, attributes).

    The values are int32, or int64 if a number needs it.

    >>> member_coordinate([0, 7])[1].dtype
    dtype('int32')
    """
    array = np.atleast_1d(np.asarray(numbers, dtype=np.int64))
    small = array.size == 0 or int(array.max()) < 2**31
    return (
        "member",
        array.astype(np.int32) if small else array,
        {"standard_name": "realization", "long_name": "ensemble member", "units": "1"},
    )


def axis_attributes(name: str, unit: str | None = None) -> dict[str, str]:
    """Return the CF attributes of the spatial coordinate `name` in `unit` (None: metres, or degrees).

    CF keeps `projection_x_coordinate` and the axes X, Y, Z for lengths and angles: other units go without, at the
    price of a note from CF checkers about the order of dimensions.

    >>> axis_attributes("x")["standard_name"], "standard_name" in axis_attributes("x", "1")
    ('projection_x_coordinate', False)
    """
    attrs = dict(_AXES.get(name, {"long_name": name}))
    attrs["units"] = unit or attrs.get("units", "m")
    if name in ("x", "y", "z") and attrs["units"] not in _LENGTHS:
        return {"long_name": attrs["long_name"], "units": attrs["units"]}
    return attrs


def check_attributes(attrs: Mapping[Any, Any], owner: str) -> None:
    """Raise ValueError unless every attribute of `owner` is a string, a number or a 1-d array of numbers.

    >>> check_attributes({"title": "heat", "levels": [1, 2]}, "u")
    >>> check_attributes({"flag": True}, "u")
    Traceback (most recent call last):
    ...
    ValueError: attribute 'flag' of u is a bool; files hold strings and numbers only: ...
    """
    for key, value in attrs.items():
        numbers = isinstance(value, (list, tuple, np.ndarray)) and np.asarray(value).dtype.kind in "iuf"
        plain = isinstance(value, (str, int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not (isinstance(key, str) and (plain or (numbers and np.ndim(value) == 1))):
            raise ValueError(
                f"attribute {key!r} of {owner} is a {type(value).__name__}; files hold strings and numbers only: "
                "store text (JSON for structured values, 0 or 1 for a bool), or leave the attribute out"
            )


def version() -> str:
    """Return the version of the library that is installed.

    >>> version().count(".")
    2
    """
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("sdesim")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "0.0.0"


def _coordinates(
    members: ArrayLike | None, times: ArrayLike, space: Mapping[str, ArrayLike], units: Mapping[str, str]
) -> dict[str, tuple[str, NDArray[Any], dict[str, str]]]:
    time = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if time.ndim != 1 or not np.all(np.isfinite(time)) or np.any(np.diff(time) <= 0):
        raise ValueError("times must be a 1-d array of finite, strictly increasing numbers: sort them, drop repeats")
    clock = {"standard_name": "time", "long_name": "model time", "axis": "T", "units": units.get("time", "s")}
    coordinates = {} if members is None else {"member": member_coordinate(members)}
    coordinates["time"] = "time", time, clock
    for name, values in space.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 1:
            raise ValueError(f"the coordinate {name!r} must be 1-d, it has shape {array.shape}")
        coordinates[name] = (name, array, axis_attributes(name, units.get(name)))
    return coordinates


def _shaped(name: str, values: ArrayLike, dims: Sequence[str], sizes: Mapping[str, int]) -> NDArray[Any]:
    array = np.asarray(values)
    unknown = [dim for dim in dims if dim not in sizes]
    if unknown:
        raise ValueError(f"{name!r} names the dimensions {unknown}; there are {list(sizes)}")
    wanted = tuple(sizes[dim] for dim in dims)
    if array.shape != wanted:
        raise ValueError(f"{name!r} must have shape {wanted} over ({', '.join(dims)}), it has {array.shape}")
    return array


def _flags(meanings: Sequence[str]) -> dict[str, Any]:
    return {
        "standard_name": "status_flag",
        "long_name": "status of the member",
        "flag_values": np.arange(len(meanings), dtype=np.int8),
        "flag_meanings": " ".join(meanings),
    }
