"""A method traced over an SDE: one step as a graph, the common source of the LLVM and the CUDA kernel.

The graph's symbols: "y:i" state i, "z:c" the standard normal of Wiener process c, "p:name" a parameter, and "t:",
"h:", "s:" for the time, the step and its square root. No user's name contains a colon.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdesim.expressions import Expr, const, symbol
from sdesim.methods.bound import BoundSDE, Wiener
from sdesim.methods.method import Method
from sdesim.methods.vector import Vector, is_structural_zero
from sdesim.models.sde import SDE


@dataclass(frozen=True)
class SDETrace:
    """One step X ↦ X': an expression for each state, in the symbols above.

    `varying` are the parameters that differ between members; the others are one number for all.
    """

    step: tuple[Expr, ...]
    channels: int
    parameters: tuple[str, ...]
    varying: tuple[str, ...]

    @property
    def dimension(self) -> int:
        """How many states there are."""
        return len(self.step)


def trace(model: SDE, method: Method, varying: frozenset[str]) -> SDETrace:
    """Run the method's own lines on symbols.

    >>> from sdesim.methods import find
    >>> ou = SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1, "s": 1})
    >>> trace(ou, find("euler_maruyama", ("sde",)), frozenset()).step
    (y:0 + -p:k*y:0*h: + p:s*(z:0*s:),)
    """
    names = tuple(model.parameters)
    m = BoundSDE(model, method.calculus or "ito", {n: symbol(f"p:{n}") for n in names})
    y = Vector(symbol(f"y:{i}") for i in range(m.dimension))
    dW = Vector(symbol(f"z:{c}") * symbol("s:") for c in range(len(m.channels)))
    step = method.step(m, symbol("t:"), y, symbol("h:"), Wiener(dW))
    nodes = tuple(const(0.0) if is_structural_zero(e) else e for e in step)
    return SDETrace(nodes, len(m.channels), names, tuple(n for n in names if n in varying))
