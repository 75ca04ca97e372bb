"""Latents and views of the same generated objects: they agree with the generator and with each other."""

import logging
from dataclasses import replace

import pytest
import torch
from appearance_cases import CONTEXT, STAGE, VAE, frozen_networks

from cupid_core.data.tabletop import TabletopSettings, sample_tabletop
from cupid_core.training.appearance_batch import project_voxels
from cupid_core.training.appearance_codec import codec_exports, encode, read_codec
from cupid_core.training.appearance_latents import LatentRecipe
from cupid_core.training.appearance_settings import ShellNoiseSettings
from cupid_core.training.appearance_source import TabletopAppearanceSource, change_camera, with_mirrored
from cupid_core.training.appearance_stage import AppearanceStage, build_appearance_stage
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import ExportedNetwork
from cupid_core.training.tabletop_source import TabletopSourceSettings
from cupid_core.training.view_change import ViewChangeSettings, draw_change
from cupid_core.training.voxel_truth import tabletop_voxels

EXACT = ShellNoiseSettings(perturbed=0.0)
VIEWS = TabletopSourceSettings(
    objects=TabletopSettings(
        image_size=32, resolution=VAE.resolution, views_per_object=2, occluded=0.0, truncated=0.0, degradation=0.0
    ),
    objects_per_shard=2,
    first_shards=2,
    most_shards=2,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A training whose autoencoder and image encoder are exported, with fresh weights."""
    folder = tmp_path_factory.mktemp("training")
    vae = AppearanceVaeStage(VAE, CONTEXT)
    write_networks(folder / "appearance-vae" / EXPORT, codec_exports(vae.encoder, vae.decoder, vae.scale(), VAE))
    images = frozen_networks().image_encoder
    arguments = {
        "img_size": 32, "stem_channels": [8, 16], "stem_residual": [], "embed_dim": 32,
        "depth": 1, "num_heads": 2,
    }  # fmt: skip
    exported = ExportedNetwork("image_encoder", type(images).__name__, arguments, images)
    write_networks(folder / "structure" / EXPORT, [exported])
    return folder


@pytest.fixture(scope="module")
def codec(root):
    return read_codec(root / "appearance-vae" / EXPORT, torch.device("cpu"))


@pytest.fixture
def source(root, codec):
    made = TabletopAppearanceSource(root / "shards", VIEWS, (root / "appearance-vae" / EXPORT, codec), EXACT)
    yield made
    made.close()


def recipe(root, codec, **changes):
    return LatentRecipe(root / "appearance-vae" / EXPORT, codec.digest, EXACT, objects=2, **changes)


def test_projected_voxels_are_those_of_the_generator():
    batch = sample_tabletop(range(2), VIEWS.objects, seed=0)
    for view in range(4):
        coords = batch.shell[batch.view_object[view]].nonzero()
        topology = tabletop_like(coords)
        uv, depth = project_voxels(
            topology, batch.T_camera_object[view : view + 1], batch.intrinsics[view : view + 1]
        )
        expected = batch.uv[view][coords[:, 0], coords[:, 1], coords[:, 2]]
        torch.testing.assert_close(uv, expected, atol=1e-4 / 128, rtol=1e-5)
        assert bool((depth > 0).all())


def tabletop_like(coords):
    from cupid_core.training.voxel_truth import VoxelGrid

    return VoxelGrid(VAE.resolution).index(torch.cat([torch.zeros_like(coords[:, :1]), coords], dim=1))


def test_latents_are_what_the_autoencoder_says_of_the_truth(root, codec):
    shard = recipe(root, codec, mirrored=0.0).make(1)
    voxels = tabletop_voxels([2, 3], codec.grid, seed=0, device="cpu")
    assert torch.equal(shard["coords"].long(), voxels.topology.coords[:, 1:])
    assert shard["start"].tolist() == [0, *torch.bincount(voxels.topology.item).cumsum(0).tolist()]
    with torch.no_grad():
        expected = encode(codec.encoder, voxels.truth, voxels.topology).mean
    torch.testing.assert_close(shard["latent"].float(), expected, atol=5e-3, rtol=5e-3)


def test_mirrored_latents_are_those_of_the_mirror_image(root, codec):
    plain, flipped = recipe(root, codec, mirrored=0.0).make(0), recipe(root, codec, mirrored=1.0).make(0)
    assert bool(flipped["mirrored"].all()) and not bool(plain["mirrored"].any())
    assert torch.equal(plain["start"], flipped["start"])
    turned = plain["coords"].long()
    turned[:, 1] = VAE.resolution - 1 - turned[:, 1]
    assert torch.equal(turned, flipped["coords"].long())
    # The ball and the box of any family look different in a mirror to an untrained network, but not very.
    assert not torch.equal(plain["latent"], flipped["latent"])


def test_other_weights_make_other_shards(root, codec):
    one = recipe(root, codec)
    other = replace(one, digest="0" * 64)
    assert one.describe() != other.describe()
    assert one.describe() == recipe(root, codec).describe()


def test_changed_cameras_project_to_the_changed_image():
    generator = torch.Generator().manual_seed(0)
    change = draw_change(16, ViewChangeSettings(moved=1.0), generator)
    T = torch.eye(4).repeat(16, 1, 1)
    T[:, :3, :3] = torch.linalg.qr(torch.randn(16, 3, 3, generator=generator)).Q
    T[:, :3, 3] = torch.tensor([0.05, -0.1, 3.0])
    intrinsics = torch.tensor([[1.7, 0.0, 0.45], [0.0, 1.7, 0.55], [0.0, 0.0, 1.0]]).repeat(16, 1, 1)
    points = torch.rand(16, 40, 3, generator=generator) - 0.5

    def project(T, intrinsics, points):
        camera = points @ T[:, :3, :3].mT + T[:, None, :3, 3]
        image = camera @ intrinsics.mT
        return image[..., :2] / image[..., 2:]

    expected = change.forwards(project(T, intrinsics, points))
    found = project(*change_camera(T, intrinsics, change), change.flip_object(points))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert 0 < int(change.mirrored.sum()) < 16


def test_a_forced_mirror_changes_nothing_else():
    change = draw_change(16, ViewChangeSettings(moved=1.0), torch.Generator().manual_seed(0))
    assert torch.equal(with_mirrored(change, change.mirrored).matrix, change.matrix)
    other = with_mirrored(change, ~change.mirrored)
    assert torch.equal(other.mirrored, ~change.mirrored)
    torch.testing.assert_close(torch.linalg.det(other.matrix), -torch.linalg.det(change.matrix))
    assert torch.equal(with_mirrored(other, change.mirrored).matrix, change.matrix)


def test_voxels_of_a_training_view_lie_on_its_silhouette(source):
    views = source.views(0, 12)
    shares = []
    for view in views:
        uv, _ = project_voxels(tabletop_like(view.coords), view.T_camera_object[None], view.intrinsics[None])
        inside = ((uv > 0.02) & (uv < 0.98)).all(1)
        pixel = (uv[inside] * 32).long()
        mask = torch.nn.functional.max_pool2d(view.image[None, 3:], 3, 1, 1)[0, 0] > 0.4
        shares.append(float(mask[pixel[:, 1], pixel[:, 0]].float().mean()))
    assert min(shares) > 0.9
    assert len({bool(torch.linalg.det(view.T_camera_object) > 0) for view in views}) == 2  # both kinds were met


def test_views_follow_from_the_number(source):
    first, again, other = source.views(5, 4), source.views(5, 4), source.views(6, 4)
    for left, right in zip(first, again, strict=True):
        assert torch.equal(left.image, right.image) and torch.equal(left.latent, right.latent)
    assert not all(torch.equal(left.image, right.image) for left, right in zip(first, other, strict=True))


def test_the_stage_on_generated_objects_trains_and_measures(root):
    trained = build_appearance_stage(TrainConfig(appearance=STAGE, tabletop=VIEWS), replace(CONTEXT, root=root))
    assert isinstance(trained, AppearanceStage)
    loss = trained.loss(trained.batch(0), torch.Generator().manual_seed(0))
    loss.total.backward()
    assert torch.isfinite(loss.total) and loss.images == STAGE.run.batch_size
    with torch.no_grad():
        figures = trained.validate()
        picture = trained.sheet()
    assert {"iou", "color_psnr", "visible_psnr", "velocity", "held_out_velocity"} <= figures.keys()
    assert 0 <= figures["iou"] <= 1 and picture is not None
    trained.close()


def test_a_damaged_shard_is_passed_over_with_its_partner(root, codec, caplog):
    folder = root / "appearance-vae" / EXPORT
    made = TabletopAppearanceSource(root / "damaged", VIEWS, (folder, codec), EXACT)
    made.views(0, 8)
    broken = next((root / "damaged").glob("appearance-latents*/000000.safetensors"))
    broken.write_bytes(broken.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        again = TabletopAppearanceSource(root / "damaged", VIEWS, (folder, codec), EXACT)
        views = again.views(0, 8)
    assert "Shard skipped" in caplog.text and len(views) == 8
    good = recipe(root, codec).make(1)
    sizes = (good["start"][1:] - good["start"][:-1]).tolist()
    assert {len(view.coords) for view in views} <= set(sizes)
