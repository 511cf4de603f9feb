"""What the kernels of a transition are given: coefficients that are one number, and rows of those of each member."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdesim.methods.exact_draws import Rule, Transition


class Shape(NamedTuple):
    """What a kernel is made for: the rule, how many states, and which coefficients differ between members."""

    rule: Rule
    states: int
    varying: tuple[bool, ...]


def shape_of(law: Transition, states: int) -> Shape:
    """The kernel that a transition needs.

    >>> from sdesim.methods.exact_draws import Growth
    >>> law = Transition(Growth(1, ((0, 0),)), [np.zeros(3), np.asarray(0.5)])
    >>> shape_of(law, 1).varying
    (True, False)
    """
    return Shape(law.rule, states, tuple(np.ndim(c) > 0 for c in law.coefficients))


def tables(law: Transition, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(a number for each coefficient, 0 where they differ; rows of those that differ), for so many members."""
    uniform = [0.0 if np.ndim(c) else float(c) for c in law.coefficients]
    rows = [np.broadcast_to(c, count) for c in law.coefficients if np.ndim(c)]
    return np.array([*uniform, 0.0]), np.array(rows).reshape(len(rows), count)
