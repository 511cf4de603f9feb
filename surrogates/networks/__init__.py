"""Backbones: any module called as network(inputs, features) with inputs (n, channels, *space), features (n, k)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from surrogates.networks.dit import DiT
from surrogates.networks.fno import FNO
from surrogates.networks.masked import OnGrid
from surrogates.networks.unet import UNet

# A backbone of ours has `options(shape)`, its defaults for a grid.
NETWORKS: Mapping[str, Any] = MappingProxyType({"unet": UNet, "dit": DiT, "fno": FNO})

__all__ = ["FNO", "NETWORKS", "DiT", "OnGrid", "UNet"]
