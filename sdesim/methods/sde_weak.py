"""Methods of weak order 2: expectations of smooth functions with error O(h²), for any noise.

What matters is the law alone, so the iterated integrals are replaced by variables with the right moments. With Ĩ_k
independent signs ±√h (Rößler 2009, doi:10.1137/060673308, eq. 3.4),

    Î_(k,l) = ½(ΔW_k ΔW_l − √h Ĩ_k) for k < l,   ½(ΔW_k ΔW_l + √h Ĩ_l) for l < k,   ½(ΔW_k² − h) for k = l.

The increments themselves stay normal, which have those moments too: a path is then one of Brownian motion at every
step, and save times between steps have their law. A noise that does not feel another costs no mixed terms.

The `discrete` variants take increments of two or three values, bounded for any path (Kloeden & Platen 1992, eqs. 14.1.8
and 14.2.9), as functions of the same normals. Such a walk has no bridge: its law holds on the grid of steps alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdesim.methods.bound import Wiener
from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.sde import euler_maruyama
from sdesim.methods.vector import Vector


def iterated(w: Any, h: Any, k: int, l: int) -> Any:
    """Î_(k,l)."""
    W = w.dW
    if k == l:
        return (W[k] * W[k] - h) * 0.5
    sign = w.signs[k] if k < l else w.signs[l]
    return (W[k] * W[l] - sign * h) * 0.5 if k < l else (W[k] * W[l] + sign * h) * 0.5


def _along(m: Any, y: Vector, g: Any, c: int, size: Any) -> Vector:
    return y + m.column(g, c) * size


def platen(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Platen's explicit scheme (Kloeden & Platen 1992, eq. 15.1.3); coefficients that change in time are taken along.

    Υ = X + f h + Σ g ΔW,  R±_c = X + f h ± √h g_c,  U±_c = X ± √h g_c
    X' = X + ½(f + f(Υ)) h + ¼ Σ_c [(g_c(R+_c) + g_c(R−_c) + 2 g_c) ΔW_c + (g_c(R+_c) − g_c(R−_c)) (ΔW_c² − h)/√h]
           + ¼ Σ_{k≠c} [(g_k(U+_c) + g_k(U−_c) − 2 g_k) ΔW_k + (g_k(U+_c) − g_k(U−_c)) 2 Î_(k,c)/√h]
    """
    f, g, root = m.f(t, y), m.g(t, y), w.root
    drifted = y + f * h
    total = y + (f + m.f(t + h, drifted + m.dot(g, w.dW))) * (h * 0.5)
    for c in range(len(w.dW)):
        up, down = (m.g(t + h, _along(m, drifted, g, c, s)) for s in (root, -root))
        mixed = [(i, k) for i, k in m.felt(c) if k != c]
        above, below = (m.g(t, _along(m, y, g, c, s)) if mixed else {} for s in (root, -root))
        square = (w.dW[c] * w.dW[c] - h) / root
        for i, k in g:
            if k == c:
                plus, minus = up[i, c], down[i, c]
                total[i] = total[i] + ((plus + minus + g[i, c] * 2.0) * w.dW[c] + (plus - minus) * square) * 0.25
            elif (i, k) in mixed:
                plus, minus = above[i, k], below[i, k]
                area = iterated(w, h, k, c) * 2.0 / root
                total[i] = total[i] + ((plus + minus - g[i, k] * 2.0) * w.dW[k] + (plus - minus) * area) * 0.25
    return total


# DRI1, third-order without noise (Debrabant & Rößler 2009, table 2): the nodes of H, H^(k) and Ĥ^(k) and their weights
_A0 = (1 / 2, (-1.0, 2.0))
_B0 = ((6 - math.sqrt(6)) / 10, (3 + 2 * math.sqrt(6)) / 5)
_A1 = 342 / 491
_B1 = 3 * math.sqrt(38 / 491)
_B2 = (214 / 513 * math.sqrt(1105 / 991), 491 / 513 * math.sqrt(221 / 4955))
_BETA1 = (193 / 684, 491 / 1368)
_BETA2 = math.sqrt(491 / 38) / 6
_BETA3 = (-4955 / 7072, 4955 / 14144)
_BETA4 = math.sqrt(4955 / 221) / 8


def _third_order_drift(m: Any, t: Any, y: Vector, h: Any, f1: Vector, driven: Vector) -> Vector:
    """h(f(H₁) + 4 f(H₂) + f(H₃))/6 with H_i = X + h Σ A⁰_ij f(H_j) + B⁰_i Σ_k g_k ΔW_k."""
    f2 = m.f(t + h * 0.5, y + f1 * (h * _A0[0]) + driven * _B0[0])
    f3 = m.f(t + h, y + (f2 * _A0[1][1] + f1 * _A0[1][0]) * h + driven * _B0[1])
    return (f1 + f2 * 4.0 + f3) * (h * (1 / 6))


