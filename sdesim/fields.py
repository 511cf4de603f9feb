"""Gaussian random fields and noise in space, built mode by mode from counter-based normals.

A correlation ρ(r) with ρ(0) = 1 and length ℓ has in d dimensions, κ² = Σ (ℓᵢkᵢ)², the spectral density

    Gaussian  ρ = e^{−r²/2ℓ²}       S(k) = (2π)^{d/2} ∏ℓᵢ e^{−κ²/2}
    Matérn ν  (Whittle 1954)        S(k) = 2ᵈ π^{d/2} Γ(ν + d/2)/Γ(ν) (2ν)^ν ∏ℓᵢ (2ν + κ²)^{−(ν + d/2)}

White noise of amplitude σ has the cell means σ √Δt ξ/√|cell| (ξ standard normal); coloured noise has in addition √S(k)
on every mode, so that a mode's strength does not depend on the mesh. The coarse sheet is the cell mean of the fine one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdesim import arithmetic
from sdesim.calculus import evaluate
from sdesim.coefficients import over_space
from sdesim.eigenmodes import CellTransform, transform_of
from sdesim.expressions import Expr
from sdesim.grids import Grid
from sdesim.orthogonal import Orthogonal
from sdesim.parsing import as_expr
from sdesim.printing import to_text
from sdesim.spectral import Kind, Transform, inverse, no_flux
from sdesim.spherical import SphereTransform
from sdesim.streams import Purpose, field_normals

Length: TypeAlias = float | Mapping[str, float]


@dataclass(frozen=True)
class WhiteNoise:
    """Space–time white noise: amplitude × Ẇ(x, t), an expression of the coordinates, states, t and parameters.

    Args:
        amplitude: as said.
        correlation_time: None for noise white in time; τ > 0 for η in place of Ẇ, dη = −η/τ dt + dW/τ, stationary from
            the start: covariance e^{−|s|/τ}/2τ in time, and white as τ → 0 (Stratonovich where it multiplies the
            state, at any dt). Finite volumes alone.

    Raises:
        ValueError: a correlation time that is not positive.

    >>> WhiteNoise(0.5)
    WhiteNoise(amplitude=0.5, correlation_time=None)
    """

    amplitude: Any = 1.0
    correlation_time: float | None = None

    def __post_init__(self) -> None:
        _check_time(self.correlation_time)


@dataclass(frozen=True)
class ColouredNoise:
    """Noise white in time with a correlation in space of unit variance, times the amplitude (a Q-Wiener process).

    Waves reflect at edges, where the variance is twice as large, and do not see a mask. On grids of unequal cells the
    waves are the finite volumes' own (`sdesim.eigenmodes`); of a radial grid they are the means over shells, as is its
    white noise.

    Args:
        amplitude: standard deviation of the noise at a point, per √time; an expression as for `WhiteNoise`.
        length: correlation length ℓ > 0, one number or ``{"x": ..., "y": ...}``.
        smoothness: None for a Gaussian correlation, ν > 0 for a Matérn one.
        correlation_time: as for `WhiteNoise`.

    Raises:
        ValueError: a length, smoothness or correlation time that is not positive.

    >>> ColouredNoise("0.1*kappa", length=0.2)
    ColouredNoise(amplitude='0.1*kappa', length=0.2, smoothness=None, correlation_time=None)
    """

    amplitude: Any
    length: Length
    smoothness: float | None = None
    correlation_time: float | None = None

    def __post_init__(self) -> None:
        _check_covariance(self.length, self.smoothness)
        _check_time(self.correlation_time)


@dataclass(frozen=True)
class ConservedNoise:
    """Noise that keeps the integral, ∇·(amplitude × ξ(x, t)) with a white vector field ξ: fluctuating diffusion.

    On the faces of the cells, where the amplitude is that of the mean of both cells, on any grid; finite volumes alone.
    Edges are periodic, of a given flux (through which no noise goes) or of a given value.

    Args:
        amplitude: an expression as for `WhiteNoise`, such as ``"sqrt(2*D*max(u, 0))"`` (Dean and Kawasaki).
        correlation_time: as for `WhiteNoise`.

    Raises:
        ValueError: a correlation time that is not positive.

    >>> ConservedNoise("sqrt(2*u)").amplitude
    'sqrt(2*u)'
    """

    amplitude: Any
    correlation_time: float | None = None

    def __post_init__(self) -> None:
        _check_time(self.correlation_time)


Noise: TypeAlias = WhiteNoise | ColouredNoise | ConservedNoise


@dataclass(frozen=True)
class GaussianField:
    """A Gaussian random field on a grid: an initial state or a coefficient.

    Args:
        mean: number, expression of the coordinates and parameters, or array over the grid.
        std: the same; the standard deviation of the field in every cell. Along an axis with a zero-value edge, where
            the field must vanish, it is the root of the variance's mean along that axis.
        length: correlation length ℓ > 0, one number or ``{"x": ..., "y": ...}``.
        smoothness: None for a Gaussian covariance, ν > 0 for a Matérn one.

    >>> GaussianField(std=2.0, length=0.2).sample(Grid(x=(0, 1, 16)), seed=0, members=[3, 4]).shape
    (2, 16)
    """

    mean: Any = 0.0
    std: Any = 1.0
    length: Length = 0.1
    smoothness: float | None = None

    def __post_init__(self) -> None:
        _check_covariance(self.length, self.smoothness)

    def sample(self, grid: Orthogonal, *, seed: int, members: ArrayLike, kinds: Sequence[Kind] | None = None,
               state: int = 0, parameters: Mapping[str, Any] | None = None, purpose: Purpose = Purpose.INITIAL
               ) -> NDArray[np.float64]:
        """Fields (members, *grid.shape); member i depends on (seed, i) alone.

        Args:
            grid: where the field lives.
            seed: of the ensemble.
            members: their numbers.
            kinds: boundary of each axis in array order (see `sdesim.spectral`); no flux unless given.
            state: which state of the model the field is for: different states draw different noise.
            parameters: values that mean and std may name: numbers, or arrays over the members.
        """
        transform = transform_of(grid, tuple(kinds) if kinds is not None else no_flux(grid))
        index = np.atleast_1d(np.asarray(members))
        known = {**grid.mesh, **{name: _over_members(value, index.size, grid)
                                 for name, value in (parameters or {}).items()}}
        density = spectral_density(transform, self.length, self.smoothness)
        scale = 1.0 / np.sqrt(normalising_variance(transform, density))
        noise = field_normals(seed, index, 0, state, grid.shape, purpose)
        unit = transform.inverse(transform.white(noise) * np.sqrt(density)) * scale
        mean, std = (_value(given, known, grid, what) for given, what in ((self.mean, "mean"), (self.std, "std")))
        if np.any(std < 0.0):
            raise ValueError(f"std of a GaussianField must not be negative; its lowest value is {np.min(std):g}")
        return np.asarray(mean + std * unit)

    def mean_on(self, grid: Orthogonal, parameters: Mapping[str, Any]) -> NDArray[np.float64]:
        """The mean in every cell, an array of the grid's shape, for parameters that are numbers.

        >>> GaussianField(mean="2*x").mean_on(Grid(x=(0, 1, 2)), {})
        array([0.5, 1.5])
        """
        known = {**grid.mesh, **parameters}
        return np.array(np.broadcast_to(_value(self.mean, known, grid, "mean"), grid.shape), np.float64)


def spectral_density(transform: Transform, length: Length, smoothness: float | None) -> NDArray[np.float64]:
    """S(k) of a correlation of unit variance, shaped as modal space. Unit: volume.

    >>> transform = Transform(Grid(x=(0, 1, 4)), ("neumann",))
    >>> bool(np.isclose(spectral_density(transform, 0.1, None)[0], 0.1 * (2 * np.pi) ** 0.5))
    True
    """
    grid, axes, d = transform.grid, transform.grid.axes, transform.grid.measure
    if "lon" in axes and isinstance(length, Mapping):
        raise ValueError(f"on a sphere a correlation has one length; got {dict(length)}")
    if isinstance(transform, SphereTransform):
        return _on_sphere(transform, length, smoothness)
    if isinstance(length, Mapping) and set(length) != set(axes):
        raise ValueError(f"length has one entry for each of the axes {', '.join(axes)}; got {', '.join(length)}")
    lengths = {axis: length[axis] if isinstance(length, Mapping) else length for axis in axes}
    volume = math.prod(l ** (d - len(axes) + 1 if axis == "r" else 1) for axis, l in lengths.items())
    kappa2 = np.zeros(transform.modal_shape)
    for axis, k in transform.wavenumbers.items():
        kappa2 = kappa2 + (lengths[axis] * k) ** 2
    density = volume * _unit_density(kappa2, d, smoothness)
    if "lon" in axes and grid.wraps("lon") and all(grid.closed("lat")):
        return np.asarray(density * (grid.volumes.sum() / density.sum()))
    return np.asarray(density)


def _unit_density(kappa2: NDArray[np.float64], d: int, smoothness: float | None) -> NDArray[np.float64]:
    """S/∏ℓᵢ in d dimensions."""
    if smoothness is None:
        return np.asarray((2.0 * math.pi) ** (d / 2) * np.exp(-0.5 * kappa2))
    nu = smoothness
    log_c = d * math.log(2.0) + d / 2 * math.log(math.pi) + math.lgamma(nu + d / 2) - math.lgamma(nu)
    return np.asarray(np.exp(log_c + nu * math.log(2 * nu) - (nu + d / 2) * np.log(2 * nu + kappa2)))


def _on_sphere(transform: SphereTransform, length: Any, smoothness: float | None) -> NDArray[np.float64]:
    """The plane's density at k² = l(l+1)/R² (Matérn: Lindgren, Rue & Lindström 2011, §3.3), of unit variance."""
    kappa2 = (length * transform.wavenumbers["lat"]) ** 2
    density = np.exp(-0.5 * kappa2) if smoothness is None else (1.0 + kappa2 / (2 * smoothness)) ** -(smoothness + 1)
    l = np.arange(density.shape[0])
    total = np.sum(density[:, 0] * (2 * l + 1)) / (4.0 * math.pi * transform.radius**2)
    return np.asarray(density / total)


