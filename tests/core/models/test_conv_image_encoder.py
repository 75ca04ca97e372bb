"""The small image encoder has the interface of the published one."""

import pytest
import torch

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.image_encoder import DinoVisionTransformer, ImageEncoder, token_visibility
from cupid_core.models.registry import network_class


def tiny(**changes):
    torch.manual_seed(0)
    return ConvImageTransformer(
        **{"img_size": 32, "stem_channels": (8, 8, 16), "embed_dim": 24, "depth": 2, "num_heads": 3, **changes}
    )


def test_both_encoders_offer_the_same():
    published = DinoVisionTransformer(img_size=28, embed_dim=24, depth=1, num_heads=3)
    for encoder, grid in ((tiny(), 4), (published, 2)):
        assert isinstance(encoder, ImageEncoder)
        image = torch.rand(2, encoder.in_channels, encoder.img_size, encoder.img_size)
        tokens = encoder(image)
        assert encoder.native_grid == grid
        assert tokens.shape == (2, encoder.num_prefix_tokens + grid**2, encoder.embed_dim)
        assert encoder.pos_embed.shape == (1, 1 + grid**2, encoder.embed_dim)
        torch.testing.assert_close(tokens.mean(-1), torch.zeros(tokens.shape[:2]), atol=1e-5, rtol=0)
        torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(tokens.shape[:2]), atol=1e-3, rtol=0)
        visible = token_visibility(image[:, :1], encoder.patch_size, encoder.num_prefix_tokens)
        assert visible.shape == tokens.shape[:2]


def test_cells_are_where_the_image_is():
    encoder = tiny(depth=0, stem_residual=())
    image = torch.zeros(1, 4, 32, 32)
    changed = image.clone()
    changed[..., 12, 20] = 1.0  # row 12, column 20: cell (1, 2) of 4 x 4
    difference = (encoder(changed) - encoder(image)).abs().sum(-1)[0, encoder.num_prefix_tokens :]
    assert int(difference.argmax()) == 1 * 4 + 2
    assert int((difference > 1e-6).sum()) <= 4


def test_the_mask_matters_where_the_object_is_black():
    encoder = tiny()
    image = torch.zeros(1, 4, 32, 32)
    masked = image.clone()
    masked[:, 3, 8:24, 8:24] = 1.0
    assert float((encoder(masked) - encoder(image)).detach().abs().max()) > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_torso_stays_close(dtype):
    encoder, image = tiny(), torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        exact = encoder(image)
        rounded = encoder.to_precision(dtype)(image)
    assert rounded.dtype == torch.float32
    assert encoder.stem[0].norm.weight.dtype == torch.float32
    assert float((rounded - exact).abs().mean()) < 0.05


def test_gradients_reach_every_parameter_in_bfloat16_through_plain_and_fused_attention():
    encoder, image = tiny().to_precision(torch.bfloat16), torch.rand(2, 4, 32, 32)
    encoder(image).square().sum(-1).mul(torch.arange(21.0)).sum().backward()
    tokens = encoder(image).detach()
    with torch.no_grad():
        fused = encoder(image)
    assert float((fused - tokens).abs().mean()) < 0.03
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_wrong_input_is_refused():
    with pytest.raises(InvalidTensorError, match=r"\(4, 32, 32\)"):
        tiny()(torch.rand(1, 3, 32, 32))
    with pytest.raises(ConfigError):
        tiny(img_size=36)
    with pytest.raises(ConfigError):
        tiny(planes=("rgb", "depth"))
    assert network_class("ConvImageTransformer", origin="image_encoder") is ConvImageTransformer
