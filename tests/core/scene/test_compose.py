"""Scenes: the two frames tell the same story, and y-up is undone exactly."""

import pytest
import torch

from cupid_core.errors import InputError, InvalidTensorError
from cupid_core.geometry import SE3, Sim3
from cupid_core.mesh.glb import mesh_from_y_up, mesh_to_y_up, points_to_y_up
from cupid_core.mesh.normals import vertex_normals
from cupid_core.scene.compose import PlacedMesh, compose_in_camera, compose_in_first_object
from cupid_core.types import TriangleMesh


def tetrahedron(seed):
    vertices = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]], dtype=torch.float64)
    vertices = vertices + 0.1 * torch.rand(
        4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    return TriangleMesh(vertices, faces, colors=vertices.clamp(0, 1), normals=vertex_normals(vertices, faces))


def placement(seed):
    tangent = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Sim3.exp(tangent)


def scene(count=3):
    return [PlacedMesh(tetrahedron(k), placement(10 + k)) for k in range(count)]


def test_both_frames_differ_by_the_first_pose_only():
    objects = scene()
    back = Sim3.from_se3(objects[0].S_camera_object.rigid())
    for in_camera, in_first in zip(compose_in_camera(objects), compose_in_first_object(objects), strict=True):
        torch.testing.assert_close(in_first.transformed(back).vertices, in_camera.vertices)


def test_first_object_is_scaled_but_neither_turned_nor_moved():
    objects = scene()
    first = compose_in_first_object(objects)[0]
    torch.testing.assert_close(first.vertices, objects[0].mesh.vertices * objects[0].S_camera_object.scale)
    torch.testing.assert_close(first.normals, objects[0].mesh.normals)


def test_one_frame_for_all_is_kept_by_a_common_motion():
    """Moving the camera changes nothing in the frame of the first object."""
    objects = scene()
    moved = Sim3.from_se3(SE3.exp(torch.tensor([0.3, -1.0, 0.2, 0.5, 1.5, -0.7], dtype=torch.float64)))
    other = [PlacedMesh(item.mesh, moved @ item.S_camera_object) for item in objects]
    for before, after in zip(compose_in_first_object(objects), compose_in_first_object(other), strict=True):
        torch.testing.assert_close(before.vertices, after.vertices)


def test_normals_follow_the_vertices():
    mesh = tetrahedron(5).transformed(placement(6))
    torch.testing.assert_close(mesh.normals, vertex_normals(mesh.vertices, mesh.faces))


def test_y_up_keeps_the_shape_and_is_undone_exactly():
    mesh = tetrahedron(7)
    turned = mesh_to_y_up(mesh)
    torch.testing.assert_close(turned.normals, vertex_normals(turned.vertices, turned.faces))
    again = mesh_from_y_up(turned)
    assert torch.equal(again.vertices, mesh.vertices) and torch.equal(again.normals, mesh.normals)
    assert torch.equal(again.colors, mesh.colors)
    axes = points_to_y_up(torch.eye(3))
    assert torch.equal(axes, torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]))
    assert float(torch.linalg.det(axes)) == pytest.approx(1.0)


def test_a_scene_of_nothing_is_refused():
    for compose in (compose_in_camera, compose_in_first_object):
        with pytest.raises(InputError):
            compose([])


@pytest.mark.parametrize(
    "fields",
    [
        {"vertices": torch.zeros(4, 2)},
        {"vertices": torch.zeros(4, 3, dtype=torch.int64)},
        {"faces": torch.zeros(2, 4, dtype=torch.int64)},
        {"faces": torch.zeros(2, 3, dtype=torch.int32)},
        {"colors": torch.zeros(3, 3)},
        {"normals": torch.zeros(4, 4)},
    ],
)
def test_a_mesh_checks_its_shapes(fields):
    good = {"vertices": torch.zeros(4, 3), "faces": torch.zeros(2, 3, dtype=torch.int64)}
    TriangleMesh(**good)
    with pytest.raises(InvalidTensorError):
        TriangleMesh(**{**good, **fields})
