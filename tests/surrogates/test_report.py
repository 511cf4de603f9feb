"""The page: self-contained, complete, and its verdict follows the scores."""

import re

import numpy as np
import pytest
import xarray as xr

from surrogates.report import report
from surrogates.scores import compare
from surrogates.verdict import verdict


def ensemble(seed, scale=1.0, members=120, space=("y", "x"), cells=12):
    rng = np.random.default_rng(seed)
    u = scale * rng.normal(size=(members, *[cells] * len(space)))
    coords = {d: (np.arange(cells) + 0.5) / cells for d in space}
    return xr.Dataset({"u": (("member", *space), u, {"units": "K", "long_name": "temperature"})}, coords)


def test_the_page_needs_nothing_from_the_network_and_holds_every_panel(tmp_path):
    page = report(
        ensemble(0), ensemble(1), tmp_path / "new" / "page.html", training=ensemble(4),
        baselines={"fresh": ensemble(2), "gaussian": ensemble(3, 1.2)}, facts={"equation": "∂u/∂t = D ∇²u <&>"},
    )
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r"base64,[\w+/=]+", "", text))
    for panel in ("verdict", "samples", "maps", "spectra", "tails", "scores", "facts"):
        assert f'<section class="{panel}">' in text, panel
    assert text.count("data:image/png;base64,iVBORw0K") == 4
    assert "∂u/∂t = D ∇²u &lt;&amp;&gt;" in text
    for words in ("fresh solver members", "fitted Gaussian", "energy score", "Memorisation"):
        assert words in text


@pytest.mark.parametrize("space", [("x",), ("z", "y", "x")])
def test_lines_and_volumes_have_pages_too(tmp_path, space):
    make = lambda seed: ensemble(seed, members=30, space=space, cells=8)
    assert report(make(0), make(1), tmp_path / "page.html").stat().st_size > 20_000


def test_two_variables_have_their_own_panels(tmp_path):
    make = lambda s: ensemble(s).assign(v=2 * ensemble(s + 10).u)
    text = report(make(0), make(1), tmp_path / "page.html", baselines={"fresh": make(2)}).read_text()
    assert text.count('<section class="spectra">') == 2
    assert "Spectrum of v" in text


def test_the_verdict_follows_the_scores():
    held, gaussian, fresh = ensemble(0, members=800), ensemble(3, 1.3), [ensemble(s, members=800) for s in (2, 5)]
    good = verdict(compare(held, {"surrogate": ensemble(1, members=800), "fresh": fresh, "gaussian": gaussian}))
    assert all(f.good for f in good), good
    bad = verdict(compare(held, {"surrogate": ensemble(1, 1.2, members=800), "fresh": fresh, "gaussian": gaussian}))
    assert [f.good for f in bad][0] is False
    assert "above the floor" in " ".join(f.words for f in bad)
    copies = verdict(compare(held, {"surrogate": ensemble(1)}, training=ensemble(1) + 1e-3))
    assert copies[-1].good is False


def test_a_floor_of_several_ensembles_is_their_mean():
    held, several = ensemble(0), [ensemble(s) for s in (1, 2, 3)]
    both = compare(held, {"fresh": several}).sel(source="fresh")
    one_by_one = [compare(held, {"fresh": ds}).sel(source="fresh") for ds in several]
    for name in ("pixel_qq", "energy_score", "spectrum_ratio"):
        np.testing.assert_allclose(both[name], np.mean([s[name].values for s in one_by_one], axis=0))
    assert both.pixel_qq.attrs["long_name"]


def test_without_a_floor_and_with_a_gaussian_served_nothing_is_called_a_failure():
    scores = compare(ensemble(0), {"surrogate": ensemble(1, 1.2), "gaussian": ensemble(3, 1.2)})
    assert all(f.good is not None for f in verdict(scores)[1:])  # against a rival each distance is judged
    scores.attrs["served"] = "gaussian"
    assert [f.good for f in verdict(scores)] == [None, None, None, None]
