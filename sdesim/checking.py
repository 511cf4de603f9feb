"""`sim.check`: what was found on a model's expressions, and whether numbers agree.

Derivatives are held against central differences, L^c g_k ≈ (g_k(x + εg_c) − g_k(x − εg_c))/2ε, at many points. The
calculus of model and method together is held against one step h of the method itself from a point x: the process has

    E[X_h − x]/h → a(x),   a = f + α Σ_c L^c g_c   (the drift in Itô's sense),

whatever calculus the equation was written in. The known path is a control variate, X_h − x − g(x) W_h, so that the mean
is sharp enough to tell a from the drift of another calculus. Jumps are left out of all that; what they add in a short
step is held against their rates and sizes (`sdesim.compensators`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import evaluate
from sdesim.choice import choose
from sdesim.compensators import JumpMoments, jump_error, jump_moments, smooth_part
from sdesim.ensemble import draw
from sdesim.integrate import integrate
from sdesim.methods import find, rows
from sdesim.methods.method import Method
from sdesim.models.sde import ALPHA, SDE
from sdesim.streams import normals

_POINTS = 256  # where derivatives are compared
_STARTS = 4  # where a step is taken
_MEMBERS = 20_000
_KINDS = ("sde", "jump", "leap")
_TOLERANCE = 1e-5  # of central differences, relative to the largest term


@dataclass(frozen=True)
class Check:
    """What `check` found.

    `commutator` is the largest |L^c g_k − L^k g_c| and `derivative_error` the largest gap between derived terms and
    central differences, at the median point, relative to the largest of the terms there. `drift_error` is the gap
    between the method's mean increment and the Itô drift in standard errors (NaN where the method does not serve the
    model, without noise, or with bounds), `told_apart` that to the nearest other calculus, infinite where all agree.
    `jumps` are the model's at `initial`, `jump_error` the gap between mean and mean square of what a step's jumps add
    and what their rates and sizes say, in standard errors (NaN without jumps, with bounds, or for a method that does
    not serve).
    """

    model: SDE
    method: str
    noise_type: str
    allowed: bool
    advice: str
    commutator: float
    derivative_error: float
    method_calculus: str
    drift_error: float
    told_apart: float
    jumps: tuple[JumpMoments, ...] = ()
    jump_error: float = float("nan")

    @property
    def ok(self) -> bool:
        """Whether the method serves the model and the numbers confirm what the expressions say."""
        numbers = self.derivative_error < _TOLERANCE and self.commutes == (self.commutator < _TOLERANCE)
        return self.allowed and numbers and not self.drift_error > 5.0 and not self.jump_error > 5.0

    @property
    def commutes(self) -> bool:
        """What the noise type says of L^c g_k = L^k g_c."""
        return self.noise_type != "general"

    def __str__(self) -> str:
        found = "confirmed" if self.commutes == (self.commutator < _TOLERANCE) else "CONTRADICTED"
        same = "agree" if self.derivative_error < _TOLERANCE else "DISAGREE"
        commutes = "commutes" if self.commutes else "does not commute"
        serves = "serves" if self.allowed else "does NOT serve"
        calculus = f"equation in {self.model.interpretation}, {self.method} in {self.method_calculus or 'none'}"
        if not np.isnan(self.drift_error):
            calculus += (f"; one step has the Itô drift within {self.drift_error:.1f} standard errors, "
                         f"another calculus is {self.told_apart:.3g} away")  # fmt: skip
        lines = [
            f"noise      {self.noise_type}; {commutes}, {found}: largest commutator {self.commutator:.1e}",
            f"terms      derived and central differences {same}: {self.derivative_error:.1e}",
            f"calculus   {calculus}",
            *self._said_of_jumps(),
            f"method     {self.method} {serves} this model{self.advice}",
        ]
        return "\n".join(lines)

    def _said_of_jumps(self) -> list[str]:
        lines = [f"jump       {jump}" for jump in self.jumps]
        if not np.isnan(self.jump_error):
            agree = "agree" if self.jump_error <= 5.0 else "DISAGREE"
            lines.append(f"jumps      mean and mean square of what a step adds {agree} with rates and sizes: within "
                         f"{self.jump_error:.1f} standard errors")  # fmt: skip
        return lines


def check(
    model: SDE, method: str | None = None, *, initial: Mapping[str, float] | None = None, seed: int = 0
) -> Check:
    """Noise type, commutativity, calculus and jumps of a model and a method: found on the expressions, then by numbers.

    `method` None is the one that `simulate` would choose. The numbers are taken around `initial`, or around 1. Random
    parameters stand at the median of their law, lists at their first value.

    Raises TypeError for what is no SDE, ValueError for an unknown method or state, or a model not finite near there.

    >>> import sdesim as sim
    >>> found = sim.check(sim.SDE({"x": "-x"}, {"x": "0.5*x"}, interpretation="stratonovich"), "milstein")
    >>> found.ok, found.noise_type, found.method_calculus
    (True, 'scalar', 'ito')
    """
    if not isinstance(model, SDE):
        raise TypeError(f"check takes an SDE, got {type(model).__name__}")
    unknown = sorted(set(initial or {}) - set(model.states))
    if unknown:
        raise ValueError(f"initial names '{unknown[0]}', which is no state; the states are {', '.join(model.states)}")
    centre = {s: float((initial or {}).get(s, 1.0)) for s in model.states}
    parameters = _parameters(model)
    found = find(method, _KINDS) if method else choose(
        model, None, None, np.array([0.0, 1.0]), np.zeros((len(centre), 1)), parameters).method  # fmt: skip
    points = _points(model, centre, parameters)
    commutator, derivative_error = _derivatives(model, points, parameters)
    allowed = found.refusal(model) is None
    drift_error, told_apart = np.nan, np.inf
    if allowed and model.channels and not model.bounds:
        drift_error, told_apart = _calculus(smooth_part(model), found, points, parameters, seed)
    here, gap = np.array(list(centre.values())), np.nan
    jumps = jump_moments(model, here, parameters, seed)[0]
    if allowed and jumps and not model.bounds:
        gap = jump_error(model, found, here, parameters, seed)
    able = ", ".join(m.name for m in rows(_KINDS if jumps else ("sde",)) if m.refusal(model) is None)
    return Check(model, found.name, model.noise_type, allowed, "" if allowed else f"; these do: {able}", commutator,
                 derivative_error, found.calculus or "", float(drift_error), float(told_apart), tuple(jumps),
                 float(gap))  # fmt: skip


def _parameters(model: SDE) -> dict[str, Any]:
    plain = {}
    for name, value in model.parameters.items():
        value = value.ppf(0.5) if hasattr(value, "ppf") else value
        plain[name] = float(np.ravel(getattr(value, "values", value))[0])
    return dict(draw(plain, np.arange(1)))


def _points(model: SDE, centre: Mapping[str, float], parameters: Mapping[str, Any]) -> NDArray[np.float64]:
    """Points (state, point) around the centre where drift and noise are finite, within the model's bounds."""
    middle = np.array(list(centre.values()))[:, None]
    spread = np.random.default_rng(20260101).uniform(-0.5, 0.5, (len(centre), 4 * _POINTS))
    points = middle + spread * np.maximum(np.abs(middle), 0.5)
    nodes = [*model.drift_in("ito").values(), *model.noise.values()]
    env = {**parameters, "t": 0.0, **dict(zip(model.states, points, strict=True))}
    values = np.stack(np.broadcast_arrays(*evaluate(nodes, env), np.zeros(points.shape[1])))
    fine = np.isfinite(values).all(axis=0)
    for i, s in enumerate(model.states):
        bound = model.bounds.get(s)
        if bound is not None:
            fine &= (points[i] > (-np.inf if bound.lo is None else bound.lo))
            fine &= (points[i] < (np.inf if bound.hi is None else bound.hi))
    if fine.sum() < 16:
        raise ValueError(f"the model is finite at too few points around {dict(centre)}; give others by initial=")
    return np.asarray(points[:, fine][:, :_POINTS])


