"""A baked texture shows the colors of the mesh where its coordinates point."""

import importlib.util

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
from cupid_core.mesh.texture import bake_texture
from cupid_core.types import TriangleMesh

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
    weights = torch.rand(len(textured.mesh.faces), 3, 1, generator=draw).double() + 0.05
    weights = weights / weights.sum(dim=1, keepdim=True)
    places = (textured.mesh.vertices[textured.mesh.faces] * weights).sum(dim=1)
    uv = (torch.from_numpy(textured.uv).double()[textured.mesh.faces] * weights).sum(dim=1).numpy()
    pixel = np.minimum((uv * len(textured.texture)).astype(int), len(textured.texture) - 1)
    return places, torch.from_numpy(textured.texture[pixel[:, 1], pixel[:, 0]] / 255.0)


def test_the_texture_shows_the_vertex_colors(finished):
    textured = bake_texture(finished.mesh, SMALL)
    assert textured.texture.shape == (256, 256, 3) and textured.texture.dtype == np.uint8
    assert len(textured.uv) == len(textured.mesh.vertices) >= len(finished.mesh.vertices)
    assert textured.uv.min() >= 0 and textured.uv.max() <= 1
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
    assert np.array_equal(textured.uv, coarse.uv)


def test_written_textures_are_read_back(finished, tmp_path):
    textured = bake_texture(finished.mesh, SMALL)
    write_glb(tmp_path / "object.glb", textured)
    write_obj(tmp_path / "object.obj", textured)
    assert (tmp_path / "object.png").exists() and "map_Kd object.png" in (tmp_path / "object.mtl").read_text()
    for name in ("object.glb", "object.obj"):
        back = read_mesh(tmp_path / name)
        torch.testing.assert_close(back.vertices, textured.mesh.vertices.float(), atol=1e-6, rtol=0)
        assert (back.colors - colors_at(back.vertices)).abs().mean() < 0.03


def test_a_textured_model_has_the_mass_of_the_solid(finished, tmp_path):
    textured = bake_texture(finished.mesh, SMALL)
    path = write_urdf(tmp_path / "thing.urdf", textured, density_kg_m3=100.0, solid=finished.mesh)
    expected = f"{100 * physical_properties(finished.mesh).volume_m3:.9g}"
    assert f'<mass value="{expected}"' in path.read_text()


def test_a_mesh_without_colors_cannot_be_baked(finished):
    with pytest.raises(InvalidTensorError):
        bake_texture(TriangleMesh(finished.mesh.vertices, finished.mesh.faces), SMALL)
