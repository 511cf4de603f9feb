"""Coefficient fields of which every member has its own: bits, laws, exact Darcy flow, provenance."""

import shutil

import numpy as np
import pytest

import sdesim as sim
from sdesim.kernels.cuda import compile_for_host
from sdesim.kernels.field_cuda import cuda_source
from sdesim.kernels.field_device import host_launch, run_ensemble
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_plan import Programs, Steps
from sdesim.methods.field import FIELD_METHODS
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

GRID = sim.Grid(x=(0.0, 1.0, 16), y=(0.0, 1.0, 12))
HELD = {"x": (sim.Dirichlet(0.0), sim.Dirichlet(1.0))}
LAW = sim.GaussianField(std=1.0, length=0.3)


def darcy(a=0.0, **more):
    return sim.PDE(GRID, diffusivity="k*exp(a)", boundary=HELD, parameters={"a": a, "k": 1.0}, **more)


@pytest.mark.parametrize("method", ["rkl2", "ssprk3", "tr_bdf2", "ars232"])
def test_members_are_the_same_in_any_company_and_from_the_file(method):
    how = {"parameters": {"a": LAW}, "method": method, "seed": 1}
    ds = sim.simulate(darcy(), 0.0, [0.02], members=4, **how)
    assert ds.a.dims == ("member", "y", "x")
    assert float(np.abs(ds.u[0] - ds.u[1]).max()) > 0.01
    alone = sim.simulate(darcy(), 0.0, [0.02], members=[2], **how)
    assert alone.u.equals(ds.u[2:3])
    assert alone.a.equals(ds.a[2:3])
    again = sim.rerun(ds, members=[3])
    assert again.u.equals(ds.u[3:4])
    array = sim.simulate(darcy(ds.a[3].values), 0.0, [0.02], members=[3], method=method, seed=1)
    assert np.array_equal(array.u, ds.u[3:4])


def test_in_the_model_in_the_call_as_array_and_as_dataarray():
    ds = sim.simulate(darcy(LAW), 0.0, [0.02], members=3, seed=4)
    again = sim.rerun(ds)
    assert again.equals(ds)
    called = sim.simulate(darcy(), 0.0, [0.02], members=3, seed=4, parameters={"a": LAW})
    array = sim.simulate(darcy(), 0.0, [0.02], members=3, seed=4, parameters={"a": ds.a.values})
    labelled = sim.simulate(darcy(), 0.0, [0.02], members=[2, 0], seed=4, parameters={"a": ds.a})
    assert called.u.equals(ds.u)
    assert array.u.equals(ds.u)
    assert labelled.u.equals(ds.u.sel(member=[2, 0]))
    assert sim.rerun(array, members=[1]).u.equals(ds.u[1:2])
    one = sim.simulate(darcy(), 0.0, [0.02], members=2, parameters={"a": ds.a[1].values})
    assert "a" not in one
    assert np.array_equal(one.u[0], ds.u[1])
    assert np.array_equal(one.u[1], ds.u[1])


def test_kernel_reference_and_cuda_source_have_the_same_bits():
    model = sim.PDE(GRID, diffusivity="k*exp(a)", reaction="sin(a)*u", noise=sim.WhiteNoise("0.1*a*u"),
                    parameters={"a": LAW, "k": 0.2})
    members = np.array([5, 1])
    values = {"k": np.array([0.1, 0.2]), "a": LAW.sample(GRID, seed=1, members=members)}
    u = np.random.default_rng(0).random((1, 2, *GRID.shape))
    arguments = (model, "euler_maruyama", u, values, [0.0, 0.001, 0.003], 2e-4)
    fused, _, _ = stencil_run(*arguments, members=members, seed=3)
    plain, _, _ = stencil_run(*arguments, members=members, seed=3, backend="numpy")
    assert np.array_equal(fused, plain)
    if shutil.which("g++") is None:
        pytest.skip("no compiler")
    stencil = discretise(model)
    programs, names = Programs(stencil, FIELD_METHODS["euler_maruyama"]), Names.of(stencil, tuple(values))
    plans = [[Steps(0.0, 0.001 / 5, 5, ()), Steps(0.001, 0.002 / 10, 10, ())]] * 2
    for steps in plans[0]:
        programs.number(steps)
    out = np.empty((2, 1, 2, *GRID.shape))
    library = compile_for_host(cuda_source(stencil, programs.kernels, names))
    run_ensemble(host_launch(library), programs, names, values, plans, u, members, 3, out)
    assert np.array_equal(out, fused[1:])


