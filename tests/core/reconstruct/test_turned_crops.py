"""A camera that is rolled: its crops are looked at upright, and the pose comes out in the camera as it is."""

import math

import numpy as np
import pytest
import torch

from cupid_core.cli.inputs import parse_up
from cupid_core.config import CupidConfig
from cupid_core.errors import InputError
from cupid_core.geometry import so3
from cupid_core.geometry.camera import Camera
from cupid_core.models.bundle import CompletionNetworks, NetworkBundle
from cupid_core.models.encoder_planes import PLANES
from cupid_core.reconstruct.completion import _turn_to_upright, complete_structures, turned_planes
from cupid_core.reconstruct.inputs import Frame, crop_objects
from cupid_core.reconstruct.stages import Structure, solve_poses
from cupid_core.samples import sample_frame
from cupid_core.types import DepthMap


def turned(array: np.ndarray, quarter: int) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(array, quarter))


def turned_camera(camera: Camera, quarter: int) -> Camera:
    """The camera of a picture that was turned counterclockwise."""
    fx, fy, cx, cy = (float(camera.K[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
    width, height = camera.width, camera.height
    for _ in range(quarter):
        fx, fy, cx, cy, width, height = fy, fx, cy, width - cx, height, width
    return Camera.from_parameters(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)


def roll(quarter: int) -> torch.Tensor:
    """Rotation from the camera to the camera whose picture is turned counterclockwise."""
    return so3.to_matrix(so3.exp(torch.tensor([0.0, 0.0, -quarter * math.pi / 2], dtype=torch.float64)))


@pytest.mark.parametrize("quarter", range(4))
def test_up_is_brought_to_the_top(quarter: int) -> None:
    up = roll(quarter) @ torch.tensor([0.1, -0.8, -0.6], dtype=torch.float64)
    assert _turn_to_upright(up) == (4 - quarter) % 4


@pytest.mark.parametrize("quarter", range(4))
def test_planes_of_a_turned_crop_are_those_of_a_turned_camera(quarter: int) -> None:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.rand(1, 4, 16, 16, generator=generator)
    depth = 0.5 + 0.05 * torch.rand(1, 16, 16, generator=generator)
    K = torch.tensor([[[2.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]])  # the object in the middle of the view
    up = torch.tensor([0.0, -0.8, -0.6])
    plain = turned_planes(pictures, depth, K, 0, up)
    assert plain.shape[1] == sum(PLANES.values())
    rolled = turned_planes(
        torch.rot90(pictures, -quarter, (2, 3)),
        torch.rot90(depth, -quarter, (1, 2)),
        K,
        quarter,
        roll(-quarter) @ up.double(),
    )
    torch.testing.assert_close(rolled, plain, atol=1e-5, rtol=0)


def test_a_direction_of_up_without_length_is_refused() -> None:
    picture, labels = np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.int32)
    for bad in ((0.0, 0.0, 0.0), (math.nan, 0.0, 1.0), (1.0, 0.0)):
        with pytest.raises(InputError, match="direction of up"):
            Frame.of(picture, labels, up=bad)
    assert Frame.of(picture, labels, up=(0.0, -2.0, 0.0)).up.tolist() == [0.0, -1.0, 0.0]


def test_up_of_the_command_line() -> None:
    assert parse_up("0.1,-1,0.2") == (0.1, -1.0, 0.2)
    for bad in ("up", "1,2", "1,2,3,4", ""):
        with pytest.raises(InputError, match="--up"):
            parse_up(bad)


def changes_deg(networks: CompletionNetworks, *, try_turns: bool) -> list[float]:
    """How far a half turn of the camera turns the poses of the frame that ships, ascending."""
    reconstruct = CupidConfig().reconstruct.model_copy(update={"try_turns": try_turns})
    config, files = CupidConfig().model_copy(update={"reconstruct": reconstruct}), sample_frame()
    plain = Frame.of(files.color, files.labels, camera=files.camera, depth=files.depth)
    assert plain.camera is not None and plain.depth is not None
    found: list[list[torch.Tensor]] = []
    for quarter in (0, 2):
        depth_m = torch.from_numpy(turned(plain.depth.depth_m.numpy(), quarter))
        frame = Frame.of(
            turned(plain.image, quarter),
            turned(plain.labels, quarter),
            camera=turned_camera(plain.camera, quarter),
            depth=DepthMap(depth_m, plain.depth.source),
        )
        crops = crop_objects(frame, {}, config)
        with torch.no_grad():
            posed = solve_poses(complete_structures(networks, crops, config), crops, config)
        rotations = []
        for item in posed:
            assert isinstance(item, Structure) and item.pose is not None
            rotations.append(roll(-quarter) @ item.pose.T_camera_object.rotation().double())
        found.append(rotations)
    pairs = zip(*found, strict=True)
    return sorted(math.degrees(float(so3.log(so3.from_matrix(a.mT @ b)).norm())) for a, b in pairs)


def test_a_rolled_camera_does_not_turn_the_poses_that_are_sure() -> None:
    networks = NetworkBundle.from_pretrained("tabletop").completion
    assert networks is not None
    with_turns, without = (changes_deg(networks, try_turns=tried) for tried in (True, False))
    assert with_turns[1] < 12 < without[1], (with_turns, without)
