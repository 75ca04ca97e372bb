"""Shared fixtures of sparse-network tests: random objects as voxels."""

import pytest
import torch
from torch import Tensor


def random_voxels(sizes: list[int], resolution: int, seed: int = 0) -> Tensor:
    """(N, 4) int32 voxels of several items: clumps with holes, every neighbor pattern occurs; shuffled."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.arange(resolution)
    grid = torch.cartesian_prod(axis, axis, axis)
    items = []
    for item, size in enumerate(sizes):
        center = torch.rand(3, generator=generator) * (resolution - 1)
        noise = torch.rand(len(grid), generator=generator) * resolution / 3
        near = (grid - center).norm(dim=1) + noise
        chosen = grid[near.argsort()[:size]]
        chosen = chosen[torch.randperm(size, generator=generator)]
        items.append(torch.cat([torch.full((size, 1), item), chosen], dim=1))
    return torch.cat(items).int()


@pytest.fixture(scope="session")
def voxels():
    return random_voxels
