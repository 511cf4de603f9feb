"""`Surrogate`: learn the law of an ensemble of fields, draw from it, condition it, keep it in one file.

The law is p(x | c) of the fields x given scalar conditions c. `fit` learns a Gaussian and a network and keeps both;
`verdict_` says which one serves (`fitting.py`). Draws follow the probability flow with the integrator that is exact for
the Gaussian part (`samplers.py`); the noise of member i is a function of (seed, i) alone.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from surrogates import files, fitting, layouts, packing
from surrogates.building import NetworkOption
from surrogates.cascades import planned
from surrogates.densities import log_densities
from surrogates.distilling import distil
from surrogates.drawing import LAWS, Draw, draw_dataset, need_denoiser
from surrogates.fitting import Fitted, Plan
from surrogates.gaussian import Gaussian
from surrogates.guidance import Observation, observe
from surrogates.latents import Latent, reconstruction_error
from surrogates.parallel import local_device
from surrogates.serving import Verdict
from surrogates.training import Budget, Settings


class NotFittedError(RuntimeError):
    """The surrogate has learned nothing yet; call fit(ds) first, or sur.load(path).

    >>> Surrogate(["u"]).sample(members=1)
    Traceback (most recent call last):
    ...
    surrogates.surrogate.NotFittedError: the surrogate must be fitted first; call fit(ds), or sur.load(path)
    """


class Surrogate:
    """A generative model of the fields in a Dataset.

    Parameters
    ----------
    variables
        names of the variables to learn together; they share their dimensions.
    condition
        names of conditions: one number per sample, or a field (it has the space dimensions).
    process
        the noising process whose path the samplers walk: "edm", "vp", "sub-vp", "cosine", "flow", "ve", "chain"
        (DDPM's), all of which share one network; or a process of fields, for which the network is trained: "heat" (the
        heat equation) or "coloured" (noise with the data's spectrum).
    network
        None or "unet", "dit" (transformer on patches), "fno" (spectral), a mapping of options with its "kind", a
        factory called as factory(inputs, outputs, features=, boundary=), an nn.Module called as
        network(inputs, features) (then choose `skip`), or False for the Gaussian alone.
    skip
        "wiener", "plain", or "auto" to choose by held-out denoising after a short pilot.
    noise
        "spectrum": levels log-uniform over the range of the data's spectrum; "edm": Karras' published levels.
    boundary
        "periodic", "reflect" or "dirichlet" for all axes or per axis; None reads the attributes boundary_<axis>. Global
        latitudes and longitudes are a sphere ("pole"); cells that are NaN in every sample are no part of the domain.
    static, coordinates
        variables of space alone that the network sees; whether it sees where a cell lies (None: unless homogeneous).
    objective
        what the network is trained for: "denoising", or "energy": fields by one network call, judged by their energy
        score alone; strongest where conditions tell much of the field.
    device
        a torch device; None takes a GPU if there is one.

    Learned: `gaussian_`, `baseline_` (the Gaussian field without conditions), `verdict_`, `history_`, `noise_range_`.

    >>> rng = np.random.default_rng(0)
    >>> u = xr.DataArray(rng.normal(size=(60, 16)), dims=("member", "x"), coords={"x": np.arange(16.0)})
    >>> model = Surrogate(["u"], network=False).fit(xr.Dataset({"u": u}), seed=0)
    >>> model.sample(members=3, seed=1).u.shape, str(model.verdict_)
    ((3, 16), 'the Gaussian serves: no network was trained')
    """

    def __init__(
        self,
        variables: Sequence[str],
        condition: Sequence[str] | None = None,
        process: str = "edm",
        network: NetworkOption = None,
        *,
        skip: str = "auto",
        noise: str = "spectrum",
        boundary: Mapping[str, str] | str | None = None,
        static: Sequence[str] = (),
        coordinates: bool | None = None,
        objective: str = "denoising",
        device: str | None = None,
    ):
        self.variables = _names(variables, "variables")
        self.condition = _names(condition or (), "condition")
        self.process, self.network, self.skip, self.noise = process, network, skip, noise
        self.boundary, self.objective = boundary, objective
        self.static, self.coordinates, self.device = _names(static, "static"), coordinates, device
        self.fitted_: Fitted | None = None
        self.observation_: Observation | None = None

    def fit(
        self,
        ds: xr.Dataset,
        seed: int = 0,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        batch: int = 64,
        learning_rate: float = 3e-3,
        weight: str = "posterior",
        validation: float = 0.15,
        log: str | os.PathLike[str] | None = None,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        patience: int | None = None,
        piece: int | None = None,
        memory: float = 4e9,
        workers: int = 0,
        latent: Latent | None = None,
        resolutions: Sequence[int] | None = None,
    ) -> Surrogate:
        """Learn from a Dataset; returns self. Under `torchrun` all processes share each batch (`parallel.py`).

        steps, seconds
            the budget of the network: steps (repeatable) or wall time; 2,000 steps if neither is given.
        validation
            the fraction of samples held out in whole blocks.
        log
            a CSV file that grows during training; TensorBoard's events stand beside it where that is installed.
        checkpoint
            a file to go on from after a kill, bit for bit (with `steps`); written once a minute and at every check.
        patience
            stop after so many of the eight checks without a gain on held-out samples.
        piece
            samples of a batch that are computed at once; None for all. The result is the same, to round-off.
        memory, workers
            fields of more bytes than this are not held but streamed, and the Gaussian is fitted to as many samples as
            fit; `ds` must then be open lazily (`sdesim.open`). Read by a thread, or by so many processes.

        latent
            an autoencoder to train first: the network then learns its latents (`sur.Latent`).
        resolutions
            cells of the first axis from coarse to fine, such as (16, 32, 64): a cascade, in which each level learns
            what it adds to the means of its cells (`cascades.py`).

        Raises KeyError, TypeError or ValueError for a Dataset that cannot be learned, before any work, and
        checkpoints.CheckpointError for a checkpoint of another run.
        """
        settings = Settings(
            batch, learning_rate, weight=weight, noise=self.noise, piece=piece, patience=patience,
            log=None if log is None else Path(log), progress=progress,
        )  # fmt: skip
        plan = Plan(
            self.network, self.process, self.skip, self.static, self.coordinates,
            Budget(2000 if steps is None and seconds is None else steps, seconds), settings, validation, seed,
            self._device(), None if checkpoint is None else Path(checkpoint), memory, workers, self.objective,
        )  # fmt: skip
        layout = layouts.make_layout(ds, self.variables, self.condition, self.boundary)
        way = None if resolutions is None and latent is None else planned(latent, resolutions, layout, plan)
        self.fitted_ = fitting.fit(ds, layout, plan, way)
        return self

    def sample(
        self,
        members: int | Sequence[int] = 64,
        condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        law: str | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        batch: int = 128,
    ) -> xr.Dataset:
        """Draw synthetic fields: a Dataset (member, *space) with the training data's coordinates and attributes.

        members
            how many, or which member numbers: member i is the same field (to round-off) in any selection and batch.
        condition
            a number, or one value per member, for each condition; those left out are drawn from the training values.
            A field (*space), or one per member, for each condition that is a field: these must be given.
        law
            "network", "gaussian" (with conditions), "baseline" (the plain Gaussian field); None: what the verdict says.
        sampler, steps
            "exponential" (steps + 1 network calls, 12 steps by default), or along the process "heun", "euler", "ddim",
            "dpm_2m", "unipc", "adaptive" (it chooses its steps) and, with fresh noise, "ancestral", "euler_maruyama",
            "churn", "sde_2m", "predictor_corrector". The result's attribute `synthetic` counts the network calls.
            A network made for it (`distill`, objective="energy") takes one call, a distilled one `steps` calls.

        Raises KeyError or ValueError for conditions or options that do not fit, NotFittedError before `fit`.
        """
        fitted = self._learned()
        law = self._law(law)
        numbers = np.arange(members) if isinstance(members, int | np.integer) else np.asarray(list(members))
        if len(numbers) == 0 or numbers.min() < 0:
            raise ValueError(f"members= wants a count ≥ 1 or member numbers ≥ 0, got {members!r}; ask for at least one")
        seen = None if self.observation_ is None else observe(self.observation_, fitted.layout)
        how = Draw(law, sampler, steps, self.process, seed, seen)
        return draw_dataset(fitted, numbers, condition, how, batch)

    def distill(
        self,
        ds: xr.Dataset,
        seed: int = 0,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        batch: int = 64,
        learning_rate: float = 2e-3,
        validation: float = 0.15,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Surrogate:
        """A new surrogate that draws with one network call: a consistency model of this one's flow (`one_step.py`).

        `ds` and options as in `fit`, best the same: its held-out samples give the verdict, against the Gaussian and
        beside the teacher. It samples and saves like any other; likelihoods and observations want the teacher.
        Raises ValueError for a model without a denoising network.
        """
        fitted = self._learned()
        need_denoiser(fitted, "distill")
        layouts.check_dataset(ds, self.variables, self.condition)
        budget = Budget(1000 if steps is None and seconds is None else steps, seconds)
        plan = Plan(
            self.network, self.process, self.skip, self.static, self.coordinates, budget,
            Settings(batch, learning_rate, progress=progress, label="distillation"), validation, seed, self._device(),
            None if checkpoint is None else Path(checkpoint), objective="consistency",
        )  # fmt: skip
        student = copy.copy(self)
        student.objective, student.fitted_ = "consistency", distil(fitted, ds, plan)
        return student

    def given(self, observation: Observation) -> Surrogate:
        """The same surrogate conditioned on a linear observation; its `sample` draws from the posterior.

        Exact where the Gaussian serves; with the network, guidance by the Gaussian's posterior covariance
        (`guidance.py`). Raises KeyError, TypeError or ValueError for an observation that does not fit the model.
        """
        need_denoiser(self._learned(), "given")
        observe(observation, self._learned().layout)
        posterior = copy.copy(self)
        posterior.observation_ = observation
        return posterior

    def log_likelihood(
        self, ds: xr.Dataset, *, law: str | None = None, steps: int = 32, probes: int | None = None, seed: int = 0
    ) -> xr.DataArray:
        """ln p(x | c) of every sample in nats, in the data's units, over the sample dimensions of `ds`.

        The Gaussian laws are exact. The network's is that of the probability flow at σ_min, `steps` steps, the trace
        exact up to 256 dimensions and by Hutchinson's estimator beyond (`probes`, 4 by default).
        """
        fitted = self._learned()
        layouts.check_dataset(ds, self.variables, self.condition)
        return log_densities(fitted, ds, self._law(law), steps=steps, probes=probes, seed=seed)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to one file (a zip of JSON and safetensors, nothing executable), whole or not at all."""
        return files.write_model(path, *packing.pack(self._learned(), self._options()))

    @property
    def gaussian_(self) -> Gaussian:
        """The fitted Gaussian, with its regression on the conditions."""
        return self._learned().gaussian

    @property
    def baseline_(self) -> Gaussian:
        """The fitted Gaussian field without conditions."""
        return self._learned().baseline

    @property
    def verdict_(self) -> Verdict:
        """Which law serves, and the held-out gain that decided it."""
        return self._learned().verdict

    @property
    def history_(self) -> list[dict[str, float]]:
        """The training log; run 0 and 1 are the pilots (wiener, plain), 2 the long run."""
        return self._learned().journal.rows

    @property
    def reconstruction_(self) -> xr.DataArray | None:
        """What the autoencoder loses, by wave number, as a fraction of the variance; None without one."""
        return reconstruction_error(self._learned())

    @property
    def noise_range_(self) -> tuple[float, float]:
        """(σ_min, σ_max) of the normalised data."""
        return self._learned().noise_range

    def _learned(self) -> Fitted:
        if self.fitted_ is None:
            raise NotFittedError("the surrogate must be fitted first; call fit(ds), or sur.load(path)")
        return self.fitted_

    def _law(self, law: str | None) -> str:
        """The law to draw from; ValueError for one that this model does not have."""
        fitted = self._learned()
        law = law or fitted.verdict.served
        allowed = LAWS if fitted.trained else LAWS[1:]
        if law not in allowed:
            raise ValueError(f"law= wants one of {list(allowed)} for this model, got {law!r}; choose one of these")
        return law

    def _device(self) -> torch.device:
        return torch.device(self.device or local_device())

    def _options(self) -> dict[str, Any]:
        return {
            "process": self.process,
            "skip": self.skip,
            "coordinates": self.coordinates,
            "noise": self.noise,
            "static": list(self.static),
            "objective": self.objective,
        }


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    """A tuple of names; TypeError for a lone string, which would be read letter by letter."""
    if isinstance(names, str):
        raise TypeError(f"{what}= wants a list of names, got the text {names!r}; write {what}=[{names!r}]")
    return tuple(names)
