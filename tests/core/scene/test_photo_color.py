"""Color from the photograph: the input view comes back, nothing else in the image does, hidden surface fits."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from true_surfaces import surface_of

from cupid_core.data.tabletop.scene import SceneSettings, draw_scene
from cupid_core.geometry import SE3, Camera, Sim3
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.render.cameras import look_at
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.photo_color import color_from_photo
from cupid_core.types import TriangleMesh

CAMERA = Camera.from_parameters(fx=420.0, fy=420.0, cx=159.5, cy=119.5, width=320, height=240)
GRAY, RED, MAGENTA = 128, np.array([200, 30, 20], np.uint8), np.array([255, 0, 255], np.uint8)


def view_from(x: float, y: float, z: float) -> Sim3:
    eye = torch.tensor([x, y, z], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return Sim3.from_se3(look_at(eye, torch.zeros(3, dtype=torch.float64), up))


OBLIQUE = view_from(1.2, -1.4, 0.8)


def meshed(field, resolution: int = 40) -> TriangleMesh:
    axis = torch.arange(resolution + 1) / resolution - 0.5
    return extract_from_sdf(field(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)))


def box(half: tuple[float, float, float]) -> TriangleMesh:
    return meshed(lambda grid: (grid.abs() - torch.tensor(half)).amax(dim=-1))


def photograph(mesh: TriangleMesh, S: Sim3, paint, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and mask of a mesh whose color at points (N, 3) of its frame `paint` gives, on gray."""
    rendering = render_mesh(mesh, S, camera)
    mask = rendering.mask
    points = camera.rays().double() * torch.from_numpy(rendering.depth).double()[..., None]
    image = np.full((camera.height, camera.width, 3), GRAY, np.uint8)
    image[mask] = (paint(S.inverse().apply(points[torch.from_numpy(mask)]).numpy()) * 255).round()
    return image, mask


def psnr_db(mesh: TriangleMesh, S: Sim3, camera: Camera, image: np.ndarray, mask: np.ndarray) -> float:
    rendering = render_mesh(mesh, S, camera)
    inside = rendering.mask & mask
    assert inside.sum() > 500
    return float(-10 * np.log10(np.square(rendering.colors[inside] - image[inside] / 255).mean()))


def stripes(points: np.ndarray) -> np.ndarray:
    """Colors that change along all axes, print as fine as a few pixels among them."""
    fine = 0.5 + 0.35 * np.sign(np.sin(60 * points))
    return 0.5 * fine + 0.5 * (points + 0.5)


@dataclass(frozen=True)
class Placed:
    """A true object of a generated frame in its place, with its pixels."""

    mesh: TriangleMesh
    S: Sim3
    mask: np.ndarray


@pytest.fixture(scope="module")
def generated() -> tuple[np.ndarray, Camera, list[Placed]]:
    """A photograph with noise and blur, and what is on it."""
    families = ("sugar_box", "can", "mug", "bowl", "brick")
    scene = draw_scene(2, SceneSettings(width=640, height=480, resolution=16), seed=5, families=families)
    objects = []
    for item in scene.objects:
        place = SE3.from_matrix(item.T_camera_object.double())
        S = Sim3.from_se3(place, torch.tensor(item.scale_m, dtype=torch.float64))
        objects.append(Placed(replace(surface_of(item), colors=None), S, (scene.labels == item.label).numpy()))
    return scene.color.numpy(), Camera(scene.K.double(), 640, 480), objects


def test_the_input_view_comes_back(generated):
    image, camera, objects = generated
    for item in objects:
        colored = color_from_photo(item.mesh, item.S, camera, image, item.mask)
        assert psnr_db(colored, item.S, camera, image, item.mask) >= 25


def test_the_texture_is_finer_than_the_vertices():
    coarse = meshed(lambda grid: grid.norm(dim=-1) - 0.4, resolution=16)
    image, mask = photograph(coarse, OBLIQUE, stripes)
    colored = color_from_photo(coarse, OBLIQUE, CAMERA, image, mask)
    textured = psnr_db(colored, OBLIQUE, CAMERA, image, mask)
    assert textured > psnr_db(replace(colored, texture=None), OBLIQUE, CAMERA, image, mask) + 6


def test_triangles_of_many_pixels_show_the_photograph_too():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4, resolution=8)
    far = view_from(8.0, -9.0, 5.0)  # so far away that perspective inside a triangle does not matter
    camera = Camera.from_parameters(fx=2900.0, fy=2900.0, cx=159.5, cy=119.5, width=320, height=240)
    image, mask = photograph(ball, far, lambda p: 0.5 + 0.4 * np.sign(np.sin(25 * p)), camera)
    colored = color_from_photo(ball, far, camera, image, mask)
    assert psnr_db(colored, far, camera, image, mask) > 18


