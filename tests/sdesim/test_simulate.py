"""The one door: the same bits however the ensemble is cut, kept or made again; clear errors before any work."""

import json
import re

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import sdesim as sim
from sdesim.parsing import EquationError

TIMES = [0.0, 0.13, 0.5, 1.0]


def langevin(**changes):
    parameters = {"gamma": stats.uniform(0.3, 0.4), "kT": 0.3} | changes
    return sim.SDE(
        {"x": "v", "v": lambda x, v, gamma: x - x**3 - gamma * v},
        {"v": "sqrt(2*gamma*kT)"},
        parameters=parameters,
        units={"x": "m", "v": "m s-1", "gamma": "s-1"},
    )


def run(members=64, **options):
    initial = {"x": stats.norm(0.0, 0.5), "v": "0.1*gamma"}
    return sim.simulate(langevin(), initial, TIMES, **{"members": members, "dt": 0.05, "seed": 11} | options)


GRID = sim.Grid(x=(0.0, 1.0, 16), y=(0.0, 1.0, 8))


def heat(members=6, **options):
    model = sim.PDE(
        GRID, diffusivity="k", reaction="exp(-x)", noise=sim.WhiteNoise("s"), parameters={"k": 0.1, "s": 0.05},
        units={"u": "K"},
    )  # fmt: skip
    initial = {"u": sim.GaussianField(std="1 + k", length=0.3)}
    given = {"parameters": {"k": stats.uniform(0.05, 0.1)}, "members": members, "seed": 4} | options
    return sim.simulate(model, initial, [0.0, 0.01, 0.03], **given)


@pytest.fixture(scope="module")
def whole():
    return run()


def same(a, b):
    """The same data, bit for bit (the history of how the file was asked for may differ)."""
    return set(a.variables) == set(b.variables) and all(a[n].variable.equals(b[n].variable) for n in a.variables)


def test_the_dataset_says_what_it_is(whole):
    assert dict(whole.sizes) == {"member": 64, "time": 4}
    assert whole.x.dims == ("member", "time") and whole.x.dtype == np.float64
    assert whole.time.values.tolist() == TIMES and whole.member.dtype == np.int32
    assert whole.x.attrs["units"] == "m" and whole.v.attrs["units"] == "m s-1"
    assert whole.gamma.dims == ("member",) and np.unique(whole.gamma).size == 64
    assert whole.attrs["parameter_kT"] == 0.3 and whole.attrs["dt"] == 0.05 and whole.attrs["method"] == "align"
    assert not whole.status.any()
    np.testing.assert_array_equal(whole.v.isel(time=0), 0.1 * whole.gamma)  # an expression of the parameters
    assert whole.attrs["equations"].startswith("dx = (v) dt") and "sqrt(2*gamma*kT)" in whole.attrs["equations"]


def test_bits_do_not_depend_on_the_block(whole):
    for start in range(0, 64, 7):
        members = range(start, min(start + 7, 64))
        assert same(run(members=members), whole.isel(member=list(members)))
    assert same(run(members=[41]), whole.isel(member=[41]))
    assert same(run(members=[41, 3, 60]), whole.isel(member=[41, 3, 60]))
    assert same(run(members=np.arange(64)), whole)
    assert not same(run(seed=12), whole)


def test_the_reference_gives_the_same_bits(whole):
    assert same(run(device="reference"), whole)
    assert heat(device="reference").u.equals(heat().u)


def test_a_field_gives_the_same_bits_in_any_block():
    all_of_them = heat()
    assert np.isfinite(all_of_them.u).all() and all_of_them.u.dims == ("member", "time", "y", "x")
    assert all_of_them.u.attrs["units"] == "K"
    assert same(heat(members=[4]), all_of_them.isel(member=[4]))
    assert same(heat(members=range(2, 5)), all_of_them.isel(member=[2, 3, 4]))
    assert same(sim.rerun(all_of_them), all_of_them)
    assert same(sim.rerun(all_of_them, members=[5]), all_of_them.isel(member=[5]))


