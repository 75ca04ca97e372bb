"""Laws of depth images and point maps: units, holes as absence, round trips, normals of known surfaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cupid_core.errors import InvalidDepthError, InvalidTensorError
from cupid_core.geometry import (
    SE3,
    Camera,
    Distortion,
    depth_to_metres,
    normals,
    points_to_depth,
    unproject_depth,
)

CAMERA = Camera.from_parameters(fx=80.0, fy=75.0, cx=31.2, cy=22.9, width=60, height=47)


def plane(normal: tuple[float, float, float], distance: float, camera: Camera = CAMERA) -> torch.Tensor:
    """Exact depth (H, W) of the plane normal . p = distance."""
    return distance / (camera.rays() @ torch.tensor(normal, dtype=torch.float64))


def test_millimetres_and_metres_mean_the_same():
    millimetres = np.array([[0, 1, 1234], [29535, 500, 0]], dtype=np.uint16)
    metres = np.array([[0.0, 0.001, 1.234], [29.535, 0.5, np.nan]], dtype=np.float32)
    from_mm, valid_mm = depth_to_metres(millimetres)
    from_m, valid_m = depth_to_metres(metres)
    assert valid_mm.equal(valid_m)
    assert from_mm.dtype == from_m.dtype == torch.float32
    assert from_mm.nan_to_num(-1.0).equal(from_m.nan_to_num(-1.0))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_holes_are_absent_never_zero(kind):
    holes = [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf]
    depth_m, valid = depth_to_metres(np.array([[hole, 2.0] for hole in holes], dtype=kind))
    assert valid.tolist() == [[False, True]] * len(holes)
    assert bool(depth_m[:, 0].isnan().all()) and bool((depth_m[:, 1] == 2.0).all())


@pytest.mark.parametrize(
    ("kind", "reading"),
    [
        ("uint16", 65535), ("int32", 65535), ("int64", 65535), ("float32", 65.535), ("float64", 65535.0),
        ("int16", 32767), ("int16", -1), ("int32", 2**31 - 1), ("uint32", 2**32 - 1), ("int64", 10**6),
        ("float32", 1e10), ("float16", 60000.0), ("float32", 30.01),
    ],
)  # fmt: skip
def test_what_no_depth_camera_measures_is_a_hole(kind, reading):
    near = 0.75 if kind.startswith("float") else 750
    depth_m, valid = depth_to_metres(np.array([[near, near, reading]], dtype=kind))
    assert valid.tolist() == [[True, True, False]]
    assert depth_m[0, 0].item() == pytest.approx(0.75)


@pytest.mark.parametrize(
    "depth",
    [
        np.full((4, 5), 583.0, np.float32),
        np.full((4, 5), 583.0, np.float16),
        np.full((4, 5), 58.3),
        np.full((4, 5), 1, np.uint16),
        np.full((4, 5), 40_000, np.uint16),
        np.full((4, 5), 583_000, np.int32),
        np.full((4, 5), 1e-4, np.float32),
    ],
    ids=["millimetres", "half precision", "centimetres", "metres in counts", "40 m", "micrometres", "tiny"],
)
def test_another_unit_than_stated_is_refused_and_the_unit_is_named(depth):
    with pytest.raises(InvalidDepthError, match="unit") as caught:
        depth_to_metres(depth)
    assert "median depth" in caught.value.problem


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("float32", 0.001), ("uint16", 0.0005), ("int16", 0.002), ("int32", 1e-6), ("float64", 0.01)],
)
def test_a_stated_unit_counts_for_every_type(kind, unit):
    depth = np.array([[0.5 / unit, 0, 0.75 / unit]]).astype(kind)
    depth_m, valid = depth_to_metres(depth, metres_per_count=unit)
    assert valid.tolist() == [[True, False, True]]
    assert depth_m[0, [0, 2]].tolist() == pytest.approx([0.5, 0.75], rel=1e-3)


@pytest.mark.parametrize("unit", [0.0, -0.001, math.nan, math.inf])
def test_a_unit_is_a_positive_number(unit):
    with pytest.raises(InvalidDepthError, match="unit"):
        depth_to_metres(np.full((4, 5), 750, np.uint16), metres_per_count=unit)


def test_byte_order_and_tensors_are_taken():
    native = np.array([[1000, 2000]], dtype=np.uint16)
    swapped = native.astype(native.dtype.newbyteorder(">"))
    assert depth_to_metres(swapped)[0].tolist() == [[1.0, 2.0]]
    tensor = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    depth_m, valid = depth_to_metres(tensor)
    assert depth_m.dtype == torch.float64 and valid.tolist() == [[True, False]]


@pytest.mark.parametrize(
    "depth",
    [
        np.zeros((4, 5), np.uint16),
        np.full((4, 5), np.nan, np.float32),
        np.ones((4, 5), np.uint8),
        np.ones((4, 5), np.int32),
        np.ones((4, 5, 1), np.float32),
        np.ones((0, 5), np.float32),
        np.ones(5, np.float32),
    ],
    ids=["all zero", "all NaN", "uint8", "int32", "three axes", "empty", "one axis"],
)
def test_what_is_no_depth_is_refused(depth):
    with pytest.raises(InvalidDepthError):
        depth_to_metres(depth)


def test_depth_to_points_and_back(dtype, device, draw, tolerance):
    depth = (0.5 + draw(2, 47, 60).abs()).to(device, dtype)
    depth[:, 10:20, 5:9] = torch.nan
    points = unproject_depth(depth, CAMERA)
    assert points.dtype == dtype and points.shape == (2, 47, 60, 3)
    assert points_to_depth(points).nan_to_num(-1.0).equal(depth.nan_to_num(-1.0))
    px = CAMERA.project(points)
    rows, columns = torch.meshgrid(torch.arange(47), torch.arange(60), indexing="ij")
    grid = torch.stack((columns, rows), dim=-1).to(px).expand_as(px)
    seen = depth.isfinite()
    torch.testing.assert_close(px[seen], grid[seen], atol=100 * tolerance, rtol=0)
    assert bool(points[~seen].isnan().all())


def test_raw_holes_never_become_points():
    depth = torch.full((4, 47, 60), 2.0)
    depth[:, 3, 4] = torch.tensor([0.0, -1.0, math.nan, math.inf])
    points = unproject_depth(depth, CAMERA)
    assert bool(points[:, 3, 4].isnan().all()) and int(points.isnan().any(-1).sum()) == 4


def test_points_behind_or_half_known_have_no_depth():
    points = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert points_to_depth(points).isnan().tolist() == [True, True, True, False]


def test_pixels_without_a_ray_have_no_point():
    folding = Distortion("plumb_bob", (-1.0 / 3.0, 0.0, 0.0, 0.0))
    camera = Camera.from_parameters(fx=40.0, fy=40.0, cx=30.0, cy=23.0, width=60, height=47, distortion=folding)
    points = unproject_depth(torch.ones(47, 60), camera)
    known = points.isfinite().all(-1)
    assert bool(known[23, 30]) and not bool(known[0, 0])
    assert points.isnan().any(-1).equal(~known)


@pytest.mark.parametrize("direction", [(0.0, 0.0, -1.0), (0.3, -0.2, -1.0), (-0.5, 0.4, -0.8), (0.0, -1.0, -0.7)])
def test_normals_of_a_plane(direction):
    truth = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float64), dim=0)
    depth = plane(tuple(truth.tolist()), -1.0)
    depth = torch.where(depth > 0, depth, torch.nan)
    found = normals(unproject_depth(depth, CAMERA), max_relative_jump=1.0)
    known = found.isfinite().all(-1)
    assert float(known.double().mean()) > 0.5
    torch.testing.assert_close(found[known], truth.expand_as(found)[known], atol=1e-9, rtol=0)


def test_normals_of_a_sphere_point_away_from_its_center():
    center, radius = torch.tensor([0.05, -0.1, 2.0], dtype=torch.float64), 0.5
    camera = CAMERA.resize(600, 470)
    rays = camera.rays()
    along, squared = rays @ center, rays.square().sum(-1)
    discriminant = along.square() - squared * (center @ center - radius**2)
    depth = torch.where(discriminant > 0, (along - discriminant.clamp(min=0).sqrt()) / squared, torch.nan)
    points = unproject_depth(depth, camera)
    found, truth = normals(points), (points - center) / radius
    known = found.isfinite().all(-1)
    assert int(known.sum()) > 0.8 * int(depth.isfinite().sum())
    facing = (found * points).sum(-1) / points.norm(dim=-1)
    assert bool((facing[known] < 0).all())
    torch.testing.assert_close(found[known].norm(dim=-1), torch.ones_like(facing[known]))
    angle = torch.rad2deg((found * truth).sum(-1).clamp(-1.0, 1.0).acos())
    # Towards the silhouette one pixel spans more and more of the surface.
    assert float(angle[known & (facing < -0.5)].max()) < 0.5
    assert float(angle[known].max()) < 10.0


def test_normals_turn_with_the_points(draw):
    """Rotating scene and points together rotates the normals."""
    points = unproject_depth(plane((0.2, 0.1, -1.0), -1.5), CAMERA)
    turn = SE3.exp(torch.cat((torch.zeros(3), 0.1 * draw(3))))
    torch.testing.assert_close(normals(turn.apply(points)), turn.apply(normals(points)), atol=1e-9, rtol=0)


def test_normals_stop_at_holes_and_jumps():
    depth = torch.full((47, 60), 1.0, dtype=torch.float64)
    depth[:, 30:] = 1.2
    depth[10, 10] = torch.nan
    absent = normals(unproject_depth(depth, CAMERA)).isnan().any(-1)
    expected = torch.zeros(47, 60, dtype=torch.bool)
    expected[:, 29:31] = True
    for row, column in ((10, 10), (9, 10), (11, 10), (10, 9), (10, 11)):
        expected[row, column] = True
    assert absent.equal(expected)
    tolerant = normals(unproject_depth(depth, CAMERA), max_relative_jump=0.25)
    assert bool(tolerant[20, 29:31].isfinite().all())


def test_normals_are_batched(draw):
    depth = 1.0 + 0.01 * draw(2, 3, 8, 9)
    camera = CAMERA.resize(9, 8)
    points = unproject_depth(depth, camera)
    torch.testing.assert_close(normals(points)[1, 2], normals(points[1, 2]), equal_nan=True)


def test_sizes_must_fit():
    with pytest.raises(InvalidDepthError):
        unproject_depth(torch.ones(60, 47), CAMERA)
    with pytest.raises(InvalidTensorError):
        points_to_depth(torch.ones(5, 5, 2))
    with pytest.raises(InvalidTensorError):
        normals(torch.ones(1, 5, 3))
    with pytest.raises(InvalidTensorError):
        normals(torch.ones(5, 3))
