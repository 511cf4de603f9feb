"""Categories: the chain's own algebra, draws and bounds against Ising chains that are solved exactly, and a model."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import surrogates as sur
from surrogates.categories import CategoricalDenoiser, bound, frequencies, independent
from surrogates.chains import Chain, pick
from surrogates.tensor_streams import unit_fields

F64 = torch.float64
KINDS = ("absorbing", "uniform")


def random_clean(chain, n, sites, seed=0):
    p = torch.rand(n, chain.categories, sites, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return p / p.sum(1, keepdim=True)


@pytest.mark.parametrize("kind", KINDS)
def test_forgetting_is_its_closed_form(kind):
    chain, n = Chain(kind, 3), 40_000
    x = torch.full((n, 1), 1)
    t = torch.full((n,), 0.35)
    noisy = chain.noised(x, t, unit_fields(0, torch.arange(n), 0, (1,)))
    expected = np.array([0.0, 0.65, 0.0, 0.35] if kind == "absorbing" else [0.35 / 3, 0.65 + 0.35 / 3, 0.35 / 3])
    found = torch.bincount(noisy.flatten(), minlength=chain.states).numpy()
    seen = expected > 0
    assert found[~seen].sum() == 0 and stats.chisquare(found[seen], expected[seen] * n).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_back_is_bayes_rule(kind):
    chain, t, s = Chain(kind, 3), 0.7, 0.4
    q = lambda a, b, alpha: alpha * (a == b) + (1 - alpha) * (float(b == 3) if kind == "absorbing" else 1 / 3)
    clean = random_clean(chain, 1, chain.states)
    x = torch.arange(chain.states)[None]
    found = chain.back(x, clean, torch.tensor([t]), torch.tensor([s]))[0]
    for site, there in enumerate(range(chain.states)):
        prior = clean[0, :, site].numpy()
        if kind == "absorbing" and there < 3:
            prior = np.eye(3)[there]  # nothing else can have led there
        expected = np.zeros(chain.states)
        for x0 in range(3):
            reached = q(x0, there, 1 - t)
            for sooner in range(chain.states):
                alpha = (1 - t) / (1 - s)
                if reached > 0:
                    expected[sooner] += prior[x0] * q(sooner, there, alpha) * q(x0, sooner, 1 - s) / reached
        np.testing.assert_allclose(found[:, site], expected, atol=1e-12)


def ising(n, coupling, field=0.2):
    """Every state of a chain of n spins and its probability."""
    states = np.stack(np.meshgrid(*[[0, 1]] * n, indexing="ij"), -1).reshape(-1, n)
    spin = 2 * states - 1
    weight = np.exp(coupling * (spin[:, 1:] * spin[:, :-1]).sum(1) + field * spin.sum(1))
    return torch.from_numpy(states), torch.from_numpy(weight / weight.sum())


class Exact:
    """p(x₀ | x_t) of an enumerated law, by Bayes' rule over all its states."""

    def __init__(self, chain, states, probability, wrong=1.0):
        self.chain, self.states, self.probability, self.wrong = chain, states, probability, wrong
        self.logits = torch.stack([(probability[:, None] * (states == k)).sum(0) for k in range(2)]).log()

    def __call__(self, x, t, c=None):
        alpha = (1.0 - t.double()).reshape(-1, 1, 1) ** self.wrong
        same = (x[:, None] == self.states[None]).double()
        rest = torch.tensor(0.5) if self.chain.kind == "uniform" else (x == self.chain.categories)[:, None].double()
        weight = self.probability * (alpha * same + (1.0 - alpha) * rest).prod(2)
        weight = weight / weight.sum(1, keepdim=True)
        return torch.stack([(weight[:, :, None] * (self.states == k)).sum(1) for k in range(2)], dim=1)


def drawn(model, n, sites, steps, seed=0):
    u = lambda step: unit_fields(seed, torch.arange(n), step, (sites,))
    x = model.chain.forgotten(u(0))
    for i in range(steps, 0, -1):
        t, s = (torch.full((n,), k / steps, dtype=F64) for k in (i, i - 1))
        x = pick(model.chain.back(x, model(x, t), t, s), u(steps + 1 - i))
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_draws_with_the_exact_denoiser_have_the_law_of_an_ising_chain(kind):
    # many steps: the rest is of order 1/steps, here below the sampling error of χ² over all 64 states
    states, probability = ising(6, 0.5)
    n = 3000
    x = drawn(Exact(Chain(kind, 2), states, probability), n, 6, steps=80)
    counts = torch.bincount((x * 2 ** torch.arange(5, -1, -1)).sum(1), minlength=64).double().numpy()
    assert stats.chisquare(counts, probability.numpy() * n).pvalue > 1e-4
    wrong = drawn(Exact(Chain(kind, 2), states, probability ** 2 / (probability**2).sum()), n, 6, steps=80)
    counts = torch.bincount((wrong * 2 ** torch.arange(5, -1, -1)).sum(1), minlength=64).double().numpy()
    assert stats.chisquare(counts, probability.numpy() * n).pvalue < 1e-12  # the test can fail


