"""The similarity and the depth-map alignment against golden numbers of the published implementation of CUPID."""

from __future__ import annotations

import pytest

from cupid_core.geometry import SE3, Camera, Sim3, align, points_to_depth, unproject_depth

POINTS = {
    "exact": ("X", "Y_exact"),
    "noisy": ("X", "Y_noisy"),
    "reflected": ("X", "Y_reflected"),
    "planar": ("X_planar", "Y_planar"),
}


@pytest.mark.parametrize("case", POINTS)
def test_similarity_of_point_sets(fixtures, agree, case):
    """The golden form is s X R + T for row vectors, so its R is our rotation transposed."""
    tensors, meta = fixtures("scene_alignment")
    estimate = align(*(tensors[name] for name in POINTS[case]))
    agree("rotation", estimate.rotation().transpose(-1, -2), tensors[f"{case}.R"], meta["tolerance"])
    agree("scale", estimate.scale, tensors[f"{case}.s"], meta["tolerance"])
    agree("translation", estimate.translation, tensors[f"{case}.T"], meta["tolerance"])


def test_weighted_similarity(fixtures, agree):
    """The golden weighted form mixes two weightings: w squared for turn and scale, w for the means.

    It minimizes no weighted cost, so ours equals it in turn and scale at weights w^2, and in translation once
    these are carried from one w-mean to the other.
    """
    tensors, meta = fixtures("scene_alignment")
    points_a, points_b, w = tensors["X"], tensors["Y_noisy"], tensors["weights"]
    estimate = align(points_a, points_b, w.square())
    agree("rotation", estimate.rotation().transpose(-1, -2), tensors["weighted.R"], meta["tolerance"])
    agree("scale", estimate.scale, tensors["weighted.s"], meta["tolerance"])
    mean_a, mean_b = ((w[..., None] * points).sum(-2) / w.sum(-1) for points in (points_a, points_b))
    turned = Sim3(estimate.scale, estimate.quat_xyzw, mean_a * 0.0)
    agree("translation", mean_b - turned.apply(mean_a), tensors["weighted.T"], meta["tolerance"])


def test_exact_points_give_the_generating_similarity(fixtures, agree):
    tensors, meta = fixtures("scene_alignment")
    estimate = align(tensors["X"], tensors["Y_exact"])[0]
    agree("rotation", estimate.rotation().T, tensors["R_true_row"], meta["tolerance"])
    agree("scale", estimate.scale, tensors["s_true"], meta["tolerance"])
    agree("translation", estimate.translation, tensors["t_true"], meta["tolerance"])


@pytest.mark.parametrize("item", ["align0", "align1"])
def test_alignment_of_depth_maps(fixtures, agree, item):
    """Unproject both depth maps where both are valid, align, and move the object's camera pose."""
    tensors, meta = fixtures("scene_alignment")
    height, width = tensors["tgt_depth"].shape
    source = Camera.from_normalized(tensors[f"{item}.src_K"], width, height)
    target = Camera.from_normalized(tensors["tgt_K"], width, height)
    points_source = unproject_depth(tensors[f"{item}.src_depth"], source)
    points_target = unproject_depth(tensors["tgt_depth"], target)
    valid = (tensors[f"{item}.eroded_mask"] > 0) & (tensors["tgt_mask"] > 0.5)
    assert int(valid.sum()) > 100
    agree("depth of the points", points_to_depth(points_target)[valid], tensors["tgt_depth"][valid])

    T_target_source: Sim3 = align(points_source[valid], points_target[valid])
    T_source_object = SE3.from_matrix(tensors[f"{item}.src_E"])
    # Golden poses act on objects that are scaled already: p = E' [s X, 1].
    scaled = SE3(T_source_object.quat_xyzw, T_target_source.scale * T_source_object.translation)
    T_target_object = T_target_source.rigid() @ scaled
    agree("pose", T_target_object.matrix(), tensors[f"{item}.out_E"], meta["tolerance"])
    agree("scale", T_target_source.scale, tensors[f"{item}.out_scale"], meta["tolerance"])
    agree("intrinsics", target.K_normalized(), tensors[f"{item}.out_K"], meta["tolerance"])


def test_scaled_pose_is_the_similarity(fixtures, agree):
    """E' applied to scaled points is the composed similarity applied to the points themselves."""
    tensors, meta = fixtures("scene_alignment")
    points = tensors["X"][0]
    scale, pose = tensors["align0.out_scale"], SE3.from_matrix(tensors["align0.out_E"])
    T_target_object = Sim3.from_se3(pose, scale)
    agree("points", T_target_object.apply(points), pose.apply(scale * points), meta["tolerance"])
