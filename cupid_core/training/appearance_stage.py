"""Stage "appearance": the flow of the structured latent, conditioned on the image where each voxel projects.

The flow and the encoder of its condition are trained together. The image encoder and the appearance autoencoder
are frozen; they come from their own stages. Voxels are projected with the true pose plus a small random error.

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
from cupid_core.training.appearance_batch import AppearanceBatch, collate, perturb_pose, project_voxels
from cupid_core.training.appearance_codec import read_codec
from cupid_core.training.appearance_networks import AppearanceNetworks, FrozenNetworks, make_networks
from cupid_core.training.appearance_settings import AppearanceSettings
from cupid_core.training.appearance_source import AppearanceSource, TabletopAppearanceSource, ValidationViews
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.export import EXPORT, read_network
from cupid_core.training.figures import field_figures, ideal_meshes, meshes_of
from cupid_core.training.flow import draw_kept_conditions, draw_noise, draw_times, flow_sample, velocity_loss
from cupid_core.training.image_encoders import SMALL_ENCODERS, load_official_encoder
from cupid_core.training.mesh_field import FieldTruth, field_truth
from cupid_core.training.settings import TrainConfig
from cupid_core.training.sheets import mesh_sheet
from cupid_core.training.stage import ExportedNetwork, StageContext, StepLoss
from cupid_core.training.voxel_truth import VoxelGrid, VoxelTruth

_TIME_SCALE = 1000.0
# Validation views that are sampled and decoded together.
_AT_ONCE = 4
_SHEET_VIEWS = 4
# Truncation of distances in figures, cube edges; only the sign of a distance matters there.
_TRUNCATION = 2.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """Cubes that sampled latents decode to, with the truth of these cubes."""

    fields: CubeFields
    truth: FieldTruth
    voxels: VoxelTruth


class AppearanceStage:
    """Trains stage 2.

    Args:
        settings: networks, flow, noise of the pose.
        context: where it runs.
        frozen: image encoder and decoder.
        source: of views for training.

    Raises:
        ConfigError: see `make_networks`.
    """

    name = "appearance"

    def __init__(
        self,
        settings: AppearanceSettings,
        context: StageContext,
        frozen: FrozenNetworks,
        source: AppearanceSource,
    ) -> None:
        self.settings, self.context, self.frozen, self.source = settings, context, frozen, source
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self._trained: AppearanceNetworks = make_networks(settings.network, frozen)
        parts: dict[str, nn.Module] = {"flow": self._trained.flow}
        if self._trained.encoder is not None:
            parts["slat_encoder"] = self._trained.encoder
        self.networks = nn.ModuleDict(parts).to(context.device)

    @property
    def flow(self) -> SLatFlowModel:
        """The flow of the latent."""
        return cast(SLatFlowModel, self.networks["flow"])

    @property
    def slat_encoder(self) -> SLatEncoder | None:
        """The encoder of the conditioning latent; None where the variant of the flow has none."""
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
        keep = draw_kept_conditions(count, settings.flow, generator, device).float()
        noise = draw_noise(batch.latent.shape, generator, device)
        pose = perturb_pose(batch.T_camera_object, batch.intrinsics, settings.pose_noise, generator)
        mixture = flow_sample(batch.latent, noise, t, batch.topology.item)
        tokens, view = self._condition(batch, pose, keep)
        velocity = self.flow(
            mixture.x_t,
            t * _TIME_SCALE,
            tokens,
            batch.topology,
            pose=self.flow.pose_features(view, batch.topology),
            cond_weights=self._token_weights(batch),
        )
        total = velocity_loss(velocity, mixture.target)
        return StepLoss(total, {"voxels": float(len(noise))}, images=count)

    def validate(self) -> Mapping[str, float]:
        """Figures of unseen views, true structure and pose: sampled, decoded, compared with the truth."""
        figures: dict[str, list[float]] = {}
        for split, prefix in (("train", ""), ("held_out", "held_out_")):
            for views in self._validation(split, self.settings.validation_objects):
                row = {"velocity": float(self.loss(views.batch, torch.Generator().manual_seed(0)).total)}
                if (sampled := self._sample_and_decode(views)) is not None:
                    row |= field_figures(sampled.fields.rows, sampled.truth, sampled.voxels)
                    row["visible_psnr"] = self._visible_psnr(views.batch, sampled)
                for key, value in row.items():
                    figures.setdefault(prefix + key, []).append(value)
        return {key: sum(values) / len(values) for key, values in figures.items()}

    def sheet(self) -> Image | None:
        """Unseen views: the mesh of the true field above the sampled one."""
        for views in self._validation("train", min(_SHEET_VIEWS, self.settings.validation_objects)):
            if (sampled := self._sample_and_decode(views)) is not None:
                return mesh_sheet([ideal_meshes(sampled.fields, sampled.truth), meshes_of(sampled.fields)])
        return None

    def exports(self) -> Sequence[ExportedNetwork]:
        """The flow and its encoder; the mesh decoder is exported by stage "appearance-vae"."""
        return self._trained.exports()

    def close(self) -> None:
        """Stop the background processes that make data."""
        self.source.close()

    def sample_latent(self, batch: AppearanceBatch, seed: int = 0) -> Tensor:
        """Normalized latents (N, C) of the voxels of a batch, sampled under its true poses."""
        keep = torch.ones(len(batch.image), device=batch.latent.device)
        tokens, view = self._condition(batch, batch.T_camera_object, keep)
        times = sampling_times(self.settings.sampler)
        weights = self._token_weights(batch)
        prepared = self.flow.condition(tokens, times, batch.topology, view=view, cond_weights=weights)
        start = NoiseSource(seed).draw(batch.latent.shape, batch.latent.device)
        conditional = self.flow.velocity(prepared)
        return sample(conditional, self.flow.velocity(prepared, null_half=True), start, self.settings.sampler)

    @property
    def grid(self) -> VoxelGrid:
        """Resolution, windows and levels for which flow and encoder need voxels indexed."""
        window = None if self.slat_encoder is None else self.slat_encoder.window_size
        return VoxelGrid(self.flow.resolution, window, self.flow.levels)

    def _condition(
        self, batch: AppearanceBatch, T_camera_object: Tensor, keep: Tensor
    ) -> tuple[Tensor, VoxelView]:
        """Image tokens, and the image features of every voxel; zero for items whose condition is dropped."""
        encoder = self.frozen.image_encoder
        with torch.no_grad():
            tokens = encoder(batch.image[:, : encoder.in_channels]) * keep[:, None, None]
        visual = batch.image[:, :3]
        if self.flow.occlusion_aware:
            visual = torch.cat([visual, batch.unoccluded], dim=1)
        uv, depth = project_voxels(batch.topology, T_camera_object, batch.intrinsics)
        view = VoxelView(
            uv=uv.clamp(0.0, 1.0),
            tokens=tokens,
            image=visual * keep[:, None, None, None],
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
        encoder = self.frozen.image_encoder
        return token_visibility(batch.unoccluded, encoder.patch_size, encoder.num_prefix_tokens)

    def _validation(self, split: str, count: int) -> Iterator[ValidationViews]:
        return self.source.validation(split, count, _AT_ONCE, self.grid)

    def _sample_and_decode(self, views: ValidationViews) -> Sampled | None:
        """Sampled and decoded views; None where there is no decoder, or no truth to compare with."""
        if self.frozen.decoder is None or views.voxels is None:
            return None
        fields = self.frozen.decoder(self.sample_latent(views.batch), views.voxels.topology)
        return Sampled(fields, field_truth(views.voxels.truth, _TRUNCATION), views.voxels)

    def _visible_psnr(self, batch: AppearanceBatch, sampled: Sampled) -> float:
        """Color PSNR of the corners near the surface, in voxels that are visible to the camera."""
        uv, depth = project_voxels(batch.topology, batch.T_camera_object, batch.intrinsics)
        visible = visible_voxels(uv, depth, batch.topology, cells=self.flow.resolution) > 0
        truth, rows = sampled.truth, sampled.fields.rows
        chosen = truth.near & visible.repeat_interleave(len(rows) // len(visible))[:, None]
        color = torch.sigmoid(rows[:, -truth.attributes[0].numel() :].view_as(truth.attributes)[chosen])
        return psnr(float((color[:, :3] - truth.attributes[chosen][:, :3]).square().mean()))


def build_appearance_stage(config: TrainConfig, context: StageContext) -> AppearanceStage:
    """The stage with the data that the settings name and the networks that earlier stages exported.

    Raises:
        TrainingError: an earlier stage has not been trained, or no file of an official image encoder is named.
        DatasetError: nothing in an asset data set can be used.
    """
    encoder, device = config.structure.image_encoder, context.device
    image_encoder = (
        read_network(context.root / "structure" / EXPORT, "image_encoder", ImageEncoder, device)
        if encoder.kind in SMALL_ENCODERS
        else load_official_encoder(encoder.kind, encoder.file, device)
    )
    settings = config.appearance
    if config.data == "assets":
        assets = AssetAppearanceSource(config.assets, settings.assets, seed=context.seed, device=device)
        frozen = FrozenNetworks(image_encoder, config.assets.sample.resolution, settings.assets.channels)
        return AppearanceStage(settings, context, frozen, assets)
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
    frozen = FrozenNetworks(image_encoder, codec.grid.resolution, codec.latent_channels, codec.decoder)
    return AppearanceStage(settings, context, frozen, source)
