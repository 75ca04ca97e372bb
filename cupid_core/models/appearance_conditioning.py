"""Inputs of the stage-2 flow that are the same in every step of a sampling run, so they are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cupid_core.models.conditioning import Conditioning
from cupid_core.models.topology import VoxelTopology


class FlowModulations(NamedTuple):
    """Modulations of every block by the flow time.

    Attributes:
        inner: (T, blocks, 6C) of the transformer blocks.
        outer: (T, 2 C_i) of each residual block, those before the transformer first.
    """

    inner: Tensor
    outer: tuple[Tensor, ...]


@dataclass(frozen=True)
class AppearanceConditioning:
    """Everything in a sampling run that depends only on image, pose, voxels and schedule.

    Attributes:
        topology: of the N voxels of B items.
        context: keys and values, times and inner modulations.
        outer: (T, 2 C_i) modulations of each residual block.
        pose: (N, P) pose-aligned features, or None for a network without.
        null_pose: the same under the null condition.
    """

    topology: VoxelTopology
    context: Conditioning
    outer: tuple[Tensor, ...]
    pose: Tensor | None
    null_pose: Tensor | None

    def at(self, time: float) -> FlowModulations:
        """Modulations at a time of the schedule.

        Raises:
            InputError: the time is not in the schedule of the conditioning.
        """
        inner = self.context.at(time)
        row = self.context.times.index(time)
        return FlowModulations(inner, tuple(modulation[row : row + 1] for modulation in self.outer))
