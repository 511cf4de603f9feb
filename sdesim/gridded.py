"""What a grid of unequal or missing cells adds to a Dataset: the cells' areas or volumes, and NaN where no field is.

A field's integral is then `(ds.u * ds.cell_area).sum(("lat", "lon"))`, its mean `ds.u.weighted(ds.cell_area).mean(…)`.
Names, units and `cell_measures` follow the CF conventions (section 7.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdesim.datasets import axis_attributes
from sdesim.models.pde import PDE

if TYPE_CHECKING:
    import xarray as xr

_KINDS = {1: ("cell_length", "length"), 2: ("cell_area", "area"), 3: ("cell_volume", "volume")}


def with_grid(ds: xr.Dataset, model: Any) -> xr.Dataset:
    """The Dataset with what its model's grid adds; as it is for an SDE or a box of equal cells.

    >>> import sdesim as sim
    >>> shell = sim.PDE(sim.RadialGrid(r=(1.0, 2.0, 4)), diffusivity=1.0)
    >>> ds = sim.simulate(shell, 1.0, [0.0])
    >>> ds.cell_volume.attrs["units"], bool(np.isclose((ds.u * ds.cell_volume).sum(), 4 / 3 * np.pi * 7))
    ('m3', True)
    """
    if not isinstance(model, PDE):
        return ds
    grid = model.grid
    fields = [name for name, values in ds.data_vars.items()
              if set(grid.axes) <= set(values.dims) and values.dtype.kind == "f"]
    if grid.mask is not None:
        for name in fields:  # the last dimensions are those of the grid
            ds[name].values[..., grid.mask] = np.nan
    if grid.is_box:
        return ds
    name, unit, power = measure(model)
    what = _KINDS[power][1]
    about = {"long_name": f"{what} of the cells", "units": unit}
    if power == 2:
        about["standard_name"] = "cell_area"
    ds = ds.assign_coords({name: (grid.axes, grid.volumes, about)})
    if power > 1:
        for field in fields:
            ds[field].attrs["cell_measures"] = f"{what}: {name}"
    return ds


def measure(model: PDE) -> tuple[str, str, int]:
    """Name and unit of the cells' lengths, areas or volumes, and the power of a length that they are.

    >>> from sdesim.curved import SphereGrid
    >>> measure(PDE(SphereGrid(lat=4, lon=8), diffusivity=1.0, units={"radius": "km"}))
    ('cell_area', 'km2', 2)
    """
    power = model.grid.measure
    lengths = [axis for axis in model.grid.axes if axis not in ("lat", "lon")] or ["radius"]
    units = [model.units.get(axis) or ("m" if axis == "radius" else axis_attributes(axis)["units"]) for axis in lengths]
    if len(set(units)) > 1:
        return _KINDS[power][0], " ".join(units), power
    unit = units[0]
    if power > 1 and unit != "1":
        unit = f"{unit}{power}" if unit.isalpha() else f"({unit}){power}"
    return _KINDS[power][0], unit, power


def scattered(values: NDArray[Any], wet: NDArray[np.bool_]) -> NDArray[Any]:
    """Values of the field's cells alone, (…, cells), put in place on the grid, NaN in the others.

    >>> scattered(np.array([1.0, 2.0]), np.array([True, False, True]))
    array([ 1., nan,  2.])
    """
    out = np.full((*values.shape[:-1], *wet.shape), np.nan)
    out[..., wet] = values
    return out
