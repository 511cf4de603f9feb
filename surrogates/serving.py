"""The verdict: which law of a model serves, the network's or the Gaussian's, by samples that nothing was chosen by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

BLOCKS = 8  # of the samples, by whose scatter the error of a gain is told

# Measure: how it was measured, its unit, and the factor to it.
_WORDS: Mapping[str, tuple[str, str, float, str]] = MappingProxyType(
    {
        "denoising": ("on held-out denoising", " nats per dimension", 1.0, ".4f"),
        "bound": ("by the bound on the likelihood of held-out samples", " nats per site", 1.0, ".4f"),
        "energy": ("by the energy score of held-out fields and their patches", " %", 100.0, ".2f"),
    }
)


@dataclass(frozen=True)
class Verdict:
    """Which law serves and why: the network's held-out gain over the Gaussian, its error, and what it was measured by.

    measure   "denoising": nats per dimension; "energy": the fraction that is taken off the Gaussian's energy score
    beside    other laws by the same measure: gains by name ("teacher"), and errors of spectra ("teacher spectrum")

    >>> print(Verdict("gaussian", -0.01, 0.004))
    the Gaussian serves: on held-out denoising the network's gain over it is -0.0100 ± 0.0040 nats per dimension
    """

    served: str
    gain: float
    error: float
    measure: str = "denoising"
    beside: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, gain: Tensor, measure: str, beside: Mapping[str, float] | None = None) -> Verdict:
        """From the gain of every sample, in their order; the error from the means of contiguous blocks.

        >>> Verdict.of(torch.tensor([0.1, 0.2, 0.1, 0.2]), "energy").served
        'network'
        """
        blocks = torch.stack([block.mean() for block in gain.chunk(min(BLOCKS, len(gain)))])
        error, mean = float(blocks.std() / math.sqrt(len(blocks))), float(gain.mean())
        return cls("network" if mean > 2.0 * error else "gaussian", mean, error, measure, dict(beside or {}))

    def __str__(self) -> str:
        base = "independent sites" if self.measure == "bound" else "the Gaussian"
        name = "the network serves" if self.served == "network" else f"{base} serve{'s' * (self.measure != 'bound')}"
        if math.isnan(self.gain):
            return f"{name}: no network was trained"
        how, unit, factor, digits = _WORDS[self.measure]
        tail = f"over {base}" if self.served == "network" or self.measure == "bound" else "over it"
        owner = "its" if self.served == "network" else "the network's"
        words = (
            f"{name}: {how} {owner} gain {tail} is "
            f"{self.gain * factor:+{digits}} ± {self.error * factor:{digits}}{unit}"
        )
        if "teacher" in self.beside:
            words += f", its teacher's {self.beside['teacher'] * factor:+{digits}}"
        return words
