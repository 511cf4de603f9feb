"""A field equation as text, as LaTeX and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdesim import boundaries
from sdesim.calculus import differentiate, free_symbols, substitute
from sdesim.curved import grid_from_dict
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.fields import ConservedNoise, GaussianField, noise_from_dict, noise_to_dict
from sdesim.printing import to_latex as latex
from sdesim.printing import to_text
from sdesim.walls import MASK, places


def affine(reaction: Expr | None, states: tuple[str, ...], state: str) -> tuple[Expr, dict[str, Expr]]:
    """a and bⱼ of R = a + Σⱼ bⱼ uⱼ; ValueError where the reaction has no such form."""
    if reaction is None:
        return const(0.0), {}
    slopes = {name: differentiate(reaction, name) for name in states}
    used = frozenset().union(free_symbols(reaction), *(free_symbols(slope) for slope in slopes.values()))
    bent = [name for name, slope in slopes.items() if free_symbols(slope) & frozenset(states)]
    if bent or any(name.startswith("dd") and "(" in name for name in used):
        raise ValueError(f"the reaction of {state} is not affine in the states: {to_text(reaction)}")
    rest = substitute(reaction, dict.fromkeys(states, 0.0))
    return rest, {name: slope for name, slope in slopes.items() if not is_zero(slope)}


def to_plain(model: Any) -> str:
    """One line for each equation, then the parameters and the boundary conditions."""
    lines = [f"∂{name}/∂t = {_sum(_terms(model, name, _PLAIN))}" for name in model.state]
    lines += [str(term) for term in model.potential.values()]
    if model.parameters:
        lines.append(", ".join(f"{name} = {value:g}" for name, value in model.parameters.items()))
    for axis in (*reversed(model.grid.axes), *places(model.grid)[model.grid.dimension :]):
        sides = {name: row[axis] for name, row in model.boundary.items()}
        shared = len({tuple(map(boundaries.describe, pair)) for pair in sides.values()}) == 1
        for name, (low, high) in list(sides.items())[: 1 if shared else None]:
            label = axis if shared else f"{axis}, {name}"
            first, last = boundaries.describe(low), boundaries.describe(high)
            if first == last:
                both = "" if first == "periodic" or axis == MASK else " on both sides"
                lines.append(f"{label}: {first}{both}")
            else:
                lines.append(f"{label}: {first} at the low side, {last} at the high side")
    return "\n".join(lines)


def to_latex(model: Any) -> str:
    """The equations as a LaTeX aligned environment."""
    rows = [rf"\frac{{\partial {latex_name(name)}}}{{\partial t}} &= {_sum(_terms(model, name, _LATEX))}"
            for name in model.state]
    for term in model.potential.values():
        sides = (term.state, term.name) if term.is_content else (term.name, term.state)
        rows.append(f"{latex_name(sides[0])} &= {latex(term.expression)}")
    return r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"


def latex_name(name: str) -> str:
    """A name in LaTeX, as the printer of expressions writes it."""
    return latex(symbol(name))


_PLAIN: dict[str, Any] = {
    "expr": to_text, "name": str, "divergence": "∇·({} ∇{})", "transport": "-∇·(({}) {})",
    "fourth": "-({}) ∇⁴{}", "noise": "({}) ξ_{}", "random flux": "∇·(({}) ξ_{})",
    "tensor": lambda rows: f"[{'; '.join(', '.join(row) for row in rows)}]",
}
_MATRIX = r"\begin{{pmatrix}} {} \end{{pmatrix}}"
_LATEX: dict[str, Any] = {
    "expr": latex, "name": latex_name, "divergence": r"\nabla\cdot\left({} \nabla {}\right)",
    "transport": r"-\nabla\cdot\left(\left({}\right) {}\right)", "fourth": r"-\left({}\right) \nabla^4 {}",
    "noise": r"\left({}\right) \xi_{{{}}}",
    "random flux": r"\nabla\cdot\left(\left({}\right) \xi_{{{}}}\right)",
    "tensor": lambda rows: _MATRIX.format(r" \\ ".join(" & ".join(row) for row in rows)),
}


def _sum(terms: list[str]) -> str:
    """Terms joined by their signs: a − b, not a + −b."""
    return " + ".join(terms).replace("+ -", "- ") or "0"


def _terms(model: Any, name: str, style: Mapping[str, Any]) -> list[str]:
    write, call = style["expr"], style["name"]
    terms = []
    for source, term in model.diffusivity.get(name, {}).items():
        text = write(term) if isinstance(term, Expr) else style["tensor"]([[write(part) for part in row]
                                                                          for row in term])
        if isinstance(term, Expr) and term.args and term.op in ("add", "sub"):
            text = f"({text})"
        terms.append(style["divergence"].format(text, call(model.flowing(source))))
    velocity = model.velocity.get(name)
    if velocity:
        parts = ", ".join(write(velocity[axis]) if axis in velocity else "0" for axis in reversed(model.grid.axes))
        terms.append(style["transport"].format(parts, call(model.flowing(name))))
    if name in model.reaction:
        terms.append(write(model.reaction[name]))
    if name in model.hyperdiffusivity:
        terms.append(style["fourth"].format(write(model.hyperdiffusivity[name]), call(name)))
    if name in model.noise:
        kind = "random flux" if isinstance(model.noise[name], ConservedNoise) else "noise"
        terms.append(style[kind].format(write(model.noise[name].amplitude), call(name)))
    return terms


def to_dict(model: Any) -> dict[str, Any]:
    """Plain data; coefficient fields stay arrays."""
    return {
        "kind": "pde",
        "grid": model.grid.to_dict(),
        "state": list(model.state),
        "diffusivity": {name: {source: _term_to_data(term) for source, term in row.items()}
                        for name, row in model.diffusivity.items()},
        "velocity": {name: {axis: to_text(part) for axis, part in row.items()} for name, row in model.velocity.items()},
        "reaction": {name: to_text(part) for name, part in model.reaction.items()},
        "hyperdiffusivity": {name: to_text(part) for name, part in model.hyperdiffusivity.items()},
        "noise": {name: noise_to_dict(term) for name, term in model.noise.items()},
        "boundary": {name: {axis: [boundaries.to_dict(side) for side in pair] for axis, pair in row.items()}
                     for name, row in model.boundary.items()},
        "parameters": dict(model.parameters),
        "fields": dict(model.fields),
        "random": {name: vars(law) for name, law in model.random.items()},
        "units": dict(model.units),
        **({"potential": {name: {term.name: to_text(term.expression)} for name, term in model.potential.items()}}
           if model.potential else {}),
        **{name: value for name in ("advection", "cross_flux") if (value := getattr(model, name)) is not None},
    }


def from_dict(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `PDE` from what `to_dict` gave."""
    if data.get("kind") != "pde":
        raise ValueError(f"a PDE's description has kind 'pde'; got {data.get('kind')!r}")
    sides = {name: {axis: tuple(boundaries.from_dict(side) for side in pair) for axis, pair in row.items()}
             for name, row in data["boundary"].items()}
    boundary = {name: {axis: pair[0] if axis == MASK else pair for axis, pair in row.items()}
                for name, row in sides.items()}
    noise = {name: noise_from_dict(term) for name, term in data["noise"].items()}
    fields = {name: np.asarray(value, dtype=float) for name, value in data["fields"].items()}
    random = {name: GaussianField(**law) for name, law in data.get("random", {}).items()}
    return {
        "grid": grid_from_dict(data["grid"]), "state": tuple(data["state"]), "boundary": boundary, "noise": noise,
        "parameters": {**data["parameters"], **fields, **random}, "units": data["units"],
        **{name: data[name] for name in ("diffusivity", "velocity", "reaction")},
        # descriptions of the first version have none of these
        **{name: data.get(name) for name in ("hyperdiffusivity", "advection", "cross_flux", "potential")},
    }


def key(model: Any) -> tuple[Any, ...]:
    """What makes two models equal: their description, arrays by their bits. Hashable."""
    return tuple(_freeze(value) for value in to_dict(model).values())


def _term_to_data(term: Any) -> Any:
    return to_text(term) if isinstance(term, Expr) else [[to_text(part) for part in row] for row in term]


def _freeze(data: Any) -> Any:
    if isinstance(data, Mapping):
        return tuple((name, _freeze(value)) for name, value in data.items())
    if isinstance(data, list | tuple):
        return tuple(_freeze(value) for value in data)
    return (data.shape, data.tobytes()) if isinstance(data, np.ndarray) else data
