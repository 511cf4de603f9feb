"""Noise of finite volumes that is coloured in space, coloured in time, or conserved: its laws and its bits."""

import numpy as np
import pytest

import sdesim as sim
from sdesim.kernels.field_memory import gains
from sdesim.kernels.field_noise import Drive
from sdesim.kernels.field_reference import Sheet
from sdesim.stencil_integrate import stencil_run
from sdesim.stencils import discretise

LINE = sim.Grid(x=(0.0, 1.0, 32))
AROUND = {"x": sim.Periodic()}
N = 4000


def drive(noise, grid=LINE, members=range(N), sheet=None, **more):
    return Drive(discretise(sim.PDE(grid, diffusivity=1.0, noise=noise, **more)), 5, list(members), sheet)


@pytest.mark.parametrize(("smoothness", "correlation"), [(None, lambda r: np.exp(-0.5 * r * r)),
                                                         (0.5, lambda r: np.exp(-r))])
def test_coloured_increments_have_their_covariance(smoothness, correlation):
    dW = drive(sim.ColouredNoise(1.0, 0.1, smoothness), boundary=AROUND)(0, 0.25)[0] / 0.5
    smear = 0.03 if smoothness else 0.0  # a Matérn spectrum's tail beyond the grid's shortest wave: ~2/(π k ℓ), k = 32π
    assert np.abs(dW.var(axis=0) - 1.0).max() < 5 * np.sqrt(2 / N) + smear * 4
    for lag in (2, 4):
        found = (dW * np.roll(dW, lag, axis=1)).mean(axis=1)
        assert abs(found.mean() - correlation(lag / 32 / 0.1)) < 5 * found.std() / np.sqrt(N) + smear


def test_stationary_variance_of_every_mode_by_crank_nicolson():
    # du = D u″ dt + σ dW: a mode's variance is σ² S/2λ, with the grid's λ, for Crank–Nicolson at any step
    noise, D = sim.ColouredNoise(0.3, 0.2), 0.1
    model = sim.PDE(LINE, diffusivity=D, noise=noise, boundary=AROUND, reaction="-u")
    ds = sim.simulate(model, 0.0, np.arange(20, 40, 2.0), members=400, dt=0.25, method="crank_nicolson", seed=1)
    modes = np.abs(np.fft.rfft(ds.u.values, norm="ortho")) ** 2
    k = 2 * np.pi * np.arange(17)
    rate = 1.0 + D * (2 * 32 * np.sin(k / 64)) ** 2
    exact = 0.09 * 32 * 0.2 * np.sqrt(2 * np.pi) * np.exp(-0.5 * (0.2 * k) ** 2) / (2 * rate)
    # complex modes: standard error 1/√n; saves are 2/rate apart and independent but for e⁻⁴
    assert np.abs(modes.mean(axis=(0, 1))[1:4] / exact[1:4] - 1.0).max() < 5 / np.sqrt(4000) * 1.05
    assert abs(modes.mean(axis=(0, 1))[0] / exact[0] - 1.0) < 5 * np.sqrt(2 / 4000) * 1.05


@pytest.mark.parametrize("noise", [sim.WhiteNoise(1.0), sim.ColouredNoise(1.0, 0.2)])
def test_coarse_cells_and_long_steps_see_the_same_sheet(noise):
    fine = drive(noise, members=[3, 8])(4, 0.1)[0]
    coarse = drive(noise, sim.Grid(x=(0.0, 1.0, 16)), [3, 8], Sheet(cells=2))(4, 0.1)[0]
    assert np.abs(coarse - fine.reshape(2, 16, 2).mean(axis=2)).max() < 1e-14
    halves = drive(noise, members=[3, 8], sheet=Sheet(halves=True))
    assert np.abs(halves(8, 0.05)[0] + halves(9, 0.05)[0] - fine).max() < 1e-14


LAWS = [sim.ColouredNoise("0.5*u", 0.2), sim.ConservedNoise("sqrt(max(u, 0))*0.05"),
        sim.WhiteNoise("0.1*u*x", correlation_time=0.3), sim.ColouredNoise("0.5*u", 0.2, 1.5, 0.1)]


@pytest.mark.parametrize("method", ["euler_maruyama", "backward_euler"])
@pytest.mark.parametrize("noise", LAWS, ids=lambda n: type(n).__name__)
def test_members_are_the_same_in_any_company_and_from_the_file(noise, method):
    model = sim.PDE(LINE, diffusivity="0.01*(1 + x)", noise=noise)
    ds = sim.simulate(model, 1.0, [0.05, 0.1], members=3, dt=0.01, method=method, seed=3)
    assert float(ds.u.std()) > 1e-3
    assert sim.rerun(ds, members=[2]).u.equals(ds.u[2:])
    assert sim.PDE.from_dict(model.to_dict()) == model


