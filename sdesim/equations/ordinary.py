"""Stochastic differential equations of physics, chemistry and finance, by name."""

from __future__ import annotations

from typing import Any

from sdesim.models.sde import SDE


def ornstein_uhlenbeck(theta: Any = 1.0, mu: Any = 0.0, sigma: Any = 1.0) -> SDE:
    """Relaxation with additive noise, dx = θ(μ − x) dt + σ dW (Uhlenbeck & Ornstein, Phys. Rev. 36, 1930).

    Stationary law N(μ, σ²/2θ).

    >>> print(ornstein_uhlenbeck())
    dx = (theta*(mu - x)) dt + (sigma) dW_x   [Itô]
    """
    return SDE({"x": "theta*(mu - x)"}, {"x": "sigma"}, parameters={"theta": theta, "mu": mu, "sigma": sigma})


def geometric_brownian_motion(mu: Any = 0.05, sigma: Any = 0.2) -> SDE:
    """Exponential growth with proportional noise, dx = μx dt + σx dW (Black & Scholes, J. Polit. Econ. 81, 1973).

    >>> geometric_brownian_motion().noise_type
    'scalar'
    """
    return SDE({"x": "mu*x"}, {"x": "sigma*x"}, parameters={"mu": mu, "sigma": sigma})


def cox_ingersoll_ross(kappa: Any = 1.0, theta: Any = 1.0, sigma: Any = 0.5) -> SDE:
    """Mean reversion that stays positive, dx = κ(θ − x) dt + σ√x dW (Cox, Ingersoll & Ross, Econometrica 53, 1985).

    Positive for 2κθ ≥ σ². √max(x, 0) is taken, so that a discrete step below zero returns.

    >>> cox_ingersoll_ross().noise_type
    'scalar'
    """
    return SDE(
        {"x": "kappa*(theta - x)"},
        {"x": "sigma*sqrt(max(x, 0))"},
        parameters={"kappa": kappa, "theta": theta, "sigma": sigma},
    )


def double_well(sigma: Any = 0.5) -> SDE:
    """Overdamped motion in the potential x⁴/4 − x²/2, dx = (x − x³) dt + σ dW (Kramers, Physica 7, 1940).

    Stationary density ∝ exp(−2V/σ²).

    >>> double_well().noise_type
    'additive'
    """
    return SDE({"x": "x - x**3"}, {"x": "sigma"}, parameters={"sigma": sigma})


def langevin(force: str = "x - x**3", gamma: Any = 0.5, kT: Any = 0.3) -> SDE:
    """Underdamped motion of unit mass, dx = v dt, dv = (F(x) − γv) dt + √(2γkT) dW (Langevin, C. R. 146, 1908).

    Stationary density ∝ exp(−(v²/2 + V)/kT), F = −V'.

    >>> langevin().states
    ('x', 'v')
    """
    return SDE(
        {"x": "v", "v": f"({force}) - gamma*v"}, {"v": "sqrt(2*gamma*kT)"}, parameters={"gamma": gamma, "kT": kT}
    )


def kubo(omega: Any = 1.0, sigma: Any = 0.5) -> SDE:
    """An oscillator of random frequency, dz = iωz dt + iσz∘dW, z = x + iy (Kubo, J. Phys. Soc. Japan 9, 1954).

    |z| is constant and E z = z₀ e^{iωt − σ²t/2}.

    >>> kubo().interpretation
    'stratonovich'
    """
    return SDE(
        {"x": "-omega*y", "y": "omega*x"},
        {"x": {"W": "-sigma*y"}, "y": {"W": "sigma*x"}},
        parameters={"omega": omega, "sigma": sigma},
        interpretation="stratonovich",
    )


