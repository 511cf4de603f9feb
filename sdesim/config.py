"""A run described in a TOML or JSON file: the arguments of `simulate` as tables of plain values.

    [model]                                  # or: equation = "gray_scott", with the arguments of the catalogue
    kind = "pde"                             # "sde" or "pde", with the arguments of sim.SDE or sim.PDE
    grid = {x = [0.0, 1.0, 64], y = [0.0, 1.0, 64]}     # or edges, {r = …, geometry = "sphere"}, {lat = 32, lon = 64}
    diffusivity = "D"
    parameters = {D = 0.01}
    boundary = {x = "periodic", y = [{dirichlet = 0.0}, {neumann = 1.0}]}
    noise = {u = {white = 0.1}}              # or {coloured = 0.1, length = 0.2, smoothness = 1.5}
    # an sde may have jumps = {x = {rate = "k", size = {norm = {loc = 0.0, scale = 0.2}}}}, marks = {w = "normal"} in it

    [initial]
    u = {gaussian = 1.0, std = 0.5, length = 0.1}

    [parameters]
    D = {lognorm = {s = 0.3, scale = 0.01}}  # any distribution of scipy.stats, by its name

    [run]                                    # the rest of simulate's arguments
    times = {start = 0.0, stop = 1.0, count = 11}
    members = 100
    seed = 7

Everything in the file is data: equations are parsed against a whitelist, names are looked up in tables.
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdesim import boundaries, fields
from sdesim.codec import decode
from sdesim.curved import RadialGrid, SphereGrid
from sdesim.grids import Grid

_SECTIONS = ("model", "initial", "parameters", "run")
_EDGES: dict[str, type[boundaries.Condition]] = {
    "periodic": boundaries.Periodic,
    "dirichlet": boundaries.Dirichlet,
    "neumann": boundaries.Neumann,
    "robin": boundaries.Robin,
}


class ConfigError(ValueError):
    """A configuration that does not say what is wanted; the message names the entry.

    >>> model({"kind": "ode"})
    Traceback (most recent call last):
    ...
    sdesim.config.ConfigError: model.kind must be "sde" or "pde"; got 'ode'
    """


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arguments of `simulate` that the `.toml` or `.json` file describes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ConfigError
        If it is no TOML or JSON, or describes no run.
    """
    source = Path(path)
    if source.suffix not in (".toml", ".json"):
        raise ConfigError(f"{source.name!r} must end in .toml or .json")
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    text = source.read_text(encoding="utf-8")
    try:
        data = tomllib.loads(text) if source.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{source} is not valid {source.suffix[1:].upper()}: {error}") from error
    return call(data)


def call(data: Any) -> dict[str, Any]:
    """Return the arguments of `simulate` for a configuration already read.

    >>> run = call({"model": {"kind": "sde", "drift": {"x": "-x"}}, "initial": {"x": 1}, "run": {"times": [0, 1]}})
    >>> sorted(run), run["initial"]
    (['initial', 'model', 'times'], {'x': 1})
    """
    sections = _table(data, "the configuration")
    _known(sections, _SECTIONS, "the configuration")
    if "model" not in sections or "initial" not in sections:
        raise ConfigError("the configuration needs the sections [model] and [initial]")
    arguments = dict(_table(sections.get("run", {}), "run"))
    if "times" not in arguments:
        raise ConfigError("run.times is missing: give a list, or {start, stop, count}")
    arguments["times"] = _times(arguments["times"])
    if isinstance(arguments.get("members"), Mapping):
        arguments["members"] = _members(arguments["members"])
    arguments["model"] = model(sections["model"])
    arguments["initial"] = _each(sections["initial"], "initial", _value)
    if "parameters" in sections:
        arguments["parameters"] = _each(sections["parameters"], "parameters", _value)
    return arguments


