"""What all geometry tests share: devices, types, tolerances, and generators of transforms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

# The one table of tolerances: absolute, for quantities of size one that went through a few operations.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}

# Around zero, in the open, around the switch of the series, and around pi.
ANGLES = (0.0, 1e-9, 1e-5, 1e-2, 0.5, 0.999, 1.001, 2.0, 3.0, math.pi - 1e-3, math.pi - 1e-6)
AXES = 8  # of every angle


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request):
    return request.param


@pytest.fixture
def tolerance(dtype):
    return TOLERANCE[dtype]


@pytest.fixture
def draw():
    """Standard normal numbers from a generator of the test's own: draw(shape) is float64 on the CPU."""
    generator = torch.Generator().manual_seed(20)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return normal


@pytest.fixture
def rotation_vectors(draw):
    """Rotation vectors (angles, AXES, 3): the given angles, or ANGLES, about random axes."""

    def of_angles(*angles: float) -> Tensor:
        sizes = torch.tensor(angles or ANGLES, dtype=torch.float64)
        axis = draw(len(sizes), AXES, 3)
        return sizes[:, None, None] * axis / axis.norm(dim=-1, keepdim=True)

    return of_angles
