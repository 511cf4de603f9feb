"""Training: one plain loop.

AdamW; the learning rate rises linearly over the first twentieth and falls as a cosine; gradients are clipped by their
norm. Two averages of the weights are followed (`averages.py`); every so often they are judged by held-out denoising, at
the end averages of other lengths too, and the best of all is kept: a network that begins to memorise stops paying. The
budget is a number of steps (repeatable bit for bit on one machine) or seconds of wall time.

Order, noise levels and noise of a step are functions of (seed, step, position in the batch). So a batch may be computed
in pieces (`Settings.piece`), shared by processes (`parallel.py`) or begun again after a kill (`checkpoints.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from surrogates import averages
from surrogates.averages import Averages
from surrogates.checkpoints import Ledger
from surrogates.denoisers import Denoiser, denoising_errors, loss_weight, nats, noise_levels_at
from surrogates.journals import Journal
from surrogates.parallel import Ranks
from surrogates.sources import Source
from surrogates.tensor_streams import Use, normals, uniforms

WIDTHS = (0.03, 0.05, 0.075, 0.10, 0.14, 0.20)  # relative widths of the averages that are judged at the end
SNAPSHOTS = 16  # of which averages of other widths are made, to a few percent of what parts them


@dataclass(frozen=True)
class Budget:
    """How long to train: `steps`, or `seconds` of wall time, or both (whichever ends first)."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise ValueError("a budget wants steps= or seconds=, got neither; give one of them")
        if (self.steps is not None and self.steps < 1) or (self.seconds is not None and self.seconds <= 0):
            raise ValueError(f"a budget wants steps ≥ 1 and seconds > 0, got {self.steps} and {self.seconds}")

    def progress(self, step: int, elapsed: float) -> float:
        """The fraction used, 1 or more at the end."""
        by_step = step / self.steps if self.steps else 0.0
        return max(by_step, elapsed / self.seconds if self.seconds else 0.0)

    def part(self, fraction: float) -> Budget:
        """A fraction of this budget."""
        steps = None if self.steps is None else max(1, round(self.steps * fraction))
        return Budget(steps, None if self.seconds is None else self.seconds * fraction)


@dataclass
class Settings:
    """What the loop may be told; the defaults suit fields of 32² on two cores.

    piece      samples computed at once (None: the whole batch); patience  checks without a gain after which the run
    ends (None: never); shift  roll periodic, homogeneous fields at random; saving  seconds between checkpoints; run and
    label  its number in the journal and its name in the ledger.
    """

    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    weight: str = "posterior"
    noise: str = "spectrum"
    piece: int | None = None
    checks: int = 8
    patience: int | None = None
    shift: bool = False
    log: Path | None = None
    progress: bool = False
    run: int = 2
    label: str = "training"
    saving: float = 60.0

    def __post_init__(self) -> None:
        for name in ("batch", "piece", "patience", "checks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}= wants a whole number ≥ 1, got {value}; leave it out for the default")


@dataclass
class HeldOut:
    """Held-out samples with fixed noise, and the Gaussian's error on them: what every check is measured against."""

    x: Tensor
    c: Tensor | None
    levels: Tensor
    noise: Tensor
    reference: Tensor

    def errors(self, denoiser: Denoiser) -> Tensor:
        """|D − x|² for every level and sample: (levels, n)."""
        return denoising_errors(
            denoiser, self.x, self.c, self.levels, self.noise, corruption=denoiser.corruption.to(self.x)
        )

    def gain(self, denoiser: Denoiser) -> Tensor:
        """Nats per dimension over the Gaussian, one value per held-out sample."""
        return nats(self.errors(denoiser), self.reference, self.levels)


def held_out(denoiser: Denoiser, x: Tensor, c: Tensor | None, seed: int, *, levels: int = 16) -> HeldOut:
    """Fix the noise of the held-out measure for samples x (n, channels, *space)."""
    low, high = (math.log(s) for s in denoiser.noise_range)
    sigma = torch.exp(torch.linspace(low, high, levels, device=x.device, dtype=x.dtype))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(levels, *x.shape, generator=generator).to(x)
    reference = denoising_errors(denoiser.exact, x, c, sigma, noise, corruption=denoiser.corruption.to(x))
    return HeldOut(x, c, sigma, noise, reference)


class Trained(Protocol):
    """What a loop trains: the network of a denoiser, or of a bridge."""

    network: nn.Module


class Judge(Protocol):
    """What its averages are judged by: the gain of each held-out sample over the Gaussian, (n,)."""

    def gain(self, denoiser: Any) -> Tensor: ...


