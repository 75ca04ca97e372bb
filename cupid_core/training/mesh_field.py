"""Loss of the mesh decoder: its channels against the truth at the corners of its cubes.

Supervision is direct: every cube's eight corners have a true signed distance and, near the surface, a true color
and normal, so no renderer is needed. Layout of the channels as `mesh.cube_channels` reads them. The distance is in
edges of a cube: only its zero set and its slope through it matter to the extraction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.data.corner_truth import CornerTruth
from cupid_core.mesh.cube_channels import CHANNELS_COLOR, CHANNELS_PLAIN, N_ATTRIBUTES
from cupid_core.mesh.flexicubes_tables import N_CORNERS
from cupid_core.training.appearance_settings import MeshFieldLossSettings

# Corners up to this many cube edges from the surface are ends of edges that cross it, so their color matters.
NEAR = 1.5
# Where smooth L1 changes from square to linear: in cube edges, and in color.
_DISTANCE_KNEE = 0.1
_COLOR_KNEE = 0.1
# Colors of exactly 0 or 1 have no finite logit.
_COLOR_MARGIN = 1e-3


@dataclass(frozen=True, eq=False)
class FieldTruth:
    """Truth of the cubes of a decoder, row for row with its output.

    Attributes:
        distance: (M, 8) signed distance in cube edges, truncated.
        near: (M, 8) bool, corners whose color counts.
        attributes: (M, 8, 6) RGB and normal mapped to [0, 1].
    """

    distance: Tensor
    near: Tensor
    attributes: Tensor


@dataclass(frozen=True, eq=False)
class MeshFieldLoss:
    """Terms of the loss, scalars before their weights, and figures of the quality of the field.

    Attributes:
        total: weighted sum, the one to differentiate.
        distance: truncated signed distance.
        color: RGB near the surface.
        normal: normal map near the surface.
        neutral: pull of deformation and interpolation weights to 0, their neutral value.
        wrong_side: share of the corners near the surface with the wrong sign.
        color_mse: mean squared color error near the surface.
    """

    total: Tensor
    distance: Tensor
    color: Tensor
    normal: Tensor
    neutral: Tensor
    wrong_side: Tensor
    color_mse: Tensor


def field_truth(truth: CornerTruth, truncation: float) -> FieldTruth:
    """Gather the truth of every cube from the corners it shares.

    Args:
        truth: of N voxels; cubes in the order of a decoder that subdivides them.
        truncation: largest distance in cube edges.
    """
    corners = truth.cube_corners()
    distance = truth.sdf * (truth.resolution * truth.cubes)
    attributes = torch.cat([truth.color, truth.normal / 2 + 0.5], dim=1)
    return FieldTruth(
        distance.clamp(-truncation, truncation)[corners], (distance.abs() < NEAR)[corners], attributes[corners]
    )


def ideal_rows(truth: FieldTruth, resolution: int) -> Tensor:
    """The rows (M, 101) of a perfect decoder; their mesh is the best that this representation allows.

    Args:
        truth: of M cubes.
        resolution: cubes per axis, whose inverse the extraction subtracts from every distance.
    """
    rows = truth.distance.new_zeros(len(truth.distance), CHANNELS_COLOR)
    rows[:, :N_CORNERS] = truth.distance + 1 / resolution
    inside = truth.attributes.clamp(_COLOR_MARGIN, 1 - _COLOR_MARGIN)
    rows[:, CHANNELS_PLAIN:] = torch.logit(inside).flatten(1)
    return rows


def mesh_field_loss(
    rows: Tensor, truth: FieldTruth, in_loss: Tensor, resolution: int, settings: MeshFieldLossSettings
) -> MeshFieldLoss:
    """Compare a decoder's output with the truth.

    Args:
        rows: (M, 101) float32 of the decoder.
        truth: of the same cubes.
        in_loss: (M,) bool; the others, next to the cut of a box, are ignored.
        resolution: cubes per axis.
        settings: weights.
    """
    share = in_loss[:, None].to(rows.dtype).expand_as(truth.distance)
    distance = rows[:, :N_CORNERS] - 1 / resolution
    error = F.smooth_l1_loss(distance, truth.distance, reduction="none", beta=_DISTANCE_KNEE)
    # The surface is interpolated between corners less than one edge away from it, so these need the precision.
    weight = share * (1 + settings.near_weight * torch.exp(-truth.distance.square()))
    near = share * truth.near
    attributes = torch.sigmoid(rows[:, CHANNELS_PLAIN:].reshape(-1, N_CORNERS, N_ATTRIBUTES))
    difference = F.smooth_l1_loss(attributes, truth.attributes, reduction="none", beta=_COLOR_KNEE)
    color, normal = _mean(difference[..., :3].mean(-1), near), _mean(difference[..., 3:].mean(-1), near)
    neutral = rows[:, N_CORNERS:CHANNELS_PLAIN].square().mean()
    fitted = _mean(error, weight)
    total = fitted + settings.color_weight * color + settings.normal_weight * normal
    total = total + settings.neutral_weight * neutral
    with torch.no_grad():
        wrong = _mean(((distance < 0) != (truth.distance < 0)).to(rows.dtype), near)
        color_mse = _mean((attributes[..., :3] - truth.attributes[..., :3]).square().mean(-1), near)
    return MeshFieldLoss(total, fitted, color, normal, neutral, wrong, color_mse)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, 0 where nothing has weight."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).tiny)
