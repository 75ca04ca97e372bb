"""The job: which masks the method gets, and that a camera reaches it unchanged."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from serving_stubs import camera

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.geometry.distortion import Distortion
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.jobs import CupidJob, MakeCupidJob
from cupid_core.serving.records import CameraValues, SceneRequest


def test_the_method_gets_all_masks_and_reconstructs_only_the_wanted_ones() -> None:
    class RecordsCall:
        def __call__(self, image: Any, *, masks: Any, **given: Any) -> Any:
            self.masks, self.only = sorted(masks), sorted(given["only"])
            raise NoObjectsError("Enough.", hint="None.")

    cupid, labels = RecordsCall(), np.zeros((48, 64), np.int32)
    labels[10:20, 5:15], labels[10:20, 15:30] = 1, 2
    job = CupidJob(cast(Any, cupid), build_segmenter())
    images = {"image": np.zeros((48, 64, 3), np.uint8), "labels": labels}

    def run(**numbers: Any) -> None:
        job(SceneRequest(**numbers), images, lambda progress: None, lambda: False)

    with pytest.raises(NoObjectsError, match="Enough"):
        run(numbers=(1,), occluder_numbers=(2, 5))
    assert (cupid.masks, cupid.only) == ([1, 2], [1])
    with pytest.raises(NoObjectsError, match="No pixel of the label image is 5") as caught:
        run(numbers=(5,), occluder_numbers=(2, 6))
    assert "6" not in str(caught.value)


def test_camera_values_round_trip() -> None:
    lens = Distortion("plumb_bob", (-0.2, 0.1, 0.001, 0.002, 0.0))
    for sent in (camera(), replace(camera(), distortion=lens)):
        received = CameraValues.of(sent).camera()
        assert (received.width, received.height, received.lens) == (sent.width, sent.height, sent.lens)
        assert (sent.K.double() == received.K).all()


def test_camera_values_are_equal_for_equal_cameras_only() -> None:
    one, lens = CameraValues.of(camera()), Distortion("plumb_bob", (-0.2, 0.1, 0.001, 0.002, 0.0))
    assert one == CameraValues.of(camera())
    assert one == CameraValues.of(replace(camera(), distortion=Distortion("plumb_bob", (0.0,) * 5)))
    others = (replace(camera(), distortion=lens), camera().crop(0, 0, 64, 47), camera().resize(32, 24))
    assert all(one != CameraValues.of(other) for other in others)


def test_the_settings_reach_the_process_as_plain_values() -> None:
    make_job = pickle.loads(pickle.dumps(MakeCupidJob.of(CupidConfig())))
    assert settings_of.from_mapping(CupidConfig, make_job.settings) == CupidConfig()
