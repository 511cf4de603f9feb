"""Methods for the (underdamped) Langevin equation, whose structure is recognised on the expressions:

    x' = v,   v' = F(t, x) − γ v + Σ_c σ_c ξ_c ,

any number of pairs (x, v), each with its own γ; γ and σ free of the states and of time. With z = −γh,

    φ₀ = eᶻ,   φ₁ = (eᶻ − 1)/z,   φ₂ = (φ₁ − 1)/z,   φ₃ = (φ₂ − ½)/z

are smooth through γ = 0. W is the increment of the noise over a step, H = (1/h)∫ (W_s − (s/h) W) ds its space-time
area, K = (1/h²)∫ (W_s − (s/h) W)(h/2 − s) ds the next; they are independent with variances h, h/12 and h/720.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdesim.arithmetic import Machine
from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import Expr, is_zero
from sdesim.methods.method import Method
from sdesim.methods.phi import PHI
from sdesim.methods.vector import ZERO, Vector, add, multiply

_L, _R = 0.5 - math.sqrt(3.0) / 6.0, 0.5 + math.sqrt(3.0) / 6.0


@dataclass(frozen=True)
class Langevin:
    """For each pair: the numbers of its position and velocity among the states, its friction, and the force on it."""

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    friction: tuple[Expr, ...]
    force: tuple[Expr, ...]


def recognise(model: Any) -> Langevin:
    """The model's Langevin structure; ValueError says what it lacks.

    >>> import sdesim as sim
    >>> form = recognise(sim.SDE({"x": "v", "v": "-x - 0.5*v"}, {"v": "1"}))
    >>> form.friction, form.force
    ((0.5,), (-x,))
    """
    names = list(model.states)
    pairs = [(s, f.value) for s, f in model.drift.items() if f.op == "symbol" and f.value in names]
    moving = [v for _, v in pairs]
    if sorted([*moving, *(x for x, _ in pairs)]) != sorted(names):
        raise _refused("its states are not pairs of x' = v and v' = F(x) − γ v")
    still = dict.fromkeys(moving, 0.0)
    friction, force = [], []
    for _, v in pairs:
        drift = model.drift[v]
        slopes = {u: differentiate(drift, u) for u in moving}
        if any(not is_zero(slopes[u]) for u in moving if u != v) or free_symbols(slopes[v]) & {*names, "t"}:
            raise _refused(f"the drift of {v} is not F(x) − γ {v} with a constant γ")
        friction.append(-slopes[v])
        force.append(substitute(drift, still))
    for (s, _), g in model.noise.items():
        if s not in moving or free_symbols(g) & {*names, "t"}:
            raise _refused("its noise is not of constant amplitude on the velocities alone")
    positions, velocities = (tuple(names.index(pair[k]) for pair in pairs) for k in (0, 1))
    return Langevin(positions, velocities, tuple(friction), tuple(force))


def _refused(why: str) -> ValueError:
    return ValueError(f"this method is for Langevin equations x' = v, v' = F(x) − γ v + σ ξ, and of this model {why}")


def is_langevin(model: Any) -> None:
    """Raises ValueError if the model is not a Langevin equation."""
    recognise(model)


class _Parts:
    """Positions, velocities, frictions, forces and noise of a state, as vectors over the pairs."""

    def __init__(self, m: Any, t: Any, y: Vector) -> None:
        self.m, self.y = m, y
        self.form = recognise(m.model)
        self.x = Vector(y[i] for i in self.form.positions)
        self.v = Vector(y[i] for i in self.form.velocities)
        self.gamma = Vector(m.values(self.form.friction, t, y))
        self.g = m.g(t, y)

    def force(self, t: Any, x: Vector) -> Vector:
        state = Vector(self.y)
        for i, value in zip(self.form.positions, x, strict=True):
            state[i] = value
        return Vector(self.m.values(self.form.force, t, state))

    def noise(self, w: Any) -> Vector:
        """Σ_c σ_c w_c of each velocity."""
        total = self.m.dot(self.g, w)
        return Vector(total[i] for i in self.form.velocities)

    def phi(self, n: int, factor: Any) -> Vector:
        """φ_n(−γ·factor)."""
        return Vector(_phi(n, multiply(g, -factor), self.m.machine) for g in self.gamma)

    def state(self, x: Vector, v: Vector) -> Vector:
        y = Vector(self.y)
        for i, j, a, b in zip(self.form.positions, self.form.velocities, x, v, strict=True):
            y[i], y[j] = a, b
        return y


def _phi(n: int, z: Any, machine: Machine) -> Any:
    """φ_n at z; without friction its value at 0."""
    if z is ZERO:
        return 1.0 / math.factorial(n)
    return substitute(PHI[n], {"z": z}) if isinstance(z, Expr) else evaluate([PHI[n]], {"z": z}, machine)[0]


def _root(c: Any) -> Any:
    """√c; of a plain number again a plain one, that takes the format of what it meets."""
    return math.sqrt(c) if isinstance(c, float) else np.sqrt(c)


def baoab(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Half kick, half drift, exact friction and noise, half drift, half kick (Leimkuhler & Matthews 2013, §2).

    The friction and noise part is an Ornstein–Uhlenbeck process, v ← e^{−γh} v + σ √(φ₁(−2γh)) ΔW in law.
    """
    p, half = _Parts(m, t, y), h * 0.5
    v = p.v + p.force(t, p.x) * half
    x = p.x + v * half
    v = p.phi(0, h) * v + Vector(_root(c) for c in p.phi(1, h * 2.0)) * p.noise(w.dW)
    x = x + v * half
    return p.state(x, v + p.force(t + h, x) * half)


