"""Implicit and implicit–explicit methods for fields on a stencil, each the lines of its paper.

The discrete model is du/dt = L(t, u) + f(t, u): `m.L(t, u)` is the part taken implicitly, `m.f(t, u)` the rest, and
`m.solve(t, a, r)` the x with x = r + a L(t, x), by a linear solve where L is affine in the states and by Newton's
method where it is not. The Itô noise `m.noise(t, u, dW)` enters with its amplitude at the start of the step; `start`
tells the first two steps of a run.

For the mode of an eigenvalue −λ driven by additive noise, z = λh/2, the stationary variance is 1/(1 + z) times the
true one with backward Euler, and the true one with Crank–Nicolson.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sdesim.methods.field import FieldMethod, Spectrum


def backward_euler(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Backward Euler for L, forward Euler for the rest."""
    return m.solve(t + h, h, y + m.f(t, y) * h + m.noise(t, y, w))


def crank_nicolson(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Crank & Nicolson 1947, its first two steps as four halves of backward Euler (Rannacher 1984).

    Those damp what the trapezoidal rule would let ring: a start that jumps, or that does not meet the boundary.
    """
    r = y + m.noise(t, y, w)
    if start:
        return m.solve(t + h, h / 2, m.solve(t + h / 2, h / 2, r))
    return m.solve(t + h, h / 2, r + m.L(t, y) * (h / 2))


def tr_bdf2(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Trapezoidal rule to t + γh, then BDF2 (Bank et al. 1985); γ = 2 − √2 gives both solves one matrix."""
    g = 2 - math.sqrt(2)
    u = m.solve(t + g * h, g * h / 2, y + m.L(t, y) * (g * h / 2))
    return m.solve(t + h, g * h / 2, u * (1 / (g * (2 - g))) - y * ((1 - g) ** 2 / (g * (2 - g))))


@dataclass(frozen=True)
class Tableau:
    """An additive Runge–Kutta pair: rows of the implicit and of the explicit coefficients, weights and nodes.

    The first stage is explicit in both; the implicit diagonal is the same number in all others.
    """

    implicit: tuple[tuple[float, ...], ...]
    explicit: tuple[tuple[float, ...], ...]
    b_implicit: tuple[float, ...]
    b_explicit: tuple[float, ...]
    c: tuple[float, ...]


_G = (2 - math.sqrt(2)) / 2
_D = -2 * math.sqrt(2) / 3
ARS232 = Tableau(
    implicit=((0.0,), (0.0, _G), (0.0, 1 - _G, _G)),
    explicit=((), (_G,), (_D, 1 - _D)),
    b_implicit=(0.0, 1 - _G, _G),
    b_explicit=(0.0, 1 - _G, _G),
    c=(0.0, _G, 1.0),
)
_B = (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 1 / 4)
ARK436 = Tableau(
    implicit=(
        (0.0,),
        (1 / 4, 1 / 4),
        (8611 / 62500, -1743 / 31250, 1 / 4),
        (5012029 / 34652500, -654441 / 2922500, 174375 / 388108, 1 / 4),
        (15267082809 / 155376265600, -71443401 / 120774400, 730878875 / 902184768, 2285395 / 8070912, 1 / 4),
        _B,
    ),
    explicit=(
        (),
        (1 / 2,),
        (13861 / 62500, 6889 / 62500),
        (-116923316275 / 2393684061468, -2731218467317 / 15368042101831, 9408046702089 / 11113171139209),
        (-451086348788 / 2902428689909, -2682348792572 / 7519795681897, 12662868775082 / 11960479115383,
         3355817975965 / 11060851509271),
        (647845179188 / 3216320057751, 73281519250 / 8382639484533, 552539513391 / 3454668386233,
         3354512671639 / 8306763924573, 4040 / 17871),
    ),
    b_implicit=_B,
    b_explicit=_B,
    c=(0.0, 1 / 2, 83 / 250, 31 / 50, 17 / 20, 1.0),
)  # fmt: skip


def additive_runge_kutta(m: Any, t: float, y: Any, h: float, tableau: Tableau) -> Any:
    """u_i = y + h Σ_j (a_ij l_j + â_ij f_j), l_j = L u_j + b, f_j = f(u_j); the last line sums with the weights."""
    a, e, c = tableau.implicit, tableau.explicit, tableau.c
    l, f = [], [m.f(t, y)]
    l.append(m.L(t, y) if any(row[0] for row in a) else y * 0.0)
    for i in range(1, len(c)):
        r = y
        for j in range(i):
            r = r + l[j] * (h * a[i][j]) + f[j] * (h * e[i][j])
        u = m.solve(t + c[i] * h, h * a[i][i], r)
        l.append((u - r) * (1 / (h * a[i][i])))
        f.append(m.f(t + c[i] * h, u))
    for j in range(len(c)):
        y = y + l[j] * (h * tableau.b_implicit[j]) + f[j] * (h * tableau.b_explicit[j])
    return y


def ars232(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """ARS(2,3,2) (Ascher, Ruuth & Spiteri 1997, section 2.5): L-stable in L, order 2."""
    return additive_runge_kutta(m, t, y, h, ARS232)


def ark436(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """ARK4(3)6L[2]SA (Kennedy & Carpenter 2003, appendix C): L-stable in L, order 4."""
    return additive_runge_kutta(m, t, y, h, ARK436)


# Alternating directions: du/dt = F_0 + F_1 + … + F_k with F_j along axis j (`sdesim.kernels.implicit_directions`).
# `m.parts_at(t, u)` are the F_j; `m.ahead(u, f, h)` is u + h Σ f_j; `m.stabilise(s, t, a, u, f)` takes the stages
# u_j = u_{j−1} + a (F_j(t, u_j) − f_j) with f_j of the time s; `m.settle` takes out what rounding does to a total that
# is kept. Two axes are stable whatever the diffusivity, as are three along each of which it changes alone; else, and
# with mixed derivatives between walls, stability has a limit, which is looked for before the first step.


def douglas(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Douglas 1962, for any number of directions (in 't Hout & Welfert 2009, section 1), θ = ½."""
    if start:
        return damped(m, t, y, h)
    f = m.parts_at(t, y)
    return m.settle(t, t + h, h, y, m.stabilise(t, t + h, h / 2, m.ahead(y, f, h), f))


def craig_sneyd(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Craig & Sneyd 1988 (in 't Hout & Welfert 2009, section 1), θ = ½: order 2 with mixed derivatives."""
    if start:
        return damped(m, t, y, h)
    f = m.parts_at(t, y)
    first = m.ahead(y, f, h)
    u = m.stabilise(t, t + h, h / 2, first, f)
    if m.still:  # no F_0: the second half would be the first again
        return m.settle(t, t + h, h, y, u)
    again = first + (m.f(t + h, u) - f[0]) * (h / 2)
    return m.settle(t, t + h, h, y, m.stabilise(t, t + h, h / 2, again, f))


def modified_craig_sneyd(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """In 't Hout & Welfert 2009: order 2 for any θ; on periodic grids stable from 1/3 (two axes), 6/13 (three)."""
    if start:
        return damped(m, t, y, h)
    f, theta = m.parts_at(t, y), 1 / 3 if len(m.axes) < 3 else 6 / 13
    first = m.ahead(y, f, h)
    u = m.stabilise(t, t + h, theta * h, first, f)
    after = m.parts_at(t + h, u)
    more = m.ahead(first, after, (0.5 - theta) * h)
    again = m.ahead(more, f, (theta - 0.5) * h) + (after[0] - f[0]) * (theta * h)
    return m.settle(t, t + h, h, y, m.stabilise(t, t + h, theta * h, again, f))


def hundsdorfer_verwer(m: Any, t: float, y: Any, h: float, w: Any, start: bool) -> Any:
    """Hundsdorfer & Verwer 2003, section IV.5.2, θ = ½ + √3/6: order 2 for any θ."""
    if start:
        return damped(m, t, y, h)
    f, theta = m.parts_at(t, y), 0.5 + math.sqrt(3) / 6
    first = m.ahead(y, f, h)
    u = m.stabilise(t, t + h, theta * h, first, f)
    after = m.parts_at(t + h, u)
    again = m.ahead(m.ahead(first, after, h / 2), f, -h / 2)
    return m.settle(t, t + h, h, y, m.stabilise(t + h, t + h, theta * h, again, after))


def damped(m: Any, t: float, y: Any, h: float) -> Any:
    """A first step: two halves of backward Euler without directions, which damp what alternating ones do not."""
    u = m.solve(t + h / 2, h / 2, y + m.f(t, y) * (h / 2))
    u = m.solve(t + h, h / 2, u + m.f(t + h / 2, u) * (h / 2))
    return m.settle(t + h / 2, t + h, h, y, u)


def no_limit(spectrum: Spectrum) -> float:
    """No stability limit."""
    return math.inf


def transport_limit(spectrum: Spectrum) -> float:
    """The explicit part holds transport: h |λ_imag| ≤ 1 keeps it stable with some diffusion."""
    return 1.0 / max(spectrum.advection, 1e-300)


def reaction_step(spectrum: Spectrum) -> float:
    """A tenth of the reaction's own time, and half of what explicit transport allows."""
    return min(0.1 / max(spectrum.reaction, 1e-300), 0.5 * transport_limit(spectrum))


METHODS = (
    FieldMethod(
        name="backward_euler", step=backward_euler, kind="implicit", source="Euler; Laasonen 1949", order=1.0,
        strong=0.5, weak=1.0, noise=("none", "additive", "multiplicative"), calculus="ito", limit=transport_limit,
        choose=reaction_step, details="diffusion and affine terms implicit, the others explicit",
    ),
    FieldMethod(
        name="crank_nicolson", step=crank_nicolson, kind="implicit", source="Crank & Nicolson 1947, "
        "doi:10.1017/S0305004100023197; Rannacher 1984, doi:10.1007/BF01390130", order=2.0, strong=0.5, weak=1.0,
        noise=("none", "additive"), calculus="ito", limit=no_limit, choose=no_limit,
        details="all terms implicit",
    ),
    FieldMethod(
        name="tr_bdf2", step=tr_bdf2, kind="implicit", source="Bank et al. 1985, doi:10.1109/T-ED.1985.22232",
        order=2.0, limit=no_limit, choose=no_limit, details="all terms implicit",
    ),
    FieldMethod(
        name="ars232", step=ars232, kind="implicit", source="Ascher, Ruuth & Spiteri 1997, "
        "doi:10.1016/S0168-9274(97)00056-1", order=2.0, limit=transport_limit, choose=reaction_step,
        details="diffusion implicit; transport and reaction explicit",
    ),
    FieldMethod(
        name="ark436", step=ark436, kind="implicit", source="Kennedy & Carpenter 2003, "
        "doi:10.1016/S0168-9274(02)00138-1", order=4.0, limit=transport_limit, choose=reaction_step,
        details="diffusion implicit; transport and reaction explicit",
    ),
    *(FieldMethod(
        name=name, step=step, kind="implicit", source=source, order=2.0, limit=no_limit, choose=reaction_step,
        details="directions in turn; mixed derivatives and reactions that are not affine explicit",
    ) for name, step, source in (
        ("douglas", douglas, "Douglas 1962, doi:10.1007/BF01386295"),
        ("craig_sneyd", craig_sneyd, "Craig & Sneyd 1988, doi:10.1016/0898-1221(88)90150-2"),
        ("modified_craig_sneyd", modified_craig_sneyd, "in 't Hout & Welfert 2009, doi:10.1016/j.apnum.2008.03.016"),
        ("hundsdorfer_verwer", hundsdorfer_verwer, "Hundsdorfer & Verwer 2003, doi:10.1007/978-3-662-09017-6"),
    )),
)  # fmt: skip
ALTERNATING = ("douglas", "craig_sneyd", "modified_craig_sneyd", "hundsdorfer_verwer")
"""Those that solve along the axes in turn."""
AFFINE = ("backward_euler", "crank_nicolson", "tr_bdf2", *ALTERNATING)
"""Those that have no explicit part, or whose implicit part is all that is affine."""
IMPLICIT_METHODS: dict[str, FieldMethod] = {method.name: method for method in METHODS}
