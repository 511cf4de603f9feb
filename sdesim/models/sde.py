"""Stochastic differential equations dX = f(t, X) dt + Σ_c g_c(t, X) dW_c, described by their mathematics.

A description is frozen and symbolic, so what a method needs is derived here on the expressions: the noise's type,
Milstein's terms L^c g_k with L^c = Σ_j g_jc ∂/∂x_j, and the drift in another calculus. With α = 0 for Itô, ½ for
Stratonovich and 1 for Hänggi–Klimontovich, the drift f_α of one and the same process obeys (Gardiner 2009, §4.3)

    f_α + α Σ_c L^c g_c = f_0 .
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from sdesim.boundaries import Absorbing, Reflecting
from sdesim.calculus import differentiate, evaluate, free_symbols
from sdesim.expressions import Expr, const, is_zero
from sdesim.models.jumps import Jump, resolve_jumps
from sdesim.parsing import RESERVED, as_expr
from sdesim.printing import name_to_latex, to_latex, to_text
from sdesim.wellformed import TAKEN, check_name

ALPHA = {"ito": 0.0, "stratonovich": 0.5, "hanggi-klimontovich": 1.0}


@dataclass(frozen=True, init=False, eq=False)
class SDE:
    """A stochastic differential equation in any number of states.

    Parameters
    ----------
    drift : {"x": expr, ...}; its keys, in order, are the state.
    noise : {"x": expr} gives x its own Wiener process; {"x": {"W1": expr, "W2": expr}} names Wiener processes, which
        several states may share. States left out have no noise.
    parameters : {"k": number | scipy.stats distribution | array over members}, defaults that `simulate` may override.
    interpretation : "ito", "stratonovich" or "hanggi-klimontovich".
    bounds : {"x": Reflecting(lo, hi) | Absorbing(lo, hi)}. An event of a jump that lands beyond them absorbs the member
        where it lands, at the event's time, or is folded back.
    units : {"x": "m", "time": "s", ...}, strings that go to the Dataset's attributes.
    jumps : {"x": Jump(rate, size)}, or by a name of their own {"name": Jump(rate, {"x": size, "y": size})}.

    An expression is text, a number, a function of the names it uses, or a SymPy expression.
    Raises `EquationError` for an unknown name and ValueError for anything else that contradicts itself.

    >>> ou = SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1.0, "s": 0.5})
    >>> ou.noise_type
    'additive'
    >>> print(ou)
    dx = (-k*x) dt + (s) dW_x   [Itô]
    """

    drift: Mapping[str, Expr]
    noise: Mapping[tuple[str, str], Expr]
    parameters: Mapping[str, Any]
    interpretation: str
    bounds: Mapping[str, Reflecting | Absorbing]
    units: Mapping[str, str]
    jumps: Mapping[str, Jump]
    channels: tuple[str, ...] = field(default=())

    def __init__(
        self,
        drift: Mapping[str, Any],
        noise: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        interpretation: str = "ito",
        bounds: Mapping[str, Reflecting | Absorbing] | None = None,
        units: Mapping[str, str] | None = None,
        jumps: Mapping[str, Jump] | None = None,
    ) -> None:
        parameters = dict(parameters or {})
        _check_names(drift, parameters)
        if interpretation not in ALPHA:
            raise ValueError(f"interpretation is one of {', '.join(ALPHA)}, got {interpretation!r}")
        known = [*drift, *parameters, "t"]
        entries = _noise_entries(noise or {}, list(drift))
        exprs = {key: as_expr(v, known, f"noise of {key[0]}") for key, v in entries.items()}
        exprs = {key: e for key, e in exprs.items() if not is_zero(e)}
        _check_bounds(dict(bounds or {}), list(drift), parameters)
        _check_units(dict(units or {}), [*drift, *parameters, "time"])
        put = object.__setattr__
        put(self, "drift", {s: as_expr(v, known, f"drift of {s}") for s, v in drift.items()})
        put(self, "noise", exprs)
        put(self, "parameters", parameters)
        put(self, "interpretation", interpretation)
        put(self, "bounds", dict(bounds or {}))
        put(self, "units", dict(units or {}))
        put(self, "jumps", resolve_jumps(jumps or {}, list(drift), list(parameters)))
        put(self, "channels", tuple(dict.fromkeys(c for _, c in exprs)))

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states, in order."""
        return tuple(self.drift)

    @cached_property
    def noise_type(self) -> str:
        """None, additive, scalar, diagonal, commutative or general: the most special type that holds.

        Diagonal noise has one Wiener process for each state and g_i that depends on x_i alone; commutative noise has
        L^c g_k = L^k g_c for every pair, which is what a Milstein method without Lévy areas needs.
        """
        if not self.noise:
            return "none"
        names = set(self.states)
        if not any(free_symbols(g) & names for g in self.noise.values()):
            return "additive"
        if len(self.channels) == 1:
            return "scalar"
        owners = {s for s, _ in self.noise}
        if len(owners) == len(self.channels) == len(self.noise) and all(
            not free_symbols(g) & (names - {s}) for (s, _), g in self.noise.items()
        ):
            return "diagonal"
        return "commutative" if self._commutes() else "general"

    def _commutes(self) -> bool:
        """Whether L^c g_k = L^k g_c, by evaluation at points of every scale and sign where both are finite.

        Noise that is finite at too few of them to tell is taken as general, which every method for it can bear.
        """
        pairs = [(self.derived(c, s, k), self.derived(k, s, c)) for s in self.states for c in self.channels for k in
                 self.channels if c < k]  # fmt: skip
        pairs = [(a, b) for a, b in pairs if a is not b]
        names = sorted(free_symbols(*(e for pair in pairs for e in pair)))
        scales = np.repeat([0.1, 1.0, 10.0, 100.0], 64)
        draws = np.random.default_rng(20260101)
        points = draws.uniform(0.2, 1.7, (len(names), scales.size)) * scales
        points *= np.where(np.arange(scales.size) % 2, draws.choice([-1.0, 1.0], points.shape), 1.0)
        env = dict(zip(names, points, strict=True))
        for a, b in pairs:
            left, right = (np.broadcast_to(v, scales.size) for v in evaluate([a, b], env))
            fine = np.isfinite(left) & np.isfinite(right)
            if fine.sum() < 16 or not np.allclose(left[fine], right[fine], rtol=1e-9, atol=1e-12):
                return False
        return True

    def derived(self, along: str, state: str, channel: str) -> Expr:
        """L^along g_(state, channel) = Σ_j g_(j, along) ∂g_(state, channel)/∂x_j, a term of Milstein's expansion."""
        g = self.noise.get((state, channel))
        total = const(0.0)
        if g is not None:
            for j in self.states:
                if (j, along) in self.noise:
                    total = total + self.noise[j, along] * differentiate(g, j)
        return total

    def drift_in(self, calculus: str) -> dict[str, Expr]:
        """The drift of the same process in another calculus.

        >>> SDE({"x": 0}, {"x": "x"}).drift_in("stratonovich")
        {'x': -0.5*x}
        """
        weight = ALPHA[self.interpretation] - ALPHA[calculus]
        if weight == 0.0:
            return dict(self.drift)
        result = {}
        for s, f in self.drift.items():
            total = const(0.0)
            for c in self.channels:
                total = total + self.derived(c, s, c)
            result[s] = f + weight * total
        return result

    def extended(self, name: str, drift: Any, jumps: Callable[[str], Mapping[str, Jump]] | None = None) -> SDE:
        """The model without bounds and with one more state, whose name is as wanted or, if it is taken, longer.

        `jumps` gives those of the whole by the new state's name; None keeps them.

        >>> SDE({"x": "-x"}, {"x": 1}).extended("clock", 1.0).states
        ('x', 'clock')
        """
        while name in {*self.states, *self.parameters}:
            name += "_"
        noise: dict[str, dict[str, Expr]] = {}
        for (s, c), g in self.noise.items():
            noise.setdefault(s, {})[c] = g
        events = self.jumps if jumps is None else jumps(name)
        return SDE({**self.drift, name: drift}, noise, parameters=self.parameters, interpretation=self.interpretation,
                   jumps=events)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Everything that makes this model again, with equations as text: `SDE.from_dict` is the inverse."""
        noise: dict[str, dict[str, str]] = {}
        for (s, c), g in self.noise.items():
            noise.setdefault(s, {})[c] = to_text(g)
        return {
            "drift": {s: to_text(f) for s, f in self.drift.items()},
            "noise": noise,
            "parameters": dict(self.parameters),
            "interpretation": self.interpretation,
            "bounds": dict(self.bounds),
            "units": dict(self.units),
            "jumps": {name: jump.as_text() for name, jump in self.jumps.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SDE:
        """The model that `to_dict` wrote; the equations are parsed, never executed."""
        return cls(**data)

    def __str__(self) -> str:
        name = {"ito": "Itô", "stratonovich": "Stratonovich", "hanggi-klimontovich": "Hänggi–Klimontovich"}
        lines = []
        for s, f in self.drift.items():
            terms = [f"({to_text(f)}) dt"] + [f"({to_text(g)}) dW_{c}" for (i, c), g in self.noise.items() if i == s]
            terms += [f"({to_text(j.size[s])}) dN_{n}" for n, j in self.jumps.items() if s in j.size]
            lines.append(f"d{s} = {' + '.join(terms)}   [{name[self.interpretation]}]")
        return "\n".join([*lines, *(f"N_{name}: {jump}" for name, jump in self.jumps.items())])

    __repr__ = __str__

    def to_latex(self) -> str:
        r"""The equations as an aligned LaTeX display.

        >>> print(SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1, "s": 1}).to_latex())
        \begin{aligned}
        \mathrm{d}x &= \left(-k x\right) \mathrm{d}t + \left(s\right) \mathrm{d}W_{x}
        \end{aligned}
        """
        dot = r"\circ " if self.interpretation == "stratonovich" else ""
        lines = []
        for s, f in self.drift.items():
            terms = [rf"\left({to_latex(f)}\right) \mathrm{{d}}t"]
            terms += [
                rf"\left({to_latex(g)}\right) {dot}\mathrm{{d}}W_{{{c}}}" for (i, c), g in self.noise.items() if i == s
            ]
            terms += [rf"\left({to_latex(j.size[s])}\right) \mathrm{{d}}N_{{{n}}}" for n, j in self.jumps.items()
                      if s in j.size]  # fmt: skip
            lines.append(rf"\mathrm{{d}}{name_to_latex(s)} &= " + " + ".join(terms))
        lines += [jump.to_latex(name) for name, jump in self.jumps.items()]
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$${self.to_latex()}$$"


def _check_names(drift: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    if not isinstance(drift, Mapping) or not drift:
        raise ValueError(f'drift is a mapping {{"x": expression, ...}} of at least one state, got {drift!r}')
    for kind, names in (("state", drift), ("parameter", parameters)):
        for name in names:
            check_name(name, kind, (*TAKEN, *sorted(RESERVED)))
    both = sorted(set(drift) & set(parameters))
    if both:
        raise ValueError(f"'{both[0]}' names both a state and a parameter; rename one of them")


def _check_bounds(bounds: Mapping[str, Any], states: list[str], parameters: Mapping[str, Any]) -> None:
    for s, bound in bounds.items():
        if s not in states:
            raise ValueError(f"bounds name {s!r}, which is no state; the states are {', '.join(states)}")
        if not isinstance(bound, (Reflecting, Absorbing)):
            raise ValueError(f"the bounds of {s} are Reflecting(lo, hi) or Absorbing(lo, hi), got {bound!r}")
        if isinstance(bound, Absorbing) and "exit_time" in {*states, *parameters}:
            kind = "state" if "exit_time" in states else "parameter"
            raise ValueError(f"with absorbing bounds 'exit_time' is a variable of the Dataset; rename the {kind}")


def _check_units(units: Mapping[str, Any], names: list[str]) -> None:
    for name, unit in units.items():
        if name not in names:
            raise ValueError(f"units names {name!r}, which is none of {', '.join(names)}")
        if not isinstance(unit, str):
            raise ValueError(f'the unit of {name} is text such as "m s-1", got {unit!r}')


def _noise_entries(noise: Mapping[str, Any], states: list[str]) -> dict[tuple[str, str], Any]:
    """{(state, Wiener process): value} from both ways of writing it."""
    if not isinstance(noise, Mapping):
        raise ValueError(f'noise is a mapping {{"x": expression}} or {{"x": {{"W1": expression}}}}, got {noise!r}')
    strangers = [s for s in noise if s not in states]
    if strangers:
        raise ValueError(f"noise names '{strangers[0]}', which is no state; the states are {', '.join(states)}")
    entries: dict[tuple[str, str], Any] = {}
    for s, value in noise.items():
        named = value if isinstance(value, Mapping) else {s: value}
        entries |= {(s, str(c)): v for c, v in named.items()}
    return entries
