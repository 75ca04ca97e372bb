"""Sparse convolutions in the form of an exported graph: the same numbers as the form that torch runs."""

import pytest
import torch

from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.layers.gathered import GatheredConv3d, SubdividedConv3d, with_gathered_convolutions
from cupid_core.models.layers.sparse import SparseConv3d
from cupid_core.models.topology import VoxelTopology

R = 8
BOUND = 2e-5


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def topology(voxels):
    return VoxelTopology.build(voxels([40, 7, 90], R, 5), R, window_size=4, levels=1)


@pytest.mark.parametrize("offsets", [1, 3, 9, 27])
def test_a_gathered_convolution_equals_the_plain_one(topology, offsets, agree):
    plain = SparseConv3d(6, 5)
    gathered = GatheredConv3d(plain, offsets)
    fine, coarse = torch.randn(len(topology.coords), 6), torch.randn(len(topology.down.children), 6)
    with torch.no_grad():
        agree("same level", gathered(fine, topology), plain(fine, topology), BOUND)
        up = gathered.upsampled(coarse, topology.down)
        agree("coarse rows", up, plain.upsampled(coarse, topology.down), BOUND)


def test_a_subdivided_convolution_equals_that_of_the_copied_rows(topology, agree):
    plain = SparseConv3d(6, 5)
    rows = torch.randn(len(topology.coords), 6)
    with torch.no_grad():
        made = SubdividedConv3d(plain).subdivided(rows, topology)
        agree("against copies", made, plain(rows.repeat_interleave(8, dim=0), topology.subdivide()), BOUND)


def test_a_network_keeps_its_numbers_and_the_original_its_convolutions(topology, agree):
    decoder = SLatMeshDecoder(
        resolution=R, latent_channels=4, model_channels=256, num_blocks=1, num_heads=2, window_size=4
    ).eval()
    torch.nn.init.normal_(decoder.out_layer.weight, std=0.1)
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    gathered = with_gathered_convolutions(decoder)
    latent = torch.randn(len(topology.coords), 4)
    with torch.no_grad():
        agree("mesh decoder", gathered(latent, topology).rows, decoder(latent, topology).rows, 1e-4)
    assert not any(isinstance(module, SparseConv3d) for module in gathered.modules())
    assert all(torch.equal(value, before[name]) for name, value in decoder.state_dict().items())
    assert gathered.input_layer.weight is decoder.input_layer.weight
