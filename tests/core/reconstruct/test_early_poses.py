"""Poses reported before there are meshes: near the final ones, in metres only where those are known."""

from typing import Any

import numpy as np
import pytest
import torch
from test_scene import Oracle, camera_of, depth_of, reconstruct, scene

from cupid_core.data.tabletop.scene import TabletopScene
from cupid_core.geometry.se3 import SE3
from cupid_core.reconstruct.progress import STAGES, ObjectPose, Progress
from cupid_core.reconstruct.results import SceneObject
from cupid_core.types import ScaleSource

__all__ = ["scene"]  # a fixture


def reported(
    scene: TabletopScene, **given: Any
) -> tuple[list[ObjectPose], list[Progress], tuple[SceneObject, ...]]:
    """Poses in the order in which they were reported, all reports, and the final objects."""
    reports: list[Progress] = []
    result = reconstruct(scene, on_progress=reports.append, early_poses=True, **given)
    return [pose for report in reports for pose in report.poses], reports, result.objects


def turned_rad(pose: ObjectPose, placed: SceneObject) -> float:
    T = SE3.from_quat_xyzw(torch.tensor(pose.quat_xyzw).double(), torch.tensor(pose.translation).double())
    turn = T.rotation().T @ placed.pose.rotation().double()
    return float(torch.arccos(((turn.trace() - 1) / 2).clamp(-1, 1)))


def test_metric_poses_come_before_the_meshes(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    poses, reports, objects = reported(scene, camera=camera_of(scene), depth=depth_of(scene))
    assert [pose.id for pose in poses] == [placed.id for placed in objects], "each object once"
    stages = [STAGES.index(report.stage) for report in reports if report.poses]
    assert {STAGES[stage] for stage in stages} == {"pose"}
    assert [report.stage for report in reports].index("appearance") > [bool(r.poses) for r in reports].index(True)
    for pose, placed in zip(poses, objects, strict=True):
        assert pose.scale_source is ScaleSource.SENSOR
        assert turned_rad(pose, placed) < 1e-6, "the same hypothesis"
        # The mesh of the oracle is made of the same voxels, only cleaned.
        assert pose.scale == pytest.approx(placed.model.scale, rel=0.03)
        assert pose.scale_std >= placed.model.scale_std, "an early pose is never surer than the result"
        covariance = np.array(pose.covariance).reshape(6, 6)
        assert np.linalg.eigvalsh(covariance).min() > -1e-12


def test_without_depth_poses_are_up_to_scale_and_say_so(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Oracle(scene).install(monkeypatch)
    sizes = {scene.objects[0].label: 0.96 * scene.objects[0].scale_m}
    (known, *others), _, _ = reported(scene, camera=camera_of(scene), sizes_m=sizes)
    assert known.scale_source is ScaleSource.KNOWN_SIZE and known.scale_std > 0
    assert known.scale == pytest.approx(scene.objects[0].scale_m, rel=0.1)
    for pose in others:
        assert (pose.scale_source, pose.scale) == (ScaleSource.UNKNOWN, 1.0) and np.isnan(pose.scale_std)


def test_depth_that_misses_an_object_gives_it_no_scale(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Oracle(scene).install(monkeypatch)
    depth = depth_of(scene)
    depth.depth_m[scene.labels == scene.objects[0].label] = torch.nan
    (first, *others), _, objects = reported(scene, camera=camera_of(scene), depth=depth)
    assert first.scale_source is objects[0].model.scale_source is ScaleSource.UNKNOWN and first.scale == 1.0
    assert {pose.scale_source for pose in others} == {ScaleSource.SENSOR}


def test_without_a_camera_poses_wait_until_all_agree_on_one(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Oracle(scene).install(monkeypatch)
    poses, _, objects = reported(scene)
    assert [pose.id for pose in poses] == [placed.id for placed in objects], "not also those of the first guess"
    for pose, placed in zip(poses, objects, strict=True):
        assert turned_rad(pose, placed) < 1e-6


def test_the_best_of_several_hypotheses_is_reported_and_failed_objects_are_not(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = scene.objects[1].label
    Oracle(scene, missing=[failing]).install(monkeypatch)
    poses, _, objects = reported(scene, camera=camera_of(scene), depth=depth_of(scene), samples=2)
    assert [pose.id for pose in poses] == [placed.id for placed in objects] and failing not in [
        p.id for p in poses
    ]


def test_results_do_not_depend_on_progress_reports(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    _, _, observed = reported(scene, camera=camera_of(scene), depth=depth_of(scene))
    for one, other in zip(
        observed, reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene)).objects, strict=True
    ):
        assert torch.equal(one.pose.matrix(), other.pose.matrix())
        assert (one.model.scale, one.model.scale_std) == (other.model.scale, other.model.scale_std)


def test_early_poses_are_not_made_unless_asked_for(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    reports: list[Progress] = []
    reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene), on_progress=reports.append)
    assert reports and not any(report.poses for report in reports)
