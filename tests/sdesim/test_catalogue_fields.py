"""Every field equation of the catalogue against a law that is known for it."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.special import erfc, xlogy

import sdesim as sim
from sdesim import equations
from sdesim.equations.patterns import PEARSON, THE_WELL

TAU = 2 * np.pi


def line(lo, hi, cells):
    return sim.Grid(x=(lo, hi, cells))


def last(ds, name=None):
    return ds[name or next(iter(ds.data_vars))].values[0, -1]


def place(x, u, level):
    """Where a falling profile crosses a level."""
    i = int(np.flatnonzero((u[:-1] >= level) & (u[1:] < level))[-1])
    return x[i] + (x[1] - x[0]) * (u[i] - level) / (u[i] - u[i + 1])


def speed(ds, name, level):
    x, u, t = ds.x.values, ds[name].values[0], ds.time.values
    return (place(x, u[-1], level) - place(x, u[-2], level)) / (t[-1] - t[-2])


# ---- diffusion

def test_two_layers_meet_at_the_weighted_temperature():
    """Half-spaces at 1 and 0 in contact: the interface stays at √D1/(√D1 + √D2); erf profiles on both sides."""
    D1, D2, t = 1.0, 0.04, 0.004
    grid = line(0.0, 1.0, 256)
    ds = sim.simulate(equations.layered_heat(grid, (D1, D2)), "where(x < 0.5, 1, 0)", [t], method="rkl2", dt=2e-5)
    s, meet = grid.coordinates["x"] - 0.5, 1 / (1 + np.sqrt(D2 / D1))
    left = 1 - (1 - meet) * erfc(-s / np.sqrt(4 * D1 * t))
    right = meet * erfc(s / np.sqrt(4 * D2 * t))
    np.testing.assert_allclose(last(ds), np.where(s < 0, left, right), atol=4e-3)  # √(4D2 t) is six cells
    with pytest.raises(ValueError, match="2 layers have 1 rising interfaces"):
        equations.layered_heat(grid, (1.0, 2.0), (0.3, 0.6))


@pytest.mark.parametrize("m", [2.0, 3.0])
def test_barenblatt(m):
    """A profile of compact support spreads as t^β; mass is kept to round-off."""
    beta = 1 / (m + 1)

    def law(x, t):
        return t**-beta * np.maximum(1 - beta * (m - 1) / (2 * m) * x**2 * t ** (-2 * beta), 0) ** (1 / (m - 1))

    grid = line(-8.0, 8.0, 400)
    x = grid.coordinates["x"]
    ds = sim.simulate(equations.porous_medium(grid, m), law(x, 1.0), [7.0])
    assert np.abs(last(ds) - law(x, 8.0)).mean() * 16 < 0.02  # L¹, of a mass of about 3
    assert last(ds).sum() == pytest.approx(law(x, 1.0).sum(), rel=1e-12)
    edge = np.sqrt(2 * m / (beta * (m - 1))) * 8**beta
    assert np.abs(x[last(ds) > 1e-6]).max() == pytest.approx(edge, abs=3 * 0.04)


def test_a_puff_drifts_spreads_and_decays():
    D, v, k, t = 0.05, np.array([0.8, -0.5]), 0.3, 1.0
    grid = sim.Grid(x=(-4.0, 4.0, 64), y=(-4.0, 4.0, 64))
    model = equations.plume(grid, {"x": v[0], "y": v[1]}, D, decay=k, boundary={a: sim.Periodic() for a in "xy"})
    y, x = grid.coordinates["y"][:, None], grid.coordinates["x"]

    def puff(t):
        return np.exp(-k * t - ((x - v[0] * t) ** 2 + (y - v[1] * t) ** 2) / (4 * D * t)) / (4 * np.pi * D * t)

    ds = sim.simulate(model, puff(0.8), [t])
    assert ds.method == "exact"
    np.testing.assert_allclose(last(ds), puff(0.8 + t), atol=1e-7)  # the tails beyond the edges


@pytest.mark.parametrize("R", [1.0, 2.0])
def test_ogata_banks(R):
    D, v, t = 0.1, 1.0, 1.5
    grid = line(0.0, 6.0, 240)
    ds = sim.simulate(equations.ogata_banks(grid, v, D, R), 0.0, [t], dt=0.002)
    x = grid.coordinates["x"]
    root = 2 * np.sqrt(D * R * t)
    law = 0.5 * (erfc((R * x - v * t) / root) + np.exp(v * x / D) * erfc((R * x + v * t) / root))
    np.testing.assert_allclose(last(ds), law, atol=1.5e-3)


# ---- fronts

def test_fisher_front():
    grid = line(-30.0, 50.0, 400)
    law = lambda x, t: (1 + np.exp((x - 5 * t / np.sqrt(6)) / np.sqrt(6))) ** -2
    x = grid.coordinates["x"]
    ds = sim.simulate(equations.fisher_kpp(grid), law(x, 0.0), [4.0], dt=0.02)
    np.testing.assert_allclose(last(ds), law(x, 4.0), atol=1e-4)


@pytest.mark.parametrize("a", [0.1, 0.4])
def test_nagumo_front(a):
    grid, D, rate = line(-20.0, 40.0, 256), 0.8, 2.0
    x, c = grid.coordinates["x"], np.sqrt(rate * D / 2) * (1 - 2 * a)
    law = lambda t: 1 / (1 + np.exp((x - c * t) * np.sqrt(rate / (2 * D))))
    ds = sim.simulate(equations.nagumo(grid, D, rate, a), law(0.0), [10.0], dt=0.02)
    np.testing.assert_allclose(last(ds), law(10.0), atol=2e-6)


def test_fitzhugh_nagumo_front_while_recovery_stands_still():
    D, v = 1.5, -0.3
    model = equations.fitzhugh_nagumo(line(-25.0, 60.0, 256), epsilon=0.0, diffusivity=D)
    low, middle, high = np.sort(np.roots([-1 / 3, 0, 1, -v]).real)
    x = model.grid.coordinates["x"]
    c, width = np.sqrt(D / 6) * (low + high - 2 * middle), (high - low) / np.sqrt(6 * D) / 1.0
    law = lambda t: low + (high - low) / (1 + np.exp((x - c * t) * width))
    ds = sim.simulate(model, {"u": law(0.0), "v": v}, [12.0], dt=0.02)
    np.testing.assert_allclose(last(ds, "u"), law(12.0), atol=1e-5)


def test_flame_speed_is_that_of_the_phase_plane():
    """θ(x + ct): p(θ) = θ' solves p' = c − ω(θ)/p from the fresh to the burnt state; c is the least that arrives."""
    beta, alpha = 5.0, 0.8
    omega = lambda s: beta**2 / 2 * (1 - s) * np.exp(-beta * (1 - s) / (1 - alpha * (1 - s)))

    def miss(c):  # backwards from the burnt state along its stable direction, down to where no reaction is left
        slope = (-c + np.sqrt(c * c + 2 * beta**2)) / 2
        lost = lambda s, p: p[0] - 1e-7
        lost.terminal = True
        run = solve_ivp(lambda s, p: c - omega(s) / p, (1 - 1e-4, 0.02), [1e-4 * slope], rtol=1e-6, atol=1e-8,
                        events=lost)
        return run.y[0, -1] - 0.02 * c if run.status == 0 else -1.0  # in the preheat zone p = cθ

    c = brentq(miss, 0.5, 1.5, xtol=1e-4)
    grid = line(0.0, 48.0, 384)
    ds = sim.simulate(equations.combustion(grid, beta, alpha), "1/(1 + exp(2*(x - 12)))", [12.0, 20.0], dt=0.04)
    assert speed(ds, "theta", 0.5) == pytest.approx(c, rel=0.01)


def test_epidemic_keeps_everybody_and_ends_at_the_final_size():
    beta, gamma = 1.0, 0.4
    model = equations.sir(line(0.0, TAU, 16), beta, gamma, 0.3)
    ds = sim.simulate(model, {"S": "1 - 1e-4*(1 + cos(x))", "I": "1e-4*(1 + cos(x))", "R": 0.0}, [10.0, 120.0], dt=0.1)
    total = sum(ds[name].values for name in "SIR")
    np.testing.assert_allclose(total, 1.0, atol=1e-12)
    # with one diffusivity, while infection is rare each mode keeps its own rate; mixed early, all end alike
    s = brentq(lambda s: np.log(s) + beta / gamma * (1 - s), 1e-6, 0.9)
    np.testing.assert_allclose(last(ds, "S"), s, atol=2e-3)


def test_lotka_volterra_keeps_its_invariant_and_mixes():
    model = equations.lotka_volterra(line(0.0, TAU, 16), growth=1.2, predation=0.8, conversion=0.6, death=0.9)
    ds = sim.simulate(model, {"u": 1.0, "v": 0.7}, np.linspace(0.0, 20.0, 9), dt=0.02)
    u, v = ds.u.values[0, :, 0], ds.v.values[0, :, 0]
    V = 0.6 * u - xlogy(0.9, u) + 0.8 * v - xlogy(1.2, v)
    assert np.ptp(u) > 0.5
    np.testing.assert_allclose(V, V[0], rtol=1e-6)


def test_cells_that_climb_gradients_are_neither_born_nor_lost():
    grid = line(0.0, 10.0, 64)
    for capacity in (None, 4.0):
        model = equations.keller_segel(grid, chemotaxis=3.0, capacity=capacity)
        ds = sim.simulate(model, {"rho": "1 + 0.1*cos(pi*x/5)", "c": 1.0}, [0.0, 1.0, 15.0])
        mass = ds.rho.values[0].sum(axis=-1)
        np.testing.assert_allclose(mass, mass[0], rtol=1e-12)
        assert np.ptp(last(ds, "rho")) > 0.5  # χαρ₀ > βD: it clumps


# ---- linear growth: every pattern's rate is the largest eigenvalue of J − k²D

def schnakenberg(a=0.1, b=0.9, d=40.0):
    u, v = a + b, b / (a + b) ** 2
    return equations.schnakenberg, {}, (u, v), [[-1 + 2 * u * v, u * u], [-2 * u * v, -u * u]], (1.0, d), 0.4


def brusselator(A=4.5, B=7.5):
    return equations.brusselator, {}, (A, B / A), [[B - 1, A * A], [-B, -A * A]], (2.0, 16.0), 0.8


def gierer_meinhardt(mu=1.0, nu=1.5):
    return equations.gierer_meinhardt, {}, (nu / mu, nu / mu**2), [[mu, -(mu**2)], [2 * nu / mu, -nu]], (1.0, 40.0), 0.4


def gray_scott(F=0.03, k=0.055):
    u = (1 + np.sqrt(1 - 4 * (F + k) ** 2 / F)) / 2
    v = F * (1 - u) / (F + k)
    u, v = (1 - np.sqrt(1 - 4 * (F + k) ** 2 / F)) / 2, F / (F + k) * (1 + np.sqrt(1 - 4 * (F + k) ** 2 / F)) / 2
    return equations.gray_scott, {"F": F, "k": k}, (u, v), [[-F - v * v, -2 * u * v], [v * v, F + k]], (2e-5, 1e-5), 40.0


def fitzhugh(a=0.7, b=0.8, eps=0.08):
    u = np.roots([1 / 3, 0, 1 / b - 1, a / b])
    u = float(u[np.abs(u.imag) < 1e-9].real[0])
    return equations.fitzhugh_nagumo, {}, (u, (u + a) / b), [[1 - u * u, -1], [eps, -eps * b]], (1.0, 0.0), 0.5


def lotka():
    return equations.lotka_volterra, {}, (1.0, 1.0), [[0.0, -1.0], [1.0, 0.0]], (1.0, 1.0), 0.3


@pytest.mark.parametrize("case", [schnakenberg, brusselator, gierer_meinhardt, gray_scott, fitzhugh, lotka])
def test_small_waves_follow_the_linear_law(case):
    """exp((J − k²D)t) acting on a wave of relative amplitude 1e-7; J by hand from the paper's kinetics."""
    from scipy.linalg import expm

    build, options, rest, J, D, k = case()
    grid = line(0.0, TAU / k, 16)
    model = build(grid, boundary={"x": sim.Periodic()}, **options)
    x = grid.coordinates["x"]
    J = np.asarray(J, float)
    time = 1.0 / np.abs(J).max()
    small = 1e-7 * np.array([1.0, -0.5])
    start = {name: r + s * np.cos(k * x) for name, r, s in zip(model.state, rest, small)}
    ds = sim.simulate(model, start, [time], method="etdrk4", dt=time / 32)
    got = [2 * np.mean((ds[name].values[0, -1] - r) * np.cos(k * x)) for name, r in zip(model.state, rest)]
    np.testing.assert_allclose(got, expm((J - k**2 * np.diag(D)) * time) @ small, atol=2e-5 * 1e-7)


