"""Training samples of one object in one view.

Source: data sets of CUPID's released training (arXiv 2510.20776).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import AssetSampleConfig
from cupid_core.data.assets.layout import AssetFolder, AssetView
from cupid_core.data.assets.view_crop import ViewCrop, crop_view, draw_ratio
from cupid_core.errors import DatasetError
from cupid_core.geometry.grid import voxel_centers
from cupid_core.geometry.se3 import SE3
from cupid_core.image.crop import network_input

# A pose has 11 unknowns, 2 per voxel: with fewer voxels in the image the camera is undetermined.
_FEWEST_VOXELS = 6


@dataclass(frozen=True, eq=False)
class ViewSample:
    """The view of a sample.

    Attributes:
        image: (3, S, S) float32 in [0, 1], background black.
        mask: (1, S, S) float32, share of each pixel that the object covers.
        T_camera_object: OpenCV pose.
        K_normalized: (3, 3) float32 of the cropped view.
        crop: the square cut from the view, or None for the whole.
        crop_ratio: ratio of the crop, or None.
    """

    image: Tensor
    mask: Tensor
    T_camera_object: SE3
    K_normalized: Tensor
    crop: ViewCrop | None
    crop_ratio: float | None


@dataclass(frozen=True, eq=False)
class StructureSample:
    """Truth of stage 1.

    Attributes:
        view: image and camera.
        occupancy: (1, R, R, R) bool.
        flag: (1, R, R, R) bool, voxels whose uv counts.
        uv: (2, R, R, R) float32 in [0, 1], where every voxel center of the cube projects to, clamped.
    """

    view: ViewSample
    occupancy: Tensor
    flag: Tensor
    uv: Tensor


@dataclass(frozen=True, eq=False)
class AppearanceSample:
    """Truth of stage 2.

    Attributes:
        view: image and camera.
        coords: (N, 3) int32 voxels.
        latent: (N, C) float32, normalized if mean and deviation were given.
        uv: (N, 2) float32 in [0, 1], where the voxel centers project to, clamped.
    """

    view: ViewSample
    coords: Tensor
    latent: Tensor
    uv: Tensor


@dataclass(frozen=True, eq=False)
class LatentScale:
    """Channel mean (C,) and standard deviation (C,) of a latent, to normalize and denormalize it."""

    mean: Tensor
    std: Tensor

    def normalize(self, latent: Tensor) -> Tensor:
        """Latents (..., C) to zero mean and unit deviation; undone by `denormalize`."""
        return (latent - self.mean.to(latent)) / self.std.to(latent)

    def denormalize(self, latent: Tensor) -> Tensor:
        """Normalized latents (..., C) to latents as encoded; undone by `normalize`."""
        return latent * self.std.to(latent) + self.mean.to(latent)


def structure_sample(
    asset: AssetFolder,
    view: AssetView,
    config: AssetSampleConfig,
    generator: np.random.Generator | None = None,
) -> StructureSample:
    """Occupancy, dense UV and flag of an object in one view.

    Args:
        asset: files of the object.
        view: one of its views.
        config: resolution, image size, flag and crop.
        generator: source of the crop; its middle where None, for evaluation.

    Raises:
        DatasetError: a file is missing or damaged, the camera is inside the cube, or fewer than 6 voxels are
            visible.
        EmptyMaskError: nothing is visible in the view.
    """
    resolution = config.resolution
    occupancy = asset.occupancy(resolution)
    axis = torch.arange(resolution)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    uv = _project(grid, resolution, view)
    seen = _view_sample(view, config, generator)
    cropped = _cropped(uv, seen.crop)
    flag = _inside(cropped if config.flag == "crop" else uv, config.border)
    if config.flag == "occupied":
        flag = occupancy[0] & _inside(uv, 0.0, including_border=False)
        if int(flag.sum()) < _FEWEST_VOXELS:
            raise DatasetError(
                f"{asset.sha256}: {int(flag.sum())} voxels project into view {view.name}, expected at least "
                f"{_FEWEST_VOXELS}.",
                hint="Leave this view out.",
            )
    return StructureSample(seen, occupancy, flag[None], cropped.movedim(-1, 0).contiguous())


def appearance_sample(
    asset: AssetFolder,
    view: AssetView,
    config: AssetSampleConfig,
    latent_model: str,
    *,
    scale: LatentScale | None = None,
    generator: np.random.Generator | None = None,
) -> AppearanceSample:
    """Structured latent of an object and where its voxels lie in one view.

    Args:
        asset: files of the object.
        view: one of its views.
        config: resolution, image size and crop.
        latent_model: name of the latents' folder.
        scale: normalization; None leaves the latents as encoded.
        generator: as in `structure_sample`.

    Raises:
        DatasetError: a file is missing or damaged, or the camera is inside the cube.
        EmptyMaskError: nothing is visible in the view.
    """
    coords, latent = asset.structured_latent(latent_model)
    uv = _project(coords, config.resolution, view)
    seen = _view_sample(view, config, generator)
    normalized = latent if scale is None else scale.normalize(latent)
    return AppearanceSample(seen, coords, normalized, _cropped(uv, seen.crop))


def _view_sample(view: AssetView, config: AssetSampleConfig, generator: np.random.Generator | None) -> ViewSample:
    rgba, K = view.read_image(), view.K_normalized
    crop, ratio = None, None
    if config.crop is not None:
        ratio = draw_ratio(config.crop, generator)
        crop = crop_view(rgba, ratio, config.crop.beyond_border)
        rgba, K = crop.image(rgba), crop.intrinsics(K)
    # The mask is resized as the colors are: as the image of a white object.
    white = rgba.copy()
    white[..., :3] = 255
    image, mask = (network_input(pixels, config.image_size) for pixels in (rgba, white))
    return ViewSample(image, mask[:1], view.T_camera_object, K, crop, ratio)


def _project(coords: Tensor, resolution: int, view: AssetView) -> Tensor:
    """Normalized coordinates (..., 2) float32 of voxel centers (..., 3) in the whole view; not clamped."""
    centers = voxel_centers(coords.float(), resolution)
    seen = view.T_camera_object.apply(centers)
    if bool((seen[..., 2] <= 0).any()):
        raise DatasetError(
            f"The camera of {view.image_path} is inside or behind the object's cube.",
            hint="Render views from outside of it.",
        )
    return (seen @ view.K_normalized.T)[..., :2] / seen[..., 2:]


def _cropped(uv: Tensor, crop: ViewCrop | None) -> Tensor:
    """In the square, clamped to [0, 1]: first to the whole view, then to the square, as published."""
    clamped = uv.clamp(0.0, 1.0)
    return clamped if crop is None else crop.uv(clamped).clamp(0.0, 1.0)


def _inside(uv: Tensor, border: float, *, including_border: bool = True) -> Tensor:
    """Whether (...) both coordinates lie in [border, 1 - border]."""
    if including_border:
        return ((uv >= border) & (uv <= 1 - border)).all(dim=-1)
    return ((uv > border) & (uv < 1 - border)).all(dim=-1)
