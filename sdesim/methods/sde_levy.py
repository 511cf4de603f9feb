"""Strong order 1 for noise that does not commute: the Lévy areas are simulated along with the increments.

The area of processes c and k over a step, A_ck = ½ ∫ (W_c dW_k − W_k dW_c), has the Fourier series (Kloeden, Platen &
Wright 1992) with standard normals X, Y, and w = ΔW/√h,

    A_ck = h/2π Σ_r 1/r [X_cr (Y_kr − √2 w_k) − X_kr (Y_cr − √2 w_c)] .

After n terms the rest in X alone is normal and drawn exactly; what is left of X Y is replaced by a normal G_ck of the
same variance (Mrongowius & Rößler 2022, doi:10.1080/07362994.2021.1922291):

    … + h/2π √ψ √2 (μ_k w_c − μ_c w_k) + h/2π √(2ψ) G_ck ,   ψ = Σ_{r>n} 1/r² .

The error of an area, in the best coupling, is at most √m h/(√12 π n): strong order 1 asks for h^{3/2}, so n grows as
h^{−1/2} (theirs, corollary 4.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import ZERO, Vector

LARGEST = 100
"""Terms of the series: each is two normals for every process and step."""


def terms_for(model: Any, h: float) -> int:
    """How many terms of the series strong order 1 asks for with steps of h; ValueError for more than `LARGEST`.

    >>> import sdesim as sim
    >>> terms_for(sim.SDE({"x": 0, "y": 0}, {"x": {"a": 1}, "y": {"b": "x"}}), 1e-4)
    13
    """
    n = max(1, math.ceil(math.sqrt(len(model.channels) / h / 12.0) / math.pi))
    if n > LARGEST:
        raise ValueError(
            f"steps of {h:g} would take {n} terms for each Lévy area, and at most {LARGEST} are drawn; "
            "measure the time in smaller units, take larger steps, or use dri1 for weak order 2"
        )
    return n


def levy_areas(w: Any, h: Any, n: int) -> dict[tuple[int, int], Any]:
    """A_ck for c < k by n terms of the series and the two remainders."""
    m = len(w.dW)
    pairs = [(c, k) for c in range(m) for k in range(c + 1, m)]
    if not pairs:
        return {}
    sets = -(-len(pairs) // m)
    psi = math.pi**2 / 6.0 - sum(1.0 / r**2 for r in range(1, n + 1))
    unit = w.dW * (math.sqrt(2.0) / w.root)
    gauss = [z for s in range(1, sets + 1) for z in w.normals(s)]
    mu = w.normals(sets + 1)
    series = [(w.normals(sets + 2 * r), w.normals(sets + 2 * r + 1), 1.0 / r) for r in range(1, n + 1)]
    areas = {}
    for (c, k), G in zip(pairs, gauss, strict=False):
        total = (mu[k] * unit[c] - mu[c] * unit[k]) * math.sqrt(psi) + G * math.sqrt(2.0 * psi)
        for X, Y, weight in series:
            total = total + (X[c] * (Y[k] - unit[k]) - X[k] * (Y[c] - unit[c])) * weight
        areas[c, k] = total * (h * (0.5 / math.pi))
    return areas


def iterated(w: Any, h: Any, n: int, calculus: str = "ito") -> Callable[[int, int], Any]:
    """(c, k) ↦ the iterated integral ½(ΔW_c ΔW_k − δ_ck h) + A_ck of Itô, or without h that of Stratonovich."""
    W, areas = w.dW, levy_areas(w, h, n)

    def integral(c: int, k: int) -> Any:
        if c == k:
            return (W[c] * W[c] - h if calculus == "ito" else W[c] * W[c]) * 0.5
        return W[c] * W[k] * 0.5 + areas[c, k] if c < k else W[c] * W[k] * 0.5 - areas[k, c]

    return integral


def milstein_levy(n: int) -> Callable[..., Vector]:
    """X + f h + g ΔW + Σ_{c,k} L^c g_k I_(c,k) (Kloeden & Platen 1992, eq. 10.3.3), n terms of the series of A."""

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        return y + m.f(t, y) * h + m.noise(t, y, w.dW) + m.milstein_general(t, y, iterated(w, h, n))

    return step


def roessler(n: int, calculus: str) -> Callable[..., Vector]:
    """SRI2 (Itô) and SRS2 (Stratonovich), which share a tableau (Rößler 2010, §6.2), with n terms of the series of A.

    H±_k = X + h f ± Σ_l g_l I_(l,k)/√h, all at t + h,
    X' = X + ½h (f + f(X + h f)) + Σ_k [g_k ΔW_k + ½√h (g_k(H+_k) − g_k(H−_k))]
    """

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        integral, later = iterated(w, h, n, calculus), t + h
        f, g = m.f(t, y), m.g(t, y)
        moved = y + f * h
        total = y + (f + m.f(later, moved)) * (h * 0.5) + m.dot(g, w.dW)
        felt = [m.felt(c) for c in range(len(w.dW))]
        for k in range(len(w.dW)):
            own = {i for entries in felt for i, c in entries if c == k}
            if not own:
                continue
            shift = m.dot(g, [integral(c, k) if any(j == k for _, j in felt[c]) else ZERO for c in range(len(w.dW))])
            above, below = (m.g(later, moved + shift / size) for size in (w.root, -w.root))
            for i in sorted(own):
                total[i] = total[i] + (above[i, k] - below[i, k]) * (w.root * 0.5)
        return total

    return step


_ROESSLER = "Rößler 2010, doi:10.1137/09076636X, §6.2; areas: Mrongowius & Rößler 2022"
_DETAILS = "strong order 1 (in the best coupling) for noise that does not commute; more normals as the step shrinks"
METHODS = (
    Method("milstein_levy", milstein_levy(1), "sde", "Mrongowius & Rößler 2022, doi:10.1080/07362994.2021.1922291",
           NOISE_TYPES, "ito", 1.0, 1.0, 1.0, _DETAILS,
           refined=lambda model, h: milstein_levy(terms_for(model, h))),
    Method("sri2", roessler(1, "ito"), "sde", _ROESSLER, NOISE_TYPES, "ito", 2.0, 1.0, 1.0,
           f"{_DETAILS}; without derivatives",
           refined=lambda model, h: roessler(terms_for(model, h), "ito")),
    Method("srs2", roessler(1, "stratonovich"), "sde", _ROESSLER, NOISE_TYPES, "stratonovich", 2.0, 1.0, 1.0,
           f"{_DETAILS}; without derivatives",
           refined=lambda model, h: roessler(terms_for(model, h), "stratonovich")),
)  # fmt: skip
