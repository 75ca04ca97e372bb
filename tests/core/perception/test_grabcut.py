"""GrabCut: finds what differs in color, at any place and size, always the same; says when it finds nothing."""

from pathlib import Path

import numpy as np
import pytest

from cupid_core.config import SegmenterConfig
from cupid_core.errors import EmptyMaskError, InvalidImageError, InvalidPromptError
from cupid_core.geometry.grid import box_of
from cupid_core.image.files import read_image, read_labels
from cupid_core.image.masks import masks_from_labels
from cupid_core.perception.grabcut import GrabCutSegmenter
from cupid_core.perception.segment import Prompt
from cupid_core.perception.segmenters import build_segmenter

REAL_FRAME = Path(__file__).resolve().parents[4] / "shared" / "data" / "tabletop_rgbd"


def scene(center, radii, size=(90, 120), seed=0):
    """A reddish ellipse on a noisy greenish ground, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    mask = ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 <= 1
    image = np.where(mask[..., None], [190, 60, 50], [90, 140, 100]) + rng.normal(0, 8, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
    ("center", "radii"),
    [
        ((60, 45), (30, 20)),
        ((2, 45), (20, 15)),  # cut by the left border
        ((119, 89), (30, 25)),  # cut by a corner
        ((60, 45), (4, 3)),  # tiny
        ((60, 45), (100, 20)),  # across the whole image
    ],
)
def test_an_object_is_found_wherever_it_is(center, radii):
    image, truth = scene(center, radii)
    found = GrabCutSegmenter().segment(image, {7: Prompt(tuple(map(float, box_of(truth))))})
    assert not found.failures
    assert iou(found.masks[7], truth) > 0.85
    assert found.masks[7].shape == truth.shape


def test_a_box_a_little_too_small_still_works_and_always_the_same():
    image, truth = scene((60, 45), (30, 20))
    prompts = {1: Prompt((32.0, 27.0, 88.0, 64.0)), 2: Prompt(tuple(map(float, box_of(truth))))}
    first, again = (GrabCutSegmenter().segment(image, prompts) for _ in range(2))
    alone = GrabCutSegmenter().segment(image, {2: prompts[2]})
    for number in prompts:
        np.testing.assert_array_equal(first.masks[number], again.masks[number])
    np.testing.assert_array_equal(first.masks[2], alone.masks[2])
    assert iou(first.masks[1], truth) > 0.85
    beyond = np.ones_like(truth)
    beyond[24:67, 29:91] = False
    assert not (first.masks[1] & beyond).any()


def test_a_hole_through_the_object_stays_open():
    image, truth = scene((60, 45), (34, 30))
    ground, _ = scene((999, 999), (1, 1), seed=1)
    _, inner = scene((60, 45), (15, 13))
    image[inner] = ground[inner]
    found = GrabCutSegmenter().segment(image, {1: Prompt(tuple(map(float, box_of(truth))))}).masks[1]
    assert iou(found, truth & ~inner) > 0.85


def test_points_correct_the_mask():
    image, truth = scene((60, 45), (30, 20))
    ground, _ = scene((999, 999), (1, 1), seed=1)
    image[40:50, 45:75] = ground[40:50, 45:75]  # a band that looks like the ground across the object
    box = tuple(map(float, box_of(truth)))
    plain = GrabCutSegmenter().segment(image, {1: Prompt(box)}).masks[1]
    marked = GrabCutSegmenter().segment(image, {1: Prompt(box, inside=((60.0, 45.0),))}).masks[1]
    assert not plain[45, 60]
    assert marked[45, 60]


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (Prompt(inside=((5.0, 5.0),)), InvalidPromptError),
        (Prompt((500.0, 0.0, 600.0, 50.0)), EmptyMaskError),
        (Prompt((5.0, 5.0, 30.0, 30.0), inside=((500.0, 5.0),)), InvalidPromptError),
    ],
)
def test_a_bad_prompt_fails_alone(prompt, error):
    image, truth = scene((60, 45), (30, 20))
    found = GrabCutSegmenter().segment(image, {1: prompt, 2: Prompt(tuple(map(float, box_of(truth))))})
    assert isinstance(found.failures[1], error)
    assert set(found.masks) == {2}


def test_a_nearly_empty_mask_is_a_failure():
    image, truth = scene((60, 45), (30, 20))
    config = SegmenterConfig(min_fill=0.99)
    found = GrabCutSegmenter(config).segment(image, {1: Prompt(tuple(map(float, box_of(truth))))})
    assert isinstance(found.failures[1], EmptyMaskError)


@pytest.mark.parametrize("box", [(0.0, 0.0, 40.0, 30.0), (3.0, 4.0, 4.0, 5.0), (0.0, 0.0, 1.0, 30.0)])
@pytest.mark.parametrize("side", [(30, 40), (1, 1), (2, 40)])
def test_odd_boxes_and_flat_images_end_in_a_mask_or_a_typed_failure(box, side):
    for value in (0, 255):
        found = GrabCutSegmenter().segment(np.full((*side, 3), value, dtype=np.uint8), {1: Prompt(box)})
        assert (1 in found.masks) != (1 in found.failures)
        assert all(mask.any() for mask in found.masks.values())


def test_invalid_images_and_prompts_are_refused():
    with pytest.raises(InvalidImageError):
        GrabCutSegmenter().segment(np.zeros((4, 4), dtype=np.uint8), {1: Prompt((0.0, 0.0, 2.0, 2.0))})
    with pytest.raises(InvalidPromptError):
        Prompt(outside=((1.0, 1.0),))
    assert isinstance(build_segmenter(), GrabCutSegmenter)


def test_on_a_real_frame_every_box_gives_its_object():
    if not REAL_FRAME.is_dir():
        pytest.skip("the real frame is not beside the project")
    image = read_image(REAL_FRAME / "color.png").rgb
    truth = masks_from_labels(read_labels(REAL_FRAME / "labels.png"), *image.shape[:2])
    prompts = {number: Prompt(tuple(map(float, box_of(mask)))) for number, mask in truth.items()}
    found = GrabCutSegmenter(SegmenterConfig(grabcut_side_px=128)).segment(image, prompts)
    assert {number: iou(found.masks[number], mask) > 0.8 for number, mask in truth.items()} == dict.fromkeys(
        truth, True
    )