@pytest.mark.parametrize("design", ["random", "sobol", "lhs"])
def test_rerun_from_a_file_and_from_memory(design, tmp_path):
    ds = run(members=16, design=design, store=tmp_path / "run.nc")
    for source in (ds, tmp_path / "run.nc", str(tmp_path / "run.nc")):
        assert same(sim.rerun(source), ds)
        assert same(sim.rerun(source, members=[5]), ds.isel(member=[5]))
    with sim.open(tmp_path / "run.nc") as back:
        assert same(back, ds)
        assert same(sim.rerun(sim.rerun(back)), ds)
    longer = sim.rerun(ds, times=[0.0, 0.5, 2.0])
    assert longer.x.isel(time=1).equals(ds.x.isel(time=2))  # dt is kept: the path is the same, followed for longer
    assert same(sim.rerun(ds, device="reference"), ds)


INITIAL = {
    "number": 0.5,
    "text": "2*k",
    "function": lambda k: np.sqrt(k),
    "distribution": stats.gamma(2.0),
    "array": np.linspace(0, 1, 8),
    "list": [0.0, 1, 2, 3, 4, 5, 6, 7],
    "tuple": (0.0, 1, 2, 3, 4, 5, 6, 7),
    "DataArray": xr.DataArray(np.linspace(0, 1, 10), dims="member", coords={"member": np.arange(10)}),
}


@pytest.mark.parametrize("kind", INITIAL)
def test_every_kind_of_initial_value_and_parameter_runs_and_runs_again(kind, tmp_path):
    value = INITIAL[kind]
    ou = sim.SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": np.linspace(0.5, 2.0, 8), "s": 0.3})
    parameters = {} if kind in ("text", "function") else {"s": value if kind != "number" else 0.7}
    ds = sim.simulate(ou, {"x": value}, [0.0, 1.0], members=8, dt=0.1, parameters=parameters, seed=2,
                      store=tmp_path / "a.nc")  # fmt: skip
    k = ds.k.values
    expected = {"text": 2 * k, "function": np.sqrt(k), "number": np.full(8, 0.5), "DataArray": np.linspace(0, 1, 10)[:8]}
    if kind != "distribution":
        np.testing.assert_array_equal(ds.x.isel(time=0), expected.get(kind, value))
    else:
        assert np.unique(ds.x.isel(time=0)).size == 8 and not np.allclose(ds.x.isel(time=0), ds.s)
    assert same(sim.rerun(tmp_path / "a.nc"), ds)
    assert same(sim.rerun(ds, members=[6, 2]), ds.isel(member=[6, 2]))


def test_initial_values_and_parameters_fill_the_cube_together():
    # on one Sobol' axis two states would be functions of each other
    sde = sim.SDE({"x": 0, "y": 0, "z": 0}, parameters={"p": stats.uniform(), "q": stats.uniform()})
    law = stats.uniform()
    for design in ("sobol", "lhs", "random"):
        ds = sim.simulate(sde, dict.fromkeys("xyz", law), [0.0], members=1024, design=design, dt=1.0, seed=3)
        points = np.array([ds[n].values.ravel() for n in ("x", "y", "z", "p", "q")])
        bound = 4 / np.sqrt(1024)  # the standard error of independent points, which designs undercut
        for transformed in (points, (points - 0.5) ** 2, points % 0.25):
            assert np.abs(np.corrcoef(transformed) - np.eye(5)).max() < bound, design
        if design != "random":  # one member in each of 1024 slices of every axis
            assert (np.sort((points * 1024).astype(int), axis=1) == np.arange(1024)).all()


