"""Encodings that only cv_bridge knows: decoded where it is installed, refused with a code where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cupid_core.serving.frames import Detection, Stamped
from cupid_ros.convert import bridge
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.image import make_image
from cupid_ros.errors import UnsupportedEncodingError
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

NOW = Stamped(5, "camera")


class Standing:
    """Stands for cv_bridge.CvBridge: knows one pattern."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> np.ndarray:
        assert encoding == "rgb8"
        if message.encoding != "bayer_rggb8":
            raise TypeError("Unrecognized image encoding")
        return np.full((message.height, message.width, 3), 7, np.uint8)


@pytest.fixture(params=[True, False])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    module = SimpleNamespace(CvBridge=Standing) if request.param else None
    monkeypatch.setitem(sys.modules, "cv_bridge", module)
    bridge._bridge.cache_clear()
    yield request.param
    bridge._bridge.cache_clear()


def messages(types: BagMessageTypes, encoding: str) -> FrameMessages:
    image = make_image(types, np.zeros((48, 64), np.uint8), "mono8", NOW)
    image.encoding = encoding
    boxes = make_detections(types, [Detection("1", "mug", 0.5, (5.0, 5.0, 20.0, 20.0))], NOW)
    return FrameMessages(image, None, detections=boxes)


def test_bayer_patterns_are_decoded_where_it_is_installed(types: BagMessageTypes, installed: bool) -> None:
    if installed:
        assert (read_frame(messages(types, "bayer_rggb8")).image == 7).all()
        with pytest.raises(UnsupportedEncodingError, match="cv_bridge"):
            read_frame(messages(types, "nonsense"))
    else:
        with pytest.raises(UnsupportedEncodingError, match="bayer_rggb8"):
            read_frame(messages(types, "bayer_rggb8"))


def test_known_encodings_do_not_use_cv_bridge(types: BagMessageTypes, installed: bool) -> None:
    assert (read_frame(messages(types, "mono8")).image == 0).all()
