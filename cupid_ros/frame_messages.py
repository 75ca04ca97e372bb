"""The messages that belong to one image, converted to a `CameraFrame`.

An unusable message is an error where it is required (image, camera info, all detections), and a problem that is
reported where it is optional (depth, one of several detections).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.config.ros import RosInputConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.image.rectify import check_camera
from cupid_core.serving.errors import ImageSizeError, NoObjectsError
from cupid_core.serving.frames import CameraFrame, Detection, Stamped
from cupid_core.serving.tracking import check_labels
from cupid_core.types import DepthMap
from cupid_ros.convert.bridge import decode_by_cv_bridge
from cupid_ros.convert.camera import read_camera
from cupid_ros.convert.detections import read_detections
from cupid_ros.convert.header import read_header
from cupid_ros.convert.image import is_known_encoding, read_depth, read_label_values, read_pixels
from cupid_ros.errors import InvalidMessageError, StampMismatchError

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


def read_frame(
    messages: FrameMessages, config: RosInputConfig | None = None, topics: Mapping[str, str] | None = None
) -> CameraFrame:
    """Convert the messages that belong to one image.

    Args:
        messages: image and what came with it.
        config: how far stamps may differ, and how messages are interpreted.
        topics: role -> name of its topic, for the texts of errors.

    Raises:
        InputError: the image or its camera cannot be used; the subclass says why.
        InvalidMessageError: the image names no frame, or its camera, labels or detections name another one.
        StampMismatchError: the detections or labels belong to another image.
        NoObjectsError: neither detections nor labels came, or none of them can be used. Detections that are an
            empty list, or labels without a value, are none: the frame is empty.
    """
    config, topics = config or RosInputConfig(), topics or {}
    stamped = read_header(messages.image)
    if not stamped.frame_id:
        raise InvalidMessageError(
            "The image has an empty frame_id.", hint="Set header.frame_id to the camera's optical frame."
        )
    with _naming(topics.get("image")):
        image = _rgb(messages.image)
    size = image.shape[0], image.shape[1]
    with _naming(topics.get("camera_info")):
        camera = _camera(messages.camera_info, stamped, size, config)
    problems: list[CupidError] = []
    depth = None
    try:
        with _naming(topics.get("depth")):
            depth = _depth(messages.depth, stamped, size, config)
    except CupidError as error:  # without depth objects are up to scale
        problems.append(error)
    with _naming(topics.get("labels")):
        labels = _labels(messages.labels, stamped, size, config)
    others = len(problems)
    with _naming(topics.get("detections")):
        detections = _detections(messages.detections, stamped, config, problems)
    came = messages.labels is not None or messages.detections is not None
    if labels is None and not detections and (len(problems) > others or not came):
        why = "; ".join(str(problem) for problem in problems) or "neither detections nor labels came"
        raise NoObjectsError(f"Nothing says where an object is: {why}.", hint="Run a detector.")
    detections, mistaken = check_labels(detections, labels)
    return CameraFrame(stamped, image, camera, depth, labels, detections, (*problems, *mistaken))


@contextmanager
def _naming(topic: str | None) -> Iterator[None]:
    """Put the topic in front of the text of an error."""
    try:
        yield
    except CupidError as error:
        if not topic:
            raise
        raise type(error)(f"{topic}: {error.problem}", hint=error.hint) from error


def _rgb(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; encodings we do not decode go to cv_bridge where it is installed."""
    decoded = None if is_known_encoding(message) else decode_by_cv_bridge(message)
    return read_pixels(message).rgb() if decoded is None else decoded


def _camera(message: Any | None, stamped: Stamped, size: tuple[int, int], config: RosInputConfig) -> Camera | None:
    if message is None:
        return None
    _check_frame("CameraInfo", message, stamped, "Send the CameraInfo of this camera, or name no topic for it.")
    camera = read_camera(message, rectified=config.rectified)
    check_camera(camera, *size)
    return camera


def _depth(
    message: Any | None, stamped: Stamped, size: tuple[int, int], config: RosInputConfig
) -> DepthMap | None:
    if message is None:
        return None
    _check_stamp("depth image", message, stamped, config)
    _check_frame(
        "depth image", message, stamped, "Publish depth that is aligned to the color image, in its frame."
    )
    depth = read_depth(read_pixels(message, "depth"), scale_std=config.depth_scale_std)
    _check_size("depth image", tuple(depth.depth_m.shape), size)
    return depth


def _labels(
    message: Any | None, stamped: Stamped, size: tuple[int, int], config: RosInputConfig
) -> NDArray[np.int32] | None:
    if message is None:
        return None
    _check_stamp("label image", message, stamped, config)
    _check_frame("label image", message, stamped, "Copy the header of the image into the label image.")
    labels = read_label_values(read_pixels(message, "label"))
    _check_size("label image", labels.shape, size)
    return labels if labels.any() else None


def _detections(
    message: Any | None, stamped: Stamped, config: RosInputConfig, problems: list[CupidError]
) -> tuple[Detection, ...]:
    if message is None:
        return ()
    _check_stamp("detections", message, stamped, config)
    for part in (message, *message.detections):
        _check_frame("detections", part, stamped, "Copy the header of the image into the detections.")
    detections = read_detections(message)
    problems.extend(detections.refused.values())
    good = [item for item in detections.good if item.score is None or item.score >= config.min_score]
    return tuple(good)


def _check_frame(name: str, message: Any, stamped: Stamped, hint: str) -> None:
    """Refuse a message of another frame than the image; one that names none is taken for one of the image's."""
    frame_id = str(message.header.frame_id)
    if frame_id and frame_id.lstrip("/") != stamped.frame_id.lstrip("/"):
        raise InvalidMessageError(
            f"The frame of the {name} is '{frame_id[:80]}', that of the image '{stamped.frame_id[:80]}'.",
            hint=hint,
        )


def _check_stamp(name: str, message: Any, stamped: Stamped, config: RosInputConfig) -> None:
    away_s = abs(read_header(message).stamp_ns - stamped.stamp_ns) / _SECOND_NS
    if away_s > config.sync_slop_s:
        raise StampMismatchError(
            f"The {name} is {away_s:.3f} s away from the image; at most {config.sync_slop_s:g} s is allowed.",
            hint="Copy the header of the image, or raise ros.input.sync_slop_s.",
        )


def _check_size(name: str, actual: tuple[int, ...], expected: tuple[int, int]) -> None:
    if actual != expected:
        raise ImageSizeError(
            f"The {name} is {actual[1]} x {actual[0]}, the image {expected[1]} x {expected[0]}.",
            hint="Align it to the color image.",
        )
