"""Stage "appearance": it learns, every variant of the ablation trains, conditions are where they should be."""

import pytest
import torch
from appearance_cases import CHANNELS, CONTEXT, RESOLUTION, STAGE, frozen_networks, some_views, stage

from cupid_core.config import FlowTrainingConfig
from cupid_core.errors import ConfigError
from cupid_core.models.appearance_variants import PoseConditioning
from cupid_core.models.registry import network_class
from cupid_core.training.appearance_batch import collate, perturb_pose, project_voxels
from cupid_core.training.appearance_networks import make_networks
from cupid_core.training.appearance_settings import PoseNoiseSettings
from cupid_core.training.voxel_truth import VoxelGrid

VARIANTS = [variant.value for variant in PoseConditioning]


def with_network(**changes):
    return STAGE.model_copy(update={"network": STAGE.network.model_copy(update=changes)})


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def test_eight_samples_are_learnt_by_heart():
    trained = stage()
    batch = trained.batch(0)
    optimizer = torch.optim.AdamW(trained.networks.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    losses, steps = [], 110
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 10, 2 * (steps - step) / steps)
        loss = trained.loss(batch, seeded(step))
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(trained.networks.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert losses[0] > 1.0 and sum(losses[-5:]) / 5 < 0.06 * losses[0]
    with torch.no_grad():
        error = (trained.sample_latent(batch) - batch.latent).square().mean()
    assert error < 0.15 * batch.latent.var()


@pytest.mark.parametrize("occlusion_aware", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_and_exports_what_can_be_made_again(variant, occlusion_aware):
    trained = stage(with_network(conditioning=variant, occlusion_aware=occlusion_aware), some_views(2))
    assert ("slat_encoder" in trained.networks) == variant.startswith("latent")
    batch = trained.batch(0)
    stir(trained)
    loss = trained.loss(batch, seeded())
    loss.total.backward()
    silent = [name for name, p in trained.networks.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias on all keys alike changes no softmax.
    assert all("to_kv.bias" in name or "to_qkv.bias" in name for name in silent)
    with torch.no_grad():
        assert torch.isfinite(trained.sample_latent(batch)).all()
    exported = {network.key: network for network in trained.exports()}
    assert set(exported) == {"slat_flow_model"} | ({"slat_encoder"} if variant.startswith("latent") else set())
    for network in exported.values():
        again = network_class(network.class_name, origin="test")(**network.arguments)
        again.load_state_dict(network.network.state_dict())


def stir(trained):
    """Move all weights away from their first values, many of which are zero."""
    generator = seeded(1)
    with torch.no_grad():
        for parameter in trained.networks.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(
    ("variant", "depends"),
    [("none", False), ("position", True), ("latent", True), ("latent_visual", True), ("spatial", True)],
)
def test_the_place_of_a_voxel_matters_where_the_variant_says_so(variant, depends):
    trained = stage(with_network(conditioning=variant), some_views(2))
    stir(trained)
    batch = trained.batch(0)
    turned = batch.T_camera_object.clone()
    turned[:, 0, 3] += 0.2
    with torch.no_grad():
        here = float(trained.loss(batch, seeded()).total)
        moved = collate(some_views(2), trained.grid, "cpu")
        object.__setattr__(moved, "T_camera_object", turned)
        there = float(trained.loss(moved, seeded()).total)
    assert (here != there) == depends


def test_voxels_that_are_hidden_get_no_latent():
    trained = stage(with_network(conditioning="latent_visible"), some_views(1))
    stir(trained)
    batch = trained.batch(0)
    with torch.no_grad():
        _, view = trained._condition(batch, batch.T_camera_object, torch.ones(1))
        features = trained.flow.pose_features(view, batch.topology)
    assert view.visible is not None and int(view.visible.sum()) > 0
    assert not bool(features[view.visible == 0].any()) and bool(features[view.visible == 1].any())


def test_a_dropped_condition_leaves_nothing_of_the_image():
    settings = STAGE.model_copy(update={"flow": FlowTrainingConfig(condition_dropout=0.9999)})
    views = some_views(2)
    other = [type(view)(1 - view.image, *list(vars(view).values())[1:]) for view in views]
    first, second = stage(settings, views), stage(settings, other)
    stir(first)
    second.networks.load_state_dict(first.networks.state_dict())
    with torch.no_grad():
        same = [float(one.loss(one.batch(0), seeded()).total) for one in (first, second)]
    assert same[0] == same[1]
    shown = [stage(STAGE, which) for which in (views, other)]
    for one in shown:
        one.networks.load_state_dict(first.networks.state_dict())
    with torch.no_grad():
        differ = [float(one.loss(one.batch(0), seeded()).total) for one in shown]
    assert differ[0] != differ[1]


def test_what_is_hidden_reaches_an_occlusion_aware_flow_only():
    for aware in (False, True):
        trained = stage(with_network(occlusion_aware=aware), some_views(2))
        stir(trained)
        batch = trained.batch(0)
        with torch.no_grad():
            open_ = float(trained.loss(batch, seeded()).total)
            batch.unoccluded[:, :, :16] = 0
            hidden = float(trained.loss(batch, seeded()).total)
        assert (open_ != hidden) == aware


def test_first_weights_and_losses_follow_from_the_seeds_alone():
    first, second = stage(), stage()
    assert all(
        torch.equal(a, b) for a, b in zip(first.networks.parameters(), second.networks.parameters(), strict=True)
    )
    batch = first.batch(0)
    with torch.no_grad():
        losses = [float(one.loss(batch, seeded(n)).total) for one, n in ((first, 3), (second, 3), (first, 4))]
    assert losses[0] == losses[1] != losses[2]


def test_color_features_begin_as_the_colors_and_the_latent_speaks():
    made = make_networks(STAGE.network.model_copy(update={"visual_channels": (8, 4, 2)}), frozen_networks())
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first, second, third = made.flow.visual_conv_blocks
    colors = first(image)
    torch.testing.assert_close(colors[:, :3], 4 * image - 2)
    means = torch.nn.functional.avg_pool2d(colors[:, :3], 3, 2, padding=1)
    torch.testing.assert_close(second(colors)[:, :3], means)
    torch.testing.assert_close(
        third(second(colors)), torch.nn.functional.avg_pool2d(means, 3, 2, padding=1)[:, :2]
    )
    assert made.encoder is not None
    assert bool(made.encoder.out_layer.weight[: STAGE.network.condition_channels].any())


def test_disturbed_poses():
    views = some_views(64)
    T = torch.stack([view.T_camera_object for view in views])
    intrinsics = torch.stack([view.intrinsics for view in views])
    center = torch.zeros(64, 4, dtype=torch.int64)
    center[:, 0] = torch.arange(64)
    # The center of a grid of one voxel is the origin of the object.
    origin = VoxelGrid(1).index(center)
    uv, depth = project_voxels(origin, T, intrinsics)

    def disturbed(**settings):
        given = {"share": 1.0, "rotation_deg": 0.0, "shift": 0.0, "size": 0.0, **settings}
        return perturb_pose(T, intrinsics, PoseNoiseSettings(**given), seeded())

    torch.testing.assert_close(disturbed(), T)
    torch.testing.assert_close(disturbed(share=0.0, rotation_deg=20.0, shift=0.1, size=0.1), T)
    turned = disturbed(rotation_deg=5.0)
    angle = torch.rad2deg(torch.acos(((T[:, :3, :3] * turned[:, :3, :3]).sum((1, 2)) / 2 - 0.5).clamp(-1, 1)))
    assert 5.0 < float(angle.mean()) < 12.0  # three axes of 5 degrees each
    torch.testing.assert_close(project_voxels(origin, turned, intrinsics)[0], uv)
    shift = (project_voxels(origin, disturbed(shift=0.02), intrinsics)[0] - uv).std()
    assert 0.015 < float(shift) < 0.025
    nearer = disturbed(size=0.05)
    torch.testing.assert_close(project_voxels(origin, nearer, intrinsics)[0], uv)
    assert 0.035 < float((project_voxels(origin, nearer, intrinsics)[1] / depth).log().std()) < 0.065


def test_collating_keeps_every_view_whole():
    views = some_views(3)
    batch = collate(views, VoxelGrid(RESOLUTION, window=8, levels=1), "cpu")
    for item, view in enumerate(views):
        rows = batch.topology.rows_of(item)
        assert torch.equal(batch.topology.coords[rows, 1:], view.coords)
        assert torch.equal(batch.latent[rows], view.latent) and batch.latent.shape[1] == CHANNELS


def test_closing_the_stage_closes_its_source():
    trained = stage(views=some_views(1))
    trained.close()
    assert trained.source.closed


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match="heads"):
        make_networks(STAGE.network.model_copy(update={"heads": 3}), frozen_networks())
    assert CONTEXT.device.type == "cpu"
