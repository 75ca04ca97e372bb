"""What a flow network needs at every step but must make only once.

During sampling neither the context nor the schedule changes. So each block's keys and values of the context, and
every block's modulation at every time of the schedule, are made before the first step, and `Conditioning` carries
them. The plain call of a network (tokens, time, context) makes the same anew each time and stays the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cupid_core.errors import InputError
from cupid_core.models.layers.attention import KeyValue
from cupid_core.models.layers.blocks import ModulatedCrossBlock


@dataclass(frozen=True)
class Conditioning:
    """Everything of a sampling run that depends on context and schedule alone.

    Attributes:
        memories: keys and values of the context for each block; Bc contexts.
        context_bias: (Bc, 1, 1, Lk) added to every block's cross-attention logits, or None.
        times: the T flow times of the schedule, in [0, 1].
        modulations: (T, blocks, 6C), one row per time.
    """

    memories: tuple[KeyValue, ...]
    context_bias: Tensor | None
    times: tuple[float, ...]
    modulations: Tensor

    def at(self, time: float) -> Tensor:
        """Modulations (1, blocks, 6C) of a time of the schedule.

        Raises:
            InputError: the time is not one the conditioning was made for.
        """
        if time not in self.times:
            raise InputError(
                f"Flow time {time} is not among the {len(self.times)} times this conditioning was made for.",
                hint="Make the conditioning with the times that the solver visits.",
            )
        row = self.times.index(time)
        return self.modulations[row : row + 1]


def context_memories(blocks: Iterable[nn.Module], context: Tensor) -> tuple[KeyValue, ...]:
    """Keys and values of a context (Bc, Lk, channels) for each of the blocks."""
    return tuple(cast("ModulatedCrossBlock", block).cross_kv(context) for block in blocks)


def block_modulations(blocks: Iterable[nn.Module], embedding: Tensor) -> Tensor:
    """Modulations of all blocks.

    Args:
        blocks: `ModulatedCrossBlock`s.
        embedding: (T, C) time embeddings in torso precision; (T, 6C) made by the network where blocks share them.

    Returns:
        (T, blocks, 6C).
    """
    return torch.stack([cast("ModulatedCrossBlock", block).modulation(embedding) for block in blocks], dim=1)


def run_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    modulations: Tensor,
    memories: Sequence[KeyValue],
    *,
    self_bias: Tensor | None = None,
    context_bias: Tensor | None = None,
    null_items: int = 0,
) -> Tensor:
    """Pass tokens through all blocks.

    Args:
        blocks: `ModulatedCrossBlock`s.
        x: (B, L, C) tokens in torso precision.
        modulations: (B, blocks, 6C) or (1, blocks, 6C).
        memories: one per block.
        self_bias: see `ModulatedCrossBlock.forward`; the same for `context_bias` and `null_items`.
        context_bias: (Bc, 1, 1, Lk).
        null_items: number of last items whose context is all zero.

    Returns:
        (B, L, C).
    """
    for index, block in enumerate(blocks):
        x = block(
            x,
            modulations[:, index],
            memories[index],
            self_bias=self_bias,
            context_bias=context_bias,
            null_items=null_items,
        )
    return x
