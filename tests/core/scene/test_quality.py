"""Quality: zero error on identity, known values on known offsets, verdicts with reasons."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cupid_core.errors import InputError
from cupid_core.geometry import SE3, Camera
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.agreement import silhouette_iou
from cupid_core.scene.quality import measure_quality
from cupid_core.types import DepthMap, ScaleSource, TriangleMesh, Verdict

CAMERA = Camera.from_parameters(fx=100.0, fy=100.0, cx=49.5, cy=39.5, width=100, height=80)
POSE = PoseEstimate(SE3.identity(), CAMERA, torch.eye(6), 0.9, 0.5, "none")
GRAY = 0.4


@pytest.fixture(scope="module")
def square():
    """40 x 40 pixels at 1 m, one color."""
    half = 0.2
    vertices = torch.tensor([[-half, -half, 1], [half, -half, 1], [half, half, 1], [-half, half, 1]])
    mesh = TriangleMesh(vertices, torch.tensor([[0, 2, 1], [0, 3, 2]]), torch.full((4, 3), GRAY))
    return render_mesh(mesh, SE3.identity(), CAMERA)


def image(value):
    return np.full((80, 100, 3), round(255 * value), np.uint8)


def depth(metres):
    return DepthMap(torch.full((80, 100), metres), ScaleSource.SENSOR)


def test_the_same_picture_is_perfect(square):
    found = measure_quality(square, square.mask, image(GRAY), POSE, depth=depth(1.0), size_m=0.4)
    assert square.mask.sum() == 1600
    assert found.silhouette_iou == 1.0 and found.color_psnr_db > 60 and found.depth_residual_m < 1e-6
    assert found.verdict is Verdict.GOOD and found.reasons == ()
    assert found.reprojection_rms_px == 0.5 and found.inlier_ratio == 0.9


def test_known_offsets_give_known_numbers(square):
    shifted = np.roll(square.mask, 10, axis=1)
    found = measure_quality(square, shifted, image(GRAY + 0.2), POSE, depth=depth(1.05), size_m=0.4)
    assert found.silhouette_iou == pytest.approx(30 / 50)
    assert found.color_psnr_db == pytest.approx(-20 * math.log10(0.2))
    assert found.depth_residual_m == pytest.approx(0.05, abs=1e-6)
    assert found.verdict is Verdict.DOUBTFUL
    assert any("IoU 0.60" in reason for reason in found.reasons)
    assert any("depth residual 50 mm" in reason for reason in found.reasons)


def test_what_is_hidden_does_not_count(square):
    visible = square.mask.copy()
    visible[:, 50:] = False
    hidden = np.zeros_like(visible)
    hidden[:, 50:] = True
    assert silhouette_iou(square, visible) == pytest.approx(0.5)
    assert silhouette_iou(square, visible, hidden) == 1.0


def test_one_failed_number_fails_the_whole(square):
    far = np.roll(square.mask, 39, axis=1)
    assert measure_quality(square, far, image(GRAY), POSE).verdict is Verdict.FAILED
    for bad in (replace(POSE, inlier_ratio=0.02), replace(POSE, reprojection_rms_px=20.0)):
        assert measure_quality(square, square.mask, image(GRAY), bad).verdict is Verdict.FAILED
    metres_off = measure_quality(square, square.mask, image(GRAY), POSE, depth=depth(1.3), size_m=0.4)
    assert metres_off.verdict is Verdict.FAILED
    few = measure_quality(square, square.mask, image(GRAY), replace(POSE, degeneracy="few_points"))
    assert few.verdict is Verdict.DOUBTFUL and few.reasons == ("few points behind the pose",)


def test_black_objects_have_a_psnr_and_colorless_ones_none(square):
    colorless = replace(square, colors=None)
    assert measure_quality(colorless, square.mask, image(GRAY), POSE).color_psnr_db is None
    inverse = measure_quality(square, square.mask, image(1.0), POSE)
    assert inverse.color_psnr_db < 10 and inverse.verdict is Verdict.DOUBTFUL


def test_without_a_mesh_the_pose_decides(square):
    found = measure_quality(None, square.mask, image(GRAY), POSE)
    assert math.isnan(found.silhouette_iou) and found.color_psnr_db is None and found.verdict is Verdict.GOOD
    bad = measure_quality(None, square.mask, image(GRAY), replace(POSE, inlier_ratio=0.3))
    assert bad.verdict is Verdict.DOUBTFUL and "inlier ratio 0.30" in bad.reasons


def test_other_sizes_are_refused(square):
    with pytest.raises(InputError):
        measure_quality(square, square.mask[1:], image(GRAY), POSE)
    with pytest.raises(InputError):
        measure_quality(square, square.mask, image(GRAY)[1:], POSE)
