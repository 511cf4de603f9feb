"""The fused kernels and the CUDA source give the bits of the NumPy reference, in any cut of the members."""

import shutil

import numpy as np
import pytest

from sdesim.boundaries import Dirichlet, Neumann, Periodic
from sdesim.fields import ColouredNoise, WhiteNoise
from sdesim.grids import Grid
from sdesim.integrate_field import integrate, modal_form
from sdesim.kernels.spectral_cuda import cuda_source, host_noise, host_pass
from sdesim.kernels.spectral_noise import noise_kernel
from sdesim.kernels.spectral_pointwise import body
from sdesim.kernels.spectral_run import Fused, Host, Reference
from sdesim.kernels.spectral_trace import Pass, trace
from sdesim.methods import find
from sdesim.models.pde import PDE
from sdesim.streams import Purpose, field_normals

LINE, PLANE = Grid(x=(0.0, 1.0, 21)), Grid(x=(0.0, 1.0, 17), y=(0.0, 2.0, 12))
BOX = Grid(x=(0, 1, 6), y=(0, 1, 5), z=(0, 1, 4))
LOOP = {"x": Periodic(), "y": Periodic()}
M = 5
CASES = {
    "noisy heat, member-wise D": ("exact", PDE(PLANE, diffusivity="k", reaction="exp(-x*k) - 0.5*u",
                                               noise=WhiteNoise("s"), parameters={"k": 0.1, "s": 0.3}),
                                  None, {"k": np.linspace(0.1, 0.2, M)}),
    "coloured": ("exact", PDE(PLANE, diffusivity=0.1, boundary=LOOP, noise=ColouredNoise(0.3, 0.2, 1.5)), None, {}),
    "tensor, mixed edges": ("exact_fv", PDE(PLANE, diffusivity=[[0.1, 0], [0, 0.3]], noise=WhiteNoise(1.0), boundary={
        "x": Periodic(), "y": (Dirichlet(0), Neumann())}), 0.02, {}),
    "tensor, off the axes": ("exact", PDE(PLANE, diffusivity=[[0.1, 0.05], [0.02, 0.3]], boundary=LOOP), 0.02, {}),
    "no diffusion": ("exact", PDE(LINE, diffusivity=0.0, noise=WhiteNoise(1.0)), 0.02, {}),
    "Gray–Scott, member-wise F": ("etdrk4", PDE(PLANE, ("u", "v"), diffusivity={"u": "2e-3", "v": 1e-3}, boundary={
        "u": LOOP}, reaction={"u": "-u*v**2+F*(1-u)", "v": "u*v**2-(F+k)*v"}, parameters={"F": 0.04, "k": 0.06}),
        0.02, {"F": np.linspace(0.03, 0.05, M)}),
    "time, space and functions": ("etdrk4", PDE(LINE, diffusivity=0.1, reaction="sin(u)*tanh(x) - exp(-t)*u**3"),
                                  0.02, {}),
    "three dimensions": ("etdrk4", PDE(BOX, diffusivity=0.1, reaction="u - u**3", boundary={"y": Dirichlet(0)}),
                         0.03, {}),
    "a state at rest": ("etdrk4", PDE(LINE, ("u", "v"), diffusivity={"u": 0.1}, reaction={"u": "u - v"}), 0.05, {}),
    "coefficient fields and crowded names": ("etdrk4", PDE(
        LINE, diffusivity="c0", reaction="u0*u - K*u**3",
        parameters={"c0": 0.1, "u0": 1.0, "h": 2.0, "n0": 1.0, "K": np.linspace(1.0, 2.0, 21)}), 0.05,
        {"u0": np.linspace(1, 2, M)}),
    "a source array": ("exact", PDE(PLANE, diffusivity="h", reaction=np.linspace(0, 1, 204).reshape(12, 17),
                                    parameters={"h": 0.1}), None, {}),
    "carried and noisy, member-wise v": ("exact", PDE(
        PLANE, diffusivity="k", velocity={"x": "v", "y": -0.5}, reaction="sin(2*pi*x) - 0.5*u", noise=WhiteNoise(0.3),
        boundary=LOOP, parameters={"k": 0.01, "v": 1.0}), None, {"v": np.linspace(-1, 2, M)}),
    "carried between walls": ("exact_fv", PDE(PLANE, diffusivity=[[0.1, 0], [0, 0.3]], velocity={"x": 2.0}, boundary={
        "x": Periodic(), "y": (Dirichlet(0), Neumann())}, noise=ColouredNoise(0.3, 0.2)), 0.02, {}),
    "Burgers and a tracer": ("etdrk4", PDE(
        PLANE, ("u", "c"), diffusivity={"u": 0.05, "c": 0.02}, velocity={"u": {"x": "u/2"}, "c": {"x": "u", "y": "b*x"}},
        boundary=LOOP, reaction={"c": "-c"}, parameters={"b": 1.0}), 0.02, {"b": np.linspace(0, 1, M)}),
    "KPZ with noise, mixed spaces": ("exponential_euler", PDE(
        PLANE, ("u", "v"), diffusivity=0.05, reaction={"u": "0.1*(ddx(u)**2 + ddy(u)**2)", "v": "u - v**3"},
        boundary={"u": LOOP}, noise={"u": WhiteNoise(0.01)}), 0.02, {}),
    "held at values": ("exact", PDE(PLANE, diffusivity=0.1, reaction="1 - u", boundary={
        "x": (Dirichlet("T"), Neumann(1)), "y": Periodic()}, parameters={"T": 1.0}), None, {"T": np.linspace(0, 2, M)}),
    "held, nonlinear": ("etdrk4", PDE(LINE, diffusivity=0.1, reaction="u - u**3", boundary={
        "x": (Neumann("g"), Neumann(0.5))}, parameters={"g": 1.0}), 0.02, {"g": np.linspace(0, 2, M)}),
    "Gray–Scott in five steps": ("etdab5", PDE(PLANE, ("u", "v"), diffusivity={"u": "2e-3", "v": 1e-3}, boundary=LOOP,
        reaction={"u": "-u*v**2+F*(1-u)", "v": "u*v**2-(F+k)*v"}, parameters={"F": 0.04, "k": 0.06}), 0.01,
        {"F": np.linspace(0.03, 0.05, M)}),
    "a wave in four steps, edges of two kinds": ("etdab4", PDE(
        PLANE, ("u", "v"), diffusivity={"u": 0.05}, velocity={"u": {"x": "u/2"}}, boundary={"u": LOOP},
        reaction={"u": "u - u**3/3 - v", "v": "0.1*(u - v) + sin(t)"}), 0.01, {}),
    "excitable, in two stages": ("etdrk2", PDE(
        PLANE, ("u", "v"), diffusivity={"u": 0.05}, reaction={"u": "u - u**3/3 - v + x", "v": "tau*(u + 0.7 - 0.8*v)"},
        parameters={"tau": 0.08}, boundary={"x": (Dirichlet(1.0), Neumann())}), 0.02, {"tau": np.linspace(0.05, 0.1, M)}),
    "nonlinear with noise": ("exponential_euler", PDE(PLANE, diffusivity=0.1, reaction="u - u**3 + sin(t)*x",
                                                      boundary=LOOP, noise=WhiteNoise(0.1)), 0.02, {}),
}
NAMES = list(CASES)


