"""Running statistics are those of the states, in any blocking, and memory does not grow with the members."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import sdesim as sim
from sdesim.statistics import BINS, Bins, EnsembleStatistics, Histograms, Running

# what is 2¹⁰⁷⁴ times smaller than a bin is nought to it
FINITE = st.floats(-1e100, 1e100).filter(lambda x: x == 0.0 or abs(x) > 1e-100)


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(float, st.integers(1, 60), elements=FINITE), st.lists(st.integers(0, 60), max_size=4), st.integers(2, 64))
def test_a_histogram_depends_on_the_values_alone(values, cuts, bins):
    whole, parts, merged = Histograms(2, bins), Histograms(2, bins), Histograms(2, bins)
    rows = np.stack([values, np.abs(values) + 1.0])
    whole.add(rows)
    for block in np.split(rows[:, ::-1], sorted(min(c, len(values)) for c in cuts), axis=1):
        own = Histograms(2, bins)
        for kept in (parts, own):
            kept.add(block)
        merged.merge(own)
    found = whole.result()
    for kept in (parts.result(), merged.result()):
        np.testing.assert_array_equal([found.k, found.first], [kept.k, kept.first])
        np.testing.assert_array_equal(found.counts, kept.counts)
    for row, edges, counts in zip(rows, found.edges, found.counts):
        inside = (row[:, None] >= edges[:-1]) & (row[:, None] < edges[1:])
        np.testing.assert_array_equal(counts, inside.sum(axis=0))


def test_bins_hold_what_came_in_between():
    histogram = Histograms(1, 64)
    for values in ([0.0, 10.0], [15.9], [-5.0], [100.0]):  # some need no other bins, some move them
        histogram.add(np.array([values]))
    found = histogram.result()
    assert found.counts.sum() == 5 and found.edges[0, 0] <= -5.0 and found.edges[0, -1] > 100.0


def test_bins_are_as_fine_as_the_values_allow():
    histogram = Histograms(2)
    histogram.add(np.stack([np.linspace(-3.0, 5.0, 1000), np.full(1000, 3.7)]))
    found = histogram.result()
    assert found.width[0] == 0.125 or np.count_nonzero(found.counts[0]) > 32
    assert found.counts[1].max() == 1000 and found.width[1] < 1e-10


@pytest.mark.parametrize("n", [1, 7, 31, 32, 33, 512, 700])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_fused_sums_are_numpy_s_in_any_cut(d, n):
    times, rng = 3, np.random.default_rng(n)
    states = rng.normal(5.0, 2.0, (times, d, n)) * 10.0 ** rng.integers(-3, 4, (times, d, 1))
    states[:, -1] += 0.5 * states[:, 0]
    kept, parts = EnsembleStatistics([f"x{i}" for i in range(d)], times), []
    for block in np.split(states, [n // 3, n // 2], axis=2):
        parts.append(EnsembleStatistics(kept.names, times))
        for own in (kept, parts[-1]):
            assert own.add(block) == 0
    merged = EnsembleStatistics(kept.names, times)
    for part in parts:
        merged.merge(part)
    for own in (kept, merged):
        assert own.count == n
        found = own.running.results()
        np.testing.assert_allclose(found["mean"], states.mean(axis=2).T, rtol=1e-13)
        np.testing.assert_array_equal(found["minimum"], states.min(axis=2).T)
        np.testing.assert_array_equal(found["maximum"], states.max(axis=2).T)
        if n > 1:
            np.testing.assert_allclose(found["variance"], states.var(axis=2, ddof=1).T, rtol=1e-11)
            for (i, j), value in own.running.covariances().items():
                exact = [np.cov(states[t, [i, j]])[0, 1] for t in range(times)]
                scale = np.sqrt(found["variance"][i] * found["variance"][j])
                np.testing.assert_allclose(value / scale, exact / scale, atol=1e-11)
        np.testing.assert_array_equal(own.histograms.result().counts.sum(axis=1), n)


def test_members_that_are_not_finite_are_left_out_and_exits_counted():
    states = np.random.default_rng(1).normal(size=(4, 3, 100))
    states[:, 2] = np.where(np.arange(100) < 5 * np.arange(4)[:, None], 0.3, -1e300)
    states[2, 0, [7, 50]], states[3, 1, 99] = np.nan, -np.inf
    kept = EnsembleStatistics(["x", "y"], 4, alive=-5e299)
    assert kept.add(states[..., :60]) + kept.add(states[..., 60:]) == 3
    fine = np.setdiff1d(np.arange(100), [7, 50, 99])
    np.testing.assert_allclose(kept.running.results()["mean"], states[:, :2, fine].mean(axis=2).T, rtol=1e-12)
    assert kept.exits.tolist() == [0, 5, 9, 14] and kept.count == 97
    huge = EnsembleStatistics(["x"], 1)
    assert huge.add(np.full((1, 1, 40), 1e308)) == 0 and huge.running.high[0, 0] == 1e308


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
    monkeypatch.setattr("sdesim.reduction.SHARE", 1000)
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


@pytest.mark.filterwarnings("ignore:v makes interfaces")
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


@pytest.mark.parametrize("how", [{"method": "exact"}, {"rtol": 1e-2, "atol": 1e-2}, {"device": "reference", "dt": 0.1}])
def test_every_engine_of_an_sde_can_be_reduced(how, monkeypatch):
    monkeypatch.setattr("sdesim.reduction._GROUP_BYTES", 1)  # many groups
    model = sim.SDE({"x": "-x + y", "y": "-y"}, {"x": 0.3, "y": 0.5})
    call = {"members": 1500, "seed": 3, **how}
    states = sim.simulate(model, {"x": 1.0, "y": 0.0}, [0.5, 1.0], **call)
    ds = sim.simulate(model, {"x": 1.0, "y": 0.0}, [0.5, 1.0], save="statistics", **call)
    np.testing.assert_allclose(ds.x_mean, states.x.mean("member"), rtol=1e-12)
    exact = [np.cov(states.x[:, t], states.y[:, t])[0, 1] for t in range(2)]
    np.testing.assert_allclose(ds.x_y_covariance, exact, rtol=1e-10)


def test_memory_is_flat_in_members_and_steps(monkeypatch):
    monkeypatch.setattr("sdesim.reduction.SHARE", 4096)
    model = sim.SDE({"x": "-x"}, {"x": 0.5}, bounds={"x": sim.Absorbing(hi=2.0)})

    def peak(members, dt):
        tracemalloc.start()
        sim.simulate(model, {"x": stats.norm(0, 0.1)}, [0.5, 1.0], members=members, dt=dt, save="statistics")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(10, 0.1)
    least = peak(20_000, 0.1)
    # a number, an initial value and a time of exit for each member would be 4 MB more, a state at each step 32 MB
    assert peak(200_000, 0.1) < least + 2e6
    assert peak(20_000, 0.005) < least + 2e6


@pytest.mark.parametrize("n", [63, 64, 512, 577, 1500])
@pytest.mark.parametrize("spread", [1e-12, 1.0, 90.0])
def test_counts_by_planes_are_numpy_s(n, spread):
    # bins of width 1 from −64 to 63, and values on their edges: one window, or two where they spread over more than 64
    rng, histogram = np.random.default_rng(n), Histograms(2, BINS)
    histogram.held = Bins(np.zeros(2, int), np.full(2, -64.0), np.zeros((2, 2 * BINS), np.int64))
    values = np.clip(rng.normal(3.0, spread, (2, n)), -64.0, 63.25)
    values[0, ::3] = np.round(values[0, ::3])
    histogram.count(values, np.stack([values.min(1), values.max(1)], axis=1))
    for row, counts in zip(values, histogram.held.counts):
        np.testing.assert_array_equal(counts, np.bincount(np.floor(row).astype(int) + 64, minlength=128))


def growing(**options):
    """States that leave a histogram's room after the first members, and one that does not stay finite."""
    sde = sim.SDE({"x": "k*x", "y": "where(k > 2.9, x**400, -y)"}, {"x": "s", "y": "s"}, parameters={"k": 0.0, "s": 0.1})
    k = np.linspace(-1.0, 1.0, 3000)
    k[1700], k[2600:] = 3.0, 2.0
    return sim.simulate(sde, {"x": 1.0, "y": 0.0}, [0.5, 1.013, 2.0, 3.0], members=3000, parameters={"k": k}, dt=0.02,
                        seed=3, **options)  # fmt: skip


