"""`CategoricalSurrogate`: the law of a field of categories (phases, land cover, states), by discrete diffusion.

Independent sites (`categories.py`) are the baseline, the network's start, and what serves where the network does not
beat them on held-out samples. Draws walk the chain back (`chains.py`); what member i draws is a function of (seed, i).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from sdesim import streams
from surrogates import data, files
from surrogates.building import NetworkOption, build_network, is_ours, network_config
from surrogates.categories import LEVELS, Bound, CategoricalDenoiser, categorical_loss, frequencies, independent
from surrogates.chains import KINDS, Chain, pick
from surrogates.checkpoints import Ledger
from surrogates.denoisers import coordinate_channels
from surrogates.drawing import condition_columns
from surrogates.journals import Journal
from surrogates.layouts import Layout, Scale, condition_values, make_layout
from surrogates.parallel import Ranks, local_device
from surrogates.serving import Verdict
from surrogates.sources import Samples
from surrogates.splitting import Parts, on, some, split
from surrogates.training import Budget, Settings, train

MOST = 64  # categories


@dataclass
class Learned:
    """What `fit` learned: `values` of the categories, `conditions` of training, `logits` of independent sites."""

    layout: Layout
    values: NDArray[Any]
    conditions: NDArray[np.float64]
    logits: Tensor
    denoiser: CategoricalDenoiser | None
    verdict: Verdict
    journal: Journal


class CategoricalSurrogate:
    """A generative model of one integer variable of a Dataset.

    Parameters
    ----------
    variable
        its name; its categories are those of the attribute `flag_values`, else the values that occur.
    condition
        names of conditions, one number per sample.
    network
        as for `Surrogate`; False for independent sites alone.
    chain
        "absorbing" (sites are hidden, and shown again) or "uniform" (they change to any category).
    boundary, device
        as for `Surrogate`.

    >>> rng = np.random.default_rng(0)
    >>> phase = xr.DataArray(rng.integers(0, 3, (60, 8)), dims=("member", "x"), attrs={"flag_meanings": "a b c"})
    >>> model = CategoricalSurrogate("phase", network=False).fit(xr.Dataset({"phase": phase}))
    >>> drawn = model.sample(members=4, seed=1).phase
    >>> drawn.shape, drawn.dtype == phase.dtype, drawn.attrs["flag_meanings"], str(model.verdict_)
    ((4, 8), True, 'a b c', 'independent sites serve: no network was trained')
    """

    def __init__(
        self,
        variable: str,
        condition: Sequence[str] = (),
        network: NetworkOption = None,
        *,
        chain: str = "absorbing",
        boundary: Mapping[str, str] | str | None = None,
        device: str | None = None,
    ):
        if chain not in KINDS:
            raise ValueError(f"chain= wants one of {list(KINDS)}, got {chain!r}; choose one of these")
        self.variable, self.condition, self.network = variable, tuple(condition), network
        self.chain, self.boundary, self.device = chain, boundary, torch.device(device or local_device())
        self.learned_: Learned | None = None

    def fit(
        self,
        ds: xr.Dataset,
        seed: int = 0,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        batch: int = 64,
        learning_rate: float = 2e-3,
        validation: float = 0.15,
        log: str | os.PathLike[str] | None = None,
        progress: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> CategoricalSurrogate:
        """Learn from a Dataset; returns self. Options as in `Surrogate.fit`.

        Raises KeyError, TypeError or ValueError for a Dataset that cannot be learned, before any work.
        """
        coded, values = self._coded(ds)
        layout = self._layout(ds, coded)
        parts = split(coded, layout, validation, 4e9)
        x, c = parts.held()
        columns = [condition_values(coded, name, layout.samples) for name in layout.condition]
        table = np.stack(columns, axis=1) if columns else np.zeros((len(x), 0))
        logits = frequencies(x[:, 0].long(), len(values))
        verdict = Verdict("gaussian", float("nan"), float("nan"), "bound")
        journal = Journal(None if log is None else Path(log))
        self.learned_ = Learned(layout, values, table, logits, None, verdict, journal)
        if self.network is not False:
            budget = Budget(2000 if steps is None and seconds is None else steps, seconds)
            settings = Settings(min(batch, len(x)), learning_rate, progress=progress, shift=self._homogeneous())
            self._train(parts, (x, c), budget, settings, seed, None if checkpoint is None else Path(checkpoint))
        return self

    def _layout(self, ds: xr.Dataset, coded: xr.Dataset) -> Layout:
        """The layout of the numbers of categories, with the variable itself as its template."""
        layout = make_layout(coded, [self.variable], self.condition, self.boundary)
        if layout.wet is not None or layout.global_ or layout.maps:
            raise ValueError("categories want a box and conditions that are numbers; give boundary=, leave fields out")
        one = ds[self.variable].isel({d: 0 for d in layout.samples if d not in layout.kept}, drop=True)
        return replace(layout, scales=(Scale(0.0, 1.0),), template=layout.template.assign({self.variable: one}))

    def _train(
        self, parts: Parts, held: Samples, budget: Budget, settings: Settings, seed: int, checkpoint: Path | None
    ) -> None:
        """The network, and the verdict on samples that nothing was chosen by."""
        learned, ranks = self._known(), Ranks.join()
        torch.manual_seed(seed)
        denoiser = self._build().to(self.device)
        (x, c), (y, d) = (some(part, 128) for part in (parts.selection(self.device), parts.verdict(self.device)))
        ledger = None
        if checkpoint is not None:
            options = {k: v for k, v in asdict(settings).items() if k not in ("log", "progress", "saving", "piece")}
            purpose = options | asdict(budget) | {"seed": seed, "chain": self.chain, "variable": self.variable}
            ledger = Ledger.open(checkpoint, purpose, writes=ranks.first)
        with parts.source(on(held, self.device), self.device, seed, 0) as source:
            train(
                denoiser, source, budget, seed=seed, held=Bound(x[:, 0].long(), c, seed), settings=settings,
                ledger=ledger, ranks=ranks, journal=learned.journal, loss=categorical_loss,
            )  # fmt: skip
        gain = Bound(y[:, 0].long(), d, seed + 1, repeats=16).gain(denoiser)
        learned.denoiser, learned.verdict = denoiser, Verdict.of(gain, "bound")

    def sample(
        self,
        members: int | Sequence[int] = 64,
        condition: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        law: str | None = None,
        steps: int = LEVELS,
        batch: int = 128,
    ) -> xr.Dataset:
        """Draw synthetic fields by `steps` network calls: a Dataset like the training data's.

        law "network" or "independent" (None: what the verdict says); otherwise as `Surrogate.sample`.
        """
        learned, law = self._known(), law or ("network" if self.verdict_.served == "network" else "independent")
        if law not in ("network", "independent") or (law == "network" and learned.denoiser is None):
            raise ValueError(f"law= wants 'independent', or 'network' where there is one, got {law!r}; choose another")
        if steps < 1:
            raise ValueError(f"steps= wants a whole number ≥ 1, got {steps}; leave it out for the default")
        numbers = np.arange(members) if isinstance(members, int | np.integer) else np.asarray(list(members))
        if len(numbers) == 0 or numbers.min() < 0:
            raise ValueError(f"members= wants a count ≥ 1 or member numbers ≥ 0, got {members!r}; ask for at least one")
        columns = condition_columns(learned, numbers, condition, seed)  # type: ignore[arg-type]
        c = data.conditions_to_tensor([columns[name] for name in self.condition], learned.layout)
        parts = []
        for first in range(0, len(numbers), batch):
            part = slice(first, first + batch)
            parts.append(self._draw(numbers[part], None if c is None else c[part], seed, law, steps))
        out = data.tensor_to_dataset(torch.cat(parts)[:, None].double(), columns, learned.layout, numbers)
        index = out[self.variable].values.astype(np.int64)
        calls = steps if law == "network" else 0
        return out.assign({self.variable: out[self.variable].copy(data=learned.values[index])}).assign_attrs(
            synthetic=f"categories by the law {law!r}, seed {seed}, {calls} network calls a member"
        )

    def _draw(self, numbers: NDArray[np.int64], c: Tensor | None, seed: int, law: str, steps: int) -> Tensor:
        learned, shape = self._known(), self._known().layout.shape
        cells = int(np.prod(shape))

        def units(step: int) -> Tensor:
            index = step * cells + np.arange(cells)
            found = streams.uniforms(seed, numbers[:, None], index[None], streams.Purpose.SAMPLE)
            return torch.from_numpy(found.reshape(len(numbers), *shape)).to(self.device)

        if law == "independent":
            return pick(learned.logits.softmax(0).expand(len(numbers), *learned.logits.shape), units(0).cpu())
        denoiser = learned.denoiser
        assert denoiser is not None, "the law was checked"
        chain, c = denoiser.chain, None if c is None else c.to(self.device)
        x = chain.forgotten(units(0))
        with torch.no_grad():
            for i in range(steps, 0, -1):
                t, s = (torch.full((len(x),), level / steps, device=self.device) for level in (i, i - 1))
                x = pick(chain.back(x, denoiser(x, t, c), t, s).double(), units(steps + 1 - i))
        return x.cpu()

    def log_likelihood_bound(self, ds: xr.Dataset, *, repeats: int = 16, seed: int = 0) -> xr.DataArray:
        """A lower bound on ln p(x | c) of every sample in nats, of the law that serves, over the sample dimensions.

        Exact for independent sites; else the mean of `repeats` estimates of the path's bound.
        """
        learned = self._known()
        coded, _ = self._coded(ds, learned.values)
        x, c = data.fields_to_tensor(coded, learned.layout), data.dataset_conditions(coded, learned.layout)
        x, c = on((x, c), self.device)
        index = x[:, 0].long()
        value = -independent(learned.logits.to(index.device), index)
        if self.verdict_.served == "network":
            assert learned.denoiser is not None, "it serves"
            value = value + Bound(index, c, seed, repeats).gain(learned.denoiser).double() * index[0].numel()
        sizes = {d: ds.sizes[d] for d in learned.layout.samples}
        coords = {d: ds.coords[d] for d in sizes if d in ds.coords}
        attrs = {"long_name": "lower bound on the log-likelihood", "units": "1"}
        return xr.DataArray(value.cpu().numpy().reshape(tuple(sizes.values())), coords, list(sizes), "bound", attrs)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to one file (`files.py`), whole or not at all; ValueError for a module of the caller's."""
        learned = self._known()
        if learned.denoiser is not None and not is_ours(self.network):
            raise ValueError("a model with the caller's own module cannot be built again; save its state_dict yourself")
        layout = learned.layout
        names = ("variables", "condition", "samples", "kept", "space", "shape", "boundary")
        config = {
            "kind": "categorical", "chain": self.chain, "variable": self.variable,
            "network": None if learned.denoiser is None else network_config(self.network, layout.shape),
            "layout": {name: list(getattr(layout, name)) for name in names},
            "condition_scales": [asdict(scale) for scale in layout.condition_scales],
            "template": files.template_to_json(layout.template), "values": learned.values.tolist(),
            "dtype": learned.values.dtype.str, "verdict": [learned.verdict.served, repr(learned.verdict.gain),
                                                           repr(learned.verdict.error)],
        }  # fmt: skip
        tensors = {"logits": learned.logits, "conditions": torch.from_numpy(np.ascontiguousarray(learned.conditions))}
        if learned.denoiser is not None:
            tensors |= {f"network.{k}": v for k, v in learned.denoiser.network.state_dict().items()}
        return files.write_model(path, config, tensors, learned.journal.rows)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> CategoricalSurrogate:
        """Read what `save` wrote; raises what `load` of a surrogate raises."""
        config, tensors, rows = files.read_model(path)
        try:
            names: dict[str, Any] = {name: tuple(value) for name, value in config["layout"].items()}
            scales = tuple(Scale(**scale) for scale in config["condition_scales"])
            layout = Layout(**names, scales=(Scale(0.0, 1.0),), condition_scales=scales,
                            template=files.template_from_json(config["template"]))  # fmt: skip
            network = False if config["network"] is None else config["network"]
            model = cls(str(config["variable"]), layout.condition, network, chain=str(config["chain"]), device=device)
            served, gain, error = config["verdict"]
            model.learned_ = Learned(
                layout, np.array(config["values"], config["dtype"]), tensors["conditions"].numpy(), tensors["logits"],
                None, Verdict(str(served), float(gain), float(error), "bound"), Journal(rows=rows),
            )  # fmt: skip
            if network:
                denoiser = model._build()
                state = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
                denoiser.network.load_state_dict(state)
                model.learned_.denoiser = denoiser.to(model.device).eval()
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as failure:
            raise files.ModelFileError(f"{path} does not hold one such model ({failure}); save it again") from None
        return model

    @property
    def verdict_(self) -> Verdict:
        """Which law serves, and the held-out gain that decided it."""
        return self._known().verdict

    def _known(self) -> Learned:
        if self.learned_ is None:
            raise RuntimeError("the model must be fitted first; call fit(ds), or CategoricalSurrogate.load(path)")
        return self.learned_

    def _homogeneous(self) -> bool:
        """Whether fields rolled along the axes have the same law."""
        learned = self._known()
        same = (learned.logits - learned.logits.flatten(1)[:, :1].reshape(-1, *[1] * len(learned.layout.shape))).abs()
        return all(kind == "periodic" for kind in learned.layout.boundary) and float(same.max()) < 1e-9

    def _build(self) -> CategoricalDenoiser:
        """A fresh network before the logits of independent sites."""
        learned = self._known()
        chain, layout = Chain(self.chain, len(learned.values)), learned.layout
        static = None if self._homogeneous() else coordinate_channels(layout.shape, layout.boundary)
        inputs, features = CategoricalDenoiser.sizes(chain, static, len(layout.condition))
        net = build_network(self.network, inputs, chain.categories, layout, features=features)
        return CategoricalDenoiser(net, chain, learned.logits, static)

    def _coded(self, ds: xr.Dataset, values: NDArray[Any] | None = None) -> tuple[xr.Dataset, NDArray[Any]]:
        """The Dataset with the number of its category for every value, and the categories' values."""
        if not isinstance(ds, xr.Dataset) or self.variable not in ds.data_vars:
            held = sorted(map(str, ds.data_vars)) if isinstance(ds, xr.Dataset) else type(ds).__name__
            raise KeyError(f"variable {self.variable!r} was wanted, the Dataset has {held}; name one of these")
        array = ds[self.variable]
        if array.dtype.kind not in "iub":
            raise TypeError(f"categories are whole numbers, {self.variable!r} is of {array.dtype}; use .astype(int)")
        if values is None:
            given = array.attrs.get("flag_values")
            values = np.unique(array.values) if given is None else np.unique(np.asarray(given)).astype(array.dtype)
        if not 2 <= len(values) <= MOST:
            raise ValueError(f"{self.variable!r} wants 2 to {MOST} categories, got {len(values)}; group them")
        place = np.searchsorted(values, array.values).clip(max=len(values) - 1)
        if (values[place] != array.values).any():
            strange = np.unique(array.values[values[place] != array.values])[:5]
            raise ValueError(f"{self.variable!r} wants the categories {values.tolist()}, got {strange.tolist()} too; "
                             "add them to flag_values, or drop these samples")  # fmt: skip
        return ds.assign({self.variable: array.copy(data=place.astype(np.float32))}), values
