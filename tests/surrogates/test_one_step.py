"""One network call: exact transport for the Gaussian, consistency functions, distillation, energy-trained generators."""

from __future__ import annotations

import json
import math
from functools import partial

import numpy as np
import pytest
import scoringrules
import torch
import xarray as xr

import surrogates as sur
from surrogates import samplers
from surrogates.checkpoints import CheckpointError
from surrogates.denoisers import Denoiser, feature_count, input_channels
from surrogates.energy import energy_score
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.one_step import (
    Distance,
    consistency_levels,
    consistency_loss,
    energy_loss,
    generate,
    leap,
    transport,
)
from surrogates.processes import noise_levels
from surrogates.sources import InMemory
from surrogates.tensor_streams import normals
from surrogates.training import Budget, Settings, train

torch.set_num_threads(1)
F64 = torch.float64
MODES = SpectralModes((6, 4), ("periodic", "reflect"))
RANGE = (0.02, 30.0)


def law(scale: float = 1.0) -> Gaussian:
    """A mean, and variances over four decades."""
    variance = scale * 9.0 * torch.logspace(0, -4, 24, dtype=F64).reshape(1, 6, 4)
    return Gaussian.of_spectrum(MODES, 0.5 * (variance + MODES.mirror(variance)), torch.full((1, 6, 4), 0.7, dtype=F64))


def denoiser(gaussian: Gaussian, *, active: bool = False, skip: str = "wiener") -> Denoiser:
    torch.manual_seed(0)
    count = feature_count(skip, 1, 0)
    net = UNet(input_channels(skip, 1, 0), 1, features=count, boundary=MODES.boundary, widths=(6, 8), embedding=16)
    if active:
        torch.nn.init.normal_(net.head.convolution.weight, std=0.3)
    return Denoiser(net, gaussian, skip, RANGE, transported=True).double()


def test_without_a_network_one_step_is_the_exact_transport_of_the_gaussian():
    gaussian, x = law(), normals(0, torch.arange(5), 0, (1, 6, 4)).double() * 4.0
    sigma = torch.tensor([0.02, 0.3, 1.0, 7.0, 30.0], dtype=F64)
    z = MODES.analyse(x - gaussian.mean())
    square = sigma.reshape(-1, 1, 1, 1) ** 2
    exact = gaussian.mean() + MODES.synthesise(torch.sqrt(gaussian.variance() / (gaussian.variance() + square)) * z)
    assert torch.allclose(leap(denoiser(gaussian), x, sigma, None), exact, atol=1e-12)
    assert not torch.allclose(leap(denoiser(gaussian, active=True), x, sigma, None), exact, atol=0.1)


@pytest.mark.parametrize("skip", ["wiener", "plain"])
def test_at_no_noise_it_is_the_identity_whatever_the_network(skip):
    """f(x; σ) − x is of the order of σ: ten times less noise, ten times nearer."""
    x = normals(1, torch.arange(3), 0, (1, 6, 4)).double()
    model = denoiser(law(), active=True, skip=skip)
    far = [float((leap(model, x, torch.full((3,), s, dtype=F64), None) - x).abs().max().detach()) for s in (1e-4, 1e-5)]
    assert far[0] < 1e-2
    assert far[1] < 0.2 * far[0]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_any_number_of_calls_draws_the_gaussians_law(steps):
    """The result is linear in the noises: the variance of a mode is the sum of squares of what each contributes."""
    gaussian, model = law(), denoiser(law())
    levels = consistency_levels(RANGE, steps)
    assert len(levels) == steps
    total, mean = torch.zeros(1, 6, 4, dtype=F64), gaussian.mean()
    unit = MODES.synthesise(torch.eye(24, dtype=F64).reshape(24, 1, 6, 4))
    zero = torch.zeros_like(unit)
    for source in range(steps):
        first = MODES.synthesise((gaussian.variance() + levels[0] ** 2).sqrt() * MODES.analyse(unit))
        start = mean + (first if source == 0 else zero)
        end = generate(model, start, levels, None, lambda k, source=source: unit if k == source else zero)
        total += MODES.analyse(end - mean).flatten(1).diagonal().reshape(1, 6, 4) ** 2
    assert torch.allclose(total, gaussian.variance()[0], rtol=1e-9)


