"""The figures of a report, as matplotlib figures without pyplot: no global state, no display.

One colour stands for one ensemble everywhere (Okabe & Ito's palette, safe for the colour-blind), and fields
that are compared share one colour bar.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from surrogates.alignment import pairing, samples, shared_parameters, space_dims

Array = NDArray[np.float64]

TRUTH = "#111111"
COLOURS = {"surrogate": "#0072B2", "fresh": "#009E73", "gaussian": "#D55E00"}
SPARE = ("#CC79A7", "#E69F00", "#56B4E9")
FIELD_MAP, ERROR_MAP = "viridis", "RdBu_r"
FONT = {"fontsize": 9.5, "color": "#333333"}


def png(figure: Figure, dpi: int = 130) -> str:
    """A figure as the text of a base64 PNG.

    >>> png(Figure(figsize=(1, 1)))[:8]
    'iVBORw0K'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def colour(name: str, names: Sequence[str]) -> str:
    """The colour of one ensemble among those shown.

    >>> colour("surrogate", ["surrogate", "other"]), colour("other", ["surrogate", "other"])
    ('#0072B2', '#CC79A7')
    """
    others = [n for n in names if n not in COLOURS]
    return COLOURS[name] if name in COLOURS else SPARE[others.index(name) % len(SPARE)]


def gallery(
    reference: xr.Dataset, sources: Mapping[str, xr.Dataset], labels: Mapping[str, str], name: str, columns: int = 7
) -> Figure:
    """Samples of each ensemble under the truth on one colour bar; a column is one held-out member where paired."""
    space = space_dims(reference[name])
    truth = samples(reference, name)
    chosen = np.unique(np.linspace(0, len(truth) - 1, columns).round().astype(int))
    given = shared_parameters(reference, sources.values())
    titles, chosen = _column_titles(reference, given, chosen, len(truth))
    rows = {"truth": truth[chosen]}
    for key, ds in sources.items():
        made = samples(ds, name, space)
        pairs = pairing(reference, ds, given, strict=False)
        flat = np.linspace(0, len(made) - 1, len(chosen)).astype(int)
        rows[key] = made[pairs[0][chosen]] if pairs is not None and len(pairs[0]) == len(truth) else made[flat]
    low, high = np.quantile(truth, [0.001, 0.999])
    aspect = _aspect(reference, space)
    height = 1.42 * min(1.25, max(0.55, aspect * truth.shape[-2] / truth.shape[-1])) if len(space) > 1 else 1.0
    figure = Figure(figsize=(1.42 * len(chosen) + 2.3, height * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), len(chosen), squeeze=False, sharex=True, sharey=True)
    for i, (key, fields) in enumerate(rows.items()):
        shade = TRUTH if key == "truth" else colour(key, list(sources))
        for j, field in enumerate(fields):
            image = _show(axes[i, j], field, low, high, aspect=aspect, line=shade)
            if i == 0 and titles:
                axes[i, j].set_title(titles[j], fontsize=8.5, color="#555555")
        label = _wrap(labels.get(key, key))
        axes[i, 0].set_ylabel(
            label, rotation=0, ha="right", va="center", labelpad=8, fontsize=10, color=shade, weight="bold"
        )
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.012, extend="both")
        _label_bar(bar, reference[name])
    return figure


def maps(
    reference: xr.Dataset, sources: Mapping[str, xr.Dataset], labels: Mapping[str, str], name: str
) -> Figure:
    """Maps of mean and spread of each ensemble beside the truth's, each row on one colour bar."""
    space = space_dims(reference[name])
    every = {"truth": samples(reference, name)} | {k: samples(ds, name, space) for k, ds in sources.items()}
    aspect = _aspect(reference, space)
    shape = next(iter(every.values())).shape
    height = 2.0 * min(1.3, max(0.55, aspect * shape[-2] / shape[-1])) if len(space) > 1 else 1.6
    figure = Figure(figsize=(2.15 * len(every) + 1.7, 2 * height + 0.8), layout="constrained")
    axes = figure.subplots(2, len(every), squeeze=False, sharex=True, sharey="row")
    for i, what in enumerate(("mean", "spread")):
        fields = {k: v.mean(axis=0) if what == "mean" else v.std(axis=0) for k, v in every.items()}
        low, high = float(np.min(fields["truth"])), float(np.max(fields["truth"]))
        pad = 0.05 * (high - low) + 1e-12
        for j, (key, field) in enumerate(fields.items()):
            shade = TRUTH if key == "truth" else colour(key, list(sources))
            image = _show(axes[i, j], field, low - pad, high + pad, aspect=aspect, line=shade)
            if i == 0:
                axes[i, j].set_title(_wrap(labels.get(key, key)), fontsize=10, color=shade, weight="bold")
        axes[i, 0].set_ylabel(what, fontsize=10, color="#333333")
        if image is not None:
            _label_bar(figure.colorbar(image, ax=axes[i], shrink=0.85, pad=0.015, extend="both"), reference[name])
    return figure


