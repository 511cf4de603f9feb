"""Schrödinger bridges against the closed form between Gaussians; learned ones against it too, and beyond it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import skew

import surrogates as sur
from surrogates.bridge import _loss, _Unpaired
from surrogates.covariance import Choice, fit_spectral
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.schroedinger import BridgeNetwork, GaussianBridge, between, coupling, covariances, pair, walk
from surrogates.sources import InMemory
from surrogates.tensor_streams import normals
from surrogates.training import Budget, Settings, train

torch.set_num_threads(1)
F64 = torch.float64


def positive(seed: int, m: int = 3) -> torch.Tensor:
    q = torch.randn(m, m, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return q @ q.T + 0.1 * torch.eye(m, dtype=F64)


@pytest.mark.parametrize("sigma", [0.2, 0.7, 3.0])
def test_the_coupling_solves_schroedingers_system(sigma):
    """The joint density is f(x₀) g(x₁) exp(−|x₀ − x₁|²/2σ²): its precision couples both ends by −I/σ² alone."""
    a, b = positive(0), positive(1)
    c = coupling(a, b, sigma)
    joint = torch.cat([torch.cat([a, c], 1), torch.cat([c.T, b], 1)])
    cross = torch.linalg.inv(joint)[:3, 3:]
    assert torch.allclose(cross, -torch.eye(3, dtype=F64) / sigma**2, atol=1e-8 / sigma**2)
    wrong = torch.linalg.inv(torch.cat([torch.cat([a, c.T], 1), torch.cat([c, b], 1)]))[:3, 3:]
    assert not torch.allclose(wrong, -torch.eye(3, dtype=F64) / sigma**2, atol=1e-3)


def laws() -> tuple[Gaussian, Gaussian]:
    """Two variables, correlated differently at both ends."""
    modes = SpectralModes((6,), ("reflect",))
    found = []
    for seed, mix in ((0, 0.7), (1, -0.4)):
        z = torch.randn(4000, 2, 6, dtype=F64, generator=torch.Generator().manual_seed(seed))
        z = z * torch.linspace(2.0, 0.3, 6, dtype=F64)
        x = modes.synthesise(torch.stack([z[:, 0], mix * z[:, 0] + z[:, 1] * (1 + seed)], 1)) + seed
        found.append(fit_spectral(x, None, ("reflect",), Choice()))
    return found[0], found[1]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_walk_has_the_bridges_law(backwards):
    """20,000 paths of four steps: both ends' covariance and their coupling, mode by mode, within 5 standard errors."""
    start, end = laws()
    n, sigma = 20000, 0.8
    bridge = GaussianBridge.between(start, end, sigma)
    first, last = (end, start) if backwards else (start, end)
    x = first.sample(torch.randn(n, 2, 6, dtype=F64, generator=torch.Generator().manual_seed(3)))
    times = torch.linspace(*((1.0, 0.0) if backwards else (0.0, 1.0)), 5, dtype=F64)
    at = torch.arange(n)
    y = walk(bridge.expect, x, bridge, times, lambda k: normals(0, at, k, (2, 6)).double())
    modes = bridge.modes
    u, v = (modes.analyse(f - law.mean()).permute(2, 1, 0) for f, law in ((x, first), (y, last)))
    spread = [covariances(law).diagonal(dim1=-2, dim2=-1).sqrt() for law in (first, last)]
    both, c = v @ v.mT / n, u @ v.mT / n
    errors = (both - covariances(last)) / (spread[1][..., None] * spread[1][:, None])
    assert float(errors.abs().max()) < 5 * math.sqrt(2 / n)
    errors = (c - (bridge.c.mT if backwards else bridge.c)) / (spread[0][..., None] * spread[1][:, None])
    assert float(errors.abs().max()) < 5 * math.sqrt(2 / n)
    assert float((y.mean(0) - last.mean()[0]).abs().max()) < 5 * 3.0 / math.sqrt(n)


