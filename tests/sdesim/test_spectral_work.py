"""Fewer transforms and fewer evaluations give the same solutions: an ETDRK4 of its own, orders, starts, long runs."""

import sys

import numpy as np
import pytest

import sdesim as sim
from sdesim.boundaries import Dirichlet, Neumann, Periodic
from sdesim.grids import Grid
from sdesim.integrate_field import _program, integrate, modal_form
from sdesim.kernels import spectral_run
from sdesim.kernels.spectral_trace import Move
from sdesim.methods import find
from sdesim.models.pde import PDE

LOOP = {"x": Periodic(), "y": Periodic()}
N, SIDE = 24, 10.0
PLANE = Grid(x=(0.0, SIDE, N), y=(0.0, SIDE, N))
SPOTS = PDE(PLANE, ("u", "v"), diffusivity={"u": 0.16, "v": 0.08}, boundary=LOOP, parameters={"F": 0.04, "k": 0.06},
            reaction={"u": "-u*v**2 + F*(1 - u)", "v": "u*v**2 - (F + k)*v"})
s = 2 * np.pi * (np.arange(N) + 0.5) / N
HUMP = np.exp(np.cos(s)[:, None] + np.cos(s) - 2) * (1 + 0.3 * np.sin(2 * s)[:, None] * np.cos(s))
START = np.stack([1 - 0.5 * HUMP, 0.25 * HUMP])


def solve(model, start, times, dt, method, backend="kernel"):
    fields = np.asarray(start, float)[:, None]
    return integrate(model, find(method, ("spectral",)), fields, {}, np.asarray(times, float), dt, seed=0,
                     members=np.arange(1), backend=backend).states[:, :, 0]


def kassam_trefethen(start, h, steps, F=0.04, k=0.06):
    """ETDRK4 for Gray and Scott's equations by contour integrals (Kassam & Trefethen 2005, program of § 4)."""
    wave = np.fft.fftfreq(N, 1 / N) * 2 * np.pi / SIDE
    k2 = wave[:, None] ** 2 + wave**2
    z = h * np.stack([-0.16 * k2, -0.08 * k2])
    r = np.exp(1j * np.pi * (np.arange(1, 33) - 0.5) / 32).reshape(-1, 1, 1, 1)
    Z = z + r
    Q = h * np.mean(((np.exp(Z / 2) - 1) / Z).real, axis=0)
    f1 = h * np.mean(((-4 - Z + np.exp(Z) * (4 - 3 * Z + Z**2)) / Z**3).real, axis=0)
    f2 = h * np.mean(((2 + Z + np.exp(Z) * (-2 + Z)) / Z**3).real, axis=0)
    f3 = h * np.mean(((-4 - 3 * Z - Z**2 + np.exp(Z) * (4 - Z)) / Z**3).real, axis=0)
    E, E2 = np.exp(z), np.exp(z / 2)

    def nonlinear(modes):
        u, v = np.fft.ifft2(modes).real
        return np.fft.fft2(np.stack([-u * v**2 + F * (1 - u), u * v**2 - (F + k) * v]))

    modes = np.fft.fft2(start)
    for _ in range(steps):
        Nu = nonlinear(modes)
        a = E2 * modes + Q * Nu
        Na = nonlinear(a)
        b = E2 * modes + Q * Na
        Nb = nonlinear(b)
        c = E2 * a + Q * (2 * Nb - Nu)
        modes = E * modes + Nu * f1 + 2 * (Na + Nb) * f2 + nonlinear(c) * f3
    return np.fft.ifft2(modes).real


def test_etdrk4_is_that_of_kassam_and_trefethen():
    """To rounding: 20 steps, the contour integrals good to some 1e-14."""
    found = solve(SPOTS, START, [0.0, 40.0], 2.0, "etdrk4")[-1]
    np.testing.assert_allclose(found, kassam_trefethen(START, 2.0, 20), rtol=0, atol=2e-12)


MODELS = {
    "Gray–Scott": (SPOTS, 3, 4),
    "FitzHugh–Nagumo": (PDE(PLANE, ("u", "v"), diffusivity={"u": 1.0, "v": 0.1}, boundary=LOOP, reaction={
        "u": "u - u**3/3 - v + 0.5", "v": "0.08*(u + 0.7 - 0.8*v)"}), 2, 4),
    "Brusselator between walls": (PDE(PLANE, ("u", "v"), diffusivity=0.1, parameters={"A": 1.0, "B": 2.5}, boundary={
        "x": (Dirichlet(1.0), Neumann(0.1))}, reaction={"u": "A + x/10 - (B + 1)*u + u**2*v", "v": "B*u - u**2*v"}), 3, 4),
    "SIR": (PDE(PLANE, ("S", "I", "R"), diffusivity=0.1, boundary=LOOP, reaction={
        "S": "-2*(S*I)", "I": "2*(S*I) - I/3", "R": "I/3"}), 3, 5),
    "two sums": (PDE(PLANE, ("u", "v"), diffusivity=0.1, boundary=LOOP, parameters={"a": 1.0}, reaction={
        "u": "3*u**2 - 6*sin(v) + a*v", "v": "-u**2 + 2*sin(v)"}), 3, 4),
}


