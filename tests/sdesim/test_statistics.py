"""Running statistics are those of the states, in any blocking, and memory does not grow with the members."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import sdesim as sim
from sdesim.statistics import BINS, EnsembleStatistics, Histogram, Running

# what is 2¹⁰⁷⁴ times smaller than a bin is nought to it
FINITE = st.floats(-1e100, 1e100).filter(lambda x: x == 0.0 or abs(x) > 1e-100)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(float, st.integers(1, 60), elements=FINITE), st.lists(st.integers(0, 60), max_size=4), st.integers(2, 64))
def test_a_histogram_depends_on_the_values_alone(values, cuts, bins):
    whole, parts = Histogram(bins), Histogram(bins)
    whole.add(values)
    for block in np.split(values[::-1], sorted(min(c, len(values)) for c in cuts)):
        parts.add(block)
    assert (whole.k, whole.first) == (parts.k, parts.first)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    edges = (whole.first + np.arange(bins + 1)) * whole.width
    inside = (values[:, None] >= edges[:-1]) & (values[:, None] < edges[1:])
    np.testing.assert_array_equal(whole.counts, inside.sum(axis=0))


def test_bins_are_as_fine_as_the_values_allow():
    histogram = Histogram(64)
    histogram.add(np.linspace(-3.0, 5.0, 1000))
    assert histogram.width == 0.125 or np.count_nonzero(histogram.counts) > 32
    constant = Histogram()
    constant.add(np.full(10, 3.7))
    assert constant.counts.max() == 10 and constant.width < 1e-10


def test_covariances_are_numpy_s_in_any_blocking():
    draws = np.random.default_rng(0).normal(5.0, [[1.0], [3.0]], (2, 999))
    draws[1] += 0.5 * draws[0]
    running = Running([(0, 1)])
    for block in np.split(draws, [1, 400, 400, 990], axis=1):
        running.add(block[:, None, :], axis=2)
    assert running.covariances()[0, 1] == pytest.approx(np.cov(draws)[0, 1], rel=1e-12)
    assert running.results()["variance"][:, 0] == pytest.approx(np.var(draws, axis=1, ddof=1), rel=1e-12)


def test_everything_kept_is_that_of_the_states(monkeypatch, tmp_path):
    model = sim.SDE({"x": "v", "v": "-x - v"}, {"v": "0.7"}, units={"x": "m", "v": "m s-1"})
    options = {"times": [0.0, 0.4, 2.0], "members": 3000, "dt": 0.05, "seed": 4}
    states = sim.simulate(model, {"x": 1.0, "v": 0.0}, **options)
    monkeypatch.setattr("sdesim.simulation._GROUP_BYTES", 1)  # many groups
    ds = sim.simulate(model, {"x": 1.0, "v": 0.0}, save="statistics", store=tmp_path / "s.nc", **options)
    x, v = states.x.values, states.v.values
    exact = [np.cov(x[:, t], v[:, t])[0, 1] for t in range(3)]
    np.testing.assert_allclose(ds.x_v_covariance, exact, rtol=1e-10, atol=1e-15)
    assert ds.x_v_covariance.attrs["units"] == "(m) (m s-1)" and ds.x_variance.attrs["units"] == "(m)2"
    for name, values in (("x", x), ("v", v)):
        left, width = ds[f"{name}_bin_left"].values, ds[f"{name}_bin_width"].values
        for t in range(3):
            edges = np.append(left[:, t], left[-1, t] + width[t])
            np.testing.assert_array_equal(ds[f"{name}_histogram"][:, t], np.histogram(values[:, t], edges)[0])
        assert (ds[f"{name}_histogram"].sum("bin") == 3000).all()
        assert (np.count_nonzero(ds[f"{name}_histogram"], axis=0)[1:] > BINS // 4).all()
    with sim.open(tmp_path / "s.nc") as back:
        assert back.x_histogram.dtype.kind == "i" and (back.x_histogram.values == ds.x_histogram.values).all()


def test_fields_have_covariances_by_cell_and_histograms_over_cells():
    model = sim.equations.gray_scott(sim.Grid(x=(0, 1, 8), y=(0, 1, 8)))
    start = {"u": sim.GaussianField(mean=0.5, std=0.1, length=0.2), "v": 0.2}
    options = {"times": [1.0], "members": 6, "seed": 1}
    states, ds = sim.simulate(model, start, **options), sim.simulate(model, start, save="statistics", **options)
    u, v = (states[n].values[:, 0] for n in "uv")
    exact = ((u - u.mean(0)) * (v - v.mean(0))).sum(0) / 5
    np.testing.assert_allclose(ds.u_v_covariance[0], exact, rtol=1e-8, atol=1e-18)
    assert ds.u_v_covariance.dims == ("time", "y", "x")
    assert int(ds.u_histogram.sum()) == u.size


def test_memory_of_what_is_kept_is_flat():
    def peak(blocks):
        kept = EnsembleStatistics(["x", "y"], 3)
        rng = np.random.default_rng(0)
        tracemalloc.start()
        for _ in range(blocks):
            kept.add(rng.normal(size=(3, 2, 500)))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    assert peak(200) < 1.2 * peak(10)
