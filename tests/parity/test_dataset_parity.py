"""Asset samples against the golden numbers: a data set of one object is written, then read back as training reads
it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cupid_core.config import AssetSampleConfig, ViewCropConfig
from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.samples import LatentScale, appearance_sample, structure_sample

CROP = ViewCropConfig(min_ratio=1.0, max_ratio=1.4)
CASES = {
    "nocrop": {},
    "crop_eval": {"crop": CROP},
    "crop_eval_buckets": {"crop": CROP.model_copy(update={"buckets": 9})},
    "crop_pad": {"crop": ViewCropConfig(min_ratio=2.6, max_ratio=2.6, beyond_border=True)},
    "crop_nopad_large": {"crop": ViewCropConfig(min_ratio=2.6, max_ratio=2.6)},
    "occ": {"flag": "occupied"},
    "cropssuv": {"crop": CROP, "flag": "crop"},
}


@pytest.fixture
def asset(fixtures, tmp_path):
    tensors, _ = fixtures("dataset")
    views = tmp_path / "renders_cond" / "object"
    for folder in (tmp_path / "voxels", tmp_path / "latents" / "model", views):
        folder.mkdir(parents=True)
    points = tensors["voxel_positions"].numpy().astype("<f4")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "property float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "voxels" / "object.ply").write_bytes(header.encode() + points.tobytes())
    Image.fromarray(tensors["rgba"].numpy()).save(views / "000.png")
    frame = {
        "file_path": "000.png",
        "camera_angle_x": float(np.deg2rad(40.0)),
        "transform_matrix": tensors["c2w_blender"].tolist(),
    }
    (views / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    np.savez(
        tmp_path / "latents" / "model" / "object.npz",
        coords=tensors["slat.coords"].numpy().astype(np.uint8),
        feats=tensors["slat.feats_raw"].numpy(),
    )
    return AssetFolder(tmp_path, "object")


@pytest.mark.parametrize("case", CASES)
def test_structure_samples_equal_the_reference(case, asset, fixtures, agree):
    tensors, meta = fixtures("dataset")
    config = AssetSampleConfig(image_size=meta["image_size"], **CASES[case])
    (view,) = asset.views()
    sample = structure_sample(asset, view, config)
    found = {
        "uv_volume_sub4": sample.uv[:, ::4, ::4, ::4],
        "ssuv_sub4": sample.flag[:, ::4, ::4, ::4].to(torch.uint8),
        "ssuv_count": sample.flag.sum(),
        "ss_count": sample.occupancy.sum(),
        "intrinsics": sample.view.K_normalized,
        "extrinsics": sample.view.T_camera_object.matrix(),
        "cond": sample.view.image,
    }
    if sample.view.crop is not None:
        found["crop_bbox"] = sample.view.crop.bounds()
    compared = [name for name in found if f"{case}.{name}" in tensors]
    assert {key.split(".")[1] for key in tensors if key.startswith(f"{case}.")} == set(compared)
    for name in compared:
        agree(f"{case} {name}", found[name], tensors[f"{case}.{name}"], meta["tolerance"])


def test_appearance_sample_equals_the_reference(asset, fixtures, agree):
    tensors, meta = fixtures("dataset")
    config = AssetSampleConfig(image_size=meta["image_size"], crop=CROP)
    scale = LatentScale(*(torch.tensor(meta["normalization"][name]) for name in ("mean", "std")))
    (view,) = asset.views()
    sample = appearance_sample(asset, view, config, "model", scale=scale)
    agree("voxels", sample.coords, tensors["slat.coords"])
    agree("latent", sample.latent, tensors["slat.feats"], meta["tolerance"])
    agree("uv", sample.uv, tensors["slat.uvs"], meta["tolerance"])
    agree("intrinsics", sample.view.K_normalized, tensors["slat.intrinsics"], meta["tolerance"])
