"""How noise of a level s lies over the modes of a field: y = x₀ + U r(s) ε, with U the orthonormal modes.

    White   r = s for every mode: every process with scalar α, σ at s = σ/α (`processes.py`)
    Modal   r = σ_k/α_k of a process of fields (`noising.Heat`, `noising.Coloured`) at the time whose level is s

A network is trained for one of them. Levels of modes have the shape (n or 1, channels or 1, *space), as `level_like`
lets them pass. The information that a denoiser gains, per mode, is ½ ∫ (E_other − E)_k d(1/r_k²), so that errors are
measured as

    |x|²_s = s² mean_k (ρ_k/r_k²) x_k²,   ρ = d ln r/d ln s,

which is the mean square for white noise, and ∫ (|·|²_other − |·|²) s⁻² d ln s is nats per dimension for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from surrogates.gaussian import level_like
from surrogates.modes import Modes
from surrogates.noising import Coloured, Heat
from surrogates.processes import EDM


class Corruption(Protocol):
    """Noise over the modes of a field, by its level s, a tensor (n,) or a number."""

    def levels(self, sigma: Tensor) -> Tensor:
        """r: (n,) or a number where all modes share it, else one value per mode."""

    def signal(self, sigma: Tensor) -> Tensor:
        """α at the same time: the factor that takes y back to the process's own scale."""

    def rates(self, sigma: Tensor) -> Tensor:
        """ρ = d ln r/d ln s, shaped like the levels."""

    def nominal(self, levels: Tensor) -> Tensor:
        """The level s of one r, a tensor without dimensions: the inverse of `levels`."""

    def add(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """y = x + U r ε."""

    def weights(self, sigma: Tensor) -> Tensor:
        """s² ρ/r², shaped like the levels."""

    def square(self, x: Tensor, sigma: Tensor) -> Tensor:
        """|x|²_s of every member, (n,)."""

    def to(self, like: Tensor) -> Corruption:
        """The same with the dtype and device of `like`."""


@dataclass(frozen=True)
class White:
    """The same noise in every mode.

    >>> White().add(torch.zeros(1, 1, 2), torch.tensor(2.0), torch.ones(1, 1, 2)).flatten().tolist()
    [2.0, 2.0]
    """

    def levels(self, sigma: Tensor) -> Tensor:
        """s."""
        return sigma

    def signal(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def rates(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def nominal(self, levels: Tensor) -> Tensor:
        """r."""
        return levels

    def add(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """x + s ε."""
        return x + level_like(sigma, x) * noise

    def weights(self, sigma: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(sigma)

    def square(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The mean square."""
        return x.square().flatten(1).mean(1)

    def to(self, like: Tensor) -> White:
        """Itself."""
        return self


@dataclass(frozen=True)
class Modal:
    """The noise of a process of fields, mode by mode; Coloured on EDM alone, whose time is its level.

    >>> from surrogates.modes import SpectralModes
    >>> noise = Modal(Coloured(EDM(), torch.tensor([[[2.0, 1.0]]])), SpectralModes((2,), ("reflect",)))
    >>> noise.levels(torch.tensor(3.0)).tolist(), float(noise.nominal(noise.levels(torch.tensor(3.0))))
    ([[[6.0, 3.0]]], 3.0)
    """

    path: Heat | Coloured
    modes: Modes

    def _time(self, sigma: Tensor) -> Tensor:
        """t(s), to be broadcast against modes."""
        shape = self._table().ndim
        t = self.path.time_of_level(sigma)
        return t.reshape(-1, *[1] * (shape - 1)) if t.ndim else t

    def _table(self) -> Tensor:
        return self.path.laplacian if isinstance(self.path, Heat) else self.path.amplitude

    def levels(self, sigma: Tensor) -> Tensor:
        """σ/α, per mode."""
        t = self._time(sigma)
        return self.path.sigma(t) / self.path.alpha(t)

    def signal(self, sigma: Tensor) -> Tensor:
        """α, per mode."""
        return self.path.alpha(self._time(sigma))

    def rates(self, sigma: Tensor) -> Tensor:
        """d ln r/dt = g²/2σ²; t grows as s² for heat and as s for coloured noise on EDM."""
        t, power = self._time(sigma), 2.0 if isinstance(self.path, Heat) else 1.0
        return power * t * self.path.squared_diffusion(t) / (2.0 * self.path.sigma(t) ** 2)

    def nominal(self, levels: Tensor) -> Tensor:
        """From the first mode, the smoothest: r² = g²(e^{2κμt} − 1)/2κμ of heat, r = c s of coloured noise."""
        first = levels.flatten()[0]
        if isinstance(self.path, Coloured):
            return first / self.path.amplitude.flatten()[0]
        rate = 2.0 * self.path.diffusivity * self.path.laplacian.flatten()[0]
        ratio = (first / self.path.noise) ** 2
        t = torch.where(rate == 0.0, ratio, torch.log1p(rate * ratio) / torch.where(rate == 0.0, 1.0, rate))
        return self.path.noise * t.sqrt()

    def add(self, x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """x + U r ε."""
        return x + self.modes.synthesise(self.levels(sigma) * noise)

    def weights(self, sigma: Tensor) -> Tensor:
        """s² ρ/r²."""
        return level_like(sigma, self._table()) ** 2 * self.rates(sigma) / self.levels(sigma) ** 2

    def square(self, x: Tensor, sigma: Tensor) -> Tensor:
        """s² mean_k (ρ_k/r_k²) x_k²."""
        return (self.weights(sigma) * self.modes.analyse(x).square()).flatten(1).mean(1)

    def to(self, like: Tensor) -> Modal:
        """The same with the dtype and device of `like`."""
        table = self._table().to(like)
        path = Heat(table, self.path.diffusivity, self.path.noise) if isinstance(self.path, Heat) else None
        return Modal(path or Coloured(EDM(), table), self.modes.to(like))


def corruption_tensors(corruption: Corruption) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a model file keeps: arrays, and a JSON-able description."""
    if not isinstance(corruption, Modal):
        return {}, {"kind": "white"}
    if isinstance(corruption.path, Heat):
        numbers = {"diffusivity": corruption.path.diffusivity, "noise": corruption.path.noise}
        return {"laplacian": corruption.path.laplacian}, {"kind": "heat", **numbers}
    return {"amplitude": corruption.path.amplitude}, {"kind": "coloured"}


def corruption_from_tensors(tensors: dict[str, Tensor], config: dict[str, Any], modes: Modes) -> Corruption:
    """The inverse of `corruption_tensors`; `modes` are those of the model's Gaussian."""
    if config["kind"] == "white":
        return White()
    if config["kind"] == "heat":
        return Modal(Heat(tensors["laplacian"], float(config["diffusivity"]), float(config["noise"])), modes)
    return Modal(Coloured(EDM(), tensors["amplitude"]), modes)
