"""How a field lies in a kernel's memory: rows along x with a ghost cell at either end, ghost rows around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LEFT = 8
"""Numbers before the first cell of a row: the ghost cell, and room that keeps rows aligned to a cache line."""


@dataclass(frozen=True)
class Layout:
    """Buffers of a grid of the given shape (z, y, x): rows of `pitch` numbers, one per cell of the padded outer axes.

    >>> layout = Layout((3, 5))
    >>> layout.rows, layout.pitch, layout.strides
    (5, 24, (24,))
    """

    shape: tuple[int, ...]

    @property
    def nx(self) -> int:
        """Cells of a row."""
        return self.shape[-1]

    @property
    def outer(self) -> tuple[int, ...]:
        """Cells along the axes other than x."""
        return self.shape[:-1]

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return math.prod(self.shape)

    @property
    def pitch(self) -> int:
        """Numbers from one row to the next."""
        return -(-self.nx // 8) * 8 + 2 * LEFT

    @property
    def rows(self) -> int:
        """Rows of a buffer, ghost rows included."""
        return math.prod(n + 2 for n in self.outer)

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Numbers from a row to its neighbour along each outer axis."""
        return tuple(self.pitch * math.prod(n + 2 for n in self.outer[k + 1 :]) for k in range(len(self.outer)))

    @property
    def first(self) -> int:
        """Where the grid's first cell stands in a buffer."""
        return LEFT + sum(self.strides)

    @property
    def size(self) -> int:
        """Numbers from one buffer to the next; the odd lines keep buffers from sharing cache sets."""
        return self.rows * self.pitch + 17 * 8

    @property
    def row_size(self) -> int:
        """Room for the noise of a row, whose second half may be one longer than needed."""
        return self.pitch

    def noise_size(self, sources: int, sheets: int, count: int) -> int:
        """Room for a row of noise of each source, then `count` whole sheets of each coloured one."""
        return sources * self.row_size + sheets * count * self.cells

    def place(self, padded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Arrays (members, *padded shape) as rows with this pitch: (members, numbers), the first cell at `first`.

        An array whose outer axes have length 1 becomes one row, its first cell at `LEFT`.
        """
        members = padded.shape[0]
        flat = padded.reshape(members, -1, self.nx + 2)
        rows = np.zeros((members, flat.shape[1], self.pitch))
        rows[:, :, LEFT - 1 : LEFT + self.nx + 1] = flat
        return rows.reshape(members, -1)


def aligned(size: int) -> NDArray[np.float64]:
    """Zeros that begin on a cache line."""
    raw = np.zeros(size + 8)
    skip = (-raw.ctypes.data // 8) % 8
    return raw[skip : skip + size]
