"""Bounds within a step: reflection and absorption by the law of the Brownian bridge between the step's two ends.

A step from x to x' of a process with noise σ (its value at x) may have passed a bound in between. With E = −ln u
exponential, a = |x − bound| and b the signed distance of x' inside it:

  absorbed   if b ≤ 0 or E > 2ab/σ²h, the probability e^{−2ab/σ²h} of the bridge (Gobet, Stoch. Proc. Appl. 87, 2000).
             The time within the step is hs/(1 + s), s inverse Gaussian of mean a/|b| and shape a²/σ²h, for in the time
             s the bridge is Brownian motion with drift; drawn by Michael, Schucany & Haas (Am. Stat. 30, 1976)
  reflected  X = x' + max(0, bound − M), M = x + ½(Y − √(Y² + 2σ²hE)) the minimum given Y = x' − x
             (Lépingle, Math. Comput. Simul. 38, 1995; Asmussen, Glynn & Pitman 1995)

so that no shift of 0.58 σ√h in the bound remains. E and the further numbers are normals of their own: E = ½(z₁² + z₂²).
An absorbed member stays where it left; its time of exit is one more state, hidden from users.

With jumps steps are cut at the events (`kernels.sde_segments`), so that all this holds between them. An event that
lands on a bound or beyond absorbs the member there and then, where it lands: the bound plus the overshoot. At mirrors
the landing place is folded back, 2·bound − x as often as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from sdesim.arithmetic import NUMPY, Machine
from sdesim.boundaries import Absorbing, Reflecting
from sdesim.calculus import evaluate, substitute
from sdesim.expressions import Expr, function, symbol, where
from sdesim.methods.bound import BoundSDE
from sdesim.methods.method import Method
from sdesim.methods.vector import ZERO, Vector, add, multiply
from sdesim.models.jumps import Jump
from sdesim.models.sde import SDE
from sdesim.parsing import parse

ALIVE = -1e300
"""The hidden time of exit of a member that is not absorbed."""

_WORD = 0x7F00  # words from here on of the auxiliary normals
_PER_BOUND = 5

_FORMULAS = {
    "E": "(z0*z0 + z1*z1)/2",
    "low": "x1 + max(0, end - x - (x1 - x - sqrt((x1 - x)*(x1 - x) + 2*v*h*E))/2)",
    "high": "x1 - max(0, x + (x1 - x + sqrt((x1 - x)*(x1 - x) + 2*v*h*E))/2 - end)",
    "floor": "max(value, end)",
    "ceiling": "min(value, end)",
    "crossed": "where(b <= 0, 1, where(2*a*b < E*v*h, 1, 0))",
    "mean": "a/(abs(b) + 1e-12*a)",
    "q": "mean*z2*z2*v*h/(2*a*a)",
    "r": "1 + q + sqrt(q*q + 2*q)",
    "s": "where((z3*z3 + z4*z4)/2 > log(1 + 1/r), mean/r, mean*r)",
    "fraction": "where(a <= 0, 0, s/(1 + s))",
    "sooner": "where(crossed > 0, where(fraction < first, fraction, first), first)",
    "time": "where(tau > alive/2, tau, where(first <= 1, t + h*first, tau))",
    "exit": "where(crossed > 0, where(fraction <= first, end, moved), moved)",
    "moved": "where(first <= 1, x + (x1 - x)*first, x1)",
    "kept": "where(tau > alive/2, x, moved)",
    "over": "where(b <= 0, 1, out)",
    "left": "where(tau > alive/2, tau, where(out > 0, t, tau))",
    "fold_low": "end + abs(x1 - end)",
    "fold_high": "end - abs(end - x1)",
    "turns": "(x1 - low)/(2*(high - low))",
    "fold_both": "low + abs(2*(high - low)*(turns - whole))",
    "within": "min(max(value, low), high)",
}
_NODES = {name: parse(text) for name, text in _FORMULAS.items()}


def formula(name: str, m: Machine = NUMPY, /, **values: Any) -> Any:
    """A formula on a machine's values, or on the symbols of a trace: the same operations in the same order."""
    if any(isinstance(v, Expr) for v in values.values()):
        return substitute(_NODES[name], values)
    return evaluate([_NODES[name]], values, m)[0]


