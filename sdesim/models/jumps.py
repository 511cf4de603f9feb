"""Jumps: events that come at a rate λ(t, x) and each add a size to states, as a term dN of an SDE.

    dX = f dt + Σ g dW + Σ_j s_j(t, X₋, mark) dN_j,   E[dN_j | X₋] = λ_j(t, X₋) dt,

X₋ the state that the event meets: a compound Poisson process where rate and size are constant (Cont & Tankov 2004,
§3.2), a chemical reaction where the rate is a propensity and the size a stoichiometric vector (Gillespie 1977). No
drift is taken off to compensate: what a martingale needs is written into the drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdesim.calculus import constant_value, free_symbols, substitute
from sdesim.expressions import Expr, is_zero, symbol
from sdesim.parsing import RESERVED, as_expr, parse
from sdesim.printing import to_latex, to_text
from sdesim.wellformed import TAKEN, check_name

# a mark's law in terms of a standard normal z or a uniform number u of (0, 1)
LAWS = {
    "norm": "loc + scale*z",
    "lognorm": "loc + scale*exp(s*z)",
    "halfnorm": "loc + scale*abs(z)",
    "uniform": "loc + scale*u",
    "expon": "loc - scale*log(u)",
    "laplace": "loc + scale*where(u < 0.5, log(2*u), -log(2 - 2*u))",
    "logistic": "loc + scale*log(u/(1 - u))",
    "gumbel_r": "loc - scale*log(-log(u))",
    "gumbel_l": "loc + scale*log(-log(u))",
    "cauchy": "loc + scale*tan(pi*(u - 0.5))",
    "pareto": "loc + scale*u**(-1/b)",
    "lomax": "loc + scale*(u**(-1/c) - 1)",
    "weibull_min": "loc + scale*(-log(u))**(1/c)",
    "rayleigh": "loc + scale*sqrt(-2*log(u))",
    "triang": "loc + scale*where(u < c, sqrt(u*c), 1 - sqrt((1 - u)*(1 - c)))",
    "bernoulli": "loc + where(u < p, 1, 0)",
}
_PLAIN = {"normal": "z", "uniform": "u"}


@dataclass(frozen=True)
class Jump:
    """Events at a rate, each of which adds a size to one state or to several at once.

    Parameters
    ----------
    rate : events per unit of time, an expression of the states, t and the parameters; never below 0. A member whose
        rate turns negative or NaN is marked in `status`, like one that blows up.
    size : what an event adds: an expression of the states before it, t, the parameters and the event's marks; a frozen
        scipy.stats distribution; or {"x": ..., "y": ...} where one event moves several states.
    marks : {"name": distribution | "normal" | "uniform"}, fresh random numbers of each event that sizes may use by
        name. Without it `z` is a standard normal and `u` uniform on (0, 1), unless the model has such a name itself.
    nonnegative : an event that would take a state it moves below 0 does not happen.

    >>> import sdesim as sim
    >>> merton = sim.SDE(
    ...     {"S": "r*S"}, {"S": "v*S"}, jumps={"S": sim.Jump("rate", "S*(exp(m + d*z) - 1)")},
    ...     parameters={"r": 0.05, "v": 0.2, "rate": 1.0, "m": -0.1, "d": 0.15},
    ... )
    >>> print(merton)
    dS = (r*S) dt + (v*S) dW_S + (S*(exp(m + d*z) - 1)) dN_S   [Itô]
    N_S: rate rate; z ~ normal
    """

    rate: Any
    size: Any
    marks: Mapping[str, Any] = field(default_factory=dict)
    nonnegative: bool = False

    def __str__(self) -> str:
        marks = "".join(f"; {name} ~ {law_text(law)}" for name, law in self.marks.items())
        return f"rate {_shown(self.rate)}{marks}{'; states stay at least 0' if self.nonnegative else ''}"

    def to_latex(self, name: str) -> str:
        r"""The rate as LaTeX, `name` that of the process.

        >>> Jump(symbol("k"), {}).to_latex("N")
        '\\mathrm{E}[\\mathrm{d}N_{N}] &= \\left(k\\right) \\mathrm{d}t'
        """
        return rf"\mathrm{{E}}[\mathrm{{d}}N_{{{name}}}] &= \left({to_latex(self.rate)}\right) \mathrm{{d}}t"

    def as_text(self) -> Jump:
        """The same with its equations as text."""
        sizes = {s: _shown(size) for s, size in self.size.items()}
        return Jump(_shown(self.rate), sizes, dict(self.marks), self.nonnegative)


def refuse_jumps(model: Any, what: str) -> None:
    """Raise ValueError if the model has jumps, which `what` cannot take.

    >>> import sdesim as sim
    >>> refuse_jumps(sim.SDE({"x": 0}, jumps={"x": sim.Jump(1, 1)}), "this")
    Traceback (most recent call last):
    ...
    ValueError: this takes no jumps, and the model has the jump x: simulate takes them, or leave jumps= out
    """
    if model.jumps:
        names = f"jump{'s' * (len(model.jumps) > 1)} {', '.join(model.jumps)}"
        raise ValueError(f"{what} takes no jumps, and the model has the {names}: simulate takes "
                         "them, or leave jumps= out")  # fmt: skip


def counted(model: Any) -> tuple[str, ...]:
    """The states that are counts: they change by jumps alone, by whole numbers, and never below 0.

    >>> import sdesim as sim
    >>> counted(sim.equations.reactions("A -> B", rate=1.0)), counted(sim.SDE({"x": 0}, jumps={"x": Jump(1, -1)}))
    (('A', 'B'), ())
    """
    def by_whole_numbers(state: str) -> bool:
        moves = [jump for jump in model.jumps.values() if state in jump.size]
        sizes = [constant_value(jump.size[state]) for jump in moves]
        whole = all(size is not None and float(size).is_integer() for size in sizes)
        return bool(moves) and whole and all(jump.nonnegative for jump in moves)

    moved = {s for s, _ in model.noise} | {s for s, f in model.drift.items() if not is_zero(f)}
    return tuple(s for s in model.states if s not in moved and by_whole_numbers(s))


def _shown(value: Any) -> str:
    return to_text(value) if isinstance(value, Expr) else str(value)


def law_text(law: Any) -> str:
    """A mark's law in words.

    >>> from scipy import stats
    >>> law_text(stats.norm(0, 0.5)), law_text("uniform")
    ('norm(0, 0.5)', 'uniform')
    """
    if isinstance(law, str):
        return law
    named = [f"{k}={v:g}" for k, v in law.kwds.items()]
    return f"{law.dist.name}({', '.join([*(f'{a:g}' for a in law.args), *named])})"


def mark_formula(law: Any) -> tuple[str, Expr]:
    """("z" or "u", the mark as an expression of it) for "normal", "uniform" or a frozen distribution.

    Raises ValueError for a distribution without a formula here, saying which have one.

    >>> from scipy import stats
    >>> mark_formula(stats.expon(scale=2.0))
    ('u', -(2*log(u)))
    """
    if isinstance(law, str) and law in _PLAIN:
        return _PLAIN[law], symbol(_PLAIN[law])
    dist = getattr(law, "dist", None)
    if dist is None or dist.name not in LAWS:
        got = repr(law) if dist is None else dist.name
        raise ValueError(f'a mark is "normal", "uniform" or a frozen scipy.stats distribution among {", ".join(LAWS)}; '
                         f"got {got}: write the size as a function of u (uniform) or z (normal) instead")  # fmt: skip
    shapes, loc, scale = dist._parse_args(*law.args, **law.kwds)[:3]
    names = [s.strip() for s in (dist.shapes or "").split(",") if s.strip()]
    values = {"loc": loc, "scale": scale, **dict(zip(names, shapes, strict=True))}
    if not all(np.ndim(v) == 0 and np.isfinite(v) for v in values.values()):
        raise ValueError(f"a mark's distribution has one finite number for each argument, got {law.args} {law.kwds}")
    formula = substitute(parse(LAWS[dist.name]), {k: float(v) for k, v in values.items()})
    return "z" if "z" in free_symbols(formula) else "u", formula


def resolve_jumps(jumps: Any, states: list[str], parameters: list[str]) -> dict[str, Jump]:
    """The jumps of a model by the name of their process, with every rate and size read as an expression.

    Raises ValueError or `EquationError` for a name or a value that contradicts the model.
    """
    if not isinstance(jumps, Mapping):
        raise ValueError(f'jumps is a mapping {{"x": Jump(rate, size)}} or {{"name": Jump(rate, {{"x": size, "y": size'
                         f"}})}}, got {jumps!r}")  # fmt: skip
    return {str(name): _resolve(str(name), jump, states, parameters) for name, jump in jumps.items()}


def _resolve(name: str, jump: Any, states: list[str], parameters: list[str]) -> Jump:
    if not isinstance(jump, Jump):
        raise ValueError(f"the jump '{name}' is a sim.Jump(rate, size), got {jump!r:.80}")
    check_name(name, "jump", ())
    sizes = dict(jump.size) if isinstance(jump.size, Mapping) else {name: jump.size}
    strangers = [s for s in sizes if s not in states]
    if strangers or not sizes:
        raise ValueError(f"the jump '{name}' moves {strangers[0] if strangers else 'no state'!r}, but the states are "
                         f'{", ".join(states)}; write Jump(rate, {{"{states[0]}": size}})')  # fmt: skip
    known = [*states, *parameters, "t"]
    laws: dict[str, Any] = {n: law for n, law in (("z", "normal"), ("u", "uniform")) if n not in known}
    for mark, law in jump.marks.items():
        check_name(mark, "mark", (*TAKEN, *sorted(RESERVED)))
        if mark in known:
            raise ValueError(f"the mark '{mark}' of the jump '{name}' is a state or a parameter too; rename it")
        laws[mark] = law
    for s, size in sizes.items():
        if hasattr(size, "ppf"):
            mark = f"size_{s}"
            while mark in (*known, *laws):
                mark += "_"
            laws[mark], sizes[s] = size, symbol(mark)
    read = {s: as_expr(size, [*known, *laws], f"size of the jump {name} in {s}") for s, size in sizes.items()}
    read = {s: size for s, size in read.items() if not is_zero(size)}
    used = free_symbols(*read.values())
    marks = {mark: law for mark, law in laws.items() if mark in used}
    for law in marks.values():
        mark_formula(law)
    return Jump(as_expr(jump.rate, known, f"rate of the jump {name}"), read, marks, bool(jump.nonnegative))
