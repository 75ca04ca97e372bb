"""Batches of the structure stages (images, occupancy, image positions), and the protocol of their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StructureBatch:
    """B views.

    Attributes:
        image: (B, 10, S, S) the planes of `models.encoder_planes.PLANES`, all or the first groups of them.
        occupancy: (B, 1, R, R, R) bool.
        uv: (B, 2, R, R, R) positions of the voxel centers in the image, clamped to [0, 1].
        flag: (B, 1, R, R, R) bool, voxels inside the image.
        xyz: (B, 3, g, g) canonical surface points at the centers of g x g cells, or None.
        visible_mask: (B, 1, g, g) bool, cells where the object is visible, or None.
    """

    image: Tensor
    occupancy: Tensor
    uv: Tensor
    flag: Tensor
    xyz: Tensor | None = None
    visible_mask: Tensor | None = None

    def to(self, device: torch.device) -> StructureBatch:
        """The same batch on another device."""
        return StructureBatch(
            self.image.to(device),
            self.occupancy.to(device),
            self.uv.to(device),
            self.flag.to(device),
            None if self.xyz is None else self.xyz.to(device),
            None if self.visible_mask is None else self.visible_mask.to(device),
        )


@dataclass(frozen=True, eq=False)
class SurfaceBatch:
    """B views with the visible surface of the object, without voxels.

    Attributes:
        image: (B, 4, S, S) as in `StructureBatch`.
        xyz: (B, 3, g, g) canonical surface points at the centers of g x g cells.
        visible_mask: (B, 1, g, g) bool, cells where the object is visible.
    """

    image: Tensor
    xyz: Tensor
    visible_mask: Tensor

    def to(self, device: torch.device) -> SurfaceBatch:
        """The same batch on another device."""
        return SurfaceBatch(self.image.to(device), self.xyz.to(device), self.visible_mask.to(device))


@dataclass(frozen=True, eq=False)
class PosedViews:
    """B views with measured depth and true pose, for the completion of shapes.

    Attributes:
        image: (B, 10, S, S) as in `StructureBatch`.
        depth: (B, S, S) measured z, canonical units, 0 where there is none.
        intrinsics: (B, 3, 3) normalized.
        rotation: (B, 3, 3) of T_camera_object.
        translation: (B, 3) of T_camera_object.
        shell: (B, R, R, R) bool, voxels that the surface passes through.
        symmetry: (B, 3) int64, rows of `data.tabletop.symmetry.SymmetryGroup`.
    """

    image: Tensor
    depth: Tensor
    intrinsics: Tensor
    rotation: Tensor
    translation: Tensor
    shell: Tensor
    symmetry: Tensor

    def to(self, device: torch.device) -> PosedViews:
        """The same views on another device."""
        return PosedViews(**{name: value.to(device) for name, value in vars(self).items()})

    def rows(self, rows: Tensor) -> PosedViews:
        """These views alone, in this order."""
        return PosedViews(**{name: value[rows] for name, value in vars(self).items()})


@dataclass(frozen=True, eq=False)
class StructureTruth:
    """Cameras and symmetries of the views of a validation batch, for figures.

    Attributes:
        intrinsics: (B, 3, 3) normalized.
        T_camera_object: (B, 4, 4).
        symmetry: (B, 3) int64, rows of `data.tabletop.symmetry.SymmetryGroup`.
    """

    intrinsics: Tensor
    T_camera_object: Tensor
    symmetry: Tensor


class StructureSource(Protocol):
    """Batches of views by number."""

    def batch(self, number: int, size: int) -> StructureBatch:
        """Training views, on whatever device; the same for the same number and size."""
        ...

    def validation(self, size: int) -> tuple[StructureBatch, StructureTruth | None]:
        """Unseen views, unchanged, always the same; their truth on the CPU."""
        ...

    def close(self) -> None:
        """Stop background work."""
        ...


class SurfaceSource(Protocol):
    """Batches of views with their surface points, by number."""

    def surfaces(self, number: int, size: int) -> SurfaceBatch:
        """Training views, on whatever device; the same for the same number and size."""
        ...

    def validation_surfaces(self, size: int) -> tuple[SurfaceBatch, StructureTruth]:
        """Unseen views, unchanged, always the same; their truth on the CPU."""
        ...

    def close(self) -> None:
        """Stop background work."""
        ...


def project_normalized(points: Tensor, T_camera_object: Tensor, intrinsics: Tensor) -> Tensor:
    """Normalized positions (B, ..., 2) of object points (B, ..., 3) or (1, ..., 3); points must be in front.

    Args:
        points: object frame.
        T_camera_object: (B, 4, 4).
        intrinsics: (B, 3, 3) normalized.
    """
    full = torch.einsum("bij,bjk->bik", intrinsics, T_camera_object[:, :3])
    count = len(full)
    flat = points.reshape(points.shape[0], -1, 3).expand(count, -1, 3)
    projected = torch.baddbmm(full[:, None, :, 3], flat, full[:, :, :3].mT)
    uv = projected[..., :2] / projected[..., 2:]
    return uv.view(count, *points.shape[1:-1], 2)
