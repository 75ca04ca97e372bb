"""Settings of the appearance side of training, declared once: its autoencoder, its flow, their losses and data."""

from __future__ import annotations

from typing import Any, Literal

from cupid_core.config import FlowTrainingConfig, SamplerConfig, Settings, setting
from cupid_core.training.run_settings import RunSettings, StageSettings


class MeshFieldLossSettings(Settings):
    """Loss of the mesh decoder's channels (`training.mesh_field`); the distance term has weight 1."""

    truncation: float = setting(
        2.0, "cube edges", "Distances to the surface beyond this are all the same.", gt=0.5, le=16.0
    )
    near_weight: float = setting(
        4.0,
        "1",
        "Extra weight of corners on the surface, falling to a third one cube edge away.",
        ge=0.0,
        le=100.0,
    )
    color_weight: float = setting(4.0, "1", "Weight of the color near the surface.", ge=0.0, le=1e3)
    normal_weight: float = setting(0.5, "1", "Weight of the normal map near the surface.", ge=0.0, le=1e3)
    neutral_weight: float = setting(
        0.01, "1", "Pull of deformation and interpolation weights to 0, where they have no effect.", ge=0.0, le=1e3
    )


class SparseTrunkSettings(Settings):
    """Transformer over the voxels of an encoder or decoder."""

    channels: int = setting(256, "count", "Width; a multiple of 256 for the mesh decoder.", ge=32, le=4096)
    blocks: int = setting(2, "count", "Depth.", ge=1, le=64)
    heads: int = setting(4, "count", "Attention heads; divides the width.", ge=1, le=64)
    mlp_ratio: float = setting(4.0, "1", "Hidden width of the feed-forward over the width.", gt=0.0, le=16.0)
    attention: Literal["swin", "full"] = setting("swin", "choice", "Attention in windows or over whole objects.")
    window: int = setting(8, "voxel", "Edge of the windows.", ge=2, le=128)

    def arguments(self, resolution: int) -> dict[str, Any]:
        """Constructor arguments of `SparseTransformerBase`, its input aside."""
        return {
            "resolution": resolution,
            "model_channels": self.channels,
            "num_blocks": self.blocks,
            "num_heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "attn_mode": self.attention,
            "window_size": self.window,
        }


class VoxelSampleSettings(Settings):
    """Voxels of generated objects that a step of the appearance autoencoder sees (`training.voxel_truth`)."""

    crop: int = setting(
        13,
        "voxel",
        "Edge of the box around a random shell voxel that is seen of each object; 0 is all of it.",
        ge=0,
    )
    whole_from: int = setting(
        0, "batch", "From this batch on whole objects are seen, as in use; 0 is never.", ge=0, le=100_000_000
    )
    whole_objects: int = setting(1, "count", "Objects in a batch from then on.", ge=1, le=1024)


class ShellNoiseSettings(Settings):
    """How wrong the voxels of a training object are, as those of a sampled structure are."""

    extra: float = setting(
        0.04,
        "1",
        "Share of the empty neighbors of the shell that are taken in.",
        ge=0.0,
        le=1.0,
    )
    dropped: float = setting(0.02, "1", "Share of the shell that is left out.", ge=0.0, le=0.9)
    perturbed: float = setting(0.5, "1", "Share of the objects to which both happens.", ge=0.0, le=1.0)


class AppearanceVaeSettings(StageSettings):
    """Stage "appearance-vae": voxels with their surface to a latent, and back to cubes of a mesh."""

    run: RunSettings = RunSettings(batch_size=4)
    resolution: int = setting(32, "voxel", "Voxels per axis.", ge=8, le=256)
    latent_channels: int = setting(8, "count", "Channels of the latent of a voxel.", ge=1, le=64)
    lattice: Literal[2, 3, 5] = setting(
        3, "count", "Truth points per voxel edge that the encoder reads; 2 are the corners."
    )
    encoder_kind: Literal["transformer", "principal"] = setting(
        "transformer",
        "choice",
        "A trained encoder, or the principal components of what it reads, which need no training.",
    )
    encoder: SparseTrunkSettings = SparseTrunkSettings(channels=192, heads=3)
    decoder: SparseTrunkSettings = SparseTrunkSettings()
    kl_weight: float = setting(1e-6, "1", "Weight of the KL divergence of the posterior.", ge=0.0, le=1e3)
    latent_noise: float = setting(
        0.1,
        "1",
        "Noise on the latent in training, as a share of its deviation: a flow does not hit exactly.",
        ge=0.0,
        le=1.0,
    )
    loss: MeshFieldLossSettings = MeshFieldLossSettings()
    sample: VoxelSampleSettings = VoxelSampleSettings()
    shell: ShellNoiseSettings = ShellNoiseSettings()
    validation_objects: int = setting(4, "count", "Unseen objects that figures are measured on.", ge=1, le=10_000)
    scale_objects: int = setting(
        64, "count", "Objects that mean and deviation (or axes) of the latent are measured on.", ge=1, le=100_000
    )


