"""Voxels drawn as boxes."""

import pytest
import torch

from cupid_core.errors import EmptyMeshError
from cupid_core.mesh.voxel_boxes import voxel_boxes


def signed_volume(vertices: torch.Tensor, faces: torch.Tensor) -> float:
    a, b, c = vertices[faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_boxes_fill_their_voxels_and_face_outward() -> None:
    coords = torch.tensor([[0, 0, 0], [3, 1, 2], [7, 7, 7]])
    mesh = voxel_boxes(coords, 8)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(3 / 8**3, rel=1e-6)
    centers = mesh.vertices.view(3, 8, 3).mean(dim=1)
    torch.testing.assert_close(centers, (coords + 0.5) / 8 - 0.5)
    corners = mesh.vertices[mesh.faces]
    outwards = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(dim=1) - centers.repeat_interleave(12, dim=0)
    assert bool(((outwards * middle).sum(1) > 0).all())


def test_no_voxel_is_an_error() -> None:
    with pytest.raises(EmptyMeshError):
        voxel_boxes(torch.zeros(0, 3, dtype=torch.int64), 8)