def variance(transform: Transform, density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance in every cell (grid.shape) of the field whose orthonormal modes have the variances `density`.

    Var u(x) = Σ_k S_k φ_k(x)²; along a periodic axis φ² is 1/n everywhere.
    """
    if isinstance(transform, SphereTransform | CellTransform):
        return transform.variance(density)
    total = density * transform.weights
    if transform.is_complex:
        total = 0.5 * total.reshape(*transform.complex_shape, 2).sum(axis=-1)
    for axis, (kind, cells) in enumerate(zip(transform.kinds, transform.grid.shape, strict=True)):
        if kind == "periodic":
            squares = np.full((total.shape[axis], cells), 1.0 / cells)
        else:
            squares = inverse(np.eye(cells), (kind,), (cells,)) ** 2
        total = np.moveaxis(np.tensordot(total, squares, axes=(axis, 0)), -1, axis)
    return np.asarray(total)


def normalising_variance(transform: Transform, density: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance in every cell, averaged along the axes on which an edge holds the field at zero."""
    held = tuple(i for i, kind in enumerate(transform.kinds) if "dirichlet" in kind)
    return np.asarray(np.mean(variance(transform, density), axis=held, keepdims=True))


def white_noise(grid: Grid, seed: int, members: ArrayLike, step: int, *, state: int = 0, refine: int = 1
                ) -> NDArray[np.float64]:
    """Cell means of unit space–time white noise × √Δt over one step: ξ/√|cell|, an array (members, *grid.shape).

    With `refine` = r the same sheet is seen from the grid that is r times as fine: its cell means are returned.

    >>> coarse, fine = Grid(x=(0, 1, 8)), Grid(x=(0, 1, 16))
    >>> bool(np.all(white_noise(coarse, 1, [5], 0, refine=2) == restrict(white_noise(fine, 1, [5], 0), 2, 1)))
    True
    """
    fine = Grid(**{axis: (*grid.axis(axis)[:2], grid.axis(axis)[2] * refine) for axis in grid.axes})
    sheet = field_normals(seed, members, step, state, fine.shape) / math.sqrt(fine.cell_volume)
    return restrict(sheet, refine, grid.dimension)


def restrict(values: NDArray[np.float64], factor: int, dimension: int) -> NDArray[np.float64]:
    """Means over blocks of factor cells along each of the last `dimension` axes.

    Summed prime by prime, smallest first, and divided once for each, so that restricting by 2 and again by 2 gives
    the bits of restricting by 4.

    >>> restrict(np.arange(8.0), 4, 1)
    array([1.5, 5.5])
    """
    prime = next((p for p in range(2, factor + 1) if factor % p == 0), 1)
    if prime == 1:
        return values
    for axis in range(values.ndim - dimension, values.ndim):
        if values.shape[axis] % factor:
            raise ValueError(f"the factor {factor} must divide the {values.shape[axis]} cells of every axis")
        split = np.moveaxis(values, axis, -1).reshape(*np.delete(values.shape, axis), -1, prime)
        total = split[..., 0]
        for i in range(1, prime):
            total = total + split[..., i]
        values = np.moveaxis(total, -1, axis)
    return restrict(values / prime**dimension, factor // prime, dimension)


def noise_to_dict(noise: Noise) -> dict[str, Any]:
    """Plain data for a noise whose amplitude is an `Expr`."""
    kind = next(name for name, law in _KINDS.items() if type(noise) is law)
    data = {"kind": kind, **vars(noise), "amplitude": to_text(noise.amplitude)}
    if isinstance(data.get("length"), Mapping):
        data["length"] = dict(data["length"])
    if data["correlation_time"] is None:
        del data["correlation_time"]
    return data


def noise_from_dict(data: Mapping[str, Any]) -> Noise:
    """The noise that `noise_to_dict` described, its amplitude as text.

    >>> noise_from_dict({"kind": "white", "amplitude": "2"})
    WhiteNoise(amplitude='2', correlation_time=None)
    """
    rest = {name: value for name, value in data.items() if name != "kind"}
    if data.get("kind") not in _KINDS:
        raise ValueError(f"noise has one of the kinds {', '.join(_KINDS)}; got {data.get('kind')!r}")
    noise: Noise = _KINDS[data["kind"]](**rest)
    return noise


_KINDS: dict[str, Any] = {"white": WhiteNoise, "coloured": ColouredNoise, "conserved": ConservedNoise}


def _check_time(tau: float | None) -> None:
    if tau is not None and not (isinstance(tau, int | float) and 0.0 < tau < math.inf):
        raise ValueError(f"a correlation time is None (white in time) or a positive number; got {tau!r}")


def _check_covariance(length: Length, smoothness: float | None) -> None:
    for value in length.values() if isinstance(length, Mapping) else (length,):
        if not (isinstance(value, int | float) and value > 0.0 and math.isfinite(value)):
            raise ValueError(f"a correlation length is a positive number; got {value!r}")
    if smoothness is not None and not smoothness > 0.0:
        raise ValueError(f"smoothness is None (Gaussian covariance) or ν > 0 (Matérn); got {smoothness!r}")


def _over_members(value: Any, members: int, grid: Orthogonal) -> Any:
    array = np.asarray(value, dtype=float)
    return over_space(array, grid.dimension) if array.ndim else float(array)


def _value(given: Any, known: Mapping[Any, Any], grid: Orthogonal, what: str) -> Any:
    """A number, an array over the grid, or an expression evaluated on it."""
    if isinstance(given, np.ndarray) and given.ndim:
        if given.shape != grid.shape:
            raise ValueError(f"{what} of a GaussianField: wanted an array of shape {grid.shape}; got {given.shape}")
        return given
    node: Expr = as_expr(given, names=set(known), what=f"{what} of a GaussianField")
    with np.errstate(all="ignore"):
        return evaluate([node], known, arithmetic.NUMPY)[0]
