"""Averages of the weights along a run, their length chosen afterwards (Karras et al. 2024, §3 and appendix C).

The power function of width σ_rel averages the weights θ(τ), 0 < τ ≤ t, with the profile

    p(τ) = (γ + 1) τ^γ / t^{γ+1},     σ_rel = (γ + 1)^{1/2} (γ + 2)⁻¹ (γ + 3)^{−1/2}                      (eqs. 120–123)

which the recursion θ̂ ← θ̂ + (1 − β)(θ − θ̂), β = (1 − 1/t)^{γ+1}, gives exactly for weights constant between steps.
Snapshots of two such averages at several times span, by least squares, the profile of any other width at the end:

    Σ_j ⟨p_i, p_j⟩ x_j = ⟨p_i, p⟩,
    ⟨p_a, p_b⟩ = (γ_a + 1)(γ_b + 1)/(γ_a + γ_b + 1) · m^{γ_a+γ_b+1} / (t_a^{γ_a+1} t_b^{γ_b+1}),   m = min(t_a, t_b)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WIDTHS = (0.05, 0.10)  # the two that are followed (Karras et al. 2024, §3.1)


def exponent(width: float) -> float:
    """γ of a relative width σ_rel: the positive root of (γ + 2)²(γ + 3) = (γ + 1)/σ_rel².

    Raises ValueError outside (0, 1/√12), the width of the uniform average.

    >>> round(exponent(0.10), 2), round(exponent(0.05), 2)
    (6.94, 16.97)
    """
    if not 0.0 < width < 12.0**-0.5:
        raise ValueError(f"the relative width of an average lies between 0 and 0.2887, got {width}; choose such a one")
    t = width**-2
    return float(max(root.real for root in np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]) if abs(root.imag) < 1e-9))


def _inner(gamma: NDArray[np.float64], time: NDArray[np.float64], g: float, t: float) -> NDArray[np.float64]:
    """⟨p_{γ, time}, p_{g, t}⟩, written in ratios of times so that nothing overflows."""
    m = np.minimum(time, t)
    ratio = (m / time) ** (gamma + 1.0) * (m / t) ** (g + 1.0) / m
    return (gamma + 1.0) * (g + 1.0) / (gamma + g + 1.0) * ratio


def combination(gammas: Sequence[float], times: Sequence[float], width: float, time: float) -> NDArray[np.float64]:
    """How much of each snapshot (γ_i, t_i) makes the average of this width at `time`, in least squares: (snapshots,).

    >>> np.abs(combination([6.94, 16.97], [10.0, 10.0], 0.05, 10.0)).round(2).tolist()
    [0.0, 1.0]
    """
    g, t = np.asarray(gammas, np.float64), np.asarray(times, np.float64)
    matrix = np.stack([_inner(g, t, float(a), float(b)) for a, b in zip(g, t, strict=True)])
    return np.asarray(np.linalg.lstsq(matrix, _inner(g, t, exponent(width), time), rcond=1e-13)[0])


class Averages:
    """Running averages of a module's parameters at several widths, and their snapshots.

    >>> layer = nn.Linear(1, 1)
    >>> averages = Averages(layer)
    >>> averages.update(layer, step=0)
    >>> bool(torch.equal(averages.weights[0][0], layer.weight))
    True
    """

    def __init__(self, module: nn.Module, widths: Sequence[float] = WIDTHS):
        self.gammas = [exponent(width) for width in widths]
        self.weights = [[p.detach().clone() for p in module.parameters()] for _ in widths]
        self.times: list[int] = []
        self.snapshots: list[Tensor] = []

    def update(self, module: nn.Module, step: int) -> None:
        """θ̂ ← θ̂ + (1 − (1 − 1/t)^{γ+1})(θ − θ̂) with t = step + 1."""
        now = [p.detach() for p in module.parameters()]
        for gamma, weights in zip(self.gammas, self.weights, strict=True):
            torch._foreach_lerp_(weights, now, 1.0 - (1.0 - 1.0 / (step + 1)) ** (gamma + 1.0))

    def keep(self, time: int) -> None:
        """Take a snapshot of the averages after `time` steps: a tensor (widths, parameters)."""
        if time not in self.times:
            self.times.append(time)
            self.snapshots.append(torch.stack([flatten(weights) for weights in self.weights]).cpu())

    def reconstruct(self, width: float) -> list[Tensor]:
        """The average of any width at the last snapshot; LookupError before the first."""
        if not self.times:
            raise LookupError("an average is reconstructed from snapshots, there are none; call keep(time) first")
        gammas = [gamma for _ in self.times for gamma in self.gammas]
        times = [float(time) for time in self.times for _ in self.gammas]
        factors = torch.from_numpy(combination(gammas, times, width, times[-1]))
        flat = sum(f * row.double() for f, row in zip(factors, torch.cat(self.snapshots), strict=True))
        assert isinstance(flat, Tensor)
        return unflatten(flat, self.weights[0])

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        running = {f"running.{k}": flatten(weights) for k, weights in enumerate(self.weights)}
        kept = {f"snapshot.{time}": value for time, value in zip(self.times, self.snapshots, strict=True)}
        return running | kept

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.weights = [unflatten(tensors[f"running.{k}"], like) for k, like in enumerate(self.weights)]
        self.times = sorted(int(name.removeprefix("snapshot.")) for name in tensors if name.startswith("snapshot."))
        self.snapshots = [tensors[f"snapshot.{time}"] for time in self.times]


def flatten(weights: Sequence[Tensor]) -> Tensor:
    """All weights as one vector."""
    return torch.cat([w.detach().flatten() for w in weights])


def unflatten(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """One vector cut into tensors of the shapes, dtypes and devices of `like`."""
    pieces = torch.split(flat, [w.numel() for w in like])
    return [piece.reshape(w.shape).to(w, copy=True) for piece, w in zip(pieces, like, strict=True)]


def assign(module: nn.Module, weights: Sequence[Tensor]) -> None:
    """Overwrite the module's parameters."""
    with torch.no_grad():
        torch._foreach_copy_(list[Tensor](module.parameters()), list(weights))


@contextlib.contextmanager
def applied(module: nn.Module, weights: Sequence[Tensor]) -> Iterator[None]:
    """The module with other weights, for as long as the block lasts."""
    current = [p.detach().clone() for p in module.parameters()]
    assign(module, weights)
    try:
        yield
    finally:
        assign(module, current)
