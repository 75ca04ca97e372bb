"""`cupid reconstruct`: each bad input gets its own error before the work, good inputs give results.

The networks are tiny and random: their output has no meaning, but how it is handled is what a user gets.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import cupid_core
from cupid_core.cli import main
from cupid_core.cli.inputs import known_sizes, read_names
from cupid_core.cli.reconstruct import NOTHING_RECONSTRUCTED, checkpoint_hash
from cupid_core.errors import InputError, UnreadableFileError

SIDE = 64
# Random networks give no consistent pose, so any is let through; two steps do.
LOOSE = {
    "pose": {"max_noise": 0.5, "trusted_noise": 0.5},
    "reconstruct": {"samplers": "settings"},
    "structure_sampler": {"steps": 2},
    "appearance_sampler": {"steps": 2},
    "report": {"crop_px": 32, "turntable_frames": 2, "turntable_px": 32},
    "mesh": {"triangle_budget": 500},
}


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """A folder with a photo, its labels, depth and camera, all of them good."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "frame"
    folder.mkdir()
    photo = rng.integers(60, 90, (SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[10:34, 8:30], labels[30:56, 36:60] = 1, 2
    photo[labels == 1], photo[labels == 2] = (200, 60, 40), (40, 80, 200)
    write(folder / "color.png", photo)
    write(folder / "labels.png", labels)
    write(folder / "mask.png", (labels == 1).astype(np.uint8) * 255)
    write(folder / "depth.png", np.full((SIDE, SIDE), 800, np.uint16))
    K = [[80.0, 0, 31.5], [0, 80.0, 31.5], [0, 0, 1]]
    names = [{"label": 1, "name": "red"}, {"label": 2, "name": "blue"}]
    (folder / "frame.json").write_text(json.dumps({"width": SIDE, "height": SIDE, "K": K, "objects": names}))
    return folder


@pytest.fixture
def loose(tmp_path: Path) -> str:
    path = tmp_path / "loose.yaml"
    path.write_text(yaml.safe_dump(LOOSE))
    return str(path)


def write(path: Path, picture: np.ndarray) -> None:
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)


def reconstruct(frame: Path, out: Path, *words: str, image: str = "color.png", checkpoint: str = "none") -> int:
    return main(["reconstruct", str(frame / image), "--out", str(out), "--checkpoint", checkpoint, *words])


def unchanged(frame: Path) -> None:
    """The files are good: the options are wrong."""


def empty_mask(frame: Path) -> None:
    write(frame / "mask.png", np.zeros((SIDE, SIDE), np.uint8))


def mask_of_other_size(frame: Path) -> None:
    write(frame / "mask.png", np.full((SIDE, SIDE + 1), 255, np.uint8))


def depth_of_nan(frame: Path) -> None:
    np.save(frame / "depth.npy", np.full((SIDE, SIDE), np.nan, np.float32))


def photo_stored_turned(frame: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(frame / "color.png") as photo:
        photo.save(frame / "color.png", exif=exif)


def labels_with_loss(frame: Path) -> None:
    with Image.open(frame / "labels.png") as labels:
        labels.save(frame / "labels.jpg")


def depth_in_millimetres(frame: Path) -> None:
    np.save(frame / "depth.npy", np.full((SIDE, SIDE), 583.0, np.float32))


def depth_of_other_size(frame: Path) -> None:
    np.save(frame / "depth.npy", np.ones((SIDE, SIDE * 2), np.float32))


def no_pixels(frame: Path) -> None:
    np.save(frame / "empty.npy", np.zeros((0, SIDE, 3), np.uint8))


def camera_of_other_size(frame: Path) -> None:
    values = json.loads((frame / "frame.json").read_text())
    (frame / "frame.json").write_text(json.dumps(values | {"width": 2 * SIDE}))


def corrupt_image(frame: Path) -> None:
    content = (frame / "color.png").read_bytes()
    (frame / "color.png").write_bytes(content[: len(content) // 2])


def corrupt_labels(frame: Path) -> None:
    (frame / "labels.png").write_text("no picture")


def names_without_names(frame: Path) -> None:
    (frame / "frame.json").write_text(json.dumps([1, 2]))


MASK = ("--mask", "mask.png")
LABELS = ("--labels", "labels.png")
BAD_INPUTS: list[tuple[Callable[[Path], None], tuple[str, ...], str]] = [
    (empty_mask, MASK, "empty_mask"),
    (mask_of_other_size, MASK, "invalid_image"),
    (depth_of_nan, (*MASK, "--depth", "depth.npy"), "invalid_depth"),
    (depth_of_other_size, (*MASK, "--depth", "depth.npy"), "invalid_depth"),
    (photo_stored_turned, MASK, "invalid_image"),
    (photo_stored_turned, LABELS, "invalid_image"),
    (photo_stored_turned, ("--box", "8,10,30,34", "--orientation", "stored", "--samples", "-1"), "invalid_input"),
    (labels_with_loss, ("--labels", "labels.jpg"), "unreadable_file"),
    (unchanged, ("--mask", "labels.png"), "invalid_image"),
    (depth_in_millimetres, (*MASK, "--depth", "depth.npy"), "invalid_depth"),
    (unchanged, (*MASK, "--depth", "depth.png", "--depth-unit-m", "0"), "invalid_depth"),
    (unchanged, (*MASK, "--depth", "depth.png", "--depth-unit-m", "-0.001"), "invalid_depth"),
    (unchanged, (*MASK, "--depth", "depth.png", "--depth-unit-m", "nan"), "invalid_depth"),
    (unchanged, (*MASK, "--depth-unit-m", "inf"), "invalid_depth"),
    (unchanged, (*MASK, "--depth", "depth.png", "--depth-unit-m", "1"), "invalid_depth"),
    (unchanged, (*MASK, "--known-size", "190"), "invalid_input"),
    (no_pixels, ("--image", "empty.npy", *MASK), "invalid_image"),
    (camera_of_other_size, (*MASK, "--camera-info", "frame.json"), "invalid_camera"),
    (unchanged, (*MASK, "--camera", "0,0,0,0"), "invalid_camera"),
    (unchanged, (*MASK, "--camera", "80,80"), "invalid_camera"),
    (unchanged, (*MASK, "--camera", "exif"), "invalid_camera"),
    (unchanged, (*MASK, "--camera", "8000000,80,31,31"), "invalid_camera"),
    (corrupt_image, MASK, "unreadable_file"),
    (corrupt_labels, LABELS, "unreadable_file"),
    (unchanged, ("--image", "missing.png", *MASK), "unreadable_file"),
    (unchanged, (), "empty_mask"),
    (unchanged, ("--box", "70,70,90,90"), "empty_mask"),
    (unchanged, ("--box", "a,b"), "invalid_prompt"),
    (unchanged, (*MASK, *LABELS), "invalid_input"),
    (unchanged, (*LABELS, "--known-size", "0.2"), "invalid_input"),
    (unchanged, (*LABELS, "--known-size", "9=0.2"), "invalid_input"),
    (unchanged, (*MASK, "--known-size", "nan"), "invalid_input"),
    (names_without_names, (*MASK, "--names", "frame.json"), "unreadable_file"),
    (unchanged, (*MASK, "--config", "labels.png"), "invalid_config"),
    (unchanged, (*MASK, "--set", "refine.iteration=5"), "invalid_config"),
    (unchanged, (*MASK, "--device", "cuda:99"), "invalid_config"),
    (unchanged, (*MASK, "--device", "toaster"), "invalid_config"),
    (unchanged, (*MASK, "--samples", "-1"), "invalid_input"),
    (unchanged, (*MASK, "--names", "missing.json"), "unreadable_file"),
    (unchanged, MASK, "checkpoint_invalid"),
]


@pytest.mark.parametrize(
    ("degrade", "words", "code"), BAD_INPUTS, ids=lambda value: getattr(value, "__name__", str(value))[:40]
)
def test_each_bad_input_is_its_own_error_and_nothing_is_written(
    degrade: Callable[[Path], None],
    words: tuple[str, ...],
    code: str,
    frame: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The checkpoint does not exist: an error about the input shows that inputs are read before it is."""
    degrade(frame)
    out = tmp_path / "out"
    words = tuple(
        str(frame / word) if word.endswith((".png", ".npy", ".json", ".jpg")) else word for word in words
    )
    image = "color.png"
    if words[:1] == ("--image",):
        image, words = Path(words[1]).name, words[2:]
    before = sorted(tmp_path.rglob("*"))
    assert reconstruct(frame, out, *words, image=image) == 2
    printed = capsys.readouterr().err
    assert f"error [{code}]: " in printed and len(printed.strip().splitlines()) == 1, printed
    assert not out.exists() and sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(
    frame: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = frame / "color.png" / "out"
    assert reconstruct(frame, out, image="missing.png") == 2
    assert "error [output_failed]: " in capsys.readouterr().err


def test_a_scene_leaves_all_files_and_its_summary(
    frame: Path, sparse_checkpoint: Path, loose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--labels", str(frame / "labels.png"), "--depth", str(frame / "depth.png"), "--samples", "2"]
    words += ["--camera-info", str(frame / "frame.json"), "--names", str(frame / "frame.json")]
    code = reconstruct(
        frame, out, *words, "--config", loose, "--set", "refine.iterations=2", checkpoint=str(sparse_checkpoint)
    )
    printed = capsys.readouterr()
    record = json.loads((out / "objects.json").read_text())
    found = {item["id"]: item["label"] for item in (*record["objects"], *record["failures"])}
    assert found == {1: "red", 2: "blue"} and record["objects"]
    assert code == 0
    assert "sample the structure" in printed.err and "report.html" in printed.out and "red" in printed.out
    named = [name for item in record["objects"] for name in item["files"].values()]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["objects.json", *named, *record["files"].values()]
    )
    assert all(f"object_{item['id']}.glb" in named for item in record["objects"])
    assert record["run"]["checkpoint"]["sha256"] == checkpoint_hash(sparse_checkpoint)
    assert record["run"]["settings"]["pose"]["max_noise"] == 0.5 and record["camera"]["source"] == "given"
    assert record["run"]["settings"]["refine"]["iterations"] == 2 and record["run"]["samples"] == 2
    assert record["run"]["device"] in ("cpu", "cuda")
    assert record["generator"]["version"] == cupid_core.__version__
    assert all(item["refinement"] is not None for item in record["objects"])  # the preset normal refines


@pytest.mark.parametrize("kind", ["gray", "sixteen_bits", "alpha", "box"])
def test_images_of_all_kinds_are_taken_and_nothing_reconstructed_is_code_3(
    kind: str, frame: Path, sparse_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the settings as shipped no pose of the random networks is believed: results say why."""
    photo = cv2.imread(str(frame / "color.png"))
    assert photo is not None
    words = ["--mask", str(frame / "mask.png")]
    if kind == "gray":
        cv2.imwrite(str(frame / "other.png"), photo[..., 0])
    elif kind == "sixteen_bits":
        cv2.imwrite(str(frame / "other.png"), photo.astype(np.uint16) * 257)
    elif kind == "box":
        cv2.imwrite(str(frame / "other.png"), photo)
        words = ["--box", "8,10,30,34"]
    else:
        opaque = cv2.imread(str(frame / "mask.png"), cv2.IMREAD_GRAYSCALE)
        assert opaque is not None
        cv2.imwrite(str(frame / "other.png"), np.dstack([photo, opaque]))
        words = []
    out = tmp_path / "out"
    code = reconstruct(frame, out, *words, image="other.png", checkpoint=str(sparse_checkpoint))
    assert code == NOTHING_RECONSTRUCTED == 3
    record = json.loads((out / "objects.json").read_text())
    assert record["objects"] == [] and record["failures"][0]["code"].startswith("pose_")
    assert f"error [{record['failures'][0]['code']}]" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["objects.json", "overlay.png", "report.html"]


def test_a_killed_run_leaves_nothing(frame: Path, sparse_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--labels", str(frame / "labels.png"), "--checkpoint", str(sparse_checkpoint), "--out", str(out)]
    command = [sys.executable, "-m", "cupid_core", "reconstruct", str(frame / "color.png"), *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "structure" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL and not out.exists()


def test_names_are_read_from_plain_mappings_and_frames(tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text("1: mug\n3: 7 up\n")
    assert read_names(path) == {1: "mug", 3: "7 up"}
    path.write_text(json.dumps({"objects": [{"label": 2, "name": "bowl"}]}))
    assert read_names(path) == {2: "bowl"}
    with pytest.raises(UnreadableFileError):
        read_names(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1: no\n2: 1.50\n3: null\n", {1: "no", 2: "1.50", 3: "null"}),
        ("1: on\n2: 007\n3: 1e3\n4: 12:30\n", {1: "on", 2: "007", 3: "1e3", 4: "12:30"}),
        ("1: 2024-01-01\n2: ~\n3: 0x1F\n4: Yes", {1: "2024-01-01", 2: "~", 3: "0x1F", 4: "Yes"}),
        ("objects:\n- {label: 1, name: off}\n- label: 2\n  name: 1_000\n", {1: "off", 2: "1_000"}),
        ('{\n\t"1": "mug",\n\t"2": 1.50\n}', {1: "mug", 2: "1.50"}),
        ('\ufeff{"1": "no", "2": "碗"}', {1: "no", 2: "碗"}),
    ],
)
def test_names_are_the_words_as_written(tmp_path: Path, text: str, names: dict[int, str]) -> None:
    path = tmp_path / "names"
    path.write_text(text, encoding="utf-8")
    assert read_names(path) == names


@pytest.mark.parametrize("text", ['{"1": null}', '{"1": true}', "1:", "1: [a]", "a: mug", "mug", '{"1": " "}'])
def test_what_is_no_name_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "names"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableFileError, match="names of objects"):
        read_names(path)


def test_known_sizes() -> None:
    assert known_sizes("", [1, 2]) == {}
    assert known_sizes("0.19", [4]) == {4: 0.19}
    assert known_sizes(" 1 = 0.19, 2=0.08", [1, 2, 3]) == {1: 0.19, 2: 0.08}
    for wrong in ("0", "-1", "inf", "1=x", "x=1"):
        with pytest.raises(InputError):
            known_sizes(wrong, [1])
