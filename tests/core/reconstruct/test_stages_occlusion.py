"""What cannot be seen: occluders and voxels behind others, through the stages, with networks made for it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cupid_core.config import SamplerConfig
from cupid_core.errors import InputError
from cupid_core.models.appearance_variants import appearance_flow
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.reconstruct import stages
from cupid_core.sampling.noise import NoiseSource

CONFIG = SamplerConfig(steps=2, guidance_strength=1.0, guidance_from_t=0.0)
FLOW = {"cond_channels": 32, "num_blocks": 1, "num_heads": 2, "mlp_ratio": 1}
APPEARANCE = {
    "resolution": 16, "in_channels": 8, "out_channels": 8, "model_channels": 32, "patch_size": 2,
    "io_block_channels": [16], "cond_latent_channels": 8, **FLOW,
}  # fmt: skip
IMAGE = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
COORDS = torch.cartesian_prod(torch.arange(1), *(torch.arange(4, 8),) * 3)
UV = torch.rand(len(COORDS), 2, generator=torch.Generator().manual_seed(2))
LEFT_HIDDEN = torch.ones(1, 1, 56, 56)
LEFT_HIDDEN[..., :28] = 0.0


def stirred(network: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, also where training starts at zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter[0].numel() ** -0.5)
    return network.eval().requires_grad_(False)


@pytest.fixture
def networks(tiny_checkpoint: Path) -> NetworkBundle:
    return NetworkBundle.from_pretrained(tiny_checkpoint)


def latent(networks: NetworkBundle, unoccluded: torch.Tensor | None = None, **more: object) -> torch.Tensor:
    with torch.inference_mode():
        condition = stages.encode(networks, IMAGE, unoccluded=unoccluded)
        noise = NoiseSource(0)
        return stages.sample_appearance(networks, condition, COORDS, UV, CONFIG, noise, **more).latent  # type: ignore[arg-type]


def structure(networks: NetworkBundle, unoccluded: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        condition = stages.encode(networks, IMAGE, unoccluded=unoccluded)
        return stages.sample_structure(networks, condition, CONFIG, NoiseSource(0)).uv


def test_condition_says_how_much_of_every_token_is_seen(networks: NetworkBundle) -> None:
    condition = stages.encode(networks, IMAGE, unoccluded=LEFT_HIDDEN)
    prefix = networks.image_encoder.num_prefix_tokens
    assert condition.token_weights is not None and condition.token_weights.shape == condition.tokens.shape[:2]
    assert bool((condition.token_weights[:, :prefix] == 1).all())
    weights = condition.token_weights[0, prefix:].view(4, 4)
    assert torch.equal(weights, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4))
    seen = condition.visual_with_mask()
    assert seen.shape == (1, 4, 56, 56) and torch.equal(seen[:, 3:], LEFT_HIDDEN)
    plain = stages.encode(networks, IMAGE)
    assert plain.token_weights is None and bool((plain.visual_with_mask()[:, 3] == 1).all())


def test_visual_of_another_size_takes_the_mask_along(networks: NetworkBundle) -> None:
    condition = stages.encode(networks, IMAGE, torch.rand(1, 3, 32, 32), unoccluded=LEFT_HIDDEN)
    assert condition.unoccluded is not None and condition.unoccluded.shape == (1, 1, 32, 32)
    assert (
        float(condition.unoccluded[..., :12].max()) < 1e-6 and float(condition.unoccluded[..., 20:].min()) > 0.999
    )


def test_networks_that_are_not_occlusion_aware_do_as_if_nothing_were_hidden(networks: NetworkBundle) -> None:
    assert torch.equal(latent(networks), latent(networks, LEFT_HIDDEN))
    assert torch.equal(structure(networks), structure(networks, LEFT_HIDDEN))


def test_an_occlusion_aware_appearance_flow_reads_mask_and_weights(networks: NetworkBundle) -> None:
    flow = appearance_flow(
        "latent_visual", visual_feat_resolution=56, visual_feat_channels=[4, 4], occlusion_aware=True, **APPEARANCE
    )
    aware = replace(networks, appearance_flow=stirred(flow))
    everything = torch.ones_like(LEFT_HIDDEN)
    torch.testing.assert_close(latent(aware), latent(aware, everything), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(latent(aware), latent(aware, LEFT_HIDDEN), atol=1e-3)


def test_an_occlusion_aware_structure_flow_reads_the_weights(networks: NetworkBundle) -> None:
    flow = SparseStructureFlowModel(
        resolution=4,
        in_channels=16,
        out_channels=16,
        model_channels=32,
        patch_size=1,
        occlusion_aware=True,
        **FLOW,
    )
    aware = replace(networks, structure_flow=stirred(flow))
    shown, hidden = structure(aware), structure(aware, LEFT_HIDDEN)
    assert shown.shape != hidden.shape or not torch.allclose(shown, hidden, atol=1e-4)


def test_a_network_that_hides_voxels_behind_others_needs_their_depth(networks: NetworkBundle) -> None:
    flow = stirred(appearance_flow("latent_visible", **APPEARANCE))
    hiding = replace(networks, appearance_flow=flow)
    with pytest.raises(InputError, match="visib"):
        latent(hiding)
    # One cell of the depth buffer for all, so that only the nearest voxels are seen.
    same_place = torch.full_like(UV, 0.51)
    depth = torch.linspace(1.0, 2.0, len(COORDS))
    with torch.inference_mode():
        condition = stages.encode(networks, IMAGE)

        def at(depth: torch.Tensor) -> torch.Tensor:
            noise = NoiseSource(0)
            return stages.sample_appearance(
                hiding, condition, COORDS, same_place, CONFIG, noise, depth=depth
            ).latent

        flat, deep = at(torch.ones_like(depth)), at(depth)
    assert torch.isfinite(deep).all() and not torch.allclose(flat, deep, atol=1e-3)


def test_solid_meshes_have_no_wall_inside(networks: NetworkBundle) -> None:
    """A random field over all voxels of a cube: the same surface, closed at the border."""
    coords = torch.cartesian_prod(torch.arange(1), *(torch.arange(3, 11),) * 3)
    middle = (coords[:, 1:] > 4).all(1) & (coords[:, 1:] < 9).all(1)
    shell = coords[~middle]
    latent = torch.randn(len(shell), 8, generator=torch.Generator().manual_seed(0))
    appearance = stages.Appearance(latent, shell, 16)
    with torch.inference_mode():
        (hollow,), (solid,) = (stages.decode_meshes(networks, appearance, solid=solid) for solid in (False, True))
    edges = torch.cat([solid.faces[:, [0, 1]], solid.faces[:, [1, 2]], solid.faces[:, [2, 0]]])
    there, back = (edges @ torch.tensor(step) for step in ([len(solid.vertices), 1], [1, len(solid.vertices)]))
    assert torch.equal(there.sort().values, back.sort().values)
    assert solid.vertices.shape != hollow.vertices.shape