class AppearanceFlowSettings(Settings):
    """The flow of stage "appearance", and the encoder of what it is told about each voxel."""

    conditioning: Literal["none", "position", "latent", "latent_visible", "latent_visual", "spatial"] = setting(
        "latent_visual", "choice", "What the flow is told about the place of each voxel in the image (Table 4)."
    )
    occlusion_aware: bool = setting(
        False, "switch", "Tell the flow which parts of the image something else hides (appendix A.2)."
    )
    channels: int = setting(192, "count", "Width of the transformer.", ge=16, le=4096)
    blocks: int = setting(4, "count", "Its depth.", ge=1, le=64)
    heads: int = setting(6, "count", "Its attention heads; divides the width.", ge=1, le=64)
    mlp_ratio: float = setting(4.0, "1", "Hidden width of the feed-forward over the width.", gt=0.0, le=16.0)
    levels: tuple[int, ...] = setting(
        (48, 64), "count", "Widths of the convolutions on each level, finest first; each level halves the grid."
    )
    blocks_per_level: int = setting(2, "count", "Residual blocks of a level before and after.", ge=1, le=8)
    condition_channels: int = setting(8, "count", "Channels of the conditioning latent.", ge=1, le=256)
    visual_resolution: int = setting(128, "pixel", "Edge of the image of the color features.", ge=16, le=1024)
    visual_channels: tuple[int, ...] = setting(
        (8, 16, 16, 16), "count", "Channels of the color features at each scale, finest first."
    )
    encoder: SparseTrunkSettings = SparseTrunkSettings(channels=128)


class PoseNoiseSettings(Settings):
    """How far the pose that places voxels in the image may be off in training; sampling has estimated poses."""

    share: float = setting(0.7, "1", "Share of the views with a wrong pose.", ge=0.0, le=1.0)
    rotation_deg: float = setting(3.0, "degree", "Standard deviation of the rotation, per axis.", ge=0.0, le=45.0)
    shift: float = setting(
        0.006, "image fraction", "Standard deviation of the place in the image.", ge=0.0, le=0.5
    )
    size: float = setting(0.01, "1", "Standard deviation of the logarithm of the distance.", ge=0.0, le=0.5)


class AssetLatentSettings(Settings):
    """Structured latents of an asset data set in the published layout; of no use for generated objects."""

    model: str = setting(
        "dinov2_vitl14_reg_slat_enc_swin8_B_64l8_fp16", "name", "Folder of the latents in the data set."
    )
    mean: tuple[float, ...] = setting((), "1", "Mean of each channel; empty leaves the latents as they are.")
    std: tuple[float, ...] = setting((), "1", "Deviation of each channel.")
    channels: int = setting(8, "count", "Channels of the latents.", ge=1, le=64)


class AppearanceSettings(StageSettings):
    """Stage "appearance": the flow of the latent of each voxel, conditioned on the image where it projects."""

    run: RunSettings = RunSettings(batch_size=8)
    network: AppearanceFlowSettings = AppearanceFlowSettings()
    flow: FlowTrainingConfig = FlowTrainingConfig(time_mean=0.5)
    pose_noise: PoseNoiseSettings = PoseNoiseSettings()
    sampler: SamplerConfig = SamplerConfig(steps=12, guidance_strength=0.0, rescale_t=2.0)
    shell: ShellNoiseSettings = ShellNoiseSettings()
    assets: AssetLatentSettings = AssetLatentSettings()
    validation_objects: int = setting(8, "count", "Unseen objects that figures are measured on.", ge=1, le=10_000)
