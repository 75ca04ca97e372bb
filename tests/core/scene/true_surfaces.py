"""Meshes of generated objects from their distance functions."""

import torch

from cupid_core.data.tabletop.scene import SceneObject
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.types import TriangleMesh

RESOLUTION = 48


def surface_of(item: SceneObject) -> TriangleMesh:
    axis = torch.arange(RESOLUTION + 1) / RESOLUTION - 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    distance = item.program.distance(grid.reshape(-1, 3).T[:, None].contiguous())[0]
    return extract_from_sdf(distance.reshape(grid.shape[:3]), colors=grid + 0.5)
