"""One self-contained HTML page: an ensemble of synthetic fields beside the truth, its scores, and a verdict in words.

The page needs no network: pictures are PNG in base64, the style is inline. The verdict is computed from the scores
(`verdict`) and says what it found either way.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from surrogates import pictures
from surrogates.alignment import samples, shared_variables
from surrogates.scores import compare
from surrogates.verdict import Finding, verdict

LABELS = {
    "truth": "held-out truth",
    "surrogate": "surrogate",
    "fresh": "fresh solver members",
    "gaussian": "fitted Gaussian",
}

# row of the table: score, what a reader calls it, what is good
ROWS = (
    ("energy_score", "energy score", "low"),
    ("crps", "CRPS", "low"),
    ("patch_wasserstein", "patch Wasserstein", "low"),
    ("pixel_qq", "pixel QQ distance", "low"),
    ("gradient_qq", "gradient QQ distance", "low"),
    ("amplitude_qq", "amplitude QQ distance", "low"),
    ("amplitude_spread", "spread of amplitude, ratio", "one"),
    ("mean_error", "error of the mean map", "low"),
    ("spread_error", "error of the spread map", "low"),
    ("tail_error", "error of the tails", "low"),
    ("spread_skill", "spread over skill", "one"),
    ("memorisation_ratio", "distance to training set, ratio", "one"),
    ("copied_share", "share of copies", "low"),
)


def report(
    reference: xr.Dataset,
    synthetic: xr.Dataset,
    path: str | Path,
    *,
    baselines: Mapping[str, xr.Dataset] | None = None,
    scores: xr.Dataset | None = None,
    training: xr.Dataset | None = None,
    title: str = "Synthetic fields beside the truth",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Write the page to `path` and return it.

    Args:
        reference: held-out truth; the same demands as `evaluate`.
        synthetic: the surrogate's ensemble.
        path: where the page goes; its folder is made if missing.
        baselines: other ensembles to show; "fresh" (new draws of the truth: the floor) and "gaussian" are judged.
        scores: result of `compare` over sources "surrogate" and the baselines; None computes it.
        training: fields that the model saw, for the memorisation check when `scores` is None.
        title: headline. facts: how it was made, a table of two columns. notes: paragraphs after the verdict.
        labels: names to show for "truth", "surrogate" and the baselines.

    Raises:
        KeyError, ValueError: as `evaluate`.

    >>> import tempfile
    >>> make = lambda s: xr.Dataset({"u": (("member", "y", "x"), np.random.default_rng(s).normal(size=(60, 8, 8)))})
    >>> page = report(make(0), make(1), Path(tempfile.mkdtemp()) / "page.html", baselines={"fresh": make(2)})
    >>> "data:image/png;base64" in page.read_text()
    True
    """
    sources = {"surrogate": synthetic, **(baselines or {})}
    names = LABELS | dict(labels or {})
    if scores is None:
        scores = compare(reference, sources, training=training)
    variables = [v for v in shared_variables(reference, synthetic) if v in np.atleast_1d(scores["variable"].values)]
    findings = [f for v in variables for f in verdict(_of(scores, v), v if len(variables) > 1 else "", names)]
    sections = [_verdict_section(findings, notes)]
    for name in variables:
        one = _of(scores, name)
        suffix = f": {name}" if len(variables) > 1 else ""
        sections += _picture_sections(reference, sources, one, names, name, suffix)
        sections.append(_section("scores", f"Scores{suffix}", _table(one, names), _scores_caption(one)))
    if facts:
        rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items())
        sections.append(_section("facts", "How it was made", f'<table class="facts">{rows}</table>', ""))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_page(title, sections), encoding="utf-8")
    return target


def _of(scores: xr.Dataset, name: str) -> xr.Dataset:
    return scores.sel(variable=name) if "variable" in scores.dims else scores


def _picture_sections(
    reference: xr.Dataset,
    sources: Mapping[str, xr.Dataset],
    scores: xr.Dataset,
    labels: Mapping[str, str],
    name: str,
    suffix: str,
) -> list[str]:
    units = str(reference[name].attrs.get("units", ""))
    paired = "Each column holds one held-out member's parameters. " if scores.attrs.get("conditional") else ""
    chance = f"Differences of the means up to {_chance(reference, name):.2g} are chance at this size."
    if "member" not in reference[name].dims:
        chance = ""  # the samples of a series are not independent: no such simple rule
    shown = {
        "samples": ("Samples", pictures.gallery(reference, sources, labels, name), paired + "One colour bar for all."),
        "maps": (
            "Mean and spread",
            pictures.maps(reference, sources, labels, name),
            f"Mean and standard deviation over the ensemble at each place; each row on one colour bar. {chance}",
        ),
        "spectra": (
            "Spectra",
            pictures.spectra(scores, labels, "" if units == "1" else units),
            "Variance of the deviations from the mean map by wavenumber. Grey: the 95 % band of the held-out ensemble.",
        ),
        "tails": (
            "Marginal tails",
            pictures.tails(reference, sources, scores, labels, name),
            "Left: density of all pixels. Right: quantiles against the held-out ensemble's.",
        ),
    }
    return [
        _section(key, heading + suffix, _image(pictures.png(figure), heading + suffix), caption)
        for key, (heading, figure, caption) in shown.items()
    ]


