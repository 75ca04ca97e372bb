"""A baked texture shows the colors of the mesh where its coordinates point."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from solid_shapes import box, colors_at, meshed, torus

from cupid_core.config import MeshConfig
from cupid_core.errors import InvalidTensorError
from cupid_core.mesh.export import write_obj, write_urdf
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.glb import write_glb
from cupid_core.mesh.physical import physical_properties
from cupid_core.mesh.read_mesh import read_mesh
from cupid_core.mesh.texture import bake_texture, cut_at_seams
from cupid_core.types import Texture, TriangleMesh

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xatlas") is None, reason="needs xatlas (extra 'texture')"
)
SMALL = MeshConfig(texture_size_px=256)


@pytest.fixture(scope="module", params=[torus, box])
def finished(request):
    return finish_mesh(meshed(request.param, 24), MeshConfig(triangle_budget=600))


def seen(textured):
    """Places on the surface, and what the texture shows there."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(len(textured.faces), 3, 1, generator=draw).double() + 0.05
    weights = weights / weights.sum(dim=1, keepdim=True)
    places = (textured.vertices[textured.faces] * weights).sum(dim=1)
    uv = (textured.texture.corner_uv.double() * weights).sum(dim=1)
    image = textured.texture.image
    pixel = (uv * len(image)).long().clamp(max=len(image) - 1)
    return places, image[pixel[:, 1], pixel[:, 0]].double() / 255


def test_the_texture_shows_the_vertex_colors(finished):
    textured = bake_texture(finished.mesh, SMALL)
    assert textured.texture.image.shape == (256, 256, 3)
    assert textured.vertices is finished.mesh.vertices and textured.faces is finished.mesh.faces
    uv = textured.texture.corner_uv
    assert float(uv.min()) >= 0 and float(uv.max()) <= 1
    places, shown = seen(textured)
    assert (shown - colors_at(places)).abs().mean() < 0.015


def test_fine_colors_come_from_the_detailed_mesh(finished):
    """Stripes finer than the triangles of the decimated mesh."""
    fine = finished.detailed
    stripes = TriangleMesh(
        fine.vertices, fine.faces, (fine.vertices[:, [2]] * 25).sin().sign().expand(-1, 3) / 2 + 0.5
    )
    coarse = bake_texture(finished.mesh, SMALL)
    textured = bake_texture(finished.mesh, SMALL, detailed=stripes)
    places, shown = seen(textured)
    clear = (places[:, 2] * 25).sin().abs() > 0.9
    expected = (places[:, [2]] * 25).sin().sign() / 2 + 0.5
    assert (shown - expected)[clear].abs().mean() < 0.1
    assert torch.equal(textured.texture.corner_uv, coarse.texture.corner_uv)


def test_a_mesh_is_cut_only_where_coordinates_differ(finished):
    textured = bake_texture(finished.mesh, SMALL)
    cut, uv = cut_at_seams(textured)
    assert len(finished.mesh.vertices) < len(cut.vertices) == len(uv) < 3 * len(cut.faces)
    torch.testing.assert_close(cut.vertices[cut.faces], textured.vertices[textured.faces], atol=0, rtol=0)
    assert np.array_equal(uv[cut.faces.numpy()], textured.texture.corner_uv.numpy())
    pairs = torch.cat([cut.vertices, torch.from_numpy(uv)], dim=1)
    assert len(torch.unique(pairs, dim=0)) == len(pairs)


def test_written_textures_are_read_back(finished, tmp_path):
    textured = bake_texture(finished.mesh, SMALL)
    write_glb(tmp_path / "object.glb", textured)
    write_obj(tmp_path / "object.obj", textured)
    assert (tmp_path / "object.png").exists() and "map_Kd object.png" in (tmp_path / "object.mtl").read_text()
    for name in ("object.glb", "object.obj"):
        back = read_mesh(tmp_path / name)
        cut, _ = cut_at_seams(textured)
        torch.testing.assert_close(back.vertices, cut.vertices.float(), atol=1e-6, rtol=0)
        assert (back.colors - colors_at(back.vertices)).abs().mean() < 0.03


def test_a_textured_model_has_the_mass_of_the_solid(finished, tmp_path):
    textured = bake_texture(finished.mesh, SMALL)
    path = write_urdf(tmp_path / "thing.urdf", textured, density_kg_m3=100.0)
    expected = f"{100 * physical_properties(finished.mesh).volume_m3:.9g}"
    assert f'<mass value="{expected}"' in path.read_text()


def test_a_mesh_without_colors_cannot_be_baked(finished):
    with pytest.raises(InvalidTensorError):
        bake_texture(TriangleMesh(finished.mesh.vertices, finished.mesh.faces), SMALL)


def test_a_texture_needs_coordinates_of_every_face(finished):
    textured = bake_texture(finished.mesh, SMALL)
    uv, image = textured.texture.corner_uv, textured.texture.image
    with pytest.raises(InvalidTensorError):
        replace(textured, texture=Texture(uv[1:], image))
    with pytest.raises(InvalidTensorError):
        Texture(uv.flatten(1), image)
    with pytest.raises(InvalidTensorError):
        Texture(uv, image.float())
