"""Pictures show what they claim: outlines at silhouettes, axes at poses, differences where things differ."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cupid_core.geometry.se3 import SE3
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.render.silhouette import eroded, outline
from cupid_core.report.overlay import AXIS_COLORS, axes_length, draw_overlay
from cupid_core.report.pictures import (
    BACKGROUND,
    MASK_ONLY,
    MESH_ONLY,
    SceneViews,
    cut,
    difference,
    object_color,
    square_around,
    turntable,
    upward,
    view_scene,
)
from cupid_core.types import TriangleMesh


@pytest.fixture(scope="module")
def views(scene: Scene) -> SceneViews:
    return view_scene(scene, 1280)


def moved_to(item: SceneObject, T_camera_object: SE3) -> SceneObject:
    return replace(item, state=replace(item.state, T_camera_object=T_camera_object))


def test_outlines_run_along_silhouettes_and_nothing_else_changes(scene: Scene, views: SceneViews) -> None:
    first = scene.objects[0]
    item = replace(first, model=replace(first.model, label=""))
    before = views.image.copy()
    drawn = draw_overlay(views, [item])
    assert drawn.shape == views.image.shape and np.array_equal(views.image, before), "the photo itself is drawn on"
    edge = outline(views.single[item.id].mask)
    color = np.array(object_color(item.id))
    near = np.abs(drawn[edge].astype(int) - color).max(axis=1) < 90
    assert near.mean() > 0.7
    touched = (drawn != before).any(axis=2)
    rows, columns = np.nonzero(views.single[item.id].mask)
    reach = 40  # axes and name
    far = np.ones_like(touched)
    far[max(rows.min() - reach, 0) : rows.max() + reach, max(columns.min() - reach, 0) : columns.max() + reach] = (
        False
    )
    assert far.any() and not touched[far].any()


def test_axes_end_where_their_tips_project(scene: Scene, views: SceneViews) -> None:
    item = scene.objects[1]
    drawn = draw_overlay(views, [item])
    length = axes_length(item)
    for axis, color in enumerate(AXIS_COLORS):
        tip = torch.zeros(3, dtype=torch.float64)
        tip[axis] = 0.8 * length
        x, y = views.camera.project(item.pose.apply(tip)).round().int().tolist()
        around = drawn[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].reshape(-1, 3).astype(int)
        assert np.abs(around - np.array(color)).max(axis=1).min() < 60, f"axis {axis} is not at ({x}, {y})"


def test_an_object_that_reaches_behind_the_camera_is_drawn_without_axes(scene: Scene) -> None:
    behind = SE3.from_rotation_translation(torch.eye(3).double(), torch.tensor([0.0, 0.0, -0.5]).double())
    lost = replace(scene, objects=(moved_to(scene.objects[0], behind),))
    views = view_scene(lost, 1280)
    assert np.array_equal(draw_overlay(views, lost.objects), views.image)


def test_a_smaller_view_has_the_same_content(scene: Scene, views: SceneViews) -> None:
    small = view_scene(scene, 80)
    assert small.image.shape == (60, 80, 3) and small.camera.width == 80
    for id_, rendering in views.single.items():
        ratio = small.single[id_].mask.mean() / rendering.mask.mean()
        assert ratio == pytest.approx(1.0, abs=0.1)
        assert set(np.unique(small.labels)) == set(np.unique(scene.labels))


def test_the_difference_is_nothing_for_a_perfect_reconstruction(scene: Scene, views: SceneViews) -> None:
    rendering, mask = views.single[2], views.labels == 2
    perfect = difference(views.image, rendering, mask)
    assert (perfect[mask & rendering.mask] >= 250).all() and (perfect[~mask & ~rendering.mask] == BACKGROUND).all()
    smaller = eroded(mask, 3)
    wrong = difference(views.image, rendering, smaller)
    assert (wrong[rendering.mask & ~smaller] == MESH_ONLY).all()
    larger = np.ones_like(mask)
    assert (difference(views.image, rendering, larger)[~rendering.mask] == MASK_ONLY).all()


def test_cuts_keep_the_middle_and_reach_beyond_the_border() -> None:
    picture = np.full((20, 30, 3), 7, np.uint8)
    mask = np.zeros((20, 30), bool)
    assert square_around(mask) is None
    mask[0:4, 0:4] = True
    square = square_around(mask, margin=2.0)
    assert square == (-2, -2, 8)
    shown = cut(picture, square, 8)
    assert (shown[2:, 2:] == 7).all() and (shown[:2] == BACKGROUND).all() and (shown[:, :2] == BACKGROUND).all()


def test_a_turntable_does_not_depend_on_scale_or_position(scene: Scene) -> None:
    mesh = scene.objects[0].mesh
    frames = turntable(mesh, 4, 40)
    assert len(frames) == 4 and all(frame.shape == (40, 40, 3) for frame in frames)
    moved = replace(mesh, vertices=mesh.vertices * 1000 + torch.tensor([5.0, -3.0, 900.0]))
    for frame, other in zip(frames, turntable(moved, 4, 40), strict=True):
        assert np.abs(frame.astype(int) - other.astype(int)).mean() < 1.0
        inside = (frame != BACKGROUND).any(axis=2)
        assert 0.1 < inside.mean() < 0.8
        assert not inside[0].any() and not inside[:, 0].any() and not inside[-1].any() and not inside[:, -1].any()
    # A box looks the same after half a turn, and not after a quarter.
    assert np.abs(frames[0].astype(int) - frames[2].astype(int)).mean() < 2.0
    assert np.abs(frames[0].astype(int) - frames[1].astype(int)).mean() > 5.0


def test_up_is_where_the_objects_agree_and_else_unknown(scene: Scene) -> None:
    up = upward(scene.objects)
    assert up is not None
    torch.testing.assert_close(up, torch.tensor([0.0, -0.8, -0.6], dtype=torch.float64))
    fallen = SE3.from_rotation_translation(torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.0]).double())
    assert upward([moved_to(scene.objects[0], fallen)]) is None
    assert upward([]) is None


def test_meshes_without_colors_are_rendered(scene: Scene) -> None:
    mesh = scene.objects[0].mesh
    gray = TriangleMesh(mesh.vertices, mesh.faces)
    (frame,) = turntable(gray, 1, 32)
    inside = frame[(frame != BACKGROUND).any(axis=2)]
    assert len(inside) and (inside == inside[:, :1]).all()
