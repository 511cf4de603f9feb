"""surrogates: score-based generative models of physical fields, learned from any xarray Dataset.

>>> import numpy as np, xarray as xr, surrogates as sur
>>> u = xr.DataArray(np.random.default_rng(0).normal(size=(60, 16)), dims=("member", "x"))
>>> model = sur.Surrogate(["u"], network=False).fit(xr.Dataset({"u": u}))
>>> model.sample(members=4, seed=1).sizes["member"]
4
"""

from __future__ import annotations

from surrogates.bridge import Bridge
from surrogates.categorical import CategoricalSurrogate
from surrogates.files import ModelFileError
from surrogates.guidance import Observation
from surrogates.latents import Latent
from surrogates.loading import load

# At once, not lazily: importing the module surrogates.report later would put it in the function's place.
from surrogates.report import report
from surrogates.scores import evaluate
from surrogates.surrogate import NotFittedError, Surrogate

__all__ = [
    "Bridge", "CategoricalSurrogate", "Latent", "ModelFileError", "NotFittedError", "Observation", "Surrogate",
    "evaluate", "load", "report",
]  # fmt: skip
