"""Grids that are no box: fields that depend on the radius alone, and fields on the surface of a sphere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdesim.expressions import Expr, const, function, symbol
from sdesim.grids import Grid
from sdesim.orthogonal import Array, Axis, Cut, Edges, Orthogonal, as_cut, as_mask, cuts_from_dict, cuts_to_dict

GEOMETRIES = {"cylinder": 1, "sphere": 2}


@dataclass(frozen=True, init=False, repr=False, eq=False)
class RadialGrid(Orthogonal):
    """Shells about a centre (a sphere) or an axis (a cylinder), on which a field depends on r; in a cylinder also on z.

    Args:
        r: ``(lo, hi, cells)`` or the rising edges of the shells, as in `Grid`; lo ≥ 0. At r = 0 there is no edge and
            no condition.
        geometry: "sphere" (∇² = r⁻² ∂(r² ∂)) or "cylinder" (r⁻¹ ∂(r ∂)).
        z: along the axis of a cylinder, as in `Grid`; left out where nothing varies along it.

    Raises:
        TypeError, ValueError: as for `Grid`; another geometry, lo < 0, a sphere with z.

    >>> ball = RadialGrid(r=(0.0, 1.0, 4), geometry="sphere")
    >>> bool(np.isclose(ball.volumes.sum(), 4 / 3 * np.pi))
    True
    """

    r: Cut
    z: Cut | None
    geometry: str

    def __init__(self, r: Any, geometry: str = "sphere", z: Any = None) -> None:
        if geometry not in GEOMETRIES:
            raise ValueError(f'geometry is "sphere" or "cylinder"; got {geometry!r}')
        if z is not None and geometry == "sphere":
            raise ValueError('only a cylinder has an axis z; leave z out, or take geometry="cylinder"')
        object.__setattr__(self, "geometry", geometry)
        object.__setattr__(self, "z", None if z is None else as_cut("z", z))
        object.__setattr__(self, "r", as_cut("r", r))
        if self.axis("r")[0] < 0.0:
            raise ValueError(f"a radius is not negative; the axis r begins at {self.axis('r')[0]}: begin it at 0")

    @property
    def axes(self) -> tuple[str, ...]:
        """("r",), or ("z", "r") in a cylinder with z."""
        return ("r",) if self.z is None else ("z", "r")

    def is_plain(self, name: str) -> bool:
        """Whether all cells along an axis are equal: along z they may be."""
        return name == "z" and self.is_even("z")

    def closed(self, name: str) -> tuple[bool, bool]:
        """r = 0 is no edge."""
        return name == "r" and self.axis("r")[0] == 0.0, False

    def passage(self, name: str) -> Array:
        """rᵖ of the faces across r, p = 1 in a cylinder and 2 in a sphere; ones across z."""
        edges = self.edges[name]
        return self.along(name, edges ** GEOMETRIES[self.geometry] if name == "r" else np.ones(edges.size))

    def share(self, name: str) -> Array:
        """(p + 1)/(r_high^{p+1} − r_low^{p+1}) of the shells; 1/Δz."""
        power = GEOMETRIES[self.geometry] + 1 if name == "r" else 1
        return self.along(name, power / np.diff(self.edges[name] ** power))

    @property
    def measure(self) -> int:
        """3, or 2 in a cylinder without z: the volumes are those of a unit of its length."""
        return 2 if self.geometry == "cylinder" and self.z is None else 3

    @property
    def volumes(self) -> Array:
        """Volumes of the shells; in a cylinder per unit length along z where the grid has no z."""
        power = GEOMETRIES[self.geometry] + 1
        shells = np.diff(self.edges["r"] ** power) * (math.pi if power == 2 else 4.0 / 3.0 * math.pi)
        return shells if self.z is None else self.along("z", np.diff(self.edges["z"])) * shells

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` builds the same grid."""
        return {"kind": "radial", "geometry": self.geometry, **cuts_to_dict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RadialGrid:
        """The grid that `to_dict` described.

        >>> grid = RadialGrid(r=(0.5, 1.0, 4), geometry="cylinder")
        >>> RadialGrid.from_dict(grid.to_dict()) == grid
        True
        """
        if data.get("kind") != "radial":
            raise ValueError(f"a radial grid's description has kind 'radial'; got {data.get('kind')!r}")
        return cls(**cuts_from_dict(data))


@dataclass(frozen=True, init=False, repr=False, eq=False)
class SphereGrid(Orthogonal):
    """The surface of a sphere, in rows of latitude and columns of longitude, in degrees; arrays are (…, lat, lon).

    Velocities along lat and lon, and slopes ddlat(u) and ddlon(u), are per length, not per degree.

    Args:
        lat: how many rows from pole to pole. Their centres are then the Gaussian latitudes, whose sines are the roots
            of the Legendre polynomial, and their areas are its weights, so that sums over cells integrate spherical
            harmonics exactly. Or ``(lo, hi, rows)`` or rising edges, within −90 … 90: equal rows or given ones.
        lon: how many columns around; or ``(lo, hi, columns)`` or rising edges, at most 360 apart.
        radius: R of the sphere, a length.
        mask: cells that are left out, such as land, as in `Grid`.

    Raises:
        TypeError, ValueError: as for `Grid`; latitudes or longitudes out of range, a radius that is not positive.

    >>> globe = SphereGrid(lat=4, lon=8)
    >>> globe.axes, globe.coordinates["lat"].round(2)
    (('lat', 'lon'), array([-59.44, -19.88,  19.88,  59.44]))
    >>> bool(np.isclose(globe.volumes.sum(), 4 * np.pi))
    True
    """

    lat: Cut
    lon: Cut
    radius: float
    gaussian: bool
    mask: NDArray[np.bool_] | None

    def __init__(self, lat: Any, lon: Any, radius: float = 1.0, mask: Any = None) -> None:
        if not isinstance(radius, Real) or isinstance(radius, bool) or not 0.0 < radius < math.inf:
            raise ValueError(f"the radius of a sphere is a positive number; got {radius!r}")
        rows, columns = (isinstance(n, Integral) and not isinstance(n, bool) for n in (lat, lon))
        object.__setattr__(self, "radius", float(radius))
        object.__setattr__(self, "gaussian", rows)
        object.__setattr__(self, "lat", _gaussian_edges(int(lat)) if rows else as_cut("lat", lat))
        object.__setattr__(self, "lon", as_cut("lon", (0.0, 360.0, lon) if columns else lon))
        for name, least, most, span in (("lat", -90.0, 90.0, 180.0), ("lon", -360.0, 720.0, 360.0)):
            lo, hi, _ = self.axis(name)
            if lo < least or hi > most or hi - lo > span:
                raise ValueError(f"{name} is in degrees, within {least:g} … {most:g} and at most {span:g} apart; got "
                                 f"{lo:g} … {hi:g}")
        object.__setattr__(self, "mask", as_mask(self, mask))

    @property
    def axes(self) -> tuple[str, ...]:
        """("lat", "lon")."""
        return ("lat", "lon")

    @cached_property
    def _centres(self) -> Array:
        """Gaussian latitudes."""
        return np.degrees(np.arcsin(gauss(self.shape[0])[0]))

    @property
    def coordinates(self) -> dict[str, Array]:
        """Centres of the rows and columns, in degrees."""
        found = super().coordinates
        return {**found, "lat": self._centres} if self.gaussian else found

    @property
    def is_globe(self) -> bool:
        """Whether the grid is a whole sphere with Gaussian rows and equal columns, and no mask."""
        return self.gaussian and self.wraps("lon") and self.is_even("lon") and self.mask is None

    def closed(self, name: str) -> tuple[bool, bool]:
        """The poles are no edges."""
        lo, hi, _ = self.axis(name)
        return (lo == -90.0, hi == 90.0) if name == "lat" else (False, False)

    def mirrors(self, name: str) -> bool:
        """Across a pole a field goes on along the meridian opposite."""
        return False

    def wraps(self, name: str) -> bool:
        """Whether the longitudes go all the way round."""
        return name == "lon" and self.lengths["lon"] == 360.0

    def scale(self, name: str) -> Expr:
        """Length of a degree: πR/180 along lat, times cos(lat) along lon."""
        degree = const(self.radius * math.pi / 180.0)
        return degree if name == "lat" else degree * function("cos", symbol("lat") * (math.pi / 180.0))

    def passage(self, name: str) -> Array:
        """cos(lat) of the faces across lat, zero at the poles; ones across lon."""
        edges = self.edges[name]
        if name == "lon":
            return self.along(name, np.ones(edges.size))
        return self.along(name, np.where(np.abs(edges) == 90.0, 0.0, np.cos(np.radians(edges))))

    def share(self, name: str) -> Array:
        """1/(R Δ sin φ) of the rows; Δφ/(R Δλ Δ sin φ) of the columns."""
        rows = 1.0 / (self.radius * self._bands)
        if name == "lat":
            return self.along("lat", rows)
        heights = self.along("lat", rows * np.radians(np.diff(self.edges["lat"])))
        return heights / self.along("lon", np.radians(np.diff(self.edges["lon"])))

    @property
    def _bands(self) -> Array:
        """Δ sin φ of the rows: Gauss's weights, or the differences of the edges' sines."""
        if self.gaussian:
            return gauss(self.shape[0])[1]
        return np.asarray(np.diff(np.sin(np.radians(self.edges["lat"]))))

    @property
    def volumes(self) -> Array:
        """Areas R² Δ sin φ Δλ of the cells."""
        columns = np.radians(np.diff(self.edges["lon"]))
        return self.radius**2 * self.along("lat", self._bands) * self.along("lon", columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain data from which `from_dict` builds the same grid; a mask stays an array."""
        cuts = cuts_to_dict(self)
        if self.gaussian:
            cuts["lat"] = self.shape[0]
        return {"kind": "sphere", **cuts, "radius": self.radius, **({} if self.mask is None else {"mask": self.mask})}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SphereGrid:
        """The grid that `to_dict` described.

        >>> grid = SphereGrid(lat=6, lon=(0.0, 90.0, 4))
        >>> SphereGrid.from_dict(grid.to_dict()) == grid
        True
        """
        if data.get("kind") != "sphere":
            raise ValueError(f"a sphere's description has kind 'sphere'; got {data.get('kind')!r}")
        return cls(**cuts_from_dict(data))

    def __repr__(self) -> str:
        rows = f"lat={self.shape[0]}" if self.gaussian else self._show("lat")
        cut = "" if self.mask is None else f", mask of {int(self.mask.sum())} cells"
        return f"SphereGrid({rows}, {self._show('lon')}, radius={self.radius}{cut})"


def grid_from_dict(data: Mapping[str, Any]) -> Orthogonal:
    """The grid of any kind that its `to_dict` described.

    >>> grid_from_dict(SphereGrid(lat=4, lon=8).to_dict())
    SphereGrid(lat=4, lon=(0.0, 360.0, 8), radius=1.0)
    """
    kinds: dict[Any, type[Grid] | type[RadialGrid] | type[SphereGrid]] = {
        "grid": Grid, "radial": RadialGrid, "sphere": SphereGrid}
    if data.get("kind") not in kinds:
        raise ValueError(f"a grid's description has one of the kinds {', '.join(kinds)}; got {data.get('kind')!r}")
    return kinds[data["kind"]].from_dict(data)


@lru_cache(maxsize=8)
def gauss(rows: int) -> tuple[Array, Array]:
    """Gauss's nodes on (−1, 1), rising, and weights, to rounding: 1/Σ_l P̄_l² over the polynomials of norm 1.

    >>> gauss(2)[0].round(12).tolist(), gauss(2)[1].round(12).tolist()
    ([-0.57735026919, 0.57735026919], [1.0, 1.0])
    """
    theta = np.pi * (np.arange(rows, 0, -1) - 0.25) / (rows + 0.5)
    for _ in range(6):  # Newton's method for P_n(cos θ) from Tricomi's estimate
        mu = np.cos(theta)
        before, here = np.ones(rows), mu
        for l in range(2, rows + 1):
            before, here = here, ((2 * l - 1) * mu * here - (l - 1) * before) / l
        theta = theta + here * np.sin(theta) / (rows * (before - mu * here))
    mu = np.cos(theta)
    before, here, slope = np.zeros(rows), np.full(rows, math.sqrt(0.5)), 0.0
    squares = here * here
    for l in range(1, rows):
        a = math.sqrt(4.0 - 1.0 / (l * l))
        before, here = here, a * mu * here - (a / slope if slope else 0.0) * before
        slope, squares = a, squares + here * here
    weights = 1.0 / squares
    return 0.5 * (mu - mu[::-1]), 0.5 * (weights + weights[::-1])


def _gaussian_edges(rows: int) -> Axis | Edges:
    """Edges of rows whose areas are Gauss's weights, in degrees."""
    if rows < 2:
        raise ValueError(f"axis lat needs at least two cells; got {rows}")
    inner = np.cumsum(gauss(rows)[1])[:-1] - 1.0
    inner = 0.5 * (inner - inner[::-1])  # symmetric to the last bit
    return Edges([-90.0, *np.degrees(np.arcsin(inner)).tolist(), 90.0])
