"""Messages of one moment to a camera frame; knows messages and what they must have in common, no topics.

A message that cannot be used and can be done without (depth, one of several detections) becomes a problem that is
reported; one that cannot be done without is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.config.ros import RosInputConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.image.rectify import check_camera
from cupid_core.types import DepthMap
from cupid_ros.convert.bridge import decode_by_cv_bridge
from cupid_ros.convert.camera import read_camera
from cupid_ros.convert.depth import read_depth
from cupid_ros.convert.detections import Detection, read_detections
from cupid_ros.convert.header import Stamped, read_header
from cupid_ros.convert.image import Pixels, is_read_here, read_compressed, read_image, read_label_values
from cupid_ros.errors import ImageSizeError, NoObjectsError, StampMismatchError

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class FrameMessages:
    """Messages that belong to one image; None where there are none.

    Attributes:
        image: sensor_msgs/Image or CompressedImage.
        camera_info: sensor_msgs/CameraInfo.
        depth: sensor_msgs/Image or CompressedImage, aligned to the image.
        labels: sensor_msgs/Image or CompressedImage.
        detections: vision_msgs/Detection2DArray.
    """

    image: Any
    camera_info: Any | None = None
    depth: Any | None = None
    labels: Any | None = None
    detections: Any | None = None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One image and what belongs to it, as plain values.

    Attributes:
        stamped: stamp of the image, the camera's optical frame.
        image: (H, W, 3) uint8 RGB.
        camera: with its lens; None where there was no CameraInfo.
        depth: aligned to the image; None without.
        labels: (H, W) int32, 0 where there is no object; None without.
        detections: of the objects; empty takes those of the label image.
        problems: what could not be used and was left out.
    """

    stamped: Stamped
    image: NDArray[np.uint8]
    camera: Camera | None
    depth: DepthMap | None = None
    labels: NDArray[np.int32] | None = None
    detections: tuple[Detection, ...] = ()
    problems: tuple[CupidError, ...] = ()


def read_frame(messages: FrameMessages, config: RosInputConfig | None = None) -> CameraFrame:
    """Convert the messages of one moment.

    Args:
        messages: image and what came with it.
        config: how far stamps may differ, and how to read.

    Raises:
        InputError: the image or its camera cannot be used; its kinds say why.
        StampMismatchError: the detections or labels belong to another image.
        NoObjectsError: nothing says where an object is, or nothing of it can be used.
    """
    config = config or RosInputConfig()
    stamped = read_header(messages.image)
    image = _colors(messages.image)
    height, width = image.shape[:2]
    camera = None
    if messages.camera_info is not None:
        camera = read_camera(messages.camera_info, rectified=config.rectified)
        check_camera(camera, height, width)
    problems: list[CupidError] = []
    depth = _depth(messages.depth, stamped, (height, width), config, problems)
    labels = _labels(messages.labels, stamped, (height, width), config)
    detections = _detections(messages.detections, stamped, config, problems)
    if labels is None and not detections:
        why = "; ".join(str(problem) for problem in problems) or "neither detections nor labels came"
        raise NoObjectsError(f"Nothing says where an object is: {why}.", hint="Run a detector.")
    return CameraFrame(stamped, image, camera, depth, labels, detections, tuple(problems))


def read_pixels(message: Any) -> Pixels:
    """Pixels of an image, raw or compressed."""
    return read_image(message) if hasattr(message, "encoding") else read_compressed(message)


def _colors(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; encodings that are not ours go to cv_bridge where it is installed."""
    decoded = None if is_read_here(message) else decode_by_cv_bridge(message)
    return read_pixels(message).rgb() if decoded is None else decoded


def _depth(
    message: Any | None,
    stamped: Stamped,
    size: tuple[int, int],
    config: RosInputConfig,
    problems: list[CupidError],
) -> DepthMap | None:
    """Depth, or why there is none among the problems: without it objects are up to scale, and say so."""
    if message is None:
        return None
    try:
        _same_moment("depth image", message, stamped, config)
        depth = read_depth(read_pixels(message), scale_std=config.depth_scale_std)
        _same_size("depth image", tuple(depth.depth_m.shape), size)
    except CupidError as error:
        problems.append(error)
        return None
    return depth


def _labels(
    message: Any | None, stamped: Stamped, size: tuple[int, int], config: RosInputConfig
) -> NDArray[np.int32] | None:
    if message is None:
        return None
    _same_moment("label image", message, stamped, config)
    labels = read_label_values(read_pixels(message))
    _same_size("label image", labels.shape, size)
    return labels if labels.any() else None


def _detections(
    message: Any | None, stamped: Stamped, config: RosInputConfig, problems: list[CupidError]
) -> tuple[Detection, ...]:
    if message is None:
        return ()
    _same_moment("detections", message, stamped, config)
    found = read_detections(message)
    problems.extend(found.refused.values())
    good = [item for item in found.good if item.score is None or item.score >= config.min_score]
    return tuple(good)


def _same_moment(name: str, message: Any, stamped: Stamped, config: RosInputConfig) -> None:
    away_s = abs(read_header(message).stamp_ns - stamped.stamp_ns) / _SECOND_NS
    if away_s > config.sync_slop_s:
        raise StampMismatchError(
            f"The {name} is {away_s:.3f} s away from the image; at most {config.sync_slop_s:g} s is allowed.",
            hint="Copy the header of the image, or raise ros.input.sync_slop_s.",
        )


def _same_size(name: str, actual: tuple[int, ...], expected: tuple[int, int]) -> None:
    if actual != expected:
        raise ImageSizeError(
            f"The {name} is {actual[1]} x {actual[0]}, the image {expected[1]} x {expected[0]}.",
            hint="Align it to the color image.",
        )
