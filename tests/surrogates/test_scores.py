"""`evaluate` as a whole: what pairs, what is refused, what the numbers must say."""

import numpy as np
import pytest
import xarray as xr

from surrogates.scores import evaluate

CELLS = 16


def ensemble(seed, members=200, parameter=None, scale=1.0, name="u"):
    """u = a·sin + noise, where a is the member's parameter."""
    rng = np.random.default_rng(seed)
    a = rng.uniform(-2, 2, members) if parameter is None else np.asarray(parameter)
    x = (np.arange(CELLS) + 0.5) / CELLS
    u = a[:, None, None] * np.sin(2 * np.pi * x) + scale * rng.normal(size=(len(a), CELLS, CELLS))
    coords = {"member": np.arange(len(a)), "a": ("member", a), "x": x, "y": x}
    return xr.Dataset({name: (("member", "y", "x"), u, {"units": "K"})}, coords)


def test_draws_of_the_same_parameters_are_scored_as_conditional_forecasts():
    held = ensemble(0)
    same = ensemble(1, parameter=np.tile(held.a, 4))
    shuffled = ensemble(2, parameter=np.tile(held.a, 4)).assign_coords(a=("member", same.a.values[::-1]))
    paired, blind = evaluate(held, same), evaluate(held, same, condition=())
    assert paired.attrs["conditional"] == 1
    assert paired.attrs["draws_per_member"] == 4
    assert blind.attrs["conditional"] == 0
    # given a, only the noise is left: CRPS = σ/√π
    assert float(paired.crps) == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)
    assert float(blind.crps) > 1.2 * float(paired.crps)
    assert float(evaluate(held, shuffled).energy_score) > 1.2 * float(paired.energy_score)
    assert float(paired.spread_skill) == pytest.approx(1.0, abs=0.03)


def test_pairing_does_not_hang_on_the_order_of_members_or_on_time():
    held = ensemble(0, members=40)
    made = ensemble(1, parameter=np.tile(held.a, 3))
    order = np.random.default_rng(5).permutation(made.sizes["member"])
    scores = [evaluate(held, m).energy_score.item() for m in (made, made.isel(member=order))]
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)
    twice = lambda ds: xr.concat([ds, 2 * ds], xr.DataArray([0.0, 1.0], dims="time", name="time"), coords="minimal",
                                 compat="override", join="override", data_vars="all")  # fmt: skip
    assert evaluate(twice(held), twice(made)).energy_score.item() == pytest.approx(1.5 * scores[0], rel=1e-12)


def test_named_conditions_that_do_not_pair_are_an_error():
    with pytest.raises(ValueError, match=r"same number .2 or more. of synthetic members"):
        evaluate(ensemble(0), ensemble(1), condition=["a"])


def test_the_same_law_passes_and_another_does_not():
    held = ensemble(0, members=400)
    fresh, wide = (evaluate(held, ensemble(1, parameter=np.tile(held.a, 2), scale=s)) for s in (1.0, 1.3))
    big = fresh.resolved.astype(bool) & (fresh.variance_share > 1e-3)
    assert (abs(fresh.spectrum_ratio.where(big) - 1).max() < 0.1).item()
    assert (fresh.reference_spectrum_low <= fresh.reference_spectrum).all()
    assert (fresh.reference_spectrum <= fresh.reference_spectrum_high).all()
    for name in ("pixel_qq", "gradient_qq", "patch_wasserstein", "spread_error", "tail_error", "energy_score"):
        assert float(wide[name]) > float(fresh[name]), name
    assert float(wide.spectrum_ratio[-2]) == pytest.approx(1.69, rel=0.03)  # noise alone: variance × 1.3²


def test_copies_of_the_training_set_are_found_and_fresh_fields_are_not():
    train, held, fresh = (ensemble(s) for s in (0, 1, 2))
    copies = train + 0.05 * ensemble(3, parameter=train.a.values)
    assert float(evaluate(held, copies, training=train).memorised) == 1.0
    report = evaluate(held, fresh, training=train)
    assert float(report.memorised) == 0.0
    assert float(report.memorisation_ratio) == pytest.approx(1.0, abs=0.1)
    few = xr.concat([copies.isel(member=slice(0, 40)), fresh.isel(member=slice(0, 160))], "member")
    assert float(evaluate(held, few, training=train).memorised) == 1.0  # a fifth of copies leaves the median alone


def test_every_variable_and_every_score_says_what_it_is():
    both = ensemble(0).merge(ensemble(1, name="v").drop_vars("a"), compat="override")
    scores = evaluate(both, both.isel(member=slice(0, 100)))
    assert scores["variable"].values.tolist() == ["u", "v"]
    assert all(scores[n].attrs["long_name"] and scores[n].attrs["units"] for n in scores.data_vars)
    assert scores.crps.attrs["units"] == "K"


def test_a_time_series_without_members_is_an_ensemble_of_times():
    rng = np.random.default_rng(0)
    make = lambda: xr.Dataset({"t2m": (("time", "latitude", "longitude"), rng.normal(size=(90, 8, 12)))})
    scores = evaluate(make(), make(), block=10)
    assert scores["axis"].values.tolist() == ["latitude", "longitude"]
    swapped = evaluate(make(), make().transpose("longitude", "time", "latitude"))
    assert np.isfinite(float(swapped.energy_score))


@pytest.mark.parametrize("spoil, error, words", [
    (lambda ds: ds.rename(u="w"), KeyError, "field variable that both ensembles hold"),
    (lambda ds: ds.isel(x=slice(0, 8)), ValueError, "grids differ"),
    (lambda ds: ds.rename(x="lon"), ValueError, "wanted the space dimensions"),
    (lambda ds: ds.where(ds.member != 3), ValueError, "256 are not: drop members"),
    (lambda ds: ds.isel(member=[0]), ValueError, "2 or more samples"),
])  # fmt: skip
def test_bad_input_is_refused_with_a_cure(spoil, error, words):
    with pytest.raises(error, match=words):
        evaluate(ensemble(0), spoil(ensemble(1)))


def test_the_band_of_the_tails_holds_the_quantiles_it_belongs_to():
    scores = evaluate(ensemble(0, members=400), ensemble(1, members=400))
    low, mid, high = (scores["reference_quantile" + end] for end in ("_low", "", "_high"))
    assert (low <= mid).all()
    assert (mid <= high).all()
    # and that of the same law, but for the few extremes that 95 % may miss: 11 quantiles, at most 3 outside
    inside = (low <= scores["quantile"]) & (scores["quantile"] <= high)
    assert int((~inside).sum()) <= 3
