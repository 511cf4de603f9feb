"""Noise in the fused kernels: the fluctuation–dissipation balance on every grid, and the bits of all engines."""

import shutil

import numpy as np
import pytest

import sdesim as sim
from sdesim.kernels.cuda import PRELUDE, compile_for_host
from sdesim.kernels.field_cuda import cuda_body, pair_function
from sdesim.kernels.field_device import Arrays, host_launch, run_group
from sdesim.kernels.field_increments import by_state
from sdesim.kernels.field_names import Names
from sdesim.kernels.field_plan import Programs, Steps, remembering
from sdesim.kernels.field_reference import Reference
from sdesim.kernels.field_run import Job, run
from sdesim.kernels.field_static import static_arrays
from sdesim.kernels.field_tiles import run_strips
from sdesim.methods.field import FIELD_METHODS
from sdesim.methods.vector import Vector
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

LAND = np.zeros((5, 6), bool)
LAND[1:3, 2:4] = True
UNEVEN = np.array([0.0, 1.0, 1.7, 3.2, 4.4, 5.0, 6.6])
GRIDS = {
    "line": sim.Grid(x=(0.0, 1.7, 7)), "plane": sim.Grid(x=(0.0, 1.8, 6), y=(0.0, 1.3, 5)),
    "box": sim.Grid(x=(0, 1, 4), y=(0, 1, 3), z=(0, 1, 3)), "stretched": sim.Grid(x=UNEVEN, y=(0.0, 1.3, 5)),
    "stretched y": sim.Grid(x=(0.0, 1.8, 6), y=UNEVEN), "masked": sim.Grid(x=(0, 1.8, 6), y=(0, 1.3, 5), mask=LAND),
    "ball": sim.RadialGrid(r=(0.0, 1.0, 6)), "shell": sim.RadialGrid(r=(0.3, 1.0, 6)),
    "cylinder": sim.RadialGrid(r=(0.0, 1.0, 4), geometry="cylinder", z=(0.0, 1.0, 4)),
    "globe": sim.SphereGrid(lat=4, lon=6), "region": sim.SphereGrid(lat=(20, 50, 3), lon=(0, 40, 4), radius=3.0),
}
HELD = (sim.Dirichlet(0.3), sim.Dirichlet("1 + k"))


def edges(grid, kind):
    """No flux, periodic where an axis may be, or values at one or at both ends of every axis."""
    if kind == "no flux":
        return None
    if kind == "periodic":
        return {axis: sim.Periodic() for axis in grid.axes if axis in "xyz"}
    sides = HELD if kind == "held" else (HELD[0], sim.Neumann(0.0))
    ends = {axis: sides for axis in grid.axes if axis not in ("r", "lat", "lon") or grid in (GRIDS["region"],)}
    return {**ends, "r": sides[1] if grid.axis("r")[0] == 0.0 else sides} if "r" in grid.axes else ends


def matrices(model, where=None):
    """L of du = L u dt + B dW by the reference's columns, and B (at a field) by the increments of its sources."""
    stencil = discretise(model)
    reference = Reference(stencil, model.parameters, {
        name: values[0] for name, values in static_arrays(stencil, model.parameters).items()})
    shape, size = model.grid.shape, model.grid.size
    still, unit = np.zeros(shape), np.eye(size).reshape(size, *shape)
    at = lambda u: np.asarray(reference.f(0.0, Vector([u]))[0]) * np.ones(shape)
    L = np.stack([(at(e) - at(still)).ravel() for e in unit], axis=1)
    B = []
    for j in range(len(stencil.sources)):
        for e in unit:
            dW = [e * stencil.noise_scale if i == j else still for i in range(len(stencil.sources))]
            B.append(np.ravel(reference.noise(0.0, Vector([np.ones(shape) if where is None else where]), by_state(stencil, dW))[0]))
    return L, np.stack(B, axis=1)


