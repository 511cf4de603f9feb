"""One network call from noise to data: consistency functions distilled from a denoiser, and generators by energy score.

Both are the exponential integrator's single step from a level σ to the data (`samplers.py`), mode by mode

    f(x; σ, c) = μ + U [√λ/s z + √λ θ g],    g = G s/(σ√λ),  G = D − μ − W z,  s² = λ + σ²,  θ = atan(σ/√λ)

with the network's D. Whatever the network, f(x; 0) = x, as a consistency function must (Song et al. 2023, eq. 5); and
where D is the Gaussian's, f is the exact transport along its probability flow, x ↦ μ + U √(λ/(λ + σ²)) Uᵀ(x − μ): the
start N(μ, λ + σ²) becomes N(μ, λ) in one step. A denoiser is thus a first guess of its own consistency function.

consistency   the teacher's flow carries x from t to r by Heun's step of the same integrator, and f_θ(x; t) is drawn to
              f_θ(x'; r), held fixed (Song et al. 2023, algorithm 2; begun from the teacher's weights as by Geng et al.
              2024); in the first of `HOPS` intervals to the teacher's own single step. For Gaussian data with the exact
              teacher the loss is zero from the start.
energy        f(x; LEVEL) of two starts for each field and its conditions is trained by the almost fair energy score of
              patches (`energy.py`): no teacher, no path. It starts as the Gaussian's own draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogates import samplers
from surrogates.denoisers import Denoiser, Field, loss_weight, noise_levels_at
from surrogates.energy import energy_score
from surrogates.gaussian import level_like
from surrogates.processes import noise_levels
from surrogates.sources import Source
from surrogates.tensor_streams import Use, normals, uniforms
from surrogates.training import Settings, batch_at

HOPS = 6  # intervals of ln σ that a path is cut into
STEPS = 2  # of the teacher in each
LEVEL = 1.0  # where an energy-trained generator starts: white noise as strong as the data
SECOND = 1.0  # the lowest level of further calls: as strong as the data
PAIR = 2  # members for each truth in training
ALMOST = 0.95  # Lang et al. 2024


def leap(denoiser: Denoiser, x: Tensor, sigma: Tensor, c: Tensor | None) -> Tensor:
    """f(x; σ, c) for fields (n, channels, *space) at levels (n,): one network call."""
    r = level_like(denoiser.corruption.levels(sigma), x)
    return samplers.exponential(at_level(denoiser, sigma, c), x, denoiser.gaussian, r[None], c)


def at_level(denoiser: Denoiser, sigma: Tensor, c: Tensor | None) -> Field:
    """The denoiser for members that each have a level of their own, (n,)."""

    def denoise(x: Tensor, _: Tensor) -> Tensor:
        estimate: Tensor = denoiser(x, sigma, c)
        return estimate

    return denoise


def transport(denoiser: Denoiser, x: Tensor, sigma: Tensor, c: Tensor | None) -> Tensor:
    """What `leap` is for the Gaussian: its exact transport."""
    r = level_like(denoiser.corruption.levels(sigma), x)
    return samplers.exponential(lambda y, _: denoiser.exact(y, sigma, c), x, denoiser.gaussian, r[None], c)


def generate(denoiser: Denoiser, x: Tensor, levels: Tensor, c: Tensor | None, noise: Callable[[int], Tensor]) -> Tensor:
    """From x at levels[0] to the data, with fresh noise at each further level (Song et al. 2023, algorithm 1).

    One network call for each level; exact for the Gaussian with any levels. noise(k): the standard normals of call k.
    """
    with torch.no_grad():
        for k, sigma in enumerate(levels):
            level = sigma.expand(len(x))
            x = leap(denoiser, denoiser.corruption.add(x, level, noise(k)) if k else x, level, c)
    return x


def consistency_levels(noise_range: tuple[float, float], steps: int) -> Tensor:
    """σ_max, and for further calls levels in even ratio down to that of the data.

    >>> [round(float(s), 9) for s in consistency_levels((0.01, 16.0), 3)]
    [16.0, 4.0, 1.0]
    """
    highest = noise_range[1]
    return noise_levels(min(SECOND, 0.5 * highest), highest, max(steps - 1, 1))[:steps]


def consistency_loss(
    denoiser: Denoiser, source: Source, step: int, places: Tensor, seed: int, settings: Settings, *, teacher: Denoiser
) -> Tensor:
    """(Σ w |f_θ(x; t) − target|²_t, the same of the Gaussian's transport) over some places of a step's batch."""
    clean, c, at = batch_at(denoiser, source, step, places, seed, settings)
    u = (at + uniforms(seed, at, step, Use.LEVEL)) / settings.batch
    t, r = (noise_levels_at(v, denoiser.noise_range).to(clean) for v in (u, (u - 1.0 / HOPS).clamp(min=0.0)))
    x = denoiser.corruption.add(clean, t, normals(seed, at, step, clean.shape[1:]).to(clean))
    with torch.no_grad():
        moved = _carried(teacher, x, t, r, c)
        inside = level_like(u > 1.0 / HOPS, x) > 0
        target = torch.where(inside, leap(denoiser, moved, r, c), leap(teacher, moved, r, c))
    weight = loss_weight(settings.weight, denoiser, t, c)
    errors = [denoiser.corruption.square(f(denoiser, x, t, c) - target, t) for f in (leap, transport)]
    return torch.stack([(weight * error).sum() for error in errors])


def _carried(teacher: Denoiser, x: Tensor, t: Tensor, r: Tensor, c: Tensor | None) -> Tensor:
    """x at levels t (n,) carried along the teacher's flow to r (n,), in `STEPS` equal steps of ln σ by Heun's rule."""
    gaussian = teacher.gaussian
    mean, variance = gaussian.mean(c), gaussian.variance(c)
    z = gaussian.modes.analyse(x - mean)
    levels = [t * (r / t) ** (k / STEPS) for k in range(STEPS + 1)]
    for now, after in zip(levels[:-1], levels[1:], strict=True):
        start, stop = (level_like(teacher.corruption.levels(level), x) for level in (now, after))
        first = samplers.excess(at_level(teacher, now, c), z, gaussian, start, c)
        ahead = samplers.advance(z, first, variance, start, stop)
        second = samplers.excess(at_level(teacher, after, c), ahead, gaussian, stop, c)
        z = samplers.advance(z, 0.5 * (first + second), variance, start, stop)
    return mean + gaussian.modes.synthesise(z)


def energy_loss(denoiser: Denoiser, source: Source, step: int, places: Tensor, seed: int, settings: Settings) -> Tensor:
    """(Σ almost fair energy scores, the same of the Gaussian) over some places of a step's batch."""
    truth, c, at = batch_at(denoiser, source, step, places, seed, settings)
    noise = [normals(seed, at + k * settings.batch, step, truth.shape[1:]).to(truth) for k in range(PAIR)]
    made, plain = members(denoiser, torch.stack(noise), torch.full_like(truth[:, 0].flatten(1)[:, 0], LEVEL), c)
    scores = [energy_score(draws, truth, fairness=ALMOST) for draws in (made, plain)]
    return torch.stack([score.sum() for score in scores])


def members(denoiser: Denoiser, noise: Tensor, sigma: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draws of the generator and of the Gaussian from the same noise (m, n, channels, *space): the same shape each."""
    m = len(noise)
    c = None if c is None else c.repeat(m, *[1] * (c.ndim - 1))
    sigma = sigma.repeat(m)
    r = denoiser.corruption.levels(sigma)
    x = samplers.start(denoiser.gaussian, noise.flatten(0, 1), level_like(r, noise[0]), c)
    made, plain = leap(denoiser, x, sigma, c), transport(denoiser, x, sigma, c)
    return made.reshape(noise.shape), plain.reshape(noise.shape)


@dataclass(frozen=True)
class Distance:
    """Judges a consistency function by how near it comes to the fields its teacher makes of the same noise.

    start, sigma, c: of some members; end: the teacher's fields.
    """

    start: Tensor
    sigma: Tensor
    c: Tensor | None
    end: Tensor

    def gain(self, denoiser: Denoiser) -> Tensor:
        """1 − |f − end|²/|transport − end|², the denominator the mean over members: (n,)."""
        with torch.no_grad():
            far, near = (
                (f(denoiser, self.start, self.sigma, self.c) - self.end).square().flatten(1).mean(1)
                for f in (transport, leap)
            )
        return (far - near) / far.mean()


@dataclass(frozen=True)
class Skill:
    """Judges a generator by its fair energy score on held-out fields, relative to the Gaussian's.

    truth (n, channels, *space), its c; noise (m, n, channels, *space) of the members; sigma (n,) where they start.
    """

    truth: Tensor
    c: Tensor | None
    noise: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, truth: Tensor, c: Tensor | None, seed: int, members: int = 4) -> Skill:
        """With the noise of `seed`, so many members for each field."""
        at = torch.arange(members * len(truth), device=truth.device)
        noise = normals(seed, at, 0, truth.shape[1:], Use.JUDGE).to(truth)
        return cls(truth, c, noise.reshape(members, *truth.shape), torch.full((len(truth),), LEVEL).to(truth))

    def gain(self, denoiser: Denoiser) -> Tensor:
        """(S_Gaussian − S)/mean S_Gaussian: (n,)."""
        with torch.no_grad():
            mine, plain = (energy_score(x, self.truth) for x in members(denoiser, self.noise, self.sigma, self.c))
        return (plain - mine) / plain.mean()
