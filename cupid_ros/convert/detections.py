"""vision_msgs/Detection2DArray to boxes with ids, classes and scores, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cupid_core.errors import CupidError
from cupid_core.image.masks import Box
from cupid_core.serving.errors import InvalidDetectionError
from cupid_core.serving.frames import Detection, Stamped
from cupid_ros.convert.header import make_header
from cupid_ros.messages import MessageTypes


@dataclass(frozen=True)
class Detections:
    """The detections of a message.

    Attributes:
        good: usable, in the order of the message.
        refused: why others cannot be used, by their index in the message.
    """

    good: tuple[Detection, ...]
    refused: dict[int, CupidError]


def read_detections(message: Any) -> Detections:
    """All detections of a vision_msgs/Detection2DArray; one that cannot be used does not affect the others."""
    good: list[Detection] = []
    refused: dict[int, CupidError] = {}
    for place, item in enumerate(message.detections):
        try:
            good.append(read_detection(item))
        except CupidError as error:
            refused[place] = error
    return Detections(tuple(good), refused)


def read_detection(message: Any) -> Detection:
    """One vision_msgs/Detection2D.

    Raises:
        InvalidDetectionError: a box that is not finite, has a negative size or is rotated; a score outside 0 to 1;
            or neither a box nor an id.
    """
    id_ = str(message.id)
    bbox = message.bbox
    x, y = float(bbox.center.position.x), float(bbox.center.position.y)
    width, height, theta = float(bbox.size_x), float(bbox.size_y), float(bbox.center.theta)
    if not all(map(math.isfinite, (x, y, width, height, theta))) or width < 0 or height < 0:
        raise InvalidDetectionError(
            f"Detection '{id_[:40]}' has the box {width} x {height} at ({x}, {y}).",
            hint="Send finite pixels and sizes that are not negative.",
        )
    if theta != 0.0:
        raise InvalidDetectionError(
            f"The box of detection '{id_[:40]}' is rotated by {theta} rad.",
            hint="Send boxes along the image axes.",
        )
    box: Box | None = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if width == 0.0 or height == 0.0:
        box = None
        if not id_:
            raise InvalidDetectionError("A detection has neither a box nor an id.", hint="Send one of them.")
    class_id, score = _best(message.results)
    return Detection(id_, class_id, score, box)


def make_detections(types: MessageTypes, detections: Sequence[Detection], stamped: Stamped) -> Any:
    """vision_msgs/Detection2DArray; the inverse of `read_detections`."""
    header = make_header(types, stamped)
    return types.make(
        "vision_msgs/msg/Detection2DArray",
        header=header,
        detections=[_detection(types, item, header) for item in detections],
    )


def _detection(types: MessageTypes, item: Detection, header: Any) -> Any:
    x0, y0, x1, y1 = item.box or (0.0, 0.0, 0.0, 0.0)
    position = types.make("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
    bbox = types.make(
        "vision_msgs/msg/BoundingBox2D",
        center=types.make("vision_msgs/msg/Pose2D", position=position),
        size_x=x1 - x0,
        size_y=y1 - y0,
    )
    results = []
    if item.score is not None:
        results.append(make_hypothesis(types, item.class_id, item.score))
    return types.make("vision_msgs/msg/Detection2D", header=header, id=item.id, bbox=bbox, results=results)


def make_hypothesis(types: MessageTypes, class_id: str, score: float, pose: Any | None = None) -> Any:
    """vision_msgs/ObjectHypothesisWithPose; `pose` is a geometry_msgs/PoseWithCovariance."""
    hypothesis = types.make("vision_msgs/msg/ObjectHypothesis", class_id=class_id, score=score)
    given = {} if pose is None else {"pose": pose}
    return types.make("vision_msgs/msg/ObjectHypothesisWithPose", hypothesis=hypothesis, **given)


def _best(results: Sequence[Any]) -> tuple[str, float | None]:
    best: tuple[str, float] | None = None
    for result in results:
        score = float(result.hypothesis.score)
        if not 0.0 <= score <= 1.0:
            raise InvalidDetectionError(f"A detection has the score {score}.", hint="Send scores from 0 to 1.")
        if best is None or score > best[1]:
            best = str(result.hypothesis.class_id), score
    return best or ("", None)
