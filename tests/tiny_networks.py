"""A checkpoint in the published layout with tiny random networks, for everything that needs a whole one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cupid_core.models.registry import NETWORKS

TRUNK = {
    "resolution": 16,
    "model_channels": 32,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
    "attn_mode": "swin",
    "window_size": 4,
    "use_fp16": True,
}
FLOW = {
    "cond_channels": 32,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
    "qk_rms_norm": True,
    "use_fp16": True,
}
NETWORK_JSONS: dict[str, tuple[str, dict[str, Any]]] = {
    "image_encoder": (
        "DinoVisionTransformer",
        {"img_size": 56, "patch_size": 14, "embed_dim": 32, "depth": 2, "num_heads": 2},
    ),
    "sparse_structure_flow_model": (
        "SparseStructureFlowModel",
        {"resolution": 4, "in_channels": 16, "out_channels": 16, "model_channels": 32, "patch_size": 1, **FLOW},
    ),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {
            "out_channels": 1, "latent_channels": 8, "num_res_blocks": 1, "num_res_blocks_middle": 1,
            "channels": [32, 16, 8], "use_fp16": True,
        },
    ),
    "sparse_structure_uv_decoder": (
        "SparseStructureDecoder",
        {
            "out_channels": 3, "latent_channels": 8, "num_res_blocks": 1, "num_res_blocks_middle": 1,
            "channels": [32, 16, 8], "use_fp16": True,
        },
    ),
    "slat_flow_model": (
        "ElasticVisualLatentConditioningSLatFlowModel",
        {
            "resolution": 16, "in_channels": 8, "out_channels": 8, "model_channels": 32, "patch_size": 2,
            "num_io_res_blocks": 2, "io_block_channels": [16], "cond_latent_channels": 8,
            "visual_feat_channels": [4, 4, 4, 4], "visual_feat_resolution": 32, "visual_conv_kernel_size": 3,
            **FLOW,
        },
    ),
    "slat_encoder": ("ElasticSLatEncoder", {"in_channels": 32, "latent_channels": 8, **TRUNK}),
    "slat_decoder_mesh": (
        "ElasticSLatMeshDecoder",
        {"latent_channels": 8, "representation_config": {"use_color": True}, **TRUNK, "model_channels": 256},
    ),
    "slat_decoder_gs": (
        "ElasticSLatGaussianDecoder",
        {
            "latent_channels": 8, **TRUNK,
            "representation_config": {
                "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
                "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 32, "2d_filter_kernel_size": 0.1,
                "3d_filter_kernel_size": 9e-4, "scaling_bias": 4e-3, "opacity_bias": 0.1,
                "scaling_activation": "softplus",
            },
        },
    ),
}  # fmt: skip
# Complete shapes where a checkpoint has them; a test adds them to the tiny one.
COMPLETION_JSONS: dict[str, tuple[str, dict[str, Any]]] = {
    "completion_image_encoder": (
        "ConvImagePyramid",
        {"img_size": 64, "planes": ["rgb", "mask", "points"], "channels": [8, 8, 16, 16], "embed_dim": 16},
    ),
    "completion_surface_head": ("SurfaceHead", {"channels": 16}),
    "shape_completion": ("ShapeCompletion", {"resolution": 16, "token_channels": 16, "channels": [8, 8, 8]}),
}
SAMPLER = {
    "name": "FlowEulerGuidanceIntervalSampler",
    "args": {"sigma_min": 1e-5},
    "params": {"steps": 25, "cfg_strength": 7.5, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
}


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Path:
    """A folder in the published layout."""
    return write_tiny_checkpoint(tmp_path)


def write_tiny_checkpoint(parent: Path) -> Path:
    """A folder in the published layout; random weights of a size that keeps every output of order one."""
    folder = parent / "tiny"
    (folder / "ckpts").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for key, (name, arguments) in NETWORK_JSONS.items():
        network = NETWORKS[name.removeprefix("Elastic")](**arguments)
        state = {
            # Norm weights stay near 1; everything that training starts at zero gets values as well.
            parameter: value
            if "norm" in parameter or value.ndim == 0 or "pos_emb" in parameter or "perturbation" in parameter
            else (torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5).to(value.dtype)
            for parameter, value in network.state_dict().items()
        }
        if key == "sparse_structure_decoder":
            state["out_layer.2.bias"] = torch.full((1,), -2.0)  # some voxels rather than half of all
        save_file(
            {key_: value.contiguous() for key_, value in state.items()}, folder / "ckpts" / f"{key}.safetensors"
        )
        (folder / "ckpts" / f"{key}.json").write_text(json.dumps({"name": name, "args": arguments}))
    pipeline = {
        "name": "CupidImageTo3DPipeline",
        "args": {
            "models": {key: f"ckpts/{key}" for key in NETWORK_JSONS},
            "sparse_structure_sampler": SAMPLER,
            "slat_sampler": SAMPLER,
            "slat_normalization": {"mean": [0.1] * 8, "std": [2.0] * 8},
            "image_cond_model": "dinov2_vitl14_reg",
        },
    }
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    return folder


@pytest.fixture
def sparse_checkpoint(tiny_checkpoint: Path) -> Path:
    """The same with about fifty voxels instead of five hundred: small meshes, for what is not about meshes."""
    path = tiny_checkpoint / "ckpts" / "sparse_structure_decoder.safetensors"
    state = {name: value.clone() for name, value in load_file(path).items()}
    state["out_layer.2.bias"] -= 1.0
    save_file(state, path)
    return tiny_checkpoint


@pytest.fixture
def completing_checkpoint(tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint with networks that complete shapes; their predicted points are spread over the cube."""
    generator = torch.Generator().manual_seed(1)
    for key, (name, arguments) in COMPLETION_JSONS.items():
        network = NETWORKS[name](**arguments)
        state = {
            parameter: value.clone(memory_format=torch.contiguous_format)
            for parameter, value in network.state_dict().items()
        }
        if key == "completion_surface_head":
            state["out.weight"] = torch.randn(state["out.weight"].shape, generator=generator) * 0.1
            state["out.bias"][12:] = 9.0  # every cell shows the object
        if key == "shape_completion":
            state["out_layer.bias"] += 0.5
        save_file(state, tiny_checkpoint / "ckpts" / f"{key}.safetensors")
        (tiny_checkpoint / "ckpts" / f"{key}.json").write_text(json.dumps({"name": name, "args": arguments}))
    path = tiny_checkpoint / "pipeline.json"
    pipeline = json.loads(path.read_text())
    pipeline["args"]["models"] |= {key: f"ckpts/{key}" for key in COMPLETION_JSONS}
    path.write_text(json.dumps(pipeline))
    return tiny_checkpoint
