"""A backbone for a domain with holes: cells go to their places on the grid, and come back from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OnGrid(nn.Module):
    """Calls `network` on the box: dry cells hold 0, and one more input channel says which cells are wet.

    wet: (*space) booleans; inputs (n, channels, cells) hold the wet ones in order, and so does the result.

    >>> class Given(nn.Module):
    ...     def forward(self, inputs, features):
    ...         return inputs
    >>> wet = torch.tensor([True, False, True])
    >>> OnGrid(Given(), wet)(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 1)).tolist()     # the mask comes last
    [[[1.0, 2.0], [1.0, 1.0]]]
    """

    places: Tensor
    mask: Tensor

    def __init__(self, network: nn.Module, wet: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("places", wet.flatten().nonzero()[:, 0], persistent=False)
        self.register_buffer("mask", wet[None, None].to(torch.float32), persistent=False)

    def forward(self, inputs: Tensor, features: Tensor) -> Tensor:
        """The network's answer in the wet cells."""
        space = self.mask.shape[2:]
        grid = inputs.new_zeros(*inputs.shape[:2], space.numel()).index_copy(2, self.places, inputs)
        mask = self.mask.to(inputs).expand(len(inputs), -1, *space)
        out: Tensor = self.network(torch.cat([grid.reshape(len(inputs), -1, *space), mask], dim=1), features)
        return out.flatten(2)[..., self.places]