def test_statistics_are_those_of_the_states(whole):
    ds = run(save="statistics")
    assert "x" not in ds and dict(ds.sizes) == {"time": 4, "bin": 64} and ds.attrs["members"] == 64
    for name in ("x", "v"):
        np.testing.assert_allclose(ds[f"{name}_mean"], whole[name].mean("member"), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(ds[f"{name}_variance"], whole[name].var("member", ddof=1), rtol=1e-12, atol=1e-15)
        np.testing.assert_array_equal(ds[f"{name}_minimum"], whole[name].min("member"))
        np.testing.assert_array_equal(ds[f"{name}_maximum"], whole[name].max("member"))
    assert same(sim.rerun(ds), ds)
    field, moments = heat(), heat(save="statistics")
    np.testing.assert_allclose(moments.u_variance, field.u.var("member", ddof=1), rtol=1e-10)
    assert moments.u_mean.dims == ("time", "y", "x")


def test_statistics_over_groups_are_merged(monkeypatch):
    sde = sim.SDE({"x": "-x"}, {"x": "0.5"})
    options = {"members": 5000, "dt": 0.1, "seed": 1}
    states = sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], **options)
    whole = sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], save="statistics", **options)
    monkeypatch.setattr("sdesim.reduction.SHARE", 1500)  # members made in shares
    shares = sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], save="statistics", **options)
    chunks = sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], save="statistics", chunks={"member": 700}, **options)
    slow = sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], save="statistics", device="reference", **options)
    for ds in (whole, shares, chunks, slow):
        np.testing.assert_allclose(ds.x_mean, states.x.mean("member"), rtol=1e-13)
        np.testing.assert_allclose(ds.x_variance, states.x.var("member", ddof=1), rtol=1e-12)
        np.testing.assert_array_equal(ds.x_histogram, whole.x_histogram)
        assert ds.attrs["members"] == ds.attrs["members_finite"] == 5000
    assert same(sim.rerun(shares), shares) and sim.rerun(shares, members=[4999]).attrs["members"] == 1
    monkeypatch.setattr("sdesim.simulation._GROUP_BYTES", 1)  # many groups
    assert sim.simulate(sde, {"x": stats.norm(5, 1)}, [0.0, 1.0], **options).equals(states)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_member_that_blows_up_is_marked_and_alone_in_it(dtype, tmp_path):
    sde = sim.SDE({"x": "x**3 - x"}, {"x": "0.1"})
    start = np.full(20, 0.3)
    start[[4, 11]] = 100.0
    options = {"dt": 0.01, "seed": 5, "dtype": dtype}
    ds = sim.simulate(sde, {"x": start}, [0.0, 0.02, 1.0], members=20, store=tmp_path / "a.nc", **options)
    assert np.flatnonzero(ds.status).tolist() == [4, 11] and ds.status.attrs["flag_meanings"].split()[0] == "ok"
    assert np.isfinite(ds.x.isel(member=ds.status.values == 0)).all() and ds.x.dtype == dtype
    calm = [m for m in range(20) if m not in (4, 11)]
    alone = sim.simulate(sde, {"x": start[calm]}, [0.0, 0.02, 1.0], members=calm, **options)
    assert alone.x.equals(ds.x.isel(member=calm))
    moments = sim.simulate(sde, {"x": start}, [0.0, 0.02, 1.0], members=20, save="statistics", **options)
    np.testing.assert_allclose(moments.x_mean, alone.x.mean("member"), rtol=1e-6)
    assert moments.attrs["members_finite"] == 18 and moments.attrs["members"] == 20
    with pytest.raises(ValueError, match="no member stayed finite"):
        sim.simulate(sde, {"x": 100.0}, [1.0], dt=0.01, save="statistics")


def test_times_need_not_begin_at_zero_nor_lie_on_steps():
    drift = sim.SDE({"x": "2*t"})
    for times in ([0.5, 1.0], [0.0, 0.5, 1.0], [-1.0, 0.0, 1.0], [0.37, 0.8], 1.0, [-3.0]):
        ds = sim.simulate(drift, {"x": 0.0}, times, dt=0.02, method="heun")
        start = min(0.0, np.min(times))  # the initial state holds at 0, or at the first time if that is earlier
        np.testing.assert_allclose(ds.x.values[0], np.atleast_1d(times) ** 2 - start**2, atol=1e-9)
        assert ds.time.values.tolist() == np.atleast_1d(times).tolist()
    sde = sim.SDE({"x": "-x"}, {"x": "1"})
    some, more = (sim.simulate(sde, {"x": 0.0}, t, dt=0.1, members=4) for t in ([0.5, 1.0], [0.25, 0.5, 0.77, 1.0]))
    assert some.x.equals(more.x.isel(time=[1, 3]))  # the path does not depend on when it is looked at


