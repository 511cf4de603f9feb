"""Forward processes beyond the table of `processes.py`: those that take arguments, and those of fields, mode by mode.

General    any smooth α(t), σ(t): f = α'/α, g² = dσ²/dt − 2fσ², the derivatives by autograd; σ/α inverted by bisection
Chain      DDPM's β₁ … β_N seen as VP: on (i − 1, i] the rate is β(t) = −ln(1 − β_i), so that at integers
           α² = Π(1 − β_j) exactly, and `diffusions.ancestral` on consecutive integers is Ho et al.'s chain (eq. 7)
Heat       dx = κ∇²x dt + g dW: a mode of −∇² with eigenvalue μ becomes a x + √v ε,
           a = e^{−κμt}, v = g²(1 − a²)/2κμ  (g²t for μ = 0)
Coloured   another process whose noise has the amplitude c of the data, mode by mode: σ_k = c_k σ

For Heat and Coloured x are coefficients (n, channels, *modes) and α, σ hold one value per mode; t is a scalar. The
denoiser's level σ/α then has one value per mode too, as the Gaussian's W = λ/(λ + σ²) takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from sdesim.grids import Grid
from sdesim.spectral import Kind, Transform
from surrogates.processes import EDM, VE, VP, Cosine, Flow, Process, SubVP


@dataclass(frozen=True)
class General:
    """x_t = alpha(t) x₀ + sigma(t) ε for functions of tensors, σ/α increasing on (0, longest).

    >>> bridge = General(lambda t: 1 - t, lambda t: t, longest=1.0)
    >>> round(float(bridge.drift(torch.tensor(0.5, dtype=torch.float64))), 6)                 # −1/(1 − t)
    -2.0
    """

    signal: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]
    longest: float

    def alpha(self, t: Tensor) -> Tensor:
        """The function given for the signal."""
        return self.signal(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The function given for the noise."""
        return self.noise(t)

    def drift(self, t: Tensor) -> Tensor:
        """α'/α."""
        return _derivative(self.signal, t) / self.signal(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """dσ²/dt − 2fσ²."""
        sigma = self.noise(t)
        return 2.0 * sigma * (_derivative(self.noise, t) - self.drift(t) * sigma)

    def time_of_level(self, level: Tensor) -> Tensor:
        """By sixty bisections of (0, longest), to round-off."""
        low, high = torch.zeros_like(level), torch.full_like(level, self.longest)
        for _ in range(60):
            t = 0.5 * (low + high)
            beyond = self.noise(t) > level * self.signal(t)
            low, high = torch.where(beyond, low, t), torch.where(beyond, t, high)
        return 0.5 * (low + high)


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """df/dt, element by element."""
    with torch.enable_grad():
        at = t.detach().clone().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


@dataclass(frozen=True)
class Chain:
    """DDPM's discrete chain as a VP process in t ∈ [0, N], exact at integers.

    >>> chain = Chain.linear()
    >>> t = torch.tensor(1000.0, dtype=torch.float64)
    >>> round(float(chain.alpha(t) ** 2), 8)                                                   # Π(1 − β) of Ho et al.
    4.036e-05
    """

    betas: tuple[float, ...]

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Chain:
        """Equally spaced β, Ho et al.'s by default."""
        return cls(tuple(np.linspace(first, last, steps).tolist()))

    def _rates(self, t: Tensor) -> Tensor:
        return -torch.log1p(-torch.tensor(self.betas, dtype=torch.float64, device=t.device))

    def _interval(self, t: Tensor) -> Tensor:
        return (torch.ceil(t).long() - 1).clamp(0, len(self.betas) - 1)

    def _integral(self, t: Tensor) -> Tensor:
        rates, i = self._rates(t), self._interval(t)
        return ((rates.cumsum(0) - rates)[i] + rates[i] * (t - i)).to(t.dtype)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(−½ ∫β)."""
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        """√(1 − α²)."""
        return torch.sqrt(-torch.expm1(-self._integral(t)))

    def drift(self, t: Tensor) -> Tensor:
        """−β/2."""
        return -0.5 * self.squared_diffusion(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """β(t) = −ln(1 − β_i) on (i − 1, i]."""
        return self._rates(t)[self._interval(t)].to(t.dtype)

    def time_of_level(self, level: Tensor) -> Tensor:
        """∫β = ln(1 + level²), piecewise linear in t; beyond N the last rate goes on."""
        target, rates = torch.log1p(level.double() ** 2), self._rates(level)
        total = rates.cumsum(0)
        i = torch.searchsorted(total, target).clamp(max=len(self.betas) - 1)
        return (i + (target - (total - rates)[i]) / rates[i]).to(level.dtype)


@dataclass(frozen=True)
class Heat:
    """The heat equation as noising SDE; `laplacian` (*modes) holds the eigenvalues μ of −∇², see `heat`.

    >>> float(Heat(torch.zeros(1), 1.0, 2.0).sigma(torch.tensor(9.0)))                         # g √t for the mean
    6.0
    """

    laplacian: Tensor
    diffusivity: float
    noise: float

    def alpha(self, t: Tensor) -> Tensor:
        """e^{−κμt}, (*modes)."""
        return torch.exp(-self.diffusivity * self.laplacian * t)

    def sigma(self, t: Tensor) -> Tensor:
        """g √((1 − e^{−2κμt})/2κμ), (*modes)."""
        rate = 2.0 * self.diffusivity * self.laplacian
        still = rate == 0.0
        grown = torch.where(still, t, -torch.expm1(-rate * t) / torch.where(still, 1.0, rate))
        return self.noise * torch.sqrt(grown)

    def drift(self, t: Tensor) -> Tensor:
        """−κμ, (*modes)."""
        return -self.diffusivity * self.laplacian

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """g²."""
        return torch.full_like(t, self.noise**2)

    def time_of_level(self, level: Tensor) -> Tensor:
        """The time at which the mean (μ = 0), which forgets slowest, has this level: level²/g²."""
        return (level / self.noise) ** 2


def heat(grid: Grid, kinds: tuple[Kind, ...], diffusivity: float, noise: float, scheme: str = "continuous") -> Heat:
    """Heat on a grid; kinds per axis in array order, "periodic", "neumann" or "dirichlet", as `modes.SpectralModes`.

    noise: g for a mode of unit length over the cells; white noise of amplitude s has g = s/√(cell volume).
    scheme: "continuous", or "finite-volume" for the eigenvalues of the discrete operator.

    >>> heat(Grid(x=(0.0, 1.0, 4)), ("periodic",), 1.0, 1.0).laplacian.div(4 * np.pi**2).round().tolist()
    [0.0, 1.0, 4.0, 1.0]
    """
    total = torch.zeros(grid.shape, dtype=torch.float64)
    for position, (axis, kind) in enumerate(zip(grid.axes, kinds, strict=True)):
        n = grid.shape[position]
        line = Grid(x=(0.0, grid.lengths[axis], n))
        values = Transform(line, (kind,)).laplacian(scheme)["x"]
        if kind == "periodic":  # (re, im) pairs of the half spectrum; Hartley's mode n − m is the partner of m
            m = np.arange(n)
            values = values[::2][np.minimum(m, n - m)]
        total += torch.from_numpy(values.copy()).reshape([-1 if a == position else 1 for a in range(grid.dimension)])
    return Heat(total, diffusivity, noise)


@dataclass(frozen=True)
class Coloured:
    """`base` with noise of standard deviation `amplitude` (*modes): the data's own √λ makes every mode fade alike.

    >>> Coloured(EDM(), torch.tensor([2.0, 0.5])).sigma(torch.tensor(3.0)).tolist()
    [6.0, 1.5]
    """

    base: Process
    amplitude: Tensor

    def alpha(self, t: Tensor) -> Tensor:
        """The base's."""
        return self.base.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """c σ(t)."""
        return self.amplitude * self.base.sigma(t)

    def drift(self, t: Tensor) -> Tensor:
        """The base's."""
        return self.base.drift(t)

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """c² g(t)²."""
        return self.amplitude**2 * self.base.squared_diffusion(t)

    def time_of_level(self, level: Tensor) -> Tensor:
        """The base's: the level of a mode of unit amplitude."""
        return self.base.time_of_level(level)


PROCESSES: Mapping[str, Process] = MappingProxyType(
    {
        "edm": EDM(), "vp": VP(), "sub-vp": SubVP(), "cosine": Cosine(), "flow": Flow(), "ve": VE(),
        "chain": Chain.linear(),
    }
)  # fmt: skip
FIELD_PROCESSES = ("heat", "coloured")  # those that a data set's own modes make whole (`building.lay_noise`)


def process(name: str) -> Process:
    """The scalar process called `name`; ValueError with the names that exist otherwise.

    >>> process("edm")
    EDM()
    """
    if name not in PROCESSES:
        known = sorted((*PROCESSES, *FIELD_PROCESSES))
        raise ValueError(f"process= wants one of {known}, got {name!r}; choose one of these names")
    return PROCESSES[name]
