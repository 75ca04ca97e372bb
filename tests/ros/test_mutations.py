"""Ten thousand damaged messages: conversions give a value or one of our errors, never anything else."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cupid_core.config.ros import RosInputConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.tracking import ObjectTracker
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.convert.detections import make_detections, read_detections
from cupid_ros.convert.header import make_header, read_header
from cupid_ros.convert.image import make_image, read_depth, read_label_values, read_pixels
from cupid_ros.convert.transforms import read_transform
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

NOW = Stamped(1_700_000_000_000_000_000, "camera")
EACH = 1250  # of eight kinds of messages
WHOLE = (0, 1, -1, 2, 255, 256, 65535, 2**31 - 1, 2**32 - 1, 10**9)
NUMBERS = (*WHOLE, float("nan"), float("inf"), -float("inf"), 1e300)
TEXTS = ("", "rgb8", "mono8", "32FC1", "16UC1", "equidistant", "rational_polynomial", "jpeg", "x" * 300, "\n", "ü")


def png(values: np.ndarray) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return np.frombuffer(stream.getvalue(), np.uint8)


def samples(types: BagMessageTypes) -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """A good message of each kind, and everything that reads it."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    counts = rng.integers(0, 2000, (6, 8)).astype(np.uint16)
    lens = Distortion("plumb_bob", (-0.2, 0.1, 0.0, 0.0, 0.0))
    camera = Camera.from_parameters(fx=9.0, fy=9.0, cx=4.0, cy=3.0, width=8, height=6, distortion=lens)
    boxes = [Detection("1", "mug", 0.5, (1.0, 1.0, 5.0, 5.0)), Detection("", "", None, (2.0, 0.0, 8.0, 3.0))]
    image = make_image(types, color, "rgb8", NOW)
    info = make_camera_info(types, camera, NOW)
    labels = make_image(types, (counts % 3).astype(np.uint8), "mono8", NOW)
    detections = make_detections(types, boxes, NOW)
    deep = np.concatenate([np.frombuffer(struct.pack("<iff", 0, 100.0, 1.0), np.uint8), png(counts)])
    packed, packed_depth = (
        types.make("sensor_msgs/msg/CompressedImage", header=make_header(types, NOW), format=text, data=data)
        for text, data in (("rgb8; png compressed", png(color)), ("32FC1; compressedDepth png", deep))
    )
    transform = types.make("geometry_msgs/msg/TransformStamped", header=make_header(types, NOW))
    transform.transform.rotation.w = 1.0

    def whole(**changes: Any) -> Any:
        given = {"camera_info": info, "labels": labels, "detections": detections, **changes}
        frame = read_frame(FrameMessages(**{"image": image, **given}), RosInputConfig())
        return ObjectTracker().targets(frame)

    return {
        "color": (image, lambda m: (read_pixels(m).rgb(), whole(image=m))),
        "depth": (
            make_image(types, counts, "16UC1", NOW),
            lambda m: (read_depth(read_pixels(m, "depth"), scale_std=0.0), whole(depth=m)),
        ),
        "labels": (labels, lambda m: (read_label_values(read_pixels(m, "label")), whole(labels=m))),
        "compressed": (packed, lambda m: (read_pixels(m).rgb(), whole(image=m))),
        "compressed depth": (packed_depth, lambda m: (read_depth(read_pixels(m), scale_std=0.0), whole(depth=m))),
        "camera": (info, lambda m: (read_camera(m, rectified=True), whole(camera_info=m))),
        "detections": (detections, lambda m: (read_detections(m), whole(detections=m))),
        "transform": (transform, lambda m: (read_header(m), read_transform(m))),
    }


def damage_bytes(raw: bytes, draw: random.Random) -> bytes:
    """Change, cut, repeat or insert a few bytes; mostly behind the encapsulation, where it hurts."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data)) if draw.random() < 0.6 else draw.randrange(min(len(data), 120))
        what = draw.randrange(4)
        if what == 0:
            data[at] = draw.randrange(256)
        elif what == 1:
            data[at : at + 4] = struct.pack("<I", draw.choice([0, 1, 7, 255, 2**16, 2**31, 2**32 - 1]))
        elif what == 2:
            del data[at : at + draw.randint(1, 9)]
        else:
            data[at:at] = draw.randbytes(draw.randint(1, 9))
        data = data or bytearray(b"\x00")
    return bytes(data)


def damage_field(message: Any, draw: random.Random) -> None:
    """Put another value of the same kind into a random leaf."""
    target, name = message, ""
    while True:
        if isinstance(target, list):
            if not target or draw.random() < 0.1:
                target.extend(target[:1])
                return
            target = draw.choice(target)
            continue
        name = draw.choice([key for key in vars(target) if not key.startswith("_")])
        value = getattr(target, name)
        if not hasattr(value, "__msgtype__") and not isinstance(value, list):
            break
        target = value
    if isinstance(value, str):
        setattr(target, name, draw.choice(TEXTS))
    elif isinstance(value, np.ndarray):
        changed = value.copy()
        if len(changed) and draw.random() < 0.7:
            numbers = NUMBERS[:6] if value.dtype == np.uint8 else NUMBERS
            with np.errstate(all="ignore"):
                changed[draw.randrange(len(changed))] = np.float64(draw.choice(numbers)).astype(value.dtype)
        else:
            changed = changed[: draw.randint(0, len(changed))]
        setattr(target, name, changed)
    else:
        setattr(target, name, draw.choice(NUMBERS if isinstance(value, float) else WHOLE))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", [
    "color", "depth", "labels", "compressed", "compressed depth", "camera", "detections", "transform",
])  # fmt: skip
def test_damaged_messages_raise_only_cupid_errors(types: BagMessageTypes, kind: str) -> None:
    message, use = samples(types)[kind]
    raw, name = types.encode(message), message.__msgtype__
    draw = random.Random(kind)
    refused = 0
    use(types.decode(raw, name))
    for number in range(EACH):
        try:
            if number % 2:
                use(types.decode(damage_bytes(raw, draw), name))
            else:
                changed = types.decode(raw, name)
                damage_field(changed, draw)
                use(changed)
        except CupidError as error:
            assert error.code != "cupid_error" and error.hint
            refused += 1
    assert EACH * 0.1 < refused < EACH, "some of it is noticed, and some is harmless"
