"""The energy score of fields, whole and by patches: a loss that members alone can be trained by, and a verdict on them.

For members X_1 … X_m and what came true, y, with |u|_p the root mean square of u over a patch p of cells,

    S_p = mean_i |X_i − y|_p − (1 − ε)/(2m(m − 1)) Σ_{i≠j} |X_i − X_j|_p                 Gneiting & Raftery 2007, eq. 21

is proper; with ε = 0 it is fair, its expectation that of infinitely many members (Ferro 2014). It is averaged over all
patches of some sides (Pacchiardi et al. 2024, §3.3): side 1 is the CRPS of each cell, and small patches see the local
structure to which the score of whole fields is nearly blind. Each patch's score is proper, so the mean is.

Trained by the fair score, one member may go anywhere between the truth and the others at no cost; ε = (1 − α)/m leaves
a trace of the unfair score, which holds it back (almost fair: Lang et al. 2024, eq. 4, α = 0.95).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIDES = (1, 3, 8)
_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def patch_distances(u: Tensor, sides: Sequence[int] = SIDES) -> Tensor:
    """mean_p |u|_p over the patches of every side, and the whole field: (n,) for u (n, channels, *space).

    Patches overlap by half; sides that the grid does not hold twice are left out.

    >>> patch_distances(torch.full((1, 1, 16), -2.0))
    tensor([2.])
    """
    space = u.shape[2:]
    square = u.square().mean(1, keepdim=True)
    found = [square.flatten(1).mean(1).clamp(min=1e-20).sqrt()]
    for side in sides:
        if 2 * side > max(space):
            continue
        window = [min(side, n) for n in space]
        stride = [max(1, w // 2) for w in window]
        pooled = square if side == 1 else _POOL[len(space)](square, window, stride)
        found.append(pooled.clamp(min=1e-20).sqrt().flatten(1).mean(1))
    return torch.stack(found).mean(0)


def energy_score(members: Tensor, truth: Tensor, *, fairness: float = 1.0, sides: Sequence[int] = SIDES) -> Tensor:
    """The score of every sample, (n,): members (m, n or 1, channels, *space), m ≥ 2; truth (n, channels, *space).

    `fairness` is α: 1 for the fair score, 0 for that of the m members as they are.

    >>> members = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 1, 8)
    >>> energy_score(members, torch.zeros(1, 1, 8))                                          # ½·1 − ½·1
    tensor([0.])
    """
    m = len(members)
    if m < 2:
        raise ValueError(f"the fair energy score wants at least 2 members for each truth, got {m}; draw more")
    near = torch.stack([patch_distances(x - truth, sides) for x in members]).mean(0)
    apart = [patch_distances(members[i] - members[j], sides) for i in range(m) for j in range(i)]
    spread = torch.stack(apart).sum(0) / (m * (m - 1))
    return near - (1.0 - (1.0 - fairness) / m) * spread
