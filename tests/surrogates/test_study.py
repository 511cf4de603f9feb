"""Splits that keep neighbours apart, and a whole study at a size of seconds."""

import numpy as np
import pytest
import xarray as xr

from surrogates.study import run, split_members, split_times
from surrogates.surrogate import Surrogate


@pytest.mark.parametrize("hours, blocks, gap", [(744, 4, 24), (744, 2, 48), (200, 6, 5), (101, 3, 0)])
def test_neighbouring_times_never_straddle_the_split(hours, blocks, gap):
    ds = xr.Dataset(coords={"time": np.datetime64("2019-03-01", "ns") + np.arange(hours) * np.timedelta64(1, "h")})
    train, held = split_times(ds, blocks=blocks, gap=gap)
    apart = np.abs(train.time.values[:, None] - held.time.values) / np.timedelta64(1, "h")
    assert apart.min() == gap + 1
    assert held.sizes["time"] == pytest.approx(0.25 * hours, abs=blocks)
    assert np.unique(np.concatenate([train.time, held.time])).size == train.sizes["time"] + held.sizes["time"]


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="a smaller gap"):
        split_times(xr.Dataset(coords={"time": np.arange(40)}), gap=30)


def test_members_that_blew_up_are_in_neither_part():
    ds = xr.Dataset({"status": ("member", [0, 1, 0, 0, 0, 1, 0])}, {"member": np.arange(7)})
    train, held = split_members(ds, 2)
    assert (train.member.values.tolist(), held.member.values.tolist()) == ([0, 2, 3], [4, 6])
    with pytest.raises(ValueError, match="from 2 to 3 of 5, got 4"):
        split_members(ds, 4)


def test_a_study_leaves_its_four_files_and_pairs_members_by_condition(tmp_path):
    def truth(a, seed):
        rng = np.random.default_rng(seed)
        x = (np.arange(16) + 0.5) / 16
        u = np.asarray(a)[:, None] * (1 + np.sin(2 * np.pi * x)) + 0.3 * rng.normal(size=(len(a), 16))
        coords = {"member": np.arange(len(a), dtype=np.int32), "a": ("member", a), "x": ("x", x, {"units": "m"})}
        return xr.Dataset({"u": (("member", "x"), u, {"units": "K"})}, coords)

    ds = truth(np.random.default_rng(0).uniform(-1, 1, 200), 1)
    train, held = split_members(ds, 60)
    outcome = run(
        Surrogate(["u"], ["a"], network=False), train, held, tmp_path, draws=3,
        fresh=lambda condition, seed: truth(condition["a"], seed), progress=False,
    )
    assert all(path.is_file() for path in outcome.files.values())
    scores = xr.load_dataset(outcome.files["scores"])
    assert scores.attrs["conditional"] == 1
    assert scores.source.values.tolist() == ["surrogate", "fresh", "gaussian"]
    energy = scores.energy_score
    assert energy.sel(source="surrogate") < 1.1 * energy.sel(source="fresh")
    assert energy.sel(source="gaussian") > 1.1 * energy.sel(source="fresh")
    made = xr.load_dataset(outcome.files["synthetic members"])
    np.testing.assert_array_equal(made.a, np.tile(held.a, 3))
    assert made.x.identical(held.x)
