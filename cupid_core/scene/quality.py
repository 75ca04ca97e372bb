"""What a robot should make of a reconstruction: numbers, a verdict, its reasons. Knows pixels, moves nothing."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cupid_core.config import QualityConfig
from cupid_core.geometry.grid import box_of
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.render.raycast import Rendering
from cupid_core.scene.agreement import Mask, color_psnr_db, depth_residual_m, depths_of, silhouette_iou
from cupid_core.types import DepthMap, Quality, Verdict

# A number that decides: its value, the threshold of "good", that of "failed", and what to say.
_Check = tuple[float | None, float, float, str]


def measure_quality(
    rendering: Rendering | None,
    mask: Mask,
    image: npt.NDArray[np.uint8],
    pose: PoseEstimate,
    *,
    hidden: Mask | None = None,
    depth: DepthMap | None = None,
    size_m: float | None = None,
    config: QualityConfig | None = None,
) -> Quality:
    """Compare an object, as rendered at its place, with what was seen.

    Args:
        rendering: (H, W) of the object alone, with the camera of the image; in metres where depth is given. None
            where there is no mesh: IoU is NaN then, colors and depth are absent, and the pose alone decides.
        mask: (H, W) bool, its visible pixels.
        image: (H, W, 3) uint8. Colors are compared as they are (see `agreement.color_psnr_db`).
        pose: the estimate behind it; of its pairs come reprojection and inliers.
        hidden: (H, W) bool, where it may be hidden by others; does not count in the silhouette.
        depth: metric depth; leave it out where the place is not in metres.
        size_m: longest side of the object, which the depth residual is judged against; no judgement of depth
            where None.
        config: thresholds; the defaults where None.

    Returns:
        All numbers, and the worst verdict of them with its reasons.

    Raises:
        InputError: sizes differ.
    """
    settings = config or QualityConfig()
    iou, psnr, residual = math.nan, None, None
    if rendering is not None:
        iou = silhouette_iou(rendering, mask, hidden)
        psnr = color_psnr_db(rendering, image, mask)
        residual = None if depth is None else depth_residual_m(rendering, depths_of(depth), mask)
    extent = _extent_px(mask)
    checks: list[_Check] = [
        (-iou, -settings.good_iou, -settings.failed_iou, f"silhouette IoU {iou:.2f}"),
        (None if psnr is None else -psnr, -settings.good_psnr_db, math.inf, f"color PSNR {psnr or 0.0:.1f} dB"),
        (
            pose.reprojection_rms_px / extent,
            settings.good_reprojection,
            settings.failed_reprojection,
            f"reprojection RMS {pose.reprojection_rms_px:.1f} px of an object {extent:.0f} px large",
        ),
        (
            -pose.inlier_ratio,
            -settings.good_inliers,
            -settings.failed_inliers,
            f"inlier ratio {pose.inlier_ratio:.2f}",
        ),
    ]
    if residual is not None and size_m is not None and size_m > 0:
        what = f"depth residual {1000 * residual:.0f} mm of an object {1000 * size_m:.0f} mm large"
        checks.append((residual / size_m, settings.good_depth, settings.failed_depth, what))
    verdict, reasons = _judged(checks)
    if pose.degeneracy == "few_points":
        verdict = Verdict.DOUBTFUL if verdict is Verdict.GOOD else verdict
        reasons = (*reasons, "few points behind the pose")
    return Quality(
        silhouette_iou=iou,
        color_psnr_db=psnr,
        reprojection_rms_px=pose.reprojection_rms_px,
        inlier_ratio=pose.inlier_ratio,
        depth_residual_m=residual,
        verdict=verdict,
        reasons=reasons,
    )


def _judged(checks: list[_Check]) -> tuple[Verdict, tuple[str, ...]]:
    """The worst verdict, and what led to it or is doubtful beside it; larger values are worse."""
    verdict, reasons = Verdict.GOOD, []
    for value, good, failed, what in checks:
        if value is None or math.isnan(value) or value <= good:
            continue
        reasons.append(what)
        if value > failed:
            verdict = Verdict.FAILED
        elif verdict is Verdict.GOOD:
            verdict = Verdict.DOUBTFUL
    return verdict, tuple(reasons)


def _extent_px(mask: Mask) -> float:
    """Longer side of the box of a mask, at least one pixel."""
    box = box_of(mask)
    return 1.0 if box is None else float(max(box[2] - box[0], box[3] - box[1], 1))
