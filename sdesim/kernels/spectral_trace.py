"""From a spectral method and a modal model to passes over modal and physical space.

Running a method on graph nodes instead of arrays records what it does. Whatever lies between two evaluations of N is
one *pass* over modal space; N itself is an inverse transform of each state that it reads, one pass over physical space
and a forward transform of each result. Expressions of "%…" arrays, parameters and h alone do not change from step to
step: each is *hoisted*, computed once for a step h, into an array of its own.

Names: "@u0", "@u1", … the modes of the states at the start of a step, "@w0", … those of the noise, "@n0", … results of
N, "@b0", … values kept between passes, "@s0", … the static source, "@c0", … hoisted arrays, "@next0", … the end of the
step, "@f0" and "@r0", … fields into and out of N, "@N0", … the first N of a step, "@p1@N0" that of the step before,
"@h" the step. No name of a model begins with @ or %. An ending
".re" or ".im" means the real or imaginary parts of interleaved modes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.calculus import free_symbols, rebuild, substitute, walk
from sdesim.expressions import Expr, as_node, const, is_zero, symbol
from sdesim.methods.method import Method
from sdesim.methods.modal import ModalModel, Place, wavenumber_name
from sdesim.methods.phi import COMPLEX_PHI, PHI, SQRT, Pair
from sdesim.methods.vector import ZERO, Vector, add, is_structural_zero


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


@dataclass(frozen=True, eq=False)
class Program:
    """A step as passes and transforms.

    Attributes:
        form: the modal model.
        coefficients: the hoisted arrays over modal space, by name.
        source: the pass over physical space and the transforms that give the static source, run once.
        steps: what one step runs, in order.
        noisy: numbers of the states that have noise.
        start: what one step runs as long as there are fewer than `past` steps before it.
        past: how many steps before a step it needs the first N of.
        kept: the arrays that hold the first N of a step.
    """

    form: ModalModel
    coefficients: Mapping[str, Expr]
    source: tuple[Pass | Move, ...]
    steps: tuple[Pass | Move, ...]
    noisy: tuple[int, ...]
    start: tuple[Pass | Move, ...] = ()
    past: int = 0
    kept: tuple[str, ...] = ()


class GraphStep:
    """A modal model on graph nodes: the counterpart of `sdesim.methods.modal_array.ArrayStep`."""

    def __init__(self, form: ModalModel, remembers: bool = False) -> None:
        self.form = form
        self.linear = Vector(self._eigenvalue(i) for i in range(len(form.linear)))
        self.root = Vector(ZERO if q is None else q for q in form.noise)
        self.steps: list[Pass | Move] = []
        self.static: list[Pass | Move] = []
        self.results = self.kept = 0
        self.first: dict[int, str] | None = None
        self.remembers = remembers

    def exp(self, z: Vector) -> Vector:
        return self.phi(0, z)

    def phi(self, order: int, z: Vector) -> Vector:
        return Vector(_phi(order, value) for value in z)

    def sqrt(self, z: Vector) -> Vector:
        return Vector(value if is_structural_zero(value) else substitute(SQRT, {"z": as_node(value)}) for value in z)

    def doubled(self, z: Vector) -> Vector:
        """z + z̄, a real vector."""
        return Vector((value.re if isinstance(value, Pair) else value) * 2.0 for value in z)

    @property
    def source(self) -> Vector:
        """Modes of the static source; its passes go into `static`, to be run once."""
        pieces = {place: f"@s{i}" for i, place in enumerate(self.form.static)}
        self.static = self._evaluation(
            self.form.static, {place: (name, f"@q{name[2:]}") for place, name in pieces.items()}, {})
        return self._gathered(pieces, {})

    def past(self, steps: int) -> Vector:
        """N at the start of a step before this one, each of the arrays in `first` under a name of its own."""
        first = self.first or {}
        return Vector(self.parted(i, f"@p{steps}{first[i]}") if i in first else ZERO
                      for i in range(len(self.form.linear)))

    def nonlinear(self, t: Any, u: Vector) -> Vector:
        """Modes of N(t, u): inverse transforms, one pass over physical space, forward transforms."""
        form = self.form
        total = Vector([ZERO] * len(form.linear))
        if form.terms:
            total = self._evaluated(t, u)
        if form.mixed is not None:
            linear = Vector([ZERO] * len(u))
            for i, row in enumerate(form.mixed.linear):
                for j, a in row.items():
                    linear[i] = add(linear[i], u[j] * a)
            total = total + linear + self.source
        if self.remembers and self.first is None:
            total = self._remember(total)
        return total

    def _evaluated(self, t: Any, u: Vector) -> Vector:
        form = self.form
        wanted = {name: u[i] if axis is None else Pair(ZERO, self._wavenumber(i, axis)) * u[i]
                  for name, (i, axis) in form.needed.items()}
        here: dict[str, Expr] = {"t": as_node(t)}
        for k, (name, modes) in enumerate(self._keep(wanted).items()):
            here[name] = symbol(f"@f{k}")
            self.steps.append(Move("inverse", modes, f"@f{k}", form.needed[name][0]))
        names = {}
        for k, place in enumerate(form.terms):
            names[place] = (f"@n{self.results}", f"@r{k}")
            self.results += 1
        self.steps += self._evaluation(form.terms, names, here)
        return self._gathered({place: modes for place, (modes, _) in names.items()}, form.takers)

    def _remember(self, total: Vector) -> Vector:
        """Keep the first N of a step in arrays of its own, for the steps after it."""
        present = {i: value for i, value in enumerate(total) if not is_structural_zero(value)}
        names: dict[int, str] = {}
        outputs: dict[str, Expr] = {}
        for i, value in present.items():
            names[i] = f"@N{i}"
            outputs |= {names[i] + end: node for end, node in parts_of(value).items()}
        self.first = names
        if outputs:
            self.steps.append(Pass("modal", outputs))
        return Vector(self.parted(i, names[i]) if i in names else ZERO for i in range(len(total)))

    def parted(self, i: int, name: str) -> Any:
        """Modes of state i by the name of their array, as the method sees them."""
        return Pair(symbol(f"{name}.re"), symbol(f"{name}.im")) if self.form.is_paired(i) else symbol(name)

    def _evaluation(self, terms: Mapping[Place, Expr], names: Mapping[Place, tuple[str, str]],
                    here: Mapping[str, Expr]) -> list[Pass | Move]:
        """One pass over physical space for all pieces of N, by the names of their modes and fields."""
        if not names:
            return []
        values = {fields: substitute(terms[place], here) for place, (_, fields) in names.items()}
        return [Pass("physical", values),
                *(Move("forward", fields, modes, place[0]) for place, (modes, fields) in names.items())]

    def _gathered(self, names: Mapping[Place, str], takers: Mapping[int, tuple[tuple[int, Expr], ...]]) -> Vector:
        """The sum of the pieces of N, −i k times those that are fluxes."""
        total = Vector([ZERO] * len(self.form.linear))
        for (i, axis), name in names.items():
            modes = self.parted(i, name)
            if axis is not None:
                total[i] = add(total[i], -(Pair(ZERO, self._wavenumber(i, axis)) * modes))
                continue
            for j, factor in takers.get(i, ((i, const(1.0)),)):
                total[j] = add(total[j], modes * factor)
        return total

    def _keep(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Names of the arrays in which modal values are; those that are in none yet get a pass."""
        names: dict[str, str] = {}
        outputs: dict[str, Expr] = {}
        for label, value in values.items():
            parts = parts_of(value)
            known = {str(node.value)[: -len(end)] if end else str(node.value) for end, node in parts.items()
                     if node.op == "symbol" and str(node.value).endswith(end)}
            if len(known) == 1 and all(node.op == "symbol" for node in parts.values()):
                names[label] = known.pop()
                continue
            names[label] = f"@b{self.kept}"
            outputs |= {names[label] + end: node for end, node in parts.items()}
            self.kept += 1
        if outputs:
            self.steps.append(Pass("modal", outputs))
        return names

    def _eigenvalue(self, i: int) -> Any:
        spin = self.form.spin[i]
        real = self.form.linear[i]
        return Pair(real, ZERO if is_zero(spin) else spin) if self.form.is_paired(i) else real

    def _wavenumber(self, i: int, axis: str) -> Expr:
        return symbol(wavenumber_name(axis, self.form.tag(i)))


