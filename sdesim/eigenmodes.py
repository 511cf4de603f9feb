"""Fields on grids of unequal cells as sums of the eigenvectors of the finite volumes' own Laplacian.

With the volumes V of the cells, −V^{1/2} L V^{−1/2} is a symmetric matrix for the discrete Laplacian L, and its
eigenvectors Q are orthonormal: the modes V^{−1/2} Q are so with the cells' volumes, and stand for waves of the wave
number k = √λ. A field of the spectral density S, W = V^{−1/2} Q √S Qᵀ z with z independent normals, is then what the
stochastic equation S(√−L)^{−1/2} u = Ẇ says on the grid (Lindgren, Rue & Lindström, J. R. Statist. Soc. B 73, 2011, of
which Matérn's densities are powers), so that it does not depend on the cells that it is drawn on.

L is a sum over axes (`sdesim.geometry`), diagonalised axis by axis: on a sphere first along the rows, then along the
columns for each wave of the rows. That costs n³ once and 4n operations a cell and axis for each sheet.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from sdesim.geometry import metric
from sdesim.orthogonal import Orthogonal
from sdesim.spectral import Kind, Transform
from sdesim.spherical import SphereTransform

Array = NDArray[np.float64]
_PRODUCTS = Lock()  # a library of matrix products takes all cores itself: two callers at once would wait for each other
_HELD = {"neumann": (0.0, 0.0), "dirichlet": (2.0, 2.0), "dirichlet-neumann": (2.0, 0.0),
         "neumann-dirichlet": (0.0, 2.0)}
"""What the edges of an axis conduct, over what a face does: nothing, or twice as much at half the distance."""


def _symmetric(share: Array, conductance: Array, kind: Kind) -> Array:
    """−V^{1/2} L V^{−1/2} along one axis."""
    n, edges = share.size, conductance.copy()
    if kind != "periodic":
        edges[[0, -1]] *= _HELD[kind]
    matrix = np.diag(share * (edges[:-1] + edges[1:]))
    for j in range(n if kind == "periodic" else n - 1):
        beyond = (j + 1) % n
        step = np.sqrt(share[j] * share[beyond]) * edges[j + 1]
        matrix[j, beyond] -= step
        matrix[beyond, j] -= step
    return matrix


@dataclass(frozen=True)
class CellTransform(Transform):
    """The transform of fields on any grid; orthonormal with the cells' volumes.

    >>> from sdesim.curved import RadialGrid
    >>> ball = RadialGrid(r=(0.0, 1.0, 50))
    >>> modes = CellTransform(ball, ("neumann",))
    >>> field = ball.coordinates["r"]
    >>> bool(np.allclose(modes.inverse(modes.forward(field)), field))
    True
    >>> (modes.wavenumbers["r"][1] / 4.4934).round(3)  # the first root of tan x = x
    np.float64(1.0)
    """

    grid: Orthogonal
    kinds: tuple[Kind, ...]

    def __post_init__(self) -> None:
        if len(self.kinds) != self.grid.dimension or not set(self.kinds) <= {"periodic", *_HELD}:
            raise ValueError(f"a transform has one kind for each of the axes {self.grid.axes}; got {self.kinds}")

    def _axis(self, k: int) -> tuple[Array, Array]:
        """s and g along an axis, where other axes do not matter."""
        name = self.grid.axes[k]
        found = metric(self.grid, name, self.kinds[k] == "periodic")
        if found is None:
            n, h = self.grid.shape[k], self.grid.spacing[name]
            return np.full(n, 1.0 / h), np.full(n + 1, 1.0 / h)
        return found.share.ravel(), found.conductance.ravel()

    @cached_property
    def _bases(self) -> list[tuple[Array, Array]]:
        """(λ, Q) of each axis; of the first, where it is of latitude, for each wave along the other."""
        if "lon" not in self.grid.axes:
            return [np.linalg.eigh(_symmetric(*self._axis(k), kind)) for k, kind in enumerate(self.kinds)]
        rows = metric(self.grid, "lon", self.kinds[1] == "periodic")
        assert rows is not None  # columns of a sphere are never equal boxes
        strength = (rows.share[:, :1] * rows.conductance[:, :1]).ravel()  # but for the row, all are alike
        columns = np.linalg.eigh(_symmetric(rows.share[0], rows.conductance[0], self.kinds[1]))
        waves = np.maximum(columns[0], 0.0)[:, None, None] * np.diag(strength / strength[0])
        along = np.linalg.eigh(_symmetric(*self._axis(0), self.kinds[0]) + waves)
        return [(along[0], along[1]), columns]

    @cached_property
    def _root(self) -> Array:
        """√V of the cells."""
        return np.sqrt(self.grid.volumes)

    def _through(self, values: Array, back: bool) -> Array:
        """Qᵀ, or Q, over the last axes: a product of matrices for each sheet, the same bits in any batch."""
        with _PRODUCTS:
            return self._turned(values, back)

    def _turned(self, values: Array, back: bool) -> Array:
        shape, axes = self.grid.shape, self.grid.dimension
        sheets = values.reshape(-1, *shape)
        for k in range(axes) if back else range(axes - 1, -1, -1):
            Q = self._bases[k][1]
            turned = np.ascontiguousarray(np.moveaxis(sheets, k + 1, -1))
            if Q.ndim == 3:  # one for each wave along the last axis
                sheets = np.moveaxis(np.matmul(Q if back else Q.transpose(0, 2, 1), turned[..., None])[..., 0], -1, 1)
                continue
            rows = turned.reshape(len(sheets), -1, shape[k]) @ (Q.T if back else Q)
            sheets = np.moveaxis(rows.reshape(turned.shape), -1, k + 1)
        return np.ascontiguousarray(sheets).reshape(values.shape)

    def forward(self, field: Array, out: Array | None = None, scratch: Array | None = None) -> Array:
        """Modes (…, *modal_shape) of a field (…, *grid.shape)."""
        return self.white(field * self._root)

    def white(self, normals: Array, out: Array | None = None, scratch: Array | None = None) -> Array:
        """Modes (…, *modal_shape) of independent normals of the cells, each over the root of its volume."""
        return self._through(normals, back=False)

    def inverse(self, modes: Array, out: Array | None = None, scratch: Array | None = None) -> Array:
        """Field (…, *grid.shape) of its modes (…, *modal_shape)."""
        return self._through(modes, back=True) / self._root

    @property
    def is_complex(self) -> bool:
        """Modes are real."""
        return False

    @cached_property
    def complex_shape(self) -> tuple[int, ...]:
        """As the grid's: as many modes as cells."""
        return self.grid.shape

    @cached_property
    def wavenumbers(self) -> dict[str, Array]:
        """√λ of every axis; of a sphere one for both."""
        if "lon" in self.grid.axes:
            return {"lat": np.sqrt(np.maximum(self._bases[0][0].T, 0.0))}
        return {name: np.broadcast_to(self.grid.along(name, np.sqrt(np.maximum(values, 0.0))), self.grid.shape)
                for name, (values, _) in zip(self.grid.axes, self._bases)}

    @cached_property
    def weights(self) -> Array:
        """w of Σ V u² = Σ w m²: 1."""
        return np.ones(self.grid.shape)

    def variance(self, density: Array) -> Array:
        """Variance in every cell of the field whose orthonormal modes have the variances `density`."""
        total = np.asarray(density, np.float64)
        if "lon" in self.grid.axes:
            total = np.einsum("mil,lm->im", self._bases[0][1] ** 2, total) @ (self._bases[1][1] ** 2).T
        else:
            for k, (_, Q) in enumerate(self._bases):
                total = np.moveaxis(np.moveaxis(total, k, -1) @ (Q**2).T, -1, k)
        return np.asarray(total / self.grid.volumes)


@lru_cache(maxsize=16)
def transform_of(grid: Orthogonal, kinds: tuple[Kind, ...]) -> Transform:
    """The transform of fields on a grid by what it is: waves in a box, spherical harmonics, or the cells' own modes.

    >>> from sdesim.grids import Grid
    >>> type(transform_of(Grid(x=np.array([0.0, 1.0, 3.0])), ("neumann",))).__name__
    'CellTransform'
    """
    if grid.is_box:
        return Transform(grid, kinds)
    globe = getattr(grid, "gaussian", False) and grid.wraps("lon") and grid.is_even("lon")
    return SphereTransform(grid) if globe else CellTransform(grid, kinds)
