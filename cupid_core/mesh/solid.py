"""A closed solid from the mesh decoder's output, which fills only the voxels that the surface passes through.

The published extraction takes every cube that was not decoded as outside, so the inside of an object becomes a
cavity with a wall of its own; one wrong corner joins that wall to the surface, and the mesh has no volume. Here
the empty voxels are divided into inside and outside by the decoded corners around them, and a missing voxel of the
shell is closed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.errors import EmptyMeshError
from cupid_core.mesh.cube_channels import DEFAULT_SDF, CubeChannels, not_finite
from cupid_core.mesh.dual_topology import dual_topology
from cupid_core.mesh.flexicubes import CubeWeights, GridVertices, inference_surface
from cupid_core.mesh.normals import vertex_normals
from cupid_core.mesh.vertex_grid import VertexGrid, lookup
from cupid_core.types import TriangleMesh

# A mesh decoder turns each voxel into this many cubes along an edge.
CUBES_PER_VOXEL = 4
# This many corners weigh as much as one empty neighbor; a face has 25.
_CORNERS_OF_A_NEIGHBOR = 16


def extract_solid_mesh(
    coords: Tensor, features: Tensor, resolution: int, *, cubes_per_voxel: int = CUBES_PER_VOXEL
) -> TriangleMesh:
    """Outer surface of one object, closed.

    Args:
        coords: (N, 3) integer (x, y, z) of the cubes, each once, whole voxels of `cubes_per_voxel`^3, any order.
        features: (N, 101) or (N, 53) floating channels, as in `extract.extract_mesh`.
        resolution: cubes per axis of the canonical cube.
        cubes_per_voxel: cubes along the edge of a voxel; divides `resolution`.

    Returns:
        Mesh in the object frame with vertex normals, and colors if the channels hold them; watertight. Empty
        space stays empty where the corners around it are outside, also if voxels wall it in. Where the surface
        leaves the cubes, nothing was decoded, and it goes on in the colors beside it.

    Raises:
        InvalidTensorError: as `extract.extract_mesh`.
        EmptyMeshError: no voxel, or no vertex inside.
    """
    channels = CubeChannels.checked(coords, features, resolution, border=1)
    inside = channels.inside_vertices()
    touched = channels.grid.vertices_of(channels.keys)
    filled = _filled_vertices(channels, touched, inside, cubes_per_voxel)
    topology = dual_topology(torch.sort(torch.cat([inside, filled])).values, channels.grid)
    if topology.n_dual == 0:
        raise EmptyMeshError(
            "The field has one sign everywhere, so it has no surface.", hint="Try another seed, or a tighter mask."
        )
    keys = topology.vertex_keys
    means = channels.vertex_values(keys)
    sdf = torch.where(lookup(filled, keys)[1], -DEFAULT_SDF, means[:, 0])
    attributes = _spread(torch.sigmoid(means[:, 4:]), lookup(touched, keys)[1], keys, channels.grid)
    values = torch.cat([channels.positions(keys, means[:, 1:4]), attributes], dim=1)
    weights = CubeWeights(channels.weights, channels.rows_of(topology.cube_keys))
    surface = inference_surface(topology, GridVertices(sdf, values), weights)
    if not bool(torch.isfinite(surface.vertices).all()):
        raise not_finite()
    colors = None if surface.attributes is None else surface.attributes[:, :3].clamp(0, 1)
    return TriangleMesh(surface.vertices, surface.faces, colors, vertex_normals(surface.vertices, surface.faces))


def inside_voxels(shell: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Which empty voxels are inside the object.

    Every empty voxel is repeatedly set to the mean of its decoded corners and its empty neighbors:
    a few wrong corners are outvoted, and where a hole in the shell joins inside and outside, they meet in it.

    Args:
        shell: (r, r, r) bool, voxels that were decoded.
        inside: (r, r, r) decoded corners on the faces of each voxel that are inside.
        outside: (r, r, r) those that are outside.

    Returns:
        (r, r, r) bool; in doubt a voxel is outside; the border of the cube votes for outside.
    """
    empty = (~shell).float()
    border = F.pad(torch.zeros_like(empty)[1:-1, 1:-1, 1:-1], (1,) * 6, value=1.0)
    pull = (inside - outside).float() / _CORNERS_OF_A_NEIGHBOR - border
    weight = (inside + outside).float() / _CORNERS_OF_A_NEIGHBOR + border + _neighbor_sum(empty)
    weight = weight.clamp(min=1.0)
    side = torch.zeros_like(empty)
    for _ in range(2 * len(shell)):
        side = empty * (_neighbor_sum(side) + pull) / weight
    return side > 0


