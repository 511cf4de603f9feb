"""Leaps: all the events of a step at once, as many of each kind as a Poisson variate says (Gillespie 2001).

`m.values` are rates and sizes at a state, `w.draw("u", word)` a uniform number; a count is the Poisson quantile of it
(`sdesim.poisson`), so that paths on other steps or rates can share their numbers. Where a jump is `nonnegative`, its
count is cut to what the states at hand allow, one kind after the other: no state goes below 0, and what each event
keeps (mass) is kept. Rates at a predicted state, which need not be whole or positive, are cut at 0.

A save between steps sees a shorter leap, its counts the quantiles of smaller means at the same uniform numbers: its
law is that of the method, and tau_leaping has never more events by then than in the whole step. What is not drawn is
the joint law of two saves within one step: their counts grow together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sdesim.arithmetic import NUMPY
from sdesim.calculus import free_symbols
from sdesim.expressions import Expr, function, where
from sdesim.methods.jumps import only_jumps
from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import ZERO, Vector, add, multiply
from sdesim.models.sde import SDE
from sdesim.poisson import floor, poisson_quantile


def tau_leaping(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h + g ΔW + Σ_j s_j P(λ_j h), all at (t, X) (Gillespie, J. Chem. Phys. 115, 2001, eq. 12)."""
    counts = _counts(w, 0, [multiply(rate, h) for rate in _rates(m, t, y)])
    return _leap(m, t, y, y, counts) + m.f(t, y) * h + m.noise(t, y, w.dW)


def midpoint_leaping(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """As tau_leaping, with rates at X + ½h Σ_j s_j λ_j (Gillespie 2001, §V; Anderson, Ganguly & Kurtz 2011)."""
    half = h * 0.5
    middle = Vector(y)
    for size, rate in zip(_sizes(m, t, y), _rates(m, t, y), strict=True):
        middle = middle + size * multiply(rate, half)
    rates = _cut(_rates(m, t + half, middle))
    return _leap(m, t, y, y, _counts(w, 0, [multiply(rate, h) for rate in rates]))


def trapezoidal_leaping(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """θ-trapezoidal leaping with θ = ½ (Anderson & Koyama, Multiscale Model. Simul. 10, 2012, algorithm 2).

    Y* = X + Σ s_j P(λ_j(X) h/2),   X' = Y* + Σ s_j P([2λ_j(Y*) − λ_j(X)]⁺ h/2).
    """
    half, before = h * 0.5, _rates(m, t, y)
    middle = _leap(m, t, y, y, _counts(w, 0, [multiply(rate, half) for rate in before]))
    after = [add(multiply(rate, 2.0), multiply(rate0, -1.0)) for rate, rate0 in
             zip(_rates(m, t + half, middle), before, strict=True)]  # fmt: skip
    return _leap(m, t, y, middle, _counts(w, 1, [multiply(rate, half) for rate in _cut(after)]))


def _rates(m: Any, t: Any, y: Vector) -> list[Any]:
    return list(m.values([jump.rate for jump in m.model.jumps.values()], t, y))


def _sizes(m: Any, t: Any, y: Vector) -> list[Vector]:
    """The size of each kind of event as a vector."""
    vectors = []
    for jump in m.model.jumps.values():
        values = iter(m.values(list(jump.size.values()), t, y))
        own = dict(zip(jump.size, values, strict=True))
        vectors.append(Vector(own.get(s, ZERO) for s in m.model.states))
    return vectors


def _counts(w: Any, stage: int, means: Sequence[Any]) -> list[Any]:
    """A Poisson count of each mean, from the uniform numbers of a stage."""
    counts = []
    for j, mean in enumerate(means):
        u = w.draw("u", stage << 16 | j)
        symbolic = isinstance(mean, Expr) or isinstance(u, Expr)
        counts.append(function("poisson", mean, u) if symbolic else poisson_quantile(NUMPY, np.asarray(mean), u))
    return counts


def _cut(rates: list[Any]) -> list[Any]:
    return [np.maximum(rate, 0.0) for rate in rates]


def _leap(m: Any, t: Any, y: Vector, start: Vector, counts: list[Any]) -> Vector:
    """The state after so many events of each kind, with the sizes at (t, y)."""
    x = Vector(start)
    for jump, size, count in zip(m.model.jumps.values(), _sizes(m, t, y), counts, strict=True):
        if jump.nonnegative:
            for value, s in zip(x, size, strict=True):
                count = _allowed(count, value, s)
        x = x + size * count
    return x


def _allowed(count: Any, value: Any, size: Any) -> Any:
    """At most as many events as leave the value at 0 or above."""
    if isinstance(size, Expr) and size.op == "const" or isinstance(size, (int, float)):
        number = float(size.value if isinstance(size, Expr) else size)
        return np.minimum(count, _floor(value / -number)) if number < 0.0 else count
    symbolic = isinstance(size, Expr) or isinstance(value, Expr)
    return (where if symbolic else np.where)(size < 0.0, np.minimum(count, _floor(value / -size)), count)


def _floor(x: Any) -> Any:
    return function("floor", x) if isinstance(x, Expr) else floor(NUMPY, np.asarray(x))


def _without_marks(model: SDE) -> None:
    if not model.jumps:
        raise ValueError("it serves models with jumps; this one has none")
    marked = [name for name, jump in model.jumps.items() if jump.marks]
    if marked:
        raise ValueError(f"a leap adds up the events of a step, and those of {marked[0]} have sizes of their own "
                         "(marks); any method that is no leap takes them")  # fmt: skip


def _fixed_sizes(model: SDE) -> None:
    _without_marks(model)
    only_jumps(model)
    for name, jump in model.jumps.items():
        if free_symbols(*jump.size.values()) & {*model.states, "t"}:
            raise ValueError(f"the size of the jump {name} must not depend on states or time; use tau_leaping")


METHODS = (
    Method("tau_leaping", tau_leaping, "leap", "Gillespie 2001, doi:10.1063/1.1378322", NOISE_TYPES, "ito",
           1.0, 0.5, 1.0, "Euler's method with a Poisson count for each kind of jump", _without_marks),
    Method("midpoint_leaping", midpoint_leaping, "leap", "Gillespie 2001; Anderson, Ganguly & Kurtz 2011, "
           "doi:10.1214/10-AAP756", ("none",), "ito", 2.0, 0.5, 1.0, "for jumps alone; close to order 2 where counts "
           "are large", _fixed_sizes),
    Method("trapezoidal_leaping", trapezoidal_leaping, "leap", "Anderson & Koyama 2012, doi:10.1137/110849699",
           ("none",), "ito", 2.0, 0.5, 2.0, "for jumps alone; two leaps a step", _fixed_sizes),
)  # fmt: skip
