"""Laws of the stage-2 flow: the cached path, batches, order, tracing, precision, every variant, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cupid_core.config import SamplerConfig
from cupid_core.errors import ConfigError, InputError, InvalidTensorError
from cupid_core.models.appearance_conditioning import FlowModulations
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_variants import PoseConditioning, appearance_flow
from cupid_core.models.layers.attention import KeyValue
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.topology import VoxelTopology
from cupid_core.sampling.sample import sample, sampling_times

R = 8
SIZES = [30, 8, 61]
PATCHES = 3
FLOW: dict[str, Any] = {
    "resolution": R,
    "in_channels": 6,
    "model_channels": 32,
    "cond_channels": 20,
    "out_channels": 6,
    "num_blocks": 2,
    "num_heads": 4,
    "mlp_ratio": 2,
    "io_block_channels": [8],
    "qk_rms_norm": True,
}
POSE: dict[PoseConditioning, dict[str, Any]] = {
    PoseConditioning.NONE: {},
    PoseConditioning.POSITION: {"cond_latent_channels": 5, "cond_pos_embed_channels": 7},
    PoseConditioning.LATENT: {"cond_latent_channels": 5},
    PoseConditioning.LATENT_VISIBLE: {"cond_latent_channels": 5},
    PoseConditioning.LATENT_VISUAL: {"cond_latent_channels": 5, "visual_feat_resolution": 16},
    PoseConditioning.SPATIAL: {"cond_latent_channels": 5},
}
SHAPES: dict[str, dict[str, Any]] = {
    "published": {},
    "no skips": {"use_skip_connection": False, "num_io_res_blocks": 1},
    "two levels": {"io_block_channels": [8, 16], "patch_size": 4},
    "all voxels": {"io_block_channels": None, "patch_size": 1},
    "shared": {"share_mod": True, "qk_rms_norm_cross": True},
    "occluded": {"occlusion_aware": True},
}
BOUND = {"atol": 3e-4, "rtol": 3e-4}


@pytest.fixture(autouse=True)
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def network(variant: PoseConditioning = PoseConditioning.NONE, **changes: Any) -> SLatFlowModel:
    """A small network whose every parameter is random, also those that start at zero."""
    torch.manual_seed(1)
    made = appearance_flow(variant, **{**FLOW, **POSE[variant], **changes}).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.15)
    return made


def view_of(coords: Tensor, images: int) -> VoxelView:
    count = len(coords)
    return VoxelView(
        uv=torch.rand(count, 2),
        tokens=torch.randn(images, 5 + PATCHES**2, 20),
        image=torch.rand(images, 3, 24, 24),
        latent=torch.randn(count, 5),
        visible=(torch.rand(count) > 0.5).float(),
        position_table=torch.randn(1, 1 + PATCHES**2, 7),
    )


def compare_paths(agree, net: SLatFlowModel, coords: Tensor, view: VoxelView, weights: Tensor | None) -> None:
    """One cached batch with guidance against plain calls that know nothing of it."""
    items, copies = int(coords[:, 0].max()) + 1, (int(coords[:, 0].max()) + 1) // len(view.tokens)
    topology = VoxelTopology.build(coords, R, levels=net.levels)
    config = SamplerConfig(steps=3, solver="heun", guidance_strength=2.0, rescale_t=2.0)
    start = torch.randn(len(coords), 6)
    conditioning = net.condition(view.tokens, sampling_times(config), topology, view=view, cond_weights=weights)
    fast = sample(net.velocity(conditioning), net.velocity(conditioning, null_half=True), start, config)
    context = view.tokens.repeat_interleave(copies, 0)
    spread = None if weights is None else weights.repeat_interleave(copies, 0)

    def plain(x: Tensor, time: float, under: Tensor, seen: VoxelView) -> Tensor:
        times = torch.full((items,), 1000 * time)
        pose = net.pose_features(seen, topology)
        return net(x, times, under, topology, pose=pose, cond_weights=spread)

    def stacked(x: Tensor, time: float) -> Tensor:
        first, second = x.chunk(2)
        free = plain(second, time, torch.zeros_like(context), view.null())
        return torch.cat([plain(first, time, context, view), free])

    slow = sample(lambda x, time: plain(x, time, context, view), stacked, start, config)
    assert slow.std() > 0.5
    agree("cached and batched", fast, slow, BOUND)


@pytest.mark.parametrize("variant", PoseConditioning, ids=lambda v: v.value)
def test_cached_sampling_equals_the_plain_path(agree, voxels, variant):
    coords = voxels(SIZES, R, 2)
    compare_paths(agree, network(variant), coords, view_of(coords, 3), None)


@pytest.mark.parametrize("shape", SHAPES)
def test_cached_sampling_equals_the_plain_path_in_every_shape(agree, voxels, shape):
    """Two images, two hypotheses each."""
    coords = voxels([30, 8, 61, 22], R, 2)
    net = network(**SHAPES[shape])
    weights = torch.rand(2, 5 + PATCHES**2) if net.occlusion_aware else None
    compare_paths(agree, net, coords, view_of(coords, 2), weights)


@pytest.mark.parametrize("variant", PoseConditioning, ids=lambda v: v.value)
def test_a_batch_equals_its_items_alone(agree, voxels, variant):
    coords, net = voxels(SIZES, R, 3), network(variant)
    topology = VoxelTopology.build(coords, R, levels=1)
    view, x, t = view_of(coords, 3), torch.randn(len(coords), 6), torch.tensor([900.0, 500.0, 20.0])
    together = net(x, t, view.tokens, topology, pose=net.pose_features(view, topology))
    for item in range(3):
        own = topology.rows_of(item)
        alone = VoxelTopology.build(coords[own] * torch.tensor([0, 1, 1, 1]), R, levels=1)
        part = slice(item, item + 1)
        single = VoxelView(
            view.uv[own], view.tokens[part], view.image[part], view.latent[own], view.visible[own],
            view.position_table,
        )  # fmt: skip
        pose = net.pose_features(single, alone)
        out = net(x[own], t[part], single.tokens, alone, pose=pose)
        agree(f"item {item} of {SIZES[item]} voxels", out, together[own], BOUND)


def test_the_order_of_voxels_does_not_matter(agree, voxels):
    coords, net = voxels(SIZES, R, 4), network()
    x, t, context = torch.randn(len(coords), 6), torch.full((3,), 300.0), torch.randn(3, 4, 20)
    order = torch.randperm(len(coords))
    plain = net(x, t, context, VoxelTopology.build(coords, R, levels=1))
    shuffled = net(x[order], t, context, VoxelTopology.build(coords[order], R, levels=1))
    agree("shuffled", shuffled, plain[order], BOUND)


def test_the_null_branch_does_not_depend_on_the_image(voxels):
    coords, net = voxels(SIZES, R, 4), network(PoseConditioning.LATENT_VISUAL)
    topology = VoxelTopology.build(coords, R, levels=1)
    x = torch.randn(2 * len(coords), 6)
    view = view_of(coords, 3)
    other = VoxelView(view.uv, view.tokens + 1, 1 - view.image, view.latent * 2)
    made = [
        net.velocity(net.condition(v.tokens, (0.5,), topology, view=v), null_half=True)(x, 0.5).chunk(2)
        for v in (view, other)
    ]
    assert (made[0][0] - made[1][0]).abs().max() > 1e-2
    assert torch.equal(made[0][1], made[1][1])


def test_a_fresh_network_is_zero_velocity(voxels):
    coords = voxels(SIZES, R)
    topology = VoxelTopology.build(coords, R, levels=1)
    out = SLatFlowModel(**FLOW)(torch.randn(len(coords), 6), torch.ones(3), torch.randn(3, 4, 20), topology)
    assert out.abs().max() == 0


def test_invisible_tokens_do_not_matter_and_visible_ones_do(agree, voxels):
    coords, net = voxels(SIZES, R), network(occlusion_aware=True)
    topology = VoxelTopology.build(coords, R, levels=1)
    x, t, context = torch.randn(len(coords), 6), torch.full((3,), 300.0), torch.randn(3, 4, 20)
    weights = torch.ones(3, 4)
    weights[:, 2] = 0
    changed = context.clone()
    changed[:, 2] += 3
    hidden = [net(x, t, c, topology, cond_weights=weights) for c in (context, changed)]
    agree("hidden token", *hidden, {"atol": 1e-5, "rtol": 1e-4})
    assert (net(x, t, context, topology) - net(x, t, changed, topology)).abs().max() > 1e-3


def test_an_occlusion_aware_network_reads_the_mask_as_a_fourth_channel(voxels):
    coords = voxels(SIZES, R)
    topology, view = VoxelTopology.build(coords, R, levels=1), view_of(coords, 3)
    net = network(PoseConditioning.LATENT_VISUAL, occlusion_aware=True)
    image = torch.cat([view.image, torch.ones(3, 1, 24, 24)], dim=1)
    masked = VoxelView(view.uv, view.tokens, image, view.latent)
    half = torch.cat([view.image, torch.zeros(3, 1, 24, 24)], dim=1)
    other = VoxelView(view.uv, view.tokens, half, view.latent)
    assert (net.pose_features(masked, topology) - net.pose_features(other, topology)).abs().max() > 1e-2


def test_the_latent_of_occluded_voxels_is_zero(voxels):
    coords = voxels(SIZES, R)
    topology, view = VoxelTopology.build(coords, R, levels=1), view_of(coords, 3)
    made = network(PoseConditioning.LATENT_VISIBLE).pose_features(view, topology)
    assert torch.equal(made != 0, (view.visible[:, None] > 0).expand_as(made))
    assert torch.equal(made[view.visible > 0], view.latent[view.visible > 0])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_half_precision_torso_stays_near(voxels, dtype, bound):
    coords = voxels(SIZES, R)
    topology = VoxelTopology.build(coords, R, levels=1)
    x, t, context = torch.randn(len(coords), 6), torch.full((3,), 300.0), torch.randn(3, 4, 20)
    full = network()(x, t, context, topology)
    half = network().to_precision(dtype)(x, t, context, topology)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < bound


class Step(nn.Module):
    """A cached step as a graph of tensors only: rows, topology, modulations, keys and values."""

    def __init__(self, net: SLatFlowModel, template: VoxelTopology) -> None:
        super().__init__()
        self.net, self.template = net, template
        self.tables = len(template.tensors())
        self.outer = len(net.input_blocks) + len(net.out_blocks)

    def forward(self, x: Tensor, pose: Tensor, *rest: Tensor) -> Tensor:
        topology = self.template.with_tensors(rest[: self.tables])
        rest = rest[self.tables :]
        modulations = FlowModulations(rest[0], tuple(rest[1 : 1 + self.outer]))
        memory = rest[1 + self.outer :]
        pairs = [KeyValue(key, value) for key, value in zip(memory[::2], memory[1::2], strict=True)]
        return self.net.denoise(x, modulations, pairs, topology, pose=pose, null_items=topology.batch_size // 2)


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
def test_a_step_traces_and_the_trace_serves_other_objects(agree, voxels):
    """Traced on two objects with guidance, run on two others with other numbers of voxels."""
    net = network(PoseConditioning.LATENT_VISUAL)

    def arguments(sizes: list[int], seed: int) -> tuple[VoxelTopology, tuple[Tensor, ...]]:
        coords = voxels(sizes, R, seed)
        topology, view = VoxelTopology.build(coords, R, levels=1), view_of(coords, 2)
        made = net.condition(view.tokens, (0.2, 0.8), topology, view=view)
        both = topology.repeat(2)
        modulations = made.at(0.8)
        memory = [part for pair in made.context.memories for part in pair]
        pose = torch.cat([made.pose, made.null_pose])
        x = torch.randn(2 * len(coords), 6)
        return both, (x, pose, *both.tensors(), modulations.inner, *modulations.outer, *memory)

    template, first = arguments([30, 12], 1)
    step = Step(net, template)
    traced = torch.jit.trace(step, first, check_trace=False)
    _, second = arguments([17, 44], 2)
    agree("trace on other voxels", traced(*second), step(*second), BOUND)


def test_gradients_reach_every_parameter(voxels):
    coords = voxels(SIZES, R)
    topology, view = VoxelTopology.build(coords, R, levels=1), view_of(coords, 3)
    net = network(PoseConditioning.LATENT_VISUAL, share_mod=True)
    with torch.enable_grad():
        pose = net.pose_features(view, topology)
        out = net(torch.randn(len(coords), 6), torch.full((3,), 300.0), view.tokens, topology, pose=pose)
        out.square().sum().backward()
    without = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


def test_refusals(voxels):
    coords = voxels(SIZES, R)
    flat, topology = VoxelTopology.build(coords, R), VoxelTopology.build(coords, R, levels=1)
    x, t, context = torch.randn(len(coords), 6), torch.full((3,), 300.0), torch.randn(3, 14, 20)
    net, told = network(), network(PoseConditioning.LATENT_VISUAL)
    bare = VoxelView(torch.rand(len(coords), 2), context)
    with pytest.raises(InputError, match="levels"):
        net(x, t, context, flat)
    with pytest.raises(InputError, match="grid of 16"):
        net(x, t, context, VoxelTopology.build(coords, 2 * R, levels=1))
    with pytest.raises(InputError, match="not occlusion aware"):
        net(x, t, context, topology, cond_weights=torch.ones(3, 14))
    with pytest.raises(InputError, match="features are missing"):
        told(x, t, context, topology)
    with pytest.raises(InputError, match="needs a latent"):
        told.condition(context, (1.0,), topology, view=bare)
    with pytest.raises(InputError, match="50 image positions"):
        net.condition(context, (1.0,), topology, view=VoxelView(torch.rand(50, 2), context))
    with pytest.raises(InvalidTensorError, match="latent is"):
        VoxelView(bare.uv, context, latent=torch.zeros(5, 5))
    with pytest.raises(InputError, match="needs a view"):
        told.condition(context, (1.0,), topology)
    with pytest.raises(InputError, match="is not among"):
        net.velocity(net.condition(context, (1.0,), topology))(x, 0.5)
    with pytest.raises(InputError, match="Use one of none"):
        appearance_flow("nothing", **FLOW)
    with pytest.raises(ConfigError, match="rope"):
        network(pe_mode="rope")
    with pytest.raises(ConfigError, match="patch_size=2"):
        network(patch_size=1)