def trace(method: Method, form: ModalModel) -> Program:
    """The program of one step of a method on a modal model, and of its first steps."""
    hoisted: dict[Expr, str] = {}
    steps, m = _recorded(method.step, form, method.past > 0, hoisted)
    start, _ = _recorded(method.start, form, True, hoisted) if method.start is not None else (steps, m)
    noisy = tuple(i for i, q in enumerate(form.noise) if q is not None)
    return Program(form, {name: value for value, name in hoisted.items()}, tuple(m.static), steps, noisy, start,
                   method.past, tuple((m.first or {}).values()))


def _recorded(step: Callable[..., Any], form: ModalModel, remembers: bool, hoisted: dict[Expr, str],
              ) -> tuple[tuple[Pass | Move, ...], GraphStep]:
    """What one step does; expressions that do not change go into `hoisted`."""
    m = GraphStep(form, remembers)
    states = range(len(form.linear))
    u = Vector(m.parted(i, f"@u{i}") for i in states)
    w = Vector(ZERO if form.noise[i] is None else m.parted(i, f"@w{i}") for i in states)
    end = step(m, symbol("t"), u, symbol("@h"), w)
    m.steps.append(Pass("modal", {f"@next{i}{part}": node for i, value in enumerate(end)
                                  for part, node in parts_of(value).items()}))
    still = frozenset(form.modal) | frozenset(form.model.parameters) | {"@h"}
    steps = tuple(Pass(p.space, {name: _hoist(value, still, frozenset(form.modal), hoisted)
                                 for name, value in p.outputs.items()})
                  if isinstance(p, Pass) and p.space == "modal" else p for p in _merged(m.steps))
    return _reuse(steps), m


