"""The whole second stage against the golden numbers: projection, guided sampling, latent, pose back again."""

import pytest
import torch

from cupid_core.config import SamplerConfig
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import appearance_flow
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.topology import VoxelTopology
from cupid_core.pose.dlt import decompose_projection, reference_dlt
from cupid_core.sampling.sample import sample, sampling_times


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


def test_appearance_stage(fixtures, agree):
    tensors, meta = fixtures("stage2_sampling")
    stored, networks = fixtures(meta["uses_weights_of"])
    state = {key.removeprefix("state_dict."): value for key, value in stored.items() if "state_dict." in key}
    inner = "__slat_encoder__."
    encoder = SLatEncoder(**networks["slat_encoder_args"])
    encoder.load_state_dict({key.removeprefix(inner): v for key, v in state.items() if key.startswith(inner)})
    flow = appearance_flow("latent_visual", **networks["args"])
    flow.load_state_dict({key: value for key, value in state.items() if not key.startswith(inner)})

    centers = (tensors["coords"][:, 1:] + 0.5) / 16 - 0.5
    camera = centers @ tensors["E"][:3, :3].T + tensors["E"][:3, 3]
    image = camera @ tensors["K"].T
    uv = (image[:, :2] / image[:, 2:]).clamp(0, 1)
    agree("uv", uv, tensors["uv_cond"], meta["tolerance"]["uv_cond"])

    params = meta["sampler"]["params"]
    config = SamplerConfig(
        steps=params["steps"],
        rescale_t=params["rescale_t"],
        guidance_strength=params["cfg_strength"],
        guidance_from_t=params["cfg_interval"][0],
        guidance_to_t=params["cfg_interval"][1],
    )
    topology = VoxelTopology.build(tensors["coords"], 16, window_size=4, levels=1)
    view = VoxelView(uv, stored["dino_tokens"], tensors["visual_image"]).with_latent(encoder, topology)
    conditioning = flow.condition(stored["dino_tokens"], sampling_times(config), topology, view=view)
    latent = sample(
        flow.velocity(conditioning), flow.velocity(conditioning, null_half=True), tensors["noise"], config
    )
    normal = meta["slat_normalization"]
    latent = latent * torch.tensor(normal["std"]) + torch.tensor(normal["mean"])
    agree("latent", latent, tensors["slat_denormalised"], meta["tolerance"]["slat"])


def test_pose_of_the_appearance_stage(fixtures, agree):
    tensors, meta = fixtures("stage2_sampling")
    centers = (tensors["coords"][:, 1:] + 0.5) / 16 - 0.5
    projection = reference_dlt(centers[None], tensors["uv_for_pose"][None])[0]
    K, rotation, translation = decompose_projection(projection)
    agree("K", K, tensors["pose_K"], meta["tolerance"]["pose"])
    agree("rotation", rotation, tensors["pose_E"][:3, :3], meta["tolerance"]["pose"])
    agree("translation", translation, tensors["pose_E"][:3, 3], meta["tolerance"]["pose"])
