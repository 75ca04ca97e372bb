"""Laws of attention and blocks: padding, weights, folding of samples, the constant of the null context."""

import pytest
import torch
from torch import Tensor

from cupid_core.models.layers.attention import (
    CrossAttention,
    KeyValue,
    SelfAttention,
    padding_bias,
    visibility_bias,
)
from cupid_core.models.layers.blocks import ModulatedCrossBlock, TransformerBlock
from cupid_core.models.layers.norms import ChannelLayerNorm32, MultiHeadRMSNorm
from cupid_core.models.layers.precision import cast_torso

CHANNELS, CONTEXT, HEADS = 24, 16, 3
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def cross(rms: bool = False) -> CrossAttention:
    layer = CrossAttention(CHANNELS, CONTEXT, HEADS, qk_rms_norm=rms)
    if rms:
        for norm in (layer.q_rms_norm, layer.k_rms_norm):
            torch.nn.init.normal_(norm.gamma)
    return layer


def by_hand(layer: CrossAttention, x: Tensor, context: Tensor, weights: Tensor | None = None) -> Tensor:
    """Softmax attention written out for one item."""
    query = layer.to_q(x).view(-1, HEADS, CHANNELS // HEADS)
    key, value = layer.to_kv(context).view(-1, 2, HEADS, CHANNELS // HEADS).unbind(1)
    logits = torch.einsum("qhd,khd->hqk", query, key) / (CHANNELS // HEADS) ** 0.5
    share = logits.exp() * (1.0 if weights is None else weights + 1e-7)
    share = share / share.sum(-1, keepdim=True)
    return layer.to_out(torch.einsum("hqk,khd->qhd", share, value).reshape(-1, CHANNELS))


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_attention_is_the_weighted_softmax(weighted):
    layer, x, context = cross(), torch.randn(2, 5, CHANNELS), torch.randn(2, 7, CONTEXT)
    weights = torch.rand(2, 7)
    bias = visibility_bias(weights) if weighted else None
    out = layer(x, layer.key_value(context), bias)
    for item in range(2):
        expected = by_hand(layer, x[item], context[item], weights[item] if weighted else None)
        torch.testing.assert_close(out[item], expected, **CLOSE)


def test_full_visibility_is_no_bias_and_none_removes_the_token():
    layer, x, context = cross(), torch.randn(1, 5, CHANNELS), torch.randn(1, 7, CONTEXT)
    memory = layer.key_value(context)
    torch.testing.assert_close(layer(x, memory, visibility_bias(torch.ones(1, 7))), layer(x, memory), **CLOSE)
    weights = torch.ones(1, 7)
    weights[:, 3] = 0.0
    without = layer.key_value(torch.cat([context[:, :3], context[:, 4:]], dim=1))
    torch.testing.assert_close(layer(x, memory, visibility_bias(weights)), layer(x, without), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_zero_context_gives_the_constant(rms, weighted):
    layer, x = cross(rms), torch.randn(3, 5, CHANNELS)
    memory = layer.key_value(torch.zeros(3, 7, CONTEXT))
    bias = visibility_bias(torch.rand(3, 7)) if weighted else None
    torch.testing.assert_close(layer(x, memory, bias), layer.null_output().expand(3, 5, -1), **CLOSE)


@pytest.mark.parametrize("rms", [False, True])
def test_null_items_equal_attention_to_zeros(rms):
    layer, x, context = cross(rms), torch.randn(4, 5, CHANNELS), torch.randn(2, 7, CONTEXT)
    everything = layer(x, layer.key_value(torch.cat([context, torch.zeros(2, 7, CONTEXT)])))
    torch.testing.assert_close(layer(x, layer.key_value(context), null_items=2), everything, **CLOSE)


def test_several_samples_of_one_context_need_no_copies_of_it():
    layer, x, context = cross(), torch.randn(6, 5, CHANNELS), torch.randn(2, 7, CONTEXT)
    bias = visibility_bias(torch.rand(2, 7))
    copied = layer(x, layer.key_value(context.repeat_interleave(3, 0)), bias.repeat_interleave(3, 0))
    torch.testing.assert_close(layer(x, layer.key_value(context), bias), copied, **CLOSE)


@pytest.mark.parametrize("items", [3, 5])
def test_items_that_no_number_of_samples_explains_are_an_error(items):
    layer, memory = cross(), KeyValue(torch.zeros(2, HEADS, 4, 8), torch.zeros(2, HEADS, 4, 8))
    with pytest.raises(RuntimeError):
        layer(torch.zeros(items, 2, CHANNELS), memory)


def test_padding_changes_nothing_and_stays_finite():
    layer = SelfAttention(CHANNELS, HEADS, qk_rms_norm=True)
    lengths = torch.tensor([5, 2, 1])
    valid = torch.arange(5)[None] < lengths[:, None]
    x = torch.randn(3, 5, CHANNELS) * 50
    out = layer(x, padding_bias(valid))
    assert out.isfinite().all()
    for item, length in enumerate(lengths.tolist()):
        alone = layer(x[item : item + 1, :length])
        torch.testing.assert_close(out[item, :length], alone[0], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_padding_holds_in_half_precision(dtype):
    layer = SelfAttention(CHANNELS, HEADS).to(dtype)
    x = torch.randn(1, 4, CHANNELS, dtype=dtype)
    longer = torch.cat([x, torch.full((1, 3, CHANNELS), 9.0, dtype=dtype)], dim=1)
    out = layer(longer, padding_bias(torch.arange(7)[None] < 4))
    torch.testing.assert_close(out[:, :4], layer(x), atol=2e-2, rtol=2e-2)


def test_blocks_do_not_depend_on_the_order_of_tokens():
    x, order = torch.randn(2, 6, CHANNELS), torch.randperm(6)
    plain = TransformerBlock(CHANNELS, HEADS)
    torch.testing.assert_close(plain(x[:, order]), plain(x)[:, order], **CLOSE)
    block = ModulatedCrossBlock(CHANNELS, CONTEXT, HEADS, qk_rms_norm=True)
    memory, modulation = block.cross_kv(torch.randn(2, 7, CONTEXT)), torch.randn(2, 6 * CHANNELS)
    torch.testing.assert_close(
        block(x[:, order], modulation, memory), block(x, modulation, memory)[:, order], atol=1e-5, rtol=1e-5
    )


def test_zero_gates_leave_only_the_cross_attention():
    block = ModulatedCrossBlock(CHANNELS, CONTEXT, HEADS)
    x, memory = torch.randn(2, 6, CHANNELS), block.cross_kv(torch.randn(2, 7, CONTEXT))
    out = block(x, torch.zeros(1, 6 * CHANNELS), memory)
    torch.testing.assert_close(out, x + block.cross_attn(block.norm2(x), memory), **CLOSE)


def test_rms_norm_forgets_the_length_of_its_input():
    norm = MultiHeadRMSNorm(8, HEADS)
    x = torch.randn(4, HEADS, 8)
    torch.testing.assert_close(norm(x * 17.0), norm(x), **CLOSE)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(4, HEADS), **CLOSE)
    assert norm(torch.zeros(1, HEADS, 8)).abs().max() == 0


def test_channel_norm_standardises_every_voxel():
    out = ChannelLayerNorm32(16)(torch.randn(2, 16, 3, 3, 3) * 4 + 1)
    torch.testing.assert_close(out.mean(1), torch.zeros(2, 3, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(1, unbiased=False), torch.ones(2, 3, 3, 3), atol=1e-3, rtol=0)


def test_casting_the_torso_spares_norms_and_keeps_values():
    block = ModulatedCrossBlock(CHANNELS, CONTEXT, HEADS, qk_rms_norm=True)
    before = {name: value.clone() for name, value in block.named_parameters()}
    cast_torso([block], torch.float16)
    for name, value in block.named_parameters():
        spared = "norm" in name
        assert value.dtype == (torch.float32 if spared else torch.float16), name
        torch.testing.assert_close(value.float(), before[name], atol=1e-3, rtol=1e-3)