@pytest.mark.parametrize("drift, noise, interpretation, order", [
    ({"x": "-x"}, {}, "ito", None), ({"x": "-x"}, {"x": "1"}, "ito", 1.0), ({"x": "-x"}, {"x": "x"}, "stratonovich", 1.0),
    ({"x": "-x"}, {"x": "x"}, "ito", 1.0), ({"x": "-x"}, {"x": "sin(x)"}, "hanggi-klimontovich", 1.0),
    ({"x": 0, "y": 0}, {"x": {"a": 1}, "y": {"b": "x"}}, "ito", 0.5),
])  # fmt: skip
def test_the_method_is_chosen_by_structure_and_says_why(drift, noise, interpretation, order):
    model = sim.SDE(drift, noise, interpretation=interpretation)
    ds = sim.simulate(model, dict.fromkeys(drift, 1.0), [1.0], dt=0.1)
    chosen = sim.methods().query("kind == 'sde'").loc[ds.attrs["method"]]
    assert model.noise_type in chosen.noise.split(", ") and (order is None or chosen.strong >= order)
    assert len(ds.attrs["method_reason"]) > 10 and ds.attrs["method_source"] == chosen.source
    asked = sim.simulate(model, dict.fromkeys(drift, 1.0), [1.0], dt=0.1, method=ds.attrs["method"])
    assert asked.attrs["method_reason"] == "asked for" and same(asked, ds)


def test_interpretations_are_converted_not_ignored():
    # dx = x dW: E x(1) = 1 (Itô), e^{1/2} (Stratonovich), e (Hänggi–Klimontovich); every method obeys
    for method in ("euler_maruyama", "milstein", "heun"):
        for interpretation, mean in (("ito", 1.0), ("stratonovich", np.exp(0.02)), ("hanggi-klimontovich", np.exp(0.04))):
            model = sim.SDE({"x": 0}, {"x": "0.2*x"}, interpretation=interpretation)
            x = sim.simulate(model, {"x": 1.0}, [1.0], members=40_000, method=method, dt=0.05, seed=8).x
            assert abs(float(x.mean()) - mean) < 4 * 0.2 * mean / 200, (method, interpretation)


@pytest.mark.parametrize("noise, kind", [
    ({}, "none"), ({"x": "0"}, "none"), ({"x": "s"}, "additive"), ({"x": "s*exp(t)", "y": 1}, "additive"),
    ({"x": {"W": "x"}, "y": {"W": "y*x"}}, "scalar"), ({"x": "x", "y": "y"}, "diagonal"), ({"x": "y"}, "scalar"),
    ({"x": "y", "y": "x"}, "general"), ({"x": {"a": "x", "b": "2*x"}}, "commutative"),
    ({"x": {"a": "x"}, "y": {"b": "x"}}, "general"), ({"x": {"a": "1"}, "y": {"b": "x"}}, "general"),
    ({"x": {"a": "x", "b": "x"}, "y": {"a": "y", "b": "y"}}, "commutative"),
    ({"x": {"a": "1 + x**2", "b": "s*(1 + x**2)"}}, "commutative"), ({"x": {"a": "x", "b": "x**2"}}, "general"),
    ({"x": {"a": "sqrt(x - 5)*y", "b": "x"}, "y": {"a": "x", "b": "y"}}, "general"),
    ({"x": {"a": "where(x > 10, y, 1)", "b": "1"}, "y": {"b": "1"}}, "general"),
])  # fmt: skip
def test_the_type_of_the_noise(noise, kind):
    assert sim.SDE({"x": "-x", "y": "-y"}, noise, parameters={"s": 0.5}).noise_type == kind


