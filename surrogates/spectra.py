"""Power spectra of gridded ensembles, in bands, with a bootstrap confidence band.

A field u on n cells is written in the orthonormal modes of its grid: e^{2πikx} on a periodic axis (FFT),
cos(πjx/L) on any other (DCT-II, even extension, which has no jump at the edges). With coefficients c_k
scaled so that Parseval reads

    Σ_k |c_k|² = (1/n) Σ_x u(x)²,

the spectrum of an ensemble is S_k = E|c_k|², a band holds S_b = Σ_{k∈b} S_k, and S_b / Σ S is its share of
the variance. Wavenumbers are in cycles per unit of the coordinate. Bands grow by a constant factor; the
first also holds k = 0. A band is resolved when it lies below the Nyquist wavenumber of the coarsest axis;
the corner of the grid beyond it is one more band, marked unresolved.

The confidence band is the percentile bootstrap over members (Efron & Tibshirani 1993, §13.3); samples that
follow each other in time are drawn in blocks (Künsch 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Bands:
    """Which mode belongs to which band.

    `edges` (bands + 1) in cycles per unit; `index` the band of every mode, shape of the grid; `resolved`
    (bands,).
    """

    edges: Array
    index: NDArray[np.int64]
    axis_index: tuple[NDArray[np.int64], ...]
    resolved: NDArray[np.bool_]

    @property
    def centres(self) -> Array:
        """Middle wavenumber of each band, shape (bands,)."""
        return np.asarray(0.5 * (self.edges[:-1] + self.edges[1:]))


def is_periodic(values: Array, axis: int) -> bool:
    """Whether a field joins smoothly across the two ends of an axis.

    Compares the mean square step from the last cell to the first with that between neighbours; `values` is
    (samples, *space) and `axis` counts in `space`. A wrap of at most 2.5 times the
    ordinary step counts as smooth (a single sine that crosses zero at the edge has 2).

    >>> x = (np.arange(16) + 0.5) / 16
    >>> is_periodic(np.sin(2 * np.pi * x)[None], 0), is_periodic(x[None], 0)
    (True, False)
    """
    v = np.moveaxis(values, axis + 1, -1)
    if v.shape[-1] < 4:
        return False
    anomaly = v - v.mean(axis=0) if v.shape[0] > 8 else v
    inside = float(np.mean(np.diff(anomaly, axis=-1) ** 2))
    return bool(np.mean((anomaly[..., 0] - anomaly[..., -1]) ** 2) <= 2.5 * inside)


def mode_power(values: Array, periodic: Sequence[bool]) -> Array:
    """|c_k|² of every sample: (samples, *space) in, the same shape out, Σ_k = mean over cells of the square.

    >>> round(float(mode_power(np.ones((1, 4, 6)), (True, False)).sum()), 12)
    1.0
    """
    from scipy import fft

    c: NDArray[np.complex128] | Array = np.asarray(values, dtype=np.float64)
    for axis, wraps in enumerate(periodic, start=1):
        if not wraps:
            c = fft.dct(c, axis=axis, norm="ortho")
    ring = [axis for axis, wraps in enumerate(periodic, start=1) if wraps]
    if ring:
        c = fft.fftn(c, axes=ring, norm="ortho")
    cells = int(np.prod(values.shape[1:]))
    return np.asarray(np.abs(c) ** 2 / cells, dtype=np.float64)


def wavenumbers(shape: Sequence[int], spacing: Sequence[float], periodic: Sequence[bool]) -> list[Array]:
    """Wavenumber of each mode along each axis, cycles per unit: |j|/(n·d) (FFT) or j/(2·n·d) (DCT).

    >>> [k.tolist() for k in wavenumbers((4,), (0.25,), (True,))]
    [[0.0, 1.0, 2.0, 1.0]]
    """
    return [
        np.abs(np.fft.fftfreq(n, d)) if wraps else np.arange(n) / (2.0 * n * d)
        for n, d, wraps in zip(shape, spacing, periodic)
    ]


def make_bands(
    shape: Sequence[int], spacing: Sequence[float], periodic: Sequence[bool], *, growth: float = 1.5
) -> Bands:
    """Bands of constant ratio from the fundamental to the Nyquist wavenumber, and one for a corner beyond.

    >>> make_bands((32,), (1 / 32,), (True,)).edges[:3].tolist()
    [0.0, 1.5, 2.25]
    """
    axes = wavenumbers(shape, spacing, periodic)
    k = np.sqrt(sum(np.meshgrid(*(a**2 for a in axes), indexing="ij")))
    nyquist = min(0.5 / d for n, d in zip(shape, spacing) if n > 1)
    lowest = max(float(a[1]) for a in axes if a.size > 1)
    edges = [0.0, growth * lowest]
    while edges[-1] * growth < 0.999 * nyquist:
        edges.append(edges[-1] * growth)
    if nyquist / edges[-1] < np.sqrt(growth) and len(edges) > 2:
        edges.pop()  # the last band would be a sliver: its neighbour takes it
    edges.append(max(nyquist, edges[-1]) * (1 + 1e-9))
    inner, resolved = np.asarray(edges[1:]), len(edges) - 1
    if k.max() >= edges[-1]:
        edges.append(float(k.max()) * (1 + 1e-9))
    return Bands(
        edges=np.asarray(edges),
        index=np.searchsorted(inner, k, side="right"),
        axis_index=tuple(np.searchsorted(inner, a, side="right") for a in axes),
        resolved=np.arange(len(edges) - 1) < resolved,
    )


def band_power(power: Array, index: NDArray[np.int64], bands: int) -> Array:
    """Sum of |c_k|² over each band: (samples, *modes) and the band of each mode -> (samples, bands).

    >>> band_power(np.ones((2, 3)), np.array([0, 1, 1]), 2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    member = np.zeros((index.size, bands))
    member[np.arange(index.size), index.ravel()] = 1.0
    return power.reshape(power.shape[0], -1) @ member


def axis_power(power: Array, bands: Bands, axis: int) -> Array:
    """Band power by the wavenumber along one axis alone (the other axes summed): (samples, bands).

    >>> bands = make_bands((8, 8), (1.0, 1.0), (True, True))
    >>> axis_power(np.ones((1, 8, 8)), bands, 0).sum()
    np.float64(64.0)
    """
    others = tuple(i for i in range(1, power.ndim) if i != axis + 1)
    return band_power(power.sum(axis=others), bands.axis_index[axis], bands.resolved.size)


def bootstrap_mean(values: Array, draws: int, *, block: int = 1, seed: int = 0, level: float = 0.95) -> Array:
    """Percentile confidence band of the mean over samples: (samples, ...) -> (2, ...), lower and upper.

    Blocks of `block` neighbouring samples are drawn together: 1 for independent members, the correlation
    time for a series. Efron & Tibshirani (1993), §13.3; Künsch (1989).

    >>> low, high = bootstrap_mean(np.random.default_rng(0).normal(size=(400, 1)), 300)
    >>> bool(low[0] < 0 < high[0])
    True
    """
    samples = values.shape[0]
    width = max(1, min(block, samples))
    count = -(-samples // width)
    sums = np.stack([part.sum(axis=0) for part in np.array_split(values, count)])
    sizes = np.asarray([len(part) for part in np.array_split(np.arange(samples), count)], dtype=float)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(float)
    flat = weights @ sums.reshape(count, -1) / (weights @ sizes)[:, None]
    tail = 50.0 * (1.0 - level)
    return np.asarray(np.percentile(flat, [tail, 100.0 - tail], axis=0).reshape(2, *values.shape[1:]))
