"""Fitting the Gaussian: which mean, which covariance, and how much shrinkage, by cross-validation over blocks.

Candidates, each scored by the likelihood of held-out contiguous blocks (neighbouring samples never straddle a split):

    mean        one number per variable (homogeneous, all axes periodic) | a field | a field regressed on the conditions
    spectrum    S_k = mean_i z_ik z_ikᵀ over samples in spectral modes, pooled over ±k, then smoothed over wave numbers
                of equal |k|:  (1 − w) S_k + w mean_{|k'|=|k|} S_k'
    conditions  log λ_k(c) = φ(c)·β_k by maximum likelihood: Fisher's scoring for the gamma law with a logarithmic
                link,  β ← β + (φᵀφ)⁻¹ φᵀ (e/λ − 1),  e = z²
    covariance  Σ(ρ) = (1 − ρ) S + ρ T: the empirical covariance S shrunk towards the spectral one T. In coordinates
                y whitened by T it is (1 − ρ) S_y + ρ I, so one eigendecomposition per fold serves every ρ.

Raw empirical orthogonal functions (ρ = 0) are never used: with fewer independent samples than cells they overfit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from surrogates.gaussian import Gaussian, features
from surrogates.graphs import GraphModes
from surrogates.modes import DenseModes, SpectralModes

FLOOR = 1e-12  # of the mean variance: below the round-off of float32 data, so that log λ stays finite
SHRINKAGES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85)
DENSE_LIMIT = 4096  # channels × cells up to which a d × d eigenbasis is affordable
Domain = tuple[str, ...] | GraphModes  # the ends of a box, or the modes of a domain with holes
GAIN = 1e-4  # nats per dimension by which a richer candidate must win: less is not worth its parameters


@dataclass(frozen=True)
class Choice:
    """One candidate of the fit, and what the chosen one scored on held-out blocks (nats per dimension)."""

    homogeneous_mean: bool = False
    mean_degree: int = 0
    variance_degree: int = 0
    smoothing: float = 0.0
    shrinkage: float = 1.0
    score: float = -math.inf


def folds(samples: int, count: int, gap: int = 0) -> list[tuple[Tensor, Tensor]]:
    """(training indices, held-out indices) for contiguous blocks; `gap` samples beside a block belong to neither.

    >>> [(len(a), len(b)) for a, b in folds(10, 2, gap=1)]
    [(4, 5), (4, 5)]
    """
    edges = [round(samples * i / count) for i in range(count + 1)]
    index = torch.arange(samples)
    return [
        (index[(index < lo - gap) | (index >= hi + gap)], index[lo:hi])
        for lo, hi in zip(edges[:-1], edges[1:], strict=True)
    ]


def fit_mean(x: Tensor, c: Tensor | None, choice: Choice) -> Tensor:
    """M_j of μ(c) = Σ_j φ_j(c) M_j by least squares: (terms, channels, *space)."""
    phi = features(c, 0 if c is None else c.shape[1], choice.mean_degree, x)
    if len(phi) == 1:
        terms = x.mean(0, keepdim=True)
    else:
        terms = torch.linalg.lstsq(phi, x.flatten(1)).solution.reshape(-1, *x.shape[1:])
    if choice.homogeneous_mean:
        axes = tuple(range(2, x.ndim))
        terms = terms.mean(axes, keepdim=True).expand_as(terms).clone()
    return terms


def basis_of(x: Tensor, domain: Domain) -> SpectralModes | GraphModes:
    """The modes of fields (n, channels, *space): those of the graph, or of a box with these ends."""
    return domain if isinstance(domain, GraphModes) else SpectralModes(tuple(x.shape[2:]), domain)


def smooth(energy: Tensor, modes: SpectralModes | GraphModes, weight: float) -> Tensor:
    """Pool energies (..., *space) of modes that share a law, then mix them with their mean over each shell of |k|."""
    energy = modes.pool(energy)
    if weight == 0.0:
        return energy
    shell = modes.shells().flatten().to(energy.device)
    flat = energy.flatten(-len(modes.space))
    count = torch.zeros(int(shell.max()) + 1, dtype=energy.dtype, device=energy.device).index_add_(
        0, shell, torch.ones_like(shell, dtype=energy.dtype)
    )
    total = torch.zeros(*flat.shape[:-1], len(count), dtype=energy.dtype, device=energy.device)
    means: Tensor = total.index_add_(-1, shell, flat) / count.clamp(min=1.0)
    mixed = (1.0 - weight) * flat + weight * means[..., shell]
    return mixed.reshape(energy.shape)


def fit_log_variance(energy: Tensor, c: Tensor | None, degree: int) -> Tensor:
    """B_jk of log λ_k(c) = φ(c)·B_k from energies e (n, channels, *space), by Fisher's scoring."""
    floor = FLOOR * energy.mean()
    phi = features(c, 0 if c is None else c.shape[1], degree, energy)
    if len(phi) == 1:
        return (energy.mean(0, keepdim=True) + floor).log()
    e = energy.flatten(1) + floor
    # exp of the mean of log e is low by e^{0.58…1.27} for 2…1 degrees of freedom; the first step repairs the constant.
    terms = torch.linalg.lstsq(phi, e.log()).solution
    terms[0] += torch.log((e * torch.exp(-phi @ terms)).mean(0))
    projector = torch.linalg.pinv(phi)
    for _ in range(25):
        step = projector @ (e * torch.exp(-(phi @ terms)) - 1.0)
        terms += step.clamp(-0.5, 0.5)
        if float(step.abs().max()) < 1e-6:
            break
    fields: Tensor = terms.reshape(-1, *energy.shape[1:])
    return fields


