"""Bakes vertex colors into a base-color texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.edges import Floats, Ints
from cupid_core.packages import open3d, optional_package
from cupid_core.types import TriangleMesh

# Texels around every chart that repeat its border, so that filtering does not reach into nothing.
_PADDING = 4
_CHUNK_CANDIDATES = 1 << 22


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """A mesh whose colors are in an image.

    Attributes:
        mesh: its vertices are doubled along the seams of the charts; vertex colors are kept.
        uv: (V, 2) float32 in [0, 1], u right, v **down** from the top-left corner of the image, as glTF has it.
        texture: (S, S, 3) uint8 sRGB.
    """

    mesh: TriangleMesh
    uv: NDArray[np.float32]
    texture: NDArray[np.uint8]


def bake_texture(
    mesh: TriangleMesh, config: MeshConfig | None = None, *, detailed: TriangleMesh | None = None
) -> TexturedMesh:
    """Give a mesh a base-color texture.

    Args:
        mesh: what is unwrapped; a decimated mesh.
        config: `texture_size_px` is used; None takes the defaults.
        detailed: the mesh before decimation, whose colors are finer; each texel takes the color of its nearest
            point. None takes the colors of `mesh`.

    Raises:
        InvalidTensorError: the mesh that gives the colors has none.
        EmptyMeshError: no face.
        MissingPackageError: `xatlas` is not installed (extra `texture`).
    """
    size = (config or MeshConfig()).texture_size_px
    xatlas = optional_package("xatlas", "texture")
    source = mesh if detailed is None else detailed
    if source.colors is None:
        raise InvalidTensorError("The mesh has no colors to bake.", hint="Decode it with colors.")
    if not len(mesh.faces):
        raise EmptyMeshError("The mesh has no face.", hint="Try another seed, or a tighter mask.")
    vertices = mesh.vertices.detach().float().cpu().numpy()
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, mesh.faces.cpu().numpy().astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, _PADDING, True
    atlas.generate(pack_options=packing)
    origin, faces, uv = atlas[0]
    rows = torch.from_numpy(origin.astype(np.int64)).to(mesh.vertices.device)
    unwrapped = TriangleMesh(
        mesh.vertices[rows],
        torch.from_numpy(faces.astype(np.int64)).to(rows.device),
        None if mesh.colors is None else mesh.colors[rows],
        None if mesh.normals is None else mesh.normals[rows],
    )
    uv = np.clip(np.asarray(uv, dtype=np.float32), 0, 1)
    return TexturedMesh(unwrapped, uv, _baked(unwrapped, uv, size, detailed))


def _baked(
    mesh: TriangleMesh, uv: NDArray[np.float32], size: int, detailed: TriangleMesh | None
) -> NDArray[np.uint8]:
    faces = mesh.faces.cpu().numpy()
    texel, face, weights = _covered(uv.astype(np.float64)[faces] * size - 0.5, size)
    # A chart smaller than a texel covers no center of one: its vertices take those they lie in.
    column, row = (np.minimum(uv[faces.ravel()].astype(np.float64) * size, size - 1).astype(np.int64)).T
    corner_texel, chosen = np.unique(row * size + column, return_index=True)
    chosen = chosen[~np.isin(corner_texel, texel)]
    texel = np.concatenate([texel, (row * size + column)[chosen]])
    face = np.concatenate([face, chosen // 3])
    weights = np.concatenate([weights, np.eye(3)[chosen % 3]])
    if detailed is None:
        assert mesh.colors is not None
        corners = mesh.colors.detach().double().cpu().numpy()[faces[face]]
        colors = np.einsum("nk,nkc->nc", weights, corners)
    else:
        corners = mesh.vertices.detach().double().cpu().numpy()[faces[face]]
        colors = _nearest_colors(np.einsum("nk,nkc->nc", weights, corners), detailed)
    picture = np.zeros((size * size, 3))
    filled = np.zeros(size * size, dtype=bool)
    picture[texel], filled[texel] = colors, True
    if len(colors):
        picture[~filled] = colors.mean(axis=0)
    grown = _grown(picture.reshape(size, size, 3), filled.reshape(size, size))
    return (grown.clip(0, 1) * 255).round().astype(np.uint8)


def _covered(corners: Floats, size: int) -> tuple[Ints, Ints, Floats]:
    """Texels whose center lies in a triangle (F, 3, 2) in pixel coordinates: index, face, barycentric (N, 3)."""
    low = np.clip(np.ceil(corners.min(axis=1) - 1e-6), 0, size - 1).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) + 1e-6), -1, size - 1).astype(np.int64)
    extent = np.maximum(high - low + 1, 0)
    boxes = extent.prod(axis=1)
    parts: list[tuple[Ints, Ints, Floats]] = []
    begin = 0
    ends = np.cumsum(boxes)
    while begin < len(corners):
        already = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, already + _CHUNK_CANDIDATES, side="right")))
        chosen = np.arange(begin, end)
        face = np.repeat(chosen, boxes[chosen])
        within = np.arange(len(face)) - np.repeat(ends[chosen] - boxes[chosen] - already, boxes[chosen])
        x, y = low[face, 0] + within % extent[face, 0], low[face, 1] + within // extent[face, 0]
        weights = _barycentric(corners[face], np.stack([x, y], axis=1).astype(np.float64))
        inside = (weights >= -1e-6).all(axis=1)
        parts.append(((y * size + x)[inside], face[inside], weights[inside]))
        begin = end
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _barycentric(triangles: Floats, points: Floats) -> Floats:
    """(N, 3) weights of points (N, 2) in triangles (N, 3, 2); -1 for a triangle without area."""
    first, second, at = (
        triangles[:, 1] - triangles[:, 0],
        triangles[:, 2] - triangles[:, 0],
        points - triangles[:, 0],
    )
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    safe = np.where(area == 0, 1.0, area)
    one = (at[:, 0] * second[:, 1] - at[:, 1] * second[:, 0]) / safe
    two = (first[:, 0] * at[:, 1] - first[:, 1] * at[:, 0]) / safe
    weights = np.stack([1 - one - two, one, two], axis=1)
    weights[area == 0] = -1.0
    return weights


def _nearest_colors(points: Floats, mesh: TriangleMesh) -> Floats:
    """Colors (N, 3) at the points of the mesh nearest to `points` (N, 3)."""
    library = open3d()
    faces = mesh.faces.cpu().numpy()
    scene = library.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.detach().float().cpu().numpy(), faces.astype(np.uint32))
    found = scene.compute_closest_points(points.astype(np.float32))
    two = found["primitive_uvs"].numpy().astype(np.float64)
    weights = np.stack([1 - two.sum(axis=1), two[:, 0], two[:, 1]], axis=1)
    assert mesh.colors is not None
    corners = mesh.colors.detach().double().cpu().numpy()[faces[found["primitive_ids"].numpy()]]
    return np.asarray(np.einsum("nk,nkc->nc", weights, corners))


def _grown(picture: Floats, filled: NDArray[np.bool_]) -> Floats:
    """Every chart widened by the mean of its filled neighbors, `_PADDING` texels far."""
    for _ in range(_PADDING):
        padded = np.pad(picture * filled[..., None], ((1, 1), (1, 1), (0, 0)))
        known = np.pad(filled.astype(np.float64), 1)
        total, count = np.zeros_like(picture), np.zeros(filled.shape)
        height, width = filled.shape
        for row, column in ((0, 1), (2, 1), (1, 0), (1, 2), (0, 0), (0, 2), (2, 0), (2, 2)):
            total += padded[row : row + height, column : column + width]
            count += known[row : row + height, column : column + width]
        fresh = ~filled & (count > 0)
        picture = np.where(fresh[..., None], total / np.maximum(count, 1)[..., None], picture)
        filled = filled | fresh
    return picture
