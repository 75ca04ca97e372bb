"""The pyramid has the interface of the image encoders, and every cell depends on the whole view."""

import pytest
import torch

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.conv_image_pyramid import ConvImagePyramid
from cupid_core.models.image_encoder import ImageEncoder, token_visibility
from cupid_core.models.registry import network_class


def tiny(**changes):
    torch.manual_seed(0)
    return ConvImagePyramid(**{"img_size": 64, "channels": (8, 8, 16, 16, 24), "embed_dim": 24, **changes})


def test_tokens_are_those_of_an_image_encoder():
    encoder = tiny()
    assert isinstance(encoder, ImageEncoder)
    image = torch.rand(2, 4, 64, 64)
    tokens = encoder(image)
    assert encoder.native_grid == 8
    assert encoder.patch_size == 8
    assert tokens.shape == (2, 1 + 64, 24)
    assert encoder.pos_embed.shape == (1, 1 + 64, 24)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 65), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(2, 65), atol=1e-3, rtol=0)
    assert token_visibility(image[:, :1], 8, encoder.num_prefix_tokens).shape == tokens.shape[:2]


def test_a_shrunk_view_is_its_own_average():
    encoder = tiny(channels=(8, 8, 16, 16), shrink=2)
    assert encoder.native_grid == 4 and encoder.patch_size == 16
    small = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    image = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    image[:, :, ::2] += 0.1
    image[:, :, 1::2] -= 0.1
    plain = tiny(img_size=32, channels=(8, 8, 16, 16))
    plain.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(image), plain(small), atol=1e-4, rtol=0)


def test_a_change_is_felt_most_where_it_is_and_a_little_everywhere():
    encoder = tiny().eval()
    image = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    changed = image.clone()
    changed[..., 18:22, 42:46] = 1.0 - image[..., 18:22, 42:46]  # row 2, column 5 of 8 x 8 cells
    with torch.no_grad():
        difference = (encoder(changed) - encoder(image)).abs().sum(-1)[0, 1:].view(8, 8)
    near = difference[1:4, 4:7]
    assert float(near.mean()) > 1.5 * float(difference[5:, :4].mean())
    assert float(difference.min()) > 0


def test_an_item_does_not_depend_on_the_rest_of_the_batch():
    encoder, image = tiny(), torch.rand(3, 4, 64, 64)
    for module in (encoder.train(), encoder.eval()):
        torch.testing.assert_close(module(image)[1:2], module(image[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_torso_stays_close(dtype):
    encoder, image = tiny(), torch.rand(2, 4, 64, 64)
    with torch.no_grad():
        exact = encoder(image)
        rounded = encoder.to_precision(dtype)(image)
    assert rounded.dtype == torch.float32
    assert encoder.down[0][0].first_norm.weight.dtype == torch.float32
    assert float((rounded - exact).abs().mean()) < 0.05


def test_gradients_reach_every_parameter():
    encoder = tiny()
    encoder(torch.rand(2, 4, 64, 64)).square().sum(-1).mul(torch.arange(65.0)).mul(0.01).sum().backward()
    encoder(torch.rand(2, 4, 64, 64)).mul(torch.randn(2, 65, 24)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in encoder.parameters())


def test_wrong_input_is_refused():
    with pytest.raises(InvalidTensorError, match=r"\(4, 64, 64\)"):
        tiny()(torch.rand(1, 3, 64, 64))
    for wrong in ({"img_size": 48}, {"shrink": 4}, {"planes": ("mask", "rgb")}, {"channels": (8, 8, 8)}):
        with pytest.raises(ConfigError):
            tiny(**wrong)
    assert network_class("ConvImagePyramid", origin="image_encoder") is ConvImagePyramid
