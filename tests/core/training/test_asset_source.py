"""An asset data set trains every stage of the structure; assets that cannot be read are reported and skipped."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_stages import run_settings

from cupid_core.config import AssetSampleConfig, ViewCropConfig
from cupid_core.errors import DatasetError
from cupid_core.render.cameras import look_at
from cupid_core.training.asset_source import AssetSource
from cupid_core.training.catalogue import build_stage, stage_settings
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.settings import AssetSourceSettings, TrainConfig
from cupid_core.training.stage import StageContext
from cupid_core.training.structure_settings import (
    ImageEncoderSettings,
    StructureFlowSettings,
    StructureSettings,
    StructureVaeNetworkSettings,
    StructureVaeSettings,
)

RESOLUTION, SIZE = 8, 32
# Hashes are spread evenly; these two are for training, the last for validation.
NAMES = ("a" * 64, "7" * 64, "0" * 64)


def _write_asset(root, name, edge):
    coords = torch.cartesian_prod(*[torch.arange(4 - edge, 4 + edge)] * 3)
    points = ((coords + 0.5) / RESOLUTION - 0.5).double()
    eye = torch.tensor([1.5, 0.6, 0.5 + edge / 4], dtype=torch.float64)
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    seen = pose.apply(points)
    focal = 0.5 / math.tan(0.45)
    column, row = ((seen[:, :2] / seen[:, 2:] * focal + 0.5) * SIZE).long().clamp(0, SIZE - 1).unbind(1)
    rgba = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    rgba[row.numpy(), column.numpy()] = [200, 100, 50, 255]
    views = root / "renders_cond" / name
    for folder in (root / "voxels", views):
        folder.mkdir(parents=True, exist_ok=True)
    header = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    lines = "\n".join(" ".join(map(str, point)) for point in points.tolist())
    (root / "voxels" / f"{name}.ply").write_text(header + lines)
    Image.fromarray(rgba).save(views / "0.png")
    blender = pose.inverse().matrix() @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    frame = {"file_path": "0.png", "camera_angle_x": 0.9, "transform_matrix": blender.tolist()}
    (views / "transforms.json").write_text(json.dumps({"frames": [frame]}))


@pytest.fixture
def assets(tmp_path):
    root = tmp_path / "assets"
    for edge, name in enumerate(NAMES, start=1):
        _write_asset(root, name, edge)
    rows = [f"{name},6.0,{(2 * edge) ** 3},True,True" for edge, name in enumerate(NAMES, start=1)]
    (root / "metadata.csv").write_text(
        "\n".join(["sha256,aesthetic_score,num_voxels,voxelized,cond_rendered", *rows]) + "\n"
    )
    return AssetSourceSettings(
        roots=(str(root),),
        sample=AssetSampleConfig(resolution=RESOLUTION, image_size=SIZE, crop=ViewCropConfig()),
        validation_share=0.1,
    )


def _config(assets):
    network = StructureVaeNetworkSettings(latent_channels=4, encoder_channels=(8, 8), decoder_channels=(8, 8))
    run = run_settings(1, batch_size=2)
    look = ImageEncoderSettings(
        image_size=SIZE, stem_channels=(8, 8, 16), stem_residual=(), embed_dim=32, depth=1, num_heads=2
    )
    return TrainConfig(
        data="assets",
        workers=0,
        assets=assets,
        occupancy_vae=StructureVaeSettings(network=network, run=run, validation_views=2),
        uv_vae=StructureVaeSettings(network=network, run=run, validation_views=2),
        structure=StructureSettings(
            image_encoder=look,
            network=StructureFlowSettings(model_channels=32, num_blocks=1, num_heads=2),
            run=run,
            validation_views=2,
            validation_steps=2,
        ),
    )


def test_one_step_of_every_stage(assets, root):
    config = _config(assets)
    for name in ("occupancy-vae", "uv-vae", "structure"):
        stage = build_stage(name, config, StageContext(root, torch.device("cpu")))
        run = stage_settings(name, config).run.model_copy(update={"validate_every": 1})
        lines = []
        train(stage, run, LoopOptions(root / name), lines.append)
        assert all(math.isfinite(value) for line in lines for value in line.values.values()), name
        assert {line.kind for line in lines} == {"losses", "validation"}


def test_batches_follow_from_their_number_and_keep_unseen_assets_out(assets):
    source, again = AssetSource(assets, seed=1), AssetSource(assets, seed=1)
    counts = set()
    for number in range(4):
        one, other = source.batch(number, 4), again.batch(number, 4)
        assert torch.equal(one.image, other.image) and torch.equal(one.uv, other.uv)
        counts |= set(one.occupancy.flatten(1).sum(1).tolist())
    assert counts == {2**3, 4**3}
    unseen, truth = source.validation(2)
    assert set(unseen.occupancy.flatten(1).sum(1).tolist()) == {6**3}
    assert truth is not None and truth.T_camera_object.shape == (2, 4, 4)


def test_a_damaged_asset_is_reported_once_and_skipped(assets, caplog):
    from pathlib import Path

    (Path(assets.roots[0]) / "voxels" / f"{NAMES[0]}.ply").write_text("not a ply")
    source, fresh = AssetSource(assets), AssetSource(assets)
    with caplog.at_level(logging.WARNING):
        batches = [source.batch(number, 4) for number in range(4)]
    assert {int(n) for batch in batches for n in batch.occupancy.flatten(1).sum(1)} == {4**3}
    assert sum(NAMES[0] in record.getMessage() for record in caplog.records) == 1
    # Knowing it from before changes nothing.
    assert torch.equal(fresh.batch(3, 4).uv, batches[3].uv)


def test_when_nothing_is_left_there_is_an_error(assets):
    with pytest.raises(DatasetError, match="no asset is selected"):
        AssetSource(assets.model_copy(update={"min_aesthetic_score": 9.0}))
