"""Loading is strict: each way of damaging a checkpoint is one clear error, and a good one loads completely."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cupid_core.cli import main
from cupid_core.errors import CheckpointError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import find_beside, locate, pull, sha256
from cupid_core.models.verify import verify
from cupid_core.models.weights import load_network, load_official_vit, read_checkpoint

KEY = "slat_flow_model"


def weights_of(folder: Path) -> Path:
    return folder / "ckpts" / f"{KEY}.safetensors"


def load_copy(path: Path) -> dict[str, torch.Tensor]:
    """Tensors that stay when the file they came from is overwritten (`load_file` maps the file)."""
    return {key: value.clone() for key, value in load_file(path).items()}


def edit_json(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def drop_tensor(folder: Path) -> None:
    state = load_copy(weights_of(folder))
    del state["out_layer.bias"], state["input_layer.weight"]
    save_file(state, weights_of(folder))


def add_tensor(folder: Path) -> None:
    save_file(load_copy(weights_of(folder)) | {"extra.weight": torch.zeros(3)}, weights_of(folder))


def reshape_tensor(folder: Path) -> None:
    save_file(load_copy(weights_of(folder)) | {"out_layer.bias": torch.zeros(9)}, weights_of(folder))


def truncate(folder: Path) -> None:
    content = weights_of(folder).read_bytes()
    weights_of(folder).write_bytes(content[: len(content) // 2])


def scramble_header(folder: Path) -> None:
    content = bytearray(weights_of(folder).read_bytes())
    content[0:16] = b"\xff" * 16
    weights_of(folder).write_bytes(bytes(content))


def make_pickle(folder: Path) -> None:
    torch.save(load_copy(weights_of(folder)), weights_of(folder))


def remove_weights(folder: Path) -> None:
    weights_of(folder).unlink()


def bad_network_json(folder: Path) -> None:
    (folder / "ckpts" / f"{KEY}.json").write_text('{"name": "SLat')


def bad_pipeline_json(folder: Path) -> None:
    (folder / "pipeline.json").write_text("{")


def no_models(folder: Path) -> None:
    edit_json(folder / "pipeline.json", lambda values: values["args"].pop("models"))  # type: ignore[attr-defined]


def wrong_class(folder: Path) -> None:
    edit_json(folder / "ckpts" / f"{KEY}.json", lambda values: values.update(name="SLatFlowModle"))


def wrong_argument(folder: Path) -> None:
    edit_json(folder / "ckpts" / f"{KEY}.json", lambda values: values["args"].update(depth=3))  # type: ignore[attr-defined]


def other_network(folder: Path) -> None:
    edit_json(
        folder / "pipeline.json",
        lambda values: values["args"]["models"].update({KEY: "ckpts/slat_encoder"}),  # type: ignore[index]
    )


def no_pipeline(folder: Path) -> None:
    (folder / "pipeline.json").unlink()


DAMAGE = {
    drop_tensor: r"2 missing: input_layer\.weight, out_layer\.bias",
    add_tensor: r"1 unexpected: extra\.weight",
    reshape_tensor: r"out_layer\.bias is \(9,\), not \(8,\)",
    truncate: "truncated or corrupt",
    scramble_header: "truncated or corrupt",
    make_pickle: "it is a pickle",
    remove_weights: "neither in|missing",
    bad_network_json: "not JSON",
    bad_pipeline_json: "not JSON",
    no_models: r"args\.models: Field required",
    wrong_class: "names the class 'SLatFlowModle'",
    wrong_argument: "cannot be built",
    other_network: "is a SLatEncoder, not a SLatFlowModel",
    no_pipeline: r"no pipeline\.json",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_each_damage_is_one_clear_error(tiny_checkpoint: Path, damage: Callable[[Path], None]) -> None:
    damage(tiny_checkpoint)
    with pytest.raises(CheckpointError, match=DAMAGE[damage]):
        NetworkBundle.from_pretrained(tiny_checkpoint, download=False)


def test_a_good_checkpoint_loads_exactly_what_is_stored(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    for key in checkpoint.networks:
        network = load_network(checkpoint.files(key))
        stored = load_file(tiny_checkpoint / "ckpts" / f"{key}.safetensors")
        loaded = network.state_dict()
        assert loaded.keys() == stored.keys()
        for name, value in stored.items():
            assert torch.equal(loaded[name], value.float())
        assert not any(parameter.is_meta or parameter.requires_grad for parameter in network.parameters())
        assert not any(buffer.is_meta for buffer in network.buffers())


@pytest.mark.parametrize("stored_as", [torch.float64, torch.bfloat16, torch.float16])
def test_any_float_type_in(tiny_checkpoint: Path, stored_as: torch.dtype) -> None:
    path = weights_of(tiny_checkpoint)
    state = {key: value.to(stored_as) for key, value in load_copy(path).items()}
    save_file(state, path)
    network = load_network(read_checkpoint(tiny_checkpoint).files(KEY))
    assert all(torch.equal(value, state[key].float()) for key, value in network.state_dict().items())


@pytest.mark.parametrize("source", ["nonsense", "a/b/c/d", "pipeline"])
def test_a_path_without_a_checkpoint_is_refused_with_the_layout(source: str) -> None:
    with pytest.raises(CheckpointError, match=r"folder with pipeline\.json"):
        locate(source, download=False)


def test_a_hub_id_that_is_not_cached_says_how_to_download_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="cupid checkpoint pull somebody/no-such-thing"):
        locate("somebody/no-such-thing", download=False)
    with pytest.raises(CheckpointError, match="not a hub id"):
        pull("tabletop")


COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub; whoever asks the network fails."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def put(cache: Path, repository: str, commit: str, file: str) -> Path:
    path = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / commit / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


@pytest.mark.parametrize("revision", ["", "@main", f"@{'a' * 39}", f"@{'A' * 40}"])
def test_nothing_is_downloaded_without_a_full_commit(hub_cache: Path, revision: str) -> None:
    for ask in (pull, locate):
        with pytest.raises(CheckpointError, match=r"some/body@<commit> with the 40 digits"):
            ask(f"some/body{revision}")


def test_a_hub_id_finds_what_is_cached_at_its_commit(hub_cache: Path) -> None:
    first = put(hub_cache, "some/body", COMMIT, "pipeline.json").parent
    assert locate("some/body") == locate(f"some/body@{COMMIT}") == first
    with pytest.raises(CheckpointError, match="neither a folder nor in the local cache"):
        locate(f"some/body@{OTHER}", download=False)
    second = put(hub_cache, "some/body", OTHER, "pipeline.json").parent
    assert locate(f"some/body@{OTHER}") == second
    with pytest.raises(CheckpointError, match="at several commits"):
        locate("some/body")


def test_files_of_other_repositories_are_named_with_their_commit(hub_cache: Path, tmp_path: Path) -> None:
    name = "some/body/ckpts/net.json"
    with pytest.raises(CheckpointError, match=r"cupid checkpoint pull some/body@<commit>/ckpts/net`"):
        find_beside(tmp_path, name, download=True)
    with pytest.raises(CheckpointError, match="could not be fetched"):
        find_beside(tmp_path, f"some/body@{COMMIT}/ckpts/net.json", download=True)
    stored = put(hub_cache, "some/body", COMMIT, "ckpts/net.json")
    assert find_beside(tmp_path, name) == find_beside(tmp_path, f"some/body@{COMMIT}/ckpts/net.json") == stored


@pytest.mark.parametrize("path", ["../other/net", "/etc/passwd", "ckpts/../../net", "a\\..\\b", "", "."])
def test_no_path_of_a_checkpoint_leaves_its_folder(tiny_checkpoint: Path, path: str) -> None:
    edit_json(
        tiny_checkpoint / "pipeline.json",
        lambda values: values["args"]["models"].update({KEY: path}),  # type: ignore[index]
    )
    with pytest.raises(CheckpointError, match=r"outside of it|has no network|missing"):
        NetworkBundle.from_pretrained(tiny_checkpoint, download=False)
    if ".." in path or path.startswith("/"):
        with pytest.raises(CheckpointError, match="outside of it"):
            find_beside(tiny_checkpoint, f"{path}.json")


def test_verify_reports_every_network_and_the_hash(
    tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    assert {report.sha256 for report in verify(checkpoint)} == {"unrecorded"}
    sums = "".join(
        f"{sha256(path)}  {path.relative_to(tiny_checkpoint)}\n" for path in tiny_checkpoint.rglob("*.safetensors")
    )
    (tiny_checkpoint / "SHA256SUMS").write_text(sums)
    assert main(["checkpoint", "verify", str(tiny_checkpoint)]) == 0
    assert {report.sha256 for report in verify(checkpoint)} == {"equal"}

    state = load_copy(weights_of(tiny_checkpoint))
    state["out_layer.bias"][0] = torch.nan
    save_file(state, weights_of(tiny_checkpoint))
    reports = {report.key: report for report in verify(checkpoint)}
    assert reports[KEY].sha256 == "different" and "not the file that was recorded" in reports[KEY].problem
    (tiny_checkpoint / "SHA256SUMS").unlink()
    reports = {report.key: report for report in verify(checkpoint)}
    assert "NaN" in reports[KEY].problem and not reports["image_encoder"].problem
    capsys.readouterr()
    assert main(["checkpoint", "verify", str(tiny_checkpoint)]) == 1
    assert "NaN" in capsys.readouterr().out


def test_official_image_encoder_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    state = load_file(tiny_checkpoint / "ckpts" / "image_encoder.safetensors")
    path = tmp_path / "vit.pth"
    torch.save(state, path)
    assert load_official_vit(path).keys() == state.keys()
    torch.save({"model": state, "code": main}, path)
    with pytest.raises(CheckpointError, match=r"state dict|more than tensors"):
        load_official_vit(path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(CheckpointError, match="state dict"):
        load_official_vit(path)


def test_a_checkpoint_that_only_names_its_image_encoder(tiny_checkpoint: Path) -> None:
    edit_json(
        tiny_checkpoint / "pipeline.json",
        lambda values: values["args"]["models"].pop("image_encoder"),  # type: ignore[index]
    )
    with pytest.raises(CheckpointError, match="official image encoder 'dinov2_vitl14_reg'"):
        NetworkBundle.from_pretrained(tiny_checkpoint)
    save_file({"cls_token": torch.zeros(1, 1, 1024)}, tiny_checkpoint / "dinov2_vitl14_reg4_pretrain.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        NetworkBundle.from_pretrained(tiny_checkpoint)


def test_a_checkpoint_says_where_color_comes_from_and_generated_where_it_is_silent(tiny_checkpoint: Path) -> None:
    path = tiny_checkpoint / "pipeline.json"
    content = json.loads(path.read_text())
    assert read_checkpoint(tiny_checkpoint).arguments.color == "generated"
    for color in ("photo", "generated"):
        content["args"]["color"] = color
        path.write_text(json.dumps(content))
        assert read_checkpoint(tiny_checkpoint).arguments.color == color
    content["args"]["color"] = "painted"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"args\.color"):
        read_checkpoint(tiny_checkpoint)
