"""Exact sampling of SDEs whose transition law is known, recognised on the expressions; h is a whole save interval.

  linear      dX = (A X + b) dt + B dW        X_h = e^{Ah} X + ∫₀ʰ e^{As} b ds + L z,  LLᵀ = ∫₀ʰ e^{As} BBᵀ e^{Aᵀs} ds
              the integrals by Van Loan's block exponential (IEEE Trans. Autom. Control 23, 1978) on a short interval,
              then doubling: Q₂ₛ = Qₛ + e^{As} Qₛ e^{Aᵀs}
  geometric   dX_i = a_i X_i dt + Σ_c b_ic X_i dW_c       X_i exp((a_i − ½Σ_c b_ic²)h + Σ_c b_ic W_c)
  square root dX = (a − κX) dt + σ√X dW       c χ'²_d(λ), c = σ²(1 − e^{−κh})/4κ, d = 4a/σ², λ = X e^{−κh}/c
              (Cox, Ingersoll & Ross 1985; squared Bessel for κ = 0). For d > 1, χ'²_d(λ) = (z + √λ)² + χ²_{d−1}, else
              χ²_{d+2N} with N Poisson of mean λ/2 (Johnson, Kotz & Balakrishnan 1995, ch. 29)
  driven      the first two with coefficients of the time: their moments by an integration of order 8, `exact_driven`
  bridge      dX = (b − X)/(T − t) dt + σ dW, up to T itself, `exact_driven`
  bounded     Brownian motion reflected, Brownian and geometric Brownian motion absorbed, `exact_bounded`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdesim.boundaries import Absorbing, Reflecting
from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.methods.exact_bounded import absorbed, reflected
from sdesim.methods.exact_draws import Array, Draws, semidefinite_root, values_of
from sdesim.methods.exact_driven import bridge, driven
from sdesim.methods.method import Method
from sdesim.models.jumps import refuse_jumps
from sdesim.models.sde import SDE


@dataclass(frozen=True)
class Law:
    """A recognised model: the coefficients of its form as expressions of the parameters."""

    form: str
    coefficients: Mapping[str, Any]


def recognise(model: SDE) -> Law:
    """The form of a model's transition law; ValueError says which forms there are.

    >>> from sdesim.equations import cox_ingersoll_ross, ornstein_uhlenbeck
    >>> recognise(ornstein_uhlenbeck()).form, recognise(cox_ingersoll_ross()).form
    ('linear', 'square root')
    """
    refuse_jumps(model, "the exact law")
    drift = model.drift_in("ito")
    for form in (_reflected, _absorbed) if model.bounds else (_linear, _geometric, _square_root, _bridge, _driven):
        found = form(model, drift)
        if found is not None:
            return found
    raise ValueError(
        "no exact law is known for this model; there is one for linear drift with additive noise, geometric Brownian "
        "motion, the Brownian bridge, the square-root (CIR) process with coefficients free of time, and for one state "
        "with coefficients free of time: Brownian motion reflected, Brownian and geometric Brownian motion absorbed on "
        "one side; choose another method, or None"
    )


def _affine(model: SDE, f: Expr, *more: str) -> tuple[list[Expr], Expr] | None:
    """Slopes and intercept of an expression that is affine in the states, free of them and of `more`; None if not."""
    moving = {*model.states, *more}
    slopes = [differentiate(f, s) for s in model.states]
    intercept = substitute(f, dict.fromkeys(model.states, 0.0))
    return None if free_symbols(*slopes, intercept) & moving else (slopes, intercept)


def _vanishes(node: Expr) -> bool:
    """Whether an expression is nought at points of its symbols (where positive, so that roots and logs are real)."""
    if is_zero(node):
        return True
    names, draws = sorted(free_symbols(node)), np.random.default_rng(20260101)
    value = evaluate([node], {n: draws.uniform(0.2, 1.7, 64) for n in names})[0]
    return bool(np.all(np.abs(value) <= 1e-12))


def _linear(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    if model.noise_type not in ("none", "additive") or "t" in free_symbols(*model.noise.values()):
        return None
    rows = [_affine(model, f, "t") for f in drift.values()]
    if any(row is None for row in rows):
        return None
    return Law("linear", {"A": [row[0] for row in rows if row], "b": [row[1] for row in rows if row]})


def _geometric(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    found = _proportional(model, drift, "t")
    return None if found is None else Law("geometric", found)


def _proportional(model: SDE, drift: Mapping[str, Expr], *more: str) -> dict[str, Any] | None:
    """{a, b} where every drift is a_i X_i and every noise b_ic X_i."""
    def own(s: str, f: Expr) -> Expr | None:
        """k where f = k·s."""
        row = _affine(model, f, *more)
        if row is None or not _vanishes(row[1]):
            return None
        rest = [slope for name, slope in zip(model.states, row[0], strict=True) if name != s]
        return row[0][model.states.index(s)] if all(_vanishes(slope) for slope in rest) else None

    a = [own(s, f) for s, f in drift.items()]
    b = {key: own(key[0], g) for key, g in model.noise.items()}
    return None if None in a or None in b.values() else {"a": a, "b": b}


def _square_root(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    if len(model.states) != 1 or len(model.noise) != 1:
        return None
    (x,), (f,), (g,) = model.states, drift.values(), model.noise.values()
    row, sigma = _affine(model, f, "t"), substitute(g, {x: 1.0})
    if row is None or "t" in free_symbols(g) or not _vanishes(g * g - sigma * sigma * symbol(x)):
        return None
    return Law("square root", {"a": row[1], "kappa": -row[0][0], "sigma": sigma})


def _driven(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    if model.noise_type in ("none", "additive"):
        rows = [_affine(model, f) for f in drift.values()]
        if all(row is not None for row in rows):
            B = dict(model.noise)
            return Law("driven", {"A": [row[0] for row in rows if row], "b": [row[1] for row in rows if row], "B": B})
    found = _proportional(model, drift)
    if found is None:
        return None
    b = []
    for s, slope in zip(model.states, found["a"], strict=True):
        for (state, _), g in found["b"].items():
            slope = slope - 0.5 * (g * g) if state == s else slope
        b.append(slope)
    zeros = [[const(0.0)] * len(b)] * len(b)
    return Law("driven geometric", {"A": zeros, "b": b, "B": found["b"]})  # of log |X|


def _bridge(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    if len(model.states) != 1 or len(model.noise) != 1:
        return None
    (f,), (sigma,) = drift.values(), model.noise.values()
    row = _affine(model, f)
    if row is None or free_symbols(sigma) & {"t", *model.states} or "t" not in free_symbols(row[0][0]):
        return None
    k, c = row[0][0], row[1]
    T, b = symbol("t") - 1.0 / k, -c / k
    return Law("bridge", {"T": T, "b": b, "sigma": sigma}) if _steady(T, b) else None


def _steady(*nodes: Expr) -> bool:
    """Whether expressions of parameters and the time keep their value as time goes."""
    names, draws = sorted(free_symbols(*nodes) - {"t"}), np.random.default_rng(20260101)
    env = {n: draws.uniform(0.2, 1.7, 64) for n in names}
    early, late = (evaluate(list(nodes), env | {"t": t}) for t in (0.011, 0.073))
    return all(np.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(early, late, strict=True))


def _alone(model: SDE, kind: type) -> Any:
    """The bound of a model's only state, if it is of this kind and there is one noise; else None."""
    if len(model.states) != 1 or len(model.noise) != 1:
        return None
    bound = model.bounds[model.states[0]]
    return bound if isinstance(bound, kind) else None


