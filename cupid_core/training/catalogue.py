"""Builds every training stage by its name from the settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cupid_core.errors import TrainingError
from cupid_core.models.locate import locate
from cupid_core.training.appearance_codec import codec_grid
from cupid_core.training.appearance_stage import build_appearance_stage
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.asset_source import AssetSource
from cupid_core.training.asset_voxels import AssetVoxels
from cupid_core.training.fine_tune import start_from_checkpoint
from cupid_core.training.image_encoder_stage import ImageEncoderStage
from cupid_core.training.run_settings import StageSettings
from cupid_core.training.settings import TrainConfig
from cupid_core.training.shape_completion_stage import ShapeCompletionStage
from cupid_core.training.stage import Stage, StageContext
from cupid_core.training.structure_batch import StructureSource
from cupid_core.training.structure_stage import StructureStage
from cupid_core.training.structure_vae_stage import StructureVaeStage
from cupid_core.training.tabletop_source import TabletopSource, TabletopSourceSettings


def build_stage(name: str, config: TrainConfig, context: StageContext, *, resumed: bool = False) -> Stage[Any]:
    """A stage with fresh weights, which depend on the seed alone, or with those of the checkpoint it starts from.

    Args:
        name: of the stage.
        config: of all stages.
        context: where it runs.
        resumed: its weights will be loaded from the state of its run, so no checkpoint is read.

    Raises:
        TrainingError: an unknown name, or an earlier stage it builds on has not been trained.
        CheckpointError: the checkpoint to start from is missing or damaged.
    """
    run = stage_settings(name, config).run
    torch.manual_seed(context.seed)
    stage = STAGES[name](config, context)
    if run.start_from and not resumed:
        start_from_checkpoint(stage, locate(run.start_from, download=False), run.mismatch)
    return stage


def stage_settings(name: str, config: TrainConfig) -> StageSettings:
    """The section of the settings that belongs to a stage.

    Raises:
        TrainingError: an unknown name.
    """
    if name not in STAGES:
        raise TrainingError(f"There is no stage '{name}'.", hint=f"Choose one of {', '.join(STAGES)}.")
    section: StageSettings = getattr(config, name.replace("-", "_"))
    return section


def structure_source(config: TrainConfig, context: StageContext) -> StructureSource:
    """Source of views with their structure, generated or from assets."""
    if config.data == "assets":
        return AssetSource(config.assets, seed=context.seed)
    return _tabletop_source(config.tabletop, context)


def _tabletop_source(settings: TabletopSourceSettings, context: StageContext) -> TabletopSource:
    return TabletopSource(
        context.root / "shards",
        settings,
        seed=context.seed,
        workers=context.workers,
        deadline=context.deadline,
        device=str(context.device),
    )


def _occupancy_vae(config: TrainConfig, context: StageContext) -> Stage[Any]:
    return StructureVaeStage("occupancy", config.occupancy_vae, context, structure_source(config, context))


def _uv_vae(config: TrainConfig, context: StageContext) -> Stage[Any]:
    return StructureVaeStage("uv", config.uv_vae, context, structure_source(config, context))


def _image_encoder(config: TrainConfig, context: StageContext) -> Stage[Any]:
    if config.data == "assets":
        raise TrainingError(
            "Assets have no surface points for the stage 'image-encoder'.",
            hint="Train it with data: tabletop, or go on with the stage structure and trained_encoder: false.",
        )
    source = _tabletop_source(config.image_encoder.views, context)
    return ImageEncoderStage(config.image_encoder, config.structure.image_encoder, context, source)


def _shape_completion(config: TrainConfig, context: StageContext) -> Stage[Any]:
    source = _tabletop_source(config.shape_completion.views, context)
    return ShapeCompletionStage(config.shape_completion, context, source)


def _structure(config: TrainConfig, context: StageContext) -> Stage[Any]:
    source = structure_source(config, context)
    return StructureStage(config.structure, context, source, centered_uv=config.uv_vae.centered_input)


def _appearance_vae(config: TrainConfig, context: StageContext) -> Stage[Any]:
    settings, source = config.appearance_vae, None
    if config.data == "assets":
        grid = codec_grid(settings)
        source = AssetVoxels(config.assets, settings, grid, seed=context.seed, device=context.device)
    return AppearanceVaeStage(settings, context, source)


def _appearance(config: TrainConfig, context: StageContext) -> Stage[Any]:
    return build_appearance_stage(config, context)


STAGES: dict[str, Callable[[TrainConfig, StageContext], Stage[Any]]] = {
    "occupancy-vae": _occupancy_vae,
    "uv-vae": _uv_vae,
    "image-encoder": _image_encoder,
    "shape-completion": _shape_completion,
    "structure": _structure,
    "appearance-vae": _appearance_vae,
    "appearance": _appearance,
}
