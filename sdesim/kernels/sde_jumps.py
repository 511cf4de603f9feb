"""The jumps of a step, event by event: Gillespie's direct method on the model's rates, written once for all machines.

A step of h is the composition of the method's own step without jumps (D) and of the pure jump process with t held
(J), which is drawn from its exact law: with Λ = Σ_j λ_j(x) an event comes after the time E/Λ, E exponential, it is of
kind j with probability λ_j/Λ, its size is added, and the rates are taken anew (Gillespie, J. Phys. Chem. 81, 1977).
Even steps are D then J, odd steps J then D, so that two steps are Strang's symmetric splitting (SIAM J. Numer. Anal.
5, 1968) and the whole has weak order 2 where D has, at the cost of the simple one; strong order ½ at best, since a
jump is put to the end of its step. Without drift and noise D does nothing, and the jumps are exact at any step.

Event k of step s draws from the counters (member, s, k, JUMP): its waiting time and its kind; its marks from
(member, s, k, JUMP | i ≪ 8), i = 1, 2, … A shorter step sees the same first events, so that a save between steps sees
those that come before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY, Machine, Value, log_normal_range
from sdesim.calculus import evaluate, free_symbols, substitute
from sdesim.expressions import Expr, symbol
from sdesim.models.jumps import mark_formula
from sdesim.models.sde import SDE
from sdesim.streams import Purpose, box_muller, seed_key, unit, words

MAX_EVENTS = 2**16
"""Events in one step; a member with more becomes NaN, for its step is far too long."""


@dataclass(frozen=True)
class JumpTrace:
    """Rates λ_j and sizes {state: s_j} of each kind of event, in the symbols of `kernels.sde_trace`.

    "n:i" and "u:i" are the normal and the uniform number of an event's mark i. Where bounds say what becomes of a state
    that an event takes to "e:i", `landing` holds it for each state, and steps are cut at the events
    (`kernels.sde_segments`).
    """

    rates: tuple[Expr, ...]
    sizes: tuple[tuple[tuple[int, Expr], ...], ...]
    nonnegative: tuple[bool, ...]
    landing: tuple[Expr, ...] = ()

    @property
    def marks(self) -> list[str]:
        """The symbols of the marks that sizes use."""
        every = free_symbols(*(size for kind in self.sizes for _, size in kind))
        return sorted(name for name in every if name[:2] in ("n:", "u:"))


def jump_trace(model: SDE, landing: Callable[..., Sequence[Any]] | None = None) -> JumpTrace:
    """The jumps of a model on symbols; `landing(t, states before, states after)` is what bounds make of an event.

    >>> import sdesim as sim
    >>> model = sim.SDE({"x": 0}, jumps={"x": sim.Jump("k*x", "z/2")}, parameters={"k": 1})
    >>> jump_trace(model).rates, jump_trace(model).sizes
    ((p:k*y:0,), (((0, n:0/2),),))
    """
    env: dict[str, Expr] = {name: symbol(f"p:{name}") for name in model.parameters}
    env |= {s: symbol(f"y:{i}") for i, s in enumerate(model.states)} | {"t": symbol("t:")}
    sizes = []
    for jump in model.jumps.values():
        own = dict(env)
        for i, (mark, law) in enumerate(jump.marks.items()):
            base, formula = mark_formula(law)
            own[mark] = substitute(formula, {base: symbol(f"{'n' if base == 'z' else 'u'}:{i}")})
        sizes.append(tuple((model.states.index(s), substitute(size, own)) for s, size in jump.size.items()))
    rates = tuple(substitute(jump.rate, env) for jump in model.jumps.values())
    before, after = ([symbol(f"{kind}:{i}") for i in range(len(model.states))] for kind in "ye")
    ends = () if landing is None else tuple(landing(symbol("t:"), before, after))
    return JumpTrace(rates, tuple(sizes), tuple(jump.nonnegative for jump in model.jumps.values()), ends)


def rates(m: Machine, jt: JumpTrace, env: Mapping[Any, Value]) -> tuple[list[Value], Value]:
    """(λ_1, λ_1 + λ_2, …) and whether they are rates: none below 0, the sum finite."""
    sums: list[Value] = []
    fit: Value = None
    for rate in evaluate(jt.rates, env, m):
        sums.append(sums[-1] + rate if sums else rate)
        ok = rate >= m.number(0.0)
        fit = ok if fit is None else fit & ok
    return sums, fit & (sums[-1] < m.number(math.inf))


def wait(m: Machine, counter: Sequence[Value], key: Sequence[Value]) -> tuple[Value, Value]:
    """(E exponential, u uniform) of an event."""
    a, b = words(m, counter, key)
    return -log_normal_range(m, unit(m, a)), unit(m, b)


def due(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], member: Value, step: Value, key: Sequence[Value], h: Value
) -> Value:
    """Whether anything comes within h: an event, or a rate that is none."""
    sums, fit = rates(m, jt, env)
    E, _ = wait(m, [member, step, m.u64(0), m.u64(Purpose.JUMP)], key)
    return ~(fit & (sums[-1] * h < E))


def event(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], member: Value, step: Value, k: Value, key: Sequence[Value],
    remaining: Value,
) -> tuple[list[Value], Value, Value]:  # fmt: skip
    """Event k within the time that remains: (the states after it, the time left, whether it came).

    The states are those of `env` where it came too late, and NaN where a rate is negative or not finite.
    """
    sums, fit = rates(m, jt, env)
    E, u = wait(m, [member, step, k, m.u64(Purpose.JUMP)], key)
    came = fit & (sums[-1] * remaining >= E)
    states = [env[f"y:{i}"] for i in range(sum(name.startswith("y:") for name in env))]
    grown = moved(m, jt, env, (member, step, k), key, u * sums[-1], sums)
    nan = m.number(math.nan)
    after = [m.select(came, g, m.select(fit, y, nan)) for g, y in zip(grown, states, strict=True)]
    return after, remaining - E / sums[-1], came


def _marks(
    m: Machine, jt: JumpTrace, member: Value, step: Value, k: Value, key: Sequence[Value]
) -> dict[str, Value]:
    values = {}
    for name in jt.marks:
        index = int(name[2:])
        a, b = words(m, [member, step, k, m.u64(Purpose.JUMP | (index + 1) << 8)], key)
        values[name] = box_muller(m, a, b)[0] if name[0] == "n" else unit(m, a)
    return values


def moved(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], place: Sequence[Value], key: Sequence[Value], pick: Value,
    sums: list[Value],
) -> list[Value]:  # fmt: skip
    """The states after the event at `place` (member, step, k), its kind j with Σ_{i<j} λ_i ≤ pick < Σ_{i≤j} λ_i."""
    states = [env[f"y:{i}"] for i in range(sum(str(name).startswith("y:") for name in env))]
    member, step, k = place
    known = dict(env) | _marks(m, jt, member, step, k, key)
    flat = iter(evaluate([size for kind in jt.sizes for _, size in kind], known, m))
    ends: list[list[Value]] = []
    for kind, keep in zip(jt.sizes, jt.nonnegative, strict=True):
        end, ok = list(states), None
        for i, _ in kind:
            end[i] = states[i] + next(flat)
            fine = end[i] >= m.number(0.0)
            ok = fine if ok is None else ok & fine
        if keep and ok is not None:
            end = [e if e is y else m.select(ok, e, y) for e, y in zip(end, states, strict=True)]
        ends.append(end)
    chosen = ends[-1]
    for end, upto in zip(reversed(ends[:-1]), reversed(sums[:-1]), strict=True):
        chosen = [e if e is c else m.select(pick < upto, e, c) for e, c in zip(end, chosen, strict=True)]
    if not jt.landing:
        return chosen
    return list(evaluate(jt.landing, known | {f"e:{i}": e for i, e in enumerate(chosen)}, m))


def apply_jumps(
    jt: JumpTrace, y: Sequence[Any], t: float, h: float, parameters: Mapping[str, Any], seed: int,
    members: NDArray[np.int64], step: int,
) -> list[NDArray[np.float64]]:  # fmt: skip
    """J on arrays over the members: what the generated kernels do, bit for bit."""
    states = [np.array(np.broadcast_to(v, len(members)), np.float64) for v in y]
    remaining, active, key = np.full(len(members), h), np.arange(len(members)), seed_key(seed)
    for k in range(MAX_EVENTS):
        env: dict[str, Any] = {f"y:{i}": row[active] for i, row in enumerate(states)}
        env |= {f"p:{n}": np.asarray(v)[active] if np.ndim(v) else v for n, v in parameters.items()}
        who = members[active].astype(np.uint64)
        after, left, came = event(NUMPY, jt, env | {"t:": np.float64(t)}, who, np.uint64(step), np.uint64(k), key,
                                  remaining[active])  # fmt: skip
        for row, value in zip(states, after, strict=True):
            row[active] = value
        remaining[active] = left
        active = active[np.broadcast_to(came, len(active))]
        if not active.size:
            return states
    for row in states:
        row[active] = np.nan
    return states