def test_darcy_flow_along_a_line_is_exact():
    # between held ends the flux q = 1/Σ R is the same at every face, R = ½(1/Kᵢ + 1/Kᵢ₊₁)Δ, half cells at the ends
    grid = sim.Grid(x=(0.0, 2.0, 40))
    law = sim.GaussianField(mean="0.5*x", std=1.5, length=0.2, smoothness=0.5)
    model = sim.PDE(grid, diffusivity="exp(a)", boundary=HELD, parameters={"a": law})
    ds = sim.steady(model, members=5, seed=2)
    half = 0.5 * grid.spacing["x"] / np.exp(ds.a.values)
    resistance = np.concatenate([half[:, :1], half[:, 1:] + half[:, :-1], half[:, -1:]], axis=1)
    exact = np.cumsum(resistance, axis=1)[:, :-1] / resistance.sum(axis=1, keepdims=True)
    assert np.abs(ds.u.values - exact).max() < 1e-9


def test_fields_have_their_law_and_share_no_noise_with_the_initial_ones():
    grid = sim.Grid(x=(0.0, 1.0, 32))
    model = sim.PDE(grid, diffusivity="1e-3*exp(a)", parameters={"a": 0.0, "b": 1.0}, reaction="0*b")
    law = sim.GaussianField(std=2.0, length=0.1)
    ds = sim.simulate(model, {"u": law}, [0.0], members=4000, seed=3, parameters={"a": law, "b": law})
    n = 4000
    assert np.abs(ds.a.var("member") / 4.0 - 1.0).max() < 5 * np.sqrt(2 / n)  # 5 standard errors
    lag = (ds.a[:, 10] * ds.a[:, 13]).mean() / 4.0
    assert abs(float(lag) - np.exp(-0.5 * (3 / 32 / 0.1) ** 2)) < 5 * np.sqrt(2 / n)
    for one, other in ((ds.a, ds.u[:, 0]), (ds.a, ds.b)):
        assert np.abs((one * other).mean("member") / 4.0).max() < 5 / np.sqrt(n)


def test_errors_of_steps_and_cells_see_each_members_field():
    ds = sim.simulate(darcy(), 0.0, [0.05], members=2, parameters={"a": LAW}, seed=1, certify=True)
    assert (ds.space_error_u > 0).all()
    assert (ds.space_error_u < 0.05).all()
    assert (ds.maximum_principle_u == 0).all()


@pytest.mark.parametrize(("value", "error", "match"), [
    (np.ones((3, 12, 16)), ValueError, "one field for each member"),
    (np.full((2, 12, 16), np.nan), ValueError, "finite everywhere"),
    (sim.GaussianField(mean="q"), ValueError, "q"),
])
def test_refusals(value, error, match):
    with pytest.raises(error, match=match):
        sim.simulate(darcy(), 0.0, [0.01], members=2, parameters={"a": value})


def test_a_negative_diffusivity_of_one_member_and_a_spectral_method_are_refused():
    model = sim.PDE(GRID, diffusivity="a", parameters={"a": 1.0})
    fields = np.ones((2, *GRID.shape))
    fields[1, 3, 3] = -0.1
    with pytest.raises(ValueError, match="must not be negative"):
        sim.simulate(model, 0.0, [0.01], members=2, parameters={"a": fields})
    with pytest.raises(ValueError, match="each member's own"):
        sim.simulate(darcy(), 0.0, [0.01], members=2, parameters={"a": LAW}, method="exact")
