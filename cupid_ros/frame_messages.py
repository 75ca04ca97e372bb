"""The messages that belong to one image: collected by their stamps, and converted to a `CameraFrame`.

An unusable message is an error where it is required (image, camera info, all detections), and a problem that is
reported where it is optional (depth, one of several detections).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.config.ros import RosInputConfig
from cupid_core.errors import CupidError
from cupid_core.image.rectify import check_camera
from cupid_core.serving.errors import ImageSizeError, NoObjectsError
from cupid_core.serving.frames import CameraFrame, Detection, Stamped
from cupid_core.types import DepthMap
from cupid_ros.convert.bridge import decode_by_cv_bridge
from cupid_ros.convert.camera import read_camera
from cupid_ros.convert.detections import read_detections
from cupid_ros.convert.header import read_header
from cupid_ros.convert.image import is_known_encoding, read_depth, read_label_values, read_pixels
from cupid_ros.errors import InvalidMessageError, StampMismatchError

_SECOND_NS = 1_000_000_000
_MAX_WAITING = 64


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


class FrameCollector:
    """Collects the messages of a bag until all that belong to an image are there.

    Args:
        roles: of the topics in the bag, among image, camera_info, depth, labels, detections.
        slop_s: how far stamps may differ.

    Attributes:
        dropped: images without the messages that belong to them.
    """

    def __init__(self, roles: Collection[str], slop_s: float) -> None:
        self._roles = [role for role in ("depth", "labels", "detections") if role in roles]
        self._needs_info = "camera_info" in roles
        self._slop_ns = round(slop_s * _SECOND_NS)
        self._info: Any | None = None
        self._images: deque[tuple[int, int, Any]] = deque(maxlen=_MAX_WAITING)
        self._others: dict[str, deque[tuple[int, Any]]] = {
            role: deque(maxlen=_MAX_WAITING) for role in self._roles
        }
        self.dropped = 0

    def add(self, role: str, message: Any, time_ns: int) -> Iterator[tuple[FrameMessages, int]]:
        """Take a message.

        Args:
            role: what it is.
            message: decoded.
            time_ns: when it was recorded.

        Yields:
            What is complete now, with the time at which its image was recorded.

        Raises:
            InvalidMessageError: its stamp is impossible.
        """
        stamp = read_header(message).stamp_ns
        if role == "camera_info":
            self._info = message
        elif role == "image":
            self.dropped += len(self._images) == _MAX_WAITING
            self._images.append((stamp, time_ns, message))
        else:
            self._others[role].append((stamp, message))
        yield from self._complete()

    def flush(self) -> Iterator[tuple[FrameMessages, int]]:
        """At the end of the bag: incomplete images that at least have labels or detections."""
        while self._images:
            stamp, time_ns, image = self._images.popleft()
            matches = {role: self._nearest(role, stamp) for role in self._roles}
            if matches.get("labels") is None and matches.get("detections") is None:
                self.dropped += 1
                continue
            yield FrameMessages(image, self._info, **matches), time_ns

    def _complete(self) -> Iterator[tuple[FrameMessages, int]]:
        for entry in list(self._images):
            stamp, time_ns, image = entry
            matches = {role: self._nearest(role, stamp) for role in self._roles}
            if any(value is None for value in matches.values()) or (self._needs_info and self._info is None):
                continue
            # Messages come in order, so an older image will not be completed any more.
            while self._images[0] is not entry:
                self._images.popleft()
                self.dropped += 1
            self._images.popleft()
            yield FrameMessages(image, self._info, **matches), time_ns

    def _nearest(self, role: str, stamp: int) -> Any | None:
        distances = [(abs(other - stamp), index) for index, (other, _) in enumerate(self._others[role])]
        away, index = min(distances, default=(self._slop_ns + 1, 0))
        return self._others[role][index][1] if away <= self._slop_ns else None


def read_frame(messages: FrameMessages, config: RosInputConfig | None = None) -> CameraFrame:
    """Convert the messages that belong to one image.

    Args:
        messages: image and what came with it.
        config: how far stamps may differ, and how messages are interpreted.

    Raises:
        InputError: the image or its camera cannot be used; the subclass says why.
        InvalidMessageError: the image names no frame, or the detections another one.
        StampMismatchError: the detections or labels belong to another image.
        NoObjectsError: neither detections nor labels came, or none of them can be used. Detections that are an
            empty list, or labels without a value, are none: the frame is empty.
    """
    config = config or RosInputConfig()
    stamped = read_header(messages.image)
    if not stamped.frame_id:
        raise InvalidMessageError(
            "The image has an empty frame_id.", hint="Set header.frame_id to the camera's optical frame."
        )
    image = _rgb(messages.image)
    height, width = image.shape[:2]
    camera = None
    if messages.camera_info is not None:
        camera = read_camera(messages.camera_info, rectified=config.rectified)
        check_camera(camera, height, width)
    problems: list[CupidError] = []
    depth = _depth(messages.depth, stamped, (height, width), config, problems)
    labels = _labels(messages.labels, stamped, (height, width), config)
    others = len(problems)
    detections = _detections(messages.detections, stamped, config, problems)
    came = messages.labels is not None or messages.detections is not None
    if labels is None and not detections and (len(problems) > others or not came):
        why = "; ".join(str(problem) for problem in problems) or "neither detections nor labels came"
        raise NoObjectsError(f"Nothing says where an object is: {why}.", hint="Run a detector.")
    return CameraFrame(stamped, image, camera, depth, labels, detections, tuple(problems))


def _rgb(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; encodings we do not decode go to cv_bridge where it is installed."""
    decoded = None if is_known_encoding(message) else decode_by_cv_bridge(message)
    return read_pixels(message).rgb() if decoded is None else decoded


def _depth(
    message: Any | None,
    stamped: Stamped,
    size: tuple[int, int],
    config: RosInputConfig,
    problems: list[CupidError],
) -> DepthMap | None:
    """Depth; None with a problem where it cannot be used: objects are then up to scale."""
    if message is None:
        return None
    try:
        _check_stamp("depth image", message, stamped, config)
        depth = read_depth(read_pixels(message), scale_std=config.depth_scale_std)
        _check_size("depth image", tuple(depth.depth_m.shape), size)
    except CupidError as error:
        problems.append(error)
        return None
    return depth


def _labels(
    message: Any | None, stamped: Stamped, size: tuple[int, int], config: RosInputConfig
) -> NDArray[np.int32] | None:
    if message is None:
        return None
    _check_stamp("label image", message, stamped, config)
    labels = read_label_values(read_pixels(message))
    _check_size("label image", labels.shape, size)
    return labels if labels.any() else None


def _detections(
    message: Any | None, stamped: Stamped, config: RosInputConfig, problems: list[CupidError]
) -> tuple[Detection, ...]:
    if message is None:
        return ()
    _check_stamp("detections", message, stamped, config)
    frame_id = read_header(message).frame_id
    if frame_id not in ("", stamped.frame_id):
        raise InvalidMessageError(
            f"The detections are in the frame '{frame_id[:40]}', the image in '{stamped.frame_id[:40]}'.",
            hint="Copy the header of the image into the detections.",
        )
    detections = read_detections(message)
    problems.extend(detections.refused.values())
    good = [item for item in detections.good if item.score is None or item.score >= config.min_score]
    return tuple(good)


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