def run(name, cut=slice(None), **options):
    method, model, dt, parameters = CASES[name]
    start = np.random.default_rng(0).random((len(model.state), M, *model.grid.shape))[:, cut]
    own = {key: value[cut] for key, value in parameters.items()}
    return integrate(model, find(method, ("spectral",)), start, own, np.array([1.0, 1.05, 1.2]), dt, seed=11,
                     members=np.arange(M)[cut], **options)


@pytest.mark.parametrize("name", NAMES)
def test_kernel_equals_reference(name):
    reference = run(name, backend="numpy").states
    assert np.isfinite(reference).all() and np.std(reference[1:] - reference[:-1]) > 0
    assert np.array_equal(run(name, backend="kernel").states, reference)


@pytest.mark.parametrize("name", NAMES)
def test_members_are_independent_of_blocks_and_threads(name, monkeypatch):
    whole = run(name).states
    assert np.array_equal(run(name, threads=2).states, whole)
    for cut in (slice(3, 4), slice(1, 5)):
        assert np.array_equal(run(name, cut=cut).states, whole[:, :, cut])
    monkeypatch.setattr("sdesim.integrate_field.BLOCK_VALUES", 2 * CASES[name][1].grid.size)
    assert np.array_equal(run(name).states, whole)


class Compiled(Host):
    passes, noise = staticmethod(host_pass), staticmethod(host_noise)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", NAMES)
