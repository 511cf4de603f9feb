"""The house's noise as tensors on any device: every number of a training run is a function of where it stands.

Philox 4×32-10 (`sdesim.streams`) at counter (member, step, index, TRAINING | use ≪ 8), keyed by the seed; here a member
is the position of a sample in the batch of its step. So a step's numbers depend neither on the steps before it (a run
resumes without the state of a generator) nor on who computes which part of its batch (accumulated in pieces, shared
between processes). The words are those of NumPy bit for bit; normals are by Box & Muller with the device's own
log and cos, in float32: they agree between devices to round-off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import torch
from torch import Tensor

from sdesim import streams


class Use(IntEnum):
    """What a number of training is for, so that no two uses share one."""

    NOISE = 0
    LEVEL = 1
    SHIFT = 2
    ORDER = 3
    WINDOW = 4
    PAIR = 5
    JUDGE = 6
    AUGMENT = 7


class _Words:
    """The part of an arithmetic machine that Philox needs: constants below 2³² among int64 tensors."""

    def u64(self, value: int) -> int:
        return value


def words(seed: int, member: Tensor, step: int, index: Tensor, use: Use) -> tuple[Tensor, ...]:
    """Four random 32-bit words, int64 tensors of the common shape of member and index.

    >>> [int(w) for w in words(0, torch.tensor([3]), 2, torch.tensor([1]), Use.NOISE)][:1] == [
    ...     int(streams.philox(streams.NUMPY, [streams.np.uint64(v) for v in (3, 2, 1, 6)], streams.seed_key(0))[0])]
    True
    """
    member, index = member + torch.zeros_like(index), index + torch.zeros_like(member)
    fourth = torch.full_like(member, int(streams.Purpose.TRAINING) | int(use) << 8)
    counter = [member, torch.full_like(member, step), index, fourth]
    key = [int(half) for half in streams.seed_key(seed)]
    found: tuple[Tensor, ...] = streams.philox(_Words(), counter, key)  # type: ignore[arg-type]
    return found


def uniforms(seed: int, member: Tensor, step: int, use: Use, index: int = 0) -> Tensor:
    """Uniform numbers in (0, 1), float64, shaped like `member`.

    >>> bool((uniforms(0, torch.arange(100), 0, Use.LEVEL) < 1).all())
    True
    """
    first = words(seed, member, step, torch.full_like(member, index), use)[0]
    return (first.double() + 0.5) * 2.0**-32


def normals(seed: int, member: Tensor, step: int, shape: Sequence[int], use: Use = Use.NOISE) -> Tensor:
    """Standard normals (n, *shape), float32, on the device of member (n,).

    >>> both = normals(1, torch.tensor([0, 1]), 7, (5,))
    >>> bool(torch.equal(normals(1, torch.tensor([1]), 7, (5,))[0], both[1]))
    True
    """
    count = math.prod(shape)
    index = torch.arange(-(-count // 4), device=member.device)
    found = words(seed, member[:, None], step, index[None, :], use)
    a, b, c, d = ((word.float() + 0.5) * 2.0**-32 for word in found)
    parts = []
    for u, v in ((a, b), (c, d)):
        radius, angle = torch.sqrt(-2.0 * torch.log(u)), 2.0 * math.pi * v
        parts += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.cat(parts, dim=1)[:, :count].reshape(len(member), *shape)


@lru_cache(maxsize=4)
def unit_fields(seed: int, member: Tensor, step: int, shape: Sequence[int], use: Use = Use.NOISE) -> Tensor:
    """Uniform numbers in (0, 1), float64, (n, *shape), on the device of member (n,).

    >>> unit_fields(1, torch.tensor([0, 1]), 7, (5, 3)).shape
    torch.Size([2, 5, 3])
    """
    count = math.prod(shape)
    index = torch.arange(-(-count // 4), device=member.device)
    found = torch.stack(words(seed, member[:, None], step, index[None, :], use), dim=-1)
    return ((found.double() + 0.5) * 2.0**-32).flatten(1)[:, :count].reshape(len(member), *shape)


def order(seed: int, n: int, epoch: int, use: Use = Use.ORDER) -> Tensor:
    """A random permutation of n for each epoch, (n,).

    >>> sorted(order(0, 5, epoch=2).tolist())
    [0, 1, 2, 3, 4]
    """
    return torch.argsort(words(seed, torch.arange(n), epoch, torch.zeros(1, dtype=torch.int64), use)[0], stable=True)
