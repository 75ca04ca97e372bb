"""Stage `image-encoder`: pre-trains the small image encoder to predict the canonical point in each image patch.

Recognizing the viewpoint takes hundreds of thousands of views; without the flow, and from small images, a view
costs a tenth. The stage `structure` continues from here (`structure.trained_encoder`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.errors import AlignmentError, TrainingError
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.geometry.similarity import align_robust
from cupid_core.models.encoder_planes import without_planes
from cupid_core.models.image_encoder import tokens_of
from cupid_core.models.surface_head import SurfaceHead, SurfacePrediction, bin_points
from cupid_core.training.image_encoders import SMALL_ENCODERS, exported_encoder, image_encoder_arguments
from cupid_core.training.losses import exported_head, surface_loss
from cupid_core.training.sheets import sheet
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.structure_batch import StructureTruth, SurfaceBatch, SurfaceSource
from cupid_core.training.structure_settings import ImageEncoderSettings, ImageEncoderStageSettings

_SHEET_ITEMS = 8


class ImageEncoderStage:
    """Image encoder and surface head.

    Args:
        settings: of the stage.
        encoder: kind and sizes, those of the stage `structure`.
        context: device.
        source: of views, as large as the images of the encoder or smaller; small ones are enlarged.

    Raises:
        TrainingError: the image encoder is an official one, which is frozen.
    """

    name = "image-encoder"

    def __init__(
        self,
        settings: ImageEncoderStageSettings,
        encoder: ImageEncoderSettings,
        context: StageContext,
        source: SurfaceSource,
    ) -> None:
        if encoder.kind not in SMALL_ENCODERS:
            raise TrainingError(
                f"The image encoder is '{encoder.kind}', which is an official one.",
                hint=f"Go on with the stage structure, or choose {' or '.join(SMALL_ENCODERS)}.",
            )
        self._settings, self._sizes, self._source, self._device = settings, encoder, source, context.device
        self.image_encoder = SMALL_ENCODERS[encoder.kind](**image_encoder_arguments(encoder))
        self.head = SurfaceHead(self.image_encoder.embed_dim, encoder.head_bins)
        networks = {"image_encoder": self.image_encoder, "surface_head": self.head}
        self.networks = nn.ModuleDict(networks).to(context.device)

    def batch(self, number: int) -> SurfaceBatch:
        """The views of this number."""
        return self._source.surfaces(number, self._settings.run.batch_size).to(self._device)

    def loss(self, batch: SurfaceBatch, generator: torch.Generator) -> StepLoss:
        """Error of the surface points, of their bins and of the silhouette."""
        surface = surface_loss(
            self._predict(batch.image), batch.xyz, batch.visible_mask, self._settings.surface_scale
        )
        logged = {
            "surface": surface.points,
            "surface_error": surface.error,
            "surface_mask": surface.mask,
            "surface_bins": surface.bins,
        }
        return StepLoss(surface.total, logged, len(batch.image))

    def validate(self) -> Mapping[str, float]:
        """Errors on validation views, with all input planes and with some of them left out.

        For each choice: the distance of the points, and rotation and scale of the robust similarity between
        predicted and true surface points.
        """
        batch, truth = self._source.validation_surfaces(self._settings.validation_views)
        figures: dict[str, float] = {}
        for name, absent in _VALIDATED.items():
            if name and not set(absent) & set(self.image_encoder.planes):
                continue
            image = without_planes(batch.image, absent).to(self._device)
            predicted = self._predict(image)
            loss = surface_loss(predicted, batch.xyz.to(self._device), batch.visible_mask.to(self._device), 0.1)
            rotation_deg, scale = _alignment_errors(predicted, batch, truth)
            figures |= {
                f"{name}surface_error": float(loss.error),
                f"{name}rotation_deg": float(rotation_deg.median()),
                f"{name}rotation_within_15": float((rotation_deg < 15).float().mean()),
                f"{name}rotation_within_30": float((rotation_deg < 30).float().mean()),
                f"{name}scale_error": float(scale.median()),
            }
        return figures

    def sheet(self) -> Image | None:
        """Image, mask channel, predicted and true surface points."""
        batch = self._source.validation_surfaces(_SHEET_ITEMS)[0].to(self._device)
        points = self._predict(batch.image).points
        rows = [
            [
                image[:3],
                image[3:4],
                *((field + 0.5) * visible for field in (F.interpolate(predicted[None], xyz.shape[-2:])[0], xyz)),
            ]
            for image, predicted, xyz, visible in zip(
                batch.image, points, batch.xyz, batch.visible_mask, strict=True
            )
        ]
        return sheet(rows)

    def exports(self) -> Sequence[ExportedNetwork]:
        """Image encoder and surface head."""
        return [exported_encoder(self._sizes, self.image_encoder), exported_head(self.head)]

    def close(self) -> None:
        """Stop background work."""
        self._source.close()

    def _predict(self, image: Tensor) -> SurfacePrediction:
        cells = tokens_of(self.image_encoder, image)[:, self.image_encoder.num_prefix_tokens :]
        predicted: SurfacePrediction = self.head(cells, self.image_encoder.native_grid)
        return predicted


# Input planes that validation leaves out, by the prefix of its figures.
_VALIDATED = {"": (), "no_up_": ("gravity",), "color_": ("points", "gravity")}


def _alignment_errors(
    predicted: SurfacePrediction, batch: SurfaceBatch, truth: StructureTruth
) -> tuple[Tensor, Tensor]:
    """Angles (B,) between predicted and true surface points up to symmetry, and relative errors (B,) of scale.

    180 and 1 where the points do not define a similarity.
    """
    points, confidence = predicted.points, None
    if predicted.bins is not None:
        points, confidence = bin_points(predicted.bins)
    points = F.interpolate(points, size=batch.xyz.shape[-2:], mode="nearest").cpu()
    confidence = (
        None if confidence is None else F.interpolate(confidence, size=batch.xyz.shape[-2:], mode="nearest").cpu()
    )
    rotation_deg, scale = [], []
    for item, visible in enumerate(batch.visible_mask[:, 0]):
        T = truth.T_camera_object[item].double()
        weights = None if confidence is None else confidence[item, 0][visible].double()
        try:
            found = align_robust(
                points[item][:, visible].T.double(), batch.xyz[item][:, visible].T.double(), weights
            ).T_b_a
        except AlignmentError:
            rotation_deg.append(180.0)
            scale.append(1.0)
            continue
        estimated = T.clone()
        estimated[:3, :3] = T[:3, :3] @ found.rotation()
        rotation_deg.append(rotation_error_deg(T, estimated, truth.symmetry[item]))
        scale.append(abs(float(found.scale) - 1.0))
    return torch.tensor(rotation_deg), torch.tensor(scale)
