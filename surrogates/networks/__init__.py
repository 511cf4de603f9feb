"""Backbones: any module called as network(inputs, features) with inputs (n, channels, *space), features (n, k)."""

from surrogates.networks.unet import UNet

__all__ = ["UNet"]
