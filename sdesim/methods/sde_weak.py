"""Methods of weak order 2: expectations of smooth functions with error O(h²), for any noise.

What matters is the law alone, so the iterated integrals are replaced by variables with the right moments. With Ĩ_k
independent signs ±√h (Rößler 2009, doi:10.1137/060673308, eq. 3.4),

    Î_(k,l) = ½(ΔW_k ΔW_l − √h Ĩ_k) for k < l,   ½(ΔW_k ΔW_l + √h Ĩ_l) for l < k,   ½(ΔW_k² − h) for k = l.

The increments themselves stay normal, which have those moments too: a path is then one of Brownian motion at every
step, and save times between steps have their law. A noise that does not feel another costs no mixed terms.
"""

from __future__ import annotations

import math
from typing import Any

from sdesim.methods.method import NOISE_TYPES, Method
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
    f2 = m.f(t + h * 0.5, y + f1 * (h * _A0[0]) + driven * _B0[0])
    f3 = m.f(t + h, y + (f2 * _A0[1][1] + f1 * _A0[1][0]) * h + driven * _B0[1])
    total = y + (f1 + f2 * 4.0 + f3) * (h * (1 / 6))
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


METHODS = (
    Method("platen", platen, "sde", "Kloeden & Platen 1992, eq. 15.1.3", NOISE_TYPES, "ito", 2.0, 1.0, 2.0,
           "strong order ½ for noise that does not commute; two evaluations of the drift"),
    Method("dri1", dri1, "sde", "Debrabant & Rößler 2009, doi:10.1016/j.apnum.2008.03.012", NOISE_TYPES, "ito",
           3.0, 1.0, 2.0, "strong order ½ for noise that does not commute; order 3 without noise"),
)  # fmt: skip
