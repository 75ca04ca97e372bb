"""Renders triangle meshes by ray casting on the CPU (open3d): depth, silhouette, colors, normals.

For measuring and for pictures, not for training: nothing here is differentiable. One ray goes through the center
of every pixel of the box that the mesh covers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cupid_core.errors import EmptyMeshError, InputError, InvalidTensorError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import box_of
from cupid_core.geometry.se3 import SE3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.packages import open3d
from cupid_core.types import Texture, TriangleMesh

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Pose = SE3 | Sim3

# Rays that are cast at a time; bounds the working memory for large images.
_CHUNK_RAYS = 1 << 18


@dataclass(frozen=True, eq=False)
class Rendering:
    """One mesh rendered by a camera.

    Attributes:
        depth: (H, W) float32 camera z in the unit of the pose's translation, NaN where no mesh is.
        mask: (H, W) bool, the silhouette.
        colors: (H, W, 3) float32 sRGB, unlit: of the texture, or of the vertices where the mesh has none; NaN
            where nothing is seen. None for a mesh without colors.
        normals: (H, W, 3) float32 unit normals in the camera frame, of the mesh's vertices where it has normals,
            else of its triangles; they face the camera unless a surface is seen from behind. NaN where nothing is
            seen.
        box: (x0, y0, x1, y1) pixels, end exclusive, outside of which no mesh can be; zeros where it is empty.
    """

    depth: Floats
    mask: Mask
    colors: Floats | None
    normals: Floats
    box: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class SceneRendering:
    """Several meshes rendered together, the nearest in front.

    Attributes:
        labels: (H, W) int32, 0 where no mesh is, else 1 + the index of the mesh.
        depth: (H, W) float32 camera z, NaN where no mesh is.
        mask: (H, W) bool, labels > 0.
        colors: (H, W, 3) float32; NaN where no mesh is or the mesh has no colors; None where none has.
        normals: (H, W, 3) float32, as in `Rendering`.
    """

    labels: npt.NDArray[np.int32]
    depth: Floats
    mask: Mask
    colors: Floats | None
    normals: Floats


class MeshCaster:
    """A mesh that is rendered at many poses: its search tree is built once.

    Args:
        mesh: any frame and unit.

    Raises:
        EmptyMeshError: it has no triangle.
        InvalidTensorError: a vertex is not finite, or a face names a vertex that does not exist.
        MissingPackageError: open3d cannot be loaded.
    """

    def __init__(self, mesh: TriangleMesh) -> None:
        _check(mesh)
        self.vertices = _array(mesh.vertices)
        self.faces = mesh.faces.detach().cpu().numpy()
        self.colors = None if mesh.colors is None else _array(mesh.colors)
        self.normals = None if mesh.normals is None else _array(mesh.normals)
        self.texture = mesh.texture
        self._library = open3d()
        self._scene = self._library.t.geometry.RaycastingScene(nthreads=1)
        triangles = self._library.core.Tensor(np.ascontiguousarray(self.faces, dtype=np.uint32))
        self._scene.add_triangles(self._library.core.Tensor(self.vertices), triangles)

    def with_attributes_of(self, mesh: TriangleMesh) -> MeshCaster:
        """The same surface and search tree with the colors and normals of another mesh.

        Args:
            mesh: of the same vertices and faces.
        """
        other = copy.copy(self)
        other.colors = None if mesh.colors is None else _array(mesh.colors)
        other.normals = None if mesh.normals is None else _array(mesh.normals)
        other.texture = mesh.texture
        return other

    def longest_side(self) -> float:
        """Longest side of the box along the axes of the mesh's frame, its unit."""
        return float((self.vertices.max(axis=0) - self.vertices.min(axis=0)).max())

    def render(self, pose: Pose, camera: Camera, *, geometry_only: bool = False) -> Rendering:
        """The mesh at one pose.

        Args:
            pose: mesh frame to camera frame, no batch; a Sim3 scales.
            camera: pinhole or with a lens; its pixels are cast as they are (no undistorted image in between).
            geometry_only: without colors, and with the normals of the triangles, which edges do not round off.

        Raises:
            InvalidTensorError: the pose is a batch or not finite.
        """
        rotation, translation, scale = _parts(pose)
        height, width = camera.height, camera.width
        depth = np.full((height, width), np.nan, np.float32)
        normals = np.full((height, width, 3), np.nan, np.float32)
        colors = np.full((height, width, 3), np.nan, np.float32) if self._colored(geometry_only) else None
        points = scale * (self.vertices.astype(np.float64) @ rotation.T) + translation
        box, rays = _box_and_rays(points, camera)
        x0, y0, x1, y1 = box
        if x0 < x1:
            # Cast in the frame of the mesh with directions whose camera z is 1: the distance is the depth.
            origin = -(rotation.T @ translation) / scale
            directions = (rays.reshape(-1, 3) @ rotation) / scale
            found = self._cast(origin, directions, rotation, geometry_only=geometry_only)
            window = (slice(y0, y1), slice(x0, x1))
            shape = (y1 - y0, x1 - x0)
            depth[window] = found[0].reshape(shape)
            normals[window] = found[1].reshape(*shape, 3)
            if colors is not None and found[2] is not None:
                colors[window] = found[2].reshape(*shape, 3)
        return Rendering(depth, np.isfinite(depth), colors, normals, box)

    def sees(self, points: Floats, eye: Floats, tolerance: float) -> Mask:
        """Which points on or near the surface nothing of the mesh hides.

        Args:
            points: (N, 3) frame of the mesh.
            eye: (3,) where they are seen from, same frame.
            tolerance: how far in front of a point the surface may be, unit of the mesh.

        Returns:
            (N,) bool.
        """
        towards = points - eye
        rays = np.concatenate([np.broadcast_to(eye, towards.shape), towards], axis=1).astype(np.float32)
        # Directions are as long as the way, so a point itself is hit at 1.
        hit = self._scene.cast_rays(self._library.core.Tensor(rays), nthreads=1)["t_hit"].numpy()
        visible: Mask = (1 - hit) * np.linalg.norm(towards, axis=1) <= tolerance
        return visible

    def closest(self, points: Floats) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
        """The nearest places of the surface.

        Args:
            points: (N, 3) frame of the mesh.

        Returns:
            Distances (N,), and of the triangle there the vertices (N, 3) and barycentric weights (N, 3).
        """
        queries = self._library.core.Tensor(np.ascontiguousarray(points, np.float32))
        answer = self._scene.compute_closest_points(queries, nthreads=1)
        weights, faces = _hits(answer, np.arange(len(points)))
        away = np.linalg.norm(answer["points"].numpy() - points, axis=1)
        return away.astype(np.float32), self.faces[faces], weights

    def _colored(self, geometry_only: bool) -> bool:
        return (self.colors is not None or self.texture is not None) and not geometry_only

    def _cast(
        self,
        origin: npt.NDArray[np.float64],
        directions: npt.NDArray[np.float64],
        rotation: npt.NDArray[np.float64],
        *,
        geometry_only: bool,
    ) -> tuple[Floats, Floats, Floats | None]:
        """Depth (N,), camera normals (N, 3) and colors (N, 3) of rays from one origin; NaN where they miss."""
        count = len(directions)
        depth = np.full(count, np.nan, np.float32)
        normals = np.full((count, 3), np.nan, np.float32)
        colors = np.full((count, 3), np.nan, np.float32) if self._colored(geometry_only) else None
        for start in range(0, count, _CHUNK_RAYS):
            part = directions[start : start + _CHUNK_RAYS]
            rays = np.concatenate([np.broadcast_to(origin, part.shape), part], axis=1).astype(np.float32)
            answer = self._scene.cast_rays(self._library.core.Tensor(rays), nthreads=1)
            distance = answer["t_hit"].numpy()
            hit = np.nonzero(np.isfinite(distance))[0]
            rows = start + hit
            depth[rows] = distance[hit]
            weights, faces = _hits(answer, hit)
            if self.normals is None or geometry_only:
                local = answer["primitive_normals"].numpy()[hit]
            else:
                local = np.einsum("nk,nkc->nc", weights, self.normals[self.faces[faces]])
            turned = local.astype(np.float64) @ rotation.T
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            normals[rows] = turned / np.where(length > 0, length, 1.0)
            if colors is not None and self.texture is not None:
                colors[rows] = _texture_colors(self.texture, weights, faces)
            elif colors is not None and self.colors is not None:
                colors[rows] = np.einsum("nk,nkc->nc", weights, self.colors[self.faces[faces]])
        return depth, normals, colors


