"""Frozen values that travel between rooms; knows tensors and frames, not how anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cupid_core.errors import InvalidDepthError, InvalidTensorError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3

if TYPE_CHECKING:
    import trimesh


@dataclass(frozen=True, eq=False)
class Texture:
    """The image that a mesh takes its colors from.

    Attributes:
        corner_uv: (F, 3, 2) floating in [0, 1], where the three corners of each face lie in the image: u right,
            v **down** from its top-left corner, as glTF has it.
        image: (H, W, 3) uint8 sRGB.
    """

    corner_uv: Tensor
    image: Tensor

    def __post_init__(self) -> None:
        """Check shapes and types.

        Raises:
            InvalidTensorError: a shape or type is not the documented one.
        """
        if self.corner_uv.shape[1:] != (3, 2) or not self.corner_uv.is_floating_point():
            raise InvalidTensorError(
                f"Texture.corner_uv is {tuple(self.corner_uv.shape)} {self.corner_uv.dtype}.",
                hint="Expected (F, 3, 2) floating.",
            )
        if self.image.dim() != 3 or self.image.shape[2] != 3 or self.image.dtype != torch.uint8:
            raise InvalidTensorError(
                f"Texture.image is {tuple(self.image.shape)} {self.image.dtype}.", hint="Expected (H, W, 3) uint8."
            )

    def to(self, device: torch.device | str) -> Texture:
        """The same texture on another device."""
        return Texture(self.corner_uv.to(device), self.image.to(device))


@dataclass(frozen=True, eq=False)
class TriangleMesh:
    """Triangles in the object's canonical frame.

    Attributes:
        vertices: (V, 3) floating, object frame: z up, canonical cube [-0.5, 0.5]^3 before metric scaling.
        faces: (F, 3) int64 indices into `vertices`, counter-clockwise seen from outside.
        colors: (V, 3) floating sRGB in [0, 1], the values of photographs and screens, not linear light; None where
            the source has no color.
        normals: (V, 3) floating unit outward vertex normals in the object frame, or None where not computed.
        texture: finer colors than those of the vertices; None where there is none. GLB and OBJ files have it, all
            other formats and messages have the vertex colors.
    """

    vertices: Tensor
    faces: Tensor
    colors: Tensor | None = None
    normals: Tensor | None = None
    texture: Texture | None = None

    def __post_init__(self) -> None:
        """Check shapes and types.

        Raises:
            InvalidTensorError: a shape or type is not the documented one.
        """
        count = self.vertices.shape[0] if self.vertices.dim() else 0
        for name in ("vertices", "colors", "normals"):
            value = getattr(self, name)
            if value is not None and (value.shape != (count, 3) or not value.is_floating_point()):
                raise InvalidTensorError(
                    f"TriangleMesh.{name} is {tuple(value.shape)} {value.dtype}, expected (V, 3) floating with "
                    f"V = {count}.",
                    hint="Give one row of three floating numbers per vertex.",
                )
        if self.faces.dim() != 2 or self.faces.shape[1] != 3 or self.faces.dtype != torch.int64:
            raise InvalidTensorError(
                f"TriangleMesh.faces is {tuple(self.faces.shape)} {self.faces.dtype}, expected (F, 3) int64.",
                hint="Give three vertex indices per face as int64.",
            )
        if self.texture is not None and len(self.texture.corner_uv) != len(self.faces):
            raise InvalidTensorError(
                f"The texture has coordinates of {len(self.texture.corner_uv)} faces, the mesh {len(self.faces)}.",
                hint="Give three coordinates per face.",
            )

    def to(self, device: torch.device | str) -> TriangleMesh:
        """The same mesh on another device."""
        return replace(
            self,
            vertices=self.vertices.to(device),
            faces=self.faces.to(device),
            colors=None if self.colors is None else self.colors.to(device),
            normals=None if self.normals is None else self.normals.to(device),
            texture=None if self.texture is None else self.texture.to(device),
        )

    def export(self, path: str | Path) -> Path:
        """Write the mesh to a file: .glb (y up), .ply, .obj, .stl, or .urdf with convex parts, mass and inertia.

        Returns:
            The path.

        Raises:
            InputError: another suffix.
            OutputError: the file cannot be written.
            OpenMeshError: of .urdf: the mesh is not closed.
        """
        from cupid_core.mesh.export import export_mesh

        return export_mesh(self, Path(path))

    def to_trimesh(self) -> trimesh.Trimesh:
        """A copy as `trimesh.Trimesh`, same frame and unit."""
        from cupid_core.mesh.convert import to_trimesh

        return to_trimesh(self)

    def to_open3d(self) -> Any:
        """A copy as `open3d.geometry.TriangleMesh`, same frame and unit.

        Raises:
            MissingPackageError: open3d cannot be loaded.
        """
        from cupid_core.mesh.convert import to_open3d

        return to_open3d(self)

    def __repr__(self) -> str:
        """One line."""
        colors = "" if self.colors is None else ", colors"
        colors += "" if self.texture is None else ", texture"
        return f"TriangleMesh({len(self.vertices)} vertices, {len(self.faces)} triangles{colors})"

    def transformed(self, S_a_b: Sim3) -> TriangleMesh:
        """The same mesh, given in frame b, in frame a.

        Args:
            S_a_b: one similarity (no batch); rotates normals, rotates, scales and moves vertices.
        """
        normals = None if self.normals is None else self.normals @ S_a_b.rotation().mT
        return replace(self, vertices=S_a_b.apply(self.vertices), normals=normals)


class ScaleSource(str, Enum):
    """Where the metric scale of an object comes from, best first."""

    SENSOR = "depth_sensor"
    MODEL = "depth_model"
    KNOWN_SIZE = "known_size"
    UNKNOWN = "unknown"


class CameraSource(str, Enum):
    """Where the camera of an image comes from."""

    GIVEN = "given"
    EXIF = "exif"
    DEPTH_MODEL = "depth_model"
    ESTIMATED = "estimated"


class Verdict(str, Enum):
    """What a robot should make of a reconstruction."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class DepthMap:
    """Metric depth of every pixel of an image.

    Attributes:
        depth_m: (H, W) float32 camera z in metres, NaN where there is no measurement.
        source: SENSOR or MODEL.
        scale_std: relative standard deviation of all depths together, the part that no averaging removes.
        camera: the camera that a model of depth estimated along with it; None where it estimates none.
    """

    depth_m: Tensor
    source: ScaleSource
    scale_std: float = 0.0
    camera: Camera | None = None

    def __post_init__(self) -> None:
        """Check shape and type.

        Raises:
            InvalidDepthError: not (H, W) float32, or no pixel is measured.
        """
        if self.depth_m.dim() != 2 or self.depth_m.dtype != torch.float32:
            raise InvalidDepthError(
                f"Depth has shape {tuple(self.depth_m.shape)} and type {self.depth_m.dtype}.",
                hint="Expected (H, W) float32 in metres; `geometry.depth_to_metres` reads what sensors deliver.",
            )
        if not bool(self.depth_m.isfinite().any()):
            raise InvalidDepthError(
                "The depth image has not one valid pixel.", hint="Check range and alignment of the sensor."
            )


@dataclass(frozen=True)
class Quality:
    """How well a reconstruction agrees with what was seen.

    Attributes:
        silhouette_iou: of the re-rendered mesh with the mask, where nothing else hides the object.
        color_psnr_db: of the re-rendered generated colors inside both silhouettes; None without a mesh or colors.
        reprojection_rms_px: of the pairs behind the pose, pixels of the whole image.
        inlier_ratio: of these pairs.
        depth_residual_m: median absolute difference of rendered and measured depth; None without depth.
        verdict: what to make of it.
        reasons: why it is not good; empty where it is.
        p_good: probability that rotation and surface are right, by the calibration of the checkpoint
            (`scene.certainty`); None without one, and for single hypotheses.
    """

    silhouette_iou: float
    color_psnr_db: float | None
    reprojection_rms_px: float
    inlier_ratio: float
    depth_residual_m: float | None = None
    verdict: Verdict = Verdict.GOOD
    reasons: tuple[str, ...] = ()
    p_good: float | None = None