def test_a_multiplicative_step_is_the_formula():
    model = sim.PDE(LINE, diffusivity=0.01, noise=LAWS[0])
    u = np.random.default_rng(0).random((1, 2, 32))
    out, _, _ = stencil_run(model, "euler_maruyama", u, None, [0.0, 0.01], 0.01, seed=5, members=[1, 6])
    still = stencil_run(model, "euler_maruyama", u, {}, [0.0, 0.01], 0.01, seed=5, members=[1, 6], backend="numpy")[0]
    assert np.array_equal(out, still)
    laplacian = np.diff(np.pad(u[0], [(0, 0), (1, 1)], mode="edge"), 2, axis=1) * 32**2
    dW = drive(LAWS[0], members=[1, 6])(0, 0.01)[0]
    assert np.abs(out[1, 0] - (u[0] + 1e-4 * laplacian + 0.5 * u[0] * dW)).max() < 1e-14


@pytest.mark.parametrize("method", ["euler_maruyama", "crank_nicolson"])
def test_conserved_noise_keeps_the_mass(method):
    grid = sim.Grid(x=(0.0, 1.0, 12), y=(0.0, 1.0, 10))
    amplitude = "sqrt(2*max(u, 0))*0.01" if method == "euler_maruyama" else "0.01*(1 + x)"
    model = sim.PDE(grid, diffusivity=0.1, noise=sim.ConservedNoise(amplitude), boundary={"y": sim.Periodic()})
    ds = sim.simulate(model, "1 + x", [0.1, 0.2], members=2, dt=0.005, method=method, seed=2)
    assert ds.mass_residual_u.max() < 1e-14
    assert float(np.abs(ds.u[0] - ds.u[1]).max()) > 1e-3


def test_the_structure_factor_of_fluctuating_diffusion_is_flat():
    # du = D u″ + ∇·(√(2Dρ) ξ): the variance of every mode but the mean is ρ/V, by Crank–Nicolson at any step
    model = sim.PDE(LINE, diffusivity=0.2, noise=sim.ConservedNoise("sqrt(2*0.2*rho)"), parameters={"rho": 3.0})
    for edges in (AROUND, None):
        own = sim.PDE.from_dict(model.to_dict()) if edges is None else sim.PDE(
            LINE, diffusivity=0.2, noise=model.noise["u"], parameters={"rho": 3.0}, boundary=edges)
        ds = sim.simulate(own, 3.0, [2.0], members=1500, dt=0.05, method="crank_nicolson", seed=1)
        u = ds.u.values[:, 0]
        if edges is None:
            from scipy.fft import dct

            modes, error = dct(u, norm="ortho")[:, 1:] ** 2, np.sqrt(2 / 1500)
        else:
            modes, error = np.abs(np.fft.rfft(u, norm="ortho"))[:, 1:-1] ** 2, np.sqrt(1 / 1500)
        ratio = modes.mean(axis=0) / (3.0 * 32)
        assert np.abs(ratio - 1.0).max() < 4.5 * error
        assert abs(ratio.mean() - 1.0) < 4.5 * error / np.sqrt(len(ratio))


def test_noise_coloured_in_time_has_the_variance_and_covariance_of_its_process():
    tau, h, root = 0.4, 0.3, np.sqrt(1 / 32)
    source = drive(sim.WhiteNoise(1.0, correlation_time=tau), members=range(500))
    steps = np.stack([source(k, h)[0] for k in range(4)]) * root
    b, n = -np.expm1(-h / tau), 500 * 32
    variance = h - tau * b  # of ∫η over h: ∬ e^{−|s−s′|/τ}/2τ
    assert abs(steps.var() / variance - 1.0) < 5 * np.sqrt(2 / n)
    for lag in (1, 2, 3):
        exact = 0.5 * tau * b * b * np.exp(-(lag - 1) * h / tau)
        assert abs((steps[0] * steps[lag]).mean() - exact) < 5 * variance / np.sqrt(n)


def test_crank_nicolson_keeps_the_variance_between_reservoirs_in_a_shell():
    # fluctuation and dissipation balance, which the trapezoidal rule keeps at any step: V var/ρ = 1, nothing correlated
    grid = sim.RadialGrid(r=(0.3, 1.0, 12))
    model = sim.PDE(grid, diffusivity=0.3, noise=sim.ConservedNoise("sqrt(2*0.3*rho)"), parameters={"rho": 3.0},
                    boundary={"r": (sim.Dirichlet(3.0), sim.Dirichlet(3.0))})
    ds = sim.simulate(model, 3.0, np.arange(1.0, 6.0), members=1000, dt=0.02, method="crank_nicolson", seed=3)
    u = (ds.u.values.reshape(-1, 12) - 3.0) * np.sqrt(grid.volumes / 3.0)
    error = 5.0 / np.sqrt(len(u))  # saves are e^{−6} alike
    assert np.abs(u.T @ u / len(u) - np.eye(12)).max() < error * np.sqrt(2.0)


