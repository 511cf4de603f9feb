"""In which space the arrays of a spectral program are, and how its passes become kernels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import substitute
from sdesim.expressions import Expr, symbol
from sdesim.kernels.spectral_pointwise import Body, body
from sdesim.kernels.spectral_trace import Move, Program, base, symbols_of

Array = NDArray[np.float64]


class Layout:
    """In which space an array is, by its name and by what it is made of; how a pass becomes bodies."""

    def __init__(self, program: Program, scalars: tuple[str, ...]) -> None:
        self.program, self.form, self.scalars = program, program.form, scalars
        self.found: dict[int, list[tuple[Body, tuple[int, ...]]]] = {}
        form = self.form
        self.transforms = list(dict.fromkeys(form.transforms))
        self.tags = {name: int(name.rsplit(".", 1)[1]) for name in form.modal}
        self.tags |= {step.target: form.tag(step.state) for step in (*program.source, *program.start, *program.steps)
                      if isinstance(step, Move) and step.direction == "forward"}
        self.narrow = set(form.modal)  # one value for each pair

    def compact(self, name: str, values: Array) -> Array:
        """An array over modal space with one value for each complex coefficient."""
        return values[..., ::2] if self.transforms[self.tags[name]].is_complex else values

    def bodies(self, outputs: Mapping[str, Expr], space: str) -> list[tuple[Body, tuple[int, ...]]]:
        """One body for each transform among the states of the outputs, with the shape of its targets."""
        if id(outputs) not in self.found:  # the program keeps its passes, so that they are told by their place
            self.found[id(outputs)] = self._bodies(outputs, space)
        return self.found[id(outputs)]

    def _bodies(self, outputs: Mapping[str, Expr], space: str) -> list[tuple[Body, tuple[int, ...]]]:
        if space == "physical":
            return [(body(outputs, self.scalars), self.form.model.grid.shape)]
        groups: dict[tuple[int, bool], dict[str, Expr]] = {}
        for name, value in outputs.items():
            reads = [base(n) for n in symbols_of({"": value}) if n not in self.scalars]
            tag = self.tags[base(name)] = self._tag(base(name), reads)
            narrow = base(name).startswith("@c")
            if narrow:
                self.narrow.add(name)
            groups.setdefault((tag, narrow), {})[name] = value
        found = []
        for (tag, narrow), group in groups.items():
            transform = self.transforms[tag]
            pairs = transform.is_complex and not narrow
            shape = transform.complex_shape if narrow else transform.modal_shape
            found.append((body(self._paired(group) if pairs else group, self.scalars), shape))
        return found

    def _tag(self, name: str, reads: list[str]) -> int:
        if name.startswith(("@next", "@N")):
            return self.form.tag(int(name.lstrip("@nextN")))
        known = [n for n in reads if n in self.tags]
        if known:
            return self.tags[known[0]]
        states = [n for n in reads if n.startswith("@u")]
        return self.form.tag(int(states[0][2:]))

    def _paired(self, group: Mapping[str, Expr]) -> dict[str, Expr]:
        """Real and imaginary parts of what is real arithmetic on both."""
        result: dict[str, Expr] = {}
        for name, value in group.items():
            if base(name) != name:
                result[name] = value
                continue
            wide = [n for n in symbols_of({"": value}) if n not in self.narrow and n not in self.scalars]
            for part in (".re", ".im"):
                result[name + part] = substitute(value, {n: symbol(n + part) for n in wide})
        return result


@lru_cache(maxsize=8)
def layout(program: Program, scalars: tuple[str, ...]) -> Layout:
    """The layout of a program's arrays; kept for the next run."""
    return Layout(program, scalars)