def spectra(scores: xr.Dataset, labels: Mapping[str, str], units: str = "") -> Figure:
    """Spectra with the reference's confidence band, and their ratio to it; `scores` of one variable over `source`."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    width = (scores.band_high - scores.band_low).to_numpy()
    k, truth = scores.wavenumber.to_numpy(), scores.reference_spectrum.to_numpy()
    low, high = scores.reference_spectrum_low.to_numpy(), scores.reference_spectrum_high.to_numpy()
    left.fill_between(k, low / width, high / width, color="#999999", alpha=0.45, lw=0, label="held-out, 95 % band")
    left.plot(k, truth / width, color=TRUTH, lw=1.6, label=labels.get("truth", "held-out"))
    right.axhspan(0.9, 1.1, color="#eeeeee", lw=0, label="± 10 %")
    right.fill_between(k, low / truth, high / truth, color="#999999", alpha=0.45, lw=0)
    right.axhline(1.0, color=TRUTH, lw=1.2)
    names = [str(s) for s in scores.source.values]
    for key in reversed(names):
        one = scores.sel(source=key)
        style: dict[str, Any] = {"color": colour(key, names), "label": labels.get(key, key), "marker": "o", "ms": 3.5}
        style |= {"lw": 2.0} if key == "surrogate" else {"lw": 1.2, "alpha": 0.9}
        left.plot(k, one.spectrum / width, **style)
        right.plot(k, one.spectrum_ratio, **style)
    left.set(xscale="log", yscale="log")
    left.set_ylabel(f"variance per unit wavenumber{f'  ({units}² per cycle/unit)' if units else ''}", **FONT)
    right.set(xscale="log", ylim=_ratio_limits(scores))
    right.set_ylabel("ratio to held-out", **FONT)
    edge, end = float(scores.band_high.where(scores.resolved > 0).max()), float(scores.band_high.max())
    for axes in (left, right):
        if end > edge:
            axes.axvspan(edge, end, color="#f6e7d8", lw=0, zorder=0)
        axes.set_xlabel("wavenumber (cycles per unit);  shaded: beyond Nyquist", **FONT)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _plain(axes)
    left.legend(fontsize=8.5, frameon=False)
    return figure


def tails(
    reference: xr.Dataset,
    sources: Mapping[str, xr.Dataset],
    scores: xr.Dataset,
    labels: Mapping[str, str],
    name: str,
) -> Figure:
    """Log-density of the pooled pixels, and the QQ plot as a difference with the reference's confidence band."""
    figure = Figure(figsize=(9.6, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    space, names = space_dims(reference[name]), list(sources)
    every = {k: samples(ds, name, space).ravel() for k, ds in sources.items()}
    truth = samples(reference, name).ravel()
    sd = float(truth.std())
    _draw_densities(left, truth, every, labels, str(reference[name].attrs.get("units", "")))
    quantile = scores.reference_quantile.to_numpy()
    low, high = scores.reference_quantile_low.to_numpy(), scores.reference_quantile_high.to_numpy()
    x = np.arange(quantile.size)
    right.fill_between(x, (low - quantile) / sd, (high - quantile) / sd, color="#999999", alpha=0.45, lw=0)
    right.axhline(0.0, color=TRUTH, lw=1.2)
    for key in reversed(names):
        style: dict[str, Any] = {"color": colour(key, names), "lw": 2.0 if key == "surrogate" else 1.2}
        right.plot(x, (scores["quantile"].sel(source=key) - quantile) / sd, marker="o", ms=3.5, **style)
    right.set_xticks(x, [f"{100 * p:g}" for p in scores.probability.to_numpy()], rotation=45)
    right.set_xlabel("quantile (%);  band: 95 % of held-out", **FONT)
    right.set_ylabel("quantile − held-out's (standard deviations)", **FONT)
    for axes in (left, right):
        _plain(axes)
    return figure


def _show(axes: Any, field: Array, low: float, high: float, *, aspect: float, line: str) -> Any:
    """One field as an image (middle slice in 3-D) or a line (1-D): the image, or None."""
    while field.ndim > 2:
        field = field[field.shape[0] // 2]
    if field.ndim == 1:
        axes.plot(field, color=line, lw=1.0)
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        image = None
    else:
        image = axes.imshow(field, origin="lower", cmap=FIELD_MAP, vmin=low, vmax=high, aspect=aspect)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#bbbbbb")
    return image


def _aspect(ds: xr.Dataset, space: Sequence[str]) -> float:
    """Height over width of one cell as drawn: metric for latitude and longitude at the middle latitude."""
    if len(space) < 2 or any(d not in ds.coords or ds.sizes[d] < 2 for d in space[-2:]):
        return 1.0
    step = [abs(float(ds[d][1] - ds[d][0])) for d in space[-2:]]
    squeeze = np.cos(np.deg2rad(float(ds[space[-2]].mean()))) if space[-2] in ("latitude", "lat") else 1.0
    return float(step[0] / (step[1] * squeeze))


def _column_titles(
    reference: xr.Dataset, given: Sequence[str], chosen: NDArray[np.int64], count: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Columns in the order of the first condition, from low to high, and their titles."""
    if not given or reference.sizes.get("member") != count:
        return [], chosen
    values = reference[given[0]].to_numpy()
    ranks = np.unique(np.linspace(0.02, 0.98, len(chosen)) * (count - 1)).round().astype(int)
    chosen = np.argsort(values)[ranks]
    return [f"{_wrap(given[0], 14)}\n{values[i]:.3g}" for i in chosen], chosen


def _draw_densities(
    axes: Any, truth: Array, every: Mapping[str, Array], labels: Mapping[str, str], units: str
) -> None:
    """Histograms of pooled values on a log scale, from the lowest to the highest value of any ensemble."""
    pools = [truth, *every.values()]
    bins = np.linspace(min(float(v.min()) for v in pools), max(float(v.max()) for v in pools), 90)
    middle = 0.5 * (bins[1:] + bins[:-1])
    axes.fill_between(middle, np.histogram(truth, bins, density=True)[0], color="#cccccc", step="mid", lw=0)
    names = list(every)
    curves = {k: (every[k], colour(k, names)) for k in reversed(names)} | {"truth": (truth, TRUTH)}
    for key, (values, shade) in curves.items():
        density = np.histogram(values, bins, density=True)[0]
        width = 2.0 if key == "surrogate" else 1.2
        shown = np.where(density > 0, density, np.nan)
        axes.step(middle, shown, where="mid", color=shade, lw=width, label=labels.get(key, key))
    axes.set(yscale="log")
    axes.set_xlabel(f"value of a pixel{f' ({units})' if units not in ('', '1') else ''}", **FONT)
    axes.set_ylabel("density (log scale)", **FONT)
    axes.legend(fontsize=8.5, frameon=False)


def _ratio_limits(scores: xr.Dataset) -> tuple[float, float]:
    seen = scores.spectrum_ratio.where((scores.resolved > 0) & (scores.variance_share > 1e-3))
    return max(0.0, min(0.75, float(seen.min()) - 0.05)), min(2.0, max(1.25, float(seen.max()) + 0.05))


def _label_bar(bar: Any, field: xr.DataArray) -> None:
    units = str(field.attrs.get("units", ""))
    words = str(field.attrs.get("long_name", field.name))
    bar.set_label(f"{words} ({units})" if units not in ("", "1") else words, fontsize=9, color="#333333")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _plain(axes: Any) -> None:
    axes.tick_params(labelsize=8.5, colors="#444444")
    axes.grid(True, which="major", color="#eeeeee", lw=0.7, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _wrap(text: str, width: int = 12) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
