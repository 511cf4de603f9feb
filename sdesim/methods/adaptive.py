"""Which methods converge when the error itself chooses the steps, and how their steps are chosen.

A step that is accepted or not after a look at its increment is no longer independent of it. What is lost with an error
of mean zero, such as ½ Σ L^c g_k (ΔW_c ΔW_k − δ_ck h), which Euler–Maruyama leaves out, is then lost for good: the
limit is another equation (Gaines & Lyons 1997, doi:10.1137/S0036139995286515). Safe are

- additive noise: any method, for the terms are zero;
- noise that commutes: methods whose step holds these terms, of strong order 1 or more. What they leave out is of the
  order of h^{3/2} on each path, and sums to zero whatever the steps are;
- general noise: methods of the Stratonovich calculus that hold ½ Σ L^c g_k ΔW_c ΔW_k, the part without the Lévy area,
  provided that every time at which the path was seen becomes the end of a step, as in `integrate_adaptive` (Foster &
  Jelinčič 2023, arXiv:2311.14201).

All this with increments of one path given in advance: methods that draw more than ΔW and ∫W for a step (Lévy areas,
signs) have no such path. When jumps come is given in advance too (`kernels.sde_hazard`), and bounds are met after a
step is accepted (`integrate_adaptive`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import NOISE_TYPES, Method
from sdesim.methods.vector import Vector
from sdesim.models.sde import SDE

_SAFETY = 0.8  # a step grows where that would leave this share of the squared error allowed
LEVELS = 32  # of steps: root steps over 1, 2, 4, …
_CALM = ("none", "additive")
_COMMUTING = ("scalar", "diagonal", "commutative")


@dataclass(frozen=True)
class Control:
    """Tolerances, atol for each state, and the order q: half a step has an error over √h that is 2^q times smaller.

    Steps grow where their squared error is below `grow`, shrink twice above `shrink`; beyond `cap` it counts as that.

    >>> how = Control(1e-3, (1e-6,), 1.0)
    >>> how.shrink, how.shares[:3].tolist(), how.numbers.size
    (4.0, [1.0, 0.25, 0.0625], 37)
    """

    rtol: float
    atol: tuple[float, ...]
    order: float

    @property
    def grow(self) -> float:
        """The squared error that leaves a step of twice the length a little short of what is allowed."""
        return float(_SAFETY * 4.0**-self.order)

    @property
    def shrink(self) -> float:
        """The squared error at which half the step would still be too long."""
        return float(4.0**self.order)

    @property
    def cap(self) -> float:
        """The largest squared error that is told from larger ones."""
        return 256.0 * self.shrink

    @property
    def shares(self) -> NDArray[np.float64]:
        """The squared error of steps at each level for one of the root step."""
        return np.array([4.0 ** (-self.order * level) for level in range(LEVELS)])

    @property
    def numbers(self) -> NDArray[np.float64]:
        """All of it as the kernels take it: rtol, grow, shrink, cap, the shares, atol."""
        return np.array([self.rtol, self.grow, self.shrink, self.cap, *self.shares, *self.atol])


def control(model: Any, method: Method, rtol: float, atol: tuple[float, ...]) -> Control:
    """The control of a method's steps: its error over √h goes like h^q, q its strong order (order + ½ without noise).

    >>> import sdesim as sim
    >>> from sdesim.methods import find
    >>> control(sim.SDE({"x": "-x"}, {"x": "x"}), find("milstein", ("sde",)), 1e-3, (1e-6,)).order
    1.0
    """
    noise, strong = model.noise_type, method.strong or 0.5
    q = {"none": (method.order or 1.0) + 0.5, "additive": max(1.0, strong), "general": 0.5}.get(noise, strong)
    return Control(rtol, atol, q)


def serves(method: Method) -> tuple[str, ...]:
    """The types of noise for which a method converges with steps chosen by the error, by its order and calculus.

    >>> from sdesim.methods import find
    >>> serves(find("milstein", ("sde",))), serves(find("euler_maruyama", ("sde",)))
    (('none', 'additive', 'scalar', 'diagonal', 'commutative'), ('none', 'additive'))
    """
    if method.kind != "sde" or method.points is not None:
        return ()
    first = (method.strong or 0.0) >= 1.0
    able = {*_CALM, *(_COMMUTING if first else ())} | (
        {"general"} if first and method.calculus == "stratonovich" else set()
    )
    return tuple(t for t in NOISE_TYPES if t in able and t in method.noise)


def refusal(method: Method, model: Any) -> str | None:
    """Why the steps of a method cannot follow an error estimate for a model; None if they can.

    >>> import sdesim as sim
    >>> from sdesim.methods import find
    >>> refusal(find("sra1", ("sde",)), sim.SDE({"x": "-x"}, {"x": "0.3"})) is None
    True
    """
    if model.jumps and model.bounds:
        return "between the events of jumps bounds would have to be watched up to the events' own times"
    if model.jumps and method.requires is not None:
        return "it takes models of a structure that the state which says when jumps come breaks"
    if method.kind != "sde":
        return "it takes no steps of a size that could follow an error estimate"
    if model.noise_type not in serves(method):
        return (f"for {model.noise_type} noise steps chosen by the error would bias it, which leaves out terms of mean "
                "zero (Gaines & Lyons 1997)")  # fmt: skip
    if _draws_more(method, model):
        return "it draws more than ΔW and ∫W for a step, which have no path that is given in advance"
    return None


@lru_cache(maxsize=256)
def _draws_more(method: Method, model: Any) -> bool:
    """Whether a step asks for random numbers besides ΔW and ∫W."""
    one, half = np.float64(1.0), np.float64(0.5)  # NumPy's, which divide by zero without raising
    m = BoundSDE(model, method.calculus or "ito", dict.fromkeys(model.parameters, one))
    n, asked = len(m.channels), set()

    def draw(kind: str, number: int) -> np.float64:
        asked.add((kind, number))
        return half

    with np.errstate(all="ignore"):
        method.step(m, one - one, Vector([one] * m.dimension), half * half, Wiener(Vector([half] * n), half, draw))
    return any(kind != "a" or number >= n for kind, number in asked)


@lru_cache(maxsize=1)
def _samples() -> tuple[Any, ...]:
    """A model with each type of noise, Langevin equations where they may be."""
    both = {"x": "-x", "y": "-y"}
    return (
        SDE({"x": "v", "v": "-x"}),
        SDE({"x": "v", "v": "-x"}, {"v": "1"}),
        SDE({"x": "-x"}, {"x": "x"}),
        SDE(both, {"x": "x", "y": "y"}),
        SDE(both, {s: {"a": s, "b": f"2*{s}"} for s in both}),
        SDE(both, {"x": {"a": "1", "b": "y"}, "y": {"a": "x*x", "b": "1"}}),
    )


def adapts(method: Method) -> tuple[str, ...]:
    """The types of noise for which the steps of a method can follow an error estimate.

    >>> from sdesim.methods import find
    >>> adapts(find("quicsort", ("sde",)))
    ('none',)
    """
    if method.kind != "sde":
        return ("none",) if method.kind == "reference" or getattr(method, "embedded", None) is not None else ()
    return tuple(m.noise_type for m in _samples() if method.refusal(m) is None and refusal(method, m) is None)
