"""Patterns out of chemistry: autocatalysis, activators and inhibitors."""

from __future__ import annotations

from typing import Any

from sdesim.equations.edges import periodic
from sdesim.grids import Grid
from sdesim.models.pde import PDE

# Pearson, Science 261 (1993): types by (F, k), with D_u = 2·10⁻⁵ and D_v = 10⁻⁵ on a square of side 2.5
PEARSON = {
    "alpha": (0.010, 0.047),
    "beta": (0.026, 0.051),
    "gamma": (0.022, 0.051),
    "delta": (0.030, 0.055),
    "epsilon": (0.018, 0.055),
    "zeta": (0.022, 0.061),
    "eta": (0.034, 0.063),
    "theta": (0.030, 0.057),
    "iota": (0.046, 0.0594),
    "kappa": (0.050, 0.063),
    "lambda": (0.034, 0.065),
    "mu": (0.046, 0.065),
}

# The Well (Ohana et al., NeurIPS 2024), gray_scott_reaction_diffusion: the same diffusivities, a square of side 2
THE_WELL = {
    "gliders": (0.014, 0.054),
    "bubbles": (0.098, 0.057),
    "maze": (0.029, 0.057),
    "worms": (0.058, 0.065),
    "spirals": (0.018, 0.051),
    "spots": (0.030, 0.062),
}


def gray_scott(
    grid: Grid, pattern: str | None = None, F: Any = 0.037, k: Any = 0.06, Du: Any = 2e-5, Dv: Any = 1e-5,
    boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """Autocatalysis U + 2V → 3V fed at rate F and removed at F + k (Gray & Scott 1984; Pearson, Science 261, 1993).

    `pattern` names one of Pearson's types (alpha … mu) or one of The Well's regimes (gliders, bubbles, maze, worms,
    spirals, spots) and sets F and k; periodic unless `boundary` says otherwise.
    Raises ValueError for an unknown name.

    >>> model = gray_scott(Grid(x=(0, 2.5, 16), y=(0, 2.5, 16)), pattern="lambda")
    >>> model.parameters["F"], model.state
    (0.034, ('u', 'v'))
    """
    if pattern is not None:
        known = PEARSON | THE_WELL
        if pattern not in known:
            raise ValueError(f"pattern is one of Pearson's types {', '.join(PEARSON)} or The Well's regimes "
                             f"{', '.join(THE_WELL)}; got {pattern!r}")
        F, k = known[pattern]
    return PDE(
        grid,
        state=("u", "v"),
        diffusivity={"u": "Du", "v": "Dv"},
        reaction={"u": "F*(1 - u) - u*v**2", "v": "u*v**2 - (F + k)*v"},
        parameters={"F": F, "k": k, "Du": Du, "Dv": Dv},
        boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )


def brusselator(
    grid: Grid, A: Any = 4.5, B: Any = 7.5, Du: Any = 2.0, Dv: Any = 16.0, boundary: Any = None, **options: Any
) -> PDE:
    """Autocatalysis with Turing patterns, R_u = A − (B + 1)u + u²v, R_v = Bu − u²v (Prigogine & Lefever 1968).

    The uniform state (A, B/A) is unstable to patterns for B > (1 + A√(Du/Dv))².

    >>> brusselator(Grid(x=(0, 64, 16))).state
    ('u', 'v')
    """
    return PDE(
        grid,
        state=("u", "v"),
        diffusivity={"u": "Du", "v": "Dv"},
        reaction={"u": "A - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"},
        parameters={"A": A, "B": B, "Du": Du, "Dv": Dv},
        boundary=periodic(grid) if boundary is None else boundary,
        **options,
    )


def schnakenberg(
    grid: Grid, a: Any = 0.1, b: Any = 0.9, Du: Any = 1.0, Dv: Any = 40.0, scale: Any = 1.0, boundary: Any = None,
    **options: Any,
) -> PDE:  # fmt: skip
    """The simplest Turing system, R_u = γ(a − u + u²v), R_v = γ(b − u²v) (Schnakenberg, J. Theor. Biol. 81, 1979).

    The uniform state is (a + b, b/(a + b)²); patterns are spots, closely packed (Murray, Mathematical Biology II,
    2003, §2.4). γ = `scale`; periodic unless `boundary` says otherwise.

    >>> print(schnakenberg(Grid(x=(0, 50, 16))).reaction["v"])
    gamma*(b - u**2*v)
    """
    return PDE(
        grid, state=("u", "v"), diffusivity={"u": "Du", "v": "Dv"},
        reaction={"u": "gamma*(a - u + u**2*v)", "v": "gamma*(b - u**2*v)"},
        parameters={"a": a, "b": b, "Du": Du, "Dv": Dv, "gamma": scale},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip


def gierer_meinhardt(
    grid: Grid, rho: Any = 1.0, mu: Any = 1.0, nu: Any = 1.5, basic: Any = 0.0, saturation: Any = 0.0, Da: Any = 1.0,
    Dh: Any = 40.0, boundary: Any = None, **options: Any,
) -> PDE:  # fmt: skip
    """An activator a and its inhibitor h (Gierer & Meinhardt, Kybernetik 12, 1972).

    R_a = ρa²/(h(1 + κa²)) − μa + ρ₀, R_h = ρa² − νh. Without basic production ρ₀ and saturation κ the uniform state is
    (ν/μ, ρν/μ²). Spots; stripes where κ is large. Periodic unless `boundary` says otherwise.

    >>> gierer_meinhardt(Grid(x=(0, 50, 16))).state
    ('a', 'h')
    """
    return PDE(
        grid, state=("a", "h"), diffusivity={"a": "Da", "h": "Dh"},
        reaction={"a": "rho*a**2/(h*(1 + kappa*a**2)) - mu*a + rho0", "h": "rho*a**2 - nu*h"},
        parameters={"rho": rho, "mu": mu, "nu": nu, "rho0": basic, "kappa": saturation, "Da": Da, "Dh": Dh},
        boundary=periodic(grid) if boundary is None else boundary, **options,
    )  # fmt: skip
