"""Several processes that train one network on one global batch, started by `torchrun`.

Process r of R takes the samples r, r + R, r + 2R, … of every batch; the gradients of the parts are summed. Order, noise
levels and noise are functions of (seed, step, position in the batch), so that R processes make the steps of one, to
the round-off of the sum.

    torchrun --nproc-per-node 4 train.py        # train.py: Surrogate(...).fit(...), unchanged
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """Which process this is, among how many.

    >>> Ranks().first
    True
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Ranks:
        """Those of this run: as torchrun's environment says (then the group is entered), else one process alone."""
        if not distributed.is_available() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes the logs and files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Tensor], numbers: Tensor) -> Tensor:
        """Add up the gradients, in place, and a vector of numbers, which is returned."""
        if self.size == 1:
            return numbers
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([numbers.to(grads[0]), *[g.flatten() for g in grads]])
        distributed.all_reduce(flat)
        pieces = torch.split(flat, [len(numbers), *[g.numel() for g in grads]])
        for parameter, piece in zip(parameters, pieces[1:], strict=True):
            parameter.grad = piece.reshape(parameter.shape)
        return pieces[0].to(numbers)

    def agree(self, value: float, device: torch.device) -> float:
        """The first process's value: clocks differ, decisions must not."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def same_start(self, tensors: Sequence[Tensor]) -> None:
        """Every process begins with the first one's tensors."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.data, 0)


def local_device() -> str:
    """The accelerator of this process, or "cpu".

    >>> local_device() in ("cpu", *(f"cuda:{i}" for i in range(64)))
    True
    """
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