def check_bounds(model: SDE, method: Method) -> None:
    """Raise ValueError for bounds that this method cannot keep, with the cure."""
    if method.requires is not None:
        raise ValueError(f"{method.name} takes models of a structure that bounds break; use euler_maruyama or milstein")
    if method.points is not None:
        raise ValueError(f"{method.name} takes a walk of {method.points} values, which has no law between its steps to "
                         "meet a bound by; use euler_maruyama or milstein")  # fmt: skip
    for state, bound in model.bounds.items():
        jumps = any(state in jump.size for jump in model.jumps.values())
        if isinstance(bound, Reflecting) and not jumps and not any(s == state for s, _ in model.noise):
            raise ValueError(f"{state} has no noise of its own, so that it would stick to the bound, not be reflected: "
                             "give it noise, or a drift that turns it back")  # fmt: skip


@lru_cache(maxsize=64)
def bounded(model: SDE, base: Method, apart: bool = False) -> tuple[SDE, Method]:
    """The model with the time of exit as a last state, and the method that keeps its bounds in each step.

    If `apart`, the method's step is that of a path without bounds, and what they make of it is its `push`.

    >>> import sdesim as sim
    >>> from sdesim.methods import find
    >>> model = sim.SDE({"x": 1}, {"x": 1}, bounds={"x": sim.Absorbing(hi=2.0)})
    >>> bounded(model, find("euler_maruyama", ("sde",)))[0].states
    ('x', 'exit_time')
    """
    names, d = list(model.states), len(model.states)
    whole = model.extended("exit_time", 0.0, partial(_jumps, model))

    absorbs = any(isinstance(bound, Absorbing) for bound in model.bounds.values())

    def free(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        """The base method's step, as if there were no bounds."""
        own = BoundSDE(model, base.calculus or "ito", m.parameters)
        return Vector([*base.step(own, t, Vector(y[:d]), h, w), y[d]])

    def held(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        """The same, but who has left stays."""
        ends = free(m, t, y, h, w)
        if not absorbs:
            return ends
        pairs = zip(y, ends, strict=True)
        return Vector(formula("kept", tau=y[d], alive=ALIVE, x=x, moved=end) for x, end in pairs)

    def push(m: Any, t: Any, y: Vector, ends: Vector, h: Any, draw: Any) -> Vector:
        """What the bridge says of each bound."""
        own = BoundSDE(model, base.calculus or "ito", m.parameters)
        x, tau, end = Vector(y[:d]), y[d], Vector(ends[:d])
        variance = _variances(own, t, x)
        draws = {s: _Numbers(draw, names.index(s)) for s in model.bounds}
        for s, bound in model.bounds.items():
            if isinstance(bound, Reflecting):
                i = names.index(s)
                end[i] = _reflect(bound, x[i], end[i], variance[i], h, draws[s])
        if not absorbs:
            return Vector([*end, tau])
        return _absorb(model, x, end, tau, variance, t, h, draws)

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        return push(m, t, y, free(m, t, y, h, w), h, w.draw)

    how: dict[str, Any] = {"name": f"{base.name}, bounded", "kind": "sde", "source": base.source,
                           "noise": base.noise, "calculus": base.calculus}  # fmt: skip
    if apart:
        return whole, Method(step=held, push=push, **how)
    return whole, Method(step=step, landing=partial(_landing, model), **how)


def _jumps(model: SDE, hidden: str) -> dict[str, Jump]:
    """The jumps, none of which come to a member that has left."""
    if not any(isinstance(bound, Absorbing) for bound in model.bounds.values()):
        return dict(model.jumps)
    gone = symbol(hidden) > ALIVE / 2
    return {name: replace(jump, rate=where(gone, 0.0, jump.rate)) for name, jump in model.jumps.items()}


def _landing(model: SDE, t: Any, before: Sequence[Any], after: Sequence[Any]) -> Vector:
    """What the bounds make of an event at the time t; the last of the states is the time of exit."""
    *x, tau = before
    *ends, _ = after
    out: Any = 0.0
    for s, bound in model.bounds.items():
        i = model.states.index(s)
        if isinstance(bound, Reflecting):
            ends[i] = _folded(bound, ends[i])
            continue
        for high, wall in ((False, bound.lo), (True, bound.hi)):
            if wall is not None:
                out = formula("over", b=wall - ends[i] if high else ends[i] - wall, out=out)
    if not any(isinstance(bound, Absorbing) for bound in model.bounds.values()):
        return Vector([*ends, tau])
    ends = [formula("kept", tau=tau, alive=ALIVE, x=a, moved=b) for a, b in zip(x, ends, strict=True)]
    return Vector([*ends, formula("left", tau=tau, alive=ALIVE, out=out, t=t)])


def _folded(bound: Reflecting, end: Any) -> Any:
    lo, hi = bound.lo, bound.hi
    if lo is None or hi is None:
        return formula("fold_high" if lo is None else "fold_low", x1=end, end=hi if lo is None else lo)
    turns = formula("turns", x1=end, low=lo, high=hi)
    whole = function("floor", turns + 0.5)
    return formula("within", value=formula("fold_both", low=lo, high=hi, turns=turns, whole=whole), low=lo, high=hi)


class _Numbers:
    """The auxiliary normals of one bounded state: five for each of its two bounds."""

    def __init__(self, draw: Any, state: int) -> None:
        self.draw, self.state = draw, state

    def __call__(self, high: bool) -> dict[str, Any]:
        first = _WORD + _PER_BOUND * int(high)
        return {f"z{k}": self.draw("a", (first + k) << 16 | self.state) for k in range(_PER_BOUND)}


def _variances(own: BoundSDE, t: Any, x: Vector) -> list[Any]:
    """Σ_c g_ic² of each state."""
    total: list[Any] = [ZERO] * own.dimension
    for (i, _), g in own.g(t, x).items():
        total[i] = add(total[i], multiply(g, g))
    return total


def _reflect(bound: Reflecting, x: Any, end: Any, v: Any, h: Any, numbers: _Numbers) -> Any:
    result = end
    for high, wall in ((False, bound.lo), (True, bound.hi)):
        if wall is not None:
            z = numbers(high)
            E = formula("E", z0=z["z0"], z1=z["z1"])
            pushed = formula("high" if high else "low", x=x, x1=end, end=wall, v=v, h=h, E=E)
            result = pushed if result is end else result + (pushed - end)
    for limit, wall in (("floor", bound.lo), ("ceiling", bound.hi)):  # where a step meets both
        if wall is not None:
            result = formula(limit, value=result, end=wall)
    return result


def _absorb(
    model: SDE, x: Vector, end: Vector, tau: Any, variance: list[Any], t: Any, h: Any, draws: Mapping[str, _Numbers]
) -> Vector:
    """Freeze what left in this step at its place and time of exit, and keep frozen what left before."""
    first: Any = 2.0  # fraction of the step at the earliest exit; beyond 1: none
    exits = []
    for s, bound in model.bounds.items():
        if not isinstance(bound, Absorbing):
            continue
        i = model.states.index(s)
        for high, wall in ((False, bound.lo), (True, bound.hi)):
            if wall is None:
                continue
            a, b = (wall - x[i], wall - end[i]) if high else (x[i] - wall, end[i] - wall)
            z, v = draws[s](high), variance[i]
            crossed = formula("crossed", a=a, b=b, v=v, h=h, E=formula("E", z0=z["z0"], z1=z["z1"]))
            mean = formula("mean", a=a, b=b)
            r = formula("r", q=formula("q", mean=mean, a=a, v=v, h=h, z2=z["z2"]))
            fraction = formula("fraction", a=a, s=formula("s", mean=mean, r=r, z3=z["z3"], z4=z["z4"]))
            first = formula("sooner", crossed=crossed, fraction=fraction, first=first)
            exits.append((i, wall, crossed, fraction))
    result = []
    for i in range(len(x)):
        moved = formula("moved", first=first, x=x[i], x1=end[i])
        for j, wall, crossed, fraction in exits:
            if i == j:
                moved = formula("exit", crossed=crossed, fraction=fraction, first=first, end=wall, moved=moved)
        result.append(formula("kept", tau=tau, alive=ALIVE, x=x[i], moved=moved))
    return Vector([*result, formula("time", tau=tau, alive=ALIVE, first=first, t=t, h=h)])
