"""Drift-implicit methods for stiff SDEs: Newton's iteration on the derived Jacobian, unrolled inside the kernel.

A step solves F(z) = b + γ f(t', z) − z = 0 with γ = θh. Newton's direction is (1 − γ f'(z)) Δ = F(z), starting from the
state; for a drift that is linear one iteration is exact, and a second refines it. Otherwise the length of the first
`SEARCHED` ones is found along it: of

    ψ(λ) = F(z + λΔ)·F(z)/|F(z)|² = 1 − λ + cλ² + … ,

known at λ = 1, or at ⅒ where the whole of Δ would go far beyond, the root 2/(1 + √(1 − 4c)). Strong powers are so
reached in a few iterations from afar, where Newton's own steps shrink a cube by ⅔ only, and leave a flat place without
being thrown out of the region that matters; near the solution λ = 1 + O(F). For a single state the point where F was
last seen with the other sign is remembered in place of the look at ⅒: a step of more than half the way to it is not
believed, and the way is quartered, as a drift that saturates asks for, whose slope from afar says nothing of where it
turns.

The matrix is eliminated without pivoting, which is stable for a dissipative drift, for at most `LARGEST` states. A
member for which the last of `ITERATIONS` corrections is not small becomes NaN, and so is marked in `status`: nothing
unsolved is passed off as a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from sdesim.calculus import differentiate, free_symbols
from sdesim.expressions import is_zero
from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import ZERO, Vector, add, is_structural_zero, multiply, subtract

LARGEST = 8
ITERATIONS = 9
SEARCHED = 6
_SMALL = 1e-6  # squared by one more iteration: round-off
_NOWHERE = 1e150  # far beyond any solution, with a square
_TINY = 1e-300  # a residual of zero has a direction of zero


def eliminate(A: list[list[Any]], b: Vector) -> Vector:
    """The solution of A x = b by Gaussian elimination without pivoting; structural zeros cost nothing.

    >>> eliminate([[2.0, 1.0], [0, 4.0]], Vector([4.0, 8.0]))
    [1.0, 2.0]
    """
    n = len(b)
    A, x = [list(row) for row in A], Vector(b)
    for k in range(n):
        for i in range(k + 1, n):
            if is_structural_zero(A[i][k]):
                continue
            factor = A[i][k] / A[k][k]
            for j in range(k + 1, n):
                A[i][j] = subtract(A[i][j], multiply(factor, A[k][j]))
            x[i] = subtract(x[i], multiply(factor, x[k]))
    for i in reversed(range(n)):
        for j in range(i + 1, n):
            x[i] = subtract(x[i], multiply(A[i][j], x[j]))
        x[i] = ZERO if is_structural_zero(x[i]) else x[i] / A[i][i]
    return x


def dot(a: Vector, b: Vector) -> Any:
    """a·b."""
    total: Any = ZERO
    for x, y in zip(a, b, strict=True):
        total = add(total, multiply(x, y))
    return total


def _length(missing: Callable[[Vector], Vector], z: Vector, step: Vector, F: Vector) -> Any:
    """The root of ψ along Newton's direction from z, where `missing` is F."""
    size = dot(F, F) + _TINY
    whole, tenth = (dot(missing(z + step * reach), F) / size for reach in (1.0, 0.1))
    bend = np.where(whole > -3.0, whole, (tenth - 0.9) * 100.0)
    length = 2.0 / (np.sqrt(np.where(bend < 0.25, 1.0 - bend * 4.0, 0.0)) + 1.0)
    return np.where(length > 0.01, length, 0.01)


def _bracketed(
    missing: Callable[[Vector], Vector], z: Vector, step: Vector, F: Vector, beyond: Any
) -> tuple[Vector, Vector, Any]:
    """(the next z of a single state, its F, what is known to lie beyond the solution; None if nothing yet)."""
    (z0,), (step0,), (F0,) = z, step, F
    far: Any = None
    if beyond is not None:
        gap = beyond - z0
        far = step0 * gap * 2.0 > gap * gap
        step0 = np.where(far, gap * 0.5, step0)
    there = z0 + step0
    whole = missing(Vector([there]))[0] * F0 / (F0 * F0 + _TINY)
    length = 2.0 / (np.sqrt(np.where(whole < 0.25, 1.0 - whole * 4.0, 0.0)) + 1.0)
    length = np.where(length > 0.1, length, 0.1)
    if beyond is not None:
        length = np.where(far, np.where(whole > 0.0, 1.5, 0.5), length)
    new = Vector([z0 + step0 * length])
    left = missing(new)
    passed = left[0] * F0 < 0.0
    known = _NOWHERE if beyond is None else beyond
    return new, left, np.where(whole > 0.0, np.where(passed, there, known), np.where(passed, z0, there))


