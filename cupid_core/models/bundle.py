"""All networks of one checkpoint, loaded and ready for the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from cupid_core.errors import CheckpointError
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import LatentConditioningSLatFlowModel
from cupid_core.models.decode_gaussians import SLatGaussianDecoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.image_encoder import DinoVisionTransformer, ImageEncoder, image_encoder_args
from cupid_core.models.locate import locate
from cupid_core.models.shape_completion import ShapeCompletion
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder
from cupid_core.models.surface_head import SurfaceHead
from cupid_core.models.weights import (
    SLAT_ENCODER,
    Checkpoint,
    PipelineArguments,
    check_fit,
    load_network,
    load_official_vit,
    read_checkpoint,
)

NetworkT = TypeVar("NetworkT", bound=nn.Module)

IMAGE_ENCODER = "image_encoder"
COMPLETION_ENCODER = "completion_image_encoder"
COMPLETION_HEAD = "completion_surface_head"
SHAPE_COMPLETION = "shape_completion"
# The official file names of the image encoders, as their authors publish them.
_OFFICIAL_FILES = {
    "dinov2_vits14_reg": "dinov2_vits14_reg4_pretrain",
    "dinov2_vitb14_reg": "dinov2_vitb14_reg4_pretrain",
    "dinov2_vitl14_reg": "dinov2_vitl14_reg4_pretrain",
}


@dataclass(frozen=True)
class CompletionNetworks:
    """The networks that complete a shape from the evidence of one view.

    Attributes:
        image_encoder: sees color, mask and, where they are known, depth and gravity.
        surface_head: its tokens to the canonical points that are visible.
        shape_completion: the evidence to surface voxels, in the frame of the pose that these points give.
    """

    image_encoder: ImageEncoder
    surface_head: SurfaceHead
    shape_completion: ShapeCompletion


@dataclass(frozen=True)
class NetworkBundle:
    """The networks of a checkpoint, on one device, in evaluation mode.

    Attributes:
        image_encoder: image to tokens.
        structure_flow: stage 1.
        structure_decoder: stage-1 latent to occupancy logits.
        uv_decoder: stage-1 latent to UV logits.
        appearance_flow: stage 2.
        slat_encoder: image tokens at the voxels to the latent that stage 2 is conditioned on; None where the
            appearance flow does not use one.
        mesh_decoder: stage-2 latent to cube fields.
        gaussian_decoder: stage-2 latent to Gaussians; None where the checkpoint has none.
        latent_mean: (C,) of the stage-2 latent.
        latent_std: (C,) of the stage-2 latent.
        published: samplers as published; settings of the caller take precedence.
        completion: the networks of the first hypothesis of each object; None where the checkpoint has none: all
            hypotheses are samples of stage 1 then.
        runtimes: what runs each stage that torch does not run, for the record.
    """

    image_encoder: ImageEncoder
    structure_flow: SparseStructureFlowModel
    structure_decoder: SparseStructureDecoder
    uv_decoder: SparseStructureDecoder
    appearance_flow: SLatFlowModel
    slat_encoder: SLatEncoder | None
    mesh_decoder: SLatMeshDecoder
    gaussian_decoder: SLatGaussianDecoder | None
    latent_mean: Tensor
    latent_std: Tensor
    published: PipelineArguments
    completion: CompletionNetworks | None = None
    runtimes: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.latent_mean.device

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: torch.device | str = "cpu",
        torso: torch.dtype = torch.float32,
        image_encoder_file: Path | None = None,
        download: bool = True,
    ) -> NetworkBundle:
        """Load every network of a checkpoint.

        Args:
            source: name of an embedded checkpoint, a folder in the published layout, or a hub id.
            device: where the networks go.
            torso: precision of the deep stacks; parity is measured in float32; on GPUs use bfloat16 or float16.
            image_encoder_file: the official image encoder's state dict, where the checkpoint names it without
                containing it; None searches the checkpoint folder.
            download: allow asking the hub for what is not on this machine.

        Raises:
            CheckpointError: anything is missing, damaged or does not fit; nothing is half-loaded.
        """
        checkpoint = read_checkpoint(locate(source, download=download))
        names = checkpoint.networks

        def load(key: str, kind: type[NetworkT]) -> NetworkT:
            network = load_network(checkpoint.files(key, download=download), device=device, torso=torso)
            if not isinstance(network, kind):
                raise CheckpointError(
                    f"{checkpoint.folder}: '{key}' is a {type(network).__name__}, not a {kind.__name__}.",
                    hint="The published layout names each network by what it does; compare with a published one.",
                )
            return network

        appearance_flow = load("slat_flow_model", SLatFlowModel)
        wants_latent = isinstance(appearance_flow, LatentConditioningSLatFlowModel)
        normalization = checkpoint.arguments.slat_normalization
        return cls(
            image_encoder=(
                load(IMAGE_ENCODER, ImageEncoder)
                if IMAGE_ENCODER in names
                else _official_image_encoder(checkpoint, image_encoder_file, device=device, torso=torso)
            ),
            structure_flow=load("sparse_structure_flow_model", SparseStructureFlowModel),
            structure_decoder=load("sparse_structure_decoder", SparseStructureDecoder),
            uv_decoder=load("sparse_structure_uv_decoder", SparseStructureDecoder),
            appearance_flow=appearance_flow,
            slat_encoder=load(SLAT_ENCODER, SLatEncoder) if wants_latent else None,
            mesh_decoder=load("slat_decoder_mesh", SLatMeshDecoder),
            gaussian_decoder=load("slat_decoder_gs", SLatGaussianDecoder) if "slat_decoder_gs" in names else None,
            latent_mean=torch.tensor(normalization.mean, device=device),
            latent_std=torch.tensor(normalization.std, device=device),
            published=checkpoint.arguments,
            completion=(
                CompletionNetworks(
                    load(COMPLETION_ENCODER, ImageEncoder),
                    load(COMPLETION_HEAD, SurfaceHead),
                    load(SHAPE_COMPLETION, ShapeCompletion),
                )
                if SHAPE_COMPLETION in names
                else None
            ),
        )


def _official_image_encoder(
    checkpoint: Checkpoint, file: Path | None, *, device: torch.device | str, torso: torch.dtype
) -> DinoVisionTransformer:
    """The image encoder a checkpoint names, from its official file.

    Raises:
        CheckpointError: an unknown name, or the file is not found.
    """
    name = checkpoint.arguments.image_cond_model
    if name not in _OFFICIAL_FILES:
        known = ", ".join(_OFFICIAL_FILES)
        raise CheckpointError(
            f"{checkpoint.folder} names the image encoder '{name}'.",
            hint=f"Known: {known}; or list a network '{IMAGE_ENCODER}' in pipeline.json.",
        )
    candidates = [checkpoint.folder / f"{_OFFICIAL_FILES[name]}{suffix}" for suffix in (".safetensors", ".pth")]
    path = file or next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise CheckpointError(
            f"{checkpoint.folder} needs the official image encoder '{name}', which it does not contain.",
            hint=f"Download {_OFFICIAL_FILES[name]}.pth of DINOv2 and put it there, or give its path.",
        )
    state = load_official_vit(path)
    with torch.device("meta"):
        encoder = DinoVisionTransformer(**image_encoder_args(name))
    check_fit(encoder, state, origin=str(path))
    encoder.load_state_dict({key: value.to(device, torch.float32) for key, value in state.items()}, assign=True)
    encoder.to_precision(torso)
    encoder.requires_grad_(False)
    encoder.eval()
    return encoder
