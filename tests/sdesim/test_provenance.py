"""Provenance: what goes in comes out, bit for bit; what is hostile or damaged does not come in."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import zlib
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import sdesim.codec as codec
from sdesim.boundaries import Absorbing, Reflecting
from sdesim.codec import ProvenanceError
from sdesim.curved import RadialGrid, SphereGrid
from sdesim.fields import ColouredNoise, ConservedNoise, GaussianField, WhiteNoise
from sdesim.grids import Grid
from sdesim.models.jumps import Jump
from sdesim.models.pde import PDE
from sdesim.models.sde import SDE
from sdesim.parsing import parse
from sdesim.provenance import call_of, dumps, loads


def same(a: Any, b: Any) -> bool:
    """Equal in type, order and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


ARRAYS = npst.arrays(
    st.one_of(
        npst.floating_dtypes(endianness="?"), npst.integer_dtypes(endianness="?"), npst.boolean_dtypes(),
        npst.complex_number_dtypes(), npst.datetime64_dtypes(), npst.unicode_string_dtypes(),
    ),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), ARRAYS,
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
    npst.from_dtype(np.dtype("float32")), npst.from_dtype(np.dtype("int16")),
)  # fmt: skip
NAMES = st.one_of(st.text(max_size=8), st.sampled_from(["type", "items", "fields", "value"]))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(NAMES, inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name != "type"), VALUES, max_size=4))
def test_any_call_round_trips_bit_for_bit(call: dict[str, Any]) -> None:
    text = dumps(call)
    assert json.loads(text)["format"] == 1  # plain JSON, readable by anything
    assert same(loads(text), call)


def test_random_nan_payloads_and_signed_zeros_survive_in_arrays() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF8DEADBEEF0000, 0x8000000000000000, 1], dtype=np.uint64)
    back = loads(dumps({"u": bits.view(np.float64)}))["u"]
    np.testing.assert_array_equal(back.view(np.uint64), bits)


@pytest.mark.parametrize(
    "law",
    [stats.norm(), stats.norm(1.0, 2.0), stats.uniform(loc=0.5, scale=1.5), stats.lognorm(0.3, scale=np.exp(-4)),
     stats.truncnorm(-1, np.inf), stats.loguniform(1e-4, 1e-2), stats.poisson(3.5), stats.gamma(np.array([1.0, 2.0, 3.0]))],
    ids=lambda law: law.dist.name,
)  # fmt: skip
def test_distributions_round_trip(law: Any) -> None:
    back = loads(dumps({"k": law}))["k"]
    u = np.linspace(0.01, 0.99, 3)
    np.testing.assert_array_equal(back.ppf(u), law.ppf(u))
    assert back.dist.name == law.dist.name


def test_dataarrays_round_trip() -> None:
    field = xr.DataArray(
        np.arange(6.0).reshape(2, 3), dims=("member", "x"), name="D", attrs={"units": "m2 s-1"},
        coords={"x": [0.5, 1.5, 2.5], "member": [4, 9], "type": ("member", ["a", "b"]), "zone": ("x", [1, 2, 3])},
    )  # fmt: skip
    back = loads(dumps({"D": field}))["D"]
    xr.testing.assert_identical(back, field)
    xr.testing.assert_identical(loads(dumps({"D": field.drop_vars("x")}))["D"], field.drop_vars("x"))


def test_grids_and_expressions_round_trip() -> None:
    grid = Grid(x=(0.0, 1 / 3, 12), y=(-1.0, 2.0, 7))
    wave = parse("exp(-x**2/0.3) * sin(2*pi*y)")
    back = loads(dumps({"grid": grid, "initial": {"u": wave}}))
    assert back["grid"] == grid
    assert back["initial"]["u"] is wave  # hash-consed: the same graph is the same object


def test_a_dataset_without_provenance_says_so() -> None:
    with pytest.raises(ProvenanceError, match="not made by sdesim.simulate, or lost its attributes"):
        call_of(xr.Dataset())


@pytest.mark.parametrize(
    "call, complaint",
    [
        ({"initial": {"x": lambda t: t}}, r"call\.initial\.x: a builtins\.function has no JSON form"),
        ({"a": [1, object()]}, r"call\.a\[1\]: a builtins\.object"),
        ({"a": np.array([object()])}, "an array of object has no JSON form"),
        ({"a": {3: 1}}, "the key 3 must be text"),
        ({"k": stats.multivariate_normal([0, 0])}, "has no JSON form"),
    ],
)
def test_what_has_no_json_form_is_named(call: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProvenanceError, match=complaint):
        dumps(call)


def test_a_home_made_distribution_that_borrows_a_name_is_refused() -> None:
    class Mine(stats.rv_continuous):
        def _pdf(self, x: Any) -> Any:
            return np.ones_like(x)

    with pytest.raises(ProvenanceError, match="has no JSON form|not one of scipy"):
        dumps({"k": Mine(a=0, b=1, name="norm")()})