def _hits(answer: Any, chosen: npt.NDArray[np.intp]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Barycentric weights (N, 3) and faces (N,) of the places that were found."""
    second, third = answer["primitive_uvs"].numpy()[chosen].T
    weights = np.stack([1 - second - third, second, third], axis=1)
    return weights, answer["primitive_ids"].numpy()[chosen].astype(np.int64)


def _texture_colors(texture: Texture, weights: Floats, faces: npt.NDArray[np.int64]) -> Floats:
    """(N, 3) of the places with barycentric weights (N, 3) in faces (N,), between texels linearly."""
    uv = np.einsum("nk,nkc->nc", weights, _array(texture.corner_uv)[faces])
    image = texture.image.cpu().numpy()
    height, width = image.shape[:2]
    place = np.clip(uv * (width, height) - 0.5, 0, (width - 1, height - 1))
    x, y = np.minimum(place.astype(np.int64), (max(width - 2, 0), max(height - 2, 0))).T
    right, down = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    across, along = (place[:, :1] - x[:, None]), (place[:, 1:] - y[:, None])
    upper = image[y, x] * (1 - across) + image[y, right] * across
    lower = image[down, x] * (1 - across) + image[down, right] * across
    return np.asarray((upper * (1 - along) + lower * along) / 255, dtype=np.float32)


def caster_of(mesh: TriangleMesh | MeshCaster) -> MeshCaster:
    """The mesh, ready to be rendered; one that is so already as it is."""
    return mesh if isinstance(mesh, MeshCaster) else MeshCaster(mesh)


def render_mesh(mesh: TriangleMesh, pose: Pose, camera: Camera) -> Rendering:
    """Render one mesh; see `MeshCaster`, which is quicker for several poses of one mesh.

    Raises:
        EmptyMeshError: it has no triangle.
        InvalidTensorError: mesh or pose is not finite, or the pose is a batch.
        MissingPackageError: open3d cannot be loaded.
    """
    return MeshCaster(mesh).render(pose, camera)


def render_scene(placed: Sequence[tuple[TriangleMesh, Pose]], camera: Camera) -> SceneRendering:
    """Render several meshes together, the nearest in front.

    Args:
        placed: meshes with their poses, all in one unit of length.
        camera: pinhole or with a lens.

    Raises:
        InputError: there is no mesh.
        EmptyMeshError: a mesh has no triangle.
        InvalidTensorError: a mesh or pose is not finite, or a pose is a batch.
        MissingPackageError: open3d cannot be loaded.
    """
    if not placed:
        raise InputError("There is no mesh to render.", hint="Give at least one mesh and its pose.")
    height, width = camera.height, camera.width
    labels = np.zeros((height, width), np.int32)
    depth = np.full((height, width), np.nan, np.float32)
    normals = np.full((height, width, 3), np.nan, np.float32)
    colors, colored = np.full((height, width, 3), np.nan, np.float32), False
    for number, (mesh, pose) in enumerate(placed, start=1):
        single = render_mesh(mesh, pose, camera)
        # `~(a >= b)` also holds where nothing stood before (NaN).
        front = single.mask & ~(single.depth >= depth)
        labels[front] = number
        depth[front], normals[front] = single.depth[front], single.normals[front]
        colored |= single.colors is not None
        colors[front] = np.nan if single.colors is None else single.colors[front]
    return SceneRendering(labels, depth, labels > 0, colors if colored else None, normals)


def _box_and_rays(
    points: npt.NDArray[np.float64], camera: Camera
) -> tuple[tuple[int, int, int, int], npt.NDArray[np.float64]]:
    """Box of pixels that points (V, 3) in the camera frame span, and the rays (h, w, 3) through them."""
    ahead = points[:, 2] > 0
    width, height = camera.width, camera.height
    low, high = np.full(2, -np.inf), np.full(2, np.inf)
    if ahead.all():
        # What is in front of the camera stays inside the box of its vertices, in coordinates without a lens.
        flat = points[:, :2] / points[:, 2:]
        low, high = flat.min(axis=0), flat.max(axis=0)
    elif not ahead.any():
        return (0, 0, 0, 0), np.empty((0, 0, 3))
    if camera.lens is None:
        K = camera.K.detach().cpu().double().numpy()
        corners = np.array([[x, y, 1.0] for x in (low[0], high[0]) for y in (low[1], high[1])])
        px = corners @ K.T if np.isfinite(corners).all() else np.array([[-np.inf] * 2, [np.inf] * 2])
        first = np.clip(np.floor(px[:, :2].min(axis=0)), 0, (width, height)).astype(int)
        last = np.clip(np.ceil(px[:, :2].max(axis=0)) + 1, 0, (width, height)).astype(int)
        if not bool(np.all(first < last)):
            return (0, 0, 0, 0), np.empty((0, 0, 3))
        box = (int(first[0]), int(first[1]), int(last[0]), int(last[1]))
        return box, _rays(camera.crop(box[0], box[1], box[2] - box[0], box[3] - box[1]))
    rays = _rays(camera)
    inside = ((rays[..., :2] >= low) & (rays[..., :2] <= high)).all(axis=-1)
    found = box_of(np.asarray(inside))
    if found is None:
        return (0, 0, 0, 0), np.empty((0, 0, 3))
    return found, rays[found[1] : found[3], found[0] : found[2]]


def _rays(camera: Camera) -> npt.NDArray[np.float64]:
    return camera.rays().detach().cpu().double().numpy()


def _parts(pose: Pose) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Rotation (3, 3), translation (3,) and scale of one pose."""
    matrix, shift = pose.rotation().detach().cpu().double(), pose.translation.detach().cpu().double()
    scale = float(pose.scale) if isinstance(pose, Sim3) and pose.scale.numel() == 1 else 1.0
    if shift.shape != (3,) or not bool(matrix.isfinite().all() & shift.isfinite().all()):
        raise InvalidTensorError(
            f"A pose to render has translations of shape {tuple(shift.shape)}, expected one finite pose.",
            hint="Render one pose at a time.",
        )
    return matrix.numpy(), shift.numpy(), scale


def _check(mesh: TriangleMesh) -> None:
    if not len(mesh.faces):
        raise EmptyMeshError("The mesh has no triangle.", hint="Check the stage that decoded it.")
    if not bool(mesh.vertices.isfinite().all()):
        raise InvalidTensorError("A vertex is NaN or infinite.", hint="Clean the mesh first.")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        raise InvalidTensorError(
            f"Faces name vertices {low} to {high} of {len(mesh.vertices)}.", hint="Clean the mesh first."
        )


def _array(values: torch.Tensor) -> Floats:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)