def fit_spectral(x: Tensor, c: Tensor | None, domain: Domain, choice: Choice) -> Gaussian:
    """The Gaussian whose covariance is diagonal in the domain's modes; x (n, channels, *space), c (n, p) or None."""
    conditions = 0 if c is None else c.shape[1]
    modes = basis_of(x, domain)
    terms = fit_mean(x, c, choice)
    mean = torch.einsum("nj,j...->n...", features(c, conditions, choice.mean_degree, x), terms)
    z = modes.analyse(x - mean)
    channels = x.shape[1]
    if channels > 1:
        cross = torch.einsum("na...,nb...->ab...", z, z) / len(z)
        cross = smooth(cross, modes, choice.smoothing).flatten(2).permute(2, 0, 1)
        rotation = torch.linalg.eigh(cross).eigenvectors.permute(2, 1, 0).reshape(channels, channels, *modes.space)
        modes = replace(modes, rotation=rotation)
        z = torch.einsum("ab...,nb...->na...", rotation, z)
    variances = fit_log_variance(smooth(z * z, modes, choice.smoothing), c, choice.variance_degree)
    law = Gaussian(modes, terms, variances, conditions, choice.mean_degree, choice.variance_degree)
    if choice.variance_degree and not choice.homogeneous_mean:
        for _ in range(2):
            law = replace(law, mean_terms=weighted_mean(law, x, c))
            z = modes.analyse(x - law.mean(c))
            energy = smooth(z * z, modes, choice.smoothing)
            law = replace(law, log_variance_terms=fit_log_variance(energy, c, choice.variance_degree))
    return law


def weighted_mean(law: Gaussian, x: Tensor, c: Tensor | None) -> Tensor:
    """M_j by least squares weighted with 1/λ_k(c), mode by mode: where the variance falls by decades with c, the
    plain fit would carry the noise of the loud samples into the quiet ones."""
    phi = features(c, law.conditions, law.mean_degree, x).expand(len(x), -1)
    weight = 1.0 / law.variance(c).flatten(1)
    terms = phi.shape[1]
    products = (phi[:, :, None] * phi[:, None, :]).flatten(1)
    normal = (products.T @ weight).T.reshape(-1, terms, terms)
    right = torch.einsum("nj,nk->kj", phi, weight * law.modes.analyse(x).flatten(1))
    solution = torch.linalg.solve(normal, right[..., None])[..., 0].T
    return law.modes.synthesise(solution.reshape(-1, *law.shape))


def shrink(gaussian: Gaussian, x: Tensor, c: Tensor | None, rho: float) -> Gaussian:
    """Σ = (1 − ρ) S + ρ T in its dense eigenbasis; T is the spectral `gaussian`'s covariance (one for all c)."""
    if gaussian.variance_degree:
        raise ValueError("shrink wants a spectrum that does not depend on conditions; use variance_degree=0")
    scale = gaussian.variance().sqrt()
    y = (gaussian.modes.analyse(x - gaussian.mean(c)) / scale).flatten(1)
    covariance = (1.0 - rho) * (y.T @ y) / len(y)
    covariance.diagonal().add_(rho)
    root = scale.flatten()
    values, vectors = torch.linalg.eigh(root[:, None] * covariance * root[None, :])
    fields = gaussian.modes.synthesise(vectors.T.reshape(-1, *gaussian.shape)).flatten(1)
    values = values.clamp(min=FLOOR * float(values.mean())).reshape(1, *gaussian.shape)
    return replace(gaussian, modes=DenseModes(fields.T.contiguous()), log_variance_terms=values.log())


