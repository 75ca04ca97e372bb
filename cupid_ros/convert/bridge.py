"""Encodings that only cv_bridge decodes (Bayer patterns, YUV), where it is installed."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_ros.errors import UnsupportedEncodingError


def decode_by_cv_bridge(message: Any) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB of a sensor_msgs/Image; None where cv_bridge is not installed.

    Raises:
        UnsupportedEncodingError: cv_bridge does not know the encoding, or the message contradicts itself.
    """
    bridge = _bridge()
    if bridge is None:
        return None
    try:
        rgb = np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:
        raise UnsupportedEncodingError(
            f"cv_bridge cannot decode '{str(message.encoding)[:40]}': {str(error)[:200]}.",
            hint="Publish rgb8 or bgr8.",
        ) from error
    return np.ascontiguousarray(rgb, dtype=np.uint8)


@cache
def _bridge() -> Any | None:
    try:
        return importlib.import_module("cv_bridge").CvBridge()
    except (ImportError, AttributeError):
        return None
