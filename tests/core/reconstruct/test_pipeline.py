"""The whole method with tiny random networks: what must hold whatever they have learned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupid_core.config import CupidConfig
from cupid_core.errors import (
    CancelledError,
    CheckpointError,
    CupidError,
    EmptyMaskError,
    InputError,
    InvalidImageError,
)
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.reconstruct import pipeline
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.progress import STAGES, Progress
from cupid_core.reconstruct.results import Hypothesis, SceneObject
from cupid_core.render.raycast import MeshCaster
from cupid_core.sampling.noise import ItemNoise, NoiseSource
from cupid_core.types import CameraSource

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
            "reconstruct": config.reconstruct.model_copy(update={"samplers": "settings", "score_size": 64}),
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


def by_number(result: SceneObject) -> dict[int, Hypothesis]:
    return {hypothesis.number: hypothesis for hypothesis in result.hypotheses}


def same(a: Hypothesis, b: Hypothesis) -> None:
    assert torch.equal(a.structure.coords, b.structure.coords)
    torch.testing.assert_close(a.structure.uv, b.structure.uv, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        a.pose.T_camera_object.matrix(), b.pose.T_camera_object.matrix(), atol=1e-3, rtol=1e-3
    )


def test_a_result_is_complete_ranked_and_repeatable(cupid: Cupid) -> None:
    reports: list[Progress] = []
    scene = cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, samples=2, on_progress=reports.append)
    result = scene[0]
    scores = [hypothesis.score for hypothesis in result.hypotheses]
    assert scores == sorted(scores, reverse=True) and len(scores) + len(result.failures) == 2
    for hypothesis in result.hypotheses:
        assert hypothesis.mesh().colors is not None
        assert 0 <= hypothesis.quality.silhouette_iou <= 1
        # The pose belongs to the camera that was given, in the whole image.
        torch.testing.assert_close(hypothesis.pose.camera.K, CAMERA.K)
    order = [report.stage for report in reports]
    assert [stage for stage in STAGES if stage in order] == list(dict.fromkeys(order))
    assert set(scene.timings_s) == set(order) and all(value >= 0 for value in scene.timings_s.values())
    again = cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, samples=2)[0]
    for number, hypothesis in by_number(again).items():
        same(hypothesis, by_number(result)[number])


def test_a_hypothesis_depends_on_its_seed_alone(cupid: Cupid) -> None:
    few = by_number(cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA)[0])
    many = by_number(cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, samples=3)[0])
    other = by_number(cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, seed=1)[0])
    same(few[0], many[0])
    one, two = few[0].structure.coords, other[0].structure.coords
    assert len(one) != len(two) or not torch.equal(one, two)


def test_objects_of_a_frame_do_not_disturb_each_other(cupid: Cupid) -> None:
    apart = {1: disc(70, 25, 12), 2: disc(20, 65, 12), 3: disc(2, 20, 10)}
    together = cupid(picture(), masks=apart, camera=CAMERA)
    for id_, mask in apart.items():
        same(together.by_id(id_).best, cupid(picture(), masks={id_: mask}, camera=CAMERA)[0].best)
    assert together.by_id(3).truncated and not together.by_id(1).truncated


def test_without_a_camera_the_result_is_that_of_the_agreed_camera(cupid: Cupid) -> None:
    masks = {1: disc(70, 25, 12), 2: disc(20, 65, 12)}
    alone = cupid(picture(), masks=masks, samples=2)
    given = cupid(picture(), masks=masks, samples=2, camera=alone.camera)
    assert (alone.camera_source, given.camera_source) == (CameraSource.ESTIMATED, CameraSource.GIVEN)
    for one, other in zip(alone, given, strict=True):
        assert [h.number for h in one.hypotheses] == [h.number for h in other.hypotheses]
        assert torch.equal(one.best.pose.T_camera_object.matrix(), other.best.pose.T_camera_object.matrix())
        assert torch.equal(one.mesh.vertices, other.mesh.vertices)


def test_structures_are_sampled_once_and_meshes_are_prepared_for_rendering_once(
    cupid: Cupid, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"structures": 0, "scenes": 0}
    sample, build = pipeline.sample_structures, MeshCaster.__init__

    def sampling(*arguments: Any, **named: Any) -> Any:
        counts["structures"] += 1
        return sample(*arguments, **named)

    def building(self: MeshCaster, *arguments: Any) -> None:
        counts["scenes"] += 1
        build(self, *arguments)

    monkeypatch.setattr(pipeline, "sample_structures", sampling)
    monkeypatch.setattr(MeshCaster, "__init__", building)
    scene = cupid(picture(), masks={1: disc(70, 25, 12), 2: disc(20, 65, 12)}, samples=2, refine="pose")
    hypotheses = sum(len(item.hypotheses) for item in scene)
    assert counts == {"structures": 1, "scenes": hypotheses}


def test_ranking_by_voxels_decodes_only_the_best(cupid: Cupid) -> None:
    quick = replace(
        cupid,
        config=cupid.config.model_copy(
            update={"reconstruct": cupid.config.reconstruct.model_copy(update={"rank_by": "voxels"})}
        ),
    )
    (found,) = quick(picture(), masks=disc(70, 40, 20), camera=CAMERA, samples=3)
    everything = by_number(cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, samples=3)[0])
    assert len(found.hypotheses) == 1
    same(found.best, everything[found.best.number])
    assert len(found.mesh.vertices) == len(everything[found.best.number].mesh().vertices)


def test_a_lens_is_removed_from_image_and_mask(cupid: Cupid) -> None:
    lens = Distortion("plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
    best = cupid(picture(), masks=disc(70, 40, 20), camera=replace(CAMERA, distortion=lens))[0].best
    assert best.pose.camera.lens is None
    torch.testing.assert_close(best.pose.camera.K, CAMERA.K)


def test_the_alpha_is_the_mask_where_there_is_none(cupid: Cupid) -> None:
    mask = disc(70, 40, 20)
    rgba = np.dstack([picture(), np.where(mask, np.uint8(255), np.uint8(0))])
    same(cupid(rgba, camera=CAMERA)[0].best, cupid(picture(), masks=mask, camera=CAMERA)[0].best)
    with pytest.raises(InvalidImageError, match="no mask"):
        cupid(picture(), camera=CAMERA)


def test_it_stops_when_asked(cupid: Cupid) -> None:
    asked = iter([False] * 6 + [True] * 100)
    with pytest.raises(CancelledError):
        cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, cancelled=lambda: next(asked))


def test_what_cannot_be_used_is_refused(cupid: Cupid) -> None:
    with pytest.raises(EmptyMaskError):
        cupid(picture(), masks=np.zeros(SIZE, dtype=bool))
    with pytest.raises(InputError):
        cupid(picture(), masks=disc(70, 40, 20), samples=0)
    with pytest.raises(InputError):
        cupid(picture(), masks=disc(70, 40, 20)[:-1])


def test_a_checkpoint_without_a_decoder_of_gaussians_says_so(cupid: Cupid) -> None:
    (found,) = cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA)
    if cupid.networks.gaussian_decoder is None:
        with pytest.raises(CheckpointError, match="Gaussians"):
            found.gaussians()
    else:
        splats = found.gaussians()
        assert len(splats.positions) and bool(splats.positions.isfinite().all())
    without = replace(found.best, networks=replace(cupid.networks, gaussian_decoder=None))
    with pytest.raises(CheckpointError, match="Gaussians"):
        without.gaussians()


def test_a_pose_that_explains_nothing_is_an_error_not_a_pose(tiny_checkpoint: Path) -> None:
    strict = settings().model_copy(update={"pose": CupidConfig().pose.model_copy(update={"max_noise": 1e-6})})
    cupid = Cupid.from_pretrained(tiny_checkpoint, config=strict)
    scene = cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA)
    assert not scene.objects and list(scene.failures) == [1]
    with pytest.raises(CupidError):
        scene[0]


def test_noise_of_items_is_that_of_their_seeds() -> None:
    noise = ItemNoise([5, 6, 5], [2, 3, 2]).draw((7, 4))
    assert torch.equal(noise[:2], noise[5:]) and torch.equal(noise[:2], NoiseSource(5).draw((2, 4)))
    assert torch.equal(noise[2:5], NoiseSource(6).draw((3, 4)))
