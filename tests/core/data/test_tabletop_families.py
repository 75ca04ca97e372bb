"""Laws every family keeps: it is visible, fills the cube, its distances are safe, its claimed symmetry is true."""

from dataclasses import replace

import pytest
import torch

from cupid_core.data.tabletop import FAMILY_NAMES, TabletopSettings, elements, sample_tabletop
from cupid_core.data.tabletop.bounds import LONGEST_SIDE
from cupid_core.data.tabletop.sample import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.data.tabletop.symmetry import rotations_about_z, to_fundamental_domain
from cupid_core.data.tabletop.textures import SurfacePoints

COUNT = 2


@pytest.fixture(scope="module")
def objects_of():
    """Objects of a family, built once."""
    made = {}

    def get(family):
        if family not in made:
            made[family] = build_objects([draw_shape(17, i, family=family) for i in range(COUNT)], 24, "cpu")
        return made[family]

    return get


def each(objects):
    """(row, program of one object) of every object."""
    for rows, program in objects.programs:
        for position, row in enumerate(rows.tolist()):
            yield row, program.select(torch.tensor([position]))


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_laws_of_every_family(family, objects_of):
    assert_visible_and_of_the_right_size(family, objects_of)
    assert_renders_a_picture(family)
    assert_no_step_of_the_distance_crosses_the_surface(family, objects_of)
    assert_distances_grow_no_faster_than_lengths(family, objects_of)
    assert_claimed_symmetry_of_shape_and_texture(family, objects_of)


def assert_visible_and_of_the_right_size(family, objects_of):
    objects = objects_of(family)
    longest = 2 * objects.half.amax(dim=1)
    torch.testing.assert_close(longest, torch.full_like(longest, LONGEST_SIDE), atol=1e-5, rtol=0)
    assert (objects.scale > 0.01).all() and (objects.scale < 0.7).all(), "metres per unit of household things"
    filled = (objects.sdf < 0).flatten(1).sum(dim=1)
    assert (filled >= 8).all(), "thick enough for a small grid to hold"
    for row, program in each(objects):
        points = torch.rand(3, 1, 60000, generator=torch.Generator().manual_seed(row)) - 0.5
        inside = points[:, 0, program.distance(points)[0] < 0]
        over = (inside.abs().amax(dim=1) - objects.half[row]).max()
        assert over < 0.02, f"{family} {row} reaches {over:.3f} out of its box"


def assert_renders_a_picture(family):
    settings = TabletopSettings(image_size=48, resolution=12, truncated=0.0, occluded=0.0)
    batch = sample_tabletop(range(COUNT), settings, seed=23, family=family)
    area = batch.mask_full.flatten(1).mean(dim=1)
    assert (area > 0.004).all() and (area < 0.95).all()
    border = torch.cat([batch.mask_full[:, 0, 0], batch.mask_full[:, 0, -1], batch.mask_full[:, 0, :, 0]], dim=1)
    assert border.sum() <= 12, "the crop holds the whole object"
    shaded = (batch.image_clean[:, :3].sum(dim=1) > 0.02) & (batch.mask_full[:, 0] > 0)
    assert (shaded.flatten(1).sum(dim=1) > 0.8 * batch.mask_full.flatten(1).sum(dim=1)).all()


def assert_no_step_of_the_distance_crosses_the_surface(family, objects_of):
    generator = torch.Generator().manual_seed(5)
    for _, program in each(objects_of(family)):
        points = (torch.rand(3, 1, 3000, generator=generator) - 0.5) * 1.4
        distance = program.distance(points)
        for _ in range(3):
            direction = torch.randn(3, 1, 3000, generator=generator)
            direction = direction / torch.linalg.norm(direction, dim=0)
            there = program.distance(points + direction * distance.abs() * 0.98)
            crossed = torch.where(distance > 0, -there, there)
            assert crossed.max() < 4e-3


def assert_distances_grow_no_faster_than_lengths(family, objects_of):
    for row, program in each(objects_of(family)):
        generator = torch.Generator().manual_seed(row)
        points = (torch.rand(3, 1, 4000, generator=generator) - 0.5).requires_grad_()
        distance = program.distance(points)
        (gradient,) = torch.autograd.grad(distance.sum(), points)
        near = distance[0].abs() < 0.06
        steepness = torch.linalg.norm(gradient[:, 0, near], dim=0)
        steepness = steepness[torch.isfinite(steepness)]
        # Flat ellipsoids have a first-order distance that steepens away from the surface; it stays a lower bound.
        assert steepness.quantile(0.9) < 1.05


