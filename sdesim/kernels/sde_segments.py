"""Steps cut at the events of jumps: for models with bounds, whose paths must be watched from one event to the next.

With Λ the sum of the rates at the beginning of a part of a step, the next event comes after the time E/Λ, E exponential
(rates are held there: weak order 1; exact where they are constant, Cont & Tankov 2004, §6.1). The method takes a step
up to it, with the bounds' own law on the way, then the event adds its size and the bounds see where it lands. The path
of a step stays what it is: with U the increment and V = ∫(W − W₀) of what is left of a step, L long, both in units of
the step, its first share τ has, as in `sde_bridge`,

    ΔW = τU + 6τ(1−τ)(V/L − U/2) + √L b ζ₁ ,   ∫ = L [τ²U/2 + τ²(3 − 2τ)(V/L − U/2)] + L^{3/2} (c₁ ζ₁ + c₂ ζ₂) ,

or τU + √(Lτ(1−τ)) ζ₁ for methods that do not look at V. Whatever else a method draws it draws anew in each part, from
(member, step, word, purpose | (k + 1) ≪ 8) in part k. A step without events is the method's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY, Machine, Value
from sdesim.kernels.sde_jumps import MAX_EVENTS, JumpTrace, moved, rates, wait
from sdesim.kernels.sde_trace import SDETrace
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector
from sdesim.streams import Purpose, normal_pair, seed_key, sign_group

Rest = list[tuple[Value, Value]]
_SHORTEST = 2.0**-50  # of a step: what is left after an event, at least
_UNUSED = np.float64(0.5)  # in place of a number that the trace found to be multiplied by nothing
_FRESH = {"a": (normal_pair, Purpose.AUXILIARY), "b": (sign_group, Purpose.SIGN)}


def pause(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], place: Sequence[Value], key: Sequence[Value], left: Value
) -> tuple[Value, Value, Value, Value, list[Value]]:
    """(how long until event k or the end, whether it comes, whether rates are rates, which event, λ_1, λ_1 + λ_2, …).

    `place` is (member, step, k), `left` the time to the end of the step.
    """
    sums, fit = rates(m, jt, env)
    E, u = wait(m, [*place, m.u64(Purpose.JUMP)], key)
    came = fit & (sums[-1] * left >= E)
    return m.select(came, E / sums[-1], left), came, fit, u * sums[-1], sums


def landed(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], place: Sequence[Value], key: Sequence[Value],
    chosen: tuple[Value, Value, Value, list[Value]],
) -> list[Value]:  # fmt: skip
    """The states after event k, those before it and its time in `env`; NaN where a rate was none."""
    came, fit, pick, sums = chosen
    states = [env[f"y:{i}"] for i in range(len(jt.landing))]
    after = moved(m, jt, env, place, key, pick, sums)
    nan = m.number(math.nan)
    return [m.select(came, e, m.select(fit, y, nan)) for e, y in zip(after, states, strict=True)]


def beginning(m: Machine, tr: SDETrace, draws: Sequence[Value]) -> Rest:
    """(U, V) of each process for the whole of a step with these draws."""
    rest: Rest = []
    for c in range(tr.channels):
        a = tr.joint[c] if tr.joint else -1
        z = draws[c]
        rest.append((z, z if a < 0 else m.number(0.5) * (z + draws[a] / m.number(math.sqrt(3.0)))))
    return rest


def part(
    m: Machine, tr: SDETrace, rest: Rest, L: Value, share: Value, place: Sequence[Value], key: Sequence[Value]
) -> tuple[list[Value], Rest]:
    """(the method's random numbers for the first share of the rest of a step, what is left of the rest's path)."""
    member, step, k = place
    tag = (k + m.u64(1)) << m.u64(8)
    root = m.sqrt(L * share)
    draws: list[Value] = [None] * len(tr.draws)
    after: Rest = []
    for c, (U, V) in enumerate(rest):
        fresh = normal_pair(m, [member, step, m.u64(c), m.u64(Purpose.BRIDGE) | tag], key)
        a = tr.joint[c] if tr.joint else -1
        W, J = _share(m, L, share, U, V, fresh, a >= 0)
        draws[c] = W / root
        if a >= 0:
            draws[a] = ((J + J) / (L * share * root) - draws[c]) * m.number(math.sqrt(3.0))
            V = (V - J) - (L - L * share) * W
        after.append((U - W, V))
    for i, (kind, word) in enumerate(tr.draws):
        if draws[i] is None:
            group, purpose = _FRESH[kind]
            draws[i] = group(m, [member, step, m.u64(word), m.u64(purpose) | tag], key)[0]
    return draws, after


def _share(
    m: Machine, L: Value, share: Value, U: Value, V: Value, fresh: tuple[Value, Value], pair: bool
) -> tuple[Value, Value]:
    """(ΔW, ∫(W − W₀)) of the first share of a path whose rest, L long, has (U, V)."""
    one, two, three = m.number(1.0), m.number(2.0), m.number(3.0)
    y = share * (one - share)
    y = m.select(y > m.number(1e-300), y, m.number(1e-300))
    if not pair:
        return share * U + m.sqrt(L * y) * fresh[0], V
    root, b = m.sqrt(L), m.sqrt(y * (one - three * y))
    bend, square = V / L - m.number(0.5) * U, share * share
    W = (share * U + m.number(6.0) * y * bend) + root * b * fresh[0]
    shape = (y * y) / b
    noise = shape * ((m.number(0.5) - share) * fresh[0] + m.number(1.0 / math.sqrt(12.0)) * fresh[1])
    J = L * (square * m.number(0.5) * U + square * (three - two * share) * bend) + (L * root) * noise
    return W, J


def remaining(m: Machine, left: Value, length: Value, h: Value) -> Value:
    """The time left after an event, never nothing."""
    after, least = left - length, h * m.number(_SHORTEST)
    return m.select(after > least, after, least)


def cut_step(
    tr: SDETrace, method: Method, m: BoundSDE, y: Sequence[Any], draws: Sequence[Any], t: float, h: Any, root: Any,
    seed: int, members: NDArray[np.int64], s: int,
) -> Vector:  # fmt: skip
    """Step s of a method cut at its events, on arrays over the members: what the generated kernels do, bit for bit."""
    machine, jt, key, count, parameters = NUMPY, tr.jumps, seed_key(seed), len(members), m.parameters
    assert jt is not None

    def step(who: NDArray[np.int64], rows: Sequence[Any], at: Any, h: Any, root: Any, numbers: Sequence[Any]) -> Any:
        values = {name: np.asarray(v)[who] if np.ndim(v) else v for name, v in parameters.items()}
        own, named = BoundSDE(m.model, method.calculus or "ito", values), dict(zip(tr.draws, numbers, strict=True))
        dW = Vector(named["z", c] * root for c in range(tr.channels))
        stepped = method.step(own, at, Vector(rows), h, Wiener(dW, root, lambda *name: named.get(name, _UNUSED)))
        return [np.array(np.broadcast_to(v, who.shape), np.float64) for v in stepped]

    start = [np.array(np.broadcast_to(v, count), np.float64) for v in y]
    who, now = np.arange(count), np.float64(t)
    state = step(who, start, now, h, root, draws)

    def known(who: NDArray[np.int64], rows: Sequence[Any], at: Any) -> dict[Any, Any]:
        env: dict[Any, Any] = {f"p:{n}": np.asarray(v)[who] if np.ndim(v) else v for n, v in parameters.items()}
        return env | {f"y:{i}": row for i, row in enumerate(rows)} | {"t:": at}

    def place(who: NDArray[np.int64], k: int) -> list[Any]:
        return [members[who].astype(np.uint64), np.uint64(s), np.uint64(k)]

    _, came, fit, _, _ = pause(machine, jt, known(who, start, now), place(who, 0), key, np.full(count, h))
    who = who[np.broadcast_to(came | ~fit, count)]
    rows, pos, left = [v[who] for v in start], np.zeros(len(who)), np.full(len(who), h)
    rest = beginning(machine, tr, [np.asarray(v)[who] for v in draws])
    for k in range(MAX_EVENTS):
        if not who.size:
            return Vector(state)
        at = place(who, k)
        length, came, fit, pick, sums = pause(machine, jt, known(who, rows, now + pos), at, key, left)
        own, rest = part(machine, tr, rest, left / h, length / left, at, key)
        rows = step(who, rows, now + pos, length, np.sqrt(length), own)
        pos = pos + length
        chosen = came, fit, pick, sums
        ends = landed(machine, jt, known(who, rows, now + pos), at, key, chosen)
        rows = [np.broadcast_to(v, who.shape) for v in ends]
        left = remaining(machine, left, length, h)
        for row, value in zip(state, rows, strict=True):
            row[who] = value
        came = np.broadcast_to(came, who.shape)
        who, pos, left, rows = who[came], pos[came], left[came], [v[came] for v in rows]
        rest = [(U[came], V[came]) for U, V in rest]
    for row in state:
        row[who] = np.nan
    return Vector(state)
