"""A field equation as data: what diffuses, flows, reacts and fluctuates on a grid.

    ∂uᵢ/∂t = ∇·(Σⱼ Dᵢⱼ ∇uⱼ) − ∇·(vᵢ uᵢ) + Rᵢ(u, ∇u, x, t, p) − κᵢ∇⁴uᵢ + noiseᵢ

Where a state has a potential, ∇ and v act on that instead (`sdesim.models.potential`). Every coefficient is an `Expr`
of the coordinates, t, the states, their first derivatives ddx(u), ddy(u), ddz(u), the parameters p and named
coefficient fields (arrays over the grid).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdesim import boundaries
from sdesim.calculus import differentiate, free_symbols
from sdesim.expressions import Expr, is_zero
from sdesim.fields import ConservedNoise, GaussianField, Noise, WhiteNoise
from sdesim.models import pde_input, pde_text
from sdesim.models.potential import Potential
from sdesim.orthogonal import Orthogonal
from sdesim.printing import to_text

ADVECTION = ("central", "upwind", "limited", "weno")
CROSS_FLUX = ("central", "limited")
Tensor: TypeAlias = tuple[tuple[Expr, ...], ...]
Diffusivity: TypeAlias = "Expr | Tensor"


@dataclass(frozen=True, eq=False, repr=False)
class PDE:
    """A system of diffusion equations on a grid, with transport, reaction and noise.

    Args:
        grid: where the fields live.
        state: names of the fields.
        diffusivity: expression | array over the grid | nested list of these (a tensor in x-y-z order) |
            ``{"u": one of these}``; ``{"u": {"v": ...}}`` for the flux of u that ∇v drives. Length²/time.
        velocity: ``{"x": expression, "y": ...}`` for all states, or ``{"u": {"x": ...}}``. Length/time.
        reaction: ``{"u": expression or array}``, or the expression alone where there is one state.
        hyperdiffusivity: κ ≥ 0 of −κ∇⁴u, free of the coordinates, t and the states: ``{"u": expression}``, or the
            expression for all states. Length⁴/time. The Laplacian of the state meets the edge as the state does, with
            zero for its value or flux. Taken by the spectral methods. With it a state's diffusivity may be negative.
        noise: ``{"u": WhiteNoise(amplitude) | ColouredNoise(amplitude, length, smoothness) |
            ConservedNoise(amplitude)}``, or the noise alone.
        advection: how finite volumes take v u at a face: "central", "upwind", "limited" (order 2, no new extremes) or
            "weno" (order 5 in one dimension), see `sdesim.stencil_limited`. None is central where the cell Péclet
            number |v|Δ/D is at most 2, else limited (upwind in methods that need an affine model).
        cross_flux: how they take what a tensor's entries off the diagonal drive: "central" or "limited" (a maximum
            principle). None is central where these are constant, else limited.
        boundary: see `sdesim.boundaries.normalise`; the default is no flux.
        parameters: ``{"kappa": number}``; an array over the grid becomes a coefficient field of that name, a
            `GaussianField` one of which every member has its own.
        potential: ``{"h": {"T": expression of h}}``, or ``{"w": {"c": expression of c that is w}}``: what diffuses and
            is carried in place of a state, and what the edges of that state hold; see `sdesim.models.potential`. All
            expressions know it by its name. Taken by explicit methods on finite volumes; `simulate` adds it to the
            Dataset. Enthalpy and temperature, a solute and what of it is dissolved.
        units: ``{"u": "K", "x": "m", "time": "s"}``: strings for the attributes of the output. Where those of all that
            a term holds are stated, they must agree (`sdesim.models.units`).

    Attributes:
        diffusivity: ``{i: {j: Expr or tensor}}`` without the terms that are zero.
        velocity: ``{state: {axis: Expr}}``, reaction and hyperdiffusivity ``{state: Expr}``, boundary
            ``{state: {axis: (low, high)}}``.
        fields: coefficient fields by name, float64 arrays of the grid's shape; of a random one the mean.
        random: the laws of coefficient fields of which every member has its own, by name.

    Raises:
        KeyError: a state, axis or parameter that does not exist.
        ValueError: an expression with an unknown name, a negative diffusivity or a tensor that is negative in
            some direction (for the given parameters), an array of the wrong shape, a reserved or repeated name.

    >>> from sdesim.grids import Grid
    >>> print(PDE(Grid(x=(0, 1, 8)), diffusivity="kappa", reaction="-u", parameters={"kappa": 0.1}))
    ∂u/∂t = ∇·(kappa ∇u) - u
    kappa = 0.1
    x: ∂u/∂n = 0 on both sides
    """

    grid: Orthogonal
    state: tuple[str, ...] = ("u",)
    _: KW_ONLY
    diffusivity: Mapping[str, Mapping[str, Diffusivity]] | Any
    velocity: Mapping[str, Mapping[str, Expr]] | Any = None
    reaction: Mapping[str, Expr] | Any = None
    hyperdiffusivity: Mapping[str, Expr] | Any = None
    noise: Mapping[str, Noise] | Any = None
    boundary: boundaries.Boundary | Any = None
    parameters: Mapping[str, float] | Any = None
    potential: Mapping[str, Potential] | Any = None
    units: Mapping[str, str] | Any = None
    advection: str | None = None
    cross_flux: str | None = None
    fields: Mapping[str, NDArray[np.float64]] = field(init=False)
    random: Mapping[str, GaussianField] = field(init=False)

    def __post_init__(self) -> None:
        for name, value in pde_input.normalise(self).items():
            frozen = value if isinstance(value, tuple) else MappingProxyType(value)
            object.__setattr__(self, name, frozen)
        for name, known in (("advection", ADVECTION), ("cross_flux", CROSS_FLUX)):
            if getattr(self, name) not in (None, *known):
                raise ValueError(f"{name} is one of {', '.join(known)}, or None; got {getattr(self, name)!r}")

    @property
    def expressions(self) -> dict[str, tuple[Expr, ...]]:
        """Every expression of the right-hand side by the piece that it belongs to."""
        diffusivity = tuple(part for row in self.diffusivity.values() for term in row.values()
                            for part in entries(term))
        return {
            "diffusivity": diffusivity,
            "velocity": tuple(part for row in self.velocity.values() for part in row.values()),
            "reaction": tuple(self.reaction.values()),
            "hyperdiffusivity": tuple(self.hyperdiffusivity.values()),
            "noise": tuple(term.amplitude for term in self.noise.values()),
        }

    def uses(self, piece: str) -> frozenset[str]:
        """Names that one piece (diffusivity, velocity, reaction, hyperdiffusivity or noise) depends on.

        >>> from sdesim.grids import Grid
        >>> sorted(PDE(Grid(x=(0, 1, 8)), diffusivity="k*x", parameters={"k": 1.0}).uses("diffusivity"))
        ['k', 'x']
        """
        return frozenset().union(*(free_symbols(part) for part in self.expressions[piece]))

    @property
    def variable_names(self) -> frozenset[str]:
        """The states, their potentials and the derivatives ddx(u), … of these: what changes as the fields change."""
        fields = (*self.state, *(term.name for term in self.potential.values()))
        return frozenset(fields) | {f"dd{axis}({name})" for axis in self.grid.axes for name in fields}

    def flowing(self, state: str) -> str:
        """What of a state diffuses and is carried: the name of its potential, or its own."""
        return self.potential[state].name if state in self.potential else state

    @property
    def is_linear(self) -> bool:
        """Whether the deterministic right-hand side is affine in the states."""
        variables = self.variable_names
        if self.potential or (self.uses("diffusivity") | self.uses("velocity")) & variables:
            return False
        return all(not free_symbols(differentiate(term, name)) & variables
                   for term in self.reaction.values() for name in variables & free_symbols(term))

    def is_constant_coefficient(self, *pieces: str) -> bool:
        """Whether the pieces (diffusivity and velocity unless named) depend on parameters alone."""
        named = pieces or ("diffusivity", "velocity")
        return all(self.uses(piece) <= frozenset(self.parameters) for piece in named)

    @property
    def noise_kind(self) -> str:
        """"none", "additive" (the amplitude is free of the states) or "multiplicative".

        >>> from sdesim.grids import Grid
        >>> PDE(Grid(x=(0, 1, 8)), diffusivity=1.0, noise=WhiteNoise("u")).noise_kind
        'multiplicative'
        """
        if not self.noise:
            return "none"
        return "multiplicative" if self.uses("noise") & self.variable_names else "additive"

    @property
    def noise_colour(self) -> str:
        """"none", "white", "coloured", "conserved" or "mixed": the noise in space, over all states."""
        kinds = {"white" if isinstance(term, WhiteNoise) else "conserved" if isinstance(term, ConservedNoise) else
                 "coloured" for term in self.noise.values()}
        return "none" if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"

    def affine_reaction(self, state: str) -> tuple[Expr, dict[str, Expr]]:
        """R = a + Σⱼ bⱼ uⱼ of one state: a, and the coefficients bⱼ that are not zero.

        Raises:
            ValueError: the reaction is not affine in the states, or uses their derivatives.
        """
        return pde_text.affine(self.reaction.get(state), self.state, state)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (text, numbers, lists; coefficient fields stay arrays) from which `from_dict` builds the model."""
        return pde_text.to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PDE:
        """The model that `to_dict` described.

        >>> from sdesim.grids import Grid
        >>> model = PDE(Grid(x=(0, 1, 8)), diffusivity="1 + x**2")
        >>> PDE.from_dict(model.to_dict()) == model
        True
        """
        return cls(**pde_text.from_dict(data))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PDE):
            return NotImplemented
        return pde_text.key(self) == pde_text.key(other)

    def __hash__(self) -> int:
        return hash(pde_text.key(self))

    def __str__(self) -> str:
        return pde_text.to_plain(self)

    def __repr__(self) -> str:
        shown = {name: to_text(part) for name, part in self.reaction.items() if not is_zero(part)}
        return f"PDE({self.grid!r}, state={self.state!r}, reaction={shown!r})"

    def to_latex(self) -> str:
        """The equations as a LaTeX aligned environment."""
        return pde_text.to_latex(self)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.to_latex()}$"


def entries(term: Diffusivity) -> tuple[Expr, ...]:
    """The expressions of a diffusivity: one, or those of the tensor row by row."""
    return (term,) if isinstance(term, Expr) else tuple(part for row in term for part in row)
