"""Augmentation of stored views: mirroring, shift, scale, roll, exposure, noise.

A change of the image plane is a map u' = A u + b, so image positions stay exact; the image is resampled with the
same map. Mirroring needs the mirrored object as well (y -> -y), which every object family here allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import Settings, setting


class ViewChangeSettings(Settings):
    """How strongly a stored view is augmented each time it is used."""

    mirrored: float = setting(0.5, "1", "Share of the views that are mirrored.", ge=0.0, le=1.0)
    moved: float = setting(0.7, "1", "Share of the views that are scaled, shifted and rolled.", ge=0.0, le=1.0)
    scale_std: float = setting(0.08, "1", "Standard deviation of the logarithm of the scale.", ge=0.0, le=0.5)
    shift_std: float = setting(
        0.03, "image fraction", "Standard deviation of the shift along each axis.", ge=0, le=0.5
    )
    roll_std_deg: float = setting(6.0, "degree", "Standard deviation of the roll.", ge=0.0, le=90.0)
    exposure_std: float = setting(0.12, "1", "Standard deviation of the logarithm of the brightness.", ge=0, le=1)
    tint_std: float = setting(0.05, "1", "The same for each color by itself.", ge=0.0, le=1.0)
    gamma_std: float = setting(0.1, "1", "Standard deviation of the logarithm of the gamma.", ge=0.0, le=1.0)
    noise_up_to: float = setting(0.02, "1", "Largest standard deviation of added noise.", ge=0.0, le=0.5)
    depth_known: float = setting(0.6, "1", "Share of the views with measured depth.", ge=0.0, le=1.0)
    up_known: float = setting(
        0.8,
        "1",
        "Share of the upright views whose up direction is known, and which are rotated upright.",
        ge=0,
        le=1,
    )
    up_std_deg: float = setting(2.0, "degree", "Standard deviation of each angle of a known up.", ge=0, le=30)
    hidden_known: float = setting(
        0.6, "1", "Share of the views whose mask marks what an occluder or the border hides.", ge=0.0, le=1.0
    )


@dataclass(frozen=True, eq=False)
class ViewChange:
    """One augmentation for each of B views.

    Attributes:
        matrix: (B, 2, 2) A.
        shift: (B, 2) b, so that u' = A (u - 1/2) + 1/2 + b.
        mirrored: (B,) bool, the object is mirrored as well.
    """

    matrix: Tensor
    shift: Tensor
    mirrored: Tensor

    def to(self, device: torch.device) -> ViewChange:
        """The same changes on another device."""
        return ViewChange(self.matrix.to(device), self.shift.to(device), self.mirrored.to(device))

    def forwards(self, uv: Tensor) -> Tensor:
        """Map positions (B, ..., 2) of the stored view to the changed one."""
        wide = (-1, *[1] * (uv.dim() - 2), 2)
        return torch.einsum("bij,b...j->b...i", self.matrix, uv - 0.5) + 0.5 + self.shift.view(wide)

    def backwards(self, uv: Tensor) -> Tensor:
        """Map positions (B, ..., 2) of the changed view to the stored one; undoes `forwards`."""
        wide = (-1, *[1] * (uv.dim() - 2), 2)
        return torch.einsum("bij,b...j->b...i", self.matrix.inverse(), uv - 0.5 - self.shift.view(wide)) + 0.5

    def camera(self, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """Camera of the changed views: normalized K (B, 3, 3), and R_changed_camera (B, 3, 3) with the mirroring.

        Args:
            intrinsics: (B, 3, 3) normalized K of the stored views, of square pixels.
        """
        zoom = self.matrix.det().abs().sqrt()
        rotation = torch.zeros_like(intrinsics)
        rotation[:, :2, :2], rotation[:, 2, 2] = self.matrix / zoom[:, None, None], 1.0
        changed = torch.zeros_like(intrinsics)
        changed[:, 0, 0] = changed[:, 1, 1] = intrinsics[:, 0, 0] * zoom
        changed[:, :2, 2], changed[:, 2, 2] = self.forwards(intrinsics[:, :2, 2]), 1.0
        return changed, rotation

    def flip_object(self, points: Tensor) -> Tensor:
        """Mirror points (B, ..., 3) of the objects that are mirrored; its own inverse."""
        sign = torch.where(self.mirrored, -1.0, 1.0).view(-1, *[1] * (points.dim() - 2))
        return torch.stack([points[..., 0], points[..., 1] * sign, points[..., 2]], dim=-1)


def draw_change(
    count: int,
    settings: ViewChangeSettings | None,
    generator: torch.Generator,
    *,
    upright: Tensor | None = None,
) -> ViewChange:
    """Random augmentations of `count` views; identities where the settings are None.

    Args:
        count: B.
        settings: how strong.
        generator: of the random numbers, on the CPU.
        upright: (B,) radians that rotate views with known up upright; NaN for all others, which are rolled at
            random.
    """
    if settings is None:
        return ViewChange(
            torch.eye(2).repeat(count, 1, 1), torch.zeros(count, 2), torch.zeros(count, dtype=torch.bool)
        )
    normal = torch.randn(count, 4, generator=generator)
    chance = torch.rand(count, 2, generator=generator)
    moved = (chance[:, 0] < settings.moved).float()
    scale = torch.exp(normal[:, 0] * settings.scale_std * moved)
    angle = normal[:, 1] * math.radians(settings.roll_std_deg) * moved
    mirrored = chance[:, 1] < settings.mirrored
    sign = torch.where(mirrored, -1.0, 1.0)
    if upright is not None:
        error = normal[:, 1] * math.radians(settings.up_std_deg)
        angle = torch.where(upright.isnan(), angle, upright.nan_to_num() * sign + error)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cosine * sign, -sine, sine * sign, cosine], dim=1).view(-1, 2, 2)
    return ViewChange(matrix, normal[:, 2:] * (settings.shift_std * moved)[:, None], mirrored)


def change_image(image: Tensor, occlusion_mask: Tensor, change: ViewChange) -> tuple[Tensor, Tensor]:
    """Resample images.

    Args:
        image: (B, 4, S, S) RGB on black and mask.
        occlusion_mask: (B, 1, S, S) 1 where the object may continue behind an occluder; beyond the border of the
            stored view it becomes 1.
        change: of these views.

    Returns:
        Changed image and occlusion mask, same shapes.
    """
    size = image.shape[-1]
    axis = (torch.arange(size, device=image.device) + 0.5) / size
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    uv = torch.stack([u, v], dim=-1).expand(len(image), size, size, 2)
    grid = 2 * change.backwards(uv) - 1
    # One minus the mask, because the padding outside the stored view is 0 and has to mean occluded.
    planes = torch.cat([image, 1 - occlusion_mask], dim=1)
    moved = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved[:, :4], 1 - moved[:, 4:]


def change_color(image: Tensor, settings: ViewChangeSettings, generator: torch.Generator) -> Tensor:
    """Random exposure, tint, gamma and noise for the RGB of (B, 4, S, S); the mask stays."""
    count = len(image)
    normal = torch.randn(count, 5, generator=generator).to(image.device)
    gain = torch.exp(normal[:, :3] * settings.tint_std + normal[:, 3:4] * settings.exposure_std)
    gamma = torch.exp(normal[:, 4] * settings.gamma_std)
    strength = torch.rand(count, generator=generator).to(image.device) * settings.noise_up_to
    rgb, mask = image[:, :3], image[:, 3:]
    # One number per pixel is too slow to draw on the CPU; the seed still comes from the generator of the views.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    local = torch.Generator(device=image.device).manual_seed(seed)
    noise = torch.randn(rgb.shape, generator=local, device=image.device)
    rgb = rgb.clamp(min=1e-4) ** gamma.view(-1, 1, 1, 1) * gain[:, :, None, None]
    rgb = (rgb + noise * strength.view(-1, 1, 1, 1)).clamp(0, 1) * mask
    return torch.cat([rgb, mask], dim=1)


def draw_occlusion_known(count: int, settings: ViewChangeSettings | None, generator: torch.Generator) -> Tensor:
    """Views (B,) bool whose mask marks occluded parts; all of them where the settings are None."""
    if settings is None:
        return torch.ones(count, dtype=torch.bool)
    return torch.rand(count, generator=generator) < settings.hidden_known


def draw_depth_known(count: int, settings: ViewChangeSettings | None, generator: torch.Generator) -> Tensor:
    """Views (B,) bool whose measured depth is given; all of them where the settings are None."""
    if settings is None:
        return torch.ones(count, dtype=torch.bool)
    return torch.rand(count, generator=generator) < settings.depth_known
