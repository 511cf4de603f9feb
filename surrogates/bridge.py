"""`Bridge`: from the fields of one ensemble to those of another, unpaired, as from a cheap model to an expensive one.

The Schrödinger bridge between both laws (`schroedinger.py`): exact between their Gaussians, and, with a network,
between the laws themselves as far as it is learned. The noise of member i is a function of (seed, i) alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from sdesim import streams
from surrogates import data, files, layouts
from surrogates.building import NetworkOption, build_network, is_ours, network_config
from surrogates.covariance import choose, fit_gaussian
from surrogates.gaussian import Gaussian
from surrogates.journals import Journal
from surrogates.layouts import Layout, Scale
from surrogates.modes import SpectralModes
from surrogates.parallel import Ranks, local_device
from surrogates.schroedinger import BridgeNetwork, GaussianBridge, between, feature_count, pair, walk
from surrogates.sources import InMemory, Samples, Source
from surrogates.tensor_streams import Use, normals, uniforms
from surrogates.training import Budget, Settings, train

_EDGE = 1e-3  # training times keep away from the ends, where one of both expectations is the field itself


class Bridge:
    """Carries fields of one ensemble into another, or back.

    Parameters
    ----------
    variables
        names of the variables, in both Datasets, on one grid.
    sigma
        noise of the bridge, in standard deviations of the second ensemble: structures of a standard deviation well
        above it are kept, those well below are drawn anew.
    network
        as for `Surrogate`, called with features (n, m); False for the Gaussian bridge alone.
    rounds
        how often pairs are made anew by the network itself, after those of an optimal transport within batches.

    >>> rng = np.random.default_rng(0)
    >>> cheap, fine = (xr.Dataset({"u": (("member", "x"), m + rng.normal(size=(60, 8)))}) for m in (0.0, 5.0))
    >>> bridge = Bridge(["u"], sigma=0.1, network=False).fit(cheap, fine)
    >>> moved = bridge.translate(cheap, seed=1)
    >>> bool(abs(moved.u - cheap.u - 5.0).max() < 1.0)
    True
    """

    def __init__(
        self,
        variables: Sequence[str],
        sigma: float = 0.5,
        network: NetworkOption = None,
        *,
        rounds: int = 1,
        boundary: Mapping[str, str] | str | None = None,
        device: str | None = None,
    ):
        if not sigma > 0.0 or rounds < 0:
            raise ValueError(f"a bridge wants sigma > 0 and rounds ≥ 0, got {sigma} and {rounds}; choose such values")
        self.variables, self.sigma, self.network, self.rounds = tuple(variables), sigma, network, rounds
        self.boundary, self.device = boundary, torch.device(device or local_device())
        self.module_: BridgeNetwork | None = None
        self.gaussian_: GaussianBridge | None = None
        self.journal_ = Journal()

    def fit(
        self,
        first: xr.Dataset,
        second: xr.Dataset,
        seed: int = 0,
        *,
        steps: int = 2000,
        batch: int = 64,
        learning_rate: float = 3e-3,
        progress: bool = False,
    ) -> Bridge:
        """Learn from two Datasets of one grid; their members need not correspond. Returns self.

        `steps` are shared by the rounds. Raises what `Surrogate.fit` raises, and ValueError where the grids differ.
        """
        self.layout_ = layouts.make_layout(second, self.variables, (), self.boundary)
        other = layouts.make_layout(first, self.variables, (), self.boundary)
        if any(own.wet is not None or own.global_ for own in (self.layout_, other)):
            raise ValueError("a bridge wants a box without holes, got NaN or a whole sphere; fill the gaps, or give "
                             "boundary={'lat': 'reflect', 'lon': 'periodic'}")  # fmt: skip
        self.layouts_ = (replace(other, scales=self.layout_.scales), self.layout_)
        if other.boundary != self.layout_.boundary:
            raise ValueError(
                f"both want one boundary, got {other.boundary} and {self.layout_.boundary}; give boundary="
            )
        data.check_grid(first, self.layout_)
        x0, x1 = (data.fields_to_tensor(ds, own) for ds, own in zip((first, second), self.layouts_, strict=True))
        laws = [_spectral(x.double(), self.layout_.boundary) for x in (x0, x1)]
        self.gaussian_ = GaussianBridge.between(laws[0], laws[1], self.sigma)
        if self.network is False:
            return self
        torch.manual_seed(seed)
        module = self._build()
        settings = Settings(min(batch, len(x0), len(x1)), learning_rate, progress=progress)
        self._train(module, x0.to(self.device), x1.to(self.device), steps, seed, settings)
        self.module_ = module
        return self

    def _train(self, module: BridgeNetwork, x0: Tensor, x1: Tensor, steps: int, seed: int, settings: Settings) -> None:
        """Pairs by transport first, then by the network itself, in place."""
        ranks = Ranks.join()
        budget = Budget(max(1, steps // (1 + self.rounds)))
        source: Source = _Unpaired(InMemory(x0, None, seed), InMemory(x1, None, seed + 1))
        for number in range(1 + self.rounds):
            if number:
                source = InMemory(*self._own_pairs(module, x0, x1, seed + number), seed + number)
            label = "transport within batches" if number == 0 else f"round {number}"
            train(
                module, source, budget, seed=seed + number, ranks=ranks, journal=self.journal_,
                settings=replace(settings, run=number, label=label), loss=partial(_loss, transport=number == 0),
            )  # fmt: skip

    def _own_pairs(self, module: BridgeNetwork, x0: Tensor, x1: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """(x₀, x₁) of which one is the data's and the other the network's, half and half."""
        n = min(len(x0), len(x1), 1024)
        made = []
        for k, (x, times) in enumerate(((x0, (0.0, 1.0)), (x1, (1.0, 0.0)))):
            at = torch.arange(n, device=x.device)
            noise = partial(_round_noise, seed, at, x.shape[1:], k)
            grid = torch.linspace(*times, 25, device=x.device)
            with torch.no_grad():
                made.append(walk(module, x[:n], module.gaussian, grid, noise))
        return torch.cat([x0[:n], made[1]]), torch.cat([made[0], x1[:n]])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bridge to one file (`files.py`), whole or not at all; ValueError for a module of the caller's."""
        if self.gaussian_ is None:
            raise RuntimeError("the bridge must be fitted first; call fit(first, second)")
        if self.module_ is not None and not is_ours(self.network):
            raise ValueError(
                "a bridge with the caller's own module cannot be built again; save its state_dict yourself"
            )
        law = self.gaussian_
        tensors = {"a": law.a, "b": law.b, "c": law.c, "mean0": law.means[0], "mean1": law.means[1]}
        if self.module_ is not None:
            tensors |= {f"network.{k}": v for k, v in self.module_.network.state_dict().items()}
        own = None if self.module_ is None else network_config(self.network, self.layout_.shape)
        config = {"kind": "bridge", "sigma": self.sigma, "rounds": self.rounds, "network": own}
        config["layouts"] = [_layout_to_json(layout) for layout in self.layouts_]
        return files.write_model(path, config, tensors, self.journal_.rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Bridge:
        """Read what `save` wrote; raises what `load` of a surrogate raises."""
        config, tensors, rows = files.read_model(path)
        try:
            first, second = (_layout_from_json(entry) for entry in config["layouts"])
            network = False if config["network"] is None else config["network"]
            bridge = cls(second.variables, float(config["sigma"]), network, rounds=config["rounds"], device=device)
            bridge.layout_, bridge.layouts_, bridge.journal_ = second, (first, second), Journal(rows=rows)
            modes, means = SpectralModes(second.shape, second.boundary), (tensors["mean0"], tensors["mean1"])
            bridge.gaussian_ = GaussianBridge(modes, means, tensors["a"], tensors["b"], tensors["c"], bridge.sigma)
            if network:
                bridge.module_ = bridge._build()
                state = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
                bridge.module_.network.load_state_dict(state)
                bridge.module_.network.eval()
        except (KeyError, TypeError, AttributeError, RuntimeError, IndexError) as failure:
            raise files.ModelFileError(f"{path} does not hold one bridge ({failure}); save it again") from None
        return bridge

    def _build(self) -> BridgeNetwork:
        """A fresh network between both Gaussians, on the device."""
        assert self.gaussian_ is not None
        channels = self.layout_.channels
        count = feature_count(channels)
        net = build_network(self.network, 3 * channels, 2 * channels, self.layout_, features=count)
        like = torch.zeros((), dtype=torch.float32, device=self.device)
        return BridgeNetwork(net.to(self.device), self.gaussian_.to(like))

    def translate(
        self, ds: xr.Dataset, seed: int = 0, *, backwards: bool = False, steps: int = 50, law: str | None = None
    ) -> xr.Dataset:
        """The fields of `ds` carried to the other ensemble: a Dataset with that one's coordinates, members as samples.

        law "network" or "gaussian" (None: the network if there is one); `steps` network calls. Raises ValueError for
        another grid, RuntimeError before `fit`.
        """
        if self.gaussian_ is None:
            raise RuntimeError("the bridge must be fitted first; call fit(first, second)")
        law = law or ("gaussian" if self.module_ is None else "network")
        if law not in ("gaussian", "network") or (law == "network" and self.module_ is None):
            raise ValueError(f"law= wants 'gaussian'{' or' * (self.module_ is not None)}, got {law!r}; choose another")
        here, there = self.layouts_[::-1] if backwards else self.layouts_
        x = data.fields_to_tensor(ds, here).double()
        numbers = np.arange(len(x))

        def noise(k: int) -> Tensor:
            fields = [
                streams.field_normals(seed, numbers, k, channel, here.shape, streams.Purpose.BRIDGE)
                for channel in range(here.channels)
            ]
            return torch.from_numpy(np.stack(fields, axis=1)).to(x)

        times = torch.linspace(1.0, 0.0, steps + 1) if backwards else torch.linspace(0.0, 1.0, steps + 1)
        expect: Any = self.gaussian_.expect
        if law == "network":
            assert self.module_ is not None
            x = x.to(next(self.module_.parameters()))
            expect = self.module_
        with torch.no_grad():
            out = walk(expect, x, self.gaussian_.to(x), times.to(x), noise)
        return data.tensor_to_dataset(out, {}, there, numbers)


def _layout_to_json(layout: Layout) -> dict[str, Any]:
    names = ("variables", "condition", "samples", "kept", "space", "shape", "boundary")
    scales = [asdict(scale) for scale in layout.scales]
    entry: dict[str, Any] = {name: list(getattr(layout, name)) for name in names}
    return entry | {"scales": scales, "template": files.template_to_json(layout.template)}


def _layout_from_json(entry: Mapping[str, Any]) -> Layout:
    names: dict[str, Any] = {k: tuple(value) for k, value in entry.items() if k not in ("scales", "template")}
    scales = tuple(Scale(**scale) for scale in entry["scales"])
    template = files.template_from_json(entry["template"])
    return Layout(**names, scales=scales, condition_scales=(), template=template)


def _spectral(x: Tensor, boundary: tuple[str, ...]) -> Gaussian:
    """The Gaussian in spectral modes, as the bridge wants it."""
    return fit_gaussian(x, None, boundary, replace(choose(x, None, boundary), shrinkage=1.0))


@dataclass(frozen=True)
class _Unpaired:
    """Samples of two ensembles side by side, each in its own order."""

    first: InMemory
    second: InMemory

    def __len__(self) -> int:
        return max(len(self.first), len(self.second))

    def take(self, numbers: Tensor) -> Samples:
        """Fields of both."""
        return self.first.take(numbers)[0], self.second.take(numbers)[0]


def _loss(
    module: BridgeNetwork, source: Source, step: int, places: Tensor, seed: int, settings: Settings, *, transport: bool
) -> Tensor:
    """(Σ |E₀ − x₀|²/s₀² + |E₁ − x₁|²/s₁² over d, the same of the Gaussian) for some places of a step's batch."""
    whole = torch.arange(settings.batch)
    x0, x1 = source.take(step * settings.batch + whole)
    assert x1 is not None
    at, sigma = places.to(x0.device), module.gaussian.sigma
    if transport:
        x1 = x1[pair(x0, x1, sigma, uniforms(seed, whole, step, Use.PAIR))]
    x0, x1 = x0[at], x1[at]
    u = (at + uniforms(seed, at, step, Use.LEVEL)) / settings.batch
    t = (_EDGE + (1.0 - 2.0 * _EDGE) * u).to(x0)
    x = between(x0, x1, t, sigma, normals(seed, at, step, x0.shape[1:]).to(x0))
    totals = []
    for found in (module(x, t), module.gaussian.expect(x, t)):
        errors = [(a - b).square().flatten(1).mean(1) for a, b in zip(found, (x0, x1), strict=True)]
        totals.append(sum(0.5 * (e / s**2).sum() for e, s in zip(errors, module.gaussian.spread(t), strict=True)))
    return torch.stack([torch.as_tensor(total) for total in totals])


def _round_noise(seed: int, at: Tensor, shape: tuple[int, ...], lane: int, k: int) -> Tensor:
    return normals(seed, at, 2 * k + lane, shape, Use.WINDOW)
