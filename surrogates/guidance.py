"""Conditioning on linear observations y = A x + √R ε: guidance wraps a denoiser and gives a denoiser.

For Gaussian data with the exact denoiser, conditioning the denoised law N(D, V), V = Cov[x₀ | x_σ], is Kalman's update

    D_y(x; σ) = D + V Aᵀ (A V Aᵀ + R)⁻¹ (y − A D)

(moment matching, Rozet et al. 2024, with a converged solve). Here V = U diag(λσ²/(λ + σ²)) Uᵀ is the posterior
covariance of the fitted Gaussian: exact for Gaussian data, an approximation otherwise. Draws start from the Gaussian
posterior itself, by Matheron's rule: x + ΣAᵀ(AΣAᵀ + R)⁻¹(y − A x − √R ε) with x ~ N(μ, Σ) has mean
μ + ΣAᵀ(AΣAᵀ+R)⁻¹(y − Aμ) and covariance Σ − ΣAᵀ(AΣAᵀ+R)⁻¹AΣ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from surrogates.denoisers import Field
from surrogates.gaussian import Gaussian
from surrogates.layouts import Layout


@dataclass(frozen=True)
class Observation:
    """What was seen of one field.

    data
        a DataArray named like a variable of the model, with space coordinates (points, a part of the grid, or a full
        field with NaN where nothing was seen): each value is compared with the nearest cell. With `operator`: the
        m observed numbers.
    std
        standard deviation of the observation errors, in the data's units: a number or one per value; positive.
    operator
        None, or an affine map from fields (channels, *space) in physical units to m numbers, as a function (cells
        without values hold 0) or an (m, channels × cells) matrix.

    >>> seen = xr.DataArray([1.5], dims="point", coords={"x": ("point", [3.0])}, name="u")
    >>> Observation(seen, std=0.1).std
    0.1
    """

    data: xr.DataArray | ArrayLike
    std: float | ArrayLike
    operator: Callable[[NDArray[np.float64]], ArrayLike] | NDArray[np.float64] | None = None


@dataclass(frozen=True)
class LinearObservation:
    """y = A x + √R ε on normalised fields: matrix (m, d), values (m,), variance (m,)."""

    matrix: Tensor
    values: Tensor
    variance: Tensor

    def to(self, like: Tensor) -> LinearObservation:
        """The same with the dtype and device of `like`."""
        return LinearObservation(self.matrix.to(like), self.values.to(like), self.variance.to(like))


def observe(observation: Observation, layout: Layout) -> LinearObservation:
    """The observation in the model's normalised variables; ValueError or KeyError if it does not fit the model."""
    if observation.operator is None:
        matrix, values, std = _points(observation, layout)
        shift = np.zeros(len(values))
    else:
        matrix, shift = _operator_matrix(observation.operator, layout)
        values = np.asarray(observation.data, np.float64).reshape(-1)
        if len(values) != len(matrix):
            raise ValueError(f"the operator gives {len(matrix)} numbers, the data hold {len(values)}; make them agree")
        std = np.broadcast_to(np.asarray(observation.std, np.float64), values.shape)
    if not (np.isfinite(std).all() and (std > 0).all() and np.isfinite(values).all()):
        raise ValueError("observations want finite values and std > 0, got others; give the error's standard deviation")
    cells = layout.cells
    factor = np.concatenate([scale.factor / layout.root * np.ones(cells) for scale in layout.scales])
    offset = np.repeat([scale.offset for scale in layout.scales], cells)
    return LinearObservation(
        torch.from_numpy(matrix * factor), torch.from_numpy(values - shift - matrix @ offset), torch.from_numpy(std**2)
    )


