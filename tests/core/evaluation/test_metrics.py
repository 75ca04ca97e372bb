"""Metrics: zero on identity, the known value on a known offset, and invariance to symmetry."""

import math

import pytest
import torch

from cupid_core.data.tabletop import SymmetryGroup
from cupid_core.errors import InputError
from cupid_core.evaluation.image_metrics import picture_psnr, psnr, silhouette_iou
from cupid_core.evaluation.pose_metrics import (
    group_rotations,
    nearest_true_pose,
    rotation_angles_deg,
    rotation_error_deg,
    scale_error,
    translation_error,
    uv_error_px,
)
from cupid_core.evaluation.shape_metrics import (
    nearest_points,
    occupancy_f1,
    occupancy_iou,
    surface_agreement,
)
from cupid_core.geometry import SE3
from cupid_core.mesh.surface_points import points_on_surface
from cupid_core.types import TriangleMesh

PLAIN = torch.tensor((1, 0, 0))


def pose(rotation_vector=(0.0, 0.0, 0.0), translation=(0.1, -0.2, 3.0)):
    turn = SE3.exp(torch.tensor([0.0, 0.0, 0.0, *rotation_vector], dtype=torch.float64)).matrix()
    turn[:3, 3] = torch.tensor(translation, dtype=torch.float64)
    return turn


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.3, 90.0, 179.9999])
def test_rotation_error_is_the_angle(angle):
    base = pose((0.4, -0.2, 0.7))
    turned = base @ pose((0.0, math.radians(angle), 0.0), (0.0, 0.0, 0.0))
    assert rotation_error_deg(base, turned, PLAIN) == pytest.approx(angle, abs=1e-9)
    assert rotation_error_deg(turned, base, PLAIN) == pytest.approx(angle, abs=1e-9)


@pytest.mark.parametrize(
    "group", [SymmetryGroup(2), SymmetryGroup(4, flip=True), SymmetryGroup(0), SymmetryGroup(0, flip=True)]
)
def test_symmetric_turns_are_no_error(group):
    row, base = torch.tensor(group.as_tuple()), pose((0.4, -0.2, 0.7))
    for rotation in group_rotations(row).double():
        turned = base.clone()
        turned[:3, :3] = base[:3, :3] @ rotation
        # Group elements are float32.
        assert rotation_error_deg(base, turned, row) < 1e-4
        nearest = nearest_true_pose(base, turned, row)
        assert torch.allclose(nearest, turned, atol=1e-6)


def test_symmetry_forgives_only_its_own_turns():
    base = pose((0.4, -0.2, 0.7))
    quarter = base @ pose((0.0, 0.0, math.radians(90)), (0.0, 0.0, 0.0))
    assert rotation_error_deg(base, quarter, torch.tensor((2, 1, 0))) == pytest.approx(90.0, abs=1e-4)
    assert rotation_error_deg(base, quarter, torch.tensor((4, 1, 0))) < 1e-4
    # Whatever it is turned by, a continuous symmetry leaves half a step at most.
    assert (
        rotation_error_deg(base, base @ pose((0, 0, 0.123), (0.0, 0.0, 0.0)), torch.tensor((0, 1, 0)))
        <= 2.5 + 1e-6
    )
    tilted = base @ pose((math.radians(20), 0.0, 0.0), (0.0, 0.0, 0.0))
    assert rotation_error_deg(base, tilted, torch.tensor((0, 1, 0))) == pytest.approx(20.0, abs=1e-4)
    # A mirror is no rigid motion: it forgives nothing.
    half = base @ pose((math.pi, 0.0, 0.0), (0.0, 0.0, 0.0))
    assert rotation_error_deg(base, half, torch.tensor((1, 1, 0))) == pytest.approx(180.0)
    assert rotation_error_deg(base, half, torch.tensor((1, 0, 1))) < 1e-4


def test_angles_are_batched():
    turns = torch.stack([pose((0.0, a, 0.0))[:3, :3] for a in (0.1, 0.2)])
    angles = rotation_angles_deg(torch.eye(3, dtype=torch.float64), turns)
    assert angles.tolist() == pytest.approx([math.degrees(0.1), math.degrees(0.2)])


def test_translation_and_scale():
    assert translation_error(pose(), pose(translation=(0.1, -0.2, 3.5))) == pytest.approx(0.5)
    assert scale_error(0.2, 0.2) == 0.0
    assert scale_error(0.2, 0.4) == pytest.approx(1.0)
    assert scale_error(0.4, 0.2) == pytest.approx(1.0)


