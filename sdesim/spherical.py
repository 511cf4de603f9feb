"""Fields on a sphere as sums of spherical harmonics, exact on Gaussian latitudes.

With μ = sin φ, the associated Legendre functions P̄_lm of norm 1 on (−1, 1), and a sphere of radius R,

    Y_lm = P̄_lm(μ) e^{imλ}/(R √2π),   ∇² Y_lm = −l(l+1)/R² Y_lm,   l = 0 … n − 1,  |m| ≤ min(l, (columns − 1)/2)

on n rows. Their products are polynomials of degree 2n − 2 at most, which Gauss's rule sums exactly: with the cells'
areas V the harmonics are orthonormal, Σ V Y* Y′ = δ, and the cells' sum Σ V u is that of l = 0 alone. What a field has
beyond them (waves too short near the poles) is not kept.

The functions come from the three-term recurrence in l at fixed m (Holmes & Featherstone 2002, eqs. 11 and 12),

    P̄_lm = a_lm μ P̄_{l−1,m} − (a_lm/a_{l−1,m}) P̄_{l−2,m},   a_lm = √((4l² − 1)/(l² − m²)),

stable upwards; P̄_mm = √((2m + 1)/2m) cos φ P̄_{m−1,m−1} loses itself in zero near the poles where the others are
negligible too, up to n ≈ 1900. Modal space is (l, m) for m ≥ 0, re and im interleaved along m, zero where l < m.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim import fourier
from sdesim.curved import gauss
from sdesim.orthogonal import Orthogonal
from sdesim.spectral import Kind, Transform

Array = NDArray[np.float64]


@lru_cache(maxsize=4)
def legendre(rows: int, most: int) -> Array:
    """√w_i P̄_lm(μ_i) on Gauss's nodes and weights, (m, l, rows), m ≤ most: orthonormal in l for every m.

    >>> Q = legendre(6, 3)
    >>> bool(np.allclose(Q[2, 2:] @ Q[2, 2:].T, np.eye(4), atol=1e-14))
    True
    """
    mu, weights = gauss(rows)
    values = np.zeros((most + 1, rows, rows))
    edge = np.sqrt(weights / 2.0)
    cosine = np.sqrt((1.0 - mu) * (1.0 + mu))
    for m in range(most + 1):
        if m:
            edge = edge * cosine * np.sqrt((2 * m + 1) / (2 * m))
        below, here, before = np.zeros(rows), edge, 0.0
        for l in range(m, rows):
            if l > m:
                a = np.sqrt((4.0 * l * l - 1.0) / (l * l - m * m))
                below, here = here, a * mu * here - (a / before if before else 0.0) * below
                before = a
            values[m, l] = here
    values.flags.writeable = False
    return values


@dataclass(frozen=True)
class SphereTransform(Transform):
    """The transform of fields on a whole sphere with Gaussian rows; orthonormal with the cells' areas.

    >>> from sdesim.curved import SphereGrid
    >>> transform = SphereTransform(SphereGrid(lat=4, lon=8))
    >>> modes = transform.forward(np.ones((4, 8)))
    >>> bool(np.isclose(modes[0, 0], (4 * np.pi) ** 0.5)), int(np.sum(np.abs(modes) > 1e-14))
    (True, 1)
    """

    grid: Orthogonal
    kinds: tuple[Kind, ...] = field(default=("sphere", "sphere"))

    def __post_init__(self) -> None:
        if not getattr(self.grid, "gaussian", False) or not self.grid.wraps("lon") or not self.grid.is_even("lon"):
            raise ValueError("spherical harmonics need a whole sphere with Gaussian rows and equal columns, such as "
                             f"SphereGrid(lat=64, lon=128); got {self.grid!r}: choose a finite-volume method "
                             "(tr_bdf2, …)")

    @cached_property
    def _values(self) -> Array:
        return legendre(self.grid.shape[0], min(self.grid.shape[0] - 1, (self.grid.shape[1] - 1) // 2))

    @cached_property
    def _root(self) -> Array:
        """√V of the cells, (rows, 1)."""
        return np.sqrt(self.grid.volumes[:, :1])

    @property
    def basis(self) -> tuple[Array, Array]:
        """√w P̄ (m, l, rows) and √V of the cells (rows, 1)."""
        return self._values, self._root

    def forward(self, field: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
                ) -> NDArray[Any]:
        """Modes (…, *modal_shape) of a field (…, *grid.shape)."""
        return self.white(np.multiply(field, self._root, out=scratch), out)

    def white(self, normals: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
              ) -> NDArray[Any]:
        """Modes (…, *modal_shape) of independent normals of the cells, each over the root of its area."""
        waves = fourier.waves(normals, 2, [-1])[..., : len(self._values)]
        flat = np.stack([waves.real, waves.imag], axis=-1).reshape(-1, *waves.shape[-2:], 2)
        if out is None:
            out = np.empty((*normals.shape[:-2], *self.modal_shape))
        for into, one in zip(out.reshape(-1, *self.modal_shape), flat):  # one by one: a batch may be rounded otherwise
            modes = np.matmul(self._values, np.ascontiguousarray(one.transpose(1, 0, 2)))
            into[...] = modes.transpose(1, 0, 2).reshape(self.modal_shape)
        return out

    def inverse(self, modes: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
                ) -> NDArray[Any]:
        """Field (…, *grid.shape) of its modes (…, *modal_shape)."""
        rows, columns = self.grid.shape
        flat = modes.reshape(-1, rows, len(self._values), 2)
        waves = np.zeros((len(flat), rows, columns // 2 + 1), np.complex128)
        for k, one in enumerate(flat):
            found = np.matmul(self._values.transpose(0, 2, 1), np.ascontiguousarray(one.transpose(1, 0, 2)))
            waves[k, :, : len(self._values)] = (found[..., 0] + 1j * found[..., 1]).T
        values = fourier.field_of(waves, 2, [-1], columns).reshape(*modes.shape[:-2], rows, columns)
        return np.divide(values, self._root, out=out)

    @property
    def is_complex(self) -> bool:
        """Modes are interleaved (re, im) pairs."""
        return True

    @cached_property
    def complex_shape(self) -> tuple[int, ...]:
        """(l, m)."""
        return self.grid.shape[0], len(self._values)

    @cached_property
    def degree(self) -> Array:
        """l, in the shape of modal space."""
        return self._over(np.arange(self.complex_shape[0], dtype=float)[:, None])

    @cached_property
    def order(self) -> Array:
        """m, in the shape of modal space."""
        return self._over(np.arange(self.complex_shape[1], dtype=float))

    def _over(self, values: Array) -> Array:
        return np.repeat(np.broadcast_to(values, self.complex_shape), 2, axis=-1)

    @property
    def radius(self) -> float:
        """R."""
        return float(getattr(self.grid, "radius", 1.0))

    @cached_property
    def wavenumbers(self) -> dict[str, Array]:
        """√(l(l+1))/R: one for both axes."""
        return {"lat": np.sqrt(self.degree * (self.degree + 1.0)) / self.radius}

    def laplacian(self, scheme: str = "continuous") -> dict[str, Array]:
        """l(l+1)/R²; ValueError for the finite volumes', which have other eigenfunctions."""
        if scheme != "continuous":
            raise ValueError("the finite volumes of a sphere have no spherical harmonics for eigenfunctions: take "
                             'method="exact", or "tr_bdf2"')
        return {"lat": self.degree * (self.degree + 1.0) / self.radius**2}

    @cached_property
    def weights(self) -> Array:
        """w of Σ V u² = Σ w m²."""
        return np.where(self.order > 0.0, 2.0, 1.0)

    def variance(self, density: Array) -> Array:
        """Variance in every cell of the field whose orthonormal modes have the variances `density`, (rows, 1)."""
        strength = (density * self.weights).reshape(*self.complex_shape, 2)[..., 0]
        total = np.einsum("lm,mli->i", strength, self._values**2)
        return np.asarray(total[:, None] / (self._root**2 * self.grid.shape[1]))
