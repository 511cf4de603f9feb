"""Time-stepping methods: one pure function each, with its orders and source as data.

A new method is one function and one `Method` row in its file's METHODS.
"""

from __future__ import annotations

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


def find(name: str, kinds: tuple[str, ...]) -> Method:
    """The method of this name among the kinds; ValueError names those there are.

    >>> find("heun", ("sde",)).calculus
    'stratonovich'
    """
    known = rows(kinds)
    for method in known:
        if method.name == name:
            return method
    others = [m.kind for m in rows() if m.name == name]
    hint = f" ('{name}' is a method for models of kind {others[0]})" if others else ""
    raise ValueError(f"no method '{name}' for this model{hint}; there are {', '.join(m.name for m in known)}")