def test_the_distillation_loss_vanishes_for_gaussian_data_and_sees_a_wrong_teacher():
    gaussian = law()
    data = gaussian.sample(normals(2, torch.arange(64), 0, (1, 6, 4)).double())
    source, places, settings = InMemory(data, None, 0), torch.arange(32), Settings(batch=32)

    def loss(teacher: Denoiser, student: Denoiser) -> torch.Tensor:
        return consistency_loss(student, source, 0, places, 0, settings, teacher=teacher) / 32

    right = loss(denoiser(gaussian), denoiser(gaussian)).detach()
    assert float(right.max()) < 1e-20
    assert float(loss(denoiser(law(4.0)), denoiser(gaussian))[0].detach()) > 0.01
    student = denoiser(gaussian, active=True)
    value = loss(denoiser(gaussian), student)
    value[0].backward()
    assert float(value[0].detach()) > 0.01
    assert all(p.grad is not None for p in student.network.parameters())


def test_the_energy_score_is_that_of_another_library():
    members = normals(0, torch.arange(7), 0, (5, 2, 4, 3)).double()  # 7 members, 5 samples, 2 channels
    truth = normals(1, torch.arange(5), 0, (2, 4, 3)).double()
    flat = members.flatten(2).permute(1, 0, 2).numpy()
    for fairness, estimator in ((1.0, "fair"), (0.0, "nrg")):
        mine = energy_score(members, truth, sides=(), fairness=fairness)
        other = scoringrules.es_ensemble(truth.flatten(1).numpy(), flat, estimator=estimator) / math.sqrt(24)
        assert np.allclose(mine, other, rtol=1e-9)
    cells = energy_score(members[:, :, :1], truth[:, :1], sides=(1,)) * 2 - energy_score(members[:, :, :1], truth[:, :1], sides=())
    crps = scoringrules.crps_ensemble(truth[:, 0].numpy(), members[:, :, 0].permute(1, 2, 3, 0).numpy(), estimator="fair")
    assert np.allclose(cells, crps.mean((1, 2)), rtol=1e-9)
    with pytest.raises(ValueError, match=r"at least 2 members.*got 1"):
        energy_score(members[:1], truth)


def test_the_fair_score_is_proper_and_owes_nothing_to_the_number_of_members():
    """For N(0, 1) the CRPS is 1/√π; members of another spread lose, and 2 members score as 8 do on average."""
    n = 40000
    truth = normals(0, torch.arange(n), 0, (1, 1)).double()
    members = torch.stack([normals(1, torch.arange(n), k, (1, 1)).double() for k in range(8)])
    score = {(m, s): energy_score(s * members[:m], truth, sides=()) for m in (2, 8) for s in (0.7, 1.0, 1.4)}
    for m in (2, 8):
        value = score[m, 1.0]
        assert float(value.mean()) == pytest.approx(1 / math.sqrt(math.pi), abs=4 * float(value.std()) / math.sqrt(n))
        for s in (0.7, 1.4):
            worse = score[m, s] - value
            assert float(worse.mean()) > 4 * float(worse.std()) / math.sqrt(n)


NETWORK = {"widths": [8, 12], "depth": 1, "embedding": 32}


