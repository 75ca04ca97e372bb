"""Message types of a distribution, and observations to publish; both made once."""

from __future__ import annotations

import pytest
from box_objects import box_record

from cupid_ros.errors import WorkerDiedError
from cupid_ros.messages import BagMessageTypes
from cupid_ros.results import Observation


@pytest.fixture(scope="session")
def types() -> BagMessageTypes:
    return BagMessageTypes.of("jazzy")


@pytest.fixture
def seen() -> Observation:
    """Two metric objects, one without a scale, and one that failed."""
    return Observation(
        stamp_ns=1_700_000_000_123_456_789,
        frame_id="camera_color_optical_frame",
        objects=(box_record(3), box_record(4), box_record(5, metric=False)),
        failures={"6": WorkerDiedError("It died.", cure="Ask again.")},
    )
