"""The camera: pixel intrinsics, lens, image size, and how they follow the pixels through crop and resize.

Frame: OpenCV / ROS optical (x right, y down, z forward), metres or any unit of length. Two image coordinates live
here and nowhere else: pixels px with pixel centers at integers (OpenCV, ROS), and normalized uv = (px + 0.5) /
size in [0, 1] across the whole image (the networks).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.errors import InvalidCameraError, InvalidImageError, InvalidTensorError
from cupid_core.geometry.distortion import Distortion, Image, Interpolation


@dataclass(frozen=True, eq=False)
class Camera:
    """A calibrated camera.

    Attributes:
        K: (3, 3) float32 or float64, pixels, pixel centers at integers; skew allowed without distortion.
        width: image width in pixels.
        height: image height in pixels.
        distortion: lens, or None for a rectified image. Without distortion every method is plain torch on the
            device of its points and differentiable; with it OpenCV computes on the CPU, without gradients.

    Raises:
        InvalidCameraError: K is not finite or not upper triangular with positive focal lengths (ROS sends zeros
            for an uncalibrated camera), the size is not positive, or skew and distortion come together.
    """

    K: Tensor
    width: int
    height: int
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        _check_size(self.width, self.height)
        _check_intrinsics(self.K)
        if self.distortion is not None and float(self.K[0, 1]) != 0.0:
            raise InvalidCameraError(
                f"K has skew {float(self.K[0, 1]):g} beside lens distortion, which OpenCV does not define.",
                hint="Set K[0, 1] to zero or undistort the image first.",
            )

    @classmethod
    def from_parameters(
        cls,
        *,
        fx: float,
        fy: float,
        cx: float,
        cy: float,
        width: int,
        height: int,
        distortion: Distortion | None = None,
    ) -> Camera:
        """From focal lengths and principal point in pixels (centers at integers); K is float64.

        Raises:
            InvalidCameraError: as the constructor.
        """
        K = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], dtype=torch.float64)
        return cls(K, width, height, distortion)

    @classmethod
    def from_focal(cls, focal: float, width: int, height: int) -> Camera:
        """Square pixels, one focal length in pixels, principal point in the middle, no distortion.

        Raises:
            InvalidCameraError: as the constructor.
        """
        return cls.from_parameters(
            fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, width=width, height=height
        )

    @classmethod
    def from_normalized(
        cls, K_normalized: Tensor, width: int, height: int, distortion: Distortion | None = None
    ) -> Camera:
        """From normalized intrinsics (3, 3), which map camera points to uv in [0, 1]; undoes `K_normalized`.

        Raises:
            InvalidCameraError: as the constructor.
        """
        _check_size(width, height)
        size = K_normalized.new_tensor([[width], [height], [1.0]])
        return cls(K_normalized * size - _half_pixel(K_normalized), width, height, distortion)

    def K_normalized(self) -> Tensor:
        """Normalized intrinsics (3, 3): camera points to uv = (px + 0.5) / size. `from_normalized` undoes it."""
        return (self.K + _half_pixel(self.K)) / self.K.new_tensor([[self.width], [self.height], [1.0]])

    def px_to_uv(self, px: Tensor) -> Tensor:
        """Pixels (..., 2), centers at integers, to normalized coordinates (..., 2); undone by `uv_to_px`."""
        return (px + 0.5) / px.new_tensor([self.width, self.height])

    def uv_to_px(self, uv: Tensor) -> Tensor:
        """Normalized coordinates (..., 2) to pixels (..., 2), centers at integers; undone by `px_to_uv`."""
        return uv * uv.new_tensor([self.width, self.height]) - 0.5

    def project(self, points_camera: Tensor) -> Tensor:
        """Image points in the camera.

        Args:
            points_camera: (..., 3) in the camera frame.

        Returns:
            (..., 2) pixels, inside or outside the image. NaN, meaning absent, for points on or behind the camera
            plane (z <= 0), for NaN points, and for points outside the range of the lens model.

        Raises:
            InvalidTensorError: last dimension is not 3; points with a gradient and a camera with lens distortion.
        """
        _check_last(points_camera, 3, "Camera.project")
        z = points_camera[..., 2:]
        front = (z > 0) & points_camera.isfinite().all(dim=-1, keepdim=True)
        # Two wheres: the first keeps the division harmless for the gradient, the second marks absence.
        xy = points_camera[..., :2] / torch.where(front, z, torch.ones_like(z))
        xy = torch.where(front, xy, torch.nan)
        if self.lens is not None:
            xy = self.lens.distort(xy)
        K = self.K.to(xy)
        u = K[0, 0] * xy[..., 0] + K[0, 1] * xy[..., 1] + K[0, 2]
        return torch.stack((u, K[1, 1] * xy[..., 1] + K[1, 2]), dim=-1)

    def unproject(self, px: Tensor, depth: Tensor) -> Tensor:
        """Points at pixels and depths; the inverse of `project`.

        Args:
            px: (..., 2) pixels, centers at integers.
            depth: (...) camera z (not the length of the ray), broadcasting.

        Returns:
            (..., 3) in the camera frame, unit of `depth`. NaN where depth is not positive and finite, and where no
            ray of the lens leads to the pixel.

        Raises:
            InvalidTensorError: last dimension of px is not 2; points with a gradient and a camera with lens
                distortion.
        """
        ray = self._ray(px)
        return ray * torch.where((depth > 0) & depth.isfinite(), depth, torch.nan)[..., None]

    def rays(self) -> Tensor:
        """Directions with z = 1 through all pixel centers, (height, width, 3); times depth they are points.

        NaN where no ray of the lens leads to the pixel.
        """
        columns = torch.arange(self.width, dtype=self.K.dtype, device=self.K.device)
        rows = torch.arange(self.height, dtype=self.K.dtype, device=self.K.device)
        return self._ray(torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1))

    def crop(self, x0: float, y0: float, width: int, height: int) -> Camera:
        """The camera of a box cut from the image; the box may reach beyond the border.

        Args:
            x0: pixel column that becomes column 0, may be negative.
            y0: pixel row that becomes row 0, may be negative.
            width: width of the box in pixels.
            height: height of the box in pixels.

        Raises:
            InvalidCameraError: the box has no pixels.
        """
        _check_size(width, height)
        shift = self.K.new_tensor([[0.0, 0.0, x0], [0.0, 0.0, y0], [0.0, 0.0, 0.0]])
        return replace(self, K=self.K - shift, width=width, height=height)

    def window(self, region: tuple[int, int, int, int], binning: tuple[int, int]) -> Camera:
        """The camera of the image that a sensor sends of a region of interest, with binning.

        Args:
            region: x offset, y offset, width, height in pixels of the whole sensor; all zero for the whole.
            binning: pixels that become one, in x and in y; 0 is 1.

        Raises:
            InvalidCameraError: the region is not inside the sensor, or binning leaves nothing of it.

        Source: sensor_msgs/CameraInfo.
        """
        x, y, width, height = region if any(region) else (0, 0, self.width, self.height)
        if min(x, y) < 0 or min(width, height) < 1 or x + width > self.width or y + height > self.height:
            raise InvalidCameraError(
                f"The region of interest {width} x {height} at ({x}, {y}) is not inside {self.width} x "
                f"{self.height}.",
                hint="Set all four to 0 for the whole image.",
            )
        bin_x, bin_y = binning[0] or 1, binning[1] or 1
        if min(bin_x, bin_y) < 1 or bin_x > width or bin_y > height:
            raise InvalidCameraError(
                f"Binning {bin_x} x {bin_y} leaves nothing of {width} x {height}.",
                hint="Set binning to 1 if there is none.",
            )
        # Pixels of an incomplete last bin are dropped, so the image is cut to whole bins before it is scaled.
        columns, rows = width // bin_x, height // bin_y
        cut = self.crop(x, y, columns * bin_x, rows * bin_y)
        return cut if bin_x == bin_y == 1 else cut.resize(columns, rows)

    def resize(self, width: int, height: int) -> Camera:
        """The camera of the image scaled to another size; borders stay in place, so pixel centers shift.

        Raises:
            InvalidCameraError: the size is not positive.
        """
        _check_size(width, height)
        # Normalized intrinsics refer to the whole image as [0, 1], so they do not change.
        return Camera.from_normalized(self.K_normalized(), width, height, self.distortion)

    def undistort(self, image: Image, interpolation: Interpolation = "linear") -> tuple[Image, Camera]:
        """Remove the lens from an image.

        Args:
            image: (height, width) or (height, width, C), C <= 4; uint8, uint16, int16, float32 or float64.
            interpolation: "nearest" for masks, labels and depth.

        Returns:
            The image of the pinhole camera with the same K (zero outside the view of the lens), and that camera.

        Raises:
            InvalidImageError: the image has another size than the camera, or a type that cannot be resampled.
        """
        if image.shape[:2] != (self.height, self.width) or image.ndim not in (2, 3) or image.shape[2:] > (4,):
            raise InvalidImageError(
                f"The image has shape {image.shape}, the camera is {self.height} x {self.width} (height, width).",
                hint="Give the image the CameraInfo belongs to, or resize the camera with it.",
            )
        if image.dtype.name not in ("uint8", "uint16", "int16", "float32", "float64"):
            raise InvalidImageError(
                f"Images of type {image.dtype} cannot be resampled.",
                hint="Convert masks to uint8, numbers to float32.",
            )
        pinhole = replace(self, distortion=None)
        if self.lens is None:
            return image, pinhole
        return self.lens.rectify(image, self.K.detach().double().cpu().numpy(), interpolation), pinhole

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Camera:
        """The same camera with K in another type or on another device; what is None stays."""
        return replace(self, K=self.K.to(dtype=dtype or self.K.dtype, device=device or self.K.device))

    @property
    def lens(self) -> Distortion | None:
        """The distortion that has an effect: None for a plumb_bob of zeros, as rectified images carry it."""
        return None if self.distortion is None or self.distortion.is_identity else self.distortion

    def _ray(self, px: Tensor) -> Tensor:
        """Directions (..., 3) with z = 1 through pixels (..., 2); all NaN where there is none."""
        _check_last(px, 2, "Camera.unproject")
        K = self.K.to(px)
        y = (px[..., 1] - K[1, 2]) / K[1, 1]
        xy = torch.stack(((px[..., 0] - K[0, 2] - K[0, 1] * y) / K[0, 0], y), dim=-1)
        if self.lens is not None:
            xy = self.lens.undistort(xy)
        known = xy.isfinite().all(dim=-1, keepdim=True)
        return torch.where(known, torch.cat((xy, torch.ones_like(xy[..., :1])), dim=-1), torch.nan)


def _half_pixel(like: Tensor) -> Tensor:
    """What moves the origin from the center of the first pixel to the corner of the image, (3, 3)."""
    return like.new_tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])


def _check_last(tensor: Tensor, size: int, name: str) -> None:
    if tensor.shape[-1:] != (size,) or not tensor.is_floating_point():
        raise InvalidTensorError(
            f"{name} got shape {tuple(tensor.shape)} and type {tensor.dtype}, expected (..., {size}) floating.",
            hint="Put the coordinates in the last dimension, as float32 or float64.",
        )


def _check_size(width: int, height: int) -> None:
    try:
        positive = operator.index(width) > 0 and operator.index(height) > 0
    except TypeError:
        positive = False
    if not positive:
        raise InvalidCameraError(
            f"Image size {width} x {height} (width, height) is not two positive whole numbers.",
            hint="Give the size of the image that K belongs to.",
        )


def _check_intrinsics(K: Tensor) -> None:
    if K.shape != (3, 3) or K.dtype not in (torch.float32, torch.float64):
        raise InvalidCameraError(
            f"K has shape {tuple(K.shape)} and type {K.dtype}, expected (3, 3) float32 or float64.",
            hint="Reshape CameraInfo.k to 3 x 3.",
        )
    rows = K.detach().cpu().tolist()
    if not any(value for row in rows for value in row):
        raise InvalidCameraError(
            "K is all zero: ROS's mark of an uncalibrated camera.", hint="Calibrate the camera."
        )
    upper = rows[1][0] == 0.0 and rows[2] == [0.0, 0.0, 1.0]
    if not bool(K.detach().isfinite().all()) or not upper or not (rows[0][0] > 0.0 and rows[1][1] > 0.0):
        raise InvalidCameraError(
            f"K = {rows} is no intrinsic matrix.",
            hint="Expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] in pixels, finite, fx and fy positive.",
        )