def test_expectations_are_those_of_the_joint_gaussian():
    """E[x₀ | x_t], E[x₁ | x_t] and their spread by least squares on 40,000 draws of the coupling."""
    sigma, t = 0.8, 0.3
    modes = SpectralModes((1,), ("reflect",))
    a, b = positive(0, 2), positive(1, 2)
    bridge = GaussianBridge(
        modes, (torch.zeros(2, 1, dtype=F64),) * 2, a[None], b[None], coupling(a, b, sigma)[None], sigma
    )
    joint = torch.cat([torch.cat([a, bridge.c[0]], 1), torch.cat([bridge.c[0].T, b], 1)])
    draws = normals(1, torch.arange(40000), 0, (4,)).double() @ torch.linalg.cholesky(joint).T
    x0, x1 = draws[:, :2, None], draws[:, 2:, None]
    time = torch.full((len(x0),), t, dtype=F64)
    x = between(x0, x1, time, sigma, normals(1, torch.arange(40000), 1, (2, 1)).double())
    for end, expected, spread in zip((x0, x1), bridge.expect(x, time), bridge.spread(time[:1]), strict=True):
        slope = torch.linalg.lstsq(x[..., 0], end[..., 0]).solution
        assert torch.allclose(x[..., 0] @ slope, expected[..., 0], atol=0.1)
        assert float((end - expected).square().mean().sqrt()) == pytest.approx(float(spread), rel=0.02)


def test_partners_are_drawn_from_the_entropic_transport():
    """Two and two points, where Sinkhorn's solution is known: odds of the near partner e^{Δ/2}, Δ the saving of cost."""
    x0, x1 = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [1.3]])
    sigma, n = 0.8, 4000
    u = (torch.arange(n) + 0.5) / n
    near = torch.stack([pair(x0, x1, sigma, torch.stack([v, v]), rounds=500) for v in u[::8]])
    cost = (x0 - x1.T) ** 2 / (2 * sigma**2)
    odds = math.exp(0.5 * float(cost[0, 1] + cost[1, 0] - cost[0, 0] - cost[1, 1]))
    for row in range(2):
        assert float((near[:, row] == row).double().mean()) == pytest.approx(odds / (1 + odds), abs=3e-3)


class Small(torch.nn.Module):
    """A perceptron on two cells."""

    def __init__(self, inputs, outputs, *, features, boundary):
        super().__init__()
        self.outputs = outputs
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2 * inputs + features, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
            torch.nn.Linear(64, 2 * outputs),
        )  # fmt: skip

    def forward(self, inputs, features):
        return self.net(torch.cat([inputs.flatten(1), features], 1)).reshape(len(inputs), self.outputs, 2)


def pairs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = normals(seed, torch.arange(n), 0, (2, 1, 2)).unbind(1)
    return x, 2.0 * y + 1.0


def slope_of(module, x0: torch.Tensor) -> tuple[float, float]:
    """Regression of the end on the start, and the end's standard deviation."""
    at = torch.arange(len(x0))
    with torch.no_grad():
        y = walk(module, x0, module.gaussian, torch.linspace(0, 1, 31), lambda k: normals(9, at, k, (1, 2)))
    return float((x0 * (y - y.mean(0))).mean() / x0.var()), float(y.std())


def trained(transport: bool, rounds: int, steps: int) -> tuple[list[tuple[float, float]], float]:
    """(slope of the end on the start, the end's spread) after each round, from a reference that believes in other laws,
    and the bridge's own slope C/A."""
    sigma, (x0, x1) = 1.0, pairs(2000, 0)
    modes, one = SpectralModes((2,), ("reflect",)), torch.ones(1, 2, dtype=F64)
    wrong = GaussianBridge.between(Gaussian.of_spectrum(modes, one), Gaussian.of_spectrum(modes, 0.5 * one), sigma)
    torch.manual_seed(0)
    module = BridgeNetwork(Small(3, 2, features=11, boundary=("reflect",)), wrong.to(torch.zeros(())))
    source, found = _Unpaired(InMemory(x0, None, 0), InMemory(x1, None, 1)), [slope_of(module, x0)]
    for number in range(1 + rounds):
        if number:
            source = InMemory(*sur.Bridge(["u"])._own_pairs(module, x0, x1, number), number)
        loss = partial(_loss, transport=transport and number == 0)
        train(module, source, Budget(steps=steps), seed=number, settings=Settings(batch=128), loss=loss)
        found.append(slope_of(module, x0))
    return found, float(coupling(torch.eye(1, dtype=F64), 4.0 * torch.eye(1, dtype=F64), sigma))


