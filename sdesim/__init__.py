"""Ensembles of physical diffusion processes: SDEs, PDEs and SPDEs, described by their mathematics.

    import sdesim as sim

    ou = sim.SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1.0, "s": 0.5})
    ds = sim.simulate(ou, {"x": 1.0}, times=[0.0, 0.5, 1.0], members=1000, dt=0.01, seed=1)

Names are imported when they are first used, so that `import sdesim` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, not lazily: importing the package sdesim.methods later would put the package in the function's place.
from sdesim.catalogue import methods

_HOME = {
    "SDE": "models.sde",
    "PDE": "models.pde",
    "Jump": "models.jumps",
    "AccuracyWarning": "forecast",
    "Grid": "grids",
    "RadialGrid": "curved",
    "SphereGrid": "curved",
    "Periodic": "boundaries",
    "Dirichlet": "boundaries",
    "Neumann": "boundaries",
    "Robin": "boundaries",
    "Reflecting": "boundaries",
    "Absorbing": "boundaries",
    "WhiteNoise": "fields",
    "ColouredNoise": "fields",
    "ConservedNoise": "fields",
    "GaussianField": "fields",
    "simulate": "simulation",
    "rerun": "replay",
    "brownian": "paths",
    "check": "checking",
    "estimate": "estimation.estimate",
    "fokker_planck": "models.fokker_planck",
    "equations": "",
    "steady": "equilibrium",
    "survival": "exits",
    "save": "storage",
    "open": "storage",
}
__all__ = [
    "AccuracyWarning",
    "Absorbing",
    "ColouredNoise",
    "ConservedNoise",
    "Dirichlet",
    "GaussianField",
    "Grid",
    "Jump",
    "Neumann",
    "PDE",
    "Periodic",
    "RadialGrid",
    "Reflecting",
    "Robin",
    "SDE",
    "SphereGrid",
    "WhiteNoise",
    "brownian",
    "check",
    "equations",
    "estimate",
    "fokker_planck",
    "methods",
    "open",
    "rerun",
    "save",
    "simulate",
    "steady",
    "survival",
]

if TYPE_CHECKING:
    from sdesim import equations
    from sdesim.boundaries import Absorbing, Dirichlet, Neumann, Periodic, Reflecting, Robin
    from sdesim.checking import check
    from sdesim.curved import RadialGrid, SphereGrid
    from sdesim.equilibrium import steady
    from sdesim.estimation.estimate import estimate
    from sdesim.exits import survival
    from sdesim.fields import ColouredNoise, ConservedNoise, GaussianField, WhiteNoise
    from sdesim.forecast import AccuracyWarning
    from sdesim.grids import Grid
    from sdesim.models.fokker_planck import fokker_planck
    from sdesim.models.jumps import Jump
    from sdesim.models.pde import PDE
    from sdesim.models.sde import SDE
    from sdesim.paths import brownian
    from sdesim.replay import rerun
    from sdesim.simulation import simulate
    from sdesim.storage import open, save


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("sdesim.datasets").version()
    if name not in _HOME:
        raise AttributeError(f"sdesim has no {name!r}; it has {', '.join(__all__)}")
    home = _HOME[name]
    value = import_module(f"sdesim.{name}") if not home else getattr(import_module(f"sdesim.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
