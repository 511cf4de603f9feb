"""Exact samplers with coefficients of the time: linear and geometric SDEs, and the Brownian bridge.

The moments of dX = (A(t) X + b(t)) dt + B(t) dW over an interval obey

    Φ' = A Φ,   m' = A m + b,   Q' = A Q + Q Aᵀ + B Bᵀ,   from  I, 0, 0,

so that X_{t+h} = Φ X_t + m + L z with LLᵀ = Q (Arnold 1974, §8.2). They are integrated by an explicit Runge–Kutta
method of order 8 (Dormand & Prince; Hairer, Nørsett & Wanner 1993, §II.5) with errors of 10⁻¹¹: no statistic of an
ensemble sees them. Of a geometric Brownian motion log |X| is such a process. The Brownian bridge is singular at its
end T and known in closed form: over h from t, mean X + (b − X) h/(T − t) and variance σ² h (T − t − h)/(T − t).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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


def driven(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    """The transition of a linear SDE, or of the logarithms of a geometric one."""
    F, shift, Q = _moments(model, law, p, h)
    d = len(model.states)
    if model.noise_type in ("none", "additive"):
        return affine(F, shift, semidefinite_root(Q) if model.noise else None)
    places = lower(d)
    weights = entries(semidefinite_root(Q), places)
    return Transition(Growth(d, places), [*(shift[..., i] for i in range(d)), *weights])


def _moments(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], h: float) -> tuple[Array, Array, Array]:
    """(Φ, m, Q), with the members in front where parameters differ."""
    from scipy.integrate import solve_ivp

    d, m, t0 = len(model.states), len(model.channels), p["t"]
    entries = [*(slope for row in law["A"] for slope in row), *law["b"], *law["B"].values()]
    places = [(model.states.index(s), model.channels.index(c)) for s, c in law["B"]]

    def coefficients(t: float) -> tuple[Array, Array, Array]:
        flat = np.stack(np.broadcast_arrays(*values_of(entries, {**p, "t": t}), np.zeros(())), axis=-1)
        B = np.zeros((*flat.shape[:-1], d, max(m, 1)))
        for k, (i, c) in enumerate(places):
            B[..., i, c] = flat[..., d * d + d + k]
        return flat[..., : d * d].reshape(*flat.shape[:-1], d, d), flat[..., d * d : d * d + d], B

    lead = coefficients(t0)[0].shape[:-2]
    sizes = np.cumsum([d * d, d])

    def parts(flat: Array) -> tuple[Array, Array, Array]:
        F, shift, Q = np.split(flat.reshape(*lead, -1), sizes, axis=-1)
        return F.reshape(*lead, d, d), shift, Q.reshape(*lead, d, d)

    def slope(t: float, flat: Array) -> Array:
        (F, shift, Q), (A, b, B) = parts(flat), coefficients(t)
        AQ, BB = A @ Q, B @ np.swapaxes(B, -1, -2)
        pieces = A @ F, (A @ shift[..., None])[..., 0] + b, AQ + np.swapaxes(AQ, -1, -2) + BB
        return np.concatenate([v.reshape(*lead, -1) for v in pieces], axis=-1).ravel()

    one = np.broadcast_to(np.eye(d).ravel(), (*lead, d * d))
    start = np.concatenate([one, np.zeros((*lead, d + d * d))], axis=-1)
    found = solve_ivp(slope, (t0, t0 + h), start.ravel(), "DOP853", [t0 + h], rtol=_ACCURACY, atol=1e-3 * _ACCURACY)
    if not found.success or not np.isfinite(found.y).all():
        raise ValueError(f"exact: the coefficients are not finite from t = {t0:g} to {t0 + h:g}; save before they end")
    return parts(found.y[:, -1])


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
