"""Reactions cut so that they need fewer transforms.

A spectral method transforms every state that a reaction reads, and every reaction. With R_i = Σ_j a_ij u_j + s_i +
c_i g, a and c of parameters and s of the coordinates alone, the modes of a·u are at hand, those of s never change, and
those of g serve all states that have it. Gray and Scott's pair takes three transforms in place of four, FitzHugh and
Nagumo's two in place of four.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sdesim.calculus import constant_value, free_symbols
from sdesim.expressions import Expr, const, symbol


@dataclass(frozen=True)
class Cut:
    """Σ_j a_j u_j + s + Σ_k c_k g_k.

    Attributes:
        linear: a by the state's name.
        source: s, free of the states, their derivatives and the time.
        rest: pairs (c, g).
    """

    linear: Mapping[str, Expr]
    source: Expr
    rest: tuple[tuple[Expr, Expr], ...]

    def pattern(self) -> tuple[Expr, Expr]:
        """c and g with c·g = Σ c_k g_k, such that multiples of one sum of numbers times terms have the same g."""
        sizes = [constant_value(c) for c, _ in self.rest]
        lead = self.rest[0][0]
        if len(sizes) > 1 and (None in sizes or sizes[0] == 0.0):
            lead = const(1.0)
        total = const(0.0)
        for (c, g), size in zip(self.rest, sizes):
            first = constant_value(lead)
            factor = const(1.0) if c is lead else const((size or 0.0) / first) if size is not None and first else c
            total = total + factor * g
        return lead, total


def cut(reaction: Expr, states: Sequence[str], constants: frozenset[str]) -> Cut:
    """The parts of one reaction.

    Args:
        reaction: an expression.
        states: names of the states.
        constants: names of the parameters.

    >>> from sdesim.parsing import parse
    >>> parts = cut(parse("F*(1 - u) - u*v**2"), ("u", "v"), frozenset({"F"}))
    >>> parts.linear, parts.source, parts.rest
    ({'u': -F}, F, ((-1, u*v**2),))
    """
    linear: dict[str, Expr] = {}
    source, rest = const(0.0), []
    for factor, term in _terms(reaction, const(1.0), constants):
        used = free_symbols(term)
        if term.op == "symbol" and term.value in states:
            linear[term.value] = linear.get(term.value, const(0.0)) + factor
        elif used & {"t", *states} or any("(" in name for name in used):
            rest.append((factor, term))
        else:
            source = source + factor * term
    return Cut(linear, source, tuple(rest))


def _terms(node: Expr, factor: Expr, constants: frozenset[str]) -> Iterator[tuple[Expr, Expr]]:
    """Pairs (c, term) whose products add up to factor·node."""
    scale, core = _scaled(node, constants)
    factor = factor * scale
    if core.op in ("add", "sub"):
        first, second = core.args
        yield from _terms(first, factor, constants)
        yield from _terms(second, -factor if core.op == "sub" else factor, constants)
    else:
        yield factor, core


def _scaled(node: Expr, constants: frozenset[str]) -> tuple[Expr, Expr]:
    """c of parameters and the rest, with c·rest = node."""
    one = const(1.0)
    if free_symbols(node) <= constants:
        return node, one
    if node.op == "neg":
        scale, core = _scaled(node.args[0], constants)
        return -scale, core
    if node.op == "mul":
        (a, first), (b, second) = (_scaled(arg, constants) for arg in node.args)
        return a * b, first * second
    if node.op == "div" and free_symbols(node.args[1]) <= constants:
        scale, core = _scaled(node.args[0], constants)
        return scale / node.args[1], core
    return one, node


@dataclass(frozen=True)
class Mixed:
    """The reactions of all states, cut.

    Attributes:
        linear: a of each state by the other's number.
        sources: s of each state.
        patterns: g by the number of the first state that has it.
        takers: which states take the modes of a pattern, and how many times.
    """

    linear: tuple[Mapping[int, Expr], ...]
    sources: tuple[Expr, ...]
    patterns: Mapping[int, Expr]
    takers: Mapping[int, tuple[tuple[int, Expr], ...]]


def mix(reactions: Sequence[Expr], states: Sequence[str], constants: frozenset[str], read: frozenset[str],
        ) -> Mixed | None:
    """The cut reactions, or None where they would need as many transforms as they are.

    Args:
        reactions: of each state.
        states: their names.
        constants: names of the parameters.
        read: names that anything else reads in physical space.

    >>> from sdesim.parsing import parse
    >>> reactions = [parse("F*(1 - u) - u*v**2"), parse("u*v**2 - k*v")]
    >>> spots = mix(reactions, ("u", "v"), frozenset({"F", "k"}), frozenset())
    >>> spots.patterns, spots.takers
    ({0: u*v**2}, {0: ((0, -1), (1, 1))})
    """
    cuts = [cut(reaction, states, constants) for reaction in reactions]
    patterns: dict[int, Expr] = {}
    takers: dict[int, tuple[tuple[int, Expr], ...]] = {}
    for i, parts in enumerate(cuts):
        if parts.rest:
            factor, pattern = parts.pattern()
            lead = next((k for k, other in patterns.items() if other is pattern), i)
            patterns[lead] = pattern
            takers[lead] = (*takers.get(lead, ()), (i, factor))
    fields = {symbol(name) for name in states}
    whole = _count([r for r in reactions if free_symbols(r)], fields, read)
    if _count(list(patterns.values()), fields, read) >= whole:
        return None
    linear = tuple({list(states).index(name): a for name, a in parts.linear.items()} for parts in cuts)
    return Mixed(linear, tuple(parts.source for parts in cuts), patterns, takers)


def _count(terms: Sequence[Expr], fields: set[Expr], read: frozenset[str]) -> int:
    """Transforms: one for each term, one for each state that is read."""
    used = free_symbols(*terms) | read
    return len(terms) + sum(str(f.value) in used for f in fields)
