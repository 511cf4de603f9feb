"""Bad input gets one clear error: what was wanted, what came, the cure. Good input comes back as it went in."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from surrogates import Surrogate
from surrogates.data import conditions_to_tensor, fields_to_tensor, tensor_to_dataset
from surrogates.layouts import condition_values, find_boundary, make_layout, split_blocks


def fields(n: int = 40) -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "u": (("member", "lat", "lon"), rng.normal(280, 5, (n, 6, 8)).astype("f4"), {"units": "K"}),
            "v": (("member", "lat", "lon"), rng.normal(0, 2, (n, 6, 8)), {"units": "m s-1"}),
        },
        {
            "lat": ("lat", np.linspace(50, 55, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8) * 1.0),
            "kappa": ("member", np.exp(rng.uniform(-3, 3, n)), {"units": "m2 s-1"}),
            "fixed": ("member", np.ones(n)),
            "height": 2.0,
        },
        {"title": "test", "number": 3},
    )


def with_nan(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(u=ds.u.where(ds.member != 3))


BAD = {
    "not a Dataset": (lambda ds: ds.u, ["u"], [], TypeError, r"xarray\.Dataset.*got DataArray"),
    "missing variable": (lambda ds: ds, ["w"], [], KeyError, r"'w' was wanted.*\['u', 'v'\].*variables="),
    "missing condition": (lambda ds: ds, ["u"], ["D"], KeyError, r"'D' was wanted.*kappa.*assign_coords"),
    "NaN": (with_nan, ["u"], [], ValueError, r"'u' must be finite.*got 48 values.*drop the samples"),
    "descending latitude": (
        lambda ds: ds.isel(lat=slice(None, None, -1)), ["u"], [], ValueError,
        r"'lat' must increase.*got descending.*sortby\('lat'\)",
    ),
    "unsorted latitude": (
        lambda ds: ds.isel(lat=[0, 2, 1, 3, 4, 5]), ["u"], [], ValueError, r"'lat' must increase.*unsorted.*sortby",
    ),
    "too few samples": (lambda ds: ds.isel(member=slice(5)), ["u"], [], ValueError, r"at least 20 samples, got 5"),
    "constant condition": (lambda ds: ds, ["u"], ["fixed"], ValueError, r"'fixed' must vary.*got 1.*leave it out"),
    "constant variable": (lambda ds: ds.assign(u=0 * ds.u + 2), ["u"], [], ValueError, r"'u' must vary.*got 2"),
    "integers": (lambda ds: ds.assign(u=ds.u.astype(int)), ["u"], [], TypeError, r"must be real.*astype\(float\)"),
    "no space": (
        lambda ds: ds.rename(lat="a", lon="b"), ["u"], [], ValueError, r"wants a space dimension.*rename",
    ),
    "other dimensions": (
        lambda ds: ds.assign(v=ds.v.mean("lat")), ["u", "v"], [], ValueError, r"must share their dimensions.*broadcast",
    ),
    "part of a field as condition": (
        lambda ds: ds.assign(w=ds.v.mean("lat")), ["u"], ["w"], ValueError, r"one number per sample or a whole field"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input(case):
    change, variables, condition, error, message = BAD[case]
    with pytest.raises(error, match=message):
        Surrogate(variables, condition).fit(change(fields()))


def test_a_lone_string_is_not_a_list():
    with pytest.raises(TypeError, match=r"list of names.*variables=\['u'\]"):
        Surrogate("u")


def test_round_trip_keeps_values_coordinates_attributes_and_dtype():
    ds = fields()
    layout = make_layout(ds, ["u", "v"], ["kappa"], None)
    x = fields_to_tensor(ds, layout)
    assert abs(float(x.mean())) < 1e-6
    assert abs(float(x[:, 0].std()) - 1) < 1e-3
    back = tensor_to_dataset(x, {"kappa": ds.kappa.values}, layout, np.arange(40))
    assert back.u.dtype == np.float32
    assert float(abs(back.u - ds.u).max()) < 280 * 2**-22
    assert back.attrs == ds.attrs
    assert back.u.attrs == ds.u.attrs
    assert back.kappa.attrs == ds.kappa.attrs
    for name in ("lat", "lon", "height"):
        xr.testing.assert_identical(back[name].reset_coords(drop=True), ds[name].reset_coords(drop=True))


def test_conditions_over_decades_are_logarithmic():
    ds = fields()
    layout = make_layout(ds, ["u"], ["kappa"], None)
    assert layout.condition_scales[0].logarithm
    c = conditions_to_tensor([condition_values(ds, "kappa", ("member",))], layout)
    assert float(c.min()) == -1.0
    assert float(c.max()) == 1.0
    order = np.argsort(ds.kappa.values)
    slope = np.diff(c[order, 0].numpy()) / np.diff(np.log(ds.kappa.values[order]))
    assert np.allclose(slope, slope[0], rtol=1e-2)
    near = ds.assign_coords(kappa=ds.kappa * 0 + np.linspace(1, 2, 40))
    assert not make_layout(near, ["u"], ["kappa"], None).condition_scales[0].logarithm


def test_time_and_member_are_stacked_with_the_outer_one_slowest():
    ds = fields(20).expand_dims(time=[0.0, 1.0]).transpose("member", "time", "lat", "lon")
    ds["u"] = ds.u + ds.time
    layout = make_layout(ds, ["u"], [], None)
    x = fields_to_tensor(ds, layout)
    assert layout.samples == ("member", "time")
    assert np.allclose(x[3, 0] * layout.scales[0].factor + layout.scales[0].offset, ds.u[1, 1], atol=1e-3)


def test_boundaries_are_read():
    ds = fields()
    assert find_boundary(ds, ("lat", "lon"), None) == ("reflect", "reflect")
    assert find_boundary(ds.assign_attrs(boundary_lon="periodic"), ("lat", "lon"), None) == ("reflect", "periodic")
    circle = ds.assign_coords(lon=np.arange(8) * 45.0)
    assert find_boundary(circle, ("lat", "lon"), None) == ("reflect", "periodic")
    assert find_boundary(ds, ("lat", "lon"), "periodic") == ("periodic", "periodic")
    with pytest.raises(ValueError, match=r"boundary of 'lat' wants one of.*got 'wall'"):
        find_boundary(ds, ("lat", "lon"), {"lat": "wall"})
    with pytest.raises(KeyError, match=r"wants the axes \['lat', 'lon'\], got \['x'\]"):
        find_boundary(ds, ("lat", "lon"), {"x": "periodic"})


@pytest.mark.parametrize(("groups", "gap"), [(744, 15), (100, 3), (20, 0)])
def test_neighbours_never_straddle_the_split(groups, gap):
    train, held = split_blocks(groups, fraction=0.2, blocks=4, gap=gap)
    assert np.abs(train[:, None] - held[None]).min() == gap + 1
    assert abs(len(held) - 0.2 * groups) <= 4
