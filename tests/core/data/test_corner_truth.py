"""Truth at the corners of the cubes inside voxels: agrees with the grids, with itself, with its mirror image."""

import pytest
import torch

from cupid_core.data.corner_truth import halved_cubes
from cupid_core.data.tabletop.fine_truth import corner_truth
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.errors import InvalidTensorError
from cupid_core.models.topology import VoxelTopology

RESOLUTION = 16


@pytest.fixture(scope="module")
def objects():
    # Some of equal structure, so that padding inside a group is met; some alone.
    shapes = [
        draw_shape(3, index, family=name) for index, name in enumerate(("mug", "ball", "mug", "cracker_box"))
    ]
    return build_objects(shapes, RESOLUTION, "cpu")


@pytest.fixture(scope="module")
def truth(objects):
    return corner_truth(objects, objects.shell.nonzero(), 4)


def test_corners_of_voxels_are_those_of_the_grid(objects, truth):
    object_, x, y, z = truth.voxels.T
    for corner in range(8):
        i, j, k = corner & 1, corner >> 1 & 1, corner >> 2 & 1
        fine = truth.sdf[truth.place[:, 4 * i, 4 * j, 4 * k]]
        assert torch.equal(fine, objects.sdf[object_, x + i, y + j, z + k])


def test_corner_positions_agree_with_their_voxels(truth):
    low = truth.voxels[:, 1:] / RESOLUTION - 0.5
    step = torch.cartesian_prod(*(torch.arange(5),) * 3) / (4 * RESOLUTION)
    expected = low[:, None] + step
    torch.testing.assert_close(truth.position[truth.place.flatten(1)], expected, atol=1e-6, rtol=0)
    assert truth.place.max() == len(truth.sdf) - 1 and len(truth.place.unique()) == len(truth.sdf)


def test_what_is_asked_for_does_not_depend_on_what_else_is(objects, truth):
    chosen = torch.arange(5, len(truth.voxels), 7)
    alone = corner_truth(objects, truth.voxels[chosen], 4)
    for name in ("sdf", "color", "normal"):
        expected = getattr(truth, name)[truth.place[chosen]]
        torch.testing.assert_close(getattr(alone, name)[alone.place], expected, atol=1e-6, rtol=0)


def test_distance_grows_along_the_normal(truth):
    """Between neighboring corners of the ball, whose distance is exact (its seam aside)."""
    ball = truth.voxels[:, 0] == 1
    place = truth.place[ball]
    low, high = place[:, :-1].flatten(), place[:, 1:].flatten()
    rise = (truth.sdf[high] - truth.sdf[low]) * 4 * RESOLUTION
    along = (truth.normal[low, 0] + truth.normal[high, 0]) / 2
    assert (rise - along).abs().quantile(0.9) < 0.02
    assert torch.allclose(truth.normal.norm(dim=1), torch.ones(len(truth.normal)), atol=1e-4)


def test_cubes_come_in_the_order_of_two_subdivisions(truth):
    topology = VoxelTopology.build(truth.voxels, RESOLUTION)
    fine = topology.subdivide().subdivide()
    corners = truth.cube_corners()
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        expected = (fine.coords[:, 1:] + offset) / (4 * RESOLUTION) - 0.5
        torch.testing.assert_close(truth.position[corners[:, corner]], expected, atol=1e-6, rtol=0)
    assert torch.equal(fine.item, truth.voxels[:, 0].repeat_interleave(64))


def test_lattices_are_nested(truth):
    corners, middle = truth.lattice(2), truth.lattice(3)
    assert torch.equal(corners, middle.view(-1, 3, 3, 3)[:, ::2, ::2, ::2].flatten(1))
    assert torch.equal(truth.lattice(5), truth.place.flatten(1))
    with pytest.raises(InvalidTensorError, match="no even lattice"):
        truth.lattice(4)


def test_mirroring_is_its_own_inverse_and_moves_points(truth):
    mirror = truth.mirrored()
    moved = mirror.position[mirror.place.flatten(1)] - (mirror.voxels[:, 1:] / RESOLUTION - 0.5)[:, None]
    assert moved.min() > -1e-6 and moved.max() < 1 / RESOLUTION + 1e-6  # corners lie in their voxels
    torch.testing.assert_close(
        mirror.position[mirror.place][..., 1], -truth.position[truth.place.flip(2)][..., 1], atol=0, rtol=0
    )
    again = mirror.mirrored()
    assert torch.equal(again.voxels, truth.voxels) and torch.equal(again.place, truth.place)
    assert torch.equal(again.normal, truth.normal)


def test_a_symmetric_object_is_its_mirror_image(objects, truth):
    ball = (truth.voxels[:, 0] == 1).nonzero()[:, 0]
    alone = corner_truth(objects, truth.voxels[ball], 4).mirrored()
    order = torch.argsort((alone.voxels[:, 1] * RESOLUTION + alone.voxels[:, 2]) * RESOLUTION + alone.voxels[:, 3])
    torch.testing.assert_close(alone.sdf[alone.place[order]], truth.sdf[truth.place[ball]], atol=2e-5, rtol=0)


def test_halving_needs_a_power_of_two():
    assert torch.equal(halved_cubes(1), torch.zeros(1, 3, dtype=torch.int64))
    assert len(halved_cubes(8).unique(dim=0)) == 512
    with pytest.raises(InvalidTensorError, match="repeated halves"):
        halved_cubes(3)