def record(call: Any) -> str:
    return json.dumps({"sdesim": "0.1.0", "format": 1, "call": call})


def array(**changes: Any) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(np.arange(3.0).tobytes())).decode()
    return {"type": "array", "dtype": "<f8", "shape": [3], "data": data} | changes


BOMB = base64.b64encode(zlib.compress(bytes(10_000_000))).decode()
HOSTILE = {
    "no json": "{",
    "no object": "[]",
    "another format": json.dumps({"sdesim": "9", "format": 9, "call": {}}),
    "call is a list": record([1]),
    "NaN literal": '{"sdesim": "1", "format": 1, "call": {"a": NaN}}',
    "twice the same name": '{"sdesim": "1", "format": 1, "call": {"a": 1, "a": 2}}',
    "unknown type": record({"a": {"type": "os.system", "args": ["true"]}}),
    "type is no text": record({"a": {"type": 3}}),
    "no data": record({"a": {"type": "array"}}),
    "objects": record({"a": array(dtype="|O")}),
    "records": record({"a": array(dtype=[["a", "<f8"]])}),
    "void": record({"a": array(dtype="|V8")}),
    "no dtype": record({"a": array(dtype="nonsense")}),
    "negative shape": record({"a": array(shape=[-3])}),
    "float shape": record({"a": array(shape=[3.0])}),
    "too large a shape": record({"a": array(shape=[4])}),
    "too small a shape": record({"a": array(shape=[2])}),
    "huge shape": record({"a": array(shape=[10**12])}),
    "a bomb": record({"a": array(shape=[3], data=BOMB)}),
    "no base64": record({"a": array(data="!!!")}),
    "no zlib": record({"a": array(data=base64.b64encode(b"hello").decode())}),
    "cut data": record({"a": array(data=array()["data"][:-8])}),
    "no distribution": record({"a": {"type": "distribution", "name": "describe", "args": [[1]], "kwds": {}}}),
    "private name": record({"a": {"type": "distribution", "name": "__doc__", "args": [], "kwds": {}}}),
    "dotted name": record({"a": {"type": "distribution", "name": "norm.rvs", "args": [], "kwds": {}}}),
    "wrong arguments": record({"a": {"type": "distribution", "name": "norm", "args": [1, 2, 3, 4], "kwds": {}}}),
    "range with a text": record({"a": {"type": "range", "start": "0", "stop": 3, "step": 1}}),
    "a model of nothing": record({"a": {"type": "Grid", "fields": {}}}),
    "a model of numbers": record({"a": {"type": "Grid", "fields": 7}}),
    "code": record({"a": {"type": "expression", "text": "__import__('os').system('true')"}}),
    "attribute": record({"a": {"type": "expression", "text": "x.__class__"}}),
    "a float of text": record({"a": {"type": "float", "value": "1e5"}}),
    "coords of nothing": record({"a": {"type": "dataarray", "name": None, "dims": ["x"], "values": array(),
                                       "attrs": {}, "coords": 3}}),
    "too deep": '{"sdesim": "1", "format": 1, "call": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_or_damaged_text_gives_one_clear_error(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        loads(text)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutation_of_a_text_escapes_as_another_exception(data: st.DataObject) -> None:
    text = dumps({"k": stats.norm(0.0, 2.0), "u": np.arange(4.0), "members": range(3), "g": Grid(x=(0, 1, 4))})
    at = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(st.text(max_size=3))
    width = data.draw(st.integers(0, 5))
    mutated = text[:at] + piece + text[at + width :]
    with contextlib.suppress(ValueError):  # ProvenanceError is one
        loads(mutated)


def test_every_description_in_the_table_round_trips() -> None:
    grid = Grid(x=(0.0, 1.0, 8), y=(0.0, 2.0, 4))
    descriptions = [
        grid,
        SDE({"x": "v", "v": "x - x**3 - g*v"}, {"v": "sqrt(2*g)"}, parameters={"g": 0.5}),
        PDE(grid, diffusivity=np.linspace(1, 2, 32).reshape(4, 8), reaction={"u": "k*u"}, parameters={"k": 0.1}),
        GaussianField(0.5, 0.2, 1.5),
        WhiteNoise(0.5),
        ColouredNoise(0.5, 0.1, 2.5),
        ConservedNoise(0.5, 0.2),
        Reflecting(0.0, None),
        Absorbing(None, 2.0),
        Jump("k*x", {"x": "z/2"}, {"z": stats.norm(0.0, 2.0)}, nonnegative=True),
        RadialGrid(r=(0.0, 1.0, 8), geometry="sphere"),
        SphereGrid(lat=9, lon=18),
    ]
    assert {type(item).__name__ for item in descriptions} == set(codec._DESCRIPTIONS)
    for item in descriptions:
        back = loads(dumps({"it": item}))["it"]
        assert type(back) is type(item)
        assert dumps({"it": back}) == dumps({"it": item})