@pytest.mark.parametrize(("dtype", "fine_to"), [("float64", 1e-12), ("float32", 1e-7)])
def test_states_folded_in_compiled_code_are_those_that_are_saved(dtype, fine_to):
    states, folded = growing(dtype=dtype), growing(save="statistics", dtype=dtype)
    fine = states.isel(member=states.status.values == 0)
    assert folded.attrs["members_finite"] == fine.sizes["member"] == 2999
    for name in "xy":
        own = fine[name].astype(float).transpose("time", "member").values
        np.testing.assert_allclose(folded[f"{name}_mean"], own.mean(1), rtol=fine_to)
        np.testing.assert_allclose(folded[f"{name}_variance"], own.var(1, ddof=1), rtol=10 * fine_to)
        np.testing.assert_array_equal(folded[f"{name}_maximum"], own.max(1))
        expected = Histograms(len(own), BINS)
        expected.add(own)
        np.testing.assert_array_equal(folded[f"{name}_histogram"].transpose("time", "bin"), expected.result().counts)
    a, b = (fine[name].astype(float).transpose("time", "member").values for name in "xy")
    covariance = [np.cov(u, v)[0, 1] for u, v in zip(a, b)]
    np.testing.assert_allclose(folded.x_y_covariance, covariance, rtol=1000 * fine_to, atol=1e-13)


def test_exits_of_blocks_that_are_refused_are_counted_once():
    walk = sim.SDE({"x": "m"}, {"x": 1.0}, bounds={"x": sim.Absorbing(hi=1.0)}, parameters={"m": 0.0})
    m = np.repeat([0.0, -30.0, 0.5], 700)  # the second kind needs bins that the first has no room for
    options = {"members": 2100, "parameters": {"m": m}, "dt": 0.05, "seed": 5}
    states, folded = (sim.simulate(walk, {"x": 0.0}, [0.5, 1.0, 3.0], save=s, **options) for s in ("states", "statistics"))
    left = [(states.exit_time <= t).sum().item() for t in (0.5, 1.0, 3.0)]
    assert folded.exits.values.tolist() == left and folded.x_histogram.sum("bin").values.tolist() == [2100] * 3
