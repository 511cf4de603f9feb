"""Steady states: F(u) = 0 for the right-hand side of a stencil, by Newton's method led by time.

    (I − aJ) δ = a F(u),   u ← u + δ,   J = ∂F/∂u,

one step of backward Euler of length a, linearised (pseudo-transient continuation; Kelley & Keyes, SIAM J. Numer. Anal.
35, 1998, eq. 1.2). While u changes by more than a small part of itself in a step, a is held: the start leads to the end
that it leads to in time, not to a state that is steady but unstable. As it settles, a grows to Newton's method. For
equations affine in the states a is long at once, and what is left of time only keeps the mean of a state that nothing
changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import const
from sdesim.kernels.implicit_model import Model
from sdesim.kernels.implicit_operator import Operator, Split
from sdesim.kernels.implicit_solvers import Solver
from sdesim.stencils import Stencil

Array: TypeAlias = NDArray[np.float64]
_FAR, _NEAR = 1e10, 1.0  # steps in units of the shortest time of the operator
_SMALL, _LARGE = 0.05, 0.2  # changes of u in a step, parts of the largest |u|
_LINEAR = 1e-12  # of the residual in the iterative solves
MOST = 400


@dataclass(frozen=True)
class Steady:
    """A steady state (states, *space): whether it was reached, the Newton steps, max |F| and what solved them."""

    states: Array
    reached: bool
    iterations: int
    residual: float
    solver: str


def relax(stencil: Stencil, parameters: Mapping[str, Any], initial: Array, tolerance: float) -> Steady:
    """The steady state of one member that `initial` (states, *space) leads to.

    It is reached where a long step changes u by no more than tolerance times max |u|.

    Raises:
        ValueError: a state whose integral nothing changes but a source that does not sum to zero.
    """
    parts = Split(stencil, stencil.right_side, tuple(const(0.0) for _ in stencil.right_side), ())
    model, u = Model(parts, parameters, 1.0), initial[:, None].astype(np.float64)
    affine = not model.bent
    F = model.L(0.0, u)
    jacobian = model.jacobian(0.0, u)
    elsewhere = u if affine else u + np.random.default_rng(0).random(u.shape)  # a slope may vanish by chance at u
    kept, fastest = model.jacobian(0.0, elsewhere).conserved, _fastest(jacobian)
    size = float(np.abs(F).max())
    _check_balance(stencil, jacobian, F, kept, size)
    far = _FAR / fastest
    a, solver = far if affine else _NEAR / fastest, None
    for k in range(MOST):
        solver = solver or Solver(jacobian, a)
        with np.errstate(all="ignore"):
            change = _keep(solver.solve(a * F, np.zeros_like(F), np.array([_LINEAR])), jacobian, kept)
            ahead = model.L(0.0, u + change)
            part = float(np.abs(change).max()) / max(float(np.abs(u + change).max()), 1e-300)
        if not (np.isfinite(ahead).all() and np.isfinite(part)) or not affine and part > 2.0 * _LARGE:
            a, solver = a / 4.0, None  # too far for a line: a shorter time
            continue
        u, F, size = u + change, ahead, float(np.abs(ahead).max())
        if a == far and part <= tolerance:
            return Steady(u[:, 0], True, k + 1, size, solver.names[0])
        if not affine:  # what grows changes u by a part of itself, and is followed; what decays needs no care
            a = min(a * (3.0 if part < _SMALL else 1.0 if part < _LARGE else 0.5), far)
            jacobian, solver = model.jacobian(0.0, u), None
    return Steady(u[:, 0], False, MOST, size, "")


def _fastest(jacobian: Operator) -> float:
    """The largest entry of J, a bound of its fastest rate but for a small factor."""
    return max((float(np.abs(c).max()) for c in jacobian.entries.values()), default=0.0) or 1.0


def _keep(change: Array, jacobian: Operator, kept: list[int]) -> Array:
    """Take out of a step what it would change of integrals that nothing changes."""
    for i in kept:
        change[i] -= jacobian.mean(change[i])
    return change


def _check_balance(stencil: Stencil, jacobian: Operator, F: Array, kept: list[int], first: float) -> None:
    for i in kept:
        net, name = jacobian.mean(F[i]).item(), stencil.model.state[i]
        if abs(net) > 1e-9 * max(first, 1e-300):
            raise ValueError(
                f"there is no steady state: nothing takes out what sources and edges bring to {name}, "
                f"in the mean {net:.4g} per time; make them balance, or hold a value at an edge (Dirichlet, Robin)")
