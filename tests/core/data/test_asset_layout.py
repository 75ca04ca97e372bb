"""Files of an asset data set: every format reads the same, every damage is a typed error."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from cupid_core.data.assets.layout import AssetFolder, read_metadata, select
from cupid_core.data.assets.ply import read_ply_points
from cupid_core.errors import DatasetError

POINTS = np.array([[0.1, -0.2, 0.3], [-0.5, 0.25, 0.4], [0.0, 0.0, -0.125]])


def ply(form, points=POINTS, extra=True):
    """A PLY file with a color between the coordinates and faces behind the vertices."""
    names = ["x", "red", "y", "z"] if extra else ["x", "y", "z"]
    kinds = {"x": "double", "y": "double", "z": "float", "red": "uchar"}
    header = f"ply\nformat {form} 1.0\ncomment made by a test\nelement vertex {len(points)}\n"
    header += "".join(f"property {kinds[name]} {name}\n" for name in names)
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    columns = {"x": points[:, 0], "y": points[:, 1], "z": points[:, 2], "red": np.arange(len(points))}
    if form == "ascii":
        rows = ["".join(f"{columns[name][i]} " for name in names) for i in range(len(points))]
        return header.encode() + "\n".join([*rows, "3 0 1 2", ""]).encode()
    order = "<" if "little" in form else ">"
    types = {"double": "f8", "float": "f4", "uchar": "u1"}
    record = np.zeros(len(points), dtype=[(name, order + types[kinds[name]]) for name in names])
    for name in names:
        record[name] = columns[name]
    return header.encode() + record.tobytes() + b"\x03" + np.array([0, 1, 2], order + "i4").tobytes()


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("extra", [True, False])
def test_every_form_of_ply_reads_the_same(form, extra, tmp_path):
    path = tmp_path / "points.ply"
    path.write_bytes(ply(form, extra=extra))
    np.testing.assert_allclose(read_ply_points(path), POINTS, atol=1e-8)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_ply_cut_anywhere_is_refused_or_whole(form, tmp_path):
    path, content = tmp_path / "points.ply", ply(form, extra=False)
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        try:
            points = read_ply_points(path)
        except DatasetError:
            continue
        assert points.shape == POINTS.shape


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a ply",
        ply("ascii").replace(b"-0.2", b"zero"),
        ply("ascii").replace(b"element vertex 3", b"element vertex many"),
        ply("ascii").replace(b"property float z", b"property float w"),
        ply("ascii").replace(b"format ascii", b"format binary_middle_endian"),
        ply("ascii").replace(b"property uchar red", b"property color red"),
    ],
)
def test_damaged_ply_is_refused(content, tmp_path):
    path = tmp_path / "points.ply"
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        read_ply_points(path)
    with pytest.raises(DatasetError):
        read_ply_points(tmp_path / "absent.ply")


def write_voxels(root, coords, resolution=64):
    (root / "voxels").mkdir(exist_ok=True)
    points = (np.asarray(coords) + 0.5) / resolution - 0.5
    (root / "voxels" / "a.ply").write_bytes(ply("binary_little_endian", points))


def test_voxels_survive_the_way_through_their_centers(tmp_path):
    axis = np.arange(64)
    coords = np.stack([axis, axis[::-1], (axis * 7) % 64], axis=1)
    write_voxels(tmp_path, coords)
    assert torch.equal(AssetFolder(tmp_path, "a").voxels(64), torch.from_numpy(coords).int())


def test_voxels_outside_the_cube_or_none_are_refused(tmp_path):
    for coords in ([[0, 0, 64]], [[-1, 0, 0]], np.zeros((0, 3))):
        write_voxels(tmp_path, np.asarray(coords, dtype=float))
        with pytest.raises(DatasetError):
            AssetFolder(tmp_path, "a").voxels(64)


def write_views(root, frames):
    folder = root / "renders_cond" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(frames))
    return folder


def test_a_blender_camera_becomes_an_opencv_pose(tmp_path):
    """Blender's camera above the origin, unrotated, looks down -z: the origin is straight ahead, +y is up."""
    matrix = np.eye(4)
    matrix[:3, 3] = [0.1, 0.2, 3.0]
    frame = {"file_path": "007.png", "camera_angle_x": math.pi / 2, "transform_matrix": matrix.tolist()}
    write_views(tmp_path, {"frames": [frame]})
    (view,) = AssetFolder(tmp_path, "a").views()
    assert view.name == "007"
    seen = view.T_camera_object.apply(torch.tensor([[0.1, 0.2, 0.0], [0.1, 0.7, 0.0], [0.4, 0.2, 0.0]]))
    torch.testing.assert_close(seen, torch.tensor([[0.0, 0.0, 3.0], [0.0, -0.5, 3.0], [0.3, 0.0, 3.0]]))
    torch.testing.assert_close(view.K_normalized[0], torch.tensor([0.5, 0.0, 0.5]))


