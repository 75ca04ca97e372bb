"""Laws of the structure autoencoder: shapes, resampling, tracing, precision."""

import pytest
import torch
from torch import nn

from cupid_core.errors import ConfigError
from cupid_core.models.structure_vae import (
    ResBlock3d,
    SparseStructureDecoder,
    SparseStructureEncoder,
    Upsample3d,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def encoder(**changes):
    made = SparseStructureEncoder(
        **{"in_channels": 1, "latent_channels": 4, "num_res_blocks": 1, "channels": [8, 12, 16], **changes}
    )
    return randomized(made)


def decoder(**changes):
    made = SparseStructureDecoder(
        **{"out_channels": 3, "latent_channels": 4, "num_res_blocks": 1, "channels": [16, 12, 8], **changes}
    )
    return randomized(made)


def randomized(network: nn.Module):
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_upsampling_puts_each_channel_in_its_child():
    layer, x = Upsample3d(2, 3), torch.randn(1, 2, 3, 2, 4)
    flat, out = layer.conv(x), layer(x)
    assert out.shape == (1, 3, 6, 4, 8)
    for c in range(3):
        for i in (0, 1):
            for j in (0, 1):
                for k in (0, 1):
                    child = out[:, c, i::2, j::2, k::2]
                    assert torch.equal(child, flat[:, 8 * c + 4 * i + 2 * j + k])


def test_a_fresh_residual_block_is_the_identity():
    x = torch.randn(2, 8, 3, 3, 3)
    assert torch.equal(ResBlock3d(8)(x), x)


def test_every_level_halves_and_doubles_the_edge():
    mean, logvar = encoder()(torch.randn(2, 1, 16, 16, 16))
    assert mean.shape == logvar.shape == (2, 4, 4, 4, 4)
    assert not torch.equal(mean, logvar)
    assert decoder()(mean).shape == (2, 3, 16, 16, 16)


def test_items_of_a_batch_are_independent():
    network, x = encoder(channels=[8, 32], norm_type="group"), torch.randn(3, 1, 8, 8, 8)
    together = network(x)[0]
    for item in range(3):
        alone = network(x[item : item + 1])[0]
        torch.testing.assert_close(together[item : item + 1], alone, atol=1e-5, rtol=1e-5)


def test_far_voxels_are_independent():
    """A convolutional decoder has a finite reach; a leak over the whole volume would be a wrong reshape."""
    network = decoder(channels=[16, 12], num_res_blocks=1, num_res_blocks_middle=0)
    z = torch.randn(1, 4, 12, 4, 4)
    other = z.clone()
    other[:, :, 0] += 1.0
    difference = (network(z) - network(other)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[0] > 0 and difference[-1] == 0


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_both_trace():
    for network, shape in ((encoder(), (2, 1, 8, 8, 8)), (decoder(), (2, 4, 2, 2, 2))):
        traced = torch.jit.trace(network, torch.randn(shape))
        again = torch.randn(shape)
        torch.testing.assert_close(traced(again), network(again), atol=1e-5, rtol=1e-5)


def test_half_precision_torso_stays_near():
    z = torch.randn(1, 4, 4, 4, 4)
    network = decoder()
    full = network(z)
    half = network.to_precision(torch.bfloat16)(z)
    assert half.dtype == torch.float32 and 0 < (half - full).norm() / full.norm() < 0.05


def test_unknown_norm_is_refused():
    with pytest.raises(ConfigError, match="batch"):
        encoder(norm_type="batch")
