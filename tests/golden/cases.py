"""One tiny case per network: how it is made, what it is given, and which of its numbers are kept.

`CASES` holds them, and those of the steps around the networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from seeded import Case, Outputs, Seeded
from step_cases import STEP_CASES
from torch import Tensor, nn

from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import PoseConditioning, appearance_flow
from cupid_core.models.decode_gaussians import SLatGaussianDecoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.decode_radiance_field import SLatRadianceFieldDecoder
from cupid_core.models.image_encoder import DinoVisionTransformer
from cupid_core.models.pose_aligned import VoxelView, visible_voxels
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.models.topology import VoxelTopology

TIMES = (1.0, 0.75, 0.3)


def run_image_encoder(network: DinoVisionTransformer, numbers: Seeded) -> Outputs:
    native, wide = numbers.fractions(1, 3, 12, 12), numbers.fractions(1, 3, 8, 20)
    return {"tokens": network(native), "hidden": network.hidden(native), "other_size": network(wide)}


STRUCTURE_FLOW = {
    "resolution": 4,
    "in_channels": 3,
    "model_channels": 24,
    "cond_channels": 10,
    "out_channels": 3,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
}


def run_structure_flow(network: SparseStructureFlowModel, numbers: Seeded) -> Outputs:
    x, cond = numbers.values(2, 3, 4, 4, 4), numbers.values(2, 7, 10)
    visible = numbers.fractions(2, 7) if network.occlusion_aware else None
    ready = network.velocity(network.condition(cond, TIMES, visible), null_half=True)
    return {
        "velocity": network(x, torch.tensor([870.0, 120.0]), cond, visible),
        "both_branches": ready(torch.cat([x, x]), TIMES[1]),
    }


def run_structure_encoder(network: SparseStructureEncoder, numbers: Seeded) -> Outputs:
    channels = network.input_layer.in_channels
    volume = numbers.fractions(2, channels, 8, 8, 8)
    mean, logvar = network((volume > 0.7).float() if channels == 1 else volume)
    return {"mean": mean, "logvar": logvar}


def run_structure_decoder(network: SparseStructureDecoder, numbers: Seeded) -> Outputs:
    return {"logits": network(numbers.values(1, network.latent_channels, 4, 4, 4))}


def structure_vae(name: str, channels: int, norm_type: str) -> list[Case]:
    """Encoder and decoder of a volume of 1 (occupancy) or 3 channels (flag, u, v)."""
    shared = {"latent_channels": 2, "num_res_blocks": 1, "num_res_blocks_middle": 1, "norm_type": norm_type}
    fine, coarse = (32, 32) if norm_type == "group" else (6, 10)
    encoder = partial(SparseStructureEncoder, in_channels=channels, channels=[fine, coarse], **shared)
    decoder = partial(SparseStructureDecoder, out_channels=channels, channels=[coarse, fine], **shared)
    return [
        Case(f"{name}_encoder", encoder, run_structure_encoder),
        Case(f"{name}_decoder", decoder, run_structure_decoder),
    ]


GRID, WINDOW = 4, 3
APPEARANCE_FLOW = {
    "resolution": GRID,
    "in_channels": 4,
    "model_channels": 24,
    "cond_channels": 10,
    "out_channels": 4,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "io_block_channels": [8],
    "qk_rms_norm": True,
}
LATENT = {"cond_latent_channels": 3}
VISUAL = {**LATENT, "visual_feat_resolution": 12, "visual_feat_channels": (2, 3)}
POSE_ALIGNED: Mapping[PoseConditioning, Mapping[str, Any]] = {
    PoseConditioning.NONE: {"share_mod": True, "use_skip_connection": False},
    PoseConditioning.POSITION: {**LATENT, "cond_pos_embed_channels": 6},
    PoseConditioning.LATENT: LATENT,
    PoseConditioning.LATENT_VISIBLE: LATENT,
    PoseConditioning.LATENT_VISUAL: VISUAL,
    PoseConditioning.SPATIAL: LATENT,
}


def make_appearance_flow(conditioning: PoseConditioning, **options: Any) -> nn.Module:
    """The flow, and beside it the encoder of the latent it is told."""
    encoder = make_encoder(in_channels=10, latent_channels=3)
    flow = appearance_flow(conditioning, **APPEARANCE_FLOW, **POSE_ALIGNED[conditioning], **options)
    told_latent = conditioning.value.startswith("latent")
    return nn.ModuleDict({"flow": flow, "encoder": encoder} if told_latent else {"flow": flow})


def run_appearance_flow(networks: nn.ModuleDict, numbers: Seeded) -> Outputs:
    flow: Any = networks["flow"]
    coords = numbers.voxels(GRID, 20, 11)
    topology = VoxelTopology.build(coords, GRID, window_size=WINDOW, levels=1)
    x, tokens, uv = numbers.values(31, 4), numbers.values(2, 14, 10), numbers.fractions(31, 2)
    view = VoxelView(
        uv=uv,
        tokens=tokens,
        image=numbers.fractions(2, 4 if flow.occlusion_aware else 3, 16, 16),
        visible=visible_voxels(uv, numbers.fractions(31), topology, cells=3),
        position_table=numbers.values(1, 10, 6),
    )
    if "encoder" in networks:
        view = view.with_latent(networks["encoder"], topology)
    visible = numbers.fractions(2, 14) if flow.occlusion_aware else None
    pose = flow.pose_features(view, topology)
    ready = flow.velocity(flow.condition(tokens, TIMES, topology, view=view, cond_weights=visible), null_half=True)
    outputs = {
        "velocity": flow(x, torch.tensor([870.0, 120.0]), tokens, topology, pose=pose, cond_weights=visible),
        "both_branches": ready(torch.cat([x, x]), TIMES[1]),
    }
    return outputs if pose is None else {**outputs, "pose_aligned": pose}


TRUNK = {"resolution": GRID, "num_heads": 2, "mlp_ratio": 2.0, "num_blocks": 2, "window_size": WINDOW}


def make_encoder(**options: Any) -> SLatEncoder:
    return SLatEncoder(**{"model_channels": 16, **TRUNK, **options})


def latent_input(numbers: Seeded, channels: int, *sizes: int) -> tuple[Tensor, VoxelTopology]:
    """Rows of two items and their topology with windows."""
    topology = VoxelTopology.build(numbers.voxels(GRID, *sizes), GRID, window_size=WINDOW)
    return numbers.values(sum(sizes), channels), topology


def run_encoder(network: SLatEncoder, numbers: Seeded) -> Outputs:
    posterior = network(*latent_input(numbers, 5, 20, 11))
    return {"mean": posterior.mean, "logvar": posterior.logvar}


GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 3,
    "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}


def run_gaussian_decoder(network: SLatGaussianDecoder, numbers: Seeded) -> Outputs:
    latent, topology = latent_input(numbers, 4, 9, 5)
    raw = network(latent, topology)
    splats = network.attributes(raw, topology)
    return {
        "raw": raw,
        "positions": splats.positions,
        "scales": splats.scales,
        "quats_xyzw": splats.quats_xyzw,
        "opacities": splats.opacities,
        "covariances": splats.covariances(),
        "ply_table": splats.ply_table(),
    }


def run_radiance_field_decoder(network: SLatRadianceFieldDecoder, numbers: Seeded) -> Outputs:
    latent, topology = latent_input(numbers, 4, 9, 5)
    raw = network(latent, topology)
    return {"raw": raw, "trivec": network.attributes(raw, topology).trivec}


def run_mesh_decoder(network: SLatMeshDecoder, numbers: Seeded) -> Outputs:
    fields = network(*latent_input(numbers, 4, 4, 3))
    # 9 and the 64 children of a voxel have no divisor in common, so the rows kept are of ever different children.
    return {
        "some_rows": fields.rows[::9],
        "mean_row": fields.rows.mean(0),
        "coords": fields.topology.coords[::9].int(),
    }


ENCODER_ARGS = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
LATENT_DECODER = {"latent_channels": 4, **TRUNK}
FULL = {"attn_mode": "full", "qk_rms_norm": True}
OCCLUDED = {"occlusion_aware": True, "qk_rms_norm_cross": True}
MESH_ARGS = {**LATENT_DECODER, "model_channels": 256, "num_blocks": 1, "mlp_ratio": 1.0}

CASES = [
    Case("image_encoder", partial(DinoVisionTransformer, **ENCODER_ARGS), run_image_encoder),
    Case(
        "structure_flow",
        partial(SparseStructureFlowModel, **STRUCTURE_FLOW, patch_size=1, qk_rms_norm=True),
        run_structure_flow,
    ),
    Case(
        "structure_flow_occluded",
        partial(SparseStructureFlowModel, **STRUCTURE_FLOW, **OCCLUDED, share_mod=True),
        run_structure_flow,
    ),
    *structure_vae("occupancy", 1, "layer"),
    *structure_vae("uv", 3, "layer"),
    *structure_vae("group_norm", 1, "group"),
    *(
        Case(f"appearance_flow_{kind.value}", partial(make_appearance_flow, kind), run_appearance_flow)
        for kind in PoseConditioning
    ),
    Case(
        "appearance_flow_occluded",
        partial(make_appearance_flow, PoseConditioning.LATENT_VISUAL, **OCCLUDED),
        run_appearance_flow,
    ),
    Case("encoder_windows", partial(make_encoder, in_channels=5, latent_channels=3), run_encoder),
    Case("encoder_full", partial(make_encoder, in_channels=5, latent_channels=3, **FULL), run_encoder),
    Case(
        "gaussian_decoder",
        partial(SLatGaussianDecoder, model_channels=16, representation_config=GAUSSIANS, **LATENT_DECODER),
        run_gaussian_decoder,
    ),
    Case(
        "radiance_field_decoder",
        partial(
            SLatRadianceFieldDecoder,
            model_channels=16,
            representation_config={"rank": 2, "dim": 3},
            **LATENT_DECODER,
        ),
        run_radiance_field_decoder,
    ),
    Case(
        "mesh_decoder",
        partial(SLatMeshDecoder, representation_config={"use_color": True}, **MESH_ARGS),
        run_mesh_decoder,
    ),
    *STEP_CASES,
]
