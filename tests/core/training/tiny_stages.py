"""Tiny stages of the structure over eight boxes."""

from __future__ import annotations

from pathlib import Path

import torch
from boxes import BoxSource

from cupid_core.config import StructureVaeLossConfig
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.image_encoder_stage import ImageEncoderStage
from cupid_core.training.run_settings import OptimizerSettings, RunSettings
from cupid_core.training.stage import StageContext
from cupid_core.training.structure_settings import (
    ImageEncoderSettings,
    ImageEncoderStageSettings,
    StructureFlowSettings,
    StructureSettings,
    StructureVaeNetworkSettings,
    StructureVaeSettings,
)
from cupid_core.training.structure_stage import StructureStage
from cupid_core.training.structure_vae_stage import StructureVaeStage


def run_settings(steps: int, **changes: object) -> RunSettings:
    optimizer = OptimizerSettings(
        **{
            "learning_rate": 3e-3,
            "warmup_steps": min(10, steps),
            "weight_decay": 0.0,
            **changes.pop("optimizer", {}),
        }
    )
    values = {"batch_size": 8, "ema_decay": 0.9, "validate_every": 0, "sheet_every": 0, "log_every": 10, **changes}
    return RunSettings(steps=steps, optimizer=optimizer, **values)


def vae_stage(kind: str, root: Path, run: RunSettings, *, fixed: bool = True) -> StructureVaeStage:
    torch.manual_seed(0)
    settings = StructureVaeSettings(
        network=StructureVaeNetworkSettings(
            latent_channels=4,
            encoder_channels=(8, 24),
            encoder_middle=1,
            decoder_channels=(24, 8),
            decoder_middle=1,
        ),
        loss=StructureVaeLossConfig(kl_weight=1e-5),
        latent_noise_high=0.02,
        run=run,
    )
    return StructureVaeStage(kind, settings, StageContext(root, torch.device("cpu")), BoxSource(fixed))


def encoder_settings(kind: str, **changes: object) -> ImageEncoderSettings:
    sizes = {
        "image_size": 32,
        "stem_channels": (16, 24, 32),
        "stem_residual": (),
        "pyramid_channels": (16, 24, 32, 32),
        "embed_dim": 64,
        "depth": 1,
        "num_heads": 4,
    }
    return ImageEncoderSettings(kind=kind, **{**sizes, **changes})


def encoder_stage(root: Path, run: RunSettings, *, fixed: bool = True, kind: str = "pyramid") -> ImageEncoderStage:
    torch.manual_seed(0)
    settings = ImageEncoderStageSettings(run=run, validation_views=8)
    return ImageEncoderStage(
        settings, encoder_settings(kind), StageContext(root, torch.device("cpu")), BoxSource(fixed)
    )


def structure_stage(
    root: Path, run: RunSettings, *, fixed: bool = True, kind: str = "conv", trained_encoder: bool = False
) -> StructureStage:
    for volume in ("occupancy", "uv"):
        folder = root / f"{volume}-vae" / EXPORT
        if not folder.exists():
            with torch.no_grad():
                write_networks(folder, vae_stage(volume, root, run).exports())
    torch.manual_seed(0)
    settings = StructureSettings(
        image_encoder=encoder_settings(kind),
        trained_encoder=trained_encoder,
        network=StructureFlowSettings(model_channels=96, num_blocks=2, num_heads=4, patch_size=2),
        draws=4,
        run=run,
    )
    return StructureStage(settings, StageContext(root, torch.device("cpu")), BoxSource(fixed))
