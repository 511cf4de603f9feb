"""Training: one plain loop.

AdamW; the learning rate rises linearly over the first twentieth and falls as a cosine; gradients are clipped by their
norm; the served weights are an exponential average with a memory of a tenth of the run so far,

    θ̄ ← θ̄ + (1 − β)(θ − θ̄),   β = 1 − 1/(1 + step/10)

(a power-function profile, Karras et al. 2024, so that its length scales with the run). The budget is a number of steps
(repeatable bit for bit on one machine) or seconds of wall time. Every so often the average is judged by held-out
denoising, and the best one is kept: a network that begins to memorise stops paying.
"""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from surrogates.denoisers import Denoiser, denoising_errors, loss_weight, nats, noise_like
from surrogates.gaussian import level_like


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
    """What the loop may be told; the defaults suit fields of 32² on two cores."""

    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    weight: str = "posterior"
    noise: str = "spectrum"
    checks: int = 5
    shift: bool = False
    log: Path | None = None
    progress: bool = False
    label: str = "training"


class Average:
    """The exponential average of a module's parameters, in place and in one fused call.

    >>> layer = torch.nn.Linear(1, 1)
    >>> average = Average(layer)
    >>> average.update(layer, step=0)
    >>> bool(torch.equal(average.weights[0], layer.weight))
    True
    """

    def __init__(self, module: torch.nn.Module):
        self.weights = [p.detach().clone() for p in module.parameters()]

    def update(self, module: torch.nn.Module, step: int) -> None:
        """θ̄ ← θ̄ + (θ − θ̄)/(1 + step/10)."""
        torch._foreach_lerp_(self.weights, [p.detach() for p in module.parameters()], 1.0 / (1.0 + step / 10.0))

    @contextlib.contextmanager
    def applied(self, module: torch.nn.Module) -> Iterator[None]:
        """The module with the averaged weights, for as long as the block lasts."""
        parameters = list(module.parameters())
        current = [p.detach().clone() for p in parameters]
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list[Tensor](parameters), current)

    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrite the module's parameters by the average."""
        with torch.no_grad():
            torch._foreach_copy_(list[Tensor](module.parameters()), self.weights)


@dataclass
class HeldOut:
    """Held-out samples with fixed noise, and the Gaussian's error on them: what every check is measured against."""

    x: Tensor
    c: Tensor | None
    levels: Tensor
    noise: Tensor
    reference: Tensor

    def gain(self, denoiser: Denoiser) -> Tensor:
        """Nats per dimension over the Gaussian, one value per held-out sample."""
        return nats(denoising_errors(denoiser, self.x, self.c, self.levels, self.noise), self.reference, self.levels)


def held_out(denoiser: Denoiser, x: Tensor, c: Tensor | None, seed: int, *, levels: int = 16) -> HeldOut:
    """Fix the noise of the held-out measure for samples x (n, channels, *space)."""
    low, high = (math.log(s) for s in denoiser.noise_range)
    sigma = torch.exp(torch.linspace(low, high, levels, device=x.device, dtype=x.dtype))
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(levels, *x.shape, generator=generator).to(x)
    reference = denoising_errors(denoiser.gaussian.denoise, x, c, sigma, noise)
    return HeldOut(x, c, sigma, noise, reference)


@dataclass
class History:
    """One row per check: step, seconds, learning rate, training loss, held-out gain in nats per dimension."""

    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, path: Path | None, **row: float) -> None:
        """Append a row, and write it to the CSV log at once."""
        self.rows.append(row)
        if path is not None:
            new = not path.exists()
            with path.open("a", newline="") as stream:
                writer = csv.DictWriter(stream, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)


def rate(progress: float) -> float:
    """Linear warm-up over the first twentieth, then a cosine to zero."""
    return min(progress / 0.05, 1.0) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def _roll(x: Tensor, generator: torch.Generator) -> Tensor:
    """A random shift of the whole batch: the same law, where the domain is homogeneous and periodic."""
    shifts = [int(torch.randint(n, (1,), generator=generator)) for n in x.shape[2:]]
    return x.roll(shifts, tuple(range(2, x.ndim)))


def _step(
    denoiser: Denoiser,
    x: Tensor,
    c: Tensor | None,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    settings: Settings,
) -> float:
    """One stochastic gradient step on a random batch; returns the loss."""
    index = torch.randint(len(x), (settings.batch,), generator=generator).to(x.device)
    clean, condition = x[index], None if c is None else c[index]
    if settings.shift:
        clean = _roll(clean, generator)
    sigma = noise_like(settings.batch, denoiser.noise_range, generator, law=settings.noise).to(clean)
    epsilon = torch.randn(clean.shape, generator=generator).to(clean)
    estimate = denoiser(clean + level_like(sigma, clean) * epsilon, sigma, condition)
    weight = loss_weight(settings.weight, denoiser.gaussian, sigma, condition)
    loss = (weight * (estimate - clean).square().flatten(1).mean(1)).mean()
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError("the training loss must stay finite, got NaN or infinity; lower the learning rate")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(denoiser.network.parameters(), settings.clip, foreach=True)
    optimiser.step()
    return float(loss.detach())


class _Best:
    """The best averaged weights by held-out denoising so far."""

    def __init__(self, denoiser: Denoiser, average: Average, held: HeldOut | None):
        self.denoiser, self.average, self.held = denoiser, average, held
        self.gain, self.weights = -math.inf, average.weights

    def check(self) -> float:
        """Judge the current average; returns its gain in nats per dimension, NaN without held-out samples."""
        if self.held is None:
            self.weights = self.average.weights
            return math.nan
        with self.average.applied(self.denoiser.network):
            gain = float(self.held.gain(self.denoiser).mean())
        if gain > self.gain:
            self.gain, self.weights = gain, [w.clone() for w in self.average.weights]
        return gain


def train(
    denoiser: Denoiser,
    x: Tensor,
    c: Tensor | None,
    budget: Budget,
    *,
    seed: int = 0,
    held: HeldOut | None = None,
    settings: Settings | None = None,
) -> History:
    """Train the network of `denoiser` in place on fields x (n, channels, *space), c (n, conditions) or None.

    Ends with the averaged weights, the best by held-out denoising if `held` is given. Raises FloatingPointError when
    the loss stops being finite.
    """
    settings = settings or Settings()
    network = denoiser.network.train()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    average, history = Average(network), History()
    best, checks, running, step, start = _Best(denoiser, average, held), 0, 0.0, 0, time.perf_counter()
    bar = tqdm(total=100, desc=settings.label, unit="%", disable=not settings.progress)
    while (done := budget.progress(step, time.perf_counter() - start)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate(max(done, 1e-3))
        loss = _step(denoiser, x, c, optimiser, generator, settings)
        average.update(network, step)
        step += 1
        running += (loss - running) / min(step, 100)
        bar.update(int(100 * done) - bar.n)
        if done * settings.checks >= checks + 1:
            checks += 1
            gain = best.check()
            history.add(settings.log, step=step, seconds=time.perf_counter() - start, loss=running, gain=gain)
    bar.update(100 - bar.n)
    bar.close()
    history.add(settings.log, step=step, seconds=time.perf_counter() - start, loss=running, gain=best.check())
    average.weights = best.weights
    average.copy_to(network)
    network.eval()
    return history
