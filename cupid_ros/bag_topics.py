"""Which topic of a bag carries what: by type, then by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from cupid_ros.bag_reader import Topic
from cupid_ros.errors import MissingTopicError

# Names that say that there is no such topic; "none" too, because a bare - on a command line of ROS is a YAML list.
NO_TOPIC = ("-", "none")
_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_TYPES = {
    "image": _IMAGES,
    "camera_info": ("sensor_msgs/msg/CameraInfo",),
    "depth": _IMAGES,
    "labels": _IMAGES,
    "detections": ("vision_msgs/msg/Detection2DArray",),
}
_DEPTH = re.compile(r"depth|disparity", re.IGNORECASE)
_LABELS = re.compile(r"label|segment|mask|instance", re.IGNORECASE)
_OTHER = re.compile(r"infra|thermal|overlay|debug", re.IGNORECASE)
_COLOR = re.compile(r"colou?r|rgb", re.IGNORECASE)
_ALIGNED = re.compile(r"aligned|registered|_to_colou?r|_to_rgb", re.IGNORECASE)


@dataclass(frozen=True)
class BagTopics:
    """Names of topics; empty where there is none.

    Attributes:
        image: color image.
        camera_info: of that image.
        depth: aligned to the image.
        labels: label image.
        detections: boxes.
    """

    image: str = ""
    camera_info: str = ""
    depth: str = ""
    labels: str = ""
    detections: str = ""

    def roles(self) -> dict[str, str]:
        """Topic -> role, of those there are."""
        return {getattr(self, item.name): item.name for item in fields(self) if getattr(self, item.name)}


def detect_topics(topics: Sequence[Topic], given: BagTopics | None = None) -> BagTopics:
    """Find the topics.

    Args:
        topics: of the bag.
        given: names that are not to be guessed; "-" or "none" says that there is none.

    Raises:
        MissingTopicError: a given topic is not there or of another type; no or several topics could be the image.
    """
    given = given or BagTopics()
    filled = [topic for topic in topics if topic.count != 0]
    for role, types in _TYPES.items():
        _check(role, getattr(given, role), types, topics)
    pictures = [topic.name for topic in filled if topic.type in _IMAGES]
    depths = [name for name in pictures if _DEPTH.search(name)]
    labels = [name for name in pictures if _LABELS.search(name) and name not in depths]
    colors = [name for name in pictures if name not in depths + labels and not _OTHER.search(name)]
    image = given.image or _one("image", _preferring(_COLOR, colors), pictures)
    infos = [topic.name for topic in filled if topic.type in _TYPES["camera_info"]]
    detections = [topic.name for topic in filled if topic.type in _TYPES["detections"]]
    guess = BagTopics(
        image=image,
        camera_info=_info_of(image, infos),
        depth=_first(_preferring(_ALIGNED, depths)),
        labels=_first(labels),
        detections=_first(detections),
    )
    chosen = {item.name: getattr(given, item.name) for item in fields(given) if getattr(given, item.name)}
    found = replace(guess, **chosen)
    return replace(found, **{item.name: "" for item in fields(found) if getattr(found, item.name) in NO_TOPIC})


def _check(role: str, name: str, types: tuple[str, ...], topics: Sequence[Topic]) -> None:
    if name in ("", *NO_TOPIC):
        return
    kinds = {topic.name: topic.type for topic in topics}
    if kinds.get(name) not in types:
        there = sorted(topic for topic, kind in kinds.items() if kind in types)
        raise MissingTopicError(
            f"The bag has no topic {name} for '{role}' ({kinds.get(name, 'absent')}).",
            hint=f"Of the right type are: {there or 'none'}.",
        )


def _one(role: str, names: list[str], all_names: list[str]) -> str:
    if len(names) != 1:
        raise MissingTopicError(
            f"{'Several' if names else 'No'} topics could be the {role}: {names or all_names}.",
            hint="Name it: --topics.image TOPIC.",
        )
    return names[0]


def _preferring(pattern: re.Pattern[str], names: list[str]) -> list[str]:
    """Raw topics rather than their compressed twins, then those that the pattern names; never none of some."""
    raw = [name for name in names if not re.search(r"/compressed(Depth)?$", name)] or names
    return [name for name in raw if pattern.search(name)] or raw


def _first(names: list[str]) -> str:
    return min(names, key=lambda name: (len(name), name), default="")


def _info_of(image: str, infos: list[str]) -> str:
    """CameraInfo beside the image, or the only one."""
    base = re.sub(r"/compressed(Depth)?$", "", image).rsplit("/", 1)[0]
    beside = [name for name in infos if name.rsplit("/", 1)[0] == base]
    return _first(beside) or (infos[0] if len(infos) == 1 else "")
