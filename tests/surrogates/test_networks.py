"""The boundary-aware U-Net: its padding against torch's, its symmetries, odd sizes, and what its inputs carry."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from surrogates.building import network_config
from surrogates.denoisers import Denoiser, coordinate_channels, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import NETWORKS, UNet
from surrogates.networks.attention import Attention
from surrogates.networks.padding import pad

torch.set_num_threads(1)
MODES = {"periodic": "circular", "reflect": "replicate"}


@pytest.mark.parametrize("activate", [False, True])
@pytest.mark.parametrize("boundary", list(MODES))
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding_and_its_adjoint_against_torch(boundary, axes, activate):
    x = torch.randn(2, 3, *range(4, 4 + axes), generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours = pad(x, 1, (boundary,) * axes, activate=activate)
    theirs = functional.pad(functional.silu(x) if activate else x, (1, 1) * axes, mode=MODES[boundary])
    assert torch.allclose(ours, theirs, atol=1e-6 * activate, rtol=0)
    g = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    mine, other = (torch.autograd.grad((out * g).sum(), x)[0] for out in (ours, theirs))
    assert torch.allclose(mine, other, atol=1e-6)


@pytest.mark.parametrize("boundary", list(MODES))
def test_the_adjoint_leaves_its_argument_alone(boundary):
    """One member, one channel: the interior of the gradient is a contiguous view, and must still be copied."""
    x = torch.randn(1, 1, 5, requires_grad=True)
    out = pad(x, 1, (boundary,))
    g = torch.arange(7.0).reshape(1, 1, 7)
    torch.autograd.grad(out, x, g)
    assert torch.equal(g, torch.arange(7.0).reshape(1, 1, 7))


def random_unet(boundary: tuple[str, ...], inputs: int = 2) -> UNet:
    torch.manual_seed(0)
    net = UNet(inputs, 1, features=3, boundary=boundary, widths=(8, 12, 16))
    for parameter in net.parameters():  # the zero-started layers too
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def test_a_periodic_network_commutes_with_shifts_of_its_coarsest_cell():
    net = random_unet(("periodic", "periodic"))
    x, f = torch.randn(2, 2, 16, 24), torch.randn(2, 3)
    shifted = net(x.roll((4, 8), (2, 3)), f).detach()
    assert torch.allclose(shifted, net(x, f).roll((4, 8), (2, 3)), atol=1e-4 * float(shifted.std()))
    walls = random_unet(("reflect", "reflect"))
    assert not torch.allclose(walls(x.roll(4, 2), f), walls(x, f).roll(4, 2), atol=1e-2 * float(shifted.std()))


@pytest.mark.parametrize("shape", [(33, 49), (9,), (7, 8, 9), (8, 8)])
def test_any_size_and_number_of_axes(shape):
    net = UNet(2, 1, features=3, boundary=("reflect",) * len(shape), widths=(4, 6, 8))
    assert net(torch.randn(2, 2, *shape), torch.randn(2, 3)).shape == (2, 1, *shape)


def test_default_size_is_within_the_stated_range():
    net = UNet(6, 1, features=15, boundary=("periodic", "periodic"))
    assert 2.5e5 < sum(p.numel() for p in net.parameters()) < 1e6


@pytest.mark.parametrize("skip", ["wiener", "plain"])
def test_a_fresh_denoiser_is_its_skip(skip):
    law = Gaussian.of_spectrum(SpectralModes((8, 8), ("periodic", "periodic")), torch.full((1, 8, 8), 0.5))
    net = UNet(
        input_channels(skip, 1, 4), 1, features=feature_count(skip, 1, 0), boundary=("periodic",) * 2, widths=(8, 8)
    )
    static = coordinate_channels((8, 8), ("periodic", "periodic"))
    denoiser = Denoiser(net, law, skip, (0.01, 10.0), static)
    x, sigma = torch.randn(3, 1, 8, 8), torch.tensor([0.02, 0.7, 9.0])
    want = law.denoise(x, sigma) if skip == "wiener" else x / (1 + sigma**2)[:, None, None, None]
    assert torch.allclose(denoiser(x, sigma), want, atol=1e-5)


def test_the_network_is_told_the_amplitude_of_a_sample():
    """Two samples that differ only by a factor have features that differ by its logarithm."""
    law = Gaussian.of_spectrum(SpectralModes((8, 8), ("periodic", "periodic")), torch.ones(1, 8, 8))
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, inputs, features):
            seen.append(features)
            return inputs[:, :1]

    denoiser = Denoiser(Spy(), law, "wiener", (0.01, 10.0))
    x = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1) * torch.tensor([1.0, 3.0])[:, None, None, None]
    denoiser(x, 0.5)
    difference = seen[0][1] - seen[0][0]
    assert int(torch.isclose(difference, torch.log(torch.tensor(3.0)), atol=1e-3).sum()) == 2


def test_unknown_skip():
    with pytest.raises(ValueError, match=r"wiener.*plain.*got 'none'"):
        Denoiser(torch.nn.Identity(), None, "none", (0.1, 1.0))  # type: ignore[arg-type]


SMALL = {
    "unet": {"widths": (8, 16), "depth": 1, "embedding": 16, "attention": True},
    "dit": {"patch": 2, "width": 16, "depth": 2, "heads": 2, "embedding": 16},
    "fno": {"width": 6, "depth": 2, "embedding": 16},
}


def shaken(kind: str, boundary: tuple[str, ...], **options) -> torch.nn.Module:
    """A network far from its start, where the zero layers too have values."""
    torch.manual_seed(0)
    given = SMALL[kind] | ({"modes": (3,) * len(boundary)} if kind == "fno" else {}) | options
    net = NETWORKS[kind](2, 1, features=3, boundary=boundary, **given)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


@torch.no_grad()
@pytest.mark.parametrize(("kind", "shift"), [("unet", 2), ("dit", 2), ("fno", 1)])
@pytest.mark.parametrize("axes", [1, 2])
def test_on_a_periodic_grid_they_commute_with_shifts(kind, shift, axes):
    """By the coarsest cell, by a patch, by one cell; between walls they do not."""
    x, f, along = torch.randn(2, 2, *(8, 12)[:axes]), torch.randn(2, 3), tuple(range(2, 2 + axes))
    by = (shift, 3 * shift)[:axes]
    for boundary, same in (("periodic", True), ("reflect", False)):
        net = shaken(kind, (boundary,) * axes)
        a, b = net(x.roll(by, along), f), net(x, f).roll(by, along)
        assert float((a - b).abs().max() / b.std()) < 1e-4 if same else float((a - b).abs().max() / b.std()) > 1e-2


@torch.no_grad()
def test_a_transformer_between_walls_knows_the_wall_from_the_middle():
    net = shaken("dit", ("reflect",))
    out = net(torch.ones(1, 2, 16), torch.zeros(1, 3)).detach()
    assert float(out.std()) > 1e-2
    free = shaken("dit", ("periodic",))(torch.ones(1, 2, 16), torch.zeros(1, 3)).detach().reshape(-1, 2)
    assert float(free.std(0).max()) < 1e-4 * float(free.abs().max())


def test_attention_is_softmax_of_rotated_products():
    """Against the formula written out, on a periodic axis of six cells."""
    torch.manual_seed(0)
    layer = Attention(4, 1, ("periodic",))
    torch.nn.init.normal_(layer.out.weight)
    h = torch.randn(1, 6, 4)
    q, (k, v) = layer.query(h)[0], layer.pair(h)[0].chunk(2, dim=-1)
    q, k = (
        torch.view_as_complex(torch.stack(torch.nn.functional.normalize(p, dim=-1).chunk(2, -1), -1)) for p in (q, k)
    )
    turn = torch.exp(2j * math.pi * torch.arange(6)[:, None] * torch.tensor([1, 2]) / 6)
    scores = ((q * turn)[:, None] * (k * turn)[None].conj()).real.sum(-1) * 4 * math.log(8)
    want = h[0] + layer.out(torch.softmax(scores, -1) @ v)
    assert torch.allclose(layer(h, (6,))[0], want, atol=1e-5)


def test_the_spectral_layer_is_a_convolution():
    """Its answer to a point is its kernel: every other answer is the sum of shifted kernels."""
    net = shaken("fno", ("periodic",)).blocks[0].spectral
    x = torch.randn(1, 6, 9)
    points = torch.zeros(6, 6, 9)
    points[torch.arange(6), torch.arange(6), 0] = 1.0
    kernels = net(points)
    want = sum(x[0, i, j] * kernels[i].roll(j, -1) for i in range(6) for j in range(9))
    assert torch.allclose(net(x)[0], want, atol=1e-4)


@pytest.mark.parametrize("kind", list(NETWORKS))
@pytest.mark.parametrize("shape", [(32,), (33,), (32, 48), (9, 10, 11)])
def test_any_size_starts_at_zero_in_bf16_too(kind, shape):
    options = network_config(kind, shape)
    net = NETWORKS[options.pop("kind")](
        3, 2, features=5, boundary=("periodic", "reflect", "dirichlet")[: len(shape)], **options
    )
    x, f = torch.randn(2, 3, *shape), torch.randn(2, 5)
    out = net(x, f)
    assert out.shape == (2, 2, *shape)
    assert not bool(out.any())
    with torch.autocast("cpu", torch.bfloat16):
        (net(x, f).float() - 1.0).square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", list(NETWORKS))
@pytest.mark.parametrize("shape", [(32, 32), (64, 64)])
def test_default_sizes_are_within_the_stated_range(kind, shape):
    options = network_config(kind, shape)
    net = NETWORKS[options.pop("kind")](3, 1, features=15, boundary=("periodic",) * 2, **options)
    assert 2.5e5 < sum(p.numel() for p in net.parameters()) < 1e6


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"attend": True}])
def test_given_fields_are_seen_stacked_or_attended_to(options):
    torch.manual_seed(0)
    net = UNet(3, 1, features=3, boundary=("periodic",), widths=(8, 8), context=1, **options)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, f, given = torch.randn(1, 2, 16), torch.randn(1, 3), torch.randn(1, 1, 16)
    outs = [net(torch.cat([x, field], 1), f).detach() for field in (given, -given)]
    assert float((outs[0] - outs[1]).abs().max()) > 0.05 * float(outs[0].std())
    assert (net.encoder is not None) == bool(options)
    shifted = net(torch.cat([x, given], 1).roll(2, 2), f)
    assert torch.allclose(shifted, outs[0].roll(2, 2), atol=1e-3 * float(shifted.std()))


def test_unknown_network():
    with pytest.raises(ValueError, match=r"dit.*fno.*unet.*got 'resnet'"):
        network_config("resnet", (8, 8))
