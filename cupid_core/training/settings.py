"""All settings of a training, one section per stage; what a file in `config/train/` holds."""

from __future__ import annotations

from typing import Literal

from cupid_core.config import AssetSampleConfig, SamplerConfig, Settings, setting
from cupid_core.training.appearance_settings import AppearanceSettings, AppearanceVaeSettings
from cupid_core.training.shape_completion_stage import ShapeCompletionSettings
from cupid_core.training.structure_settings import (
    ImageEncoderStageSettings,
    StructureSettings,
    StructureVaeSettings,
)
from cupid_core.training.tabletop_source import TabletopSourceSettings


class AssetSourceSettings(Settings):
    """A data set in the published layout as training data."""

    roots: tuple[str, ...] = setting((), "name", "Folders of the data set.")
    sample: AssetSampleConfig = AssetSampleConfig()
    validation_share: float = setting(
        0.02, "1", "Share of the assets that is kept for validation.", gt=0.0, lt=1.0
    )
    min_aesthetic_score: float = setting(
        0.0, "1", "Assets with a lower score, or none, are left out; 0 keeps all.", ge=0.0
    )


class ExportedSamplers(Settings):
    """How the checkpoint is meant to be run, once it is trained."""

    structure: SamplerConfig = SamplerConfig()
    appearance: SamplerConfig = SamplerConfig()


class TrainConfig(Settings):
    """A training of all stages."""

    seed: int = setting(0, "count", "Seed of data, first weights and noise.", ge=0, lt=2**20)
    workers: int = setting(1, "count", "Processes that make training data in the background.", ge=0, le=256)
    threads: int = setting(
        0, "count", "Threads of the training process on a CPU; 0 takes all cores.", ge=0, le=256
    )
    data: Literal["tabletop", "assets"] = setting("tabletop", "choice", "Where samples come from.")
    tabletop: TabletopSourceSettings = TabletopSourceSettings()
    assets: AssetSourceSettings = AssetSourceSettings()
    occupancy_vae: StructureVaeSettings = StructureVaeSettings()
    uv_vae: StructureVaeSettings = StructureVaeSettings()
    image_encoder: ImageEncoderStageSettings = ImageEncoderStageSettings()
    structure: StructureSettings = StructureSettings()
    shape_completion: ShapeCompletionSettings = ShapeCompletionSettings()
    appearance_vae: AppearanceVaeSettings = AppearanceVaeSettings()
    appearance: AppearanceSettings = AppearanceSettings()
    samplers: ExportedSamplers = ExportedSamplers()
