"""Running statistics over members, merged block by block with memory that does not grow with their number.

Means and sums of products of deviations are merged by Chan, Golub & LeVeque (Am. Stat. 37, 1983, eq. 2.1): with δ the
difference of two means, C₂ = C₂ᵃ + C₂ᵇ + δ_i δ_j nₐn_b/(nₐ + n_b).

A histogram's bins are [j 2ᵏ, (j + 1) 2ᵏ) with the smallest k for which the values seen lie in a given number of bins.
When a value falls outside, neighbours are merged in pairs: the result depends on the values alone, not on their order,
and nobody has to name the bins beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.kernels.folding import MOMENTS
from sdesim.kernels.moments import Context, context, reductions

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
        block = Running(self.pairs)
        block.count = values.shape[axis]
        if block.count == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # finite members near overflow have an infinite variance
            block.mean = values.mean(axis)
            off = values - np.expand_dims(block.mean, axis)
            block.squares = (off**2).sum(axis)
            block.products = [(off[i] * off[j]).sum(axis - 1) for i, j in self.pairs]
        block.low, block.high = values.min(axis), values.max(axis)
        self.merge(block)

    def merge(self, other: Running) -> None:
        """Take in what another one has seen."""
        if other.count == 0 or self.count == 0:
            if other.count:
                self.__dict__.update(other.__dict__)
            return
        total, delta = self.count + other.count, other.mean - self.mean
        weight = self.count * other.count / total
        with np.errstate(over="ignore", invalid="ignore"):
            self.squares = self.squares + other.squares + delta**2 * weight
            both = zip(self.products, other.products, self.pairs, strict=True)
            self.products = [old + new + delta[i] * delta[j] * weight for old, new, (i, j) in both]
            self.mean = self.mean + delta * (other.count / total)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
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


@dataclass(frozen=True)
class Bins:
    """Counts (row, bin) in bins [(first + b) 2ᵏ, (first + b + 1) 2ᵏ)."""

    k: NDArray[Any]
    first: NDArray[np.float64]
    counts: NDArray[np.int64]

    @property
    def width(self) -> NDArray[np.float64]:
        """Width of the bins of each row."""
        return np.asarray(np.ldexp(1.0, self.k))

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins (row, bin + 1)."""
        return (self.first[:, None] + np.arange(self.counts.shape[1] + 1)) * self.width[:, None]

    def moved(self, k: NDArray[Any], first: NDArray[np.float64], bins: int) -> Bins:
        """The same counts in bins that are no finer and hold all that was counted."""
        row, column = np.nonzero(self.counts)
        into = (self.first[row].astype(np.int64) + column) >> np.minimum(k - self.k, 62)[row]
        counts = np.zeros((len(k), bins), np.int64)
        np.add.at(counts.ravel(), row * bins + (into - first[row].astype(np.int64)), self.counts[row, column])
        return Bins(k, first, counts)


