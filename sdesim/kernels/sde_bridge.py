"""The Brownian bridge to a save time between two steps, written once for NumPy, LLVM and CUDA.

In units of the step (θ its fraction, W in √h), θ₀ the previous save in the same step, L = 1 − θ₀, τ = (θ − θ₀)/L. Given
W at both ends,

    W(θ) = W(θ₀) + r (W(1) − W(θ₀)) + q ζ,   r = τ,   q² = L τ(1 − τ).

Methods of order 1½ also know the integral J(θ) = ∫₀^θ W, J(1) = ½(W(1) + Z/√3) with Z the auxiliary normal. The pair
(W, J) is a Gaussian Markov process, so given both ends, with U = W(1) − W(θ₀) and V = J(1) − J(θ₀) − L W(θ₀),

    W(θ) = W(θ₀) + τU + 6τ(1−τ)(V/L − U/2) + √L b ζ₁
    J(θ) = J(θ₀) + Lτ W(θ₀) + L [τ²U/2 + τ²(3 − 2τ)(V/L − U/2)] + L^{3/2} (c₁ ζ₁ + c₂ ζ₂)

    b² = τ(1−τ)(1 − 3τ(1−τ)),   c₁ b = ½ τ²(1−τ)²(1 − 2τ),   c₁² + c₂² = ⅓ τ³(1−τ)³

(bridge, parabola and arch: Foster, Lyons & Oberhauser 2020, doi:10.1137/19M1260980, §2). The partial step of length θh
sees the normals z' = W(θ)/√θ and Z' = √3 (2 J(θ)/θ^{3/2} − z').
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sdesim.arithmetic import Machine

COLUMNS = 16
"""Numbers in a row of weights: r, q, 1/√θ, θh, √(θh), the save's ordinal within its step, and ten for the pair."""


def weights(theta: float, previous: float, h: float, ordinal: int) -> list[float]:
    """The row of weights for a save at θ = `theta` after one at θ₀ = `previous` in the same step of h.

    >>> weights(0.25, 0.0, 1.0, 0)[:6]
    [0.25, 0.4330127018922193, 2.0, 0.25, 0.5, 0]
    """
    L = 1.0 - previous
    x = (theta - previous) / L
    y = max(x * (1.0 - x), 1e-300)  # two saves may be one to round-off
    q = math.sqrt(L * y)
    b = math.sqrt(y * (1.0 - 3.0 * y))
    s = 3.0 * x * x - 2.0 * x**3
    pair = [
        x - 3.0 * y, 6.0 * y / L, math.sqrt(L) * b, L, theta - previous, L * (x * x - s) / 2.0, s,
        L**1.5 * y * y * (1.0 - 2.0 * x) / (2.0 * b), L**1.5 * y * y / (math.sqrt(12.0) * b), 2.0 / theta**1.5,
    ]  # fmt: skip
    return [x, q, 1.0 / math.sqrt(theta), theta * h, math.sqrt(theta * h), ordinal, *pair]


def single(w: Sequence[Any], z: Any, W0: Any, zeta: Any) -> tuple[Any, Any]:
    """(W(θ), z') from the step's normal, W(θ₀) and a fresh normal."""
    W = (W0 + w[0] * (z - W0)) + w[1] * zeta
    return W, W * w[2]


def joint(
    m: Machine, w: Sequence[Any], z: Any, a: Any, W0: Any, J0: Any, zeta: tuple[Any, Any]
) -> tuple[Any, Any, Any, Any]:
    """(W(θ), J(θ), z', Z') from the step's normal and auxiliary normal, W and J at θ₀, and two fresh normals."""
    a1, a2, b, L, ahead, a3, a4, c1, c2, inverse = w[6:COLUMNS]
    root = m.number(math.sqrt(3.0))
    U = z - W0
    V = (m.number(0.5) * (z + a / root) - J0) - L * W0
    W = W0 + ((a1 * U + a2 * V) + b * zeta[0])
    J = (J0 + ahead * W0) + ((a3 * U + a4 * V) + (c1 * zeta[0] + c2 * zeta[1]))
    partial = W * w[2]
    return W, J, partial, (J * inverse - partial) * root
