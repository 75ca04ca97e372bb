"""Laws of the sparse layers: equal to dense ones and to their plain forms, the same for batch and order."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import InputError
from cupid_core.models.layers.sparse import (
    PointwiseConv3d,
    SparseConv3d,
    SparseGroupNorm32,
    downsample,
    subdivide,
    upsample,
)
from cupid_core.models.layers.sparse_blocks import (
    SparseResBlock3d,
    SparseSubdivideBlock3d,
    SparseTransformerBlock,
)
from cupid_core.models.topology import VoxelTopology

R = 8
SIZES = [40, 7, 90]
BOUND = 2e-5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def batch(voxels):
    """Three objects of different sizes: coordinates and their topology."""
    coords = voxels(SIZES, R, 5)
    return coords, VoxelTopology.build(coords, R, window_size=3, levels=1)


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters everywhere, so that nothing hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return module.eval()


def on_grid(rows: Tensor, coords: Tensor) -> Tensor:
    """Rows of one item on a dense grid (1, C, R, R, R), zero elsewhere."""
    grid = torch.zeros(1, rows.shape[1], R, R, R)
    x, y, z = coords[:, 1:].long().unbind(1)
    grid[0, :, x, y, z] = rows.T
    return grid


def from_grid(grid: Tensor, coords: Tensor) -> Tensor:
    x, y, z = coords[:, 1:].long().unbind(1)
    return grid[0, :, x, y, z].T


def test_convolution_equals_a_dense_one_on_the_grid(batch, agree):
    coords, topology = batch
    conv = randomize(SparseConv3d(5, 6))
    rows = torch.randn(len(coords), 5)
    with torch.no_grad():
        made = conv(rows, topology)
        kernel = conv.conv.weight.permute(0, 4, 1, 2, 3)
        for item in range(3):
            own = topology.rows_of(item)
            dense = F.conv3d(on_grid(rows[own], coords[own]), kernel, conv.conv.bias, padding=1)
            agree(f"item {item}", made[own], from_grid(dense, coords[own]), BOUND)


def test_kernel_one_reads_its_weight_as_in_by_out():
    conv = randomize(PointwiseConv3d(3, 2))
    rows = torch.randn(4, 3)
    matrix = conv.conv.weight.flatten().reshape(3, 2)
    torch.testing.assert_close(conv(rows), rows @ matrix + conv.conv.bias)


def test_convolution_of_copied_rows_equals_copying_first(batch, agree):
    coords, topology = batch
    conv = randomize(SparseConv3d(5, 6))
    down, fine = topology.down, topology.subdivide()
    assert down is not None
    with torch.no_grad():
        coarse_rows, rows = torch.randn(len(down.topology.coords), 5), torch.randn(len(coords), 5)
        agree("up", conv.upsampled(coarse_rows, down), conv(upsample(coarse_rows, down), topology), BOUND)
        agree("subdivided", conv.subdivided(rows, topology), conv(subdivide(rows), fine), BOUND)


def test_row_blocks_change_nothing(batch):
    coords, topology = batch
    whole, parts = SparseConv3d(5, 6), SparseConv3d(5, 6, row_blocks=200)
    parts.load_state_dict(whole.state_dict())
    rows = torch.randn(len(coords), 5)
    with torch.no_grad():
        torch.testing.assert_close(parts(rows, topology), whole(rows, topology), atol=1e-6, rtol=0)


def test_training_path_has_the_gradients_of_the_plain_one(voxels):
    coords = voxels([6, 9], 4, 1)
    topology = VoxelTopology.build(coords, 4)
    conv = randomize(SparseConv3d(2, 3)).double()
    rows = torch.randn(15, 2, dtype=torch.float64, requires_grad=True)

    def run(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"conv.weight": weight, "conv.bias": bias}, (rows, topology))

    parameters = [conv.conv.weight.detach().requires_grad_(), conv.conv.bias.detach().requires_grad_()]
    assert torch.autograd.gradcheck(run, (rows, *parameters))
    with torch.no_grad():
        plain = conv(rows, topology)
    torch.testing.assert_close(conv(rows, topology), plain)


def test_training_path_of_subdivided_voxels_has_the_gradients_of_copying_first(voxels):
    topology = VoxelTopology.build(voxels([6, 9], 4, 1), 4)
    conv, fine = randomize(SparseConv3d(2, 3)).double(), topology.subdivide()
    rows = torch.randn(15, 2, dtype=torch.float64)
    weights = torch.randn(8 * 15, 3, dtype=torch.float64)
    found = []
    for run in (lambda x: conv.subdivided(x, topology), lambda x: conv(subdivide(x), fine)):
        given = rows.clone().requires_grad_()
        out = run(given)
        found.append((out, *torch.autograd.grad((out * weights).sum(), [given, *conv.parameters()])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(conv.subdivided(rows, topology), found[0][0])


def test_merging_divides_the_sum_by_one_more_than_the_count(batch, agree):
    coords, topology = batch
    down = topology.down
    assert down is not None
    rows = torch.randn(len(coords), 4)
    count = len(down.topology.coords)
    total = torch.zeros(count, 4).index_add(0, down.parents, rows)
    number = torch.bincount(down.parents, minlength=count)[:, None]
    agree("merged", downsample(rows, down), total / (number + 1), 1e-6)
    agree("n children of value 1", downsample(torch.ones_like(rows), down)[:, :1], number / (number + 1), 1e-6)
    assert torch.equal(upsample(downsample(rows, down), down), downsample(rows, down)[down.parents])


def test_group_norm_is_that_of_each_item_alone(batch, agree):
    coords, topology = batch
    norm = randomize(SparseGroupNorm32(12, groups=3))
    rows = torch.randn(len(coords), 12) * 3 + torch.randn(12)
    made = norm(rows, topology).detach()
    for item in range(3):
        own = topology.rows_of(item)
        dense = F.group_norm(rows[own].T[None], 3, norm.weight, norm.bias, 1e-5)[0].T.detach()
        agree(f"item {item}", made[own], dense, BOUND)


def test_group_norm_keeps_its_digits_far_from_zero(batch, agree):
    coords, topology = batch
    norm = SparseGroupNorm32(6, groups=2)
    rows = torch.randn(len(coords), 6, dtype=torch.float64)
    near = norm.double()(rows, topology)
    far = norm.float()((rows + 1000).float(), topology)
    agree("mean 1000, deviation 1", far.detach(), near.detach(), 5e-4)


def run_block(kind: str, rows: Tensor, topology: VoxelTopology, item_values: Tensor) -> Tensor:
    """One block of each kind, the same weights on every call."""
    if kind == "transformer":
        block = randomize(SparseTransformerBlock(16, 4, 2.0, qk_rms_norm=True))
        return block(block(rows, topology.windows[1]), topology.items)
    if kind == "subdivide":
        widened = rows.repeat(1, 4)
        return randomize(SparseSubdivideBlock3d(64, 32))(widened, topology, topology.subdivide())
    if kind == "up":
        assert topology.down is not None
        rows = downsample(rows, topology.down)
    block = randomize(SparseResBlock3d(16, 10, 12, resample=kind))
    return block(rows, block.modulation(item_values), topology)


@pytest.mark.parametrize("kind", ["none", "down", "up", "transformer", "subdivide"])
def test_a_batch_equals_its_items_alone(batch, agree, kind):
    coords, topology = batch
    rows, values = torch.randn(len(coords), 16), torch.randn(3, 10)
    with torch.no_grad():
        together = run_block(kind, rows, topology, values)
        per_item = []
        for item in range(3):
            own = topology.rows_of(item)
            single = coords[own] * torch.tensor([0, 1, 1, 1])
            alone = VoxelTopology.build(single, R, window_size=3, levels=1)
            per_item.append(run_block(kind, rows[own], alone, values[item : item + 1]))
        agree("three at once", together, torch.cat(per_item), BOUND)


@pytest.mark.parametrize("kind", ["none", "up", "transformer"])
def test_the_order_of_voxels_does_not_matter(batch, agree, kind):
    coords, topology = batch
    order = torch.randperm(len(coords))
    rows, values = torch.randn(len(coords), 16), torch.randn(3, 10)
    shuffled = VoxelTopology.build(coords[order], R, window_size=3, levels=1)
    with torch.no_grad():
        plain = run_block(kind, rows, topology, values)
        agree("shuffled", run_block(kind, rows[order], shuffled, values), plain[order], BOUND)


def test_one_modulation_serves_all_items(batch, agree):
    coords, topology = batch
    rows, value = torch.randn(len(coords), 16), torch.randn(1, 10)
    with torch.no_grad():
        one = run_block("none", rows, topology, value)
        agree("one for all against one each", one, run_block("none", rows, topology, value.expand(3, -1)), BOUND)


def test_windows_confine_attention(batch):
    coords, topology = batch
    block = randomize(SparseTransformerBlock(16, 4, 2.0))
    rows = torch.randn(len(coords), 16)
    changed = rows.clone()
    changed[0, 0] += 1  # one channel: the same added to all is taken off again by the norm
    with torch.no_grad():
        touched = (block(rows, topology.windows[0]) != block(changed, topology.windows[0])).any(dim=1)
    cell = torch.cat([coords[:, :1], coords[:, 1:] // 3], dim=1)
    assert torch.equal(touched, (cell == cell[0]).all(dim=1))


def test_half_precision_sums_in_float32(batch, agree):
    """27 terms summed in bfloat16 one after the other would be several times worse."""
    coords, topology = batch
    conv = randomize(SparseConv3d(32, 8))
    rows = torch.randn(len(coords), 32).bfloat16()
    with torch.no_grad():
        conv.to(torch.bfloat16)
        made = conv(rows, topology)
        exact = conv.float()(rows.float(), topology)
    assert made.dtype == torch.bfloat16
    agree("relative to the largest", made.float() / exact.abs().max(), exact / exact.abs().max(), 2**-8)


def test_a_missing_coarse_level_is_named(voxels):
    topology = VoxelTopology.build(voxels([9], R), R)
    block = SparseResBlock3d(4, 4, resample="down")
    with pytest.raises(InputError, match="levels"):
        block(torch.zeros(9, 4), torch.zeros(1, 8), topology)
