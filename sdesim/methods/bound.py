"""A model with values put in: what a method's `m` is, on arrays and on symbols alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from sdesim.arithmetic import NUMPY, Machine
from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import Expr, is_zero
from sdesim.methods.vector import ZERO, Vector, add, multiply
from sdesim.models.sde import SDE


class Wiener:
    """What drives one step: dW, one Wiener increment for each process, and on demand further random numbers.

    dZ     as many again, independent and of the same law: ∫ (W − W₀) ds over the step is ½h (dW + dZ/√3)
    signs  independent fair signs ±1, one for each process
    """

    def __init__(self, dW: Vector, root: Any = None, draw: Callable[[str, int], Any] | None = None) -> None:
        self.dW, self.root, self.draw = dW, root, draw

    def _drawn(self, kind: str, word: int) -> Any:
        if self.draw is None:
            raise ValueError("this method needs more than the Wiener increments, and nothing to draw it from was given")
        return self.draw(kind, word)

    @cached_property
    def dZ(self) -> Vector:
        return Vector(self._drawn("a", c) * self.root for c in range(len(self.dW)))

    @cached_property
    def signs(self) -> Vector:
        return Vector(self._drawn("b", c) for c in range(len(self.dW)))

    def normals(self, k: int) -> Vector:
        """Standard normals, one for each process, independent of dW, dZ and of those of any other k ≥ 1."""
        return Vector(self._drawn("a", k << 16 | c) for c in range(len(self.dW)))


class BoundSDE:
    """An SDE in a method's calculus with values for its parameters: arrays, numbers or symbols.

    >>> m = BoundSDE(SDE({"x": "-k*x"}, {"x": "1"}, parameters={"k": 2.0}), "ito", {"k": 2.0})
    >>> [float(v) for v in m.f(0.0, Vector([3.0]))]
    [-6.0]
    """

    def __init__(self, model: SDE, calculus: str, parameters: Mapping[str, Any], machine: Machine = NUMPY) -> None:
        self.model, self.parameters, self.machine = model, parameters, machine
        self.drift = list(model.drift_in(calculus).values())
        self.dimension, self.channels = len(model.states), model.channels

    @cached_property
    def noise_moves(self) -> bool:
        """Whether the noise's amplitude depends on the time."""
        return "t" in free_symbols(*self.model.noise.values())

    def values(self, nodes: Sequence[Expr], t: Any, y: Sequence[Any]) -> list[Any]:
        """Expressions of the model at (t, y); a structural zero stays one."""
        env = {**self.parameters, "t": t, **dict(zip(self.model.states, y, strict=True))}
        if any(isinstance(v, Expr) for v in (t, *y)):
            return [ZERO if is_zero(n) else substitute(n, env) for n in nodes]
        values = iter(evaluate([n for n in nodes if not is_zero(n)], env, self.machine))
        return [ZERO if is_zero(n) else next(values) for n in nodes]

    def f(self, t: Any, y: Vector) -> Vector:
        """Drift at (t, y)."""
        return Vector(self.values(self.drift, t, y))

    def g(self, t: Any, y: Vector) -> dict[tuple[int, int], Any]:
        """Noise at (t, y) by (state, Wiener process), without its structural zeros."""
        keys = [(self.model.states.index(s), self.channels.index(c)) for s, c in self.model.noise]
        return dict(zip(keys, self.values(list(self.model.noise.values()), t, y), strict=True))

    def dot(self, g: Mapping[tuple[int, int], Any], w: Sequence[Any]) -> Vector:
        """Σ_c g_c w_c."""
        total = Vector([ZERO] * self.dimension)
        for (i, c), value in g.items():
            total[i] = add(total[i], multiply(value, w[c]))
        return total

    def column(self, g: Mapping[tuple[int, int], Any], c: int) -> Vector:
        """g_c as a vector."""
        return Vector(g.get((i, c), ZERO) for i in range(self.dimension))

    def felt(self, c: int) -> list[tuple[int, int]]:
        """The entries (state, Wiener process) of g that depend on a state which process c moves."""
        moved = {s for s, name in self.model.noise if name == self.channels[c]}
        names, entries = self.model.states, self.model.noise.items()
        return [(names.index(s), self.channels.index(k)) for (s, k), g in entries if free_symbols(g) & moved]

    def noise(self, t: Any, y: Vector, w: Sequence[Any]) -> Vector:
        """Σ_c g_c(t, y) w_c."""
        return self.dot(self.g(t, y), w)

    @cached_property
    def _slopes(self) -> list[Expr]:
        return [differentiate(f, name) for f in self.drift for name in self.model.states]

    @property
    def is_affine(self) -> bool:
        """Whether the drift is a linear function of the states and a constant: its Jacobian does not depend on them."""
        return not free_symbols(*self._slopes) & set(self.model.states)

    def jacobian(self, t: Any, y: Vector) -> list[list[Any]]:
        """∂f_i/∂x_j at (t, y), derived on the expressions."""
        n, values = self.dimension, self.values(self._slopes, t, y)
        return [values[i * n : (i + 1) * n] for i in range(n)]

    @cached_property
    def _terms(self) -> dict[tuple[int, int, int], Expr]:
        """(L^c g_k)_i by (i, c, k), without the structural zeros."""
        names, n = self.model.states, range(len(self.channels))
        terms = {(i, c, k): self.model.derived(self.channels[c], names[i], self.channels[k])
                 for i in range(self.dimension) for c in n for k in n}  # fmt: skip
        return {key: term for key, term in terms.items() if not is_zero(term)}

    def milstein_general(self, t: Any, y: Vector, integral: Callable[[int, int], Any]) -> Vector:
        """Σ_{c,k} L^c g_k I_(c,k) with the iterated integrals given."""
        total = Vector([ZERO] * self.dimension)
        values = self.values(list(self._terms.values()), t, y)
        for (i, c, k), value in zip(self._terms, values, strict=True):
            total[i] = add(total[i], multiply(value, integral(c, k)))
        return total

    def milstein(self, t: Any, y: Vector, w: Sequence[Any], h: Any) -> Vector:
        """Σ_{c,k} L^c g_k (w_c w_k − δ_ck h) for commutative noise: the terms c < k count twice."""
        total = Vector([ZERO] * self.dimension)
        terms = {key: term for key, term in self._terms.items() if key[1] <= key[2]}
        for (i, c, k), value in zip(terms, self.values(list(terms.values()), t, y), strict=True):
            factor = w[c] * w[c] - h if c == k else w[c] * w[k] * 2.0
            total[i] = add(total[i], multiply(value, factor))
        return total