def _points(
    observation: Observation, layout: Layout
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One row of A for each observed value: the nearest cell."""
    seen = observation.data
    if not isinstance(seen, xr.DataArray):
        raise TypeError(f"an Observation without operator= wants a DataArray, got {type(seen).__name__}")
    name = str(seen.name) if seen.name is not None else layout.variables[0]
    if name not in layout.variables:
        raise KeyError(f"an observation wants one of {list(layout.variables)}, got {name!r}; use .rename(name)")
    std = xr.broadcast(seen, xr.DataArray(observation.std, dims=() if np.ndim(observation.std) == 0 else seen.dims))[1]
    index = np.zeros(seen.shape, np.int64)
    for axis, n in zip(layout.space, layout.shape, strict=True):
        if axis not in seen.coords:
            raise KeyError(f"an observation wants the coordinate {axis!r}, got {sorted(map(str, seen.coords))}")
        known = axis in layout.template.coords
        grid = layout.template[axis].values.astype(np.float64) if known else np.arange(float(n))
        where = seen[axis].broadcast_like(seen).transpose(*seen.dims).values.astype(np.float64)
        half = 0.5 * (grid[1] - grid[0]) if n > 1 else np.inf
        if (where < grid[0] - half).any() or (where > grid[-1] + half).any():
            raise ValueError(f"observations must lie inside {axis} = {grid[0]:g} … {grid[-1]:g}, got others; drop them")
        index = index * n + np.abs(grid - where[..., None]).argmin(-1)
    keep = np.isfinite(seen.values)
    if not keep.any():
        raise ValueError("an observation wants at least one finite value, got NaN everywhere")
    place = layout.unpack(np.arange(layout.cells), -1).ravel()[index[keep]]
    if (place < 0).any():
        raise ValueError(f"observations must lie in cells with values, got {int((place < 0).sum())} others; drop them")
    columns = place + layout.variables.index(name) * layout.cells
    matrix = np.zeros((len(columns), layout.channels * layout.cells))
    matrix[np.arange(len(columns)), columns] = 1.0
    return matrix, seen.values[keep].astype(np.float64), std.transpose(*seen.dims).values[keep].astype(np.float64)


def _operator_matrix(operator: Any, layout: Layout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(A, b) of the affine map h(x) = A x + b, by unit fields; ValueError if it is not affine."""
    d = layout.channels * layout.cells
    if not callable(operator):
        matrix = np.asarray(operator, np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != d:
            raise ValueError(f"operator= wants a matrix with {d} columns (variables × cells), got shape {matrix.shape}")
        return matrix, np.zeros(len(matrix))

    def h(field: NDArray[np.float64]) -> NDArray[np.float64]:
        own = layout.unpack(field.reshape(layout.channels, layout.cells), 0.0)
        return np.asarray(operator(own.reshape(layout.channels, *layout.shape)), np.float64).reshape(-1)

    shift = h(np.zeros(d))
    matrix = np.stack([h(row) - shift for row in np.eye(d)], axis=1)
    probe = np.cos(np.arange(d, dtype=np.float64))
    if not np.allclose(h(2.0 * probe), 2.0 * matrix @ probe + shift, rtol=1e-6, atol=1e-9):
        raise ValueError("operator= must be affine in the field, got one that is not; observe a linear quantity")
    return matrix, shift


def _gain(observation: LinearObservation, gaussian: Gaussian, variance: Tensor) -> Callable[[Tensor], Tensor]:
    """innovation (n, m) ↦ V Aᵀ(A V Aᵀ + R)⁻¹ innovation as fields, for V = U diag(variance) Uᵀ, (1 or n, *shape)."""
    rows = gaussian.modes.analyse(observation.matrix.reshape(-1, *gaussian.shape)).flatten(1)
    v = variance.flatten(1)
    system = torch.einsum("md,nd,kd->nmk", rows, v, rows) + torch.diag(observation.variance)
    factor = torch.linalg.cholesky(system)

    def apply(innovation: Tensor) -> Tensor:
        weights = torch.cholesky_solve(innovation[..., None], factor.expand(len(innovation), -1, -1))[..., 0]
        return gaussian.modes.synthesise((v * (weights @ rows)).reshape(-1, *gaussian.shape))

    return apply


def guided(denoise: Field, gaussian: Gaussian, observation: LinearObservation, c: Tensor | None = None) -> Field:
    """The denoiser of p(x₀ | x_σ, y) from one of p(x₀ | x_σ), both called with fields and a scalar σ."""

    def conditioned(x: Tensor, sigma: Tensor) -> Tensor:
        estimate = denoise(x, sigma)
        innovation = observation.values - estimate.flatten(1) @ observation.matrix.T
        return estimate + _gain(observation, gaussian, gaussian.posterior_variance(sigma, c))(innovation)

    return conditioned


def matheron(
    gaussian: Gaussian, observation: LinearObservation, noise: Tensor, errors: Tensor, c: Tensor | None
) -> Tensor:
    """Exact draws of the Gaussian posterior from standard normals: noise (n, channels, *space), errors (n, m)."""
    seen = observation.to(noise)
    x = gaussian.sample(noise, c)
    innovation = seen.values - x.flatten(1) @ seen.matrix.T - seen.variance.sqrt() * errors
    return x + _gain(seen, gaussian, gaussian.variance(c))(innovation)
