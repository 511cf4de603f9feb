"""Modes of domains that are no boxes: eigenvectors of the Laplacian of the wet cells, or a sphere's harmonics.

Cells are the nodes of a graph; two wet neighbours share an edge of weight 1, across a periodic end too. A "dirichlet"
end of the box holds the value 0 on the face, half a cell away: weight 2 on the diagonal. No flux leaves to dry cells.
Without dry cells the eigenvalues are those of the Fourier, cosine and sine modes, 2 − 2 cos κ for each axis.

Of a large domain the lowest modes only are found (shift-invert Lanczos). They are completed to a basis of all fields
by Householder reflections, Q = I − Y T Yᵀ (Schreiber & Van Loan, SIAM J. Sci. Stat. Comput. 10, 1989,
doi:10.1137/0910005), whose further vectors are all the same to a law that is flat among them.

On a sphere fields are weighted by √V, V the cells' areas over their mean, in which white noise is that of a sphere (of
variance 1/V in a cell) and spherical harmonics are orthogonal: exactly on Gaussian latitudes, by their QR factors on
others. They are taken up to the degree that the grid resolves at the equator and between the poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import eigsh
from torch import Tensor

WHOLE = 2048  # cells up to which all eigenvectors are found
LOWEST = 512  # how many of a larger domain


def laplacian(wet: NDArray[np.bool_], boundary: tuple[str, ...]) -> sparse.csr_array:
    """−Δ on the wet cells of a box, in units of a cell: symmetric, positive semi-definite.

    >>> laplacian(np.array([True, True, False]), ("reflect",)).toarray().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    place = np.full(wet.shape, -1)
    place[wet] = np.arange(wet.sum())
    n, pairs, wall = int(wet.sum()), [], np.zeros(int(wet.sum()))
    for axis, kind in enumerate(boundary):
        ahead = np.roll(place, -1, axis)
        last = [slice(None)] * wet.ndim
        last[axis] = slice(-1, None)
        if kind != "periodic" or wet.shape[axis] < 3:
            ahead[tuple(last)] = -1
        both = (place >= 0) & (ahead >= 0)
        pairs.append((place[both], ahead[both]))
        if kind == "dirichlet":
            for end in (0, -1):
                cells = np.take(place, end, axis).ravel()
                np.add.at(wall, cells[cells >= 0], 2.0)
    i, j = (np.concatenate([pair[k] for pair in pairs]) for k in (0, 1))
    links = sparse.coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    links = (links + links.T).tocsr()
    return sparse.csr_array(sparse.diags_array(links.sum(axis=1) + wall) - links)


