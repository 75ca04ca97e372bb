"""Shells of voxels become solids: the right volume, closed, also where the shell has holes or a wrong corner."""

import pytest
import torch

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.cube_channels import CHANNELS_COLOR
from cupid_core.mesh.extract import extract_mesh
from cupid_core.mesh.solid import extract_solid_mesh, inside_voxels

R, K = 12, 4
SIDE = R * K


def distance(points):
    """Two overlapping balls."""
    left, right = torch.tensor([-0.12, 0.0, 0.0]), torch.tensor([0.15, 0.05, 0.0])
    return torch.minimum((points - left).norm(dim=-1) - 0.28, (points - right).norm(dim=-1) - 0.24)


def shell_of(distance):
    axis = torch.arange(R + 1) / R - 0.5
    corners = distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))[None, None]
    low = -torch.nn.functional.max_pool3d(-corners, 2, 1)[0, 0]
    high = torch.nn.functional.max_pool3d(corners, 2, 1)[0, 0]
    return ((low <= 0) & (high > 0)).nonzero()


def decoded(voxels, distance=distance):
    """Cubes and channels of a decoder that says the truth inside these voxels."""
    coords = (voxels[:, None] * K + torch.cartesian_prod(*(torch.arange(K),) * 3)).flatten(0, 1)
    corner = torch.arange(8)
    places = coords[:, None] + torch.stack([corner & 1, corner >> 1 & 1, corner >> 2 & 1], dim=1)
    rows = torch.zeros(len(coords), CHANNELS_COLOR)
    rows[:, :8] = distance(places / SIDE - 0.5) * SIDE + 1 / SIDE
    return coords, rows


def volume(mesh):
    return float(torch.linalg.det(mesh.vertices[mesh.faces].double()).sum() / 6)


def is_closed(mesh):
    """Every directed edge is met by its opposite equally often."""
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    size = len(mesh.vertices)
    there, back = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    return torch.equal(there.sort().values, back.sort().values)


def true_volume():
    axis = (torch.arange(160) + 0.5) / 160 - 0.5
    return float((distance(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)) < 0).float().mean())


def test_a_shell_becomes_the_solid_it_encloses():
    coords, rows = decoded(shell_of(distance))
    hollow, solid = extract_mesh(coords, rows, SIDE), extract_solid_mesh(coords, rows, SIDE)
    assert volume(hollow) < 0.7 * true_volume()
    assert volume(solid) == pytest.approx(true_volume(), rel=0.01)
    assert is_closed(solid) and len(solid.vertices) < 0.7 * len(hollow.vertices)
    assert float(distance(solid.vertices).abs().max()) < 0.5 / SIDE
    assert solid.normals is not None and solid.colors is not None


def test_order_does_not_matter_and_nothing_is_written_to():
    coords, rows = decoded(shell_of(distance))
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))
    kept = rows.clone()
    first, second = extract_solid_mesh(coords, rows, SIDE), extract_solid_mesh(coords[order], rows[order], SIDE)
    assert torch.equal(first.vertices, second.vertices) and torch.equal(first.faces, second.faces)
    assert torch.equal(rows, kept)


def test_missing_voxels_are_closed():
    voxels = shell_of(distance)
    missing = torch.ones(len(voxels), dtype=torch.bool)
    missing[torch.randperm(len(voxels), generator=torch.Generator().manual_seed(1))[:8]] = False
    mesh = extract_solid_mesh(*decoded(voxels[missing]), SIDE)
    assert is_closed(mesh) and volume(mesh) == pytest.approx(true_volume(), rel=0.04)