# (sum of the losses, sum of the Gaussian's) of what is trained, over some places of a step's batch, by seed
Loss = Callable[[Any, Source, int, Tensor, int, Settings], Tensor]


def rate(progress: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine to zero."""
    return min(progress / 0.05, 1.0) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def batch_at(
    denoiser: Trained, source: Source, step: int, places: Tensor, seed: int, settings: Settings
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Fields, conditions and their places in a step's batch, on the device of what is trained."""
    clean, c = source.take(step * settings.batch + places)
    device = next(denoiser.network.parameters()).device
    if settings.shift:  # the same law, where the domain is homogeneous and periodic
        u = uniforms(seed, torch.arange(clean.ndim - 2), step, Use.SHIFT)
        clean = clean.roll([int(v * n) for v, n in zip(u, clean.shape[2:], strict=True)], list(range(2, clean.ndim)))
    return clean.to(device), None if c is None else c.to(device), places.to(device)


def denoising_loss(
    denoiser: Denoiser, source: Source, step: int, places: Tensor, seed: int, settings: Settings
) -> Tensor:
    """(sum of the losses, sum of the Gaussian's floors) over some places of a step's batch."""
    clean, c, at = batch_at(denoiser, source, step, places, seed, settings)
    u = (at + uniforms(seed, at, step, Use.LEVEL)) / settings.batch
    sigma = noise_levels_at(u, denoiser.noise_range, law=settings.noise).to(clean)
    noisy = denoiser.corruption.add(clean, sigma, normals(seed, at, step, clean.shape[1:]).to(clean))
    weight = loss_weight(settings.weight, denoiser, sigma, c)
    errors = denoiser.corruption.square(denoiser(noisy, sigma, c) - clean, sigma)
    return torch.stack([(weight * errors).sum(), (weight * denoiser.floor(sigma, c)).sum()])


class _Run:
    """The state of a run: everything that a step changes, and a check reads."""

    def __init__(
        self, denoiser: Trained, held: Judge | None, settings: Settings, ranks: Ranks, journal: Journal, loss: Loss
    ):
        self.loss: Loss = loss
        self.denoiser, self.held, self.settings, self.ranks = denoiser, held, settings, ranks
        self.parameters = list(denoiser.network.parameters())
        ranks.same_start(self.parameters)
        self.optimiser = torch.optim.AdamW(
            self.parameters, settings.learning_rate, (0.9, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        self.averages = Averages(denoiser.network)
        self.best = self.averages.weights[-1]
        self.numbers: dict[str, float] = {
            "step": 0, "seconds": 0.0, "loss": 0.0, "floor": 0.0, "checks": 0, "stale": 0,
            "gain": -math.inf, "width": 0.0,
        }  # fmt: skip
        self.journal = journal

    def step(self, source: Source, seed: int, progress: float) -> None:
        """One stochastic gradient step on the batch of this step."""
        now, settings, numbers = int(self.numbers["step"]), self.settings, self.numbers
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate(max(progress, 1e-3))
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed((seed * 2654435761 + now) % 2**63)  # dropout in a network of the caller's
        total = torch.zeros(2)
        mine = range(self.ranks.rank, settings.batch, self.ranks.size)
        piece = settings.piece or max(len(mine), 1)
        for first in range(0, len(mine), piece):
            places = torch.tensor(mine[first : first + piece])
            part = self.loss(self.denoiser, source, now, places, seed, settings) / settings.batch
            part[0].backward()  # type: ignore[no-untyped-call]
            total += part.detach().cpu()
        loss, floor = self.ranks.sum_gradients(self.parameters, total).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError("the training loss must stay finite, got NaN or infinity; lower the learning rate")
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip, foreach=True)
        self.optimiser.step()
        self.averages.update(self.denoiser.network, now)
        numbers["step"] = now + 1
        for name, value in (("loss", loss), ("floor", floor)):
            numbers[name] += (value - numbers[name]) / min(now + 1, 100)

    def check(self, *, last: bool = False) -> None:
        """Judge the averages (at the end those of other widths too), keep the best, and log."""
        found = dict(zip(averages.WIDTHS, self.averages.weights, strict=True))
        if last:
            found |= {w: self.averages.reconstruct(w) for w in WIDTHS if w not in found}
        gains = {width: self._gain(weights) for width, weights in found.items()}
        width = max(gains, key=lambda w: gains[w])
        self.numbers["stale"] += 1
        if self.held is None:
            self.best, self.numbers["width"] = self.averages.weights[-1], averages.WIDTHS[-1]
        elif gains[width] > self.numbers["gain"]:
            self.best = [w.clone() for w in found[width]]
            self.numbers |= {"gain": gains[width], "width": width, "stale": 0}
        names = ("step", "seconds", "loss", "floor")
        row = {name: float(self.numbers[name]) for name in names}
        self.journal.add(run=float(self.settings.run), **row, gain=gains[width], width=self.numbers["width"])

    def _gain(self, weights: list[Tensor]) -> float:
        if self.held is None:
            return math.nan
        with averages.applied(self.denoiser.network, weights):
            return float(self.held.gain(self.denoiser).mean())

    def record(self, *, finished: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """(numbers, tensors) for a ledger; of a finished run the weights and snapshots alone."""
        book = {"finished": finished, "numbers": dict(self.numbers), "rows": self.journal.of_run(self.settings.run)}
        tensors = {f"average.{k}": v for k, v in self.averages.tensors().items()}
        tensors["best"] = averages.flatten(self.best)
        if not finished:
            tensors |= {f"network.{k}": v.detach() for k, v in self.denoiser.network.state_dict().items()}
            for k, state in self.optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{k}.{name}": value for name, value in state.items()}
        return book, {name: value.clone() for name, value in tensors.items()}

    def restore(self, book: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `record`."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.numbers = dict(book["numbers"])
        self.journal.replace(self.settings.run, list(book["rows"]))
        self.averages.restore(part("average."))
        self.best = averages.unflatten(tensors["best"], self.parameters)
        if not book["finished"]:
            self.denoiser.network.load_state_dict(part("network."))
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in part("optimiser.").items():
                number, entry = name.split(".", 1)
                state.setdefault(int(number), {})[entry] = value
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})

    def done(self, budget: Budget, elapsed: float) -> float:
        """The fraction of the run that is over, the same for every process."""
        device = self.parameters[0].device
        self.numbers["seconds"] = self.ranks.agree(elapsed, device) if budget.seconds else elapsed
        tired = self.settings.patience is not None and self.numbers["stale"] >= self.settings.patience
        return 1.0 if tired else budget.progress(int(self.numbers["step"]), self.numbers["seconds"])


def train(
    denoiser: Trained,
    source: Source,
    budget: Budget,
    *,
    seed: int = 0,
    held: Judge | None = None,
    settings: Settings | None = None,
    ledger: Ledger | None = None,
    ranks: Ranks | None = None,
    journal: Journal | None = None,
    loss: Loss = denoising_loss,
) -> Journal:
    """Train the network of `denoiser` in place on the samples of `source`.

    Ends with averaged weights, the best by held-out denoising if `held` is given. With a `ledger` the run named
    settings.label goes on from where it was left, or is taken from it when it had ended. Raises FloatingPointError when
    the loss stops being finite. `loss` may be another than that of denoising, and `denoiser` what it is for.
    """
    settings, ranks = settings or Settings(), ranks or Ranks()
    journal = journal if journal is not None else Journal(settings.log if ranks.first else None)
    run = _Run(denoiser, held, settings, ranks, journal, loss)
    kept = None if ledger is None else ledger.runs.get(settings.label)
    if kept is not None:
        run.restore(*kept)
    if kept is None or not kept[0]["finished"]:
        denoiser.network.train()
        with torch.random.fork_rng():
            _loop(run, source, budget, seed, ledger)
    averages.assign(denoiser.network, run.best)
    denoiser.network.eval()
    journal.averages = run.averages
    return journal


def _loop(run: _Run, source: Source, budget: Budget, seed: int, ledger: Ledger | None) -> None:
    """Steps, checks and checkpoints until the budget is used, then the last check."""
    settings, start, saved = run.settings, time.perf_counter() - run.numbers["seconds"], time.perf_counter()
    bar = tqdm(total=100, desc=settings.label, unit="%", disable=not (settings.progress and run.ranks.first))
    while (done := run.done(budget, time.perf_counter() - start)) < 1.0:
        run.step(source, seed, done)
        if done * SNAPSHOTS >= len(run.averages.times) + 1:
            run.averages.keep(int(run.numbers["step"]))
        bar.update(int(100 * done) - bar.n)
        check = done * settings.checks >= run.numbers["checks"] + 1
        if check:
            run.numbers["checks"] += 1
            run.check()
            bar.set_postfix(loss=f"{run.numbers['loss']:.4g}", floor=f"{run.numbers['floor']:.4g}")
        if ledger is not None and (check or time.perf_counter() - saved > settings.saving):
            saved = time.perf_counter()
            ledger.write(settings.label, *run.record())
    bar.update(100 - bar.n)
    bar.close()
    run.averages.keep(int(run.numbers["step"]))
    run.check(last=True)
    if ledger is not None:
        ledger.write(settings.label, *run.record(finished=True))
