"""Settings of the procedural tabletop data, declared once."""

from __future__ import annotations

from cupid_core.config import Settings, setting


class TabletopSettings(Settings):
    """Size, cameras, degradation and truth of generated samples.

    The descriptions are part of the hash that names the shards of a training (`to_yaml` writes them as comments):
    changing one makes all cached shards anew.
    """

    image_size: int = setting(128, "pixel", "Edge of the square crop.", ge=32, le=512, multiple_of=16)
    resolution: int = setting(32, "voxel", "Voxels per edge of the truth grids.", ge=8, le=128)
    views_per_object: int = setting(1, "count", "Views of every object; they share its grids.", ge=1, le=150)
    elevation_low_deg: float = setting(-10.0, "degree", "Lowest camera elevation above the table.", ge=-89, le=89)
    elevation_high_deg: float = setting(89.0, "degree", "Highest camera elevation above the table.", ge=-89, le=89)
    focal_low_mm: float = setting(24.0, "mm", "Shortest focal length on a 36 mm sensor.", ge=10, le=500)
    focal_high_mm: float = setting(200.0, "mm", "Longest focal length on a 36 mm sensor.", ge=10, le=1000)
    roll_deg: float = setting(
        15.0, "degree", "Largest camera roll; half of it is the standard deviation.", ge=0, le=180
    )
    any_roll: float = setting(0.0, "1", "Share of the views with any roll at all, evenly distributed.", ge=0, le=1)
    margin_low: float = setting(1.05, "1", "Smallest crop edge over silhouette edge.", ge=1, le=3)
    margin_high: float = setting(1.5, "1", "Largest crop edge over silhouette edge.", ge=1, le=3)
    truncated: float = setting(0.12, "1", "Share of views whose crop border cuts the object.", ge=0, le=1)
    occluded: float = setting(
        0.25, "1", "Share of views with an occluder in front (paper, appendix A.2).", ge=0, le=1
    )
    occluded_up_to: float = setting(0.5, "1", "Largest share of the silhouette an occluder hides.", ge=0, le=0.9)
    degradation: float = setting(1.0, "1", "Strength of the photographic and mask errors; 0 is none.", ge=0, le=2)
