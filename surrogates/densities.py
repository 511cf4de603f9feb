"""Likelihoods under the laws of a fitted model, in the units of the data."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from torch import Tensor

from surrogates import data
from surrogates.drawing import bind, need_denoiser
from surrogates.fitting import Fitted
from surrogates.likelihood import log_likelihood
from surrogates.processes import noise_levels


def log_densities(
    fitted: Fitted, ds: xr.Dataset, law: str, *, steps: int, probes: int | None, seed: int
) -> xr.DataArray:
    """`log_density` of every sample of a Dataset, over its sample dimensions."""
    if law == "network":
        need_denoiser(fitted, "log_likelihood")
    layout = fitted.layout
    sizes = {d: ds.sizes[d] for d in layout.samples}
    x, c = data.fields_to_tensor(ds, layout), data.dataset_conditions(ds, layout)
    value = log_density(fitted, x, c, law, steps=steps, probes=probes, seed=seed)
    coords = {d: ds.coords[d] for d in sizes if d in ds.coords}
    attrs = {"long_name": "log-likelihood", "units": "1"}
    return xr.DataArray(
        value.cpu().numpy().reshape(tuple(sizes.values())), coords, list(sizes), "log_likelihood", attrs
    )


def log_density(
    fitted: Fitted, x: Tensor, c: Tensor | None, law: str, *, steps: int, probes: int | None, seed: int
) -> Tensor:
    """ln p(x | c) in nats of the data's units, (n,), float64, under one of LAWS; x, c normalised.

    The volume of the normalisation, Σ ln factor over all cells (and of a sphere's weights), is taken off. Options as in
    `Surrogate.log_likelihood`.
    """
    gaussian = fitted.baseline if law == "baseline" else fitted.gaussian
    if law == "network":
        denoise, x, c = bind(fitted, x, c)
        levels = noise_levels(*fitted.noise_range, steps).flip(0).to(x)
        probes = probes or (None if gaussian.dimensions <= 256 else 4)
        value = (
            log_likelihood(
                denoise, x, gaussian.to(x), levels, c, probes=probes, seed=seed, corruption=fitted.corruption
            )[0]
            .double()
            .cpu()
        )
    else:
        value = gaussian.log_likelihood(x.double(), None if c is None else c.double())
    factors = sum(math.log(scale.factor) for scale in fitted.layout.scales)
    cells, channels = fitted.layout.cells, fitted.layout.channels
    return value - factors * cells + channels * float(np.log(fitted.layout.root * np.ones(cells)).sum())