def areas(lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """The areas of the rows of a sphere with rows at these latitudes in degrees, over their mean; 90° is an edge.

    >>> areas(np.array([-60.0, 0.0, 60.0])).round(3).tolist()
    [0.75, 1.5, 0.75]
    """
    edges = np.concatenate([[-90.0], (lat[1:] + lat[:-1]) / 2, [90.0]])
    area = np.diff(np.sin(np.deg2rad(edges)))
    return np.asarray(area / area.mean())


def _legendre(lat: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """P̄_lm(sin φ), (m, l, rows), zero for l < m: Holmes & Featherstone 2002, eqs. 11 and 12."""
    mu, cosine = np.sin(np.deg2rad(lat)), np.cos(np.deg2rad(lat))
    values = np.zeros((degree + 1, degree + 1, len(lat)))
    edge = np.full(len(lat), math.sqrt(0.5))
    for m in range(degree + 1):
        if m:
            edge = edge * cosine * math.sqrt((2 * m + 1) / (2 * m))
        below, here, before = np.zeros(len(lat)), edge, math.inf
        values[m, m] = here
        for l in range(m + 1, degree + 1):
            a = math.sqrt((4.0 * l * l - 1.0) / (l * l - m * m))
            below, here, before = here, a * mu * here - a / before * below, a
            values[m, l] = here
    return values


@dataclass(frozen=True)
class GraphModes:
    """Modes of fields (n, channels, cells): `vectors` (cells, m), one per column, −Δ's eigenvalues (m,) ascending.

    Coefficients m … cells − 1 are those of the completion. `rotation` (channels, channels, cells) as in SpectralModes.

    >>> modes = GraphModes.of(np.array([[True, True, False], [True, True, True]]), ("reflect", "reflect"))
    >>> x = torch.randn(2, 3, 5, dtype=torch.float64)
    >>> bool(torch.allclose(modes.synthesise(modes.analyse(x)), x)), modes.space
    (True, (5,))
    """

    vectors: Tensor
    eigenvalues: Tensor
    rotation: Tensor | None = None
    sphere: bool = False

    @classmethod
    def of(cls, wet: NDArray[np.bool_], boundary: tuple[str, ...]) -> GraphModes:
        """The modes of the wet cells of a box."""
        matrix = laplacian(wet, boundary)
        n = matrix.shape[0]
        if n <= WHOLE:
            values, vectors = np.linalg.eigh(matrix.toarray())
        else:
            start = np.random.default_rng(0).normal(size=n)  # Lanczos's start: the same modes every time
            values, vectors = eigsh(matrix.tocsc(), LOWEST, sigma=-1e-3, v0=start)
            order = np.argsort(values)
            values, vectors = values[order], vectors[:, order]
        return cls(torch.from_numpy(np.ascontiguousarray(vectors)), torch.from_numpy(values.clip(0.0)))

    @classmethod
    def of_sphere(cls, lat: NDArray[np.float64], columns: int) -> GraphModes:
        """Harmonics of a whole sphere, rows at `lat` (degrees, ascending) and so many equal columns, rows outermost.

        Eigenvalues are l(l + 1); shells hold one degree each.
        """
        degree = min(len(lat) - 1, (columns - 1) // 2, math.isqrt(WHOLE) - 1)
        legendre, turn = _legendre(lat, degree), 2.0 * math.pi * np.arange(columns) / columns
        found, degrees = [], []
        for l in range(degree + 1):
            for m in range(-l, l + 1):
                wave = np.cos(m * turn) if m >= 0 else np.sin(-m * turn)
                found.append(np.outer(legendre[abs(m), l] * np.sqrt(areas(lat)), wave).ravel())
                degrees.append(l)
        vectors, triangle = np.linalg.qr(np.stack(found, axis=1))
        vectors = vectors * np.sign(np.diag(triangle))  # the sign of the harmonic itself
        order = torch.tensor(degrees, dtype=torch.float64)
        return cls(torch.from_numpy(vectors), order * (order + 1.0), sphere=True)

    @property
    def space(self) -> tuple[int, ...]:
        """(cells,)."""
        return (len(self.vectors),)

    @property
    def uniform(self) -> bool:
        """Whether every place is like every other: not where there are coasts."""
        return False

    @cached_property
    def _reflections(self) -> tuple[Tensor, Tensor]:
        """(Y, T) of Q = I − Y T Yᵀ, whose first columns span those of `vectors`."""
        packed, tau = torch.geqrf(self.vectors)
        y = packed.tril(-1)
        y.diagonal().fill_(1.0)
        inverse = torch.triu(y.T @ y, 1) + torch.diag(1.0 / tau)
        return y, torch.linalg.inv(inverse)

    def _basis(self, x: Tensor, *, inverse: bool) -> Tensor:
        if self.vectors.shape[0] == self.vectors.shape[1]:
            return x @ (self.vectors.T if inverse else self.vectors)
        y, t = self._reflections
        return x - ((x @ y) @ (t.T if inverse else t)) @ y.T

    def analyse(self, x: Tensor) -> Tensor:
        """Fields (n, channels, cells) to coefficients of the same shape."""
        z = self.to(x)._basis(x, inverse=False)
        return z if self.rotation is None else torch.einsum("abk,nbk->nak", self.rotation.to(z), z)

    def synthesise(self, z: Tensor) -> Tensor:
        """Coefficients to fields: the inverse of `analyse`."""
        if self.rotation is not None:
            z = torch.einsum("abk,nak->nbk", self.rotation.to(z), z)
        return self.to(z)._basis(z, inverse=True)

    def pool(self, energy: Tensor) -> Tensor:
        """Energies (..., cells) with one mean for all of the completion, which has no order."""
        m = len(self.eigenvalues)
        if m == energy.shape[-1]:
            return energy
        rest = energy[..., m:].mean(-1, keepdim=True).expand_as(energy[..., m:])
        return torch.cat([energy[..., :m], rest], dim=-1)

    def shells(self) -> Tensor:
        """Which modes share their mean spectrum: (cells,) integers, by √eigenvalue in steps of half a wave number, or
        by the degree of harmonics.
        """
        cells, m = len(self.vectors), len(self.eigenvalues)
        root = self.eigenvalues.sqrt()  # on a sphere √(l(l + 1)), from l to l + 1
        steps = root.floor().long() if self.sphere else (root * math.sqrt(cells) / math.pi).round().long()
        return torch.cat([steps, (steps[-1] + 1).expand(cells - m)])

    def pointwise(self, variance: Tensor) -> Tensor:
        """The variance of every cell, (channels, cells), from that of the modes."""
        if self.rotation is not None:
            variance = torch.einsum("bak,bk->ak", self.rotation.to(variance) ** 2, variance)
        square, m = self.vectors.to(variance) ** 2, len(self.eigenvalues)
        found = variance[..., :m] @ square.T
        return found if m == len(square) else found + (1.0 - square.sum(1)) * variance[..., -1:]

    def to(self, like: Tensor) -> GraphModes:
        """The same basis with the dtype and device of `like`."""
        if self.vectors.dtype == like.dtype and self.vectors.device == like.device:
            return self
        rotation = None if self.rotation is None else self.rotation.to(like)
        return replace(self, vectors=self.vectors.to(like), eigenvalues=self.eigenvalues.to(like), rotation=rotation)

    def tensors(self) -> dict[str, Tensor]:
        """The arrays that describe it."""
        rotation = {} if self.rotation is None else {"rotation": self.rotation}
        return {"vectors": self.vectors, "eigenvalues": self.eigenvalues} | rotation
