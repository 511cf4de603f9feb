"""From coarse to fine: a model of cell means, and models of what each refinement adds, given the means.

    x_c = A x, the means of 2^d cells;   x = P x_c + e,   P = ΣAᵀ(AΣAᵀ)⁻¹,   A e = 0

P interpolates as the Gaussian N(μ, Σ) of the fine fields knows best (kriging from the means), and A P = I. For Gaussian
fields e does not depend on x_c at all: e ~ N((I − PA)μ, Σ − PAΣ), so that the chain is exact without a network, mode by
mode; a network of e sees P x_c as a given field and learns what is not Gaussian. Whatever it draws, A e is taken off:
the means of a fine field are the coarse field. In wavelets the same idea is that of Guth et al. 2022.

A network that was given clean means in training meets slightly wrong ones in a chain; so noise of AUGMENT of their
standard deviation is added to what it sees, in both (Ho et al. 2022, §4.2).

Modes that share a coarse mode (aliases) form groups; conditioning and the modes of e are found group by group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from sdesim import streams
from surrogates.appraising import appraise, drawn
from surrogates.building import is_ours
from surrogates.covariance import DENSE_LIMIT, FLOOR, fit_log_variance, fit_mean
from surrogates.drawing import draw, member_noise, served
from surrogates.fitting import Fitted, Keep, Material, Plan, Planned, fit_gaussians, train_network, with_gaussian
from surrogates.gaussian import Gaussian, features
from surrogates.latents import Latent
from surrogates.layouts import Layout, Scale
from surrogates.modes import DenseModes, SpectralModes
from surrogates.noising import FIELD_PROCESSES
from surrogates.serving import Verdict
from surrogates.sources import Samples
from surrogates.splitting import some
from surrogates.tensor_streams import Use, normals

AUGMENT = 0.1
_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_WEYL = 0x9E3779B97F4A7C15  # parts the seeds of the levels


def cell_means(x: Tensor) -> Tensor:
    """Means of 2^d cells of fields (n, channels, *space).

    >>> cell_means(torch.tensor([[[1.0, 3.0, 5.0, 9.0]]]))
    tensor([[[2., 7.]]])
    """
    pooled: Tensor = _POOL[x.ndim - 2](x, 2)
    return pooled


def spread_out(x: Tensor) -> Tensor:
    """Every cell's value in its 2^d cells.

    >>> spread_out(torch.tensor([[[2.0, 7.0]]]))
    tensor([[[2., 2., 7., 7.]]])
    """
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(2, dim=axis)
    return x


def condition_on_means(gaussian: Gaussian, boundary: tuple[str, ...]) -> tuple[Tensor, DenseModes, Tensor]:
    """(P, modes and variances of e) of a Gaussian without conditions.

    P (d, d/2^dims), a matrix on flattened fields; variances (channels, *space), among which those of A e are zero.
    Float64.
    """
    shape, d = gaussian.shape, gaussian.dimensions
    like = torch.zeros((), dtype=torch.float64)
    modes, variance = gaussian.modes.to(like), gaussian.variance().double().flatten()
    columns = modes.synthesise(torch.eye(d, dtype=torch.float64).reshape(d, *shape))
    coarse = SpectralModes(tuple(n // 2 for n in shape[1:]), boundary)
    seen = coarse.analyse(cell_means(columns)).flatten(1)  # (d, coarse): how each mode shows in the coarse ones
    back = coarse.synthesise(
        torch.eye(seen.shape[1], dtype=torch.float64).reshape(-1, shape[0], *coarse.space)
    ).flatten(1)
    flat = columns.flatten(1)
    prolong, vectors = torch.zeros(d, seen.shape[1], dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    values = torch.zeros(d, dtype=torch.float64)
    for fine, means in _groups(seen):
        B, lam = seen[fine][:, means].T, variance[fine]
        gain = torch.linalg.solve((B * lam) @ B.T, B * lam).T
        left = torch.diag(lam) - gain @ (B * lam)
        found = torch.linalg.eigh(0.5 * (left + left.T))
        prolong += flat[fine].T @ gain @ back[means]
        vectors[:, fine] = flat[fine].T @ found.eigenvectors
        values[fine] = found.eigenvalues.clamp(min=0.0)
    return prolong, DenseModes(vectors), values.reshape(shape)


def _groups(seen: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(fine modes, coarse modes) that are connected by entries of `seen` above round-off."""
    rows, columns = (seen.abs() > 1e-10 * float(seen.abs().max())).nonzero(as_tuple=True)
    d, total = seen.shape[0], sum(seen.shape)
    graph = coo_array((np.ones(len(rows)), (rows.numpy(), d + columns.numpy())), shape=(total, total))
    labels = torch.from_numpy(connected_components(graph, directed=False)[1].astype(np.int64))
    order = torch.argsort(labels, stable=True)
    parts = torch.split(order, torch.bincount(labels).tolist())
    return [(part[part < d], part[part >= d] - d) for part in parts]


