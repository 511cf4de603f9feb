"""Coupled copies of one SDE on one Wiener path: the same noise seen with different steps.

One step of the whole is one step of the coarsest copy. It has n sets of Wiener increments ΔW_1 … ΔW_n over n equal
parts, and a copy that takes s steps in it sums them in groups of n/s: the coarse increment is the sum of the fine ones.
The copies are one model to the integrator, so the generated kernel advances them together.

`antithetic` copies see −W. `swapped` copies see the parts in reverse order: for noise that does not commute, the mean
of a fine path and its swapped twin has the Lévy areas of the coarse one, so that a Milstein scheme without areas
gives level variances of order h² (Giles & Szpruch, Ann. Appl. Probab. 24, 2014, doi:10.1214/13-AAP957).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdesim.estimation.bounds import absorbing, keep
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import Vector, add, multiply
from sdesim.models.sde import SDE


@dataclass(frozen=True)
class Copy:
    """A path with `steps` steps to one of the whole; it counts with `weight` in the difference that is averaged."""

    steps: int
    weight: float
    antithetic: bool = False
    swapped: bool = False


def copies_of(refined: bool, antithetic: bool, swapped: bool) -> tuple[Copy, ...]:
    """The copies whose weighted functionals make one sample of a level: P at the coarsest, else P_fine − P_coarse.

    >>> copies_of(refined=True, antithetic=False, swapped=False)
    (Copy(steps=2, weight=1.0, antithetic=False, swapped=False), Copy(steps=1, weight=-1.0, ...))
    """
    signs, orders = ((False, True) if antithetic else (False,)), ((False, True) if swapped else (False,))
    share = 1.0 / len(signs)
    if not refined:
        return tuple(Copy(1, share, sign) for sign in signs)
    fine = [Copy(2, share / len(orders), sign, order) for sign in signs for order in orders]
    return (*fine, *(Copy(1, -share, sign) for sign in signs))


def couple(model: SDE, scheme: Method, copies: Sequence[Copy]) -> tuple[SDE, Method]:
    """A model that holds the copies' states one after another, and the method that advances them together.

    The model carries names, parameters and Wiener processes; its motion is the method's.
    """
    parts, m, d = max(c.steps for c in copies), len(model.channels), len(model.states)
    further = ["alive"] if absorbing(model) else []
    names = [f"copy{k}_{s}" for k in range(len(copies)) for s in (*model.states, *further)]
    size = d + len(further)
    noise = {names[0]: {f"W{j}": 1.0 for j in range(parts * m)}} if m else None
    whole = SDE(dict.fromkeys(names, 0.0), noise, parameters=model.parameters)
    scale = 1.0 / math.sqrt(parts)

    def step(carrier: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        """Each copy's own steps, with its own sums of the increments."""
        own = BoundSDE(model, scheme.calculus or "ito", carrier.parameters)
        fine = [[w.dW[j * m + c] * scale for c in range(m)] for j in range(parts)]
        result: list[Any] = []
        for k, copy in enumerate(copies):
            first, h_own, group = k * size, h * (1.0 / copy.steps), parts // copy.steps
            state, kept = Vector(y[first : first + d]), list(y[first + d : first + size])
            order = list(enumerate(fine))[:: -1 if copy.swapped else 1]
            for j in range(copy.steps):
                places, pieces = zip(*order[j * group : (j + 1) * group], strict=True)
                dW, now = Vector(_total(pieces, c, copy.antithetic) for c in range(m)), t + h_own * float(j)
                end = scheme.step(own, now, state, h_own, Wiener(dW))
                if model.bounds:
                    signed = [[_total([piece], c, copy.antithetic) for c in range(m)] for piece in pieces]
                    end, kept = keep(own, model, now, state, end, kept, h_own, signed, places, w)
                state = end
            result.extend([*state, *kept])
        return Vector(result)

    return whole, Method(f"{scheme.name}, coupled", step, "sde", scheme.source, noise=NOISE_TYPES)


def _total(parts: Sequence[Sequence[Any]], channel: int, negative: bool) -> Any:
    total = parts[0][channel]
    for part in parts[1:]:
        total = total + part[channel]
    return -total if negative else total


def _milstein_without_areas(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X + f h + g ΔW + ½ Σ_{c,k} L^c g_k (ΔW_c ΔW_k − δ_ck h) (Giles & Szpruch 2014, eq. 2.3)."""
    model: SDE = m.model
    total: Vector = y + m.f(t, y) * h + m.noise(t, y, w.dW)
    terms = [(i, c, k) for i in range(m.dimension) for c in range(len(m.channels)) for k in range(len(m.channels))]
    nodes = [model.derived(m.channels[c], model.states[i], m.channels[k]) for i, c, k in terms]
    for (i, c, k), value in zip(terms, m.values(nodes, t, y), strict=True):
        area = w.dW[c] * w.dW[k] - h if c == k else w.dW[c] * w.dW[k]
        total[i] = add(total[i], multiply(multiply(value, area), 0.5))
    return total


TRUNCATED_MILSTEIN = Method(
    "milstein_without_areas", _milstein_without_areas, "sde",
    "Giles & Szpruch 2014, doi:10.1214/13-AAP957, eq. 2.3", noise=NOISE_TYPES, calculus="ito", strong=0.5, weak=1.0,
)  # fmt: skip
