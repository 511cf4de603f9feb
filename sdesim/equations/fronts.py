"""Fronts, pulses and populations: growth that spreads, excitation, flames, epidemics, predators, chemotaxis."""

from __future__ import annotations

from typing import Any

from sdesim.grids import Grid
from sdesim.models.pde import PDE


def fisher_kpp(grid: Grid, diffusivity: Any = 1.0, rate: Any = 1.0, boundary: Any = None, **options: Any) -> PDE:
    """Logistic growth that spreads, ∂u/∂t = D ∇²u + r u(1 − u) (Fisher, Ann. Eugen. 7, 1937).

    Fronts run at 2√(rD). With D = r = 1 one of speed 5/√6 is known: (1 + e^{(x − 5t/√6)/√6})^{−2} (Ablowitz &
    Zeppetella 1979).

    >>> print(fisher_kpp(Grid(x=(0, 1, 8))).reaction["u"])
    rate*u*(1 - u)
    """
    return PDE(
        grid, diffusivity="D", reaction={"u": "rate*u*(1 - u)"}, parameters={"D": diffusivity, "rate": rate},
        boundary=boundary, **options,
    )  # fmt: skip


def nagumo(
    grid: Grid, diffusivity: Any = 1.0, rate: Any = 1.0, threshold: Any = 0.25, boundary: Any = None, **options: Any
) -> PDE:
    """Two stable states and a threshold a, ∂u/∂t = D ∇²u + r u(1 − u)(u − a) (Nagumo et al., Proc. IRE 50, 1962).

    Its front 1/(1 + e^{(x − ct)√(r/2D)}) runs at c = √(rD/2)(1 − 2a).

    >>> print(nagumo(Grid(x=(0, 1, 8))).reaction["u"])
    rate*u*(1 - u)*(u - a)
    """
    return PDE(
        grid, diffusivity="D", reaction={"u": "rate*u*(1 - u)*(u - a)"}, boundary=boundary,
        parameters={"D": diffusivity, "rate": rate, "a": threshold}, **options,
    )  # fmt: skip


