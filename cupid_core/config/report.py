"""Settings of the report: sizes of pictures and of the turntable."""

from __future__ import annotations

from cupid_core.config.base import Settings, setting


class ReportConfig(Settings):
    """Pictures of a reconstruction (`report`)."""

    longest_px: int = setting(
        1280, "px", "Longer side of overlay.png and of what is rendered for it, at most.", ge=64, le=8192
    )
    crop_px: int = setting(256, "px", "Edge of the pictures of one object in report.html.", ge=32, le=2048)
    turntable_frames: int = setting(24, "count", "Views in the turntable of an object.", ge=1, le=360)
    turntable_px: int = setting(224, "px", "Edge of a turntable view.", ge=32, le=1024)
    turntable_elevation_rad: float = setting(
        0.4, "rad", "Height of the turntable's camera above the horizontal plane.", ge=-1.5, le=1.5
    )
    jpeg_quality: int = setting(88, "%", "Quality of the photographs inside report.html.", ge=10, le=100)