def solve(m: Any, t: Any, base: Vector, gamma: Any, guess: Vector) -> Vector:
    """z = base + γ f(t, z), from a guess."""

    def missing(z: Vector) -> Vector:
        return base + m.f(t, z) * gamma - z

    def direction(z: Vector, F: Vector) -> Vector:
        slopes = m.jacobian(t, z)
        A = [[subtract(1.0 if i == j else ZERO, multiply(v, gamma)) for j, v in enumerate(row)]
             for i, row in enumerate(slopes)]  # fmt: skip
        return eliminate(A, F)

    z, F, beyond = guess, missing(guess), None
    for k in range(2 if m.is_affine else ITERATIONS):
        step = direction(z, F)
        if k < SEARCHED and not m.is_affine:
            if m.dimension == 1:
                z, F, beyond = _bracketed(missing, z, step, F, beyond)
                continue
            step = step * _length(missing, z, step, F)
        z = z + step
        if m.is_affine and m.dimension == 1:
            return z
        F = missing(z)
    solved = dot(step, step) <= (dot(z, z) + 1.0) * _SMALL**2
    return Vector(np.where(solved, value, math.nan) for value in z)


def theta_euler(theta: float, terms: bool = False) -> Callable[..., Vector]:
    """X' = X + (1 − θ) f(t, X) h + θ f(t + h, X') h + g ΔW, and Milstein's terms on request.

    Kloeden & Platen 1992, eqs. 12.2.6 and 12.2.16.
    """

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        base = y + m.noise(t, y, w.dW)
        if terms:
            base = base + m.milstein(t, y, w.dW, h) * 0.5
        if theta < 1.0:
            base = base + m.f(t, y) * (h * (1.0 - theta))
        return solve(m, t + h, base, h * theta, y)

    return step


class _Driven:
    """Drift and noise of one step as the single field f h + Σ g_c w_c, with its derivatives."""

    def __init__(self, m: Any, h: Any, w: Vector) -> None:
        self.m, self.h, self.w, self.dimension = m, h, w, m.dimension
        states, channels = m.model.states, m.model.channels
        slopes = {(states.index(s), states.index(x), channels.index(c)): differentiate(g, x)
                  for (s, c), g in m.model.noise.items() for x in states}  # fmt: skip
        self.slopes = {key: slope for key, slope in slopes.items() if not is_zero(slope)}

    @property
    def is_affine(self) -> bool:
        return self.m.is_affine and not free_symbols(*self.slopes.values()) & set(self.m.model.states)

    def f(self, t: Any, y: Vector) -> Vector:
        return self.m.f(t, y) * self.h + self.m.noise(t, y, self.w)

    def jacobian(self, t: Any, y: Vector) -> list[list[Any]]:
        total = [[multiply(v, self.h) for v in row] for row in self.m.jacobian(t, y)]
        for (i, j, c), value in zip(self.slopes, self.m.values(list(self.slopes.values()), t, y), strict=True):
            total[i][j] = add(total[i][j], multiply(value, self.w[c]))
        return total


