"""sensor_msgs/CameraInfo to a camera and back, with binning and regions of interest."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from cupid_core.errors import InvalidCameraError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.serving.frames import Stamped
from cupid_ros.convert.header import make_header
from cupid_ros.messages import MessageTypes

# Pixels; far above any sensor.
_MAX_SIZE = 1_000_000


def read_camera(message: Any, *, rectified: bool = False) -> Camera:
    """The camera of the image that a CameraInfo comes with.

    CameraInfo describes the whole sensor at full resolution; a region of interest and binning make the image
    smaller, and the camera follows the pixels.

    Args:
        message: sensor_msgs/CameraInfo.
        rectified: the image is the rectified one: P counts instead of K, and there is no distortion.

    Raises:
        InvalidCameraError: all zero (ROS's mark of an uncalibrated camera), not finite, an unknown distortion
            model, or a region outside the sensor.
    """
    width, height = int(message.width), int(message.height)
    if not (0 < width <= _MAX_SIZE and 0 < height <= _MAX_SIZE):
        raise InvalidCameraError(f"CameraInfo has size {width} x {height}.", hint="Calibrate the camera.")
    if rectified:
        p = _numbers(message.p, 12, "p")
        camera = Camera.from_parameters(fx=p[0], fy=p[5], cx=p[2], cy=p[6], width=width, height=height)
    else:
        k = _numbers(message.k, 9, "k")
        if any(k) and (k[1], k[3], *k[6:]) != (0.0, 0.0, 0.0, 0.0, 1.0):
            raise InvalidCameraError(f"K = {k} is not a K without skew.", hint="Send fx 0 cx, 0 fy cy, 0 0 1.")
        camera = Camera.from_parameters(
            fx=k[0], fy=k[4], cx=k[2], cy=k[5], width=width, height=height, distortion=_lens(message)
        )
    x, y, across, down = (int(getattr(message.roi, name)) for name in ("x_offset", "y_offset", "width", "height"))
    return camera.window((x, y, across, down), (int(message.binning_x), int(message.binning_y)))


def make_camera_info(types: MessageTypes, camera: Camera, stamped: Stamped) -> Any:
    """sensor_msgs/CameraInfo of a camera; the inverse of `read_camera`."""
    k = camera.K.detach().double().cpu().numpy()
    lens = camera.distortion
    return types.make(
        "sensor_msgs/msg/CameraInfo",
        header=make_header(types, stamped),
        width=camera.width,
        height=camera.height,
        distortion_model="plumb_bob" if lens is None else lens.model,
        d=np.zeros(5) if lens is None else np.asarray(lens.coefficients),
        k=k.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(12),
    )


def _lens(message: Any) -> Distortion | None:
    model = str(message.distortion_model)
    coefficients = tuple(float(value) for value in message.d)
    # Drivers of undistorted streams send zeros with any model name, or with none.
    if not any(coefficients) and model != "equidistant":
        return None
    return Distortion(cast("Any", model or "plumb_bob"), coefficients)


def _numbers(values: Any, count: int, name: str) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count:
        raise InvalidCameraError(f"'{name}' has {len(numbers)} numbers.", hint=f"Send {count}.")
    return numbers
