"""Batches of stage "appearance": views of objects, the voxels of their shells, and the true latents of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.geometry import so3
from cupid_core.geometry.grid import voxel_centers
from cupid_core.models.topology import VoxelTopology
from cupid_core.training.appearance_settings import PoseNoiseSettings
from cupid_core.training.voxel_truth import VoxelGrid


@dataclass(frozen=True, eq=False)
class AppearanceView:
    """One view of one object.

    Attributes:
        image: (4, S, S) RGB in [0, 1] on black, and the given mask.
        unoccluded: (1, S, S), 0 where something else is in front of the object.
        T_camera_object: (4, 4).
        intrinsics: (3, 3) normalized.
        coords: (N, 3) int64 voxels.
        latent: (N, C) normalized.
    """

    image: Tensor
    unoccluded: Tensor
    T_camera_object: Tensor
    intrinsics: Tensor
    coords: Tensor
    latent: Tensor


@dataclass(frozen=True, eq=False)
class AppearanceBatch:
    """B views with N voxels in all.

    Attributes:
        image: (B, 4, S, S).
        unoccluded: (B, 1, S, S).
        T_camera_object: (B, 4, 4).
        intrinsics: (B, 3, 3).
        topology: of the voxels, one item per view, with the windows and levels of the networks.
        latent: (N, C) normalized.
    """

    image: Tensor
    unoccluded: Tensor
    T_camera_object: Tensor
    intrinsics: Tensor
    topology: VoxelTopology
    latent: Tensor


def collate(views: Sequence[AppearanceView], grid: VoxelGrid, device: torch.device | str) -> AppearanceBatch:
    """Combine views of objects with different numbers of voxels into one batch on a device."""
    item = torch.arange(len(views)).repeat_interleave(torch.tensor([len(view.coords) for view in views]))
    voxels = torch.cat([view.coords for view in views]).to(device)
    coords = torch.cat([item[:, None].to(device), voxels], dim=1)
    return AppearanceBatch(
        image=torch.stack([view.image for view in views]).to(device),
        unoccluded=torch.stack([view.unoccluded for view in views]).to(device),
        T_camera_object=torch.stack([view.T_camera_object for view in views]).to(device),
        intrinsics=torch.stack([view.intrinsics for view in views]).to(device),
        topology=grid.index(coords),
        latent=torch.cat([view.latent for view in views]).to(device),
    )


def project_voxels(topology: VoxelTopology, T_camera_object: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Project voxel centers into the image of their item.

    Args:
        topology: N voxels of B items.
        T_camera_object: (B, 4, 4).
        intrinsics: (B, 3, 3) normalized.

    Returns:
        (N, 2) normalized image coordinates, not clamped, and (N,) distance along the optical axis.
    """
    item = topology.item
    centers = voxel_centers(topology.coords[:, 1:], topology.resolution)
    camera = (T_camera_object[item, :3, :3] @ centers[..., None])[..., 0] + T_camera_object[item, :3, 3]
    image = (intrinsics[item] @ camera[..., None])[..., 0]
    return image[:, :2] / image[:, 2:], camera[:, 2]


def perturb_pose(
    T_camera_object: Tensor, intrinsics: Tensor, settings: PoseNoiseSettings, generator: torch.Generator
) -> Tensor:
    """Poses (B, 4, 4) with errors as of estimated ones: rotated about the object, shifted, nearer or farther.

    Args:
        T_camera_object: (B, 4, 4) true poses.
        intrinsics: (B, 3, 3) normalized; a roll or mirroring of the image plane may be in them.
        settings: size of the errors, and share of poses that have them.
        generator: on the CPU.
    """
    count, device = len(T_camera_object), T_camera_object.device
    error = torch.randn(count, 6, generator=generator)
    error = error * (torch.rand(count, 1, generator=generator) < settings.share)
    error = error.to(device)
    rotation = so3.to_matrix(so3.exp(error[:, :3] * math.radians(settings.rotation_deg)))
    depth = T_camera_object[:, 2, 3]
    focal = torch.linalg.det(intrinsics[:, :2, :2]).abs().sqrt()[:, None]
    perturbed = T_camera_object.clone()
    # Rotated in the object's own frame, so that its center stays where it is in the image.
    perturbed[:, :3, :3] = T_camera_object[:, :3, :3] @ rotation
    perturbed[:, :2, 3] += error[:, 3:5] * settings.shift * depth[:, None] / focal
    perturbed[:, :3, 3] *= torch.exp(error[:, 5:] * settings.size)
    return perturbed
