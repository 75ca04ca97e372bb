"""Surfaces of assets: axes and colors as in the files; distances, sides and normals as of the shapes."""

import math

import numpy as np
import pytest
import torch
import trimesh
from meshes_on_disk import MAJOR, MINOR, textured_box, torus

from cupid_core.data.assets.mesh_file import identify, read_mesh
from cupid_core.data.assets.ray_scene import RayScene
from cupid_core.data.assets.surface import read_surface
from cupid_core.data.assets.surface_truth import solid_voxels, surface_corner_truth
from cupid_core.data.assets.voxelize import surface_voxels
from cupid_core.data.corner_truth import joined_truth
from cupid_core.errors import DatasetError, InvalidTensorError

RESOLUTION = 16


def canonical(path, up="auto"):
    return read_mesh(path, up=up, texture_size=64).normalized(1.0)[0]


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    path = tmp_path_factory.mktemp("ring") / "ring.ply"
    mesh = torus(path)
    mesh.apply_scale(0.5 / (MAJOR + MINOR))
    scene = RayScene(canonical(path))
    coords = torch.from_numpy(surface_voxels(scene.surface, RESOLUTION))
    return mesh, scene, surface_corner_truth(scene, coords, RESOLUTION)


def test_a_file_that_is_y_up_becomes_z_up(tmp_path):
    extents = {}
    for name, up in (("a.glb", "auto"), ("b.ply", "auto"), ("c.ply", "y"), ("d.glb", "z")):
        trimesh.creation.box((0.4, 1.0, 0.6)).export(tmp_path / name)
        low, high = canonical(tmp_path / name, up).box()
        extents[name] = tuple(round(float(v), 4) for v in high - low)
    assert extents["a.glb"] == extents["c.ply"] == (0.4, 0.6, 1.0)
    assert extents["b.ply"] == extents["d.glb"] == (0.4, 1.0, 0.6)


def test_y_up_is_a_turn_and_no_mirror(tmp_path):
    mesh = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    )
    mesh.export(tmp_path / "a.glb")
    surface = canonical(tmp_path / "a.glb")
    turned = trimesh.Trimesh(surface.vertices, surface.faces)
    assert surface.watertight and turned.volume > 0


@pytest.mark.parametrize("name", ["box.glb", "box.obj"])
def test_colors_come_from_the_texture(tmp_path, name):
    textured_box(tmp_path / name)
    surface = canonical(tmp_path / name)
    scene = RayScene(surface)
    x = np.linspace(-0.17, 0.17, 40, dtype=np.float32)
    x = x[np.abs(x) > 0.03]  # between the seam of the two colors and the border, half a texel from both
    points = np.stack([x, np.full_like(x, 0.6), np.zeros_like(x)], axis=1)
    nearest = scene.nearest(points)
    color = surface.color_at(nearest.face, nearest.barycentric)
    expected = np.where(x[:, None] < 0, [[1.0, 0, 0]], [[0, 0, 1.0]])
    np.testing.assert_allclose(color, expected, atol=0.02)


def test_colors_of_vertices_are_interpolated(ring):
    _, _, truth = ring
    near = truth.sdf.abs() < 0.01
    place = (truth.position[near] + 0.5).clamp(0, 1)
    assert float((truth.color[near] - place).abs().max()) < 0.03


