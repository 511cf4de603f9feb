"""The verdict on a surrogate in plain sentences, computed from its scores by these rules:

    spectrum    every resolved band with at least 0.1 % of the variance within 10 % of the reference
    distances   energy score, patch Wasserstein and pixel QQ at most 1.25 times the floor, which is the same score of
                fresh draws from the truth (`baselines["fresh"]`), and below the Gaussian's (`baselines["gaussian"]`)
    copies      the memorisation check does not fire

Where there is no floor, a distant spectrum is told but not judged: the held-out part of a short series is itself off.
Where the model chose its Gaussian (attribute `served`), there is nothing to be better than.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import xarray as xr

SPECTRUM_TOLERANCE = 0.10
VARIANCE_SHARE = 1e-3
FLOOR_FACTOR = 1.25
JUDGED = {"energy_score": "energy score", "patch_wasserstein": "patch Wasserstein", "pixel_qq": "pixel QQ"}


class Finding(NamedTuple):
    """One sentence of the verdict: whether it is good news (None: neither), and its words."""

    good: bool | None
    words: str


def verdict(scores: xr.Dataset, subject: str = "", labels: Mapping[str, str] | None = None) -> list[Finding]:
    """The scores of one variable in plain sentences, each with its own number.

    >>> import numpy as np
    >>> from surrogates.scores import compare
    >>> rng = np.random.default_rng(0)
    >>> make = lambda: xr.Dataset({"u": (("member", "x"), rng.normal(size=(900, 16)))})
    >>> [f.good for f in verdict(compare(make(), {"surrogate": make(), "fresh": make()}))]
    [True, True, True, True]
    """
    names = dict(labels or {})
    mine = scores.sel(source="surrogate")
    of = f" of {subject}" if subject else ""
    kept = (mine.resolved > 0) & (mine.variance_share >= VARIANCE_SHARE)
    off = abs(mine.spectrum_ratio - 1.0).where(kept)
    worst = int(off.argmax("band"))
    size, inside = float(off[worst]), bool(off[worst] <= SPECTRUM_TOLERANCE)
    findings = [
        Finding(
            True if inside else (False if "fresh" in scores.source.values else None),
            f"Spectrum{of}: {'within' if inside else 'not within'} {100 * SPECTRUM_TOLERANCE:.0f} % of the truth's in "
            f"every resolved band that holds 0.1 % of the variance; the furthest is {100 * size:.1f} % off, at "
            f"wavenumber {float(mine.wavenumber[worst]):.3g}.",
        )
    ]
    findings += [_judge(scores, name, words + of, names) for name, words in JUDGED.items()]
    if "memorised" in scores:
        copied = bool(mine.memorised > 0)
        found = "copies of training fields" if copied else "no sign of copying"
        distance = float(mine.memorisation_ratio)
        words = f"Memorisation{of}: {found}; synthetic fields keep {distance:.2f} times the distance from the training "
        findings.append(Finding(not copied, words + "set that held-out fields keep."))
    return findings


def _judge(scores: xr.Dataset, name: str, words: str, labels: Mapping[str, str]) -> Finding:
    """One distance of the surrogate against the floor and the Gaussian."""
    mine = float(scores[name].sel(source="surrogate"))
    sources = [str(s) for s in scores.source.values]
    good: bool | None = None
    parts = [f"{words[0].upper()}{words[1:]}: {mine:.3g}"]
    if "fresh" in sources:
        ratio = mine / float(scores[name].sel(source="fresh"))
        good = ratio <= FLOOR_FACTOR
        place = "at the floor" if good else "above the floor"
        parts.append(f"{ratio:.2f} times that of {labels.get('fresh', 'fresh draws')} ({place})")
    if "gaussian" in sources:
        ratio = mine / float(scores[name].sel(source="gaussian"))
        if scores.attrs.get("served") == "gaussian":
            parts.append(f"{ratio:.2f} times that of another draw of the plain Gaussian (the surrogate is a Gaussian)")
        else:
            better = ratio < 1.0
            good = better if good is None else good and better
            parts.append(f"{ratio:.2f} times the Gaussian's ({'better' if better else 'no better'})")
    return Finding(good, ", ".join(parts) + ".")
