"""The image encoders of a training: the small ones that it trains, and the official one, which stays frozen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from cupid_core.errors import TrainingError
from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.models.image_encoder import DinoVisionTransformer, ImageEncoder, image_encoder_args
from cupid_core.models.weights import check_fit, load_official_vit
from cupid_core.training.stage import ExportedNetwork
from cupid_core.training.structure_settings import ImageEncoderSettings

SMALL_ENCODERS: dict[str, type[ConvImageTransformer] | type[ConvImagePyramid]] = {
    "conv": ConvImageTransformer,
    "pyramid": ConvImagePyramid,
}


def image_encoder_arguments(settings: ImageEncoderSettings) -> dict[str, Any]:
    """Constructor arguments of a small image encoder."""
    shared = {"img_size": settings.image_size, "planes": list(settings.planes)}
    if settings.kind == "pyramid":
        return {
            **shared,
            "channels": list(settings.pyramid_channels),
            "pairs": settings.pyramid_pairs,
            "shrink": settings.pyramid_shrink,
            "embed_dim": settings.embed_dim,
        }
    return {
        **shared,
        "stem_channels": list(settings.stem_channels),
        "stem_residual": list(settings.stem_residual),
        "embed_dim": settings.embed_dim,
        "depth": settings.depth,
        "num_heads": settings.num_heads,
    }


def exported_encoder(settings: ImageEncoderSettings, encoder: ImageEncoder) -> ExportedNetwork:
    """A small image encoder as it is written into a checkpoint."""
    exported = copy.deepcopy(encoder).to_precision(torch.float32)
    arguments = {**image_encoder_arguments(settings), "use_fp16": True}
    return ExportedNetwork("image_encoder", type(exported).__name__, arguments, exported)


def load_official_encoder(name: str, file: str, device: torch.device) -> DinoVisionTransformer:
    """Load the official image encoder, frozen and in evaluation mode.

    Args:
        name: of the official network.
        file: its state dict.
        device: where it goes.

    Raises:
        TrainingError: no file is named.
        CheckpointError: the file does not fit.
    """
    if not file:
        raise TrainingError(
            f"The image encoder '{name}' needs its official state dict.", hint="Name it in image_encoder.file."
        )
    encoder = DinoVisionTransformer(**image_encoder_args(name))
    state = load_official_vit(Path(file))
    check_fit(encoder, state, origin=file)
    encoder.load_state_dict(state)
    encoder.requires_grad_(False)
    return encoder.to(device).eval()
