"""Chemical reaction networks from text: counts that jump, the chemical Langevin equation, the rate equation.

Reaction j takes n_ij molecules of species i, changes them by ν_ij, and comes at the propensity (Gillespie 1977)

    a_j(x) = k_j Ω^{1−m} Π_i x_i (x_i − 1) … (x_i − n_ij + 1)/n_ij!,   m = Σ_i n_ij,

x numbers of molecules, Ω the volume. The three descriptions of one network are (Gillespie, J. Chem. Phys. 113, 2000)

    "jumps"     X ↦ X + ν_j at the rate a_j(X): exact in law by the method ssa, in leaps by tau_leaping and its kin
    "langevin"  dX = Σ_j ν_j a_j dt + Σ_j ν_j √a_j dW_j, a Wiener process for each reaction, for counts ≫ 1
    "rate"      dX/dt = Σ_j ν_j k_j Ω^{1−m} Π_i x_i^{n_ij}/n_ij!, the limit of large counts

The Langevin equation lives where all counts are positive. Near 0 a step may pass below it: a propensity is taken at
max(x, 0), so that noise vanishes there and what makes a species brings it back; it is not reflected, no mass is lost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.expressions import Expr, const, function, maximum, symbol
from sdesim.models.jumps import Jump
from sdesim.models.sde import SDE
from sdesim.parsing import RESERVED, as_expr
from sdesim.wellformed import TAKEN, check_name

KINDS = ("jumps", "langevin", "rate")
_ARROWS = {"<->": "both", "⇌": "both", "<=>": "custom both", "->": "one", "→": "one", "=>": "custom"}
_ARROW = re.compile("|".join(re.escape(arrow) for arrow in _ARROWS))
_TERM = re.compile(r"(\d{0,3})\s*\*?\s*([^\W\d]\w*)")
_NOTHING = ("", "0", "∅")
_MOST = 10  # molecules that meet in one reaction
_FLOOR = 1e-300  # below a propensity that matters: √ has a slope there


@dataclass(frozen=True)
class Reaction:
    """What goes in, what comes out, the rate as given, and whether that is the whole propensity.

    >>> forward, = read("2A + B -> C", 0.1)
    >>> forward.taken, forward.change
    ({'A': 2, 'B': 1}, {'A': -2, 'B': -1, 'C': 1})
    """

    text: str
    taken: Mapping[str, int]
    made: Mapping[str, int]
    rate: Any
    custom: bool = False

    @property
    def change(self) -> dict[str, int]:
        """ν: what a reaction adds to each species that it changes."""
        every = dict.fromkeys([*self.taken, *self.made])
        net = {s: self.made.get(s, 0) - self.taken.get(s, 0) for s in every}
        return {s: n for s, n in net.items() if n}


def reactions(
    text: str | Sequence[str],
    *,
    rate: Any,
    parameters: Mapping[str, Any] | None = None,
    volume: Any = 1.0,
    kind: str = "jumps",
    units: Mapping[str, str] | None = None,
) -> SDE:
    """The model of a reaction network, its states the numbers of molecules of each species.

    Parameters
    ----------
    text : "A + B -> C", "2A -> B", "0 -> A" (or "∅ -> A"), "A <-> B", or a list of such. The species are the states, in
        the order in which they are first named. After => (or <=>) the rate is the whole propensity, not a constant of
        mass action: reactions("S => P", rate="v*S/(K + S)").
    rate : the rate of a reaction, a pair of them where it goes both ways; a list of as many where there are several.
        A rate is a number or an expression of the parameters, the species and t.
    parameters : values of the names that rates and volume use, as for `SDE`.
    volume : Ω, a number or an expression of the parameters.
    kind : "jumps", "langevin" or "rate", see the module's text.
    units : as for `SDE`.

    Raises ValueError or `EquationError` for a reaction that cannot be read, that changes nothing, or that brings more
    than ten molecules together; for a rate below 0, too few or too many rates, an unknown name or kind.

    >>> network = reactions(["A + B -> C", "C <-> 0"], rate=["k", (0.1, 2)], parameters={"k": 0.01})
    >>> print(network)
    dA = (0) dt + (-1) dN_r1   [Itô]
    dB = (0) dt + (-1) dN_r1   [Itô]
    dC = (0) dt + (1) dN_r1 + (-1) dN_r2 + (1) dN_r2_back   [Itô]
    N_r1: rate k*A*B; states stay at least 0
    N_r2: rate 0.1*C; states stay at least 0
    N_r2_back: rate 2; states stay at least 0
    >>> print(reactions("A -> 0", rate=2, kind="langevin"))
    dA = (-(2*max(A, 0))) dt + (-sqrt(max(2*max(A, 0), 1e-300))) dW_r1   [Itô]
    """
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, got {kind!r}")
    named = _network(text, rate)
    species = list(dict.fromkeys(s for r in named.values() for s in (*r.taken, *r.made)))
    for s in species:
        check_name(s, "species", (*TAKEN, *sorted(RESERVED)))
    known = list(parameters or {})
    both = sorted(set(species) & set(known))
    if both:
        raise ValueError(f"'{both[0]}' names both a species and a parameter; rename one of them")
    size = _scalar(volume, known, "volume")
    propensities = {name: _propensity(r, size, kind, [*species, *known, "t"]) for name, r in named.items()}
    common: dict[str, Any] = {"parameters": parameters, "units": units}
    if kind == "jumps":
        jumps = {n: Jump(propensities[n], r.change, nonnegative=True) for n, r in named.items()}
        return SDE(dict.fromkeys(species, 0), jumps=jumps, **common)
    drift: dict[str, Any] = {s: const(0.0) for s in species}
    noise: dict[str, dict[str, Expr]] = {}
    for name, r in named.items():
        for s, n in r.change.items():
            drift[s] = drift[s] + _times(n, propensities[name])
            root = function("sqrt", maximum(propensities[name], _FLOOR))
            noise.setdefault(s, {})[name] = _times(n, root)
    return SDE(drift, noise if kind == "langevin" else None, **common)


def _times(n: int, value: Expr) -> Expr:
    return value if n == 1 else -value if n == -1 else n * value


def _network(text: Any, rate: Any) -> dict[str, Reaction]:
    """{name: reaction}, each direction on its own: r1, r2, r2_back, …"""
    texts = [text] if isinstance(text, str) else list(text)
    rates = [rate] if isinstance(text, str) else list(rate) if isinstance(rate, (list, tuple)) else [rate]
    if not texts or len(rates) != len(texts):
        raise ValueError(f"one rate is wanted for each reaction; got {len(rates)} rates for {len(texts)} reactions")
    found = {}
    for i, (one, k) in enumerate(zip(texts, rates, strict=True), start=1):
        forward, *back = read(one, k)
        found[f"r{i}"] = forward
        found |= {f"r{i}_back": r for r in back}
    return found


def read(text: str, rate: Any) -> list[Reaction]:
    """The reaction of a text, and the reverse one if it has both directions; ValueError says what is wrong.

    >>> [r.change for r in read("A <-> 2B", (1.0, 0.5))]
    [{'A': -1, 'B': 2}, {'B': -2, 'A': 1}]
    """
    if not isinstance(text, str) or len(text) > 1000:
        raise ValueError(f'a reaction is text such as "A + B -> C", got {text!r:.80}')
    arrows = _ARROW.findall(text)
    if len(arrows) != 1:
        raise ValueError(f"the reaction '{text}' has {len(arrows)} arrows; write one of {' '.join(_ARROWS)} in it")
    left, right = (_side(part, text) for part in text.split(arrows[0]))
    way = _ARROWS[arrows[0]]
    custom, both = way.startswith("custom"), way.endswith("both")
    if both and not (isinstance(rate, (list, tuple)) and len(rate) == 2):
        raise ValueError(f"the reaction '{text}' goes both ways: its rate is a pair (forward, back), got {rate!r:.80}")
    if not both and isinstance(rate, (list, tuple)):
        raise ValueError(f"the reaction '{text}' goes one way: its rate is one number or expression, got {rate!r:.80}")
    forward, back = rate if both else (rate, None)
    found = [Reaction(text, left, right, forward, custom)]
    found += [Reaction(text, right, left, back, custom)] if both else []
    for r in found:
        if not r.change:
            raise ValueError(f"the reaction '{text}' changes nothing")
        if sum(r.taken.values()) > _MOST and not custom:
            raise ValueError(f"more than {_MOST} molecules meet in '{text}'; is a number mistyped?")
    return found


def _side(part: str, text: str) -> dict[str, int]:
    """{species: how many} of one side."""
    if part.strip() in _NOTHING[1:]:
        return {}
    counts: dict[str, int] = {}
    for term in part.split("+"):
        match = _TERM.fullmatch(term.strip())
        number = int(match[1] or 1) if match else 0
        if match is None or number == 0:
            raise ValueError(f"the reaction '{text}': '{term.strip()}' is no species with a whole number before it, "
                             "such as A or 2A; nothing is written 0 or ∅")  # fmt: skip
        counts[match[2]] = counts.get(match[2], 0) + number
    return counts


def _scalar(value: Any, known: list[str], what: str) -> Expr:
    node = as_expr(value, known, what)
    if node.op == "const" and (node.value < 0.0 or what == "volume" and node.value == 0.0):
        raise ValueError(f"{what} is {'above 0' if what == 'volume' else 'never below 0'}, got {node.value:g}")
    return node


def _propensity(r: Reaction, volume: Expr, kind: str, known: list[str]) -> Expr:
    rate = _scalar(r.rate, known, f"the rate of '{r.text}'")
    if r.custom:
        return rate
    divisor, total = math.prod(math.factorial(n) for n in r.taken.values()), rate
    for s, n in r.taken.items():
        x = symbol(s) if kind != "langevin" else maximum(symbol(s), 0)
        total = total * (x**n if kind == "rate" else x)
        for i in range(1, n if kind != "rate" else 1):
            total = total * (x - i if kind == "jumps" else maximum(symbol(s) - i, 0))
    total = total if divisor == 1 else total / float(divisor)
    order = sum(r.taken.values()) - 1
    if volume.op == "const" and volume.value == 1.0 or order == 0:
        return total
    return total * volume if order == -1 else total / (volume if order == 1 else volume**order)
