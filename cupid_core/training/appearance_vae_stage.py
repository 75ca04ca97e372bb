"""Stage "appearance-vae": the surface inside voxels to a latent of a few numbers, and back to the cubes of a mesh.

Supervised with the truth at the corners of the cubes, without rendering. The encoder is used in training only (it
makes the data of stage "appearance"); the decoder is shipped. Source: structured latents of TRELLIS (Xiang et al.
2024), without their renderers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.data.assets.samples import LatentScale
from cupid_core.models.appearance_vae import PrincipalEncoder
from cupid_core.models.decode_mesh import CubeFields, SLatMeshDecoder
from cupid_core.training.appearance_codec import (
    VoxelEncoder,
    codec_exports,
    codec_grid,
    encode,
    fit_encoder,
    make_codec,
    measure_scale,
)
from cupid_core.training.appearance_settings import AppearanceVaeSettings
from cupid_core.training.figures import field_figures, ideal_meshes, mesh_figures, meshes_of
from cupid_core.training.losses import kl_divergence
from cupid_core.training.mesh_field import FieldTruth, field_truth, mesh_field_loss
from cupid_core.training.sheets import mesh_sheet
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.voxel_truth import CUBES, TabletopVoxels, VoxelSource, VoxelTruth

_SHEET_OBJECTS = 4
# Whole objects decoded at a time; each has some hundred thousand cubes.
_AT_ONCE = 2


@dataclass(frozen=True, eq=False)
class Decoded:
    """Whole objects after encoder and decoder, with their truth."""

    voxels: VoxelTruth
    truth: FieldTruth
    latent: Tensor
    fields: CubeFields


class AppearanceVaeStage:
    """Trains the appearance autoencoder.

    Args:
        settings: networks, loss and data.
        context: where it runs.
        source: of voxels; generated objects where None.

    Raises:
        ConfigError: see `make_codec`.
    """

    name = "appearance-vae"

    def __init__(
        self, settings: AppearanceVaeSettings, context: StageContext, source: VoxelSource | None = None
    ) -> None:
        self.settings, grid = settings, codec_grid(settings)
        self.source = source or TabletopVoxels(settings, grid, seed=context.seed, device=context.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            encoder, decoder = make_codec(settings)
        if isinstance(encoder, PrincipalEncoder):
            fit_encoder(encoder, self._scale_objects())
        self.networks = nn.ModuleDict({"encoder": encoder, "decoder": decoder}).to(context.device)

    @property
    def encoder(self) -> VoxelEncoder:
        """The encoder, used in training only."""
        return cast(VoxelEncoder, self.networks["encoder"])

    @property
    def decoder(self) -> SLatMeshDecoder:
        """The mesh decoder; it takes latents that are not normalized."""
        return cast(SLatMeshDecoder, self.networks["decoder"])

    def batch(self, number: int) -> VoxelTruth:
        """Voxels with the truth inside them."""
        return self.source.batch(number)

    def loss(self, batch: VoxelTruth, generator: torch.Generator) -> StepLoss:
        """Encode, sample a latent, decode, compare with the truth of the same cubes."""
        settings = self.settings
        mean, logvar = encode(self.encoder, batch.truth, batch.topology)
        noise = torch.randn(2, *mean.shape, generator=generator).to(mean.device)
        # Noise in proportion to the latent's own deviation, so that scaling the latent up does not avoid it.
        spread = settings.latent_noise * mean.detach().std(0)
        latent = mean + (0.5 * logvar).exp() * noise[0] + spread * noise[1]
        fields = self.decoder(latent, batch.topology)
        terms = mesh_field_loss(
            fields.rows,
            field_truth(batch.truth, settings.loss.truncation),
            batch.in_loss.repeat_interleave(CUBES**3),
            fields.topology.resolution,
            settings.loss,
        )
        divergence = kl_divergence(mean, logvar)
        return StepLoss(
            terms.total + settings.kl_weight * divergence,
            {
                "distance": terms.distance,
                "color": terms.color,
                "normal": terms.normal,
                "wrong_side": terms.wrong_side,
                "color_mse": terms.color_mse,
                "kl": divergence,
                "voxels": float(len(mean)),
            },
            images=batch.objects,
        )

    def validate(self) -> Mapping[str, float]:
        """Reconstruction figures on unseen objects of the trained and of the held-out families."""
        figures: dict[str, float] = {}
        count = self.settings.validation_objects
        for split, prefix in (("train", ""), ("held_out", "held_out_")):
            measured = [self._figures(part) for part in self._decoded(split, count, _AT_ONCE)]
            # Assets have no families that could be held out.
            for key in measured[0] if measured else ():
                figures[prefix + key] = sum(row[key] for row in measured) / len(measured)
        return figures

    def sheet(self) -> Image | None:
        """Unseen objects: the truth above its reconstruction."""
        count = min(_SHEET_OBJECTS, self.settings.validation_objects)
        decoded = next(iter(self._decoded("train", count, count)))
        return mesh_sheet([ideal_meshes(decoded.fields, decoded.truth), meshes_of(decoded.fields)])

    def scale(self) -> LatentScale:
        """Mean and deviation of the latent on training objects; deterministic."""
        return measure_scale(self.encoder, self._scale_objects())

    def exports(self) -> Sequence[ExportedNetwork]:
        """Encoder and mesh decoder with a normalized latent between them; inference uses the decoder alone."""
        return codec_exports(self.encoder, self.decoder, self.scale(), self.settings)

    def close(self) -> None:
        """Nothing runs in the background."""

    def _scale_objects(self) -> Iterator[VoxelTruth]:
        """Whole training objects, with the truth at the lattice points that the encoder reads."""
        return self.source.training_objects(self.settings.scale_objects, _AT_ONCE, self.settings.lattice - 1)

    def _figures(self, decoded: Decoded) -> dict[str, float]:
        figures = field_figures(decoded.fields.rows, decoded.truth, decoded.voxels)
        meshes = mesh_figures(meshes_of(decoded.fields), ideal_meshes(decoded.fields, decoded.truth))
        deviation = decoded.latent.std(0)
        spread = {"latent_std_min": float(deviation.min()), "latent_std_max": float(deviation.max())}
        return {**figures, **meshes, **spread}

    def _decoded(self, split: str, count: int, at_once: int) -> Iterator[Decoded]:
        for voxels in self.source.validation_objects(split, count, at_once):
            with torch.no_grad():
                latent = encode(self.encoder, voxels.truth, voxels.topology).mean
                fields = self.decoder(latent, voxels.topology)
            truth = field_truth(voxels.truth, self.settings.loss.truncation)
            yield Decoded(voxels, truth, latent, fields)
