"""Occlusion masks agree with what really hides what, and never hide an object behind one that is farther."""

import numpy as np
import pytest
import torch

from cupid_core.errors import InputError
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.occlusion import occlusion_masks
from cupid_core.types import DepthMap, ScaleSource


def two_boxes(gap=0, left_m=0.6, right_m=0.9):
    """Labels 1 (left) and 2 (right) side by side, and their depth."""
    labels = np.zeros((60, 80), np.int32)
    labels[10:50, 10:40], labels[20:45, 40 + gap : 70] = 1, 2
    depth = np.where(labels == 1, left_m, np.where(labels == 2, right_m, 1.2)).astype(np.float32)
    return labels, DepthMap(torch.from_numpy(depth), ScaleSource.SENSOR)


def test_what_really_is_hidden_is_said_to_be_possibly_hidden(frame):
    found = occlusion_masks(frame.labels, frame.depth)
    assert sorted(found) == [truth.item.label for truth in frame.objects]
    covered_pixels = 0
    for truth in frame.objects:
        whole = render_mesh(truth.mesh, truth.S_camera_object, frame.camera).mask
        covered = whole & (frame.labels > 0) & ~truth.mask
        hidden = found[truth.item.label]
        assert not (hidden & truth.mask).any() and not (hidden & (frame.labels == 0)).any()
        # Single pixels at borders are rounding of two renderers.
        if covered.sum() > 20:
            covered_pixels += int(covered.sum())
            assert (covered & hidden).sum() >= 0.95 * covered.sum(), truth.item.family
    assert covered_pixels > 50, "the scene of this test must hide something"


def test_the_nearer_hides_the_farther_and_not_the_other_way():
    labels, depth = two_boxes()
    found = occlusion_masks(labels, depth)
    assert not found[1].any()
    np.testing.assert_array_equal(found[2], labels == 1)
    mirrored = occlusion_masks(labels[:, ::-1], DepthMap(depth.depth_m.flip(1), ScaleSource.SENSOR))
    for label in (1, 2):
        np.testing.assert_array_equal(mirrored[label], found[label][:, ::-1])


@pytest.mark.parametrize(("gap", "neighbors"), [(4, True), (14, False)])
def test_a_gap_between_masks_is_bridged_up_to_the_reach(gap, neighbors):
    labels, depth = two_boxes(gap)
    assert occlusion_masks(labels, depth)[2].any() == neighbors


def test_equal_depth_hides_nothing_and_unknown_depth_may_hide_both_ways():
    labels, depth = two_boxes(left_m=0.7, right_m=0.702)
    assert not any(mask.any() for mask in occlusion_masks(labels, depth).values())
    unmeasured = depth.depth_m.clone()
    unmeasured[:, 30:52] = torch.nan
    for found in (occlusion_masks(labels), occlusion_masks(labels, DepthMap(unmeasured, ScaleSource.SENSOR))):
        np.testing.assert_array_equal(found[1], labels == 2)
        np.testing.assert_array_equal(found[2], labels == 1)


def test_what_is_in_front_of_an_occluder_may_hide_as_well():
    labels = np.zeros((30, 90), np.int32)
    labels[:, :30], labels[:, 30:60], labels[:, 60:] = 3, 7, 9
    depth = np.choose(labels // 3 - 1, [1.2, 0.9, 0.6]).astype(np.float32)
    found = occlusion_masks(labels, DepthMap(torch.from_numpy(depth), ScaleSource.SENSOR))
    np.testing.assert_array_equal(found[3], labels > 3)
    np.testing.assert_array_equal(found[7], labels == 9)
    assert not found[9].any()


def test_no_object_gives_nothing_and_wrong_input_is_refused():
    labels, depth = two_boxes()
    assert occlusion_masks(labels * 0) == {}
    with pytest.raises(InputError):
        occlusion_masks(labels.astype(float))
    with pytest.raises(InputError):
        occlusion_masks(labels[:-1], depth)