def _merged(steps: Sequence[Pass | Move]) -> list[Pass | Move]:
    """Two passes over modal space in a row are one."""
    result: list[Pass | Move] = []
    for step in steps:
        last = result[-1] if result else None
        if isinstance(step, Pass) and isinstance(last, Pass) and step.space == last.space == "modal":
            known = dict(last.outputs)
            later = {name: substitute(value, known) for name, value in step.outputs.items()}
            result[-1] = Pass("modal", {**last.outputs, **later})
        else:
            result.append(step)
    return result


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


def _phi(order: int, z: Any) -> Any:
    if not isinstance(z, Pair):
        return substitute(PHI[order], {"z": as_node(z)})
    if is_structural_zero(z.im):
        return Pair(substitute(PHI[order], {"z": as_node(z.re)}))
    parts = {"re z": as_node(z.re), "im z": as_node(z.im)}
    return Pair(substitute(COMPLEX_PHI[order].re, parts), substitute(COMPLEX_PHI[order].im, parts))


def parts_of(value: Any) -> dict[str, Expr]:
    """The real values of which one consists, by the endings of their names: ".re" and ".im", or "" where it is real."""
    if isinstance(value, Pair):
        return {".re": as_node(value.re), ".im": as_node(value.im)}
    return {"": as_node(value)}


def base(name: str) -> str:
    """The array's name, without the ending that picks real or imaginary parts."""
    return name.removesuffix(".re").removesuffix(".im")


def symbols_of(outputs: Mapping[str, Expr]) -> tuple[str, ...]:
    """Names that a pass reads, sorted."""
    return tuple(sorted(free_symbols(*outputs.values())))