def test_text_is_readable_from_another_side():
    """A label, photographed obliquely; the frontal view of the mesh is compared with the print itself."""
    page = Image.new("L", (160, 100), 255)
    ImageDraw.Draw(page).multiline_text((12, 8), "CRACKERS\n250 g NET", fill=0, font_size=26, spacing=14)
    ink = np.asarray(page) / 255

    def printed(points: np.ndarray) -> np.ndarray:
        column = ((points[:, 0] + 0.4) / 0.8 * 160).astype(int).clip(0, 159)
        row = ((0.25 - points[:, 2]) / 0.5 * 100).astype(int).clip(0, 99)
        front = points[:, 1] < -0.095
        return np.where(front, ink[row, column], 0.6)[:, None].repeat(3, axis=1)

    plate = box((0.4, 0.1, 0.25))
    image, mask = photograph(plate, view_from(0.5, -1.1, 0.25), printed)
    colored = color_from_photo(plate, view_from(0.5, -1.1, 0.25), CAMERA, image, mask)
    front = view_from(0.0, -1.2, 0.0)
    expected, face = photograph(plate, front, printed)
    rows, columns = np.nonzero(face)
    inner = (slice(rows.min() + 12, rows.max() - 12), slice(columns.min() + 12, columns.max() - 12))
    found = render_mesh(colored, front, CAMERA).colors[inner][..., 0]
    assert np.corrcoef(found.ravel(), expected[inner][..., 0].ravel())[0, 1] > 0.9


def test_pixels_of_what_hides_an_object_never_end_up_on_it():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    image, mask = photograph(ball, OBLIQUE, lambda points: np.full_like(points, 0.5))
    image[90:150, 120:170] = MAGENTA
    mask[90:150, 120:170] = False
    colored = color_from_photo(ball, OBLIQUE, CAMERA, image, mask)
    rendering = render_mesh(colored, OBLIQUE, CAMERA)
    for colors in (colored.colors.numpy(), rendering.colors[rendering.mask]):
        np.testing.assert_allclose(colors, 0.5, atol=0.02)


def test_what_the_object_hides_of_itself_does_not_take_the_color_of_what_is_in_front():
    """A red bar in front of a wall: none of its color on the wall, seen from the side where the wall shows."""

    def bar_and_wall(grid):
        bar = (grid - torch.tensor([0.0, -0.35, 0.0])).abs() - torch.tensor([0.06, 0.06, 0.4])
        wall = (grid - torch.tensor([0.0, 0.3, 0.0])).abs() - torch.tensor([0.42, 0.1, 0.42])
        return torch.minimum(bar.amax(dim=-1), wall.amax(dim=-1))

    both = meshed(bar_and_wall)
    front = view_from(0.0, -1.6, 0.0)
    image, mask = photograph(both, front, lambda p: np.where(p[:, 1:2] < 0, RED / 255, 0.5))
    colored = color_from_photo(both, front, CAMERA, image, mask)
    wall = both.vertices[:, 1] > 0
    np.testing.assert_allclose(colored.colors[wall & (both.vertices[:, 1] < 0.25)], 0.5, atol=0.1)
    aside = render_mesh(colored, view_from(0.8, -1.4, 0.0), CAMERA)
    points = CAMERA.rays().double() * torch.from_numpy(aside.depth).double()[..., None]
    at = view_from(0.8, -1.4, 0.0).inverse().apply(points[torch.from_numpy(aside.mask)])
    on_wall = ((at[:, 1] > 0.15) & (at[:, 1] < 0.25)).numpy()
    assert on_wall.sum() > 1000
    np.testing.assert_allclose(aside.colors[aside.mask][on_wall], 0.5, atol=0.1)


def test_hidden_color_is_shifted_as_the_seen_one_and_only_smoothly():
    """The photograph is brighter than the mesh, more so at the top."""
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    own, shift = 0.3 + 0.1 * torch.sin(4 * ball.vertices), 0.1 + 0.2 * ball.vertices[:, 2:]
    image, mask = photograph(ball, OBLIQUE, lambda p: 0.4 + 0.1 * np.sin(4 * p) + 0.2 * p[:, 2:])
    colored = color_from_photo(replace(ball, colors=own), OBLIQUE, CAMERA, image, mask).colors
    hidden = ((OBLIQUE.inverse().translation.float() - ball.vertices) * ball.normals).sum(dim=1) < 0
    off = (colored - own - shift).abs()[hidden]
    assert float(off.mean()) < 0.05 and float(off.max()) < 0.15
    edges = torch.cat([ball.faces[:, [0, 1]], ball.faces[:, [1, 2]], ball.faces[:, [2, 0]]])
    first, second = edges[hidden[edges].all(dim=1)].T
    step = (colored[first] - colored[second]).abs().amax(dim=1)
    assert float((step - (ball.vertices[first] - ball.vertices[second]).norm(dim=1)).max()) < 0.01


