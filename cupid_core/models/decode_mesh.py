"""Structured latent to the 101 numbers per fine cube that a mesh is extracted from.

Source: TRELLIS (Xiang et al. 2024) section 3.1. Two subdivisions take the grid from R to 4 R cells per edge.

Channels of the output: signed distance at the 8 corners [0:8], deformation of the 8 corners [8:32], interpolation
weights 21 [32:53], color and normal logits of the 8 corners, 6 each [53:101]. Corner k is at the offset
(k & 1, k >> 1 & 1, k >> 2 & 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from cupid_core.models.appearance_vae import SparseTransformerBase
from cupid_core.models.layers.sparse_blocks import SparseSubdivideBlock3d
from cupid_core.models.topology import VoxelTopology

GEOMETRY_CHANNELS = 53
COLOR_CHANNELS = 48


class CubeFields(NamedTuple):
    """Output of the mesh decoder: rows (64 N, 101) float32 and the topology of the 64 N fine cubes."""

    rows: Tensor
    topology: VoxelTopology


class SLatMeshDecoder(SparseTransformerBase):
    """The mesh decoder up to its last linear layer.

    Args:
        latent_channels: channels of the latent.
        representation_config: `use_color` (default false) adds the 48 color channels; nothing else is read.
        trunk: the arguments of `SparseTransformerBase`; `model_channels` divisible by 256.
    """

    def __init__(
        self, *, latent_channels: int, representation_config: Mapping[str, Any] | None = None, **trunk: Any
    ) -> None:
        super().__init__(in_channels=latent_channels, **trunk)
        wide = self.model_channels
        self.upsample = nn.ModuleList(
            [SparseSubdivideBlock3d(wide, wide // 4), SparseSubdivideBlock3d(wide // 4, wide // 8)]
        )
        colored = bool((representation_config or {}).get("use_color", False))
        self.add_head(wide // 8, GEOMETRY_CHANNELS + (COLOR_CHANNELS if colored else 0))

    def torso(self) -> list[nn.Module]:
        """Roots of the modules that go to half precision."""
        return [self.blocks, self.upsample]

    def forward(self, latent: Tensor, topology: VoxelTopology) -> CubeFields:
        """Decode a latent (N, latent_channels) float32, not normalized."""
        rows = self.tokens(latent, topology)
        for block in self.upsample:
            fine = topology.subdivide()
            rows, topology = block(rows, topology, fine), fine
        return CubeFields(self.out_layer(rows.float()), topology)