def test_colors_continue_where_voxels_are_missing():
    voxels = shell_of(distance)
    missing = torch.ones(len(voxels), dtype=torch.bool)
    missing[torch.randperm(len(voxels), generator=torch.Generator().manual_seed(1))[:8]] = False
    coords, rows = decoded(voxels[missing])
    blue = (coords[:, 2] > SIDE // 2).float()
    rows[:, 53:] = torch.stack([9 - 18 * blue, torch.full_like(blue, -9), 18 * blue - 9], dim=1).repeat(1, 16)
    mesh = extract_solid_mesh(coords, rows, SIDE)
    assert float(mesh.colors[:, 1].max()) < 1e-3
    assert torch.allclose(mesh.colors.sum(dim=1), torch.ones(len(mesh.colors)), atol=1e-2)
    above, below = mesh.vertices[:, 2] > 0.1, mesh.vertices[:, 2] < -0.1
    assert float(mesh.colors[above, 2].min()) > 0.99 and float(mesh.colors[below, 0].min()) > 0.99


def test_wrong_corners_damage_only_their_neighborhood():
    coords, rows = decoded(shell_of(distance))
    deep = (rows[:, :8] < -2).all(dim=1).nonzero()[::97, 0]
    rows[deep, :8] = 3.0
    mesh = extract_solid_mesh(coords, rows, SIDE)
    assert is_closed(mesh) and volume(mesh) == pytest.approx(true_volume(), rel=0.03)
    assert float(distance(mesh.vertices).abs().median()) < 0.2 / SIDE


def test_what_is_open_stays_open():
    """A bowl: the cavity touches the outside, and the voxels in it are outside."""

    def bowl(points):
        ball = points.norm(dim=-1)
        return torch.maximum(torch.maximum(ball - 0.42, 0.3 - ball), points[..., 2])

    mesh = extract_solid_mesh(*decoded(shell_of(bowl), bowl), SIDE)
    expected = 2 / 3 * torch.pi * (0.42**3 - 0.3**3)
    assert is_closed(mesh) and volume(mesh) == pytest.approx(float(expected), rel=0.05)


def test_surfaces_at_the_border_of_the_cube_are_closed():
    def large(points):
        return points.abs().amax(dim=-1) - 0.7

    coords, rows = decoded(torch.cartesian_prod(*(torch.arange(R),) * 3), large)
    mesh = extract_solid_mesh(coords, rows, SIDE)
    assert is_closed(mesh) and 1.0 < volume(mesh) < (1 + 2 / SIDE) ** 3  # at most a cube beyond


def test_empty_voxels_follow_their_neighbors_and_in_doubt_are_outside():
    shell = torch.zeros(9, 9, 9, dtype=torch.bool)
    shell[1:8, 1:8, 1:8] = True
    shell[2:7, 2:7, 2:7] = False
    none = torch.zeros(9, 9, 9, dtype=torch.int64)
    cavity = torch.nn.functional.pad(torch.ones(5, 5, 5, dtype=torch.bool), (2,) * 6)
    assert not bool(inside_voxels(shell, none, none).any())
    faces = none.clone()
    faces[2:7, 2:7, 2:7] = 25
    faces[3:6, 3:6, 3:6] = 0
    assert torch.equal(inside_voxels(shell, faces, none), cavity)
    wrong = none.clone()
    wrong[2, 4, 4], faces[2, 4, 4] = 20, 5  # outvoted by what is around it
    assert torch.equal(inside_voxels(shell, faces, wrong), cavity)
    hole = shell.clone()
    hole[1, 4, 4] = False
    leaking = inside_voxels(hole, faces, wrong)
    assert bool(leaking[2:7, 2:7, 2:7].all()) and not bool(leaking[0].any())


def test_an_empty_field_is_an_error():
    coords, rows = decoded(shell_of(distance))
    with pytest.raises(EmptyMeshError):
        extract_solid_mesh(coords, rows.abs() + 1, SIDE)
    with pytest.raises(EmptyMeshError):
        extract_solid_mesh(coords[:0], rows[:0], SIDE)
    with pytest.raises(InvalidTensorError):
        extract_solid_mesh(coords, rows[:, :7], SIDE)
