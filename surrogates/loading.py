"""`load`: a fitted surrogate from its file."""

from __future__ import annotations

import os

from torch import nn

from surrogates import files, packing
from surrogates.surrogate import Surrogate


def load(path: str | os.PathLike[str], *, network: nn.Module | None = None, device: str | None = None) -> Surrogate:
    """Read a model written by `Surrogate.save`.

    `network` is needed only where the surrogate was fitted with a module of the caller's: its weights are filled in.
    Raises FileNotFoundError, or ModelFileError for a truncated, foreign or damaged file.

    >>> import tempfile, numpy as np, xarray as xr
    >>> u = xr.DataArray(np.random.default_rng(0).normal(size=(60, 16)), dims=("member", "x"))
    >>> model = Surrogate(["u"], network=False).fit(xr.Dataset({"u": u}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(model.save(folder + "/white.surrogate"))
    >>> bool((again.sample(2, seed=3).u == model.sample(2, seed=3).u).all())
    True
    """
    config, tensors, log = files.read_model(path)
    fitted, options = packing.unpack(config, tensors, log, str(path), network)
    layout = fitted.layout
    model = Surrogate(layout.variables, (*layout.condition, *layout.maps), options["process"], network, device=device)
    model.skip, model.noise = options["skip"], options["noise"]
    model.coordinates, model.static = options["coordinates"], tuple(options["static"])
    model.objective = options.get("objective", "denoising")
    if fitted.denoiser is not None:
        fitted.denoiser.to(model._device())
    model.fitted_ = fitted
    return model