def _chance(reference: xr.Dataset, name: str) -> float:
    """Two standard errors of the mean at a place."""
    values = samples(reference, name)
    return 2.0 * float(values.std(axis=0).mean()) / float(np.sqrt(len(values)))


def _image(data: str, words: str) -> str:
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'


def _section(key: str, heading: str, body: str, caption: str) -> str:
    note = f'<p class="caption">{html.escape(caption)}</p>' if caption else ""
    return f'<section class="{key}"><h2>{html.escape(heading)}</h2>{note}{body}</section>'


def _verdict_section(findings: Sequence[Finding], notes: Sequence[str]) -> str:
    mark = {True: ("good", "✓"), False: ("bad", "✗"), None: ("plain", "·")}
    judged = [f.good for f in findings if f.good is not None]
    failed = sum(not g for g in judged)
    headline = "The surrogate passes every check." if len(judged) > 1 else "The surrogate beside the truth."
    if failed:
        headline = f"The surrogate fails {failed} of {len(judged)} checks."
    items = "".join(
        f'<li class="{mark[f.good][0]}"><span>{mark[f.good][1]}</span>{html.escape(f.words)}</li>' for f in findings
    )
    paragraphs = "".join(f"<p>{html.escape(n)}</p>" for n in notes)
    return f'<section class="verdict"><h2>{headline}</h2><ul>{items}</ul>{paragraphs}</section>'


def _scores_caption(scores: xr.Dataset) -> str:
    draws = int(scores.attrs.get("draws_per_member", 0))
    kind = f"{draws} draws for each held-out member" if scores.attrs.get("conditional") else "all draws as one forecast"
    return (
        f"Proper scores: {kind}. Distances do not reach zero between finite ensembles: fresh draws of the truth are "
        "the floor. Bold: the best that is not the floor."
    )


def _table(scores: xr.Dataset, labels: Mapping[str, str]) -> str:
    sources = [str(s) for s in scores.source.values]
    head = "".join(f'<th class="{s}">{html.escape(labels.get(s, s))}</th>' for s in sources)
    rows = [f"<tr><th>score</th>{head}<th>good is</th></tr>"]
    for name, words, good in ROWS:
        if name not in scores:
            continue
        values = np.asarray(scores[name].values, dtype=float)
        rank = np.abs(np.log(np.maximum(values, 1e-12))) if good == "one" else values
        rivals = [i for i, s in enumerate(sources) if s != "fresh"]
        best = rivals[int(np.argmin(rank[rivals]))]
        cells = "".join(
            f"<td>{'<b>' if i == best else ''}{v:.4g}{'</b>' if i == best else ''}</td>" for i, v in enumerate(values)
        )
        meaning = html.escape(str(scores[name].attrs.get("long_name", "")))
        rows.append(f'<tr title="{meaning}"><th>{words}</th>{cells}<td>{"low" if good == "low" else "1"}</td></tr>')
    return f'<table class="scores">{"".join(rows)}</table>'


def _page(title: str, sections: Sequence[str]) -> str:
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += f"<title>{html.escape(title)}</title>"
    body = f"<main><h1>{html.escape(title)}</h1>{''.join(sections)}</main>"
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>\n'


STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f5f7; color: #1c1e21; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1.2rem; }
h2 { font-size: 1.15rem; margin: 0 0 .35rem; }
section { background: white; border: 1px solid #e3e5e8; border-radius: 10px; padding: 1.1rem 1.3rem 1.2rem;
  margin-bottom: 1.1rem; }
img { width: 100%; height: auto; display: block; }
.caption { color: #5a6068; margin: 0 0 .7rem; font-size: .92rem; }
.verdict ul { list-style: none; padding: 0; margin: .5rem 0; }
.verdict li { display: flex; gap: .7rem; padding: .16rem 0; }
.verdict li span { font-weight: 700; width: 1.1rem; flex: none; }
.verdict li.good span { color: #00795b; } .verdict li.bad span { color: #c2410c; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; } td, th { padding: .34rem .7rem .34rem 0; border-bottom: 1px solid #eceef0; }
.scores td { text-align: right; } .scores tr:first-child th:not(:first-child) { text-align: right; }
.scores th { font-weight: 500; } .facts th { width: 15rem; color: #5a6068; font-weight: 500; vertical-align: top; }
.facts td { white-space: pre-line; }
th.surrogate { color: #0072B2; } th.fresh { color: #00795b; } th.gaussian { color: #c2410c; }
"""
