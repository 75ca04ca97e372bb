"""Placing: true poses get true scales from noisy sensor depth, and what is uncertain says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cupid_core.config import PlacementConfig
from cupid_core.errors import InputError, PlacementError, TooFewDepthPairsError
from cupid_core.geometry import SE3, Camera, Sim3
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.place import place_up_to_scale, place_with_depth, place_with_size
from cupid_core.scene.visible_pairs import visible_pairs
from cupid_core.types import DepthMap, ScaleSource


def perfect_depth(truth, camera):
    """Depth of the object alone at its true place."""
    return torch.from_numpy(render_mesh(truth.mesh, truth.S_camera_object, camera).depth)


@pytest.mark.parametrize("camera_known", [True, False])
def test_true_poses_get_true_scale_and_place_from_sensor_depth(frame, camera_known):
    for truth in frame.objects:
        placed = place_with_depth(truth.mesh, truth.pose, frame.depth, truth.mask, camera_known=camera_known)
        scale = truth.item.scale_m
        assert abs(placed.scale / scale - 1.0) < (0.01 if camera_known else 0.03), truth.item.family
        assert truth.error_m(placed.S_camera_object) < 0.008
        assert placed.residual_m < 0.004 and placed.scale_source is ScaleSource.SENSOR
        assert abs(placed.scale - scale) < 4.0 * placed.scale_std
        assert placed.method == ("rays" if camera_known else "similarity")


def test_with_a_known_camera_the_object_does_not_move_in_the_image(frame):
    truth = frame.objects[0]
    placed = place_with_depth(truth.mesh, truth.pose, frame.depth, truth.mask, camera_known=True)
    before = frame.camera.project(truth.pose.T_camera_object.apply(truth.mesh.vertices.double()))
    after = frame.camera.project(placed.S_camera_object.apply(truth.mesh.vertices.double()))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("camera_known", [True, False])
def test_depth_in_other_units_scales_the_place_and_nothing_else(frame, camera_known):
    truth = frame.objects[1]
    first, second = (
        place_with_depth(
            truth.mesh,
            truth.pose,
            replace(frame.depth, depth_m=frame.depth.depth_m * factor),
            truth.mask,
            camera_known=camera_known,
        )
        for factor in (1.0, 2.0)
    )
    assert second.scale == pytest.approx(2.0 * first.scale, rel=1e-4)
    torch.testing.assert_close(
        second.S_camera_object.translation, 2.0 * first.S_camera_object.translation, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        second.S_camera_object.rotation(), first.S_camera_object.rotation(), atol=1e-4, rtol=0
    )


def test_half_of_the_mask_on_something_else_does_no_harm(frame):
    truth = frame.objects[0]
    depth = perfect_depth(truth, frame.camera)
    rows = torch.arange(depth.shape[0])[:, None].expand_as(depth)
    middle = rows[depth.isfinite()].float().quantile(0.4)
    wrong = torch.where((rows < middle) & depth.isfinite(), depth + 0.5, depth)
    mask = depth.isfinite().numpy()
    placed = place_with_depth(truth.mesh, truth.pose, DepthMap(wrong, ScaleSource.SENSOR), mask, camera_known=True)
    assert placed.scale == pytest.approx(truth.item.scale_m, rel=1e-3)


def test_measured_depth_holds_the_object_in_place_when_the_pose_is_too_near(frame):
    """An error of the pose along the ray becomes one of scale, hardly one of place, and the covariance knows."""
    truth = frame.objects[0]
    depth = DepthMap(perfect_depth(truth, frame.camera), ScaleSource.SENSOR)
    mask = depth.depth_m.isfinite().numpy()
    std = 0.2
    toward = truth.pose.T_camera_object.translation
    nearer = toward * (1.0 - std / toward.norm())
    pose = replace(
        truth.pose,
        T_camera_object=SE3(truth.pose.T_camera_object.quat_xyzw, nearer),
        covariance=std**2 * torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64)),
    )
    placed = place_with_depth(truth.mesh, pose, depth, mask, camera_known=True)
    assert placed.scale > 1.01 * truth.item.scale_m
    assert abs(placed.scale - truth.item.scale_m) < 2.0 * placed.scale_std
    unit = toward / toward.norm()
    along = math.sqrt(float(unit @ placed.covariance[:3, :3] @ unit))
    missed = abs(float((placed.S_camera_object.translation - truth.S_camera_object.translation) @ unit))
    assert missed < 3.0 * along < 0.5 * 3.0 * std * placed.scale


def test_a_common_error_of_depth_is_in_every_deviation(frame):
    truth = frame.objects[0]
    unsure = replace(frame.depth, scale_std=0.1, source=ScaleSource.MODEL)
    for camera_known in (True, False):
        placed = place_with_depth(truth.mesh, truth.pose, unsure, truth.mask, camera_known=camera_known)
        assert 0.1 <= placed.scale_std / placed.scale < 0.12
        distance = float(placed.S_camera_object.translation.norm())
        assert 0.1 * distance <= math.sqrt(float(placed.covariance[:3, :3].trace())) < 0.12 * distance
        assert placed.scale_source is ScaleSource.MODEL
        assert bool((torch.linalg.eigvalsh(placed.covariance) > -1e-12).all())


def test_a_depth_model_with_its_own_camera_places_the_object_in_that_camera(frame):
    truth = frame.objects[2]
    K = frame.camera.K.clone()
    K[0, 0] *= 1.15
    K[1, 1] *= 1.15
    wide = Camera(K, frame.camera.width, frame.camera.height)
    placed = place_with_depth(
        truth.mesh,
        replace(truth.pose, camera=wide),
        replace(frame.depth, camera=frame.camera),
        truth.mask,
        camera_known=False,
    )
    assert placed.camera is frame.camera and placed.method == "similarity"


def test_pairs_lie_on_the_object_and_away_from_borders(frame):
    for truth in frame.objects:
        place = Sim3.from_se3(truth.pose.T_camera_object)
        seen = render_mesh(truth.mesh, place, frame.camera)
        pairs = visible_pairs(seen, place, frame.camera, frame.depth.depth_m.numpy(), truth.mask)
        distance = truth.item.program.distance(pairs.points_object.float().T[:, None].contiguous())[0]
        assert distance.abs().quantile(0.95) < 0.02
        px = frame.camera.project(pairs.points_measured)
        torch.testing.assert_close(px, frame.camera.project(pairs.points_rendered), atol=1e-3, rtol=0)
        columns, rows = px.round().long().T.numpy()
        assert truth.mask[rows, columns].all()
        for shift in (-pairs.border_px, pairs.border_px):
            assert truth.mask[rows, np.clip(columns + shift, 0, 319)].all() or pairs.border_px == 0
        true = place.scale * truth.item.scale_m
        error = (pairs.points_measured - true * pairs.points_rendered).norm(dim=1)
        assert error.quantile(0.95) < 0.02


def test_too_little_depth_and_wrong_sizes_are_typed_errors(frame):
    truth = frame.objects[0]
    holes = torch.full_like(frame.depth.depth_m, torch.nan)
    holes[0, 0] = 1.0
    with pytest.raises(TooFewDepthPairsError, match="at least 30"):
        place_with_depth(
            truth.mesh, truth.pose, DepthMap(holes, ScaleSource.SENSOR), truth.mask, camera_known=True
        )
    with pytest.raises(InputError):
        place_with_depth(truth.mesh, truth.pose, frame.depth, truth.mask[:-1], camera_known=True)
    with pytest.raises(PlacementError):
        place_with_size(truth.mesh, truth.pose, 0.0)


def test_a_known_size_gives_metres_and_no_size_says_so(frame):
    truth = frame.objects[0]
    extent = float((truth.mesh.vertices.amax(dim=0) - truth.mesh.vertices.amin(dim=0)).max())
    placed = place_with_size(
        truth.mesh, truth.pose, truth.item.scale_m * extent, 0.01 * truth.item.scale_m * extent
    )
    assert placed.scale == pytest.approx(truth.item.scale_m) and placed.scale_source is ScaleSource.KNOWN_SIZE
    assert placed.scale_std == pytest.approx(0.01 * placed.scale)
    assert truth.error_m(placed.S_camera_object) < 1e-5
    unknown = place_up_to_scale(truth.pose)
    assert unknown.scale == 1.0 and unknown.scale_source is ScaleSource.UNKNOWN and math.isnan(unknown.scale_std)


def test_a_similarity_is_not_taken_where_the_scale_along_the_rays_does(frame):
    truth = frame.objects[3]
    free = place_with_depth(truth.mesh, truth.pose, frame.depth, truth.mask, camera_known=True)
    never = place_with_depth(
        truth.mesh,
        truth.pose,
        frame.depth,
        truth.mask,
        camera_known=True,
        config=PlacementConfig(similarity_gain=1.0),
    )
    assert free.method == never.method == "rays" and free.scale == never.scale