@pytest.mark.parametrize("kind", ["no flux", "periodic", "held", "held below"])
@pytest.mark.parametrize("name", GRIDS)
def test_fluctuations_and_dissipation_balance_in_every_cell(name, kind):
    # L C + C Lᵀ + B Bᵀ = 0 with C = ρ/V: white at every wave number, whatever the cells, by linear algebra alone
    grid = GRIDS[name]
    noise = sim.ConservedNoise("sqrt(2*D*rho)")
    model = sim.PDE(grid, diffusivity="D", noise=noise, boundary=edges(grid, kind),
                    parameters={"D": 0.3, "rho": 2.0, "k": 0.1})
    L, B = matrices(model)
    C, wet = np.diag(2.0 / grid.volumes.ravel()), grid.wet.ravel()
    assert np.abs((L @ C + C @ L.T + B @ B.T)[np.ix_(wet, wet)]).max() < 1e-15 * np.abs(B @ B.T).max()
    if kind in ("no flux", "periodic"):
        assert np.abs(grid.volumes.ravel() @ B).max() < 1e-16 * np.abs(B).max() * grid.size
    assert np.linalg.matrix_rank(B[wet], tol=1e-9) == wet.sum() - (not any(
        isinstance(side, sim.Dirichlet) for axis in grid.axes for side in model.boundary["u"][axis]))


@pytest.mark.parametrize("name", ["line", "plane", "stretched", "shell", "region"])
def test_particles_that_walk_alone_are_poisson_between_reservoirs(name):
    # a² = 2Dρ, and a stationary profile between two densities: C = ρ(x)/V though a current flows
    grid = GRIDS[name]
    along = grid.axes[-1]
    model = sim.PDE(grid, diffusivity=0.3, noise=sim.ConservedNoise("sqrt(2*0.3*u)"),
                    boundary={along: (sim.Dirichlet(0.5), sim.Dirichlet(2.0))})
    stencil = discretise(model)
    L, _ = matrices(model)
    reference = Reference(stencil, {}, {key: values[0] for key, values in static_arrays(stencil, {}).items()})
    source = np.asarray(reference.f(0.0, Vector([np.zeros(grid.shape)]))[0]).ravel()
    profile = np.linalg.solve(L, -source)
    _, B = matrices(model, profile.reshape(grid.shape))
    C = np.diag(profile / np.broadcast_to(grid.volumes, grid.shape).ravel())
    assert np.ptp(profile) > 0.8
    found = np.abs(L @ C + C @ L.T + B @ B.T).max() / np.abs(B @ B.T).max()
    assert found < 1e-14


