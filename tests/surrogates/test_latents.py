"""Autoencoders and score models in their space: the losses' formulas, what is lost, draws, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch.distributions import Normal, kl_divergence

import surrogates as sur
from surrogates.latents import LatentWay, reconstruction
from surrogates.networks.autoencoder import Autoencoder
from surrogates.tensor_streams import normals

torch.set_num_threads(1)
X = 2 * np.pi * np.arange(16) / 16
OPTIONS = {"steps": 300, "batch": 32, "learning_rate": 6e-3}


def autoencoder(kind: str, **options) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(1, 2, boundary=("periodic",), widths=(6, 8), kind=kind, codes=5, **options)


def test_the_divergence_is_that_of_normal_laws_and_the_noise_enters_by_its_scale():
    net, x, noise = autoencoder("kl"), normals(0, torch.arange(3), 0, (1, 8)), normals(1, torch.arange(3), 0, (2, 4))
    mean, log_variance = net.down(x).chunk(2, dim=1)
    scale = torch.exp(0.5 * log_variance)
    error, extra = net.losses(x, noise)
    exact = kl_divergence(Normal(mean, scale), Normal(0.0, 1.0)).flatten(1).sum(1) / 8
    assert torch.allclose(extra, exact, atol=1e-6)
    assert torch.allclose(error, (net.up(mean + scale * noise) - x).square().flatten(1).mean(1), atol=1e-6)


def test_codes_are_the_nearest_and_gradients_pass_through_them():
    net, x = autoencoder("vq"), normals(0, torch.arange(3), 0, (1, 8))
    z = net.encode(x).detach().requires_grad_()
    cells = z.detach().movedim(1, -1).reshape(-1, 2)
    nearest = (cells[:, None] - net.codes.detach()).square().sum(-1).argmin(1)
    code = net.codes.detach()[nearest].reshape(3, 4, 2).movedim(-1, 1)
    assert torch.equal(net.look_up(z).detach(), code)
    error, extra = net.losses(x, torch.zeros(3, 2, 4))
    assert torch.allclose(error, (net.decode(net.encode(x)) - x).square().flatten(1).mean(1), atol=1e-6)
    gap = (net.encode(x) - net.look_up(net.encode(x))).square().flatten(1).mean(1)
    assert torch.allclose(extra, 1.25 * gap, atol=1e-6)
    grads = torch.autograd.grad(error.sum(), [net.codes, net.down[0].convolution.weight], allow_unused=True)
    assert grads[0] is None and float(grads[1].abs().max()) > 0  # the codes are moved by their own loss alone
    moved = torch.autograd.grad(extra.sum(), net.codes)[0]
    pulls = torch.stack([2.0 * (net.codes.detach()[k] - cells[nearest == k]).sum(0) / 8 for k in range(5)])
    assert torch.allclose(moved, pulls, atol=1e-5)


def test_an_encoder_follows_the_boundary():
    """On a periodic axis a shift by the factor shifts the latents by one cell."""
    net, x = autoencoder("kl"), normals(0, torch.arange(2), 0, (1, 8))
    assert torch.allclose(net.encode(x.roll(2, -1)), net.encode(x).roll(1, -1), atol=1e-6)
    assert torch.allclose(net.decode(net.encode(x).roll(1, -1)), net.decode(net.encode(x)).roll(2, -1), atol=1e-6)


def locked(n: int = 400) -> xr.Dataset:
    """Waves of any phase and one size, with a harmonic locked to it: a ring, of which the Gaussian knows the spectrum."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    u = np.cos(X + phase) + 0.5 * np.cos(2 * (X + phase)) + 0.02 * rng.normal(size=(n, 16))
    return xr.Dataset({"u": (("member", "x"), 3.0 + 2.0 * u)}, attrs={"boundary_x": "periodic"})


def fitted(kind: str, path=None) -> sur.Surrogate:
    latent = sur.Latent(factor=2, channels=2, kind=kind, codes=48, widths=(8, 12))
    model = sur.Surrogate(["u"], network={"widths": [12, 16], "depth": 1, "embedding": 32}, skip="wiener", device="cpu")
    return model.fit(locked(), latent=latent, checkpoint=path, **OPTIONS)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> sur.Surrogate:
    path = tmp_path_factory.mktemp("latent") / "run.ckpt"
    first = fitted("kl", path)
    again = fitted("kl", path)  # from the checkpoint: nothing is left to do
    assert np.array_equal(first.sample(4, law="network").u, again.sample(4, law="network").u)
    return first


