"""Spectral runs on a device: the same code with NumPy in CuPy's place and the CUDA source compiled for the host."""

import ctypes
import shutil
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest

from sdesim import fourier
from sdesim.boundaries import Dirichlet, Neumann, Periodic
from sdesim.curved import SphereGrid
from sdesim.fields import ColouredNoise, WhiteNoise
from sdesim.grids import Grid
from sdesim.integrate_field import integrate
from sdesim.kernels import spectral_device
from sdesim.kernels.cuda import compile_for_host
from sdesim.kernels.spectral_device import Device, cosines
from sdesim.methods import find
from sdesim.models.pde import PDE

PLANE = Grid(x=(0.0, 1.0, 17), y=(0.0, 2.0, 12))
LOOP = {"x": Periodic(), "y": Periodic()}
M = 3
CASES = {
    "exact, coloured noise": ("exact", PDE(PLANE, diffusivity="k", velocity={"x": "v"}, boundary=LOOP, parameters={
        "k": 0.1, "v": 0.5}, noise=ColouredNoise(0.3, 0.2, 1.5)), None, {"k": np.linspace(0.1, 0.2, M)}),
    "walls and a source": ("exact_fv", PDE(PLANE, diffusivity=[[0.1, 0], [0, 0.3]], reaction="1 + x - u", boundary={
        "x": (Dirichlet(1.0), Neumann(0.5))}, noise=WhiteNoise(1.0)), 0.05, {}),
    "held on both sides": ("etdrk2", PDE(PLANE, diffusivity=0.1, reaction="u - u**3", boundary={
        "y": Dirichlet(0.0)}), 0.05, {}),
    "spots": ("etdab4", PDE(PLANE, ("u", "v"), diffusivity={"u": "2e-3", "v": 1e-3}, boundary=LOOP, reaction={
        "u": "-u*v**2+F*(1-u)", "v": "u*v**2-(F+k)*v"}, parameters={"F": 0.04, "k": 0.06}), 0.01,
        {"F": np.linspace(0.03, 0.05, M)}),
    "waves, two kinds of edges": ("etdrk2", PDE(PLANE, ("u", "v"), diffusivity={"u": 0.05}, boundary={"u": LOOP},
        velocity={"u": {"x": "u/2"}}, reaction={"u": "-v", "v": "u - v + sin(t)"}), 0.02, {}),
    "noisy": ("exponential_euler", PDE(PLANE, diffusivity=0.1, reaction="u - u**3", boundary={
        "x": (Neumann(), Dirichlet(0.0)), "y": Periodic()}, noise=WhiteNoise(0.1)), 0.02, {}),
    "on a sphere": ("etdrk2", PDE(SphereGrid(lat=8, lon=15), diffusivity=0.1, reaction="u - u**3"), 0.02, {}),
    "noise on a sphere": ("exact", PDE(SphereGrid(lat=8, lon=16, radius=2.0), diffusivity=0.1, noise=WhiteNoise(0.3)),
                          None, {}),
}


compiled = lru_cache(maxsize=None)(compile_for_host)


class Module:
    """cupy.RawModule with the source compiled for the host: a launch runs its blocks one by one."""

    def __init__(self, code, options):
        assert "--fmad=false" in options
        self.library = compiled(code)

    def get_function(self, name):
        function = getattr(self.library, f"host_{name}")

        def launch(grid, block, arguments):
            assert len(grid) == 2 and len(block) == 1 and block[0] <= 1024
            places = arguments[2] if name == "pass0" else arguments[3] * ((arguments[4] + 1) // 2)
            assert grid[0] * block[0] >= places and grid[1] == (arguments[0] if name == "pass0" else arguments[2])
            function(*(ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else
                       (ctypes.c_uint64 if isinstance(a, np.uint64) else ctypes.c_int64)(int(a)) for a in arguments))

        return launch


def stand_in():
    names = ("empty", "zeros", "asarray", "ascontiguousarray", "moveaxis", "swapaxes", "matmul", "conj", "fft")
    return SimpleNamespace(RawModule=Module, __version__="none", **{name: getattr(np, name) for name in names})


def run(name, backend):
    method, model, dt, parameters = CASES[name]
    start = np.random.default_rng(0).random((len(model.state), M, *model.grid.shape))
    return integrate(model, find(method, ("spectral",)), start, parameters, np.array([1.0, 1.1, 1.3]), dt, seed=11,
                     members=np.arange(M), backend=backend)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", CASES)
def test_the_device_run_agrees_with_the_kernels(name, monkeypatch):
    """To rounding: passes and noise have the same bits, the transforms are other sums."""
    monkeypatch.setattr(spectral_device, "cupy", stand_in)
    found, expected = run(name, "cuda"), run(name, "kernel")
    assert found.notes["fft"].startswith("cuFFT") and not found.status.any()
    assert np.std(expected.states[2] - expected.states[0]) > 1e-4
    np.testing.assert_allclose(found.states, expected.states, rtol=0, atol=2e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_device(name):
    pytest.importorskip("cupy")
    np.testing.assert_allclose(run(name, "cuda").states, run(name, "kernel").states, rtol=0, atol=2e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("kind, name, number", [("neumann", "dct", 2), ("dirichlet", "dst", 2),
                                                ("dirichlet-neumann", "dst", 4), ("neumann-dirichlet", "dct", 4)])
def test_cosines_by_waves_of_twice_the_length(kind, name, number, n):
    u = np.random.default_rng(n).random((2, n, 3))
    modes = fourier.real(u, 2, name, number, -2)
    np.testing.assert_allclose(cosines(np, u, kind, 1), modes, rtol=0, atol=1e-14)
    np.testing.assert_allclose(cosines(np, modes, kind, 1, back=True), u, rtol=0, atol=1e-14)


def test_without_cupy():
    try:
        import cupy  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="needs CuPy: pip install"):
            run("held on both sides", "cuda")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_tables_on_the_device_are_made_once(monkeypatch):
    """The addresses of a multistep method's arrays go round; so do the tables that hold them."""
    made = []
    device = Device(stand_in())
    monkeypatch.setattr(spectral_device, "Device", lambda xp: made.append(device) or device)
    monkeypatch.setattr(spectral_device, "cupy", stand_in)
    method, model, _, parameters = CASES["spots"]
    start = np.random.default_rng(0).random((2, M, *model.grid.shape))
    integrate(model, find(method, ("spectral",)), start, parameters, np.array([0.0, 1.0]), 0.005, seed=1,
              members=np.arange(M), backend="cuda")
    assert made and sum(key[0] == "addresses" for key in device.kept) < 60
