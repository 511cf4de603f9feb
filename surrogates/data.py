"""Dataset ⇄ tensors: normalised fields and conditions, as a `Layout` says (`layouts.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from surrogates.layouts import Layout, Scale, condition_values, outermost


def fields_to_tensor(ds: xr.Dataset, layout: Layout) -> Tensor:
    """The variables as normalised fields (n, channels, *space), float32, or packed as (n, channels, cells).

    Raises ValueError for another grid, or NaN where the model's training data had values.
    """
    check_grid(ds, layout)
    fields = _stacked(ds, layout, layout.variables, layout.scales) * torch.as_tensor(layout.root, dtype=torch.float32)
    if layout.wet is not None and not bool(torch.isfinite(fields).all()):
        raise ValueError("the model's mask was wanted, got NaN in cells where it has values; fill them, or fit again")
    return fields


def check_grid(ds: xr.Dataset, layout: Layout) -> None:
    """ValueError for a Dataset on another grid than the layout's."""
    for axis, n in zip(layout.space, layout.shape, strict=True):
        known, here = (d[axis].values if axis in d.coords else None for d in (layout.template, ds))
        same = ds.sizes[axis] == n and (known is None or here is None or np.allclose(known, here))
        if not same:
            raise ValueError(f"the model's grid was wanted along {axis!r} ({n} cells), got another; interpolate first")


def _stacked(ds: xr.Dataset, layout: Layout, names: Sequence[str], scales: Sequence[Scale]) -> Tensor:
    """Fields (n, names, *space), normalised, float32; those without a sample dimension are repeated along it."""
    sizes = {d: ds.sizes[d] for d in (*layout.samples, *layout.space)}
    arrays = []
    for name, scale in zip(names, scales, strict=True):
        array = ds[name] if set(sizes) <= set(ds[name].dims) else ds[name].expand_dims(
            {d: n for d, n in sizes.items() if d not in ds[name].dims}
        )  # fmt: skip
        values = array.transpose(*sizes).values.astype(np.float64)
        arrays.append(layout.pack(scale.forward(values.reshape(-1, *layout.shape))).astype(np.float32))
    return torch.from_numpy(np.stack(arrays, axis=1))


def dataset_conditions(ds: xr.Dataset, layout: Layout) -> Tensor | None:
    """All conditions of every sample: (n, scalars + maps × cells), float32; None without any."""
    columns = [condition_values(ds, name, layout.samples) for name in layout.condition]
    scalars = conditions_to_tensor(columns, layout)
    if not layout.maps:
        return scalars
    fields = _stacked(ds, layout, layout.maps, layout.map_scales).flatten(1)
    return fields if scalars is None else torch.cat([scalars, fields], dim=1)


def with_maps(c: Tensor | None, given: Mapping[str, NDArray[np.float64]], layout: Layout) -> Tensor | None:
    """Scalar conditions (n, p) or None, and physical fields (n, *space) by name, as one tensor."""
    if not layout.maps:
        return c
    both = zip(layout.maps, layout.map_scales, strict=True)
    scaled = [layout.pack(scale.forward(given[name])) for name, scale in both]
    fields = torch.from_numpy(np.stack(scaled, axis=1).astype(np.float32)).flatten(1)
    return fields if c is None else torch.cat([c, fields], dim=1)


def read_samples(ds: xr.Dataset, layout: Layout, groups: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
    """Fields and conditions of these entries of the outermost sample dimension; reads them alone."""
    part = ds.isel({outermost(ds, layout.samples): groups})
    return fields_to_tensor(part, layout), dataset_conditions(part, layout)


def conditions_to_tensor(columns: Sequence[NDArray[np.float64]], layout: Layout) -> Tensor | None:
    """Physical conditions, one (n,) array each, to (n, conditions) in [−1, 1], float32; None without conditions."""
    if not layout.condition:
        return None
    scaled = [scale.forward(values) for scale, values in zip(layout.condition_scales, columns, strict=True)]
    return torch.from_numpy(np.stack(scaled, axis=1).astype(np.float32))


def tensor_to_dataset(
    x: Tensor, columns: Mapping[str, NDArray[np.float64]], layout: Layout, numbers: NDArray[Any]
) -> xr.Dataset:
    """Normalised fields (members, channels, *space) to a Dataset with the training data's coordinates, attributes."""
    members = len(x)
    kept = list(layout.kept)
    out = layout.template.drop_vars([*layout.variables, *layout.condition, *layout.maps], errors="ignore")
    data: dict[str, Any] = {}
    for channel, (name, scale) in enumerate(zip(layout.variables, layout.scales, strict=True)):
        source = layout.template[name]
        values = layout.unpack(scale.backward(x[:, channel].double().cpu().numpy() / layout.root).astype(source.dtype))
        shape = (members, *[1] * len(kept), *layout.shape)
        data[name] = (("member", *kept, *layout.space), values.reshape(shape), source.attrs)
    member = ("member", numbers.astype(np.int32), {"standard_name": "realization", "units": "1"})
    coords: dict[str, Any] = {"member": member}
    for name, values in columns.items():
        dims = ("member", *layout.space) if name in layout.maps else ("member",)
        coords[name] = (dims, np.asarray(values, np.float64), layout.template[name].attrs)
    result = out.assign(data).assign_coords(coords)
    return result.assign_attrs(layout.template.attrs)
