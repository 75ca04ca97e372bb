"""GrabCut: the mask of an object from its box by color alone, without a network.

Works well where the object differs in color from what is around its box; shadows, and surroundings of the color
of the object, end up on the wrong side. Source: Rother, Kolmogorov, Blake 2004, as implemented in OpenCV.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from cupid_core.config.perception import SegmenterConfig
from cupid_core.errors import InvalidPromptError
from cupid_core.image.masks import Mask, clip_box
from cupid_core.perception.segment import (
    Prompt,
    Segmentation,
    check_fill,
    check_segmenter_image,
    segment_separately,
)

# GrabCut fits five color clusters to each side and needs pixels for them.
_MIN_SIDE_PX = 64
_SEED = 0
# Parts of the mask smaller than this fraction of its largest part are specks; holes likewise.
_SPECK = 0.1
_HOLE = 0.02


class GrabCutSegmenter:
    """Masks from boxes, each by itself; deterministic. Points, where given, correct the result.

    Args:
        config: rounds, resolution and context; defaults where None.
    """

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self._config = config or SegmenterConfig()

    def segment(self, image: NDArray[np.uint8], prompts: Mapping[int, Prompt]) -> Segmentation:
        """As `Segmenter.segment`; gives no scores. A prompt without a box is a failure (`InvalidPromptError`).

        Seeds OpenCV's random numbers of this thread, which is what makes it deterministic.
        """
        check_segmenter_image(image)
        return segment_separately(
            prompts, image.shape[0], image.shape[1], lambda prompt: self._segment(image, prompt)
        )

    def _segment(self, image: NDArray[np.uint8], prompt: Prompt) -> Mask:
        if prompt.box is None:
            raise InvalidPromptError(
                "GrabCut needs a box, only points were given.",
                hint="Give a box, or use SAM 2: pip install 'cupid_ros[sam2]'.",
            )
        height, width = image.shape[:2]
        # A box that cuts a little off the object would teach its color as background, and nothing would be found.
        box = _grown(clip_box(prompt.box, height, width), height, width, self._config.grabcut_slack, at_least=1)
        x0, y0, x1, y1 = window = _grown(box, height, width, self._config.grabcut_context, at_least=2)
        scale = _scale(x1 - x0, y1 - y0, self._config.grabcut_side_px)
        size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = cv2.resize(np.ascontiguousarray(image[y0:y1, x0:x1, ::-1]), size, interpolation=shrinks)
        trimap = _trimap(box, window, prompt, (size[1], size[0]))
        found = _grabcut(np.asarray(pixels), trimap, self._config.grabcut_iterations)
        whole = np.zeros((height, width), dtype=np.bool_)
        if found.any():
            back = cv2.resize(_tidy(found).astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
            whole[y0:y1, x0:x1] = np.asarray(back) > 0.5
        # Scaling back may reach a pixel further.
        outside_box = np.ones_like(whole)
        outside_box[box[1] : box[3], box[0] : box[2]] = False
        whole[outside_box] = False
        check_fill(whole, prompt, self._config.min_fill)
        return whole


def _grown(
    box: tuple[int, int, int, int], height: int, width: int, share: float, *, at_least: int
) -> tuple[int, int, int, int]:
    """The box, on every side by this share of its longer side larger, inside the image: x0, y0, x1, y1."""
    reach = max(at_least, round(share * max(box[2] - box[0], box[3] - box[1])))
    return max(box[0] - reach, 0), max(box[1] - reach, 0), min(box[2] + reach, width), min(box[3] + reach, height)


def _scale(width: int, height: int, side: int) -> float:
    """Large windows shrink to the side set, tiny ones grow until GrabCut has pixels to work with."""
    longer = max(width, height)
    return side / longer if longer > side else max(1.0, _MIN_SIDE_PX / longer)


def _trimap(
    box: tuple[int, int, int, int], window: tuple[int, int, int, int], prompt: Prompt, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """What is known before: surroundings are background, the box is probably object, points are certain."""
    sy, sx = shape[0] / (window[3] - window[1]), shape[1] / (window[2] - window[0])
    left, right = round((box[0] - window[0]) * sx), round((box[2] - window[0]) * sx)
    top, bottom = round((box[1] - window[1]) * sy), round((box[3] - window[1]) * sy)
    trimap = np.full(shape, cv2.GC_BGD, dtype=np.uint8)
    trimap[top : max(bottom, top + 1), left : max(right, left + 1)] = cv2.GC_PR_FGD
    if (trimap == cv2.GC_BGD).mean() < 0.02:
        # The box is the whole image: the corners are the best guess at what is background.
        trimap[_corners(shape)] = cv2.GC_PR_BGD
    for points, value in ((prompt.outside, cv2.GC_BGD), (prompt.inside, cv2.GC_FGD)):
        for x, y in points:
            column, row = (x + 0.5 - window[0]) * sx - 0.5, (y + 0.5 - window[1]) * sy - 0.5
            cv2.circle(trimap, (round(column), round(row)), 2, int(value), thickness=-1)
    return trimap


def _corners(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels outside the ellipse that touches all four sides."""
    y, x = ((np.arange(length) + 0.5) / length * 2.0 - 1.0 for length in shape)
    return np.asarray(x[None, :] ** 2 + y[:, None] ** 2 > 1.0, dtype=np.bool_)


def _grabcut(pixels: NDArray[np.uint8], trimap: NDArray[np.uint8], iterations: int) -> Mask:
    """Run OpenCV's; a side without a single pixel (all of the box marked as background) is nothing found."""
    is_object = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if not is_object.any() or is_object.all():
        return np.zeros(trimap.shape, dtype=np.bool_)
    cv2.setRNGSeed(_SEED)
    # With a mask to start from, the rectangle is not looked at.
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, trimap, (0, 0, 1, 1), *models, iterations, cv2.GC_INIT_WITH_MASK)
    return np.asarray((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD), dtype=np.bool_)


def _tidy(mask: Mask) -> Mask:
    """Drop specks and thin threads, close pinholes; openings such as that of a handle stay open."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), dtype=np.uint8))
    kept = _large_parts(np.asarray(opened, dtype=np.bool_) if opened.any() else mask, _SPECK)
    holes = ~kept
    return kept | (holes & ~_large_parts(holes, _HOLE * kept.sum() / max(1, _largest(holes))))


def _large_parts(mask: Mask, share: float) -> Mask:
    """Connected parts with at least this share of the area of the largest."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0.0
    large = (areas > 0) & (areas >= share * areas.max())
    return np.asarray(large[labels], dtype=np.bool_)


def _largest(mask: Mask) -> float:
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return float(areas.max()) if len(areas) else 0.0
