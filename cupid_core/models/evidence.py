"""What one view says about every voxel of a cube that a pose places in front of its camera.

    0      mask at the voxel's projection: 1 on the object, 0 where it may continue occluded, -1 elsewhere
    1, 2   truncated signed distance to the measured depth, positive in front of it, and whether there is one
    3      1 close to the measured surface
    4-6    position in the crop and along the ray, relative to the cube
    7-9    canonical point that the image encoder predicts at the projection, less the voxel's own position
    10     probability that the object is visible there

Where the pose is right, the visible side can be read off these numbers; only the hidden side has to be generated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.geometry.sim3 import Sim3

EVIDENCE_CHANNELS = 11
# Distance to the measured surface, in edges of the cube, beyond which it is only "in front" or "behind".
_TRUNCATION = 0.08
_NEAR = 0.6
_NEAREST_Z = 1e-3


@dataclass(frozen=True, eq=False)
class ViewEvidence:
    """What is known about B objects from one view each.

    Attributes:
        mask: (B, 1, S, S) plane "mask" of the image encoder.
        depth: (B, S, S) z of the measured surface, unit of the camera frame, 0 where there is none.
        intrinsics: (B, 3, 3) normalized K of the crop.
        points: (B, 3, n, n) canonical points that the image encoder predicts.
        visible: (B, 1, n, n) probability that the object is visible there.
    """

    mask: Tensor
    depth: Tensor
    intrinsics: Tensor
    points: Tensor
    visible: Tensor


def evidence_volume(view: ViewEvidence, S_camera_cube: Sim3, resolution: int) -> Tensor:
    """(B, EVIDENCE_CHANNELS, R, R, R) of the voxels of unit cubes around the origin.

    Args:
        view: of B objects.
        S_camera_cube: (B,) float32, from each cube to the frame of its camera.
        resolution: voxels along an edge, R.
    """
    count = len(view.mask)
    centers = all_voxel_centers(resolution).to(view.mask).view(1, -1, 3)
    matrices = S_camera_cube.matrix()  # one product for all voxels is many times faster than quaternions
    placed = centers.expand(count, -1, 3) @ matrices[:, :3, :3].mT + matrices[:, None, :3, 3]
    z = placed[..., 2].clamp(min=_NEAREST_Z)
    uv = (placed @ view.intrinsics.mT)[..., :2] / z[..., None]
    mask = _sampled(view.mask, uv, "bilinear")[:, 0]
    measured = _sampled(view.depth[:, None], uv, "nearest")[:, 0]
    known = (measured > 0).float()
    edge = S_camera_cube.scale[:, None]
    distance = ((measured - z) / (edge * _TRUNCATION)).clamp(-1, 1) * known
    predicted = _sampled(torch.cat([view.points, view.visible], dim=1), uv, "bilinear")
    offset = ((predicted[:, :3] - centers.mT) * 4).clamp(-2, 2) * mask[:, None]
    channels = torch.stack(
        [
            mask * 2 - 1,
            distance,
            known,
            (distance.abs() < _NEAR).float() * known,
            *((uv - 0.5) * 4).clamp(-3, 3).unbind(dim=-1),
            ((z - S_camera_cube.translation[:, None, 2]) / edge * 2).clamp(-2, 2),
            *offset.unbind(dim=1),
            predicted[:, 3] * mask,
        ],
        dim=1,
    )
    return channels.view(count, EVIDENCE_CHANNELS, resolution, resolution, resolution)


def _sampled(planes: Tensor, uv: Tensor, mode: str) -> Tensor:
    """Planes (B, C, S, S) at positions (B, N, 2) in [0, 1], as (B, C, N); 0 beyond the border."""
    grid = (2 * uv - 1)[:, None]
    return F.grid_sample(planes, grid, mode=mode, padding_mode="zeros", align_corners=False)[:, :, 0]
