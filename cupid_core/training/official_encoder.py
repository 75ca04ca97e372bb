"""The official image encoder, frozen, for training at full size; knows its file, not what is trained on it."""

from __future__ import annotations

from pathlib import Path

import torch

from cupid_core.errors import TrainingError
from cupid_core.models.image_encoder import DinoVisionTransformer, image_encoder_args
from cupid_core.models.weights import check_fit, load_official_vit


def official_image_encoder(name: str, file: str, device: torch.device) -> DinoVisionTransformer:
    """Load it.

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
