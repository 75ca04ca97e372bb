"""Every natural form of an image, masks, a camera and depth is read alike; every other one is a typed error."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cupid_core.errors import (
    CupidError,
    EmptyMaskError,
    InputError,
    InvalidCameraError,
    InvalidDepthError,
    InvalidImageError,
    UnreadableFileError,
)
from cupid_core.geometry.camera import Camera
from cupid_core.image.any_input import as_camera, as_depth, as_image, as_masks
from cupid_core.types import CameraSource, DepthMap, ScaleSource

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
MASK = np.zeros((12, 16), dtype=bool)
MASK[3:9, 4:12] = True
LABELS = np.where(MASK, 5, 0).astype(np.uint8)
K = np.array([[20.0, 0.0, 7.5], [0.0, 20.0, 5.5], [0.0, 0.0, 1.0]])


def test_an_image_may_be_a_path_a_picture_an_array_or_a_tensor(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", RGB)
    floats = torch.from_numpy(RGB).float() / 255
    for image in (
        str(tmp_path / "a.png"),
        tmp_path / "a.npy",
        Image.fromarray(RGB),
        RGB,
        torch.from_numpy(RGB),
        torch.from_numpy(RGB).permute(2, 0, 1),
        floats,
        floats.permute(2, 0, 1).to(torch.float64),
    ):
        np.testing.assert_array_equal(as_image(image).rgb, RGB)
    assert as_image(Image.fromarray(RGB).convert("P")).rgb.shape == RGB.shape


def test_a_turned_photo_is_stood_upright() -> None:
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(RGB)))
    turned.getexif()[0x0112] = 6  # turn clockwise to see it upright
    np.testing.assert_array_equal(as_image(turned).rgb, np.rot90(np.rot90(RGB), -1))


def test_masks_may_be_one_several_by_id_or_by_name(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "labels.png")
    Image.fromarray(np.where(MASK, np.uint8(255), np.uint8(0))).save(tmp_path / "mask.png")
    opaque = np.dstack([RGB, np.where(MASK, np.uint8(255), np.uint8(0))])
    Image.fromarray(opaque).save(tmp_path / "opacity.png")
    for masks, id_ in (
        (MASK, 1),
        (torch.from_numpy(MASK), 1),
        (MASK.astype(np.float32), 1),
        (np.where(MASK, np.uint8(255), np.uint8(0)), 1),
        (Image.fromarray(np.where(MASK, np.uint8(255), np.uint8(0))), 1),
        (LABELS, 5),
        (LABELS.astype(np.int64), 5),
        (torch.from_numpy(LABELS), 5),
        (tmp_path / "labels.png", 5),
        (str(tmp_path / "mask.png"), 1),
        (tmp_path / "opacity.png", 1),
        ([MASK], 1),
        ((tmp_path / "mask.png",), 1),
        ({7: MASK}, 7),
        ({np.int64(7): torch.from_numpy(MASK)}, 7),
        (MASK[None], 1),
        (MASK[..., None], 1),
    ):
        found = as_masks(masks, 12, 16).masks
        assert list(found) == [id_], type(masks)
        np.testing.assert_array_equal(found[id_], MASK)
    named = as_masks({"mug": MASK, "box": ~MASK}, 12, 16)
    assert named.names == {1: "mug", 2: "box"} and list(named.masks) == [1, 2]
    np.testing.assert_array_equal(as_masks(None, 12, 16, alpha=opaque[..., 3]).masks[1], MASK)


def test_a_camera_may_be_a_matrix_numbers_text_or_a_file(tmp_path: Path) -> None:
    info = tmp_path / "camera.yaml"
    info.write_text(f"width: 16\nheight: 12\nK: {K.reshape(-1).tolist()}\n", encoding="utf-8")
    for camera in (
        Camera(torch.from_numpy(K), 16, 12),
        K,
        K.astype(np.float32),
        torch.from_numpy(K),
        K.tolist(),
        (20.0, 20.0, 7.5, 5.5),
        "20,20,7.5,5.5",
        info,
        str(info),
    ):
        found, source = as_camera(camera, 16, 12)
        assert found is not None and source is CameraSource.GIVEN
        np.testing.assert_allclose(found.K.numpy(), K)
    assert as_camera(None, 16, 12) == (None, CameraSource.ESTIMATED)


def test_depth_may_be_counts_or_metres(tmp_path: Path) -> None:
    counts = np.full((12, 16), 750, dtype=np.uint16)
    counts[0, 0] = 0
    Image.fromarray(counts).save(tmp_path / "depth.png")
    metres = np.where(counts == 0, np.nan, counts / 1000).astype(np.float32)
    for depth in (
        counts,
        torch.from_numpy(counts.astype(np.int32)),
        counts[..., None],
        counts[None].astype(np.int64),
        counts.astype(np.int16),
        metres,
        torch.from_numpy(metres),
        metres.astype(np.float64)[None],
        Image.fromarray(counts),
        tmp_path / "depth.png",
        DepthMap(torch.from_numpy(metres), ScaleSource.SENSOR),
    ):
        found = as_depth(depth)
        assert found is not None
        np.testing.assert_allclose(found.depth_m.numpy(), metres, rtol=1e-6)
    assert as_depth(None) is None
    in_millimetres = DepthMap(torch.from_numpy(1000 * metres), ScaleSource.SENSOR)
    for wrong in (1000 * metres, in_millimetres):
        with pytest.raises(InvalidDepthError, match="unit"):
            as_depth(wrong)
    saturated = replace(in_millimetres, depth_m=torch.full((12, 16), 65.535).index_fill(0, torch.arange(7), 0.75))
    assert int(as_depth(saturated).depth_m.isfinite().sum()) == 7 * 16
    assert float(as_depth(counts, metres_per_count=0.0005).depth_m[5, 5]) == pytest.approx(0.375)


@pytest.mark.parametrize(
    "wrong", [None, 3, 1.5, {"a": 1}, object(), b"png", [], np.array(["x"]), np.zeros((2, 2, 7))]
)
def test_what_is_no_image_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidImageError):
        as_image(wrong)  # type: ignore[arg-type]


def test_what_is_no_mask_is_refused() -> None:
    for wrong, error in (
        (7, InvalidImageError),
        (object(), InvalidImageError),
        ([], EmptyMaskError),
        ({}, EmptyMaskError),
        (MASK[:-1], InputError),
        (np.zeros_like(MASK), EmptyMaskError),
        ({0: MASK}, InputError),
        ({True: MASK}, InputError),
        ({"mug": "missing.png"}, UnreadableFileError),
        ("missing.png", UnreadableFileError),
        (None, InvalidImageError),
    ):
        with pytest.raises(error):
            as_masks(wrong, 12, 16)  # type: ignore[arg-type]


def test_what_is_no_camera_or_depth_is_refused() -> None:
    for wrong in (
        np.zeros((3, 4)),
        [1, 2, 3],
        "1,2,3,x",
        object(),
        {"K": 1},
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
    ):
        with pytest.raises(InputError):
            as_camera(wrong, 16, 12)  # type: ignore[arg-type]
    with pytest.raises(InvalidCameraError, match="path"):
        as_camera("exif", 16, 12, photo=RGB)
    for strange in (object(), 3, np.zeros((12, 16), dtype=np.uint8), np.zeros((3, 12, 16), np.float32)):
        with pytest.raises(InvalidDepthError):
            as_depth(strange)  # type: ignore[arg-type]


natural = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.sampled_from([RGB, MASK, LABELS, K, Image.fromarray(RGB), torch.from_numpy(RGB), Path("missing.png")])
    | st.builds(
        lambda shape, kind: np.zeros(shape, dtype=kind),
        st.lists(st.integers(0, 4), max_size=4).map(tuple),
        st.sampled_from(["u1", "i8", "f4", "?", "U3", "c8"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.integers(-1, 3) | st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(natural)
def test_any_object_is_read_or_refused_with_a_hint(value: object) -> None:
    for read in (
        as_image,
        lambda v: as_masks(v, 12, 16),
        lambda v: as_camera(v, 16, 12),
        as_depth,
    ):
        try:
            read(value)  # type: ignore[operator]
        except CupidError as error:
            assert error.problem and error.hint
