"""A small RGB-D frame that ships with the package, made by its own generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent / "tabletop"


@dataclass(frozen=True)
class SampleFrame:
    """Files of a frame, as an RGB-D camera and a segmentation leave them.

    Attributes:
        color: 8-bit RGB.
        labels: the number of the object at every pixel, 0 for none.
        depth: 16-bit millimetres aligned to the color image, 0 for no measurement.
        camera: CameraInfo in YAML.
        names: YAML, the name of each object by its number.
    """

    color: Path
    labels: Path
    depth: Path
    camera: Path
    names: Path


def sample_frame() -> SampleFrame:
    """The files of the frame that ships with the package."""
    return SampleFrame(
        *(_FOLDER / name for name in ("color.png", "labels.png", "depth.png", "camera.yaml", "names.yaml"))
    )