def implicit_midpoint(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """X' = X + f(X̄) h + g(X̄)∘ΔW at the middle X̄ = ½(X + X'): it keeps every quadratic invariant.

    Milstein, Repin & Tretyakov 2002, doi:10.1137/S0036142901395588: ΔW is cut at A √h, A = √(4 |ln h|), and
    here at least 5, without which the equation would have no solution now and then; E|ΔW − cut|² is of order h³.
    """
    cut = np.sqrt(np.abs(np.log(h)) * 4.0)
    limit = np.where(cut > 5.0, cut, 5.0) * w.root
    dW = Vector(np.where(v > limit, limit, np.where(v < -limit, -limit, v)) for v in w.dW)
    return solve(_Driven(m, h, dW), t + h * 0.5, y, 0.5, y) * 2.0 - y


# γ(2 − γ) = ½; the noise of the stages, of mean 1 and mean square 3/2 under the weights 1 − γ and γ
_GAMMA = 1.0 - math.sqrt(0.5)
_B0 = (1.0 - math.sqrt(0.5 * _GAMMA / (1.0 - _GAMMA)), 1.0 + math.sqrt(0.5 * (1.0 - _GAMMA) / _GAMMA))


def sdirk_sra(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """An L-stable SRA method: Rößler's conditions for additive noise solved on Alexander's SDIRK of order 2.

    H₁ = X + γ h f(t + γh, H₁) + b₁ g(t) I₍₁₀₎/h
    H₂ = X + (1 − γ) h f(t + γh, H₁) + γ h f(t + h, H₂) + b₂ g(t) I₍₁₀₎/h
    X' = X + (1 − γ) h f(t + γh, H₁) + γ h f(t + h, H₂) + g(t + h) ΔW + (g(t) − g(t + h)) I₍₁₀₎/h

    Alexander 1977, doi:10.1137/0714068, theorem 5; Rößler 2010, theorem 6.1: Σα = 1, α·c = ½, α·b = 1, α·b² = 3/2. Of
    the two solutions for b the one that damps stiff noise more.
    """
    average = (w.dW + w.dZ * (1.0 / math.sqrt(3.0))) * 0.5
    now, gamma = m.noise(t, y, average), h * _GAMMA
    base = y + now * _B0[0]
    first = solve(m, t + gamma, base, gamma, y)
    # the slopes from the stages' own equations: f itself would magnify what Newton left by the stiffness
    drifted = y + (first - base) * ((1.0 - _GAMMA) / _GAMMA)
    base = drifted + now * _B0[1]
    second = solve(m, t + h, base, gamma, first)
    moved = now - m.noise(t + h, y, average) if m.noise_moves else Vector([ZERO] * len(y))
    return drifted + (second - base) + m.noise(t + h, y, w.dW) + moved


def few_states(model: Any) -> None:
    """Raises ValueError for more states than an unrolled elimination serves."""
    if len(model.states) > LARGEST:
        raise ValueError(
            f"implicit methods solve for at most {LARGEST} states, this model has {len(model.states)}; use skrock10, "
            "which is explicit and stable for stiff drifts"
        )


@lru_cache
def theta(number: str) -> Method:
    """The θ-method of one's choice, "theta(0.7)"; ValueError for θ outside [0, 1].

    >>> theta("0.5").order
    2.0
    """
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"theta(θ) takes θ from 0 (explicit) to 1 (implicit), as in theta(0.7); got {number!r}")
    order = 2.0 if value == 0.5 else 1.0
    return Method(f"theta({number})", theta_euler(value), "sde", "Kloeden & Platen 1992, eq. 12.2.6", NOISE_TYPES,
                  "ito", order, 0.5, 1.0, "stiff drifts if θ ≥ ½, at most 8 states", few_states)  # fmt: skip


_COMMUTING = ("none", "additive", "scalar", "diagonal", "commutative")
METHODS = (
    Method("implicit_euler", theta_euler(1.0), "sde", "Kloeden & Platen 1992, eq. 12.2.2", NOISE_TYPES, "ito",
           1.0, 0.5, 1.0, "stiff drifts, at most 8 states; strong order 1 for additive noise", few_states),
    Method("trapezoidal", theta_euler(0.5), "sde", "Kloeden & Platen 1992, eq. 12.2.6, α = ½", NOISE_TYPES, "ito",
           2.0, 0.5, 1.0, "stiff drifts, at most 8 states; exact stationary variance of a linear drift; theta(0.7) is "
           "between it and implicit_euler", few_states),
    Method("implicit_milstein", theta_euler(1.0, True), "sde", "Kloeden & Platen 1992, eq. 12.2.16", _COMMUTING,
           "ito", 1.0, 1.0, 1.0, "stiff drifts, at most 8 states", few_states),
    Method("implicit_midpoint", implicit_midpoint, "sde",
           "Milstein, Repin & Tretyakov 2002, doi:10.1137/S0036142901395588", NOISE_TYPES, "stratonovich",
           2.0, 1.0, 1.0,
           "keeps quadratic invariants, as energy; at most 8 states; strong order ½ for noise that does not commute",
           few_states),
    Method("sdirk_sra", sdirk_sra, "sde", "Alexander 1977, doi:10.1137/0714068, with Rößler 2010, theorem 6.1",
           ("none", "additive"), "ito", 2.0, 1.5, 2.0, "stiff drifts, at most 8 states; L-stable", few_states),
)  # fmt: skip
FAMILIES = {"theta": theta}
