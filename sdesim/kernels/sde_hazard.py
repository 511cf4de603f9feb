"""Events of jumps for steps that follow an error estimate: when they come is given in advance.

The events of all kinds together are those of a Poisson process of unit rate in the time Λ = ∫ Σ_j λ_j(t, X) dt, so that
member, and not step, knows the exponential numbers E_0, E_1, … between them (Kurtz' random change of time; Anderson,
J. Chem. Phys. 127, 2007). What is left of E_k is one more state, R' = −Σ_j λ_j, which the method integrates and the
error estimate watches with the others; event k comes where R reaches 0. A step that holds it is halved down to
2⁻²⁰ of the root step and the event put to its end; halving on account of it tells nothing of the path that lies beyond.

Event k draws its kind from the counter (member, k, 2³² − 1, JUMP), its marks from (…, JUMP | i ≪ 8), and E_k too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from sdesim.arithmetic import NUMPY, Machine, Value
from sdesim.expressions import Expr, const
from sdesim.kernels.machines import I64, CMachine, CValue
from sdesim.kernels.sde_jumps import JumpTrace, moved, rates, wait
from sdesim.kernels.sde_lanes import RowFunction
from sdesim.kernels.sde_trace import SDETrace
from sdesim.models.sde import SDE
from sdesim.streams import Purpose, seed_key

EVENT_LEVEL = 20
"""The level of steps that may hold an event."""
_PLACE = 2**32 - 1


def with_hazard(model: SDE) -> SDE:
    """The model with what is left until its next event as a last state.

    >>> import sdesim as sim
    >>> with_hazard(sim.SDE({"x": "-x"}, jumps={"x": sim.Jump("2 + x", 1)})).drift["hazard"]
    -(2 + x)
    """
    total: Expr = const(0.0)
    for jump in model.jumps.values():
        total = total + jump.rate
    return model.extended("hazard", -total)


def first_events(seed: int, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """E_0 of each member."""
    counter = [members.astype(np.uint64), np.uint64(0), np.uint64(_PLACE), np.uint64(Purpose.JUMP)]
    return np.asarray(wait(NUMPY, counter, seed_key(seed))[0])


def happened(
    m: Machine, jt: JumpTrace, env: Mapping[Any, Value], member: Value, k: Value, key: Sequence[Value]
) -> list[Value]:
    """The states, the last of them what is left until the next event, after event k if it has come.

    NaN where a rate is negative or not finite.
    """
    d = sum(str(name).startswith("y:") for name in env)
    states, last = [env[f"y:{i}"] for i in range(d)], m.u64(_PLACE)
    sums, fit = rates(m, jt, env)
    _, u = wait(m, [member, k, last, m.u64(Purpose.JUMP)], key)
    following, _ = wait(m, [member, k + m.u64(1), last, m.u64(Purpose.JUMP)], key)
    ends = moved(m, jt, env, (member, k, last), key, u * sums[-1], sums)
    ends[-1] = states[-1] + following
    came, nan = states[-1] <= m.number(0.0), m.number(math.nan)
    return [m.select(fit, m.select(came, e, y), nan) for e, y in zip(ends, states, strict=True)]


def hazard_function(module: ir.Module, tr: SDETrace, uniform: list[tuple[str, Any]]) -> dict[str, Any]:
    """The function that puts states after the event that has come, in rows of lanes."""
    if not tr.hazard:
        return {}
    states, jumps = [f"y:{i}" for i in range(tr.dimension)], tr.jumps
    assert jumps is not None

    def events(m: Any, v: Any) -> dict[str, Any]:
        env = {name: v[name] for name in (*states, *(f"p:{n}" for n in tr.parameters), "t:")}
        return dict(zip(states, happened(m, jumps, env, v["member"], v["k"], (v["k0"], v["k1"])), strict=True))

    rows = [*states, *(f"p:{name}" for name in tr.varying), "t:"]
    return {"events": RowFunction(module, "events", events, rows, ["member", "k"], [*uniform, ("k0", I64),
                                  ("k1", I64)]).fn}  # fmt: skip


def c_hazard(tr: SDETrace, index: int) -> str:
    """events_i(y, p, t, member, k, k0, k1): the states after the event that has come, in place."""
    if not tr.hazard:
        return ""
    assert tr.jumps is not None
    m, d = CMachine(), range(tr.dimension)
    env: dict[Any, Any] = {f"y:{i}": m.wrap(f"y[{i}]") for i in d} | {"t:": m.wrap("t")}
    env |= {f"p:{name}": m.wrap(f"p[{k}]") for k, name in enumerate(tr.parameters)}
    member, k, k0, k1 = (CValue(m, name, "u64") for name in ("member", "k", "k0", "k1"))
    ends = happened(m, tr.jumps, env, member, k, (k0, k1))
    lines = [*m.lines, *(f"const double next{i} = {value.text};" for i, value in enumerate(ends)),
             *(f"y[{i}] = next{i};" for i in d)]  # fmt: skip
    return (
        f"DEVICE void events_{index}(double* y, const double* p, double t, u64 member, u64 k, u64 k0, u64 k1) {{\n"
        + "".join(f"  {line}\n" for line in lines) + "}\n"
    )  # fmt: skip


def c_events(tr: SDETrace, index: int) -> tuple[str, str, str]:
    """What the loop of a thread does: (whether a step may be accepted, after one that is, after a partial step)."""
    if not tr.hazard:
        return "true", "", ""
    last, call = tr.dimension - 1, "p, t, member, events, k0, k1); "
    accepted = (
        f"const bool came = fine[{last}] <= 0.0;\n    "
        f"if (good) {{ clock(step, end, w, t0, H, t, h, root); events_{index}(fine, {call}}}\n    "
    )
    save = f"clock(step, start + length, length, t0, H, t, h, root); events_{index}(last, {call}"
    return f"(level >= {EVENT_LEVEL} || fine[{last}] > 0.0)", accepted, save