def test_keller_segel_clumps_above_its_threshold():
    """λ² + (D k² + D_c k² + β)λ + Dk²(D_c k² + β) − χαρ₀k² = 0, by finite volumes with their own k²."""
    chi, k = 3.0, 0.5
    grid = line(0.0, TAU / k, 64)
    model = equations.keller_segel(grid, chi, boundary={"x": sim.Periodic()})
    x, k2 = grid.coordinates["x"], (2 / grid.spacing["x"] * np.sin(k * grid.spacing["x"] / 2)) ** 2
    rate = np.roots([1, 2 * k2 + 1, k2 * (k2 + 1) - chi * k2]).max()
    c = 1 / (rate + k2 + 1)
    ds = sim.simulate(model, {"rho": 1 + 1e-6 * np.cos(k * x), "c": 1 + c * 1e-6 * np.cos(k * x)}, [2.0], dt=0.01)
    size = 2 * np.mean((last(ds, "rho") - 1) * np.cos(k * x)) / 1e-6
    assert np.log(size) / 2.0 == pytest.approx(rate, rel=2e-4)


@pytest.mark.parametrize("B, grows", [(6.9, True), (6.3, False)])
def test_brusselator_turing_threshold(B, grows):
    """B > (1 + A√(Du/Dv))² = 6.71 at k² = A/√(DuDv), Hopf at B = 1 + A² far away."""
    k = np.sqrt(4.5 / np.sqrt(32.0))
    grid = line(0.0, TAU / k, 16)
    wave = 1e-5 * np.cos(k * grid.coordinates["x"])
    ds = sim.simulate(equations.brusselator(grid, B=B), {"u": 4.5 + wave, "v": B / 4.5 - wave}, [5.0, 15.0], dt=0.02)
    early, late = (np.ptp(ds.u.values[0, i]) for i in (0, 1))
    assert bool(late > early) is grows


