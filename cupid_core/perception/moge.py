"""MoGe-2: metric depth and a camera from one image, through the package `moge`.

Only models with a metric scale are used (MoGe-2); the first MoGe has none. Source: Wang et al. 2025
(arXiv 2507.02546), package moge, MIT, weights as well.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config.perception import DepthConfig
from cupid_core.errors import CheckpointError, InvalidCameraError, InvalidDepthError, MissingPackageError
from cupid_core.geometry import Camera
from cupid_core.hub import HubId
from cupid_core.types import DepthMap, ScaleSource

_INSTALL = "pip install 'cupid_ros[moge]'"


class MogeDepth:
    """Depth from a MoGe-2 network.

    Args:
        model: a `moge.model.v2.MoGeModel` with a metric scale, on its device.
        config: detail and standard deviation of the scale; defaults where None.

    Raises:
        CheckpointError: the model has no metric scale.
    """

    def __init__(self, model: torch.nn.Module, config: DepthConfig | None = None) -> None:
        if not hasattr(model, "scale_head") or not hasattr(model, "points_head"):
            raise CheckpointError(
                "This MoGe model gives no metric depth.",
                hint="Use a MoGe-2 model, e.g. Ruicheng/moge-2-vits-normal@<commit>.",
            )
        self._config = config or DepthConfig()
        self._model: Any = model.eval()

    @classmethod
    def from_pretrained(
        cls, config: DepthConfig | None = None, *, device: torch.device | str = "cpu"
    ) -> MogeDepth:
        """Load weights from a model.pt or from the hub.

        Raises:
            MissingPackageError: the package moge is not installed.
            CheckpointError: weights that are not there, damaged, or not of MoGe-2.
        """
        config = config or DepthConfig()
        model_class = _model_class()
        try:
            model = model_class.from_pretrained(_weights_file(config.moge_weights))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError) as error:
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"MoGe weights '{config.moge_weights}' cannot be loaded: {first_line}.",
                hint="Give the path of a MoGe-2 model.pt or name@<commit> (perception.depth.moge_weights).",
            ) from error
        return cls(model.to(device), config)

    def depth(self, image: NDArray[np.uint8], camera: Camera | None = None) -> DepthMap:
        """As `DepthSource.depth`.

        MoGe assumes square pixels and a principal point in the middle. With a camera its horizontal field of view
        is given to the model; without, the model estimates one, which comes back in `DepthMap.camera`. Lens
        distortion is removed for the model, and its depth is mapped back to the pixels of the image.

        Raises:
            InvalidCameraError: another size than the image.
            InvalidDepthError: no pixel has a valid depth (sky, for example), or no camera fits the points.
        """
        height, width = image.shape[:2]
        fov_x_deg = None if camera is None else _horizontal_field_of_view_deg(camera, height, width)
        straight = image if camera is None else camera.undistort(image)[0]
        pixels = torch.from_numpy(np.ascontiguousarray(straight)).permute(2, 0, 1).float() / 255.0
        device = next(self._model.parameters()).device
        found = self._model.infer(
            pixels.to(device),
            resolution_level=self._config.moge_resolution_level,
            fov_x=fov_x_deg,
            use_fp16=device.type == "cuda",
        )
        depth_m = found["depth"].float().cpu().clone()
        # Infinite is what the model masks out as sky.
        depth_m[~(depth_m.isfinite() & (depth_m > 0))] = torch.nan
        if camera is not None and camera.lens is not None:
            depth_m = _through_lens(depth_m, camera)
        if not bool(depth_m.isfinite().any()):
            raise InvalidDepthError(
                "MoGe gave no depth for any pixel of the image.", hint="Give sensor depth, or reconstruct without."
            )
        estimated = None
        if camera is None:
            estimated = _estimated_camera(found["intrinsics"].double().cpu().clone(), height, width)
        return DepthMap(depth_m, ScaleSource.MODEL, self._config.model_scale_std, estimated)


def _horizontal_field_of_view_deg(camera: Camera, height: int, width: int) -> float:
    if (camera.width, camera.height) != (width, height):
        raise InvalidCameraError(
            f"The camera is {camera.width} x {camera.height}, the image {width} x {height} (width x height).",
            hint="Give the camera of this image, resized with it.",
        )
    return math.degrees(2.0 * math.atan(width / (2.0 * float(camera.K[0, 0]))))


def _estimated_camera(K_normalized: torch.Tensor, height: int, width: int) -> Camera:
    try:
        return Camera.from_normalized(K_normalized, width, height)
    except InvalidCameraError as error:
        raise InvalidDepthError(
            f"MoGe found no valid camera for this image: {error.problem}", hint="Give the camera of the image."
        ) from error


def _through_lens(depth_m: torch.Tensor, camera: Camera) -> torch.Tensor:
    """Depth (H, W) of the pinhole camera of the same K, at the pixels of the camera with its lens; NaN beyond."""
    rays = camera.rays().double()
    where = (rays @ camera.K.to(rays).mT)[..., :2].float()
    # NaN is nowhere: far outside the image, where the border value applies.
    map_xy = torch.where(where.isfinite(), where, torch.full_like(where, -1e4)).numpy()
    columns, rows = np.ascontiguousarray(map_xy[..., 0]), np.ascontiguousarray(map_xy[..., 1])
    bent = cv2.remap(
        depth_m.numpy(), columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(math.nan,)
    )
    return torch.from_numpy(np.asarray(bent, dtype=np.float32))


def _weights_file(weights: str) -> str:
    """Path of a model.pt that is given, or of that of a hub repository."""
    hub_id = None if Path(weights).exists() else HubId.parse(weights)
    return weights if hub_id is None else str(hub_id.file("model.pt"))


def _model_class() -> Any:
    try:
        return importlib.import_module("moge.model.v2").MoGeModel
    except ImportError as error:
        raise MissingPackageError(
            f"Monocular depth needs the package moge, which cannot be imported: {error}.", hint=_INSTALL
        ) from error
