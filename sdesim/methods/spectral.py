"""Exponential methods for fields in modal space, each the lines of its paper.

A method is a pure function (m, t, u, h, w) → the modes after a step h. `u` is a `Vector` of states; `m.linear` holds
their eigenvalues λ, `m.nonlinear(t, u)` the modes of N, `m.source` those of a source that does not change, `m.root`
the noise amplitudes q, `m.doubled(z)` z + z̄, and `w` the modes ξ̂ of independent standard normals in the cells. With
z = λh,

    φ₀ = eᶻ,   φ₁ = (eᶻ − 1)/z,   φ₂ = (φ₁ − 1)/z,   φ₃ = (φ₂ − ½)/z,   …

A mode driven by additive noise is an Ornstein–Uhlenbeck process: after h its variance has grown by
q² ∫₀ʰ |e^{λs}|² ds = q² h φ₁(z + z̄), which the methods below draw exactly. (A turning mode stays isotropic.)
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import factorial
from typing import Any

from sdesim.methods.method import Method


def exact(m: Any, t: Any, u: Any, h: Any, w: Any) -> Any:
    """Variation of constants, exact for any h: û ← eᶻ û + h φ₁(z) ŝ + q √(h φ₁(z + z̄)) ξ̂."""
    z = m.linear * h
    return m.exp(z) * u + m.phi(1, z) * h * m.source + w * (m.root * m.sqrt(m.phi(1, m.doubled(z)) * h))


def exponential_euler(m: Any, t: Any, u: Any, h: Any, w: Any) -> Any:
    """Accelerated exponential Euler (Jentzen & Kloeden 2009, eq. 5): N is held over the step, the rest is exact."""
    z = m.linear * h
    return m.exp(z) * u + m.phi(1, z) * h * m.nonlinear(t, u) + w * (m.root * m.sqrt(m.phi(1, m.doubled(z)) * h))


def etdrk4(m: Any, t: Any, u: Any, h: Any, w: Any) -> Any:
    """Fourth-order exponential Runge–Kutta (Cox & Matthews 2002, eqs. 26–29), its weights by φ functions.

    The quotients that Cox and Matthews found to cancel (Kassam & Trefethen 2005) are summed as series near z = 0.
    """
    z = m.linear * h
    E, E2 = m.exp(z), m.exp(z * 0.5)
    Q = m.phi(1, z * 0.5) * (0.5 * h)
    phi1, phi2, phi3 = m.phi(1, z), m.phi(2, z), m.phi(3, z)
    f1 = (phi1 - phi2 * 3.0 + phi3 * 4.0) * h
    f2 = (phi2 * 2.0 - phi3 * 4.0) * h
    f3 = (phi3 * 4.0 - phi2) * h

    Nu = m.nonlinear(t, u)
    a = E2 * u + Q * Nu
    Na = m.nonlinear(t + 0.5 * h, a)
    b = E2 * u + Q * Na
    Nb = m.nonlinear(t + 0.5 * h, b)
    c = E2 * a + Q * (Nb * 2.0 - Nu)
    Nc = m.nonlinear(t + h, c)
    return E * u + f1 * Nu + f2 * (Na + Nb) + f3 * Nc


def etdrk2(m: Any, t: Any, u: Any, h: Any, w: Any) -> Any:
    """Second-order exponential Runge–Kutta (Cox & Matthews 2002, eqs. 20–22)."""
    z = m.linear * h
    Nu = m.nonlinear(t, u)
    a = m.exp(z) * u + m.phi(1, z) * h * Nu
    return a + m.phi(2, z) * h * (m.nonlinear(t + h, a) - Nu)


def exponential_adams(steps: int) -> Callable[..., Any]:
    """The explicit exponential Adams method of so many steps (Hochbruck & Ostermann 2010, § 2.5): one N a step.

    N is replaced by the polynomial through its last values: û ← eᶻ û + h Σₖ γₖ(z) ∇ᵏN, with γₖ(z) = (−1)ᵏ ∫₀¹
    e^{(1−θ)z} C(−θ, k) dθ. Written by the values themselves, with ∫₀¹ e^{(1−θ)z} θʲ/j! dθ = φⱼ₊₁(z).
    """

    def step(m: Any, t: Any, u: Any, h: Any, w: Any) -> Any:
        z = m.linear * h
        N = [m.nonlinear(t, u), *(m.past(j) for j in range(1, steps))]
        phi = [m.phi(j, z) for j in range(1, steps + 1)]
        end = m.exp(z) * u
        for values, row in zip(N, _adams(steps), strict=True):
            weight = phi[0] * row[0]
            for f, c in zip(phi[1:], row[1:], strict=True):
                weight = weight + f * c
            end = end + weight * h * values
        return end

    return step


def _adams(steps: int) -> list[list[float]]:
    """j! times the coefficient of θʲ of the Lagrange polynomials of the nodes 0, −1, …, 1 − steps.

    >>> _adams(2)
    [[1.0, 1.0], [0.0, -1.0]]
    """
    rows = []
    for node in range(steps):
        polynomial = [Fraction(1)]
        for other in (k for k in range(steps) if k != node):
            shifted = [Fraction(0), *polynomial]
            polynomial = [(a + other * b) / (other - node) for a, b in zip(shifted, [*polynomial, Fraction(0)])]
        rows.append([float(c * factorial(j)) for j, c in enumerate(polynomial)])
    return rows


METHODS = (
    Method("exact", exact, "spectral", "variation of constants; φ functions as in Hochbruck & Ostermann 2010, "
           "doi:10.1017/S0962492910000048", noise=("none", "additive"), calculus="ito",
           details="exact for constant coefficients (velocity along periodic axes, a sphere's rotation), a source and "
           "a reaction linear in its own state, at any step; exact in law for additive noise"),
    Method("exact_fv", exact, "spectral", "as exact, with the finite-volume eigenvalues (4/Δ²) sin²(kΔ/2)",
           noise=("none", "additive"), calculus="ito",
           details="exact in time for the finite-volume scheme on its grid"),
    Method("etdrk4", etdrk4, "spectral", "Cox & Matthews 2002, doi:10.1006/jcph.2002.6995; Kassam & Trefethen 2005, "
           "doi:10.1137/S1064827502410633", order=4.0),
    Method("etdrk2", etdrk2, "spectral", "Cox & Matthews 2002, doi:10.1006/jcph.2002.6995", order=2.0),
    *(Method(f"etdab{n}", exponential_adams(n), "spectral", "Nørsett 1969, Lecture Notes in Mathematics 109, 214; "
             "Hochbruck & Ostermann 2010, § 2.5, doi:10.1017/S0962492910000048", order=float(n), past=n - 1,
             start=etdrk4, reach=reach, details="one evaluation of what is nonlinear in a step, a quarter of etdrk4's "
             "work, for solutions that are smooth in time; after a change of step it starts anew by etdrk4")
      for n, reach in ((4, 0.15), (5, 0.08))),  # of stability, by N alone: 0.30 and 0.16 on the negative axis
    Method("exponential_euler", exponential_euler, "spectral", "Jentzen & Kloeden 2009, doi:10.1098/rspa.2008.0325",
           noise=("none", "additive"), calculus="ito", order=1.0, strong=1.0, weak=1.0),
)