def test_uv_error_is_the_median_in_pixels_at_the_voxels():
    truth = torch.rand(2, 2, 3, 3, 3)
    moved = truth.clone()
    moved[:, 0] += 3 / 128
    voxels = torch.zeros(2, 3, 3, 3, dtype=torch.bool)
    voxels[0, :2] = True
    moved[0, :, 2] = 9.0  # where no voxel is
    error = uv_error_px(moved, truth, voxels, 128)
    assert error[0] == pytest.approx(3.0, abs=1e-4) and error[1].isnan()
    assert uv_error_px(truth, truth, voxels, 128)[0] == 0.0


def test_occupancy():
    grid = torch.zeros(1, 8, 8, 8, dtype=torch.bool)
    grid[:, 2:5, 2:5, 2:5] = True
    one, two = grid.roll(1, dims=1), grid.roll(2, dims=1)
    assert occupancy_iou(grid, grid) == 1.0 and occupancy_f1(grid, grid) == 1.0
    assert occupancy_iou(grid, one) == pytest.approx(18 / 36)
    assert occupancy_f1(grid, one) == 1.0
    # Of three layers, those two or three voxels off count as wrong: one of three in each direction.
    assert occupancy_f1(grid, two) == pytest.approx(2 / 3)
    assert occupancy_iou(~torch.ones_like(grid), ~torch.ones_like(grid)) == 1.0


def test_surfaces_of_points():
    line = torch.stack([torch.arange(10.0), torch.zeros(10), torch.zeros(10)], dim=1)
    same = surface_agreement(line, line, 0.1)
    assert (same.chamfer, same.precision, same.recall, same.fscore) == (0.0, 1.0, 1.0, 1.0)
    moved = surface_agreement(line, line + torch.tensor([0.0, 0.3, 0.0]), 0.2)
    assert moved.chamfer == pytest.approx(0.3) and moved.fscore == 0.0
    half = surface_agreement(line[:5], line, 0.1)
    assert (half.precision, half.recall) == (1.0, 0.5) and half.fscore == pytest.approx(2 / 3)
    assert half.chamfer == pytest.approx((1 + 2 + 3 + 4 + 5) / 10 / 2)
    with pytest.raises(InputError, match="0 and 10"):
        surface_agreement(line[:0], line, 0.1)


def test_nearest_points_in_blocks_are_those_of_all():
    torch.manual_seed(0)
    points, others = torch.rand(2500, 3), torch.rand(50, 3)
    distance, row = nearest_points(points, others)
    assert torch.allclose(distance, (points - others[row]).norm(dim=1), atol=1e-5)
    assert torch.equal(row, torch.cdist(points, others).argmin(dim=1))


def test_points_on_a_surface_lie_on_it_evenly():
    # A square of two triangles, one of them twice as large as a third far away.
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 0, 0], [5, 1, 0], [6, 0, 0]]).double()
    mesh = TriangleMesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6]]))
    points = points_on_surface(mesh, 6000)
    assert torch.equal(points, points_on_surface(mesh, 6000)) and bool((points[:, 2] == 0).all())
    square = points[points[:, 0] < 2]
    assert len(square) / 6000 == pytest.approx(2 / 3, abs=0.03)
    assert square[:, :2].mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert square[:, :2].var(0).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.005)
    flat = TriangleMesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(InputError, match="without area"):
        points_on_surface(flat, 10)


def test_pictures():
    picture = torch.full((4, 5, 3), 0.5)
    assert picture_psnr(picture, picture) == pytest.approx(120.0)
    assert (
        picture_psnr(picture + 0.1, picture)
        == pytest.approx(20.0, abs=1e-4)
        == pytest.approx(psnr(0.01), abs=1e-4)
    )
    where = torch.zeros(4, 5, dtype=torch.bool)
    assert math.isnan(picture_psnr(picture, picture, where))
    where[0, 0] = True
    other = picture.clone()
    other[0, 0] += 0.01
    assert picture_psnr(other, picture, where) == pytest.approx(40.0, abs=1e-3)
    assert picture_psnr(other, picture) == pytest.approx(40.0 + 10 * math.log10(20), abs=1e-3)
    with pytest.raises(InputError, match="compared"):
        picture_psnr(picture, picture[1:])


def test_silhouettes():
    one = torch.zeros(4, 4, dtype=torch.bool)
    one[:2] = True
    assert silhouette_iou(one, one) == 1.0 and silhouette_iou(one, ~one) == 0.0
    assert silhouette_iou(one, one.roll(1, dims=0)) == pytest.approx(1 / 3)
    assert silhouette_iou(torch.zeros_like(one), torch.zeros_like(one)) == 1.0
    with pytest.raises(InputError, match="compared"):
        silhouette_iou(one, one[1:])
