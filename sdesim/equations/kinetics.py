"""Models that jump: chemical kinetics in numbers of molecules, populations, a price."""

from __future__ import annotations

from typing import Any

from sdesim.equations.networks import reactions
from sdesim.models.jumps import Jump
from sdesim.models.sde import SDE


def merton(mu: Any = 0.05, sigma: Any = 0.2, rate: Any = 1.0, mean: Any = -0.1, spread: Any = 0.15) -> SDE:
    """A price that diffuses and jumps, dS = μS dt + σS dW + S(e^{m + δz} − 1) dN (Merton, J. Financ. Econ. 3, 1976).

    E S = S₀ exp((μ + λκ)t) with κ = e^{m + δ²/2} − 1: for a martingale take μ = r − λκ. ln S is a normal variable for a
    given number of jumps, which is Poisson of mean λt (doi:10.1016/0304-405X(76)90022-2).

    >>> print(merton())
    dS = (mu*S) dt + (sigma*S) dW_S + (S*(exp(mean + spread*z) - 1)) dN_S   [Itô]
    N_S: rate rate; z ~ normal
    """
    return SDE(
        {"S": "mu*S"}, {"S": "sigma*S"}, jumps={"S": Jump("rate", "S*(exp(mean + spread*z) - 1)")},
        parameters={"mu": mu, "sigma": sigma, "rate": rate, "mean": mean, "spread": spread},
    )  # fmt: skip


def birth_death(birth: Any = 10.0, death: Any = 1.0, kind: str = "jumps") -> SDE:
    """Immigration and death, ∅ → X at the rate λ, X → ∅ at μ each (Feller, Acta Biotheor. 5, 1939).

    From x₀ the law is that of a Poisson variable of mean λ(1 − e^{−μt})/μ and a binomial one of x₀ and e^{−μt};
    stationary: Poisson of mean λ/μ. `kind` as for `reactions`.

    >>> birth_death().states
    ('X',)
    """
    values = {"birth": birth, "death": death}
    return reactions(["0 -> X", "X -> 0"], rate=["birth", "death"], parameters=values, kind=kind)


def michaelis_menten(bind: Any = 0.00166, part: Any = 1e-4, make: Any = 0.1, kind: str = "jumps") -> SDE:
    """An enzyme at work, S + E ⇌ SE → P + E (Michaelis & Menten, Biochem. Z. 49, 1913).

    Constants for numbers of molecules, as in Wilkinson, Stochastic Modelling for Systems Biology (2006), §7.3, where
    S = 301 and E = 120 at the start. S + SE + P and E + SE do not change. `kind` as for `reactions`.

    >>> michaelis_menten().states
    ('S', 'E', 'SE', 'P')
    """
    return reactions(
        ["S + E <-> SE", "SE -> P + E"], rate=[("bind", "part"), "make"],
        parameters={"bind": bind, "part": part, "make": make}, kind=kind,
    )  # fmt: skip


def predator_prey(grow: Any = 10.0, eat: Any = 0.01, die: Any = 10.0, kind: str = "jumps") -> SDE:
    """Prey X that breed, predators Y that eat them and die: X → 2X, X + Y → 2Y, Y → ∅ (Lotka 1920; Volterra 1926).

    Constants of Gillespie, J. Phys. Chem. 81, 1977 (doi:10.1021/j100540a008), eq. 38, who starts from X = Y = 1000,
    where the rate equation rests. `kind` as for `reactions`.

    >>> predator_prey().states
    ('X', 'Y')
    """
    return reactions(
        ["X -> 2X", "X + Y -> 2Y", "Y -> 0"], rate=["grow", "eat", "die"],
        parameters={"grow": grow, "eat": eat, "die": die}, kind=kind,
    )  # fmt: skip


def schlogl(
    c1: Any = 3e-7, c2: Any = 1e-4, c3: Any = 1e-3, c4: Any = 3.5, A: Any = 1e5, B: Any = 2e5, kind: str = "jumps"
) -> SDE:
    """Two stable states, A + 2X ⇌ 3X and B ⇌ X with A and B kept constant (Schlögl, Z. Phys. 253, 1972).

    At these constants the law of X from 250 on has a peak near 85 and one near 565 (Gillespie, Markov Processes, 1992,
    §6.5; Vellela & Qian, J. R. Soc. Interface 6, 2009, doi:10.1098/rsif.2008.0476). `kind` as for `reactions`.

    >>> schlogl().states
    ('X',)
    """
    return reactions(
        ["2X <-> 3X", "0 <-> X"], rate=[("c1*A", "c2"), ("c3*B", "c4")],
        parameters={"c1": c1, "c2": c2, "c3": c3, "c4": c4, "A": A, "B": B}, kind=kind,
    )  # fmt: skip
