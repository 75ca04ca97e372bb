"""Meshes of sdf grids: closed, outward, right volume, every case of a cube."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.dual_topology import dual_topology
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.mesh.normals import face_normals
from cupid_core.mesh.vertex_grid import VertexGrid


def corners(resolution, dtype=torch.float64):
    axis = torch.arange(resolution + 1, dtype=dtype) / resolution - 0.5
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def sphere(resolution, radius, center=(0.0, 0.0, 0.0)):
    return (corners(resolution) - torch.tensor(center, dtype=torch.float64)).norm(dim=-1) - radius


def box(resolution, half):
    q = corners(resolution).abs() - torch.tensor(half, dtype=torch.float64)
    return q.clamp(min=0).norm(dim=-1) + q.amax(dim=-1).clamp(max=0)


def torus(resolution, major, minor):
    p = corners(resolution)
    return torch.hypot(torch.hypot(p[..., 0], p[..., 1]) - major, p[..., 2]) - minor


def volume(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, i]].double() for i in range(3))
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def directed_edges(faces, n_vertices):
    pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return pairs[:, 0] * n_vertices + pairs[:, 1], pairs[:, 1] * n_vertices + pairs[:, 0]


def assert_watertight(mesh):
    """Every directed edge once, and its reverse once: closed, consistently turned, two faces at every edge."""
    forward, backward = directed_edges(mesh.faces, len(mesh.vertices))
    assert len(forward.unique()) == len(forward)
    assert torch.equal(forward.sort().values, backward.sort().values)


def euler(mesh):
    forward, _ = directed_edges(mesh.faces, len(mesh.vertices))
    return len(mesh.faces.unique()) - len(forward) // 2 + len(mesh.faces)


def test_every_case_of_a_cube_makes_a_closed_outward_surface():
    for case in range(1, 255):
        generator = torch.Generator().manual_seed(case)
        magnitude = torch.rand(4, 4, 4, generator=generator, dtype=torch.float64) + 0.2
        sign = torch.ones(4, 4, 4, dtype=torch.float64)
        for corner in range(8):
            if case >> corner & 1:
                sign[1 + (corner & 1), 1 + (corner >> 1 & 1), 1 + (corner >> 2 & 1)] = -1
        mesh = extract_from_sdf(sign * magnitude)
        assert_watertight(mesh)
        assert volume(mesh) > 0, f"case {case}"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), resolution=st.integers(1, 9), inside=st.floats(0.05, 0.95))
def test_any_field_gives_a_watertight_mesh(seed, resolution, inside):
    values = torch.rand((resolution + 1,) * 3, generator=torch.Generator().manual_seed(seed)) - inside
    values[0, 0, 0] = -0.1
    mesh = extract_from_sdf(values)
    assert_watertight(mesh)
    assert mesh.vertices.abs().max() <= 0.5 + 1 / resolution


def test_noise_meets_all_cases_and_resolves_shared_ambiguities():
    values = torch.rand(24, 24, 24, generator=torch.Generator().manual_seed(1)) - 0.5
    grid = VertexGrid(23)
    inside = torch.nonzero(values.flatten() < 0).squeeze(1)
    topology = dual_topology(inside, grid)
    corner_inside = torch.zeros_like(topology.cube_keys)
    for corner in range(8):
        corner_inside |= (values.flatten()[topology.cube_keys + grid.corner_shift(corner)] < 0).long() << corner
    assert len(corner_inside.unique()) == 254
    turned = topology.cases != corner_inside
    assert turned.any()
    assert torch.equal(topology.cases[turned], 255 - corner_inside[turned])


def test_the_ambiguity_rule_is_what_keeps_the_mesh_manifold(monkeypatch):
    """Two diagonal holes in a solid: the cubes at the face between them are problem cases facing each other."""
    values = -torch.ones(6, 6, 6)
    values[2, 2, 2] = values[2, 3, 3] = 1.0
    assert_watertight(extract_from_sdf(values))
    monkeypatch.setattr("cupid_core.mesh.dual_topology._resolve_ambiguities", lambda cases, keys, grid: cases)
    with pytest.raises(AssertionError):
        assert_watertight(extract_from_sdf(values))


@pytest.mark.parametrize(("field", "genus"), [(sphere(20, 0.31), 0), (torus(24, 0.27, 0.11), 1)])
def test_genus_is_that_of_the_shape(field, genus):
    assert euler(extract_from_sdf(field)) == 2 - 2 * genus


def test_sphere_converges_in_volume_and_distance():
    radius = 0.37
    volume_errors, distances = [], []
    for resolution in (8, 16, 32):
        mesh = extract_from_sdf(sphere(resolution, radius))
        assert_watertight(mesh)
        volume_errors.append(abs(volume(mesh) / (4 / 3 * math.pi * radius**3) - 1))
        distances.append(float((mesh.vertices.norm(dim=1) - radius).abs().max()))
    assert all(fine < 0.35 * coarse for coarse, fine in pairwise(volume_errors))
    assert all(fine < 0.5 * coarse for coarse, fine in pairwise(distances))
    assert volume_errors[-1] < 0.01


def test_box_converges_in_volume():
    half = (0.41, 0.29, 0.073)
    errors = [abs(volume(extract_from_sdf(box(n, half))) / (8 * math.prod(half)) - 1) for n in (12, 24, 48)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02


def test_normals_point_outward():
    mesh = extract_from_sdf(sphere(32, 0.4, center=(0.03, -0.02, 0.05)))
    outward = torch.nn.functional.normalize(mesh.vertices - torch.tensor([0.03, -0.02, 0.05]).double(), dim=1)
    assert mesh.normals is not None
    assert ((mesh.normals * outward).sum(dim=1) > 0.97).all()
    flat = face_normals(mesh.vertices, mesh.faces)
    centers = mesh.vertices[mesh.faces].mean(dim=1) - torch.tensor([0.03, -0.02, 0.05]).double()
    assert ((flat * torch.nn.functional.normalize(centers, dim=1)).sum(dim=1) > 0.8).all()


def test_only_the_zero_set_matters():
    field = sphere(12, 0.33)
    plain, scaled = extract_from_sdf(field), extract_from_sdf(field * 7.5)
    assert torch.equal(plain.faces, scaled.faces)
    torch.testing.assert_close(plain.vertices, scaled.vertices, atol=1e-12, rtol=0)


def test_a_shift_by_voxels_shifts_the_mesh():
    field = torch.nn.functional.pad(sphere(10, 0.4), (4,) * 6, value=1.0)
    near, far = extract_from_sdf(field[2:-2, 2:-2, 2:-2]), extract_from_sdf(field[3:-1, 2:-2, 2:-2])
    step = torch.tensor([1 / 14, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(near.vertices, far.vertices + step, atol=1e-12, rtol=0)
    assert len(near.faces) == len(far.faces)


def test_exact_zeros_at_corners_keep_the_surface_closed_and_outward():
    mesh = extract_from_sdf(box(8, (0.25, 0.25, 0.25)))
    assert_watertight(mesh)
    assert 0.5 * 0.125 < volume(mesh) < 0.125
    assert float(mesh.vertices.abs().max()) == 0.25


def test_a_shape_beyond_the_border_is_capped_or_left_open():
    field = sphere(16, 0.8)
    closed, left_open = extract_from_sdf(field), extract_from_sdf(sphere(16, 0.6), closed=False)
    assert_watertight(closed)
    assert float(closed.vertices.abs().max()) == pytest.approx(0.5, abs=1e-3)
    forward, backward = directed_edges(left_open.faces, len(left_open.vertices))
    assert not torch.equal(forward.sort().values, backward.sort().values)


def test_colors_follow_positions():
    field, at = sphere(14, 0.36), corners(14)
    mesh = extract_from_sdf(field, colors=0.5 + 0.8 * at)
    assert mesh.colors is not None
    torch.testing.assert_close(mesh.colors, 0.5 + 0.8 * mesh.vertices, atol=1e-12, rtol=0)


def test_half_precision_is_widened():
    mesh = extract_from_sdf(sphere(16, 0.3).half())
    assert mesh.vertices.dtype == torch.float32
    assert_watertight(mesh)


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_a_field_of_one_sign_has_no_surface(value):
    with pytest.raises(EmptyMeshError):
        extract_from_sdf(torch.full((5, 5, 5), value), closed=False)


@pytest.mark.parametrize(
    ("sdf", "colors"),
    [
        (torch.zeros(4, 4), None),
        (torch.zeros(4, 4, 5), None),
        (torch.zeros(1, 1, 1), None),
        (torch.zeros(4, 4, 4, dtype=torch.int64), None),
        (torch.zeros(4, 4, 4), torch.zeros(4, 4, 4)),
        (torch.full((4, 4, 4), math.nan), None),
        (torch.full((4, 4, 4), -math.inf), None),
    ],
)
def test_bad_input_is_refused(sdf, colors):
    with pytest.raises(InvalidTensorError):
        extract_from_sdf(sdf, colors)