def test_provenance_is_readable_json(whole):
    record = json.loads(whole.attrs["sdesim_provenance"])
    text = json.dumps(record)
    assert record["sdesim"] and "x - x**3 - gamma*v" in text and "uniform" in text
    assert all(isinstance(v, (str, int, float, np.integer, np.floating)) for v in whole.attrs.values())


def test_models_read_as_mathematics():
    model = langevin()
    assert str(model) == "dx = (v) dt   [Itô]\ndv = (x - x**3 - gamma*v) dt + (sqrt(2*gamma*kT)) dW_v   [Itô]"
    assert r"\mathrm{d}v &= \left(x - x^{3} - \gamma v\right) \mathrm{d}t" in model.to_latex()
    again = sim.SDE.from_dict(model.to_dict())
    assert again.drift == model.drift and again.noise == model.noise and str(again) == str(model)
    assert again.drift["v"] is model.drift["v"]
    kubo = sim.equations.kubo()
    assert r"\circ \mathrm{d}W_{W}" in kubo.to_latex() and sim.SDE.from_dict(kubo.to_dict()).interpretation == "stratonovich"


def test_the_table_of_methods():
    table = sim.methods()
    assert {"euler_maruyama", "heun", "milstein"} <= set(table.index)
    assert {"kind", "order", "strong", "weak", "noise", "calculus", "source"} <= set(table.columns)
    assert (table.source.str.len() > 5).all()


def test_a_bar_is_shown_when_asked_for(capsys):
    run(members=4, progress=True)
    assert re.search(r"simulate \(\w+\): 100%", capsys.readouterr().err)
    run(members=4)
    assert capsys.readouterr().err == ""


OU = sim.SDE({"x": "-k*x"}, {"x": "s"}, parameters={"k": 1.0, "s": 0.5})
GENERAL = sim.SDE({"x": 0, "y": 0}, {"x": {"a": 1}, "y": {"b": "x"}})


def ou(initial=0.0, times=(0.0, 1.0), **options):
    return sim.simulate(OU, {"x": initial}, times, **{"dt": 0.1} | options)


