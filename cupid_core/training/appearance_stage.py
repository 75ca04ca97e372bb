"""Stage "appearance": the flow of the structured latent, told by the image about the place of every voxel.

The flow, and the encoder of what it is told, learn together; the image encoder and the appearance autoencoder come
frozen from their own stages. Voxels are placed in the image by the true pose, a little disturbed. Knows networks
and batches; must not know files or optimizers.

Source: CUPID (arXiv 2510.20776) section 3.3, Table 4, appendix A.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL.Image import Image
from torch import Tensor, nn

from cupid_core.evaluation.image_metrics import psnr
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.decode_mesh import CubeFields
from cupid_core.models.image_encoder import ImageEncoder, token_visibility
from cupid_core.models.pose_aligned import VoxelView, visible_voxels
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.training.appearance_assets import AssetAppearanceSource
from cupid_core.training.appearance_batch import AppearanceBatch, collate, disturbed_pose, project_voxels
from cupid_core.training.appearance_codec import read_codec
from cupid_core.training.appearance_figures import field_figures, ideal_meshes, meshes_of
from cupid_core.training.appearance_networks import AppearanceNetworks, FrozenHelpers, make_networks
from cupid_core.training.appearance_pictures import mesh_sheet
from cupid_core.training.appearance_settings import AppearanceSettings
from cupid_core.training.appearance_source import AppearanceSource, TabletopAppearanceSource, Unseen
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.export import EXPORT, read_network
from cupid_core.training.flow import draw_kept_conditions, draw_noise, draw_times, flow_sample, velocity_loss
from cupid_core.training.mesh_field import FieldTruth, field_truth
from cupid_core.training.official_encoder import official_image_encoder
from cupid_core.training.settings import TrainConfig
from cupid_core.training.small_encoders import SMALL_ENCODERS
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.voxel_truth import VoxelGrid, VoxelTruth

_TIME_SCALE = 1000.0
# Unseen views sampled and decoded together.
_AT_ONCE = 4
_SHEET_VIEWS = 4
# Of distances in figures, cube edges; only their sign counts there.
_TRUNCATION = 2.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """Cubes that a sampled latent decodes to, and what they should be."""

    fields: CubeFields
    truth: FieldTruth
    voxels: VoxelTruth


class AppearanceStage:
    """Trains stage 2.

    Args:
        settings: networks, flow, noise of the pose.
        context: where it runs.
        helpers: the frozen networks.
        source: of views for training.

    Raises:
        ConfigError: see `make_networks`.
    """

    name = "appearance"

    def __init__(
        self, settings: AppearanceSettings, context: StageContext, helpers: FrozenHelpers, source: AppearanceSource
    ) -> None:
        self.settings, self.context, self.helpers, self.source = settings, context, helpers, source
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self._made: AppearanceNetworks = make_networks(settings.network, helpers)
        parts: dict[str, nn.Module] = {"flow": self._made.flow}
        if self._made.encoder is not None:
            parts["slat_encoder"] = self._made.encoder
        self.networks = nn.ModuleDict(parts).to(context.device)

    @property
    def flow(self) -> SLatFlowModel:
        """The flow of the latent."""
        return cast(SLatFlowModel, self.networks["flow"])

    @property
    def slat_encoder(self) -> SLatEncoder | None:
        """The encoder of what the flow is told; None where the variant does without."""
        return cast(SLatEncoder, self.networks["slat_encoder"]) if "slat_encoder" in self.networks else None

    def batch(self, number: int) -> AppearanceBatch:
        """Views of objects with their latents."""
        views = self.source.views(number, self.settings.run.batch_size)
        return collate(views, self.grid, self.context.device)

    def loss(self, batch: AppearanceBatch, generator: torch.Generator) -> StepLoss:
        """Conditional flow matching on the rows of all voxels (equation 1)."""
        settings, device = self.settings, batch.latent.device
        count = len(batch.image)
        t = draw_times(count, settings.flow, generator, device)
        kept = draw_kept_conditions(count, settings.flow, generator, device).float()
        noise = draw_noise(batch.latent.shape, generator, device)
        pose = disturbed_pose(batch.T_camera_object, batch.intrinsics, settings.pose_noise, generator)
        drawn = flow_sample(batch.latent, noise, t, batch.topology.item)
        tokens, view = self._look(batch, pose, kept)
        velocity = self.flow(
            drawn.x_t,
            t * _TIME_SCALE,
            tokens,
            batch.topology,
            pose=self.flow.pose_features(view, batch.topology),
            cond_weights=self._token_weights(batch),
        )
        total = velocity_loss(velocity, drawn.target)
        return StepLoss(total, {"voxels": float(len(noise))}, images=count)

    def validate(self) -> Mapping[str, float]:
        """Figures of unseen views, true structure and pose: sampled, decoded, compared with the truth."""
        figures: dict[str, list[float]] = {}
        for split, prefix in (("train", ""), ("held_out", "held_out_")):
            for unseen in self._unseen(split, self.settings.validation_objects):
                row = {"velocity": float(self.loss(unseen.batch, torch.Generator().manual_seed(0)).total)}
                if (sampled := self._sampled(unseen)) is not None:
                    row |= field_figures(sampled.fields.rows, sampled.truth, sampled.voxels)
                    row["visible_psnr"] = self._visible_psnr(unseen.batch, sampled)
                for key, value in row.items():
                    figures.setdefault(prefix + key, []).append(value)
        return {key: sum(values) / len(values) for key, values in figures.items()}

    def sheet(self) -> Image | None:
        """Unseen views: the mesh of the true field above the sampled one."""
        for unseen in self._unseen("train", min(_SHEET_VIEWS, self.settings.validation_objects)):
            if (sampled := self._sampled(unseen)) is not None:
                return mesh_sheet([ideal_meshes(sampled.fields, sampled.truth), meshes_of(sampled.fields)])
        return None

    def exports(self) -> Sequence[ExportedNetwork]:
        """The flow and its encoder; the mesh decoder is the one its latents were made with."""
        return self._made.exports()

    def close(self) -> None:
        """Stop making data."""
        self.source.close()

    def sample_latent(self, batch: AppearanceBatch, seed: int = 0) -> Tensor:
        """Normalized latents (N, C) of the voxels of a batch, sampled with its poses as they are."""
        shown = torch.ones(len(batch.image), device=batch.latent.device)
        tokens, view = self._look(batch, batch.T_camera_object, shown)
        times = sampling_times(self.settings.sampler)
        weights = self._token_weights(batch)
        prepared = self.flow.condition(tokens, times, batch.topology, view=view, cond_weights=weights)
        start = NoiseSource(seed).draw(batch.latent.shape, batch.latent.device)
        conditional = self.flow.velocity(prepared)
        return sample(conditional, self.flow.velocity(prepared, null_half=True), start, self.settings.sampler)

    @property
    def grid(self) -> VoxelGrid:
        """Voxels as flow and encoder want them indexed."""
        window = None if self.slat_encoder is None else self.slat_encoder.window_size
        return VoxelGrid(self.flow.resolution, window, self.flow.levels)

    def _look(self, batch: AppearanceBatch, T_camera_object: Tensor, kept: Tensor) -> tuple[Tensor, VoxelView]:
        """Image tokens and what the image says about every voxel; zero for items whose condition is dropped."""
        encoder = self.helpers.image_encoder
        with torch.no_grad():
            tokens = encoder(batch.image[:, : encoder.in_channels]) * kept[:, None, None]
        visual = batch.image[:, :3]
        if self.flow.occlusion_aware:
            visual = torch.cat([visual, batch.unoccluded], dim=1)
        uv, depth = project_voxels(batch.topology, T_camera_object, batch.intrinsics)
        view = VoxelView(
            uv=uv.clamp(0.0, 1.0),
            tokens=tokens,
            image=visual * kept[:, None, None, None],
            visible=visible_voxels(uv, depth, batch.topology, cells=self.flow.resolution),
            position_table=encoder.pos_embed.detach(),
            prefix_tokens=encoder.num_prefix_tokens,
        )
        if self.slat_encoder is not None:
            view = view.with_latent(self.slat_encoder, batch.topology)
        return tokens, view

    def _token_weights(self, batch: AppearanceBatch) -> Tensor | None:
        if not self.flow.occlusion_aware:
            return None
        encoder = self.helpers.image_encoder
        return token_visibility(batch.unoccluded, encoder.patch_size, encoder.num_prefix_tokens)

    def _unseen(self, split: str, count: int) -> Iterator[Unseen]:
        return self.source.unseen(split, count, _AT_ONCE, self.grid)

    def _sampled(self, unseen: Unseen) -> Sampled | None:
        """Sampled and decoded views; None where there is no decoder, or no truth to compare with."""
        if self.helpers.decoder is None or unseen.voxels is None:
            return None
        fields = self.helpers.decoder(self.sample_latent(unseen.batch), unseen.voxels.topology)
        return Sampled(fields, field_truth(unseen.voxels.truth, _TRUNCATION), unseen.voxels)

    def _visible_psnr(self, batch: AppearanceBatch, sampled: Sampled) -> float:
        """Color PSNR of the corners near the surface in voxels that the camera sees."""
        uv, depth = project_voxels(batch.topology, batch.T_camera_object, batch.intrinsics)
        seen = visible_voxels(uv, depth, batch.topology, cells=self.flow.resolution) > 0
        truth, rows = sampled.truth, sampled.fields.rows
        chosen = truth.near & seen.repeat_interleave(len(rows) // len(seen))[:, None]
        color = torch.sigmoid(rows[:, -truth.attributes[0].numel() :].view_as(truth.attributes)[chosen])
        return psnr(float((color[:, :3] - truth.attributes[chosen][:, :3]).square().mean()))


def build_appearance_stage(config: TrainConfig, context: StageContext) -> AppearanceStage:
    """The stage on the data the settings name, beside the networks that earlier stages exported.

    Raises:
        TrainingError: an earlier stage has not been trained, or no file of an official image encoder is named.
        DatasetError: nothing in an asset data set can be used.
    """
    look, device = config.structure.image_encoder, context.device
    images = (
        read_network(context.root / "structure" / EXPORT, "image_encoder", ImageEncoder, device)
        if look.kind in SMALL_ENCODERS
        else official_image_encoder(look.kind, look.file, device)
    )
    settings = config.appearance
    if config.data == "assets":
        assets = AssetAppearanceSource(config.assets, settings.assets, seed=context.seed, device=device)
        helpers = FrozenHelpers(images, config.assets.sample.resolution, settings.assets.channels)
        return AppearanceStage(settings, context, helpers, assets)
    folder = context.root / AppearanceVaeStage.name / EXPORT
    codec = read_codec(folder, device)
    source = TabletopAppearanceSource(
        context.root / "shards",
        config.tabletop,
        (folder, codec),
        settings.shell,
        seed=context.seed,
        workers=context.workers,
        deadline=context.deadline,
        device=device,
    )
    helpers = FrozenHelpers(images, codec.grid.resolution, codec.latent_channels, codec.decoder)
    return AppearanceStage(settings, context, helpers, source)
