"""Dilation: a single voxel becomes the kernel, sources combine by maximum, the border holds."""

import math

import pytest
import torch

from cupid_core.data.voxel_dilation import dilate_voxels
from cupid_core.errors import InvalidTensorError


def test_one_voxel_becomes_a_gaussian_ball():
    coords, weights = dilate_voxels(torch.tensor([[8, 8, 8]]), 17, sigma=1.0, min_weight=0.05)
    squared = (coords - 8).square().sum(dim=1)
    torch.testing.assert_close(weights, torch.exp(-squared.float() / 2))
    assert weights.min() >= 0.05 and int(squared.max()) == math.floor(-2 * math.log(0.05))
    assert float(weights.max()) == 1.0


def test_union_of_sources_by_maximum():
    voxels = torch.tensor([[3, 3, 3], [5, 3, 3]])
    both, weights = dilate_voxels(voxels, 10, 0.8, 0.01)
    table = {tuple(c): w for c, w in zip(both.tolist(), weights.tolist(), strict=True)}
    expected: dict[tuple[int, ...], float] = {}
    for voxel in voxels:
        single, single_weights = dilate_voxels(voxel[None], 10, 0.8, 0.01)
        for c, w in zip(single.tolist(), single_weights.tolist(), strict=True):
            expected[tuple(c)] = max(expected.get(tuple(c), 0.0), w)
    assert table == expected
    assert both.tolist() == sorted(both.tolist())


def test_border_cuts_and_input_stays():
    voxels = torch.tensor([[0, 0, 0], [4, 4, 4]], dtype=torch.int32)
    coords, weights = dilate_voxels(voxels, 5, 1.0, 0.1)
    assert int(coords.min()) == 0 and int(coords.max()) == 4
    for voxel in voxels.tolist():
        assert float(weights[(coords == torch.tensor(voxel)).all(dim=1)]) == 1.0


@pytest.mark.parametrize(
    ("coords", "sigma"),
    [
        (torch.zeros(2, 4, dtype=torch.int64), 1.0),
        (torch.zeros(2, 3), 1.0),
        (torch.full((1, 3), 9), 1.0),
        (torch.full((1, 3), -1), 1.0),
        (torch.zeros(1, 3, dtype=torch.int64), 0.0),
    ],
)
def test_bad_input_is_refused(coords, sigma):
    with pytest.raises(InvalidTensorError):
        dilate_voxels(coords, 9, sigma, 0.1)
