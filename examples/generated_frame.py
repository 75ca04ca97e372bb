"""Input of the examples: a small generated RGB-D frame as files, the same ones every time.

A frame of a camera of your own serves as well: color, depth and labels as pictures, K in a YAML or JSON file.
"""

import sys
from pathlib import Path

import torch

from cupid_core.config import CupidConfig, load
from cupid_core.data.tabletop.frame_files import FrameFiles, write_frame
from cupid_core.data.tabletop.scene import SceneSettings, draw_scene

KINDS = ("mug", "cracker_box", "banana")


def generated_frame(folder: Path = Path("build/examples/frame")) -> FrameFiles:
    """Three objects on a table, seen by an RGB-D camera, made where they are not there yet."""
    files = FrameFiles.of(folder)
    if not files.truth.exists():
        with torch.inference_mode():
            scene = draw_scene(0, SceneSettings(width=320, height=240), seed=2_000_003, families=KINDS)
        files = write_frame(scene, folder)
    return files


def checkpoint() -> str:
    """The checkpoint named first on the command line, else the one that ships inside."""
    return sys.argv[1] if len(sys.argv) > 1 else "tabletop"


def settings() -> CupidConfig:
    """Those of the file named second on the command line, else the defaults."""
    return load(CupidConfig, Path(sys.argv[2])) if len(sys.argv) > 2 else CupidConfig()
