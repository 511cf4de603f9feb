"""Orthonormal real modes of a field: the basis in which its covariance is diagonal.

    z = Uᵀ x,   x = U z,   UᵀU = I            x: (n, channels, *space),  z: the same shape

Spectral modes, axis by axis:
    periodic    Hartley, jointly over all periodic axes: z_k = Σ_j cas(2π k·j/n) x_j / √N,  cas = cos + sin.
                It is its own inverse and diagonalises every covariance that depends on the separation only,
                tilted ones included, with real arithmetic; ±k share their variance.
    reflect     DCT-II, the eigenvectors of the no-flux Laplacian on cell centres
    dirichlet   DST-II, the eigenvectors of the Laplacian that is zero on the faces
    ("pole" ends the latitudes of a whole sphere, which is no box: `graphs.py`)
followed, for several variables, by one small rotation per mode (the principal axes of the cross-spectrum).
Dense modes are the eigenvectors of a covariance matrix over all channels and cells.

The cosine and sine transforms are products with one matrix per axis: at the sizes of a score model's training
fields they cost as much as an FFT and they are differentiable on every device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

BOUNDARIES = ("periodic", "reflect", "dirichlet", "pole")


class Modes(Protocol):
    """What a Gaussian needs from a basis: analysis, synthesis, and its tensors for the model file."""

    def analyse(self, x: Tensor) -> Tensor:
        """Fields (n, channels, *space) to coefficients of the same shape."""

    def synthesise(self, z: Tensor) -> Tensor:
        """Coefficients to fields: the inverse of `analyse`."""

    def to(self, like: Tensor) -> Modes:
        """The same basis with the dtype and device of `like`."""

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that describe it."""


@lru_cache(maxsize=64)
def _axis_matrix(n: int, boundary: str) -> Tensor:
    """Rows: the n orthonormal DCT-II ("reflect") or DST-II ("dirichlet") vectors, float64."""
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    if boundary == "reflect":
        rows = torch.cos(math.pi * k * (j + 0.5) / n) * math.sqrt(2.0 / n)
        rows[0] /= math.sqrt(2.0)
    else:
        rows = torch.sin(math.pi * (k + 1) * (j + 0.5) / n) * math.sqrt(2.0 / n)
        rows[-1] /= math.sqrt(2.0)
    return rows


@dataclass(frozen=True)
class SpectralModes:
    """Fourier-type modes on a box, each axis by its boundary; see the module's mathematics.

    `rotation` (channels, channels, *space): the coefficient a of mode k is Σ_b rotation[a, b, k] ẑ_b(k).

    >>> modes = SpectralModes((8, 6), ("periodic", "reflect"))
    >>> x = torch.randn(2, 1, 8, 6, dtype=torch.float64)
    >>> bool(torch.allclose(modes.synthesise(modes.analyse(x)), x))
    True
    """

    space: tuple[int, ...]
    boundary: tuple[str, ...]
    rotation: Tensor | None = None

    def analyse(self, x: Tensor) -> Tensor:
        """Fields (n, channels, *space) to coefficients of the same shape."""
        z = self._transform(x, inverse=False)
        return z if self.rotation is None else torch.einsum("ab...,nb...->na...", self.rotation.to(z), z)

    def synthesise(self, z: Tensor) -> Tensor:
        """Coefficients to fields: the inverse of `analyse`."""
        if self.rotation is not None:
            z = torch.einsum("ab...,na...->nb...", self.rotation.to(z), z)
        return self._transform(z, inverse=True)

    def _transform(self, x: Tensor, *, inverse: bool) -> Tensor:
        periodic = tuple(axis + 2 for axis, kind in enumerate(self.boundary) if kind == "periodic")
        for axis, kind in enumerate(self.boundary):
            if kind != "periodic":
                matrix = _axis_matrix(self.space[axis], kind).to(x)
                x = torch.movedim(torch.movedim(x, axis + 2, -1) @ (matrix if inverse else matrix.T), -1, axis + 2)
        if periodic:
            spectrum = torch.fft.fftn(x, dim=periodic, norm="ortho")
            x = spectrum.real - spectrum.imag
        return x

    @property
    def uniform(self) -> bool:
        """Whether every place is like every other: all axes are periodic."""
        return all(kind == "periodic" for kind in self.boundary)

    def mirror(self, z: Tensor) -> Tensor:
        """The coefficients at −k (periodic axes; the others have no mirror)."""
        axes = [axis - len(self.space) for axis, kind in enumerate(self.boundary) if kind == "periodic"]
        return z.flip(axes).roll([1] * len(axes), axes) if axes else z

    def pool(self, energy: Tensor) -> Tensor:
        """Energies (..., *space) with one mean for ±k."""
        return 0.5 * (energy + self.mirror(energy))

    def shells(self) -> Tensor:
        """Which modes share their mean spectrum: (*space) integers, by |k| in steps of half a wave number."""
        return (self.radius() * 2 * min(self.space)).round().long()

    def radius(self) -> Tensor:
        """|k| in cycles per cell, (*space): the radial coordinate of the spectrum."""
        squares = torch.zeros(self.space, dtype=torch.float64)
        for axis, (n, kind) in enumerate(zip(self.space, self.boundary, strict=True)):
            k = torch.arange(n, dtype=torch.float64)
            cycles = {"periodic": torch.minimum(k, n - k) / n, "reflect": k / (2 * n), "dirichlet": (k + 1) / (2 * n)}
            squares = squares + cycles[kind].reshape([-1 if a == axis else 1 for a in range(len(self.space))]) ** 2
        return squares.sqrt()

    def to(self, like: Tensor) -> SpectralModes:
        """The same basis with the dtype and device of `like`."""
        rotation = None if self.rotation is None else self.rotation.to(like)
        return SpectralModes(self.space, self.boundary, rotation)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that describe it."""
        return {} if self.rotation is None else {"rotation": self.rotation}


@dataclass(frozen=True)
class DenseModes:
    """Eigenvectors of a covariance matrix: `vectors` (d, d), one per column, d = channels × cells.

    >>> q, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    >>> x = torch.randn(3, 1, 2, 3, dtype=torch.float64)
    >>> bool(torch.allclose(DenseModes(q).synthesise(DenseModes(q).analyse(x)), x))
    True
    """

    vectors: Tensor

    def analyse(self, x: Tensor) -> Tensor:
        """Fields (n, channels, *space) to coefficients of the same shape."""
        return (x.flatten(1) @ self.vectors.to(x)).reshape(x.shape)

    def synthesise(self, z: Tensor) -> Tensor:
        """Coefficients to fields: the inverse of `analyse`."""
        return (z.flatten(1) @ self.vectors.to(z).T).reshape(z.shape)

    def to(self, like: Tensor) -> DenseModes:
        """The same basis with the dtype and device of `like`."""
        return DenseModes(self.vectors.to(like))

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that describe it."""
        return {"vectors": self.vectors}