def test_cuda_source_on_the_host_equals_reference(name):
    method, model, dt, parameters = CASES[name]
    method = find(method, ("spectral",))
    form = modal_form(model, method)
    start = np.random.default_rng(0).random((len(model.state), M, *model.grid.shape))
    u = [transform.forward(start[i]) for i, transform in enumerate(form.transforms)]
    values = {**model.parameters, **parameters}
    reference = Reference(method, form, u, values, 11, np.arange(M))
    device = Fused(trace(method, form), u, values, 11, np.arange(M), Compiled())
    for number, t in enumerate((0.0, 0.02, 0.05)):
        reference.step(t, 0.02 + 0.01 * number, number)
        device.step(t, 0.02 + 0.01 * number, number)
    for a, b in zip(reference.u, device.u, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("shape", [(2,), (7,), (8,), (3, 5), (2, 3, 4)])
def test_noise_kernel_equals_its_definition(shape):
    members = np.array([0, 9, 2**31, 2**32 - 1])
    for fill in (noise_kernel(), *([host_noise()] if shutil.which("g++") else [])):
        out = np.zeros((4, *shape))
        fill(out, 2**40 + 17, members, 2**31 + 3, 5, Purpose.INITIAL)
        assert np.array_equal(out, field_normals(2**40 + 17, members, 2**31 + 3, 5, shape, Purpose.INITIAL))


def test_what_does_not_change_is_hoisted():
    """The passes of an ETDRK4 step hold no exponential of modal space: the φ functions are computed once per h."""
    method, model, _, _ = CASES["Gray–Scott, member-wise F"]
    program = trace(find(method, ("spectral",)), modal_form(model, find(method, ("spectral",))))
    assert len(program.coefficients) >= 6
    modal = [p for p in program.steps if isinstance(p, Pass) and p.space == "modal"]
    source = cuda_source([body(p.outputs, ["F", "k", "t", "@h"]) for p in modal])
    assert source.count("as_double") < 40  # those of the prelude and the noise kernel only
    assert all(not {"%k2.0", "@h"} & set(body(p.outputs, ["F", "k", "t"]).sources) for p in modal)


def test_one_bad_member_spoils_no_other():
    name = "noisy heat, member-wise D"
    method, model, _, parameters = CASES[name]
    start = np.random.default_rng(0).random((1, M, *model.grid.shape))
    good = run(name)
    start[0, 2, 3, 4] = np.nan
    bad = integrate(model, find(method, ("spectral",)), start, parameters, np.array([1.0, 1.05, 1.2]), None, seed=11,
                    members=np.arange(M))
    assert bad.status.tolist() == [0, 0, 1, 0, 0] and not good.status.any()
    others = [0, 1, 3, 4]
    assert np.array_equal(bad.states[:, :, others], good.states[:, :, others])


@pytest.mark.parametrize("edges", [{"x": Periodic(), "y": Periodic()}, {"x": Dirichlet(0.0)}, {"x": Periodic()}])
def test_threads_that_share_a_transform_give_the_same_bits(monkeypatch, edges):
    monkeypatch.setattr("sdesim.integrate_field.SHARED_CELLS", 1)
    model = PDE(Grid(x=(0.0, 1.0, 37), y=(0.0, 1.0, 54)), diffusivity=0.01, reaction="u - u**3", boundary=edges)
    u = np.random.default_rng(0).random((1, 1, 54, 37))
    one, *more = (integrate(model, find("etdrk4", ("spectral",)), u, {}, np.array([0.0, 0.1, 0.3]), 0.05,
                                            seed=0, members=np.arange(1), threads=k).states for k in (1, 2, 3))
    assert all(np.array_equal(one, other) for other in more)
