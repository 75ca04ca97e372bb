"""Reads a golden case: arrays from `fixtures/NAME.npz`, and seeded numbers that are generated again.

The reference ran with random weights and random inputs. Most of them are normal numbers of a known seed, so the
file holds the seed in their place. `NAME.json` says how:

    "generated": {"noise": [{"seed": 42, "skip": 0, "shape": [848, 8]}]}                parts, joined by columns
    "weights": [{"prefix": "encoder.", "seed": 21, "parameters": ["input_layer.weight weight 8 1 3 3 3", ...]}]
"""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).with_name("fixtures")
WEIGHTS = "state_dict."


def case_names(folder: Path = FOLDER) -> set[str]:
    """Names of all golden cases."""
    return {path.name.split(".")[0] for path in folder.glob("*.json*")}


def read_case(name: str, folder: Path = FOLDER) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of one case.

    Tensors come back as float32, float64, integers or bytes; those that were rounded for storage stay float16, so
    that a comparison knows about it. Integers that were stored in fewer bits are int32 again.
    """
    path = folder / f"{name}.json"
    text = path.read_text() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes()).decode()
    meta: dict[str, Any] = json.loads(text)
    tensors: dict[str, Tensor] = {}
    if (folder / f"{name}.npz").exists():
        with np.load(folder / f"{name}.npz") as arrays:
            tensors = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    for key, value in tensors.items():
        if value.dtype == torch.float16 and key not in meta.get("rounded", []):
            tensors[key] = value.float()
        elif key in meta.get("narrowed", {}):
            tensors[key] = value.to(getattr(torch, meta["narrowed"][key]))
    for key, parts in meta.get("generated", {}).items():
        tensors[key] = torch.cat([generate(part, tensors) for part in parts], dim=-1)
    for network in meta.get("weights", []):
        tensors |= generate_weights(network)
    return tensors, meta


def generate(part: dict[str, Any], stored: dict[str, Tensor]) -> Tensor:
    """Numbers of one seed: normal, or uniform in [0, 1); `skip` counts the uniform numbers taken before."""
    if "stored" in part:
        return stored.pop(part["stored"])
    generator = torch.Generator().manual_seed(part["seed"])
    torch.rand(part["skip"], generator=generator)
    make = torch.rand if part.get("uniform") else torch.randn
    values = make(part["shape"], generator=generator) * part.get("scale", 1.0)
    return values.half().float() if part.get("half") else values


def generate_weights(network: dict[str, Any]) -> dict[str, Tensor]:
    """All parameters of a network, in the order in which they were filled, rounded to half precision."""
    generator = torch.Generator().manual_seed(network["seed"])
    made = {}
    for line in network["parameters"]:
        key, kind, *sizes = line.split()
        made[f"{WEIGHTS}{network['prefix']}{key}"] = fill(kind, [int(size) for size in sizes], generator)
    return made


def fill(kind: str, shape: list[int], generator: torch.Generator) -> Tensor:
    """Weights keep the size of unit-sized inputs; biases and tokens are small; scales are near one."""
    normal = torch.randn(shape, generator=generator)
    values = {
        "weight": normal / math.sqrt(math.prod(shape[1:])),
        "bias": 0.2 * normal,
        "scale": 1 + 0.2 * normal,
    }[kind]
    return values.half().float()