def test_fewer_steps_lose_correlation_in_proportion_to_their_length():
    # sites that are shown in the same step do not see each other: the neighbours' correlation is short by O(1/steps)
    states, probability = ising(6, 0.7, 0.0)
    spin = 2.0 * states.double() - 1.0
    exact = float((probability * spin[:, 2] * spin[:, 3]).sum())
    model, n = Exact(Chain("absorbing", 2), states, probability), 8000
    short = []
    for steps in (4, 8, 16):
        y = 2.0 * drawn(model, n, 6, steps, seed=steps).double() - 1.0
        short.append(exact - float((y[:, 1:] * y[:, :-1]).mean(0)[2]))
    assert exact == pytest.approx(math.tanh(0.7), abs=1e-12)
    assert 0.25 > short[0] > short[1] > short[2] > -0.01 and 1.4 < short[0] / short[1] < 3.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_above_the_entropy_and_near_it(kind):
    states, probability = ising(6, 0.5)
    entropy = float(-(probability * probability.log()).sum())
    index = torch.multinomial(probability, 4096, replacement=True, generator=torch.Generator().manual_seed(3))
    model = Exact(Chain(kind, 2), states, probability)
    found = bound(model, states[index], None, torch.arange(4096), 1, 0, 4096)
    log = -probability[index].log()
    excess, error = float((found - log).mean()), float((found - log).std() / 64)
    assert -3 * error < excess < 0.03 * entropy + 3 * error
    alone = independent(model.logits, states[index])
    assert float(found.mean()) < float(alone.mean()) - 0.2  # what sites share is worth that much
    off = bound(Exact(Chain(kind, 2), states, probability, wrong=2.0), states[index], None, torch.arange(4096), 1, 0, 4096)
    paired = float((off - found).std() / 64)
    assert kind == "absorbing" or float((off - found).mean()) > 3 * paired  # a wrong α costs; hidden sites carry none


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_zeros_is_independent_sites(kind):
    torch.manual_seed(0)
    logits = torch.randn(3, 5).double()
    x = torch.distributions.Categorical(logits=logits.T).sample((20_000,))

    class Nothing(torch.nn.Module):
        def forward(self, inputs, features):
            return inputs.new_zeros(len(inputs), 3, *inputs.shape[2:])

    denoiser = CategoricalDenoiser(Nothing(), Chain("absorbing", 3), logits, None)
    alone = independent(logits, x)
    found = bound(denoiser, x, None, torch.arange(20_000), 0, 0, 20_000)
    assert abs(float(found.mean() - alone.mean())) < 4 * float((found - alone).std()) / 141
    torch.testing.assert_close(frequencies(x, 3).softmax(0), logits.softmax(0), atol=0.02, rtol=0.1)


def phases(n=400, size=8, seed=0):
    """Ising-like phases: a smooth periodic field above or below its median, coded 3 and 7."""
    rng = np.random.default_rng(seed)
    k = np.fft.fftfreq(size) ** 2
    smooth = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, size, size))) / (0.01 + k[:, None] + k)).real
    values = np.where(smooth > 0.0, 7, 3).astype(np.int16)
    attrs = {"flag_values": np.array([3, 7], np.int16), "flag_meanings": "ice water"}
    coords = {"x": np.arange(size), "y": np.arange(size)}
    return xr.Dataset({"phase": (("member", "y", "x"), values, attrs)}, coords, {"boundary_x": "periodic", "boundary_y": "periodic"})


def test_a_trained_model_beats_independent_sites_and_its_file_is_the_same_model(tmp_path):
    ds = phases()
    model = sur.CategoricalSurrogate("phase", network={"kind": "unet", "widths": [12, 16]}).fit(ds, seed=0, steps=120, batch=32)
    assert model.verdict_.served == "network" and model.verdict_.gain > 0.1
    made = model.sample(64, seed=2, steps=24)
    assert made.phase.dtype == np.int16 and set(np.unique(made.phase)) <= {3, 7}
    assert made.phase.attrs["flag_meanings"] == "ice water"
    same = lambda d: float((d.phase == d.phase.roll(x=1)).mean())
    alone = model.sample(64, seed=2, law="independent")
    assert same(alone) < 0.56 and abs(same(made) - same(ds)) < 0.5 * (same(ds) - same(alone))
    xr.testing.assert_equal(model.sample([5], seed=2, steps=24).phase, made.phase.isel(member=[5]))
    again = sur.CategoricalSurrogate.load(model.save(tmp_path / "phases.surrogate"))
    xr.testing.assert_identical(again.sample(3, seed=4, steps=8), model.sample(3, seed=4, steps=8))
    lower = model.log_likelihood_bound(phases(20, seed=9))
    assert float(lower.mean()) / 64 > -math.log(2) + 0.1
    assert str(again.verdict_).startswith("the network serves: by the bound")


def test_bad_input_is_one_clear_error():
    ds = phases(60)
    with pytest.raises(TypeError, match="whole numbers"):
        sur.CategoricalSurrogate("phase").fit(ds.astype(float))
    other = ds.copy(deep=True)
    other["phase"][0, 0, 0] = 5
    with pytest.raises(ValueError, match=r"wants the categories \[3, 7\], got \[5\] too"):
        sur.CategoricalSurrogate("phase").fit(other)
    with pytest.raises(KeyError, match="was wanted"):
        sur.CategoricalSurrogate("fase").fit(ds)
    with pytest.raises(ValueError, match="chain= wants one of"):
        sur.CategoricalSurrogate("phase", chain="masked")
    with pytest.raises(RuntimeError, match="fitted first"):
        sur.CategoricalSurrogate("phase").sample(1)
    model = sur.CategoricalSurrogate("phase", network=False).fit(ds)
    with pytest.raises(ValueError, match="law= wants 'independent'"):
        model.sample(1, law="network")