def test_gray_scott_knows_the_named_regimes():
    grid = sim.Grid(x=(0, 2, 8), y=(0, 2, 8))
    for name, (F, k) in (PEARSON | THE_WELL).items():
        model = equations.gray_scott(grid, pattern=name)
        assert (model.parameters["F"], model.parameters["k"]) == (F, k)
    assert len(PEARSON) == 12 and len(THE_WELL) == 6
    with pytest.raises(ValueError, match="alpha.*gliders.*got 'stripes'"):
        equations.gray_scott(grid, pattern="stripes")


# ---- phases

def test_allen_cahn_circle_shrinks_by_its_curvature():
    """The area of a disc falls by 2πε²t; the law holds for ε ≪ R and the correction is O(ε²)."""
    eps = 0.02
    grid = sim.Grid(x=(0.0, 0.5, 64), y=(0.0, 0.5, 64))  # a quarter, its edges without flux
    model = equations.allen_cahn(grid, eps)
    ds = sim.simulate(model, f"tanh((0.35 - sqrt(x**2 + y**2))/(sqrt(2)*{eps}))", [20.0, 60.0], dt=0.25)
    area = (ds.u.values[0] + 1).sum(axis=(1, 2)) / 2 * grid.cell_volume
    assert (area[0] - area[1]) * 4 / np.pi == pytest.approx(2 * eps**2 * 40.0, rel=0.02)


