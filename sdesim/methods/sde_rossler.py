"""Stochastic Runge–Kutta methods of strong order 1½, their tableaus as data.

Besides ΔW a step knows the integral of the path, through an independent second increment ΔZ:

    I₍₁₀₎ = ∫ (W − W₀) ds = ½h (ΔW + ΔZ/√3),   I₍₁₁₎ = ½(ΔW² − h),   I₍₁₁₁₎ = ⅙(ΔW³ − 3hΔW)

(Kloeden & Platen 1992, §5.2). SRA methods serve additive noise, SRI methods diagonal noise and a single process
(Rößler 2010, doi:10.1137/09076636X, eqs. 5.1 and 6.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sdesim.methods.method import Method
from sdesim.methods.vector import ZERO, Vector

Row = tuple[float, ...]
Matrix = tuple[Row, ...]


@dataclass(frozen=True)
class AdditiveTableau:
    """Coefficients of an SRA method in Rößler's notation: c⁽⁰⁾ c⁽¹⁾ A⁽⁰⁾ B⁽⁰⁾ α β⁽¹⁾ β⁽²⁾; rows below the diagonal."""

    c0: Row
    c1: Row
    A0: Matrix
    B0: Matrix
    alpha: Row
    beta1: Row
    beta2: Row


@dataclass(frozen=True)
class DiagonalTableau:
    """Coefficients of an SRI method in Rößler's notation; the rows of A⁽⁰⁾ A⁽¹⁾ B⁽⁰⁾ B⁽¹⁾ below the diagonal."""

    c0: Row
    c1: Row
    A0: Matrix
    A1: Matrix
    B0: Matrix
    B1: Matrix
    alpha: Row
    beta1: Row
    beta2: Row
    beta3: Row
    beta4: Row


def combine(weights: Row, values: list[Any]) -> Any:
    """Σ weight·value without the terms of weight 0; the structural zero if there is none."""
    total: Any = ZERO
    for weight, value in zip(weights, values, strict=False):
        if weight:
            term = value if weight == 1.0 else value * weight
            total = term if total is ZERO else total + term
    return total


def plus(y: Vector, *terms: Any) -> Vector:
    """y and the terms that are there."""
    for term in terms:
        y = y if term is ZERO else y + term
    return y


def scaled(value: Any, factor: Any) -> Any:
    """value·factor, the structural zero left as it is."""
    return ZERO if value is ZERO else value * factor


def sra(tableau: AdditiveTableau) -> Callable[..., Vector]:
    """The SRA method of a tableau, with noise g(t) (Rößler 2010, eq. 6.1).

    H_i = X + h Σ_j A⁰_ij f(t + c⁰_j h, H_j) + Σ_j B⁰_ij g(t + c¹_j h) I₍₁₀₎/h
    X' = X + h Σ α_i f(t + c⁰_i h, H_i) + Σ_i g(t + c¹_i h) (β¹_i ΔW + β²_i I₍₁₀₎/h)
    """

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        T = tableau
        average = (w.dW + w.dZ * (1.0 / math.sqrt(3.0))) * 0.5
        times = {c: t + h * c if c else t for c in {*T.c0, *T.c1}}
        used = [any(column) for column in zip(*(_padded(row, len(T.alpha)) for row in (*T.B0, T.beta1, T.beta2)))]
        g = [m.g(times[c], y) if need else {} for c, need in zip(T.c1, used, strict=True)]
        spread = [m.dot(gi, average) if gi else ZERO for gi in g]
        f: list[Any] = []
        for c, a, b in zip(T.c0, T.A0, T.B0, strict=True):
            f.append(m.f(times[c], plus(y, scaled(combine(a, f), h), combine(b, spread))))
        plain = [m.dot(gi, w.dW) if b and gi else ZERO for gi, b in zip(g, T.beta1, strict=True)]
        return plus(y, scaled(combine(T.alpha, f), h), combine(T.beta1, plain), combine(T.beta2, spread))

    return step