def dri1(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """DRI1 (Debrabant & Rößler 2009, doi:10.1016/j.apnum.2008.03.012, eq. 2.1 with table 2).

    H_i = X + h Σ A⁰_ij f(H_j) + B⁰_i Σ_k g_k ΔW_k,   H±_k = X + A¹ h f ± B¹ √h g_k,
    Ĥ±_k = X ∓ √h (b₁ g_k + b₂ g_k(H+_k) + b₂ g_k(H−_k)),
    X' = X + h(f(H₁) + 4 f(H₂) + f(H₃))/6 + Σ_k [β¹ g_k … ΔW_k + β² (g_k(H+_k) − g_k(H−_k)) Î_(k,k)/√h]
           + Σ_{k≠l} [β³ g_k(Ĥ±_l) ΔW_k ∓ β⁴ g_k(Ĥ±_l) Î_(k,l)/√h].
    """
    root, W = w.root, w.dW
    f1, g1 = m.f(t, y), m.g(t, y)
    driven = m.dot(g1, W)
    total = y + _third_order_drift(m, t, y, h, f1, driven)
    moved, later = y + f1 * (h * _A1), t + h * _A1
    for c in range(len(W)):
        up, down = (m.g(later, _along(m, moved, g1, c, root * s)) for s in (_B1, -_B1))
        mixed = [(i, k) for i, k in m.felt(c) if k != c]
        shift = (m.column(g1, c) * _B2[0] + (m.column(up, c) + m.column(down, c)) * _B2[1]) * root
        below, above = (m.g(t, y + s) if mixed else {} for s in (-shift, shift))
        square = iterated(w, h, c, c) * _BETA2 / root
        for i, k in g1:
            if k == c:
                both = (up[i, c] + down[i, c]) * _BETA1[1] + g1[i, c] * _BETA1[0]
                total[i] = total[i] + both * W[c] + (up[i, c] - down[i, c]) * square
            elif (i, k) in mixed:
                both = (below[i, k] + above[i, k]) * _BETA3[1] + g1[i, k] * _BETA3[0]
                area = iterated(w, h, k, c) * _BETA4 / root
                total[i] = total[i] + both * W[k] + (above[i, k] - below[i, k]) * area
    return total


def w2ito1(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """W2Ito1 (Tang & Xiao 2017, doi:10.1007/s10543-016-0618-9): two signs serve all processes, ξ = ±√h and η = ±1.

    H_i of the drift and its weights as in DRI1; at t + h/4, with X₁ = X + h f/4,
    H±_k = X₁ ± ½ξ g_k, and H+_k also + Σ_{l≠k} ½(1 ∓ η) ΔW_l g_l, − for k < l and + for k > l;
    X' = X + h(f(H₁) + 4 f(H₂) + f(H₃))/6
           + Σ_k [(g_k(H+_k) + g_k(H−_k) − g_k) ΔW_k + (g_k − g_k(H−_k)) (ΔW_k²/ξ − ξ)].
    """
    W = w.dW
    f1, g1 = m.f(t, y), m.g(t, y)
    total = y + _third_order_drift(m, t, y, h, f1, m.dot(g1, W))
    moved, later = y + f1 * (h * 0.25), t + h * 0.25
    heard: dict[int, list[int]] = {}
    for c in range(len(W)):
        for _, k in m.felt(c):
            heard.setdefault(k, []).append(c)
    for k in range(len(W)):
        if k not in heard:  # no state that g_k depends on is moved by noise: only the time is
            change = m.g(later, moved)
            for i, c in g1:
                if c == k:
                    total[i] = total[i] + (change[i, k] * 2.0 - g1[i, k]) * W[k]
            continue
        xi = w.signs[0] * w.root
        up, down = (_along(m, moved, g1, k, xi * s) for s in (0.5, -0.5))
        for c in sorted({*heard[k]} - {k}):
            up = up + m.column(g1, c) * (W[c] * (1.0 - w.signs[1] if k < c else 1.0 + w.signs[1]) * 0.5)
        above, below = m.g(later, up), m.g(later, down)
        square = W[k] * W[k] / xi - xi
        for i, c in g1:
            if c == k:
                plain = above[i, k] + below[i, k] - g1[i, k]
                total[i] = total[i] + plain * W[k] + (g1[i, k] - below[i, k]) * square
    return total


@dataclass(frozen=True)
class DiagonalWeakTableau:
    """Coefficients of a method of Tocino & Vigo-Aguiar: time of f, its weights, and those of ΔW and ΔW³/h in it."""

    mu0: float
    alpha: tuple[float, float]
    nu: tuple[float, float]


def tocino(tableau: DiagonalWeakTableau) -> Callable[..., Vector]:
    """Two evaluations of the drift and three of the noise (Tocino & Vigo-Aguiar 2002, doi:10.1137/S1064827501387814).

    K = f(t + μ₀h, X + μ₀ h f + g (ν₁ ΔW + ν₂ ΔW³/h)),   g± = g(t + h, X + h f ± √h g)
    X' = X + h(α₁ f + α₂ K) + ¼(g+ + g− + 2g) ΔW + ¼(g+ − g−)(ΔW² − h)/√h
    """

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        (a1, a2), (n1, n2), W, reach = tableau.alpha, tableau.nu, w.dW, h * tableau.mu0
        f, g = m.f(t, y), m.g(t, y)
        inner = W * n1 + W * W * W * n2 / h if n2 else W * n1
        K = m.f(t + reach, y + f * reach + m.dot(g, inner))
        drift = f * a1 + K * a2 if a1 else K * a2
        side, ahead, later = m.dot(g, Vector([w.root] * len(W))), y + f * h, t + h
        up, down = m.g(later, ahead + side), m.g(later, ahead - side)
        total, square = y + drift * h, (W * W - h) / w.root
        for i, c in g:
            both, gap = up[i, c] + down[i, c] + g[i, c] * 2.0, up[i, c] - down[i, c]
            total[i] = total[i] + (both * W[c] + gap * square[c]) * 0.25
        return total

    return step


SIEA = DiagonalWeakTableau(1.0, (0.5, 0.5), (1.0, 0.0))
SMEA = DiagonalWeakTableau(0.5, (0.0, 1.0), ((2.0 - math.sqrt(6.0)) / 4.0, math.sqrt(6.0) / 12.0))


def of_values(points: int, dW: Vector, root: Any) -> Vector:
    """Increments of 2 values, ±√h, or 3, ±√3h with probability 1/6 each and 0, from normal ones.

    Their moments are those of ΔW up to order 3 and 5.
    """
    if points == 2:
        return Vector(np.where(value < 0.0, -root, root) for value in dW)
    limit, size = root * _SIXTH, root * math.sqrt(3.0)
    return Vector(np.where(value > limit, size, np.where(value < -limit, -size, 0.0)) for value in dW)


_SIXTH = 0.9674215661017011  # −Φ⁻¹(1/6)


def discrete(points: int, step: Callable[..., Vector]) -> Callable[..., Vector]:
    """The step with increments of so many values."""

    def rounded(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        return step(m, t, y, h, Wiener(of_values(points, w.dW, w.root), w.root, w.draw))

    return rounded


_DIAGONAL = ("none", "additive", "scalar", "diagonal")
_HALF = "strong order ½ for noise that does not commute"
_KP = "Kloeden & Platen 1992"
_DRI1 = "Debrabant & Rößler 2009, doi:10.1016/j.apnum.2008.03.012"
_TANG = "Tang & Xiao 2017, doi:10.1007/s10543-016-0618-9"
_TOCINO = "Tocino & Vigo-Aguiar 2002, doi:10.1137/S1064827501387814"
_BOUNDED = "increments bounded, of three values; saves on the grid of steps"
METHODS = (
    Method("platen", platen, "sde", f"{_KP}, eq. 15.1.3", NOISE_TYPES, "ito", 2.0, 1.0, 2.0,
           f"{_HALF}; two evaluations of the drift"),
    Method("dri1", dri1, "sde", _DRI1, NOISE_TYPES, "ito", 3.0, 1.0, 2.0, f"{_HALF}; order 3 without noise"),
    Method("w2ito1", w2ito1, "sde", _TANG, NOISE_TYPES, "ito", 3.0, 1.0, 2.0,
           f"{_HALF}; two evaluations of each noise, order 3 without noise"),
    Method("siea", tocino(SIEA), "sde", _TOCINO, _DIAGONAL, "ito", 2.0, 1.0, 2.0, "improved Euler for the drift"),
    Method("smea", tocino(SMEA), "sde", _TOCINO, _DIAGONAL, "ito", 2.0, 1.0, 2.0, "modified Euler for the drift"),
    Method("weak_euler", discrete(2, euler_maruyama), "sde", f"{_KP}, eq. 14.1.7", NOISE_TYPES, "ito", 1.0, None, 1.0,
           "increments ±√h; saves on the grid of steps", points=2),
    Method("platen_discrete", discrete(3, platen), "sde", f"{_KP}, eq. 15.1.3", NOISE_TYPES, "ito", 2.0, None, 2.0,
           _BOUNDED, points=3),
    Method("dri1_discrete", discrete(3, dri1), "sde", _DRI1, NOISE_TYPES, "ito", 3.0, None, 2.0, _BOUNDED, points=3),
    Method("w2ito1_discrete", discrete(3, w2ito1), "sde", _TANG, NOISE_TYPES, "ito", 3.0, None, 2.0, _BOUNDED,
           points=3),
)  # fmt: skip
