"""Exact samplers with coefficients of the time: linear and geometric SDEs, and the Brownian bridge.

The moments of dX = (A(t) X + b(t)) dt + B(t) dW over an interval obey

    Φ' = A Φ,   m' = A m + b,   Q' = A Q + Q Aᵀ + B Bᵀ,   from  I, 0, 0,

so that X_{t+h} = Φ X_t + m + L z with LLᵀ = Q (Arnold 1974, §8.2). They are integrated by an explicit Runge–Kutta
method of order 8 (Dormand & Prince; Hairer, Nørsett & Wanner 1993, §II.5) with errors of 10⁻¹¹: no statistic of an
ensemble sees them. Each member has steps of its own, so that its law depends on no other's. Of a geometric Brownian
motion log |X| is such a process. The Brownian bridge is singular at its end T and known in closed form: over h from t,
mean X + (b − X) h/(T − t) and variance σ² h (T − t − h)/(T − t).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.methods.exact_draws import (
    Affine,
    Array,
    Growth,
    Transition,
    affine,
    entries,
    lower,
    semidefinite_root,
    values_of,
)  # fmt: skip
from sdesim.models.sde import SDE

_ACCURACY = 1e-11
_LARGEST, _SMALLEST = 10.0, 0.2  # what a step may grow and shrink by
Moments: TypeAlias = tuple[Array, Array, Array]


def driven(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    """The transition of a linear SDE, or of the logarithms of a geometric one."""
    F, shift, Q = _moments(model, law, p, h)
    d = len(model.states)
    if model.noise_type in ("none", "additive"):
        return affine(F, shift, semidefinite_root(Q) if model.noise else None)
    places = lower(d)
    weights = entries(semidefinite_root(Q), places)
    return Transition(Growth(d, places), [*(shift[..., i] for i in range(d)), *weights])


def _moments(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], h: float) -> Moments:
    """(Φ, m, Q), with the members in front where parameters differ."""
    d, m, t0 = len(model.states), len(model.channels), p["t"]
    entries = [*(slope for row in law["A"] for slope in row), *law["b"], *law["B"].values()]
    places = [(model.states.index(s), model.channels.index(c)) for s, c in law["B"]]
    lead = np.broadcast_shapes(*(np.shape(v) for v in p.values()))
    own = {name: np.broadcast_to(v, lead or (1,)) for name, v in p.items() if name != "t"}

    def parts(flat: Array) -> Moments:
        F, shift, Q = flat[:, : d * d], flat[:, d * d : d * d + d], flat[:, d * d + d :]
        return F.reshape(-1, d, d), shift, Q.reshape(-1, d, d)

    def slope(who: NDArray[np.int64], t: Array, flat: Array) -> Array:
        env = {name: v[who] for name, v in own.items()}
        now = np.stack(np.broadcast_arrays(*values_of(entries, {**env, "t": t}), np.zeros(len(who))), axis=-1)
        A, b, B = now[:, : d * d].reshape(-1, d, d), now[:, d * d : d * d + d], np.zeros((len(who), d, max(m, 1)))
        for k, (i, c) in enumerate(places):
            B[:, i, c] = now[:, d * d + d + k]
        F, shift, Q = parts(flat)
        AQ = A @ Q
        pieces = A @ F, (A @ shift[..., None])[..., 0] + b, AQ + np.swapaxes(AQ, -1, -2) + B @ np.swapaxes(B, -1, -2)
        return np.concatenate([v.reshape(len(who), -1) for v in pieces], axis=1)

    start = np.zeros((*(lead or (1,)), d * (2 * d + 1)))
    start[:, : d * d] = np.eye(d).ravel()
    found = _integrated(slope, start, t0, h)
    if not np.isfinite(found).all():
        raise ValueError(f"exact: the coefficients are not finite from t = {t0:g} to {t0 + h:g}; save before they end")
    F, shift, Q = parts(found)
    return (F, shift, Q) if lead else (F[0], shift[0], Q[0])


def _integrated(slope: Callable[..., Array], start: Array, t0: float, h: float) -> Array:
    """y(t₀ + h) of y' = slope(who, t, y), for every row of `start` with steps of its own; NaN where there is none."""
    from scipy.integrate import DOP853

    end, y, t = t0 + h, start.copy(), np.full(len(start), t0)
    step, who = np.full(len(start), h), np.arange(len(start))
    first = slope(who, t, y)
    while who.size:
        left = end - t[who]
        ahead = np.minimum(step[who], left)
        stages, h_i = [first[who]], ahead[:, None]
        for row, c in zip(DOP853.A[1:], DOP853.C[1:], strict=True):
            stages.append(slope(who, t[who] + c * ahead, y[who] + h_i * _combined(row, stages)))
        new = y[who] + h_i * _combined(DOP853.B, stages)
        stages.append(slope(who, t[who] + ahead, new))
        scale = _ACCURACY * (1e-3 + np.maximum(np.abs(y[who]), np.abs(new)))
        five, three = (np.abs(_combined(E, stages) / scale).max(axis=1) for E in (DOP853.E5, DOP853.E3))
        error = ahead * five**2 / np.maximum(np.hypot(five, 0.1 * three), 1e-300)
        error = np.where(np.isfinite(error), np.maximum(error, 1e-300), np.inf)
        good = error < 1.0
        step[who] = ahead * np.clip(0.9 * error**-0.125, _SMALLEST, np.where(good, _LARGEST, 1.0))
        passed = who[good]
        y[passed], first[passed] = new[good], stages[-1][good]
        t[passed] = np.where(ahead == left, end, t[who] + ahead)[good]
        lost = who[~good & (step[who] < 8.0 * np.spacing(np.abs(t[who]) + abs(end)))]
        y[lost], t[lost] = np.nan, end
        who = who[t[who] < end]
    return y


def _combined(weights: Array, stages: Sequence[Array]) -> Array:
    """Σ w_i k_i, in one order whatever the number of rows."""
    total = np.zeros_like(stages[0])
    for w, k in zip(weights, stages, strict=False):
        if w != 0.0:
            total = total + w * k
    return total


def bridge(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    """The transition of the Brownian bridge, up to its end."""
    t = p["t"]
    T, b, sigma = values_of([law["T"], law["b"], law["sigma"]], p)
    left, after = T - t, T - t - h
    if np.any(left <= 0.0) or np.any(after < -1e-12 * np.abs(T)):
        raise ValueError(f"exact: the Brownian bridge ends at {np.min(T):g}, save times go to {t + h:g}: end there")
    share = np.minimum(h / left, 1.0)
    root = sigma * np.sqrt(h * np.maximum(after, 0.0) / left)
    return Transition(Affine(1, ((0, 0),)), [1.0 - share, b * share, root])
