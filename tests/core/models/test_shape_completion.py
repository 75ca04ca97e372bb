"""Evidence of a view in a cube of voxels, and the network that completes a shape from it."""

import pytest
import torch

from cupid_core.errors import ConfigError
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.geometry.sim3 import Sim3
from cupid_core.models.evidence import EVIDENCE_CHANNELS, ViewEvidence, evidence_volume
from cupid_core.models.shape_completion import ShapeCompletion, complete_shapes

SIZE, CELLS, VOXELS = 32, 16, 16
K = torch.tensor([[1.5, 0.0, 0.5], [0.0, 1.5, 0.5], [0.0, 0.0, 1.0]])
DISTANCE = 3.0


def facing(scale: float = 1.0) -> Sim3:
    """The cube straight in front of the camera, in a unit of length of its own."""
    return Sim3(
        torch.tensor([scale]), torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, DISTANCE * scale]])
    )


def view(depth: float = 0.0, mask: float = 1.0) -> ViewEvidence:
    return ViewEvidence(
        mask=torch.full((1, 1, SIZE, SIZE), mask),
        depth=torch.full((1, SIZE, SIZE), depth),
        intrinsics=K[None],
        points=torch.zeros(1, 3, CELLS, CELLS),
        visible=torch.ones(1, 1, CELLS, CELLS),
    )


def by_depth(volume: torch.Tensor, channel: int) -> torch.Tensor:
    """One channel along the viewing direction, in the middle of the cube."""
    return volume[0, channel, VOXELS // 2, VOXELS // 2]


def test_voxels_before_and_behind_the_measured_surface_differ_in_sign() -> None:
    volume = evidence_volume(view(depth=DISTANCE), facing(), VOXELS)
    assert volume.shape == (1, EVIDENCE_CHANNELS, VOXELS, VOXELS, VOXELS)
    distance = by_depth(volume, 1)
    assert float(distance[0]) == 1.0 and float(distance[-1]) == -1.0
    assert bool((distance.diff() <= 0).all()) and bool((volume[0, 2] == 1).all())
    near = by_depth(volume, 3).bool()
    assert bool(near.any()) and float(all_voxel_centers(VOXELS)[0, 0, near, 2].abs().max()) < 0.06


def test_evidence_does_not_depend_on_the_unit_of_length() -> None:
    one = evidence_volume(view(depth=DISTANCE), facing(), VOXELS)
    other = evidence_volume(view(depth=0.1 * DISTANCE), facing(0.1), VOXELS)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_without_depth_nothing_is_said_about_distance() -> None:
    volume = evidence_volume(view(), facing(), VOXELS)
    assert not bool(volume[:, 1:4].any())


@pytest.mark.parametrize(("mask", "expected"), [(1.0, 1.0), (0.5, 0.0), (0.0, -1.0)])
def test_the_mask_says_object_occluded_or_empty(mask: float, expected: float) -> None:
    volume = evidence_volume(view(mask=mask), facing(), VOXELS)
    torch.testing.assert_close(volume[:, 0], torch.full_like(volume[:, 0], expected), atol=1e-5, rtol=0)


def test_predicted_points_are_compared_with_the_place_of_the_voxel() -> None:
    volume = evidence_volume(view(), facing(), VOXELS)  # the middle of the cube is predicted everywhere
    expected = (-4 * all_voxel_centers(VOXELS)).permute(3, 0, 1, 2)
    torch.testing.assert_close(volume[0, 7:10], expected.clamp(-2, 2), atol=1e-5, rtol=0)


def test_a_fresh_network_leaves_the_pose_as_it_is() -> None:
    torch.manual_seed(0)
    network = ShapeCompletion(resolution=VOXELS, token_channels=8, channels=(8, 16, 24))
    with torch.no_grad():
        logits, pose = complete_shapes(network, view(depth=DISTANCE), torch.zeros(1, 8), facing(), corrections=2)
    assert logits.shape == (1, VOXELS, VOXELS, VOXELS)
    torch.testing.assert_close(pose.matrix(), facing().matrix())


def test_corrections_are_applied_in_the_frame_of_the_cube() -> None:
    network = ShapeCompletion(resolution=VOXELS, token_channels=8, channels=(8, 16, 24))
    step = torch.tensor([0.1, 0.0, 0.0, 0.0, 0.0, 0.2, 0.3])
    with torch.no_grad():
        network.pose_out.bias.copy_(step)
        _, pose = complete_shapes(network, view(), torch.zeros(1, 8), facing(), corrections=2)
    expected = facing() @ Sim3.exp(step[None]) @ Sim3.exp(step[None])
    torch.testing.assert_close(pose.matrix(), expected.matrix(), atol=1e-5, rtol=1e-5)


def test_voxels_of_the_output_are_where_those_of_the_input_are() -> None:
    """One voxel of evidence changes the output around itself the most."""
    torch.manual_seed(1)
    network = ShapeCompletion(resolution=VOXELS, token_channels=8, channels=(8, 16, 24))
    for name, parameter in network.named_parameters():
        if "conv2" in name or name.startswith("from_coarse"):
            torch.nn.init.zeros_(parameter)  # only the shortest path from input to output is left
    volume = torch.zeros(1, EVIDENCE_CHANNELS, VOXELS, VOXELS, VOXELS)
    marked = volume.clone()
    marked[0, :, 3, 9, 12] = 5.0
    with torch.no_grad():
        change = (network(marked, torch.zeros(1, 8))[0] - network(volume, torch.zeros(1, 8))[0]).abs()[0]
    block = change.view(8, 2, 8, 2, 8, 2).amax(dim=(1, 3, 5))
    assert int(block.argmax()) == (1 * 8 + 4) * 8 + 6


def test_sizes_that_do_not_fit_are_refused() -> None:
    for wrong in ({"resolution": 20}, {"channels": (8, 12, 16)}, {"channels": (8, 16)}):
        with pytest.raises(ConfigError):
            ShapeCompletion(**wrong)