def transforms(program):
    return sum(isinstance(step, Move) for step in program.steps)


@pytest.mark.parametrize("name", MODELS)
def test_mixing_saves_transforms_and_changes_nothing(name, monkeypatch):
    """As many transforms as counted by hand; the same solution as with the reaction whole, to rounding."""
    model, few, many = MODELS[name]
    start = np.stack([(START[i % 2]) for i in range(len(model.state))])
    method = find("etdab4", ("spectral",))
    assert transforms(_program(model, method)) == few
    mixed = {m: solve(model, start, [0.0, 1.0], 0.05, m)[-1] for m in ("etdab4", "etdrk2")}
    monkeypatch.setattr(sys.modules["sdesim.methods.modal"], "mix", lambda *_: None)
    _program.cache_clear()
    assert modal_form(model, method).mixed is None and transforms(_program(model, method)) == many
    for name, found in mixed.items():
        np.testing.assert_allclose(found, solve(model, start, [0.0, 1.0], 0.05, name)[-1], rtol=0, atol=1e-13)
    _program.cache_clear()


@pytest.mark.parametrize("method, order, counts", [
    ("etdrk2", 2, (32, 64, 128)), ("etdab4", 4, (64, 128, 256)), ("etdab5", 5, (64, 128, 256))])
@pytest.mark.parametrize("model", [SPOTS, PDE(PLANE, ("u", "v"), diffusivity=0.3, boundary=LOOP, velocity={
    "u": {"x": "u/2 + 1"}}, reaction={"u": "sin(t) - u*v", "v": "u - v**3"})], ids=["spots", "carried and driven"])
def test_orders(model, method, order, counts):
    end = 8.0 if model is SPOTS else 2.0
    best = solve(model, START, [0.0, end], end / 1024, "etdrk4")[-1]
    errors = [np.abs(solve(model, START, [0.0, end], end / n, method)[-1] - best).max() for n in counts]
    slopes = -np.diff(np.log2(errors))
    assert slopes[-1] == pytest.approx(order, abs=0.25), (errors, slopes)


def test_a_multistep_method_goes_on_through_saves_and_starts_anew_with_another_step():
    """Saves at whole steps change no bit; where the step changes, the result is that of two runs in a row."""
    whole = solve(SPOTS, START, [0.0, 8.0], 0.5, "etdab5")[-1]
    assert np.array_equal(solve(SPOTS, START, [0.0, 0.5, 1.0, 1.5, 4.5, 8.0], 0.5, "etdab5")[-1], whole)
    first = solve(SPOTS, START, [0.0, 4.0], 0.5, "etdab5")[-1]
    split = solve(SPOTS, START, [0.0, 4.0, 7.0], 0.4, "etdab5")  # 10 steps of 0.4, then 8 of 0.375
    again = solve(SPOTS, split[1], [4.0, 7.0], 0.375, "etdab5")[-1]
    np.testing.assert_allclose(split[-1], again, rtol=0, atol=1e-14)
    assert np.abs(first - split[1]).max() < 1e-4


def test_what_no_field_shows_does_not_grow(monkeypatch):
    """u' = u − u³ with its u taken in modal space: the modes k, −k of the column kx = 0 differ by a rounding of 1e-16,
    which no transform shows to u³; it would grow by e^{60}, and does without the cleaning."""
    model = PDE(PLANE, ("u", "v"), diffusivity=0.1, boundary=LOOP, reaction={"u": "u - u**3", "v": "u**3 - v"})
    assert modal_form(model, find("etdrk2", ("spectral",))).mixed is not None
    last = {}
    step = spectral_run.Fused.step

    def watched(self, *numbers):
        step(self, *numbers)
        column = self.u[0].reshape(1, N, -1, 2)[0, 1:, 0]
        last["difference"] = np.abs(column[::-1] * [1, -1] - column).max() / np.abs(self.u[0]).max()

    monkeypatch.setattr(spectral_run.Fused, "step", watched)
    states = solve(model, START, [0.0, 60.0], 0.1, "etdrk2")
    assert np.abs(states[-1, 0] - 1.0).max() < 1e-9 and last["difference"] < 1e-12
    assert np.array_equal(states, solve(model, START, [0.0, 60.0], 0.1, "etdrk2", "numpy"))
    monkeypatch.setattr(spectral_run, "cleans", lambda *_: False)
    solve(model, START, [0.0, 60.0], 0.1, "etdrk2")
    assert last["difference"] > 1.0


def test_a_step_beyond_a_multistep_method_is_foreseen():
    """u' = −u: the Adams method of five steps is unstable beyond h = 0.163, of which 0.32 is warned and 0.07 is not."""
    model = PDE(Grid(x=(0, 1, 8)), diffusivity=0.1, reaction="-u")
    with pytest.warns(sim.AccuracyWarning, match="etdab5 is stable to 0.16; take dt ≤ 0.08, or etdrk4"):
        far = sim.simulate(model, 1.0, [40.0], method="etdab5", dt=0.32)
    assert np.abs(far.u.values[0, -1]).max() > 1e3
    near = sim.simulate(model, 1.0, [40.0], method="etdab5", dt=0.07)
    assert np.abs(near.u.values[0, -1]).max() < 1e-12
