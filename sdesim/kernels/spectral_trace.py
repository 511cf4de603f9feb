"""From a spectral method and a modal model to passes over modal and physical space.

Running a method on graph nodes instead of arrays records what it does. Whatever lies between two evaluations of N is
one *pass* over modal space; N itself is an inverse transform of each state that it reads, one pass over physical space
and a forward transform of each result. Expressions of "%…" arrays, parameters and h alone do not change from step to
step: each is *hoisted*, computed once for a step h, into an array of its own.

Names: "@u0", "@u1", … the modes of the states at the start of a step, "@w0", … those of the noise, "@n0", … results of
N, "@b0", … values kept between passes, "@s0", … the static source, "@c0", … hoisted arrays, "@next0", … the end of the
step, "@f0" and "@r0", … fields into and out of N, "@h" the step. No name of a model begins with @ or %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdesim.calculus import free_symbols, rebuild, substitute, walk
from sdesim.expressions import Expr, as_node, is_zero, symbol
from sdesim.methods.modal import PHI, SQRT, ModalModel
from sdesim.methods.vector import ZERO, Vector, is_structural_zero


@dataclass(frozen=True)
class Pass:
    """A sweep over one space: the values that it computes, by the names under which they are kept."""

    space: str
    outputs: Mapping[str, Expr]


@dataclass(frozen=True)
class Move:
    """A transform of one state's array: "inverse" from modes to field, or "forward"."""

    direction: str
    source: str
    target: str
    state: int


@dataclass(frozen=True)
class Program:
    """A step as passes and transforms.

    Attributes:
        form: the modal model.
        coefficients: the hoisted arrays over modal space, by name.
        source: the pass over physical space and the transforms that give the static source, run once.
        steps: what one step runs, in order.
        noisy: numbers of the states that have noise.
    """

    form: ModalModel
    coefficients: Mapping[str, Expr]
    source: tuple[Pass | Move, ...]
    steps: tuple[Pass | Move, ...]
    noisy: tuple[int, ...]


class GraphStep:
    """A modal model on graph nodes: the counterpart of `sdesim.methods.modal.ArrayStep`."""

    def __init__(self, form: ModalModel) -> None:
        self.form = form
        self.linear = Vector(form.linear)
        self.root = Vector(ZERO if q is None else q for q in form.noise)
        self.steps: list[Pass | Move] = []
        self.static: list[Pass | Move] = []
        self.fields = self.results = self.kept = 0

    def exp(self, z: Vector) -> Vector:
        return _each(PHI[0], z)

    def phi(self, order: int, z: Vector) -> Vector:
        return _each(PHI[order], z)

    def sqrt(self, z: Vector) -> Vector:
        return _each(SQRT, z)

    @property
    def source(self) -> Vector:
        terms = {i: term for i, term in enumerate(self.form.nonlinear) if not is_zero(term)}
        if terms and not self.static:
            self.static.append(Pass("physical", {f"@r{i}": term for i, term in terms.items()}))
            self.static += [Move("forward", f"@r{i}", f"@s{i}", i) for i in terms]
        return Vector(symbol(f"@s{i}") if i in terms else ZERO for i in range(len(self.form.nonlinear)))

    def nonlinear(self, t: Any, u: Vector) -> Vector:
        form, names = self.form, dict(enumerate(self.form.model.state))
        terms = {i: term for i, term in enumerate(form.nonlinear) if not is_zero(term)}
        if not terms:
            return Vector(ZERO for _ in names)
        modes, fields = self._keep({i: u[i] for i in form.needed}), {}
        for i in form.needed:
            fields[names[i]] = symbol(f"@f{self.fields}")
            self.steps.append(Move("inverse", modes[i], f"@f{self.fields}", i))
            self.fields += 1
        first = self.results
        self.results += len(terms)
        here = {**fields, "t": as_node(t)}
        labels = {i: first + k for k, i in enumerate(terms)}
        self.steps.append(Pass("physical", {f"@r{labels[i]}": substitute(term, here) for i, term in terms.items()}))
        self.steps += [Move("forward", f"@r{k}", f"@n{k}", i) for i, k in labels.items()]
        return Vector(symbol(f"@n{labels[i]}") if i in labels else ZERO for i in names)

    def _keep(self, values: Mapping[int, Expr]) -> dict[int, str]:
        """Names under which modal values are in memory; those that are not yet get a pass."""
        names, outputs = {}, {}
        for i, value in values.items():
            if value.op == "symbol":
                names[i] = str(value.value)
                continue
            names[i] = f"@b{self.kept}"
            outputs[names[i]] = value
            self.kept += 1
        if outputs:
            self.steps.append(Pass("modal", outputs))
        return names


