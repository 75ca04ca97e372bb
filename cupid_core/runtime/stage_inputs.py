"""The arguments of each stage as named tensors, in the order that its module takes them.

The catalogue makes its examples with these functions, and a reconstruction its calls, so the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cupid_core.models.appearance_conditioning import FlowModulations
from cupid_core.models.layers.attention import KeyValue
from cupid_core.models.topology import VoxelTopology

Named = dict[str, Tensor]


def tables(topology: VoxelTopology) -> Named:
    """The index tables by path, int32 where the topology holds int64: half the memory, and engines prefer it."""
    named = topology.named_tensors()
    return {name: table.int() if table.dtype == torch.int64 else table for name, table in named.items()}


def memories(pairs: Sequence[KeyValue], bias: Tensor | None) -> Named:
    """Keys and values of every block, contiguous, and the context bias (Bc, 1, 1, Lk) if there is one."""
    named: Named = {}
    for block, (key, value) in enumerate(pairs):
        named |= {f"key.{block}": key.contiguous(), f"value.{block}": value.contiguous()}
    return named if bias is None else named | {"context_bias": bias}


def flow_modulations(modulations: FlowModulations) -> Named:
    """Inner and outer modulations of the appearance flow."""
    outer = {f"outer.{block}": rows for block, rows in enumerate(modulations.outer)}
    return {"modulations": modulations.inner} | outer


def axes(name: str) -> dict[int, str]:
    """Names of the axes of an input whose length varies."""
    if name in _AXES:
        return _AXES[name]
    first, last = name.split(".")[0], name.split(".")[-1]
    if first in ("key", "value"):
        return {0: "crops"}
    if first == "outer":
        return {}
    level = name.count("topology")
    voxels = f"voxels.{level}" if level else "voxels"
    if last == "children":
        return {0: f"voxels.{level + 1}"}
    if last in ("coords", "neighbors", "parents", "slot"):
        return {0: voxels}
    groups = name.removesuffix(f".{last}")  # of PaddedGroups: (groups, places)
    if groups.endswith("items"):
        return {0: "items", 1: f"longest.{level}" if level else "longest"}
    return {0: groups, 1: f"{groups}.places"}


_AXES: dict[str, dict[int, str]] = {
    "image": {0: "crops"},
    "context": {0: "crops"},
    "context_bias": {0: "crops"},
    "times": {0: "times"},
    "modulations": {},
    "volume": {0: "samples"},
    "rows": {0: "voxels"},
    "pose": {0: "voxels"},
    "null_pose": {0: "voxels"},
    "uv": {0: "voxels"},
    "visible": {0: "voxels"},
    "latent": {0: "voxels"},
}