def fitzhugh_nagumo(
    grid: Grid, epsilon: Any = 0.08, a: Any = 0.7, b: Any = 0.8, current: Any = 0.0, diffusivity: Any = 1.0,
    recovery_diffusivity: Any = 0.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Excitable nerve, ∂u/∂t = D ∇²u + u − u³/3 − v + I, ∂v/∂t = D_v ∇²v + ε(u + a − bv) (FitzHugh 1961).

    Pulses and spirals. While v stands still, a front between the outer roots u₁ < u₂ < u₃ of the cubic runs at
    √(D/6)(u₁ + u₃ − 2u₂).

    >>> fitzhugh_nagumo(Grid(x=(0, 1, 8))).parameters["epsilon"]
    0.08
    """
    return PDE(
        grid, state=("u", "v"), diffusivity={"u": "D", "v": "Dv"},
        reaction={"u": "u - u**3/3 - v + current", "v": "epsilon*(u + a - b*v)"}, boundary=boundary,
        parameters={"D": diffusivity, "Dv": recovery_diffusivity, "epsilon": epsilon, "a": a, "b": b,
                    "current": current}, **options,
    )  # fmt: skip


def combustion(
    grid: Grid, beta: Any = 10.0, alpha: Any = 0.8, diffusivity: Any = 1.0, boundary: Any = None, **options: Any
) -> PDE:
    """A premixed flame at Lewis number 1, ∂θ/∂t = D ∇²θ + ½β²(1 − θ) exp(−β(1 − θ)/(1 − α(1 − θ))).

    θ is the temperature from fresh (0) to burnt (1), β the Zeldovich number, α the heat release. In these units the
    flame's speed tends to 1 as β → ∞ (Zeldovich & Frank-Kamenetskii 1938; Williams, Combustion Theory, 1985, §5.3).

    >>> combustion(Grid(x=(0, 1, 8))).state
    ('theta',)
    """
    return PDE(
        grid, state=("theta",), diffusivity="D", boundary=boundary,
        reaction="beta**2/2*(1 - theta)*exp(-beta*(1 - theta)/(1 - alpha*(1 - theta)))",
        parameters={"D": diffusivity, "beta": beta, "alpha": alpha}, **options,
    )  # fmt: skip


def sir(
    grid: Grid, contact: Any = 1.0, recovery: Any = 0.25, diffusivity: Any = 1.0, boundary: Any = None, **options: Any
) -> PDE:
    """An epidemic among the susceptible S, infected I and recovered R, all of whom wander (Kermack & McKendrick 1927).

    ∂S/∂t = D ∇²S − βSI, ∂I/∂t = D ∇²I + βSI − γI, ∂R/∂t = D ∇²R + γI. Its wave into S = 1 runs at 2√(D(β − γ))
    (Noble, Nature 250, 1974), and leaves s behind where all are still alike: ln s = −(β/γ)(1 − s).

    >>> sir(Grid(x=(0, 1, 8))).state
    ('S', 'I', 'R')
    """
    return PDE(
        grid, state=("S", "I", "R"), diffusivity="D", boundary=boundary,
        reaction={"S": "-contact*S*I", "I": "contact*S*I - recovery*I", "R": "recovery*I"},
        parameters={"D": diffusivity, "contact": contact, "recovery": recovery}, **options,
    )  # fmt: skip


def lotka_volterra(
    grid: Grid, growth: Any = 1.0, predation: Any = 1.0, conversion: Any = 1.0, death: Any = 1.0,
    Du: Any = 1.0, Dv: Any = 1.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Prey u and predators v, R_u = αu − βuv, R_v = δuv − γv, spreading (Lotka 1925; Volterra 1926; Dunbar 1983).

    Without diffusion δu − γ ln u + βv − α ln v is constant. Predators invade prey at u₀ with speed 2√(D_v(δu₀ − γ)).

    >>> print(lotka_volterra(Grid(x=(0, 1, 8))).reaction["v"])
    delta*u*v - gamma*v
    """
    return PDE(
        grid, state=("u", "v"), diffusivity={"u": "Du", "v": "Dv"}, boundary=boundary,
        reaction={"u": "alpha*u - beta*u*v", "v": "delta*u*v - gamma*v"},
        parameters={"alpha": growth, "beta": predation, "delta": conversion, "gamma": death, "Du": Du, "Dv": Dv},
        **options,
    )  # fmt: skip


def keller_segel(
    grid: Grid, chemotaxis: Any = 5.0, diffusivity: Any = 1.0, signal_diffusivity: Any = 1.0, production: Any = 1.0,
    decay: Any = 1.0, capacity: Any = None, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Cells ρ that climb the gradient of the signal c that they make (Keller & Segel, J. Theor. Biol. 26, 1970).

    ∂ρ/∂t = ∇·(D ∇ρ − χρ ∇c), ∂c/∂t = D_c ∇²c + αρ − βc. The number of cells is constant; ρ = ρ₀ is unstable for
    χαρ₀ > βD. In two dimensions much mass collapses to points; a `capacity` ρₘ fills volume, χρ(1 − ρ/ρₘ) (Painter &
    Hillen 2002), and does not.

    >>> print(keller_segel(Grid(x=(0, 1, 8))).diffusivity["rho"]["c"])
    -chi*rho
    """
    parameters = {"D": diffusivity, "Dc": signal_diffusivity, "chi": chemotaxis, "alpha": production, "beta": decay}
    flux = "-chi*rho"
    if capacity is not None:
        flux, parameters = "-chi*rho*(1 - rho/capacity)", {**parameters, "capacity": capacity}
    return PDE(
        grid, state=("rho", "c"), diffusivity={"rho": {"rho": "D", "c": flux}, "c": "Dc"},
        reaction={"c": "alpha*rho - beta*c"}, parameters=parameters, boundary=boundary, **options,
    )  # fmt: skip
