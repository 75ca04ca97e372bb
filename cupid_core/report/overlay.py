"""The overlay: the photo with the outlines of the meshes, their axes and names drawn on it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from cupid_core.reconstruct.results import SceneObject
from cupid_core.report.pictures import Mask, Picture, SceneViews, object_color

AXIS_COLORS = ((230, 60, 50), (60, 180, 75), (50, 110, 240))
Plate = tuple[int, int, int, int]
# OpenCV draws at fractions of a pixel when it is given whole numbers of 1/16 pixel.
_SHIFT = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_overlay(views: SceneViews, objects: Sequence[SceneObject]) -> Picture:
    """Draw every object on the photo: outline, the axes of its frame (x red, y green, z blue), id and label.

    Args:
        views: of the scene.
        objects: of the scene.

    Returns:
        (H, W, 3) uint8, the size of `views.image`.
    """
    picture = views.image.copy()
    pen = max(1, round(max(picture.shape[:2]) / 400))
    for item in objects:
        _outline(picture, views.single[item.id].mask, object_color(item.id), pen)
    # Axes and names after all outlines: they are what is read.
    for item in objects:
        _axes(picture, item, views, pen)
    plates: list[Plate] = []
    for item in objects:
        _name(picture, item, views.single[item.id].mask, plates, pen)
    return picture


def axes_length(item: SceneObject) -> float:
    """Length of the axes drawn at an object: a little more than half its largest dimension, in its unit."""
    vertices = item.mesh.vertices
    return 0.6 * float((vertices.amax(dim=0) - vertices.amin(dim=0)).max())


def _outline(picture: Picture, mask: Mask, color: tuple[int, int, int], pen: int) -> None:
    """Anti-aliased outline of a silhouette; a thin dark line under it keeps it visible on any ground."""
    edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    fine = [edge * (1 << _SHIFT) for edge in edges]
    for width, ink in ((pen + 2, (25, 25, 25)), (pen, color)):
        for edge in fine:
            cv2.polylines(picture, [edge], True, ink, width, cv2.LINE_AA, _SHIFT)


def _axes(picture: Picture, item: SceneObject, views: SceneViews, pen: int) -> None:
    tips = torch.cat([torch.zeros(1, 3), torch.eye(3) * axes_length(item)])
    points = views.camera.project(item.pose.apply(tips.to(item.pose.dtype))).cpu().numpy()
    if not np.isfinite(points).all():  # an axis that reaches behind the camera has no image
        return
    order = np.argsort(-_depths(item, tips))  # the farthest first, the nearest on top
    for axis in (int(k) - 1 for k in order if k > 0):
        ends = [tuple(int(v) for v in np.round(points[k] * (1 << _SHIFT))) for k in (0, axis + 1)]
        for width, ink in ((pen + 2, (25, 25, 25)), (pen + 1, AXIS_COLORS[axis])):
            cv2.arrowedLine(picture, ends[0], ends[1], ink, width, cv2.LINE_AA, _SHIFT, 0.12)


def _depths(item: SceneObject, points: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    camera = item.pose.apply(points.to(item.pose.dtype))
    return np.asarray(camera[:, 2].detach().cpu().numpy(), dtype=np.float64)


def _name(picture: Picture, item: SceneObject, mask: Mask, plates: list[Plate], pen: int) -> None:
    """Id and label on a plate of the object's color, above its silhouette, inside the picture, over no other."""
    if not mask.any():
        return
    rows, columns = np.nonzero(mask)
    text = f"{item.id} {item.label}".strip().encode("ascii", "replace").decode()
    scale, thick = max(0.35, max(picture.shape[:2]) / 1400), max(1, pen - 1)
    (width, height), below = cv2.getTextSize(text, _FONT, scale, thick)
    left = int(np.clip(columns.mean() - width / 2, 4, max(4, picture.shape[1] - width - 4)))
    tall = height + below + 6
    base = _free_place(rows.min() - 3 * pen - below, left, width, tall, plates, picture.shape[0])
    plate = (left - 3, base - height - 4, left + width + 3, base + below + 1)
    plates.append(plate)
    color = object_color(item.id)
    cv2.rectangle(picture, plate[:2], plate[2:], color, -1)
    ink = (255, 255, 255) if sum(color) < 380 else (15, 15, 15)
    cv2.putText(picture, text, (left, base), _FONT, scale, ink, thick, cv2.LINE_AA)


def _free_place(wanted: int, left: int, width: int, tall: int, plates: list[Plate], bottom: int) -> int:
    """Row of a text's base line: the wanted one, or the next above or below it that covers no other plate."""
    rows = sorted(range(tall, max(bottom - 6, tall + 1)), key=lambda row: abs(row - int(wanted)))
    beside = [plate for plate in plates if plate[0] < left + width + 6 and plate[2] > left - 6]
    for row in rows:
        if all(row - tall > plate[3] or row + 6 < plate[1] for plate in beside):
            return row
    return rows[0]
