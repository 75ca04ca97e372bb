"""Refinement brings a disturbed place back, leaves a good one alone, and refuses what it makes worse."""

import numpy as np
import pytest
import torch

from cupid_core.errors import EmptyMaskError, InputError
from cupid_core.geometry import Sim3
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.occlusion import occlusion_masks
from cupid_core.scene.refine import refine_placement
from cupid_core.scene.refine_step import _motion, move
from cupid_core.types import DepthMap, ScaleSource

STEP = (0.06, -0.05, 0.08, 0.10, -0.08, 0.06, 0.06)


def disturbed(truth, size=1.0):
    step = size * torch.tensor(STEP, dtype=torch.float64)
    step[:3] *= truth.item.scale_m
    return move(truth.S_camera_object, step)


def test_a_disturbed_place_comes_back_with_depth(frame):
    hidden = occlusion_masks(frame.labels, frame.depth)
    for truth in frame.objects:
        start = disturbed(truth)
        done = refine_placement(
            truth.mesh, start, truth.mask, frame.depth, frame.camera, hidden=hidden[truth.item.label]
        )
        assert done.accepted and done.reason.startswith("Accepted"), (truth.item.family, done.reason)
        assert done.after.silhouette_iou > max(0.93, done.before.silhouette_iou)
        assert done.after.depth_residual_m < 0.003 < done.before.depth_residual_m
        # Turning about its axis cannot be seen of a can or a bowl: points then differ, the surface does not.
        shape = truth.item.program
        inside = truth.S_camera_object.inverse().apply(done.S_camera_object.apply(truth.mesh.vertices.double()))
        away = shape.distance(inside.float().T[:, None].contiguous())[0].abs()
        assert float(away.mean()) < 0.02, truth.item.family


def test_a_true_place_stays(frame):
    truth = frame.objects[0]
    done = refine_placement(truth.mesh, truth.S_camera_object, truth.mask, frame.depth, frame.camera)
    assert truth.error_m(done.S_camera_object) < 0.004
    assert done.after.silhouette_iou > 0.96


def test_without_depth_the_outline_meets_the_mask_and_the_scale_stays(frame):
    truth = frame.objects[0]
    start = disturbed(truth, 0.6)
    done = refine_placement(truth.mesh, start, truth.mask, None, frame.camera)
    assert done.accepted and done.after.silhouette_iou > max(0.95, done.before.silhouette_iou)
    assert float(done.S_camera_object.scale) == pytest.approx(float(start.scale), rel=1e-6)
    assert done.before.depth_residual_m is None and done.after.depth_residual_m is None


def cut(truth):
    """The mask without its right quarter, and the occluder that covers that."""
    columns = np.nonzero(truth.mask.any(axis=0))[0]
    wall = np.zeros_like(truth.mask)
    wall[:, int(np.quantile(columns, 0.75)) :] = True
    return truth.mask & ~wall, wall


def test_what_is_hidden_does_not_pull(frame):
    """A quarter of the object is behind an occluder: told so, the place stays; the mask alone would move it."""
    truth = frame.objects[0]
    visible, wall = cut(truth)
    told = refine_placement(truth.mesh, truth.S_camera_object, visible, None, frame.camera, hidden=wall)
    untold = refine_placement(truth.mesh, truth.S_camera_object, visible, None, frame.camera)
    assert told.before.silhouette_iou > 0.95 > untold.before.silhouette_iou
    away = [truth.error_m(done.S_camera_object) / truth.item.scale_m for done in (told, untold)]
    assert away[0] < 0.07 and away[1] > 3.0 * away[0]


def test_a_worse_depth_is_refused(frame):
    """A mask with a quarter missing pulls the object off its measured depth."""
    truth = frame.objects[0]
    visible, _ = cut(truth)
    done = refine_placement(truth.mesh, truth.S_camera_object, visible, frame.depth, frame.camera)
    assert not done.accepted and "depth residual became worse" in done.reason
    assert done.after.depth_residual_m > done.before.depth_residual_m
    assert torch.equal(done.S_camera_object.matrix(), truth.S_camera_object.matrix())


def test_a_worse_silhouette_is_refused(frame):
    """Depth of the same object turned by 20 degrees, under a mask that fits perfectly already."""
    truth = frame.objects[0]
    caster = MeshCaster(truth.mesh)
    mask = caster.render(truth.S_camera_object, frame.camera).mask
    step = torch.tensor([0.0, 0.0, 0.0, 0.2, 0.3, 0.0, 0.0], dtype=torch.float64)
    turned = caster.render(move(truth.S_camera_object, step), frame.camera)
    depth = DepthMap(torch.from_numpy(turned.depth), ScaleSource.SENSOR)
    done = refine_placement(truth.mesh, truth.S_camera_object, mask, depth, frame.camera)
    assert done.before.silhouette_iou == 1.0 and done.after.silhouette_iou < 0.995
    assert not done.accepted and "silhouette became worse" in done.reason
    assert torch.equal(done.S_camera_object.matrix(), truth.S_camera_object.matrix())


def test_the_step_is_the_derivative_of_the_motion(frame):
    truth = frame.objects[0]
    place = truth.S_camera_object
    points = place.apply(truth.mesh.vertices[::500].double())
    motion = _motion((points - place.translation).numpy())
    for k in range(7):
        step = torch.zeros(7, dtype=torch.float64)
        step[k] = 1e-6
        moved = move(place, step).apply(truth.mesh.vertices[::500].double())
        np.testing.assert_allclose(((moved - points) / 1e-6).numpy(), motion[:, :, k], atol=1e-5)


def test_wrong_input_is_refused(frame):
    truth = frame.objects[0]
    with pytest.raises(EmptyMaskError):
        refine_placement(truth.mesh, truth.S_camera_object, truth.mask & False, None, frame.camera)
    with pytest.raises(InputError):
        refine_placement(truth.mesh, truth.S_camera_object, truth.mask[:-1], None, frame.camera)


def test_rendering_at_full_resolution_is_what_is_reported(frame):
    truth = frame.objects[1]
    done = refine_placement(truth.mesh, disturbed(truth), truth.mask, frame.depth, frame.camera)
    seen = MeshCaster(truth.mesh).render(Sim3.from_matrix(done.S_camera_object.matrix()), frame.camera).mask
    iou = (seen & truth.mask).sum() / (seen | truth.mask).sum()
    assert done.after.silhouette_iou == pytest.approx(float(iou), abs=1e-6)
