"""Laws of the image encoder: order of tokens, positions at other sizes, visibility, refusals."""

import pytest
import torch
from torch import nn

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.image_encoder import DinoVisionTransformer, image_encoder_args, token_visibility


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def encoder(**changes) -> DinoVisionTransformer:
    made = DinoVisionTransformer(**{"img_size": 56, "embed_dim": 32, "depth": 2, "num_heads": 4, **changes})
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval()


def test_tokens_are_normalized_and_ordered_row_by_row():
    network, image = encoder(depth=0), torch.rand(1, 3, 56, 56)
    tokens = network(image)
    assert tokens.shape == (1, network.num_prefix_tokens + 16, 32)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(1, 21), atol=1e-5, rtol=0)
    for row, column in ((0, 3), (2, 1)):
        changed = image.clone()
        changed[..., 14 * row : 14 * row + 14, 14 * column : 14 * column + 14] = 0.0
        moved = (network(changed) - tokens).abs().amax(-1)[0] > 1e-6
        assert moved.nonzero().flatten().tolist() == [network.num_prefix_tokens + 4 * row + column]


def test_registers_get_no_position():
    network, image = encoder(depth=0), torch.rand(1, 3, 56, 56)
    before = network.hidden(image)
    network.pos_embed += 1.0
    shift = network.hidden(image) - before
    torch.testing.assert_close(shift[:, 1:5], torch.zeros(1, 4, 32))
    torch.testing.assert_close(shift[:, [0, *range(5, 21)]], torch.ones(1, 17, 32), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 3), (2, 2), (8, 8)])
def test_positions_of_a_constant_table_stay_constant(rows, columns):
    network = encoder()
    nn.init.constant_(network.pos_embed, 0.75)
    positions = network._positions(rows, columns)[1]
    torch.testing.assert_close(positions, torch.full((1, rows * columns, 32), 0.75))


def test_positions_of_a_ramp_stay_a_ramp():
    """Twice the rows: between the borders, the position of a patch is where the patch is."""
    network = encoder(img_size=14 * 16)
    ramp = (torch.arange(16.0) + 0.5)[:, None, None].expand(16, 16, 32)
    network.pos_embed[0, 1:] = ramp.reshape(-1, 32)
    positions = network._positions(32, 16)[1].view(32, 16, 32)[:, 0, 0]
    expected = (torch.arange(32.0) + 0.5) / 2
    torch.testing.assert_close(positions[4:-4], expected[4:-4], atol=1e-4, rtol=0)


def test_brightness_matters():
    network, image = encoder(), torch.rand(1, 3, 56, 56)
    assert (network(image) - network(image * 0.5)).abs().max() > 1e-3


def test_it_exports_and_runs_in_half_precision():
    network, image = encoder(), torch.rand(2, 3, 56, 56)
    exported = torch.export.export(network, (torch.rand(2, 3, 56, 56),)).module()
    full = network(image)
    torch.testing.assert_close(exported(image), full, atol=1e-5, rtol=1e-5)
    half = network.to_precision(torch.bfloat16)(image)
    assert half.dtype == torch.float32 and 0 < (half - full).norm() / full.norm() < 0.05


@pytest.mark.parametrize("name", ["dinov2_vits14_reg", "dinov2_vitb14_reg", "dinov2_vitl14_reg"])
def test_official_variants_have_the_37_by_37_table(name):
    with torch.device("meta"):
        network = DinoVisionTransformer(**image_encoder_args(name))
    width = network.embed_dim
    assert network.pos_embed.shape == (1, 1370, width) and network.register_tokens.shape == (1, 4, width)
    assert width % 64 == 0 and network.blocks[0].attn.num_heads == width // 64
    # Of each block 12 w^2 + 15 w, besides the tokens, the patch layer and the last norm.
    expected = len(network.blocks) * (12 * width**2 + 15 * width) + width * (1370 + 4 + 2 + 588 + 1 + 2)
    assert sum(value.numel() for value in network.parameters()) == expected


def test_visibility_is_the_mean_of_each_patch():
    visible = torch.ones(1, 1, 28, 42)
    visible[..., :14, 14:28] = 0.0
    visible[..., 14:, 28:35] = 0.0
    weights = token_visibility(visible, 14, 5)
    assert weights.tolist() == [[1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 0.5]]


def test_refusals():
    with pytest.raises(InvalidTensorError, match="57x56"):
        encoder()(torch.rand(1, 3, 56, 57))
    with pytest.raises(ConfigError, match="dinov2_vitl14_reg"):
        image_encoder_args("dinov3")
    with pytest.raises(ConfigError, match="swiglu"):
        encoder(ffn_layer="swiglu")