def test_cahn_hilliard_conserves_and_descends():
    grid = sim.Grid(x=(0.0, 16.0, 32), y=(0.0, 16.0, 32))
    model = equations.cahn_hilliard(grid, gamma=0.5)
    start = 0.1 + 0.2 * sim.GaussianField(std=1.0, length=1.0).sample(grid, seed=3, members=range(1))[0]
    ds = sim.simulate(model, start, [0.0, 1.0, 4.0, 12.0], dt=0.02)
    u = ds.u.values[0]
    np.testing.assert_allclose(u.mean(axis=(1, 2)), u[0].mean(), atol=1e-14)
    modes = np.abs(np.fft.fft2(u)) ** 2 / 32**4
    k = np.fft.fftfreq(32, 0.5) * TAU
    energy = ((1 - u**2) ** 2).mean(axis=(1, 2)) / 4 + 0.25 * (modes * (k[:, None] ** 2 + k**2)).sum(axis=(1, 2))
    assert (np.diff(energy) < 0).all() and u[-1].max() > 0.8


def test_cahn_hilliard_interface():
    """tanh(x/√(2γ)) stands still."""
    grid = line(-10.0, 10.0, 128)
    x, g = grid.coordinates["x"], 0.5
    law = np.tanh((x + 5) / np.sqrt(2 * g)) - np.tanh((x - 5) / np.sqrt(2 * g)) - 1
    ds = sim.simulate(equations.cahn_hilliard(grid, g), law, [5.0], dt=0.01)
    np.testing.assert_allclose(last(ds), law, atol=2e-4)  # the periodic image is missing from the law: 1 − tanh 5


