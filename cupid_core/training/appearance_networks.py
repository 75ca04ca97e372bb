"""The trained networks of stage 2 from their settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cupid_core.errors import ConfigError
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import (
    PoseConditioning,
    VisualLatentConditioningSLatFlowModel,
    appearance_flow,
)
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.image_encoder import ImageEncoder
from cupid_core.training.appearance_settings import AppearanceFlowSettings
from cupid_core.training.stage import ExportedNetwork

_WITH_LATENT = (PoseConditioning.LATENT, PoseConditioning.LATENT_VISIBLE, PoseConditioning.LATENT_VISUAL)

_COLORS = 3
# From values in [0, 1] to a deviation of about one.
_COLOR_GAIN = 4.0


@dataclass(frozen=True, eq=False)
class FrozenNetworks:
    """Networks that stage 2 needs and does not train, with the sizes that follow from them.

    Attributes:
        image_encoder: of stage 1.
        resolution: voxels per axis of the latent.
        latent_channels: of the latent.
        decoder: normalized latent to cubes, for figures; None where there is none.
    """

    image_encoder: ImageEncoder
    resolution: int
    latent_channels: int
    decoder: SLatMeshDecoder | None = None


@dataclass(frozen=True, eq=False)
class AppearanceNetworks:
    """The trained networks: the flow and, where its variant has a conditioning latent, the encoder of that.

    Attributes:
        flow: of the structured latent.
        flow_arguments: of its constructor, plain json values.
        encoder: image tokens at the voxels to the conditioning latent; None where the variant has none.
        encoder_arguments: of its constructor.
    """

    flow: SLatFlowModel
    flow_arguments: Mapping[str, Any]
    encoder: SLatEncoder | None
    encoder_arguments: Mapping[str, Any]

    def exports(self) -> Sequence[ExportedNetwork]:
        """Both as they are written into a checkpoint."""
        half = {"use_fp16": True}
        arguments = {**self.flow_arguments, **half}
        flow = ExportedNetwork("slat_flow_model", type(self.flow).__name__, arguments, self.flow)
        if self.encoder is None:
            return [flow]
        kind, arguments = type(self.encoder).__name__, {**self.encoder_arguments, **half}
        return [flow, ExportedNetwork("slat_encoder", kind, arguments, self.encoder)]


def make_networks(settings: AppearanceFlowSettings, frozen: FrozenNetworks) -> AppearanceNetworks:
    """Fresh networks of any variant of the paper's Table 4.

    Args:
        settings: variant and sizes.
        frozen: whose latent is sampled and whose tokens are the condition.

    Raises:
        ConfigError: heads that do not divide the width.
    """
    for name, trunk in (("network", settings), ("network.encoder", settings.encoder)):
        if trunk.channels % trunk.heads:
            raise ConfigError(
                f"{name}.channels is {trunk.channels} with {trunk.heads} heads.",
                hint="Use a multiple of the heads.",
            )
    conditioning = PoseConditioning(settings.conditioning)
    arguments = flow_arguments(settings, frozen)
    # The class of this variant is shared with another one, so a checkpoint has to state which it is.
    stated = {"visible_only": True} if conditioning is PoseConditioning.LATENT_VISIBLE else {}
    encoder_arguments: dict[str, Any] = {}
    if conditioning in _WITH_LATENT:
        encoder_arguments = {
            "in_channels": frozen.image_encoder.embed_dim,
            "latent_channels": settings.condition_channels,
            **settings.encoder.arguments(frozen.resolution),
        }
    flow = appearance_flow(conditioning, **arguments)
    if isinstance(flow, VisualLatentConditioningSLatFlowModel):
        initialize_with_colors(flow.visual_conv_blocks)
    encoder = SLatEncoder(**encoder_arguments) if encoder_arguments else None
    if encoder is not None:
        # A latent that starts at zero, beside noise of deviation one, is found late: start with a nonzero output.
        nn.init.xavier_uniform_(encoder.out_layer.weight[: settings.condition_channels])
    return AppearanceNetworks(
        flow=flow,
        flow_arguments={**arguments, **stated},
        encoder=encoder,
        encoder_arguments=encoder_arguments,
    )


def initialize_with_colors(convolutions: Iterable[nn.Module]) -> None:
    """Initialize the first channels of a chain of convolutions so that they pass the colors on, in place.

    With the default initialization, colors reach the flow with a deviation of a twentieth, beside noise of
    deviation one. Here the first convolution gives the colors themselves, scaled to a deviation of about one
    around zero, and each further one their mean over its window. Channels beyond those of the image keep their
    initialization.

    Args:
        convolutions: `torch.nn.Conv2d`, the first reading an image of values in [0, 1].
    """
    gain, offset = _COLOR_GAIN, -_COLOR_GAIN / 2
    for convolution in convolutions:
        assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
        with torch.no_grad():
            for channel in range(min(_COLORS, convolution.out_channels)):
                convolution.weight[channel] = 0.0
                window = convolution.weight[channel, channel]
                if convolution.stride == (1, 1):
                    window[window.shape[0] // 2, window.shape[1] // 2] = gain
                else:
                    window.fill_(gain / window.numel())
                convolution.bias[channel] = offset
        gain, offset = 1.0, 0.0


def flow_arguments(settings: AppearanceFlowSettings, frozen: FrozenNetworks) -> dict[str, Any]:
    """Constructor arguments of the class of the variant, plain json values."""
    conditioning, width = PoseConditioning(settings.conditioning), frozen.image_encoder.embed_dim
    arguments: dict[str, Any] = {
        "resolution": frozen.resolution,
        "in_channels": frozen.latent_channels,
        "out_channels": frozen.latent_channels,
        "model_channels": settings.channels,
        "cond_channels": width,
        "num_blocks": settings.blocks,
        "num_heads": settings.heads,
        "mlp_ratio": settings.mlp_ratio,
        "patch_size": 2 ** len(settings.levels),
        "num_io_res_blocks": settings.blocks_per_level,
        "io_block_channels": list(settings.levels),
        "qk_rms_norm": True,
        "occlusion_aware": settings.occlusion_aware,
    }
    if conditioning is not PoseConditioning.NONE:
        arguments["cond_latent_channels"] = settings.condition_channels
    if conditioning is PoseConditioning.POSITION:
        arguments["cond_pos_embed_channels"] = width
    if conditioning is PoseConditioning.LATENT_VISUAL:
        arguments["visual_feat_resolution"] = settings.visual_resolution
        arguments["visual_feat_channels"] = list(settings.visual_channels)
    return arguments