def test_the_structure_factor_by_euler_steps_is_that_of_the_scheme():
    # u ← (1 − λh) u + noise of variance 2λρh/V: S(k) = ρ/V/(1 − λh/2), exactly
    n, D, h, rho = 32, 0.2, 5e-4, 3.0
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, n)), diffusivity=D, noise=sim.ConservedNoise("sqrt(2*D*rho)"),
                    parameters={"D": D, "rho": rho}, boundary={"x": sim.Periodic()})
    ds = sim.simulate(model, rho, np.arange(0.2, 3.0, 0.2), members=400, dt=h, method="euler_maruyama", seed=3)
    modes = np.abs(np.fft.rfft(ds.u.values, norm="ortho"))[..., 1:-1] ** 2
    rate = D * (2 * n * np.sin(np.pi * np.arange(1, n // 2) / n)) ** 2
    exact = rho * n / (1.0 - 0.5 * rate * h)
    assert exact[-1] / exact[0] > 1.2
    samples = 400 * 14 * np.tanh(0.1 * rate)  # saves of one member are e^{−0.2 λ} alike
    assert np.abs((modes.mean(axis=(0, 1)) / exact - 1.0) * np.sqrt(samples)).max() < 4.5
    assert ds.mass_residual_u.max() < 1e-13


@pytest.mark.parametrize("name", ["line", "plane", "stretched", "masked", "ball", "region"])
@pytest.mark.parametrize("kind", ["no flux", "held"])
def test_noise_with_a_memory_is_of_ordinary_calculus_in_flux_and_cell(name, kind):
    # along a smooth path of integrals I a step adds the flow of du/ds = g(u) I over unit s, but for O(I³)
    grid = GRIDS[name]

    def reference(tau):
        noise = {"u": sim.ConservedNoise("0.5*u*v + x1*u**2", tau), "v": sim.WhiteNoise("0.3*u*v + 0.1*v**2", tau)}
        model = sim.PDE(grid, ("u", "v"), diffusivity=0.0, noise=noise, boundary=edges(grid, kind),
                        parameters={"x1": 0.2, "k": 0.1})
        stencil = discretise(model)
        arrays = static_arrays(stencil, model.parameters)
        return stencil, Reference(stencil, model.parameters, {key: values[0] for key, values in arrays.items()})

    (stencil, first), (_, second) = reference(None), reference(0.1)
    rng = np.random.default_rng(3)
    u0 = 1.0 + rng.random((2, *grid.shape))
    dW = rng.standard_normal((len(stencil.sources), *grid.shape)) * np.sqrt(grid.volumes.min())
    errors = []
    for size in (0.04, 0.02):
        I = by_state(stencil, list(size * dW))
        g = lambda u, I=I: np.stack(first.noise(0.0, Vector(list(u)), I))
        u, ds = u0, 1 / 20
        for _ in range(20):
            k = [g(u)]
            for c in (0.5, 0.5, 1.0):
                k.append(g(u + c * ds * k[-1]))
            u = u + ds / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3])
        added = np.stack(second.noise(0.0, Vector(list(u0)), I))
        errors.append(np.abs((u0 + added - u)[:, grid.wet]).max())
        assert errors[-1] < 0.3 * np.abs((u0 + g(u0) - u)[:, grid.wet]).max()
    assert 6.0 < errors[0] / errors[1] < 10.0
    if kind == "no flux":
        assert abs((grid.volumes * added[0]).sum()) < 1e-13 * np.abs(grid.volumes * added[0]).sum()


WAVE = sim.ConservedNoise("0.01*sqrt(max(u, 0))*(1 + x*t)")
NOISES = {
    "memory": sim.WhiteNoise("0.1*u*u + x*t", correlation_time=0.01), "conserved": WAVE,
    "both": sim.ConservedNoise("0.02*sqrt(max(u, 0))", 2e-3), "coloured": sim.ColouredNoise("0.1*u", 0.3, 1.5),
    "coloured memory": sim.ColouredNoise("0.1*u", 0.3, None, 0.02),
}
PLAIN = {1: sim.Grid(x=(0.0, 1.7, 17)), 2: sim.Grid(x=(0.0, 1.7, 17), y=(0.0, 1.3, 13)),
         3: sim.Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 6), z=(0.0, 1.0, 5))}
MIXED = {"x": sim.Periodic(), "y": (sim.Dirichlet(0.3), sim.Dirichlet("k + x"))}
CASES = {(2, name): (PLAIN[2], noise, MIXED) for name, noise in NOISES.items()}
CASES |= {(1, "conserved"): (PLAIN[1], NOISES["conserved"], None), (3, "both"): (PLAIN[3], NOISES["both"], None),
          (3, "coloured"): (PLAIN[3], NOISES["coloured"], {"y": sim.Periodic()}),
          ("masked", "both"): (GRIDS["masked"], NOISES["both"], None),
          ("stretched", "memory"): (GRIDS["stretched"], NOISES["memory"], None),
          ("globe", "conserved"): (GRIDS["globe"], sim.ConservedNoise("0.01*sqrt(u)"), None)}
TIMES = [0.0, 0.002, 0.005, 0.0055]


def case_model(case):
    grid, noise, boundary = CASES[case]
    two = {"state": ("u", "v"), "reaction": {"v": "u - v"}, "noise": {"u": noise, "v": sim.WhiteNoise("0.1*u*v", 0.01)}}
    more = two if case == (2, "memory") else {"noise": noise}
    return sim.PDE(grid, diffusivity="0.01*(1 + k)", boundary=boundary, parameters={"k": 0.3}, **more)


