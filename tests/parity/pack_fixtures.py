"""Write `fixtures/` from the full golden numbers of the reference.

    python tests/parity/pack_fixtures.py FOLDER

FOLDER holds NAME.safetensors and NAME.json as the reference run wrote them (see README.md). What the parity tests
do not read is left out, what a seed gives again becomes that seed, and large outputs are rounded to float16. Every
case is read back and compared with FOLDER.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from stored import FOLDER, WEIGHTS, fill, read_case
from torch import Tensor

LIMIT_BYTES = 3_000_000

# Case -> (prefix of the weights, seed they were filled with).
WEIGHT_SEEDS = {
    "dinov2_reg": [("", 97)],
    "embeddings": [("", 1)],
    "slat_decoder_gs": [("", 94)],
    "slat_decoder_mesh_net": [("", 96)],
    "slat_decoder_rf": [("", 95)],
    "slat_encoder_full_rms": [("", 70)],
    "slat_encoder_swin": [("", 70)],
    "slat_flow_base": [("", 80)],
    "slat_flow_noio_sharemod": [("", 80)],
    "slat_flow_noskip": [("", 80)],
    "slat_flow_pac": [("__slat_encoder__.", 91), ("", 90)],
    "slat_flow_posembed": [("", 92)],
    "slat_flow_spatial": [("", 93)],
    "sparse_conv3d": [("conv1.", 51), ("conv3.", 50)],
    "sparse_resblock": [("same.", 60), ("down.", 60), ("up.", 61)],
    "ss_flow_plain_patch2": [("", 12)],
    "ss_flow_rmsnorm": [("", 10)],
    "ss_flow_sharemod_crossrms": [("", 11)],
    "ss_vae": [("decoder.", 31), ("encoder.", 21)],
    "ss_vae_groupnorm": [("", 41)],
    "uv_vae": [("decoder.", 33), ("encoder.", 23)],
    "weighted_attention": [("block.", 73), ("dense.", 71), ("dense_rms.", 71), ("sparse.", 72)],
}
BUFFERS = ("pos_emb", "offset_perturbation")  # computed, not filled: stored

# Case -> large random input -> seed, and how many uniform numbers were taken from it before.
INPUT_SEEDS: dict[str, dict[str, dict[str, Any]]] = {
    "slat_flow_pac": {
        "dino_tokens": {"seed": 9, "skip": 2486, "half": True},
        "visual_images": {"seed": 9, "skip": 1409462, "uniform": True},
    },
    "slat_flow_spatial": {"cond": {"seed": 9, "skip": 1423954, "half": True}},
    "slat_encoder_swin": {"feats": {"seed": 5, "skip": 2397}},
    "slat_encoder_full_rms": {"feats": {"seed": 5, "skip": 7773}},
    "stage2_sampling": {
        "noise": {"seed": 42, "skip": 0},
        "visual_image": {"seed": 9, "skip": 1409462, "uniform": True},
    },
    "dinov2_reg": {
        "image": {"seed": 41, "skip": 0, "uniform": True},
        "image_70x42": {"seed": 41, "skip": 18816, "uniform": True},
    },
}
# FlexiCubes case -> seed of deformation, weights and colors of its cubes; the signed distances are stored.
CUBE_SEEDS = {"sphere": 1, "torus": 2, "sphere_train": 3, "nocolor_border": 4, "noise": 5}
CUBE_COLUMNS = ((8, 32, 0.3), (32, 53, 0.5), (53, 101, 1.0))

# Outputs that are rounded to float16: what lies between the input and the last output, and pictures.
ROUNDED = {
    r"crop": r".*\.tensor_\d+",
    r"dataset": r".*\.(cond|uv_volume_sub4)",
    r"dinov2_reg": r"x_.*",
    r"slat_decoder_gs": r"g\d\.(?!xyz|param_(xyz|scaling|rotation)).*|ply0",
    r"slat_decoder_mesh_net": r"tokens|up\d_feats",
    r"slat_decoder_rf": r"rf0.trivec",
    r"slat_encoder_.*": r"block\d_out",
    r"slat_flow_pac": r"sampled_dino_first10|.*_visual_cond",
    r"slat_flow_.*": r"(input_|out_|)blocks\d_feats",
    r"sparse_spatial": r"sub_feats",
    r"ss_flow_.*": r"block\d_out",
    r"uv_vae": r"decoded_logits",
}
# What no parity test reads.
UNREAD = {
    r"flexicubes_(noise|sphere_train)": r"face_normal",
    r"pose_solvers": r".*\.(K_cv|err_cv|err_dlt)|(?!exact_fov40).*\.E_cv",
    r"scene_alignment": r"align\d\.src_mask",
    r"slat_decoder_gs": r"scale_bias",
    r"training": r"fm\.randn_seed0",
}
# Large outputs of which the first rows are kept: (new name, rows).
FIRST_ROWS = {
    ("slat_flow_pac", "sampled_dino_first40"): ("sampled_dino_first10", 10),
    ("slat_decoder_mesh_net", "raw_out"): ("raw_out", 832),  # item 0, from which the mesh was made
}
METADATA = ("tensors", "software", "storage", "state_dict_keys", "fixture")  # of the full files: left out


def chosen(table: dict[str, str], case: str, name: str) -> bool:
    return any(re.fullmatch(a, case) and re.fullmatch(b, name) for a, b in table.items())


def kept(case: str, full: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the parity tests read."""
    tensors = {}
    for name, value in full.items():
        if not chosen(UNREAD, case, name):
            key, rows = FIRST_ROWS.get((case, name), (name, None))
            tensors[key] = value if rows is None else value[:rows]
    return tensors


