"""Backbones: any module called as network(inputs, features) with inputs (n, channels, *space), features (n, k)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from surrogates.networks.unet import UNet

# A backbone of ours has `options(shape)`, its defaults for a grid.
NETWORKS: Mapping[str, Any] = MappingProxyType({"unet": UNet})

__all__ = ["NETWORKS", "UNet"]
