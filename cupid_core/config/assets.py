"""Settings of making asset data sets from meshes."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cupid_core.config.base import Settings, setting


class AssetPreparationConfig(Settings):
    """How meshes become an asset data set (`data.assets`, `cupid data prepare`)."""

    resolution: int = setting(
        64, "voxel", "Voxels per axis; 64 for the published networks, 32 for the small ones.", ge=8, le=256
    )
    longest_side: float = setting(
        1.0,
        "canonical",
        "Longest side of the object's box in the canonical cube; 1 in the published data sets.",
        gt=0.1,
        le=1.0,
    )
    up: Literal["auto", "y", "z"] = setting(
        "auto", "choice", "Axis that points up in the files; auto is y in .glb and .gltf, z in all others."
    )
    texture_size: int = setting(1024, "px", "Textures with a longer side are shrunk to this.", ge=16, le=16384)
    views: int = setting(24, "count", "Views for conditioning of each object.", ge=1, le=999)
    image_size: int = setting(512, "px", "Width and height of a view.", ge=16, le=4096)
    samples_per_edge: int = setting(
        2, "count", "Rays per pixel along each of its edges; more is smoother.", ge=1, le=8
    )
    focal_low_mm: float = setting(24.0, "mm", "Shortest lens, of a 36 mm sensor.", ge=10.0, le=1000.0)
    focal_high_mm: float = setting(200.0, "mm", "Longest lens, of a 36 mm sensor.", ge=10.0, le=1000.0)
    seed: int = setting(0, "count", "Seed of cameras and lights.", ge=0, lt=2**31)

    @model_validator(mode="after")
    def _lenses_in_order(self) -> AssetPreparationConfig:
        if self.focal_low_mm > self.focal_high_mm:
            raise ValueError(f"focal_low_mm {self.focal_low_mm} is above focal_high_mm {self.focal_high_mm}")
        return self