def sri(tableau: DiagonalTableau) -> Callable[..., Vector]:
    """The SRI method of a tableau (Rößler 2010, eq. 5.1), for one process or one of its own for each state.

    H⁰_i = X + h Σ_j A⁰_ij f(H⁰_j) + Σ_j B⁰_ij g(H¹_j) I₍₁₀₎/h
    H¹_i = X + h Σ_j A¹_ij f(H⁰_j) + √h Σ_j B¹_ij g(H¹_j)
    X' = X + h Σ α_i f(H⁰_i) + Σ_i g(H¹_i) (β¹_i ΔW + β²_i I₍₁₁₎/√h + β³_i I₍₁₀₎/h + β⁴_i I₍₁₁₁₎/h)

    f and g are taken at the times t + c⁰_i h and t + c¹_i h. √h times g stands for every process of the state's own.
    """

    def step(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
        T, root = tableau, w.root
        W = w.dW
        average = (W + w.dZ * (1.0 / math.sqrt(3.0))) * 0.5
        I11 = (W * W - h) * 0.5 / root
        I111 = (W * W * W - W * h * 3.0) / (h * 6.0)
        ones = Vector([root] * len(W))
        f: list[Any] = []
        g: list[Any] = []
        drawn: list[Any] = []
        for i in range(len(T.alpha)):
            H0 = plus(y, scaled(combine(T.A0[i], f), h), combine(T.B0[i], drawn))
            H1 = plus(y, scaled(combine(T.A1[i], f), h), combine(T.B1[i], [m.dot(gj, ones) for gj in g]))
            f.append(m.f(t + h * T.c0[i] if T.c0[i] else t, H0) if any(_column(T, i)) else ZERO)
            g.append(m.g(t + h * T.c1[i] if T.c1[i] else t, H1))
            drawn.append(m.dot(g[i], average))
        total = plus(y, scaled(combine(T.alpha, f), h))
        for i, gi in enumerate(g):
            weights = T.beta1[i], T.beta2[i], T.beta3[i], T.beta4[i]
            total = total + m.dot(gi, combine(weights, [W, I11, average, I111]))
        return total

    return step


def _padded(row: Row, n: int) -> Row:
    return (*row, *(0.0,) * (n - len(row)))


def shark(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """Shifted additive-noise Runge–Kutta (Foster, dos Reis & Strange 2024, eq. 6.1), H = I₍₁₀₎/h − ½ΔW.

    The last term, for noise that changes in time, is their correction (g(t+h) − g(t))(½ΔW − H).
    """
    H = w.dZ * (0.5 / math.sqrt(3.0))
    g, later = m.g(t, y), m.g(t + h, y)
    f1 = m.f(t, plus(y, m.dot(g, H)))
    f2 = m.f(t + h * (5 / 6), y + f1 * (h * (5 / 6)) + m.dot(g, w.dW * (5 / 6) + H))
    moved = m.dot(later, w.dW * 0.5 - H) - m.dot(g, w.dW * 0.5 - H) if m.noise_moves else ZERO
    return plus(y + (f1 * 0.4 + f2 * 0.6) * h + m.dot(g, w.dW), moved)


def slowrk(m: Any, t: Any, y: Vector, h: Any, w: Any) -> Vector:
    """SLOW-RK for commutative Stratonovich noise (Foster, dos Reis & Strange 2024, eq. 6.2), H = I₍₁₀₎/h − ½ΔW.

    A classical Runge–Kutta step along the noise, between two halves of the drift, and the term of [f, g] H.
    """
    W, H = w.dW, w.dZ * (0.5 / math.sqrt(3.0))
    middle = t + h * 0.5
    f1 = m.f(t, y) * h
    z = y + f1 * 0.5
    g1 = m.g(middle, z)
    g2 = m.g(middle, z + m.dot(g1, W) * 0.5)
    g3 = m.g(middle, z + m.dot(g2, W) * 0.5)
    g4 = m.g(middle, z + m.dot(g3, W))
    f2 = m.f(t + h * 0.75, y + f1 * 0.75 + m.dot(g3, W) * 0.75 + m.dot(g3, H) * 1.5) * h
    g5 = m.g(t + h, y + f1 + m.dot(g2, W) * 0.5)
    along = (m.dot(g1, W) + m.dot(g2, W) * 2.0 + m.dot(g3, W) * 2.0 + m.dot(g4, W)) * (1 / 6)
    return y + (f1 + f2 * 2.0) * (1 / 3) + along + (m.dot(g3, H) - m.dot(g5, H)) * 2.0


def _column(T: DiagonalTableau, j: int) -> list[float]:
    """Everything that multiplies f of stage j."""
    return [T.alpha[j], *(row[j] for row in (*T.A0, *T.A1) if len(row) > j)]


SRA1 = AdditiveTableau(
    c0=(0.0, 3 / 4), c1=(1.0, 0.0), A0=((), (3 / 4,)), B0=((), (3 / 2,)),
    alpha=(1 / 3, 2 / 3), beta1=(1.0, 0.0), beta2=(-1.0, 1.0),
)  # fmt: skip
SRA2 = AdditiveTableau(
    c0=(0.0, 3 / 4), c1=(1 / 3, 1.0), A0=((), (3 / 4,)), B0=((), (3 / 2,)),
    alpha=(1 / 3, 2 / 3), beta1=(0.0, 1.0), beta2=(3 / 2, -3 / 2),
)  # fmt: skip
SRA3 = AdditiveTableau(
    c0=(0.0, 1.0, 1 / 2), c1=(1.0, 0.0, 0.0), A0=((), (1.0,), (1 / 4, 1 / 4)), B0=((), (0.0,), (1.0, 1 / 2)),
    alpha=(1 / 6, 1 / 6, 2 / 3), beta1=(1.0, 0.0, 0.0), beta2=(-1.0, 1.0, 0.0),
)  # fmt: skip
SOSRA = AdditiveTableau(
    c0=(0.0, 0.6923962376159507, 1.0), c1=(0.0, 0.041248171110700504, 1.0),
    A0=((), (0.6923962376159507,), (-3.1609142252828395, 4.1609142252828395)),
    B0=((), (1.3371632704399763,), (1.442371048468624, 1.8632741501139225)),
    alpha=(0.2889874966892885, 0.6859880440839937, 0.025024459226717772),
    beta1=(-16.792534242221663, 17.514995785380226, 0.27753845684143835),
    beta2=(0.4237535769069274, 0.6010381474428539, -1.0247917243497813),
)  # fmt: skip
SRIW1 = DiagonalTableau(
    c0=(0.0, 3 / 4, 0.0, 0.0), c1=(0.0, 1 / 4, 1.0, 1 / 4),
    A0=((), (3 / 4,), (0.0, 0.0), (0.0, 0.0, 0.0)), A1=((), (1 / 4,), (1.0, 0.0), (0.0, 0.0, 1 / 4)),
    B0=((), (3 / 2,), (0.0, 0.0), (0.0, 0.0, 0.0)), B1=((), (1 / 2,), (-1.0, 0.0), (-5.0, 3.0, 1 / 2)),
    alpha=(1 / 3, 2 / 3, 0.0, 0.0), beta1=(-1.0, 4 / 3, 2 / 3, 0.0), beta2=(-1.0, 4 / 3, -1 / 3, 0.0),
    beta3=(2.0, -4 / 3, -2 / 3, 0.0), beta4=(-2.0, 5 / 3, -2 / 3, 1.0),
)  # fmt: skip
SRIW2 = DiagonalTableau(
    c0=(0.0, 1.0, 1 / 2, 0.0), c1=(0.0, 1 / 4, 1.0, 1 / 4),
    A0=((), (1.0,), (1 / 4, 1 / 4), (0.0, 0.0, 0.0)), A1=((), (1 / 4,), (1.0, 0.0), (0.0, 0.0, 1 / 4)),
    B0=((), (0.0,), (1.0, 1 / 2), (0.0, 0.0, 0.0)), B1=((), (-1 / 2,), (1.0, 0.0), (2.0, -1.0, 1 / 2)),
    alpha=(1 / 6, 1 / 6, 2 / 3, 0.0), beta1=(-1.0, 4 / 3, 2 / 3, 0.0), beta2=(1.0, -4 / 3, 1 / 3, 0.0),
    beta3=(2.0, -4 / 3, -2 / 3, 0.0), beta4=(-2.0, 5 / 3, -2 / 3, 1.0),
)  # fmt: skip
SOSRI = DiagonalTableau(
    c0=(0.0, -0.04199224421316468, 0.7898405466170333, 3.7504010171562823),
    c1=(0.0, 0.26204282091330466, 0.05879875232001766, 0.758661169101175),
    A0=((), (-0.04199224421316468,), (2.842612915017106, -2.0527723684000727),
        (4.338237071435815, -2.8895936137439793, 2.3017575594644466)),
    A1=((), (0.26204282091330466,), (0.20903646383505375, -0.1502377115150361),
        (0.05836595312746999, 0.6149440396332373, 0.08535117634046772)),
    B0=((), (-0.21641093549612528,), (1.5336352863679572, 0.26066223492647056),
        (-1.0536037558179159, 1.7015284721089472, -0.20725685784180017)),
    B1=((), (-0.5119011827621657,), (2.67767339866713, -4.9395031322250995),
        (0.15580956238299215, 3.2361551006624674, -1.4223118283355949)),
    alpha=(1.140099274172029, -0.6401334255743456, 0.4736296532772559, 0.026404498125060714),
    beta1=(-1.8453464565104432, 2.688764531100726, -0.2523866501071323, 0.40896857551684956),
    beta2=(0.4969658141589478, -0.5771202869753592, -0.12919702470322217, 0.2093514975196336),
    beta3=(2.8453464565104425, -2.688764531100725, 0.2523866501071322, -0.40896857551684945),
    beta4=(0.11522663875443433, -0.57877086147738, 0.2857851028163886, 0.17775911990655704),
)  # fmt: skip

_ROESSLER = "Rößler 2010, doi:10.1137/09076636X"
_RACKAUCKAS = "Rackauckas & Nie 2020, doi:10.1109/HPEC43674.2020.9286178"
_FOSTER = "Foster, dos Reis & Strange 2024, doi:10.1137/23M155147X"
_ADDITIVE = ("none", "additive")
_DIAGONAL = ("none", "additive", "scalar", "diagonal")
TABLEAUS = {
    "sra1": SRA1, "sra2": SRA2, "sra3": SRA3, "sosra": SOSRA, "sriw1": SRIW1, "sriw2": SRIW2, "sosri": SOSRI,
}  # fmt: skip

METHODS = (
    Method("sra1", sra(SRA1), "sde", f"{_ROESSLER}, table 6.1", _ADDITIVE, "ito", 2.0, 1.5, 2.0),
    Method("sra2", sra(SRA2), "sde", f"{_ROESSLER}, table 6.2", _ADDITIVE, "ito", 2.0, 1.5, 2.0),
    Method("sra3", sra(SRA3), "sde", f"{_ROESSLER}, table 6.3", _ADDITIVE, "ito", 3.0, 1.5, 2.0),
    Method("sosra", sra(SOSRA), "sde", _RACKAUCKAS, _ADDITIVE, "ito", 2.0, 1.5, 2.0,
           "its region of stability is enlarged"),
    Method("shark", shark, "sde", f"{_FOSTER}, eq. 6.1", _ADDITIVE, "ito", 2.0, 1.5, 2.0),
    Method("sriw1", sri(SRIW1), "sde", f"{_ROESSLER}, table 5.1", _DIAGONAL, "ito", 2.0, 1.5, 1.5,
           "weak order 2 for noise that is linear"),
    Method("sriw2", sri(SRIW2), "sde", f"{_ROESSLER}, table 5.2", _DIAGONAL, "ito", 3.0, 1.5, 1.5),
    Method("sosri", sri(SOSRI), "sde", _RACKAUCKAS, _DIAGONAL, "ito", 2.0, 1.5, 1.5,
           "its region of stability is enlarged"),
    Method("slowrk", slowrk, "sde", f"{_FOSTER}, eq. 6.2", (*_DIAGONAL, "commutative"), "stratonovich", 2.0, 1.5, 2.0,
           "strong order 1½ for commutative noise"),
)  # fmt: skip
