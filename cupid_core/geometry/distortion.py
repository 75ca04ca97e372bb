"""Lens distortion as ROS CameraInfo names it; OpenCV does the mathematics.

The only file of `geometry` that uses OpenCV. It works on the plane z = 1 in front of the camera, so focal lengths
and image sizes are needed only to resample an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.errors import InvalidCameraError, InvalidTensorError

Image: TypeAlias = NDArray[Any]
Interpolation = Literal["linear", "nearest"]

# ROS CameraInfo: plumb_bob k1 k2 p1 p2 [k3], rational_polynomial k1 k2 p1 p2 k3 k4 k5 k6, equidistant k1 k2 k3 k4.
# OpenCV's rational model goes on with s1 s2 s3 s4 (thin prism) and tau_x tau_y (tilted sensor).
_COUNTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (5, 4),
    "rational_polynomial": (8, 12, 14, 5, 4),
    "equidistant": (4,),
}
# Far below a thousandth of a pixel at any focal length; by default OpenCV stops after five rounds.
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 500, 1e-13)
# A ray that does not project back to its pixel within this (plane z = 1; 0.1 px at f = 1000 px) is not its ray.
_ROUND_TRIP_LIMIT = 1e-4


@dataclass(frozen=True)
class Distortion:
    """Distortion of a lens.

    Attributes:
        model: ROS name of the model.
        coefficients: in OpenCV's and ROS's order; plumb_bob 4 or 5, rational_polynomial 8, 12 (with thin prism) or
            14 (with a tilted sensor), equidistant 4. Zeros behind them, with which drivers fill up a longer array,
            are left out.

    Points that the model cannot image (beyond the angle where its polynomial folds back, or where no ray leads to
    the pixel) come back as NaN, which means "absent" everywhere in this package. Computed in float64 on the CPU;
    not differentiable.

    Raises:
        InvalidCameraError: unknown model, wrong number of coefficients, or a coefficient that is not finite.

    Source: ROS REP 104 and sensor_msgs/CameraInfo; OpenCV calib3d (Brown-Conrady, rational) and fisheye
    (Kannala and Brandt 2006).
    """

    model: Literal["plumb_bob", "rational_polynomial", "equidistant"]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in _COUNTS:
            raise InvalidCameraError(
                f"Distortion model '{self.model}' is unknown.", hint=f"Use one of: {', '.join(_COUNTS)}."
            )
        fitting = _without_padding(self.coefficients, _COUNTS[self.model])
        object.__setattr__(self, "coefficients", fitting)
        if len(fitting) not in _COUNTS[self.model]:
            raise InvalidCameraError(
                f"Distortion model '{self.model}' got {len(self.coefficients)} coefficients, "
                f"expected {' or '.join(map(str, _COUNTS[self.model]))}.",
                hint="Give them in the order of CameraInfo.d, or no distortion at all for a rectified image.",
            )
        if not all(math.isfinite(value) for value in self.coefficients):
            raise InvalidCameraError(
                f"Distortion coefficients {self.coefficients} are not all finite.",
                hint="Calibrate the camera again.",
            )

    @property
    def is_identity(self) -> bool:
        """Whether the lens is a perfect pinhole; drivers send plumb_bob with zeros for rectified images."""
        return self.model != "equidistant" and not any(self.coefficients)

    @property
    def max_radius(self) -> float:
        """Distance from the axis, on the plane z = 1, up to which the model is one to one; may be infinite.

        Of its radial part: what decentering, thin prism and tilt add is small.
        """
        k = self.coefficients
        if self.model == "equidistant":
            # Derivative of theta (1 + k1 theta^2 + k2 theta^4 + ...), in theta^2.
            fold = _smallest_positive_root(Polynomial([1.0, *(c * (2 * i + 3) for i, c in enumerate(k))]))
            return math.tan(math.sqrt(fold)) if fold < (math.pi / 2) ** 2 else math.inf
        third = k[4] if len(k) > 4 else 0.0
        squared = Polynomial([0.0, 1.0])
        above = Polynomial([1.0, k[0], k[1], third])
        below = Polynomial([1.0, *k[5:8]])
        slope = (above + 2.0 * squared * above.deriv()) * below - 2.0 * squared * above * below.deriv()
        return math.sqrt(min(_smallest_positive_root(slope), _smallest_positive_root(below)))

    def distort(self, xy: Tensor) -> Tensor:
        """Where rays land through the lens.

        Args:
            xy: (..., 2) points x/z, y/z of the ideal pinhole camera.

        Returns:
            (..., 2) distorted points on the plane z = 1; NaN beyond `max_radius`.

        Raises:
            InvalidTensorError: the points carry a gradient.
        """
        points = _to_numpy(xy)
        seen = self._in_range(points)
        return _to_tensor(self._fill(points, seen, self._distort), xy)

    def undistort(self, xy: Tensor) -> Tensor:
        """Inverse of `distort`.

        Args:
            xy: (..., 2) distorted points on the plane z = 1.

        Returns:
            (..., 2) points x/z, y/z of the ideal pinhole camera; NaN where no ray leads.

        Raises:
            InvalidTensorError: the points carry a gradient.
        """
        points = _to_numpy(xy)
        finite = np.asarray(np.isfinite(points).all(-1), dtype=np.bool_)
        ideal = self._fill(points, finite, self._undistort)
        back = self._fill(ideal, self._in_range(ideal), self._distort)
        # Comparing with NaN is False, so what was out of range stays absent.
        ideal[~(np.abs(back - points) < _ROUND_TRIP_LIMIT).all(-1)] = np.nan
        return _to_tensor(ideal, xy)

    def rectify(self, image: Image, K: NDArray[np.float64], interpolation: Interpolation) -> Image:
        """Resample an image (H, W) or (H, W, C) as a pinhole camera of the same pixel K would have taken it.

        Pixels outside the view of the lens become zero.
        """
        height, width = image.shape[:2]
        coefficients = np.asarray(self.coefficients, dtype=np.float64)
        module = cv2.fisheye if self.model == "equidistant" else cv2
        map_x, map_y = module.initUndistortRectifyMap(K, coefficients, np.eye(3), K, (width, height), cv2.CV_32FC1)
        flag = cv2.INTER_LINEAR if interpolation == "linear" else cv2.INTER_NEAREST
        rectified: Image = cv2.remap(image, map_x, map_y, flag, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return rectified.reshape(image.shape)

    def _in_range(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (N, 2) are finite and inside `max_radius`; (N,)."""
        radius = np.linalg.norm(points, axis=-1)
        return np.asarray(np.isfinite(radius) & (radius < self.max_radius), dtype=np.bool_)

    def _fill(self, points: NDArray[np.float64], chosen: NDArray[np.bool_], function: Any) -> NDArray[np.float64]:
        """Apply an OpenCV function to the chosen points; the others become NaN."""
        result = np.full_like(points, np.nan)
        if chosen.any():
            result[chosen] = function(points[chosen][:, None, :]).reshape(-1, 2)
        return result

    def _distort(self, points: NDArray[np.float64]) -> Image:
        coefficients = np.asarray(self.coefficients, dtype=np.float64)
        if self.model == "equidistant":
            return np.asarray(cv2.fisheye.distortPoints(points, np.eye(3), coefficients))
        rays = np.concatenate((points, np.ones_like(points[..., :1])), axis=-1)
        return np.asarray(cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[0])

    def _undistort(self, points: NDArray[np.float64]) -> Image:
        coefficients = np.asarray(self.coefficients, dtype=np.float64)
        identity = np.eye(3)
        if self.model == "equidistant":
            return np.asarray(cv2.fisheye.undistortPoints(points, identity, coefficients, criteria=_CRITERIA))
        # OpenCV 4 has a function of its own for explicit criteria, OpenCV 5 merged the two.
        if hasattr(cv2, "undistortPointsIter"):
            return np.asarray(
                cv2.undistortPointsIter(points, identity, coefficients, identity, identity, _CRITERIA)
            )
        return np.asarray(cv2.undistortPoints(points, identity, coefficients, criteria=_CRITERIA))


def _without_padding(coefficients: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, ...]:
    """The coefficients without zeros behind the longest count that all others fit in."""
    if len(coefficients) in counts:
        return coefficients
    shorter = [count for count in sorted(counts, reverse=True) if count < len(coefficients)]
    return next((coefficients[:count] for count in shorter if not any(coefficients[count:])), coefficients)


def _smallest_positive_root(polynomial: Polynomial) -> float:
    """Smallest positive real root, infinity where there is none."""
    coefficients = np.trim_zeros(np.asarray(polynomial.coef), "b")
    roots = Polynomial(coefficients).roots() if len(coefficients) > 1 else np.zeros(0)
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1.0 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if real.size else math.inf


def _to_numpy(xy: Tensor) -> NDArray[np.float64]:
    if xy.requires_grad:
        raise InvalidTensorError(
            "Points that carry a gradient cannot pass through lens distortion.",
            hint="Undistort the image (or the points) first and use the pinhole camera, or detach the points.",
        )
    return xy.detach().reshape(-1, 2).cpu().numpy().astype(np.float64)


def _to_tensor(points: NDArray[np.float64], like: Tensor) -> Tensor:
    return torch.from_numpy(points).reshape(like.shape).to(like)
