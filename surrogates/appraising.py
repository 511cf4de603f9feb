"""How good the draws of a model are, where its network is no denoiser of the fields: by their energy score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogates.drawing import Draw, draw_all
from surrogates.energy import energy_score
from surrogates.fitting import Fitted, Plan
from surrogates.layouts import Layout
from surrogates.modes import SpectralModes
from surrogates.serving import BLOCKS
from surrogates.sources import Samples

MEMBERS = 4  # draws for each held-out field with conditions
SHARED = 24  # draws for each block of fields without
SHARE = 0.01  # of the variance that a shell of wave numbers holds whose error is told

Law = Callable[[NDArray[np.int64], Tensor | None], Tensor]  # normalised fields of member numbers and conditions


def drawn(fitted: Fitted, plan: Plan, law: str, numbers: NDArray[np.int64], c: Tensor | None) -> Tensor:
    """The members of these numbers under a law of a model."""
    return draw_all(fitted, numbers, None if c is None else c.cpu(), Draw(law, None, None, plan.process, plan.seed))[0]


def appraise(laws: Mapping[str, Law], held: Samples, layout: Layout) -> tuple[Tensor, dict[str, float]]:
    """(gain of "network" over "gaussian" for every held-out sample, gains and errors of spectra of all laws).

    The gain is what is taken off the Gaussian's fair energy score of patches, from MEMBERS draws under each sample's
    conditions, or SHARED draws for each of the blocks by which the verdict's error is told; of the same noise for all
    laws. The error of a spectrum is the largest in any shell of wave numbers
    with SHARE of the variance: |S/S_held − 1|.
    """
    truth, c = held
    numbers = np.arange(SHARED * BLOCKS if c is None else MEMBERS * len(truth))
    repeated = None if c is None else c.repeat(MEMBERS, 1)
    scores, beside = {}, {}
    for name, law in laws.items():
        made = law(numbers, repeated).to(truth)
        if c is None:
            groups = zip(made.chunk(BLOCKS), truth.chunk(BLOCKS), strict=False)
            scores[name] = torch.cat([energy_score(group[:, None], block) for group, block in groups])
        else:
            scores[name] = energy_score(made.reshape(MEMBERS, *truth.shape), truth)
        if truth.ndim == 2 + len(layout.boundary):  # a grid without holes
            beside[f"{name} spectrum"] = spectrum_error(made, truth, layout.boundary)
    plain = scores["gaussian"]
    gains = {name: (plain - score) / plain.mean() for name, score in scores.items() if name != "gaussian"}
    return gains["network"], beside | {name: float(g.mean()) for name, g in gains.items() if name != "network"}


def spectrum_error(made: Tensor, truth: Tensor, boundary: tuple[str, ...]) -> float:
    """The largest |S/S_truth − 1| over shells of wave numbers with SHARE of the truth's variance.

    >>> u = torch.randn(8, 1, 16, dtype=torch.float64)
    >>> u = u - u.mean(0)
    >>> round(spectrum_error(2.0 * u, u, ("periodic",)), 6)
    3.0
    """
    modes = SpectralModes(tuple(truth.shape[2:]), boundary)
    shell = (modes.radius() * 2 * min(modes.space)).round().long().flatten()
    mean, sums = truth.mean(0), []
    for x in (made, truth):
        power = modes.analyse((x - mean).double()).square().mean((0, 1)).flatten().cpu()
        sums.append(torch.zeros(int(shell.max()) + 1, dtype=power.dtype).index_add_(0, shell, power))
    kept = sums[1] >= SHARE * sums[1].sum()
    return float((sums[0][kept] / sums[1][kept] - 1.0).abs().max())
