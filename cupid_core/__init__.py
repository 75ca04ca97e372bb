"""CUPID for robots: objects from one image, with their poses. Public names only.

Names are imported when they are first used, so that importing the package stays quick.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from cupid_core.errors import CupidError

if TYPE_CHECKING:
    from cupid_core.config import CupidConfig
    from cupid_core.geometry.camera import Camera
    from cupid_core.reconstruct.pipeline import Cupid
    from cupid_core.reconstruct.results import ObjectModel, Scene, SceneObject
    from cupid_core.samples import SampleFrame, sample_frame
    from cupid_core.types import DepthMap, ScaleSource, TriangleMesh

_WHERE = {
    "Camera": "cupid_core.geometry.camera",
    "Cupid": "cupid_core.reconstruct.pipeline",
    "CupidConfig": "cupid_core.config",
    "DepthMap": "cupid_core.types",
    "ObjectModel": "cupid_core.reconstruct.results",
    "Scene": "cupid_core.reconstruct.results",
    "SceneObject": "cupid_core.reconstruct.results",
    "SampleFrame": "cupid_core.samples",
    "ScaleSource": "cupid_core.types",
    "TriangleMesh": "cupid_core.types",
    "sample_frame": "cupid_core.samples",
}

__version__: str  # of the installed package; read when it is asked for

__all__ = [
    "Camera",
    "Cupid",
    "CupidConfig",
    "CupidError",
    "DepthMap",
    "ObjectModel",
    "SampleFrame",
    "ScaleSource",
    "Scene",
    "SceneObject",
    "TriangleMesh",
    "sample_frame",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        try:
            return version("cupid_ros")
        except PackageNotFoundError:  # a source tree that is not installed
            return "0+unknown"
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'cupid_core' has no attribute '{name}'")