def test_the_integrals_of_noise_with_a_memory_have_their_law_for_any_steps():
    # the increments are linear in the normals: their covariance is exact, whatever the sizes of the steps
    tau, sizes = 0.4, [0.3] * 4 + [1e-3] * 40 + [2.0, 0.01, 0.3]
    P, m, rows = 0.5 / tau, np.zeros(len(sizes)), []
    for k, h in enumerate(sizes):
        g, P = gains(h, tau, P)
        z = np.eye(len(sizes))[k]
        rows.append(g.past * m + g.new * z)
        m = g.fade * m + g.gain * z
    found = np.array(rows) @ np.array(rows).T
    ends = np.concatenate([[0.0], np.cumsum(sizes)])
    F = np.exp(-np.abs(ends[:, None] - ends) / tau) * tau / 2  # ∬ e^{−|s−s′|/τ}/2τ between two steps
    exact = F[1:, :-1] - F[1:, 1:] - F[:-1, :-1] + F[:-1, 1:]
    b = -np.expm1(-np.array(sizes) / tau)
    exact[np.diag_indices(len(sizes))] = np.array(sizes) - tau * b
    assert np.abs(found - exact).max() < 1e-12
    assert np.abs((found - exact) / np.sqrt(np.outer(np.diag(exact), np.diag(exact)))).max() < 1e-9


def test_a_mode_under_noise_with_a_memory_has_its_stationary_variance():
    # u ← r u + σ I/√V has the variance (γ₀ + 2 Σ rˡ γ_l)/(1 − r²), Σ rˡ γ_l = ½τ b² r/(1 − a r)
    tau, h, k = 0.2, 0.05, 1.3
    model = sim.PDE(sim.Grid(x=(0.0, 1.0, 8)), diffusivity=0.0, reaction="-k*u", parameters={"k": k},
                    noise=sim.WhiteNoise(0.7, correlation_time=tau))
    ds = sim.simulate(model, 0.0, np.arange(6.0, 60.0, 6.0), members=500, dt=h, method="euler_maruyama", seed=4)
    r, a, b = 1.0 - k * h, np.exp(-h / tau), -np.expm1(-h / tau)
    exact = 0.49 * 8 * (h - tau * b + tau * b * b * r / (1.0 - a * r)) / (1.0 - r * r)
    n = ds.u.size
    assert abs(float((ds.u**2).mean()) / exact - 1.0) < 5 * np.sqrt(2 / n)


@pytest.mark.parametrize("ratio", [0.1, 30.0])
def test_multiplicative_noise_with_a_memory_is_of_ordinary_calculus(ratio):
    # du = σ u η dt has u = u₀ exp(σ ∫η): the step's error is σ³ I³/6 whatever h/τ is, where Itô's has σ² I²/2
    h, sigma, grid = 1e-3, 0.5, sim.Grid(x=(0.0, 8.0, 8))
    noise = sim.WhiteNoise("s*u", correlation_time=h / ratio)
    model = sim.PDE(grid, diffusivity=0.0, noise=noise, parameters={"s": sigma})
    out = stencil_run(model, "euler_maruyama", np.ones((1, 50, 8)), None, [0.0, 1.0], h, seed=5, members=range(50))[0]
    source = drive(noise, grid, range(50), parameters={"s": sigma})
    total = sum(source(k, h)[0] for k in range(1000))
    error = np.log(out[-1, 0]) - sigma * total
    step = sigma**2 * (h - h / ratio * -np.expm1(-ratio))  # of σ I
    alike = 1.0 + 2.0 / ratio  # steps in a row whose integrals are alike
    assert np.sqrt((error**2).mean()) < 1.5 * np.sqrt(15 / 36 * 1000 * alike * step**3) + 0.5 * 1000 * step**2
    assert abs(error.mean()) < 0.01 * 0.5 * 1000 * step


def test_noise_of_a_short_memory_is_white():
    dW = drive(sim.WhiteNoise(1.0, correlation_time=1e-6), members=range(500))
    steps = np.stack([dW(k, 0.5)[0] for k in range(2)]) / np.sqrt(0.5 * 32)
    assert abs(steps.var() - 1.0) < 5 * np.sqrt(2 / 32000)
    assert abs((steps[0] * steps[1]).mean()) < 5 / np.sqrt(16000)


@pytest.mark.parametrize(("noise", "options", "match"), [
    (sim.ConservedNoise(1.0), {"boundary": {"x": (sim.Robin(1.0, 1.0, 0.0), sim.Neumann(0.0))}}, "another along x"),
    (sim.ConservedNoise(1.0), {"method": "exact"}, "not conserved"),
    (sim.WhiteNoise(1.0, correlation_time=0.1), {"method": "exact"}, "white in time"),
])
def test_refusals(noise, options, match):
    method = options.pop("method", None)
    model = sim.PDE(LINE, diffusivity=1.0, noise=noise, **options)
    with pytest.raises(ValueError, match=match):
        sim.simulate(model, 0.0, [0.1], method=method)


def test_a_correlation_time_is_positive_and_euler_maruyama_is_chosen():
    with pytest.raises(ValueError, match="correlation time"):
        sim.WhiteNoise(1.0, correlation_time=0.0)
    model = sim.PDE(LINE, diffusivity=1e-3, noise=sim.ConservedNoise("0.01"), boundary=AROUND)
    assert sim.simulate(model, 1.0, [0.01]).attrs["method"] == "euler_maruyama"
    assert "∇·((0.01) ξ_u)" in str(model)
