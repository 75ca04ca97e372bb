"""The interface of segmenters: an image and prompts in, one mask per object out.

A prompt that leads to no mask is a failure of its object and leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import CupidError, EmptyMaskError, InvalidImageError, InvalidPromptError
from cupid_core.image.masks import Box, Mask, clip_box


@dataclass(frozen=True)
class Prompt:
    """A prompt for one object.

    Attributes:
        box: x0, y0, x1, y1 in pixels, far edges excluded (as `image.masks.mask_from_box`), or None.
        inside: pixels (x, y) on the object.
        outside: pixels (x, y) beside it.

    Raises:
        InvalidPromptError: neither a box nor a pixel on the object.
    """

    box: Box | None = None
    inside: tuple[tuple[float, float], ...] = ()
    outside: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.box is None and not self.inside:
            raise InvalidPromptError(
                "The prompt has neither a box nor a pixel on the object.", hint="Give a box or a pixel."
            )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks of the objects of one image.

    Attributes:
        masks: id -> (H, W) bool, never empty.
        scores: id -> estimated IoU of the mask with the truth, in [0, 1], from segmenters that estimate one.
        failures: id -> why there is no mask.
    """

    masks: Mapping[int, Mask]
    scores: Mapping[int, float] = field(default_factory=dict)
    failures: Mapping[int, CupidError] = field(default_factory=dict)


class Segmenter(Protocol):
    """Finds the pixels of objects whose place is roughly known."""

    def segment(self, image: NDArray[np.uint8], prompts: Mapping[int, Prompt]) -> Segmentation:
        """Segment several objects of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            prompts: object id -> where it is.

        Raises:
            InvalidImageError: no such image.
        """
        ...


def check_segmenter_image(image: NDArray[np.uint8]) -> None:
    """Check that this is an (H, W, 3) uint8 image with pixels.

    Raises:
        InvalidImageError: it is not.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise InvalidImageError(
            f"The image is {image.shape} {image.dtype}, expected (H, W, 3) uint8 with at least one pixel.",
            hint="Convert it to 8 bits per channel in RGB order.",
        )


def check_prompt(prompt: Prompt, height: int, width: int) -> None:
    """Check that a prompt lies in the image.

    Raises:
        InvalidPromptError: a point outside.
        EmptyMaskError: the box has no pixel inside.
    """
    if prompt.box is not None:
        clip_box(prompt.box, height, width)
    for x, y in (*prompt.inside, *prompt.outside):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            raise InvalidPromptError(
                f"The point ({x:g}, {y:g}) lies outside the image of {width} x {height}.",
                hint="Give pixels of this image, x to the right, y down.",
            )


def segment_separately(
    prompts: Mapping[int, Prompt], height: int, width: int, one: Callable[[Prompt], Mask]
) -> Segmentation:
    """Run a segmenter of single objects; a typed error ends its object only."""
    masks: dict[int, Mask] = {}
    failures: dict[int, CupidError] = {}
    for number, prompt in prompts.items():
        try:
            check_prompt(prompt, height, width)
            masks[number] = one(prompt)
        except CupidError as error:
            failures[number] = error
    return Segmentation(masks, failures=failures)


def check_fill(mask: Mask, prompt: Prompt, min_fill: float) -> None:
    """Refuse a mask that is nearly empty.

    Args:
        mask: (H, W) bool.
        prompt: that led to it.
        min_fill: smallest fraction of the box that a mask has to fill; without a box one pixel is enough.

    Raises:
        EmptyMaskError: too few pixels.
    """
    area, needed = int(mask.sum()), 1.0
    if prompt.box is not None:
        x0, y0, x1, y1 = clip_box(prompt.box, *mask.shape)
        needed = max(1.0, min_fill * (x1 - x0) * (y1 - y0))
    if area < needed:
        raise EmptyMaskError(
            f"Segmentation found {area} pixels for {_where(prompt)}, fewer than {needed:.0f}.",
            hint="Check the box, mark pixels on the object, or give its mask.",
        )


def _where(prompt: Prompt) -> str:
    return f"box {prompt.box}" if prompt.box is not None else f"points {prompt.inside}"
