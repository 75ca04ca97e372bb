"""The appearance autoencoder: its truth, its loss, its scale, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch
from appearance_cases import CONTEXT, VAE

from cupid_core.errors import ConfigError, TrainingError
from cupid_core.evaluation.image_metrics import psnr
from cupid_core.evaluation.shape_metrics import nearest_points
from cupid_core.models.appearance_vae import PrincipalEncoder
from cupid_core.models.decode_mesh import CubeFields
from cupid_core.training.appearance_codec import codec_grid, encode, encoder_rows, make_codec, read_codec
from cupid_core.training.appearance_settings import (
    MeshFieldLossSettings,
    ShellNoiseSettings,
    SparseTrunkSettings,
    VoxelSampleSettings,
)
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.export import write_networks
from cupid_core.training.figures import (
    field_figures,
    ideal_meshes,
    mesh_figures,
    meshes_of,
)
from cupid_core.training.mesh_field import field_truth, ideal_rows, mesh_field_loss
from cupid_core.training.voxel_truth import perturb_shell, tabletop_voxels, training_voxels

GRID = codec_grid(VAE)
SIDE = 4 * VAE.resolution


@pytest.fixture(scope="module")
def whole():
    return tabletop_voxels([0, 1], GRID, seed=5, device="cpu")


@pytest.fixture(scope="module")
def truth(whole):
    return field_truth(whole.truth, 2.0)


def fields_of(rows, voxels):
    return CubeFields(rows, voxels.topology.subdivide().subdivide())


@pytest.mark.parametrize("kind", ["transformer", "principal"])
def test_eight_samples_are_learnt_by_heart(kind):
    settings = VAE.model_copy(update={"sample": VoxelSampleSettings(crop=3), "encoder_kind": kind})
    stage = AppearanceVaeStage(settings, CONTEXT)
    batch = stage.batch(0)
    optimizer = torch.optim.AdamW(stage.networks.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    losses, steps = [], 45
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (step + 1) / 5, 3 * (steps - step) / steps)
        loss = stage.loss(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(stage.networks.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.total.detach()))
    assert losses[0] > 1.0 and losses[-1] < 0.15 * losses[0]
    assert loss.images == 8 and float(loss.logged["wrong_side"]) < 0.1


def test_the_truth_has_no_loss_and_nothing_else_has_none(whole, truth):
    settings, in_loss = MeshFieldLossSettings(), torch.ones(len(truth.distance), dtype=torch.bool)
    rows = ideal_rows(truth, SIDE)
    assert float(mesh_field_loss(rows, truth, in_loss, SIDE, settings).total) < 1e-4
    silent = mesh_field_loss(torch.zeros_like(rows), truth, in_loss, SIDE, settings)
    assert float(silent.total) > 0.5
    off = rows.clone()
    off[:, :8] += 0.5
    shifted = mesh_field_loss(off, truth, in_loss, SIDE, settings)
    assert float(shifted.distance) == pytest.approx(0.5 - 0.05, abs=1e-4)  # smooth L1, linear beyond its knee
    assert 0 < float(shifted.wrong_side) < 0.5 and float(shifted.color) < 1e-4


def test_cubes_that_are_not_counted_do_not_count(truth):
    rows, in_loss = ideal_rows(truth, SIDE), torch.ones(len(truth.distance), dtype=torch.bool)
    in_loss[::3] = False
    spoilt = rows.clone()
    spoilt[::3, :8] = 7.0
    spoilt[::3, 53:] = 7.0
    assert float(mesh_field_loss(spoilt, truth, in_loss, SIDE, MeshFieldLossSettings()).total) < 1e-4
    nothing = mesh_field_loss(spoilt, truth, torch.zeros_like(in_loss), SIDE, MeshFieldLossSettings())
    assert float(nothing.total) == 0.0


@pytest.fixture(scope="module")
def meshes(whole, truth):
    return ideal_meshes(fields_of(ideal_rows(truth, SIDE), whole), truth)


def test_the_ideal_rows_make_the_surface_of_the_object(whole, truth, meshes):
    fields = fields_of(ideal_rows(truth, SIDE), whole)
    assert len(meshes) == 2
    for item, mesh in enumerate(meshes):
        own = whole.topology.rows_of(item)
        corners = whole.truth.place[own].flatten().unique()
        _, row = nearest_points(mesh.vertices, whole.truth.position[corners])
        near = whole.truth.sdf[corners][row].abs() * SIDE
        assert float(near.max()) < 2.0 and float(near.mean()) < 0.5  # in cubes: next to the surface everywhere
    figures = field_figures(fields.rows, truth, whole) | mesh_figures(meshes_of(fields), meshes)
    assert figures["iou"] == 1.0 and figures["color_psnr"] > 55 and figures["fscore"] == 1.0
    assert figures["chamfer"] < 1e-4


def test_figures_of_known_errors(whole, truth, meshes):
    rows = ideal_rows(truth, SIDE)
    inside_out = rows.clone()
    inside_out[:, :8] *= -1
    assert field_figures(inside_out, truth, whole)["iou"] < 0.9
    moved = [replace(mesh, vertices=mesh.vertices + torch.tensor([0.1, 0.0, 0.0])) for mesh in meshes]
    assert 0.01 < mesh_figures(moved, meshes)["chamfer"] <= 0.1
    assert mesh_figures([None, None], meshes) == {"chamfer": 0.5, "fscore": 0.0}
    dark = [replace(mesh, colors=(mesh.colors - 0.1).clamp(0, 1)) for mesh in meshes]
    assert mesh_figures(dark, meshes)["surface_psnr"] >= 20.0 - 1e-3
    assert psnr(0.01) == pytest.approx(20.0) and math.isfinite(psnr(0.0))


def test_a_batch_is_the_same_whenever_it_is_asked_for():
    first, again, other = (training_voxels(n, VAE, GRID, seed=1, device="cpu") for n in (3, 3, 4))
    assert torch.equal(first.topology.coords, again.topology.coords)
    assert torch.equal(first.truth.color, again.truth.color)
    assert first.truth.sdf.shape != other.truth.sdf.shape or not torch.equal(first.truth.sdf, other.truth.sdf)


def test_a_crop_judges_only_voxels_whose_neighbors_it_holds():
    crop = training_voxels(0, VAE, GRID, seed=1, device="cpu")
    settings = VAE.model_copy(update={"sample": VoxelSampleSettings(crop=0, whole_objects=8)})
    full = training_voxels(0, settings, GRID, seed=1, device="cpu")
    assert bool(full.in_loss.all()) and 0 < int(crop.in_loss.sum()) < len(crop.in_loss) < len(full.in_loss)

    def neighbors(voxels):
        present = (voxels.topology.neighbors < len(voxels.in_loss)).sum(1)
        return {tuple(row): int(n) for row, n in zip(voxels.topology.coords.tolist(), present, strict=True)}

    inside, everywhere = neighbors(crop), neighbors(full)
    for row, in_loss in zip(crop.topology.coords.tolist(), crop.in_loss.tolist(), strict=True):
        assert inside[tuple(row)] == everywhere[tuple(row)] or not in_loss


def test_whole_objects_come_late_if_asked_for():
    sample = VoxelSampleSettings(crop=4, whole_from=2, whole_objects=1)
    settings = VAE.model_copy(update={"sample": sample})
    early, late = (training_voxels(number, settings, GRID, seed=1, device="cpu") for number in (1, 2))
    assert (early.objects, late.objects) == (8, 1) and bool(late.in_loss.all()) and not bool(early.in_loss.all())


def test_perturbed_shells_stay_near_and_are_never_empty(whole):
    shell = torch.zeros(3, 16, 16, 16, dtype=torch.bool)
    shell[0, 4:12, 4:12, 8], shell[1, 0, 0, 0], shell[2, 5:9, 5, 5] = True, True, True
    generator = torch.Generator().manual_seed(0)
    settings = ShellNoiseSettings(extra=0.3, dropped=0.3, perturbed=1.0)
    for _ in range(20):
        wrong = perturb_shell(shell, settings, generator)
        around = torch.nn.functional.max_pool3d(shell[:, None].float(), 3, 1, 1)[:, 0] > 0
        assert bool(wrong.flatten(1).any(1).all()) and not bool((wrong & ~around).any())
        assert not torch.equal(wrong[0], shell[0])
    untouched = perturb_shell(shell, ShellNoiseSettings(perturbed=0.0), generator)
    assert torch.equal(untouched, shell)


@pytest.mark.parametrize("kind", ["transformer", "principal"])
def test_what_is_exported_has_a_normal_latent_and_decodes_as_before(whole, tmp_path, kind):
    stage = AppearanceVaeStage(VAE.model_copy(update={"encoder_kind": kind}), CONTEXT)
    with torch.no_grad():
        for parameter in stage.networks.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    write_networks(tmp_path, stage.exports())
    codec = read_codec(tmp_path, torch.device("cpu"))
    assert codec.grid == GRID and codec.latent_channels == VAE.latent_channels
    seen = tabletop_voxels(range(VAE.scale_objects), GRID, seed=CONTEXT.seed, device="cpu")
    with torch.no_grad():
        normal = encode(codec.encoder, seen.truth, seen.topology).mean
        latent = encode(stage.encoder, whole.truth, whole.topology).mean
        expected = stage.decoder(latent, whole.topology).rows
        found = codec.decoder(stage.scale().normalize(latent), whole.topology).rows
    torch.testing.assert_close(normal.mean(0), torch.zeros(VAE.latent_channels), atol=0.01, rtol=0)
    torch.testing.assert_close(normal.std(0), torch.ones(VAE.latent_channels), atol=0.02, rtol=0)
    assert float((found - expected).abs().max() / expected.abs().max()) < 0.02  # float16 files
    with pytest.raises(TrainingError, match="appearance_encoder"):
        read_codec(tmp_path / "nowhere", torch.device("cpu"))


def test_a_principal_encoder_keeps_what_a_linear_map_can_keep(whole):
    rows = encoder_rows(whole.truth, 2)
    encoder = PrincipalEncoder(resolution=VAE.resolution, in_channels=rows.shape[1], latent_channels=8).fit(rows)
    latent = encoder(rows, whole.topology).mean
    torch.testing.assert_close(latent.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(latent.T @ latent / len(latent), torch.eye(8), atol=1e-3, rtol=0)
    design = torch.cat([latent, torch.ones(len(latent), 1)], dim=1)
    lost = rows - design @ torch.linalg.lstsq(design, rows).solution
    left = torch.linalg.svdvals((rows - rows.mean(0)).double())[8:].square().sum()
    assert float(lost.square().sum()) == pytest.approx(float(left), rel=1e-3)
    again = PrincipalEncoder(resolution=VAE.resolution, in_channels=rows.shape[1], latent_channels=8)
    torch.testing.assert_close(again.fit(rows.flip(0)).weight, encoder.weight, atol=1e-3, rtol=1e-3)


def test_a_principal_encoder_gives_nothing_where_nothing_varies(whole):
    rows = torch.zeros(len(whole.truth.voxels), 5)
    rows[:, 0] = torch.linspace(-1, 1, len(rows))
    encoder = PrincipalEncoder(resolution=VAE.resolution, in_channels=5, latent_channels=3)
    assert bool(encoder(rows, whole.topology).mean.isnan().all())  # before it is fitted
    latent = encoder.fit(rows)(rows, whole.topology).mean
    assert float(latent[:, 0].std()) == pytest.approx(1.0, abs=0.01) and not bool(latent[:, 1:].any())


def test_figures_and_pictures_of_unseen_objects():
    stage = AppearanceVaeStage(VAE, CONTEXT)
    with torch.no_grad():
        figures = stage.validate()
        picture = stage.sheet()
    assert {"iou", "color_psnr", "chamfer", "held_out_iou", "latent_std_min"} <= figures.keys()
    assert all(math.isfinite(value) for value in figures.values())
    assert picture is not None and picture.size == (128, 2 * 128)


@pytest.mark.parametrize(
    "change",
    [
        {"decoder": SparseTrunkSettings(channels=128)},
        {"encoder": SparseTrunkSettings(channels=64, heads=3)},
        {"encoder": SparseTrunkSettings(channels=64, heads=2, window=4)},
    ],
)
def test_sizes_that_do_not_fit_are_refused(change):
    with pytest.raises(ConfigError):
        make_codec(VAE.model_copy(update=change))
