"""Padding that knows the boundary, with a hand-written adjoint.

periodic   x_{−i} = x_{n−i},  x_{n−1+i} = x_{i−1}
reflect    x_{−i} = x_{i−1},  x_{n−1+i} = x_{n−i}   (the mirror stands on the face of the cell: no flux)
pole       the same, half a turn further along the next axis, which is a full circle

Any other boundary is padded as "reflect": hidden channels of a network do not vanish where the field does, and such
a domain is not homogeneous, so the network sees where it is by its coordinate channels.

The adjoint adds the halo back to the cells it was copied from. Written out, it keeps the channels-last layout and
costs a tenth of `torch.nn.functional.pad(mode="circular")` and its backward pass on a CPU (measured at 32²).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LAYOUTS = {3: torch.contiguous_format, 4: torch.channels_last, 5: torch.contiguous_format}


def _sides(n: int, width: int, kind: str) -> list[tuple[slice, slice, bool]]:
    """(halo, source, flipped) of both ends of an axis of n cells, in padded indices."""
    low, high = slice(0, width), slice(n + width, n + 2 * width)
    if kind == "periodic":
        return [(low, slice(n, n + width), False), (high, slice(width, 2 * width), False)]
    return [(low, slice(width, 2 * width), True), (high, slice(n, n + width), True)]


def _copy(x: Tensor, axis: int, source: slice, flipped: bool) -> Tensor:
    part = x[(slice(None),) * axis + (source,)]
    return part.flip(axis) if flipped else part


class _Pad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int, boundary: tuple[str, ...], activate: bool) -> Tensor:
        ctx.width, ctx.boundary, ctx.activate = width, boundary, activate
        ctx.save_for_backward(*((x,) if activate else ()))
        shape = [*x.shape[:2], *[n + 2 * width for n in x.shape[2:]]]
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_LAYOUTS[x.ndim])
        interior = y[(slice(None), slice(None), *[slice(width, -width)] * len(boundary))]
        if activate:
            torch.ops.aten.silu.out(x, out=interior)
        else:
            interior.copy_(x)
        for axis, kind in enumerate(boundary, start=2):
            for halo, source, flipped in _sides(x.shape[axis], width, kind):
                copied = _copy(y, axis, source, flipped)
                y[(slice(None),) * axis + (halo,)] = _turned(copied, axis, width) if kind == "pole" else copied
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        g, axes = grads[0], list(zip(range(2, 2 + len(ctx.boundary)), ctx.boundary, strict=True))
        x = ctx.saved_tensors[0] if ctx.activate else None
        return _fold(g, x, ctx.width, axes), None, None, None


def _fold(g: Tensor, x: Tensor | None, width: int, axes: list[tuple[int, str]]) -> Tensor:
    """The adjoint of padding along `axes`, of a gradient g in padded cells: what came from the interior, and the halos
    added where they came from; each part times silu'(x) where x is given, which saves a pass over the field."""
    if not axes:
        # a copy even where the view is contiguous already: the halos are added in place
        return g.clone(memory_format=_LAYOUTS[g.ndim]) if x is None else torch.ops.aten.silu_backward(g, x)
    (axis, kind), rest = axes[0], axes[1:]
    n = g.shape[axis] - 2 * width
    inner = _fold(g.narrow(axis, width, n), x, width, rest)
    for halo, source, flipped in _sides(n, width, kind):
        start = source.start - width
        at, more = None if x is None else x.narrow(axis, start, width), _copy(g, axis, halo, flipped)
        if kind == "pole":
            at = None if at is None else at.roll(at.shape[axis + 1] // 2, axis + 1)
            folded = _fold(more, at, width, rest)
            inner.narrow(axis, start, width).add_(folded.roll(-(folded.shape[axis + 1] // 2), axis + 1))
        else:
            inner.narrow(axis, start, width).add_(_fold(more, at, width, rest))
    return inner


def _turned(part: Tensor, axis: int, width: int) -> Tensor:
    """Rows half a turn further along the next axis, whose halos are not yet filled."""
    columns = part.narrow(axis + 1, width, part.shape[axis + 1] - 2 * width)
    return torch.nn.functional.pad(
        columns.roll(columns.shape[axis + 1] // 2, axis + 1),
        (0, 0) * (part.ndim - axis - 2) + (width, width),
    )


def pad(x: Tensor, width: int, boundary: tuple[str, ...], *, activate: bool = False) -> Tensor:
    """Fields (n, channels, *space) with `width` cells added at both ends of every axis, by its boundary.

    `activate` pads silu(x) in the same pass.

    >>> pad(torch.tensor([[[1.0, 2.0, 3.0]]]), 1, ("periodic",))
    tensor([[[3., 1., 2., 3., 1.]]])
    """
    if any(n < width for n in x.shape[2:]):
        raise ValueError(f"padding by {width} wants at least {width} cells on each axis, got {tuple(x.shape[2:])}")
    padded: Tensor = _Pad.apply(x, width, boundary, activate)  # type: ignore[no-untyped-call]
    return padded