def two_levels(n: int = 300, *, amplitude: bool = False) -> xr.Dataset:
    """±1 and small noise in 8 cells; with `amplitude`, a condition, times it."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 2.0, n) if amplitude else np.ones(n)
    u = a[:, None] * rng.choice([-1.0, 1.0], (n, 1)) + 0.1 * rng.normal(size=(n, 8))
    ds = xr.Dataset({"u": (("member", "x"), u)}, attrs={"boundary_x": "periodic"})
    return ds.assign_coords(a=("member", a)) if amplitude else ds


def near_a_level(ds: xr.Dataset) -> float:
    return float((np.abs(np.abs(ds.u.mean("x")) - 1) < 0.25).mean())


TAU = 0.1


class Exact(Denoiser):
    """E[x₀ | x] for ±1 in all of 8 cells and noise of deviation TAU."""

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        square = torch.as_tensor(sigma).to(x).reshape(-1, 1, 1) ** 2
        total = TAU**2 + square
        return TAU**2 / total * x + square / total * torch.tanh(x.sum((1, 2), keepdim=True) / total)


def test_the_flow_of_an_exact_denoiser_is_learned_in_one_call():
    """Fields at σ = 30 go to one of two values; the Gaussian's transport leaves a quarter of them near either."""
    variance = torch.full((1, 8), TAU**2)
    variance[0, 0] += 8.0
    gaussian = Gaussian.of_spectrum(SpectralModes((8,), ("periodic",)), variance)

    def make(kind: type[Denoiser]) -> Denoiser:
        torch.manual_seed(0)
        count = feature_count("wiener", 1, 0)
        net = UNet(3, 1, features=count, boundary=("periodic",), widths=(8, 12), embedding=32)
        return kind(net, gaussian, "wiener", RANGE, transported=True)

    sign = torch.randint(2, (512, 1, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    data = InMemory(sign + TAU * normals(0, torch.arange(512), 0, (1, 8)), None, 0)
    sigma, noise = torch.full((256,), RANGE[1]), partial(normals, 9, torch.arange(256), shape=(1, 8))
    start = samplers.start(gaussian, noise(0), RANGE[1])
    teacher, student = make(Exact), make(Denoiser)
    end = samplers.exponential(teacher, start, gaussian, noise_levels(*RANGE, 40).float())
    judge = Distance(start, sigma, None, end)

    def near(x: torch.Tensor) -> float:
        return float(((x.mean((1, 2)).abs() - 1.0).abs() < 0.25).float().mean())

    assert near(end) > 0.98 and near(transport(teacher, start, sigma, None)) < 0.35
    settings, loss = Settings(batch=32, learning_rate=1e-2), partial(consistency_loss, teacher=teacher)
    train(student, data, Budget(steps=200), held=judge, settings=settings, loss=loss)
    assert float(judge.gain(student).mean()) > 0.8
    for steps in (1, 2):
        assert near(generate(student, start, consistency_levels(RANGE, steps).float(), None, noise)) > 0.85


@pytest.fixture(scope="module")
def teacher() -> sur.Surrogate:
    model = sur.Surrogate(["u"], network=NETWORK, skip="wiener", device="cpu")
    return model.fit(two_levels(), steps=150, batch=32, learning_rate=1e-2)


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory) -> sur.Surrogate:
    path = tmp_path_factory.mktemp("distil") / "run.ckpt"
    options = {"steps": 60, "batch": 32, "learning_rate": 4e-3, "checkpoint": path}
    student = teacher.distill(two_levels(), **options)
    again = teacher.distill(two_levels(), **options)  # from the checkpoint: nothing is left to do
    assert np.array_equal(student.sample(4, law="network").u, again.sample(4, law="network").u)
    with pytest.raises(CheckpointError, match=r"written with seed = 0, got seed = 1"):
        teacher.distill(two_levels(), seed=1, **options)
    return student


def test_a_distilled_model_draws_as_its_teacher_does_with_one_call(teacher, student):
    verdict = student.verdict_
    assert verdict.measure == "energy" and "teacher's" in str(verdict)
    assert {"teacher", "network spectrum", "teacher spectrum", "gaussian spectrum"} == set(verdict.beside)
    # of the same noise the same field: nearer to the teacher's than the Gaussian's
    assert student.history_[-1]["gain"] > 0.85
    made, whole, plain = (
        m.sample(100, seed=1, law=law) for m, law in ((student, "network"), (teacher, "network"), (teacher, "gaussian"))
    )
    assert float(((made.u - whole.u) ** 2).mean()) < 0.3 * float(((plain.u - whole.u) ** 2).mean())
    for steps in (None, 2):
        drawn = student.sample(4, seed=1, law="network", steps=steps)
        assert json.loads(drawn.attrs["synthetic"])["network_calls"] == (steps or 1)
    assert teacher.objective == "denoising" and teacher.log_likelihood(two_levels(20)).shape == (20,)


def test_a_distilled_model_is_a_model_like_any_other(student, tmp_path):
    again = sur.load(student.save(tmp_path / "fast.surrogate"))
    assert str(again.verdict_) == str(student.verdict_)
    for steps in (1, 3):
        a, b = (m.sample(6, seed=2, steps=steps, law="network") for m in (student, again))
        xr.testing.assert_identical(a, b)
        part = again.sample([4], seed=2, steps=steps, batch=1, law="network")
        assert float(abs(part.u - a.u.sel(member=[4])).max()) < 1e-3
    for what, ask in {
        "log_likelihood": lambda m: m.log_likelihood(two_levels(20), law="network"),
        "given": lambda m: m.given(sur.Observation(np.zeros(8), std=1.0, operator=np.eye(8))),
        "distill": lambda m: m.distill(two_levels()),
    }.items():
        with pytest.raises(ValueError, match=rf"{what} wants a network that denoises, got one trained for consistency"):
            ask(again)
    with pytest.raises(ValueError, match=r"wants sampler='consistency', got 'heun'"):
        again.sample(2, sampler="heun", law="network")
    with pytest.raises(ValueError, match=r"distill wants a trained network"):
        sur.Surrogate(["u"], network=False).fit(two_levels()).distill(two_levels())


def test_a_generator_trained_by_the_energy_score(tmp_path):
    """Bimodal under a condition: the Gaussian knows the amplitude's variance, not that there are two signs."""
    model = sur.Surrogate(["u"], ["a"], network=NETWORK, objective="energy", device="cpu")
    model.fit(two_levels(600, amplitude=True), steps=200, batch=32, learning_rate=1e-2, validation=0.3)
    rows = model.history_
    assert rows[-1]["gain"] > 0.04 and rows[-1]["loss"] < 0.98 * rows[-1]["floor"]
    assert model.verdict_.served == "network" and model.verdict_.measure == "energy"
    drawn = model.sample(200, {"a": 1.0}, seed=1)
    assert near_a_level(drawn) > 1.5 * near_a_level(model.sample(200, {"a": 1.0}, seed=1, law="gaussian"))
    assert json.loads(drawn.attrs["synthetic"])["network_calls"] == 1
    again = sur.load(model.save(tmp_path / "energy.surrogate"))
    xr.testing.assert_identical(again.sample(3, {"a": 0.7}, seed=2), model.sample(3, {"a": 0.7}, seed=2))
    with pytest.raises(ValueError, match=r"trained for energy wants steps=1, got 2"):
        model.sample(2, {"a": 1.0}, steps=2)
    with pytest.raises(ValueError, match=r"objective= wants"):
        sur.Surrogate(["u"], objective="crps").fit(two_levels())


def test_the_energy_loss_starts_at_the_gaussians_and_has_gradients():
    model, data = denoiser(law()), law().sample(normals(2, torch.arange(64), 0, (1, 6, 4)).double())
    value = energy_loss(model, InMemory(data, None, 0), 0, torch.arange(16), 0, Settings(batch=16))
    assert float(value[0].detach()) == pytest.approx(float(value[1].detach()), rel=1e-9)
    value[0].backward()
    assert float(model.network.head.convolution.weight.grad.abs().max()) > 0
    pieces = [energy_loss(model, InMemory(data, None, 0), 0, torch.arange(k, k + 8), 0, Settings(batch=16)) for k in (0, 8)]
    assert float(sum(pieces)[0].detach()) == pytest.approx(float(value[0].detach()), rel=1e-9)
