"""Metric scale and place of one object: from depth, from a known size, or up to scale and said so.

A pose from one image is right up to the unit of length. With a known camera the reprojection is right already, and
only the scale along the rays is free: p = s (R x + t). With an estimated camera a similarity is fitted between the
visible points and the measured ones. Knows meshes, poses and depth; must not know who made them.

Source: CUPID (arXiv 2510.20776), composition of scenes; what is robust and the covariances are our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cupid_core.config import PlacementConfig, SimilarityConfig
from cupid_core.errors import AlignmentError, PlacementError
from cupid_core.geometry import so3
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.geometry.similarity import SimilarityEstimate, align_robust
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.render.raycast import MeshCaster, caster_of
from cupid_core.scene.agreement import Mask, depth_residual_m, depths_of
from cupid_core.scene.visible_pairs import VisiblePairs, visible_pairs
from cupid_core.types import DepthMap, ScaleSource, TriangleMesh

# Deviation of a Gaussian per median absolute deviation; what a median is noisier than a mean.
_MAD_SIGMAS = 1.4826
_MEDIAN_LOSS = 1.2533

Method = Literal["rays", "similarity", "size", "none"]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where an object stands.

    Attributes:
        S_camera_object: canonical frame to camera frame, float64; metres unless the source is UNKNOWN.
        scale: metres per canonical unit; 1 where the source is UNKNOWN.
        scale_std: its standard deviation, same unit; NaN where the source is UNKNOWN.
        scale_source: where the scale comes from.
        covariance: (6, 6) float64 of x, y, z, rx, ry, rz of the rigid part, camera frame, perturbation t + dt,
            Exp(dr) R, in metres (canonical units where the source is UNKNOWN) and radians.
        residual_m: median absolute difference of rendered and measured depth at this place; None without depth.
        pairs: number of matched points behind the scale; 0 without depth.
        method: "rays" (scale along the rays), "similarity", "size" (known), "none" (up to scale).
        camera: what the place refers to: the pose's, or that of the depth model with a similarity.
    """

    S_camera_object: Sim3
    scale: float
    scale_std: float
    scale_source: ScaleSource
    covariance: Tensor
    residual_m: float | None
    pairs: int
    method: Method
    camera: Camera


@dataclass(frozen=True, eq=False)
class _Found:
    """A similarity with its covariance (6, 6) and relative scale deviation."""

    S_camera_object: Sim3
    covariance: Tensor
    scale_std: float
    method: Method


@torch.no_grad()
def place_with_depth(
    mesh: TriangleMesh | MeshCaster,
    pose: PoseEstimate,
    depth: DepthMap,
    mask: Mask,
    *,
    camera_known: bool,
    config: PlacementConfig | None = None,
    similarity: SimilarityConfig | None = None,
) -> Placement:
    """Give an object its place in metres.

    Camera known: the scale along the rays, a robust ratio of measured to rendered depth; a similarity replaces it
    only where it fits much better and keeps the object where it is in the image. Camera estimated: the similarity;
    the scale along the rays where the points determine none (`method` says which).

    Args:
        mesh: canonical frame.
        pose: of the object, unit: canonical. Its camera is that of the whole image, which depth is aligned to.
        depth: metres, (H, W) of that camera. Its own camera, where it has one and the image's is estimated, is
            the one that the place will refer to.
        mask: (H, W) bool, visible pixels of the object.
        camera_known: the pose's camera was given, not estimated.
        config: the defaults where None.
        similarity: settings of the robust alignment; the defaults where None.

    Raises:
        InputError: sizes differ.
        TooFewDepthPairsError: too few pixels have both the object and a depth.
        PlacementError: neither way gives a place.
        EmptyMeshError, InvalidTensorError, MissingPackageError: as `render_mesh`.
    """
    settings = config or PlacementConfig()
    S_pose = _exact(Sim3.from_se3(pose.T_camera_object))
    caster, depth_m = caster_of(mesh), depths_of(depth)
    rendering = caster.render(S_pose, pose.camera)
    other = depth.camera if depth.camera is not None and not camera_known else None
    pairs = visible_pairs(
        rendering, S_pose, pose.camera, depth_m, mask, depth_camera=other, config=settings
    )  # fmt: skip
    camera = other or pose.camera
    along_rays = None if other is not None else _along_rays(S_pose, pose, pairs, depth, settings)
    aligned = (
        None if camera_known and settings.similarity_gain >= 1 else _aligned(pairs, depth, settings, similarity)
    )
    if along_rays is not None and aligned is not None and camera_known:
        chosen = aligned if _worth_it(along_rays, aligned, pairs, settings) else along_rays
    else:
        found = aligned if aligned is not None and not camera_known else along_rays
        if found is None:
            raise PlacementError(
                f"The {len(pairs)} visible points do not determine where the object is in the camera of the depth "
                "model.",
                hint="Give the camera of the image (K), or a metric depth sensor.",
            )
        chosen = found
    scale = float(chosen.S_camera_object.scale)
    placed = caster.render(chosen.S_camera_object, camera)
    return Placement(
        S_camera_object=chosen.S_camera_object,
        scale=scale,
        scale_std=scale * chosen.scale_std,
        scale_source=depth.source,
        covariance=chosen.covariance,
        residual_m=depth_residual_m(placed, depth_m, mask),
        pairs=len(pairs),
        method=chosen.method,
        camera=camera,
    )


