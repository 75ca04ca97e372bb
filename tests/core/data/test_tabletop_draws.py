"""A sample depends on (seed, index) alone: not on the run, the batch around it, or the number of views."""

import dataclasses

import pytest
import torch

from cupid_core.data.tabletop import FAMILY_NAMES, HELD_OUT, TRAINED, TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.errors import InputError

SMALL = TabletopSettings(image_size=64, resolution=16)
PER_VIEW = (
    "image",
    "image_clean",
    "photo",
    "mask_full",
    "depth",
    "normal",
    "xyz",
    "uv",
    "T_camera_object",
    "intrinsics",
)
PER_OBJECT = ("sdf", "shell", "solid", "color", "symmetry", "family", "half_extents", "scale_m", "index")


def test_a_sample_is_the_same_on_every_run():
    first, second = (sample_tabletop(range(6), SMALL, seed=3) for _ in range(2))
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name


def test_a_sample_does_not_depend_on_its_batch():
    # Same family, so that objects of equal structure are evaluated side by side and padded to each other.
    together = sample_tabletop(range(8), SMALL, seed=3, family="bowl")
    mixed = sample_tabletop(range(8), SMALL, seed=3)
    for whole, family in ((together, "bowl"), (mixed, None)):
        for index in (0, 3, 7):
            alone = sample_tabletop([index], SMALL, seed=3, family=family)
            for name in (*PER_VIEW, *PER_OBJECT):
                difference = (getattr(whole, name)[index].double() - getattr(alone, name)[0].double()).abs().max()
                assert difference == 0, f"{name} of {index} differs by {difference:.2e}"


def test_more_views_keep_the_first_ones():
    one = sample_tabletop([5], SMALL, seed=3)
    three = sample_tabletop([5], SMALL.model_copy(update={"views_per_object": 3}), seed=3)
    assert torch.equal(one.image[0], three.image[0])
    assert not torch.equal(three.image[0], three.image[1])
    assert three.view_object.tolist() == [0, 0, 0]


def test_seeds_and_indices_differ():
    a, b = sample_tabletop([1, 2], SMALL, seed=3), sample_tabletop([1, 2], SMALL, seed=4)
    assert not torch.equal(a.image[0], a.image[1])
    assert not torch.equal(a.image, b.image)


def test_streams_do_not_meet():
    assert Draws(1, 2, 3).uniform() != Draws(1, 3, 2).uniform()
    assert Draws(1, 2).uniform() != Draws(2, 1).uniform()
    assert Draws(1, 2).uniform() == Draws(1, 2).uniform()


def test_draws_keep_their_bounds():
    draws = Draws(0)
    values = [draws.log_uniform(2.0, 50.0) for _ in range(500)]
    assert 2.0 <= min(values) < 3.0 and 30.0 < max(values) < 50.0
    assert {draws.integer(1, 3) for _ in range(100)} == {1, 2, 3}
    picks = [draws.choice("ab", (3.0, 1.0)) for _ in range(2000)]
    assert 0.70 < picks.count("a") / 2000 < 0.80
    for _ in range(20):
        rotation = torch.from_numpy(draws.rotation())
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones((), dtype=torch.float64))


def test_splits_are_disjoint_and_large_enough():
    assert len(TRAINED) >= 30
    assert len(HELD_OUT) >= 4
    assert not set(TRAINED) & set(HELD_OUT)
    assert len(FAMILY_NAMES) == len(set(FAMILY_NAMES))
    drawn = {draw_shape(9, i).family for i in range(1500)}
    assert drawn == set(TRAINED), "every trained family is drawn, no held-out one is"
    assert {draw_shape(9, i, split="held_out").family for i in range(100)} == set(HELD_OUT)


@pytest.mark.parametrize(
    ("indices", "more"),
    [([], {}), ([-1], {}), ([0], {"split": "none"}), ([0], {"family": "unicorn"}), ([0], {"seed": -1})],
)
def test_wrong_requests_are_typed_errors(indices, more):
    with pytest.raises(InputError):
        sample_tabletop(indices, SMALL, **more)


def test_every_tensor_is_made_on_the_device_asked_for():
    # With another default device, anything made without naming its device could not meet the rest.
    with torch.device("meta"):
        batch = sample_tabletop(range(12), SMALL.model_copy(update={"occluded": 1.0}), seed=3, device="cpu")
    for field in dataclasses.fields(batch):
        assert getattr(batch, field.name).device.type == "cpu", field.name
