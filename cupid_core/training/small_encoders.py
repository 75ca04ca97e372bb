"""The small image encoders that are trained along with the structure flow, by name. Knows classes only."""

from __future__ import annotations

from typing import Any

from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.training.structure_settings import ImageEncoderSettings

SMALL_ENCODERS: dict[str, type[ConvImageTransformer] | type[ConvImagePyramid]] = {
    "conv": ConvImageTransformer,
    "pyramid": ConvImagePyramid,
}


def image_encoder_arguments(settings: ImageEncoderSettings) -> dict[str, Any]:
    """Constructor arguments of a small image encoder."""
    both = {"img_size": settings.image_size, "in_channels": settings.in_channels}
    if settings.kind == "pyramid":
        return {
            **both,
            "channels": list(settings.pyramid_channels),
            "pairs": settings.pyramid_pairs,
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
