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
from cupid_core.mesh.ray_library import open3d
from cupid_core.types import TriangleMesh

Floats = npt.NDArray[np.float32]

# Distances are exact at nodes this many cells around those that the surface passes.
_EXACT_CELLS = 2
# Rounds of the majority filter that closes the shadows of holes in a leaking mesh.
_MAJORITY_ROUNDS = 3
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
    ray test where the mesh is closed. Where it is not, what is enclosed from all six sides is inside, after a
    majority filter; so a leaking shell is solid, while a cavity that opens along an axis stays open.

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
    touched, enclosed = _line_tests(library, scene, axes)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = _distances(library, scene, points, touched, 2 * half / (nodes - 1))
    if is_closed(faces):
        queries = library.core.Tensor(np.ascontiguousarray(points.reshape(-1, 3)))
        inside = scene.compute_occupancy(queries, nthreads=1).numpy().reshape(touched.shape) > 0
    else:
        inside = _majority(enclosed)
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
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Nodes beside a crossing of the surface with a grid line, and nodes with a crossing on all six sides."""
    nodes = len(axes[0])
    touched = np.zeros((nodes,) * 3, bool)
    enclosed = np.ones((nodes,) * 3, bool)
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        first, second = np.meshgrid(axes[others[0]], axes[others[1]], indexing="ij")
        rays = np.zeros((nodes * nodes, 6), np.float32)
        rays[:, others[0]], rays[:, others[1]], rays[:, axis] = first.ravel(), second.ravel(), axes[axis][0]
        rays[:, 3 + axis] = 1.0
        found = scene.list_intersections(library.core.Tensor(rays), nthreads=1)
        step = float(axes[axis][1] - axes[axis][0])
        place = np.clip((found["t_hit"].numpy() / step).astype(np.int64), 0, nodes - 2)
        line = found["ray_ids"].numpy().astype(np.int64)
        crossed = np.zeros((nodes * nodes, nodes), bool)
        crossed[line, place] = True
        shape = (nodes, nodes, nodes)
        before = np.zeros_like(crossed)
        before[:, 1:] = np.logical_or.accumulate(crossed, axis=1)[:, :-1]
        after = np.logical_or.accumulate(crossed[:, ::-1], axis=1)[:, ::-1]
        beside = crossed.copy()
        beside[:, 1:] |= crossed[:, :-1]
        touched |= np.moveaxis(beside.reshape(shape), 2, axis)
        enclosed &= np.moveaxis((before & after).reshape(shape), 2, axis)
    return touched, enclosed


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


def _majority(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A grid after a few votes of every node's 27 neighbors."""
    grid = torch.from_numpy(inside)[None, None].float()
    for _ in range(_MAJORITY_ROUNDS):
        grid = (F.avg_pool3d(grid, 3, 1, 1) > 0.5).float()
    return np.asarray(grid[0, 0].numpy() > 0)
