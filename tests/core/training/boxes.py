"""Eight boxes seen by eight cameras: structure samples with exact truth, small and made in no time."""

from __future__ import annotations

import torch

from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.training.structure_batch import (
    StructureBatch,
    StructureTruth,
    SurfaceBatch,
    project_normalized,
)

COUNT = 8
RESOLUTION = 8
SIZE = 32


class BoxSource:
    """`StructureSource` and `SurfaceSource` of eight samples, in an order that follows from the number."""

    def __init__(self, fixed: bool = True) -> None:
        self._fixed = fixed
        self.closed = False

    def batch(self, number: int, size: int) -> StructureBatch:
        made, _ = boxes(seed=0 if self._fixed else number)
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(number))[:size]
        return StructureBatch(
            made.image[order],
            made.occupancy[order],
            made.uv[order],
            made.flag[order],
            made.xyz[order],
            made.visible_mask[order],
        )

    def validation(self, size: int) -> tuple[StructureBatch, StructureTruth | None]:
        return boxes(seed=0)

    def surfaces(self, number: int, size: int) -> SurfaceBatch:
        batch = self.batch(number, size)
        return SurfaceBatch(batch.image, batch.xyz, batch.visible_mask)

    def validation_surfaces(self, size: int) -> tuple[SurfaceBatch, StructureTruth]:
        batch, truth = self.validation(size)
        return SurfaceBatch(batch.image, batch.xyz, batch.visible_mask), truth

    def close(self) -> None:
        self.closed = True


def boxes(seed: int) -> tuple[StructureBatch, StructureTruth]:
    generator = torch.Generator().manual_seed(seed)
    half = 0.2 + 0.28 * torch.rand(COUNT, 3, generator=generator)
    centers = all_voxel_centers(RESOLUTION)
    occupancy = (centers[None].abs() <= half[:, None, None, None]).all(-1)
    angle = torch.linspace(0, 5.5, COUNT)
    rotation = torch.zeros(COUNT, 3, 3)
    cosine, sine = angle.cos(), angle.sin()
    # The camera stands on the horizon and looks at the center: x right, y down, z forward.
    rotation[:, 0, 0], rotation[:, 0, 1] = -sine, cosine
    rotation[:, 1, 2] = -1.0
    rotation[:, 2, 0], rotation[:, 2, 1] = -cosine, -sine
    T = torch.eye(4).repeat(COUNT, 1, 1)
    T[:, :3, :3] = rotation
    T[:, 2, 3] = 3.0
    K = torch.tensor([[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]).repeat(COUNT, 1, 1)
    uv = project_normalized(centers[None], T, K)
    inside = ((uv >= 0) & (uv <= 1)).all(-1)
    image = torch.zeros(COUNT, 4, SIZE, SIZE)
    xyz = torch.zeros(COUNT, 3, 8, 8)
    seen = torch.zeros(COUNT, 1, 8, 8, dtype=torch.bool)
    for item in range(COUNT):
        places = uv[item][occupancy[item]]
        points = centers[occupancy[item]]
        column, row = (places * SIZE).long().clamp(0, SIZE - 1).unbind(-1)
        image[item, :3, row, column] = points.T + 0.5
        image[item, 3, row, column] = 1.0
        column, row = (places * 8).long().clamp(0, 7).unbind(-1)
        xyz[item][:, row, column] = points.T
        seen[item, 0, row, column] = True
    batch = StructureBatch(
        image, occupancy[:, None], uv.clamp(0, 1).permute(0, 4, 1, 2, 3).contiguous(), inside[:, None], xyz, seen
    )
    return batch, StructureTruth(K, T, torch.tensor([[1, 0, 0]]).repeat(COUNT, 1))