def _spread(values: Tensor, known: Tensor, keys: Tensor, grid: VertexGrid) -> Tensor:
    """Values (V, C) of vertices, also where they were not `known`: layer by layer, the mean of the neighbors."""
    values, known = values.clone(), known.clone()
    missing = torch.nonzero(~known).squeeze(1)
    steps = torch.tensor([*grid.strides, *(-stride for stride in grid.strides)], device=keys.device)
    beside, exists = lookup(keys, keys[missing, None] + steps)
    while True:
        usable = (exists & known[beside]).to(values.dtype)
        count = usable.sum(dim=1)
        reached = count > 0
        if not bool(reached.any()):
            return values
        layer = (values[beside[reached]] * usable[reached][:, :, None]).sum(dim=1)
        values[missing[reached]] = layer / count[reached][:, None]
        known[missing[reached]] = True
        missing, beside, exists = missing[~reached], beside[~reached], exists[~reached]


def _neighbor_sum(volume: Tensor) -> Tensor:
    """Sum of the six neighbors of every voxel of (r, r, r); nothing beyond the border."""
    padded = F.pad(volume, (1,) * 6)
    return (
        padded[2:, 1:-1, 1:-1]
        + padded[:-2, 1:-1, 1:-1]
        + padded[1:-1, 2:, 1:-1]
        + padded[1:-1, :-2, 1:-1]
        + padded[1:-1, 1:-1, 2:]
        + padded[1:-1, 1:-1, :-2]
    )


def _filled_vertices(channels: CubeChannels, touched: Tensor, inside: Tensor, cubes_per_voxel: int) -> Tensor:
    """Sorted keys of the vertices that lie in voxels inside the object and are not `touched` by a cube."""
    grid, border = channels.grid, channels.border
    resolution = channels.resolution // cubes_per_voxel
    is_inside = lookup(inside, touched)[1]
    places = grid.coords(touched) - border
    shell = torch.zeros((resolution,) * 3, dtype=torch.bool, device=touched.device)
    cells = torch.div(grid.coords(channels.keys) - border, cubes_per_voxel, rounding_mode="floor")
    shell[cells.unbind(1)] = True
    votes = [_votes(places[chosen], resolution, cubes_per_voxel) for chosen in (is_inside, ~is_inside)]
    voxels = inside_voxels(shell, *votes).nonzero()
    keys = _vertices_of_voxels(voxels, cubes_per_voxel, border, grid)
    return keys[~lookup(touched, keys)[1]]


def _votes(places: Tensor, resolution: int, cubes_per_voxel: int) -> Tensor:
    """Number (r, r, r) of vertices (V, 3) on the faces of every voxel."""
    total = torch.zeros(resolution**3, dtype=torch.int64, device=places.device)
    cell = torch.div(places, cubes_per_voxel, rounding_mode="floor")
    for axis in range(3):
        on_face = places[:, axis] % cubes_per_voxel == 0
        for step in (-1, 0):
            beside = cell[on_face].clone()
            beside[:, axis] += step
            valid = ((beside >= 0) & (beside < resolution)).all(dim=1)
            index = (beside[valid, 0] * resolution + beside[valid, 1]) * resolution + beside[valid, 2]
            total += torch.bincount(index, minlength=resolution**3)
    return total.view((resolution,) * 3)


def _vertices_of_voxels(voxels: Tensor, cubes_per_voxel: int, border: int, grid: VertexGrid) -> Tensor:
    """Sorted keys of all vertices of the cubes of voxels (M, 3), those on their faces included."""
    keys = torch.sort(grid.key(voxels * cubes_per_voxel + border)).values
    for axis in range(3):
        steps = torch.arange(cubes_per_voxel + 1, device=keys.device) * grid.strides[axis]
        keys = torch.unique(keys[:, None] + steps)
    return keys
