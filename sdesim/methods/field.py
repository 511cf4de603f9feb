"""Time-stepping methods for fields on a stencil, each the lines of its paper.

A method is a pure function (m, t, y, h, w) → the state after a step h. `y` is a `Vector` of states (arrays in the
reference, graph nodes in the trace), `m.f(t, y)` the right-hand side ∂y/∂t, `m.noise(t, y, dW)` the noise amplitude at
the start of the step times `w.dW`, the increments of the cells' Wiener processes. A stabilised method has one more
argument, its number of stages s.

Stability is said for dy/dt = λy with the negative real λ of diffusion, |λ| ≤ ρ, and the imaginary ones of transport.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sdesim.methods.field_stabilised import (
    RKC_STAGES,
    RKL2_STAGES,
    beside_backward_euler,
    fixed,
    rk45,
    rk45_pair,
    rkc,
    rkc_reach,
    rkl1,
    rkl2,
    rkl2_reach,
)
from sdesim.methods.method import Method


@dataclass(frozen=True)
class Spectrum:
    """Bounds on the eigenvalues of a discrete right-hand side, in 1/time.

    `diffusion` bounds the negative real ones, `advection` the imaginary ones (transport), `reaction` those of the
    reaction's Jacobian at the initial state. `drift` is Σ v²/D, which limits explicit Euler with central transport.
    """

    diffusion: float
    advection: float = 0.0
    reaction: float = 0.0
    drift: float = 0.0


def euler(m: Any, t: Any, y: Any, h: float, w: Any) -> Any:
    """Forward Euler."""
    return y + m.f(t, y) * h


def euler_maruyama(m: Any, t: Any, y: Any, h: float, w: Any) -> Any:
    """Euler–Maruyama (Maruyama 1955): the noise amplitude is taken at the start of the step (Itô)."""
    noise = m.noise(t, y, w.dW)  # first, for its fluxes are wanted at the neighbours
    return y + m.f(t, y) * h + noise


def ssprk3(m: Any, t: Any, y: Any, h: float, w: Any) -> Any:
    """Third-order strong-stability-preserving Runge–Kutta (Shu & Osher 1988, eq. 2.18)."""
    u = y + m.f(t, y) * h
    u = y * (3 / 4) + (u + m.f(t + h, u) * h) * (1 / 4)
    return y * (1 / 3) + (u + m.f(t + 0.5 * h, u) * h) * (2 / 3)


def rk4(m: Any, t: Any, y: Any, h: float, w: Any) -> Any:
    """The classical fourth-order Runge–Kutta method (Kutta 1901)."""
    k1 = m.f(t, y)
    k2 = m.f(t + 0.5 * h, y + k1 * (0.5 * h))
    k3 = m.f(t + 0.5 * h, y + k2 * (0.5 * h))
    k4 = m.f(t + h, y + k3 * h)
    return y + (k1 + k2 * 2.0 + k3 * 2.0 + k4) * (h / 6)


def euler_limit(spectrum: Spectrum) -> float:
    """Largest stable step of forward Euler: h(ρ + 2|λ_imag|) ≤ 2, and h·Σ v²/D ≤ 2 for central transport."""
    return 2.0 / max(spectrum.diffusion + spectrum.reaction, spectrum.drift, _TINY)


def ssprk3_limit(spectrum: Spectrum) -> float:
    """Largest stable step of three-stage third-order Runge–Kutta: 2.5127 on the real axis, 1.732 on the imaginary."""
    return 1.0 / max((spectrum.diffusion + spectrum.reaction) / 2.5127, spectrum.advection / 1.7320, _TINY)


def rk4_limit(spectrum: Spectrum) -> float:
    """Largest stable step of four-stage fourth-order Runge–Kutta: 2.7852 on the real axis, 2.828 on the imaginary."""
    return 1.0 / max((spectrum.diffusion + spectrum.reaction) / 2.7852, spectrum.advection / 2.8284, _TINY)


def stabilised_limit(spectrum: Spectrum) -> float:
    """No limit from diffusion: stages are added until the step is stable. Transport limits it like Euler."""
    return 1.0 / max(spectrum.advection, _TINY)


def rk45_limit(spectrum: Spectrum) -> float:
    """Largest stable step of Dormand & Prince's fifth order: 3.3065 on the real axis, 0.9971 on the imaginary."""
    return 1.0 / max((spectrum.diffusion + spectrum.reaction) / 3.3065, spectrum.advection / 0.9971, _TINY)


