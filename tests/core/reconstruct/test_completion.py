"""The first hypothesis of an object, where a checkpoint completes shapes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cupid_core.config import CupidConfig
from cupid_core.errors import PoseError
from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct import pipeline
from cupid_core.reconstruct.completion import complete_structures
from cupid_core.reconstruct.inputs import Frame, crop_objects, depth_images, encoder_images
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.stages import Structure
from cupid_core.types import CameraSource, DepthMap, ScaleSource

CAMERA = Camera.from_parameters(fx=150, fy=150, cx=59.5, cy=44.5, width=120, height=90)
SIZE = (90, 120)


def settings(**changes: object) -> CupidConfig:
    config = CupidConfig()
    few = {"steps": 2, "guidance_strength": 1.0}
    chosen = {"samplers": "settings", "score_size": 64, **changes}
    return config.model_copy(
        update={
            "structure_sampler": config.structure_sampler.model_copy(update=few),
            "appearance_sampler": config.appearance_sampler.model_copy(update=few),
            "pose": config.pose.model_copy(update={"max_noise": 0.5}),
            "reconstruct": config.reconstruct.model_copy(update=chosen),
        }
    )


@pytest.fixture
def cupid(completing_checkpoint: Path) -> Cupid:
    return Cupid.from_pretrained(completing_checkpoint, config=settings())


def frame(depth: np.ndarray | None = None) -> Frame:
    picture = np.random.default_rng(0).integers(1, 255, (*SIZE, 3), dtype=np.uint8)
    labels = np.zeros(SIZE, np.int32)
    labels[20:60, 30:80] = 1
    labels[60:80, 90:110] = 2
    measured = None if depth is None else DepthMap(torch.from_numpy(depth), ScaleSource.SENSOR, 0.0)
    return Frame.of(picture, labels, camera=CAMERA, depth=measured)


def test_depth_of_a_crop_is_that_of_the_visible_pixels_of_its_object() -> None:
    depth = np.full(SIZE, 0.5, np.float32)
    depth[:, 55:] = 0.7
    depth[30, 40] = np.nan
    crops = crop_objects(frame(depth), {}, CupidConfig())
    images = depth_images(crops, 64)
    values = {round(float(value), 4) for value in images[0].unique()}
    assert values == {0.0, 0.5, 0.7} and float(images[1].max()) == pytest.approx(0.7)
    planes = encoder_images(crops, 64, ("rgb", "mask", "points"))
    assert bool(((planes[0, 7] > 0) == (images[0] > 0)).all()), "points where there is depth, and nowhere else"
    crop = crops[0].crop
    rows, columns = np.nonzero(crops[0].depth)
    inside = {(row + crop.top, column + crop.left) for row, column in zip(rows, columns, strict=True)}
    assert inside == {tuple(pixel) for pixel in np.argwhere((frame().labels == 1) & np.isfinite(depth))}


def test_the_completed_shape_is_the_first_hypothesis_and_the_others_are_samples(
    cupid: Cupid, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[int] = []
    original = pipeline.sample_structures

    def counting(networks, condition, sampler, seeds, on_step=None):  # type: ignore[no-untyped-def]
        sampled.append(len(condition.tokens) * len(seeds))
        return original(networks, condition, sampler, seeds, on_step)

    monkeypatch.setattr(pipeline, "sample_structures", counting)
    alone = cupid.reconstruct(frame(), pipeline.Request(samples=1))
    assert not sampled, "one hypothesis is completed, so nothing is sampled"
    several = cupid.reconstruct(frame(), pipeline.Request(samples=3))
    assert sum(sampled) == 4
    for one, many in zip(alone, several, strict=True):
        first = next(item for item in many.hypotheses if item.number == 0)
        assert torch.equal(first.structure.coords, one.best.structure.coords)
        assert {item.number for item in many.hypotheses} | set(many.failures) == {0, 1, 2}


def test_the_voxels_project_where_their_image_positions_say(cupid: Cupid) -> None:
    crops = crop_objects(frame(), {}, cupid.config)
    assert cupid.networks.completion is not None
    with torch.no_grad():
        found = complete_structures(cupid.networks.completion, crops, cupid.config)
        posed = pipeline.solve_poses(found, crops, cupid.config)
    for item in posed:
        assert isinstance(item, Structure) and item.pose is not None
        inside = ((item.uv > 0.02) & (item.uv < 0.98)).all(dim=1)
        placed = item.pose.T_camera_object.apply(item.centers()[inside])
        uv = item.pose.camera.px_to_uv(item.pose.camera.project(placed)).float()
        torch.testing.assert_close(uv, item.uv[inside], atol=2e-3, rtol=0)


def test_an_object_that_cannot_be_completed_is_sampled(cupid: Cupid) -> None:
    completion = cupid.networks.completion
    assert completion is not None
    torch.nn.init.constant_(completion.surface_head.out.bias, -9.0)  # nothing is visible anywhere
    with torch.no_grad():
        errors = complete_structures(completion, crops := crop_objects(frame(), {}, cupid.config), cupid.config)
    assert len(errors) == len(crops) and all(isinstance(error, PoseError) for error in errors)
    without = Cupid(replace(cupid.networks, completion=None), cupid.config)
    same = zip(cupid.reconstruct(frame()), without.reconstruct(frame()), strict=True)
    assert all(torch.equal(a.best.structure.coords, b.best.structure.coords) for a, b in same)


def test_completion_can_be_switched_off(completing_checkpoint: Path) -> None:
    cupid = Cupid.from_pretrained(completing_checkpoint, config=settings(complete_shapes=False))
    without = Cupid(replace(cupid.networks, completion=None), cupid.config)
    same = zip(cupid.reconstruct(frame()), without.reconstruct(frame()), strict=True)
    assert all(torch.equal(a.best.structure.coords, b.best.structure.coords) for a, b in same)


def test_a_completed_shape_says_nothing_about_the_focal_length(cupid: Cupid) -> None:
    blind = replace(frame(), camera=None, camera_source=CameraSource.ESTIMATED)
    scene = cupid.reconstruct(blind)
    height, width = SIZE
    assert float(scene.camera.K[0, 0]) == pytest.approx(cupid.config.pose.unknown_focal * max(width, height))


def test_without_a_camera_the_result_is_that_of_the_agreed_camera(cupid: Cupid) -> None:
    """Completed shapes too: they are completed again with the camera that the sampled ones agree on."""
    free = cupid.config.pose.model_copy(update={"unknown_focal_std_log": 5.0})  # so that samples change it
    cupid = Cupid(cupid.networks, cupid.config.model_copy(update={"pose": free}))
    blind = replace(frame(), camera=None, camera_source=CameraSource.ESTIMATED)
    alone = cupid.reconstruct(blind, pipeline.Request(samples=3))
    given = cupid.reconstruct(
        replace(blind, camera=alone.camera, camera_source=CameraSource.GIVEN), pipeline.Request(samples=3)
    )
    guess = cupid.config.pose.unknown_focal * max(SIZE)
    assert float(alone.camera.K[0, 0]) != pytest.approx(guess, rel=1e-3), "the samples have a say"
    for one, other in zip(alone, given, strict=True):
        assert [item.number for item in one.hypotheses] == [item.number for item in other.hypotheses]
        for a, b in zip(one.hypotheses, other.hypotheses, strict=True):
            torch.testing.assert_close(a.pose.T_camera_object.matrix(), b.pose.T_camera_object.matrix())
