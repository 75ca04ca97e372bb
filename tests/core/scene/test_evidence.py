"""The numbers that certainty is computed from, on boxes and cans whose answers are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from cupid_core.geometry import so3
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.agreement import Agreement
from cupid_core.scene.evidence import PlacedShape, Recognition, gather_evidence
from cupid_core.scene.observation import Observation
from cupid_core.scene.shape_fit import ShapeFit
from cupid_core.scene.shape_symmetry import ShapeSymmetry, find_symmetry
from cupid_core.types import DepthMap, Quality, ScaleSource, TriangleMesh

CAMERA = Camera.from_focal(200.0, 160, 120)
QUALITY = Quality(0.8, 18.0, 1.5, 0.9, 0.004)
SCALE_M = 0.2


Turn = tuple[float, float, float]
STRAIGHT: Turn = (0.0, 0.0, 0.0)


def placed(solid: trimesh.Trimesh, turn: Turn, x: float = 0.0) -> PlacedShape:
    mesh = TriangleMesh(
        torch.from_numpy(np.array(solid.vertices)).float(), torch.from_numpy(np.array(solid.faces)).long()
    )
    rotation = so3.to_matrix(so3.exp(torch.tensor(turn, dtype=torch.float64)))
    where = torch.tensor([x, 0.0, 0.6], dtype=torch.float64)
    place = Sim3.from_rotation_translation(torch.tensor(SCALE_M, dtype=torch.float64), rotation, where)
    return PlacedShape(mesh, MeshCaster(mesh), place)


def box(turn: Turn = STRAIGHT, x: float = 0.0) -> PlacedShape:
    return placed(trimesh.creation.box((0.5, 0.5, 1.0)), turn, x)


def can(turn: Turn) -> PlacedShape:
    return placed(trimesh.creation.cylinder(radius=0.25, height=0.9), turn)


def observed(shape: PlacedShape, *, depth: bool = True, hidden: slice | None = None) -> Observation:
    rendering = shape.caster.render(shape.S_camera_object, CAMERA)
    occlusion = np.zeros_like(rendering.mask)
    if hidden is not None:
        occlusion[:, hidden] = True
    measured = DepthMap(torch.from_numpy(rendering.depth), ScaleSource.SENSOR) if depth else None
    return Observation(rendering.mask & ~occlusion, CAMERA, occlusion, measured)


def evidence(final: PlacedShape, **changes: object):  # type: ignore[no-untyped-def]
    given = {
        "start": final,
        "others": [],
        "observation": observed(final),
        "quality": QUALITY,
        "symmetry": ShapeSymmetry.none(),
        "metric": True,
    } | changes
    return gather_evidence(final, **given)  # type: ignore[arg-type]


def test_what_was_not_fitted_is_judged_as_it_was_placed() -> None:
    found = evidence(box())
    assert found.outline_before == found.outline_after == 0.8 and found.color_db == 18.0
    assert found.depth_before == found.depth_after == pytest.approx(0.004 / SCALE_M)
    assert found.fitted == found.turned_rad == found.stretched == found.resized == 0.0
    assert found.longest_m == pytest.approx(SCALE_M) and (found.middle, found.shortest) == pytest.approx(
        (0.5, 0.5)
    )
    assert found.measured == 1.0 and found.foreign == 0.0 and found.hidden_outline == 0.0


def test_a_box_seen_from_the_side_shows_one_of_its_sides() -> None:
    flat = box((math.pi / 2, 0.0, 0.0))  # the camera sees one face of 0.5 x 1; the whole surface has 2.5
    assert evidence(flat).seen == pytest.approx(0.2, abs=0.04)
    turned = box((math.pi / 2, math.pi / 4, 0.0))
    assert evidence(turned).seen > 0.3
    half = evidence(flat, observation=observed(flat, hidden=slice(0, 80)))
    assert half.seen == pytest.approx(0.1, abs=0.03) and half.hidden_outline > 0.2


def test_without_depth_nothing_is_said_of_it() -> None:
    found = evidence(
        box(),
        observation=observed(box(), depth=False),
        quality=replace(QUALITY, depth_residual_m=None),
        metric=False,
    )
    assert found.measured == 0.0 and math.isnan(found.depth_after) and math.isnan(found.longest_m)


def test_a_fit_is_judged_where_it_did_not_look() -> None:
    start, final = box(), box((0.0, 0.0, 0.3))
    before, after = Agreement(0.7, 0.02), Agreement(0.9, 0.003)
    scales = torch.tensor([1.2, 1 / 1.2, 1.0], dtype=torch.float64)
    fit = ShapeFit(final.mesh, final.S_camera_object, scales, False, before, after, 0.9, True, "")
    found = evidence(final, start=start, fit=fit)
    assert found.outline_before == 0.8, "of the whole image, before the fit"
    assert (found.outline_after, found.fitted) == (0.9, 1.0) and found.depth_after == pytest.approx(
        0.003 / SCALE_M
    )
    assert found.turned_rad == pytest.approx(0.3, abs=1e-6) and found.stretched == pytest.approx(math.log(1.2))


def test_hypotheses_that_agree_and_that_do_not() -> None:
    assert math.isnan(evidence(box()).spread_rad)
    same = evidence(box(), others=[box(), box()])
    assert same.drawn == 2.0 and same.spread_rad == pytest.approx(0.0, abs=1e-6) and same.spread_surface < 1e-3
    moved = evidence(box(), others=[box(x=0.05)])
    assert moved.spread_rad == pytest.approx(0.0, abs=1e-6) and moved.spread_surface > 0.05
    turned = evidence(box(), others=[box((0.0, 0.4, 0.0))])
    assert turned.spread_rad == pytest.approx(0.4, abs=1e-6)


def test_turns_that_leave_the_shape_as_it_is_are_no_disagreement() -> None:
    first = can(STRAIGHT)
    symmetry = find_symmetry(first.mesh, first.caster)
    assert symmetry.is_continuous
    found = evidence(first, others=[can((0.0, 0.0, 1.1))], symmetry=symmetry)
    assert found.spread_rad < math.radians(3) and found.turns_freely == 1.0


def test_recognition_of_the_frame_is_known_of_completed_shapes_only() -> None:
    sample = evidence(box())
    assert sample.completed == 0.0 and math.isnan(sample.trust)
    completed = evidence(box(), recognition=Recognition(0.7, 0.02, 0.01))
    assert (completed.completed, completed.trust, completed.gap, completed.residual) == (1.0, 0.7, 0.02, 0.01)