def test_latents_keep_what_the_gaussian_does_not_know(model):
    rows = [row for row in model.history_ if row["run"] == 3]
    assert rows[-1]["gain"] > 0.99 > 0.9 > rows[0]["gain"]
    assert [row["gain"] for row in model.history_ if row["run"] == 2][-1] > 0.15  # over the Gaussian of the latents
    assert model.verdict_.gain > model.verdict_.error and model.verdict_.beside["network spectrum"] < 0.35
    drawn = model.sample(200, seed=1, law="network")
    assert json.loads(drawn.attrs["synthetic"])["network_calls"] > 1
    assert drawn.u.dims == ("member", "x") and float(abs(drawn.u.mean() - 3.0)) < 0.3
    assert model.verdict_.measure == "energy" and set(model.verdict_.beside) == {"network spectrum", "gaussian spectrum"}
    assert model.noise_range_ == model.fitted_.noise_range


def test_what_is_lost_is_told_by_wave_number(model):
    lost = model.reconstruction_
    assert lost.dims == ("wavenumber",)
    waves = lost.sel(wavenumber=[1 / 16, 2 / 16]).values
    assert waves.max() < 0.02 < 0.3 < float(lost.isel(wavenumber=-1))  # the waves pass, the noise does not
    # the level where Wiener's filter knows the fields as well
    assert float(model.gaussian_.floor(lost.attrs["equivalent_noise_level"]).mean()) == pytest.approx(lost.attrs["total"])
    assert sur.Surrogate(["u"], network=False).fit(locked()).reconstruction_ is None

    class Nothing(LatentWay):
        def encode(self, x):
            return x

        def decode(self, z):
            return torch.zeros_like(z)

    way = Nothing(model.fitted_.way.options, model.fitted_.way.coder, torch.zeros(2), torch.ones(2), model.fitted_)
    x = normals(0, torch.arange(400), 0, (1, 16))
    assert reconstruction(way, model.gaussian_, (x, None))["error"] == pytest.approx(1.0, abs=0.05)


def test_a_latent_model_is_a_model_like_any_other(model, tmp_path):
    again = sur.load(model.save(tmp_path / "latent.surrogate"))
    assert str(again.verdict_) == str(model.verdict_)
    xr.testing.assert_identical(again.reconstruction_, model.reconstruction_)
    for law in ("network", "gaussian"):
        a, b = (m.sample(6, seed=2, law=law) for m in (model, again))
        xr.testing.assert_identical(a, b)
        assert float(abs(again.sample([4], seed=2, law=law, batch=1).u - a.u.sel(member=[4])).max()) < 1e-3
    for what, ask in {
        "log_likelihood": lambda m: m.log_likelihood(locked(20), law="network"),
        "given": lambda m: m.given(sur.Observation(np.zeros(16), std=1.0, operator=np.eye(16))),
        "distill": lambda m: m.distill(locked()),
    }.items():
        with pytest.raises(ValueError, match=rf"{what} wants a network in the space of the fields.*by way of latents"):
            ask(again)
    with pytest.raises(ValueError, match=r"factor=2 wants axes that are multiples of it.*got \(15,\)"):
        sur.Surrogate(["u"]).fit(locked().isel(x=slice(15)), latent=sur.Latent(2))
    for wrong in ({"factor": 3}, {"kind": "gan"}, {"share": 1.0}, {"widths": (8,)}):
        with pytest.raises(ValueError, match=r"want"):
            sur.Latent(**wrong)


def test_codes_and_a_warning_of_what_they_lose(tmp_path):
    with pytest.warns(UserWarning, match=r"the autoencoder loses .* more than noise of the lowest level"):
        model = fitted("vq")
    rows = [row for row in model.history_ if row["run"] == 3]
    assert rows[-1]["gain"] > 0.95
    used = model.fitted_.way.coder.look_up(model.fitted_.way.coder.encode(torch.zeros(1, 1, 16)))
    assert used.shape == (1, 2, 8)
    again = sur.load(model.save(tmp_path / "codes.surrogate"))
    xr.testing.assert_identical(again.sample(3, seed=2, law="network"), model.sample(3, seed=2, law="network"))
