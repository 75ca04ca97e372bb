"""What a result states about its certainty, beside how far it is off."""

from __future__ import annotations

import math

import torch

from cupid_core.evaluation.measure import Figures, MetricTruth
from cupid_core.evaluation.pose_metrics import nearest_true_pose
from cupid_core.geometry import so3
from cupid_core.reconstruct.results import SceneObject
from cupid_core.scene.certainty import RIGHT_ROTATION_DEG, RIGHT_SURFACE_M
from cupid_core.types import ScaleSource, Verdict

EVIDENCE = "evidence_"


def certainty_figures(truth: MetricTruth, placed: SceneObject, chamfer_percent: float) -> Figures:
    """Errors in the axes of `scene.certainty.DEVIATIONS`, stated deviations measured in them, and the evidence.

    `error_along`, `error_across` relative to the longest side, `error_turn_x` to `_z` in radians about its own
    axes up to symmetry, `error_log_scale`; `right` (1 or 0) by the bounds of `scene.certainty`; `nees`: squared
    error of the pose by its stated covariance, 6 on average where that is true; `scale_deviations`: error of the
    scale by its stated deviation; `p_good`, `called_good`, `called_failed`, `verdict_figures`; `evidence_*`.

    Args:
        truth: of the object.
        placed: the result.
        chamfer_percent: distance of the whole surfaces, percent of the true longest side.
    """
    metric = placed.model.scale_source is not ScaleSource.UNKNOWN
    T_true = truth.T_camera_object.clone()
    if not metric:
        T_true[:3, 3] /= truth.scale_m
    T = placed.pose.to(dtype=torch.float64).matrix()
    nearest = nearest_true_pose(T_true, T, truth.symmetry)
    turn = so3.log(so3.from_matrix(T[:3, :3].mT @ nearest[:3, :3]))
    shift = T_true[:3, 3] - T[:3, 3]
    ray = T[:3, 3] / T[:3, 3].norm()
    along = float(shift @ ray)
    across = float((shift - along * ray).norm())
    vertices = placed.mesh.vertices.double()
    size = float((vertices.amax(dim=0) - vertices.amin(dim=0)).max())
    error = torch.cat([shift, T[:3, :3] @ turn])
    longest_m = float((truth.surface.amax(dim=0) - truth.surface.amin(dim=0)).max())
    surface_m = chamfer_percent / 100 * longest_m
    right = math.degrees(float(turn.norm())) <= RIGHT_ROTATION_DEG and surface_m <= RIGHT_SURFACE_M
    evidence = {} if placed.evidence is None else placed.evidence.values()
    figures: Figures = {
        "error_along": along / size,
        "error_across": across / size,
        **{f"error_turn_{axis}": float(angle) for axis, angle in zip("xyz", turn, strict=True)},
        "right": float(right),
        "surface_mm": 1e3 * surface_m,
        "nees": float(error @ torch.linalg.solve(placed.state.covariance.double(), error)),
        "p_good": math.nan if placed.quality.p_good is None else placed.quality.p_good,
        "called_good": float(placed.quality.verdict is Verdict.GOOD),
        "called_failed": float(placed.quality.verdict is Verdict.FAILED),
        **verdict_figures(right=right, good=placed.quality.verdict is Verdict.GOOD),
        **{f"{EVIDENCE}{name}": value for name, value in evidence.items()},
    }
    if metric:
        off = math.log(placed.model.scale / truth.scale_m)
        relative_std = placed.model.scale_std / placed.model.scale
        figures |= {"error_log_scale": off, "scale_deviations": abs(off) / relative_std}
    return figures


def verdict_figures(*, right: bool, good: bool) -> Figures:
    """`right_if_good` and `good_if_right`, so that their means are precision and recall; NaN where not asked."""
    return {
        "right_if_good": float(right) if good else math.nan,
        "good_if_right": float(good) if right else math.nan,
    }
