"""Time-stepping methods: one pure function each, with its orders and source as data.

A new method is one function and one `Method` row in its file's METHODS. A family of methods with a number to choose,
written "theta(0.7)", is one function of that number's text in its file's FAMILIES.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from sdesim.methods.method import Method

_FILES = {
    "sde": ("sde", "sde_rossler", "sde_weak", "sde_levy", "sde_implicit", "sde_stabilised", "langevin"),
    "law": ("exact",),
    "jump": ("jumps",),
    "leap": ("leaps",),
    "stencil": ("field",),
    "implicit": ("field_implicit",),
    "spectral": ("spectral",),
    "reference": ("field_scipy",),
}


def table() -> dict[str, Method]:
    """Every method by name; names are unique within a kind, and `find` tells kinds apart.

    >>> [m for m in table() if table()[m].strong == 1.5]
    ['sdirk_sra', 'slowrk', 'sosri', 'sriw2', 'sriw1', 'shark', 'sosra', 'sra3', 'sra2', 'sra1']
    """
    return {m.name: m for m in reversed(rows())}


def rows(kinds: tuple[str, ...] = tuple(_FILES)) -> list[Method]:
    """Every method of the kinds, in the order of the files."""
    files = [file for kind in kinds for file in _FILES[kind]]
    return [m for file in files for m in import_module(f"sdesim.methods.{file}").METHODS]


def _families(kinds: tuple[str, ...]) -> dict[str, Callable[[str], Method]]:
    files = [import_module(f"sdesim.methods.{file}") for kind in kinds for file in _FILES[kind]]
    return {name: build for file in files for name, build in getattr(file, "FAMILIES", {}).items()}


def find(name: str, kinds: tuple[str, ...]) -> Method:
    """The method of this name among the kinds; ValueError names those there are.

    >>> find("heun", ("sde",)).calculus
    'stratonovich'
    >>> find("theta(0.7)", ("sde",)).order
    1.0
    """
    known = rows(kinds)
    for method in known:
        if method.name == name:
            return method
    family, bracket, number = name.removesuffix(")").partition("(")
    families = _families(kinds)
    if bracket and family in families:
        return families[family](number)
    others = [m.kind for m in rows() if m.name == name]
    hint = f" ('{name}' is a method for models of kind {others[0]})" if others else ""
    raise ValueError(f"no method '{name}' for this model{hint}; there are {', '.join(m.name for m in known)}")
