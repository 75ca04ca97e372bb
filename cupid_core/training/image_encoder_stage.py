"""Stage `image-encoder`: the small image encoder learns, before the flow, which canonical point each part shows.

To tell from which side an object is seen takes hundreds of thousands of views; without the flow, and from small
pictures, a view costs a tenth. The stage `structure` goes on from here (`structure.trained_encoder`). Knows images
and surface points as tensors; must not know voxels, optimisers or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.errors import AlignmentError, TrainingError
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.geometry.similarity import align
from cupid_core.training.sheets import sheet
from cupid_core.training.small_encoders import SMALL_ENCODERS, exported_encoder, image_encoder_arguments, tokens_of
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.structure_batch import StructureTruth, SurfaceBatch, SurfaceSource
from cupid_core.training.structure_settings import ImageEncoderSettings, ImageEncoderStageSettings
from cupid_core.training.surface_head import SurfaceHead, exported_head, surface_loss

_SHEET_ITEMS = 8


class ImageEncoderStage:
    """Image encoder and surface head.

    Args:
        settings: of the stage.
        encoder: kind and sizes, those of the stage `structure`.
        context: device.
        source: of views, of the size of the encoder's images or smaller; small ones are enlarged.

    Raises:
        TrainingError: the image encoder is an official one, which is not trained.
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
                cure=f"Go on with the stage structure, or choose {' or '.join(SMALL_ENCODERS)}.",
            )
        self._settings, self._sizes, self._source, self._device = settings, encoder, source, context.device
        self.image_encoder = SMALL_ENCODERS[encoder.kind](**image_encoder_arguments(encoder))
        self.head = SurfaceHead(self.image_encoder.embed_dim)
        networks = {"image_encoder": self.image_encoder, "surface_head": self.head}
        self.networks = nn.ModuleDict(networks).to(context.device)

    def batch(self, number: int) -> SurfaceBatch:
        """Views of this number."""
        return self._source.surfaces(number, self._settings.run.batch_size).to(self._device)

    def loss(self, batch: SurfaceBatch, generator: torch.Generator) -> StepLoss:
        """Error of the surface points and of the silhouette."""
        surface = surface_loss(*self._predicted(batch), batch.xyz, batch.seen, self._settings.surface_scale)
        logged = {"surface": surface.points, "surface_error": surface.error, "surface_mask": surface.mask}
        return StepLoss(surface.points + surface.mask, logged, len(batch.image))

    def validate(self) -> Mapping[str, float]:
        """Errors of unseen views, and the rotation between predicted and true surface points, degrees."""
        batch, truth = self._source.unseen_surfaces(self._settings.validation_views)
        batch = batch.to(self._device)
        logged = self.loss(batch, torch.Generator()).logged
        points = F.interpolate(self._predicted(batch)[0], size=batch.xyz.shape[-2:], mode="bilinear")
        turned = _rotation_errors_deg(points.cpu(), batch.to(torch.device("cpu")), truth)
        return {name: float(value) for name, value in logged.items()} | {
            "rotation_deg": float(turned.median()),
            "rotation_within_30": float((turned < 30).float().mean()),
        }

    def sheet(self) -> Image | None:
        """Image, mask channel, predicted and true surface points."""
        batch = self._source.unseen_surfaces(_SHEET_ITEMS)[0].to(self._device)
        points, _ = self._predicted(batch)
        rows = [
            [
                image[:3],
                image[-1:],
                *((field + 0.5) * seen for field in (F.interpolate(mine[None], xyz.shape[-2:])[0], xyz)),
            ]
            for image, mine, xyz, seen in zip(batch.image, points, batch.xyz, batch.seen, strict=True)
        ]
        return sheet(rows)

    def exports(self) -> Sequence[ExportedNetwork]:
        """Image encoder and surface head."""
        return [exported_encoder(self._sizes, self.image_encoder), exported_head(self.head)]

    def close(self) -> None:
        """Stop background work."""
        self._source.close()

    def _predicted(self, batch: SurfaceBatch) -> tuple[Tensor, Tensor]:
        cells = tokens_of(self.image_encoder, batch.image)[:, self.image_encoder.num_prefix_tokens :]
        points, visible = self.head(cells, self.image_encoder.native_grid)
        return points, visible


def _rotation_errors_deg(points: Tensor, batch: SurfaceBatch, truth: StructureTruth) -> Tensor:
    """Angles (B,) between predicted and true surface points up to symmetry; 180 where they do not define one."""
    errors = []
    for item, seen in enumerate(batch.seen[:, 0]):
        T = truth.T_camera_object[item].double()
        try:
            turn = align(points[item][:, seen].T.double(), batch.xyz[item][:, seen].T.double(), with_scale=False)
        except AlignmentError:
            errors.append(180.0)
            continue
        estimated = T.clone()
        estimated[:3, :3] = T[:3, :3] @ turn.matrix()[:3, :3]
        errors.append(rotation_error_deg(T, estimated, truth.symmetry[item]))
    return torch.tensor(errors)
