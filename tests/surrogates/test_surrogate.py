"""The public face: fit, sample, given, log_likelihood, save, load; and the verdict."""

from __future__ import annotations

import json
import math
import zipfile

import numpy as np
import pytest
import torch
import xarray as xr

import surrogates as sur
from surrogates.drawing import SAMPLERS
from surrogates.networks import UNet

torch.set_num_threads(1)
OPTIONS = {"widths": [8, 12], "depth": 1, "embedding": 32}


def ensemble(n: int = 160, seed: int = 0) -> xr.Dataset:
    """Periodic 8 × 8 fields; the condition scales the variance and the mean, so they are Gaussian given it."""
    rng = np.random.default_rng(seed)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8), indexing="ij"))
    kappa = np.exp(rng.uniform(np.log(0.1), np.log(3.0), n))
    amplitude = (1 + 20 * k) ** -1.5 * 8 * np.exp(-kappa[:, None, None] * k)
    u = np.fft.ifft2(amplitude * np.fft.fft2(rng.normal(size=(n, 8, 8)))).real + 280 + kappa[:, None, None]
    x = ("x", (np.arange(8) + 0.5) / 8, {"units": "m", "axis": "X"})
    return xr.Dataset(
        {"u": (("member", "y", "x"), u, {"units": "K", "long_name": "temperature"})},
        {"x": x, "y": ("y", x[1]), "kappa": ("member", kappa, {"units": "m2 s-1"}), "time": 5.0},
        {"title": "rings", "boundary_x": "periodic", "boundary_y": "periodic"},
    )


@pytest.fixture(scope="module")
def model() -> sur.Surrogate:
    return sur.Surrogate(["u"], ["kappa"], network=OPTIONS).fit(ensemble(), seed=0, steps=40, batch=16)


@pytest.mark.parametrize("law", ["network", "gaussian", "baseline"])
def test_a_member_is_the_same_in_any_batch_and_selection(model, law):
    whole = model.sample(20, {"kappa": 0.5}, seed=3, law=law)
    for batch in (1, 7):
        part = model.sample([13, 4], {"kappa": 0.5}, seed=3, law=law, batch=batch)
        scale = float(whole.u.std())
        # the noise is the same bits; a convolution may sum in another order for another batch size
        assert float(abs(part.u - whole.u.sel(member=[13, 4])).max()) < 2e-3 * scale
    other = model.sample(20, {"kappa": 0.5}, seed=4, law=law)
    assert float(abs(other.u - whole.u).max()) > 0.1 * float(whole.u.std())


def test_noise_and_conditions_of_a_member_are_bits_of_seed_and_number(model):
    assert np.array_equal(model.sample([7], seed=1, law="gaussian").u, model.sample(9, seed=1, law="gaussian").u[7:8])
    drawn = model.sample(9, seed=1).kappa
    assert np.isin(drawn, ensemble().kappa).all()
    assert len(np.unique(drawn)) > 3


def test_samples_carry_coordinates_and_attributes(model):
    ds, out = ensemble(), model.sample(3, {"kappa": [0.2, 0.4, 0.8]}, seed=0)
    assert out.u.dims == ("member", "y", "x")
    for name in ("x", "y", "time"):
        xr.testing.assert_identical(out[name].reset_coords(drop=True), ds[name].reset_coords(drop=True))
    assert {k: out.attrs[k] for k in ds.attrs} == ds.attrs
    assert out.u.attrs == ds.u.attrs
    assert out.kappa.values.tolist() == [0.2, 0.4, 0.8]
    assert json.loads(out.attrs["synthetic"])["seed"] == 0


def test_samples_follow_the_condition(model):
    """u has mean 280 + κ: the mean over 64 fields of 64 cells is known to a few hundredths."""
    for law in ("network", "gaussian"):
        low, high = (model.sample(64, {"kappa": k}, seed=5, law=law).u for k in (0.15, 2.5))
        assert float(high.mean() - low.mean()) == pytest.approx(2.35, abs=0.5)


def test_save_and_load(model, tmp_path):
    again = sur.load(model.save(tmp_path / "m.surrogate"))
    for law in ("network", "gaussian", "baseline"):
        a, b = (m.sample(3, {"kappa": 0.3}, seed=2, law=law) for m in (model, again))
        xr.testing.assert_identical(a, b)
    assert str(again.verdict_) == str(model.verdict_)
    assert again.history_[-1]["step"] == model.history_[-1]["step"]
    with zipfile.ZipFile(tmp_path / "m.surrogate") as archive:
        assert sorted(archive.namelist()) == ["config.json", "training.csv", "weights.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.surrogate"]  # nothing left beside it


