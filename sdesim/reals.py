"""The two formats of numbers, float64 and float32, with what the formulas of `sdesim.arithmetic` need in each.

Polynomials are minimax fits (Chebyshev, 50 digits; each with its error) with the highest power first; those of sin, cos
and log in float64 are fdlibm's (Sun Microsystems, 1993).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """An IEEE binary format.

    >>> hex(SINGLE.one), DOUBLE.magic
    ('0x3f800000', 6755399441055744.0)
    """

    bits: int
    mantissa: int
    exp: tuple[float, ...]  # (eʳ − 1 − r)/r², |r| ≤ ½ ln 2
    log: tuple[float, ...]  # (ln((1 + s)/(1 − s)) − 2s)/s³ in s², |s| ≤ 3 − √8
    sin: tuple[float, ...]  # (sin r − r)/r³ in r², |r| ≤ π/4
    cos: tuple[float, ...]  # (cos r − 1 + ½r²)/r⁴ in r², |r| ≤ π/4
    ln2: tuple[float, float]  # in two parts, the first times any exponent exact
    half_pi: tuple[float, ...]  # in parts, all but the last times a number of quarters exact
    exp_range: tuple[float, float]  # outside, the exponential is 0 or ∞
    saturated: float  # from here on tanh x = 1 and sinh x = ½eˣ
    angles: float  # the largest argument of sin and cos; beyond it no digit would be right
    radius: tuple[float, ...]  # Box–Muller: −2 ln((1 + s)/(1 − s))/s in s², |s| ≤ 3 − √8
    turn_sin: tuple[float, ...]  # sin(πv/2)/v in v², |v| ≤ ½
    turn_cos: tuple[float, ...]  # cos(πv/2) in v², |v| ≤ ½

    @property
    def name(self) -> str:
        """NumPy's name of the format."""
        return f"float{self.bits}"

    @property
    def draws(self) -> int:
        """Normals made from the 128 bits of a counter: two in float64, four in float32."""
        return 128 // self.bits

    @property
    def bias(self) -> int:
        """The exponent's bits of a number in [1, 2)."""
        return (1 << (self.bits - self.mantissa - 2)) - 1

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.mantissa

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.bits - 1)

    @property
    def fraction(self) -> int:
        """The bits below the leading one."""
        return (1 << self.mantissa) - 1

    @property
    def magic(self) -> float:
        """1.5·2ᵐ: adding it rounds to an integer, held in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def tiny(self) -> float:
        """The smallest normal number."""
        return math.ldexp(1.0, 1 - self.bias)


DOUBLE = Format(
    64, 52,
    # 2⁻⁵³
    exp=(2.510134692835034e-08, 2.7621338669142925e-07, 2.75572664186123e-06, 2.4801518641395993e-05,
         1.9841269864380513e-04, 1.3888888918939168e-03, 8.333333333329793e-03, 4.166666666662064e-02,
         1.6666666666666669e-01, 0.5000000000000001),
    log=(1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
         2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01),
    sin=(1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
         -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01),
    cos=(-1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
         2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02),
    ln2=(6.93147180369123816490e-01, 1.90821492927058770002e-10),
    half_pi=(1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21),
    exp_range=(-746.0, 710.0), saturated=22.0, angles=1e15,
    # 2⁻⁵³ relative, 2⁻⁵⁸, 2⁻⁵⁴
    radius=(-0.33675319941360976, -0.3624386886243043, -0.4444686909503581, -0.5714283204221534, -0.8000000012348323,
            -1.3333333333310584, -4.0),
    turn_sin=(5.633933781537854e-08, -3.59864335298231e-06, 1.604411507421909e-04, -4.681754132340976e-03,
              7.969262624604301e-02, -0.6459640975062443, 1.5707963267948966),
    turn_cos=(4.6552961874867623e-07, -2.520013526428479e-05, 9.19259950041661e-04, -2.086348073494657e-02,
              0.25366950789986475, -1.2337005501361513, 1.0),
)  # fmt: skip
SINGLE = Format(
    32, 23,
    # 2⁻²⁴, 2⁻²², 2⁻²⁶, 2⁻²⁹
    exp=(0.0013926926767453551, 0.008363774046301842, 0.04166654869914055, 0.16666573286056519, 0.5),
    log=(0.29580986499786377, 0.3998875916004181, 0.6666668653488159),
    sin=(-0.00019587387214414775, 0.008332746103405952, -0.166666641831398),
    cos=(2.4547436623834074e-05, -0.0013888300163671374, 0.0416666641831398),
    ln2=(0.693115234375, 3.194618329871446e-05),
    half_pi=(1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5633440682570896e-12),
    exp_range=(-104.5, 89.0), saturated=9.5, angles=4e6,
    # 2⁻³⁰ relative, 2⁻²⁸, 2⁻³⁴
    radius=(-0.5985158085823059, -0.7994959950447083, -1.333336353302002, -4.0),
    turn_sin=(-0.004602149128913879, 0.07968021929264069, -0.6459634900093079, 1.5707963705062866),
    turn_cos=(0.0009036280680447817, -0.02086007036268711, 0.25366920232772827, -1.2337005138397217, 1.0),
)  # fmt: skip