def _noise_at(model: SDE, points: NDArray[np.float64], parameters: Mapping[str, Any]) -> NDArray[np.float64]:
    """g as an array (state, process, point)."""
    g = np.zeros((len(model.states), len(model.channels), points.shape[1]))
    env = {**parameters, "t": 0.0, **dict(zip(model.states, points, strict=True))}
    for (s, c), value in zip(model.noise, evaluate(list(model.noise.values()), env), strict=True):
        g[model.states.index(s), model.channels.index(c)] = value
    return g


def _derivatives(
    model: SDE, points: NDArray[np.float64], parameters: Mapping[str, Any]
) -> tuple[float, float]:
    """(largest commutator, largest error of a derived term), relative to the largest term at each point."""
    if not model.channels:
        return 0.0, 0.0
    n, env = len(model.channels), {**parameters, "t": 0.0, **dict(zip(model.states, points, strict=True))}
    g = _noise_at(model, points, parameters)
    numeric = np.empty((n, *g.shape))  # (along, state, process, point)
    for c in range(n):
        size = np.abs(g[:, c]).max(axis=0)
        eps = 1e-5 * np.abs(points).max(axis=0).clip(0.1) / np.where(size > 0.0, size, 1.0)
        ahead, behind = (_noise_at(model, points + sign * eps * g[:, c], parameters) for sign in (1.0, -1.0))
        numeric[c] = (ahead - behind) / (2.0 * eps)
    derived = np.empty_like(numeric)
    for c, along in enumerate(model.channels):
        for i, s in enumerate(model.states):
            for k, channel in enumerate(model.channels):
                derived[c, i, k] = evaluate([model.derived(along, s, channel)], env)[0]
    scale = np.maximum(np.abs(numeric).max(axis=(0, 1, 2)), 1e-3 * np.abs(g).max(axis=(0, 1)).clip(1e-300))
    commutator = np.abs(numeric - numeric.transpose(2, 1, 0, 3)).max(axis=(0, 1, 2)) / scale
    error = np.abs(numeric - derived).max(axis=(0, 1, 2)) / scale
    return float(np.median(commutator)), float(np.nanmedian(error))


