"""Mesh files: what is written is read back, in the right frame and colors."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
import trimesh
from solid_shapes import box, judged, meshed, mug

from cupid_core.color_space import linear_to_srgb, srgb_to_linear
from cupid_core.config import MeshConfig
from cupid_core.errors import InputError, InvalidTensorError, OpenMeshError, OutputError
from cupid_core.geometry.se3 import SE3
from cupid_core.mesh.convert import to_open3d, to_trimesh
from cupid_core.mesh.export import (
    SPLAT_COLUMNS,
    export_mesh,
    write_obj,
    write_ply,
    write_splats,
    write_stl,
    write_urdf,
)
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.glb import SceneItem, write_glb, write_scene_glb
from cupid_core.mesh.physical import physical_properties
from cupid_core.mesh.read_mesh import read_mesh
from cupid_core.types import Texture, TriangleMesh


@pytest.fixture(scope="module")
def mesh():
    return finish_mesh(meshed(mug, 24), MeshConfig(triangle_budget=1500)).mesh


def chunks(path):
    """json and binary part of a `.glb` file, checked as the format demands."""
    data = path.read_bytes()
    magic, version, length = data[:4], *np.frombuffer(data[4:12], "<u4")
    assert magic == b"glTF" and version == 2 and length == len(data)
    size = int(np.frombuffer(data[12:16], "<u4")[0])
    assert data[16:20] == b"JSON" and size % 4 == 0
    binary = data[20 + size :]
    assert binary[4:8] == b"BIN\0" and int(np.frombuffer(binary[:4], "<u4")[0]) == len(binary) - 8
    return json.loads(data[20 : 20 + size]), binary[8:]


def accessor(content, binary, number):
    entry = content["accessors"][number]
    view = content["bufferViews"][entry["bufferView"]]
    kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[entry["type"]]
    assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(binary)
    values = np.frombuffer(binary, kind, entry["count"] * width, view["byteOffset"]).reshape(-1, width)
    assert values.nbytes == view["byteLength"]
    return values


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_written_meshes_are_read_back_unchanged(mesh, tmp_path, suffix):
    path = tmp_path / f"object.{suffix}"
    {"ply": write_ply, "obj": write_obj, "glb": write_glb}[suffix](path, mesh)
    back = read_mesh(path)
    torch.testing.assert_close(back.vertices, mesh.vertices.float(), atol=1e-7, rtol=0)
    assert torch.equal(back.faces, mesh.faces)
    torch.testing.assert_close(back.colors, mesh.colors.float(), atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(back.normals, mesh.normals.float(), atol=1e-4, rtol=0)


def test_stl_keeps_the_solid(mesh, tmp_path):
    write_stl(tmp_path / "object.stl", mesh)
    back = read_mesh(tmp_path / "object.stl")
    assert back.colors is None and judged(back).is_watertight
    assert judged(back).volume == pytest.approx(judged(mesh).volume, rel=1e-5)
    torch.testing.assert_close(back.vertices.amin(0), mesh.vertices.amin(0).float())


def test_a_glb_is_y_up_linear_and_valid(mesh, tmp_path):
    write_glb(tmp_path / "object.glb", mesh, "cup")
    content, binary = chunks(tmp_path / "object.glb")
    primitive = content["meshes"][0]["primitives"][0]
    position = content["accessors"][primitive["attributes"]["POSITION"]]
    x, y, z = accessor(content, binary, primitive["attributes"]["POSITION"]).T
    np.testing.assert_allclose(np.stack([x, -z, y], 1), mesh.vertices.float().numpy(), atol=1e-7)
    assert position["min"] == pytest.approx([x.min(), y.min(), z.min()])
    assert position["max"] == pytest.approx([x.max(), y.max(), z.max()])
    linear = accessor(content, binary, primitive["attributes"]["COLOR_0"])[:, :3] / 65535
    expected = np.where(
        mesh.colors <= 0.04045, mesh.colors / 12.92, ((mesh.colors.numpy() + 0.055) / 1.055) ** 2.4
    )
    np.testing.assert_allclose(linear, expected, atol=1e-5)
    normals = accessor(content, binary, primitive["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert accessor(content, binary, primitive["indices"]).max() < len(x)
    surface = content["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0 and surface["roughnessFactor"] == 0.9
    assert content["nodes"][0]["name"] == "cup" and content["buffers"][0]["byteLength"] <= len(binary)


def test_color_spaces_undo_each_other():
    values = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6, rtol=0)
    assert float(srgb_to_linear(torch.tensor(0.5))) == pytest.approx(0.2140411, abs=1e-6)
    assert bool((srgb_to_linear(values).diff() > 0).all())


def pose(seed):
    twist = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return SE3.exp(twist + torch.tensor([0, 0, 3.0, 0, 0, 0]).double())


def test_objects_of_a_scene_file_keep_their_poses(mesh, tmp_path):
    path = tmp_path / "scene.glb"
    items = [SceneItem("cup", mesh, pose(0)), SceneItem("cup", meshed(box, 8), pose(1))]
    write_scene_glb(path, items)
    content, _ = chunks(path)
    assert [node["name"] for node in content["nodes"]] == ["cup", "cup_", "camera"]
    camera = torch.cat([item.T_camera_object.apply(item.mesh.vertices.double()) for item in items])
    # As in the file: x right, y up, z towards the viewer; `read_mesh` turned that to z up.
    seen = read_mesh(path).vertices.double()
    expected = torch.stack([camera[:, 0], camera[:, 2], -camera[:, 1]], dim=1)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (0.0, 3.0, 0.0), (0.1, -0.8, -0.6), (0.0, 0.0, -1.0)])
def test_a_scene_can_be_turned_upright(mesh, tmp_path, up):
    path, T = tmp_path / "scene.glb", pose(2)
    write_scene_glb(path, [SceneItem("cup", mesh, T)], up_camera=torch.tensor(up))
    seen = read_mesh(path).vertices.double()
    camera, direction = T.apply(mesh.vertices.double()), torch.tensor(up).double()
    torch.testing.assert_close(seen[:, 2], camera @ (direction / direction.norm()), atol=1e-5, rtol=0)
    pairs = torch.arange(len(seen)).roll(7)
    torch.testing.assert_close(
        (seen - seen[pairs]).norm(dim=1), (camera - camera[pairs]).norm(dim=1), atol=1e-5, rtol=0
    )
    assert judged(read_mesh(path)).volume == pytest.approx(judged(mesh).volume, rel=1e-4)


def test_an_empty_scene_and_a_zero_up_direction_are_refused(mesh, tmp_path):
    with pytest.raises(InputError):
        write_scene_glb(tmp_path / "scene.glb", [])
    with pytest.raises(InputError):
        write_scene_glb(tmp_path / "scene.glb", [SceneItem("a", mesh, pose(0))], up_camera=torch.zeros(3))
    assert list(tmp_path.iterdir()) == []


def test_urdf_has_the_mass_and_inertia_of_the_mesh(mesh, tmp_path):
    parts = (meshed(box, 8), meshed(box, 10))
    path = tmp_path / "model" / "cup.urdf"
    write_urdf(path, mesh, density_kg_m3=700.0, parts=parts, mesh_prefix="package://p/")
    robot = ET.parse(path).getroot()
    (link,) = robot.findall("link")
    own = physical_properties(mesh)
    assert robot.get("name") == "cup" and link.get("name") == "cup_link"
    assert float(link.find("inertial/mass").get("value")) == pytest.approx(700 * own.volume_m3, rel=1e-6)
    entries = {key: float(value) for key, value in link.find("inertial/inertia").attrib.items()}
    tensor = np.array([[entries["".join(["i", *sorted(a + b)])] for b in "xyz"] for a in "xyz"])
    np.testing.assert_allclose(tensor, 700 * own.inertia.numpy(), rtol=1e-6)
    moments = np.linalg.eigvalsh(tensor)
    assert moments[0] > 0 and moments[2] < moments[0] + moments[1]
    center = [float(value) for value in link.find("inertial/origin").get("xyz").split()]
    np.testing.assert_allclose(center, own.center_of_mass.numpy(), atol=1e-6)
    files = [entry.get("filename") for entry in link.iter("mesh")]
    assert len(link.findall("collision")) == 2 and len(files) == 3
    for file in files:
        assert file.startswith("package://p/")
        assert len(read_mesh(path.parent / file.removeprefix("package://p/")).faces) > 0


def test_urdf_without_parts_collides_with_the_mesh(mesh, tmp_path):
    write_urdf(tmp_path / "cup.urdf", mesh, density_kg_m3=1.0)
    assert judged(read_mesh(tmp_path / "cup_collision_0.stl")).volume == pytest.approx(
        judged(mesh).volume, rel=1e-5
    )
    open_mesh = TriangleMesh(mesh.vertices, mesh.faces[1:])
    with pytest.raises(OpenMeshError):
        write_urdf(tmp_path / "open" / "cup.urdf", open_mesh, density_kg_m3=1.0)
    with pytest.raises(InputError):
        write_urdf(tmp_path / "open" / "a cup.urdf", mesh, density_kg_m3=1.0)
    assert not (tmp_path / "open").exists()


def test_splats_have_the_customary_names(tmp_path):
    table = torch.randn(7, 17, generator=torch.Generator().manual_seed(0))
    write_splats(tmp_path / "splats.ply", table)
    head, body = (tmp_path / "splats.ply").read_bytes().split(b"end_header\n", 1)
    names = [line.split()[-1] for line in head.decode().splitlines() if line.startswith("property float")]
    assert tuple(names) == SPLAT_COLUMNS
    assert names[6:10] == ["f_dc_0", "f_dc_1", "f_dc_2", "opacity"] and names[-1] == "rot_3"
    np.testing.assert_array_equal(np.frombuffer(body, "<f4").reshape(7, 17), table.numpy())
    with pytest.raises(InvalidTensorError):
        write_splats(tmp_path / "bad.ply", table[:, :16])


def test_the_suffix_names_the_format(mesh, tmp_path):
    for suffix in ("glb", "ply", "obj", "stl"):
        path = export_mesh(mesh, tmp_path / "new" / f"cup.{suffix}")
        assert judged(read_mesh(path)).volume == pytest.approx(judged(mesh).volume, rel=1e-4)
    written = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert written == ["cup.glb", "cup.obj", "cup.ply", "cup.stl"]
    for name in ("cup.fbx", "cup"):
        with pytest.raises(InputError, match="no format"):
            export_mesh(mesh, tmp_path / name)


def test_an_exported_urdf_has_convex_parts_and_the_configured_density(mesh, tmp_path):
    pytest.importorskip("coacd")
    path = export_mesh(mesh, str(tmp_path / "cup.urdf"), MeshConfig(density_kg_m3=250.0, convex_threshold=0.3))
    link = ET.parse(path).getroot().find("link")
    mass = float(link.find("inertial/mass").get("value"))
    assert mass == pytest.approx(250 * physical_properties(mesh).volume_m3, rel=1e-6)
    assert len(link.findall("collision")) >= 2
    for entry in link.findall("collision/geometry/mesh"):
        part = judged(read_mesh(tmp_path / entry.get("filename")))
        beyond = ((part.vertices[None] - part.triangles[:, :1]) * part.face_normals[:, None]).sum(axis=2)
        assert part.is_watertight and beyond.max() < 1e-5
    with pytest.raises(InputError, match="cannot name a URDF link"):
        export_mesh(mesh, tmp_path / "a cup.urdf")


def test_meshes_of_other_libraries_are_the_same_mesh(mesh):
    other = to_trimesh(mesh)
    np.testing.assert_array_equal(other.vertices, mesh.vertices.double().numpy())
    np.testing.assert_array_equal(other.faces, mesh.faces.numpy())
    np.testing.assert_allclose(other.visual.vertex_colors[:, :3] / 255, mesh.colors.numpy(), atol=0.51 / 255)
    np.testing.assert_allclose(other.vertex_normals, mesh.normals.numpy(), atol=1e-6)
    other.apply_scale(2.0)
    assert float(mesh.vertices.abs().max()) < 1.0
    opened = to_open3d(mesh)
    np.testing.assert_allclose(np.asarray(opened.vertices), mesh.vertices.numpy())
    np.testing.assert_array_equal(np.asarray(opened.triangles), mesh.faces.numpy())
    np.testing.assert_allclose(np.asarray(opened.vertex_colors), mesh.colors.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.asarray(opened.vertex_normals), mesh.normals.numpy(), atol=1e-6)
    plain = TriangleMesh(mesh.vertices, mesh.faces)
    assert not to_open3d(plain).has_vertex_colors() and to_trimesh(plain).visual.kind is None


def test_a_mesh_that_cannot_be_written_is_a_typed_error(mesh, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for suffix in ("ply", "glb", "obj", "stl"):
        with pytest.raises(OutputError):
            export_mesh(mesh, tmp_path / "file" / f"object.{suffix}")


@pytest.mark.parametrize("name", ["none.ply", "text.txt", "damaged.glb", "damaged.ply", "empty.stl"])
def test_files_without_a_mesh_are_refused(tmp_path, name):
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"ply\nthis is not a mesh")
    with pytest.raises(InputError):
        read_mesh(tmp_path / name)


@pytest.mark.parametrize("name", ["碗", "red mug", "tasse à café"])
def test_a_textured_obj_of_any_name_finds_its_texture(name, tmp_path):
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    texture = Texture(corners[None, :, :2].contiguous(), torch.full((8, 8, 3), 90, dtype=torch.uint8))
    write_obj(tmp_path / f"{name}.obj", TriangleMesh(corners, torch.tensor([[0, 1, 2]]), texture=texture))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.mtl", f"{name}.obj", f"{name}.png"]
    back = trimesh.load_mesh(tmp_path / f"{name}.obj")
    assert np.asarray(back.visual.material.image)[0, 0].tolist() == [90, 90, 90]
    assert f"map_Kd {name}.png" in (tmp_path / f"{name}.mtl").read_text(encoding="utf-8")