def align(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """ALIGN, after the Strang splitting of Foster, Lyons & Oberhauser 2021 (arXiv:2101.03446, def. 4.2).

    x' = x + h φ₁ v + h² φ₂ F + h φ₂ σW + h ψ σH,            ψ = 6(½ + (z − 2) φ₃)
    v' = φ₀ v + h (φ₁ − φ₂) F + h φ₂ F' + φ₁ σW − γh ψ σH
    """
    p = _Parts(m, t, y)
    phi1, phi2 = p.phi(1, h), p.phi(2, h)
    z = Vector(multiply(g, -h) for g in p.gamma)
    psi = (Vector(add(v, -2.0) for v in z) * p.phi(3, h) + Vector([0.5] * len(z))) * 6.0
    W, H = p.noise(w.dW), p.noise(w.dZ * (0.5 / math.sqrt(3.0)))
    F = p.force(t, p.x)
    x = p.x + phi1 * p.v * h + phi2 * F * (h * h) + (phi2 * W + psi * H) * h
    kick = ((phi1 - phi2) * F + phi2 * p.force(t + h, x)) * h
    return p.state(x, p.phi(0, h) * p.v + kick + phi1 * W + z * psi * H)


def quicsort(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """QUICSORT (Scott, O'Kane, Jelinčič & Foster 2025, arXiv:2508.16485): two evaluations of F, strong order 3.

    With ṽ = v + σ(H + 6K), σ' = σ(W − 12K), a_s = sh φ₁(−γsh), b_s = s²h φ₂(−γsh), l, r = ½ ∓ √3/6:
    x₁ = x + a_l ṽ + b_l σ',   x₂ = x + a_r ṽ + b_r σ' + a_⅓ h F(x₁),
    x' = x + a₁ ṽ + b₁ σ' + ½h (a_r F(x₁) + a_l F(x₂)),
    v' = φ₀ ṽ + ½h (e^{−γrh} F(x₁) + e^{−γlh} F(x₂)) + φ₁ σ' − σ(H − 6K).
    """
    p = _Parts(m, t, y)
    H = p.noise(w.dZ * (0.5 / math.sqrt(3.0)))
    K6 = p.noise(w.normals(1) * w.root) * (6.0 / math.sqrt(720.0))
    v, drift = p.v + H + K6, p.noise(w.dW) - K6 * 2.0

    def moved(s: float) -> Vector:
        return p.x + p.phi(1, h * s) * v * (h * s) + p.phi(2, h * s) * drift * (h * (s * s))

    F1 = p.force(t + h * _L, moved(_L)) * h
    F2 = p.force(t + h * _R, moved(_R) + p.phi(1, h * (1 / 3)) * F1 * (h * (1 / 3))) * h
    kick = (p.phi(1, h * _R) * F1 * _R + p.phi(1, h * _L) * F2 * _L) * (h * 0.5)
    push = (p.phi(0, h * _R) * F1 + p.phi(0, h * _L) * F2) * 0.5
    return p.state(moved(1.0) + kick, p.phi(0, h) * v + push + p.phi(1, h) * drift - H + K6)


def _free_flight(p: _Parts, x: Vector, v: Vector, h: Any, W: Vector, H: Vector) -> tuple[Vector, Vector]:
    """x' = v, v' = −γ v + σ ξ over h, exact in law: the two noises have their covariance at any γh.

    σ²h φ₁(2z) is the variance of v, ½σ²h² φ₁(z)² the covariance, σ²h³ (4φ₃(2z) − 2φ₃(z)) that of x. The two normals
    (W, √12 H) are turned so that the first is along what v sees of them, φ₁ W + zψ H, ψ as in `align`.
    """
    z = Vector(multiply(g, -h) for g in p.gamma)
    one, ones = p.phi(1, h), Vector([1.0] * len(z))
    psi = (Vector(add(value, -2.0) for value in z) * p.phi(3, h) + ones * 0.5) * 6.0
    across = z * psi * (1.0 / math.sqrt(12.0))
    size = Vector(_root(c) for c in one * one + across * across)
    a, b, H12 = one / size, across / size, H * math.sqrt(12.0)
    first, second = a * W + b * H12, a * H12 - b * W
    spread = Vector(_root(c) for c in p.phi(1, h * 2.0))
    shared = one * one * 0.5 / spread
    left = Vector(_root(c) for c in p.phi(3, h * 2.0) * 4.0 - p.phi(3, h) * 2.0 - shared * shared)
    return x + (one * v + shared * first + left * second) * h, p.phi(0, h) * v + spread * first


def ubu(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """UBU (Sanz-Serna & Zygalakis 2021, arXiv:2104.12384, §6): half a step without force, a kick h F, another half.

    The parts without force are exact in law. Their increments and areas are those of the two halves of the step's path:
    with two further normals A, D of variances h/4 and h/12,

        W₁,₂ = ½(W ± (3H + A)),   H₁,₂ = ½(½(H − A) ± D) .
    """
    p, half = _Parts(m, t, y), h * 0.5
    W, H = p.noise(w.dW), p.noise(w.dZ * (0.5 / math.sqrt(3.0)))
    D, A = (p.noise(w.normals(k) * w.root) * size for k, size in ((1, math.sqrt(1 / 12)), (2, 0.5)))
    lean, area = H * 3.0 + A, (H - A) * 0.5
    x, v = _free_flight(p, p.x, p.v, half, (W + lean) * 0.5, (area + D) * 0.5)
    v = v + p.force(t + half, x) * h
    return p.state(*_free_flight(p, x, v, half, (W - lean) * 0.5, (area - D) * 0.5))


_KINDS = ("none", "additive")
METHODS = (
    Method("baoab", baoab, "sde", "Leimkuhler & Matthews 2013, doi:10.1093/amrx/abs010", _KINDS, "ito", 2.0, 1.0, 2.0,
           "Langevin equations; positions of a harmonic oscillator have their exact variance at any step", is_langevin),
    Method("align", align, "sde", "Foster, Lyons & Oberhauser 2021, arXiv:2101.03446", _KINDS, "ito", 2.0, 2.0, 2.0,
           "Langevin equations; strong order 2", is_langevin),
    Method("ubu", ubu, "sde", "Sanz-Serna & Zygalakis 2021, arXiv:2104.12384", _KINDS, "ito", 2.0, 2.0, 2.0,
           "Langevin equations; strong order 2, exact without force; one evaluation of it", is_langevin),
    Method("quicsort", quicsort, "sde", "Scott, O'Kane, Jelinčič & Foster 2025, arXiv:2508.16485", _KINDS, "ito",
           3.0, 3.0, 3.0, "Langevin equations; strong order 3", is_langevin),
)  # fmt: skip
