"""Fields by SciPy's implicit solvers: the NumPy right-hand side, and which cells it reads, for any grid and equation.

The Jacobian is found by differences, as many evaluations as it takes columns of one cell's reach to be told apart; its
pattern follows from the loads of the right-hand side, through derived fields and across edges. Each member is solved by
itself; saves come from the solver's own interpolant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.calculus import walk
from sdesim.coefficients import of_member
from sdesim.expressions import Expr
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_static import static_arrays
from sdesim.methods.field_control import STEP_LIMIT, FieldControl
from sdesim.methods.vector import Vector
from sdesim.stencils import Stencil

if TYPE_CHECKING:
    from scipy import sparse

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def pattern(stencil: Stencil) -> sparse.csr_matrix:
    """Where ∂f_i/∂u_j may differ from zero, over (state, cell).

    >>> from sdesim import Grid, PDE
    >>> from sdesim.stencils import discretise
    >>> pattern(discretise(PDE(Grid(x=(0, 1, 4)), diffusivity=1.0))).toarray().astype(int)
    array([[1, 1, 0, 0],
           [1, 1, 1, 0],
           [0, 1, 1, 1],
           [0, 0, 1, 1]])
    """
    from scipy import sparse

    states = stencil.model.state
    known: dict[str, Any] = {}
    for k, name in enumerate(states):
        blocks = [sparse.identity(stencil.model.grid.size) if j == k else None for j in range(len(states))]
        known[name] = _side_by_side(blocks, stencil.model.grid.size)
    for k, node in enumerate(stencil.derived):
        known[f"^{k}"] = _reach(stencil, node, known)
    rows = [_reach(stencil, node, known) for node in stencil.right_side]
    whole = sparse.vstack(rows) + sparse.identity(len(states) * stencil.model.grid.size)
    return sparse.csr_matrix(whole > 0)


def _side_by_side(blocks: list[Any], size: int) -> Any:
    from scipy import sparse

    return sparse.hstack([sparse.csr_matrix((size, size)) if b is None else b for b in blocks]).tocsr()


def _reach(stencil: Stencil, node: Expr, known: dict[str, Any]) -> Any:
    """Which values a graph reads, from each cell."""
    from scipy import sparse

    size = stencil.model.grid.size
    total = sparse.csr_matrix((size, len(stencil.model.state) * size))
    for n in walk([node]):
        if n.op == "load" and n.value[0] in known:
            total = total + _shift(stencil, *n.value) @ known[n.value[0]]
    return total


def _shift(stencil: Stencil, name: str, offset: tuple[int, ...]) -> Any:
    """The cell that lies `offset` from each, beyond an edge the one from which its ghost is made."""
    from scipy import sparse

    shape, state = stencil.model.grid.shape, stencil.model.state
    place = len(state) + int(name[1:]) if name.startswith("^") else state.index(name)
    index = np.indices(shape)
    for axis, o in enumerate(offset):
        moved = index[axis] + o
        wraps = stencil.ghosts[place][axis] is None
        index[axis] = moved % shape[axis] if wraps else np.clip(moved, 0, shape[axis] - 1)
    columns = np.ravel_multi_index(tuple(index), shape).ravel()
    n = columns.size
    return sparse.csr_matrix((np.ones(n), (np.arange(n), columns)), shape=(n, n))


def run(stencil: Stencil, solver: str, parameters: Mapping[str, Any], control: FieldControl, initial: Array,
        times: Array, longest: float, out: Array) -> tuple[NDArray[np.int8], dict[str, Integers]]:
    """Integrate every member by a solver of scipy.integrate.

    Args:
        stencil: the discrete model.
        solver: "BDF" or "Radau".
        parameters: numbers or arrays over the members.
        control: the tolerances.
        initial: (states, members, *space).
        times: the start and the saves.
        longest: of the steps.
        out: (intervals, states, members, *space), filled by the run.

    Returns:
        status, 2 where the solver gave up, NaN from there on; and steps and right-hand sides of each member.
    """
    count, reach = initial.shape[1], pattern(stencil)
    status, taken = np.zeros(count, np.int8), np.zeros((2, count), np.int64)
    with np.errstate(all="ignore"):
        for m in range(count):
            own = of_member(parameters, m)
            statics = {name: values[0] for name, values in static_arrays(stencil, own).items()}
            member = _Member(Reference(stencil, own, statics), initial[:, m].shape)
            options = {"rtol": control.rtol, "atol": np.repeat(control.atol, stencil.model.grid.size),
                       "max_step": longest, "jac_sparsity": reach}  # fmt: skip
            done, *taken[:, m] = member.solve(solver, options, initial[:, m], times.tolist(), out[:, :, m])
            if done < len(out):
                status[m] = STEP_LIMIT
                out[done:, :, m] = np.nan
    return status, dict(zip(("steps", "right_sides"), taken, strict=True))


class _Member:
    """One member's equations as SciPy sees them."""

    def __init__(self, reference: Reference, shape: tuple[int, ...]) -> None:
        self.reference, self.shape, self.zero = reference, shape, np.zeros(shape[1:])

    def rate(self, t: float, y: Array) -> Array:
        """dy/dt of the flat state."""
        return np.stack([self.zero + f for f in self.reference.f(t, Vector(y.reshape(self.shape)))]).ravel()

    def solve(self, solver: str, options: dict[str, Any], u: Array, times: list[float],
              out: Array) -> tuple[int, int, int]:
        """(saves that were reached, steps, right-hand sides)."""
        from scipy import integrate

        run = getattr(integrate, solver)(self.rate, times[0], u.ravel(), times[-1], **options)
        reached = steps = 0
        while run.status == "running":
            try:
                run.step()
            except (ValueError, RuntimeError):  # a matrix with what is no number
                break
            if run.status == "failed" or not np.isfinite(run.y).all():
                break
            steps += 1
            while reached < len(out) and times[reached + 1] <= run.t:
                out[reached] = run.dense_output()(times[reached + 1]).reshape(self.shape)
                reached += 1
        return reached, steps, run.nfev
