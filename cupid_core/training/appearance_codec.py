"""The appearance autoencoder: what its encoder reads, its two networks, the scale of its latent, and its export.

Encoder and mesh decoder are exported with the scale of the latent folded into their weights, so that stage 2 works
with a latent of zero mean and unit deviation. The encoder is used in training only.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cupid_core.data.assets.samples import LatentScale
from cupid_core.data.corner_truth import CornerTruth
from cupid_core.errors import ConfigError, TrainingError
from cupid_core.models.appearance_vae import Posterior, PrincipalEncoder, SLatEncoder
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.topology import VoxelTopology
from cupid_core.training.appearance_settings import AppearanceVaeSettings
from cupid_core.training.export import network_hash, read_network
from cupid_core.training.stage import ExportedNetwork
from cupid_core.training.voxel_truth import VoxelGrid, VoxelTruth

VoxelEncoder = SLatEncoder | PrincipalEncoder
ENCODER_KEY, DECODER_KEY = "appearance_encoder", "slat_decoder_mesh"
# Distances are truncated to this, in voxel edges: beyond it they carry no information about the voxel.
_MAX_DISTANCE = 2.0
_NUMBERS_PER_POINT = 4
# Logarithm of the posterior's variance before training.
_INITIAL_LOGVAR = -6.0
# A channel that hardly varies is not scaled up.
_MIN_DEVIATION = 1e-3


@dataclass(frozen=True, eq=False)
class FrozenCodec:
    """A trained appearance autoencoder whose latent is normalized.

    Attributes:
        encoder: true surface inside voxels to their latent.
        decoder: latent to cubes.
        digest: of the encoder's weights; latents of other weights are other data.
    """

    encoder: VoxelEncoder
    decoder: SLatMeshDecoder
    digest: str

    @property
    def grid(self) -> VoxelGrid:
        """Voxel grid of both networks."""
        return VoxelGrid(self.encoder.resolution, self.encoder.window_size or self.decoder.window_size)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.decoder.input_layer.in_features


def encoder_arguments(settings: AppearanceVaeSettings) -> dict[str, Any]:
    """Constructor arguments of the encoder, plain json values."""
    channels = {
        "in_channels": settings.lattice**3 * _NUMBERS_PER_POINT,
        "latent_channels": settings.latent_channels,
    }
    if settings.encoder_kind == "principal":
        return {"resolution": settings.resolution, **channels}
    return {**channels, **settings.encoder.arguments(settings.resolution)}


def decoder_arguments(settings: AppearanceVaeSettings) -> dict[str, Any]:
    """Constructor arguments of the mesh decoder, plain json values."""
    return {
        "latent_channels": settings.latent_channels,
        "representation_config": {"use_color": True},
        **settings.decoder.arguments(settings.resolution),
    }


def make_codec(settings: AppearanceVaeSettings) -> tuple[VoxelEncoder, SLatMeshDecoder]:
    """Fresh networks; a principal encoder still has to be fitted.

    Raises:
        ConfigError: widths that do not divide, or encoder and decoder with windows of their own.
    """
    for name, trunk, unit in (("encoder", settings.encoder, 1), ("decoder", settings.decoder, 256)):
        if trunk.channels % trunk.heads or trunk.channels % unit:
            raise ConfigError(
                f"{name}.channels is {trunk.channels} with {trunk.heads} heads.",
                hint=f"Use a multiple of the heads{' and of 256' if unit > 1 else ''}.",
            )
    windows = {trunk.window for trunk in (settings.encoder, settings.decoder) if trunk.attention == "swin"}
    if len(windows) > 1:
        raise ConfigError(
            f"Encoder and decoder have windows of {settings.encoder.window} and {settings.decoder.window} voxels.",
            hint="Give both the same `window`; they share the index of their voxels.",
        )
    decoder = SLatMeshDecoder(**decoder_arguments(settings))
    if settings.encoder_kind == "principal":
        return PrincipalEncoder(**encoder_arguments(settings)), decoder
    encoder = SLatEncoder(**encoder_arguments(settings))
    # The shared initialization has a zero output layer, as flows want. An encoder needs an output from the first
    # step, and one larger than the noise of its posterior.
    nn.init.xavier_uniform_(encoder.out_layer.weight[: settings.latent_channels])
    nn.init.constant_(encoder.out_layer.bias[settings.latent_channels :], _INITIAL_LOGVAR)
    return encoder, decoder


def codec_grid(settings: AppearanceVaeSettings) -> VoxelGrid:
    """Voxel grid of the networks of these settings."""
    trunks = (settings.encoder, settings.decoder)
    return VoxelGrid(
        settings.resolution, next((trunk.window for trunk in trunks if trunk.attention == "swin"), None)
    )


def lattice_of(encoder: VoxelEncoder) -> int:
    """Lattice points per voxel edge that an encoder reads."""
    return round(math.pow(encoder.in_channels / _NUMBERS_PER_POINT, 1 / 3))


def encoder_rows(truth: CornerTruth, lattice: int) -> Tensor:
    """Encoder input of every voxel: (N, 4 lattice^3), distances in voxel edges, then colors in [-1, 1]."""
    place = truth.lattice(lattice)
    distance = (truth.sdf * truth.resolution).clamp(-_MAX_DISTANCE, _MAX_DISTANCE)[place]
    return torch.cat([distance, (2 * truth.color - 1)[place].flatten(1)], dim=1)


def encode(encoder: VoxelEncoder, truth: CornerTruth, topology: VoxelTopology) -> Posterior:
    """Posterior of the latent of every voxel."""
    posterior: Posterior = encoder(encoder_rows(truth, lattice_of(encoder)), topology)
    return posterior


def measure_scale(encoder: VoxelEncoder, voxels: Iterable[VoxelTruth]) -> LatentScale:
    """Mean and deviation of the latent over some voxels; deterministic."""
    with torch.no_grad():
        latent = torch.cat([encode(encoder, some.truth, some.topology).mean for some in voxels])
    return LatentScale(latent.mean(0), latent.std(0).clamp(min=_MIN_DEVIATION))


def fit_encoder(encoder: PrincipalEncoder, voxels: Iterable[VoxelTruth]) -> PrincipalEncoder:
    """Fit the principal components to the encoder input of some voxels, in place; deterministic."""
    lattice = lattice_of(encoder)
    return encoder.fit(torch.cat([encoder_rows(some.truth, lattice) for some in voxels]))


def normalize_encoder(encoder: VoxelEncoder, scale: LatentScale) -> VoxelEncoder:
    """A float32 copy of the encoder whose last layer normalizes the latent."""
    folded = copy.deepcopy(encoder)
    if isinstance(folded, PrincipalEncoder):
        folded.rescale(scale.mean, scale.std)
        return folded
    folded.to_precision(torch.float32)
    mean, std = scale.mean.to(folded.out_layer.weight), scale.std.to(folded.out_layer.weight)
    count = len(mean)
    with torch.no_grad():
        folded.out_layer.weight[:count] /= std[:, None]
        folded.out_layer.bias[:count] = (folded.out_layer.bias[:count] - mean) / std
        folded.out_layer.bias[count:] -= 2 * std.log()
    return folded


def denormalize_decoder(decoder: SLatMeshDecoder, scale: LatentScale) -> SLatMeshDecoder:
    """A float32 copy of the decoder whose first layer undoes the scale of a normalized latent."""
    folded = copy.deepcopy(decoder)
    folded.to_precision(torch.float32)
    layer = folded.input_layer
    with torch.no_grad():
        layer.bias.add_(layer.weight @ scale.mean.to(layer.weight))
        layer.weight.mul_(scale.std.to(layer.weight))
    return folded


def codec_exports(
    encoder: VoxelEncoder, decoder: SLatMeshDecoder, scale: LatentScale, settings: AppearanceVaeSettings
) -> Sequence[ExportedNetwork]:
    """Both networks as they are exported, with a normalized latent between them."""
    half = {"use_fp16": True}
    return [
        ExportedNetwork(
            ENCODER_KEY,
            type(encoder).__name__,
            {**encoder_arguments(settings), **({} if isinstance(encoder, PrincipalEncoder) else half)},
            normalize_encoder(encoder, scale),
        ),
        ExportedNetwork(
            DECODER_KEY,
            type(decoder).__name__,
            {**decoder_arguments(settings), **half},
            denormalize_decoder(decoder, scale),
        ),
    ]


def read_codec(folder: Path, device: torch.device) -> FrozenCodec:
    """The autoencoder that stage "appearance-vae" exported.

    Raises:
        TrainingError: it is not there, or is something else.
    """
    encoder = read_network(folder, ENCODER_KEY, (SLatEncoder, PrincipalEncoder), device)
    return FrozenCodec(
        encoder=cast(VoxelEncoder, encoder),
        decoder=read_network(folder, DECODER_KEY, SLatMeshDecoder, device),
        digest=network_hash(folder, ENCODER_KEY),
    )


@cache
def cached_codec(folder: Path, digest: str, device: str = "cpu") -> FrozenCodec:
    """`read_codec`, once per process and device.

    Raises:
        TrainingError: as `read_codec`, or the weights have another digest.
    """
    codec = read_codec(folder, torch.device(device))
    if codec.digest != digest:
        raise TrainingError(
            f"{folder} holds other weights ({codec.digest[:8]}) than at the start ({digest[:8]}).",
            hint="Train the autoencoder in another folder while a stage builds on this one.",
        )
    return codec
