"""Error estimates by Richardson's extrapolation: a member once more with half the step, and on cells twice as wide.

With a method of order p the solution of step h errs by C hᵖ, so that |u_h − u_{h/2}|·2ᵖ/(2ᵖ − 1) is what u_h errs by;
and with cells of width Δ and order q, |ū_Δ − u_{2Δ}|/(2^q − 1) is what u_Δ errs by, ū the means over the wide cells.
Both runs share the member's noise: the halves of a step sum to it, a wide cell has the mean of its cells. The errors
then are those of the path itself, of strong order.

Source: Richardson 1911, doi:10.1098/rsta.1911.0009; Roache 1994, doi:10.1115/1.2910291.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.grids import Grid
from sdesim.kernels.field_reference import Sheet, restrict
from sdesim.methods.method import Method
from sdesim.models.pde import PDE

Array: TypeAlias = NDArray[np.float64]
TIGHTER = 0.1
"""Where steps follow a tolerance, the error is proportional to it: the other run has this part of it."""


def time_order(method: Method, model: PDE) -> float | None:
    """The order that `certify` takes for the error of a step; ∞ for an exact method, None where it is not known.

    >>> from sdesim.grids import Grid
    >>> from sdesim.methods import find
    >>> time_order(find("rkl2", ("stencil",)), PDE(Grid(x=(0, 1, 8)), diffusivity=1.0))
    2.0
    """
    if method.name.startswith("exact"):
        return np.inf
    if not model.noise:
        return method.order
    if method.kind == "spectral" or any(term.correlation_time is not None for term in model.noise.values()):
        return None  # a step's noise is that of the mode, not the sum of its halves
    return 1.0 if model.noise_kind == "additive" else method.strong


def coarsened(model: PDE) -> PDE | None:
    """The model on cells twice as wide, its coefficient fields their means; None where its grid has no such cells.

    Nor with conserved noise, whose law on the wide cells is not that of means of the fine ones.

    >>> from sdesim.grids import Grid
    >>> coarsened(PDE(Grid(x=(0, 1, 8)), diffusivity=1.0)).grid
    Grid(x=(0.0, 1.0, 4))
    """
    grid = model.grid
    if not isinstance(grid, Grid) or not grid.is_box or grid.mask is not None:
        return None
    if any(n % 2 or n < 4 for n in grid.shape) or model.noise_colour in ("conserved", "mixed"):
        return None
    data = model.to_dict()
    fields = {name: restrict(np.asarray(values), 2, grid.dimension) for name, values in data["fields"].items()}
    return PDE.from_dict({**data, "grid": grid.coarsen(2).to_dict(), "fields": fields, "random": {}})


def errors(run: Any, states: Array, notes: Mapping[str, Any], steps: Array | None, threads: int) -> dict[str, Array]:
    """The estimates for the members of a run: "time_error_u", "space_error_u", …, each (members,).

    Args:
        run: what `sdesim.runs.Run` made of the call; its members are those of the states.
        states: (times, states, members, *space), as the run gave them.
        notes: what the engine said of the run.
        steps: the longest step of each member, None where a method takes none.
        threads: over which blocks of members are spread.
    """
    model, found = run.model, dict[str, Array]()
    order = time_order(run.choice.method, model)
    if order is not None:
        fine = states if np.isinf(order) else run.integrated(threads, Sheet(halves=True))
        left = TIGHTER if run.choice.control is not None else 2.0**-order  # of the error
        found |= _largest("time_error", model, (states - fine) * (1.0 / (1.0 - left) if np.isfinite(order) else 0.0))
    wide = coarsened(model)
    if wide is not None:
        axes = model.grid.dimension
        choice = run.choice if steps is None else replace(run.choice, dt=None, steps=steps)
        fields = {name: restrict(v, 2, axes) for name, v in run.parameters.items() if np.ndim(v) > 1}
        again = replace(run, model=wide, initial=restrict(run.initial, 2, axes), choice=choice,
                        parameters={**run.parameters, **fields})
        coarse = again.integrated(threads, Sheet(cells=2))
        found |= _largest("space_error", model, (restrict(states, 2, axes) - coarse) / _gain(notes))
    return found


def _gain(notes: Mapping[str, Any]) -> float:
    """2^q − 1 by the order in space; a spectral method's error is gone on the finer cells, so the difference is all."""
    if notes.get("discretisation") == "spectral":
        return 1.0
    return 1.0 if notes.get("advection") == "upwind" else 3.0


def _largest(kind: str, model: PDE, difference: Array) -> dict[str, Array]:
    """Root mean square over the cells, the largest over the saves, of every state."""
    with np.errstate(all="ignore"):
        rows = difference.reshape(*difference.shape[:3], -1)
        norm = np.sqrt((rows * rows).mean(axis=3)).max(axis=0)
    return {f"{kind}_{name}": norm[i] for i, name in enumerate(model.state)}
