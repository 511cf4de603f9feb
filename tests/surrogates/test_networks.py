"""The boundary-aware U-Net: its padding against torch's, its symmetries, odd sizes, and what its inputs carry."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from surrogates.denoisers import Denoiser, coordinate_channels, feature_count, input_channels
from surrogates.gaussian import Gaussian
from surrogates.modes import SpectralModes
from surrogates.networks import UNet
from surrogates.networks.padding import pad

torch.set_num_threads(1)
MODES = {"periodic": "circular", "reflect": "replicate"}


@pytest.mark.parametrize("boundary", list(MODES))
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_padding_and_its_adjoint_against_torch(boundary, axes):
    x = torch.randn(2, 3, *range(4, 4 + axes), generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours = pad(x, 1, (boundary,) * axes)
    theirs = functional.pad(x, (1, 1) * axes, mode=MODES[boundary])
    assert torch.equal(ours, theirs)
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
