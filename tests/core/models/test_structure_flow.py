"""Laws of the stage-1 flow network: the cached path, batches, tracing, precision, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cupid_core.config import SamplerConfig
from cupid_core.errors import ConfigError, InputError
from cupid_core.models.layers.attention import KeyValue
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.sample import sample, sampling_times

SIZES: dict[str, Any] = {
    "resolution": 4,
    "in_channels": 6,
    "model_channels": 48,
    "cond_channels": 20,
    "out_channels": 6,
    "num_blocks": 2,
    "num_heads": 4,
    "patch_size": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {"qk_rms_norm": True},
    "shared": {"share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True},
    "patches": {"patch_size": 2, "mlp_ratio": 2},
    "occluded": {"occlusion_aware": True},
}


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def network(**changes: Any) -> SparseStructureFlowModel:
    """A small network whose every parameter is random, also those that start at zero."""
    torch.manual_seed(1)
    made = SparseStructureFlowModel(**{**SIZES, **changes}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def inputs(items: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    noise = NoiseSource(3)
    return noise.draw((items, 6, 4, 4, 4)), torch.linspace(900, 100, items), noise.draw((items, 9, 20))


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_sampling_equals_the_plain_path(variant):
    """Two objects, three samples each, guidance: one cached batch against two plain calls with copied contexts."""
    net, config = network(**VARIANTS[variant]), SamplerConfig(steps=4, solver="heun", guidance_strength=2.0)
    start, _, context = inputs(6)
    context = context[:2]
    weights = torch.rand(2, 9) if variant == "occluded" else None
    conditioning = net.condition(context, sampling_times(config), weights)
    fast = sample(net.velocity(conditioning), net.velocity(conditioning, null_half=True), start, config)
    copies = context.repeat_interleave(3, 0)
    copied_weights = None if weights is None else weights.repeat_interleave(3, 0)

    def plain(x: Tensor, time: float, under: Tensor) -> Tensor:
        return net(x, torch.full((6,), 1000 * time), under, copied_weights)

    def plain_stacked(x: Tensor, time: float) -> Tensor:
        return torch.cat([plain(x[:6], time, copies), plain(x[6:], time, torch.zeros_like(copies))])

    slow = sample(lambda x, time: plain(x, time, copies), plain_stacked, start, config)
    assert slow.std() > 0.5
    torch.testing.assert_close(fast, slow, atol=2e-4, rtol=2e-4)


def test_items_of_a_batch_are_independent():
    net, (x, t, context) = network(), inputs(3)
    together = net(x, t, context)
    for item in range(3):
        part = slice(item, item + 1)
        torch.testing.assert_close(together[part], net(x[part], t[part], context[part]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_patches_are_put_back_where_they_came_from(patch_size):
    net = network(patch_size=patch_size)
    x = torch.arange(2 * 6 * 64.0).reshape(2, 6, 4, 4, 4)
    tokens = net._patchify(x)
    assert tokens.shape == (2, (4 // patch_size) ** 3, 6 * patch_size**3)
    assert torch.equal(net._unpatchify(tokens), x)
    assert torch.equal(tokens[:, 0].view(2, 6, -1)[:, :, 0], x[:, :, 0, 0, 0])


def test_a_fresh_network_is_zero_velocity():
    x, t, context = inputs()
    assert SparseStructureFlowModel(**SIZES)(x, t, context).abs().max() == 0


def test_occluded_tokens_do_not_matter_and_visible_ones_do():
    net, (x, t, context) = network(occlusion_aware=True), inputs()
    weights = torch.ones(2, 9)
    weights[:, 5] = 0.0
    changed = context.clone()
    changed[:, 5] += 3.0
    torch.testing.assert_close(net(x, t, changed, weights), net(x, t, context, weights), atol=1e-5, rtol=1e-4)
    assert (net(x, t, changed) - net(x, t, context)).abs().max() > 1e-3
    torch.testing.assert_close(net(x, t, context, torch.ones(2, 9)), net(x, t, context), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_torso_stays_near(dtype, bound):
    x, t, context = inputs()
    full = network(qk_rms_norm=True)(x, t, context)
    half = network(qk_rms_norm=True).to_precision(dtype)(x, t, context)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < bound


class Denoiser(nn.Module):
    """The cached step as a graph of tensors only."""

    def __init__(self, net: SparseStructureFlowModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, modulations: Tensor, *memory: Tensor) -> Tensor:
        pairs = [KeyValue(key, value) for key, value in zip(memory[::2], memory[1::2], strict=True)]
        return self.net.denoise(x, modulations, pairs, null_items=1)


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_step_traces_and_the_trace_generalizes():
    net, (x, _, context) = network(qk_rms_norm=True), inputs()

    def arguments(number: int) -> tuple[Tensor, ...]:
        made = net.condition(context[number : number + 1], (0.2, 0.8))
        return (x + number, made.at((0.8, 0.2)[number]), *(part for memory in made.memories for part in memory))

    traced = torch.jit.trace(Denoiser(net), arguments(0))
    torch.testing.assert_close(traced(*arguments(1)), Denoiser(net)(*arguments(1)), atol=1e-5, rtol=1e-5)


def test_the_plain_path_exports():
    net, (x, t, context) = network(qk_rms_norm=True), inputs()
    exported = torch.export.export(net, (x, t, context)).module()
    torch.testing.assert_close(exported(x + 1, t / 2, -context), net(x + 1, t / 2, -context), atol=1e-5, rtol=1e-5)


def test_gradients_reach_every_parameter():
    net, (x, t, context) = network(share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True), inputs()
    with torch.enable_grad():
        net(x, t, context).square().sum().backward()
    without = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


def test_refusals():
    net, (x, t, context) = network(), inputs()
    with pytest.raises(InputError, match="not occlusion aware"):
        net(x, t, context, torch.ones(2, 9))
    with pytest.raises(InputError, match="not occlusion aware"):
        net.condition(context, (1.0,), torch.ones(2, 9))
    with pytest.raises(InputError, match=r"0\.25 is not among"):
        net.velocity(net.condition(context, (1.0, 0.0)))(x, 0.25)
    with pytest.raises(ConfigError, match="rope"):
        network(pe_mode="rope")
    with pytest.raises(ConfigError, match="does not divide"):
        network(patch_size=3)
