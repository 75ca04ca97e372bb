"""The small image encoders that this package trains, by name. Knows classes only, not how they learn."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.models.encoder_planes import select_planes
from cupid_core.models.image_encoder import ImageEncoder
from cupid_core.training.stage import ExportedNetwork
from cupid_core.training.structure_settings import ImageEncoderSettings

SMALL_ENCODERS: dict[str, type[ConvImageTransformer] | type[ConvImagePyramid]] = {
    "conv": ConvImageTransformer,
    "pyramid": ConvImagePyramid,
}


def image_encoder_arguments(settings: ImageEncoderSettings) -> dict[str, Any]:
    """Constructor arguments of a small image encoder."""
    both = {"img_size": settings.image_size, "planes": list(settings.planes)}
    if settings.kind == "pyramid":
        return {
            **both,
            "channels": list(settings.pyramid_channels),
            "pairs": settings.pyramid_pairs,
            "shrink": settings.pyramid_shrink,
            "embed_dim": settings.embed_dim,
        }
    return {
        **both,
        "stem_channels": list(settings.stem_channels),
        "stem_residual": list(settings.stem_residual),
        "embed_dim": settings.embed_dim,
        "depth": settings.depth,
        "num_heads": settings.num_heads,
    }


def tokens_of(encoder: ImageEncoder, image: Tensor) -> Tensor:
    """Tokens (B, P, C) of views (B, C, S, S), channels as in `encoder_planes.PLANES`.

    Views may be as small as an encoder that averages squares of pixels makes them: they are repeated to the size
    it wants, and it sees them as they were.
    """
    image = select_planes(image, encoder.planes)
    if encoder.shrink > 1 and image.shape[-1] * encoder.shrink == encoder.img_size:
        image = F.interpolate(image, scale_factor=encoder.shrink)
    tokens: Tensor = encoder(image)
    return tokens


def exported_encoder(settings: ImageEncoderSettings, encoder: ImageEncoder) -> ExportedNetwork:
    """A small image encoder as it goes into a checkpoint."""
    whole = copy.deepcopy(encoder).to_precision(torch.float32)
    arguments = {**image_encoder_arguments(settings), "use_fp16": True}
    return ExportedNetwork("image_encoder", type(whole).__name__, arguments, whole)
