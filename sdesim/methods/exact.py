"""Exact sampling of SDEs whose transition law is known, recognised on the expressions; h is a whole save interval.

  linear      dX = (A X + b) dt + B dW        X_h = e^{Ah} X + ∫₀ʰ e^{As} b ds + L z,  LLᵀ = ∫₀ʰ e^{As} BBᵀ e^{Aᵀs} ds
              by Taylor series on a short interval, Q' = AQ + QAᵀ + BBᵀ (Van Loan, IEEE Trans. Autom. Control 23,
              1978), then doubling: Q₂ₛ = Qₛ + e^{As} Qₛ e^{Aᵀs}
  geometric   dX_i = a_i X_i dt + Σ_c b_ic X_i dW_c       X_i exp((a_i − ½Σ_c b_ic²)h + Σ_c b_ic W_c)
  square root dX = (a − κX) dt + σ√X dW       c χ'²_d(λ), c = σ²(1 − e^{−κh})/4κ, d = 4a/σ², λ = X e^{−κh}/c
              (Cox, Ingersoll & Ross 1985; squared Bessel for κ = 0). For d > 1, χ'²_d(λ) = (z + √λ)² + χ²_{d−1}, else
              χ²_{d+2N} with N Poisson of mean λ/2 (Johnson, Kotz & Balakrishnan 1995, ch. 29)
  driven      the first two with coefficients of the time: their moments by an integration of order 8, `exact_driven`
  bridge      dX = (b − X)/(T − t) dt + σ dW, up to T itself, `exact_driven`
  bounded     Brownian motion reflected, Brownian and geometric Brownian motion absorbed, `exact_bounded`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdesim.arithmetic import Machine, Value
from sdesim.boundaries import Absorbing, Reflecting
from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import Expr, const, is_zero, symbol
from sdesim.methods.exact_bounded import absorbed, reflected
from sdesim.methods.exact_draws import Array, Draws, Growth, Transition, affine, semidefinite_root, values_of
from sdesim.methods.exact_driven import bridge, driven
from sdesim.methods.method import Method
from sdesim.models.jumps import refuse_jumps
from sdesim.models.sde import SDE
from sdesim.poisson import poisson_quantile

_TERMS = 20  # of a Taylor series for ‖As‖ ≤ ½, where they fall as 1/k!


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


def transition(model: SDE, parameters: Mapping[str, Any], y: Array, t: float, h: float) -> Transition:
    """The transition X ↦ X_h of states (state, member) from t to t + h; `y` is one such state, to check.

    With bounds that absorb, the last state is the time of exit, as in `bounded`.

    Raises ValueError for a model without a known law, or coefficients or states outside its domain.
    """
    law = recognise(model)
    with np.errstate(all="ignore"):
        return _TRANSITIONS[law.form](model, law.coefficients, {**parameters, "t": t}, y, h)


def _linear_transition(model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float) -> Transition:
    d, m = len(model.states), len(model.channels)
    entries = [*(slope for row in law["A"] for slope in row), *law["b"], *model.noise.values(), const(0.0)]
    flat = np.stack(np.broadcast_arrays(*values_of(entries, p)), axis=-1)  # (member if they differ, entry)
    A, b = flat[..., : d * d].reshape(*flat.shape[:-1], d, d), flat[..., d * d : d * d + d]
    B = np.zeros((*flat.shape[:-1], d, max(m, 1)))
    for k, (s, c) in enumerate(model.noise):
        B[..., model.states.index(s), model.channels.index(c)] = flat[..., d * d + d + k]
    F, shift, Q = linear_law(A, b, B @ np.swapaxes(B, -1, -2), h)
    return affine(F, shift, semidefinite_root(Q) if m else None)


def linear_law(A: Array, b: Array, BB: Array, h: float) -> tuple[Array, Array, Array]:
    """(e^{Ah}, ∫₀ʰ e^{As} b ds, ∫₀ʰ e^{As} BBᵀ e^{Aᵀs} ds), for matrices (…, d, d) and vectors (…, d).

    >>> F, shift, Q = linear_law(np.array([[-1.0]]), np.array([2.0]), np.array([[2.0]]), np.log(2.0))
    >>> F.round(12).item(), shift.round(12).item(), Q.round(12).item()
    (0.5, 1.0, 0.75)
    """
    size = np.abs(A)
    norm = np.max(np.maximum(size.sum(axis=-1), size.sum(axis=-2)), axis=-1, initial=0.0) * h
    doublings = np.maximum(0, np.ceil(np.log2(np.maximum(norm, 1e-300))) + 1)[..., None, None]  # each matrix its own
    s = h / 2.0**doublings
    F, m, Q = np.broadcast_to(np.eye(A.shape[-1]), A.shape), b[..., None] * s, BB * s
    sums, step = [F, m, Q], A * s
    for k in range(1, _TERMS):
        F, m, Q = step @ F / k, step @ m / (k + 1), (step @ Q + Q @ np.swapaxes(step, -1, -2)) / (k + 1)
        sums = [whole + term for whole, term in zip(sums, (F, m, Q), strict=True)]
    F, m, Q = sums
    for k in range(int(np.max(doublings, initial=0.0, where=np.isfinite(doublings)))):
        more = k < doublings
        m, Q = np.where(more, m + F @ m, m), np.where(more, Q + F @ Q @ np.swapaxes(F, -1, -2), Q)
        F = np.where(more, F @ F, F)
    return F, m[..., 0], 0.5 * (Q + np.swapaxes(Q, -1, -2))


def _geometric_transition(
    model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float
) -> Transition:
    shift, b = values_of(law["a"], p), values_of(law["b"].values(), p)
    places = tuple((model.states.index(s), model.channels.index(c)) for s, c in law["b"])
    for (i, _), value in zip(places, b, strict=True):
        shift[i] = shift[i] - 0.5 * value**2
    return Transition(Growth(len(shift), places), [*(v * h for v in shift), *(v * np.sqrt(h) for v in b)])


@dataclass(frozen=True)
class SquareRoot:
    """c χ'²_d(λ) with the coefficients c, λ/X and d; `narrow` if there are members with d ≤ 1.

    χ²_n is 2Γ(n/2), and Γ(0) = 0.
    """

    narrow: bool

    def __call__(self, m: Machine, y: Sequence[Value], c: Sequence[Value], draws: Draws) -> list[Value]:
        (x,), (scale, gain, freedom), half = y, c, m.number(0.5)
        noncentral = x * gain
        z = draws.normal(0) + m.sqrt(noncentral)
        shape, square = half * (freedom - m.number(1.0)), z * z
        if self.narrow:
            wide = freedom > m.number(1.0)
            terms = poisson_quantile(m, half * noncentral, draws.uniform(0))
            shape = m.select(wide, shape, half * freedom + terms)
            square = m.select(wide, square, m.number(0.0))
        return [scale * (square + m.number(2.0) * draws.gamma(shape))]


def _square_root_transition(
    model: SDE, law: Mapping[str, Any], p: Mapping[str, Any], y: Array, h: float
) -> Transition:
    a, kappa, sigma = values_of([law["a"], law["kappa"], law["sigma"]], p)
    if np.any(a < 0.0) or np.any(y < 0.0) or np.any(sigma == 0.0):
        got = f"the drift {np.min(a):g} at 0, the state {np.min(y):g}, the noise {np.min(np.abs(sigma)):g}"
        raise ValueError(f"exact: a square-root process has a drift ≥ 0 at 0, a state ≥ 0 and noise; got {got}")
    flat = np.where(kappa == 0.0, 1.0, kappa)
    scale = 0.25 * sigma**2 * np.where(kappa == 0.0, h, -np.expm1(-flat * h) / flat)
    freedom = 4.0 * a / sigma**2
    return Transition(SquareRoot(bool(np.any(freedom <= 1.0))), [scale, np.exp(-kappa * h) / scale, freedom])


_TRANSITIONS: dict[str, Callable[..., Transition]] = {
    "linear": _linear_transition,
    "geometric": _geometric_transition,
    "square root": _square_root_transition,
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
