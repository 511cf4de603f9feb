"""Cascades: exact for Gaussian fields with the exact denoisers, coarse means kept, tiny trainings, files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import surrogates as sur
from surrogates import data, layouts
from surrogates.building import build_denoiser
from surrogates.cascades import Cascade, CascadeWay, cell_means, condition_on_means, spread_out
from surrogates.covariance import Choice, fit_spectral
from surrogates.drawing import Draw, draw
from surrogates.fitting import Plan, with_gaussian
from surrogates.gaussian import Gaussian
from surrogates.modes import DenseModes, SpectralModes
from surrogates.serving import Verdict
from surrogates.tensor_streams import normals
from surrogates.training import Budget, Settings

torch.set_num_threads(1)
F64 = torch.float64
SHAPE = (8, 4)


def law(boundary: tuple[str, str], channels: int = 1) -> Gaussian:
    """A red spectrum over five decades; two channels are correlated differently in every mode."""
    modes = SpectralModes(SHAPE, boundary)
    if channels == 1:
        return Gaussian.of_spectrum(modes, 4.0 * (1.0 + 30.0 * modes.radius()[None]) ** -3.5)
    z = normals(3, torch.arange(3000), 0, (2, *SHAPE)).double() * (1.0 + 10.0 * modes.radius()) ** -1.5
    x = modes.synthesise(torch.stack([z[:, 0], 0.6 * z[:, 0] + 0.5 * z[:, 1]], 1))
    return fit_spectral(x, None, boundary, Choice())


def matrix(gaussian: Gaussian) -> torch.Tensor:
    """Σ over all cells."""
    d = gaussian.dimensions
    rows = gaussian.modes.synthesise(torch.eye(d, dtype=F64).reshape(d, *gaussian.shape)).flatten(1)
    return rows.T @ (gaussian.variance().flatten()[:, None] * rows)


def averaging(channels: int) -> torch.Tensor:
    """A, as a matrix."""
    d = channels * 32
    return cell_means(torch.eye(d, dtype=F64).reshape(d, channels, *SHAPE)).flatten(1).T


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("boundary", [("periodic", "periodic"), ("periodic", "reflect"), ("dirichlet", "reflect")])
def test_means_and_what_is_added_make_the_fields_covariance_up(boundary, channels):
    """Group by group, against the dense formulas: P = ΣAᵀ(AΣAᵀ)⁻¹, Σ_e = Σ − PAΣ, and Σ = P AΣAᵀ Pᵀ + Σ_e."""
    gaussian, A = law(boundary, channels), averaging(channels)
    full = matrix(gaussian)
    prolong, modes, variance = condition_on_means(gaussian, boundary)
    exact = full @ A.T @ torch.linalg.inv(A @ full @ A.T)
    assert torch.allclose(prolong, exact, atol=1e-9)
    assert torch.allclose(A @ prolong, torch.eye(len(A), dtype=F64), atol=1e-9)
    detail = modes.vectors @ torch.diag(variance.flatten()) @ modes.vectors.T
    assert torch.allclose(detail, full - exact @ A @ full, atol=1e-10)
    assert torch.allclose(prolong @ (A @ full @ A.T) @ prolong.T + detail, full, atol=1e-9)
    assert torch.allclose(modes.vectors.T @ modes.vectors, torch.eye(32 * channels, dtype=F64), atol=1e-9)
    assert int((variance > 1e-12).sum()) == 24 * channels  # a quarter of the modes are the means


def test_means_and_spreading_are_inverse():
    x = normals(0, torch.arange(2), 0, (3, 4, 2))
    assert torch.equal(cell_means(spread_out(x)), x)
    fine = normals(1, torch.arange(2), 0, (1, 8, 4, 6))
    blocks = fine.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).flatten(5).mean(-1)
    assert torch.allclose(cell_means(fine), blocks, atol=1e-6)


def plan(**options) -> Plan:
    network = {"widths": [4, 6], "depth": 1, "embedding": 8}
    budget, settings = Budget(steps=1), Settings()
    return Plan(network, "edm", "wiener", (), None, budget, settings, 0.2, 0, torch.device("cpu"), **options)


def test_a_chain_of_exact_denoisers_has_the_exact_spectrum():
    """Untrained networks behind the Wiener skip are exact denoisers: through the samplers of both levels, every
    variance of 4,000 draws within 5 standard errors, 5√(2/n), and neighbouring modes uncorrelated."""
    boundary, n = ("periodic", "reflect"), 4000
    gaussian = law(boundary)
    ds = xr.Dataset(
        {"u": (("member", "y", "x"), gaussian.sample(normals(0, torch.arange(40), 0, (1, *SHAPE)).double())[:, 0].numpy())}
    )
    layout = layouts.make_layout(ds, ["u"], [], dict(zip("yx", boundary, strict=True)))
    fitted = with_gaussian(gaussian, gaussian, Choice(), layout, plan(), None, None, np.zeros((40, 0)))
    x = gaussian.sample(normals(1, torch.arange(500), 0, (1, *SHAPE)).double()).float()
    way = CascadeWay.of(fitted, (x, None), torch.device("cpu"))
    A = averaging(1)
    marginal = torch.linalg.eigh(A @ matrix(gaussian) @ A.T / way.coarse_scale**2)
    coarse = Gaussian(DenseModes(marginal.eigenvectors), torch.zeros(1, 1, 4, 2, dtype=F64), marginal.eigenvalues.log().reshape(1, 1, 4, 2))
    way.coarse = with_gaussian(coarse, coarse, Choice(), way.coarse_layout, plan(), None, None, np.zeros((40, 0)))
    way.detail = way.details(way.detail_samples((x, None), torch.arange(500), seed=0), plan(), None, np.zeros((40, 0)))
    for model in (way.coarse, way.detail):
        model.denoiser = build_denoiser(model, "wiener", plan().network).eval()
        model.verdict = Verdict("network", 0.0, 0.0)
    fitted.way = way
    fields, calls = draw(fitted, np.arange(n), None, Draw("network", None, 6, "edm", 1))
    assert calls == 2 * 7
    z = gaussian.modes.analyse(fields)
    ratio = z.square().mean(0) / gaussian.variance()[0]
    assert float((ratio - 1.0).abs().max()) < 5 * np.sqrt(2 / n), ratio
    scaled = (z / gaussian.variance().sqrt()).flatten(1)
    cross = scaled.T @ scaled / n - torch.eye(32, dtype=F64) * ratio.flatten()
    assert float(cross.abs().max()) < 5 / np.sqrt(n)
    # the means are the coarse model's own draw, and its law is theirs
    below = replace(Draw("network", None, 6, "edm", 1), seed=(1 + 0x9E3779B97F4A7C15) % 2**64)
    means = draw(way.coarse, np.arange(5), None, below)[0] * way.coarse_scale
    assert torch.allclose(cell_means(fields[:5]), means, atol=1e-5)
    # also where a network adds what it likes
    torch.manual_seed(0)
    torch.nn.init.normal_(way.detail.denoiser.network.head.convolution.weight, std=5.0)
    for sampler in ("exponential", "heun"):
        odd = draw(fitted, np.arange(5), None, Draw("network", sampler, 6, "edm", 1))[0]
        below = replace(below, sampler=sampler)
        means = draw(way.coarse, np.arange(5), None, below)[0] * way.coarse_scale
        assert torch.allclose(cell_means(odd), means, atol=1e-5)
        assert float((odd - fields[:5]).abs().max()) > 0.01
    torch.nn.init.zeros_(way.detail.denoiser.network.head.convolution.weight)
    # had the details been drawn without regard to the means' noise, or twice as large, it would be seen
    way.scale *= 1.5
    wrong = gaussian.modes.analyse(draw(fitted, np.arange(500), None, Draw("network", None, 6, "edm", 1))[0])
    assert float((wrong.square().mean(0) / gaussian.variance()[0] - 1.0).abs().max()) > 0.5


OPTIONS = {"steps": 60, "batch": 16, "learning_rate": 5e-3}


def ensemble(n: int = 120) -> xr.Dataset:
    """Fields of 8 × 8 cells whose size follows a condition."""
    rng = np.random.default_rng(0)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8), indexing="ij"))
    a = rng.uniform(0.5, 2.0, n)
    u = np.fft.ifft2((0.05 + k) ** -1.5 * np.fft.fft2(rng.normal(size=(n, 8, 8)))).real
    u = 10.0 + a[:, None, None] * u / u.std()
    x = ("x", (np.arange(8) + 0.5) / 8)
    attrs = {"boundary_x": "periodic", "boundary_y": "periodic"}
    return xr.Dataset({"u": (("member", "y", "x"), u)}, {"x": x, "y": ("y", x[1]), "a": ("member", a)}, attrs)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> sur.Surrogate:
    def fit(path):
        network = {"widths": [6, 8], "depth": 1, "embedding": 16}
        model = sur.Surrogate(["u"], ["a"], network=network, skip="wiener", device="cpu")
        return model.fit(ensemble(), resolutions=(2, 4, 8), checkpoint=path, **OPTIONS)

    path = tmp_path_factory.mktemp("cascade") / "run.ckpt"
    first, again = fit(path), fit(path)  # again from the checkpoint: nothing is left to do
    xr.testing.assert_identical(first.sample(3, {"a": 1.0}, law="network"), again.sample(3, {"a": 1.0}, law="network"))
    return first


def test_three_levels_through_the_public_face(model, tmp_path):
    assert model.verdict_.measure == "energy"
    assert {row["run"] for row in model.history_} == {12.0, 22.0, 32.0}
    low, high = (model.sample(100, {"a": a}, seed=1, law="network") for a in (0.6, 1.8))
    assert low.u.dims == ("member", "y", "x") and float(abs(low.u.mean() - 10.0)) < 0.5
    assert 2.0 < float(high.u.std() / low.u.std()) < 4.5  # 3, from 100 fields and few steps of training
    assert json.loads(low.attrs["synthetic"])["network_calls"] >= 0
    again = sur.load(model.save(tmp_path / "cascade.surrogate"))
    assert str(again.verdict_) == str(model.verdict_)
    for law_name in ("network", "gaussian"):
        a, b = (m.sample(5, {"a": 0.8}, seed=2, law=law_name) for m in (model, again))
        xr.testing.assert_identical(a, b)
        part = again.sample([3], {"a": 0.8}, seed=2, law=law_name, batch=1)
        assert float(abs(part.u - a.u.sel(member=[3])).max()) < 1e-3


def test_what_a_cascade_is_not_for(model):
    with pytest.raises(ValueError, match=r"log_likelihood wants a network in the space of the fields.*by way of cascade"):
        model.log_likelihood(ensemble(), law="network")
    blank = sur.Surrogate(["u"], ["a"])
    for wrong, message in {
        (4, 12): r"each twice the one before, got \(4, 12\)",
        (8,): r"two or more numbers",
        (4, 16): r"each twice",
        (8, 16): r"end at the 8 cells of the first axis",
    }.items():
        with pytest.raises(ValueError, match=message):
            blank.fit(ensemble(), resolutions=wrong)
    with pytest.raises(ValueError, match=r"latent= or resolutions=, got both"):
        blank.fit(ensemble(), resolutions=(4, 8), latent=sur.Latent(2))
    with pytest.raises(ValueError, match=r"want a scalar process"):
        sur.Surrogate(["u"], process="heat").fit(ensemble(), resolutions=(4, 8))
    assert Cascade((4, 8)).resolutions == (4, 8)


@pytest.mark.filterwarnings("ignore:the autoencoder loses")
@pytest.mark.parametrize("way", [{"resolutions": (4, 8)}, {"latent": sur.Latent(2, channels=2, widths=(4, 6))}])
def test_conditions_that_are_fields_reach_the_other_space_as_means(way):
    """Beside scalars, which pass as they are; and a draw wants the fine field."""
    ds = ensemble(60).assign(w=(("member", "y", "x"), np.random.default_rng(1).normal(size=(60, 8, 8))))
    network = {"widths": [4, 6], "depth": 1, "embedding": 8}
    model = sur.Surrogate(["u"], ["a", "w"], network=network, skip="wiener", device="cpu")
    model.fit(ds, steps=6, batch=8, **way)
    c = data.dataset_conditions(ds, model.fitted_.layout)
    x = data.fields_to_tensor(ds, model.fitted_.layout)
    inside = model.fitted_.way
    found = (inside.coarse_samples if "resolutions" in way else inside.encoded)((x, c), torch.arange(60))[1]
    assert torch.equal(found[:, 0], c[:, 0])
    assert torch.allclose(found[:, 1:], cell_means(c[:, 1:].reshape(60, 1, 8, 8)).flatten(1), atol=1e-6)
    drawn = model.sample(2, {"a": 1.0, "w": ds.w.values[:2]}, law="network")
    assert drawn.u.shape == (2, 8, 8) and np.isfinite(drawn.u).all()