def model(data: Any) -> Any:
    """Return the SDE or PDE that the section [model] describes.

    >>> print(model({"kind": "sde", "drift": {"x": "-k*x"}, "noise": {"x": 0.5}, "parameters": {"k": 1}}))
    dx = (-k*x) dt + (0.5) dW_x   [Itô]
    """
    from sdesim.models.pde import PDE
    from sdesim.models.sde import SDE

    arguments = dict(_table(data, "model"))
    if "parameters" in arguments:
        arguments["parameters"] = _each(arguments["parameters"], "model.parameters", _value)
    if "grid" in arguments:
        arguments["grid"] = _grid(_table(arguments["grid"], "model.grid"))
    if "boundary" in arguments:
        arguments["boundary"] = _boundary(arguments["boundary"], "model.boundary")
    if "bounds" in arguments:
        arguments["bounds"] = _each(arguments["bounds"], "model.bounds", _bounds)
    if "jumps" in arguments:
        arguments["jumps"] = _each(arguments["jumps"], "model.jumps", _jump)
    if "equation" in arguments:
        return _apply(_equation(arguments.pop("equation")), arguments, "model")
    kind = arguments.pop("kind", None)
    if kind not in ("sde", "pde"):
        raise ConfigError(f'model.kind must be "sde" or "pde"; got {kind!r}')
    if kind == "pde" and "noise" in arguments:
        arguments["noise"] = _each(arguments["noise"], "model.noise", _noise)
    return _apply(SDE if kind == "sde" else PDE, arguments, "model")


def _grid(table: Mapping[str, Any]) -> Any:
    """The grid that has these axes: r of a RadialGrid, lat and lon of a SphereGrid, else those of a Grid."""
    build = RadialGrid if "r" in table else SphereGrid if "lat" in table or "lon" in table else Grid
    known = {name: tuple(value) if isinstance(value, list) and len(value) == 3 and name != "mask" else
             np.asarray(value) if isinstance(value, list) else value for name, value in table.items()}
    return _apply(build, known, "model.grid")


def _equation(name: Any) -> Callable[..., Any]:
    import sdesim.equations as equations

    catalogue = [known for known in equations.__all__ if inspect.isfunction(getattr(equations, known))]
    if name not in catalogue:
        raise ConfigError(f"model.equation must be one of {', '.join(catalogue)}; got {name!r}")
    found: Callable[..., Any] = getattr(equations, name)
    return found


