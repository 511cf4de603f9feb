"""Running statistics over members, merged block by block with memory that does not grow with their number.

Means and sums of products of deviations are merged by Chan, Golub & LeVeque (Am. Stat. 37, 1983, eq. 2.1): with δ the
difference of two means, C₂ = C₂ᵃ + C₂ᵇ + δ_i δ_j nₐn_b/(nₐ + n_b).

A histogram's bins are [j 2ᵏ, (j + 1) 2ᵏ) with the smallest k for which the values seen lie in a given number of bins.
When a value falls outside, neighbours are merged in pairs: the result depends on the values alone, not on their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 64
_RESOLUTION = -40  # bins are not finer than 2⁻⁴⁰ of the largest value
_FINEST, _COARSEST = -960, 1000  # of k, so that edges stay normal numbers


class Running:
    """Mean, variance (n − 1 in the denominator), minimum and maximum of all the blocks added so far.

    `pairs` are pairs of indices along the first axis whose covariance is wanted too.

    >>> r = Running()
    >>> r.add(np.array([[1.0, 2.0]]), axis=1)
    >>> r.add(np.array([[6.0]]), axis=1)
    >>> {k: float(v[0]) for k, v in r.results().items()}
    {'mean': 3.0, 'variance': 7.0, 'minimum': 1.0, 'maximum': 6.0}
    """

    def __init__(self, pairs: Sequence[tuple[int, int]] = ()) -> None:
        self.count = 0
        self.pairs = list(pairs)
        self.mean: Any = None
        self.squares: Any = None
        self.products: list[Any] = []
        self.low: Any = None
        self.high: Any = None

    def add(self, values: NDArray[np.float64], axis: int) -> None:
        """Add a block whose members lie along `axis`; an empty block changes nothing."""
        n = values.shape[axis]
        if n == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # finite members near overflow have an infinite variance
            mean = values.mean(axis)
            off = values - np.expand_dims(mean, axis)
            squares = (off**2).sum(axis)
            products = [(off[i] * off[j]).sum(axis - 1) for i, j in self.pairs]
        low, high = values.min(axis), values.max(axis)
        if self.count == 0:
            self.count, self.mean, self.squares, self.products = n, mean, squares, products
            self.low, self.high = low, high
            return
        total, delta = self.count + n, mean - self.mean
        weight = self.count * n / total
        self.squares = self.squares + squares + delta**2 * weight
        self.products = [old + new + delta[i] * delta[j] * weight
                         for old, new, (i, j) in zip(self.products, products, self.pairs, strict=True)]  # fmt: skip
        self.mean = self.mean + delta * (n / total)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count = total

    def results(self) -> dict[str, NDArray[np.float64]]:
        """The statistics by name; the variance of fewer than two members is NaN.

        Raises ValueError if nothing was added.
        """
        if self.count == 0:
            raise ValueError("no member stayed finite, so there are no statistics; see `status`, and try a smaller dt")
        variance = self._per_freedom(self.squares)
        return {"mean": self.mean, "variance": variance, "minimum": self.low, "maximum": self.high}

    def covariances(self) -> dict[tuple[int, int], NDArray[np.float64]]:
        """The covariance of each pair, n − 1 in the denominator."""
        return {pair: self._per_freedom(c) for pair, c in zip(self.pairs, self.products, strict=True)}

    def _per_freedom(self, total: Any) -> Any:
        return total / (self.count - 1) if self.count > 1 else np.full_like(total, np.nan)


class Histogram:
    """Counts in at most `bins` bins of width 2ᵏ that grow with the values.

    >>> h = Histogram(4)
    >>> h.add(np.array([0.1, 0.9, 1.2]))
    >>> h.add(np.array([-0.3, 3.9]))
    >>> h.left, h.width, h.counts
    (-2.0, 2.0, array([1, 3, 1, 0]))
    """

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.low, self.high, self.largest = math.inf, -math.inf, 0.0
        self.k = _FINEST
        self.first = 0  # the number j of the first bin
        self.counts = np.zeros(bins, np.int64)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return 2.0**self.k

    @property
    def left(self) -> float:
        """Left edge of the first bin."""
        return self.first * self.width

    def add(self, values: NDArray[np.float64]) -> None:
        """Count finite values of any shape."""
        if values.size == 0:
            return
        empty = not self.counts.any()
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.largest = max(abs(self.low), abs(self.high))
        k, old = self._exponent(), self.counts
        first = math.floor(self.low / 2.0**k)
        counts = np.zeros(self.bins, np.int64)
        if not empty:
            occupied = np.flatnonzero(old)
            into = ((self.first + occupied) >> min(k - self.k, 62)) - first
            np.add.at(counts, into, old[occupied])
        index = np.floor(values.ravel() * 2.0**-k).astype(np.int64) - first
        self.k, self.first = k, first
        self.counts = counts + np.bincount(index, minlength=self.bins)

    def _exponent(self) -> int:
        """The smallest k for which all values lie in `bins` bins, and bins are not finer than their resolution."""
        finest = math.frexp(self.largest)[1] + _RESOLUTION if self.largest > 0.0 else _FINEST
        spread = self.high - self.low
        guess = math.frexp(spread / self.bins)[1] - 2 if spread > 0.0 else _FINEST
        k = max(_FINEST, finest, guess)
        while math.floor(self.high / 2.0**k) - math.floor(self.low / 2.0**k) >= self.bins:
            k += 1
        return min(k, _COARSEST)


class EnsembleStatistics:
    """All that `save="statistics"` keeps of an ensemble: by state and time, and by cell for fields.

    Histograms are by state and time, over members and cells.
    """

    def __init__(self, states: Sequence[str], times: int) -> None:
        self.names = list(states)
        n = len(self.names)
        self.running = Running([(i, j) for i in range(n) for j in range(i + 1, n)])
        self.histograms = [[Histogram() for _ in range(times)] for _ in self.names]

    def add(self, states: NDArray[np.float64]) -> None:
        """Add members: an array (time, state, member, *space) of finite numbers."""
        self.running.add(np.swapaxes(states, 0, 1), axis=2)
        for i, by_time in enumerate(self.histograms):
            for t, histogram in enumerate(by_time):
                histogram.add(states[t, i])

    def variables(
        self, space: Sequence[str], units: Mapping[str, str]
    ) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, str]]]:
        """name -> (dims, array, attributes): x_mean, …, x_y_covariance, x_histogram, x_bin_left and x_bin_width.

        Raises ValueError if no member was added.
        """
        dims, unit = ("time", *space), {s: units.get(s, "1") for s in self.names}
        found: dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, str]]] = {}
        for kind, values in self.running.results().items():
            for i, s in enumerate(self.names):
                own = _product(unit[s], unit[s]) if kind == "variance" else unit[s]
                found[f"{s}_{kind}"] = dims, values[i], {"long_name": f"{kind} of {s} over the members", "units": own}
        for (i, j), values in self.running.covariances().items():
            a, b = self.names[i], self.names[j]
            about = {"long_name": f"covariance of {a} and {b} over the members", "units": _product(unit[a], unit[b])}
            found[f"{a}_{b}_covariance"] = dims, values, about
        over = "members and cells" if space else "members"
        for s, by_time in zip(self.names, self.histograms, strict=True):
            left = np.array([[(h.first + b) * h.width for h in by_time] for b in range(BINS)])
            found |= {
                f"{s}_histogram": (("bin", "time"), np.transpose([h.counts for h in by_time]),
                                   {"long_name": f"number of values of {s} in each bin, over {over}", "units": "1"}),
                f"{s}_bin_left": (("bin", "time"), left, {"long_name": f"left edge of a bin of {s}", "units": unit[s]}),
                f"{s}_bin_width": (("time",), np.array([h.width for h in by_time]),
                                   {"long_name": f"width of the bins of {s}", "units": unit[s]}),
            }  # fmt: skip
        return found


def _product(a: str, b: str) -> str:
    """The unit of a product."""
    if a == b:
        return "1" if a == "1" else f"({a})2"
    return " ".join(f"({u})" for u in (a, b) if u != "1")
