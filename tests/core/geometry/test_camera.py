"""Laws of the camera: projection and its inverse, crop, resize, half pixels, lenses, refused calibrations."""

from __future__ import annotations

import math
from itertools import product

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InvalidCameraError, InvalidImageError, InvalidTensorError
from cupid_core.geometry import Camera, Distortion

LENSES = {
    "pinhole": None,
    "plumb_bob": Distortion("plumb_bob", (-0.35, 0.15, 1e-3, -5e-4, -0.02)),
    "plumb_bob_4": Distortion("plumb_bob", (0.08, -0.03, 1e-3, 2e-3)),
    "rational": Distortion("rational_polynomial", (0.5, -2.6, 4e-4, -1e-4, 1.5, 0.4, -2.4, 1.4)),
    "thin_prism": Distortion(
        "rational_polynomial", (0.05, -0.02, 2e-4, 3e-4, 0.01, 0.01, 0.01, 2e-3, 1e-3, 2e-4, 1e-3, 2e-4)
    ),
    "tilted": Distortion(
        "rational_polynomial",
        (0.05, -0.02, 2e-4, 3e-4, 0.01, 0.01, 0.01, 2e-3, 1e-3, 2e-4, 1e-3, 2e-4, 0.01, 0.02),
    ),
    "fisheye": Distortion("equidistant", (0.02, -0.01, 0.003, -0.0005)),
}


def camera_with(lens: str = "pinhole", width: int = 640, height: int = 481) -> Camera:
    return Camera.from_parameters(
        fx=310.0, fy=305.5, cx=321.3, cy=233.8, width=width, height=height, distortion=LENSES[lens]
    )


def pixel_grid(camera: Camera) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(camera.height), torch.arange(camera.width), indexing="ij")
    return torch.stack((columns, rows), dim=-1).double()


def centroid(image: np.ndarray) -> np.ndarray:
    """Center of mass in pixels, centers at integers."""
    rows, columns = np.indices(image.shape)
    return np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()