def test_a_surface_survives_its_file(ring, tmp_path):
    surface = ring[1].surface
    path = tmp_path / "a.npz"
    path.write_bytes(surface.to_bytes())
    again = read_surface(path)
    for name in ("vertices", "faces", "corner_color", "corner_uv", "texture"):
        np.testing.assert_array_equal(getattr(again, name), getattr(surface, name))
    content = path.read_bytes()
    for length in range(0, len(content), len(content) // 7):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetError):
            read_surface(path)


def test_the_name_of_a_mesh_follows_all_its_files(tmp_path):
    textured_box(tmp_path / "box.obj")
    names = {identify(tmp_path / "box.obj").sha256}
    materials = next(tmp_path.glob("*.mtl"))
    materials.write_text(materials.read_text() + "\n# changed\n")
    names.add(identify(tmp_path / "box.obj").sha256)
    picture = next(path for path in tmp_path.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    names.add(identify(tmp_path / "box.obj").sha256)
    assert len(names) == 3


def test_sides_are_those_of_trimesh_and_distances_those_of_the_ring(ring):
    mesh, scene, truth = ring
    assert scene.surface.watertight
    clear = (truth.sdf.abs() > 1e-4).nonzero()[:, 0][::29]
    inside = mesh.contains(truth.position[clear].numpy())
    np.testing.assert_array_equal(inside, (truth.sdf[clear] < 0).numpy())
    assert 0.1 < inside.mean() < 0.9
    scale = 0.5 / (MAJOR + MINOR)
    across = truth.position[:, :2].norm(dim=1) - MAJOR * scale
    exact = torch.stack([across, truth.position[:, 2]], dim=1).norm(dim=1) - MINOR * scale
    assert float((exact - truth.sdf).abs().max()) < 0.01  # a ring of 48 x 24 facets


def test_normals_point_outwards(ring):
    _, _, truth = ring
    scale = 0.5 / (MAJOR + MINOR)
    radial = torch.nn.functional.normalize(truth.position[:, :2], dim=1) * MAJOR * scale
    outward = truth.position - torch.cat([radial, torch.zeros_like(radial[:, :1])], dim=1)
    clear = outward.norm(dim=1) > 0.02
    agreement = (torch.nn.functional.normalize(outward, dim=1) * truth.normal).sum(1)[clear]
    assert float(agreement.min()) > 0.9
    torch.testing.assert_close(truth.normal.norm(dim=1), torch.ones(len(truth.normal)))


def test_voxels_are_those_the_surface_passes(ring):
    _, scene, _ = ring
    coords = surface_voxels(scene.surface, RESOLUTION)
    centers = ((coords + 0.5) / RESOLUTION - 0.5).astype(np.float32)
    assert scene.nearest(centers).distance.max() <= math.sqrt(3) / 2 / RESOLUTION + 1e-6
    rng = np.random.default_rng(0)
    face = rng.integers(len(scene.surface.faces), size=4000)
    share = rng.dirichlet(np.ones(3), size=4000)
    points = np.einsum("nc,ncd->nd", share, scene.surface.vertices[scene.surface.faces[face]])
    touched = {tuple(cell) for cell in np.floor((points.clip(-0.4999, 0.4999) + 0.5) * RESOLUTION).astype(int)}
    assert touched <= {tuple(row) for row in coords}
    solid = solid_voxels(scene, RESOLUTION)
    # The volume of a ring is 2 pi^2 R r^2.
    volume = 2 * math.pi**2 * MAJOR * MINOR**2 * (0.5 / (MAJOR + MINOR)) ** 3
    assert float(solid.sum()) / RESOLUTION**3 == pytest.approx(volume, rel=0.1)


def test_an_inside_out_mesh_is_turned(tmp_path, ring):
    mesh = ring[0].copy()
    mesh.invert()
    mesh.export(tmp_path / "out.ply")
    surface = canonical(tmp_path / "out.ply")
    assert trimesh.Trimesh(surface.vertices, surface.faces).volume > 0


def test_an_open_sheet_gets_a_thickness(tmp_path):
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]).export(
        tmp_path / "a.ply"
    )
    scene = RayScene(canonical(tmp_path / "a.ply"))
    assert not scene.surface.watertight
    coords = torch.from_numpy(surface_voxels(scene.surface, RESOLUTION))
    truth = surface_corner_truth(scene, coords, RESOLUTION)
    per_voxel = truth.sdf[truth.place.flatten(1)]
    assert bool(((per_voxel < 0).any(1) & (per_voxel > 0).any(1)).all())


def test_joined_truths_keep_their_corners(ring):
    _, scene, truth = ring
    other = surface_corner_truth(scene, truth.voxels[:5, 1:], RESOLUTION)
    both = joined_truth([truth, other])
    count = len(truth.voxels)
    assert both.voxels[count:, 0].tolist() == [1] * 5
    assert torch.equal(both.position[both.place[count:]], truth.position[truth.place[:5]])
    assert torch.equal(both.sdf[both.place[:count]], truth.sdf[truth.place])
    with pytest.raises(InvalidTensorError):
        joined_truth([truth, surface_corner_truth(scene, truth.voxels[:5, 1:], RESOLUTION, cubes=2)])
