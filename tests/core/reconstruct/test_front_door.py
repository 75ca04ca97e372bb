"""The one call: every natural form of the inputs gives the same scene, and a scene is easy to use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_pipeline import CAMERA, SIZE, disc, picture, settings

from cupid_core import Cupid, sample_frame
from cupid_core.errors import CancelledError, CupidError, InputError
from cupid_core.image.any_input import as_depth, as_image, as_masks
from cupid_core.reconstruct.progress import Progress
from cupid_core.reconstruct.results import Scene
from cupid_core.types import CameraSource

LABELS = (disc(70, 25, 12) + 2 * disc(20, 65, 12)).astype(np.uint8)
DEPTH = np.where(LABELS > 0, 800, 1000).astype(np.uint16)


@pytest.fixture
def cupid(tiny_checkpoint: Path) -> Cupid:
    return Cupid.from_pretrained(tiny_checkpoint, config=settings())


@pytest.fixture
def scene(cupid: Cupid) -> Scene:
    return cupid(picture(), masks=LABELS, camera=CAMERA, depth=DEPTH, names={1: "mug", 2: "box"})


def same(one: Scene, other: Scene) -> None:
    assert [item.id for item in one] == [item.id for item in other]
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.pose.matrix(), b.pose.matrix()) and torch.equal(a.mesh.vertices, b.mesh.vertices)
        assert a.model.scale_source is b.model.scale_source


def test_files_pictures_arrays_and_tensors_give_the_same_scene(cupid: Cupid, scene: Scene, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "color.png")
    Image.fromarray(LABELS).save(tmp_path / "labels.png")
    Image.fromarray(DEPTH).save(tmp_path / "depth.png")
    K = CAMERA.K.numpy()
    for image, masks, camera, depth in (
        (tmp_path / "color.png", tmp_path / "labels.png", K, tmp_path / "depth.png"),
        (
            str(tmp_path / "color.png"),
            str(tmp_path / "labels.png"),
            "150,150,59.5,44.5",
            str(tmp_path / "depth.png"),
        ),
        (Image.fromarray(picture()), Image.fromarray(LABELS), K.tolist(), Image.fromarray(DEPTH)),
        (torch.from_numpy(picture()), torch.from_numpy(LABELS), torch.from_numpy(K), DEPTH / np.float32(1000)),
        (picture(), {1: LABELS == 1, 2: LABELS == 2}, (150, 150, 59.5, 44.5), DEPTH),
        (picture(), {"mug": LABELS == 1, "box": LABELS == 2}, CAMERA, DEPTH),
        (picture(), [LABELS == 1, LABELS == 2], CAMERA, DEPTH),
        (torch.from_numpy(picture()).permute(2, 0, 1), [torch.from_numpy(LABELS == 1), LABELS == 2], K, DEPTH),
        (picture(), [Image.fromarray(LABELS == 1), (LABELS == 2) * 1.0], CAMERA, torch.from_numpy(DEPTH / 1000.0)),
        (Image.fromarray(picture()), (LABELS == 1, np.where(LABELS == 2, 1, -1)), CAMERA, DEPTH.astype(np.int32)),
    ):
        same(scene, cupid(image, masks=masks, camera=camera, depth=depth))


def test_a_scene_is_a_sequence_of_named_objects(scene: Scene) -> None:
    assert len(scene) == 2 and [item.label for item in scene] == ["mug", "box"]
    assert scene["mug"] is scene[0] is scene.by_id(1) and scene[-1] is scene["box"]
    assert scene.camera_source is CameraSource.GIVEN
    assert "\n" not in repr(scene) + repr(scene[0]) and "mug" in repr(scene) and "mug" in repr(scene[0])
    for wrong in ("cup", 2, -3, 1.5, None):
        with pytest.raises(InputError):
            scene[wrong]  # type: ignore[index]
    with pytest.raises(InputError):
        scene.by_id(7)


def test_wrong_inputs_are_errors_with_a_hint(cupid: Cupid) -> None:
    mask = disc(70, 40, 20)
    for wrong in (
        {"image": 3},
        {"image": "missing.png"},
        {"image": np.zeros((2, 3, 90, 120, 3), np.uint8)},
        {"masks": object()},
        {"masks": "missing.png"},
        {"masks": mask[:-1]},
        {"camera": np.eye(4)},
        {"camera": "missing.yaml"},
        {"camera": np.eye(3)},
        {"depth": "missing.png"},
        {"depth": np.zeros(SIZE, np.uint16)},
        {"depth": np.ones((20, 20), np.float32)},
        {"samples": 0},
        {"sizes_m": {1: -1.0}},
        {"sizes_m": {1: "0.2"}},
        {"sizes_m": [0.2]},
        {"sizes_m": {"mug": 0.2}},
        {"names": 7},
        {"names": {"mug": 1}},
        {"names": [1, 2]},
        {"only": "1"},
        {"only": [1.5]},
        {"samples": 1.5},
        {"seed": "a"},
        {"image": [picture()]},
        {"image": b"photo"},
        {"masks": {1: mask, "b": mask}},
        {"masks": {1.5: mask}},
        {"masks": b"mask"},
        {"depth": [[0.8]]},
        {"depth": np.full(SIZE, 800.0)},
        {"camera": {"K": 1}},
        {"orientation": "down"},
        {"only": [7]},
    ):
        given = {"image": picture(), "masks": mask, **wrong}
        with pytest.raises(CupidError) as caught:
            cupid(given.pop("image"), **given)
        assert caught.value.hint


def test_the_frame_that_ships_reads_as_a_frame() -> None:
    frame = sample_frame()
    color = as_image(frame.color).rgb
    height, width = color.shape[:2]
    masks, depth = as_masks(frame.labels, height, width).masks, as_depth(frame.depth)
    assert (width, height) == (640, 480) and len(masks) >= 3 and depth is not None
    for mask in masks.values():
        assert 0.2 < float(depth.depth_m[torch.from_numpy(mask)].nanmedian()) < 3.0


def test_progress_moves_inside_decode_and_a_caller_can_stop_there(cupid: Cupid) -> None:
    shares: list[float] = []

    def collect(report: Progress) -> None:
        if report.stage == "decode":
            shares.append(report.fraction)

    cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, on_progress=collect)
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert len([share for share in shares if 0.0 < share < 1.0]) >= 2

    def stop(report: Progress) -> None:
        if report.stage == "decode" and 0.0 < report.fraction < 1.0:
            raise CancelledError("Stopped inside decode.", hint="Start again.")

    with pytest.raises(CancelledError, match="inside decode"):
        cupid(picture(), masks=disc(70, 40, 20), camera=CAMERA, on_progress=stop)
