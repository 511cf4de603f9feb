"""Steady states of fields: Darcy flow, the potential of charges, the front that no longer moves.

    0 = ∇·(D ∇u) − ∇·(v u) + R(u, x)

on the finite volumes of `simulate`, for ensembles: see `kernels.implicit_steady` for the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from sdesim.calculus import free_symbols
from sdesim.coefficients import of_member
from sdesim.datasets import to_dataset
from sdesim.ensemble import available_threads
from sdesim.gridded import with_grid
from sdesim.kernels.implicit_steady import Steady, relax
from sdesim.models.pde import PDE
from sdesim.runs import prepare
from sdesim.stencils import Stencil, discretise

if TYPE_CHECKING:
    import xarray as xr

FLAGS = ("ok", "not_reached")


def steady(
    model: PDE,
    initial: Any = 0.0,
    *,
    members: int | Sequence[int] | range = 1,
    parameters: Mapping[str, Any] | None = None,
    design: str = "random",
    seed: int = 0,
    tolerance: float = 1e-10,
) -> xr.Dataset:
    """The steady state of a field for every member: a Dataset with the dimensions (member, *space).

    Parameters
    ----------
    model : a `PDE` without noise whose coefficients and edges do not change with time.
    initial : where the search begins, as for `simulate`; of several steady states, the one that it leads to. Where
        no edge or reaction fixes the mean of a state, that of `initial` is kept.
    members, parameters, design, seed : as for `simulate`.
    tolerance : where Newton steps change the largest |u| by less than this part of it, they end.

    `status` is 1 for a member whose steady state was not reached. Raises TypeError for a model that is no PDE and
    ValueError for noise, for what changes with time, for sources that nothing takes out, and for what `simulate`
    refuses, with the cure.

    >>> import sdesim as sim
    >>> aquifer = sim.PDE(sim.Grid(x=(0.0, 1.0, 50)), diffusivity="1 + x", reaction="q", parameters={"q": 0.0},
    ...                   boundary={"x": (sim.Dirichlet(0.0), sim.Neumann(1.0))})
    >>> bool(abs(sim.steady(aquifer).u[0, -1] - 2 * np.log(1.99)) < 0.001)
    True
    """
    if not isinstance(model, PDE):
        raise TypeError(f"steady takes a PDE, got {type(model).__name__}; for the law in which an SDE ends take the "
                        "steady state of sim.fokker_planck")
    _check(model, tolerance)
    stencil = _discretise(model)
    run = prepare(model, initial, [0.0], members, parameters or {}, "cpu", {
        "design": design, "method": None, "dt": None, "seed": seed, "dtype": "float64", "save": "states"})

    def one(m: int) -> Steady:
        return relax(stencil, of_member(run.parameters, m), run.initial[:, m], tolerance)

    with ThreadPoolExecutor(available_threads()) as pool:
        found = list(pool.map(one, range(len(run.numbers))))
    states = np.stack([s.states for s in found], axis=1)
    ds = to_dataset(
        {name: states[i][:, None] for i, name in enumerate(model.state)}, members=run.numbers, times=[0.0],
        space=run.space, parameters=run.parameters, status=[int(not s.reached) for s in found], units=dict(model.units),
        flags=FLAGS, attributes={
            "equations": str(model), "title": f"steady states of {', '.join(model.state)}", "seed": str(seed),
            "method": "Newton led by time", "solver": ", ".join(dict.fromkeys(s.solver for s in found)),
            "newton_steps": max(s.iterations for s in found), "rate_left": max(s.residual for s in found),
        })
    return with_grid(ds, model).isel(time=0, drop=True)


def _check(model: PDE, tolerance: float) -> None:
    if model.noise:
        raise ValueError("a model with noise ends in a distribution, not in a steady state: simulate it for a long "
                         "time, or leave the noise out")
    if not (isinstance(tolerance, float) and 0.0 < tolerance < 1.0):
        raise ValueError(f"tolerance is a number between 0 and 1, got {tolerance!r}")


def _discretise(model: PDE) -> Stencil:
    """The stencil: transport upwind, whose steady states have no wiggles."""
    for term in model.potential.values():
        raise ValueError(f"what is steady is the potential {term.name}, from which {term.state} follows ({term}): make "
                         f"{term.name} the state")
    stencil = discretise(model, "upwind" if model.velocity else "central")
    if stencil.derived:
        raise ValueError("Newton's method here knows no tensor whose fluxes take slopes in passes of their own: "
                         "make it constant with periodic edges, or align the axes with it")
    edges = [node for axes in stencil.ghosts for pair in axes if pair for side in pair for node in side]
    if "t" in free_symbols(*stencil.right_side, *edges):
        raise ValueError("a steady state wants coefficients and edges that do not change with time, and there is a t "
                         "in them: give it a value, or simulate")
    return stencil