def test_generated_color_that_the_photograph_contradicts_is_evened_out():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    blotches = 0.5 + 0.2 * torch.sin(25 * ball.vertices)
    image, mask = photograph(ball, OBLIQUE, lambda p: np.full_like(p, 0.5))
    colored = color_from_photo(replace(ball, colors=blotches), OBLIQUE, CAMERA, image, mask).colors
    assert float(colored.std()) < 0.2 * float(blotches.std())


def test_colors_that_agree_with_the_photograph_stay():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    own = 0.5 + 0.4 * torch.sin(3 * ball.vertices)
    image, mask = photograph(ball, OBLIQUE, lambda p: 0.5 + 0.4 * np.sin(3 * p))
    colored = color_from_photo(replace(ball, colors=own), OBLIQUE, CAMERA, image, mask)
    assert float((colored.colors - own).abs().mean()) < 0.01


@pytest.mark.parametrize("alike", [True, False])
def test_a_side_is_mirrored_only_if_both_halves_of_what_is_seen_look_alike(alike):
    """A block seen from a corner; its side x > 0 is seen, the opposite one is not."""
    block = box((0.3, 0.3, 0.2))

    def paint(points: np.ndarray) -> np.ndarray:
        side = np.abs(points[:, :1]) if alike else points[:, :1]
        return np.clip(np.where(side > 0.29, [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]) + 0.3 * side, 0, 1)

    image, mask = photograph(block, OBLIQUE, paint)
    colored = color_from_photo(block, OBLIQUE, CAMERA, image, mask)
    opposite = (block.vertices[:, 0] < -0.29) & (block.vertices[:, 1:].abs() < 0.15).all(dim=1)
    expected = torch.from_numpy(paint(np.array([[0.3, 0.0, 0.0]])))[0]
    off = float((colored.colors[opposite].double() - expected).abs().mean())
    assert off < 0.05 if alike else off > 0.15


def test_geometry_stays_and_a_photograph_that_shows_nothing_changes_nothing():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    image, mask = photograph(ball, OBLIQUE, stripes)
    colored = color_from_photo(ball, OBLIQUE, CAMERA, image, mask)
    assert torch.equal(colored.vertices, ball.vertices) and torch.equal(colored.faces, ball.faces)
    beside = np.zeros_like(mask)
    beside[:20, :20] = True
    for nothing in (np.zeros_like(mask), beside):
        same = color_from_photo(ball, OBLIQUE, CAMERA, image, nothing)
        assert same.texture is None and same.colors is ball.colors


def test_an_object_cut_by_the_border_of_the_image_is_colored():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    cut = CAMERA.crop(150, 100, 170, 140)
    image, mask = photograph(ball, OBLIQUE, stripes, cut)
    assert mask[0].any() and mask[:, 0].any()
    assert psnr_db(color_from_photo(ball, OBLIQUE, cut, image, mask), OBLIQUE, cut, image, mask) > 20


def test_a_large_photograph_is_made_smaller():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    image, mask = photograph(ball, OBLIQUE, lambda p: 0.5 + 0.4 * np.sin(6 * p))
    colored = color_from_photo(ball, OBLIQUE, CAMERA, image, mask, largest_px=64)
    assert psnr_db(colored, OBLIQUE, CAMERA, image, mask) > 25
    uv = colored.texture.corner_uv
    assert float(uv.min()) >= 0 and float(uv.max()) <= 1


def test_vertices_and_texture_show_the_same():
    ball = meshed(lambda grid: grid.norm(dim=-1) - 0.4)
    image, mask = photograph(ball, OBLIQUE, lambda p: 0.5 + 0.4 * np.sin(6 * p))
    colored = color_from_photo(ball, OBLIQUE, CAMERA, image, mask)
    for S in (OBLIQUE, view_from(-1.2, 1.4, -0.8)):
        textured = render_mesh(colored, S, CAMERA)
        plain = render_mesh(replace(colored, texture=None), S, CAMERA)
        assert np.abs(textured.colors - plain.colors)[plain.mask].mean() < 0.01