def place_with_size(
    mesh: TriangleMesh | MeshCaster, pose: PoseEstimate, longest_side_m: float, longest_side_std_m: float = 0.0
) -> Placement:
    """Give an object its place in metres by the length of the longest side of its box.

    Args:
        mesh: canonical frame.
        pose: of the object, unit: canonical.
        longest_side_m: of the box along the canonical axes.
        longest_side_std_m: its standard deviation.

    Raises:
        PlacementError: the length is not positive, or the mesh has no extent.
    """
    extent = caster_of(mesh).longest_side()
    if not (0 < longest_side_m < math.inf and 0 <= longest_side_std_m < math.inf and 0 < extent < math.inf):
        raise PlacementError(
            f"A longest side of {longest_side_m:g} m (+- {longest_side_std_m:g}) for a mesh of {extent:g} units.",
            hint="Give a positive length in metres, with a deviation that is not negative.",
        )
    S_pose = _exact(Sim3.from_se3(pose.T_camera_object))
    scale, relative = longest_side_m / extent, longest_side_std_m / longest_side_m
    S_camera_object = Sim3(S_pose.scale * scale, S_pose.quat_xyzw, S_pose.translation * scale)
    covariance = _scaled(pose.covariance, scale, torch.eye(3, dtype=torch.float64))
    covariance[:3, :3] += _stretched(S_camera_object.translation, relative)
    return Placement(
        S_camera_object=S_camera_object,
        scale=scale,
        scale_std=scale * relative,
        scale_source=ScaleSource.KNOWN_SIZE,
        covariance=covariance,
        residual_m=None,
        pairs=0,
        method="size",
        camera=pose.camera,
    )


def place_up_to_scale(pose: PoseEstimate) -> Placement:
    """The pose as it is, marked as one without metres: scale 1, source UNKNOWN."""
    return Placement(
        S_camera_object=_exact(Sim3.from_se3(pose.T_camera_object)),
        scale=1.0,
        scale_std=math.nan,
        scale_source=ScaleSource.UNKNOWN,
        covariance=pose.covariance.detach().cpu().double(),
        residual_m=None,
        pairs=0,
        method="none",
        camera=pose.camera,
    )