def test_training_finds_the_bridge_from_a_wrong_gaussian():
    """Pairs by transport: slope within 8 %, spread within 6 %; the reference alone is off by more than 30 %."""
    (before, after), want = trained(True, 0, 250)
    assert after[0] == pytest.approx(want, rel=0.08)
    assert after[1] == pytest.approx(2.0, rel=0.06)
    assert abs(before[0] - want) > 0.3 * want


def test_rounds_lead_to_the_bridge_from_pairs_that_are_none_of_its():
    """Independent pairs: too little is kept at first; two rounds of the network's own pairs repair it."""
    (_, first, *_, last), want = trained(False, 2, 200)
    assert first[0] < 0.94 * want
    assert last[0] == pytest.approx(want, rel=0.03)


def ensembles(n: int = 400) -> tuple[xr.Dataset, xr.Dataset]:
    """Red Gaussian fields, and skew ones with finer structure."""
    rng = np.random.default_rng(0)
    k = np.abs(np.fft.fftfreq(16) * 16)
    first, second = (
        np.fft.ifft(np.fft.fft(rng.normal(size=(n, 16))) * 2.5 * np.exp(-k / scale)).real for scale in (1.5, 4.0)
    )
    x = ("x", np.arange(16.0), {"units": "m"})
    make = lambda u, **attrs: xr.Dataset({"u": (("member", "x"), u, attrs)}, {"x": x}, {"boundary_x": "periodic"})  # noqa: E731
    return make(first, units="K"), make(3.0 + 2.0 * np.exp(0.3 * second), units="K")


def test_from_a_cheap_ensemble_to_an_expensive_one(tmp_path):
    cheap, fine = ensembles()
    options = {"widths": [12, 24], "depth": 1, "embedding": 32}
    bridge = sur.Bridge(["u"], sigma=0.5, network=options, rounds=1, device="cpu").fit(cheap, fine, steps=200, batch=32)
    fresh = ensembles(500)[0].isel(member=slice(400, 500))
    moved, plain = (bridge.translate(fresh, seed=1, steps=25, law=law) for law in ("network", "gaussian"))
    assert moved.u.dims == fine.u.dims
    assert moved.u.attrs == fine.u.attrs
    want = skew(fine.u.values.ravel())
    assert abs(skew(plain.u.values.ravel())) < 0.3 * want
    assert skew(moved.u.values.ravel()) > 0.45 * want
    assert float(moved.u.mean()) == pytest.approx(float(fine.u.mean()), abs=0.5 * float(fine.u.std()))
    coarse = [np.fft.rfft(ds.u.values)[:, 1] for ds in (fresh, moved)]
    kept = abs(np.vdot(*coarse)) / np.sqrt(np.vdot(coarse[0], coarse[0]) * np.vdot(coarse[1], coarse[1])).real
    assert kept > 0.7  # the large scale of each member is carried over
    back = bridge.translate(moved, seed=2, backwards=True, steps=25)
    assert abs(skew(back.u.values.ravel())) < 0.5 * want
    again = sur.Bridge.load(bridge.save(tmp_path / "b.bridge"), device="cpu")
    assert np.array_equal(again.translate(fresh, seed=1, steps=25).u, moved.u)


def test_bad_requests():
    cheap, fine = ensembles(40)
    with pytest.raises(RuntimeError, match="call fit"):
        sur.Bridge(["u"]).translate(cheap)
    with pytest.raises(ValueError, match=r"sigma > 0"):
        sur.Bridge(["u"], sigma=0.0)
    with pytest.raises(ValueError, match=r"grid was wanted along 'x' \(16 cells\)"):
        sur.Bridge(["u"], network=False).fit(cheap.isel(x=slice(0, 8)), fine)
    with pytest.raises(ValueError, match=r"one boundary"):
        sur.Bridge(["u"], network=False).fit(cheap.assign_attrs(boundary_x="reflect"), fine)
    with pytest.raises(ValueError, match=r"law= wants 'gaussian', got 'network'"):
        sur.Bridge(["u"], network=False).fit(cheap, fine).translate(cheap, law="network")
