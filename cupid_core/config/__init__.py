"""Every setting of the package, declared once, a file per part of the method; all names are imported from here.

    config = load(CupidConfig, Path("config/default.yaml"))

The command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same
dotted names (`pose.tukey_cutoff`).
"""

from cupid_core.config.assets import AssetPreparationConfig
from cupid_core.config.base import (
    Settings,
    SettingsT,
    assign,
    bounds_of,
    describe,
    from_mapping,
    load,
    save,
    setting,
    to_yaml,
)
from cupid_core.config.mesh import MeshConfig
from cupid_core.config.method import (
    CropConfig,
    PoseConfig,
    SamplerConfig,
    SimilarityConfig,
    StructureSamplerConfig,
)
from cupid_core.config.perception import DepthConfig, PerceptionConfig, SegmenterConfig
from cupid_core.config.presets import PRESETS, Preset, PresetName, Refine
from cupid_core.config.reconstruct import ReconstructConfig, RuntimeName
from cupid_core.config.report import ReportConfig
from cupid_core.config.ros import RosConfig
from cupid_core.config.scene import PlacementConfig, QualityConfig, RefineConfig, ShapeFitConfig
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
    placement: PlacementConfig = PlacementConfig()
    refine: RefineConfig = RefineConfig()
    shape_fit: ShapeFitConfig = ShapeFitConfig()
    quality: QualityConfig = QualityConfig()
    mesh: MeshConfig = MeshConfig()
    perception: PerceptionConfig = PerceptionConfig()
    reconstruct: ReconstructConfig = ReconstructConfig()
    report: ReportConfig = ReportConfig()
    ros: RosConfig = RosConfig()


__all__ = [
    "PRESETS",
    "AssetPreparationConfig",
    "AssetSampleConfig",
    "CropConfig",
    "CupidConfig",
    "DepthConfig",
    "FlowTrainingConfig",
    "LearningRateConfig",
    "MeshConfig",
    "PerceptionConfig",
    "PlacementConfig",
    "PoseConfig",
    "Preset",
    "PresetName",
    "QualityConfig",
    "ReconstructConfig",
    "Refine",
    "RefineConfig",
    "ReportConfig",
    "RosConfig",
    "RuntimeName",
    "SamplerConfig",
    "SegmenterConfig",
    "Settings",
    "SettingsT",
    "ShapeFitConfig",
    "SimilarityConfig",
    "StructureSamplerConfig",
    "StructureVaeLossConfig",
    "ViewCropConfig",
    "assign",
    "bounds_of",
    "describe",
    "from_mapping",
    "load",
    "save",
    "setting",
    "to_yaml",
]