class Histograms:
    """Counts of `rows` quantities, each in at most `bins` bins of width 2ᵏ that grow with its values.

    While values come there is room for as many bins again, half on each side, so that most records need no new bins.

    >>> h = Histograms(1, 4)
    >>> h.add(np.array([[0.1, 0.9, 1.2]]))
    >>> h.add(np.array([[-0.3, 3.9]]))
    >>> h.result().edges[0], h.result().counts
    (array([-2., 0., 2., 4., 6.]), array([[1, 3, 1, 0]]))
    """

    def __init__(self, rows: int, bins: int = BINS) -> None:
        self.bins = bins
        self.low, self.high = np.full(rows, np.inf), np.full(rows, -np.inf)
        self.held = Bins(np.full(rows, _FINEST), np.zeros(rows), np.zeros((rows, 0), np.int64))
        self.room = np.stack([self.low, self.high])  # from, to

    def add(self, values: NDArray[np.float64]) -> None:
        """Count finite values (row, any number)."""
        if values.shape[1]:
            ends = np.stack([values.min(axis=1), values.max(axis=1)], axis=1)
            self.cover(*ends.T)
            self.count(np.ascontiguousarray(values, np.float64), ends)

    def count(self, values: NDArray[np.float64], ends: NDArray[np.float64], sign: int = 1) -> None:
        """Count values for which there is room, in the first rows; a row of `ends` ends in its extremes."""
        (rows, n), step, bins = values.shape, ends.shape[-1], self.held.counts.shape[1]
        scale, found = np.ldexp(1.0, -self.held.k), np.zeros((rows, bins), np.int64)
        reductions().count(
            values.ctypes.data, rows, n, n, ends.ctypes.data + 8 * (step - 4), step,
            scale.ctypes.data, self.held.first.ctypes.data, found.ctypes.data, bins,
        )  # fmt: skip
        self.held.counts[:rows] += sign * found

    def cover(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        """Make room for values from `low` to `high` in each row."""
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        if ((low < self.room[0]) | (high >= self.room[1])).any():
            self._hold()

    def merge(self, other: Histograms) -> None:
        """Take in what another one has counted."""
        self.cover(other.low, other.high)
        if (other.held.k > self.held.k).any():  # it has seen less, and had as much room
            self._hold()
        more = other.held.moved(self.held.k, self.held.first, 2 * self.bins)
        np.add(self.held.counts, more.counts, out=self.held.counts)

    def _hold(self) -> None:
        """Put what was counted into the bins that the values' range asks for now, with room on both sides."""
        k, first = self._bins()
        used = np.floor(np.ldexp(np.where(self._seen, self.high, 0.0), -k)) - first + 1.0
        self.held = self.held.moved(k, first - np.floor((2 * self.bins - used) / 2.0), 2 * self.bins)
        with np.errstate(over="ignore"):  # beyond the largest number there is nothing
            ends = [(self.held.first + end) * self.held.width for end in (0, 2 * self.bins)]
        self.room = np.stack([np.where(self._seen, ends[0], np.inf), np.where(self._seen, ends[1], -np.inf)])

    def result(self) -> Bins:
        """The histograms, a function of the values alone."""
        return self.held.moved(*self._bins(), self.bins)

    @property
    def _seen(self) -> NDArray[np.bool_]:
        """Rows that have values."""
        return np.asarray(self.low <= self.high)

    def _bins(self) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """(k, first): the smallest k for which the values lie in `bins` bins, not finer than their resolution."""
        low, high = (np.where(self._seen, v, 0.0) for v in (self.low, self.high))
        largest, spread = np.maximum(-low, high), high - low
        finest = np.where(largest > 0.0, np.frexp(largest)[1] + _RESOLUTION, _FINEST)
        guess = np.where(spread > 0.0, np.frexp(spread / self.bins)[1] - 2, _FINEST)
        k = np.maximum(np.maximum(_FINEST, finest), guess)
        while (wide := np.floor(np.ldexp(high, -k)) - np.floor(np.ldexp(low, -k)) >= self.bins).any():
            k = k + wide
        k = np.minimum(k, _COARSEST)
        return k, np.floor(np.ldexp(low, -k))


class EnsembleStatistics:
    """All that `save="statistics"` keeps of an ensemble: by state and time, and by cell for fields.

    Histograms are by state and time, over members and cells. With `alive` the arrays that are added have one more
    state, the time of exit, at most `alive` for a member that is still inside; those outside are counted.
    """

    def __init__(self, states: Sequence[str], times: int, alive: float | None = None) -> None:
        self.names, self.times, self.alive = list(states), times, alive
        d = len(self.names)
        self.running = Running([(i, j) for i in range(d) for j in range(i + 1, d)])
        self.histograms = Histograms(times * d)  # time by time
        self.exits = np.zeros(times, np.int64)
        self._sums: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def count(self) -> int:
        """Members added."""
        return self.running.count

    def add(self, states: NDArray[np.float64]) -> int:
        """Add members, an array (time, state, member, *space); how many were left out because they are not finite."""
        own = np.ascontiguousarray(states[:, : len(self.names)], np.float64)
        fused = own.ndim == 3 and own.size > 0 and (self._sums is not None or self.count == 0)
        if fused:
            found, lost = np.empty((*own.shape[:2], MOMENTS)), np.zeros(1, np.int64)
            rows, n = self.times * own.shape[1], own.shape[2]
            reductions().moments(own.ctypes.data, rows, n, n, found.ctypes.data, lost.ctypes.data)
        if not fused or lost[0]:
            fine = np.isfinite(own).all(axis=(0, 1, *range(3, own.ndim)))
            if not fine.all():
                return int(fine.size - fine.sum()) + self.add(states[:, :, fine])
            self._sums = None
            self.running.add(np.swapaxes(own, 0, 1), axis=2)
            self.histograms.add(own.reshape(len(self.histograms.low), -1))
        else:
            self._take(own, found)
        if self.alive is not None:
            self.exits += (states[:, len(self.names)] > self.alive).sum(axis=1)
        return 0

    def _take(self, own: NDArray[np.float64], found: NDArray[np.float64]) -> None:
        """Merge a block of members by its moments while its states are in the cache."""
        times, d, n = own.shape
        if self._sums is None:
            kept, products = np.zeros_like(found), np.zeros((times, len(self.running.pairs)))
            kept[..., 2:] = np.inf, -np.inf
            self._sums = kept, products
            mean, squares, low, high = (kept[..., k].T for k in range(MOMENTS))
            self.running.__dict__.update(mean=mean, squares=squares, low=low, high=high, products=list(products.T))
        kept, products = self._sums
        crossed, apart = np.empty_like(products), d * n
        reductions().products(own.ctypes.data, times, apart, d, n, n, found.ctypes.data, crossed.ctypes.data)
        reductions().merge(times, d, n, self.count, found.ctypes.data, crossed.ctypes.data, kept.ctypes.data,
                           products.ctypes.data)  # fmt: skip
        self.running.count += n
        self.histograms.cover(found[..., 2].ravel(), found[..., 3].ravel())
        self.histograms.count(own.reshape(times * d, n), found.reshape(times * d, MOMENTS))

    def context(self, skip: int, stride: int) -> Context | None:
        """What compiled code needs to add rows of `stride` numbers at each time after `skip` times.

        None while nothing was added, or where moments have overflowed.
        """
        if self._sums is None:
            return None
        (kept, products), h = self._sums, self.histograms
        arrays = {
            "found": np.empty_like(kept), "crossed": np.empty_like(products), "kept": kept, "products": products,
            "scale": np.ldexp(1.0, -h.held.k), "first": h.held.first, "counts": h.held.counts, "room": h.room,
            "exits": self.exits, "alive": np.array([np.inf if self.alive is None else self.alive]),
        }  # fmt: skip
        return context(arrays, skip=skip, times=self.times, states=len(self.names), bounded=self.alive is not None,
                       stride=stride, count=self.count, bins=h.held.counts.shape[1])  # fmt: skip

    def taken(self, done: Context, back: NDArray[np.float64] | None = None) -> None:
        """What compiled code has added with a context, but for states (time, state, member) that it counted only."""
        self.running.count = done.count
        h, d = self.histograms, len(self.names)
        h.low, h.high = self.running.low.T.ravel(), self.running.high.T.ravel()
        if back is not None and back.size:
            own = np.ascontiguousarray(back[:, :d]).reshape(-1, back.shape[2])
            h.count(own, np.stack([own.min(axis=1), own.max(axis=1)], axis=1), sign=-1)
            if self.alive is not None:
                self.exits[: len(back)] -= (back[:, d] > self.alive).sum(axis=1)

    def merge(self, other: EnsembleStatistics) -> None:
        """Take in the members of another one."""
        self._sums = None  # the sums are no longer those of `running`
        self.running.merge(other.running)
        self.histograms.merge(other.histograms)
        self.exits += other.exits

    def variables(
        self, space: Sequence[str], units: Mapping[str, str]
    ) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, str]]]:
        """name -> (dims, array, attributes): x_mean, …, x_y_covariance, x_histogram, x_bin_left, x_bin_width, exits.

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
        h, d = self.histograms.result(), len(self.names)
        counts, left = (v.reshape(self.times, d, BINS).T for v in (h.counts, h.edges[:, :-1]))
        for i, s in enumerate(self.names):
            found |= {
                f"{s}_histogram": (("bin", "time"), counts[:, i],
                                   {"long_name": f"number of values of {s} in each bin, over {over}", "units": "1"}),
                f"{s}_bin_left": (("bin", "time"), left[:, i],
                                  {"long_name": f"left edge of a bin of {s}", "units": unit[s]}),
                f"{s}_bin_width": (("time",), h.width.reshape(self.times, d)[:, i],
                                   {"long_name": f"width of the bins of {s}", "units": unit[s]}),
            }  # fmt: skip
        if self.alive is not None:
            about = {"long_name": "number of members that have left their bounds", "units": "1"}
            found["exits"] = ("time",), self.exits, about
        return found


def _product(a: str, b: str) -> str:
    """The unit of a product."""
    if a == b:
        return "1" if a == "1" else f"({a})2"
    return " ".join(f"({u})" for u in (a, b) if u != "1")
