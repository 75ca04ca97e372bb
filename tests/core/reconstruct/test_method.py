"""The whole method with tiny random networks: what must hold whatever they have learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cupid_core.config import CupidConfig
from cupid_core.errors import CancelledError, CupidError, EmptyMaskError, InputError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct.cupid import Cupid
from cupid_core.reconstruct.progress import STAGES, Progress
from cupid_core.reconstruct.results import Hypothesis, Reconstruction
from cupid_core.reconstruct.steps import ItemNoise
from cupid_core.reconstruct.view import look_at
from cupid_core.sampling.noise import NoiseSource

CAMERA = Camera.from_parameters(fx=150, fy=150, cx=59.5, cy=44.5, width=120, height=90)
SIZE = (90, 120)


def settings() -> CupidConfig:
    """Few steps; random networks explain nothing, so every pose is let through."""
    config = CupidConfig()
    few = {"steps": 2, "guidance_strength": 1.0}
    return config.model_copy(
        update={
            "structure_sampler": config.structure_sampler.model_copy(update=few),
            "appearance_sampler": config.appearance_sampler.model_copy(update=few),
            "pose": config.pose.model_copy(update={"max_noise": 0.5}),
            "reconstruct": config.reconstruct.model_copy(update={"samplers": "settings", "judge_size": 64}),
        }
    )


@pytest.fixture
def cupid(tiny_checkpoint: Path) -> Cupid:
    return Cupid.from_pretrained(tiny_checkpoint, config=settings())


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (*SIZE, 3), dtype=np.uint8)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def by_number(result: Reconstruction) -> dict[int, Hypothesis]:
    return {hypothesis.number: hypothesis for hypothesis in result.hypotheses}


def same(a: Hypothesis, b: Hypothesis) -> None:
    assert torch.equal(a.coords, b.coords)
    torch.testing.assert_close(a.uv, b.uv, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        a.pose.T_camera_object.matrix(), b.pose.T_camera_object.matrix(), atol=1e-3, rtol=1e-3
    )


def test_a_result_is_complete_ranked_and_repeatable(cupid: Cupid) -> None:
    reports: list[Progress] = []
    result = cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, samples=2, on_progress=reports.append)
    scores = [hypothesis.score for hypothesis in result.hypotheses]
    assert scores == sorted(scores, reverse=True) and len(scores) + len(result.lost) == 2
    for hypothesis in result.hypotheses:
        assert hypothesis.mesh is not None and hypothesis.mesh.colors is not None
        assert len(hypothesis.uv) == len(hypothesis.coords) and 0 <= hypothesis.quality.silhouette_iou <= 1
        # The pose belongs to the camera that was given, in the whole image.
        torch.testing.assert_close(hypothesis.pose.camera.K, CAMERA.K)
    order = [report.stage for report in reports]
    assert [stage for stage in STAGES if stage in order] == list(dict.fromkeys(order))
    assert set(result.timings_s) == set(order) and all(value >= 0 for value in result.timings_s.values())
    again = cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, samples=2, pose_only=True)
    for number, hypothesis in by_number(again).items():
        same(hypothesis, by_number(result)[number])


def test_a_draw_depends_on_its_seed_alone(cupid: Cupid) -> None:
    few = by_number(cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, pose_only=True))
    many = by_number(cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, samples=3, pose_only=True))
    other = by_number(cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, seed=1, pose_only=True))
    same(few[0], many[0])
    assert few[0].mesh is None
    assert len(other[0].coords) != len(few[0].coords) or not torch.equal(other[0].coords, few[0].coords)


def test_objects_of_a_batch_do_not_disturb_each_other(cupid: Cupid) -> None:
    views = [
        look_at(picture(), mask, cupid.config, camera=CAMERA)
        for mask in (disc(70, 40, 20), disc(40, 50, 12), disc(2, 40, 20))
    ]
    together = cupid.reconstruct_views(views, pose_only=True)
    for view, result in zip(views, together, strict=True):
        (alone,) = cupid.reconstruct_views([view], pose_only=True)
        assert isinstance(result, Reconstruction) and isinstance(alone, Reconstruction)
        same(result.best, alone.best)
    assert together[2].truncated and not together[0].truncated  # type: ignore[union-attr]


def test_a_lens_is_taken_out_of_image_and_mask(cupid: Cupid) -> None:
    from cupid_core.geometry.distortion import Distortion

    lens = Distortion("plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
    result = cupid.reconstruct(
        picture(), disc(70, 40, 20), camera=replace(CAMERA, distortion=lens), pose_only=True
    )
    assert result.best.pose.camera.lens is None
    torch.testing.assert_close(result.best.pose.camera.K, CAMERA.K)


def test_the_alpha_is_the_mask_where_there_is_none(cupid: Cupid) -> None:
    mask = disc(70, 40, 20)
    rgba = np.dstack([picture(), np.where(mask, np.uint8(255), np.uint8(0))])
    same(
        cupid.reconstruct(rgba, camera=CAMERA, pose_only=True).best,
        cupid.reconstruct(picture(), mask, camera=CAMERA, pose_only=True).best,
    )
    with pytest.raises(InvalidImageError, match="no mask"):
        cupid.reconstruct(picture(), camera=CAMERA)


def test_it_stops_when_asked(cupid: Cupid) -> None:
    asked = iter([False] * 6 + [True] * 100)
    with pytest.raises(CancelledError):
        cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA, cancelled=lambda: next(asked))


def test_what_cannot_be_used_is_refused(cupid: Cupid) -> None:
    with pytest.raises(EmptyMaskError):
        cupid.reconstruct(picture(), np.zeros(SIZE, dtype=bool))
    with pytest.raises(InputError):
        cupid.reconstruct(picture(), disc(70, 40, 20), samples=0)
    with pytest.raises(InputError):
        cupid.reconstruct(picture(), disc(70, 40, 20)[:-1])


def test_a_pose_that_explains_nothing_is_an_error_not_a_pose(tiny_checkpoint: Path) -> None:
    strict = settings().model_copy(update={"pose": CupidConfig().pose.model_copy(update={"max_noise": 1e-6})})
    cupid = Cupid.from_pretrained(tiny_checkpoint, config=strict)
    with pytest.raises(CupidError):
        cupid.reconstruct(picture(), disc(70, 40, 20), camera=CAMERA)


def test_noise_of_items_is_that_of_their_seeds() -> None:
    noise = ItemNoise([5, 6, 5], [2, 3, 2]).draw((7, 4))
    assert torch.equal(noise[:2], noise[5:]) and torch.equal(noise[:2], NoiseSource(5).draw((2, 4)))
    assert torch.equal(noise[2:5], NoiseSource(6).draw((3, 4)))
