"""Laws of the pose-aligned features: positions of the samples, null conditions, occlusion."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import InputError
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.pose_aligned import (
    VoxelView,
    latent_features,
    patch_map,
    sample_at,
    visible_voxels,
    visual_features,
)
from cupid_core.models.topology import VoxelTopology

R = 8
SIZES = [30, 8, 61]


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def topology(voxels):
    return VoxelTopology.build(voxels(SIZES, R, 2), R, window_size=4)


def test_samples_of_a_linear_ramp_are_the_coordinates(agree, topology):
    """Pixel centers are half a pixel inside the edges, so a map of its own centers returns uv."""
    axis = (torch.arange(10) + 0.5) / 10
    ramp = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None].expand(3, -1, -1, -1)
    uv = torch.rand(sum(SIZES), 2) * 0.9 + 0.05
    agree("uv", sample_at(ramp, uv, topology), uv, 1e-6)


def test_each_item_reads_its_own_map_and_border_samples_mix_with_zero(topology):
    maps = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(3, 1, 4, 4)
    item = topology.item[:, None].float()
    inside = sample_at(maps, torch.full((sum(SIZES), 2), 0.5), topology)
    assert torch.equal(inside, item + 1)
    edge = sample_at(maps, torch.tensor([0.0, 0.5]).expand(sum(SIZES), 2), topology)
    torch.testing.assert_close(edge, (item + 1) / 2)
    corner = sample_at(maps, torch.ones(sum(SIZES), 2), topology)
    torch.testing.assert_close(corner, (item + 1) / 4)
    assert sample_at(maps, torch.full((sum(SIZES), 2), 1.2), topology).abs().max() == 0


def test_hypotheses_of_one_image_share_its_map(agree, voxels):
    four = VoxelTopology.build(voxels([9, 20, 4, 13], R, 1), R)
    maps, uv = torch.randn(2, 3, 6, 6), torch.rand(46, 2)
    shared = sample_at(maps, uv, four)
    agree("shared", shared, sample_at(maps.repeat_interleave(2, 0), uv, four), 1e-6)
    for item in range(4):
        own = four.rows_of(item)
        alone = F.grid_sample(maps[item // 2][None], 2 * uv[own][None, None] - 1, align_corners=False)[0, :, 0].T
        agree(f"item {item}", shared[own], alone, 1e-6)


def test_patches_are_row_by_row():
    tokens = torch.arange(9.0)[None, :, None] + torch.tensor([[[0.0, 100.0]]])
    tokens = torch.cat([torch.full((1, 5, 2), -1.0), tokens], dim=1)
    made = patch_map(tokens)
    assert made.shape == (1, 2, 3, 3)
    assert made[0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]] and made[0, 1, 2, 0] == 106
    assert torch.equal(patch_map(tokens[:, 4:], prefix_tokens=1), made)
    with pytest.raises(InputError, match="10 patch tokens"):
        patch_map(tokens, prefix_tokens=4)


def test_visual_features_at_the_right_size_are_those_of_the_image_itself(agree, topology):
    image, uv = torch.rand(3, 3, 16, 16), torch.rand(sum(SIZES), 2)
    keep = nn.Identity()
    agree("not resized", visual_features([keep], image, uv, topology, 16), sample_at(image, uv, topology), 1e-6)
    chain = nn.ModuleList([nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 4, 3, stride=2, padding=1)])
    made = visual_features(chain, image, uv, topology, 16)
    first = chain[0](image)
    expected = torch.cat([sample_at(first, uv, topology), sample_at(chain[1](first), uv, topology)], dim=1)
    agree("levels", made, expected, 1e-6)
    constant = torch.full((3, 3, 31, 40), 0.25)
    resized = visual_features([keep], constant, torch.full_like(uv, 0.5), topology, 16)
    agree("resized", resized, torch.full_like(resized, 0.25), 1e-6)


def encoder() -> SLatEncoder:
    torch.manual_seed(1)
    made = SLatEncoder(
        resolution=R, in_channels=7, model_channels=32, latent_channels=5, num_blocks=1, num_heads=4, window_size=4
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


def test_the_latent_is_the_encoder_mean_and_zero_under_the_null_condition(agree, topology):
    net, tokens, uv = encoder(), torch.randn(3, 5 + 16, 7), torch.rand(sum(SIZES), 2)
    live = latent_features(net, VoxelView(uv, tokens), topology)
    agree("mean", live, net(sample_at(patch_map(tokens), uv, topology), topology).mean, 1e-6)
    tokens = tokens.clone()
    tokens[1] = 0
    mixed = VoxelView(uv, tokens).with_latent(net, topology).latent
    assert mixed is not None
    null = topology.item == 1
    assert mixed[null].abs().max() == 0
    agree("live items of a mixed batch", mixed[~null], live[~null], 1e-6)
    # Dark patches alone are no null condition: the class token and the registers decide.
    tokens[1, 0, 3] = 0.1
    assert latent_features(net, VoxelView(uv, tokens), topology)[null].abs().max() > 0


def test_the_null_view_is_zero_and_keeps_the_places(topology):
    view = VoxelView(
        uv=torch.rand(sum(SIZES), 2),
        tokens=torch.randn(3, 21, 7),
        image=torch.rand(3, 3, 8, 8),
        latent=torch.randn(sum(SIZES), 5),
        position_table=torch.randn(1, 17, 4),
    )
    null = view.null()
    for value in (null.tokens, null.image, null.latent):
        assert value is not None and value.abs().max() == 0
    assert null.uv is view.uv and null.position_table is view.position_table
    assert VoxelView(view.uv, view.tokens).null().image is None


def block_seen_along_z(offset: float) -> tuple[VoxelTopology, Tensor, Tensor, Tensor]:
    """A solid 16^3 block in two copies, an orthographic camera looking down z; returns uv, depth and layer too."""
    side = 16
    cells = torch.cartesian_prod(*[torch.arange(side)] * 3)
    coords = torch.cat([F.pad(cells, (1, 0), value=item) for item in (0, 1)])
    topology = VoxelTopology.build(coords, side)
    uv = (coords[:, 1:3] + 0.5) / side * 0.8 + offset
    layer = coords[:, 3]
    return topology, uv, 2 - (layer + 0.5) / side, layer


def test_the_front_of_a_solid_block_is_visible_and_hides_the_rest():
    topology, uv, depth, layer = block_seen_along_z(0.1)
    visible = visible_voxels(uv, depth, topology, cells=16)
    assert visible[layer >= 14].all()
    assert (visible[layer < 12] == 0).all()
    # A block behind another, in the other item, hides nothing and is not hidden.
    behind = torch.where(topology.item == 1, depth + 5, depth)
    assert torch.equal(visible_voxels(uv, behind, topology, cells=16), visible)


def test_voxels_outside_the_image_are_not_visible():
    topology, uv, depth, layer = block_seen_along_z(0.5)
    visible = visible_voxels(uv, depth, topology, cells=16)
    outside = (uv > 1).any(dim=1)
    assert outside.any() and (visible[outside] == 0).all()
    assert visible[~outside & (layer == 15)].all()