def test_damaged_and_foreign_files_say_so(model, tmp_path):
    path = model.save(tmp_path / "m.surrogate")
    whole = path.read_bytes()
    for name, content in {
        "half": whole[: len(whole) // 2],
        "tail": whole[:-5],
        "flipped": whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:],
        "empty": b"",
        "text": b"not a model",
        "netcdf": b"\x89HDF\r\n\x1a\n" + bytes(100),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(sur.ModelFileError, match=r"save"):
            sur.load(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "foreign", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(sur.ModelFileError, match=r"not a surrogate model.*config\.json"):
        sur.load(tmp_path / "foreign")
    with pytest.raises(FileNotFoundError, match=r"none"):
        sur.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c | {"version": 99}, r"version 99"),
        (lambda c: c | {"format": "other"}, r"format"),
        (lambda c: {k: v for k, v in c.items() if k != "layout"}, r"one consistent model"),
        (lambda c: c | {"network": {"widths": [4, 4], "depth": 1, "embedding": 32}}, r"one consistent model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(model, tmp_path, change, message):
    path = model.save(tmp_path / "m.surrogate")
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(change(json.loads(parts["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(sur.ModelFileError, match=message):
        sur.load(path)


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = model.save(tmp_path / "m.surrogate")
    before = path.read_bytes()

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", broken)
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_gaussian_likelihood_is_in_the_units_of_the_data(model):
    """Doubling the data's unit lowers ln p by d ln 2."""
    ds = ensemble(60, seed=1)
    scaled = ds.assign(u=2.0 * ds.u)
    values = [sur.Surrogate(["u"], network=False).fit(d).log_likelihood(d) for d in (ds, scaled)]
    assert np.allclose(values[0] - values[1], 64 * math.log(2.0), atol=1e-2)
    assert model.log_likelihood(ds, law="gaussian").dims == ("member",)


def test_network_likelihood_stays_near_the_gaussians_for_gaussian_data(model):
    ds = ensemble(6, seed=2)
    gaussian = model.log_likelihood(ds, law="gaussian")
    network = model.log_likelihood(ds, law="network", steps=12)
    # 0.1 nats per dimension: forty steps of training on 136 samples
    assert float(abs(network - gaussian).max()) / 64 < 0.1


def test_bad_requests(model):
    with pytest.raises(KeyError, match=r"wants \['kappa'\], got \['D'\]"):
        model.sample(2, {"D": 1.0})
    with pytest.raises(ValueError, match=r"one value or 3, got 2"):
        model.sample(3, {"kappa": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"finite and positive"):
        model.sample(3, {"kappa": -1.0})
    with pytest.warns(UserWarning, match=r"learned between 0\.1.* and .*extrapolates"):
        model.sample(1, {"kappa": 50.0})
    with pytest.raises(ValueError, match=r"grid was wanted along 'x'"):
        model.log_likelihood(ensemble(4).assign_coords(x=np.arange(8.0)))
    with pytest.raises(ValueError, match=r"law= wants one of.*got 'edm'"):
        model.sample(3, law="edm")
    with pytest.raises(ValueError, match=r"count ≥ 1"):
        model.sample(0)
    with pytest.raises(sur.NotFittedError, match="call fit"):
        sur.Surrogate(["u"]).sample(2)
    with pytest.raises(ValueError, match=r"process= wants one of"):
        sur.Surrogate(["u"], process="ddim").fit(ensemble())
    with pytest.raises(ValueError, match=r"noise= wants one of"):
        sur.Surrogate(["u"], noise="cosine").fit(ensemble())
    with pytest.raises(ValueError, match=r"fixed skip="):
        sur.Surrogate(["u"], network=torch.nn.Identity()).fit(ensemble())


def test_the_verdict_is_for_the_gaussian_on_gaussian_data_and_serves_it(model):
    assert model.verdict_.gain <= 2 * model.verdict_.error
    assert model.verdict_.served == "gaussian"
    assert "the Gaussian serves" in str(model.verdict_)
    assert np.array_equal(model.sample(2, seed=0).u, model.sample(2, seed=0, law="gaussian").u)


def test_the_verdict_is_for_the_network_where_it_is_better(tmp_path):
    """±pattern: two modes far apart, which no Gaussian has. The samples are bimodal, and so is the loaded model's."""
    rng = np.random.default_rng(0)
    pattern = np.sin(2 * np.pi * np.arange(16) / 16)
    u = rng.choice([-1.0, 1.0], (400, 1)) * pattern + 0.1 * rng.normal(size=(400, 16))
    ds = xr.Dataset({"u": (("member", "x"), u)}, attrs={"boundary_x": "periodic"})
    options = {"widths": [16, 32], "depth": 1, "embedding": 32}
    model = sur.Surrogate(["u"], network=options, skip="wiener").fit(ds, steps=600, batch=32, learning_rate=6e-3)
    assert model.verdict_.served == "network"
    assert model.verdict_.gain > 0.05

    def near_a_mode(law: str) -> float:
        amplitude = model.sample(200, seed=1, law=law).u.values @ pattern / 8
        return float((np.abs(np.abs(amplitude) - 1) < 0.25).mean())

    assert near_a_mode("network") > 0.85
    assert near_a_mode("gaussian") < 0.45


def test_a_module_of_the_callers_own(tmp_path):
    """network= a factory: any module with the call signature; its file needs the module again."""

    def factory(inputs, outputs, *, features, boundary):
        return UNet(inputs, outputs, features=features, boundary=boundary, widths=(6, 6), depth=1, embedding=16)

    model = sur.Surrogate(["u"], network=factory, skip="plain").fit(ensemble(60), steps=3, batch=8)
    path = model.save(tmp_path / "own.surrogate")
    with pytest.raises(ValueError, match=r"pass it as"):
        sur.load(path)
    denoiser = model.fitted_.denoiser
    inputs = denoiser.network.stem.convolution.in_channels
    fresh = factory(inputs, 1, features=denoiser.network.embed[0].in_features, boundary=("periodic", "periodic"))
    again = sur.load(path, network=fresh)
    a, b = (m.sample(2, seed=0, law="network", steps=2).u for m in (model, again))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("sampler", "process"),
    [
        *[(sampler, process) for sampler in ("exponential", "heun") for process in ("edm", "vp")],
        *[("ddim", "edm"), ("unipc", "vp"), ("sde_2m", "vp"), ("churn", "edm")],
    ],
)
def test_every_sampler_and_process_draws_the_fitted_law(model, sampler, process):
    """The network is near the Gaussian: variances of 200 draws agree within 5/√(2·200·64) and the network's own 10 %."""
    model.process = process
    draws = model.sample(200, {"kappa": 0.5}, seed=9, law="network", sampler=sampler, steps=20).u
    exact = model.sample(200, {"kappa": 0.5}, seed=9, law="gaussian").u
    model.process = "edm"
    assert float(draws.std() / exact.std()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_member_is_the_same_in_any_batch_and_its_network_calls_are_told(model, sampler):
    """Bits may differ by the order of a convolution's sums; the calls are those of the sampler's own statement."""
    options = {"seed": 4, "law": "network", "sampler": sampler, "steps": 3}
    whole, part = model.sample(5, {"kappa": 0.5}, **options), model.sample([3], {"kappa": 0.5}, batch=1, **options)
    assert float(abs(whole.u.sel(member=[3]) - part.u).max()) < 1e-3 * float(whole.u.std())
    calls = json.loads(whole.attrs["synthetic"])["network_calls"]
    twice = sampler in ("heun", "churn", "predictor_corrector")
    stated = 7 if twice else 5 if sampler == "unipc" else 4
    assert calls == stated if sampler != "adaptive" else calls > 10


def test_a_single_time_stays_a_dimension_and_two_variables_are_learned_together():
    ds = ensemble(40).drop_vars("time")
    ds = ds.expand_dims(time=[2.0]).transpose("member", "time", "y", "x")
    ds["v"] = 2 * ds.u + 1
    out = sur.Surrogate(["u", "v"], network=False).fit(ds).sample(50, seed=0)
    assert out.u.dims == ("member", "time", "y", "x")
    assert np.corrcoef(out.u.values.ravel(), out.v.values.ravel())[0, 1] > 0.999
