"""Heat and mass in media that hold them: solutes that stick to grains, ice that melts, water in the ground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdesim.boundaries import Dirichlet, Neumann
from sdesim.fields import GaussianField
from sdesim.grids import Grid
from sdesim.models.pde import PDE

_HELD = "(1 - porosity)/porosity*density"  # mass of grains per volume of water
_BARE = f"capacity*(1 + {_HELD}*K) - K*w"  # of Langmuir's quadratic equation for c, K c² + b c − capacity·w = 0
_ROOT = f"sqrt(({_BARE})**2 + 4*K*capacity*w)"
ISOTHERMS = {
    "linear": {"c": f"w/(1 + {_HELD}*K)"},
    "freundlich": {"c": f"c + {_HELD}*K*c**n"},
    "langmuir": {"c": f"where({_BARE} > 0, 2*capacity*w/({_BARE} + {_ROOT}), ({_ROOT} - ({_BARE}))/(2*K))"},
}


def diffusion_sorption(
    grid: Grid, isotherm: str = "freundlich", diffusivity: Any = 5e-4, K: Any = 3.5e-4, exponent: Any = 0.874,
    capacity: Any = 1e-3, porosity: Any = 0.29, density: Any = 2880.0, velocity: Mapping[str, Any] | None = None,
    inlet: Any = 1.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """A solute that spreads in pore water and sticks to grains, ∂w/∂t = D ∇²c − ∇·(v c), w = c + ((1 − φ)/φ) ρ s(c).

    w is what a volume of water holds with the grains at it, c what is dissolved, s(c) what a mass of grains bears: Kc
    ("linear"), Kcⁿ ("freundlich") or Kc/(1 + Kc/capacity) ("langmuir"; Limousin et al., Appl. Geochem. 22, 2007). ∫w
    is kept to round-off. Where c varies little it spreads R = dw/dc times slower: the retardation factor. The numbers
    are PDEBench's (Takamoto et al., NeurIPS 2022, after Nowak & Guthke, Entropy 18, 2016). c is held at `inlet` where x
    is lowest, no flux elsewhere. Start from {"w": …}, with Freundlich's isotherm also from {"c": …}.
    Raises ValueError for an unknown isotherm.

    >>> print(diffusion_sorption(Grid(x=(0, 1, 8))))
    ∂w/∂t = ∇·(D ∇c)
    w = c + (1 - porosity)/porosity*density*K*c**n
    D = 0.0005, K = 0.00035, porosity = 0.29, density = 2880, inlet = 1, n = 0.874
    x: u = inlet at the low side, ∂u/∂n = 0 at the high side
    """
    if isotherm not in ISOTHERMS:
        raise ValueError(f"isotherm is one of {', '.join(ISOTHERMS)}; got {isotherm!r}")
    own = {"freundlich": {"n": exponent}, "langmuir": {"capacity": capacity}}.get(isotherm, {})
    return PDE(
        grid, state=("w",), diffusivity="D", velocity=velocity, potential={"w": ISOTHERMS[isotherm]},
        boundary={"x": (Dirichlet("inlet"), Neumann(0.0))} if boundary is None else boundary,
        parameters={"D": diffusivity, "K": K, "porosity": porosity, "density": density, "inlet": inlet, **own},
        **options,
    )  # fmt: skip


def stefan(
    grid: Grid, latent: Any = 1.0, conductivity: Any = 1.0, capacity: Any = 1.0, solid_conductivity: Any = None,
    solid_capacity: Any = None, melting: Any = 0.0, wall: Any = 1.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Melting and freezing by the enthalpy method, ∂h/∂t = ∇·(k ∇T) (Stefan 1891; Voller & Cross 1981).

    h is the enthalpy per volume from the solid at the melting point on, T the temperature: h = C_s(T − T_m) in the
    solid, `latent` + C_l(T − T_m) in the liquid, and in between T stays at T_m while h/latent is molten. From a wall at
    T_w a front runs into a solid at T_m as 2λ√(α_l t), √π λ e^{λ²} erf λ = St = C_l(T_w − T_m)/latent (Neumann's
    solution; Carslaw & Jaeger 1959, §11.2, also for a colder solid). Held at `wall` where x is lowest, no flux
    elsewhere; what is not said of the solid is as in the liquid. Start from {"h": …}: 0 is ice about to melt.

    >>> print(stefan(Grid(x=(0, 1, 8)), latent=2.0))
    ∂h/∂t = ∇·(where(T > melting, kl, ks) ∇T)
    T = melting + min(h, 0)/Cs + max(h - latent, 0)/Cl
    latent = 2, kl = 1, ks = 1, Cl = 1, Cs = 1, melting = 0, wall = 1
    x: u = wall at the low side, ∂u/∂n = 0 at the high side
    """
    ks, Cs = (b if a is None else a for a, b in ((solid_conductivity, conductivity), (solid_capacity, capacity)))
    return PDE(
        grid, state=("h",), diffusivity="where(T > melting, kl, ks)",
        potential={"h": {"T": "melting + min(h, 0)/Cs + max(h - latent, 0)/Cl"}},
        boundary={"x": (Dirichlet("wall"), Neumann(0.0))} if boundary is None else boundary,
        parameters={"latent": latent, "kl": conductivity, "ks": ks, "Cl": capacity, "Cs": Cs, "melting": melting,
                    "wall": wall}, **options,
    )  # fmt: skip


def darcy(
    grid: Grid, log_conductivity: Any = None, recharge: Any = 0.0, boundary: Any = None, **options: Any
) -> PDE:
    """Water in the ground, 0 = ∇·(eᵃ ∇p) + q for the head p: `sim.steady(darcy(grid))` (Darcy 1856; Freeze 1975).

    a is the logarithm of the conductivity: a number, an array, or a Gaussian field of which each member has its own (if
    None of deviation 1 and a tenth of the shortest side long). p is held at 1 and 0 at the ends of x unless `boundary`
    says otherwise. The mean flux down a unit gradient is that of the harmonic mean of eᵃ on a line, and of e^{E a} in
    a large isotropic plane (Matheron, Éléments pour une théorie des milieux poreux, 1967).

    >>> print(darcy(Grid(x=(0, 1, 8), y=(0, 1, 8))))
    ∂p/∂t = ∇·(exp(a) ∇p) + recharge
    recharge = 0
    x: u = 1 at the low side, u = 0 at the high side
    y: ∂u/∂n = 0 on both sides
    """
    if log_conductivity is None:
        log_conductivity = GaussianField(std=1.0, length=0.1 * min(grid.lengths.values()))
    return PDE(
        grid, state=("p",), diffusivity="exp(a)", reaction="recharge",
        parameters={"a": log_conductivity, "recharge": recharge},
        boundary={"x": (Dirichlet(1.0), Dirichlet(0.0))} if boundary is None else boundary, **options,
    )  # fmt: skip
