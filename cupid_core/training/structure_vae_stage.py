"""Stages `occupancy-vae` and `uv-vae`: autoencoders of dense volumes.

Source: sparse-structure VAE of TRELLIS (Xiang et al. 2024); UV VAE of CUPID (arXiv 2510.20776). The decoder is
trained on latents with noise, because at inference it gets samples of the flow, which are not exact.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.evaluation.pose_metrics import uv_error_px
from cupid_core.evaluation.shape_metrics import occupancy_f1, occupancy_iou
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.training.flow import draw_noise
from cupid_core.training.losses import StructureVaeLoss, UvTarget, occupancy_vae_loss, uv_vae_loss
from cupid_core.training.sheets import scatter, sheet, side_view
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.structure_batch import StructureBatch, StructureSource
from cupid_core.training.structure_settings import StructureVaeNetworkSettings, StructureVaeSettings

ENCODER_KEYS = {"occupancy": "sparse_structure_encoder", "uv": "sparse_structure_uv_encoder"}
DECODER_KEYS = {"occupancy": "sparse_structure_decoder", "uv": "sparse_structure_uv_decoder"}
CHANNELS = {"occupancy": 1, "uv": 3}
_SHEET_ITEMS = 8


class StructureVaeStage:
    """Encoder and decoder of one kind of volume.

    Args:
        kind: which volume.
        settings: sizes and losses.
        context: device.
        source: of the volumes.
    """

    def __init__(
        self,
        kind: Literal["occupancy", "uv"],
        settings: StructureVaeSettings,
        context: StageContext,
        source: StructureSource,
    ) -> None:
        self.name = f"{kind}-vae"
        self._kind, self._settings, self._source, self._device = kind, settings, source, context.device
        self.encoder = SparseStructureEncoder(**encoder_arguments(kind, settings.network))
        self.decoder = SparseStructureDecoder(**decoder_arguments(kind, settings.network))
        networks = {"encoder": self.encoder, "decoder": self.decoder}
        self.networks = nn.ModuleDict(networks).to(context.device)

    def batch(self, number: int) -> StructureBatch:
        """The volumes of this number."""
        return self._source.batch(number, self._settings.run.batch_size).to(self._device)

    def loss(self, batch: StructureBatch, generator: torch.Generator) -> StepLoss:
        """Reconstruction from a noisy posterior sample, and its divergence."""
        mean, logvar = self.encoder(self._volume(batch))
        logits = self.decoder(self._noisy(mean, logvar, generator))
        found: StructureVaeLoss
        if self._kind == "occupancy":
            found = occupancy_vae_loss(logits, batch.occupancy, mean, logvar, self._settings.loss)
        else:
            target = UvTarget(batch.flag, batch.uv, batch.occupancy)
            found = uv_vae_loss(logits, target, mean, logvar, self._settings.loss)
        logged: dict[str, Tensor | float] = {"classification": found.classification, "kl": found.kl}
        if found.regression is not None:
            logged["regression"] = found.regression
        return StepLoss(found.total, logged, len(batch.occupancy))

    def _noisy(self, mean: Tensor, logvar: Tensor, generator: torch.Generator) -> Tensor:
        first, second = draw_noise((2, *mean.shape), generator, mean.device).unbind(0)
        low, high = self._settings.latent_noise_low, self._settings.latent_noise_high
        level = (low + (high - low) * torch.rand(len(mean), generator=generator)).to(mean)
        deviation = mean.detach().transpose(0, 1).flatten(1).std(dim=1).view(1, -1, 1, 1, 1)
        extra = second * deviation * level.view(-1, 1, 1, 1, 1)
        return mean + torch.exp(0.5 * logvar) * first + extra

    def validate(self) -> Mapping[str, float]:
        """Reconstruction of unseen volumes, plain and with latent noise of a tenth of its deviation."""
        batch = self._validation_batch()
        mean, _ = self.encoder(self._volume(batch))
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).to(mean)
        noisy = mean + 0.1 * noise * mean.transpose(0, 1).flatten(1).std(dim=1).view(1, -1, 1, 1, 1)
        figures = {"latent_rms": float(mean.square().mean().sqrt())}
        for label, latent in (("", mean), ("_noisy", noisy)):
            logits = self.decoder(latent)
            if self._kind == "occupancy":
                predicted, truth = logits[:, 0] > 0, batch.occupancy[:, 0]
                figures[f"iou{label}"] = float(occupancy_iou(predicted, truth).mean())
                figures[f"f1{label}"] = float(occupancy_f1(predicted, truth).mean())
            else:
                inside = batch.occupancy[:, 0] & batch.flag[:, 0]
                error = uv_error_px(torch.sigmoid(logits[:, 1:]), batch.uv, inside, batch.image.shape[-1])
                figures[f"uv_error_px{label}"] = float(error.nanmean())
        return figures

    def sheet(self) -> Image | None:
        """Truth above reconstruction."""
        batch = self._validation_batch()
        logits = self.decoder(self.encoder(self._volume(batch))[0])
        rows: list[list[Tensor]] = []
        for item in range(min(_SHEET_ITEMS, len(logits))):
            truth = batch.occupancy[item, 0].cpu()
            if self._kind == "occupancy":
                predicted = (logits[item, 0] > 0).cpu()
                rows.append([side_view(grid, axis) for axis in range(3) for grid in (truth, predicted)])
            else:
                colors = all_voxel_centers(truth.shape[-1])[truth] + 0.5
                fields = (batch.uv[item], torch.sigmoid(logits[item, 1:]))
                rows.append([scatter(field.cpu().permute(1, 2, 3, 0)[truth], colors) for field in fields])
        return sheet(rows)

    def exports(self) -> Sequence[ExportedNetwork]:
        """Both networks, rescaled so that each channel of the latent has root mean square 1."""
        mean, _ = self.encoder(self._volume(self._validation_batch()))
        rms = mean.transpose(0, 1).flatten(1).square().mean(dim=1).sqrt()
        encoder = copy.deepcopy(self.encoder).to_precision(torch.float32)
        decoder = copy.deepcopy(self.decoder).to_precision(torch.float32)
        fold_latent_scale(encoder, decoder, rms.float())
        return [
            ExportedNetwork(
                ENCODER_KEYS[self._kind],
                type(encoder).__name__,
                {**encoder_arguments(self._kind, self._settings.network), "use_fp16": True},
                encoder,
            ),
            ExportedNetwork(
                DECODER_KEYS[self._kind],
                type(decoder).__name__,
                {**decoder_arguments(self._kind, self._settings.network), "use_fp16": True},
                decoder,
            ),
        ]

    def close(self) -> None:
        """Stop background work."""
        self._source.close()

    def _volume(self, batch: StructureBatch) -> Tensor:
        return volume(batch, self._kind, centered=self._settings.centerd_input)

    def _validation_batch(self) -> StructureBatch:
        return self._source.validation(self._settings.validation_views)[0].to(self._device)


def volume(batch: StructureBatch, kind: str, *, centered: bool) -> Tensor:
    """Input of an encoder: occupancy (B, 1, R, R, R), or flag, u, v (B, 3, R, R, R); float32.

    Args:
        batch: of volumes.
        kind: "occupancy" or "uv".
        centered: see `StructureVaeSettings.centerd_input`; of "uv" alone.
    """
    if kind == "occupancy":
        return batch.occupancy.float()
    flag, uv = batch.flag.float(), batch.uv
    return torch.cat([flag - 1.0, 8.0 * uv - 4.0] if centered else [flag, uv], dim=1)


def fold_latent_scale(encoder: SparseStructureEncoder, decoder: SparseStructureDecoder, rms: Tensor) -> None:
    """Divide the latent by its scale inside the encoder and multiply inside the decoder, in place.

    The published stage 1 has no normalization of its own. Only the scale can be folded exactly: the first
    convolution of the decoder pads with zero, which a shift would move.

    Args:
        encoder: its mean and deviation are divided.
        decoder: its reconstruction stays the same.
        rms: (C,) scale of each channel.
    """
    head = encoder.out_layer[-1]
    assert isinstance(head, nn.Conv3d) and head.bias is not None
    with torch.no_grad():
        channels = len(rms)
        head.weight[:channels] /= rms.view(-1, 1, 1, 1, 1)
        head.bias[:channels] /= rms
        head.bias[channels:] -= 2 * rms.log()
        decoder.input_layer.weight *= rms.view(1, -1, 1, 1, 1)


def encoder_arguments(kind: str, settings: StructureVaeNetworkSettings) -> dict[str, Any]:
    """Constructor arguments of the encoder."""
    return {
        "in_channels": CHANNELS[kind],
        "latent_channels": settings.latent_channels,
        "num_res_blocks": settings.encoder_res_blocks,
        "channels": list(settings.encoder_channels),
        "num_res_blocks_middle": settings.encoder_middle,
    }


def decoder_arguments(kind: str, settings: StructureVaeNetworkSettings) -> dict[str, Any]:
    """Constructor arguments of the decoder."""
    return {
        "out_channels": CHANNELS[kind],
        "latent_channels": settings.latent_channels,
        "num_res_blocks": settings.decoder_res_blocks,
        "channels": list(settings.decoder_channels),
        "num_res_blocks_middle": settings.decoder_middle,
    }