def start(model, members=3):
    return np.random.default_rng(5).random((len(model.state), members, *model.grid.shape))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_noise_has_the_bits_of_the_reference(case):
    model = case_model(case)
    arguments = (model, "euler_maruyama", start(model), {"k": np.array([0.1, 0.2, 0.3])}, TIMES, 7e-4)
    fused, status, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3, threads=2)
    plain, _, _ = stencil_run(*arguments, members=[4, 1, 7], seed=3, backend="numpy")
    assert not status.any()
    assert np.array_equal(fused.view(np.uint64), plain.view(np.uint64))
    still = stencil_run(sim.PDE.from_dict({**model.to_dict(), "noise": {}}), "euler", *arguments[2:], members=[4, 1, 7])[0]
    assert np.abs(fused[-1, 0] - still[-1, 0]).max() > 1e-4


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_cuda_source_of_noise_compiled_for_the_host_gives_the_same_bits():
    jobs, source, members = [], PRELUDE + pair_function(), np.array([4, 1, 7])
    for k, case in enumerate(CASES):
        model = case_model(case)
        stencil = discretise(model)
        programs, names = Programs(stencil, FIELD_METHODS["euler_maruyama"]), Names.of(stencil, ("k",))
        plans = remembering(stencil, [[Steps(0.0, 1e-3, 2, ()), Steps(2e-3, 5e-4, 30, ())]] * 3)
        for steps in plans[0]:
            programs.number(steps)
        source += cuda_body(stencil, programs.kernels, names, f"case{k}_")
        jobs.append((stencil, programs, names, plans, start(model)))
    library = compile_for_host(source)
    for k, (stencil, programs, names, plans, u) in enumerate(jobs):
        arrays = Arrays(stencil, names, {"k": 0.3}, members, 0.0)
        cuda = run_group(host_launch(library, f"case{k}_"), programs, arrays, plans[0], u, seed=3)
        fused = np.empty((2, *u.shape))
        run(Job(stencil, {"k": 0.3}, plans, programs, u, members, 3, fused), threads=1)
        assert np.array_equal(cuda.view(np.uint64), fused.view(np.uint64)), list(CASES)[k]


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_noise_on_a_device_has_the_same_bits(case):
    pytest.importorskip("cupy")
    model = case_model(case)
    arguments = (model, "euler_maruyama", start(model), None, TIMES, 7e-4)
    device, fused = (stencil_run(*arguments, members=[4, 1, 7], seed=3, backend=b)[0] for b in ("cuda", "kernel"))
    assert np.array_equal(device.view(np.uint64), fused.view(np.uint64))


@pytest.mark.parametrize("wraps", [True, False])
@pytest.mark.parametrize("noise", ["both", "memory", "conserved"])
def test_noise_in_strips_has_the_same_bits(noise, wraps):
    # two strips with halos, in which fluxes and memories are computed twice, over several sweeps
    model = sim.PDE(sim.Grid(x=(0, 1, 13), y=(0, 2, 50)), diffusivity=1e-3, noise=NOISES[noise], parameters={"k": 0.1},
                    boundary={"y": sim.Periodic() if wraps else HELD})
    stencil, outs = discretise(model), []
    plans = remembering(stencil, [[Steps(0.0, 1e-3, 11, ()), Steps(0.011, 5e-4, 30, ())]] * 2)
    for way in (lambda job: run(job, 1), lambda job: run_strips(job, 8, 2)):
        outs.append(np.empty((2, 1, 2, 50, 13)))
        programs = Programs(stencil, FIELD_METHODS["euler_maruyama"])
        way(Job(stencil, model.parameters, plans, programs, start(model, 2), np.array([3, 9]), 7, outs[-1]))
    assert np.array_equal(outs[0].view(np.uint64), outs[1].view(np.uint64))


def test_sheets_are_the_same_in_blocks_of_any_members():
    model = case_model((2, "coloured memory"))
    u = start(model, 6)
    whole = stencil_run(model, "euler_maruyama", u, None, TIMES, 1e-5, members=range(6), threads=3)[0]
    for m in (0, 5):
        alone = stencil_run(model, "euler_maruyama", u[:, m : m + 1], None, TIMES, 1e-5, members=[m])[0]
        assert np.array_equal(alone[:, :, 0], whole[:, :, m])