def parameter_order(state: dict[str, Tensor], seed: int) -> list[str]:
    """Lines "key kind sizes" in the order in which one generator filled them, found by trying."""
    generator, left, lines = torch.Generator().manual_seed(seed), dict(state), []
    while left:
        before = generator.get_state()
        for (key, value), kind in ((item, kind) for item in left.items() for kind in ("weight", "bias", "scale")):
            generator.set_state(before)
            if torch.equal(fill(kind, list(value.shape), generator), value.float()):
                lines.append(" ".join([key, kind, *map(str, value.shape)]))
                del left[key]
                break
        else:
            raise ValueError(f"seed {seed} gives none of {sorted(left)}")
    return lines


def take_weights(case: str, tensors: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Replace weights by their recipes."""
    networks = []
    for prefix, seed in WEIGHT_SEEDS.get(case, []):
        start = WEIGHTS + prefix
        own = {
            key.removeprefix(start): tensors.pop(key)
            for key in list(tensors)
            if key.startswith(start) and not key.endswith(BUFFERS)
        }
        networks.append({"prefix": prefix, "seed": seed, "parameters": parameter_order(own, seed)})
    return networks


def take_inputs(case: str, tensors: dict[str, Tensor]) -> dict[str, list[dict[str, Any]]]:
    """Replace large random inputs by their recipes."""
    generated: dict[str, list[dict[str, Any]]] = {}
    for name, recipe in INPUT_SEEDS.get(case, {}).items():
        generated[name] = [{**recipe, "shape": list(tensors.pop(name).shape)}]
    if (cubes := CUBE_SEEDS.get(case.removeprefix("flexicubes_"))) is not None:
        feats = tensors.pop("feats")
        tensors["feats.sdf"] = feats[:, :8]
        parts: list[dict[str, Any]] = [{"stored": "feats.sdf"}]
        skip = tensors["feats.sdf"].numel()
        for first, last, scale in CUBE_COLUMNS:
            if last <= feats.shape[1]:
                count = len(feats) * (last - first)
                shape = [len(feats), last - first]
                parts.append({"seed": cubes, "skip": skip, "shape": shape, "scale": scale})
                skip += count + 16 * (count % 16 > 0)  # normal numbers are made 16 at a time, the last 16 anew
        generated["feats"] = parts
    return generated


def narrow(case: str, name: str, value: Tensor, meta: dict[str, Any]) -> Tensor:
    """The smallest type that holds the values, or float16 where rounding is allowed."""
    if value.dtype == torch.float32:
        if torch.equal(value.half().float(), value):
            return value.half()
        if chosen(ROUNDED, case, name):
            meta.setdefault("rounded", []).append(name)
            return value.half()
    elif value.dtype in (torch.int32, torch.int64):
        small = next(
            kind for kind in (torch.uint8, torch.int16, torch.int32) if torch.equal(value.to(kind), value)
        )
        if small != value.dtype:
            meta.setdefault("narrowed", {})[name] = str(value.dtype).removeprefix("torch.")
        return value.to(small)
    return value


def pack(case: str, source: Path) -> tuple[int, int]:
    """Write one case; bytes of its arrays and of its metadata."""
    meta = json.loads((source / f"{case}.json").read_text())
    meta = {key: value for key, value in meta.items() if key not in METADATA}
    arrays = source / f"{case}.safetensors"
    tensors = kept(case, load_file(arrays)) if arrays.exists() else {}
    meta |= {key: value for key, value in (("weights", take_weights(case, tensors)),) if value}
    meta |= {key: value for key, value in (("generated", take_inputs(case, tensors)),) if value}
    stored = {name: narrow(case, name, value, meta).numpy() for name, value in tensors.items()}
    if stored:
        np.savez_compressed(FOLDER / f"{case}.npz", **stored)
    text = json.dumps(meta, separators=(",", ":") if arrays.stem == "state_dict_shapes" else None) + "\n"
    target = FOLDER / f"{case}.json"
    if len(text) > 100_000:
        target = FOLDER / f"{case}.json.gz"
        target.write_bytes(gzip.compress(text.encode(), mtime=0))
    else:
        target.write_text(text)
    return (FOLDER / f"{case}.npz").stat().st_size if stored else 0, target.stat().st_size


def verify(case: str, source: Path) -> float:
    """Compare what is read back with the full file; the largest relative rounding of an output."""
    arrays = source / f"{case}.safetensors"
    full = kept(case, load_file(arrays)) if arrays.exists() else {}
    found, meta = read_case(case)
    if found.keys() != full.keys():
        raise ValueError(f"{case}: {found.keys() ^ full.keys()} differ")
    largest = 0.0
    for name, value in full.items():
        if name in meta.get("rounded", []):
            excess = (found[name].double() - value.double()).abs() - 2.0**-25
            largest = max(largest, float((excess / value.double().abs().clamp(min=1e-12)).max()))
        elif not torch.equal(found[name].to(value.dtype), value):
            raise ValueError(f"{case}: {name} did not come back")
    if largest > 2.0**-11:
        raise ValueError(f"{case}: rounding of {largest:.1e} is more than float16 explains")
    return largest


def main(source: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    total = 0
    for case in sorted(path.stem for path in source.glob("*.json")):
        arrays, metadata = pack(case, source)
        total += arrays + metadata
        sys.stdout.write(f"{case:28s}{arrays:9d} +{metadata:7d} bytes, rounded by {verify(case, source):.1e}\n")
    sys.stdout.write(f"{total} bytes in all\n")
    if total > LIMIT_BYTES:
        raise ValueError(f"the golden numbers take {total} bytes, more than {LIMIT_BYTES}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