@pytest.mark.parametrize("name, rate", [("swift_hohenberg", lambda k: 0.3 - (1 - k * k) ** 2),
                                        ("kuramoto_sivashinsky", lambda k: k**2 - k**4)])
def test_waves_grow_at_their_rate(name, rate):
    k = 0.9
    grid = line(0.0, TAU / k, 16)
    x = grid.coordinates["x"]
    for m in (1, 2):
        ds = sim.simulate(getattr(equations, name)(grid), 1e-7 * np.cos(m * k * x), [1.0], dt=0.02)
        assert np.log(2e7 * np.mean(last(ds) * np.cos(m * k * x))) == pytest.approx(rate(m * k), abs=1e-5)


def test_kuramoto_sivashinsky_saturates():
    """Waves grow until the flow of energy to short waves holds them: chaos of order 1, and ∫u kept."""
    grid = line(0.0, 40.0, 64)
    ds = sim.simulate(equations.kuramoto_sivashinsky(grid), "cos(pi*x/20) + 0.3*sin(pi*x/5 + 1)",
                      np.arange(50.0, 151.0, 5.0), dt=0.1)
    u = ds.u.values[0]
    assert 0.5 < u.std() < 2.0 and np.abs(u[-1] - u[-2]).max() > 0.05
    np.testing.assert_allclose(u.mean(axis=1), 0.0, atol=1e-12)


def test_height_form_is_the_slope_form_integrated():
    """On two axes a height that varies along x alone obeys the integrated equation: its slope is the 1-D solution."""
    plane = sim.Grid(x=(0.0, TAU, 24), y=(0.0, TAU, 8))
    height = last(sim.simulate(equations.kuramoto_sivashinsky(plane), "0.3*cos(x)", [2.0], dt=0.02))
    slope = np.fft.irfft(1j * np.arange(13) * np.fft.rfft(height[0]), 24)
    line_grid = line(0.0, TAU, 72)
    fine = last(sim.simulate(equations.kuramoto_sivashinsky(line_grid), "-0.3*sin(x)", [2.0], dt=0.02))
    np.testing.assert_allclose(slope, fine[1::3], atol=1e-6)


# ---- growth

def test_burgers_by_cole_hopf():
    nu, t = 0.2, 1.5
    grid = line(0.0, TAU, 64)
    x = grid.coordinates["x"]
    phi = lambda t: (1 + 0.7 * np.exp(-nu * t) * np.cos(x), -0.7 * np.exp(-nu * t) * np.sin(x))
    law = lambda t: -2 * nu * phi(t)[1] / phi(t)[0]
    ds = sim.simulate(equations.burgers(grid, nu), law(0.0), [t], dt=0.01)
    np.testing.assert_allclose(last(ds), law(t), atol=1e-8)


