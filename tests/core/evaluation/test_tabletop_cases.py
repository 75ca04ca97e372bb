"""Cases: the inputs agree with their truth, and a perfect result is measured as perfect."""

import numpy as np
import pytest
import torch

from cupid_core.data.tabletop import TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.evaluation.surface_truth import surface_points
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, tabletop_cases
from cupid_core.geometry import SE3

SETTINGS = TabletopSettings(image_size=64, resolution=16, truncated=0.0)
COUNT = 4


@pytest.fixture(scope="module")
def cases():
    return tabletop_cases(range(COUNT), SETTINGS)


@pytest.fixture(scope="module")
def batch():
    with torch.inference_mode():
        return sample_tabletop(range(COUNT), SETTINGS, seed=UNSEEN_SEED)


def test_the_view_is_at_the_position_that_its_camera_gives(cases, batch):
    for row, case in enumerate(cases):
        inside = (slice(case.top, case.top + 64), slice(case.left, case.left + 64))
        assert case.image[inside].shape == (64, 64, 3)
        outside = np.ones(case.mask.shape, bool)
        outside[inside] = False
        assert not case.image[outside].any() and not case.mask[outside].any()
        # What the camera of the photograph sees of the voxels is where the generator says they are in the view.
        centers = (torch.stack(torch.meshgrid(*(torch.arange(16),) * 3, indexing="ij"), -1) + 0.5) / 16 - 0.5
        points = SE3.from_matrix(case.T_camera_object).apply(centers.double().flatten(0, 2))
        uv = (case.camera.project(points) - torch.tensor([case.left, case.top]) + 0.5) / 64
        assert torch.allclose(uv.float(), batch.uv[row].flatten(0, 2), atol=2e-4)
        view = case.view_camera(case.camera)
        assert torch.allclose(view.K_normalized().float(), batch.intrinsics[row], atol=1e-5)


def test_the_principal_point_is_in_the_middle(cases):
    for case in cases:
        middle = torch.tensor([(case.camera.width - 1) / 2, (case.camera.height - 1) / 2]).double()
        assert float((case.camera.K[:2, 2] - middle).abs().max()) <= 0.5 + 1e-4


def test_cases_do_not_depend_on_the_batch(cases):
    (alone,) = tabletop_cases([2], SETTINGS)
    together = cases[2]
    assert np.array_equal(alone.image, together.image) and np.array_equal(alone.mask, together.mask)
    for name in ("T_camera_object", "T_other", "surface", "shell", "colors"):
        assert torch.equal(getattr(alone, name), getattr(together, name)), name
    assert (alone.depth is None) == (together.depth is None)
    if alone.depth is not None:
        assert torch.equal(alone.depth.depth_m.nan_to_num(), together.depth.depth_m.nan_to_num())
    (other,) = tabletop_cases([2], SETTINGS, seed=UNSEEN_SEED + 1)
    assert other.image.shape != together.image.shape or not np.array_equal(other.image, together.image)


def test_measured_depth_is_that_of_the_object_with_noise(cases):
    measured = 0
    for case in cases:
        if case.depth is None:
            continue
        rows, columns = slice(case.top, case.top + 64), slice(case.left, case.left + 64)
        depth = case.depth.depth_m[rows, columns]
        seen = depth.isfinite()
        assert not bool((seen & ~case.visible).any())
        true = case.depth_true[seen] * case.scale_m
        error = (depth[seen] - true).abs() / true
        # Noise of 2.5 mm at 1 m that grows with the square of the distance.
        assert float(error.median()) < 0.004 * float(true.median()) + 0.002
        assert float(error.max()) > 0
        measured += int(seen.sum())
    assert measured > 500


def test_another_view_is_another(cases):
    for case in cases:
        assert torch.linalg.det(case.T_other[:3, :3]) == pytest.approx(1.0, abs=1e-5)
        assert not torch.allclose(case.T_other, case.T_camera_object, atol=1e-2)


def test_surface_points_are_on_the_surface_and_all_over_it(cases):
    objects = build_objects([draw_shape(UNSEEN_SEED, 1)], 16, "cpu")
    program = objects.programs[0][1]
    points = surface_points(program, objects.shell[0], 3, count=2000)
    assert points.shape == (2000, 3)
    assert float(program.distance(points.T[:, None]).abs().max()) < 2e-3
    voxels = torch.unique(((points + 0.5) * 16).long().clamp(0, 15), dim=0)
    assert len(voxels) > 0.6 * int(objects.shell.sum())
    spread = points.amax(0) - points.amin(0)
    assert torch.allclose(spread / 2, objects.half[0], atol=0.03)


def test_a_truncated_view_is_marked():
    cut = tabletop_cases(range(3), SETTINGS.model_copy(update={"truncated": 1.0, "occluded": 0.0}))
    whole = tabletop_cases(range(3), SETTINGS.model_copy(update={"occluded": 0.0}))
    assert all(case.occlusion[0, 0] == case.truncated for case in cut if case.left and case.top)
    assert all(case.truncated for case in cut) and not any(case.truncated for case in whole)
    assert all(torch.equal(case.visible, case.silhouette) for case in whole)


def test_only_one_family():
    cases = tabletop_cases(range(2), SETTINGS, family="ball")
    assert {case.family for case in cases} == {"ball"}