def _apply(build: Callable[..., Any], arguments: dict[str, Any], where: str) -> Any:
    accepted = inspect.signature(build).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
        _known(arguments, [name for name in accepted if not name.startswith("_")], where)
    missing = [
        name for name, p in accepted.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    lacking = [name for name in missing if name not in arguments]
    if lacking:
        raise ConfigError(f"{where} lacks {', '.join(lacking)}")
    return build(**arguments)


def _value(data: Any, where: str) -> Any:
    """A number, text, a list, {distribution = {...}} or {gaussian = mean, std = ..., length = ...}."""
    if isinstance(data, list):
        return np.asarray(data)
    if not isinstance(data, Mapping):
        return data
    if "gaussian" in data:
        others = {name: value for name, value in data.items() if name != "gaussian"}
        return _apply(fields.GaussianField, {"mean": data["gaussian"], **others}, where)
    if len(data) != 1:
        raise ConfigError(
            f"{where} must be a number, text, a list, {{gaussian = mean, ...}} or one distribution such as "
            f"{{norm = {{loc = 0.0, scale = 1.0}}}}; got the keys {sorted(data)}"
        )
    ((name, arguments),) = data.items()
    named = arguments if isinstance(arguments, Mapping) else {}
    listed = [] if isinstance(arguments, Mapping) else arguments if isinstance(arguments, list) else [arguments]
    return decode({"type": "distribution", "name": name, "args": listed, "kwds": named}, where)


def _boundary(data: Any, where: str) -> Any:
    """An edge, a pair of edges, or a table of them by axis (or by state, then axis)."""
    if isinstance(data, list):
        return tuple(_boundary(item, f"{where}[{i}]") for i, item in enumerate(data))
    if isinstance(data, str):
        data = {data: None}
    table = _table(data, where)
    if set(table) == {"a", "b", "c"} or set(table) == {"a", "b"}:
        return boundaries.Robin(**table)
    if len(table) == 1 and next(iter(table)) in _EDGES:
        ((name, value),) = table.items()
        return _EDGES[name](*([] if value is None else value if isinstance(value, list) else [value]))
    if any(name in _EDGES for name in table) or any(value is None for value in table.values()):
        raise ConfigError(f"{where} must be one of {', '.join(_EDGES)}; got {sorted(table)}")
    return {name: _boundary(value, f"{where}.{name}") for name, value in table.items()}


def _bounds(data: Any, where: str) -> Any:
    table = _table(data, where)
    kinds = {"reflecting": boundaries.Reflecting, "absorbing": boundaries.Absorbing}
    if len(table) != 1 or next(iter(table)) not in kinds:
        raise ConfigError(f"{where} must be {{reflecting = [lo, hi]}} or {{absorbing = [lo, hi]}}; got {sorted(table)}")
    ((name, ends),) = table.items()
    if not isinstance(ends, list) or len(ends) != 2:
        raise ConfigError(f"{where}.{name} must be [lo, hi]; got {ends!r}")
    # TOML has no null: an infinite end is an open one
    low, high = (None if end is None or end in (float("inf"), float("-inf")) else end for end in ends)
    return kinds[name](low, high)


def _jump(data: Any, where: str) -> Any:
    """{rate = ..., size = ..., marks = {name = "normal" | {norm = {...}}}}, size by state where there are several."""
    from sdesim.models.jumps import LAWS, Jump

    table = dict(_table(data, where))
    if isinstance(table.get("size"), Mapping):
        law = set(table["size"]) <= set(LAWS)
        table["size"] = (_value if law else _sizes)(table["size"], f"{where}.size")
    if "marks" in table:
        table["marks"] = _each(table["marks"], f"{where}.marks", _value)
    return _apply(Jump, table, where)


def _sizes(data: Any, where: str) -> Any:
    return _each(data, where, _value)


def _noise(data: Any, where: str) -> Any:
    table = dict(_table(data, where))
    for kind, law in (("white", fields.WhiteNoise), ("coloured", fields.ColouredNoise),
                      ("conserved", fields.ConservedNoise)):
        if kind in table:
            return _apply(law, {"amplitude": table.pop(kind), **table}, where)
    raise ConfigError(f"{where} must be {{white = amplitude}}, {{conserved = amplitude}} or {{coloured = amplitude, "
                      "length = ...}")


def _times(data: Any) -> Any:
    if not isinstance(data, Mapping):
        return np.asarray(data, dtype=np.float64)
    _known(data, ("start", "stop", "count"), "run.times")
    if set(data) != {"start", "stop", "count"} or not isinstance(data["count"], int):
        raise ConfigError("run.times must be a list, or {start, stop, count} with a whole count")
    return np.linspace(float(data["start"]), float(data["stop"]), data["count"])


def _members(data: Mapping[str, Any]) -> range:
    if set(data) != {"start", "stop"} or not all(isinstance(value, int) for value in data.values()):
        raise ConfigError("run.members must be a count, a list, or {start, stop} in whole numbers")
    return range(data["start"], data["stop"])


def _table(data: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a table of names and values; got {data!r:.60}")
    return data


def _each(data: Any, where: str, convert: Callable[[Any, str], Any]) -> dict[str, Any]:
    return {name: convert(value, f"{where}.{name}") for name, value in _table(data, where).items()}


def _known(table: Mapping[str, Any], known: Any, where: str) -> None:
    unknown = [name for name in table if name not in known]
    if unknown:
        raise ConfigError(f"{where} has the unknown entry {unknown[0]!r}; known here: {', '.join(known)}")