@pytest.mark.parametrize(
    "frames",
    [
        {},
        {"frames": [{}]},
        {"frames": [{"file_path": "a.png", "camera_angle_x": 1.0, "transform_matrix": [[1, 0], [0, 1]]}]},
        {"frames": [{"file_path": "a.png", "camera_angle_x": 1.0, "transform_matrix": np.zeros((4, 4)).tolist()}]},
        {"frames": [{"file_path": "a.png", "camera_angle_x": "wide", "transform_matrix": np.eye(4).tolist()}]},
    ],
)
def test_damaged_views_are_refused(frames, tmp_path):
    asset = AssetFolder(tmp_path, "a")
    with pytest.raises(DatasetError):
        asset.views()
    write_views(tmp_path, frames)
    with pytest.raises(DatasetError):
        asset.views()


def test_images_without_alpha_or_damaged_are_refused(tmp_path):
    frame = {"file_path": "0.png", "camera_angle_x": 1.0, "transform_matrix": np.eye(4).tolist()}
    folder = write_views(tmp_path, {"frames": [frame]})
    (view,) = AssetFolder(tmp_path, "a").views()
    with pytest.raises(DatasetError):
        view.read_image()
    Image.new("RGB", (4, 4)).save(folder / "0.png")
    with pytest.raises(DatasetError):
        view.read_image()
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "0.png")
    np.testing.assert_array_equal(view.read_image(), noise)
    content = (folder / "0.png").read_bytes()
    for length in range(0, len(content) - 20, 37):
        (folder / "0.png").write_bytes(content[:length])
        with pytest.raises(DatasetError):
            view.read_image()
    flipped = bytearray(content)
    flipped[60] ^= 0xFF
    (folder / "0.png").write_bytes(bytes(flipped))
    with pytest.raises(DatasetError):
        view.read_image()


def test_latents_by_view_and_crop(tmp_path):
    asset = AssetFolder(tmp_path, "a")
    for kind in ("ss_latents", "suv_latents", "latents"):
        (tmp_path / kind / "m").mkdir(parents=True)
    whole, cropped = np.ones((8, 2, 2, 2), np.float16), np.zeros((8, 2, 2, 2), np.float32)
    np.savez(tmp_path / "suv_latents" / "m" / "a.npz", **{"003_mean": whole, "003_mean_crop12222": cropped})
    assert float(asset.uv_latent("m", "003").sum()) == 64
    assert asset.uv_latent("m", "003").dtype == torch.float32
    assert float(asset.uv_latent("m", "003", crop_ratio=1.0 + 0.4 * 5 / 9).sum()) == 0
    with pytest.raises(DatasetError, match="004"):
        asset.uv_latent("m", "004")
    np.savez(tmp_path / "ss_latents" / "m" / "a.npz", mean=whole)
    assert asset.structure_latent("m").shape == (8, 2, 2, 2)
    np.savez(tmp_path / "latents" / "m" / "a.npz", coords=np.zeros((3, 3), np.uint8), feats=np.zeros((2, 8)))
    with pytest.raises(DatasetError):
        asset.structured_latent("m")
    content = (tmp_path / "ss_latents" / "m" / "a.npz").read_bytes()
    (tmp_path / "ss_latents" / "m" / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError):
        asset.structure_latent("m")


def test_pickles_are_never_loaded(tmp_path):
    (tmp_path / "ss_latents" / "m").mkdir(parents=True)
    np.savez(tmp_path / "ss_latents" / "m" / "a.npz", mean=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DatasetError):
        AssetFolder(tmp_path, "a").structure_latent("m")


def test_metadata_selects_what_is_there(tmp_path):
    rows = [
        "sha256,aesthetic_score,voxelized,num_voxels,cond_rendered",
        "a,5.5,True,1000,True",
        "b,4.0,True,1000,True",
        "c,6.0,True,50000,True",
        "d,6.0,False,,True",
        "e,,True,10,True",
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    records = read_metadata(tmp_path)
    assert [record.sha256 for record in records] == list("abcde")
    chosen = select(records, requires=("voxelized", "cond_rendered"), min_aesthetic_score=4.5, max_voxels=32768)
    assert [record.sha256 for record in chosen] == ["a"]
    assert [record.sha256 for record in select(records, requires=("voxelized",))] == list("abce")
    assert select(records, requires=("latent_m",)) == ()


@pytest.mark.parametrize("text", ["name\nx\n", "sha256,num_voxels\na,many\n"])
def test_damaged_metadata_is_refused(text, tmp_path):
    with pytest.raises(DatasetError):
        read_metadata(tmp_path)
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(DatasetError):
        read_metadata(tmp_path)
