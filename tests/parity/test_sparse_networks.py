"""The sparse networks against the golden numbers: layers, appearance encoder, flow in all variants, decoders."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import appearance_flow
from cupid_core.models.decode_gaussians import SLatGaussianDecoder, offset_perturbation
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.decode_radiance_field import SLatRadianceFieldDecoder
from cupid_core.models.layers.norms import MultiHeadRMSNorm
from cupid_core.models.layers.sparse import (
    PointwiseConv3d,
    SparseConv3d,
    SparseGroupNorm32,
    downsample,
    subdivide,
    upsample,
)
from cupid_core.models.layers.sparse_blocks import SparseResBlock3d
from cupid_core.models.pose_aligned import VoxelView, patch_map, sample_at
from cupid_core.models.topology import VoxelTopology


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def weights(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    start = f"state_dict.{prefix}"
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def loaded(network: nn.Module, state: dict[str, Tensor]) -> Any:
    network.load_state_dict(state)
    return network.eval()


def watch(modules: nn.ModuleList, seen: list[Tensor]) -> None:
    for module in modules:
        module.register_forward_hook(lambda *call: seen.append(call[-1]))


def test_convolutions(fixtures, agree):
    tensors, meta = fixtures("sparse_conv3d")
    topology = VoxelTopology.build(tensors["coords"], int(tensors["coords"].max()) + 1)
    wide = loaded(SparseConv3d(6, 10), weights(tensors, "conv3."))
    agree("kernel 3", wide(tensors["feats"], topology), tensors["out_kernel3"], meta["tolerance"])
    point = loaded(PointwiseConv3d(6, 10), weights(tensors, "conv1."))
    agree("kernel 1", point(tensors["feats"]), tensors["out_kernel1"], meta["tolerance"])


def test_spatial_layers(fixtures, agree):
    tensors, meta = fixtures("sparse_spatial")
    bound, coords, feats = meta["tolerance"], tensors["coords"], tensors["feats"]
    topology = VoxelTopology.build(coords, 16, levels=1)
    order = tensors["shuffled_perm"]
    for prefix, own_coords, own_feats in (("", coords, feats), ("shuffled_", coords[order], feats[order])):
        down = VoxelTopology.build(own_coords, 16, levels=1).down
        assert down is not None
        assert torch.equal(down.topology.coords, tensors[f"{prefix}down_coords"].long())
        merged = downsample(own_feats, down)
        agree(f"{prefix}down", merged, tensors[f"{prefix}down_feats"], bound)
        assert torch.equal(own_coords, tensors[f"{prefix}up_coords"])
        agree(f"{prefix}up", upsample(merged, down), tensors[f"{prefix}up_feats"], bound)
    assert torch.equal(topology.subdivide().coords, tensors["sub_coords"].long())
    agree("subdivided", subdivide(feats), tensors["sub_feats"], bound)
    state = {"weight": tensors["groupnorm_weight"], "bias": tensors["groupnorm_bias"]}
    norm = loaded(SparseGroupNorm32(6, groups=3), state)
    agree("group norm", norm(feats, topology), tensors["groupnorm_out"], bound)
    rms = loaded(MultiHeadRMSNorm(4, 3), {"gamma": tensors["rms_gamma"]})
    agree("rms norm", rms(tensors["rms_in"]), tensors["rms_out"], bound)
    spread = topology.per_voxel(1 + tensors["batch_mod"])
    agree("values of items", feats * spread, tensors["feats_times_1_plus_mod"], bound)
    own = topology.rows_of(1)
    agree("one item", feats[own], tensors["item1_feats"], bound)
    assert torch.equal(coords[own, 1:], tensors["item1_coords"][:, 1:])


def test_residual_blocks(fixtures, agree):
    tensors, meta = fixtures("sparse_resblock")
    topology = VoxelTopology.build(tensors["coords"], 16, levels=1)
    assert topology.down is not None
    assert torch.equal(topology.down.topology.coords, tensors["out_down_coords"].long())
    assert torch.equal(topology.coords, tensors["out_up_coords"].long())
    blocks = {
        "same": (SparseResBlock3d(6, 16), tensors["feats"]),
        "down": (SparseResBlock3d(6, 16, 12, resample="down"), tensors["feats"]),
        "up": (SparseResBlock3d(12, 16, 6, resample="up"), tensors["out_down"]),
    }
    for name, (block, rows) in blocks.items():
        loaded(block, weights(tensors, f"{name}."))
        out = block(rows, block.modulation(tensors[f"emb_{name}"]), topology)
        agree(name, out, tensors[f"out_{name}"], meta["tolerance"])


@pytest.mark.parametrize("name", ["slat_encoder_swin", "slat_encoder_full_rms"])
def test_appearance_encoder(fixtures, agree, name):
    tensors, meta = fixtures(name)
    args, bound = meta["args"], meta["tolerance"]
    network = loaded(SLatEncoder(**args), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], args["resolution"], window_size=args["window_size"])
    seen: list[Tensor] = []
    watch(network.blocks, seen)
    posterior = network(tensors["feats"], topology)
    agree("mean", posterior.mean, tensors["mean"], bound)
    agree("log-variance", posterior.logvar, tensors["logvar"], bound)
    for index, tokens in enumerate(seen):
        agree(f"block {index}", tokens, tensors[f"block{index}_out"], bound)


def test_attention_windows(fixtures):
    tensors, meta = fixtures("slat_encoder_swin")
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=meta["args"]["window_size"])
    for groups, shift in zip(topology.windows, (0, 2), strict=True):
        rank = torch.div(groups.slot, groups.index.shape[1], rounding_mode="floor")
        assert torch.equal(rank, tensors[f"window_rank_shift{shift}"])
        assert torch.equal(groups.valid.sum(1), tensors[f"window_lengths_shift{shift}"])
        assert torch.equal(topology.item[groups.index[:, 0]], tensors[f"window_batch_shift{shift}"])


@pytest.mark.parametrize("name", ["slat_flow_base", "slat_flow_noskip", "slat_flow_noio_sharemod"])
def test_appearance_flow(fixtures, agree, name):
    tensors, meta = fixtures(name)
    bound = meta["tolerance"]
    network = loaded(SLatFlowModel(**meta["args"]), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], 16, levels=network.levels)
    coarse = topology.down.topology if topology.down is not None else topology
    parts: dict[str, list[Tensor]] = {"input_blocks": [], "blocks": [], "out_blocks": []}
    for part, seen in parts.items():
        watch(getattr(network, part), seen)
    out = network(tensors["feats"], tensors["t"], tensors["cond"], topology)
    agree("velocity", out, tensors["out"], bound)
    for part, seen in parts.items():
        for index, rows in enumerate(seen):
            level = topology if len(rows) == len(topology.coords) else coarse
            assert torch.equal(level.coords, tensors[f"{part}{index}_coords"].long())
            rows = coarse.items.scatter(rows) if part == "blocks" else rows
            agree(f"{part} {index}", rows, tensors[f"{part}{index}_feats"], bound)


@pytest.mark.parametrize("name", ["slat_flow_base", "slat_flow_noskip", "slat_flow_noio_sharemod"])
def test_appearance_flow_with_everything_cached(fixtures, agree, name):
    tensors, meta = fixtures(name)
    network = loaded(SLatFlowModel(**meta["args"]), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], 16, levels=network.levels)
    times = [float(t) / 1000 for t in tensors["t"]]
    velocity = network.velocity(network.condition(tensors["cond"], times, topology))
    for item, time in enumerate(times):
        own = topology.rows_of(item)
        agree("cached", velocity(tensors["feats"], time)[own], tensors["out"][own], meta["tolerance"])


def test_pose_aligned_flow(fixtures, agree):
    tensors, meta = fixtures("slat_flow_pac")
    bound = meta["tolerance"]
    state = weights(tensors)
    encoder = loaded(SLatEncoder(**meta["slat_encoder_args"]), weights(tensors, "__slat_encoder__."))
    own = {key: value for key, value in state.items() if not key.startswith("__")}
    network = loaded(appearance_flow("latent_visual", **meta["args"]), own)
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4, levels=1)
    tokens, images = tensors["dino_tokens"].repeat(2, 1, 1), tensors["visual_images"]
    live = torch.tensor([True, False])
    cases = {
        "cond": (tokens, images),
        "null": (torch.zeros_like(tokens), torch.zeros_like(images)),
        "mixed": (tokens.where(live[:, None, None], 0), images.where(live[:, None, None, None], 0)),
    }
    sampled = sample_at(patch_map(tokens), tensors["uv"], topology)
    agree("tokens at voxels", sampled[:10], tensors["sampled_dino_first10"], bound)
    for case, (context, image) in cases.items():
        view = VoxelView(tensors["uv"], context, image).with_latent(encoder, topology)
        pose = network.pose_features(view, topology)
        if case != "null":
            agree(f"{case} latent", pose[:, :8], tensors[f"{case}_latent_cond"], bound)
        agree(f"{case} visual", pose[:, 8:], tensors[f"{case}_visual_cond"], bound)
        out = network(tensors["feats"], tensors["t"], context, topology, pose=pose)
        agree(f"{case} velocity", out, tensors[f"{case}_out"], bound)


def test_pose_aligned_flow_with_everything_cached_in_one_batch(fixtures, agree):
    tensors, meta = fixtures("slat_flow_pac")
    state = weights(tensors)
    encoder = loaded(SLatEncoder(**meta["slat_encoder_args"]), weights(tensors, "__slat_encoder__."))
    own = {key: value for key, value in state.items() if not key.startswith("__")}
    network = loaded(appearance_flow("latent_visual", **meta["args"]), own)
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4, levels=1)
    tokens = tensors["dino_tokens"].repeat(2, 1, 1)
    view = VoxelView(tensors["uv"], tokens, tensors["visual_images"]).with_latent(encoder, topology)
    times = [float(t) / 1000 for t in tensors["t"]]
    conditioning = network.condition(tokens, times, topology, view=view)
    velocity = network.velocity(conditioning, null_half=True)
    for item, time in enumerate(times):
        under, free = velocity(torch.cat([tensors["feats"]] * 2), time).chunk(2)
        rows = topology.rows_of(item)
        agree("cached", under[rows], tensors["cond_out"][rows], meta["tolerance"])
        agree("cached null", free[rows], tensors["null_out"][rows], meta["tolerance"])


@pytest.mark.parametrize("name", ["posembed", "spatial"])
def test_unpublished_variants(fixtures, agree, name):
    tensors, meta = fixtures(f"slat_flow_{name}")
    switch = {"posembed": "position", "spatial": "spatial"}[name]
    network = loaded(appearance_flow(switch, **meta["args"]), weights(tensors))
    assert type(network).__name__ == meta["class"]
    topology = VoxelTopology.build(tensors["coords"], 16, levels=1)
    view = VoxelView(tensors["uv"], tensors["cond"], position_table=tensors.get("pos_embed"))
    pose = network.pose_features(view, topology)
    if "latent" in tensors:
        agree("pose features", pose, tensors["latent"], meta["tolerance"])
    out = network(tensors["feats"], tensors["t"], tensors["cond"], topology, pose=pose)
    agree("velocity", out, tensors["out"], meta["tolerance"])


def test_gaussian_decoder(fixtures, agree):
    tensors, meta = fixtures("slat_decoder_gs")
    bound = meta["tolerance"]
    network = loaded(SLatGaussianDecoder(**meta["args"]), weights(tensors))
    agree("spread", offset_perturbation(network.activation), tensors["offset_perturbation"], bound)
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4)
    raw = network(tensors["feats"], topology)
    agree("raw", raw, tensors["raw_out"], bound)
    splats = network.attributes(raw, topology)
    for item in (0, 1):
        own = splats.of_item(item)
        found = {
            "xyz": own.positions,
            "scaling": own.scales,
            "rotation": own.quats_xyzw.roll(1, dims=1),
            "opacity": own.opacities,
            "features": own.colors_dc[:, None],
            "covariance6": own.covariances(),
        }
        for key, value in found.items():
            agree(f"item {item} {key}", value, tensors[f"g{item}.{key}"], bound)
    agree("ply", splats.of_item(0).ply_table(), tensors["ply0"], bound)


def test_gaussian_spread_of_the_published_decoder(fixtures, agree):
    tensors, meta = fixtures("slat_decoder_gs")
    listing = fixtures("state_dict_shapes")[1]["slat_decoder_gs"]
    args = {**meta["args"], "representation_config": listing["args"]["representation_config"]}
    made = SLatGaussianDecoder(**args).offset_perturbation
    agree("spread of 32", made, tensors["full_offset_perturbation32"], meta["tolerance"])
    agree("points of 32", (torch.tanh(made) * 1.5 + 1) / 2, tensors["full_hammersley32"], meta["tolerance"])


def test_gaussian_parameters_before_activation(fixtures, agree):
    """What the reference stores before activation follows from the activated values."""
    tensors, meta = fixtures("slat_decoder_gs")
    bound = meta["tolerance"]
    network = loaded(SLatGaussianDecoder(**meta["args"]), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4)
    splats = network.attributes(tensors["raw_out"], topology)
    for item in (0, 1):
        own = splats.of_item(item)
        agree("positions", own.positions + 0.5, tensors[f"g{item}.param_xyz"], bound)
        agree("colors", own.colors_dc[:, None], tensors[f"g{item}.param_features_dc"], bound)
        logit = torch.logit(own.opacities) - tensors["opacity_bias"]
        agree("opacities", logit, tensors[f"g{item}.param_opacity"], bound)
        agree("scales", network.activation.scales(tensors[f"g{item}.param_scaling"]), own.scales, bound)
        turned = tensors[f"g{item}.param_rotation"] + torch.tensor([1.0, 0.0, 0.0, 0.0])
        agree("rotations", turned / turned.norm(dim=1, keepdim=True), own.quats_xyzw.roll(1, dims=1), bound)


def test_mesh_decoder(fixtures, agree):
    tensors, meta = fixtures("slat_decoder_mesh_net")
    bound = meta["tolerance"]
    network = loaded(SLatMeshDecoder(**meta["args"]), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], 4, window_size=4)
    seen: list[Tensor] = []
    watch(network.upsample, seen)
    agree("tokens", network.tokens(tensors["feats"], topology), tensors["tokens"], bound)
    made = network(tensors["feats"], topology)
    agree("first subdivision", seen[0], tensors["up0_feats"], bound)
    agree("second subdivision", seen[1], tensors["up1_feats"], bound)
    of_first_item = len(tensors["raw_out"])
    agree("cube fields", made.rows[:of_first_item], tensors["raw_out"], bound)
    assert torch.equal(topology.subdivide().coords, tensors["up0_coords"].long())
    assert torch.equal(made.topology.coords, tensors["raw_coords"].long())


def test_radiance_field_decoder(fixtures, agree):
    tensors, meta = fixtures("slat_decoder_rf")
    bound = meta["tolerance"]
    network = loaded(SLatRadianceFieldDecoder(**meta["args"]), weights(tensors))
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4)
    raw = network(tensors["feats"], topology)
    agree("raw", raw, tensors["raw_out"], bound)
    field, own = network.attributes(raw, topology), topology.rows_of(0)
    agree("positions", field.positions[own] + 0.5, tensors["rf0.position"], bound)
    agree("factors", field.trivec[own], tensors["rf0.trivec"], bound)
    agree("density", field.density[own], tensors["rf0.density"], bound)
    agree("colors", field.colors_dc[own, :, None], tensors["rf0.features_dc"], bound)
    assert (tensors["rf0.depth"] == field.resolution.bit_length() - 1).all()