def test_kpz_without_noise_by_cole_hopf():
    nu, lam, t = 0.3, 1.4, 1.0
    grid = sim.Grid(x=(0.0, TAU, 32), y=(0.0, TAU, 32))
    y, x = grid.coordinates["y"][:, None], grid.coordinates["x"]
    law = lambda t: 2 * nu / lam * np.log(1 + 0.3 * np.exp(-nu * t) * np.cos(x) + 0.2 * np.exp(-4 * nu * t) * np.cos(2 * y))
    model = equations.kpz(grid, nu, lam, amplitude=0.0)
    np.testing.assert_allclose(last(sim.simulate(model, law(0.0), [t], dt=0.02)), law(t), atol=1e-7)


def test_edwards_wilkinson_and_kpz_roughen_alike():
    """Mode variances σ²(1 − e^{−2νk²t})/(2νk²) for Edwards–Wilkinson; the slopes of KPZ in 1-D keep them (to order λ²
    from a flat start, exactly in the end), and its mean grows by ½λ⟨h_x²⟩, which the method takes at the start of steps."""
    nu, sigma, t, cells, steps = 0.5, 0.4, 3.0, 16, 60
    grid, members, k = line(0.0, TAU, cells), 2000, np.arange(1, cells // 2)
    law = lambda s: sigma**2 / grid.spacing["x"] * -np.expm1(-2 * nu * k**2 * s) / (2 * nu * k**2)
    for slope in (0.0, 1.0, -1.0):
        model = equations.kpz(grid, nu, slope, sigma) if slope else equations.edwards_wilkinson(grid, nu, sigma)
        h = sim.simulate(model, 0.0, [t], members=members, seed=4, dt=t / steps if slope else None).h.values[:, -1]
        power = (np.abs(np.fft.rfft(h, norm="ortho")) ** 2)[:, 1:-1]
        np.testing.assert_allclose(power.mean(axis=0) / law(t), 1.0, atol=4.5 / np.sqrt(members))  # it is exponential
        grown = slope / cells * t * np.mean([np.sum(k**2 * law(t * j / steps)) for j in range(steps)])
        assert abs(h.mean() - grown) < 4 * h.mean(axis=1).std() / np.sqrt(members)
        assert abs(grown) == pytest.approx(0.49 * abs(slope), abs=0.01), "of which the error is an 80th"


def test_phi4_without_coupling_has_its_own_density():
    """D = 0: every cell is its own double well, density ∝ exp(−(2/s²)(¼gφ⁴ − ½rφ²)) with s² = σ²/Δx."""
    grid = line(0.0, 1.0, 64)
    model = equations.phi4(grid, r=1.0, g=1.0, diffusivity=0.0, amplitude=0.1)
    s2 = 0.01 * 64
    ds = sim.simulate(model, 0.5, [12.0], members=96, dt=0.02, seed=2)
    weight = lambda q, n: q**n * np.exp(-2 / s2 * (q**4 / 4 - q**2 / 2))
    second = quad(weight, -5, 5, (2,))[0] / quad(weight, -5, 5, (0,))[0]
    fourth = quad(weight, -5, 5, (4,))[0] / quad(weight, -5, 5, (0,))[0]
    error = np.sqrt((fourth - second**2) / (96 * 64))
    assert np.mean(ds.phi.values[:, -1] ** 2) == pytest.approx(second, abs=4 * error + 0.02 * second)  # weak bias of dt


def test_stochastic_heat_is_stationary_at_its_law():
    """σ²x(L − x)/(2DL) between cold walls, exact on the finite-volume grid too."""
    grid, members = line(0.0, 1.0, 16), 3000
    model = equations.stochastic_heat(grid, 0.5, 0.8, boundary={"x": sim.Dirichlet(0.0)})
    ds = sim.simulate(model, 0.0, [2.0], members=members, method="exact_fv", seed=1)
    x = grid.coordinates["x"]
    np.testing.assert_allclose(ds.u.values[:, -1].var(axis=0) / (0.64 * x * (1 - x)), 1.0, atol=4.5 * np.sqrt(2 / members))