def euler_step(spectrum: Spectrum) -> float:
    """Half the stable step, and a tenth of the reaction's own time."""
    return min(0.5 * euler_limit(spectrum), 0.1 / max(spectrum.reaction, _TINY))


def euler_maruyama_step(spectrum: Spectrum) -> float:
    """A fifth of the stable step: the stationary variance of the stiffest mode is then 1/(1 − 0.2) too large.

    At most a tenth of the reaction's own time.
    """
    return min(0.2 * euler_limit(spectrum), 0.1 / max(spectrum.reaction, _TINY))


def ssprk3_step(spectrum: Spectrum) -> float:
    """Nine tenths of the stable step, and half of the reaction's own time."""
    return min(0.9 * ssprk3_limit(spectrum), 0.5 / max(spectrum.reaction, _TINY))


def rk4_step(spectrum: Spectrum) -> float:
    """Nine tenths of the stable step, and half of the reaction's own time."""
    return min(0.9 * rk4_limit(spectrum), 0.5 / max(spectrum.reaction, _TINY))


def rk45_step(spectrum: Spectrum) -> float:
    """Nine tenths of the stable step, and half of the reaction's own time."""
    return min(0.9 * rk45_limit(spectrum), 0.5 / max(spectrum.reaction, _TINY))


def stabilised_step(spectrum: Spectrum) -> float:
    """A step of 9 stages of RKL2, at most a fifth of the reaction's own time and half of what transport allows.

    On n cells along an axis its error in the slowest mode is then below that of the finite volumes from n ≈ 30.
    """
    return min(44.0 / max(1.05 * spectrum.diffusion, _TINY), 0.2 / max(spectrum.reaction, _TINY),
               0.5 * stabilised_limit(spectrum))


def rkl1_stages(h: float, spectrum: Spectrum) -> int:
    """Fewest stages, odd, for which h(ρ + reaction) ≤ s² + s, with 5 % to spare; odd as in `rkl2_stages`.

    >>> rkl1_stages(1.0, Spectrum(diffusion=40.0))
    7
    """
    reach = SPARE * h * (spectrum.diffusion + spectrum.reaction)
    s = max(1, math.ceil(0.5 * (math.sqrt(1.0 + 4.0 * reach) - 1.0)))
    return s + 1 - s % 2


def rkl2_stages(h: float, spectrum: Spectrum) -> int:
    """Fewest stages, odd and at least 3, for which h(ρ + reaction) ≤ (s² + s − 2)/2, with 5 % to spare.

    Odd, because P_s(−1) = (−1)^s: at the limit an odd number damps the stiffest mode to |1 − 2b_s|, an even one not.

    >>> rkl2_stages(1.0, Spectrum(diffusion=40.0))
    9
    """
    reach = SPARE * h * (spectrum.diffusion + spectrum.reaction)
    s = max(3, math.ceil(0.5 * (math.sqrt(9.0 + 8.0 * reach) - 1.0)))
    return s + 1 - s % 2


def rkc_stages(h: float, spectrum: Spectrum) -> int:
    """Fewest stages, at least 2, within whose reach h(ρ + reaction) is, with 5 % to spare.

    >>> rkc_stages(1.0, Spectrum(diffusion=40.0))
    9
    """
    reach = SPARE * h * (spectrum.diffusion + spectrum.reaction)
    s = max(2, math.floor(math.sqrt(1.0 + 1.5 * reach)))
    while rkc_reach(s) < reach:
        s += 1
    return s


