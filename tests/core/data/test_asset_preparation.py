"""`cupid data prepare`: what is written is read back and agrees with itself; resuming, damage, change, failure."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import trimesh
from meshes_on_disk import textured_box, torus

from cupid_core.cli import main
from cupid_core.color_space import srgb_to_linear
from cupid_core.config import AssetPreparationConfig, AssetSampleConfig, ViewCropConfig
from cupid_core.data.assets.layout import AssetFolder, read_metadata, select
from cupid_core.data.assets.prepare import prepare_assets
from cupid_core.data.assets.samples import structure_sample
from cupid_core.errors import DatasetError

SIZE, RESOLUTION, VIEWS = 48, 16, 3
CONFIG = AssetPreparationConfig(resolution=RESOLUTION, views=VIEWS, image_size=SIZE)
SAMPLE = AssetSampleConfig(resolution=RESOLUTION, image_size=SIZE)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("meshes")
    torus(folder / "ring.ply")
    textured_box(folder / "box.glb")
    return folder


@pytest.fixture(scope="module")
def prepared(meshes, tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    summary = prepare_assets([meshes], out, CONFIG)
    assert len(summary.reports) == 2 and not summary.failures
    return out


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "set")


def assets(root):
    return [AssetFolder(root, record.sha256) for record in read_metadata(root)]


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_the_readers_find_what_was_written(prepared):
    records = select(read_metadata(prepared), ("voxelized", "cond_rendered", "surface"))
    assert len(records) == 2
    for asset, record in zip(assets(prepared), records, strict=True):
        assert len(asset.voxels(RESOLUTION)) == record.num_voxels > 100
        assert [view.name for view in asset.views()] == ["000", "001", "002"]
        assert all(view.read_image().shape == (SIZE, SIZE, 4) for view in asset.views())
        assert asset.surface().watertight
        low, high = asset.surface().box()
        assert float((high - low).max()) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(low, -high, atol=1e-6)


@pytest.mark.parametrize("crop", [None, ViewCropConfig()])
def test_voxels_project_onto_the_rendered_mask_and_cover_it(prepared, crop):
    for asset in assets(prepared):
        for view in asset.views():
            config = SAMPLE.model_copy(update={"crop": crop})
            sample = structure_sample(asset, view, config, np.random.default_rng(1))
            pixel = (sample.uv[:, sample.occupancy[0]] * SIZE).long().clamp(0, SIZE - 1)
            shown = torch.zeros(1, 1, SIZE, SIZE)
            shown[0, 0, pixel[1], pixel[0]] = 1
            mask = (sample.view.mask > 0.05)[None].float()
            # Half the diagonal of a voxel, as near as it can be to the camera, and a pixel.
            nearest = float(view.T_camera_object.translation[2]) - math.sqrt(3) / 2
            focal = float(sample.view.K_normalized[0, 0])
            reach = math.ceil(focal * SIZE * math.sqrt(3) / 2 / RESOLUTION / nearest) + 1
            near_mask, near_shown = (F.max_pool2d(m, 2 * reach + 1, 1, reach) > 0 for m in (mask, shown))
            assert bool(near_mask[shown > 0].all()) and bool(near_shown[mask > 0].all())
            assert 0.02 < float(mask.mean()) < 0.95


def test_the_uv_volume_is_the_projection_with_the_written_camera(prepared):
    """Computed from transforms.json as Blender means it: x right, y up, looking along -z."""
    axis = (np.arange(RESOLUTION) + 0.5) / RESOLUTION - 0.5
    centers = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    for asset in assets(prepared):
        text = (asset.root / "renders_cond" / asset.sha256 / "transforms.json").read_text()
        for view, frame in zip(asset.views(), json.loads(text)["frames"], strict=True):
            world_to_blender = np.linalg.inv(np.array(frame["transform_matrix"]))
            seen = centers @ world_to_blender[:3, :3].T + world_to_blender[:3, 3]
            half = math.tan(frame["camera_angle_x"] / 2)
            assert 24.0 <= 18.0 / half <= 200.0
            u = 0.5 + seen[..., 0] / -seen[..., 2] / (2 * half)
            v = 0.5 - seen[..., 1] / -seen[..., 2] / (2 * half)
            assert u.min() > 0 and u.max() < 1 and v.min() > 0 and v.max() < 1  # the whole cube is in the view
            uv = structure_sample(asset, view, SAMPLE).uv.numpy()
            assert np.abs(uv - np.stack([u, v])).max() * SIZE < 0.01


def test_colors_arrive_in_the_picture(prepared):
    """Light scales all channels alike: the shares of red, green and blue are those of the surface seen there."""
    asset = next(a for a in assets(prepared) if not a.surface().textures)
    surface = asset.surface()
    points = torch.from_numpy(surface.vertices[surface.faces].mean(axis=1))
    colors = torch.from_numpy(surface.corner_color.mean(axis=1) / 255)
    for view in asset.views():
        seen = view.T_camera_object.apply(points)
        uv = (seen @ view.K_normalized.T)[:, :2] / seen[:, 2:]
        pixel = (uv * SIZE).long()
        nearest = torch.full((SIZE, SIZE), torch.inf)
        cell = pixel[:, 1] * SIZE + pixel[:, 0]
        nearest.view(-1).scatter_reduce_(0, cell, seen[:, 2], reduce="amin")
        front = seen[:, 2] <= nearest.view(-1)[cell]
        picture = view.read_image()[pixel[front, 1], pixel[front, 0]]
        opaque = torch.from_numpy(picture[:, 3] == 255)
        assert int(opaque.sum()) > 50
        shares = [srgb_to_linear(c) / srgb_to_linear(c).sum(1, keepdim=True) for c in (
            torch.from_numpy(picture[:, :3] / 255)[opaque], colors[front][opaque],
        )]  # fmt: skip
        assert float((shares[0] - shares[1]).abs().median()) < 0.03


def test_a_second_run_passes_over_everything(prepared, meshes):
    before = contents(prepared)
    summary = prepare_assets([meshes], prepared, CONFIG)
    assert all(not report.made and len(report.kept) == 3 for report in summary.reports)
    assert contents(prepared) == before


class Stopped:
    """A recipe of latents that is interrupted the first time it is used for the last asset."""

    folder, column, needs, digest = "latents/test", "latent_test", ("voxels",), "1"

    def __init__(self, after):
        self.left = after

    def make(self, asset):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        coords = asset.voxels(RESOLUTION).numpy().astype(np.uint8)
        return {"coords": coords, "feats": coords.astype(np.float32)}


def test_an_interrupted_run_resumes_to_the_same_files(meshes, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert not prepare_assets([meshes], whole, CONFIG, recipes=[Stopped(2)]).stopped
    first = prepare_assets([meshes], parts, CONFIG, recipes=[Stopped(1)])
    assert first.stopped and len(first.reports) == 1 and first.assets == 2
    assert len(select(read_metadata(parts), ("latent_test",))) == 1
    second = prepare_assets([meshes], parts, CONFIG, recipes=[Stopped(2)])
    assert not second.stopped and sorted(len(report.kept) for report in second.reports) == [3, 4]
    assert contents(parts) == contents(whole)
    coords, feats = assets(parts)[0].structured_latent("test")
    assert torch.equal(coords.float(), feats)


@pytest.mark.parametrize("damage", ["cut", "gone", "notes"])
def test_damaged_files_are_made_again_as_they_were(copy, meshes, damage):
    before, asset = contents(copy), assets(copy)[0]
    picture = copy / "renders_cond" / asset.sha256 / "001.png"
    if damage == "cut":
        picture.write_bytes(picture.read_bytes()[:100])
    elif damage == "gone":
        picture.unlink()
    else:
        (copy / "prepared" / f"{asset.sha256}.json").write_text("{")
    summary = prepare_assets([meshes], copy, CONFIG)
    made = {report.sha256: report.made for report in summary.reports}
    assert "renders_cond" in made.pop(asset.sha256) and all(not parts for parts in made.values())
    assert contents(copy) == before


def test_a_changed_setting_makes_again_only_what_depends_on_it(copy, meshes):
    prepare_assets([meshes], copy, CONFIG, recipes=[Stopped(2)])
    coarse = CONFIG.model_copy(update={"resolution": 8})
    summary = prepare_assets([meshes], copy, coarse)
    assert all(report.again == ("voxels",) and len(report.kept) == 2 for report in summary.reports)
    assert all(len(asset.voxels(8)) < 8**3 for asset in assets(copy))
    # Latents of voxels that are gone are gone as well, and the table says so.
    assert select(read_metadata(copy), ("latent_test",)) == () and not list(copy.rglob("latents/test/*"))


def test_a_changed_mesh_replaces_what_it_was(tmp_path):
    folder, out = tmp_path / "meshes", tmp_path / "set"
    folder.mkdir()
    textured_box(folder / "thing.glb")
    (old,) = prepare_assets([folder], out, CONFIG).reports
    textured_box(folder / "thing.glb", (1.0, 0.5, 0.5))
    summary = prepare_assets([folder], out, CONFIG)
    assert summary.replaced == (old.sha256,) and summary.assets == 1
    assert not any(old.sha256 in name for name in contents(out))


def test_broken_meshes_are_reported_and_left_out(meshes, tmp_path, capsys):
    folder, out = tmp_path / "meshes", tmp_path / "set"
    shutil.copytree(meshes, folder)
    (folder / "noise.glb").write_bytes(b"noise" * 20)
    (folder / "empty.obj").write_text("# nothing\n")
    (folder / "cut.ply").write_bytes((folder / "ring.ply").read_bytes()[:300])
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, np.nan]], [[0, 1, 2]], process=False)
    flat.export(folder / "nan.stl")
    shutil.copy(folder / "box.glb", folder / "twin.glb")
    options = ["--resolution", str(RESOLUTION), "--views", "1", "--image-size", "16", "--processes", "1"]
    assert main(["data", "prepare", str(folder), "--out", str(out), *options]) == 1
    said = capsys.readouterr().out
    assert "made 2, made again 0, passed over 0, left out 4" in said
    assert "mesh_file_invalid" in said and "same content as another file: 1" in said
    for name in ("noise.glb", "empty.obj", "cut.ply", "nan.stl"):
        assert f"left out: {folder / name}" in said
    assert len(read_metadata(out)) == 2
    good = [str(folder / "ring.ply"), str(folder / "box.glb")]
    assert main(["data", "prepare", *good, "--out", str(out), *options]) == 0
    assert "passed over 2" in capsys.readouterr().out


def test_what_is_no_mesh_is_refused(tmp_path, capsys):
    for path in (tmp_path / "absent.glb", tmp_path):
        assert main(["data", "prepare", str(path), "--out", str(tmp_path / "set")]) == 2
    assert main(["data", "prepare", str(tmp_path), "--out", str(tmp_path), "--encoders", str(tmp_path)]) == 2
    assert "train-config" in capsys.readouterr().err.replace("\n", " ")


def test_rows_and_columns_from_elsewhere_stay(copy, meshes):
    path = copy / "metadata.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    rows[0]["aesthetic_score"], rows[0]["captions"] = "6.5", "a thing"
    rows.append({"sha256": "f" * 64, "aesthetic_score": "5.0", "voxelized": "True"})
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    assert prepare_assets([meshes], copy, CONFIG).assets == 3
    again = list(csv.DictReader(path.read_text().splitlines()))
    assert (again[0]["aesthetic_score"], again[0]["captions"]) == ("6.5", "a thing")
    assert again[2]["sha256"] == "f" * 64 and again[2]["voxelized"] == "True"


def test_voxels_are_not_read_finer_than_they_were_made(prepared):
    asset = assets(prepared)[0]
    coarse, fine = asset.occupancy(RESOLUTION // 2), asset.occupancy(RESOLUTION)
    assert torch.equal(F.max_pool3d(fine[None].float(), 2)[0] > 0, coarse)
    with pytest.raises(DatasetError, match="fewer than 32"):
        asset.voxels(2 * RESOLUTION)
