"""Stage `structure`: the image encoder and the flow of the structure latent, trained together.

Source: CUPID (arXiv 2510.20776) section 3, conditional flow matching over the latents of occupancy and UV. At
small scale the image tokens are also trained to predict the canonical point in each patch, with a head that is
used in training only: without it, a small network trained on few images does not learn to recognize the viewpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.config import SamplerConfig
from cupid_core.errors import CheckpointError, TrainingError
from cupid_core.evaluation.pose_metrics import uv_error_px
from cupid_core.evaluation.shape_metrics import occupancy_f1, occupancy_iou
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.models.image_encoder import ImageEncoder, tokens_of
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.models.surface_head import SurfaceHead
from cupid_core.models.weights import read_tensors
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.training.export import EXPORT, read_network
from cupid_core.training.figures import pose_errors_deg
from cupid_core.training.flow import draw_noise, draw_times, flow_sample, velocity_loss_per_item
from cupid_core.training.image_encoders import (
    SMALL_ENCODERS,
    exported_encoder,
    image_encoder_arguments,
    load_official_encoder,
)
from cupid_core.training.losses import exported_head, surface_loss
from cupid_core.training.sheets import scatter, sheet
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.structure_batch import StructureBatch, StructureSource, StructureTruth
from cupid_core.training.structure_settings import StructureSettings
from cupid_core.training.structure_vae_stage import DECODER_KEYS, ENCODER_KEYS, volume

_SHEET_ITEMS = 8


class StructureStage:
    """Image encoder, flow and surface head; the autoencoders of the structure are frozen.

    Args:
        settings: sizes and losses.
        context: device and the folder with the exports of the autoencoder stages.
        source: of views.
        centered_uv: input convention of the UV encoder (`StructureVaeSettings.centered_input`).

    Raises:
        TrainingError: an autoencoder has not been trained.
    """

    name = "structure"

    def __init__(
        self,
        settings: StructureSettings,
        context: StageContext,
        source: StructureSource,
        *,
        centered_uv: bool = True,
    ) -> None:
        self._settings, self._source, self._device = settings, source, context.device
        self._encoders, self._decoders = {}, {}
        self._centered = centered_uv
        for kind in ("occupancy", "uv"):
            folder = context.root / f"{kind}-vae" / EXPORT
            encoder = read_network(folder, ENCODER_KEYS[kind], SparseStructureEncoder, context.device)
            decoder = read_network(folder, DECODER_KEYS[kind], SparseStructureDecoder, context.device)
            self._encoders[kind], self._decoders[kind] = encoder, decoder
        encoder_settings = settings.image_encoder
        trained = encoder_settings.kind in SMALL_ENCODERS
        self.image_encoder: ImageEncoder = (
            SMALL_ENCODERS[encoder_settings.kind](**image_encoder_arguments(encoder_settings))
            if trained
            else load_official_encoder(encoder_settings.kind, encoder_settings.file, context.device)
        )
        self._flow_arguments = self._sizes()
        self.flow = SparseStructureFlowModel(**self._flow_arguments)
        networks: dict[str, nn.Module] = {"structure_flow": self.flow}
        if trained:
            networks["image_encoder"] = self.image_encoder
        self.head: SurfaceHead | None = None
        if trained and settings.surface_weight > 0:
            self.head = SurfaceHead(self.image_encoder.embed_dim, encoder_settings.head_bins)
            networks["surface_head"] = self.head
        if trained and settings.trained_encoder and not settings.run.start_from:
            _load_trained_encoder(networks, context.root / "image-encoder" / EXPORT)
        self.networks = nn.ModuleDict(networks).to(context.device)

    def batch(self, number: int) -> StructureBatch:
        """The views of this number."""
        return self._source.batch(number, self._settings.run.batch_size).to(self._device)

    def loss(self, batch: StructureBatch, generator: torch.Generator) -> StepLoss:
        """Velocity error of several noise samples per image, and the error of the surface points."""
        tokens = tokens_of(self.image_encoder, batch.image)
        total, logged = self._velocity_loss(self.latent(batch), tokens, generator)
        if self.head is not None and batch.xyz is not None and batch.visible_mask is not None:
            cells = tokens[:, self.image_encoder.num_prefix_tokens :]
            predicted = self.head(cells, self.image_encoder.native_grid)
            surface = surface_loss(predicted, batch.xyz, batch.visible_mask, self._settings.surface_scale)
            total = total + self._settings.surface_weight * surface.total
            logged |= {"surface": surface.points, "surface_error": surface.error, "surface_mask": surface.mask}
        return StepLoss(total, logged, len(batch.image))

    def _velocity_loss(
        self, x0: Tensor, tokens: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean over `draws` conditional noise samples of every image and some samples without any condition.

        The share of unconditional samples is exact instead of random. They need no image: cross-attention to the
        null condition is a constant that the network computes by itself.
        """
        count, draws = len(x0), self._settings.draws
        dropout = self._settings.flow.condition_dropout
        unconditional = round(dropout / (1 - dropout) * count * draws)
        chosen = torch.randint(count, (unconditional,), generator=generator).to(x0.device)
        data = torch.cat([x0.repeat_interleave(draws, dim=0), x0[chosen]])
        noise = draw_noise(data.shape, generator, data.device)
        times = draw_times(len(data), self._settings.flow, generator, x0.device)
        mixture = flow_sample(data, noise, times)
        memories = tuple(block.cross_kv(tokens) for block in self.flow.blocks)  # type: ignore[operator]
        predicted = self.flow.denoise(
            mixture.x_t, self.flow.modulations(1000.0 * mixture.t), memories, null_items=unconditional
        )
        per_item = velocity_loss_per_item(predicted, mixture.target, len(data))
        half = x0.shape[1] // 2
        with torch.no_grad():
            error = (predicted - mixture.target).square()[: count * draws]
        return per_item.mean(), {
            "velocity": per_item[: count * draws].mean(),
            "velocity_occupancy": error[:, :half].mean(),
            "velocity_uv": error[:, half:].mean(),
        }

    @torch.no_grad()
    def latent(self, batch: StructureBatch) -> Tensor:
        """x0 (B, C, r, r, r): the latent of occupancy, then that of image positions."""
        volumes = {kind: volume(batch, kind, centered=self._centered) for kind in ("occupancy", "uv")}
        return torch.cat([self._encoders[kind](values)[0] for kind, values in volumes.items()], dim=1)

    def validate(self) -> Mapping[str, float]:
        """Velocity error at fixed noise, and figures of one sampled structure per view."""
        batch, truth = self._validation_batch()
        with torch.random.fork_rng(devices=[]):
            logged = self.loss(batch, torch.Generator().manual_seed(0)).logged
        figures = {name: float(value) for name, value in logged.items()}
        occupied, uv = self._sample_structures(batch)
        size = batch.image.shape[-1]
        actual = batch.occupancy[:, 0]
        inside = actual & batch.flag[:, 0]
        figures["iou"] = float(occupancy_iou(occupied, actual).mean())
        figures["f1"] = float(occupancy_f1(occupied, actual).mean())
        figures["uv_error_px"] = float(uv_error_px(uv, batch.uv, inside, size).nanmedian())
        if truth is not None:
            error = pose_errors_deg(occupied.cpu(), uv.cpu(), truth, size)
            figures["rotation_deg"] = float(error.median())
            figures["rotation_within_15"] = float((error < 15).float().mean())
        return figures

    def _sample_structures(self, batch: StructureBatch) -> tuple[Tensor, Tensor]:
        """One sample per view: occupancy (B, R, R, R) bool and positions (B, 2, R, R, R)."""
        config = SamplerConfig(
            steps=self._settings.validation_steps,
            guidance_strength=self._settings.validation_guidance,
            guidance_from_t=0.0,
            rescale_t=2.0,
        )
        tokens = tokens_of(self.image_encoder, batch.image)
        shape = (len(tokens), self.flow.in_channels, *(self.flow.resolution,) * 3)
        prepared = self.flow.condition(tokens, sampling_times(config))
        latent = sample(
            self.flow.velocity(prepared),
            self.flow.velocity(prepared, null_half=True),
            NoiseSource(0).draw(shape, self._device),
            config,
        )
        half = latent.shape[1] // 2
        occupied = self._decoders["occupancy"](latent[:, :half])[:, 0] > 0
        return occupied, torch.sigmoid(self._decoders["uv"](latent[:, half:])[:, 1:])

    def sheet(self) -> Image | None:
        """Image, mask channel, predicted and true surface points, predicted and true voxels in the image."""
        batch = self._validation_batch()[0]
        occupied, uv = self._sample_structures(batch)
        tokens = tokens_of(self.image_encoder, batch.image)
        colors = all_voxel_centers(occupied.shape[-1]) + 0.5
        rows: list[list[Tensor]] = []
        for item in range(min(_SHEET_ITEMS, len(uv))):
            row = [batch.image[item, :3], batch.image[item, 3:4]]
            if self.head is not None and batch.xyz is not None and batch.visible_mask is not None:
                cells = tokens[item : item + 1, self.image_encoder.num_prefix_tokens :]
                predicted = self.head(cells, self.image_encoder.native_grid)
                predicted_points = F.interpolate(predicted.points, size=batch.xyz.shape[-2:])[0]
                row += [(field + 0.5) * batch.visible_mask[item] for field in (predicted_points, batch.xyz[item])]
            truth = batch.occupancy[item, 0].cpu()
            for grid, field in ((occupied[item].cpu(), uv[item]), (truth, batch.uv[item])):
                row.append(scatter(field.cpu().permute(1, 2, 3, 0)[grid], colors[grid]))
            rows.append(row)
        return sheet(rows)

    def exports(self) -> Sequence[ExportedNetwork]:
        """Flow and, where it is trained, image encoder, with the head that only a later training needs."""
        flow = copy.deepcopy(self.flow).to_precision(torch.float32)
        found = [
            ExportedNetwork(
                "sparse_structure_flow_model",
                type(flow).__name__,
                {**self._flow_arguments, "use_fp16": True},
                flow,
            )
        ]
        if self._settings.image_encoder.kind in SMALL_ENCODERS:
            found.append(exported_encoder(self._settings.image_encoder, self.image_encoder))
        if self.head is not None:
            found.append(exported_head(self.head))
        return found

    def close(self) -> None:
        """Stop background work."""
        self._source.close()

    def _validation_batch(self) -> tuple[StructureBatch, StructureTruth | None]:
        batch, truth = self._source.validation(self._settings.validation_views)
        return batch.to(self._device), truth

    @torch.no_grad()
    def _sizes(self) -> dict[str, Any]:
        """Constructor arguments of the flow; the size of the latent is taken from the output of the encoders."""
        batch, _ = self._source.validation(1)
        latent = self.latent(batch.to(self._device))
        network = self._settings.network
        return {
            "resolution": latent.shape[-1],
            "in_channels": latent.shape[1],
            "out_channels": latent.shape[1],
            "model_channels": network.model_channels,
            "cond_channels": self.image_encoder.embed_dim,
            "num_blocks": network.num_blocks,
            "num_heads": network.num_heads,
            "mlp_ratio": network.mlp_ratio,
            "patch_size": network.patch_size,
            "share_mod": network.share_mod,
            "qk_rms_norm": True,
        }


def _load_trained_encoder(networks: Mapping[str, nn.Module], folder: Path) -> None:
    """Load image encoder and surface head of stage "image-encoder", in place.

    Raises:
        TrainingError: they are missing, or of other sizes.
    """
    for key in ("image_encoder", "surface_head"):
        if key not in networks:
            continue
        path = folder / "ckpts" / f"{key}.safetensors"
        try:
            networks[key].load_state_dict(read_tensors(path))
        except (CheckpointError, RuntimeError) as error:
            raise TrainingError(
                f"'{key}' cannot be read from {path}: {error}",
                hint="Train image-encoder first, with these sizes, or set structure.trained_encoder: false.",
            ) from error