def trace(step: Callable[..., Any], form: ModalModel) -> Program:
    """The program of one step of a method on a modal model."""
    m = GraphStep(form)
    states = range(len(form.linear))
    noisy = tuple(i for i in states if form.noise[i] is not None)
    u = Vector(symbol(f"@u{i}") for i in states)
    w = Vector(symbol(f"@w{i}") if i in noisy else ZERO for i in states)
    end = step(m, symbol("t"), u, symbol("@h"), w)
    m.steps.append(Pass("modal", {f"@next{i}": as_node(value) for i, value in enumerate(end)}))
    still = frozenset(form.modal) | frozenset(form.model.parameters) | {"@h"}
    hoisted: dict[Expr, str] = {}
    steps = tuple(Pass(p.space, {name: _hoist(value, still, frozenset(form.modal), hoisted)
                                 for name, value in p.outputs.items()})
                  if isinstance(p, Pass) and p.space == "modal" else p for p in m.steps)
    return Program(form, {name: value for value, name in hoisted.items()}, tuple(m.static), _reuse(steps), noisy)


def _hoist(node: Expr, still: frozenset[str], arrays: frozenset[str], hoisted: dict[Expr, str]) -> Expr:
    """The expression with its largest unchanging parts that hold an array replaced by the symbols of hoisted arrays."""
    fixed: dict[Expr, bool] = {}
    held: dict[Expr, bool] = {}
    order = walk([node])
    for n in order:
        fixed[n] = n.value in still if n.op == "symbol" else all(fixed[a] for a in n.args)
        held[n] = n.op == "symbol" and n.value in arrays or any(held[a] for a in n.args)
    done: dict[Expr, Expr] = {}
    for n in order:
        if fixed[n] and held[n] and n.args:
            done[n] = n
        else:
            args = tuple(_named(a, hoisted) if fixed[a] and held[a] and a.args else done[a] for a in n.args)
            done[n] = rebuild(n, args) if n.args else n
    return _named(node, hoisted) if fixed[node] and held[node] and node.args else done[node]


def _named(node: Expr, hoisted: dict[Expr, str]) -> Expr:
    return symbol(hoisted.setdefault(node, f"@c{len(hoisted)}"))


def _reuse(steps: tuple[Pass | Move, ...]) -> tuple[Pass | Move, ...]:
    """Values that a pass has stored are loaded by the later passes, not computed again."""
    stored: dict[Expr, Expr] = {}
    result: list[Pass | Move] = []
    for step in steps:
        if isinstance(step, Move) or step.space != "modal":
            result.append(step)
            continue
        outputs = {name: _replace(value, stored) for name, value in step.outputs.items()}
        stored |= {value: symbol(name) for name, value in step.outputs.items() if value.args}
        result.append(Pass(step.space, outputs))
    return tuple(result)


def _replace(node: Expr, stored: Mapping[Expr, Expr]) -> Expr:
    done: dict[Expr, Expr] = {}
    for n in walk([node]):
        args = tuple(done[a] for a in n.args)
        done[n] = stored[n] if n in stored else rebuild(n, args) if args else n
    return done[node]


def _each(template: Expr, z: Vector) -> Vector:
    return Vector(ZERO if is_structural_zero(value) else substitute(template, {"z": as_node(value)}) for value in z)


def symbols_of(outputs: Mapping[str, Expr]) -> tuple[str, ...]:
    """Names that a pass reads, sorted."""
    return tuple(sorted(free_symbols(*outputs.values())))
