"""Signed distance of a mesh on a grid around it, ready to be sampled with gradients.

Exact next to the surface, approximate away from it, where only the direction towards the surface matters. A mesh
that leaks still gets an inside. Depends on meshes and the ray library, not on images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.edges import is_closed
from cupid_core.packages import open3d
from cupid_core.types import TriangleMesh

Floats = npt.NDArray[np.float32]

# Distances are exact at nodes this many cells around those that the surface passes.
_EXACT_CELLS = 2
# A leaking mesh: nodes that the surface encloses on so many of six sides are inside where they are joined, over at
# most so many nodes, to such that it encloses on all six.
_ENCLOSED_SIDES = 4
_JOINED_NODES = 4
_FAR = 1e6


@dataclass(frozen=True, eq=False)
class SignedDistanceGrid:
    """Signed distances of B meshes, each on a grid over its own padded bounding box.

    Attributes:
        values: (B, 1, n, n, n) float32 indexed [x, y, z], negative inside, unit of the mesh.
        center: (B, 3) middle of the box.
        half_size: (B, 3) half its sides; the outermost nodes lie on its faces.
    """

    values: Tensor
    center: Tensor
    half_size: Tensor

    @classmethod
    def stack(cls, grids: Sequence[SignedDistanceGrid]) -> SignedDistanceGrid:
        """Join grids of one size along the batch."""
        fields = ("values", "center", "half_size")
        return cls(*(torch.cat([getattr(grid, name) for grid in grids]) for name in fields))

    def to(self, device: torch.device | str) -> SignedDistanceGrid:
        """The same grids on another device."""
        return SignedDistanceGrid(*(value.to(device) for value in (self.values, self.center, self.half_size)))

    def sample(self, points: Tensor, volume: Tensor | None = None) -> Tensor:
        """Trilinear interpolation, differentiable in points and volume.

        Args:
            points: (B, N, 3) in the frame of the meshes.
            volume: (B, 1, m, m, m) on the same boxes; None takes the distances.

        Returns:
            (B, N). Outside the box the value at its border, for the distances plus the distance to the box.
        """
        local = (points - self.center[:, None]) / self.half_size[:, None]
        source = self.values if volume is None else volume
        # `grid_sample` names the last axis of the volume first.
        value = F.grid_sample(
            source, local.flip(-1)[:, None, None], mode="bilinear", padding_mode="border", align_corners=True
        )[:, 0, 0, 0]
        if volume is not None:
            return value
        beyond = (local.abs() - 1.0).clamp(min=0.0) * self.half_size[:, None]
        return torch.add(value, beyond.norm(dim=-1))


def signed_distance_grid(mesh: TriangleMesh, nodes: int = 48, padding: float = 0.12) -> SignedDistanceGrid:
    """The signed distance of one mesh.

    Every axis has its own spacing, so that thin objects get a fine grid across their thickness. Signs come from a
    ray test where the mesh is closed. Where it is not, what the surface encloses on all six sides is inside, and
    what lies beside it in the shadow of a hole; so a leaking shell is solid, and an open cavity stays outside.

    Args:
        mesh: any frame and unit.
        nodes: per axis.
        padding: of its bounding box, as a share of the longest side.

    Raises:
        EmptyMeshError: no triangle, or no extent.
        InvalidTensorError: a vertex is not finite, or a face names a vertex that does not exist.
        MissingPackageError: open3d cannot be loaded.
    """
    vertices = _checked_vertices(mesh)
    faces = mesh.faces.detach().cpu().numpy()
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    half = (high - low) / 2 + padding * float((high - low).max())
    center = (low + high) / 2
    axes = [np.linspace(-h, h, nodes, dtype=np.float32) + c for h, c in zip(half, center, strict=True)]
    library = open3d()
    scene = library.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(library.core.Tensor(vertices), library.core.Tensor(faces.astype(np.uint32)))
    crossed, enclosed = _line_tests(library, scene, axes)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = _distances(library, scene, points, _beside(crossed), 2 * half / (nodes - 1))
    if is_closed(faces):
        queries = library.core.Tensor(np.ascontiguousarray(points.reshape(-1, 3)))
        inside = scene.compute_occupancy(queries, nthreads=1).numpy().reshape((nodes,) * 3) > 0
    else:
        inside = _enclosed_volume(crossed, enclosed)
    signed = torch.from_numpy(np.where(inside, -distance, distance).astype(np.float32))
    return SignedDistanceGrid(
        signed[None, None], torch.from_numpy(center)[None].float(), torch.from_numpy(half)[None].float()
    )


def _checked_vertices(mesh: TriangleMesh) -> Floats:
    vertices = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy(), dtype=np.float32)
    if not len(mesh.faces):
        raise EmptyMeshError("The mesh has no triangle.", hint="Check the stage that decoded it.")
    if not np.isfinite(vertices).all():
        raise InvalidTensorError("A vertex is NaN or infinite.", hint="Clean the mesh first.")
    first, last = int(mesh.faces.min()), int(mesh.faces.max())
    if first < 0 or last >= len(vertices):
        raise InvalidTensorError(
            f"Faces name vertices {first} to {last} of {len(vertices)}.", hint="Clean the mesh first."
        )
    if not float(np.ptp(vertices, axis=0).max()) > 0:
        raise EmptyMeshError("The mesh has no extent.", hint="Check the stage that decoded it.")
    return vertices


def _line_tests(
    library: Any, scene: Any, axes: list[Floats]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Where the surface crosses the grid's edges, and on how many of six sides it encloses every node.

    Returns:
        (3, n, n, n) bool, along each axis the edges from a node to the next one; (n, n, n) 0 to 6.
    """
    nodes = len(axes[0])
    shape = (nodes, nodes, nodes)
    crossed = np.zeros((3, *shape), bool)
    enclosed = np.zeros(shape, np.int64)
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        first, second = np.meshgrid(axes[others[0]], axes[others[1]], indexing="ij")
        rays = np.zeros((nodes * nodes, 6), np.float32)
        rays[:, others[0]], rays[:, others[1]], rays[:, axis] = first.ravel(), second.ravel(), axes[axis][0]
        rays[:, 3 + axis] = 1.0
        found = scene.list_intersections(library.core.Tensor(rays), nthreads=1)
        step = float(axes[axis][1] - axes[axis][0])
        place = np.clip((found["t_hit"].numpy() / step).astype(np.int64), 0, nodes - 2)
        lines = np.zeros((nodes * nodes, nodes), bool)
        lines[found["ray_ids"].numpy().astype(np.int64), place] = True
        before = np.zeros_like(lines)
        before[:, 1:] = np.logical_or.accumulate(lines, axis=1)[:, :-1]
        after = np.logical_or.accumulate(lines[:, ::-1], axis=1)[:, ::-1]
        crossed[axis] = np.moveaxis(lines.reshape(shape), 2, axis)
        enclosed += np.moveaxis((before.astype(np.int64) + after).reshape(shape), 2, axis)
    return crossed, enclosed


