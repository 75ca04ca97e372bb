"""Where the camera was in a fixed frame when an image was taken: asks TF, and never answers by an identity."""

from __future__ import annotations

from typing import Any

from rclpy.time import Time
from tf2_ros import TransformException

from cupid_core.errors import CupidError
from cupid_core.geometry.se3 import SE3
from cupid_ros.convert.header import Stamped
from cupid_ros.convert.transforms import read_transform
from cupid_ros.errors import MissingTransformError


def look_up_camera(buffer: Any, fixed_frame: str, stamped: Stamped) -> SE3:
    """T_fixed_camera at the stamp of an image; does not wait.

    Args:
        buffer: tf2_ros.Buffer, or anything else with its `lookup_transform`.
        fixed_frame: name of the parent.
        stamped: of the image.

    Raises:
        MissingTransformError: TF knows no way, or not at that time, or it is no rotation.
    """
    try:
        found = buffer.lookup_transform(fixed_frame, stamped.frame_id, Time(nanoseconds=stamped.stamp_ns))
        return read_transform(found)
    except (TransformException, CupidError) as error:
        raise MissingTransformError(
            f"No transform from '{stamped.frame_id}' to '{fixed_frame}' at {stamped.stamp_ns} ns: {error}",
            hint="Publish the camera on TF at the stamps of its images; the objects are on /cupid/objects.",
        ) from error
