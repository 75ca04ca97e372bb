"""The published layout of an asset data set, read into typed values.

Layout (TRELLIS, Xiang et al. 2024, with the UV latents of CUPID, arXiv 2510.20776):

    metadata.csv                                 one row per object
    voxels/SHA.ply                               centers of the occupied voxels
    renders_cond/SHA/transforms.json, *.png      views for conditioning
    latents/MODEL/SHA.npz                        structured latent: coords, feats
    ss_latents/MODEL/SHA.npz                     occupancy latent: mean
    suv_latents/MODEL/SHA.npz                    UV latent of every view and crop: VIEW_mean, VIEW_mean_cropRATIO

What `cupid data prepare` adds to it:

    surfaces/SHA.npz                             the normalized, z-up surface with its colors
    prepared/SHA.json                            what was made, from what, with which checksums
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.assets.ply import read_ply_points
from cupid_core.data.assets.surface import AssetSurface, read_surface
from cupid_core.errors import DatasetError, InvalidTensorError, UnreadableFileError
from cupid_core.geometry.se3 import SE3
from cupid_core.image.files import open_image
from cupid_core.image.foreground import RgbaImage

# As a share of a voxel.
_ON_BORDER = 1e-3


@dataclass(frozen=True)
class AssetRecord:
    """One row of metadata.csv.

    Attributes:
        sha256: name of the object.
        aesthetic_score: score of the publishers of the data set; NaN where there is none.
        num_voxels: occupied voxels; 0 where not counted.
        available: names of the columns that are "True", e.g. "voxelized" or "latent_MODEL".
    """

    sha256: str
    aesthetic_score: float
    num_voxels: int
    available: frozenset[str]


@dataclass(frozen=True, eq=False)
class AssetView:
    """One rendered view of an object, and its camera.

    Attributes:
        name: stem of the image file; names the view in the UV latents.
        image_path: RGBA image whose alpha is the object.
        T_camera_object: OpenCV pose.
        K_normalized: (3, 3) float32.
    """

    name: str
    image_path: Path
    T_camera_object: SE3
    K_normalized: Tensor

    def read_image(self) -> RgbaImage:
        """The image, (H, W, 4) uint8.

        Raises:
            DatasetError: no such file, no image, or no alpha channel.
        """
        try:
            with open_image(self.image_path) as image:
                mode, pixels = image.mode, np.asarray(image)
        except UnreadableFileError as error:
            raise DatasetError(error.problem, hint="Render this view again.") from error
        if mode != "RGBA":
            raise DatasetError(
                f"{self.image_path} is {mode}, expected RGBA.", hint="Render with a transparent background."
            )
        return pixels


@dataclass(frozen=True)
class AssetFolder:
    """The files of one object.

    Attributes:
        root: folder of the data set.
        sha256: name of the object.
    """

    root: Path
    sha256: str

    def voxels(self, resolution: int) -> Tensor:
        """Occupied voxels (N, 3) int32, 0 <= c < resolution.

        Raises:
            DatasetError: no file, damaged, no voxel, a point outside the canonical cube, or a file of fewer voxels
                per axis.
        """
        path = self.root / "voxels" / f"{self.sha256}.ply"
        # Single precision, as written, so that rounding gives the same voxel as when the file was made.
        points = torch.from_numpy(read_ply_points(path)).float()
        cells = (points + 0.5) * resolution
        coords = torch.floor(cells).int()
        if len(coords) == 0 or bool(((coords < 0) | (coords >= resolution)).any()):
            raise DatasetError(
                f"{path} holds {len(coords)} voxels, some outside 0..{resolution - 1} unless there are none.",
                hint="Voxelize the object inside [-0.5, 0.5]^3.",
            )
        # A center of a coarser grid lies on the border of finer voxels; one of a finer grid never does.
        if bool(((cells - cells.round()).abs() < _ON_BORDER).any()):
            raise DatasetError(
                f"{path} holds centers of fewer than {resolution} voxels per axis.",
                hint="Read it at its own resolution, or voxelize the object again.",
            )
        return coords

    def occupancy(self, resolution: int) -> Tensor:
        """The same as a grid (1, R, R, R) bool; arguments and errors as `voxels`."""
        coords = self.voxels(resolution).long()
        grid = torch.zeros(1, resolution, resolution, resolution, dtype=torch.bool)
        grid[0, coords[:, 0], coords[:, 1], coords[:, 2]] = True
        return grid

    def surface(self) -> AssetSurface:
        """The surface in the canonical frame, with its colors.

        Raises:
            DatasetError: no file, or damaged.
        """
        return read_surface(self.root / "surfaces" / f"{self.sha256}.npz")

    def views(self, kind: str = "renders_cond") -> tuple[AssetView, ...]:
        """All views of transforms.json.

        Args:
            kind: folder of the renders.

        Raises:
            DatasetError: no file, damaged, or an impossible camera.
        """
        folder = self.root / kind / self.sha256
        path = folder / "transforms.json"
        try:
            frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
            return tuple(_view(folder, frame) for frame in frames)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}.", hint="Render the object's views.") from error
        except (ValueError, KeyError, TypeError, InvalidTensorError) as error:
            raise DatasetError(
                f"{path} is damaged: {error!r}.", hint="Render the object's views again."
            ) from error

    def drawn_view(self, generator: np.random.Generator, kind: str = "renders_cond") -> AssetView:
        """One of the views at random.

        Raises:
            DatasetError: as `views`, or there is none.
        """
        views = self.views(kind)
        if not views:
            raise DatasetError(f"{self.root / kind / self.sha256} has no view.", hint="Render the object's views.")
        return views[int(generator.integers(len(views)))]

    def structured_latent(self, model: str) -> tuple[Tensor, Tensor]:
        """Voxels (N, 3) int32 and latents (N, C) float32, not normalized.

        Raises:
            DatasetError: no file, damaged, or rows do not fit.
        """
        path = self.root / "latents" / model / f"{self.sha256}.npz"
        arrays = _read_npz(path, ("coords", "feats"))
        coords, latent = torch.from_numpy(arrays["coords"].astype(np.int32)), _floats(arrays["feats"])
        if coords.dim() != 2 or coords.shape[1] != 3 or latent.dim() != 2 or len(latent) != len(coords):
            raise DatasetError(
                f"{path}: coords {tuple(coords.shape)} and feats {tuple(latent.shape)} do not fit.",
                hint="Encode the object again.",
            )
        return coords, latent

    def structure_latent(self, model: str) -> Tensor:
        """Occupancy latent (C, r, r, r) float32.

        Raises:
            DatasetError: no file, or damaged.
        """
        return _floats(_read_npz(self.root / "ss_latents" / model / f"{self.sha256}.npz", ("mean",))["mean"])

    def uv_latent(self, model: str, view: str, crop_ratio: float | None = None) -> Tensor:
        """UV latent (C, r, r, r) float32 of one view, of its whole image or of a crop at one ratio.

        Raises:
            DatasetError: no file, damaged, or this view or ratio is not in it.
        """
        name = f"{view}_mean" if crop_ratio is None else f"{view}_mean_crop{int(crop_ratio * 1e4)}"
        return _floats(_read_npz(self.root / "suv_latents" / model / f"{self.sha256}.npz", (name,))[name])


def read_metadata(root: Path) -> tuple[AssetRecord, ...]:
    """All rows of metadata.csv.

    Raises:
        DatasetError: no file, no column "sha256", or a value that is no number.
    """
    path = root / "metadata.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return tuple(_record(row) for row in csv.DictReader(file))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}.", hint="Give the folder of a data set.") from error
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{path} is damaged: {error!r}.", hint="Write metadata.csv again.") from error


def select(
    records: Iterable[AssetRecord],
    requires: Iterable[str] = (),
    min_aesthetic_score: float = -math.inf,
    max_voxels: int | None = None,
) -> tuple[AssetRecord, ...]:
    """Records that meet all requirements.

    Args:
        records: rows of metadata.csv.
        requires: columns that must be "True", e.g. ("voxelized", "cond_rendered").
        min_aesthetic_score: lowest score kept; a record without score is kept only for minus infinity.
        max_voxels: largest number of voxels kept.
    """
    needed = frozenset(requires)
    return tuple(
        record
        for record in records
        if needed <= record.available
        and (min_aesthetic_score == -math.inf or record.aesthetic_score >= min_aesthetic_score)
        and (max_voxels is None or record.num_voxels <= max_voxels)
    )


def _record(row: dict[str, str]) -> AssetRecord:
    return AssetRecord(
        sha256=row["sha256"],
        aesthetic_score=float(row.get("aesthetic_score") or math.nan),
        num_voxels=int(float(row.get("num_voxels") or 0)),
        available=frozenset(name for name, value in row.items() if value == "True"),
    )


def _view(folder: Path, frame: dict[str, Any]) -> AssetView:
    """Blender's camera to world (x right, y up, looking along -z) becomes an OpenCV pose."""
    T_object_camera = torch.tensor(frame["transform_matrix"], dtype=torch.float32)
    T_object_camera[:3, 1:3] *= -1
    focal = 0.5 / math.tan(float(frame["camera_angle_x"]) / 2)
    K_normalized = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    path = folder / frame["file_path"]
    return AssetView(path.stem, path, SE3.from_matrix(T_object_camera).inverse(), K_normalized)


def _read_npz(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except KeyError as error:
        raise DatasetError(f"{path}: {error}.", hint="Encode the object again with this view and crop.") from error
    except (OSError, ValueError, BadZipFile) as error:
        raise DatasetError(f"{path}: {error}.", hint="Encode the object again.") from error


def _floats(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
