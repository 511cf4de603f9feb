"""Bounds in coupled paths: fine and coarse meet them by one and the same Brownian motion.

Between the ends of a step the path is a Brownian bridge whose noise is frozen at the step's start. Where a coarse step
stands for two fine ones its bridge is known at the middle too, from the fine increments,

    X_½ = ½(X_0 + X_1) + ½ Σ_c g_c (ΔW_c' − ΔW_c''),

so both copies look at the same pieces of one path (Giles, Oper. Res. 56, 2008, §5.4; in: MCQMC 2006, Springer 2008).

  absorbed    a copy does not decide whether it has left: it carries the probability S of being inside,
              S ← S Π (1 − e^{−2ab/σ²h}) over the pieces, a and b the distances from the bound at their ends. The
              functional's conditional mean is smooth in the path, which is what its levels need
  reflected   X_1 + max(0, lo − M), M the least of the pieces' minima ½(a + b − √((b − a)² + 2σ²hE)), each with an
              exponential E of its own that both copies share (Asmussen, Glynn & Pitman 1995)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdesim.boundaries import Absorbing, Reflecting
from sdesim.calculus import evaluate, substitute
from sdesim.expressions import Expr
from sdesim.methods.bound import BoundSDE
from sdesim.methods.vector import ZERO, Vector, add, multiply
from sdesim.models.sde import SDE
from sdesim.parsing import parse

_WORD = 0x7E00  # words from here on of the auxiliary normals
_FORMULAS = {
    "E": "(z0*z0 + z1*z1)/2",
    "middle": "(x + x1)/2 + dW/2",
    "stays": "where(a <= 0, 0, where(b <= 0, 0, 1 - exp(-2*a*b/(v*h))))",
    "least": "(x + x1 - sqrt((x1 - x)*(x1 - x) + 2*v*h*E))/2",
    "most": "(x + x1 + sqrt((x1 - x)*(x1 - x) + 2*v*h*E))/2",
    "up": "x1 + max(0, end - m)",
    "down": "x1 - max(0, m - end)",
    "smaller": "min(a, b)",
    "larger": "max(a, b)",
}
_NODES = {name: parse(text) for name, text in _FORMULAS.items()}


def _formula(name: str, **values: Any) -> Any:
    """A formula on arrays, or on the symbols of a trace."""
    if any(isinstance(v, Expr) for v in values.values()):
        return substitute(_NODES[name], values)
    return evaluate([_NODES[name]], values)[0]


def absorbing(model: SDE) -> tuple[str, float] | None:
    """The state that can leave and the end where it does; None if none can."""
    for s, bound in model.bounds.items():
        if isinstance(bound, Absorbing):
            return s, _end(bound)
    return None


def check_ends(model: SDE) -> None:
    """Raise ValueError for what no pair of levels agrees on in law: two ends, or two states that have bounds.

    >>> import sdesim as sim
    >>> check_ends(sim.SDE({"x": 1}, {"x": 1}, bounds={"x": sim.Absorbing(lo=0.0)}))
    """
    for s, bound in model.bounds.items():
        if None not in (bound.lo, bound.hi):
            raise ValueError(f"estimate takes bounds with one end, for which the law within a step is known; {s} has "
                             f"{bound!r}: use simulate, or open an end that is far away")  # fmt: skip
    if len(model.bounds) > 1:
        raise ValueError(f"estimate takes bounds of one state, these are of {', '.join(model.bounds)}: use simulate")


def _end(bound: Absorbing | Reflecting) -> float:
    return float(bound.hi if bound.lo is None else bound.lo)  # type: ignore[arg-type]


def keep(
    own: BoundSDE, model: SDE, t: Any, start: Vector, end: Vector, alive: Sequence[Any], h: Any,
    pieces: Sequence[Sequence[Any]], places: Sequence[int], w: Any,
) -> tuple[Vector, list[Any]]:  # fmt: skip
    """(the end of a step of h within its bounds, the probability of being inside, where one can leave).

    `pieces` are the increments of the step's one or two pieces, `places` their numbers among the finest.
    """
    ((s, bound),) = model.bounds.items()
    i, wall, v, dW = model.states.index(s), _end(bound), ZERO, ZERO
    for (row, c), g in own.g(t, start).items():
        if row == i:
            v = add(v, multiply(g, g))
            dW = add(dW, multiply(g, pieces[0][c] - pieces[-1][c]))
    nodes = [start[i], end[i]]
    if len(pieces) == 2:
        nodes.insert(1, _formula("middle", x=start[i], x1=end[i], dW=dW))
    length, result, low = h * (1.0 / len(pieces)), Vector(end), bound.lo is not None
    if isinstance(bound, Reflecting):
        least: Any = None
        for place, x, x1 in zip(places, nodes, nodes[1:], strict=False):
            z = [w.draw("a", (_WORD + 2 * place + k) << 16 | i) for k in (0, 1)]
            E = _formula("E", z0=z[0], z1=z[1])
            m = _formula("least" if low else "most", x=x, x1=x1, v=v, h=length, E=E)
            least = m if least is None else _formula("smaller" if low else "larger", a=least, b=m)
        result[i] = _formula("up" if low else "down", x1=end[i], m=least, end=wall)
    for x, x1 in zip(nodes, nodes[1:], strict=False):
        a, b = (x - wall, x1 - wall) if low else (wall - x, wall - x1)
        alive = [S * _formula("stays", a=a, b=b, v=v, h=length) for S in alive]
    result[i] = _formula("larger" if low else "smaller", a=result[i], b=wall)
    return result, list(alive)