def _along_rays(
    S_pose: Sim3, pose: PoseEstimate, pairs: VisiblePairs, depth: DepthMap, settings: PlacementConfig
) -> _Found:
    """The pose with the robust ratio of depths as its unit of length; nothing moves in the image."""
    ratios = (pairs.points_measured[:, 2] / pairs.points_rendered[:, 2]).log()
    middle = ratios.median()
    spread = _MAD_SIGMAS * float((ratios - middle).abs().median())
    scale = middle.exp()
    S_camera_object = Sim3(scale * S_pose.scale, S_pose.quat_xyzw, scale * S_pose.translation)
    statistical = _MEDIAN_LOSS * spread / math.sqrt(min(len(ratios), settings.independent_patches))
    # Measured depth holds the visible surface in place: when the pose is nearer by dt, the scale grows by so much.
    towards = S_pose.translation / S_pose.translation.norm()
    reach = float((pairs.points_rendered @ towards).median())
    moved = torch.eye(3, dtype=torch.float64) - torch.outer(S_pose.translation, towards) / reach
    pose_covariance = pose.covariance.detach().cpu().double()
    of_pose = float(towards @ pose_covariance[:3, :3] @ towards) / reach**2
    of_depth = math.hypot(statistical, depth.scale_std)
    covariance = _scaled(pose_covariance, float(scale), moved)
    covariance[:3, :3] += _stretched(S_camera_object.translation, of_depth)
    return _Found(S_camera_object, covariance, math.hypot(of_depth, math.sqrt(max(of_pose, 0.0))), "rays")


def _aligned(
    pairs: VisiblePairs, depth: DepthMap, settings: PlacementConfig, similarity: SimilarityConfig | None
) -> _Found | None:
    """The similarity of canonical and measured points; None where they do not determine one."""
    try:
        estimate = align_robust(pairs.points_object, pairs.points_measured, config=similarity)
    except AlignmentError:
        return None
    covariance, log_scale_variance = _rigid_covariance(estimate, len(pairs), settings)
    covariance[:3, :3] += _stretched(estimate.T_b_a.translation, depth.scale_std)
    return _Found(
        _exact(estimate.T_b_a),
        covariance,
        math.hypot(math.sqrt(log_scale_variance), depth.scale_std),
        "similarity",
    )


def _rigid_covariance(estimate: SimilarityEstimate, count: int, settings: PlacementConfig) -> tuple[Tensor, float]:
    """Covariance (6, 6) of dt, dr and variance of the log-scale, for errors that belong to whole patches."""
    t = estimate.T_b_a.translation
    # The tangent acts from the left about the camera's origin: dt = rho + omega x t + log-scale * t.
    jacobian = t.new_zeros(6, 7)
    jacobian[:3, :3] = jacobian[3:, 3:6] = torch.eye(3, dtype=t.dtype)
    jacobian[:3, 3:6], jacobian[:3, 6] = -so3.hat(t), t
    full = estimate.covariance * max(1.0, count * estimate.inlier_ratio / settings.independent_patches)
    return jacobian @ full @ jacobian.T, float(full[6, 6])


def _worth_it(along_rays: _Found, aligned: _Found, pairs: VisiblePairs, settings: PlacementConfig) -> bool:
    """Whether a similarity fits much better and leaves the object where it is in the image."""
    residual = [
        float((found.S_camera_object.apply(pairs.points_object) - pairs.points_measured).norm(dim=1).median())
        for found in (along_rays, aligned)
    ]
    before, after = (found.S_camera_object.apply(pairs.points_object) for found in (along_rays, aligned))
    if not bool((after[:, 2] > 0).all()):
        return False
    flat_before, flat_after = before[:, :2] / before[:, 2:], after[:, :2] / after[:, 2:]
    shift = float((flat_after - flat_before).square().sum(dim=1).mean().sqrt())
    size = float((flat_before.amax(dim=0) - flat_before.amin(dim=0)).max())
    better = residual[1] <= (1.0 - settings.similarity_gain) * residual[0]
    return better and shift <= settings.similarity_max_shift * size


def _scaled(covariance: Tensor, scale: float, moved: Tensor) -> Tensor:
    """Covariance (6, 6) of a canonical pose in metres, its translation passed through `moved` (3, 3)."""
    turn = torch.eye(6, dtype=torch.float64)
    turn[:3, :3] = scale * moved
    return turn @ covariance.detach().cpu().double() @ turn.T


def _stretched(translation: Tensor, relative_std: float) -> Tensor:
    """Covariance (3, 3) of a translation whose length is uncertain by a factor."""
    return relative_std**2 * torch.outer(translation, translation)


def _exact(similarity: Sim3) -> Sim3:
    return similarity.to(dtype=torch.float64, device="cpu")