def blob(width: int, height: int, center: np.ndarray, sigma: float = 3.0) -> np.ndarray:
    rows, columns = np.indices((height, width))
    return np.exp(-((columns - center[0]) ** 2 + (rows - center[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_undoes_unprojection(lens, draw):
    camera = camera_with(lens)
    px = pixel_grid(camera)
    depth = 0.5 + draw(camera.height, camera.width).abs()
    points = camera.unproject(px, depth)
    torch.testing.assert_close(points[..., 2], depth)
    torch.testing.assert_close(camera.project(points), px, atol=1e-8, rtol=0)
    torch.testing.assert_close(camera.rays() * depth[..., None], points, atol=1e-12, rtol=0)


@pytest.mark.parametrize("lens", LENSES)
def test_projection_is_that_of_opencv(lens, draw):
    camera = camera_with(lens)
    points = draw(200, 3) * torch.tensor([0.3, 0.3, 0.2]) + torch.tensor([0.0, 0.0, 1.5])
    coefficients = np.array(LENSES[lens].coefficients if LENSES[lens] else (0.0,) * 4)
    project = cv2.fisheye.projectPoints if lens == "fisheye" else cv2.projectPoints
    expected, _ = project(points.numpy()[:, None], np.zeros(3), np.zeros(3), camera.K.numpy(), coefficients)
    torch.testing.assert_close(camera.project(points), torch.from_numpy(expected[:, 0]), atol=1e-9, rtol=0)


def test_types_and_devices(dtype, device, draw, tolerance):
    camera = camera_with().to(dtype=dtype, device=device)
    points = torch.cat((draw(2, 5, 2), 2.0 + draw(2, 5, 1).abs()), dim=-1).to(device, dtype)
    px = camera.project(points)
    assert px.dtype == dtype and px.shape == (2, 5, 2) and px.device.type == device
    torch.testing.assert_close(camera.unproject(px, points[..., 2]), points, atol=tolerance, rtol=tolerance)


def test_skew_is_part_of_the_pinhole(draw):
    K = torch.tensor([[300.0, 12.0, 100.0], [0.0, 280.0, 90.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    camera = Camera(K, 200, 180)
    points = torch.cat((draw(50, 2), 1.0 + draw(50, 1).abs()), dim=-1)
    homogeneous = points @ K.T
    torch.testing.assert_close(camera.project(points), homogeneous[:, :2] / homogeneous[:, 2:])
    torch.testing.assert_close(camera.unproject(camera.project(points), points[:, 2]), points)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    corner=st.tuples(st.integers(-60, 60), st.integers(-60, 60)),
    box=st.tuples(st.integers(1, 91), st.integers(1, 91)),
    lens=st.sampled_from(sorted(LENSES)),
)
def test_crop_then_project_is_project_then_shift(size, corner, box, lens):
    """Even and odd sizes, non-square images, boxes that reach beyond every border."""
    camera = Camera.from_parameters(
        fx=50.0, fy=47.0, cx=31.0, cy=29.5, width=size[0], height=size[1], distortion=LENSES[lens]
    )
    cropped = camera.crop(*corner, *box)
    points = torch.tensor([[0.1, -0.2, 1.0], [0.3, 0.25, 2.0], [0.0, 0.0, 0.7]], dtype=torch.float64)
    shift = torch.tensor(corner, dtype=torch.float64)
    torch.testing.assert_close(cropped.project(points), camera.project(points) - shift, atol=1e-10, rtol=0)
    assert (cropped.width, cropped.height) == box


@pytest.mark.parametrize("box", [(7, 5, 20, 31), (-6, -9, 33, 24), (40, 30, 40, 41), (-10, 20, 101, 64)])
def test_crop_follows_the_pixels(box):
    """The same spot of the same scene is found in the cut array where the cropped camera projects it."""
    camera = Camera.from_parameters(fx=40.0, fy=42.0, cx=22.0, cy=27.0, width=61, height=64)
    point = torch.tensor([0.12, 0.05, 0.5], dtype=torch.float64)
    image = blob(61, 64, camera.project(point).numpy(), sigma=1.5)
    x0, y0, width, height = box
    padded = np.pad(image, 110)
    cut = padded[110 + y0 : 110 + y0 + height, 110 + x0 : 110 + x0 + width]
    expected = camera.crop(*box).project(point).numpy()
    if not ((expected > 6).all() and (expected < [width - 6, height - 6]).all()):
        # The spot was cut away: the camera must say so too.
        assert cut.sum() < 0.99 * image.sum()
        return
    np.testing.assert_allclose(centroid(cut), expected, atol=1e-2)


@pytest.mark.parametrize("size", [(60, 48), (61, 47), (120, 96), (30, 96)])
def test_resize_follows_the_pixels(size):
    """Averaging pixels moves a spot's center of mass exactly where the resized camera projects it."""
    camera = Camera.from_parameters(fx=100.0, fy=90.0, cx=70.2, cy=41.7, width=120, height=96)
    point = torch.tensor([0.11, -0.07, 1.0], dtype=torch.float64)
    image = blob(120, 96, camera.project(point).numpy(), sigma=5.0)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    expected = camera.resize(*size).project(point).numpy()
    np.testing.assert_allclose(centroid(resized), expected, atol=5e-3)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 999), st.integers(1, 999)),
    to=st.tuples(st.integers(1, 999), st.integers(1, 999)),
)
def test_resize_keeps_normalized_coordinates(size, to):
    camera = Camera.from_parameters(fx=300.0, fy=310.0, cx=100.5, cy=90.25, width=size[0], height=size[1])
    point = torch.tensor([0.2, -0.1, 1.0], dtype=torch.float64)
    resized = camera.resize(*to)
    uv, resized_uv = camera.px_to_uv(camera.project(point)), resized.px_to_uv(resized.project(point))
    torch.testing.assert_close(resized_uv, uv, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(resized.resize(*size).K, camera.K, atol=1e-9, rtol=1e-12)


def test_half_pixel_has_its_known_values():
    """Four pixels: centers at 0, 1, 2, 3 in pixels and 1/8, 3/8, 5/8, 7/8 across the image."""
    camera = Camera.from_parameters(fx=4.0, fy=2.0, cx=1.5, cy=0.5, width=4, height=2)
    px = torch.tensor([[0.0, 0.0], [1.5, 0.5], [3.0, 1.0]], dtype=torch.float64)
    uv = torch.tensor([[0.125, 0.25], [0.5, 0.5], [0.875, 0.75]], dtype=torch.float64)
    assert camera.px_to_uv(px).equal(uv)
    assert camera.uv_to_px(uv).equal(px)
    # The principal point in the middle of the image is 0.5 in normalized coordinates.
    assert camera.K_normalized().tolist() == [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]


def test_normalized_intrinsics_both_ways(draw):
    camera = camera_with()
    again = Camera.from_normalized(camera.K_normalized(), camera.width, camera.height)
    torch.testing.assert_close(again.K, camera.K)
    points = torch.cat((draw(20, 2), 2.0 + draw(20, 1).abs()), dim=-1)
    homogeneous = points @ camera.K_normalized().T
    torch.testing.assert_close(homogeneous[:, :2] / homogeneous[:, 2:], camera.px_to_uv(camera.project(points)))


def test_absence_in_absence_out():
    camera = camera_with()
    behind = torch.tensor([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [math.nan, 0.0, 1.0], [0.0, 0.0, math.nan]])
    assert bool(camera.project(behind).isnan().all())
    px = torch.zeros(5, 2)
    depth = torch.tensor([0.0, -1.0, math.nan, math.inf, 1.0])
    points = camera.unproject(px, depth)
    assert bool(points[:4].isnan().all()) and bool(points[4].isfinite().all())
    one_depth = camera.unproject(px, torch.tensor(2.0))
    assert one_depth.shape == (5, 3)


def test_pinhole_is_differentiable(draw):
    camera = camera_with()
    points = torch.cat((draw(4, 2), 1.0 + draw(4, 1).abs()), dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(camera.project, points)
    px, depth = draw(4, 2).requires_grad_(), (1.0 + draw(4).abs()).requires_grad_()
    assert torch.autograd.gradcheck(camera.unproject, (px, depth))


def test_a_point_behind_does_not_poison_gradients():
    points = torch.tensor([[0.1, 0.1, 1.0], [0.1, 0.1, 0.0], [0.1, 0.1, -1.0]], requires_grad=True)
    px = camera_with().project(points)
    px[px.isfinite()].sum().backward()
    assert bool(points.grad.isfinite().all())


@pytest.mark.parametrize("lens", [name for name, lens in LENSES.items() if lens])
def test_lenses_refuse_gradients_instead_of_dropping_them(lens):
    with pytest.raises(InvalidTensorError):
        camera_with(lens).project(torch.ones(2, 3, requires_grad=True))


def test_zero_coefficients_are_a_pinhole(draw):
    rectified = Camera(camera_with().K, 640, 481, Distortion("plumb_bob", (0.0,) * 5))
    points = torch.cat((draw(10, 2), 1.0 + draw(10, 1).abs()), dim=-1).requires_grad_()
    assert rectified.project(points).equal(camera_with().project(points))
    # An equidistant lens of zeros is a perfect fisheye, which is something else.
    fisheye = Camera(camera_with().K, 640, 481, Distortion("equidistant", (0.0,) * 4))
    assert not fisheye.project(points.detach()).allclose(camera_with().project(points.detach()))


def test_fisheye_at_large_angles():
    """A perfect equidistant lens puts a ray at radius f times its angle, up to the edge of the half space."""
    camera = Camera(camera_with().K, 640, 481, Distortion("equidistant", (0.0,) * 4))
    angles = torch.deg2rad(torch.tensor([0.0, 1e-6, 10.0, 45.0, 70.0, 85.0, 89.0, 89.9], dtype=torch.float64))
    points = torch.stack((angles.sin(), torch.zeros_like(angles), angles.cos()), dim=-1)
    px = camera.project(points)
    torch.testing.assert_close(px[:, 0], 321.3 + 310.0 * angles, atol=1e-9, rtol=0)
    torch.testing.assert_close(camera.unproject(px, points[:, 2]), points, atol=1e-9, rtol=0)


@pytest.mark.parametrize("lens", [name for name, lens in LENSES.items() if lens])
def test_no_point_comes_back_wrong_at_any_angle(lens):
    """Out to 89.9 degrees a point either survives the round trip or is absent; folded rays never return."""
    camera = camera_with(lens)
    angles = torch.deg2rad(torch.linspace(0.0, 89.9, 400, dtype=torch.float64))
    points = torch.stack((0.6 * angles.sin(), 0.8 * angles.sin(), angles.cos()), dim=-1)
    back = camera.unproject(camera.project(points), points[:, 2])
    seen = back.isfinite().all(-1)
    assert bool(seen[angles < math.radians(50.0)].all())
    torch.testing.assert_close(back[seen], points[seen], atol=1e-7, rtol=0)


def test_a_lens_that_folds_back_says_where():
    """r (1 - r^2 / 3) turns around at r = 1: beyond it points are absent, and pixels beyond 2/3 have no ray."""
    camera = Camera(camera_with().K, 640, 481, Distortion("plumb_bob", (-1.0 / 3.0, 0.0, 0.0, 0.0)))
    assert camera.distortion.max_radius == pytest.approx(1.0)
    inside, outside = torch.tensor([0.999, 0.0, 1.0]), torch.tensor([1.001, 0.0, 1.0])
    assert bool(camera.project(inside).isfinite().all()) and bool(camera.project(outside).isnan().all())
    px = torch.tensor([321.3 + 310.0 * 0.7, 233.8], dtype=torch.float64)
    assert bool(camera.unproject(px, torch.tensor(1.0).double()).isnan().all())


@pytest.mark.parametrize("lens", LENSES)
def test_undistort_puts_spots_where_the_pinhole_projects_them(lens):
    camera = camera_with(lens)
    pinhole = Camera(camera.K, camera.width, camera.height)
    scales = {"uint8": 255, "uint16": 60000, "float32": 1}
    for direction, kind in product(([0.0, 0.0, 1.0], [0.35, 0.2, 1.0], [-0.3, 0.3, 1.0]), scales):
        point = torch.tensor(direction, dtype=torch.float64)
        image = blob(640, 481, camera.project(point).numpy())
        rectified, after = camera.undistort((image * scales[kind]).astype(kind))
        assert rectified.shape == image.shape and rectified.dtype == kind and after.distortion is None
        # A spot of finite size is stretched unevenly by the lens, which moves its center a little.
        np.testing.assert_allclose(centroid(rectified.astype(float)), pinhole.project(point).numpy(), atol=0.15)


def test_undistort_keeps_labels_and_channels():
    camera = camera_with("plumb_bob")
    labels = np.random.default_rng(0).integers(0, 5, (481, 640), dtype=np.uint8) * 50
    nearest, _ = camera.undistort(labels, interpolation="nearest")
    assert set(np.unique(nearest)) <= set(np.unique(labels))
    for channels in (1, 3, 4):
        color, _ = camera.undistort(np.zeros((481, 640, channels), dtype=np.uint8))
        assert color.shape == (481, 640, channels)


def test_undistort_refuses_what_does_not_belong():
    camera = camera_with("plumb_bob")
    for image in (np.zeros((480, 640), np.uint8), np.zeros((481, 640, 7), np.uint8), np.zeros((481, 640), bool)):
        with pytest.raises(InvalidImageError):
            camera.undistort(image)


def test_invalid_intrinsics_are_refused():
    good = camera_with().K
    changes = {(0, 0): math.nan, (1, 1): 0.0, (0, 2): math.inf, (2, 2): 0.0, (1, 0): 3.0, (2, 0): 1e-3}
    bad = [torch.zeros(3, 3), -good, torch.eye(4), good.long(), good.half(), good[:2]]
    for place, value in changes.items():
        K = good.clone()
        K[place] = value
        bad.append(K)
    for K in bad:
        with pytest.raises(InvalidCameraError):
            Camera(K, 640, 480)
    with pytest.raises(InvalidCameraError, match="uncalibrated"):
        Camera(torch.zeros(3, 3), 640, 480)


@pytest.mark.parametrize("size", [(0, 480), (640, 0), (-1, 5), (640.5, 480), ("640", 480), (None, 480)])
def test_invalid_sizes_are_refused(size):
    with pytest.raises(InvalidCameraError):
        Camera(camera_with().K, *size)
    with pytest.raises(InvalidCameraError):
        camera_with().resize(*size)
    with pytest.raises(InvalidCameraError):
        camera_with().crop(0, 0, *size)
    with pytest.raises(InvalidCameraError):
        Camera.from_normalized(torch.eye(3), *size)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("brown_conrady", (0.0,) * 5),
        ("", ()),
        ("plumb_bob", (0.1, 0.1)),
        ("plumb_bob", (0.1,) * 8),
        ("rational_polynomial", (0.1,) * 9),
        ("equidistant", (0.1,) * 5),
        ("plumb_bob", (math.nan, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_invalid_lenses_are_refused(model, coefficients):
    with pytest.raises(InvalidCameraError):
        Distortion(model, coefficients)


def test_skew_beside_a_lens_is_refused():
    K = camera_with().K.clone()
    K[0, 1] = 1.0
    with pytest.raises(InvalidCameraError):
        Camera(K, 640, 480, LENSES["plumb_bob"])


def test_wrong_shapes_are_refused():
    camera = camera_with()
    for call in (
        lambda: camera.project(torch.zeros(4, 2)),
        lambda: camera.project(torch.zeros(4, 3, dtype=torch.long)),
        lambda: camera.unproject(torch.zeros(4, 3), torch.ones(4)),
    ):
        with pytest.raises(InvalidTensorError):
            call()
