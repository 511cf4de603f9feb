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
