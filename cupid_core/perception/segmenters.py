"""Builds the segmenter that the settings name."""

from __future__ import annotations

import torch

from cupid_core.config.perception import SegmenterConfig
from cupid_core.perception.grabcut import GrabCutSegmenter
from cupid_core.perception.sam2 import Sam2Segmenter
from cupid_core.perception.segment import Segmenter


def build_segmenter(config: SegmenterConfig | None = None, *, device: torch.device | str = "cpu") -> Segmenter:
    """The segmenter of the settings.

    Args:
        config: `perception.segmenter`; GrabCut where None.
        device: where a network runs.

    Raises:
        MissingPackageError: its package is not installed; the text names the extra.
        CheckpointError: its weights cannot be loaded.
        ConfigError: settings that name no network.
    """
    config = config or SegmenterConfig()
    if config.kind == "sam2":
        return Sam2Segmenter.from_pretrained(config, device=device)
    return GrabCutSegmenter(config)
