"""Poisson counts as a function of one uniform number: the law itself, its tails, monotony, and samples."""

import numpy as np
import pytest
from scipy import special, stats

from sdesim.arithmetic import NUMPY
from sdesim.poisson import floor, poisson
from sdesim.streams import uniforms

MEANS = (0.01, 0.7, 5.0, 15.9, 16.0, 17.3, 22.0, 40.0, 150.0, 3e3, 1e6, 1e9)


def thresholds(mean, n):
    """(u at which the count passes n, 1 − u), by bisection on ln(u/(1 − u)): the law that is really drawn."""
    low, high = np.full(n.shape, -36.0), np.full(n.shape, 36.0)
    for _ in range(64):
        middle = 0.5 * (low + high)
        above = poisson(mean, special.expit(middle)) > n
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return special.expit(low), special.expit(-low)


@pytest.mark.parametrize("mean", MEANS)
def test_the_law_that_is_drawn_is_the_poisson_law(mean):
    # every count where there are few, else counts on a grid from −6 to 6 standard deviations
    spread = np.sqrt(mean)
    n = np.arange(0.0, mean + 8 * spread + 12)[:400] if mean < 200 else np.round(mean + spread * np.linspace(-6, 6, 41))
    (below, _), (upto, above) = thresholds(mean, n - 1), thresholds(mean, n)
    before = thresholds(mean, n - 1)[1]
    drawn = np.where(n < mean, upto - np.where(n > 0, below, 0.0), np.where(n > 0, before, 1.0) - above)
    exact = stats.poisson.pmf(n, mean)
    seen = exact > 1e-12
    assert np.sum((drawn - exact)[seen] ** 2 / exact[seen]) < 1e-13
    assert np.abs(drawn / exact - 1)[exact > 1e-6].max(initial=0.0) < 3e-5
    assert np.abs(drawn / exact - 1)[seen].max() < 1e-3


@pytest.mark.parametrize("mean", [0.3, 4.0, 16.0, 60.0, 1e7])
def test_counts_of_the_stream_follow_the_law(mean):
    counts = poisson(mean, uniforms(11, np.arange(200_000)))
    edges = np.unique(stats.poisson.ppf(np.linspace(0.0, 1.0, 41)[1:-1], mean))
    cells = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    found = np.bincount(np.searchsorted(edges, counts, side="left"), minlength=len(cells))
    keep = cells > 1e-6
    chi2 = np.sum((found - counts.size * cells)[keep] ** 2 / (counts.size * cells[keep]))
    assert 1e-4 < stats.chi2.sf(chi2, keep.sum() - 1) < 1 - 1e-4


def test_a_count_grows_with_u_and_with_the_mean():
    u = np.sort(uniforms(3, np.arange(20_000)))
    means = np.concatenate([np.linspace(0.0, 80.0, 400), np.logspace(2, 9, 60)])
    for mean in means[::7]:
        assert (np.diff(poisson(mean, u)) >= 0).all()
    grid = poisson(means[:, None], u[::100])
    assert (np.diff(grid, axis=0) >= 0).all()


def test_edges_and_refusals():
    tiny, most = 2.0**-53, 1.0 - 2.0**-53
    assert poisson(0.0, [tiny, most]).tolist() == [0.0, 0.0]
    for mean in (0.5, 16.0, 1e3, 1e9):
        assert poisson(mean, tiny) == pytest.approx(stats.poisson.ppf(tiny, mean), abs=1 if mean < 1e8 else 20)
        assert poisson(mean, most) == pytest.approx(stats.poisson.isf(tiny, mean), abs=1 if mean < 1e8 else 20)
    for mean in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="at least 0"):
            poisson(mean, 0.5)
    with pytest.raises(ValueError, match="between 0 and 1"):
        poisson(1.0, 1.0)
    x = np.array([-2.0, -1.5, -0.0, 0.5, 2.0, 2.0**60, 2.0**50 + 0.5])
    assert floor(NUMPY, x).tolist() == np.floor(x).tolist()