def _beside(crossed: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Nodes (n, n, n) at either end of an edge that the surface crosses."""
    ends = crossed.copy()
    for axis in range(3):
        ends[axis] |= np.roll(crossed[axis], 1, axis=axis)  # the last edge, beyond the grid, is never crossed
    return np.asarray(ends.any(axis=0))


def _enclosed_volume(crossed: npt.NDArray[np.bool_], enclosed: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Inside (n, n, n) of a surface with holes."""
    inside = enclosed == 6
    likely = enclosed >= _ENCLOSED_SIDES
    for _ in range(_JOINED_NODES):
        reached = inside.copy()
        for axis in range(3):
            # Edges beyond the last node join nothing: the border of the grid is outside.
            free = ~crossed[axis]
            reached |= np.roll(inside & free, 1, axis=axis) | (np.roll(inside, -1, axis=axis) & free)
        inside |= reached & likely
    return np.asarray(inside)


def _distances(
    library: Any, scene: Any, points: Floats, touched: npt.NDArray[np.bool_], spacing: npt.NDArray[np.float32]
) -> Floats:
    """Unsigned distances (n, n, n): exact around the surface, from the nearest exact node elsewhere."""
    seeds = torch.from_numpy(touched)[None, None].float()
    near = F.max_pool3d(seeds, 2 * _EXACT_CELLS + 1, 1, _EXACT_CELLS)[0, 0].numpy() > 0
    queries = library.core.Tensor(np.ascontiguousarray(points[near]))
    exact = scene.compute_distance(queries, nthreads=1).numpy()
    squared = np.full(touched.shape, _FAR, np.float32)
    squared[near] = exact**2
    squared[~touched] = _FAR
    spread = torch.from_numpy(squared)
    # Squared Euclidean distance transform, one axis after the other.
    for axis in range(3):
        index = torch.arange(len(spread), dtype=torch.float32) * float(spacing[axis])
        cost = (index[:, None] - index[None]).square()
        lines = spread.transpose(axis, 2)
        spread = torch.stack([(lines + row).amin(dim=-1) for row in cost], dim=-1).transpose(axis, 2)
    distance: Floats = spread.sqrt().numpy().copy()
    distance[near] = exact
    return distance
