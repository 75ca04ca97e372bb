"""What is published: every message comes back from the wire saying what the reconstruction said, and no more."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_stubs import box_record

from cupid_core.geometry.se3 import SE3
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_core.types import CameraSource
from cupid_ros.convert.cloud import make_object_clouds, make_point_cloud, read_points, view_points
from cupid_ros.convert.detections import make_detections, read_detections
from cupid_ros.convert.header import read_header
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.planning import SUBFRAMES, make_collision_object
from cupid_ros.convert.transforms import make_transforms, object_frame, read_transform
from cupid_ros.messages import BagMessageTypes


def wire(types: BagMessageTypes, message: Any) -> Any:
    return types.decode(types.encode(message), message.__msgtype__)


def points(values: Any) -> np.ndarray:
    return np.array([[p.x, p.y, p.z] for p in values])


def in_camera(item: ObjectRecord) -> np.ndarray:
    return item.T_camera_object.apply(torch.from_numpy(item.vertices)).numpy()


def test_object_messages_hold_every_field_of_the_record(types: BagMessageTypes, observation: Observation) -> None:
    message = wire(types, make_object_array(types, observation))
    assert read_header(message) == Stamped(observation.stamp_ns, observation.frame_id)
    assert (message.failed_ids, message.failed_codes) == (["6"], ["worker_died"])
    assert "Ask again" in message.failed_texts[0]
    for item, sent in zip(observation.objects, message.objects, strict=True):
        assert read_header(sent) == Stamped(observation.stamp_ns, observation.frame_id)
        assert (sent.id, sent.class_id, sent.watertight) == (item.id, "box", True)
        np.testing.assert_array_equal(points(sent.mesh.vertices), item.vertices)
        faces = np.array([triangle.vertex_indices for triangle in sent.mesh.triangles])
        np.testing.assert_array_equal(faces, item.faces)
        colors = np.array([[c.r, c.g, c.b, c.a] for c in sent.vertex_colors])
        np.testing.assert_allclose(colors, np.hstack([item.colors, np.ones((8, 1))]))  # type: ignore[list-item]
        np.testing.assert_array_equal(sent.pose.covariance.reshape(6, 6), item.covariance)
        np.testing.assert_allclose(points([sent.dimensions])[0], [0.1, 0.2, 0.3], atol=1e-12)
        np.testing.assert_allclose(points([sent.center])[0], [0.01, -0.02, 0.03], atol=1e-12)
        assert sent.scale == item.scale
        assert math.isnan(sent.scale_stddev) is not item.is_metric
        assert sent.scale_source == (sent.DEPTH_SENSOR if item.is_metric else sent.UNKNOWN)
        assert sent.quality.verdict == sent.quality.DOUBTFUL and sent.quality.reasons == ["It is a box."]
        assert math.isnan(sent.quality.color_psnr_db) and sent.quality.depth_residual_m == pytest.approx(0.002)


def test_3d_detections_are_boxes_around_the_meshes(types: BagMessageTypes, observation: Observation) -> None:
    message = wire(types, make_detections_3d(types, observation))
    metric = [item for item in observation.objects if item.is_metric]
    assert [item.id for item in message.detections] == [item.id for item in metric]
    for item, sent in zip(metric, message.detections, strict=True):
        o, c = sent.bbox.center.orientation, sent.bbox.center.position
        T_camera_box = SE3.from_quat_xyzw(torch.tensor([o.x, o.y, o.z, o.w]), torch.tensor([c.x, c.y, c.z]))
        local = T_camera_box.inverse()
        inside = local.apply(torch.from_numpy(in_camera(item)).float()).numpy()
        half = points([sent.bbox.size])[0] / 2
        np.testing.assert_allclose(np.abs(inside).max(axis=0), half, atol=1e-6)
        np.testing.assert_allclose(np.abs(inside).min(axis=0), half, atol=1e-6)
        assert sent.results[0].hypothesis.score == 0.75
        np.testing.assert_array_equal(sent.results[0].pose.covariance.reshape(6, 6), item.covariance)


def test_transforms_map_the_mesh_into_the_camera_frame(types: BagMessageTypes, observation: Observation) -> None:
    message = wire(types, make_transforms(types, observation, prefix="cupid/"))
    assert [sent.child_frame_id for sent in message.transforms] == ["cupid/box_3", "cupid/box_4"], (
        "metric ones only"
    )
    for sent in message.transforms:
        assert read_header(sent) == Stamped(observation.stamp_ns, observation.frame_id)
        placed = read_transform(sent).apply(torch.from_numpy(observation.objects[0].vertices))
        np.testing.assert_allclose(placed.numpy(), in_camera(observation.objects[0]), atol=1e-12)


@given(quat=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
@settings(max_examples=30, deadline=None)
def test_a_fixed_frame_changes_the_parent_and_not_the_position(
    types: BagMessageTypes, quat: tuple[float, ...]
) -> None:
    observation = Observation(5, "camera", (box_record(),))
    T_map_camera = SE3.from_quat_xyzw(
        torch.tensor(quat, dtype=torch.float64), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    )
    message = wire(
        types, make_transforms(types, observation, prefix="", fixed_frame="map", T_fixed_camera=T_map_camera)
    )
    (sent,) = message.transforms
    assert sent.header.frame_id == "map"
    expected = T_map_camera.apply(torch.from_numpy(in_camera(observation.objects[0])))
    placed = read_transform(sent).apply(torch.from_numpy(observation.objects[0].vertices))
    np.testing.assert_allclose(placed.numpy(), expected.numpy(), atol=1e-12)


def test_a_missing_transform_is_never_an_identity(types: BagMessageTypes, observation: Observation) -> None:
    with pytest.raises(ValueError, match="together"):
        make_transforms(types, observation, prefix="", fixed_frame="map")


def test_ids_that_tf_takes_keep_their_name() -> None:
    for id_ in ("3", "mug_1", "track-7", "left.2", "shelf/mug", "A~b"):
        assert object_frame("cupid/", id_) == f"cupid/{id_}"


ids = st.text(st.sampled_from("ab1_ /.-%\n碗杯éü"), min_size=1, max_size=6) | st.text(min_size=1, max_size=6)


@given(first=ids, second=ids, prefix=st.sampled_from(["", "cupid/", "robot"]))
@settings(max_examples=300, deadline=None)
def test_two_ids_never_share_a_frame_and_the_frame_gives_the_id_back(first: str, second: str, prefix: str) -> None:
    names = object_frame(prefix, first), object_frame(prefix, second)
    assert (names[0] == names[1]) == (first == second)
    assert unquote(names[0].removeprefix(prefix)) == first
    assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", names[0])
    # TF drops slashes at the beginning; others might drop double ones and those at the end.
    assert not names[0].removeprefix(prefix).startswith("/") and "//" not in names[0] and names[0][-1] != "/"


def test_no_object_has_the_name_of_a_subframe_of_another() -> None:
    for name in SUBFRAMES:
        assert object_frame("cupid/", f"mug/{name}") != f"{object_frame('cupid/', 'mug')}/{name}"
    assert object_frame("cupid/", "mug/canonical2") == "cupid/mug/canonical2"


@pytest.mark.parametrize("pair", [("碗", "杯"), ("mug 1", "mug_1"), ("/mug", "mug"), ("a//b", "a/b"), ("x/", "x")])
def test_objects_with_similar_ids_have_a_transform_and_a_collision_object_each(
    types: BagMessageTypes, pair: tuple[str, str]
) -> None:
    items = tuple(replace(box_record(number), id=id_) for number, id_ in enumerate(pair, 1))
    sent = make_transforms(types, Observation(7, "camera", items), prefix="cupid/").transforms
    assert len({transform.child_frame_id for transform in sent}) == 2


def test_markers_are_the_colored_triangles(types: BagMessageTypes, observation: Observation) -> None:
    message = wire(types, make_markers(types, observation, lifetime_s=1.5, removed=[9]))
    removed, *shown = message.markers
    assert (removed.id, removed.action) == (9, removed.DELETE)
    assert [marker.id for marker in shown] == [3, 4], "what has no scale has no place"
    for item, marker in zip(observation.objects, shown, strict=False):
        assert (marker.type, marker.action) == (marker.TRIANGLE_LIST, marker.ADD)
        assert read_header(marker) == Stamped(observation.stamp_ns, observation.frame_id)
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 500_000_000)
        assert (marker.scale.x, marker.scale.y, marker.scale.z) == (1.0, 1.0, 1.0)
        np.testing.assert_array_equal(points(marker.points), item.vertices[item.faces].reshape(-1, 3))
        colors = np.array([[c.r, c.g, c.b] for c in marker.colors])
        np.testing.assert_array_equal(colors, item.colors[item.faces].reshape(-1, 3))  # type: ignore[index]


def test_points_lie_on_the_mesh_with_outward_normals(types: BagMessageTypes) -> None:
    item = box_record()
    message = wire(types, make_point_cloud(types, item, Stamped(7, "cupid/box_3"), count=500))
    kind = np.dtype([(field.name, "u4" if field.name == "rgb" else "f4") for field in message.fields])
    assert [field.offset for field in message.fields] == [kind.fields[name][1] for name in kind.names]  # type: ignore[index,union-attr]
    values = message.data.view(kind)
    assert len(values) == message.width == 500 and message.row_step == message.data.size
    xyz = np.stack([values[axis] for axis in "xyz"], axis=1)
    mesh = trimesh.Trimesh(item.vertices, item.faces)
    local, half = xyz - item.center, item.dimensions / 2
    np.testing.assert_allclose((np.abs(local) / half).max(axis=1), 1.0, atol=1e-5)
    normals = np.stack([values[f"normal_{axis}"] for axis in "xyz"], axis=1)
    assert ((normals * local).sum(axis=1) > 0).all()
    # Colors are those of the corners, between them: red grows with x.
    red = (values["rgb"] >> 16) / 255
    np.testing.assert_allclose(red, (local[:, 0] / half[0] + 1) / 2, atol=0.01)
    assert mesh.area == pytest.approx(2 * (0.1 * 0.2 + 0.2 * 0.3 + 0.1 * 0.3))


def test_clouds_of_an_image_have_one_header_and_lie_on_the_placed_meshes(
    types: BagMessageTypes, observation: Observation
) -> None:
    message = wire(types, make_object_clouds(types, observation, count=300))
    metric = [item for item in observation.objects if item.is_metric]
    assert message.ids == [item.id for item in metric] and len(message.clouds) == len(metric)
    for item, cloud in zip(metric, message.clouds, strict=True):
        assert read_header(cloud) == read_header(message) == Stamped(observation.stamp_ns, observation.frame_id)
        placed, normals = read_points(cloud)
        T_object_camera = item.T_camera_object.inverse()
        points_object = T_object_camera.apply(torch.from_numpy(placed)).numpy()
        local = (points_object - item.center) / (item.dimensions / 2)
        np.testing.assert_allclose(np.abs(local).max(axis=1), 1.0, atol=1e-4)
        outward = normals @ T_object_camera.rotation().numpy().T
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-6)
        # The face that a point is on is the one its normal names.
        np.testing.assert_array_equal(np.abs(outward).argmax(axis=1), np.abs(local).argmax(axis=1))
        assert ((outward * local).sum(axis=1) > 0).all()
        assert (normals[:, 2] > 0).any() and (normals[:, 2] < 0).any(), "hidden sides too"


def test_view_points_see_every_point_of_a_surface_from_outside(types: BagMessageTypes) -> None:
    points_object, normals, _ = box_record().surface_points(500)
    views, source = view_points(points_object, normals, distance_m=0.5)
    assert views.shape == (14, 3) and source.shape == (500,)
    rays = views[source] - points_object
    facing = (rays * normals).sum(axis=1) / np.linalg.norm(rays, axis=1)
    assert facing.min() > 0.5, "seen at less than 60 degrees"
    assert np.linalg.norm(views[:, None] - points_object[None], axis=2).min() > 0.5
    assert len(set(source)) > 5
    # GPD turns a normal towards the view point of its point: all stay outward, which one view point cannot do.
    flipped = (normals * (views[0] - points_object)).sum(axis=1) < 0
    assert flipped.any() and not (facing < 0).any()


def test_collision_objects(types: BagMessageTypes) -> None:
    item, now = box_record(), Stamped(7, "camera")
    added = wire(types, make_collision_object(types, item, now, operation="add", name="cupid/3"))
    assert added.operation == added.ADD and len(added.meshes) == 1 and added.mesh_poses[0].orientation.w == 1.0
    assert added.subframe_names == list(SUBFRAMES) and added.subframe_poses[0] == added.mesh_poses[0]
    np.testing.assert_allclose(points([added.subframe_poses[1].position])[0], item.center)
    np.testing.assert_array_equal(points(added.meshes[0].vertices), item.vertices)
    np.testing.assert_array_equal(points([added.pose.position])[0], item.translation)
    moved = wire(types, make_collision_object(types, item, now, operation="move", name="cupid/3"))
    assert moved.operation == moved.MOVE and not moved.meshes and moved.pose == added.pose
    assert not moved.subframe_names
    removed = wire(types, make_collision_object(types, item, now, operation="remove", name="cupid/3"))
    assert removed.operation == removed.REMOVE and removed.id == "cupid/3"
    with pytest.raises(ValueError, match="scale"):
        make_collision_object(types, box_record(metric=False), now, operation="add", name="x")


finite = st.floats(-1e4, 1e4)
detections = st.builds(
    lambda id_, class_id, score, x, y, w, h: Detection(
        id_, class_id if score is not None else "", score, (x, y, x + w, y + h)
    ),
    st.text(max_size=9), st.text(max_size=9), st.none() | st.floats(0, 1), finite, finite,
    st.floats(0.5, 1e3), st.floats(0.5, 1e3),
)  # fmt: skip


@given(sent=st.lists(detections, max_size=2))
@settings(max_examples=20, deadline=None)
def test_detections_round_trip(types: BagMessageTypes, sent: list[Detection]) -> None:
    sent = [item for item in sent if "\x00" not in item.id + item.class_id]
    back = read_detections(wire(types, make_detections(types, sent, Stamped(1, "camera"))))
    assert not back.refused
    for item, read in zip(sent, back.good, strict=True):
        assert (read.id, read.class_id, read.score) == (item.id, item.class_id, item.score)
        np.testing.assert_allclose(read.box, item.box, atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("bbox.size_x", math.nan), ("bbox.size_y", -1.0), ("bbox.center.position.x", math.inf),
        ("bbox.center.theta", 0.3), ("results.0.hypothesis.score", 1.5), ("results.0.hypothesis.score", math.nan),
    ],
)  # fmt: skip
def test_an_invalid_detection_does_not_affect_the_others(types: BagMessageTypes, place: str, value: float) -> None:
    good = Detection("1", "mug", 0.5, (1.0, 2.0, 3.0, 4.0))
    message = make_detections(types, [good, Detection("2", "mug", 0.5, (0.0, 0.0, 9.0, 9.0))], Stamped(1, "c"))
    *path, last = place.split(".")
    target = message.detections[1]
    for name in path:
        target = target[int(name)] if name.isdigit() else getattr(target, name)
    setattr(target, last, value)
    found = read_detections(wire(types, message))
    assert found.good == (good,)
    assert {number: error.code for number, error in found.refused.items()} == {1: "invalid_detection"}


def test_numbers_of_ids() -> None:
    numbers = {"7": 7, "track_12": 12, "a1b": None, "": None, "0": None, "3000000000": None, "9" * 30: None}
    assert {id_: Detection(id_, "", None, None).number for id_ in numbers} == numbers


def test_the_message_says_where_the_camera_comes_from(types: BagMessageTypes, observation: Observation) -> None:
    known = replace(observation, camera_source=CameraSource.DEPTH_MODEL)
    assert wire(types, make_object_array(types, known)).camera_source == "depth_model"
    nothing = replace(observation, objects=(), camera_source=None)
    assert wire(types, make_object_array(types, nothing)).camera_source == ""
