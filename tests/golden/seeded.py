"""Cases, and seeded numbers for them that are the same on every platform; knows no network by name.

Only the raw 64-bit words of PCG64 are used: their stream is fixed for good, while how a library makes normal
numbers or permutations of them may change. What follows is exact arithmetic (a shift, a power of two) and one
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

Outputs = dict[str, Tensor]

UNIT_SPREAD = math.sqrt(12)
"""Standard deviation 1 for a uniform number of width 1."""


class Seeded:
    """A stream of numbers that its name determines."""

    def __init__(self, name: str) -> None:
        self._words = np.random.PCG64(crc32(name.encode()))

    def fractions(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32."""
        words = np.asarray(self._words.random_raw(math.prod(shape)), dtype=np.uint64)
        return torch.from_numpy((words >> np.uint64(40)) * 2.0**-24).float().reshape(shape)

    def values(self, *shape: int) -> Tensor:
        """Uniform with mean 0 and standard deviation 1, float32."""
        return ((self.fractions(*shape).double() - 0.5) * UNIT_SPREAD).float()

    def voxels(self, resolution: int, *sizes: int) -> Tensor:
        """(N, 4) int32 (item, x, y, z) in no order: of the cells of a grid, `sizes` of them per item."""
        axis = torch.arange(resolution, dtype=torch.int32)
        cells = torch.cartesian_prod(axis, axis, axis)
        items = []
        for item, size in enumerate(sizes):
            chosen = cells[self.fractions(len(cells)).argsort(stable=True)[:size]]
            items.append(torch.cat([torch.full((size, 1), item, dtype=torch.int32), chosen], dim=1))
        return torch.cat(items)


def fill(network: nn.Module, numbers: Seeded) -> nn.Module:
    """Give every parameter seeded values, in the order of their names, and return the network for inference.

    Nothing stays zero, not even what starts at zero for training, and layers keep the size of unit-sized inputs.
    Buffers stay: they are computed (position tables, the spread of splats), so they are under test too.
    """
    for name, parameter in sorted(network.named_parameters()):
        values = numbers.values(*parameter.shape)
        if name.endswith("bias"):
            values = 0.3 * values
        elif parameter.dim() == 1 or name.endswith("gamma"):
            values = 1 + 0.3 * values
        elif name.endswith("weight"):
            values = values / math.sqrt(math.prod(parameter.shape[1:]))
        parameter.data.copy_(values)
    return network.requires_grad_(False).eval()


@dataclass(frozen=True)
class Case:
    """A network and what it makes of seeded inputs.

    Attributes:
        name: its key in the file; weights and inputs are seeded with it.
        make: the network, or whatever has parameters, before they are filled.
        run: outputs by name.
    """

    name: str
    make: Callable[[], nn.Module]
    run: Callable[[Any, Seeded], Outputs]

    def network(self) -> nn.Module:
        """The network with the weights of this case."""
        return fill(self.make(), Seeded(f"{self.name} weights"))

    def outputs(self, network: nn.Module) -> Outputs:
        """What a network, from `network` or changed since, makes of the inputs of this case."""
        with torch.no_grad():
            return self.run(network, Seeded(f"{self.name} inputs"))