def lorenz63(s: Any = 10.0, r: Any = 28.0, b: Any = 8.0 / 3.0, q: Any = 1.0) -> SDE:
    """Lorenz' convection with additive noise q in every mode (Lorenz, J. Atmos. Sci. 20, 1963).

    >>> lorenz63().states
    ('x', 'y', 'z')
    """
    return SDE(
        {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"},
        {"x": "q", "y": "q", "z": "q"},
        parameters={"s": s, "r": r, "b": b, "q": q},
    )


def lorenz96(n: int = 40, F: Any = 8.0, q: Any = 1.0) -> SDE:
    """Lorenz' circle of latitude with noise, dx_i = ((x_{i+1} − x_{i−2})x_{i−1} − x_i + F) dt + q dW_i.

    n ≥ 4 states x0 … on a ring; the quadratic term keeps Σx_i² (Lorenz, ECMWF seminar on predictability, 1996).

    >>> lorenz96(5).states
    ('x0', 'x1', 'x2', 'x3', 'x4')
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 4:
        raise ValueError(f"lorenz96 has n ≥ 4 states on its ring, got {n!r}")
    drift = {f"x{i}": f"(x{(i + 1) % n} - x{(i - 2) % n})*x{(i - 1) % n} - x{i} + F" for i in range(n)}
    return SDE(drift, dict.fromkeys(drift, "q"), parameters={"F": F, "q": q})


def van_der_pol(mu: Any = 1.0, sigma: Any = 0.3) -> SDE:
    """A self-sustained oscillator, dx = v dt, dv = (μ(1 − x²)v − x) dt + σ dW (van der Pol, Phil. Mag. 2, 1926).

    Without noise and for small μ its limit cycle has the amplitude 2.

    >>> van_der_pol().noise_type
    'additive'
    """
    return SDE({"x": "v", "v": "mu*(1 - x**2)*v - x"}, {"v": "sigma"}, parameters={"mu": mu, "sigma": sigma})


def excitable_neuron(epsilon: Any = 0.01, a: Any = 1.05, sigma: Any = 0.2) -> SDE:
    """FitzHugh–Nagumo's neuron driven by noise, ε dv = (v − v³/3 − w) dt, dw = (v + a) dt + σ dW.

    For |a| > 1 it rests at v = −a until noise makes it fire; firing is most regular at an intermediate σ (Pikovsky &
    Kurths, Phys. Rev. Lett. 78, 1997, doi:10.1103/PhysRevLett.78.775).

    >>> excitable_neuron().states
    ('v', 'w')
    """
    return SDE(
        {"v": "(v - v**3/3 - w)/epsilon", "w": "v + a"}, {"w": "sigma"},
        parameters={"epsilon": epsilon, "a": a, "sigma": sigma},
    )  # fmt: skip


def brusselator_in_a_cell(A: Any = 1.0, B: Any = 3.0, volume: Any = 1000.0) -> SDE:
    """The Brusselator in a volume Ω, as a chemical Langevin equation (Gillespie, J. Chem. Phys. 113, 2000).

    ∅ → X (rate A), X → Y (B x), 2X + Y → 3X (x²y), X → ∅ (x), each reaction with its own Wiener process. It oscillates
    for B > 1 + A², else it rests around (A, B/A) (Prigogine & Lefever, J. Chem. Phys. 48, 1968).

    >>> brusselator_in_a_cell().channels
    ('feed', 'turn', 'grow', 'leave')
    """
    x, y = "max(x, 0)", "max(y, 0)"
    feed, turn, grow, leave = (f"sqrt({rate}/volume)" for rate in ("A", f"B*{x}", f"{x}**2*{y}", x))
    return SDE(
        {"x": "A - (B + 1)*x + x**2*y", "y": "B*x - x**2*y"},
        {"x": {"feed": feed, "turn": f"-{turn}", "grow": grow, "leave": f"-{leave}"},
         "y": {"turn": turn, "grow": f"-{grow}"}},
        parameters={"A": A, "B": B, "volume": volume},
    )  # fmt: skip


def epidemic(beta: Any = 0.3, gamma: Any = 0.1, population: Any = 10_000.0) -> SDE:
    """Susceptible, infected and recovered persons with demographic noise (Kermack & McKendrick 1927; Allen 2008, §3.3).

    Infection βSI/N and recovery γI each bring a Wiener process, so that S + I + R stays N. β/γ infections per case.

    >>> epidemic().channels
    ('infection', 'recovery')
    """
    infection, recovery = "beta*max(S, 0)*max(I, 0)/population", "gamma*max(I, 0)"
    return SDE(
        {"S": f"-{infection}", "I": f"{infection} - {recovery}", "R": recovery},
        {"S": {"infection": f"-sqrt({infection})"},
         "I": {"infection": f"sqrt({infection})", "recovery": f"-sqrt({recovery})"},
         "R": {"recovery": f"sqrt({recovery})"}},
        parameters={"beta": beta, "gamma": gamma, "population": population},
    )  # fmt: skip


def heston(
    mu: Any = 0.05, kappa: Any = 2.0, theta: Any = 0.04, xi: Any = 0.3, rho: Any = -0.7
) -> SDE:
    """A price with random variance, dS = μS dt + √v S dW₁, dv = κ(θ − v) dt + ξ√v (ρ dW₁ + √(1 − ρ²) dW₂).

    E S = S₀e^{μt}; √max(v, 0) is taken (Heston, Rev. Financ. Stud. 6, 1993, doi:10.1093/rfs/6.2.327).

    >>> heston().noise_type
    'general'
    """
    root = "sqrt(max(v, 0))"
    return SDE(
        {"S": "mu*S", "v": "kappa*(theta - v)"},
        {"S": {"W1": f"{root}*S"}, "v": {"W1": f"xi*rho*{root}", "W2": f"xi*sqrt(1 - rho**2)*{root}"}},
        parameters={"mu": mu, "kappa": kappa, "theta": theta, "xi": xi, "rho": rho},
    )


def kramers(barrier: Any = 1.0, gamma: Any = 5.0, kT: Any = 0.25) -> SDE:
    """Escape over a barrier E in the potential E(x² − 1)², unit mass (Kramers, Physica 7, 1940).

    For strong friction and E ≫ kT each well is left at the rate (ω₀ω_b/2πγ) e^{−E/kT}, ω₀² = 8E, ω_b² = 4E.

    >>> kramers().states
    ('x', 'v')
    """
    return SDE(
        {"x": "v", "v": "4*barrier*x*(1 - x**2) - gamma*v"}, {"v": "sqrt(2*gamma*kT)"},
        parameters={"barrier": barrier, "gamma": gamma, "kT": kT},
    )  # fmt: skip


def tracer(U: Any = 1.0, D: Any = 0.1, contrast: Any = 0.5) -> SDE:
    """A particle in cellular flow with a diffusivity that varies in space, on the 2π-periodic plane.

    The stream function is −U sin x sin y and D(x, y) = D(1 + ε sin x cos y), ε < 1. In Hänggi–Klimontovich's calculus a
    tracer that is well mixed stays so, whatever D (Thomson, J. Fluid Mech. 180, 1987, doi:10.1017/S0022112087001940).

    >>> tracer().interpretation
    'hanggi-klimontovich'
    """
    amplitude = "sqrt(2*D*(1 + contrast*sin(x)*cos(y)))"
    return SDE(
        {"x": "U*sin(x)*cos(y)", "y": "-U*cos(x)*sin(y)"}, {"x": amplitude, "y": amplitude},
        parameters={"U": U, "D": D, "contrast": contrast}, interpretation="hanggi-klimontovich",
    )  # fmt: skip
