"""Ensembles: a member's values depend on (seed, member) alone; designs fill the cube."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import qmc

from sdesim.designs import SOBOL_AXES, sobol_integers, unit_points
from sdesim.ensemble import draw, member_numbers

LAWS = {"k": stats.norm(1.0, 0.5), "D": stats.lognorm(0.3, scale=0.01), "n": stats.uniform(2.0, 3.0)}


@pytest.mark.parametrize("design", ["random", "sobol"])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20, unique=True), st.integers(0, 2**64 - 1))
def test_any_subset_of_members_gets_the_same_values(design: str, members: list[int], seed: int) -> None:
    together = draw(LAWS, member_numbers(members), design=design, seed=seed)
    for position in {0, len(members) // 2, len(members) - 1}:
        alone = draw(LAWS, member_numbers([members[position]]), design=design, seed=seed)
        assert all(alone[name][0] == together[name][position] for name in LAWS)  # type: ignore[index]


@pytest.mark.parametrize("design", ["random", "lhs"])
def test_a_further_random_parameter_changes_no_other(design: str) -> None:
    more = {"first": stats.norm(), **LAWS}
    before, after = (draw(laws, member_numbers(32), design=design, seed=5) for laws in (LAWS, more))
    for name in LAWS:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize("design", ["random", "lhs", "sobol"])
def test_draws_follow_their_laws_and_axes_are_independent(design: str) -> None:
    n = 4096
    drawn = draw(LAWS, member_numbers(n), design=design, seed=11)
    ranks = {name: LAWS[name].cdf(drawn[name]) for name in LAWS}
    for u in ranks.values():
        # Kolmogorov–Smirnov at 1e-4: 2.2/√n; designs other than random are more even than chance
        assert stats.kstest(u, "uniform").statistic < 2.2 / np.sqrt(n)
    pairs = np.corrcoef(list(ranks.values()))
    assert np.abs(pairs - np.eye(len(LAWS))).max() < 4.5 / np.sqrt(n)  # 4.5 standard errors of a correlation


def test_seeds_and_names_give_different_draws() -> None:
    a, b = (draw(LAWS, member_numbers(8), seed=seed)["k"] for seed in (1, 2))
    assert not np.any(np.asarray(a) == np.asarray(b))
    twins = draw({"a": stats.norm(), "b": stats.norm()}, member_numbers(8), seed=1)
    assert not np.any(np.asarray(twins["a"]) == np.asarray(twins["b"]))


def test_sobol_is_the_published_sequence() -> None:
    index = np.arange(2**12)
    published = qmc.Sobol(SOBOL_AXES, scramble=False, bits=32).random_base2(12)
    for axis in range(SOBOL_AXES):
        np.testing.assert_array_equal(sobol_integers(axis, index) / 2.0**32, published[:, axis])


def test_shifted_sobol_puts_one_member_in_every_elementary_interval() -> None:
    points = unit_points(["a", "b"], np.arange(256), design="sobol", seed=3)
    for bits in range(9):  # a (0, 8, 2)-net in base 2: every box 2^-bits × 2^-(8-bits) holds one point
        boxes = np.floor(points[0] * 2**bits) * 2 ** (8 - bits) + np.floor(points[1] * 2 ** (8 - bits))
        assert len(np.unique(boxes)) == 256


def test_sobol_means_converge_faster_than_random_ones() -> None:
    def errors(design: str, n: int) -> float:
        means = [
            np.mean(np.asarray(draw(LAWS, member_numbers(n), design=design, seed=seed)["n"]) ** 2) for seed in range(40)
        ]
        return float(np.sqrt(np.mean((np.array(means) - (3.5**2 + 9 / 12)) ** 2)))

    # standard error of chance: sd of n² is 6.1, over √n; a digital net's is of order 1/n
    assert errors("random", 1024) == pytest.approx(6.1 / np.sqrt(1024), rel=0.5)
    assert errors("sobol", 1024) < 0.05 * errors("random", 1024)


def test_latin_hypercube_has_one_member_in_each_slice() -> None:
    points = unit_points(["a", "b", "c"], np.arange(100), design="lhs", seed=3)
    for row in points:
        assert sorted(np.floor(row * 100)) == list(range(100))
    with pytest.raises(ValueError, match="the lhs design depends on the whole ensemble: ask for members=<count>"):
        draw(LAWS, member_numbers([41]), design="lhs")


def test_fixed_values_pass_through() -> None:
    numbers = member_numbers([3, 1])
    array = xr.DataArray([10.0, 11.0, 12.0, 13.0], dims="member", coords={"member": [0, 1, 2, 3]})
    values = draw({"a": 2, "b": [5, 6], "c": array, "d": array[:2].drop_vars("member")}, numbers)
    assert values["a"] == 2.0
    np.testing.assert_array_equal(values["b"], [5.0, 6.0])
    np.testing.assert_array_equal(values["c"], [13.0, 11.0])  # by member number
    np.testing.assert_array_equal(values["d"], [10.0, 11.0])  # no numbers: by position


@pytest.mark.parametrize(
    "value, error, complaint",
    [
        ([1.0, 2.0, 3.0], ValueError, "'k' must have one value for each of the 4 members; got 3 values: give 4"),
        (np.zeros((4, 2)), ValueError, r"'k' must be a number or 1-d over the members; got shape \(4, 2\)"),
        ([1.0, np.nan, 1.0, 1.0], ValueError, "'k' must be finite; got nan"),
        (np.inf, ValueError, "'k' must be finite; got inf"),
        ("0.3", TypeError, "'k' must be a number, a frozen"),
        (True, TypeError, "'k' must be a number"),
        (None, TypeError, "'k' must be a number"),
        (stats.norm, TypeError, r"'k' is norm_gen, not a frozen distribution .* scipy\.stats\.norm\(0\.0, 1\.0\)"),
        (stats.norm([0.0, 1.0]), ValueError, "'k' has arrays as arguments"),
        (stats.norm(0.0, -1.0), ValueError, "values that are not finite: check its arguments"),
        (xr.DataArray([1.0], dims="member", coords={"member": [0]}), ValueError, "no value for member 1 .3 of 4"),
        (xr.DataArray([1.0], dims="x"), ValueError, "must have the dimension 'member' alone"),
    ],
)
def test_wrong_values_are_named(value: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        draw({"k": value}, member_numbers(4))


@pytest.mark.parametrize(
    "members, error, complaint",
    [
        (0, ValueError, "members must be from 1 to"),
        (True, TypeError, "a count, a range or a list"),
        (2.0, TypeError, "a count, a range or a list"),
        ("41", TypeError, "a count, a range or a list"),
        ([], ValueError, "members is empty"),
        ([1, 2, 1], ValueError, "member 1 is asked for twice"),
        ([-1], ValueError, "got -1"),
        ([2**32], ValueError, "got 4294967296"),
        ([1.5], TypeError, "whole numbers"),
    ],
)
def test_wrong_members_are_named(members: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        member_numbers(members)


def test_designs_are_checked() -> None:
    with pytest.raises(ValueError, match="design must be one of random, lhs, sobol; got 'halton'"):
        draw(LAWS, member_numbers(4), design="halton")
    many = {f"p{i}": stats.norm() for i in range(SOBOL_AXES + 1)}
    with pytest.raises(ValueError, match="the sobol design has 21 axes, 22 are wanted"):
        draw(many, member_numbers(4), design="sobol")
