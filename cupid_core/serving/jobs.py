"""The work itself, in the process that owns the networks: a request in, a scene record out.

The only file of the service that calls the method (`CupidJob._reconstruct`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, EmptyMaskError
from cupid_core.image.masks import masks_from_labels
from cupid_core.perception.segment import Prompt, Segmenter
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.progress import Cancelled, OnProgress
from cupid_core.reconstruct.results import Scene
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import view_scene
from cupid_core.serving.engine import Images, Job
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.records import SceneRecord, SceneRequest
from cupid_core.types import DepthMap, ScaleSource

Masks = dict[int, NDArray[Any]]


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
            CheckpointError: there is no such checkpoint, or it is damaged.
            ConfigError: a setting is unknown or out of bounds.
        """
        config = settings_of.from_mapping(CupidConfig, dict(self.settings))
        cupid = Cupid.from_pretrained(self.checkpoint, device=self.device, config=config)
        device = str(cupid.networks.device)  # which "auto" was decided to be
        return CupidJob(cupid, build_segmenter(config.perception.segmenter, device=device), device)


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
        self, request: SceneRequest, images: Images, on_progress: OnProgress, cancelled: Cancelled
    ) -> SceneRecord:
        """Segment where needed, reconstruct, draw.

        Raises:
            InputError: an input cannot be used.
            NoObjectsError: no object has a mask.
            CancelledError: as asked.
        """
        image = np.array(images["image"])  # a copy: the shared memory is overwritten after the call
        wanted = {*request.numbers, *request.boxes}
        masks, failures = self._masks(image, images.get("labels"), request)
        failures = {number: error for number, error in failures.items() if number in wanted}
        if not wanted & masks.keys():
            why = "; ".join(str(error) for error in failures.values()) or "no detection and no label"
            raise NoObjectsError(f"The image has no object: {why}.", hint="Check detections and label image.")
        depth = _depth(images.get("depth"), request.depth_scale_std)
        scene = self._reconstruct(request, image, masks, depth, (on_progress, cancelled))
        overlay = None
        if request.overlay:
            overlay = draw_overlay(view_scene(scene, self.cupid.config.report.longest_px), scene.objects)
        record = SceneRecord.of(scene, overlay)
        memory_mb = _peak_gpu_memory_mb(torch.device(self.device))
        return replace(record, failures={**failures, **record.failures}, gpu_memory_mb=memory_mb)

    def _reconstruct(
        self,
        request: SceneRequest,
        image: NDArray[np.uint8],
        masks: Masks,
        depth: DepthMap | None,
        watch: tuple[OnProgress, Cancelled],
    ) -> Scene:
        """The call of the method."""
        on_progress, cancelled = watch
        return self.cupid(
            image,
            masks=masks,
            camera=None if request.camera is None else request.camera.camera(),
            depth=depth,
            names=request.names,
            only={*request.numbers, *request.boxes} & masks.keys(),
            up=request.up,
            seed=request.seed,
            samples=request.samples,
            refine=request.refine,
            early_poses=request.early_poses,
            on_progress=on_progress,
            cancelled=cancelled,
        )

    def _masks(
        self, image: NDArray[np.uint8], labels: NDArray[Any] | None, request: SceneRequest
    ) -> tuple[Masks, dict[int, CupidError]]:
        """Masks of all objects by number, occluders included, and why others have none."""
        masks: Masks = {}
        failures: dict[int, CupidError] = {}
        numbers = (*request.numbers, *request.occluder_numbers)
        if labels is not None and numbers:
            labeled = masks_from_labels(np.array(labels), *image.shape[:2])
            for number in numbers:
                if number in labeled:
                    masks[number] = labeled[number]
                else:
                    failures[number] = NoObjectsError(
                        f"No pixel of the label image is {number}.", hint="Check that labels and detections agree."
                    )
        boxes = {**request.boxes, **request.occluder_boxes}
        if boxes:
            prompts = {number: Prompt(box=box) for number, box in boxes.items()}
            segmented = self.segmenter.segment(image, prompts)
            masks.update(segmented.masks)
            failures.update(segmented.failures)
        return _without_covered(masks, failures), failures


def _without_covered(masks: Masks, failures: dict[int, CupidError]) -> Masks:
    """Masks without those that smaller ones cover completely, as two boxes around one object lead to."""
    kept: Masks = {}
    covered: NDArray[Any] | None = None
    # Where two masks overlap the larger one gives way, so the smallest come first.
    for number in sorted(masks, key=lambda key: (int(masks[key].sum()), -key)):
        own = masks[number] if covered is None else masks[number] & ~covered
        covered = masks[number] if covered is None else masks[number] | covered
        if own.any():
            kept[number] = masks[number]
        else:
            failures[number] = EmptyMaskError(
                "Masks of other objects cover its mask completely.",
                hint="Check for several detections of one object.",
            )
    return kept


def _depth(values: NDArray[Any] | None, scale_std: float) -> DepthMap | None:
    if values is None:
        return None
    return DepthMap(torch.from_numpy(np.array(values, dtype=np.float32)), ScaleSource.SENSOR, scale_std)


def _peak_gpu_memory_mb(device: torch.device) -> float | None:
    """The most that was allocated since the last call; None on a CPU."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**20
    torch.cuda.reset_peak_memory_stats(device)
    return peak
