"""The index tables against what they claim to index, found by brute force; copies, subdivision, refusals."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cupid_core.errors import InvalidTensorError
from cupid_core.models.padded_groups import PaddedGroups
from cupid_core.models.topology import VoxelTopology

STEPS = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=3)


def brute_neighbors(coords: Tensor) -> list[list[int]]:
    place = {tuple(row): index for index, row in enumerate(coords.tolist())}
    return [
        [place.get((b, x + i, y + j, z + k), len(coords)) for i, j, k in STEPS] for b, x, y, z in coords.tolist()
    ]


def same_tables(left: VoxelTopology, right: VoxelTopology) -> bool:
    """Equal up to which voxel of a group fills its padding."""
    unpadded = []
    for topology in (left, right):
        groups = [replace(g, index=g.index.where(g.valid, -1)) for g in (topology.items, *topology.windows)]
        unpadded.append(replace(topology, items=groups[0], windows=tuple(groups[1:])).tensors())
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(*unpadded, strict=True))


def members(groups: PaddedGroups) -> list[list[int]]:
    return [row[valid].tolist() for row, valid in zip(groups.index, groups.valid, strict=True)]


@given(sizes=SIZES, resolution=st.sampled_from([4, 6, 8]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_neighbors_are_those_of_a_search(voxels, sizes, resolution, seed):
    coords = voxels(sizes, resolution, seed)
    topology = VoxelTopology.build(coords, resolution)
    assert topology.neighbors.tolist() == brute_neighbors(coords)


def test_items_and_grid_borders_separate_neighbors():
    # Adjacent codes, but on other sides of the grid, or in another item.
    coords = torch.tensor([[0, 0, 0, 3], [0, 0, 1, 0], [0, 3, 3, 3], [1, 0, 0, 0]])
    topology = VoxelTopology.build(coords, 4)
    others = topology.neighbors.clone()
    others[:, 13] = 4
    assert (others == 4).all()


@given(sizes=SIZES, window=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_windows_hold_the_voxels_of_one_cell_of_one_item(voxels, sizes, window, seed):
    coords = voxels(sizes, 8, seed)
    topology = VoxelTopology.build(coords, 8, window_size=window)
    for groups, shift in zip(topology.windows, (0, window // 2), strict=True):
        expected: dict[tuple[int, ...], list[int]] = {}
        for row, (b, *xyz) in enumerate(coords.tolist()):
            expected.setdefault((b, *((c + shift) // window for c in xyz)), []).append(row)
        assert members(groups) == [expected[key] for key in sorted(expected)]
        assert groups.padded == (not groups.valid.all())
        # Padding stays inside its own group.
        own = groups.valid[:, :1].long().cumsum(0) - 1
        assert torch.equal(groups.slot[groups.index] // groups.index.shape[1], own.expand_as(groups.index))


@given(sizes=SIZES, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_gather_then_scatter_is_the_identity(voxels, sizes, seed):
    coords = voxels(sizes, 8, seed)
    topology = VoxelTopology.build(coords, 8, window_size=3)
    rows = torch.randn(len(coords), 2, 5)
    for groups in (topology.items, *topology.windows):
        assert torch.equal(groups.scatter(groups.gather(rows)), rows)
    for item, size in enumerate(sizes):
        own = topology.rows_of(item)
        assert len(own) == size and (topology.item[own] == item).all()


@given(sizes=SIZES, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_coarse_level_merges_cells_of_two(voxels, sizes, seed):
    coords = voxels(sizes, 8, seed).long()
    down = VoxelTopology.build(coords, 8, levels=2).down
    assert down is not None
    coarse = down.topology
    halved = torch.cat([coords[:, :1], coords[:, 1:] // 2], dim=1)
    assert torch.equal(coarse.coords[down.parents], halved)
    assert torch.equal(coarse.coords, torch.unique(halved, dim=0)) and coarse.resolution == 4
    for row, (parent, xyz) in enumerate(zip(down.parents.tolist(), coords[:, 1:].tolist(), strict=True)):
        slot = 4 * (xyz[0] % 2) + 2 * (xyz[1] % 2) + xyz[2] % 2
        assert down.children[parent, slot] == row
    assert (down.children < len(coords)).sum() == len(coords)
    fine = VoxelTopology.build(coords, 8).neighbors.long()
    holder = torch.cat([down.parents, torch.tensor([len(coarse.coords)])])
    assert torch.equal(down.neighbors.long(), holder[fine])
    assert coarse.down is not None and coarse.down.topology.resolution == 2


@given(sizes=SIZES, seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_subdivision_equals_a_topology_built_from_the_children(voxels, sizes, seed):
    coords = voxels(sizes, 4, seed)
    fine = VoxelTopology.build(coords, 4).subdivide()
    assert same_tables(fine, VoxelTopology.build(fine.coords, 8))
    assert torch.equal(fine.coords[::8, 1:], 2 * coords[:, 1:].long())
    assert torch.equal(fine.coords[7::8, 1:], 2 * coords[:, 1:].long() + 1)
    assert torch.equal(
        fine.coords[1::8, 1:] - fine.coords[::8, 1:], torch.tensor([0, 0, 1]).expand(len(coords), 3)
    )


@given(sizes=SIZES, seed=st.integers(0, 99), copies=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_copies_equal_a_topology_built_from_the_copied_voxels(voxels, sizes, seed, copies):
    coords = voxels(sizes, 8, seed)
    copied = torch.cat([coords + torch.tensor([k * len(sizes), 0, 0, 0]).int() for k in range(copies)])
    repeated = VoxelTopology.build(coords, 8, window_size=3, levels=1).repeat(copies)
    assert same_tables(repeated, VoxelTopology.build(copied, 8, window_size=3, levels=1))
    assert repeated.batch_size == copies * len(sizes)


def test_interleaved_items_are_the_same_objects(voxels):
    coords = voxels([20, 30], 6, 3)
    shuffle = torch.randperm(50)
    mixed = VoxelTopology.build(coords[shuffle], 6, window_size=3, levels=1)
    for item in (0, 1):
        assert torch.equal(shuffle[mixed.rows_of(item)].sort().values, torch.where(coords[:, 0] == item)[0])
    assert mixed.neighbors.tolist() == brute_neighbors(coords[shuffle])


def test_tensors_rebuild_the_topology(voxels):
    template = VoxelTopology.build(voxels([9, 30], 8, 0), 8, window_size=3, levels=1)
    other = VoxelTopology.build(voxels([12, 17], 8, 1), 8, window_size=3, levels=1)
    assert same_tables(template.with_tensors(other.tensors()), other)
    assert same_tables(template.to("cpu"), template)


def test_a_topology_is_frozen(voxels):
    topology = VoxelTopology.build(voxels([9], 8), 8)
    with pytest.raises(AttributeError):
        topology.resolution = 4  # type: ignore[misc]


REFUSED = {
    "float": (torch.zeros(3, 4), 8, {}),
    "three columns": (torch.zeros(3, 3, dtype=torch.int32), 8, {}),
    "no voxel": (torch.zeros(0, 4, dtype=torch.int32), 8, {}),
    "outside": (torch.tensor([[0, 0, 0, 8]]), 8, {}),
    "negative": (torch.tensor([[0, 0, -1, 0]]), 8, {}),
    "negative item": (torch.tensor([[-1, 0, 0, 0]]), 8, {}),
    "twice": (torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]), 8, {}),
    "empty item": (torch.tensor([[0, 1, 2, 3], [2, 1, 2, 3]]), 8, {}),
    "empty last item": (torch.tensor([[0, 1, 2, 3]]), 8, {"batch_size": 2}),
    "item beyond the batch": (torch.tensor([[0, 1, 2, 3], [1, 1, 2, 3]]), 8, {"batch_size": 1}),
    "odd grid": (torch.tensor([[0, 1, 2, 3]]), 6, {"levels": 2}),
    "no window": (torch.tensor([[0, 1, 2, 3]]), 8, {"window_size": 0}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_set_of_voxels_is_refused(case):
    coords, resolution, options = REFUSED[case]
    with pytest.raises(InvalidTensorError):
        VoxelTopology.build(coords, resolution, **options)
