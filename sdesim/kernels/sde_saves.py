"""Save times in root steps: where a member with steps of its own finds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.sde_tree import RESOLUTION

_ON_GRID = 1e-9  # save times closer to a root step's end than this fraction of it count as there


@dataclass(frozen=True)
class Saves:
    """Save j lies `part[j]` of a root step, in (0, 1], after the beginning of root step `root[j]`; −1: at the start."""

    root: NDArray[np.int64]
    part: NDArray[np.float64]

    @property
    def first(self) -> int:
        """The first save after the start."""
        return int(np.sum(self.root < 0))


def save_points(times: NDArray[np.float64], H: float) -> Saves:
    """Where the save times lie in root steps of H from times[0], on the grid of 2⁻³² of one.

    >>> save_points(np.array([0.0, 0.25, 1.0, 1.5]), 0.5)
    Saves(root=array([-1,  0,  1,  2]), part=array([1. , 0.5, 1. , 1. ]))
    """
    position = (times - times[0]) / H
    near = np.maximum(_ON_GRID, 4.0 * np.spacing(position))
    nearest = np.rint(position)
    position = np.where(np.abs(position - nearest) <= near, nearest, position)
    root = np.ceil(position) - 1.0
    part = np.maximum(np.rint((position - root) / RESOLUTION), 1.0) * RESOLUTION
    return Saves(root.astype(np.int64), part)
