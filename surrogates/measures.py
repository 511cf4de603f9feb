"""The measures that `scores.evaluate` reports, each with its formula and source beside its value.

y a reference field, X a synthetic one, μ and s the maps of mean and standard deviation, σ the pooled standard
deviation of the reference, A the standard deviation of one field over space (its amplitude).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from surrogates import distances, spectra
from surrogates.alignment import Ensembles

Array = NDArray[np.float64]

PROBABILITIES = (1e-4, 1e-3, 1e-2, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 0.9999)
COPY_RATIO = 1.0 / 3.0  # nearer to its nearest than a third of the way to its second: a copy (Yoon et al. 2023)
COPY_SHARE = 0.05  # this many copies more than among the reference fields are no accident
NEAR_RATIO = 0.5  # half the distance that held-out fields keep from the training set


class Score(NamedTuple):
    """One score: its dimensions, value, formula in words, units ("u" for the field's own) and source."""

    dims: tuple[str, ...]
    value: Array
    formula: str
    units: str = "1"
    source: str = ""

    def attributes(self, units: str) -> dict[str, str]:
        """CF attributes, the field's own units put for "u" and "u2".

        >>> Score((), np.float64(1.0), "CRPS", "u").attributes("K")
        {'long_name': 'CRPS', 'units': 'K'}
        """
        named = {"u": units, "u2": "1" if units == "1" else f"({units})2"}.get(self.units, self.units)
        attrs = {"long_name": self.formula, "units": named}
        return attrs | ({"references": self.source} if self.source else {})


Scores = dict[str, Score]


def _scalar(value: float, formula: str, units: str = "1", source: str = "") -> Score:
    return Score((), np.asarray(value, dtype=np.float64), formula, units, source)


def proper(pair: Ensembles) -> Scores:
    """Energy score, CRPS and spread–skill ratio: of K draws a member where paired, else of the whole pool.

    >>> rng = np.random.default_rng(0)
    >>> pair = Ensembles(*rng.normal(size=(2, 500, 4)), None, ("x",), (1.0,), (True,))
    >>> abs(float(proper(pair)["crps"].value) - 0.5642) < 0.03      # E|X − X'| / 2 = 1/√π
    True
    """
    y = pair.reference
    if pair.draws is not None:
        energy = distances.fair_energy_score(pair.draws, y)
        crps = distances.fair_crps(pair.draws, y)
        centre, variance, K = pair.draws.mean(axis=0), pair.draws.var(axis=0, ddof=1), len(pair.draws)
        forecast = "K draws for each reference member"
    else:
        energy = distances.pool_energy_score(pair.synthetic, y)
        crps = distances.pool_crps(pair.synthetic, y)
        centre = pair.synthetic.mean(axis=0)
        variance, K = pair.synthetic.var(axis=0, ddof=1), len(pair.synthetic)
        forecast = "the whole synthetic ensemble for every reference field"
    rmse = np.sqrt(np.mean((y - centre) ** 2))
    ratio = np.sqrt((K + 1.0) / K * np.mean(variance)) / rmse
    return {
        "energy_score": _scalar(
            float(energy.mean()), f"fair energy score E|X-y| - E|X-X'|/2, |u| = sqrt(mean u2); {forecast}", "u",
            "Gneiting & Raftery (2007), eq. 22; Ferro (2014)",
        ),
        "crps": _scalar(
            float(crps.mean()), f"fair CRPS, mean over cells; {forecast}", "u",
            "Gneiting & Raftery (2007), eq. 21; Ferro (2014)",
        ),
        "spread_skill": _scalar(
            float(ratio),
            "spread over skill: sqrt((K+1)/K mean variance of the draws) / RMSE of their mean; 1 is right",
            source="Fortin et al. (2014)",
        ),
    }


def spectral(pair: Ensembles, *, block: int = 1, bootstrap: int = 400, seed: int = 0) -> Scores:
    """Variance of the deviations from the reference's mean map, by band of wavenumber and along each axis.

    >>> rng = np.random.default_rng(0)
    >>> pair = Ensembles(*rng.normal(size=(2, 500, 16)), None, ("x",), (1.0,), (True,))
    >>> round(float(spectral(pair)["variance_share"].value.sum()), 9)
    1.0
    """
    mean = pair.reference.mean(axis=0)
    bands = spectra.make_bands(mean.shape, pair.spacing, pair.periodic)
    count = bands.resolved.size
    power = [spectra.mode_power(v - mean, pair.periodic) for v in (pair.reference, pair.synthetic)]
    per_field = [spectra.band_power(p, bands.index, count) for p in power]
    truth, made = (p.mean(axis=0) for p in per_field)
    low, high = spectra.bootstrap_mean(per_field[0], bootstrap, block=block, seed=seed)
    low_made, high_made = spectra.bootstrap_mean(per_field[1], bootstrap, block=block, seed=seed + 1)
    along = [
        [spectra.axis_power(p, bands, i).mean(axis=0) for i in range(mean.ndim)] for p in power
    ]
    band = ("band",)
    cause = "Parseval; bands of constant ratio; FFT on periodic axes, else DCT-II (Denis et al. 2002)"
    sure = "percentile bootstrap over samples (Efron & Tibshirani 1993)"
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, axis_ratio = made / truth, np.asarray(along[1]) / np.asarray(along[0])
    return {
        "spectrum": Score(band, made, "variance of the synthetic ensemble in the band", "u2", cause),
        "spectrum_low": Score(band, low_made, "its 95 % confidence band, lower", "u2", sure),
        "spectrum_high": Score(band, high_made, "its 95 % confidence band, upper", "u2", sure),
        "reference_spectrum": Score(band, truth, "variance of the reference ensemble in the band", "u2", cause),
        "reference_spectrum_low": Score(band, low, "its 95 % confidence band, lower", "u2", sure),
        "reference_spectrum_high": Score(band, high, "its 95 % confidence band, upper", "u2", sure),
        "spectrum_ratio": Score(band, ratio, "synthetic over reference variance in the band; 1 is right"),
        "variance_share": Score(band, truth / truth.sum(), "the band's share of the reference's variance"),
        "axis_spectrum_ratio": Score(
            ("axis", "band"), axis_ratio, "the same by the wavenumber along one axis alone; NaN: empty band"
        ),
        "wavenumber": Score(band, bands.centres, "middle of the band", "cycles per unit of the coordinate"),
        "band_low": Score(band, bands.edges[:-1], "lower edge of the band", "cycles per unit of the coordinate"),
        "band_high": Score(band, bands.edges[1:], "upper edge of the band", "cycles per unit of the coordinate"),
        "resolved": Score(band, bands.resolved.astype(np.int8), "1 where the band lies below the Nyquist wavenumber"),
    }


def distribution(
    pair: Ensembles, patch_sizes: Sequence[int] = (3, 6), *, block: int = 1, bootstrap: int = 400, seed: int = 0
) -> Scores:
    """Distances between the laws of pixels, gradients, amplitudes and patches, and the quantiles of the tails.

    >>> rng = np.random.default_rng(0)
    >>> pair = Ensembles(*rng.normal(size=(2, 500, 16)), None, ("x",), (1.0,), (True,))
    >>> float(distribution(pair)["pixel_qq"].value) < 0.05
    True
    """
    y, x = pair.reference, pair.synthetic
    space = tuple(range(1, y.ndim))
    amplitude = [v.std(axis=space) for v in (y, x)]
    w1, villani = "W1 of the pooled values over their standard deviation in the reference", "Villani (2003), thm 2.18"

    return {
        "pixel_qq": _scalar(
            distances.local_quantile_distance(y, x),
            f"pixels, within each of 4 parts of every axis: {w1}", source=villani,
        ),
        "gradient_qq": _scalar(
            distances.quantile_distance(distances.gradients(y), distances.gradients(x)),
            f"steps between neighbouring cells: {w1}", source=villani,
        ),
        "amplitude_qq": _scalar(
            distances.quantile_distance(*amplitude),
            f"standard deviation over space of each field: {w1}", source=villani,
        ),
        "amplitude_spread": _scalar(
            float(amplitude[1].std() / max(amplitude[0].std(), 1e-300)),
            "spread between fields of their amplitude, synthetic over reference; 1 is right",
        ),
        "patch_wasserstein": _scalar(
            distances.patch_wasserstein(y, x, sizes=patch_sizes, seed=seed),
            f"sliced W2 of patches of {', '.join(map(str, patch_sizes))} cells a side, in standard deviations",
            source="Rabin et al. (2012); Karras et al. (2018)",
        ),
    } | _tails(y, x, block, bootstrap, seed)


def maps(pair: Ensembles) -> Scores:
    """Errors of the maps of mean and spread, relative to the reference's spread.

    >>> pair = Ensembles(*np.random.default_rng(0).normal(size=(2, 500, 16)), None, ("x",), (1.0,), (True,))
    >>> float(maps(pair)["mean_error"].value) < 0.1
    True
    """
    mean = [v.mean(axis=0) for v in (pair.reference, pair.synthetic)]
    spread = [v.std(axis=0, ddof=1) for v in (pair.reference, pair.synthetic)]
    scale = np.sqrt(np.mean(spread[0] ** 2))
    errors = [np.sqrt(np.mean((m[1] - m[0]) ** 2)) / scale for m in (mean, spread)]
    return {
        "mean_error": _scalar(float(errors[0]), "RMS difference of the mean maps over the reference's RMS spread"),
        "spread_error": _scalar(float(errors[1]), "RMS difference of the spread maps over the reference's RMS spread"),
    }


def memorisation(pair: Ensembles, training: Array) -> Scores:
    """Whether synthetic fields are copies: their distance to the training set against that of held-out fields.

    `memorised` fires where the median distance is under half that of the held-out fields, or where more
    fields are three times nearer to their nearest than to their second nearest training field than 5 %
    beyond the reference's.

    >>> rng = np.random.default_rng(0)
    >>> train, held, fresh = rng.normal(size=(3, 200, 16))
    >>> ask = lambda made: memorisation(Ensembles(held, made, None, ("x",), (1.0,), (True,)), train)
    >>> float(ask(train + 0.01)["memorised"].value), float(ask(fresh)["memorised"].value)
    (1.0, 0.0)
    """
    near, second = zip(*(distances.nearest(v, training) for v in (pair.reference, pair.synthetic)))
    ratio = np.median(near[1]) / np.median(near[0])
    share = [float(np.mean(a < COPY_RATIO * b)) for a, b in zip(near, second)]
    fires = ratio < NEAR_RATIO or share[1] > share[0] + COPY_SHARE
    return {
        "memorisation_ratio": _scalar(
            float(ratio),
            "median distance to the nearest training field, synthetic over reference; 1 is fresh, 0 a copy",
            source="after Meehan, Chaudhuri & Dasgupta (2020)",
        ),
        "copied_share": _scalar(
            share[1],
            "share of synthetic fields three times nearer to their nearest than to their second training field",
            source="Yoon et al. (2023)",
        ),
        "memorised": _scalar(float(fires), "1 where the memorisation check fires"),
    }


def _tails(y: Array, x: Array, block: int, bootstrap: int, seed: int) -> Scores:
    """Quantiles of the pooled pixels far into the tails, with the reference's confidence band."""
    p = np.asarray(PROBABILITIES)
    band = _quantile_band(y, p, block, bootstrap, seed)
    quantiles = [np.quantile(v, p) for v in (y, x)]
    tail = (p < 0.02) | (p > 0.98)
    return {
        "tail_error": _scalar(
            float(np.mean(np.abs(quantiles[1] - quantiles[0])[tail]) / y.std()),
            "mean distance of the quantiles beyond 2 % and 98 %, over the standard deviation",
        ),
        "quantile": Score(("probability",), quantiles[1], "quantile of the pooled synthetic pixels", "u"),
        "reference_quantile": Score(("probability",), quantiles[0], "quantile of the pooled reference pixels", "u"),
        "reference_quantile_low": Score(("probability",), band[0], "its 95 % confidence band, lower", "u"),
        "reference_quantile_high": Score(("probability",), band[1], "its 95 % confidence band, upper", "u"),
    }


def _quantile_band(values: Array, p: Array, block: int, bootstrap: int, seed: int) -> Array:
    """95 % band of pooled quantiles, members drawn in blocks: (2, probabilities).

    Binned to some 4,000 levels, finer towards the ends, so one ensemble costs a sum of histograms and no sort.
    """
    end = np.logspace(-7.0, -3.5, 300)
    levels = np.concatenate([[0.0], end, np.linspace(4e-4, 1.0 - 4e-4, 4000), 1.0 - end[::-1], [1.0]])
    edges = np.unique(np.quantile(values, levels))
    if edges.size < 3:
        return np.repeat(edges[:1], 2 * p.size).reshape(2, -1)
    rows = values.reshape(len(values), -1)
    groups = np.array_split(rows, max(2, len(rows) // max(1, block)))
    counts = np.stack([np.histogram(g, edges)[0] for g in groups]).astype(float)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(groups), np.full(len(groups), 1.0 / len(groups)), size=min(bootstrap, 200))
    cumulative = np.cumsum(weights @ counts, axis=1)
    cumulative = np.concatenate([np.zeros((len(cumulative), 1)), cumulative / cumulative[:, -1:]], axis=1)
    drawn = np.stack([np.interp(p, c, edges) for c in cumulative])
    return np.asarray(np.percentile(drawn, [2.5, 97.5], axis=0))
