"""Observations to tf2_msgs/TFMessage, and a geometry_msgs/TransformStamped to a pose."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import torch

from cupid_core.geometry.se3 import SE3
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import Observation
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import make_quaternion, make_vector
from cupid_ros.convert.planning import SUBFRAMES
from cupid_ros.messages import MessageTypes

# At the beginning, behind another one, at the end, or before what MoveIt would take for a subframe of an object.
_LOOSE_SLASH = re.compile(rf"(?<![^/])/|/$|/(?=({'|'.join(SUBFRAMES)})$)")


def object_frame(prefix: str, id_: str) -> str:
    """TF frame of an object, which is also its name in MoveIt: its prefix and its id; two ids never share one.

    An id of letters, digits and `_ . - ~`, with single slashes inside, is kept. Every other character is written
    as in URLs ("mug 1" is mug%201), so `urllib.parse.unquote` gives the id back. Slashes at the ends and double
    ones count as such characters, because TF drops them, and so does the last one of "mug/canonical".
    """
    return prefix + _LOOSE_SLASH.sub("%2F", quote(id_, safe="/"))


def make_transforms(
    types: MessageTypes,
    observation: Observation,
    *,
    prefix: str,
    fixed_frame: str = "",
    T_fixed_camera: SE3 | None = None,
) -> Any:
    """tf2_msgs/TFMessage: parent -> object at the stamp of the image, of every object with a metric scale.

    Args:
        types: makes messages.
        observation: what was reconstructed.
        prefix: of the child frames.
        fixed_frame: parent; empty takes the camera's optical frame.
        T_fixed_camera: where the camera stood in `fixed_frame` at the stamp of the image.

    Raises:
        ValueError: a fixed frame without its transform, or the other way round (the caller's mistake: an absent
            transform means that nothing is published).
    """
    if bool(fixed_frame) != (T_fixed_camera is not None):
        raise ValueError("fixed_frame and T_fixed_camera go together")
    header = make_header(types, Stamped(observation.stamp_ns, fixed_frame or observation.frame_id))
    transforms = []
    for item in (item for item in observation.objects if item.is_metric):
        T_camera_object = item.T_camera_object
        T_parent_object = T_camera_object if T_fixed_camera is None else T_fixed_camera @ T_camera_object
        transform = types.make(
            "geometry_msgs/msg/Transform",
            translation=make_vector(types, T_parent_object.translation.numpy(), "Vector3"),
            rotation=make_quaternion(types, T_parent_object.quat_xyzw.numpy()),
        )
        child = object_frame(prefix, item.id)
        transforms.append(
            types.make(
                "geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=transform
            )
        )
    return types.make("tf2_msgs/msg/TFMessage", transforms=transforms)


def read_transform(message: Any) -> SE3:
    """T_parent_child of a geometry_msgs/TransformStamped, float64.

    Raises:
        InvalidTensorError: the rotation is zero or not finite.
    """
    q, t = message.transform.rotation, message.transform.translation
    quat = torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64)
    return SE3.from_quat_xyzw(quat, torch.tensor([t.x, t.y, t.z], dtype=torch.float64))
