"""Stage `shape-completion`: completes shapes from the evidence of one view, in the frame of a coarse pose.

The coarse poses are those of the trained, frozen image encoder, wrong ones included: true ones would teach trust.
Half of them are moved a random way towards the canonical pose, because inference corrects a pose and looks again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.config import setting
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import PoseError, TrainingError
from cupid_core.evaluation.pose_metrics import rotation_angles_deg
from cupid_core.evaluation.shape_metrics import occupancy_f1
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.models.bundle import COMPLETION_ENCODER, COMPLETION_HEAD, SHAPE_COMPLETION
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.models.encoder_planes import without_planes
from cupid_core.models.evidence import ViewEvidence, evidence_volume
from cupid_core.models.image_encoder import tokens_of
from cupid_core.models.shape_completion import Completion, ShapeCompletion, complete_shapes
from cupid_core.models.surface_head import SurfaceHead, trusted_points
from cupid_core.pose.coarse_pose import coarse_pose
from cupid_core.training.completion_targets import completion_targets, surface_voxels
from cupid_core.training.export import EXPORT, read_export
from cupid_core.training.run_settings import StageSettings
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.structure_batch import PosedViews
from cupid_core.training.tabletop_source import TabletopSource, TabletopSourceSettings

# Planes that validation leaves out, by the prefix of its figures.
_VALIDATED = {"": ("gravity",), "color_": ("points", "gravity")}
# Edge of a cube whose corners measure the error of a correction, and the error that counts about 1.
_CORNERS = 0.7
_CORNER_SCALE = 0.05
# How far a coarse pose may be from its target, in edges of its cube and in the logarithm of the scale.
_FARTHEST, _FARTHEST_LOG_SCALE = 1.0, 0.9


class ShapeCompletionSettings(StageSettings):
    """Training of the completion of shapes from the evidence of one view."""

    views: TabletopSourceSettings = TabletopSourceSettings(
        objects=TabletopSettings(views_per_object=8, image_size=64, resolution=48)
    )
    resolution: int = setting(32, "count", "Voxels along an edge.", ge=8, le=128)
    channels: tuple[int, int, int] = setting((32, 72, 96), "count", "Widths of the levels, finest first.")
    canonical_within_deg: float = setting(
        25.0,
        "degree",
        "Coarse poses with a smaller error are corrected to the canonical one; the rotation of others is kept.",
        ge=0.0,
        le=180.0,
    )
    corrections: int = setting(2, "count", "How often inference corrects the pose.", ge=0, le=8)
    occupancy_weight: float = setting(4.0, "1", "Weight of the cross-entropy beside the dice loss.", ge=0.0)
    correction_weight: float = setting(1.0, "1", "Weight of the error of the correction.", ge=0.0)
    validation_views: int = setting(128, "count", "Unseen views in a validation.", ge=1)


@dataclass(frozen=True, eq=False)
class _Posed:
    """Views with their coarse poses, without those that have none.

    Attributes:
        views: B of them.
        token: (B, C) class tokens.
        view: what the network may know.
        coarse: (B,) S_camera_cube.
        target: (B,) what the network is to correct `coarse` to.
        true: (B,) S_camera_object of the object's own frame, the nearest by symmetry; like `target` in the unit of
            `coarse`.
    """

    views: PosedViews
    token: Tensor
    view: ViewEvidence
    coarse: Sim3
    target: Sim3
    true: Sim3


class ShapeCompletionStage:
    """The network that completes shapes; image encoder and surface head are frozen.

    Args:
        settings: of the stage.
        context: device, and the folder with the export of the stage image-encoder.
        source: of views.

    Raises:
        TrainingError: the image encoder has not been trained.
    """

    name = "shape-completion"

    def __init__(self, settings: ShapeCompletionSettings, context: StageContext, source: TabletopSource) -> None:
        self._settings, self._source, self._device = settings, source, context.device
        folder, keys = context.root / "image-encoder" / EXPORT, ("image_encoder", "surface_head")
        if not folder.exists():  # a checkpoint that was unpacked has them beside the network itself
            folder, keys = context.root / self.name / EXPORT, (COMPLETION_ENCODER, COMPLETION_HEAD)
        self._encoder, encoder = read_export(folder, keys[0], ConvImagePyramid, context.device)
        self._head, head = read_export(folder, keys[1], SurfaceHead, context.device)
        self._frozen = [replace(encoder, key=COMPLETION_ENCODER), replace(head, key=COMPLETION_HEAD)]
        self._arguments: dict[str, Any] = {
            "resolution": settings.resolution,
            "token_channels": self._encoder.embed_dim,
            "channels": list(settings.channels),
        }
        self.network = ShapeCompletion(**self._arguments)
        self.networks = nn.ModuleDict({"shape_completion": self.network}).to(context.device)

    def batch(self, number: int) -> PosedViews:
        """The views of this number."""
        return self._source.posed_views(number, self._settings.run.batch_size).to(self._device)

    def loss(self, batch: PosedViews, generator: torch.Generator) -> StepLoss:
        """Errors of the surface voxels and of the correction."""
        posed = self._posed(batch, batch.image)
        S_cube = _moved(posed, generator)
        evidence = evidence_volume(posed.view, S_cube, self._settings.resolution)
        found: Completion = self.network(evidence, posed.token)
        actual = surface_voxels(posed.views, posed.true, S_cube, self._settings.resolution).float()
        entropy = F.binary_cross_entropy_with_logits(
            found.occupancy, actual, pos_weight=found.occupancy.new_tensor(3.0)
        )
        dice = _dice(found.occupancy, actual)
        corners = _corner_error(S_cube @ Sim3.exp(found.correction), posed.target, S_cube.scale)
        total = self._settings.occupancy_weight * entropy + dice + self._settings.correction_weight * corners
        logged = {"entropy": entropy, "dice": dice, "correction": corners}
        return StepLoss(total, logged, len(batch.image))

    def validate(self) -> Mapping[str, float]:
        """Figures on unseen views, with depth and from color alone.

        For each: share of views with a coarse pose, agreement of the voxels in the frame of the corrected pose,
        and rotation and scale of the coarse and of the corrected pose.
        """
        batch = self._source.validation_posed_views(self._settings.validation_views).to(self._device)
        figures: dict[str, float] = {}
        for name, absent in _VALIDATED.items():
            views = batch
            if "points" in absent:
                views = replace(batch, depth=torch.zeros_like(batch.depth))
            posed = self._posed(views, without_planes(batch.image, absent))
            occupancy, corrected = complete_shapes(
                self.network, posed.view, posed.token, posed.coarse, self._settings.corrections
            )
            actual = surface_voxels(posed.views, posed.true, corrected, self._settings.resolution)
            figures |= {
                f"{name}posed": len(posed.token) / len(batch.image),
                f"{name}f1": float(occupancy_f1(occupancy > 0, actual).mean()),
            }
            for stage, S in (("coarse", posed.coarse), ("corrected", corrected)):
                angles = rotation_angles_deg(posed.true.rotation(), S.rotation())
                scale = (S.scale / posed.true.scale).log().abs()
                figures |= {
                    f"{name}{stage}_rotation_deg": float(angles.median()),
                    f"{name}{stage}_within_15": float((angles < 15).float().mean()),
                    f"{name}{stage}_scale_error": float(scale.median().expm1()),
                }
        return figures

    def sheet(self) -> Image | None:
        """None."""
        return None

    def exports(self) -> Sequence[ExportedNetwork]:
        """The network, with the image encoder and the head that its coarse poses come from."""
        exported = copy.deepcopy(self.network).to_precision(torch.float32)
        name = type(exported).__name__
        return [*self._frozen, ExportedNetwork(SHAPE_COMPLETION, name, self._arguments, exported)]

    def close(self) -> None:
        """Stop background work."""
        self._source.close()

    @torch.no_grad()
    def _posed(self, views: PosedViews, image: Tensor) -> _Posed:
        tokens = tokens_of(self._encoder, image)
        predicted = self._head(tokens[:, self._encoder.num_prefix_tokens :], self._encoder.native_grid)
        points, trust, uv = trusted_points(predicted)
        measured = _nearest(views.depth, uv)
        coarse: list[Sim3] = []
        kept, with_depth = [], []
        for item in range(len(image)):
            camera = Camera.from_normalized(views.intrinsics[item].double(), 1, 1)
            try:
                S, measures, _ = coarse_pose(points[item], uv, trust[item], measured[item], camera)
            except PoseError:
                continue
            coarse.append(S)
            kept.append(item)
            with_depth.append(measures)
        if not coarse:
            raise TrainingError(
                "No view of a batch has a coarse pose.", hint="Train image-encoder longer, or use larger batches."
            )
        # A pose that is only known up to scale cannot be compared with depth.
        used = torch.zeros(len(image), dtype=torch.bool)
        used[kept] = torch.tensor(with_depth, dtype=torch.bool)
        seen = replace(views, depth=views.depth * used.view(-1, 1, 1).to(views.depth.device))
        chosen, S_coarse = (
            seen.rows(torch.tensor(kept, dtype=torch.long, device=image.device)),
            Sim3(
                torch.stack([S.scale for S in coarse]).float(),
                torch.stack([S.quat_xyzw for S in coarse]).float(),
                torch.stack([S.translation for S in coarse]).float(),
            ),
        )
        true, target = completion_targets(chosen, S_coarse, self._settings.canonical_within_deg)
        # A pose that leaves the object outside its cube can be neither corrected nor completed.
        step = S_coarse.inverse() @ target
        near = (step.scale.log().abs() < _FARTHEST_LOG_SCALE) & (step.translation.norm(dim=1) < _FARTHEST)
        rows = torch.tensor(kept, device=image.device)[near]
        view = ViewEvidence(
            image[rows, 3:4],
            seen.depth[rows],
            seen.intrinsics[rows],
            predicted.points[rows],
            predicted.visible[rows].sigmoid(),
        )
        poses = (Sim3(S.scale[near], S.quat_xyzw[near], S.translation[near]) for S in (S_coarse, target, true))
        return _Posed(seen.rows(rows), tokens[rows, 0], view, *poses)


def _moved(posed: _Posed, generator: torch.Generator) -> Sim3:
    """Coarse poses, half of them moved a random share of the way to their targets, and a little beside it."""
    count = len(posed.token)
    share = torch.rand(count, 1, generator=generator) * (torch.rand(count, 1, generator=generator) < 0.5)
    noise = torch.randn(count, 7, generator=generator) * torch.tensor([0.01] * 3 + [0.04] * 3 + [0.02])
    step = (posed.coarse.inverse() @ posed.target).log()
    tangent = share.to(step) * step + (share > 0).to(step) * noise.to(step)
    return posed.coarse @ Sim3.exp(tangent)


def _corner_error(found: Sim3, target: Sim3, unit: Tensor) -> Tensor:
    """Robust mean distance of the corners of a cube at two poses, in multiples of the scale of the error."""
    axis = torch.tensor([-0.5, 0.5], device=unit.device) * _CORNERS
    corners = torch.cartesian_prod(axis, axis, axis)
    distance = (found[:, None].apply(corners) - target[:, None].apply(corners)) / unit.view(-1, 1, 1)
    return F.smooth_l1_loss(distance / _CORNER_SCALE, torch.zeros_like(distance))


def _dice(logits: Tensor, actual: Tensor) -> Tensor:
    """One minus the overlap, mean over objects."""
    share = logits.sigmoid().flatten(1)
    truth = actual.flatten(1)
    return 1 - ((2 * (share * truth).sum(1) + 1) / (share.sum(1) + truth.sum(1) + 1)).mean()


def _nearest(depth: Tensor, uv: Tensor) -> Tensor:
    """Depth (B, N) of the pixels at (N, 2) in [0, 1]."""
    size = depth.shape[-1]
    column, row = (uv * size).floor().long().clamp(0, size - 1).unbind(-1)
    return depth[:, row, column]