@dataclass(frozen=True)
class Cascade:
    """Cells of the first axis at each level, doubling up to the data's: `Surrogate.fit(..., resolutions=(8, 16, 32))`.

    >>> Cascade((8, 16)).resolutions
    (8, 16)
    """

    resolutions: tuple[int, ...]

    def __post_init__(self) -> None:
        steps = zip(self.resolutions[:-1], self.resolutions[1:], strict=True)
        if len(self.resolutions) < 2 or any(fine != 2 * coarse for coarse, fine in steps):
            raise ValueError(
                f"resolutions= wants two or more numbers of cells, each twice the one before, got {self.resolutions}; "
                f"give the first axis's, such as (16, 32, 64)"
            )

    def check(self, layout: Layout) -> None:
        """ValueError for fields that the levels do not end at, or are too many cells for a dense basis."""
        shape, halvings = layout.shape, len(self.resolutions) - 1
        if self.resolutions[-1] != shape[0] or any(n % 2**halvings or n // 2**halvings < 2 for n in shape):
            raise ValueError(
                f"resolutions= wants to end at the {shape[0]} cells of the first axis, and axes that can be halved "
                f"{halvings} times, got {self.resolutions} for {shape} cells; correct them, or cut the fields"
            )
        if layout.channels * math.prod(shape) > DENSE_LIMIT:
            raise ValueError(
                f"resolutions= wants at most {DENSE_LIMIT} values in a field, got {layout.channels} × {shape}; "
                f"coarsen the data, or use latent="
            )

    def learn(self, fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> CascadeWay:
        """The coarsest model first; each level has the same share of the budget, and a verdict of its own."""
        self.check(material.layout)
        return self._learn(fitted, material, replace(plan, budget=plan.budget.part(1.0 / len(self.resolutions))), keep)

    def _learn(self, fitted: Fitted, material: Material, plan: Plan, keep: Keep) -> CascadeWay:
        way = CascadeWay.of(fitted, some(material.held, 4096), plan.device)
        down = material.mapped(way.coarse_layout, way.coarse_samples, _pooled(material.fixed))
        if fitted.static is None:
            plan = replace(plan, coordinates=False)  # what is homogeneous stays so
        way.coarse = fit_gaussians(down.held, down.layout, plan, down.fixed, down.table, down.gap)
        if len(self.resolutions) > 2:
            way.coarse.way = Cascade(self.resolutions[:-1])._learn(way.coarse, down, plan, keep)
        else:
            train_network(way.coarse, down, self._level(plan, -2), keep)
        added = material.mapped(way.detail_layout, partial(way.detail_samples, seed=plan.seed), material.fixed)
        way.detail = way.details(added.held, plan, material.fixed, material.table)
        train_network(way.detail, added, self._level(plan, -1), keep)
        laws = {name: partial(drawn, replace(fitted, way=way), plan, name) for name in ("network", "gaussian")}
        gain, beside = appraise(laws, some(material.verdict, 64), material.layout)
        fitted.verdict = Verdict.of(gain, "energy", beside)
        return way

    def _level(self, plan: Plan, k: int) -> Plan:
        """The plan of one level: its name, its number among the runs of the journal, its seed."""
        number = 10 * (len(self.resolutions) + 1 + k) + plan.settings.run
        settings = replace(plan.settings, label=f"{self.resolutions[k]} cells", run=number)
        return replace(plan, settings=settings, seed=plan.seed + number)


class CascadeWay:
    """Fields by way of their means: x = P x_c + scale · e, with models of x_c/coarse_scale and of e.

    given_scale: the standard deviation of P x_c, by which it is divided where a network sees it.
    """

    kind = "cascade"

    def __init__(
        self, prolong: Tensor, modes: DenseModes, variance: Tensor, scales: tuple[float, float, float], of: Fitted
    ):
        self.prolong, self.modes, self.variance = prolong, modes, variance
        self.coarse_scale, self.given_scale, self.scale = scales
        layout = of.layout
        self.layout, self.law, self.choice = layout, of.baseline, of.choice
        plain, empty = (Scale(0.0, 1.0),) * layout.channels, xr.Dataset()
        names = tuple(f"means of {name}" for name in layout.variables)
        self.coarse_layout = replace(
            layout, shape=tuple(n // 2 for n in layout.shape), kept=(), scales=plain, template=empty
        )
        self.detail_layout = replace(
            layout, kept=(), scales=plain, template=empty, maps=(*layout.maps, *names),
            map_scales=(*layout.map_scales, *plain),
        )  # fmt: skip
        self.coarse = self.detail = of  # until their own are learned

    @classmethod
    def of(cls, fitted: Fitted, held: Samples, device: torch.device) -> CascadeWay:
        """From the Gaussian of the fine fields, and the scales of some training samples."""
        prolong, modes, variance = condition_on_means(fitted.baseline, fitted.layout.boundary)
        x = held[0].double()
        means = cell_means(x)
        known = _prolonged(prolong, means, x)
        scales = float(means.std()), float(known.std()), max(float((x - known).std()), 1e-9)
        return cls(prolong.to(device, torch.float32), modes, variance, scales, fitted)

    def models(self) -> Mapping[str, Fitted]:
        """The model of the means, and that of the details."""
        return {"coarse": self.coarse, "detail": self.detail}

    def coarse_samples(self, samples: Samples, _: Tensor) -> Samples:
        """The means."""
        x, c = samples
        return cell_means(x) / self.coarse_scale, self._coarse_conditions(c)

    def detail_samples(self, samples: Samples, numbers: Tensor, *, seed: int) -> Samples:
        """The details, and the interpolated means beside the conditions, noised as in a chain."""
        x, c = samples
        known = _prolonged(self.prolong.to(x.device), cell_means(x), x)
        noise = normals(seed, numbers.to(x.device), 0, x.shape[1:], Use.AUGMENT).to(x)
        return (x - known) / self.scale, self._with_given(c, known, noise)

    def details(self, held: Samples, plan: Plan, fixed: Tensor | None, table: NDArray[np.float64]) -> Fitted:
        """The Gaussian of the details: exact for one without conditions, else regressed on them as the fields' was."""
        law, choice = self.law, self.choice
        e, count = held[0].double(), len(self.layout.condition)
        c = held[1][:, :count].double() if held[1] is not None and count else None
        if c is None:
            mean = law.mean()
            mean = (mean - _prolonged(self.prolong.to(mean), cell_means(mean), mean)) / self.scale
            variance = (self.variance / self.scale**2)[None]
            terms, logs = mean, (variance + FLOOR * variance.mean()).log()
        else:
            terms = fit_mean(e, c, choice)
            about = e - torch.einsum("nj,j...->n...", features(c, count, choice.mean_degree, e), terms)
            logs = fit_log_variance(self.modes.analyse(about).square(), c, choice.variance_degree)
        gaussian = Gaussian(self.modes, terms, logs, count, choice.mean_degree, choice.variance_degree)
        return with_gaussian(gaussian, gaussian, choice, self.detail_layout, plan, c, fixed, table)

    def draw(self, numbers: NDArray[np.int64], c: Tensor | None, how: Any) -> tuple[Tensor, int]:
        """The means, then what is added; each level has noise of its own."""
        below, above = (replace(how, seed=(how.seed + _WEYL * k) % 2**64) for k in (1, 2))
        means, calls = draw(self.coarse, numbers, self._coarse_conditions(c), served(self.coarse, below))
        means = means * self.coarse_scale
        known = means.flatten(1) @ self.prolong.to(means).T
        known = known.reshape(len(means), -1, *self.layout.shape)
        noise = member_noise(self.detail, numbers, above.seed, streams.Purpose.BRIDGE)
        given = self._with_given(c, known.float(), noise.float())
        e, more = draw(self.detail, numbers, given, served(self.detail, above))
        x = known + self.scale * e
        return x - spread_out(cell_means(x) - means), calls + more

    def _coarse_conditions(self, c: Tensor | None) -> Tensor | None:
        """Those that are fields by their means."""
        maps, shape = len(self.layout.maps), self.layout.shape
        if c is None or not maps:
            return c
        scalars = c.shape[1] - maps * math.prod(shape)
        fields = cell_means(c[:, scalars:].reshape(len(c), maps, *shape))
        return torch.cat([c[:, :scalars], fields.flatten(1)], dim=1)

    def _with_given(self, c: Tensor | None, known: Tensor, noise: Tensor) -> Tensor:
        fields = (known / self.given_scale + AUGMENT * noise).flatten(1)
        return fields if c is None else torch.cat([c.to(fields), fields], dim=1)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a model file keeps beside the models: arrays, and a JSON-able description."""
        scales = {"coarse": self.coarse_scale, "given": self.given_scale, "detail": self.scale}
        return {"prolong": self.prolong}, {"scales": scales}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any], fitted: Fitted, models: Mapping[str, Fitted]
    ) -> CascadeWay:
        """The inverse of `tensors`."""
        scales = tuple(float(config["scales"][name]) for name in ("coarse", "given", "detail"))
        detail = models["detail"].gaussian
        assert isinstance(detail.modes, DenseModes), "details have a dense basis"
        way = cls(tensors["prolong"], detail.modes, detail.variance()[0], scales, fitted)  # type: ignore[arg-type]
        way.coarse, way.detail = models["coarse"], models["detail"]
        return way


def _prolonged(prolong: Tensor, means: Tensor, like: Tensor) -> Tensor:
    """P x_c as fields shaped like `like`."""
    return (means.flatten(1) @ prolong.T).reshape(like.shape)


def _pooled(fixed: Tensor | None) -> Tensor | None:
    return None if fixed is None else cell_means(fixed[None])[0]


def planned(latent: Latent | None, resolutions: Sequence[int] | None, layout: Layout, plan: Plan) -> Planned:
    """The way that `fit` was asked for; ValueError where it cannot be gone, before any work."""
    if plan.process in FIELD_PROCESSES or plan.objective != "denoising" or not is_ours(plan.network):
        raise ValueError(
            "latent= and resolutions= want a scalar process, objective='denoising' and a network named by its options, "
            "which is built for each space; leave the others out"
        )
    if latent is not None and resolutions is not None:
        raise ValueError("fit wants latent= or resolutions=, got both; choose one")
    if layout.wet is not None or layout.global_:
        raise ValueError("latent= and resolutions= want a box without holes, got NaN or a whole sphere; fill the gaps, "
                         "give boundary=, or leave these out")  # fmt: skip
    way: Latent | Cascade = latent if latent is not None else Cascade(tuple(resolutions or ()))
    way.check(layout)
    return way
