"""Tiny networks and views for the tests of stage "appearance"; nothing here is a test."""

from __future__ import annotations

from pathlib import Path

import torch

from cupid_core.config import FlowTrainingConfig, SamplerConfig
from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.training.appearance_batch import AppearanceView, project_voxels
from cupid_core.training.appearance_codec import make_codec
from cupid_core.training.appearance_networks import FrozenNetworks
from cupid_core.training.appearance_settings import (
    AppearanceFlowSettings,
    AppearanceSettings,
    AppearanceVaeSettings,
    PoseNoiseSettings,
    ShellNoiseSettings,
    SparseTrunkSettings,
    VoxelSampleSettings,
)
from cupid_core.training.appearance_stage import AppearanceStage
from cupid_core.training.run_settings import RunSettings
from cupid_core.training.stage import StageContext
from cupid_core.training.voxel_truth import VoxelGrid

RESOLUTION, SIZE, CHANNELS = 16, 32, 4
CONTEXT = StageContext(Path("unused"), torch.device("cpu"))
VAE = AppearanceVaeSettings(
    run=RunSettings(batch_size=8),
    resolution=RESOLUTION,
    latent_channels=CHANNELS,
    lattice=2,
    encoder=SparseTrunkSettings(channels=64, blocks=1, heads=2, mlp_ratio=2),
    decoder=SparseTrunkSettings(blocks=1, mlp_ratio=1),
    latent_noise=0.0,
    sample=VoxelSampleSettings(crop=4),
    shell=ShellNoiseSettings(perturbed=0.0),
    validation_objects=1,
    scale_objects=2,
)
FLOW = AppearanceFlowSettings(
    channels=64,
    blocks=1,
    heads=2,
    mlp_ratio=2,
    levels=(32,),
    condition_channels=CHANNELS,
    visual_resolution=SIZE,
    visual_channels=(8, 8),
    encoder=SparseTrunkSettings(channels=32, blocks=1, heads=2, mlp_ratio=1),
)
STAGE = AppearanceSettings(
    run=RunSettings(batch_size=8),
    network=FLOW,
    flow=FlowTrainingConfig(time_mean=0.5, condition_dropout=0.0),
    pose_noise=PoseNoiseSettings(share=0.0),
    sampler=SamplerConfig(steps=3, guidance_strength=0.0),
    validation_objects=1,
)


def frozen_networks() -> FrozenNetworks:
    """Fresh image encoder and autoencoder."""
    torch.manual_seed(0)
    images = ConvImageTransformer(
        img_size=SIZE, stem_channels=(8, 16), stem_residual=(), embed_dim=32, depth=1, num_heads=2
    )
    _, decoder = make_codec(VAE)
    for network in (images, decoder):
        network.eval().requires_grad_(False)
    return FrozenNetworks(images, RESOLUTION, CHANNELS, decoder)


def some_views(count: int, seed: int = 0) -> list[AppearanceView]:
    """Views of random voxels whose latent is the color of the picture where the voxel lies, and its height."""
    generator = torch.Generator().manual_seed(seed)
    views = []
    for _ in range(count):
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")[0]
        T = torch.eye(4)
        T[:3, :3] = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
        T[:3, :3] *= torch.linalg.det(T[:3, :3]).sign()
        T[2, 3] = 3.0
        intrinsics = torch.tensor([[1.8, 0.0, 0.5], [0.0, 1.8, 0.5], [0.0, 0.0, 1.0]])
        size = 28 + int(torch.randint(8, (1,), generator=generator))
        number = torch.randperm(RESOLUTION**3, generator=generator)[:size]
        coords = torch.stack([number // RESOLUTION**2, number // RESOLUTION % RESOLUTION, number % RESOLUTION], 1)
        topology = VoxelGrid(RESOLUTION).index(torch.cat([torch.zeros_like(coords[:, :1]), coords], dim=1))
        uv, _ = project_voxels(topology, T[None], intrinsics[None])
        pixel = (uv * SIZE).long().clamp(0, SIZE - 1)
        color = image[:, pixel[:, 1], pixel[:, 0]].T
        latent = torch.cat([color * 4 - 2, coords[:, 2:] / RESOLUTION * 2 - 1], dim=1)
        full = torch.ones(1, SIZE, SIZE)
        views.append(AppearanceView(torch.cat([image, full]), full, T, intrinsics, coords, latent))
    return views


class ViewsInMemory:
    """`AppearanceSource` of the same views for every batch."""

    def __init__(self, views: list[AppearanceView]) -> None:
        self._views = views
        self.closed = False

    def views(self, number: int, count: int) -> list[AppearanceView]:
        return self._views[:count]

    def close(self) -> None:
        self.closed = True


def stage(settings: AppearanceSettings = STAGE, views: list[AppearanceView] | None = None) -> AppearanceStage:
    """The stage on views in memory."""
    return AppearanceStage(
        settings, CONTEXT, frozen_networks(), ViewsInMemory(some_views(8) if views is None else views)
    )  # type: ignore[arg-type]