SPARE = 1.05  # the bound on the eigenvalues, over which a step's stages must reach
_TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A step with an estimate of its error, by which steps are chosen.

    Attributes:
        pair: (m, t, y, f0, h, …) → (state, slope, error) after h (`field_stabilised`).
        power: of h that the error goes with.
        limits: the largest h|λ| that is stable on the negative real and on the imaginary axis.
        evaluations: right-hand sides of a step; with stages, besides them.
        stages: the numbers of stages to choose from, rising; none where it is fixed.
        reach: hρ up to which a number of stages is stable.
    """

    pair: Callable[..., Any]
    power: int
    limits: tuple[float, float]
    evaluations: int = 0
    stages: tuple[int, ...] = ()
    reach: Callable[[int], float] | None = None

    @cached_property
    def rungs(self) -> tuple[tuple[float, int, dict[str, int]], ...]:
        """(reach, right-hand sides, options of the pair) of each number of stages; one rung without limit else."""
        if self.reach is None:
            return ((math.inf, self.evaluations, {}),)
        return tuple((self.reach(s), s + self.evaluations, {"s": s}) for s in self.stages)


@dataclass(frozen=True, kw_only=True)
class FieldMethod(Method):
    """A method for fields on a stencil, with what its step may be.

    `limit` gives the largest stable step for a `Spectrum`, `choose` a sensible one, `stages` the number of stages that
    a step needs (None where it is fixed), `embedded` its form with an estimate of the error, if it has one.
    """

    kind: str = "stencil"
    limit: Callable[[Spectrum], float]
    choose: Callable[[Spectrum], float]
    stages: Callable[[float, Spectrum], int] | None = None
    embedded: Embedded | None = None

    def options(self, h: float, spectrum: Spectrum) -> dict[str, int]:
        """The further arguments of `step`: the number of stages of a stabilised method."""
        return {} if self.stages is None else {"s": self.stages(h, spectrum)}


METHODS = (
    FieldMethod(
        name="euler", step=euler, source="Euler 1768", order=1.0, limit=euler_limit, choose=euler_step,
    ),
    FieldMethod(
        name="euler_maruyama", step=euler_maruyama, source="Maruyama 1955", order=1.0, strong=0.5, weak=1.0,
        noise=("none", "additive", "multiplicative"), calculus="ito", limit=euler_limit, choose=euler_maruyama_step,
    ),
    FieldMethod(
        name="ssprk3", step=ssprk3, source="Shu & Osher 1988, doi:10.1016/0021-9991(88)90177-5", order=3.0,
        limit=ssprk3_limit, choose=ssprk3_step,
    ),
    FieldMethod(name="rk4", step=rk4, source="Kutta 1901", order=4.0, limit=rk4_limit, choose=rk4_step),
    FieldMethod(
        name="rk45", step=fixed(rk45), source="Dormand & Prince 1980, doi:10.1016/0771-050X(80)90013-3", order=5.0,
        limit=rk45_limit, choose=rk45_step,
        embedded=Embedded(pair=rk45_pair, power=5, limits=(3.3065, 0.9971), evaluations=6),
    ),
    FieldMethod(
        name="rkl1", step=fixed(rkl1), source="Meyer, Balsara & Aslam 2014, doi:10.1016/j.jcp.2013.08.021", order=1.0,
        limit=stabilised_limit, choose=stabilised_step, stages=rkl1_stages,
    ),
    FieldMethod(
        name="rkl2", step=fixed(rkl2), source="Meyer, Balsara & Aslam 2014, doi:10.1016/j.jcp.2013.08.021", order=2.0,
        limit=stabilised_limit, choose=stabilised_step, stages=rkl2_stages,
        embedded=Embedded(pair=beside_backward_euler(rkl2), power=2, limits=(math.inf, 1.0), stages=RKL2_STAGES,
                          reach=rkl2_reach),
    ),
    FieldMethod(
        name="rkc", step=fixed(rkc), source="Sommeijer, Shampine & Verwer 1998, doi:10.1016/S0377-0427(97)00219-7",
        order=2.0, limit=stabilised_limit, choose=stabilised_step, stages=rkc_stages,
        embedded=Embedded(pair=beside_backward_euler(rkc), power=2, limits=(math.inf, 1.0), stages=RKC_STAGES,
                          reach=rkc_reach),
    ),
)  # fmt: skip
FIELD_METHODS: dict[str, FieldMethod] = {method.name: method for method in METHODS}


def embedded_of(method: Method) -> Embedded:
    """A method's form with an estimate of its error; ValueError where it has none, with those that have.

    >>> embedded_of(FIELD_METHODS["rk45"]).power
    5
    """
    embedded = getattr(method, "embedded", None)
    if not isinstance(embedded, Embedded):
        able = ", ".join(m.name for m in METHODS if m.embedded is not None)
        raise ValueError(f"{method.name} has no estimate of its error to choose steps by: with rtol or atol use one of "
                         f"{able}, or leave them out and give dt")
    return embedded
