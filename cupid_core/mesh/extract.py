"""From fields to triangle meshes: the mesh decoder's channels, or a plain sdf at voxel corners.

The dense reference visits every cube of the grid; here only crossed edges and the cubes around them exist, so
memory follows the surface, and the result is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.cube_channels import CubeChannels, not_finite
from cupid_core.mesh.dual_topology import DualTopology, dual_topology
from cupid_core.mesh.flexicubes import CubeWeights, GridVertices, Surface, inference_surface, training_surface
from cupid_core.mesh.flexicubes_tables import N_CORNERS
from cupid_core.mesh.normals import vertex_normals
from cupid_core.mesh.vertex_grid import VertexGrid
from cupid_core.types import TriangleMesh

# Weights of the terms of the regularizer in the training of the published decoder.
_DEVIATION_SHARE = 0.5
_WEIGHT_DECAY_SHARE = 0.2
# How much farther outside than any value of the field the layer is that closes it at the border.
_CAP_FACTOR = 1e3


@dataclass(frozen=True, eq=False)
class TrainingSurface:
    """What the training of a mesh decoder needs of an extraction.

    Attributes:
        surface: triangles with center vertices; may be empty.
        regularizer: scalar, corner consistency + 0.5 mean L_dev + 0.2 mean |weights|.
        tsdf_points: (V, 3) deformed positions of all vertices of the input's cubes, object frame.
        tsdf_values: (V,) biased sdf there.
    """

    surface: Surface
    regularizer: Tensor
    tsdf_points: Tensor
    tsdf_values: Tensor


def extract_mesh(coords: Tensor, features: Tensor, resolution: int, *, closed: bool = False) -> TriangleMesh:
    """Mesh of one object from the mesh decoder's output.

    Args:
        coords: (N, 3) integer (x, y, z) of the fine voxels, each once, 0 <= c < resolution, any order.
        features: (N, 101) or, without color, (N, 53) floating channels; see `cube_channels`. Not modified.
        resolution: fine voxels per axis of the canonical cube (256 for the published decoder).
        closed: close a surface that meets the border of the cube, up to one voxel beyond it. Without, it is left
            open there, as in the published method.

    Returns:
        Mesh in the object frame with vertex normals, and colors if the channels hold them. Vertices and faces do
        not depend on the order of the input. Cubes that are not in the input are outside, so a shell of voxels
        whose inner side is inside gets an inner surface as well.

    Raises:
        InvalidTensorError: wrong shape or type, coordinates out of range or repeated, NaN or infinity.
        EmptyMeshError: no voxel, or no vertex inside.

    Source: TRELLIS (Xiang et al. 2024), mesh decoder; FlexiCubes (Shen et al. 2023).
    """
    surface = extract_surface(coords, features, resolution, closed=closed)
    colors = None if surface.attributes is None else surface.attributes[:, :3].clamp(0, 1)
    return _mesh(surface, colors)


def extract_surface(coords: Tensor, features: Tensor, resolution: int, *, closed: bool = False) -> Surface:
    """As `extract_mesh`, with all six predicted attributes in [0, 1] (RGB, normal map) and without normals."""
    channels = CubeChannels.checked(coords, features, resolution, border=int(closed))
    topology = _topology(channels)
    if topology.n_dual == 0:
        raise _no_surface()
    surface = inference_surface(topology, _grid_vertices(channels, topology), _weights(channels, topology))
    return _finite(surface)


def extract_training_surface(coords: Tensor, features: Tensor, resolution: int) -> TrainingSurface:
    """Differentiable extraction for training: quads with center vertices and the regularizers.

    Args:
        coords: as in `extract_mesh`.
        features: as in `extract_mesh`; gradients flow back to them.
        resolution: as in `extract_mesh`.

    Raises:
        InvalidTensorError: as in `extract_mesh`.
        EmptyMeshError: no voxel. A field without surface is not an error here: it happens early in training.
    """
    channels = CubeChannels.checked(coords, features, resolution)
    topology = _topology(channels)
    surface = training_surface(topology, _grid_vertices(channels, topology), _weights(channels, topology))
    keys = channels.grid.vertices_of(channels.keys)
    means = channels.vertex_values(keys)
    regularizer = _corner_consistency(channels, keys, means)
    hull_weights = channels.weights[:, :-1].to(channels.dtype)
    regularizer = regularizer + _WEIGHT_DECAY_SHARE * hull_weights.abs().mean()
    if surface.deviation is not None and len(surface.faces):
        regularizer = regularizer + _DEVIATION_SHARE * surface.deviation.mean()
    return TrainingSurface(_finite(surface), regularizer, channels.positions(keys, means[:, 1:4]), means[:, 0])


def extract_from_sdf(sdf: Tensor, colors: Tensor | None = None, *, closed: bool = True) -> TriangleMesh:
    """Mesh of a signed distance given at the corners of all voxels.

    The same FlexiCubes code with neutral weights: dual marching cubes, each vertex the mean of the crossings of
    its voxel. Edges sharper than a voxel are rounded by up to half a voxel; no normals of the field are needed.

    Args:
        sdf: (R + 1, R + 1, R + 1) floating, indexed [x, y, z], negative inside; only its zero set matters, so any
            monotone odd function of a distance will do. Corner (0, 0, 0) lies at (-0.5, -0.5, -0.5).
        colors: (R + 1, R + 1, R + 1, 3) floating in [0, 1], or None.
        closed: cap the shape where it meets the border of the cube; otherwise the mesh is open there.

    Returns:
        Mesh in the object frame with vertex normals.

    Raises:
        InvalidTensorError: not a cube of at least 2 corners per axis, not floating, NaN or infinity.
        EmptyMeshError: no corner inside, or (if not closed) none outside.
    """
    _check_sdf(sdf, colors)
    resolution, border = sdf.shape[0] - 1, 0
    sdf = sdf.to(torch.promote_types(sdf.dtype, torch.float32))
    if closed:
        border = 1
        outside = float(sdf.abs().amax()) * _CAP_FACTOR + 1
        sdf = torch.nn.functional.pad(sdf, (1,) * 6, value=outside)
    grid = VertexGrid(sdf.shape[0] - 1)
    topology = dual_topology(torch.nonzero(sdf.flatten() < 0).squeeze(1), grid)
    if topology.n_dual == 0:
        raise _no_surface()
    coords = grid.coords(topology.vertex_keys) - border
    values = coords.to(sdf.dtype) / resolution - 0.5
    if colors is not None:
        # A corner of the closing layer takes the color of its nearest corner of the field.
        x, y, z = coords.clamp(0, resolution).unbind(1)
        values = torch.cat([values, colors[x, y, z].to(sdf.dtype)], dim=1)
    vertices = GridVertices(sdf.flatten()[topology.vertex_keys], values)
    surface = inference_surface(topology, vertices, CubeWeights.neutral(sdf, len(topology.cube_keys)))
    return _mesh(_finite(surface), surface.attributes)


def _check_sdf(sdf: Tensor, colors: Tensor | None) -> None:
    if sdf.dim() != 3 or len(set(sdf.shape)) != 1 or sdf.shape[0] < 2 or not sdf.is_floating_point():
        raise InvalidTensorError(
            f"The sdf is {tuple(sdf.shape)} {sdf.dtype}, expected floating (R + 1, R + 1, R + 1) with R >= 1.",
            hint="Pass one value per voxel corner of a cubic grid.",
        )
    if colors is not None and (colors.shape != (*sdf.shape, 3) or not colors.is_floating_point()):
        raise InvalidTensorError(
            f"Colors are {tuple(colors.shape)} {colors.dtype}, expected floating {(*sdf.shape, 3)}.",
            hint="Pass one RGB value in [0, 1] per voxel corner.",
        )
    if not bool(torch.isfinite(sdf).all()):
        raise InvalidTensorError("The sdf holds NaN or infinity.", hint="Clamp it to a finite distance first.")


def _topology(channels: CubeChannels) -> DualTopology:
    """Topology of the field; only signs are needed, so nothing here takes part in gradients."""
    with torch.no_grad():
        return dual_topology(channels.inside_vertices(), channels.grid)


def _grid_vertices(channels: CubeChannels, topology: DualTopology) -> GridVertices:
    """Means over cubes, only at the ends of crossed edges."""
    keys = topology.vertex_keys
    means = channels.vertex_values(keys)
    positions = channels.positions(keys, means[:, 1:4])
    return GridVertices(means[:, 0], torch.cat([positions, torch.sigmoid(means[:, 4:])], dim=1))


def _weights(channels: CubeChannels, topology: DualTopology) -> CubeWeights:
    return CubeWeights(channels.weights, channels.rows_of(topology.cube_keys))


def _corner_consistency(channels: CubeChannels, keys: Tensor, means: Tensor) -> Tensor:
    """Mean squared difference between what cubes say of a shared vertex and their mean, over all channels."""
    squares = means.new_zeros(())
    for corner in range(N_CORNERS):
        index = torch.searchsorted(keys, channels.keys + channels.grid.corner_shift(corner))
        squares = squares + (channels.corner_values(corner, channels.rows) - means[index]).square().sum()
    return squares / (len(channels.keys) * N_CORNERS * means.shape[1])


def _mesh(surface: Surface, colors: Tensor | None) -> TriangleMesh:
    normals = vertex_normals(surface.vertices, surface.faces)
    return TriangleMesh(surface.vertices, surface.faces, colors, normals)


def _finite(surface: Surface) -> Surface:
    values = [surface.vertices] if surface.attributes is None else [surface.vertices, surface.attributes]
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise not_finite()
    return surface


def _no_surface() -> EmptyMeshError:
    return EmptyMeshError(
        "The field has one sign everywhere, so it has no surface.", hint="Try another seed, or a tighter mask."
    )
