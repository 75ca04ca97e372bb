"""One export of the tiny checkpoint for all tests of this room: it takes a minute."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_networks import write_tiny_checkpoint

from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import checkpoint_hash
from cupid_core.runtime.catalogue import stages
from cupid_core.runtime.export import Manifest, export_stages


@dataclass(frozen=True)
class Exported:
    """A checkpoint, its networks, and its exported stages."""

    checkpoint: Path
    networks: NetworkBundle
    folder: Path
    manifest: Manifest


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("onnx", reason="onnx is not installed (extra `export`)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra `export`)")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    checkpoint = write_tiny_checkpoint(tmp_path_factory.mktemp("exported"))
    networks = NetworkBundle.from_pretrained(checkpoint)
    folder = tmp_path_factory.mktemp("stages")
    digest = checkpoint_hash(checkpoint)
    prepared = stages(networks, for_export=True)
    manifest = export_stages(prepared, folder, checkpoint_sha256=digest, precision="float32")
    return Exported(checkpoint, networks, folder, manifest)
