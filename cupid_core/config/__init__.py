"""Every setting of the package, declared once, a file per part of the method; all names are imported from here.

    config = load(CupidConfig, Path("config/default.yaml"))

The command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same
dotted names (`pose.tukey_cutoff`). This room knows values, not what is done with them.
"""

from cupid_core.config.base import (
    Settings,
    SettingsT,
    bounds_of,
    describe,
    from_mapping,
    load,
    save,
    setting,
    to_yaml,
)
from cupid_core.config.method import (
    CropConfig,
    PoseConfig,
    SamplerConfig,
    SimilarityConfig,
    StructureSamplerConfig,
)
from cupid_core.config.training import (
    AssetSampleConfig,
    FlowTrainingConfig,
    LearningRateConfig,
    StructureVaeLossConfig,
    ViewCropConfig,
)


class CupidConfig(Settings):
    """All settings of the package, one section per room."""

    similarity: SimilarityConfig = SimilarityConfig()
    structure_sampler: StructureSamplerConfig = StructureSamplerConfig()
    appearance_sampler: SamplerConfig = SamplerConfig()
    crop: CropConfig = CropConfig()
    pose: PoseConfig = PoseConfig()


__all__ = [
    "AssetSampleConfig",
    "CropConfig",
    "CupidConfig",
    "FlowTrainingConfig",
    "LearningRateConfig",
    "PoseConfig",
    "SamplerConfig",
    "Settings",
    "SettingsT",
    "SimilarityConfig",
    "StructureSamplerConfig",
    "StructureVaeLossConfig",
    "ViewCropConfig",
    "bounds_of",
    "describe",
    "from_mapping",
    "load",
    "save",
    "setting",
    "to_yaml",
]
