"""Depth images to metric depth; knows encodings and units of ROS, not what depth is used for."""

from __future__ import annotations

from cupid_core.geometry.pointmap import depth_to_metres
from cupid_core.types import DepthMap, ScaleSource
from cupid_ros.convert.image import Pixels, read_depth_values


def read_depth(pixels: Pixels, *, scale_std: float) -> DepthMap:
    """Depth of a sensor.

    Args:
        pixels: 16UC1 in millimetres or 32FC1 in metres; 0, NaN, infinite and negative are holes.
        scale_std: relative standard deviation of all depths together.

    Raises:
        UnsupportedEncodingError: another encoding.
        InvalidDepthError: not one valid pixel.
    """
    depth_m, _ = depth_to_metres(read_depth_values(pixels))
    return DepthMap(depth_m.float(), ScaleSource.SENSOR, scale_std)
