"""The layout of a texture: triangles outside the picture keep the colors of their corners."""

from dataclasses import replace

import numpy as np
import torch

from cupid_core.geometry import SE3, Camera
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.photo_texture import photo_texture
from cupid_core.types import TriangleMesh

CAMERA = Camera.from_parameters(fx=210.0, fy=210.0, cx=79.5, cy=59.5, width=160, height=120)
AWAY = SE3.from_quat_xyzw(torch.tensor([0.3, -0.2, 0.5, 0.8]), torch.tensor([0.0, 0.0, 2.0]))


def ball() -> TriangleMesh:
    axis = torch.arange(25) / 24 - 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return extract_from_sdf(grid.norm(dim=-1) - 0.4, colors=0.5 + 0.4 * torch.sin(7 * grid))


def textured(mesh: TriangleMesh, shown: np.ndarray, picture: np.ndarray) -> TriangleMesh:
    faces = mesh.faces.numpy()
    px = np.full((len(faces), 3, 2), 5.0, np.float32)
    vertices, colors = mesh.vertices.float().numpy(), mesh.colors.float().numpy()
    return replace(mesh, texture=photo_texture(picture, px, shown, vertices[faces], colors[faces]))


def test_cells_show_what_vertex_colors_show():
    mesh = ball()
    cells = textured(mesh, np.zeros(len(mesh.faces), bool), np.zeros((33, 21, 3), np.float32))
    plain, seen = render_mesh(mesh, AWAY, CAMERA), render_mesh(cells, AWAY, CAMERA)
    np.testing.assert_allclose(seen.colors[seen.mask], plain.colors[plain.mask], atol=1.5 / 255)


def test_the_picture_shows_its_pixels_at_their_centers():
    mesh = ball()
    picture = np.zeros((33, 21, 3), np.float32)
    picture[5, 5] = (0.2, 0.4, 0.6)
    seen = render_mesh(textured(mesh, np.ones(len(mesh.faces), bool), picture), AWAY, CAMERA)
    np.testing.assert_allclose(seen.colors[seen.mask], [[0.2, 0.4, 0.6]] * int(seen.mask.sum()), atol=1 / 255)


def test_no_two_cells_share_a_texel_and_half_the_size_mixes_none():
    mesh = ball()
    texture = textured(mesh, np.zeros(len(mesh.faces), bool), np.zeros((33, 21, 3), np.float32)).texture
    height, width = texture.image.shape[:2]
    texel = (texture.corner_uv * torch.tensor([width, height])).floor().long()
    assert bool((texel // 2 == texel[:, :1] // 2).all())
    assert len(torch.unique(texel[:, 0], dim=0)) == len(mesh.faces)


def test_neighbors_on_the_surface_are_neighbors_in_the_texture():
    """So that smaller versions of the texture, which viewers make, mix similar colors."""
    mesh = ball()
    texture = textured(mesh, np.zeros(len(mesh.faces), bool), np.zeros((32, 21, 3), np.float32)).texture
    image = texture.image.float() / 255
    rows = image.shape[0] // 8 * 8
    blocks = image[32:rows, : image.shape[1] // 8 * 8].unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 3, 64)
    full = blocks[(blocks.amax(dim=1) > 0).all(dim=1)]
    assert len(full) > 20
    assert float(full.std(dim=-1).mean()) < 0.5 * float(full.permute(1, 0, 2).reshape(3, -1).std(dim=-1).mean())
