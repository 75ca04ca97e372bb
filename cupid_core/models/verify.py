"""Checks a checkpoint file by file: content hash, names, shapes, values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cupid_core.errors import CheckpointError
from cupid_core.models.locate import recorded_sha256, sha256
from cupid_core.models.weights import Checkpoint, build_network, check_fit, read_tensors


@dataclass(frozen=True)
class NetworkReport:
    """The result for one network.

    Attributes:
        key: name in pipeline.json.
        class_name: published class; empty when the json cannot be read.
        parameters: number of values in the file; 0 when it cannot be read.
        sha256: "equal" to the recorded content hash, "unrecorded" when there is none, "different".
        problem: empty when the network can be loaded.
    """

    key: str
    class_name: str
    parameters: int
    sha256: Literal["equal", "unrecorded", "different", ""]
    problem: str


def verify(checkpoint: Checkpoint) -> Iterator[NetworkReport]:
    """Report on every network of a checkpoint, in order; damaged ones are reported, not raised."""
    for key in checkpoint.networks:
        yield _report(checkpoint, key)


def _report(checkpoint: Checkpoint, key: str) -> NetworkReport:
    try:
        files = checkpoint.files(key)
    except CheckpointError as error:
        return NetworkReport(key, "", 0, "", str(error))
    recorded = recorded_sha256(files.weights)
    hashed: Literal["equal", "unrecorded", "different"] = "unrecorded"
    if recorded is not None:
        hashed = "equal" if sha256(files.weights) == recorded else "different"
    if hashed == "different":
        return NetworkReport(
            key, files.class_name, 0, hashed, f"{files.weights} is not the file that was recorded"
        )
    try:
        state = read_tensors(files.weights)
        check_fit(build_network(files), state, origin=str(files.weights))
    except CheckpointError as error:
        return NetworkReport(key, files.class_name, 0, hashed, str(error))
    broken = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    problem = f"{len(broken)} tensors hold NaN or infinity: {', '.join(broken)}" if broken else ""
    return NetworkReport(key, files.class_name, sum(tensor.numel() for tensor in state.values()), hashed, problem)
