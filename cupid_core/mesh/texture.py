"""Bakes vertex colors into a base-color texture, and cuts textured meshes along their seams for files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.edges import Floats, Ints
from cupid_core.packages import open3d, optional_package
from cupid_core.types import Texture, TriangleMesh

# Texels around every chart that repeat its border, so that filtering does not reach into nothing.
_PADDING = 4
_CHUNK_CANDIDATES = 1 << 22


def bake_texture(
    mesh: TriangleMesh, config: MeshConfig | None = None, *, detailed: TriangleMesh | None = None
) -> TriangleMesh:
    """Give a mesh a base-color texture of its vertex colors.

    Args:
        mesh: what is unwrapped; a decimated mesh.
        config: `texture_size_px` is used; None takes the defaults.
        detailed: the mesh before decimation, whose colors are finer; each texel takes the color of its nearest
            point. None takes the colors of `mesh`.

    Returns:
        The mesh with its texture, square.

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
    _, faces, uv = atlas[0]  # the faces in the order in which they were given
    corner_uv = np.clip(np.asarray(uv, dtype=np.float32), 0, 1)[faces.astype(np.int64)]
    image = torch.from_numpy(_baked(mesh, corner_uv.astype(np.float64), size, detailed))
    return replace(mesh, texture=Texture(torch.from_numpy(corner_uv), image).to(mesh.vertices.device))


def cut_at_seams(mesh: TriangleMesh) -> tuple[TriangleMesh, NDArray[np.float32]]:
    """A textured mesh as files have it: one texture coordinate per vertex.

    Returns:
        The mesh, its vertices doubled where faces around them have different coordinates; (V, 2) coordinates.

    Raises:
        InvalidTensorError: the mesh has no texture.
    """
    if mesh.texture is None:
        raise InvalidTensorError("The mesh has no texture.", hint="Bake one first.")
    uv = mesh.texture.corner_uv.detach().float().cpu().numpy().reshape(-1, 2)
    vertex = mesh.faces.cpu().numpy().ravel()
    order = np.lexsort((uv[:, 1], uv[:, 0], vertex))
    fresh = np.ones(len(order), bool)
    fresh[1:] = (vertex[order][1:] != vertex[order][:-1]) | (uv[order][1:] != uv[order][:-1]).any(axis=1)
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(fresh) - 1
    first = order[fresh]
    rows = torch.from_numpy(vertex[first]).to(mesh.vertices.device)
    cut = TriangleMesh(
        mesh.vertices[rows],
        torch.from_numpy(number.reshape(-1, 3)).to(rows.device),
        None if mesh.colors is None else mesh.colors[rows],
        None if mesh.normals is None else mesh.normals[rows],
    )
    return cut, uv[first]


def _baked(mesh: TriangleMesh, corner_uv: Floats, size: int, detailed: TriangleMesh | None) -> NDArray[np.uint8]:
    faces = mesh.faces.cpu().numpy()
    texel, face, weights = _covered(corner_uv * size - 0.5, size)
    # A chart smaller than a texel covers no center of one: its vertices take those they lie in.
    column, row = np.minimum(corner_uv.reshape(-1, 2) * size, size - 1).astype(np.int64).T
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
