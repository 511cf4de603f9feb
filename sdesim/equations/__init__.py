"""The catalogue: named equations with their standard parameters and sources, ready for `simulate`.

>>> from sdesim import equations
>>> print(equations.lorenz63())
dx = (s*(y - x)) dt + (q) dW_x   [Itô]
dy = (x*(r - z) - y) dt + (q) dW_y   [Itô]
dz = (x*y - b*z) dt + (q) dW_z   [Itô]
"""

from sdesim.equations.fields import (
    allen_cahn,
    brusselator,
    fisher_kpp,
    gray_scott,
    heat,
    stochastic_heat,
)
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

__all__ = [
    "allen_cahn",
    "brusselator",
    "brusselator_in_a_cell",
    "cox_ingersoll_ross",
    "double_well",
    "epidemic",
    "excitable_neuron",
    "fisher_kpp",
    "geometric_brownian_motion",
    "gray_scott",
    "heat",
    "heston",
    "kramers",
    "kubo",
    "langevin",
    "lorenz63",
    "lorenz96",
    "ornstein_uhlenbeck",
    "stochastic_heat",
    "tracer",
    "van_der_pol",
]
