"""A model with values put in: what a method's `m` is, on arrays and on symbols alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sdesim.calculus import evaluate, substitute
from sdesim.expressions import Expr, is_zero
from sdesim.methods.vector import ZERO, Vector, add, multiply
from sdesim.models.sde import SDE


class Wiener:
    """The Wiener increments of one step: w.dW, one for each of the model's processes."""

    def __init__(self, dW: Vector) -> None:
        self.dW = dW


class BoundSDE:
    """An SDE in a method's calculus with values for its parameters: arrays, numbers or symbols.

    >>> m = BoundSDE(SDE({"x": "-k*x"}, {"x": "1"}, parameters={"k": 2.0}), "ito", {"k": 2.0})
    >>> [float(v) for v in m.f(0.0, Vector([3.0]))]
    [-6.0]
    """

    def __init__(self, model: SDE, calculus: str, parameters: Mapping[str, Any]) -> None:
        self.model, self.parameters = model, parameters
        self.drift = list(model.drift_in(calculus).values())
        self.dimension, self.channels = len(model.states), model.channels

    def _values(self, nodes: Sequence[Expr], t: Any, y: Sequence[Any]) -> list[Any]:
        env = {**self.parameters, "t": t, **dict(zip(self.model.states, y, strict=True))}
        if any(isinstance(v, Expr) for v in (t, *y)):
            return [ZERO if is_zero(n) else substitute(n, env) for n in nodes]
        values = iter(evaluate([n for n in nodes if not is_zero(n)], env))
        return [ZERO if is_zero(n) else next(values) for n in nodes]

    def f(self, t: Any, y: Vector) -> Vector:
        """Drift at (t, y)."""
        return Vector(self._values(self.drift, t, y))

    def g(self, t: Any, y: Vector) -> dict[tuple[int, int], Any]:
        """Noise at (t, y) by (state, Wiener process), without its structural zeros."""
        keys = [(self.model.states.index(s), self.channels.index(c)) for s, c in self.model.noise]
        return dict(zip(keys, self._values(list(self.model.noise.values()), t, y), strict=True))

    def dot(self, g: Mapping[tuple[int, int], Any], w: Sequence[Any]) -> Vector:
        """Σ_c g_c w_c."""
        total = Vector([ZERO] * self.dimension)
        for (i, c), value in g.items():
            total[i] = add(total[i], multiply(value, w[c]))
        return total

    def noise(self, t: Any, y: Vector, w: Sequence[Any]) -> Vector:
        """Σ_c g_c(t, y) w_c."""
        return self.dot(self.g(t, y), w)

    @cached_property
    def _milstein_terms(self) -> dict[tuple[int, int, int], Expr]:
        names, n = self.model.states, range(len(self.channels))
        terms = {(i, c, k): self.model.derived(self.channels[c], names[i], self.channels[k])
                 for i in range(self.dimension) for c in n for k in n if c <= k}  # fmt: skip
        return {key: term for key, term in terms.items() if not is_zero(term)}

    def milstein(self, t: Any, y: Vector, w: Sequence[Any], h: Any) -> Vector:
        """Σ_{c,k} L^c g_k (w_c w_k − δ_ck h) for commutative noise: the terms c < k count twice."""
        total = Vector([ZERO] * self.dimension)
        values = self._values(list(self._milstein_terms.values()), t, y)
        for (i, c, k), value in zip(self._milstein_terms, values, strict=True):
            factor = w[c] * w[c] - h if c == k else w[c] * w[k] * 2.0
            total[i] = add(total[i], multiply(value, factor))
        return total
