"""The dense networks against the golden numbers: embeddings, attention, structure flow and VAE, image encoder."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cupid_core.models.image_encoder import DinoVisionTransformer
from cupid_core.models.layers.attention import CrossAttention, padding_bias, visibility_bias
from cupid_core.models.layers.blocks import ModulatedCrossBlock
from cupid_core.models.layers.embeddings import (
    TimestepEmbedder,
    grid_position_embedding,
    position_embedding,
    timestep_sinusoid,
)
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder

FLOWS = ["ss_flow_rmsnorm", "ss_flow_sharemod_crossrms", "ss_flow_plain_patch2"]


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def weights(tensors: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    start = f"state_dict.{prefix}"
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def test_embeddings(fixtures, agree):
    tensors, meta = fixtures("embeddings")
    bound = meta["tolerance"]
    embedder = TimestepEmbedder(64)
    embedder.load_state_dict(weights(tensors))
    agree("time mlp", embedder(tensors["t"]), tensors["mlp_out"], bound)
    # The angle is t times a float32 frequency, and how a library rounds exp depends on the processor: one unit in
    # the last place of a frequency below 0.5 moves the sinusoid by t * 2^-25 more than the json allows.
    for width in (256, 7):
        made = timestep_sinusoid(tensors["t"], width)
        for row, t in enumerate(tensors["t"].tolist()):
            near = {"atol": bound["atol"] + t * 2**-25, "rtol": bound["rtol"]}
            agree(f"sinusoid {width} of t={t:g}", made[row], tensors[f"sincos_{width}"][row], near)
    for width in (48, 64, 100, 768, 1024):
        made = position_embedding(tensors["coords"], width)
        agree(f"position {width}", made, tensors[f"ape_{width}"], bound)
    agree("grid 4", grid_position_embedding(4, 64), tensors["abs_pos_embed_3d_res4_patch1_ch64"], bound)
    agree("grid 2", grid_position_embedding(2, 64), tensors["abs_pos_embed_3d_res4_patch2_ch64"], bound)


@pytest.mark.parametrize("name", FLOWS)
def test_structure_flow(fixtures, agree, name):
    tensors, meta = fixtures(name)
    network = SparseStructureFlowModel(**meta["args"]).eval()
    network.load_state_dict(weights(tensors))
    seen: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda *call: seen.append(call[-1])) for block in network.blocks]
    out = network(tensors["x"], tensors["t"], tensors["cond"])
    for hook in hooks:
        hook.remove()
    agree("velocity", out, tensors["out"], meta["tolerance"])
    for index, tokens in enumerate(seen):
        agree(f"block {index}", tokens, tensors[f"block{index}_out"], meta["tolerance"])
    null = network(tensors["x"], tensors["t"], torch.zeros_like(tensors["cond"]))
    agree("null velocity", null, tensors["out_zero_cond"], meta["tolerance"])


@pytest.mark.parametrize("name", FLOWS)
def test_structure_flow_with_everything_cached_in_one_batch(fixtures, agree, name):
    tensors, meta = fixtures(name)
    network = SparseStructureFlowModel(**meta["args"]).eval()
    network.load_state_dict(weights(tensors))
    times = [float(t) / 1000 for t in tensors["t"]]
    conditioning = network.condition(tensors["cond"], times)
    velocity = network.velocity(conditioning, null_half=True)
    for item, time in enumerate(times):
        both = velocity(torch.cat([tensors["x"]] * 2), time)
        agree("cached velocity", both[item], tensors["out"][item], meta["tolerance"])
        agree("cached null velocity", both[2 + item], tensors["out_zero_cond"][item], meta["tolerance"])


@pytest.mark.parametrize("name", ["ss_vae", "uv_vae"])
def test_structure_vae(fixtures, agree, name):
    tensors, meta = fixtures(name)
    encoder = SparseStructureEncoder(**meta["args"]["encoder"]).eval()
    encoder.load_state_dict(weights(tensors, "encoder."))
    decoder = SparseStructureDecoder(**meta["args"]["decoder"]).eval()
    decoder.load_state_dict(weights(tensors, "decoder."))
    mean, logvar = encoder(tensors["x"])
    agree("mean", mean, tensors["mean"], meta["tolerance"])
    agree("log-variance", logvar, tensors["logvar"], meta["tolerance"])
    agree("logits", decoder(tensors["mean"]), tensors["decoded_logits"], meta["tolerance"])


def test_structure_vae_with_group_norm_head(fixtures, agree):
    tensors, meta = fixtures("ss_vae_groupnorm")
    encoder = SparseStructureEncoder(**meta["args"]).eval()
    encoder.load_state_dict(weights(tensors))
    mean, logvar = encoder(tensors["x"])
    agree("mean", mean, tensors["mean"], meta["tolerance"])
    agree("log-variance", logvar, tensors["logvar"], meta["tolerance"])


def test_image_encoder(fixtures, agree):
    tensors, meta = fixtures("dinov2_reg")
    bound = meta["tolerance"]
    network = DinoVisionTransformer(**meta["args"]).eval()
    network.load_state_dict(weights(tensors))
    for suffix in ("", "_70x42"):
        image = tensors[f"image{suffix}"]
        agree(f"hidden{suffix}", network.hidden(image), tensors[f"x_prenorm{suffix}"], bound)
        agree(f"tokens{suffix}", network(image), tensors[f"cond_tokens{suffix}"], bound)
    normed = network.norm(network.hidden(tensors["image"]))
    agree("normed class token", normed[:, 0], tensors["x_norm_clstoken"], bound)
    agree("normed patches", normed[:, network.num_prefix_tokens :], tensors["x_norm_patchtokens"], bound)


@pytest.mark.parametrize("name", ["dense", "dense_rms"])
def test_weighted_attention(fixtures, agree, name):
    tensors, meta = fixtures("weighted_attention")
    attention = cross_attention(tensors, meta, name)
    memory = attention.key_value(tensors["context"])
    weighted = attention(tensors["x"], memory, visibility_bias(tensors["weight"]))
    agree("weighted", weighted, tensors[f"{name}.out"], meta["tolerance"])
    agree("unweighted", attention(tensors["x"], memory), tensors[f"{name}.out_unweighted"], meta["tolerance"])


def test_weighted_attention_of_items_of_different_lengths(fixtures, agree):
    tensors, meta = fixtures("weighted_attention")
    attention = cross_attention(tensors, meta, "sparse")
    item = tensors["coords"][:, 0].long()
    lengths = item.bincount()
    valid = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    padded = torch.zeros(*valid.shape, tensors["feats"].shape[1])
    padded[valid] = tensors["feats"]
    memory = attention.key_value(tensors["context"])
    out = attention(padded, memory, visibility_bias(tensors["weight"]))
    agree("sparse", out[valid], tensors["sparse.out"], meta["tolerance"])


def test_modulated_block_with_weights_and_padding(fixtures, agree):
    tensors, meta = fixtures("weighted_attention")
    block = ModulatedCrossBlock(32, 24, 4, mlp_ratio=2, qk_rms_norm=True)
    block.load_state_dict(weights(tensors, "block."))
    x = tensors["x"]
    bias, memory = visibility_bias(tensors["weight"]), block.cross_kv(tensors["context"])
    modulation = block.modulation(tensors["block.mod"])
    out = block(x, modulation, memory, context_bias=bias)
    agree("block", out, tensors["block.out"], meta["tolerance"])
    longer = torch.cat([x, torch.full((2, 3, 32), 7.0)], dim=1)
    hide = padding_bias(torch.arange(10).expand(2, 10) < 7)
    padded = block(longer, modulation, memory, self_bias=hide, context_bias=bias)
    agree("padded block", padded[:, :7], tensors["block.out"], meta["tolerance"])


def cross_attention(tensors: dict[str, Tensor], meta: dict[str, Any], name: str) -> CrossAttention:
    args = meta["args"]
    layer = CrossAttention(
        args["channels"], args["ctx_channels"], args["num_heads"], qk_rms_norm=name.endswith("rms")
    )
    layer.load_state_dict(weights(tensors, f"{name}."))
    return layer
