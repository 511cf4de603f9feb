"""Fields as sums of the Laplacian's eigenfunctions, one transform for each axis and kind of boundary.

On an axis of length L with n cells, orthonormal at the cell centres x = lo + (i + ½)Δ:

    periodic            e^{ikx}                  k = 2πm/L           FFT       m = −n/2 … n/2
    neumann             cos k(x − lo)            k = mπ/L            DCT-II    m = 0 … n − 1
    dirichlet           sin k(x − lo)            k = mπ/L            DST-II    m = 1 … n
    dirichlet-neumann   sin k(x − lo)            k = (m + ½)π/L      DST-IV    m = 0 … n − 1
    neumann-dirichlet   cos k(x − lo)            k = (m + ½)π/L      DCT-IV    m = 0 … n − 1

They are eigenfunctions of −∂²/∂x² with eigenvalue k², and of the finite-volume operator with (4/Δ²) sin²(kΔ/2).

Modal space is a real array. Where an axis is periodic, the complex coefficients of the half spectrum (`rfftn` over the
periodic axes, the last of them halved) lie interleaved, re and im, along the last axis. Then Σ u² = Σ w m² with
`weights` w: 2 for the coefficients that stand for a conjugate pair, else 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sdesim import fourier
from sdesim.boundaries import Condition, Dirichlet, Neumann, Periodic, Robin, describe
from sdesim.orthogonal import Orthogonal

if TYPE_CHECKING:
    from sdesim.models.pde import PDE

Kind = Literal["periodic", "neumann", "dirichlet", "dirichlet-neumann", "neumann-dirichlet", "sphere"]
KINDS: tuple[Kind, ...] = ("periodic", "neumann", "dirichlet", "dirichlet-neumann", "neumann-dirichlet")
_REAL: dict[Kind, tuple[str, int]] = {
    "neumann": ("dct", 2), "dirichlet": ("dst", 2), "dirichlet-neumann": ("dst", 4), "neumann-dirichlet": ("dct", 4),
}
_CELLS = {"neumann": 0.0, "dirichlet": 1.0, "dirichlet-neumann": 0.5, "neumann-dirichlet": 0.5}


def forward(field: NDArray[Any], kinds: tuple[Kind, ...], out: NDArray[Any] | None = None,
            scratch: NDArray[Any] | None = None) -> NDArray[Any]:
    """Orthonormal transform over the last axes, one kind for each: (…, *space) to (…, *modes), real.

    `out` is where the modes go, C-contiguous, `scratch` is like the field, to be written over; new arrays if None.
    """
    d = len(kinds)
    periodic = [i - d for i, kind in enumerate(kinds) if kind == "periodic"]
    spare = scratch if periodic else out
    for i, kind in enumerate(kinds):
        if kind != "periodic":
            field = spare = fourier.real(field, d, *_REAL[kind], i - d, spare)
    if not periodic:
        return field
    pairs = None if out is None else out.view(np.result_type(out.dtype, np.complex64))
    modes = fourier.waves(field, d, periodic, pairs)
    return modes.view(modes.real.dtype)


def inverse(modes: NDArray[Any], kinds: tuple[Kind, ...], shape: tuple[int, ...], out: NDArray[Any] | None = None,
            scratch: NDArray[Any] | None = None) -> NDArray[Any]:
    """The field of the given shape (…, *shape) from its modes: undoes `forward`.

    `out` is where the field goes, `scratch` is like the modes, to be written over; new arrays if None.
    """
    d = len(kinds)
    periodic = [i - d for i, kind in enumerate(kinds) if kind == "periodic"]
    field = modes
    if periodic:
        pair = np.result_type(modes.dtype, np.complex64)
        pairs = np.ascontiguousarray(modes).view(pair)
        spare = None if scratch is None else scratch.view(pair)
        field = out = fourier.field_of(pairs, d, periodic, shape[periodic[-1]], out, spare)
    for i, kind in enumerate(kinds):
        if kind != "periodic":
            name, number = _REAL[kind]
            field = out = fourier.real(field, d, name, 3 if number == 2 else number, i - d, out)
    return field


@dataclass(frozen=True)
class Transform:
    """The orthonormal transform of fields on a grid, one kind for each axis in array order.

    >>> from sdesim.grids import Grid
    >>> transform = Transform(Grid(x=(0.0, 1.0, 8)), ("neumann",))
    >>> modes = transform.forward(np.ones((3, 8)))
    >>> bool(np.allclose(modes[0], [8**0.5, 0, 0, 0, 0, 0, 0, 0]))
    True
    """

    grid: Orthogonal
    kinds: tuple[Kind, ...]

    def __post_init__(self) -> None:
        if not self.grid.is_box:
            raise ValueError(f"waves are for grids of equal cells; this one is {self.grid!r}: choose a finite-volume "
                             "method (tr_bdf2, rkl2, …)")
        if len(self.kinds) != self.grid.dimension or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"a transform has one kind for each of the axes {self.grid.axes}, out of "
                             f"{', '.join(KINDS)}; got {self.kinds}")

    def forward(self, field: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
                ) -> NDArray[Any]:
        """Modes (…, *modal_shape) of a field (…, *grid.shape); see `sdesim.spectral.forward`."""
        return forward(field, self.kinds, out, scratch)

    def inverse(self, modes: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
                ) -> NDArray[Any]:
        """Field (…, *grid.shape) of its modes (…, *modal_shape); see `sdesim.spectral.inverse`."""
        return inverse(modes, self.kinds, self._space, out, scratch)

    @cached_property
    def _space(self) -> tuple[int, ...]:
        return self.grid.shape

    def white(self, normals: NDArray[Any], out: NDArray[Any] | None = None, scratch: NDArray[Any] | None = None,
              ) -> NDArray[Any]:
        """Modes (…, *modal_shape) of independent normals in the cells: independent normals again."""
        return self.forward(normals, out, scratch)

    @cached_property
    def complex_shape(self) -> tuple[int, ...]:
        """Coefficients along each axis: the last periodic axis is halved."""
        shape = list(self.grid.shape)
        if "periodic" in self.kinds:
            last = self.halved
            shape[last] = shape[last] // 2 + 1
        return tuple(shape)

    @property
    def halved(self) -> int:
        """Position of the last periodic axis, −1 when there is none."""
        return max((i for i, kind in enumerate(self.kinds) if kind == "periodic"), default=-1)

    @property
    def is_complex(self) -> bool:
        """Whether modes are interleaved (re, im) pairs."""
        return "periodic" in self.kinds

    @cached_property
    def modal_shape(self) -> tuple[int, ...]:
        """Shape of modal space as a real array."""
        *rest, last = self.complex_shape
        return (*rest, 2 * last if self.is_complex else last)

    @cached_property
    def wavenumbers(self) -> dict[str, NDArray[np.float64]]:
        """k of every axis, broadcast to `modal_shape` (signed on the periodic axes)."""
        result = {}
        for i, (name, kind) in enumerate(zip(self.grid.axes, self.kinds, strict=True)):
            cells, length = self.grid.shape[i], self.grid.lengths[name]
            if kind == "periodic":
                full = np.fft.fftfreq(cells, 1.0 / cells) * (2.0 * np.pi / length)
                k = np.abs(full[: cells // 2 + 1]) if i == self.halved else full
            else:
                k = (np.arange(cells) + _CELLS[kind]) * (np.pi / length)
            result[name] = self._spread(k, i)
        return result

    def laplacian(self, scheme: str = "continuous") -> dict[str, NDArray[np.float64]]:
        """Eigenvalues of −∂²/∂x² for every axis, shaped as `modal_shape`.

        Args:
            scheme: "continuous" for k², "finite-volume" for (4/Δ²) sin²(kΔ/2).

        >>> from sdesim.grids import Grid
        >>> transform = Transform(Grid(x=(0.0, 1.0, 4)), ("dirichlet",))
        >>> transform.laplacian()["x"] / np.pi**2
        array([ 1.,  4.,  9., 16.])
        """
        if scheme not in ("continuous", "finite-volume"):
            raise ValueError(f"scheme is 'continuous' or 'finite-volume'; got {scheme!r}")
        if scheme == "continuous":
            return {name: k * k for name, k in self.wavenumbers.items()}
        h = self.grid.spacing
        return {name: (2.0 / h[name] * np.sin(0.5 * k * h[name])) ** 2 for name, k in self.wavenumbers.items()}

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """w of Σ u² = Σ w m², shaped as `modal_shape`."""
        if not self.is_complex:
            return np.ones(self.modal_shape)
        cells = self.grid.shape[self.halved]
        m = np.arange(cells // 2 + 1)
        return self._spread(np.where((m == 0) | (2 * m == cells), 1.0, 2.0), self.halved)

    def _spread(self, values: NDArray[Any], position: int) -> NDArray[np.float64]:
        shape = [1] * self.grid.dimension
        shape[position] = values.size
        full = np.broadcast_to(values.reshape(shape), self.complex_shape)
        return np.repeat(full, 2, axis=-1) if self.is_complex else np.array(full)


def no_flux(grid: Orthogonal) -> tuple[Kind, ...]:
    """The kinds of a grid with no flux through any edge."""
    return tuple("periodic" if grid.wraps(name) else "neumann" for name in grid.axes)


def kind_of(low: Condition, high: Condition) -> Kind | None:
    """The transform that a pair of conditions asks for, by their types; None for a Robin condition.

    >>> kind_of(Dirichlet(0.0), Neumann(0.0))
    'dirichlet-neumann'
    """
    match low, high:
        case Periodic(), Periodic():
            return "periodic"
        case Neumann(), Neumann():
            return "neumann"
        case Dirichlet(), Dirichlet():
            return "dirichlet"
        case Dirichlet(), Neumann():
            return "dirichlet-neumann"
        case Neumann(), Dirichlet():
            return "neumann-dirichlet"
    return None


def kinds_of(model: PDE, state: str) -> tuple[Kind, ...]:
    """The kinds of one state of a PDE, in array order; a Robin edge counts as one without flux.

    >>> from sdesim.models.pde import PDE
    >>> from sdesim.grids import Grid
    >>> kinds_of(PDE(Grid(x=(0, 1, 4), y=(0, 1, 4)), diffusivity=1.0, boundary={"x": Periodic()}), "u")
    ('neumann', 'periodic')
    """
    sides = model.boundary[state]
    nearest = {axis: [Neumann() if isinstance(side, Robin) else side for side in sides[axis]] for axis in sides}
    return tuple(kind_of(*nearest[axis]) or "neumann" for axis in model.grid.axes)


def transform_for(grid: Orthogonal, sides: Mapping[str, tuple[Condition, Condition]]) -> Transform:
    """The transform whose eigenfunctions meet the conditions on both sides of every axis, with zero for their values.

    Raises:
        ValueError: a Robin condition, cells that differ or are left out.
    """
    if grid.mask is not None:
        raise ValueError("a spectral method knows no mask: choose a finite-volume method (tr_bdf2, rkl2, …)")
    if "lon" in grid.axes:
        from sdesim.spherical import SphereTransform

        return SphereTransform(grid)
    kinds: list[Kind] = []
    for axis in grid.axes:
        kind = kind_of(*sides[axis])
        if kind is None:
            given = " and ".join(describe(side) for side in sides[axis])
            raise ValueError(f"a spectral method needs edges that are periodic, held at a value or at a flux; along "
                             f"{axis} it got {given}: choose a finite-volume method (rkl2, ssprk3, …)")
        kinds.append(kind)
    return Transform(grid, tuple(kinds))
