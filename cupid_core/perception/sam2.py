"""SAM 2: masks from boxes or points, with one pass over the image for all its objects.

The package is imported when a segmenter is built. Source: Ravi et al. 2024 (arXiv 2408.00714), package sam2,
Apache-2.0, weights as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config.perception import SegmenterConfig
from cupid_core.errors import CheckpointError, ConfigError, CupidError, MissingPackageError
from cupid_core.hub import HubId
from cupid_core.image.masks import Mask, clip_box
from cupid_core.perception.segment import Prompt, Segmentation, check_fill, check_prompt, check_segmenter_image

_INSTALL = "pip install 'cupid_ros[sam2]'"
# Strides of the three feature maps that the mask decoder reads.
_STRIDES = (4, 8, 16)


class Sam2Segmenter:
    """Masks from a SAM 2 network.

    Args:
        model: as `sam2.build_sam.build_sam2` returns it, in evaluation mode, on its device.
        config: smallest fill; defaults where None. Weights and size are those of the model.

    Raises:
        MissingPackageError: the package sam2 is not installed.
    """

    def __init__(self, model: torch.nn.Module, config: SegmenterConfig | None = None) -> None:
        self._config = config or SegmenterConfig()
        self._predictor: Any = _import("sam2.sam2_image_predictor").SAM2ImagePredictor(model)
        side = int(self._predictor.model.image_size)
        # The predictor writes the sizes of a 1024 px image down instead of deriving them.
        self._predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in _STRIDES]

    @classmethod
    def from_pretrained(
        cls, config: SegmenterConfig | None = None, *, device: torch.device | str = "cpu"
    ) -> Sam2Segmenter:
        """Load weights from a .pt file or from the hub.

        Args:
            config: weights, configuration of the network, side of its image.
            device: where it runs.

        Raises:
            MissingPackageError: the package sam2 is not installed.
            CheckpointError: weights that are not there, damaged, or of another network.
            ConfigError: no configuration follows from the name of the file.
        """
        config = config or SegmenterConfig()
        return cls(_build(config, torch.device(device)), config)

    def segment(self, image: NDArray[np.uint8], prompts: Mapping[int, Prompt]) -> Segmentation:
        """As `Segmenter.segment`; the scores are the network's own estimates of IoU.

        The image is encoded once. Prompts with the same number of points go through the decoder together. A single
        point is ambiguous (part or whole?): the best scored of three masks is taken.
        """
        check_segmenter_image(image)
        masks: dict[int, Mask] = {}
        scores: dict[int, float] = {}
        failures: dict[int, CupidError] = {}
        for number, prompt in prompts.items():
            try:
                check_prompt(prompt, *image.shape[:2])
            except CupidError as error:
                failures[number] = error
        groups = _groups({key: value for key, value in prompts.items() if key not in failures})
        if groups:
            self._predictor.set_image(np.ascontiguousarray(image))
        try:
            for group in groups:
                for number, (mask, score) in self._decode(group, image.shape[0], image.shape[1]).items():
                    try:
                        check_fill(mask, group[number], self._config.min_fill)
                    except CupidError as error:
                        failures[number] = error
                        continue
                    masks[number], scores[number] = mask, score
        finally:
            self._predictor.reset_predictor()  # features of an image are large
        return Segmentation(masks, scores, failures)

    def _decode(self, group: Mapping[int, Prompt], height: int, width: int) -> dict[int, tuple[Mask, float]]:
        """Masks and scores of prompts of the same form."""
        first = next(iter(group.values()))
        several = first.box is None and len(first.inside) + len(first.outside) == 1
        masks, scores, _ = self._predictor.predict(
            **_arrays(list(group.values()), height, width), multimask_output=several
        )
        # The predictor drops the leading dimension of a single prompt.
        masks = np.asarray(masks).reshape(len(group), -1, height, width) > 0
        scores = np.asarray(scores).reshape(len(group), -1)
        best = scores.argmax(axis=1)
        return {
            number: (masks[row, best[row]], float(np.clip(scores[row, best[row]], 0.0, 1.0)))
            for row, number in enumerate(group)
        }


def _groups(prompts: Mapping[int, Prompt]) -> list[dict[int, Prompt]]:
    """Prompts that can share a batch: with or without a box, the same number of points."""
    groups: dict[tuple[bool, int], dict[int, Prompt]] = {}
    for number, prompt in prompts.items():
        form = (prompt.box is not None, len(prompt.inside) + len(prompt.outside))
        groups.setdefault(form, {})[number] = prompt
    return list(groups.values())


def _arrays(prompts: list[Prompt], height: int, width: int) -> dict[str, NDArray[Any]]:
    """Arguments of SAM2ImagePredictor.predict: box (B, 4) and points (B, N, 2), labels (B, N), pixels."""
    arguments: dict[str, NDArray[Any]] = {}
    boxes = [clip_box(prompt.box, height, width) for prompt in prompts if prompt.box is not None]
    if boxes:
        # SAM 2 means the outermost pixels of the object, ours excludes the far edge.
        arguments["box"] = np.asarray(boxes, dtype=np.float32) - np.array([0, 0, 1, 1], dtype=np.float32)
    points = [[*prompt.inside, *prompt.outside] for prompt in prompts]
    if points[0]:
        arguments["point_coords"] = np.asarray(points, dtype=np.float32)
        labels = [[1] * len(prompt.inside) + [0] * len(prompt.outside) for prompt in prompts]
        arguments["point_labels"] = np.asarray(labels, dtype=np.int32)
    return arguments


def _build(config: SegmenterConfig, device: torch.device) -> torch.nn.Module:
    if config.sam2_side_px % 256:
        raise ConfigError(
            f"perception.segmenter.sam2_side_px is {config.sam2_side_px}.", hint="Give a multiple of 256."
        )
    build_sam = _import("sam2.build_sam")
    arguments = {
        "device": device,
        "hydra_overrides_extra": [f"++model.image_size={config.sam2_side_px}"],
    }
    try:
        name, file = _config_and_weights(build_sam, config)
        model = build_sam.build_sam2(name, file, **arguments)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, UnpicklingError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"SAM 2 weights '{config.sam2_weights}' cannot be loaded: {first_line}.",
            hint="Check file and configuration (perception.segmenter.sam2_config), or the network connection.",
        ) from error
    built: torch.nn.Module = model
    return built


def _config_and_weights(build_sam: Any, config: SegmenterConfig) -> tuple[str, str]:
    """Name of the network's configuration inside the package sam2, and path of its .pt file."""
    if Path(config.sam2_weights).exists():
        return _config_name(build_sam, config), config.sam2_weights
    hub_id = HubId.parse(config.sam2_weights)
    if hub_id is None or hub_id.repository not in build_sam.HF_MODEL_ID_TO_FILENAMES:
        known = ", ".join(f"{name}@<commit>" for name in build_sam.HF_MODEL_ID_TO_FILENAMES)
        raise CheckpointError(
            f"'{config.sam2_weights}' is neither a file nor a hub id of SAM 2.", hint=f"Give a .pt or: {known}."
        )
    name, checkpoint = build_sam.HF_MODEL_ID_TO_FILENAMES[hub_id.repository]
    return str(name), str(hub_id.file(checkpoint))


def _config_name(build_sam: Any, config: SegmenterConfig) -> str:
    """Configuration of a .pt file: the one that is set, or that of a file under its published name."""
    by_file = {checkpoint: name for name, checkpoint in build_sam.HF_MODEL_ID_TO_FILENAMES.values()}
    name = config.sam2_config or by_file.get(Path(config.sam2_weights).name)
    if name is None:
        raise ConfigError(
            f"The name of {config.sam2_weights} does not determine the size of the network.",
            hint="Set perception.segmenter.sam2_config, e.g. configs/sam2.1/sam2.1_hiera_t.yaml.",
        )
    package = Path(build_sam.sam2.__path__[0])
    if not (package / name).is_file():
        known = sorted(str(path.relative_to(package)) for path in package.glob("configs/sam2*/*hiera_?*.yaml"))
        raise ConfigError(f"The package sam2 has no '{name}'.", hint=f"Give one of: {', '.join(known)}.")
    return str(name)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"SAM 2 needs the package sam2, which cannot be imported: {error}.", hint=_INSTALL
        ) from error
