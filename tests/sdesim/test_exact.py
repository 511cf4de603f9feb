"""The exact propagators against exact results: at any step, in law, and to round-off where something is conserved."""

import math

import numpy as np
import pytest
from scipy.special import erfc

from sdesim.boundaries import Dirichlet, Neumann, Periodic, Robin
from sdesim.fields import ColouredNoise, WhiteNoise, restrict, spectral_density, variance, white_noise
from sdesim.grids import Grid
from sdesim.integrate_field import integrate
from sdesim.methods import find
from sdesim.models.pde import PDE
from sdesim.spectral import Transform, transform_for

LOOP = (Periodic(), Periodic())
SIDES = {
    "periodic": LOOP, "neumann": (Neumann(), Neumann()), "dirichlet": (Dirichlet(), Dirichlet()),
    "dirichlet-neumann": (Dirichlet(), Neumann()), "neumann-dirichlet": (Neumann(), Dirichlet()),
}


def final(model, start, time, method="exact", dt=None, seed=0, members=1, **parameters):
    """Fields (members, *space) of the first state at `time`."""
    fields = np.broadcast_to(start, (len(model.state), members, *model.grid.shape)).copy()
    result = integrate(model, find(method, ("spectral",)), fields, parameters, np.array([0.0, time]), dt, seed=seed,
                       members=np.arange(members))
    return result.states[-1, 0]