def assert_claimed_symmetry_of_shape_and_texture(family, objects_of):
    objects = objects_of(family)
    for row, program in each(objects):
        shape = objects.shapes[row]
        generator = torch.Generator().manual_seed(row)
        points = torch.rand(3, 1, 1500, generator=generator) - 0.5
        reference = program.distance(points)
        near = reference[0].abs() < 0.03
        points, reference = points[:, :, near], reference[:, near]
        colors = color_at(objects, row, program, points)
        for move in moves_of(shape.symmetry):
            moved = (move @ points[:, 0])[:, None]
            torch.testing.assert_close(program.distance(moved), reference, atol=5e-6, rtol=0)
        turn = rotations_about_z(torch.tensor([shape.print_turn]))[:, :, 0]
        for move in moves_of(shape.print_symmetry or shape.symmetry):
            moved = (turn @ move @ turn.T @ points[:, 0])[:, None]
            torch.testing.assert_close(program.distance(moved), reference, atol=5e-6, rtol=0)
            change = (color_at(objects, row, program, moved) - colors).abs().amax(dim=0)
            # On the borders between sectors and faces rounding decides; they have no area.
            assert (change > 0.02).float().mean() < 0.02


def moves_of(group):
    mirror = [torch.diag(torch.tensor([1.0, -1.0, 1.0]))] if group.mirror else []
    return [*elements(group, steps=5), *mirror]


def test_a_label_turns_with_its_print_and_the_shape_does_not():
    plain = next(shape for index in range(40) if (shape := draw_shape(0, index, family="can")).sheet is not None)
    turned = [replace(plain, print_turn=angle) for angle in (0.0, 1.0)]
    objects = build_objects(turned, 16, "cpu")
    program = objects.programs[0][1]
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(3, 1, 3000, generator=generator) - 0.5).expand(3, 2, 3000)
    near = program.distance(points)[0].abs() < 0.03
    points = points[:, :, near]
    turn = rotations_about_z(torch.tensor([1.0]))[:, :, 0]
    straight = color_at(objects, 0, program, points)
    after = color_at(objects, 1, program, torch.stack([points[:, 0], turn @ points[:, 1]], dim=1), column=1)
    assert ((straight - after).abs().amax(dim=0) > 0.02).float().mean() < 0.02
    assert (straight - color_at(objects, 1, program, points, column=1)).abs().max() > 0.1


def color_at(objects, row, program, points, column=0):
    normal = program.normal(points, 0.004)
    _, slot = program.distance_and_slot(points)
    owner = torch.full((points.shape[2],), row)
    metric = program.metric(points)
    found = SurfacePoints(points[:, column], metric[:, column], normal[:, column], owner, slot[column])
    return objects.surfaces.albedo(found)


@pytest.mark.parametrize("group", [(1, 0, 0), (0, 1, 0), (0, 1, 1), (2, 0, 0), (4, 1, 0), (6, 1, 1)])
def test_folding_moves_points_into_the_domain_and_keeps_their_radius(group):
    torch.manual_seed(1)
    points = torch.randn(3, 400)
    rows = torch.tensor([group]).expand(400, 3)
    folded, matrix = to_fundamental_domain(points, rows, with_mirror=False)
    torch.testing.assert_close((matrix * points[None]).sum(dim=1), folded, atol=2e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.norm(folded, dim=0), torch.linalg.norm(points, dim=0))
    determinant = torch.linalg.det(matrix.permute(2, 0, 1))
    torch.testing.assert_close(determinant, torch.ones(400), atol=1e-5, rtol=0)
    azimuth = torch.atan2(folded[1], folded[0]).abs()
    fold, _, flip = group
    assert (azimuth <= (0 if fold == 0 else torch.pi / fold) + 1e-5).all()
    assert not flip or (folded[2] >= 0).all()
    again, _ = to_fundamental_domain(folded, rows, with_mirror=False)
    torch.testing.assert_close(again, folded, atol=1e-5, rtol=0)
