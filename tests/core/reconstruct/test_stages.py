"""The whole chain of networks, from crops to meshes, on a tiny checkpoint in the published layout."""

from pathlib import Path

import pytest
import torch

from cupid_core.config import SamplerConfig
from cupid_core.models.bundle import NetworkBundle
from cupid_core.reconstruct import stages
from cupid_core.sampling.noise import NoiseSource

CONFIG = SamplerConfig(steps=3, guidance_strength=2.0)


@pytest.fixture
def networks(tiny_checkpoint: Path) -> NetworkBundle:
    return NetworkBundle.from_pretrained(tiny_checkpoint)


def chain(networks: NetworkBundle, seed: int, samples: int = 2) -> tuple[stages.Appearance, list[torch.Tensor]]:
    noise = NoiseSource(seed)
    image = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        condition = stages.encode(networks, image)
        structure = stages.sample_structure(networks, condition, CONFIG, noise, samples=samples)
        assert structure.counts.shape == (2 * samples,) and bool((structure.counts > 0).all())
        assert structure.uv.shape == (len(structure.coords), 2)
        appearance = stages.sample_appearance(networks, condition, structure.coords, structure.uv, CONFIG, noise)
        meshes = stages.decode_meshes(networks, appearance)
    assert len(meshes) == 2 * samples
    for mesh in meshes:
        assert mesh.vertices.abs().max() <= 0.5 + 0.5 / 64 + 1e-6  # a border vertex moves by half a fine cube
        assert int(mesh.faces.max()) < len(mesh.vertices)
        assert mesh.colors is not None and 0 <= float(mesh.colors.min()) <= float(mesh.colors.max()) <= 1
    return appearance, [mesh.vertices for mesh in meshes]


def test_crops_become_meshes_and_the_seed_decides(networks: NetworkBundle) -> None:
    first, vertices = chain(networks, seed=3)
    again, vertices_again = chain(networks, seed=3)
    other, _ = chain(networks, seed=4)
    assert torch.equal(first.latent, again.latent)
    assert all(torch.equal(a, b) for a, b in zip(vertices, vertices_again, strict=True))
    assert first.latent.shape != other.latent.shape or not torch.equal(first.latent, other.latent)


def test_the_image_and_the_projection_matter(networks: NetworkBundle) -> None:
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    coords = torch.cartesian_prod(torch.arange(1), *(torch.arange(4, 8),) * 3)
    uv = torch.rand(len(coords), 2, generator=torch.Generator().manual_seed(2))

    def latent(image: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        condition = stages.encode(networks, image)
        return stages.sample_appearance(networks, condition, coords, uv, CONFIG, NoiseSource(0)).latent

    with torch.inference_mode():
        plain = latent(image, uv)
        assert not torch.allclose(plain, latent(1 - image, uv), atol=1e-3)
        assert not torch.allclose(plain, latent(image, uv.flip(0)), atol=1e-3)
        assert torch.equal(plain, latent(image, uv))


def test_progress_reports_every_step_and_can_stop_the_run(networks: NetworkBundle) -> None:
    class Stop(Exception):
        pass

    fractions: list[float] = []

    def on_step(step: object) -> None:
        fractions.append(step.fraction)  # type: ignore[attr-defined]
        if len(fractions) == 2:
            raise Stop

    with torch.inference_mode():
        condition = stages.encode(networks, torch.rand(1, 3, 56, 56))
        with pytest.raises(Stop):
            stages.sample_structure(networks, condition, CONFIG, NoiseSource(0), on_step=on_step)
    assert fractions == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("torso", [torch.bfloat16, torch.float16])
def test_half_precision_torso_stays_near_full_precision(tiny_checkpoint: Path, torso: torch.dtype) -> None:
    full = NetworkBundle.from_pretrained(tiny_checkpoint)
    half = NetworkBundle.from_pretrained(tiny_checkpoint, torso=torso)
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact, rough = stages.encode(full, image).tokens, stages.encode(half, image).tokens
        difference = float((exact - rough).abs().max())
    assert rough.dtype == torch.float32 and 0 < difference < 0.2