def test_slab():
    """Zero-value slab, u₀ = 1, D = L = 1: u(½, 0.1) = 0.4744874604.

    The sine sum of u₀ on n cells has (π/2n)²/6 more of the first mode: the error falls as n⁻² from that."""
    errors = []
    for n in (101, 303):
        model = PDE(Grid(x=(0.0, 1.0, n)), diffusivity=1.0, boundary={"x": Dirichlet(0)})
        errors.append(final(model, 1.0, 0.1)[0, n // 2] - 0.4744874604)
    assert errors[0] == pytest.approx(0.4744874604 * (math.pi / 202) ** 2 / 6, rel=0.02)
    assert errors[0] / errors[1] == pytest.approx(9.0, rel=0.01)


@pytest.mark.parametrize("kind", list(SIDES))
def test_every_mode_decays_at_its_own_rate(kind):
    grid = Grid(x=(0.0, 1.5, 16))
    model = PDE(grid, diffusivity="D", boundary={"x": SIDES[kind]}, parameters={"D": 1.0})
    transform = transform_for(grid, model.boundary["u"])
    start = np.random.default_rng(0).standard_normal(16)
    expected = np.exp(-0.3 * 0.02 * transform.laplacian()["x"]) * transform.forward(start)
    np.testing.assert_allclose(transform.forward(final(model, start, 0.02, D=0.3)[0]), expected, rtol=1e-10, atol=1e-14)


def test_tensor():
    """cos(k·x) decays with k·D k, whatever the direction of k."""
    D = np.array([[0.3, 0.1], [0.05, 0.2]])
    grid = Grid(x=(0.0, 1.0, 16), y=(0.0, 2.0, 20))
    model = PDE(grid, diffusivity=D.tolist(), boundary={"x": Periodic(), "y": Periodic()})
    for k in (np.array([2 * np.pi, 3 * np.pi]), np.array([4 * np.pi, -np.pi])):
        wave = np.cos(k[0] * grid.mesh["x"] + k[1] * grid.mesh["y"])
        np.testing.assert_allclose(final(model, wave, 0.05)[0], np.exp(-0.05 * k @ D @ k) * wave, atol=1e-13)


@pytest.mark.parametrize("cells", [16, 17])
def test_transport(cells):
    """A wave decays and moves: e^{−D k²t} cos k·(x − vt); a steady source leaves a plume, D u″ − v u′ + s = 0."""
    grid = Grid(x=(0.0, 1.0, cells), y=(0.0, 2.0, 12))
    loop = {"x": Periodic(), "y": Periodic()}
    model = PDE(grid, diffusivity=0.02, velocity={"x": "v", "y": -0.4}, boundary=loop, parameters={"v": 0.7})
    x, y, k, v = grid.mesh["x"], grid.mesh["y"], 2 * np.pi * np.array([2, 0.5]), np.array([0.7, -0.4])
    wave = lambda t: np.exp(-0.02 * k @ k * t) * np.cos(k[0] * (x - v[0] * t) + k[1] * (y - v[1] * t))
    np.testing.assert_allclose(final(model, wave(0.0), 3.0)[0], wave(3.0), atol=1e-13)
    plume = PDE(grid, diffusivity=0.1, velocity={"x": "v"}, boundary=loop, reaction="cos(2*pi*x)", parameters={"v": 0.7})
    q = 2 * np.pi
    steady = (0.1 * q**2 * np.cos(q * x) + 0.7 * q * np.sin(q * x)) / ((0.1 * q**2) ** 2 + (0.7 * q) ** 2) + 0 * y
    np.testing.assert_allclose(final(plume, 0.0, 40.0)[0], steady, atol=1e-13)
    np.testing.assert_allclose(final(plume, 0.0, 40.0, dt=0.1)[0], steady, atol=1e-12)


@pytest.mark.parametrize("cells", [8, 9])
def test_pure_transport_keeps_the_sum_of_squares(cells):
    """Every mode turns and none shrinks, up to the highest one, whose sign an even number of cells leaves open."""
    grid = Grid(x=(0.0, 1.0, cells), y=(0.0, 1.0, 6))
    model = PDE(grid, diffusivity=0.0, velocity={"x": 0.3, "y": -1.1}, boundary={"x": Periodic(), "y": Periodic()})
    start = np.random.default_rng(5).standard_normal(grid.shape)
    end = final(model, start, 0.37)
    assert np.sum(end**2) == pytest.approx(np.sum(start**2), rel=1e-13)
    assert np.std(end - start) > 0.5


def test_save_times_lie_where_they_like():
    grid = Grid(x=(0.0, 1.0, 16))
    model = PDE(grid, diffusivity=0.1)
    times, wave = np.array([-1.0, -0.9, 0.5, 0.5 + 1e-6, 3.0]), np.cos(np.pi * grid.coordinates["x"])
    for dt in (None, 0.3):
        states = integrate(model, find("exact", ("spectral",)), wave[None, None], {}, times, dt, seed=0,
                           members=np.array([0])).states
        decay = np.exp(-0.1 * np.pi**2 * (times + 1.0))
        np.testing.assert_allclose(states[:, 0, 0], decay[:, None] * wave, rtol=1e-12)


def test_transport_does_not_change_the_law_of_white_noise():
    """Var = Σ σ²(1 − e^{−2Dk²t})/(2Dk²)/(nΔx), whatever carries it; and a wind turns the noise that went in before."""
    members, grid = 3000, Grid(x=(0.0, 1.0, 12))
    runs = [final(PDE(grid, diffusivity=0.05, velocity={"x": v}, boundary={"x": Periodic()}, noise=WhiteNoise(0.5)),
                  0.0, 0.8, dt=0.4, members=members, seed=6) for v in (0.0, 0.9)]
    k2 = (2 * np.pi * np.fft.fftfreq(12, 1 / 12)) ** 2
    law = 0.25 * np.sum(np.where(k2 > 0, -np.expm1(-2 * 0.05 * k2 * 0.8) / (2 * 0.05 * np.maximum(k2, 1e-9)), 0.8))
    for u in runs:
        np.testing.assert_allclose(np.var(u, axis=0), law, rtol=6 * math.sqrt(2 / members))
    assert np.std(runs[0] - runs[1]) > 0.1 * np.std(runs[0])


def test_one_step_is_as_good_as_many():
    grid = Grid(x=(0.0, 1.0, 24), y=(0.0, 1.0, 10))
    model = PDE(grid, diffusivity=0.2, reaction="sin(3*x)*y - 0.7*u", boundary={"y": Dirichlet(0)})
    start = np.random.default_rng(1).random(grid.shape)
    one = final(model, start, 1.0)
    np.testing.assert_allclose(final(model, start, 1.0, dt=0.01), one, rtol=1e-12, atol=1e-14)


def test_linear_reaction():
    """u' = a + b u in a well-mixed box."""
    model = PDE(Grid(x=(0, 1, 8)), diffusivity=1.0, reaction="a + b*u", parameters={"a": 0.5, "b": -2.0})
    for b in (-2.0, 1.5, 1e-9):
        expected = 3.0 * math.exp(b * 0.7) + 0.5 * math.expm1(b * 0.7) / b
        np.testing.assert_allclose(final(model, 3.0, 0.7, b=b), expected, rtol=1e-13)
    flat = PDE(Grid(x=(0, 1, 8)), diffusivity=1.0, reaction="2")
    np.testing.assert_allclose(final(flat, 3.0, 0.7), 4.4, rtol=1e-13)


def test_poisson():
    """A source balances diffusion in the end: D u″ = −sin(πx) ⇒ u = sin(πx)/(Dπ²)."""
    model = PDE(Grid(x=(0.0, 1.0, 32)), diffusivity=0.5, reaction="sin(pi*x)", boundary={"x": Dirichlet(0)})
    expected = np.sin(np.pi * model.grid.coordinates["x"]) / (0.5 * np.pi**2)
    np.testing.assert_allclose(final(model, 7.0, 50.0)[0], expected, rtol=1e-11)


def test_edges_held_at_values():
    """A wall at 1 on a long cold bar: erfc(x/2√(Dt)); in the end the straight line between two temperatures."""
    grid = Grid(x=(0.0, 8.0, 400))
    bar = PDE(grid, diffusivity=1.0, boundary={"x": (Dirichlet("T"), Dirichlet(0))}, parameters={"T": 0.0})
    x = grid.coordinates["x"]
    # what the sine sum misses of the jump at the wall falls as the square of the cell
    np.testing.assert_allclose(final(bar, 0.0, 0.3, T=1.0)[0], erfc(x / (2 * math.sqrt(0.3))), atol=2 * 0.02**2)
    np.testing.assert_allclose(final(bar, 0.0, 1e3, T=2.0)[0], 2.0 * (1 - x / 8.0), atol=1e-12)


def test_unit_flux():
    """Half-space with unit flux: the surface is at 2√(t/π), and the bar holds what has flowed in, to round-off."""
    grid = Grid(x=(0.0, 8.0, 800))
    u = final(PDE(grid, diffusivity=1.0, boundary={"x": (Neumann(1.0), Neumann())}), 0.0, 0.25)[0]
    surface = u[0] + 0.005  # the first centre is half a cell from the wall, where the slope is −1
    assert surface == pytest.approx(2 * math.sqrt(0.25 / math.pi), abs=2e-4)
    assert np.sum(u) * 0.01 == pytest.approx(0.25, rel=1e-12)


def test_etdrk4_between_held_edges():
    """The reaction sees u, not u − ℓ: the steady state of u″ = u³ − 1 + … is u = 1 + x, made by its own source."""
    grid = Grid(x=(0.0, 1.0, 64))
    model = PDE(grid, diffusivity=0.1, reaction="(1 + x)**3 - u**3", boundary={"x": (Dirichlet(1), Neumann(1))})
    np.testing.assert_allclose(final(model, 0.5, 20.0, "etdrk4", dt=0.05)[0], 1 + grid.coordinates["x"], atol=1e-10)


@pytest.mark.parametrize("kind", ["periodic", "neumann"])
@pytest.mark.parametrize("method", ["exact", "exact_fv"])
def test_mass_is_kept(kind, method):
    grid = Grid(x=(0.0, 1.0, 33), y=(0.0, 1.0, 20))
    model = PDE(grid, diffusivity=0.7, boundary={"x": SIDES[kind], "y": SIDES[kind]})
    start = np.random.default_rng(2).random(grid.shape)
    end = final(model, start, 0.5, dt=0.01, method=method)
    assert np.sum(end) == pytest.approx(np.sum(start), rel=50 * np.finfo(float).eps)
    assert np.std(end) < 0.01 * np.std(start)


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("kind", list(SIDES))
def test_the_law_of_every_mode(kind, steps):
    """mode ↦ a x + √v ε with a = e^{−κμt}, v = g²(1 − a²)/(2κμ)/Δx, in any number of steps.

    M·var/v is χ² with M degrees: 6 standard errors √(2/M)."""
    kappa, g, time, members = 0.3, 0.8, 0.4, 3000
    grid = Grid(x=(0.0, 1.0, 12))
    model = PDE(grid, diffusivity="kappa", noise=WhiteNoise("g"), boundary={"x": SIDES[kind]},
                parameters={"kappa": kappa, "g": g})
    start = 1.0 + grid.coordinates["x"] ** 2
    transform = Transform(grid, (kind,))
    modes = transform.forward(final(model, start, time, dt=time / steps, members=members, seed=4))
    mu = transform.laplacian()["x"]
    a = np.exp(-kappa * mu * time)
    growth = np.where(mu > 0, -np.expm1(-2 * kappa * mu * time) / (2 * kappa * np.maximum(mu, 1e-300)), time)
    v = g**2 * growth / grid.cell_volume
    v = v * np.where(transform.weights == 2.0, 0.5, 1.0)  # re and im share the variance of a conjugate pair
    if kind == "periodic":
        v[[1, -1]] = 0.0  # the mean and the highest mode are real
    gap = modes - a * transform.forward(start)
    np.testing.assert_allclose(np.mean(gap**2, axis=0), v, rtol=6 * math.sqrt(2 / members), atol=1e-20)
    np.testing.assert_allclose(np.mean(gap, axis=0), 0.0, atol=6 * math.sqrt(v.max() / members))
    live = v > 0
    correlation = np.corrcoef(gap[:, live].T) - np.eye(np.sum(live))
    assert np.max(np.abs(correlation)) < 6 / math.sqrt(members)


def test_stochastic_heat_equation():
    """Var u(x) = σ²x(L − x)/(2DL) in the end: exact on the finite-volume grid, cell by cell."""
    sigma, D, L, members = 0.7, 0.4, 2.0, 4000
    grid = Grid(x=(0.0, L, 20))
    model = PDE(grid, diffusivity=D, noise=WhiteNoise(sigma), boundary={"x": Dirichlet(0)})
    u = final(model, 0.0, 50.0, method="exact_fv", members=members, seed=9)
    h = L / 20
    x = grid.coordinates["x"]
    transform = transform_for(grid, model.boundary["u"])
    law = variance(transform, sigma**2 / (2 * D * transform.laplacian("finite-volume")["x"]) / h)
    np.testing.assert_allclose(law, sigma**2 * x * (L - x) / (2 * D * L), rtol=1e-12)
    np.testing.assert_allclose(np.var(u, axis=0), law, rtol=6 * math.sqrt(2 / members))


def test_noise_without_diffusion():
    """Var = σ²t/Δx in every cell."""
    model = PDE(Grid(x=(0.0, 1.0, 10)), diffusivity=0.0, noise=WhiteNoise(0.5))
    u = final(model, 0.0, 3.0, dt=0.5, members=2000)
    assert np.mean(u**2) == pytest.approx(0.25 * 3.0 * 10, rel=6 * math.sqrt(2 / u.size))


def test_the_noise_of_a_run_is_the_brownian_sheet():
    """Without diffusion a run sums the sheet's steps; its cell means are those of the sheet seen from the coarse grid."""
    fine, coarse = Grid(x=(0.0, 1.0, 24)), Grid(x=(0.0, 1.0, 12))
    u = final(PDE(fine, diffusivity=0.0, noise=WhiteNoise(0.5)), 0.0, 0.5, dt=0.25, members=3, seed=8)
    sheet = sum(0.5 * math.sqrt(0.25) * white_noise(fine, 8, range(3), step) for step in range(2))
    np.testing.assert_allclose(u, sheet, rtol=1e-12, atol=1e-12)
    seen = sum(0.5 * math.sqrt(0.25) * white_noise(coarse, 8, range(3), step, refine=2) for step in range(2))
    np.testing.assert_allclose(restrict(u, 2, 1), seen, rtol=1e-12, atol=1e-12)


def test_coloured_noise_does_not_depend_on_the_mesh():
    """Pointwise variance σ²t without diffusion; the same spectrum of large scales on both grids."""
    for cells in (16, 48):
        grid = Grid(x=(0.0, 4.0, cells))
        model = PDE(grid, diffusivity=0.0, noise=ColouredNoise(0.5, 0.5), boundary={"x": Periodic()})
        u = final(model, 0.0, 2.0, members=3000, seed=2)
        law = 0.25 * 2.0
        transform = transform_for(grid, model.boundary["u"])
        density = spectral_density(transform, 0.5, None)
        np.testing.assert_allclose(0.5 * variance(transform, density) / grid.cell_volume, law, rtol=1e-3)
        # neighbours are correlated: 4/(√(2π)·0.5) independent patches at least
        assert np.mean(u**2) == pytest.approx(law, rel=6 * math.sqrt(2 / (3 * 3000)))
        first = transform.forward(u)[:, 2] / math.sqrt(cells)
        assert np.var(first) == pytest.approx(0.5 * law * density[2] / 4.0, rel=6 * math.sqrt(2 / 3000))


def test_noise_does_not_repeat_and_belongs_to_its_seed():
    model = PDE(Grid(x=(0.0, 1.0, 32)), diffusivity=0.0, noise=WhiteNoise(1.0))
    fields = np.zeros((1, 2, 32))
    run = lambda seed: integrate(model, find("exact", ("spectral",)), fields, {}, np.arange(9.0), None, seed=seed,
                                 members=np.array([0, 1])).states[:, 0]
    increments = np.diff(run(0), axis=0).reshape(16, 32)
    assert np.max(np.abs(np.corrcoef(increments) - np.eye(16))) < 6 / math.sqrt(32)
    assert np.array_equal(run(0), run(0)) and not np.array_equal(run(0), run(1))


LINE = Grid(x=(0, 1, 8))


@pytest.mark.parametrize("model, message", [
    (PDE(LINE, diffusivity="1 + x"), "constant diffusivity; this one depends on x"),
    (PDE(LINE, diffusivity="u"), "depends on u"),
    (PDE(LINE, diffusivity="t"), "depends on t"),
    (PDE(LINE, diffusivity=1.0, reaction="u**2"), "not affine"),
    (PDE(LINE, diffusivity=1.0, reaction="x*u"), "constant b; got b = x"),
    (PDE(LINE, diffusivity=1.0, reaction="sin(t)"), "free of t"),
    (PDE(LINE, diffusivity=1.0, velocity={"x": 1.0}), "periodic axes only; x is not"),
    (PDE(LINE, diffusivity=1.0, velocity={"x": "u"}, boundary={"x": Periodic()}), "constant velocity.* depends on u"),
    (PDE(LINE, diffusivity=1.0, reaction="ddx(u)", boundary={"x": Periodic()}), "not affine"),
    (PDE(LINE, diffusivity=1.0, boundary={"x": Robin(1, 1)}), "choose a finite-volume method"),
    (PDE(LINE, diffusivity=1.0, boundary={"x": Dirichlet("t")}), "edges that do not vary.*depends on t"),
    (PDE(Grid(x=(0, 1, 8), y=(0, 1, 8)), diffusivity=1.0, boundary={"x": Dirichlet("y")}), "depends on y"),
    (PDE(Grid(x=(0, 1, 8), y=(0, 1, 8)), diffusivity=1.0, boundary={"x": Neumann(1), "y": Dirichlet(0)}), "along y too"),
    (PDE(LINE, diffusivity=1.0, noise=WhiteNoise("u")), "constant amplitude"),
    (PDE(LINE, ("u", "v"), diffusivity=1.0, reaction={"u": "v"}), "depends on v: choose etdrk4"),
    (PDE(LINE, ("u", "v"), diffusivity={"u": {"v": 1.0}}), "cross-diffusion"),
    (PDE(Grid(x=(0, 1, 8), y=(0, 1, 8)), diffusivity=[[1, 0.5], [0.5, 1]]), "needs both axes periodic"),
])
def test_what_the_exact_propagator_refuses(model, message):
    with pytest.raises(ValueError, match=message):
        final(model, 1.0, 0.1)


@pytest.mark.parametrize("change, error, message", [
    ({"initial": np.zeros((1, 2, 7))}, ValueError, "shape"),
    ({"times": np.array([0.0, 0.0])}, ValueError, "rising"),
    ({"times": np.array([0.0, np.nan])}, ValueError, "rising"),
    ({"dt": -0.1}, ValueError, "positive"),
    ({"parameters": {"q": 1.0}}, KeyError, "unknown parameter 'q'"),
    ({"parameters": {"k": np.ones(3)}}, ValueError, "one number for each of the 2 members"),
    ({"parameters": {"k": np.array([1.0, -2.0])}}, ValueError, "must not be negative; member 1 has -2"),
    ({"backend": "jax"}, ValueError, "backend"),
    ({"method": find("euler_maruyama", ("sde",))}, ValueError, "kind 'sde'"),
    ({"method": find("etdrk4", ("spectral",))}, ValueError, "give dt"),
])
def test_bad_input(change, error, message):
    model = PDE(LINE, diffusivity="k", parameters={"k": 1.0})
    call = {"method": find("exact", ("spectral",)), "initial": np.zeros((1, 2, 8)), "parameters": {},
            "times": np.array([0.0, 1.0]), "dt": None, "backend": "kernel", **change}
    with pytest.raises(error, match=message):
        integrate(model, call["method"], call["initial"], call["parameters"], call["times"], call["dt"], seed=0,
                  members=np.arange(2), backend=call["backend"])
