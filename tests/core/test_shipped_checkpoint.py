"""A floor under the quality of the embedded checkpoint, and the hashes of its files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import cupid_core
from cupid_core import Cupid
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.evaluation.image_metrics import silhouette_iou
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, TabletopCase, tabletop_cases
from cupid_core.models.locate import recorded_sha256, sha256
from cupid_core.render.raycast import render_mesh

FOLDER = Path(cupid_core.__file__).parent / "checkpoints" / "tabletop"
# Whole objects, sharply photographed at desk distance, with the depth of a noisy sensor.
SETTINGS = TabletopSettings(
    truncated=0.0,
    occluded=0.0,
    degradation=0.0,
    focal_low_mm=28.0,
    focal_high_mm=50.0,
    elevation_low_deg=20.0,
    elevation_high_deg=60.0,
)
FAMILIES = ("bowl", "cracker_box", "shoe")


@dataclass(frozen=True)
class Figures:
    """Agreement with the truth; what a failure counts for where nothing was reconstructed.

    Attributes:
        iou: of the outlines.
        rotation_deg: error up to the symmetry of the object.
        depth: median error inside both outlines, relative to the size of the object.
    """

    iou: float = 0.0
    rotation_deg: float = 180.0
    depth: float = math.inf

    def good(self) -> bool:
        """Today: IoU 0.96 to 0.98, 0.3 to 6 degrees, depth 0.010 to 0.013."""
        return self.iou > 0.88 and self.rotation_deg < 15.0 and self.depth < 0.03


@pytest.fixture
def cupid() -> Iterator[Cupid]:
    yield Cupid.from_pretrained(device="cpu")


def object_of(family: str) -> TabletopCase:
    (case,) = tabletop_cases([0], SETTINGS, seed=UNSEEN_SEED, family=family)
    return case


def figures_of(cupid: Cupid, case: TabletopCase) -> Figures:
    scene = cupid(case.image, masks=case.mask, camera=case.camera, depth=case.depth, samples=2)
    if not scene.objects:
        return Figures()
    found = scene[0]
    rendering = render_mesh(found.mesh, found.pose, case.view_camera(scene.camera))
    outline = torch.as_tensor(rendering.mask)
    both = outline & case.silhouette
    error_m = torch.as_tensor(rendering.depth)[both] - case.depth_true[both] * case.scale_m
    return Figures(
        iou=float(silhouette_iou(outline, case.silhouette)),
        rotation_deg=rotation_error_deg(case.T_camera_object, found.pose.matrix().double(), case.symmetry),
        depth=float(error_m.abs().median()) / case.scale_m if both.any() else math.inf,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_weights_reconstruct(family: str, cupid: Cupid) -> None:
    figures = figures_of(cupid, object_of(family))
    assert figures.good(), figures


def test_noise_in_place_of_weights_does_not_pass(cupid: Cupid) -> None:
    """With noise of the same size in place of the networks of structure every object misses the floor by far."""
    generator = torch.Generator().manual_seed(0)
    assert cupid.networks.completion is not None
    with torch.no_grad():
        for network in (cupid.networks.structure_flow, *vars(cupid.networks.completion).values()):
            for parameter in network.parameters():
                spread = parameter.float().std(correction=0)
                parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    for family in FAMILIES:
        figures = figures_of(cupid, object_of(family))
        assert not figures.good()
        assert figures.iou < 0.4 or figures.rotation_deg > 50.0 or figures.depth > 0.2, figures


def test_every_weight_file_has_the_recorded_hash() -> None:
    weights = sorted(FOLDER.rglob("*.safetensors"))
    assert len(weights) == len((FOLDER / "SHA256SUMS").read_text().splitlines())
    for path in weights:
        assert recorded_sha256(path) == sha256(path), path.name


def test_its_objects_take_their_color_from_the_photograph(cupid: Cupid) -> None:
    assert cupid.networks.published.color == "photo"
