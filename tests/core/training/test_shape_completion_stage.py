"""Completion of shapes: its targets, and that a small network learns a few objects by heart."""

from dataclasses import replace

import pytest
import torch
from tiny_stages import encoder_settings, run_settings

from cupid_core.data.tabletop import TabletopSettings
from cupid_core.evaluation.pose_metrics import rotation_angles_deg
from cupid_core.geometry import so3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.training.completion_targets import completion_targets, surface_voxels
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.image_encoder_stage import ImageEncoderStage
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.shape_completion_stage import ShapeCompletionSettings, ShapeCompletionStage
from cupid_core.training.stage import StageContext
from cupid_core.training.structure_batch import PosedViews
from cupid_core.training.structure_settings import ImageEncoderStageSettings
from cupid_core.training.tabletop_source import TabletopSource, TabletopSourceSettings

VIEWS = TabletopSourceSettings(
    objects=TabletopSettings(views_per_object=2, image_size=64, resolution=16),
    objects_per_shard=4,
    first_shards=1,
    most_shards=1,
    validation_objects=4,
    cells=16,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return TabletopSource(tmp_path_factory.mktemp("shards"), VIEWS, seed=5)


@pytest.fixture(scope="module")
def views(source) -> PosedViews:
    return source.posed_views(0, 8)


def true_poses(views: PosedViews) -> Sim3:
    return Sim3.from_rotation_translation(torch.ones(len(views.rotation)), views.rotation, views.translation)


def turned(poses: Sim3, degrees: float) -> Sim3:
    axis = torch.nn.functional.normalize(torch.tensor([0.4, -0.2, 0.9]), dim=0)
    quat = so3.multiply(poses.quat_xyzw, so3.exp(torch.deg2rad(torch.tensor(degrees)) * axis))
    return Sim3(poses.scale, quat, poses.translation)


def test_measured_points_of_a_view_lie_on_the_voxels_of_its_object(views):
    size = views.depth.shape[-1]
    axis = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    uv = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    shares = []
    for item in range(len(views.depth)):
        there = views.depth[item] > 0
        if not bool(there.any()):
            continue
        seen = uv[there] @ views.intrinsics[item].inverse().T * views.depth[item][there][:, None]
        points = (seen - views.translation[item]) @ views.rotation[item]
        shell = torch.nn.functional.max_pool3d(views.shell[item][None, None].float(), 3, 1, 1)[0, 0]
        coords = ((points + 0.5) * shell.shape[-1]).long().clamp(0, shell.shape[-1] - 1)
        shares.append(float(shell[coords[:, 0], coords[:, 1], coords[:, 2]].mean()))
    assert len(shares) >= 3 and sorted(shares)[len(shares) // 2] > 0.8


def test_the_target_of_a_nearly_right_pose_is_the_true_one(views):
    poses = true_poses(views)
    measured = replace(views, depth=torch.ones_like(views.depth))
    true, target = completion_targets(measured, turned(poses, 8.0), 25.0)
    torch.testing.assert_close(target.matrix(), true.matrix())
    assert float(rotation_angles_deg(target.rotation(), turned(poses, 8.0).rotation()).max()) < 9
    assert bool((surface_voxels(views, true, poses, 16) == views.shell).all())


def test_the_target_of_a_wrong_pose_keeps_its_rotation_and_holds_the_object(views):
    plain = replace(views, depth=torch.ones_like(views.depth), symmetry=torch.tensor([[1, 0, 0]]).expand(8, 3))
    coarse = turned(true_poses(views), 70.0)
    true, target = completion_targets(plain, coarse, 25.0)
    torch.testing.assert_close(target.quat_xyzw, coarse.quat_xyzw)
    voxels = surface_voxels(plain, true, target, 48)
    for item in range(8):
        low, high = (bound(voxels[item].nonzero(), dim=0) for bound in (torch.amin, torch.amax))
        assert int((high - low).max()) >= 42 and int((low + high - 47).abs().max()) <= 2


def test_without_depth_the_target_is_as_far_away_as_the_coarse_pose(views):
    poses, blind = true_poses(views), replace(views, depth=torch.zeros_like(views.depth))
    farther = Sim3(poses.scale, poses.quat_xyzw, 1.5 * poses.translation)
    true, target = completion_targets(blind, farther, 25.0)
    torch.testing.assert_close(target.scale, torch.full((8,), 1.5))
    assert bool((surface_voxels(views, true, target, 16) == views.shell).all())


def test_a_network_learns_a_few_views_and_corrects_their_poses(tmp_path, source):
    context = StageContext(tmp_path, torch.device("cpu"))
    planes = ("rgb", "mask", "points", "gravity")
    sizes = encoder_settings("pyramid", image_size=64, planes=planes, head_bins=12)
    run = run_settings(60, validate_every=0, optimizer={"kind": "muon", "muon_convolutions": True})
    encoder = ImageEncoderStage(ImageEncoderStageSettings(run=run, validation_views=4), sizes, context, source)
    train(encoder, run, LoopOptions(tmp_path / "encoder"))
    with torch.no_grad():
        write_networks(tmp_path / "image-encoder" / EXPORT, encoder.exports())
    run = run_settings(40, batch_size=4)
    settings = ShapeCompletionSettings(
        views=VIEWS, resolution=16, channels=(16, 24, 32), run=run, validation_views=4
    )
    stage = ShapeCompletionStage(settings, context, source)
    batch = stage.batch(0)
    with torch.no_grad():
        first = stage.loss(batch, torch.Generator().manual_seed(0))
    train(stage, run, LoopOptions(tmp_path / "completion"))
    with torch.no_grad():
        last, figures = stage.loss(batch, torch.Generator().manual_seed(0)), stage.validate()
    assert float(last.total) < 0.8 * float(first.total)
    assert 0 < figures["posed"] <= 1 and 0 < figures["color_posed"] <= 1
    write_networks(tmp_path / "export", stage.exports())