BAD = {
    "unknown name": (lambda: sim.SDE({"x": "-q*x"}, parameters={"k": 1}), "unknown name 'q'; the names known here are k, t, x"),
    "unknown name in noise": (lambda: sim.SDE({"x": 0}, {"x": "q"}), "noise of x 'q': unknown name 'q'"),
    "NaN drift": (lambda: sim.SDE({"x": float("nan")}), "drift of x: nan is not a finite number"),
    "infinite drift": (lambda: sim.SDE({"x": np.inf}), "not a finite number"),
    "infinite constant": (lambda: sim.SDE({"x": "x + 1/(2 - 2)"}), r"1/\(2 - 2\) is not a finite number"),
    "complex drift": (lambda: sim.SDE({"x": 1j}), "real number, got 1j"),
    "no drift": (lambda: sim.SDE({"x": None}), "real number, got None"),
    "comparison": (lambda: sim.SDE({"x": "x > 1"}), r"write where\(x > 1, 1, 0\)"),
    "no state": (lambda: sim.SDE({}), "at least one state"),
    "drift is no mapping": (lambda: sim.SDE("-x"), "drift is a mapping"),
    "noise of no state": (lambda: sim.SDE({"x": 0}, {"y": 1}), "no state; the states are x"),
    "noise is no mapping": (lambda: sim.SDE({"x": 0}, "1"), "noise is a mapping"),
    "state shadows parameter": (lambda: sim.SDE({"x": 0}, parameters={"x": 1}), "both a state and a parameter; rename"),
    "state named t": (lambda: sim.SDE({"t": 0}), "'t' cannot name a state"),
    "state named like a function": (lambda: sim.SDE({"sin": 0}), "'sin' cannot name a state"),
    "state named status": (lambda: sim.SDE({"status": 0}), "'status' cannot name a state"),
    "keyword": (lambda: sim.SDE({"x": 0}, parameters={"lambda": 1}), "keyword of the grammar; write lambda_"),
    "micro sign": (lambda: sim.SDE({"x": 0}, parameters={"\xb5": 1}), "normal form; write 'μ'"),
    "no identifier": (lambda: sim.SDE({"x y": 0}), "wanted an identifier"),
    "a number as name": (lambda: sim.SDE({1: 0}), "1 cannot name a state"),
    "interpretation": (lambda: sim.SDE({"x": 0}, interpretation="Ito"), "one of ito, stratonovich"),
    "bounds of no state": (lambda: sim.SDE({"x": 0}, bounds={"y": sim.Reflecting(0, 1)}), "no state; the states are x"),
    "bounds of no kind": (lambda: sim.SDE({"x": 0}, bounds={"x": (0, 1)}), r"Reflecting\(lo, hi\) or Absorbing"),
    "unit of nothing": (lambda: sim.SDE({"x": 0}, units={"q": "m"}), "none of x, time"),
    "unit is a number": (lambda: sim.SDE({"x": 0}, units={"x": 1}), "is text such as"),
    "model": (lambda: sim.simulate("ou", {"x": 0}, [1]), "an SDE or a PDE, got str"),
    "method for other noise": (
        lambda: sim.simulate(GENERAL, {"x": 0, "y": 0}, [1], method="milstein"),
        "milstein does not serve general noise, which this model has; use one of euler_maruyama, heun",
    ),
    "method for fields": (lambda: ou(method="rkl2"), "no method 'rkl2' for this model .* kind stencil.*; there are euler_m"),
    "unknown method": (lambda: ou(method="rk78"), "no method 'rk78' for this model; there are euler_maruyama"),
    "unknown parameter": (lambda: ou(parameters={"q": 1}), "'q' is no parameter of this model; its parameters are k, s"),
    "length": (lambda: ou(parameters={"k": [1, 2, 3]}, members=2), "each of the 2 members; got 3 values: give 2"),
    "NaN parameter": (lambda: ou(parameters={"k": np.nan}), "'k' must be finite; got nan"),
    "one infinite": (lambda: ou(parameters={"k": [1, np.inf]}, members=2), "'k' must be finite; got inf"),
    "text parameter": (lambda: ou(parameters={"k": "1"}), "'k' must be a number"),
    "unfrozen": (lambda: ou(parameters={"k": stats.norm}), "freeze it"),
    "distribution of arrays": (lambda: ou(parameters={"k": stats.norm([0, 1])}), "give numbers"),
    "member without parameter": (
        lambda: ou(parameters={"k": xr.DataArray([1.0], dims="member", coords={"member": [0]})}, members=[9]),
        "no value for member 9",
    ),
    "initial missing": (lambda: sim.simulate(GENERAL, {"x": 0}, [1]), "'y' has no initial value"),
    "initial of no state": (lambda: sim.simulate(OU, {"x": 0, "q": 0}, [1]), "'q' is no state"),
    "no initial": (lambda: sim.simulate(GENERAL, None, [1]), "initial is a mapping"),
    "initial NaN": (lambda: ou(np.nan), "'initial x' must be finite"),
    "initial formula NaN": (lambda: ou("log(k - 2)"), "initial x must be finite; member 0 gets nan"),
    "initial unknown name": (lambda: ou("q"), "initial x 'q': unknown name 'q'; the names known here are k, s"),
    "initial length": (lambda: ou([1, 2], members=3), "each of the 3 members; got 2"),
    "times not increasing": (lambda: ou(times=[0, 1, 1]), "strictly increasing.*; sort them"),
    "times descending": (lambda: ou(times=[1, 0]), "strictly increasing"),
    "times NaN": (lambda: ou(times=[0, np.nan]), "finite and strictly increasing"),
    "times text": (lambda: ou(times="soon"), "a list of increasing numbers"),
    "times ragged": (lambda: ou(times=[[0, 1], [2]]), "a list of increasing numbers"),
    "no times": (lambda: ou(times=[]), "a list of increasing numbers"),
    "dt zero": (lambda: ou(dt=0), "dt is a positive number, got 0"),
    "dt negative": (lambda: ou(dt=-0.1), "dt is a positive number, got -0.1"),
    "dt NaN": (lambda: ou(dt=np.nan), "dt is a positive number"),
    "dt text": (lambda: ou(dt="0.1"), "dt is a positive number"),
    "too many steps": (lambda: ou(dt=1e-12), "2³² that have noise; choose a larger dt"),
    "no members": (lambda: ou(members=0), "members must be from 1"),
    "member twice": (lambda: ou(members=[1, 1]), "member 1 is asked for twice"),
    "member negative": (lambda: ou(members=[-1]), "from 0 to 2³²"),
    "member too large": (lambda: ou(members=[2**32]), "from 0 to 2³²"),
    "half a member": (lambda: ou(members=2.5), "count, a range or a list"),
    "seed": (lambda: ou(seed=-1), "a seed is an integer from 0 to 2⁶⁴"),
    "design": (lambda: ou(design="grid"), "one of random, lhs, sobol"),
    "part of a Latin square": (lambda: ou(stats.norm(), design="lhs", members=[3]), "whole ensemble.*members=<count>"),
    "dtype": (lambda: ou(dtype="int"), '"float64" or "float32"'),
    "device": (lambda: ou(device="tpu"), "one of cpu, cuda, reference"),
    "save": (lambda: ou(save="paths"), '"states" or "statistics"'),
    "store": (lambda: ou(store="run.txt"), "wanted .nc"),
    "complex in text": (lambda: sim.SDE({"x": "x + 1j"}), "not a finite real number"),
    "drift NaN at the start": (
        lambda: sim.simulate(sim.SDE({"x": "log(x - 5)"}, {"x": 1}), 1.0, [1.0], members=70),
        r"drift of x is not a finite number at the start.*x = 1.*where",
    ),
    "noise infinite at the start": (
        lambda: sim.simulate(sim.SDE({"x": "-x"}, {"x": "k/x"}, parameters={"k": [1, 2]}), 0.0, [1.0], members=2),
        "noise x of x is not a finite number",
    ),
    "state named like a variable": (lambda: sim.SDE({"last_good_time": 1}), "kept for the time, the Dataset"),
    "state named like the exits": (
        lambda: sim.SDE({"exit_time": 1}, bounds={"exit_time": sim.Absorbing(hi=1)}), "rename the state"),
    "state that shadows a parameter": (lambda: sim.SDE({"x": "-x"}, parameters={"x": 1}), "both a state and a parameter"),
    "bound of text": (lambda: sim.Absorbing("a"), "takes numbers, and None for an open end"),
    "infinite bound": (lambda: sim.Reflecting(0, np.inf), "None for an open end"),
    "members of statistics": (lambda: ou(members=2**32 + 1, save="statistics"), "from 0 to 2³²"),
    "range of statistics": (lambda: ou(members=range(2**33), save="statistics"), "from 0 to 2³²"),
    "exact for another model": (
        lambda: sim.simulate(sim.SDE({"x": "x - x**3"}, {"x": 1}), 0.0, [1.0], method="exact"), "no exact law is known",
    ),
    "folder": (lambda: ou(store="/no/such/folder/run.nc"), "does not exist: make it first"),
    "initial outside its bounds": (
        lambda: sim.simulate(sim.SDE({"x": 0}, {"x": 1}, bounds={"x": sim.Reflecting(0, 1)}), {"x": 2.0}, [1]),
        r"within its bounds \[0, 1\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_before_any_work(case, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work began")

    monkeypatch.setattr("sdesim.integrate.integrate", work)
    monkeypatch.setattr("sdesim.integrate.fold", work)
    call, message = BAD[case]
    with pytest.raises((ValueError, TypeError, KeyError, OSError), match=message) as caught:
        call()
    assert caught.value.__cause__ is None or isinstance(caught.value, EquationError)


def test_a_dataset_that_lost_its_provenance_says_so(whole):
    with pytest.raises(ValueError, match="sdesim_provenance"):
        sim.rerun(whole.drop_attrs())
    with pytest.raises(FileNotFoundError):
        sim.rerun("no_such_file.nc")
    with pytest.raises(TypeError, match="colour"):
        sim.rerun(whole, colour="blue")


def test_unknown_names_of_the_library_list_what_there_is():
    with pytest.raises(AttributeError, match="it has AccuracyWarning"):
        sim.simulat  # noqa: B018


@pytest.mark.parametrize("model, method, able", [
    (sim.PDE(GRID, diffusivity=0.1), "crank_nicolson", "rkl2"),
    (sim.PDE(GRID, diffusivity=0.1, reaction="u - u**3"), "tr_bdf2", "etdrk4"),
])  # fmt: skip
def test_a_method_without_cuda_source_is_refused_on_the_gpu(model, method, able):
    with pytest.raises(ValueError, match=rf"has no CUDA source.*{able}"):
        sim.simulate(model, 1.0, [0.1], method=method, device="cuda")


def test_one_member_whose_drift_is_not_finite_is_alone_in_it():
    model = sim.SDE({"x": "log(x)"}, {"x": 0.1})
    ds = sim.simulate(model, {"x": np.array([2.0, -1.0, 2.0])}, [0.1], members=3, dt=0.01)
    assert ds.status.values.tolist() == [0, 1, 0] and np.isfinite(ds.x.values[[0, 2]]).all()


def test_what_does_not_fit_into_memory_is_said_before_any_work(monkeypatch):
    walk = sim.SDE({"x": 0}, {"x": 1})
    with pytest.raises(MemoryError, match=r"states of 4,294,967,296 members at 2 times take 172 GB.*statistics"):
        sim.simulate(walk, {"x": 0.0}, [1.0, 2.0], members=2**32)
    for members in (2**32 + 1, range(2**32, 2**32 + 2)):
        with pytest.raises(ValueError, match="2³²"):
            sim.simulate(walk, {"x": 0.0}, [1.0], members=members)
    monkeypatch.setattr("sdesim.memory.available", lambda: 10**6)
    field = sim.PDE(sim.Grid(x=(0, 1, 1000)), diffusivity=1.0)
    for model, members, save in ((walk, 30_000, "states"), (field, 50, "states"), (field, 200, "statistics")):
        with pytest.raises(MemoryError, match="and this machine has 0.001 GB to give: ask for fewer members"):
            sim.simulate(model, 0.0, [1.0, 2.0], members=members, save=save)
    assert sim.simulate(walk, 0.0, [1.0, 2.0], members=20_000).sizes["member"] == 20_000
    assert sim.simulate(walk, 0.0, [1.0], members=50_000, save="statistics", dt=0.5).attrs["members"] == 50_000


def test_names_that_the_dataset_gives_itself_are_refused_before_any_work():
    for name in ("steps", "rejected_steps"):
        with pytest.raises(ValueError, match=f"'{name}' is a variable of the Dataset; rename it"):
            sim.simulate(sim.SDE({"x": f"-{name}*x"}, {"x": 1}, parameters={name: 1.0}), 1.0, [1.0], rtol=1e-2)
    for kind, names in (("state", {"drift": {"x": 0, "exit_time": 1}}), ("parameter", {"drift": {"x": 0}, "parameters": {"exit_time": 1}})):
        with pytest.raises(ValueError, match=f"'exit_time' is a variable of the Dataset; rename the {kind}"):
            sim.SDE(**names, bounds={"x": sim.Absorbing(lo=-1.0)})
