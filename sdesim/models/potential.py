"""What diffuses and is carried in place of a state: the temperature of an enthalpy, the dissolved part of a solute.

    ∂w/∂t = ∇·(D ∇c) − ∇·(v c) + R,      c = φ(w), or w = C(c)

The state w is what is conserved, its *potential* c what flows: every flux leaves one cell and enters the next, so that
∫w is kept to round-off however steep φ is. Edges say what they say of c. φ never falls; it may stand still, as the
temperature does while ice melts (the enthalpy method: Voller & Cross, Int. J. Heat Mass Transfer 24, 1981).

The other way round, C(c) rises from C(0) = 0 as adsorption isotherms do, and c ≥ 0 is found from it by Newton's method
on ln C over ln c,

    c ← c (w/C)^{C/(c C′)},     from c = w,

of which every adsorption isotherm that is a power at both ends needs few steps: the same number for all cells, so that
it is an expression like any other. Where w ≤ 0 nothing is dissolved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import differentiate, evaluate, free_symbols, substitute
from sdesim.expressions import Expr, maximum, symbol, where
from sdesim.printing import to_text

Array: TypeAlias = NDArray[np.float64]
_NEWTON = 5
_LEAST = 1e-300  # of w and c
_EVEN = 65
_DOUBLINGS, _HALVINGS = 200, 60


@dataclass(frozen=True)
class Potential:
    """The potential of one state.

    Attributes:
        state: w.
        name: c.
        expression: φ in terms of w, or C in terms of c.
    """

    state: str
    name: str
    expression: Expr

    @property
    def is_content(self) -> bool:
        """Whether the expression is C(c) rather than φ(w)."""
        return self.name in free_symbols(self.expression)

    @cached_property
    def of_state(self) -> Expr:
        """φ as a graph of the state.

        >>> c, k = symbol("c"), symbol("k")
        >>> dissolved = Potential("w", "c", c + k * c**0.5)
        >>> [w] = evaluate([dissolved.expression], {"c": 4.0, "k": 3.0})
        >>> round(float(evaluate([dissolved.of_state], {"w": w, "k": 3.0})[0]), 12)
        4.0
        """
        if not self.is_content:
            return self.expression
        w, slope = maximum(symbol(self.state), _LEAST), differentiate(self.expression, self.name)
        c = w
        for _ in range(_NEWTON):
            C, rise = (substitute(node, {self.name: c}) for node in (self.expression, slope))
            c = maximum(c * (w / C) ** (C / (c * rise)), _LEAST)
        return where(symbol(self.state) > _LEAST, c, 0.0)

    def values(self, w: Any, known: Mapping[str, Any]) -> Any:
        """φ(w) on arrays, with the values of what else it names."""
        return evaluate([self.of_state], {**known, self.state: w})[0]

    def steepest(self, w: Array, edges: Array, known: Mapping[str, Any]) -> Array:
        """The largest dφ/dw by member between the least and the largest c at the start and at the edges.

        Args:
            w: (members, *space).
            edges: values of c at the edges, (members | 1, values).
            known: what else φ names, shaped (members | 1, *space).

        Raises:
            ValueError: φ falls or is not finite somewhere between, does not take an edge's value, or C is not inverted.
        """
        shape, axes = (-1, *(1 for _ in w.shape[1:])), tuple(range(1, w.ndim))
        with np.errstate(all="ignore"):
            c = np.asarray(self.values(w, known)) * np.ones_like(w)
            low = np.fmin(c.min(axis=axes), np.fmin.reduce(edges, axis=1, initial=np.inf)).reshape(shape)
            high = np.fmax(c.max(axis=axes), np.fmax.reduce(edges, axis=1, initial=-np.inf)).reshape(shape)
            if self.is_content:
                C = differentiate(self.expression, self.name)
                slopes = [1.0 / evaluate([C], {**known, self.name: at})[0] for at in _between(low, high)]
                self._check_inverse(low, high, known)
            else:
                slope = differentiate(self.expression, self.state)
                ends = (self._reach(pick(w, axes, keepdims=True), to, sign, known)
                        for pick, to, sign in ((np.min, low, -1.0), (np.max, high, 1.0)))
                slopes = [evaluate([slope], {**known, self.state: at})[0] for at in _between(*ends)]
        found = np.stack([np.broadcast_to(s, w.shape).reshape(len(w), -1) for s in slopes])
        if not np.all(found >= 0.0):
            raise ValueError(f"{self} must rise with {self.name if self.is_content else self.state}, or stand still, "
                             "wherever the start and the edges are: diffusion down a falling potential runs backwards")
        return np.asarray(found.max(axis=(0, 2)))

    def _reach(self, w: Array, c: Array, sign: float, known: Mapping[str, Any]) -> Array:
        """w, or as far below (sign −1) or above it (+1) as it takes for φ to be at c."""
        lacking = self._is_short(w, c, sign, known)
        if not np.any(lacking):
            return w
        near = far = w * np.ones(lacking.shape)
        step = np.maximum(np.abs(near), 1.0)
        for _ in range(_DOUBLINGS):
            lacking = self._is_short(far, c, sign, known)
            if not np.any(lacking):
                break
            near, far = np.where(lacking, far, near), np.where(lacking, far + sign * step, far)
            step = np.where(lacking, 2.0 * step, step)
        else:
            raise ValueError(f"{self} takes no value such as {float(np.max(c)):g}, which is that of an edge: hold the "
                             f"edge at a value of {self.name}, or change the potential")
        for _ in range(_HALVINGS):
            middle = 0.5 * (near + far)
            lacking = self._is_short(middle, c, sign, known)
            near, far = np.where(lacking, middle, near), np.where(lacking, far, middle)
        return far

    def _is_short(self, w: Array, c: Array, sign: float, known: Mapping[str, Any]) -> NDArray[np.bool_]:
        return np.asarray(sign * (c - self.values(w, known)) > 0.0)

    def _check_inverse(self, low: Array, high: Array, known: Mapping[str, Any]) -> None:
        for c in _between(np.maximum(low, 0.0), high):
            again = self.values(evaluate([self.expression], {**known, self.name: c})[0], known)
            if not np.all(np.abs(again - c) <= 1e-9 * np.abs(c)):
                raise ValueError(f"{self} is not found from {self.state} by Newton's method: it must rise from 0 at 0 "
                                 f"for {self.name} ≥ 0, as a power does; give {self.name} as an expression of "
                                 f"{self.state} instead")

    def __str__(self) -> str:
        given = (self.state, self.name) if self.is_content else (self.name, self.state)
        return f"{given[0]} = {to_text(self.expression)}"


def _between(low: Array, high: Array) -> list[Array]:
    """Values from low to high: evenly, and ever closer to each end."""
    parts = np.geomspace(1e-12, 0.5, 33)
    return [low + (high - low) * s for s in sorted({*np.linspace(0.0, 1.0, _EVEN), *parts, *(1.0 - parts)})]