def shrinkage_scores(gaussian: Gaussian, train: Tensor, held: Tensor, rhos: Sequence[float]) -> Tensor:
    """Held-out nats per dimension of Σ(ρ) for every ρ from one eigendecomposition.

    `train`, `held`: fields with the mean already removed. In whitened coordinates with S_y = V diag(e) Vᵀ of rank r,
    ln N = −½ [Σ_j ln((1−ρ)e_j+ρ) + (v_j·y)²/((1−ρ)e_j+ρ) + (d−r) ln ρ + ‖y_⊥‖²/ρ + Σ ln 2πλ].
    """
    scale = gaussian.variance().sqrt()
    y, h = ((gaussian.modes.analyse(a) / scale).flatten(1) for a in (train, held))
    d = y.shape[1]
    _, singular, vt = torch.linalg.svd(y / math.sqrt(len(y)), full_matrices=False)
    keep = singular > 1e-7 * singular[0]
    e, projections = singular[keep] ** 2, (h @ vt[keep].T) ** 2
    rest = ((h * h).sum(1) - projections.sum(1)).clamp(min=0.0)
    base = 0.5 * torch.log(2.0 * math.pi * scale**2).sum()
    scores = []
    for rho in rhos:
        v = (1.0 - rho) * e + rho
        quadratic = (projections / v).sum(1) + rest / rho
        scores.append((-0.5 * (v.log().sum() + (d - len(e)) * math.log(rho) + quadratic) - base).mean() / d)
    return torch.stack(scores)


def held_out_score(
    x: Tensor, c: Tensor | None, domain: Domain, choice: Choice, splits: list[tuple[Tensor, Tensor]]
) -> float:
    """Mean held-out log-likelihood of the spectral fit, nats per dimension."""
    total = 0.0
    for train, held in splits:
        gaussian = fit_spectral(x[train], None if c is None else c[train], domain, choice)
        logs = gaussian.log_likelihood(x[held], None if c is None else c[held])
        total += float(logs.sum()) / gaussian.dimensions
    return total / sum(len(held) for _, held in splits)


def _dense_search(
    x: Tensor, c: Tensor | None, domain: Domain, choice: Choice, splits: list[tuple[Tensor, Tensor]]
) -> Choice:
    """The best shrinkage of the empirical covariance, among SHRINKAGES and the spectral fit itself (ρ = 1)."""
    choice = replace(choice, variance_degree=0)
    rhos = (*SHRINKAGES, 1.0)
    totals = torch.zeros(len(rhos), dtype=x.dtype, device=x.device)
    for train, held in splits:
        ct, ch = (None, None) if c is None else (c[train], c[held])
        gaussian = fit_spectral(x[train], ct, domain, choice)
        centred = x[train] - gaussian.mean(ct), x[held] - gaussian.mean(ch)
        totals += len(held) * shrinkage_scores(gaussian, *centred, rhos)
    totals /= sum(len(held) for _, held in splits)
    best = int(totals.argmax())
    return replace(choice, shrinkage=rhos[best], score=float(totals[best]))


def choose(
    x: Tensor, c: Tensor | None, domain: Domain, *, blocks: int = 4, gap: int = 0, degree: int = 3
) -> Choice:
    """The best candidate by block cross-validation, one aspect after another: mean, spectrum, smoothing, covariance.

    x (n, channels, *space) with samples in their order, c (n, p) in [−1, 1] or None; `domain` as in `basis_of`;
    `degree` bounds the polynomials.
    A richer candidate must win by more than GAIN nats per dimension.
    """
    splits = folds(len(x), blocks, gap)

    def better(current: Choice, candidates: Sequence[Choice]) -> Choice:
        for candidate in candidates:
            scored = replace(candidate, score=held_out_score(x, c, domain, candidate, splits))
            if scored.score > current.score + GAIN:
                current = scored
        return current

    smallest = min(len(train) for train, _ in splits)
    allowed = [q for q in range(1, degree + 1) if c is not None and math.comb(c.shape[1] + q, q) * 8 <= smallest]
    uniform = basis_of(x, domain).uniform
    best = better(Choice(), [Choice(homogeneous_mean=uniform)])
    best = better(best, [Choice()]) if uniform else best
    best = better(best, [replace(best, mean_degree=q) for q in allowed])
    best = better(best, [replace(best, variance_degree=q) for q in allowed])
    if allowed and best.variance_degree:  # the mean is judged fairly only once the spectrum may follow the conditions
        best = better(best, [replace(best, mean_degree=q) for q in allowed if q > best.mean_degree])
    best = better(best, [replace(best, smoothing=w) for w in (0.5, 0.9)])
    if math.prod(x.shape[1:]) <= DENSE_LIMIT:
        dense = _dense_search(x, c, domain, best, splits)
        if dense.score > best.score + GAIN:
            best = dense
    return best


def fit_gaussian(x: Tensor, c: Tensor | None, domain: Domain, choice: Choice) -> Gaussian:
    """The chosen Gaussian fitted to all of x (n, channels, *space); computed in float64, returned in float64.

    >>> x = torch.randn(64, 1, 16, dtype=torch.float64) * 2.0
    >>> choice = choose(x, None, ("periodic",))
    >>> fit_gaussian(x, None, ("periodic",), choice).shape
    (1, 16)
    """
    x = x.double()
    c = None if c is None else c.double()
    gaussian = fit_spectral(x, c, domain, choice)
    return gaussian if choice.shrinkage == 1.0 else shrink(gaussian, x, c, choice.shrinkage)
