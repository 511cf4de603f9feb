"""Running statistics over members, merged block by block with memory that does not grow with their number.

Means and sums of squared deviations are merged by Chan, Golub & LeVeque (Am. Stat. 37, 1983, eq. 2.1): with δ the
difference of two means, M₂ = M₂ᵃ + M₂ᵇ + δ² nₐn_b/(nₐ + n_b).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Running:
    """Mean, variance (n − 1 in the denominator), minimum and maximum of all the blocks added so far.

    >>> r = Running()
    >>> r.add(np.array([[1.0, 2.0]]), axis=1)
    >>> r.add(np.array([[6.0]]), axis=1)
    >>> {k: float(v[0]) for k, v in r.results().items()}
    {'mean': 3.0, 'variance': 7.0, 'minimum': 1.0, 'maximum': 6.0}
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = None
        self.squares: Any = None
        self.low: Any = None
        self.high: Any = None

    def add(self, values: NDArray[np.float64], axis: int) -> None:
        """Add a block whose members lie along `axis`; an empty block changes nothing."""
        n = values.shape[axis]
        if n == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # finite members near overflow have an infinite variance
            mean = values.mean(axis)
            squares = ((values - np.expand_dims(mean, axis)) ** 2).sum(axis)
        low, high = values.min(axis), values.max(axis)
        if self.count == 0:
            self.count, self.mean, self.squares, self.low, self.high = n, mean, squares, low, high
            return
        total, delta = self.count + n, mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.count * n / total)
        self.mean = self.mean + delta * (n / total)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count = total

    def results(self) -> dict[str, NDArray[np.float64]]:
        """The statistics by name; the variance of fewer than two members is NaN.

        Raises ValueError if nothing was added.
        """
        if self.count == 0:
            raise ValueError("no member stayed finite, so there are no statistics; see `status`, and try a smaller dt")
        variance = self.squares / (self.count - 1) if self.count > 1 else np.full_like(self.squares, np.nan)
        return {"mean": self.mean, "variance": variance, "minimum": self.low, "maximum": self.high}
