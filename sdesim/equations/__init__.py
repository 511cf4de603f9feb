"""The catalogue: named equations with their standard parameters and sources, ready for `simulate`.

>>> from sdesim import equations
>>> print(equations.lorenz63())
dx = (s*(y - x)) dt + (q) dW_x   [Itô]
dy = (x*(r - z) - y) dt + (q) dW_y   [Itô]
dz = (x*y - b*z) dt + (q) dW_z   [Itô]
"""

from sdesim.equations.curved import cooling_ball, tracer_on_sphere
from sdesim.equations.diffusion import (
    heat,
    layered_heat,
    ogata_banks,
    plume,
    porous_medium,
    stochastic_heat,
)
from sdesim.equations.fronts import (
    combustion,
    fisher_kpp,
    fitzhugh_nagumo,
    keller_segel,
    lotka_volterra,
    nagumo,
    sir,
)
from sdesim.equations.growth import burgers, edwards_wilkinson, kpz, kuramoto_sivashinsky
from sdesim.equations.kinetics import birth_death, merton, michaelis_menten, predator_prey, schlogl
from sdesim.equations.media import darcy, diffusion_sorption, stefan
from sdesim.equations.networks import reactions
from sdesim.equations.ordinary import (
    brusselator_in_a_cell,
    cox_ingersoll_ross,
    double_well,
    epidemic,
    excitable_neuron,
    geometric_brownian_motion,
    heston,
    kramers,
    kubo,
    langevin,
    lorenz63,
    lorenz96,
    ornstein_uhlenbeck,
    tracer,
    van_der_pol,
)
from sdesim.equations.patterns import brusselator, gierer_meinhardt, gray_scott, schnakenberg
from sdesim.equations.phases import allen_cahn, cahn_hilliard, phi4, swift_hohenberg

__all__ = [
    "allen_cahn",
    "birth_death",
    "brusselator",
    "brusselator_in_a_cell",
    "burgers",
    "cahn_hilliard",
    "combustion",
    "cooling_ball",
    "cox_ingersoll_ross",
    "darcy",
    "diffusion_sorption",
    "double_well",
    "edwards_wilkinson",
    "epidemic",
    "excitable_neuron",
    "fisher_kpp",
    "fitzhugh_nagumo",
    "geometric_brownian_motion",
    "gierer_meinhardt",
    "gray_scott",
    "heat",
    "heston",
    "keller_segel",
    "kpz",
    "kramers",
    "kubo",
    "kuramoto_sivashinsky",
    "langevin",
    "layered_heat",
    "lorenz63",
    "lorenz96",
    "lotka_volterra",
    "merton",
    "michaelis_menten",
    "nagumo",
    "ogata_banks",
    "ornstein_uhlenbeck",
    "phi4",
    "plume",
    "porous_medium",
    "predator_prey",
    "reactions",
    "schlogl",
    "schnakenberg",
    "sir",
    "stefan",
    "stochastic_heat",
    "swift_hohenberg",
    "tracer",
    "tracer_on_sphere",
    "van_der_pol",
]
