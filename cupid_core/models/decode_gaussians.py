"""Structured latent to Gaussian splats.

Source: TRELLIS (Xiang et al. 2024) section 3.1 on 3D Gaussian splatting (Kerbl et al. 2023). Every voxel makes the
same number of Gaussians near itself; a smallest size keeps them from vanishing (mip-splatting, Yu et al. 2024).

Channels of the network output with n Gaussians per voxel, each part (n, k) row by row: offset 3, color 3,
scale 3, rotation 4, opacity 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.errors import ConfigError
from cupid_core.geometry import so3
from cupid_core.geometry.grid import voxel_centers
from cupid_core.models.appearance_vae import SparseTransformerBase
from cupid_core.models.topology import VoxelTopology

SH_DEGREE_0 = 0.28209479177387814
PARTS = {"_xyz": 3, "_features_dc": 3, "_scaling": 3, "_rotation": 4, "_opacity": 1}


@dataclass(frozen=True)
class Gaussians:
    """M Gaussian splats of one or several objects, in the object frame: cube [-0.5, 0.5]^3, z up.

    Attributes:
        positions: (M, 3) centers.
        scales: (M, 3) standard deviations along the own axes, in units of the cube.
        quats_xyzw: (M, 4) unit quaternions, own axes to object frame.
        opacities: (M, 1) in (0, 1).
        colors_dc: (M, 3) degree-0 spherical-harmonic coefficients.
        item: (M,) int64 which object.
    """

    positions: Tensor
    scales: Tensor
    quats_xyzw: Tensor
    opacities: Tensor
    colors_dc: Tensor
    item: Tensor

    @property
    def rgb(self) -> Tensor:
        """(M, 3) colors, not below 0; above 1 is possible."""
        return (0.5 + SH_DEGREE_0 * self.colors_dc).clamp(min=0.0)

    def of_item(self, item: int) -> Gaussians:
        """The splats of one object."""
        rows = (self.item == item).nonzero()[:, 0]
        return Gaussians(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def covariances(self) -> Tensor:
        """(M, 6) covariances in the object frame: xx, xy, xz, yy, yz, zz."""
        axes = so3.to_matrix(self.quats_xyzw) * self.scales[:, None, :]
        full = axes @ axes.transpose(1, 2)
        row, column = torch.triu_indices(3, 3, device=full.device)
        return full[:, row, column]

    def ply_table(self, R_file_object: Tensor | None = None) -> Tensor:
        """The vertex table of the usual splat files.

        Args:
            R_file_object: (3, 3) rotation from the object frame into that of the file; None takes
                (x, y, z) to (x, -z, y), as published exports have it.

        Returns:
            (M, 17): x y z, normal (zero) x y z, color coefficients 3, opacity logit, log scales 3,
            rotation w x y z.
        """
        if R_file_object is None:
            R_file_object = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
        R_file_object = R_file_object.to(self.positions)
        turn = so3.from_matrix(R_file_object).expand_as(self.quats_xyzw)
        return torch.cat(
            [
                self.positions @ R_file_object.T,
                torch.zeros_like(self.positions),
                self.colors_dc,
                torch.logit(self.opacities),
                self.scales.log(),
                so3.multiply(turn, self.quats_xyzw).roll(1, dims=-1),
            ],
            dim=1,
        )


@dataclass(frozen=True)
class GaussianActivation:
    """How network outputs become splats; the published `representation_config`.

    Attributes:
        num_gaussians: splats per voxel.
        voxel_size: reach of a splat from the voxel center, in halves of a voxel.
        scaling_bias: scale (cube units) at network output 0.
        opacity_bias: opacity at network output 0.
        smallest_scale: lower bound of the scale (cube units), added in quadrature.
        scaling_activation: "softplus" or "exp".
        perturb_offset: spread the splats of a voxel by a fixed low-discrepancy pattern.
        rates: factor on each part of the network output.
    """

    num_gaussians: int
    voxel_size: float
    scaling_bias: float
    opacity_bias: float
    smallest_scale: float
    scaling_activation: str
    perturb_offset: bool
    rates: Mapping[str, float]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> GaussianActivation:
        """Read the published mapping.

        Raises:
            ConfigError: an entry is missing, or the scale activation is not known.
        """
        try:
            made = cls(
                num_gaussians=int(config["num_gaussians"]),
                voxel_size=float(config["voxel_size"]),
                scaling_bias=float(config["scaling_bias"]),
                opacity_bias=float(config["opacity_bias"]),
                smallest_scale=float(config["3d_filter_kernel_size"]),
                scaling_activation=str(config["scaling_activation"]),
                perturb_offset=bool(config["perturb_offset"]),
                rates={name: float(config["lr"][name]) for name in PARTS},
            )
        except KeyError as error:
            raise ConfigError(
                f"representation_config has no entry {error}.",
                hint="Copy it from the published json of the decoder.",
            ) from error
        if made.scaling_activation not in ("softplus", "exp"):
            raise ConfigError(
                f"scaling_activation is '{made.scaling_activation}'.", hint="Use 'softplus' (published) or 'exp'."
            )
        return made

    def scales(self, raw: Tensor) -> Tensor:
        """Standard deviations from scaled network outputs."""
        bias = self.scaling_bias
        if self.scaling_activation == "softplus":
            scale = F.softplus(raw + (bias + math.log(-math.expm1(-bias))))
        else:
            scale = torch.exp(raw + math.log(bias))
        return torch.sqrt(scale.square() + self.smallest_scale**2)


class SLatGaussianDecoder(SparseTransformerBase):
    """The Gaussian decoder.

    Args:
        latent_channels: channels of the latent.
        representation_config: see `GaussianActivation`; entries about rendering are ignored.
        trunk: the arguments of `SparseTransformerBase`.
    """

    offset_perturbation: Tensor

    def __init__(self, *, latent_channels: int, representation_config: Mapping[str, Any], **trunk: Any) -> None:
        super().__init__(in_channels=latent_channels, **trunk)
        self.activation = GaussianActivation.from_config(representation_config)
        self.register_buffer("offset_perturbation", offset_perturbation(self.activation))
        self.add_head(self.model_channels, self.activation.num_gaussians * sum(PARTS.values()))

    def forward(self, latent: Tensor, topology: VoxelTopology) -> Tensor:
        """Decode a latent (N, latent_channels) float32, not normalized: (N, 14 n) float32."""
        return self.project(self.tokens(latent, topology))

    def attributes(self, raw: Tensor, topology: VoxelTopology) -> Gaussians:
        """The n N Gaussians of an output of `forward`; those of a voxel are adjacent."""
        rule, per_voxel = self.activation, self.activation.num_gaussians
        widths = [per_voxel * width for width in PARTS.values()]
        part = {
            name: values.reshape(-1, per_voxel, PARTS[name]) * rule.rates[name]
            for name, values in zip(PARTS, torch.split(raw, widths, dim=1), strict=True)
        }
        offset = part["_xyz"] + self.offset_perturbation if rule.perturb_offset else part["_xyz"]
        center = voxel_centers(topology.coords[:, None, 1:], topology.resolution)
        position = center + torch.tanh(offset) * (0.5 * rule.voxel_size / topology.resolution)
        quat_wxyz = part["_rotation"] + torch.tensor([1.0, 0.0, 0.0, 0.0], device=raw.device)
        return Gaussians(
            positions=position.flatten(0, 1),
            scales=rule.scales(part["_scaling"]).flatten(0, 1),
            quats_xyzw=F.normalize(quat_wxyz, dim=-1).roll(-1, dims=-1).flatten(0, 1),
            opacities=torch.sigmoid(part["_opacity"] + _logit(rule.opacity_bias)).flatten(0, 1),
            colors_dc=part["_features_dc"].flatten(0, 1),
            item=topology.item.repeat_interleave(per_voxel),
        )


def offset_perturbation(rule: GaussianActivation) -> Tensor:
    """Where the splats of a voxel start: (n, 3), before the tanh.

    A Hammersley set in the cube [-1, 1]^3 (i / n, and the digits of i in base 2 and 3 mirrored at the point).
    """
    count = rule.num_gaussians
    points = [[i / count, _mirrored_digits(i, 2), _mirrored_digits(i, 3)] for i in range(count)]
    return torch.atanh((torch.tensor(points) * 2 - 1) / rule.voxel_size)


def _mirrored_digits(number: int, base: int) -> float:
    value, weight = 0.0, 1.0
    while number:
        number, digit = divmod(number, base)
        weight /= base
        value += digit * weight
    return value


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