def _calculus(
    model: SDE, method: Method, points: NDArray[np.float64], parameters: Mapping[str, Any], seed: int
) -> tuple[float, float]:
    """(largest gap to the Itô drift in standard errors, gap to the nearest other calculus' drift)."""
    h, members = 1e-5, np.arange(_MEMBERS)
    worst, apart = 0.0, np.inf
    W = np.array([normals(seed, members, 0, c) for c in range(len(model.channels))]) * np.sqrt(h)
    drifts = {name: list(_shifted(model, name).values()) for name in ALPHA}
    for point in points.T[:_STARTS]:
        start = np.repeat(point[:, None], _MEMBERS, axis=1)
        times, once = np.array([0.0, h]), method.at(model, h)
        end = integrate(model, once, start, parameters, times, h, seed=seed, members=members).states[-1]
        g = _noise_at(model, point[:, None], parameters)[:, :, 0]
        left = (end - start - g @ W) / h
        mean, error = left.mean(axis=1), left.std(axis=1, ddof=1) / np.sqrt(_MEMBERS)
        env = {**parameters, "t": 0.0, **dict(zip(model.states, point, strict=True))}
        a = {name: np.array([float(v) for v in evaluate(nodes, env)]) for name, nodes in drifts.items()}
        # to a step's own error, of order h, and the round-off of the subtraction
        floor = 1e-3 * (np.abs(a["ito"]) + np.abs(mean)) + 64 * np.finfo(float).eps * np.abs(point) / h
        sigma = np.hypot(error, floor)
        worst = max(worst, float(np.max(np.abs(mean - a["ito"]) / sigma)))
        others = [float(np.max(np.abs(a[name] - a["ito"]) / sigma)) for name in ALPHA if name != "ito"]
        apart = min(apart, *(gap for gap in others if gap > 1e-6), np.inf)
    return worst, apart


def _shifted(model: SDE, wrong: str) -> dict[str, Any]:
    """The Itô drift if the equation were read so that its own drift stood for `wrong`; "ito" gives the true one."""
    if wrong == "ito":
        return model.drift_in("ito")
    ito, other = model.drift_in("ito"), model.drift_in(wrong)
    return {s: ito[s] + (ito[s] - other[s]) for s in model.states}
