"""Conserved noise: the divergence of random fluxes through the faces of the cells.

∇·(a ξ) is the divergence of the fluxes a(u_f) ξ_f through the faces, u_f the mean of both cells, ξ_f = √(h/V) z:
what leaves one cell enters the next. Nothing goes through edges that are not periodic. For du = D∇²u + ∇·(√(2Dρ) ξ) the
discrete divergence and gradient are adjoint, so that the stationary variance is ρ/V in every mode (Donev,
Vanden-Eijnden, Garcia & Bell, Comm. Appl. Math. Comp. Sci. 5, 149, 2010).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim.boundaries import Periodic
from sdesim.calculus import evaluate
from sdesim.coefficients import over_space
from sdesim.expressions import Expr
from sdesim.models.pde import PDE

Array: TypeAlias = NDArray[np.float64]


def conserved(model: PDE, state: int, amplitude: Expr, t: float, parameters: Mapping[str, Any], y: Any,
              dW: Array) -> Array:
    """∇·(a(u_f) ξ_f) of one state.

    Args:
        model: the PDE.
        state: its number.
        amplitude: a, of the states, the coordinates, t and parameters.
        t: the time.
        parameters: numbers, or arrays over the members.
        y: the states (members, *space).
        dW: ξ on the low faces along each axis, (axes, members, *space).
    """
    grid = model.grid
    fields = dict(zip(model.state, y, strict=True))
    known = {**grid.mesh, **{n: np.asarray(v)[None] for n, v in model.fields.items()}, "t": np.float64(t),
             **{name: over_space(v, grid.dimension) for name, v in parameters.items()}}
    total = np.zeros(dW.shape[1:])
    for k, axis in enumerate(grid.axes):
        on_faces = {name: 0.5 * (v + np.roll(v, 1, k + 1)) for name, v in fields.items()}
        on_faces |= {name: 0.5 * (known[name] + np.roll(known[name], 1, k + 1)) for name in model.fields}
        on_faces[axis] = grid.mesh[axis] - 0.5 * grid.spacing[axis]
        flux = evaluate((amplitude,), {**known, **on_faces})[0] * dW[k]
        if not isinstance(model.boundary[model.state[state]][axis][0], Periodic):
            flux[(slice(None), *[slice(None)] * k, 0)] = 0.0
        total += (np.roll(flux, -1, k + 1) - flux) / grid.spacing[axis]
    return total