def _reflected(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    bound, (mu, *_), (sigma, *_) = _alone(model, Reflecting), drift.values(), [*model.noise.values(), const(0.0)]
    if bound is None or free_symbols(mu, sigma) & {*model.states, "t"}:
        return None
    if bound.lo is not None and bound.hi is not None and not is_zero(mu):
        return None
    return Law("reflected", {"mu": mu, "sigma": sigma, "lo": bound.lo, "hi": bound.hi})


def _absorbed(model: SDE, drift: Mapping[str, Expr]) -> Law | None:
    bound, (mu, *_), (sigma, *_) = _alone(model, Absorbing), drift.values(), [*model.noise.values(), const(0.0)]
    if bound is None or (bound.lo is not None and bound.hi is not None):
        return None
    law = {"lo": bound.lo, "hi": bound.hi}
    if not free_symbols(mu, sigma) & {*model.states, "t"}:
        return Law("absorbed", {"mu": mu, "sigma": sigma, "log": False, **law})
    found = _proportional(model, drift, "t")
    if found is None or (bound.hi if bound.lo is None else bound.lo) <= 0.0:
        return None
    (a,), (b,) = found["a"], found["b"].values()
    return Law("absorbed", {"mu": a - 0.5 * (b * b), "sigma": b, "log": True, **law})


def transition(
    model: SDE, parameters: Mapping[str, Any], y: Array, t: float, h: float
) -> Callable[[Array, Draws], Array]:
    """The sampler X ↦ X_h of states (state, member) from t to t + h; `y` is one such state, to check.

    With bounds that absorb, the last state is the time of exit, as in `bounded`.

    Raises ValueError for a model without a known law, or coefficients or states outside its domain.
    """
    law = recognise(model)
    with np.errstate(all="ignore"):
        return _SAMPLERS[law.form](model, law.coefficients, {**parameters, "t": t}, y, h)


def _linear_sampler(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Any:
    d, m = len(model.states), len(model.channels)
    entries = [*(slope for row in law["A"] for slope in row), *law["b"], *model.noise.values(), const(0.0)]
    flat = np.stack(np.broadcast_arrays(*values_of(entries, p)), axis=-1)  # (member if they differ, entry)
    A, b = flat[..., : d * d].reshape(*flat.shape[:-1], d, d), flat[..., d * d : d * d + d]
    B = np.zeros((*flat.shape[:-1], d, max(m, 1)))
    for k, (s, c) in enumerate(model.noise):
        B[..., model.states.index(s), model.channels.index(c)] = flat[..., d * d + d + k]
    F, shift, Q = linear_law(A, b, B @ np.swapaxes(B, -1, -2), h)
    L = semidefinite_root(Q)

    def sample(x: Array, draws: Draws) -> Array:
        z = np.stack([draws.normal(k) for k in range(d)], axis=-1)[..., None] if m else np.zeros((x.shape[1], d, 1))
        return np.asarray((F @ x.T[..., None] + shift[..., None] + L @ z)[..., 0].T)

    return sample


def linear_law(A: Array, b: Array, BB: Array, h: float) -> tuple[Array, Array, Array]:
    """(e^{Ah}, ∫₀ʰ e^{As} b ds, ∫₀ʰ e^{As} BBᵀ e^{Aᵀs} ds), for matrices (…, d, d) and vectors (…, d).

    >>> F, shift, Q = linear_law(np.array([[-1.0]]), np.array([2.0]), np.array([[2.0]]), np.log(2.0))
    >>> F.round(12).item(), shift.round(12).item(), Q.round(12).item()
    (0.5, 1.0, 0.75)
    """
    from scipy.linalg import expm

    d = A.shape[-1]
    norm = float(np.max(np.abs(A).sum(axis=-1), initial=0.0)) * h
    doublings = max(0, int(np.ceil(np.log2(max(norm, 1e-300)))) + 1)
    s = h / 2.0**doublings
    block = np.zeros((*A.shape[:-2], 2 * d + 1, 2 * d + 1))
    block[..., :d, :d], block[..., :d, d : 2 * d] = -A, BB
    block[..., d : 2 * d, d : 2 * d] = np.swapaxes(A, -1, -2)
    whole = expm(block * s)
    F = np.swapaxes(whole[..., d : 2 * d, d : 2 * d], -1, -2)
    Q = F @ whole[..., :d, d : 2 * d]
    affine = np.zeros((*A.shape[:-2], d + 1, d + 1))
    affine[..., :d, :d], affine[..., :d, d] = A, b
    shift = expm(affine * s)[..., :d, d]
    for _ in range(doublings):
        Q = Q + F @ Q @ np.swapaxes(F, -1, -2)
        shift = shift + (F @ shift[..., None])[..., 0]
        F = F @ F
    return F, shift, 0.5 * (Q + np.swapaxes(Q, -1, -2))


def _geometric_sampler(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Any:
    a, b = values_of(law["a"], p), dict(zip(law["b"], values_of(law["b"].values(), p), strict=True))

    def sample(x: Array, draws: Draws) -> Array:
        W = {c: np.sqrt(h) * draws.normal(k) for k, c in enumerate(model.channels)}
        out = np.empty_like(x)
        for i, s in enumerate(model.states):
            own = {c: value for (state, c), value in b.items() if state == s}
            exponent = (a[i] - 0.5 * sum(v**2 for v in own.values())) * h + sum(v * W[c] for c, v in own.items())
            out[i] = x[i] * np.exp(exponent)
        return out

    return sample


def _square_root_sampler(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Any:
    from scipy import special, stats

    a, kappa, sigma = values_of([law["a"], law["kappa"], law["sigma"]], p)
    if np.any(a < 0.0) or np.any(y < 0.0) or np.any(sigma == 0.0):
        got = f"the drift {np.min(a):g} at 0, the state {np.min(y):g}, the noise {np.min(np.abs(sigma)):g}"
        raise ValueError(f"exact: a square-root process has a drift ≥ 0 at 0, a state ≥ 0 and noise; got {got}")
    flat = np.where(kappa == 0.0, 1.0, kappa)
    c = 0.25 * sigma**2 * np.where(kappa == 0.0, h, -np.expm1(-flat * h) / flat)
    freedom = 4.0 * a / sigma**2

    def sample(x: Array, draws: Draws) -> Array:
        noncentral = x[0] * np.exp(-kappa * h) / c
        d, u = np.broadcast_to(freedom, x[0].shape), draws.uniform(0)
        wide = d > 1.0
        chi2 = 2.0 * special.gammaincinv(np.where(wide, 0.5 * (d - 1.0), 1.0), u)
        out = (draws.normal(0) + np.sqrt(noncentral)) ** 2 + chi2
        if not wide.all():
            shape = 0.5 * d + stats.poisson.ppf(draws.uniform(1), 0.5 * noncentral)
            narrow = 2.0 * special.gammaincinv(np.where(shape > 0.0, shape, 1.0), u)
            out = np.where(wide, out, np.where(shape > 0.0, narrow, 0.0))
        return np.asarray(c * out)[None]

    return sample


_SAMPLERS: dict[str, Callable[..., Callable[[Array, Draws], Array]]] = {
    "linear": _linear_sampler,
    "geometric": _geometric_sampler,
    "square root": _square_root_sampler,
    "driven": driven,
    "driven geometric": driven,
    "bridge": bridge,
    "reflected": reflected,
    "absorbed": absorbed,
}


def _require(model: SDE) -> None:
    recognise(model)


METHODS = (
    Method(
        "exact",
        transition,
        "law",
        "Van Loan 1978, doi:10.1109/TAC.1978.1101743; Cox, Ingersoll & Ross 1985, doi:10.2307/1911242",
        noise=("none", "additive", "scalar", "diagonal", "commutative", "general"),
        calculus="ito",
        details="sampled from the transition law at the save times, no step: linear with additive noise and geometric "
        "Brownian motion (coefficients may depend on time), Brownian bridge, square-root process, Brownian motion "
        "reflected or absorbed, geometric Brownian motion absorbed",
        requires=_require,
    ),
)
