"""Settings of the stages of the structure: both autoencoders and the flow."""

from __future__ import annotations

from typing import Literal

from cupid_core.config import FlowTrainingConfig, Settings, StructureVaeLossConfig, setting
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.training.run_settings import StageSettings
from cupid_core.training.tabletop_source import TabletopSourceSettings


class StructureVaeNetworkSettings(Settings):
    """Sizes of an autoencoder of volumes."""

    latent_channels: int = setting(8, "count", "Channels of the latent.", ge=1, le=64)
    encoder_channels: tuple[int, ...] = setting((16, 64, 96), "count", "Width of each level, finest first.")
    encoder_res_blocks: int = setting(0, "count", "Residual blocks per level of the encoder.", ge=0, le=8)
    encoder_middle: int = setting(2, "count", "Residual blocks at its coarsest level.", ge=0, le=8)
    decoder_channels: tuple[int, ...] = setting((96, 32, 16), "count", "Width of each level, coarsest first.")
    decoder_res_blocks: int = setting(0, "count", "Residual blocks per level of the decoder.", ge=0, le=8)
    decoder_middle: int = setting(2, "count", "Residual blocks at its coarsest level.", ge=0, le=8)


class StructureVaeSettings(StageSettings):
    """Training of an autoencoder of volumes."""

    network: StructureVaeNetworkSettings = StructureVaeNetworkSettings()
    loss: StructureVaeLossConfig = StructureVaeLossConfig()
    centerd_input: bool = setting(
        True,
        "switch",
        "Center what the UV encoder reads (flag - 1, 8 u - 4, 8 v - 4), without which a small one is stuck for "
        "long; the published encoder reads flag, u, v.",
    )
    latent_noise_low: float = setting(
        0.0, "1", "Least noise on the latent, in its deviations; teaches the decoder to forgive.", ge=0.0, le=1.0
    )
    latent_noise_high: float = setting(0.2, "1", "Most noise on the latent, in its deviations.", ge=0.0, le=1.0)
    validation_views: int = setting(64, "count", "Unseen views in a validation.", ge=1)


class ImageEncoderSettings(Settings):
    """The image encoder."""

    kind: Literal["conv", "pyramid", "dinov2_vits14_reg", "dinov2_vitb14_reg", "dinov2_vitl14_reg"] = setting(
        "conv", "choice", "A small one trained along with the flow (conv, pyramid), or an official one, frozen."
    )
    file: str = setting("", "name", "State dict of an official one.")
    image_size: int = setting(128, "pixel", "Edge of the images.", ge=16)
    planes: tuple[Literal["rgb", "mask", "points", "gravity"], ...] = setting(
        ("rgb", "mask"),
        "choice",
        "What the small one is given: color, mask, measured points, the direction of up.",
    )
    stem_channels: tuple[int, ...] = setting((32, 64, 128), "count", "Width of each halving of the stem of conv.")
    stem_residual: tuple[int, ...] = setting((2,), "count", "Levels of that stem with residual convolutions.")
    pyramid_channels: tuple[int, ...] = setting(
        (32, 48, 96, 192, 256), "count", "Width of each halving of pyramid, multiples of 8."
    )
    pyramid_pairs: int = setting(2, "count", "Residual pairs at each level of pyramid.", ge=1, le=8)
    pyramid_shrink: int = setting(
        1, "pixel", "Edge of the squares of pixels that pyramid averages before anything else.", ge=1, le=8
    )
    embed_dim: int = setting(256, "count", "Width of the tokens of the small one.", ge=8)
    head_bins: int = setting(
        0,
        "count",
        "Bins along each axis of the head that says which canonical point is seen; 0 for none.",
        ge=0,
        le=64,
    )
    depth: int = setting(4, "count", "Transformer blocks of conv.", ge=0)
    num_heads: int = setting(8, "count", "Attention heads of conv.", ge=1)


class StructureFlowSettings(Settings):
    """Sizes of the stage-1 flow."""

    model_channels: int = setting(256, "count", "Width of the tokens.", ge=8)
    num_blocks: int = setting(7, "count", "Depth.", ge=1)
    num_heads: int = setting(8, "count", "Attention heads.", ge=1)
    mlp_ratio: float = setting(4.0, "1", "Hidden width of the feed-forward over the width.", gt=0.0)
    patch_size: int = setting(2, "count", "Latent cells per token along an edge.", ge=1)
    share_mod: bool = setting(True, "switch", "One time modulation for all blocks; saves a fifth of the weights.")


class ImageEncoderStageSettings(StageSettings):
    """Training of the small image encoder alone, before the flow, to predict canonical points."""

    views: TabletopSourceSettings = TabletopSourceSettings(
        objects=TabletopSettings(views_per_object=4, image_size=64, resolution=8)
    )
    surface_scale: float = setting(0.1, "canonical", "Error of a surface point that costs about 1.", gt=0.0)
    validation_views: int = setting(128, "count", "Unseen views in a validation.", ge=1)


class StructureSettings(StageSettings):
    """Training of stage 1 with its image encoder."""

    image_encoder: ImageEncoderSettings = ImageEncoderSettings()
    network: StructureFlowSettings = StructureFlowSettings()
    flow: FlowTrainingConfig = FlowTrainingConfig(time_mean=0.5)
    draws: int = setting(4, "count", "Noise draws per encoded image.", ge=1, le=64)
    surface_weight: float = setting(
        0.3, "1", "Weight of the surface points that the image tokens predict while training; 0 leaves them.", ge=0
    )
    trained_encoder: bool = setting(
        False, "switch", "Begin with the image encoder that the stage image-encoder has trained."
    )
    surface_scale: float = setting(0.1, "canonical", "Error of a surface point that costs about 1.", gt=0.0)
    validation_views: int = setting(64, "count", "Unseen views in a validation.", ge=1)
    validation_steps: int = setting(12, "count", "Solver steps of a validation.", ge=1)
    validation_guidance: float = setting(1.0, "1", "Guidance strength of a validation.", ge=0.0)
