"""SAM 2 itself, with random weights, through our adapter; skipped where the package sam2 is not installed.

CI installs no sam2: it needs torchvision, whose ordinary wheels bring CUDA.
"""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from cupid_core.config import SegmenterConfig
from cupid_core.errors import CheckpointError, ConfigError, EmptyMaskError, InvalidPromptError, MissingPackageError
from cupid_core.perception.sam2 import Sam2Segmenter
from cupid_core.perception.segment import Prompt
from cupid_core.perception.segmenters import build_segmenter

INSTALLED = importlib.util.find_spec("sam2") is not None
needs_sam2 = pytest.mark.skipif(not INSTALLED, reason="sam2 is not installed: pip install 'cupid_ros[sam2]'")
TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


@pytest.fixture(scope="module")
def operators():
    """A torchvision built for CUDA can be imported beside a torch for the CPU once its operators have names."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


@pytest.fixture(scope="module")
def weights(operators, tmp_path_factory):
    """Random weights of the smallest network in a file, as the published ones are."""
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": build_sam2(TINY, None, device="cpu").state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def segmenter(weights):
    return build_segmenter(SegmenterConfig(kind="sam2", sam2_weights=str(weights), sam2_side_px=256, min_fill=0.0))


IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
PROMPTS = {
    3: Prompt((5.0, 6.0, 40.0, 50.0)),
    5: Prompt((30.0, 10.0, 79.0, 55.0)),
    8: Prompt(inside=((20.0, 20.0),)),
    9: Prompt((5.0, 6.0, 40.0, 50.0), inside=((20.0, 20.0),), outside=((38.0, 8.0),)),
}


@needs_sam2
def test_boxes_and_points_of_one_image_share_one_encoding(segmenter):
    assert isinstance(segmenter, Sam2Segmenter)
    calls = []
    handle = segmenter._predictor.model.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        together = segmenter.segment(IMAGE, PROMPTS)
    finally:
        handle.remove()
    assert len(calls) == 1
    assert set(together.masks) | set(together.failures) == set(PROMPTS)
    for number, mask in together.masks.items():
        assert mask.shape == IMAGE.shape[:2]
        assert mask.dtype == bool
        assert 0.0 <= together.scores[number] <= 1.0
    assert all(isinstance(error, EmptyMaskError) for error in together.failures.values())
    assert len(together.masks) >= 2  # random weights draw something


@needs_sam2
def test_a_batch_is_what_each_prompt_gives_alone(segmenter):
    together = segmenter.segment(IMAGE, PROMPTS)
    for number, prompt in PROMPTS.items():
        alone = segmenter.segment(IMAGE, {number: prompt})
        assert (number in alone.masks) == (number in together.masks)
        if number in alone.masks:
            assert (alone.masks[number] != together.masks[number]).mean() < 0.01  # borders, by rounding
            assert alone.scores[number] == pytest.approx(together.scores[number], abs=1e-4)


@needs_sam2
def test_a_bad_prompt_fails_alone_and_nothing_is_encoded_for_none(segmenter):
    prompts = {1: Prompt((500.0, 0.0, 600.0, 9.0)), 2: Prompt(inside=((99.0, 5.0),)), 3: PROMPTS[3]}
    found = segmenter.segment(IMAGE, prompts)
    assert isinstance(found.failures[1], EmptyMaskError)
    assert isinstance(found.failures[2], InvalidPromptError)
    assert 3 in found.masks or isinstance(found.failures[3], EmptyMaskError)
    assert not segmenter.segment(IMAGE, {}).masks


@needs_sam2
def test_weights_that_cannot_be_loaded_are_typed_errors(operators, tmp_path):
    broken = tmp_path / "sam2.1_hiera_tiny.pt"
    broken.write_bytes(b"no weights")
    torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "sam2.1_hiera_small.pt")
    for path in (broken, tmp_path / "sam2.1_hiera_small.pt", "nobody/nothing"):
        with pytest.raises(CheckpointError):
            Sam2Segmenter.from_pretrained(SegmenterConfig(sam2_weights=str(path), sam2_side_px=256))
    broken.rename(tmp_path / "mine.pt")
    mine = {"sam2_weights": str(tmp_path / "mine.pt"), "sam2_side_px": 256}
    with pytest.raises(ConfigError, match="sam2_config"):
        Sam2Segmenter.from_pretrained(SegmenterConfig(**mine))
    with pytest.raises(ConfigError, match=r"hiera_t\.yaml"):
        Sam2Segmenter.from_pretrained(SegmenterConfig(**mine, sam2_config="configs/none.yaml"))


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sam2", None)  # what import sees where it is not installed
    for module in [name for name in sys.modules if name.startswith("sam2.")]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=r"cupid_ros\[sam2\]"):
        build_segmenter(SegmenterConfig(kind="sam2"))


def test_the_side_of_the_network_fits_its_strides():
    with pytest.raises(ConfigError, match="256"):
        Sam2Segmenter.from_pretrained(SegmenterConfig(sam2_side_px=300))
