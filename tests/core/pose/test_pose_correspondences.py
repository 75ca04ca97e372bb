"""Preparation of pairs: samples, padding, borders, degeneracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cupid_core.config import PoseConfig
from cupid_core.pose.correspondences import degeneracy, observe, pad, spread_indices, spreads

CONFIG = PoseConfig(sample_points=64)


@given(count=st.integers(1, 300), extra=st.integers(0, 10_000))
def test_samples_take_one_index_of_every_stratum(count: int, extra: int) -> None:
    length = count + extra
    index = spread_indices(length, count)
    assert (np.diff(index) > 0).all() or count == 1
    edges = np.arange(count + 1) * length // count
    assert ((index >= edges[:-1]) & (index < edges[1:])).all()


def test_samples_do_not_fall_into_step_with_voxel_rows() -> None:
    """A 64-grid in order, thinned by its own row length, must keep its three dimensions."""
    axes = torch.meshgrid(*[torch.arange(64)] * 3, indexing="ij")
    points = torch.stack(axes, dim=-1).reshape(-1, 3).double()
    chosen = points[torch.from_numpy(spread_indices(len(points), 4096))]
    assert (chosen.std(dim=0) > 0.95 * points.std(dim=0)).all()


def test_observation_keeps_what_counts(problem) -> None:
    case = problem(0, count=200)
    weights = torch.ones(200).double()
    weights[:50] = 0.0
    item = observe(case.points, case.uv, weights, None, CONFIG)
    assert item.usable == 150
    assert item.sample.points.shape == (1, 4, 64)
    kept = {tuple(row) for row in item.sample.points[0, :3].T.tolist()}
    assert kept <= {tuple(row) for row in case.points[50:].tolist()}
    # Weights are relative: those that count average one, so residuals keep their unit.
    assert float(item.block.weights.sum()) == pytest.approx(150.0)


def test_border_pairs_wait_and_the_pose_calls_them_back(problem) -> None:
    case = problem(1, count=200)
    uv = case.uv.clone()
    uv[:30, 0] = 0.0
    item = observe(case.points, uv, None, case.camera, CONFIG)
    assert item.usable == 170
    assert item.border is not None
    assert bool(item.border[0, 0, :30].all())
    K = case.camera.K_normalized().numpy()
    matrix = K @ np.concatenate((case.rotation, case.translation[:, None]), axis=1)
    again = item.inside(matrix[None], CONFIG.border_margin, CONFIG.sample_points)
    assert again.usable == 200
    shifted = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    outside = int((case.uv[:, 0] - 0.5 < CONFIG.border_margin).sum())
    assert item.inside(shifted[None], CONFIG.border_margin, CONFIG.sample_points).usable == 200 - outside


def test_pads_weigh_nothing(problem) -> None:
    items = [
        observe(c.points, c.uv, None, None, CONFIG).sample for c in (problem(0, count=20), problem(1, count=50))
    ]
    together = pad(items)
    assert together.points.shape == (2, 4, 50)
    np.testing.assert_array_equal(together.counts(), [20.0, 50.0])
    assert bool(together.points.isfinite().all())
    assert pad(items[:1]) is items[0]


@pytest.mark.parametrize(
    ("scale", "count", "name"),
    [
        ((1.0, 1.0, 1.0), 100, "none"),
        ((1.0, 1.0, 0.05), 100, "none"),
        ((1.0, 1.0, 0.0), 100, "planar"),
        ((1.0, 0.0, 0.0), 100, "line"),
        ((0.0, 0.0, 0.0), 100, "line"),
        ((1.0, 1.0, 1.0), 8, "few_points"),
    ],
)
def test_degeneracy_is_named_in_any_orientation_and_place(scale, count, name) -> None:
    random = np.random.default_rng(0)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    points = random.uniform(-0.5, 0.5, (count, 3)) * np.array(scale) @ turn.T + 3.0
    homogeneous = np.concatenate((points, np.ones((count, 1))), axis=1)
    found = spreads((homogeneous.T @ homogeneous)[None])
    np.testing.assert_allclose(
        found[0], np.sort(np.linalg.svd(points - points.mean(0))[1]) / count**0.5, atol=1e-6
    )
    assert degeneracy(found[0], count) == name
