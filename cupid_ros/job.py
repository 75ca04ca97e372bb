"""The work itself, in the process that owns torch: plain values in, a scene out; knows no message and no queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, EmptyMaskError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.image.masks import Box, masks_from_labels
from cupid_core.perception.segment import Prompt, Segmenter
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.reconstruct.cupid import Cupid
from cupid_core.reconstruct.progress import Cancelled, OnProgress
from cupid_core.reconstruct.results import SceneReconstruction
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import view_scene
from cupid_core.runtime.device import choose_device, inference_dtype
from cupid_core.types import DepthMap, ScaleSource
from cupid_ros.errors import NoObjectsError
from cupid_ros.results import SceneRecord
from cupid_ros.tickets import Job, Pixels


@dataclass(frozen=True)
class CameraValues:
    """A camera as plain numbers, which cross the border of a process without shared tensors.

    Attributes:
        K: row by row, pixels.
        width: pixels.
        height: pixels.
        lens: model and coefficients; None without distortion.
    """

    K: tuple[float, ...]
    width: int
    height: int
    lens: tuple[str, tuple[float, ...]] | None = None

    @classmethod
    def of(cls, camera: Camera) -> CameraValues:
        """From a camera; `camera` undoes it."""
        K = tuple(float(value) for value in camera.K.reshape(9))
        lens = None if camera.distortion is None else (camera.distortion.model, camera.distortion.coefficients)
        return cls(K, camera.width, camera.height, lens)

    def camera(self) -> Camera:
        """The camera, float64."""
        K = torch.tensor(self.K, dtype=torch.float64).reshape(3, 3)
        lens = None if self.lens is None else Distortion(cast("Any", self.lens[0]), self.lens[1])
        return Camera(K, self.width, self.height, lens)


@dataclass(frozen=True)
class SceneRequest:
    """What to reconstruct.

    Images come beside it: "image" (H, W, 3) uint8, and where there are any "depth" (H, W) float32 metres and
    "labels" (H, W) int32.

    Attributes:
        camera: of the image; None where it is unknown.
        depth_scale_std: relative standard deviation of all depths together.
        numbers: objects to take from the label image.
        boxes: of the objects that are to be segmented, by number.
        names: of objects, by number.
        numbers_beside: objects of the label image that are not wanted, but may hide parts of those that are.
        boxes_beside: the same, to be segmented.
        seed: of the networks.
        samples: hypotheses for each object.
        refine: move placed objects so that they meet depth and mask better.
        overlay: draw what was found on the image.
        early_poses: tell the poses before there are meshes.
    """

    camera: CameraValues | None = None
    depth_scale_std: float = 0.0
    numbers: tuple[int, ...] = ()
    boxes: Mapping[int, Box] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    numbers_beside: tuple[int, ...] = ()
    boxes_beside: Mapping[int, Box] = field(default_factory=dict)
    seed: int = 0
    samples: int = 1
    refine: bool = False
    overlay: bool = False
    early_poses: bool = False


@dataclass(frozen=True)
class MakeCupidJob:
    """Loads the networks, in the process that runs them.

    Attributes:
        checkpoint: name, folder or hub id.
        device: "auto" takes cuda where there is one.
        settings: of every step, as nested plain values.
    """

    checkpoint: str = "tabletop"
    device: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: CupidConfig) -> MakeCupidJob:
        """As the settings say."""
        return cls(config.ros.checkpoint, config.ros.device, config.model_dump(mode="json"))

    def __call__(self) -> Job:
        """Load.

        Raises:
            CheckpointError: no such checkpoint, or it is damaged.
            ConfigError: the settings are none.
        """
        config = settings_of.from_mapping(CupidConfig, dict(self.settings))
        device = choose_device(self.device)
        dtype = inference_dtype(device)
        cupid = Cupid.from_pretrained(self.checkpoint, device=device, dtype=dtype, config=config)
        return CupidJob(cupid, build_segmenter(config.perception.segmenter, device=str(device)), str(device))


@dataclass(frozen=True)
class CupidJob:
    """Reconstructs the objects of an image.

    Attributes:
        cupid: the networks.
        segmenter: makes masks of boxes.
        device: of the networks.
    """

    cupid: Cupid
    segmenter: Segmenter
    device: str = "cpu"

    def __call__(
        self, request: SceneRequest, pixels: Pixels, on_progress: OnProgress, cancelled: Cancelled
    ) -> SceneRecord:
        """Segment where needed, reconstruct, draw.

        Raises:
            InputError: something cannot be used.
            NoObjectsError: no object has a mask.
            CancelledError: as asked.
        """
        image = np.array(pixels["image"])  # a copy: what is lent is gone after the call
        masks, lost = self._masks(image, pixels.get("labels"), request)
        wanted = {*request.numbers, *request.boxes}
        lost = {number: error for number, error in lost.items() if number in wanted}
        if not wanted & masks.keys():
            why = "; ".join(str(error) for error in lost.values()) or "no detection and no label"
            raise NoObjectsError(f"The image has no object: {why}.", hint="Check detections and label image.")
        scene = self.cupid.reconstruct_scene(
            image,
            masks,
            names=request.names,
            camera=None if request.camera is None else request.camera.camera(),
            depth=_depth(pixels.get("depth"), request.depth_scale_std),
            only=wanted & masks.keys(),
            seed=request.seed,
            samples=request.samples,
            refine=request.refine,
            early_poses=request.early_poses,
            on_progress=on_progress,
            cancelled=cancelled,
        )
        record = SceneRecord.of(scene, self._overlay(scene) if request.overlay else None)
        failures = {**lost, **record.failures}
        return replace(record, failures=failures, gpu_memory_mb=_gpu_memory_mb(torch.device(self.device)))

    def _masks(
        self, image: NDArray[np.uint8], labels: NDArray[Any] | None, request: SceneRequest
    ) -> tuple[dict[int, NDArray[Any]], dict[int, CupidError]]:
        """Masks of all objects by number, and why others have none."""
        masks: dict[int, NDArray[Any]] = {}
        lost: dict[int, CupidError] = {}
        numbers = (*request.numbers, *request.numbers_beside)
        if labels is not None and numbers:
            found = masks_from_labels(np.array(labels), *image.shape[:2])
            for number in numbers:
                if number in found:
                    masks[number] = found[number]
                else:
                    lost[number] = NoObjectsError(
                        f"No pixel of the label image is {number}.", hint="Check that labels and detections agree."
                    )
        boxes = {**request.boxes, **request.boxes_beside}
        if boxes:
            prompts = {number: Prompt(box=box) for number, box in boxes.items()}
            segmented = self.segmenter.segment(image, prompts)
            masks.update(segmented.masks)
            lost.update(segmented.failures)
        return _apart(masks, lost), lost

    def _overlay(self, scene: SceneReconstruction) -> NDArray[np.uint8]:
        return draw_overlay(view_scene(scene, self.cupid.config.report.longest_px), scene.objects)


def _gpu_memory_mb(device: torch.device) -> float | None:
    """The most that was allocated since the last call; None on a CPU."""
    if device.type != "cuda":
        return None
    most = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return most


def _apart(masks: dict[int, NDArray[Any]], lost: dict[int, CupidError]) -> dict[int, NDArray[Any]]:
    """Masks of which none lies wholly under smaller ones, as two boxes around one object lead to."""
    left: dict[int, NDArray[Any]] = {}
    covered: NDArray[Any] | None = None
    # The larger of two overlapping masks gives way, so the smallest come first.
    for number in sorted(masks, key=lambda key: (int(masks[key].sum()), -key)):
        own = masks[number] if covered is None else masks[number] & ~covered
        covered = masks[number] if covered is None else masks[number] | covered
        if own.any():
            left[number] = masks[number]
        else:
            lost[number] = EmptyMaskError(
                "Its mask lies wholly under those of others.", hint="Check for several detections of one object."
            )
    return left


def _depth(values: NDArray[Any] | None, scale_std: float) -> DepthMap | None:
    if values is None:
        return None
    return DepthMap(torch.from_numpy(np.array(values, dtype=np.float32)), ScaleSource.SENSOR, scale_std)
