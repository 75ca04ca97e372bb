"""The pose-aligned variants of the stage-2 flow, by their published class names, and the switch between them.

Each appends image features at the projected voxel (`VoxelView`) to the latent of the voxel. Source: CUPID
(arXiv 2510.20776) section 3.3 and Table 4; only `LATENT_VISUAL` has published weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cupid_core.errors import InputError
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.pose_aligned import VoxelView, patch_map, sample_at, visual_features
from cupid_core.models.topology import VoxelTopology


class PoseConditioning(str, Enum):
    """Image features of each voxel that condition the flow; the rows of the paper's Table 4.

    `SPATIAL` is not in the table: image tokens through a small trained layer instead of the latent encoder.
    """

    NONE = "none"
    POSITION = "position"
    LATENT = "latent"
    LATENT_VISIBLE = "latent_visible"
    LATENT_VISUAL = "latent_visual"
    SPATIAL = "spatial"


class LatentConditioningSLatFlowModel(SLatFlowModel):
    """Conditioned on the structured latent of the image tokens at each voxel.

    Args:
        cond_latent_channels: channels of that latent.
        visible_only: the latent is zero at voxels that are not visible to the camera.
        other_pose_channels: channels of further features, set by subclasses.
        pretrained_slat_enc: accepted because published files may name it (as the two below); it has no effect,
            because the checkpoint loader reads the encoder.
        slat_enc_path: see `pretrained_slat_enc`.
        slat_enc_ckpt: see `pretrained_slat_enc`.
        flow: the arguments of `SLatFlowModel`.
    """

    def __init__(
        self,
        *,
        cond_latent_channels: int,
        visible_only: bool = False,
        other_pose_channels: int = 0,
        pretrained_slat_enc: str | None = None,
        slat_enc_path: str | None = None,
        slat_enc_ckpt: str | None = None,
        **flow: Any,
    ) -> None:
        super().__init__(pose_channels=cond_latent_channels + other_pose_channels, **flow)
        self.visible_only = visible_only

    def pose_features(self, view: VoxelView | None, topology: VoxelTopology) -> Tensor:
        """(N, cond_latent_channels).

        Raises:
            InputError: the view has no latent, or no visibility where the network needs it.
        """
        view = _required(view, "a view")
        latent = _required(view.latent, "a latent (`VoxelView.with_latent`)")
        if not self.visible_only:
            return latent
        return latent * _required(view.visible, "visibility (`visible_voxels`)")[:, None]


class VisualLatentConditioningSLatFlowModel(LatentConditioningSLatFlowModel):
    """Conditioned on the latent and a pyramid of shallow color features; the published network.

    Args:
        visual_input_channels: channels of the image; None takes 3, or 4 where the network is occlusion aware and
            reads the visibility mask as well (CUPID appendix A.2).
        visual_feat_resolution: edge of the image that the first convolution reads.
        visual_feat_channels: channels of each convolution; the first keeps the resolution, the others halve it.
        visual_conv_kernel_size: edge of the kernels.
        flow: the arguments of `LatentConditioningSLatFlowModel` and `SLatFlowModel`.
    """

    def __init__(
        self,
        *,
        visual_input_channels: int | None = None,
        visual_feat_resolution: int = 256,
        visual_feat_channels: Sequence[int] = (4, 4, 4, 4),
        visual_conv_kernel_size: int = 3,
        **flow: Any,
    ) -> None:
        super().__init__(other_pose_channels=sum(visual_feat_channels), **flow)
        if visual_input_channels is None:
            visual_input_channels = 4 if self.occlusion_aware else 3
        self.visual_feat_resolution = visual_feat_resolution
        widths = [visual_input_channels, *visual_feat_channels]
        self.visual_conv_blocks = nn.ModuleList(
            nn.Conv2d(
                wide_in,
                wide_out,
                visual_conv_kernel_size,
                stride=1 if level == 0 else 2,
                padding=visual_conv_kernel_size // 2,
            )
            for level, (wide_in, wide_out) in enumerate(pairwise(widths))
        )

    def pose_features(self, view: VoxelView | None, topology: VoxelTopology) -> Tensor:
        """(N, cond_latent_channels + sum of visual_feat_channels).

        Raises:
            InputError: the view has no latent or no image.
        """
        latent = super().pose_features(view, topology)
        view = _required(view, "a view")
        visual = visual_features(
            self.visual_conv_blocks,
            _required(view.image, "an image"),
            view.uv,
            topology,
            self.visual_feat_resolution,
        )
        return torch.cat([latent, visual], dim=1)


class PositionalEmbeddingConditioningSLatFlowModel(SLatFlowModel):
    """Told where in the image each voxel is, by the image encoder's own position table; nothing of the image.

    Args:
        cond_latent_channels: channels the position embedding is reduced to.
        cond_pos_embed_channels: channels of the image encoder's position table.
        image_cond_model: accepted because published code names it; the position table is part of the view.
        flow: the arguments of `SLatFlowModel`.
    """

    def __init__(
        self,
        *,
        cond_latent_channels: int,
        cond_pos_embed_channels: int,
        image_cond_model: str | None = None,
        **flow: Any,
    ) -> None:
        super().__init__(pose_channels=cond_latent_channels, **flow)
        self.pos_embed_proj = nn.Conv2d(cond_pos_embed_channels, cond_latent_channels, 1)

    def pose_features(self, view: VoxelView | None, topology: VoxelTopology) -> Tensor:
        """(N, cond_latent_channels).

        Raises:
            InputError: the view has no position table.
        """
        view = _required(view, "a view")
        table = patch_map(_required(view.position_table, "the image encoder's position table"), prefix_tokens=1)
        projected = self.pos_embed_proj(table.float())
        return sample_at(projected.expand(topology.batch_size, -1, -1, -1), view.uv, topology)


class SpatialConditioningSLatFlowModel(SLatFlowModel):
    """Told the image tokens at each voxel, reduced by a small trained layer.

    Args:
        cond_channels: channels of the image tokens, which are also the context.
        cond_latent_channels: channels the tokens are reduced to.
        flow: the arguments of `SLatFlowModel`.
    """

    def __init__(self, *, cond_channels: int, cond_latent_channels: int, **flow: Any) -> None:
        super().__init__(cond_channels=cond_channels, pose_channels=cond_latent_channels, **flow)
        self.cond_embedder = nn.Sequential(
            nn.Conv2d(cond_channels, 4 * cond_latent_channels, 1),
            nn.SiLU(),
            nn.Conv2d(4 * cond_latent_channels, cond_latent_channels, 1),
        )

    def pose_features(self, view: VoxelView | None, topology: VoxelTopology) -> Tensor:
        """(N, cond_latent_channels).

        Raises:
            InputError: there is no view.
        """
        view = _required(view, "a view")
        embedded = self.cond_embedder(patch_map(view.tokens.float(), view.prefix_tokens))
        return sample_at(embedded, view.uv, topology)


Given = TypeVar("Given")

_VARIANTS: Mapping[PoseConditioning, tuple[type[SLatFlowModel], Mapping[str, Any]]] = {
    PoseConditioning.NONE: (SLatFlowModel, {}),
    PoseConditioning.POSITION: (PositionalEmbeddingConditioningSLatFlowModel, {}),
    PoseConditioning.LATENT: (LatentConditioningSLatFlowModel, {}),
    PoseConditioning.LATENT_VISIBLE: (LatentConditioningSLatFlowModel, {"visible_only": True}),
    PoseConditioning.LATENT_VISUAL: (VisualLatentConditioningSLatFlowModel, {}),
    PoseConditioning.SPATIAL: (SpatialConditioningSLatFlowModel, {}),
}


def appearance_flow(conditioning: PoseConditioning | str, **arguments: Any) -> SLatFlowModel:
    """Make the stage-2 flow of a variant.

    Args:
        conditioning: one of the values of `PoseConditioning`.
        arguments: constructor arguments of the class of that variant.

    Raises:
        InputError: no such variant.
    """
    try:
        kind, extra = _VARIANTS[PoseConditioning(conditioning)]
    except ValueError as error:
        known = ", ".join(variant.value for variant in PoseConditioning)
        raise InputError(f"There is no conditioning '{conditioning}'.", hint=f"Use one of {known}.") from error
    return kind(**extra, **arguments)


def _required(value: Given | None, name: str) -> Given:
    if value is None:
        raise InputError(f"This appearance network needs {name}.", hint="Fill it in the `VoxelView`.")
    return value
